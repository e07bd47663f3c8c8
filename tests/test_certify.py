"""Certificates: no attack succeeds on what is certified; no bound is tighter than the truth.

What is exact (linear models, one layer, the RBF network) is compared with the exact value; tiny
ReLU networks with linear programs, one for each pattern of units that are on. Planted certificates
that prove too much must fail the same checks.
"""

from __future__ import annotations

import itertools
import random
import threading
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from advlearn import certify, intervals
from advlearn.attacks import fgsm, noise, pgd, square
from advlearn.certify import (
    UnboundedError,
    certified,
    certified_error_rate,
    logit_bounds,
    margin_bounds,
    propagate,
)
from advlearn.data import load_mnist, reference, subset_classes
from advlearn.functional import log_mean_softmax
from advlearn.intervals import Interval
from advlearn.losses import margin_loss
from advlearn.models import (
    ConvMaxoutNet,
    ConvNet,
    Ensemble,
    LogisticRegression,
    MaxoutNet,
    Normalize,
    RBFNet,
    SoftmaxRegression,
    TwoLogits,
)
from tests.attacks.table import same, snapshot
from tests.conftest import make_digits, make_mlp

pytestmark = pytest.mark.usefixtures("one_thread")

X, Y = make_digits(), torch.arange(24) % 4


