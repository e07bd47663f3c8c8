"""Run every lesson as Colab would: `make test-colab`.

`constraints.txt` lists what Colab has installed. This script builds an environment of these
versions in `.venv-colab`, without the course and without JupyterLab. Then it does for each lesson
what a learner on Colab does: it opens the notebook alone, in an empty folder, with the course not
installed, and runs all cells. The set-up cell installs the course by itself; git is told to
take this working tree when the cell asks for the public address. A lesson passes when no cell
raises or prints on stderr, when each checked cell prints what is committed, when there are as many
pictures, and when a slider changes the picture. No package that Colab has may change.

    python -m tests.colab.environment             all lessons
    python -m tests.colab.environment 03 10       those whose name begins so

COLAB_PYTHON names the interpreter; by default Python 3.13, as on Colab, else this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from advlearn.course.widgets import STILL
from tests import environments
from tests.environments import PROJECT, ROOT, Environment, changed, normal, version_of

CONSTRAINTS = ROOT / "tests" / "colab" / "constraints.txt"
FOLDER = ROOT / ".venv-colab"
CHECKED = "nbval-check-output"
COLAB_PYTHON = "3.13"
# What the summary names: the packages that a lesson's look and figures depend on.
SHOWN = ("ipython", "ipykernel", "ipywidgets", "matplotlib", "numpy", "torch", "torchvision")

# Run last, in the lesson's own kernel: to an end with every control, and look at the picture.
# Its names are its own: a picture may read the lesson's.
PROBE = """\
def _probe():
    import gc
    from advlearn.course.widgets import Explorer
    moved = sliders = 0
    for explorer in [thing for thing in gc.get_objects() if type(thing) is Explorer]:
        for number, control in enumerate(explorer.view.controls):
            place, before = list(explorer.view.place), explorer.frame
            place[number] = 0 if place[number] else len(control["stops"]) - 1
            explorer.view.place = place
            sliders += 1
            moved += explorer.frame != before
    print(moved, sliders)
_probe()"""


class Outcome(NamedTuple):
    """What running one lesson gave."""

    problems: list[str]
    seconds: float


def pinned(text: str) -> dict[str, str]:
    """Return name -> version of a constraints file, names as pip normalises them."""
    return {normal(name): v for name, v in re.findall(r"^([\w.-]+)==(\S+)$", text, re.M)}


def printed(cell: NotebookNode, name: str) -> str:
    """Return what a cell printed on "stdout" or "stderr"."""
    outputs = cell.get("outputs", [])
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == name)


def pictures(notebook: NotebookNode) -> int:
    """Count the pictures in the outputs."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}).get("text/html", "") for output in outputs]
    return sum(text.count("<img") for text in shown if STILL not in text)


def differences(committed: NotebookNode, ran: NotebookNode) -> list[str]:
    """Compare a run with the committed lesson, as a learner would see both."""
    problems = []
    for old, new in zip(committed.cells, ran.cells, strict=False):
        first = new.source.partition("\n")[0]
        if words := printed(new, "stderr"):
            problems.append(f"on stderr: {first}: {words.strip()[:200]}")
        if CHECKED in old.metadata.get("tags", []):
            was, now = printed(old, "stdout"), printed(new, "stdout")
            if was != now:
                problems.append(f"prints another result: {first}\n  was {was!r}\n  now {now!r}")
    if pictures(committed) != pictures(ran):
        problems.append(f"{pictures(committed)} pictures became {pictures(ran)}")
    return problems


def interpreter() -> str:
    """Return a Python like Colab's, or this one."""
    return environments.interpreter(COLAB_PYTHON, "COLAB_PYTHON") or sys.executable


def publish(folder: Path) -> dict[str, str]:
    """Make a repository of this working tree, and tell git that it is the public one.

    Returns:
        The environment variables by which git takes `folder` for the course's address.
    """
    git = ["git", "--git-dir", str(folder / ".git"), "--work-tree", str(ROOT)]
    who = ["-c", "user.name=advlearn", "-c", "user.email=advlearn@localhost"]
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    subprocess.run([*git, "add", "--all"], cwd=ROOT, check=True)
    subprocess.run([*git, *who, "commit", "--quiet", "-m", "now"], cwd=ROOT, check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": PROJECT["urls"]["Repository"],
    }


