"""The lessons as an nbgrader course: what is written, and the steps that nbgrader is given.

nbgrader itself is not needed here; `make test-nbgrader` takes the course through it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from advlearn.classroom.grade import Mark
from advlearn.classroom.nbgrader import collecting, course, outside, points
from advlearn.classroom.nbgrader import preprocessors as steps
from advlearn.classroom.nbgrader.cell import ENDING, TEXT, NoPointsError, asked
from advlearn.classroom.status import exercise_names
from advlearn.cli.app import app
from advlearn.course.lessons import LESSONS
from advlearn.data.folders import CHECKOUT

RELEASED = {name: f"def {name}(x):\n    ...  # your code" for name in ("one", "two")}
GRADED = {name: TEXT.format(lesson="03", name=name, rule="half") for name in RELEASED}
WANTED = [
    steps.Wanted(f"{name}{ending}", texts[name], worth, ending == "")
    for name in RELEASED
    for ending, texts, worth in (("", RELEASED, None), (ENDING, GRADED, 1.0))
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write the whole course once."""
    out = tmp_path_factory.mktemp("course") / "out"
    course.write(out, rule="half")
    return out


def notebook_of(out, lesson):
    return nbformat.read(out / "source" / lesson.name / lesson.file, as_version=4)


def released(source: str) -> str:
    """Take the solution out as nbgrader's ClearSolutions does, with the course's stub."""
    return re.sub(
        r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION\n", rf"\1{course.STUB}\n", source,
        flags=re.S | re.M,
    )  # fmt: skip


# --- What is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_every_exercise_has_a_cell_to_write_in_and_one_that_is_graded(written, lesson):
    notebook = notebook_of(written, lesson)
    nbformat.validate(notebook)
    marked = [c for c in notebook.cells if "nbgrader" in c.metadata]
    names = exercise_names()[f"{lesson.number:02d}"]
    assert [c.metadata.nbgrader.grade_id for c in marked] == [
        grade_id for name in names for grade_id in (name, f"{name}{ENDING}")
    ]
    for solution, graded in zip(marked[::2], marked[1::2], strict=True):
        assert solution.metadata.nbgrader.solution
        assert not solution.metadata.nbgrader.grade
        assert graded.metadata.nbgrader.grade
        assert graded.metadata.nbgrader.locked
        assert graded.metadata.nbgrader.points == 1
        assert asked(graded.source).rule == "half"
    assert all(c.metadata.nbgrader.schema_version == 3 for c in marked)
    ids = [c.id for c in notebook.cells]
    assert len(ids) == len(set(ids))
    assert not any(c.outputs for c in notebook.cells if c.cell_type == "code")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_without_the_solutions_a_lesson_is_as_it_is_published(written, lesson):
    notebook = notebook_of(written, lesson)
    published = nbformat.read(CHECKOUT / "notebooks" / lesson.file, as_version=4)
    own = [c for c in notebook.cells if not c.metadata.get("nbgrader", {}).get("grade")]
    for ours, theirs in zip(own, published.cells, strict=True):
        if theirs.cell_type == "code" and "# your code:" not in theirs.source:
            assert released(ours.source) == theirs.source
    text = json.dumps([released(c.source) for c in notebook.cells])
    assert "SOLUTION" not in text
    assert "colab.research" not in text
    for name, inner in re.findall(r"\]\(\.\./(\w+)/(\w+)\.ipynb", text):
        assert name == inner
        assert (written / "source" / name / f"{inner}.ipynb").is_file()
    assert not re.search(r"\]\(\d\d_\w+\.ipynb", text)


def test_a_hint_in_a_stub_stays_for_the_learner(written):
    lesson = next(one for one in LESSONS if one.number == 2)
    (cell,) = [c for c in notebook_of(written, lesson).cells if c.source.startswith("def units_fr")]
    assert "# return unit(..., ...)" in released(cell.source)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="classes are graded by forking")
