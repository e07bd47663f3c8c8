"""Grade 300 submissions over two Dask workers, of which one is killed: `benchmarks/cluster.py`.

The scheduler and the workers are processes of their own on this machine, as `dask scheduler` and
`dask worker` start them. Once a third is graded one worker is killed for good. All must be graded,
and each as without a cluster (`--without-comparison` leaves that out).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

CLASS = 300
SETUP = """\
import torch
from torch import nn, Tensor
import torch.nn.functional as F
from advlearn.exercises import lesson03 as ex
"""
# What a learner does to a right answer: nothing twice, or a slip.
SLIPS = (
    ("", ""), ("", ""), ("-", "+"), (r"torch\.sign|torch\.sigmoid", "torch.tanh"),
    (r"\.sign\(\)", ""), (r"clamp\(", "clip("), ("eps", "2 * eps"), (r"return .*", "return None"),
    (r"return .*", "raise ValueError('no idea')"), (r"return ", "return undefined + "),
)  # fmt: skip


def hand_in(folder: Path, count: int) -> None:
    """Write the notebooks of a class: each exercise of lesson 03 right, with a slip, or empty."""
    from advlearn.exercises import lesson03

    chance = random.Random(0)
    for k in range(count):
        cells = [f"{SETUP}# learner {k}\n"]  # what two hand in alike is graded once
        for exercise in lesson03.EXERCISES:
            head, _, body = exercise.source().partition("\n")
            old, new = chance.choice(SLIPS)
            body = re.sub(old, new, body, count=1) if old else f"    # learner {k}\n{body}"
            if chance.random() < 0.15:
                body = "    ..."
            cells.append(f"{head}\n{body}\n\nex.{exercise.name}.check({exercise.name})")
        whole = [{"cell_type": "code", "source": text} for text in cells]
        place = folder / f"learner {k:03d}"
        place.mkdir(parents=True)
        (place / "03_fgsm_linear_models.ipynb").write_text(json.dumps({"cells": whole}))


def free_port() -> int:
    """Return a port that nobody listens at."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(*command: str) -> subprocess.Popen[bytes]:
    """Start a part of the cluster, in a session of its own."""
    whole = [sys.executable, "-m", "dask", *command]
    return subprocess.Popen(
        whole, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def family(process: int) -> set[int]:
    """Return a process with all that it has started, and those in turn."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, left = set(), [process]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += children.get(one, [])
    return found


class Spent:
    """Adds up the processor time of processes that come and go."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[int, str], float] = {}

    def look(self, roots: list[int]) -> None:
        """Note what each process, and its children that have ended, have taken so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        for process in {one for root in roots for one in family(root)}:
            try:
                fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            own = sum(map(int, fields[11:13])) / ticks
            self.seconds[process, fields[19]] = own

    @property
    def total(self) -> float:
        """All processor seconds that were seen."""
        return sum(self.seconds.values())


def grade(folder: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Start the command."""
    command = [sys.executable, "-m", "advlearn.cli", "class", "grade", str(folder), "--out",
               str(out), *options]  # fmt: skip
    # A file, since nobody reads a pipe while the class is graded: full, it would stop the command.
    with out.with_suffix(".printed").open("w") as printed:
        return subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT, text=True)


def over_a_cluster(folder: Path, out: Path, options: list[str]) -> dict[str, Any]:
    """Grade with two workers, kill one after a third, and return what was measured."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    parts = [start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")]
    parts += [
        start("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        for _ in range(2)
    ]
    spent, killed_at, loads, told = Spent(), None, [], 0
    try:
        wait_for_workers(address, 2)
        began = time.monotonic()
        running = grade(folder, out, "--scheduler", address, *options)
        while running.poll() is None:
            spent.look([running.pid, *(part.pid for part in parts)])
            done = len(list((out / ".work").glob("*.json")))
            loads.append(os.getloadavg()[0])
            if done > told:
                told = done
                print(f"{done} graded, {time.monotonic() - began:.0f} s", file=sys.stderr)
            if killed_at is None and done >= class_of(folder) // 3:
                killed_at = done
                os.kill(parts[-1].pid, signal.SIGKILL)
            time.sleep(0.5)
        seconds = time.monotonic() - began
        printed = out.with_suffix(".printed").read_text()
        if running.returncode:
            raise SystemExit(printed)
        print(next(line for line in printed.splitlines() if "learners. Grades" in line))
    finally:
        for part in parts:
            part.kill()  # nothing of theirs is to be kept
        for part in parts:
            part.wait()
    return {"seconds": seconds, "processor seconds": spent.total, "killed at": killed_at,
            "highest load": max(loads)}  # fmt: skip


def wait_for_workers(address: str, count: int) -> None:
    """Return once so many workers have come; a busy machine takes a while to start them."""
    from distributed import Client

    with Client(address, timeout=300, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=300)


def class_of(folder: Path) -> int:
    """Return how many notebooks a folder has."""
    return len(list(folder.rglob("*.ipynb")))


def marks(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what is kept of each notebook."""
    kept = {path.name: json.loads(path.read_text()) for path in (out / ".work").glob("*.json")}
    return {name: [one | {"path": ""} for one in told["results"]] for name, told in kept.items()}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=CLASS)
    parser.add_argument("--without-comparison", action="store_true")
    parser.add_argument("--allow-network", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, far, here = (Path(place) / name for name in ("in", "far", "here"))
        hand_in(folder, given.count)
        options = ["--allow-network"] if given.allow_network else []
        rows = over_a_cluster(folder, far, options)
        graded = marks(far)
        rows |= {"notebooks": given.count, "graded": len(graded)}
        if not given.without_comparison:
            began = time.monotonic()
            grade(folder, here, "--workers", "2").wait()
            rows["seconds on this machine without a cluster"] = time.monotonic() - began
            rows["graded otherwise than there"] = sum(
                graded.get(name) != told for name, told in marks(here).items()
            )
    print("| what | |\n|---|--:|")
    for name, value in rows.items():
        print(f"| {name} | {value:.1f} |" if isinstance(value, float) else f"| {name} | {value} |")
    right = rows["graded"] == given.count and not rows.get("graded otherwise than there")
    sys.exit(0 if right and rows["killed at"] else 1)


if __name__ == "__main__":
    main()