def run(path: Path, python: Path, folder: Path, settings: dict[str, str]) -> Outcome:
    """Run a lesson, alone in an empty folder, in a kernel of that Python."""
    committed = nbformat.read(path, as_version=4)
    lesson = nbformat.read(path, as_version=4)
    interactive = any("widget" in cell.metadata.get("tags", []) for cell in lesson.cells)
    if interactive:
        lesson.cells.append(nbformat.v4.new_code_cell(PROBE))
    spec = folder / "kernels" / "colab"
    spec.mkdir(parents=True)
    words = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "Colab"}))
    content = folder / "content"
    content.mkdir()
    specs = KernelSpecManager(kernel_dirs=[str(spec.parent)])
    manager = AsyncKernelManager(kernel_name="colab", kernel_spec_manager=specs)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "MPLBACKEND", "VIRTUAL_ENV") and "ADVLEARN" not in name
    }
    settings = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", **settings}  # a note that Colab has not
    client = NotebookClient(
        lesson, km=manager, timeout=900, resources={"metadata": {"path": str(content)}}
    )
    started = time.perf_counter()
    problems = []
    try:
        client.execute(env=environment | settings)
        if interactive:
            printed = "".join(
                o.text for o in lesson.cells.pop().outputs if o.get("name") == "stdout"
            )
            moved, sliders = printed.split()
            if moved == "0" or moved != sliders:
                problems.append(f"{moved} of {sliders} sliders change a picture")
        problems += differences(committed, lesson)
    except CellExecutionError as error:
        failed = next(
            c for c in lesson.cells if any(o.output_type == "error" for o in c.get("outputs", []))
        )
        first = failed.source.partition("\n")[0]
        problems.append(f"{error.ename}: {error.evalue}\n  in the cell {first}\n{error.traceback}")
    finally:
        # A client does not stop a kernel whose manager it was given.
        asyncio.run(manager.shutdown_kernel(now=True))
    return Outcome(problems, time.perf_counter() - started)


def main(arguments: list[str]) -> int:
    """Run the lessons named in `arguments`, and print what happened as a table."""
    wanted = arguments or [""]
    lessons = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    lessons = [path for path in lessons if any(path.name.startswith(w) for w in wanted)]
    if not lessons:
        print(f"no lesson begins with {' or '.join(wanted)}", file=sys.stderr)
        return 2
    pins = pinned(CONSTRAINTS.read_text(encoding="utf-8"))
    environment = Environment(FOLDER)
    environment.build(interpreter(), [f"{name}=={version}" for name, version in pins.items()])
    before = environment.installed()
    if "jupyterlab" in before:
        raise SystemExit(
            f"{environment.folder.name} has JupyterLab, Colab has none: remove that folder."
        )
    print_versions(environment, pins, before)
    print("\n| lesson | verdict | seconds, with installing |\n|---|---|---|", flush=True)
    outcomes, after = {}, before
    for path in lessons:
        with tempfile.TemporaryDirectory() as folder:
            settings = publish(Path(folder) / "repository")
            outcome = run(path, environment.python, Path(folder), settings)
        after = environment.installed()
        outcome.problems.extend(changed(before, after))
        if "advlearn" not in after:
            outcome.problems.append("the set-up cell did not install the course")
        environment.forget(after.keys() - before.keys())
        outcomes[path.stem] = outcome
        verdict = "FAILED" if outcome.problems else "ok"
        print(f"| {path.stem} | {verdict} | {outcome.seconds:.0f} |", flush=True)
    for name, outcome in outcomes.items():
        for problem in outcome.problems:
            print(f"\n{name}: {problem}")
    added = ", ".join(f"{name} {after[name]}" for name in sorted(after.keys() - before.keys()))
    print(f"\nThe course adds to Colab's packages: {added or 'nothing'}.")
    bad = sum(bool(outcome.problems) for outcome in outcomes.values())
    print(f"\n{len(outcomes) - bad} passed, {bad} failed")
    return int(bad > 0)


def print_versions(
    environment: Environment, pins: dict[str, str], installed: dict[str, str]
) -> None:
    """Print a table of the versions on Colab and here, and name each that differs."""
    python = version_of(environment.python)
    print(f"\n| package | Colab | here |\n|---|---|---|\n| Python | {COLAB_PYTHON} | {python} |")
    for name in SHOWN:
        print(f"| {name} | {pins[name]} | {installed[name]} |")
    for words in changed(pins, installed):
        print(f"not as on Colab: {words}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
