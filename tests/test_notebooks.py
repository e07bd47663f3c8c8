"""Every lesson keeps every rule, and every rule sees a lesson that breaks it."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from advlearn.course import lessons, notebooks
from advlearn.course.lessons import LESSONS as TABLE
from tests.lesson_rules import (
    BESIDE,
    CHECKED,
    COMMON_RULES,
    LESSONS,
    ROOT,
    RULES,
    code,
    prose,
    read,
    tags,
)

MODEL = ROOT / "notebooks" / "03_fgsm_linear_models.ipynb"


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_lesson_keeps(path, rule):
    assert rule(read(path), path.name) == []


@pytest.mark.parametrize("path", BESIDE, ids=lambda p: p.stem)
@pytest.mark.parametrize("rule", COMMON_RULES, ids=lambda rule: rule.__name__)
def test_a_notebook_beside_the_lessons_keeps(path, rule):
    assert rule(read(path), path.name) == []


def test_there_are_lessons():
    assert MODEL in LESSONS


# --- Broken copies of a good lesson, each with the rule that must see it --------------------------


def cell_with(notebook, words):
    return next(cell for cell in notebook.cells if words in cell.source)


def drop_section(nb):
    nb.cells.remove(cell_with(nb, "## Summary"))


def swap_sections(nb):
    i, j = (nb.cells.index(cell_with(nb, f"## {t}")) for t in ("Quiz", "Summary"))
    nb.cells[i], nb.cells[j] = nb.cells[j], nb.cells[i]


def no_minutes(nb):
    nb.cells[0].source = re.sub(r"\*\*About.*", "", nb.cells[0].source)


def other_minutes(nb):
    nb.cells[0].source = re.sub(r"\*\*About \d+ min", "**About 61 min", nb.cells[0].source)


def no_second_day(nb):
    nb.cells[0].source = re.sub(r"\*\*Coming back.*\n\n", "", nb.cells[0].source)


def exercises_imported_twice(nb):
    nb.cells.append(new_code_cell("from advlearn.exercises import lesson03 as ex"))


def other_title(nb):
    nb.cells[0].source = nb.cells[0].source.replace("# 3 · FGSM on", "# 3 · FGSM for")


def no_widget(nb):
    nb.cells = [cell for cell in nb.cells if "widget" not in tags(cell)]


def other_setup(nb):
    code(nb)[0].source += "\nprint('mine')"


def two_setups(nb):
    nb.cells.append(copy.deepcopy(code(nb)[0]))


def badge_of_another(nb):
    nb.cells[0].source = nb.cells[0].source.replace("03_fgsm", "04_fgsm")


def run_out_of_order(nb):
    code(nb)[3].execution_count = 99


def kernel_metadata(nb):
    nb.metadata["widgets"] = {"state": {}}


def checked_without_output(nb):
    next(cell for cell in code(nb) if CHECKED in tags(cell)).outputs = []


def checked_unrounded(nb):
    next(c for c in code(nb) if CHECKED in tags(c)).outputs[0].text = "error 0.123456\n"


def nothing_checked(nb):
    for cell in code(nb):
        cell.metadata["tags"] = [tag for tag in tags(cell) if tag != CHECKED]


def plain_png(nb):
    output = new_output("display_data", {"image/png": "AAAA", "text/plain": "<Figure>"})
    code(nb)[4].outputs.append(output)


def empty_alt(nb):
    for cell in code(nb):
        for output in cell.outputs:
            if "<img" in output.get("data", {}).get("text/html", ""):
                output.data["text/html"] = re.sub(
                    r'alt="[^"]*"', 'alt=""', output.data["text/html"]
                )


def typed_in(nb):
    nb.cells.append(new_markdown_cell("Our error is 86.0 % here."))


def long_line(nb):
    nb.cells.append(new_code_cell("x = " + " + ".join(["1"] * 60)))


def long_cell(nb):
    nb.cells.append(new_code_cell("\n".join(["x = 1"] * 40)))


def fold(cell, *more):
    cell.metadata["tags"] = list(more)
    return cell


def long_folded_cell(nb):
    nb.cells.append(fold(new_code_cell("\n".join(["x = 1"] * 40)), "drawing"))


def drawing_without_a_sentence(nb):
    nb.cells += [new_code_cell("x = 1"), fold(new_code_cell("# @title a\nx"), "drawing")]


def folded_words(nb):
    nb.cells.append(fold(new_markdown_cell("One.\n\nTwo."), "authors-check", CHECKED))


def folded_twice(nb):
    cell = new_code_cell("# @title a\nx")
    nb.cells.append(fold(cell, "authors-check", "drawing", CHECKED))


def check_not_compared(nb):
    nb.cells.append(fold(new_code_cell("# @title a\nprint(1)"), "authors-check"))


def folded_exercise(nb):
    nb.cells += [new_markdown_cell("Look."), fold(new_code_cell("# @title a\nex.quiz"), "drawing")]


def unfolded(nb):
    """A cell that its tag folds, without the title and the metadata that do it."""
    cell = next(cell for cell in code(nb) if tags(cell) == [CHECKED])
    cell.metadata["tags"] = ["authors-check", CHECKED]


def dead_link(nb):
    nb.cells.append(new_markdown_cell("See [this](no_such_file.md)."))


def unlinked(nb):
    cell = cell_with(nb, "[Lesson 4](")
    cell.source = re.sub(r"\[(Lesson 4)\]\(.*?\)", r"\1", cell.source)


def another_definition(nb):
    for output in cell_with(nb, "Markdown(table(").outputs:
        text = output.data["text/markdown"]
        output.data["text/markdown"] = text.replace("clamp", "cut").replace("The", "A", 1)


def linked_elsewhere(nb):
    cell = cell_with(nb, "[Lesson 4](")
    cell.source = cell.source.replace("04_l1_penalty", "05_fgsm_deep_networks")


def unlinked_in_a_list(nb):
    nb.cells.append(
        new_markdown_cell("Lessons [1](01_sign_function.ipynb) (the sign) and 9 say more.")
    )


def linked_too_late(nb):
    nb.cells.append(new_markdown_cell("See lesson 1, that is [lesson 1](01_sign_function.ipynb)."))


def needed_and_not_linked(nb):
    cell = cell_with(nb, "## Before you start")
    cell.source = cell.source.replace("(02_softplus_and_maxout.ipynb)", "(01_sign_function.ipynb)")


def linked_and_not_needed(nb):
    cell_with(nb, "## Before you start").source += "\n[Lesson 0](00_start_here.ipynb)."


def heading_jump(nb):
    nb.cells.insert(2, new_markdown_cell("#### Deep"))


def second_title(nb):
    nb.cells.append(new_markdown_cell("# Again"))


def exercise_without_check(nb):
    cell = cell_with(nb, "ex.fgsm_step.check")
    cell.source = cell.source.replace("ex.fgsm_step.check(fgsm_step)", "")


def other_stars(nb):
    cell = cell_with(nb, "### Exercise 2")
    cell.source = cell.source.replace("★☆☆", "★★★")


def no_quiz(nb):
    nb.cells = [cell for cell in nb.cells if cell.source.strip() != "ex.quiz"]


def no_glossary(nb):
    nb.cells = [cell for cell in nb.cells if "Markdown(table(" not in cell.source]


def english_glossary(nb):
    for output in cell_with(nb, "Markdown(table(").outputs:
        output.data["text/markdown"] = re.sub(r"[가-힣]+", "", output.data["text/markdown"])


def says(text, name="stdout"):
    def add(nb):
        code(nb)[2].outputs.append(new_output("stream", text=text, name=name))

    return add


def raised(nb):
    code(nb)[2].outputs.append(new_output("error", ename="E", evalue="", traceback=[]))


def huge(nb):
    nb.cells.append(new_markdown_cell("x" * 2_000_000))


BROKEN = [
    ("anatomy", drop_section),
    ("anatomy", swap_sections),
    ("anatomy", no_minutes),
    ("anatomy", no_second_day),
    ("anatomy", exercises_imported_twice),
    ("anatomy", other_title),
    ("anatomy", no_widget),
    ("one_setup_cell", other_setup),
    ("one_setup_cell", two_setups),
    ("one_setup_cell", badge_of_another),
    ("normal_form", other_minutes),
    ("normal_form", other_stars),
    ("normal_form", run_out_of_order),
    ("normal_form", kernel_metadata),
    ("normal_form", unfolded),
    ("normal_form", another_definition),
    ("result_cells", checked_without_output),
    ("result_cells", checked_unrounded),
    ("result_cells", nothing_checked),
    ("pictures_have_words", plain_png),
    ("pictures_have_words", empty_alt),
    ("nothing_typed_in", typed_in),
    ("short_cells", long_line),
    ("short_cells", long_cell),
    ("short_cells", long_folded_cell),
    ("folds_are_introduced", drawing_without_a_sentence),
    ("folds_are_introduced", folded_words),
    ("folds_are_introduced", folded_twice),
    ("folds_are_introduced", check_not_compared),
    ("folds_are_introduced", folded_exercise),
    ("links_resolve", dead_link),
    ("neighbours_are_linked", unlinked),
    ("neighbours_are_linked", linked_elsewhere),
    ("neighbours_are_linked", unlinked_in_a_list),
    ("neighbours_are_linked", linked_too_late),
    ("prerequisites_are_linked", needed_and_not_linked),
    ("prerequisites_are_linked", linked_and_not_needed),
    ("headings_nest", heading_jump),
    ("headings_nest", second_title),
    ("exercises_match_the_bank", exercise_without_check),
    ("exercises_match_the_bank", other_stars),
    ("exercises_match_the_bank", no_quiz),
    ("glossary_is_rendered", no_glossary),
    ("glossary_is_rendered", english_glossary),
    ("clean_outputs", says("saved in /home/me/lesson")),
    ("clean_outputs", says("UserWarning: beware")),
    ("clean_outputs", says("<object at 0x7f3a2b1c9d00>")),
    ("clean_outputs", says("12%|█▏ | 3/20 [00:01, 2.9it/s]")),
    ("clean_outputs", says("hello", name="stderr")),
    ("clean_outputs", raised),
    ("small", huge),
]


@pytest.mark.parametrize(
    ("name", "spoil"), BROKEN, ids=[f"{n}-{getattr(s, '__name__', '')}" for n, s in BROKEN]
)
def test_a_broken_lesson_is_seen(name, spoil):
    rule = next(rule for rule in RULES if rule.__name__ == name)
    lesson = read(MODEL)
    spoil(lesson)
    assert rule(lesson, MODEL.name), f"{name} did not see {spoil.__name__}"


def test_every_rule_has_a_broken_copy():
    assert {name for name, _ in BROKEN} == {rule.__name__ for rule in RULES}


# --- Words, minutes, repeatability ----------------------------------------------------------------


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_the_prose_is_spelled_right(path, tmp_path):
    assert misspelled(prose(read(path)), tmp_path) == ""


def test_a_spelling_mistake_would_be_seen(tmp_path):
    assert "gradient" in misspelled("The gradiant is wrong.", tmp_path)


def misspelled(text, folder):
    page = folder / "prose.txt"
    page.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", str(page)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_the_table_has_every_lesson_in_order():
    assert [entry.file for entry in TABLE] == [path.name for path in LESSONS]
    assert [entry.number for entry in TABLE] == list(range(len(TABLE)))
    for entry in TABLE:
        assert entry.file.startswith(f"{entry.number:02d}_")
        assert 20 <= entry.minutes <= 180
        earlier = [*entry.needs, *entry.helps]
        assert len(set(earlier)) == len(earlier)
        assert all(number < entry.number for number in earlier)


def test_readme_has_the_table_of_lessons():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert notebooks.fill_readme(text) == text
    assert text.count(lessons.table()) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("| 60 |", "| 61 |"),
        lambda text: text.replace("[The sign function]", "[The sign]"),
        lambda text: text.replace(notebooks.BEGIN, f"{notebooks.BEGIN}\nanother line"),
    ],
)
def test_another_table_in_readme_is_filled_in(spoil):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert spoil(text) != text
    assert notebooks.fill_readme(spoil(text)) == text
    for broken in (text.replace(notebooks.BEGIN, ""), text * 2):
        with pytest.raises(ValueError, match="places for the table of lessons"):
            notebooks.fill_readme(broken)


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A checkout in which minutes, stars, a title and the table of README are wrong."""
    lesson = read(MODEL)
    for spoil in (other_minutes, other_stars, other_title):
        spoil(lesson)
    nbformat.write(lesson, tmp_path / MODEL.name)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(text.replace("| 60 |", "| 61 |"), encoding="utf-8")
    monkeypatch.setattr(notebooks, "HERE", tmp_path)
    monkeypatch.setattr(notebooks, "README", tmp_path / "README.md")
    monkeypatch.setattr(notebooks, "run", lambda notebook: pytest.fail("a cell was run"))
    return tmp_path


