"""The process that runs a learner's code: forked for each notebook, and confined.

It is forked from a `nursery`, which has PyTorch loaded and no exercise bank: a bank holds the
references. What it may take of time, memory and disk is limited; where the system allows it has no
network, sees no other process, and belongs to another user. It is told the inputs, calls the
answers, and sends back what came of that as plain data. The verdict is made by who asked.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.abc
import io
import json
import marshal
import os
import pickle
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401 - loaded before the fork, for all learners
import torch
from torch import nn

from advlearn.classroom import wire
from advlearn.classroom.grade import exercises_are_loaded
from advlearn.course.grading import evidence, sandbox
from advlearn.course.grading.calling import Calls, call
from advlearn.course.grading.evidence import Args

MEMORY = 3_000_000_000
"""Bytes of address space that a learner's code may take beyond what is there."""

DISK = 20_000_000
"""Bytes of a file that it may write."""

PROCESSOR = 300
"""Seconds of processor time for a whole notebook."""

_NOBODY = 61_184  # the first of the users that systemd too gives to passing services
_USERS = 4_000
# Flags and calls of Linux: namespaces, and mounts that are for reading only.
_NEW_NETWORK, _NEW_USER, _NEW_MESSAGES = 0x40000000, 0x10000000, 0x08000000
_NEW_PROCESSES, _NEW_MOUNTS = 0x20000000, 0x00020000
_MOUNT_SETATTR, _HERE, _RECURSIVE, _READ_ONLY, _PRIVATE = 442, -100, 0x8000, 1, 1 << 18
_DIE_WITH_PARENT = 1
_HIDDEN = ("advlearn.course.banks", "advlearn.reproduce", "advlearn.classroom")
_IMPORTED_BY_LESSONS = (
    "matplotlib.pyplot", "IPython.display", "torch.nn.functional", "advlearn.attacks",
    "advlearn.audit", "advlearn.certify", "advlearn.course.glossary", "advlearn.course.session",
    "advlearn.course.tables", "advlearn.course.widgets", "advlearn.data", "advlearn.data.loaders",
    "advlearn.directions", "advlearn.evaluation", "advlearn.functional", "advlearn.losses",
    "advlearn.metrics", "advlearn.models", "advlearn.plotting", "advlearn.training",
)  # fmt: skip


class EndedError(Exception):
    """The process that ran the learner's code has ended, or was ended."""


# --- Messages: a length, then so many bytes -------------------------------------------------------


def send(line: socket.socket, content: bytes) -> None:
    """Send a message."""
    line.sendall(struct.pack("<Q", len(content)) + content)


def receive(line: socket.socket, most: int, seconds: float | None = None) -> bytes:
    """Return a message.

    Raises:
        EndedError: the other side has ended, is silent, or sends more than `most` bytes.
    """
    line.settimeout(seconds)
    (length,) = struct.unpack("<Q", _exactly(line, 8))
    if length > most:
        raise EndedError("it sends more than any right answer has")
    return _exactly(line, length)


def _exactly(line: socket.socket, count: int) -> bytes:
    parts = io.BytesIO()
    while parts.tell() < count:
        try:
            part = line.recv(min(1 << 20, count - parts.tell()))
        except TimeoutError as error:
            raise EndedError("it does not answer") from error
        except OSError as error:
            raise EndedError("it has ended") from error
        if not part:
            raise EndedError("it has ended")
        parts.write(part)
    return parts.getvalue()


# --- The nursery ----------------------------------------------------------------------------------


