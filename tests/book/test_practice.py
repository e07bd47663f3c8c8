"""The page "Your own model in short": its code runs, its errors are raised, and its table holds."""

from __future__ import annotations

import re

import differences
import practice
import pytest
import source


@pytest.fixture(scope="module")
def page():
    return source.fill("practice", **practice.values())


def test_the_code_of_the_page_runs_from_top_to_bottom(page, capsys):
    own = page.split("## What the errors mean", maxsplit=1)[0]
    code = "\n".join(re.findall(r"```python\n(.*?)```", own, re.S))
    exec(code, {name: practice.space()[name] for name in ("model", "x", "y")})
    printed = capsys.readouterr().out
    assert printed.count(" % (") >= 3
    assert "zero gradients" in printed


def test_each_error_is_named_and_has_a_remedy(page):
    rows = [line for line in page.splitlines() if re.match(r"\| `.*(Type|Value)Error: ", line)]
    assert len(rows) == len(practice.SLIPS)


def test_what_no_longer_fails_is_noticed(monkeypatch):
    monkeypatch.setattr(practice, "SLIPS", ("fgsm(model, x, y, 0.1)",))
    with pytest.raises(AssertionError, match="no slip any more"):
        practice.errors()


def test_the_differences_are_complete_and_ours_are_true_today():
    found = differences.read()
    rows = {row["what"]: row["cells"] for row in found["differences"]}
    assert set(rows) == {what for what, _ in differences.ROWS.values()}
    assert all(set(cells) == set(differences.NAMES) for cells in rows.values())
    for what, probe in differences.ROWS.values():
        assert rows[what]["advlearn"] == probe("advlearn"), what
    calls = {(call["attack"], call["library"]): call for call in found["calls"]}
    assert len(calls) == len(differences.CALLS) * len(differences.NAMES)
    for (attack, library), call in calls.items():
        assert call["call"] == differences.CALLS[attack][library]


def test_a_library_that_fails_is_said_in_its_words():
    space = differences.make()
    assert differences.attempt("advlearn", "adv = 1 / 0", *space) == (
        None,
        "raises ZeroDivisionError: “division by zero”",
    )
    assert differences.attempt("advlearn", "assert False", *space)[1] == (
        "raises an empty AssertionError"
    )
