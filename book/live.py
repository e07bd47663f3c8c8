"""Where the lessons' pages lead to the playground: in the state that the text there speaks of."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from repository import FOLDER

from advlearn.playground import page
from advlearn.playground.states import link

PAGE, SMALL = "playground/index.html", "playground/small.html"  # in the book


class Live(NamedTuple):
    """A way to the playground."""

    heading: str  # the section at whose end it stands, without its number
    words: str
    state: Mapping[str, Any]


LIVE: Mapping[str, tuple[Live, ...]] = {
    "00_start_here": (
        Live(
            "Move eps yourself",
            "draw a digit of your own and attack it. Five questions lead you through.",
            {"network": "maxout", "attack": "none", "lesson": 1},
        ),
    ),
    "01_sign_function": (
        Live(
            "Many small changes add up",
            "the pixels of a digit, and a model that only adds.",
            {"network": "softmax", "attack": "fgsm", "eps": 0.1, "digit": 7},
        ),
    ),
    "02_softplus_and_maxout": (
        Live(
            "How linear is a network?",
            "the ten logits of a maxout network, far along one direction.",
            {"network": "maxout", "attack": "fgsm", "reach": 15, "digit": 4},
        ),
    ),
    "03_fgsm_linear_models": (
        Live(
            "Ten classes: softmax regression",
            "softmax regression on a digit that you draw.",
            {"network": "softmax", "attack": "fgsm", "eps": 0.25, "digit": 3},
        ),
    ),
    "05_fgsm_deep_networks": (
        Live(
            "One step on a deep network",
            "this network and this eps, on a digit that you draw.",
            {"network": "maxout", "attack": "fgsm", "eps": 0.25, "digit": 4},
        ),
        Live(
            "Choose the answer: targeted attacks",
            "choose the network's answer yourself.",
            {"network": "maxout", "attack": "targeted", "eps": 0.25, "target": 9, "digit": 4},
        ),
    ),
    "06_adversarial_training": (
        Live(
            "What did it really learn?",
            "the trained network beside the plain one.",
            {"network": "maxout-adversarial", "attack": "fgsm", "eps": 0.25, "digit": 0},
        ),
    ),
    "07_why_examples_transfer": (
        Live(
            "A walk away from one digit",
            "the walk of a maxout network, from your own digit.",
            {"network": "maxout", "attack": "fgsm", "clip": False, "reach": 15, "digit": 4},
        ),
    ),
    "09_honest_evaluation": (
        Live(
            "One step is not the worst step",
            "FGSM and PGD of one size, on a digit that you draw.",
            {"network": "maxout-adversarial", "attack": "fgsm", "eps": 0.25, "digit": 0},
        ),
        Live(
            "How hard to look: steps, step size, restarts",
            "move the steps of PGD from 1 up.",
            {"network": "maxout-adversarial", "attack": "pgd", "eps": 0.25, "steps": 1, "digit": 0},
        ),
    ),
    "10_capstone": (
        Live(
            "Build: a model that withstands",
            "try to break the network “robust” by hand.",
            {"network": "robust", "attack": "pgd", "eps": 0.3, "digit": 3},
        ),
    ),
    "11_what_can_be_proved": (
        Live(
            "Training on the bound",
            "the network “certified” under PGD, and a digit that you draw.",
            {"network": "certified", "attack": "pgd", "eps": 0.3, "digit": 3},
        ),
    ),
}

# What the book has where a lesson has the playground itself.
IN_PLACE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "05_fgsm_deep_networks": (
        "draw a digit of your own.",
        {"network": "maxout", "attack": "fgsm", "eps": 0.25, "digit": 4},
    ),
    "06_adversarial_training": (
        "draw a digit of your own, and change between “Maxout” and “Maxout, trained on FGSM”.",
        {"network": "maxout-adversarial", "attack": "fgsm", "eps": 0.25, "digit": 0},
    ),
    "09_honest_evaluation": (
        "draw a digit of your own. The network there was trained on FGSM as well.",
        {"network": "maxout-adversarial", "attack": "fgsm", "eps": 0.25, "digit": 0},
    ),
}


def paragraph(words: str, state: Mapping[str, Any], depth: int) -> str:
    """Return a link to the playground and what it is good for, as HTML.

    Raises:
        ValueError: the playground has no such state.
    """
    known = [network.name for network in page.NETWORKS]
    if state["network"] not in known:
        raise ValueError(f"the playground has no network {state['network']!r}, only {known}")
    address = html.escape(f"{'../' * depth}{PAGE}#{link(**state)}")
    return f'<p class="try-live"><a href="{address}">Try it live</a>: {html.escape(words)}</p>'


def in_place(name: str, depth: int) -> str:
    """Return what stands where the lesson's cell has the playground, as HTML.

    Raises:
        KeyError: nobody has said what stands there.
    """
    words, state = IN_PLACE[name]
    return paragraph(words, state, depth)


def add(cells: list[NotebookNode], name: str, depth: int) -> None:
    """Add the links to the cells of a lesson, each at the end of its section, in place.

    Raises:
        ValueError: the lesson has no such section, or two.
    """
    for live in LIVE.get(name, ()):
        title = re.compile(rf"^(#+) (?:\d+ )?{re.escape(live.heading)}$", re.MULTILINE)
        found = [
            (place, len(match[1]))
            for place, cell in enumerate(cells)
            if cell.cell_type == "markdown" and (match := title.search(cell.source))
        ]
        if len(found) != 1:
            raise ValueError(f"{name} has {len(found)} sections {live.heading!r}: see book/live.py")
        start, depth_of_title = found[0]
        next_title = re.compile(rf"^#{{1,{depth_of_title}}} ", re.MULTILINE)
        end = next(
            place
            for place in range(start + 1, len(cells))
            if cells[place].cell_type == "markdown" and next_title.search(cells[place].source)
        )
        text = cells[end].source
        cut = next_title.search(text).start()  # type: ignore[union-attr]
        shown = new_markdown_cell(paragraph(live.words, live.state, depth))
        if not cut:
            cells.insert(end, shown)
            continue
        # The section ends inside a cell.
        before, after = new_markdown_cell(text[:cut].rstrip()), new_markdown_cell(text[cut:])
        cells[end : end + 1] = [before, shown, after]


def write() -> None:
    """Write the playground, and the small one of the front page, into the book."""
    for name, content in ((PAGE, page.html()), (SMALL, page.small())):
        path = FOLDER / "extra" / Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