def drawn(model: nn.Module, seed: int = 0, scale: float = 1.0) -> nn.Module:
    """Give a model weights of a seed, and running statistics where it has some."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                width = scale / max(1, value[0].numel()) ** 0.5 if value.dim() > 1 else 0.3
                value.copy_(width * torch.randn(value.shape, generator=generator))
                if name.endswith("running_var"):
                    value.abs_().add_(0.5)
    return model.eval()


class InPlace(nn.Module):
    """Writes into its input, into views, into what the last layer gave, or was given."""

    def __init__(self, given: bool = False) -> None:
        super().__init__()
        self.given = given
        self.first, self.last = nn.Linear(36, 8), nn.Linear(8, 4)

    def forward(self, x):
        x -= 0.1
        flat = x.flatten(1)
        flat[:, :18].mul_(-1.5)
        hidden = self.first(x.flatten(1)).clamp_min(0)
        logits = self.last(hidden)
        if self.given:
            hidden.neg_()
        else:
            logits.view(-1)[::2].neg_()
        return logits


class Scaled(nn.Module):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, z):
        return 3 * (z / self.temperature)


class Steps(nn.Module):
    def forward(self, x):
        return (x * 5).round() / 5


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(36, n) for n in (36, 36, 4))

    def forward(self, x):
        x = x.flatten(1)
        x = x + self.second(torch.relu(self.first(x))) * 0.3
        a, b = x.chunk(2, 1)
        x = torch.cat((a * b.sigmoid(), (a - b).abs()), dim=1)
        return self.last(x - x.mean(1, keepdim=True)) / 2


NETWORKS = {
    "softmax regression": lambda: SoftmaxRegression(36, 4),
    "ReLU": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 4)),
    "dropout and BatchNorm": make_mlp,
    "convolutions": lambda: ConvNet((2, 3), dense=8, classes=4, size=6),
    "maxout": lambda: MaxoutNet(36, (8, 6), pieces=2, classes=4),
    "convolutional maxout": lambda: ConvMaxoutNet((2,), dense=4, classes=4, size=6, colours=1),
    "normalised": lambda: nn.Sequential(Normalize(0.4, 0.3), SoftmaxRegression(36, 4)),
    "ensemble": lambda: Ensemble([SoftmaxRegression(36, 4), make_mlp()]),
    "BatchNorm of images": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(3),
        nn.LeakyReLU(inplace=True),
        nn.AvgPool2d(2, padding=1, count_include_pad=False),
        nn.Flatten(),
        nn.BatchNorm1d(48, affine=False),
        nn.Linear(48, 4),
        nn.LogSoftmax(1),
    ),
    "smooth": lambda: nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Flatten(),
        nn.Unflatten(1, (1, 36)),
        nn.Linear(36, 10),
        nn.Softplus(),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(10, 4),
    ),
    "in place": InPlace,
    "in place, what the last layer was given": lambda: InPlace(given=True),
    "quantised": lambda: nn.Sequential(Steps(), SoftmaxRegression(36, 4)),
    "the other way round": lambda: nn.Sequential(SoftmaxRegression(36, 4), Scaled(-0.5)),
    "residual": Residual,
    "RBF": lambda: RBFNet(36, 4),
}


def corners(x, eps, count, generator):
    for _ in range(count):
        signs = torch.randint(2, x.shape, generator=generator) * 2 - 1
        yield (x + eps * signs).clamp(0, 1)


def attacked(model, x, y, eps, effort=1):
    """Say which examples an attack of any kind makes wrong."""
    generator = torch.Generator().manual_seed(0)
    drawn = {"generator": generator}
    tries = [x]
    if eps:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a quantised model has no direction
            walk = {"steps": 10, "step_size": eps / 4, "restarts": effort, "loss": margin_loss}
            tries += [
                fgsm(model, x, y, eps),
                fgsm(model, x, y, eps, loss=margin_loss),
                pgd(model, x, y, eps, **walk, **drawn),
                square(model, x, y, eps, queries=30 * effort, **drawn),
                noise(x, eps, **drawn),
                *corners(x, eps, 20 * effort, generator),
            ]
    with torch.no_grad():
        return torch.stack([model(moved.clone()).argmax(1) != y for moved in tries]).any(0)


def check_no_attack(names=tuple(NETWORKS), sizes=(0.0, 0.01, 0.03, 0.1)):
    """Require that certified examples resist, of random networks, and that there are some."""
    for name in names:
        count = 0
        for seed in range(2):
            model = drawn(NETWORKS[name](), seed, scale=2.0 if seed else 1.0)
            with torch.no_grad():
                y = model(X.clone()).argmax(1)
            for eps in sizes:
                proved = certified(model, X, y, eps)
                assert not bool((proved & attacked(model, X, y, eps)).any()), f"{name}, eps {eps}"
                count += int(proved.sum())
        assert count, f"{name}: nothing is certified"


@pytest.mark.parametrize("name", NETWORKS)
def test_no_attack_succeeds_on_what_is_certified(name):
    check_no_attack([name])


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_in_the_ball_lie_in_their_bounds(name):
    check_logits_inside([name])


def check_logits_inside(names=tuple(NETWORKS)):
    generator = torch.Generator().manual_seed(0)
    for name, eps in itertools.product(names, (0.0, 0.05, 0.5)):
        model = drawn(NETWORKS[name](), 3).double()
        x = X.double()
        bounds, margins = logit_bounds(model, x, eps), margin_bounds(model, x, Y, eps)
        points = [noise(x, eps, generator=generator) for _ in range(8)]
        for moved in [x, *points, *corners(x, eps, 24, generator)]:
            with torch.no_grad():
                z = model(moved.clone())
            slack = 1e-9 * (1 + z.abs())
            assert bool((z >= bounds.lower - slack).all()), f"{name}: below"
            assert bool((z <= bounds.upper + slack).all()), f"{name}: above"
            apart = z.gather(1, Y.unsqueeze(1)) - z
            assert bool((apart >= margins - 1e-9 * (1 + z.abs())).all()), f"{name}: margin"


class Cancelling(nn.Module):
    """Adds a large number and takes it away: what is left of float32 is a matter of rounding."""

    def __init__(self, way: str, large: float) -> None:
        super().__init__()
        self.way, self.large = way, large
        self.first, self.last = nn.Linear(36, 16), nn.Linear(16, 4)
        if way == "bias":
            with torch.no_grad():
                self.first.bias += large
                self.last.bias -= self.last.weight @ torch.full((16,), large)

    def forward(self, x):
        hidden = self.first(x.flatten(1))
        if self.way == "sum":
            hidden = (hidden + self.large) - self.large
        if self.way == "mean":
            hidden = torch.cat((hidden, hidden + self.large), 1)
            hidden = (hidden - hidden.mean(1, keepdim=True))[:, :16] + self.large / 2
        return self.last(hidden)


@pytest.mark.parametrize("way", ["bias", "sum", "mean"])
@pytest.mark.parametrize("large", [1e3, 1e5, 1e7])
def test_rounding_breaks_no_certificate(way, large):
    """Here the answer changes with the last bits of pixels, by far more than the weights say."""
    generator, proved_at_all = torch.Generator().manual_seed(0), 0
    x = torch.rand(300, 36, generator=generator)
    for seed in range(3):
        torch.manual_seed(seed)
        model = Cancelling(way, large)
        with torch.no_grad():
            y = model(x).argmax(1)
            for eps in (1e-6, 1e-4):
                proved = certified(model, x, y, eps)
                moved = list(corners(x, eps, 20, generator))
                lost = torch.stack([model(z).argmax(1) != y for z in moved]).any(0)
                assert not bool((proved & lost).any())
                proved_at_all += int(proved.sum())
    if large != 1e5:  # where some examples are left, or none
        assert bool(proved_at_all) == (large < 1e5)


@pytest.mark.parametrize("way", ["bias", "sum", "mean"])
def test_a_proof_that_forgets_rounding_is_caught(monkeypatch, way):
    monkeypatch.setattr(intervals, "_error", lambda terms, like: 0.0)
    assert fails(partial(test_rounding_breaks_no_certificate, way, 1e7))


# --- The models of the course ---------------------------------------------------------------------


DIGITS = load_mnist("test", source="offline").take(slice(0, None, 25))
# Where something is certified, and where most falls.
SIZES = {"certified": (0.1, 0.3, 0.4)}
MODELS = [
    (name, eps)
    for name in reference.index()
    for eps in SIZES.get(name, (0.02, 0.1))
    if name != "cifar"
]


@pytest.mark.parametrize(("name", "eps"), MODELS)
def test_certified_is_at_most_what_survives_for_every_digit_of_a_reference_model(name, eps):
    model = reference.load(name)
    with torch.no_grad():
        two = model(DIGITS.x[:1]).shape[1] == 2
    x, y = subset_classes(DIGITS, [3, 7]) if two else DIGITS
    proved, lost = certified(model, x, y, eps), attacked(model, x, y, eps)
    assert not bool((proved & lost).any())
    rate = certified_error_rate(model, (x, y), eps, progress=False)
    assert rate.count == int((~proved).sum()) >= int(lost.sum())


def test_images_of_other_shapes_are_bounded():
    model = reference.load("cifar")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = model(x)
    eps = torch.tensor([0.0, 1e-3, 1e-3]).reshape(1, 3, 1, 1)
    bounds = logit_bounds(model, x, eps)
    assert bool(((bounds.lower < z) & (z < bounds.upper)).all())
    moved = fgsm(model, x, torch.tensor([0, 1, 2]), eps)
    with torch.no_grad():
        z = model(moved)
    assert bool(((bounds.lower <= z) & (z <= bounds.upper)).all())


# --- Exact results --------------------------------------------------------------------------------


LINEAR = {
    "softmax regression": lambda: SoftmaxRegression(36, 4),
    "behind a normalisation": lambda: nn.Sequential(Normalize(0.4, 0.3), SoftmaxRegression(36, 4)),
    "logarithms of probabilities": lambda: nn.Sequential(
        SoftmaxRegression(36, 4), nn.LogSoftmax(1)
    ),
    "an ensemble of one": lambda: Ensemble([SoftmaxRegression(36, 4)]),
    "with a temperature": lambda: nn.Sequential(SoftmaxRegression(36, 4), Scaled(2.5)),
}


def check_linear(names=tuple(LINEAR), options=({}, {"bounds": None})):
    """Require the margin after FGSM, the exact minimum, of linear models."""
    for name, option in itertools.product(names, options):
        model, x = drawn(LINEAR[name](), 1).double(), X.double()
        for eps, k in itertools.product((0.0, 0.02, 0.3), range(4)):

            def apart(z, y, k=k):
                return z[:, k] - z.gather(1, y.unsqueeze(1)).squeeze(1)

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # k is the label of some: no direction
                moved = fgsm(model, x, Y, eps, loss=apart, **option)
            with torch.no_grad():
                exact = -apart(model(moved), Y)
            margins = margin_bounds(model, x, Y, eps, **option)[:, k]
            assert torch.allclose(margins, exact, rtol=1e-9, atol=1e-9), name


@pytest.mark.parametrize("name", LINEAR)
def test_the_margin_of_a_linear_model_is_that_after_fgsm(name):
    check_linear([name])


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: TwoLogits(m.score)], ids=["own", "one"])
def test_the_margin_of_logistic_regression_is_that_after_fgsm(wrap):
    model, x, y = drawn(LogisticRegression(36), 1).double(), X.double(), Y % 2
    for eps in (0.0, 0.02, 0.3):
        margins = margin_bounds(wrap(model), x, y, eps)
        with torch.no_grad():
            z = model(fgsm(model, x, y, eps))
        exact = z.gather(1, y.unsqueeze(1)) - z
        torch.testing.assert_close(margins, exact, rtol=1e-9, atol=1e-9)


def least_margin(first, last, low, high, y, k):
    """Return the exact minimum of z_y - z_k of last(relu(first(x))) over a box, by linear programs.

    Where a set of units is on and the others off, the network is linear: one program each.
    """
    w, b = first.weight.double(), first.bias.double()
    row, shift = (v[y] - v[k] for v in (last.weight.double(), last.bias.double()))
    least = torch.inf
    for pattern in itertools.product((0.0, 1.0), repeat=len(b)):
        on = torch.tensor(pattern).double()
        sign = 1 - 2 * on  # w x + b >= 0 where on, <= 0 where off
        answer = linprog(
            ((row * on) @ w).numpy(),
            A_ub=(sign.unsqueeze(1) * w).numpy(),
            b_ub=(-sign * b).numpy(),
            bounds=list(zip(low.tolist(), high.tolist(), strict=True)),
        )
        if answer.success:
            least = min(least, answer.fun + float((row * on) @ b + shift))
    return least


def check_tiny_networks():
    """Require bounds that are never tighter than the truth, and not far from it."""
    gaps = []
    for seed in range(4):
        first, last = drawn(nn.Linear(3, 4), seed), drawn(nn.Linear(4, 3), seed + 50)
        model = nn.Sequential(first, nn.ReLU(), last).double()
        x = torch.rand(2, 3, generator=torch.Generator().manual_seed(seed)).double()
        y = torch.tensor([0, 2])
        eps = 0.15
        margins = margin_bounds(model, x, y, eps)
        for i, k in itertools.product(range(2), range(3)):
            if k == y[i]:
                continue
            low, high = (x[i] - eps).clamp(0), (x[i] + eps).clamp(max=1)
            exact = least_margin(first, last, low, high, int(y[i]), k)
            assert float(margins[i, k]) <= exact + 1e-9, "a bound above the minimum"
            gaps.append(exact - float(margins[i, k]))
    assert max(gaps) < 0.5
    assert min(gaps) < 1e-6, "no bound is exact, not even where no unit changes sides"


def test_bounds_of_tiny_networks_are_never_tighter_than_linear_programs():
    with torch.no_grad():
        check_tiny_networks()


def test_bounds_of_one_layer_equal_a_linear_program():
    """With all units on, the two layers are one, and the second bounds the first's exactly."""
    for seed in range(3):
        layer = drawn(nn.Linear(4, 3), seed).double()
        x = torch.rand(1, 4, generator=torch.Generator().manual_seed(seed)).double()
        margins = margin_bounds(layer, x, torch.tensor([1]), 0.2)
        for k in (0, 2):
            row = (layer.weight[1] - layer.weight[k]).detach()
            limits = torch.stack(((x[0] - 0.2).clamp(0), (x[0] + 0.2).clamp(max=1)), 1).tolist()
            answer = linprog(row.numpy(), bounds=limits)
            exact = answer.fun + float((layer.bias[1] - layer.bias[k]).detach())
            assert float(margins[0, k]) == pytest.approx(exact, abs=1e-9)


