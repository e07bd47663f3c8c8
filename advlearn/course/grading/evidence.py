"""What an answer received, returned and changed: read, compared, described in words."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import numbers
import operator
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

Args: TypeAlias = tuple[Any, ...]


_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"
)  # fmt: skip


class Untidy(NamedTuple):
    """Something to tidy in an answer whose result may well be right.

    Attributes:
        kind: "detached", "slope", "model" (its `.grad`), "weights" (all else of it), "inputs",
            "inputs' switches", "dtype", "tensor" or "names".
        text: What to tell the learner.
    """

    kind: str
    text: str


ATTACHED = (
    "Your result is still attached to the autograd graph. Whoever uses it drags the whole "
    "computation along. Return it with `.detach()`."
)
ARRAY = (
    "Your result is a NumPy array, where PyTorch goes on with a tensor. `torch.from_numpy(result)` "
    "makes one of it; `.numpy()` may not be needed at all."
)
NO_SLOPE = (
    "The values are right, but no gradient passes through them, and whoever uses this loss follows "
    "its gradient. Leave out `.detach()`, `.item()`, `.tolist()`, NumPy, `torch.no_grad()`, and "
    "`torch.tensor` around results."
)
BROKEN_SLOPE = (
    "The values are right, but their gradient is nan or inf, and whoever uses this loss follows "
    "its gradient. Both branches of `torch.where` count in it, also the one that is not taken: "
    "clamp before `exp`, `log` or a division."
)
WRONG_SLOPE = (
    "The values are right, but not their gradient, and whoever uses this loss follows it. A part "
    "of the result is detached, or a plain number, so that its share of the gradient is missing."
)
INPUT_CHANGED = (
    "Your function changes an input that it was given. The caller still needs it. "
    "Methods that end in an underscore, such as `add_`, work in place, and so do `+=` and "
    "`x[...] = ...`: take a copy first, `x.clone()`."
)
GRADIENT_SWITCHED_ON = (
    "Your function switches on gradients for an input that belongs to the caller. "
    "Work on a copy: `{0} = {0}.clone().detach().requires_grad_(True)`."
)
GRADIENTS_LEFT = (
    "Your function changes the `.grad` of the model's parameters. `loss.backward()` writes there "
    "and `model.zero_grad()` clears it, and the next training step would use it. "
    "`torch.autograd.grad(loss, x)` gives the gradient with respect to x alone."
)
MODE_CHANGED = (
    "Your function leaves the model in another mode. It was handed over in evaluation mode: "
    "`model.train()` switches dropout and batch statistics on."
)
WEIGHTS_CHANGED = "Your function changes the model itself. An attack only reads it."
RANDOM = (
    "Called twice with the same arguments, your function gives two different results. "
    "It uses random numbers, or it keeps something from one call to the next."
)
NOT_FINITE = "Your result holds nan or inf where a finite number is expected."
NO_RETURN = "Your function returns None. Is a `return` missing?"


def call_problem(answer: object, name: str, names: tuple[str, ...]) -> str | None:
    """Say why `answer` cannot be called with these arguments, or return None if it can."""
    if not callable(answer):
        return f"The check needs the function itself, without parentheses: ex.{name}.check({name})."
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # some built-in functions have none
        return None
    parameters = tuple(signature.parameters)
    if sorted(parameters) == sorted(names) and parameters != names:
        return f"The arguments come in the order ({', '.join(names)})."
    try:
        signature.bind(*names)
    except TypeError:
        return (
            f"{name} is called with {len(names)} arguments, ({', '.join(names)}). "
            f"Yours takes ({', '.join(parameters)})."
        )
    return None


def copy_arguments(args: Args) -> Args:
    """Copy the arguments deeply, the `.grad` of a model's parameters included."""
    copies = copy.deepcopy(args)
    for old, new in zip(args, copies, strict=True):
        if isinstance(old, nn.Module):
            for p, q in zip(old.parameters(), new.parameters(), strict=True):
                q.grad = None if p.grad is None else p.grad.clone()
    return copies


