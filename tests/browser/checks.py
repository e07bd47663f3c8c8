"""What must hold of a lesson in the browser. A check returns what is wrong, in words.

The tests of the lessons ask that nothing is; those of the planted notebooks, that something is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from tests.browser.lab import Cell, Lesson, Watch
from tests.browser.widget import Seen, Slider, Widget

# Text on the ground behind it, after the formula of WCAG 2; 4.5 is what it asks of normal text.
CONTRAST = 4.5
BUTTONS = 12  # at most this many presses of Tab from a cell to its first slider
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


def moves(widget: Widget, slider: Slider, by: str, forth, back, patience: float = 10) -> list[str]:  # type: ignore[no-untyped-def]
    """`forth` changes the picture and its alt text, and `back` brings the same ones again."""
    before, spoken, what = widget.seen(), slider.spoken, f"{slider.name!r} by {by}"
    forth()
    if not widget.change_from(before.content, patience):
        return [f"{what}: the picture did not change"]
    after = widget.seen()
    problems = _alt_problems(what, before, after)
    if slider.spoken in ("", spoken):
        problems.append(f"{what}: the spoken value stayed {spoken!r}")
    back()
    if not widget.change_to(before.content, patience):
        return [*problems, f"{what}: the first picture did not come back"]
    if widget.seen() != before or slider.spoken != spoken:
        problems.append(f"{what}: the alt text did not come back")
    return problems


def keyboard(lesson: Lesson, widget: Widget, patience: float = 10) -> list[str]:
    """Each slider is reached by Tab, shows its focus, and moves by every key that sliders know."""
    problems = []
    page, sliders = lesson.page, list(widget.sliders())
    sliders[0].handle.focus()
    chosen = _chosen(lesson)
    page.keyboard.press("Shift+Tab")
    if widget.holds_focus():
        problems.append("Shift+Tab does not leave the widget")
    for slider in sliders:
        # The buttons of the cell come before its first slider, and nothing between two sliders.
        for _ in range(BUTTONS if slider is sliders[0] else 1):
            page.keyboard.press("Tab")
            if slider.focused:
                break
        else:
            problems.append(f"Tab does not reach {slider.name!r}")
            slider.handle.focus()
        if slider.outline < 2:
            problems.append(f"the focus on {slider.name!r} is not visible")
        for forth, back in (
            ("ArrowRight", "ArrowLeft"), ("ArrowUp", "ArrowDown"), ("End", "Home"),
        ):  # fmt: skip
            problems += moves(
                widget,
                slider,
                f"{forth} and {back}",
                lambda key=forth: page.keyboard.press(key),
                lambda key=back: page.keyboard.press(key),
                patience,
            )
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
    """Each slider follows a click on its track and a drag of its handle."""
    problems = []
    for slider in widget.sliders():
        for by, forth, back in (
            ("click", lambda s=slider: s.click_at(1), lambda s=slider: s.click_at(0)),
            ("drag", lambda s=slider: s.drag(0, 1), lambda s=slider: s.drag(1, 0)),
        ):
            problems += moves(widget, slider, by, forth, back, patience)
    return problems


def spoken(widget: Widget, names: list[str]) -> list[str]:
    """Each slider has its control's name, and says its value as the page shows it."""
    problems = []
    sliders = list(widget.sliders())
    if [slider.name for slider in sliders] != names:
        problems.append(f"the sliders are called {[s.name for s in sliders]}, not {names}")
    shown = [text.strip() for text in widget.root.locator("output").all_inner_texts()]
    if [slider.spoken for slider in sliders] != shown or not all(shown):
        problems.append(f"the sliders say {[s.spoken for s in sliders]}, the page shows {shown}")
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
