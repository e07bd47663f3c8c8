"""The leaderboard: a CSV file that many may write to at once, and its picture."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from advlearn._atomic import locked, write_atomically
from advlearn._bounded import open_plain, read_plain
from advlearn._quote import in_figure, in_markdown, printable, quote
from advlearn.arena.contest import ATTACKS, Report, check_name
from advlearn.metrics import Rate

MOST_BYTES = 2_000_000  # of a leaderboard: some 13,000 lines
_SHARES = ("score", "low", "high")  # percent
_COUNTS = tuple(f"right after {name}" for name in ATTACKS)
COLUMNS = (
    "name", *_SHARES, "digits", *_COUNTS, "rules", "architecture", "parameters", "sha256",
)  # fmt: skip
# What a cell holds, apart from the name. Nothing in it is markup, a formula or a terminal's escape.
_FORMS = {
    **dict.fromkeys(_SHARES, (r"[0-9]{1,3}(\.[0-9]{1,2})?", "no percentage")),
    **dict.fromkeys(("digits", *_COUNTS, "parameters"), (r"[0-9]{1,9}", "no count")),
    "rules": (r"[A-Za-z0-9 .,+\-]{1,120}", "no rules of the arena"),
    "architecture": (r"[A-Za-z0-9_]{1,40}", "no architecture"),
    "sha256": (r"[0-9a-f]{16}", "not the beginning of a sha256"),
}
# A whole line at once: a class's boards have thousands.
_PLAIN_NAME = r"[A-Za-z0-9][A-Za-z0-9 .+_\-]{0,39}"
_LINE = re.compile("\n".join([_PLAIN_NAME, *(_FORMS[column][0] for column in COLUMNS[1:])]))
_NO_BOARD = "{path} is not a leaderboard of the arena. Name another file, or delete it."
_FULL = "Move its older lines to another file."
_PICTURE = ("Source", "advlearn arena: a leaderboard")  # in the PNG: such a file may be replaced


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
    thirty learners at once is lost. Where the path is a link, the file that it leads to is written.

    Args:
        path: a CSV file.
        report: what `score` returned.

    Raises:
        ValueError: the name or another text of the report does not fit, or the file is not a
            leaderboard, or holds what `append` would not have written.
        TimeoutError: another process has held the lock for half a minute.
        OSError: the file cannot be written.
    """
    cells = [str(cell) for cell in _cells(report)]
    _standing(cells)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with locked(path) as target:
        text = _text(target) if target.exists() else ""
        for _ in _standings(text, target) if text else ():
            pass
        lines = io.StringIO(newline="")
        # Who edits a file by hand may leave out its last line end.
        lines.write(f"{text}\n" if text and not text.endswith(("\n", "\r")) else text)
        writer = csv.writer(lines, lineterminator="\n")
        if not text:
            writer.writerow(COLUMNS)
        writer.writerow(cells)
        content = lines.getvalue().encode()
        _require_room(target, len(content))
        write_atomically(target, content)


def write(path: str | Path, reports: Sequence[Report]) -> None:
    """Write a leaderboard of these reports and no others, in one step.

    Raises:
        ValueError: the name or another text of a report does not fit.
        OSError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for report in reports:
        cells = [str(cell) for cell in _cells(report)]
        _standing(cells)
        writer.writerow(cells)
    content = text.getvalue().encode()
    _require_room(Path(path), len(content))
    write_atomically(path, content)


def _require_room(path: Path, size: int) -> None:
    """Require that a board of so many bytes will be read again."""
    if size > MOST_BYTES:
        raise ValueError(f"{quote(str(path), 300)} is full: {MOST_BYTES:,} bytes. {_FULL}")


def check_place(path: str | Path) -> None:
    """Require that `append` can write here, as far as that can be known before the work.

    Raises:
        ValueError: there is a file, and it is no leaderboard.
        OSError: the folder may not be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists():
        read(target)
        _require_room(target, target.stat().st_size + 1000)  # a line has some 200
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise PermissionError(
            f"{quote(str(folder), 300)} is no folder that you may write in. Name another."
        )


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


