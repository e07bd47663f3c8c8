"""What the book reads of the repository: its address, its lessons, parts of its texts."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import NamedTuple

import nbformat

from advlearn.course import lessons, notebooks
from advlearn.course.lessons import Lesson
from advlearn.data.folders import CHECKOUT

ROOT = CHECKOUT
LESSONS = [ROOT / lesson.path for lesson in lessons.LESSONS]
BESIDE = sorted(set((ROOT / "notebooks").glob("*.ipynb")) - set(LESSONS))
FOLDER = ROOT / "build" / "book"

ADDRESS: str = notebooks.ADDRESS
# path of a notebook, from the root of the repository -> the address that opens it
colab: Callable[[str], str] = notebooks.colab_address
binder: Callable[[str], str] = notebooks.binder_address


def section(text: str, title: str) -> str:
    """Return what stands under a Markdown heading, up to the next one of its depth or above.

    Raises:
        KeyError: the text has no such heading.
    """
    lines, kept, depth = text.splitlines(), [], 0
    fenced = False
    for line in lines:
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"(#+) (.*)", line)
        if depth and heading and len(heading[1]) <= depth:
            break
        if depth:
            kept.append(line)
        if not depth and heading and heading[2].strip() == title:
            depth = len(heading[1])
    if not depth:
        raise KeyError(f"there is no heading {title!r}: has it a new name?")
    return "\n".join(kept).strip()


class Opening(NamedTuple):
    """What a lesson says of itself in its first cells."""

    introduction: str  # its first paragraph, Markdown, links from the root
    goals: tuple[str, ...]  # Markdown, links from the root
    start: str  # the first paragraph of "Before you start", Markdown


def opening(lesson: Lesson) -> Opening:
    """Read the first cells of a lesson.

    Raises:
        ValueError: the first cell has no introduction.
        KeyError: there are no goals, or no "Before you start".
    """
    cells = nbformat.read(ROOT / lesson.path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells[:6] if cell.cell_type == "markdown")
    head = cells[0].source.split("\n\n")
    if len(head) < 4:
        raise ValueError(
            f"{lesson.file}: the first cell must hold title, badge, minutes and an introduction"
        )
    goals = re.findall(
        r"^- (.+?)$(?=\n- |\n*\Z)", section(text, "What you will be able to do"), re.M | re.S
    )
    return Opening(
        introduction=_from_the_root(head[3]),
        goals=tuple(map(_from_the_root, goals)),
        start=section(text, "Before you start").split("\n\n")[0],
    )


def _from_the_root(text: str) -> str:
    """Return a lesson's text in one line, for a page outside its folder: its links go there."""
    line = text.replace("\n", " ")
    return re.sub(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)", r"](notebooks/\1)", line)


def coded(text: str) -> str:
    """Return plain text as HTML; what stands between back-quotes become code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
