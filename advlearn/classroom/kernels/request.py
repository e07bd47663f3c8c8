"""What Jupyter's server and a fork say to each other, over a Unix socket.

The server sends three file descriptors and one JSON text: `Request`. The fork answers with a line,
`started PID PREFIX VERSION` or `refused REASON`. Later the parent writes `ended STATUS`. The socket
stays open for as long as the kernel lives: the kernel ends when the server's end is closed.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

MOST = 4_000_000
"""Bytes of a request: environments are large at times."""


class Peer(NamedTuple):
    """The process at the other end of a socket, as the system knows it."""

    process: int
    user: int
    group: int

    @classmethod
    def of(cls, line: socket.socket) -> Peer:
        """Return who opened the other end of a Unix socket, whatever it says of itself."""
        size = struct.calcsize("3i")
        return cls(
            *struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        )


@dataclass(frozen=True)
class Request:
    """How the kernel is started."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    folder: str | None = None
    independent: bool = False  # it goes on when the server ends

    @classmethod
    def parse(cls, text: bytes) -> Request:
        """Read a request.

        Raises:
            ValueError: it is none.
        """
        given: Any = json.loads(text)
        if not isinstance(given, dict):
            raise ValueError("not a request")
        request = cls(**{name: given.get(name) for name in cls.__dataclass_fields__})  # type: ignore[arg-type]
        texts = [request.folder or "", *_list(request.arguments)]
        environment = request.environment
        if not isinstance(environment, dict):
            raise ValueError("not a request")
        for one in [*texts, *environment, *environment.values()]:
            if not isinstance(one, str) or "\0" in one:
                raise ValueError("not a request")
        return request


def _list(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("not a request")
    return value


def ask(line: socket.socket, request: Request, streams: list[int]) -> None:
    """Send a request and the three standard streams of the kernel."""
    text = json.dumps(asdict(request)).encode()
    if len(text) > MOST:
        raise ValueError(f"the environment has {len(text):,} bytes, at most {MOST:,} can be sent")
    socket.send_fds(line, [struct.pack("<I", len(text))], streams)
    line.sendall(text)


def receive(line: socket.socket) -> tuple[Request, list[int]]:
    """Return a request and the streams that came with it.

    Raises:
        ValueError, OSError: it is none, or it does not come.
    """
    head, streams, _, _ = socket.recv_fds(line, 4, 3)
    (length,) = struct.unpack("<I", head)
    if length > MOST or len(streams) != 3:
        raise ValueError("not a request")
    text = bytearray()
    while len(text) < length:
        part = line.recv(min(1 << 16, length - len(text)))
        if not part:
            raise ValueError("the request ends early")
        text += part
    return Request.parse(bytes(text)), streams
