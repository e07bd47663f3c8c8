"""Every topic of the paper has a section that teaches it, with code that was run."""

from __future__ import annotations

import copy
import re
from typing import NamedTuple

import nbformat
import pytest
from nbformat import NotebookNode

from advlearn.exercises import all_exercises
from tests.lesson_rules import LESSONS, headings, read


class Topic(NamedTuple):
    """Where a topic is taught."""

    name: str
    lesson: str  # "03"
    section: str  # the heading, without its number


TOPICS = (
    Topic("sign", "01", "The sign of a number"),
    Topic("softplus", "02", "Softplus, without overflow"),
    Topic("maxout", "02", "Maxout: a unit made of straight lines"),
    Topic("saturation", "02", "Steep and flat: where do trained units work?"),
    Topic("shallow", "03", "Ten classes: softmax regression"),
    Topic("eps-ball", "03", "The best step in a box"),
    Topic("8 bits", "00", "Too small for the eye, too small for the file, not for the model"),
    Topic("growth of the step along sign(w)", "01", "Many small changes add up"),
    Topic("linearity of ReLU, maxout and sigmoid", "02", "How linear is a network?"),
    Topic("linearity of the LSTM, and its gates", "02", "The gates of an LSTM"),
    Topic("FGSM in five lines, run by the learner", "00", "An attack in five lines"),
    Topic("targeted attack on photographs", "00", "More steps, and you choose the answer"),
    Topic("FGSM", "05", "One step on a deep network"),
    Topic("adversarial loss of a linear model", "03", "The damage in closed form"),
    Topic("L1 comparison", "04", "The same sum in two places"),
    Topic("alpha mix", "06", "Train on the attack"),
    Topic("alpha mix, measured with PGD", "06", "Watch it happen"),
    Topic("targeted attacks", "05", "Choose the answer: targeted attacks"),
    Topic("three-model table", "05", "Photographs, and a table of three models"),
    Topic("MNIST pictures", "05", "Error and confidence as eps grows"),
    Topic("filters", "06", "The filters"),
    Topic("logits from -15 to 15", "07", "A walk away from one digit"),
    Topic("adversarial against normal", "08", "A detector of attacks"),
    Topic("ensemble of twelve", "08", "Twelve networks together"),
    Topic("locally stable models", "08", "Locally stable models"),
    Topic("bounds through a layer", "11", "One layer, with a pencil"),
    Topic("both ends of the worst-case error", "11", "Both ends for four models"),
    Topic(
        "why no proof of an ordinary network", "11", "Why an ordinary network cannot be certified"
    ),
    Topic("training on the bound", "11", "Training on the bound"),
    Topic("limits of a proof", "11", "What a proof does not say"),
)


def heading_of(line: str) -> tuple[int, str] | None:
    """Return the depth and the text of a heading, without its number; None for other lines."""
    heading = re.match(r"(#+) (?:\d+ )?(.+?)\s*$", line)
    return (len(heading[1]), heading[2]) if heading else None


def section(notebook: NotebookNode, title: str) -> list[NotebookNode]:
    """Return the cells of a section, down to the next heading of its level.

    A cell of text may hold the end of one section and the beginning of the next; of such a cell
    only what belongs to the section is kept.
    """
    cells: list[NotebookNode] = []
    depth = 0  # of the section's heading; 0 outside
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cells += [cell] if depth else []
            continue
        kept = []
        for line in cell.source.splitlines():
            heading = heading_of(line)
            if heading and depth and heading[0] <= depth:
                depth = 0
            if heading and heading[1] == title:
                depth = heading[0]
                continue
            if depth:
                kept.append(line)
        if "".join(kept).strip():
            cells.append(nbformat.from_dict({**cell, "source": "\n".join(kept)}))
    return cells


def missing(notebook: NotebookNode, title: str) -> list[str]:
    """Return what a section lacks: its heading, text, code, a run from top to bottom, a result."""
    titles = [heading_of(f"{'#' * depth} {text}")[1] for depth, text in headings(notebook)]
    if titles.count(title) != 1:
        return [f"{titles.count(title)} sections are called {title!r}"]
    cells = section(notebook, title)
    ran = [cell for cell in cells if cell.cell_type == "code"]
    problems = [] if any(cell.cell_type == "markdown" for cell in cells) else ["no text"]
    problems += [] if ran else ["no code"]
    problems += [f"not run: {c.source[:40]!r}" for c in ran if not c.execution_count]
    return problems if any(cell.outputs for cell in ran) else [*problems, "no result"]


def lesson(number: str) -> NotebookNode:
    return read(next(path for path in LESSONS if path.name.startswith(number)))


every_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)


@every_topic
def test_the_topic_is_taught_and_its_code_was_run(topic):
    assert missing(lesson(topic.lesson), topic.section) == []


def emptied(notebook: NotebookNode, title: str) -> NotebookNode:
    """Return a copy in which the section has its heading and nothing more."""
    copied = copy.deepcopy(notebook)
    depth, cells = 0, []
    for cell in copied.cells:
        if cell.cell_type == "code":
            cells += [] if depth else [cell]
            continue
        kept = []
        for line in cell.source.splitlines():
            heading = heading_of(line)
            if heading and depth and heading[0] <= depth:
                depth = 0
            if not depth:
                kept.append(line)
            if heading and heading[1] == title:
                depth = heading[0]
        cell.source = "\n".join(kept)
        cells.append(cell)
    copied.cells = cells
    return copied


@every_topic
def test_an_emptied_section_is_seen(topic, tmp_path):
    """The planted failure, written to a file and read again as a lesson is."""
    path = tmp_path / "emptied.ipynb"
    nbformat.write(emptied(lesson(topic.lesson), topic.section), path)
    assert missing(read(path), topic.section) == ["no text", "no code", "no result"]


@every_topic
def test_a_section_that_was_not_run_is_seen(topic):
    notebook = lesson(topic.lesson)
    for cell in section(notebook, topic.section):
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []
    problems = missing(notebook, topic.section)
    assert problems[-1] == "no result"
    assert problems[0].startswith("not run")


def test_a_section_under_another_name_is_seen():
    notebook = lesson(TOPICS[0].lesson)
    for cell in notebook.cells:
        cell.source = cell.source.replace(TOPICS[0].section, "Something else")
    assert missing(notebook, TOPICS[0].section) == [f"0 sections are called {TOPICS[0].section!r}"]


def test_every_lesson_has_exercises():
    assert {one.lesson for one in all_exercises()} == {path.name[:2] for path in LESSONS}
