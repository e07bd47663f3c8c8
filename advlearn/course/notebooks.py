"""Execute the lessons and write them back in one normal form: `make notebooks`.

The .ipynb files are the source. This script fills in what stands elsewhere (the badge and the
set-up cell, from the address in pyproject.toml; title and minutes, from `advlearn.course.lessons`;
stars and minutes of the exercises, from their bank; terms, from the glossary; how to come back
another day), runs the lesson in a fresh kernel, and removes what changes from run to run: times,
random ids, widget states, the places where a printed text is cut. It folds the cells whose tag says
so (`FOLDS`). It also fills in README's table of lessons. Running it twice changes nothing.

    python -m advlearn.course.notebooks    all lessons; with 03, those whose name begins with 03

    --check    change nothing; fail if a lesson is not in normal form
    --fill     run nothing; only fill in
    --measure  change nothing; print the time and the memory of each lesson, and fail if one needs
               more than a lesson may
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from advlearn._atomic import write_atomically
from advlearn._bounded import parse_json, read_plain
from advlearn._quote import printable, quote
from advlearn.course import banks, glossary
from advlearn.course.lessons import LESSONS, Lesson, table
from advlearn.course.progress import Progress
from advlearn.course.session import PAGE
from advlearn.course.widgets import PLACEHOLDER, STILL
from advlearn.data.folders import CHECKOUT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = CHECKOUT / "notebooks"
README = CHECKOUT / "README.md"
BEGIN, END = "<!-- lessons: filled in by `make notebooks` -->", "<!-- end of lessons -->"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS: str = PROJECT["project"]["urls"]["Repository"]
WIDGET = "application/vnd.jupyter.widget-view+json"
MOST_SECONDS, MOST_GIGABYTES = 60.0, 1.5  # what a lesson may need, on two cores

SETUP = f"""\
# Set-up: run this cell first. Where the course is missing, as on Colab, it is installed.
DATA = "offline"  # the switch: "offline" is 5,000 digits from the package, "auto" all of MNIST

try:
    import advlearn.course.session
except ModuleNotFoundError:
    import importlib, site, subprocess, sys

    print("Installing the course. This takes a minute.", flush=True)
    course = "advlearn @ git+{ADDRESS}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-color", course]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "fatal" in line or "ERROR" in line]
        remedy = "Is there a network? (Kaggle has a switch for it.) Then run this cell again. On "
        remedy += "your own computer, open the lessons with `make lab` or `advlearn lab`."
        raise ModuleNotFoundError(f"pip cannot install the course. {{remedy}} {{said}}") from None
    importlib.invalidate_caches()
    sys.modules.pop("advlearn", None)  # a mere folder of this name may have passed for the course
    site.addsitedir(site.getusersitepackages())  # where pip installs when it may not elsewhere
