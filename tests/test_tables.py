"""The tables that lessons print."""

from __future__ import annotations

import pytest
import torch

from advlearn.course.tables import print_table
from advlearn.metrics import Rate


def printed(capsys, *arguments, **options):
    print_table(*arguments, **options)
    return capsys.readouterr().out.splitlines()


def test_numbers_stand_to_the_right_and_texts_to_the_left(capsys):
    lines = printed(capsys, {"net": ["a", "longer"], "n": [7, 1200]}, formats={"n": ","})
    assert lines == ["net         n", "------  -----", "a           7", "longer  1,200"]


def test_rows_give_the_same_table_as_columns(capsys):
    rows = [{"net": "a", "n": 7}, {"net": "longer", "n": 1200}]
    assert printed(capsys, rows) == printed(capsys, {"net": ["a", "longer"], "n": [7, 1200]})


def test_a_percentage_has_a_space_before_its_sign(capsys):
    assert printed(capsys, {"error": [0.5, 1.0]}, formats={"error": ".1%"})[2:] == [
        " 50.0 %",
        "100.0 %",
    ]


def test_a_unit_follows_its_number(capsys):
    lines = printed(capsys, {"error": [50.04], "time": [1.25]}, {"error": ".1f %", "time": ".1f s"})
    assert lines[2].split() == ["50.0", "%", "1.2", "s"]


def test_one_format_is_for_all_numbers_but_whole_ones(capsys):
    row = {"net": "a", "steps": 40, "clean": 0.015, "rate": Rate(1, 4), "none": None}
    assert printed(capsys, [row], ".1%")[2].split() == ["a", "40", "1.5", "%", "25.0", "%", "-"]


def test_a_tensor_and_a_rate_are_numbers(capsys):
    lines = printed(capsys, {"t": [torch.tensor(0.25)], "rate": [Rate(1, 4)], "int": [2**40]})
    assert lines[2].split(maxsplit=1)[0] == "0.25"
    assert str(Rate(1, 4)) in lines[2]
    assert lines[2].endswith("1.09951e+12")
    lines = printed(capsys, {"rate": [Rate(1, 4), Rate(4, 4)]}, formats={"rate": ".0%"})
    assert lines[2:] == [" 25 %", "100 %"]


@pytest.mark.filterwarnings("error")
def test_a_number_with_a_gradient_is_written_without_a_warning(capsys):
    lines = printed(capsys, {"loss": [torch.tensor(1.5, requires_grad=True)]})
    assert lines[2].strip() == "1.5"


def test_what_is_missing_is_a_dash_and_the_column_stays_one_of_numbers(capsys):
    assert printed(capsys, {"error": [None, 12]})[2:] == ["    -", "   12"]


def test_a_text_among_numbers_makes_a_column_of_texts(capsys):
    assert printed(capsys, {"eps": [1, "none", True]})[2:] == ["1", "none", "True"]


@pytest.mark.parametrize(
    ("content", "formats", "says"),
    [
        ({}, "", "at least one column"),
        ([], "", "at least one column"),
        ({"a": []}, {}, "at least one column and one row"),
        ({"a": [1, 2], "b": [1]}, "", "same number of values.*'b': 1"),
        ([{"a": 1}, {"b": 1}], "", "same headings.*'b'"),
        ({"a": [1]}, {"b": ".1%"}, "a heading in formats must be one of a, got 'b'"),
    ],
)
def test_what_is_no_table_is_refused(content, formats, says):
    with pytest.raises(ValueError, match=says):
        print_table(content, formats)
