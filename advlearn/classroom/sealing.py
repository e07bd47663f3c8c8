"""Seal a bank: keep what our solutions give on the inputs of their exercises, and not how.

See `advlearn.course.grading.sealed`, which reads what is written here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from advlearn.course import banks
from advlearn.course.grading import grader
from advlearn.course.grading.exercise import Exercise
from advlearn.course.grading.misconceptions import Misconception
from advlearn.course.grading.sealed import tensors_of, tree

MODULE = '''\
"""Exercises of lesson {number}. Our solutions are not in this edition of the course."""

from advlearn.course.grading.sealed import opened

globals().update(opened(__name__, __file__))
'''

_PLAIN = ("name", "lesson", "title", "task", "difficulty", "minutes", "asks", "without", "takeaway",
          "rtol", "atol")  # fmt: skip


def seal(number: str, doors: Iterable[str], keep_hint: Callable[[Exercise, str], bool]) -> bytes:
    """Return the sealed bank of a lesson.

    Args:
        number: of the lesson, "03".
        doors: names of the exercises whose solution the lesson itself calls.
        keep_hint: tells whether a hint may stay.

    Raises:
        ValueError: an exercise cannot be sealed: its answer is a plain value, or a rule or an input
            needs a solution.
    """
    bank = importlib.import_module(f"{banks.__name__}.lesson{number}")
    writer = _Writer()
    told = [
        _exercise(exercise, writer, [hint for hint in exercise.hints if keep_hint(exercise, hint)])
        for exercise in bank.EXERCISES
    ]
    whole = {
        "exercises": told,
        "quiz": [
            [question.text, [[c.text, c.right, c.feedback] for c in question.choices]]
            for question in bank.quiz.questions
        ],
        "code": code(Path(inspect.getfile(bank)).read_text(encoding="utf-8"), set(doors)),
    }
    tensors = {str(number): tensor for number, tensor in enumerate(writer.tensors)}
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    return zlib.compress(safetensors.torch.save(tensors, {"bank": text}), 9)


def _exercise(exercise: Exercise, writer: _Writer, hints: Sequence[str]) -> dict[str, Any]:
    if exercise.inputs is None:
        raise ValueError(
            f"{exercise.name} of lesson {exercise.lesson} asks for a plain value. That cannot be "
            "checked without being there."
        )
    questions = grader._questions(exercise)
    in_steps, in_arguments = grader._general_slips(exercise)
    right = [output for _, output in questions]
    slopes = grader.expected_slopes(exercise) if grader.SLOPE in exercise.asks else []

    def recorded(wrong: Misconception) -> dict[str, Any]:
        outputs = [writer.value(output) for output in grader._imitations(exercise, wrong)]
        return {"feedback": wrong.feedback, "outputs": outputs}

    def telling(slips: Iterable[Misconception]) -> list[dict[str, Any]]:
        """Record the slips that change something: a wrong answer never is like one of the rest."""
        return [
            recorded(slip)
            for slip in slips
            if not all(map(_same, grader._imitations(exercise, slip), right))
        ]

    return {
        "fields": {name: getattr(exercise, name) for name in _PLAIN} | {"hints": list(hints)},
        "parameters": list(grader.parameters(exercise.reference)),
        "inputs": [[writer.value(part) for part in tensors_of(args)] for args, _ in questions],
        "outputs": [writer.value(output) for output in right],
        "slopes": [writer.value(slope) for slope in slopes],
        "wrong": [recorded(wrong) for wrong in exercise.wrong_answers],
        "in steps": telling(in_steps),
        "in arguments": telling(in_arguments),
    }


def _same(one: Any, other: Any) -> bool:
    """Tell whether two results are alike to the last bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and bool((one.eq(other) | one.ne(one) & other.ne(other)).all())
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    plain = type(one) is type(other) and isinstance(one, int | float | str)
    return plain and repr(one) == repr(other)  # nan is like nan


