"""The leaderboard: a CSV file that many may write to at once, and its picture."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from matplotlib.axes import Axes

from advlearn._atomic import write_atomically
from advlearn.arena.contest import ATTACKS, Report
from advlearn.metrics import Rate

_SHARES = ("score", "low", "high")  # percent
_COUNTS = tuple(f"right after {name}" for name in ATTACKS)
COLUMNS = (
    "name", *_SHARES, "digits", *_COUNTS, "rules", "architecture", "parameters", "sha256",
)  # fmt: skip
_NAME = re.compile(r"[^\W_][\w .\-+]{0,39}")


@dataclass(frozen=True)
class Standing:
    """One line of the leaderboard."""

    name: str
    score: Rate
    clean: Rate
    rules: str
    architecture: str
    parameters: int


def append(path: str | Path, report: Report) -> None:
    """Add a report to the leaderboard, which is made if there is none.

    The file is replaced in one step, under a lock: a reader never sees half a line, and no line of
    thirty learners at once is lost.

    Args:
        path: a CSV file.
        report: what `score` returned.

    Raises:
        ValueError: the name does not fit, or the file is not a leaderboard.
        TimeoutError: another process has held the lock for half a minute.
        OSError: the file cannot be written.
    """
    if not _NAME.fullmatch(report.name):
        raise ValueError(
            f"name = {report.name!r:.60} does not fit the leaderboard. Use up to 40 letters, "
            "digits, spaces and . - + _, a letter or digit first."
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=30):
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text:
            _rows(text, path)
        lines = io.StringIO(newline="")
        writer = csv.writer(lines, lineterminator="\n")
        if not text:
            writer.writerow(COLUMNS)
        writer.writerow(_cells(report))
        write_atomically(path, text + lines.getvalue())


def _cells(report: Report) -> list[object]:
    shares = [float(report.score), *report.score.interval]
    return [
        report.name,
        *(f"{100 * share:.1f}" for share in shares),
        report.score.total,
        *(report.right_after[name].count for name in ATTACKS),
        str(report.rules),
        report.architecture,
        report.parameters,
        report.sha256[:16],
    ]


def _rows(text: str, path: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    header = next(csv.reader(io.StringIO(text, newline="")), [])
    if tuple(header) != COLUMNS or any(None in row or None in row.values() for row in rows):
        raise ValueError(
            f"{path} is not a leaderboard of the arena. Name another file, or delete it."
        )
    return rows


def read(path: str | Path) -> list[Standing]:
    """Return every line of a leaderboard, the oldest first.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a leaderboard.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist. `advlearn arena score FILE --leaderboard {path}` makes it."
        )
    try:
        return [
            Standing(
                row["name"],
                Rate(int(row[_COUNTS[-1]]), int(row["digits"])),
                Rate(int(row[_COUNTS[0]]), int(row["digits"])),
                row["rules"],
                row["architecture"],
                int(row["parameters"]),
            )
            for row in _rows(path.read_text(encoding="utf-8"), path)
        ]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def standing(lines: Sequence[Standing]) -> list[Standing]:
    """Return the newest line of each name, the best first, by the rules of the last line.

    Scores by other rules do not compare, so they are left out.

    Example:
        >>> a = Standing("a", Rate(1, 10), Rate(9, 10), "", "", 1)
        >>> b = Standing("b", Rate(2, 10), Rate(9, 10), "", "", 1)
        >>> [line.name for line in standing([a, b])]
        ['b', 'a']
    """
    newest = {line.name: line for line in lines if line.rules == lines[-1].rules}
    return sorted(newest.values(), key=lambda line: (-float(line.score), line.name))


def draw(lines: Sequence[Standing], *, ax: Axes | None = None) -> Axes:
    """Draw the leaderboard: bars for the score with its interval, rings for the clean accuracy.

    Args:
        lines: from `read`.
        ax: where to draw.

    Raises:
        ValueError: there are no lines.

    Example:
        >>> from advlearn.plotting import alt_text
        >>> line = Standing("mine", Rate(40, 100), Rate(95, 100), "eps 0.25", "ConvNet", 9)
        >>> alt_text(draw([line]))
        'Leaderboard, eps 0.25: 1. mine, score 40 % (31-50), clean 95 %.'
    """
    import matplotlib.pyplot as plt

    from advlearn.plotting import BLACK, SKY, describe

    if not lines:
        raise ValueError("lines is empty. Score a model first.")
    shown = standing(lines)
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 0.42 * len(shown) + 1.2), layout="constrained")
    parts = []
    for place, line in enumerate(shown, start=1):
        value, clean = 100 * float(line.score), 100 * float(line.clean)
        low, high = (100 * end for end in line.score.interval)
        first = place == 1
        ax.barh(place, value, height=0.6, color=SKY, edgecolor=BLACK, linewidth=0.6,
                label="score, with its 95 % interval" if first else None)  # fmt: skip
        ax.errorbar(
            value,
            place,
            xerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
            color=BLACK,
            capsize=3,
        )
        ax.plot(clean, place, "o", markerfacecolor="none", markeredgecolor=BLACK, markersize=8,
                markeredgewidth=2, linestyle="none",
                label="clean accuracy" if first else None)  # fmt: skip
        parts.append(
            f"{place}. {line.name}, score {value:.0f} % ({low:.0f}-{high:.0f}), clean {clean:.0f} %"
        )
    ax.set_yticks(range(1, len(shown) + 1), [f"{line.name}" for line in shown])
    ax.set(xlim=(0, 103), ylim=(len(shown) + 0.6, 0.4), xlabel="digits still right (%)")
    ax.set_title(shown[0].rules, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return describe(ax, f"Leaderboard, {shown[0].rules}: {'; '.join(parts)}.")
