"""The book as a reader uses it: search, formulas, moving pictures; and that nothing is missing."""

from __future__ import annotations

import importlib
import re

import api
import costs
import frames
import pytest

from tests.book.conftest import HTML, PAGES
from tests.lesson_rules import LESSONS

pytestmark = pytest.mark.book


@pytest.mark.parametrize("word", ["softplus", "부호"])
def test_search_needs_no_server(browser, word):
    page = browser.new_page()
    page.goto(f"file://{HTML}/search.html?q={word}")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    results = page.locator("#search-results li a").all_inner_texts()
    page.close()
    assert any(results)


def test_every_lesson_is_a_page():
    assert {f"notebooks/{path.stem}.html" for path in LESSONS} <= set(PAGES)


def test_every_public_name_is_in_the_reference():
    from sphinx.util.inventory import InventoryFile

    with (HTML / "objects.inv").open("rb") as stream:
        known = InventoryFile.load(stream, "", lambda base, path: path)
    names = {name for kind, objects in known.items() if kind.startswith("py:") for name in objects}
    for entry in api.entries():
        if entry.name == api.COMMAND_LINE:  # its commands have a page of their own
            continue
        module = importlib.import_module(f"advlearn.{entry.name}")
        for name in api.public_names(module):
            where = f"{module.__name__}.{name}"
            assert where in names, f"{where} is not in the reference"


def test_formulas_are_drawn_with_the_books_own_font(browser, site):
    page = browser.new_page()
    page.goto(f"{site}/notebooks/{LESSONS[3].stem}.html")
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px Book Math'))")
    fonts = page.evaluate("[...document.fonts].map(font => [font.family, font.status])")
    assert ["Book Math", "loaded"] in [[family.strip('"'), status] for family, status in fonts]
    assert page.locator("math").count() > 20
    page.close()
    for path in LESSONS:
        text = (HTML / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert "<merror" not in text
        shown = re.sub(r'alttext="[^"]*"|<(script|pre)\b.*?</\1>', "", text, flags=re.S)
        assert not re.search(r"\\(?:frac|epsilon|operatorname|sum)\b", shown)


def test_a_recorded_picture_moves_by_keyboard(browser, site):
    recorded = [name for name in frames.index() if name not in frames.missing()]
    if not recorded:
        pytest.skip("no lesson has recorded frames")
    page = browser.new_page()
    page.goto(f"{site}/notebooks/{recorded[-1]}.html")
    box = page.locator(".frames")
    box.scroll_into_view_if_needed()
    slider, image = box.locator("input").first, box.locator("img")
    slider.focus()
    before = (image.get_attribute("alt"), image.get_attribute("style"), box.screenshot())
    page.keyboard.press("ArrowRight")
    after = (image.get_attribute("alt"), image.get_attribute("style"), box.screenshot())
    caption = box.locator(".said").inner_text()
    page.close()
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert caption == after[0]


def test_the_costs_of_every_lesson_are_measured():
    missing = [path.stem for path in LESSONS if path.stem not in costs.read()["lessons"]]
    assert not missing, f"run `make record`: not measured yet: {', '.join(missing)}"


def test_the_moving_picture_of_every_lesson_is_recorded():
    assert not frames.missing(), f"run `make record`: {frames.missing()}"
