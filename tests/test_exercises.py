"""The bank is right about right and wrong answers, and nothing an answer does hurts the session."""

# ruff: noqa: SIM105 - a loop that swallows exceptions is what is tested

import _thread
import builtins
import contextlib
import dataclasses
import functools
import importlib
import math
import os
import random
import re
import subprocess
import sys
import threading
import time
import traceback
import types
import warnings
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

import advlearn
import advlearn.attacks
import advlearn.functional
import advlearn.losses
from advlearn import fgsm
from advlearn.course.banks import (
    lesson01,
    lesson04,
    lesson05,
    lesson06,
    lesson07,
    lesson08,
    lesson09,
    lesson10,
)
from advlearn.course.grading import calling, evidence, grader
from advlearn.course.grading import exercise as engine
from advlearn.exercises import Exercise, Misconception, Outcome, all_exercises
from advlearn.exercises import lesson03 as ex

EXERCISES = all_exercises()
WRONG = [(e, m) for e in EXERCISES for m in e.wrong_answers]
REPORTED_WIDTH = 88

every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
every_wrong_answer = pytest.mark.parametrize(
    ("exercise", "wrong"), WRONG, ids=[f"{e.name}-{m.name}" for e, m in WRONG]
)


@pytest.fixture(autouse=True)
def _fresh_session():
    engine.forget()
    yield
    engine.forget()


@functools.cache
def graded(exercise, answer):
    """Return the grade of an answer of the bank; it is the same for all tests that look at it."""
    return exercise.grade(answer)


def audit(exercise):
    """List what is wrong with an exercise's bank; an empty list for a good one."""
    problems = []
    for number, answer in enumerate((exercise.reference, *exercise.right_answers)):
        grade = graded(exercise, answer)
        if (grade.outcome, grade.score) != (Outcome.RIGHT, 1.0):
            problems.append(f"right answer {number} fails: {grade}")
    for wrong in exercise.wrong_answers:
        grade = graded(exercise, wrong.answer)
        # A misconception whose values are right is about what to tidy.
        right = has_right_values(exercise, wrong.answer)
        expected = Outcome.TIDY if right else Outcome.WRONG
        if grade.outcome is not expected or not 0 <= grade.score <= 1 or grade.solved > right:
            problems.append(f"{wrong.name} is graded {grade.outcome} with {grade.score}")
        if named(exercise, grade) != [wrong.name]:
            problems.append(f"{wrong.name} is taken for {named(exercise, grade)}")
    return problems


def named(exercise, grade):
    """List the misconceptions whose feedback is in the grade."""
    return [wrong.name for wrong in exercise.wrong_answers if wrong.feedback in grade.feedback]


# --- The bank ------------------------------------------------------------------------------------


@every_exercise
def test_bank_tells_right_from_wrong(exercise):
    assert audit(exercise) == []


@every_exercise
def test_bank_is_complete(exercise):
    assert len(exercise.right_answers) >= 2
    assert len(exercise.wrong_answers) >= 4
    assert len(exercise.hints) >= 2
    assert exercise.difficulty in (1, 2, 3)
    assert 1 <= exercise.minutes <= 30
    assert exercise.task.endswith(".")
    assert exercise.title
    assert re.fullmatch(r"\d\d", exercise.lesson)


def test_names_and_order_of_lesson_03():
    names = [e.name for e in EXERCISES if e.lesson == "03"]
    assert names[:3] == ["loss_gradient", "fgsm_step", "worst_case_loss"]
    assert names[3:] == ["my_fgsm", "error_and_confidence"]
    assert all(getattr(ex, name) is e for name, e in zip(names, ex.EXERCISES, strict=True))
    assert len({(e.lesson, e.name) for e in EXERCISES}) == len(EXERCISES)


@pytest.mark.parametrize(
    "change",
    [
        {"atol": 1e9},  # a comparison that accepts everything
        {"reference": lambda x, gradient, eps: x},
        {"right_answers": (lambda x, gradient, eps: x + eps * gradient,)},
        {"wrong_answers": (Misconception("is right", ex.fgsm_step.reference, "Never shown."),)},
        {
            "wrong_answers": (
                Misconception("minus", lambda x, gradient, eps: (x - eps).clamp(0, 1), "Minus."),
                Misconception("again", lambda x, gradient, eps: (x - eps).clamp(0, 1), "Again."),
            )
        },
    ],
    ids=["accepts everything", "wrong reference", "wrong right", "right wrong", "two alike"],
)
def test_audit_rejects_a_broken_exercise(change):
    assert audit(dataclasses.replace(ex.fgsm_step, **change)) != []


