"""Grade over a Dask cluster: who gets which notebook, and what happens when a worker ends.

A notebook goes to a worker as JSON, and its grades come back as JSON: no object of a learner's
code travels. Each thread of a worker has one notebook at a time, so it is known at which ones a
worker was when it ended. Those are tried again when all others are done, alone on their worker: a
notebook that ends it again and again is found out, and its neighbours are not.
"""

from __future__ import annotations

import json
import queue
import time
import uuid
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from advlearn import _cluster
from advlearn._bounded import parse_json
from advlearn._quote import printable
from advlearn.classroom import station
from advlearn.classroom.grade import Mark, failed
from advlearn.classroom.status import exercise_names
from advlearn.classroom.submissions import Notebook
from advlearn.course.grading.grader import Outcome

WITHOUT_WORKERS = 60.0
"""Seconds for which a cluster may have no worker."""

READY_WITHIN = 600.0
"""Seconds in which a worker must have loaded the course; machines may be slow to begin with."""

_INSTEAD = "leave out --scheduler"
_ALONE = 2  # times that a notebook is tried alone on a worker, after one has ended at it
_LOOK = 1.0  # seconds between looks at which workers are there
_MOST_TEXT = 100_000

Keep = Callable[[Notebook, Sequence[Mark], Mapping[str, bool]], object]


def grade(
    notebooks: Sequence[Notebook],
    keep: Keep,
    scheduler: str,
    *,
    timeout: float,
    step: Callable[[int], object] = lambda _: None,
    allow_network: bool = False,
) -> dict[str, str]:
    """Grade notebooks on the workers of a cluster; return path -> why one could not be graded.

    Args:
        notebooks: what was handed in.
        keep: is given each notebook with its grades, as soon as they are there.
        scheduler: its address, tcp://host:port or tls://host:port.
        timeout: seconds of processor time for the calls of one answer.
        step: is told how many notebooks are left.
        allow_network: grade also on workers whose system cannot keep learners' code off the
            network. Whoever reaches a scheduler without TLS can run code on all of its workers.

    Raises:
        ModuleNotFoundError: `distributed` is not installed.
        ValueError: no scheduler answers, or it has no worker, or one has another version of what
            decides a grade, or cannot keep learners' code off the network. What is graded is kept.
    """
    with _cluster.connected(scheduler, _INSTEAD) as client:
        try:
            _inspect(client, scheduler, allow_network)
            dispatch = _Dispatch(
                client, scheduler, notebooks, keep, timeout=timeout, allow_network=allow_network
            )
            return dispatch.run(step)
        finally:
            with suppress(Exception):  # they end by themselves, later
                _on_all(client, station.dismiss, "", 10)


def _on_all(client: Any, function: Callable[[str], str], text: str, seconds: float) -> list[Any]:
    """Do something on each worker, at the same time; return (address, answer or error)."""
    futures = {
        address: client.submit(
            function, text, workers=[address], allow_other_workers=False, pure=False,
            key=f"advlearn-{function.__name__}-{uuid.uuid4().hex}",
        )
        for address in client.nthreads()
    }  # fmt: skip
    answers, end = [], time.monotonic() + seconds
    for address, future in futures.items():
        try:
            answer: Any = future.result(timeout=max(0.1, end - time.monotonic()))
        except Exception as error:  # of whatever kind a worker makes
            answer = error
        answers.append((address, answer))
    return answers


def _inspect(client: Any, scheduler: str, allow_network: bool) -> None:
    """Refuse a cluster that would not give the grades of one machine, before any work."""
    with suppress(Exception):  # that nobody came in time is seen below
        client.wait_for_workers(1, timeout=WITHOUT_WORKERS)
    if not client.nthreads():
        raise ValueError(
            f"the scheduler at {scheduler} has no workers. Start some with `dask worker "
            f"{scheduler}`, and run this again."
        )
    request = json.dumps({"versions": station.versions()})
    found = _on_all(client, station.serve, request, READY_WITHIN)
    problems = [f"{address}: {why}" for address, one in found if (why := _why(one, allow_network))]
    if problems:
        raise ValueError(
            "nothing was graded: these workers would not grade as this machine does.\n"
            + "\n".join(problems)
            + "\nMend that (the same course must be installed there, for the same Python), or stop "
            "these workers. Then run this again."
        )


