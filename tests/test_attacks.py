"""Attacks against closed forms and against one another, and their details.

What all of them promise is tested in `tests/attacks`, by one table.
"""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advlearn import Bounds, fgsm, input_gradient, linear_step, noise, pgd
from advlearn.attacks import ball_tolerance
from advlearn.data import load_mnist
from advlearn.data.reference import load
from advlearn.directions import directions
from advlearn.losses import (
    adversarial_logistic_loss,
    cross_entropy,
    logistic_loss,
    margin_loss,
)
from advlearn.models import LogisticRegression, MaxoutNet, Normalize
from advlearn.training import Recipe, adversarial_fit
from tests.conftest import make_digits, make_mlp

EPS = 0.1


# --- The optimum of a linear problem ------------------------------------------------------------


@pytest.mark.parametrize("bounds", [None, Bounds(0.0, 1.0)], ids=["unclipped", "clipped"])
def test_fgsm_on_a_linear_model_equals_the_closed_form(bounds):
    torch.manual_seed(1)
    model = LogisticRegression(36).double()
    with torch.no_grad():
        model.linear.weight.normal_()
        model.linear.bias.normal_()
    x = make_digits(200, dtype=torch.float64).flatten(1)
    label = torch.arange(200) % 2
    y = (2 * label - 1).double()
    for eps in (0.0, 1e-3, 0.1, 0.25, 0.9):
        found = fgsm(model, x, label, eps, bounds=bounds)
        loss = logistic_loss(model.score(found), y)
        closed = adversarial_logistic_loss(model.weight, model.bias, x, y, eps, bounds=bounds)
        assert (loss - closed).abs().max() < 1e-12
        assert (cross_entropy(model(found), label) - closed).abs().max() < 1e-12


@pytest.mark.parametrize("dimensions", [1, 2, 5, 10])
@pytest.mark.parametrize("bounds", [None, Bounds(0.0, 1.0)], ids=["unclipped", "clipped"])
def test_no_corner_of_the_box_beats_fgsm(dimensions, bounds):
    torch.manual_seed(dimensions)
    model = LogisticRegression(dimensions).double()
    with torch.no_grad():
        model.linear.weight.normal_()
    x = torch.rand(1, dimensions, dtype=torch.float64)
    for label in (0, 1):
        y = torch.tensor([label])
        best = cross_entropy(model(fgsm(model, x, y, 0.3, bounds=bounds)), y)
        signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=dimensions)))
        box = x + 0.3 * signs.double()
        box = box if bounds is None else box.clamp(*bounds)
        worst = cross_entropy(model(box), y.expand(len(box))).max()
        assert best >= worst - 1e-12
        assert torch.isclose(best, worst, rtol=0, atol=1e-12)  # and the best is one of them


# --- Confident examples: the float32 trap -------------------------------------------------------