def test_every_solution_is_right(written):
    grader = outside.Outside()
    try:
        for lesson in LESSONS:
            cells = [{"cell_type": "code", "source": "import torch"}]
            cells += [  # without the others, whose imports take seconds each
                {"cell_type": "code", "source": c.source}
                for c in notebook_of(written, lesson).cells
                if c.metadata.get("nbgrader", {}).get("solution")
            ]
            marks = grader.grade(f"{lesson.number:02d}", cells)
            assert {m.exercise: m.outcome for m in marks} == dict.fromkeys(
                exercise_names()[f"{lesson.number:02d}"], "RIGHT"
            )
    finally:
        grader.close()


def test_the_settings_and_the_readme_are_whole(written):
    config = (written / "nbgrader_config.py").read_text(encoding="utf-8")
    compile(config, "nbgrader_config.py", "exec")
    assert course.STUB in config
    readme = (written / "README.md").read_text(encoding="utf-8")
    assert "{{" not in config + readme
    assert "1/2 for an attempt" in readme


def test_nothing_is_overwritten(tmp_path):
    new = course.write(tmp_path, lessons=["03"])
    assert len(new) == 3
    assert course.write(tmp_path, lessons=["03"]) == []
    assert len(course.write(tmp_path, lessons=["03", "01"])) == 1  # a lesson is added
    config = tmp_path / "nbgrader_config.py"
    config.write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"nbgrader_config\.py is there already"):
        course.write(tmp_path, lessons=["03", "02"])
    assert config.read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "source" / "02_softplus_and_maxout").exists()


def test_the_command_says_what_is_wrong(tmp_path):
    def run(*words):
        done = CliRunner().invoke(app, ["class", "nbgrader", *words])
        return done.exit_code, " ".join(done.output.split())

    assert run(str(tmp_path / "a"), "--lesson", "03")[0] == 0
    status, text = run(str(tmp_path / "b"), "--lesson", "99")
    assert status != 0
    assert "Lessons are 00 to 11" in text
    assert not (tmp_path / "b").exists()
    file = tmp_path / "c"
    file.write_text("", encoding="utf-8")
    assert "is not a folder" in run(str(file))[1]
    assert (
        "Name the folder of the lessons"
        in run(str(tmp_path / "d"), "--notebooks", str(tmp_path))[1]
    )
    assert "Everything is in" in run(str(tmp_path / "a"), "--lesson", "03")[1]


