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
    slider, image = box.locator("input[type=range]").first, box.locator("img")
    slider.focus()
    before = (image.get_attribute("alt"), image.get_attribute("style"), box.screenshot())
    page.keyboard.press("ArrowRight")
    after = (image.get_attribute("alt"), image.get_attribute("style"), box.screenshot())
    caption = box.locator(".said").inner_text()
    page.close()
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert caption == after[0]


@pytest.fixture
def phone(browser, site):
    """A lesson on a phone, with a picture that has a list of names."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{site}/notebooks/{LESSONS[9].stem}.html")
    yield page
    page.close()


def test_on_a_phone_a_tap_shows_a_picture_in_its_own_size(phone):
    figure, width = phone.locator(".cell_output figure").first, "(e) => e.clientWidth"
    image = figure.locator("img")
    image.scroll_into_view_if_needed()  # it is loaded late
    phone.wait_for_function("(e) => e.complete && e.naturalWidth", arg=image.element_handle())
    before, own = image.evaluate(width), image.evaluate("(e) => e.naturalWidth")
    assert before < own
    image.click()
    assert image.evaluate(width) == own
    assert figure.evaluate("(e) => e.scrollWidth > e.clientWidth"), "moved sideways"
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), "not the page"
    image.click()
    assert image.evaluate(width) == before


def test_on_a_phone_printed_lines_are_broken(phone):
    printed = phone.locator(".cell_output pre")
    assert printed.count() > 3
    wide = "(all) => all.filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    assert printed.evaluate_all(wide) == 0


def test_a_name_is_chosen_from_a_list(browser, site):
    recorded = [
        name
        for name in frames.index()
        if name not in frames.missing() and "<select>" in frames.slider(name, 1)
    ]
    assert recorded, "no recorded picture has names"
    page = browser.new_page()
    page.goto(f"{site}/notebooks/{recorded[-1]}.html")
    box = page.locator(".frames")
    box.scroll_into_view_if_needed()
    image, chosen = box.locator("img"), box.locator("select").first
    before = image.get_attribute("alt"), image.get_attribute("style")
    chosen.select_option(index=chosen.locator("option").count() - 1)
    after = image.get_attribute("alt"), image.get_attribute("style")
    said, words = box.locator(".said").inner_text(), box.locator(".words").inner_text()
    page.close()
    assert before != after
    assert said == after[0]
    assert words


def test_the_costs_of_every_lesson_are_measured():
    missing = [path.stem for path in LESSONS if path.stem not in costs.read()["lessons"]]
    assert not missing, f"run `make record`: not measured yet: {', '.join(missing)}"


def test_the_moving_picture_of_every_lesson_is_recorded():
    assert not frames.missing(), f"run `make record`: {frames.missing()}"


def test_the_front_page_opens_with_a_small_playground(browser, site):
    """It comes after everything else, fits its frame, and nothing below it jumps."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{site}/index.html", wait_until="load")
    frame = page.frame_locator(".live iframe")
    frame.locator(".verdict .title").filter(has_text="Fooled").wait_for()
    frame.locator("input[value=robust]").check()
    frame.locator(".verdict .title").filter(has_text="Not fooled").wait_for()
    root = page.locator(".live iframe").element_handle().content_frame()
    page.wait_for_function(
        "() => { const frame = document.querySelector('.live iframe');"
        "return frame.contentDocument.documentElement.scrollHeight <= frame.clientHeight + 1; }"
    )
    assert root.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()


def test_the_small_playground_does_not_delay_the_page(browser, site):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{site}/index.html", wait_until="load")
    page.locator(".live iframe").wait_for()
    # The browser writes either time down after the fact: the paint when a frame has been
    # drawn, the request when its answer is complete.
    times = page.wait_for_function(
        """() => {
          const painted = performance.getEntriesByName("first-contentful-paint")[0];
          const loaded = performance.getEntriesByType("navigation")[0].loadEventStart;
          const asked = performance.getEntriesByType("resource")
            .find(({ name }) => name.includes("playground/"));
          return painted && loaded && asked && [painted.startTime, loaded, asked.startTime];
        }"""
    )
    painted, loaded, asked = times.json_value()
    assert painted < asked
    assert loaded < asked
    page.close()


def test_a_lesson_leads_to_the_playground_in_the_state_that_it_speaks_of(browser, site):
    page = browser.new_page()
    page.goto(f"{site}/notebooks/09_honest_evaluation.html")
    page.locator(".try-live a").first.click()
    page.locator(".verdict .title").filter(has_text="reads").or_(
        page.locator(".verdict .title").filter(has_text="fooled")
    ).first.wait_for()
    chosen = "(root) => [...root.querySelectorAll('input:checked')].map(({ value }) => value)"
    values = page.locator(".advlearn-playground").evaluate(chosen)
    assert {"maxout-adversarial", "fgsm"} <= set(values)
    assert page.locator("input[type=range]").first.input_value() == "0.25"
    page.close()