def rbf_worst(model, x, y, k, eps):
    """Return the image within eps that is best for class k against y: pixel by pixel, on a grid."""
    own, other = model.centre[y], model.centre[k]
    b_own, b_other = model.log_precision[y].exp(), model.log_precision[k].exp()
    low, high = (x - eps).clamp(0).flatten(), (x + eps).clamp(max=1).flatten()
    grid = torch.linspace(0, 1, 401, dtype=x.dtype).unsqueeze(1)
    points = low + grid * (high - low)  # (401, d)
    change = b_other * (points - other).square() - b_own * (points - own).square()
    return points.gather(0, change.argmin(0, keepdim=True)).squeeze(0)


def test_the_rbf_network_is_certified_exactly():
    """Each example is certified, or an attack that minimises each pixel by itself succeeds."""
    model = drawn(RBFNet(36, 4)).double()
    with torch.no_grad():
        model.log_precision.mul_(2).sub_(2)
        x = X.double()
        y = model(x).argmax(1)
        outcomes = []
        for eps in (0.02, 0.1, 0.3):
            proved = certified(model, x, y, eps)
            margins = margin_bounds(model, x, y, eps)
            for i, label in enumerate(y.tolist()):
                found = []
                for k in range(4):
                    worst = rbf_worst(model, x[i], label, k, eps).unsqueeze(0)
                    z = model(worst)[0]
                    assert z[label] - z[k] >= margins[i, k] - 1e-9
                    found.append(z.argmax() != label)
                assert bool(proved[i]) != any(found)
                outcomes.append(bool(proved[i]))
    assert 0 < sum(outcomes) < len(outcomes)


def test_margins_of_the_rbf_network_hold_near_the_centre_and_far_away():
    """Where the logit saturates, and where the label is not the nearest class."""
    generator = torch.Generator().manual_seed(0)
    model = drawn(RBFNet(2, 3)).double()
    with torch.no_grad():
        model.centre.copy_(torch.tensor([[0.5, 0.5], [0.5, 0.502], [0.9, 0.1]]))
        model.log_precision.copy_(torch.tensor([[0.0, 0.0], [0.2, -0.2], [1.0, 1.0]]))
        x = torch.tensor([[0.5, 0.5], [0.5, 0.501], [0.9, 0.1], [0.2, 0.9]]).double().repeat(3, 1)
        y = torch.arange(3).repeat_interleave(4)
        for eps in (1e-4, 1e-3, 0.05, 0.3):
            margins = margin_bounds(model, x, y, eps)
            moved = x + eps * (2 * torch.rand(3000, *x.shape, generator=generator) - 1)
            z = model(moved.clamp(0, 1).flatten(0, 1)).unflatten(0, (3000, len(x)))
            least = (z.gather(2, y.expand(3000, -1).unsqueeze(2)) - z).amin(0)
            assert bool((margins <= least + 1e-9 * (1 + least.abs())).all())


