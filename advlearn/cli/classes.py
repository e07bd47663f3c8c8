"""`advlearn class`: what a teacher of many learners needs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from advlearn._atomic import write_atomically
from advlearn.classroom.status import status as read_status
from advlearn.cli import teaching
from advlearn.cli.console import App, Commands, say, stop
from advlearn.cli.kernels import app as kernels

app = App(
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


teaching.add(app)


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
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler, whose workers grade: tls://host:8786, or "
            "tcp://host:8786 in a network that you trust."
        ),
    ] = None,
    allow_network: Annotated[
        bool,
        typer.Option(
            "--allow-network",
            help="With --scheduler: use workers, too, whose system cannot keep learners' code off "
            "the network. Such code could change everybody's grades.",
        ),
    ] = False,
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
        if scheduler is not None and workers is not None:
            raise ValueError(
                "--workers is for this machine, and --scheduler has workers of its own. Leave one "
                "of them out."
            )
        if scheduler is not None and not scheduler.startswith(("tls://", "tcp://127.0.0.1")):
            say("Without tls:// whoever reaches the cluster can change grades, and read answers.")
        with tqdm(unit=" notebooks", leave=False, delay=1) as bar:

            def step(done: int, total: int) -> None:
                bar.total, bar.n = total, done
                bar.refresh()

            grades = grade_class(
                folder,
                out / ".work",
                workers=workers,
                timeout=timeout,
                step=step,
                scheduler=scheduler,
                allow_network=allow_network,
            )
        report.write(grades, out, points.value)
    except (OSError, ValueError, RuntimeError, ModuleNotFoundError) as error:
        stop(error)
    except KeyboardInterrupt:
        stop("\nStopped. What is graded is kept: run the same again to go on.")
    say(f"{len(grades.marks)} learners. Grades: {out / 'grades.csv'}")
    say(f"What to teach again: {out / 'summary.html'}. Pages for learners: {out / 'feedback'}")
    for learner in grades.marks:
        for note in report.notes(grades, learner):
            if NO_DEFINITION not in note:  # the grade book has these too, and there are many
                say(f"  {learner}: {note}")


edition = App(
    cls=Commands,
    help="Write the lessons with all solutions for the teacher, or without any for learners.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(edition, name="edition")


@edition.command()
def instructor(
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    run: Annotated[
        bool, typer.Option("--run", help="Execute the lessons too: some minutes.")
    ] = False,
) -> None:
    """Write the lessons with solutions, common slips, minutes and the quizzes' answers."""
    from advlearn.classroom import edition as editions

    try:
        made = editions.instructor(out, run=run)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        stop(error)
    say(f"{len(made)} lessons with {sum(made.values())} solutions: {out}. Keep them to yourself.")


@edition.command()
def learner(
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    address: Annotated[
        str,
        typer.Option(
            help="Where you will put the wheel on the web, for Colab: https://…/NAME.whl. Without "
            "it learners upload the wheel."
        ),
    ] = "",
) -> None:
    """Write the lessons, and a wheel of the course to install, without our solutions."""
    from advlearn.classroom import edition as editions

    try:
        made = editions.learner(out, address=address)
    except (OSError, ValueError) as error:
        stop(error)
    say(f"Lessons: {out / 'lessons'}. The course without solutions: {out / editions.WHEEL}")
    say(", ".join(f"{count} {what}" for what, count in made.items()))
    say("Grade with this full course: it is the same checks.")


@app.command()
def nbgrader(
    out: Annotated[Path, typer.Argument(help="The folder of the course; made if it is missing.")],
    points: Annotated[
        Points,
        typer.Option(help="How an exercise gives points, as for `advlearn class grade`."),
    ] = Points.right,
    lesson: Annotated[
        list[str] | None,
        typer.Option(help="The number of a lesson, such as 03. Give it several times; all if not."),
    ] = None,
    notebooks: Annotated[
        Path | None, typer.Option(help="The folder of the lessons; the course's own if not given.")
    ] = None,
) -> None:
    """Write the lessons as a course for nbgrader 0.9, with the settings that it needs.

    nbgrader need not be installed here. What is there already, and differs, is never overwritten.
    """
    from advlearn.classroom.nbgrader import course

    try:
        new = course.write(out, rule=points.value, lessons=lesson or (), notebooks=notebooks)
    except (OSError, ValueError) as error:
        stop(error)
    if not new:
        say(f"Everything is in {out} already.")
        return
    lessons = sum(path.suffix == ".ipynb" for path in new)
    say(f"{lessons} lessons written. How to go on: {out / 'README.md'}")
