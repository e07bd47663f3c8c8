"""The layout: layers, what importing loads, and that the project's files agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "advlearn"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = sorted(PACKAGE.rglob("*.py"))


# --- Layers: pyproject.toml says who may import whom ----------------------------------------------


def linted(package: Path) -> subprocess.CompletedProcess[str]:
    """Hold a copy of the package, and not the installed one, against the project's layers."""
    return subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--no-cache",
            "--config",
            "pyproject.toml",
        ],
        cwd=package.parent,
        env=os.environ | {"PYTHONPATH": str(package.parent), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def package(tmp_path):
    """Return a copy of the package, to plant imports in."""
    shutil.copytree(PACKAGE, tmp_path / "advlearn", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path / "advlearn"


def test_every_module_imports_only_from_below():
    done = linted(PACKAGE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("losses.py", "from advlearn.metrics import predict"),
        ("losses.py", "from advlearn import attacks"),
        ("attacks.py", "def late():\n    import advlearn.data.loaders"),
        ("data/files.py", "from advlearn.course import session"),
        ("course/widgets.py", "from advlearn.reproduce import paper"),
        ("course/grading/quiz.py", "from advlearn.course.banks import lesson03"),
        ("arena/board.py", "from advlearn.course import glossary"),
        ("reproduce/paper.py", "from advlearn.reproduce.engine import run"),
        ("reproduce/paper.py", "from advlearn.cli import app"),
    ],
)
def test_an_import_upwards_or_across_is_seen(package, module, line):
    path = package / module
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    done = linted(package)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout


def test_a_module_without_a_layer_is_seen(package):
    (package / "stray.py").write_text('"""A module that no layer names."""\n')
    assert linted(package).returncode != 0


def test_no_module_has_an_empty_name():
    empty = {"utils", "util", "base", "helpers", "helper", "common", "misc"}
    assert not empty & {p.stem for p in ROOT.rglob("*.py") if ".venv" not in str(p)}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_is_light():
    heavy = {"matplotlib", "ipywidgets", "torchvision", "IPython", "mlxtend"}
    loaded = loaded_by("from advlearn import fgsm; import advlearn.training, advlearn.data")
    assert not heavy & loaded
    assert "torch" in loaded
    light = loaded_by("import advlearn, advlearn.cli.doctor")
    assert "torch" not in light, "the doctor must start without PyTorch"


def test_the_package_says_what_it_exports():
    import advlearn

    assert set(advlearn.__all__) == set(dir(advlearn))
    assert all(getattr(advlearn, name) is not None for name in advlearn.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fgsm2'"):
        advlearn.fgsm2  # noqa: B018
    assert advlearn.__version__ == PROJECT["version"]


# --- The project's files agree with each other ----------------------------------------------------


def conda_problems(environment: dict, project: dict) -> list[str]:
    """Compare environment.yml with pyproject.toml."""
    problems = []
    pins = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next((d["pip"] for d in environment["dependencies"] if isinstance(d, dict)), [])
    if environment.get("name") != project["name"]:
        problems.append("the environment has another name than the project")
    if "python=3.11" not in pins or "pip" not in pins:
        problems.append("python=3.11 or pip is missing")
    least = tuple(int(n) for n in project["requires-python"].removeprefix(">=").split("."))
    if least > (3, 11):
        problems.append("python=3.11 is older than the project needs")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (cpu,) = re.findall(r"--index-url (\S+)", makefile)
    if pip != [f"--extra-index-url {cpu}", "--editable .[lab]"]:
        problems.append("pip must install the project, and nothing that pyproject.toml does not")
    if len(pins) != 2:
        problems.append("packages belong into pyproject.toml")
    return problems


def test_the_conda_environment_is_that_of_pyproject():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert conda_problems(yaml.safe_load(text), PROJECT) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: advlearn", "name: other"),
        ("python=3.11", "python=3.9"),
        ("--editable .[lab]", "torch==2.4"),
        ("--editable .[lab]", "--editable ."),
        ("whl/cpu", "whl/cu130"),
        ("  - pip\n", "  - pip\n  - numpy\n"),
    ],
)
def test_another_conda_environment_would_be_seen(old, new):
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert old in text
    assert conda_problems(yaml.safe_load(text.replace(old, new)), PROJECT)


def test_no_dependency_is_pinned_exactly():
    extras = [d for group in PROJECT["optional-dependencies"].values() for d in group]
    assert not [d for d in PROJECT["dependencies"] + extras if "==" in d]


def test_the_address_stands_in_one_place():
    address = PROJECT["urls"]["Repository"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == address
    assert citation["version"] == PROJECT["version"]


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M).group(1).split()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"make {target}" in shown.stdout for target in phony)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "data/README.md"])
def test_links_inside_the_project_resolve(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
