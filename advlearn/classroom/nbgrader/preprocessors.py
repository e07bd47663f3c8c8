"""What the course's settings hand to nbgrader 0.9, to keep it from a wrong or a lost grade.

nbgrader works on a notebook in steps. `sanitizing` and `grading` give its own steps with ours among
them. A step is a function (notebook, resources) -> (notebook, resources), so that this module can
be loaded, and tested, where nbgrader is not installed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from advlearn.classroom.grade import Mark
from advlearn.classroom.nbgrader.cell import asked
from advlearn.classroom.nbgrader.outside import GradingError, Outside
from advlearn.course.lessons import LESSONS

Step: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]

WAYS = ("outside", "kernel")
"""Who grades: the course's own process, or the kernel in which the whole notebook is run."""

_NUMBER = re.compile(
    r"(?:(?:np|numpy)\.\w+|tensor|array)\("
    r"\s*(-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(?:,[^()]*)?\)",
    re.I,
)


def sanitizing() -> list[Any]:
    """Return nbgrader's steps before a notebook is graded, beginning with ours."""
    from nbgrader.converters import Autograde

    return [put_back, *Autograde.sanitize_preprocessors.default_args[0]]


def grading(way: str) -> list[Any]:
    """Return nbgrader's steps that grade, with ours in place of running the notebook.

    Args:
        way: one of `WAYS`.

    Raises:
        ValueError: there is no such way.
    """
    from nbgrader.converters import Autograde
    from nbgrader.preprocessors import Execute

    if way not in WAYS:
        raise ValueError(f"GRADE is {way!r}. Give one of {', '.join(WAYS)}.")
    ours: list[Any] = [by_the_course] if way == "outside" else [surviving(Execute), settle]
    steps: list[Any] = []
    for step in Autograde.autograde_preprocessors.default_args[0]:
        steps += ours if step is Execute else [step]
    return steps


# --- Missing cells --------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """A cell of the released notebook that nbgrader knows by its id."""

    grade_id: str
    source: str
    points: float | None  # of a graded cell
    solution: bool


def put_back(notebook: Any, resources: Any) -> tuple[Any, Any]:
    """Give cells back what nbgrader knows them by, and put back graded cells that are missing.

    Programs that do not know nbgrader drop its metadata, and learners delete and copy cells. By
    itself nbgrader gives no points for a graded cell that is not there, and can put one back only
    where the cell before it is.
    """
    from nbgrader.api import Gradebook

    about = resources["nbgrader"]
    with Gradebook(about["db_url"]) as book:
        known = book.find_notebook(about["notebook"], about["assignment"])
        graded = {cell.name: float(cell.max_score) for cell in known.grade_cells}
        solutions = {cell.name for cell in known.solution_cells}
        wanted = [
            Wanted(cell.name, cell.source, graded.get(cell.name), cell.name in solutions)
            for cell in known.source_cells
            if cell.cell_type == "code"
        ]
    mend(notebook, wanted)
    return notebook, resources


def mend(notebook: Any, wanted: Sequence[Wanted]) -> None:
    """Do the work of `put_back`, in place.

    Args:
        notebook: with `cells`, each with `cell_type`, `source` and `metadata`.
        wanted: in the order of the released notebook.
    """
    from nbformat.v4 import new_code_cell

    ids = {one.grade_id for one in wanted}
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader")
        # Damaged, or of another course: nbgrader would stop at it.
        if about is not None and (not isinstance(about, dict) or about.get("grade_id") not in ids):
            del cell.metadata["nbgrader"]
    place: int | None = None  # after the cell before, where that is the answer
    for one in wanted:
        found = _find(notebook.cells, one)
        if found is not None and notebook.cells[found].cell_type != "code":
            del notebook.cells[found]  # it was made text: what was graded in it is lost anyway
            found, place = None, found
        if found is None and one.points is not None:
            # At the end every answer is there, wherever the learner has put it.
            found = len(notebook.cells) if place is None else place
            notebook.cells.insert(found, new_code_cell(one.source))
        if found is not None:
            for cell in notebook.cells:  # of copies one keeps the id: at a second nbgrader stops
                if cell.metadata.get("nbgrader", {}).get("grade_id") == one.grade_id:
                    del cell.metadata["nbgrader"]
            notebook.cells[found].metadata["nbgrader"] = _about(one)
        place = found + 1 if found is not None and one.solution else None
    _number_anew(notebook.cells)


