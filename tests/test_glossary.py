from __future__ import annotations

import re

import pytest

from advlearn.course.glossary import TERMS, table

HANGUL = re.compile("[\uac00-\ud7a3]")


@pytest.mark.parametrize("name", TERMS)
def test_each_term_has_a_korean_name_and_a_definition(name):
    term = TERMS[name]
    assert HANGUL.search(term.korean)
    assert term.definition.endswith(".")
    assert len(term.definition) > 20
    assert not HANGUL.search(name + term.definition)
    assert name == name.strip()


@pytest.mark.parametrize("name", TERMS)
def test_each_term_fits_into_a_table_row(name):
    assert not any(mark in name + "".join(TERMS[name]) for mark in "|\n")


def test_no_two_terms_share_a_korean_name():
    assert len({term.korean for term in TERMS.values()}) == len(TERMS)


def test_a_table_lists_the_terms_in_the_order_asked_for():
    lines = table("score", "eps").splitlines()
    assert len(lines) == 4
    assert lines[2] == f"| score | {TERMS['score'].korean} | {TERMS['score'].definition} |"
    assert lines[3].startswith("| eps | ")
    assert {line.count("|") for line in lines} == {4}


def test_an_unknown_term_is_named():
    with pytest.raises(ValueError, match=r"term must be one of adversarial example.*got 'epsilon'"):
        table("eps", "epsilon")
