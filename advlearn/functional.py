"""The functions that the course is built from, each with its formula."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name that the field uses
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from advlearn._validation import check_count


def sign(x: Tensor) -> Tensor:
    """Return the sign of each entry: -1, 0 or +1.

    sign(v) = +1 for v > 0, 0 for v = 0, -1 for v < 0. The value at 0 matters: a pixel with zero
    gradient, such as the dead border of a digit, is left alone by the fast gradient sign method.

    Args:
        x: any shape, floating.

    Returns:
        A tensor of x's shape and dtype. Its derivative is zero wherever it exists.

    Source:
        Section 3 of the paper.

    Example:
        >>> sign(torch.tensor([-2.0, 0.0, 0.1]))
        tensor([-1.,  0.,  1.])
    """
    return torch.sign(x)


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(v)), a smooth max(v, 0), for every entry v.

    Computed as log1p(exp(v)) up to v = 50 and as v above, where exp(-v) is under the rounding of
    float64 and exp(v) would soon overflow. (PyTorch's default switches at 20, which costs eight
    digits in float64.) The derivative is the logistic sigmoid 1 / (1 + exp(-v)).

    Args:
        x: any shape, floating.

    Returns:
        A tensor of x's shape and dtype, with values > 0 (0 where exp(v) underflows).

    Source:
        Section 5 of the paper, the function that it calls zeta.

    Example:
        >>> softplus(torch.tensor([-1000.0, 0.0, 1000.0]))
        tensor([0.0000e+00, 6.9315e-01, 1.0000e+03])
    """
    return F.softplus(x, beta=1.0, threshold=50.0)


def maxout(z: Tensor, pieces: int) -> Tensor:
    """Return the maximum of each group of `pieces` linear pieces.

    h_j = max over p of z[:, p, j]. The K = pieces * units entries of dimension 1 are read as
    `pieces` blocks of `units`, so that piece p of unit j is entry p * units + j: that order
    lets the processor take the maximum of whole blocks.

    Args:
        z: (N, pieces * units, ...), floating.
        pieces: how many linear pieces make one unit, at least 1.

    Returns:
        (N, units, ...). Where pieces tie, the gradient is shared equally between them.

    Raises:
        ValueError: dimension 1 is not a multiple of `pieces`.

    Source:
        Goodfellow et al., "Maxout networks", ICML 2013, equation 1.

    Example:
        The absolute value is one maxout unit with the pieces v and -v.

        >>> v = torch.tensor([[-3.0], [2.0]])
        >>> maxout(torch.cat([v, -v], dim=1), pieces=2)
        tensor([[3.],
                [2.]])
    """
    check_count(pieces, "pieces")
    if z.dim() < 2 or z.shape[1] % pieces:
        raise ValueError(
            f"z must have shape (N, pieces * units, ...) with pieces = {pieces}, "
            f"got {tuple(z.shape)}. Make dimension 1 a multiple of pieces."
        )
    return z.reshape(z.shape[0], pieces, -1, *z.shape[2:]).amax(dim=1)


def rbf(x: Tensor, centre: Tensor, precision: Tensor) -> Tensor:
    """Return the response of one radial basis function per class.

    p(k | x) = exp(-(x - mu_k)' B_k (x - mu_k)) with a diagonal B_k: 1 at the centre, near 0 far
    from it. The rows do not sum to 1: an RBF unit can say "none of my classes".

    Args:
        x: (N, d), floating.
        centre: (K, d), the centres mu_k.
        precision: (K, d), the diagonals of B_k, >= 0, in units of 1 / x².

    Returns:
        (N, K), in [0, 1].

    Source:
        Section 7 of the paper.

    Example:
        >>> rbf(torch.zeros(1, 2), torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.ones(2, 2))
        tensor([[1.0000, 0.0183]])
    """
    return torch.exp(-rbf_distance(x, centre, precision))


def rbf_distance(x: Tensor, centre: Tensor, precision: Tensor) -> Tensor:
    """Return the exponent of `rbf`: (x - mu_k)' B_k (x - mu_k), shape (N, K), >= 0.

    Example:
        >>> rbf_distance(torch.ones(1, 2), torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[2.]])
    """
    if x.dim() != 2 or centre.shape != precision.shape or centre.shape[1:] != x.shape[1:]:
        raise ValueError(
            "x must be (N, d), centre and precision (K, d); got "
            f"{tuple(x.shape)}, {tuple(centre.shape)} and {tuple(precision.shape)}."
        )
    # Differences first: expanding the square would cancel digits near the centres.
    return (precision * (x.unsqueeze(1) - centre).square()).sum(-1)


LEAST_DISTANCE = 1e-6
"""Exponents of `rbf` below it count as it: p = 1 would be certainty, an infinite logit."""


def rbf_log_odds(x: Tensor, centre: Tensor, precision: Tensor) -> Tensor:
    """Return the log-odds log(p / (1 - p)) of `rbf`, shape (N, K): the logits of an RBF network.

    Example:
        >>> x, centre, precision = torch.ones(1, 2), torch.zeros(3, 2), torch.ones(3, 2)
        >>> odds = rbf_log_odds(x, centre, precision)
        >>> odds.sigmoid().allclose(rbf(x, centre, precision))
        True
    """
    if has_torch_function((x,)):  # what stands in for a tensor, as an Interval, has its own way
        return handle_torch_function(rbf_log_odds, (x,), x, centre, precision)
    return log_odds(rbf_distance(x, centre, precision))


def log_odds(distance: Tensor) -> Tensor:
    """Return log(p / (1 - p)) for p = exp(-distance): it falls, and ever less steeply.

    Example:
        >>> log_odds(torch.tensor([2.0]).log())
        tensor([0.])
    """
    # p = exp(-q) has log-odds -log(exp(q) - 1) = -q - log(1 - exp(-q)).
    distance = distance.clamp_min(LEAST_DISTANCE)
    return -distance - torch.log(-torch.expm1(-distance))


def log_mean_softmax(logits: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of several models' probabilities: log(mean softmax(z_m)).

    Args:
        logits: M tensors (N, K).

    Returns:
        (N, K), the logits of an ensemble.

    Source:
        Section 9 of the paper.

    Example:
        >>> log_mean_softmax([torch.zeros(1, 2), torch.tensor([[3.0, 0.0]]).log()]).exp()
        tensor([[0.7500, 0.2500]])
    """
    if has_torch_function(tuple(logits)):
        return handle_torch_function(log_mean_softmax, tuple(logits), logits)
    # Logarithms throughout: the mean of probabilities that round to 0 or 1 has no gradient.
    return log_mean([z.log_softmax(1) for z in logits])


def log_mean(logs: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of exp(l_m), for M tensors of one shape.

    Example:
        >>> log_mean([torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])])
        tensor([0., 1.])
    """
    return torch.stack([*logs]).logsumexp(0) - math.log(len(logs))
