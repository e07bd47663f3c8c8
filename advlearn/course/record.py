"""What a learner has solved, kept between sessions in a small file beside the copies.

`.progress.json` holds the best outcome of each exercise and the number of tries, and nothing else:
no answer, no time, no name. It stays on the learner's machine. Where no file can be written the
session goes on without one, and says so once. Several kernels may write at once: each brings what
it has found into what is there, under a lock. A damaged file is put aside.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from advlearn._atomic import locked, write_atomically
from advlearn._bounded import parse_json, read_plain
from advlearn._quote import printable
from advlearn.course.copies import FOLDER, RECORD
from advlearn.course.lessons import LESSONS
from advlearn.data.folders import CHECKOUT, is_checkout

FILE = ".progress.json"
VARIABLE = "ADVLEARN_PROGRESS_DIR"
_FORMAT = 1
_MOST_BYTES = 1_000_000  # ours has 5,000 with every exercise in it
_PATIENCE = 5.0  # seconds that a check waits for another kernel
# From the least to the best. A newer version may know more outcomes: they come before "RIGHT".
_RANKS = {"NOT_ATTEMPTED": 0, "RAISED": 1, "WRONG": 2, "RIGHT": 4}


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return Path()


_HERE = _here()  # when the kernel starts: a learner's code may go elsewhere


def start_here() -> None:
    """Take the current folder for that of the kernel, which was not started as a process is."""
    global _HERE  # noqa: PLW0603 - a constant but for forked kernels
    _HERE = _here()


Key = tuple[str, str]  # number of the lesson, "03", and name of the exercise


class Entry(NamedTuple):
    """What is known of one exercise."""

    best: str = "NOT_ATTEMPTED"  # the name of an `Outcome`, perhaps of another version
    solved: bool = False
    score: float = 0.0  # of the best answer, in [0, 1]
    tries: int = 0

    def joined(self, other: Entry) -> Entry:
        """Return the better of two outcomes, with the tries of both.

        Example:
            >>> Entry("RIGHT", True, 1.0, 2).joined(Entry("WRONG", False, 0.4, 1))
            Entry(best='RIGHT', solved=True, score=1.0, tries=3)
        """
        best = max(self, other, key=lambda one: (one.solved, one.score, _RANKS.get(one.best, 3)))
        return best._replace(tries=self.tries + other.tries)


class _State:
    """What this session has found and not written yet, and what it has said."""

    def __init__(self) -> None:
        self.waiting: dict[Key, Entry] = {}
        self.said: set[str] = set()

    def once(self, sentence: str) -> str:
        """Return a sentence the first time, then nothing."""
        new = sentence not in self.said
        self.said.add(sentence)
        return sentence if new else ""


_state = _State()


def folder() -> Path | None:
    """Return the folder of the record, made or not; None where it is kept in memory only.

    That is what the environment variable ADVLEARN_PROGRESS_DIR names (none, where it is empty).
    Without it: the current folder, if it holds the copies that `advlearn lab` made; else
    `my-lessons/` of the checkout, or of the current folder; else the current folder, if it holds a
    lesson or is Colab's.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        # Not `expanduser`, which raises for a user without a home.
        return Path(os.path.expanduser(named)) if named.strip() else None  # noqa: PTH111
    if (_HERE / RECORD).is_file():
        return _HERE
    if is_checkout(CHECKOUT) and os.access(CHECKOUT, os.W_OK):
        return CHECKOUT / FOLDER
    if (_HERE / FOLDER).is_dir():
        return _HERE / FOLDER
    if "google.colab" in sys.modules or any((_HERE / one.file).is_file() for one in LESSONS):
        return _HERE
    return None


def where() -> str:
    """Return a sentence on where the record is."""
    place = folder()
    if place is None:
        return "Kept in memory only, until this kernel ends."
    if _state.waiting:
        return f"Not kept between sessions: {place / FILE} cannot be written."
    later = " Colab empties this folder in the end." if "google.colab" in sys.modules else ""
    return f"Kept in {printable(str(place / FILE), 400)}. It stays on this machine.{later}"