@dataclass
class _Writer:
    """Writes values down, each tensor once."""

    tensors: list[Tensor] = field(default_factory=list)
    _known: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def value(self, value: Any) -> Any:
        """Return what `advlearn.course.grading.sealed` makes the value of again."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Tensor):
            return ["tensor", self._tensor(value)]
        if isinstance(value, np.ndarray):
            return ["array", self._tensor(torch.from_numpy(value))]
        if isinstance(value, np.generic):
            return ["number", value.dtype.name, value.item()]
        if isinstance(value, tuple | list):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return [kind, *map(self.value, value)]
        kind = "error" if isinstance(value, Exception) else "object"
        return [kind, type(value).__name__]

    def _tensor(self, tensor: Tensor) -> int:
        tensor = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        # A tensor of one number may have any stride, and a view of its bytes wants 1.
        flat = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
        key = tensor.dtype, tuple(tensor.shape), flat.numpy().tobytes()
        if key not in self._known:
            self._known[key] = len(self.tensors)
            self.tensors.append(tensor)
        return self._known[key]


# --- Code -----------------------------------------------------------------------------------------


def code(source: str, doors: set[str]) -> Any:
    """Return the parse tree of what must run of a bank: rules, inputs, and solutions with a door.

    It ends with `made`: exercise -> (inputs, rules, solution or None).

    Raises:
        ValueError: a rule or an input needs a solution that has no door.
    """
    top: dict[str, ast.stmt] = {}
    exercises: dict[str, dict[str, ast.expr]] = {}
    for statement in ast.parse(source).body:
        for name in _defines(statement):
            top[name] = statement
        if isinstance(statement, ast.Assign) and _called(statement.value) == "Exercise":
            assert isinstance(statement.value, ast.Call)
            told = {str(keyword.arg): keyword.value for keyword in statement.value.keywords}
            exercises[ast.literal_eval(told["name"])] = told
    made = ast.Dict([], [])
    nothing = ast.Constant(None)
    for name, told in exercises.items():
        door = told["reference"] if name in doors else nothing
        made.keys.append(ast.Constant(name))
        rules = told.get("properties", ast.Tuple([], ast.Load()))
        made.values.append(ast.Tuple([told["inputs"], rules, door], ast.Load()))
    needed = _needed(made, top)
    solutions = {
        ast.unparse(told["reference"]): name
        for name, told in exercises.items()
        if name not in doors
    }
    for used in needed & solutions.keys():
        raise ValueError(
            f"a rule, an input or another solution needs the solution of {solutions[used]}, which "
            "no lesson calls."
        )
    of_doors = {ast.unparse(exercises[name]["reference"]) for name in doors & exercises.keys()}
    body: list[ast.stmt] = []
    for statement in ast.parse(source).body:
        names = needed & set(_defines(statement))
        if not names:
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            kept = [
                one for one in statement.names if (one.asname or one.name).split(".")[0] in names
            ]
            statement.names = kept
        plain = _Plain().visit(statement)
        if names & of_doors:
            plain = _numbered(plain)
        body.append(plain)
    body.append(ast.Assign([ast.Name("made", ast.Store())], made))
    module = ast.fix_missing_locations(ast.Module(body, []))
    told = _told(module)
    compile(tree(told), "<sealed>", "exec")  # it must, where it is read
    return told


def _defines(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for one in statement.names:
            yield (one.asname or one.name).split(".")[0]
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _called(node: ast.expr) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _needed(node: ast.AST, top: dict[str, ast.stmt]) -> set[str]:
    """Return the names of a module that some code needs, and what those need in turn."""
    needed: set[str] = set()
    left: list[ast.AST] = [node]
    while left:
        plain = _Plain().visit(ast.parse(ast.unparse(left.pop())))
        for part in ast.walk(plain):
            if isinstance(part, ast.Name) and part.id in top and part.id not in needed:
                needed.add(part.id)
                if not isinstance(top[part.id], ast.Import | ast.ImportFrom):
                    left.append(top[part.id])
    return needed


class _Plain(ast.NodeTransformer):
    """Removes what only a reader needs: docstrings and annotations."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()


def _numbered(function: ast.AST) -> ast.AST:
    """Give the variables of a function numbers in place of their names."""
    own: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            own.setdefault(node.arg, f"v{len(own)}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.setdefault(node.id, f"v{len(own)}")
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            node.arg = own[node.arg]
        elif isinstance(node, ast.Name):
            node.id = own.get(node.id, node.id)
    return function


def _told(node: Any) -> Any:
    """Write a parse tree down as lists: the kind of each node, and what it holds."""
    if isinstance(node, ast.AST):
        return [type(node).__name__, {name: _told(part) for name, part in ast.iter_fields(node)}]
    if isinstance(node, list):
        return [_told(part) for part in node]
    if node is Ellipsis:
        return {"...": None}
    if isinstance(node, complex):
        return {"complex": str(node)}
    if isinstance(node, bytes):
        return {"bytes": list(node)}
    return node
