"""The course goes through nbgrader: release, fetch, submit, collect, autograde, feedback, export.

What is checked are the points in nbgrader's export, for every kind of submission of `kinds.py`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from advlearn.classroom.nbgrader import course
from advlearn.data.folders import CHECKOUT
from tests.nbgrader.kinds import EXPECTED, KINDS, cell, solved

pytestmark = pytest.mark.nbgrader

LESSON = "03_fgsm_linear_models"
# In a process of its own: this one has the solutions.
GRADE = """
import json, sys
from pathlib import Path
from advlearn.classroom.grade import grade_class
grades = grade_class(Path(sys.argv[1]), Path(sys.argv[2]), workers=1)
points = {learner: [mark.points("half") for mark in grades.of(learner, "03")]
          for learner in grades.marks}
print(json.dumps({learner: sum(one or 0 for one in each) for learner, each in points.items()}))
"""


class Course:
    """A course in a folder, with an exchange beside it."""

    def __init__(self, folder: Path, way: str, notebooks: Path | None = None) -> None:
        self.way, self.home, self.root = way, folder / "home", folder / "course"
        self.exchange = folder / "exchange"
        self.home.mkdir(parents=True)
        self.exchange.mkdir()
        self.exchange.chmod(0o777)
        course.write(self.root, rule="half", lessons=["03"], notebooks=notebooks)
        config = self.root / "nbgrader_config.py"
        if way == "kernel":
            text = config.read_text(encoding="utf-8")
            config.write_text(text.replace("# A name for", 'GRADE = "kernel"\n# A name for'))

    def run(self, *words: str, place: Path | None = None, fails: bool = False) -> str:
        """Run a command of nbgrader, and return what it said."""
        command = [sys.executable, "-m", "nbgrader", *words, f"--Exchange.root={self.exchange}"]
        beside = str(Path(sys.executable).parent)  # nbgrader calls alembic by its name alone
        around = os.environ | {"PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
        around |= {"HOME": str(self.home), "PYTHONPATH": str(CHECKOUT)}
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
            around[name] = str(self.home / name.lower())
        done = subprocess.run(
            command, cwd=place or self.root, env=around, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert fails or done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def release(self) -> dict:
        """Generate and release the lesson, fetch it as a learner does, and return it."""
        self.run("generate_assignment", LESSON)
        self.run("release_assignment", LESSON)
        place = self.home / "learner"
        place.mkdir()
        self.run("fetch_assignment", LESSON, "--course", "advlearn", place=place)
        return json.loads((place / LESSON / f"{LESSON}.ipynb").read_text(encoding="utf-8"))

    def submit(self, learner: str, notebook: dict, name: str = LESSON) -> None:
        """Hand a notebook in."""
        place = self.home / f"of-{learner}" / LESSON
        place.mkdir(parents=True)
        (place / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        self.run("submit", LESSON, "--course", "advlearn", f"--student={learner}",
                 place=place.parent)  # fmt: skip

    def put(self, learner: str, notebook: dict) -> None:
        """Put a notebook where `collect` would put it."""
        place = self.root / "submitted" / learner / LESSON
        place.mkdir(parents=True)
        (place / f"{LESSON}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")

    def grade(self) -> str:
        """Collect and grade."""
        self.run("collect", LESSON)
        return self.run("autograde", LESSON, fails=True)

    def points(self) -> dict[str, float]:
        """Return learner -> points of nbgrader's export."""
        self.run("export", "--to", "grades.csv")
        with (self.root / "grades.csv").open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["assignment"] == LESSON]
        return {row["student_id"]: float(row["score"] or "nan") for row in rows}


def short(tmp_path: Path) -> Path:
    """Return a folder with lesson 03, of it the set-up and the exercises only: seconds to run."""
    folder = tmp_path / "short"
    folder.mkdir()
    whole = json.loads((CHECKOUT / "notebooks" / f"{LESSON}.ipynb").read_text(encoding="utf-8"))
    kept = []
    for one in whole["cells"]:
        source = "".join(one["source"])
        if "setup" in one["metadata"].get("tags", []) or ".check(" in source:
            kept.append(one)
        elif "import torch\n" in source and one["cell_type"] == "code":
            kept.append({**one, "source": "import torch"})
    (folder / f"{LESSON}.ipynb").write_text(json.dumps({**whole, "cells": kept}))
    return folder


