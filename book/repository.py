"""What the book reads of the repository: its address, its lessons, parts of its texts."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat

from advlearn.course import notebooks

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
FOLDER = ROOT / "build" / "book"


ADDRESS: str = notebooks.ADDRESS
# path of a notebook, from the root of the repository -> the address that opens it
colab: Callable[[str], str] = notebooks.colab_address
binder: Callable[[str], str] = notebooks.binder_address


def section(text: str, heading: str) -> str:
    """Return what stands under a Markdown heading, up to the next one of its depth or above.

    Raises:
        KeyError: the text has no such heading.
    """
    lines, kept, depth = text.splitlines(), [], 0
    fenced = False
    for line in lines:
        fenced ^= line.startswith("```")
        found = None if fenced else re.match(r"(#+) (.*)", line)
        if depth and found and len(found[1]) <= depth:
            break
        if depth:
            kept.append(line)
        if not depth and found and found[2].strip() == heading:
            depth = len(found[1])
    if not depth:
        raise KeyError(f"there is no heading {heading!r}: has it a new name?")
    return "\n".join(kept).strip()


class Lesson(NamedTuple):
    """What a lesson says of itself in its first cells."""

    number: int
    name: str  # of the file, without its ending
    title: str
    minutes: int
    introduction: str  # the first paragraph after the minutes, Markdown, links from the root
    goals: tuple[str, ...]  # Markdown, links from the root
    start: str  # the first paragraph of "Before you start", Markdown

    @property
    def path(self) -> str:
        """The notebook, from the root of the repository."""
        return f"notebooks/{self.name}.ipynb"

    def mentions(self) -> dict[int, bool]:
        """Return the lessons named in "Before you start": number -> whether it is needed.

        A sentence that begins with "You need" names what is needed; any other what helps.
        """
        found: dict[int, bool] = {}
        for sentence in re.split(r"(?<=[.:]) ", self.start.replace("\n", " ")):
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", sentence)
            plain = re.sub(r"\((?!lesson)[^)]*\)", "", plain)
            for run in re.findall(r"[Ll]essons? (\d+(?:\s*(?:,|and)\s*\d+)*)", plain):
                for number in map(int, re.findall(r"\d+", run)):
                    if number < self.number:
                        found[number] = found.get(number, False) or "You need" in sentence
        return found


def lesson(path: Path) -> Lesson:
    """Read the first cells of a lesson.

    Raises:
        ValueError: one of them is not as the rules for lessons want it.
    """
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells[:6] if cell.cell_type == "markdown")
    head = re.match(r"# (\d+) · (.+)", text)
    minutes = re.search(r"\*\*About (\d+) minutes\*\*[^\n]*(?:\n[^\n]+)*\n\n(.+?)\n\n", text, re.S)
    if head is None or minutes is None:
        raise ValueError(f"{path.name}: the first cell must give the title and the minutes")
    goals = re.findall(
        r"^- (.+?)$(?=\n- |\n*\Z)", section(text, "What you will be able to do"), re.M | re.S
    )
    return Lesson(
        number=int(head[1]),
        name=path.stem,
        title=head[2].strip(),
        minutes=int(minutes[1]),
        introduction=_from_the_root(minutes[2]),
        goals=tuple(map(_from_the_root, goals)),
        start=section(text, "Before you start").split("\n\n")[0],
    )


def _from_the_root(text: str) -> str:
    """Return words of a lesson in one line, for a page outside its folder: its links go there."""
    line = text.replace("\n", " ")
    return re.sub(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)", r"](notebooks/\1)", line)


def lessons() -> list[Lesson]:
    """Return every lesson, in the order of the course."""
    return [lesson(path) for path in LESSONS]


def coded(text: str) -> str:
    """Return plain text as HTML; words between back-quotes become code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
