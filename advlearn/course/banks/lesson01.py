"""Exercises of lesson 01: the sign function."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from advlearn.course import grading
from advlearn.course.banks.inputs import rand, randn
from advlearn.course.grading import Args, Exercise, edits, parse, rule


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


# --- 1. The sign function -------------------------------------------------------------------------


def _my_sign(v: Tensor) -> Tensor:
    up = (v > 0).to(v.dtype)  # 1 where v is positive, else 0
    down = (v < 0).to(v.dtype)  # 1 where v is negative, else 0
    return up - down


def _sign_inputs(generator: torch.Generator) -> list[Args]:
    return [
        (_vector(-2.5, 0.0, 0.5, 3.0),),
        (_vector(1e-30, -1e-30, 1e30, -1e30, 0.0),),
        (randn(generator, 3, 5),),
        (torch.zeros(2, 2, dtype=torch.float32),),
        (0.01 * randn(generator, 2, 1, 4, 4),),
        (randn(generator, 6).double(),),
    ]


@rule("A sign is -1, 0 or +1. Your result holds other values.")
def _takes_three_values(args: Args, output: Tensor) -> object:
    return ((output == 0) | (output.abs() == 1)).all()


@rule("sign(0) should be 0.")
def _rests_at_zero(args: Args, output: Tensor) -> object:
    return (output[args[0] == 0] == 0).all()


@rule("Some of your signs point to the wrong side of zero.")
def _points_the_same_way(args: Args, output: Tensor) -> object:
    return (output * args[0].clamp(-1, 1) >= 0).all()


@rule("Some numbers that are not 0 get the sign 0. The size of v should not matter at all.")
def _rests_nowhere_else(args: Args, output: Tensor) -> object:
    return (output[args[0] != 0] != 0).all()


my_sign = Exercise(
    name="my_sign",
    lesson="01",
    title="Your own sign function",
    task=(
        "Return the sign of each entry of the tensor v: -1, 0 or +1. Do it without torch.sign. "
        "The result has the shape and the dtype of v."
    ),
    difficulty=1,
    minutes=4,
    asks=("dtype",),
    without=("sign", "sgn", "sign_", "sgn_"),
    reference=_my_sign,
    inputs=_sign_inputs,
    properties=(_takes_three_values, _rests_at_zero, _points_the_same_way, _rests_nowhere_else),
    right_answers=(
        lambda v: torch.where(v > 0, 1.0, torch.where(v < 0, -1.0, 0.0)).to(v.dtype),
        lambda v: torch.where(v == 0, torch.zeros_like(v), v / v.abs()),
        lambda v: (v > 0).to(v.dtype).sub((v < 0).to(v.dtype)),
    ),
    wrong_answers=edits(
        _my_sign,
        """
        v over its absolute value: `up - down` -> `v / v.abs()`
            Your formula is v / |v|. At v = 0 that is 0 / 0, which gives nan. Zero needs a case of
            its own: sign(0) = 0.
        plus one at zero: `v > 0` -> `v >= 0`
            Your function gives sign(0) = +1. It should be 0: a dead pixel, with weight 0, is left
            alone.
        minus one at zero: `v < 0` -> `v <= 0`
            Your function gives sign(0) = -1, because everything that is not positive is taken as
            negative. Zero is neither: sign(0) = 0.
        zero and one: `up - down` -> `up`
            Your function gives 0 for negative numbers. Their sign is -1.
        one for all but zero: `up - down` -> `up + down`
            Your function gives +1 for negative numbers. Their sign is -1: it points down.
        the other way round: `up - down` -> `down - up`
            Your signs are the wrong way round: +1 belongs to positive numbers.
        small number in the denominator: `up - down` -> `v / (v.abs() + 1e-8)`
            A tiny v gets no full sign from you, as in v / (|v| + a small number), or where v is
            compared with a small number in place of 0. The size of v should not matter at all.
        clamped: `up - down` -> `v.clamp(-1, 1)`
            You cut v off at -1 and +1. A small v keeps its size that way. Its sign is a full
            -1 or +1.
        rounded: `up - down` -> `v.clamp(-1, 1).round()`
            A v with a size below one half gets the sign 0, as by rounding. Its sign is a full -1 or
            +1: compare v with 0.
        one sign for a row: `up - down`
        -> `v.reshape(len(v), -1).sum(1).sgn().repeat(v[0].numel(), 1).T.reshape(v.shape)`
            You give one sign to a whole row, that of its sum. Each entry has its own sign: compare
            v itself with 0.
        over the largest: `up - down` -> `v / v.abs().max()`
            You divide by the largest size in v. Only that entry gets a full sign, and if all are 0
            the result is nan. Compare each entry with 0.
        tanh: `up - down` -> `torch.tanh(v)`
            You use tanh(v). A small v keeps its size that way. Its sign is a full -1 or +1.
        root of the square: `up - down` -> `v / (v * v).sqrt()`
            You divide v by the root of its square, which is |v|. At v = 0 that is 0 / 0, and the
            square of a large number is infinite. Compare v with 0.
        """,
    ),
    hints=(
        "There are three cases. Which comparisons tell them apart?",
        "`v > 0` is a tensor of True and False. `.to(v.dtype)` turns it into ones and zeros.",
        "Take the ones of `v > 0` and subtract the ones of `v < 0`. At zero both are 0.",
    ),
    takeaway="Zero stays zero. (v > 0) minus (v < 0) needs no division, and no case of its own.",
)


# --- 2. The change of the activation --------------------------------------------------------------


def _activation_change(w: Tensor, x: Tensor, eta: Tensor) -> float:
    return torch.dot(w, eta).item()  # w·(x + eta) - w·x: the x cancels


def _change_inputs(generator: torch.Generator) -> list[Args]:
    return [
        (_vector(2.0, -1.0, 3.0), _vector(1.0, 0.5, 0.0), _vector(0.1, 0.1, -0.1)),
        (_vector(1.0, 4.0), _vector(0.25, 0.5), _vector(0.2, 0.1)),
        (randn(generator, 20), rand(generator, 20), 0.1 * randn(generator, 20)),
        (randn(generator, 200), rand(generator, 200), rand(generator, 200) - 0.3),
    ]


def _change_by_loop(w: Tensor, x: Tensor, eta: Tensor) -> float:
    total = 0.0
    for weight, step in zip(w.tolist(), eta.tolist(), strict=True):
        total += weight * step
    return total


activation_change = Exercise(
    name="activation_change",
    lesson="01",
    title="The change of the activation",
    task=(
        "The image x becomes x + eta. Return by how much the activation w·x changes, as one "
        "number. w, x and eta are vectors of the same length."
    ),
    difficulty=1,
    minutes=4,
    reference=_activation_change,
    inputs=_change_inputs,
    atol=1e-4,
    right_answers=(
        _change_by_loop,
        lambda w, x, eta: w @ (x + eta) - w @ x,
        lambda w, x, eta: (w * eta).sum(),
    ),
    wrong_answers=edits(
        _activation_change,
        """
        the new activation: `(w, eta)` -> `(w, x + eta)`
            This is the activation after the change. The task asks by how much it changes: after
            minus before.
        the old activation: `(w, eta)` -> `(w, x)`
            This is the activation before the change, w·x. What does eta do to it?
        before minus after: `torch.dot` -> `-torch.dot`
            Your sign is the wrong way round: you took before minus after. If the activation grows,
            the change is positive.
        not added up: `torch.dot(w, eta).item()` -> `w * eta`
            You multiply weight by change for each pixel, but you do not add up. The activation is
            one number: a sum over all pixels.
        weights left out: `torch.dot(w, eta)` -> `eta.sum()`
            You add up the changes of the pixels. Multiply each one by its weight.
        absolute values: `torch.dot(w, eta)` -> `(w * eta).abs().sum()`
            You add up absolute values. Terms of different signs cancel: keep their signs.
        x in place of w: `(w, eta)` -> `(x, eta)`
            You multiply the change by the image. It is the weights w that multiply it.
        product of the lengths: `torch.dot(w, eta)` -> `(w.norm() * eta.norm())`
            You multiply the lengths of w and eta. That is the change only if both point the same
            way. Take the dot product.
        mean: `torch.dot(w, eta)` -> `(w * eta).mean()`
            You divide by the number of pixels. The activation is a sum, not a mean.
        relative: `torch.dot(w, eta)` -> `(torch.dot(w, eta) / torch.dot(w, x))`
            You divide the change by w·x. The task asks for the change itself.
        relative to its size: `torch.dot(w, eta)` -> `(torch.dot(w, eta) / torch.dot(w, x).abs())`
            You divide the change by the size of w·x. The task asks for the change itself.
        product of the sums: `torch.dot(w, eta)` -> `(w.sum() * eta.sum())`
            You add up w, add up eta, and multiply the two sums. Multiply pixel by pixel first, then
            add up.
        clamped: `(w, eta)` -> `(w, (x + eta).clamp(0, 1) - x)`
            You clamp x + eta to [0, 1]. Nothing is clamped here: x becomes x + eta.
        signs of the weights: `(w, eta)` -> `(w.sign(), eta)`
            You use only the signs of the weights. Multiply each change by the weight itself.
        signs of the changes: `(w, eta)` -> `(w, eta.sign())`
            You use only the signs of the changes. Multiply each weight by the change itself.
        ratio: `torch.dot(w, eta)` -> `(torch.dot(w, x + eta) / torch.dot(w, x))`
            You divide the activation after the change by the one before. The change is their
            difference: after minus before.
        image multiplied: `(w, eta)` -> `(w, x * eta)`
            You multiply the change by the image, too. The activation is linear: the change is
            w·eta, without x.
        absolute weights: `(w, eta)` -> `(w.abs(), eta)`
            You use the absolute weights. Keep their signs: a pixel that grows lowers the activation
            where its weight is negative.
        absolute changes: `(w, eta)` -> `(w, eta.abs())`
            You use the absolute changes. Keep their signs: some pixels become darker.
        largest term: `torch.dot(w, eta)` -> `(w * eta).max()`
            You take the largest of the products. The activation is a sum: add all of them up.
        largest change in the box: `torch.dot(w, eta)` -> `(w.abs().sum() * eta.abs().max())`
            This is the largest change that pixels of this size can make. The task asks for the
            change by this eta: w·eta.
        first pixel left out: `torch.dot(w, eta)` -> `torch.dot(w[1:], eta[1:])`
            You leave out the first pixel. Python counts from 0: `range(len(w))`.
        last pixel left out: `torch.dot(w, eta)` -> `torch.dot(w[:-1], eta[:-1])`
            You leave out the last pixel. A loop over all of them is `range(len(w))`: it ends at
            len(w) - 1.
        """,
    ),
    hints=(
        "Write down w·(x + eta) and subtract w·x. What is left?",
        "The x cancels. What remains is the dot product of w and eta.",
        "`w @ eta` is the dot product of two vectors; so is `(w * eta).sum()`.",
    ),
    takeaway="The image x was not needed: the activation changes by w·eta, whatever the image.",
)


# --- 3. The best perturbation ---------------------------------------------------------------------


def _best_perturbation(w: Tensor, eps: float) -> Tensor:
    return eps * torch.sign(w)  # each pixel by eps, in the direction of its weight


def _box_inputs(generator: torch.Generator) -> list[Args]:
    sparse = randn(generator, 30)
    sparse[sparse.abs() < 0.5] = 0.0
    return [
        (_vector(2.0, -1.0, 0.0, 0.5), 0.25),
        (_vector(-3.0, 0.001, 7.0), 0.1),
        (randn(generator, 12), 0.5),
        (sparse, 0.3),
        (_vector(1.0, -2.0, 0.0), 0.0),
        (_vector(1e-7, 0.0, -3e-7, 2.0), 0.125),  # a tiny weight gets a whole step, too
    ]


def _stays_in_the_box(args: Args, output: Tensor) -> str | None:
    _, eps = args
    if (output.abs() <= eps + 1e-6).all():
        return None
    return f"You leave the box: some of your pixels change by more than eps = {eps:g}."


@rule("There is a better point in the box: one with a larger w·eta.")
def _reaches_the_most(args: Args, output: Tensor) -> object:
    w, eps = args
    return w @ output >= eps * w.abs().sum() - 1e-4


@rule("A pixel with weight 0 should stay.")
def _leaves_dead_pixels_alone(args: Args, output: Tensor) -> object:
    return (output[args[0] == 0] == 0).all()


@rule(
    "Some pixels whose weight is not 0 change by less than eps. Even a tiny weight has a full sign."
)
def _moves_every_other_pixel(args: Args, output: Tensor) -> object:
    w, eps = args
    return (output[w != 0].abs() >= eps - 1e-6).all()


def _best_by_loop(w: Tensor, eps: float) -> Tensor:
    steps = [max((-eps, 0.0, eps), key=lambda step: weight * step) for weight in w.tolist()]
    dead = [0.0 if weight == 0 else step for weight, step in zip(w.tolist(), steps, strict=True)]
    return torch.tensor(dead, dtype=w.dtype)


best_perturbation = Exercise(
    name="best_perturbation",
    lesson="01",
    title="The best point of the box",
    task=(
        "Return the perturbation eta with the largest w·eta, when no entry of eta may be larger "
        "than eps or smaller than -eps. w is a vector, eps is a number. A pixel with weight 0 "
        "stays. The result has the shape of w."
    ),
    difficulty=1,
    minutes=4,
    reference=_best_perturbation,
    inputs=_box_inputs,
    properties=(
        _stays_in_the_box,
        _reaches_the_most,
        _leaves_dead_pixels_alone,
        _moves_every_other_pixel,
    ),
    right_answers=(
        _best_by_loop,
        lambda w, eps: torch.where(w > 0, eps, torch.where(w < 0, -eps, 0.0)).to(w.dtype),
        lambda w, eps: eps * ((w > 0).to(w.dtype) - (w < 0).to(w.dtype)),
    ),
    wrong_answers=edits(
        _best_perturbation,
        """
        what it achieves: `eps * torch.sign(w)` -> `eps * w.abs().sum()`
            You return how much the best perturbation gains, eps·‖w‖₁. The task asks for the
            perturbation itself, one number for each pixel.
        no sign: `torch.sign(w)` -> `w`
            Your perturbation is eps·w, without the sign. A pixel with a small weight hardly moves,
            and one with a large weight may leave the box. Every pixel may move by the full eps.
        scaled to length eps: `torch.sign(w)` -> `w / w.norm()`
            You scale w to the length eps. That is the best point of a ball, where the length of eta
            is limited. In a box each pixel is limited on its own.
        scaled by the largest weight: `torch.sign(w)` -> `w / w.abs().max()`
            You scale w until its largest entry is eps. That stays in the box, but the other pixels
            move less than they could. Each of them may move by the full eps too.
        downwards: `eps *` -> `-eps *`
            Your perturbation gives the smallest w·eta in the box, not the largest. Leave out the
            minus sign.
        eps forgotten: `eps * ` -> ``
            Your pixels move by 1. They may move by eps only: multiply the sign by eps.
        all upwards: `torch.sign(w)` -> `torch.ones_like(w)`
            You move every pixel up. Where the weight is negative, that lowers the activation.
        dead pixels move: `torch.sign(w)` -> `torch.where(w >= 0, 1.0, -1.0)`
            You move pixels with weight 0. That changes the image and gains nothing: sign(0) is 0.
        w cut off at eps: `eps * torch.sign(w)` -> `w.clamp(-eps, eps)`
            You cut the weights off at eps. A weight that is smaller than eps then moves its pixel
            by less than it could. Only the sign of a weight counts.
        absolute weights: `torch.sign(w)` -> `w.abs()`
            You multiply eps by the absolute weights. The direction is lost that way, and the size
            should not matter. The sign does the opposite: it keeps the direction and drops the
            size.
        only the largest weight: `torch.sign(w)` -> `torch.sign(w) * (w.abs() == w.abs().max())`
            You move one pixel only, the one with the largest weight. The rule limits each pixel on
            its own, so all the others may move as well.
        eps shared between the pixels: `torch.sign(w)` -> `torch.sign(w) / len(w)`
            You divide eps between the pixels. The rule is not a budget to be shared: each pixel may
            move by the full eps.
        signs over their length: `torch.sign(w)` -> `torch.sign(w) / torch.sign(w).norm()`
            You divide the signs by their length. In a box each pixel may move by the full eps: do
            not divide.
        nothing goes down: `eps * torch.sign(w)` -> `(eps * torch.sign(w)).clamp(0, 1)`
            No pixel of yours goes down. Where the weight is negative, -eps is best: give negative
            weights a case of their own, and do not clamp the perturbation to [0, 1].
        only large weights: `torch.sign(w)` -> `torch.sign(w) * (w.abs() > w.abs().mean())`
            You move only the pixels with a large weight. Every pixel may move, and each one adds to
            w·eta.
        tanh: `torch.sign(w)` -> `torch.tanh(w)`
            You use tanh(w). It reaches ±1 only for large weights. Take the sign.
        """,
    ),
    hints=(
        "Each pixel has one term in the sum, w_i·eta_i. Make each term as large as possible.",
        "If w_i is positive, the best eta_i is eps. If it is negative, the best is -eps.",
        "`torch.sign(w)` gives +1, -1 or 0 for each weight. Multiply it by eps.",
    ),
    takeaway="All pixels go as far as they may, and each in its own direction.",
)


# --- 4. The largest activation --------------------------------------------------------------------


def _largest_activation(w: Tensor, x: Tensor, eps: float) -> float:
    before = torch.dot(w, x)
    change = eps * w.abs().sum()  # eps times the L1 norm of w
    return (before + change).item()


def _largest_inputs(generator: torch.Generator) -> list[Args]:
    return [
        (_vector(2.0, -1.0, 0.5), _vector(0.5, 1.0, 0.0), 0.1),
        (_vector(-3.0, 0.0, 1.0, 2.0), _vector(0.2, 0.9, 0.4, 0.0), 0.25),
        (randn(generator, 10), rand(generator, 10), 0.05),
        (randn(generator, 500), rand(generator, 500), 0.3),
        (_vector(1.0, -2.0), _vector(0.5, 0.5), 0.0),
        (_vector(1.5, -0.5, 0.0), _vector(0.75, 0.25, 0.5), 0.2),  # positive before the attack
    ]


@rule("Your result is below the activation of x itself. The attacker can always do nothing.")
def _largest_is_not_below_the_clean_one(args: Args, output: Any) -> object:
    w, x, _ = args
    return float(output) >= float(w @ x) - 1e-3


def _largest_by_loop(w: Tensor, x: Tensor, eps: float) -> float:
    pairs = zip(w.tolist(), x.tolist(), strict=True)
    return float(sum(max(a * (v - eps), a * (v + eps)) for a, v in pairs))


largest_activation = Exercise(
    name="largest_activation",
    lesson="01",
    title="The largest activation in the box",
    task=(
        "Return the largest activation that the image x can get, when no pixel changes by more "
        "than eps. w and x are vectors of the same length, eps is a number. The pixels may leave "
        "the range from 0 to 1. The result is one number."
    ),
    difficulty=2,
    minutes=5,
    reference=_largest_activation,
    inputs=_largest_inputs,
    atol=1e-3,
    properties=(_largest_is_not_below_the_clean_one,),
    right_answers=(
        _largest_by_loop,
        lambda w, x, eps: w @ (x + eps * w.sign()),
        lambda w, x, eps: w @ x + eps * torch.linalg.vector_norm(w, 1),
    ),
    wrong_answers=edits(
        _largest_activation,
        """
        only the change: `before + change` -> `change`
            This is only the change. The activation before it, w·x, is missing.
        no absolute value: `.abs()` -> ``
            You add up the weights with their signs, so that they cancel. That is what happens when
            all pixels go up. The best step gains |w_i| at each pixel.
        Euclidean length: `.abs().sum()` -> `.norm()`
            You use the Euclidean length of w (`w.norm()`). It belongs to a ball. The box needs the
            L1 norm, the sum of the absolute values.
        largest weight only: `.sum()` -> `.max()`
            You use the largest absolute weight only. That is the gain of one pixel. All pixels may
            move, so add up their gains.
        mean: `.sum()` -> `.mean()`
            You use the mean of the absolute weights. Multiply it by the number of pixels, or take
            the sum.
        not added up: `.sum()` -> ``, `.item()` -> ``
            You have the gain of each pixel, eps·|w_i|, but you do not add the gains up. The
            activation is one number.
        eps for each pixel: `w.abs().sum()` -> `len(w)`
            You add eps for each pixel. A pixel gains eps·|w_i|, so multiply eps by the size of its
            weight.
        eps once: ` * w.abs().sum()` -> ``
            You add eps once. It is the pixels that change by eps, and each change is multiplied by
            the weight of its pixel.
        the smallest: `before + change` -> `before - change`
            This is the smallest activation in the box. For the largest, add the change.
        clipped: `before + change` -> `w @ (x + eps * w.sign()).clamp(0, 1)`
            You put the pixels back into the range from 0 to 1. Here they may leave it.
        size of the activation: `before + change` -> `before.abs() + change`
            Your result is |w·x| + eps·‖w‖₁, the largest size that can be reached. The task asks for
            the largest value: leave w·x its sign.
        positive weights only: `w.abs()` -> `w.clamp(min=0)`
            You count the gain of the positive weights only. A pixel with a negative weight goes
            down, and gains as well: use |w_i|.
        eps for each pixel with a weight: `w.abs().sum()` -> `(w != 0).sum()`
            You add eps for each pixel with a weight. Such a pixel gains eps·|w_i|, so multiply eps
            by the size of its weight.
        absolute weights on the image: `torch.dot(w, x)` -> `torch.dot(w.abs(), x)`
            You multiply the image by the absolute weights, too. Only the gain has |w_i|. The
            activation before it is w·x, with signs.
        sum before the absolute value: `w.abs().sum()` -> `w.sum().abs()`
            You take the absolute value of the sum, in which weights have cancelled. Take it of each
            weight first, then add up.
        image scaled: `before + change` -> `before * (1 + eps)`
            You multiply w·x by 1 + eps. A pixel does not grow by a factor: it moves by eps, up or
            down.
        away from zero: `before + change` -> `before + before.sign() * change`
            You push the activation away from 0. The largest activation is higher than w·x, also
            where w·x is negative: add the change.
        """,
    ),
    hints=(
        "The activation is the sum of two parts: w·x and the change. Which part can be chosen?",
        "The best change is eps·sign(w). What is the dot product of w with it?",
        "Each pixel gains eps·|w_i|. Add `eps * w.abs().sum()` to `w @ x`.",
    ),
    takeaway="No search among 2^n corners: the L1 norm gives the answer.",
)


# --- 5. The growth exponent -----------------------------------------------------------------------


def _growth_exponent(n: Tensor, change: Tensor) -> float:
    u, v = torch.log(n), torch.log(change)
    u, v = u - u.mean(), v - v.mean()
    return ((u * v).sum() / (u * u).sum()).item()


def _growth_inputs(generator: torch.Generator) -> list[Args]:
    n = torch.tensor([10.0, 100.0, 1000.0, 10000.0, 100000.0], dtype=torch.float64)
    rough = torch.exp(0.3 * randn(generator, 5).double())
    uneven = torch.tensor([2.0, 3.0, 50.0, 700.0], dtype=torch.float64)
    return [
        (n[:3], torch.tensor([0.5, 5.5, 45.0], dtype=torch.float64)),
        (n, 0.03 * n.sqrt() * rough),
        (n, 7.0 * n * rough.flip(0)),
        (uneven, 0.2 * uneven**1.5 * rough[:4]),
        (n, 40.0 / n.sqrt() * rough),
    ]


def _centred(values: Tensor) -> Tensor:
    return values - values.mean()


def _exponent_by_least_squares(n: Tensor, change: Tensor) -> Tensor:
    columns = torch.stack([torch.log10(n), torch.ones_like(n)], dim=1)  # slope and intercept
    fitted: Tensor = torch.linalg.lstsq(columns, torch.log10(change)[:, None]).solution
    return fitted[0, 0]


def _exponent_by_sums(n: Tensor, change: Tensor) -> float:
    u, v, k = n.log2(), change.log2(), len(n)
    return float((k * u @ v - u.sum() * v.sum()) / (k * u @ u - u.sum() ** 2))


growth_exponent = Exercise(
    name="growth_exponent",
    lesson="01",
    title="The growth exponent",
    task=(
        "Return the slope of the straight line that fits the points (log n, log change) best, by "
        "least squares. n and change are vectors of positive numbers. The result is one number: "
        "the p in change = a·n^p."
    ),
    difficulty=2,
    minutes=8,
    reference=_growth_exponent,
    inputs=_growth_inputs,
    right_answers=(
        _exponent_by_least_squares,
        _exponent_by_sums,
        lambda n, change: (_centred(n.log()) / _centred(n.log()).norm() ** 2) @ change.log(),
    ),
    wrong_answers=edits(
        _growth_exponent,
        """
        no logarithm: `torch.log(n), torch.log(change)` -> `n, change`
            This is the slope on linear axes. Take the logarithm of both n and change first.
        logarithm of change only: `torch.log(n)` -> `n`
            You took the logarithm of change, but not of n. A power becomes a straight line only if
            both axes are logarithmic.
        logarithm of n only: `torch.log(change)` -> `change`
            You took the logarithm of n, but not of change. A power becomes a straight line only if
            both axes are logarithmic.
        axes swapped: `u * u` -> `v * v`
            Your axes are swapped: this says how log n grows with log change. Divide by the squares
            of log n.
        first and last point: `(u * v).sum() / (u * u).sum()` -> `(v[-1] - v[0]) / (u[-1] - u[0])`
            You use the first and the last point only. Measurements scatter, so use all points.
        through the origin: `u - u.mean(), v - v.mean()` -> `u, v`
            Your line goes through the origin. The best line may have any intercept: subtract the
            mean of each logarithm first.
        ratio of the logarithms: `u - u.mean(), v - v.mean()` -> `u, v`,
        `(u * v).sum() / (u * u).sum()` -> `(v / u).mean()`
            You divide log change by log n, point by point. With a factor a in front this is wrong:
            log change is log a + p·log n. Take the slope.
        not divided: ` / (u * u).sum()` -> ``
            This is only the numerator. Divide it by the sum of the squares of log n, after its mean
            is subtracted.
        correlation: `(u * u).sum()` -> `(u.norm() * v.norm())`
            This is the correlation. It says how well a line fits, not how steep it is. Divide by
            the squares of log n alone.
        height in place of slope: `return (`
        -> `return (torch.log(change).mean() - torch.log(n).mean() * `
            This is the intercept of the line, log a. `np.polyfit` returns the slope first, then the
            intercept.
        logarithm of the mean: `u - u.mean(), v - v.mean()`
        -> `u - n.mean().log(), v - change.mean().log()`
            You subtract the logarithm of the mean. Take the logarithm first, then the mean of the
            logarithms.
        slopes between neighbours: `(u * v).sum() / (u * u).sum()` -> `(v.diff() / u.diff()).mean()`
            You average the slopes from each point to the next. Least squares is another line: use
            the sums over all points.
        ratio of the spreads: `(u * v).sum() / (u * u).sum()` -> `v.std() / u.std()`
            You divide the two spreads (standard deviations). Scatter then counts as growth, and a
            falling line gets a positive slope. Use the sum of the products.
        N and N - 1: `(u * u).sum()` -> `(u * u).sum() * len(u) / (len(u) - 1)`
            One of your two sums is divided by N, the other by N - 1. Divide both by the same
            number.
        N - 1 and N: `(u * u).sum()` -> `(u * u).sum() / len(u) * (len(u) - 1)`
            Your two sums are not divided by the same number: one by N - 1, the other by N. Use the
            same for both.
        one plus: `torch.log(n), torch.log(change)` -> `torch.log1p(n), torch.log1p(change)`
            You take log(1 + n) and log(1 + change). A power becomes a straight line only without
            the 1: use `torch.log`.
        two kinds of logarithm: `torch.log(change)` -> `torch.log10(change)`
            Your two logarithms have different bases. Any base will do, but it must be the same for
            both.
        two kinds, the other way round: `torch.log(n)` -> `torch.log10(n)`
            Your logarithm of n has another base than that of change. Any base will do, but it must
            be the same for both.
        mean of log n left in: `u - u.mean(), v - v.mean()` -> `u, v - v.mean()`
            You divide by squares of log n from which the mean was not subtracted. Subtract the mean
            of log n, too.
        median of the slopes: `(u * v).sum() / (u * u).sum()` -> `(v.diff() / u.diff()).median()`
            You take the median of the slopes from each point to the next. Least squares is another
            line: use the sums over all points.
        sums before the product: `(u * v).sum() / (u * u).sum()`
        -> `torch.log(n).sum() * torch.log(change).sum() / (u * u).sum()`
            Your numerator multiplies two sums. Subtract the means, multiply point by point, and add
            up the products.
        sums of centred logarithms: `(u * v).sum() / (u * u).sum()`
        -> `u.sum() * v.sum() / (u * u).sum()`
            Your slope is 0: numbers from which their mean is subtracted add up to 0. Multiply point
            by point first, then add up.
        sum of the sizes below: `(u * u).sum()` -> `u.abs().sum()`
            You divide by a sum of sizes, |log n| after its mean is subtracted. Divide by the sum of
            the squares.
        last two points: `(u * v).sum() / (u * u).sum()` -> `(v[-1] - v[-2]) / (u[-1] - u[-2])`
            You use the last two points only. Measurements scatter: all points count.
        mean of the ratios: `(u * v).sum() / (u * u).sum()`
        -> `(torch.log(change) - torch.log(n)).mean()`
            You average log(change / n). That says how large the change is, not how fast it grows:
            take the slope.
        """,
    ),
    hints=(
        "Begin with `u = torch.log(n)` and `v = torch.log(change)`.",
        "Subtract its own mean from each. Then the line goes through the origin.",
        "The slope is `(u * v).sum() / (u * u).sum()`, after the means are subtracted.",
    ),
    takeaway="The base of the logarithm does not matter: it cancels in the slope.",
)


EXERCISES = (my_sign, activation_change, best_perturbation, largest_activation, growth_exponent)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    What is eps·sign(w) for w = (-0.001, 0, 40) and eps = 0.1?
    + (-0.1, 0, 0.1)
        The signs are -1, 0 and +1. Each is multiplied by eps.
    - (-0.0001, 0, 4)
        That is eps·w. The sign throws the size away, so -0.001 becomes -1.
    - (-0.1, 0.1, 0.1)
        sign(0) is 0, not +1. The dead pixel in the middle stays.

    Two very different images get the same perturbation eta. A linear model's activation changes …
    - … more for the image with more ink.
        The change is w·eta. The image does not appear in it.
    - … in a way that cannot be known before it is tried.
        For a linear model it can: compute w·eta.
    + … by the same amount for both.
        w·(x + eta) = w·x + w·eta, and the second part has no x in it.

    Why is a corner of the box always among its best points?
    - Because corners are farthest from the middle.
        All corners are equally far away, and most of them are bad. The direction matters.
    + Because each w_i·eta_i peaks at an end of its range.
        Each pixel can be chosen alone, and a straight line is highest at an end. Where w_i = 0
        any choice is as good.
    - Because an image can only hold whole numbers.
        The pixels here are any numbers between -eps and eps. The corner wins all the same.

    You take 100 times as many pixels, with weights of the same size. By which factors do the sign
    step and random signs grow?
    - Both by 100.
        Random terms mostly cancel. Their sum grows like the root: by 10.
    - Not at all: eps is the same.
        One pixel still moves by eps. But there are 100 times as many terms to add.
    + By 100 and by 10.
        n against the root of n: slopes 1 and 0.5 on log-log axes.

    A linear model passes a test with random noise of eps = 0.1: almost no errors. What does this
    say about the sign step with the same eps?
    + Very little. Compare eps·‖w‖₁ with the margins instead.
        With many pixels, noise is far weaker than the sign step. The closed form gives the worst
        case without any test.
    - It will do almost no harm either.
        Our 4s and 9s show the opposite. Noise cancels, the sign step does not.
    - The sign step must be 28 times as strong, since a digit has 28² pixels.
        The factor is (m/r) times the root of n, and the weights decide m/r. And whether it does
        harm depends on the margins.
    """
)