# --- Planted certificates -------------------------------------------------------------------------


def centre_and_radius(x, weight, bias=None, *, absolute=True, on_radius=False):
    centre = F.linear(x.centre, weight, bias)
    radius = F.linear(x.radius, weight.abs() if absolute else weight, bias if on_radius else None)
    return Interval(centre - radius, centre + radius)


def half_the_radius(x, *args, **options):
    inside = Interval(x.centre - x.radius / 2, x.centre + x.radius / 2)
    return intervals._linear(inside, *args, **options)


def radius_through_relu(x):
    radius = x.radius * (x.centre > 0)
    return Interval(x.centre.relu() - radius, x.centre.relu() + radius)


def smaller(whole):
    return lambda x, eps, box: whole(x, eps * 0.7, box)


def clamped_always(whole):
    return lambda x, eps, box: whole(x, eps, (0.0, 1.0))


def never_clamped(whole):
    return lambda x, eps, box: whole(x, eps, None)


def upper_less_lower(self, y):
    own = y.unsqueeze(1)
    return (self.upper.gather(1, own) - self.lower).scatter(1, own, 0.0)


def written_over(self):
    return self._apart


def the_means_margin(logits):
    logs = [intervals._log_softmax(z, 1) for z in logits]
    mean = intervals._on_ends(lambda *ends: torch.stack(ends).logsumexp(0), *logs)
    known = [intervals._comparison(z) for z in logs]
    return Interval(mean.lower, mean.upper, lambda y: torch.stack([m(y) for m in known]).amax(0))


RELU, LINEAR_MODEL = ["ReLU"], ["softmax regression"]
MUTANTS = {
    "|W| forgotten": (
        F.linear,
        partial(centre_and_radius, absolute=False),
        partial(check_logits_inside, RELU),
    ),
    "the bias on the radius, too": (
        F.linear,
        partial(centre_and_radius, on_radius=True),
        partial(check_logits_inside, RELU),
    ),
    "half the radius": (F.linear, half_the_radius, check_tiny_networks),
    "the radius through ReLU": (F.relu, radius_through_relu, check_tiny_networks),
    "a rule that is another function's": (
        F.leaky_relu,
        lambda x, *_, **__: intervals._on_ends(F.gelu, x),
        partial(check_logits_inside, ["BatchNorm of images"]),
    ),
    "the best member's margin": (
        log_mean_softmax,
        the_means_margin,
        partial(check_logits_inside, ["ensemble"]),
    ),
    "a smaller box": ("interval", smaller, partial(check_linear, LINEAR_MODEL)),
    "always clamped": ("interval", clamped_always, partial(check_linear, LINEAR_MODEL)),
    "never clamped": ("interval", never_clamped, partial(check_linear, LINEAR_MODEL)),
    "the best margin, not the worst": (
        "margins",
        lambda _: upper_less_lower,
        partial(check_no_attack, RELU),
    ),
    "margins of before a write": (
        "apart",
        lambda _: property(written_over),
        partial(check_logits_inside, ["in place"]),
    ),
    "margins of what has been written to": (
        "_writes",
        lambda _: lambda *_: (0,),
        partial(check_logits_inside, ["in place, what the last layer was given"]),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_certificate_is_caught(monkeypatch, name):
    place, planted, check = MUTANTS[name]
    if isinstance(place, str):
        owner = {"interval": certify, "_writes": intervals}.get(place, Interval)
        monkeypatch.setattr(owner, place, planted(getattr(owner, place)))
    else:
        monkeypatch.setitem(intervals._RULES, place, planted)
    with torch.no_grad():
        assert fails(check)


def fails(check):
    """Tell whether a check fails, or a model is refused, whose own logits are out of bounds."""
    try:
        check()
    except AssertionError:
        return True
    except UnboundedError as error:
        return "outside of their bounds" in str(error)
    return False


# --- The contract ---------------------------------------------------------------------------------


def untouched(model, call):
    before, images = snapshot(model), X.clone()
    call()
    assert same(before, snapshot(model))
    assert X.equal(images)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_images_come_back_as_they_were(training):
    model = make_mlp().train(training)
    model[2].eval()
    model[5].weight.grad = torch.ones_like(model[5].weight)
    model[1].bias.requires_grad_(False)
    for call in (logit_bounds, partial(certified, y=Y), partial(margin_bounds, y=Y)):
        untouched(model, lambda call=call: call(model, X, eps=0.1))
    untouched(model, lambda: certified_error_rate(model, (X, Y), 0.1, progress=False))


def test_a_model_that_fails_comes_back_as_it_was():
    for last in (nn.GELU(), nn.Linear(5, 5), nn.Softmax(1)):
        model = nn.Sequential(make_mlp(), last)
        with pytest.raises((ValueError, RuntimeError)):
            untouched(model, lambda model=model: certified(model, X, Y, 0.1))
        before = snapshot(model)
        with pytest.raises((ValueError, RuntimeError)):
            certified(model, X, Y, 0.1)
        assert same(before, snapshot(model))
        assert not intervals._WALK.get()


def test_a_model_in_training_is_certified_as_in_use():
    model = make_mlp().train()
    assert certified(model, X, Y, 0.01).equal(certified(make_mlp().eval(), X, Y, 0.01))


def test_a_model_that_writes_into_its_input_leaves_the_images_alone():
    model = drawn(InPlace())
    untouched(model, lambda: certified(model, X, Y, 0.1))
    untouched(model, lambda: certified(model, X, Y, 0.1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_have_the_models_dtype_and_no_graph(dtype):
    model, x = make_mlp(dtype=dtype), X.to(dtype, copy=True).requires_grad_()
    bounds, margins = logit_bounds(model, x, 0.1), margin_bounds(model, x, Y, 0.1)
    for value in (bounds.lower, bounds.upper, margins):
        assert value.dtype == dtype
        assert value.shape == (24, 4)
        assert not value.requires_grad
    assert certified(model, x, Y, 0.1).dtype == torch.bool
    assert x.grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_works_in_any_mode_of_autograd(mode):
    expected = margin_bounds(make_mlp(), X, Y, 0.1)
    with mode():
        assert margin_bounds(make_mlp(), X.clone(), Y, 0.1).equal(expected)


def test_eps_may_differ_between_examples_and_channels():
    model = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)))
    x = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    y = torch.arange(4)
    sizes = torch.tensor([0.0, 0.01, 0.05, 0.2])
    each = [margin_bounds(model, x[i : i + 1], y[i : i + 1], float(sizes[i])) for i in range(4)]
    together = margin_bounds(model, x, y, sizes)
    torch.testing.assert_close(together, torch.cat(each), rtol=1e-5, atol=1e-6)
    by_channel = torch.tensor([0.0, 0.05, 0.0]).reshape(1, 3, 1, 1)
    narrow, wide = margin_bounds(model, x, y, by_channel), margin_bounds(model, x, y, 0.05)
    assert bool((narrow >= wide - 1e-6).all())
    assert bool((narrow > wide + 1e-3).any())
    with pytest.raises(ValueError, match="eps must be a number"):
        margin_bounds(model, x, y, torch.ones(5) / 10)
    data = (x, y)
    rate = certified_error_rate(model, data, sizes, batch_size=3, progress=False)
    assert rate.count == int((~certified(model, x, y, sizes)).sum())


def test_larger_eps_certifies_less_and_eps_0_what_is_right():
    model = drawn(NETWORKS["ReLU"](), 1)
    with torch.no_grad():
        right = model(X).argmax(1) == Y
    masks = [certified(model, X, Y, eps) for eps in (0.0, 0.005, 0.02, 0.1, 0.9)]
    assert masks[0].equal(right)
    for less, more in itertools.pairwise(reversed(masks)):
        assert bool((~less | more).all())
    assert not masks[-1].any()


def test_without_bounds_the_box_is_not_clamped():
    model = drawn(SoftmaxRegression(36, 4))
    clipped, free = (margin_bounds(model, X, Y, 0.2, bounds=b) for b in ((0.0, 1.0), None))
    assert bool((free <= clipped + 1e-6).all())
    assert bool((free < clipped - 1e-3).any())
    wide = margin_bounds(model, X * 2 - 1, Y, 0.2, bounds=(-1.0, 1.0))
    assert wide.shape == clipped.shape


def test_pixels_outside_by_a_rounding_error_give_no_empty_interval():
    x = torch.full((2, 36), 1.0) + 1e-7
    assert bool((x > 1).all())
    for eps in (0.0, 1e-8):
        pixels = certify.interval(x, eps, (0.0, 1.0))
        assert bool((pixels.lower <= pixels.upper).all())
        assert bool((pixels.upper <= 1).all())


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y.tolist(), strict=True)


