"""Names of PyTorch, NumPy and Python that an answer replaced: found, and put back.

`torch.sign = my_sign` stays for everything that runs later, the checks included, and a replaced
`torch.allclose` would make every later answer right.
"""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

_MISSING = object()

# Python's prompt and IPython set these as they go; `Storage` follows PyTorch's default dtype.
_OF_THE_SESSION = {"_", "__", "___", "display", "get_ipython", "exit", "quit", "open", "Storage"}

_MODULES: dict[str, Any] = {
    "torch": torch,
    "torch.nn": nn,
    "torch.nn.functional": nn.functional,
    "torch.autograd": torch.autograd,
    "torch.linalg": torch.linalg,
    "numpy": np,
    "math": math,
    "builtins": builtins,
}
_CLASSES: dict[str, Any] = {
    "torch.Tensor": torch.Tensor,
    "torch.nn.Module": nn.Module,
    "torch.nn.Sequential": nn.Sequential,
    "torch.nn.Linear": nn.Linear,
}
_GENUINE = {name: dict(vars(place)) for name, place in (_MODULES | _CLASSES).items()}


class Replaced(NamedTuple):
    """A name that somebody else than its owner has set.

    Attributes:
        place: The module or the class.
        name: The name as one writes it, "torch.allclose".
        value: What stood there; `_MISSING` if it was deleted.
    """

    place: Any
    name: str
    value: Any


def put_back() -> list[Replaced]:
    """Give every name its own value again, and return what stood there instead.

    A new name in a module replaces nothing: PyTorch loads parts of itself late. In a class it
    counts if it hides what the class inherits, as `torch.Tensor.sign = my_sign` does.
    """
    replaced: list[Replaced] = []
    for where, place in (_MODULES | _CLASSES).items():
        genuine, now = _GENUINE[where], vars(place)
        if _same(genuine, now):
            continue
        for name, value in list(genuine.items()):
            there = now.get(name, _MISSING)
            if there is value or name in _OF_THE_SESSION:
                continue
            if _is_wrapper_of_pytorch(there, value):
                genuine[name] = there
            else:
                replaced.append(Replaced(place, f"{where}.{name}", there))
                setattr(place, name, value)
        for name in [name for name in now if name not in genuine]:
            if where in _CLASSES and _inherited(place, name):
                replaced.append(Replaced(place, f"{where}.{name}", now[name]))
                delattr(place, name)
            elif where in _MODULES:
                genuine[name] = now[name]
    return replaced


def _is_wrapper_of_pytorch(there: object, value: object) -> bool:
    """Tell whether PyTorch itself has wrapped its function, as its compiler does once loaded."""
    code = getattr(there, "__code__", None)
    own = str(Path(torch.__file__).parent)
    if code is None or getattr(there, "__wrapped__", None) is not value:
        return False
    return bool(code.co_filename.startswith(own))


def _same(genuine: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    try:
        return genuine == now
    except Exception:  # a value that cannot be compared is a new one
        return False


def _inherited(place: type, name: str) -> bool:
    return any(name in vars(base) for base in place.__mro__[1:])


@contextmanager
def genuine_names() -> Iterator[None]:
    """Let the body work with the genuine names; what the session had replaced comes back after."""
    before = put_back()
    try:
        yield
    finally:
        for place, name, value in before:
            key = name.rpartition(".")[2]
            if value is _MISSING:
                delattr(place, key)
            else:
                setattr(place, key, value)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Put back the names that the body replaces, those of the checks too; the list says which."""
    replaced: list[str] = []
    own = {module: dict(vars(module)) for module in _modules_of_the_checks()}
    try:
        yield replaced
    finally:
        replaced += [one.name for one in put_back()]
        for module, values in own.items():
            if not _same(values, vars(module)):
                vars(module).update(values)


def _modules_of_the_checks() -> list[ModuleType]:
    """Return the modules beside this one, as far as they are loaded."""
    package = f"{__name__.rpartition('.')[0]}."
    return [one for name, one in list(sys.modules.items()) if name.startswith(package)]
