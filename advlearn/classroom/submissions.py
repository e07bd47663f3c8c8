"""Whose notebook is this, and of which lesson? Found in any tree that a platform exports.

Learners rename files, put them into folders and zip files, and hand them in twice. Moodle, Canvas
and Blackboard add words of their own to names. So the lesson is read from the notebook, and the
learner from the path. What cannot be read is told with its reason, never left out in silence.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from advlearn._bounded import parse_json, read_plain
from advlearn._quote import printable
from advlearn.course.lessons import LESSONS
from advlearn.data.archives import Files, RefusedError, composed

MOST_BYTES = 40_000_000
"""Of one notebook. The longest lesson has 1.4 million with all its pictures."""

_DEEPEST = 3  # zip files within zip files
_BY_NUMBER = {f"{lesson.number:02d}": lesson for lesson in LESSONS}
# Pictures are most of a notebook, and nobody reads them here.
_TEXT = rb'"[^"\\]*(?:\\.[^"\\]*)*"'  # without a choice for each letter, which would be slow
_PICTURE = re.compile(
    rb'("(?:image/[a-z+]+|text/html)"\s*:\s*)(?:'
    + _TEXT
    + rb"|\[(?:\s*"
    + _TEXT
    + rb"\s*,?)*\s*\])"
)

# In the order in which a notebook says which lesson it is.
_IMPORTED = re.compile(r"^\s*from\s+advlearn\.exercises\s+import\s+.*?\blesson(\d\d)\b", re.M)
_TITLED = re.compile(r"^\s*#\s*(?:Lesson\s+)?(\d{1,2})\b", re.I)
_IN_NAME = re.compile(r"(?:^|[^0-9])(?:lesson[ _-]?)?(\d{2})(?=[ _-][a-z]|$)", re.I)

# What platforms and browsers add to names.
_ADDED = (
    re.compile(r"_\d+_assignsubmission_(?:file|onlinetext)_?$", re.I),  # Moodle
    re.compile(r"^(?P<name>[^_]+?)_(?:LATE_)?\d+_\d+_.*$"),  # Canvas
    re.compile(r"^.*?_(?P<name>[^_]+)_attempt_\d{4}(?:-\d\d){5}.*$"),  # Blackboard
)
_COPY = re.compile(r"(?:[ _-]*\(\d+\)|[ _-]+copy(?:[ _-]?\d+)?|[ _-]Copy\d+)$", re.I)
_LESSON_NAME = re.compile(
    r"(?:"
    + "|".join(re.escape(lesson.name) for lesson in LESSONS)
    + r"|(?<![a-z])(?:lesson|lab|week|hw|homework|assignment|ex|exercise)[ _-]?\d{1,2}(?!\d)"
    + r"|^\d{1,2}$)",
    re.I,
)
_EDGES = " _-.,"


class Notebook(NamedTuple):
    """A notebook that was handed in."""

    learner: str
    lesson: str  # its number, "03"
    path: str  # as it was found, from the folder; "a.zip/b.ipynb" in an archive
    cells: tuple[dict[str, Any], ...]


class Unread(NamedTuple):
    """A file that could not be taken, and why."""

    learner: str
    path: str
    reason: str


@dataclass
class Submissions:
    """Everything that was found, by learner."""

    notebooks: list[Notebook] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)

    @property
    def learners(self) -> list[str]:
        """The names of all learners, of those too whose files could not be read."""
        names = {one.learner for one in self.notebooks} | {one.learner for one in self.unread}
        return sorted(names, key=_in_order)


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sort numbers in names by value: "kim 2" comes before "kim 10"."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


class _File(NamedTuple):
    parts: tuple[str, ...]
    content: bytes
    reason: str = ""  # it could not be read


def find(folder: Path, *, outputs: bool = True) -> Submissions:
    """Return the notebooks in a folder or an archive, each with its learner and lesson.

    Args:
        folder: with notebooks in any arrangement: by learner, by lesson, flat, in zip files.
        outputs: keep what cells printed; pictures are dropped in any case.

    Raises:
        FileNotFoundError: it is not there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as empty:
        ...     find(Path(empty)).learners
        []
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder} is not there. Name the folder that holds the notebooks.")
    files = [one for one in _walk(folder) if not _is_debris(one.parts)]
    names = _learners([one.parts for one in files], folder)
    found = Submissions()
    for file, learner in zip(files, names, strict=True):
        path = "/".join(file.parts)
        if file.reason:
            found.unread.append(Unread(learner, path, file.reason))
            continue
        if not file.parts[-1].lower().endswith(".ipynb"):
            if file.parts[-1].lower().endswith((".py", ".pdf", ".html", ".htm", ".docx", ".txt")):
                reason = "not a notebook: hand in the .ipynb file itself"
                found.unread.append(Unread(learner, path, reason))
            continue
        try:
            cells = _cells(file.content, outputs)
        except ValueError as error:
            found.unread.append(Unread(learner, path, str(error)))
            continue
        lesson = lesson_of(cells, file.parts[-1])
        if lesson is None:
            reason = "not a lesson of this course: no cell imports its exercises"
            found.unread.append(Unread(learner, path, reason))
        else:
            found.notebooks.append(Notebook(learner, lesson, path, cells))
    return found


