"""The wheel: lessons and results travel inside it, and are found there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from advlearn.data import folders

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
TARGETS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"][
    "build"
]["targets"]
KINDS = ("weights", "results")


@pytest.mark.parametrize("kind", KINDS)
def test_the_wheel_puts_it_where_an_installed_package_looks(kind, tmp_path, monkeypatch):
    """`published` and pyproject.toml name the same folder."""
    assert TARGETS["wheel"]["force-include"][f"data/{kind}"] == f"advlearn/_published/{kind}"
    assert f"/data/{kind}" in TARGETS["sdist"]["include"], "a wheel is built from the sdist"
    package = tmp_path / "site-packages" / "advlearn"
    monkeypatch.setattr(folders, "PACKAGE", package)
    monkeypatch.setattr(folders, "CHECKOUT", package.parent)
    assert folders.published(kind) == package / "_published" / kind
    (tmp_path / "site-packages" / "notebooks").mkdir(parents=True)  # what makes it a checkout
    assert folders.published(kind) == tmp_path / "site-packages" / "data" / kind


def test_here_the_checkout_is_found():
    assert folders.published("weights") == ROOT / "data" / "weights"
    assert (ROOT / "data" / "weights" / "index.json").is_file()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy of what it is made of."""
    project = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    for name in ("advlearn", "notebooks", "data/weights", "data/results"):
        if (ROOT / name).exists():
            ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(ROOT / name, project / name, ignore=ignored)
    if not (project / "data" / "results").exists():
        (project / "data" / "results").mkdir()
        (project / "data" / "results" / "softmax.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(project / "dist")],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n-> pip install 'advlearn[test]'"
    (made,) = (project / "dist").glob("*.whl")
    return made


def test_the_wheel_holds_every_published_file_and_no_download(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for kind in KINDS:
        here = {path.name for path in (ROOT / "data" / kind).glob("*") if path.is_file()}
        inside = {Path(n).name for n in names if n.startswith(f"advlearn/_published/{kind}/")}
        assert here <= inside
        assert inside
    assert "advlearn/py.typed" in names
    assert not [name for name in names if "MNIST" in name or name.startswith(("tests", "data"))]
    assert wheel.stat().st_size < 30e6


def test_the_wheel_holds_every_lesson(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [Path(n) for n in archive.namelist() if n.startswith("advlearn/_published/note")]
    lessons = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {path.name for path in names} == lessons | {"colab.svg"}, "and not what makes them"
    assert {str(path.parent) for path in names} == {"advlearn/_published/notebooks"}
    assert "/notebooks" in TARGETS["sdist"]["include"], "a wheel is built from the sdist"


def test_an_installed_package_opens_its_lessons(wheel, tmp_path):
    """`pip install` and `advlearn lab`, in any folder, with no checkout."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "site" / "jupyterlab.py").write_text("import sys; print(sys.argv[1:])")
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "advlearn.cli", "lab", "--no-browser"],
        cwd=tmp_path / "here",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    mine = tmp_path / "here" / "my-lessons"
    assert done.stdout.strip() == str([str(mine / "00_start_here.ipynb"), "--no-browser"])
    assert (mine / "10_capstone.ipynb").read_bytes() == (
        ROOT / "notebooks" / "10_capstone.ipynb"
    ).read_bytes()


def test_an_editable_install_finds_the_checkout(tmp_path):
    """Renamed folders and editable installs do not go together, unless pyproject.toml helps."""
    done = subprocess.run(
        [sys.executable, "-c", EDITABLE, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".pth")]
        assert archive.read(path).decode().split() == [str(ROOT)]


EDITABLE = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"


def test_an_installed_package_loads_its_models(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import advlearn, torch;"
        "from advlearn.data import reference; from advlearn.reproduce import paper;"
        "print(advlearn.__file__, tuple(reference.load('softmax')(torch.zeros(1, 784)).shape));"
        "print(type(paper.result('softmax')).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == [
        f"{tmp_path / 'advlearn' / '__init__.py'} (1, 10)",
        "dict",
    ]