@pytest.fixture(scope="module", params=["outside", "kernel"])
def graded(request, tmp_path_factory):
    """Take every kind through nbgrader in one way."""
    folder = tmp_path_factory.mktemp(request.param)
    one = Course(folder, request.param, short(folder))
    released = one.release()
    for learner, kind in KINDS.items():
        notebook = solved(released)
        kind.change(notebook)
        if learner in {"right", "wrong"}:  # a command of nbgrader takes seconds
            one.submit(learner, notebook)
        elif learner == "renamed":
            one.submit(learner, notebook, f"{LESSON} (1)")
        else:
            one.put(learner, notebook)
    said = one.grade()
    (folder / "autograde.log").write_text(said, encoding="utf-8")
    return one, released, said


def test_the_points_are_those_that_the_table_promises(graded):
    one, _, said = graded
    found = one.points()
    expected = {learner: EXPECTED[learner][one.way] for learner in KINDS}
    assert found == expected, said[-6000:]


def test_the_release_holds_no_solution(graded):
    _, released, _ = graded
    text = json.dumps(released)
    assert "BEGIN SOLUTION" not in text
    assert "gradient.sign()).clamp" not in text
    stub = cell(released, "fgsm_step")["source"]
    assert "".join(stub).startswith("def fgsm_step(x, gradient, eps):\n    ...  # your code\n")


def test_learners_get_feedback(graded):
    one, _, _ = graded
    one.run("generate_feedback", LESSON)
    # At a notebook that was put by hand nbgrader stops, and nobody after it gets feedback.
    assert "FileNotFoundError" in one.run("release_feedback", LESSON, fails=True)
    one.run("release_feedback", LESSON, "--student=wrong")
    page = (one.root / "feedback" / "wrong" / LESSON / f"{LESSON}.html").read_text("utf-8")
    assert "fgsm_step: wrong" in page
    assert "4.5" in page
    assert list((one.exchange / "advlearn" / "feedback").glob("*.html"))


def test_class_grade_gives_what_a_person_would(graded, tmp_path):
    one, _, _ = graded
    command = [sys.executable, "-c", GRADE, str(one.root / "submitted"), str(tmp_path / "store")]
    found = json.loads(subprocess.check_output(command, env=os.environ, cwd=CHECKOUT))
    assert found == {learner: kind.fair for learner, kind in KINDS.items()}


@pytest.mark.parametrize("way", ["outside", "kernel"])
def test_a_whole_lesson_goes_through(tmp_path, way):
    """The lesson as it is, with text, training and pictures; and a platform's names."""
    one = Course(tmp_path, way)
    released = one.release()
    place = one.root / "downloaded" / LESSON / "archive"
    place.mkdir(parents=True)
    with zipfile.ZipFile(place / "class.zip", "w") as archive:
        for name, notebook in (("Kim Minji", solved(released)), ("Lee Sora", released)):
            archive.writestr(
                f"{name}_1234567_assignsubmission_file_/{LESSON} (1).ipynb", json.dumps(notebook)
            )
    one.run("zip_collect", LESSON)
    said = one.run("autograde", LESSON)
    assert one.points() == {"Kim Minji": 5.0, "Lee Sora": 0.0}, said[-4000:]


def test_outside_no_learner_reaches_the_grade_book(tmp_path):
    """A cell that writes into the grade book is not run; in a kernel it would be."""
    one = Course(tmp_path, "outside", short(tmp_path))
    released = one.release()
    book = one.root / "gradebook.db"
    hostile = solved(released)
    write = f"import sqlite3\nbook = sqlite3.connect({str(book)!r})\n"
    write += "book.execute('update grade set auto_score = 0')\nbook.commit()"
    cell(hostile, "fgsm_step")["source"] = write
    one.put("a-learner", solved(released))
    one.put("b-hostile", hostile)
    one.run("autograde", LESSON)
    assert one.points() == {"a-learner": 5.0, "b-hostile": 4.0}
    with sqlite3.connect(book) as held:
        assert held.execute("select count(*) from grade where auto_score = 0").fetchone() == (1,)


def test_a_changed_worth_of_an_exercise_counts(tmp_path):
    """A teacher may give an exercise more points, in the cell's toolbar."""
    for way in ("outside", "kernel"):
        one = Course(tmp_path / way, way, short(tmp_path) if way == "outside" else
                     tmp_path / "short")  # fmt: skip
        path = one.root / "source" / LESSON / f"{LESSON}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cell(notebook, "fgsm_step-points")["metadata"]["nbgrader"]["points"] = 4
        path.write_text(json.dumps(notebook), encoding="utf-8")
        released = one.release()
        wrong = solved(released)
        KINDS["wrong"].change(wrong)
        one.put("wrong", wrong)
        one.put("right", solved(released))
        one.run("autograde", LESSON)
        assert one.points() == {"wrong": 6.0, "right": 8.0}
        shutil.rmtree(one.root)
