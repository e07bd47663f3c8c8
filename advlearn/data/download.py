"""Downloads that either finish or leave nothing behind.

Each file is streamed into a scratch folder beside its destination, checked, unpacked, checked
again, and only then renamed to its final name, which is atomic. A lock lets many processes share
one folder. Nothing of the package, nor PyTorch, is imported here: the module is cheap to load.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import queue
import shutil
import socket
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from http.client import IncompleteRead
from pathlib import Path
from typing import NamedTuple, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout
from tqdm import tqdm

# Twice the largest file (CIFAR-10's): a server that never stops must not fill the disk.
_MOST_BYTES = 2 * 170_498_071
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FAILED = ".advlearn-download-failed"
_SCRATCH = ".advlearn-part-"


_Items: TypeAlias = "queue.Queue[int | bytes | Exception]"


class DownloadError(OSError):
    """A download that did not happen; the message says which URL, what went wrong, what to do."""


class _MirrorError(Exception):
    """One mirror failed; the next one may do better."""


class Resource(NamedTuple):
    """One file of a data set: its name on the server, and what it becomes on this disk."""

    remote: str  # "name.gz" or "name.tar.gz"
    md5: str  # of the remote file, as torchvision lists it
    local: str  # the unpacked file, or the folder that a tar archive holds
    sha256: str | None = None  # of the unpacked file; None for a folder


def network_forbidden() -> bool:
    """Say whether ADVLEARN_OFFLINE forbids the network.

    Example:
        >>> os.environ["ADVLEARN_OFFLINE"] = "1"
        >>> network_forbidden()
        True
        >>> del os.environ["ADVLEARN_OFFLINE"]
    """
    return os.environ.get("ADVLEARN_OFFLINE", "").strip().lower() not in {"", "0", "false", "no"}


def deadline_seconds(default: float) -> float:
    """Return ADVLEARN_DOWNLOAD_SECONDS, after which a download is given up, or the default."""
    text = os.environ.get("ADVLEARN_DOWNLOAD_SECONDS") or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ValueError(f"ADVLEARN_DOWNLOAD_SECONDS must be a number of seconds, got {text!r}.")
    return seconds


def is_whole(path: Path, sha256: str | None) -> bool:
    """Say whether the file is there with the right content; a folder only has to be there."""
    if sha256 is None or not path.is_file():
        return path.is_dir() and sha256 is None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == sha256


def fetch(
    folder: Path,
    resources: Sequence[Resource],
    mirrors: Sequence[str],
    *,
    what: str,
    instead: str,
    deadline: float,
    timeout: float = 10.0,
) -> None:
    """Bring every resource that is missing or damaged into `folder`.

    Args:
        folder: where the files go; made when missing.
        resources: the files, with their hashes.
        mirrors: URLs of folders that hold the files, tried in this order.
        what: the data set's name, for the error message.
        instead: what to use in its place, for the error message.
        deadline: seconds to wait for another process's download, and again for one's own.
        timeout: seconds without a single byte after which a mirror is given up.

    Raises:
        DownloadError: nothing usable arrived. Files that were whole before still are.
    """
    remedy = (
        f"What you can do: (1) try again later; (2) put the files into {folder} by hand, as "
        f"data/README.md describes; (3) {instead}."
    )
    if network_forbidden():
        raise DownloadError(
            f"{what} is not in {folder} and was not downloaded from {mirrors[0]}: ADVLEARN_OFFLINE "
            f"forbids the network. Unset it to allow downloads.\n{remedy}"
        )
    asked = time.time()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder, deadline):
            missing = [
                resource
                for resource in resources
                if not is_whole(folder / resource.local, resource.sha256)
            ]
            if missing:
                _repeat_failure(folder, asked)
                _fetch_missing(folder, missing, mirrors, deadline, timeout)
    except _MirrorError as error:
        raise DownloadError(f"{what} was not downloaded.\n{error}\n{remedy}") from error
    except OSError as error:
        full = "the disk (or your quota) is full, free some space: "
        reason = full if error.errno in _FULL else ""
        raise DownloadError(
            f"{what} was not downloaded from {mirrors[0]}: {reason}cannot write to {folder} "
            f"({error.strerror or error}).\n{remedy}"
        ) from error


@contextlib.contextmanager
def _lock(folder: Path, deadline: float) -> Iterator[None]:
    """Let one process at a time into the folder, and sweep what a killed process left."""
    lock = FileLock(str(folder / ".advlearn-download.lock"), timeout=deadline)
    try:
        lock.acquire()
    except Timeout as error:
        raise _MirrorError(f"  Another process held {folder} for {deadline:g} s.") from error
    except NotImplementedError:
        # Some network disks know no locks. Two downloads at once are wasteful, but correct:
        yield  # scratch folders have names of their own, and renames bring equal content.
        return
    try:
        for leftover in folder.glob(f"{_SCRATCH}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        lock.release()


def _repeat_failure(folder: Path, asked: float) -> None:
    """Fail at once when another process failed while this one waited for the lock.

    Without this, thirty learners behind a dead network would wait thirty time-outs in a row.
    """
    with contextlib.suppress(FileNotFoundError):
        failed = folder / _FAILED
        if failed.stat().st_mtime > asked:
            raise _MirrorError(failed.read_text(encoding="utf-8"))
        failed.unlink()


def _fetch_missing(
    folder: Path,
    missing: list[Resource],
    mirrors: Sequence[str],
    deadline: float,
    timeout: float,
) -> None:
    stop_at = time.monotonic() + deadline
    failures = []
    for position, mirror in enumerate(mirrors):
        # A slow mirror may use up its own share of the time, not the share of those after it.
        now = time.monotonic()
        mirror_stop_at = now + (stop_at - now) / (len(mirrors) - position)
        try:
            while missing:
                url = f"{mirror.rstrip('/')}/{missing[0].remote}"
                _fetch_one(url, missing[0], folder, mirror_stop_at, timeout)
                missing.pop(0)
            return
        except _MirrorError as error:
            failures.append(f"  {url}: {error}")
    with contextlib.suppress(OSError):
        (folder / _FAILED).write_text("\n".join(failures), encoding="utf-8")
    raise _MirrorError("\n".join(failures))


def _fetch_one(url: str, resource: Resource, folder: Path, stop_at: float, timeout: float) -> None:
    with tempfile.TemporaryDirectory(
        prefix=_SCRATCH, dir=folder, ignore_cleanup_errors=True
    ) as name:
        scratch = Path(name)
        packed, unpacked = scratch / "packed", scratch / "unpacked"
        _stream(url, packed, resource, stop_at, timeout)
        try:
            if resource.sha256 is None:
                with tarfile.open(packed, "r:gz") as tar:
                    tar.extraction_filter = getattr(tarfile, "data_filter", None)
                    tar.extractall(unpacked)
                unpacked = unpacked / resource.local
            else:
                with gzip.open(packed) as source, unpacked.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError) as error:
            raise _MirrorError(f"the file cannot be unpacked ({error})") from error
        if not is_whole(unpacked, resource.sha256):
            raise _MirrorError("the file does not hold what it should")
        # `write_atomically` does the same for content in memory; this is a large file or a folder.
        unpacked.replace(folder / resource.local)


def _stream(url: str, target: Path, resource: Resource, stop_at: float, timeout: float) -> None:
    """Write the body of `url` to `target`, and check its length and hash.

    A thread of its own reads from the network. A socket's time-out starts anew with each byte, so
    a server that drips one byte a second, in the headers too, would hold a plain read for hours;
    here the caller stops at `stop_at` whatever the thread is waiting for.
    """
    items: _Items = queue.Queue(maxsize=64)
    stopped = threading.Event()
    threading.Thread(target=_pump, args=(url, timeout, items, stopped), daemon=True).start()
    length, received = 0, 0
    digest = hashlib.md5(usedforsecurity=False)
    bar = tqdm(desc=resource.remote, unit="B", unit_scale=True, leave=False)
    try:
        with target.open("wb") as file:
            while item := _next(items, stop_at, received):
                if isinstance(item, Exception):
                    raise _MirrorError(_reason(item, timeout)) from item
                if isinstance(item, int):
                    length = bar.total = item
                    continue
                received += len(item)
                if received > _MOST_BYTES:
                    raise _MirrorError(f"the server sends without end ({received:,} bytes)")
                file.write(item)
                digest.update(item)
                bar.update(len(item))
    finally:
        stopped.set()
        bar.close()
    if length and received != length:
        raise _MirrorError(f"the connection was cut after {received:,} of {length:,} bytes")
    if digest.hexdigest() != resource.md5:
        raise _MirrorError(
            f"the file is corrupt, or a login page of the network (md5 {digest.hexdigest()}, "
            f"not {resource.md5})"
        )


def _pump(url: str, timeout: float, items: _Items, stopped: threading.Event) -> None:
    """Put the length of the body (when known), its bytes, and b"" at its end, or an exception."""

    def put(item: int | bytes | Exception) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                items.put(item, timeout=0.1)
                return

    try:
        request = Request(url, headers={"User-Agent": "advlearn"})
        with urlopen(request, timeout=timeout) as response:
            if length := int(response.headers.get("Content-Length") or 0):
                put(length)
            while not stopped.is_set() and (chunk := response.read1(1 << 16)):
                put(chunk)
        put(b"")
    except IncompleteRead as error:  # the caller compares the lengths
        put(error.partial)
        put(b"")
    except Exception as error:  # explained in the caller's thread
        put(error)


def _next(items: _Items, stop_at: float, received: int) -> int | bytes | Exception:
    with contextlib.suppress(queue.Empty):
        if (left := stop_at - time.monotonic()) > 0:
            return items.get(timeout=left)
    raise _MirrorError(f"too slow: only {received:,} bytes came before the deadline")


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, HTTPError):
        return f"the server answered {error.code} {_printable(error.reason)}"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    if isinstance(cause, socket.gaierror):
        return "the server's name is not known; is there a network?"
    if isinstance(cause, TimeoutError):
        return f"no answer for {timeout:g} s"
    return f"{type(cause).__name__}: {_printable(cause)}"


def _printable(words: object) -> str:
    """Return what a server said as `advlearn._quote` would, which is not imported here."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(words)[:200])
