"""Write down what a learner's function returned, and read it again without trusting it.

The process that runs the learner's code sends bytes; the one that judges reads them. A pickle would
run code of the sender's choice there. So values are a JSON text and raw numbers, and everything is
checked when it is read. What has no place in an answer keeps the name of its type alone: no more is
told of it.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from advlearn._bounded import parse_json
from advlearn.course.grading.calling import Calls
from advlearn.course.grading.evidence import Args, copy_arguments

MOST_BYTES = 50_000_000
"""Of one message. The largest result of an exercise has some thousand numbers."""

_MOST_ITEMS = 1_000  # of a list or a tuple; of a longer one only the length is told
_MOST_LENGTH = 10_000_000
_MOST_LETTERS = 2_000
_MOST_BITS = 100_000
_DEEPEST = 8
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8,
        torch.int8, torch.int16, torch.int32, torch.int64, torch.complex64, torch.complex128,
    )
}  # fmt: skip
_LAYOUTS = {"sparse_coo": torch.sparse_coo, "strided": torch.strided}


class WireError(ValueError):
    """What arrived is not what `pack` writes."""


class _Writer:
    """Turns values into JSON, with the numbers of tensors beside it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def value(self, value: object, depth: int = 0) -> list[Any]:  # noqa: PLR0911 - one a kind
        kind = type(value)
        if value is None or value is ...:
            return ["none" if value is None else "ellipsis"]
        if kind is bool or kind is float:
            return [kind.__name__, value if kind is bool else repr(value)]
        if kind is int:
            number = cast(int, value)
            return (
                ["int", hex(number)] if number.bit_length() <= _MOST_BITS else ["other", "int", ""]
            )
        if kind is str:
            return ["str", cast(str, value)[:_MOST_LETTERS]]
        if kind in (tuple, list) and depth < _DEEPEST:
            items = cast("Sequence[object]", value)
            if len(items) > _MOST_ITEMS:
                return ["long", kind.__name__, min(len(items), _MOST_LENGTH)]
            return [kind.__name__, [self.value(item, depth + 1) for item in items]]
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, tuple) and len(value) <= _MOST_ITEMS and depth < _DEEPEST:
            # A named tuple, such as what `max(dim=1)` gives.
            own = kind.__name__ if kind.__module__ == "torch.return_types" else ""
            return ["named", own, [self.value(item, depth + 1) for item in value]]
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
            plain = np.ascontiguousarray(value)
            if plain.nbytes <= MOST_BYTES // 4:
                scalar = isinstance(value, np.generic)
                return [
                    "numpy",
                    plain.dtype.str,
                    list(plain.shape),
                    scalar,
                    self._add(plain.tobytes()),
                ]
        return ["other", kind.__name__[:80], str(kind.__module__)[:80]]

    def _tensor(self, value: Tensor) -> list[Any]:
        shape, dtype = [int(n) for n in value.shape], str(value.dtype).removeprefix("torch.")
        layout = str(value.layout).removeprefix("torch.")
        head = ["tensor", dtype, shape, bool(value.requires_grad)]
        if value.is_meta or value.is_quantized or layout != "strided" or dtype not in _DTYPES:
            place = "meta" if value.is_meta else layout if layout in _LAYOUTS else "sparse_coo"
            return [*head, place, None]
        if value.numel() * value.element_size() > MOST_BYTES // 4:
            return [*head, "strided", None]  # its shape tells enough
        plain = torch.empty(
            value.numel(), dtype=value.dtype
        )  # an expanded one has no bytes to view
        plain.copy_(value.detach().reshape(-1))
        raw = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        return [*head, "strided", self._add(raw)]

    def _add(self, raw: bytes) -> list[int]:
        if self.size + len(raw) > MOST_BYTES // 2:
            raise WireError("the results are larger than any right one")
        place = [self.size, len(raw)]
        self.parts.append(raw)
        self.size += len(raw)
        return place

    def module(self, model: nn.Module) -> list[Any]:
        parameters = [
            [name, self._tensor(p), None if p.grad is None else self._tensor(p.grad)]
            for name, p in model.named_parameters()
        ]
        buffers = [[name, self._tensor(buffer)] for name, buffer in model.named_buffers()]
        return ["module", parameters, buffers, [bool(m.training) for m in model.modules()]]

    def argument(self, value: object) -> list[Any]:
        if isinstance(value, nn.Module):
            return self.module(value)
        return self._tensor(value) if isinstance(value, Tensor) else ["same"]


