"""Wrong answers that learners give; `edits` makes them by changing a right one."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_EDIT = re.compile(r"`([^`]+)`\s+(->|=>)\s+`([^`]*)`,?\s*")
# Lines at the margin, then indented ones: `name: changes` and the feedback.
_PARAGRAPH = re.compile(
    r"(?P<name>[^`\s][^`\n]*?):\s+(?P<changes>`.*\n(?:[`-].*\n)*)(?P<feedback>(?:    .*\n|\n)+)"
)


@dataclass(frozen=True)
class Misconception:
    """A wrong answer that learners give, and what to tell them."""

    name: str
    answer: Any
    feedback: str


def edits(right: Callable[..., Any], text: str) -> tuple[Misconception, ...]:
    r"""Return wrong answers, each one the source of `right` with something changed.

    Each paragraph of the text is a name, what is changed, and, indented, the feedback:

        no absolute value: `.abs()` -> ``
            A change of -0.3 is larger than one of +0.2. Take the absolute value first.

    `->` changes the only place that holds the old text, `=>` changes every one of two or more.
    Several changes, parted by commas, are made in order, also on lines of their own. A `¶` in the
    new text begins a new line, indented like the one that is changed. Signature and docstring
    stay, and the code sees the module of `right`.

    Args:
        right: a function written with `def` in a file: the reference, or another answer.
        text: the paragraphs.

    Raises:
        ValueError: the text is not of this form, an old text is not there or is there more than
            once, a change changes nothing, or the new code does not compile.

    Example:
        >>> import torch
        >>> from advlearn.functional import sign
        >>> (slip,) = edits(sign, "no sign: `torch.sign(x)` -> `x`\n    Take the sign.")
        >>> slip.name, slip.answer(torch.tensor([3.0, -2.0])), slip.feedback
        ('no sign', tensor([ 3., -2.]), 'Take the sign.')
    """
    head, body = _source(right)
    before = ast.dump(ast.parse(head + body))
    made = []
    for name, changes, feedback in _paragraphs(text):
        where, code = f"{right.__qualname__}, {name!r}", body
        for old, arrow, new in changes:
            code = _replaced(code, old, new, every=arrow == "=>", where=where)
        try:
            if ast.dump(ast.parse(head + code)) == before:
                raise ValueError(f"{where}: the changed code does what it did before.")
            namespace: dict[str, Any] = {}
            flags = annotations.compiler_flag
            compiled = compile(head + code, f"<{where}>", "exec", flags, dont_inherit=True)
            exec(compiled, right.__globals__, namespace)
        except SyntaxError as error:
            raise ValueError(f"{where}: the changed code is not Python: {error}.") from None
        made.append(Misconception(name, namespace[right.__name__], feedback))
    return tuple(made)


def _source(function: Callable[..., Any]) -> tuple[str, str]:
    """Return what comes before the first statement of a function, docstring included, and after."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines(keepends=True)
    (node,) = ast.parse("".join(lines)).body
    if not isinstance(node, ast.FunctionDef):
        raise ValueError(f"{function!r} is not written with `def`: name it, so that it has lines.")
    first = node.body[1 if ast.get_docstring(node) else 0].lineno - 1
    return "".join(lines[:first]), "".join(lines[first:])


def _paragraphs(text: str) -> Iterator[tuple[str, list[tuple[str, str, str]], str]]:
    """Read name, changes and feedback of each paragraph."""
    text = textwrap.dedent(text).strip() + "\n"
    while text:
        found = _PARAGRAPH.match(text)
        changes = _EDIT.findall(found["changes"]) if found else []
        if not found or _EDIT.sub("", found["changes"]).strip() or not changes:
            raise ValueError(
                "a wrong answer is written `name: `old` -> `new`` with its feedback under it, "
                f"indented by four spaces. This is not: {text!r:.200}"
            )
        yield found["name"], changes, " ".join(found["feedback"].split())
        text = text[found.end() :].lstrip("\n")


def _replaced(code: str, old: str, new: str, *, every: bool, where: str) -> str:
    count = code.count(old)
    if count == 0 or (count == 1) == every:
        times = {0: "not in it", 1: "in it once: write ->"}.get(count, f"in it {count} times")
        raise ValueError(f"{where}: {old!r} is {times}:\n{code}")
    line = code[code.rfind("\n", 0, code.find(old)) + 1 :]
    indent = line[: len(line) - len(line.lstrip(" "))]
    return code.replace(old, new.replace("¶", "\n" + indent))
