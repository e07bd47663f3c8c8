"""What can be proved about a model: that no change within eps alters its answer.

An attack shows that an example falls; that none was found proves nothing. Here is the other side.
Each pixel may be anywhere within eps of its value: an interval. `advlearn.intervals` carries these
intervals through the network, and if the label's logit stays above all others whatever the pixels
are, *no attack exists*. What is not proved may still stand: the truth lies between the error under
the best attack and the certified error.

Bounds are computed in the model's own precision, not with directed rounding; a proof has to clear
an allowance for it (`rounding`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advlearn._validation import (
    check_bounds,
    check_callable,
    check_eps,
    check_images,
    check_label_range,
    check_labels,
    check_logits,
    logits_of,
)
from advlearn.attacks import PIXELS, ball
from advlearn.batches import BATCH, Batches, Data, device_of
from advlearn.context import Model, attack_mode, hand_out, uncompiled
from advlearn.intervals import Interval, UnboundedError, naming
from advlearn.metrics import Rate, eps_of_batch

__all__ = [
    "UnboundedError",
    "certified",
    "certified_error_rate",
    "logit_bounds",
    "margin_bounds",
    "rounding",
]


def rounding(bounds: Tensor) -> Tensor:
    """Return by how much a bound must clear 0 to be a proof in spite of rounding.

    2^12 units in the last place of the largest bound of each row: 5e-4 of it in float32. The sums
    of a network with a thousand inputs a unit are rounded a thousand times, mostly in both
    directions.

    Args:
        bounds: (N, K).

    Example:
        >>> float(rounding(torch.tensor([[0.5, -16.0]]))) == 16 * 4096 * 2**-23
        True
    """
    return 4096 * torch.finfo(bounds.dtype).eps * bounds.abs().amax(1)


def logit_bounds(
    model: Model,
    x: Tensor,
    eps: float | Tensor,
    *,
    bounds: tuple[float, float] | None = PIXELS,
) -> Interval:
    """Return bounds on the logits over all images within eps of x.

    l <= model(x~) <= u for every x~ with |x~ - x| <= eps in every pixel, and inside `bounds`.
    Through a linear layer the centre and the radius of an interval go apart,

        c' = W c + b,    r' = |W| r,

    and a function that never falls is applied to both ends.

    Args:
        model: maps (N, ...) to logits (N, K); bounded in eval mode, given back as it was.
        x, eps, bounds: as for `advlearn.attacks.fgsm`.

    Returns:
        `lower` and `upper`, (N, K) each, detached.

    Raises:
        UnboundedError: the model does something that has no rule; its layer is named.
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Source:
        Gowal et al., 2018.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, -2.0], [0.0, 1.0]]))
        >>> z = logit_bounds(model, torch.full((1, 2), 0.5), 0.25)
        >>> z.lower, z.upper
        (tensor([[-1.2500,  0.2500]]), tensor([[0.2500, 0.7500]]))
    """
    box = check_bounds(bounds)
    check_callable(model, "model")
    check_images(x, box)
    radius = check_eps(eps, x, box)
    with attack_mode(model, backward=False), torch.no_grad():
        return _bounded(model, x.detach(), radius, box)


def margin_bounds(
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    bounds: tuple[float, float] | None = PIXELS,
) -> Tensor:
    """Return lower bounds on the margin z_y - z_k of each class k, over all images within eps of x.

    If the model ends in a linear layer, its rows are subtracted before they are bounded,

        z_y - z_k >= (w_y - w_k)' c + b_y - b_k - |w_y - w_k|' r,

    which is tighter than the difference of the bounds of z_y and z_k. For a linear model it is
    exact, and equals the margin after FGSM: lesson 3's closed form.

    Args:
        model, x, eps, bounds: as for `logit_bounds`.
        y: (N,) int64 labels in [0, K).

    Returns:
        (N, K); 0 in the column of the label.

    Raises:
        UnboundedError, TypeError, ValueError: as for `logit_bounds`.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> margin_bounds(model, torch.tensor([[0.9, 0.1]]), torch.tensor([0]), 0.25)
        tensor([[0.0000, 0.3000]])
    """
    check_labels(y, len(x) if isinstance(x, Tensor) else 0)
    logits = logit_bounds(model, x, eps, bounds=bounds)
    check_label_range(y, logits.shape[1])
    with torch.no_grad():
        return margins(logits, y)


def certified(
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    bounds: tuple[float, float] | None = PIXELS,
) -> Tensor:
    """Say of each example whether it is proved that no change within eps makes the model wrong.

    An example is certified if every margin's lower bound is above 0 by more than `rounding` could
    have added. False means: not proved, which is no proof of the contrary.

    Args:
        model, x, y, eps, bounds: as for `margin_bounds`.

    Returns:
        (N,) booleans.

    Raises:
        UnboundedError, TypeError, ValueError: as for `logit_bounds`; or the model computes in half
            precision, in which sums are too rough for a proof.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
        >>> certified(model, x, y, 0.25)
        tensor([ True, False])
    """
    check_labels(y, len(x) if isinstance(x, Tensor) else 0)
    logits = logit_bounds(model, x, eps, bounds=bounds)
    check_label_range(y, logits.shape[1])
    if torch.finfo(logits.dtype).bits < 32:
        raise ValueError(
            f"the model gives logits of {logits.dtype}, whose sums are too rough for a proof. "
            "Certify model.float() with images in float32."
        )
    with torch.no_grad():
        lowest = margins(logits, y)
    lowest.scatter_(1, y.unsqueeze(1), torch.inf)
    largest = torch.cat((logits.lower, logits.upper), 1)
    return lowest.amin(1) > rounding(largest)


def certified_error_rate(
    model: Model,
    data: Data,
    eps: float | Tensor,
    *,
    bounds: tuple[float, float] | None = PIXELS,
    batch_size: int = BATCH,
    progress: bool | None = None,
) -> Rate:
    """Return the share of examples that are not certified: no attack within eps gets above it.

    Args:
        model, eps, bounds: as for `certified`.
        data, batch_size, progress: as for `advlearn.metrics.error_rate`.

    Raises:
        UnboundedError, TypeError, ValueError: as for `certified`.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> data = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
        >>> print(certified_error_rate(model, data, 0.25))
        50.0 % (9.5-90.5)
    """
    check_callable(model, "model")
    batches = Batches(data, batch_size, device=device_of(model), progress=progress)
    size = eps_of_batch(eps, batches)
    count = total = 0
    for mask in batches.each(lambda x, y: certified(model, x, y, size(x), bounds=bounds)):
        count, total = count + int((~mask).sum()), total + len(mask)
    return Rate(count, total)


def _bounded(
    model: Model, x: Tensor, eps: float | Tensor, box: tuple[float, float] | None
) -> Interval:
    """Return the model's output for the interval of x; `attack_mode`, or training, is on."""
    # The checks on logits, for which the bounds are no substitute: probabilities, one logit, NaN.
    if not torch.is_grad_enabled():
        logits = logits_of(hand_out(model, x[:2]))
        check_logits(logits, torch.zeros(len(x[:2]), dtype=torch.int64))
    return propagate(model, Interval(*ball(x, eps, box)))


