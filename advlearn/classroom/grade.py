"""Grade a class: every notebook in a process of its own, several at a time, stopped and resumed.

What is graded is kept at once, under a hash of the answers and of the checks. So a run that was
stopped goes on where it was, a notebook that was handed in again is graded again, and a grade never
comes from other checks than today's. Nobody is left out: each learner has a grade or a reason.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from advlearn._atomic import write_atomically
from advlearn._bounded import parse_json, read_plain
from advlearn._quote import printable
from advlearn.classroom.station import ENDED, TRIES
from advlearn.classroom.status import exercise_names
from advlearn.classroom.submissions import Notebook, Submissions, Unread, find
from advlearn.course.grading.exercise import TIME_LIMIT

RULES: Mapping[str, str] = {
    "right": "1 for a solved exercise, 0 for any other",
    "half": "1 for a solved exercise, 1/2 for an attempt that is not right, 0 for none",
    "score": "the share of the checks that the answer passes; many wrong answers pass some",
}
"""Name of a rule -> how it gives points for an exercise."""

_MOST_BYTES = 20_000_000
NO_DEFINITION = "the notebook has no definition of"
"""How a remark begins where nobody has written an answer."""

_UNGRADED = "UNGRADED"
Key = tuple[str, str]  # number of the lesson, and name of the exercise


@dataclass(frozen=True)
class Mark:
    """The grade of one learner in one exercise.

    Attributes:
        lesson, exercise: which.
        outcome: the name of an `Outcome`, or "UNGRADED" if it could not be told; never a silent 0.
        score, solved, feedback: see `advlearn.course.grading.grader.Grade`.
        path: of the notebook that counts.
        cell: of the attempt that counts, from 1; None without one.
        attempts: how many there were.
        remark: what the teacher should know.
        shape: the code without its names.
    """

    lesson: str
    exercise: str
    outcome: str
    score: float
    solved: bool
    feedback: str
    path: str
    cell: int | None = None
    attempts: int = 0
    remark: str = ""
    shape: str = ""

    def points(self, rule: str) -> float | None:
        """Return the points by a rule of `RULES`; None where nothing could be graded.

        Example:
            >>> Mark("03", "fgsm_step", "WRONG", 0.75, False, "", "x.ipynb").points("half")
            0.5
        """
        if self.outcome == _UNGRADED:
            return None
        if rule == "score":
            return self.score
        attempted = self.outcome != "NOT_ATTEMPTED"
        return 1.0 if self.solved else 0.5 if rule == "half" and attempted else 0.0


@dataclass
class Grades:
    """Everybody's grades.

    Attributes:
        marks: learner -> exercise -> grade.
        unread: files that could not be taken.
        isolation: what this system allowed to keep from the learners' code.
    """

    marks: dict[str, dict[Key, Mark]] = field(default_factory=dict)
    unread: list[Unread] = field(default_factory=list)
    isolation: dict[str, bool] = field(default_factory=dict)

    @property
    def lessons(self) -> list[str]:
        """The lessons that somebody handed in."""
        return sorted({lesson for marks in self.marks.values() for lesson, _ in marks})

    def of(self, learner: str, lesson: str) -> list[Mark]:
        """Return a learner's grades in a lesson, in its order; empty without a notebook."""
        marks = self.marks[learner]
        return [marks[lesson, name] for name in exercise_names()[lesson] if (lesson, name) in marks]


class Store:
    """Grades that are kept, one file for each notebook, under a hash of all that decides it."""

    def __init__(self, folder: Path, timeout: float) -> None:
        self.folder, self._checks = folder, f"{checks_hash()} {timeout}"
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, notebook: Notebook) -> Path:
        """Return where a notebook's grades are kept."""
        decides = [notebook.lesson, *(
            [cell["cell_type"], cell["source"]] for cell in notebook.cells
        )]  # fmt: skip
        text = json.dumps([self._checks, decides]).encode()
        return self.folder / f"{hashlib.sha256(text).hexdigest()[:32]}.json"

    def read(self, notebook: Notebook) -> dict[str, Any] | None:
        """Return the grades of a notebook, or None if they are not there, or not whole."""
        try:
            held = parse_json(read_plain(self.path(notebook), _MOST_BYTES))
        except (OSError, ValueError):
            return None
        whole = isinstance(held, dict) and isinstance(held.get("results"), list)
        return held if whole else None

    def write(
        self, notebook: Notebook, results: Sequence[Mark], isolation: Mapping[str, bool]
    ) -> None:
        """Keep the grades of a notebook."""
        held = {"results": [asdict(one) for one in results], "isolation": dict(isolation)}
        write_atomically(self.path(notebook), json.dumps(held))


