"""The inputs of the exercises hold what digits hold, so that no wrong answer passes by luck."""

from __future__ import annotations

import functools
import inspect

import pytest
import torch
from torch import Tensor, nn

from advlearn.course.grading import evidence
from advlearn.course.grading.slips import _Instead
from advlearn.exercises import Outcome, all_exercises

functional = nn.functional

EXERCISES = [exercise for exercise in all_exercises() if exercise.inputs is not None]
IMAGES = {"x", "moved", "adversarial", "attacked"}
GRADIENTS = {"gradient", "exact", "g", "g_source", "g_target"}


def inputs(exercise):
    """Return the inputs of an exercise, each as a dictionary of its arguments."""
    names = tuple(inspect.signature(exercise.reference).parameters)
    made = exercise.inputs(torch.Generator().manual_seed(0))
    return [dict(zip(names, args, strict=True)) for args in made]


def all_numbers(exercise, name):
    values = [args[name] for args in inputs(exercise)]
    return torch.cat([v.flatten().double() for v in values if isinstance(v, Tensor)])


def signs_taken(exercise):
    """Return every tensor of which the reference takes the sign."""
    taken = []

    def recorded(func, v):
        taken.append(v.detach().clone())
        return func(v)

    for args in exercise.inputs(torch.Generator().manual_seed(0)):
        with _Instead({"sign": recorded, "sgn": recorded}):
            exercise.reference(*evidence.copy_arguments(args))
    return taken


def has_images(exercise, name):
    """Tell whether an argument holds pixels: floating numbers, all of them in [0, 1]."""
    first = inputs(exercise)[0].get(name)
    if not isinstance(first, Tensor) or not first.is_floating_point() or first.ndim < 2:
        return False
    values = all_numbers(exercise, name)
    return bool(((values >= 0) & (values <= 1)).all())


def of(exercises):
    return pytest.mark.parametrize("exercise", exercises, ids=lambda e: f"{e.lesson}.{e.name}")


WITH_IMAGES = [e for e in EXERCISES if any(has_images(e, name) for name in IMAGES)]
WITH_GRADIENTS = [e for e in EXERCISES if GRADIENTS & set(inputs(e)[0])]
WITH_SIGNS = [e for e in EXERCISES if signs_taken(e)]
WITH_MODELS = [e for e in EXERCISES if {"model", "x", "y"} <= set(inputs(e)[0])]


def test_the_rules_below_speak_of_many_exercises():
    assert len(WITH_IMAGES) >= 15
    assert len(WITH_GRADIENTS) >= 5
    assert len(WITH_SIGNS) >= 12
    assert len(WITH_MODELS) >= 6


@of(WITH_IMAGES)
def test_images_have_black_and_white_pixels(exercise):
    for name in IMAGES:
        if has_images(exercise, name):
            values = all_numbers(exercise, name)
            assert (values == 0).any(), name
            assert (values == 1).any(), name


@of(WITH_GRADIENTS)
def test_gradients_are_zero_somewhere(exercise):
    for name in GRADIENTS & set(inputs(exercise)[0]):
        values = all_numbers(exercise, name)
        assert (values == 0).any(), name
        assert (values > 0).any(), name
        assert (values < 0).any(), name


@of(WITH_SIGNS)
def test_the_sign_of_zero_is_taken(exercise):
    taken = torch.cat([v.flatten().double() for v in signs_taken(exercise)])
    assert (taken == 0).any()


