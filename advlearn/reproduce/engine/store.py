"""The folder of finished items: what a stopped run has left, and what the next one keeps."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

from advlearn._atomic import write_atomically
from advlearn._bounded import read_plain

_MARK = b"advlearn item 1\n"
MOST_BYTES = 50_000_000  # of an item; the largest model of the paper's rows has 38 million


class StoreError(OSError):
    """A finished item or a result could not be written; what was written before it is kept."""


def write_or_say_why(path: Path, content: bytes, failed: Callable[[str, str], str]) -> None:
    """Write a file as `write_atomically` does, with an error that says what to do.

    Args:
        path: in a folder that exists.
        content: of the file.
        failed: (reason, remedy) -> the message when it cannot be written.

    Raises:
        StoreError: the disk is full, or the folder is not writable. Nothing half-written stays.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        need = f"{max(len(content) / 1e6, 0.1):.1f} MB"
        remedy = f"Free {need} or more" if full else f"Make {path.parent} writable"
        message = failed(error.strerror or str(error), remedy)
        raise StoreError(error.errno, message) from error


class Store:
    """Finished items as files, each written whole or not at all.

    A file holds the identity of its item (a hash of all that decides it), a hash of its content,
    and the content. An item of another identity, or a damaged one, counts as not there; it is set
    aside under another name, never deleted.

    Args:
        folder: made when missing.

    Raises:
        OSError: the folder cannot be made; the message says so.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                error.errno, f"cannot make {folder} ({error.strerror}). Pass --out FOLDER."
            ) from error

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.item"

    def put(self, key: str, identity: str, content: bytes) -> None:
        """Keep a finished item.

        Raises:
            ValueError: it is larger than `get` would read.
            StoreError: the disk is full, or the folder is not writable. Nothing half-written stays.
        """
        if len(content) > MOST_BYTES - 1000:
            raise ValueError(
                f"{key} has {len(content):,} bytes; an item has {MOST_BYTES:,} at most."
            )
        head = f"{identity} {hashlib.sha256(content).hexdigest()}\n".encode()
        write_or_say_why(
            self._path(key),
            _MARK + head + content,
            lambda reason, remedy: (
                f"{key} could not be kept ({reason}). All finished items before it are. "
                f"{remedy}, then run again with --resume."
            ),
        )

    def get(
        self, key: str, identity: str, sound: Callable[[bytes], bool] = lambda _: True
    ) -> bytes | None:
        """Return a finished item's content, or None when it must be made (again).

        Args:
            key, identity: of the item.
            sound: whether a content is what such an item holds; if not, it counts as damaged. A
                hash says that a content is whole, and anybody can make one.

        Raises:
            StoreError: what lies there cannot be read, or not be set aside.
        """
        path = self._path(key)
        if not os.path.lexists(path):
            return None
        try:
            known, content = _read(path) or ("", b"")
            if known == identity and sound(content):
                return content
            # The first free number: what was set aside before stays too.
            kind = "damaged" if known in ("", identity) else "stale"
            aside = (path.with_name(f"{key}.{number}.{kind}") for number in count(1))
            path.replace(next(other for other in aside if not os.path.lexists(other)))
        except OSError as error:
            raise StoreError(
                error.errno,
                f"{path} can neither be read nor set aside ({error.strerror or error}). Make "
                f"{self.folder} writable, or pass another --out FOLDER.",
            ) from error
        return None

    def finished(self) -> list[str]:
        """Return the keys of all items, of whatever identity."""
        return sorted(path.stem for path in self.folder.glob("*.item"))


def _read(path: Path) -> tuple[str, bytes] | None:
    """Return the identity and the content of an item, or None when its file is damaged."""
    try:
        raw = read_plain(path, MOST_BYTES)
    except (ValueError, FileNotFoundError):  # a pipe, a link to nowhere, a huge file
        return None
    end = raw.find(b"\n", len(_MARK), len(_MARK) + 1000)
    known = raw[len(_MARK) : max(end, 0)].decode("ascii", "replace").split()
    if not raw.startswith(_MARK) or len(known) != 2:
        return None
    content = raw[end + 1 :]
    return (known[0], content) if known[1] == hashlib.sha256(content).hexdigest() else None
