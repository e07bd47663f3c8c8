"""What was solved is remembered: between sessions, by several kernels, in a file or without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import pytest
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_notebook, new_output
from typer.testing import CliRunner

from advlearn.cli import app as cli
from advlearn.course import copies, notebooks, record
from advlearn.course.grading import exercise as engine
from advlearn.course.lessons import LESSONS
from advlearn.course.progress import progress_map
from advlearn.course.record import Entry
from advlearn.exercises import all_exercises
from advlearn.exercises import lesson03 as ex
from tests.lesson_rules import LESSONS as LESSON_FILES
from tests.lesson_rules import ROOT, read

RIGHT, WRONG = Entry("RIGHT", True, 1.0, 1), Entry("WRONG", False, 0.5, 1)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder for the record, and a session that has found nothing."""
    monkeypatch.setenv(record.VARIABLE, str(tmp_path / "mine"))
    engine.forget()
    yield tmp_path / "mine"
    engine.forget()


def next_session():
    """What a new kernel knows."""
    engine.forget()
    return record.remembered()


def printed(capsys, call, *arguments):
    capsys.readouterr()
    call(*arguments)
    return capsys.readouterr().out


def test_the_best_outcome_is_kept_for_the_next_session(place, capsys):
    for answer in (lambda x, gradient, eps: x, ex.fgsm_step.reference, lambda x, gradient, eps: 3):
        ex.fgsm_step.check(answer)
    ex.my_fgsm.check(lambda model, x, y, eps: x)
    known = next_session()
    assert known["03", "fgsm_step"] == Entry("RIGHT", True, 1.0, 3), "playing on loses nothing"
    assert known["03", "my_fgsm"].best == "WRONG"
    shown = printed(capsys, ex.progress)
    assert shown.startswith("1 of 5 exercises right\n")
    assert f"Kept in {place / record.FILE}. It stays on this machine." in shown
    assert [path.name for path in place.iterdir() if path.suffix != ".lock"] == [record.FILE]


def test_a_new_process_knows_it_too(place):
    """The whole way, in two programs one after the other."""
    code = "from advlearn.exercises import lesson03 as ex\n"
    for last in ("ex.fgsm_step.check(ex.fgsm_step.reference)", "ex.progress()"):
        command = [sys.executable, "-c", code + last]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stderr == ""
    assert "1 of 5 exercises right" in done.stdout


def test_what_is_not_tried_is_not_written(place):
    ex.fgsm_step.check(None)
    ex.fgsm_step.check(lambda x, gradient, eps: ...)
    ex.fgsm_step.hint()
    ex.fgsm_step.grade(ex.fgsm_step.reference)  # a teacher's
    ex.progress()
    progress_map()
    assert not place.exists()


@pytest.mark.parametrize(
    ("one", "other", "best"),
    [
        (RIGHT, WRONG, "RIGHT"),
        (WRONG, RIGHT, "RIGHT"),
        (Entry("TIDY", True, 1.0, 1), RIGHT, "RIGHT"),
        (Entry("OF_LATER", False, 0.9, 1), WRONG, "OF_LATER"),
        (Entry("RAISED", False, 0.0, 1), Entry("WRONG", False, 0.0, 1), "WRONG"),
        (Entry(), Entry("RAISED", False, 0.0, 1), "RAISED"),
    ],
)
def test_the_better_outcome_stays(one, other, best):
    assert one.joined(other).best == other.joined(one).best == best
    assert one.joined(other).tries == one.tries + other.tries


def test_many_kernels_at_once_lose_nothing(place):
    code = (
        "import sys\nfrom advlearn.course import record\n"
        "for k in range(5): assert record.note('03', f'{sys.argv[1]}_{k}', "
        "record.Entry('RIGHT', True, 1.0, 1)) == []\n"
        "record.note('03', 'shared', record.Entry('WRONG', False, 0.5, 1))"
    )

    def kernel(name):
        return subprocess.run([sys.executable, "-c", code, name], cwd=ROOT, check=False).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(kernel, "abcd")) == [0] * 4
    known = next_session()
    assert len(known) == 4 * 5 + 1
    assert known["03", "shared"].tries == 4


# --- What befalls the file ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'"a"',
        b"[" * 100_000,
        b'{"format": 1, "lessons": 3}',
        b"null",
    ],
)
def test_a_damaged_file_is_put_aside_and_told_once(place, capsys, content):
    place.mkdir()
    (place / record.FILE).write_bytes(content)
    assert printed(capsys, ex.progress).startswith("0 of 5"), "to look changes nothing"
    assert (place / record.FILE).read_bytes() == content
    first = printed(capsys, ex.fgsm_step.check, ex.fgsm_step.reference)
    assert first.startswith("✓ Right: fgsm_step")
    aside = f"{record.FILE}.damaged-1"
    assert f"was damaged. It is put aside as {aside}" in " ".join(first.split())
    assert "damaged" not in printed(capsys, ex.fgsm_step.check, ex.fgsm_step.reference)
    assert (place / aside).read_bytes() == content
    assert next_session() == {("03", "fgsm_step"): Entry("RIGHT", True, 1.0, 2)}
    (place / record.FILE).write_bytes(b"{")  # once more: the first one is not lost
    record.note("03", "my_fgsm", WRONG)
    assert (place / aside).read_bytes() == content
    assert (place / f"{record.FILE}.damaged-2").exists()


