from __future__ import annotations

import json

import pytest

from advlearn.data import folders
from advlearn.metrics import Rate
from advlearn.reproduce import paper


def test_every_row_is_complete_and_reachable_by_its_id():
    assert paper.ROWS
    for id, row in paper.ROWS.items():
        assert paper.row(id) is row
        assert row.id == id
        assert row.experiment
        assert row.section
        assert all(0 <= value <= 1 for value in row.reported.values()), "rates are fractions"


def test_the_papers_own_numbers():
    """Section 4 gives 99.9 % and 79.3 %, section 5 gives 1.6 % and 99 %."""
    assert paper.row("softmax").reported == {"FGSM error": 0.999, "confidence on mistakes": 0.793}
    assert paper.row("logistic-3v7").reported == {"clean error": 0.016, "FGSM error": 0.99}
    assert "1412.6572" in paper.CITATION


def test_an_unknown_row_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"id must be one of .*logistic-3v7.*softmax.*, got 'cnn'"):
        paper.row("cnn")


def test_a_comparison_has_a_cell_for_each_column():
    table = paper.comparison(
        "logistic-3v7",
        {"clean error": ["2.0 %", 3], "FGSM error": ["99 %", 98.5]},
        ["ours, unclipped", "ours, clipped"],
    )
    assert table.splitlines() == [
        "| logistic-3v7 | paper | ours, unclipped | ours, clipped |",
        "|---|---|---|---|",
        "| clean error | 1.6 % | 2.0 % | 3 |",
        "| FGSM error | 99 % | 99 % | 98.5 |",
    ]
    assert {line.count("|") for line in table.splitlines()} == {5}


def test_a_comparison_says_what_its_intervals_are():
    table = paper.comparison("logistic-3v7", {"clean error": [Rate(16, 1000)]}, ["ours"])
    assert "| 1.6 % (1.0-2.6) |" in table
    assert table.endswith(
        "\n\n*In brackets:* Wilson's 95 % interval over the images, of one network."
    )
    assert "In brackets" not in paper.comparison("softmax", {"FGSM error": ["9 %"]}, ["ours"])


def test_a_bad_comparison_is_named():
    with pytest.raises(ValueError, match="clean error has 1 cells for 2 columns"):
        paper.comparison("logistic-3v7", {"clean error": ["2 %"]}, ["a", "b"])
    with pytest.raises(ValueError, match="clean error has 3 cells for 2 columns"):
        paper.comparison("logistic-3v7", {"clean error": ["2 %"] * 3}, ["a", "b"])
    with pytest.raises(ValueError, match="quantity must be one of clean error, FGSM error"):
        paper.comparison("logistic-3v7", {"PGD error": ["2 %"]}, ["a"])
    with pytest.raises(ValueError, match="id must be one of"):
        paper.comparison("mlp", {}, ["a"])


# --- Our results ----------------------------------------------------------------------------------


def test_the_headline_numbers_of_the_paper():
    assert paper.row("maxout").reported["FGSM error"] == 0.894
    assert paper.row("adv-fgsm").reported == {
        "FGSM error without": 0.894,
        "FGSM error with": 0.179,
    }
    assert paper.row("adv-wide").reported["clean error with"] == 0.00782
    assert paper.row("rubbish").reported["RBF"] == 0.0
    without = {id for id, row in paper.ROWS.items() if not row.reported}
    assert without == {"l1-linear", "filters", "rotation", "logits-eps"}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """One published result."""
    monkeypatch.setattr(paper, "published", lambda kind: tmp_path / kind)
    (tmp_path / "results").mkdir()
    written = {
        "id": "softmax",
        "paper": {"FGSM error": 0.999, "confidence on mistakes": 0.793},
        "ours": {"FGSM error": 0.9996, "confidence on mistakes": 0.837, "clean error": 0.0148},
        "interval": {
            "FGSM error": [0.999, 0.9999],
            "confidence on mistakes": [0.837, 0.837],
            "clean error": [0.0126, 0.0173],
        },
        "images": {"FGSM error": 10_000},
        "values": {
            "FGSM error": [0.9996],
            "confidence on mistakes": [0.837],
            "clean error": [0.014, 0.015, 0.0154],
        },
        "numbers": [],
        "verdict": "reproduced",
    }
    (tmp_path / "results" / "softmax.json").write_text(json.dumps(written))
    return written


