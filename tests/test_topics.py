"""Every topic of the paper has a section that teaches it, with running code and its correction."""

from __future__ import annotations

import copy
import re
from typing import NamedTuple

import nbformat
import pytest
from nbformat import NotebookNode

from advlearn.exercises import all_exercises
from tests.lesson_rules import LESSONS, code, headings, read

BOX = "What summaries get wrong"


class Topic(NamedTuple):
    """Where a topic is taught, and what must stand there."""

    name: str
    lesson: str  # "03"
    section: str  # the heading, without its number
    prose: tuple[str, ...]  # regular expressions, case and line breaks do not matter
    code: tuple[str, ...]  # the same, in the cells that run
    corrected: tuple[str, ...] = ()  # what the box of the lesson must say, where summaries err


TOPICS = (
    Topic(
        "sign",
        "01",
        "The sign of a number",
        (r"which side of zero", r"\\operatorname\{sign\}\(v\)"),
        (r"sign\(torch\.tensor\(v\)\)",),
    ),
    Topic(
        "softplus",
        "02",
        "Softplus, without overflow",
        (r"log\(1 \+ e\^\{v\}\)", r"smooth ReLU"),
        (r"functional\.softplus",),
    ),
    Topic(
        "maxout",
        "02",
        "Maxout: a unit made of straight lines",
        (r"\\max_p", r"the largest one wins"),
        (r"\.amax\(dim=1\)",),
    ),
    Topic(
        "saturation",
        "02",
        "Steep and flat: where do trained units work?",
        (r"\*\*saturated\*\*", r"largest slope"),
        (r"saturated",),
    ),
    Topic(
        "shallow",
        "03",
        "Ten classes: softmax regression",
        (r"no hidden layer",),
        (r"SoftmaxRegression\(784, 10\)",),
        (r"shallow softmax has none",),
    ),
    Topic(
        "eps-ball",
        "03",
        "The best step in a box",
        (r"eps-ball", r"\\\|\\eta\\\|_\\infty", r"at most eps"),
        (r"corners",),
    ),
    Topic(
        "8 bits",
        "00",
        "Too small for the eye, too small for the file, not for the model",
        (r"8 bits", r"1/255", r"rounded away", r"adds up many"),
        (r"mul\(255\)\.round\(\)",),
        (r"it is the reverse", r"8-bit picture \*can\* discard"),
    ),
    Topic(
        "growth of the step along sign(w)",
        "01",
        "Many small changes add up",
        (r"grows with\*\* \$n\$", r"\\sqrt\{?n"),
        (r"eps \* sign\(w\)", r"1_000_000"),
    ),
    Topic(
        "linearity of LSTM, ReLU, maxout and sigmoid: the gates",
        "02",
        "The gates of an LSTM",
        (r"\*\*LSTM\*\*", r"gates?\*\*"),
        (r"nn\.LSTM",),
    ),
    Topic(
        "linearity of LSTM, ReLU, maxout and sigmoid: the measure",
        "02",
        "How linear is a network?",
        (r"R\^2",),
        (r'"softmax", "maxout", "ReLU", "sigmoid", "LSTM"', r"straightness\("),
    ),
    Topic(
        "FGSM",
        "05",
        "One step on a deep network",
        (r"\\tilde\{x\} = x \+ \\epsilon \\cdot \\operatorname\{sign\}", r"PGD"),
        (r"fgsm\(", r"attack=pgd"),
        (r"lower bound", r"PGD finds more"),
    ),
    Topic(
        "adversarial loss of a linear model",
        "03",
        "The damage in closed form",
        (r"\\zeta\\left\(\\epsilon \\\|w\\\|_1 - y", r"both\*\* values of `y`"),
        (r"adversarial_logistic_loss\(",),
        (r"softplus\(eps‖w‖₁ − y\(w'x \+ b\)\)", r"y = \+1\$ only"),
    ),
    Topic(
        "L1 comparison",
        "04",
        "The same sum in two places",
        (r"L1 penalty", r"\\lambda\\,\\\|w\\\|_1", r"worst loss is a formula"),
        (r"margins\(",),
        (r"\*\*inside\*\* the softplus", r"fades", r"never fades, so it \*overestimates\*"),
    ),
    Topic(
        "alpha mix",
        "06",
        "Train on the attack",
        (r"\\alpha\\, J\(x\) \+ \(1 - \\alpha\)", r"\\alpha = 0\.5", r"made anew at every step"),
        (r"ex\.mixed_loss\.check",),
        (r"Under PGD with the same eps our network falls", r"made anew at every step"),
    ),
    Topic(
        "alpha mix, measured with PGD",
        "06",
        "Watch it happen",
        (r"\*\*PGD\*\* error", r"lower bound"),
        (r"adversarial_fit\(",),
    ),
    Topic(
        "three-model table",
        "05",
        "Photographs, and a table of three models",
        (r"whitened", r"CIFAR-10", r"\*these\* units"),
        (r"FGSM error", r"confidence on mistakes", r"error under PGD"),
        (r"contrast normalisation and whitening", r"The paper's shallow softmax has none"),
    ),
    Topic(
        "MNIST pictures",
        "05",
        "Error and confidence as eps grows",
        (r"no trouble in reading",),
        (r"plotting\.digits\(", r"fgsm\(maxout"),
    ),
    Topic(
        "filters",
        "06",
        "The filters",
        (r"localised and interpretable", r"effective pixels"),
        (r"plotting\.signed\(", r"filters\(net\["),
        (r"localised", r"Some are"),
    ),
    Topic(
        "logits from -15 to 15",
        "07",
        "A walk away from one digit",
        (r"-15 \\text\{ to \} 15", r"piecewise linear"),
        (r"logits_along\(",),
        (r"one image, one direction, one model", r"measured by transfer .* and by agreement"),
    ),
    Topic(
        "adversarial against normal",
        "08",
        "A detector of attacks",
        (r"trains no such model", r"generative\* model", r"adaptive"),
        (r"train_detector\(", r"knowing_loss"),
        (r"generative classifier of digits", r"No detector is trained there"),
    ),
    Topic(
        "ensemble of twelve",
        "08",
        "Twelve networks together",
        (r"twelve maxout networks", r"Attack the whole", r"91\.1 %"),
        (r"ensemble\.members\[0\]", r'"ensemble, whole attacked"'),
        (r"attack on \*\*one member\*\*", r"91\.1 %"),
    ),
    Topic(
        "locally stable models",
        "08",
        "Locally stable models",
        (r"\*\*locally stable\*\*", r"worst case"),
        (r"radius\(", r"maxout-masked"),
    ),
)


