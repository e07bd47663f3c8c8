"""One checker per kind of argument.

Every checker raises before any work is done, and its message names the argument, the value that
came, and what to pass instead. `TypeError` is for the wrong kind of thing (a list, integer
pixels), `ValueError` for the right kind with a wrong value (eps = -1, a label of 12).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import is_tensor_like

# Pixels that come out of a resize or a division may pass the bounds by a rounding error.
_BOUNDS_SLACK = 1e-6


def _kind(value: object) -> str:
    """Say in words what a value is, without printing a whole tensor."""
    if isinstance(value, (tuple, list)) and any(isinstance(part, Tensor) for part in value):
        parts = (_kind(part) if isinstance(part, Tensor) else type(part).__name__ for part in value)
        return f"a {type(value).__name__} of {', '.join(parts):.200}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(repr, value)):.200}"
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{type(value).__name__} of {value.dtype}, shape {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r:.60}"


def check_bounds(bounds: Any) -> tuple[float, float] | None:
    """Return `bounds` as (low, high) floats, or None for the unclipped setting."""
    if bounds is None:
        return None
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        raise TypeError(
            f"bounds must be Bounds(low, high) or None, got {_kind(bounds)}. "
            "Pass Bounds(0.0, 1.0) for ordinary images, None for the unclipped setting."
        )
    if any(isinstance(end, bool) or not isinstance(end, Real) for end in bounds):
        raise TypeError(f"bounds must be two numbers, got {bounds!r:.60}. Pass Bounds(0.0, 1.0).")
    low, high = (float(end) for end in bounds)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"bounds must be finite with low < high, got ({low}, {high}). "
            "Pass Bounds(0.0, 1.0) for ordinary images, None for the unclipped setting."
        )
    return low, high


def check_images(x: Any, bounds: tuple[float, float] | None, name: str = "x") -> None:
    """Require a non-empty floating batch (N, ...), finite and inside `bounds`."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} must be a tensor of images, got {_kind(x)}. Pass torch.as_tensor(...)."
        )
    if not x.is_floating_point():
        raise TypeError(
            f"{name} must have a floating dtype, got {x.dtype}. Pixels live in [0, 1]: "
            f"use {name}.float() / 255 for 8-bit images."
        )
    if x.layout is not torch.strided or x.is_meta or x.is_nested:
        kind = "meta" if x.is_meta else "nested" if x.is_nested else x.layout
        raise TypeError(
            f"{name} must hold its pixels one by one, got a {kind} tensor. Pass "
            f"{name}.to_dense(), or images that are on a device."
        )
    if x.dim() < 2:
        raise ValueError(
            f"{name} must be a batch of shape (N, ...), got shape {tuple(x.shape)}. "
            f"Use {name}.unsqueeze(0) for one example."
        )
    if x.numel() == 0:
        raise ValueError(f"{name} is an empty batch of shape {tuple(x.shape)}. Pass images.")
    # One pass over the pixels finds NaN, infinity and the range: NaN carries through aminmax.
    try:
        smallest, largest = (float(end) for end in torch.aminmax(x.detach()))
    except (NotImplementedError, TypeError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be a dense tensor of float16, bfloat16, float32 or float64, got "
            f"{_kind(x)}, which PyTorch cannot compare. "
            f"Pass one such tensor (N, ...), for instance {name}.float()."
        ) from error
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        raise ValueError(
            f"{name} holds NaN or infinity. Look for it with torch.isfinite({name}) and mend the "
            "data before the attack."
        )
    if bounds is not None:
        slack = _BOUNDS_SLACK * (bounds[1] - bounds[0])
        if smallest < bounds[0] - slack or largest > bounds[1] + slack:
            raise ValueError(
                f"{name} has pixels in [{smallest:.4g}, {largest:.4g}], outside bounds "
                f"{bounds}. Scale the images, put normalisation into the model "
                "(advlearn.models.Normalize), or pass bounds=None for the unclipped setting."
            )


