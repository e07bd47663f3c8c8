"""Exercises of lesson 00: a first attack, sizes of changes, and 8-bit pictures."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from advlearn.course import grading
from advlearn.course.banks.inputs import exact_loss, labels, network, rand, takes_whole_steps
from advlearn.course.grading import Args, Exercise, edits, parse, rule

functional = torch.nn.functional

# --- 1. A step towards an answer ------------------------------------------------------------------


def _step_towards(model: nn.Module, x: Tensor, target: Tensor, eps: float) -> Tensor:
    x = x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(x), target)  # how far from the target?
    gradient = torch.autograd.grad(loss, x)[0]
    step = -eps * gradient.sign()  # down: the target's loss should fall
    return (x + step).clamp(0, 1).detach()


def _targets(generator: torch.Generator) -> list[Args]:
    weight = torch.tensor([[2.0, -1.0, 0.5, 0.0], [-1.0, 1.0, 1.5, 0.0], [0.5, 2.0, -2.0, 0.0]])
    linear = nn.Linear(4, 3).eval()
    with torch.no_grad():
        linear.weight.copy_(weight)  # the last pixel has no weight, as a digit's border
        linear.bias.zero_()
    # Black and white pixels too: there the clamp decides.
    x = torch.tensor([[0.5, 0.9, 0.0, 0.5], [0.0, 0.4, 1.0, 0.3]])
    faint = nn.Linear(4, 3).eval()
    with torch.no_grad():
        faint.weight.copy_(1e-7 * weight)  # tiny gradients, whose signs count as much
        faint.bias.zero_()
    deep = network(generator, 9, 12, 4)
    with torch.no_grad():
        deep[1].weight[:, 0] = 0  # type: ignore[index]
    images = rand(generator, 8, 1, 3, 3)
    images[:, :, 1] = images[:, :, 1].round()
    return [
        (linear, x, torch.tensor([1, 0]), 0.25),
        (linear, x, torch.tensor([2, 1]), 0.05),
        (linear, x, torch.tensor([2, 2]), 0.0),
        (deep, images, labels(generator, 8, 4), 0.2),
        (faint, x, torch.tensor([1, 2]), 0.125),
        (deep, images[:1], torch.tensor([3]), 0.1),
        # Grey pixels only: the range of a picture is still from 0 to 1.
        (linear, 0.25 + 0.5 * x, torch.tensor([0, 1]), 0.125),
    ]


@rule("Some of your numbers leave the range from 0 to 1. Clamp after the step.")
def _stays_a_picture(args: Args, output: Tensor) -> object:
    return ((output >= 0) & (output <= 1)).all()


@rule("Some of your numbers move by more than eps.")
def _moves_by_at_most_eps(args: Args, output: Tensor) -> object:
    _, x, _, eps = args
    return ((output - x).abs() <= eps + 1e-6).all()


@rule("The model's loss for the target is not smaller on your images than on x. It should fall.")
def _lowers_the_loss_of_the_target(args: Args, output: Tensor) -> object:
    model, x, target, eps = args
    return eps == 0 or exact_loss(model, output, target) < exact_loss(model, x, target)


@rule(
    "Some of your numbers move by less than eps, though there is room and their gradient is not 0."
    " Even a tiny gradient has a full sign."
)
def _moves_by_the_whole_eps(args: Args, output: Tensor) -> object:
    return takes_whole_steps(args, output)


def _step_by_log_softmax(model: nn.Module, x: Tensor, target: Tensor, eps: float) -> Tensor:
    change = torch.zeros_like(x, requires_grad=True)
    chosen = model(x + change).log_softmax(dim=1).gather(1, target[:, None]).sum()
    upwards = torch.autograd.grad(chosen, change)[0].sign()  # the logarithm of its probability
    return torch.clip(x + eps * upwards, 0.0, 1.0)


def _step_one_by_one(model: nn.Module, x: Tensor, target: Tensor, eps: float) -> Tensor:
    moved = []
    for k in range(len(x)):
        one = x[k : k + 1].detach().clone().requires_grad_(True)
        loss = functional.cross_entropy(model(one), target[k : k + 1])
        (gradient,) = torch.autograd.grad(loss, one)
        stepped = one.detach() - eps * torch.sign(gradient)
        moved.append(torch.minimum(torch.maximum(stepped, torch.tensor(0.0)), torch.tensor(1.0)))
    return torch.cat(moved)


step_towards = Exercise(
    name="step_towards",
    lesson="00",
    title="A step towards an answer",
    task=(
        "Change the five lines: one step of size eps after which the answer target is more "
        "probable. model(x) gives logits (N, K), the scores before the softmax; x is (N, ...) in "
        "[0, 1]; target is (N,) int64. Return images of x's shape, in [0, 1]."
    ),
    difficulty=2,
    minutes=6,
    reference=_step_towards,
    inputs=_targets,
    properties=(
        _stays_a_picture,
        _moves_by_at_most_eps,
        _lowers_the_loss_of_the_target,
        _moves_by_the_whole_eps,
    ),
    right_answers=(_step_by_log_softmax, _step_one_by_one),
    wrong_answers=edits(
        _step_towards,
        """
        away from the target: `-eps` -> `eps`
            You go up: the loss of the target grows, so the target becomes less probable. Going
            towards it takes one minus, in the loss or in the step: two of them cancel.
        away from the model's own answer: `target)` -> `model(x).argmax(dim=1))`, `-eps` -> `eps`
            This is the attack of the text: away from the model's own answer. Put `target` into
            the loss, and go down.
        towards the model's own answer: `target)` -> `model(x).argmax(dim=1))`
            Your loss is that of the answer which the model gives already. Put `target` into the
            loss.
        no sign: `gradient.sign()` -> `gradient`
            Your step is eps times the gradient, without the sign. The sign makes every number move
            by the full eps.
        divided by the largest: `gradient.sign()` -> `(gradient / gradient.abs().max())`
            You divide the gradient by its largest entry, so only one number moves by the full eps.
            The sign makes every number move by eps.
        no eps: `-eps * gradient` -> `-gradient`
            Your step is the sign alone: each number moves by 1. Multiply it by eps.
        a pixel of gradient 0 moves: `gradient.sign()`
        -> `torch.where(gradient >= 0, 1.0, -1.0)`
            You move numbers whose gradient is exactly 0. They have no direction: the sign of 0 is
            0, and they stay.
        softmax before cross-entropy: `model(x)` -> `model(x).softmax(dim=1)`
            You apply the softmax before `cross_entropy`, which wants logits and applies it itself.
            Twice gives another gradient.
        the target's logit only: `torch.nn.functional.cross_entropy(model(x), target)`
        -> `-model(x).gather(1, target[:, None]).sum()`
            You raise the score of the target alone. The cross-entropy also lowers the others: the
            probability depends on all of them.
        no clamp: `.clamp(0, 1)` -> ``
            Your result leaves the range from 0 to 1, so it is no picture any more. Clamp it.
        the step is clamped, not the picture: `(x + step).clamp(0, 1)` -> `(x + step.clamp(0, 1))`
            You clamp the step, which loses every move downwards. Clamp the sum x + step.
        eps over 255: `-eps` -> `-eps / 255`
            You divide eps by 255. Pixels here run from 0 to 1, and eps is in the same units.
        returns x: `(x + step)` -> `x`
            You return x as it was. Add the step.
        the step alone: `(x + step)` -> `step`
            You return the step alone. Add it to x.
        every image with every target: `torch.nn.functional.cross_entropy(model(x), target)`
        -> `-model(x).log_softmax(dim=1)[:, target].sum()`
            `[:, target]` takes the columns of ALL targets in every row, so each image goes towards
            all of them. `z[torch.arange(len(z)), target]` picks one entry of each row.
        first target for all: `target)` -> `target[:1].expand(len(x)))`
            You use the first target for all images. Each image has its own entry in `target`.
        one step for all: `gradient.sign()` -> `gradient.mean(dim=0, keepdim=True).sign()`
            You give one and the same step to all images: that of the mean gradient. Each image has
            its own gradient: take the sign of each.
        images that are there already: `loss =`
        -> `done = (model(x).argmax(1) == target).reshape(-1, *[1] * (x.dim() - 1))¶loss =`,
        `(x + step)` -> `torch.where(done, x, x + step)`
            You leave an image as it is if the model's answer is the target already. Take the step
            there, too: it makes the target more probable.
        gradient cut off at eps: `-eps * gradient.sign()` -> `-gradient.clamp(-eps, eps)`
            You cut the gradient off at eps. A small gradient then moves its number by less than
            eps. Take eps times the sign.
        the bare step: `(x + step).clamp(0, 1)` -> `step`
            You return only the step. Add it to x, and clamp the sum to [0, 1].
        range of the batch: `.clamp(0, 1)` -> `.clamp(x.min(), x.max())`
            You clamp to the smallest and the largest number of the batch. The range of a picture is
            from 0 to 1: clamp to that.
        squared error: `torch.nn.functional.cross_entropy(model(x), target)`
        -> `(model(x).softmax(dim=1) - torch.eye(model(x).shape[1])[target]).square().sum()`
            Your loss is the squared error of the probabilities. Use the cross-entropy, as in the
            five lines: it has another gradient.
        lead over one class: `torch.nn.functional.cross_entropy(model(x), target)`
        -> `(model(x).scatter(1, target[:, None], -torch.inf).amax(dim=1)
        - model(x).gather(1, target[:, None]).squeeze(1)).sum()`
            You compare the target with the strongest other class only. Use the cross-entropy, as in
            the five lines: there all classes count.
        a sigmoid for each class: `torch.nn.functional.cross_entropy(model(x), target)`
        -> `functional.multilabel_soft_margin_loss(model(x), torch.eye(model(x).shape[1])[target])`
            You use the binary cross-entropy, with a sigmoid for each class. Use `cross_entropy`,
            with one softmax over all classes.
        only the first image: `(model(x), target)` -> `(model(x)[:1], target[:1])`
            Your loss looks at the first image only, so the others get no gradient and stay. Take
            the loss of the whole batch.
        """,
    ),
    hints=(
        "Two of the five lines change: the one with the loss, and the one with the step.",
        "The loss says how far the model is from an answer. You want to be close to `target`. So "
        "what goes into the loss, and should it grow or fall?",
        "`loss = torch.nn.functional.cross_entropy(model(x), target)`, and a minus in front of the "
        "step: `step = -eps * gradient.sign()`.",
    ),
    takeaway="One sign decides between away from an answer and towards one.",
)


# --- 2. The max norm ----------------------------------------------------------------------------


def _max_norm(eta: Tensor) -> Tensor:
    return eta.abs().flatten(1).max(dim=1).values  # (N, ...) -> (N, pixels) -> (N,)


def _changes(generator: torch.Generator) -> list[Args]:
    return [
        (torch.tensor([[0.1, -0.3, 0.2], [0.0, 0.05, -0.01]]),),
        (-rand(generator, 4, 3, 5, 5),),
        (rand(generator, 3, 1, 6, 6) - 0.5,),
        (torch.zeros(2, 1, 4, 4),),
        (rand(generator, 1, 1, 3, 3) - 0.75,),
    ]


def _loop_max_norm(eta: Tensor) -> Tensor:
    return torch.stack([torch.maximum(change.max(), -change.min()) for change in eta])


max_norm = Exercise(
    name="max_norm",
    lesson="00",
    title="The max norm",
    task=(
        "Return the largest absolute entry of each change in the batch. eta has shape (N, ...); "
        "the result has shape (N,)."
    ),
    difficulty=1,
    minutes=3,
    reference=_max_norm,
    inputs=_changes,
    right_answers=(
        _loop_max_norm,
        lambda eta: torch.linalg.vector_norm(eta.flatten(1), ord=float("inf"), dim=1),
    ),
    wrong_answers=edits(
        _max_norm,
        """
        no absolute value: `.abs()` -> ``
            A change of -0.3 is larger than one of +0.2. Take the absolute value first.
        absolute value at the end: `.abs()` -> ``, `.values` -> `.values.abs()`
            Take the absolute value before the maximum: -0.3 loses against +0.2 otherwise.
        largest minus smallest: `eta.abs().flatten(1).max(dim=1).values`
        -> `eta.flatten(1).amax(1) - eta.flatten(1).amin(1)`
            This is the distance from the lowest to the highest entry. The max norm measures each
            entry from zero.
        Euclidean norm: `.max(dim=1).values` -> `.norm(dim=1)`
            This is the Euclidean norm, which adds up all pixels. The max norm looks only at the
            pixel that changed most.
        L1 norm: `.max(dim=1).values` -> `.sum(dim=1)`
            This is the L1 norm, the sum of the absolute changes. The max norm is one single entry.
        mean change: `.max(dim=1).values` -> `.mean(dim=1)`
            This is the mean change of a pixel. A single pixel may still have changed by much more:
            take the maximum.
        whole batch: `.flatten(1).max(dim=1).values` -> `.max().expand(len(eta)).clone()`
            This is one maximum over the whole batch. Each image has its own norm: flatten from
            dimension 1, and take the maximum over dimension 1.
        half the range: `eta.abs().flatten(1).max(dim=1).values`
        -> `(eta.flatten(1).amax(1) - eta.flatten(1).amin(1)) / 2`
            This is half the distance from the lowest to the highest entry. The max norm is the
            largest absolute entry: take `.abs()` first, then the maximum.
        second largest: `.max(dim=1).values` -> `.sort(dim=1).values[:, -2]`
            You take the second largest entry. After sorting, the largest one is the last: `[:,
            -1]`.
        sign kept: `eta.abs().flatten(1).max(dim=1).values`
        -> `eta.flatten(1).gather(1, eta.abs().flatten(1).argmax(1, keepdim=True))[:, 0]`
            You return the largest change with its sign. A norm is never negative: return the
            absolute value.
        colours added up: `eta.abs().flatten(1)`
        -> `(eta.abs().sum(1) if eta.dim() > 2 else eta.abs()).flatten(1)`
            You add up the colours of each place first. The max norm looks at each number alone:
            flatten from dimension 1.
        mean of the colours: `eta.abs().flatten(1)`
        -> `(eta.abs().mean(1) if eta.dim() > 2 else eta.abs()).flatten(1)`
            You average the colours of each place first. The max norm looks at each number alone:
            flatten from dimension 1.
        sum of squares: `.max(dim=1).values` -> `.square().sum(dim=1)`
            You add up the squares of all entries. The max norm is one single entry, the largest.
        root of the mean square: `.max(dim=1).values` -> `.square().mean(dim=1).sqrt()`
            You take the mean of the squares, and its root. That looks at all entries. The max norm
            is one single entry, the largest.
        first image for all: `.max(dim=1).values` -> `.max(dim=1).values[:1].repeat(len(eta))`
            You give the norm of the first image to all of them. Each image has its own norm.
        median: `.max(dim=1).values` -> `.median(dim=1).values`
            You take the median. The max norm is the largest entry: take the maximum.
        first of the second axis: `eta.abs()` -> `eta[:, :1].abs()`
            You look at the first entry of the second axis alone. With colours that is one of
            three. All entries of an image count: flatten from dimension 1.
        first image row: `eta.abs().flatten(1)`
        -> `(eta.abs().flatten(1) if eta.dim() < 4 else eta[:, :, 0].abs().flatten(1))`
            You look at the first row of each image alone. All entries of an image count: flatten
            from dimension 1.
        """,
    ),
    hints=(
        "Three steps: absolute values, one long row for each image, the maximum of each row.",
        "`eta.flatten(1)` turns (N, 3, 224, 224) into (N, 150528).",
        "`.max(dim=1)` gives values and places; you want `.values`.",
    ),
    takeaway="One changed pixel is enough to leave the box, however small the others are.",
)


# --- 3. In the ball -------------------------------------------------------------------------------


def _in_ball(x: Tensor, moved: Tensor, eps: float) -> Tensor:
    distance = (moved - x).abs().flatten(1).max(dim=1).values  # (N,) the max norm of the change
    return distance <= eps + 1e-6


def _pairs(generator: torch.Generator) -> list[Args]:
    x = torch.tensor([[0.5, 0.5, 0.5]]).repeat(8, 1)
    eta = torch.tensor(
        [
            [0.1, -0.1, 0.1],  # on the edge
            [0.1, 0.0, -0.2],  # one pixel out, downwards
            [0.01, 0.0, 0.2],  # one pixel out, upwards
            [0.2, 0.2, 0.2],  # all pixels out
            [0.0, 0.0, 0.0],  # not moved
            [0.02, -0.03, 0.01],  # well inside
            [0.0, 0.4, 0.3],  # two pixels out, one not moved
            [-0.3, 0.0, 0.0],  # one pixel out, and the largest pixel stays
        ]
    )
    images = rand(generator, 5, 1, 6, 6)
    change = 2 * rand(generator, 5, 1, 6, 6) - 1
    size = torch.tensor([0.04, 0.1, 0.3, 0.0999, 0.5]).reshape(5, 1, 1, 1)
    images[:, :, 0], images[:, :, 1] = 0.0, 1.0  # black and white
    exact = torch.tensor([[0.5, 0.25], [0.5, 0.25], [0.25, 0.5]])  # binary fractions: no rounding
    by = torch.tensor([[0.25, -0.25], [0.0, 0.5], [0.0, 0.0]])
    # The allowance is 0.000001, no more and no less: 2**-20 is inside, 2**-19 is not.
    beyond = torch.tensor([0.0, 2**-20, 2**-19, 1e-5, 1e-4, 1e-3, 5e-3, 2e-2])
    centre = torch.full((8, 3), 0.5)
    edge = torch.stack([0.25 + beyond, torch.zeros(8), -0.25 - beyond.flip(0)], dim=1)
    edge = torch.cat([edge, edge.abs() * torch.tensor([1.0, 1.0, 0.0])])
    centre = torch.cat([centre, centre])
    colours = torch.full((3, 3, 2, 2), 0.5)
    moved = colours.clone()
    moved[0, 2, 1, 0], moved[1, 1, 0, 1], moved[2, 2, 1, 1] = 1.0, 0.125, 0.75  # two leave the ball
    return [
        (x, x + eta, 0.1),
        (images, images + size * change.sign(), 0.1),
        (exact, exact + by, 0.25),
        (centre, centre + edge, 0.25),
        (colours, moved, 0.25),
        (x[1:2], x[1:2] + eta[1:2], 0.1),
        # Each pixel by half of eps: inside, though the changes add up to more than eps.
        (x[:3], x[:3] + 0.05 * eta[:3].sign(), 0.1),
    ]


def _allows_for_rounding_only(args: Args, output: Tensor) -> str | None:
    x, moved, eps = args
    beyond = (moved - x).abs().flatten(1).amax(dim=1) - eps
    if (output[beyond > 1.5e-6] != 0).any():
        return (
            "You accept an image that leaves the ball. The task allows 0.000001 more than eps, "
            "and no more."
        )
    if (output[beyond < 5e-7] != 1).any():
        return "You refuse an image that lies in the ball."
    return None


in_ball = Exercise(
    name="in_ball",
    lesson="00",
    title="In the ball",
    task=(
        "Say for each image whether moved lies in the eps-ball around x, with 0.000001 allowed for "
        "rounding. x and moved have shape (N, ...); the result is boolean, shape (N,)."
    ),
    difficulty=2,
    minutes=5,
    asks=("tensor", "dtype"),
    reference=_in_ball,
    inputs=_pairs,
    properties=(_allows_for_rounding_only,),
    right_answers=(
        lambda x, moved, eps: ((moved - x).abs() <= eps + 1e-6).flatten(1).all(dim=1),
        lambda x, moved, eps: ~((moved - x).abs() > eps + 1e-6).flatten(1).any(dim=1),
    ),
    wrong_answers=edits(
        _in_ball,
        """
        any pixel: `.max(dim=1)` -> `.min(dim=1)`
            You accept an image when any one pixel is close enough. Every pixel must be.
        no absolute value: `.abs()` -> ``
            A pixel may leave the ball downwards too. Without the absolute value you miss that.
        no room for rounding: ` + 1e-6` -> ``
            Floating point puts a change of exactly 0.1 at 0.10000002 or so. Allow 0.000001 more
            than eps.
        difference of the maxima: `(moved - x).abs().flatten(1).max(dim=1).values`
        -> `(moved.flatten(1).amax(1) - x.flatten(1).amax(1)).abs()`
            You take the maximum of each picture first. Subtract pixel by pixel, then take the
            maximum.
        strictly inside: `<= eps + 1e-6` -> `< eps - 1e-6`
            The edge belongs to the ball: a change of exactly eps is allowed. FGSM always goes to
            the edge.
        mean change: `.max(dim=1).values` -> `.mean(dim=1)`
            You look at the mean change. One pixel far out is enough to leave the ball.
        Euclidean norm: `.max(dim=1).values` -> `.norm(dim=1)`
            You measure with the Euclidean norm, a round ball. Here each pixel has its own limit:
            use the max norm.
        whole batch: `.flatten(1).max(dim=1).values` -> `.max().expand(len(x)).clone()`
            You give one answer for the whole batch. Decide image by image: flatten from
            dimension 1.
        L1 norm: `.max(dim=1).values` -> `.sum(dim=1)`
            You add up the changes of all pixels. Here each pixel has its own limit: use the max
            norm.
        tolerance multiplied: `eps + 1e-6` -> `eps * (1 + 1e-6)`
            You allow less than 0.000001 for rounding, as when eps is multiplied by 1.000001. Add
            0.000001 to eps, do not multiply.
        first colour only: `(moved - x).abs()`
        -> `((moved - x)[:, :1] if x.dim() > 2 else moved - x).abs()`
            You look at the first colour only. Every number of the image must be close enough:
            flatten from dimension 1.
        first image for all: `distance <= eps + 1e-6`
        -> `(distance <= eps + 1e-6)[:1].repeat(len(x))`
            You give the answer of the first image to all of them. Decide for each image.
        range of a picture: `distance <= eps + 1e-6`
        -> `(distance <= eps + 1e-6) & ((moved >= 0) & (moved <= 1)).flatten(1).all(dim=1)`
            You also ask that moved lies in [0, 1]. The ball asks only how far moved is from x.
        mean square: `.max(dim=1).values` -> `.square().mean(dim=1).sqrt()`
            You measure with the root of the mean square. One pixel far out is enough to leave the
            ball: use the max norm.
        """,
    ),
    hints=(
        "Exercise 2 measures a change. Compare its result with eps.",
        "The change is `moved - x`.",
        "`((moved - x).abs() <= eps + 1e-6)` is a picture of true and false. All of them must be "
        "true: `.flatten(1).all(dim=1)`.",
    ),
    takeaway="Every attack in this course is tested with exactly this question.",
)


# --- 4. Eight bits --------------------------------------------------------------------------------


def _save_as_8_bits(x: Tensor) -> Tensor:
    return torch.round(255 * x) / 255


def _pictures(generator: torch.Generator) -> list[Args]:
    return [
        (torch.tensor([[0.0, 0.4005, 1.0, 0.003, 0.999]]),),
        # Away from ties, where two right ways of rounding differ.
        ((torch.randint(0, 255, (4, 1, 5, 5), generator=generator) + 0.3) / 255,),
        (torch.arange(256.0).reshape(1, 256) / 255,),
    ]


save_as_8_bits = Exercise(
    name="save_as_8_bits",
    lesson="00",
    title="Eight bits",
    task=(
        "Round every pixel to the nearest of the 256 levels 0, 1/255, ..., 1. x is in [0, 1], any "
        "shape; the result has the same shape and is in [0, 1] again."
    ),
    difficulty=1,
    minutes=3,
    reference=_save_as_8_bits,
    inputs=_pictures,
    right_answers=(
        lambda x: x.mul(255).add(0.5).floor().div(255),
        lambda x: (x * 255).round().to(torch.uint8).float() / 255,
    ),
    wrong_answers=edits(
        _save_as_8_bits,
        """
        the wrong way round: `torch.round(255 * x) / 255` -> `torch.round(x / 255) * 255`
            You divide by 255 first. x is in [0, 1]: multiply by 255, round, and divide by 255 last.
        cut off: `round` -> `floor`
            You cut the fraction off, so every picture becomes a little darker. Round to the nearest
            level.
        256 steps: `255` => `256`
            256 levels have 255 steps between them: 0 is the first level and 255 the last.
        not scaled back: ` / 255` -> ``
            These are the levels 0 to 255. Divide by 255, so that the picture is in [0, 1] again.
        rounded at once: `255 * x` -> `x`, ` / 255` -> ``
            Rounding a number in [0, 1] leaves only black and white. Scale to 0 ... 255 first.
        two decimals: `255` => `100`
            You round to hundredths. An 8-bit file has steps of 1/255.
        three decimals: `255` => `1000`
            You round to thousandths. An 8-bit file has steps of 1/255.
        whole division: `/ 255` -> `// 255`
            Your result holds only 0 and 1, as the whole division `//` gives. Divide with `/`: there
            are 256 levels.
        equal parts: `torch.round(255 * x)` -> `torch.floor(256 * x).clamp(max=255)`
            You cut the range from 0 to 1 into 256 equal parts and round down. The task asks for the
            nearest level: round 255·x.
        256 starts again at 0: `torch.round(255 * x)` -> `torch.floor(256 * x).remainder(256)`
            You scale with 256, and round down. White then becomes 256, which does not fit into 8
            bits: it starts again at 0, black. Round 255·x.
        stretched: `255 * x` -> `255 * x / x.max()`
            You divide x by its largest number, which makes the picture brighter. The levels are the
            same for every picture: round 255·x.
        middle of a step: `torch.round(255 * x)` -> `(torch.floor(255 * x) + 0.5)`
            You return the middle between two levels. The result must be a level: 0, 1/255, ..., 1.
            Round 255·x.
        powers of two: `round` -> `floor`, `255` => `256`
            You round down to multiples of 1/256. The levels are multiples of 1/255, and each number
            goes to the nearest one.
        scaled by two numbers: `/ 255` -> `/ 256`
            You multiply by 255, and divide by 256. Divide by 255, or white becomes grey.
        signed bytes: `torch.round(255 * x)` -> `((torch.round(255 * x) + 128) % 256 - 128)`
            A number of 8 bits with a sign (int8) ends at 127, so bright pixels become negative. Use
            `torch.uint8`, or stay with floating numbers.
        stretched and shrunk again: `torch.round(255 * x) / 255`
        -> `torch.round(255 * x / x.max()) / 255 * x.max()`
            You stretch the picture to its brightest number first, and shrink it again at the end.
            The levels are the same for every picture, 0, 1/255, ..., 1: round 255·x.
        """,
    ),
    hints=(
        "Go to the scale 0 ... 255, round there, and come back.",
        "`torch.round` rounds to whole numbers.",
        "`torch.round(255 * x) / 255`.",
    ),
    takeaway="On an 8-bit picture, a change of less than half a step does not survive this.",
)


# --- 5. What survives -----------------------------------------------------------------------------


def _surviving_share(x: Tensor, moved: Tensor) -> Tensor:
    before, after = torch.round(255 * x), torch.round(255 * moved)
    return (before != after).float().flatten(1).mean(dim=1)  # (N,)


def _before_and_after(generator: torch.Generator) -> list[Args]:
    x = torch.tensor([[100.0, 101.0, 102.0, 103.0]]).repeat(3, 1) / 255
    eta = torch.tensor([[0.001, 0.001, 0.001, 0.001], [0.01, 0.0, 0.0, 0.0], [0.01, -0.01, 0, 0]])
    raw = torch.tensor([[100.4, 100.4, 100.1, 100.0]]) / 255  # not on 8-bit levels
    raw_moved = torch.tensor([[100.6, 100.9, 100.4, 101.0]]) / 255
    images = (0.1 + 0.8 * rand(generator, 6, 1, 6, 6)).mul(255).round() / 255
    images[:, :, 5], images[:, :, 4, :3] = 0.0, 1.0  # black and white
    signs = (2 * rand(generator, 6, 1, 6, 6) - 1).sign()
    signs[:, :, :2] = 0
    signs[:, :, 5], signs[:, :, 4, :3] = 1.0, -1.0
    size = torch.tensor([0.0, 0.001, 0.0015, 0.003, 0.01, 0.05]).reshape(6, 1, 1, 1)
    # In colour, each of the three numbers of a place is a pixel.
    colours = (0.2 + 0.6 * rand(generator, 4, 3, 3, 3)).mul(255).round() / 255
    change = torch.zeros(4, 3, 3, 3)
    change[0, 1, 0], change[1, 2], change[2, :, 1, 1], change[3, 0, 2, 2] = 0.01, -0.02, 0.03, 0.04
    return [
        (x, x + eta),
        (images, images + size * signs),
        (raw, raw_moved),
        (colours, colours + change),
    ]


surviving_share = Exercise(
    name="surviving_share",
    lesson="00",
    title="What survives",
    task=(
        "Return the share of pixels that still differ after x and moved were both saved as 8 bits. "
        "Both have shape (N, ...); the result has shape (N,), each in [0, 1]."
    ),
    difficulty=2,
    minutes=4,
    reference=_surviving_share,
    inputs=_before_and_after,
    right_answers=(
        lambda x, moved: torch.stack(
            [
                ((255 * a).round() != (255 * b).round()).double().mean().float()
                for a, b in zip(x, moved, strict=True)
            ]
        ),
        lambda x, moved: (
            1
            - ((x * 255).round() == (moved * 255).round()).flatten(1).sum(1) / x.flatten(1).shape[1]
        ),
    ),
    wrong_answers=edits(
        _surviving_share,
        """
        not saved: `torch.round(255 * x), torch.round(255 * moved)` -> `x, moved`
            You compare the images before saving. Save both as 8 bits first.
        rounded the difference: `before != after` -> `torch.round(255 * (moved - x)) != 0`
            You ask whether the difference is more than half a step. That decides only when x was on
            8-bit levels before: save each of the two pictures, then compare.
        only moved was saved: `torch.round(255 * x)` -> `x`,
        `(255 * moved)` -> `(255 * moved) / 255`
            Save x too: the picture that you compare with is a file as well.
        counted, not shared: `.mean(dim=1)` -> `.sum(dim=1)`
            This is the number of changed pixels. Divide by the number of pixels in an image: take
            the mean.
        divided by the images: `.mean(dim=1)` -> `.sum(dim=1) / len(x)`
            You divide the number of changed pixels by the number of images, `len(x)`. Divide by the
            number of pixels in one image: take the mean of each row.
        the pixels that did not survive: `!=` -> `==`
            This is the share of pixels that are equal. Those that survive are different.
        mean over the batch: `.flatten(1).mean(dim=1)` -> `.mean().expand(len(x)).clone()`
            This is one share for the whole batch. Give one for each image.
        size of the change: `(before != after).float()` -> `((before - after).abs() / 255)`
            This is how far the pixels moved on average. Count only whether they differ.
        share of the changed ones: `.mean(dim=1)`
        -> `.sum(dim=1) / (x != moved).flatten(1).sum(dim=1)`
            You divide by the number of pixels that were changed. Divide by the number of all pixels
            in an image: take the mean of each row.
        only brighter: `before != after` -> `after > before`
            You count only the pixels that became brighter. A darker one differs, too: use `!=`.
        only darker: `before != after` -> `after < before`
            You count only the pixels that became darker. A brighter one differs, too: use `!=`.
        one level allowed: `before != after` -> `(before - after).abs() > 1`
            You do not count a difference of one level. It survives as well: count every pixel that
            is not equal.
        any colour: `(before != after)`
        -> `((before != after).any(dim=1) if x.dim() == 4 else (before != after))`
            You count a place once, however many of its colours differ. Each number of the image
            counts as a pixel: flatten from dimension 1.
        first image for all: `.mean(dim=1)` -> `.mean(dim=1)[:1].repeat(len(x))`
            You give the share of the first image to all of them. Each image has its own share.
        levels added up: `(before != after).float()` -> `(before - after).abs()`
            You average how many levels the pixels moved. Count only whether they differ.
        256 steps: `255` => `256`
            256 levels have 255 steps between them. Multiply by 255 before you round.
        not scaled: `255 * ` => ``
            You round numbers in [0, 1], which leaves only black and white. Multiply by 255 first.
        any pixel: `.float().flatten(1).mean(dim=1)` -> `.flatten(1).any(dim=1).float()`
            You say whether any pixel differs. Return which part of the pixels does: take the mean
            of each row.
        share of the changed ones, none as 0: `.mean(dim=1)`
        -> `.sum(dim=1) / (x != moved).flatten(1).sum(dim=1).clamp(min=1)`
            You divide by how many pixels were changed at all, or by 1. Divide by the number of all
            pixels in an image: take the mean of each row.
        any of the second axis: `(before != after).float().flatten(1)`
        -> `(before != after).any(dim=1).float().reshape(len(x), -1)`
            You join the second axis with `any`, so a place counts once, however many of its
            numbers differ. Each number of the image counts as a pixel: flatten from dimension 1.
        """,
    ),
    hints=(
        "Use exercise 4 on both images.",
        "`before != after` is true where a pixel differs. As numbers, true is 1.",
        "The mean of a row of 0 and 1 is the share of the ones: `.float().flatten(1).mean(dim=1)`.",
    ),
    takeaway="A model that gets the numbers, not the file, also sees what did not survive.",
)


EXERCISES = (step_towards, max_norm, in_ball, save_as_8_bits, surviving_share)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    What makes a changed picture an adversarial example?
    - People see the change, and the model does not.
        It is the other way round: people hardly notice, and the model is wrong.
    + A small change, made on purpose, and the model errs.
        On purpose, small, and wrong: all three are needed. A picture that a model gets wrong by
        chance is only a mistake.
    - It contains random noise.
        Random noise of the same size changes far fewer answers. The signs are chosen for the
        model.

    One pixel changed by +0.02, one by -0.05, and all others stayed. What is ‖η‖∞?
    - 0.07
        That is the L1 norm, the sum of the absolute changes.
    - 0.02
        -0.05 is the larger change: the max norm ignores the sign.
    + 0.05
        The largest change of one pixel, without its sign.
    - -0.05
        A norm is never negative: take the absolute value.

    An attack changes each pixel of an 8-bit picture by 0.001, and the picture is then saved with
    8 bits again and sent to a model. What does the model get?
    + The picture without the change.
        0.001 is less than half a step of 1/255, so saving rounds it away.
    - The attacked picture: the model adds the changes up.
        It would if it got the numbers. Here the file has already thrown the change away.
    - A picture with larger changes.
        Rounding can enlarge a change that is more than half a step, and 0.001 is less.

    Why can many changes of 0.001 matter to a model when no single one does?
    - The model multiplies them together.
        It adds weighted pixels. A product of tiny numbers would be tinier still.
    - The model stores pixels with 8 bits.
        Then the changes would vanish. Models compute with 32-bit numbers.
    + All have harmful signs, and they add up.
        The model sums over its pixels. Thousands of terms that all point the same way make a
        large sum.

    A report says: “our model is safe against attacks”. What is missing?
    + What the attacker knows and may change.
        That is the threat model. With eps, the norm and the attacker's knowledge the claim can be
        tested.
    - Nothing: safe means safe against everything.
        Safe against whom? Who may do what? Without that the sentence says nothing.
    - The number of layers of the model.
        Depth does not decide it. A linear model can be attacked as well.
    """
)
