"""What JupyterLab has executed is compared as nbval compares what it executes itself."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from copy import deepcopy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.lesson_rules import CHECKED, ROOT


def printed(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def lesson():
    """A tagged cell, one whose output may be another, an empty one, and a tagged last one."""
    tagged = {"tags": [CHECKED]}
    shown = new_output("display_data", {"text/plain": "a picture"})
    cells = [
        new_code_cell("1", metadata=tagged, execution_count=1, outputs=[printed("error 3 %\n")]),
        new_code_cell("2", execution_count=2, outputs=[printed("12 s\n"), shown]),
        new_code_cell(""),
        new_code_cell("3", metadata=tagged, execution_count=3, outputs=[printed("a\nb\n")]),
    ]
    return new_notebook(cells=cells)


def same(cells):
    pass


def in_two_parts(cells):
    cells[3].outputs = [printed("a\n"), printed("b\n")]


def other_where_none_is_compared(cells):
    cells[1].outputs = [printed("13 s\n")]


def other_result(cells):
    cells[0].outputs = [printed("error 4 %\n")]


def no_result(cells):
    cells[3].outputs = []


def one_output_more(cells):
    cells[0].outputs.append(new_output("display_data", {"text/plain": "a picture"}))


def raised(cells):
    cells[1].outputs.append(new_output("error", ename="ValueError", evalue="no", traceback=["no"]))


def not_executed(cells):
    cells[1].execution_count = None


def other_text(cells):
    cells[1].source = "2 + 2"


def fewer_cells(cells):
    del cells[3]


# What was done to the executed copy, and the cells that must fail.
COPIES = {
    same: [], in_two_parts: [], other_where_none_is_compared: [],
    other_result: [0], no_result: [3], one_output_more: [0], raised: [1], not_executed: [1],
    other_text: [1], fewer_cells: [3],
}  # fmt: skip


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """The failed cells of each copy, out of one run of pytest; all of one that is missing."""
    folder = tmp_path_factory.mktemp("lessons")
    (folder / "executed").mkdir()
    nbformat.write(lesson(), folder / "missing.ipynb")
    for change in COPIES:
        copy = deepcopy(lesson())
        nbformat.write(copy, folder / f"{change.__name__}.ipynb")
        change(copy.cells)
        nbformat.write(copy, folder / "executed" / f"{change.__name__}.ipynb")
    plugin = ["-p", "tests.executed", "--executed", str(folder / "executed")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, str(folder),
         f"--rootdir={folder}", "--ignore=executed", "--junitxml=report.xml"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    cells: dict[str, list[int]] = {}
    for case in ET.parse(folder / "report.xml").getroot().iter("testcase"):
        name = case.attrib["classname"].rpartition(".")[0] or case.attrib["classname"]
        bad = case.find("failure") is not None or case.find("error") is not None
        cells.setdefault(name, []).extend([int(case.attrib["name"].split()[1])] if bad else [])
    return cells


@pytest.mark.parametrize("change", COPIES, ids=lambda change: change.__name__)
def test_only_a_cell_that_differs_where_it_is_compared_fails(failed, change):
    assert failed[change.__name__] == COPIES[change]


def test_a_lesson_that_was_not_executed_fails(failed):
    assert failed["missing"] == [0, 1, 2, 3]
