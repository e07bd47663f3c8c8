"""The bounds of pyproject.toml, and the script that tries them: its quick parts."""

from __future__ import annotations

import sys

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests import bounds, environments
from tests.environments import BUILD, PROJECT, ROOT, declared, interpreter, lowest

EVERY = [
    Requirement(text)
    for texts in [
        PROJECT["dependencies"],
        BUILD["requires"],
        *PROJECT["optional-dependencies"].values(),
    ]
    for text in texts
]


@pytest.mark.parametrize("need", EVERY, ids=str)
def test_each_requirement_has_a_lowest_version(need):
    assert need.name == PROJECT["name"] or lowest(need.specifier)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (">=3.8", "3.8"),
        (">=3.8,<4,!=3.9", "3.8"),
        ("~=1.4.2", "1.4.2"),
        (">=1,>=2.10,>=2.9", "2.10"),
    ],
)
def test_the_lowest_version_is_found(text, version):
    assert lowest(SpecifierSet(text)) == Version(version)


@pytest.mark.parametrize("text", ["", "<4", "!=3.9", ">3"])
def test_a_bound_without_a_lowest_version_is_refused(text):
    with pytest.raises(ValueError, match=r"names no lowest version. Write it as >=1.2"):
        lowest(SpecifierSet(text))


def test_extras_are_followed_and_markers_obeyed():
    project = {
        "name": "course",
        "dependencies": ["torch>=2.4"],
        "optional-dependencies": {
            "lab": ["jupyterlab>=4", "torch>=2.4"],
            "test": ["course[lab]", "tomli>=2; python_version < '3.11'"],
        },
    }

    def names(python, *extras):
        return [need.name for need in declared(extras, python, project)]

    assert names("3.10") == ["torch"]
    assert names("3.10", "lab") == ["torch", "jupyterlab"], "each once"
    assert names("3.10", "test") == ["torch", "jupyterlab", "tomli"]
    assert names("3.13", "test") == ["torch", "jupyterlab"], "3.13 is more than 3.11"
    with pytest.raises(KeyError, match="docs"):
        names("3.10", "docs")


def test_pyproject_names_the_pythons():
    assert bounds.python_of("oldest") == "3.10"
    assert Version(bounds.python_of("newest")) >= Version("3.13"), "3.9 is not more than 3.13"


def test_what_runs_there_exists():
    """What is left out too: a name that has changed would leave out nothing."""
    for name in bounds.ELSEWHERE:
        path, _, function = name.partition("::")
        assert (ROOT / path).exists()
        assert not function or f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")
    assert len(bounds.lessons()) == len(bounds.LESSONS) == 3


def test_a_python_that_is_missing_is_named_with_what_helps(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.delenv("PYTHON_OLDEST", raising=False)
    words = r"No Python 3\.10 .*make test-oldest PYTHON_OLDEST=/path/to/python3\.10"
    with pytest.raises(SystemExit, match=words):
        bounds.make("oldest")
    monkeypatch.setenv("PYTHON_OLDEST", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match=r"PYTHON_OLDEST=.*python does not run"):
        bounds.make("oldest")


def test_another_python_than_the_lowest_is_refused(monkeypatch):
    monkeypatch.setenv("PYTHON_OLDEST", sys.executable)
    monkeypatch.setattr(bounds, "version_of", lambda python: "3.12.1")
    with pytest.raises(SystemExit, match=r"is Python 3\.12\.1\. Name a Python 3\.10\."):
        bounds.make("oldest")


def test_a_python_is_found_on_the_path_or_among_those_of_pyenv(monkeypatch, tmp_path):
    """pyenv's own `python3.10` on the path may only say that none is chosen."""
    path, pyenv = tmp_path / "path", tmp_path / "pyenv"
    real = pyenv / "versions" / "3.10.4" / "bin" / "python"
    for file in (path / "python3.10", real, pyenv / "versions" / "3.1.5" / "bin" / "python"):
        file.parent.mkdir(parents=True)
        file.write_text("#!/bin/sh\nexit 0\n")
        file.chmod(0o755)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("PYENV_ROOT", str(pyenv))
    monkeypatch.delenv("ONE", raising=False)
    assert interpreter("3.10", "ONE") == "python3.10"
    (path / "python3.10").write_text("#!/bin/sh\nexit 127\n")
    assert interpreter("3.10", "ONE") == str(real)
    assert interpreter("3.12", "ONE") is None
    monkeypatch.setenv("ONE", str(real))
    assert interpreter("3.12", "ONE") == str(real), "named by hand"


def test_the_lowest_of_everything_is_asked_for(monkeypatch, tmp_path):
    """Of the course, of its tests, and of what builds it: that one apart from the rest."""
    asked = []

    def pip(self, *words, variables=None):
        asked.append((words, variables))
        return "[]"

    monkeypatch.setattr(environments.Environment, "pip", pip)
    monkeypatch.setattr(bounds, "ROOT", tmp_path)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(bounds, "python_of", lambda end: python)
    monkeypatch.setenv("PYTHON_OLDEST", sys.executable)
    bounds.make("oldest")
    installs = [words for words, _ in asked if words[0] == "install"]
    needs = declared(bounds.EXTRAS, python)
    assert {"torch", "jupyterlab", "distributed", "pytest"} <= {need.name for need in needs}
    assert [f"{need.name}=={lowest(need.specifier)}" for need in needs] == list(installs[0][2:])
    assert installs[1][2] == "--target"
    assert installs[1][4].startswith("hatchling==")
    assert "--editable" in installs[2]
    assert asked[-2][1] == {"PYTHONPATH": installs[1][3]}
    assert asked[-1][0] == ("check",)
