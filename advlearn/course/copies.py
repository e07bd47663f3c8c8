"""The learner's own copies of the lessons, and what happens to them when a newer version comes.

Opening a lesson and running it changes its file, and git then refuses to update it. So the lessons
are worked on as copies, in a folder that git does not watch: `my-lessons/`. When a lesson has
changed since it was copied, a copy with edits stays as it is and the newer version is put beside
it; a copy without edits becomes the newer one. What counts as an edit is the text of the cells: the
outputs of a run come back by running it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from advlearn._atomic import write_atomically
from advlearn.course.lessons import LESSONS
from advlearn.data.folders import CHECKOUT, PACKAGE

FOLDER = "my-lessons"
FIRST = LESSONS[0].file
_RECORD = ".versions.json"  # what each copy was made from, in the folder of the copies


class _Version(NamedTuple):
    """Digests of a file: of what is written in a notebook's cells, and of every byte."""

    cells: str
    file: str

    @classmethod
    def of(cls, path: Path) -> _Version:
        content = path.read_bytes()
        try:
            cells = json.loads(content)["cells"]
            text = json.dumps([(cell["cell_type"], "".join(cell["source"])) for cell in cells])
        except (ValueError, KeyError, TypeError):
            text = content.hex()
        return cls(*(hashlib.sha256(part).hexdigest() for part in (text.encode(), content)))


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

    Args:
        source: the folder of the lessons as published.
        mine: the folder of the copies; made when missing.

    Returns:
        What the learner should know, one sentence for each lesson with a newer version beside it.

    Raises:
        OSError: `mine` cannot be written.
    """
    mine.mkdir(parents=True, exist_ok=True)
    record, news = _read_record(mine), []
    changed_here = _edited(source)
    for path in [*sorted(source.glob("[0-9][0-9]_*.ipynb")), *source.glob("*.svg")]:
        published, own = _Version.of(path), mine / path.name
        given = record.get(path.name, _UNKNOWN)
        # What was edited before it was copied must not pass for the published text.
        base = _UNKNOWN if path.name in changed_here else published
        if not own.exists():
            _copy(path, own)
        elif published != given:
            now = _Version.of(own)
            if now.file == given.file:
                _copy(path, own)  # not even run
            elif published.cells in (given.cells, now.cells):
                pass  # only stored outputs differ
            elif now.cells == given.cells:
                _copy(path, own)  # run, but not edited
            elif beside := _beside(own, published, record):
                _copy(path, beside)
                record[beside.name] = base
                news.append(
                    f"{path.name} has a newer version. Yours is untouched: see {beside.name}."
                )
        record[path.name] = base
    write_atomically(mine / _RECORD, json.dumps(record, indent=1) + "\n")
    return news


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
    command = ["git", "diff", "--name-only", "--relative", "HEAD", "--", "."]
    try:
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return set()
    return set(done.stdout.splitlines())


def _read_record(mine: Path) -> dict[str, _Version]:
    try:
        rows = json.loads((mine / _RECORD).read_text(encoding="utf-8"))
        return {str(name): _Version(str(cells), str(file)) for name, (cells, file) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
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
        if not path.exists():
            return path
        there = _Version.of(path).cells
        if there == published.cells:
            return None
        if there == record.get(path.name, _UNKNOWN).cells:
            return path
    return None


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, source.read_bytes())