from advlearn.course.session import set_up
"""
EXERCISES = "from advlearn.exercises import lesson{number:02d} as ex\n"
START = f"""
device = set_up("{PROJECT["project"]["version"]}")"""

# Of JupyterLab 4 and Colab. After it, every name of the cells above is there again.
SECOND_DAY = (
    "**Coming back another day?** Click the cell where you want to go on. Then choose **Run › Run "
    "All Above Selected Cell** in JupyterLab, or **Runtime › Run before** in Colab."
)


def setup_cell(name: str) -> str:
    """Return the set-up cell of a notebook: one text, but for the number of the exercises."""
    number = next((lesson.number for lesson in LESSONS if lesson.file == name), None)
    exercises = "" if number is None else EXERCISES.format(number=number)
    return f"{SETUP}{exercises}{START}"


class Fold(NamedTuple):
    """How a tag folds a code cell."""

    title: str  # the first line of a cell that has none: all that Colab shows of folded code
    output: bool  # whether what the cell prints is folded too


# The book folds the code of a drawing, and leaves the authors' checks out.
FOLDS = {
    "drawing": Fold("Code that draws", output=False),
    "authors-check": Fold("A check by the authors: nothing to do here", output=True),
}
TITLE = "# @title "  # Colab's mark


# Run last, in the lesson's own kernel. Linux has a peak of this very process (the other one may be
# inherited from the process that started it); macOS counts in bytes; Windows has neither.
REPORT = """\
import resource, sys
from pathlib import Path
used = resource.getrusage(resource.RUSAGE_SELF)
peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
if Path("/proc/self/status").exists():
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, peak)"""


class Cost(NamedTuple):
    """What running a lesson from top to bottom costs, the start of its kernel included.

    Processor time adds up all threads. Unlike the seconds on the clock, it hardly depends on what
    else the machine does.
    """

    seconds: float
    processor_seconds: float
    gigabytes: float  # the most memory that the kernel held at one time; 10^9 bytes

    @property
    def allowed(self) -> bool:
        """Whether a lesson may cost this much."""
        return self.seconds <= MOST_SECONDS and self.gigabytes <= MOST_GIGABYTES


def colab_address(path: str) -> str:
    """Return the address that opens a notebook of the repository in Colab."""
    where = ADDRESS.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{where}/blob/main/{path}"


def binder_address(path: str) -> str:
    """Return the address that opens a notebook of the repository in JupyterLab on Binder."""
    where = ADDRESS.removeprefix("https://github.com/")
    return f"https://mybinder.org/v2/gh/{where}/main?urlpath=lab/tree/{path}"


def badge(name: str) -> str:
    """Return the Colab badge of a lesson, in Markdown."""
    return f"[![Open in Colab](colab.svg)]({colab_address(f'notebooks/{name}')})"


def binder(name: str = LESSONS[0].file) -> str:
    """Return the Binder badge, in Markdown: JupyterLab, opened at a lesson."""
    link = binder_address(f"notebooks/{name}")
    return f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({link})"


def fill(notebook: nbformat.NotebookNode, name: str) -> None:
    """Write what stands elsewhere, in place: badge, set-up cell, title, minutes, stars, terms.

    A notebook that is not one of the course's lessons gets the badge and the set-up cell only.
    """
    lesson = next((one for one in LESSONS if one.file == name), None)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and "setup" in tags:
            cell.source = setup_cell(name)
        terms = _terms(cell.source) if cell.cell_type == "code" else ()
        for output in cell.get("outputs", []) if terms else []:
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = glossary.table(*terms)
        for fold in (FOLDS[tag] for tag in tags if tag in FOLDS):
            if not cell.source.startswith(TITLE):
                cell.source = f"{TITLE}{fold.title}\n{cell.source}"
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"^\[!\[Open in Colab\].*$", badge(name), cell.source, flags=re.M)
            if lesson is not None:
                cell.source = _with_effort(cell.source, lesson)
    if lesson is not None:
        head = notebook.cells[0]
        title = f"# {lesson.number} · {lesson.title}"
        head.source = re.sub(r"\A# .*", lambda _: title, head.source)
        minutes = f"**About {lesson.minutes} minutes**"
        head.source = re.sub(r"\*\*About \d+ minutes\*\*", minutes, head.source)
        if "**Coming back another day?**" not in head.source:  # a paragraph after the minutes
            head.source = re.sub(
                r"(\*\*About \d+ minutes\*\*.*)", r"\1\n\n" + SECOND_DAY, head.source
            )
        head.source = re.sub(r"\*\*Coming back another day\?\*\*.*", SECOND_DAY, head.source)


def _terms(source: str) -> tuple[str, ...]:
    """Return the terms that a cell shows by `display(Markdown(table(...)))`, or none."""
    shown = re.fullmatch(r"display\(Markdown\(table\((.*?),?\s*\)\)\)", source.strip(), re.S)
    return ast.literal_eval(f"({shown[1]},)") if shown else ()


def _with_effort(text: str, lesson: Lesson) -> str:
    """Return Markdown in which each exercise's heading has the stars and minutes of its bank."""
    bank = importlib.import_module(f"{banks.__name__}.lesson{lesson.number:02d}")

    def heading(match: re.Match[str]) -> str:
        exercise = dict(enumerate(bank.EXERCISES, start=1)).get(int(match[2]))
        if exercise is None:
            return match[0]
        stars = "★" * exercise.difficulty + "☆" * (3 - exercise.difficulty)
        return f"{match[1]}{stars} · {exercise.minutes} minutes"

    return re.sub(r"^(### Exercise (\d+) · .+ · )[★☆]{3} · \d+ minutes$", heading, text, flags=re.M)