def test_a_lesson_whose_cells_are_not_empty_is_refused(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    name = "03_fgsm_linear_models.ipynb"
    text = (CHECKOUT / "notebooks" / name).read_text(encoding="utf-8")
    text = text.replace("def fgsm_step(x, gradient, eps):\\n", "def fgsm_step(x, g, eps):\\n")
    (mine / name).write_text(text.replace("    ...  # your code\\n", "    return 1\\n"), "utf-8")
    with pytest.raises(ValueError, match="no empty cell for loss_gradient, fgsm_step"):
        course.write(tmp_path / "out", lessons=["03"], notebooks=mine)
    assert not (tmp_path / "out").exists()


# --- A graded cell --------------------------------------------------------------------------------


def right(x, gradient, eps):
    return (x + eps * gradient.sign()).clamp(0, 1)


def wrong(x, gradient, eps):
    return x - eps * gradient.sign()


def stub(x, gradient, eps): ...  # your code


@pytest.mark.parametrize(
    ("answer", "rule", "share"),
    [
        (right, "right", 1.0), (right, "half", 1.0), (right, "score", 1.0),
        (wrong, "right", 0.0), (wrong, "half", 0.5),
        (stub, "half", 0.0), (None, "half", 0.0), (3, "half", 0.5),
    ],
)  # fmt: skip
def test_a_graded_cell_gives_a_plain_number(answer, rule, share, monkeypatch, capsys):
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    given = points("03", "fgsm_step", answer, rule=rule)
    assert type(given) is float
    assert given == share
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    if share:
        assert points("03", "fgsm_step", answer, rule=rule) == share
    else:
        with pytest.raises(NoPointsError, match="fgsm_step: ") as caught:
            points("03", "fgsm_step", answer, rule=rule)
        assert caught.value._render_traceback_() == [str(caught.value)]
    assert "fgsm_step" in capsys.readouterr().out


def test_the_score_is_the_share_of_the_checks(monkeypatch):
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    share = points("03", "fgsm_step", lambda x, g, eps: x + eps * g.sign(), rule="score")
    assert 0 < share < 1
    with pytest.raises(ValueError, match="rule is 'all'"):
        points("03", "fgsm_step", right, rule="all")


# --- Cells that are missing -----------------------------------------------------------------------


def submitted(*cells):
    """Return a notebook of (source, grade_id or None) pairs."""
    known = {one.grade_id: one for one in WANTED}
    made = []
    for source, grade_id in cells:
        cell = new_code_cell(source)
        if isinstance(grade_id, str) and grade_id in known:
            cell.metadata["nbgrader"] = steps._about(known[grade_id])
        elif grade_id is not None:
            cell.metadata["nbgrader"] = grade_id
        made.append(cell)
    return new_notebook(cells=made)


def ids(notebook):
    return [c.metadata.get("nbgrader", {}).get("grade_id") for c in notebook.cells]


WHOLE = [
    (RELEASED["one"], "one"), (GRADED["one"], "one-points"),
    (RELEASED["two"], "two"), (GRADED["two"], "two-points"),
]  # fmt: skip
ANSWER = RELEASED["one"].replace(course.STUB, "return x")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (WHOLE, ["one", "one-points", "two", "two-points"]),
        (WHOLE[::2], ["one", "one-points", "two", "two-points"]),
        (WHOLE[2:], ["two", "two-points", "one-points"]),
        ([], ["one-points", "two-points"]),
        ([(s, None) for s, _ in WHOLE], ["one", "one-points", "two", "two-points"]),
        ([("import torch", None), (ANSWER, None)], [None, "one", "one-points", "two-points"]),
        # Damaged metadata, or those of another course.
        ([("x = 1", {"grade_id": "other", "grade": True}), *WHOLE], [None, *[i for _, i in WHOLE]]),
        ([("x = 1", "nonsense"), *WHOLE], [None, *[i for _, i in WHOLE]]),
        # Of copies the last keeps its id.
        ([WHOLE[0], *WHOLE], [None, *[i for _, i in WHOLE]]),
        ([WHOLE[0], WHOLE[1], *WHOLE[1:]],
         ["one", None, "one-points", "two", "two-points"]),
        # Another cell in between does not part an answer from what grades it.
        ([WHOLE[0], ("y = 2", None), *WHOLE[2:]],
         ["one", "one-points", None, "two", "two-points"]),
    ],
)  # fmt: skip
def test_what_is_missing_is_put_back(cells, expected):
    notebook = submitted(*cells)
    steps.mend(notebook, WANTED)
    assert ids(notebook) == expected
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            assert cell.source in GRADED.values()


def test_a_copied_cell_gets_an_id_of_its_own():
    notebook = submitted(*WHOLE, *WHOLE)
    for cell in notebook.cells:
        cell["id"] = "same"
    steps.mend(notebook, WANTED)
    nbformat.validate(notebook)
    assert len({c.id for c in notebook.cells}) == 8


# --- Outputs that nbgrader would misread ----------------------------------------------------------


def shown(text: str | None, source: str = GRADED["one"], worth: float = 1.0, stderr: str = ""):
    """Return a notebook of one graded cell that has shown a result."""
    notebook = submitted((source, "one-points"))
    (cell,) = notebook.cells
    cell.metadata["nbgrader"]["points"] = worth
    if stderr:
        cell.outputs.append(new_output("stream", name="stderr", text=stderr))
    if text is not None:
        cell.outputs.append(new_output("execute_result", data={"text/plain": text}))
    return notebook


