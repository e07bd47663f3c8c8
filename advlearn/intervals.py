"""Interval arithmetic: what comes out of a network if each pixel may be anywhere in an interval.

An `Interval` stands in for a tensor of images. A model is called with it as with a tensor: PyTorch
hands each function that meets one over to the rule in this file, which returns bounds on all that
the function could give. So the model's own code is bounded, as it stands, whatever it is built of;
a function without a rule is refused by name, together with the layer that it stands in.

The rules are sound one by one, and so is any chain of them: the true values always lie inside. What
they lose is how entries depend on each other, so the bounds of a deep network are wide, unless it
was trained on them (`advlearn.training.certified_fit`).

Source: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably
robust models", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the name that the field uses
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

__all__ = ["Interval", "UnboundedError"]


class UnboundedError(TypeError):
    """The model does something for which there is no rule, so nothing is known about its output."""


class _Linear(NamedTuple):
    """The linear layer that an interval came out of: z = W h + b, with h in an interval."""

    inside: Interval
    weight: Tensor  # (K, d)
    bias: Tensor | None


class Interval:
    """All tensors between `lower` and `upper`, entry by entry.

    Args:
        lower, upper: floating, of one shape and dtype, lower <= upper.

    Example:
        >>> x = Interval(torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.5]]))
        >>> y = torch.nn.functional.relu(x @ torch.tensor([[1.0], [-2.0]]))
        >>> y.lower, y.upper
        (tensor([[0.]]), tensor([[1.]]))
    """

    lower: Tensor
    upper: Tensor
    source: _Linear | None

    def __init__(self, lower: Tensor, upper: Tensor, source: _Linear | None = None) -> None:
        self.lower, self.upper, self.source = lower, upper, source

    @property
    def centre(self) -> Tensor:
        """The middle of each entry."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half of the width of each entry, >= 0."""
        return (self.upper - self.lower) / 2

    @property
    def shape(self) -> torch.Size:
        """The shape, as of a tensor."""
        return self.lower.shape

    @property
    def dtype(self) -> torch.dtype:
        """The dtype, as of a tensor."""
        return self.lower.dtype

    @property
    def device(self) -> torch.device:
        """The device, as of a tensor."""
        return self.lower.device

    @property
    def ndim(self) -> int:
        """The number of dimensions, as of a tensor."""
        return self.lower.ndim

    @property
    def is_cuda(self) -> bool:
        """Whether it is on a GPU, as of a tensor."""
        return self.lower.is_cuda

    @property
    def T(self) -> Interval:  # noqa: N802 - the tensor's name
        """The transpose, as of a tensor."""
        return Interval(self.lower.T, self.upper.T)

    def dim(self) -> int:
        """Return the number of dimensions, as of a tensor."""
        return self.lower.dim()

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the length of one dimension, as of a tensor."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """Return the number of entries, as of a tensor."""
        return self.lower.numel()

    def is_floating_point(self) -> bool:
        """Return whether the entries are floating, as of a tensor."""
        return self.lower.is_floating_point()

    def __len__(self) -> int:
        return len(self.lower)

    def __repr__(self) -> str:
        return f"Interval(shape={tuple(self.shape)}, widest={float(self.radius.max()) * 2:.4g})"

    def __bool__(self) -> bool:
        raise UnboundedError(_refused("a decision that depends on the values (if, while)"))

    def __getattr__(self, name: str) -> Any:
        function = getattr(Tensor, name, None)
        if function is None or name.startswith("__"):
            raise AttributeError(f"an Interval has no {name}")
        if not callable(function):
            raise UnboundedError(_refused(f".{name}"))
        return partial(_apply, function, self)

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _apply(function, *args, **(kwargs or {}))

    # Python looks for operators in the class, not through `__getattr__`.
    def __getitem__(self, index: Any) -> Interval:
        return Interval(self.lower[index], self.upper[index])

    def __add__(self, other: Any) -> Any:
        return _apply(torch.add, self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return _apply(torch.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _apply(torch.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return _apply(torch.mul, self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return _apply(torch.div, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _apply(torch.div, other, self)

    def __matmul__(self, other: Any) -> Any:
        return _apply(torch.matmul, self, other)

    def __neg__(self) -> Interval:
        return Interval(-self.upper, -self.lower)

    def __abs__(self) -> Any:
        return _apply(torch.abs, self)

    def __iadd__(self, other: Any) -> Any:
        return _apply(Tensor.add_, self, other)

    def __isub__(self, other: Any) -> Any:
        return _apply(Tensor.sub_, self, other)

    def __imul__(self, other: Any) -> Any:
        return _apply(Tensor.mul_, self, other)

    def __itruediv__(self, other: Any) -> Any:
        return _apply(Tensor.div_, self, other)

    def _compared(self, other: Any) -> Any:
        raise UnboundedError(_refused("a comparison of values"))

    __lt__ = __le__ = __gt__ = __ge__ = _compared

    def __setitem__(self, index: Any, value: Any) -> None:
        lower, upper = _ends(value)
        self.lower[index], self.upper[index] = lower, upper
        self.source = None

    def __pow__(self, exponent: Any) -> Any:
        return _apply(torch.pow, self, exponent)


Rule: TypeAlias = Callable[..., Any]
_RULES: dict[Any, Rule] = {}
_OWNERS = (torch, F, Tensor, torch._C._nn)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for every function of PyTorch that goes by one of these names."""

    def register(rule: Rule) -> Rule:
        for name in names:
            for owner in _OWNERS:
                function = getattr(owner, name, None)
                if function is not None:
                    _RULES[function] = rule
        return rule

    return register


