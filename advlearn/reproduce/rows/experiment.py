"""The rows of the paper as experiments: what each needs, measures, and expects.

What is expected was fixed before the run. A row is *reproduced* when every expected figure lies in
its range and every claim holds, has the *same direction* when only the claims hold, and is *not
reproduced* otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import nn

from advlearn.data import Dataset
from advlearn.data.reference import unpack
from advlearn.reproduce import paper
from advlearn.reproduce.measures import FULL, QUICK, Effort, Values
from advlearn.reproduce.models.trained import Scale, images

Needs = tuple[tuple[str, int], ...]  # names of ingredients with their seeds


class Bench:
    """What an experiment works with: trained models, their attack tables, images.

    Args:
        seed: which repetition this is.
        scale: full or quick.
        weights: (ingredient, seed) -> the content of its file.
        tables: (ingredient, seed) -> what `under_attack` measured of it.
    """

    def __init__(
        self,
        seed: int,
        scale: Scale,
        weights: Mapping[tuple[str, int], bytes],
        tables: Mapping[tuple[str, int], Values],
    ) -> None:
        self.seed, self.scale, self._weights, self._tables = seed, scale, weights, tables
        self._models: dict[tuple[str, int], nn.Module] = {}

    def model(self, name: str, seed: int | None = None) -> nn.Module:
        """Return a trained ingredient, of this repetition's seed or of another."""
        key = (name, self.seed if seed is None else seed)
        if key not in self._models:
            self._models[key] = unpack(self._weights[key], f"{name}, seed {key[1]}")[0]
        return self._models[key]

    def members(self, name: str) -> list[nn.Module]:
        """Return an ingredient trained with every seed that there is, by seed."""
        return [self.model(name, seed) for other, seed in sorted(self._weights) if other == name]

    def table(self, name: str) -> Values:
        """Return what was measured of an ingredient under attack."""
        return self._tables[name, self.seed]

    def images(self, kind: str = "digits", split: str = "test") -> Dataset:
        """Return images, see `advlearn.reproduce.models.trained.images`."""
        return images(kind, split, self.scale)

    @cached_property
    def effort(self) -> Effort:
        """How hard PGD tries at this scale."""
        return QUICK if self.scale.quick else FULL


@dataclass(frozen=True)
class Claim:
    """A statement about our figures that the paper makes in words or in a picture."""

    words: str
    holds: Callable[[Mapping[str, float]], bool]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One row of the paper as something that can be run.

    Args:
        id: of the row in `advlearn.reproduce.paper.ROWS`.
        measure: what is measured in one repetition: quantity -> rate or number.
        uses: ingredients, of the repetition's own seed.
        members: an ingredient that is needed with several seeds -> how many.
        expect: quantity -> the range that our mean must lie in.
        same_as: a quantity of ours -> the paper's figure that it is compared with, where that has
            another name.
        claims: statements that must hold.
        numbers: quantities that are no shares, and are not written as percentages.
        recipe: how the row is done and where that differs from the paper, for people.
        seeds: repetitions of a full run.
        remark: why a figure came out as it did, written after the run.
        seconds: about how long one repetition takes.
    """

    id: str
    measure: Callable[[Bench], Values]
    uses: tuple[str, ...] = ()
    members: Mapping[str, int] = field(default_factory=dict)
    expect: Mapping[str, tuple[float, float]]
    same_as: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    numbers: tuple[str, ...] = ()
    recipe: str
    seeds: int = 1
    remark: str = ""
    seconds: float = 5.0

    def needs(self, seed: int, *, quick: bool = False) -> Needs:
        """Return the trained models of one repetition; a quick run has three members at most."""
        own = tuple((name, seed) for name in self.uses)
        more = tuple(
            (n, s)
            for n, count in self.members.items()
            for s in range(min(count, 3) if quick else count)
        )
        return tuple(dict.fromkeys(own + more))

    @property
    def row(self) -> paper.Row:
        """The row of the paper."""
        return paper.row(self.id)


def near(
    id: str,
    *,
    same_as: Mapping[str, str] | None = None,
    **widths: float | tuple[float, float],
) -> dict[str, tuple[float, float]]:
    """Return the ranges around a row's paper figures.

    Args:
        id: the row.
        same_as: as for `Experiment`: the range of a paper's figure goes to our quantity.
        **widths: for each figure, in the row's order, how far ours may lie from it: one number, or
            (below, above). The keyword is free: it only says which figure is meant.

    Example:
        >>> near("logistic-3v7", clean=0.005, fgsm=(0.02, 0.01))["FGSM error"]
        (0.97, 1.0)
    """
    ours = {theirs: name for name, theirs in (same_as or {}).items()}
    ranges = {}
    for (name, figure), width in zip(paper.row(id).figures.items(), widths.values(), strict=True):
        below, above = width if isinstance(width, tuple) else (width, width)
        low, high = round(max(0.0, figure - below), 6), round(min(1.0, figure + above), 6)
        ranges[ours.get(name, name)] = (low, high)
    return ranges