def test_check_sees_what_is_not_filled_in_and_changes_nothing(changed, capsys):
    before = {path.name: path.read_bytes() for path in changed.iterdir()}
    assert notebooks.main(["--check"]) == 1
    assert capsys.readouterr().out == f"{MODEL.name}: differs\nREADME.md: differs\n"
    assert {path.name: path.read_bytes() for path in changed.iterdir()} == before


def test_fill_writes_title_minutes_and_stars(changed):
    assert notebooks.main(["--fill"]) == 0
    for path in (MODEL, ROOT / "README.md"):
        assert (changed / path.name).read_bytes() == path.read_bytes()
    assert notebooks.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("tag", "output"), [("drawing", False), ("authors-check", True), (CHECKED, None)]
)
def test_a_tag_folds_a_cell_in_jupyterlab_and_in_colab(tag, output):
    notebook = new_notebook(cells=[fold(new_code_cell("draw()"), tag) for _ in range(2)])
    notebook.cells[1].source = "# @title Two lines\ndraw()"
    for _ in range(2):  # the second time changes nothing
        notebooks.fill(notebook, "own.ipynb")
        notebooks.normalise(notebook)
    nbformat.validate(notebook)
    filled, own = notebook.cells
    if output is None:
        assert filled.source == "draw()"
        assert filled.metadata == {"tags": [tag]}
        return
    assert filled.source == f"# @title {notebooks.FOLDS[tag].title}\ndraw()"
    assert own.source == "# @title Two lines\ndraw()", "a title of its own stays"
    assert filled.metadata["jupyter"].get("outputs_hidden", False) is output
    assert filled.metadata["jupyter"]["source_hidden"] is True
    assert filled.metadata["cellView"] == "form"
    assert filled.metadata.get("collapsed", False) is output
    filled.metadata["tags"] = []
    notebooks.normalise(notebook)
    assert filled.metadata == {"tags": []} or filled.metadata == {}, (
        "without its tag it is unfolded"
    )