def test_a_result_is_read_as_it_was_written(published):
    assert paper.result("softmax") == published


def test_a_table_puts_the_paper_beside_ours(published):
    assert paper.table("softmax").splitlines() == [
        "| row | quantity | paper | ours | 95 % interval | over | verdict |",
        "|---|---|---|---|---|---|---|",
        "| softmax | FGSM error | 99.9 % | 100.0 % | 99.9-100.0 % | 10,000 images | reproduced |",
        "|  | confidence on mistakes | 79.3 % | 83.7 % |  |  |  |",
        "|  | clean error |  | 1.48 % | 1.26-1.73 % | 3 seeds |  |",
        "",
        "*The 95 % interval.*",
        *(line for kind in paper.KINDS_OF_INTERVAL.values() for line in kind.splitlines()),
    ]


def test_under_a_table_stand_the_kinds_of_interval_that_it_has(published, tmp_path):
    published["values"]["clean error"] = [0.0148]
    published["interval"]["clean error"] = [0.0148, 0.0148]
    (tmp_path / "results" / "softmax.json").write_text(json.dumps(published))
    below = paper.table("softmax").partition("\n\n")[2]
    assert below == f"*The 95 % interval.*\n{paper.KINDS_OF_INTERVAL['images']}"
    published["interval"]["FGSM error"] = [0.9996, 0.9996]
    (tmp_path / "results" / "softmax.json").write_text(json.dumps(published))
    assert "interval.*" not in paper.table("softmax")


def test_a_row_without_a_result_says_how_to_make_one(published):
    with pytest.raises(FileNotFoundError, match=r"no published result for 'rbf'.*--rows rbf"):
        paper.result("rbf")
    with pytest.raises(FileNotFoundError, match="no published result for 'panda'"):
        paper.table()
    with pytest.raises(ValueError, match="id must be one of"):
        paper.result("../softmax")


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.0, "0.00 %"),
        (0.00782, "0.78 %"),
        (0.01999, "2.00 %"),
        (0.02, "2.0 %"),
        (0.8715, "87.2 %"),
        (1.0, "100.0 %"),
        (-0.001, "-0.10 %"),
    ],
)
def test_small_rates_have_two_digits(rate, words):
    assert paper.percent(rate) == words
    assert paper.percent(rate, unit="") == words.removesuffix(" %")


# --- Results that are damaged, or were changed by hand --------------------------------------------


def changed(**parts):
    return json.dumps(
        json.loads((folders.published("results") / "softmax.json").read_text()) | parts
    )


DAMAGED = {
    "cut": lambda: changed()[:500],
    "empty": lambda: "",
    "a list": lambda: "[]",
    "a number": lambda: "3",
    "deep": lambda: "[" * 200_000,
    "too large": lambda: changed(remark="x" * 1_000_000),
    "no verdict": lambda: changed(verdict=None),
    "a quantity that is a text": lambda: changed(ours={"FGSM error": "0.99"}),
    "a quantity without an interval": lambda: changed(ours={"other": 0.5}),
    "three ends": lambda: changed(ours={"e": 1.0}, interval={"e": [0, 1, 2]}),
    "a quantity without values": lambda: changed(ours={"e": 1.0}, interval={"e": [0, 1]}),
    "images that are a text": lambda: changed(
        ours={"e": 1.0}, interval={"e": [0, 1]}, values={"e": [1]}, images={"e": "|"}
    ),
    "markup": lambda: changed(verdict="<b>reproduced</b>"),
    "a cell of a table": lambda: changed(
        ours={"a|b": 0.5}, interval={"a|b": [0, 1]}, values={"a|b": [1]}
    ),
    "a formula": lambda: changed(ours={"$a$": 0.5}, interval={"$a$": [0, 1]}, values={"$a$": [1]}),
    "a line of its own": lambda: changed(id="softmax\nmaxout 0.0 %"),
    "a terminal's escape": lambda: changed(verdict="\x1b[2J"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_result_is_refused_in_words(tmp_path, monkeypatch, kind):
    (tmp_path / "softmax.json").write_text(DAMAGED[kind](), encoding="utf-8")
    monkeypatch.setattr(paper, "published", lambda _: tmp_path)
    for show in (paper.result, paper.table):
        with pytest.raises(ValueError, match=r"softmax\.json' is damaged, or is no result") as told:
            show("softmax")
        assert str(told.value).isprintable()
        assert len(str(told.value)) < 700