FORMS = {
    "pair": lambda: (X, Y),
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=7),
    "dataset": lambda: TensorDataset(X, Y),
    "stream": Stream,
    "batches": lambda: iter([(X[:5], Y[:5]), (X[5:], Y[5:])]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_data_may_come_in_any_form(form, batch_size):
    model = drawn(NETWORKS["ReLU"](), 1)
    expected = int((~certified(model, X, Y, 0.005)).sum())
    rate = certified_error_rate(model, FORMS[form](), 0.005, batch_size=batch_size, progress=False)
    assert (rate.count, rate.total) == (expected, len(Y))
    assert 0 < expected < len(Y)


def test_many_images_are_bounded_in_parts(monkeypatch):
    model = drawn(NETWORKS["convolutions"]())
    whole = margin_bounds(model, X, Y, 0.05)
    sizes = []

    def counted(model, pixels, **options):
        sizes.append(len(pixels))
        return propagate(model, pixels, **options)

    monkeypatch.setattr(certify, "_PIXELS", 10 * 36)
    monkeypatch.setattr(certify, "propagate", counted)
    torch.testing.assert_close(margin_bounds(model, X, Y, 0.05), whole, rtol=1e-5, atol=1e-6)
    assert sizes == [10, 10, 4]


class Wrapped(nn.Module):
    """What other libraries return: an object, a dict, or a tuple."""

    def __init__(self, inner, form):
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, x):
        z = self.inner(x)
        return {"object": SimpleNamespace(logits=z), "dict": {"logits": z}, "tuple": (z, [])}[
            self.form
        ]


