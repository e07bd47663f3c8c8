"""Ways to train, beside `advlearn.training.fit` and `adversarial_fit`.

Whatever number a method has of its own is an option with a default: the description of a model
reads it there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from advlearn.attacks import fgsm, input_gradient, linear_step, noise, pgd
from advlearn.batches import Pair
from advlearn.context import Model
from advlearn.generative import SubspaceMixture
from advlearn.losses import adversarial_logistic_loss
from advlearn.metrics import craft
from advlearn.models import LogisticRegression, RBFNet
from advlearn.recipe import History, Recipe
from advlearn.reproduce.models.spec import EPS, Method
from advlearn.training import adversarial_fit, certified_fit, draw_for_bounds, fit

# --- Attacks for training -------------------------------------------------------------------------


def random_start_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    bounds: tuple[float, float] | None,
    step: float = 1.25,
) -> Tensor:
    """Return one step of `step` times eps from a random point of the ball, put back into it.

    The random start is *not* clamped to the pixels' bounds: on the black pixels of a digit the
    clamp would remove half of the noise, and the trained model then falls to PGD.

    Source:
        Wong, Rice and Kolter, "Fast is better than free", ICLR 2020.
    """
    start = noise(x, eps, bounds=None)
    moved = linear_step(start, input_gradient(model, start, y), step * eps, bounds=None)
    inside = torch.maximum(torch.minimum(moved, x + eps), x - eps)
    return inside if bounds is None else inside.clamp(*bounds)


def noisy(
    kind: str,
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    bounds: tuple[float, float] | None,
) -> Tensor:
    """Return x with random noise, with the signature of an attack: the paper's control."""
    return noise(x, eps, kind=kind, bounds=bounds)


# --- Losses ---------------------------------------------------------------------------------------


def binary_cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the sum over the classes of the binary cross-entropy of "it is this class", (N,)."""
    logits = model(x).float()
    target = nn.functional.one_hot(y, logits.shape[1]).to(logits.dtype)
    each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return each.sum(1)


def worst_case_loss(eps: float, model: LogisticRegression, x: Tensor, y: Tensor) -> Tensor:
    """Return the closed-form adversarial loss of logistic regression, unclipped, (N,)."""
    signs = 2.0 * y.to(x.dtype) - 1
    return adversarial_logistic_loss(model.weight, model.bias, x.flatten(1), signs, eps)


# --- Images moved and mirrored --------------------------------------------------------------------

SHIFT = 1
"""By how many pixels a digit is moved."""

# Where the frame's upper left corner comes to lie in an image with a margin of SHIFT around it.
_CORNERS = ((0, SHIFT), (2 * SHIFT, SHIFT), (SHIFT, 0), (SHIFT, 2 * SHIFT))


def _shifted(x: Tensor, down: int, right: int) -> Tensor:
    height, width = x.shape[-2:]
    wide = nn.functional.pad(x, (SHIFT, SHIFT, SHIFT, SHIFT))
    return wide[..., down : down + height, right : right + width]


def moved(x: Tensor, seed: int) -> Tensor:
    """Return each image moved by one pixel: left, right, up or down, at random.

    What leaves the frame is lost and what enters is 0, as the margin of a digit is.

    Example:
        >>> moved(torch.ones(1, 1, 2, 2), seed=0).sum()
        tensor(2.)
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(_CORNERS), (len(x),), generator=generator)
    out = torch.empty_like(x)
    for number, corner in enumerate(_CORNERS):
        own = chosen == number
        out[own] = _shifted(x[own], *corner)
    return out


def fit_moved(
    train: Method,
    model: nn.Module,
    data: Pair,
    recipe: Recipe,
    /,
    *others: nn.Module,
    unmoved: int = 3,
    progress: bool,
) -> History | None:
    """Train on every image `unmoved` times an epoch as it is, and once moved by one pixel."""
    x, y = data
    every = torch.cat([*[x] * unmoved, moved(x, recipe.seed)])
    return train(model, (every, y.repeat(unmoved + 1)), recipe, *others, progress=progress)


