"""What the command prints: never more than the console can show, and nothing that steers it."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
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


class App(typer.Typer):
    """An app in whose commands `~` at the start of a path is the home folder.

    A shell leaves it as it is in --out=~/mine, and within quotes.
    """

    def command(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        """Return a decorator that makes a function a command, and leaves the function as it is."""
        register = super().command(*args, **options)

        def made(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_at_home(function))
            return function

        return made


def _at_home(function: Callable[..., Any]) -> Callable[..., Any]:
    def found(value: Any) -> Any:
        # Not `Path.expanduser`, which raises for a user without a home.
        return Path(os.path.expanduser(value)) if isinstance(value, Path) else value  # noqa: PTH111

    @functools.wraps(function)
    def command(*args: Any, **options: Any) -> Any:
        return function(*args, **{name: found(value) for name, value in options.items()})

    return command


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
