"""The interactive picture of lesson 5 says one and the same thing at every position."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from matplotlib.figure import Figure

from advlearn.plotting import alt_text
from tests.lesson_rules import LESSONS, code, read, tags

LESSON = next(path for path in LESSONS if path.name.startswith("05"))
DIGITS = [str(k) for k in range(10)]
SIZES = [k / 100 for k in range(0, 31, 2)]


def names_at_the_picture(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """Run a lesson up to its interactive picture, and return the names that exist then."""
    names: dict[str, Any] = {}
    for cell in code(notebook):
        if "widget" in tags(cell):
            return names
        if "authors-check" not in tags(cell):
            exec(compile(cell.source, LESSON.name, "exec"), names)
    raise AssertionError("the lesson has no interactive picture")


@pytest.fixture(scope="module")
def names():
    threads = torch.get_num_threads()
    with contextlib.redirect_stdout(io.StringIO()):
        yield names_at_the_picture(read(LESSON))
    torch.set_num_threads(threads)


def by_the_curves(figure: Figure, eps: float) -> tuple[str, float]:
    """Return the class whose curve is highest at eps, and its probability."""
    curves = [line for line in figure.axes[1].lines if line.get_label() in DIGITS]
    place = list(curves[0].get_xdata()).index(eps)
    logits = torch.tensor([line.get_ydata()[place] for line in curves])
    probability, winner = logits.softmax(0).max(0)
    return str(curves[int(winner)].get_label()), float(probability)


def disagreement(figure: Figure, eps: float) -> str:
    """Say where the words, the image and the curves of a picture differ, or return ""."""
    answer, confidence = by_the_curves(figure, eps)
    words = alt_text(figure)
    said, percent = re.search(r"FGSM, “(\d)” (\d+) %", words).groups()
    plt.close(figure)
    if said != answer or abs(int(percent) - 100 * confidence) > 0.51:  # percent is rounded
        return f"the image is called {said} with {percent} %, the curves {answer}, {confidence}"
    if list(figure.axes[1].lines[-1].get_xdata()) != [eps, eps]:
        return "the vertical line is elsewhere"
    right = words.endswith(f"At the chosen eps {eps:g} the highest is {answer}.")
    return "" if right else f"the alt text is of another picture: {words}"


@pytest.mark.parametrize("digit", DIGITS)
def test_the_image_and_the_curves_of_lesson_5_agree(names, digit):
    found = {eps: disagreement(names["eps_picture"](digit=digit, eps=eps), eps) for eps in SIZES}
    assert not any(found.values()), found


def test_curves_of_other_images_are_seen(names):
    """What the picture once did: clipped images, and curves that are not clipped."""
    unclipped = functools.partial(names["fgsm"], bounds=None)

    def logits(images: torch.Tensor) -> torch.Tensor:
        if len(images) != len(names["walk_eps"]):
            return names["maxout"](images)
        four = names["x"][4:5]
        walk = [unclipped(names["maxout"], four, names["y"][4:5], e) for e in names["walk_eps"]]
        return names["maxout"](torch.cat(walk))

    (source,) = (c.source for c in code(read(LESSON)) if "def eps_picture" in c.source)
    changed = source.replace("maxout(walk)", "other(walk)")
    assert changed != source
    scope = names | {"other": logits}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(changed, scope)
    assert any(disagreement(scope["eps_picture"](digit="4", eps=eps), eps) for eps in SIZES)


def test_these_are_all_positions():
    (cell,) = (cell for cell in code(read(LESSON)) if "widget" in tags(cell))
    asked: dict[str, Any] = {}
    exec(
        cell.source, {"eps_picture": None, "explore": lambda picture, **stops: asked.update(stops)}
    )
    assert sorted(asked["digit"]) == DIGITS
    assert asked["eps"] == SIZES
