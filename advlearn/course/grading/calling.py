"""Call a learner's function on every input, and keep what came of it as plain data.

What is kept can be written down and sent: a class is graded by a process that never runs the
learners' code, see `advlearn.classroom`.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import chain
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advlearn.context import closed_over, codes_in
from advlearn.course.grading import evidence, names, sandbox
from advlearn.course.grading.evidence import Args

# What the bytecode of a stub holds: nothing but None and `...`, perhaps kept in a variable.
_STUB_OPERATIONS = {"RESUME", "NOP", "CACHE", "POP_TOP", "LOAD_CONST", "LOAD_COMMON_CONSTANT"}
_STUB_OPERATIONS |= {"RETURN_VALUE", "RETURN_CONST", "STORE_FAST", "LOAD_FAST", "LOAD_FAST_BORROW"}

# Modules whose functions the exercises ask learners to write.
_WRITTEN_BY_LEARNERS = {
    f"advlearn.{name}"
    for name in (
        "attacks", "certify", "evaluation", "functional", "intervals", "losses", "metrics",
        "reproduce.measures",
    )
}  # fmt: skip
_MOST_HELPERS = 100
_MOST_NAMES, _LONG = 1_000, 200  # how many names are kept, and letters of one
# What may stand between a module's name and the one that is taken from it.
_BETWEEN = {"PUSH_NULL", "CACHE", "EXTENDED_ARG", "STORE_FAST", "STORE_NAME", "STORE_DEREF"}


@dataclass
class Calls(sandbox.Ending):
    """What came of calling an answer on every input in turn, and on the first one again.

    Attributes:
        problem: Why it cannot be called with these arguments; "" if it can.
        given: The arguments of each call that returned, as the call left them.
        outputs: What each of them returned.
        error: What ended the calls early, in words; "" if nothing was raised.
        shows_input: Whether the input belongs to the message about that.
        is_stub: Whether the answer is not written yet: an empty body, or its own
            `raise NotImplementedError`.
        replaced: Names of PyTorch, NumPy and Python that it replaced.
        finished: Names of the library's own attacks, losses and measures that it uses.
        named: All global names and attributes in its own code: some tasks rule some out.
        slopes: For each input the gradients of `slope_of`, where they are asked for.
        timed_out, waited, flooded, abandoned, printed, place: See `sandbox.Ending`.
    """

    problem: str = ""
    given: list[Args] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    error: str = ""
    shows_input: bool = False
    is_stub: bool = False
    replaced: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    slopes: list[list[Tensor] | None] = field(default_factory=list)


def call(
    answer: Any,
    name: str,
    parameters: tuple[str, ...],
    inputs: Sequence[Args],
    timeout: float,
    *,
    slopes: bool = False,
) -> Calls:
    """Call an answer on copies of every input, and on the first one twice.

    Args:
        answer: The learner's function.
        name: Of the exercise.
        parameters: The names of its arguments.
        inputs: The arguments of each call; they are not changed.
        timeout: As for `sandbox.run`, for all calls together.
        slopes: Whether to call it once more on every input, and take the gradient of its result.

    Example:
        >>> calls = call(lambda x: x + 1, "next_one", ("x",), [(1,), (2,)], timeout=5.0)
        >>> calls.outputs, calls.given, calls.error
        ([2, 3, 2], [(1,), (2,), (1,)], '')
    """
    if problem := evidence.call_problem(answer, name, parameters):
        return Calls(problem=problem)
    calls = Calls(
        is_stub=_is_stub(answer),
        finished=sorted(_finished(answer)),
        named=sorted(_named(answer))[:_MOST_NAMES],
    )

    def task() -> None:
        for args in (*inputs, inputs[0]):
            given = evidence.copy_arguments(args)
            output = answer(*given)
            calls.given.append(given)
            calls.outputs.append(output)
        if slopes:
            found = [slope_of(answer, args) for args in inputs]
            calls.slopes.extend(found)

    files = _files(answer)
    with names.watched() as calls.replaced:
        run = sandbox.run(task, timeout, files)
    for kept in fields(sandbox.Ending):
        setattr(calls, kept.name, getattr(run, kept.name))
    # An abandoned thread may go on for a while: what it adds later must not count.
    calls.given, calls.outputs = list(calls.given), list(calls.outputs)
    calls.slopes = list(calls.slopes)
    error = run.error
    if error is None or run.flooded or run.timed_out:
        return calls
    if isinstance(error, NotImplementedError) and sandbox.raised_by_statement(error):
        # A stub's own `raise NotImplementedError`. PyTorch raises it too, for a dtype that an
        # operation does not take: that is an error of an attempt.
        calls.is_stub, calls.error = True, "not written yet"
        return calls
    args = inputs[min(len(calls.outputs), len(inputs) - 1)]
    calls.place = sandbox.error_line(error, files)
    calls.error = evidence.describe_error(error, args)
    with_input = RuntimeError | ValueError | IndexError | TypeError | ZeroDivisionError
    calls.shows_input = isinstance(error, with_input)
    calls.is_stub = False
    return calls


def slope_of(loss: Any, args: Args) -> list[Tensor] | None:
    """Return the gradient of a loss with respect to each floating argument, or None without one.

    It is taken a little beside the arguments: where two numbers tie, a maximum has several. But at
    the arguments themselves it has to be finite: where it is not, that one is returned.

    Example:
        >>> slope_of(lambda v, n: n * v.square(), (torch.tensor([3.0]), 2))
        [tensor([12.])]
        >>> slope_of(lambda v, n: v.square().detach(), (torch.tensor([3.0]), 2))
    """
    beside, at = (_gradients(loss, args, step) for step in (0.01, 0.0))
    broken = at is not None and not all(bool(part.isfinite().all()) for part in at)
    return at if broken else beside


def _gradients(loss: Any, args: Args, step: float) -> list[Tensor] | None:
    """Return the gradients of a loss, so far beside its arguments."""
    leaves: list[Tensor] = []
    given: list[object] = []
    for arg in evidence.copy_arguments(args):
        if not isinstance(arg, Tensor) or not arg.is_floating_point():
            given.append(arg)
            continue
        wave = torch.arange(arg.numel(), dtype=arg.dtype).sin().reshape(arg.shape)
        leaves.append((arg + step * wave * arg.abs().clamp(min=1)).requires_grad_())
        given.append(leaves[-1].clone())  # which may be written to, as any tensor may
    try:
        with torch.enable_grad():
            result = loss(*given)
            if not isinstance(result, Tensor) or not result.requires_grad:
                return None
            gradients = torch.autograd.grad(result.sum(), leaves, allow_unused=True)
    except Exception:  # NumPy takes no tensor that has a gradient, for one
        return None
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


def _files(answer: object) -> set[str]:
    """Return the names of the files that hold the answer's code."""
    function = getattr(answer, "func", answer)  # a functools.partial
    function = getattr(function, "__func__", function)  # a bound method
    if not hasattr(function, "__code__"):
        function = getattr(type(function), "__call__", None)  # noqa: B004 - its code is wanted
    code = getattr(function, "__code__", None)
    return {code.co_filename} if code is not None else set()