def fit_mirrored(
    model: nn.Module, data: Pair, recipe: Recipe, /, *others: nn.Module, progress: bool
) -> History:
    """Train on the images and their mirror images."""
    x, y = data
    return fit(model, (torch.cat([x, x.flip(3)]), y.repeat(2)), recipe, progress=progress)


# --- Models with a training of their own ----------------------------------------------------------


def fit_rbf(
    model: RBFNet, data: Pair, recipe: Recipe, /, *others: nn.Module, progress: bool
) -> History:
    """Train an RBF network from the class means, each unit answering for itself."""
    model.start_from(*data)
    return fit(model, data, recipe, objective=binary_cross_entropy, progress=progress)


def fit_mixture(
    model: SubspaceMixture,
    data: Pair,
    recipe: Recipe,
    /,
    *others: nn.Module,
    variance: float = 0.08,
    progress: bool,
) -> None:
    """Estimate and balance a mixture of subspaces; an epoch is a round of the estimate.

    It sees each image as it is and moved by one pixel each way. The priors are balanced on the
    images as they are.
    """
    x, y = data
    every = torch.cat([x, *(_shifted(x, *corner) for corner in _CORNERS)])
    labels = y.repeat(1 + len(_CORNERS))
    model.estimate(every, labels, variance=variance, rounds=recipe.epochs, seed=recipe.seed)
    model.balance(x, y)


def fit_detector(
    model: nn.Module,
    data: Pair,
    recipe: Recipe,
    /,
    *others: nn.Module,
    eps: float = EPS,
    progress: bool,
) -> History:
    """Train two classes: 0 for clean images, 1 for FGSM examples of another model, unclipped."""
    (classifier,) = others
    x, y = data
    attacked = craft(classifier, data, eps, attack=fgsm, bounds=None)
    both = torch.cat([x, attacked]), torch.cat([torch.zeros_like(y), torch.ones_like(y)])
    return fit(model, both, recipe, progress=progress)


def fit_robust(
    model: nn.Module,
    data: Pair,
    recipe: Recipe,
    /,
    *others: nn.Module,
    eps: float = 0.3,
    rising_eps: tuple[float, ...] = (0.1, 0.2),
    rising_lr: float = 0.002,
    one_step_lr: tuple[float, float] = (0.003, 0.0005),
    steps: int = 7,
    step_size: float = 0.1,
    progress: bool,
) -> History:
    """Train to resist PGD: a start at rising eps, then random-start FGSM, then PGD.

    From a random start, training at the full eps stays for epochs where every digit looks alike,
    so an epoch of clean images and one at each of `rising_eps` come first. Random-start FGSM costs
    a quarter of PGD and does most of the work, in the recipe's epochs; PGD, in as many again, does
    the rest.
    """
    start = replace(recipe, epochs=1, lr=rising_lr, lr_final=None)
    fit(model, data, start, progress=progress)
    attacked = partial(adversarial_fit, model, data, alpha=0.0, progress=progress)
    for lower in rising_eps:
        attacked(start, eps=lower, attack=random_start_fgsm)
    cheap = replace(recipe, lr=one_step_lr[0], lr_final=one_step_lr[1])
    attacked(cheap, eps=eps, attack=random_start_fgsm)
    walk = partial(pgd, steps=steps, step_size=step_size, keep="last")
    return attacked(recipe, eps=eps, attack=walk)


def fit_certified(
    model: nn.Module,
    data: Pair,
    recipe: Recipe,
    /,
    *others: nn.Module,
    eps: float = 0.33,
    kappa: float = 0.0,
    progress: bool,
) -> History:
    """Train on the bound: half of the time over growing intervals, half at the full eps.

    The recipe's epochs are done twice. In the first half the learning rate stays at its start,
    because with each larger interval there is something new to learn.

    Source:
        Gowal et al., "On the effectiveness of interval bound propagation for training verifiably
        robust models", 2018, with a little more eps than is to be certified.
    """
    draw_for_bounds(model)
    bounded = partial(certified_fit, model, data, eps=eps, progress=progress)
    bounded(replace(recipe, lr_final=None), kappa=(kappa, kappa), ramp=(0.0, 1.0))
    return bounded(recipe, kappa=(kappa, kappa), ramp=(0.0, 0.0))
