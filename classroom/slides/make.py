"""Make the slides: `make slides`. Each deck becomes one HTML file that needs no network.

A deck is a notebook, and the .ipynb file is the source. It is kept executed, as the lessons are:
its pictures are drawn by the library. The metadata `slideshow` says what begins a slide, what is
for the speaker, and what is not shown. reveal.js, which turns the pages, is inside each file; it
lies in `template/reveal`, with its licence and its origin.

    python classroom/slides/make.py          write build/slides/NAME.html
    python classroom/slides/make.py --run    execute the decks again first, and keep them

With 03, only those whose name begins with 03.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import SlidesExporter
from nbformat import NotebookNode

from advlearn._atomic import write_atomically
from advlearn.course import notebooks

HERE = Path(__file__).resolve().parent
DECKS = sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
OUT = notebooks.HERE.parent / "build" / "slides"


def normalise(deck: NotebookNode) -> None:
    """Write a deck in normal form, in place, as lessons are; only the slides are kept beside it."""
    kinds = [cell.metadata.get("slideshow") for cell in deck.cells]
    notebooks.normalise(deck)
    for cell, kind in zip(deck.cells, kinds, strict=True):
        if kind is not None:
            cell.metadata["slideshow"] = kind


def execute(path: Path) -> NotebookNode:
    """Return a deck that was executed in a fresh kernel, in normal form."""
    deck = notebooks.read(path)
    client = NotebookClient(deck, timeout=300, resources={"metadata": {"path": str(HERE)}})
    client.execute(env=os.environ | {"ADVLEARN_PROGRESS_DIR": "", "OMP_NUM_THREADS": "1"})
    normalise(deck)
    nbformat.validate(deck)
    return deck


def page(deck: NotebookNode) -> str:
    """Return a deck as an HTML page."""
    exporter = SlidesExporter(
        template_name="template", extra_template_basedirs=[str(HERE)], embed_images=True
    )
    html: str
    html, _ = exporter.from_notebook_node(deck)
    return html


def main(arguments: list[str]) -> int:
    """Make every deck."""
    OUT.mkdir(parents=True, exist_ok=True)
    wanted = tuple(one for one in arguments if not one.startswith("-")) or ("",)
    for path in (one for one in DECKS if one.name.startswith(wanted)):
        if "--run" in arguments:
            write_atomically(path, nbformat.writes(execute(path)) + "\n")
        write_atomically(OUT / f"{path.stem}.html", page(notebooks.read(path)))
        print(OUT / f"{path.stem}.html")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
