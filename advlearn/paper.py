"""The figures that the paper reports, as data: what a lesson prints beside its own.

Each row keeps the paper's conventions: pixels in [0, 1], true labels, no clipping, confidence over
the mistakes. Rates are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from advlearn._validation import check_choice

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
        figures: name of a measured quantity -> the paper's value.
    """

    id: str
    experiment: str
    section: str
    figures: Mapping[str, float]


_ROWS = (
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
        "l1-linear",
        "logistic regression: L1 penalty outside the loss against eps ‖w‖₁ inside; an argument",
        "5",
        {},
    ),
    Row(
        "l1-deep",
        "maxout network, L1 penalty on the first layer, coefficient .0025",
        "5",
        {"training error at .0025 (paper: more than)": 0.05},
    ),
)
ROWS: Mapping[str, Row] = {row.id: row for row in _ROWS}
"""The rows by id."""


def row(id: str) -> Row:
    """Return the row with this id.

    Raises:
        ValueError: there is no such row; the message names those that exist.

    Example:
        >>> row("logistic-3v7").figures["clean error"]
        0.016
    """
    return ROWS[check_choice(id, "id", tuple(ROWS))]


def comparison(id: str, ours: Mapping[str, Sequence[object]], columns: Sequence[str]) -> str:
    """Return a "paper / ours" table in Markdown for one row of the paper.

    Args:
        id: the row.
        ours: name of a quantity of the row -> one cell for each of `columns`.
        columns: what we measured, such as ("ours, unclipped", "ours, clipped").

    Raises:
        ValueError: the row or a quantity is unknown, or a line has the wrong number of cells.

    Example:
        >>> print(comparison("logistic-3v7", {"clean error": ["2 %"]}, ["ours"]))
        | logistic-3v7 | paper | ours |
        |---|---|---|
        | clean error | 1.6 % | 2 % |
    """
    figures = row(id).figures
    lines = [f"| {id} | paper | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for name, cells in ours.items():
        check_choice(name, "quantity", tuple(figures))
        if len(cells) != len(columns):
            raise ValueError(f"{name} has {len(cells)} cells for {len(columns)} columns.")
        shown = " | ".join(str(cell) for cell in cells)
        lines.append(f"| {name} | {100 * figures[name]:.3g} % | {shown} |")
    return "\n".join(lines)
