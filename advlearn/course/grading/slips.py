"""Slips that any exercise may meet: an argument forgotten or exchanged, a step left out.

Each one is the right function with one thing changed: what it is given, or what one function of
PyTorch does while it runs. So the slips need no text in a bank, and they are tried only on a wrong
answer that no misconception of its bank explains.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from advlearn.course.grading.misconceptions import Misconception

Operation: TypeAlias = Callable[..., Any]


class _Instead(TorchFunctionMode):
    """While it is active, calls of some functions of PyTorch do something else."""

    def __init__(self, instead: Mapping[str, Operation]) -> None:
        super().__init__()
        self._instead = instead

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        other = self._instead.get(getattr(func, "__name__", "").strip("_"))
        if other is None:
            return func(*args, **(kwargs or {}))
        return other(func, *args, **(kwargs or {}))


def _unchanged(_func: Operation, value: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return value


def _by(name: str) -> Operation:
    """Call another method of the same tensor with the same arguments."""

    def other(_func: Operation, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        return getattr(value, name)(*args, **kwargs)

    return other


def _sign_of_zero(value: float) -> Operation:
    def sign(func: Operation, v: Tensor) -> Tensor:
        return torch.where(v == 0, torch.full_like(v, value), func(v))

    return sign


def _value_over_size(_func: Operation, v: Tensor) -> Tensor:
    return v / v.abs()


def _over_largest(_func: Operation, v: Tensor) -> Tensor:
    return v / v.abs().amax()


def _over_largest_of_each(_func: Operation, v: Tensor) -> Tensor:
    return v / v.abs().amax(tuple(range(1, v.ndim)), keepdim=True).clamp(min=1e-12)


def _over_length(_func: Operation, v: Tensor) -> Tensor:
    return v / v.square().sum().sqrt()


def _over_length_of_each(_func: Operation, v: Tensor) -> Tensor:
    dims = tuple(range(1, v.ndim))
    length: Tensor = v.square().sum(dims, keepdim=True).sqrt().clamp(min=1e-12)
    return v / length


def _opposite(func: Operation, v: Tensor) -> Any:
    return -func(v)


def _of_minus(func: Operation, v: Tensor) -> Any:
    return func(-v)


def _of_everything(func: Operation, v: Tensor, *_args: Any, **_kwargs: Any) -> Any:
    return func(v)


def _place_of_largest(func: Operation, v: Tensor, *args: Any, **kwargs: Any) -> Any:
    if func.__name__ == "amax":
        return v.argmax(*args, **kwargs)
    found = func(v, *args, **kwargs)
    if isinstance(found, tuple):  # values and places, as `max(dim=...)` gives them
        both: Any = type(found)
        return both((found[1], found[1]))
    return found


def _for_every_label(
    func: Operation, v: Tensor, dim: int, index: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Write into the column of every label of the batch, as `v[:, y] = ...` does."""
    return func(v, dim, index.flatten().expand(len(v), -1), *args, **kwargs)


