"""Every lesson in JupyterLab: run, moved by keyboard and mouse, answered, photographed."""

from __future__ import annotations

import nbformat
import pytest

from tests.browser import checks, latency
from tests.browser.lab import EXECUTED, WINDOW
from tests.browser.slips import SLIPS, bank
from tests.browser.widget import Widget
from tests.lesson_rules import BESIDE, LESSONS

TALLEST = 8000  # pixels of one picture of a lesson
# Where the last cell ends. JupyterLab leaves half a window of nothing below it.
END = """(outer) => {
  const last = [...outer.querySelectorAll(".jp-Cell")].at(-1);
  const top = outer.getBoundingClientRect().top;
  return last.getBoundingClientRect().bottom - top + outer.scrollTop;
}"""
GO = """async (outer, top) => {
  outer.scrollTop = top;
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
}"""


class Open:
    """A lesson that was opened and run, with what the tests ask of it again and again."""

    def __init__(self, lesson, path):
        self.lesson, self.page, self.path = lesson, lesson.page, path
        self.number = path.name[:2]
        self.bank = bank(self.number)
        self.cells = lesson.run_all()

    def cell_with(self, text):
        return next(c.index for c in self.cells if c.type == "code" and text in c.source)

    def widgets(self):
        """Yield each interactive picture and the source of its cell."""
        for cell in self.cells:
            if "widget" in cell.tags:
                shown = self.lesson.scroll_to(cell.index).locator(".advlearn-explorer")
                shown.wait_for()
                yield Widget(shown), cell.source


def keep(cells, path):
    """Write the lesson as JupyterLab has executed it: nbval compares it, see `tests.executed`."""
    notebook = nbformat.read(path, as_version=4)
    for cell, seen in zip(notebook.cells, cells, strict=True):
        cell.source = seen.source
        if cell.cell_type == "code":
            cell.execution_count = seen.count
            cell.outputs = [nbformat.from_dict(output) for output in seen.outputs]
    EXECUTED.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, EXECUTED / path.name)


@pytest.fixture(scope="module", params=LESSONS, ids=lambda path: path.stem)
def opened(request, lab):
    lesson = Open(lab.open(request.param.name), request.param)
    keep(lesson.cells, lesson.path)
    yield lesson
    lab.tidy()


def test_every_cell_runs_and_none_complains(opened):
    assert checks.ran(opened.cells) == []


def test_untouched_exercises_are_not_attempted(opened):
    for exercise in opened.bank.EXERCISES:
        cell = opened.cells[opened.cell_with(f"ex.{exercise.name}.check(")]
        assert cell.stream("stdout").startswith(f"○ Not attempted yet: {exercise.name}")


def test_the_sliders_have_names_and_say_their_values(opened):
    seen = 0
    for widget, source in opened.widgets():
        assert checks.spoken(widget, checks.control_names(source)) == []
        seen += 1
    assert seen, "there is no interactive picture"


def test_the_picture_follows_the_keyboard(opened, pictures):
    for number, (widget, _) in enumerate(opened.widgets(), start=1):
        name = f"{opened.path.stem}-widget{number}"
        widget.root.screenshot(path=pictures / f"{name}-before.png")
        assert checks.keyboard(opened.lesson, widget) == []
        for control in widget.controls():
            control.handle.press("End")
        widget.root.locator("[data-waiting]").wait_for(state="detached")
        widget.root.screenshot(path=pictures / f"{name}-after.png")
        widget.rest()


def test_the_picture_follows_the_mouse(opened):
    for widget, _ in opened.widgets():
        assert checks.mouse(widget) == []


def test_the_picture_follows_at_once(opened, delays):
    """The median over many presses, picture decoded and painted; what was drawn at rest."""
    slow = []
    for widget, _ in opened.widgets():
        controls = list(widget.controls())
        for control in controls:
            row = latency.walk(widget, opened.number, control)
            if row.median > latency.LIMIT:  # another process had the cores: once more
                row = latency.walk(widget, opened.number, control)
            delays.append(row)
            slow += [row] if row.median > latency.LIMIT else []
        if len(controls) > 1 and (row := latency.first_visit(widget, opened.number, *controls[:2])):
            delays.append(row)  # the kernel's drawing is timed too, for the record
        widget.rest()
    assert slow == []


def test_the_quiz_is_answered_by_keyboard(opened):
    page, quiz = opened.page, opened.bank.quiz
    cell = opened.lesson.scroll_to(opened.cell_with("ex.quiz"))
    for number, question in enumerate(quiz.questions, start=1):
        section = cell.locator(f'section[aria-label="Question {number}"]')
        summaries = section.locator("summary")
        for place, choice in enumerate(question.choices):
            if place == 0 and number == 1:
                summaries.first.focus()
            else:
                page.keyboard.press("Tab")
            answer = section.locator("details").nth(place)
            key = "Enter" if place % 2 == 0 else "Space"
            page.keyboard.press(key)
            shown = answer.locator("p").inner_text(timeout=5000).replace("\xa0", " ")
            assert shown.startswith("✔ Right." if choice.right else "✘ No.")
            assert " ".join(choice.feedback.replace("`", "").split()) in " ".join(shown.split())
            if number > 1:  # the first question stays open, for the picture
                page.keyboard.press(key)
                assert not answer.evaluate("(details) => details.open")


def test_a_check_tells_what_is_wrong_and_what_is_right(opened, pictures):
    slip = next(slip for slip in SLIPS if slip.lesson == opened.number)
    place = opened.cell_with(f"ex.{slip.name}.check(")
    printed = opened.lesson.rewrite(place, slip.cell(right=False)).stream("stdout")
    assert printed.startswith(f"✗ Wrong: {slip.name} (")
    assert " ".join(slip.feedback.split()) in " ".join(printed.split())
    cell = opened.lesson.scroll_to(place)
    cell.screenshot(path=pictures / f"{opened.path.stem}-wrong.png")
    printed = opened.lesson.rewrite(place, slip.cell(right=True)).stream("stdout")
    assert printed.startswith(f"✓ Right: {slip.name}")


def photograph(lesson, path, pictures):
    """The notebook's length is the window's, so that all of it is on the page at once."""
    page = lesson.page
    lesson.scroll_to(0)
    page.set_viewport_size({"width": WINDOW["width"], "height": TALLEST})
    outer = page.locator(".jp-WindowedPanel-outer").first
    length, seen, part = 1, 0, 0
    while seen < length and part < 9:
        outer.evaluate(GO, seen)
        part += 1
        page.screenshot(path=pictures / f"{path.stem}-{part}.jpeg", type="jpeg", quality=70)
        # Lengths are estimates until a part has been on the page.
        length = outer.evaluate(END)
        seen += outer.evaluate("(outer) => outer.clientHeight")
    page.set_viewport_size(WINDOW)
    assert seen >= length


def test_the_whole_lesson_is_photographed(opened, pictures):
    photograph(opened.lesson, opened.path, pictures)


def test_the_page_was_quiet_all_along(opened):
    """After everything above: no console error, and no request to another host."""
    assert checks.quiet(opened.lesson.watch) == []


@pytest.mark.parametrize("path", BESIDE, ids=lambda path: path.stem)
def test_a_notebook_beside_the_lessons_runs(path, lab, pictures):
    lesson = lab.open(path.name)
    cells = lesson.run_all()
    keep(cells, path)
    photograph(lesson, path, pictures)
    lab.tidy()
    assert checks.ran(cells) == []
    assert checks.quiet(lesson.watch) == []