def _finished(answer: object) -> set[str]:
    """Return the names of the library's own functions that an answer uses.

    Its helpers are looked into, too. What a name stands for decides: `torch.sign` is not ours.
    """
    found: set[str] = set()
    _gather(answer, found, set())
    return found


def _named(answer: object) -> set[str]:
    """Return the names that an answer loads; of a function that is not Python's, its own name.

    Example:
        >>> sorted(_named(lambda v: torch.sign(v).clamp(0, 1)))
        ['clamp', 'sign', 'torch']
        >>> _named(torch.sign)
        {'sign'}
    """
    code = getattr(answer, "__code__", None)
    if isinstance(code, CodeType):
        return {name for part in codes_in(code) for name in part.co_names if len(name) < _LONG}
    # torch.sign itself, or np.sign
    return {answer.__name__} if isinstance(answer, BuiltinFunctionType | np.ufunc) else set()


def _gather(value: object, found: set[str], seen: set[int]) -> None:
    if isinstance(value, partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            _gather(part, found, seen)
    if not isinstance(value, FunctionType) or id(value) in seen:
        return
    seen.add(id(value))
    if value.__module__ in _WRITTEN_BY_LEARNERS:
        found.add(value.__name__)
    elif not _is_ours(value.__module__ or "") and len(seen) < _MOST_HELPERS:
        loaded = (_loaded(code, value.__globals__) for code in codes_in(value.__code__))
        for part in chain(closed_over(value), *loaded):
            _gather(part, found, seen)


def _loaded(code: CodeType, space: Mapping[str, object]) -> Iterator[object]:
    """Give what a code loads by its global names, through modules of ours, and by its imports."""
    holder: object = None  # a module of ours, of which an attribute may be loaded next
    for step in dis.get_instructions(code):
        if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            holder = space.get(step.argval)
            yield holder
        elif step.opname == "IMPORT_NAME":
            holder = sys.modules.get(step.argval)
        elif step.opname == "IMPORT_FROM" and _is_module(holder):
            yield getattr(holder, step.argval, None)  # and the next name is from the same one
        elif step.opname in {"LOAD_ATTR", "LOAD_METHOD"} and _is_module(holder):
            holder = getattr(holder, step.argval, None)
            yield holder
        elif step.opname not in _BETWEEN:
            holder = None


def _is_module(value: object) -> bool:
    return isinstance(value, ModuleType) and _is_ours(value.__name__)


def _is_ours(name: str) -> bool:
    return name == "advlearn" or name.startswith("advlearn.")


def _is_stub(answer: object) -> bool:
    code = getattr(answer, "__code__", None)
    if code is None:
        return False
    return all(step.opname in _STUB_OPERATIONS for step in dis.get_instructions(code))
