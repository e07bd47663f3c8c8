"""What the book is made from: no browser, no Sphinx."""

from __future__ import annotations

import importlib
import inspect
import json
import re

import api
import costs
import drawings
import frames
import lesson_page
import links
import live
import mend
import nbformat
import pytest
import repository
import source
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from advlearn.course.lessons import LESSONS as TABLE
from advlearn.course.lessons import Lesson
from advlearn.exercises import all_exercises
from tests.lesson_rules import LESSONS, bank


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What the functions write goes to a folder of the test."""
    monkeypatch.setattr(drawings, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(frames, "FOLDER", tmp_path)


every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@every_lesson
def test_a_page_has_every_hint_and_no_solution(path):
    exercises = bank(path.name).EXERCISES
    made = lesson_page.page(path, bank(path.name))
    text = "\n".join(cell.source for cell in made.cells)
    for exercise in exercises:
        for hint in exercise.hints:
            assert repository.coded(hint) in text
        body = exercise.source().split("\n", 1)[-1].strip()
        assert body not in text, f"the page shows the solution of {exercise.name}"
    assert text.count("<summary>Hint 1 of") == sum(bool(one.hints) for one in exercises)


@every_lesson
def test_a_page_has_files_for_pictures_and_something_for_what_moves(path):
    text = nbformat.writes(lesson_page.page(path, bank(path.name)))
    assert "base64," not in text
    assert lesson_page.PLACEHOLDER not in text
    assert text.count('loading=\\"lazy\\"') >= nbformat.writes(
        nbformat.read(path, as_version=4)
    ).count("base64,")
    assert "mybinder.org" in text
    assert text.count("Open in Colab") == 1


def test_a_page_folds_drawing_code_and_leaves_the_authors_checks_out(tmp_path):
    path = tmp_path / "own.ipynb"
    cells = [new_code_cell(source) for source in ("x = 1", "# @title A\ndraw()", "# @title B\n1")]
    for cell, tag in zip(cells[1:], ("drawing", "authors-check"), strict=True):
        cell.metadata["tags"] = [tag]
    nbformat.write(new_notebook(cells=cells), path)
    plain, drawing = lesson_page.page(path).cells
    assert "hide-input" not in plain.metadata.get("tags", [])
    assert drawing.source == "draw()", "the title of the fold is the book's"
    assert "hide-input" in drawing.metadata["tags"]
    assert drawing.metadata["mystnb"] == {"code_prompt_show": "Show the drawing code"}


def test_a_lesson_that_does_not_fit_its_bank_is_refused():
    with pytest.raises(ValueError, match="bank"):
        lesson_page.page(LESSONS[1], bank(LESSONS[2].name))


def test_a_moving_picture_without_its_tag_is_refused(tmp_path):
    notebook = nbformat.read(LESSONS[0], as_version=4)
    for cell in notebook.cells:
        cell.metadata["tags"] = [tag for tag in cell.metadata.get("tags", []) if tag != "widget"]
    nbformat.write(notebook, tmp_path / LESSONS[0].name)
    with pytest.raises(ValueError, match="needs the tag 'widget'"):
        lesson_page.page(tmp_path / LESSONS[0].name, bank(LESSONS[0].name))


def test_each_lesson_says_what_it_is_about():
    for lesson in TABLE:
        head = repository.opening(lesson)
        assert 3 <= len(head.goals) <= 6
        assert len(head.introduction) > 60
        for link in re.findall(r"\]\(([^)]+\.ipynb)", " ".join([head.introduction, *head.goals])):
            assert (repository.ROOT / link).is_file(), f"{link} does not lead from the map"


def test_a_first_cell_without_an_introduction_is_refused(monkeypatch, tmp_path):
    notebook = nbformat.read(LESSONS[3], as_version=4)
    notebook.cells[0].source = "\n\n".join(notebook.cells[0].source.split("\n\n")[:3])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / TABLE[3].path)
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="introduction"):
        repository.opening(TABLE[3])


def test_arrows_that_others_imply_are_left_out():
    def one(number, *needs, helps=()):
        return Lesson(number, "", f"title {number}", "", "", 1, needs, helps)

    course = [one(1), one(2, 1), one(3, 1, 2), one(4, helps=(1, 3))]
    assert drawings.reduced(course) == [(1, 2, True), (2, 3, True), (3, 4, False)]
    assert (
        'aria-label="Lesson 2 needs lesson 1. Lesson 3 needs lesson 2. '
        'Lesson 4 is easier after lesson 3."'
    ) in drawings.path_drawing(course)


def test_a_section_ends_at_the_next_heading_of_its_depth():
    text = "# A\n## B\nb\n### C\nc\n```\n# not a heading\n```\n## D\nd"
    assert repository.section(text, "B") == "b\n### C\nc\n```\n# not a heading\n```"
    with pytest.raises(KeyError, match="no heading 'E'"):
        repository.section(text, "E")


def test_texts_are_filled_completely():
    with pytest.raises(ValueError, match="wants"):
        source.fill("glossary", count=3)


def test_the_teachers_page_lists_every_exercise():
    page = source.teachers()
    assert all(f"`{one.name}`" in page for one in all_exercises())


def test_the_teachers_snippet_grades_the_exercise_that_it_names(capsys):
    page = source.teachers()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    one = {(each.lesson, each.name): each for each in all_exercises()}["03", "fgsm_step"]
    exec(code, {"a_learners_function": one.reference})
    assert "1.0" in capsys.readouterr().out
    exec(code, {"a_learners_function": lambda *args: args[0]})
    assert " 1.0 " not in capsys.readouterr().out


def test_a_link_to_what_is_not_in_the_book_leads_to_the_repository(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").write_text("[a](../LICENSE) [b](results/README.md) [c](#d)")
    monkeypatch.setattr(source, "ROOT", tmp_path)
    assert source.mirrored("data/README.md") == (
        f"[a]({repository.ADDRESS}/blob/main/LICENSE) [b](results/README.md) [c](#d)"
    )


# --- The reference --------------------------------------------------------------------------------


def test_every_public_module_of_the_library_has_a_page():
    names = {entry.name for entry in api.entries() if entry.part == "library"}
    files = {path.stem for path in (repository.ROOT / "advlearn").glob("[!_]*.py")}
    assert names == files - {"exercises"}
    assert {"exercises", "data", "arena", "cli"} <= {entry.name for entry in api.entries()}


def test_every_public_name_has_a_docstring():
    for entry in api.entries():
        assert entry.description, entry.name
        module = importlib.import_module(f"advlearn.{entry.name}")
        names = [] if entry.name == api.COMMAND_LINE else api.public_names(module)
        assert names or entry.name == api.COMMAND_LINE, entry.name
        for name in names:
            assert inspect.getdoc(getattr(module, name)), f"{entry.name}.{name}"


def test_the_page_of_a_module_names_what_it_offers():
    page = api.page("losses")
    assert ".. autofunction:: advlearn.losses.cross_entropy" in page
    assert "check_eps" not in page, "imported from elsewhere"
    assert ".. autoclass:: advlearn.data.Dataset" in api.page("data")


def test_the_page_of_the_command_line_has_every_command_and_option():
    page = api.command_page()
    assert "## advlearn doctor" in page
    assert "## advlearn reproduce" in page
    assert "| `--quick` | Small models on the offline digits, in minutes. |" in page


# --- Costs and frames -----------------------------------------------------------------------------


def test_the_costs_are_of_lessons_that_exist():
    recorded = costs.read()
    assert set(recorded["lessons"]) <= {path.stem for path in LESSONS}
    assert not recorded["lessons"] or recorded["machine"].keys() == costs.machine().keys()
    for cost in recorded["lessons"].values():
        assert cost.keys() == {"seconds", "processor_seconds", "gigabytes", "date"}


def test_a_lesson_without_costs_says_so():
    cost = {"seconds": 4.2, "processor_seconds": 5.1, "gigabytes": 0.5, "date": "2026-01-02"}
    table = costs.table({"lessons": {"00_a": cost}}, {"00_a": "A", "01_b": "B"})
    assert "| [00 · A](notebooks/00_a.ipynb) | 4 | 5 | 0.50 | 2026-01-02 |" in table
    assert "| [01 · B](notebooks/01_b.ipynb) | not measured yet |" in table


def test_frames_of_another_version_of_the_lesson_are_not_shown(monkeypatch):
    path = LESSONS[3]
    entry = {
        "fingerprint": frames.fingerprint(path),
        "controls": {"eps": ["0", "0.1"], "digit": ["3", "7"]},
        "fixed": {},
        "columns": 3,
        "width": 50,
        "height": 20,
        "said": ["a", "b", "c", "d <&>"],
    }
    monkeypatch.setattr(frames, "index", lambda: {path.stem: entry})
    monkeypatch.setattr(frames, "KEPT", frames.FOLDER)
    (frames.FOLDER / f"{path.stem}.webp").write_bytes(b"picture")
    shown = frames.slider(path.stem, 1)
    assert shown.count('type="range"') == 2
    assert 'alt="d &lt;&amp;&gt;"' in shown  # both sliders start in the middle: the last of four
    assert "left:0%;top:-100%" in shown
    entry["fingerprint"] = "another"
    assert frames.slider(path.stem, 1) == ""
    assert frames.missing()[path.stem] == "stale"


def test_frames_go_stale_with_the_lessons_code(tmp_path):
    notebook = nbformat.read(LESSONS[3], as_version=4)
    copy = tmp_path / LESSONS[3].name
    nbformat.write(notebook, copy)
    assert frames.fingerprint(copy) == frames.fingerprint(LESSONS[3])
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source += "\nx = 1"  # the set-up cell draws nothing
    nbformat.write(notebook, copy)
    assert frames.fingerprint(copy) == frames.fingerprint(LESSONS[3])
    code[1].source += "\nx = 1"
    nbformat.write(notebook, copy)
    assert frames.fingerprint(copy) != frames.fingerprint(LESSONS[3])


def test_what_is_recorded_fits_together():
    for name, entry in frames.index().items():
        count = 1
        for stops in entry["controls"].values():
            count *= len(stops)
        assert len(entry["said"]) == count <= frames.MOST
        assert (frames.KEPT / f"{name}.webp").stat().st_size <= frames.HEAVIEST
        assert all(entry["said"]), json.dumps(entry["said"])


def test_a_heavy_picture_loses_every_other_stop_of_its_longest_control():
    left, kept = frames.thinned({"eps": ["0", "1", "2"], "digit": ["a", "b"]})
    assert left == {"eps": ["0", "2"], "digit": ["a", "b"]}
    assert kept == [0, 1, 4, 5]  # of 0a 0b 1a 1b 2a 2b


# --- Links and repairs ----------------------------------------------------------------------------

PAGE = """<a href="b.html#there">1</a> <a href="b.html#gone">2</a> <a href="c.html">3</a>
<a href="https://elsewhere.example/x">4</a> <a href="http://elsewhere.example/x">5</a>
<img src="../out.png"><a href="#top" id="top">6</a>"""


def test_broken_links_are_found(tmp_path):
    root = tmp_path / "html"
    root.mkdir()
    (root / "a.html").write_text(PAGE)
    (root / "b.html").write_text('<p id="there">')
    checked = links.check(root)
    assert (checked.inside, checked.outside) == (5, 2)
    assert checked.broken == [
        "a.html: 'b.html#gone' names a place that is not there",
        "a.html: 'c.html' leads nowhere",
        "a.html: 'http://elsewhere.example/x' has a bad form",
        "a.html: '../out.png' leads out of the book",
    ]


def test_a_repair_without_a_fault_is_reported(tmp_path):
    (tmp_path / "a.html").write_text('<img src="a.png"><img loading="eager" src="b.png">')
    with pytest.raises(ValueError, match="nothing to mend any more"):
        mend.mend(tmp_path)
    assert (tmp_path / "a.html").read_text() == (
        '<img loading="lazy" src="a.png"><img loading="eager" src="b.png">'
    )


def test_every_way_to_the_playground_is_one_that_it_knows():
    states = [one.state for ways in live.LIVE.values() for one in ways]
    states += [state for _, state in live.IN_PLACE.values()]
    for state in states:
        assert "playground/index.html#n=" in live.paragraph("try", state, 1)
    assert set(live.LIVE) | set(live.IN_PLACE) <= {path.stem for path in LESSONS}
    with pytest.raises(ValueError, match="no network 'vgg'"):
        live.paragraph("try", {"network": "vgg"}, 1)


def test_a_way_to_the_playground_ends_its_section(monkeypatch):
    way = live.Live("Two", "words.", {"network": "maxout"})
    monkeypatch.setattr(live, "LIVE", {"own": (way,)})
    texts = ["## 1 One\n\nA.\n\n## 2 Two\n\nB.", "C.\n\n### Part\n\nD.\n\n## 3 Three\n\nE."]
    cells = [new_markdown_cell(text) for text in texts]
    live.add(cells, "own", 1)
    said = [cell.source for cell in cells]
    assert [text.split("\n")[0] for text in said] == ["## 1 One", "C.", said[2], "## 3 Three"]
    assert "Try it live" in said[2]
    with pytest.raises(ValueError, match="0 sections 'Two'"):
        live.add([new_markdown_cell("## 1 One")], "own", 1)
