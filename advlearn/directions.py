"""Directions that cannot be used: counted while an attack runs, and said once at its end."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


class NoDirectionWarning(UserWarning):
    """A gradient gave some examples or pixels no direction, so that an attack left them alone."""


@dataclass
class Directions:
    """How many gradients were taken, one for each example at each step, and what they were like.

    Attributes:
        total: all of them.
        zero: those that are zero in every pixel.
        broken: those with NaN or infinity in some pixel.
        broken_pixels: the share of such pixels in the broken ones, summed over these.
        lost: which examples of the latest batch are among the zero or the broken, (N,) booleans;
            None for a batch without such.
    """

    total: int = 0
    zero: int = 0
    broken: int = 0
    broken_pixels: float = 0.0
    lost: Tensor | None = None

    def words(self) -> Iterator[str]:
        """Say what cannot be used, its share, and what to do about it."""
        if self.zero:
            yield (
                f"The gradient is zero in every pixel for {_share(self.zero, self.total)}: an "
                "attack has no direction there and does not move them. That is no sign of "
                "robustness. The loss is flat there (loss=margin_loss is not), or the model is "
                "untrained, saturated, or cuts the gradient (rounding, a threshold). Run "
                "advlearn.audit.audit, or craft on another model."
            )
        if self.broken:
            pixels = 100 * self.broken_pixels / self.broken
            yield (
                f"The gradient is NaN or infinite in {pixels:.3g} % of the pixels for "
                f"{_share(self.broken, self.total)}: an attack leaves these pixels where they are. "
                "Look in the model for a root, a logarithm or a division at 0, and for half "
                "precision: model.float()."
            )


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.3g} % of the gradients ({count} of {total})"


_COUNTED: ContextVar[Directions | None] = ContextVar("directions", default=None)


@contextmanager
def directions(*, silent: bool = False) -> Iterator[Directions]:
    """Count the gradients of the attacks inside that cannot be used, and say it once, at the end.

    Each attack does so for itself. Around several, as over the batches of a data set, it gives one
    warning for all of them.

    Args:
        silent: only count, for this block alone.

    Example:
        >>> from advlearn.attacks import fgsm
        >>> x, y = torch.rand(4, 2), torch.tensor([0, 1, 0, 1])
        >>> with directions(silent=True) as counted:
        ...     _ = fgsm(lambda z: 3 + 0 * z, x, y, 0.1)
        >>> counted.zero, counted.total
        (4, 4)
    """
    outer = _COUNTED.get()
    if outer is not None and not silent:
        yield outer
        return
    counted = Directions()
    token = _COUNTED.set(counted)
    try:
        yield counted
    finally:
        _COUNTED.reset(token)
    if not silent:
        for text in counted.words():
            warnings.warn(text, NoDirectionWarning, stacklevel=_callers_level())


def _callers_level() -> int:
    """Return the level of the frame that called this library, for `warnings.warn`."""
    level, frame = 0, sys._getframe(1)
    own = (__name__.partition(".")[0], "contextlib")
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] in own:
        level, frame = level + 1, frame.f_back
    return level + 1


def usable(gradient: Tensor) -> Tensor:
    """Return a gradient with 0 where it is NaN or infinite, and count what gives no direction.

    Args:
        gradient: (N, ...).

    Example:
        >>> with directions(silent=True) as counted:
        ...     usable(torch.tensor([[1.0, float("nan")], [0.0, 0.0]]))
        tensor([[1., 0.],
                [0., 0.]])
        >>> counted.broken, counted.zero, counted.total
        (1, 1, 2)
    """
    counted = _COUNTED.get() or Directions()
    counted.total += len(gradient)
    # One pass over the pixels clears a batch: s / s is 1 unless s is zero, NaN or infinite.
    sums = gradient.detach().sum(tuple(range(1, gradient.dim())))
    counted.lost = None
    if float((sums / sums).sum()) == len(sums):
        return gradient
    finite = gradient.isfinite()
    broken, zero = ~finite.flatten(1).all(1), (gradient == 0).flatten(1).all(1)
    counted.zero += int(zero.sum())
    counted.broken += int(broken.sum())
    counted.broken_pixels += float((~finite).flatten(1).double().mean(1).sum())
    lost = broken | zero
    counted.lost = lost if bool(lost.any()) else None
    return torch.where(finite, gradient, 0.0)