def side_effects(before: Args, after: Args, names: tuple[str, ...]) -> Iterator[Untidy]:
    """Give everything that a call changed in its arguments."""
    for old, new, name in zip(before, after, names, strict=True):
        if isinstance(old, nn.Module):
            yield from _module_effects(old, new)
        elif isinstance(old, Tensor):
            # nan counts as unchanged where it was nan before.
            if old.shape != new.shape or not bool((old.eq(new) | old.ne(old) & new.ne(new)).all()):
                yield Untidy(
                    "inputs", f"{INPUT_CHANGED} After the call `{name}` is not what it was."
                )
            if new.requires_grad and not old.requires_grad:
                yield Untidy("inputs' switches", GRADIENT_SWITCHED_ON.format(name))


def _module_effects(old: nn.Module, new: nn.Module) -> Iterator[Untidy]:
    before, after = dict(old.named_parameters()), dict(new.named_parameters())
    if before.keys() != after.keys():
        yield Untidy("weights", WEIGHTS_CHANGED)
        return
    if not all(_same_gradient(p.grad, after[name].grad) for name, p in before.items()):
        yield Untidy("model", GRADIENTS_LEFT)
    if [m.training for m in old.modules()] != [m.training for m in new.modules()]:
        yield Untidy("weights", MODE_CHANGED)
    if any(p.requires_grad != after[name].requires_grad for name, p in before.items()):
        text = f"{WEIGHTS_CHANGED} You left `requires_grad` of its parameters changed."
        yield Untidy("weights", text)
    now = new.state_dict()
    if not all(torch.equal(value, now[key]) for key, value in old.state_dict().items()):
        text = f"{WEIGHTS_CHANGED} Its weights or its batch statistics are not what they were."
        yield Untidy("weights", text)


def in_torch(output: Any, like: object) -> Any:
    """Return an output with tensors in place of NumPy arrays, where tensors are expected.

    Example:
        >>> in_torch((np.array([1.0, 2.0]), 3), (torch.zeros(2), 0))
        (tensor([1., 2.], dtype=torch.float64), 3)
    """
    if isinstance(output, tuple | list) and isinstance(like, tuple | list):
        if len(output) != len(like):
            return output
        parts = [in_torch(own, right) for own, right in zip(output, like, strict=True)]
        return output if all(map(operator.is_, parts, output)) else tuple(parts)
    if isinstance(output, np.ndarray) and isinstance(like, Tensor) and output.dtype.kind in "biuf":
        with suppress(TypeError):  # PyTorch lacks some of NumPy's types
            return torch.from_numpy(output.copy())
    return output


def is_attached(output: object) -> bool:
    """Tell whether a result, or one of several, hangs on the autograd graph."""
    parts = output if isinstance(output, tuple | list) else (output,)
    return any(isinstance(part, Tensor) and part.requires_grad for part in parts)


def _same_gradient(before: Tensor | None, after: Tensor | None) -> bool:
    if before is None or after is None:
        return before is after
    return torch.equal(before, after)


def wrong_slope(slope: list[Tensor] | None, expected: Sequence[Tensor]) -> str | None:
    """Say what is wrong with the gradient of a result, or return None if nothing is.

    Args:
        slope: as `calling.slope_of` gives it.
        expected: the right gradients, one for each floating argument, (N, ...) each.

    Example:
        >>> wrong_slope([torch.tensor([[1.0, 0.0]])], [torch.tensor([[1.001, 0.0]])]) is None
        True
        >>> wrong_slope(None, [torch.ones(1, 2)]) == NO_SLOPE
        True
    """
    if slope is None or [part.shape for part in slope] != [part.shape for part in expected]:
        return NO_SLOPE
    for own, right in zip(slope, expected, strict=True):
        if not bool(own.isfinite().all()):
            return BROKEN_SLOPE
        # A hundredth of an example's largest entry: other ways to compute it round otherwise. Where
        # its gradient is 0, a little of the whole input's: there rounding is all that is left.
        largest = right.abs().flatten(1).amax(1).reshape(-1, *[1] * (right.dim() - 1))
        if bool(((own - right).abs() > 0.01 * largest + 1e-4 * largest.max() + 1e-30).any()):
            return WRONG_SLOPE
    return None


