"""The two editions: every solution right in one, none to be found in the other."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from advlearn.classroom import edition, sealing
from advlearn.cli.classes import app
from advlearn.course import banks
from advlearn.course.grading import evidence, sealed
from advlearn.course.grading.grader import Outcome
from advlearn.course.lessons import LESSONS
from advlearn.data.folders import CHECKOUT
from advlearn.exercises import all_exercises
from tests.test_answers import ANSWERS

EXERCISES = all_exercises()
LETTERS = 24  # from so many on a line of a solution is no everyday phrase

# Lessons 00 and 05 show the five lines of FGSM before they ask for an attack of one's own.
SHOWN_BY_THE_LESSON = {
    "x=x.clone().requires_grad_()",
    "gradient=torch.autograd.grad(loss,x)[0]",
    "gradient,=torch.autograd.grad(loss,x)",
    "return(x+step).clamp(0,1).detach()",
}


def squeezed(text: str) -> str:
    """Return a text without spaces, and with `(a,) =` as Python 3.11 writes it: `a, =`."""
    return re.sub(r"\((\w+),\)=", r"\1,=", re.sub(r"\s+", "", text))


def lines_of_solutions() -> dict[str, str]:
    """Return the telling lines of all solutions, squeezed: line -> exercise."""
    found = {}
    for exercise in EXERCISES:
        (function,) = ast.parse(exercise.source()).body
        for statement in function.body:
            for line in ast.unparse(statement).splitlines():
                if len(squeezed(line)) >= LETTERS:
                    found[squeezed(line)] = exercise.name
    return found


@pytest.fixture(scope="module")
def for_teachers(tmp_path_factory):
    out = tmp_path_factory.mktemp("editions") / "teacher"
    edition.instructor(out)
    return out


@pytest.fixture(scope="module")
def for_learners(tmp_path_factory):
    out = tmp_path_factory.mktemp("editions") / "learner"
    edition.learner(out)
    return out


@pytest.fixture(scope="module")
def installed(for_learners, tmp_path_factory):
    """Where the learner's wheel is unpacked."""
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(for_learners / edition.WHEEL) as wheel:
        wheel.extractall(place)
    return place


# --- The instructor's -----------------------------------------------------------------------------