def test_building_twice_changes_nothing(tmp_path):
    """Normal form is a fixed point, also for outputs with random ids and times in them."""
    lesson = read(MODEL)
    lesson.cells[3].id = "another-id"
    lesson.cells[3].metadata["execution"] = {"started": "now"}
    widget = {notebooks.WIDGET: {"model_id": "af31"}, "text/plain": "VBox()"}
    code(lesson)[-1].outputs = [new_output("display_data", widget)]
    pieces = [new_output("stream", name="stdout", text=text) for text in ("one", "\n", "two\n")]
    code(lesson)[0].outputs = [*pieces, new_output("stream", name="stderr", text="three\n")]
    notebooks.normalise(lesson)
    assert [output.text for output in code(lesson)[0].outputs] == ["one\ntwo\n", "three\n"]
    once = nbformat.writes(lesson)
    notebooks.normalise(lesson)
    assert nbformat.writes(lesson) == once
    assert "af31" not in once
    assert "started" not in once


def small_lesson(path, *sources):
    """Write a notebook of these code cells."""
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return path


def test_executing_twice_gives_the_same_file(tmp_path):
    """Real runs in two kernels: a figure, a widget, an object's address, two streams."""
    path = small_lesson(
        tmp_path / "00_small.ipynb",
        "from advlearn import plotting\nfrom advlearn.course.widgets import explore\nimport torch\n"
        "def picture(k):\n    return plotting.digits(torch.eye(4).reshape(1, 1, 4, 4) / k)",
        "plotting.show(picture(1), 'A line.')",
        "explore(picture, k=[1, 2])",
        "import time\nfor k in range(3):\n    print(k, flush=True)\n    time.sleep(0.3)",
    )
    files = []
    for _ in range(2):
        notebook = notebooks.execute(path)
        files.append(nbformat.writes(notebook))
        path.write_text(files[-1], encoding="utf-8")
    assert files[0] == files[1]
    printed = nbformat.reads(files[0], as_version=4).cells[-1].outputs
    assert [output.text for output in printed] == ["0\n1\n2\n"], "pieces of a stream are joined"
    assert "data:image/png" in files[0]
    assert "interactive picture" in files[0]


