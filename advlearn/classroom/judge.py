"""Grade one notebook from outside: its code runs in a process of its own, see `runner`.

A learner may have written an answer several times, under another name, or in a notebook with broken
cells. Each attempt is graded as `Exercise.grade` grades it, and the best one counts. Where there is
nothing to grade, the reason is told.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from advlearn.classroom import wire
from advlearn.classroom.answers import Answers, Piece, plain_python, read
from advlearn.classroom.grade import NO_DEFINITION, Mark
from advlearn.classroom.runner import EndedError, Nursery, Runner
from advlearn.classroom.submissions import Notebook
from advlearn.course.grading import sandbox
from advlearn.course.grading.exercise import TIME_LIMIT, Exercise
from advlearn.course.grading.grader import (
    SLOPE,
    FunctionGrader,
    Grade,
    Outcome,
    inputs_of,
    parameters,
)

_SPARE = 20.0  # seconds beyond what an answer may take, before its process is ended
_TELLING = 4  # statements of a function that two people hardly write alike


class Judge:
    """Grades notebooks with the exercises of this course.

    Args:
        nursery: made before the exercises were loaded.
        timeout: seconds of processor time for the calls of one answer.
    """

    def __init__(self, nursery: Nursery, timeout: float = TIME_LIMIT) -> None:
        self.nursery, self.timeout = nursery, timeout

    def grade(self, notebook: Notebook) -> list[Mark]:
        """Return the grade of each exercise of the notebook's lesson."""
        from advlearn import exercises

        bank = getattr(exercises, f"lesson{notebook.lesson}")
        answers = read(notebook.cells, [one.name for one in bank.EXERCISES])
        sitting = _Sitting(self.nursery, answers)
        try:
            return [self._one(one, answers, sitting, notebook) for one in bank.EXERCISES]
        finally:
            sitting.close()

    def _one(
        self, exercise: Exercise, answers: Answers, sitting: _Sitting, notebook: Notebook
    ) -> Mark:
        best: tuple[tuple[bool, float, int], Grade, _Attempt] | None = None
        attempts = list(_attempts(exercise.name, answers, sitting))
        for number, attempt in enumerate(attempts):
            grade = self._grade(exercise, attempt, sitting)
            attempted = grade.outcome is not Outcome.NOT_ATTEMPTED
            rank = grade.solved, grade.score, number if attempted else -1
            if best is None or rank > best[0]:
                best = rank, grade, attempt
            if grade.outcome is Outcome.RIGHT:
                break
        if best is None:
            return Mark(
                notebook.lesson, exercise.name, Outcome.NOT_ATTEMPTED.name, 0.0, False,
                exercise.task, notebook.path, remark=_missing(exercise.name, answers, notebook),
            )  # fmt: skip
        _, grade, attempt = best
        feedback = grade.feedback + _left_out(grade, answers)
        shape = _shape(attempt.source)
        remark = _copied(exercise, attempt.source, shape) if grade.solved else ""
        return Mark(
            notebook.lesson, exercise.name, grade.outcome.name, grade.score, grade.solved, feedback,
            notebook.path, None if attempt.cell is None else attempt.cell + 1, len(attempts),
            remark, shape,
        )  # fmt: skip

    def _grade(self, exercise: Exercise, attempt: _Attempt, sitting: _Sitting) -> Grade:
        request: dict[str, Any] = dict(attempt.request)
        inputs = [] if exercise.inputs is None else inputs_of(exercise)
        if exercise.inputs is None:
            request |= {"do": "value"}
        else:
            names = list(parameters(exercise.reference))
            request |= {
                "do": "call", "name": exercise.name, "parameters": names, "timeout": self.timeout,
                "slopes": SLOPE in exercise.asks,
            }  # fmt: skip
        seconds = sandbox.PATIENCE * self.timeout + _SPARE
        try:
            calls = wire.unpack(sitting.ask(request, seconds, inputs), inputs or [()])
        except EndedError as error:
            text = f"Your code ended the process that it ran in: {error}."
            return Grade(Outcome.RAISED, 0.0, text, stopped=True)
        except wire.WireError as error:
            return Grade(Outcome.WRONG, 0.0, f"The check could not read your answer: {error}.")
        if exercise.inputs is None:
            return exercise.grade(calls.outputs[0] if calls.outputs else None)
        try:
            with sandbox.preserved_state():
                return FunctionGrader(exercise, calls, self.timeout).grade()
        except Exception as error:  # a result that raises when it is looked at
            name = type(error).__name__
            return Grade(Outcome.WRONG, 0.0, f"The check could not read your answer ({name}).")


