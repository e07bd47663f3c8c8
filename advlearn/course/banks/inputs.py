"""Random inputs that the checks of several lessons share, each from a seeded generator.

They hold what digits hold: black and white pixels, and pixels that no weight looks at. There the
gradient is exactly 0, and an answer that takes sign(0) for +1 or -1 is found out.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def randn(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw standard normal numbers."""
    return torch.randn(*shape, generator=generator)


def rand(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw uniform numbers in [0, 1): pixels, or shares."""
    return torch.rand(*shape, generator=generator)


def images(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw images with black, grey and white pixels."""
    return (1.6 * rand(generator, *shape) - 0.3).clamp(0, 1)


def labels(generator: torch.Generator, count: int, classes: int) -> Tensor:
    """Draw classes 0 ... classes - 1, (count,) int64."""
    return torch.randint(0, classes, (count,), generator=generator)


def signs(generator: torch.Generator, count: int) -> Tensor:
    """Draw labels -1 and +1, (count,) float32."""
    return 2.0 * torch.randint(0, 2, (count,), generator=generator) - 1.0


def kill_pixels(model: nn.Module) -> None:
    """Set every fifth pixel's weights in the first layer to 0, if there are nine pixels or more."""
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Linear))
    if first.in_features >= 9:
        with torch.no_grad():
            first.weight[:, 2::5] = 0.0


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

    Dropout changes nothing in eval mode: it is there for those who switch to training mode. With
    nine features or more, some pixels are dead, as those of a digit's border are.
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
        kill_pixels(model)
    return model.eval()


@torch.no_grad()
def exact_loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the mean cross-entropy in float64: a step on a tiny gradient changes it by little."""
    logits = copy.deepcopy(model).double()(x.double())
    return float(nn.functional.cross_entropy(logits, y))


def takes_whole_steps(args: tuple[Any, ...], output: Tensor) -> bool:
    """Tell whether every pixel with a gradient moves by eps, or to 0 or 1 on the way."""
    model, x, y, eps = args
    probe = x.detach().double().requires_grad_()
    chosen = copy.deepcopy(model).double()(probe).log_softmax(dim=1).gather(1, y[:, None])
    slope = torch.autograd.grad(chosen.sum(), probe)[0].abs()
    room = (output > 1e-4) & (output < 1 - 1e-4) & (slope > 1e-5 * slope.max())
    return bool(((output - x).abs()[room] >= eps - 1e-5).all())
