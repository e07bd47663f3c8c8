"""Each checker at its boundaries: the last value that passes, the first that does not."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from advlearn._validation import (
    check_bounds,
    check_callable,
    check_choice,
    check_count,
    check_eps,
    check_images,
    check_label_range,
    check_labels,
    check_logits,
    check_number,
    check_pair,
)
from advlearn.attacks import Bounds

X = torch.rand(3, 1, 2, 2)
Y = torch.tensor([0, 1, 2])
BOX = (0.0, 1.0)
NAN, INF = math.nan, math.inf
RGB = torch.tensor([0.0, 0.1, 0.2])

# checker, arguments, what it returns
ACCEPTED = [
    (check_bounds, (None,), None),
    (check_bounds, ((0, 1),), (0.0, 1.0)),
    (check_bounds, (Bounds(-1.0, 1.0),), (-1.0, 1.0)),
    (check_bounds, ((0.0, 1e-9),), (0.0, 1e-9)),
    (check_images, (X, BOX), None),
    (check_images, (X - 5, None), None),
    (check_images, (torch.tensor([[0.0, 1.0]]), BOX), None),
    (check_images, (torch.tensor([[-9e-7, 1 + 9e-7]]), BOX), None),
    (check_images, (torch.tensor([[-9e-5, 100 + 9e-5]]).double(), (0.0, 100.0)), None),
    (check_images, (X.half(), BOX), None),
    (check_images, (X.bfloat16(), BOX), None),
    (check_images, (X[:1].flatten(1), BOX), None),
    (check_images, (X.clone().requires_grad_(), BOX), None),
    (check_labels, (Y, 3), None),
    (check_label_range, (Y, 3), None),
    (check_logits, (torch.tensor([[0.2, 0.9]]), Y[:1]), None),
    (check_logits, (torch.tensor([[0.0, 0.0]]), Y[:1]), None),
    (check_logits, (torch.tensor([[-0.5, 1.5]]), Y[:1]), None),  # sums to 1, but is outside [0, 1]
    (check_logits, (torch.eye(3)[:2] * torch.tensor([[1.0], [0.9]]), Y[:2]), None),  # one row only
    (check_eps, (0, X, BOX), 0.0),
    (check_eps, (1.0, X, BOX), 1.0),
    (check_eps, (8, X, None), 8.0),
    (check_eps, (np.float32(0.25), X, BOX), 0.25),
    (check_eps, (Fraction(1, 4), X, BOX), 0.25),
    (check_count, (1, "n"), 1),
    (check_count, (0, "n", 0), 0),
    (check_count, (np.int32(5), "n"), 5),
    (check_count, (5, "n", 1, 5), 5),
    (check_count, (2**64, "n"), 2**64),
    (check_pair, ((1, 2),), (1, 2)),
    (check_number, (0, "v", 0.0), 0.0),
    (check_number, (1, "v", 0.0, 1.0), 1.0),
    (check_number, (1e-300, "v", 0.0), 1e-300),
    (check_number, (-1e300, "v"), -1e300),
    (check_number, (np.float64(0.5), "v"), 0.5),
    (check_choice, ("a", "word", ("a", "b")), "a"),
    (check_callable, (torch.relu, "model"), None),
    (check_callable, (torch.nn.Identity(), "model"), None),
]


@pytest.mark.parametrize(("check", "arguments", "result"), ACCEPTED)
def test_accepts(check, arguments, result):
    returned = check(*arguments)
    assert returned == result
    assert type(returned) is type(result)


C = torch.rand(4, 3, 2, 5)  # four examples of three channels
SHAPED = {
    "one for each example": (torch.linspace(0, 0.3, 4), (-1, 1, 1, 1)),
    "the same, shaped": (torch.linspace(0, 0.3, 4).view(4, 1, 1, 1), (-1, 1, 1, 1)),
    "channels": (RGB.view(1, 3, 1, 1), (1, -1, 1, 1)),
    "channels, by the rule of broadcasting": (RGB.view(3, 1, 1), (1, -1, 1, 1)),
    "columns": (torch.linspace(0, 0.4, 5).view(1, 1, 1, 5), (1, 1, 1, -1)),
    "float64 that tracks gradients": (
        RGB.double().view(1, 3, 1, 1).requires_grad_(),
        (1, -1, 1, 1),
    ),
}


@pytest.mark.parametrize(("eps", "shape"), SHAPED.values(), ids=SHAPED)
def test_eps_is_shaped_against_the_images(eps, shape):
    shaped = check_eps(eps, C, BOX)
    assert (shaped.dtype, len(shaped), shaped.requires_grad) == (C.dtype, len(C), False)
    assert shaped.expand_as(C).equal(eps.detach().float().reshape(shape).expand_as(C))


def test_three_channels_are_not_three_examples():
    x = C[:3]
    channels = check_eps(RGB.view(3, 1, 1), x, BOX).expand_as(x)
    assert channels.equal(RGB.view(1, 3, 1, 1).expand_as(x))
    examples = check_eps(RGB.view(3, 1, 1, 1), x, BOX).expand_as(x)
    assert examples.equal(RGB.view(3, 1, 1, 1).expand_as(x))
    same = torch.full((3,), 0.1)  # whichever is meant
    assert check_eps(same, x, BOX).expand_as(x).equal(torch.full_like(x, 0.1))


REFUSED = [
    (check_bounds, ([0.0, 1.0],), TypeError, r"bounds must be Bounds\(low, high\) or None.*list"),
    (check_bounds, ((0.0, 0.5, 1.0),), TypeError, "bounds must be Bounds"),
    (check_bounds, (1.0,), TypeError, "bounds must be Bounds.*float 1.0"),
    (check_bounds, ((0.0, 0.0),), ValueError, r"low < high, got \(0.0, 0.0\)"),
    (check_bounds, ((1.0, 0.0),), ValueError, "low < high"),
    (check_bounds, ((0.0, INF),), ValueError, "bounds must be finite"),
    (check_bounds, ((NAN, 1.0),), ValueError, "bounds must be finite"),
    (check_bounds, (("0", "a"),), TypeError, "bounds must be"),
    (check_bounds, ((None, 1.0),), TypeError, "bounds must be"),
    (check_images, ([[0.0]], BOX), TypeError, r"x must be a tensor.*torch.as_tensor"),
    (check_images, (np.zeros((2, 2)), BOX), TypeError, "x must be a tensor.*ndarray"),
    (check_images, (X.long(), BOX), TypeError, r"torch.int64.*x.float\(\) / 255"),
    (check_images, (X > 0, BOX), TypeError, "torch.bool"),
    (check_images, (X.to_sparse(), BOX), TypeError, r"torch.sparse_coo tensor. Pass x.to_dense"),
    (check_images, (X.to("meta"), BOX), TypeError, "got a meta tensor"),
    (check_images, (X[0, 0, 0], BOX), ValueError, r"shape \(2,\).*x.unsqueeze\(0\)"),
    (check_images, (torch.tensor(0.5), BOX), ValueError, r"shape \(N, ...\)"),
    (check_images, (X[:0], BOX), ValueError, r"x is an empty batch of shape \(0, 1, 2, 2\)"),
    (check_images, (X[:, :, :, :0], BOX), ValueError, "empty"),
    (check_images, (torch.tensor([[0.5, NAN]]), None), ValueError, "x holds NaN or infinity"),
    (check_images, (torch.tensor([[0.5, INF]]), None), ValueError, "x holds NaN or infinity"),
    (check_images, (torch.tensor([[-INF, 0.5]]), BOX), ValueError, "x holds NaN or infinity"),
    (check_images, (torch.tensor([[0.0, 1 + 2e-6]]), BOX), ValueError, "outside bounds"),
    (check_images, (torch.tensor([[-2e-6, 0.0]]), BOX), ValueError, "outside bounds.*Normalize"),
    (check_images, (X[:0], BOX, "data.x"), ValueError, "data.x is an empty batch"),
    (check_labels, ([0, 1, 2], 3), TypeError, "y must be a tensor of labels, got list"),
    (check_labels, (Y.int(), 3), TypeError, r"torch.int64, got torch.int32. Use y.long\(\)"),
    (check_labels, (Y > 0, 3), TypeError, "got torch.bool"),
    (check_labels, (Y, 4), ValueError, r"shape \(4,\).*got \(3,\)"),
    (check_labels, (Y[:, None], 3), ValueError, r"got \(3, 1\)"),
    (check_labels, (Y, 4, "data.y"), ValueError, "data.y must have shape"),
    (check_label_range, (Y, 2), ValueError, "label 2, but the model gives 2 logits.*0 to 1"),
    (check_label_range, (Y - 1, 3), ValueError, "label -1"),
    (check_logits, ("logits", Y), TypeError, r"model\(x\) must return a tensor.*str 'logits'"),
    (check_logits, (torch.eye(3).long(), Y), TypeError, "floating logits, got torch.int64"),
    (check_logits, (torch.randn(3), Y), ValueError, r"got \(3,\)"),
    (check_logits, (torch.randn(3, 1), Y * 0), ValueError, r"\(3, 2 or more\), got \(3, 1\)"),
    (check_logits, (torch.randn(2, 4), Y), ValueError, r"got \(2, 4\)"),
    (check_logits, (torch.randn(3, 4, 1), Y), ValueError, r"got \(3, 4, 1\)"),
    (check_logits, (torch.tensor([[0.0, NAN]]), Y[:1]), ValueError, "NaN or infinity.*diverged"),
    (check_logits, (torch.tensor([[0.0, -INF]]), Y[:1]), ValueError, "NaN or infinity"),
    (check_logits, (torch.randn(3, 4).softmax(1), Y), ValueError, "looks like probabilities"),
    (check_logits, (torch.eye(3), Y), ValueError, "looks like probabilities"),
    (check_logits, (torch.eye(3).double(), Y), ValueError, "looks like probabilities"),
    (check_logits, (torch.eye(3).bfloat16(), Y), ValueError, "looks like probabilities"),
    (check_logits, (torch.tensor([[0.2, 0.8005]]), Y[:1]), ValueError, "probabilities"),
    (check_eps, (-1e-9, X, BOX), ValueError, "eps must be finite and >= 0, got -1e-09"),
    (check_eps, (NAN, X, BOX), ValueError, "eps must be finite and >= 0, got nan"),
    (check_eps, (INF, X, None), ValueError, "eps must be finite and >= 0, got inf"),
    (check_eps, (1.0001, X, BOX), ValueError, "whole pixel range.*1.0001/255"),
    (check_eps, (True, X, BOX), TypeError, "eps must be a number"),
    (check_eps, (None, X, BOX), TypeError, "eps must be a number or a tensor"),
    (check_eps, (torch.tensor([0, 1, 0]), X, BOX), TypeError, "floating dtype, got torch.int64"),
    (check_eps, (torch.rand(2), X, BOX), ValueError, r"shape \(3,\).*got \(2,\)"),
    (check_eps, (torch.rand(3, 1), X, BOX), ValueError, r"got \(3, 1\)"),
    (check_eps, (torch.rand(0), X, BOX), ValueError, r"eps is empty: its shape is \(0,\)"),
    (check_eps, (RGB, X.expand(3, 3, 2, 2), BOX), ValueError, "3 examples of 3 channels: which"),
    (check_eps, (RGB, X.expand(3, 3, 2, 2), BOX), ValueError, r"eps.reshape\(1, -1, 1, 1\)"),
    (
        check_eps,
        (RGB[:2], torch.rand(2, 2), BOX),
        ValueError,
        r"eps.reshape\(-1, 1\), one for each",
    ),
    (
        check_eps,
        (RGB, torch.rand(4, 3, 2, 2), BOX),
        ValueError,
        r"got \(3,\).*one for each channel",
    ),
    (check_eps, (RGB.view(1, 3, 1), X, BOX), ValueError, r"broadcast against x .* got \(1, 3, 1\)"),
    (check_eps, (RGB.view(3, 1, 1, 1), X[:2], BOX), ValueError, r"got \(3, 1, 1, 1\)"),
    (check_eps, (RGB.view(1, 1, 3, 1, 1), X, None), ValueError, r"got \(1, 1, 3, 1, 1\)"),
    (check_eps, (torch.tensor([0.1, NAN, 0.1]), X, BOX), ValueError, "got nan"),
    (check_eps, (torch.tensor([0.1, -0.5, 0.1]), X, BOX), ValueError, "got -0.5"),
    (check_eps, (torch.tensor([0.1, 2.0, 0.1]), X, BOX), ValueError, "eps = 2 is more"),
    (check_eps, (-1, X, BOX, "eps[3]"), ValueError, r"eps\[3\] must be"),
    (check_count, (0, "n"), ValueError, "n must be at least 1, got 0"),
    (check_count, (-1, "n", 0), ValueError, "n must be at least 0, got -1"),
    (check_count, (6, "n", 1, 5), ValueError, "n must be at most 5, got 6"),
    (check_pair, ([X, Y],), TypeError, r"data must be a Dataset or a pair \(x, y\), got list"),
    (check_pair, ((X, Y, Y),), TypeError, "got tuple"),
    (check_count, (1.0, "n"), TypeError, "n must be a whole number, got float 1.0"),
    (check_count, (True, "n"), TypeError, "n must be a whole number, got bool True"),
    (check_number, (-1e-300, "v", 0.0), ValueError, r"v must be finite and in \[0, inf\]"),
    (check_number, (1.0000001, "v", 0.0, 1.0), ValueError, r"in \[0, 1\]"),
    (check_number, (INF, "v"), ValueError, "v must be finite.*got inf"),
    (check_number, (NAN, "v"), ValueError, "v must be finite.*got nan"),
    (check_number, (True, "v"), TypeError, "v must be a number, got bool True"),
    (check_number, ("1", "v"), TypeError, "v must be a number, got str '1'"),
    (check_number, (torch.tensor(1.0), "v"), TypeError, "a torch.float32 tensor of shape"),
    (check_choice, ("A", "word", ("a", "b")), ValueError, "word must be one of a, b, got 'A'"),
    (check_choice, (None, "word", ("a", "b")), ValueError, "got None"),
    (check_callable, (None, "model"), TypeError, "model must be callable.*NoneType None"),
    (check_callable, (3, "attack"), TypeError, "attack must be callable.*int 3"),
]


@pytest.mark.parametrize(("check", "arguments", "error", "words"), REFUSED)
def test_refuses(check, arguments, error, words):
    with pytest.raises(error, match=words):
        check(*arguments)


def test_probabilities_are_found_whatever_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        for dtype in (torch.float32, torch.float64):
            with pytest.raises(ValueError, match="looks like probabilities"):
                check_logits(torch.eye(3, dtype=dtype), Y)
            check_logits(torch.eye(3, dtype=dtype) * 2, Y)
    finally:
        torch.set_default_dtype(torch.float32)


def test_an_open_end_is_not_included():
    assert check_number(1e-300, "v", low=0.0, open_low=True) == 1e-300
    with pytest.raises(ValueError, match=r"v must be finite and in \(0, inf\], got 0"):
        check_number(0.0, "v", low=0.0, open_low=True)


def test_an_eps_for_each_example_is_shaped_like_the_images():
    eps = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    shaped = check_eps(eps, X, BOX)
    assert shaped.shape == (3, 1, 1, 1)
    assert shaped.dtype == X.dtype
    assert (X + shaped - X).flatten(1).amax(1).allclose(eps.float())
    assert check_eps(torch.tensor(0.25), X, BOX).shape == ()
    assert check_eps(eps, X.flatten(1), BOX).shape == (3, 1)


def test_a_long_value_is_cut_short_in_the_message():
    with pytest.raises(TypeError) as caught:
        check_number("x" * 10_000, "v")
    assert len(str(caught.value)) < 200
    with pytest.raises(TypeError) as caught:
        check_bounds(torch.rand(1000, 1000))
    assert len(str(caught.value)) < 250