def heading_of(line: str) -> tuple[int, str] | None:
    """Return the depth and the text of a heading, without its number; None for other lines."""
    found = re.match(r"(#+) (?:\d+ )?(.+?)\s*$", line)
    return (len(found[1]), found[2]) if found else None


def section(notebook: NotebookNode, title: str) -> list[tuple[str, str]]:
    """Return the parts of a section, down to the next heading of its level: (cell type, source).

    A cell may hold the end of one section and the beginning of the next.
    """
    parts: list[tuple[str, str]] = []
    depth = 0  # of the heading that was found; 0 outside
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if depth:
                parts.append(("code", cell.source))
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
        parts += [("prose", "\n".join(kept))] if kept else []
    return parts


def missing(notebook: NotebookNode, topic: Topic) -> list[str]:
    """Return what a lesson lacks of a topic; an empty list if all is there."""
    titles = [heading_of(f"{'#' * depth} {text}")[1] for depth, text in headings(notebook)]
    if titles.count(topic.section) != 1:
        return [f"{titles.count(topic.section)} sections are called {topic.section!r}"]
    found = section(notebook, topic.section)
    problems = []
    for kind, wanted in (("prose", topic.prose), ("code", topic.code)):
        text = " ".join(" ".join(s for k, s in found if k == kind).split())
        problems += [f"{kind} lacks {w}" for w in wanted if not re.search(w, text, re.I)]
    box = " ".join(" ".join(s for _, s in section(notebook, BOX)).split())
    return problems + [f"the box lacks {w}" for w in topic.corrected if not re.search(w, box, re.I)]


def lesson(number: str) -> NotebookNode:
    return read(next(path for path in LESSONS if path.name.startswith(number)))


every_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)


@every_topic
def test_the_topic_is_taught(topic):
    assert missing(lesson(topic.lesson), topic) == []


@every_topic
def test_the_section_was_run(topic):
    """The code of a section is not only shown: its cells have been executed."""
    found = {source for kind, source in section(lesson(topic.lesson), topic.section)}
    ran = [cell for cell in code(lesson(topic.lesson)) if cell.source in found]
    assert ran
    assert all(cell.execution_count for cell in ran)
    assert any(cell.outputs for cell in ran)


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
    told = missing(read(path), topic)
    assert len(told) >= len(topic.prose) + len(topic.code), told


@pytest.mark.parametrize("topic", [t for t in TOPICS if t.corrected], ids=lambda topic: topic.name)
def test_a_lost_correction_is_seen(topic):
    told = missing(emptied(lesson(topic.lesson), BOX), topic)
    assert [line for line in told if "the box" in line], told


def test_a_section_under_another_name_is_seen():
    notebook = lesson(TOPICS[0].lesson)
    for cell in notebook.cells:
        cell.source = cell.source.replace(TOPICS[0].section, "Something else")
    assert missing(notebook, TOPICS[0])


def test_there_are_at_least_45_exercises_spread_over_all_lessons():
    exercises = all_exercises()
    assert len(exercises) >= 45
    assert {exercise.lesson for exercise in exercises} == {path.name[:2] for path in LESSONS}
