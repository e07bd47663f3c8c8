"""Commands of `advlearn class` around the lessons: timetables, entrance and exit test."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from advlearn._atomic import write_atomically
from advlearn.cli.console import say, stop


class Length(str, Enum):
    """How much time a class has."""

    evening = "evening"
    day = "day"
    weeks = "weeks"


def add(app: typer.Typer) -> None:
    """Give these commands to `advlearn class`."""
    app.command()(timetable)
    app.command("tests")(sheets)
    app.command()(compare)


def timetable(
    length: Annotated[
        Length, typer.Argument(help="evening: 90 minutes. day: one day. weeks: six weeks.")
    ] = Length.evening,
    start: Annotated[str | None, typer.Option(help="When a meeting begins, such as 18:30.")] = None,
) -> None:
    """Print a timetable that is made from the lessons' own minutes: class, homework, left out."""
    try:
        begins = None
        if start is not None:
            match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", start)
            if match is None:
                raise ValueError(f"--start {start} is not a time of the day. Write 18:30.")
            begins = 60 * int(match[1]) + int(match[2])
        from advlearn.classroom import timetable as made

        say(made.as_text(made.plan(length.value), begins))
    except (OSError, ValueError) as error:
        stop(error)


def sheets(
    out: Annotated[Path, typer.Option(help="The folder for the sheets.")] = Path("tests-for-class"),
) -> None:
    """Write the entrance and the exit test: to print, as notebooks, and the key for the teacher."""
    from advlearn.classroom import concepts

    try:
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is not a folder. Name a folder for the sheets.")
        pages = concepts.files()
        changed = [
            name
            for name, text in pages.items()
            if (out / name).exists() and (out / name).read_bytes() != text.encode()
        ]
        if changed:
            raise ValueError(
                f"{out / changed[0]} is there already and is another file. Name another folder, or "
                "move it."
            )
        out.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            write_atomically(out / name, text)
    except (OSError, ValueError) as error:
        stop(error)
    say(f"Hand out: {out / 'entrance.html'} or .ipynb before, {out / 'exit.html'} or .ipynb after.")
    say(f"For you only: {out / 'key-for-the-teacher.html'}")
    say("Answers go into a table like entrance-answers.csv; then: advlearn class compare")


def compare(
    entrance: Annotated[Path, typer.Argument(help="CSV of the entrance test: a row a learner.")],
    exit: Annotated[Path, typer.Argument(help="CSV of the exit test.")],
    out: Annotated[Path, typer.Option(help="The folder for the comparison.")] = Path("compared"),
    learner: Annotated[
        str | None, typer.Option(help="The column that says whose a row is; found by default.")
    ] = None,
) -> None:
    """Compare entrance and exit test, misconception by misconception, naming nobody."""
    from advlearn.classroom import comparison

    try:
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is not a folder. Name a folder for the comparison.")
        found = comparison.compare(
            comparison.read(entrance, "entrance", learner=learner),
            comparison.read(exit, "exit", learner=learner),
        )
        comparison.write(found, out)
    except (OSError, ValueError) as error:
        stop(error)
    say(comparison.summary(found))
    for sentence in found.told:
        say(sentence)
    say(f"Page: {out / 'comparison.html'}")
