"""Downloads against a local server that misbehaves in every way that we could think of."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from advlearn.data import download as _download
from advlearn.data.download import DownloadError, Resource, fetch

CONTENT = bytes(range(256)) * 1200
PACKED = gzip.compress(os.urandom(200_000) + CONTENT)
UNPACKED = gzip.decompress(PACKED)
RESOURCE = Resource(
    "digits.gz", hashlib.md5(PACKED).hexdigest(), "digits", hashlib.sha256(UNPACKED).hexdigest()
)


class Server(http.server.ThreadingHTTPServer):
    """Answers each path below `/KIND/` in the manner of KIND, and counts the requests."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"digits.gz": PACKED}
        self.requests: list[str] = []
        self.closing = threading.Event()

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{kind}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        _, kind, name = self.path.split("/")
        body = self.server.files.get(name)
        if kind == "missing" or body is None:
            self.send_error(404)
            return
        if kind == "screen":
            self.wfile.write(b"HTTP/1.0 500 " + b"\x1b[2J" * 2_000 + b"\r\n\r\n")
            return
        if kind == "mute":
            self.server.closing.wait(20)
            return
        if kind == "slow_headers":
            self._drip(b"HTTP/1.0 200 OK\r\nX-Slow: " + b"x" * 1000)
            return
        if kind == "corrupt":
            body = body[:1000] + bytes([body[1000] ^ 1]) + body[1001:]
        if kind == "patient":
            time.sleep(0.5)  # long enough for the other processes to arrive
        self.send_response(200)
        if kind not in {"endless", "no_length", "cut_no_length"}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind == "slow":
            self._drip(body)
        elif kind.startswith("cut"):
            self.wfile.write(body[: len(body) // 2])
        elif kind == "endless":
            while not self.server.closing.is_set():
                self.wfile.write(body)
        else:
            self.wfile.write(body)

    def _drip(self, content: bytes) -> None:
        for index in range(len(content)):
            if self.server.closing.wait(0.05):
                return
            self.wfile.write(content[index : index + 1])
            self.wfile.flush()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client gave up, as it should
            super().handle()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    yield running
    running.closing.set()
    running.shutdown()
    running.server_close()


@pytest.fixture(autouse=True)
def direct_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the local server also where a proxy is set, and whatever the learner forbade."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("ADVLEARN_OFFLINE", raising=False)


def get(folder: Path, *mirrors: str, deadline: float = 20.0, timeout: float = 5.0) -> None:
    fetch(
        folder,
        [RESOURCE],
        mirrors,
        what="Digits",
        instead="use the others",
        deadline=deadline,
        timeout=timeout,
    )


def visible(folder: Path) -> list[str]:
    """Everything in the folder but the lock and the note of a failure."""
    housekeeping = {".advlearn-download.lock", ".advlearn-download-failed"}
    return sorted(path.name for path in folder.iterdir() if path.name not in housekeeping)


@pytest.mark.parametrize("kind", ["good", "no_length"])
def test_good_download_arrives_whole_and_once(tmp_path: Path, server: Server, kind: str) -> None:
    get(tmp_path / "new" / "folder", server.url(kind))
    get(tmp_path / "new" / "folder", server.url(kind) + "/")
    assert (tmp_path / "new" / "folder" / "digits").read_bytes() == UNPACKED
    assert visible(tmp_path / "new" / "folder") == ["digits"]
    assert server.requests == [f"/{kind}/digits.gz"], "a whole file was fetched again"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cut", "connection was cut after"),
        ("cut_no_length", "corrupt"),
        ("corrupt", "corrupt"),
        ("missing", "404"),
        ("screen", r"500 \?\[2J"),
        ("slow", "too slow"),
        ("slow_headers", "too slow"),
        ("mute", "no answer for 0.5 s"),
        ("endless", "without end"),
    ],
)
def test_bad_server_leaves_nothing_and_is_explained(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    monkeypatch.setattr(_download, "_MOST_BYTES", 10 * len(PACKED))
    # A drip must run into the deadline, silence into the time-out.
    limits = {"slow": (1.0, 5.0), "slow_headers": (1.0, 5.0), "mute": (10.0, 0.5)}
    deadline, timeout = limits.get(kind, (10.0, 5.0))
    start = time.monotonic()
    with pytest.raises(DownloadError, match=words) as caught:
        get(tmp_path, server.url(kind), deadline=deadline, timeout=timeout)
    assert time.monotonic() - start < 4
    message = str(caught.value)
    assert message.replace("\n", "").isprintable()
    assert len(message) < 2000
    for part in (f"{server.url(kind)}/digits.gz", "try again", str(tmp_path), "use the others"):
        assert part in message
    assert visible(tmp_path) == []


def test_connection_refused_is_explained(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: refused
        with pytest.raises(DownloadError, match="connection refused"):
            get(tmp_path, f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert visible(tmp_path) == []


def test_unknown_server_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(DownloadError, match="is there a network"):
        get(tmp_path, "http://mirror.invalid")


def test_next_mirror_helps_out(tmp_path: Path, server: Server) -> None:
    get(tmp_path, server.url("slow"), server.url("corrupt"), server.url("good"), deadline=3.0)
    assert (tmp_path / "digits").read_bytes() == UNPACKED


def test_damaged_file_is_replaced_only_by_a_whole_one(tmp_path: Path, server: Server) -> None:
    (tmp_path / "digits").write_bytes(b"damaged")
    with pytest.raises(DownloadError):
        get(tmp_path, server.url("cut"))
    assert (tmp_path / "digits").read_bytes() == b"damaged"
    get(tmp_path, server.url("good"))
    assert (tmp_path / "digits").read_bytes() == UNPACKED


def test_what_a_killed_process_left_is_swept(tmp_path: Path, server: Server) -> None:
    (tmp_path / ".advlearn-part-old").mkdir()
    (tmp_path / ".advlearn-part-old" / "packed").write_bytes(b"half")
    get(tmp_path, server.url("good"))
    assert visible(tmp_path) == ["digits"]


def test_right_hash_on_the_way_but_wrong_content(tmp_path: Path, server: Server) -> None:
    for body, words in ((gzip.compress(b"other"), "not hold"), (b"no gzip", "unpacked")):
        server.files["digits.gz"] = body
        wrong = RESOURCE._replace(md5=hashlib.md5(body).hexdigest())
        with pytest.raises(DownloadError, match=words):
            fetch(tmp_path, [wrong], [server.url("good")], what="D", instead="none", deadline=10.0)
        assert visible(tmp_path) == []


def test_archive_becomes_a_folder(tmp_path: Path, server: Server) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("batches/one")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"12345"))
    server.files["all.tar.gz"] = buffer.getvalue()
    archive = Resource("all.tar.gz", hashlib.md5(buffer.getvalue()).hexdigest(), "batches")
    for _ in range(2):
        fetch(tmp_path, [archive], [server.url("good")], what="D", instead="none", deadline=10.0)
    assert (tmp_path / "batches" / "one").read_bytes() == b"12345"
    assert visible(tmp_path) == ["batches"]
    assert len(server.requests) == 1


def test_full_disk_by_error_code(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_download.shutil, "copyfileobj", full)
    with pytest.raises(DownloadError, match=r"disk .* is full"):
        get(tmp_path, server.url("good"))
    assert visible(tmp_path) == []


# The module is loaded from its file: importing the package would load PyTorch in each process.
CHILD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_download", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["_download"] = module
spec.loader.exec_module(module)
assert "torch" not in sys.modules
{before}
resource = module.Resource(*sys.argv[4:8])
try:
    module.fetch(module.Path(sys.argv[2]), [resource], [sys.argv[3]], what="Digits",
                 instead="use the others", deadline=30.0, timeout=float(sys.argv[8]))
except module.DownloadError as error:
    print(error)
else:
    print(len((module.Path(sys.argv[2]) / resource.local).read_bytes()))
"""


def start(folder: Path, url: str, before: str = "", timeout: float = 10) -> subprocess.Popen[str]:
    code = CHILD.format(before=before)
    arguments = [_download.__file__, str(folder), url, *map(str, RESOURCE), str(timeout)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_full_disk_for_real(tmp_path: Path, server: Server) -> None:
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (100_000, 100_000))"
    output, errors = start(tmp_path, server.url("good"), limit).communicate(timeout=30)
    assert "is full" in output, errors
    assert "Free" in output or "free" in output
    assert visible(tmp_path) == []


def test_thirty_processes_make_one_download(tmp_path: Path, server: Server) -> None:
    processes = [start(tmp_path, server.url("patient")) for _ in range(30)]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert output.strip() == str(len(UNPACKED)), errors
    assert len(server.requests) == 1
    assert visible(tmp_path) == ["digits"]


def test_processes_that_waited_for_a_failure_fail_with_it(tmp_path: Path, server: Server) -> None:
    # Eight time-outs of 3 s in a row would be 24 s.
    before = time.monotonic()
    processes = [start(tmp_path, server.url("mute"), timeout=3) for _ in range(8)]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert "no answer" in output, errors
    assert time.monotonic() - before < 12
    assert visible(tmp_path) == []


def test_killed_process_leaves_nothing_under_a_final_name(tmp_path: Path, server: Server) -> None:
    process = start(tmp_path, server.url("slow"))
    while not server.requests:
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    assert "digits" not in visible(tmp_path)
    get(tmp_path, server.url("good"))
    assert visible(tmp_path) == ["digits"]


def test_offline_opens_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: opened.append(a) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda *a: opened.append(a))
    with pytest.raises(DownloadError):
        get(tmp_path, "http://127.0.0.1:9")
    assert opened, "the watch on sockets sees nothing"
    opened.clear()
    monkeypatch.setenv("ADVLEARN_OFFLINE", "1")
    with pytest.raises(DownloadError, match="ADVLEARN_OFFLINE"):
        get(tmp_path, "http://127.0.0.1:9")
    assert opened == []


@pytest.mark.parametrize(
    ("text", "forbidden"), [("", False), ("0", False), ("No", False), ("1", True), ("true", True)]
)
def test_words_of_the_offline_switch(
    monkeypatch: pytest.MonkeyPatch, text: str, forbidden: bool
) -> None:
    monkeypatch.setenv("ADVLEARN_OFFLINE", text)
    assert _download.network_forbidden() is forbidden


def test_folder_that_cannot_be_written(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match="cannot write to"):
        get(tmp_path / "file", server.url("good"))
    assert server.requests == []
