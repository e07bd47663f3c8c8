"""What rows measure and how models are trained for them, against the definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advlearn.attacks import ball_tolerance, input_gradient, linear_step
from advlearn.data import load_mnist
from advlearn.losses import adversarial_logistic_loss, cross_entropy
from advlearn.metrics import Rate
from advlearn.models import Ensemble, LogisticRegression, RBFNet, SoftmaxRegression
from advlearn.recipe import Recipe
from advlearn.reproduce.measures import (
    QUICK,
    filter_radius,
    rubbish,
    straightness,
    under_attack,
)
from advlearn.reproduce.models.images import QUICK_DIGITS, as_read, images
from advlearn.reproduce.models.methods import (
    binary_cross_entropy,
    fit_detector,
    fit_mirrored,
    fit_mixture,
    fit_moved,
    fit_rbf,
    moved,
    noisy,
    random_start_fgsm,
    worst_case_loss,
)
from advlearn.reproduce.models.recipes import MODELS
from advlearn.reproduce.models.spec import EPS, Scale
from advlearn.reproduce.rows.section6_adversarial_training import first_layer
from advlearn.reproduce.rows.section9_alternative_hypotheses import (
    Float32Ensemble,
    Guarded,
    negative_log,
    unnoticed,
)
from tests.conftest import make_digits, make_mlp

pytestmark = pytest.mark.usefixtures("one_thread")
X, Y = make_digits(24), torch.arange(24) % 4


# --- Attacks for training -------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_random_start_fgsm_stays_in_the_ball_and_the_bounds(bounds):
    torch.manual_seed(0)
    for _ in range(5):
        moved = random_start_fgsm(make_mlp(), X, Y, 0.3, bounds=bounds)
        assert (moved - X).abs().max() <= 0.3 + ball_tolerance(X, 0.3)
        outside = (moved < 0) | (moved > 1)
        assert not outside.any() if bounds else outside.any()


def test_its_start_is_not_clamped():
    """Half of the noise on a black pixel would be lost: the start is outside the pixels' range."""
    seen = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make_mlp()

        def forward(self, x):
            seen.append(x.detach().clone())
            return self.inner(x)

    torch.manual_seed(0)
    random_start_fgsm(Watched(), X, Y, 0.3, bounds=(0.0, 1.0))
    (start,) = seen
    black = start[:, :, 0, :-1]  # these pixels are 0 in all images
    assert black.min() < -0.25
    assert black.mean().abs() < 0.06
    assert (start - X).abs().max() <= 0.3 + ball_tolerance(X, 0.3)


def test_its_step_is_one_and_a_quarter_of_eps_from_the_start():
    """From x - eps or x + eps the step crosses x; it never ends where it began."""
    model = make_mlp()
    torch.manual_seed(3)
    moved = random_start_fgsm(model, X, Y, 0.2, bounds=None)
    torch.manual_seed(3)
    start = X + 0.2 * (2 * torch.rand(X.shape) - 1)
    step = linear_step(start, input_gradient(model, start, Y), 0.25, bounds=None)
    torch.testing.assert_close(moved, step.clamp(X - 0.2, X + 0.2))


@pytest.mark.parametrize("kind", ["sign", "uniform"])
def test_noise_has_the_signature_of_an_attack(kind):
    torch.manual_seed(0)
    moved = noisy(kind, make_mlp(), X, Y, 0.25, bounds=None)
    change = (moved - X).abs()
    assert change.max() <= 0.25 + 1e-6
    assert (change.min() > 0.24) == (kind == "sign")
    assert noisy(kind, make_mlp(), X, Y, 0.25, bounds=(0.0, 1.0)).min() >= 0


# --- Losses ---------------------------------------------------------------------------------------


def test_binary_cross_entropy_is_the_likelihood_of_independent_classes():
    logits = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    p = logits.sigmoid()
    own = F.one_hot(y, 4).bool()
    expected = -(torch.where(own, p, 1 - p).log().sum(1))
    # It computes in float32.
    found = binary_cross_entropy(nn.Identity(), logits, y)
    torch.testing.assert_close(found.double(), expected)


def test_the_worst_case_loss_is_the_paper_s_closed_form():
    model = LogisticRegression(36)
    with torch.no_grad():
        model.weight.normal_(generator=torch.Generator().manual_seed(0))
    y = torch.arange(24) % 2
    expected = adversarial_logistic_loss(model.weight, model.bias, X.flatten(1), 2.0 * y - 1, 0.1)
    torch.testing.assert_close(worst_case_loss(0.1, model, X, y), expected)


