"""The decks: each slide is one idea with words for the speaker, and its pictures have words."""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat
import pytest

from tests.lesson_rules import pictures_have_words

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "classroom" / "slides"
DECKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
REVEAL = FOLDER / "template" / "reveal"


@pytest.fixture(params=DECKS, ids=lambda path: path.stem)
def deck(request):
    return nbformat.read(request.param, as_version=4)


def kind(cell):
    return cell.metadata.get("slideshow", {}).get("slide_type", "")


def slides(deck):
    """Return the cells of each slide."""
    found = []
    for cell in deck.cells:
        if kind(cell) == "slide":
            found.append([])
        found[-1].append(cell)
    return found


def test_there_are_three_decks():
    assert [path.name[:2] for path in DECKS] == ["03", "06", "09"]


def test_each_slide_has_a_title_and_words_for_the_speaker(deck):
    for cells in slides(deck):
        assert re.match(r"##? \S", cells[0].source), cells[0].source
        assert kind(cells[-1]) == "notes"
        assert len(cells[-1].source) > 40
        assert sum(kind(cell) == "notes" for cell in cells) == 1


def test_a_slide_holds_one_thing(deck):
    """Few words, one picture at most, and never choices and their answer together."""
    for cells in slides(deck):
        shown = [cell for cell in cells if kind(cell) in {"slide", "-"}]
        text = " ".join(cell.source for cell in shown if cell.cell_type == "markdown")
        words = re.sub(r"<[^>]+>|[#*]", " ", text).split()
        assert len(words) <= 70, (len(words), cells[0].source)
        pictures = sum(
            "<img" in output.get("data", {}).get("text/html", "")
            for cell in shown if cell.cell_type == "code" for output in cell.outputs
        )  # fmt: skip
        assert pictures <= 1
        if "- **A**" in text:
            assert not pictures, "first the question, then the answer"
            assert "?**" in text or "?" in cells[0].source.splitlines()[0]


def test_questions_come_before_answers(deck):
    text = [
        " ".join(c.source for c in cells if kind(c) in {"slide", "-"}) for cells in slides(deck)
    ]
    asked = sum("?**" in one or "?" in one.splitlines()[0] for one in text)
    assert asked >= 5


def test_the_deck_was_executed_in_normal_form(deck, slide_maker):
    counts = [cell.execution_count for cell in deck.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    copy = nbformat.from_dict(deck)
    before = nbformat.writes(copy)
    slide_maker.normalise(copy)
    assert nbformat.writes(copy) == before, "run `make slides DRAW=1`"
    assert pictures_have_words(deck, "") == []


def test_the_page_is_one_file_that_asks_nobody(deck, slide_maker):
    page = slide_maker.page(deck)
    shown = re.sub(r"<script\b.*?</script>", "", page, flags=re.S)
    loaded = re.findall(r'(?:src|href)="([^"]*)"', shown)
    assert not re.search(r"<script[^>]*\bsrc=", page)
    assert all(address.startswith(("data:", "#")) for address in loaded), loaded
    assert "@import" not in shown
    assert not re.search(r"url\((?!['\"]?data:)", shown)
    assert "import json" not in page
    assert page.count('class="notes"') >= len(slides(deck))
    for cell in deck.cells:  # what is not to be shown is not shown
        if kind(cell) == "skip" and len(cell.source) > 60:
            assert html.escape(max(cell.source.splitlines(), key=len), quote=False) not in page


def test_reveal_comes_with_its_licence_and_its_origin():
    assert "MIT" in (REVEAL / "LICENSE").read_text(encoding="utf-8") or "Permission is hereby" in (
        REVEAL / "LICENSE"
    ).read_text(encoding="utf-8")
    origin = (REVEAL / "README.md").read_text(encoding="utf-8")
    import hashlib

    for path in sorted(REVEAL.iterdir()):
        if path.name != "README.md":
            assert hashlib.sha256(path.read_bytes()).hexdigest() in origin, path.name
