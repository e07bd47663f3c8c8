"""Two editions of the course: one with everything for the teacher, one without our solutions.

The instructor's edition is a folder of notebooks. The learner's edition is notebooks and a wheel,
whose banks are sealed: its checks say what they always say, and it holds no solution.
"""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import html
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import advlearn
from advlearn import exercises as doors_of_lessons
from advlearn._bounded import parse_json, read_plain
from advlearn._quote import quote
from advlearn.classroom import sealing
from advlearn.classroom.submissions import MOST_BYTES, text_of
from advlearn.course.copies import places
from advlearn.course.grading.exercise import Exercise
from advlearn.course.grading.quiz import Quiz
from advlearn.course.grading.sealed import SUFFIX
from advlearn.course.lessons import LESSONS, Lesson
from advlearn.data.folders import PACKAGE, published

VERSION = f"{advlearn.__version__}+learner"
WHEEL = f"advlearn-{VERSION}-py3-none-any.whl"
_FOR_TEACHERS = ("classroom/", "cli/classes.py")  # parts of the package that need the solutions
_FEWEST_LETTERS = 10  # of a piece of code, in back-quotes, that gives a solution away
_LONG = 20  # letters of a line that does so wherever it stands
_TELLS_THE_SOLUTION = re.compile(
    r"(`ex\.NAME\.hint\(\)`\s+gives\s+a\s+hint)"
    r"(?:,?\s+and\s+`ex\.NAME\.solution\(\)`\s+shows\s+our\s+answer)"
)
_INSTALLS = re.compile(r'^(\s*)course = "advlearn @ git\+.*$', re.M)
_DOOR = re.compile(r"\bex\.(\w+)\.reference\b")
_CHECK = re.compile(r"^ex\.(\w+)\.check\(", re.M)

README = """\
# The lessons, without our solutions

Python 3.10 or newer. In this folder:

    pip install "./{wheel}[lab]"
    advlearn lab

JupyterLab opens with your copies of the lessons. Your checks work without a network.

On Colab, upload a notebook from `lessons/`{colab}.
"""


# --- Both -----------------------------------------------------------------------------------------


def _bank(lesson: Lesson) -> Any:
    return getattr(doors_of_lessons, f"lesson{lesson.number:02d}")


def _read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = parse_json(read_plain(path, MOST_BYTES))
    for cell in notebook["cells"]:
        cell["source"] = text_of(cell["source"])
    return notebook


