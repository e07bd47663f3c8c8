"""Exercises of lesson 10: the judge's work, and attacks that fit three weak defences."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advlearn.course import grading
from advlearn.course.banks.inputs import images, labels, network, rand, randn
from advlearn.course.grading import Args, Exercise, edits, evidence, parse, rule

functional = torch.nn.functional


# --- 1. The worst case --------------------------------------------------------------------------


def _worst_case(right: Tensor) -> float:
    survived = right.all(dim=0)  # (N,) right under every single attack
    return survived.float().mean().item()


def _worst_case_inputs(generator: torch.Generator) -> list[Args]:
    table = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]]).bool()
    many = rand(generator, 5, 60) < 0.8
    return [
        (table,),
        (table[:1],),
        (torch.eye(4).bool(),),
        (torch.ones(2, 6).bool(),),
        (many,),
        (torch.tensor([[1, 0, 1, 1], [1, 1, 1, 0]]).bool(),),  # an attack makes one right again
        (torch.tensor([[1, 1, 1], [1, 0, 1]]).bool(),),  # nothing is wrong without an attack
    ]


@rule(
    "Your worst case is better than the accuracy under one of the attacks. It cannot be: a "
    "digit on which this attack succeeds is lost."
)
def _is_not_above_any_attack(args: Args, output: Any) -> object:
    (right,) = args
    return float(output) <= float(right.float().mean(1).min()) + 1e-6


worst_case = Exercise(
    name="worst_case",
    lesson="10",
    title="The worst case, example by example",
    task=(
        "Return the share of the examples on which the model is right under every attack. right is "
        "a bool tensor (A, N): right[a, i] says whether the model is right on example i under "
        "attack a, and row 0 is no attack at all. The result is a number between 0 and 1."
    ),
    difficulty=1,
    minutes=5,
    reference=_worst_case,
    inputs=_worst_case_inputs,
    properties=(_is_not_above_any_attack,),
    right_answers=(
        lambda right: sum(map(all, right.T.tolist())) / right.shape[1],
        lambda right: 1 - (~right).any(dim=0).double().mean(),
        lambda right: (right.sum(dim=0) == len(right)).float().mean(),
    ),
    wrong_answers=edits(
        _worst_case,
        """
        the strongest attack alone: `.all(dim=0)` -> ``, `.mean()` -> `.mean(dim=1).min()`
            You take the accuracy under the strongest attack. Each attack succeeds on other
            examples, and the attacker may choose the best one for each: combine the rows example by
            example first.
        mean over the attacks: `.all(dim=0)` -> ``
            You average over the attacks. A weak attack in the list then makes the model look
            better, and an attacker would just not use it.
        any: `.all` -> `.any`
            You count an example if it is right under at least one attack: that is the best case. It
            has to be right under all of them.
        the last attack alone: `right.all(dim=0)` -> `right[-1]`
            You look at the last attack alone. The others succeed on examples that it misses.
        error: `return survived` -> `return 1 - survived`
            Your number is the share that is lost. Return the share that stays right.
        count: `.mean()` -> `.sum()`
            Your number is a count. Divide it by the number of examples N.
        only what was right before: `survived.float().mean()` -> `(survived.sum() / right[0].sum())`
            You divide by the examples that were right without an attack. That leaves the clean
            mistakes out. A robust accuracy is over all N examples.
        wrong axis: `dim=0` -> `dim=1`
            You combine along the examples: that is the share of the attacks that never succeed.
            Combine along the attacks, dim=0.
        attacks without the clean row: `right.all` -> `right[1:].all`
            You leave out row 0. A digit that is wrong without any attack is lost too: it counts
            like the others.
        product of the rows: `.all(dim=0)` -> ``, `.mean()` -> `.mean(dim=1).prod()`
            You multiply the accuracies. That would be right if the attacks succeeded independently
            of each other. They do not: combine the rows example by example.
        first and last row: `right.all` -> `right[[0, -1]].all`
            You use the first and the last row only. The other attacks count as well: combine all
            rows.
        majority: `right.all(dim=0)` -> `right.float().mean(dim=0) > 0.5`
            You count an example if it is right under most attacks. The attacker needs one success
            only: it has to be right under all.
        one verdict for all: `.all(dim=0)` -> `.all()`
            You ask whether the model is right on all examples under all attacks, one answer for the
            whole table. Ask it of each example: `all(dim=0)`.
        """,
    ),
    hints=(
        "First decide about each example by itself: under how many attacks must it be right to "
        "count?",
        "`right.all(dim=0)` goes down each column, over the attacks. It has shape (N,).",
        "Turn true and false into 1 and 0 by `.float()`, and take the mean.",
    ),
    takeaway="More attacks can only lower it. So it is an upper bound of the true robustness.",
)


# --- 2. Is the attack legal? --------------------------------------------------------------------


def _is_legal(x: Tensor, adversarial: Tensor, eps: float) -> Tensor:
    change = (adversarial - x).abs().flatten(1).amax(dim=1)  # (N,) largest change of a pixel
    in_range = ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(dim=1)
    # x + eps was rounded once: allow for that. A comparison with nan is false.
    return (in_range & (change <= eps + 1e-6)).float()


def _legal_inputs(generator: torch.Generator) -> list[Args]:
    x = torch.tensor([[0.1, 0.5, 0.9]]).repeat(13, 1)
    change = torch.tensor(
        [
            [0.25, 0.25, 0.0],  # as far as it may go
            [0.0, -0.25, 0.1],
            [0.26, 0.0, 0.0],  # one pixel too far, upwards
            [0.0, -0.3, 0.0],  # and downwards
            [-0.2, 0.0, 0.0],  # below 0
            [0.0, 0.0, 0.2],  # above 1
            [0.2, 0.2, 0.1],  # long in L2, inside the box
            [0.0, float("nan"), 0.0],
            [0.0, 0.0, 0.0],
            [0.1, 0.0, 0.0],
            [0.3, -0.3, -0.3],  # too far in every pixel
            [0.4, 0.45, 0.05],  # too far on average, but not in every pixel
            [0.15, 0.15, 0.0],  # long in L1, shorter in L2
        ]
    )
    edge = torch.tensor([[0.1, 0.95, 0.9], [0.1, 0.95, 0.9]])
    out = torch.tensor([[-0.1, 1.1, 1.1], [0.2, 0.9, 1.0]])  # no pixel in the range; all of them
    images = rand(generator, 40, 1, 4, 4)
    step = 0.1 * randn(generator, 40, 1, 4, 4).sign()
    moved = (images + step).clamp(0, 1)  # by rounding, some pixels move by a little more than 0.1
    moved[::4] = images[::4] + 1.5 * step[::4]
    black_and_white = (images > 0.5).float()
    inwards = black_and_white + 0.1 * (1 - 2 * black_and_white)
    # The ball has an allowance of 0.000001, no more and no less.
    middle = torch.full((11, 3), 0.5)
    far = torch.tensor([0.0, 2**-20, 2**-19, 1e-5, 1e-4, 1e-3, 5e-3, 2e-2])
    beyond = torch.stack([0.25 + far, -0.25 - far.flip(0), torch.zeros(8)], dim=1)
    beyond = torch.cat([beyond, torch.zeros(3, 3)])
    beyond[8:, 0] = torch.tensor([0.25 + 2**-20, -0.25 - 2**-20, 0.25 + 2**-19])
    low = torch.tensor([0.0, -(2.0**-18), -1e-5, -1e-3, 0.0, 0.0, 0.0])
    high = torch.tensor([1.0, 1.0, 1.0, 1.0, 1 + 2.0**-18, 1 + 1e-5, 1 + 1e-3])
    ends = torch.stack([low, high], dim=1)
    return [
        (x, x + change, 0.25),
        (edge, out, 0.25),
        (images, moved, 0.1),
        (images[:3], images[:3].clone(), 0.0),
        (black_and_white[:6], inwards[:6], 0.1),
        (middle, middle + beyond, 0.25),
        (ends.clamp(0, 1), ends, 0.25),
        (edge[1:], out[1:], 0.25),
        (x[:2] - 0.1, torch.tensor([[float("nan"), 0.4, 0.8], [0.0, 0.3, 0.7]]), 0.25),
        # One pixel breaks one rule, another pixel the other one; and a little more than eps.
        (x[:1], torch.tensor([[-0.1, 1.0, 0.9]]), 0.25),
        (middle[:2], torch.tensor([[0.75 + 2**-23, 0.5, 0.5], [0.5, 0.25, 0.75]]), 0.25),
    ]


@rule("Each verdict should be 1 for legal or 0 for not.")
def _is_one_verdict_each(args: Args, output: Tensor) -> object:
    return ((output == 0) | (output == 1)).all()


def _legal_by_loop(x: Tensor, adversarial: Tensor, eps: float) -> Tensor:
    verdicts = []
    for before, after in zip(x, adversarial, strict=True):
        near = bool(((after - before).abs() <= eps + 1e-6).all())
        verdicts.append(near and float(after.min()) >= 0 and float(after.max()) <= 1)
    return torch.tensor(verdicts).float()


def _legal_by_clamp(x: Tensor, adversarial: Tensor, eps: float) -> Tensor:
    box = torch.minimum(torch.maximum(adversarial, x - eps), x + eps).clamp(0, 1)
    return ((box - adversarial).abs() <= 1e-6).flatten(1).all(dim=1).float()


def _keeps_to_the_rules(args: Args, output: Tensor) -> str | None:
    x, adversarial, eps = args
    beyond = (adversarial - x).abs().flatten(1).amax(dim=1) - eps
    outside = ((adversarial < -2e-6) | (adversarial > 1 + 2e-6)).flatten(1).any(dim=1)
    if (output[beyond > 1.5e-6] != 0).any():
        if (output[beyond > 0.05] != 0).any():
            return (
                "You accept an image with a pixel that moves much too far. All pixels must keep "
                "all rules: one that breaks one rule is enough to refuse the image."
            )
        return (
            "You accept an image with a pixel that moves too far. The task allows 0.000001 more "
            "than eps, and no more."
        )
    if (output[outside] != 0).any():
        return "You accept an image with a pixel outside [0, 1]."
    if (
        output[(beyond < 5e-7) & ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1)] != 1
    ).any():
        return "You refuse an image that keeps all rules."
    return None


is_legal = Exercise(
    name="is_legal",
    lesson="10",
    title="Is the attack legal?",
    task=(
        "Return a tensor (N,): 1 for each image that keeps the rules, 0 for the others. No pixel "
        "may move by more than eps (allow 0.000001 more, for rounding), every pixel must lie in "
        "[0, 1], and nan is against the rules. x and adversarial have one shape (N, …), eps is a "
        "number."
    ),
    difficulty=2,
    minutes=8,
    reference=_is_legal,
    inputs=_legal_inputs,
    asks=("tensor",),
    properties=(
        _is_one_verdict_each,
        _keeps_to_the_rules,
    ),
    right_answers=(_legal_by_loop, _legal_by_clamp),
    wrong_answers=edits(
        _is_legal,
        """
        no tolerance: ` + 1e-6` -> ``
            You allow for no rounding. x + eps is rounded to float32, and x~ - x once more, so many
            legal pixels seem to move by a little too much.
        mean: `.amax(` -> `.mean(`
            You compare the mean change with eps. The rule is about each pixel: take the largest.
        L1: `.amax(` -> `.sum(`
            You add up the changes of all pixels. The rule is about each pixel by itself: take the
            largest change.
        L2: `.amax(` -> `.norm(`
            You compare the L2 norm of the change with eps. The ball of this course is in the max
            norm: the largest change of one pixel.
        upwards only: `.abs()` -> ``
            You look at pixels that went up. Those that went down too far pass: take `.abs()`.
        one verdict for the batch: `.amax(dim=1)` -> `.nan_to_num().max()`
            You take the largest change over the whole batch. One bad image then spoils the verdict
            of all others.
        ball only: `in_range & ` -> ``
            You forget the range of a pixel: a value below 0 or above 1 is not a pixel. Check that
            `adversarial` lies in [0, 1] (x always does).
        range only: ` & (change <= eps + 1e-6)` -> ``
            You only check that pixels lie in [0, 1]. How far did they move?
        any pixel in range: `.all(` -> `.any(`
            You accept an image if any pixel lies in [0, 1]. All of them must.
        nan passes: `(adversarial >= 0)` -> `~(adversarial < 0)`,
        `(adversarial <= 1)` -> `~(adversarial > 1)`, `(change <=` -> `~(change >`
            An image with nan passes your check. Every comparison with nan is false, so ask whether
            all is well, not whether something is wrong.
        eps over 255: `eps + 1e-6` -> `eps / 255 + 1e-6`
            You divide eps by 255. The pixels run from 0 to 1, and eps is in the same units.
        reversed: `return ` -> `return 1 - `
            Your verdicts are the wrong way round: 1 is for images that keep the rules.
        black and white refused: `>= 0` -> `> 0`, `(adversarial <= 1)` -> `(adversarial < 1)`
            You reject pixels of exactly 0 or 1. Black and white lie in [0, 1] and are allowed.
        any pixel near: `.amax(dim=1)` -> `.amin(dim=1)`
            You accept an image if any one pixel keeps to eps. Every pixel must.
        allowance as a factor: `eps + 1e-6` -> `eps * (1 + 1e-6)`
            Your allowance is smaller than the task's, as with eps * 1.000001 or a rounded change.
            Allow 0.000001 more than eps: `eps + 1e-6`.
        equal to its projection: `return `
        -> `box = torch.clamp(adversarial, x - eps, x + eps).clamp(0, 1)¶return `,
        `(in_range & (change <= eps + 1e-6))` -> `(box == adversarial).flatten(1).all(dim=1)`
            Your result is what you get with no allowance for rounding, as if the image had to be
            equal to its own projection. Allow 0.000001 more than eps.
        nan made 0: `change = ` -> `adversarial = adversarial.nan_to_num(0.0)¶change = `
            You make nan a black pixel first, so nan passes where x is dark. nan is against the
            rules: leave it there, and comparisons with it are false.
        one of the rules: `in_range & ` -> `in_range | `
            You accept an image that keeps one of the two rules (`|`). It must keep both: near x and
            in [0, 1]. Join them with `&`.
        one of the rules, pixel by pixel: `return (in_range & (change <= eps + 1e-6)).float()`
        -> `near = (adversarial - x).abs() <= eps + 1e-6¶return verdicts`,
        `return verdicts` -> `inside = (adversarial >= 0) & (adversarial <= 1)¶return verdicts`,
        `return verdicts` -> `return (near | inside).flatten(1).all(dim=1).float()`
            You accept a pixel that keeps one of the two rules (`|`). Each pixel must keep both:
            join them with `&`.
        any pixel: `return (in_range & (change <= eps + 1e-6)).float()`
        -> `near = (adversarial - x).abs() <= eps + 1e-6¶return verdicts`,
        `return verdicts` -> `inside = (adversarial >= 0) & (adversarial <= 1)¶return verdicts`,
        `return verdicts` -> `return (near & inside).flatten(1).any(dim=1).float()`
            You accept an image if any one pixel keeps the rules (`any`). All its pixels must:
            `all(dim=1)`.
        share of the pixels: `return (in_range & (change <= eps + 1e-6)).float()`
        -> `near = (adversarial - x).abs() <= eps + 1e-6¶return verdicts`,
        `return verdicts` -> `inside = (adversarial >= 0) & (adversarial <= 1)¶return verdicts`,
        `return verdicts` -> `return (near & inside).flatten(1).float().mean(dim=1).float()`
            You return the share of pixels that keep the rules. Return one verdict for each image: 1
            if all pixels do (`all(dim=1)`), otherwise 0.
        all of the batch: `return (in_range & (change <= eps + 1e-6))`
        -> `return (in_range & (change <= eps + 1e-6)).all().expand(len(x))`
            You give one verdict for the whole batch: one bad image spoils it for all. Give each
            image its own: `flatten(1).all(dim=1)`.
        upper end of the range forgotten: ` & (adversarial <= 1)` -> ``
            You check only that no pixel is below 0. No pixel may be above 1, either.
        lower end of the range forgotten: `(adversarial >= 0) & ` -> ``
            You check only that no pixel is above 1. No pixel may be below 0, either.
        less than eps: `(change <= eps + 1e-6)` -> `(change < eps)`
            You ask for less than eps. A pixel may move by exactly eps, and by 0.000001 more.
        one verdict: `(in_range & (change <= eps + 1e-6))`
        -> `(in_range & (change <= eps + 1e-6)).all()`
            You return one verdict for the whole batch. Return one for each image.
        """,
    ),
    hints=(
        "Three questions for each image: how far did its furthest pixel move, do all pixels lie "
        "in [0, 1], and is there a nan?",
        "`(adversarial - x).abs().flatten(1).amax(dim=1)` is the furthest move in each image. "
        "It is nan if a pixel is.",
        "Combine `((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(dim=1)` and "
        "`change <= eps + 1e-6` by `&`, and end with `.float()`. Comparisons with nan are false.",
    ),
    takeaway="A judge does not trust an attack: the arena checks its own attacks in this way.",
)


# --- 3. The gradient through a rounding ---------------------------------------------------------


def _straight_through(model: nn.Module, x: Tensor, y: Tensor, levels: int) -> Tensor:
    rounded = torch.round(x * (levels - 1)) / (levels - 1)  # what the model gets to see
    rounded = rounded.detach().requires_grad_(True)  # the rounding itself is left out
    loss = torch.nn.functional.cross_entropy(model(rounded), y, reduction="sum")
    return torch.autograd.grad(loss, rounded)[0]


def _rounding_inputs(generator: torch.Generator) -> list[Args]:
    y = labels(generator, 6, 4)
    small = network(generator, 3, 12, 3, dropout=None)
    return [
        (small, torch.tensor([[0.1, 0.8, 0.3], [0.9, 0.2, 0.6]]), torch.tensor([0, 2]), 2),
        (network(generator, 9, 12, 4, dropout=None), images(generator, 6, 1, 3, 3), y, 4),
        (network(generator, 9, 12, 4, dropout=None), images(generator, 6, 1, 3, 3), y, 11),
        (small, torch.tensor([[0.7, 0.2, 0.4]]), torch.tensor([1]), 4),
    ]


@rule("Your gradient is zero everywhere, so an attack would not move.")
def _is_not_all_zero(args: Args, output: Tensor) -> object:
    return float(output.abs().max()) > 0


def _identity_backward(model: nn.Module, x: Tensor, y: Tensor, levels: int) -> Tensor:
    x = x.clone().requires_grad_(True)
    rounded = (x * (levels - 1)).round() / (levels - 1)
    seen = x + (rounded - x).detach()  # the value of rounded, the gradient of x
    loss = -model(seen).log_softmax(1).gather(1, y[:, None]).sum()
    return torch.autograd.grad(loss, x)[0]


def _straight_through_by_loop(model: nn.Module, x: Tensor, y: Tensor, levels: int) -> Tensor:
    rows = []
    for image, label in zip(x, y, strict=True):
        seen = ((image * (levels - 1)).round() / (levels - 1)).unsqueeze(0).requires_grad_(True)
        loss = functional.cross_entropy(model(seen), label.unsqueeze(0))
        rows.append(torch.autograd.grad(loss, seen)[0])
    return torch.cat(rows)


straight_through = Exercise(
    name="straight_through",
    lesson="10",
    title="The gradient through a rounding",
    task=(
        "The defence rounds each pixel to one of `levels` values 0, 1/(levels-1), …, 1, and gives "
        "the rounded image to the model. Return the gradient of the cross-entropy (of each "
        "example, not averaged) AT the rounded image, as if the rounding passed gradients on "
        "unchanged. x is (N, …), y is (N,) int64; the result has the shape of x."
    ),
    difficulty=2,
    minutes=10,
    reference=_straight_through,
    inputs=_rounding_inputs,
    properties=(_is_not_all_zero,),
    right_answers=(_identity_backward, _straight_through_by_loop),
    wrong_answers=edits(
        _identity_backward,
        f"""
        through the rounding: `x + (rounded - x).detach()` -> `rounded`
            You differentiate the rounding itself. It is a staircase: flat nearly everywhere, so
            your gradient is zero, just as the defender wants it.
        at x: `model(seen)` -> `model(x)`
            You take the gradient at x. The model never sees x: take it at the rounded image.
        one level too many: `levels - 1` => `levels`
            You round to multiples of 1/levels. That makes levels + 1 values; the step between
            `levels` values from 0 to 1 is 1/(levels - 1).
        floor: `.round` -> `.floor`
            You round down. `torch.round` goes to the nearest level.
        mean over the batch: `.sum()` -> `.mean()`
            Your gradient is divided by the number of examples. `cross_entropy` takes the mean
            unless you pass `reduction="sum"`.
        minus: `-model` -> `model`
            Your gradient has the opposite sign: it points where the loss falls.
        sign: `x)[0]` -> `x)[0].sign()`
            You return the signs. The task asks for the gradient; the sign comes later.
        rounded gradient: `return ` -> `gradient = `,
        `x)[0]` -> `x)[0]¶return (gradient * (levels - 1)).round() / (levels - 1)`
            You round the gradient. The defence rounds pixels, and the gradient stays as it is.
        gradients left in the model: `return torch.autograd.grad(loss, x)[0]`
        -> `loss.backward()¶return x.grad`
            {evidence.GRADIENTS_LEFT}
        true logit: `-model(seen).log_softmax(1)` -> `model(seen)`
            You differentiate the logit of the true class. The task asks for the gradient of the
            cross-entropy, in which the other classes count too.
        two grids: `x * (levels - 1)` -> `x * levels`
            You multiply by one number and divide by another. Rounding to multiples of 1/(levels
            - 1) multiplies and divides by the same number, levels - 1.
        with respect to the level: `x)[0]` -> `x)[0] / (levels - 1)`
            Your gradient is with respect to the number of the level, 0 to levels - 1. So it is
            divided by levels - 1. Differentiate with respect to the rounded pixel, in [0, 1].
        x counted twice: `(rounded - x).detach()` -> `rounded.detach()`
            Your model sees x plus the rounded image. Subtract x inside the bracket: x + (rounded -
            x).detach().
        difference turned: `(rounded - x)` -> `(x - rounded)`
            Your model sees 2·x minus the rounded image. The difference is the other way round: x +
            (rounded - x).detach().
        not divided back: `.round() / (levels - 1)` -> `.round()`
            You do not divide by levels - 1 after rounding. The model sees values from 0 to levels -
            1 in place of 0 to 1.
        times the levels: `x)[0]` -> `x)[0] * (levels - 1)`
            Your gradient is multiplied by levels - 1. The rounding is to pass gradients on
            unchanged: leave that factor out.
        four levels: `levels - 1` => `3`
            You always round to 4 levels. `levels` is an argument: use levels - 1.
        gradient at x, rounded: `model(seen)` -> `model(x)`, `return ` -> `gradient = `,
        `x)[0]` -> `x)[0]¶return (gradient * (levels - 1)).round() / (levels - 1)`
            You take the gradient at x and round it. Round the image, and take the gradient there.
        true logit lowered: `.log_softmax(1)` -> ``
            You differentiate minus the logit of the true class. In the cross-entropy the other
            logits count, too.
        gradient added to x: `return torch` -> `return x.detach() + torch`
            You add the gradient to the image. Return the gradient alone.
        """,
    ),
    hints=(
        "The rounding is flat, so autograd gives zero through it. What if the rounded image were "
        "the input?",
        "Round first, then `.detach().requires_grad_(True)`: a new leaf, behind the rounding.",
        "Take `torch.autograd.grad(loss, rounded)[0]` with the loss "
        '`cross_entropy(model(rounded), y, reduction="sum")`.',
    ),
    takeaway="The forward pass is exact, the backward pass a guess. A good guess is enough.",
)


# --- 4. A margin without a scale ----------------------------------------------------------------


def _scale_free_margin(logits: Tensor, y: Tensor) -> Tensor:
    true = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)  # the best wrong class
    spread = logits.amax(dim=1) - logits.amin(dim=1)  # grows with the logits' scale
    return (others - true) / torch.where(spread > 0, spread, 1.0)  # equal logits give 0


def _margin_inputs(generator: torch.Generator) -> list[Args]:
    logits = torch.tensor([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 1.0, -1.0]])
    y = torch.tensor([0, 2, 1])
    many = 3 * randn(generator, 20, 10)
    true = labels(generator, 20, 10)
    return [
        (logits, y),
        (logits + 5.0, y),
        (1e-7 * logits, y),
        (torch.tensor([[2.0, 2.0, 2.0], [3.0, 0.0, 1.0]]), torch.tensor([1, 0])),
        (logits - 9.0, y),  # all logits below 0
        (many, true),
        (1e4 * many, true),
        (logits[1:2], y[1:2]),
    ]


@rule("A difference of two logits is at most the spread, so the ratio lies in [-1, 1].")
def _is_between_minus_one_and_one(args: Args, output: Tensor) -> object:
    return (output.abs() <= 1 + 1e-5).all()


def _margin_by_loop(logits: Tensor, y: Tensor) -> Tensor:
    values = []
    for row, label in zip(logits, y.tolist(), strict=True):
        best = max(value for k, value in enumerate(row) if k != label)
        spread = max(row) - min(row)
        values.append((best - row[label]) / spread if spread else row.sum() * 0)
    return torch.stack(values)


def _margin_of_scaled(logits: Tensor, y: Tensor) -> Tensor:
    low, high = logits.amin(1, keepdim=True), logits.amax(1, keepdim=True)
    unit = (logits - low) / torch.where(high > low, high - low, 1.0)  # each row from 0 to 1
    mask = functional.one_hot(y, logits.shape[1]).bool()
    return unit.masked_fill(mask, -1.0).amax(1) - (unit * mask).sum(1)


scale_free_margin = Exercise(
    name="scale_free_margin",
    lesson="10",
    title="A margin without a scale",
    task=(
        "Return for each example (best other logit - true logit) / (largest - smallest logit): a "
        "loss that stays the same when all logits are multiplied by one positive number. If all "
        "logits of an example are equal, return 0 for it. logits is (N, K), y is (N,) int64; the "
        "result is (N,). An attack follows its gradient, so keep it attached to the logits."
    ),
    difficulty=2,
    minutes=8,
    reference=_scale_free_margin,
    inputs=_margin_inputs,
    asks=("slope",),
    properties=(_is_between_minus_one_and_one,),
    right_answers=(_margin_by_loop, _margin_of_scaled),
    wrong_answers=edits(
        _scale_free_margin,
        """
        of probabilities: `true = logits.gather`
        -> `logits = logits.softmax(dim=1)¶true = logits.gather`
            You take the margin of probabilities. Softmax is not free of scale: ten times the logits
            are other probabilities. Stay with the logits.
        no division: ` / torch.where(spread > 0, spread, 1.0)` -> ``
            You do not divide by the spread. Your loss grows with the scale of the logits.
        spread of the batch: `logits.amax(dim=1) - logits.amin(dim=1)`
        -> `logits.max() - logits.min()`
            You divide by the spread of the whole batch. Each example needs its own, along dim=1.
        nan for equal logits: `torch.where(spread > 0, spread, 1.0)` -> `spread`
            For equal logits you get 0/0 = nan. A model that returns constants would stop your
            attack with that.
        a constant in the divisor: `torch.where(spread > 0, spread, 1.0)` -> `(spread + 1e-6)`
            You add a constant to the spread. For tiny logits the constant dominates, and the loss
            has a scale again. Treat the spread 0 by itself.
        true class among the others: `.scatter(1, y[:, None], -torch.inf)` -> ``
            Where the model is right your loss is 0, and an attack gets no gradient: the true class
            is among your other logits, or you cut the loss off at 0. Leave the true class out, and
            nothing else.
        sign: `others - true` -> `true - others`
            Your sign is reversed. The loss should be negative where the model is right, and the
            attack makes it grow.
        softmax first: `true = ` -> `logits = logits.softmax(dim=1)¶true = `,
        ` / torch.where(spread > 0, spread, 1.0)` -> ``
            You apply softmax first. It saturates: for large logits the probabilities are 0 and 1,
            and their gradient vanishes. That is the trick that you want to break.
        divided by the largest logit: `spread, 1.0` -> `logits.amax(dim=1), 1.0`
            You divide by the largest logit. It may be negative, and it changes when a constant is
            added to all logits. Divide by largest minus smallest.
        divided by the standard deviation: `spread, 1.0` -> `logits.std(dim=1), 1.0`
            You divide by the standard deviation. That has no scale either, but the task asks for
            the spread, largest minus smallest.
        zero in its place: `-torch.inf` -> `0.0`
            You put 0 in the place of the true logit. Where all other logits are negative, that 0 is
            the largest. Put minus infinity there: -torch.inf.
        divided by the L1 norm: `spread, 1.0` -> `logits.abs().sum(dim=1), 1.0`
            You divide by the sum of the absolute logits. That changes when a constant is added to
            all logits, which changes no answer. Divide by largest minus smallest.
        divided by the largest absolute logit: `spread, 1.0` -> `logits.abs().amax(dim=1), 1.0`
            You divide by the largest absolute logit. That changes when a constant is added to all
            logits, which changes no answer. Divide by largest minus smallest.
        one added: `torch.where(spread > 0, spread, 1.0)` -> `(spread + 1)`
            You add 1 to the spread. So the loss depends on the scale again. Treat the spread 0 by
            itself.
        smallest divisor: `torch.where(spread > 0, spread, 1.0)` -> `spread.clamp(min=1e-3)`
            You divide by at least 0.001. For tiny logits that limit decides, and the loss has a
            scale again. Treat only the spread 0 by itself.
        divisor of at least 1: `torch.where(spread > 0, spread, 1.0)` -> `spread.clamp(min=1.0)`
            You divide by at least 1. For smaller logits that 1 decides, and the loss has a scale
            again. Treat only the spread 0 by itself.
        divisor of at least a millionth: `torch.where(spread > 0, spread, 1.0)`
        -> `spread.clamp(min=1e-6)`
            You divide by at least 0.000001. For tiny logits that limit decides, and the loss has a
            scale again. Treat only the spread 0 by itself.
        a thousandth added: `torch.where(spread > 0, spread, 1.0)` -> `(spread + 1e-3)`
            You add 0.001 to the spread. So the loss depends on the scale of the logits. Treat the
            spread 0 by itself.
        a small number added: `torch.where(spread > 0, spread, 1.0)` -> `(spread + 1e-8)`
            You add 0.00000001 to the spread. For tiny logits that number counts, and the loss has a
            scale again. Treat the spread 0 by itself.
        mean of the others: `logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)`
        -> `(logits.sum(dim=1) - true) / (logits.shape[1] - 1)`
            You take the mean of the other logits. The task asks for the best of them, the largest.
        third logit: `logits.amin(dim=1)` -> `logits.sort(dim=1, descending=True).values[:, 2]`
            You divide by the largest logit less the third largest. The task asks for largest minus
            smallest.
        top two: `logits.amin(dim=1)` -> `logits.topk(2, dim=1).values[:, 1]`
            You divide by the gap between the two largest logits. So the result is -1 wherever the
            model is right. Divide by largest minus smallest.
        spread of the others: `logits.amax(dim=1) - logits.amin(dim=1)`
        -> `others - logits.scatter(1, y[:, None], torch.inf).amin(dim=1)`
            You leave the true logit out of the spread. The spread is over all logits: largest minus
            smallest.
        divided by the norm: `spread, 1.0` -> `logits.norm(dim=1), 1.0`
            You divide by the L2 norm of the logits. That changes when a constant is added to all
            logits, which changes no answer. Divide by largest minus smallest.
        one label for all: `y[:, None]` => `y[:1].expand(len(y))[:, None]`
            You take the label of the first example for all. Each row has its own
            label: `gather` takes one column of each row.
        second largest: `logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)`
        -> `logits.topk(2, dim=1).values[:, 1]`
            You take the second largest logit for the best wrong one. Where the model errs already,
            the largest is the wrong one. Leave y out, then take the largest.
        all of the batch set to 0: `return (others - true)`
        -> `return (spread > 0).all() * (others - true)`
            One example with equal logits makes your whole result 0. Treat each row by itself:
            `torch.where`.
        """,
    ),
    hints=(
        "Imagine all logits multiplied by 1000. Which differences grow by the same factor?",
        "`logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)` is the best logit without the "
        "true class. `logits.gather(1, y[:, None]).squeeze(1)` is the true one.",
        "Divide by `torch.where(spread > 0, spread, 1.0)`: where the spread is 0, the difference "
        "is 0 too.",
    ),
    takeaway="Whoever multiplies the logits by 10,000 gains nothing against this loss.",
)


# --- 5. The average over randomness -------------------------------------------------------------


def _average_gradient(model: nn.Module, x: Tensor, y: Tensor, noises: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    for noise in noises:  # each has the shape of x
        noisy = (x + noise).detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(noisy), y, reduction="sum")
        total = total + torch.autograd.grad(loss, noisy)[0]
    return total / len(noises)


def _noise_inputs(generator: torch.Generator) -> list[Args]:
    few = torch.tensor([[0.1, 0.8, 0.3], [0.9, 0.2, 0.6]])
    x, y = images(generator, 6, 1, 3, 3), labels(generator, 6, 4)
    small = network(generator, 3, 12, 3, dropout=None)
    return [
        (small, few, torch.tensor([0, 2]), randn(generator, 4, 2, 3)),
        (network(generator, 9, 12, 4, dropout=None), x, y, 0.5 * randn(generator, 8, *x.shape)),
        (network(generator, 9, 12, 4, dropout=None), x, y, 0.5 * randn(generator, 3, *x.shape)),
        (small, few[:1], torch.tensor([2]), randn(generator, 5, 1, 3)),
    ]


def _average_in_one_batch(model: nn.Module, x: Tensor, y: Tensor, noises: Tensor) -> Tensor:
    draws = len(noises)
    noisy = (x + noises).flatten(0, 1).requires_grad_(True)  # (D N, …)
    loss = functional.cross_entropy(model(noisy), y.repeat(draws), reduction="sum")
    return torch.autograd.grad(loss, noisy)[0].reshape(noises.shape).mean(dim=0)


def _gradient_of_average(model: nn.Module, x: Tensor, y: Tensor, noises: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    losses = [functional.cross_entropy(model(x + n), y, reduction="none") for n in noises]
    return torch.autograd.grad(torch.stack(losses).mean(dim=0).sum(), x)[0]


def _average_draw_by_draw(model: nn.Module, x: Tensor, y: Tensor, noises: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    outputs = [model(x + noise) for noise in noises]
    losses = [functional.cross_entropy(z, y, reduction="sum") for z in outputs]
    gradients = torch.stack([torch.autograd.grad(loss, x)[0] for loss in losses])
    return gradients.mean(dim=0)


average_gradient = Exercise(
    name="average_gradient",
    lesson="10",
    title="The average over randomness",
    task=(
        "The defence adds random noise to the image before the model sees it. Return the gradient "
        "of the cross-entropy (of each example, not averaged over the batch), averaged over D "
        "draws of the noise. noises is (D, N, …): draw d gives the model x + noises[d]. x is (N, "
        "…), y is (N,) int64; the result has the shape of x."
    ),
    difficulty=2,
    minutes=10,
    reference=_average_gradient,
    inputs=_noise_inputs,
    right_answers=(_average_in_one_batch, _gradient_of_average, _average_draw_by_draw),
    wrong_answers=edits(
        _average_draw_by_draw,
        f"""
        divided by the images: `gradients.mean(dim=0)` -> `gradients.sum(dim=0) / len(x)`
            You divide by the number of images, `len(x)`. The mean is over the noises: divide by
            `len(noises)`.
        sum: `.mean(dim=0)` -> `.sum(dim=0)`
            You add up the gradients of the draws. Divide by the number of draws D.
        first draw only: `in noises` -> `in noises[:1]`
            You use the first draw alone. The next draw has another gradient: average them all.
        mean noise: `in noises` -> `in noises.mean(dim=0, keepdim=True)`
            You average the noise, and it cancels. The gradients are to be averaged, each taken at
            its own noisy image.
        no noise: `x + noise` -> `x`
            You leave the noise out. The model never sees x itself, only noisy images.
        mean logits: `in outputs` -> `in [torch.stack(outputs).mean(dim=0)]`
            You average the logits before the loss. The defence gives one noisy answer at a time, so
            average the losses, or their gradients.
        mean over the batch: `, reduction="sum"` -> ``
            Your gradient is also divided by the number of examples N. Pass `reduction="sum"`, and
            divide by D alone.
        mean of the signs: `gradients.mean` -> `gradients.sign().mean`
            You average the signs. A draw with a tiny gradient then counts as much as one with a
            large gradient. Take the sign after the average.
        largest: `gradients.mean(dim=0)`
        -> `gradients.gather(0, gradients.abs().argmax(dim=0, keepdim=True))[0]`
            You keep the largest gradient of all draws. Noise makes large ones too: average.
        gradients left in the model:
        `gradients = torch.stack([torch.autograd.grad(loss, x)[0] for loss in losses])`
        -> `torch.stack(losses).mean().backward()`, `gradients.mean(dim=0)` -> `x.grad`
            {evidence.GRADIENTS_LEFT}
        mean probabilities: `in outputs`
        -> `in [torch.stack(outputs).softmax(dim=2).mean(dim=0).log()]`
            You average the probabilities before the logarithm. The task asks for the average of the
            gradients, with one loss for each draw.
        clamped: `x + noise` -> `(x + noise).clamp(0, 1)`
            You clamp the noisy images to [0, 1]. The defence shows the model x + noise as it is.
        noise adds up: `in noises` -> `in noises.cumsum(dim=0)`
            Each of your draws starts where the last one ended, so the noise adds up. Every draw
            starts from x.
        last draw only: `gradients.mean(dim=0)` -> `gradients[-1] / len(noises)`
            You keep the gradient of the last draw only. Add up the gradients of all draws.
        last draw alone: `in noises` -> `in noises[-1:]`
            You keep the gradient of the last draw only. Average those of all draws.
        at the clamped image: `x + noise` -> `(x + noise).detach().clamp(0, 1) + (x - x.detach())`
            You take the gradient at noisy images that are clamped to [0, 1]. The defence shows the
            model x + noise as it is.
        sign of the average: `gradients.mean(dim=0)` -> `gradients.mean(dim=0).sign()`
            You return the sign of the average. The task asks for the average itself: the sign comes
            later.
        multiplied by the noise: `x + noise` -> `(x * noise).detach() + (x - x.detach())`
            You multiply the image by the noise. The defence adds it: x + noise.
        median: `gradients.mean(dim=0)` -> `gradients.median(dim=0).values`
            You take the median of the gradients. The task asks for their mean.
        unit length: `return ` -> `sizes = gradients.flatten(2).norm(dim=2)¶return `,
        `return ` -> `sizes = sizes.reshape(*sizes.shape, *[1] * (x.ndim - 1))¶return `,
        `gradients.mean` -> `(gradients / sizes).mean`
            You make each draw's gradient as long as the others, before you average. A large
            gradient counts more: average the gradients as they are.
        halved again and again: `return gradients.mean(dim=0)` -> `mean = gradients[0]¶return mean`,
        `return mean`
        -> `for gradient in gradients[1:]:¶    mean = (mean + gradient) / 2¶return mean`
            You average with each new draw again: (old + new) / 2. So the last draws count most. Add
            them all up, then divide by D.
        first draw missing: `gradients.mean(dim=0)` -> `gradients[1:].sum(dim=0) / len(noises)`
            The first draw is missing: `range(1, D)` begins with the second. Start at 0, or loop
            over `noises` itself.
        mean without the first draw: `in noises` -> `in noises[1:]`
            You average all draws but the first. It counts like the others: average all D.
        last draw missing: `gradients.mean(dim=0)` -> `gradients[:-1].sum(dim=0) / len(noises)`
            The last draw is missing. Go on to the end: loop over `noises` itself.
        labels in another order than the images: `functional.cross_entropy(z, y, reduction="sum")`
        -> `functional.cross_entropy(z, many, reduction="sum")`, `for z in outputs`
        -> `for z, many in zip(outputs, y.repeat_interleave(len(noises)).split(len(y)))`
            Your labels are in another order than your images. For images in the order of
            `(x + noises).flatten(0, 1)` the labels are `y.repeat(len(noises))`, without
            `_interleave`.
        """,
    ),
    hints=(
        "One draw gives a noisy gradient. What do you do with many noisy measurements?",
        "For each draw: `noisy = (x + noise).requires_grad_(True)`, the loss of `model(noisy)`, "
        "its gradient.",
        "Add up the gradients in a loop over `noises`, and divide by `len(noises)`. Use "
        '`reduction="sum"` in the loss.',
    ),
    takeaway="Randomness hides the gradient from one look, not from many.",
)


EXERCISES = (worst_case, is_legal, straight_through, scale_free_margin, average_gradient)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    Attack A leaves a model right on 60 of 100 digits, attack B on 55. How many digits are right
    in the worst case?
    - 55, by the stronger attack
        Only if B succeeds on every digit on which A does.
    - 57.5, the mean
        A mean rewards the model for weak attacks in the list.
    + From 15 to 55
        A succeeds on 40 digits and B on 45. If these are all different, 15 are left; if A's are
        among B's, 55. So each digit must be counted by itself.

    A model gets 99 % under FGSM, 98 % under random noise and 3 % under images crafted on another
    model. What do you conclude?
    + Its own gradient misleads FGSM.
        Transfer should be weaker than an attack that sees the weights. When it is stronger, the
        gradient is masked.
    - It is robust: FGSM knows its weights, the other model does not.
        The images of the other model are in the same ball, and they fool it.
    - The other model is better.
        This says nothing about how good the other model is.

    You multiply a model's logits by 10,000. What happens?
    - It becomes more robust: it is more confident now.
        The largest logit stays the largest: each answer is the same as before, also under attack.
    + Float32 cross-entropy finds no gradient.
        The answers stay, and softmax rounds to 0 and 1. A loss without a scale finds the same
        examples as before.
    - Its clean error rises.
        No answer changes: the order of the logits is kept.

    Why does the arena take safetensors and refuse a file made by `torch.save`?
    + A pickle can run code.
        Loading it runs whatever its author put in. A safetensors file holds numbers and a text.
        Nothing in it can run.
    - It is larger.
        The sizes hardly differ. What matters is what is in the file.
    - A pickle holds no gradients.
        Neither file does. The arena computes gradients itself.

    Your submission scores 41 % of 300 digits, your neighbour's 38 %. Is yours more robust?
    - Yes, by three points.
        On other digits the order could be reversed: each interval is about eleven points wide.
    - No, the neighbour's is.
        Nothing suggests that. The difference may be chance.
    + We cannot tell from this.
        The two 95 % intervals overlap widely. More digits, or a comparison digit by digit, could
        tell.
    """
)
