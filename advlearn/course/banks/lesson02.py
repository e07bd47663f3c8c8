"""Exercises of lesson 02: softplus and maxout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from advlearn.course import grading
from advlearn.course.banks.inputs import randn
from advlearn.course.grading import Args, Exercise, edits, parse, rule

functional = torch.nn.functional


# --- 1. Softplus without overflow ---------------------------------------------------------------


def _stable_softplus(v: Tensor) -> Tensor:
    kink = torch.clamp(v, min=0)  # max(v, 0)
    # exp(-|v|) is at most 1, so it never overflows; log1p keeps it when it is tiny.
    return kink + torch.log1p(torch.exp(-torch.abs(v)))


def _wide_numbers(generator: torch.Generator) -> list[Args]:
    return [
        (torch.tensor([-1.0, 0.0, 2.0]),),
        (torch.tensor([1000.0, -1000.0]),),
        (torch.tensor([89.0, 120.0, 500.0]),),  # exp(89) is infinite in float32
        (torch.tensor([-20.0, -40.0, -60.0]),),  # 1 + exp(-20) is 1 in float32
        (5 * randn(generator, 4, 6),),
        (torch.tensor([[40.0, -1.0, 0.5], [-30.0, 100.0, 2.0]]),),  # large ones among others
    ]


@rule("Your softplus falls below max(v, 0). The true one lies above it everywhere.")
def _softplus_is_above_relu(args: Args, output: Tensor) -> object:
    return (output >= args[0].clamp(min=0) - 1e-6).all()


@rule("Your softplus is too large: it is never more than log(2) above max(v, 0).")
def _softplus_is_close_to_relu(args: Args, output: Tensor) -> object:
    return (output <= args[0].clamp(min=0) + 0.6932).all()


@rule("Your softplus is 0 for some negative v. The true one never is: it is nearly exp(v) there.")
def _softplus_is_positive(args: Args, output: Tensor) -> object:
    return (output[args[0] > -80] > 0).all()


@rule(
    "Your softplus is v itself for some v below 8. There it is clearly larger: whoever takes v for"
    " large v must begin further up."
)
def _softplus_is_above_v(args: Args, output: Tensor) -> object:
    low = (args[0] > 0) & (args[0] < 8)
    return (output[low] > args[0][low] + 1e-4).all()


def _switching_softplus(v: Tensor) -> Tensor:
    return torch.where(v > 30, v, torch.log1p(torch.exp(v.clamp(max=30))))


stable_softplus = Exercise(
    name="stable_softplus",
    lesson="02",
    title="Softplus without overflow",
    task=(
        "Return softplus log(1 + exp(v)) of every entry of v, for entries of any size: finite for "
        "v = 1000, and not rounded to 0 for v = -20. v has any shape; the result has the same. "
        "Write it yourself with torch.exp, torch.log1p and torch.clamp."
    ),
    difficulty=2,
    minutes=7,
    reference=_stable_softplus,
    inputs=_wide_numbers,
    properties=(
        _softplus_is_above_relu,
        _softplus_is_close_to_relu,
        _softplus_is_positive,
        _softplus_is_above_v,
    ),
    atol=1e-30,
    right_answers=(
        _switching_softplus,
        lambda v: torch.logaddexp(v, torch.zeros_like(v)),
        lambda v: -functional.logsigmoid(-v),
        functional.softplus,
    ),
    wrong_answers=edits(
        _stable_softplus,
        """
        naive: `kink + ` -> ``, `log1p(` -> `log(1 + `, `-torch.abs(v)` -> `v`
            This is the formula as it stands. For large v, exp(v) is inf. For v = -20, 1 + exp(v) is
            rounded to 1, and its logarithm to 0.
        log1p alone: `kink + ` -> ``, `-torch.abs(v)` -> `v`
            log1p fixes the small values, but exp(v) is still inf for large v. Take max(v, 0) out
            first, so that exp never gets a positive number.
        log without log1p: `log1p(` -> `log(1 + `
            Nothing overflows any more, but for v = -20 your result is 0: the sum 1 + exp(-20) is
            rounded to 1. `torch.log1p(u)` computes log(1 + u) without that sum.
        clamped exponent: `kink + ` -> ``, `-torch.abs(v)` -> `v.clamp(max=80)`
            You cut v off before exp. That avoids inf, but softplus then stops growing at the cut.
            For large v it should be v itself.
        relu: ` + torch.log1p(torch.exp(-torch.abs(v)))` -> ``
            This is max(v, 0), the ReLU. Softplus is its smooth version: at v = 0 it is log(2). The
            second part, log1p(exp(-|v|)), is missing.
        absolute value forgotten: `torch.abs(v)` -> `v`
            Your second part uses exp(-v), which overflows for very negative v. Use exp(-|v|): it is
            at most 1.
        formula for positive v: `kink +` -> `v +`, `torch.abs(v)` -> `v`
            This form is for positive v. For very negative v, exp(-v) overflows. With max(v, 0) in
            front and exp(-|v|) behind, it works for both signs.
        absolute value in front: `kink +` -> `v.abs() +`
            You have |v| where max(v, 0) belongs. For negative v, softplus is close to 0.
        minus forgotten: `-torch.abs(v)` -> `torch.abs(v)`
            The minus in the exponent is missing. exp(|v|) overflows; exp(-|v|) is at most 1.
        minus: `kink +` -> `kink -`
            You subtract the second part. Softplus lies above max(v, 0), so it is added.
        rest forgotten: `kink + torch.log1p(torch.exp(-torch.abs(v)))`
        -> `torch.where(v < 0, torch.log1p(torch.exp(-torch.abs(v))), v)`
            Where v is not negative, you return v itself. Add the small rest there, too:
            log1p(exp(-|v|)).
        rest forgotten for positive v: `kink + torch.log1p(torch.exp(-torch.abs(v)))`
        -> `torch.where(v > 0, v, torch.log1p(torch.exp(-torch.abs(v))))`
            Where v is positive, you return v itself. Add the small rest there, too:
            log1p(exp(-|v|)).
        exp for negative v: `kink + torch.log1p(torch.exp(-torch.abs(v)))`
        -> `torch.where(v > 0, v + torch.log1p(torch.exp(-torch.abs(v))), torch.exp(-torch.abs(v)))`
            For negative v you return exp(v). That is near softplus only where v is very negative:
            take log1p of it.
        double precision: `kink + torch.log1p(torch.exp(-torch.abs(v)))`
        -> `torch.log1p(torch.exp(v.double())).to(v.dtype)`
            Double precision only moves the limit: exp(1000) is inf there, too. Take max(v, 0) out
            first.
        one shift for all: `kink + torch.log1p(torch.exp(-torch.abs(v)))`
        -> `v.max() + torch.log(torch.exp(-v.max()) + torch.exp(v - v.max()))`
            You take the same number, the largest v, out of all entries. For an entry far below it,
            exp is rounded to 0. Each entry needs its own max(v, 0).
        nan_to_num: `kink + torch.log1p(torch.exp(-torch.abs(v)))`
        -> `torch.nan_to_num(torch.log1p(torch.exp(v)))`
            You replace inf by a huge number. For large v, softplus is nearly v: take max(v, 0) out
            first, so that exp never overflows.
        one added twice: `torch.log1p(torch` -> `torch.log1p(1 + torch`
            `torch.log1p(u)` adds the 1 itself: it is log(1 + u). Give it exp(-|v|) alone.
        """,
    ),
    hints=(
        "Only large positive numbers make exp overflow. Look at a positive v: "
        "log(1 + exp(v)) = log(exp(v)·(exp(-v) + 1)). Take exp(v) out of the logarithm.",
        "For v at or above 0 this gives v + log(1 + exp(-v)). For v below 0 the formula was fine: "
        "0 + log(1 + exp(v)). Both are max(v, 0) + log(1 + exp(-|v|)).",
        "`torch.clamp(v, min=0)` is max(v, 0), and `torch.log1p(torch.exp(-torch.abs(v)))` is the "
        "second part. Add them.",
    ),
    takeaway="exp(-|v|) is never above 1. Its slope at 0 needs care: see the text below.",
)


# --- 2. The slope of softplus -------------------------------------------------------------------


def _softplus_slope(v: Tensor) -> Tensor:
    return torch.sigmoid(v)  # exp(v) / (1 + exp(v)), numerator and denominator over exp(v)


def _slope_inputs(generator: torch.Generator) -> list[Args]:
    return [
        (torch.tensor([-1.0, 0.0, 2.0]),),
        (torch.tensor([1000.0, -1000.0]),),
        (3 * randn(generator, 4, 6),),
        (torch.tensor([[100.0, 1.0, -0.5], [-100.0, 150.0, 95.0]]),),  # large ones among others
    ]


@rule("Your slope leaves [0, 1]. Softplus never falls, and is never steeper than v itself.")
def _slope_is_between_0_and_1(args: Args, output: Tensor) -> object:
    return ((output >= 0) & (output <= 1)).all()


@rule("Softplus bends upwards everywhere, so its slope should never fall as v grows.")
def _slope_grows(args: Args, output: Tensor) -> object:
    order = args[0].flatten().argsort()
    return (output.flatten()[order].diff() >= -1e-6).all()


@rule(
    "For v above 50 the slope is 1 up to rounding, and for v below -50 it is 0. Yours is not: do "
    "not cut v off."
)
def _slope_is_flat_far_out(args: Args, output: Tensor) -> object:
    v = args[0]
    far = v.abs() > 50
    return ((output - (v > 0).to(v.dtype)).abs()[far] < 1e-6).all()


@rule("Your slope is 0 or 1 for some v between -8 and 8. There it lies in between.")
def _slope_is_in_between(args: Args, output: Tensor) -> object:
    near = output[args[0].abs() < 8]
    return ((near > 1e-4) & (near < 1 - 1e-4)).all()


def _autograd_slope(v: Tensor) -> Tensor:
    v = v.clone().requires_grad_(True)
    return torch.autograd.grad(functional.softplus(v).sum(), v)[0]


softplus_slope = Exercise(
    name="softplus_slope",
    lesson="02",
    title="The slope of softplus",
    task=(
        "Return the derivative of log(1 + exp(v)) at every entry of v, for entries of any size. "
        "v has any shape; the result has the same."
    ),
    difficulty=1,
    minutes=4,
    reference=_softplus_slope,
    inputs=_slope_inputs,
    properties=(
        _slope_is_between_0_and_1,
        _slope_grows,
        _slope_is_flat_far_out,
        _slope_is_in_between,
    ),
    right_answers=(
        _autograd_slope,
        lambda v: 1 / (1 + torch.exp(-v)),
        lambda v: 0.5 * (1 + torch.tanh(v / 2)),
    ),
    wrong_answers=edits(
        _softplus_slope,
        """
        overflow: `torch.sigmoid(v)` -> `torch.exp(v) / (1 + torch.exp(v))`
            Your formula is right, but for v = 1000 it is inf / inf = nan. Divide numerator and
            denominator by exp(v), or use `torch.sigmoid`.
        inner derivative forgotten: `torch.sigmoid(v)` -> `1 / (1 + torch.exp(v))`
            Your slope falls where it should rise: it is 1 / (1 + exp(v)). The derivative of log(u)
            is 1/u, and since u = 1 + exp(v) changes with v too, the chain rule adds the factor
            exp(v).
        slope of the sigmoid: `torch.sigmoid(v)` -> `torch.sigmoid(v) * (1 - torch.sigmoid(v))`
            This is the derivative of the sigmoid: one derivative too many. The slope of softplus
            grows from 0 to 1.
        step: `torch.sigmoid(v)` -> `(v > 0).to(v.dtype)`
            This is the slope of the ReLU, which jumps at 0. Softplus is smooth, and its slope
            changes gradually: it is one half at v = 0.
        only the inner derivative: `torch.sigmoid(v)` -> `torch.exp(v)`
            You have the derivative of the inside only. The logarithm adds the factor
            1 / (1 + exp(v)).
        softplus itself: `torch.sigmoid(v)` -> `functional.softplus(v)`
            This is softplus itself, not its derivative.
        nan becomes 0: `torch.sigmoid(v)` -> `torch.nan_to_num(torch.exp(v) / (1 + torch.exp(v)))`
            You replace nan by 0. Where exp(v) overflows, the slope is 1, not 0. `torch.sigmoid(v)`
            needs no repair.
        straight pieces: `torch.sigmoid(v)` -> `functional.hardsigmoid(v)`
            This is the hard sigmoid, made of straight lines. The slope of softplus is the smooth
            one, `torch.sigmoid(v)`.
        tanh: `torch.sigmoid(v)` -> `torch.tanh(v)`
            This is tanh, which runs from -1 to 1. The slope of softplus runs from 0 to 1.
        times v: `torch.sigmoid(v)` -> `v * torch.sigmoid(v)`
            Your slope is multiplied by v. The chain rule gives no factor v here: the slope is the
            sigmoid alone.
        softplus over v: `torch.sigmoid(v)` -> `functional.softplus(v) / v`
            You divide softplus by v. A derivative is how fast it changes at v, and that is the
            sigmoid.
        """,
    ),
    hints=(
        "The chain rule: the derivative of log(u) is u' / u. Here u = 1 + exp(v).",
        "u' is exp(v), so the slope is exp(v) / (1 + exp(v)). Multiply numerator and denominator "
        "by exp(-v). Which function of section 1 is that?",
        "It is the sigmoid. `torch.sigmoid(v)` computes it without overflow.",
    ),
    takeaway="The slope of softplus is the sigmoid. Lesson 3 uses that for its gradient.",
)


# --- 3. Maxout ----------------------------------------------------------------------------------


def _maxout(z: Tensor, pieces: int) -> Tensor:
    blocks = z.reshape(z.shape[0], pieces, -1)  # (N, pieces, units): whole blocks of units
    return blocks.amax(dim=1)  # (N, units)


def _maxout_inputs(generator: torch.Generator) -> list[Args]:
    return [
        (torch.tensor([[1.0, -2.0, 3.0, 0.0], [-5.0, 4.0, -1.0, -6.0]]), 2),
        (torch.tensor([[1.0, 5.0, 2.0, -7.0, 0.0, 8.0]]), 3),
        (randn(generator, 3, 6), 2),
        (randn(generator, 4, 9), 3),
        (randn(generator, 5, 4), 1),
        (-1 - randn(generator, 2, 8).abs(), 4),  # all negative
    ]


@rule("Each of your results should be one of the numbers of its own row of z.")
def _is_one_of_the_inputs(args: Args, output: Tensor) -> object:
    z, _ = args
    return (output[:, :, None] == z[:, None, :]).any(dim=2).all()


@rule("Some of your units are below one of their own pieces. A maximum never is.")
def _is_not_below_a_piece(args: Args, output: Tensor) -> object:
    z, pieces = args
    return all((output >= block - 1e-6).all() for block in z.chunk(pieces, dim=1))


def _maxout_by_loop(z: Tensor, pieces: int) -> Tensor:
    units = z.shape[1] // pieces
    best = z[:, :units]
    for p in range(1, pieces):
        best = torch.maximum(best, z[:, p * units : (p + 1) * units])
    return best


maxout = Exercise(
    name="maxout",
    lesson="02",
    title="Maxout",
    task=(
        "Return the largest piece of each maxout unit. z is (N, pieces·units): first piece 0 of "
        "all units, then piece 1 of all units, and so on. So piece p of unit j is "
        "z[:, p·units + j]. The result is (N, units)."
    ),
    difficulty=2,
    minutes=6,
    reference=_maxout,
    inputs=_maxout_inputs,
    properties=(_is_one_of_the_inputs, _is_not_below_a_piece),
    right_answers=(
        _maxout_by_loop,
        lambda z, pieces: torch.stack(z.chunk(pieces, dim=1)).amax(dim=0),
        lambda z, pieces: z.unflatten(1, (pieces, -1)).max(dim=1).values,
    ),
    wrong_answers=edits(
        _maxout,
        """
        neighbours: `pieces, -1` -> `-1, pieces`, `dim=1` -> `dim=2`
            You take the maximum over neighbouring entries. In this layout the pieces of a unit are
            far apart: piece p of unit j is entry p·units + j.
        maximum over units: `dim=1` -> `dim=2`
            You take the maximum over the units and keep the pieces. Take it over the pieces: one
            number for each unit.
        one maximum of all: `blocks.amax(dim=1)` -> `z.amax(dim=1)[:, None].expand_as(blocks[:, 0])`
            You take one maximum of the whole row. Each unit has its own pieces and its own maximum.
        values and places: `amax` -> `max`
            `max(dim=1)` returns two things, the values and their places. Take `.values`, or use
            `amax`.
        which piece wins: `amax` -> `argmax`
            You return which piece is the largest. Return its value.
        sum: `amax` -> `sum`
            You add the pieces up. A sum of lines is only a line again. Take the maximum.
        mean: `amax` -> `mean`
            You average the pieces. An average of lines is only a line again. Take the maximum.
        with a zero: `amax(dim=1)` -> `amax(dim=1).clamp(min=0)`
            You cut off at 0, as a ReLU does. Maxout does not compare with 0: if all pieces are
            negative, so is the unit.
        first two pieces: `blocks.amax` -> `blocks[:, :2].amax`
            You compare the first two pieces only. There may be any number of them: take the maximum
            over all.
        last piece left out: `blocks.amax` -> `blocks[:, : max(pieces - 1, 1)].amax`
            You leave out the last piece. A loop over all of them is `range(pieces)`: it ends at
            pieces - 1.
        largest size: `blocks.amax` -> `blocks.abs().amax`
            You take absolute values. Maxout takes the largest value: 1 is larger than -2.
        piece of largest size: `blocks.amax(dim=1)`
        -> `blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))[:, 0]`
            You choose the piece of the largest size, whatever its sign. Choose the largest value: 1
            is larger than -2.
        one piece for a row: `blocks.amax(dim=1)`
        -> `blocks[torch.arange(len(z)), blocks.sum(dim=2).argmax(dim=1)]`
            You choose one piece for all units of a row, the one with the largest sum. Each unit has
            its own largest piece.
        images mixed: `z.shape[0], pieces, -1` -> `pieces, z.shape[0], -1`, `dim=1` -> `dim=0`
            Your reshape mixes the images. The images stay in the first dimension: (N, pieces,
            units).
        largest numbers of the row: `blocks.amax(dim=1)`
        -> `z.topk(z.shape[1] // pieces, dim=1).values`
            You take the largest numbers of each row, whatever unit they belong to. Each unit gives
            one number: the largest of its own pieces.
        """,
    ),
    hints=(
        "Think of z as `pieces` blocks that stand side by side, each with one number for each "
        "unit. Compare the blocks.",
        "`z.reshape(len(z), pieces, -1)` gives (N, pieces, units). Over which dimension is the "
        "maximum?",
        "`z.reshape(len(z), pieces, -1).amax(dim=1)`.",
    ),
    takeaway="The library's `advlearn.functional.maxout` has the same layout.",
)


# --- 4. |x|, ReLU and a valley from pieces ------------------------------------------------------

Unit = Callable[[Sequence[float], Sequence[float]], Tensor]


def _units_from_pieces(unit: Unit) -> tuple[Tensor, Tensor, Tensor]:
    absolute = unit([1.0, -1.0], [0.0, 0.0])  # x and -x
    relu = unit([1.0, 0.0], [0.0, 0.0])  # x and the constant 0
    valley = unit([1.0, -1.0, 0.0], [-1.0, -1.0, 0.0])  # x - 1, -x - 1 and 0
    return absolute, relu, valley


def maxout_unit(x: Tensor) -> Unit:
    """Return the function (w, b) -> max over p of w_p x + b_p at every entry of x, shape (E,).

    Raises:
        ValueError: w and b do not have the same number of entries.

    Example:
        >>> unit = maxout_unit(torch.tensor([-1.0, 0.0, 2.0]))
        >>> unit([1.0, 0.0], [0.0, 0.5])
        tensor([0.5000, 0.5000, 2.0000])
    """

    def unit(w: Sequence[float], b: Sequence[float]) -> Tensor:
        slopes = torch.as_tensor(w, dtype=x.dtype).flatten()
        offsets = torch.as_tensor(b, dtype=x.dtype).flatten()
        if len(slopes) != len(offsets) or len(slopes) == 0:
            raise ValueError(
                f"each piece has one weight and one bias, got {len(slopes)} weights and "
                f"{len(offsets)} biases"
            )
        return (x[:, None] * slopes + offsets).amax(dim=1)  # (E, pieces) -> (E,)

    return unit


def _unit_inputs(generator: torch.Generator) -> list[Args]:
    grids = [
        torch.tensor([-3.0, -0.5, 0.0, 2.0]),
        torch.linspace(-4, 4, 9),
        3 * randn(generator, 30),
    ]
    return [(maxout_unit(grid),) for grid in grids]


def _values(args: Args) -> Tensor:
    """The inputs x of this unit: a single piece w = 1, b = 0 gives them back."""
    unit: Unit = args[0]
    return unit([1.0], [0.0])


def _part_is(place: int, name: str) -> Callable[[Args, Any], str | None]:
    def rule(args: Args, output: Any) -> str | None:
        x = _values(args)
        wanted = (x.abs(), x.clamp(min=0), (x.abs() - 1).clamp(min=0))[place]
        if torch.allclose(output[place], wanted, atol=1e-5):
            return None
        at = int((output[place] - wanted).abs().argmax())
        got = f"at x = {float(x[at]):.3g} it gives {float(output[place][at]):.3g}"
        return f"Your {('first', 'second', 'third')[place]} unit is not {name}: {got}."

    return rule


def _units_by_tensors(unit: Unit) -> list[Tensor]:
    zero = torch.zeros(2)
    left = unit(torch.tensor([-1.0, 0.0]), torch.tensor([-1.0, 0.0]))  # type: ignore[arg-type]
    right = unit(torch.tensor([0.0, 1.0]), torch.tensor([0.0, -1.0]))  # type: ignore[arg-type]
    absolute = unit(torch.tensor([-1.0, 1.0]), zero)  # type: ignore[arg-type]
    return [absolute, unit([0, 1], [0, 0]), torch.maximum(left, right)]


units_from_pieces = Exercise(
    name="units_from_pieces",
    lesson="02",
    title="Absolute value, ReLU and a valley from maxout",
    task=(
        "unit(w, b) feeds numbers x through one maxout unit: w lists the weights of its pieces, b "
        "their biases. Choose w and b, and return three results: |x|, then max(x, 0), then the "
        "valley max(|x| - 1, 0)."
    ),
    difficulty=2,
    minutes=7,
    reference=_units_from_pieces,
    inputs=_unit_inputs,
    properties=(
        _part_is(0, "|x|"),
        _part_is(1, "the ReLU max(x, 0)"),
        _part_is(2, "the valley max(|x| - 1, 0)"),
    ),
    right_answers=(
        _units_by_tensors,
        lambda unit: (  # another order, and one piece more than needed: the same functions
            unit([-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]),
            unit([1.0, 0.0], [0.0, 0.0]),
            unit([0.0, -1.0, 1.0], [0.0, -1.0, -1.0]),
        ),
    ),
    wrong_answers=edits(
        _units_from_pieces,
        """
        relu with one piece: `[1.0, 0.0], [0.0, 0.0]` -> `[1.0], [0.0]`
            Your ReLU has one piece only, so it is the line x. The flat part is a piece too:
            weight 0, bias 0.
        same pieces twice: `[1.0, 0.0]` -> `[1.0, -1.0]`
            Your second unit is |x| again. The second piece of a ReLU is flat: its weight is 0.
        absolute value is relu: `[1.0, -1.0]` -> `[1.0, 0.0]`
            Your first unit is flat for negative x, so it is a ReLU. |x| rises to the left: its
            second piece is -x.
        equal pieces: `[1.0, -1.0]` -> `[1.0, 1.0]`
            The two pieces of your first unit are the same line, so their maximum is that line. Give
            the second the weight -1.
        valley without a floor: `[1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]` -> `[1.0, -1.0], [-1.0, -1.0]`
            Your valley has no floor: it is |x| - 1, which is negative near 0. Add a third piece
            that is 0 everywhere.
        valley bias with the wrong sign: `[-1.0, -1.0, 0.0]` -> `[1.0, 1.0, 0.0]`
            The biases of your valley have the wrong sign: it is |x| + 1. A piece that meets 0 at
            x = 1 is x - 1.
        valley shifted to one side: `[-1.0, -1.0, 0.0]` -> `[-1.0, 1.0, 0.0]`
            Your valley is |x - 1|. The left line should meet 0 at x = -1, so it is -x - 1.
        other order: `absolute, relu, valley` -> `relu, absolute, valley`
            Your first two results are swapped. First |x|, then max(x, 0).
        weights and biases exchanged: `[1.0, -1.0], [0.0, 0.0]` -> `[0.0, 0.0], [1.0, -1.0]`,
        `[1.0, 0.0], [0.0, 0.0]` -> `[0.0, 0.0], [1.0, 0.0]`,
        `[1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]` -> `[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0]`
            You exchanged weights and biases. It is unit(w, b): first the slopes of the pieces, then
            their heights at x = 0.
        valley without biases: `[-1.0, -1.0, 0.0]` -> `[0.0, 0.0, 0.0]`
            The biases of your valley are 0, so it is |x|. A wall that meets 0 at x = 1 is the piece
            x - 1: its bias is -1.
        left wall missing: `[1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]` -> `[1.0, 0.0], [-1.0, 0.0]`
            Your valley has no wall on the left. Add the piece -x - 1.
        right wall missing: `[1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]` -> `[-1.0, 0.0], [-1.0, 0.0]`
            Your valley has no wall on the right. Add the piece x - 1.
        half slopes: `[1.0, -1.0, 0.0]` -> `[0.5, -0.5, 0.0]`
            The walls of your valley are only half as steep, so they meet 0 at x = 2 and x = -2. The
            slopes are 1 and -1.
        double slope on one side: `[1.0, -1.0], [0.0, 0.0]` -> `[2.0, 0.0], [0.0, 0.0]`
            Your first unit is flat for negative x, and twice as steep for positive x. |x| is the
            larger of x and -x.
        relu of minus x: `[1.0, 0.0]` -> `[-1.0, 0.0]`
            Your second unit is max(-x, 0): it rises to the left. The weight of its sloped piece is
            +1.
        relu with a raised floor: `[1.0, 0.0], [0.0, 0.0]` -> `[1.0, 0.0], [0.0, 1.0]`
            The flat piece of your ReLU has the height 1. Its weight and its bias are both 0.
        """,
    ),
    hints=(
        "Sketch each function. It consists of straight lines; each is one piece, with its slope as "
        "the weight and its height at x = 0 as the bias.",
        "|x| is the larger of x and -x. max(x, 0) is the larger of x and 0. What is the height at "
        "x = 0 of the line that has slope 1 and meets 0 at x = 1?",
        "|x| is `unit([1.0, -1.0], [0.0, 0.0])`. The ReLU replaces -1.0 by 0.0. The valley has the "
        "pieces x - 1, -x - 1 and 0.",
    ),
    takeaway="A ReLU is a maxout unit with one piece held at 0.",
)


# --- 5. The share of saturated units ------------------------------------------------------------


def _saturated_share(v: Tensor) -> float:
    s = torch.sigmoid(v)
    slope = s * (1 - s)  # the derivative of the sigmoid; at v = 0 it is largest, 1/4
    flat = slope < 0.05 * 0.25
    return flat.double().mean().item()


def _units_inputs(generator: torch.Generator) -> list[Args]:
    spread = 4 * randn(generator, 50, 8)
    # Nothing within 0.05 of a threshold: rounding must not decide.
    for threshold in (2.887, 2.944, 4.357):
        near = (spread.abs() - threshold).abs() < 0.05
        spread = torch.where(near, torch.zeros_like(spread), spread)
    return [
        (torch.tensor([[-6.0, -4.0, -1.0], [0.0, 3.5, 8.0]]),),
        (torch.tensor([[4.2, -4.2, 3.2, 2.915]]),),  # slopes from 0.0145 to 0.049: none is flat
        (torch.tensor([[4.33, -4.38, 0.0, 4.38]]),),  # on both sides of the limit, 4.357
        (torch.tensor([[4.363, -4.363, 0.5]]),),  # flat, but s and 1 - s are above the limit
        (torch.tensor([[5.0, 1.0], [7.0, -1.0], [6.0, 0.5]]),),  # only above
        (spread,),
        (torch.tensor([[5.0, 6.0], [-5.0, -7.0]]),),  # all flat: no large slope to compare with
    ]


@rule("Your share is outside [0, 1].")
def _share_is_in_range(args: Args, output: Any) -> object:
    return 0 <= float(output) <= 1


@rule(
    "Your share is smaller than that of the entries with |v| above 4.5, which are all saturated. "
    "Count every such entry, at both ends of the sigmoid."
)
def _share_counts_both_sides(args: Args, output: Any) -> object:
    v = args[0]
    return float(output) >= float((v.abs() > 4.5).double().mean()) - 1e-6


@rule(
    "Your share is larger than that of the entries with |v| above 4.2. Below that, the slope is "
    "more than 5 % of the largest: not saturated."
)
def _share_counts_only_flat_entries(args: Args, output: Any) -> object:
    return float(output) <= float((args[0].abs() > 4.2).double().mean()) + 1e-6


@rule(
    "Your share is near the right one on every input, but not equal. Do not round the border: "
    "compare the slope itself with 5 % of the largest, 0.05 · 0.25."
)
def _share_has_the_exact_border(args: Args, output: Any) -> object:
    return abs(float(output) - float((args[0].abs() > 4.357).double().mean())) < 1e-5


def _share_by_threshold(v: Tensor) -> Tensor:
    # s (1 - s) = 0.0125 has the solution s = (1 + sqrt(0.95)) / 2, and v = log(s / (1 - s)).
    s = (1 + torch.tensor(0.95, dtype=torch.float64).sqrt()) / 2
    share: Tensor = (v.double().abs() > torch.log(s / (1 - s))).double().mean()
    return share


def _share_by_autograd(v: Tensor) -> float:
    v = v.clone().requires_grad_(True)
    slope = torch.autograd.grad(torch.sigmoid(v).sum(), v)[0]
    return int((slope < 0.0125).sum()) / v.numel()


saturated_share = Exercise(
    name="saturated_share",
    lesson="02",
    title="The share of saturated sigmoids",
    task=(
        "v (N, units) holds what goes into sigmoid units, for N images. A unit is saturated on an "
        "image when the slope of the sigmoid there is less than 5 % of the largest slope that a "
        "sigmoid has. Return the share of saturated entries, one number between 0 and 1."
    ),
    difficulty=2,
    minutes=6,
    reference=_saturated_share,
    inputs=_units_inputs,
    properties=(
        _share_is_in_range,
        _share_counts_both_sides,
        _share_counts_only_flat_entries,
        _share_has_the_exact_border,
    ),
    right_answers=(_share_by_threshold, _share_by_autograd),
    wrong_answers=edits(
        _saturated_share,
        """
        largest slope forgotten: ` * 0.25` -> ``
            You compare the slope with 0.05 itself. The largest slope of a sigmoid is 1/4, at v = 0,
            so the threshold is 5 % of 1/4: 0.0125.
        largest slope in the batch: `0.25` -> `slope.max()`
            You compare with the largest slope in v. The largest slope that a sigmoid has is 1/4,
            whatever is in the batch.
        output near 0 or 1: `slope < 0.05 * 0.25` -> `(s < 0.05) | (s > 0.95)`
            You ask whether the output is within 0.05 of 0 or 1. The definition is about the slope:
            s·(1 - s), compared with 5 % of its maximum.
        upper side only: `flat.double()` -> `(flat & (v > 0)).double()`
            You count only the units at the upper end. A sigmoid is flat at the lower end too.
        the complement: `<` -> `>=`
            This is the share of units that are not saturated.
        count: `mean` -> `sum`
            You count the saturated entries. For the share, divide by the number of all entries:
            that is what `.mean()` does.
        percent: `return` -> `return 100 *`
            Your share is in percent. Return a number between 0 and 1.
        one share for each unit: `.mean().item()` -> `.mean(dim=0)`
            You return one share for each unit. Take the mean over all images and units.
        v is taken for the output: `torch.sigmoid(v)` -> `v`
            Your slope is v·(1 - v). The rule s·(1 - s) is for the output s = sigmoid(v).
        units saturated on all images: `flat.double()` -> `flat.all(dim=0).double()`
            Your result is the share of the units that are saturated on all images. Count entries:
            each unit on each image is one.
        units saturated on some image: `flat.double()` -> `flat.any(dim=0).double()`
            Your result is the share of the units that are saturated on at least one image. Count
            entries: each unit on each image is one.
        images with all units saturated: `flat.double()` -> `flat.all(dim=1).double()`
            Your result is the share of the images on which all units are saturated. Count entries:
            each unit on each image is one.
        images with a saturated unit: `flat.double()` -> `flat.any(dim=1).double()`
            Your result is the share of the images on which at least one unit is saturated. Count
            entries: each unit on each image is one.
        mean input: `torch.sigmoid(v)` -> `torch.sigmoid(v.mean(dim=0))`
            You average v over the images first. Test each entry of v, and take the mean last.
        nearly linear: `< 0.05` -> `>= 0.75`
            You count the entries with a steep slope, at least 75 % of the largest. Saturated is the
            other end: below 5 %.
        not nearly linear: `0.05` -> `0.75`
            You count all entries with a slope below 75 % of the largest. Saturated means below 5 %.
        lower side only: `flat.double()` -> `(flat & (v < 0)).double()`
            You count only the units at the lower end. A sigmoid is flat at the upper end too.
        output near its ends: `slope < 0.05 * 0.25` -> `(s < 0.05 * 0.25) | (1 - s < 0.05 * 0.25)`
            You compare the output s, and 1 - s, with the limit. The definition is about the slope:
            compare s·(1 - s) with it.
        tanh: `slope < 0.05 * 0.25` -> `1 - torch.tanh(v).square() < 0.05`
            You use the slope of tanh. The units here are sigmoids: their slope is s·(1 - s), with s
            = sigmoid(v).
        largest slope one half: `0.25` -> `0.5`
            You take 1/2 for the largest slope. At v = 0, s is 1/2, and the slope s·(1 - s) is 1/4.
        largest slope squared: `0.05 * 0.25` -> `0.05 * 0.0625`
            Your limit is too small. The largest slope of a sigmoid is 1/4, and 5 % of it is 0.05 ·
            0.25.
        """,
    ),
    hints=(
        "The slope of the sigmoid is s·(1 - s), with s = sigmoid(v). Where is it largest, and how "
        "large is it there?",
        "At v = 0, s is 1/2 and the slope is 1/4. Compare each slope with 0.05 · 0.25.",
        "The mean of a comparison is a share: `(slope < 0.0125).double().mean().item()`.",
    ),
    takeaway="The threshold is |v| = 4.36. Beyond it, gradients shrink more than twentyfold.",
)


# --- 6. How straight is a curve? ----------------------------------------------------------------


def _r_squared(t: Tensor, z: Tensor) -> float:
    t, z = t - t.mean(), z - z.mean()  # the best line goes through the two means
    slope = (t @ z) / (t @ t)
    left = z - slope * t  # what the line does not explain
    return (1 - (left @ left) / (z @ z)).item()


def _curves(generator: torch.Generator) -> list[Args]:
    t = torch.linspace(-0.5, 0.5, 21)
    return [
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0, 5.0])),
        (t, 3 - 2 * t),  # a line that falls
        (t, 1 + torch.tanh(4 * t)),
        (t, 2 + t.square()),  # symmetric: the best line is flat
        (torch.linspace(2, 5, 16), 1 - 0.3 * randn(generator, 16)),
        (t, 4 * t + randn(generator, 21)),
    ]


@rule("R² is never above 1: a line cannot explain more than everything.")
def _r2_is_at_most_1(args: Args, output: Any) -> object:
    return float(output) <= 1 + 1e-5


@rule("For points that lie on a straight line, R² should be 1.")
def _r2_is_1_for_a_line(args: Args, output: Any) -> object:
    t, z = args
    bends = (z.diff() / t.diff()).diff().abs().max() > 1e-3
    return bends or abs(float(output) - 1) < 1e-4


@rule("R² of the best line is not negative: a flat line through the mean reaches 0 already.")
def _r2_is_not_negative(args: Args, output: Any) -> object:
    return float(output) >= -1e-5


def _r2_by_least_squares(t: Tensor, z: Tensor) -> Tensor:
    table = torch.stack([t, torch.ones_like(t)], dim=1)  # (E, 2)
    line = table @ torch.linalg.lstsq(table, z[:, None]).solution[:, 0]
    share_left: Tensor = (z - line).square().sum() / (z - z.mean()).square().sum()
    return 1 - share_left


r_squared = Exercise(
    name="r_squared",
    lesson="02",
    title="R² of the best line",
    task=(
        "Fit the best straight line to the points (t, z) by least squares, and return R² = 1 - "
        "(sum of squared distances of z from the line) / (sum of squared distances of z from its "
        "mean). t and z are (E,); the result is one number."
    ),
    difficulty=3,
    minutes=9,
    reference=_r_squared,
    inputs=_curves,
    properties=(_r2_is_at_most_1, _r2_is_1_for_a_line, _r2_is_not_negative),
    atol=1e-4,
    right_answers=(
        _r2_by_least_squares,
        lambda t, z: torch.corrcoef(torch.stack([t, z]))[0, 1] ** 2,
        lambda t, z: (
            ((t - t.mean()) @ (z - z.mean())) ** 2
            / ((t - t.mean()).square().sum() * (z - z.mean()).square().sum())
        ).item(),
    ),
    wrong_answers=edits(
        _r_squared,
        """
        correlation: `1 - (left @ left) / (z @ z)` -> `(t @ z) / (t.norm() * z.norm())`
            This is the correlation r. R² is its square.
        line through the origin: `t, z = t - t.mean(), z - z.mean()` -> `total = z - z.mean()`,
        `z @ z` -> `total @ total`
            Your line is forced through the point (0, 0). The best line may have any intercept:
            subtract the means of t and z first.
        line through the ends: `(t @ z) / (t @ t)` -> `(z[-1] - z[0]) / (t[-1] - t[0])`,
        `z - slope * t` -> `z - z[0] - slope * (t - t[0])`
            Your line joins the first point to the last. The best line by least squares uses all
            points: slope = Σ t·z / Σ t², after the means are subtracted.
        total not centred: `t, z =` -> `total = z¶t, z =`, `z @ z` -> `total @ total`
            You divide by the sum of z². R² compares with the distances from the mean of z, so
            subtract the mean there too.
        the part that is left: `1 - ` -> ``
            This is the part that the line does not explain. R² is 1 minus that.
        square root: `(left @ left) / (z @ z)` -> `((left @ left) / (z @ z)).sqrt()`
            You take a square root of the ratio. R² uses the squared distances as they are.
        absolute distances: `(left @ left) / (z @ z)` -> `left.abs().sum() / z.abs().sum()`
            You add up absolute distances. R² adds up their squares.
        parabola: `z - slope * t` -> `z - slope * t¶bend = torch.stack([t**0, t, t * t], 1)`,
        `return` -> `left -= bend @ torch.linalg.lstsq(bend, left[:, None]).solution[:, 0]¶return`
            You fit a parabola. R² of a straight line has only the two terms slope and intercept.
        t not centred: `t, z = t - t.mean(), z - z.mean()` -> `z = z - z.mean()`
            You subtract the mean of z, but not that of t. The best line goes through both means:
            subtract both.
        mean over sum: `(left @ left)` -> `(left @ left) / len(t)`
            You divide a mean of squares by a sum of squares. Use the sum in both places, or the
            mean in both.
        two kinds of variance: `(left @ left) / (z @ z)` -> `(left @ left) / len(t) / z.var()`
            `.var()` divides by N - 1, the mean divides by N. Use the sum of squares in both places.
        slope: `1 - (left @ left) / (z @ z)` -> `slope`
            This is the slope of the line. R² says how well the line fits: 1 minus the part that is
            left.
        sign of the slope: `return (` -> `return slope.sign() * (`
            Your R² has the sign of the slope. R² is never negative: a line that falls fits as well.
        divided by the squares of z: `(t @ t)` -> `(z @ z)`
            You divide by the sum of z² in the slope. The slope is Σ t·z / Σ t².
        mean of the slopes: `(t @ z) / (t @ t)` -> `(z.diff() / t.diff()).mean()`
            You average the slopes from each point to the next. The best line by least squares has
            the slope Σ t·z / Σ t².
        corrected for the number of points: `/ (z @ z)` -> `/ (z @ z) * (len(t) - 1) / (len(t) - 2)`
            This is the adjusted R², corrected for the number of points. Here it is 1 minus the
            plain ratio of the two sums.
        """,
    ),
    hints=(
        "The best line goes through the point of the two means. So subtract the means first; then "
        "only the slope is missing.",
        "With both means subtracted, slope = (t @ z) / (t @ t). What is left is z - slope * t.",
        "`left = z - slope * t`, then `1 - (left @ left) / (z @ z)`, all with the means "
        "subtracted.",
    ),
    takeaway="R² near 1: the curve is nearly a line. It does not say how steep the line is.",
)


EXERCISES = (
    stable_softplus,
    softplus_slope,
    maxout,
    units_from_pieces,
    saturated_share,
    r_squared,
)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    In float32, `torch.log(1 + torch.exp(v))` at v = 1000 gives …
    - … 1000, because log undoes exp.
        On paper it does. The computer evaluates exp(1000) first, and that is inf.
    - … 0, because the sum is rounded.
        That happens at the other end: at v = -20, 1 + exp(v) is rounded to 1.
    + … inf, and its gradient is nan.
        exp(1000) is inf, and so is its logarithm. The gradient is 1/inf · inf = nan.

    The slope of softplus at a very negative v, at 0 and at a very large v is about …
    + … 0, 1/2 and 1.
        The slope is the sigmoid. That is why softplus looks like max(v, 0) from far away.
    - … 0, 1/4 and 0.
        That is the slope of the sigmoid, which flattens at both ends.
    - … 0, 0 and 1.
        At 0 softplus rises already, with slope sigmoid(0) = 1/2.

    Which of these can one maxout unit with enough pieces NOT come close to?
    - |x|
        Two pieces, x and -x, make it exactly.
    - x², between -3 and 3
        It is convex. Each piece touches it at a point, and many pieces come close.
    + sin(x), between -3 and 3
        A maximum of lines only bends upwards: it is convex. The hill of the sine bends downwards.
        Two maxout units, one minus the other, can do it.

    A network has R² near 1 along a direction. What follows?
    - It is safe: nothing surprising happens along this direction.
        A straight line can be steep. Softmax regression has R² = 1 and is fooled by a single small
        step.
    + Where a short step makes the logit fall, a long one goes on to make it fall.
        So one step is a good attack: FGSM relies on that. The slope at the start gives the
        direction; how far a long step leads, it does not say exactly.
    - It has no hidden layer.
        ReLU and maxout networks have hidden layers and are nearly straight all the same.

    The paper writes of a “shallow softmax” classifier. Which network is that?
    + Softmax regression: one linear map and the softmax.
        It maps the pixels straight to the logits. These are exactly linear, R² = 1. Adversarial
        examples need no depth.
    - Input, one hidden layer, output.
        Many summaries say so. The paper means softmax regression, with no hidden layer.
    - A network of which only the last layer was trained.
        All its weights are trained. It has only one layer of them.
    """
)
