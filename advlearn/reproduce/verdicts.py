"""From measured values to a published result: mean, interval, verdict."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from advlearn.metrics import Rate
from advlearn.reproduce import paper
from advlearn.reproduce.measures import Value, Values
from advlearn.reproduce.models.description import describe
from advlearn.reproduce.models.recipes import MODELS
from advlearn.reproduce.rows.experiment import Experiment

STUDENT_FROM = 3
"""From how many seeds on the interval is Student's."""

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)


def to_json(values: Values) -> dict[str, Any]:
    """Return measured values as JSON: a number, or {"count": k, "total": n}.

    Example:
        >>> to_json({"error": Rate(1, 4), "radius": 0.3})
        {'error': {'count': 1, 'total': 4}, 'radius': 0.3}
    """
    return {
        name: {"count": value.count, "total": value.total} if isinstance(value, Rate) else value
        for name, value in values.items()
    }


def from_json(values: Mapping[str, Any]) -> dict[str, Value]:
    """Return what `to_json` was given."""
    return {
        name: Rate(**value) if isinstance(value, dict) else float(value)
        for name, value in values.items()
    }


def interval(values: Sequence[Value]) -> tuple[float, float]:
    """Return a 95 % interval for the mean of a quantity.

    Over three seeds or more, Student's interval of their mean, for counted rates cut to [0, 1]: how
    much training varies, on one set of test images. Over fewer, and where all seeds gave the same
    rate, the Wilson interval of the images (see `images`): how much the choice of the images
    varies. A number that is neither counted nor repeated so often has none: both ends are its mean.

    Example:
        >>> low, high = interval([Rate(9, 1000), Rate(11, 1000), Rate(10, 1000)])
        >>> round(low, 4), round(high, 4)
        (0.0075, 0.0125)
        >>> low, high = interval([Rate(1000, 1000)] * 3)
        >>> round(low, 4), high
        (0.9962, 1.0)
    """
    shares = [float(value) for value in values]
    mean = sum(shares) / len(shares)
    total = images(values)
    if total is not None:
        return Rate(round(mean * total), total).interval
    if len(shares) < STUDENT_FROM:
        return mean, mean
    half = _T95[min(len(shares) - 2, len(_T95) - 1)] * spread(values) / math.sqrt(len(shares))
    low, high = mean - half, mean + half
    counted = all(isinstance(value, Rate) for value in values)
    return (max(low, 0.0), min(high, 1.0)) if counted else (low, high)


def images(values: Sequence[Value]) -> int | None:
    """Return of how many images `interval` is Wilson's, or None where it is not.

    All seeds meet the same images. So each image counts once, however many seeds there are.

    Example:
        >>> images([Rate(16, 1000)]), images([Rate(1000, 1000)] * 5), images([0.3])
        (1000, 1000, None)
        >>> images([Rate(9, 1000), Rate(11, 1000), Rate(10, 1000)])  # Student's, over the seeds
    """
    rates = [value for value in values if isinstance(value, Rate)]
    if len(rates) < len(values) or (len(rates) >= STUDENT_FROM and len(set(map(float, rates))) > 1):
        return None
    return round(sum(rate.total for rate in rates) / len(rates))


def spread(values: Sequence[Value]) -> float:
    """Return the standard deviation over the seeds (0 for one)."""
    shares = [float(value) for value in values]
    mean = sum(shares) / len(shares)
    return math.sqrt(sum((s - mean) ** 2 for s in shares) / max(1, len(shares) - 1))


def judge(experiment: Experiment, means: Mapping[str, float]) -> tuple[str, list[str]]:
    """Return the verdict, and what speaks against "reproduced".

    Returns:
        "reproduced", "same direction" or "not reproduced", and one sentence for each number out of
        its range and each claim that does not hold.
    """
    outside = []
    for name, (low, high) in experiment.expect.items():
        value = means.get(name, math.nan)
        if not low - 1e-9 <= value <= high + 1e-9:
            if math.isnan(value):
                problem = "was not measured, expected"
            elif name in experiment.numbers:
                problem = f"is {value:.3g}, outside"
            else:
                problem = f"is {100 * value:.2f} %, outside"
            outside.append(f"{name} {problem} {paper.span(low, high, name in experiment.numbers)}")
    broken = [claim.statement for claim in experiment.claims if not claim.holds(means)]
    reasons = outside + [f"this does not hold: {statement}" for statement in broken]
    if broken:
        return "not reproduced", reasons
    return ("same direction" if outside else "reproduced"), reasons


def sentences(experiment: Experiment, means: Mapping[str, float]) -> dict[str, Any]:
    """Return what a result says in words: all of it comes from the code, and none from a run.

    Args:
        experiment: the row.
        means: quantity -> our mean over the seeds, for what speaks against "reproduced".
    """
    _, reasons = judge(experiment, means)
    return {
        "experiment": experiment.row.experiment,
        "section": experiment.row.section,
        "recipe": {"row": experiment.procedure}
        | {name: describe(MODELS[name]) for name in (*experiment.uses, *experiment.members)},
        "tolerance": {
            "ranges": {name: list(range_) for name, range_ in experiment.expect.items()},
            "claims": [claim.statement for claim in experiment.claims],
        },
        "because": reasons,
        "remark": experiment.remark,
    }


def result(
    experiment: Experiment, repetitions: Sequence[Values], *, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a row's result, as it is published.

    Args:
        experiment: the row.
        repetitions: what each seed measured, at least one.
        about: data, versions, seconds.
    """
    names = dict.fromkeys(name for r in repetitions for name in r)
    values = {name: [r[name] for r in repetitions if name in r] for name in names}
    means = {name: sum(map(float, each)) / len(each) for name, each in values.items()}
    verdict, _ = judge(experiment, means)
    in_words = sentences(experiment, means)
    return {
        "id": experiment.id,
        "experiment": in_words["experiment"],
        "section": in_words["section"],
        "paper": dict(experiment.row.reported)
        | {name: experiment.row.reported[same] for name, same in experiment.same_as.items()},
        "ours": means,
        "interval": {name: list(interval(each)) for name, each in values.items()},
        "images": {
            name: total for name, each in values.items() if (total := images(each)) is not None
        },
        "spread": {name: spread(each) for name, each in values.items()},
        "values": {name: [float(value) for value in each] for name, each in values.items()},
        "numbers": list(experiment.numbers),
        "seeds": len(repetitions),
        "recipe": in_words["recipe"],
        "tolerance": in_words["tolerance"],
        "verdict": verdict,
        "because": in_words["because"],
        "remark": in_words["remark"],
        "about": dict(about),
    }


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in ("advlearn", "torch", "numpy")
    }
