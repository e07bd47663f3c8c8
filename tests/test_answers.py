"""Answers in the styles of learners: loops, NumPy, in place, `backward()`, functions of PyTorch.

They were written from the lessons' texts alone, by several people. `answers/*.txt` holds them.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from advlearn.exercises import Outcome, all_exercises

EXERCISES = {f"{exercise.lesson}.{exercise.name}": exercise for exercise in all_exercises()}
FILES = sorted((Path(__file__).parent / "answers").glob("*.txt"))
SAMPLE = "\n".join(file.read_text(encoding="utf-8") for file in FILES)
ALWAYS_ASKED = ("changes an input", "changes the model itself")
LEAST_TOLD = 0.95  # share of the wrong answers that must be told more than that they are wrong


def answers():
    for section in re.split(r"^#@ ", SAMPLE, flags=re.MULTILINE)[1:]:
        name, _, code = section.partition("\n")
        scope = {"torch": torch, "np": np, "math": math, "F": functional}
        scope |= {"cross_entropy": functional.cross_entropy, "softplus": functional.softplus}
        exec(compile(code, f"<answers to {name}>", "exec"), scope)
        yield from ((name, key, f) for key, f in scope.items() if re.match("[RTW]_", key))


ANSWERS = list(answers())


def of_kind(letter):
    chosen = [(name, answer) for name, key, answer in ANSWERS if key.startswith(letter)]
    ids = [f"{name}-{key[2:]}" for name, key, _ in ANSWERS if key.startswith(letter)]
    return pytest.mark.parametrize(("name", "answer"), chosen, ids=ids)


def test_the_sample_is_large():
    assert {name for name, _, _ in ANSWERS} == set(EXERCISES)
    for name in {name for name, _, _ in ANSWERS}:
        keys = [key for other, key, _ in ANSWERS if other == name]
        assert sum(key.startswith("R") for key in keys) >= 2, name
        assert sum(key[0] in "WT" for key in keys) >= 4, name


@of_kind("R")
def test_a_right_answer_is_accepted(name, answer):
    grade = EXERCISES[name].grade(answer)
    assert grade.outcome is Outcome.RIGHT, grade.feedback


@of_kind("T")
def test_a_right_answer_that_needs_tidying_is_never_wrong(name, answer):
    grade = EXERCISES[name].grade(answer)
    assert grade.outcome is Outcome.TIDY, grade.feedback
    assert grade.feedback.startswith("The result is right on every input")


def test_the_textbook_attack_is_told_all_at_once():
    (textbook,) = (answer for _, key, answer in ANSWERS if key == "T_textbook")
    grade = EXERCISES["03.my_fgsm"].grade(textbook)
    for point in ("`.grad` of the model", "switches on gradients", "still attached"):
        assert point in grade.feedback


@of_kind("T")
def test_one_that_needs_tidying_is_solved_where_the_task_does_not_ask_for_it(name, answer):
    exercise = EXERCISES[name]
    grade = exercise.grade(answer)
    said = ("The task asks for it.", "the task is to do it without", *ALWAYS_ASKED)
    assert grade.solved != any(words in grade.feedback for words in said)


@of_kind("W")
def test_a_wrong_answer_is_refused(name, answer):
    assert not EXERCISES[name].grade(answer).solved


def test_most_wrong_answers_are_told_their_slip():
    wrong = [(name, key, answer) for name, key, answer in ANSWERS if key.startswith("W")]
    untold = [
        f"{name} {key}"
        for name, key, answer in wrong
        if "differs from the expected one on" in EXERCISES[name].grade(answer).feedback
    ]
    assert 1 - len(untold) / len(wrong) >= LEAST_TOLD, untold


@pytest.mark.parametrize(
    ("name", "part", "told"),
    [
        ("03.my_fgsm", "the_step_scaled_by", "divided by the largest one, in place of taking"),
        ("00.max_norm", "returns_the_place", "the place of the largest value is given"),
        ("07.same_mistake", "agreement_counted", "Above the line you count all equal answers"),
        ("11.both_ends", "counts_instead", "multiplied by the number of examples"),
        ("09.read_signs", "2_rise_plus_slack", "You add the slack to the rise."),
        ("11.worst_loss", "y_set_to_lower", "is the columns of ALL labels"),
    ],
)
def test_a_slip_is_told_for_what_it_is(name, part, told):
    (answer,) = (f for other, key, f in ANSWERS if other == name and part in key)
    assert told in EXERCISES[name].grade(answer).feedback


def test_general_slips_need_no_bank():
    cross_entropy = EXERCISES["05.safe_cross_entropy"]

    def all_labels(logits, y):
        others = logits.clone()
        others[:, y] = -torch.inf
        margin = logits[torch.arange(len(y)), y] - others.logsumexp(1)
        return functional.softplus(-margin)

    assert "the columns of ALL labels" in cross_entropy.grade(all_labels).feedback

    forecast = EXERCISES["05.forecast_margin"]
    for factor, told in (
        (2, "2·gradient, and for 2·eps: a factor 2 too many."),
        (0.5, "gradient/2, and for eps/2: a factor 2 is missing."),
    ):
        grade = forecast.grade(
            lambda margin, gradient, eps, by=factor: (
                margin - by * eps * gradient.flatten(1).abs().sum(1)
            )
        )
        assert f"Your result is the right one for {told}" in grade.feedback

    box = EXERCISES["11.network_bounds"]
    grade = box.grade(lambda w1, b1, w2, b2, x, eps: box.reference(w1, b1, w2, b2, x, 2 * eps))
    assert "the right one for 2·eps. Is `eps` counted twice?" in grade.feedback