class Nursery:
    """A warm process from which runners are forked; it never runs a learner's code itself."""

    def __init__(self) -> None:
        if exercises_are_loaded():
            raise RuntimeError(
                "the exercises are loaded already, and their references would be forked with each "
                "learner's process. Make the Nursery first."
            )
        self._line, other = socket.socketpair()
        self._process = os.fork()
        if not self._process:
            self._line.close()
            with suppress(BaseException):
                _serve(other)
            os._exit(0)
        other.close()
        self.isolation = json.loads(receive(self._line, 10_000, 60))

    def runner(self) -> Runner:
        """Fork a process for one notebook."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._line, [b"!"], [theirs.fileno()])
            except OSError as error:
                raise EndedError("the nursery has ended") from error
            (process,) = struct.unpack("<q", _exactly(self._line, 8))
        return Runner(ours, process)

    def close(self) -> None:
        """End the nursery; runners that are left end with it."""
        self._line.close()
        with suppress(ChildProcessError):
            os.waitpid(self._process, 0)


class Runner:
    """A process that runs one learner's code, as seen from outside."""

    def __init__(self, line: socket.socket, process: int) -> None:
        self._line, self._process = line, process

    def ask(self, request: dict[str, Any], seconds: float, inputs: Sequence[Args] = ()) -> bytes:
        """Send a request, and return the answer.

        Raises:
            EndedError: the process has ended, or does not answer in time.
        """
        try:
            send(self._line, json.dumps(request).encode())
            if inputs:
                content = io.BytesIO()
                _Pickler(content).dump((list(inputs), [_grads(args) for args in inputs]))
                send(self._line, content.getvalue())
        except OSError as error:
            raise EndedError("it has ended") from error
        return receive(self._line, wire.MOST_BYTES, seconds)

    def close(self) -> None:
        """End the process and what it has started."""
        self._line.close()
        for end in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                end(self._process, signal.SIGKILL)


def _grads(args: Args) -> list[list[torch.Tensor | None]]:
    """Return the `.grad` of each model's parameters, which a pickle leaves out."""
    models = [value for value in args if isinstance(value, nn.Module)]
    return [[p.grad for p in model.parameters()] for model in models]


def _inputs(content: bytes) -> list[Args]:
    """Return what the judge has sent: its own pickle, which never comes from a learner."""
    inputs: list[Args]
    inputs, grads = pickle.loads(content)
    for args, held in zip(inputs, grads, strict=True):
        models = [value for value in args if isinstance(value, nn.Module)]
        for model, own in zip(models, held, strict=True):
            for parameter, grad in zip(model.parameters(), own, strict=True):
                parameter.grad = grad
    return inputs


class _Pickler(pickle.Pickler):
    """Writes down functions with their code: by name they would load a bank where they arrive."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, types.FunctionType) or "banks" not in value.__module__:
            return NotImplemented
        code = value.__code__
        held = {
            name: value.__globals__[name] for name in code.co_names if name in value.__globals__
        }
        modules = {
            name: one.__name__ for name, one in held.items() if isinstance(one, types.ModuleType)
        }
        rest = {name: one for name, one in held.items() if name not in modules}
        cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
        return _function, (marshal.dumps(code), modules, rest, value.__defaults__, cells)


def _function(
    code: bytes,
    modules: dict[str, str],
    rest: dict[str, Any],
    defaults: tuple[Any, ...] | None,
    cells: tuple[Any, ...],
) -> types.FunctionType:
    """Make a function again of its parts."""
    space = {name: importlib.import_module(module) for name, module in modules.items()} | rest
    closure = tuple(types.CellType(value) for value in cells)
    made = types.FunctionType(marshal.loads(code), space, None, defaults, closure or None)
    made.__module__ = "inputs"
    return made


def _serve(line: socket.socket) -> None:
    """Fork a runner for each socket that arrives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _warm()
    allowed = isolation()
    send(line, json.dumps(allowed).encode())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the runners
    with tempfile.TemporaryDirectory(prefix="advlearn-answers-") as folder:
        number = 0
        while _fork_one(line, folder, number, allowed):
            number += 1


def _fork_one(line: socket.socket, folder: str, number: int, allowed: dict[str, bool]) -> bool:
    """Fork a runner for the socket that arrives next; False when the judge has ended."""
    told, descriptors, _, _ = socket.recv_fds(line, 1, 1)
    if not told:
        return False
    process = os.fork()
    if not process:
        line.close()
        with suppress(BaseException):
            _run(socket.socket(fileno=descriptors[0]), folder, number, allowed)
        os._exit(0)
    os.close(descriptors[0])
    line.sendall(struct.pack("<q", process))
    return True


