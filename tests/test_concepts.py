"""Entrance and exit test: right keys, parallel items, and no answer in what learners get."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import re
from collections import Counter

import pytest
from typer.testing import CliRunner

from advlearn.classroom import concepts
from advlearn.classroom.concepts import CONCEPTS, FORMS, LETTERS, shows_belief
from advlearn.cli import app as cli
from advlearn.course.lessons import LESSONS


def items():
    return [(one.name, form, one.item(form)) for one in CONCEPTS for form in FORMS]


def right_text(name, form):
    concept = next(one for one in CONCEPTS if one.name == name)
    return next(choice.text for choice in concept.item(form).choices if choice.right)


def test_twelve_misconceptions_each_asked_for_twice():
    assert len(CONCEPTS) == 12
    assert len({one.name for one in CONCEPTS}) == len({one.belief for one in CONCEPTS}) == 12
    numbers = {lesson.number for lesson in LESSONS}
    assert all(set(one.lessons) <= numbers and one.lessons for one in CONCEPTS)


@pytest.mark.parametrize("form", FORMS)
def test_each_letter_is_right_three_times(form):
    assert Counter(concepts.right(form)) == dict.fromkeys(LETTERS, 3)


def test_no_key_of_one_test_is_that_of_the_other():
    pairs = zip(concepts.right("entrance"), concepts.right("exit"), strict=True)
    assert sum(a == b for a, b in pairs) <= 4, "chance alone gives three"


def test_choices_do_not_betray_the_right_one():
    longest = shortest = 0
    for _, _, item in items():
        lengths = [len(choice.text) for choice in item.choices]
        right = next(len(choice.text) for choice in item.choices if choice.right)
        longest += right == max(lengths) and lengths.count(right) == 1
        shortest += right == min(lengths) and lengths.count(right) == 1
    # Of 24 items a quarter would be 6.
    assert longest <= 10, longest
    assert shortest <= 10, shortest


def test_items_are_new():
    """No item is one of the quizzes, which learners have seen, nor its twin word by word."""
    asked = set()
    for lesson in LESSONS:
        bank = importlib.import_module(f"advlearn.course.banks.lesson{lesson.number:02d}")
        asked |= {question.text for question in bank.quiz.questions}
    for one in CONCEPTS:
        before, after = (set(re.findall(r"\w+", one.item(form).text.lower())) for form in FORMS)
        assert len(before & after) / len(before | after) < 0.75, one.name
        assert one.entrance.text not in asked
        assert one.exit.text not in asked
        assert one.entrance.text != one.exit.text


def test_each_wrong_answer_says_why_it_is_wrong():
    for name, form, item in items():
        assert any(map(shows_belief, item.choices)), (name, form)
        for choice in item.choices:
            assert not (choice.right and shows_belief(choice)), (name, form)
            assert len(choice.feedback) > 15, (name, form, choice.text)
        assert len({choice.text for choice in item.choices}) == 4


# What can be computed is computed here, from the numbers in the text.
def numbers_of(name, form):
    concept = next(one for one in CONCEPTS if one.name == name)
    found = re.findall(r"(?<![\w.])[-+]?\d[\d,]*\.?\d*", concept.item(form).text)
    return [float(number.replace(",", "")) for number in found]


def first_number(text):
    return float(re.search(r"[-+]?[\d.]*\d", text)[0])


@pytest.mark.parametrize("form", FORMS)
def test_key_each_change_counts_alone(form):
    count, weight, _, limit = numbers_of("each change counts alone", form)
    assert first_number(right_text("each change counts alone", form)) == pytest.approx(
        count * weight * limit
    )
    texts = [c.text for c in CONCEPTS[0].item(form).choices]
    others = {limit, weight * limit, math.sqrt(count) * weight * limit, count * weight * limit}
    assert sorted(map(first_number, texts)) == pytest.approx(sorted(others))


@pytest.mark.parametrize("form", FORMS)
def test_key_steps_in_proportion(form):
    first, second, limit = numbers_of("steps in proportion", form)
    wanted = []
    for choice in CONCEPTS[2].item(form).choices:
        steps = [float(n) for n in re.findall(r"by ([-+][\d.]+\d)", choice.text)]
        steps += [0.0] * (2 - len(steps))
        legal = max(map(abs, steps)) <= limit
        wanted.append((first * steps[0] + second * steps[1] if legal else -1, choice.right))
    assert max(wanted)[1], wanted
    assert sum(score == max(wanted)[0] for score, _ in wanted) == 1
    shared = next(
        [float(n) for n in re.findall(r"by ([-+][\d.]+\d)", c.text)]
        for c in CONCEPTS[2].item(form).choices
        if "together" in c.feedback
    )
    assert sum(map(abs, shared)) == pytest.approx(2 * limit), "the budget of both, shared"


@pytest.mark.parametrize(
    ("form", "changes", "limit"),
    [
        ("entrance", {"P": [0.1] * 100, "Q": [-0.3] + [0.0] * 99}, 0.2),
        ("exit", {"P": [0.04] * 3 + [-0.06] + [0.0] * 996, "Q": [0.05, -0.05] * 500}, 0.05),
    ],
)
def test_key_the_max_norm_as_a_total(form, changes, limit):
    allowed = [name for name, change in changes.items() if max(map(abs, change)) <= limit]
    assert right_text("the max norm as a total", form) == f"Only {allowed[0]}"
    assert len(allowed) == 1
    assert limit in numbers_of("the max norm as a total", form)
    for change in changes.values():  # what the two beliefs would say
        assert abs(sum(change)) / len(change) <= limit
        assert sum(map(abs, change)) > limit


@pytest.mark.parametrize("form", FORMS)
def test_key_units_left_out(form):
    *_, centre, width, change = numbers_of("units left out", form)
    assert first_number(right_text("units left out", form)) == pytest.approx(change * width)
    texts = [first_number(c.text) for c in CONCEPTS[5].item(form).choices]
    others = [change, change / width, change * width, change * width + centre]
    assert sorted(texts) == pytest.approx(sorted(others), rel=0.01)


@pytest.mark.parametrize("form", FORMS)
def test_key_the_strongest_attack_is_the_worst_case(form):
    name = "the strongest attack is the worst case"
    first, total, second, _ = numbers_of(name, form)
    if form == "entrance":  # fooled
        low, high = max(first, second), min(total, first + second)
        independent = total - (total - first) * (total - second) / total
    else:  # still right
        low, high = max(0, first + second - total), min(first, second)
        independent = first * second / total
    assert right_text(name, form) == f"On {low:.0f} to {high:.0f}"
    said = " ".join(c.text for c in CONCEPTS[9].item(form).choices)
    assert f"exactly {independent:.0f}" in said
    assert f"On {(first + second) / 2:.0f}" in said


@pytest.mark.parametrize("form", FORMS)
def test_what_learners_get_holds_no_answer(form):
    made = concepts.files()
    for name in (f"{form}.html", f"{form}.ipynb"):
        text = made[name]
        for one in CONCEPTS:
            item = one.item(form)
            assert one.belief not in text
            assert one.name not in text.lower() or one.name in item.text.lower()
            for choice in item.choices:
                assert choice.feedback not in text
        assert concepts.right(form) not in text
        assert ",".join(concepts.right(form)) not in text
        assert "✓" not in text
        assert "<script" not in text
        assert "http" not in text
    notebook = json.loads(made[f"{form}.ipynb"])
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    source = "".join("".join(cell["source"]) for cell in notebook["cells"])
    assert "import" not in source, "it needs no package"


def run(notebook, code, answers):
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    text = cells[0].replace('code = ""', f"code = {code!r}")
    for number, letter in enumerate(answers, 1):
        text = text.replace(f'    {number}: ""', f"    {number}: {letter!r}")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(text + "\n" + cells[1], {})
    return said.getvalue().strip()


def test_the_notebook_gives_a_line_for_the_table():
    notebook = concepts.notebook("entrance")
    assert run(notebook, "ab12", "ABCDEabcdeAB") == "ab12,A,B,C,D,E,A,B,C,D,E,A,B"
    assert run(notebook, "", "ABCDEabcdeAB") == "Your code is missing."
    assert run(notebook, "ab12", "ABCDXabcdeA").endswith("5, 12")
    assert concepts.header() == "code," + ",".join(map(str, range(1, 13))) + "\n"


def test_the_key_holds_all():
    text = concepts.key()
    assert text.count("✓") == 24
    assert text.count("<section>") == 24


def test_a_test_is_short():
    assert 10 <= concepts.minutes() <= 20


def test_the_command_writes_the_sheets_and_overwrites_nothing_of_yours(tmp_path):
    out = tmp_path / "sheets"
    done = CliRunner().invoke(cli.app, ["class", "tests", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == set(concepts.files())
    assert CliRunner().invoke(cli.app, ["class", "tests", "--out", str(out)]).exit_code == 0
    (out / "entrance-answers.csv").write_text("code,1\nkim,A\n")
    done = CliRunner().invoke(cli.app, ["class", "tests", "--out", str(out)])
    assert done.exit_code == 1
    assert "is there already" in done.output
    assert (out / "entrance-answers.csv").read_text() == "code,1\nkim,A\n"