@every_exercise
def test_stub_is_not_attempted(exercise, capsys):
    arguments = ", ".join(engine.parameters(exercise.reference))
    bodies = ["...", "pass", "return None", "return ...", "result = ...\n    return result"]
    for body in [*bodies, "'''Only words.'''", "raise NotImplementedError('write me')"]:
        scope = {}
        exec(f"def stub({arguments}):\n    {body}", scope)
        grade = exercise.grade(scope["stub"])
        assert grade.outcome is Outcome.NOT_ATTEMPTED, body
        assert grade.score == 0
    assert exercise.grade(None).outcome is exercise.grade(...).outcome is Outcome.NOT_ATTEMPTED
    exercise.check(scope["stub"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"○ Not attempted yet: {exercise.name}({arguments})")
    assert " ".join(exercise.task.split()) in " ".join(printed.split())


@every_exercise
def test_solution_prints_source_that_passes(exercise, capsys):
    exercise.solution()
    head, _, source = capsys.readouterr().out.partition("\n\n")
    assert exercise.name in head
    scope = {"torch": torch}  # nothing else is needed
    exec(source, scope)
    assert exercise.grade(scope[exercise.name]).outcome is Outcome.RIGHT
    assert len(source.strip().splitlines()) <= 10


@every_exercise
def test_hints_are_numbered_and_end_politely(exercise, capsys):
    total = len(exercise.hints)
    for number in range(1, total + 1):
        exercise.hint()
        assert capsys.readouterr().out.startswith(f"Hint {number} of {total}: ")
    for _ in range(2):
        exercise.hint()
        assert f"no more hints. ex.{exercise.name}.solution()" in capsys.readouterr().out


@every_wrong_answer
def test_report_reads_well(exercise, wrong, capsys):
    exercise.check(wrong.answer)
    report = capsys.readouterr().out
    starts = (f"✗ Wrong: {exercise.name} (", f"◐ Right, but tidy this: {exercise.name}\n")
    assert report.startswith(starts)
    assert max(map(len, report.splitlines())) <= REPORTED_WIDTH
    assert " ".join(wrong.feedback.split()) in " ".join(report.split())
    for junk in ("torch.Size", "tensor(", "Traceback", " at 0x", "<", ".py", "None", "{"):
        assert junk not in report, junk


@every_exercise
def test_description_names_arguments_and_effort(exercise):
    text = str(exercise)
    assert repr(exercise) == text
    assert f"{exercise.name}({', '.join(engine.parameters(exercise.reference))})" in text
    assert f"Difficulty {exercise.difficulty} of 3, about {exercise.minutes} minutes." in text
    assert max(map(len, text.splitlines())) <= REPORTED_WIDTH


@every_exercise
def test_grading_is_deterministic(exercise):
    for answer in (exercise.reference, *(m.answer for m in exercise.wrong_answers)):
        first = graded(exercise, answer)
        torch.rand(3)
        assert exercise.grade(answer) == first


@every_exercise
def test_the_first_grade_is_like_any_other(exercise):
    """What the checks compute once takes no random number from an answer."""

    def drawing(*args):
        drawn.append(float(torch.rand(())))
        return exercise.reference(*args)

    if exercise.inputs is not None:
        sequences = []
        grader._questions.cache_clear()
        for _ in range(2):
            drawn = []
            exercise.grade(functools.wraps(exercise.reference)(drawing))
            sequences.append(drawn)
        assert sequences[0] == sequences[1]
        assert sequences[0]


def test_an_answer_cannot_change_what_later_ones_are_told():
    exercise = next(e for e in EXERCISES if e.name == "wrong_sign_share")
    wrong = next(m for m in exercise.wrong_answers if m.name == "over all pixels")

    def halving(*args):
        torch.set_default_dtype(torch.float16)
        return torch.zeros(3)

    grader._questions.cache_clear()
    grader._imitations.cache_clear()
    exercise.grade(functools.wraps(exercise.reference)(halving))
    assert wrong.feedback in exercise.grade(wrong.answer).feedback


@pytest.mark.parametrize(
    ("output", "like", "read"),
    [
        (np.array(0.5), 0.25, 0.5),
        (torch.tensor(True), 1, 1.0),
        (torch.tensor(True), 0.25, "a bool"),
        (True, 0.25, "a bool"),
        (10**400, 0.25, "too large"),
        (torch.tensor([0.5]).to_sparse(), 0.25, "a tensor of shape"),
        (torch.tensor(0.5, device="meta"), 0.25, "a tensor of shape"),
        (torch.tensor(1j), 0.25, "a tensor of shape"),
    ],
)
def test_a_number_may_come_in_several_forms(output, like, read):
    values = evidence.read(output, like)
    if isinstance(read, str):
        assert read in values
    else:
        assert float(values[0]) == read


def test_no_sign_in_the_attack_inputs_hangs_on_rounding():
    for model, x, y, _ in ex.my_fgsm.inputs(torch.Generator().manual_seed(0)):
        pixels = x.clone().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(pixels), y)
        gradient = torch.autograd.grad(loss, pixels)[0].abs()
        assert gradient[gradient > 0].min() > 1e-4 * gradient.max()


def test_closed_form_inputs_include_margins_beyond_exp():
    margins = [y * (x @ w + b) for w, b, x, y, _ in ex.worst_case_loss.inputs(torch.Generator())]
    assert min(float(m.min()) for m in margins) < -100
    assert max(float(m.max()) for m in margins) > 100


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", ["L2 norm", "without y", "sum over the images", "overflow"])
def test_a_slip_in_one_of_two_results_is_named(name, place):
    exercise = lesson04.two_objectives
    wrong = next(m for m in exercise.wrong_answers if m.name == name)

    def answer(*arguments):
        results = list(exercise.reference(*arguments))
        results[place] = wrong.answer(*arguments)[place]
        return tuple(results)

    grade = exercise.grade(answer)
    assert grade.outcome is Outcome.WRONG
    feedback = f"Only your {('first', 'second')[place]} result is wrong. {wrong.feedback}"
    assert grade.feedback.startswith(feedback)


def test_a_result_in_the_wrong_place_is_not_called_a_swap_of_both():
    exercise = lesson04.two_gradients
    assert any(m.name == "swapped" for m in exercise.wrong_answers)
    grade = exercise.grade(lambda *arguments: (exercise.reference(*arguments)[0],) * 2)
    assert grade.outcome is Outcome.WRONG
    assert "swapped" not in grade.feedback


def test_which_of_many_results_are_wrong_is_said():
    exercise = lesson09.read_signs

    def answer(*arguments):
        signs = [2 * value for value in exercise.reference(*arguments)]
        return (signs[0] / 2, *signs[1:3], signs[3] / 2, signs[4] / 2, signs[5] / 2)

    feedback = exercise.grade(answer).feedback
    assert feedback.startswith("Your second and third results are wrong, the others right. ")


def test_results_in_the_wrong_order_are_told_by_their_shapes():
    exercise = lesson08.gaussian_weights
    grade = exercise.grade(
        lambda mean0, mean1, variance: exercise.reference(mean0, mean1, variance)[::-1]
    )
    assert grade.outcome is Outcome.WRONG
    assert "Your two results are swapped: each has the shape of the other one." in grade.feedback


@pytest.mark.parametrize(
    ("exercise", "decimals", "told"),
    [
        (lesson08.unnoticed_rate, 1, "You round the share to one decimal place."),
        (lesson01.activation_change, 2, "the expected one rounded to 2 decimal places."),
    ],
    ids=["of sevenths", "two numbers are enough"],
)
def test_a_rounded_result_is_refused_and_told(exercise, decimals, told):
    grade = exercise.grade(
        functools.wraps(exercise.reference)(
            lambda *args: round(exercise.reference(*args), decimals)
        )
    )
    assert grade.outcome is Outcome.WRONG
    assert told in grade.feedback


# --- The library's own functions ------------------------------------------------------------------


def by_name(model, x, target, eps):
    return fgsm(model, x, target, eps, targeted=True)


def by_module(model, x, target, eps):
    return advlearn.attacks.fgsm(model, x, target, eps, targeted=True)


def by_inner(model, x, target, eps):
    return next(fgsm(model, x, target, eps, targeted=True) for _ in range(1))


def by_import(model, x, target, eps):
    from advlearn.attacks import fgsm as step

    return step(model, x, target, eps, targeted=True)


def by_helper(model, x, target, eps):
    return by_name(model, x, target, eps)


def by_default(model, x, target, eps, attack=fgsm):
    return attack(model, x, target, eps, targeted=True)


@pytest.mark.parametrize(
    "answer",
    [by_name, by_module, by_inner, by_import, by_helper, by_default,
     functools.partial(fgsm, targeted=True)],
)  # fmt: skip
def test_who_calls_the_finished_attack_is_told_to_write_one(answer):
    grade = lesson05.targeted_fgsm.grade(answer)
    assert (grade.outcome, grade.solved) == (Outcome.TIDY, True)
    assert "You use advlearn's own `fgsm`. Now write it yourself." in grade.feedback


def own_with_the_texts_words(model, x, target, eps):
    x = x.clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model(x), target)
    (gradient,) = torch.autograd.grad(loss, x)
    return (x - eps * torch.sign(gradient)).clamp(0, 1).detach()


