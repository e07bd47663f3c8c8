"""The command `advlearn`: look after the data, examine the machine, open the lessons."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, NamedTuple, NoReturn

import typer

app = typer.Typer(
    help="A hands-on course on adversarial examples: its data, its doctor, its lessons.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# The lower bounds of pyproject.toml, for the packages that a lesson cannot do without.
NEEDED = {
    "torch": "2.4",
    "torchvision": "0.19",
    "ipywidgets": "7.7",
    "anywidget": "0.9.13",
    "matplotlib": "3.8",
    "mlxtend": "0.23",
    "safetensors": "0.4.3",
}
# That of the extra `lab`; Colab and VS Code have a place of their own for notebooks.
OPTIONAL = {"jupyterlab": "4"}
_CHECKOUT = Path(__file__).resolve().parent.parent
_JPEG_NAMES = {"cifar10-jpeg", "cifar10-jpeg.tar.gz"}


class Finding(NamedTuple):
    """One line of the doctor's report; "PROBLEM" breaks a lesson, "note" does not."""

    state: str  # "ok", "note" or "PROBLEM"
    subject: str
    detail: str
    remedy: str = ""


class Fetchable(str, Enum):
    """What `advlearn data --fetch` can fetch."""

    mnist = "mnist"
    cifar10 = "cifar10"


def _show_version(wanted: bool) -> None:
    if wanted:
        import advlearn

        typer.echo(f"advlearn {advlearn.__version__}")
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
    from advlearn.data import data_folder, download_cifar10, download_mnist

    try:
        if fetch is not None:
            download = download_mnist if fetch is Fetchable.mnist else download_cifar10
            download(folder)
        findings = list(_examine_data(data_folder(folder), verify or fetch is not None))
    except (OSError, ValueError) as error:
        _stop(str(error))
    typer.echo(f"Data folder: {data_folder(folder)}")
    _report(findings)


@app.command()
def doctor() -> None:
    """Examine this machine: versions, device, data, space, and what to do about each problem."""
    from advlearn.data import data_folder

    folder = data_folder()
    findings = [
        *_examine_packages(),
        *_examine_device(),
        *_examine_data(folder, verify=True),
        *_examine_space(folder),
    ]
    _report(findings)
    typer.echo("Everything that the lessons need is here.")


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
    """Run the paper's experiments, row by row, and compare their figures with the paper's."""
    from advlearn.reproduce import command

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
            checkout=_CHECKOUT if publish else None,
        )
    except (OSError, ValueError, TypeError, ModuleNotFoundError) as error:
        # The words of our own errors stand alone; those of the system need their file's name.
        own = isinstance(error, OSError) and error.filename is None and error.args
        _stop(str(error.args[-1] if own else error))
    except KeyboardInterrupt:
        _stop("\nStopped. Finished items are kept: run the same with --resume to go on.")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def arena(context: typer.Context) -> None:
    """Score an exported model under attack, keep a leaderboard: see `advlearn arena --help`."""
    from advlearn.arena.command import app as commands

    commands(context.args, prog_name="advlearn arena")


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
    from advlearn import lessons

    try:
        source, mine = lessons.places(_CHECKOUT)
        for sentence in [] if original else lessons.refresh(source, mine):
            typer.echo(sentence)
        folder = source if original else mine
        raise typer.Exit(lessons.open_lab(folder / lessons.FIRST, context.args))
    except (OSError, ModuleNotFoundError) as error:
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


def _report(findings: list[Finding]) -> None:
    """Print the findings; exit with 1 when one of them is a problem."""
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        typer.echo(f"{finding.state:8} {finding.subject:{width}}  {finding.detail}")
        if finding.remedy:
            typer.echo(f"{'':8} {'':{width}}  -> {finding.remedy}")
    if problems := sum(finding.state == "PROBLEM" for finding in findings):
        typer.echo(f"Problems: {problems}.")
        raise typer.Exit(1)


def _examine_packages() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    old = sys.version_info < (3, 10)
    yield Finding(
        "PROBLEM" if old else "ok",
        "Python",
        f"{platform.python_version()} on {system}",
        "Install Python 3.11." if old else "",
    )
    for name, least in {"numpy": "0", **NEEDED, **OPTIONAL}.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            state = "note" if name in OPTIONAL else "PROBLEM"
            yield Finding(state, name, "not installed", f"Run `pip install '{name}>={least}'`.")
            continue
        if _numbers(version) < _numbers(least):
            remedy = f"Run `pip install --upgrade '{name}>={least}'`."
            yield Finding("PROBLEM", name, f"{version} is older than {least}", remedy)
        else:
            yield Finding("ok", name, version)
    yield _examine_widgets()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])


def _examine_widgets() -> Finding:
    """Look for JupyterLab's half of ipywidgets: without it sliders show as a line of text."""
    remedy = "Run `pip install --force-reinstall jupyterlab_widgets` and reload the browser's page."
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return Finding(
            "PROBLEM", "widgets", "Jupyter is not installed", "Run `pip install jupyterlab`."
        )
    places = [Path(path) / "@jupyter-widgets" for path in jupyter_path("labextensions")]
    if any((place / "jupyterlab-manager" / "package.json").is_file() for place in places):
        return Finding("ok", "widgets", "JupyterLab's extension is installed")
    return Finding("PROBLEM", "widgets", "JupyterLab's extension is not installed", remedy)