def read(output: object, like: object) -> list[Tensor] | str:
    """Read the values of an output in the form of the reference's, or say why that fails.

    The dtype does not count here: `wrong_dtype` looks at it where the task asks for one.

    Args:
        output: What a function returned.
        like: What the reference returned: a number, a tensor, or a tuple of these.

    Returns:
        One float64 tensor for each number and each tensor, or what is wrong with the form. A tuple
        may come as a list, or stacked in one tensor, a tensor as a NumPy array, and a number as a
        tensor with one element.
        True and False are numbers only where the reference gives 1 or 0.

    Example:
        >>> read([torch.tensor([1, 0]), torch.tensor(0.5)], (torch.zeros(2), 0.25))
        [tensor([1., 0.], dtype=torch.float64), tensor(0.5000, dtype=torch.float64)]
        >>> read(torch.tensor([1, 2]), (1.0, 2.0))
        [tensor(1., dtype=torch.float64), tensor(2., dtype=torch.float64)]
        >>> read(torch.zeros(3), torch.zeros(2))
        'Your result has shape (3,). Expected is (2,).'
    """
    if isinstance(like, tuple | list):
        return _read_tuple(output, tuple(like))
    a_number = isinstance(output, numbers.Real) and not isinstance(output, bool)
    if isinstance(like, Tensor) and not (like.ndim == 0 and a_number):
        return _read_tensor(output, like)
    if isinstance(output, Tensor) and output.numel() == 1 and _is_plain(output):
        if output.dtype != torch.bool:
            return [output.detach().cpu().reshape(()).double()]
        output = bool(output)
    if isinstance(output, np.ndarray) and output.ndim == 0:
        output = output.item()
    if isinstance(output, bool | np.bool_):
        is_number = isinstance(like, int | float) and like in (0, 1)
    else:
        is_number = isinstance(output, numbers.Real)
    if is_number:
        try:
            return [torch.tensor(float(output), dtype=torch.float64)]  # type: ignore[arg-type]
        except OverflowError:
            return "One of your values is too large to be a float."
    return f"Your result is {_article(output)}. Expected is a single number."


def _values_and_places(output: object) -> str | None:
    """Say what `.max(dim=1)` and its like return, if an output is that, or return None."""
    name = type(output).__name__
    if type(output).__module__ != "torch.return_types" or not hasattr(output, "indices"):
        return None
    return (
        f"`{name}` along a dimension gives two tensors: the values, and where they are. Take the "
        f"values: `.{name}(...).values`."
    )


def _is_plain(output: Tensor) -> bool:
    """Tell whether a tensor holds real numbers that can be read: dense, and not without content."""
    readable = output.layout == torch.strided and not output.is_meta and not output.is_quantized
    return readable and not output.is_complex()


def _read_tuple(output: object, like: Args) -> list[Tensor] | str:
    numbers_wanted = all(isinstance(one, int | float) for one in like)
    in_one = isinstance(output, Tensor | np.ndarray) and output.ndim == 1
    if numbers_wanted and in_one and len(output) == len(like):  # type: ignore[arg-type]
        output = output.tolist()  # type: ignore[attr-defined]
    if isinstance(output, Tensor) and _is_stacked(output, like):
        output = output.unbind()
    if not isinstance(output, tuple | list):
        return f"Your function returns {_article(output)}. Expected are {len(like)} values."
    if len(output) != len(like):
        return f"Your function returns {len(output)} values. Expected are {len(like)}."
    tensors: list[Tensor] = []
    for place, (value, expected) in enumerate(zip(output, like, strict=True)):
        part = read(value, expected)
        if isinstance(part, str):
            turned = map(read, output[::-1], like)
            if len(like) == 2 and not any(isinstance(one, str) for one in turned):
                return "Your two results are swapped: each has the shape of the other one."
            # Which of them it is: another may have just the shape that is expected here.
            which = f"Your {ordinal(place)} result"
            part = part.replace("Your result", which, 1)
            return part.replace("Your function returns", f"{which} is", 1)
        tensors += part
    return tensors


def ordinal(place: int) -> str:
    """Return the word for a place, counted from 0.

    Example:
        >>> ordinal(0), ordinal(9), ordinal(10)
        ('first', 'tenth', '11th')
    """
    return _ORDINALS[place] if place < len(_ORDINALS) else f"{place + 1}th"


def _is_stacked(output: Tensor, like: Args) -> bool:
    """Tell whether `a, b = output` gives tensors of the shapes that are expected."""
    return (
        output.layout == torch.strided
        and output.ndim > 0
        and len(output) == len(like)
        and all(isinstance(one, Tensor) and one.shape == output.shape[1:] for one in like)
    )