def _find(cells: Sequence[Any], one: Wanted) -> int | None:
    """Return the place of a cell: of several the last, as nbgrader takes them."""
    marked = [
        number
        for number, cell in enumerate(cells)
        if cell.metadata.get("nbgrader", {}).get("grade_id") == one.grade_id
    ]
    first = _first_line(one.source)
    alike = [
        number
        for number, cell in enumerate(cells)
        if "nbgrader" not in cell.metadata
        if (
            cell.source.strip() == one.source.strip()
            if one.points is not None
            else bool(first) and first in map(str.rstrip, cell.source.splitlines())
        )
    ]
    return max(marked or alike, default=None)


def _first_line(source: str) -> str:
    return next((line.rstrip() for line in source.splitlines() if line.strip()), "")


def _about(one: Wanted) -> dict[str, Any]:
    about = {
        "schema_version": 3, "grade_id": one.grade_id, "grade": one.points is not None,
        "solution": one.solution, "locked": not one.solution, "task": False, "cell_type": "code",
    }  # fmt: skip
    return about if one.points is None else {**about, "points": one.points}


def _number_anew(cells: Iterable[Any]) -> None:
    """Give a cell that was copied with its id another one: nbformat asks that they differ."""
    seen: set[str] = set()
    for cell in cells:
        name = cell.get("id")
        number = 2
        while name is not None and cell["id"] in seen:
            cell["id"] = f"{name[:56]}-{number}"
            number += 1
        if name is not None:
            seen.add(cell["id"])


# --- Graded outside -------------------------------------------------------------------------------


@functools.cache
def _outside() -> Outside:
    return Outside()


def by_the_course(notebook: Any, resources: Any) -> tuple[Any, Any]:
    """Grade a notebook as `advlearn class grade` does: nothing of it is run in its kernel.

    Raises:
        GradingError: it cannot be graded. nbgrader tells it, and gives nothing.
    """
    about = resources["nbgrader"]
    lesson = next((f"{one.number:02d}" for one in LESSONS if one.name == about["notebook"]), None)
    if lesson is None:
        raise GradingError(f"{about['notebook']} is no lesson of the course. {_OTHER_WAY}")
    graded = [cell for cell in notebook.cells if _is_graded(cell)]
    foreign = [cell for cell in graded if asked(cell.source) is None]
    if foreign:
        name = foreign[0].metadata["nbgrader"].get("grade_id")
        raise GradingError(f"the graded cell {name} is not the course's own. {_OTHER_WAY}")
    cells = [{"cell_type": one.cell_type, "source": one.source} for one in notebook.cells]
    marks = {mark.exercise: mark for mark in _outside().grade(lesson, cells)}
    for cell in graded:
        wanted = asked(cell.source)
        assert wanted is not None
        show(cell, marks[wanted.name], wanted.rule)
    return notebook, resources


_OTHER_WAY = 'Set GRADE = "kernel" in nbgrader_config.py: then nbgrader runs it'


def show(cell: Any, mark: Mark, rule: str) -> None:
    """Put a grade into a graded cell, in the form that nbgrader reads.

    Raises:
        GradingError: the exercise could not be graded.
    """
    share = mark.points(rule)
    if share is None:
        raise GradingError(f"{mark.exercise} could not be graded: {mark.remark}")
    lines = [f"{mark.exercise}: {mark.outcome.replace('_', ' ').lower()}", mark.feedback]
    lines += [f"Remark: {mark.remark}"] if mark.remark else []
    give(cell, share, "\n".join(line for line in lines if line))