def propagate(model: Model, pixels: Interval) -> Interval:
    """Return bounds on what the model gives for an interval of images, as it stands.

    Neither the mode nor gradients are touched, so that training can pass through.

    Raises:
        UnboundedError: something in the model has no rule.
    """
    with naming(model), uncompiled():
        try:
            out: Any = logits_of(model(pixels))  # type: ignore[arg-type]
        except UnboundedError:
            raise
        except (TypeError, RuntimeError, AttributeError) as error:
            raise UnboundedError(
                f"the model cannot be bounded: it does not take an interval in place of a tensor "
                f"({error}). Compiled, traced and scripted models are certified as the module "
                "that they were made of."
            ) from error
    if not isinstance(out, Interval):
        raise UnboundedError(
            f"the model gives {type(out).__name__} for an interval of images: its output does not "
            "depend on them, or leaves PyTorch on the way (.numpy(), .tolist())."
        )
    if out.dim() != 2 or not bool((out.lower.isfinite() & out.upper.isfinite()).all()):
        raise UnboundedError(
            f"the bounds on the logits, of shape {tuple(out.shape)}, are NaN or infinite. Look in "
            "the model for a logarithm, a root or a division that reaches 0, or lower eps."
        )
    return out


def margins(logits: Interval, y: Tensor) -> Tensor:
    """Return lower bounds on z_y - z_k, (N, K), of what `propagate` gave; differentiable."""
    own = y.unsqueeze(1)
    source = logits.source
    if source is None:
        lowest = logits.lower.gather(1, own) - logits.upper
        return lowest.scatter(1, own, 0.0)
    centre, radius = source.inside.centre, source.inside.radius
    z = torch.nn.functional.linear(centre, source.weight, source.bias)
    reach = z.new_zeros(z.shape)
    # One product for each label that occurs: |w_y - w_k| of all pairs may be large.
    for label in y.unique().tolist():
        rows = (y == label).nonzero().squeeze(1)
        apart = (source.weight[label] - source.weight).abs()
        reach = reach.index_copy(0, rows, (radius[rows] @ apart.T).to(reach.dtype))
    return z.gather(1, own) - z - reach
