"""`advlearn class`: what a teacher of many learners needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from advlearn._atomic import write_atomically
from advlearn.classroom.status import status as read_status
from advlearn.cli.console import Commands, say, stop

app = typer.Typer(
    cls=Commands,
    help="For teachers: how far everybody is, from the notebooks that were handed in.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