def give(cell: Any, share: float, words: str) -> None:
    """Write a share of a cell's points into its outputs.

    nbgrader takes the number that a cell shows, a result that is no number as all points, and an
    error as none. So no points are an error, which nothing mistakes for anything else.
    """
    from nbformat.v4 import new_output

    if share > 0:
        most = float(cell.metadata["nbgrader"]["points"])
        said = [new_output("stream", name="stdout", text=words + "\n")] if words else []
        cell.outputs = [
            *said,
            new_output("execute_result", data={"text/plain": repr(most * share)}),
        ]
    else:
        cell.outputs = [
            new_output("error", ename="NoPoints", evalue="no points", traceback=[words])
        ]


def _is_graded(cell: Any) -> bool:
    about = cell.metadata.get("nbgrader", {})
    return bool(cell.cell_type == "code" and about.get("grade") and not about.get("solution"))


# --- Graded in the kernel -------------------------------------------------------------------------


def surviving(execute: Any) -> Any:
    """Return nbgrader's step that runs a notebook, made so that it outlives the kernel.

    Where a cell ends the kernel, nbgrader gives the whole notebook no grade. Here the cell is noted
    as an error, and the notebook is run again without it.

    Args:
        execute: `nbgrader.preprocessors.Execute`.
    """
    from nbclient.exceptions import DeadKernelError
    from nbformat.v4 import new_output

    def preprocess(self: Any, notebook: Any, resources: Any, *rest: Any) -> tuple[Any, Any]:
        self.fatal = set()
        while True:
            self.at = None
            try:
                result: tuple[Any, Any] = execute.preprocess(self, notebook, resources, *rest)
            except DeadKernelError:
                if self.at is None or self.at in self.fatal:
                    raise
                self.log.warning("The kernel ended at cell %d: run again without it", self.at)
                self.fatal.add(self.at)
            else:
                return result

    def preprocess_cell(self: Any, cell: Any, resources: Any, index: int) -> tuple[Any, Any]:
        self.at = index
        if index not in self.fatal:
            done: tuple[Any, Any] = execute.preprocess_cell(self, cell, resources, index)
            return done
        words = "This cell ended the kernel. The rest was run without it."
        cell.outputs = [new_output("error", ename="DeadKernel", evalue=words, traceback=[words])]
        return cell, resources

    space = {"preprocess": preprocess, "preprocess_cell": preprocess_cell}
    return type("Execute", (execute,), space)


def settle(notebook: Any, resources: Any) -> tuple[Any, Any]:
    """Make of what graded cells show what nbgrader reads.

    The course's own cells show a share of their points. Anything else there is no grade. In others,
    NumPy's and PyTorch's numbers become plain ones, and True and False all points and none:
    nbgrader takes every result that is no plain number for all points.
    """
    for cell in notebook.cells:
        if not _is_graded(cell) or any(one.output_type == "error" for one in cell.outputs):
            continue
        results = [
            str(one["data"].get("text/plain", ""))
            for one in cell.outputs
            if one.output_type == "execute_result"
        ]
        said = "".join(
            one.text for one in cell.outputs if one.output_type == "stream" and one.name == "stdout"
        )
        if asked(cell.source) is not None:
            share = _as_number(results[0]) if results else None
            if share is None or not 0 <= share <= 1:
                give(cell, 0.0, f"{said}The cell shows no share of its points, so it gives none.")
            else:
                give(cell, share, said.rstrip("\n"))
        elif results:
            _plain(cell, results[0])
    return notebook, resources


def _as_number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text.strip())
    try:
        return float(match[1] if match else text)
    except ValueError:
        return None


def _plain(cell: Any, text: str) -> None:
    """Make a result of a teacher's own graded cell a plain number, where it stands for one."""
    from nbformat.v4 import new_output

    most = float(cell.metadata["nbgrader"]["points"])
    stands_for = {"True": most, "False": 0.0}
    value = stands_for.get(text.strip(), _as_number(text))
    if value is None or value > most:
        return  # as nbgrader does
    if value > 0:
        for one in cell.outputs:
            if one.output_type == "execute_result":
                one["data"]["text/plain"] = repr(value)
    else:
        words = f"The cell shows {text}: no points."
        error = new_output("error", ename="NoPoints", evalue="no points", traceback=[words])
        cell.outputs = [one for one in cell.outputs if one.output_type != "execute_result"]
        cell.outputs.append(error)