def _why(answer: Any, allow_network: bool) -> str:
    """Say why a worker cannot be used, or nothing."""
    if type(answer).__name__ == "TimeoutError":  # Dask has one of its own on Python 3.10
        return "it does not answer in time. Is its machine busy, or short of memory?"
    if isinstance(answer, Exception):
        return (
            f"it cannot grade ({type(answer).__name__}: {printable(str(answer))[:300]}). Is the "
            "course installed there, and on the scheduler's machine?"
        )
    told = _read(answer)
    if "versions" in told:
        own, its = station.versions(), told["versions"]
        its = its if isinstance(its, dict) else {}
        return ", ".join(
            f"{name} {printable(str(its.get(name)))[:40]}, here {value}"
            for name, value in own.items()
            if its.get(name) != value
        )
    if "isolation" not in told:
        return printable(str(told.get("word", "it does not answer as a grader does")))[:300]
    if not allow_network and told["isolation"].get("no network") is not True:
        return (
            "its system cannot keep learners' code off the network, so that code could reach the "
            "scheduler and change everybody's grades. Allow the worker namespaces of Linux (run it "
            "as root, or as a user who may make them), or take the risk with --allow-network"
        )
    return ""


def _read(answer: Any) -> dict[str, Any]:
    """Return what a worker has answered."""
    try:
        told = parse_json(str(answer).encode())
    except ValueError:
        told = None
    if isinstance(told, dict) and isinstance(told.get("isolation", {}), dict):
        return told
    return {"word": "the worker sent something else than grades"}


def _marks(told: Any, lesson: str) -> list[Mark]:
    """Return the grades of a notebook that a worker sent.

    Raises:
        ValueError: they are not grades of this lesson.
    """
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise ValueError("not a list of grades")
    names = {one.name for one in fields(Mark)}
    outcomes = {*Outcome.__members__, "UNGRADED"}
    for one in told:
        numbers = [one.get("score"), one.get("attempts")]
        texts = [one.get(name) for name in ("outcome", "feedback", "path", "remark", "shape")]
        sane = one.keys() == names and one["lesson"] == lesson
        sane = sane and isinstance(one["outcome"], str) and one["outcome"] in outcomes
        sane = sane and all(type(number) in {int, float} for number in numbers)
        sane = sane and 0 <= one["score"] <= 1 and type(one["solved"]) is bool
        sane = sane and all(isinstance(text, str) and len(text) <= _MOST_TEXT for text in texts)
        if not sane or type(one["cell"]) not in {int, type(None)}:
            raise ValueError("something that is no grade")
    if [one["exercise"] for one in told] != list(exercise_names()[lesson]):
        raise ValueError("grades of other exercises")
    return [Mark(**one) for one in told]


@dataclass
class _Job:
    """A notebook that is with a worker."""

    number: int
    worker: str
    future: Any
    alone: bool


