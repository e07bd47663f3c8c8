"""Products of bfloat16 tensors on a processor that has no hardware for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
PRODUCTS = frozenset(
    {
        _aten.mm.default,
        _aten.addmm.default,
        _aten.bmm.default,
        _aten.baddbmm.default,
        _aten.convolution.default,
        _aten.convolution_backward.default,
        # Without gradients they arrive whole.
        _aten.linear.default,
        _aten.matmul.default,
        _aten.conv1d.default,
        _aten.conv2d.default,
        _aten.conv3d.default,
    }
)
"""The operations that hardware for bfloat16 is for."""

_IN_HARDWARE = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "avx10_1")


@cache
def in_hardware() -> bool | None:
    """Tell whether this processor multiplies bfloat16; None where PyTorch does not say.

    PyTorch 2.14 has a function that says it, older ones need not have it. Nothing is said of
    processors other than x86-64: what they lose without the hardware was not measured.
    """
    ask: Callable[[], Mapping[str, Any]] | None = getattr(torch.cpu, "get_capabilities", None)
    able = {} if ask is None else ask()
    if able.get("architecture") != "x86_64":
        return None
    return any(able.get(name, False) for name in _IN_HARDWARE)


class Products(TorchDispatchMode):
    """A context in which products of bfloat16 tensors are summed by float32's instructions.

    The product of two numbers of 8 bits has 16 and is exact in float32; the sum is taken in float32
    and rounded to bfloat16 once. Hardware for bfloat16 does the same, in another order. Without it
    PyTorch's own kernels take several times as long: `benchmarks/precision.py`.

    Example:
        >>> a, b = torch.randn(2, 64, 64).bfloat16()
        >>> with Products():
        ...     c = a @ b
        >>> c.dtype, bool((c == (a.float() @ b.float()).bfloat16()).all())
        (torch.bfloat16, True)
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in PRODUCTS or not all(map(_is_meant, args)):
            return func(*args, **kwargs)
        result = func(*map(_wide, args), **kwargs)
        return tuple(map(_narrow, result)) if isinstance(result, tuple) else _narrow(result)


def _is_meant(value: Any) -> bool:
    """Tell whether an argument is a bfloat16 tensor of the processor, or none at all."""
    if not isinstance(value, Tensor):
        return True
    return value.dtype == torch.bfloat16 and value.device.type == "cpu"


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value


def _narrow(value: Any) -> Any:
    return value.bfloat16() if isinstance(value, Tensor) else value
