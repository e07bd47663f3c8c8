"""Is a model random: may the same images get other logits when it is asked again?

What is random has no one answer, so nothing can be proved about it, and one lucky draw is no error.
Two things are looked at. Generators whose state can be read must not move while the model answers:
that is certain. Of all others the answers tell, as far as asking many times goes.
"""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advlearn.context import Model, answer, closed_over, modules_behind

ASKED = 16
"""How often `repeats` asks for the same logits."""
# A model that takes another way in a share q of its calls, by a generator that nobody finds, gives
# the same answer each time with probability q^16 + (1 - q)^16: 3 in 100,000 for a fair coin, 1 in
# 100 for q = 1/4, and almost always for a q below 1/100. One that draws for each example is asked
# as many times more as there are images.
_IMAGES = 4


class Generators:
    """The random generators that a model may draw from, and whether they have moved.

    Watched are the global ones of PyTorch, on every device in use, of Python and of NumPy, and
    those that a model holds: as attributes of its modules, or in the closure of a function. A
    generator that is made anew in each call, or hidden deeper, is not seen.

    Args:
        model: a module, or any callable.
        device: where it computes.

    Example:
        >>> watched = Generators(torch.nn.Linear(2, 2), torch.device("cpu"))
        >>> watched.moved(), torch.rand(1).shape, watched.moved(), watched.moved()
        ('', torch.Size([1]), "PyTorch's global generator", '')
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self._read: list[tuple[str, Callable[[], Any]]] = [
            ("PyTorch's global generator", torch.get_rng_state),
            ("Python's global generator", random.getstate),
            ("NumPy's global generator", np.random.get_state),
        ]
        if device.type == "cuda" or torch.cuda.is_initialized():
            self._read.append(("CUDA's global generators", torch.cuda.get_rng_state_all))
        if device.type == "mps":
            self._read.append(("the global generator of MPS", torch.mps.get_rng_state))
        own = {id(value): value for value in _held(model)}
        self._read += [
            (f"a {type(value).__name__} of its own", read)
            for value in own.values()
            if (read := _reader(value)) is not None
        ]
        self._states = [_frozen(read()) for _, read in self._read]

    def moved(self) -> str:
        """Return in words which generator has moved since the last look; "" for none."""
        states = [_frozen(read()) for _, read in self._read]
        pairs = zip(self._read, self._states, states, strict=True)
        names = [name for (name, _), before, after in pairs if before != after]
        self._states = states
        return names[0] if names else ""


def _held(model: Model) -> Iterator[object]:
    """Give what a model holds one level down, where generators are kept."""
    holders: list[object] = [*modules_behind(model), model, getattr(model, "__self__", None)]
    for holder in holders:
        yield from list(getattr(holder, "__dict__", {}).values())
        if isinstance(holder, types.FunctionType):
            yield from closed_over(holder)
            space = holder.__globals__
            yield from (space[name] for name in holder.__code__.co_names if name in space)


def _reader(value: object) -> Callable[[], Any] | None:
    """Return what reads the state of a generator; None of anything else."""
    if isinstance(value, torch.Generator):
        return value.get_state
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return value.getstate
    if isinstance(value, np.random.RandomState):
        return value.get_state
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator
        return lambda: bits.state
    return None


def _frozen(state: Any) -> Any:
    """Return a state as values that can be compared."""
    if isinstance(state, Tensor):
        return state.cpu().numpy().tobytes()
    if isinstance(state, np.ndarray):
        return state.tobytes()
    if isinstance(state, dict):
        return tuple((key, _frozen(value)) for key, value in state.items())
    # Python's own is a tuple of many numbers.
    if isinstance(state, (list, tuple)) and any(isinstance(v, (Tensor, np.ndarray)) for v in state):
        return tuple(map(_frozen, state))
    return state


def why_random(model: Model, x: Tensor, times: int = ASKED) -> str:
    """Return in words why a model counts as random; "" where it gives the same answer each time.

    It is called in the mode that it is in, without gradients, with a few of the images.

    Args:
        model: maps (N, ...) to logits (N, K).
        x: (N, ...), N >= 1.
        times: how often it is asked, >= 2.

    Example:
        >>> why_random(torch.nn.Linear(2, 2), torch.ones(5, 2))
        ''
        >>> why_random(lambda x: x + 0 * random.random(), torch.ones(5, 2))
        "it draws random numbers from Python's global generator"
        >>> why_random(lambda x: x + random.SystemRandom().random(), torch.ones(5, 2))
        'it answers differently when it is asked again'
    """
    # Not the first ones alone, which may be of one class.
    some = x[:: -(-len(x) // _IMAGES)]
    first = answer(model, some)
    # From here on: what the first call sets up or seeds is no draw.
    watched = Generators(model, x.device)
    # Sums on several threads, and on a GPU, are not always added up in the same order.
    slack = 64 * torch.finfo(first.dtype).eps * first.abs().amax() if first.numel() else 0.0
    for _ in range(times - 1):
        again = answer(model, some)
        if again.shape != first.shape or bool(((again - first).abs() > slack).any()):
            return "it answers differently when it is asked again"
        if name := watched.moved():
            return f"it draws random numbers from {name}"
    return ""


def repeats(model: Model, x: Tensor, times: int = ASKED) -> bool:
    """Say whether a model gives the same images the same logits each time; see `why_random`.

    Example:
        >>> repeats(lambda x: 2 * x, torch.ones(1, 2)), repeats(torch.rand_like, torch.ones(1, 2))
        (True, False)
    """
    return not why_random(model, x, times)