def _text(notebook: Mapping[str, Any]) -> str:
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def _put(out: Path, files: Mapping[str, str | bytes]) -> None:
    """Make a folder with these files, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".edition-") as place:
        made = Path(place) / "made"
        for name, content in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if out.exists():
            out.rmdir()  # it is empty, see `_check`
        made.rename(out)


def _check(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{quote(str(out))} is there already, and not an empty folder. Name a new one."
        )


# --- The instructor's edition ---------------------------------------------------------------------


def instructor(out: Path, *, run: bool = False) -> dict[str, int]:
    """Write the lessons with solutions, slips and answers; return lesson -> number of exercises.

    Args:
        out: a folder that is not there yet, or empty.
        run: execute each lesson, in a minute or less each. Otherwise the exercises have no output.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: a lesson has no cell for an exercise.
        ModuleNotFoundError: `run`, and nbclient is not installed.
    """
    _check(out)
    source, _ = places()
    files: dict[str, str | bytes] = {}
    for lesson in LESSONS:
        notebook = _read(source / lesson.file)
        with_solutions(notebook, lesson)
        if run:
            notebook = _executed(notebook, source)
        files[lesson.file] = _text(notebook)
    files["colab.svg"] = (source / "colab.svg").read_bytes()
    _put(out, files)
    return {lesson.file: len(_bank(lesson).EXERCISES) for lesson in LESSONS}


def with_solutions(notebook: dict[str, Any], lesson: Lesson) -> None:
    """Make a lesson the instructor's, in place.

    Raises:
        ValueError: it has no cell for an exercise.
    """
    bank = _bank(lesson)
    left = {exercise.name: exercise for exercise in bank.EXERCISES}
    cells: list[dict[str, Any]] = []
    for cell in notebook["cells"]:
        cells.append(cell)
        if cell["cell_type"] != "code":
            continue
        asked = _CHECK.search(cell["source"])
        if asked and asked[1] in left:
            exercise = left.pop(asked[1])
            stub = cell["source"][: asked.start()]
            if not re.fullmatch(rf"def {exercise.name}\(.*?:\n +\.\.\..*\n+", stub, re.S):
                raise ValueError(f"lesson {lesson.number}: the cell of {exercise.name} is no stub.")
            cell["source"] = f"{exercise.source()}\n\n{cell['source'][asked.start() :]}"
            cell["outputs"], cell["execution_count"] = [], None
            number = bank.EXERCISES.index(exercise) + 1
            cells.append(_markdown(f"slips-{exercise.name}", _slips(exercise, number)))
        elif cell["source"].rstrip().endswith("ex.quiz"):
            cells.append(_markdown("answers", _answers(bank.quiz)))
        elif "ex.progress()" in cell["source"]:
            cell["outputs"], cell["execution_count"] = [], None
    if left:
        raise ValueError(f"lesson {lesson.number} has no cell for {', '.join(left)}.")
    cells.insert(1, _markdown("for-the-teacher", _overview(lesson, bank.EXERCISES)))
    notebook["cells"] = cells


def _markdown(id: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": id, "metadata": {"tags": ["teacher"]}, "source": text}


def _overview(lesson: Lesson, exercises: Sequence[Exercise]) -> str:
    rows = [
        f"| {number} | `{one.name}` | {_safe(one.title)} | {one.difficulty} of 3 | {one.minutes} | "
        f"{len(one.wrong_answers)} |"
        for number, one in enumerate(exercises, start=1)
    ]
    minutes = sum(one.minutes for one in exercises)
    return "\n".join([
        f"**Instructor's edition.** The exercises are solved; under each one are its hints and its "
        f"common slips, folded. The lesson takes about {lesson.minutes} minutes, of which the "
        f"exercises take {minutes}.",
        "",
        "| | exercise | | difficulty | minutes | known slips |",
        "|--:|---|---|---|--:|--:|",
        *rows,
    ])  # fmt: skip


def _slips(exercise: Exercise, number: int) -> str:
    count = len(exercise.wrong_answers)
    title = f"Exercise {number}: {exercise.minutes} minutes, {count} common slips"
    hints = [f"{place}. {_safe(hint)}" for place, hint in enumerate(exercise.hints, start=1)]
    slips = [f"- **{_safe(one.name)}.** {_safe(one.feedback)}" for one in exercise.wrong_answers]
    parts = [f"<details><summary>{title}</summary>"]
    if hints:
        parts.append("**Hints**, from a nudge to nearly the answer:\n\n" + "\n".join(hints))
    if slips:
        parts.append("**Slips**, and what the check says to each:\n\n" + "\n".join(slips))
    if exercise.takeaway:
        parts.append(f"**What it is for.** {_safe(exercise.takeaway)}")
    return "\n\n".join([*parts, "</details>"])


def _answers(quiz: Quiz) -> str:
    lines = []
    for number, question in enumerate(quiz.questions, start=1):
        place, right = next((k, c) for k, c in enumerate(question.choices) if c.right)
        lines.append(
            f"{number}. **{'ABCDEFGH'[place]}.** {_safe(right.text)} *{_safe(right.feedback)}*"
        )
    return (
        "<details><summary>Answers of the quiz</summary>\n\n" + "\n".join(lines) + "\n\n</details>"
    )


def _safe(text: str) -> str:
    """Keep Markdown from reading signs in a plain text; code in back-quotes stays."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    for place in range(0, len(parts), 2):
        parts[place] = re.sub(r"([*_\[\]$|\\])", r"\\\1", html.escape(parts[place], quote=False))
    return "".join(parts)


