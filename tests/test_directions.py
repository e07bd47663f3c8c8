"""A direction that cannot be used is said, with its share, and never used."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import nn

from advlearn import fgsm, pgd
from advlearn.attacks import input_gradient, linear_step, rotate
from advlearn.audit import audit
from advlearn.directions import Directions, NoDirectionWarning, directions, usable
from advlearn.losses import float32_cross_entropy, margin_loss
from advlearn.metrics import adversarial_error_rate, craft, error_curve, transfer_matrix
from tests.conftest import make_digits, make_mlp

X, Y = make_digits(), torch.arange(24) % 4
ATTACKS = {
    "fgsm": lambda model, x=X, y=Y: fgsm(model, x, y, 0.1),
    "pgd": lambda model, x=X, y=Y: pgd(model, x, y, 0.1, steps=3),
    "rotate": lambda model, x=X, y=Y: rotate(model, x, y, 0.1),
    "input_gradient": lambda model, x=X, y=Y: input_gradient(model, x, y),
}
attacks = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
NET = make_mlp()
WEIGHT = torch.ones(36, 4, requires_grad=True)


def of_some(bad):
    """Give 6 of 24 examples, told by their first pixel, what `bad` makes of their logits."""

    def model(x):
        logits, chosen = NET(x).clone(), x[:, 0, 1, 0] > 0.5
        logits[chosen] = bad(x[chosen], NET(x[chosen]))  # torch.where would spread NaN to all
        return logits

    return model


@pytest.fixture
def images():
    """Mark 6 of 24 examples by a pixel that no step of 0.1 takes across 1/2."""
    x = X.clone()
    x[:, 0, 1, 0] = torch.where(torch.arange(24) < 6, 0.9, 0.1)
    return x


def root(x, logits):
    """Its slope is infinite at 0, and 0 times that is NaN."""
    return logits + (x - x.detach()).abs().sqrt().flatten(1).sum(1, keepdim=True)


def black_root(x, logits):
    """Only black pixels, as in a border, have no slope."""
    return logits + x.abs().sqrt().flatten(1)[:, :4]


def rounded(x, logits):
    return logits.detach().round() + 0 * logits


def saturated(x, logits):
    return (1e9 * logits).tanh() * 3


@attacks
@pytest.mark.parametrize("bad", [rounded, saturated], ids=["rounded", "saturated"])
def test_examples_whose_gradient_is_zero_are_counted_and_said(attack, bad, images):
    with pytest.warns(NoDirectionWarning, match=r"zero in every pixel for 25 %.*audit") as said:
        out = attack(of_some(bad), images)
    assert len(said) == 1
    assert out.isfinite().all()


@attacks
def test_examples_whose_gradient_is_nan_are_counted_said_and_not_moved(attack, images):
    with pytest.warns(
        NoDirectionWarning, match=r"NaN or infinite in 100 %.*for 25 %.*half"
    ) as said:
        out = attack(of_some(root), images)
    assert out.isfinite().all()
    assert len(said) <= 2


def test_pixels_whose_gradient_is_nan_stay_and_the_others_move(images):
    model = of_some(black_root)
    with pytest.warns(NoDirectionWarning, match=r"NaN or infinite in \d[\d.]* % of the pixels"):
        moved = fgsm(model, images, Y, 0.1)
    black = (images[:6] == 0) & (torch.arange(36).reshape(1, 6, 6) < 4)
    assert black.any()
    assert moved[:6][black].eq(0).all()
    assert (moved[:6] != images[:6])[~black].float().mean() > 0.8
    assert moved[6:].equal(fgsm(NET, images, Y, 0.1)[6:])


@attacks
def test_a_usable_gradient_says_nothing(attack, images):
    """Not for pixels of weight 0 either, as those of a digit's border often are."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    model[1].weight.data[:, :18] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attack(model, images)
        attack(NET, images)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: NET(x.detach()),
        lambda x: NET(torch.from_numpy(x.detach().numpy().round(2))),
        lambda x: NET(torch.tensor(x.tolist())),
        lambda x: x.detach().flatten(1) @ WEIGHT,
        torch.no_grad()(lambda x: NET(x + 0)),
        lambda x: NET((x * 255).byte().float()),
    ],
    ids=["detach", "NumPy", "a list", "a weight of its own", "no_grad", "bytes"],
)
@attacks
def test_logits_that_do_not_depend_on_the_pixels_are_refused(attack, model):
    """Also where they depend on something else that has a gradient."""
    with pytest.raises(ValueError, match=r"model\(x\) is detached from x"):
        attack(model)


