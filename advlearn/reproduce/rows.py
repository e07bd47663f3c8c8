"""All rows of the paper and all models that they need, by name."""

from __future__ import annotations

from collections.abc import Mapping

from advlearn import paper
from advlearn.reproduce import alternatives, deep, geometry, linear, pictures
from advlearn.reproduce.experiments import Experiment
from advlearn.reproduce.ingredients import Ingredient
from advlearn.reproduce.kitchen import RECIPES

_FOUND = {
    experiment.id: experiment
    for module in (linear, deep, geometry, alternatives, pictures)
    for experiment in module.EXPERIMENTS
}
EXPERIMENTS: Mapping[str, Experiment] = {id: _FOUND[id] for id in paper.ROWS}
"""The rows, in the paper's order."""

INGREDIENTS: Mapping[str, Ingredient] = {recipe.name: recipe for recipe in RECIPES}
"""The models."""
