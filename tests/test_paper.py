from __future__ import annotations

import pytest

from advlearn import paper


def test_every_row_is_complete_and_reachable_by_its_id():
    assert paper.ROWS
    for id, row in paper.ROWS.items():
        assert paper.row(id) is row
        assert row.id == id
        assert row.experiment
        assert row.section
        assert all(0 <= figure <= 1 for figure in row.figures.values()), "rates are fractions"


def test_the_papers_own_figures():
    """Section 4 gives 99.9 % and 79.3 %, section 5 gives 1.6 % and 99 %."""
    assert paper.row("softmax").figures == {"FGSM error": 0.999, "confidence on mistakes": 0.793}
    assert paper.row("logistic-3v7").figures == {"clean error": 0.016, "FGSM error": 0.99}
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


def test_a_bad_comparison_is_named():
    with pytest.raises(ValueError, match="clean error has 1 cells for 2 columns"):
        paper.comparison("logistic-3v7", {"clean error": ["2 %"]}, ["a", "b"])
    with pytest.raises(ValueError, match="clean error has 3 cells for 2 columns"):
        paper.comparison("logistic-3v7", {"clean error": ["2 %"] * 3}, ["a", "b"])
    with pytest.raises(ValueError, match="quantity must be one of clean error, FGSM error"):
        paper.comparison("logistic-3v7", {"PGD error": ["2 %"]}, ["a"])
    with pytest.raises(ValueError, match="id must be one of"):
        paper.comparison("mlp", {}, ["a"])
