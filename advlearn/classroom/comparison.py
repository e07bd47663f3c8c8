"""Compare the entrance test with the exit test: for each misconception, before and after.

Two CSV files come in, from whatever tool has asked: one row for a learner, one column for an item.
What goes out names nobody. A class is small, so each number comes with its interval.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advlearn._atomic import write_atomically
from advlearn._bounded import read_plain
from advlearn._quote import listed, printable, quote
from advlearn.classroom.concepts import CONCEPTS, FORMS, LETTERS, UNSURE, Concept, shows_belief
from advlearn.classroom.framing import framed
from advlearn.metrics import Rate

MOST_BYTES = 5_000_000
FEWEST = 5  # learners of whom single results are given out: of fewer, they can be guessed
_Z = 1.959964  # of the 95 % interval
_NUMBERED = re.compile(
    r"^\W*(?:q|question|item|response|answer|antwort|frage|문항|문제)?\W*0*(\d{1,2})(?!\d)", re.I
)
_WHO = re.compile(
    r"^\W*(?:your )?(?:code|learner|student|participant|user ?name|e-?mail|name|id|이름|학번)\b",
    re.I,
)
_LETTER = re.compile(rf"^\(?([{LETTERS}{UNSURE}])(?:[).:,]|\s|$)", re.I)


@dataclass(frozen=True)
class Answers:
    """What a class has answered.

    Attributes:
        letters: learner -> a letter for each item; "" where nothing was chosen, "?" where it cannot
            be read.
        told: what a teacher should know of the file, one sentence each.
    """

    letters: Mapping[str, str | tuple[str, ...]]
    told: tuple[str, ...]


def read(path: Path, form: str, *, learner: str | None = None) -> Answers:
    """Return the answers of a class.

    The columns of the items begin with their numbers ("1", "Q1", "1. The score …"), or hold the
    text of the question. A cell holds the letter, or the text of the answer. Fields are parted by
    commas, semicolons or tabs.

    Args:
        path: a CSV file, in UTF-8.
        form: "entrance" or "exit".
        learner: the head of the column that says whose row it is; None finds it.

    Raises:
        ValueError: it is no such table; the message says what is missing.
        OSError: it cannot be read.
    """
    rows = _table(path)
    heads = [" ".join(cell.split()) for cell in rows[0]]
    who = _learner_column(heads, learner, path)
    columns = _item_columns(heads, form, path)
    letters: dict[str, tuple[str, ...]] = {}
    told, unread, nameless = [], [], 0
    for number, row in enumerate(rows[1:], 2):
        cells = [*row, *[""] * (len(heads) - len(row))]
        name = _same(cells[who])
        if not any(cell.strip() for cell in cells):
            continue
        if not name:
            nameless += 1
            continue
        if name in letters:
            told.append(f"A learner answered twice: line {number} counts, the last one.")
        found = tuple(
            _letter(cells[column], one, form) for column, one in zip(columns, CONCEPTS, strict=True)
        )
        unread += [
            f"line {number}, item {item}: {quote(cells[columns[item - 1]], 40)}"
            for item, letter in enumerate(found, 1)
            if letter == "?"
        ]
        letters[name] = found
    if nameless:
        told.append(f"{nameless} rows say not whose they are, and are left out.")
    if unread:
        told.append(
            f"{len(unread)} answers cannot be read and are left out ({listed(unread, 3)}). Write a "
            f"letter from {LETTERS[0]} to {UNSURE}."
        )
    if not letters:
        raise ValueError(f"{quote(str(path), 300)} has no row with a learner and answers.")
    return Answers(letters, tuple(f"{form.capitalize()}: {one}" for one in told))


def _table(path: Path) -> list[list[str]]:
    content = read_plain(path, MOST_BYTES, "Keep one row for each learner.")
    name = quote(str(path), 300)
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not in UTF-8. Save it as “CSV UTF-8”.") from error
    try:
        # Questions hold commas and semicolons of their own: what parts the heads, parts the file.
        delimiter = max(
            ",;\t",
            key=lambda one: _asked(
                next(csv.reader(io.StringIO(text, newline=""), delimiter=one), [])
            ),
        )
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(f"{name} is no CSV file: {printable(error)}.") from error
    if len(rows) < 2:
        raise ValueError(f"{name} has no rows below its heads.")
    return rows


def _asked(heads: Sequence[str]) -> int:
    """Return how many heads of columns are those of an item."""
    stems = {_same(one.item(form).text) for one in CONCEPTS for form in FORMS}
    return sum(bool(_NUMBERED.match(head)) or _same(head) in stems for head in heads)


def _learner_column(heads: Sequence[str], wanted: str | None, path: Path) -> int:
    if wanted is not None:
        if wanted not in heads:
            raise ValueError(
                f"learner = {quote(wanted)} is no column of {quote(str(path), 300)}. Its columns "
                f"are {listed(heads)}."
            )
        return heads.index(wanted)
    found = [number for number, head in enumerate(heads) if _WHO.match(head)]
    # A code of the learner's own is what the sheets ask for: it comes before names and addresses.
    codes = [number for number in found if re.search(r"\bcode\b", heads[number], re.I)]
    if not found:
        raise ValueError(
            f"{quote(str(path), 300)} does not say whose a row is. Its columns are "
            f"{listed(heads)}. Name one with --learner."
        )
    return (codes or found)[0]


def _item_columns(heads: Sequence[str], form: str, path: Path) -> list[int]:
    found: dict[int, int] = {}
    stems = {_same(one.item(form).text): number for number, one in enumerate(CONCEPTS, 1)}
    others = {_same(one.item(other).text) for one in CONCEPTS for other in FORMS if other != form}
    for column, head in enumerate(heads):
        said = _same(head)
        if any(stem in said for stem in others):
            raise ValueError(
                f"{quote(str(path), 300)} holds questions of the other test, such as "
                f"{quote(head, 60)}. The first file is the entrance test, the second the exit test."
            )
        number = next((n for stem, n in stems.items() if stem in said), 0)
        if not number and (match := _NUMBERED.match(head)):
            number = int(match[1])
        if 1 <= number <= len(CONCEPTS):
            if number in found:
                raise ValueError(
                    f"{quote(str(path), 300)} has two columns for item {number}: "
                    f"{quote(heads[found[number]])} and {quote(head)}. Take one out."
                )
            found[number] = column
    missing = [str(n) for n in range(1, len(CONCEPTS) + 1) if n not in found]
    if missing:
        raise ValueError(
            f"{quote(str(path), 300)} has no column for item {', '.join(missing)}. Begin the heads "
            f"of the items with their numbers. Its columns are {listed(heads)}."
        )
    return [found[number] for number in range(1, len(CONCEPTS) + 1)]


def _same(text: str) -> str:
    """Return a text as one compares it: composed, without case, outer and double spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _letter(cell: str, concept: Concept, form: str) -> str:
    said = _same(cell)
    if not said:
        return ""
    for letter, choice in zip(LETTERS, concept.item(form).choices, strict=True):
        if said.rstrip(".") == _same(choice.text).rstrip("."):
            return letter
    if said.rstrip(".") in {"i do not know", "i don't know", "i don’t know"}:
        return UNSURE
    match = _LETTER.match(cell.strip())
    return match[1].upper() if match else "?"


