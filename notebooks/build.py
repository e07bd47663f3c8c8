"""Execute the lessons and write them back in one normal form: `make notebooks`.

The .ipynb files are the source. This script fills in what every lesson shares (the badge and the
set-up cell, from the address in pyproject.toml), runs the lesson in a fresh kernel, and removes
what changes from run to run: times, random ids, widget states. Running it twice changes nothing.

    python notebooks/build.py            all lessons
    python notebooks/build.py 03         those whose name begins with 03
    python notebooks/build.py --check    change nothing; fail if a lesson is not in normal form
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS: str = PROJECT["project"]["urls"]["Repository"]
WIDGET = "application/vnd.jupyter.widget-view+json"

SETUP = f"""\
# Set-up: run this cell first. On Colab it installs the course; elsewhere it only imports.
DATA = "offline"  # the switch: "offline" is 5,000 digits from the package, "auto" all of MNIST

try:
    import advlearn
except ModuleNotFoundError:
    %pip install -q "advlearn @ git+{ADDRESS}"
    import advlearn
from advlearn.runtime import pick_device, seed_everything

seed_everything(0)
device = pick_device()
print("Ready.")"""


def badge(name: str) -> str:
    """Return the Colab badge of a lesson, in Markdown."""
    where = ADDRESS.removeprefix("https://github.com/")
    link = f"https://colab.research.google.com/github/{where}/blob/main/notebooks/{name}"
    return f"[![Open in Colab](colab.svg)]({link})"


def fill(notebook: nbformat.NotebookNode, name: str) -> None:
    """Write the badge and the set-up cell, in place."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "setup" in cell.metadata.get("tags", []):
            cell.source = SETUP
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"^\[!\[Open in Colab\].*$", badge(name), cell.source, flags=re.M)


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Remove what changes from run to run, in place."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.id = f"cell-{number:02d}"
        if "machine" in tags:  # what it prints is about one machine, so it is not published
            cell.outputs = []
        for output in cell.get("outputs", []):
            output.pop("metadata", None)
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = nbformat.from_dict({})
                if WIDGET in output.data:
                    output.data = nbformat.from_dict(
                        {"text/plain": "[interactive picture: run this cell to move it]"}
                    )


def execute(path: Path) -> nbformat.NotebookNode:
    """Return the lesson at `path`, filled in, executed and normalised."""
    notebook = nbformat.read(path, as_version=4)
    fill(notebook, path.name)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(HERE)}}).execute()
    normalise(notebook)
    nbformat.validate(notebook)
    return notebook


def main(arguments: list[str]) -> int:
    """Build or check the lessons named in `arguments`."""
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    # Threads that wait by sleeping: spinning ones starve each other on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    only_check = "--check" in arguments
    wanted = [argument for argument in arguments if not argument.startswith("-")] or [""]
    paths = [p for p in sorted(HERE.glob("*.ipynb")) if any(p.name.startswith(w) for w in wanted)]
    if not paths:
        print(f"no lesson begins with {' or '.join(wanted)}", file=sys.stderr)
        return 2
    different = []
    for path in paths:
        before = path.read_text(encoding="utf-8")
        if only_check:
            notebook = nbformat.read(path, as_version=4)
            fill(notebook, path.name)
            normalise(notebook)
        else:
            notebook = execute(path)
        after = nbformat.writes(notebook) + "\n"
        if after != before:
            different.append(path.name)
            if not only_check:
                part = path.with_suffix(".part")
                part.write_text(after, encoding="utf-8")
                part.replace(path)
        print(f"{path.name}: {'differs' if path.name in different else 'unchanged'}")
    return 1 if only_check and different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
