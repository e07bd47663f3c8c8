"""What the slides draw beside the pictures of `advlearn.plotting`: large, for a wall."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advlearn import plotting
from advlearn.metrics import Rate

WIDE = (6.2, 2.75)
"""Inches of a figure that fills a slide under its title: 9 points are then read from the back."""


def show(figure: Figure | Axes, *, kind: str = "png") -> None:
    """Show a figure as sharp as a wall needs it."""
    plotting.show(figure, kind=kind, dpi=190)


def wide() -> Axes:
    """Return an empty Axes that fills a slide under its title."""
    return plt.subplots(figsize=WIDE, layout="constrained")[1]


def bars(rates: Mapping[str, Rate], *, xlabel: str, hatched: str = "") -> Axes:
    """Draw shares as bars, each with its 95 % interval and its number.

    Args:
        rates: name -> share, from above to below.
        xlabel: what is counted.
        hatched: names that begin so are drawn in another colour, with hatches.
    """
    ax = wide()
    said = []
    for place, (name, rate) in enumerate(rates.items()):
        value, (low, high) = 100 * float(rate), (100 * end for end in rate.interval)
        other = bool(hatched) and name.startswith(hatched)
        ax.barh(place, value, height=0.6, color=plotting.ORANGE if other else plotting.SKY,
                hatch="//" if other else "", edgecolor=plotting.BLACK, linewidth=0.6)  # fmt: skip
        ends = [[max(0.0, value - low)], [max(0.0, high - value)]]
        ax.errorbar(value, place, xerr=ends, color=plotting.BLACK, capsize=3)
        ax.text(max(value, high) + 2, place, f"{value:.0f} %", va="center", fontsize=12)
        said.append(f"{name} {rate}")
    ax.set_yticks(range(len(rates)), list(rates), fontsize=11)
    ax.invert_yaxis()
    ax.set(xlim=(0, 114), xlabel=xlabel)
    ax.set_xticks(range(0, 101, 20))
    ax.spines[["top", "right"]].set_visible(False)
    return plotting.describe(ax, f"{xlabel}: {'; '.join(said)}.")
