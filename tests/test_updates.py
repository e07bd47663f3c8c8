"""A newer version of the course reaches a learner who works in notebooks/ itself.

On a JupyterHub nbgitpuller does the updating: it commits what the learner has, and merges. With
plain `git pull` the learner's edits stop the update, and README says what to do.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

pull = pytest.importorskip("nbgitpuller.pull")
ROOT = Path(__file__).resolve().parent.parent
LESSON = "notebooks/03_fgsm_linear_models.ipynb"


def git(folder, *words, check=True):
    who = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "init.defaultBranch=main"]
    command = ["git", *who, *words]
    return subprocess.run(command, cwd=folder, check=check, capture_output=True, text=True)


def sync(course, learner):
    list(pull.GitPuller(str(course), str(learner), branch="main").pull())


@pytest.fixture
def course(tmp_path):
    """The course in a repository, and a learner's folder made by nbgitpuller."""
    course = tmp_path / "course"
    (course / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / LESSON, course / LESSON)
    (course / "notebooks" / "10_capstone.ipynb").write_text("{}")
    shutil.copy(ROOT / ".gitattributes", course)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        git(course, *words)
    sync(course, tmp_path / "learner")
    return course


@pytest.fixture
def learner(course):
    return course.parent / "learner"


def solve(path, draw):
    """Answer every exercise, run some cells, add some: what a learner leaves in a lesson."""
    lesson = nbformat.read(path, as_version=4)
    for cell in [cell for cell in lesson.cells if cell.cell_type == "code"]:
        if ".check(" in cell.source:
            cell.source = "# mine\n" + cell.source
        if draw.random() < 0.5:
            cell.execution_count = draw.randrange(99)
            cell.outputs = cell.outputs[: draw.randrange(3)]
    for _ in range(draw.randrange(4)):
        lesson.cells.insert(draw.randrange(len(lesson.cells)), new_code_cell("print('own')"))
    nbformat.write(lesson, path)
    return sum("# mine" in cell.source for cell in lesson.cells)


def revise(path, draw):
    """Change the text, the outputs and the number of cells: a newer version."""
    lesson = nbformat.read(path, as_version=4)
    for cell in lesson.cells:
        if draw.random() < 0.4:
            cell.source = cell.source.replace("the", "a") + "\nmore"
        if cell.cell_type == "code" and draw.random() < 0.6:
            cell.outputs = [new_output("stream", text="other\n")] * draw.randrange(3)
    for _ in range(draw.randrange(4)):
        del lesson.cells[draw.randrange(len(lesson.cells))]
        lesson.cells.insert(draw.randrange(len(lesson.cells)), new_markdown_cell("new"))
    for number, cell in enumerate(lesson.cells):
        cell.id = f"cell-{number:02d}"
    nbformat.write(lesson, path)
    git(path.parent.parent, "commit", "-qam", "a newer version")


@pytest.mark.parametrize("seed", range(4))
def test_nbgitpuller_keeps_the_answers_and_a_whole_file(course, learner, seed):
    draw = random.Random(seed)
    count = solve(learner / LESSON, draw)
    before = nbformat.read(learner / LESSON, as_version=4)
    revise(course / LESSON, draw)
    sync(course, learner)
    assert count >= 3
    assert nbformat.read(learner / LESSON, as_version=4) == before
    sync(course, learner)  # and again, when nothing is new
    assert nbformat.read(learner / LESSON, as_version=4) == before


@pytest.mark.parametrize("guarded", [True, False], ids=["with attributes", "without"])
def test_line_by_line_a_merge_would_break_a_lesson(course, learner, guarded):
    """Why .gitattributes is there: the learner runs a cell that the author has made a text."""
    if not guarded:
        git(course, "rm", "-q", ".gitattributes")
    small = course / "notebooks" / "10_capstone.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 + 1", id="one")]), small)
    git(course, "commit", "-qam", "a small lesson")
    sync(course, learner)
    own = learner / "notebooks" / small.name
    lesson = nbformat.read(own, as_version=4)
    lesson.cells[0].execution_count = 3
    nbformat.write(lesson, own)
    nbformat.write(new_notebook(cells=[new_markdown_cell("Two.", id="one")]), small)
    git(course, "commit", "-qam", "a text")
    sync(course, learner)
    if guarded:
        assert nbformat.read(own, as_version=4) == lesson
    else:
        with pytest.raises(nbformat.ValidationError, match="'outputs' is a required property"):
            nbformat.validate(json.loads(own.read_text(encoding="utf-8")))


def test_nbgitpuller_updates_a_lesson_that_was_not_touched(course, learner):
    revise(course / LESSON, random.Random(0))
    sync(course, learner)
    assert (learner / LESSON).read_bytes() == (course / LESSON).read_bytes()


def test_a_renamed_lesson_makes_room_for_the_newer_one(course, learner):
    """What README tells a learner on a JupyterHub to do."""
    solve(learner / LESSON, random.Random(0))
    mine = (learner / LESSON).with_name("03 mine.ipynb")
    revise(course / LESSON, random.Random(1))
    sync(course, learner)
    (learner / LESSON).rename(mine)
    kept = mine.read_bytes()
    sync(course, learner)
    assert (learner / LESSON).read_bytes() == (course / LESSON).read_bytes()
    assert mine.read_bytes() == kept


def test_a_deleted_lesson_comes_back(course, learner):
    (learner / LESSON).unlink()
    sync(course, learner)
    assert (learner / LESSON).read_bytes() == (course / LESSON).read_bytes()


def test_a_file_of_ones_own_is_renamed_when_a_new_one_has_its_name(course, learner):
    (learner / "notebooks" / "04_new.ipynb").write_text("mine")
    (course / "notebooks" / "04_new.ipynb").write_text("the course's")
    git(course, "add", ".")
    git(course, "commit", "-qm", "a new lesson")
    sync(course, learner)
    assert (learner / "notebooks" / "04_new.ipynb").read_text() == "the course's"
    (other,) = (learner / "notebooks").glob("04_new_*.ipynb")
    assert other.read_text() == "mine"


def test_plain_git_refuses_and_readme_tells_the_way_out(course, learner):
    """git loses nothing, but does not update; the documented commands do both."""
    from advlearn.course import copies as lessons

    solve(learner / LESSON, random.Random(0))
    mine = nbformat.read(learner / LESSON, as_version=4)
    revise(course / LESSON, random.Random(1))
    refused = git(learner, "pull", check=False)
    assert refused.returncode != 0
    assert "would be overwritten" in refused.stderr
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"git refuses.*?\n\n```\n(.*?)```", page, re.S)[1]
    commands = [line.partition("#")[0].split() for line in shown.splitlines()]
    assert commands[0] == ["make", "lab"]
    lessons.refresh(learner / "notebooks", learner / "my-lessons")  # what `make lab` does first
    for command in commands[1:]:
        git(learner, *command[1:])
    assert (learner / LESSON).read_bytes() == (course / LESSON).read_bytes()
    lessons.refresh(learner / "notebooks", learner / "my-lessons")
    copy = learner / "my-lessons" / Path(LESSON).name
    assert nbformat.read(copy, as_version=4) == mine
    assert (learner / "my-lessons" / "03_(new)_fgsm_linear_models.ipynb").is_file()