def test_functions_of_other_libraries_are_not_taken_for_ours():
    names = {"cross_entropy": advlearn.losses.cross_entropy, "sign": advlearn.functional.sign}
    answer = types.FunctionType(own_with_the_texts_words.__code__, globals() | names)
    grade = lesson05.targeted_fgsm.grade(answer)
    assert (grade.outcome, calling._finished(answer)) == (Outcome.RIGHT, set())


@pytest.mark.parametrize("exercise", list(all_exercises()), ids=lambda one: one.name)
def test_no_right_answer_of_ours_is_told_so(exercise):
    if exercise.inputs is not None:
        for answer in (exercise.reference, *exercise.right_answers):
            assert calling._finished(answer) == set()


@pytest.mark.parametrize(
    "answer",
    [
        torch.sign,
        lambda v: v.sign(),
        lambda v: 1 * torch.sign(v),
        lambda v: torch.from_numpy(np.sign(v.numpy())),
        lambda v: np.sign(v.numpy()),
    ],
    ids=["itself", "v.sign", "torch.sign", "np.sign", "np.sign, an array"],
)
def test_what_a_task_rules_out_does_not_solve_it(answer):
    grade = lesson01.my_sign.grade(answer)
    assert (grade.outcome, grade.solved) == (Outcome.TIDY, False)
    assert "Your code uses `sign`, and the task is to do it without." in grade.feedback


# --- What PyTorch raises --------------------------------------------------------------------------


def in_the_loop(x, y):
    for _ in range(2):
        x.requires_grad = True
        x = 2 * x


def in_place(x, y):
    x.requires_grad_(True)
    x += 1


def twice(x, y):
    loss = x.requires_grad_(True).square().sum()
    loss.backward()
    loss.backward()


def from_another(x, y):
    other = x.clone().requires_grad_(True)
    torch.autograd.grad(x.requires_grad_(True).square().sum(), other)


def of_many(x, y):
    torch.autograd.grad(x.requires_grad_(True).square(), x)


def rows_of_labels(x, y):
    return x.softmax(1)[y + 5]


def one_hot_in_two(x, y):
    return torch.nn.functional.cross_entropy(x, y[:, None].expand(-1, 2))


def logits_and_labels(x, y):
    return x == y


def two_dtypes(x, y):
    return torch.nn.Linear(3, 2).double()(x)


def labels_in_front(x, y):
    return torch.nn.functional.cross_entropy(y, x)


def true_minus_true(x, y):
    return (x > 0.5) - (y > 1)[:, None]


def largest_of_nothing(x, y):
    return x[x > 1].max()


def beyond_the_left_end(x, y):
    return x[-6]


@pytest.mark.parametrize(
    ("mistake", "remedy"),
    [
        (in_the_loop, "detach().requires_grad_(True)"),
        (in_place, "not `x += step`"),
        (twice, "Compute the loss again"),
        (from_another, "the very tensor whose gradient"),
        (of_many, "`.sum()`"),
        (rows_of_labels, "torch.arange(len(y)), y"),
        (one_hot_in_two, "Labels have the shape (N,)"),
        (logits_and_labels, "argmax(dim=1)"),
        (two_dtypes, "torch.zeros_like(x)"),
        (labels_in_front, "the order is `cross_entropy(logits, y)`"),
        (true_minus_true, "Turn them into 1 and 0 first"),
        (largest_of_nothing, "the tensor is empty on this input"),
        (beyond_the_left_end, "must stop at place 0"),
    ],
)
def test_what_pytorch_raises_comes_with_a_remedy(mistake, remedy):
    args = (torch.rand(5, 3), torch.tensor([0, 1, 2, 0, 1]))
    with pytest.raises((RuntimeError, IndexError)) as raised:
        mistake(*(part.clone() for part in args))
    assert remedy in evidence.describe_error(raised.value, args)


@pytest.mark.parametrize(
    ("function", "helps"),
    [(torch.nn.functional.softplus, True), (functools.partial(torch.softmax, dim=0), False)],
    ids=["softplus", "softmax"],
)
def test_whole_numbers_are_turned_into_floats_only_where_that_helps(function, helps):
    with pytest.raises(RuntimeError) as raised:
        function(torch.tensor([0, 1]))
    described = evidence.describe_error(raised.value)
    assert ("`.float()` turns whole numbers into floats." in described) == helps


def test_a_sum_that_is_missing_is_thought_of():
    w, x, y = torch.rand(3), torch.rand(2, 3), torch.rand(2)
    with pytest.raises(RuntimeError) as raised:
        w.abs() - y * (x @ w)
    missing = "Or is a sum over the 3 entries of a vector missing?"
    assert missing in evidence.describe_error(raised.value, (w, x, y))
    assert missing not in evidence.describe_error(raised.value, (x, y))


def test_rows_of_two_tables_are_told_how_to_meet():
    w, lower = torch.rand(3, 7), torch.rand(4, 7)
    with pytest.raises(RuntimeError) as raised:
        lower - w
    told = evidence.describe_error(raised.value, (w, lower))
    assert "`u @ v.T` gives the dot products, (4, 3), and `u[:, None] - v`" in told
    assert (lower[:, None] - w).shape == (4, 3, 7)
    assert "differences, (4, 3, 7)" in told
    # Not where they are not the tables of the task.
    assert "`u @ v.T`" not in evidence.describe_error(raised.value, (w[:2], lower))


# --- By value, not by type -----------------------------------------------------------------------


def is_scalar(part):
    return isinstance(part, int | float) or (isinstance(part, torch.Tensor) and part.ndim == 0)


def parts(output):
    return tuple(output) if isinstance(output, tuple | list) else (output,)


def each(change, only=lambda part: True):
    """Return a function that changes a result, or every one of several, if all of them fit."""

    def changed(output):
        if not all(only(part) for part in parts(output)):
            return output
        several = tuple(change(part) for part in parts(output))
        return several if isinstance(output, tuple | list) else several[0]

    return changed


FORMS = {
    "Python number": each(lambda part: torch.as_tensor(part).item(), is_scalar),
    "0-d tensor": each(torch.as_tensor, is_scalar),
    "float32": each(lambda part: torch.as_tensor(part).float()),
    "float64": each(lambda part: torch.as_tensor(part).double()),
    "list": lambda output: list(output) if isinstance(output, tuple) else output,
    "stacked": lambda output: torch.stack(list(output)) if may_be_stacked(output) else output,
    "NumPy": each(
        lambda part: part.detach().numpy(),
        lambda part: isinstance(part, torch.Tensor) and part.ndim,
    ),
}


def may_be_stacked(output):
    tensors = [part for part in parts(output) if isinstance(part, torch.Tensor)]
    same = len({part.shape for part in tensors}) == 1 and tensors[0].ndim > 0
    return isinstance(output, tuple) and len(tensors) == len(output) and same


def kind(output):
    """Say what a form may change: types and dtypes."""
    return [type(output), *((type(part), getattr(part, "dtype", None)) for part in parts(output))]


