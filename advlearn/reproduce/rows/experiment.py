"""A row of the paper as an experiment: what it needs, measures, and expects.

What is expected was fixed before the run. A row is *reproduced* when every expected number lies in
its range and every claim holds, has the *same direction* when only the claims hold, and is *not
reproduced* otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from advlearn.data import Dataset
from advlearn.data.reference import unpack
from advlearn.reproduce import paper
from advlearn.reproduce.measures import Effort, Values
from advlearn.reproduce.models.images import images
from advlearn.reproduce.models.spec import Scale

Needs = tuple[tuple[str, int], ...]  # names of models with their seeds


class Trial:
    """One repetition of a row: its seed, trained models, what attacks did to them, images.

    Args:
        seed: which repetition this is.
        scale: full or quick.
        weights: (model, seed) -> the content of its file.
        attacked: (model, seed) -> what `under_attack` measured of it.
        effort: of the row's own PGD; None for a row that runs none.
    """

    def __init__(
        self,
        seed: int,
        scale: Scale,
        weights: Mapping[tuple[str, int], bytes],
        attacked: Mapping[tuple[str, int], Values],
        effort: Effort | None = None,
    ) -> None:
        self.seed, self.scale = seed, scale
        self._weights, self._attacked, self._effort = weights, attacked, effort
        self._models: dict[tuple[str, int], nn.Module] = {}

    def model(self, name: str, seed: int | None = None) -> nn.Module:
        """Return a trained model, of this repetition's seed or of another."""
        key = (name, self.seed if seed is None else seed)
        if key not in self._models:
            self._models[key] = unpack(self._weights[key], f"{name}, seed {key[1]}")[0]
        return self._models[key]

    def members(self, name: str) -> list[nn.Module]:
        """Return a model trained with every seed that there is, by seed."""
        return [self.model(name, seed) for other, seed in sorted(self._weights) if other == name]

    def attacked(self, name: str) -> Values:
        """Return what was measured of a model under attack."""
        return self._attacked[name, self.seed]

    def images(self, kind: str = "digits", split: str = "test") -> Dataset:
        """Return images, see `advlearn.reproduce.models.images.images`."""
        return images(kind, split, self.scale)

    @property
    def effort(self) -> Effort:
        """How hard the row's own PGD tries.

        Raises:
            ValueError: the row does not say that it runs PGD, so the effort would not decide
                whether its measurement is done again.
        """
        if self._effort is None:
            raise ValueError("this row runs PGD and does not say so. Add runs_pgd=True to it.")
        return self._effort


def as_attacked(model: str, trial: Trial) -> Values:
    """Measure nothing more than attacks on one model did, for rows that report just that."""
    return trial.attacked(model)


@dataclass(frozen=True)
class Claim:
    """A statement about our numbers that the paper makes in words or in a picture."""

    statement: str
    holds: Callable[[Mapping[str, float]], bool]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One row of the paper as something that can be run.

    Args:
        id: of the row in `advlearn.reproduce.paper.ROWS`.
        measure: what is measured in one repetition: quantity -> rate or number.
        uses: models, of the repetition's own seed.
        members: a model that is needed with several seeds -> how many.
        runs_pgd: the measure itself runs PGD, with `Trial.effort`.
        expect: quantity -> the range that our mean must lie in.
        same_as: a quantity of ours -> the paper's that it is compared with, where that has another
            name.
        claims: statements that must hold.
        numbers: quantities that are not rates, and are not written as percentages.
        procedure: how the row is done and where that differs from the paper, for people.
        seeds: repetitions of a full run.
        remark: why the numbers came out as they did, written after the run. A row that is not
            reproduced must have one.
        seconds: about how long one repetition takes.
    """

    id: str
    measure: Callable[[Trial], Values]
    uses: tuple[str, ...] = ()
    members: Mapping[str, int] = field(default_factory=dict)
    runs_pgd: bool = False
    expect: Mapping[str, tuple[float, float]]
    same_as: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    numbers: tuple[str, ...] = ()
    procedure: str
    seeds: int = 1
    remark: str = ""
    seconds: float = 5.0

    def needs(self, seed: int, *, quick: bool = False) -> Needs:
        """Return the trained models of one repetition; a quick run has three members at most."""
        own = tuple((name, seed) for name in self.uses)
        more = tuple(
            (name, member)
            for name, count in self.members.items()
            for member in range(min(count, 3) if quick else count)
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
    """Return the ranges around the numbers that the paper reports in a row.

    Args:
        id: the row.
        same_as: as for `Experiment`: the range of the paper's quantity goes to ours.
        **widths: for each of them, in the row's order, how far ours may lie from it: one number, or
            (below, above). The keyword is free: it only says which quantity is meant.

    Example:
        >>> near("logistic-3v7", clean=0.005, fgsm=(0.02, 0.01))["FGSM error"]
        (0.97, 1.0)
    """
    standing = {reported: name for name, reported in (same_as or {}).items()}
    ranges = {}
    for (name, value), width in zip(paper.row(id).reported.items(), widths.values(), strict=True):
        below, above = width if isinstance(width, tuple) else (width, width)
        low, high = round(max(0.0, value - below), 6), round(min(1.0, value + above), 6)
        ranges[standing.get(name, name)] = (low, high)
    return ranges