@dataclass(frozen=True)
class _Attempt:
    """One definition of an answer."""

    request: dict[str, Any]
    cell: int | None
    source: str


class _Sitting:
    """The process of one notebook, made anew when an answer has ended it."""

    def __init__(self, nursery: Nursery, answers: Answers) -> None:
        self._nursery, self._pieces = nursery, list(answers.pieces)
        self._runner: Runner | None = None
        self.raised: dict[Piece, str] = {}
        self._start()

    def _start(self) -> None:
        """Run the definitions; what ends the process is left out the next time."""
        while True:
            self._runner = self._nursery.runner()
            for piece in list(self._pieces):
                told = {
                    "source": piece.source, "cell": piece.cell, "line": piece.line,
                    "names": piece.names,
                }  # fmt: skip
                try:
                    (words,) = json.loads(
                        self._runner.ask({"do": "define", "pieces": [told]}, 60.0)
                    )
                except (EndedError, ValueError, TypeError) as error:
                    self.raised[piece] = f"it ended the process: {error}"
                    self._pieces.remove(piece)
                    self.close()
                    break
                if words:
                    self.raised[piece] = str(words)
            else:
                return

    def ask(self, request: dict[str, Any], seconds: float, inputs: Sequence[Any]) -> bytes:
        """Send a request to the process."""
        if self._runner is None:
            self._start()
        assert self._runner is not None
        try:
            return self._runner.ask(request, seconds, inputs)
        except EndedError:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._runner is not None:
            self._runner.close()
        self._runner = None

    def made(self, name: str) -> list[Piece]:
        """Return the pieces that have defined a name."""
        return [p for p in self._pieces if name in p.names and p not in self.raised]


def _attempts(name: str, answers: Answers, sitting: _Sitting) -> list[_Attempt]:
    """Return the attempts at an exercise: each definition of its name, and what its check got."""
    names = [name, *(text for text in answers.asked.get(name, []) if text.isidentifier())]
    found, seen = [], set()
    for one in dict.fromkeys(names):
        for number, piece in enumerate(sitting.made(one)):
            if piece.source not in seen:
                seen.add(piece.source)
                found.append(_Attempt({"of": one, "number": number}, piece.cell, piece.source))
    for text in answers.asked.get(name, []):
        if not text.isidentifier() and text not in {"None", "..."}:
            found.append(_Attempt({"expression": text}, None, text))
    return found


def _missing(name: str, answers: Answers, notebook: Notebook) -> str:
    """Say why there is nothing to grade."""
    mentions = re.compile(rf"\b{re.escape(name)}\b")
    for cell, why in answers.broken.items():
        if mentions.search(plain_python(notebook.cells[cell]["source"])):
            return f"cell {cell + 1} cannot be read ({why})"
    if name in answers.left_out:
        return (
            f"cell {answers.left_out[name] + 1} sets {name} by code that is not run when a class "
            "is graded: only imports, definitions and constants are"
        )
    return f"{NO_DEFINITION} {name}"


def _left_out(grade: Grade, answers: Answers) -> str:
    """Say where a name comes from that an answer misses."""
    match = re.search(r"name '(\w+)' is not defined", grade.feedback)
    if grade.outcome is not Outcome.RAISED or not match or match[1] not in answers.left_out:
        return ""
    return (
        f"\n`{match[1]}` is set in cell {answers.left_out[match[1]] + 1} by code that is not run "
        "when a class is graded. A function should get all that it needs as arguments."
    )


# --- Copies ---------------------------------------------------------------------------------------


class _Anonymous(ast.NodeTransformer):
    """Numbers the names of a function in the order in which they appear."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def _name(self, name: str) -> str:
        return self.known.setdefault(name, f"n{len(self.known)}")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._name(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg, node.annotation = self._name(node.arg), None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name, node.returns = "f", None
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        self.generic_visit(node)
        return node


def _shape(source: str) -> str:
    """Return the code of a function without names, comments, annotations and layout."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    statements = sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) - 1
    if statements < _TELLING:
        return ""  # two people may well write it alike
    return ast.dump(_Anonymous().visit(tree))


def _copied(exercise: Exercise, source: str, shape: str) -> str:
    reference = exercise.source()
    if _squeezed(source) == _squeezed(reference) and "#" in reference:
        return "word for word the solution that the course shows"
    if shape and shape == _shape(reference):
        return "the solution that the course shows, but for names and comments"
    if re.search(r"\.(reference|solution|source)\b|advlearn\.course|course\.banks", source):
        return "asks the course for its solution"
    return ""


def _squeezed(source: str) -> str:
    return re.sub(r"\s+", "", source)
