"""All rows of the paper and all models that they need, by name."""

from __future__ import annotations

from collections.abc import Mapping

from advlearn.reproduce import paper
from advlearn.reproduce.models.recipes import RECIPES
from advlearn.reproduce.models.trained import Ingredient
from advlearn.reproduce.rows import alternatives, deep, geometry, linear, pictures
from advlearn.reproduce.rows.experiment import Experiment

_FOUND = {
    experiment.id: experiment
    for module in (linear, deep, geometry, alternatives, pictures)
    for experiment in module.EXPERIMENTS
}
EXPERIMENTS: Mapping[str, Experiment] = {id: _FOUND[id] for id in paper.ROWS}
"""The rows, in the paper's order."""

INGREDIENTS: Mapping[str, Ingredient] = {recipe.name: recipe for recipe in RECIPES}
"""The models."""
