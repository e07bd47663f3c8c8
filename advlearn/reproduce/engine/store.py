"""The folder of finished items: what a stopped run has left, and what the next one keeps."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from itertools import count
from pathlib import Path

from advlearn._atomic import write_atomically

_MARK = b"advlearn item 1\n"


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
            StoreError: the disk is full, or the folder is not writable. Nothing half-written stays.
        """
        head = f"{identity} {hashlib.sha256(content).hexdigest()}\n".encode()
        write_or_say_why(
            self._path(key),
            _MARK + head + content,
            lambda reason, remedy: (
                f"{key} could not be kept ({reason}). All finished items before it are. "
                f"{remedy}, then run again with --resume."
            ),
        )

    def get(self, key: str, identity: str) -> bytes | None:
        """Return a finished item's content, or None when it must be made (again)."""
        path = self._path(key)
        if not path.is_file():
            return None
        raw = path.read_bytes()
        head, _, content = raw.removeprefix(_MARK).partition(b"\n")
        known = head.decode("ascii", "replace").split()
        whole = (
            raw.startswith(_MARK)
            and len(known) == 2
            and known[1] == hashlib.sha256(content).hexdigest()
        )
        if whole and known[0] == identity:
            return content
        # The first free number: what was set aside before stays too.
        kind = "stale" if whole else "damaged"
        aside = (path.with_name(f"{key}.{number}.{kind}") for number in count(1))
        path.replace(next(other for other in aside if not other.exists()))
        return None

    def finished(self) -> list[str]:
        """Return the keys of all items, of whatever identity."""
        return sorted(path.stem for path in self.folder.glob("*.item"))