def check_labels(y: Any, count: int, name: str = "y") -> None:
    """Require int64 labels of shape (count,)."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{name} must be a tensor of labels, got {_kind(y)}.")
    if y.dtype != torch.int64:
        raise TypeError(
            f"{name} must have dtype torch.int64, got {y.dtype}. Use {name}.long(), and class "
            "indices, not one-hot rows."
        )
    if y.shape != (count,):
        raise ValueError(
            f"{name} must have shape ({count},), one label for each example, got {tuple(y.shape)}."
        )


def check_label_range(y: Tensor, classes: int, name: str = "y") -> None:
    """Require every label in [0, classes)."""
    smallest, largest = (int(end) for end in torch.aminmax(y))
    if smallest < 0 or largest >= classes:
        wrong = smallest if smallest < 0 else largest
        raise ValueError(
            f"{name} holds the label {wrong}, but the model gives {classes} logits, so labels run "
            f"from 0 to {classes - 1}. Renumber the labels (advlearn.data.subset_classes does)."
        )


def logits_of(output: Any) -> Any:
    """Return the logits in what a model gives: itself, or where other libraries put them.

    An object with `.logits`, a mapping with "logits" (Hugging Face's way), or a tuple whose first
    item is (N, K), if no other item could be logits too. Anything else is left as it is, for
    `check_logits` to name.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        return output.get("logits", output)
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, (tuple, list)):
        rows = [is_tensor_like(p) and p.is_floating_point() and p.dim() == 2 for p in output]
        return output[0] if rows[:1] == [True] and sum(rows) == 1 else output
    return output


def one_logit(logits: Tensor, count: int) -> bool:
    """Say whether there is one value for each example: (N,), (N, 1), or () for one example."""
    return logits.shape in ((count,), (count, 1)) or (count == 1 and logits.dim() == 0)


_PART: ContextVar[bool] = ContextVar("part of a whole", default=False)


@contextmanager
def part_of_a_whole(count: int = 0, of: int = 1) -> Iterator[None]:
    """Ask no more whether logits are probabilities: the whole batch has shown that they are not.

    Of the few examples that an attack has left, outputs of a sigmoid may sum to 1 by chance.

    Args:
        count, of: how many examples there are now, and in the whole batch; with as many the
            question is asked.
    """
    token = _PART.set(_PART.get() or count < of)
    try:
        yield
    finally:
        _PART.reset(token)


def check_logits(logits: Any, y: Tensor, name: str = "model(x)") -> None:
    """Require floating logits (N, K), K >= 2, finite, that are not probabilities."""
    if not isinstance(logits, Tensor):
        which = repr(next(iter(logits), 0)) if isinstance(logits, Mapping) else "0"
        raise TypeError(
            f"{name} must return a tensor of logits, an object with .logits or a dict with "
            f"'logits', got {_kind(logits)}. Where it returns several tensors, pick the logits, as "
            f"in lambda x: model(x)[{which:.60}]."
        )
    if not logits.is_floating_point():
        raise TypeError(f"{name} must return floating logits, got {logits.dtype}.")
    if one_logit(logits, len(y)):
        raise ValueError(
            f"{name} must return logits of shape (N, K) = ({y.shape[0]}, 2 or more), got "
            f"{tuple(logits.shape)}, one logit for each example. For two classes, pass "
            "advlearn.models.TwoLogits(model), where the logit is that of class 1."
        )
    if logits.dim() != 2 or logits.shape[0] != y.shape[0] or logits.shape[1] < 2:
        raise ValueError(
            f"{name} must return logits of shape (N, K) = ({y.shape[0]}, 2 or more), "
            f"got {tuple(logits.shape)}."
        )
    values = logits.detach()
    smallest, largest = (float(end) for end in torch.aminmax(values))
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        raise ValueError(
            f"{name} holds NaN or infinity. The model has diverged or divides by zero: check its "
            "weights with torch.isfinite."
        )
    # Only values that could be probabilities are summed, so real logits pay one comparison.
    # Rounding takes some of them over 1, and in bfloat16 their sums further from it.
    slack = max(1e-3, float(torch.finfo(values.dtype).eps))
    could_be = smallest >= 0 and largest <= 1 + slack and not _PART.get()
    if could_be and bool(((values.float().sum(1) - 1).abs() < slack).all()):
        raise ValueError(
            f"{name} looks like probabilities: every row is in [0, 1] and sums to 1. Return the "
            "logits, before the softmax: gradients through saturated probabilities underflow."
        )


def check_eps(
    eps: Any, x: Tensor, bounds: tuple[float, float] | None, name: str = "eps"
) -> float | Tensor:
    """Return `eps` as a float, or as a tensor (N, ...) that broadcasts against `x`."""
    if isinstance(eps, bool) or not isinstance(eps, (Real, Tensor)):
        raise TypeError(
            f"{name} must be a number or a tensor, of shape (N,) or shaped to broadcast against x, "
            f"got {_kind(eps)}."
        )
    if isinstance(eps, Tensor):
        if not eps.is_floating_point():
            raise TypeError(f"{name} must have a floating dtype, got {eps.dtype}.")
        if not eps.numel():
            raise ValueError(f"{name} is empty: its shape is {tuple(eps.shape)}.")
        smallest, largest = (float(end) for end in torch.aminmax(eps.detach()))
    else:
        smallest = largest = float(eps)
    # `not >=` also catches NaN.
    if not smallest >= 0 or not math.isfinite(largest):
        raise ValueError(
            f"{name} must be finite and >= 0, got {smallest if not smallest >= 0 else largest}. "
            "It is the largest change of one pixel, in pixel units."
        )
    if bounds is not None and largest > bounds[1] - bounds[0]:
        raise ValueError(
            f"{name} = {largest:g} is more than the whole pixel range {bounds}. It is in pixel "
            f"units: write {largest:g}/255 if you mean 8-bit levels, or pass bounds=None."
        )
    return _shaped(eps, x, name, smallest < largest) if isinstance(eps, Tensor) else float(eps)