def test_measuring_finds_the_memory_that_a_lesson_takes(tmp_path):
    lean = notebooks.measure(small_lesson(tmp_path / "00_lean.ipynb", "a = 1"))
    fat = notebooks.measure(
        small_lesson(tmp_path / "00_fat.ipynb", "a = bytearray(400_000_000)", "del a")
    )
    assert 0.35 < fat.gigabytes - lean.gigabytes < 0.45
    assert lean.seconds > 0
    assert lean.processor_seconds > 0
    assert lean.allowed
    assert "a = 1" in (tmp_path / "00_lean.ipynb").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("cost", "status"), [((59, 59, 1.4), 0), ((61, 59, 1.4), 1), ((59, 59, 1.6), 1)]
)
def test_a_lesson_that_costs_too_much_is_refused(cost, status, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "measure", lambda path: notebooks.Cost(*cost))
    assert notebooks.main(["--measure", "03"]) == status
    assert "| 03_fgsm_linear_models | " in capsys.readouterr().out


def test_a_flipped_sign_in_the_library_fails_a_checked_cell(tmp_path):
    """The lessons' checked outputs guard the library: break it, and nbval must object."""
    shutil.copytree(ROOT / "advlearn", tmp_path / "advlearn")
    attacks = tmp_path / "advlearn" / "attacks.py"
    right = "-eps if targeted else eps"
    assert right in attacks.read_text(encoding="utf-8")
    attacks.write_text(
        attacks.read_text(encoding="utf-8").replace(right, "eps if targeted else -eps"),
        encoding="utf-8",
    )
    shutil.copy(MODEL, tmp_path)
    done = subprocess.run(
        # The first cell that fails is enough.
        [
            sys.executable,
            "-m",
            "pytest",
            "--nbval-lax",
            "-qx",
            "-p",
            "no:cacheprovider",
            MODEL.name,
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-2000:]
    assert "passed" in done.stdout, "the other cells must run"
    assert "mismatch 'stdout'" in done.stdout, done.stdout[-2000:]
    assert "t digits: False" in done.stdout, done.stdout[-2000:]


# --- Notebooks that are damaged -------------------------------------------------------------------


def changed_notebook(**parts):
    return json.dumps(json.loads(MODEL.read_text(encoding="utf-8")) | parts).encode()


DAMAGED = {
    "empty": lambda: b"",
    "cut": lambda: MODEL.read_bytes()[:-100],
    "not Unicode": lambda: b"\xff" + MODEL.read_bytes(),
    "a list": lambda: b"[]",
    "deep": lambda: b'{"cells": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep, within what JSON reads": lambda: b'{"cells": ' + b"[" * 900 + b"]" * 900 + b"}",
    "no cells": lambda: b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    "cells that are texts": lambda: changed_notebook(cells=["a"]),
    "90 kB of nonsense": lambda: changed_notebook(metadata="\x1b[2J" * 15_000),
    "version 99": lambda: changed_notebook(nbformat=99),
    "a version that is a text": lambda: changed_notebook(nbformat="4"),
    "too large": lambda: changed_notebook(metadata={"a": "x" * 5_000_000}),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_notebook_is_refused_in_words(tmp_path, monkeypatch, capsys, kind):
    content = DAMAGED[kind]()
    (tmp_path / "03_it.ipynb").write_bytes(content)
    monkeypatch.setattr(notebooks, "HERE", tmp_path)
    assert notebooks.main(["--fill"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"'.*03_it\.ipynb' is damaged, or is no notebook \(.+\)\.\n", said), said
    assert len(said) < 700
    assert said.strip().isprintable()
    assert (tmp_path / "03_it.ipynb").read_bytes() == content


def test_the_page_folds_what_a_check_of_the_authors_prints():
    """JupyterLab unfolds it at each run; the script in the page knows such a cell by its title."""
    page = Path(notebooks.__file__).with_name("page.html").read_text(encoding="utf-8")
    assert f'"# @title {notebooks.FOLDS["authors-check"].title}"' in page