def _warm() -> None:
    """Do once what takes time in each process: what lessons import, the first product, a gradient.

    Matplotlib alone looks for the fonts of the system, in each process whose home is new.
    """
    for name in _IMPORTED_BY_LESSONS:
        importlib.import_module(name)
    x = torch.ones(2, 2, requires_grad=True)
    with suppress(RuntimeError):
        nn.functional.cross_entropy(nn.Linear(2, 2)(x), torch.zeros(2, dtype=torch.long))


# --- The runner -----------------------------------------------------------------------------------


def isolation() -> dict[str, bool]:
    """Say what this system allows.

    Another user cannot read a Python that is installed in the superuser's own folder.
    """
    root = os.geteuid() == 0
    folder = tempfile.mkdtemp(prefix="advlearn-answers-")
    try:
        return {
            "another user": root and _holds(_reads_as_another_user),
            "no network": _holds(lambda: _unshare(_NEW_NETWORK)),
            "no other process": _holds(lambda: _unshare(_NEW_PROCESSES)),
            "no disk": _holds(lambda: _unshare(_NEW_MOUNTS) and _close_the_disk(folder)),
        }
    finally:
        Path(folder).rmdir()


def _holds(attempt: Callable[[], bool]) -> bool:
    """Try something in a process that ends afterwards."""
    child = os.fork()
    if not child:
        with suppress(BaseException):
            os._exit(0 if attempt() else 1)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _reads_as_another_user() -> bool:
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    return all(os.access(str(module.__file__), os.R_OK) for module in (os, torch, evidence))


def _unshare(*flags: int) -> bool:
    """Leave what is shared with other processes."""
    wanted = 0 if os.geteuid() == 0 else _NEW_USER
    for flag in flags:
        wanted |= flag
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None, use_errno=True).unshare(wanted) == 0)
    return False