# --- Files ----------------------------------------------------------------------------------------


def _is_debris(parts: Sequence[str]) -> bool:
    """Tell what programs leave behind: `__MACOSX`, checkpoints of Jupyter, hidden files."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _walk(folder: Path) -> Iterator[_File]:
    if folder.is_file():
        yield from _file(folder, (composed(folder.name),), 0)
        return
    for path in sorted(folder.rglob("*")):
        parts = tuple(composed(part) for part in path.relative_to(folder).parts)
        if path.is_symlink():  # it may lead to another learner's file, or out of the folder
            if path.suffix.lower() in {".ipynb", ".zip"}:
                yield _File(parts, b"", "a link, not a file: copy the file itself")
        elif path.is_file():
            yield from _file(path, parts, 0)


def _file(path: Path, parts: tuple[str, ...], depth: int) -> Iterator[_File]:
    suffix = path.suffix.lower() if depth == 0 else Path(parts[-1]).suffix.lower()
    try:
        if suffix == ".ipynb":
            yield _File(parts, read_plain(path, MOST_BYTES, "Clear its outputs, and save it."))
        elif suffix in {".zip", ".tar", ".gz", ".tgz"}:
            yield from _archive(path, parts, depth)
        else:
            yield _File(parts, b"")
    except (OSError, ValueError) as error:
        yield _File(parts, b"", _reason(error, path))


def _archive(path: Path, parts: tuple[str, ...], depth: int) -> Iterator[_File]:
    above = (*parts[:-1], re.sub(r"\.(zip|tar|tar\.gz|tgz|gz)$", "", parts[-1], flags=re.I))
    if depth == _DEEPEST:
        raise RefusedError("archives within archives, deeper than three")
    with Files(path, ()) as files:
        wanted = []
        for entry in files.entries:
            inner = (*above, *entry.parts)
            if entry.why:
                if not _is_debris(inner) and inner[-1].lower().endswith(".ipynb"):
                    yield _File(inner, b"", entry.why)
            elif inner[-1].lower().endswith((".ipynb", ".zip", ".tar", ".gz", ".tgz")):
                wanted.append(entry)
            else:
                yield _File(inner, b"")
        for entry, content in files.read(wanted):
            inner = (*above, *entry.parts)
            if _is_debris(inner):
                continue
            if inner[-1].lower().endswith(".ipynb"):
                yield _File(inner, content)
                continue
            with tempfile.TemporaryDirectory() as place:
                packed = Path(place) / "inner"
                packed.write_bytes(content)
                yield from _file(packed, inner, depth + 1)


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"it could not be opened ({error.strerror})"
    return printable(str(error).replace(str(path), path.name))


# --- Notebooks ------------------------------------------------------------------------------------


def _cells(content: bytes, outputs: bool) -> tuple[dict[str, Any], ...]:
    """Return the cells of a notebook, without pictures.

    Raises:
        ValueError: it is not a notebook; the message says why.
    """
    if not content.strip():
        raise ValueError("an empty file: save the notebook, and hand it in again")
    try:
        whole = parse_json(_PICTURE.sub(rb'\1""', content))
    except ValueError as error:
        raise ValueError(f"damaged: it is not a whole notebook ({printable(error)})") from error
    if isinstance(whole, dict) and "worksheets" in whole:
        raise ValueError("of a notebook format before 2015: open it in Jupyter, and save it")
    cells = whole.get("cells") if isinstance(whole, dict) else None
    if not isinstance(cells, list):
        raise ValueError("damaged: it has no list of cells")
    read = []
    for cell in cells:
        if not isinstance(cell, dict):
            raise ValueError("damaged: one of its cells is not a cell")
        kept = {"cell_type": cell.get("cell_type"), "source": text_of(cell.get("source"))}
        if outputs and isinstance(cell.get("outputs"), list):
            kept["printed"] = "".join(_printed(cell["outputs"]))
            kept["was run"] = isinstance(cell.get("execution_count"), int)
        read.append(kept)
    return tuple(read)


def text_of(value: object) -> str:
    r"""Return a multi-line text of a notebook: a string, or a list of lines.

    Example:
        >>> text_of(["a\n", "b"]), text_of(None)
        ('a\nb', '')
    """
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _printed(outputs: Iterable[object]) -> Iterator[str]:
    for output in outputs:
        if isinstance(output, dict) and output.get("output_type") == "stream":
            yield text_of(output.get("text"))


def lesson_of(cells: Iterable[dict[str, Any]], name: str) -> str | None:
    """Return the number of the lesson that a notebook is of, "03", or None.

    What it imports decides; then its title; then the file's name.

    Example:
        >>> lesson_of([], "03_fgsm_linear_models (1).ipynb"), lesson_of([], "notes.ipynb")
        ('03', None)
    """
    for pattern, kind in ((_IMPORTED, "code"), (_TITLED, "markdown")):
        for cell in cells:
            match = pattern.search(cell["source"]) if cell["cell_type"] == kind else None
            if match and (number := f"{int(match[1]):02d}") in _BY_NUMBER:
                return number
    for number, lesson in _BY_NUMBER.items():
        if lesson.name in name:
            return number
    match = _IN_NAME.search(Path(name).stem)
    return match[1] if match and match[1] in _BY_NUMBER else None


# --- Learners -------------------------------------------------------------------------------------


def _learners(paths: Sequence[tuple[str, ...]], folder: Path) -> list[str]:
    """Return the learner of each path."""
    shared = 0
    while (
        len(paths) > 1  # the folder of a single file is more likely a learner's than an export's
        and all(len(path) > shared + 1 for path in paths)
        and len({path[shared] for path in paths}) == 1
    ):
        shared += 1
    return [_learner(path, shared, folder) for path in paths]


def _learner(parts: tuple[str, ...], shared: int, folder: Path) -> str:
    """Return whose file it is: the first name that is not a lesson's.

    A folder of a learner comes before the name of the file in it; names that all files share, such
    as that of the platform's export, are asked last.
    """
    *folders, file = parts[shared:]
    stem = re.sub(r"\.[A-Za-z]{1,6}$", "", file)
    for part in (*folders, stem, *reversed(parts[:shared]), folder.resolve().name):
        if name := _cleaned(part):
            return name
    return "unknown"


def _cleaned(part: str) -> str:
    """Return the learner's name in a part of a path, or nothing.

    Example:
        >>> _cleaned("Kim Minji_1234567_assignsubmission_file_")
        'Kim Minji'
        >>> _cleaned("leesora_LATE_4711_99120_03_fgsm_linear_models-1"), _cleaned("lesson03")
        ('leesora', '')
    """
    for added in _ADDED:
        if match := added.search(part):
            part = match.groupdict().get("name") or part[: match.start()]
            break
    before = None
    while part != before:
        before = part
        part = _LESSON_NAME.sub("", _COPY.sub("", part.strip(_EDGES)))
    return part
