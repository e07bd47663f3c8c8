"""The mixture of subspaces: its densities against full covariances, and its estimate."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import MultivariateNormal

from advlearn.attacks import fgsm, input_gradient
from advlearn.data import load_mnist
from advlearn.generative import SubspaceMixture
from advlearn.metrics import error_rate

pytestmark = pytest.mark.usefixtures("one_thread")

D, K, M, Q = 6, 3, 2, 2
VARIANCE = 0.3


def two_lines(count: int = 300, seed: int = 0):
    """Make classes of unequal size, each of two elongated clouds."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4 % K  # class 0 twice as often
    cloud = torch.randint(2, (count,), generator=generator)
    centre = 2 * torch.randn(K, 2, D, generator=generator)
    axis = 2 * torch.randn(K, 2, D, generator=generator)
    along = torch.randn(count, 1, generator=generator)
    x = centre[y, cloud] + along * axis[y, cloud]
    return (x + 0.4 * torch.randn(count, D, generator=generator)).double(), y


@pytest.fixture(scope="module")
def fitted():
    x, y = two_lines()
    model = SubspaceMixture(D, K, components=M, rank=Q).double()
    model.estimate(x, y, variance=VARIANCE, rounds=20)
    return model, x, y


def full_joint(model, x):
    """Compute log p(x, component) by full covariance matrices, from the inverse that it holds."""
    eye = torch.eye(D, dtype=x.dtype)
    parts = []
    for centre, basis in zip(model.centre, model.basis, strict=True):
        inverse = eye * model.precision - basis.T @ basis
        parts.append(MultivariateNormal(centre, precision_matrix=inverse).log_prob(x))
    return torch.stack(parts, 1)


# --- The density ----------------------------------------------------------------------------------


def test_the_density_is_that_of_full_covariances(fitted):
    model, x, y = fitted
    constant = -0.5 * D * math.log(2 * math.pi)
    # What each component adds to its Gaussian is its weight: log p(k) + log w_km.
    weight = model._joint(x) + constant - full_joint(model, x)
    torch.testing.assert_close(weight, weight[:1].expand_as(weight), rtol=0, atol=1e-9)
    share = weight[0].exp().reshape(K, M).sum(1)
    torch.testing.assert_close(share, y.bincount().double() / len(y))


def test_the_covariance_is_the_data_s_along_the_subspace_and_s2_off_it():
    """One component: its covariance has the largest variances of its class, and s² for the rest."""
    x, y = two_lines()
    model = SubspaceMixture(D, K, components=1, rank=Q).double()
    model.estimate(x, y, variance=VARIANCE, rounds=1)
    for label in range(K):
        own = x[y == label]
        torch.testing.assert_close(model.centre[label], own.mean(0))
        eye = torch.eye(D, dtype=x.dtype)
        inverse = eye * model.precision - model.basis[label].T @ model.basis[label]
        variance, axes = torch.linalg.eigh(own.T.cov(correction=0))
        variance[: D - Q] = VARIANCE
        torch.testing.assert_close(torch.linalg.inv(inverse), axes @ variance.diag() @ axes.T)


def test_softmax_of_the_logits_is_bayes_rule(fitted):
    model, x, y = fitted
    constant = -0.5 * D * math.log(2 * math.pi)
    weight = (model._joint(x[:1]) + constant - full_joint(model, x[:1])).exp()
    joint = (full_joint(model, x).exp() * weight).reshape(-1, K, M).sum(2)
    posterior = joint / joint.sum(1, keepdim=True)
    torch.testing.assert_close(model(x).softmax(1), posterior, rtol=1e-6, atol=1e-9)
    assert error_rate(model, (x, y)).count < 0.1 * len(y)


def test_float32_is_near_float64(fitted):
    model, x, _ = fitted
    single = SubspaceMixture(D, K, components=M, rank=Q)
    single.load_state_dict(model.state_dict())
    torch.testing.assert_close(single(x.float()).double(), model(x), rtol=1e-4, atol=1e-3)


