"""What must hold of a lesson in the browser. A check returns what is wrong, in words.

The tests of the lessons ask that nothing is; those of the planted notebooks, that something is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from tests.browser.lab import Cell, Lesson, Watch
from tests.browser.widget import Control, Seen, Widget

# Text on the ground behind it, after the formula of WCAG 2; 4.5 is what it asks of normal text.
CONTRAST = 4.5
BUTTONS = 12  # at most this many presses of Tab from a cell to its first control
# Keys that go on from the first stop, and those that come back.
KEYS = {
    "slider": (("ArrowRight", "ArrowLeft"), ("ArrowUp", "ArrowDown"), ("End", "Home")),
    "list": (("ArrowRight", "ArrowLeft"), ("ArrowDown", "ArrowUp"), ("End", "Home")),
}
_CONTRAST = """(element) => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => {
      const s = v / 255;
      return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ink = parse(getComputedStyle(element).color);
  let ground = [255, 255, 255];
  for (let up = element; up; up = up.parentElement) {
    const colour = parse(getComputedStyle(up).backgroundColor);
    if (colour.length === 3 || colour[3] > 0.5) { ground = colour; break; }
  }
  const [a, b] = [light(ink), light(ground)].sort((p, q) => q - p);
  return (a + 0.05) / (b + 0.05);
}"""


def ran(cells: Iterable[Cell]) -> list[str]:
    """Every code cell was run, none raised, and none complained."""
    problems = []
    for cell in cells:
        if cell.type != "code" or not cell.source.strip():
            continue
        if cell.error:
            problems.append(f"cell {cell.index} raised {cell.error}")
        elif cell.count is None:
            problems.append(f"cell {cell.index} was not run")
        if warning := cell.stream("stderr").strip():
            problems.append(f"cell {cell.index} complained: {warning[-300:]}")
    return problems


def quiet(watch: Watch) -> list[str]:
    """No error in the console, no uncaught exception, no request to another host."""
    return [
        *(f"console: {error}" for error in watch.errors),
        *(f"request to another host: {url}" for url in watch.foreign),
    ]


def control_names(source: str) -> list[str]:
    """Return the names of the controls in a cell that calls `explore`, as a reader hears them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "explore":
            return [(keyword.arg or "").replace("_", " ") for keyword in node.keywords]
    return []


def _alt_problems(what: str, before: Seen, after: Seen) -> list[str]:
    problems = []
    if before.alt == after.alt:
        problems.append(f"{what}: the alt text did not change")
    for seen in (before, after):
        if " ".join(seen.alt.split()) != " ".join(seen.status.split()):
            problems.append(f"{what}: the status says {seen.status!r}, the picture {seen.alt!r}")
    return problems


def moves(
    widget: Widget, control: Control, by: str, forth, back, patience: float = 10
) -> list[str]:  # type: ignore[no-untyped-def]
    """`forth` changes the picture and its alt text, and `back` brings the same ones again."""
    before, spoken, what = widget.seen(), control.spoken, f"{control.name!r} by {by}"
    forth()
    if not widget.change_from(before.content, patience):
        return [f"{what}: the picture did not change"]
    after = widget.seen()
    problems = _alt_problems(what, before, after)
    if control.spoken in ("", spoken):
        problems.append(f"{what}: the spoken value stayed {spoken!r}")
    back()
    if not widget.change_to(before.content, patience):
        return [*problems, f"{what}: the first picture did not come back"]
    if widget.seen() != before or control.spoken != spoken:
        problems.append(f"{what}: the alt text did not come back")
    return problems


def keyboard(lesson: Lesson, widget: Widget, patience: float = 10) -> list[str]:
    """Each control is reached by Tab, shows its focus, and moves by every key that it knows."""
    problems = []
    page, controls = lesson.page, list(widget.controls())
    controls[0].handle.focus()
    chosen = _chosen(lesson)
    page.keyboard.press("Shift+Tab")
    if widget.holds_focus():
        problems.append("Shift+Tab does not leave the widget")
    for control in controls:
        # The buttons of the cell come before its first control, and nothing between two of them.
        for _ in range(BUTTONS if control is controls[0] else 1):
            page.keyboard.press("Tab")
            if control.focused:
                break
        else:
            problems.append(f"Tab does not reach {control.name!r}")
            control.handle.focus()
        if control.outline < 2:
            problems.append(f"the focus on {control.name!r} is not visible")
        control.go(0)
        for forth, back in KEYS[control.kind]:
            problems += moves(
                widget,
                control,
                f"{forth} and {back}",
                lambda key=forth: page.keyboard.press(key),
                lambda key=back: page.keyboard.press(key),
                patience,
            )
        control.go(control.start)
    if _chosen(lesson) != chosen:
        problems.append("the keys moved the notebook's selection as well")
    page.keyboard.press("Tab")
    if widget.holds_focus():
        problems.append("Tab does not leave the widget")
    return problems


def _chosen(lesson: Lesson) -> int:
    return int(
        lesson.page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex")
    )


def mouse(widget: Widget, patience: float = 10) -> list[str]:
    """A slider follows a click on its track and a drag of its handle, a list a choice."""
    problems = []
    for control in widget.controls():
        ways = [
            ("click", lambda s=control: s.click_at(1), lambda s=control: s.click_at(0)),
            ("drag", lambda s=control: s.drag(0, 1), lambda s=control: s.drag(1, 0)),
        ]
        if control.kind == "list":  # what it unfolds belongs to the system, out of a test's reach
            last = control.stops - 1
            ways = [
                ("choice", lambda s=control, k=last: s.choose(k), lambda s=control: s.choose(0))
            ]
        control.go(0)
        for by, forth, back in ways:
            problems += moves(widget, control, by, forth, back, patience)
        control.go(control.start)
    return problems


def spoken(widget: Widget, names: list[str]) -> list[str]:
    """Each control has its name, and says its value as the page shows it."""
    problems = []
    controls = list(widget.controls())
    if [control.name for control in controls] != names:
        problems.append(f"the controls are called {[c.name for c in controls]}, not {names}")
    said, shown = [c.spoken for c in controls], [c.shown for c in controls]
    if said != shown or not all(shown):
        problems.append(f"the controls say {said}, the page shows {shown}")
    if widget.root.get_by_role("status").count() != 1:
        problems.append("no status tells a screen reader of the change")
    return problems


def readable(lesson: Lesson, selectors: Iterable[str]) -> list[str]:
    """Text has enough contrast with its ground."""
    problems = []
    for selector in selectors:
        elements = lesson.page.locator(selector)
        if not elements.count():
            problems.append(f"there is no {selector}")
        for element in elements.all()[:5]:
            ratio = float(element.evaluate(_CONTRAST))
            if ratio < CONTRAST:
                problems.append(f"{selector} has a contrast of {ratio:.1f}")
    return problems