def test_the_float32_ensemble_has_our_probabilities_and_loses_digits_of_which_all_are_confident():
    class Scaled(nn.Module):
        """The pixels, enlarged, as logits."""

        def __init__(self, scale):
            super().__init__()
            self.scale = scale

        def forward(self, x):
            return self.scale * x.flatten(1)

    members = [Scaled(1.0), Scaled(40.0)]
    ours, in_float32 = Ensemble(members), Float32Ensemble(members)
    y = torch.tensor([0, 0, 0])
    # No member confident; one; both.
    x = torch.tensor([[0.01, 0.0], [1.0, 0.0], [40.0, 0.0]]).reshape(3, 1, 1, 2)
    torch.testing.assert_close(in_float32(x).exp(), ours(x).exp())

    def slopes(model, loss):
        pixels = x.clone().requires_grad_()
        return torch.autograd.grad(loss(model(pixels), y).sum(), pixels)[0].flatten(1)

    expected, found = slopes(ours, cross_entropy), slopes(in_float32, negative_log)
    torch.testing.assert_close(found[:2], expected[:2])
    assert found[2, 0] == 0, "the true class has dropped out"
    assert expected[2, 0] < 0


def test_the_float32_ensemble_survives_probabilities_that_underflow():
    class Fixed(nn.Module):
        def forward(self, x):
            return torch.tensor([[0.0, 500.0]]) * (1 + x.flatten(1)[:, :1])

    x = torch.zeros(1, 1, 1, 1, requires_grad=True)
    for y in (0, 1):
        logs = Float32Ensemble([Fixed(), Fixed()])(x)
        assert logs.isfinite().all()
        (slope,) = torch.autograd.grad(negative_log(logs, torch.tensor([y])), x)
        assert slope.isfinite().all(), f"class {y}"


# --- Ways to train --------------------------------------------------------------------------------


def test_the_rbf_network_starts_from_the_class_means():
    model = RBFNet(36, 4)
    history = fit_rbf(model, (X, Y), Recipe(epochs=1, lr=1e-9, momentum=0.0), progress=False)
    means = torch.stack([X[k == Y].flatten(1).mean(0) for k in range(4)])
    torch.testing.assert_close(model.centre.detach(), means)
    assert len(history["loss"]) == 1


def test_mirrored_images_are_trained_on_too(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "advlearn.reproduce.models.methods.fit",
        lambda model, data, recipe, progress: seen.update(x=data[0], y=data[1]),
    )
    fit_mirrored(make_mlp(), (X, Y), Recipe(epochs=1), progress=False)
    assert seen["x"][:24].equal(X)
    assert seen["x"][24:].equal(torch.flip(X, [3]))
    assert seen["y"].equal(torch.cat([Y, Y]))


def test_a_moved_image_is_one_pixel_away_in_one_direction():
    x = make_digits(200)
    ways = []
    for before, after in zip(x[:, 0], moved(x, seed=3)[:, 0], strict=True):
        blank = torch.zeros_like(before)
        there = {
            "right": torch.cat([blank[:, :1], before[:, :-1]], 1),
            "left": torch.cat([before[:, 1:], blank[:, :1]], 1),
            "down": torch.cat([blank[:1], before[:-1]]),
            "up": torch.cat([before[1:], blank[:1]]),
        }
        ways += [way for way, image in there.items() if image.equal(after)]
    assert len(ways) == 200, "each image matches one direction, and only one"
    assert all(ways.count(way) > 25 for way in ("left", "right", "up", "down"))
    assert moved(x, seed=3).equal(moved(x, seed=3))
    assert not moved(x, seed=3).equal(moved(x, seed=4))


def test_a_quarter_of_the_images_trained_on_is_moved():
    seen = {}

    def train(model, data, recipe, *others, progress):
        seen.update(x=data[0], y=data[1], others=others, progress=progress)

    fit_moved(train, make_mlp(), (X, Y), Recipe(epochs=1, seed=5), "other", progress=False)
    assert seen["x"].equal(torch.cat([X, X, X, moved(X, 5)]))
    assert seen["y"].equal(torch.cat([Y] * 4))
    assert seen["others"] == ("other",)
    assert seen["progress"] is False


def test_the_networks_that_rows_compare_see_the_same_images():
    """A difference between them must come from what they are named after."""
    plain = MODELS["maxout"]
    for name in ("maxout", "maxout-adversarial", "maxout-l1", "maxout-l1-small"):
        one = MODELS[name]
        assert one.method.func is fit_moved
        assert one.options == plain.options
        # The large penalty stays at its start however long it trains.
        changed = {"l1": one.recipe.l1} | ({"epochs": 4} if name == "maxout-l1" else {})
        assert one.recipe == replace(plain.recipe, **changed)


