"""How a hostile file is refused: in which words, how fast, and with how much memory.

Each is tried in a process of its own, a copy of one in which everything is already imported, so
that the memory above that of the idle process is what the file took.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

MOST_SECONDS, MOST_MEGABYTES = 1.0, 200.0
MOST_WORDS = 2000  # characters of a message, paths of the machine among them


class Refusal(NamedTuple):
    """What became of a file."""

    kind: str  # of the exception; "" if there was none
    words: str
    seconds: float  # of the processor
    megabytes: float  # above the idle process, at the peak


def refusal(act: Callable[[], object]) -> Refusal:
    """Try it in a copy of this process, and measure.

    Where the system forgets the peak of a process on request, the copy's own peak is exact. Where
    it does not, a copy begins with the peak of the process that it was made of, so this process
    looks every millisecond at what the copy has.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)  # those of the parent are not here
            kind = words = ""
            give_back_free_memory()
            forget_peak()
            start, before, idle = time.process_time(), peak(), resident()
            os.write(writing, b"!")  # from here on memory counts
            try:
                act()
            except BaseException as error:
                kind, words = type(error).__name__, str(error)
            taken = time.process_time() - start
            report = json.dumps([kind, words, taken, peak() - before, idle])
            os.write(writing, report.encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writing)
    seen = 0.0
    os.read(reading, 1)
    while not select.select([reading], [], [], 0.001)[0]:
        seen = max(seen, resident(child))
    with os.fdopen(reading, encoding="utf-8") as pipe:
        kind, words, taken, grown, idle = json.loads(pipe.read())
    os.waitpid(child, 0)
    return Refusal(kind, words, taken, max(grown, seen - idle))


def give_back_free_memory() -> None:
    """Give the system what the allocator keeps: what an earlier test freed would be taken again."""
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def forget_peak() -> None:
    """Count from now on, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> float:
    """Return the most memory that this process had (on Linux, since `forget_peak`), in MB."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return kib * 1024 / 1_000_000
    unit = 1 if sys.platform == "darwin" else 1024  # in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1_000_000


def resident(process: int | str = "self") -> float:
    """Return the memory that a process has now, in MB; 0 where the system does not tell."""
    with suppress(OSError):
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE") / 1_000_000
    return 0.0


def row(name: str, refused: Refusal) -> str:
    """Return a line of the table, without the folder of the test."""
    words = re.sub(r"[^\s']*/pytest-\d+/[^/:\s]+/?", "", refused.words).replace("|", "&#124;")
    return (
        f"| {name} | {refused.kind}: {words[:160]} "
        f"| {refused.seconds:.2f} s | {max(refused.megabytes, 0):.0f} MB |"
    )


def check(name: str, refused: Refusal, kinds: tuple[str, ...]) -> None:
    """Require words, in time, with little memory; print the row of the table."""
    print(row(name, refused))
    assert refused.kind in kinds, f"{refused.kind or 'it was taken'}: {refused.words[:300]}"
    assert len(refused.words) < MOST_WORDS
    assert all(line.isprintable() for line in refused.words.split("\n"))
    assert refused.seconds < MOST_SECONDS
    assert refused.megabytes < MOST_MEGABYTES