def checks_hash() -> str:
    """Return a hash of the code that decides a grade: banks, engine and grader."""
    course = Path(__file__).resolve().parent.parent
    parts = [course / "course" / "banks", course / "course" / "grading", course / "classroom"]
    digest = hashlib.sha256()
    for path in sorted(path for part in parts for path in part.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def grade_class(
    folder: Path,
    store: Path,
    *,
    workers: int | None = None,
    timeout: float = TIME_LIMIT,
    step: Callable[[int, int], object] = lambda *_: None,
    scheduler: str | None = None,
    allow_network: bool = False,
) -> Grades:
    """Grade every notebook in a folder.

    Args:
        folder: as for `advlearn.classroom.submissions.find`.
        store: a folder for what is graded; a later run takes up what is there.
        workers: how many notebooks at a time; the number of processors by default.
        timeout: seconds of processor time for the calls of one answer.
        step: is told how many notebooks are done, and of how many.
        scheduler: the address of a Dask scheduler, whose workers grade instead of this machine.
        allow_network, and what a cluster may raise: see `advlearn.classroom.cluster.grade`.

    Raises:
        FileNotFoundError: the folder is not there.
        RuntimeError: the system cannot fork processes, as on Windows; or this process has loaded
            exercises, so that a learner's process would hold our solutions.
    """
    if scheduler is None and not hasattr(os, "fork"):
        raise RuntimeError(
            "grading a class needs a system that forks processes: Linux, macOS, or on Windows the "
            "Linux in it (WSL)."
        )
    found = find(folder, outputs=False)
    if scheduler is None and exercises_are_loaded():
        raise RuntimeError(
            "exercises are loaded in this process, and learners' code would be run beside our "
            "solutions. Grade in a new process, before `advlearn.exercises` is imported, or with "
            "`advlearn class grade`."
        )
    kept = Store(store, timeout)
    left = [one for one in found.notebooks if kept.read(one) is None]
    total = len(found.notebooks)
    step(total - len(left), total)
    count = workers or os.cpu_count() or 1

    def tell(rest: int) -> None:
        step(total - rest, total)

    if scheduler is None:
        failures = _work(left, kept, timeout, count, tell)
    elif left:
        from advlearn.classroom import cluster

        failures = cluster.grade(
            left, kept.write, scheduler, timeout=timeout, step=tell, allow_network=allow_network
        )
    else:
        failures = {}
    return _together(found, kept, failures)


def exercises_are_loaded() -> bool:
    """Say whether this process holds our solutions."""
    return any(name.startswith("advlearn.course.banks.lesson") for name in sys.modules)


# --- Workers --------------------------------------------------------------------------------------


def _work(
    notebooks: Sequence[Notebook],
    store: Store,
    timeout: float,
    workers: int,
    step: Callable[[int], None],
) -> dict[str, str]:
    """Grade notebooks in several processes; return path -> why one could not be graded.

    A process gets one notebook at a time, over a line of its own: should it end, it takes nobody
    else's with it.
    """
    failures: dict[str, str] = {}
    waiting = list(range(len(notebooks)))[::-1]
    tried: dict[int, int] = defaultdict(int)
    at: dict[Connection, int] = {}  # line -> the notebook that its process is at
    processes: dict[Connection, Any] = {}
    try:
        while waiting or at:
            while waiting and len(at) < workers:
                free = [one for one in processes if one not in at]
                if not free:
                    hired, process = _hire(notebooks, store, timeout)
                    processes[hired] = process
                    free = [hired]
                at[free[0]] = waiting.pop()
                with suppress(OSError):  # it has ended: seen below
                    free[0].send(at[free[0]])
            for line in list(at):
                if line not in wait(list(at)):
                    continue
                number = at.pop(line)
                try:
                    word = line.recv()
                except (EOFError, OSError):
                    processes.pop(line).join()
                    tried[number] += 1
                    if tried[number] <= TRIES:
                        waiting.append(number)
                        continue
                    word = ENDED
                if word:
                    failures[notebooks[number].path] = word
                step(len(waiting) + len(at))
    finally:
        for line, process in processes.items():
            with suppress(OSError):
                line.send(None)
            if line in at:  # it was stopped in the middle
                process.terminate()
            process.join()
            line.close()
    return failures


def _hire(notebooks: Sequence[Notebook], store: Store, timeout: float) -> tuple[Connection, Any]:
    """Start a process that grades, and return the line to it."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(ours, theirs, notebooks, store, timeout))
    process.start()
    theirs.close()
    return ours, process


def _serve(
    ours: Connection, line: Connection, notebooks: Sequence[Notebook], store: Store, timeout: float
) -> None:
    """Grade the notebooks whose numbers arrive, and send for each what went wrong, or nothing."""
    ours.close()
    # Loaded here: the process that forked this one, and forks the next, must not hold them.
    from advlearn.classroom.judge import Judge
    from advlearn.classroom.runner import EndedError, Nursery

    nursery = Nursery()
    judge = Judge(nursery, timeout)
    with suppress(EOFError, KeyboardInterrupt):
        while (number := line.recv()) is not None:
            notebook = notebooks[number]
            try:
                store.write(notebook, judge.grade(notebook), nursery.isolation)
                word = ""
            except OSError as error:
                word = f"its grade could not be kept ({error.strerror or error})"
            except EndedError:  # of the nursery itself: the next process makes a new one
                os._exit(1)
            except Exception as error:  # a fault of ours must not cost anybody else a grade
                word = failed(error)
            line.send(word)
    nursery.close()


def failed(error: Exception) -> str:
    """Say that the grader failed at a notebook."""
    name = type(error).__name__
    return f"the grader failed at it ({name}: {printable(str(error))[:200]})"


# --- Together -------------------------------------------------------------------------------------


def _together(found: Submissions, store: Store, failures: Mapping[str, str]) -> Grades:
    """Put all notebooks together: of several attempts at an exercise the best counts."""
    grades = Grades({name: {} for name in found.learners}, list(found.unread))
    for notebook in found.notebooks:
        marks = grades.marks[notebook.learner]
        for mark in _marks(notebook, store, failures, grades):
            key = mark.lesson, mark.exercise
            if key not in marks or _rank(mark) > _rank(marks[key]):
                marks[key] = mark
    _flag_copies(grades)
    return grades


def _marks(
    notebook: Notebook, store: Store, failures: Mapping[str, str], grades: Grades
) -> Iterator[Mark]:
    held = store.read(notebook)
    if held is None:
        why = failures.get(notebook.path, "its grade is not there")
        grades.unread.append(Unread(notebook.learner, notebook.path, why))
        for name in exercise_names()[notebook.lesson]:
            yield Mark(notebook.lesson, name, _UNGRADED, 0.0, False, why, notebook.path, remark=why)
        return
    for name, kept in held.get("isolation", {}).items():  # of machines that may differ
        grades.isolation[name] = grades.isolation.get(name, True) and kept
    for told in held["results"]:
        # The same answers may have been graded under another name.
        yield Mark(**{**told, "path": notebook.path})


def _rank(mark: Mark) -> tuple[bool, float, bool]:
    return mark.solved, mark.score, mark.outcome not in {_UNGRADED, "NOT_ATTEMPTED"}


def _flag_copies(grades: Grades) -> None:
    """Remark on answers that two learners have alike, but for names, comments and layout."""
    alike: dict[tuple[Key, str], list[str]] = defaultdict(list)
    for learner, marks in grades.marks.items():
        for key, mark in marks.items():
            if mark.shape and not mark.remark:
                alike[key, mark.shape].append(learner)
    for (key, _), learners in alike.items():
        for learner in learners if len(learners) > 1 else ():
            others = ", ".join(other for other in learners if other != learner)
            mark = grades.marks[learner][key]
            changed = {**asdict(mark), "remark": f"the same code as {others}, but for names"}
            grades.marks[learner][key] = Mark(**changed)


def total(marks: Iterable[Mark], rule: str) -> tuple[float, int]:
    """Return the points of some exercises, and how many of them were graded."""
    points = [mark.points(rule) for mark in marks]
    graded = [one for one in points if one is not None]
    return sum(graded), len(graded)
