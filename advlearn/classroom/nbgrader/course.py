"""Write the lessons as a course for nbgrader: its settings, its README and `source/`.

An exercise becomes two cells: one to write in, whose solution nbgrader takes out for the learners,
and one that is graded. After that is taken out the first is the lesson's own cell again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advlearn._atomic import write_atomically
from advlearn._bounded import parse_json, read_plain
from advlearn._quote import quote
from advlearn.classroom.grade import RULES
from advlearn.classroom.nbgrader.cell import ENDING, TEXT
from advlearn.classroom.submissions import text_of
from advlearn.course import copies
from advlearn.course.grading import Exercise
from advlearn.course.lessons import LESSONS, Lesson

STUB = "...  # your code"
"""What stands in place of a solution, in the lessons and in what nbgrader releases."""

SCHEMA = 3  # of nbgrader's metadata; 0.6 and later read it
_HERE = Path(__file__).resolve().parent
_MOST_BYTES = 5_000_000
_BADGE = re.compile(r"^\[!\[Open in Colab\].*\n\n?", re.M)
_LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb([)#])")


def write(
    out: Path,
    *,
    rule: str = "right",
    lessons: Sequence[str] = (),
    notebooks: Path | None = None,
) -> list[Path]:
    """Write the course into a folder, and return the files that are new.

    Files that are there already with the same content stay. So a lesson can be added later.

    Args:
        out: the folder of the course; made if it is not there.
        rule: how an exercise gives points, a key of `RULES`.
        lessons: the numbers of those that are wanted, "03"; all by default.
        notebooks: the folder of the lessons; those of the course by default.

    Raises:
        ValueError: an argument is wrong, a lesson does not hold its exercises, or a file is there
            with another content. Nothing is written then.
        OSError: a lesson cannot be read, or a file not be written.
    """
    if rule not in RULES:
        raise ValueError(f"--points {quote(rule)} is not known. Give one of {', '.join(RULES)}.")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is not a folder. Name a folder for the course.")
    known = {f"{lesson.number:02d}": lesson for lesson in LESSONS}
    wrong = [one for one in lessons if one not in known]
    if wrong:
        raise ValueError(
            f"there is no lesson {quote(wrong[0])}. Lessons are {min(known)} to {max(known)}."
        )
    source = copies.places()[0] if notebooks is None else notebooks
    words = {"points": rule, "in words": RULES[rule]}
    pages = {
        "nbgrader_config.py": _filled("nbgrader_config.txt", words),
        "README.md": _filled("README.txt", words),
    }
    for number in sorted(set(lessons) or known):
        lesson = known[number]
        path = Path("source") / lesson.name / lesson.file
        pages[path.as_posix()] = _text(assignment(_read(source / lesson.file), lesson, rule))
    return _write(out, pages)


def _filled(name: str, words: dict[str, str]) -> str:
    text = (_HERE / name).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace("{{" + word + "}}", value)
    return text


def _write(out: Path, pages: dict[str, str]) -> list[Path]:
    new = {}
    for name, text in pages.items():
        path = out / name
        if not path.exists():
            new[path] = text
        elif not path.is_file() or read_plain(path, _MOST_BYTES) != text.encode():
            raise ValueError(
                f"{path} is there already, with another content. Nothing was written. Name another "
                "folder, or move that file elsewhere."
            )
    for path, text in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    return list(new)


# --- One lesson -----------------------------------------------------------------------------------


def assignment(notebook: dict[str, Any], lesson: Lesson, rule: str) -> dict[str, Any]:
    """Return a lesson with its solutions and its graded cells.

    Args:
        notebook: the lesson as it is published, as JSON.
        lesson: which one.
        rule: a key of `RULES`.

    Raises:
        ValueError: an exercise has no empty cell, or more than one.
    """
    from advlearn import exercises

    number = f"{lesson.number:02d}"
    bank = getattr(exercises, f"lesson{number}")
    waiting: dict[str, Exercise] = {exercise.name: exercise for exercise in bank.EXERCISES}
    cells: list[dict[str, Any]] = []
    for cell in notebook["cells"]:
        text = text_of(cell["source"])
        if cell["cell_type"] == "markdown":
            cells.append(_cell(cell, _prose(text)))
            continue
        name = next((name for name in waiting if f"ex.{name}.check({name})" in text), None)
        solved = None if name is None else with_solution(text, waiting[name])
        if name is None or solved is None:
            cells.append(_cell(cell, text))
            continue
        del waiting[name]
        cells.append(_cell(cell, solved, _metadata(name, solution=True)))
        graded = TEXT.format(lesson=number, name=name, rule=rule)
        new = {"cell_type": "code", "id": f"{name}{ENDING}"}
        cells.append(_cell(new, graded, _metadata(f"{name}{ENDING}", solution=False)))
    if waiting:
        raise ValueError(
            f"{lesson.file} has no empty cell for {', '.join(waiting)}. Take the lesson as it is "
            "published."
        )
    return {**notebook, "cells": cells, "nbformat": 4, "nbformat_minor": 5}


def with_solution(cell: str, exercise: Exercise) -> str | None:
    """Return an exercise's cell with the course's solution between nbgrader's marks.

    None, where the cell is not the empty one.
    """
    name = re.escape(exercise.name)
    stub = re.compile(
        rf"\A(?P<head>def {name}\(.*\):\n)    \.\.\.  # your code(?:: (?P<hint>.*))?\n"
        rf"(?P<rest>\n*ex\.{name}\.check\({name}\)\s*)\Z"
    )
    match = stub.match(cell)
    if match is None:
        return None
    _, _, body = exercise.source().partition("\n")
    hint = f"    # {match['hint']}\n" if match["hint"] else ""
    marked = f"    ### BEGIN SOLUTION\n{body.rstrip()}\n    ### END SOLUTION\n"
    return f"{match['head']}{hint}{marked}{match['rest']}"


def _prose(text: str) -> str:
    """Return Markdown for a lesson in a folder of its own: no badge, links to its neighbours."""
    return _LINK.sub(r"](../\1/\1.ipynb\2", _BADGE.sub("", text))


def _metadata(grade_id: str, *, solution: bool) -> dict[str, Any]:
    about = {
        "schema_version": SCHEMA, "grade_id": grade_id, "grade": not solution,
        "solution": solution, "locked": not solution, "task": False,
    }  # fmt: skip
    return {"nbgrader": about if solution else {**about, "points": 1}}


def _cell(
    cell: dict[str, Any], source: str, metadata: dict[str, Any] | None = None
) -> dict[str, Any]:
    kept = {**cell, "source": source.splitlines(keepends=True)}
    kept["metadata"] = {**cell.get("metadata", {}), **(metadata or {})}
    if cell["cell_type"] == "code":
        kept |= {"outputs": [], "execution_count": None}
    return kept


def _read(path: Path) -> dict[str, Any]:
    try:
        notebook = parse_json(read_plain(path, _MOST_BYTES))
        cells = notebook["cells"]
        if not all(isinstance(cell["cell_type"], str) and "source" in cell for cell in cells):
            raise ValueError("it has no cells")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there. Name the folder of the lessons.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or is no notebook ({quote(str(error))}).") from error
    return dict(notebook)


def _text(notebook: dict[str, Any]) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
