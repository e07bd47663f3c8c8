"""`advlearn arena`: score a file, show the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from advlearn import arena
from advlearn._atomic import write_atomically
from advlearn.plotting import render

app = typer.Typer(
    help="Score exported models under attack, and keep a leaderboard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="What advlearn.data.reference.pack wrote.")],
    name: Annotated[str | None, typer.Option(help="Yours; the file's name by default.")] = None,
    eps: Annotated[float, typer.Option(help="The largest change of a pixel.")] = 0.25,
    leaderboard: Annotated[
        Path | None, typer.Option(help="A CSV file to which the score is added.")
    ] = None,
) -> None:
    """Attack a model by the arena's budget, and print what stays right: seconds to a minute."""
    try:
        report = arena.score(file, name=name, rules=arena.Rules(eps=eps))
        typer.echo(str(report))
        if leaderboard is not None:
            arena.append(leaderboard, report)
            typer.echo(f"Added to {leaderboard}.")
    except (OSError, ValueError) as error:
        _stop(error)


@app.command()
def board(
    leaderboard: Annotated[Path, typer.Argument(help="The CSV file.")],
    out: Annotated[
        Path | None, typer.Option(help="The picture; beside the CSV file by default.")
    ] = None,
) -> None:
    """Print the leaderboard, and draw it as a PNG."""
    try:
        lines = arena.read(leaderboard)
        picture = out or leaderboard.with_suffix(".png")
        write_atomically(picture, render(arena.draw(lines)))
    except (OSError, ValueError) as error:
        _stop(error)
    for place, line in enumerate(arena.standing(lines), start=1):
        typer.echo(f"{place:3}  {line.name:40}  {line.score!s:20}  clean {line.clean}")
    typer.echo(f"Picture: {picture}")


def _stop(error: Exception) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(1)