# --- Numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One misconception, before and after, of the learners who answered its item both times.

    Attributes:
        concept: the misconception.
        total: learners.
        right: how many were right, before and after.
        belief: how many chose an answer that shows the belief, before and after.
        gained, lost: learners who became right, and who no longer are.
    """

    concept: Concept
    total: int
    right: tuple[int, int]
    belief: tuple[int, int]
    gained: int
    lost: int

    @property
    def difference(self) -> float:
        """The share of right answers after, less that before; NaN without learners."""
        return (self.gained - self.lost) / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval of the difference; see `paired_interval`."""
        return paired_interval(self.gained, self.lost, self.total)


def paired_interval(gained: int, lost: int, total: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval for a difference of two shares of the same people.

    With one person added to those who gained and to those who lost (Bonett and Price 2012),
    b = gained + 1, c = lost + 1 and n = total + 2, it is (b - c)/n ± z sqrt(b + c - (b - c)²/n)/n,
    cut to [-1, 1]. Unlike the interval without them it holds its 95 % for classes of five, and has
    a width where nobody changed.

    Example:
        >>> [round(end, 2) for end in paired_interval(6, 1, 12)]
        [-0.02, 0.73]
        >>> paired_interval(0, 0, 0)
        (-1.0, 1.0)
    """
    if not total:
        return -1.0, 1.0
    b, c, n = gained + 1, lost + 1, total + 2
    centre, half = (b - c) / n, _Z * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return max(-1.0, centre - half), min(1.0, centre + half)


def normalised_gain(
    before: Sequence[float], after: Sequence[float]
) -> tuple[float, tuple[float, float] | None]:
    """Return the class's normalised gain (Hake 1998), and its 95 % interval by Fieller.

    g = (mean after - mean before) / (1 - mean before): of what there was to learn, the share that
    was learned. The interval is that of a ratio of two means of the same learners, with Student's
    t. It is None where the data do not bound it: fewer than three learners, or hardly anything that
    could be learned.

    Args:
        before, after: the share of right answers of each learner, in the same order.

    Example:
        >>> gain, interval = normalised_gain([0.25, 0.5, 0.5, 0.25], [0.75, 0.75, 1.0, 0.5])
        >>> round(gain, 2), [round(end, 2) for end in interval]
        (0.6, [0.22, 1.0])
    """
    from scipy.stats import t

    count = len(before)
    left = [1 - share for share in before]
    gains = [b - a for a, b in zip(before, after, strict=True)]
    if not count or not sum(left):
        return math.nan, None
    top, bottom = sum(gains) / count, sum(left) / count
    if count < 3:
        return top / bottom, None

    def covariance(u: Sequence[float], v: Sequence[float]) -> float:
        means = sum(u) / count, sum(v) / count
        terms = ((a - means[0]) * (b - means[1]) for a, b in zip(u, v, strict=True))
        return sum(terms) / (count - 1) / count  # of the means

    squared = float(t.ppf(0.975, count - 1)) ** 2
    a = bottom**2 - squared * covariance(left, left)
    b = top * bottom - squared * covariance(gains, left)
    c = top**2 - squared * covariance(gains, gains)
    if a <= 0:
        return top / bottom, None
    root = math.sqrt(max(0.0, b * b - a * c))
    return top / bottom, ((b - root) / a, min(1.0, (b + root) / a))


@dataclass(frozen=True)
class Comparison:
    """A class before and after.

    Attributes:
        changes: one for each misconception, in the order of the tests.
        scores: the shares of right answers of each learner, before and after, sorted: nobody's
            place is known.
        only_before, only_after: learners who answered one of the tests only.
        told: what a teacher should know of the files.
    """

    changes: tuple[Change, ...]
    scores: tuple[tuple[float, float], ...]
    only_before: int
    only_after: int
    told: tuple[str, ...]


def compare(before: Answers, after: Answers) -> Comparison:
    """Return what has changed, of the learners who answered both tests.

    Raises:
        ValueError: nobody answered both.
    """
    both = [name for name in before.letters if name in after.letters]
    if not both:
        raise ValueError(
            "nobody is in both files: no code stands in the one and in the other. Was the same "
            "column of names or codes read? --learner names it."
        )
    changes = []
    for number, concept in enumerate(CONCEPTS):
        pairs = [(before.letters[name][number], after.letters[name][number]) for name in both]
        pairs = [pair for pair in pairs if "?" not in pair]
        judged = [
            tuple(
                _is(letter, concept, form, "right")
                for letter, form in zip(pair, FORMS, strict=True)
            )
            for pair in pairs
        ]
        held = [
            tuple(
                _is(letter, concept, form, "belief")
                for letter, form in zip(pair, FORMS, strict=True)
            )
            for pair in pairs
        ]
        changes.append(
            Change(
                concept,
                len(pairs),
                (sum(one[0] for one in judged), sum(one[1] for one in judged)),
                (sum(one[0] for one in held), sum(one[1] for one in held)),
                sum(not a and b for a, b in judged),
                sum(a and not b for a, b in judged),
            )
        )
    scores = sorted(_shares(before.letters[name], after.letters[name]) for name in both)
    return Comparison(
        tuple(changes),
        tuple(scores),
        len(before.letters) - len(both),
        len(after.letters) - len(both),
        before.told + after.told,
    )


def _is(letter: str, concept: Concept, form: str, what: str) -> bool:
    if letter not in LETTERS or not letter:
        return False
    choice = concept.item(form).choices[LETTERS.index(letter)]
    return choice.right if what == "right" else shows_belief(choice)


def _shares(first: Sequence[str], second: Sequence[str]) -> tuple[float, float]:
    """Return the shares of right answers, of the items that could be read both times."""
    pairs = [
        (_is(a, concept, FORMS[0], "right"), _is(b, concept, FORMS[1], "right"))
        for a, b, concept in zip(first, second, CONCEPTS, strict=True)
        if "?" not in (a, b)
    ]
    count = len(pairs) or 1
    return sum(a for a, _ in pairs) / count, sum(b for _, b in pairs) / count


# --- What the teacher gets ------------------------------------------------------------------------


def write(found: Comparison, out: Path) -> list[Path]:
    """Write the page and the tables into a folder, and return the files.

    `learners.csv` is written only for a class of `FEWEST` or more, and holds no names.
    """
    pages = {"comparison.html": page(found), "misconceptions.csv": as_csv(found)}
    if len(found.scores) >= FEWEST:
        lines = ["learner,right before (of 1),right after (of 1)"]
        lines += [f"{n},{a:.3f},{b:.3f}" for n, (a, b) in enumerate(found.scores, 1)]
        pages["learners.csv"] = "\n".join(lines) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        write_atomically(out / name, text)
    return [out / name for name in pages]


def as_csv(found: Comparison) -> str:
    """Return a line for each misconception."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["item", "misconception", "learners", "right before", "right after", "became right",
         "no longer right", "change", "low", "high", "belief before", "belief after"]
    )  # fmt: skip
    for number, one in enumerate(found.changes, 1):
        numbers = [one.difference, *one.interval] if one.total else []
        writer.writerow(
            [number, one.concept.name, one.total, *one.right, one.gained, one.lost]
            + ([f"{value:.3f}" for value in numbers] or [""] * 3)
            + [*one.belief]
        )
    return text.getvalue()


