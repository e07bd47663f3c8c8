"""Answers in the styles of learners: loops, NumPy, in place, `backward()`, functions of PyTorch.

They were written from the lessons' texts alone. `answers/sample.txt` holds them.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from advlearn.exercises import Outcome, all_exercises

EXERCISES = {f"{exercise.lesson}.{exercise.name}": exercise for exercise in all_exercises()}
SAMPLE = (Path(__file__).parent / "answers" / "sample.txt").read_text(encoding="utf-8")
LEAST_TOLD = 0.85  # share of the wrong answers that must be told more than that they are wrong


def answers():
    for section in re.split(r"^#@ ", SAMPLE, flags=re.MULTILINE)[1:]:
        name, _, code = section.partition("\n")
        scope = {"torch": torch, "np": np, "math": math}
        exec(compile(code, f"<answers to {name}>", "exec"), scope)
        yield from ((name, key, f) for key, f in scope.items() if re.match("[RTW]_", key))


ANSWERS = list(answers())


def of_kind(letter):
    chosen = [(name, answer) for name, key, answer in ANSWERS if key.startswith(letter)]
    ids = [f"{name}-{key[2:]}" for name, key, _ in ANSWERS if key.startswith(letter)]
    return pytest.mark.parametrize(("name", "answer"), chosen, ids=ids)


def test_the_sample_is_large():
    assert len({name for name, _, _ in ANSWERS}) >= 25
    for name in {name for name, _, _ in ANSWERS}:
        keys = [key for other, key, _ in ANSWERS if other == name]
        assert sum(key.startswith("R") for key in keys) >= 2, name
        assert sum(key.startswith("W") for key in keys) >= 4, name


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
