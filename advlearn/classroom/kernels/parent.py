"""The warm parent: it has the course loaded, and forks a kernel for whoever asks.

    python -I -m advlearn.classroom.kernels.parent --socket /run/advlearn/kernels

As the superuser's it serves everybody on the machine, and each fork becomes the user who asked
(`confinement`). It reads nothing of a request: a fork does, when it is that user. It has one thread
and starts no other, since only the thread that forks lives on in a fork.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import logging
import os
import select
import signal
import socket
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from advlearn.classroom.kernels import request
from advlearn.classroom.kernels.request import Peer

log = logging.getLogger("advlearn.kernels")

PRELOADED = (
    "torch", "torch.nn", "torch.optim", "torch.utils.data", "torch.utils.flop_counter",
    "torchvision", "torchvision.utils", "numpy", "matplotlib.pyplot", "PIL.Image",
    "safetensors.torch", "mlxtend.data",
    "ipykernel.kernelapp", "ipykernel.zmqshell", "IPython.display",
    "advlearn.attacks", "advlearn.audit", "advlearn.certify", "advlearn.directions",
    "advlearn.evaluation", "advlearn.generative", "advlearn.metrics", "advlearn.plotting",
    "advlearn.training", "advlearn.whitening", "advlearn.data", "advlearn.data.photographs",
    "advlearn.arena", "advlearn.course.glossary", "advlearn.course.session",
    "advlearn.course.tables", "advlearn.course.grading.grader", "advlearn.reproduce.paper",
    "advlearn.reproduce.measures",
)  # fmt: skip
"""Modules that the lessons load, or that load themselves while lessons run.

Not among them is what looks for a notebook when it is loaded (ipywidgets, anywidget, tqdm.auto,
the inline pictures): it would find none in the parent. Nor are the exercises: their references
would be one copy in memory for a whole class, and each lesson needs its own only.
"""

PATIENCE = 10.0
"""Seconds that a fork waits for its request."""

# Threads of these libraries would be started before the fork, and be missing after it.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    # Few arenas: each would keep what it has freed.
    "MALLOC_ARENA_MAX": "2",
}  # fmt: skip


class Fork(NamedTuple):
    """In a fork: what is left to do, once the parent's frames are gone."""

    run: Callable[[], int]


class Born(NamedTuple):
    """In the parent: a kernel, whose user it is, and the line to who asked."""

    user: int
    line: socket.socket


def load() -> None:
    """Load what the lessons need, and leave no thread behind.

    Raises:
        RuntimeError: a library has started a thread, or the GPU: nothing can be forked then.
    """
    gc.disable()  # collections would leave holes in pages that all forks share
    import torch

    from advlearn.classroom.kernels import child  # noqa: F401 - notes what a fresh process has

    torch.set_num_threads(1)
    for name in PRELOADED:
        importlib.import_module(name)
    for _ in range(40):  # one that has done its work may need a moment to end
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads == 1:
            break
        time.sleep(0.05)
    else:
        raise RuntimeError(
            f"a library has started {threads - 1} threads while it was loaded, and a fork would "
            "lack them. Report this, with the versions that `advlearn doctor` prints; ordinary "
            "kernels work meanwhile."
        )
    if torch.cuda.is_initialized():
        raise RuntimeError("the GPU is in use already, and a fork could not use it.")
    gc.collect()
    gc.freeze()


def serve(
    listener: socket.socket,
    *,
    most: int,
    most_each: int,
    until: int | None = None,
) -> Fork | None:
    """Fork a kernel for each request, until told to stop by SIGTERM, SIGINT, or the end of `until`.

    Kernels that run go on when the parent ends.

    Args:
        listener: a Unix socket that listens.
        most: kernels at a time.
        most_each: kernels of one user at a time.
        until: a file descriptor; the parent ends when its other end is closed.

    Returns:
        None in the parent, at its end; in each fork, what it has to do next.
    """
    stopped: list[int] = []
    signals, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    listener.setblocking(False)
    waiting = select.poll()
    for descriptor in (listener.fileno(), signals, *([] if until is None else [until])):
        waiting.register(descriptor, select.POLLIN)
    kernels: dict[int, Born] = {}
    while not stopped:
        ready = [descriptor for descriptor, _ in waiting.poll()]
        if signals in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(signals, 4096)
        _bury(kernels)
        if until in ready:
            break
        if listener.fileno() in ready:
            fork = _fork_one(listener, kernels, most, most_each)
            if fork is not None:
                return fork  # a fork
    signal.set_wakeup_fd(-1)
    return None


def _bury(kernels: dict[int, Born]) -> None:
    """Take leave of kernels that have ended, and tell who asked for them."""
    with contextlib.suppress(ChildProcessError):
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            born = kernels.pop(process, None)
            if born is not None:
                with contextlib.suppress(OSError):
                    born.line.sendall(f"ended {os.waitstatus_to_exitcode(status)}\n".encode())
                born.line.close()