def _text(path: Path) -> str:
    """Return a leaderboard as it stands, line ends and all."""
    content = read_plain(path, MOST_BYTES, _FULL)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(_NO_BOARD.format(path=quote(str(path), 300))) from error


def _standings(text: str, path: Path) -> Iterator[Standing]:
    """Yield every line of a leaderboard; refuse what `append` would not have written."""
    name, remedy = quote(str(path), 300), "Mend the line, or take it out."
    # Spreadsheets begin a file with U+FEFF. Strict: a quotation mark that is never closed is told.
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        if tuple(next(rows, ())) != COLUMNS:
            raise ValueError(_NO_BOARD.format(path=name))
        for row in filter(None, rows):
            try:
                line = _standing(row)
            except ValueError as error:
                raise ValueError(
                    f"{name} is damaged in line {rows.line_num}: {error} {remedy}"
                ) from error
            yield line
    except csv.Error as error:
        raise ValueError(
            f"{name} is damaged in line {rows.line_num}: {printable(error)}. {remedy}"
        ) from error


def _standing(row: Sequence[str]) -> Standing:
    """Return what a line says.

    Raises:
        ValueError: it has other cells than it should, or they contradict each other.
    """
    if len(row) != len(COLUMNS):
        raise ValueError(f"it has {len(row)} cells, not {len(COLUMNS)}.")
    cells = dict(zip(COLUMNS, row, strict=True))
    if not _LINE.fullmatch("\n".join(row)):
        _check_cells(cells)
    total, counts = int(cells["digits"]), [int(cells[column]) for column in _COUNTS]
    if total < 1 or counts != sorted(counts, reverse=True) or counts[0] > total:
        raise ValueError(f"of {total} digits {counts} were right: each at most the one before it.")
    score = Rate(counts[-1], total)
    for column, share in zip(_SHARES, (float(score), *score.interval), strict=True):
        if abs(float(cells[column]) - 100 * share) > 0.1:
            raise ValueError(f"{column} = {cells[column]}, but its counts make {100 * share:.1f}.")
    return Standing(
        cells["name"],
        score,
        Rate(counts[0], total),
        cells["rules"],
        cells["architecture"],
        int(cells["parameters"]),
    )


def _check_cells(cells: Mapping[str, str]) -> None:
    """Name the first cell that `append` would not have written."""
    name = cells["name"]
    if check_name(name) != name:
        raise ValueError(f"name = {quote(name)} is not in Unicode's composed form (NFC).")
    for column, (form, words) in _FORMS.items():
        if not re.fullmatch(form, cells[column]):
            raise ValueError(f"{column} = {quote(cells[column])} is {words}.")


