"""Collect notebooks for nbgrader under the names that it knows, whatever learners called them.

nbgrader takes a notebook for another one where a browser or a learner has renamed it, as in
"03_fgsm_linear_models (1).ipynb", and gives it no grade. Here what it imports says which lesson it
is, and the path says whose: see `advlearn.classroom.submissions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from advlearn._quote import printable
from advlearn.classroom.submissions import Notebook, find
from advlearn.course.lessons import LESSONS

_NAMES = {f"{lesson.number:02d}": lesson.name for lesson in LESSONS}


def newest(folder: Path, notebooks: Iterable[Notebook]) -> dict[tuple[str, str], Notebook]:
    """Return learner and lesson -> the notebook that was changed last, of those in a folder."""
    chosen: dict[tuple[str, str], tuple[float, str, Notebook]] = {}
    for one in notebooks:
        path = folder / one.path
        if not path.is_file():  # in an archive: nbgrader unpacks these itself
            continue
        held = path.stat().st_mtime, one.path, one
        key = one.learner, one.lesson
        if key not in chosen or held[:2] > chosen[key][:2]:
            chosen[key] = held
    return {key: notebook for key, (_, _, notebook) in chosen.items()}


def name_as_released(folder: Path, lesson: str) -> list[str]:
    """Give the notebook of a lesson in a learner's folder the name that nbgrader looks for.

    Args:
        folder: of one learner and one assignment.
        lesson: the lesson's name, as the assignment's.

    Returns:
        What the teacher should know, a sentence each.
    """
    wanted = folder / f"{lesson}.ipynb"
    number = next((number for number, name in _NAMES.items() if name == lesson), None)
    found = [one for one in find(folder, outputs=False).notebooks if one.lesson == number]
    others = sorted(one.path for one in found if one.path != wanted.name)
    if wanted.exists():
        return [
            f"{printable(path)} is a second notebook of {lesson}, and is not graded: look at it"
            for path in others
        ]
    latest = newest(folder, found)
    if not latest:
        return []
    one = max(latest.values(), key=lambda each: (folder / each.path).stat().st_mtime)
    (folder / one.path).rename(wanted)
    left = [path for path in others if path != one.path]
    more = f"; {', '.join(map(printable, left))} is not graded: look at it" if left else ""
    return [f"{printable(one.path)} is taken for {wanted.name}{more}"]


def collector(plugin: Any) -> Any:
    """Return a collector for `nbgrader zip_collect` that knows the names of all platforms.

    Args:
        plugin: `nbgrader.plugins.FileNameCollectorPlugin`.
    """

    def collect(self: Any, submitted_file: str) -> dict[str, str] | None:
        path = Path(submitted_file)
        folder = path.parent
        for parent in path.parents:  # the folder into which nbgrader has unpacked everything
            if parent.name == getattr(self.parent, "extracted_directory", "extracted"):
                folder = parent
        if getattr(self, "folder", None) != folder:
            self.folder, found = folder, find(folder, outputs=False)
            self.chosen = {
                folder / one.path: (learner, _NAMES[lesson])
                for (learner, lesson), one in newest(folder, found.notebooks).items()
            }
            for unread in found.unread:
                self.log.warning("%s: %s", unread.path, unread.reason)
        learner, lesson = self.chosen.get(path, (None, None))
        if learner is None or lesson is None:
            return None
        return {"student_id": learner, "file_id": lesson}

    return type("Collector", (plugin,), {"collect": collect})


def exchange(collect: Any) -> Any:
    """Return a way to collect from the exchange that gives renamed notebooks their names again.

    Args:
        collect: `nbgrader.exchange.default.ExchangeCollect`.
    """

    def do_copy(self: Any, source: str, target: str, *rest: Any, **options: Any) -> None:
        collect.do_copy(self, source, target, *rest, **options)
        for sentence in name_as_released(Path(target), self.coursedir.assignment_id):
            self.log.warning("%s: %s", Path(target).parent.name, sentence)

    return type("ExchangeCollect", (collect,), {"do_copy": do_copy})
