"""How far everybody is, as the saved notebooks report it. Nothing of them is run.

A check prints its outcome under its cell, and a saved notebook keeps it. What a learner typed
there, or changed afterwards, counts as well: this is for looking round, and not for grades.
"""

from __future__ import annotations

import ast
import csv
import functools
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from advlearn._quote import printable
from advlearn.classroom.submissions import Notebook, Submissions, find
from advlearn.course import banks
from advlearn.course.lessons import LESSONS

# The first line that a check prints, such as "✗ Wrong: fgsm_step (71 % of the checks passed)".
_OUTCOME = re.compile(r"^([✓◐✗!○]) ([A-Z][^:\n]{2,40}): (\w+)", re.M)
_WIDEST = 28  # letters of a name in the printed table

Key = tuple[str, str]  # number of the lesson, "03", and name of the exercise


class Reported(NamedTuple):
    """What a notebook says of an exercise."""

    rank: int  # 0: nothing or not attempted, 1: tried, 2: solved
    words: str = "not attempted"


@functools.cache
def exercise_names() -> Mapping[str, tuple[str, ...]]:
    """Return the names of each lesson's exercises, without loading the lesson.

    They are read from the text of the banks: loading them would take longer than all the rest.

    Example:
        >>> exercise_names()["03"][:2]
        ('loss_gradient', 'fgsm_step')
    """
    names: dict[str, tuple[str, ...]] = {}
    for lesson in LESSONS:
        number = f"{lesson.number:02d}"
        path = Path(banks.__path__[0]) / f"lesson{number}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {
            statement.targets[0].id: keyword.value.value
            for statement in tree.body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
            if isinstance(statement.value, ast.Call)
            if getattr(statement.value.func, "id", "") == "Exercise"
            for keyword in statement.value.keywords
            if keyword.arg == "name" and isinstance(keyword.value, ast.Constant)
        }
        names[number] = tuple(str(name) for name in named.values())
    return names


@dataclass(frozen=True)
class Status:
    """What everybody's notebooks report: learner -> exercise -> outcome."""

    learners: tuple[str, ...]
    reported: Mapping[str, Mapping[Key, Reported]]
    blank: Mapping[str, tuple[str, ...]]  # learner -> lessons whose outputs were cleared
    submissions: Submissions

    @property
    def lessons(self) -> list[str]:
        """The lessons that somebody handed in."""
        return sorted({one.lesson for one in self.submissions.notebooks})

    def solved(self, learner: str, lesson: str | None = None) -> int:
        """Return how many exercises a learner's notebooks report as solved."""
        return sum(
            one.rank == 2
            for (number, _), one in self.reported[learner].items()
            if lesson in {None, number}
        )

    def cell(self, learner: str, lesson: str) -> str:
        """Return what the table says: solved of all, "-" without a notebook, "?" if cleared."""
        if lesson in self.blank[learner]:
            return "?"
        if not any(one.lesson == lesson and one.learner == learner for one in self._notebooks):
            return "-"
        return f"{self.solved(learner, lesson)}/{len(exercise_names()[lesson])}"

    @property
    def _notebooks(self) -> list[Notebook]:
        return self.submissions.notebooks

    def __str__(self) -> str:
        lessons = self.lessons
        width = max([len("learner"), *(len(_short(name)) for name in self.learners)])
        lines = [
            f"{'learner':<{width}}  " + "".join(f"{number:>6}" for number in lessons) + "   solved"
        ]
        for learner in self.learners:
            cells = "".join(f"{self.cell(learner, number):>6}" for number in lessons)
            lines.append(f"{_short(learner):<{width}}  {cells}  {self.solved(learner):>7}")
        lines += ["", *self._remarks()]
        return "\n".join(lines)

    def _remarks(self) -> Iterator[str]:
        files = len(self.submissions.notebooks)
        yield (
            f"{len(self.learners)} learners, {files} notebooks. Exercises that are solved, as the "
            "notebooks report it: nothing was run."
        )
        if any(self.blank.values()):
            yield '"?": the notebook has no outputs. Its learner has cleared them, or run nothing.'
        twice: dict[tuple[str, str], list[str]] = defaultdict(list)
        for one in self.submissions.notebooks:
            twice[one.learner, one.lesson].append(one.path)
        for (learner, lesson), paths in sorted(twice.items()):
            if len(paths) > 1:
                yield (
                    f"{printable(learner)}, lesson {lesson}: {len(paths)} files, of which each "
                    f"exercise's best counts: {', '.join(map(printable, paths))}."
                )
        for unread in self.submissions.unread:
            yield f"Not read: {printable(unread.path)}: {unread.reason}."

    def as_csv(self) -> str:
        """Return a line for each learner and exercise that was handed in, as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["learner", "lesson", "exercise", "reported"])
        for learner in self.learners:
            lessons = sorted({one.lesson for one in self._notebooks if one.learner == learner})
            for lesson in lessons:
                for name in exercise_names()[lesson]:
                    one = self.reported[learner].get((lesson, name), Reported(0))
                    words = "no outputs" if lesson in self.blank[learner] else one.words
                    writer.writerow([harmless(learner), lesson, name, words])
        return text.getvalue()


def status(folder: Path) -> Status:
    """Read what the notebooks in a folder report, and run nothing.

    Args:
        folder: as for `advlearn.classroom.submissions.find`.

    Raises:
        FileNotFoundError: it is not there.
    """
    found = find(folder)
    reported: dict[str, dict[Key, Reported]] = {name: {} for name in found.learners}
    cleared: dict[str, dict[str, bool]] = {name: {} for name in found.learners}
    for one in found.notebooks:
        was_run = any(cell.get("was run") or cell.get("printed") for cell in one.cells)
        cleared[one.learner][one.lesson] = cleared[one.learner].get(one.lesson, True) and (
            not was_run
        )
        best = reported[one.learner]
        for name, said in reports(one):
            key = one.lesson, name
            best[key] = max(best.get(key, Reported(0)), said, key=lambda other: other.rank)
    blank = {
        learner: tuple(lesson for lesson, is_blank in lessons.items() if is_blank)
        for learner, lessons in cleared.items()
    }
    return Status(tuple(found.learners), reported, blank, found)


def reports(notebook: Notebook) -> Iterator[tuple[str, Reported]]:
    """Yield the exercises of which a notebook's outputs tell an outcome."""
    known = exercise_names()[notebook.lesson]
    for cell in notebook.cells:
        printed = cell.get("printed", "")
        for symbol, words, name in _OUTCOME.findall(printed):
            if name in known:
                # A right result with something to tidy counts as solved where the task did not ask
                # for it: then no hint is offered.
                tidy = 1 if f"ex.{name}.hint()" in printed else 2
                rank = {"✓": 2, "◐": tidy, "○": 0}.get(symbol, 1)
                yield name, Reported(rank, words.lower().removesuffix(" yet"))


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _WIDEST else shown[: _WIDEST - 1] + "…"


def harmless(name: str) -> str:
    """Return a name that no table program takes for a formula.

    Example:
        >>> harmless("=1+1"), harmless("Kim")
        ("'=1+1", 'Kim')
    """
    return f"'{name}" if name[:1] in tuple("=+-@\t\r") else name
