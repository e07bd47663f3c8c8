"""Grade for a worker of a cluster, in a process of its own: JSON comes in, and JSON goes out.

A worker has threads, connections to the scheduler and perhaps other people's work. So nothing is
forked from it: `serve`, in the worker, hands a notebook to a *station*, a process that was started
anew. The station forks the confined processes that run the learners' code, as on one machine.

A worker and the scheduler load this module and nothing else of the course: PyTorch stays out of
them.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from typing import Any, BinaryIO

TRIES = 1
"""More, for a notebook at which the grader itself has ended."""

ENDED = "the grader itself ended at it, twice"

IDLE = 300.0
"""Seconds after which a station without work ends: it holds PyTorch in memory."""

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
_START += "from advlearn.classroom.station import main; main()"


def versions() -> dict[str, str]:
    """Return what must be alike on all machines for the grades to be those of one.

    Example:
        >>> sorted(versions())
        ['NumPy', 'PyTorch', 'Python', 'advlearn', 'checks']
    """
    import advlearn
    from advlearn.classroom.grade import checks_hash

    def release(name: str) -> str:
        return ".".join(metadata.version(name).split(".")[:2])

    return {
        "advlearn": advlearn.__version__,
        "checks": checks_hash()[:12],
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "PyTorch": release("torch"),
        "NumPy": release("numpy"),
    }


# --- In the worker --------------------------------------------------------------------------------


class Station:
    """A process that grades, as its worker sees it."""

    def __init__(self) -> None:
        # Its modules come from where the worker's do. A signal to the worker's terminal is for the
        # worker: it ends its stations by closing the line.
        command = [sys.executable, "-c", _START, json.dumps(sys.path)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ask(self, request: str) -> str:
        """Return the answer to a request.

        Raises:
            OSError: the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer.endswith(b"\n"):
            raise EOFError
        return answer.decode()

    def close(self) -> None:
        """End the process."""
        for line in (self._process.stdin, self._process.stdout):
            if line is not None:
                with suppress(OSError):
                    line.close()
        self._process.kill()
        self._process.wait()


_free: list[Station] = []  # of this worker
_lock = threading.Lock()


def serve(request: str) -> str:
    """Answer a request: this is what a worker is given to do.

    Args:
        request: JSON, as `advlearn.classroom.cluster` writes it.

    Returns:
        JSON: {"results", "isolation"}; {"word"}, why there is no grade; {"versions"}, if they are
        not those that were asked for.
    """
    for _ in range(1 + TRIES):
        station = _take()
        try:
            answer = station.ask(request)
        except (OSError, EOFError):
            station.close()
            continue
        with _lock:
            _free.append(station)
        return answer
    return json.dumps({"word": ENDED})


def _take() -> Station:
    """Return a station that has nothing to do, a new one if there is none."""
    while True:
        with _lock:
            station = _free.pop() if _free else None
        if station is None:
            return Station()
        if station.alive:
            return station
        station.close()


def dismiss(_: str = "") -> str:
    """End this worker's stations that have nothing to do, when a class is graded."""
    while True:
        with _lock:
            if not _free:
                return ""
            station = _free.pop()
        station.close()


# --- The station ----------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until the worker has closed the line."""
    requests, answers = _lines()
    from advlearn.classroom.grade import failed
    from advlearn.classroom.runner import EndedError, Nursery
    from advlearn.classroom.submissions import Notebook

    nursery = Nursery()  # before there is a thread, and before the exercises are loaded
    from advlearn.classroom.judge import Judge

    judge, own = Judge(nursery), versions()
    waiting: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    with suppress(queue.Empty):
        while True:
            request = json.loads(waiting.get(timeout=IDLE))
            answer: dict[str, Any] = {"isolation": nursery.isolation}
            if request["versions"] != own:
                answer = {"versions": own}
            elif "cells" in request:
                judge.timeout = request["timeout"]
                # Whose it is does not leave the teacher's machine.
                notebook = Notebook("", request["lesson"], "", tuple(request["cells"]))
                try:
                    answer["results"] = [asdict(mark) for mark in judge.grade(notebook)]
                except EndedError:  # the nursery: the worker tries another station
                    os._exit(1)
                except Exception as error:
                    answer = {"word": failed(error)}
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()
    nursery.close()


def _lines() -> tuple[BinaryIO, BinaryIO]:
    """Return the lines to the worker, and leave others that may be written to by chance."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _listen(requests: BinaryIO, waiting: queue.Queue[bytes]) -> None:
    for line in requests:
        waiting.put(line)
    os._exit(0)  # the worker has ended, or wants this process no more: also in the middle of work
