"""Slides, sheets and the board on the wall in a real browser: all fits, nothing is fetched."""

from __future__ import annotations

import nbformat
import pytest

from advlearn.arena.contest import Rules
from advlearn.arena.night import Line, Standings, as_page
from advlearn.classroom import concepts
from advlearn.metrics import Rate
from tests.browser.lab import OUT, ROOT, launch

FOLDER = ROOT / "classroom" / "slides"
DECKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
WALL = {"width": 1280, "height": 720}
# What sticks out of the slide that is shown, and what is too small to be read from the back.
MEASURE = """() => {
  const slide = document.querySelector(".slides section.present section.present")
    || document.querySelector(".slides section.present");
  const page = slide.getBoundingClientRect(), out = [], small = [];
  for (const part of slide.querySelectorAll("*")) {
    if (part.closest(".notes")) continue;
    const box = part.getBoundingClientRect();
    if (!box.width) continue;
    if (box.bottom > page.bottom + 1 || box.right > page.right + 1 || box.left < page.left - 1
        || part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).display == "block")
      out.push(part.tagName + " " + part.textContent.slice(0, 40));
    const size = parseFloat(getComputedStyle(part).fontSize);
    const written = part.childElementCount == 0 && part.textContent.trim();
    if (written && size < 20) small.push(part.tagName);
    if (part.tagName == "IMG") {
      if (!part.complete || !part.naturalWidth) out.push("IMG not loaded");
      if (box.height < 200) small.push("IMG " + box.height);
    }
  }
  return {out, small, top: page.top, width: page.width, height: page.height};
}"""


@pytest.fixture(scope="module")
def browser(playwright):
    started = launch(playwright)
    yield started
    started.close()


def opened(browser, text, folder, **options):
    """Open a page from the disk; every request that leaves it is a fault."""
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    page = browser.new_page(viewport=WALL, **options)
    foreign, errors = [], []
    page.on(
        "request",
        lambda r: foreign.append(r.url) if not r.url.startswith(("file:", "data:")) else 0,
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    return page, foreign, errors


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_every_slide_fits_on_the_wall(browser, slide_maker, path, tmp_path):
    deck = nbformat.read(path, as_version=4)
    page, foreign, errors = opened(browser, slide_maker.page(deck), tmp_path)
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    total = page.evaluate("Reveal.getTotalSlides()")
    wanted = sum(c.metadata.get("slideshow", {}).get("slide_type") == "slide" for c in deck.cells)
    assert total == wanted
    OUT.mkdir(parents=True, exist_ok=True)
    problems = []
    for number in range(total):
        page.evaluate(f"Reveal.slide({number})")
        page.wait_for_timeout(80)
        found = page.evaluate(MEASURE)
        assert (round(found["width"]), round(found["height"])) == (1280, 720)
        page.screenshot(path=str(OUT / f"slide-{path.stem}-{number + 1:02d}.png"))
        problems += [f"{number + 1}: {one}" for one in found["out"] + found["small"]]
        notes = page.evaluate("Reveal.getSlideNotes()")
        assert len(notes or "") > 40, f"slide {number + 1} has no words for the speaker"
    page.close()
    assert problems == []
    assert foreign == []
    assert errors == []


def test_the_measure_finds_what_sticks_out(browser, slide_maker, tmp_path):
    deck = nbformat.read(DECKS[0], as_version=4)
    long = "## Title\n\n" + "\n\n".join(["many words that go on and on"] * 20)
    deck.cells[0].source = long
    page, *_ = opened(browser, slide_maker.page(deck), tmp_path)
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    assert page.evaluate(MEASURE)["out"], "a slide with too much on it must be found"
    page.close()


NAME = "a name that is exactly forty letters lon"


@pytest.mark.parametrize(("models", "attacks"), [(30, 0), (30, 8), (3, 2), (45, 0), (0, 0)])
def test_the_board_fits_on_the_wall(browser, tmp_path, models, attacks):
    shown = Standings(
        2,
        Rules(),
        [
            Line(NAME if k % 7 == 0 else f"learner {k}", "scored", Rate(290 - 6 * k, 300),
                 Rate(290, 300), place=k + 1, moved=k % 5 - 2)
            for k in range(models)
        ] + [Line("late"), Line("bad", "refused", reason="a pickle")],
        [Line(f"attack {k}", "scored", Rate(90 - k, 100), place=k + 1) for k in range(attacks)],
    )  # fmt: skip
    page, foreign, errors = opened(browser, as_page(shown), tmp_path)
    found = page.evaluate("""() => ({
      over: document.documentElement.scrollHeight - innerHeight,
      wide: document.documentElement.scrollWidth - innerWidth,
      out: [...document.querySelectorAll("li, h2, footer")].filter((one) =>
        one.getBoundingClientRect().bottom > innerHeight + 1).length,
      sizes: [...document.querySelectorAll("li .name, li .score")].map((one) =>
        parseFloat(getComputedStyle(one).fontSize)),
      overlap: [...document.querySelectorAll("li")].some((one, k, all) => k &&
        one.getBoundingClientRect().left == all[k - 1].getBoundingClientRect().left &&
        one.getBoundingClientRect().top < all[k - 1].getBoundingClientRect().bottom - 1),
      footer: document.querySelector("footer").getBoundingClientRect().top,
      last: Math.max(0, ...[...document.querySelectorAll("li")].map((one) =>
        one.getBoundingClientRect().bottom)),
    })""")
    OUT.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(OUT / f"board-{models}-{attacks}.png"))
    page.close()
    assert found["over"] <= 0
    assert found["wide"] <= 0
    assert found["out"] == 0
    assert not found["overlap"]
    assert found["last"] <= found["footer"] + 1
    assert all(size >= 24 for size in found["sizes"]), "from the back row: a thirtieth of the wall"
    assert (foreign, errors) == ([], [])


@pytest.mark.parametrize("form", concepts.FORMS)
def test_a_sheet_prints_without_cutting_a_question(browser, tmp_path, form):
    page, foreign, errors = opened(browser, concepts.sheet(form), tmp_path)
    page.emulate_media(media="print")
    tallest = page.evaluate("""Math.max(...[...document.querySelectorAll("section")].map((one) =>
      one.getBoundingClientRect().height))""")
    OUT.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(OUT / f"sheet-{form}.png"), full_page=True)
    page.close()
    assert tallest < 900, "a question fits on a page, and is not parted"
    assert (foreign, errors) == ([], [])
