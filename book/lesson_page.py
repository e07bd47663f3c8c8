"""A lesson as a page of the book: the committed notebook, outputs and all, never run again.

What a page has and the notebook has not comes from the same sources: hints from the exercise bank,
the buttons from the address in pyproject.toml, and, where the notebook holds an interactive
picture, its recorded frames or the way to the static picture beside it.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import ModuleType

import live
import nbformat
from drawings import unpack
from frames import slider
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output
from repository import binder, coded, colab

from advlearn.course import notebooks
from advlearn.course.widgets import PLACEHOLDER

_BADGE = re.compile(r"^\[!\[Open in Colab\].*$", re.M)
_TITLE = re.compile(rf"\A{notebooks.TITLE}.*\n")
DEPTH = 1  # lessons lie in the folder notebooks/


def buttons(path: str) -> str:
    """Return the links that open a notebook elsewhere, as HTML."""
    links = (
        (colab(path), "", "Open in Colab"),
        (binder(path), "", "Open in Binder"),
        (f"{'../' * DEPTH}_lessons/{Path(path).name}", ' download=""', "Download the notebook"),
    )
    made = (
        f'<a class="launch" href="{html.escape(where)}"{extra}>{label}</a>'
        for where, extra, label in links
    )
    return f'<p class="launch-row">{" ".join(made)}</p>'


def hints(exercise: object) -> str:
    """Return the hints of an exercise, each folded, as HTML."""
    texts: tuple[str, ...] = exercise.hints  # type: ignore[attr-defined]
    folded = "".join(
        f"<details><summary>Hint {number} of {len(texts)}</summary><p>{coded(text)}</p></details>"
        for number, text in enumerate(texts, start=1)
    )
    return f'<div class="hints">{folded}</div>' if texts else ""


def in_place_of_widget(path: str, name: str) -> str:
    """Return what stands in the book where the notebook has an interactive picture, as HTML."""
    where = (
        f'<a href="{html.escape(colab(path))}">Colab</a> or '
        f'<a href="{html.escape(binder(path))}">Binder</a>'
    )
    moving = slider(name, DEPTH)
    if moving:
        return f"{moving}<p>To change what it does, run the lesson, in {where}.</p>"
    return (
        '<p class="placeholder">Here the lesson has an interactive picture. The one above shows it '
        f"at one setting. To move it, open the lesson in {where}.</p>"
    )


def page(path: Path, bank: ModuleType | None = None) -> NotebookNode:
    """Return the notebook at `path`, made ready for the book.

    Args:
        path: a lesson, or a notebook beside the lessons.
        bank: the lesson's module of `advlearn.exercises`.

    Raises:
        ValueError: the lesson does not fit its bank, or has a picture to move that is not marked.
    """
    notebook = nbformat.read(path, as_version=4)
    notebooks.fill(notebook, path.name)
    inside = f"notebooks/{path.name}"
    by_name = {exercise.name: exercise for exercise in bank.EXERCISES} if bank else {}
    cells, hinted = [], []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "authors-check" in tags:
            continue
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = _BADGE.sub(lambda _: buttons(inside), cell.source)
            cell.source = cell.source.replace(
                f"{notebooks.SECOND_DAY}\n\n", ""
            )  # nothing runs here
            continue
        if "setup" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
        if "drawing" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
            cell.metadata["mystnb"] = {"code_prompt_show": "Show the drawing code"}
            cell.source = _TITLE.sub("", cell.source)
        if moving := {"widget", "playground"} & set(tags):
            shown = (
                in_place_of_widget(inside, path.stem)
                if "widget" in moving
                else live.in_place(path.stem, DEPTH)
            )
            cell.outputs = [new_output("display_data", {"text/html": shown})]
        for output in cell.outputs:
            data = output.get("data", {})
            if PLACEHOLDER in data.get("text/plain", ""):
                raise ValueError(
                    f"{path.name}: {cell.source[:60]!r} needs the tag 'widget', or 'playground'"
                )
            if "text/html" in data:
                data["text/html"] = unpack(data["text/html"], DEPTH)
        for name in re.findall(r"^ex\.(\w+)\.check\(", cell.source, re.M):
            if name not in by_name:
                raise ValueError(f"{path.name} checks {name!r}, which is not in its bank")
            hinted.append(name)
            cells.append(new_markdown_cell(hints(by_name[name])))
    if hinted != list(by_name):
        raise ValueError(f"{path.name} checks {hinted}, its bank has {list(by_name)}")
    live.add(cells, path.stem, DEPTH)
    notebook.cells = cells
    return notebook