def _read_tensor(output: object, like: Tensor) -> list[Tensor] | str:
    output = in_torch(output, like)
    if not isinstance(output, Tensor):
        expected = f"Expected is a tensor of shape {shape(like)}."
        if (pair := _values_and_places(output)) is not None:
            return f"{pair} {expected}"
        remedy = " Stay in torch." if type(output).__module__ == "numpy" else ""
        return f"Your function returns {_article(output)}. {expected}{remedy}"
    if output.layout != torch.strided or output.device != like.device:
        return f"Your tensor must be dense and on the device {like.device}, like the input."
    if output.shape != like.shape:
        return f"Your result has shape {shape(output)}. Expected is {shape(like)}."
    if output.is_complex():
        return wrong_dtype(output, like) or "Complex numbers cannot be compared here."
    return [output.detach().double()]


def wrong_dtype(output: object, like: object) -> str | None:
    """Say where an output has another dtype than the reference's, or return None."""
    if isinstance(output, tuple | list) and isinstance(like, tuple | list):
        problems = [wrong_dtype(a, b) for a, b in zip(output, like, strict=False)]
        return next((problem for problem in problems if problem is not None), None)
    if isinstance(output, Tensor) and isinstance(like, Tensor) and output.dtype != like.dtype:
        return f"Your result has dtype {dtype(output)}. Expected is {dtype(like)}."
    return None


def other_dtype(output: object, like: object, args: Args) -> str | None:
    """Say where an image or a gradient has another dtype than the input that it belongs to.

    Whoever hands it to the model gets an error from PyTorch.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> other_dtype(x.double(), x, (x,))
        'Your result has dtype float64. The input has float32: a model would refuse yours.'
    """
    if not (isinstance(output, Tensor) and isinstance(like, Tensor)) or output.dtype == like.dtype:
        return None
    images = [a for a in args if isinstance(a, Tensor) and a.shape == like.shape and a.ndim > 1]
    if not output.is_floating_point() or not any(image.dtype == like.dtype for image in images):
        return None
    return (
        f"Your result has dtype {dtype(output)}. The input has {dtype(like)}: a model would refuse "
        "yours."
    )


def in_form_of(like: object, values: Sequence[Tensor]) -> Any:
    """Put values, as `read`, back into the form of the reference's output.

    Example:
        >>> like = (0.25, torch.zeros(2))
        >>> in_form_of(like, read((1, torch.tensor([3, 4])), like))
        (1.0, tensor([3., 4.]))
    """
    left = iter(values)

    def rebuild(part: object) -> Any:
        if isinstance(part, tuple | list):
            return tuple(rebuild(inner) for inner in part)
        value = next(left)
        return value.to(part.dtype) if isinstance(part, Tensor) else value.item()

    return rebuild(like)


def agree(a: list[Tensor] | str, b: list[Tensor] | str, rtol: float, atol: float) -> bool:
    """Return whether two outputs, as `read`, are equal within the tolerance; nan equals nan."""
    if isinstance(a, str) or isinstance(b, str):
        return False
    return len(a) == len(b) and all(
        x.shape == y.shape and _close(x, y, rtol, atol) for x, y in zip(a, b, strict=True)
    )


def _close(x: Tensor, y: Tensor, rtol: float, atol: float) -> bool:
    if x.numel() != 1:
        return torch.equal(x, y) or torch.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True)
    one, other = x.item(), y.item()  # many times as fast as a function for tensors
    if one == other or (math.isnan(one) and math.isnan(other)):
        return True
    return math.isfinite(other) and abs(one - other) <= atol + rtol * abs(other)


def shape(value: Tensor) -> str:
    """Write a shape as Python does: (2, 3)."""
    return str(tuple(value.shape))


def dtype(value: Tensor) -> str:
    """Write a dtype without its prefix: float32."""
    return str(value.dtype).removeprefix("torch.")


