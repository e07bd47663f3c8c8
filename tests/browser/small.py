"""A lesson in small: one of each thing that a lesson shows, run in seconds.

The tests of windows, themes, phones and the second day ask how a notebook behaves, not what it
says. Every lesson as it is, is looked at in `test_lessons`.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from advlearn.course import notebooks
from advlearn.course.lessons import LESSONS

# Places of the code cells; before each of them stands one of text.
SET_UP, WRITE, FIGURE, DRAW, QUIZ, PROGRESS, TABLE = (2 * k + 1 for k in range(7))
_CODE = (
    notebooks.setup_cell(LESSONS[1].file),
    "my_sign = ex.my_sign.reference\nex.my_sign.check(my_sign)",
    """\
import torch
from advlearn import plotting

strokes = torch.eye(6).repeat(12, 1, 1, 1)
titles = [f"digit {k}" for k in range(12)]
plotting.show(plotting.digits(strokes, titles=titles, columns=12), "Twelve small pictures.")""",
    """\
from advlearn.course.widgets import explore

def step(end, low, curve):
    curves = {"sign": my_sign, "line": lambda v: v}
    ax = plotting.functions({curve: curves[curve]}, low, end)
    ax.figure.set_size_inches(7, 3)
    return ax

explore(step, end=[1.0, 1.5, 2.0, 2.5, 3.0], low=[-2.0, -1.0, 0.0], curve=["sign", "line"])""",
    "ex.quiz",
    "ex.progress()",
    """\
from advlearn.course.tables import print_table

print_table({f"quantity number {k}": [k, 2 * k, 3 * k] for k in range(6)})""",
)
_TEXT = """\
## Part {part}

Some text of a lesson, with a formula $x + \\epsilon$ and a table.

| one | two |
|---|---|
| 1 | 2 |"""


def write(path: Path) -> None:
    """Write the small lesson to `path`."""
    cells = []
    for part, source in enumerate(_CODE, start=1):
        code = new_code_cell(source)
        if "explore(" in source:
            code.metadata["tags"] = ["widget"]
        cells += [new_markdown_cell(_TEXT.format(part=part)), code]
    # Empty ones at the end, so that the notebook is longer than a window.
    cells += [new_markdown_cell(_TEXT.format(part=part)) for part in range(7, 30)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
