"""The numbers that the paper reports, as data, and the tables that put ours beside them.

Each row keeps the paper's conventions: pixels in [0, 1], true labels, no clipping, confidence over
the mistakes. Rates are fractions. Our own numbers come from the files in `data/results`, which
`advlearn reproduce` writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advlearn._bounded import parse_json, read_plain
from advlearn._quote import printable, quote
from advlearn._validation import check_choice
from advlearn.data.folders import published
from advlearn.metrics import Rate

CITATION = (
    "I. J. Goodfellow, J. Shlens, C. Szegedy. Explaining and harnessing adversarial examples. "
    "ICLR 2015. arXiv:1412.6572"
)


@dataclass(frozen=True)
class Row:
    """One experiment of the paper.

    Args:
        id: the short name that lessons and results use.
        experiment: what was done, in a few words.
        section: where the paper says it.
        reported: name of a measured quantity -> the paper's value. Empty where the paper gives a
            picture or an argument and no number.
    """

    id: str
    experiment: str
    section: str
    reported: Mapping[str, float] = field(default_factory=dict)


_ROWS = (
    Row(
        "panda",
        "an ImageNet network and one photograph, eps .007",
        "4",
        {
            "confidence before": 0.577,
            "confidence after": 0.993,
            "confidence on the sign image": 0.082,
        },
    ),
    Row(
        "logistic-3v7",
        "logistic regression, 3 against 7, eps .25",
        "5",
        {"clean error": 0.016, "FGSM error": 0.99},
    ),
    Row(
        "softmax",
        "softmax regression (no hidden layer), ten digits, eps .25",
        "4",
        {"FGSM error": 0.999, "confidence on mistakes": 0.793},
    ),
    Row(
        "maxout",
        "maxout network, 240 units, eps .25",
        "4",
        {"clean error": 0.0094, "FGSM error": 0.894, "confidence on mistakes": 0.976},
    ),
    Row(
        "cifar",
        "convolutional maxout network, CIFAR-10, eps .1 in whitened units",
        "4",
        {"FGSM error": 0.8715, "confidence on mistakes": 0.966},
    ),
    Row(
        "l1-linear",
        "logistic regression: L1 penalty outside the loss against eps ‖w‖₁ inside; an argument",
        "5",
    ),
    Row(
        "l1-deep",
        "maxout network, L1 penalty on the first layer, coefficient .0025",
        "5",
        {"training error at .0025 (paper: more than)": 0.05},
    ),
    Row(
        "adv-clean",
        "adversarial training, 240 units: the clean error",
        "6",
        {"clean error without": 0.0094, "clean error with": 0.0084},
    ),
    Row(
        "adv-wide",
        "adversarial training, 1600 units: the clean error",
        "6",
        {"clean error without": 0.0114, "clean error with": 0.00782},
    ),
    Row(
        "adv-fgsm",
        "FGSM error without and with adversarial training, eps .25",
        "6",
        {"FGSM error without": 0.894, "FGSM error with": 0.179},
    ),
    Row(
        "adv-conf",
        "the adversarially trained network's confidence on its mistakes",
        "6",
        {"confidence on mistakes": 0.814},
    ),
    Row(
        "transfer",
        "examples of one network fed to the other, eps .25",
        "6",
        {"crafted on plain, fed to trained": 0.196, "crafted on trained, fed to plain": 0.409},
    ),
    Row(
        "noise",
        "training on random noise instead of adversarial examples: FGSM error, eps .25",
        "6",
        {
            "FGSM error, signs": 0.862,
            "confidence on mistakes, signs": 0.973,
            "FGSM error, uniform": 0.904,
            "confidence on mistakes, uniform": 0.978,
        },
    ),
    Row("filters", "first-layer weights, plain and adversarially trained; a picture", "6"),
    Row("rotation", "images rotated towards the gradient; no number", "4"),
    Row(
        "rbf",
        "shallow RBF network, no hidden layer, eps .25",
        "7",
        {
            "FGSM error": 0.554,
            "confidence on mistakes": 0.012,
            "confidence on clean examples": 0.606,
        },
    ),
    Row("logits-eps", "the ten logits of one digit as eps runs from -15 to 15; a picture", "8"),
    Row(
        "agree",
        "the same wrong class on the maxout network's adversarial mistakes",
        "8",
        {"softmax": 0.546, "RBF": 0.16},
    ),
    Row(
        "agree-both",
        "the same wrong class where both models err",
        "8",
        {"maxout and softmax": 0.846, "maxout and RBF": 0.543, "RBF and softmax": 0.536},
    ),
    Row(
        "generative",
        "a generative model, eps .25 (in the paper a deep Boltzmann machine)",
        "9",
        {"clean error": 0.0088, "FGSM error": 0.975},
    ),
    Row(
        "ensemble",
        "twelve maxout networks: all attacked, or one member",
        "9",
        {"whole ensemble attacked": 0.911, "one member attacked": 0.879},
    ),
    Row(
        "rubbish",
        "N(0, I) images called a digit with probability over one half, and the mean confidence",
        "A",
        {
            "maxout": 0.9835,
            "maxout, confidence": 0.928,
            "sigmoid top": 0.68,
            "sigmoid top, confidence": 0.879,
            "softmax": 0.598,
            "softmax, confidence": 0.708,
            "RBF": 0.0,
        },
    ),
    Row(
        "rubbish-cifar",
        "N(0, I) images called an object, convolutional maxout network",
        "A",
        {"conv maxout": 0.934, "conv maxout, confidence": 0.844},
    ),
)
ROWS: Mapping[str, Row] = {row.id: row for row in _ROWS}
"""The rows by id."""


def row(id: str) -> Row:
    """Return the row with this id.

    Raises:
        ValueError: there is no such row; the message names those that exist.

    Example:
        >>> row("logistic-3v7").reported["clean error"]
        0.016
    """
    return ROWS[check_choice(id, "id", tuple(ROWS))]


def comparison(id: str, measured: Mapping[str, Sequence[object]], columns: Sequence[str]) -> str:
    """Return a "paper / ours" table in Markdown for one row of the paper.

    Under it stands what the interval of a `Rate` is, if there is one.

    Args:
        id: the row.
        measured: name of a quantity of the row -> one cell for each of `columns`.
        columns: what we measured, such as ("ours, unclipped", "ours, clipped").

    Raises:
        ValueError: the row or a quantity is unknown, or a line has the wrong number of cells.

    Example:
        >>> print(comparison("logistic-3v7", {"clean error": ["2 %"]}, ["ours"]))
        | logistic-3v7 | paper | ours |
        |---|---|---|
        | clean error | 1.6 % | 2 % |
    """
    reported = row(id).reported
    lines = [f"| {id} | paper | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for name, cells in measured.items():
        check_choice(name, "quantity", tuple(reported))
        if len(cells) != len(columns):
            raise ValueError(f"{name} has {len(cells)} cells for {len(columns)} columns.")
        shown = " | ".join(str(cell) for cell in cells)
        lines.append(f"| {name} | {100 * reported[name]:.3g} % | {shown} |")
    if any(isinstance(cell, Rate) for cells in measured.values() for cell in cells):
        lines += ["", "*In brackets:* Wilson's 95 % interval over the images, of one network."]
    return "\n".join(lines)


def result(id: str) -> dict[str, Any]:
    """Return our published result for a row, as `advlearn reproduce` wrote it.

    Keys: "id", "experiment", "paper", "ours" (quantity -> mean over the seeds), "interval"
    (quantity -> ends of a 95 % interval), "images" (quantity -> of how many images that interval
    is Wilson's; the others are Student's over the seeds), "values" (quantity -> one value for each
    seed), "numbers" (the quantities that are not rates), "seeds", "recipe", "tolerance", "verdict",
    "because", and what else was measured ("about").

    Raises:
        ValueError: there is no such row, or its file is damaged.
        FileNotFoundError: the row has no published result; the message says how to make one.

    Example:
        >>> result("softmax")["paper"]["FGSM error"]
        0.999
    """
    path = published("results") / f"{row(id).id}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no published result for {id!r} in {path.parent}. Run "
            f"`advlearn reproduce --rows {id}` to measure it."
        )
    return read_result(path)


MOST_BYTES = 1_000_000  # of a result; ours have 20,000 at most
_KEYS = {
    **{"id": str, "verdict": str, "numbers": list},
    **dict.fromkeys(("ours", "paper", "interval", "images", "values"), dict),
}


def read_result(path: Path) -> dict[str, Any]:
    """Return what a file of results holds, if it is one.

    Every quantity must be a number with an interval, and every text free of markup: it goes into
    tables in Markdown.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged, or is no result; the message names the file and says why.
    """
    try:
        loaded: dict[str, Any] = parse_json(read_plain(path, MOST_BYTES))
        _check_result(loaded)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{quote(str(path), 300)} is damaged, or is no result of `advlearn reproduce` "
            f"({printable(error) or type(error).__name__}). Copy it again, or install the course "
            "again."
        ) from error
    return loaded


def _check_result(loaded: Any) -> None:
    if not isinstance(loaded, dict):
        raise ValueError("it is no table of names and values")
    for key, kind in _KEYS.items():
        if not isinstance(loaded.get(key), kind):
            raise ValueError(f"its {key!r} is missing, or is no {kind.__name__}")
    ours, paper = loaded["ours"], loaded["paper"]
    numbers = [*ours.values(), *paper.values()]
    for name in ours:
        ends = loaded["interval"].get(name)
        if not isinstance(ends, list) or len(ends) != 2:
            raise ValueError(f"{quote(name)} has no interval")
        if not isinstance(loaded["values"].get(name), list):
            raise ValueError(f"{quote(name)} has no values")
        numbers += [*ends, loaded["images"].get(name, 1)]
    if not all(type(number) in (int, float) for number in numbers):
        raise ValueError("a quantity is no number")
    for text in (loaded["id"], loaded["verdict"], *ours, *paper):
        if not text.isprintable() or set("|<>$`*_[]\\&") & set(text):
            raise ValueError(f"the text {quote(text)} would not stand in a table as it is")


KINDS_OF_INTERVAL = {
    "seeds": """\
