"""A lesson's session: the version that it needs, the seed, the device."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from packaging.version import Version

import advlearn
from advlearn._validation import check_choice, check_count


def require(version: str) -> None:
    """Stop a lesson that this package is too old for, and say how to update.

    Args:
        version: the oldest that will do, such as "0.1.0". A release candidate or a development
            version comes before the release that it leads to.

    Raises:
        ImportError: the package is older.

    Example:
        >>> require("0.1")
    """
    if Version(advlearn.__version__) < Version(version):
        raise ImportError(
            f"this lesson needs advlearn {version} or newer, and {advlearn.__version__} is "
            f"installed: {advlearn.__file__}. If you cloned the course, run `git pull` there; else "
            "run `%pip uninstall -y advlearn`. Then restart the kernel and run this cell again."
        )


def set_up(version: str) -> torch.device:
    """Start a lesson: check the version, seed everything, pick the device, and say "Ready.".

    In a notebook it also gives the page what pictures and printed lines need on a phone.

    Args:
        version: the oldest version of this package that will do, see `require`.

    Returns:
        The device to compute on, see `pick_device`.

    Raises:
        ImportError: the package is older.

    Example:
        >>> device = set_up("0.1")
        Ready.
    """
    require(version)
    seed_everything(0)
    device = pick_device()
    _furnish_page()
    print("Ready.")
    return device


PAGE = "advlearn-page"  # marks what a notebook gets once, and no published one keeps


def _furnish_page() -> None:
    """Put style and script into the notebook's page, if there is one."""
    try:
        from IPython import display, get_ipython
    except ModuleNotFoundError:
        return
    if getattr(get_ipython(), "kernel", None) is not None:
        text = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
        display.display({"text/html": text, "text/plain": ""}, raw=True)  # type: ignore[no-untyped-call]


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
    return torch.device("cuda" if present["cuda"] and _computes("cuda") else "cpu")


def _computes(name: str) -> bool:
    """Whether a device does a sum: one that is too old for this PyTorch, or full, does not."""
    try:
        return float(torch.ones(2, device=name).sum()) == 2.0
    except RuntimeError:
        return False
