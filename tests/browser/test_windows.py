"""A lesson in small, in the ways that learners have it: dark, narrow, twice, and in parts."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.browser import checks, small
from tests.browser.lab import WINDOW
from tests.browser.small import TABLE
from tests.browser.widget import Widget

SHORT = "small.ipynb"
# Where a lesson shows text: the picture, its controls, the quiz, captions, results, tables.
TEXTS = (
    ".advlearn-words", ".advlearn-control label", ".advlearn-control output", "figcaption",
    "section[aria-label='Question 1'] summary", "section[aria-label='Question 1'] p",
    ".jp-OutputArea-output pre", ".jp-RenderedMarkdown p", ".jp-RenderedMarkdown th",
)  # fmt: skip
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


def explorer(lesson):
    place = next(cell.index for cell in lesson.cells() if "widget" in cell.tags)
    root = lesson.scroll_to(place).locator(".advlearn-explorer")
    root.wait_for()
    return Widget(root)


def wear(lesson, theme):
    """Change the theme and wait until the page has it."""
    change = "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
    lesson.page.evaluate(change, theme)
    lesson.page.locator(f"body[data-jp-theme-name='{theme}']").wait_for(state="attached")


@pytest.fixture(scope="module")
def first(lab):
    small.write(lab.server.folder / SHORT)
    lesson = lab.open(SHORT)
    assert checks.ran(lesson.run_all()) == []
    yield lesson
    lab.tidy()


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_lesson_is_readable_by_day_and_in_the_dark(first, theme, pictures):
    wear(first, theme)
    name = theme.split()[1].lower()
    explorer(first)
    first.page.screenshot(path=pictures / f"{name}-widget.png")
    quiz = next(cell.index for cell in first.cells() if cell.source.strip() == "ex.quiz")
    for answer in first.scroll_to(quiz).locator("summary").all()[:3]:
        answer.evaluate("(summary) => { summary.parentElement.open = true; }")
    first.page.screenshot(path=pictures / f"{name}-quiz.png")
    try:
        assert checks.readable(first, TEXTS) == []
    finally:
        wear(first, LIGHT)


def test_a_lesson_fits_a_narrow_window(first, pictures):
    first.page.locator(".jp-SideBar [data-id='filebrowser']").click()  # closes the list of files
    first.page.set_viewport_size({"width": 390, "height": 844})  # a phone
    widget = explorer(first)
    first.page.screenshot(path=pictures / "narrow-widget.png")
    inside = widget.root.evaluate("(root) => root.scrollWidth <= root.clientWidth + 1")
    assert inside, "the picture or its sliders stick out"
    assert checks.mouse(widget) == []


def test_on_a_phone_a_tap_shows_a_picture_in_its_own_size(first, pictures):
    first.page.set_viewport_size({"width": 390, "height": 844})
    place = next(
        c.index for c in first.cells() if "<figure" in str(c.outputs) and "widget" not in c.tags
    )
    cell = first.scroll_to(place)
    for image in (cell.locator("figure > img").first, explorer(first).root.locator("img")):
        width = "(image) => [image.clientWidth, image.naturalWidth]"
        before, own = image.evaluate(width)
        assert before < own, "it is made to fit"
        image.click()
        assert image.evaluate(width) == [own, own]
        box = image.locator("..")
        assert box.evaluate("(box) => box.scrollWidth > box.clientWidth"), "moved sideways"
        first.page.screenshot(path=pictures / "phone-grown.png")
        image.click()
        assert image.evaluate(width) == [before, own]


def test_on_a_phone_a_table_is_scrolled_and_not_broken(first, pictures):
    first.page.set_viewport_size({"width": 390, "height": 844})
    printed = first.scroll_to(TABLE).locator(".jp-OutputArea-output pre.advlearn-table").first
    printed.wait_for()
    first.page.screenshot(path=pictures / "phone-table.png")
    lines = "(text) => text.clientHeight / parseFloat(getComputedStyle(text).lineHeight)"
    assert round(printed.evaluate(lines)) <= 6, "five lines, and a bar to scroll"
    assert printed.evaluate("(text) => text.scrollWidth > text.clientWidth")
    assert first.page.evaluate("() => document.body.scrollWidth <= innerWidth")


def test_on_a_phone_printed_lines_break_between_words(first, pictures):
    first.page.set_viewport_size({"width": 390, "height": 844})
    others = [cell for cell in first.cells() if cell.index != TABLE]
    longest = max(others, key=lambda c: max(map(len, c.stream("stdout").split("\n"))))
    printed = first.scroll_to(longest.index).locator(".jp-OutputArea-output pre").first
    first.page.screenshot(path=pictures / "phone-lines.png")
    assert printed.evaluate("(text) => text.scrollWidth <= text.clientWidth + 1")
    style = "(text) => [getComputedStyle(text).whiteSpace, getComputedStyle(text).wordBreak]"
    assert printed.evaluate(style) == ["pre-wrap", "normal"]
    first.page.set_viewport_size(WINDOW)


def test_a_lesson_works_when_it_is_opened_twice(first, lab):
    """Two windows share one kernel: the second one runs the lesson again, both have pictures."""
    second = lab.open(SHORT)
    assert len(lab.server.ask("kernels")) == 1
    assert checks.ran(second.run_all()) == []
    for lesson in (second, first):
        lesson.page.bring_to_front()
        assert checks.mouse(explorer(lesson)) == []
    assert checks.quiet(second.watch) == []
    assert checks.quiet(first.watch) == []


@pytest.fixture
def only_the_visible(lab):
    """Choose the setting "full" of JupyterLab's windowing, as its settings page does."""

    def choose(value):
        request = urllib.request.Request(
            f"{lab.server.url}/lab/api/settings/@jupyterlab/notebook-extension:tracker",
            data=json.dumps({"raw": json.dumps(value)}).encode(),
            headers={
                "Authorization": f"token {lab.server.token}",
                "Content-Type": "application/json",
            },
            method="PUT",
        )
        urllib.request.urlopen(request, timeout=30).close()

    lab.tidy()
    choose({"windowingMode": "full"})
    yield
    lab.tidy()
    choose({})


def test_a_lesson_works_where_only_visible_cells_are_on_the_page(only_the_visible, lab):
    """By default JupyterLab has all cells on the page, and the other tests meet it so."""
    lesson = lab.open(SHORT)
    cells = lesson.run_all()
    assert checks.ran(cells) == []
    shown = lesson.page.locator(".jp-Notebook .jp-Cell").count()
    assert shown < len(cells), "all cells are on the page: the setting did nothing"
    assert checks.keyboard(lesson, explorer(lesson)) == []
    lesson.scroll_to(len(cells) - 1)  # away, and back
    assert checks.mouse(explorer(lesson)) == []
    assert checks.quiet(lesson.watch) == []