"5 seeds": Student's interval over networks that were trained alike from different random numbers,
and measured on the same test images. It says how much training varies.""",
    "images": """\
"1,000 images": Wilson's interval over the images. It says how much another choice of images might
change the number.""",
    "both": """\
It is used where fewer than three networks were trained, and where all of them gave the same
rate.""",
}
"""What the column "over" of `table` means, in Markdown, by its last word."""


def table(*ids: str) -> str:
    """Return the published "paper / ours" table in Markdown, one line for each quantity.

    Under it stands what its intervals are, as far as it has them.

    Args:
        *ids: rows; none means all.

    Raises:
        ValueError: there is no such row.
        FileNotFoundError: a row has no published result.

    Example:
        >>> print(table("softmax").splitlines()[0])
        | row | quantity | paper | ours | 95 % interval | over | verdict |
    """
    lines = ["| row | quantity | paper | ours | 95 % interval | over | verdict |", "|---" * 7 + "|"]
    over: set[str] = set()
    for id in ids or tuple(ROWS):
        row = result(id)
        lines += table_lines(row)
        over |= {interval(row, name)[1].partition(" ")[2] for name in row["ours"]}
    kinds = [kind for kind in ("seeds", "images") if kind in over]
    said = [KINDS_OF_INTERVAL[kind] for kind in (*kinds, *(["both"] if len(kinds) == 2 else []))]
    return "\n".join([*lines, "", "*The 95 % interval.*", *said] if said else lines)


def table_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of `table` for one result."""
    lines = []
    for number, name in enumerate(result["ours"]):
        paper = result["paper"].get(name)
        cells = (
            result["id"] if not number else "",
            name,
            "" if paper is None else percent(paper),
            written(result, name, result["ours"][name]),
            *interval(result, name),
            result["verdict"] if not number else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def interval(result: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return the 95 % interval of a result's quantity and what it is over, both "" if it has none.

    Example:
        >>> interval(result("adv-fgsm"), "PGD error without")
        ('99.6-100.0 %', '1,000 images')
    """
    low, high = result["interval"][name]
    if low == high:
        return "", ""
    total = result["images"].get(name)
    over = f"{len(result['values'][name])} seeds" if total is None else f"{total:,} images"
    between = " to " if low < 0 else "-"  # a minus sign beside it would be misread
    ends = written(result, name, low, unit=""), written(result, name, high)
    if float(ends[0]) == float(ends[1].removesuffix(" %")):  # too few digits to tell them apart
        scale, unit = (1, "") if name in result["numbers"] else (100, " %")
        digits = -math.floor(math.log10(scale * (high - low)))
        ends = f"{scale * low:.{digits}f}", f"{scale * high:.{digits}f}{unit}"
    return between.join(ends), over


def percent(rate: float, unit: str = " %") -> str:
    """Write a fraction as a percentage, with two digits after the point below 2 %.

    Example:
        >>> percent(0.0094), percent(0.894)
        ('0.94 %', '89.4 %')
    """
    return f"{100 * rate:.{2 if abs(rate) < 0.02 else 1}f}{unit}"


def written(result: Mapping[str, Any], name: str, value: float, unit: str = " %") -> str:
    """Write a value of a result's quantity: a rate as a percentage, another number as it is.

    Example:
        >>> written({"numbers": ["wrong classes"]}, "wrong classes", 4.0)
        '4'
        >>> written({"numbers": ["wrong classes"]}, "error", 0.25)
        '25.0 %'
    """
    return f"{value:.3g}" if name in result["numbers"] else percent(value, unit)


def span(low: float, high: float, plain: bool = False) -> str:
    """Write a range of rates as percentages, or with `plain` of other numbers.

    Example:
        >>> span(0.0074, 0.0114), span(0.5, 2.0, plain=True)
        ('0.74 to 1.14 %', '0.5 to 2')
    """
    return f"{low:.4g} to {high:.4g}" if plain else f"{100 * low:.4g} to {100 * high:.4g} %"
