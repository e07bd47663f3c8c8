"""What the command prints: never more than the console can show, and nothing that steers it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from advlearn._quote import printable

_MOST_LINE, _MOST_LINES = 2_000, 100  # of a message that ends a command


class Commands(TyperGroup):
    r"""Commands that end no differently where a console cannot show every letter.

    Names may be in any script. A console on Windows, or a file that output is redirected to, may
    know one code page only: a letter that is not in it is shown as its escape, such as \ubaa8.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command."""
        for stream in (sys.stdout, sys.stderr):
            # Some replacements for a stream (of notebooks, of tests) cannot be set up.
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        return super().main(*args, **options)


def say(text: object, *, err: bool = False) -> None:
    """Print a text. Its line ends stay; other control characters, of a name say, are escaped."""
    lines = str(text).split("\n")
    typer.echo("\n".join(printable(line, most=_MOST_LINE) for line in lines), err=err)


def stop(error: Exception | str) -> NoReturn:
    """Print a message to the standard error stream, and end the command with the exit status 1."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        # Python puts "[Errno 28]" before it. An error of our own holds the whole message.
        text = error.strerror
        if error.filename is not None:
            text = f"{text}: {os.fsdecode(error.filename)}."
    lines = text[: 2 * _MOST_LINE].split("\n")[:_MOST_LINES]
    say("\n".join(lines) or type(error).__name__, err=True)
    raise typer.Exit(1)