def test_its_gradient_reaches_the_pixels(fitted):
    model, x, y = fitted
    pixels = x[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(model, (pixels,))
    assert input_gradient(model, x, y).abs().amax(1).min() > 0
    moved = fgsm(model, x, y, 1.0, bounds=None)
    assert error_rate(model, (moved, y)).count > error_rate(model, (x, y)).count


# --- The estimate ---------------------------------------------------------------------------------


def test_no_round_makes_the_data_less_likely():
    """That is what expectation-maximisation promises."""
    x, y = two_lines(seed=1)
    likelihoods = []
    for rounds in range(1, 9):
        model = SubspaceMixture(D, K, components=M, rank=Q).double()
        model.estimate(x, y, variance=VARIANCE, rounds=rounds)
        likelihoods.append(float(model(x).gather(1, y.unsqueeze(1)).mean()))
    assert all(b >= a - 1e-9 for a, b in pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0]


def test_the_seed_decides_the_start_and_nothing_else_does():
    x, y = two_lines()
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(99 + len(models))
        state = torch.get_rng_state()
        model = SubspaceMixture(D, K, components=M, rank=Q).double()
        model.estimate(x, y, rounds=1, seed=seed)
        assert torch.get_rng_state().equal(state)
        models.append(model.centre)
    assert models[0].equal(models[1])
    assert not models[0].equal(models[2])


def test_a_rank_of_more_than_the_data_has_adds_nothing():
    """Directions without variance get s², not less: the density stays proper."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(20, D, dtype=torch.float64)
    x[:, 0] = torch.randn(20, generator=generator, dtype=torch.float64)
    model = SubspaceMixture(D, 1, components=1, rank=4).double()
    model.estimate(x, torch.zeros(20, dtype=torch.int64), variance=0.1)
    assert model.basis.isfinite().all()
    assert int((model.basis[0].norm(dim=1) > 1e-6).sum()) == 1


# --- The shared span ------------------------------------------------------------------------------


def spanned(span):
    x, y = two_lines()
    model = SubspaceMixture(D, K, components=M, rank=Q, span=span).double()
    model.estimate(x, y, variance=VARIANCE, rounds=20)
    return model, x, y


def test_wide_directions_lie_in_the_principal_components_of_all_images():
    model, x, _ = spanned(3)
    torch.testing.assert_close(model.frame @ model.frame.T, torch.eye(3, dtype=x.dtype))
    # The three directions that leave least of the images, by another way than the code's.
    _, _, axes = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    torch.testing.assert_close(model.frame.T @ model.frame, axes[:3].T @ axes[:3])
    # So no density is wider than s² across what is left.
    off = axes[3:]
    for basis in model.basis @ model.frame:
        inverse = torch.eye(D, dtype=x.dtype) * model.precision - basis.T @ basis
        torch.testing.assert_close(
            off @ torch.linalg.inv(inverse) @ off.T, VARIANCE * torch.eye(3).double()
        )


def test_the_spanned_density_is_that_of_full_covariances():
    model, x, _ = spanned(3)
    eye = torch.eye(D, dtype=x.dtype)
    densities = []
    for centre, basis in zip(model.centre, model.basis @ model.frame, strict=True):
        inverse = eye * model.precision - basis.T @ basis
        densities.append(MultivariateNormal(centre, precision_matrix=inverse).log_prob(x))
    weight = model._joint(x) - torch.stack(densities, 1)
    torch.testing.assert_close(weight, weight[:1].expand_as(weight), rtol=0, atol=1e-9)


def test_a_span_of_nearly_everything_changes_next_to_nothing(fitted):
    """The direction that is left out is the one in which the images vary least."""
    free, x, y = fitted
    model, *_ = spanned(D - 1)
    assert model.basis.shape == (K * M, Q, D - 1)
    same = (model(x).argmax(1) == free(x).argmax(1)).double().mean()
    assert float(same) > 0.97
    assert error_rate(model, (x, y)).count < 0.1 * len(y)


def test_a_part_of_the_components_is_what_all_of_them_say(fitted):
    model, x, _ = fitted
    torch.testing.assert_close(model._joint(x, slice(2, 4)), model._joint(x)[:, 2:4])


# --- The balance ----------------------------------------------------------------------------------


def test_balance_makes_each_class_as_likely_as_it_is_frequent(fitted):
    model, x, y = copy.deepcopy(fitted[0]), *fitted[1:]
    # Classes that overlap, and one that claims examples of the others.
    x = x + 2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    model.constant[:M] += 10.0
    before = model(x)
    share = y.bincount() / len(y)
    assert float((before.softmax(1).mean(0) - share).abs().max()) > 0.03
    model.balance(x, y)
    torch.testing.assert_close(model(x).softmax(1).mean(0), share.double(), atol=1e-5, rtol=0)
    # Only the priors have moved: one number for each class, the same for all images.
    moved = model(x) - before
    assert float(moved.std(0).max()) < 1e-9


def test_balance_looks_at_nothing_but_how_often_a_class_occurs(fitted):
    one, other = copy.deepcopy(fitted[0]), copy.deepcopy(fitted[0])
    x, y = fitted[1:]
    one.balance(x, y)
    other.balance(x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))])
    assert one.constant.equal(other.constant)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": torch.arange(300) % 2}, "needs 1 or more of each"),
        ({"y": torch.arange(300) % 4}, "the model has 3 classes"),
        ({"x": torch.full((300, D), torch.nan)}, "x"),
    ],
)
def test_bad_data_to_balance_are_named_and_nothing_moves(fitted, change, words):
    model, x, y = copy.deepcopy(fitted[0]), *fitted[1:]
    before = model.constant.clone()
    with pytest.raises(ValueError, match=words):
        model.balance(**{"x": x, "y": y} | change)
    assert model.constant.equal(before)


def test_it_reads_digits():
    train, test = load_mnist("train", source="offline"), load_mnist("test", source="offline")
    model = SubspaceMixture(components=1, rank=15)
    model.estimate(*train, variance=0.03, rounds=1)
    assert float(error_rate(model, test)) < 0.08


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"variance": 0.0}, ValueError, "variance must be finite and in"),
        ({"rounds": 0}, ValueError, "rounds must be at least 1"),
        ({"y": torch.zeros(300, dtype=torch.int64)}, ValueError, "needs 2 or more of each"),
        ({"y": torch.arange(300) % 4}, ValueError, "the model has 3 classes"),
        ({"y": torch.arange(5)}, ValueError, "y"),
        ({"x": torch.full((300, D), torch.nan)}, ValueError, "x"),
    ],
)
def test_bad_data_are_named(change, error, words):
    x, y = two_lines()
    model = SubspaceMixture(D, K, components=M, rank=Q).double()
    with pytest.raises(error, match=words):
        model.estimate(**{"x": x, "y": y} | change)


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="rank = 6 must be less than features = 6"):
        SubspaceMixture(6, rank=6)
    with pytest.raises(ValueError, match="components must be at least 1"):
        SubspaceMixture(6, components=0, rank=2)
    for span in (1, 6):
        with pytest.raises(ValueError, match=f"span = {span} must be at least rank = 2 and less"):
            SubspaceMixture(6, rank=2, span=span)
    with pytest.raises(TypeError, match="span"):
        SubspaceMixture(6, rank=2, span=2.5)