def read(path: str | Path) -> list[Standing]:
    """Return every line of a leaderboard, the oldest first.

    What `append` would not have written is refused: names that are markup or formulas, numbers that
    contradict each other, a file of more than two million bytes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a leaderboard, or a line is damaged; the message names the line.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{quote(str(path), 300)} does not exist. `advlearn arena score FILE --leaderboard "
            f"{printable(str(path), 300)}` makes it."
        )
    return list(_standings(_text(path), path))


def standing(lines: Sequence[Standing]) -> list[Standing]:
    """Return the newest line of each name, the best first, by the rules of the last line.

    Scores by other rules do not compare, so they are left out; `left_out` says how many.

    Example:
        >>> a = Standing("a", Rate(1, 10), Rate(9, 10), "", "", 1)
        >>> b = Standing("b", Rate(2, 10), Rate(9, 10), "", "", 1)
        >>> [line.name for line in standing([a, b])]
        ['b', 'a']
    """
    newest = {line.name: line for line in lines if line.rules == lines[-1].rules}
    return sorted(newest.values(), key=lambda line: (-float(line.score), line.name))


def left_out(lines: Sequence[Standing]) -> str:
    """Say how many lines `standing` leaves out, and why; "" where it leaves out none.

    Example:
        >>> old = Standing("a", Rate(1, 10), Rate(9, 10), "150 queries", "", 1)
        >>> new = Standing("a", Rate(1, 10), Rate(9, 10), "2250 queries", "", 1)
        >>> left_out([old, new])[:49]
        '1 line by other rules is not shown (150 queries).'
        >>> left_out([new])
        ''
    """
    others = [line.rules for line in lines if line.rules != lines[-1].rules]
    if not others:
        return ""
    kinds = list(dict.fromkeys(others))
    shown = "; ".join(printable(kind, most=120) for kind in kinds[:3])
    shown += "; and others" * (len(kinds) > 3)
    many = "line by other rules is" if len(others) == 1 else "lines by other rules are"
    return (
        f"{len(others)} {many} not shown ({shown}). Scores by different rules do not compare: "
        "score these files again."
    )


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
            f"{place}. {printable(line.name)}, score {value:.0f} % ({low:.0f}-{high:.0f}), "
            f"clean {clean:.0f} %"
        )
    ax.set_yticks(range(1, len(shown) + 1), [in_figure(line.name) for line in shown])
    ax.set(xlim=(0, 103), ylim=(len(shown) + 0.6, 0.4), xlabel="digits still right (%)")
    rest = left_out(lines)
    more = f"\n{rest.partition(' (')[0]}" if rest else ""
    ax.set_title(in_figure(shown[0].rules) + more, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    words = f"Leaderboard, {printable(shown[0].rules)}: {'; '.join(parts)}."
    return describe(ax, f"{words} {rest}".rstrip())


def table(lines: Sequence[Standing]) -> str:
    """Return the leaderboard as a table in Markdown, each name as plain text.

    Args:
        lines: from `read`.

    Raises:
        ValueError: there are no lines.

    Example:
        >>> print(table([Standing("a|b", Rate(40, 100), Rate(95, 100), "eps 0.25", "ConvNet", 9)]))
        | | name | score (95 % interval) | clean |
        |---|---|---|---|
        | 1 | a&#124;b | 40.0 % (30.9-49.8) | 95.0 % (88.8-97.8) |
    """
    if not lines:
        raise ValueError("lines is empty. Score a model first.")
    rest = left_out(lines)
    return "\n".join(
        ["| | name | score (95 % interval) | clean |", "|---|---|---|---|"]
        + [
            f"| {place} | {in_markdown(line.name)} | {line.score} | {line.clean} |"
            for place, line in enumerate(standing(lines), start=1)
        ]
        + (["", in_markdown(rest)] if rest else [])
    )


def write_picture(path: str | Path, lines: Sequence[Standing]) -> None:
    """Draw the leaderboard into a PNG file. Only a picture that this function made is replaced.

    Args:
        path: of the picture.
        lines: from `read`.

    Raises:
        ValueError: there are no lines.
        FileExistsError: another file is there.
        OSError: it cannot be written.
    """
    from advlearn.plotting import render

    path = Path(path)
    if os.path.lexists(path) and not _is_picture(path):
        raise FileExistsError(
            f"{quote(str(path), 300)} is there already, and is no picture of a leaderboard. Name "
            "another file with --out, or move that one."
        )
    write_atomically(path, render(draw(lines), metadata=dict([_PICTURE])))


def _is_picture(path: Path) -> bool:
    """Tell whether `write_picture` made a file."""
    try:
        with open_plain(path) as file:
            head = file.read(1000)
    except (OSError, ValueError):
        return False
    key, value = _PICTURE
    return head.startswith(b"\x89PNG\r\n\x1a\n") and f"tEXt{key}\0{value}".encode() in head
