"""What a graded cell of the nbgrader course calls, and how such a cell is read."""

from __future__ import annotations

import ast
import os
from typing import NamedTuple

ENDING = "-points"
"""What the id of a graded cell adds to the exercise's name."""

TEXT = """\
# nbgrader grades the answer above by this cell. Leave it as it is.
from advlearn.classroom.nbgrader import points

points({lesson!r}, {name!r}, globals().get({name!r}), rule={rule!r})"""


class NoPointsError(Exception):
    """How a graded cell tells nbgrader that there are no points."""

    def _render_traceback_(self) -> list[str]:
        """Return what Jupyter shows: the message, without the course's own lines above it."""
        return [str(self)]


def points(lesson: str, name: str, answer: object, rule: str = "right") -> float:
    """Grade an answer, and return its share of the exercise's points, a plain float in [0, 1].

    nbgrader reads the points from what the last line of a cell shows. It gives all of them where a
    cell shows nothing, or no number. So no points are an error, when nbgrader grades or validates;
    for a learner who runs the whole notebook they are the number 0.0.

    Args:
        lesson: its number, "03".
        name: of the exercise.
        answer: the learner's function or value; None where there is none.
        rule: a key of `advlearn.classroom.grade.RULES`.

    Raises:
        NoPointsError: nbgrader runs the cell, and there are no points.

    Example:
        >>> points("03", "fgsm_step", lambda x, g, eps: (x + eps * g.sign()).clamp(0, 1))
        fgsm_step: right
        1.0
        >>> points("03", "fgsm_step", lambda x, g, eps: x + eps * g.sign(), rule="half")
        fgsm_step: wrong
        0.5
    """
    from advlearn import exercises
    from advlearn.classroom.grade import RULES, Mark

    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}. Give one of {', '.join(RULES)}.")
    exercise = getattr(getattr(exercises, f"lesson{lesson}"), name)
    grade = exercise.grade(answer)
    mark = Mark(lesson, name, grade.outcome.name, grade.score, grade.solved, grade.feedback, "")
    share = float(mark.points(rule) or 0.0)
    text = f"{name}: {grade.outcome.value}"
    if share == 0 and os.environ.get("NBGRADER_EXECUTION"):
        raise NoPointsError(f"{text}\n{grade.feedback}")
    print(text)
    return share


class Asked(NamedTuple):
    """What a graded cell asks for."""

    lesson: str
    name: str
    rule: str


def asked(source: str) -> Asked | None:
    """Return what a graded cell of this course asks for; None for any other cell.

    Example:
        >>> asked(TEXT.format(lesson="03", name="fgsm_step", rule="half"))
        Asked(lesson='03', name='fgsm_step', rule='half')
        >>> asked("assert fgsm_step") is None
        True
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    call = body[-1].value if body and isinstance(body[-1], ast.Expr) else None
    if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "points":
        return None
    given = [one.value for one in call.args[:2] if isinstance(one, ast.Constant)]
    rules = [
        one.value.value
        for one in call.keywords
        if one.arg == "rule" and isinstance(one.value, ast.Constant)
    ]
    if len(given) != 2 or not all(isinstance(one, str) for one in (*given, *rules)):
        return None
    lesson, name = (str(one) for one in given)
    return Asked(lesson, name, str(rules[0]) if rules else "right")
