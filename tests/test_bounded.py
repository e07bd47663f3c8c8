"""Files of others are read when they are plain files of a sane size, and refused at once else."""

from __future__ import annotations

import os
import socket

import pytest

from advlearn._bounded import open_plain, parse_json, read_plain


def test_a_plain_file_is_read_up_to_its_last_byte(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a\r\n\x1a" * 250)
    assert read_plain(path, most=1000) == path.read_bytes()
    assert read_plain(str(path), most=2000) == path.read_bytes()
    with pytest.raises(
        ValueError, match=r"^'file' has 1,000 bytes; at most 999 are taken. Cut it.$"
    ):
        read_plain(path, most=999, remedy="Cut it.")


def test_a_link_to_a_plain_file_is_one(tmp_path):
    (tmp_path / "file").write_bytes(b"a")
    (tmp_path / "link").symlink_to("file")
    assert read_plain(tmp_path / "link", most=1) == b"a"


def pipe(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def unix_socket(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


def link_to_a_device(path):
    path.symlink_to("/dev/zero")


def link_to_a_pipe(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


@pytest.mark.parametrize("make", [pipe, folder, unix_socket, link_to_a_device, link_to_a_pipe])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
    path = tmp_path.relative_to(tmp_path) / "it"
    make(path)
    with pytest.raises(ValueError, match=r"is no plain file. Name a file, not a folder, a pipe"):
        read_plain(path, most=100)


def test_what_becomes_a_pipe_between_two_looks_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    kind = (tmp_path / "file").stat()
    monkeypatch.setattr(os, "stat", lambda path: kind)
    with pytest.raises(ValueError, match="is no plain file"):
        open_plain(tmp_path / "pipe")


def test_a_file_that_grows_while_it_is_read_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"a" * 10_000)
    status = os.fstat

    def small(number):
        values = list(status(number))
        values[6] = 10
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", small)
    with pytest.raises(ValueError, match="has 101 bytes; at most 100"):
        read_plain(path, most=100)


def test_missing_and_forbidden_files_are_errors_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "none", most=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"9" * 10_000, "not JSON"),
        ('"\n\x1b[2J"', "not JSON"),
    ],
)
def test_what_is_no_json_is_said_on_one_line(content, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_json(content)
    assert str(caught.value).isprintable()
