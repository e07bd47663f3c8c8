"""The models that the rows of the paper are measured on: architecture, data, recipe, training.

Everything is trained on MNIST's training images *without* the 5,000 offline digits. Those are the
validation set: recipes were chosen by them, and lessons can be judged on them. The test images are
used for the published figures only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from advlearn.attacks import fgsm, input_gradient, linear_step, noise, pgd
from advlearn.context import Model
from advlearn.data import Dataset, load_cifar10, load_mnist, subset_classes
from advlearn.generative import SubspaceMixture
from advlearn.losses import adversarial_logistic_loss
from advlearn.metrics import Data, craft
from advlearn.models import LogisticRegression, RBFNet
from advlearn.recipe import History, Recipe
from advlearn.training import adversarial_fit, fit
from advlearn.whitening import Whitening, contrast_normalise

EPS = 0.25  # of every MNIST row


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is, and where its images are.

    Args:
        quick: train small models for moments on the offline digits, to see that each row runs.
        data_dir: where MNIST and CIFAR-10 lie; None as for `advlearn.data.load_mnist`.
    """

    quick: bool = False
    data_dir: str | None = None


Method = Callable[..., History | None]
"""A way to train in place: (model, data, recipe, *others, progress=...) -> history, if any."""


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """One model that rows need.

    Args:
        name: what rows and the published weights call it.
        words: how it is trained and where that differs from the paper, for people.
        architecture, options: as for `advlearn.data.reference.build`.
        recipe: how it is trained; the seed is set for each run.
        method: what trains it.
        data: "digits", "3v7" or "cifar".
        half: keep float16.
        quick: options of the architecture in a quick run.
        quick_epochs: epochs in a quick run.
        seconds: about how long it takes on two cores at full scale, for the time left.
        attacked: measure it under attack at this eps; None where it is not attacked by itself.
        examples: attack so many test images only, and with PGD's small effort; None for all.
        after: other ingredients of the same seed, which `method` is given after the recipe.
    """

    name: str
    words: str
    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe
    method: Method = fit
    data: str = "digits"
    half: bool = False
    quick: Mapping[str, Any] = field(default_factory=dict)
    quick_epochs: int = 4
    seconds: float = 10.0
    attacked: float | None = EPS
    examples: int | None = None
    after: tuple[str, ...] = ()

    def sized(self, scale: Scale, seed: int) -> tuple[dict[str, Any], Recipe]:
        """Return the options and the recipe for a scale and a seed."""
        options, recipe = dict(self.options), replace(self.recipe, seed=seed)
        if scale.quick:
            options |= self.quick
            # Adam: with so few steps, SGD would not leave the small random start.
            recipe = replace(
                recipe,
                epochs=self.quick_epochs,
                batch_size=50,
                optimizer="adam",
                lr=0.003,
                lr_final=0.0005,
                precision="exact",
            )
        return options, recipe


# --- Data -----------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def images(kind: str, split: str, scale: Scale) -> Dataset:
    """Return the images of "digits", "3v7" or "cifar", split "train" or "test", cached.

    Raises:
        FileNotFoundError, DownloadError: the full data is not here and cannot be had.
    """
    if kind == "cifar":
        return _whitened(scale)[split]
    return as_read(kind, split, scale)


def as_read(kind: str, split: str, scale: Scale) -> Dataset:
    """Return the images of `images` as their files hold them: before the whitening.

    Their bytes are the same everywhere; those of whitened images depend on the processor.

    Raises:
        FileNotFoundError, DownloadError: as for `images`.
    """
    if scale.quick:
        # Also for photographs: a quick run shows that the code runs, and nothing about them.
        digits = load_mnist(split, source="offline")
    elif kind == "cifar":
        return load_cifar10(split, data_dir=scale.data_dir)
    else:
        # "auto" would fall back on the offline digits, silently another experiment.
        digits = load_mnist(
            split,
            source="files" if _has_mnist(scale) else "download",
            data_dir=scale.data_dir,
            exclude_offline=split == "train",
        )
    return subset_classes(digits, (3, 7)) if kind == "3v7" else digits


def _has_mnist(scale: Scale) -> bool:
    from advlearn.data import data_folder
    from advlearn.data.files import mnist_names, mnist_path

    raw = data_folder(scale.data_dir) / "MNIST" / "raw"
    return all(mnist_path(raw, name) is not None for name in mnist_names("all"))


@lru_cache(maxsize=1)
def _whitened(scale: Scale) -> dict[str, Dataset]:
    """Return contrast-normalised, whitened images; the whitening is fitted on train alone."""
    parts = {split: as_read("cifar", split, scale) for split in ("train", "test")}
    flat = {split: contrast_normalise(part.x) for split, part in parts.items()}
    whiten = Whitening(flat["train"])
    return {split: part._replace(x=whiten(flat[split])) for split, part in parts.items()}


# --- Ways to train --------------------------------------------------------------------------------


