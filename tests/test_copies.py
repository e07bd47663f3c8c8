"""The learner's copies: whatever happens to the published lessons, no edit is lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from typer.testing import CliRunner

from advlearn.cli import app as cli
from advlearn.course import copies as lessons

NAME = "00_start_here.ipynb"


def write(path, *sources, outputs=()):
    """Write a notebook of these code cells; the first one has these outputs."""
    cells = [new_code_cell(source, id=f"cell-{i:02d}") for i, source in enumerate(sources)]
    cells[0].outputs = [new_output("stream", text=text) for text in outputs]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


def read(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells]


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def course(tmp_path):
    """A course of two lessons and a badge, outside any repository."""
    write(tmp_path / "notebooks" / NAME, "print(1)", "def answer(): ...")
    write(tmp_path / "notebooks" / "01_sign.ipynb", "print(1)")
    (tmp_path / "notebooks" / "colab.svg").write_text("<svg/>")
    (tmp_path / "notebooks" / "other.py").write_text("")
    return tmp_path


@pytest.fixture
def mine(course):
    assert lessons.refresh(course / "notebooks", course / "my-lessons") == []
    return course / "my-lessons"


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def again(course):
    return lessons.refresh(course / "notebooks", course / "my-lessons")


def test_the_first_time_everything_is_copied(course, mine):
    assert names(mine) == [NAME, "01_sign.ipynb", "colab.svg"]
    for name in names(mine):
        assert (mine / name).read_bytes() == (course / "notebooks" / name).read_bytes()


def test_an_edit_stays_when_nothing_is_new(course, mine):
    write(mine / NAME, "print(1)", "def answer(): return 1", "mine")
    kept = (mine / NAME).read_bytes()
    assert again(course) == []
    assert (mine / NAME).read_bytes() == kept
    assert names(mine) == [NAME, "01_sign.ipynb", "colab.svg"]


def test_a_newer_version_lies_beside_an_edited_copy(course, mine):
    write(mine / NAME, "print(1)", "def answer(): return 1")
    write(course / "notebooks" / NAME, "print(2)", "def answer(): ...")
    (news,) = again(course)
    assert news == (
        "00_start_here.ipynb has a newer version. Yours is untouched: "
        "see 00_(new)_start_here.ipynb."
    )
    assert read(mine / NAME) == ["print(1)", "def answer(): return 1"]
    assert read(mine / "00_(new)_start_here.ipynb") == ["print(2)", "def answer(): ..."]
    assert again(course) == [], "it is offered once"


def test_newer_versions_pile_up_only_when_they_are_edited_too(course, mine):
    write(mine / NAME, "mine")
    write(course / "notebooks" / NAME, "print(2)")
    again(course)
    write(course / "notebooks" / NAME, "print(3)")
    again(course)
    assert read(mine / "00_(new)_start_here.ipynb") == ["print(3)"], "unedited: replaced"
    write(mine / "00_(new)_start_here.ipynb", "mine too")
    write(course / "notebooks" / NAME, "print(4)")
    assert "(new 2)" in again(course)[0]
    assert read(mine / NAME) == ["mine"]
    assert read(mine / "00_(new)_start_here.ipynb") == ["mine too"]
    assert read(mine / "00_(new 2)_start_here.ipynb") == ["print(4)"]


@pytest.mark.parametrize("outputs", [(), ("1\n",)], ids=["untouched", "run"])
def test_a_copy_without_edits_becomes_the_newer_version(course, mine, outputs):
    write(mine / NAME, "print(1)", "def answer(): ...", outputs=outputs)
    write(course / "notebooks" / NAME, "print(2)")
    assert again(course) == []
    assert read(mine / NAME) == ["print(2)"]
    assert names(mine) == [NAME, "01_sign.ipynb", "colab.svg"]


def test_other_stored_outputs_are_no_newer_version_for_one_who_has_worked(course, mine):
    write(mine / NAME, "print(1)", "def answer(): return 1")
    write(mine / "01_sign.ipynb", "print(1)", outputs=["my run\n"])
    write(course / "notebooks" / NAME, "print(1)", "def answer(): ...", outputs=["2\n"])
    write(course / "notebooks" / "01_sign.ipynb", "print(1)", outputs=["2\n"])
    assert again(course) == []
    assert read(mine / NAME)[1] == "def answer(): return 1"
    assert "my run" in (mine / "01_sign.ipynb").read_text(encoding="utf-8")


def test_an_untouched_copy_gets_the_other_outputs(course, mine):
    write(course / "notebooks" / NAME, "print(1)", "def answer(): ...", outputs=["2\n"])
    again(course)
    assert (mine / NAME).read_bytes() == (course / "notebooks" / NAME).read_bytes()


def test_a_deleted_copy_comes_back(course, mine):
    (mine / NAME).unlink()
    again(course)
    assert read(mine / NAME) == ["print(1)", "def answer(): ..."]


def test_a_new_lesson_arrives_and_a_file_of_ones_own_stays(course, mine):
    write(mine / "my notes.ipynb", "note")
    write(course / "notebooks" / "02_new.ipynb", "print(2)")
    again(course)
    assert names(mine) == [NAME, "01_sign.ipynb", "02_new.ipynb", "colab.svg", "my notes.ipynb"]


@pytest.mark.parametrize("record", [None, "", "[]", '{"00_start_here.ipynb": 3}', "{"])
def test_without_a_record_nothing_is_overwritten(course, mine, record):
    write(mine / NAME, "mine")
    if record is None:
        (mine / ".versions.json").unlink()
    else:
        (mine / ".versions.json").write_text(record)
    again(course)
    assert read(mine / NAME) == ["mine"]
    assert read(mine / "00_(new)_start_here.ipynb") == ["print(1)", "def answer(): ..."]


def test_a_copy_that_is_no_notebook_is_kept(course, mine):
    (mine / NAME).write_text("half a file {")
    write(course / "notebooks" / NAME, "print(2)")
    again(course)
    assert (mine / NAME).read_text() == "half a file {"


def full_disk(monkeypatch, *names):
    """Let writing these files end as on a full disk."""
    write_atomically = lessons.write_atomically

    def write(path, content):
        if path.name in names:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_atomically(path, content)

    monkeypatch.setattr(lessons, "write_atomically", write)


def test_a_write_that_fails_leaves_the_copy_whole(course, mine, monkeypatch):
    write(course / "notebooks" / NAME, "print(2)")
    write(course / "notebooks" / "01_sign.ipynb", "print(2)")
    full_disk(monkeypatch, NAME)
    (news,) = again(course)
    assert news == (
        f"{NAME} could not be written (No space left on device). What you have is as it was. "
        "Free 10 MB or more, then run `advlearn lab` again."
    )
    assert read(mine / NAME) == ["print(1)", "def answer(): ..."]
    assert read(mine / "01_sign.ipynb") == ["print(2)"], "the others are brought up to date"
    monkeypatch.undo()
    assert again(course) == []
    assert read(mine / NAME) == ["print(2)"], "it is tried again"


def test_a_newer_version_that_could_not_be_written_is_offered_again(course, mine, monkeypatch):
    write(mine / NAME, "mine")
    write(course / "notebooks" / NAME, "print(2)")
    full_disk(monkeypatch, "00_(new)_start_here.ipynb")
    assert "could not be written" in again(course)[0]
    monkeypatch.undo()
    assert "Yours is untouched" in again(course)[0]
    assert read(mine / NAME) == ["mine"]


def test_a_record_that_could_not_be_written_loses_nothing(course, mine, monkeypatch):
    write(mine / NAME, "mine")
    for path in (course / "notebooks").glob("*.ipynb"):
        write(path, "print(2)")
    full_disk(monkeypatch, ".versions.json")
    assert [("record" in one, "Yours" in one) for one in again(course)] == [
        (False, True), (True, False),
    ]  # fmt: skip
    monkeypatch.undo()
    assert again(course) == [], "what lies there already is not put there twice"
    assert read(mine / NAME) == ["mine"]
    assert read(mine / "01_sign.ipynb") == ["print(2)"]
    assert len(names(mine)) == 4


def test_a_folder_that_cannot_be_written_is_opened_all_the_same(course, mine, monkeypatch, started):
    """Root may write everywhere, so the lock is made to fail as it would for others."""
    monkeypatch.setattr(cli, "CHECKOUT", course)

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(lessons, "locked", refused)
    done = call("lab")
    assert done.exit_code == 3
    assert "could not be written (Permission denied)" in done.output
    assert started[0][0][3] == str(mine / NAME)


def test_on_a_full_disk_the_copies_that_are_whole_are_opened(course, mine, monkeypatch, started):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    (mine / NAME).unlink()
    write(course / "notebooks" / "01_sign_function.ipynb", "print(1)")
    again(course)
    (mine / NAME).unlink()
    full_disk(monkeypatch, NAME)
    done = call("lab")
    assert done.exit_code == 3
    assert "No space left on device" in done.output
    assert "Errno" not in done.output
    assert started[0][0][3] == str(mine / "01_sign_function.ipynb")


@pytest.mark.parametrize("make", ["file", "link"])
def test_what_lies_in_the_place_of_the_folder_is_named(course, monkeypatch, started, make):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    if make == "file":
        (course / "my-lessons").write_text("mine")
    else:
        (course / "my-lessons").symlink_to("nowhere")
    done = call("lab")
    assert done.exit_code == 1
    assert "the folder of your copies, cannot be made (File exists). Move what is" in done.output
    assert started == []
    assert not (course / "nowhere").exists()


def test_with_no_copy_at_all_lab_says_why(course, monkeypatch, started):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    full_disk(monkeypatch, NAME, "01_sign.ipynb")
    done = call("lab")
    assert done.exit_code == 1
    assert done.output.count("No space left on device") == 2
    assert "No lessons in" in done.output
    assert started == []


LAB = """
import sys
from pathlib import Path
from advlearn.course import copies
for _ in range(20):
    for line in copies.refresh(Path(sys.argv[1]), Path(sys.argv[2])):
        print(line)
