"""How a wrong result is related to the right one: its negative, a multiple, clamped, transposed.

This needs no bank. A relation is told only if it holds for all numbers of all inputs, and if enough
of these numbers are wrong to tell it from chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from advlearn.course.grading import evidence
from advlearn.course.grading.evidence import Args

Agree: TypeAlias = Callable[[list[Tensor], list[Tensor]], bool]

FEWEST = 3  # different wrong numbers on which a relation may rest
_LARGEST = 100_000  # numbers in a result of another shape: `expand` makes one of any size

_SHAPES_OF_IT: tuple[tuple[Callable[[Tensor], Tensor], str], ...] = (
    (torch.neg, "Your result is the negative of the expected one, everywhere: a sign is reversed."),
    (torch.abs, "Your result is the absolute value of the expected one: the signs are lost."),
    (lambda e: -e.abs(), "Your result is minus the absolute value of the expected one."),
    (lambda e: 1 - e, "Your result is 1 minus the expected one, everywhere."),
    (lambda e: e - 1, "Your result is the expected one minus 1, everywhere."),
    (torch.reciprocal, "Your result is 1 divided by the expected one: a fraction is upside down."),
    (torch.square, "Your result is the square of the expected one."),
    (lambda e: e.clamp(min=0).sqrt(), "Your result is the square root of the expected one."),
    (torch.exp, "Your result is the exponential of the expected one."),
    (lambda e: e.clamp(min=0).log(), "Your result is the logarithm of the expected one."),
    (torch.sign, "Your result is the sign of the expected one: its size is lost."),
    (torch.floor, "Your result is the expected one rounded down."),
    (torch.trunc, "Your result is the expected one with its fraction cut off."),
    (
        lambda e: e.clamp(0, 1),
        "Your result is the expected one clamped to [0, 1]. Here it may leave that range.",
    ),
    (
        lambda e: e.clamp(-1, 1),
        "Your result is the expected one clamped to [-1, 1]. Here it may leave that range.",
    ),
    (
        lambda e: e.clamp(min=0),
        "Your result is the expected one with 0 for all that is negative. Here it may be negative.",
    ),
)

_MERGED: tuple[tuple[Callable[[Tensor], Tensor], str], ...] = (
    (torch.mean, "the mean"),
    (torch.sum, "the sum"),
    (torch.amax, "the largest"),
    (torch.amin, "the smallest"),
)


def relation(
    outputs: Sequence[object], expected: Sequence[object], inputs: Sequence[Args], agree: Agree
) -> str | None:
    """Say how results are related to the expected ones, or return None.

    Args:
        outputs: What a function returned on each input.
        expected: What it should have returned.
        inputs: The arguments.
        agree: Whether two lists of tensors are equal, within the tolerance of the exercise.

    Example:
        >>> right, agree = torch.tensor([0.5, -2.0, 3.0]), lambda a, b: torch.equal(a[0], b[0])
        >>> relation([-right], [right], [()], agree)
        'Your result is the negative of the expected one, everywhere: a sign is reversed.'
    """
    values = [evidence.read(a, b) for a, b in zip(outputs, expected, strict=True)]
    right = [evidence.read(b, b) for b in expected]
    readable = [v for v in values if isinstance(v, list)]
    targets = [v for v in right if isinstance(v, list)]
    if len(readable) < len(values):
        return _another_form(outputs, targets, agree)
    return relation_of_values(readable, targets, inputs, agree)


def relation_of_values(
    values: list[list[Tensor]], right: list[list[Tensor]], inputs: Sequence[Args], agree: Agree
) -> str | None:
    """Say how values, as `evidence.read` gives them, are related to the right ones."""
    if _all_flipped(values, right):
        return "Your answers are the wrong way round: each 1 should be 0, and each 0 should be 1."
    found = different_numbers(values, right, agree)
    if found < FEWEST:
        return _rounded(values, right, agree, least=1) if found == FEWEST - 1 else None
    for change, text in _SHAPES_OF_IT:
        if _holds(values, right, change, agree):
            return text
    return (
        _in_another_order(values, right, agree)
        or _rounded(values, right, agree)
        or _one_of_the_inputs(values, inputs, agree)
        or _times_a_size(values, right, inputs, agree)
        or _scaled_or_moved(values, right, agree)
        or _turned(values, right, agree)
    )


def different_numbers(
    values: Sequence[list[Tensor]], right: Sequence[list[Tensor]], agree: Agree
) -> int:
    """Count the different wrong numbers: how much a comparison with something else rests on."""
    wrong: set[float] = set()
    for a, b in zip(values, right, strict=True):
        for part, target in zip(a, b, strict=True):
            if part.shape == target.shape and not agree([part], [target]):
                far = ~torch.isclose(part, target, 1e-4, 1e-6, equal_nan=True)
                wrong.update(round(v, 6) for v in part[far].tolist() if math.isfinite(v))
    return len(wrong)


def _all_flipped(values: Sequence[list[Tensor]], right: Sequence[list[Tensor]]) -> bool:
    """Tell whether yes stands for no everywhere, in enough places of both kinds."""
    a = torch.cat([part.flatten() for parts in values for part in parts])
    b = torch.cat([part.flatten() for parts in right for part in parts])
    if not (((b == 0) | (b == 1)).all() and a.shape == b.shape):
        return False
    return bool((a == 1 - b).all()) and min(int(b.sum()), int((1 - b).sum())) >= FEWEST


def _holds(
    values: Sequence[list[Tensor]],
    right: Sequence[list[Tensor]],
    change: Callable[[Tensor], Tensor],
    agree: Agree,
) -> bool:
    return all(agree(a, [change(part) for part in b]) for a, b in zip(values, right, strict=True))


def _in_another_order(
    values: list[list[Tensor]], right: list[list[Tensor]], agree: Agree
) -> str | None:
    count = len(right[0])
    if count < 2:
        return None
    for shift in range(1, count):
        orders = [[(k + shift) % count for k in range(count)]]
        if shift == 1:
            orders.append(list(reversed(range(count))))
        for order in orders:
            moved = [[b[k] for k in order] for b in right]
            if all(agree(a, b) for a, b in zip(values, moved, strict=True)):
                return "Your results are right, but they come in another order."
    return None


def _rounded(
    values: list[list[Tensor]], right: list[list[Tensor]], agree: Agree, least: int = 0
) -> str | None:
    """Look for rounding to at least so many decimal places: each one more is less of a chance."""
    for digits in range(least, 5):
        if _holds(values, right, lambda e, d=digits: torch.round(e, decimals=d), agree):  # type: ignore[misc]
            places = f"{digits} decimal place{'s' * (digits > 1)}" if digits else "whole numbers"
            return f"Your result is the expected one rounded to {places}. Do not round."
    return None


def _one_of_the_inputs(
    values: list[list[Tensor]], inputs: Sequence[Args], agree: Agree
) -> str | None:
    if len(values[0]) != 1 or not inputs[0]:
        return None
    for place in range(len(inputs[0])):
        given = [args[place] for args in inputs]
        if all(
            isinstance(g, Tensor) and g.shape == v[0].shape and agree(v, [g.double()])
            for g, v in zip(given, values, strict=True)
        ):
            return "Your function returns one of its arguments as it came."
    return None


def _times_a_size(
    values: list[list[Tensor]], right: list[list[Tensor]], inputs: Sequence[Args], agree: Agree
) -> str | None:
    """Look for a sum in place of a mean, or the other way round, by the sizes of the inputs."""
    sizes: dict[str, list[list[int]]] = {
        "examples": [],  # of any argument: in a table (A, N), they are not its rows
        "entries in one example": [],
        "entries": [],
    }
    for given in zip(*inputs, strict=True):
        if not all(isinstance(g, Tensor) and g.ndim for g in given):
            continue
        sizes["examples"].append([len(g) for g in given])
        if all(g.ndim > 1 for g in given):
            sizes["entries in one example"].append([g[0].numel() for g in given])
        sizes["entries"].append([g.numel() for g in given])
    for what, all_counts in sizes.items():
        for counts in all_counts:
            if len(set(counts)) < 2:
                continue
            for sign, words in ((1, "multiplied by"), (-1, "divided by")):
                scaled = [
                    [part * float(n) ** sign for part in b]
                    for b, n in zip(right, counts, strict=True)
                ]
                if all(agree(a, b) for a, b in zip(values, scaled, strict=True)):
                    remedy = "a sum or a count where a mean or a share is asked"
                    if sign < 0:
                        remedy = "a mean where a sum is asked, or one mean too many"
                    return (
                        f"Your result is the expected one {words} the number of {what}: {remedy}."
                    )
    return None


def _scaled_or_moved(
    values: list[list[Tensor]], right: list[list[Tensor]], agree: Agree
) -> str | None:
    a = torch.cat([part.flatten() for parts in values for part in parts])
    b = torch.cat([part.flatten() for parts in right for part in parts])
    usual = a.isfinite() & b.isfinite()
    a, b = a[usual], b[usual]
    if len({round(v, 6) for v in b.tolist()}) <= FEWEST:  # one number is fitted
        return None
    largest = b.abs().argmax()
    factor = float(a[largest] / b[largest])
    if factor and abs(factor - 1) > 1e-3 and _holds(values, right, lambda e: factor * e, agree):
        return f"Your result is {_in_words(factor)} the expected one, everywhere."
    offset = float(a[largest] - b[largest])
    if _holds(values, right, lambda e: e + offset, agree):
        more = "above" if offset > 0 else "below"
        return f"Your result is {abs(offset):.4g} {more} the expected one, everywhere."
    return None


def _in_words(factor: float) -> str:
    for number in range(2, 13):
        if math.isclose(abs(factor), number, rel_tol=1e-4):
            return f"{'minus ' if factor < 0 else ''}{number} times"
        if math.isclose(abs(factor), 1 / number, rel_tol=1e-4):
            return f"{'minus ' if factor < 0 else ''}1/{number} of"
    return f"{factor:.4g} times"


def _turned(values: list[list[Tensor]], right: list[list[Tensor]], agree: Agree) -> str | None:
    for dim, text in ((0, "upside down: its rows"), (-1, "reversed: the entries of a row")):
        if all(part.ndim for parts in right for part in parts) and _holds(
            values,
            right,
            lambda e, d=dim: e.flip(d),  # type: ignore[misc]
            agree,
        ):
            return f"Your result is {text} come in the opposite order."
    square = all(part.ndim == 2 and len(part) == len(part.T) for b in right for part in b)
    if square and _holds(values, right, lambda e: e.T, agree):
        return "Your result is transposed: its rows are the expected columns."
    return None


def _another_form(outputs: Sequence[object], right: list[list[Tensor]], agree: Agree) -> str | None:
    """Look for the right numbers in another shape: transposed, one for all, a dimension more."""
    values = [_plain(output) for output in outputs]
    if len(right[0]) != 1 or any(value is None for value in values):
        return None
    pairs = [(v, b[0]) for v, b in zip(values, right, strict=True) if v is not None]
    if sum(len(set(b.flatten().tolist())) for _, b in pairs) < FEWEST:
        return None

    def holds(change: Callable[[Tensor], Tensor]) -> bool:
        return all((c := change(b)).shape == v.shape and agree([v], [c]) for v, b in pairs)

    text = None
    if all(b.ndim == 2 for _, b in pairs) and holds(lambda e: e.T):
        text = "Your result is transposed: its rows are the expected columns."
    elif all(v.numel() == b.numel() and agree([v.flatten()], [b.flatten()]) for v, b in pairs):
        others = [(v, b) for v, b in pairs if v.shape != b.shape]
        if not others:  # what is wrong is no shape
            return None
        other = min(others, key=lambda pair: pair[1].numel())  # the smallest is shown below
        text = (
            f"The numbers are right, but their shape is not: yours is {evidence.shape(other[0])}, "
            f"expected is {evidence.shape(other[1])}. `squeeze`, `flatten` and `reshape` change a "
            "shape."
        )
    elif any(b.numel() > 1 for _, b in pairs):
        merged = (words for reduce, words in _MERGED if holds(reduce))
        if words := next(merged, None):
            text = f"You return {words} of the expected numbers. Return all of them."
    return text


def _plain(output: object) -> Tensor | None:
    """Return a tensor of real numbers that may be looked at, and None for all else."""
    if not isinstance(output, Tensor) or output.is_meta or output.layout != torch.strided:
        return None
    if output.is_complex() or output.is_quantized or output.numel() > _LARGEST:
        return None
    return output.detach().cpu().double()
