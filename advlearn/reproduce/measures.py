"""What rows have in common: one model under attack, rubbish inputs, the shape of filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

import torch
from torch import Tensor, nn

from advlearn.attacks import PIXELS, pgd
from advlearn.batches import Pair
from advlearn.losses import float32_cross_entropy
from advlearn.metrics import (
    Rate,
    adversarial_error_rate,
    confidence_on_errors,
    craft,
    predict,
)
from advlearn.models import probabilities

Value = Union[Rate, float]  # noqa: UP007 - evaluated at run time on Python 3.10
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Effort:
    """How hard PGD tries: the first `examples` of the test set, `steps`, `restarts`."""

    examples: int = 1000
    steps: int = 40
    restarts: int = 5


FULL, QUICK = Effort(), Effort(examples=100, steps=10, restarts=1)


def effort(*, quick: bool) -> Effort:
    """Return how hard PGD tries in a full or in a quick run."""
    return QUICK if quick else FULL


FLOAT32 = ", float32 cross-entropy"
"""How the names of quantities end that are measured with `float32_cross_entropy`."""


def by_float32(*quantities: str) -> dict[str, str]:
    """Return our quantity -> the paper's, for quantities compared with the float32 cross-entropy.

    Example:
        >>> by_float32("FGSM error")
        {'FGSM error, float32 cross-entropy': 'FGSM error'}
    """
    return {f"{quantity}{FLOAT32}": quantity for quantity in quantities}


# The paper's numbers for plain networks are compared with FGSM on the float32 cross-entropy, as
# code of its time computed it. On a confident network that loss takes wrong steps, so the right
# attack, which stands beside it, finds more errors: see `float32_cross_entropy`.
FGSM_BY_FLOAT32 = by_float32("FGSM error", "confidence on mistakes")


def under_attack(
    model: nn.Module, data: Pair, eps: float, *, pixels: bool, effort: Effort, seed: int = 0
) -> dict[str, Value]:
    """Return a model's errors and confidence, clean, under FGSM and under PGD.

    Args:
        model, data: as for `advlearn.metrics.predict`.
        eps: in the data's units.
        pixels: the data are pixels in [0, 1], so the clipped setting means something too.
        effort: of PGD, which is unclipped under "PGD error", as FGSM is under "FGSM error".
        seed: of PGD's random starts.
    """
    x, y = data
    clean = confidence_on_errors(model, data)
    crafted = confidence_on_errors(model, (craft(model, data, eps, bounds=None), y))
    in_float32 = confidence_on_errors(
        model, (craft(model, data, eps, bounds=None, loss=float32_cross_entropy), y)
    )
    few = (x[: effort.examples], y[: effort.examples])
    measured: dict[str, Value] = {
        "clean error": clean.errors,
        "confidence on clean examples": clean.on_all,
        "FGSM error": crafted.errors,
        "confidence on mistakes": crafted.on_errors,
        "confidence on all": crafted.on_all,
        f"FGSM error{FLOAT32}": in_float32.errors,
        f"confidence on mistakes{FLOAT32}": in_float32.on_errors,
    }
    settings = {"PGD error": None, "PGD error, clipped": PIXELS} if pixels else {"PGD error": None}
    for name, bounds in settings.items():
        measured[name] = adversarial_error_rate(
            model,
            few,
            eps,
            attack=pgd,
            steps=effort.steps,
            restarts=effort.restarts,
            generator=torch.Generator().manual_seed(seed),
            bounds=bounds,
        )
    if pixels:
        measured["FGSM error, clipped"] = adversarial_error_rate(model, data, eps, bounds=PIXELS)
    return measured


def rubbish(model: nn.Module, shape: tuple[int, ...], *, seed: int = 0) -> tuple[Rate, float]:
    """Return how often N(0, I) images are called a class with p > 1/2, and the mean p of those.

    Args:
        model: maps (N, ...) to logits.
        shape: of the batch of images, (N, ...).
        seed: of the images.

    Source:
        Appendix A of the paper.
    """
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    logits = predict(model, (x, torch.zeros(len(x), dtype=torch.int64)))
    highest = probabilities(model, logits).amax(1)
    called = highest > 0.5
    mean = float(highest[called].double().mean()) if bool(called.any()) else float("nan")
    return Rate.of(called), mean


def filter_radius(weight: Tensor, side: int = 28) -> Tensor:
    """Return how far each filter spreads: the root mean square distance from its own centre.

    r = sqrt(sum w² ‖p - c‖² / sum w²), with c the centre of the same weights w², as a share of
    the image's side. A filter that is uniform over the image has r = .41.

    Args:
        weight: (units, side * side), floating.
        side: height and width of the image in pixels.

    Returns:
        (units,).

    Example:
        >>> filter_radius(torch.eye(16)[:1], side=4)
        tensor([0.])
        >>> round(float(filter_radius(torch.ones(1, 784))), 2)
        0.41
    """
    energy = weight.double().square()
    energy = energy / energy.sum(1, keepdim=True).clamp_min(1e-300)
    axis = torch.arange(side, dtype=torch.float64)
    place = torch.cartesian_prod(axis, axis)  # (side², 2): row and column
    centre = energy @ place
    spread = energy @ place.square().sum(1) - centre.square().sum(1)
    return (spread.clamp_min(0).sqrt() / side).to(weight.dtype)


def effective_pixels(weight: Tensor) -> Tensor:
    """Return how many pixels each filter uses: its participation ratio (sum w²)² / sum w⁴.

    k equal weights count as k, wherever they lie; weights far below the largest hardly count, so a
    faint haze over the whole image does not hide a stroke, as it does from `filter_radius`.

    Args:
        weight: (units, pixels), floating; a filter of nothing but zeros has 0.

    Returns:
        (units,), between 1 and the number of pixels.

    Example:
        >>> effective_pixels(torch.tensor([[0.0, 5.0, 0.0, 0.0], [1.0, -1.0, 1.0, 1.0]]))
        tensor([1., 4.])
        >>> stroke = torch.full((1, 784), 0.01)
        >>> stroke[:, 296:306] = 1.0  # ten pixels, in a haze of one percent
        >>> round(float(effective_pixels(stroke)), 1), round(float(filter_radius(stroke)), 2)
        (10.2, 0.11)
    """
    energy = weight.double().square()
    count = energy.sum(1).square() / energy.square().sum(1).clamp_min(1e-300)
    return count.to(weight.dtype)


def straightness(eps: Tensor, logits: Tensor) -> float:
    """Return R² of the best straight line through each logit, averaged over the logits.

    Args:
        eps: (E,) positions.
        logits: (E, K).

    Example:
        >>> eps = torch.arange(5.0)
        >>> straightness(eps, torch.stack([2 * eps, 1 - eps], dim=1))
        1.0
    """
    x = eps.double() - eps.double().mean()
    y = logits.double() - logits.double().mean(0)
    slope = (x @ y) / (x @ x)
    rest = (y - x.unsqueeze(1) * slope).square().sum(0)
    return float((1 - rest / y.square().sum(0).clamp_min(1e-30)).mean())
