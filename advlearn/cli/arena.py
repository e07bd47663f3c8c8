"""`advlearn arena`: score a file, show the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from advlearn import arena
from advlearn.arena.board import check_place
from advlearn.cli.console import App, Commands, say, stop

app = App(
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


@app.command()
def night(
    folder: Annotated[
        Path, typer.Argument(help="What was handed in: files, or a folder for each learner.")
    ],
    out: Annotated[Path, typer.Option(help="The folder for the board and the results.")] = Path(
        "arena-night"
    ),
    number: Annotated[
        int, typer.Option("--round", min=1, help="Each round has other hidden digits.")
    ] = 1,
    digits: Annotated[int, typer.Option(min=20, max=3000, help="Hidden digits in a round.")] = 300,
    eps: Annotated[float, typer.Option(help="The largest change of a pixel.")] = 0.25,
    data: Annotated[
        Path | None,
        typer.Option(help="A data folder with the full MNIST: 10,000 digits to draw from."),
    ] = None,
    secret: Annotated[
        Path | None,
        typer.Option(help="A file with your secret; a random one is made and kept by default."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Submissions at a time.")] = 1,
    tries: Annotated[int, typer.Option(min=1, help="Files of one name in a round.")] = 3,
    seconds: Annotated[
        float, typer.Option(min=1, help="Processor time that one submission may take.")
    ] = 300,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on and judge what comes, until Ctrl-C.")
    ] = False,
) -> None:
    """Judge a class's models and attacks on hidden digits, and show a board for the wall.

    Open board.html in a browser: it follows by itself. A run that was stopped goes on where it was.
    """
    import time

    from tqdm.auto import tqdm

    from advlearn.arena import night as arena_night

    try:
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is not a folder. Name a folder for the results.")
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder. Name the one with the submissions.")
        rules, pool = arena.Rules(eps=eps, examples=digits), arena_night.pool_of(data)
        arena_night.check_round(number, digits, pool)
        here = arena_night.Night(
            folder,
            out,
            number=number,
            rules=rules,
            secret=arena_night.secret_of(out, secret),
            pool=pool,
            workers=workers,
            seconds=seconds,
            tries=tries,
        )
        say(f"Board: {out / 'board.html'}")
        while True:
            with tqdm(unit=" models", leave=False, delay=1) as bar:

                def step(done: int, total: int, bar: tqdm = bar) -> None:
                    bar.total, bar.n = total, done
                    bar.refresh()

                found = here.run(step)
            if not watch:
                break
            time.sleep(3)
    except (OSError, ValueError) as error:
        stop(error)
    except KeyboardInterrupt:
        stop("\nStopped. What was judged is kept: run the same again to go on.")
    say(arena_night.counted(found))
    for line in found.models + found.attacks:
        if line.reason:
            say(f"  {line.name}: {line.reason}")
        elif line.copy_of:
            say(f"  {line.name}: the same file as {line.copy_of}")
    say(f"Results: {out / f'results-round-{number}.csv'}")