GOOD = {"best": "RIGHT", "solved": True, "score": 1.0, "tries": 1}


@pytest.mark.parametrize(
    "entry",
    [
        None, 3, [], {}, GOOD | {"best": 7}, GOOD | {"best": "a b"}, GOOD | {"best": "X" * 99},
        GOOD | {"solved": 1}, GOOD | {"score": 2}, GOOD | {"score": "1"}, GOOD | {"tries": -1},
        GOOD | {"tries": 1e300}, GOOD | {"score": float("nan")},
    ],
)  # fmt: skip
def test_what_can_be_read_of_a_damaged_file_is_kept(place, entry):
    place.mkdir()
    lessons = {"03": {"fgsm_step": GOOD, "my_fgsm": entry}, "04": []}
    (place / record.FILE).write_text(json.dumps({"format": 1, "lessons": lessons}))
    assert next_session() == {("03", "fgsm_step"): RIGHT}
    (told,) = record.note("03", "loss_gradient", WRONG)
    assert "what could be read of it is kept" in told
    assert next_session() == {("03", "fgsm_step"): RIGHT, ("03", "loss_gradient"): WRONG}


def test_an_outcome_of_a_later_version_is_shown_and_kept(place, capsys):
    record.note("03", "fgsm_step", Entry("VERY_TIDY", True, 1.0, 1))
    assert "✓ very tidy" in printed(capsys, ex.progress)
    ex.fgsm_step.check(lambda x, gradient, eps: x)
    assert next_session()["03", "fgsm_step"] == Entry("VERY_TIDY", True, 1.0, 2)


def test_a_file_of_a_later_version_is_not_touched(place, capsys):
    place.mkdir()
    content = json.dumps({"format": 2, "lessons": {}, "more": 1})
    (place / record.FILE).write_text(content)
    said = printed(capsys, ex.fgsm_step.check, ex.fgsm_step.reference)
    assert "a newer version of the course has written it" in " ".join(said.split())
    assert (place / record.FILE).read_text() == content
    assert printed(capsys, ex.progress).startswith("1 of 5"), "in this session"


def no_folder(place):
    place.write_text("a file in its place")


def no_lock(place):
    place.mkdir()
    (place / f"{record.FILE}.lock").write_text("something else")


@pytest.mark.parametrize("spoil", [no_folder, no_lock])
def test_a_folder_that_cannot_be_written_is_said_once(place, capsys, spoil):
    spoil(place)
    said = printed(capsys, ex.fgsm_step.check, ex.fgsm_step.reference)
    assert said.startswith("✓ Right: fgsm_step")
    assert "remembered in this session only" in said
    again = printed(capsys, ex.my_fgsm.check, ex.my_fgsm.reference)
    assert "remembered" not in again, "once"
    shown = printed(capsys, ex.progress)
    assert shown.startswith("2 of 5")
    assert "Not kept between sessions" in shown
    assert next_session() == {}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_is_read_only_is_said_once(place):
    place.mkdir()
    place.chmod(0o500)
    try:
        assert "remembered in this session only" in record.note("03", "fgsm_step", RIGHT)[0]
        assert record.note("03", "my_fgsm", RIGHT) == []
    finally:
        place.chmod(0o700)
    record.note("03", "loss_gradient", WRONG)
    assert len(next_session()) == 3, "all of it, as soon as it can be written"


def test_what_could_not_be_written_is_written_with_the_next_one(place, monkeypatch):
    monkeypatch.setattr(record, "_PATIENCE", 0.1)
    place.mkdir()
    with FileLock(place / f"{record.FILE}.lock"):
        (said,) = record.note("03", "fgsm_step", RIGHT)
    assert "another program has been writing" in said
    assert record.note("03", "my_fgsm", WRONG) == []
    assert next_session() == {("03", "fgsm_step"): RIGHT, ("03", "my_fgsm"): WRONG}


# --- Where it lies --------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with nothing in it, and no checkout."""
    monkeypatch.delenv(record.VARIABLE)
    monkeypatch.setattr(record, "_HERE", tmp_path)
    monkeypatch.setattr(record, "CHECKOUT", tmp_path / "no checkout")
    return tmp_path


def test_where_no_lessons_are_it_stays_in_memory(here, capsys):
    assert record.folder() is None
    ex.fgsm_step.check(ex.fgsm_step.reference)
    assert "Kept in memory only" in printed(capsys, ex.progress)
    assert list(here.iterdir()) == []


def test_beside_the_copies(here):
    (here / copies.RECORD).write_text("{}")
    assert record.folder() == here


def test_in_the_copies_of_the_current_folder(here):
    (here / copies.FOLDER).mkdir()
    assert record.folder() == here / copies.FOLDER


def test_beside_a_lesson_that_was_fetched_alone(here):
    (here / LESSONS[5].file).write_text("{}")
    assert record.folder() == here


