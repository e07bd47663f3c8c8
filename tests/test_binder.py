"""repo2docker's rules, by which Binder builds this repository.

It takes the first kind of configuration that it finds, in the order of `STRONGER`; an
environment.yml at the root counts when there is none of the stronger ones. Packages from the
repository itself must stand there as a local pip requirement: then the whole repository is copied
before they are installed.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from advlearn.course import notebooks
from tests.lesson_rules import ROOT

# What repo2docker would use instead of, or before, environment.yml.
STRONGER = ("binder", ".binder", "Dockerfile", "Project.toml", "REQUIRE", "default.nix",
            "DESCRIPTION", "install.R")  # fmt: skip
FROZEN = {"3.10", "3.11", "3.12"}  # Pythons for which it has a base environment


def problems(root, environment):
    """Name what would make Binder build something else."""
    problems = [
        f"{name} comes before environment.yml" for name in STRONGER if (root / name).exists()
    ]
    lines = next((d["pip"] for d in environment["dependencies"] if isinstance(d, dict)), [])
    local = [re.search(r"^(?:-e|--editable) (\.[^ ]*)$", line) for line in lines]
    if not any(local):
        problems.append("the course is not installed from the repository")
    python = [d for d in environment["dependencies"] if str(d).startswith("python=")]
    if [d.removeprefix("python=") in FROZEN for d in python] != [True]:
        problems.append(f"no base environment for {python}")
    if not any(match and "[lab]" in match[1] for match in local):
        problems.append("JupyterLab is not asked for")
    return problems


@pytest.fixture
def environment():
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_binder_builds_the_course(environment):
    assert problems(ROOT, environment) == []


@pytest.mark.parametrize("name", STRONGER)
def test_a_stronger_configuration_would_be_seen(tmp_path, environment, name):
    (tmp_path / name).mkdir()
    assert problems(tmp_path, environment)


@pytest.mark.parametrize(
    ("place", "value"),
    [(-1, {"pip": ["advlearn"]}), (-1, {"pip": ["--editable ."]}), (0, "python=3.5"), (0, "numpy")],
)
def test_another_environment_would_be_seen(tmp_path, environment, place, value):
    environment["dependencies"][place] = value
    assert problems(tmp_path, environment)


def test_the_badge_opens_jupyterlab_at_the_first_lesson():
    badge = notebooks.binder()
    link = urlsplit(re.search(r"\]\((https://mybinder\.org/v2/[^)]+)\)$", badge)[1])
    owner_and_name = notebooks.ADDRESS.removeprefix("https://github.com/")
    assert link.path == f"/v2/gh/{owner_and_name}/main"
    (place,) = parse_qs(link.query)["urlpath"]
    assert place.startswith("lab/tree/")
    assert (ROOT / place.removeprefix("lab/tree/")).is_file()


def test_the_readme_shows_that_badge():
    assert notebooks.binder() in (ROOT / "README.md").read_text(encoding="utf-8")
