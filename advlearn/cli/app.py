"""The command `advlearn`: look after the data, examine the machine, open the lessons."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from advlearn.cli.console import App, Commands, say, stop
from advlearn.cli.doctor import (
    examine_data,
    examine_device,
    examine_packages,
    examine_space,
    report,
)
from advlearn.data.folders import CHECKOUT, data_folder

app = App(
    cls=Commands,
    help="A hands-on course on adversarial examples: its data, its doctor, its lessons.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Fetchable(str, Enum):
    """What `advlearn data --fetch` can fetch."""

    mnist = "mnist"
    cifar10 = "cifar10"


def _show_version(wanted: bool) -> None:
    if wanted:
        import advlearn

        say(f"advlearn {advlearn.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@app.command()
def data(
    fetch: Annotated[Fetchable | None, typer.Option(help="Download what is missing.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the content of files.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="The data folder; ADVLEARN_DATA_DIR or data/ by default."),
    ] = None,
) -> None:
    """Show which images are here, fetch the full sets, verify them."""
    from advlearn.data import download_cifar10, download_mnist

    try:
        if fetch is not None:
            download = download_mnist if fetch is Fetchable.mnist else download_cifar10
            download(folder)
        findings = list(examine_data(data_folder(folder), verify or fetch is not None))
    except (OSError, ValueError) as error:
        stop(error)
    say(f"Data folder: {data_folder(folder)}")
    report(findings)


@app.command()
def doctor() -> None:
    """Examine this machine: versions, device, data, space, and what to do about each problem."""
    folder = data_folder()
    findings = [
        *examine_packages(),
        *examine_device(),
        *examine_data(folder, verify=True),
        *examine_space(folder),
    ]
    report(findings)
    say("Everything that the lessons need is here.")


@app.command()
def reproduce(
    rows: Annotated[
        str, typer.Option(help="Rows of the paper, separated by commas; all by default.")
    ] = "",
    seeds: Annotated[int | None, typer.Option(help="Most repetitions of each row.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--data", help="Where MNIST and CIFAR-10 lie.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where finished items and results go.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small models on the offline digits, in minutes.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an earlier run has finished.")
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, such as tcp://host:8786.")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="So many processes on this machine; 0 works in this one.")
    ] = 0,
    publish: Annotated[
        bool, typer.Option("--publish", help="Write results, models and tables into data/.")
    ] = False,
) -> None:
    """Run the paper's experiments, row by row, and compare their numbers with the paper's."""
    from advlearn.cli import reproduce as command

    try:
        command.run(
            rows=[row.strip() for row in rows.split(",") if row.strip()],
            seeds=seeds,
            data_dir=folder,
            out=out,
            quick=quick,
            resume=resume,
            scheduler=scheduler,
            workers=workers,
            checkout=CHECKOUT if publish else None,
        )
    except (OSError, ValueError, TypeError, ModuleNotFoundError) as error:
        stop(error)
    except KeyboardInterrupt:
        stop("\nStopped. Finished items are kept: run the same with --resume to go on.")


class Budget(str, Enum):
    """How much work `advlearn evaluate` may do."""

    fast = "fast"
    standard = "standard"
    thorough = "thorough"


@app.command()
def evaluate(
    file: Annotated[
        Path,
        typer.Argument(
            help="A model file of the course (what advlearn.data.reference.pack wrote), or with "
            "--trust an exported program (.pt2)."
        ),
    ],
    eps: Annotated[str, typer.Option(help="The largest change of a pixel: 0.3, or 8/255.")],
    place: Annotated[
        str,
        typer.Option(
            "--data",
            help="The test images: offline (1,000 digits of the package), mnist (all 10,000), or a "
            "folder or archive of SPLIT/CLASS/IMAGE.",
        ),
    ] = "offline",
    split: Annotated[str, typer.Option(help="SPLIT, of a folder.")] = "test",
    size: Annotated[
        int | None, typer.Option(help="Height and width that a folder's images are made to have.")
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="A folder's images in grey.")] = False,
    budget: Annotated[Budget, typer.Option(help="How much work.")] = Budget.standard,
    digits: Annotated[int | None, typer.Option(help="At most so many images.")] = None,
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
    report: Annotated[
        Path | None, typer.Option("--json", help="A file for the result, as JSON.")
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Load an exported program, which can run whatever code is in it. Only for files "
            "of people whom you trust. In a model file of the course nothing is executed.",
        ),
    ] = False,
) -> None:
    """Attack a model by the whole team, and prove what can be proved: both ends of its error.

    What torch.save wrote (.pt, .pth), and TorchScript, are refused: loading them runs code.
    """
    from advlearn.cli import evaluate as command

    try:
        command.run(
            file,
            eps=eps,
            data=place,
            split=split,
            size=size,
            grey=grey,
            budget=budget.value,
            count=digits,
            seed=seed,
            report=report,
            trust=trust,
            say=say,
        )
    except (OSError, ValueError, TypeError) as error:
        stop(error)
    except KeyboardInterrupt:
        stop("\nStopped. Nothing was written.")


@app.command()
def progress() -> None:
    """Show which exercises you have solved in each lesson, what is next, and where that is kept."""
    from advlearn.course import record
    from advlearn.course.progress import progress_map

    course = progress_map()
    say(course)
    if record.folder() is not None:
        say(course.where)
    else:
        say(
            "No progress is kept here: there is no folder of lessons, or ADVLEARN_PROGRESS_DIR is "
            "empty. Run this where you ran `advlearn lab`."
        )


@app.command()
def playground(
    out: Annotated[
        Path | None, typer.Option(help="Only write the page, to this file or into this folder.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Open the playground: draw a digit and attack it, in a page that needs no network.

    It is written to playground.html in the current folder.
    """
    from advlearn.cli import playground as command

    try:
        command.run(out, browser=browser, say=say)
    except (OSError, ValueError) as error:
        stop(error)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def arena(context: typer.Context) -> None:
    """Score an exported model under attack, keep a leaderboard: see `advlearn arena --help`."""
    from advlearn.cli.arena import app as commands

    commands(context.args, prog_name="advlearn arena")


@app.command(
    "class",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def classroom(context: typer.Context) -> None:
    """For teachers: grade a class, see how far everybody is: see `advlearn class --help`."""
    try:
        from advlearn.cli.classes import app as commands
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("advlearn"):
            raise
        stop("The commands for teachers are not in the learner's edition of the course.")

    commands(context.args, prog_name="advlearn class")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    original: Annotated[
        bool, typer.Option("--original", help="Open the lessons themselves, to change the course.")
    ] = False,
) -> None:
    """Open JupyterLab on your copies of the lessons, in my-lessons/; updates keep your edits.

    Further options (--no-browser, --port) are passed on to JupyterLab.
    """
    from advlearn.course import copies as lessons

    try:
        source, mine = lessons.places(CHECKOUT)
        for sentence in [] if original else lessons.refresh(source, mine):
            say(sentence)
        folder = source if original else mine
        raise typer.Exit(lessons.open_lab(lessons.first(folder), context.args))
    except (OSError, ModuleNotFoundError) as error:
        stop(error)
