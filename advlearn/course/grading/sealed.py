"""Exercises without our solutions: the banks of the learner's edition.

A sealed bank holds what our solution and each wrong answer *gave* on the inputs of an exercise, and
not the functions themselves. That is all that a check compares with, so it says what it always
says. What else must run, the rules and the inputs and the few solutions that a lesson itself calls,
is kept as a parse tree: no text of the code is in a file, nor is there any for `inspect` to find.
`advlearn.classroom.sealing` writes such a bank.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import types
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from advlearn.course.grading.misconceptions import Misconception
from advlearn.course.grading.quiz import Choice, Question, Quiz

SUFFIX = ".sealed"
CLOSED = "Our solutions are not in this edition of the course."
NOT_YOURS = "This is our solution. The check wants yours."


class Recorded:
    """What a function gave on each input of an exercise, in place of the function.

    A lesson that goes on with our solution may call it; nothing shows how it is done.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[str],
        outputs: Sequence[Any],
        *,
        tensors: Sequence[Sequence[Tensor]] = (),
        slopes: Sequence[list[Tensor]] = (),
        in_steps: tuple[Misconception, ...] = (),
        in_arguments: tuple[Misconception, ...] = (),
        door: Callable[..., Any] | None = None,
    ) -> None:
        self.__name__ = name
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(one, inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in parameters]
        )
        self.outputs, self.slips = list(outputs), (in_steps, in_arguments)
        self._tensors, self._door, self.expected_slopes = tensors, door, list(slopes)

    def __repr__(self) -> str:
        return f"<{self.__name__}: {CLOSED}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what our solution does, if a lesson needs it."""
        if self._door is None:
            raise RuntimeError(f"{CLOSED} {self.__name__} is for you to write.")
        return self._door(*args, **kwargs)

    def questions(self, inputs: Sequence[tuple[Any, ...]]) -> list[tuple[tuple[Any, ...], Any]]:
        """Return the inputs with what is expected.

        Args:
            inputs: as they are made here. Their numbers become those that the outputs belong to:
                another processor draws others in the last digit.
        """
        for args, recorded in zip(inputs, self._tensors, strict=True):
            with torch.no_grad():
                for here, there in zip(tensors_of(args), recorded, strict=True):
                    here.copy_(there)
        return list(zip(inputs, self.outputs, strict=True))


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Give the tensors in the arguments of an exercise, in one order: of models and functions too.

    Example:
        >>> x = torch.ones(2)
        >>> len(list(tensors_of((x, 0.5, (x, [x]), torch.nn.Linear(2, 1)))))
        5
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_of(part)
    elif isinstance(value, nn.Module):
        for parameter in value.parameters():
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
        yield from value.buffers()
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            yield from tensors_of(cell.cell_contents)


# --- Reading --------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """Makes values of what is written down."""

    tensors: Sequence[Tensor]

    def value(self, told: Any) -> Any:
        """Return a value: a plain one, or a list of its kind and what it is made from."""
        if not isinstance(told, list):
            return told
        kind, rest = told[0], told[1:]
        if kind in {"tensor", "array"}:
            tensor = self.tensors[rest[0]]
            return tensor if kind == "tensor" else tensor.numpy()
        if kind == "number":  # of NumPy
            return np.dtype(rest[0]).type(rest[1])
        if kind in {"tuple", "list"}:
            parts = [self.value(part) for part in rest]
            return tuple(parts) if kind == "tuple" else parts
        # An error, or an object that no answer may be: its type alone is told of.
        known = getattr(builtins, rest[0], None)
        if isinstance(known, type) and issubclass(known, Exception):
            return known()
        return type(rest[0], (Exception if kind == "error" else object,), {})()

    def misconception(self, told: Mapping[str, Any]) -> Misconception:
        outputs = [self.value(one) for one in told["outputs"]]
        return Misconception("", Recorded("a wrong answer", (), outputs), told["feedback"])


def opened(module: str, file: str) -> dict[str, Any]:
    """Return what a bank's module holds: its exercises by name, EXERCISES, progress and quiz.

    Args:
        module: name of the module.
        file: its file; what is sealed lies beside it.
    """
    from advlearn.course.grading.exercise import Exercise, progress

    content = zlib.decompress(Path(file).with_suffix(SUFFIX).read_bytes())
    tensors = safetensors.torch.load(content)
    (length,) = np.frombuffer(content[:8], "<u8")
    told = json.loads(json.loads(content[8 : 8 + int(length)])["__metadata__"]["bank"])
    reader = _Reader([tensors[str(number)] for number in range(len(tensors))])
    space: dict[str, Any] = {"__name__": f"{module}.sealed"}
    exec(compile(tree(told["code"]), f"<{module}>", "exec", annotations.compiler_flag), space)
    held: dict[str, Any] = {}
    for one in told["exercises"]:
        rest = one["fields"]
        inputs, properties, door = space["made"][rest["name"]]
        reference = Recorded(
            rest["name"],
            one["parameters"],
            [reader.value(output) for output in one["outputs"]],
            tensors=[[reader.value(part) for part in parts] for parts in one["inputs"]],
            slopes=[reader.value(slope) for slope in one["slopes"]],
            in_steps=tuple(map(reader.misconception, one["in steps"])),
            in_arguments=tuple(map(reader.misconception, one["in arguments"])),
            door=door,
        )
        fields: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in rest.items()
        }
        held[rest["name"]] = Exercise(
            **fields,
            reference=reference,
            wrong_answers=tuple(map(reader.misconception, one["wrong"])),
            inputs=inputs,
            properties=properties,
        )
    exercises = tuple(held.values())
    questions = tuple(
        Question(text, tuple(Choice(*choice) for choice in choices))
        for text, choices in told["quiz"]
    )
    return {
        **held,
        "EXERCISES": exercises,
        "progress": partial(progress, exercises),
        "quiz": Quiz(questions),
    }


def tree(told: Any) -> Any:
    """Return the parse tree that is written down, on whatever version of Python.

    Example:
        >>> node = ["Module", {"body": [["Pass", {}]], "type_ignores": []}]
        >>> ast.unparse(tree(node))
        'pass'
    """
    made = _node(told)
    return ast.fix_missing_locations(made)


def _node(told: Any) -> Any:
    if isinstance(told, dict):
        ((kind, value),) = told.items()  # a constant that JSON does not know
        return ... if kind == "..." else complex(value) if kind == "complex" else bytes(value)
    if not isinstance(told, list):
        return told
    if len(told) == 2 and isinstance(told[0], str) and isinstance(told[1], dict):
        cls = getattr(ast, told[0])
        given = {name: _node(part) for name, part in told[1].items() if name in cls._fields}
        if "type_params" in cls._fields:
            given.setdefault("type_params", [])
        return cls(**given)
    return [_node(part) for part in told]