class _Dispatch:
    """Hands out notebooks until each has grades, or a reason for none."""

    def __init__(
        self,
        client: Any,
        scheduler: str,
        notebooks: Sequence[Notebook],
        keep: Keep,
        *,
        timeout: float,
        allow_network: bool,
    ) -> None:
        self._client, self._scheduler, self._allow = client, scheduler, allow_network
        self._notebooks, self._keep, self._timeout = notebooks, keep, timeout
        self._versions = station.versions()
        self._waiting = deque(range(len(notebooks)))
        self._suspects: deque[int] = deque()  # a worker has ended while it had them
        self._ended: dict[int, int] = defaultdict(int)  # notebook -> workers that ended alone at it
        self._jobs: dict[str, _Job] = {}
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._refused: set[str] = set()  # workers that came later, and are not as the others
        self._failures: dict[str, str] = {}

    def run(self, step: Callable[[int], object]) -> dict[str, str]:
        """Hand out everything; return path -> why a notebook could not be graded."""
        workers, looked, seen = dict(self._client.nthreads()), time.monotonic(), time.monotonic()
        try:
            while self._waiting or self._suspects or self._jobs:
                self._hand_out(workers)
                with suppress(queue.Empty):
                    self._take(self._done.get(timeout=_LOOK))
                    while True:
                        self._take(self._done.get_nowait())
                if time.monotonic() - looked >= _LOOK:
                    workers, looked = self._look(), time.monotonic()
                    for key in [
                        key for key, job in self._jobs.items() if job.worker not in workers
                    ]:
                        self._lose(key)
                if workers.keys() - self._refused:
                    seen = time.monotonic()
                elif time.monotonic() - seen > WITHOUT_WORKERS:
                    raise ValueError(
                        f"the cluster at {self._scheduler} has no worker left. What is graded is "
                        f"kept: start workers with `dask worker {self._scheduler}`, and run this "
                        "again."
                    )
                step(len(self._waiting) + len(self._suspects) + len(self._jobs))
        finally:
            for job in self._jobs.values():
                with suppress(Exception):
                    job.future.cancel()
        return self._failures

    def _look(self) -> dict[str, int]:
        """Return which workers are there, and how many threads each has."""
        try:
            return dict(self._client.nthreads())
        except Exception as error:  # of whatever kind a broken line makes
            reason = printable(str(error))[:200] or type(error).__name__
            raise ValueError(
                f"the scheduler at {self._scheduler} answers no more ({reason}). What is graded is "
                "kept: run this again."
            ) from error

    def _hand_out(self, workers: Mapping[str, int]) -> None:
        for worker, threads in workers.items():
            if worker in self._refused:
                continue
            with_it = [job for job in self._jobs.values() if job.worker == worker]
            if any(job.alone for job in with_it):
                continue
            free = threads - len(with_it)
            while free > 0 and self._waiting:
                self._submit(self._waiting.popleft(), worker, alone=False)
                free -= 1
            if free == threads and self._suspects:
                self._submit(self._suspects.popleft(), worker, alone=True)

    def _submit(self, number: int, worker: str, alone: bool) -> None:
        notebook = self._notebooks[number]
        request = {
            "versions": self._versions, "timeout": self._timeout, "lesson": notebook.lesson,
            "cells": list(notebook.cells),
        }  # fmt: skip
        # A scheduler is shared: the names of tasks must be of this run alone.
        key = f"advlearn-class-{uuid.uuid4().hex}"
        future = self._client.submit(
            station.serve, json.dumps(request), key=key, pure=False, workers=[worker],
            allow_other_workers=False,
        )  # fmt: skip
        self._jobs[key] = _Job(number, worker, future, alone)
        future.add_done_callback(lambda _: self._done.put(key))

    def _take(self, key: str) -> None:
        """Take what came of a job."""
        job = self._jobs.get(key)
        if job is None:  # it was given up
            return
        notebook = self._notebooks[job.number]
        try:
            answer = job.future.result(timeout=30)
        except Exception as error:
            if type(error).__name__ in {"KilledWorker", "CancelledError", "TimeoutError"}:
                self._lose(key)  # its worker has ended, perhaps with the result still there
                return
            answer = json.dumps({"word": failed(error)})
        del self._jobs[key]
        told = _read(answer)
        if "word" not in told and (why := _why(answer, self._allow)):
            warnings.warn(f"{job.worker} is not used: {why}", RuntimeWarning, stacklevel=2)
            self._refused.add(job.worker)
            self._waiting.append(job.number)
            return
        word = told.get("word")
        if word is None:
            try:
                marks = _marks(told.get("results"), notebook.lesson)
                self._keep(notebook, marks, told.get("isolation", {}))
            except ValueError as error:
                word = f"the worker sent {error}"
            except OSError as error:
                word = f"its grade could not be kept ({error.strerror or error})"
        if word is not None:
            self._failures[notebook.path] = printable(str(word))[:1_000]

    def _lose(self, key: str) -> None:
        """Give up a job: its worker has ended."""
        job = self._jobs.pop(key)
        with suppress(Exception):
            job.future.cancel()
        self._ended[job.number] += job.alone
        if self._ended[job.number] < _ALONE:
            self._suspects.append(job.number)
            return
        self._failures[self._notebooks[job.number].path] = (
            f"{1 + _ALONE} workers ended while they graded it, {_ALONE} of them with nothing else "
            "to do. Look at it yourself: it may take all memory of a machine"
        )
