"""Wrong answers that learners give; `edits` makes them by changing a right one."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

_Change: TypeAlias = tuple[str, str, str]  # old text, arrow, new text

_CHANGE = re.compile(r"`([^`]+)`\s+(->|=>)\s+`([^`]*)`")
_CHANGES = re.compile(rf"{_CHANGE.pattern}(?:,\s+{_CHANGE.pattern})*")
# The name and the changes at the margin, then the feedback, each line of it indented or blank.
_PARAGRAPH = re.compile(r"([^`\n]+?):\s+(`[^\n]*(?:\n[^\s][^\n]*)*)((?:\n(?: {4}[^\n]*)?)+)")


@dataclass(frozen=True)
class Misconception:
    """A wrong answer that learners give.

    Attributes:
        name: A few words for teachers; learners do not see them.
        answer: The wrong function, or the wrong value where the answer is a plain value.
        feedback: What to tell a learner whose answer gives the same.
    """

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
        right: A function written with `def` in a file: the reference, or another answer.
        text: The paragraphs.

    Raises:
        ValueError: The text is not of this form, two wrong answers have one name, an old text is
            not there or is there more than once, a change makes no difference, the new code does
            not compile, or `right` is not such a function.

    Example:
        >>> import torch
        >>> from advlearn.functional import sign
        >>> (slip,) = edits(sign, "no sign: `torch.sign(x)` -> `x`\n    Take the sign.")
        >>> slip.name, slip.answer(torch.tensor([3.0, -2.0])), slip.feedback
        ('no sign', tensor([ 3., -2.]), 'Take the sign.')
    """
    signature, body = _source(right)
    made: dict[str, Misconception] = {}
    for name, changes, feedback in _paragraphs(text):
        where = f"{right.__qualname__}, {name!r}"
        if name in made:
            raise ValueError(f"{where}: there are two wrong answers of this name.")
        code = signature + _changed(body, changes, where)
        try:
            # The flag keeps annotations as text: what they name may not exist when the code runs.
            compiled = compile(code, f"<{where}>", "exec", annotations.compiler_flag)
            meaning = _meaning(code)
        except SyntaxError as error:
            raise ValueError(f"{where}: the changed code is not Python: {error}.\n{code}") from None
        if meaning == _meaning(signature + body):
            raise ValueError(f"{where}: the changed code does what it did before.")
        for idle in _idle(signature, body, changes, meaning, where):
            raise ValueError(f"{where}: the change of {idle!r} makes no difference.")
        namespace: dict[str, Any] = {}
        exec(compiled, right.__globals__, namespace)
        made[name] = Misconception(name, namespace[right.__name__], feedback)
    return tuple(made.values())


def _source(function: Callable[..., Any]) -> tuple[str, str]:
    """Return what comes before the first statement of a function, docstring included, and after."""
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        raise ValueError(f"{function!r} is not written with `def`: only such a function is edited.")
    if function.__closure__:
        raise ValueError(f"{function!r} uses variables of the function around it.")
    lines = textwrap.dedent(inspect.getsource(function)).splitlines(keepends=True)
    (node,) = ast.parse("".join(lines)).body
    if not isinstance(node, ast.FunctionDef):
        raise ValueError(f"{function!r} is not a plain function: only such a function is edited.")
    if any(isinstance(n, ast.Name) and n.id == node.name for n in ast.walk(node)):
        raise ValueError(f"{function!r} calls itself: only its outermost call would be changed.")
    documented = ast.get_docstring(node) is not None
    if len(node.body) == documented:
        raise ValueError(f"{function!r} has no code but its docstring.")
    first = node.body[documented].lineno
    if first == node.lineno:
        raise ValueError(f"{function!r} must have its body on lines of its own.")
    return "".join(lines[: first - 1]), "".join(lines[first - 1 :])


def _paragraphs(text: str) -> Iterator[tuple[str, list[_Change], str]]:
    """Read name, changes and feedback of each paragraph."""
    # A paragraph begins at the margin; its further changes do too, with a back-quote or an arrow.
    for paragraph in re.split(r"\n(?=[^\s`=-])", textwrap.dedent(text).strip()):
        parts = _PARAGRAPH.fullmatch(paragraph)
        name, changes, feedback = parts.groups() if parts else ("", "", "")
        feedback = " ".join(feedback.split())
        if not _CHANGES.fullmatch(changes) or not feedback or _CHANGE.search(feedback):
            raise ValueError(
                "a wrong answer is written `name: `old` -> `new`` with its feedback under it, "
                f"indented by four spaces. This is not: {paragraph!r:.200}"
            )
        yield name, _CHANGE.findall(changes), feedback


def _changed(code: str, changes: Sequence[_Change], where: str) -> str:
    for old, arrow, new in changes:
        count = code.count(old)
        if count == 0 or (count == 1) == (arrow == "=>"):
            times = {0: "not in it", 1: "in it once: write ->"}.get(count, f"in it {count} times")
            raise ValueError(f"{where}: {old!r} is {times}:\n{code}")
        line = code[code.rfind("\n", 0, code.find(old)) + 1 :]
        indent = line[: len(line) - len(line.lstrip(" "))]
        code = code.replace(old, new.replace("¶", "\n" + indent))
    return code


def _idle(
    signature: str, body: str, changes: Sequence[_Change], meaning: str, where: str
) -> Iterator[str]:
    """Give the old text of each change without which the code means the same."""
    for left_out, (old, _, _) in enumerate(changes):
        others = [change for place, change in enumerate(changes) if place != left_out]
        try:
            if _meaning(signature + _changed(body, others, where)) == meaning:
                yield old
        except (SyntaxError, ValueError):  # the others do not stand alone, so it is needed
            continue


def _meaning(code: str) -> str:
    """Return what Python reads in the code: spaces and comments do not count."""
    return ast.dump(ast.parse(code))