def _examine_device() -> Iterator[Finding]:
    import torch

    yield Finding("ok", "processor", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        yield Finding("ok", "GPU", "none; every lesson is made for the processor")
        return
    try:
        torch.ones(1, device="cuda").add_(1)
    except RuntimeError as error:
        detail = f"does not work: {str(error).splitlines()[0]}"
        yield Finding("note", "GPU", detail, "Set CUDA_VISIBLE_DEVICES='' to use the processor.")
        return
    memory = torch.cuda.get_device_properties(0).total_memory
    yield Finding("ok", "GPU", f"{torch.cuda.get_device_name(0)}, {_size(memory)}")


def _examine_data(folder: Path, verify: bool) -> Iterator[Finding]:
    from advlearn._download import network_forbidden
    from advlearn._files import read_offline_digits

    try:
        read_offline_digits()
        yield Finding("ok", "offline digits", "5,000, verified; what the lessons use")
    except (ImportError, OSError, ValueError) as error:
        yield Finding("PROBLEM", "offline digits", str(error), "See data/README.md.")
    if os.environ.get("ADVLEARN_DATA_DIR") and not folder.is_dir():
        remedy = "Make it, or unset ADVLEARN_DATA_DIR."
        yield Finding("note", "ADVLEARN_DATA_DIR", f"{folder} does not exist", remedy)
    mnist = list(_examine_mnist(folder, verify))
    missing = any(finding.detail == "missing" for finding in mnist)
    yield from mnist
    yield from _examine_cifar10(folder, verify)
    network, choice = "may be used", "a download, or the offline digits when it fails"
    if network_forbidden():
        network, choice = "forbidden by ADVLEARN_OFFLINE", "the offline digits"
    yield Finding("ok", "network", network)
    yield Finding("ok", "load_mnist()", f"takes {choice if missing else 'the files'}")


def _examine_mnist(folder: Path, verify: bool) -> Iterator[Finding]:
    from advlearn._files import MNIST_SHA256, mnist_path, read_mnist

    remedy = "Lessons do without. For the full MNIST: `advlearn data --fetch mnist`."
    paths = {name: mnist_path(folder / "MNIST" / "raw", name) for name in MNIST_SHA256}
    if not any(paths.values()):
        yield Finding("note", "full MNIST", "missing", remedy)
        return
    for name, path in paths.items():
        if path is None:
            yield Finding("note", name, "missing", remedy)
            continue
        try:
            if verify:
                read_mnist(path.parent, name)
            state = "verified" if verify else "not verified (--verify does)"
            yield Finding("ok", name, f"{_size(path.stat().st_size)}, {state}")
        except (OSError, ValueError) as error:
            yield Finding("PROBLEM", name, str(error))


def _examine_cifar10(folder: Path, verify: bool) -> Iterator[Finding]:
    from advlearn._files import read_cifar10

    if (folder / "cifar-10-batches-py").is_dir():
        try:
            if verify:
                read_cifar10(folder, "test")
            state = "verified" if verify else "not verified (--verify does)"
            yield Finding("ok", "CIFAR-10", f"original files, {state}")
        except (OSError, ValueError) as error:
            yield Finding("PROBLEM", "CIFAR-10", str(error))
    elif jpegs := [p for p in folder.glob("cifar10-jpeg*") if p.name in _JPEG_NAMES]:
        yield Finding("ok", "CIFAR-10", f"re-encoded as JPEG: {jpegs[0].name}")
    else:
        yield Finding("note", "CIFAR-10", "not here; no lesson needs it", "See data/README.md.")


def _examine_space(folder: Path) -> Iterator[Finding]:
    from advlearn._files import published

    while not folder.is_dir():
        folder = folder.absolute().parent
    free = shutil.disk_usage(folder).free
    remedy = "Free some: the full MNIST needs 70 MB, a lesson's own files a few."
    found = "disk", f"{_size(free)} free"
    yield Finding("note", *found, remedy) if free < 2e8 else Finding("ok", *found)
    memory = _available_memory()
    if memory is None:
        yield Finding("ok", "memory", "unknown on this system; a lesson takes up to 1.5 GB")
    else:
        remedy = "Close other programs and shut down other notebooks: a lesson takes up to 1.5 GB."
        remedy = remedy if memory < 1.5e9 else ""
        state = "note" if remedy else "ok"
        yield Finding(state, "memory", f"{_size(memory)} available", remedy)
    weights = len(list(published("weights").glob("*.safetensors")))
    if weights:
        yield Finding("ok", "weights", f"{weights} reference models")
    else:
        remedy = "Lessons that load one need the whole repository of the course."
        where = f"no reference models in {published('weights')}"
        yield Finding("note", "weights", where, remedy)


def _available_memory() -> float | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


if __name__ == "__main__":
    app()
