"""What Jupyter loads into its server: it has kernels forked, and sees to them.

Nothing of the course is imported here: a server that held PyTorch would cost what a fork saves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Unicode

import advlearn
from advlearn.classroom.kernels.request import Peer, Request, ask

_PATIENCE = 60.0  # seconds until a parent that is loading answers
_LAST_WORDS = 1.0  # seconds for the parent to say how a kernel has ended
_LAUNCHER = "ipykernel_launcher"


class NoForkError(Exception):
    """No kernel was forked, for the reason given."""


class ForkedProvisioner(LocalProvisioner):
    """Kernels forked from a warm parent, or ordinary ones where there is none.

    In the kernelspec, `metadata.kernel_provisioner.config.socket` names the socket of a parent that
    serves the whole machine. Without it, each server starts a parent of its own for its kernels.
    """

    socket = Unicode(
        "", help="The socket of the parent; none: this server starts a parent of its own."
    ).tag(config=True)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Have a kernel forked. Where that fails, say so in the log, and start an ordinary one."""
        try:
            process = await asyncio.to_thread(self._fork, cmd, kwargs)
        except (NoForkError, OSError, ValueError) as error:
            self.log.warning(
                "Kernel %s is an ordinary one and shares no memory: %s", self.kernel_id, error
            )
            return await super().launch_kernel(cmd, **kwargs)
        self.process = process  # type: ignore[assignment]
        self.pid = self.pgid = process.pid  # it leads a session of its own
        self.cwd = kwargs.get("cwd") or Path.cwd()
        return self.connection_info

    def _fork(self, cmd: list[str], options: dict[str, Any]) -> ForkedProcess:
        if sys.platform != "linux":
            raise NoForkError(f"forked kernels need Linux, and this is {sys.platform}")
        if _LAUNCHER not in cmd:
            raise NoForkError(f"its command does not start {_LAUNCHER}")
        arguments = cmd[cmd.index(_LAUNCHER) + 1 :]
        folder = options.get("cwd")
        request = Request(
            arguments=[os.path.expanduser(one) for one in arguments],  # noqa: PTH111 - not paths all
            environment=dict(options.get("env") or os.environ),
            folder=str(folder or Path.cwd()),
            independent=bool(options.get("independent")),
        )
        line = _reach(self.socket)
        try:
            return ForkedProcess.start(line, request, options)
        except BaseException:
            line.close()
            raise


