"""Files that others made, read only when they are plain files of a sane size.

A pipe or a device has no end, a folder no content, and a file may be of any size. What is read is
looked at first; JSON is read whatever its depth.
"""

from __future__ import annotations

import gc
import json
import os
import stat
from pathlib import Path
from typing import IO, Any

from advlearn._quote import printable, quote


def open_plain(path: str | Path) -> IO[bytes]:
    """Open a plain file for reading; never wait for a pipe, and never read a device.

    Raises:
        ValueError: it is a folder, a pipe, a device or a socket.
        OSError: it is not there, or may not be read.

    Example:
        >>> open_plain(".")
        Traceback (most recent call last):
            ...
        ValueError: '.' is no plain file. Name a file, not a folder, a pipe or a device.
    """
    # Looked at before it is opened, since opening a device may do something, and after, since it
    # may have changed between. Without O_NONBLOCK, opening a pipe waits for a writer.
    _require_plain(os.stat(path), path)  # noqa: PTH116
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    file = open(os.open(path, flags), "rb")  # noqa: PTH123, SIM115
    try:
        _require_plain(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    return file


def _require_plain(status: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(
            f"{quote(str(path), 300)} is no plain file. Name a file, not a folder, a pipe or a "
            "device."
        )


def read_plain(path: str | Path, most: int, remedy: str = "") -> bytes:
    """Return the content of a plain file of at most `most` bytes.

    Args:
        path: of the file.
        most: bytes.
        remedy: what to do about a larger file.

    Raises:
        ValueError: it is no plain file, or is larger.
        OSError: it cannot be read.

    Example:
        >>> read_plain(__file__, most=10)
        Traceback (most recent call last):
            ...
        ValueError: '_bounded.py' has ... bytes; at most 10 are taken.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= most:
            content = file.read(most + 1)  # it may have grown
            if len(content) <= most:
                return content
            size = len(content)
    name = quote(Path(path).name, 300)
    raise ValueError(f"{name} has {size:,} bytes; at most {most:,} are taken. {remedy}".rstrip())


MOST_LISTS = 400_000
"""Lists and objects of a JSON text that is read; a lesson with its outputs has some thousands."""


def parse_json(content: bytes | str) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: it is not JSON, is nested too deeply, has too many lists, or is not Unicode; the
            message says why.

    Example:
        >>> parse_json(b"[" * 100_000)
        Traceback (most recent call last):
            ...
        ValueError: it is nested too deeply
    """
    # A list of three bytes takes sixty in memory. Brackets in texts count too: the limit is far
    # above what they come to.
    text = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    lists = text.count(b"[") + text.count(b"{")
    if lists > MOST_LISTS:
        raise ValueError(f"it has {lists:,} lists and objects; at most {MOST_LISTS:,} are read")
    # Of many small lists each takes part in many rounds of the collector: seconds.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {printable(error)}") from None
    finally:
        if collecting:
            gc.enable()
