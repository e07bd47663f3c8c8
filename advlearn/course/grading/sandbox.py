"""Run a learner's code so that nothing it does can hurt the session.

The code runs in a daemon thread with a time limit, which counts the thread's own processor time: a
busy computer, or a package that is loaded from a slow disk, is no fault of the code. The thread is
stopped by raising an exception inside it, which works on every platform and within a Jupyter
kernel: no fork, no signal.
"""

from __future__ import annotations

import ctypes
import dis
import linecache
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TextIO

import numpy as np
import torch

from advlearn.context import random_states_kept

PRINT_LIMIT = 50_000  # characters; an answer that prints more is stopped
PRINT_KEPT = 2_000  # characters kept to be shown
PATIENCE = 4  # times the limit: how long an answer may take by the clock on the wall
_POLL = 0.05  # seconds between two looks at the thread, so that Ctrl-C is noticed
_GRACE = 1.5  # seconds granted to a stopped thread to end


class Stopped(BaseException):
    """Raised inside the learner's thread to end it; `except Exception` does not catch it."""


@dataclass
class Ending:
    """How a run ended, as plain data.

    Attributes:
        timed_out: Whether the time limit ended it.
        waited: Whether that was the limit by the clock on the wall, `PATIENCE` times as long.
        flooded: Whether printing beyond `PRINT_LIMIT` ended it.
        abandoned: Whether the thread could not be ended.
        printed: The first `PRINT_KEPT` characters that were printed.
        place: Line number and source line where a timed-out run was stopped.
    """

    timed_out: bool = False
    waited: bool = False
    flooded: bool = False
    abandoned: bool = False
    printed: str = ""
    place: tuple[int, str] | None = None


@dataclass
class Run(Ending):
    """What happened during one run: how it ended, and the exception that ended it, or None."""

    error: BaseException | None = None


@dataclass
class _Tape:
    """Records what one thread prints, up to a limit."""

    owner: int = -1
    length: int = 0
    kept: list[str] = field(default_factory=list)

    def write(self, text: str) -> None:
        if self.length < PRINT_KEPT:
            self.kept.append(text[: PRINT_KEPT - self.length])
        self.length += len(text)
        if self.length > PRINT_LIMIT:
            raise Stopped


class _Router:
    """A stream that sends the learner's thread to the tape and everybody else to the real one."""

    def __init__(self, stream: TextIO, tape: _Tape) -> None:
        self._stream = stream
        self._tape = tape

    def write(self, text: str) -> int:
        if threading.get_ident() == self._tape.owner:
            self._tape.write(text)
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        if threading.get_ident() != self._tape.owner:
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def run(task: Callable[[], object], timeout: float, files: Iterable[str] = ()) -> Run:
    """Run `task` in a thread of its own for at most `timeout` seconds of its processor time.

    Args:
        task: The code to run; its result is thrown away.
        timeout: Time limit in seconds of processor time. What importing a package takes does not
            count. By the clock on the wall `PATIENCE` times as much is granted, all included.
        files: File names that count as the learner's, to find the line of a timed-out run.

    Returns:
        What happened. Whatever `task` raises is caught, `SystemExit` and the like too.

    Raises:
        KeyboardInterrupt: If the learner interrupts the kernel; the thread is ended first.

    Note:
        Python 3.10 cannot stop a loop that is one `try` and calls nothing, not even by Ctrl-C: it
        looks for a stop where the loop jumps back, but not if `try` stands there. Nor does it let
        other threads work then. Such a kernel has to be restarted; from 3.11 on the loop is ended.
    """
    result, tape = Run(), _Tape()
    clocks: list[Callable[[], float]] = []

    def work() -> None:
        try:
            try:
                tape.owner = threading.get_ident()
                clocks.append(_own_clock())
                task()
            except BaseException as error:
                result.error = error
        except BaseException:  # the second of two stops, arriving inside the handler above
            pass
        done.set()

    done = threading.Event()
    thread = threading.Thread(target=work, name="learner's answer", daemon=True)
    real = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = _Router(sys.stdout, tape), _Router(sys.stderr, tape)
        thread.start()
        deadline = time.monotonic() + PATIENCE * timeout
        spent = last = 0.0
        while _alive(thread, done) and spent < timeout and time.monotonic() < deadline:
            done.wait(min(_POLL, timeout - spent))
            now = clocks[0]() if clocks else 0.0
            if not _importing(thread):
                spent += now - last
            last = now
        if _alive(thread, done):
            result.timed_out, result.waited = True, spent < timeout
            frame = sys._current_frames().get(thread.ident or -1)
            result.place = learner_line(_stack(frame), files)
    finally:
        try:
            result.abandoned = not _stop(thread, done)
        finally:
            sys.stdout, sys.stderr = real
    result.flooded = tape.length > PRINT_LIMIT
    result.printed = "".join(tape.kept)
    return result