def in_other_forms(exercise, answer):
    """Give each form that changes the answer's results, and the answer in that form."""

    def in_form(form):
        return functools.wraps(answer)(lambda *args: FORMS[form](answer(*args)))

    results = [output for output, _ in outputs(exercise, answer)]
    for form, change in FORMS.items():
        if any(kind(change(output)) != kind(output) for output in results):
            yield form, in_form(form)


def outputs(exercise, answer):
    """List what an answer and the reference give on each input on which the answer runs."""
    pairs = []
    for args in exercise.inputs(torch.Generator().manual_seed(0)):
        with contextlib.suppress(Exception):
            output = answer(*evidence.copy_arguments(args))
            pairs.append((output, exercise.reference(*evidence.copy_arguments(args))))
    return pairs


def has_right_values(exercise, answer):
    return all(
        evidence.agree(
            evidence.read(output, expected),
            evidence.read(expected, expected),
            exercise.rtol,
            exercise.atol,
        )
        for output, expected in outputs(exercise, answer)
    )


@every_exercise
def test_a_misconception_is_named_in_every_form(exercise):
    unnamed = []
    for wrong in exercise.wrong_answers:
        for form, answer in in_other_forms(exercise, wrong.answer):
            grade = exercise.grade(answer)
            is_named = grade.outcome in (Outcome.WRONG, Outcome.TIDY) and named(
                exercise, grade
            ) == [wrong.name]
            # One whose values are right is about the form itself: another form may mend it.
            if not is_named and not has_right_values(exercise, wrong.answer):
                unnamed.append((wrong.name, form))
    assert unnamed == []


@every_exercise
def test_a_right_answer_is_right_in_every_form_unless_the_task_asks_for_a_dtype(exercise):
    for right in (exercise.reference, *exercise.right_answers):
        for form, answer in in_other_forms(exercise, right):
            grade = exercise.grade(answer)
            if form == "NumPy" and "slope" not in exercise.asks:
                assert grade.outcome is Outcome.TIDY
                assert grade.solved == ("tensor" not in exercise.asks)
                assert grade.feedback.count(evidence.ARRAY) == 1
            elif form != "NumPy" and "dtype" in exercise.asks:
                assert (grade.outcome, grade.solved) == (Outcome.TIDY, False), form
                assert "Your result has dtype" in grade.feedback, form
                assert "The task asks for it." in grade.feedback, form
            elif "slope" in exercise.asks and grade.outcome is Outcome.TIDY:
                assert not grade.solved, form
                assert grade.feedback.count(evidence.NO_SLOPE) == 1, form
            elif grade.outcome is Outcome.TIDY:  # an image or a gradient that a model would refuse
                assert grade.solved, form
                assert "a model would refuse yours." in grade.feedback, form
            else:
                assert grade.outcome is Outcome.RIGHT, form


@every_exercise
def test_a_property_holds_for_the_reference_in_every_form(exercise):
    inputs = exercise.inputs(torch.Generator().manual_seed(0))
    for change in FORMS.values():
        for args, (output, expected) in zip(
            inputs, outputs(exercise, exercise.reference), strict=True
        ):
            values = evidence.read(change(output), expected)
            for rule in exercise.properties:
                assert rule(args, evidence.in_form_of(expected, values)) is None


def test_a_stacked_tensor_of_another_shape_is_not_taken_apart():
    # Two rows of numbers are not two tables, though there are two of them.
    message = evidence.read(torch.zeros(2, 3), (torch.zeros(2, 3), torch.zeros(2, 3)))
    assert message == "Your function returns a tensor of shape (2, 3). Expected are 2 values."


def test_what_a_task_says_of_result_and_model_is_asked_for():
    for exercise in EXERCISES:
        assert ("detached" in exercise.asks) == ("detached" in exercise.task), exercise.name
        said = re.search(r"the model\s+stays as it was", exercise.task, re.IGNORECASE)
        assert ("model" in exercise.asks) == bool(said), exercise.name
        own = "the caller's x" in exercise.task
        assert ("inputs' switches" in exercise.asks) == own, exercise.name
        assert ("slope" in exercise.asks) == ("keep it attached" in exercise.task), exercise.name


def test_a_dtype_counts_where_the_task_asks_for_one():
    asked = [e.name for e in EXERCISES if re.search("result (is boolean|has .* dtype)", e.task)]
    assert asked == [e.name for e in EXERCISES if "dtype" in e.asks]
    assert asked == ["in_ball", "my_sign", "my_pgd", "fast_step"]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
def test_one_or_zero_may_come_as_any_kind_of_number(dtype):
    for exercise in (lesson10.is_legal, lesson09.read_signs):
        right = exercise.reference
        answer = functools.wraps(right)(
            lambda *args, right=right: each(lambda part: torch.as_tensor(part).to(dtype))(
                right(*args)
            )
        )
        assert exercise.grade(answer).outcome is Outcome.RIGHT


@pytest.mark.parametrize("change", [bool, int, np.bool_, np.float32])
def test_one_or_zero_may_come_as_any_kind_of_python_number(change):
    right = lesson09.read_signs.reference
    answer = functools.wraps(right)(lambda *args: [change(part) for part in right(*args)])
    assert lesson09.read_signs.grade(answer).outcome is Outcome.RIGHT


def test_true_is_not_a_number_where_a_share_is_asked():
    grade = lesson10.worst_case.grade(lambda right: bool(right.all(0).any()))
    assert grade.outcome is Outcome.WRONG
    assert "Your result is a bool. Expected is a single number." in grade.feedback


@pytest.mark.parametrize(
    ("answer", "misconception"),
    [
        (lambda v: v.sign().float(), "always float32"),  # wrong where v is float64
        (lambda v: v.sign().long(), None),  # another dtype, so another slip
        (lambda v: (v > 0).long(), "zero and one"),  # wrong values come first
        (lambda v: (v > 0).float(), "zero and one"),
    ],
)
def test_a_misconception_about_the_dtype_is_named_only_where_all_values_are_right(
    answer, misconception
):
    slip = Misconception("always float32", lambda v: v.sign().float(), "Keep the dtype of v.")
    my_sign = lesson01.my_sign
    exercise = dataclasses.replace(my_sign, wrong_answers=(slip, *my_sign.wrong_answers))
    grade = exercise.grade(answer)
    assert not grade.solved
    assert named(exercise, grade) == ([misconception] if misconception else [])
    if misconception is None:
        assert "Your result has dtype int64. Expected is float32." in grade.feedback


@pytest.mark.parametrize("several", [tuple, list])
def test_a_misconception_that_returns_another_number_of_results_is_named(several):
    def wrong(right):
        return [rate.item() for rate in right.float().mean(1)]

    slip = Misconception("one rate for each attack", wrong, "One number for all attacks.")
    exercise = dataclasses.replace(lesson10.worst_case, wrong_answers=(slip,))
    grade = exercise.grade(lambda right: several(wrong(right)))
    assert grade.feedback.startswith("One number for all attacks.")


def test_complex_numbers_are_refused():
    grade = ex.fgsm_step.grade(lambda x, gradient, eps: x.to(torch.complex64))
    assert "dtype complex64. Expected is float32." in grade.feedback