def show(value: object, digits: int = 4) -> str:
    """Write an argument or a result in a few characters.

    >>> show(torch.tensor([[0.25, 1.0], [0.0, -2.0]]))
    '[[0.25, 1], [0, -2]]'
    >>> show(torch.zeros(28, 28))
    'tensor of shape (28, 28)'
    """
    if isinstance(value, Tensor):
        if value.numel() > 12 or value.layout != torch.strided or value.is_meta:
            return f"tensor of shape {shape(value)}"
        return show(value.detach().tolist(), digits)
    if isinstance(value, nn.Module):
        return _show_model(value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value + 0.0:.{digits}g}"  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, list | tuple) and len(value) <= 12:
        inside = ", ".join(show(item, digits) for item in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    short = value is None or isinstance(value, float)  # nan and inf
    short = short or (isinstance(value, int) and abs(value) < 10**15)
    short = short or (isinstance(value, str) and len(value) < 40)
    return repr(value) if short else _article(value)  # a repr may be huge, or raise


def contrast(output: object, expected: object, rtol: float, atol: float) -> tuple[str, str]:
    """Write a wrong output and the expected one so that the difference is seen."""
    if not (isinstance(output, Tensor) and isinstance(expected, Tensor) and expected.numel() > 12):
        digits = 4 if show(output) != show(expected) else 8
        return show(output, digits), show(expected, digits)
    if output.shape != expected.shape:
        return show(output), show(expected)
    values, right = output.detach().double(), expected.double()
    near = torch.isclose(values, right, rtol, atol, equal_nan=True)
    index = (~near).nonzero()
    if len(index) == 0:
        return show(output), show(expected)
    at = tuple(index[0].tolist())
    a, b = values[at].item(), right[at].item()
    digits = 4 if show(a) != show(b) else 8
    where = f"at {list(at)}: "
    return where + show(a, digits), where + show(b, digits)


def _show_model(model: nn.Module) -> str:
    if isinstance(model, nn.ModuleList):
        return f"a list of {len(model)} model{'s' * (len(model) != 1)}"
    layers = [type(m).__name__ for m in model.modules() if not list(m.children())]
    return f"a small network ({', '.join(layers)})"


def _article(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {shape(value)}"
    names = {
        "NoneType": "None",
        "ellipsis": "`...`",
        "ndarray": "a NumPy array",
        "str": "a text",
        "type": "a class",
        "generator": "a generator (`yield` in place of `return`?)",
        "coroutine": "a coroutine (remove `async`)",
    }
    name = type(value).__name__
    return names.get(name, f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}")


# A pattern of the message that PyTorch and Python give for frequent mistakes, and what to do.
_REMEDIES = (
    (
        "Boolean value of Tensor",
        "`if`, `and` and `or` need one true or false, and a tensor holds many. Compare the whole "
        "tensor, and choose with `torch.where` or a mask; `&` and `|` join two comparisons.",
    ),
    ("ellipsis", "There is still a `...` in your code. Put your own expression in its place."),
    ("'NoneType' object", "Something is None: a `.grad` that was never computed, or no `return`."),
    ("'tuple' object has no attribute", "It is a tuple: take its part, such as `result[0]`."),
    (
        "does not require grad",
        "Autograd did not watch the input. Work on `x.clone().requires_grad_()`, and compute the "
        "loss from that.",
    ),
    (
        "flags of leaf variables",
        "This tensor is the result of a computation that autograd follows. In each round begin "
        "anew: `x = x.detach().requires_grad_(True)`.",
    ),
    (
        "used in an in-place operation",
        "A tensor with `requires_grad` may not be changed in place. Make a new one: "
        "`x = x + step`, not `x += step`.",
    ),
    (
        "backward through the graph a second time",
        "The graph of a loss is used up by one gradient. Compute the loss again before the next.",
    ),
    (
        "not have been used in the graph",
        "The loss was not computed from this tensor. Give the model the very tensor whose gradient "
        "you ask for.",
    ),
    (
        "only for scalar outputs",
        "A gradient is taken of one number. Add up the losses of all images first: `.sum()`.",
    ),
    (
        "must have the same dtype",
        "Two kinds of numbers meet, as float32 and float64. Keep the kind that came in: "
        "`torch.zeros_like(x)` does, `.float()` and `torch.zeros(x.shape)` may not.",
    ),
    (
        "multi-target not supported",
        "Labels have the shape (N,): one whole number for each image.",
    ),
    (
        "out of bounds for dimension",
        "There is no such place: with n of them, they are counted from 0 to n - 1. If the index "
        "holds labels: one entry of each row is `A[torch.arange(len(y)), y]`.",
    ),
    (
        "index -",
        "A negative place counts from the end: -1 is the last one. A walk to the left must stop at "
        "place 0.",
    ),
    (
        "list index out of range",
        "There is no such place: with n of them, they are counted from 0 to n - 1.",
    ),
    (
        "mat1 and mat2 shapes cannot be multiplied",
        "In a product `A @ B` the rows of A are as long as the columns of B. With x of shape (N, "
        "d) that is `x @ w` for w of shape (d,), and `x @ W.T` for W of shape (K, d).",
    ),
    (
        "Dimension out of range",
        "The tensor has fewer dimensions here. `flatten(1)` makes one row of each example, "
        "whatever its shape, and `dim=-1` is the last dimension.",
    ),
    (
        "division by zero",
        "You divide by a number that is 0 on this input. Does the task say to divide by it? If "
        "there is nothing to count, it says what is due then.",
    ),
    (
        r"Expected reduction dim to be specified for input\.numel\(\) == 0",
        "There is nothing to take the largest of: the tensor is empty on this input. Does the task "
        "say what is due then?",
    ),
    (
        "two bool tensors is not supported",
        "True and false cannot be subtracted. Turn them into 1 and 0 first: `.float()`, or "
        "`.to(x.dtype)`. `^` gives true and false again.",
    ),
    (
        r"softmax\w*\" not implemented for 'Long'",
        "A softmax is taken of logits, and here it is given whole numbers. If these are the "
        "labels: the order is `cross_entropy(logits, y)`.",
    ),
    ("floating point or complex", "`.float()` turns whole numbers, true and false into floats."),
    ("not implemented for 'Bool'", "`.float()` turns true and false into 1 and 0."),
    (r"^(?!.*softmax).*not implemented for 'Long'", "`.float()` turns whole numbers into floats."),
)


_SIZES = re.compile(
    r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at [^\d]*dimension (\d+)"
)


def _column_tip(args: Args, a: int, b: int, place: int) -> str | None:
    """Say how the rows of two tables meet, or a number for each example and a row for each.

    The tables have rows of one length, and different numbers of them. Of the other two, one size is
    the number of examples N and the other one the length of a row, in the last dimension of a table
    or a batch of images.
    """
    tables = [arg for arg in args if isinstance(arg, Tensor) and arg.ndim == 2]
    for one, other in itertools.combinations(tables, 2):
        rows = {len(one), len(other)}
        if place == 0 and {a, b} == rows and len(rows) == 2 and one.shape[1] == other.shape[1]:
            return (
                "Every row of one table is to meet every row of the other: `u @ v.T` gives the dot "
                f"products, ({a}, {b}), and `u[:, None] - v` the differences, "
                f"({a}, {b}, {one.shape[1]})."
            )
    for arg in args:
        if not isinstance(arg, Tensor) or arg.ndim < 2:
            continue
        count, length = arg.shape[0], arg.shape[-1]
        if {a, b} == {count, length} and place in (0, arg.ndim - 1):
            if arg.ndim == 2:
                column = "`v[:, None]` turns a vector v of shape (N,) into a column (N, 1)."
                if any(_is_labels(other, count) for other in args):
                    column += (
                        " Or are labels compared with logits? Then take `argmax(dim=1)` first."
                    )
                elif place == 0 and any(_is_vector(other, length) for other in args):
                    column += f" Or is a sum over the {length} entries of a vector missing?"
                return column
            ones = ", ".join("1" * (arg.ndim - 1))
            return (
                f"`v.view(-1, {ones})` gives one number for each image, v of shape (N,), its place."
            )
    return None


def _is_labels(value: object, count: int) -> bool:
    return _is_vector(value, count) and getattr(value, "dtype", None) == torch.int64


def _is_vector(value: object, length: int) -> bool:
    return isinstance(value, Tensor) and value.shape == (length,)


def describe_error(error: BaseException, args: Args = ()) -> str:
    """Describe an exception, with a remedy for the frequent ones.

    Args:
        error: What a function raised.
        args: What it had been given: some remedies fit certain shapes only.
    """
    try:
        message = " ".join(str(error).split())
    except Exception:  # its __str__ raises too
        message = ""
    text = type(error).__name__ + (f": {textwrap.shorten(message, 300)}" if message else "")
    if isinstance(error, RecursionError):
        text += "\nYour function calls itself without end."
    if isinstance(error, SystemExit | KeyboardInterrupt):
        text += "\nA function should return its result, not end the program."
    if isinstance(error, RuntimeError) and (sizes := _SIZES.search(message)):
        text += "\nThe shapes of two tensors do not fit together."
        if tip := _column_tip(args, *map(int, sizes.groups())):
            text += f" {tip}"
    text += "".join(f"\n{remedy}" for symptom, remedy in _REMEDIES if re.search(symptom, message))
    return text