def read_as_nbgrader(notebook) -> float:
    """Read a graded cell as `nbgrader.utils.determine_grade` of 0.9 does."""
    (cell,) = notebook.cells
    most = float(cell.metadata.nbgrader.points)
    for output in cell.outputs:
        if output.output_type == "error" or output.get("name") == "stderr":
            return 0.0
        if output.output_type == "execute_result":
            try:
                value = float(output["data"]["text/plain"])
            except ValueError:
                return most
            assert 0 < value <= most
            return value
    return most


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("1.0", 1), ("0.5", 0.5), ("0.0", 0), (None, 0), ("True", 0), ("None", 0), ("1,0", 0),
        ("nan", 0), ("inf", 0), ("2.0", 0), ("-1.0", 0), ("'1.0'", 0), ("<hidden>", 0),
        ("np.float64(0.5)", 0.5),
    ],
)  # fmt: skip
def test_the_courses_own_cells_give_a_share_of_their_points_or_nothing(text, grade):
    for worth in (1.0, 4.0):
        notebook, _ = steps.settle(shown(text, worth=worth, stderr="a warning"), {})
        assert read_as_nbgrader(notebook) == worth * grade
        nbformat.validate(notebook)


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        (None, 2), ("1.5", 1.5), ("True", 2), ("False", 0), ("np.float64(1.5)", 1.5),
        ("tensor(0.5000)", 0.5), ("tensor(2, dtype=torch.int32)", 2), ("tensor(0.)", 0),
        ("array(1.5)", 1.5), ("tensor([0.5])", 2), ("'words'", 2),
        ("tensor(1.5000, grad_fn=<MeanBackward0>)", 1.5), ("np.int64(1)", 1),
    ],
)  # fmt: skip
def test_numbers_of_other_graded_cells_are_plain_ones(text, grade):
    notebook, _ = steps.settle(shown(text, "check(one)", worth=2.0), {})
    assert read_as_nbgrader(notebook) == grade


def test_an_error_stays_an_error():
    notebook = shown(None)
    notebook.cells[0].outputs = [new_output("error", ename="E", evalue="", traceback=["E"])]
    steps.settle(notebook, {})
    assert read_as_nbgrader(notebook) == 0


# --- Graded outside -------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="classes are graded by forking")
def test_a_notebook_is_graded_outside_whatever_it_does():
    name = "03_fgsm_linear_models"
    answers = {
        "loss_gradient": "import os\ndef loss_gradient(w, b, x, y):\n    os._exit(0)",
        "fgsm_step": "def fgsm_step(x, gradient, eps):\n"
        "    return (x + eps * gradient.sign()).clamp(0, 1)",
        "worst_case_loss": "def worst_case_loss(w, b, x, y, eps):\n    return 'no number'",
        "my_fgsm": "def my_fgsm(model, x, y, eps):\n    ...  # your code",
        "error_and_confidence": "import os; os._exit(1)",
    }
    cells = [new_markdown_cell("# 3")]
    for each, source in answers.items():
        cells.append(new_code_cell(source))
        graded = new_code_cell(TEXT.format(lesson="03", name=each, rule="half"))
        wanted = steps.Wanted(f"{each}{ENDING}", graded.source, 2.0, False)
        graded.metadata["nbgrader"] = steps._about(wanted)
        cells.append(graded)
    notebook = new_notebook(cells=cells)
    resources = {"nbgrader": {"notebook": name}}
    steps.by_the_course(notebook, resources)
    found = {
        cell.metadata.nbgrader.grade_id: read_as_nbgrader(SimpleNamespace(cells=[cell]))
        for cell in notebook.cells
        if "nbgrader" in cell.metadata
    }
    assert list(found.values()) == [1.0, 2.0, 1.0, 0.0, 0.0]
    nbformat.validate(notebook)
    said = json.dumps(notebook.cells)
    assert "ended the process" in said
    # What cannot be graded is told; it is nobody's zero.
    with pytest.raises(outside.GradingError, match="no lesson of the course"):
        steps.by_the_course(notebook, {"nbgrader": {"notebook": "own"}})
    notebook.cells[2].source = "assert True"
    with pytest.raises(outside.GradingError, match="loss_gradient-points is not the course") as e:
        steps.by_the_course(notebook, resources)
    assert 'GRADE = "kernel"' in str(e.value)
    ungraded = Mark("03", "one", "UNGRADED", 0, False, "", "", remark="damaged")
    with pytest.raises(outside.GradingError, match="could not be graded: damaged"):
        steps.show(cell_of("one"), ungraded, "half")


