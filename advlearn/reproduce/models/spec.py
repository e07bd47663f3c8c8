"""What a trained model is made of: architecture, recipe, method, data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from advlearn.recipe import History, Recipe
from advlearn.training import fit

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
class ModelSpec:
    """One model that rows need, and how it is trained.

    Args:
        name: what rows and the published weights call it.
        architecture, options: as for `advlearn.data.reference.build`.
        recipe: the numbers of its training; the seed is set for each repetition.
        method: what trains it.
        data: "digits", "3v7" or "cifar".
        half: keep float16.
        quick_options: options of the architecture in a quick run.
        quick_epochs: epochs in a quick run.
        seconds: about how long it takes on two cores at full scale, for the time left.
        attack_eps: measure it under attack at this eps; None where it is not attacked by itself.
        certified: measure too what is certified at `attack_eps`.
        attack_examples: attack so many test images only, and with PGD's small effort; None for all.
        after: other models of the same seed, which `method` is given after the recipe.
        in_paper: the paper has this network too, so its description names the paper's numbers.
        why: the reasons for its recipe, in sentences without a number. What the recipe *is* says
            `advlearn.reproduce.models.description.describe`, from the numbers themselves.
    """

    name: str
    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe
    method: Method = fit
    data: str = "digits"
    half: bool = False
    quick_options: Mapping[str, Any] = field(default_factory=dict)
    quick_epochs: int = 4
    seconds: float = 10.0
    attack_eps: float | None = EPS
    certified: bool = False
    attack_examples: int | None = None
    after: tuple[str, ...] = ()
    in_paper: bool = False
    why: str = ""

    def sized(self, scale: Scale, seed: int) -> tuple[dict[str, Any], Recipe]:
        """Return the options and the recipe for a scale and a seed."""
        options, recipe = dict(self.options), replace(self.recipe, seed=seed)
        if scale.quick:
            options |= self.quick_options
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
