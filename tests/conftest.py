"""Small models and batches that several test files share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from tests.crashes import pytest_runtest_protocol, pytest_terminal_summary  # noqa: F401


def make_digits(count: int = 24, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Make images with the traits of digits: black borders, white strokes and greys."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 6, 6, generator=generator, dtype=dtype)
    images[:, :, 0] = 0.0
    images[:, :, :, -1] = 1.0
    return images


def make_mlp(seed: int = 0, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> nn.Module:
    """Make a small network with dropout and batch statistics, handed over in training mode."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it also notes a seed for each GPU, with a trace of the stack.
        torch.default_generator.manual_seed(seed)
        model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(36, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(16, 4),
        ).to(dtype)
        with torch.no_grad():
            model[-1].weight.mul_(scale)
            model[2].running_mean.normal_()
            model[2].running_var.uniform_(0.5, 2.0)
    return model


# The longest first, or one worker would be left with one of them when the others have ended.
LONGEST = (
    "notebooks/06_", "tests/test_reproduce_rows.py", "notebooks/10_", "notebooks/09_",
    "notebooks/08_", "tests/test_setup_cell.py", "tests/test_exercises.py", "notebooks/",
    "tests/test_notebooks.py", "tests/test_colab.py", "tests/test_vision.py",
    "tests/attacks/",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the order inside a file stays."""

    def place(item: pytest.Item) -> int:
        matching = (k for k, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(matching, len(LONGEST))

    items.sort(key=place)


class CutError(Exception):
    """Ends a training from outside."""


def cut_after(epochs: int) -> Callable[[nn.Module], dict[str, float]]:
    """Return a `measure` that ends a training after so many whole epochs."""
    calls: list[int] = []

    def measure(model: nn.Module) -> dict[str, float]:
        if len(calls) == epochs:
            raise CutError
        calls.append(1)
        return {}

    return measure


@pytest.fixture
def digits() -> Tensor:
    return make_digits()


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(24) % 4


@pytest.fixture
def mlp() -> nn.Module:
    return make_mlp()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small products gain nothing from a second thread, and wait for it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def slide_maker() -> Iterator[ModuleType]:
    """The script `classroom/slides/make.py`, which is no part of the package."""
    folder = str(Path(__file__).resolve().parent.parent / "classroom" / "slides")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("make")
    finally:
        sys.path.remove(folder)
        sys.modules.pop("make")
