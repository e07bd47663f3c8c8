"""`advlearn arena`: score a file, show the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from advlearn import arena
from advlearn.arena.board import check_place
from advlearn.cli.console import Commands, say, stop

app = typer.Typer(
    cls=Commands,
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
        if leaderboard is not None:
            check_place(leaderboard)
        report = arena.score(file, name=name, rules=arena.Rules(eps=eps))
        say(report)
        if leaderboard is not None:
            arena.append(leaderboard, report)
            say(f"Added to {leaderboard}.")
            if rest := arena.left_out(arena.read(leaderboard)):
                say(rest)
    except (OSError, ValueError) as error:
        stop(error)


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
        for place, line in enumerate(arena.standing(lines), start=1):
            say(f"{place:3}  {line.name:40}  {line.score!s:20}  clean {line.clean}")
        if rest := arena.left_out(lines):
            say(rest)
        picture = out or leaderboard.with_suffix(".png")
        arena.write_picture(picture, lines)
    except (OSError, ValueError) as error:
        stop(error)
    say(f"Picture: {picture}")
