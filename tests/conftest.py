"""Small models and batches that several test files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn


def make_digits(count: int = 24, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Make images with the traits of digits: black borders, white strokes and greys."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 6, 6, generator=generator, dtype=dtype)
    images[:, :, 0] = 0.0
    images[:, :, :, -1] = 1.0
    return images


def make_mlp(seed: int = 0, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> nn.Module:
    """Make a small network with dropout and batch statistics, handed over in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
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
