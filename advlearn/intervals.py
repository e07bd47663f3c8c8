"""Interval arithmetic: what comes out of a network if each pixel may be anywhere in an interval.

An `Interval` stands in for a tensor of images. A model is called with it as with a tensor: PyTorch
hands each function that meets one over to the rule in this file, which returns bounds on all that
the function could give. So the model's own code is bounded, as it stands, whatever it is built of;
a function without a rule is refused by name, together with the layer that it stands in.

An `Interval` is a tensor, by its class, so that a model takes the same way for it as for images
(`isinstance`). But it has no memory of its own: a function that gets past the rules meets nothing
that it could read, and is refused by PyTorch's dispatcher. A model that catches a refusal and goes
another way is refused all the same. It can still tell the two apart (`type(x) is Tensor`):
`advlearn.certify` compares its answers with their bounds.

The rules are sound one by one, and so is any chain of them: the true values always lie inside. What
they lose is how entries depend on each other, so the bounds of a deep network are wide, unless it
was trained on them (`advlearn.training.certified_fit`).

Source: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably
robust models", 2018.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 - the name that the field uses
from torch import Tensor

from advlearn import functional
from advlearn.context import modules_behind

__all__ = ["Interval", "UnboundedError", "place", "rounding", "walking"]

Apart: TypeAlias = Callable[[Tensor], Tensor]
"""Labels (N,) -> lower bounds on z_y - z_k, (N, K), of logits z; -inf where nothing is known."""


class UnboundedError(ValueError):
    """The model does something for which there is no rule, so nothing is known about its output."""

    # No TypeError: of an operator Python takes that for "try the other operand", and goes on.
    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        # A model may catch it and go another way, which images would not.
        if (walk := _WALK.get()) is not None:
            walk.refused.append(str(self))


# For the type checker it is a class of its own: most of a tensor's methods give other things here.
if TYPE_CHECKING:
    _Base = object
else:
    _Base = Tensor


class Interval(_Base):
    """All tensors between `lower` and `upper`, entry by entry.

    Args:
        lower, upper: floating, of one shape and dtype, lower <= upper. They share no memory: what
            is written into one end is not for the other, so that one tensor for both is copied.
        apart: of logits: what is known beside their bounds, see `margins`. It is forgotten as soon
            as somebody writes into the interval.

    Example:
        >>> x = Interval(torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.5]]))
        >>> y = torch.nn.functional.relu(x @ torch.tensor([[1.0], [-2.0]]))
        >>> y.lower, y.upper
        (tensor([[0.]]), tensor([[1.]]))
    """

    lower: Tensor
    upper: Tensor

    def __new__(cls, lower: Tensor, upper: Tensor, _: Any = None, **__: Any) -> Interval:  # noqa: D102
        if isinstance(lower, Interval) or isinstance(upper, Interval):
            raise UnboundedError(_refused("a parameter that depends on the image"))
        # A tensor without memory.
        made: Interval = Tensor._make_wrapper_subclass(  # type: ignore[type-var]
            cls, lower.shape, lower.stride(), dtype=lower.dtype, device=lower.device
        )
        return made

    def __init__(self, lower: Tensor, upper: Tensor, apart: Apart | None = None) -> None:
        walk = _WALK.get()
        if walk is not None and walk.proof and lower.dtype not in _FULL:
            raise UnboundedError(
                f"the model computes in {lower.dtype}{place()}, whose sums are too rough for a "
                "proof. Certify model.float() with images in float32, and outside autocast."
            )
        if lower.data_ptr() == upper.data_ptr() and lower.numel():
            upper = upper.clone()
        self.lower, self.upper = lower, upper
        self._apart, self._writes = apart, _writes(lower, upper) if apart else None
        self._walk = walk

    @property
    def centre(self) -> Tensor:
        """The middle of each entry."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half of the width of each entry, >= 0."""
        return (self.upper - self.lower) / 2

    @property
    def apart(self) -> Apart | None:
        """What is known of differences between classes, as long as nobody has written here."""
        unchanged = self._writes is not None and self._writes == _writes(self.lower, self.upper)
        return self._apart if unchanged else None

    def margins(self, y: Tensor) -> Tensor:
        """Return lower bounds on z_y - z_k, the margins of logits, with 0 for k = y.

        Behind a linear layer the rows of two classes are subtracted before they are bounded. That
        is tighter than the difference of the bounds of z_y and z_k.

        Args:
            y: (N,) int64 labels in [0, K), of an interval (N, K).

        Example:
            >>> x = Interval(torch.zeros(1, 1), torch.ones(1, 1))
            >>> z = torch.nn.functional.linear(x, torch.tensor([[3.0], [2.0]]))
            >>> z.margins(torch.tensor([0])), z.lower[:, 0] - z.upper[:, 1]
            (tensor([[0., 0.]]), tensor([-2.]))
        """
        own = y.unsqueeze(1)
        lowest = self.lower.gather(1, own) - self.upper
        if self.apart is not None:
            known = self.apart(y)
            lowest = torch.where(known == -torch.inf, lowest, known)
        return lowest.scatter(1, own, 0.0)

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
    def T(self) -> Interval:  # noqa: N802 - the tensor's name
        """The transpose, as of a tensor."""
        return Interval(self.lower.T, self.upper.T)

    def dim(self) -> int:
        """Return the number of dimensions, as of a tensor."""
        return self.lower.dim()

    def __len__(self) -> int:
        return len(self.lower)

    def __repr__(self) -> str:
        return f"Interval(shape={tuple(self.shape)}, widest={float(self.radius.max()) * 2:.4g})"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __deepcopy__(self, _: object) -> Interval:
        return Interval(self.lower.clone(), self.upper.clone())

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _apply(function, *args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        # What does not ask `__torch_function__` ends here.
        raise UnboundedError(_refused(f"{_name(function)}(), out of sight of the rules"))

    def __getitem__(self, index: Any) -> Interval:
        return Interval(self.lower[index], self.upper[index])

    def __iter__(self) -> Iterator[Interval]:
        return iter(_apply(torch.unbind, self))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.lower[index], self.upper[index] = _ends(value)

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

    def __pow__(self, exponent: Any) -> Any:
        return _apply(torch.pow, self, exponent)

    def __rpow__(self, base: Any) -> Any:
        return _apply(torch.pow, base, self)

    def __neg__(self) -> Any:
        return _apply(torch.neg, self)

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

    def __ipow__(self, exponent: Any) -> Any:
        return _apply(Tensor.pow_, self, exponent)

    def _compared(self, _: object) -> NoReturn:
        raise UnboundedError(_refused("a comparison of values"))

    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _compared
    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        raise UnboundedError(_refused("a decision that depends on the values (if, while)"))

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise UnboundedError(_refused("a step out of PyTorch (NumPy)"))

    def __float__(self) -> NoReturn:
        raise UnboundedError(_refused("a step out of PyTorch (float, int)"))

    __int__ = __index__ = __complex__ = __float__


# Attributes of a tensor that are the same for both ends.
_FACTS = "ndim layout requires_grad grad_fn is_cuda is_sparse is_nested is_quantized"
for _fact in _FACTS.split():
    setattr(Interval, _fact, property(attrgetter(f"lower.{_fact}")))
_FULL = (torch.float32, torch.float64)


def _writes(*tensors: Tensor) -> tuple[int, ...] | None:
    """Return how often somebody has written into the memory of tensors; None if nobody counts."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return tuple(tensor._version for tensor in tensors)


# --- From a function to its rule ------------------------------------------------------------------

Rule: TypeAlias = Callable[..., Any]
Given = TypeVar("Given", bound=Rule)
_RULES: dict[Any, Rule] = {}
_WAY_OF_TENSORS = getattr(Tensor.__torch_function__, "__func__", Tensor.__torch_function__)
_ORDINARY: set[type] = {Tensor, torch.nn.Parameter, int, float, bool, str, type(None)}
_NAMES: dict[Any, str] = {}  # of the functions that have a rule
_OWNERS = (torch, F, Tensor, torch._C._nn)


def _register(names: str, make: Callable[[Callable[..., Any]], Rule]) -> None:
    """Register a rule for each function of one of these names, made from that function itself."""
    for name in names.split():
        for owner in _OWNERS:
            function = getattr(owner, name, None)
            if function is not None:
                _RULES[function], _NAMES[function] = make(function), name


def _rule(names: str) -> Callable[[Given], Given]:
    """Register a rule for every function of PyTorch that goes by one of these names."""

    def register(rule: Given) -> Given:
        _register(names, lambda _: rule)
        return rule

    return register


def _rule_of(function: Callable[..., Any]) -> Callable[[Given], Given]:
    """Register the rule of one function: of the course, or where others of its name differ."""

    def register(rule: Given) -> Given:
        _RULES[function], _NAMES[function] = rule, function.__name__
        return rule

    return register


def _apply(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return bounds on what a function of PyTorch gives for intervals among its arguments."""
    walk = _walk_of(function, args, options)
    if walk is None or _WALK.get() is not None:
        return _bounded(function, args, options)
    # A thread that the model started knows nothing of the proof.
    token = _WALK.set(walk)
    try:
        return _bounded(function, args, options)
    finally:
        _WALK.reset(token)


def _walk_of(
    function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
) -> _Walk | None:
    """Return the pass that the intervals among some arguments belong to.

    A tensor of another kind, which has its own way with functions, is refused: the rules would not
    know what it means.
    """
    found = None
    for arg in (*args, *options.values()):
        for value in arg if type(arg) in (list, tuple) else (arg,):
            kind = type(value)
            if kind is Interval:
                found = value._walk or found
            elif kind is _Somewhere:
                value._asked()
            elif kind not in _ORDINARY and _has_own_way(kind):
                raise UnboundedError(
                    _refused(
                        f"{_name(function)}() with a {kind.__name__}, a tensor of its own kind"
                    )
                )
    return found


def _has_own_way(kind: type) -> bool:
    """Say whether functions of PyTorch mean something else for a kind of tensors."""
    way = getattr(kind, "__torch_function__", None)
    ordinary = way in (None, torch._C._disabled_torch_function_impl) or (
        getattr(way, "__func__", way) is _WAY_OF_TENSORS
    )
    if ordinary:
        _ORDINARY.add(kind)
    return not ordinary


def _name(function: Callable[..., Any]) -> str:
    name = str(getattr(function, "__name__", function))
    if name in ("__get__", "__set__"):  # of an attribute
        return f"the attribute {getattr(function.__self__, '__name__', '?')}"  # type: ignore[attr-defined]
    return _NAMES.get(function) or name


def _bounded(function: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    options = dict(given)
    if not args and "input" in options:  # by name
        args = (options.pop("input"),)
    if isinstance(function, torch._ops.OpOverload):
        function = _as_called(function)
    rule = _RULES.get(function)
    written = bool(options.pop("inplace", False))
    if rule is None:
        rule = _out_of_place(function)
        written = written or rule is not None
    name = _name(function)
    if isinstance(function, (torch.ScriptMethod, torch.ScriptFunction)):
        raise UnboundedError(
            f"the model cannot be bounded: it is scripted or traced{place()}, and what happens "
            "inside is not seen. Certify the module that it was made of."
        )
    if rule is None:
        raise UnboundedError(_refused(f"{name}()"))
    if options.pop("out", None) is not None:
        raise UnboundedError(_refused(f"{name}(out=...)"))
    if not written:
        return rule(*args, **options)
    target, *others = args
    if not isinstance(target, Interval):
        raise UnboundedError(_refused(f"{name}(), which writes an interval into a tensor"))
    # Autograd needs the values from before; the rule sees a copy of them.
    before = Interval(target.lower.clone(), target.upper.clone())
    result = rule(before if torch.is_grad_enabled() else target, *others, **options)
    # What else looks at the same memory must see it too, as it does with tensors.
    target.lower.copy_(result.lower)
    target.upper.copy_(result.upper)
    return target


def _as_called(operator: Any) -> Any:
    """Return the function that an operator of an exported program stands for."""
    space, _, name = operator._schema.name.partition("::")
    if space != "aten":  # somebody's own, whatever its name
        return operator
    if name == "sym_size":
        return Tensor.size
    # Not those of `torch.nn.functional`: some take their arguments in another order.
    twins = (getattr(owner, name, None) for owner in (torch, torch._C._nn, Tensor))
    return next((twin for twin in twins if twin is not None), operator)


def _out_of_place(function: Callable[..., Any]) -> Rule | None:
    """Return the rule that `add` has, for `add_`; not of what changes the shape."""
    name = getattr(function, "__name__", "")
    stem = name[:-1] if name.endswith("_") and not name.endswith("__") else ""
    if not stem or stem in _MOVES.split():
        return None
    if all(getattr(owner, name, None) != function for owner in _OWNERS):
        return None  # somebody's own, whatever its name
    same = (getattr(owner, stem, None) for owner in _OWNERS)
    return next((_RULES[twin] for twin in same if twin in _RULES), None)


# --- Where we are ---------------------------------------------------------------------------------


class _Walk(NamedTuple):
    """A pass of an interval through a model."""

    model: object
    proof: bool
    refused: list[str]
    """All that was refused, whether or not the model let the error pass."""


_WALK: ContextVar[_Walk | None] = ContextVar("walk", default=None)


@contextmanager
def walking(model: object, *, proof: bool) -> Iterator[list[str]]:
    """Let errors inside name the layer by its place in the model; give what has been refused.

    Args:
        model: a module, or any callable.
        proof: refuse what makes bounds no proof: half precision, and dropout that is on.

    Example:
        >>> x = Interval(torch.zeros(1, 2), torch.ones(1, 2))
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.GELU())
        >>> with walking(model, proof=True):
        ...     model(x)
        Traceback (most recent call last):
        advlearn.intervals.UnboundedError: ...no rule for gelu() in the layer '1' (GELU)...
    """
    refused: list[str] = []
    token = _WALK.set(_Walk(model, proof, refused))
    try:
        yield refused
    finally:
        _WALK.reset(token)


def place(error: Exception | None = None) -> str:
    """Say in which layer of the model we are, or an error arose: " in the layer '3' (GELU)".

    Example:
        >>> place()
        ''
    """
    walk = _WALK.get()
    if walk is None:
        return ""
    names: dict[int, str] = {}
    for module in modules_behind(walk.model):
        for name, part in module.named_modules():
            names.setdefault(id(part), name)
    # From the functions at work: hooks of all modules would be called by other threads, too.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1] if error else []
    frames += [frame for frame, _ in traceback.walk_stack(None)]
    owners = (frame.f_locals.get("self") for frame in frames)
    layer = next((owner for owner in owners if id(owner) in names), None)
    if layer is None:
        return ""
    name, kind = names[id(layer)], type(layer).__name__
    return f" in the layer {name!r} ({kind})" if name else f" in {kind}"


_REMEDY = (
    "Certify the model without that layer, or put such a function in its place and train anew."
)
_FIXED = (
    "Give the layer fixed statistics: eval mode, with track_running_stats=True; where the model is "
    "trained, call model.train() first and .eval() of the layer then."
)


def _refused(what: str, remedy: str = _REMEDY) -> str:
    return (
        f"the model cannot be bounded: there is no rule for {what}{place()}. Bounds pass through "
        "linear and convolutional layers, pooling, BatchNorm in eval mode, maxout, and functions "
        f"that only rise or only fall, such as ReLU, sigmoid and tanh. {remedy}"
    )


# --- Functions that do not fall -------------------------------------------------------------------

Ends: TypeAlias = tuple[Tensor, Tensor]


def rounding(bounds: Tensor) -> Tensor:
    """Return by how much a bound must clear 0 to be a proof in spite of rounding.

    2^12 units in the last place of the largest bound of each row: 5e-4 of it in float32. In a proof
    sums are widened one by one, as they are bounded; this is for all the rest: functions such as
    exp, the differences of logits, and the ends of pixels, which are rounded too.

    Args:
        bounds: (N, ...).

    Returns:
        (N,).

    Example:
        >>> float(rounding(torch.tensor([[0.5, -16.0]]))) == 16 * 4096 * 2**-23
        True
    """
    return 4096 * torch.finfo(bounds.dtype).eps * bounds.abs().flatten(1).amax(1)


def _error(terms: int, like: Tensor) -> float:
    """Return by what share of the sizes of its parts rounding may change a sum; 0 outside proofs.

    Whoever sums widens what is summed by it: for the sum itself, and for a few steps before.
    """
    walk = _WALK.get()
    proof = walk is not None and walk.proof
    return (terms + 8) * torch.finfo(like.dtype).eps / 2 if proof else 0.0


def _error_of_products(terms: int, like: Tensor) -> float:
    """Return the same for a sum of products, whose factors hardware may shorten first.

    A GPU does so with convolutions, unless told otherwise, and any processor that can if it is
    allowed to: TF32 keeps 10 bits after the first, bfloat16 7. Each product is then off by up to
    two units in the last place; the bounds are computed in the same way, so that it counts three
    times: in the model's sum, in the centre's and in the radius's.
    """
    share = _error(terms, like)
    if not share or like.dtype != torch.float32:
        return share
    return share + 3 * _SHORTENED.get(_shortest(like.is_cuda), 0.0)


_SHORTENED = {"tf32": 2.0**-9, "bf16": 2.0**-7}


def _shortest(cuda: bool) -> str:
    """Return the roughest way in which products of float32 may be computed here."""
    backends: Any = torch.backends
    try:
        legacy = {"medium": "bf16", "high": "tf32"}.get(torch.get_float32_matmul_precision(), "")
        if cuda and (backends.cudnn.allow_tf32 or backends.cuda.matmul.allow_tf32):
            legacy = legacy or "tf32"
    except RuntimeError:  # set by both of PyTorch's ways: only the new one can be read
        legacy = ""
    # Since PyTorch 2.9 also one by one.
    places = ("cuda.matmul", "cudnn.conv") if cuda else ("mkldnn.matmul", "mkldnn.conv")
    chosen = {legacy}
    for place_of in places:
        owner = backends
        for name in place_of.split("."):
            owner = getattr(owner, name, None)
        chosen.add(getattr(owner, "fp32_precision", ""))
    return next((choice for choice in ("bf16", "tf32") if choice in chosen), "")


def _widened(value: Any, share: float) -> Ends:
    """Return the ends of an interval, or of a constant, moved outward by a share of their sizes."""
    lower, upper = _ends(value)
    return (lower - share * abs(lower), upper + share * abs(upper)) if share else (lower, upper)


def _ends(value: Any) -> Ends:
    """Return both ends of an interval; a tensor or a number is both of its own."""
    return (value.lower, value.upper) if isinstance(value, Interval) else (value, value)


def _end(value: Any, number: int) -> Any:
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return [_end(part, number) for part in value]
    return _ends(value)[number] if isinstance(value, Interval) else value


def _on_ends(function: Callable[..., Any], *args: Any, **options: Any) -> Interval:
    """Return bounds of a function that falls in no entry of any interval: its two ends."""

    def at(number: int) -> Tensor:
        given = {name: _end(value, number) for name, value in options.items()}
        value = function(*(_end(arg, number) for arg in args), **given)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise UnboundedError(_refused(f"{function.__name__}() that gives {kind}"))
        return value

    return Interval(at(0), at(1))


# They only move entries about, copy or convert them.
_MOVES = """
    flatten unflatten reshape squeeze unsqueeze permute transpose t swapaxes movedim contiguous
    clone detach expand expand_as repeat repeat_interleave roll flip narrow select index_select
    gather take_along_dim unfold diagonal tile broadcast_to ravel view_as reshape_as tril triu cat
    concat concatenate stack hstack vstack pixel_shuffle pixel_unshuffle channel_shuffle
    to float double type_as cpu
"""
# Of these, what the others take from an interval that is not moved itself: a shape, or a dtype.
_LIKE = "to type_as view_as expand_as reshape_as"
# None of them falls where its input rises, and what is given beside the input does not change that.
_RISING = """
    relu relu6 sigmoid tanh tanhshrink logsigmoid softsign hardsigmoid hardtanh selu exp
    expm1 log log1p log2 log10 sqrt atan arctan asinh arcsinh sinh erf clamp clamp_min clamp_max
    clip amax amin minimum maximum adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
"""
_register(_MOVES + _RISING, lambda function: partial(_on_ends, function))


def _like(function: Callable[..., Any]) -> Rule:
    def rule(x: Any, *args: Any, **options: Any) -> Any:
        if type(x) is Interval:
            return _on_ends(function, x, *args, **options)
        # A constant stays one. As an interval, both of its ends would be in one memory.
        given = {name: _end(value, 0) for name, value in options.items()}
        return function(x, *(_end(arg, 0) for arg in args), **given)

    return rule


_register(_LIKE, _like)


def _summed(function: Callable[..., Any]) -> Rule:
    def rule(x: Interval, *args: Any, **options: Any) -> Interval:
        divisor = options.get("divisor_override", args[5] if len(args) > 5 else None)
        if divisor is not None and divisor < 0:
            raise UnboundedError(_refused(f"pooling with divisor_override={divisor}"))
        share = _error(x.shape[1:].numel(), x.lower)
        return _on_ends(function, Interval(*_widened(x, share)), *args, **options)

    return rule


_register(
    "sum mean cumsum logsumexp avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d",
    _summed,
)


@_rule("view")
def _view(x: Interval, *shape: Any) -> Interval:
    if any(isinstance(size, torch.dtype) for size in shape):
        raise UnboundedError(_refused("view() as another dtype"))
    return _on_ends(Tensor.view, x, *shape)


def _pooled(function: Callable[..., Any]) -> Rule:
    def rule(x: Interval, *args: Any, return_indices: bool = False, **options: Any) -> Interval:
        if return_indices:
            raise UnboundedError(_refused("pooling with return_indices=True"))
        return _on_ends(function, x, *args, **options)

    return rule


_register("max_pool1d max_pool2d max_pool3d", _pooled)


def _stepped(function: Callable[..., Any]) -> Rule:
    """Return the rule of a function with steps: the ends move outward by what rounding may add.

    Where a value falls onto the one or the other side of a step is a matter of rounding.
    """

    def rule(x: Interval, *args: Any, **options: Any) -> Interval:
        largest = torch.maximum(x.lower.abs(), x.upper.abs())
        if not bool(largest.isfinite().all()):  # the sign of NaN is 0
            raise UnboundedError(_refused(f"{function.__name__}() of bounds that are not finite"))
        _constant(*args, *options.values())
        if any(isinstance(value, float) and value < 0 for value in (*args, *options.values())):
            raise UnboundedError(_refused(f"{function.__name__}() with a negative parameter"))
        slack = 4096 * torch.finfo(x.dtype).eps * largest
        return _on_ends(function, Interval(x.lower - slack, x.upper + slack), *args, **options)

    return rule


_register("sign round floor ceil trunc hardshrink", _stepped)


def _with_sign(function: Callable[..., Any]) -> Rule:
    """Return the rule of a function that rises everywhere if no parameter is negative."""

    def rule(x: Interval, *args: Any, **options: Any) -> Interval:
        slopes = [value for value in (*args, *options.values()) if value is not None]
        _constant(*slopes)
        # A tensor is taken for a number, too.
        if any(bool((torch.as_tensor(slope) < 0).any()) for slope in slopes):
            raise UnboundedError(_refused(f"{function.__name__}() with a negative parameter"))
        return _on_ends(function, x, *args, **options)

    return rule


_register("leaky_relu elu celu softshrink", _with_sign)


@_rule("prelu")
def _prelu(x: Interval, weight: Tensor) -> Interval:
    _constant(weight)
    if bool((weight < 0).any()):
        raise UnboundedError(_refused("prelu() with a negative weight"))
    return _on_ends(torch.prelu, x, weight)


@_rule("softplus")
def _softplus(x: Interval, beta: float = 1.0, threshold: float = 20.0) -> Interval:
    """Above its threshold PyTorch's function goes on as a line, so that it jumps: not always up.

    Exact is log(1 + exp(beta v)) / beta, and the jump is of log(1 + exp(-threshold)) / beta.
    """
    if not beta:
        raise UnboundedError(_refused("softplus() with beta=0"))
    lower, upper = (functional.softplus(beta * end) / beta for end in _ends(x))
    jump = functional.softplus(torch.tensor(-float(threshold), dtype=torch.float64)) / beta
    return Interval(lower - float(jump.clamp_min(0)), upper - float(jump.clamp_max(0)))


@_rule("pad")
def _pad(x: Interval, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Interval:
    return _on_ends(F.pad, x, pad, mode, value)


def _resized(function: Callable[..., Any]) -> Rule:
    def rule(x: Interval, *args: Any, **options: Any) -> Interval:
        mode = options.get("mode", args[2] if len(args) > 2 else "nearest")
        if mode == "bicubic":  # its weights are negative in part
            raise UnboundedError(_refused("interpolate(mode='bicubic')"))
        share = _error(x.shape[2:].numel(), x.lower)
        return _on_ends(function, Interval(*_widened(x, share)), *args, **options)

    return rule


_register("interpolate upsample", _resized)


def _dropped(function: Callable[..., Any]) -> Rule:
    def rule(x: Interval, p: float = 0.5, training: bool | None = None, **options: Any) -> Interval:
        if training is None:  # the functions' own defaults
            training = "alpha" not in function.__name__
        training = bool(options.pop("train", training))
        if not training or not p:
            return x
        walk = _WALK.get()
        if (walk is not None and walk.proof) or "alpha" in function.__name__:
            raise UnboundedError(_refused(f"{function.__name__}() that is on"))
        mask = function(torch.ones_like(x.lower), p, True)  # both ends lose the same entries
        return Interval(x.lower * mask, x.upper * mask)

    return rule


_register(
    "dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout",
    _dropped,
)


def _cut(function: Callable[..., Any]) -> Rule:
    def rule(x: Interval, *args: Any, **options: Any) -> tuple[Interval, ...]:
        lower, upper = function(x.lower, *args, **options), function(x.upper, *args, **options)
        return tuple(map(Interval, lower, upper))

    return rule


_register("chunk split tensor_split unbind", _cut)


class _Somewhere:
    """The place of the largest entry: nobody knows it."""

    def _asked(self, *_: object, **__: object) -> NoReturn:
        raise UnboundedError(_refused("the place of the largest or smallest entry"))

    __index__ = __len__ = __iter__ = __bool__ = __array__ = __torch_function__ = _asked
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _asked
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _asked
    __truediv__ = __floordiv__ = __mod__ = _asked
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._asked()


class _Extreme(NamedTuple):
    """What `max` and `min` along a dimension give."""

    values: Interval
    indices: _Somewhere


def _extreme(pairwise: Callable[..., Tensor], along: Callable[..., Tensor]) -> Rule:
    def rule(x: Any, *args: Any, **options: Any) -> Any:
        other = options.get("other", args[0] if args else None)
        if isinstance(other, (Tensor, Interval)):
            return _on_ends(pairwise, x, other)
        values = _on_ends(along, x, *args, **options)
        return _Extreme(values, _Somewhere()) if args or options else values

    return rule


_rule("max")(_extreme(torch.maximum, torch.amax))
_rule("min")(_extreme(torch.minimum, torch.amin))


@_rule_of(torch.where)
def _where(condition: Any, x: Any, other: Any) -> Interval:
    if isinstance(condition, Interval):
        raise UnboundedError(_refused("where() with a condition that depends on the values"))
    return _on_ends(torch.where, condition, x, other)


@_rule_of(Tensor.where)
def _where_of(x: Any, condition: Any, other: Any) -> Interval:
    return _where(condition, x, other)


@_rule("masked_fill")
def _masked_fill(x: Interval, mask: Tensor, value: Any) -> Interval:
    return _on_ends(torch.masked_fill, x, mask, value)


# What does not depend on the values.
_register(
    "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_tensor "
    "size numel nelement dim ndimension stride is_contiguous is_floating_point is_complex",
    lambda function: lambda x, *args, **options: function(x.lower, *args, **options),
)


# --- Arithmetic -----------------------------------------------------------------------------------


@_rule("neg negative")
def _neg(x: Interval) -> Interval:
    return Interval(-x.upper, -x.lower)


@_rule("add")
def _add(x: Any, other: Any, *, alpha: float = 1) -> Interval:
    (a, b), (c, d) = _before_a_sum(x, other if alpha == 1 else _mul(other, alpha))
    return Interval(a + c, b + d)


@_rule("sub subtract")
def _sub(x: Any, other: Any, *, alpha: float = 1) -> Interval:
    (a, b), (c, d) = _before_a_sum(x, other if alpha == 1 else _mul(other, alpha))
    return Interval(a - d, b - c)


def _before_a_sum(x: Any, other: Any) -> tuple[Ends, Ends]:
    share = _error(2, (x if isinstance(x, Interval) else other).lower)
    return _widened(x, share), _widened(other, share)


@_rule("rsub __rsub__")
def _rsub(x: Any, other: Any, *, alpha: float = 1) -> Interval:
    return _sub(other, x, alpha=alpha)


@_rule("mul multiply")
def _mul(x: Any, other: Any) -> Any:
    if not isinstance(x, Interval):
        x, other = other, x
    if not isinstance(x, Interval):
        return x * other
    if x is other:
        return _square(x)
    (a, b), (c, d) = _ends(x), _ends(other)
    if isinstance(other, Interval):
        products = torch.stack(torch.broadcast_tensors(a * c, a * d, b * c, b * d))
        return Interval(products.amin(0), products.amax(0))
    return _sorted(a * other, b * other, other, x.apart)


def _sorted(one: Tensor, two: Tensor, factor: Any, apart: Apart | None) -> Interval:
    """Return the interval between two ends that a constant factor may have exchanged."""
    if isinstance(factor, Tensor):
        return Interval(torch.minimum(one, two), torch.maximum(one, two))
    if apart is None or factor <= 0:
        return Interval(one, two) if factor >= 0 else Interval(two, one)
    # Margins are scaled as the logits are: by a temperature, for example.
    scale = float(factor)
    return Interval(one, two, lambda y: apart(y) * scale)


@_rule("div divide true_divide")
def _div(x: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        raise UnboundedError(_refused(f"division with rounding_mode={rounding_mode!r}"))
    lower, upper = _ends(other)
    if not bool(torch.as_tensor((lower > 0) | (upper < 0)).all()):
        raise UnboundedError(_refused("division by what may be 0"))
    if isinstance(other, Interval):
        return _mul(Interval(1 / upper, 1 / lower), x)
    if isinstance(other, Tensor):
        return _sorted(x.lower / other, x.upper / other, other, None)
    return _sorted(x.lower / other, x.upper / other, 1 / other, x.apart)


@_rule("reciprocal")
def _reciprocal(x: Interval) -> Any:
    return _div(1.0, x)


@_rule("abs absolute")
def _abs(x: Interval) -> Interval:
    far = torch.maximum(x.lower.abs(), x.upper.abs())
    near = torch.maximum(x.lower, -x.upper).clamp_min(0)
    return Interval(near, far)


@_rule("square")
def _square(x: Interval) -> Interval:
    size: Interval = _abs(x)
    return Interval(size.lower.square(), size.upper.square())


@_rule("pow")
def _pow(x: Any, exponent: Any) -> Interval:
    whole = isinstance(exponent, (int, float)) and exponent >= 1 and exponent == int(exponent)
    if not whole or not isinstance(x, Interval):
        raise UnboundedError(_refused("a power that is no whole number >= 1"))
    return _on_ends(torch.pow, x if exponent % 2 else _abs(x), exponent)


@_rule("softmax _softmax")
def _softmax(x: Interval, dim: int | None = None, *args: Any, **options: Any) -> Interval:
    logs = _log_softmax(x, dim, *args, **options)
    return Interval(logs.lower.exp(), logs.upper.exp())


@_rule("log_softmax _log_softmax")
def _log_softmax(x: Interval, dim: int | None = None, *args: Any, **options: Any) -> Interval:
    """z_k - logsumexp(z) is lowest with z_k at its lowest and the others at their highest."""
    if dim is None:
        raise UnboundedError(_refused("a softmax without a dimension"))
    dtype = next((v for v in (*args, *options.values()) if isinstance(v, torch.dtype)), None)
    lower, upper = (end if dtype is None else end.to(dtype) for end in _ends(x))

    def against(own: Tensor, others: Tensor) -> Tensor:
        return -functional.softplus(_logsumexp_of_others(others, dim) - own)

    # Where classes are compared, the normalisation is common to both.
    logits = x.dim() == 2 and dim in (1, -1)
    return Interval(
        against(lower, upper), against(upper, lower), _comparison(x) if logits else None
    )


def _logsumexp_of_others(z: Tensor, dim: int) -> Tensor:
    """Return for each k the logarithm of the sum of exp(z_j) over all j but k.

    As the whole sum less one part: log(S - e) = log S + log(1 - e/S), which is exact up to rounding
    while the part is no more than half. The largest part may be more; its rest is summed anew.
    """
    whole = z.logsumexp(dim, keepdim=True)
    top = z.argmax(dim, keepdim=True)
    rest = z.scatter(dim, top, -torch.inf).logsumexp(dim, keepdim=True)
    part = (z - whole).exp().clamp_max(0.5)
    return (whole + torch.log1p(-part)).scatter(dim, top, rest)


# --- Linear layers --------------------------------------------------------------------------------


def _through(
    function: Callable[..., Tensor], x: Interval, weight: Tensor, bias: Any, terms: int
) -> Interval:
    """Bound W x + b, a sum of `terms` products: the centre goes through W, the radius through |W|.

    Rounding may change the sum by a share of |W| |x| + |b|. The radius is larger by it in a proof,
    at the price of no further product.
    """
    # Half of the weights, in place of half of the sum and of the difference: there are fewer.
    half = weight / 2
    if torch.is_grad_enabled():
        centre = function(x.lower + x.upper, half, bias)
        radius = function(x.upper - x.lower, half.abs(), None)
        return Interval(centre - radius, centre + radius)
    share = _error_of_products(terms, x.lower)
    # The same without new memory where there is some: to get it takes as long as the sums.
    given = x.lower + x.upper
    centre = function(given, half, bias)
    if share:
        given.abs_().mul_(share).add_(x.upper).sub_(x.lower)
        spread = None if bias is None else bias.abs() * share
        radius = function(given, half.abs_().mul_(1 + share), spread)
    else:
        radius = function(torch.sub(x.upper, x.lower, out=given), half.abs_(), None)
    lower = centre.sub_(radius)
    return Interval(lower, torch.add(lower, radius, alpha=2, out=radius))


def _constant(*weights: Any) -> None:
    if any(isinstance(weight, Interval) for weight in weights):
        raise UnboundedError(_refused("a product in which the weights depend on the image"))


@_rule("linear")
def _linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Interval:
    _constant(weight, bias)
    bounded = _through(F.linear, x, weight, bias, x.shape[-1])
    if x.dim() != 2:
        return bounded
    lower, upper = _ends(x)
    writes = _writes(lower, upper)
    share = _error_of_products(x.shape[-1], x.lower)
    # As they are now: a model may swap them in for the call alone, and margins are asked for later.
    weight = weight.clone()
    bias = None if bias is None else bias.clone()

    def apart(y: Tensor) -> Tensor:
        """(w_y - w_k)' c + b_y - b_k - |w_y - w_k|' r."""
        if writes is None or writes != _writes(lower, upper):  # they are others now
            return lower.new_full((len(y), len(weight)), -torch.inf)
        own = y.unsqueeze(1)
        centre, radius = (lower + upper) / 2, (upper - lower) / 2
        z = F.linear(centre, weight, bias)
        # One product for each label that occurs: |w_y - w_k| of all pairs may be large.
        reach = _label_by_label(
            y, lambda label, rows: radius[rows] @ (weight[label] - weight).abs().T
        )
        if share:
            size = None if bias is None else bias.abs()
            rounded = share * F.linear(centre.abs() + radius, weight.abs(), size)
            reach = reach + rounded + rounded.gather(1, own)
        return z.gather(1, own) - z - reach

    return Interval(bounded.lower, bounded.upper, apart)


def _label_by_label(y: Tensor, of: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Return rows (N, K) that are computed together for the examples of each label."""
    parts, places = [], []
    for label in y.unique().tolist():
        rows = (y == label).nonzero().squeeze(1)
        parts.append(of(label, rows))
        places.append(rows)
    return torch.cat(parts)[torch.cat(places).argsort()]


def _comparison(z: Interval) -> Apart:
    """Return what is known of the margins of logits, also where that is their bounds alone."""
    if z.apart is not None:
        return z.apart
    lower, upper = z.lower.clone(), z.upper.clone()  # they may be written to
    return lambda y: lower.gather(1, y.unsqueeze(1)) - upper


@_rule("__rmatmul__")
def _rmatmul(x: Any, other: Any) -> Any:
    return _matmul(other, x)


@_rule("matmul mm bmm mv __matmul__")
def _matmul(x: Any, other: Any) -> Any:
    if isinstance(x, Interval):
        _constant(other)
        return _through(lambda z, w, _: z @ w, x, other, None, x.shape[-1])
    if not isinstance(other, Interval):
        return x @ other
    return _through(lambda z, w, _: w @ z, other, x, None, x.shape[-1])


@_rule("addmm")
def _addmm(added: Any, x: Any, other: Any, *, beta: float = 1, alpha: float = 1) -> Interval:
    product = _matmul(x, other)
    return _add(_mul(added, beta), _mul(product, alpha))


@_rule("einsum")
def _einsum(equation: str, *operands: Any) -> Interval:
    operands = tuple(operands[0]) if isinstance(operands[0], (list, tuple)) else operands
    places = [i for i, operand in enumerate(operands) if isinstance(operand, Interval)]
    if len(places) > 1:
        raise UnboundedError(_refused("einsum() of several operands that depend on the image"))
    (place,) = places

    def product(z: Tensor, others: list[Tensor]) -> Tensor:
        return torch.einsum(equation, *others[:place], z, *others[place:])

    x, others = operands[place], [*operands[:place], *operands[place + 1 :]]
    share = _error_of_products(sum(operand.numel() // len(operand) for operand in others), x.lower)
    size = x.radius + share * (x.centre.abs() + x.radius)
    centre, radius = product(x.centre, others), product(size, [o.abs() for o in others])
    return Interval(centre - radius, centre + radius)


def _convolved(function: Callable[..., Tensor]) -> Rule:
    def rule(x: Any, weight: Tensor, bias: Any = None, *args: Any, **options: Any) -> Interval:
        _constant(weight, bias)
        terms = weight.numel() // min(weight.shape[:2])  # or fewer
        return _through(lambda z, w, b: function(z, w, b, *args, **options), x, weight, bias, terms)

    return rule


_register(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution",
    _convolved,
)


@_rule_of(F.batch_norm)
def _batch_norm(
    x: Interval, mean: Tensor | None, var: Tensor | None, *args: Any, **options: Any
) -> Interval:
    names = ("weight", "bias", "training", "momentum", "eps")
    given = {"training": False} | dict(zip(names, args, strict=False)) | options
    if given["training"] or mean is None or var is None:
        raise UnboundedError(_refused("BatchNorm with the statistics of the batch", _FIXED))
    given |= {"running_mean": mean, "running_var": var}
    share = _error(4, x.lower)
    around = share * mean.abs().view(1, -1, *[1] * (x.dim() - 2))
    lower, upper = _widened(x, share)
    one, two = F.batch_norm(lower - around, **given), F.batch_norm(upper + around, **given)
    scaled = Interval(torch.minimum(one, two), torch.maximum(one, two))
    return Interval(*_widened(scaled, share))


@_rule_of(torch.batch_norm)
def _batch_norm_of(x: Interval, weight: Any, bias: Any, *others: Any) -> Interval:
    mean, var, training, momentum, eps, _ = others
    return _batch_norm(x, mean, var, weight, bias, training, momentum, eps)


# --- Functions of the course ----------------------------------------------------------------------


@_rule_of(functional.log_mean_softmax)
def _log_mean_softmax(logits: Sequence[Any]) -> Interval:
    """A quotient of sums lies between the quotients of their parts: the weakest member's margin."""
    logs = [_log_softmax(z, 1) for z in logits]
    mean = _on_ends(lambda *ends: functional.log_mean(ends), *logs)
    known = [_comparison(z) for z in logs]

    def apart(y: Tensor) -> Tensor:
        return torch.stack([margins(y) for margins in known]).amin(0)

    return Interval(mean.lower, mean.upper, apart)


@_rule_of(functional.rbf_log_odds)
def _rbf_log_odds(x: Interval, centre: Tensor, precision: Tensor) -> Interval:
    _constant(centre, precision)
    centre, precision = centre.clone(), precision.clone()  # as they are now; see `_linear`
    q: Any = functional.rbf_distance(x, centre, precision)  # type: ignore[arg-type]
    odds = functional.log_odds
    near, far = q.lower, q.upper
    box = x.lower.unsqueeze(1).clone(), x.upper.unsqueeze(1).clone()  # (N, 1, d)

    def least(label: int, rows: Tensor) -> Tensor:
        """q_k - q_y at its least, (n, K): a sum of one quadratic function of each pixel."""
        low, high = box[0][rows], box[1][rows]

        def difference(pixels: Tensor) -> Tensor:  # (n, K, d)
            own = precision[label] * (pixels - centre[label]).square()
            return precision * (pixels - centre).square() - own

        curvature = precision - precision[label]  # (K, d)
        slope = precision * centre - (precision * centre)[label]
        flat = curvature == 0
        # At an end, or at the vertex if it is between them. A vertex that is a maximum is no harm.
        vertex = torch.where(flat, 0.0, slope) / torch.where(flat, 1.0, curvature)
        vertex = vertex.expand(len(rows), -1, -1).clamp(low, high)
        ends = torch.minimum(difference(low), difference(high))
        return torch.minimum(ends, difference(vertex)).sum(-1)

    def apart(y: Tensor) -> Tensor:
        """Bound g(q_y) - g(q_k), where g falls ever less steeply, q_k >= q_y + d and q_k >= near_k.

        As a function of q_y, the lowest margin that this leaves turns only where one of the two
        takes over from the other, and where log_odds begins: it is least there, or at an end.
        """
        d = _label_by_label(y, least)
        own = y.unsqueeze(1)
        low, high = near.gather(1, own).expand_as(d), far.gather(1, own).expand_as(d)
        floor = near.clamp_min(functional.LEAST_DISTANCE)
        at = low, high, torch.clamp(near - d, low, high), torch.clamp(floor - d, low, high)
        margins = [odds(q_y) - odds(torch.maximum(q_y + d, near)) for q_y in at]
        return torch.stack(margins).amin(0)

    return Interval(odds(far), odds(near), apart)
