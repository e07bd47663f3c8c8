"""The set-up cell, run as its learner runs it: in a real kernel, with and without the course."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import time
import venv
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

import advlearn
from advlearn.course import notebooks
from advlearn.course import session as runtime
from tests.lesson_rules import CHECKED, LESSONS, ROOT, code, read, tags

SETUP = notebooks.setup_cell(LESSONS[3].name)
ADDRESS = notebooks.ADDRESS
UNWRITABLE = Path("/proc")  # where nobody may write, root included
# Hide the course, wherever it is installed, and forbid pip the network.
HIDE = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "advlearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def run(*sources, folder, settings=None):
    """Run cells in a fresh kernel and return them."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | (settings or {})
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute(env=environment)
    return notebook.cells


def printed(cell):
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


def test_it_is_the_same_when_run_twice(tmp_path):
    draw = "import torch; print(float(torch.rand(1)))"
    cells = run(SETUP, draw, SETUP, draw, folder=tmp_path)
    assert printed(cells[0]) == printed(cells[2]) == "Ready.\n"
    assert printed(cells[1]) == printed(cells[3]), "it seeds each time"
    assert list(tmp_path.iterdir()) == []
    shown = [o.data["text/html"] for o in cells[0].outputs if "data" in o]
    assert len(shown) == 1
    assert f'class="{runtime.PAGE}"' in shown[0]
    notebook = new_notebook(cells=cells[:1])
    notebooks.normalise(notebook)
    assert [o.output_type for o in notebook.cells[0].outputs] == ["stream"], "not published"


@pytest.mark.skipif(not UNWRITABLE.is_dir(), reason="no folder that nobody may write")
def test_it_needs_no_folder_to_write_in():
    with pytest.raises(OSError, match=r"proc"):
        (UNWRITABLE / "a").write_text("")
    (cell,) = run(SETUP, folder=UNWRITABLE)
    assert printed(cell) == "Ready.\n"


def test_without_course_and_network_it_names_the_remedy(tmp_path):
    """No traceback of pip, one error, and fast."""
    closed = f"file://{tmp_path}/nothing"
    settings = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{closed}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
        "PIP_NO_INDEX": "1",
    }
    started = time.perf_counter()
    with pytest.raises(CellExecutionError) as caught:
        run(HIDE, SETUP, folder=tmp_path, settings=settings)
    error = caught.value
    assert error.ename == "ModuleNotFoundError"
    assert "pip cannot install the course. Is there a network?" in error.evalue
    assert "`make lab` or `advlearn lab`" in error.evalue
    assert len(error.evalue) < 700
    assert error.traceback.count("Traceback (most recent call last)") == 1
    assert "During handling" not in error.traceback, "one error, not one behind another"
    assert time.perf_counter() - started < 60


@pytest.fixture
def bare(tmp_path):
    """A Python with pip, without the course, that has this environment's other packages."""
    folder = tmp_path / "bare"
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    inside = Path(subprocess.check_output([python, "-c", find], text=True).strip())
    # Not a .pth file: with one, the editable course of this environment would come along.
    packages = Path(importlib.util.find_spec("torch").origin).parent.parent
    (inside / "others.pth").write_text(f"import sys; sys.path.append({str(packages)!r})\n")
    return python, inside


def program(python, source, folder, settings):
    """Run a cell's text as a program, as a notebook without IPython would."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | settings
    command = [str(python), "-c", source]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def public(tmp_path):
    """A small course of this name at the public address, as far as git can tell."""
    folder = tmp_path / "public"
    (folder / "advlearn" / "course").mkdir(parents=True)
    (folder / "advlearn" / "__init__.py").write_text('__version__ = "99.0"\n')
    (folder / "advlearn" / "course" / "session.py").write_text(
        "def set_up(version): print('Ready.')\n"
    )
    (folder / "advlearn" / "exercises.py").write_text("lesson03 = None\n")
    # Its own build backend, so that pip needs no index.
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    who = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
        "PIP_NO_INDEX": "1",
    }


BACKEND = """
import pathlib, zipfile
META = "Metadata-Version: 2.1\\nName: advlearn\\nVersion: 99.0\\n"
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "advlearn-99.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        for path in pathlib.Path("advlearn").rglob("*.py"):
            wheel.write(path)
        tag = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("advlearn-99.0.dist-info/METADATA", META)
        wheel.writestr("advlearn-99.0.dist-info/WHEEL", tag)
        wheel.writestr("advlearn-99.0.dist-info/RECORD", "")
    return name
