"""Whose notebooks these are, and how far everybody is: from what platforms export."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from advlearn.classroom.status import exercise_names, status
from advlearn.classroom.submissions import find
from advlearn.cli import app as cli
from advlearn.course.grading.grader import Grade, Outcome
from advlearn.course.lessons import LESSONS
from advlearn.exercises import all_exercises
from tests.lesson_rules import LESSONS as NOTEBOOKS

RIGHT = "✓ Right: fgsm_step\n  It passes all 7 checks.\n"
WRONG = "✗ Wrong: loss_gradient (71 % of the checks passed)\n  The sign is missing.\n"


def notebook(*printed: str, lesson: str = "03", run: bool = True) -> bytes:
    """Return a notebook of a lesson whose cells printed something."""
    cells = [
        {"cell_type": "markdown", "source": "# A title of my own"},
        {"cell_type": "code", "source": [f"from advlearn.exercises import lesson{lesson} as ex\n"],
         "outputs": [], "execution_count": 1 if run else None},
    ]  # fmt: skip
    cells += [
        {
            "cell_type": "code",
            "source": "ex.a.check(a)",
            "execution_count": 2,
            "outputs": [
                {"output_type": "display_data", "data": {"image/png": "iVBOR" * 9}},
                {"output_type": "stream", "name": "stdout", "text": text.splitlines(True)},
            ],
        }
        for text in printed
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ONE = notebook(RIGHT)
TREES = {
    "a folder for each learner": (
        {"kim/03_fgsm_linear_models.ipynb": ONE, "lee/03_fgsm_linear_models.ipynb": ONE},
        ["kim", "lee"],
    ),
    "Moodle": (
        {
            "Kim Minji_1234567_assignsubmission_file_/03_fgsm_linear_models.ipynb": ONE,
            "Lee Sora_1234568_assignsubmission_file_/work (1).ipynb": ONE,
        },
        ["Kim Minji", "Lee Sora"],
    ),
    "Canvas": (
        {
            "kimminji_LATE_4711_99120_03_fgsm_linear_models-1.ipynb": ONE,
            "leesora_4712_99121_Untitled.ipynb": ONE,
        },
        ["kimminji", "leesora"],
    ),
    "Blackboard": (
        {
            "HW3_kim_attempt_2026-11-29-10-00-00_03_fgsm_linear_models.ipynb": ONE,
            "HW3_lee_attempt_2026-11-29-10-00-00_solution.ipynb": ONE,
        },
        ["kim", "lee"],
    ),
    "flat, with names in front": (
        {"kim_03_fgsm_linear_models.ipynb": ONE, "lee-lesson03 (2).ipynb": ONE},
        ["kim", "lee"],
    ),
    "by lesson, then by learner": (
        {"lesson03/kim.ipynb": ONE, "lesson05/kim.ipynb": notebook(lesson="05"),
         "lesson05/lee.ipynb": notebook(lesson="05")},
        ["kim", "lee"],
    ),
    "nbgrader": (
        {f"submitted/{name}/lesson03/03_fgsm_linear_models.ipynb": ONE for name in ("kim", "lee")},
        ["kim", "lee"],
    ),
    "numbers of students": (
        {"2021001/03_fgsm_linear_models.ipynb": ONE, "2021002/a/b/c.ipynb": ONE},
        ["2021001", "2021002"],
    ),
    "a zip file of each learner": (
        {"kim.zip": zipped({"03_fgsm_linear_models.ipynb": ONE}),
         "lee.zip": zipped({"work/mine.ipynb": ONE, "__MACOSX/work/._mine.ipynb": b"\\0"})},
        ["kim", "lee"],
    ),
    "a zip file with everybody's zip files": (
        {"export.zip": zipped({
            "Kim_1_assignsubmission_file_/hw.zip": zipped({"03_fgsm_linear_models.ipynb": ONE}),
            "Lee_2_assignsubmission_file_/03.ipynb": ONE,
        })},
        ["Kim", "Lee"],
    ),
    "one learner's folder": (
        {"kim/03_fgsm_linear_models.ipynb": ONE, "kim/05_fgsm_deep_networks.ipynb":
         notebook(lesson="05")},
        ["kim"],
    ),
    "names in pieces, as macOS keeps them": (
        {unicodedata.normalize("NFD", "김민지/03_fgsm_linear_models.ipynb"): ONE,
         "김민지/05_fgsm_deep_networks.ipynb": notebook(lesson="05")},
        ["김민지"],
    ),
    "names that end in numbers": (
        {"kim10/x.ipynb": ONE, "kim2/x.ipynb": ONE, "alex12/x.ipynb": ONE},
        ["alex12", "kim2", "kim10"],
    ),
    "checkpoints of Jupyter": (
        {"kim/x.ipynb": ONE, "kim/.ipynb_checkpoints/x-checkpoint.ipynb": ONE, "lee/x.ipynb": ONE},
        ["kim", "lee"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_each_notebook_finds_its_learner(name: str, tmp_path: Path) -> None:
    files, learners = TREES[name]
    put(tmp_path, files)
    found = find(tmp_path)
    assert found.learners == learners
    assert found.unread == []
    expected = {"05" if b"lesson05" in content else "03" for content in files.values()}
    assert {one.lesson for one in found.notebooks} == expected
    assert all("image/png" not in str(one.cells) for one in found.notebooks)


def test_the_lesson_is_what_the_notebook_imports_then_its_title_then_its_name(
    tmp_path: Path,
) -> None:
    titled = json.dumps({"cells": [{"cell_type": "markdown", "source": ["# 07 · Why"]}]}).encode()
    nothing = json.dumps({"cells": []}).encode()
    put(tmp_path, {
        "kim/03_fgsm_linear_models.ipynb": notebook(lesson="05"),
        "kim/03_x.ipynb": titled,
        "kim/my 09_honest_evaluation copy.ipynb": nothing,
        "kim/notes.ipynb": nothing,
    })  # fmt: skip
    found = find(tmp_path)
    assert sorted(one.lesson for one in found.notebooks) == ["05", "07", "09"]
    assert [(one.path, one.reason[:12]) for one in found.unread] == [
        ("kim/notes.ipynb", "not a lesson")
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_our_own_lessons_are_recognised_under_any_name(path: Path, tmp_path: Path) -> None:
    put(tmp_path, {"kim/Untitled1.ipynb": path.read_bytes()})
    (one,) = find(tmp_path).notebooks
    assert one.lesson == path.name[:2]


REFUSED = {
    "nothing.ipynb": (b"", "an empty file"),
    "half.ipynb": (ONE[: len(ONE) // 2], "damaged: it is not a whole notebook"),
    "list.ipynb": (b"[1, 2]", "no list of cells"),
    "cell.ipynb": (b'{"cells": [3]}', "one of its cells"),
    "old.ipynb": (b'{"worksheets": []}', "before 2015"),
    "answer.py": (b"x = 1", "not a notebook"),
    "report.pdf": (b"%PDF", "not a notebook"),
    "deep.ipynb": (b"[" * 100_000, "damaged"),
    "broken.zip": (b"PK\3\4 and then nothing", "damaged"),
    "bomb.zip": (zipped({"a.ipynb": bytes(300_000_000)}), "more than 50,000,000 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_told_with_its_reason(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    put(tmp_path, {f"kim/{name}": content, "lee/x.ipynb": ONE})
    found = status(tmp_path)
    assert found.learners == ("kim", "lee")
    (one,) = found.submissions.unread
    assert one.learner == "kim"
    assert words in one.reason
    assert f"Not read: {one.path}: {one.reason}." in str(found)
    assert "/tmp" not in one.reason
    assert found.solved("lee") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_to_another_learners_file_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path, {"kim/x.ipynb": ONE})
    (tmp_path / "lee").mkdir()
    (tmp_path / "lee/x.ipynb").symlink_to(tmp_path / "kim/x.ipynb")
    found = find(tmp_path)
    assert [one.learner for one in found.notebooks] == ["kim"]
    assert [(one.learner, "a link" in one.reason) for one in found.unread] == [("lee", True)]


# --- status ---------------------------------------------------------------------------------------


def test_the_names_of_the_exercises_are_those_of_the_banks() -> None:
    told = [(number, name) for number, names in exercise_names().items() for name in names]
    assert told == [(one.lesson, one.name) for one in all_exercises()]
    assert len(exercise_names()) == len(LESSONS)


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("solved", [True, False])
def test_every_outcome_that_a_check_prints_is_read(
    outcome: Outcome, solved: bool, tmp_path: Path
) -> None:
    """The text is the engine's own, so another wording there is seen here."""
    exercise = next(one for one in all_exercises() if one.name == "fgsm_step")
    score = 1.0 if outcome is Outcome.RIGHT or (solved and outcome is Outcome.TIDY) else 0.5
    printed = "\n".join(exercise._report(Grade(outcome, score, "Because.")))
    put(tmp_path, {"kim/x.ipynb": notebook(printed)})
    read = status(tmp_path).reported["kim"]["03", "fgsm_step"]
    assert read.rank == (2 if score == 1.0 else 0 if outcome is Outcome.NOT_ATTEMPTED else 1)
    assert read.words == outcome.value
    stopped = exercise._report(Grade(Outcome.RAISED, 0.0, "It did not end.", stopped=True))
    put(tmp_path, {"kim/x.ipynb": notebook("\n".join(stopped))})
    assert status(tmp_path).reported["kim"]["03", "fgsm_step"].rank == 1