class ForkedProcess:
    """A forked kernel, as `subprocess.Popen` shows a process: what a provisioner asks of it."""

    def __init__(self, line: socket.socket, pid: int, pipes: list[IO[bytes] | None]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = pipes
        self._line = line
        self._said = b""
        self._ended_at = 0.0
        self._handle = os.pidfd_open(pid)  # stays this process's when its number is used again

    @classmethod
    def start(cls, line: socket.socket, request: Request, options: dict[str, Any]) -> ForkedProcess:
        """Send a request, and return the kernel that was forked for it.

        Raises:
            NoForkError: there is none; the message has the parent's reason.
        """
        streams, ours, opened = _streams(options)
        try:
            line.settimeout(_PATIENCE)
            ask(line, request, streams)
            said = b""
            while b"\n" not in said:
                part = line.recv(4096)
                if not part:
                    raise NoForkError("the parent of the kernels has ended")
                said += part
            first, _, rest = said.partition(b"\n")
            word, _, text = first.decode(errors="replace").partition(" ")
            if word != "started":
                raise NoForkError(text)
            number, version, prefix = text.split(" ", 2)
            process = cls(
                line, int(number), [pipe and os.fdopen(pipe[0], pipe[1]) for pipe in ours]
            )
        except OSError as error:
            raise NoForkError(f"the parent of the kernels does not answer ({error})") from error
        finally:
            for stream in opened:
                os.close(stream)
        process._said = rest
        line.setblocking(False)
        if (version, prefix) != (advlearn.__version__, sys.prefix):
            process.kill()
            raise NoForkError(
                f"the parent has advlearn {version} of {prefix}, and this server has "
                f"{advlearn.__version__} of {sys.prefix}. Restart the parent"
            )
        return process

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs. 1 stands for one that nobody knows."""
        if self.returncode is None and select.select([self._handle], [], [], 0)[0]:
            self._ended_at = self._ended_at or time.monotonic()
            told = self._listen()
            word, _, status = self._said.decode(errors="replace").strip().partition(" ")
            if word == "ended":
                self._end(int(status))
            # A parent that has ended says nothing; a process of the kernel's may hold the line.
            elif told or time.monotonic() - self._ended_at > _LAST_WORDS:
                self._end(1)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, once it has ended."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(_LAUNCHER, timeout or 0)
            time.sleep(0.02)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal to it, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def _listen(self) -> bool:
        """Read what the parent has said; True when it says no more."""
        try:
            while part := self._line.recv(4096):
                self._said += part
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _end(self, status: int) -> None:
        self.returncode = status
        self._line.close()
        os.close(self._handle)


def _streams(options: dict[str, Any]) -> tuple[list[int], list[tuple[int, str] | None], list[int]]:
    """Return the kernel's three streams, our ends of those that are pipes, and what to close."""
    streams: list[int] = []
    ours: list[tuple[int, str] | None] = []
    opened: list[int] = []
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        wanted = options.get(name)
        end: tuple[int, str] | None = None
        if wanted == subprocess.DEVNULL or (wanted is None and number == 0):
            stream = os.open(os.devnull, os.O_RDWR)
            opened.append(stream)
        elif wanted == subprocess.PIPE:
            reading, writing = os.pipe()
            stream, end = (reading, (writing, "wb")) if number == 0 else (writing, (reading, "rb"))
            opened.append(stream)
        elif wanted == subprocess.STDOUT:
            stream = streams[1]
        elif wanted is None:
            stream = number
        else:
            stream = wanted if isinstance(wanted, int) else wanted.fileno()
        streams.append(stream)
        ours.append(end)
    return streams, ours, opened


def _reach(path: str) -> socket.socket:
    """Return a line to the parent at a path, or to this server's own.

    Raises:
        NoForkError: there is none, or it belongs to somebody else.
    """
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.connect(path or _own_parent())
        owner = Peer.of(line).user
        if owner not in (0, os.geteuid()):
            raise NoForkError(f"the parent at {path} belongs to another user ({owner})")
    except OSError as error:
        line.close()
        raise NoForkError(
            f"no parent of kernels listens at {path}: {error.strerror}. "
            "Start it with `advlearn class kernels serve`"
            if path
            else f"the parent of this server's kernels has ended: {error.strerror}"
        ) from error
    except BaseException:
        line.close()
        raise
    return line


_own: list[tuple[str, subprocess.Popen[bytes], int]] = []  # name, process, and what keeps it alive
_starting = threading.Lock()


def _own_parent() -> str:
    """Return the name of the socket of this server's own parent, started when there is none."""
    with _starting:
        if _own and _own[0][1].poll() is not None:
            os.close(_own.pop()[2])
        if not _own:
            _own.append(_start_parent())
        return _own[0][0]


def _start_parent() -> tuple[str, subprocess.Popen[bytes], int]:
    # A name without a file: there is nothing to clear away. Who connects is checked.
    name = f"\0advlearn-kernels-{secrets.token_hex(16)}"
    until, kept = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(name)
        listener.listen(64)
        passed = (listener.fileno(), until)
        command = [sys.executable, "-m", "advlearn.classroom.kernels.parent"]
        command += ["--listen-fd", str(passed[0]), "--until-fd", str(until)]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=passed)
        except OSError:
            os.close(kept)
            raise
        finally:
            os.close(until)
    return name, process, kept