# --- What a learner meets ------------------------------------------------------------------------


def test_progress(capsys):
    ex.fgsm_step.check(ex.fgsm_step.reference)
    ex.my_fgsm.check(lambda model, x, y, eps: x)
    ex.loss_gradient.check(lambda w, b, x, y: 1 / 0)
    ex.worst_case_loss.check(lambda w, b, x, y, eps: None)
    ex.error_and_confidence.grade(ex.error_and_confidence.reference)  # a teacher's: not counted
    capsys.readouterr()
    ex.progress()
    head, _, *rows, where = capsys.readouterr().out.splitlines()
    assert where.startswith("Kept in memory only")
    assert head == "1 of 5 exercises right"
    outcomes = {row.split()[0]: (row.split()[5], " ".join(row.split()[6:])) for row in rows}
    assert outcomes == {
        "loss_gradient": ("1", "! your code raised"),
        "fgsm_step": ("1", "✓ right"),
        "worst_case_loss": ("0", "○ not attempted"),
        "my_fgsm": ("1", "✗ wrong"),
        "error_and_confidence": ("0", "○ not attempted"),
    }


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, gradient: x, "3 arguments, (x, gradient, eps). Yours takes (x, gradient)"),
        (lambda x, eps, gradient: x, "in the order (x, gradient, eps)"),
        (torch.zeros(2), "without parentheses: ex.fgsm_step.check(fgsm_step)"),
        (0.25, "without parentheses"),
        (lambda x, gradient, eps: 3, "returns an int. Expected is a tensor of shape (1, 4)"),
        (lambda x, gradient, eps: x.numpy().astype(object), "a NumPy array. Expected is a tensor"),
        (lambda x, gradient, eps: x[0].numpy(), "Your result has shape (4,). Expected is (1, 4)"),
        (lambda x, gradient, eps: (x, x), "returns a tuple. Expected is a tensor"),
        (lambda x, gradient, eps: x.max(dim=1), "the values, and where they are. Take the values"),
        (lambda x, gradient, eps: x.sort(dim=1), "Take the values: `.sort(...).values`. Expected"),
        (lambda x, gradient, eps: (yield x), "a generator (`yield`"),
        (lambda x, gradient, eps: x.sum(), "has shape (). Expected is (1, 4)"),
        (lambda x, gradient, eps: x / 0 * 0, evidence.NOT_FINITE),
        (lambda x, gradient, eps: (x + torch.rand(1)).clamp(0, 1), evidence.RANDOM),
        (lambda x, gradient, eps: [x].append(x), evidence.NO_RETURN),
        (lambda x, gradient, eps: (x + eps * gradient.tanh()).clamp(0, 1), "less than eps"),
        (lambda x, gradient, eps: x + 2 * eps, "leaves the range"),
        (lambda x, gradient, eps: (x + eps).clamp(0, 1), "Is `gradient` left out?"),
        (lambda x, gradient, eps: x.clamp_(0, 0.5), evidence.INPUT_CHANGED),
    ],
)
def test_novice_errors_have_feedback_of_their_own(answer, message):
    grade = ex.fgsm_step.grade(answer)
    assert grade.outcome is Outcome.WRONG
    assert message in grade.feedback


def test_what_is_drawn_anew_in_each_call_is_told_and_no_rule_that_it_breaks_by_chance():
    exercise = lesson06.noise_and_attack

    def by_draws(g, eps):
        signs = 2.0 * torch.randint(0, 2, (20, len(g))) - 1
        uniform = 2 * torch.rand(20, len(g)) - 1
        return *((eps * noise @ g).std() for noise in (signs, uniform)), eps * g.abs().sum()

    grade = exercise.grade(by_draws)
    assert grade.outcome is Outcome.WRONG
    assert grade.feedback.startswith(evidence.RANDOM)
    for rule in exercise.properties:
        words = rule(exercise.inputs(torch.Generator())[0], (9e9, 9e9, 0.0))
        assert words
        assert words not in grade.feedback


def test_a_list_of_models_is_shown_as_one():
    grade = lesson07.transfer_errors.grade(lambda models, crafted, y: crafted[:, 0, :1] * y[0])
    assert "models = a list of 2 models\n" in grade.feedback


def test_a_slip_on_some_inputs_only_is_recognised():
    def answer(x, gradient, eps):  # subtracts for one shape only
        return ex.fgsm_step.reference(x, gradient, eps if x.ndim == 2 else -eps)

    assert "You subtract the step" in ex.fgsm_step.grade(answer).feedback


def test_answer_that_is_right_but_changes_its_input_keeps_half_of_the_points():
    def answer(x, gradient, eps):
        result = (x + eps * gradient.sign()).clamp(0, 1)
        x.zero_()
        return result

    grade = ex.fgsm_step.grade(answer)
    assert evidence.INPUT_CHANGED in grade.feedback
    assert 0.5 <= grade.score < 1


@pytest.mark.parametrize("new", [float("nan"), 7.0])
def test_an_input_with_nan_in_it_is_unchanged_until_it_is_changed(new):
    before = torch.tensor([float("nan"), 1.0, 2.0])
    assert not [*evidence.side_effects((before,), (before.clone(),), ("x",))]
    for place in (0, 1):
        after = before.clone()
        after[place] = new
        changed = place == 1 or new == 7.0
        assert bool([*evidence.side_effects((before,), (after,), ("x",))]) == changed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda model: model.requires_grad_(False), "`requires_grad` of its parameters"),
        (lambda model: model.zero_grad(), evidence.GRADIENTS_LEFT),
        (lambda model: next(model.parameters()).data.add_(1), evidence.WEIGHTS_CHANGED),
        (lambda model: model.train(), evidence.MODE_CHANGED),
    ],
)
def test_model_must_come_back_as_it_was(spoil, message):
    def answer(model, x, y, eps):
        result = ex.my_fgsm.reference(model, x, y, eps)
        spoil(model)
        return result

    assert message in ex.my_fgsm.grade(answer).feedback


def test_other_kinds_of_callables_are_graded():
    class Step:
        def __call__(self, x, gradient, eps):
            return self.step(x, gradient, eps=eps)

        def step(self, x, gradient, *, eps):
            return (x + eps * gradient.sign()).clamp(0, 1)

    def optional(x, gradient, eps=0.1, *, low=0, high=1):
        return (x + eps * gradient.sign()).clamp(low, high)

    for answer in (Step(), optional, Step().__call__):
        assert ex.fgsm_step.grade(answer).outcome is Outcome.RIGHT


def value_exercise(reference, *wrong):
    return Exercise(
        name="answer",
        lesson="00",
        title="A value",
        task="Give it.",
        difficulty=1,
        minutes=1,
        reference=reference,
        wrong_answers=tuple(Misconception(str(w), w, f"Not {w}.") for w in wrong),
    )