@of(WITH_MODELS)
def test_models_have_dead_pixels_and_black_ones_that_should_rise(exercise):
    dead, rising, falling = 0, 0, 0
    for args in inputs(exercise):
        x = args["x"].clone().requires_grad_()
        loss = functional.cross_entropy(args["model"](x), args["y"], reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        dead += int(((gradient == 0) & (x > 0) & (x < 1)).sum())
        rising += int(((gradient > 0) & (x == 0)).sum())
        falling += int(((gradient < 0) & (x == 1)).sum())
    assert dead, "the sign of 0 makes no difference"
    assert rising, "sign(x * gradient) passes"
    assert falling, "no white pixel falls"


WRONG_SIGNS = {
    "+1 at 0": lambda func, v: torch.where(v == 0, torch.ones_like(v), func(v)),
    "-1 at 0": lambda func, v: torch.where(v == 0, -torch.ones_like(v), func(v)),
    "v / |v|": lambda func, v: v / v.abs(),
    "v / (|v| + tiny)": lambda func, v: v / (v.abs() + 1e-3),
    "reversed": lambda func, v: -func(v),
    "none": lambda func, v: v,
}


# Two signs are compared there, and only where neither is 0: these change both alike.
SAME = {("wrong_sign_share", "v / |v|"), ("wrong_sign_share", "reversed")}


@pytest.mark.parametrize("slip", WRONG_SIGNS)
@of(WITH_SIGNS)
def test_a_wrong_sign_is_refused_wherever_a_sign_is_taken(exercise, slip):
    wrong = WRONG_SIGNS[slip]

    def answer(*args):
        with _Instead({"sign": wrong, "sgn": wrong}):
            return exercise.reference(*args)

    answer.__signature__ = inspect.signature(exercise.reference)
    outcome = exercise.grade(answer).outcome
    assert (outcome is Outcome.WRONG) != ((exercise.name, slip) in SAME)


@pytest.mark.parametrize("more", [2e-6, 1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("name", ["in_ball", "is_legal"])
def test_no_allowance_but_that_of_the_task_is_accepted(name, more):
    (exercise,) = (e for e in EXERCISES if e.name == name)

    def answer(x, other, eps):
        near = (other - x).abs() <= eps + more
        if name == "is_legal":
            return (near & (other >= 0) & (other <= 1)).flatten(1).all(1).float()
        return near.flatten(1).all(1)

    answer.__signature__ = inspect.signature(exercise.reference)
    assert exercise.grade(answer).outcome is Outcome.WRONG


EDGES = [
    ("unnoticed_rate", "le", "lt"),
    ("answer_or_refuse", "ge", "gt"),
    ("rubbish_rate", "gt", "ge"),
    ("read_signs", "lt", "le"),
    ("read_signs", "gt", "ge"),
]


@pytest.mark.parametrize(("name", "right", "wrong"), EDGES)
def test_the_edge_of_a_threshold_is_tried(name, right, wrong):
    (exercise,) = (e for e in EXERCISES if e.name == name)

    def other(_func, v, *args):
        return getattr(v, wrong)(*args)

    def answer(*args):
        with _Instead({right: other}):
            return exercise.reference(*args)

    answer.__signature__ = inspect.signature(exercise.reference)
    assert exercise.grade(answer).outcome is Outcome.WRONG


def test_tiny_gradients_and_far_margins_do_not_vanish():
    """Products of gradients, and probabilities, that float32 cannot hold."""
    by_name = {exercise.name: exercise for exercise in EXERCISES}

    def by_product(gradient, exact):
        g, e = gradient.flatten(1), exact.flatten(1)
        return ((g * e <= 0) & (e != 0)).sum(1) / (e != 0).sum(1)

    def by_softmax(lower, upper, y):
        worst = upper.scatter(1, y[:, None], lower.gather(1, y[:, None]))
        return -worst.softmax(1).gather(1, y[:, None])[:, 0].log()

    assert by_name["wrong_sign_share"].grade(by_product).outcome is Outcome.WRONG
    assert by_name["worst_loss"].grade(by_softmax).outcome is Outcome.WRONG


# --- One image, several colours -------------------------------------------------------------------

# Their results have no dimension of examples: vectors of weights, or of numbers of any shape.
WITHOUT_EXAMPLES = {
    "my_sign", "best_perturbation", "stable_softplus", "softplus_slope", "units_from_pieces",
    "two_gradients", "training_step", "gaussian_weights",
}  # fmt: skip


def squeezed(result):
    if isinstance(result, tuple):
        return tuple(map(squeezed, result))
    return result.squeeze(0) if isinstance(result, torch.Tensor) else result


@of([e for e in EXERCISES if e.name not in WITHOUT_EXAMPLES])
def test_a_batch_of_one_is_tried(exercise):
    """`squeeze` takes the dimension of the examples away where there is one example."""
    results = [exercise.reference(**args) for args in inputs(exercise)]
    if not any(isinstance(part, torch.Tensor) for result in results for part in parts(result)):
        pytest.skip("its results are numbers")
    answer = functools.wraps(exercise.reference)(lambda *a: squeezed(exercise.reference(*a)))
    assert exercise.grade(answer).outcome is Outcome.WRONG


def parts(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(
    ("name", "slip"),
    [
        (
            "in_ball",
            lambda x, moved, eps: ((moved - x)[:, 0].abs() <= eps + 1e-6).flatten(1).all(1),
        ),
        (
            "surviving_share",
            lambda x, moved: (
                ((x * 255).round() != (moved * 255).round()).any(dim=1).flatten(1).float().mean(1)
            ),
        ),
        ("max_norm", lambda eta: eta.abs().flatten(2).amax(2)[:, 0]),
    ],
)
def test_each_colour_of_an_image_counts(name, slip):
    (exercise,) = (e for e in EXERCISES if e.name == name)

    def answer(*args):
        return slip(*args) if args[0].dim() == 4 else exercise.reference(*args)

    assert exercise.grade(functools.wraps(exercise.reference)(answer)).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    "name", ["step_towards", "best_perturbation", "my_fgsm", "targeted_fgsm", "pixel_fgsm"]
)
@pytest.mark.parametrize("small", [1e-6, 1e-8])
def test_a_tiny_gradient_gets_a_whole_step(name, small):
    """g / (|g| + a small number) is no sign."""
    (exercise,) = (e for e in EXERCISES if e.name == name)

    def soft(_func, v):
        return v / (v.abs() + small)

    def answer(*args):
        with _Instead({"sign": soft, "sgn": soft}):
            return exercise.reference(*args)

    grade = exercise.grade(functools.wraps(exercise.reference)(answer))
    assert grade.outcome is Outcome.WRONG