def confident_model(margin: float) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Build a three-class linear model whose margin on x is `margin`, weights about .05 apart."""
    generator = torch.Generator().manual_seed(3)
    model = nn.Linear(400, 3)
    x = torch.rand(1, 400, generator=generator)
    with torch.no_grad():
        model.weight.copy_(0.05 * torch.randn(3, 400, generator=generator))
        model.bias.zero_()
        z = model(x.double().float())[0]
        model.bias[1:] = -z[1:]
        model.bias[0] = margin + torch.log(torch.tensor(2.0)) - z[0]
    return model, x, torch.tensor([0])


def wrong_signs(model, x, y, gradient) -> float:
    """Compare the signs with those of float64 arithmetic, where the margin is no trouble."""
    exact = nn.Linear(400, 3).double()
    exact.load_state_dict(model.state_dict())
    truth = input_gradient(exact, x.double(), y, loss=margin_loss).sign()
    clear = input_gradient(exact, x.double(), y, loss=margin_loss).abs() > 1e-4
    return float((gradient.double().sign() != truth)[clear].double().mean())


@pytest.mark.parametrize("margin", [1, 5, 10, 15, 16, 17, 18, 20, 30, 50, 80, 87, 90])
def test_cross_entropy_gives_the_right_signs_to_a_margin_of_90(margin):
    model, x, y = confident_model(margin)
    assert wrong_signs(model, x, y, input_gradient(model, x, y, loss=cross_entropy)) == 0


@pytest.mark.parametrize("margin", [*range(1, 201, 7), 103, 104, 110, 150, 200])
def test_margin_loss_gives_the_right_signs_to_any_margin(margin):
    model, x, y = confident_model(margin)
    assert wrong_signs(model, x, y, input_gradient(model, x, y, loss=margin_loss)) == 0


@pytest.mark.parametrize("margin", [1, 16, 18, 50, 103, 110, 200])
@pytest.mark.parametrize("attack", [fgsm, lambda *a: pgd(*a, steps=2, random_start=False)])
def test_attacks_on_the_default_loss_go_the_right_way_at_any_margin(attack, margin):
    model, x, y = confident_model(margin)
    truth = input_gradient(model, x, y, loss=margin_loss)
    moved = attack(model, x, y, 0.01)
    clear = (truth.abs() > 1e-4) & (x > 0.02) & (x < 0.98)
    assert ((moved - x).sign() == truth.sign())[clear].all()


@pytest.mark.parametrize(
    ("margin", "least", "most"),
    [(10, 0.0, 0.0), (15, 0.0, 0.1), (18, 0.1, 0.6), (40, 0.1, 0.6), (110, 1.0, 1.0)],
)
def test_where_pytorchs_own_cross_entropy_fails(margin, least, most):
    """Documented, not wished for: if a release of PyTorch mends it, this test will say so."""
    model, x, y = confident_model(margin)
    with directions(silent=True):  # at the largest margin there is none
        gradient = input_gradient(model, x, y, loss=F.cross_entropy)
    assert least <= wrong_signs(model, x, y, gradient) <= most


# --- Relations between them, and details ----------------------------------------------------------


def test_eps_is_in_pixel_units_whatever_the_model_does_inside(digits, labels, mlp):
    inner = nn.Sequential(Normalize([0.1307], [0.3081]), mlp)
    moved = fgsm(inner, digits, labels, 0.25)
    assert (moved - digits).abs().max() == pytest.approx(0.25, abs=1e-6)


def test_linear_step_sweeps_eps_without_a_new_gradient(mlp, digits, labels):
    gradient = input_gradient(mlp, digits, labels)
    for eps in (0.0, 0.1, 0.25):
        assert linear_step(digits, gradient, eps).equal(fgsm(mlp, digits, labels, eps))


def test_pgd_stays_in_the_ball_and_beats_fgsm():
    torch.manual_seed(0)
    model = MaxoutNet(36, (16, 16), pieces=3, classes=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(60)
    x, y = make_digits(), torch.arange(24) % 4
    model.eval()
    one = cross_entropy(model(fgsm(model, x, y, EPS)), y)
    found = pgd(model, x, y, EPS, steps=20, random_start=False)
    many = cross_entropy(model(found), y)
    assert (found - x).abs().max() <= EPS + ball_tolerance(x, EPS)
    assert found.min() >= 0
    assert found.max() <= 1
    assert many.mean() > one.mean()


def test_pgd_of_one_whole_step_is_fgsm(mlp, digits, labels):
    one = pgd(mlp, digits, labels, EPS, steps=1, step_size=EPS, random_start=False)
    torch.testing.assert_close(one, fgsm(mlp, digits, labels, EPS))


def textbook(model, x, y, eps, *, steps, step_size, generator, bounds=(0.0, 1.0)):
    """The walk of Madry et al., as a loop: it gives its last iterate."""
    low, high = (x - eps).clamp(min=bounds[0]), (x + eps).clamp(max=bounds[1])
    moved = noise(x, eps, generator=generator, bounds=None).clamp(low, high)
    for _ in range(steps):
        gradient = input_gradient(model, moved, y, loss=margin_loss)
        moved = linear_step(moved, gradient, step_size, bounds=None).clamp(low, high)
    return moved


def test_the_last_iterate_is_that_of_the_textbook_bit_for_bit():
    """What was trained with `pgd` before it kept the best is trained the same with "last"."""
    model, x, y = make_mlp(scale=3.0), make_digits(), torch.arange(24) % 4
    for steps, step_size in ((3, 0.05), (7, 0.1)):
        found = pgd(
            model,
            x,
            y,
            0.2,
            steps=steps,
            step_size=step_size,
            keep="last",
            generator=torch.Generator().manual_seed(5),
        )
        own = torch.Generator().manual_seed(5)
        expected = textbook(model, x, y, 0.2, steps=steps, step_size=step_size, generator=own)
        assert found.equal(expected)


def test_training_with_the_last_iterate_gives_the_weights_of_the_textbook():
    x, y = make_digits(), torch.arange(24) % 4
    recipe = Recipe(epochs=2, batch_size=8, lr=0.1, seed=0)
    trained = []
    for attack in (partial(pgd, keep="last"), textbook):
        model = make_mlp()
        walk = partial(attack, steps=3, step_size=0.05, generator=torch.Generator().manual_seed(5))
        adversarial_fit(model, (x, y), recipe, eps=0.2, attack=walk, progress=False)
        trained.append(model.state_dict())
    assert all(trained[0][name].equal(value) for name, value in trained[1].items())


def test_what_is_kept_is_named_before_any_work():
    x, y = make_digits(), torch.arange(24) % 4
    with pytest.raises(ValueError, match="keep must be one of best, first, last, got 'strongest'"):
        pgd(make_mlp(), x, y, 0.1, keep="strongest")


def test_pgd_finds_on_the_robust_network_what_its_last_step_loses():
    """At eps .35 the last of ten steps has lost again a fifth of what they found."""
    digits, model = load_mnist("test", source="offline").take(slice(0, 100)), load("robust")
    lost = {}
    for keep in ("last", "best", "first"):
        own = torch.Generator().manual_seed(0)
        moved = pgd(model, *digits, 0.35, steps=10, keep=keep, generator=own)
        lost[keep] = model(moved).argmax(1) != digits.y
        assert (moved - digits.x).abs().max() <= 0.35 + ball_tolerance(digits.x, 0.35)
    assert lost["best"].equal(lost["first"])
    assert (lost["best"] | ~lost["last"]).all()
    assert int(lost["best"].sum()) >= int(lost["last"].sum()) + 5


def test_pixels_that_pass_the_bounds_by_rounding_are_accepted_and_clamped():
    x, y = make_digits(4), torch.arange(4)
    x[0, 0, 0, 0] = 1 + 2e-7
    assert fgsm(make_mlp(), x, y, 0.1).max() == 1


def test_noise_takes_eps_that_is_shaped_already(digits):
    """As (N, 1, 1, 1), which is how `pgd` hands it on."""
    eps = torch.linspace(0, 0.2, 24)
    flat, shaped = (
        noise(digits, each, generator=torch.Generator().manual_seed(0))
        for each in (eps, eps.reshape(-1, 1, 1, 1))
    )
    assert flat.equal(shaped)


RGB = torch.tensor([0.0, 0.05, 0.2])
BY_CHANNEL = {
    "fgsm": lambda m, x, y, eps: fgsm(m, x, y, eps, bounds=None),
    "pgd": lambda m, x, y, eps: pgd(m, x, y, eps, steps=3, bounds=None),
    "pgd, restarts": lambda m, x, y, eps: pgd(m, x, y, eps, steps=2, restarts=3, bounds=None),
    "noise": lambda m, x, y, eps: noise(x, eps, kind="sign", bounds=None),
    "linear step": lambda m, x, y, eps: linear_step(x, input_gradient(m, x, y), eps, bounds=None),
}


@pytest.mark.parametrize("attack", BY_CHANNEL.values(), ids=BY_CHANNEL)
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (3, 1, 1)], ids=str)
@pytest.mark.parametrize("count", [1, 3, 4])
def test_eps_may_differ_by_channel(attack, shape, count):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(75, 4))
    x, y = torch.rand(count, 3, 5, 5), torch.arange(count)
    moved = (attack(model, x, y, RGB.view(shape)) - x).abs()
    assert (moved <= RGB.view(1, 3, 1, 1) + ball_tolerance(x, RGB)).all()
    assert moved[:, 0].eq(0).all()
    assert (moved[:, 1:].amax((2, 3)) > 0.5 * RGB[1:]).all()


def test_works_when_float64_is_the_default(digits, labels):
    torch.set_default_dtype(torch.float64)
    try:
        model = make_mlp(dtype=torch.float64)
        assert fgsm(model, digits.double(), labels, EPS).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("attack", [fgsm, partial(pgd, steps=2)], ids=["fgsm", "pgd"])
def test_adversarial_images_lie_in_memory_as_the_images_do(attack, channels):
    """Convolutions go by the strides, also where one channel makes both layouts the same."""
    x = torch.rand(4, channels, 6, 6).to(memory_format=torch.channels_last)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36 * channels, 3))
    y = torch.tensor([0, 1, 2, 0])
    assert attack(model, x, y, 0.1).stride() == x.stride()
    assert attack(model, x.contiguous(), y, 0.1).stride() == x.contiguous().stride()
