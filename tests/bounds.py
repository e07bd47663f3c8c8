"""Try the bounds that pyproject.toml declares: `make test-oldest` and `make test-newest`.

"oldest" makes `.venv-oldest`: the lowest Python that pyproject.toml allows, with the lowest version
of all that it declares for the course and for its tests, even of what builds the package. "newest"
makes `.venv-newest`: the highest Python that it names, with the newest version of everything. All
of that is read from pyproject.toml. Then the tests and three lessons run there.

    python -m tests.bounds oldest
    python -m tests.bounds newest

PYTHON_OLDEST and PYTHON_NEWEST name the interpreter; by default one of the right version is looked
for on the path and among pyenv's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.environments import (
    BUILD,
    PROJECT,
    ROOT,
    Environment,
    declared,
    interpreter,
    lowest,
    normal,
    version_of,
)
from tests.stages import run_tests

EXTRAS = ("test",)
# A widget and figures; training and its curves; attacks, audits and the most of the library.
LESSONS = ("01", "03", "09")
# What needs tools of development, which are not installed here, or builds environments itself; and
# the time that is promised for today's versions.
ELSEWHERE = (
    "tests/book",
    "tests/test_architecture.py",
    "tests/test_colab.py",
    "tests/test_packaging.py",
    "tests/test_notebooks.py::test_a_spelling_mistake_would_be_seen",
    "tests/test_reproduce_rows.py::test_a_quick_run_of_all_rows_takes_under_three_minutes",
)


def python_of(end: str) -> str:
    """Return the lowest or the highest Python that pyproject.toml names, such as "3.10"."""
    if end == "oldest":
        return str(lowest(SpecifierSet(PROJECT["requires-python"])))
    words = "Programming Language :: Python :: "
    named = [text.removeprefix(words) for text in PROJECT["classifiers"] if text.startswith(words)]
    return str(max(map(Version, named)))


def pinned(need: Requirement) -> str:
    """Return the requirement of the lowest version that `need` allows.

    Example:
        >>> pinned(Requirement("torch>=2.4"))
        'torch==2.4'
    """
    return f"{need.name}=={lowest(need.specifier)}"


def make(end: str) -> tuple[Environment, list[Requirement]]:
    """Build the environment of "oldest" or "newest"; return what it was asked for too."""
    python, variable = python_of(end), f"PYTHON_{end.upper()}"
    origin = interpreter(python, variable)
    if origin is None:
        raise SystemExit(
            f"No Python {python} is on the path or among pyenv's. Install one (`pyenv install "
            f"{python}`, or `conda create -n old python={python}`) and name it: "
            f"make test-{end} {variable}=/path/to/python{python}"
        )
    if (found := version_of(origin)).split(".")[:2] != python.split("."):
        raise SystemExit(f"{variable}={origin} is Python {found}. Name a Python {python}.")
    needs = declared(EXTRAS, python)
    environment = Environment(ROOT / f".venv-{end}")
    if end == "oldest":
        environment.build(origin, [pinned(need) for need in needs])
    else:  # of today
        environment.build(origin, [str(need) for need in needs], date.today().isoformat())
    tools = map(Requirement, BUILD["requires"])
    with tempfile.TemporaryDirectory() as folder:
        # What builds the package stays apart, so that its own needs do not raise those above.
        wanted = [pinned(tool) if end == "oldest" else str(tool) for tool in tools]
        environment.pip("install", "--quiet", "--target", folder, *wanted)
        words = ["--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
        environment.pip("install", *words, variables={"PYTHONPATH": folder})
    environment.pip("check")
    return environment, needs


def lessons() -> list[str]:
    """Return the paths of the lessons that are run."""
    found = [path for k in LESSONS for path in (ROOT / "notebooks").glob(f"{k}_*.ipynb")]
    return [str(path.relative_to(ROOT)) for path in found]


def main(arguments: Sequence[str]) -> int:
    """Make one of the two environments, say what is in it, and run the tests there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("end", choices=("oldest", "newest"))
    end = parser.parse_args(arguments).end
    environment, needs = make(end)
    installed = environment.installed()
    print(f"\n| package | declared | in .venv-{end} |\n|---|---|---|")
    print(f"| Python | {PROJECT['requires-python']} | {version_of(environment.python)} |")
    for need in needs:
        print(f"| {need.name} | {need.specifier} | {installed[normal(need.name)]} |")
    sys.stdout.flush()
    left_out = [f"--deselect={name}" for name in ELSEWHERE]
    with tempfile.TemporaryDirectory() as folder:
        what = ["--nbval-lax", *lessons(), "tests", "advlearn", *left_out]
        report = Path(folder) / "report.xml"
        outcome, skipped = run_tests([f"tests on {end}"], what, report, environment.python)
    print(f"\n{outcome.stage}: {outcome.counts}, {skipped} skipped, {outcome.seconds:.0f} s")
    return int(outcome.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