WRAPPERS = {
    "function": lambda m: lambda x: m(x.contiguous()),
    "bound method": lambda m: m.forward,
    "partial": lambda m: partial(torch.nn.Module.__call__, m),
    "DataParallel": nn.DataParallel,
    "object": lambda m: Wrapped(m, "object"),
    "dict": lambda m: Wrapped(m, "dict"),
    "tuple": lambda m: Wrapped(m, "tuple"),
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "graph": torch.fx.symbolic_trace,
    "sequential": nn.Sequential,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_model_has_the_bounds_of_the_model(name):
    if name == "compiled" and not hasattr(torch.compiler, "set_stance"):
        pytest.skip("this PyTorch cannot run compiled code as it was written")
    model = drawn(NETWORKS["ReLU"]())
    expected = margin_bounds(model, X, Y, 0.02)
    wrapped = WRAPPERS[name](model)
    wrapped(X)  # compiled by now
    assert margin_bounds(wrapped, X, Y, 0.02).equal(expected)


EXPORTED = [name for name in NETWORKS if name not in ("smooth", "RBF") and "place" not in name]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_program_has_the_bounds_of_the_model(name):
    """As `torch.export` writes it: operators in place of functions."""
    if not hasattr(torch.compiler, "set_stance"):
        pytest.skip("before 2.6, PyTorch takes the layers of a program apart")
    model = drawn(NETWORKS[name]())
    batch = {0: torch.export.Dim("batch", min=1, max=100)}
    program = torch.export.export(model, (X,), dynamic_shapes=(batch,)).module()
    bounds, expected = logit_bounds(program, X, 0.02), logit_bounds(model, X, 0.02)
    torch.testing.assert_close(bounds.lower, expected.lower, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(bounds.upper, expected.upper, rtol=1e-5, atol=1e-5)


def test_eval_mode_reaches_a_model_inside_a_function():
    model = make_mlp().train()
    expected = margin_bounds(make_mlp().eval(), X, Y, 0.02)
    assert margin_bounds(lambda x: model(x.clone()), X, Y, 0.02).equal(expected)
    assert model.training


# --- Models whose weights are others during the call ----------------------------------------------


class Swapping(nn.Module):
    """A network whose weights are swapped in for the call alone, in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.body, self.last = nn.Linear(36, 12), nn.Linear(12, 4)

    def used(self) -> torch.Tensor:
        """Return the last layer's weights as they are during the call."""
        w = self.last.weight.data
        return {"average": w.flip(0), "binary": w.sign() * w.abs().mean(), "tied": w + w.mean()}[
            self.way
        ]

    def forward(self, x):
        hidden = torch.relu(self.body(x.flatten(1)))
        kept = self.last.weight.data
        if self.way == "average":  # as torch-ema does
            kept = kept.clone()
            self.last.weight.data.copy_(self.used())
        else:
            self.last.weight.data = self.used()
        try:
            return self.last(hidden)
        finally:
            if self.way == "average":
                self.last.weight.data.copy_(kept)
            else:
                self.last.weight.data = kept


class Signed(nn.Module):
    def forward(self, w):
        return w.sign() * w.abs().mean()


def no_gradients(model, x):
    """Turn the last weights around for the call, as a count of writes would show."""
    with torch.no_grad():
        model[-1].weight.neg_()
        z = model(x)
        model[-1].weight.neg_()
    return z


def parametrized(model):
    nn.utils.parametrize.register_parametrization(model[-1], "weight", Signed())
    return model


def hooked(model):
    model[1].register_forward_hook(
        lambda module, given, out: -2 * out if isinstance(out, torch.Tensor) else out
    )
    model[-1].register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    return model


def spectral(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model[-1] = nn.utils.spectral_norm(model[-1])
    return model.eval()


def called(model):
    turned = {name: -value for name, value in model.named_parameters()}
    return lambda x: torch.func.functional_call(model, turned, (x,))


def relu_network():
    return drawn(NETWORKS["ReLU"](), 1, scale=2.0)


SWAPPED = {
    "average": lambda: drawn(Swapping("average"), 1, scale=2.0),
    "binary": lambda: drawn(Swapping("binary"), 1, scale=2.0),
    "tied": lambda: drawn(Swapping("tied"), 1, scale=2.0),
    "parametrized": lambda: parametrized(relu_network()),
    "spectral norm": lambda: spectral(relu_network()),
    "a functional call": lambda: called(relu_network()),
    "hooks": lambda: hooked(relu_network()),
}


@pytest.mark.parametrize("name", SWAPPED)
def test_what_counts_are_the_weights_of_the_call(name):
    model, count = SWAPPED[name](), 0
    with torch.no_grad():
        y = model(X.clone()).argmax(1)
    for eps in (0.0, 0.01, 0.03):
        proved = certified(model, X, y, eps)
        assert not bool((proved & attacked(model, X, y, eps)).any())
        count += int(proved.sum())
    assert count, "nothing is certified"


@pytest.mark.parametrize("way", ["average", "binary", "tied"])
def test_margins_of_swapped_weights_are_those_of_a_model_that_has_them(way):
    model = drawn(Swapping(way), 1)
    last = nn.Linear(12, 4)
    last.load_state_dict({"weight": model.used(), "bias": model.last.bias})
    plain = nn.Sequential(nn.Flatten(), model.body, nn.ReLU(), last)
    assert margin_bounds(model, X, Y, 0.05).equal(margin_bounds(plain, X, Y, 0.05))


def test_weights_written_without_gradients_are_those_of_the_call():
    model = partial(no_gradients, relu_network())
    plain = relu_network()
    with torch.no_grad():
        plain[-1].weight.neg_()
    assert margin_bounds(model, X, Y, 0.05).equal(margin_bounds(plain, X, Y, 0.05))


# --- Models that tell intervals from images -------------------------------------------------------


class Branching(nn.Module):
    """Turns images around, if a question says yes of them."""

    def __init__(self, asks, change=lambda x: 1 - x) -> None:
        super().__init__()
        self.inner, self.asks, self.change = relu_network(), asks, change

    def forward(self, x):
        return self.inner(self.change(x) if self.asks(x) else x)


ASKED_ALIKE = {
    "isinstance": lambda x: isinstance(x, torch.Tensor),
    "is_tensor": torch.is_tensor,
    "FloatTensor": lambda x: isinstance(x, torch.FloatTensor),
    "jit": lambda x: torch.jit.isinstance(x, torch.Tensor),
    "hasattr": lambda x: hasattr(x, "new_zeros") and hasattr(x, "__matmul__"),
    "dim": lambda x: x.dim() == 4 and x.ndim == 4,
    "dtype": lambda x: x.dtype is torch.float32 and x.device.type == "cpu",
    "callable": lambda x: callable(getattr(x, "masked_scatter", None)),
}


@pytest.mark.parametrize("name", ASKED_ALIKE)
def test_a_question_is_answered_as_for_images(name):
    asks = ASKED_ALIKE[name]
    assert asks(X)
    model, always = Branching(asks), Branching(lambda x: True)
    assert margin_bounds(model, X, Y, 0.02).equal(margin_bounds(always, X, Y, 0.02))


def exactly(x):
    return type(x) is torch.Tensor


def caught(x):
    """Go another way where a step cannot be bounded."""
    try:
        return bool((x > 0.5).any())
    except ValueError:
        return False


def probed(x):
    try:
        F.gelu(x)
    except Exception:
        return False
    return True


OTHERWISE = {
    "type": (exactly, lambda x: 1 - x, "outside of their bounds"),
    "type, a pool": (
        exactly,
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        "outside of their bounds",
    ),
    "type, a few pixels": (exactly, lambda x: x.clamp(0.02, 0.98), "outside of their bounds"),
    "the class": (lambda x: x.__class__ is torch.Tensor, lambda x: 1 - x, "outside of their"),
    "no interval": (lambda x: not hasattr(x, "lower"), lambda x: 1 - x, "outside of their bounds"),
    "the text": (lambda x: "Interval" not in repr(x), lambda x: 1 - x, "outside of their bounds"),
    "the memory": (lambda x: x.data_ptr() > 0, lambda x: 1 - x, r"data_ptr\(\)"),
    "a caught comparison": (caught, lambda x: 1 - x, "a comparison of values"),
    "a caught function": (probed, lambda x: 1 - x, r"gelu\(\)"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_model_that_does_something_else_with_intervals_is_refused(name):
    asks, change, words = OTHERWISE[name]
    model = Branching(asks, change)
    for count in (1, 24):  # a few images must do
        for call in (certified, margin_bounds):
            with pytest.raises(UnboundedError, match=words):
                call(model, X[-count:], Y[-count:], 0.01)
        with pytest.raises(UnboundedError, match=words):
            logit_bounds(model, X[-count:], 0.01)


def test_the_comparison_is_what_finds_them(monkeypatch):
    monkeypatch.setattr(certify._Looks, "compare", lambda *_: None)
    margin_bounds(Branching(exactly), X, Y, 0.01)


def test_margins_alone_are_compared_too(monkeypatch):
    """With bounds on logits that are right, and margins of other weights."""

    def of_others(x, weight, bias=None):
        right = intervals._linear(x, weight, bias)
        wrong = intervals._linear(x, 3 * weight, bias)
        return Interval(right.lower, right.upper, wrong.apart)

    model = relu_network()
    with torch.no_grad():
        y = model(X).argmax(1)
    monkeypatch.setitem(intervals._RULES, F.linear, of_others)
    logit_bounds(model, X, 0.0)
    with pytest.raises(UnboundedError, match="outside of their bounds"):
        margin_bounds(model, X, y, 0.0)


def test_the_company_of_an_image_does_not_count():
    for change in (
        lambda x: x / len(x),
        lambda x: x - x.mean(0),
        lambda x: x * torch.linspace(0.1, 1, len(x)).reshape(-1, 1, 1, 1),
    ):
        with pytest.raises(UnboundedError, match="outside of their bounds"):
            certified(Branching(lambda x: True, change), X, Y, 0.0)


def test_steps_in_place_are_those_of_images():
    """Each of these gave bounds of another function, or of no function at all."""

    def squared(x):
        view = x.view(len(x), -1)
        view **= 2
        return x

    def sloped(x):
        return F.leaky_relu(x - 0.5, torch.tensor(-0.7))

    def summed(x):
        total = torch.zeros(len(x), 36).to(x)
        total += x.flatten(1)
        return total

    def written(x):
        x = x + 0
        x.data = 1 - x
        return x

    model = Branching(lambda x: True, squared)
    plain = Branching(lambda x: True, lambda x: x.square())
    assert margin_bounds(model, X, Y, 0.02).allclose(margin_bounds(plain, X, Y, 0.02), atol=1e-5)
    for change in (sloped, summed, written):
        with pytest.raises(UnboundedError, match="no rule for"):
            certified(Branching(lambda x: True, change), X, Y, 0.02)


def test_a_buffer_that_keeps_what_it_saw_comes_back():
    class Keeping(nn.Module):
        def __init__(self, new: bool) -> None:
            super().__init__()
            self.inner, self.new = relu_network(), new
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            if self.new:
                self.register_buffer("other", x.mean())
            else:
                self.seen = x.mean()
            return self.inner(x)

    for new in (False, True):
        model = Keeping(new)
        with pytest.raises(UnboundedError, match="in a buffer"):
            certified(model, X, Y, 0.01)
        assert all(type(value) is torch.Tensor for value in model.buffers())
        assert type(model(X)) is torch.Tensor


# --- Refusals -------------------------------------------------------------------------------------


class Calls(nn.Module):
    """One function after the logits of a small network."""

    def __init__(self, function):
        super().__init__()
        self.inner, self.function = drawn(NETWORKS["ReLU"]()), function

    def forward(self, x):
        return self.function(self.inner(x))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.lstm(x.squeeze(1))[0][:, -1])


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 1, batch_first=True)
        self.last = nn.Linear(36, 4)

    def forward(self, x):
        x = x.squeeze(1)
        return self.last(self.attention(x, x, x, need_weights=False)[0].flatten(1))


def remembering():
    state = []

    def function(z):
        state.append(1)
        return z + len(state) * 100

    return function


REFUSED = {
    "GELU": (lambda: nn.Sequential(make_mlp(), nn.GELU()), r"gelu\(\) in the layer '1' \(GELU\)"),
    "deep": (
        lambda: nn.Sequential(nn.Sequential(make_mlp(), nn.SiLU())),
        r"silu\(\) in the layer '0.1' \(SiLU\)",
    ),
    "in a function": (
        lambda: nn.Sequential(make_mlp(), nn.Mish()).forward,
        r"mish\(\) in the layer '1' \(Mish\)",
    ),
    "LSTM": (Recurrent, r"in the layer 'lstm' \(LSTM\)"),
    "attention": (Attentive, r"in the layer 'attention' \(MultiheadAttention\)"),
    "LayerNorm": (
        lambda: nn.Sequential(make_mlp(), nn.LayerNorm(4)),
        r"layer_norm\(\) in the layer '1'",
    ),
    "control flow": (lambda: Calls(lambda z: z if z.sum() > 0 else -z), "a comparison of values"),
    "mask": (lambda: Calls(lambda z: z * (z > 0)), r"a comparison of values in Calls"),
    "NumPy": (lambda: Calls(lambda z: torch.from_numpy(z.detach().numpy())), r"numpy\(\)"),
    "a number": (lambda: Calls(lambda z: z * float(z.sum())), "float, int"),
    "an item": (lambda: Calls(lambda z: z * z.sum().item()), r"item\(\)"),
    "random": (lambda: Calls(lambda z: z + torch.randn(z.shape)), "draws random numbers"),
    "randn_like": (lambda: Calls(lambda z: z + torch.randn_like(z)), r"randn_like\(\)"),
    "dropout that stays on": (
        lambda: Calls(lambda z: F.dropout(z, 0.5, True)),
        r"dropout\(\) that is on",
    ),
    "a memory": (lambda: Calls(remembering()), "depends on more than the images"),
    "the batch": (lambda: Calls(lambda z: z - z.sum(0)), "depends on more than the images"),
    "batch statistics": (
        lambda: Calls(nn.BatchNorm1d(4, track_running_stats=False)),
        "statistics of the batch",
    ),
    "constant": (lambda: Calls(lambda z: torch.ones(len(z), 4) * 2), "does not"),
    "infinite": (lambda: Calls(lambda z: z + (z - z + 1e-3).log()), "NaN or infinite"),
    "script": (
        lambda: torch.jit.script(NETWORKS["ReLU"]()),
        "scripted or traced in RecursiveScriptModule",
    ),
    "half inside": (
        lambda: Calls(lambda z: z.to(torch.bfloat16).float()),
        r"computes in torch.bfloat16 in Calls",
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_bounded_is_refused_in_words(name):
    make, words = REFUSED[name]
    for call in (certified, margin_bounds):
        with pytest.raises(UnboundedError, match=words):
            call(make(), X, Y, 0.01)
    with pytest.raises(UnboundedError, match=words):
        certified_error_rate(make(), (X, Y), 0.01, progress=False)


class Coin(nn.Module):
    """Flips images over in a share of its calls."""

    def __init__(self, toss) -> None:
        super().__init__()
        self.inner, self.toss = relu_network(), toss

    def forward(self, x):
        return self.inner(x.flip(-1) if self.toss(x) else x)


COINS = {
    "Python": lambda: lambda x: random.random() < 0.5,
    "Python, rarely": lambda: lambda x: random.random() < 1e-9,
    "NumPy": lambda: lambda x: np.random.random() < 0.5,
    "PyTorch": lambda: lambda x: float(torch.rand(())) < 0.5,
    "the system": lambda: lambda x: random.SystemRandom().random() < 0.5,
    "its own": lambda: partial(lambda rng, x: rng.random() < 0.5, np.random.default_rng(0)),
    "a new one": lambda: lambda x: np.random.default_rng().random() < 0.5,
}


@pytest.mark.parametrize("name", COINS)
def test_a_coin_is_never_certified(name):
    """Whatever it shows while the proof is made: twenty proofs of each, and no luck."""
    for seed in range(20):
        random.seed(seed)
        np.random.seed(seed)
        model = Coin(COINS[name]())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with pytest.raises(UnboundedError, match="random"):
                certified(model, X, Y, 0.001)


def test_a_module_outside_of_the_model_is_not_named():
    class Trainer(nn.Module):
        def certify(self):
            return certified(lambda x: F.gelu(x.flatten(1)), X, Y, 0.1)

    with pytest.raises(UnboundedError, match=r"no rule for gelu\(\)\. Bounds"):
        Trainer().certify()


def test_half_precision_is_refused():
    model = NETWORKS["ReLU"]().to(torch.bfloat16)
    with pytest.raises(UnboundedError, match=r"torch.bfloat16.* Certify model.float\(\)"):
        certified(model, X.to(torch.bfloat16), Y, 0.1)
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(UnboundedError, match="outside autocast"),
    ):
        certified(NETWORKS["ReLU"](), X, Y, 0.1)


class Heard(Exception):
    """The model was asked for more than two images."""


def deaf(x):
    if len(x) > 2:
        raise Heard
    return x.flatten(1)[:, :4] * 3


BAD = {
    "not callable": ({"model": 3}, TypeError, "model must be callable"),
    "images as a list": ({"x": [[0.5]]}, TypeError, "x must be a tensor"),
    "whole numbers": ({"x": (X * 255).byte()}, TypeError, "floating dtype"),
    "one image": ({"x": X[0, 0, 0]}, ValueError, "must be a batch"),
    "no image": ({"x": X[:0], "y": Y[:0]}, ValueError, "empty batch"),
    "NaN": ({"x": X * torch.nan}, ValueError, "NaN or infinity"),
    "outside": ({"x": X * 3}, ValueError, "outside bounds"),
    "eps below 0": ({"eps": -0.1}, ValueError, "eps must be finite and >= 0"),
    "eps in levels": ({"eps": 8.0}, ValueError, "more than the whole pixel range"),
    "eps as text": ({"eps": "0.1"}, TypeError, "eps must be a number"),
    "bounds": ({"bounds": (1.0, 0.0)}, ValueError, "bounds must be finite with low < high"),
    "labels as floats": ({"y": Y.float()}, TypeError, "y must have dtype torch.int64"),
    "too few labels": ({"y": Y[:3]}, ValueError, "y must have shape"),
    "a label too high": ({"y": Y + 1}, ValueError, "y holds the label 4"),
    "a label below 0": ({"y": Y - 1}, ValueError, "y holds the label -1"),
    "one logit": ({"model": lambda x: x.flatten(1)[:, :1]}, ValueError, "TwoLogits"),
    "probabilities": (
        {"model": lambda x: x.flatten(1)[:, :4].softmax(1)},
        ValueError,
        "looks like probabilities",
    ),
    "no logits": ({"model": lambda x: x.sum()}, ValueError, "must return logits"),
    "NaN logits": ({"model": lambda x: x.flatten(1) * torch.nan}, ValueError, "NaN or infinity"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named_before_any_work(name):
    changes, error, words = BAD[name]
    given = {"model": deaf, "x": X, "y": Y, "eps": 0.1, "bounds": (0.0, 1.0)} | changes
    for call in (certified, margin_bounds):
        with pytest.raises(error, match=words) as caught:
            call(**given)
        assert not isinstance(caught.value, UnboundedError)


def test_the_model_without_a_fault_is_asked_for_more():
    """The test above says something only if its model would be asked."""
    with pytest.raises(UnboundedError) as caught:
        certified(deaf, X, Y, 0.1)
    assert isinstance(caught.value.__cause__, Heard)


def test_out_of_memory_is_no_refusal():
    def full(x):
        if len(x) > 2:
            raise torch.cuda.OutOfMemoryError("no memory left")
        return x.flatten(1)[:, :4] * 3

    with pytest.raises(torch.cuda.OutOfMemoryError):
        certified(full, X, Y, 0.1)


def test_a_model_that_fails_by_itself_says_so_itself():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        certified(nn.Sequential(nn.Flatten(), nn.Linear(35, 4)), X, Y, 0.1)
    assert not isinstance(caught.value, UnboundedError)


def test_hooks_of_other_threads_are_let_pass():
    model, other = drawn(NETWORKS["ReLU"]()), make_mlp().eval()

    def slow(x):
        worker = threading.Thread(target=lambda: other(X))
        worker.start()
        worker.join()
        return model(x)

    assert certified(slow, X, Y, 0.01).equal(certified(model, X, Y, 0.01))


def test_training_passes_through_bounds_with_gradients_and_dropout():
    model = make_mlp().train()
    model[2].eval()
    torch.manual_seed(0)
    bounds = propagate(model, certify.interval(X, 0.05, (0.0, 1.0)))
    bounds.margins(Y).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    assert float(model[1].weight.grad.abs().sum()) > 0
    again = propagate(model, certify.interval(X, 0.05, (0.0, 1.0)))
    assert not bounds.lower.equal(again.lower), "dropout is on"
    with pytest.raises(UnboundedError, match=r"statistics of the batch in the layer '2'"):
        propagate(make_mlp().train(), certify.interval(X, 0.05, (0.0, 1.0)))
