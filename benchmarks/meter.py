"""Run a command, and print what all of its processes took, as JSON: `python meter.py COMMAND …`.

Processor time is that of every process which has ended and was waited for. On Linux this process
adopts those whose parent has ended first, so that none is forgotten. Memory is the most that all
held at one time, shared pages counted once (PSS), looked at twice a second; 0 where there is no
`/proc`. What the command prints goes to stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

_ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of Linux


def held() -> float:
    """Return the gigabytes that the descendants of this process hold now."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    total = 0
    for process, parent in parents.items():
        above = parent
        while above in parents and above != os.getpid():
            above = parents[above]
        if above != os.getpid():
            continue
        with suppress(OSError, ValueError, StopIteration):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e9


def reap() -> None:
    """Wait for what was adopted: only then its time is counted."""
    deadline = time.monotonic() + 10
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)


def main(command: list[str]) -> int:
    """Run the command, print its cost, and return its status."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1)
    peak, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            peak[0] = max(peak[0], held())

    watcher = threading.Thread(target=watch, daemon=True)
    load, started = os.getloadavg()[0], time.perf_counter()
    watcher.start()
    status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    seconds = time.perf_counter() - started
    over.set()
    watcher.join()
    reap()
    used = os.times()
    spent = used.children_user + used.children_system
    print(json.dumps({"seconds": seconds, "processor": spent, "gigabytes": peak[0], "load": load}))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
