"""The folder of finished items: what a stopped run has left, and what the next one keeps."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

_MARK = b"advlearn item 1\n"


class StoreError(OSError):
    """A finished item could not be written; the items before it are kept."""


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
        path = self._path(key)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(_MARK + head + content)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            need = f"{len(content) / 1e6:.1f} MB"
            remedy = (
                f"Free {need} or more"
                if error.errno == errno.ENOSPC
                else f"Make {self.folder} writable"
            )
            raise StoreError(
                error.errno,
                f"{key} could not be kept ({error.strerror}). All finished items before it are. "
                f"{remedy}, then run again with --resume.",
            ) from error

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
        path.replace(path.with_suffix(".stale" if whole else ".damaged"))
        return None

    def finished(self) -> list[str]:
        """Return the keys of all items, of whatever identity."""
        return sorted(path.stem for path in self.folder.glob("*.item"))