def fill_readme(text: str) -> str:
    """Return README with the table of lessons filled in.

    Raises:
        ValueError: there is no place for the table.
    """
    place = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.S)
    text, count = place.subn(lambda _: f"{table()}\n", text)
    if count != 1:
        raise ValueError(f"README has {count} places for the table of lessons: {BEGIN} ... {END}")
    return text


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return the outputs with neighbouring pieces of one stream as one.

    A kernel sends what is printed in pieces, and where it cuts depends on the clock.
    """
    whole: list[nbformat.NotebookNode] = []
    for output in outputs:
        same = whole and output.output_type == "stream" == whole[-1].output_type
        if same and output.name == whole[-1].name:
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def folding(tags: list[str]) -> dict[str, Any]:
    """Return the metadata by which JupyterLab and Colab show a code cell folded.

    JupyterLab reads `jupyter`, Colab the two others.

    Args:
        tags: the cell's tags; only those in `FOLDS` fold it.

    Example:
        >>> folding(["drawing"])
        {'jupyter': {'source_hidden': True}, 'cellView': 'form'}
        >>> folding(["nbval-check-output"])
        {}
    """
    folds = [FOLDS[tag] for tag in tags if tag in FOLDS]
    if not folds:
        return {}
    if not any(fold.output for fold in folds):
        return {"jupyter": {"source_hidden": True}, "cellView": "form"}
    hidden = {"source_hidden": True, "outputs_hidden": True}
    return {"jupyter": hidden, "cellView": "form", "collapsed": True}


def _is_live(output: nbformat.NotebookNode) -> bool:
    """Tell whether an output is for the open notebook only: the published one has no need of it."""
    shown = output.get("data", {}).get("text/html", "")
    return any(f'class="{mark}"' in shown for mark in (PAGE, STILL))


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Remove what changes from run to run, and fold the cells that their tags fold, in place."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict(({"tags": tags} if tags else {}) | folding(tags))
        cell.id = f"cell-{number:02d}"
        if "machine" in tags:  # what it prints is about one machine, so it is not published
            cell.outputs = []
        if "outputs" in cell:
            cell.outputs = joined([output for output in cell.outputs if not _is_live(output)])
        for output in cell.get("outputs", []):
            if cell.source.endswith("progress_map()") and "text/html" in output.get("data", {}):
                # As for a learner who begins, with today's exercises.
                begun = Progress({})
                output.data["text/html"], output.data["text/plain"] = (
                    begun._repr_html_(),
                    str(begun),
                )
            output.pop("metadata", None)
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = nbformat.from_dict({})
                if WIDGET in output.data:
                    output.data = nbformat.from_dict({"text/plain": PLACEHOLDER})


def run(notebook: nbformat.NotebookNode) -> None:
    """Run all cells in a fresh kernel, in place, as for a learner who has solved nothing yet."""
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(HERE)}})
    client.execute(env=os.environ | {"ADVLEARN_PROGRESS_DIR": ""})


MOST_BYTES, MOST_CELLS = 5_000_000, 1_000  # of a lesson; ours have 1.5 million and 100 at most


def read(path: Path) -> nbformat.NotebookNode:
    """Return the notebook at `path`.

    Raises:
        ValueError: it is damaged, or is no notebook of version 4; the message says why.
        OSError: it cannot be read.
    """
    try:
        content = read_plain(path, MOST_BYTES)
        # Looked at first: nbformat tries older versions for seconds, and puts all into its message.
        loaded = parse_json(content)
        cells = loaded.get("cells") if isinstance(loaded, dict) else None
        if not isinstance(cells, list) or loaded.get("nbformat") != 4 or len(cells) > MOST_CELLS:
            raise ValueError(f"version 4 and at most {MOST_CELLS:,} cells are read")
        needed = {"cell_type", "metadata", "source"}
        if not all(isinstance(cell, dict) and needed <= cell.keys() for cell in cells):
            raise ValueError("a cell lacks its type, its metadata or its source")
        notebook: nbformat.NotebookNode = nbformat.reads(content.decode(), as_version=4)
        nbformat.validate(notebook)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = printable(error) or type(error).__name__
    except nbformat.ValidationError as error:
        reason = printable(error.message)
    else:
        return notebook
    raise ValueError(f"{quote(str(path), 300)} is damaged, or is no notebook ({reason}).")


def execute(path: Path) -> nbformat.NotebookNode:
    """Return the lesson at `path`, filled in, executed and normalised."""
    notebook = read(path)
    fill(notebook, path.name)
    run(notebook)
    normalise(notebook)
    nbformat.validate(notebook)
    return notebook


def measure(path: Path) -> Cost:
    """Run the lesson at `path` in a fresh kernel, without changing it, and return what it costs."""
    notebook = read(path)
    fill(notebook, path.name)
    notebook.cells.append(new_code_cell(REPORT))
    started = time.perf_counter()
    run(notebook)
    seconds = time.perf_counter() - started
    processor, peak = notebook.cells[-1].outputs[0].text.split()
    return Cost(seconds, float(processor), int(peak) / 1e9)


def print_costs(paths: list[Path]) -> int:
    """Print a Markdown table of what the lessons cost; return 1 if one costs too much, else 0."""
    print("| lesson | seconds | processor seconds | peak memory (GB) | |\n|---|---|---|---|---|")
    dear = False
    for path in paths:
        cost = measure(path)
        dear |= not cost.allowed
        numbers = f"{cost.seconds:.0f} | {cost.processor_seconds:.0f} | {cost.gigabytes:.2f}"
        print(f"| {path.stem} | {numbers} | {'' if cost.allowed else 'too much'} |", flush=True)
    return int(dear)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m advlearn.course.notebooks",
        description="Execute the lessons and write them back in one normal form.",
    )
    parser.add_argument(
        "lessons", nargs="*", help="03: those whose name begins with 03; default all"
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--check", action="store_true", help="change nothing; fail if one is not in normal form"
    )
    way.add_argument("--fill", action="store_true", help="run nothing; only fill in")
    way.add_argument(
        "--measure",
        action="store_true",
        help="change nothing; print time and memory of each, and fail if one needs too much",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Build or check the lessons named in `arguments`."""
    options = _options(arguments)
    # Threads that wait by sleeping: spinning ones starve each other on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    only_check, only_fill = options.check, options.fill
    wanted = options.lessons or [""]
    paths = [p for p in sorted(HERE.glob("*.ipynb")) if any(p.name.startswith(w) for w in wanted)]
    if not paths:
        print(f"no lesson begins with {' or '.join(wanted)}", file=sys.stderr)
        return 2
    try:
        lessons = {path: read(path) for path in paths}
    except (OSError, ValueError) as error:
        print(printable(error, 1000), file=sys.stderr)
        return 2
    if options.measure:
        return print_costs(paths)
    # One thread adds up in one order: the same pictures, however many cores there are.
    os.environ["OMP_NUM_THREADS"] = "1"
    different = []

    def keep(path: Path, after: str) -> None:
        if after != path.read_text(encoding="utf-8"):
            different.append(path.name)
            if not only_check:
                write_atomically(path, after)
        print(f"{path.name}: {'differs' if path.name in different else 'unchanged'}")

    for path, notebook in lessons.items():
        if only_check or only_fill:
            fill(notebook, path.name)
            normalise(notebook)
        keep(path, nbformat.writes(notebook if only_check or only_fill else execute(path)) + "\n")
    keep(README, fill_readme(README.read_text(encoding="utf-8")))
    return 1 if only_check and different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