def test_every_solution_of_the_instructor_s_edition_is_right(for_teachers: Path) -> None:
    """Graded as a class is: from the notebooks, in confined processes."""
    out = for_teachers.parent / "graded"
    done = subprocess.run(
        [sys.executable, "-m", "advlearn.cli", "class", "grade", str(for_teachers), "--workers",
         "1", "--out", str(out)],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = [json.loads(path.read_text()) for path in (out / ".work").glob("*.json")]
    marks = [mark for one in kept for mark in one["results"]]
    assert len(kept) == len(LESSONS)
    assert len(marks) == len(EXERCISES) >= 58
    assert {mark["outcome"] for mark in marks} == {"RIGHT"}, [
        (mark["lesson"], mark["exercise"], mark["feedback"])
        for mark in marks if mark["outcome"] != "RIGHT"
    ]  # fmt: skip


def test_it_has_slips_minutes_and_answers(for_teachers: Path) -> None:
    for lesson in LESSONS:
        notebook = json.loads((for_teachers / lesson.file).read_text(encoding="utf-8"))
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(ids) == len(set(ids))
        texts = {cell["id"]: cell["source"] for cell in notebook["cells"]}
        assert f"about {lesson.minutes} minutes" in texts["for-the-teacher"]
        for exercise in EXERCISES:
            if exercise.lesson != f"{lesson.number:02d}":
                continue
            slips = texts[f"slips-{exercise.name}"]
            assert f"{exercise.minutes} minutes, {len(exercise.wrong_answers)} common" in slips
            for wrong in exercise.wrong_answers:
                assert edition._safe(wrong.feedback) in slips
            for hint in exercise.hints:
                assert edition._safe(hint) in slips
        quiz = edition._bank(lesson).quiz
        right = [c for q in quiz.questions for c in q.choices if c.right]
        assert all(edition._safe(choice.text) in texts["answers"] for choice in right)


def test_text_is_not_read_as_markdown() -> None:
    assert edition._safe("a * b_c < `x * y` [1]$") == r"a \* b\_c &lt; `x * y` \[1\]\$"


@pytest.mark.editions
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_the_instructor_s_lesson_runs_with_every_exercise_right(lesson) -> None:
    notebook = edition._read(CHECKOUT / "notebooks" / lesson.file)
    edition.with_solutions(notebook, lesson)
    done = edition._executed(notebook, CHECKOUT / "notebooks")
    printed = "".join(
        edition.text_of(output["text"])
        for cell in done["cells"]
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream"
    )
    names = [one.name for one in EXERCISES if one.lesson == f"{lesson.number:02d}"]
    assert sorted(re.findall(r"^✓ Right: (\w+)$", printed, re.M)) == sorted(names)
    assert f"{len(names)} of {len(names)} exercises right" in printed


# --- The learner's: nothing to be found -----------------------------------------------------------


def readable(out: Path):
    """Give everything that somebody may read in a folder: files, and what is packed in them."""
    for path in sorted(out.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix != ".whl":
            yield path.name, content
            continue
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                content = wheel.read(name)
                yield name, content
                if name.endswith(sealed.SUFFIX):
                    yield f"{name}, unpacked", zlib.decompress(content)


def words(name: str, content: bytes) -> str:
    """Return the text of a file, of a notebook that of its cells and of what they printed."""
    if name.endswith(".ipynb"):
        notebook = json.loads(content)
        parts = [edition.text_of(cell["source"]) for cell in notebook["cells"]]
        parts += [json.dumps(cell.get("outputs", [])) for cell in notebook["cells"]]
        return "\n".join(parts)
    return content.decode("utf-8", "replace")


def test_no_line_of_a_solution_is_in_any_file_of_the_learner_s_edition(for_learners: Path) -> None:
    wanted = lines_of_solutions()
    assert len(wanted) >= len(EXERCISES)
    found: dict[str, set[str]] = {}
    count = 0
    for name, content in readable(for_learners):
        count += 1
        text = squeezed(words(name, content)).replace('\\"', '"')
        for line in wanted:
            if line in text:
                found.setdefault(line, set()).add(name)
    assert count > 150
    assert found.keys() == SHOWN_BY_THE_LESSON, found
    shown = {name for names in found.values() for name in names}
    assert {name.rsplit("/", 1)[-1] for name in shown} == {LESSONS[0].file, LESSONS[5].file}


def test_the_search_would_find_them(tmp_path: Path) -> None:
    """The course as it is published has every one of them."""
    wanted = lines_of_solutions()
    text = "".join(
        squeezed(path.read_text(encoding="utf-8").replace("#", "\n#"))
        for path in Path(banks.__path__[0]).glob("lesson*.py")
    )
    assert sum(line in text for line in wanted) > 0.4 * len(wanted)  # but for breaks and comments


def test_what_needs_solutions_is_not_in_it(installed: Path) -> None:
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*")}
    assert not [name for name in names if name.startswith("advlearn/classroom")]
    assert "advlearn/course/banks/lesson03.sealed" in names
    texts = "".join(
        (installed / f"advlearn/course/banks/lesson{lesson.number:02d}.py").read_text()
        for lesson in LESSONS
    )
    assert len(texts) < 4_000
    for lesson in LESSONS:
        path = installed / "advlearn/_published/notebooks" / lesson.file
        text = path.read_text(encoding="utf-8")
        assert "solution()" not in text
        assert "Open in Colab" not in text
        # The letters of a picture may be any.
        assert "git+" not in re.sub(r"[\w+/=]{500,}", "", text)


def learner_runs(installed: Path, script: str) -> str:
    """Run a script as a learner's Python would, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=600,
        cwd=installed, env=os.environ | {"PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


ASK = """
import inspect, advlearn
from advlearn.exercises import all_exercises
assert advlearn.__file__.startswith(PLACE), advlearn.__file__
for one in all_exercises():
    one.solution()
    for _ in range(len(one.hints) + 1):
        one.hint()
    print(one, repr(one.reference), vars(one))
    for attempt in (one.source, lambda: inspect.getsource(one.reference), lambda: [
        inspect.getsource(one.reference._door)]):
        try:
            print("FOUND", attempt())
        except (ValueError, TypeError, OSError) as error:
            print(error)
    one.check(one.reference)
"""


def test_nothing_that_a_learner_may_call_prints_one(installed: Path) -> None:
    printed = learner_runs(installed, f"PLACE = {str(installed)!r}\n{ASK}")
    assert printed.count(sealed.CLOSED) >= 3 * len(EXERCISES)
    assert printed.count(sealed.NOT_YOURS) == len(EXERCISES)
    assert "FOUND" not in printed
    assert "Right" not in printed
    text = squeezed(printed)
    assert not {line for line in lines_of_solutions() if line in text}
    done = subprocess.run(
        [sys.executable, "-m", "advlearn.cli", "class", "grade", "."], capture_output=True,
        text=True, check=False, cwd=installed, env=os.environ | {"PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "not in the learner's edition" in done.stderr


# --- The learner's: everything works --------------------------------------------------------------


@pytest.fixture(scope="module")
def closed_banks(installed: Path) -> dict[tuple[str, str], sealed.Recorded]:
    """The exercises of the learner's edition, in this process: (lesson, name) -> exercise."""
    found = {}
    for lesson in LESSONS:
        number = f"{lesson.number:02d}"
        file = installed / f"advlearn/course/banks/lesson{number}.py"
        held = sealed.opened(f"advlearn.course.banks.lesson{number}", str(file))
        found |= {(number, one.name): one for one in held["EXERCISES"]}
        real = edition._bank(lesson)
        assert held["quiz"] == real.quiz
        assert [one.name for one in held["EXERCISES"]] == [one.name for one in real.EXERCISES]
    return found


def detached(result):
    if isinstance(result, tuple):
        return tuple(map(detached, result))
    return result.detach() if isinstance(result, torch.Tensor) else result


def answers(exercise):
    yield exercise.reference
    yield from exercise.right_answers
    yield from (wrong.answer for wrong in exercise.wrong_answers)
    yield lambda *args: detached(exercise.reference(*args))  # a loss has no gradient any more
    yield lambda *args: None
    yield lambda *args: [0.5] * 3
    yield lambda *args: torch.zeros(3)
    yield lambda *args: 1 / 0
    key = f"{exercise.lesson}.{exercise.name}"
    yield from (answer for name, _, answer in ANSWERS if name == key)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: f"{e.lesson}-{e.name}")
def test_a_check_says_the_same_without_the_solution(exercise, closed_banks) -> None:
    closed = closed_banks[exercise.lesson, exercise.name]
    assert str(closed) == str(exercise)
    for field in ("takeaway", "asks", "rtol", "atol", "minutes", "difficulty"):
        assert getattr(closed, field) == getattr(exercise, field)
    for answer in answers(exercise):
        assert closed.grade(answer) == exercise.grade(answer)
    assert closed.grade(exercise.reference).outcome is Outcome.RIGHT


def test_a_lesson_that_goes_on_with_our_solution_gets_the_same(closed_banks) -> None:
    doors = 0
    for exercise in EXERCISES:
        closed = closed_banks[exercise.lesson, exercise.name].reference
        if closed._door is None:
            with pytest.raises(RuntimeError, match="for you to write"):
                closed(1)
            continue
        doors += 1
        for args in exercise.inputs(torch.Generator().manual_seed(5)):
            one, other = evidence.copy_arguments(args), evidence.copy_arguments(args)
            assert sealing._same(closed(*one), exercise.reference(*other)), exercise.name
        assert not {"x", "y", "model", "logits"} & set(closed._door.__code__.co_varnames)
    assert doors == 19


@pytest.mark.editions
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_the_learner_s_lesson_prints_what_the_published_one_prints(lesson, installed) -> None:
    script = f"""
import json, nbformat, sys
from pathlib import Path
from nbclient import NotebookClient
path = Path({str(installed)!r}) / "advlearn/_published/notebooks/{lesson.file}"
notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
before = [json.dumps(cell.get("outputs", [])) for cell in notebook.cells]
place = {{"metadata": {{"path": str(path.parent)}}}}
NotebookClient(notebook, timeout=600, resources=place).execute()
def text(outputs):
    return "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
for cell, old in zip(notebook.cells, before):
    if "nbval-check-output" in cell.metadata.get("tags", []):
        assert text(cell.outputs) == text(json.loads(old)), cell.source
print("alike")
"""
    assert learner_runs(installed, script).endswith("alike\n")


# --- What is refused ------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for kind in ("instructor", "learner"):
        done = CliRunner().invoke(app, ["edition", kind, str(tmp_path)])
        assert done.exit_code == 1
        assert "not an empty folder" in " ".join(done.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_address_is_one(tmp_path: Path, for_learners: Path) -> None:
    done = CliRunner().invoke(app, ["edition", "learner", str(tmp_path / "x"), "--address", "here"])
    assert done.exit_code == 1
    assert "is not the address of a wheel" in done.output
    for course, words in (
        (edition.WHEEL, f'course = "{edition.WHEEL}"'),
        ("https://a.b/c.whl", 'course = "advlearn @ https://a.b/c.whl"'),
    ):
        notebook = edition._read(CHECKOUT / "notebooks" / LESSONS[3].file)
        edition.without_solutions(notebook, course)
        (setup,) = [c for c in notebook["cells"] if "setup" in c["metadata"].get("tags", [])]
        assert words in setup["source"]
        compile(setup["source"], "setup", "exec")


SOURCE = """
import torch
from advlearn.course.grading import Exercise, rule

def _twice(x):
    return 2 * x

@rule("no")
def _is_twice(args, output):
    return output == _twice(args[0])

twice = Exercise(name="twice", reference=_twice, inputs=lambda generator: [(1,)],
                 properties=(_is_twice,))
"""


def test_a_rule_that_needs_a_solution_is_not_sealed() -> None:
    with pytest.raises(ValueError, match="needs the solution of twice"):
        sealing.code(SOURCE, set())
    space: dict[str, object] = {}
    exec(compile(sealed.tree(sealing.code(SOURCE, {"twice"})), "x", "exec"), space)
    assert space["made"]["twice"][2](3) == 6
