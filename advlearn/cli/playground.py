"""`advlearn playground`: the page as a file, opened in the browser."""

from __future__ import annotations

import errno
import webbrowser
from collections.abc import Callable
from pathlib import Path

from advlearn._atomic import write_atomically
from advlearn.playground.page import TITLE, html

NAME = "playground.html"
"""Of the file, in the current folder: some browsers see neither /tmp nor hidden folders."""

_HEAD = 4_000  # bytes in which a page of ours has its title


def run(out: Path | None, *, browser: bool, say: Callable[[object], None]) -> None:
    """Write the page, say where, and open it unless it was asked for as a copy.

    Raises:
        FileExistsError: something else is there, which is not written over.
        OSError: it cannot be written.
        ValueError: a shipped file is damaged.
    """
    path = Path(NAME) if out is None else out
    if path.is_dir():
        path /= NAME
    if not path.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "There is no such folder. Make it first", str(path.parent)
        )
    if path.exists() and not _is_ours(path):
        raise FileExistsError(
            f"{path} is there and is no playground: it is not written over. Name another file with "
            "--out, or move that one."
        )
    write_atomically(path, html())
    path = path.resolve()
    say(f"The playground is {path}, one file that works anywhere without a network.")
    if out is None and browser and not webbrowser.open(path.as_uri()):
        say("No browser could be opened from here: open the file in one.")


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f"<title>{TITLE}</title>".encode() in file.read(_HEAD)