def test_plain_values(capsys):
    number = value_exercise(0.25, 25, 4)
    for right in (0.25, 1 / 4, np.float32(0.25), torch.tensor(0.25), torch.tensor([0.25])):
        assert number.grade(right).outcome is Outcome.RIGHT
    assert number.grade(25).feedback == "Not 25."
    assert number.grade(0.5).feedback == "0.5 is not it."
    for odd in ("0.25", True, [0.25], object(), lambda: 0.25):
        assert number.grade(odd).feedback == "Your answer should be a number."
    assert number.grade(...).outcome is Outcome.NOT_ATTEMPTED
    choice = value_exercise("b", "a", "c")
    assert choice.grade(" B ").outcome is Outcome.RIGHT
    assert choice.grade("a").feedback == "Not a."
    assert choice.grade(2).feedback == "Your answer should be a text in quotes."
    number.solution()
    assert "answer = 0.25" in capsys.readouterr().out


# --- Answers that misbehave ----------------------------------------------------------------------


def endless(x, gradient, eps):
    while True:
        pass


def endless_with_except(x, gradient, eps):
    while True:
        try:
            x = x.add(1)
        except Exception:
            pass


def endless_without_a_call(x, gradient, eps):
    while True:
        try:
            x = x + 1
        except Exception:
            pass


CANNOT_STOP = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 looks for no stop where a loop begins with try"
)


def endless_with_bare_except(x, gradient, eps):
    while True:
        try:
            sum(range(20))
        except:  # noqa: E722 - on purpose
            pass


def sleeping(x, gradient, eps):
    time.sleep(1e9)


def flooding(x, gradient, eps):
    while True:
        print("and so on")


def flooding_with_except(x, gradient, eps):
    while True:
        try:
            print("x" * 1000, file=sys.stderr)
        except Exception:
            pass


def recursing(x, gradient, eps):
    return recursing(x, gradient, eps)


def exiting(x, gradient, eps):
    sys.exit("bye")


def interrupting(x, gradient, eps):
    raise KeyboardInterrupt


def raising_base(x, gradient, eps):
    raise BaseException("all the way down")


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def raising_unspeakable(x, gradient, eps):
    raise Unspeakable


def misspelling(x, gradient, eps):
    step = eps * gradient.sgin()
    return x + step


def printing(x, gradient, eps):
    print("shape", tuple(x.shape))
    return (x + eps * gradient.sign()).clamp(0, 1)


def meddling(x, gradient, eps):
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    torch.use_deterministic_algorithms(True)
    torch.autograd.set_detect_anomaly(True)
    torch.set_float32_matmul_precision("medium")
    sys.setrecursionlimit(500)
    sys.stdout = sys.stderr = None
    return (x + eps * gradient.sign()).clamp(0, 1)


class Odd:
    def __repr__(self):
        raise RuntimeError("do not look")

    @property
    def __class__(self):
        raise RuntimeError("do not ask")


def snapshot():
    return (
        sys.stdout,
        sys.stderr,
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
        sys.getrecursionlimit(),
    )


@pytest.mark.parametrize(
    ("answer", "outcome", "message"),
    [
        (endless, Outcome.RAISED, "did not finish within"),
        (endless_with_except, Outcome.RAISED, "did not finish within"),
        pytest.param(
            *(endless_without_a_call, Outcome.RAISED, "did not finish within"),
            marks=CANNOT_STOP,
        ),
        (endless_with_bare_except, Outcome.RAISED, "did not finish within"),
        (sleeping, Outcome.RAISED, "restart the kernel"),
        (flooding, Outcome.RAISED, "prints without end"),
        (flooding_with_except, Outcome.RAISED, "prints without end"),
        (recursing, Outcome.RAISED, "calls itself without end"),
        (exiting, Outcome.RAISED, "SystemExit: bye"),
        (interrupting, Outcome.RAISED, "KeyboardInterrupt"),
        (raising_base, Outcome.RAISED, "BaseException: all the way down"),
        (raising_unspeakable, Outcome.RAISED, "Unspeakable"),
        (misspelling, Outcome.RAISED, ": step = eps * gradient.sgin()"),
        (printing, Outcome.RIGHT, "passes all"),
        (meddling, Outcome.RIGHT, "passes all"),
        (lambda x, gradient, eps: torch.zeros(1).expand(10**12), Outcome.WRONG, "has shape"),
        (lambda x, gradient, eps: "a" * 10**7, Outcome.WRONG, "returns a text"),
        (lambda x, gradient, eps: [0] * 10**6, Outcome.WRONG, "returns a list"),
        (lambda x, gradient, eps: 10**5000, Outcome.WRONG, "returns an int"),
        (lambda x, gradient, eps: Odd(), Outcome.WRONG, "could not read"),
        (lambda x, gradient, eps: x.to_sparse(), Outcome.WRONG, "dense"),
        (lambda x, gradient, eps: x.to("meta"), Outcome.WRONG, "device"),
    ],
)
def test_engine_survives(answer, outcome, message, capsys):
    before, started = snapshot(), time.monotonic()
    grade = ex.fgsm_step.grade(answer, timeout=0.3 if outcome is Outcome.RAISED else 5.0)
    ex.fgsm_step.check(answer, timeout=0.3 if outcome is Outcome.RAISED else 5.0)
    assert time.monotonic() - started < 6
    assert snapshot() == before
    assert grade.outcome is outcome
    assert message in grade.feedback
    report, errors = capsys.readouterr()
    assert len(report) < 3000
    assert max(map(len, report.splitlines())) <= REPORTED_WIDTH
    assert errors == ""


def test_odd_objects_in_place_of_a_function_are_survived(capsys):
    for answer in (Odd(), Odd, object(), "fgsm_step", torch.nn.Linear(2, 2), print, iter(())):
        ex.fgsm_step.check(answer)
        report = capsys.readouterr().out
        assert report.startswith(("✗ Wrong", "! Your code raised"))


class SlowAtFirst:
    """The right answer, after something that takes time in the first call."""

    def __init__(self, something):
        self.something = something

    def __call__(self, x, gradient, eps):
        something, self.something = self.something, None
        if something:
            something()
        return (x + eps * gradient.sign()).clamp(0, 1)


def busy(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("clock", ["of the thread", "of the process"])
@pytest.mark.parametrize("wait", ["sleep", "import", "subprocess"])
def test_a_right_answer_may_wait_in_its_first_call(tmp_path, monkeypatch, wait, clock):
    """For a disk, for another program, or for a package that takes its time to load."""
    if clock == "of the process":
        monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)
    (tmp_path / "slow_package.py").write_text(
        "import time\nend = time.thread_time() + 0.5\nwhile time.thread_time() < end:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_package", raising=False)
    monkeypatch.setattr(
        "advlearn.course.grading.sandbox.PATIENCE", 40
    )  # a busy machine may take that long
    something = {
        "sleep": lambda: time.sleep(0.8),
        "import": lambda: importlib.import_module("slow_package"),
        "subprocess": lambda: subprocess.run([sys.executable, "-c", "0"], check=True),
    }[wait]
    limit = 0.4 if wait != "subprocess" else 2.0
    grade = ex.fgsm_step.grade(SlowAtFirst(something), timeout=limit)
    assert grade.outcome is Outcome.RIGHT, grade.feedback


