"""The learner's progress through the whole course: as text, and as a map in a notebook."""

from __future__ import annotations

import html
import importlib
from collections.abc import Mapping
from typing import NamedTuple

from advlearn.course import banks, record
from advlearn.course.grading.exercise import Exercise, in_words
from advlearn.course.lessons import LESSONS, Lesson

# The colours are those of `advlearn.plotting`; each square has its sign too.
_SOLVED, _TRIED, _NEW = ("✓", "#0072B2", "#fff"), ("◐", "#E69F00", "#000"), ("", "transparent", "")


class Step(NamedTuple):
    """An exercise, its place in the lesson, and what is remembered of it."""

    lesson: Lesson
    number: int
    exercise: Exercise
    entry: record.Entry


class Progress:
    """What is solved and what is next; a notebook shows it as a map, `print` as a table."""

    def __init__(self, known: Mapping[record.Key, record.Entry]) -> None:
        self.steps = [
            Step(lesson, number, exercise, known.get((exercise.lesson, exercise.name), _NOTHING))
            for lesson in LESSONS
            for number, exercise in enumerate(_exercises(lesson), start=1)
        ]
        self.where = record.where()

    @property
    def solved(self) -> int:
        """The number of exercises that are solved."""
        return sum(step.entry.solved for step in self.steps)

    @property
    def next(self) -> Step | None:
        """The exercise to go on with: the first open one from the latest lesson that was begun.

        None when all are solved.
        """
        begun = max((s.lesson.number for s in self.steps if s.entry.tries), default=0)
        left = [step for step in self.steps if not step.entry.solved]
        onward = [step for step in left if step.lesson.number >= begun]
        return next(iter(onward or left), None)

    def of(self, lesson: Lesson) -> list[Step]:
        """Return the steps of one lesson."""
        return [step for step in self.steps if step.lesson == lesson]

    def advice(self) -> str:
        """Return a sentence on what to do next."""
        step = self.next
        if step is None:
            return "Every exercise is solved."
        tried = f" So far: {in_words(step.entry)}." if step.entry.tries else ""
        return (
            f"Next: lesson {step.lesson.number}, exercise {step.number}, "
            f"{step.exercise.title} (about {step.exercise.minutes} minutes).{tried}"
        )

    def __str__(self) -> str:
        width = max(len(lesson.title) for lesson in LESSONS)
        rows = [f"    {'Lesson':<{width}}  Solved"]
        for lesson in LESSONS:
            steps = self.of(lesson)
            done = sum(step.entry.solved for step in steps)
            count = f"{done} of {len(steps)}"
            rows.append(f"{lesson.number:>2}  {lesson.title:<{width}}  {count}")
        rows.append(f"    {'All lessons':<{width}}  {self.solved} of {len(self.steps)}")
        return "\n".join([*rows, "", self.advice()])

    __repr__ = __str__

    @property
    def _begun(self) -> bool:
        return any(step.entry.tries for step in self.steps)

    def _repr_html_(self) -> str:
        rows = "".join(map(self._row, LESSONS))
        below = [self.advice(), *([self.where] if self._begun else [])]
        words = "".join(f"<p style='margin:.4em 0'>{html.escape(text)}</p>" for text in below)
        caption = f"{self.solved} of {len(self.steps)} exercises solved"
        return (
            "<table style='border-collapse:collapse;font-size:inherit'>"
            "<caption style='text-align:left;font-weight:bold;color:inherit'>"
            f"{caption}</caption><tbody>{rows}</tbody></table>"
            f"{words}"
        )

    def _row(self, lesson: Lesson) -> str:
        steps = self.of(lesson)
        squares = "".join(map(_square, steps))
        count = f"{sum(step.entry.solved for step in steps)} of {len(steps)}"
        cell = "style='text-align:left;padding:2px 8px 2px 0;white-space:"
        return (
            f"<tr><th scope='row' {cell}normal;font-weight:normal'>{lesson.number} · "
            f"{html.escape(lesson.title)}</th><td {cell}nowrap'>{squares}</td>"
            f"<td {cell}nowrap'>{count}</td></tr>"
        )


_NOTHING = record.Entry()
_SQUARE = (
    "display:inline-block;width:1.3em;height:1.3em;margin-right:3px;border:1px solid;"
    "border-radius:3px;text-align:center;line-height:1.3;vertical-align:middle"
)


def _exercises(lesson: Lesson) -> tuple[Exercise, ...]:
    bank = importlib.import_module(f"{banks.__name__}.lesson{lesson.number:02d}")
    exercises: tuple[Exercise, ...] = bank.EXERCISES
    return exercises


def _square(step: Step) -> str:
    """Return one exercise of the map: a square with a sign in it, its words in the title."""
    sign, ground, ink = _NEW
    if step.entry.tries:
        sign, ground, ink = _SOLVED if step.entry.solved else _TRIED
    said = html.escape(f"{step.number}: {step.exercise.title}, {in_words(step.entry)}", quote=True)
    style = f"{_SQUARE};background:{ground};color:{ink or 'inherit'}"
    return f"<span title='{said}' style='{style}'>{sign}</span>"


def progress_map() -> Progress:
    """Return the learner's progress: in a notebook, a map of the lessons and their exercises.

    Each square is an exercise: solved, tried, or new.

    Example:
        >>> course = progress_map()
        >>> course.solved <= len(course.steps)
        True
    """
    return Progress(record.remembered())
