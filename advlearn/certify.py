"""What can be proved about a model: that no change within eps alters its answer.

An attack shows that an example falls; that none was found proves nothing. Here is the other side.
Each pixel may be anywhere within eps of its value: an interval. `advlearn.intervals` carries these
intervals through the network, and if the label's logit stays above all others whatever the pixels
are, *no attack exists*. What is not proved may still stand: the truth lies between the error under
the best attack and the certified error.

Bounds are computed in the model's own precision. Each sum is widened by what rounding may change it
by, and a proof has to clear an allowance for what is left (`advlearn.intervals.rounding`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
from advlearn.attacks import PIXELS
from advlearn.batches import BATCH, Batches, Data, device_of
from advlearn.context import Model, attack_mode, hand_out, uncompiled
from advlearn.intervals import Interval, UnboundedError, place, rounding, walking
from advlearn.metrics import Rate, eps_of_batch

__all__ = [
    "UnboundedError",
    "certified",
    "certified_error_rate",
    "interval",
    "logit_bounds",
    "margin_bounds",
    "propagate",
]


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
    return _proved(model, x, None, eps, bounds)


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
        >>> _ = model.weight.data.copy_(2 * torch.eye(2))
        >>> margin_bounds(model, torch.tensor([[0.9, 0.1]]), torch.tensor([0]), 0.25)
        tensor([[0.0000, 0.6000]])
    """
    logits = _proved(model, x, y, eps, bounds)
    with torch.no_grad():
        return logits.margins(y)


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
        >>> _ = model.weight.data.copy_(2 * torch.eye(2))
        >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
        >>> certified(model, x, y, 0.25)
        tensor([ True, False])
    """
    logits = _proved(model, x, y, eps, bounds)
    with torch.no_grad():
        others = logits.margins(y).scatter_(1, y.unsqueeze(1), torch.inf)
        return others.amin(1) > rounding(torch.cat((logits.lower, logits.upper), 1))


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
        >>> _ = model.weight.data.copy_(2 * torch.eye(2))
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


# How many images the model sees as they are, beside the intervals.
_LOOKED_AT = 2
# How many pixels at a time a processor bounds: what comes of more would not stay in its cache.
_PIXELS = 200_000


def _proved(
    model: Model,
    x: Tensor,
    y: Tensor | None,
    eps: float | Tensor,
    bounds: tuple[float, float] | None,
) -> Interval:
    """Check the arguments and return bounds on the logits that hold as a proof."""
    box = check_bounds(bounds)
    check_callable(model, "model")
    check_images(x, box)
    if y is not None:
        check_labels(y, len(x))
    radius = check_eps(eps, x, box)
    with attack_mode(model, backward=False), torch.no_grad():
        x, some = x.detach(), x.detach()[:_LOOKED_AT]
        logits = logits_of(hand_out(model, some))
        check_logits(logits, torch.zeros(len(some), dtype=torch.int64))
        if y is not None:
            check_label_range(y, logits.shape[1])
        drawn = _random_states(x.device)
        pixels = interval(x, radius, box)
        rows = max(8, _PIXELS * len(x) // x.numel()) if x.device.type == "cpu" else len(x)
        parts = [
            propagate(model, Interval(*ends), proof=True)
            for ends in zip(pixels.lower.split(rows), pixels.upper.split(rows), strict=True)
        ]
        bounded = _joined(parts)
        if any(not a.equal(b) for a, b in zip(drawn, _random_states(x.device), strict=True)):
            raise UnboundedError(
                "the model draws random numbers in eval mode, so it has no one answer to bound. "
                "Certify it without them."
            )
        # A model that remembers, or draws from a generator of its own, shows here.
        lower, upper = bounded.lower[: len(some)], bounded.upper[: len(some)]
        slack = rounding(torch.cat((lower, upper), 1)).unsqueeze(1)
        if bounded.shape != (len(x), logits.shape[1]) or not bool(
            ((logits >= lower - slack) & (logits <= upper + slack)).all()
        ):
            raise UnboundedError(
                "the model gives logits outside of their bounds: its answer depends on more than "
                "the images, such as random numbers, or the other images of the batch."
            )
    return bounded


def _joined(parts: Sequence[Interval]) -> Interval:
    """Return the bounds on the logits of some images after those of others."""
    if len(parts) == 1:
        return parts[0]

    def apart(y: Tensor) -> Tensor:
        labels = y.split([len(part) for part in parts])
        return torch.cat([part.margins(own) for part, own in zip(parts, labels, strict=True)])

    lower, upper = (torch.cat([getattr(p, end) for p in parts]) for end in ("lower", "upper"))
    return Interval(lower, upper, apart)


def _random_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def interval(x: Tensor, eps: float | Tensor, box: tuple[float, float] | None) -> Interval:
    """Return all images within eps of x and inside the bounds of pixels.

    Example:
        >>> pixels = interval(torch.tensor([[0.125, 0.5]]), 0.25, (0.0, 1.0))
        >>> pixels.lower, pixels.upper
        (tensor([[0.0000, 0.2500]]), tensor([[0.3750, 0.7500]]))
    """
    if box is None:
        return Interval(x - eps, x + eps)
    # Both at both ends: a pixel may be outside of the bounds by a rounding error.
    return Interval((x - eps).clamp_(*box), (x + eps).clamp_(*box))


def propagate(model: Model, pixels: Interval, *, proof: bool = False) -> Interval:
    """Return bounds on what the model gives for an interval of images, as it stands.

    Neither the mode nor gradients are touched, so that training can pass through.

    Args:
        model: as for `logit_bounds`.
        pixels: the images (N, ...); a model that writes into its input changes them.
        proof: refuse what is no proof: half precision, and dropout that is on.

    Raises:
        UnboundedError: something in the model has no rule.

    Example:
        >>> pixels = Interval(torch.zeros(1, 2), torch.ones(1, 2))
        >>> propagate(lambda x: x - x.mean(1, keepdim=True), pixels).upper
        tensor([[1., 1.]])
    """
    with uncompiled(), walking(model, proof=proof):
        try:
            out: Any = logits_of(model(pixels))  # type: ignore[arg-type]
        except (UnboundedError, MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a model raises that takes tensors only
            raise UnboundedError(
                f"the model cannot be bounded: it does not take an interval in place of a tensor"
                f"{place(error)} ({str(error) or type(error).__name__:.300}). A compiled model is "
                "certified as the module that it was made of."
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