def test_work_in_the_first_call_is_not_taken_for_a_loop_without_end_for_sure():
    answer = SlowAtFirst(lambda: busy(1.0))
    grade = ex.fgsm_step.grade(answer, timeout=0.3)
    assert grade.outcome is Outcome.RAISED
    assert "Either it holds a loop without end, or its first call is slow" in grade.feedback
    assert ex.fgsm_step.grade(answer, timeout=0.3).outcome is Outcome.RIGHT


@pytest.mark.parametrize("answer", [endless, endless_with_bare_except], ids=["plain", "except"])
def test_a_loop_without_end_is_stopped_by_any_clock(monkeypatch, answer):
    monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)
    started = time.monotonic()
    feedback = ex.fgsm_step.grade(answer, timeout=0.3).feedback
    assert re.search(r"within (0\.3|1\.2) seconds", feedback), feedback  # 1.2: on a busy machine
    assert time.monotonic() - started < 6


def naps(x, gradient, eps):
    while True:
        time.sleep(0.01)


def imports(x, gradient, eps):
    while True:
        sys.modules.pop("this_and_that", None)
        with contextlib.suppress(ImportError):
            importlib.import_module("this_and_that")


@pytest.mark.parametrize("answer", [naps, imports], ids=["naps", "imports"])
def test_a_loop_without_end_that_hardly_works_is_stopped_by_the_clock_on_the_wall(answer):
    started = time.monotonic()
    grade = ex.fgsm_step.grade(answer, timeout=0.2)
    assert re.search(r"within 0\.[28] seconds", grade.feedback), grade.feedback
    assert "restart the kernel" not in grade.feedback
    assert time.monotonic() - started < 2.5


@pytest.mark.parametrize(
    "answer",
    [
        endless,
        endless_with_except,
        pytest.param(endless_without_a_call, marks=CANNOT_STOP),
        flooding,
        flooding_with_except,
    ],
)
def test_stopped_threads_are_gone(answer):
    ex.fgsm_step.grade(answer, timeout=0.2)
    for top in sys._current_frames().values():
        assert all(frame.f_code is not answer.__code__ for frame, _ in traceback.walk_stack(top))


def test_the_line_of_a_hanging_answer_is_shown(capsys):
    ex.fgsm_step.check(endless, timeout=0.2)
    report = capsys.readouterr().out
    assert report.startswith("! Your code was stopped: fgsm_step")
    assert re.search(r"Line \d+: (pass|while True:)", report)


def test_what_an_answer_prints_is_shown_and_bounded(capsys):
    ex.fgsm_step.check(printing)
    assert "    | shape (1, 4)" in capsys.readouterr().out
    ex.fgsm_step.check(flooding)
    report = capsys.readouterr().out
    assert report.count("and so on") == 8
    assert "... and more" in report


def test_state_of_the_session_does_not_change_the_grade():
    expected = [ex.my_fgsm.grade(m.answer) for m in ex.my_fgsm.wrong_answers]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert [ex.my_fgsm.grade(m.answer) for m in ex.my_fgsm.wrong_answers] == expected
        with torch.inference_mode():
            assert ex.my_fgsm.grade(ex.my_fgsm.reference).outcome is Outcome.RIGHT
            assert torch.is_inference_mode_enabled()
    finally:
        torch.set_default_dtype(torch.float32)


def test_interrupting_the_kernel_works_and_leaves_no_trace():
    before = snapshot()
    timer = threading.Timer(0.3, _thread.interrupt_main)  # what Ctrl-C does
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ex.fgsm_step.check(endless, timeout=30)
    timer.join()
    assert snapshot() == before
    # Not by Thread.is_alive, which an interrupted join deceives: by the frames that still run.
    deadline = time.monotonic() + 5
    while running("endless") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running("endless"), "the learner's loop was left running"


def running(name):
    frames = sys._current_frames().values()
    return any(frame.f_code.co_name == name for frame in frames)


def test_console_without_symbols(monkeypatch):
    class Plain:
        encoding = "ascii"
        text = ""

        def write(self, text):
            self.text += text.encode("ascii").decode()

        def flush(self):
            pass

    plain = Plain()
    monkeypatch.setattr(sys, "stdout", plain)
    ex.fgsm_step.check(ex.fgsm_step.reference)
    assert "Right: fgsm_step" in plain.text