def _close_the_disk(folder: str) -> bool:
    """Make all files read-only for this process, but for a small folder in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = struct.pack("<4Q", _READ_ONLY, 0, _PRIVATE, 0)
    done = libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR), _HERE, b"/", _RECURSIVE, attributes, len(attributes)
    )
    if done != 0:
        return False
    options = f"size={DISK},mode=0777".encode()
    return bool(libc.mount(b"answers", folder.encode(), b"tmpfs", 0, options) == 0)


def _apart(allowed: dict[str, bool], folder: str) -> None:
    """Go on in a process that shares nothing with others, and ends with this one."""
    names = {"no network": _NEW_NETWORK, "no other process": _NEW_PROCESSES, "no disk": _NEW_MOUNTS}
    _unshare(_NEW_MESSAGES, *(flag for name, flag in names.items() if allowed[name]))
    child = os.fork()
    if child:
        with suppress(BaseException):
            os.waitpid(child, 0)
        if not allowed["no disk"]:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _confine(folder: str, number: int, allowed: dict[str, bool]) -> None:
    """Give up everything that an answer does not need."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if not allowed["no disk"]:
        folder = tempfile.mkdtemp(dir=folder)
    _apart(allowed, folder)
    if allowed["no disk"]:
        _close_the_disk(folder)
    taken = _address_space()
    limits = [
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, DISK), (resource.RLIMIT_CPU, PROCESSOR),
        (resource.RLIMIT_AS, taken + MEMORY), (resource.RLIMIT_NOFILE, 64),
    ]  # fmt: skip
    for kind, most in limits:
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))
    if allowed["another user"]:
        user = _NOBODY + (os.getpid() + number) % _USERS
        with suppress(OSError):  # in memory it is everybody's
            os.chown(folder, user, user)
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))
    os.umask(0o077)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(HOME=folder, TMPDIR=folder, PATH="/usr/bin:/bin", ADVLEARN_OFFLINE="1")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def _address_space() -> int:
    with suppress(OSError, ValueError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        return int(pages) * os.sysconf("SC_PAGESIZE")
    return 8_000_000_000


class _Blocker(importlib.abc.MetaPathFinder):
    """Answers that import the references find nothing."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "advlearn.exercises" or name.startswith(_HIDDEN):
            raise ImportError(f"{name} is not there while answers are graded.")


class _Silent:
    """Stands for an exercise: whatever is called does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Silent()

    def __call__(self, *_: object, **__: object) -> None:
        return None


def _hide_the_banks() -> None:
    for name in [name for name in sys.modules if name.startswith(_HIDDEN[0])]:
        del sys.modules[name]
    door = types.ModuleType("advlearn.exercises")
    door.__getattr__ = lambda _: _Silent()  # type: ignore[method-assign]
    sys.modules["advlearn.exercises"] = door
    sys.meta_path.insert(0, _Blocker())


def _run(line: socket.socket, folder: str, number: int, allowed: dict[str, bool]) -> None:
    """Serve the requests of one judge, until it is done."""
    for descriptor in range(3, 64):
        if descriptor != line.fileno():
            with suppress(OSError):
                os.close(descriptor)
    _confine(folder, number, allowed)
    _hide_the_banks()
    space: dict[str, Any] = {"__name__": "__main__"}
    sys.modules["__main__"] = types.ModuleType("__main__")
    attempts: dict[str, list[Any]] = {}
    while True:
        request = json.loads(receive(line, wire.MOST_BYTES))
        if request["do"] == "define":
            send(line, json.dumps(_define(request["pieces"], space, attempts)).encode())
        elif request["do"] == "value":
            answer = _attempt(request, space, attempts)
            send(line, _packed(Calls(outputs=[answer], given=[()])))
        else:
            inputs = _inputs(receive(line, wire.MOST_BYTES))
            answer = _attempt(request, space, attempts)
            if answer is None or answer is ...:
                send(line, wire.pack(Calls(is_stub=True, error="not written yet")))
                continue
            with sandbox.preserved_state():
                calls = call(
                    answer, request["name"], tuple(request["parameters"]), inputs,
                    request["timeout"], slopes=bool(request.get("slopes")),
                )  # fmt: skip
            send(line, _packed(calls))


def _packed(calls: Calls) -> bytes:
    """Write calls down; what cannot be written is told like an error of the answer."""
    try:
        return wire.pack(calls)
    except Exception as error:  # an object that raises when it is looked at
        text = f"The check could not read your answer ({type(error).__name__})."
        return wire.pack(Calls(problem=text))


def _define(
    pieces: Sequence[dict[str, Any]], space: dict[str, Any], attempts: dict[str, list[Any]]
) -> list[str]:
    """Run the pieces in order, and return for each what it raised, in words."""
    import linecache

    told = []
    for piece in pieces:
        file = f"<ipython-input-{piece['cell']}>"
        # The line of the cell, so that a message names the one that the learner sees.
        text = "\n" * (piece["line"] - 1) + piece["source"]
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        words: list[str] = []

        def task(text: str = text, file: str = file) -> None:
            exec(compile(text, file, "exec"), space)  # it is what this process is for

        run = sandbox.run(task, 10.0, {file})
        if run.timed_out or run.flooded:
            words.append("it did not end")
        elif run.error is not None:
            words.append(evidence.describe_error(run.error, ()))
        else:
            for name in piece["names"]:
                if name in space:
                    attempts.setdefault(name, []).append(space[name])
        told.append(" ".join(words)[:2_000])
    return told


def _attempt(request: dict[str, Any], space: dict[str, Any], attempts: dict[str, list[Any]]) -> Any:
    """Return one of the answers that the notebook holds."""
    if "expression" in request:
        found: list[Any] = []

        def task() -> None:
            found.append(eval(request["expression"], dict(space)))

        sandbox.run(task, 5.0)
        return found[0] if found else None
    return attempts[request["of"]][request["number"]]
