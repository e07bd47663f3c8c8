"""What learners hand in, and the points that a person would give: lesson 03, five exercises.

Each kind is handed in by a learner of its name. `EXPECTED` says what comes of it in both ways of
the course's settings. The rule is "half": 1 for a solved exercise, 1/2 for an attempt that is not
right.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

from advlearn.classroom.nbgrader.cell import ENDING
from advlearn.exercises import lesson03

NAME = "fgsm_step"  # where kinds differ; the four others are right
SIGNATURE = "def fgsm_step(x, gradient, eps):\n"
WRONG = SIGNATURE + "    return x - eps * gradient.sign()\n"
CHECK = "\nex.fgsm_step.check(fgsm_step)"
RIGHT = {one.name: one.source() for one in lesson03.EXERCISES}


class Kind(NamedTuple):
    """How a learner changes the released notebook, with the right answers in it."""

    change: Callable[[dict[str, Any]], object]
    fair: float  # points that a person would give
    words: str  # for the table


def solved(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a released notebook with all answers right."""
    done = copy.deepcopy(notebook)
    for name, answer in RIGHT.items():
        cell(done, name)["source"] = f"{answer}\n\nex.{name}.check({name})"
    return done


def cell(notebook: dict[str, Any], grade_id: str) -> dict[str, Any]:
    """Return the cell of an id."""
    return next(
        one for one in notebook["cells"]
        if one["metadata"].get("nbgrader", {}).get("grade_id") == grade_id
    )  # fmt: skip


def write(source: str) -> Callable[[dict[str, Any]], object]:
    """Write another answer to the one exercise."""
    return lambda notebook: cell(notebook, NAME).update(source=source)


def body(*lines: str) -> Callable[[dict[str, Any]], object]:
    return write(SIGNATURE + "".join(f"    {line}\n" for line in lines) + CHECK)


def delete(*grade_ids: str) -> Callable[[dict[str, Any]], object]:
    def change(notebook: dict[str, Any]) -> None:
        gone = [cell(notebook, grade_id) for grade_id in grade_ids]
        notebook["cells"] = [one for one in notebook["cells"] if one not in gone]

    return change


def lose_metadata(notebook: dict[str, Any]) -> None:
    for one in notebook["cells"]:
        one["metadata"] = {}


def copy_below(notebook: dict[str, Any]) -> None:
    """Copy the empty cell, solve the upper one, leave the lower one as it was."""
    own = cell(notebook, NAME)
    lower = copy.deepcopy(own) | {"source": f"{SIGNATURE}    ...  # your code\n{CHECK}"}
    notebook["cells"].insert(notebook["cells"].index(own) + 1, lower)


def copy_graded(notebook: dict[str, Any]) -> None:
    own = cell(notebook, NAME + ENDING)
    notebook["cells"].insert(notebook["cells"].index(own) + 1, copy.deepcopy(own))


def add(source: str, place: int = 0) -> Callable[[dict[str, Any]], object]:
    new = {"cell_type": "code", "id": "own", "metadata": {}, "outputs": [],
           "execution_count": None, "source": source}  # fmt: skip
    return lambda notebook: notebook["cells"].insert(place, dict(new))


def edit_graded(notebook: dict[str, Any]) -> None:
    cell(notebook, NAME + ENDING)["source"] = "1.0"
    write(WRONG + CHECK)(notebook)


def as_markdown(notebook: dict[str, Any]) -> None:
    one = cell(notebook, NAME + ENDING)
    one.update(cell_type="markdown")
    one.pop("outputs")
    one.pop("execution_count")


KINDS: dict[str, Kind] = {
    "right": Kind(lambda _: None, 5, "every answer is right"),
    "wrong": Kind(write(WRONG + CHECK), 4.5, "one answer is wrong"),
    "empty": Kind(body("...  # your code"), 4, "one is not attempted"),
    "raises": Kind(body("return x.sgin()"), 4.5, "one raises an error"),
    "no-number": Kind(body("return 'words'"), 4.5, "one returns no number"),
    "prints": Kind(
        body("print('x' * 100)", "return (x + eps * gradient.sign()).clamp(0, 1)"), 5,
        "one prints",
    ),
    "warns": Kind(add("import sys\nprint('careful', file=sys.stderr)"), 5, "a cell warns"),
    "endless": Kind(body("while True:", "    pass"), 4.5, "one never ends"),
    "ends": Kind(body("import os", "os._exit(0)"), 4.5, "one ends the process"),
    "broken": Kind(write(SIGNATURE.replace("):", ":")), 4, "the code of one is broken"),
    "graded-cell-deleted": Kind(delete(NAME + ENDING), 5, "a graded cell is deleted"),
    "both-deleted": Kind(
        delete(NAME, NAME + ENDING), 4, "an answer and its graded cell are deleted"
    ),
    "graded-cell-edited": Kind(edit_graded, 4.5, "a graded cell is changed to `1.0`"),
    "graded-cell-as-text": Kind(as_markdown, 5, "a graded cell became text"),
    "copied": Kind(copy_below, 5, "the empty cell was copied, and the upper one solved"),
    "graded-cell-copied": Kind(copy_graded, 5, "a graded cell was copied"),
    "metadata-lost": Kind(lose_metadata, 5, "saved by a program that drops metadata"),
    "renamed": Kind(lambda _: None, 5, "the file is renamed: `(1)`"),
    "unimportant-error": Kind(add("1 / 0", 3), 5, "a cell of the learner's own raises"),
    "no-echo": Kind(
        lambda notebook: (
            add("get_ipython().ast_node_interactivity = 'none'", 3)(notebook),
            write(WRONG + CHECK)(notebook),
        ),
        4.5, "results are not shown any more",
    ),
    "rounded": Kind(
        lambda notebook: (add("%precision 0", 3)(notebook), write(WRONG + CHECK)(notebook)),
        4.5, "numbers are shown without decimals",
    ),
    "asks": Kind(
        body("return ex.fgsm_step.reference(x, gradient, eps)"), 4.5,
        "one asks the course for its solution",
    ),
}  # fmt: skip
"""Learner -> what is handed in."""

EXPECTED: dict[str, dict[str, float]] = {
    learner: dict.fromkeys(("outside", "kernel"), kind.fair) for learner, kind in KINDS.items()
}
"""Learner -> who grades -> points. In the kernel some kinds get others than a person gives."""

EXPECTED["ends"]["kernel"] = 4  # its cell is left out, and with it the attempt
EXPECTED["copied"]["kernel"] = 4  # the last definition counts
EXPECTED["rounded"]["kernel"] = 4  # it shows 0
EXPECTED["no-echo"]["kernel"] = 0  # no cell shows anything
EXPECTED["asks"]["kernel"] = 5  # the course is there