"""


def test_six_at_once_leave_whole_copies_and_offer_each_version_once(course, mine):
    write(mine / NAME, "mine")
    for path in (course / "notebooks").glob("*.ipynb"):
        write(path, "print(2)", "x = 1\n" * 10_000)
    command = [sys.executable, "-c", LAB, str(course / "notebooks"), str(mine)]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = [program.communicate(timeout=100)[0] for program in programs]
    assert [program.returncode for program in programs] == [0] * 6
    assert sum("Yours is untouched" in one for one in said) == 1
    assert names(mine) == ["00_(new)_start_here.ipynb", NAME, "01_sign.ipynb", "colab.svg"]
    assert read(mine / NAME) == ["mine"]
    for name in ("00_(new)_start_here.ipynb", "01_sign.ipynb"):
        assert read(mine / name)[0] == "print(2)"


def test_what_a_killed_program_left_is_cleared_away(course, mine):
    (mine / f".{NAME}.0123abcd.part").write_text("half")
    (mine / ".my own.part").write_text("mine")
    again(course)
    hidden = sorted(path.name for path in mine.iterdir() if path.name.startswith("."))
    assert hidden == [".my own.part", ".versions.json", ".versions.json.lock"]


# --- What is no edit ------------------------------------------------------------------------------


def rewrite(path, change):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    change(notebook)
    path.write_text(json.dumps(notebook), encoding="utf-8")


EMPTY = {"cell_type": "code", "execution_count": None, "id": "x", "metadata": {}, "outputs": []}


def empty_at_the_end(notebook):
    notebook["cells"].append(EMPTY | {"source": []})


def blank_in_the_middle(notebook):
    notebook["cells"].insert(1, EMPTY | {"source": [" \n", "\n"]})


def empty_text(notebook):
    notebook["cells"].append({"cell_type": "markdown", "id": "y", "metadata": {}, "source": ""})


def run_it(notebook):
    for number, cell in enumerate(notebook["cells"]):
        cell["execution_count"] = number + 1
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]


def folded(notebook):
    for cell in notebook["cells"]:
        cell["metadata"] |= {"collapsed": True, "scrolled": True, "jupyter": {"x": 1}}
        cell["metadata"]["execution"] = {"iopub.status.busy": "2025-01-01T00:00:00Z"}


def other_ids(notebook):
    notebook["nbformat_minor"] = 4
    for cell in notebook["cells"]:
        del cell["id"]


def other_kernel(notebook):
    notebook["metadata"] = {"kernelspec": {"name": "mine"}, "language_info": {"version": "3.99"}}


def line_ends(notebook):
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("\n", "  \r\n") + "\n\n"


def one_text(notebook):
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])


NO_EDITS = [
    *(empty_at_the_end, blank_in_the_middle, empty_text, run_it, folded, other_ids),
    *(other_kernel, line_ends, one_text),
]


@pytest.mark.parametrize("change", NO_EDITS, ids=lambda change: change.__name__)
def test_what_a_program_writes_is_no_edit(course, mine, change):
    rewrite(mine / NAME, change)
    write(course / "notebooks" / NAME, "print(2)")
    assert again(course) == []
    assert read(mine / NAME) == ["print(2)"]


def a_space_in_front(notebook):
    notebook["cells"][0]["source"] = ["if 1:\n", "    print(1)"]


def a_comment(notebook):
    notebook["cells"].append(EMPTY | {"source": ["#"]})


def another_order(notebook):
    notebook["cells"].reverse()


def as_text(notebook):
    cell = notebook["cells"][0]
    notebook["cells"][0] = {k: cell[k] for k in ("id", "metadata", "source")}
    notebook["cells"][0]["cell_type"] = "markdown"


def a_picture(notebook):
    picture = {"attachments": {"a.png": {"image/png": "AA=="}}, "source": ""}
    notebook["cells"].append({"cell_type": "markdown", "id": "y", "metadata": {}} | picture)


EDITS = [a_space_in_front, a_comment, another_order, as_text, a_picture]


@pytest.mark.parametrize("change", EDITS, ids=lambda change: change.__name__)
def test_what_a_person_writes_is_an_edit(course, mine, change):
    rewrite(mine / NAME, change)
    kept = (mine / NAME).read_bytes()
    write(course / "notebooks" / NAME, "print(2)")
    assert "Yours is untouched" in again(course)[0]
    assert (mine / NAME).read_bytes() == kept


def test_records_of_the_first_version_are_understood(course, mine):
    """They hold a digest of the cells as they are, trailing spaces, empty cells and all."""
    write(course / "notebooks" / NAME, "print(1)  ", "def answer(): ...", "")
    again(course)
    record = json.loads((mine / ".versions.json").read_text(encoding="utf-8"))
    before = lessons._Version.of(mine / NAME, lessons._written_before)
    assert record[NAME] != list(before)
    record[NAME] = list(before)
    (mine / ".versions.json").write_text(json.dumps(record), encoding="utf-8")
    write(mine / NAME, "print(1)  ", "def answer(): ...", "", outputs=["run\n"])
    assert again(course) == [], "nothing is new"
    (mine / ".versions.json").write_text(json.dumps(record), encoding="utf-8")
    write(course / "notebooks" / NAME, "print(2)")
    assert again(course) == []
    assert read(mine / NAME) == ["print(2)"]


# --- What is no notebook --------------------------------------------------------------------------


def look(path):
    """Return what tells a file from another one, and from itself after it was written."""
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


def a_pipe(path):
    os.mkfifo(path)


def a_folder(path):
    path.mkdir()


def a_link_to_nowhere(path):
    path.symlink_to(path.with_name("nowhere"))


def deep(path):
    path.write_bytes(b'{"cells": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")


def many_lists(path):
    path.write_bytes(b'{"cells": [' + b"[]," * 9_000_000 + b"[]]}")


def other_types(path):
    path.write_bytes(b'{"cells": [3, {"cell_type": "code", "source": [1]}]}')


@pytest.mark.parametrize(
    "make", [a_pipe, a_folder, a_link_to_nowhere, deep, many_lists, other_types]
)
def test_what_is_no_notebook_stays_and_the_newer_version_lies_beside(course, mine, make):
    (mine / NAME).unlink()
    make(mine / NAME)
    kind = look(mine / NAME)
    write(course / "notebooks" / NAME, "print(2)")
    assert "Yours is untouched" in again(course)[0]
    assert look(mine / NAME) == kind
    assert not (mine / "nowhere").exists()
    assert read(mine / "00_(new)_start_here.ipynb") == ["print(2)"]
    assert again(course) == []


# --- With git -------------------------------------------------------------------------------------


@pytest.fixture
def published(course, tmp_path_factory):
    """The course as a repository, and a learner's clone of it."""
    (course / ".gitignore").write_text("/my-lessons/\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        git(course, *words)
    clone = tmp_path_factory.mktemp("learner") / "clone"
    git(course, "clone", "-q", str(course), str(clone))
    return course, clone


def publish(course, *sources):
    write(course / "notebooks" / NAME, *sources)
    git(course, "commit", "-qam", "two")


def test_pull_works_while_a_copy_is_edited(published):
    course, clone = published
    again(clone)
    write(clone / "my-lessons" / NAME, "print(1)", "def answer(): return 1")
    assert git(clone, "status", "--porcelain") == "", "git does not see the copies"
    publish(course, "print(2)", "def answer(): ...")
    git(clone, "pull", "-q")
    assert again(clone)
    assert read(clone / "my-lessons" / NAME)[1] == "def answer(): return 1"


def test_answers_in_the_lessons_themselves_come_along_and_are_never_taken_for_published(published):
    """One who worked in notebooks/ before: the copy has the answers, and keeps them."""
    course, clone = published
    write(clone / "notebooks" / NAME, "print(1)", "def answer(): return 1")
    again(clone)
    assert read(clone / "my-lessons" / NAME)[1] == "def answer(): return 1"
    git(clone, "checkout", "-q", "--", "notebooks")
    publish(course, "print(2)", "def answer(): ...")
    git(clone, "pull", "-q")
    again(clone)
    assert read(clone / "my-lessons" / NAME)[1] == "def answer(): return 1"
    assert read(clone / "my-lessons" / "00_(new)_start_here.ipynb")[0] == "print(2)"


def test_a_lesson_that_was_only_run_in_the_checkout_is_no_edit(published):
    course, clone = published
    write(clone / "notebooks" / NAME, "print(1)", "def answer(): ...", outputs=["1\n"])
    again(clone)
    git(clone, "checkout", "-q", "--", "notebooks")
    publish(course, "print(2)", "def answer(): ...")
    git(clone, "pull", "-q")
    assert again(clone) == []
    assert read(clone / "my-lessons" / NAME)[0] == "print(2)"


def test_edits_in_the_lessons_themselves_come_along_when_there_is_a_copy_too(published):
    _, clone = published
    again(clone)
    write(clone / "my-lessons" / NAME, "print(1)", "def answer(): return 1")
    write(clone / "notebooks" / NAME, "print(1)", "def answer(): return 2")
    write(clone / "notebooks" / "01_sign.ipynb", "note")
    for _ in range(2):
        again(clone)
        assert read(clone / "my-lessons" / NAME)[1] == "def answer(): return 1"
        assert read(clone / "my-lessons" / "00_(new)_start_here.ipynb")[1].endswith("return 2")
        assert read(clone / "my-lessons" / "01_sign.ipynb") == ["note"]
        assert len(names(clone / "my-lessons")) == 4, "once, however often it is looked at"
    git(clone, "checkout", "-q", "--", "notebooks")
    again(clone)
    assert read(clone / "my-lessons" / NAME)[1] == "def answer(): return 1"
    assert read(clone / "my-lessons" / "00_(new)_start_here.ipynb")[1].endswith("return 2")
    assert read(clone / "my-lessons" / "01_sign.ipynb") == ["note"]


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """What would have been started."""
    calls = []
    monkeypatch.setattr(subprocess, "call", lambda command, env: calls.append((command, env)) or 3)
    return calls


def call(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


def test_lab_opens_the_copy_of_the_first_lesson(course, started, monkeypatch):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    assert call("lab", "--no-browser", "--port", "9000").exit_code == 3
    ((command, environment),) = started
    first = str(course / "my-lessons" / NAME)
    assert command == [
        *(sys.executable, "-m", "jupyterlab"),
        *(first, "--no-browser", "--port", "9000"),
    ]
    assert environment["OMP_WAIT_POLICY"], "kernels inherit it: threads wait by sleeping"
    assert Path(first).is_file()


def test_lab_says_what_is_new(course, mine, started, monkeypatch):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    write(mine / NAME, "mine")
    write(course / "notebooks" / NAME, "print(2)")
    assert "Yours is untouched" in call("lab").output


def test_lab_can_open_the_lessons_themselves(course, started, monkeypatch):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    assert call("lab", "--original", "--no-browser").exit_code == 3
    assert started[0][0][3:] == [str(course / "notebooks" / NAME), "--no-browser"]
    assert not (course / "my-lessons").exists()


def test_without_a_checkout_the_lessons_come_from_the_package(course, monkeypatch, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr(lessons, "PACKAGE", course / "package")
    with pytest.raises(FileNotFoundError, match="No lessons here"):
        lessons.places(empty)
    inside = course / "package" / "_published" / "notebooks"
    write(inside / NAME, "print(1)")
    assert lessons.places(empty) == (inside, empty / "my-lessons")
    monkeypatch.chdir(course)
    assert lessons.places(empty) == (course / "notebooks", course / "my-lessons")


def test_a_checkout_that_may_not_be_written_keeps_the_copies_here(course, monkeypatch, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert lessons.places(course) == (course / "notebooks", here / "my-lessons")


def test_lab_says_what_is_missing(course, started, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    monkeypatch.setattr(lessons.importlib.util, "find_spec", lambda name: None)
    result = call("lab")
    assert result.exit_code == 1
    assert "JupyterLab is not installed. Run `pip install 'jupyterlab>=4'`" in result.output
    (course / "my-lessons" / NAME).unlink()

    def refused(_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refused)
    printed = call("lab").output
    assert "Read-only file system" in printed
    assert f"my-lessons/{NAME}" in printed, "a file that cannot be written is named"
    assert started == []


def test_the_record_is_small_and_plain(mine):
    record = json.loads((mine / ".versions.json").read_text(encoding="utf-8"))
    assert set(record) == {NAME, "01_sign.ipynb", "colab.svg"}
    assert all(len(pair) == 2 for pair in record.values())
