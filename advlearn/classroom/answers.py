"""What of a notebook is graded: its imports, definitions and constants, and no other code.

Cells that draw, train or print are not run: they take minutes, and a grade does not need them. An
answer is a function, or a plain value, of the exercise's name or of the name that its check is
given. Where a learner wrote it several times, each is an attempt.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_MAGIC = re.compile(r"^\s*(?:%(?!%)|!|\?|.*\?\s*$)")
_RUN_AS_IT_IS = re.compile(r"^%%(?:time|timeit|capture|prun)\b")
# What a constant may call: it makes a number, a text, a container or a tensor of what is given.
_MAKERS = {
    "abs", "bool", "bytes", "complex", "dict", "float", "frozenset", "int", "len", "list", "max",
    "min", "partial", "pow", "range", "round", "set", "slice", "str", "sum", "tuple",
}  # fmt: skip
_MAKING_MODULES = {"torch", "np", "numpy", "math", "functools", "F", "nn", "itertools", "operator"}


@dataclass(frozen=True)
class Piece:
    """A statement of a cell that is run, and the exercises for which it makes an attempt."""

    source: str
    cell: int  # its number among the notebook's cells, from 0
    line: int  # of the statement in its cell, from 1
    names: tuple[str, ...] = ()  # that it defines


@dataclass
class Answers:
    """What a notebook holds for the grader.

    Attributes:
        pieces: in the order of the notebook.
        asked: exercise -> the expressions that its checks were given, mostly its own name.
        broken: cell -> why its code cannot be read.
        left_out: name -> the cell in which code that is not run sets it.
        cells: exercise -> the cell of its last definition.
    """

    pieces: list[Piece] = field(default_factory=list)
    asked: dict[str, list[str]] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)  # name -> each definition of it


def read(cells: Sequence[Mapping[str, Any]], exercises: Iterable[str]) -> Answers:
    r"""Return what is graded of a notebook.

    Args:
        cells: with "cell_type" and "source".
        exercises: the names of the lesson's exercises.

    Example:
        >>> cell = {"cell_type": "code", "source": "import torch\ndef f(x):\n    return x\nf(1)"}
        >>> [piece.source for piece in read([cell], ["f"]).pieces]
        ['import torch', 'def f(x):\n    return x']
    """
    found, known = Answers(), set(exercises)
    for number, cell in enumerate(cells):
        if cell.get("cell_type") != "code":
            continue
        source = plain_python(str(cell.get("source", "")))
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            where = f", line {line}" if line else ""
            found.broken[number] = f"{type(error).__name__}: {getattr(error, 'msg', error)}{where}"
            # A broken cell breaks no other, and says nothing of what is above it.
            continue
        for statement in tree.body:
            _take(found, statement, source, number, known)
    return found


def plain_python(source: str) -> str:
    r"""Return the source of a cell without what only IPython reads.

    Example:
        >>> plain_python("%matplotlib inline\nx = 1\n!ls\nx?")
        '\nx = 1\n\n'
    """
    lines = source.split("\n")
    if lines and lines[0].startswith("%%"):
        if not _RUN_AS_IT_IS.match(lines[0]):
            return ""
        lines[0] = ""
    inside = False  # of a text over several lines, where such signs mean nothing
    kept = []
    for line in lines:
        kept.append("" if not inside and _MAGIC.match(line) and not _is_python(line) else line)
        inside ^= (line.count('"""') + line.count("'''")) % 2 == 1
    return "\n".join(kept)


def _is_python(line: str) -> bool:
    """Tell whether a line that looks like one for IPython is an ordinary one: a comment, say."""
    return line.lstrip().startswith("#") or (line.rstrip().endswith("?") and "#" in line)


def _take(found: Answers, node: ast.stmt, source: str, cell: int, known: set[str]) -> None:
    for call in ast.walk(node):
        _note_check(found, call, source, known)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        text = _text(node, source)
        found.pieces.append(Piece(text, cell, node.lineno, (node.name,)))
        found.sources.setdefault(node.name, []).append(text)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        found.pieces.append(Piece(_text(node, source), cell, node.lineno))
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        names = tuple(_names_of(node))
        if names and _is_constant(node.value):
            text = _text(node, source)
            found.pieces.append(Piece(text, cell, node.lineno, names))
            for name in names:
                found.sources.setdefault(name, []).append(text)
        else:
            found.left_out.update(dict.fromkeys(names, cell))
    elif isinstance(node, ast.Try) and all(_is_plain(part) for part in _inside(node)):
        found.pieces.append(Piece(_text(node, source), cell, node.lineno))
    else:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                found.left_out.setdefault(inner.id, cell)


def _text(node: ast.stmt, source: str) -> str:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(one.lineno for one in decorators)])
    lines = source.split("\n")[first - 1 : node.end_lineno]
    if first == node.lineno and not isinstance(node, ast.FunctionDef | ast.ClassDef):
        # Several statements on a line: only this one. A definition keeps its last comment.
        segment = ast.get_source_segment(source, node)
        if segment is not None:
            return segment
    return "\n".join(lines)


def _names_of(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        for one in ast.walk(target):
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                yield one.id


def _is_constant(node: ast.expr) -> bool:
    """Tell whether an expression only makes a value: it reads, trains and draws nothing."""
    if isinstance(node, ast.Lambda):
        return True
    if isinstance(node, ast.Call):
        function = node.func
        makes = isinstance(function, ast.Name) and function.id in _MAKERS
        if isinstance(function, ast.Attribute):
            root = function.value
            while isinstance(root, ast.Attribute):
                root = root.value
            makes = isinstance(root, ast.Name) and root.id in _MAKING_MODULES
        parts = [*node.args, *(keyword.value for keyword in node.keywords)]
        return makes and all(_is_constant(part) for part in parts)
    if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
        return False
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return False
    return all(
        _is_constant(part) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)
    )


def _is_plain(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return _is_constant(node.value)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.Pass)


def _inside(node: ast.Try) -> Iterator[ast.stmt]:
    yield from (*node.body, *node.orelse, *node.finalbody)
    for handler in node.handlers:
        yield from handler.body


def _note_check(found: Answers, call: ast.AST, source: str, known: set[str]) -> None:
    """Note what `ex.NAME.check(...)` or `grade(...)` was given."""
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
        return
    owner = call.func.value
    if call.func.attr not in {"check", "grade"} or not isinstance(owner, ast.Attribute):
        return
    given = [*call.args[:1], *(one.value for one in call.keywords if one.arg == "answer")]
    if owner.attr in known and given and _is_constant(given[0]):
        text = ast.get_source_segment(source, given[0])
        asked = found.asked.setdefault(owner.attr, [])
        if text and text not in asked:
            asked.append(text)