def test_a_data_set_is_told_once(images):
    model = of_some(rounded)
    data = (images.repeat(4, 1, 1, 1), Y.repeat(4))
    for run in (
        lambda: craft(model, data, 0.1, batch_size=10),
        lambda: adversarial_error_rate(model, data, 0.1, batch_size=10),
        lambda: error_curve(model, data, [0.1, 0.2], batch_size=10),
        lambda: transfer_matrix({"one": model, "another": NET}, data, 0.1),
    ):
        with pytest.warns(NoDirectionWarning, match=r"the gradients \(24 of (96|192)\)") as said:
            run()
        assert len(said) == 1


def test_the_warning_points_at_the_line_that_called(images):
    with pytest.warns(NoDirectionWarning) as said:
        fgsm(of_some(rounded), images, Y, 0.1)
    assert said[0].filename == __file__


def test_the_audit_counts_them_and_does_not_warn(images):
    for bad in (rounded, root):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sign = audit(of_some(bad), (images, Y), 0.1, steps=8)["zero gradients"]
        assert sign.seen
        assert sign.figures["zero for this library's loss"].count == 6
        assert sign.figures["zero for float32 cross-entropy"].count >= 6


def test_each_thread_counts_for_itself(images):
    with directions(silent=True) as counted:
        fgsm(of_some(rounded), images, Y, 0.1)
        other = threading.Thread(target=usable, args=(torch.zeros(7, 2),))
        other.start()
        other.join()
    assert (counted.zero, counted.total) == (6, 24)


def test_a_block_inside_another_adds_to_it_unless_it_is_silent():
    with directions(silent=True) as outer:
        with directions() as inner:
            usable(torch.zeros(2, 3))
        with directions(silent=True) as own:
            usable(torch.ones(1, 3))
    assert inner is outer
    assert (outer.zero, outer.total, own.total) == (2, 2, 1)


def test_an_exception_is_not_followed_by_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError), directions():
            raise KeyError(usable(torch.zeros(2, 3)))


@pytest.mark.parametrize(
    ("row", "zero", "broken"),
    [
        ([1.0, -1.0], 0, 0),  # its sum is 0
        ([0.0, 0.0], 1, 0),
        ([float("inf"), 1.0], 0, 1),
        ([float("inf"), -float("inf")], 0, 1),
        ([float("nan"), 0.0], 0, 1),
        ([3e38, 3e38], 0, 0),  # its sum is infinite
        ([1e-45, 0.0], 0, 0),
    ],
)
def test_a_row_is_judged_by_its_pixels(row, zero, broken):
    gradient = torch.tensor([row, [1.0, 2.0]])
    with directions(silent=True) as counted:
        out = usable(gradient)
    assert (counted.zero, counted.broken, counted.total) == (zero, broken, 2)
    assert counted.lost is None or counted.lost.tolist() == [True, False]
    assert (counted.lost is not None) == bool(zero or broken)
    assert out.equal(torch.where(gradient.isfinite(), gradient, 0.0))


def test_a_gradient_without_a_sign_is_refused_by_the_step():
    gradient = torch.ones_like(X)
    gradient[:6, 0, 0] = float("nan")
    with pytest.raises(
        ValueError, match=r"gradient is NaN in 4.17 % of the pixels.*input_gradient"
    ):
        linear_step(X, gradient, 0.1)
    moved = linear_step(X, torch.full_like(X, float("inf")), 0.1, bounds=None)
    assert moved.equal(X + 0.1)


def test_the_losses_that_fade_are_told_from_those_that_do_not():
    sharp = nn.Sequential(NET, nn.Module())
    sharp[1].forward = lambda z: 1000 * z
    y = sharp.eval()(X).argmax(1)
    with pytest.warns(NoDirectionWarning):
        fgsm(sharp, X, y, 0.1, loss=float32_cross_entropy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fgsm(sharp, X, y, 0.1, loss=margin_loss)
        fgsm(sharp, X, y, 0.1)


def test_words_name_share_and_remedy():
    counted = Directions(total=200, zero=20, broken=10, broken_pixels=2.5)
    zero, broken = counted.words()
    assert "10 % of the gradients (20 of 200)" in zero
    assert "audit" in zero
    assert "25 % of the pixels for 5 % of the gradients (10 of 200)" in broken
    assert "model.float()" in broken
    assert list(Directions(total=3).words()) == []