def _shaped(eps: Tensor, x: Tensor, name: str, differ: bool) -> Tensor:
    """Return eps as a scalar, or with an entry for each example, to broadcast against `x`."""
    one_each = eps.shape == x.shape[:1]
    if differ and one_each and eps.shape == x.shape[1:2]:
        raise ValueError(
            f"{name} has shape {tuple(eps.shape)}, and x {len(eps)} examples of {len(eps)} "
            f"channels: which is meant? {_reshapes(name, x)}."
        )
    shaped = eps.detach().to(dtype=x.dtype, device=x.device)
    if eps.dim() == 0:
        return shaped
    if one_each:
        return shaped.reshape(-1, *[1] * (x.dim() - 1))
    # One dimension less is PyTorch's rule for broadcasting: without that of the examples.
    fits = eps.dim() > 1 and x.dim() - eps.dim() in (0, 1)
    sizes = zip(eps.shape[::-1], x.shape[::-1], strict=False)
    if not fits or any(own not in (1, size) for own, size in sizes):
        raise ValueError(
            f"{name} must be a number, have shape ({x.shape[0]},), one value for each example, or "
            f"broadcast against x of shape {tuple(x.shape)}, got {tuple(eps.shape)}. "
            f"{_reshapes(name, x)}."
        )
    # A view, in which each example has its own entry: whoever picks examples picks these.
    return shaped.expand(len(x), *shaped.shape[-x.dim() + 1 :])


def _reshapes(name: str, x: Tensor) -> str:
    ones = ", 1" * (x.dim() - 2)
    return (
        f"One value for each example is {name}.reshape(-1, 1{ones}), one for each channel "
        f"{name}.reshape(1, -1{ones})"
    )


def check_count(value: Any, name: str, least: int = 1, most: int | None = None) -> int:
    """Require a whole number from `least` to `most`, where there is a `most`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {_kind(value)}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
    if most is not None and int(value) > most:
        raise ValueError(f"{name} must be at most {most}, got {value}.")
    return int(value)


def check_number(
    value: Any, name: str, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> float:
    """Require a finite number in [low, high], or in (low, high] with `open_low`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {_kind(value)}.")
    number = float(value)
    inside = low < number <= high if open_low else low <= number <= high
    if not (math.isfinite(number) and inside):
        raise ValueError(
            f"{name} must be finite and in {'(' if open_low else '['}{low:g}, {high:g}], "
            f"got {number:g}."
        )
    return number


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """Require one of a few choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r:.60}.")
    return str(value)


def check_pair(data: Any) -> tuple[Any, Any]:
    """Require images and labels that come together: a pair, such as a Dataset."""
    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(f"data must be a Dataset or a pair (x, y), got {type(data).__name__}.")
    return data[0], data[1]


def check_seed(value: Any, name: str = "seed") -> int:
    """Require a whole number that PyTorch takes for a seed."""
    return check_count(value, name, least=-(2**63), most=2**64 - 1)


def check_callable(value: Any, name: str, such_as: str = "a torch.nn.Module") -> None:
    """Require something that can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, such as {such_as}, got {_kind(value)}.")


def check_trainable(model: Any, name: str = "model") -> None:
    """Require a module with a parameter that an optimizer may change."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"{name} must be a torch.nn.Module, whose parameters are trained, got {_kind(model)}."
        )
    parameters = list(model.parameters())
    if not parameters:
        raise ValueError(f"{name} has no parameters, so there is nothing to train.")
    if any(map(is_lazy, parameters)):
        raise ValueError(
            f"{name} has a lazy layer that has seen no images yet. Call {name}(x) once first."
        )
    if not any(parameter.requires_grad for parameter in parameters):
        raise ValueError(
            f"no parameter of {name} requires a gradient, so nothing would be trained. Call "
            f"{name}.requires_grad_(True) first; a model of advlearn.data.reference.load is frozen."
        )
    if any(tensor.is_inference() for tensor in (*parameters, *model.buffers())):
        raise ValueError(
            f"{name} was made inside torch.inference_mode(), so it cannot be trained. Make it "
            f"outside, or pass copy.deepcopy({name}), copied outside."
        )
