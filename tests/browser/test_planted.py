"""The checks can fail: notebooks with faults, and the problem that each must report."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.browser import checks, latency
from tests.browser.lab import NO_BROWSER, NoBrowserError, find_chromium
from tests.browser.widget import Widget

IMPORTS = """\
import torch
from advlearn.plotting import describe, digits
from advlearn.course.widgets import explore

def grey(k):
    return digits(torch.eye(4)[None, None] * k / 2)"""
GOOD = "explore(lambda k: describe(grey(k), f'Grey {k}.'), k=[0, 1, 2])"
STILL = "explore(lambda k: describe(grey(1), f'Grey {k}.'), k=[0, 1, 2])"
MUTE = "explore(lambda k: describe(grey(k), 'Grey.'), k=[0, 1, 2])"
FRAGILE = """\
def fragile(k, j):
    if (k, j) == (2, 0):
        raise RuntimeError('too far')
    return describe(grey(k + j / 2), f'Grey {k}, {j}.')

explore(fragile, k=[0, 1, 2], j=[0, 1])"""
AHEAD = "explore(lambda k, j: describe(grey(k + j / 2), f'{k}, {j}.'), k=[0, 1, 2], j=[0, 1])"
NAMES = """\
shades = {'black': 0, 'dark grey': 1, 'light grey': 2}
explore(lambda shade: describe(grey(shades[shade]), f'It is {shade}.'), shade=list(shades))"""
LONE = AHEAD.replace("'{k}", "'Lone {k}")
# A widget of other software, which says nothing to a screen reader.
BARE = """\
%%html
<div class="advlearn-explorer"><img alt="still" src="data:,"><input type="range" max="3">
<output aria-hidden="true"></output></div>"""


def script(text):
    return new_code_cell(f"%%html\n<script>{text}</script>")


@pytest.fixture(scope="module")
def plant(lab):
    """Return a function that opens and runs a notebook of these cells."""

    def open_and_run(name, *cells):
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = new_notebook(cells=list(cells), metadata={"kernelspec": kernel})
        nbformat.write(notebook, lab.server.folder / name)
        lesson = lab.open(name)
        return lesson, lesson.run_all()

    yield open_and_run
    lab.tidy()


@pytest.fixture(scope="module")
def widgets(plant):
    """One notebook with a good widget and several bad ones."""
    sources = (IMPORTS, GOOD, STILL, MUTE, FRAGILE, AHEAD, NAMES, LONE, BARE)
    lesson, cells = plant("widgets.ipynb", *(new_code_cell(source) for source in sources))
    assert checks.ran(cells) == []
    places = dict(zip(sources[1:], range(1, len(sources)), strict=True))

    def find(source):
        root = lesson.scroll_to(places[source]).locator(".advlearn-explorer")
        root.wait_for()
        return Widget(root)

    return lesson, find


@pytest.fixture(scope="module")
def unquiet(plant):
    """One notebook of everything that a page must not do."""
    return plant(
        "unquiet.ipynb",
        new_code_cell("import warnings\nwarnings.warn('take care')"),
        script("console.error('planted')"),
        script("setTimeout(() => { throw Error('boom') })"),
        new_markdown_cell("![far](https://example.org/far.png)"),
        new_code_cell("%%html\n<p class='pale' style='color: #bbb; background: #fff'>hardly</p>"),
    )


def test_a_good_widget_passes(widgets):
    """Otherwise the failures below would prove nothing."""
    lesson, find = widgets
    widget = find(GOOD)
    assert checks.spoken(widget, checks.control_names(GOOD)) == []
    assert checks.keyboard(lesson, widget) == []
    assert checks.mouse(widget) == []
    assert checks.quiet(lesson.watch) == []


def test_names_are_chosen_from_a_list(widgets):
    lesson, find = widgets
    widget = find(NAMES)
    (control,) = widget.controls()
    assert (control.kind, control.spoken) == ("list", "black")
    assert checks.spoken(widget, ["shade"]) == []
    assert checks.keyboard(lesson, widget) == []
    assert checks.mouse(widget) == []
    control.handle.press("l")  # a letter goes to the list, and not to JupyterLab
    assert control.spoken == "light grey"
    widget.rest()


def test_a_picture_that_does_not_change_is_seen(widgets):
    """Its file has another address each time, and is the same file."""
    lesson, find = widgets
    problems = checks.keyboard(lesson, find(STILL), patience=1)
    problems += checks.mouse(find(STILL), patience=1)
    ways = ("ArrowRight and ArrowLeft", "ArrowUp and ArrowDown", "End and Home", "click", "drag")
    for way in ways:
        assert f"'k' by {way}: the picture did not change" in problems


def test_words_that_do_not_change_are_seen(widgets):
    lesson, find = widgets
    problems = checks.keyboard(lesson, find(MUTE))
    assert "'k' by End and Home: the alt text did not change" in problems


def test_a_picture_that_cannot_be_drawn_says_so(widgets):
    """Off the first walk a picture is drawn by a callback, whose traceback nobody reads."""
    _, find = widgets
    widget = find(FRAGILE)
    k, j = widget.controls()
    k.go(2)
    j.go(0)
    status = widget.root.get_by_role("status").filter(has_text="cannot be drawn")
    assert "RuntimeError: too far" in status.inner_text(timeout=10_000)
    widget.rest()
    assert widget.seen().alt == "Grey 1, 1."


def test_a_slider_without_a_name_or_a_value_is_seen(widgets):
    _, find = widgets
    problems = checks.spoken(find(BARE), ["k"])
    assert "the controls are called [''], not ['k']" in problems
    assert any("the controls say ['']" in problem for problem in problems)
    assert "no status tells a screen reader of the change" in problems


def test_an_invisible_focus_is_seen(widgets):
    lesson, find = widgets
    rule = ".advlearn-explorer input {outline: none !important}"
    style = lesson.page.add_style_tag(content=rule)
    assert "the focus on 'k' is not visible" in checks.keyboard(lesson, find(GOOD))
    style.evaluate("(style) => style.remove()")
    assert checks.keyboard(lesson, find(GOOD)) == []


def test_the_delay_of_a_slow_picture_is_measured(widgets):
    """A page that holds each key back by 150 ms: the median must say so."""
    _, find = widgets
    widget = find(GOOD)
    (slider,) = widget.controls()
    quick = latency.walk(widget, "00", slider)
    slider.handle.evaluate(
        """(slider) => slider.addEventListener("keydown", () => {
          const end = performance.now() + 150;
          while (performance.now() < end);
        })"""
    )
    slow = latency.walk(widget, "00", slider)
    assert quick.median + 100 < slow.median
    assert slow.median > latency.LIMIT
    assert f"| 00 | k | drawn | {latency.PRESSES} |" in latency.markdown([slow])


def test_the_next_pictures_are_drawn_while_the_learner_looks(widgets):
    """Four places are drawn at the start; after one move and a rest, all six are here."""
    _, find = widgets
    widget = find(AHEAD)
    assert widget.root.get_attribute("data-pictures") == "4"
    list(widget.controls())[1].handle.press("Home")
    widget.root.page.locator(".advlearn-explorer[data-pictures='6']").wait_for(timeout=20_000)


def test_what_was_drawn_needs_no_kernel(widgets, lab):
    """The page keeps the pictures: they move after the kernel is gone. The last of its notebook."""
    lesson, find = widgets
    widget = find(LONE)
    for kernel in lab.server.ask("kernels"):
        lab.stop(f"kernels/{kernel['id']}")
    assert checks.keyboard(lesson, widget) == []
    k, j = widget.controls()
    k.handle.press("ArrowRight")
    j.handle.press("Home")
    status = widget.root.get_by_role("status")
    status.filter(has_text="running kernel").wait_for(timeout=10_000)
    j.handle.press("End")
    status.filter(has_text="Lone 2, 1.").wait_for(timeout=10_000)


def test_a_cell_that_raises_is_seen(plant):
    sources = ("x = 1", "1 / 0", "x")
    _, cells = plant("raises.ipynb", *(new_code_cell(source) for source in sources))
    assert checks.ran(cells) == [
        "cell 1 raised ZeroDivisionError: division by zero",
        "cell 2 was not run",
    ]


def test_a_warning_is_seen(unquiet):
    (problem,) = checks.ran(unquiet[1])
    assert problem.startswith("cell 0 complained")
    assert "take care" in problem


@pytest.mark.parametrize("message", ["planted", "boom"])
def test_an_error_in_the_console_is_seen(unquiet, message):
    assert any(message in problem for problem in checks.quiet(unquiet[0].watch))


def test_a_picture_from_another_host_is_seen_and_blocked(unquiet):
    problems = checks.quiet(unquiet[0].watch)
    assert "request to another host: https://example.org/far.png" in problems
    assert any("ERR_NAME_NOT_RESOLVED" in problem for problem in problems), "it got through"


def test_pale_text_is_seen(unquiet):
    (problem,) = checks.readable(unquiet[0], [".pale"])
    assert problem.startswith(".pale has a contrast of 1.9")
    assert checks.readable(unquiet[0], [".none"]) == ["there is no .none"]


def test_a_missing_browser_is_told_with_its_remedy(monkeypatch):
    class Playwright:
        class chromium:
            executable_path = "/nowhere/chrome"

    monkeypatch.delenv("ADVLEARN_CHROMIUM", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NoBrowserError, match="apt-get install chromium"):
        find_chromium(Playwright())
    monkeypatch.setenv("ADVLEARN_CHROMIUM", "/no/such/thing")
    with pytest.raises(NoBrowserError, match="ADVLEARN_CHROMIUM='/no/such/thing' is not a program"):
        find_chromium(Playwright())
    assert "playwright install" in NO_BROWSER
