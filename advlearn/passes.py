"""How much work an attack asks of a model: images passed forward and backward, counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Passes:
    """Images that went through a model.

    Attributes:
        forward: images whose logits were computed.
        backward: images whose gradient was computed, each after a forward pass of its own.
    """

    forward: int = 0
    backward: int = 0


_COUNTED: ContextVar[tuple[Passes, ...]] = ContextVar("passes", default=())


@contextmanager
def passes() -> Iterator[Passes]:
    """Count the images that attacks and measures pass through models inside the block.

    The model is not wrapped, so it runs as it does without. Blocks inside one another count alike.

    Example:
        >>> import torch
        >>> from advlearn.attacks import pgd
        >>> model, x, y = torch.nn.Linear(2, 2), torch.rand(5, 2), torch.tensor([0, 1, 0, 1, 0])
        >>> with passes() as counted:
        ...     _ = pgd(model, x, y, 0.1, steps=4)
        >>> counted
        Passes(forward=25, backward=20)
    """
    counted = Passes()
    token = _COUNTED.set((*_COUNTED.get(), counted))
    try:
        yield counted
    finally:
        _COUNTED.reset(token)


def count_passes(forward: int, backward: int = 0) -> None:
    """Add images to every count that runs.

    Example:
        >>> with passes() as counted:
        ...     count_passes(3)
        >>> counted.forward
        3
    """
    for counted in _COUNTED.get():
        counted.forward += forward
        counted.backward += backward