def _fork_one(
    listener: socket.socket, kernels: dict[int, Born], most: int, most_each: int
) -> Fork | None:
    try:
        line, _ = listener.accept()
    except OSError as error:  # it has hung up already, or there are too many open files
        log.warning("A request was lost: %s", error)
        return None
    try:
        peer = Peer.of(line)
        running = Counter(born.user for born in kernels.values())
        if len(kernels) >= most:
            raise RuntimeError(f"{most} kernels are running, more are not allowed")
        if running[peer.user] >= most_each:
            raise RuntimeError(f"you have {most_each} kernels running, more are not allowed")
        process = os.fork()
    except (OSError, RuntimeError) as error:
        log.warning("No kernel: %s", error)
        with contextlib.suppress(OSError):
            line.setblocking(False)
            line.sendall(f"refused {error}\n".encode())
        line.close()
        return None
    if process:
        line.setblocking(False)  # nobody who asks can make it wait
        kernels[process] = Born(peer.user, line)
        log.info("kernel %d, user %d: %d in all", process, peer.user, len(kernels))
        return None
    for other in (listener, *(born.line for born in kernels.values())):
        other.detach()  # closed below, by number
    return _born(line, peer)


def _born(line: socket.socket, peer: Peer) -> Fork:
    """Be a fork: give up what is the parent's, become the user, read the request."""
    import advlearn
    from advlearn.classroom.kernels import child, confinement

    try:
        signal.set_wakeup_fd(-1)
        held = os.dup2(line.fileno(), 3, inheritable=False)
        line.detach()
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))  # the lines of all other kernels
        line = socket.socket(fileno=held)
        line.settimeout(PATIENCE)
        os.setsid()
        confinement.take_over(peer)
        confinement.rename("advlearn-kernel")
        asked, streams = request.receive(line)
        child.settle(asked, streams)
        line.sendall(f"started {os.getpid()} {advlearn.__version__} {sys.prefix}\n".encode())
        line.settimeout(None)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            line.sendall(
                f"refused {' '.join(str(error).split()) or type(error).__name__}\n".encode()
            )
        os._exit(1)
    return Fork(lambda: child.run(asked, line))


def safe_path() -> None:
    """Check that nobody else can put code where the superuser's Python looks for it.

    Raises:
        PermissionError: somebody can.
    """
    if os.geteuid() != 0:
        return
    for entry in sys.path:
        place = Path(entry or ".").resolve()
        for folder in (place, *place.parents):
            if not folder.exists():
                continue
            state = folder.stat()
            shared = (
                state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not state.st_mode & stat.S_ISVTX
            )
            if state.st_uid != 0 or shared:
                raise PermissionError(
                    f"{folder} can be changed by others, and this Python loads code from {place}. "
                    "Install the course as the superuser, into a folder that only the superuser "
                    "can write (`chown -R root`, `chmod -R go-w`), or serve yourself alone."
                )


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at a path: everybody's for the superuser, else one's own.

    Raises:
        OSError: another parent listens there, or the folder cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            try:
                other.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()  # of a parent that was killed
            else:
                raise FileExistsError(f"{path} is in use: another parent of kernels listens there.")
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    if os.geteuid() == 0:
        path.chmod(0o666)  # who connects is known from the system, not from the file
    listener.listen(128)
    return listener


def main() -> int:
    """Read the command line, load, serve; in a fork, be a kernel."""
    parser = argparse.ArgumentParser(prog="advlearn class kernels serve", description=__doc__)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--socket", type=Path, help="where to listen")
    place.add_argument("--listen-fd", type=int, help="a socket that listens already")
    parser.add_argument("--until-fd", type=int, help="end when the other end of this is closed")
    parser.add_argument("--most", type=int, default=1000, help="kernels at a time")
    parser.add_argument("--most-each", type=int, default=20, help="kernels of one user at a time")
    given = parser.parse_args()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[kernels] %(message)s"))
    log.addHandler(handler)  # not to the root logger, which forks inherit
    log.propagate = False
    log.setLevel(logging.INFO)
    try:
        safe_path()
        if given.socket is not None:
            listener = listen(given.socket)
        else:
            listener = socket.socket(fileno=given.listen_fd)
        load()
    except (OSError, RuntimeError) as error:
        log.error("%s", error)
        return 1
    log.info("ready")
    fork = serve(listener, most=given.most, most_each=given.most_each, until=given.until_fd)
    if fork is not None:
        return fork.run()
    if given.socket is not None:
        given.socket.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    if not sys.flags.isolated and sys.path[0] == str(Path.cwd()):
        del sys.path[0]  # `-m` has put it there
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        # Libraries read these when they are loaded.
        os.execve(sys.executable, sys.orig_argv, os.environ | ENVIRONMENT)
    sys.exit(main())
