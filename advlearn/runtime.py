"""Seeds, the device, and how exact matrix products are."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from advlearn._validation import check_choice, check_count


def seed_everything(seed: int = 0) -> None:
    """Seed Python, NumPy and PyTorch (every device), so that a lesson prints what it printed.

    Args:
        seed: a whole number >= 0.

    Raises:
        TypeError, ValueError: `seed` is not a whole number, or is negative.

    Example:
        >>> seed_everything(0); first = torch.rand(1)
        >>> seed_everything(0); bool(torch.rand(1) == first)
        True
    """
    seed = check_count(seed, "seed", least=0)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def pick_device(prefer: str | None = None) -> torch.device:
    """Return the device to compute on: the GPU when there is a working one, else the CPU.

    Args:
        prefer: "cpu", "cuda" or "mps" to insist on one; None to choose.

    Raises:
        ValueError: the name is unknown, or that device is not there.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if prefer is not None:
        check_choice(prefer, "prefer", tuple(present))
        if not present[prefer]:
            raise ValueError(f"prefer = {prefer!r}, but there is no such device here. Use 'cpu'.")
        return torch.device(prefer)
    # MPS lacks some float64 operations that the lessons use for exact checks, so it is opt-in.
    return torch.device("cuda" if present["cuda"] else "cpu")


def precision(
    choice: str = "exact", device: torch.device | None = None
) -> AbstractContextManager[object]:
    """Return a context in which matrix products are "exact" (float32) or "fast" (bfloat16).

    bfloat16 keeps float32's range with 8 bits of precision. Processors and GPUs with hardware for
    it multiply matrices several times faster. Training tolerates it well. Attacks that look at
    signs of tiny gradients should stay exact.

    Args:
        choice: "exact" or "fast".
        device: where the work runs; the CPU when None.

    Raises:
        ValueError: `choice` is another word.

    Example:
        >>> layer = torch.nn.Linear(3, 2)
        >>> with precision("fast"):
        ...     layer(torch.ones(1, 3)).dtype
        torch.bfloat16
    """
    if check_choice(choice, "choice", ("exact", "fast")) == "exact":
        return nullcontext()
    return torch.autocast((device or torch.device("cpu")).type, dtype=torch.bfloat16)
