"""What the command prints where a console cannot show a name, and of names that would steer it."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from advlearn import arena
from advlearn.arena import contest
from advlearn.cli import app as cli
from advlearn.cli import console
from advlearn.course import copies
from advlearn.data.folders import published
from advlearn.metrics import Rate


def report(name="모델"):
    after = dict.fromkeys(contest.ATTACKS, Rate(3, 10))
    return arena.Report(name, "ConvNet", 7, "ab" * 32, arena.Rules(), after, ())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a board, lessons of which one cannot be copied, and no images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADVLEARN_DATA_DIR", str(tmp_path / "자료"))
    arena.append("모델.csv", report())
    Path("모델").write_text("")
    Path("notebooks").mkdir()
    for name in ("00_start_here.ipynb", "01_부호.ipynb"):
        Path("notebooks", name).write_text("[]")
    Path("내 수업", "01_부호.ipynb").mkdir(parents=True)
    monkeypatch.setattr(copies, "places", lambda _: (Path("notebooks"), Path("내 수업")))
    monkeypatch.setattr(copies, "open_lab", lambda lesson, options: 0)
    monkeypatch.setattr(arena, "score", lambda file, **_: report(contest.fit_name(file.stem)))
    return tmp_path


def run(monkeypatch, *arguments, encoding="cp1252"):
    """Run a command whose output knows one code page; return its status and what it printed."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # strict, as output to a file is
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        patched.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit) as ended:
            cli.app(list(arguments), prog_name="advlearn")
        stream.flush()
    return ended.value.code, stream.buffer.getvalue().decode(encoding)


COMMANDS = {
    "board": (("arena", "board", "모델.csv"), 0),
    "no board": (("arena", "board", "없음.csv"), 1),
    "score": (("arena", "score", "모델.safetensors", "--leaderboard", "판.csv"), 0),
    "a place for the score": (("arena", "score", "x", "--leaderboard", "모델/판.csv"), 1),
    "a picture's place": (("arena", "board", "모델.csv", "--out", "모델"), 1),
    "data": (("data", "--dir", "자료"), 0),
    "no such set": (("data", "--fetch", "자료"), 2),
    "no such command": (("모델",), 2),
    "no such command of the arena": (("arena", "모델"), 2),
    "no such option": (("doctor", "--모델"), 2),
    "doctor": (("doctor",), 0),
    "reproduce": (("reproduce", "--rows", "모델", "--quick"), 1),
    "reproduce's place": (("reproduce", "--rows", "softmax", "--quick", "--out", "모델/x"), 1),
    "lab": (("lab",), 0),
    "help": (("--help",), 0),
    "help of lab": (("lab", "--help"), 0),
    "help of reproduce": (("reproduce", "--help"), 0),
    "help of the arena": (("arena", "--help"), 0),
    "help of score": (("arena", "score", "--help"), 0),
}


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "latin-1"])
@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_no_command_breaks_where_a_letter_cannot_be_shown(here, monkeypatch, kind, encoding):
    arguments, status = COMMANDS[kind]
    ended, printed = run(monkeypatch, *arguments, encoding=encoding)
    assert ended == status, printed
    assert printed


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_a_letter_that_cannot_be_shown_is_shown_as_its_escape(here, monkeypatch):
    _, printed = run(monkeypatch, "arena", "board", "모델.csv")
    assert r"  1  \ubaa8\ub378 " in printed
    assert (here / "모델.png").is_file()
    _, printed = run(monkeypatch, "arena", "board", "모델.csv", encoding="utf-8")
    assert "  1  모델 " in printed
    _, printed = run(monkeypatch, "lab")
    assert r"01_\ubd80\ud638.ipynb has a newer version" in printed


def test_redirected_output_of_the_installed_command(here):
    """As its users run it: the command, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "advlearn.cli", "arena", "board", "없음.csv"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert rb"\uc5c6\uc74c.csv' does not exist" in done.stderr


def test_a_name_that_is_no_unicode_is_shown_too(here, monkeypatch):
    """Linux takes any bytes for a name."""
    name = os.fsdecode(b"board \xff.csv")
    ended, printed = run(monkeypatch, "arena", "board", name, encoding="utf-8")
    assert ended == 1
    assert r"board \udcff.csv" in printed


def test_a_stream_that_cannot_be_set_up_is_left_as_it_is(monkeypatch):
    class Stream(io.StringIO):
        def reconfigure(self, **_):
            raise io.UnsupportedOperation

    monkeypatch.setattr(sys, "stdout", Stream())
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as ended:
        cli.app(["--version"])
    assert ended.value.code == 0
    assert sys.stdout.getvalue().startswith("advlearn ")


def test_no_name_steers_the_terminal_or_begins_a_line(tmp_path):
    name = "a\x1b[2J\rscore: 99.9 %\x07"
    done = CliRunner().invoke(cli.app, ["arena", "board", str(tmp_path / f"{name}.csv")])
    assert done.exit_code == 1
    assert not {"\x1b", "\r", "\x07"} & set(done.output)


@pytest.mark.parametrize("text", ["x" * 10**6, "\x1b" * 10**6, "a\n" * 10**5])
def test_a_message_is_short_whatever_is_in_it(text, capsys):
    with pytest.raises(cli.typer.Exit):
        console.stop(ValueError(text))
    assert len(capsys.readouterr().err) < 5_000


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EACCES, "Permission denied", "/a"), "Permission denied: /a."),
        (OSError(errno.EACCES, "Permission denied", b"/a"), "Permission denied: /a."),
        (FileExistsError("it is there"), "it is there"),
        (RecursionError(), "RecursionError"),
    ],
)
def test_an_error_of_the_system_is_words(error, words, capsys):
    with pytest.raises(cli.typer.Exit):
        console.stop(error)
    assert capsys.readouterr().err == f"{words}\n"


def test_lines_of_our_own_stay(capsys):
    console.say("one\ntwo")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_every_command_finds_the_home_folder(tmp_path, monkeypatch):
    """A shell leaves `~` as it is in --out=~/mine."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("ADVLEARN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    Path("lessons").mkdir()
    Path("lessons", "x.ipynb").write_text('{"cells": []}', encoding="utf-8")
    calls = [
        ("playground", "--out=~/play.html"),
        ("evaluate", "~/soft.safetensors", "--eps=0.1", "--digits=5", "--budget=fast",
         "--json=~/result.json"),
        ("class", "status", "~/lessons", "--out=~/status.csv"),
        ("class", "tests", "--out=~/sheets"),
        ("class", "kernels", "install", "--into=~/kernels"),
    ]  # fmt: skip
    shutil.copy(published("weights") / "softmax.safetensors", "soft.safetensors")
    for arguments in calls:
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == 0, (arguments, done.output)
    there = {path.name for path in tmp_path.iterdir()}
    assert {"play.html", "result.json", "status.csv", "sheets", "kernels"} <= there
    assert "~" not in there


def test_a_home_that_nobody_has_is_a_name_like_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["playground", "--out=~nobody-of-this-name/play.html"])
    assert done.exit_code == 1
    assert "There is no such folder" in done.output
