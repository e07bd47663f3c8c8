from __future__ import annotations

import math

import pytest
import torch

from advlearn.functional import maxout, rbf, rbf_distance, sign, softplus


def test_sign_has_three_values():
    assert sign(torch.tensor([-0.5, -0.0, 0.0, 1e-30])).tolist() == [-1, 0, 0, 1]


@pytest.mark.parametrize(
    "value", [-700.0, -40.0, -1.0, 0.0, 1e-9, 19.9, 20.1, 36.0, 49.9, 51.0, 1e6]
)
def test_softplus_equals_the_exact_value_in_float64(value):
    exact = value + math.log1p(math.exp(-value)) if value > 0 else math.log1p(math.exp(value))
    assert softplus(torch.tensor(value, dtype=torch.float64)).item() == pytest.approx(
        exact, rel=1e-15, abs=1e-320
    )


@pytest.mark.parametrize("value", [-80.0, -20.0, 0.0, 20.0, 49.0, 60.0, 500.0])
def test_the_derivative_of_softplus_is_the_sigmoid(value):
    x = torch.tensor(value, requires_grad=True)
    (slope,) = torch.autograd.grad(softplus(x), x)
    exact = 1 / (1 + math.exp(-value))
    assert slope.item() == pytest.approx(exact, rel=1e-6)


def test_maxout_takes_the_maximum_of_each_units_pieces():
    z = torch.tensor([[1.0, 2.0, 3.0, 9.0, 5.0, 0.0]])  # two units of three pieces
    assert maxout(z, 3).tolist() == [[5.0, 9.0]]
    assert maxout(z, 1).equal(z)
    images = torch.randn(2, 6, 4, 4)
    assert maxout(images, 2).equal(torch.maximum(images[:, :3], images[:, 3:]))


def test_maxout_shares_the_gradient_of_a_tie():
    z = torch.zeros(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(maxout(z, 2).sum(), z)
    assert gradient.tolist() == [[0.5, 0.5]]


def test_maxout_names_a_wrong_width():
    with pytest.raises(ValueError, match=r"pieces = 4.*\(1, 6\)"):
        maxout(torch.zeros(1, 6), 4)


def test_rbf_is_one_at_the_centre_and_the_formula_elsewhere():
    x, centre = torch.randn(5, 3).double(), torch.randn(2, 3).double()
    precision = torch.rand(2, 3).double()
    expected = [
        [
            math.exp(-sum(float(b * (v - m) ** 2) for v, m, b in zip(row, mu, beta, strict=True)))
            for mu, beta in zip(centre, precision, strict=True)
        ]
        for row in x
    ]
    torch.testing.assert_close(rbf(x, centre, precision), torch.tensor(expected).double())
    assert rbf(centre, centre, precision).diagonal().tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="centre and precision"):
        rbf_distance(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, 4))