def remembered() -> dict[Key, Entry]:
    """Return the best outcome of every exercise that was tried, in this session or before."""
    place = folder()
    try:
        known = {} if place is None else _read(place / FILE)[0]
    except OSError:  # it may not be read
        known = {}
    return _joined([known, _state.waiting])


def note(lesson: str, name: str, entry: Entry) -> list[str]:
    """Bring an outcome into the record; return what the learner must know, each thing once.

    Nothing is raised: where the file cannot be written, the outcome is kept for this session, and
    written with the next one that can be.
    """
    _state.waiting = _joined([_state.waiting, {(lesson, name): entry}])
    place = folder()
    if place is None:
        return []
    said = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / FILE, timeout=_PATIENCE) as path:
            known, sound = _read(path)
            if not sound:
                aside = _free(path)
                path.replace(aside)
                said.append(
                    f"The record of your progress was damaged. It is put aside as {aside.name}, "
                    "and what could be read of it is kept."
                )
            write_atomically(path, _text(_joined([known, _state.waiting])))
    except (OSError, ValueError) as error:
        reason = printable(getattr(error, "strerror", None) or error)
        file = printable(str(place / FILE), 400)
        told = f"Your progress is remembered in this session only: {file} cannot be written"
        said.append(f"{told} ({reason}).")
    else:
        _state.waiting = {}
    return [sentence for sentence in map(_state.once, said) if sentence]


def forget_session() -> None:
    """Forget what this session has not written, and what it has said. The file stays."""
    _state.waiting, _state.said = {}, set()


def _joined(records: Iterable[dict[Key, Entry]]) -> dict[Key, Entry]:
    whole: dict[Key, Entry] = {}
    for record in records:
        for key, entry in record.items():
            whole[key] = whole[key].joined(entry) if key in whole else entry
    return whole


def _free(path: Path) -> Path:
    """Return a free name for a damaged record."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    return aside


def _text(record: dict[Key, Entry]) -> str:
    lessons: dict[str, dict[str, dict[str, Any]]] = {}
    for (lesson, name), entry in sorted(record.items()):
        lessons.setdefault(lesson, {})[name] = entry._asdict()
    return json.dumps({"format": _FORMAT, "lessons": lessons}, indent=1) + "\n"


def _read(path: Path) -> tuple[dict[Key, Entry], bool]:
    """Return what a file records, and whether all of it could be read.

    Raises:
        OSError: it may not be read, or a newer version of the course has written it.
    """
    try:
        content = parse_json(read_plain(path, _MOST_BYTES))
    except FileNotFoundError:
        return {}, True
    except ValueError:
        return {}, False
    if not isinstance(content, dict) or not isinstance(content.get("lessons"), dict):
        return {}, False
    number = content.get("format")
    if isinstance(number, int) and number > _FORMAT:
        raise OSError("a newer version of the course has written it")
    record, sound = {}, number == _FORMAT
    for lesson, exercises in content["lessons"].items():
        for name, fields in exercises.items() if isinstance(exercises, dict) else ():
            entry = _entry(fields)
            if entry is None or not _is_name(lesson) or not _is_name(name):
                sound = False
            else:
                record[lesson, name] = entry
        sound &= isinstance(exercises, dict)
    return record, sound


def _is_name(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"\w{1,60}", text) is not None


def _entry(fields: object) -> Entry | None:
    """Return an entry of a file, or None if it is damaged."""
    if not isinstance(fields, dict):
        return None
    best, solved, score, tries = (fields.get(name) for name in Entry._fields)
    if not isinstance(best, str) or not _is_name(best) or not isinstance(solved, bool):
        return None
    if not isinstance(score, (int, float)) or not 0 <= score <= 1:
        return None
    if not isinstance(tries, int) or not 0 <= tries <= 10**9:
        return None
    return Entry(best, solved, float(score), tries)
