"""What can be proved about a model: that no change within eps alters its answer.

An attack shows that an example falls; that none was found proves nothing. Here is the other side.
Each pixel may be anywhere within eps of its value: an interval. `advlearn.intervals` carries these
intervals through the network, and if the label's logit stays above all others whatever the pixels
are, *no attack exists*. What is not proved may still stand: the truth lies between the error under
the best attack and the certified error.

Bounds are computed in the model's own precision. Each sum is widened by what rounding may change it
by, and a proof has to clear an allowance for what is left (`advlearn.intervals.rounding`).

An interval goes through the model's own code, but a model can do one thing with an interval and
another with images. So it is also given images of the ball, whose logits have to lie in their
bounds, and intervals of one image each, whose bounds have to hold that image's own logits. A model
that fails is refused, and so is a random one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from advlearn.batches import Batches, Data, device_of
from advlearn.context import Model, answer, attack_mode, modules_behind, uncompiled
from advlearn.intervals import Interval, UnboundedError, place, rounding, walking
from advlearn.metrics import Rate, eps_of_batch
from advlearn.passes import count_passes
from advlearn.randomness import Generators, why_random

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
        UnboundedError: the model does something that has no rule; its layer is named. Or it is
            random, or gives images other logits than their bounds allow.
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
    return _proved(model, x, None, eps, bounds)[0]


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
    return _proved(model, x, y, eps, bounds)[1]


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
    logits, margins = _proved(model, x, y, eps, bounds)
    with torch.no_grad():
        others = margins.scatter_(1, y.unsqueeze(1), torch.inf)
        return others.amin(1) > rounding(torch.cat((logits.lower, logits.upper), 1))


def certified_error_rate(
    model: Model,
    data: Data,
    eps: float | Tensor,
    *,
    bounds: tuple[float, float] | None = PIXELS,
    batch_size: int | None = None,
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


# How many images the model sees as they are, beside the intervals: to learn how many classes there
# are; then of the ball, one for each example, evenly over the batch; and as intervals of one image.
_FIRST, _LOOKED_AT, _POINTS = 2, 256, 32
# How many pixels at a time a processor bounds: what comes of more would not stay in its cache.
_PIXELS = 200_000


def _proved(
    model: Model,
    x: Tensor,
    y: Tensor | None,
    eps: float | Tensor,
    bounds: tuple[float, float] | None,
) -> tuple[Interval, Tensor]:
    """Check the arguments; return bounds on logits that hold as a proof, and those on margins.

    Without labels there are none, and the second is empty.
    """
    box = check_bounds(bounds)
    check_callable(model, "model")
    check_images(x, box)
    if y is not None:
        check_labels(y, len(x))
    radius = check_eps(eps, x, box)
    with attack_mode(model, backward=False), torch.no_grad():
        x, some = x.detach(), x.detach()[:_FIRST]
        logits = answer(model, some)
        check_logits(logits, torch.zeros(len(some), dtype=torch.int64))
        if y is not None:
            check_label_range(y, logits.shape[1])
        pixels = interval(x, radius, box)
        looks = _Looks(x, pixels)  # before a model that writes into its input
        rows = max(8, _PIXELS * len(x) // x.numel()) if x.device.type == "cpu" else len(x)
        with _buffers_kept(model):
            watched = Generators(model, x.device)
            parts = [
                propagate(model, Interval(*ends), proof=True)
                for ends in zip(pixels.lower.split(rows), pixels.upper.split(rows), strict=True)
            ]
            bounded, name = _joined(parts), watched.moved()
            if name:
                raise UnboundedError(
                    f"the model draws random numbers in eval mode, from {name}, so it has no one "
                    "answer to bound. Certify it without them."
                )
            if why := why_random(model, x):
                raise UnboundedError(
                    f"the model is random: {why}. Its answer depends on more than the images, so "
                    "there is no one answer to bound. Certify it without that."
                )
            margins = x.new_empty(0) if y is None else bounded.margins(y)
            if bounded.shape != (len(x), logits.shape[1]):
                raise UnboundedError(
                    f"the model gives logits of shape {tuple(bounded.shape)} for intervals, and of "
                    f"{(len(x), logits.shape[1])} for images. Let it treat both alike."
                )
            looks.compare(model, y, bounded, margins, rows)
    return bounded, margins


class _Looks:
    """Images of the ball, on which a model's own answers are compared with their bounds.

    By turns the example itself, a corner of its ball, and any image inside.

    Args:
        x: (N, ...) the examples.
        pixels: their balls.
    """

    def __init__(self, x: Tensor, pixels: Interval) -> None:
        count = min(len(x), _LOOKED_AT)
        self.rows = torch.arange(count, device=x.device) * len(x) // count
        low, high, own = pixels.lower[self.rows], pixels.upper[self.rows], x[self.rows]
        generator = torch.Generator().manual_seed(0)  # the global ones are left alone
        share = torch.rand(
            low.shape, generator=generator, dtype=x.dtype, device=generator.device
        ).to(x.device)
        inside = torch.minimum(torch.maximum(low + share * (high - low), low), high)
        corner = torch.where(share < 0.5, low, high)
        turn = torch.arange(count, device=x.device).view(-1, *[1] * (x.dim() - 1)) % 3
        self.images = torch.where(turn == 0, own, torch.where(turn == 1, corner, inside))

    def compare(
        self, model: Model, y: Tensor | None, bounded: Interval, margins: Tensor, rows: int
    ) -> None:
        """Refuse a model whose answers are not in their bounds.

        Args:
            y: the labels of all examples.
            bounded, margins: the bounds, of all examples.
            rows: how many images the model gets at a time.
        """
        # In another order and in other company than the intervals: an answer is the image's own.
        size = min(rows, (len(self.images) + 1) // 2)
        parts = self.images.flip(0).split(size)
        logits = torch.cat([answer(model, part) for part in parts]).flip(0)
        lower, upper = bounded.lower[self.rows], bounded.upper[self.rows]
        own = None if y is None else (y[self.rows], margins[self.rows])
        _require_inside(logits, Interval(lower, upper), own)
        # The bounds of a whole ball are wide. Those of one image have to hold its own logits, and
        # are about as narrow as rounding. So the model does the same with intervals and images.
        count = min(len(self.rows), _POINTS)
        some = torch.arange(count, device=lower.device) * len(self.rows) // count
        images = self.images[some]
        count_passes(2 * count)
        exact = _propagated(model, Interval(images, images.clone()), proof=True)
        if y is not None:
            labels = y[self.rows][some]
            own = labels, exact.margins(labels)
        _require_inside(logits[some], exact, own)


def _require_inside(z: Tensor, bounds: Interval, own: tuple[Tensor, Tensor] | None) -> None:
    """Require that logits (N, K) lie in their bounds, up to rounding.

    Args:
        z: the logits of images.
        bounds: theirs.
        own: labels, and lower bounds on the margins against the other classes.
    """
    inside = z.shape == bounds.shape
    if inside:
        slack = rounding(torch.cat((bounds.lower, bounds.upper), 1)).unsqueeze(1)
        inside = bool(((z >= bounds.lower - slack) & (z <= bounds.upper + slack)).all())
        if own is not None:
            apart = z.gather(1, own[0].unsqueeze(1)) - z
            inside = inside and bool((apart >= own[1] - slack).all())
    if not inside:
        raise UnboundedError(
            "the model gives logits outside of their bounds: its answer depends on more than the "
            "images, such as the other images of the batch or what it has seen before, or it does "
            "something else with an interval than with images (type(x), try and except). Certify "
            "a model without that."
        )


@contextmanager
def _buffers_kept(model: Model) -> Iterator[None]:
    """Take intervals out of the buffers of a model again, in which it has kept what it saw."""
    held = [
        own for part in modules_behind(model) if (own := vars(part).get("_buffers")) is not None
    ]
    before = [dict(own) for own in held]
    try:
        yield
    finally:
        kept = False
        for own, values in zip(held, before, strict=True):
            if any(type(value) is Interval for value in own.values()):
                kept = True
                own.clear()
                own.update(values)
    if kept:
        raise UnboundedError(
            "the model keeps what it has seen in a buffer, so its answer may depend on it. Take "
            "that out of eval mode, or keep it in an attribute that no answer depends on."
        )


def _joined(parts: Sequence[Interval]) -> Interval:
    """Return the bounds on the logits of some images after those of others."""
    if len(parts) == 1:
        return parts[0]

    def apart(y: Tensor) -> Tensor:
        labels = y.split([len(part) for part in parts])
        return torch.cat([part.margins(own) for part, own in zip(parts, labels, strict=True)])

    lower, upper = (torch.cat([getattr(p, end) for p in parts]) for end in ("lower", "upper"))
    return Interval(lower, upper, apart)


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
    return _propagated(model, pixels, proof=proof)


def _propagated(model: Model, pixels: Interval, *, proof: bool) -> Interval:
    """Do what `propagate` does, whoever stands in for it."""
    with uncompiled(), walking(model, proof=proof) as refused:
        # Of this pass, whoever made it: a thread that the model starts has to know.
        given = Interval(pixels.lower, pixels.upper)
        try:
            out: Any = logits_of(model(given))  # type: ignore[arg-type]
        except (UnboundedError, MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a model raises that takes tensors only
            raise UnboundedError(
                f"the model cannot be bounded: it does not take an interval in place of a tensor"
                f"{place(error)} ({str(error) or type(error).__name__:.300}). A compiled model is "
                "certified as the module that it was made of."
            ) from error
    if refused:  # and the model went on without it, another way than images go
        raise UnboundedError(refused[0])
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