def _executed(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run all cells in a fresh kernel, as one who has solved nothing yet."""
    import os

    try:
        import nbformat
        from nbclient import NotebookClient
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "running the lessons needs JupyterLab's parts. Run `pip install 'advlearn[lab]'`, or "
            "leave out --run."
        ) from error
    node = nbformat.from_dict(notebook)
    client = NotebookClient(node, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute(env=os.environ | {"ADVLEARN_PROGRESS_DIR": ""})
    node.metadata.pop("widgets", None)  # states of one session
    made: dict[str, Any] = json.loads(nbformat.writes(node))
    return made


# --- The learner's edition ------------------------------------------------------------------------


def learner(out: Path, *, address: str = "") -> dict[str, int]:
    """Write notebooks and a wheel without our solutions; return how much was closed, in numbers.

    Args:
        out: a folder that is not there yet, or empty.
        address: where the wheel will be found on the web, for Colab; else learners upload it.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: the address is none, the course is not installed, or a bank cannot be sealed.
    """
    _check(out)
    if address and not re.fullmatch(r"https://[^\s\"\\]+\.whl", address):
        raise ValueError(
            f"--address {quote(address)} is not the address of a wheel: https://…/{WHEEL}"
        )
    source, _ = places()
    lessons = {path.name: _read(path) for path in sorted(source.glob("*.ipynb"))}
    doors = {f"{lesson.number:02d}": called_by(lessons[lesson.file]) for lesson in LESSONS}
    for notebook in lessons.values():
        without_solutions(notebook, address or WHEEL)
    notebooks = {name: _text(notebook).encode() for name, notebook in lessons.items()}
    notebooks["colab.svg"] = (source / "colab.svg").read_bytes()
    closed: list[str] = []

    def keep(exercise: Exercise, hint: str) -> bool:
        others = getattr(doors_of_lessons, f"lesson{exercise.lesson}").EXERCISES
        gives_away = reveals(exercise, hint) or any(_holds_a_line(one, hint) for one in others)
        closed.extend([hint] * gives_away)
        return not gives_away

    sealed = {number: sealing.seal(number, names, keep) for number, names in doors.items()}
    colab = "" if address else f", and `{WHEEL}` with it"
    files: dict[str, str | bytes] = {
        WHEEL: _wheel(dict(_package(sealed, notebooks))),
        "README.md": README.format(wheel=WHEEL, colab=colab),
    }
    _put(out, files | {f"lessons/{name}": content for name, content in notebooks.items()})
    return {
        "exercises": sum(len(_bank(lesson).EXERCISES) for lesson in LESSONS),
        "solutions that a lesson runs": sum(map(len, doors.values())),
        "hints that were left out": len(closed),
    }


def called_by(notebook: Mapping[str, Any]) -> set[str]:
    """Return the exercises whose solution a lesson itself calls, as `ex.NAME.reference`."""
    code = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return set(_DOOR.findall("\n".join(code)))


def without_solutions(notebook: dict[str, Any], course: str) -> None:
    """Make a lesson the learner's, in place.

    Args:
        notebook: its cells are changed.
        course: what the set-up cell installs where the course is missing.
    """
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            # The badge leads to the lesson as it is published, and to the whole course.
            text = re.sub(r"^\[!\[Open in Colab\].*\n+", "", cell["source"], flags=re.M)
            cell["source"] = _TELLS_THE_SOLUTION.sub(r"\1", text)
        elif "setup" in cell["metadata"].get("tags", []):
            cell["source"] = _INSTALLS.sub(
                lambda m: (
                    f'{m[1]}course = "{course}"  # upload it beside this notebook'
                    if "://" not in course
                    else f'{m[1]}course = "advlearn @ {course}"'
                ),
                cell["source"],
            )


def reveals(exercise: Exercise, hint: str) -> bool:
    """Tell whether a hint holds a line of our solution, or a whole right-hand side of one.

    Example:
        >>> from advlearn.exercises import lesson03
        >>> [reveals(lesson03.loss_gradient, hint) for hint in lesson03.loss_gradient.hints]
        [False, False, True]
    """
    tree = ast.parse(exercise.source())
    whole = {_squeezed(text) for statement in ast.walk(tree) for text in _pieces(statement)}
    shown = {_squeezed(_normal(code)) for code in re.findall(r"`([^`]+)`", hint)}
    if any(len(code) >= _FEWEST_LETTERS for code in shown & whole):
        return True
    return _holds_a_line(exercise, hint)


def _holds_a_line(exercise: Exercise, hint: str) -> bool:
    (function,) = ast.parse(exercise.source()).body
    assert isinstance(function, ast.FunctionDef)
    lines = "\n".join(map(ast.unparse, function.body)).splitlines()
    text = _squeezed(hint)
    return any(len(_squeezed(line)) >= _LONG and _squeezed(line) in text for line in lines)


def _squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def _pieces(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Return | ast.Expr):
        yield ast.unparse(node)
        if node.value is not None:
            yield ast.unparse(node.value)
        if isinstance(node.value, ast.Tuple):
            yield from map(ast.unparse, node.value.elts)


def _normal(code: str) -> str:
    try:
        return ast.unparse(ast.parse(code.strip()))
    except SyntaxError:
        return code


def _package(
    sealed: Mapping[str, bytes], notebooks: Mapping[str, bytes]
) -> Iterator[tuple[str, bytes]]:
    """Give the files of the learner's package: name -> content."""
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        if not path.is_file() or "__pycache__" in path.parts or name.startswith("_published/"):
            continue
        if name.startswith(_FOR_TEACHERS) or re.match(r"course/banks/lesson\d", name):
            continue
        yield f"advlearn/{name}", path.read_bytes()
    for number, content in sealed.items():
        stem = f"advlearn/course/banks/lesson{number}"
        yield f"{stem}.py", sealing.MODULE.format(number=number).encode()
        yield f"{stem}{SUFFIX}", content
    for name, content in notebooks.items():
        yield f"advlearn/_published/notebooks/{name}", content
    for kind in ("weights", "results"):
        folder = published(kind)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield f"advlearn/_published/{kind}/{path.relative_to(folder)}", path.read_bytes()


def _wheel(files: Mapping[str, bytes]) -> bytes:
    """Return a wheel of these files, with the metadata of the course that is installed here."""
    try:
        here = metadata.distribution("advlearn")
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            "the learner's edition is made from the course that is installed, and none is. Run "
            "`pip install -e .` in its checkout."
        ) from error
    about = re.sub(r"^Version: .*$", f"Version: {VERSION}", here.read_text("METADATA") or "",
                   count=1, flags=re.M)  # fmt: skip
    info = f"advlearn-{VERSION}.dist-info"
    made = dict(files) | {
        f"{info}/METADATA": about.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: advlearn\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
        f"{info}/entry_points.txt": (here.read_text("entry_points.txt") or "").encode(),
        f"{info}/licenses/LICENSE": (here.read_text("licenses/LICENSE") or "").encode(),
    }
    rows = io.StringIO()
    record = csv.writer(rows, lineterminator="\n")
    for name, content in made.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        record.writerow([name, f"sha256={digest}", len(content)])
    record.writerow([f"{info}/RECORD", "", ""])
    made[f"{info}/RECORD"] = rows.getvalue().encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in made.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return whole.getvalue()
