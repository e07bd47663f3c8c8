"""The arena: score a submitted model by its worst case over a fixed budget of attacks.

A submission is a file of `advlearn.data.reference.pack`: tensors, and the name of an architecture.
It is inspected before anything is built, and nothing in it is executed. Its score is the share of
the offline test digits that stay right whatever the arena tries, so hiding the gradient from one
attack gains nothing.
"""

from __future__ import annotations

from advlearn.arena.board import append, draw, left_out, read, standing, table, write_picture
from advlearn.arena.contest import Report, Rules, score
from advlearn.arena.entry import Entry, RefusedError, admit

__all__ = [
    "Entry",
    "RefusedError",
    "Report",
    "Rules",
    "admit",
    "append",
    "draw",
    "left_out",
    "read",
    "score",
    "standing",
    "table",
    "write_picture",
]