def pack(calls: Calls) -> bytes:
    """Write down what came of calling an answer.

    Example:
        >>> unpack(pack(Calls(outputs=[torch.ones(2)], given=[(1,)])), [(1,)]).outputs
        [tensor([1., 1.])]
    """
    writer = _Writer()
    told = asdict(Calls(**{**vars(calls), "given": [], "outputs": [], "slopes": []}))
    told["outputs"] = [writer.value(output) for output in calls.outputs]
    told["given"] = [[writer.argument(value) for value in args] for args in calls.given]
    told["slopes"] = [writer.value(slope) for slope in calls.slopes]
    for name in ("problem", "error", "printed"):
        told[name] = told[name][:20_000]
    text = json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(writer.parts)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def value(self, told: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one for each kind
        if not isinstance(told, list) or not told or depth > _DEEPEST + 1:
            raise WireError("not a value")
        kind, *rest = told
        if kind in {"none", "ellipsis"}:
            return None if kind == "none" else ...
        if kind == "bool":
            return bool(rest[0])
        if kind == "float":
            return float(_text(rest[0], 40))
        if kind == "int":
            return int(_text(rest[0], _MOST_BITS), 16)
        if kind == "str":
            return _text(rest[0], _MOST_LETTERS)
        if kind == "long":
            made: list[None] = [None] * _count(rest[1], _MOST_LENGTH)
            return tuple(made) if rest[0] == "tuple" else made
        if kind in {"tuple", "list"}:
            items = [self.value(item, depth + 1) for item in _list(rest[0], _MOST_ITEMS)]
            return tuple(items) if kind == "tuple" else items
        if kind == "named":
            items = [self.value(item, depth + 1) for item in _list(rest[1], _MOST_ITEMS)]
            own = vars(torch.return_types).get(_text(rest[0], 80))
            return own(items) if isinstance(own, type) and issubclass(own, tuple) else tuple(items)
        if kind == "tensor":
            return self.tensor(told)
        if kind == "numpy":
            return self._array(rest)
        if kind == "other":
            name, module = _text(rest[0], 80), _text(rest[1], 80)
            return type(name or "object", (), {"__module__": module})()
        raise WireError("a value of an unknown kind")

    def tensor(self, told: Any) -> Tensor:
        _, dtype, shape, attached, place, where = _list(told, 6)
        if dtype not in _DTYPES and place == "strided":
            raise WireError("a tensor of an unknown dtype")
        sizes = [_count(n, 2**50) for n in _list(shape, 64)]
        kind = _DTYPES.get(dtype, torch.float32)
        if place == "meta":
            return torch.empty(sizes, dtype=kind, device="meta")
        if place != "strided":
            return torch.empty(sizes, dtype=kind, layout=torch.sparse_coo)
        if where is None:
            made = torch.zeros((), dtype=kind).expand(sizes)
        else:
            raw = self._raw(where)
            if len(raw) != math.prod(sizes) * kind.itemsize:
                raise WireError("a tensor of another size than its shape says")
            flat = torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(0)
            made = (flat.view(kind) if raw else torch.empty(0, dtype=kind)).reshape(sizes)
        if attached and (made.is_floating_point() or made.is_complex()):
            made.requires_grad_()
        return made

    def _array(self, rest: list[Any]) -> Any:
        code, shape, scalar, where = _list(rest, 4)
        dtype = np.dtype(_text(code, 8))
        if dtype.kind not in "biuf":
            raise WireError("an array of an unknown dtype")
        sizes = [_count(n, 2**40) for n in _list(shape, 32)]
        raw = self._raw(where)
        if len(raw) != math.prod(sizes) * dtype.itemsize:
            raise WireError("an array of another size than its shape says")
        made = np.frombuffer(raw, dtype=dtype).reshape(sizes).copy()
        return made[()] if scalar else made

    def _raw(self, where: Any) -> bytes:
        start, length = (_count(n, len(self.content)) for n in _list(where, 2))
        raw = self.content[start : start + length]
        if len(raw) != length:
            raise WireError("a tensor that lies outside the message")
        return raw

    def slope(self, told: Any) -> list[Tensor] | None:
        """Return the gradients of a result, detached tensors of numbers."""
        if told == ["none"]:
            return None
        _, parts = _list(told, 2)
        found = [self.tensor(part) for part in _list(parts, _MOST_ITEMS)]
        if not all(
            part.is_floating_point() and part.layout == torch.strided and not part.is_meta
            for part in found
        ):
            raise WireError("not a list of gradients")
        return found

    def argument(self, told: Any, value: Any) -> Any:
        """Return an argument as a call has left it, made of a copy of what it was."""
        if isinstance(value, Tensor) and _list(told, 6)[0] == "tensor":
            return self.tensor(told)
        if isinstance(value, nn.Module) and _list(told, 4)[0] == "module":
            self._module(told, value)
        return value

    def _module(self, told: Any, model: nn.Module) -> None:
        _, parameters, buffers, training = told
        own = dict(model.named_parameters())
        if [part[0] for part in _list(parameters, 10_000)] != list(own) or len(
            _list(training, 10_000)
        ) != len(list(model.modules())):
            # Which weights it has now does not matter: they are not those it had.
            model.register_parameter("changed", nn.Parameter(torch.zeros(1)))
            return
        for name, value, grad in parameters:
            own[name].data = self.tensor(value).detach()
            own[name].grad = None if grad is None else self.tensor(grad).detach()
            own[name].requires_grad_(bool(value[3]))
        held = dict(model.named_buffers())
        for name, value in _list(buffers, 10_000):
            if name in held:
                held[name].data = self.tensor(value)
        for module, mode in zip(model.modules(), training, strict=True):
            module.training = bool(mode)


def unpack(content: bytes, inputs: Sequence[Args]) -> Calls:
    """Read what `pack` wrote.

    Args:
        content: what arrived; it is not trusted.
        inputs: the arguments that the answer was called with, of which copies become what the
            calls have left.

    Raises:
        WireError: it is not what `pack` writes.
    """
    try:
        (length,) = struct.unpack_from("<Q", content)
        told = parse_json(content[8 : 8 + length])
        reader = _Reader(content[8 + length :])
        outputs = [reader.value(one) for one in _list(told["outputs"], len(inputs) + 1)]
        given = []
        for args, left in zip(
            (*inputs, inputs[0]), _list(told["given"], len(inputs) + 1), strict=False
        ):
            copies = copy_arguments(args)
            parts = _list(left, len(args))
            given.append(
                tuple(reader.argument(part, own) for part, own in zip(parts, copies, strict=True))
            )
        if len(given) != len(outputs):
            raise WireError("another number of results than of calls")
        place = told["place"]
        return Calls(
            problem=_text(told["problem"], 20_000),
            given=given,
            outputs=outputs,
            error=_text(told["error"], 20_000),
            shows_input=bool(told["shows_input"]),
            is_stub=bool(told["is_stub"]),
            replaced=[_text(name, 200) for name in _list(told["replaced"], 1_000)],
            finished=[_text(name, 200) for name in _list(told["finished"], 1_000)],
            named=[_text(name, 200) for name in _list(told["named"], 1_000)],
            slopes=[reader.slope(one) for one in _list(told["slopes"], len(inputs))],
            timed_out=bool(told["timed_out"]),
            waited=bool(told["waited"]),
            flooded=bool(told["flooded"]),
            abandoned=bool(told["abandoned"]),
            printed=_text(told["printed"], 20_000),
            place=None if place is None else (_count(place[0], 10**7), _text(place[1], 20_000)),
        )
    except WireError:
        raise
    except Exception as error:  # whatever a forged message makes of it
        raise WireError(f"the message is not whole ({type(error).__name__})") from error


def _text(value: Any, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise WireError("not a text of a sane length")
    return value


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise WireError("not a list of a sane length")
    return value


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise WireError("not a count")
    return value
