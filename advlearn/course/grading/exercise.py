"""An exercise as the learner meets it: check, hint, solution, progress."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from advlearn.course import record
from advlearn.course.grading import evidence, names, sandbox, sealed
from advlearn.course.grading.calling import call
from advlearn.course.grading.evidence import Args
from advlearn.course.grading.grader import (
    SLOPE,
    FunctionGrader,
    Grade,
    Outcome,
    inputs_of,
    parameters,
)
from advlearn.course.grading.misconceptions import Misconception

TIME_LIMIT = 5.0  # seconds for one check, all inputs together
WIDTH = 88

Property: TypeAlias = Callable[[Args, Any], "str | None"]


def rule(complaint: str) -> Callable[[Callable[[Args, Any], object]], Property]:
    """Make a property of a condition that right results meet, with what to say where one does not.

    Example:
        >>> @rule("A share lies in [0, 1].")
        ... def in_range(args, output):
        ...     return 0 <= output <= 1
        >>> in_range((), 0.5), in_range((), 50)
        (None, 'A share lies in [0, 1].')
    """

    def make(condition: Callable[[Args, Any], object]) -> Property:
        @functools.wraps(condition)
        def checked(args: Args, output: Any) -> str | None:
            return None if condition(args, output) else complaint

        return checked

    return make


_HINTS_SHOWN: dict[tuple[str, str], int] = {}  # in this session


@dataclass(frozen=True, eq=False, repr=False)
class Exercise:
    """One exercise and the bank that checks it.

    Attributes:
        name: Name of the function that the learner writes.
        lesson: Number of the lesson, "03".
        title: A few words.
        task: What to do, with shapes, in one or two sentences.
        difficulty: 1 (warm-up) to 3 (hard).
        minutes: Time that it should take.
        reference: A right function, shown by `solution()`; or, where the answer is a plain
            value, that value: a number or a text.
        right_answers: Other right answers.
        wrong_answers: Misconceptions, each with its own feedback.
        hints: From a nudge to nearly the answer.
        inputs: Makes the argument tuples from a seeded generator; the first one small.
        properties: Functions (args, output) -> feedback or None, asked when no misconception fits.
            The output comes in the form of the reference's: its dtype, or a Python float.
        asks: What the task asks for beside right values, as kinds of `evidence.Untidy`: "detached",
            "model" (its `.grad` stays as it was), "dtype" (that of the reference), "slope" (that of
            the reference: a loss that somebody follows), "tensor" (no NumPy array). A right result
            without it does not count as solved. If no dtype is asked for, the values alone decide:
            float64, float32, and 0 and 1 as integers or booleans.
        without: Names that the task rules out, such as "sign". A right answer that has one in its
            code does not count as solved.
        takeaway: Shown after a right answer.
        rtol: Relative tolerance of the comparison.
        atol: Absolute tolerance of the comparison.

    Example:
        >>> half = Exercise(
        ...     name="half", lesson="00", title="One half", task="Give one half as a number.",
        ...     difficulty=1, minutes=1, reference=0.5,
        ...     wrong_answers=(Misconception("percent", 50, "Give a fraction, not a percentage."),),
        ... )
        >>> half.grade(1 / 2).outcome
        <Outcome.RIGHT: 'right'>
        >>> half.check(50)
        ✗ Wrong: half (0 % of the checks passed)
          Give a fraction, not a percentage.
          Stuck? ex.half.hint() gives a hint.
    """

    name: str
    lesson: str
    title: str
    task: str
    difficulty: int
    minutes: int
    reference: Any
    right_answers: tuple[Any, ...] = ()
    wrong_answers: tuple[Misconception, ...] = ()
    hints: tuple[str, ...] = ()
    inputs: Callable[[torch.Generator], Sequence[Args]] | None = None
    properties: tuple[Property, ...] = ()
    asks: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    takeaway: str = ""
    rtol: float = 1e-4
    atol: float = 1e-6

    def __str__(self) -> str:
        head = f"{self.title}: {self._call()}"
        return "\n".join(
            [
                head,
                *_wrap(self.task),
                f"  Difficulty {self.difficulty} of 3, about {self.minutes} minutes.",
            ]
        )

    __repr__ = __str__

    def check(self, answer: object = None, *, timeout: float = TIME_LIMIT) -> None:
        """Grade `answer` and print the result, and remember the best one, see `progress`.

        Nothing that the answer does is raised here. Only the learner's own Ctrl-C is.
        """
        grade = self.grade(answer, timeout=timeout)
        report = self._report(grade)
        if grade.outcome is not Outcome.NOT_ATTEMPTED:
            entry = record.Entry(grade.outcome.name, grade.solved, grade.score, tries=1)
            for sentence in record.note(self.lesson, self.name, entry):
                report += _wrap(sentence)
        _say("\n".join(report))

    def grade(self, answer: object, *, timeout: float = TIME_LIMIT) -> Grade:
        """Grade `answer`: printing nothing, the same result each time.

        Args:
            answer: The learner's function or value.
            timeout: Seconds of processor time granted to all calls of the function together, see
                `sandbox.run`.

        Returns:
            Outcome, score and feedback.
        """
        if answer is None or answer is ...:
            return Grade(Outcome.NOT_ATTEMPTED, 0.0, self.task)
        if issubclass(type(answer), sealed.Recorded):  # its own __class__ may lie, or raise
            return Grade(Outcome.WRONG, 0.0, sealed.NOT_YOURS)
        try:
            if self.inputs is None:
                return self._grade_value(answer)
            with names.genuine_names(), sandbox.preserved_state():
                calls = call(
                    answer,
                    self.name,
                    parameters(self.reference),
                    inputs_of(self),
                    timeout,
                    slopes=SLOPE in self.asks,
                )
                return FunctionGrader(self, calls, timeout).grade()
        except Exception as error:  # an object that raises when it is looked at
            name = type(error).__name__
            return Grade(Outcome.WRONG, 0.0, f"The check could not read your answer ({name}).")

    def hint(self) -> None:
        """Print the next hint."""
        key = self.lesson, self.name
        shown = _HINTS_SHOWN.get(key, 0)
        if shown >= len(self.hints):
            way = f"{self._label()}.solution() shows one way to do it."
            if isinstance(self.reference, sealed.Recorded):
                way = "Ask your teacher, or somebody who has solved it."
            _say(f"There are no more hints. {way}")
            return
        _HINTS_SHOWN[key] = shown + 1
        number = f"Hint {shown + 1} of {len(self.hints)}: "
        _say(textwrap.fill(number + self.hints[shown], WIDTH))

    def solution(self) -> None:
        """Print the reference, or say that it is not in this edition."""
        if isinstance(self.reference, sealed.Recorded):
            _say(f"{sealed.CLOSED} Ask your teacher.")
            return
        _say(f"One solution of {self.name}; yours may differ:\n\n{self.source()}")

    def source(self) -> str:
        """Return the reference as the learner would write it.

        Raises:
            ValueError: it is not in this edition of the course.
        """
        if isinstance(self.reference, sealed.Recorded):
            raise ValueError(sealed.CLOSED)
        if self.inputs is None:
            return f"{self.name} = {self.reference!r}"
        text = textwrap.dedent(inspect.getsource(self.reference)).rstrip()
        # The learner's own name, and no annotations: the shapes stand in the comments.
        return re.sub(r"\Adef .*?:\n", f"def {self._call()}:\n", text, count=1, flags=re.DOTALL)

    def _grade_value(self, answer: object) -> Grade:
        if self._same_value(answer, self.reference):
            return Grade(Outcome.RIGHT, 1.0, self.takeaway)
        for wrong in self.wrong_answers:
            if self._same_value(answer, wrong.answer):
                return Grade(Outcome.WRONG, 0.0, wrong.feedback)
        if isinstance(self.reference, str):
            kind = "a text in quotes" if not isinstance(answer, str) else ""
        else:
            number = evidence.read(answer, self.reference)
            kind = "a number" if isinstance(number, str) else ""
        text = f"Your answer should be {kind}." if kind else f"{evidence.show(answer)} is not it."
        return Grade(Outcome.WRONG, 0.0, text)

    def _same_value(self, answer: object, value: object) -> bool:
        if isinstance(value, str):
            return isinstance(answer, str) and answer.strip().casefold() == value.casefold()
        a, b = evidence.read(answer, self.reference), evidence.read(value, self.reference)
        return evidence.agree(a, b, self.rtol, self.atol)

    def _call(self) -> str:
        return f"{self.name}({', '.join(parameters(self.reference))})" if self.inputs else self.name

    def _label(self) -> str:
        return f"ex.{self.name}"

    def _report(self, grade: Grade) -> list[str]:
        symbol, word = grade.outcome.symbol, grade.outcome.value.capitalize()
        lines = [f"{symbol} {word}: {self.name}"]
        if grade.outcome is Outcome.NOT_ATTEMPTED:
            lines[0] = f"{symbol} {word} yet: {self._call()}"
        if grade.stopped:
            lines[0] = f"{symbol} Your code was stopped: {self.name}"
        if grade.outcome is Outcome.WRONG:
            lines[0] += f" ({int(100 * grade.score)} % of the checks passed)"
        lines += _wrap(grade.feedback)
        if grade.printed:
            lines += ["  Your code printed:", *_clip(grade.printed)]
        if not grade.solved:
            lines.append(f"  Stuck? {self._label()}.hint() gives a hint.")
        return lines


def progress(exercises: Sequence[Exercise]) -> None:
    """Print a table of the exercises with the best outcome of each, in this session or before.

    Under it stands where that is kept, as soon as there is anything.
    """
    width = max(len(e.name) for e in exercises)
    rows = [f"  {'Exercise':<{width}}  Difficulty  Minutes  Tries  Outcome"]
    known = record.remembered()
    entries = [known.get((e.lesson, e.name), record.Entry()) for e in exercises]
    for e, entry in zip(exercises, entries, strict=True):
        rows.append(
            f"  {e.name:<{width}}  {f'{e.difficulty} of 3':<10}  {e.minutes:>7}  "
            f"{entry.tries:>5}  {in_words(entry)}"
        )
    solved = sum(entry.solved for entry in entries)
    rows.insert(0, f"{solved} of {len(exercises)} exercises right")
    if any(entry.tries for entry in entries):
        rows.append(record.where())
    _say("\n".join(rows))


def in_words(entry: record.Entry) -> str:
    """Return the symbol and the words of a remembered outcome.

    Example:
        >>> in_words(record.Entry("RIGHT", solved=True, score=1.0, tries=1))
        '✓ right'
        >>> in_words(record.Entry("OF_A_NEWER_VERSION", solved=False, score=0.5, tries=1))
        '○ of a newer version'
    """
    if entry.best in Outcome.__members__:
        outcome = Outcome[entry.best]
        return f"{outcome.symbol} {outcome.value}"
    return f"{'✓' if entry.solved else '○'} {entry.best.replace('_', ' ').lower()}"


def forget() -> None:
    """Forget the hints of this session, and its outcomes that are in no file."""
    _HINTS_SHOWN.clear()
    record.forget_session()


def _wrap(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    "):  # an example, laid out already
            lines += textwrap.wrap(line, WIDTH, subsequent_indent=" " * 15) or [""]
        else:
            lines += textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return lines


def _clip(printed: str, most: int = 8) -> list[str]:
    lines = printed.rstrip("\n").splitlines()
    shown = ["    | " + textwrap.shorten(line, WIDTH - 8) for line in lines[:most]]
    return shown + (["    | ... and more"] if len(lines) > most else [])


def _say(text: str) -> None:
    """Print, also where the console knows no symbols."""
    try:
        print(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "replace").decode(encoding))