def _own_clock() -> Callable[[], float]:
    """Return a clock of this thread's processor time so far, which any thread can read."""
    try:
        clock = time.pthread_getcpuclockid(threading.get_ident())
        start = time.clock_gettime(clock)
    except (AttributeError, OSError):  # Windows and macOS have none
        total = time.process_time()  # of all threads: it never runs slower
        return lambda: time.process_time() - total
    last = 0.0

    def read() -> float:
        nonlocal last
        with suppress(OSError):  # the thread has ended
            last = time.clock_gettime(clock) - start
        return last

    return read


def _importing(thread: threading.Thread) -> bool:
    """Tell whether the thread is loading a module."""
    frame = sys._current_frames().get(thread.ident or -1)
    return any(name.startswith("<frozen importlib") for name, _ in _stack(frame))


def _alive(thread: threading.Thread, done: threading.Event) -> bool:
    """Tell whether the thread still runs.

    `Thread.is_alive` cannot be asked: a `join` that a Ctrl-C interrupts takes the thread for ended.
    The event cannot be asked alone: a stop may arrive just before it is set.
    """
    return not done.is_set() and thread.ident in sys._current_frames()


def _stop(thread: threading.Thread, done: threading.Event) -> bool:
    """Raise `Stopped` in the thread until it ends; return whether it did.

    A Ctrl-C that arrives meanwhile is passed on at the end: a loop that was left running would slow
    down everything that comes after it.
    """
    deadline = time.monotonic() + _GRACE
    interval = sys.getswitchinterval()
    interrupted: KeyboardInterrupt | None = None
    try:
        # Again and again, and quickly: a bare `except:` in a loop swallows all that arrive inside
        # its `try`, and only the few between two rounds count.
        sys.setswitchinterval(1e-5)
        while _alive(thread, done) and time.monotonic() < deadline:
            try:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stopped)
                )
                done.wait(0.0002)
            except KeyboardInterrupt as error:
                interrupted = error
    finally:
        sys.setswitchinterval(interval)
    if interrupted is not None:
        raise interrupted
    return not _alive(thread, done)


def _stack(frame: FrameType | None) -> Iterator[tuple[str, int]]:
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back


def raised_by_statement(error: BaseException) -> bool:
    """Tell whether a `raise` statement raised it, and not an operation written in C."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    operation = trace.tb_frame.f_code.co_code[trace.tb_lasti]
    return dis.opname[operation] == "RAISE_VARARGS"


def error_line(error: BaseException, files: Iterable[str]) -> tuple[int, str] | None:
    """Return number and text of the learner's line that `error` came from, or None."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return learner_line(reversed(places), files)


def learner_line(places: Iterable[tuple[str, int]], files: Iterable[str]) -> tuple[int, str] | None:
    """Return number and text of the first place, innermost first, that is the learner's."""
    own = set(files)
    for name, number in places:
        if name in own or "ipykernel_" in name or name.startswith("<ipython-input"):
            return number, linecache.getline(name, number).strip()
    return None


@contextmanager
def preserved_state() -> Iterator[None]:
    """Give the body a fixed global state, and put the old one back afterwards.

    Covers the random generators of torch, Python and NumPy, torch's default dtype, gradient mode,
    default device, thread count, precision of products and switches for determinism and anomalies,
    how torch and NumPy print and what NumPy does on an error, Python's recursion limit, streams,
    filters of warnings and working folder.
    """
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    strict, lenient = _determinism()
    anomaly = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    products = torch.get_float32_matmul_precision()
    recursion, streams = sys.getrecursionlimit(), (sys.stdout, sys.stderr)
    folder, filters = _folder(), list(warnings.filters)
    printing = vars(torch._tensor_str.PRINT_OPTS).copy()
    numpy_printing, numpy_errors = np.get_printoptions(), np.geterr()
    device = torch.get_default_device()
    # A context with a device slows every call of torch down, so only where it is needed.
    on_cpu = nullcontext() if device.type == "cpu" else torch.device("cpu")
    try:
        torch.set_default_dtype(torch.float32)
        kept = random_states_kept(in_threads=True)
        with kept, torch.inference_mode(False), torch.enable_grad(), on_cpu:
            torch.default_generator.manual_seed(0)  # torch.manual_seed would reach for the GPU too
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        sys.stdout, sys.stderr = streams
        sys.setrecursionlimit(recursion)
        if folder is not None and _folder() != folder:
            with suppress(OSError):  # the folder is gone
                os.chdir(folder)
        if warnings.filters != filters:
            warnings.resetwarnings()
            warnings.filters.extend(filters)  # type: ignore[attr-defined]
        vars(torch._tensor_str.PRINT_OPTS).update(printing)
        if np.get_printoptions() != numpy_printing:
            np.set_printoptions(**numpy_printing)
        if np.geterr() != numpy_errors:
            np.seterr(**numpy_errors)
        torch.set_default_dtype(dtype)
        # Setting it loads PyTorch's compiler, which takes more than a second.
        if (strict, lenient) != _determinism():
            torch.use_deterministic_algorithms(strict, warn_only=lenient)
        torch.autograd.set_detect_anomaly(*anomaly)
        torch.set_float32_matmul_precision(products)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - for each answer twice, and six times as fast as Path
    except OSError:  # it has been deleted
        return None


def _determinism() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