def test_in_the_working_folder_of_colab(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    assert record.folder() == here
    assert "Colab empties this folder" in record.where()


def test_in_the_copies_of_the_checkout(here, monkeypatch):
    """Wherever in it a lesson is open, and the copies need not be there yet."""
    (here / "course" / "notebooks").mkdir(parents=True)
    (here / "course" / "notebooks" / LESSONS[0].file).write_text("{}")
    monkeypatch.setattr(record, "CHECKOUT", here / "course")
    monkeypatch.setattr(record, "_HERE", here / "course" / "notebooks")
    assert record.folder() == here / "course" / copies.FOLDER
    record.note("03", "fgsm_step", RIGHT)
    assert copies.refresh(here / "course" / "notebooks", record.folder()) == []
    assert len(next_session()) == 1, "`advlearn lab` leaves it alone"


def test_the_variable_decides(here, monkeypatch):
    (here / copies.RECORD).write_text("{}")
    monkeypatch.setenv(record.VARIABLE, "~/my progress")
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    assert record.folder() == here / "my progress"
    monkeypatch.setenv(record.VARIABLE, "")
    assert record.folder() is None


def test_a_lesson_that_is_executed_for_the_repository_starts_with_nothing(place, monkeypatch):
    seen = {}

    class Client:
        def __init__(self, *_, **__):
            pass

        def execute(self, env):
            seen.update(env)

    monkeypatch.setattr(notebooks, "NotebookClient", Client)
    notebooks.run(None)
    assert seen[record.VARIABLE] == ""
    assert seen["PATH"] == os.environ["PATH"]


# --- The whole course -----------------------------------------------------------------------------


def test_a_published_map_is_empty_and_has_todays_exercises(place):
    record.note("03", "fgsm_step", RIGHT)
    cell = new_code_cell("progress_map()")
    cell.outputs = [new_output("display_data", {"text/html": "old", "text/plain": "old"})]
    notebook = new_notebook(cells=[cell])
    notebooks.normalise(notebook)
    shown = notebook.cells[0].outputs[0].data
    assert f"0 of {len(all_exercises())} exercises solved" in shown["text/html"]
    assert f"0 of {len(all_exercises())}" in shown["text/plain"]
    outputs = [output for cell in read(LESSON_FILES[0]).cells for output in cell.get("outputs", [])]
    assert shown["text/html"] in [output.get("data", {}).get("text/html") for output in outputs]


class Words(HTMLParser):
    """The text of a page, its titles, and whether each element is closed."""

    def __init__(self, page):
        super().__init__()
        self.text, self.titles, self.open = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.titles += [value for name, value in attrs if name == "title"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_an_empty_map_names_every_lesson_and_exercise():
    course = progress_map()
    words = Words(course._repr_html_())
    total = len(all_exercises())
    assert f"0 of {total} exercises solved" in words.text
    assert len(words.titles) == total
    assert all(title.endswith("○ not attempted") for title in words.titles)
    for lesson in LESSONS:
        assert f"{lesson.number} · {lesson.title}" in words.text
        assert lesson.title in str(course)
    assert "Kept" not in "".join(words.text), "the map that is published names no folder"
    assert course.advice().startswith("Next: lesson 0, exercise 1, ")


def test_the_map_shows_what_is_solved_and_what_is_next(place):
    first, second, third, *_ = ex.EXERCISES
    record.note("03", first.name, RIGHT)
    record.note("03", third.name, WRONG)
    course = progress_map()
    words = Words(course._repr_html_())
    assert course.solved == 1
    assert course.next.exercise is second
    assert (words.text.count("✓"), words.text.count("◐")) == (1, 1)
    assert f"1: {first.title}, ✓ right" in words.titles
    assert "1 of 5" in words.text
    assert str(place) in "".join(words.text)
    record.note("03", second.name, RIGHT)
    assert progress_map().next.exercise is third
    assert progress_map().advice().endswith("So far: ✗ wrong.")


def test_next_goes_on_and_then_comes_back():
    for exercise in all_exercises():
        if exercise.lesson in ("03", "11"):
            record.note(exercise.lesson, exercise.name, RIGHT)
    step = progress_map().next
    assert (step.lesson.number, step.number) == (0, 1), "nothing is left after lesson 11"
    for exercise in all_exercises():
        record.note(exercise.lesson, exercise.name, RIGHT)
    course = progress_map()
    assert course.next is None
    assert course.solved == len(course.steps)
    assert course.advice() == "Every exercise is solved."


def test_the_command_shows_the_whole_course(place, monkeypatch):
    record.note("03", "fgsm_step", RIGHT)
    result = CliRunner().invoke(cli.app, ["progress"])
    assert result.exit_code == 0
    (row,) = (line for line in result.output.splitlines() if " FGSM on a linear model " in line)
    assert row.split()[-3:] == ["1", "of", "5"]
    assert "Next: lesson 3, exercise 1, " in result.output
    assert str(place / record.FILE) in result.output.replace("\n", "")
    monkeypatch.setenv(record.VARIABLE, "")
    engine.forget()
    assert "No progress is kept here" in CliRunner().invoke(cli.app, ["progress"]).output