def random_start_fgsm(
    model: Model, x: Tensor, y: Tensor, eps: float, *, bounds: tuple[float, float] | None
) -> Tensor:
    """Return one step of 1.25 eps from a random point of the ball, put back into it.

    The random start is *not* clamped to the pixels' bounds: on the black pixels of a digit the
    clamp would remove half of the noise, and the trained model then falls to PGD.

    Source:
        Wong, Rice and Kolter, "Fast is better than free", ICLR 2020.
    """
    start = noise(x, eps, bounds=None)
    step = linear_step(start, input_gradient(model, start, y), 1.25 * eps, bounds=None)
    inside = torch.maximum(torch.minimum(step, x + eps), x - eps)
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


def yes_or_no(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss of K independent yes-no questions, one for each class, (N,)."""
    logits = model(x).float()
    asked = nn.functional.one_hot(y, logits.shape[1]).to(logits.dtype)
    return nn.functional.binary_cross_entropy_with_logits(logits, asked, reduction="none").sum(1)


def fit_rbf(
    model: RBFNet, data: Data, recipe: Recipe, /, *others: nn.Module, progress: bool
) -> History:
    """Train an RBF network from the class means, each unit answering for itself."""
    model.start_from(*data)
    return fit(model, data, recipe, objective=yes_or_no, progress=progress)


def worst_case_score(eps: float, model: LogisticRegression, x: Tensor, y: Tensor) -> Tensor:
    """Return the closed-form adversarial loss of logistic regression, unclipped, (N,)."""
    signs = 2.0 * y.to(x.dtype) - 1
    return adversarial_logistic_loss(model.weight, model.bias, x.flatten(1), signs, eps)


def fit_mixture(
    model: SubspaceMixture, data: Data, recipe: Recipe, /, *others: nn.Module, progress: bool
) -> None:
    """Estimate and balance a mixture of subspaces; an epoch is a round of the estimate.

    It sees each image as it is and moved by one pixel each way. The priors are balanced on the
    images as they are.
    """
    x, y = data
    every = torch.cat([x, *(_shifted(x, *way) for way in _WAYS)])
    model.estimate(
        every, y.repeat(1 + len(_WAYS)), variance=0.08, rounds=recipe.epochs, seed=recipe.seed
    )
    model.balance(x, y)


def fit_mirrored(
    model: nn.Module, data: Data, recipe: Recipe, /, *others: nn.Module, progress: bool
) -> History:
    """Train on the images and their mirror images."""
    x, y = data
    return fit(model, (torch.cat([x, x.flip(3)]), y.repeat(2)), recipe, progress=progress)


# Where the frame's upper left corner comes to lie in an image with a margin of one pixel around it.
_WAYS = ((0, 1), (2, 1), (1, 0), (1, 2))


def _shifted(x: Tensor, down: int, right: int) -> Tensor:
    height, width = x.shape[-2:]
    wide = nn.functional.pad(x, (1, 1, 1, 1))
    return wide[..., down : down + height, right : right + width]


def moved(x: Tensor, seed: int) -> Tensor:
    """Return each image moved by one pixel: left, right, up or down, at random.

    What leaves the frame is lost and what enters is 0, as the margin of a digit is.

    Example:
        >>> moved(torch.ones(1, 1, 2, 2), seed=0).sum()
        tensor(2.)
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(_WAYS), (len(x),), generator=generator)
    out = torch.empty_like(x)
    for number, way in enumerate(_WAYS):
        own = chosen == number
        out[own] = _shifted(x[own], *way)
    return out


def fit_moved(
    train: Method,
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    /,
    *others: nn.Module,
    progress: bool,
) -> History | None:
    """Train on every image three times an epoch as it is, and once moved by one pixel."""
    x, y = data
    once = torch.cat([x, x, x, moved(x, recipe.seed)])
    return train(model, (once, y.repeat(4)), recipe, *others, progress=progress)


def fit_detector(
    model: nn.Module, data: Data, recipe: Recipe, /, *others: nn.Module, progress: bool
) -> History:
    """Train two classes: 0 for clean images, 1 for FGSM examples of another model, unclipped."""
    (classifier,) = others
    x, y = data
    attacked = craft(classifier, data, EPS, attack=fgsm, bounds=None)
    both = torch.cat([x, attacked]), torch.cat([torch.zeros_like(y), torch.ones_like(y)])
    return fit(model, both, recipe, progress=progress)


def fit_robust(
    model: nn.Module, data: Data, recipe: Recipe, /, *others: nn.Module, progress: bool
) -> History:
    """Train to resist PGD at eps .3: a warm start, random-start FGSM, then PGD of seven steps.

    From a random start, training at eps .3 stays for epochs where every digit looks alike, so the
    first three epochs raise eps from 0. Random-start FGSM costs a quarter of PGD and does most of
    the work, in the recipe's epochs; PGD, in as many again, does the rest.
    """
    start = replace(recipe, epochs=1, lr=0.002, lr_final=None)
    fit(model, data, start, progress=progress)
    for eps in (0.1, 0.2):
        adversarial_fit(
            model, data, start, eps=eps, alpha=0.0, attack=random_start_fgsm, progress=progress
        )
    cheap = replace(recipe, lr=0.003, lr_final=0.0005)
    adversarial_fit(
        model, data, cheap, eps=0.3, alpha=0.0, attack=random_start_fgsm, progress=progress
    )
    attack = partial(pgd, steps=7, step_size=0.1)
    return adversarial_fit(
        model, data, recipe, eps=0.3, alpha=0.0, attack=attack, progress=progress
    )
