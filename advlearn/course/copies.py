"""The learner's own copies of the lessons, and what happens to them when a newer version comes.

Opening a lesson and running it changes its file, and git then refuses to update it. So the lessons
are worked on as copies, in a folder that git does not watch: `my-lessons/`. When a lesson has
changed since it was copied, a copy with edits stays as it is and the newer version is put beside
it; a copy without edits becomes the newer one. What counts as an edit is the text of the cells, and
pictures that were put into them: the outputs of a run come back by running it, and empty cells, ids
and notes of a program about a cell (folded, scrolled) are no work of anybody.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from advlearn._atomic import locked, write_atomically
from advlearn._bounded import open_plain, parse_json, read_plain
from advlearn._quote import printable, quote
from advlearn.course.lessons import LESSONS
from advlearn.data.folders import CHECKOUT, PACKAGE

FOLDER = "my-lessons"
FIRST = LESSONS[0].file
RECORD = ".versions.json"  # what each copy was made from, in the folder of the copies


# The parts of a larger notebook are not looked at: it may take fifty times its size in memory. The
# lessons have 1.5 MB at most.
_MOST_READ = 5_000_000


class _Version(NamedTuple):
    """Digests of a file: of what is written in a notebook's cells, and of every byte."""

    cells: str
    file: str

    @classmethod
    def of(cls, path: Path, cells: Callable[[Any], Any] | None = None) -> _Version:
        """Return the digests of a file; of one that cannot be read, some that no other has."""
        try:
            with open_plain(path) as file:
                content = file.read(_MOST_READ + 1)
                whole = hashlib.sha256(content)
                while piece := file.read(1_000_000):
                    whole.update(piece)
        except (OSError, ValueError):  # a folder, a pipe, not ours to read
            return cls(f"not readable: {path}", f"not readable: {path}")
        return cls(
            _digest_of_cells(content, cells or _written) or whole.hexdigest(), whole.hexdigest()
        )


