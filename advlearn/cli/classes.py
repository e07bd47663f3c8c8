"""`advlearn class`: what a teacher of many learners needs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from advlearn._atomic import write_atomically
from advlearn.classroom.status import status as read_status
from advlearn.cli.console import Commands, say, stop
from advlearn.cli.kernels import app as kernels

app = typer.Typer(
    cls=Commands,
    help="For teachers: grade the notebooks that were handed in, and see how far everybody is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.add_typer(kernels, name="kernels")


class Points(str, Enum):
    """How an exercise gives points."""

    right = "right"
    half = "half"
    score = "score"


@app.callback()
def _main() -> None:
    pass


@app.command()
def status(
    folder: Annotated[
        Path, typer.Argument(help="Notebooks in any arrangement: by learner, flat, in zip files.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="A CSV file: a line for each learner and exercise.")
    ] = None,
) -> None:
    """Show how far everybody is, as the saved notebooks report it. Nothing is run."""
    try:
        if out is not None and out.exists() and not out.is_file():
            raise ValueError(f"--out {out} is not a file. Name a CSV file.")
        found = read_status(folder)
        say(found)
        if out is not None:
            write_atomically(out, found.as_csv())
            say(f"Written: {out}")
    except (OSError, ValueError) as error:
        stop(error)


@app.command()
def grade(
    folder: Annotated[
        Path, typer.Argument(help="Notebooks in any arrangement: by learner, flat, in zip files.")
    ],
    out: Annotated[Path, typer.Option(help="The folder for grades and feedback.")] = Path("graded"),
    points: Annotated[
        Points,
        typer.Option(
            help="right: 1 for a solved exercise. half: 1/2 for an attempt that is not right. "
            "score: the share of the checks that it passes."
        ),
    ] = Points.right,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Notebooks at a time; as many as processors.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.5, help="Seconds of processor time for one answer.")
    ] = 5.0,
) -> None:
    """Grade a class: grades.csv, a page for each learner, and a summary of the slips.

    Nothing of a notebook is run but imports, definitions and constants, each notebook in a confined
    process of its own. A run that was stopped goes on where it was.
    """
    from tqdm.auto import tqdm

    from advlearn.classroom import report
    from advlearn.classroom.grade import NO_DEFINITION, grade_class

    try:
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is not a folder. Name a folder for the grades.")
        if out.resolve() == folder.resolve():
            raise ValueError("--out is the folder of the notebooks. Name another one.")
        with tqdm(unit=" notebooks", leave=False, delay=1) as bar:

            def step(done: int, total: int) -> None:
                bar.total, bar.n = total, done
                bar.refresh()

            grades = grade_class(folder, out / ".work", workers=workers, timeout=timeout, step=step)
        report.write(grades, out, points.value)
    except (OSError, ValueError, RuntimeError) as error:
        stop(error)
    say(f"{len(grades.marks)} learners. Grades: {out / 'grades.csv'}")
    say(f"What to teach again: {out / 'summary.html'}. Pages for learners: {out / 'feedback'}")
    for learner in grades.marks:
        for note in report.notes(grades, learner):
            if NO_DEFINITION not in note:  # the grade book has these too, and there are many
                say(f"  {learner}: {note}")