def cell_of(name):
    return submitted((GRADED[name], f"{name}-points")).cells[0]


def test_a_grader_that_has_ended_is_started_again(monkeypatch):
    if not hasattr(os, "fork"):
        pytest.skip("classes are graded by forking")
    grader = outside.Outside()
    try:
        cells = [{"cell_type": "code", "source": "x = 1"}]
        assert {m.outcome for m in grader.grade("03", cells)} == {"NOT_ATTEMPTED"}
        grader._process.kill()
        grader._process.wait()
        assert {m.outcome for m in grader.grade("03", cells)} == {"NOT_ATTEMPTED"}
        with pytest.raises(outside.GradingError, match="the grader failed"):
            grader.grade("77", cells)
        assert grader.grade("03", cells)
    finally:
        grader.close()


# --- Names ----------------------------------------------------------------------------------------


@pytest.fixture
def lesson03(written):
    return written / "source" / "03_fgsm_linear_models" / "03_fgsm_linear_models.ipynb"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["03_fgsm_linear_models.ipynb"], []),
        (["03_fgsm_linear_models (1).ipynb"], ["is taken for"]),
        (["my homework.ipynb", "notes.txt"], ["is taken for"]),
        (["03_fgsm_linear_models.ipynb", "copy.ipynb"], ["second notebook"]),
        (["a.ipynb", "b.ipynb"], ["is taken for 03_fgsm_linear_models.ipynb; a.ipynb"]),
        ([], []),
    ],
)
def test_a_renamed_notebook_gets_its_name_again(tmp_path, lesson03, names, words):
    for number, name in enumerate(names):
        shutil.copy(lesson03, tmp_path / name)
        os.utime(tmp_path / name, (number, number))
    told = collecting.name_as_released(tmp_path, "03_fgsm_linear_models")
    assert len(told) == len(words)
    assert all(word in sentence for word, sentence in zip(words, told, strict=True))
    assert (tmp_path / "03_fgsm_linear_models.ipynb").exists() == any(
        name.endswith(".ipynb") for name in names
    )
    kept = [path for path in tmp_path.iterdir() if path.suffix == ".ipynb"]
    assert len(kept) == sum(name.endswith(".ipynb") for name in names)


def test_files_of_a_platform_are_collected_by_learner_and_lesson(tmp_path, lesson03):
    folder = tmp_path / "downloaded" / "03_fgsm_linear_models" / "extracted"
    paths = {
        "Kim Minji_1234567_assignsubmission_file_/03_fgsm_linear_models (1).ipynb": "Kim Minji",
        "leesora_LATE_4711_99120_03_fgsm_linear_models-1.ipynb": "leesora",
    }
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(lesson03, folder / path)
    (folder / "broken.ipynb").write_text("{", encoding="utf-8")
    log = SimpleNamespace(warning=lambda *words: told.append(words))
    told: list[tuple] = []
    collector = collecting.collector(object)()
    collector.log, collector.parent = log, SimpleNamespace(extracted_directory="extracted")
    for path, learner in paths.items():
        expected = {"student_id": learner, "file_id": "03_fgsm_linear_models"}
        assert collector.collect(str(folder / path)) == expected
    assert collector.collect(str(folder / "broken.ipynb")) is None
    assert len(told) == 1
    assert "damaged" in told[0][2]
