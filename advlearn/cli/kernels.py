"""`advlearn class kernels`: kernels that share the memory of one parent."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from advlearn.classroom.kernels import spec
from advlearn.cli.console import App, Commands, say, stop

SOCKET = Path("/run/advlearn/kernels")

app = App(
    cls=Commands,
    help="Kernels that share the memory of one warm parent. For servers with many learners; Linux.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Place = Annotated[
    Path | None,
    typer.Option(
        "--into", help="The folder of kernels; that of this Python environment by default."
    ),
]
Name = Annotated[
    str, typer.Option(help="The kernel's name. The lessons ask for python3.", metavar="NAME")
]


def _place(into: Path | None) -> Path:
    return into or Path(sys.prefix) / "share" / "jupyter" / "kernels"


@app.command()
def install(
    socket: Annotated[
        Path | None,
        typer.Option(
            help="The socket of a parent for the whole machine (see `serve`). Without it each "
            "server starts its own."
        ),
    ] = None,
    into: Place = None,
    name: Name = spec.NAME,
) -> None:
    """Tell Jupyter of these kernels."""
    try:
        if socket is not None and not socket.is_absolute():
            raise ValueError(f"--socket {socket} must be a full path, such as {SOCKET}.")
        folder = spec.install(_place(into), socket, name=name)
    except (OSError, ValueError) as error:
        stop(error)
    say(f"Written: {folder / 'kernel.json'}")


@app.command()
def remove(into: Place = None, name: Name = spec.NAME) -> None:
    """Take them away again. Kernels that run go on."""
    try:
        say(f"Removed: {spec.remove(_place(into), name=name)}")
    except (OSError, ValueError) as error:
        stop(error)


@app.command()
def serve(
    socket: Annotated[Path, typer.Option(help="Where it listens.")] = SOCKET,
    most: Annotated[int, typer.Option(min=1, help="Kernels at a time.")] = 1000,
    most_each: Annotated[int, typer.Option(min=1, help="Kernels of one user at a time.")] = 20,
) -> None:
    """Be the parent: load the course once, and fork a kernel for whoever asks.

    The superuser's serves everybody on the machine; each kernel belongs to the user who asked, and
    has the limits of that user's server. Anybody else's serves its own user.
    """
    try:
        if sys.platform != "linux":
            raise OSError(f"forked kernels need Linux, and this is {sys.platform}.")
        if not socket.parent.is_dir():
            raise FileNotFoundError(f"--socket {socket}: there is no folder {socket.parent}.")
    except OSError as error:
        stop(error)
    # A Python that takes nothing from the folder or the variables of who starts it.
    alone = ["-I"] if os.geteuid() == 0 else []
    command = [sys.executable, *alone, "-m", "advlearn.classroom.kernels.parent"]
    command += ["--socket", str(socket), "--most", str(most), "--most-each", str(most_each)]
    os.execv(command[0], command)