def test_the_best_of_several_files_counts_and_both_are_named(tmp_path: Path) -> None:
    put(tmp_path, {
        "kim/a.ipynb": notebook(RIGHT, WRONG),
        "kim/a (1).ipynb": notebook(RIGHT.replace("✓ Right", "✗ Wrong"), WRONG),
        "lee/a.ipynb": notebook(run=False),
        "park/b.ipynb": notebook(lesson="05"),
    })  # fmt: skip
    found = status(tmp_path)
    text = str(found)
    total = len(exercise_names()["03"])
    assert found.cell("kim", "03") == f"1/{total}"
    assert found.cell("kim", "05") == "-"
    assert found.cell("lee", "03") == "?"
    assert "kim, lesson 03: 2 files" in text
    assert "no outputs" in text
    assert "as the notebooks report it" in " ".join(text.split())
    lines = found.as_csv().splitlines()
    assert lines[0] == "learner,lesson,exercise,reported"
    assert "kim,03,fgsm_step,right" in lines
    assert "kim,03,loss_gradient,wrong" in lines
    assert "lee,03,fgsm_step,no outputs" in lines
    assert len(lines) == 1 + 2 * total + len(exercise_names()["05"])


def test_a_name_is_no_formula_and_steers_no_console(tmp_path: Path) -> None:
    put(tmp_path, {"=1+1/x.ipynb": ONE, "lee/x.ipynb": ONE, "\x1b[2Jkim/x.ipynb": ONE})
    found = status(tmp_path)
    assert "'=1+1,03" in found.as_csv()
    assert "\x1b" not in str(found)


def test_the_command(tmp_path: Path) -> None:
    put(tmp_path / "in", {"kim/x.ipynb": ONE, "lee/x.ipynb": notebook(WRONG)})
    out = tmp_path / "status.csv"
    done = CliRunner().invoke(cli.app, ["class", "status", str(tmp_path / "in"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "2 learners, 2 notebooks" in done.output
    assert out.read_text(encoding="utf-8") == status(tmp_path / "in").as_csv()
    for arguments, words in (
        (["class", "status", str(tmp_path / "gone")], "is not there"),
        (["class", "status", str(tmp_path / "in"), "--out", str(tmp_path)], "is not a file"),
    ):
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == 1
        assert words in done.output