def _clamp(low: bool, high: bool) -> Operation:
    """Clamp at some ends only."""

    def clamp(func: Operation, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        ends = dict(zip(("min", "max"), args, strict=False)) | kwargs
        kept = {k: v for k, v in ends.items() if (low if k == "min" else high) and v is not None}
        clamped: Tensor = func(v, **kept) if kept else v
        return clamped

    return clamp


def _softmax_first(func: Operation, logits: Tensor, *args: Any, **kwargs: Any) -> Any:
    return func(logits.softmax(1), *args, **kwargs)


def _own_labels(func: Operation, logits: Tensor, _y: Tensor, *args: Any, **kwargs: Any) -> Any:
    return func(logits, logits.argmax(1), *args, **kwargs)


def _no_logarithm(_func: Operation, logits: Tensor, *args: Any, **kwargs: Any) -> Any:
    return functional.nll_loss(logits, *args, **kwargs)


def _minus(func: Operation, *args: Any, **kwargs: Any) -> Any:
    return -func(*args, **kwargs)


def _reduced(by: str) -> Operation:
    def reduced(func: Operation, *args: Any, **kwargs: Any) -> Any:
        return func(*args, **{**kwargs, "reduction": by})

    return reduced


def _other_dimension(func: Operation, v: Tensor, *args: Any, **kwargs: Any) -> Any:
    if v.ndim == 2 and args and args[0] in (1, -1):
        return func(v, 0, *args[1:], **kwargs)
    if v.ndim == 2 and kwargs.get("dim") in (1, -1):
        return func(v, *args, **{**kwargs, "dim": 0})
    return func(v, *args, **kwargs)


def _step(what: str, **instead: Operation) -> tuple[str, Mapping[str, Operation]]:
    return what, instead


# "Your result is what comes out when …", and what is done in place of which function of PyTorch.
_STEPS = (
    _step("the values themselves are used in place of their signs", sign=_unchanged),
    _step("the sign of 0 is taken for +1 or -1. It is 0: a pixel stays", sign=_sign_of_zero(1.0)),
    _step("the sign of 0 is taken for +1 or -1. It is 0: a pixel stays", sign=_sign_of_zero(-1.0)),
    _step("the sign is v / |v|. Where v is 0, that is 0 / 0 = nan", sign=_value_over_size),
    _step("the signs are reversed", sign=_opposite),
    *(
        _step("values are divided by the largest one, in place of taking their signs", sign=divided)
        for divided in (_over_largest, _over_largest_of_each)
    ),
    *(
        _step("values are divided by their length, in place of taking their signs", sign=divided)
        for divided in (_over_length, _over_length_of_each)
    ),
    _step("no absolute value is taken", abs=_unchanged),
    _step("squares are taken in place of absolute values", abs=_by("square")),
    _step("nothing is clamped", clamp=_clamp(False, False)),
    _step("only the lower end is clamped", clamp=_clamp(True, False)),
    _step("only the upper end is clamped", clamp=_clamp(False, True)),
    _step("a sum stands in place of a mean", mean=_by("sum")),
    _step("a mean stands in place of a sum", sum=_by("mean")),
    _step("one mean is taken over the whole batch, and not one for each row", mean=_of_everything),
    _step(
        "one sum (or one length) is taken over the whole batch, and not one for each row",
        sum=_of_everything,
    ),
    _step("the largest value of everything is taken", amax=_of_everything, max=_of_everything),
    _step("sums run over the wrong dimension", sum=_other_dimension, mean=_other_dimension),
    _step(
        "the place of the largest value is given, as by `argmax`, and not the value",
        amax=_place_of_largest,
        max=_place_of_largest,
    ),
    _step(
        "`z[:, y]` stands for the label's own entry of each row. It is the columns of ALL labels, "
        "in every row: `z[torch.arange(len(y)), y]` picks one entry of each",
        scatter=_for_every_label,
    ),
    _step("the smallest value is taken, not the largest", max=_by("min"), amax=_by("amin")),
    _step("the largest value is taken, not the smallest", min=_by("max"), amin=_by("amax")),
    _step("the class with the smallest value is the answer", argmax=_by("argmin")),
    _step("`all` stands in place of `any`", any=_by("all")),
    _step("`any` stands in place of `all`", all=_by("any")),
    _step("it is decided along the wrong dimension", any=_other_dimension, all=_other_dimension),
    _step("numbers are rounded down, not to the nearest", round=_by("floor")),
    _step("numbers are rounded up, not to the nearest", round=_by("ceil")),
    _step("nothing is rounded", round=_unchanged),
    _step("the norm is left out", norm=_unchanged, vector_norm=_unchanged),
    _step("the sigmoid is left out", sigmoid=_unchanged),
    _step("the ReLU is left out", relu=_unchanged),
    _step("the square root is left out", sqrt=_unchanged),
    _step("the logarithm is left out", log=_unchanged),
    _step("a plain sum stands in place of `logsumexp`", logsumexp=_by("sum")),
    _step("the largest logit stands in place of `logsumexp`", logsumexp=_by("amax")),
    _step("the softmax is left out", softmax=_unchanged),
    _step("the log-softmax is left out", log_softmax=_unchanged),
    _step(
        "the softmax runs over the examples, not over the classes",
        softmax=_other_dimension,
        log_softmax=_other_dimension,
        logsumexp=_other_dimension,
    ),
    _step(
        "a softmax comes before the cross-entropy. It expects logits, and takes the softmax itself",
        cross_entropy=_softmax_first,
    ),
    _step("the loss takes the model's own answers for the labels", cross_entropy=_own_labels),
    _step(
        "the loss lacks its log-softmax, as in `nll_loss(logits, y)`", cross_entropy=_no_logarithm
    ),
    _step("the loss falls, not rises: a minus too many or too few", cross_entropy=_minus),
    _step("the cross-entropy is averaged over the examples", cross_entropy=_reduced("mean")),
    _step("the cross-entropy is summed over the examples", cross_entropy=_reduced("sum")),
    _step("the argument of softplus has the wrong sign", softplus=_of_minus),
    _step("the softplus is left out", softplus=_unchanged),
)

_COMPARISONS = (
    ("gt", "ge", ">=", ">"),
    ("ge", "gt", ">", ">="),
    ("lt", "le", "<=", "<"),
    ("le", "lt", "<", "<="),
)


def slips_in_steps(function: Callable[..., Any]) -> tuple[Misconception, ...]:
    """Return wrong answers that are a right function in which one step is another.

    Example:
        >>> def share(z, y):
        ...     return (z.argmax(1) != y).float().mean()
        >>> slips = {slip.name: slip.answer for slip in slips_in_steps(share)}
        >>> slips["a sum stands in place of a mean"](torch.eye(3), torch.tensor([0, 0, 0]))
        tensor(2.)
    """
    made: list[Misconception] = []
    for what, instead in _STEPS:
        feedback = f"Your result is what comes out when {what}."
        made.append(Misconception(what, _with_steps(function, instead), feedback))
    for name, other, written, asked in _COMPARISONS:
        feedback = f"Look at the edge: only there do `{written}` and `{asked}` differ."
        answer = _with_steps(function, {name: _by(other)})
        made.append(Misconception(f"{written} for {asked}", answer, feedback))
    return tuple(made)


def _with_steps(function: Callable[..., Any], instead: Mapping[str, Operation]) -> Operation:
    def changed(*args: Any) -> Any:
        with _Instead(instead):
            return function(*args)

    return changed


def slips_in_arguments(function: Callable[..., Any]) -> Iterator[Misconception]:
    """Give wrong answers that are a right function of other arguments.

    Example:
        >>> [slip.name for slip in slips_in_arguments(lambda w, b: w + b)][-4:]
        ['minus b', '2·b', 'b/2', 'w and b exchanged']
    """
    names = tuple(inspect.signature(function).parameters)
    for place, name in enumerate(names):
        for value, word in ((0.0, "0"), (1.0, "1")):
            yield Misconception(
                f"{name} = {word}",
                _with_arguments(function, place, value),
                f"Your result is the right one for {name} = {word}. Is `{name}` left out?",
            )
        yield Misconception(
            f"minus {name}",
            _with_arguments(function, place, 0.0, -1.0),
            f"Your result is the right one for -{name}: `{name}` has the wrong sign.",
        )
        for factor, other, done in (
            (2.0, f"2·{name}", "counted twice"),
            (0.5, f"{name}/2", "halved"),
        ):
            yield Misconception(
                other,
                _with_arguments(function, place, 0.0, factor),
                f"Your result is the right one for {other}. Is `{name}` {done}?",
            )
    for a, b in itertools.combinations(range(len(names)), 2):
        yield Misconception(
            f"{names[a]} and {names[b]} exchanged",
            _exchanged(function, a, b),
            f"Your result is the right one with `{names[a]}` and `{names[b]}` exchanged.",
        )


def _with_arguments(
    function: Callable[..., Any], place: int, value: float, factor: float = 0.0
) -> Operation:
    """Put factor·argument + value in the place of one argument."""

    def changed(*args: Any) -> Any:
        old = args[place]
        if isinstance(old, bool) or not isinstance(old, Tensor | float):
            raise TypeError("only numbers are changed")
        if isinstance(old, Tensor) and not old.is_floating_point():
            raise TypeError("only floating numbers are changed")
        new: Any = old * factor + value
        return function(*args[:place], new, *args[place + 1 :])

    return changed


def _exchanged(function: Callable[..., Any], a: int, b: int) -> Operation:
    def changed(*args: Any) -> Any:
        one, two = args[a], args[b]
        if type(one) is not type(two) or isinstance(one, nn.Module) or callable(one):
            raise TypeError("only arguments of one kind are exchanged")
        if isinstance(one, Tensor) and (one.shape != two.shape or one.dtype != two.dtype):
            raise TypeError("only arguments of one form are exchanged")
        new = list(args)
        new[a], new[b] = two, one
        return function(*new)

    return changed


def told_by(slips: Sequence[Misconception], fits: Callable[[Misconception], bool]) -> str | None:
    """Return the feedback of the slips that fit if they all say the same, or None."""
    told = {slip.feedback for slip in slips if fits(slip)}
    return told.pop() if len(told) == 1 else None


_TIES = (  # what all names have in common, and what it comes to
    (re.compile(r"minus (.+)"), "-{}", "a sign is wrong"),
    (re.compile(r"2·(.+)"), "2·{}", "a factor 2 too many"),
    (re.compile(r"(.+)/2"), "{}/2", "a factor 2 is missing"),
)


def told_by_arguments(
    slips: Sequence[Misconception], fits: Callable[[Misconception], bool]
) -> str | None:
    """Return the feedback of the slips in arguments that fit, if they come to the same.

    In eps·g nobody can tell whether eps or g was doubled. Both are said.

    Example:
        >>> slips = tuple(slips_in_arguments(lambda eps, g: eps * g))
        >>> told_by_arguments(slips, lambda slip: slip.name in ("2·eps", "2·g"))
        'Your result is the right one for 2·eps, and for 2·g: a factor 2 too many.'
    """
    fitting = [slip for slip in slips if fits(slip)]
    told = {slip.feedback for slip in fitting}
    if len(told) == 1:
        return told.pop()
    for pattern, written, meaning in _TIES:
        matches = [pattern.fullmatch(slip.name) for slip in fitting]
        names = [written.format(match[1]) for match in matches if match]
        if names and len(names) == len(fitting):
            which = ", and for ".join(dict.fromkeys(names))
            return f"Your result is the right one for {which}: {meaning}."
    return None