@pytest.mark.parametrize("kind", ["sign", "uniform"])
def test_the_noise_networks_differ_from_the_plain_one_in_limit_epochs_and_dropout_only(kind):
    plain, one = MODELS["maxout"], MODELS[f"maxout-noise-{kind}"]
    assert one.method.func is fit_moved
    assert one.architecture == plain.architecture
    assert set(one.options) == {"input_dropout", "hidden_dropout"}
    own = {"epochs": one.recipe.epochs, "max_norm": one.recipe.max_norm}
    assert one.recipe == replace(plain.recipe, **own)


def test_the_wide_pair_sees_the_narrow_networks_images_and_differs_in_training_only():
    plain, trained = MODELS["maxout-wide"], MODELS["maxout-wide-adversarial"]
    assert plain.options == trained.options
    assert plain.recipe == trained.recipe
    for wide, narrow in ((plain, "maxout"), (trained, "maxout-adversarial")):
        assert wide.method.func is fit_moved
        assert str(wide.method.args) == str(MODELS[narrow].method.args)
        assert wide.recipe.epochs == MODELS[narrow].recipe.epochs


def test_the_mixture_is_estimated_from_digits_as_they_are_and_moved_each_way():
    seen = {}

    class Spy:
        def estimate(self, x, y, **options):
            seen.update(x=x, y=y, **options)

        def balance(self, x, y):
            seen.update(balanced=x)

    x = torch.zeros(2, 1, 3, 3)
    x[:, 0, 1, 1] = torch.tensor([1.0, 2.0])
    fit_mixture(Spy(), (x, torch.tensor([4, 7])), Recipe(epochs=3, seed=5), progress=False)
    assert seen["y"].tolist() == [4, 7] * 5
    # Each image once in the middle and once at each of its four neighbours, with its own label.
    for part in (seen["x"][0::2], seen["x"][1::2] / 2):
        places = sorted(tuple(place) for place in part[:, 0].nonzero()[:, 1:].tolist())
        assert places == [(0, 1), (1, 0), (1, 1), (1, 2), (2, 1)]
        assert part.sum() == 5
    assert seen["rounds"] == 3
    assert seen["seed"] == 5
    assert seen["balanced"].equal(x)


def test_the_detector_learns_clean_from_attacked(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "advlearn.reproduce.models.methods.fit",
        lambda model, data, recipe, progress: seen.update(x=data[0], y=data[1]),
    )
    fit_detector(make_mlp(), (X, Y), Recipe(epochs=1), make_mlp(1), progress=False)
    clean, attacked = seen["x"].split(24)
    assert clean.equal(X)
    assert float((attacked - X).abs().max()) == pytest.approx(EPS, abs=1e-6)
    assert attacked.min() < 0, "the attack is unclipped"
    assert seen["y"].tolist() == [0] * 24 + [1] * 24


def test_quick_images_are_the_offline_digits_and_only_they():
    scale = Scale(quick=True)
    assert images("digits", "train", scale).n == QUICK_DIGITS
    assert set(images("3v7", "test", scale).y.tolist()) == {0, 1}
    train, test = (images("cifar", split, scale) for split in ("train", "test"))
    assert train.x.shape[1:] == test.x.shape[1:] == (1, 28, 28)
    assert abs(float(train.x.mean())) < 1e-3


def test_images_as_read_are_not_whitened():
    """Their hash names the data of a run: whitened ones differ from processor to processor."""
    scale = Scale(quick=True)
    digits = load_mnist("test", source="offline").x
    assert as_read("cifar", "test", scale).x.equal(digits)
    assert as_read("digits", "test", scale).x.equal(images("digits", "test", scale).x)
    assert not images("cifar", "test", scale).x.equal(digits)


# --- Numbers --------------------------------------------------------------------------------------


def test_under_attack_measures_clean_and_attacked():
    torch.manual_seed(0)
    model = make_mlp(scale=5.0).eval()
    measured = under_attack(model, (X, Y), 0.1, pixels=True, effort=QUICK)
    assert all(measured[name].total == 24 for name in measured if "error" in name)
    assert (
        float(measured["PGD error"])
        >= float(measured["FGSM error"])
        >= float(measured["clean error"])
    )
    assert float(measured["PGD error"]) >= float(measured["PGD error, clipped"])
    assert measured == under_attack(model, (X, Y), 0.1, pixels=True, effort=QUICK)
    without = under_attack(model, (3 * X - 1, Y), 0.1, pixels=False, effort=QUICK)
    assert set(measured) - set(without) == {"PGD error, clipped", "FGSM error, clipped"}


class Confident(nn.Module):
    """Call half of all images class 0 with p = .9, and know nothing of the others."""

    def forward(self, x):
        first = (x.flatten(1)[:, 0] > 0).to(x.dtype) * math.log(27)
        return torch.stack([first, *[torch.zeros_like(first)] * 3], 1)


