"""Files that are written whole: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file in one step, whatever else writes or reads it.

    The content goes into a file of its own name beside the target, is brought to the disk, and
    takes the target's place in one step. Many processes may write one file at once: the last one
    stays. A process that is killed leaves the old file as it was, and perhaps a hidden `.part`.

    Args:
        path: in a folder that exists. A file that is there keeps its permissions; where it is a
            link, the file that it leads to is written.
        content: bytes, or text that is written as UTF-8, line ends as they are.

    Raises:
        OSError: it cannot be written. The error has the system's number and the name of the file;
            the old file is as it was, and nothing half-written stays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "a.txt", "one")
        ...     write_atomically(Path(folder) / "a.txt", "two")
        ...     (Path(folder) / "a.txt").read_text(), len(list(Path(folder).iterdir()))
        ('two', 1)
    """
    path = Path(os.path.realpath(path))  # a link stays one, and its target gets the content
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with part.open("xb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                # Else a power cut may leave the new name on an empty file.
                os.fsync(file.fileno())
            if path.exists():
                with contextlib.suppress(OSError):  # some network disks know no permissions
                    part.chmod(path.stat().st_mode & 0o7777)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        # A write that fails does not name its file; a rename names the part.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], timeout: float = 30) -> Iterator[Path]:
    """Hold the lock of a file, `PATH.lock`: others who ask for it, threads or processes, wait.

    Yields:
        The file itself: where the path is a link, what it leads to. All its names have one lock.

    Args:
        path: in a folder that exists.
        timeout: seconds to wait.

    Raises:
        FileExistsError: what lies at the place of the lock is no lock, and would be emptied.
        TimeoutError: another one has held the lock all the time.
        OSError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder) / "a.txt") as path:
        ...     path.name, Path(f"{path}.lock").exists()
        ('a.txt', True)
    """
    from filelock import FileLock

    path = Path(os.path.realpath(path))
    lock = Path(f"{path}.lock")
    # Taking a lock may empty its file, and that of a link.
    if lock.is_symlink() or (lock.exists() and not (lock.is_file() and lock.stat().st_size == 0)):
        raise FileExistsError(
            f"{lock} is in the way: the lock of {path.name} belongs there. Move it elsewhere."
        )
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(lock, timeout=timeout))
        except TimeoutError as error:
            raise TimeoutError(
                f"another program has been writing {path.name} for {timeout:g} seconds. Wait, then "
                "try again."
            ) from error
        except NotImplementedError:
            pass  # this file system has no locks: better without one than not at all
        yield path