def _apply(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return bounds on what a function of PyTorch gives for intervals among its arguments."""
    name = getattr(function, "__name__", str(function))
    if name in ("__get__", "__set__"):
        raise UnboundedError(_refused("a property of a tensor that has no rule"))
    rule = _RULES.get(function)
    written = name.endswith("_") and not name.endswith("__")
    if rule is None and written:
        rule = _RULES.get(getattr(torch, name[:-1], None), _RULES.get(getattr(F, name[:-1], None)))
    if rule is None:
        raise UnboundedError(_refused(f"{name}()"))
    if options.pop("out", None) is not None:
        raise UnboundedError(_refused(f"{name}(out=...)"))
    written = bool(options.pop("inplace", False)) or written
    result = rule(*args, **options)
    if written and isinstance(result, Interval) and isinstance(args[0], Interval):
        # What else looks at the same memory must see it too, as it does with tensors.
        args[0].lower.copy_(result.lower)
        args[0].upper.copy_(result.upper)
        args[0].source = None
        return args[0]
    return result


# --- Where we are ---------------------------------------------------------------------------------

_CALLED: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("layers", default=())


@contextmanager
def naming(model: object) -> Iterator[None]:
    """Let errors inside name the layer: its place in the model, and its kind."""
    names = {id(part): name for name, part in _named(model)}

    def enter(module: nn.Module, _: object) -> None:
        name = names.get(id(module), "")
        _CALLED.set((*_CALLED.get(), (name, type(module).__name__)))

    def leave(module: nn.Module, *_: object) -> None:
        _CALLED.set(_CALLED.get()[:-1])

    token = _CALLED.set(())
    hooks = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        _CALLED.reset(token)


def _named(model: object) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(model, nn.Module):
        yield from model.named_modules()


def _refused(what: str) -> str:
    where = _CALLED.get()
    name, kind = where[-1] if where else ("", "")
    layer = f" in the layer {name!r} ({kind})" if name else f" in {kind}" if kind else ""
    return (
        f"the model cannot be bounded: there is no rule for {what}{layer}. Bounds pass through "
        "linear and convolutional layers, pooling, BatchNorm in eval mode, maxout, and functions "
        "that only rise or only fall, such as ReLU, sigmoid and tanh. Certify the model without "
        "that layer, or put such a function in its place and train anew."
    )


# --- Rules ----------------------------------------------------------------------------------------

Ends: TypeAlias = tuple[Tensor, Tensor]


def _ends(value: Any) -> Ends:
    """Return both ends of an interval; a tensor or a number is both of its own."""
    return (value.lower, value.upper) if isinstance(value, Interval) else (value, value)


def _on_ends(function: Callable[..., Tensor], *args: Any, **options: Any) -> Any:
    """Return bounds of a function that falls in no entry of any interval: its two ends."""

    def at(number: int) -> Tensor:
        return function(
            *(_end(arg, number) for arg in args),
            **{name: _end(value, number) for name, value in options.items()},
        )

    return Interval(at(0), at(1))


def _end(value: Any, number: int) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_end(part, number) for part in value)
    return _ends(value)[number] if isinstance(value, Interval) else value


def _register(names: str, make: Callable[[Callable[..., Any]], Rule]) -> None:
    """Register a rule for each function of one of these names, made from that function itself."""
    for name in names.split():
        functions = [f for owner in _OWNERS if (f := getattr(owner, name, None)) is not None]
        _RULES.update((function, make(function)) for function in functions)


# None of them falls where its input rises, and what is given beside the input does not change that.
_register(
    "relu relu6 sigmoid tanh logsigmoid softsign hardsigmoid hardtanh selu softplus exp expm1 log "
    "log1p log2 log10 sqrt atan arctan asinh sinh erf sign round floor ceil trunc clamp clamp_min "
    "clamp_max clip logsumexp sum mean cumsum amax amin minimum maximum fmax fmin avg_pool1d "
    "avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    # These only move entries about, or copy them.
    "flatten unflatten reshape view squeeze unsqueeze permute transpose movedim contiguous clone "
    "detach expand expand_as repeat repeat_interleave roll flip narrow to float double type_as cpu "
    "cuda select index_select t swapaxes tile broadcast_to ravel view_as reshape_as diagonal tril "
    "triu cat concat concatenate stack hstack vstack pixel_shuffle pixel_unshuffle channel_shuffle "
    "upsample",
    lambda function: partial(_on_ends, function),
)


def _pooled(function: Callable[..., Any]) -> Rule:
    def rule(x: Interval, *args: Any, return_indices: bool = False, **options: Any) -> Any:
        if return_indices:
            raise UnboundedError(_refused("pooling with return_indices=True"))
        return _on_ends(function, x, *args, **options)

    return rule


_register("max_pool1d max_pool2d max_pool3d", _pooled)


def _with_sign(function: Callable[..., Any]) -> Rule:
    """Return the rule of a function whose one parameter decides whether it rises everywhere."""

    def rule(x: Interval, *args: Any, **options: Any) -> Any:
        slopes = [value for value in (*args, *options.values()) if isinstance(value, (int, float))]
        if any(slope < 0 for slope in slopes):
            raise UnboundedError(_refused(f"{function.__name__}() with a negative parameter"))
        return _on_ends(function, x, *args, **options)

    return rule


_register("leaky_relu elu celu hardshrink", _with_sign)


@_rule("pad")
def _pad(x: Interval, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Any:
    return _on_ends(F.pad, x, pad, mode, value)


@_rule("interpolate")
def _interpolate(x: Interval, *args: Any, **options: Any) -> Any:
    mode = options.get("mode", args[2] if len(args) > 2 else "nearest")
    if mode == "bicubic":  # its weights are negative in part
        raise UnboundedError(_refused("interpolate(mode='bicubic')"))
    return _on_ends(F.interpolate, x, *args, **options)


@_rule("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout")
@_rule("feature_alpha_dropout")
def _dropout(x: Interval, p: float = 0.5, training: bool = True, inplace: bool = False) -> Interval:
    if training and p:
        raise UnboundedError(_refused("dropout in training mode"))
    return x


def _cut(function: Callable[..., Any]) -> Rule:
    def rule(x: Interval, *args: Any, **options: Any) -> tuple[Interval, ...]:
        lower, upper = function(x.lower, *args, **options), function(x.upper, *args, **options)
        return tuple(map(Interval, lower, upper))

    return rule


_register("chunk split tensor_split unbind", _cut)


class _Extreme(NamedTuple):
    """What `max` and `min` along a dimension give: nobody knows where the largest entry is."""

    values: Interval
    indices: None = None


def _extreme(pairwise: Callable[..., Tensor], along: Callable[..., Tensor]) -> Rule:
    def rule(x: Any, *args: Any, **options: Any) -> Any:
        if args and isinstance(args[0], (Tensor, Interval)):
            return _on_ends(pairwise, x, *args)
        values = _on_ends(along, x, *args, **options)
        return _Extreme(values) if args or options else values

    return rule


_rule("max")(_extreme(torch.maximum, torch.amax))
_rule("min")(_extreme(torch.minimum, torch.amin))


@_rule("where")
def _where(condition: Tensor, x: Any, other: Any) -> Any:
    if isinstance(condition, Interval):
        raise UnboundedError(_refused("where() with a condition that depends on the values"))
    return _on_ends(torch.where, condition, x, other)


@_rule("masked_fill")
def _masked_fill(x: Interval, mask: Tensor, value: Any) -> Any:
    return _on_ends(torch.masked_fill, x, mask, value)


_register(
    "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_tensor",
    lambda function: lambda x, *args, **options: function(x.lower, *args, **options),
)


@_rule("neg", "negative")
def _neg(x: Interval) -> Interval:
    return Interval(-x.upper, -x.lower)


@_rule("add")
def _add(x: Any, other: Any, *, alpha: float = 1) -> Interval:
    (a, b), (c, d) = _ends(x), _ends(other if alpha == 1 else _mul(other, alpha))
    return Interval(a + c, b + d)


@_rule("sub", "subtract")
def _sub(x: Any, other: Any, *, alpha: float = 1) -> Interval:
    (a, b), (c, d) = _ends(x), _ends(other if alpha == 1 else _mul(other, alpha))
    return Interval(a - d, b - c)


@_rule("rsub", "__rsub__")
def _rsub(x: Any, other: Any, *, alpha: float = 1) -> Interval:
    return _sub(other, x, alpha=alpha)


@_rule("mul", "multiply")
def _mul(x: Any, other: Any) -> Any:
    if not isinstance(x, Interval):
        x, other = other, x
    if not isinstance(x, Interval):
        return x * other
    (a, b), (c, d) = _ends(x), _ends(other)
    if isinstance(other, Interval):
        products = torch.stack(torch.broadcast_tensors(a * c, a * d, b * c, b * d))
        return Interval(products.amin(0), products.amax(0))
    if not isinstance(other, Tensor):
        return Interval(a * other, b * other) if other >= 0 else Interval(b * other, a * other)
    one, two = a * other, b * other
    return Interval(torch.minimum(one, two), torch.maximum(one, two))


@_rule("div", "divide", "true_divide")
def _div(x: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        raise UnboundedError(_refused(f"division with rounding_mode={rounding_mode!r}"))
    if not isinstance(other, Interval):
        return _mul(x, 1 / other)
    if not bool(((other.lower > 0) | (other.upper < 0)).all()):
        raise UnboundedError(_refused("division by what may be 0"))
    return _mul(Interval(1 / other.upper, 1 / other.lower), x)


@_rule("reciprocal")
def _reciprocal(x: Interval) -> Any:
    return _div(1.0, x)


@_rule("abs", "absolute")
def _abs(x: Interval) -> Interval:
    far = torch.maximum(x.lower.abs(), x.upper.abs())
    near = torch.maximum(x.lower, -x.upper).clamp_min(0)
    return Interval(near, far)


@_rule("square")
def _square(x: Interval) -> Interval:
    size = _abs(x)
    return Interval(size.lower.square(), size.upper.square())


@_rule("pow", "float_power")
def _pow(x: Any, exponent: Any) -> Any:
    if not isinstance(exponent, int) or exponent < 1 or not isinstance(x, Interval):
        raise UnboundedError(_refused(f"a power that is no whole number >= 1 ({exponent!r:.20})"))
    return _on_ends(torch.pow, x if exponent % 2 else _abs(x), exponent)


@_rule("softmax", "_softmax")
def _softmax(x: Interval, dim: int = -1, *args: Any, **options: Any) -> Interval:
    logs = _log_softmax(x, dim)
    return Interval(logs.lower.exp(), logs.upper.exp())


@_rule("log_softmax", "_log_softmax")
def _log_softmax(x: Interval, dim: int = -1, *args: Any, **options: Any) -> Interval:
    """z_k - logsumexp(z) is lowest with z_k at its lowest and the others at their highest."""

    def against(own: Tensor, others: Tensor) -> Tensor:
        spread = others.unsqueeze(dim if dim >= 0 else dim - 1)  # (..., 1, K) beside (..., K, 1)
        own_axis, axis = (dim, dim + 1) if dim >= 0 else (dim - 1, dim)
        classes = others.shape[dim]
        mask = torch.eye(classes, dtype=torch.bool, device=others.device)
        shape = [1] * spread.dim()
        shape[own_axis], shape[axis] = classes, classes
        without = spread.masked_fill(mask.view(shape), -torch.inf).logsumexp(axis)
        return -F.softplus(without - own)

    return Interval(against(x.lower, x.upper), against(x.upper, x.lower))


# --- Linear layers --------------------------------------------------------------------------------


def _through(function: Callable[..., Tensor], x: Interval, weight: Tensor, bias: Any) -> Interval:
    """Bound W x + b: the centre goes through W, the radius through |W|."""
    centre = function(x.centre, weight, bias)
    radius = function(x.radius, weight.abs(), None)
    return Interval(centre - radius, centre + radius)


def _constant(*weights: Any) -> None:
    if any(isinstance(weight, Interval) for weight in weights):
        raise UnboundedError(_refused("a product in which the weights depend on the image"))


@_rule("linear")
def _linear(x: Interval, weight: Tensor, bias: Tensor | None = None) -> Interval:
    _constant(weight, bias)
    bounded = _through(F.linear, x, weight, bias)
    bounded.source = _Linear(x, weight, bias)
    return bounded


@_rule("matmul", "mm", "__matmul__", "__rmatmul__")
def _matmul(x: Any, other: Any) -> Interval:
    if isinstance(x, Interval):
        _constant(other)
        return _through(lambda z, w, _: z @ w, x, other, None)
    return _through(lambda z, w, _: w @ z, other, x, None)


@_rule("einsum")
def _einsum(equation: str, *operands: Any) -> Interval:
    operands = operands[0] if isinstance(operands[0], (list, tuple)) else operands
    places = [i for i, operand in enumerate(operands) if isinstance(operand, Interval)]
    if len(places) > 1:
        raise UnboundedError(_refused("einsum() of several operands that depend on the image"))
    (place,) = places

    def product(z: Tensor, others: list[Tensor]) -> Tensor:
        return torch.einsum(equation, *others[:place], z, *others[place:])

    x, others = operands[place], [*operands[:place], *operands[place + 1 :]]
    centre, radius = product(x.centre, others), product(x.radius, [o.abs() for o in others])
    return Interval(centre - radius, centre + radius)


def _convolved(function: Callable[..., Tensor]) -> Rule:
    def rule(x: Interval, weight: Tensor, bias: Any = None, *args: Any, **options: Any) -> Any:
        _constant(weight, bias)
        return _through(lambda z, w, b: function(z, w, b, *args, **options), x, weight, bias)

    return rule


_register("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d", _convolved)


@_rule("batch_norm")
def _batch_norm(
    x: Interval,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if training or running_mean is None or running_var is None:
        raise UnboundedError(_refused("BatchNorm with the statistics of the batch"))
    each = (1, -1, *[1] * (x.dim() - 2))
    scale = (running_var + eps).rsqrt() * (1.0 if weight is None else weight)
    shift = (0.0 if bias is None else bias) - running_mean * scale
    return _add(_mul(x, scale.view(each)), shift.view(each))
