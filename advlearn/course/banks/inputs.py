"""Random inputs that the checks of several lessons share, each from a seeded generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def randn(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw standard normal numbers."""
    return torch.randn(*shape, generator=generator)


def rand(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw uniform numbers in [0, 1): pixels, or shares."""
    return torch.rand(*shape, generator=generator)


def labels(generator: torch.Generator, count: int, classes: int) -> Tensor:
    """Draw classes 0 ... classes - 1, (count,) int64."""
    return torch.randint(0, classes, (count,), generator=generator)


def signs(generator: torch.Generator, count: int) -> Tensor:
    """Draw labels -1 and +1, (count,) float32."""
    return 2.0 * torch.randint(0, 2, (count,), generator=generator) - 1.0


def network(
    generator: torch.Generator,
    features: int,
    hidden: int,
    classes: int,
    *,
    activation: type[nn.Module] = nn.Tanh,
    dropout: float | None = 0.5,
) -> nn.Module:
    """Make a network with one hidden layer and normal weights, in eval mode; none if hidden is 0.

    Dropout changes nothing in eval mode: it is there for those who switch to training mode.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    if hidden:
        layers += [nn.Linear(features, hidden), activation()]
        layers += [] if dropout is None else [nn.Dropout(dropout)]
    layers.append(nn.Linear(hidden or features, classes))
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(randn(generator, *parameter.shape))
    return model.eval()
