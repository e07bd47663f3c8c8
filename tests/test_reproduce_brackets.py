"""Both ends of the published models' errors: what is committed is what the numbers give."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from advlearn.data import reference
from advlearn.reproduce.report import brackets
from advlearn.reproduce.report.brackets import BEGIN, END, SIZES, measure, page, table

ROOT = Path(__file__).resolve().parent.parent
AGAIN = "run python -m advlearn.reproduce.report.brackets"


@pytest.fixture(scope="module")
def measured():
    path = ROOT / "data" / "brackets" / "brackets.json"
    if not path.is_file():
        pytest.skip("without a checkout")
    return brackets.parse_json(path.read_bytes())


def problems(measured) -> list[str]:
    """Say what cannot be true of the numbers of published models."""
    wrong, index = [], reference.index()
    if tuple(measured["models"]) != brackets.measured_models():
        wrong.append(f"not the published models: {AGAIN}")
    for name, one in measured["models"].items():
        if one["sha256"] != index[name]["sha256"]:
            wrong.append(f"{name} is another model now: {AGAIN}")
        before = 0
        for eps, ends in one["ends"].items():
            high = ends["total"] if ends["uncertified"] is None else ends["uncertified"]
            if not ends["clean"] <= ends["attacked"] <= high <= ends["total"]:
                wrong.append(f"{name}, eps {eps}: the ends are in no order")
            if ends["attacked"] != ends["clean"] + sum(ends["by"].values()):
                wrong.append(f"{name}, eps {eps}: the attacks do not add up")
            if ends["attacked"] < before:
                wrong.append(f"{name}: fewer fall at eps {eps} than at a smaller one")
            before = ends["attacked"]
    return wrong


def test_the_numbers_are_those_of_the_published_models(measured) -> None:
    assert problems(measured) == []
    disordered = {"clean": 9, "attacked": 8, "uncertified": 7, "total": 10, "by": {}}
    for name, change in (
        ("maxout", {"sha256": "0" * 64}),
        ("softmax", {"ends": {"0.1": disordered}}),
    ):
        planted = copy.deepcopy(measured)
        planted["models"][name] |= change
        assert any(name in line for line in problems(planted))


def test_the_pages_are_what_the_numbers_give(measured) -> None:
    for path, text in brackets.pages(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: {AGAIN} --pages"
    assert (ROOT / "data" / "brackets" / "brackets.png").read_bytes()[:4] == b"\x89PNG"
    for name, one in measured["models"].items():
        for eps, ends in one["ends"].items():
            assert f"| `{name}` | " in page(measured, "")
            assert f"| {eps} | " in page(measured, "")
            low = 100 * ends["attacked"] / ends["total"]
            assert f"{low:.1f} to " in table(measured)


def test_a_linear_model_is_measured_as_it_was_published(measured) -> None:
    again = measure(["logistic-3v7"], SIZES)["models"]["logistic-3v7"]
    for eps, ends in again["ends"].items():
        told = measured["models"]["logistic-3v7"]["ends"][eps]
        for key in ("clean", "attacked", "uncertified", "total"):
            assert ends[key] == told[key]
        assert ends["attacked"] == ends["uncertified"]  # FGSM is exact for two linear classes


def test_a_readme_without_the_marks_is_refused(measured) -> None:
    made = brackets.with_brackets(f"a\n{BEGIN}\nold\n{END}\nb", measured)
    assert made.startswith("a\n")
    assert made.endswith("\nb")
    assert "old" not in made
    for name in measured["models"]:
        assert f"| `{name}` |" in made
    assert brackets.with_brackets(made, measured) == made
    with pytest.raises(ValueError, match="lacks the lines"):
        brackets.with_brackets("no marks", measured)