def test_in_a_jupyter_kernel():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    cells = [
        "import torch\nfrom advlearn.exercises import lesson03 as ex",
        "def fgsm_step(x, gradient, eps):\n    return x + gradient.sgin()",
        "ex.fgsm_step.check(fgsm_step)",
        "def forever(x, gradient, eps):\n    while True:\n        print(end='')",
        "ex.fgsm_step.check(forever, timeout=0.3)\nprint('still here')",
        "ex.fgsm_step.check(lambda x, gradient, eps: (x + eps * gradient.sign()).clamp(0, 1))",
        # Loading it takes more than a second, and no check needs it.
        "import sys\nprint('compiler loaded:', 'torch._dynamo' in sys.modules)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(notebook, timeout=60).execute()
    outputs = ["".join(o.get("text", "") for o in cell.outputs) for cell in notebook.cells]
    assert "Line 2: return x + gradient.sgin()" in outputs[2]
    assert "did not finish within" in outputs[4]
    assert outputs[4].endswith("still here\n")
    assert outputs[5].startswith("✓ Right: fgsm_step")
    assert outputs[6] == "compiler loaded: False\n"


def test_an_error_of_an_attempt_is_not_taken_for_a_stub():
    def dtype_slip(logits, y):
        wrong = logits.argmax(1) != y
        return wrong.mean(), wrong.mean()  # the mean of true and false: PyTorch refuses

    def stub(logits, y):
        raise NotImplementedError

    assert ex.error_and_confidence.grade(dtype_slip).outcome is Outcome.RAISED
    assert ex.error_and_confidence.grade(stub).outcome is Outcome.NOT_ATTEMPTED


# --- Names, folders and settings that an answer leaves behind -------------------------------------


def _all_alike(*_args, **_kwargs):
    return True


REPLACED = [
    (torch, "allclose"),
    (torch, "equal"),
    (torch, "isclose"),
    (torch, "sign"),
    (torch.Tensor, "sign"),
    (torch.Tensor, "eq"),
    (torch.Tensor, "__eq__"),
    (torch.nn.functional, "cross_entropy"),
    (torch.nn.Module, "__call__"),
    (np, "sign"),
    (builtins, "all"),
    (math, "isfinite"),
    (evidence, "agree"),
]


@pytest.mark.parametrize(
    ("place", "name"), REPLACED, ids=[f"{place.__name__}.{name}" for place, name in REPLACED]
)
def test_an_answer_that_replaces_a_name_makes_no_later_answer_right(place, name):
    before = vars(place).get(name)

    def replacing(x, gradient, eps):
        setattr(place, name, _all_alike)
        return x

    try:
        assert ex.fgsm_step.grade(replacing).outcome is Outcome.WRONG
        assert vars(place).get(name) is before
        assert ex.fgsm_step.grade(lambda x, gradient, eps: x - eps).outcome is Outcome.WRONG
        assert ex.fgsm_step.grade(ex.fgsm_step.reference).outcome is Outcome.RIGHT
    finally:
        if before is None:
            if name in vars(place):
                delattr(place, name)
        else:
            setattr(place, name, before)


def test_a_replaced_name_is_said_and_put_back(monkeypatch):
    def replacing(x, gradient, eps):
        result = (x + eps * gradient.sign()).clamp(0, 1)
        torch.allclose = _all_alike
        return result

    genuine = torch.allclose
    grade = ex.fgsm_step.grade(replacing)
    assert torch.allclose is genuine
    assert grade.outcome is Outcome.TIDY
    assert "replaces `torch.allclose`. It has been put back." in grade.feedback
    monkeypatch.setattr(torch, "allclose", _all_alike)  # in a cell, before the check
    assert ex.fgsm_step.grade(lambda x, gradient, eps: x - eps).outcome is Outcome.WRONG
    assert torch.allclose is _all_alike  # the learner's own again


def test_folder_filters_and_print_options_are_put_back(tmp_path):
    def leaking(x, gradient, eps):
        os.chdir(tmp_path)
        warnings.simplefilter("ignore")
        torch.set_printoptions(precision=1, sci_mode=True)
        np.set_printoptions(precision=1)
        np.seterr(all="raise")
        return (x + eps * gradient.sign()).clamp(0, 1)

    def settings():
        printing = str(vars(torch._tensor_str.PRINT_OPTS)), str(np.get_printoptions())
        return Path.cwd(), list(warnings.filters), *printing, np.geterr()

    before = settings()
    assert ex.fgsm_step.grade(leaking).outcome is Outcome.RIGHT
    assert settings() == before


# --- A loss that somebody follows -----------------------------------------------------------------

FOLLOWED = [exercise for exercise in EXERCISES if "slope" in exercise.asks]


def test_the_losses_that_are_followed_are_these():
    names = [exercise.name for exercise in FOLLOWED]
    assert names == [
        "safe_cross_entropy", "knowing_loss", "ensemble_logits", "scale_free_margin", "worst_loss"
    ]  # fmt: skip


def without_a_part(result):
    """Keep the values, and leave a part of the gradient out."""
    return result * 0.5 + result.detach() * 0.5


def with_nan(result):
    """Keep the values; a root at 0, in a branch that is not taken, makes the gradient nan."""
    root = (result * 0).sqrt()
    return torch.where(result == result, result, root)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda result: result.detach(), evidence.NO_SLOPE),
        (lambda result: torch.tensor(result.tolist()), evidence.NO_SLOPE),
        (lambda result: torch.from_numpy(result.numpy()), evidence.NO_SLOPE),
        (without_a_part, evidence.WRONG_SLOPE),
        (lambda result: 2 * result - result.detach(), evidence.WRONG_SLOPE),
        (with_nan, evidence.BROKEN_SLOPE),
    ],
)
@pytest.mark.parametrize("exercise", FOLLOWED, ids=lambda exercise: exercise.name)
def test_right_values_without_their_gradient_do_not_solve_it(exercise, change, text):
    answer = functools.wraps(exercise.reference)(lambda *args: change(exercise.reference(*args)))
    grade = exercise.grade(answer)
    assert (grade.outcome, grade.solved) == (Outcome.TIDY, False)
    assert f"{text} The task asks for it." in grade.feedback
    assert grade.score < 1


def test_a_gradient_that_is_nan_only_in_a_tie_does_not_solve_it():
    def divides_by_zero(logits, y):
        true = logits.gather(1, y[:, None]).squeeze(1)
        other = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
        spread = logits.amax(dim=1) - logits.amin(dim=1)
        return torch.where(spread == 0, 0, (other - true) / spread)

    grade = lesson10.scale_free_margin.grade(divides_by_zero)
    assert (grade.outcome, grade.solved) == (Outcome.TIDY, False)
    assert evidence.BROKEN_SLOPE in grade.feedback


@pytest.mark.parametrize("exercise", FOLLOWED, ids=lambda exercise: exercise.name)
def test_the_same_gradient_by_another_way_is_right(exercise):
    def rounded_otherwise(*args):
        doubled = [a.double() if getattr(a, "is_floating_point", bool)() else a for a in args]
        return exercise.reference(*doubled)

    answer = functools.wraps(exercise.reference)(rounded_otherwise)
    assert exercise.grade(answer).outcome is Outcome.RIGHT


@pytest.mark.parametrize("exercise", FOLLOWED, ids=lambda exercise: exercise.name)
def test_a_wrong_value_is_told_and_not_the_missing_gradient(exercise):
    """Also where it is wrong on some inputs only."""

    def wrong_in_places(*args):
        result = exercise.reference(*args).detach()
        return torch.where(result > result.mean(), result + 1, result)

    grade = exercise.grade(functools.wraps(exercise.reference)(wrong_in_places))
    assert grade.outcome is Outcome.WRONG
    for text in (evidence.NO_SLOPE, evidence.WRONG_SLOPE, evidence.BROKEN_SLOPE):
        assert text not in grade.feedback


def test_the_noise_of_a_gradient_that_is_zero_is_no_gradient():
    right = torch.tensor([[2.0, -2.0], [0.0, 0.0]])
    assert evidence.wrong_slope([right + 1e-5], [right]) is None
    assert evidence.wrong_slope([right + torch.tensor([[0.0], [0.1]])], [right]) is not None


# --- What the texts ask ---------------------------------------------------------------------------

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
ASKED_IN_WORDS = {
    "dtype": r"\bdtype\b|boolean",
    "model": r"\bmodel\b[^.]*\bas it was|it was\.",
    "detached": r"\bdetach",
    "tensor": r"(?:[Rr]eturn|[Tt]wo|[Bb]oth are)\b(?! the sign)[^.:;]*\btensors?\b",
}


def text_of(exercise):
    """The lesson's own words over an exercise, and its one-paragraph task."""
    (path,) = NOTEBOOKS.glob(f"{exercise.lesson}_*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    check = next(n for n, source in enumerate(cells) if f"ex.{exercise.name}.check(" in source)
    above = next(source for source in reversed(cells[:check]) if "# Exercise" in source)
    return above[above.index("# Exercise") :], exercise.task


@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda one: f"{one.lesson}.{one.name}")
def test_what_a_text_asks_is_asked_by_its_check(exercise):
    words = text_of(exercise)
    for kind, pattern in ASKED_IN_WORDS.items():
        if re.search(pattern, words[0], re.DOTALL):
            assert kind in exercise.asks
    for kind in set(exercise.asks) & set(ASKED_IN_WORDS):
        assert any(re.search(ASKED_IN_WORDS[kind], text, re.DOTALL) for text in words)
