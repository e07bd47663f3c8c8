"""Files are written whole: on a full disk, without permission, when killed, six at once."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from advlearn._atomic import locked, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run(code, *arguments):
    """Run Python code in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def file(tmp_path):
    """A file that was there before."""
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize(
    ("content", "written"),
    [(b"\x00\xff", b"\x00\xff"), ("부호\r\n", "부호\r\n".encode()), (b"", b""), ("", b"")],
)
def test_the_content_is_written_as_it_is(file, content, written):
    write_atomically(file, content)
    write_atomically(str(file.with_name("new.txt")), content)
    assert file.read_bytes() == file.with_name("new.txt").read_bytes() == written
    assert names(file.parent) == ["file.txt", "new.txt"]


def test_permissions_stay_and_those_of_a_new_file_are_the_systems(file):
    file.chmod(0o640)
    write_atomically(file, "new")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    plain, whole = file.with_name("plain"), file.with_name("whole")
    plain.touch()
    write_atomically(whole, "new")
    assert whole.stat().st_mode == plain.stat().st_mode


def test_a_disk_without_permissions_takes_the_file_all_the_same(file, monkeypatch):
    def refused(self, mode):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    write_atomically(file, "new")
    assert file.read_bytes() == b"new"


# A real limit of the system: no file may be larger than 1,000 bytes.
LIMITED = """
import resource, signal, sys
from advlearn._atomic import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(sys.argv[1], b"new" * 1000)
except OSError as error:
    print(error.errno, error.filename)
"""


def test_a_file_that_does_not_fit_leaves_the_old_one(file):
    done = run(LIMITED, file)
    assert done.stdout.split() == [str(errno.EFBIG), str(file)], done.stderr
    assert file.read_bytes() == b"old"
    assert names(file.parent) == ["file.txt"]


@pytest.mark.parametrize(
    ("where", "number", "kind"),
    [
        ("os.fsync", errno.ENOSPC, OSError),
        ("os.fsync", errno.EIO, OSError),
        ("pathlib.Path.open", errno.EACCES, PermissionError),
        ("pathlib.Path.replace", errno.EROFS, OSError),
    ],
)
def test_an_error_names_the_file_and_keeps_its_number(file, monkeypatch, where, number, kind):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(where, fail)
    with pytest.raises(kind) as caught:
        write_atomically(file, b"new")
    monkeypatch.undo()
    assert caught.value.errno == number
    assert caught.value.filename == str(file)
    assert str(file) in str(caught.value)
    assert file.read_bytes() == b"old"
    assert names(file.parent) == ["file.txt"]


def test_a_folder_in_the_way_and_a_missing_folder_are_named(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder'$"):
        write_atomically(tmp_path / "folder", b"new")
    with pytest.raises(FileNotFoundError, match=r"nowhere.*file'$"):
        write_atomically(tmp_path / "nowhere" / "file", b"new")
    assert names(tmp_path) == ["folder"]


def test_an_interrupt_leaves_the_old_file(file, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, b"new")
    assert names(file.parent) == ["file.txt"]
    assert file.read_bytes() == b"old"


KILLED = """
import os, signal, sys
from advlearn._atomic import write_atomically
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], b"new")
"""


def test_a_killed_process_leaves_the_old_file(file):
    assert run(KILLED, file).returncode == -signal.SIGKILL
    assert file.read_bytes() == b"old"
    write_atomically(file, b"next")  # what the killed one left is not in the way
    assert file.read_bytes() == b"next"
    (left,) = [name for name in names(file.parent) if name != "file.txt"]
    assert left.startswith(".file.txt.")
    assert left.endswith(".part")


WRITER = """
import sys
from advlearn._atomic import write_atomically
for _ in range(50):
    write_atomically(sys.argv[1], sys.argv[2].encode() * 100_000)
"""


def test_six_writers_at_once_leave_one_whole_file(file):
    command = [sys.executable, "-c", WRITER, str(file)]
    writers = [subprocess.Popen([*command, letter]) for letter in "abcdef"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        content = file.read_bytes()
        assert content == b"old" or (len(content) == 100_000 and len(set(content)) == 1)
        seen.add(content[:1])
    assert [writer.wait() for writer in writers] == [0] * 6
    assert len(seen) > 1, "the reader saw no change"
    assert names(file.parent) == ["file.txt"]


def test_a_link_stays_a_link_and_its_target_gets_the_content(file, tmp_path):
    link = tmp_path / "link.txt"
    link.symlink_to(file)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    assert names(tmp_path) == ["file.txt", "link.txt"]


# --- Locks ----------------------------------------------------------------------------------------


def test_all_names_of_a_file_have_one_lock(file, tmp_path):
    link = tmp_path / "link.txt"
    link.symlink_to(file)
    late = pytest.raises(TimeoutError, match=r"writing file.txt for 0.1 seconds. Wait")
    with locked(link) as held:
        assert held == file
        with late, locked(file, timeout=0.1):
            pass
    with locked(file, timeout=0.1):
        pass
    assert names(tmp_path) == ["file.txt", "file.txt.lock", "link.txt"]


def look(path):
    """Return what tells a file from another one, and from itself after it was written."""
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


def precious_file(path):
    path.write_text("precious")


def link_to_a_file(path):
    path.symlink_to("file.txt")


def link_to_nowhere(path):
    path.symlink_to("nowhere")


def folder(path):
    path.mkdir()


def pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("make", [precious_file, link_to_a_file, link_to_nowhere, folder, pipe])
def test_what_lies_at_the_place_of_a_lock_is_not_emptied(file, make):
    lock = file.with_name("file.txt.lock")
    make(lock)
    kind = look(lock)
    refused = pytest.raises(FileExistsError, match=r"is in the way.*Move it elsewhere")
    with refused, locked(file):
        pass
    assert look(lock) == kind
    assert file.read_bytes() == b"old"
    assert not file.with_name("nowhere").exists()