def _digest_of_cells(content: bytes, cells: Callable[[Any], Any]) -> str | None:
    """Return a digest of what is written in a notebook, or None when it is no notebook."""
    if len(content) > _MOST_READ:
        return None
    try:
        text = json.dumps(cells(parse_json(content)["cells"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def _written(cells: Any) -> list[Any]:
    """Return what a person has written in a notebook's cells."""
    written = []
    for cell in cells:
        source = "".join(cell["source"])
        lines = "\n".join(line.rstrip() for line in source.splitlines()).rstrip()
        if lines or cell.get("attachments"):  # Shift+Enter at the end adds an empty cell
            written.append([cell["cell_type"], lines, cell.get("attachments") or {}])
    return written


def _written_before(cells: Any) -> list[Any]:
    """Return what records of version 0.1.0 hold a digest of."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


_UNKNOWN = _Version("", "")


def places(checkout: Path = CHECKOUT) -> tuple[Path, Path]:
    """Return the folder of the lessons as published, and that of the learner's copies.

    The lessons come from the checkout that holds this package, else from one in the current folder,
    else from the installed package. Copies go into `my-lessons/` of the checkout, else into one of
    the current folder.

    Raises:
        FileNotFoundError: there are no lessons.
    """
    here = Path.cwd()
    for source, home in (
        (checkout / "notebooks", checkout),
        (here / "notebooks", here),
        (PACKAGE / "_published" / "notebooks", here),
    ):
        if (source / FIRST).is_file():
            # A course that an administrator installed for all is not a place to write into.
            return source, (home if os.access(home, os.W_OK) else here) / FOLDER
    raise FileNotFoundError("No lessons here: install the course again, or clone its repository.")


def refresh(source: Path, mine: Path) -> list[str]:
    """Bring the copies in `mine` up to date with `source`, without losing an edit.

    A lesson that cannot be copied, on a full disk say, stays as it is, and the others are brought
    up to date; it is tried again the next time. Two of these at once wait for each other.

    Args:
        source: the folder of the lessons as published.
        mine: the folder of the copies; made when missing.

    Returns:
        What the learner should know, one sentence for each lesson with a newer version beside it,
        and for each that could not be copied.

    Raises:
        OSError: `mine` cannot be made, or something else has been writing it for half a minute.
    """
    try:
        mine.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{quote(str(mine), 300)}, the folder of your copies, cannot be made "
            f"({error.strerror or error}). Move what is there elsewhere, or open the lessons in "
            "another folder."
        ) from error
    try:
        with locked(mine / RECORD):
            return _refresh(source, mine)
    except (TimeoutError, FileExistsError):
        raise
    except OSError as error:  # a folder that cannot be written may hold whole copies all the same
        return [_failed("The copies", error)]


def _refresh(source: Path, mine: Path) -> list[str]:
    record, news = _read_record(mine), []
    changed_here = _edited(source)
    for path in [*sorted(source.glob("*.ipynb")), *source.glob("*.svg")]:
        try:
            # What was edited before it was copied must not pass for the published text.
            news += _refresh_one(path, mine, record, known=path.name not in changed_here)
        except (OSError, ValueError) as error:
            news.append(_failed(path.name, error))
    try:
        write_atomically(mine / RECORD, json.dumps(record, indent=1) + "\n")
    except OSError as error:
        news.append(_failed(f"The record of the copies, {RECORD},", error))
    return news


def _failed(what: str, error: OSError | ValueError) -> str:
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    reason = printable(getattr(error, "strerror", None) or error)
    remedy = f"Make {name or FOLDER} writable"
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "Free 10 MB or more"
    return (
        f"{what} could not be written ({reason}). What you have is as it was. {remedy}, then run "
        "`advlearn lab` again."
    )


def _refresh_one(path: Path, mine: Path, record: dict[str, _Version], *, known: bool) -> list[str]:
    """Bring one copy up to date, and note in `record` what it was made from."""
    published, own = _Version.of(path), mine / path.name
    given, base = record.get(path.name, _UNKNOWN), published if known else _UNKNOWN
    news = []
    for left in mine.glob(f".{glob.escape(path.name)}.????????.part"):
        left.unlink()  # of a program that was killed; under the lock there is no other
    if not os.path.lexists(own):
        _copy(path, own)
    elif published.file != given.file:
        now = _Version.of(own)
        if now.file == given.file:
            _copy(path, own)  # not even run
        elif published.cells in (given.cells, now.cells):
            pass  # only stored outputs differ
        elif given.cells in (now.cells, _Version.of(own, _written_before).cells):
            _copy(path, own)  # run, but not edited
        elif beside := _beside(own, published, record):
            _copy(path, beside)
            record[beside.name] = base
            news = [f"{path.name} has a newer version. Yours is untouched: see {beside.name}."]
    record[path.name] = base
    return news


def first(folder: Path) -> Path:
    """Return what is opened in a folder of lessons: the first one, or the first that is there.

    Raises:
        FileNotFoundError: there is no lesson.
    """
    found = next((folder / one.file for one in LESSONS if (folder / one.file).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"No lessons in {folder}. Mend what is said above, then try again.")
    return found


def open_lab(lesson: Path, options: Sequence[str]) -> int:
    """Open JupyterLab at a lesson and return its exit status.

    Args:
        lesson: a notebook.
        options: passed on to JupyterLab.

    Raises:
        ModuleNotFoundError: JupyterLab is not installed.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise ModuleNotFoundError(
            "JupyterLab is not installed. Run `pip install 'jupyterlab>=4'`, or open "
            f"{lesson} with another notebook program."
        )
    command = [sys.executable, "-m", "jupyterlab", str(lesson), *options]
    # Threads that wait by sleeping: spinning ones starve each other on a busy laptop.
    return subprocess.call(command, env={"OMP_WAIT_POLICY": "PASSIVE"} | os.environ)


def _edited(source: Path) -> set[str]:
    """Name the lessons that were edited in a checkout itself, as far as git can tell."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], cwd=source, capture_output=True, check=True).stdout

    try:
        changed = git("diff", "--name-only", "--relative", "-z", "HEAD", "--", ".")
        names = {os.fsdecode(name) for name in changed.split(b"\0") if name}
        return {
            name for name in names if not _only_run(source / name, git("show", f"HEAD:./{name}"))
        }
    except (OSError, subprocess.CalledProcessError):
        return set()


def _only_run(path: Path, committed: bytes) -> bool:
    """Tell whether a notebook says what the committed one says: it was run, and not edited."""
    cells = _digest_of_cells(committed, _written)
    return cells is not None and cells == _Version.of(path).cells


def _read_record(mine: Path) -> dict[str, _Version]:
    try:
        rows = parse_json(read_plain(mine / RECORD, most=1_000_000))
        return {str(name): _Version(str(cells), str(file)) for name, (cells, file) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}  # every copy then counts as edited: nothing is overwritten


def _beside(own: Path, published: _Version, record: dict[str, _Version]) -> Path | None:
    """Return where a newer version goes: a free name, or that of a newer one without edits.

    None when it lies there already.
    """
    lesson, _, title = own.stem.partition("_")
    for number in itertools.count(1):
        # Early in the name: JupyterLab's list of files cuts long ones off.
        mark = f"(new {number})" if number > 1 else "(new)"
        path = own.with_name(f"{lesson}_{mark}_{title}{own.suffix}")
        if not os.path.lexists(path):
            return path
        there = _Version.of(path).cells
        if there == published.cells:
            return None
        given = record.get(path.name, _UNKNOWN).cells
        if given in (there, _Version.of(path, _written_before).cells):
            return path
    return None


def _copy(source: Path, target: Path) -> None:
    with open_plain(source) as file:
        content = file.read()
    write_atomically(target, content)