def summary(found: Comparison) -> str:
    """Return the whole in a few sentences."""
    before, after = ([pair[k] for pair in found.scores] for k in (0, 1))
    count = len(found.scores)
    gain, interval = normalised_gain(before, after)
    said = [
        f"{count} learner{'s' * (count != 1)} answered both tests. On average "
        f"{12 * sum(before) / count:.1f} of 12 answers were right before, and "
        f"{12 * sum(after) / count:.1f} after."
    ]
    if math.isnan(gain):
        said.append("Everything was right before: there was nothing to gain.")
    elif interval is None:
        said.append(
            f"Normalised gain {gain:.2f}; so few learners, or so little to gain, bound it not."
        )
    else:
        said.append(
            f"Normalised gain {gain:.2f} (95 % interval {interval[0]:.2f} to {interval[1]:.2f})."
        )
    alone = [
        f"{number} answered the {form} test only"
        for number, form in ((found.only_before, "entrance"), (found.only_after, "exit"))
        if number
    ]
    if alone:
        said.append(f"{' and '.join(alone)}: not counted.")
    return " ".join(said)


def chart(found: Comparison) -> tuple[bytes, str]:
    """Return the share of right answers before and after for each item, as PNG, and its words."""
    import matplotlib.pyplot as plt

    from advlearn import plotting

    figure, ax = plt.subplots(figsize=(8.2, 0.42 * len(found.changes) + 1.3), layout="constrained")
    said: list[str] = []
    for place, one in enumerate(found.changes):
        if not one.total:
            continue
        first, last = (100 * count / one.total for count in one.right)
        ax.plot([first, last], [place, place], color=plotting.BLACK, linewidth=1.5, zorder=1)
        ax.plot(first, place, "o", markersize=9, markerfacecolor="white", zorder=2,
                markeredgecolor=plotting.BLACK, label="before" if not said else None)  # fmt: skip
        ax.plot(last, place, "D", markersize=8, color=plotting.BLUE, zorder=3,
                label="after" if not said else None)  # fmt: skip
        said.append(f"{one.concept.name} {first:.0f} % before, {last:.0f} % after")
    names = [f"{number} {one.concept.name}" for number, one in enumerate(found.changes, 1)]
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(-3, 103), xlabel="learners with the right answer (%)")
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return plotting.render(figure), "Right answers: " + "; ".join(said) + "."


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { border-bottom: 1px solid #999; padding: .3rem .7rem;
text-align: left; vertical-align: top; } td.n, th.n { text-align: right; white-space: nowrap; }
img { max-width: 100%; background: #fff; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee; } }
"""


def page(found: Comparison) -> str:
    """Return the comparison as a page: a picture, a table, and how far it can be trusted."""
    picture, alt = chart(found)
    data = base64.b64encode(picture).decode()
    rows = []
    for number, one in enumerate(found.changes, 1):
        lessons = ", ".join(map(str, one.concept.lessons))
        low, high = one.interval
        change = (
            f"{100 * one.difference:+.0f} ({100 * low:+.0f} to {100 * high:+.0f})"
            if one.total
            else ""
        )
        clear = " ✓" if one.total and low > 0 else " ✗" if one.total and high < 0 else ""
        rows.append(
            f'<tr><td class="n">{number}</td><td>{html.escape(one.concept.name)}<br><small>“'
            f"{html.escape(one.concept.belief)}” Lessons {lessons}.</small></td>"
            f'<td class="n">{one.right[0]} → {one.right[1]} of {one.total}</td>'
            f'<td class="n">{change}{clear}</td>'
            f'<td class="n">{one.belief[0]} → {one.belief[1]}</td></tr>'
        )
    told = "".join(f"<li>{html.escape(printable(one, 500))}</li>" for one in found.told)
    again = sorted(
        (one for one in found.changes if one.total), key=lambda one: one.right[1] / one.total
    )[:3]
    worst = "; ".join(
        f"{html.escape(one.concept.name)} ({Rate(one.right[1], one.total)} right)" for one in again
    )
    small = (
        f"<p><strong>Fewer than {FEWEST} learners: keep this page to yourself. Single answers can "
        "be guessed from it.</strong></p>"
        if len(found.scores) < FEWEST
        else ""
    )
    body = (
        f"<h1>Before and after</h1><p>{html.escape(summary(found))}</p>{small}\n"
        f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">\n'
        f"<p>To teach again, the fewest right answers after the course: {worst}.</p>\n"
        '<table><tr><th class="n"></th><th>misconception</th><th class="n">right</th>'
        '<th class="n">change, points of 100</th><th class="n">chose the belief</th></tr>\n'
        + "\n".join(rows)
        + "</table>\n<h2>How to read it</h2><ul>"
        "<li>In brackets: the 95 % interval of the change. ✓ and ✗ mark those that leave 0 out. In "
        "nearly half of all classes in which nothing has changed, one of the twelve does so by "
        "chance.</li>"
        "<li>The two items of a misconception are parallel, and were not measured to be equally "
        "hard. A small change may be theirs.</li>"
        "<li>There is no group that was not taught. Who answers the same kind of test twice may do "
        "better for that alone.</li>"
        "<li>“I do not know” and an empty answer count as not right, and as no belief.</li>"
        f"{told}</ul>"
    )
    return framed("Before and after", _STYLE, [body])