def test_rubbish_is_counted_when_it_is_called_something():
    rate, confidence = rubbish(Confident(), (4000, 1, 2, 2), seed=0)
    assert rate.total == 4000
    assert float(rate) == pytest.approx(0.5, abs=0.03)
    assert confidence == pytest.approx(0.9)
    assert rubbish(Confident(), (4000, 1, 2, 2), seed=0)[0] == rate
    rate, confidence = rubbish(SoftmaxRegression(4, 3), (10, 1, 2, 2))
    assert rate == Rate(0, 10)
    assert math.isnan(confidence)


def test_the_radius_of_a_filter():
    """Two equal weights at distance 2 a: each is a from the centre, wherever they lie."""
    filters = torch.zeros(4, 10, 10)
    filters[0, 3, 2] = filters[0, 3, 8] = 1.0
    filters[1, 1, 5] = filters[1, 7, 5] = -0.01  # sign and size do not matter
    filters[2, 4, 4] = 5.0
    flat = filters.reshape(4, 100)
    radius = filter_radius(flat, side=10)
    torch.testing.assert_close(radius, torch.tensor([0.3, 0.3, 0.0, 0.0]))
    shifted = filters.roll((2, 1), (1, 2)).reshape(4, 100)
    torch.testing.assert_close(filter_radius(shifted, side=10)[:3], radius[:3])


def test_the_radius_of_a_blob_grows_with_it():
    axis = torch.arange(28.0) - 13.5
    square = axis.square().unsqueeze(1) + axis.square()
    blobs = torch.stack([torch.exp(-square / (2 * s * s)) for s in (1.0, 2.0, 3.0)])
    radius = filter_radius(blobs.reshape(3, -1))
    # The weights squared are a Gaussian of s / sqrt(2) for each axis, so r = s.
    torch.testing.assert_close(radius, torch.tensor([1.0, 2.0, 3.0]) / 28, rtol=1e-3, atol=1e-4)


def test_straightness_is_r_squared():
    generator = torch.Generator().manual_seed(0)
    eps = torch.linspace(-2, 5, 50)
    noise = torch.randn(50, 1, generator=generator)
    line = 3 * eps.unsqueeze(1) - 1
    assert straightness(eps, line) == pytest.approx(1.0)
    bent = line + 5 * noise
    correlation = torch.corrcoef(torch.cat([eps.unsqueeze(1), bent], 1).T)[0, 1]
    assert straightness(eps, bent) == pytest.approx(float(correlation) ** 2, abs=1e-6)
    assert straightness(eps, torch.cat([line, bent], 1)) == pytest.approx(
        (1 + float(correlation) ** 2) / 2, abs=1e-6
    )
    assert straightness(eps - 1.5, (eps - 1.5).square().unsqueeze(1)) < 1e-6


def test_dead_units_are_left_out_of_the_filters():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        model[1].weight.fill_(0.004)
        assert first_layer(model).shape == (3, 4), "all dead: there is nothing else to show"
        model[1].weight[1, 2] = -0.5
    assert first_layer(model).equal(model[1].weight[1:2])


# --- A detector that the attack knows -------------------------------------------------------------


class Fixed(nn.Module):
    """Give these logits whatever the images are."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x):
        return self.logits


def test_a_guarded_model_answers_attack_where_the_detector_does():
    classifier = [[5.0, 1.0, -3.0], [5.0, 1.0, -3.0], [-9.0, -8.0, -7.0]]
    detector = [[0.0, 2.0], [2.0, 0.0], [1.0, 1.5]]
    guarded = Guarded(Fixed(classifier), Fixed(detector))
    logits = guarded(torch.zeros(3, 1, 1, 1))
    assert logits.shape == (3, 4)
    assert logits.argmax(1).tolist() == [3, 0, 3]
    # The digits keep their order and their differences.
    shown = torch.tensor(classifier)
    torch.testing.assert_close(logits[:, :3].diff(dim=1), shown.diff(dim=1))
    assert logits[:, :3].min() >= 1


def test_unnoticed_is_positive_for_a_wrong_digit_without_alarm_only():
    logits = torch.tensor(
        [
            [1.0, 3.0, 0.0, 2.0],  # wrong, no alarm: 3 against max(1, 2)
            [1.0, 3.0, 0.0, 4.0],  # wrong, alarm
            [3.0, 1.0, 0.0, 2.0],  # right, no alarm
            [3.0, 1.0, 0.0, 9.0],  # right, alarm
        ]
    )
    found = unnoticed(logits, torch.zeros(4, dtype=torch.int64))
    assert found.tolist() == [1.0, -1.0, -2.0, -8.0]