"""


@pytest.mark.parametrize("clone", [False, True], ids=["", "beside a folder of its name"])
def test_where_the_course_is_missing_it_is_installed_and_the_cell_goes_on(
    bare, public, tmp_path, clone
):
    """Also where a clone named advlearn lies in the folder: Python takes it for a package."""
    python, inside = bare
    if clone:
        (tmp_path / "advlearn" / "notebooks").mkdir(parents=True)
    first = program(python, SETUP, tmp_path, public)
    assert first.returncode == 0, first.stderr
    assert first.stdout == "Installing the course. This takes a minute.\nReady.\n"
    assert first.stderr == ""
    assert (inside / "advlearn" / "course" / "session.py").is_file()
    second = program(python, SETUP, tmp_path, public | {"GIT_CONFIG_VALUE_0": "nowhere"})
    assert second.stdout == "Ready.\n", "the second time needs no network"


def test_a_course_that_is_too_old_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(advlearn, "__version__", "0.0.9")
    with pytest.raises(ImportError) as caught:
        exec(compile(SETUP, "set-up", "exec"), {})
    words = str(caught.value)
    assert f"this lesson needs advlearn {notebooks.PROJECT['project']['version']} or newer" in words
    assert "0.0.9 is installed" in words
    assert "`git pull`" in words
    assert "`%pip uninstall -y advlearn`" in words
    assert "Restart the kernel" in words.replace("restart", "Restart")


@pytest.mark.parametrize(
    ("here", "wanted", "enough"),
    [
        ("0.1.0", "0.1.0", True),
        ("0.10.0", "0.9.1", True),
        ("0.9.1", "0.10.0", False),
        ("1.0.0rc1", "0.9", True),
        ("0.1.0.dev3", "0.1.0", False),
        ("2.4.0rc1", "2.4", False),
        ("2.4.0+cpu", "2.4", True),
        ("0.1", "0.1.0", True),
        ("0.1", "0.1.1", False),
    ],
)
def test_versions_are_compared_as_pip_compares_them(monkeypatch, here, wanted, enough):
    monkeypatch.setattr(advlearn, "__version__", here)
    if enough:
        runtime.require(wanted)
    else:
        with pytest.raises(ImportError, match=f"needs advlearn {wanted}"):
            runtime.require(wanted)


# --- The device -----------------------------------------------------------------------------------


def device_names(source):
    """Name what a cell's text calls `device`, reads and writes alike."""
    return [n.id for n in ast.walk(ast.parse(source)) if getattr(n, "id", "") == "device"]


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_no_checked_result_depends_on_the_device(path):
    """What is computed with `device` stays in its own cell, and that cell is not checked."""
    for cell in code(read(path)):
        if "setup" not in tags(cell) and device_names(cell.source):
            assert CHECKED not in tags(cell)
            kept = {n.id for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Name)}
            assert "TRAIN_BOTH" in kept, "only what a switch starts runs on the GPU"


def test_the_rule_sees_a_device():
    assert device_names("model.to(device)") == ["device"]
    assert device_names("print('device')") == []


def test_the_set_up_cell_takes_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for works in (True, False):
        monkeypatch.setattr(runtime, "_computes", lambda name, works=works: works)
        names = {}
        exec(compile(SETUP, "set-up", "exec"), names)
        assert names["device"] == torch.device("cuda" if works else "cpu")


# --- One constant ---------------------------------------------------------------------------------


def test_badge_and_cell_follow_the_address(monkeypatch):
    monkeypatch.setattr(notebooks, "ADDRESS", "https://github.com/someone/else")
    assert "/github/someone/else/blob/main/notebooks/03.ipynb)" in notebooks.badge("03.ipynb")
    assert (
        "gh/someone/else/main?urlpath=lab/tree/notebooks/00_start_here.ipynb)" in notebooks.binder()
    )
    assert SETUP.count(ADDRESS) == 1
    cells = {path.name: notebooks.setup_cell(path.name) for path in LESSONS}
    texts = {text.replace(f"lesson{name[:2]}", "lesson") for name, text in cells.items()}
    assert len(texts) == 1, "one text, but for the number"
    assert "exercises" not in notebooks.setup_cell("own_model.ipynb")
    assert json.dumps(ADDRESS)[1:-1] == ADDRESS


def test_the_cell_fits_a_screen_and_is_plain_python():
    ast.parse(SETUP)  # no magic: it runs where IPython's `%pip` is another one, or none
    assert len(SETUP.splitlines()) <= 25
    assert max(map(len, SETUP.splitlines())) <= 100


def test_filling_writes_the_cell_and_keeps_the_outputs(tmp_path, monkeypatch):
    lesson = read(LESSONS[3])
    before = [cell.get("outputs") for cell in lesson.cells]
    code(lesson)[0].source = "old"
    nbformat.write(lesson, tmp_path / LESSONS[3].name)
    shutil.copy(notebooks.README, tmp_path)
    monkeypatch.setattr(notebooks, "HERE", tmp_path)
    monkeypatch.setattr(notebooks, "README", tmp_path / "README.md")
    monkeypatch.setattr(notebooks, "run", lambda notebook: pytest.fail("a cell was run"))
    assert notebooks.main(["--fill"]) == 0
    filled = read(tmp_path / LESSONS[3].name)
    assert code(filled)[0].source == SETUP
    assert [cell.get("outputs") for cell in filled.cells] == before
