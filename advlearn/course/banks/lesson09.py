"""Exercises of lesson 09: honest evaluation."""

# ruff: noqa: PLR0917 - PGD has six arguments, and learners pass them in order

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from advlearn.course import grading
from advlearn.course.banks.inputs import kill_pixels, labels, rand
from advlearn.course.grading import Args, Exercise, edits, evidence, parse, rule

functional = torch.nn.functional


def _images(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw images with black, grey and white pixels, in float64: no sign hangs on rounding."""
    drawn = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return (1.6 * drawn - 0.3).clamp(0, 1)


def _signed(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw uniform numbers in [-1, 1), in float64."""
    return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1


def _network(generator: torch.Generator, pixels: int) -> nn.Module:
    """Make a network with one hidden layer, in float64, and weights in [-2, 2)."""
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, 12), nn.Tanh(), nn.Dropout(0.5), nn.Linear(12, 4)
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(2 * _signed(generator, *parameter.shape))
    kill_pixels(model)
    return model.eval()


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    pixels = x.detach().clone().requires_grad_(True)
    return torch.autograd.grad(functional.cross_entropy(model(pixels), y), pixels)[0]


# --- 1. One step of PGD -------------------------------------------------------------------------


def _pgd_step(x: Tensor, moved: Tensor, gradient: Tensor, eps: float, step_size: float) -> Tensor:
    stepped = moved + step_size * torch.sign(gradient)  # a small FGSM step from where we are
    inside = torch.clamp(stepped, x - eps, x + eps)  # back into the ball around the first image
    return torch.clamp(inside, 0, 1)  # and into the range of a pixel


def _step_inputs(generator: torch.Generator) -> list[Args]:
    x = torch.tensor([[0.5, 0.9, 0.1, 0.0]], dtype=torch.float64)
    moved = torch.tensor([[0.95, 0.95, 0.0, 0.1]], dtype=torch.float64)
    slope = torch.tensor([[2.0, 0.5, -0.01, 0.0]], dtype=torch.float64)
    inputs: list[Args] = [(x, moved, slope, 0.25, 0.1), (x, moved, -slope, 0.25, 0.4)]
    for eps, step_size in ((0.2, 0.05), (0.1, 0.3), (0.3, 0.3)):
        x = _images(generator, 3, 1, 4, 4)
        moved = (x + eps * _signed(generator, *x.shape)).clamp(0, 1)
        gradient = _signed(generator, *x.shape)
        gradient[gradient.abs() < 0.2] = 0.0  # dead pixels
        inputs.append((x, moved, gradient, eps, step_size))
    return inputs


def _stays_in_the_ball(args: Args, output: Tensor) -> str | None:
    # pgd_step begins with x; my_pgd and fast_step begin with the model.
    x, eps = args[isinstance(args[0], nn.Module)], args[3]
    if ((output - x).abs() <= eps + 1e-5).all():
        return None
    return f"Some of your pixels are further than eps = {eps:g} from the first image x."


@rule("Your result leaves the range [0, 1] of a pixel.")
def _stays_in_the_pixel_range(args: Args, output: Tensor) -> object:
    return ((output >= -1e-6) & (output <= 1 + 1e-6)).all()


def _step_by_bounds(
    x: Tensor, moved: Tensor, gradient: Tensor, eps: float, step_size: float
) -> Tensor:
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    return torch.minimum(torch.maximum(moved + step_size * gradient.sgn(), low), high)


def _step_by_change(
    x: Tensor, moved: Tensor, gradient: Tensor, eps: float, step_size: float
) -> Tensor:
    change = (moved - x + step_size * gradient.sign()).clamp(-eps, eps)
    return (x + change).clamp(0, 1)


pgd_step = Exercise(
    name="pgd_step",
    lesson="09",
    title="One step of PGD",
    task=(
        "Move every pixel of `moved` by step_size in the direction that raises the loss. Then put "
        "it back into the eps-ball around the first image x, and into [0, 1]. x, moved and "
        "gradient have one shape, such as (N, 1, 28, 28); eps and step_size are numbers."
    ),
    difficulty=1,
    minutes=5,
    reference=_pgd_step,
    inputs=_step_inputs,
    properties=(_stays_in_the_ball, _stays_in_the_pixel_range),
    right_answers=(_step_by_bounds, _step_by_change),
    wrong_answers=edits(
        _pgd_step,
        """
        moving ball: `x - eps, x + eps` -> `moved - eps, moved + eps`
            You project around `moved`, or clamp the step alone. Then the ball moves along, and
            after k steps a pixel may be k·eps away. The ball stays around x, where the attack
            began.
        no ball: `clamp(inside` -> `clamp(stepped`
            You do not put every pixel back into its eps-ball. Clamp to [x - eps, x + eps], pixel by
            pixel.
        ball first: `moved +` -> `moved.clamp(x - eps, x + eps) +`,
        `clamp(inside` -> `clamp(stepped`
            You project before the step, so the step may leave the ball again. Project last.
        no range: `torch.clamp(inside, 0, 1)` -> `inside`
            Your result leaves the range [0, 1] of a pixel. The ball around x alone does not prevent
            that: clamp to [0, 1] as well.
        eps as step: `step_size` -> `eps`
            Your step is eps long. That is FGSM's step. PGD takes small steps, of step_size.
        from x: `moved +` -> `x +`
            You step from x, so all earlier steps are forgotten. Step from `moved`.
        no sign: `torch.sign(gradient)` -> `gradient`
            Your step is step_size·gradient, without the sign. Only the sign of an entry counts.
        minus: `moved +` -> `moved -`
            You subtract the step. That lowers the loss. An attack raises it.
        nothing but x: `torch.clamp(inside, 0, 1)` -> `x.clone()`
            Your function returns x unchanged.
        sign of the product: `torch.sign(gradient)` -> `torch.sign(moved * gradient)`
            You multiply the gradient by the pixel. So black pixels, with value 0, never move. The
            gradient alone says which way a pixel goes.
        change made smaller: `inside = torch.clamp(stepped, x - eps, x + eps)`
        -> `change = stepped - x¶inside = x + change * (eps / change.abs().max()).clamp(max=1)`
            You make the whole change smaller until it fits. Then pixels that were inside move too.
            Cut each pixel off at eps by itself: clamp to [x - eps, x + eps].
        change of each image made smaller: `inside = torch.clamp(stepped, x - eps, x + eps)`
        -> `far = (stepped - x).abs().amax(tuple(range(1, x.ndim)), keepdim=True)¶inside = scaled`,
        `scaled` -> `x + (stepped - x) * eps / far.clamp(min=eps)`
            You make the whole change of an image smaller until it fits. Then pixels that were
            inside move too. Cut each pixel off at eps by itself: clamp to [x - eps, x + eps].
        change returned: `torch.clamp(inside, 0, 1)` -> `torch.clamp(inside, 0, 1) - x`
            You return the change from x. Return the moved image: add x again.
        change since the last step: `torch.clamp(inside, 0, 1)`
        -> `torch.clamp(inside, 0, 1) - moved`
            You return the change from `moved`. Return the new image itself.
        change without the range: `torch.clamp(inside, 0, 1)` -> `inside - x`
            You return the change, in [-eps, eps]. Return the moved image: add x, then clamp to [0,
            1].
        set back to x: `torch.clamp(stepped, x - eps, x + eps)`
        -> `torch.where((stepped - x).abs() <= eps, stepped, x)`
            A pixel that leaves the ball goes back to x in your answer. Put it on the border of the
            ball: `torch.clamp(stepped, x - eps, x + eps)`.
        step refused: `torch.clamp(stepped, x - eps, x + eps)` -> `stepped`,
        `torch.clamp(inside, 0, 1)` -> `torch.where(fits, stepped, moved)`,
        `return ` -> `near = (stepped - x).abs() <= eps¶return `,
        `return ` -> `fits = near & (stepped >= 0) & (stepped <= 1)¶return `
            A pixel whose step would leave the ball, or [0, 1], does not move in your answer. Let it
            step, then put it on the border, with `clamp`.
        step refused by the ball: `torch.clamp(stepped, x - eps, x + eps)`
        -> `torch.where((stepped - x).abs() <= eps, stepped, moved)`
            A pixel whose step would leave the ball does not move in your answer. Let it step, then
            put it on the border of the ball, with `clamp`.
        ends of the clamp swapped: `x - eps, x + eps` -> `x + eps, x - eps`
            The ends of your clamp are swapped: the lower one, x - eps, comes first. With the larger
            one first every pixel becomes x - eps.
        """,
    ),
    hints=(
        "There are two images: x, where the attack began, and `moved`, where it is now. Which one "
        "makes the step, and which one is the centre of the ball?",
        "The step is moved + step_size * torch.sign(gradient). `torch.clamp` takes tensors as "
        "bounds: torch.clamp(v, x - eps, x + eps).",
        "After that, clamp once more, to 0 and 1.",
    ),
    takeaway="Step from where you are, project around where you began.",
)


# --- 2. PGD on any model ------------------------------------------------------------------------


def _my_pgd(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, step_size: float
) -> Tensor:
    moved = x.detach().clone()
    for _ in range(steps):
        moved.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(moved), y)
        (gradient,) = torch.autograd.grad(loss, moved)  # at the point where we are now
        moved = moved.detach() + step_size * gradient.sign()
        moved = torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)
    return moved


def _attack_inputs(generator: torch.Generator) -> list[Args]:
    inputs: list[Args] = []
    for count, pixels, eps, steps, step_size in (
        (2, 4, 0.3, 3, 0.15),
        (8, 9, 0.2, 5, 0.1),
        (8, 9, 0.25, 1, 0.25),
        (6, 16, 0.1, 4, 0.07),
        (6, 9, 0.5, 2, 0.1),
        (6, 9, 0.1, 3, 0.25),  # steps longer than the ball is wide
        (1, 9, 0.2, 4, 0.1),
    ):
        model = _network(generator, pixels)
        if count == 2:
            for parameter in model.parameters():  # as after a training step
                parameter.grad = torch.ones_like(parameter)
        y = labels(generator, count, 4)
        inputs.append((model, _images(generator, count, pixels), y, eps, steps, step_size))
    x = _images(generator, 3, 1, 3, 3)  # images keep their shape
    inputs.append((_network(generator, 9), x, labels(generator, 3, 4), 0.2, 4, 0.1))
    return inputs


def _no_further_than_its_steps(args: Args, output: Tensor) -> str | None:
    _, x, _, _, steps, step_size = args
    if ((output - x).abs() <= steps * step_size + 1e-5).all():
        return None
    return (
        f"Some pixels are further than steps·step_size = {steps * step_size:g} from x. The attack "
        "begins at x, without a random start, and each step is step_size long."
    )


@rule("The model's loss on your images is not larger than on x. The attack should raise it.")
def _raises_the_loss(args: Args, output: Tensor) -> object:
    model, x, y = args[:3]
    with torch.no_grad():
        before = functional.cross_entropy(model(x), y)
        after = functional.cross_entropy(model(output), y)
    return after > before


def _pgd_by_change(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, step_size: float
) -> Tensor:
    change = torch.zeros_like(x)
    while steps > 0:
        slope = _gradient(model, x + change, y)
        change = (change + step_size * slope.sign()).clamp(-eps, eps)
        change = (x + change).clamp(0, 1) - x
        steps -= 1
    return x + change


def _pgd_by_log_softmax(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, step_size: float
) -> Tensor:
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    point = x.clone()
    for _ in range(steps):
        leaf = point.clone().requires_grad_(True)
        chosen = torch.log_softmax(model(leaf), dim=1).gather(1, y[:, None]).sum()
        point = point - step_size * torch.autograd.grad(chosen, leaf)[0].sign()
        point = torch.minimum(torch.maximum(point, low), high)
    return point


my_pgd = Exercise(
    name="my_pgd",
    lesson="09",
    title="PGD on any model",
    task=(
        "Write the whole attack, from x and without a random start: `steps` times the gradient of "
        "the cross-entropy where you are now, a step of step_size, the projection into the "
        "eps-ball around x and into [0, 1]. model(x) gives logits (N, K); y is (N,) int64, the "
        "true labels. The model stays as it was. Images may be float32 or float64, and the result "
        "has their dtype."
    ),
    difficulty=3,
    minutes=12,
    asks=("model", "dtype"),
    reference=_my_pgd,
    inputs=_attack_inputs,
    properties=(
        _stays_in_the_ball,
        _stays_in_the_pixel_range,
        _no_further_than_its_steps,
        _raises_the_loss,
    ),
    right_answers=(_pgd_by_change, _pgd_by_log_softmax),
    wrong_answers=edits(
        _my_pgd,
        f"""
        gradient at x: `moved.requires_grad_(True)`
        -> `start = x.detach().clone().requires_grad_(True)`, `model(moved)` -> `model(start)`,
        `grad(loss, moved)` -> `grad(loss, start)`
            You take the gradient at x in every round, so every step goes the same way. That is FGSM
            in small steps. Take the gradient where you are now.
        ends of the clamp swapped: `x - eps, x + eps` -> `x + eps, x - eps`
            The ends of your clamp are swapped: the lower one, x - eps, comes first. With the larger
            one first every pixel becomes x - eps.
        from x in every round: `moved.detach() + step_size` -> `x + step_size`
            You step from x in every round, so all steps but the last are forgotten. Step from where
            you are.
        a round ball: `torch.clamp(moved, x - eps, x + eps)` -> `round_ball`,
        `round_ball` -> `x + (moved - x) * (eps / far).clamp(max=1)`,
        `moved = torch.clamp(` -> `far = far.reshape(-1, *[1] * (x.ndim - 1))¶moved = torch.clamp(`,
        `far = far` -> `far = (moved - x).flatten(1).norm(dim=1)¶far = far`
            You project into a round ball, of Euclidean length eps. Here the ball is a box: each
            pixel by itself may move by eps.
        moving ball: `moved = moved.detach() + step_size * gradient.sign()`
        -> `last = moved.detach()¶moved = last + step_size * gradient.sign()`,
        `x - eps, x + eps` -> `last - eps, last + eps`
            Your ball is around the current image and moves along with it. In the end, pixels are
            further than eps from x. Project around x in every round.
        ball at the end: `torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)`
        -> `torch.clamp(moved, 0, 1)`,
        `return moved` -> `return torch.clamp(moved, x - eps, x + eps)`
            You project once, at the end. Until then the attack moves outside the ball, and
            gradients from there are of little use inside. Project after every step.
        one big step: `range(steps)` -> `range(1)`, `step_size` -> `eps`
            Your result is that of FGSM: one step of eps. Take `steps` small steps of step_size.
        a step too few: `range(steps)` -> `range(steps - 1)`
            You take one step too few: steps - 1 in place of steps.
        no sign: `gradient.sign()` -> `gradient`
            Your step is step_size·gradient, without the sign. The gradient of a confident model is
            tiny, and so are your steps.
        minus: `moved.detach() +` -> `moved.detach() -`
            You step against the gradient. That lowers the loss. An attack raises it.
        predicted labels: `model(moved), y` -> `model(moved), model(x).argmax(dim=1)`
            Your loss uses the labels that the model predicts. Where the model is wrong already,
            that drives the image back to the right answer. Use the true labels y.
        no range: `torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)`
        -> `torch.clamp(moved, x - eps, x + eps)`
            Your result leaves the range [0, 1] of a pixel. Clamp to it after every step.
        gradients left in the model: `(gradient,) = torch.autograd.grad(loss, moved)`
        -> `loss.backward()¶gradient = moved.grad`
            {evidence.GRADIENTS_LEFT}
        attached to the graph: `moved.detach() +` -> `moved +`
            {evidence.ATTACHED}
        train mode: `return moved` -> `model.train()¶return moved`
            {evidence.MODE_CHANGED}
        eps over steps: `step_size` -> `eps / steps`
            Your steps have the length eps / steps. The argument step_size says how long a step is.
            (Steps of eps / steps would reach the border only if no sign ever changed.)
        softmax twice: `model(moved)` -> `model(moved).softmax(dim=1)`
            You apply softmax before `cross_entropy`. That function expects logits and applies
            softmax itself. Applied twice, it flattens the loss and flips some signs.
        no ball: `torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)`
        -> `torch.clamp(moved, 0, 1)`
            You never project into the eps-ball around x. After a few steps, pixels are further than
            eps from x.
        a step too many: `range(steps)` -> `range(steps + 1)`
            You take one step too many: steps + 1 in place of steps.
        one step only: `range(steps)` -> `range(1)`
            You take one step only. Is `return` inside the loop? It ends the function in the first
            round.
        eps as step: `step_size *` -> `eps *`
            Your steps have the length eps. That is FGSM's step. PGD takes small steps, of
            step_size.
        both clamps at the end: `torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)`
        -> `moved`,
        `return moved` -> `return torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)`
            You clamp once, after the last step. Until then the attack moves outside the ball, and
            gradients
            from there are of little use inside. Project after every step.
        gradients added up: `moved = x.detach().clone()` -> `moved = x.detach().clone()¶total = 0`,
        `gradient.sign()` -> `total.sign()`,
        `# at the point where we are now` -> `¶total = total + gradient`
            You step along the sum of all gradients so far. `backward()` adds to `.grad`: set it to
            zero before each step.
        fooled digits stay:
        `moved = moved.detach() + step_size` -> `last = moved.detach()¶moved = last + step_size`,
        `last = moved.detach()` -> `right = model(moved).argmax(dim=1) == y¶last = moved.detach()`,
        `last = moved.detach()`
        -> `right = right.reshape(-1, *[1] * (x.ndim - 1))¶last = moved.detach()`,
        `torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)`
        -> `torch.where(right, torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1), last)`
            You stop moving a digit as soon as it is misread. Here every digit takes all its steps:
            the loss can still grow.
        stops when all are fooled: `moved.requires_grad_(True)`
        -> `if bool((model(moved).argmax(dim=1) != y).all()):¶    break¶moved.requires_grad_(True)`
            You stop as soon as all digits are misread. Take all the steps: the loss can still grow.
        range of x: `x + eps), 0, 1)` -> `x + eps), x.min(), x.max())`
            You clamp to the smallest and the largest pixel of x. A pixel may take any value in [0,
            1].
        flat: `return moved` -> `return moved.flatten(1)`
            You return flat images, (N, d). Return them in the shape of x.
        change returned: `return moved` -> `return moved - x`
            You return the change. Return the moved image: add x.
        last step not projected: `range(steps)` -> `range(steps - 1)`,
        `return moved` -> `moved.requires_grad_(True)¶loss = moved`,
        `loss = moved` -> `loss = torch.nn.functional.cross_entropy(model(moved), y)¶again = loss`,
        `again = loss`
        -> `step = torch.autograd.grad(loss, moved)[0].sign()¶return moved.detach() + last`,
        `+ last` -> `+ step_size * step`
            Your last step is not projected. Clamp after each step, also after the last one.
        best of the walk: `for _ in` -> `walk = [moved]¶for _ in`,
        `x + eps), 0, 1)` -> `x + eps), 0, 1)¶walk.append(moved)`,
        `return moved` -> `seen = torch.stack(walk).detach()¶return best`,
        `return best`
        -> `rows = [torch.log_softmax(model(images), dim=1) for images in seen]¶return best`,
        `return best` -> `scores = torch.stack(rows)[:, torch.arange(len(y)), y]¶return best`,
        `return best` -> `return seen[scores.argmin(dim=0), torch.arange(len(y))]`
            You return for each digit the image with the largest loss on the way. The task asks for
            the image after the last step.
        """,
    ),
    hints=(
        "Begin with `moved = x.detach().clone()`. The body of the loop is a gradient and your "
        "pgd_step.",
        "In every round: `moved.requires_grad_(True)`, the loss of model(moved), and "
        "`torch.autograd.grad(loss, moved)[0]`.",
        "Continue from `moved.detach()`. Otherwise each round's graph holds all rounds before it.",
    ),
    takeaway="PGD is FGSM that looks again after every small step.",
)


# --- 3. The checklist ---------------------------------------------------------------------------


def _read_signs(
    ladder: Tensor,
    transfer: float,
    whole: float,
    zero: float,
    search: float,
    slack: float,
    rise: float,
) -> tuple[float, ...]:
    fgsm, few, steps, restarts = ladder
    weaker = steps < fgsm - slack  # PGD finds less than FGSM
    falls = steps < few - slack or restarts < steps - slack  # more work finds less
    rises = restarts > fgsm + rise  # or one step misses much
    stronger = transfer > fgsm + slack  # FGSM with FGSM: compare like with like
    beaten = search > max(ladder) + slack
    signs = (weaker, falls or rises, stronger, whole < 1 - slack, zero > slack, beaten)
    return tuple(float(sign) for sign in signs)


def _sign_inputs(generator: torch.Generator) -> list[Args]:
    cases = [
        ([0.95, 0.98, 0.99, 1.0], 0.6, 1.0, 0.0, 0.85),  # an undefended model
        ([0.36, 0.5, 0.52, 0.53], 0.16, 1.0, 0.0, 0.13),  # the same at a smaller eps
        ([0.02, 0.9, 0.98, 1.0], 0.3, 1.0, 0.0, 0.5),  # a masked one
        ([0.06, 0.08, 0.09, 0.1], 0.03, 1.0, 0.0, 0.11),  # a robust one
        ([0.6, 0.3, 0.22, 0.15], 0.5, 0.7, 0.0, 0.32),  # PGD is misled
        ([0.1, 0.11, 0.12, 0.14], 0.9, 0.15, 1.0, 0.88),  # nothing but zero gradients
        ([0.5, 0.52, 0.53, 0.3], 0.48, 0.8, 0.3, 0.56),  # the strongest attack finds less
        ([0.3, 0.4, 0.45, 0.62], 0.55, 0.99, 0.5, 0.2),  # every rung rises a little
        ([0.2, 0.17, 0.18, 0.19], 0.23, 0.97, 0.02, 0.22),  # all within the slack
        ([0.4, 0.42, 0.43, 0.43], 0.5, 0.9, 0.1, 0.52),
        ([0.3, 0.6, 0.32, 0.33], 0.31, 1.0, 0.0, 0.4),  # few steps find more than all
        ([0.5, 0.3, 0.55, 0.56], 0.4, 1.0, 0.0, 0.45),  # few steps alone find less than FGSM
        ([0.5, 0.34, 0.36, 0.58], 0.4, 1.0, 0.0, 0.45),  # restarts make up for it
        ([0.5, 0.52, 0.64, 0.66], 0.4, 1.0, 0.0, 0.6),  # a rise, but not by much
        ([0.45, 0.5, 0.6, 0.52], 0.4, 1.0, 0.0, 0.5),  # up and down again
    ]
    # Slack and rise fall between the differences, so that no sign hangs on rounding.
    return [(torch.tensor(ladder), *rest, 0.045, 0.195) for ladder, *rest in cases] + [
        (torch.tensor([0.4, 0.42, 0.43, 0.43]), 0.5, 0.9, 0.1, 0.6, 0.195, 0.395),
        (torch.tensor([0.4, 0.42, 0.5, 0.75]), 0.5, 0.9, 0.1, 0.3, 0.045, 0.395),
        # Differences of exactly the slack, and rises of exactly `rise`: binary fractions.
        (torch.tensor([0.5, 0.5, 0.4375, 0.4375]), 0.5625, 0.9375, 0.0625, 0.5625, 0.0625, 0.25),
        (torch.tensor([0.5, 0.5625, 0.625, 0.75]), 0.5, 1.0, 0.0, 0.8125, 0.0625, 0.25),
        (torch.tensor([0.5, 0.5625, 0.625, 0.5625]), 0.5, 1.0, 0.0, 0.5, 0.0625, 0.25),
        (torch.tensor([0.5, 0.5625, 0.625, 0.78125]), 0.5, 1.0, 0.0, 0.5, 0.0625, 0.25),
        (torch.tensor([0.4, 0.5, 0.57, 0.62]), 0.3, 1.0, 0.0, 0.3, 0.045, 0.195),
        (torch.tensor([0.3, 0.35, 0.5, 0.6]), 0.2, 1.0, 0.0, 0.4, 0.045, 0.195),
        # With all its steps PGD rises much, with restarts a little less than that.
        (torch.tensor([0.3, 0.4, 0.52, 0.48]), 0.2, 1.0, 0.0, 0.4, 0.045, 0.195),
    ]


@rule("Each of your values should be 1.0 (the sign is there) or 0.0 (it is not).")
def _are_zero_or_one(args: Args, output: Any) -> object:
    return all(float(value) in (0.0, 1.0) for value in output)


def _signs_as_integers(
    ladder: Tensor,
    transfer: float,
    whole: float,
    zero: float,
    search: float,
    slack: float,
    rise: float,
) -> list[int]:
    fgsm, *later = ladder.tolist()
    changes = any(a - b > slack for a, b in pairwise(later)) or later[-1] - fgsm > rise
    signs = [fgsm - later[1] > slack, changes, transfer - fgsm > slack, whole + slack < 1]
    return [1 if sign else 0 for sign in (*signs, zero > slack, search - slack > ladder.max())]


def _signs_by_amounts(
    ladder: Tensor,
    transfer: float,
    whole: float,
    zero: float,
    search: float,
    slack: float,
    rise: float,
) -> Any:
    first = float(ladder[0])
    fall = float((ladder[1:-1] - ladder[2:]).max())
    rose = slack + float(ladder[-1]) - first - rise  # above the slack when it is above the rise
    amounts = [first - float(ladder[2]), max(fall, rose), transfer - first, 1 - whole, zero]
    return tuple((torch.tensor([*amounts, search - float(ladder.max())]) > slack).double())


read_signs = Exercise(
    name="read_signs",
    lesson="09",
    title="Read the checklist",
    task=(
        "Return six numbers, 1.0 for a sign that is there and 0.0 otherwise: PGD with all its "
        "steps finds less than FGSM; more work finds less, or the last PGD finds more than FGSM by "
        "over `rise`; transfer finds more than FGSM; the error over the whole range is below 1; "
        "there are zero gradients; the search finds more than each attack of the ladder. `ladder` "
        "holds four errors: of FGSM, and of PGD with few steps, with all steps, with restarts. "
        "`transfer` is the error on FGSM examples of another model, `whole` that of PGD without a "
        "limit, `zero` the share of zero gradients, `search` the error under a search without "
        "gradients. All are numbers from 0 to 1. Differences up to `slack` do not count; a rise "
        "up to `rise` does not."
    ),
    difficulty=2,
    minutes=12,
    reference=_read_signs,
    inputs=_sign_inputs,
    properties=(_are_zero_or_one,),
    right_answers=(_signs_as_integers, _signs_by_amounts),
    wrong_answers=edits(
        _read_signs,
        """
        weaker reversed: `steps < fgsm - slack` -> `steps > fgsm + slack`
            You count it as a sign if PGD finds more than FGSM. Many small steps should find more.
            The first sign is that they find less: ladder[2] below ladder[0].
        only upwards: `falls or rises` -> `rises`
            More work that finds less is a sign too: then the attack is misled. Compare each PGD
            with the one before it.
        only downwards: `falls or rises` -> `falls`
            More work that finds much more is a sign too: then the error under FGSM is far too low.
            Compare the last PGD with FGSM, and the difference with `rise`.
        any rise: `fgsm + rise` -> `fgsm + slack`
            You count every rise from FGSM to the last PGD. Some rise is normal, also on a network
            without a defence. It is a sign from `rise` on, not from `slack` on.
        neighbours: `restarts > fgsm + rise`
        -> `few > fgsm + rise or steps > few + rise or restarts > steps + rise`
            You compare each attack with the one before. Many small rises then go unnoticed. For the
            rise compare the last PGD with the first attack, FGSM.
        rise and slack: `fgsm + rise` -> `fgsm + rise + slack`
            You add the slack to the rise. For the rise there is `rise` in its place: it is a sign
            as soon as it is above `rise`.
        from few steps: `fgsm + rise` -> `few + rise`
            You measure the rise from PGD with few steps. It is measured from FGSM, the attack of
            one step.
        from all steps: `fgsm + rise` -> `steps + rise`
            You measure the rise from PGD with all its steps. It is measured from FGSM, the attack
            of one step.
        from FGSM: `falls = steps` -> `falls = few < fgsm - slack or steps`
            You count it as a fall if PGD with few steps finds less than FGSM. A few steps may be
            too coarse. A fall is a PGD that finds less than a PGD with less work.
        first and last: `steps < few - slack or restarts < steps - slack`
        -> `restarts < few - slack`
            You compare only the last PGD with the first. One in between may fall as well.
        against PGD: `fgsm + slack  # FGSM` -> `restarts + slack  # FGSM`
            You compare FGSM examples of another model with PGD on the model itself. Compare like
            with like: FGSM examples of the other model with FGSM examples of this one.
        transfer against the best attack: `transfer > fgsm` -> `transfer > max(ladder)`
            You compare FGSM examples of another model with the best attack on the model itself.
            Compare like with like: with FGSM on this model.
        whole reversed: `whole < 1` -> `whole > 1`
            You count it as a sign if the error reaches 100 %. Without a limit on the change, it
            must. The sign is an error below 100 %.
        at eps: `whole < 1` -> `restarts < 1`
            You ask for an error of 100 % at eps. A robust model stays below that. Only over the
            whole range of a pixel, `whole`, must the attack always succeed.
        all zero: `zero > slack` -> `zero > 1 - slack`
            You wait until all gradients are zero. Some are enough: each such digit looks robust to
            an attack that cannot move.
        search against one step: `max(ladder)` -> `fgsm`
            You compare the search with FGSM alone. It beats the gradient only if it finds more than
            the best attack that follows the gradient: the largest entry of the ladder.
        search against the last attack: `max(ladder)` -> `restarts`
            You compare the search with the last attack only. If it was misled, another one of the
            ladder finds more: take the largest entry.
        search against all steps: `max(ladder)` -> `steps`
            You compare the search with one PGD only. It is a sign if the search beats the best
            attack of the ladder: take the largest entry.
        search reversed: `search > max(ladder) + slack` -> `search < max(ladder) - slack`
            You count it as a sign if the search finds less. It knows nothing of the model and
            should find less. The sign is that it finds more.
        accuracy: `fgsm,`
        -> `ladder, search = 1 - ladder, 1 - search¶transfer, whole = 1 - transfer, 1 - whole¶fgsm,`
            You read the numbers as accuracies. They are error rates: the share that the model gets
            wrong.
        no slack: `fgsm, few, steps` -> `slack = 0.0¶fgsm, few, steps`
            You count every difference, however small. Differences up to `slack` may be chance.
        few steps weaker: `steps < fgsm - slack` -> `few < fgsm - slack`
            Your first sign looks at PGD with few steps, which may be too coarse. It is about PGD
            with all its steps, ladder[2].
        last weaker: `steps < fgsm - slack` -> `restarts < fgsm - slack`
            Your first sign looks at PGD with restarts. It is about one walk with all its steps,
            ladder[2].
        slack for differences only: `whole < 1 - slack, zero > slack` -> `whole < 1, zero > 0`
            You apply the slack to the other signs only. It applies to `whole` and `zero` too:
            below 1 by more than slack, above 0 by more than slack.
        both at once: `falls or rises` -> `falls and rises`
            Your second sign asks for a fall and a rise at once. One of them is enough: `or`.
        no fall with restarts: `steps < few - slack or restarts < steps - slack`
        -> `steps < few - slack`
            You miss a fall from all steps to the restarts. Compare the restarts with all steps as
            well.
        no fall with all steps: `steps < few - slack or restarts < steps - slack`
        -> `restarts < steps - slack`
            You miss a fall from few steps to all steps. Compare all steps with few steps as well.
        whole against the last attack: `whole < 1` -> `whole < restarts`
            You compare the error over the whole range with that of the last attack. Without a limit
            every digit should be lost: compare with 1.
        zero turned: `zero > slack` -> `1 - zero > slack`
            You count it as a sign if some gradients are NOT zero. `zero` is the share of zero
            gradients: it is a sign above the slack.
        largest rise: `restarts > fgsm` -> `max(few, steps, restarts) > fgsm`
            You take the largest of the three PGD errors for the rise. The task speaks of the last
            one, with restarts.
        relative differences: `fgsm - slack` -> `fgsm * (1 - slack)`,
        `few - slack` -> `few * (1 - slack)`, `steps - slack` -> `steps * (1 - slack)`,
        `fgsm + rise` -> `fgsm * (1 + rise)`, `fgsm + slack` -> `fgsm * (1 + slack)`,
        `max(ladder) + slack` -> `max(ladder) * (1 + slack)`
            You use slack and rise as shares of an error rate. They are differences: compare a - b
            with the slack.
        no slack for zero gradients: `zero > slack` -> `zero > 0`
            Your fifth sign has no slack. One image without a gradient may be chance: compare the
            share with `slack`.
        """,
    ),
    hints=(
        "Write down for each sign which of two numbers must be larger. All numbers are error "
        "rates: a larger one means a stronger attack.",
        "`fgsm, few, steps, restarts = ladder`. The second sign is one of two things: a fall, "
        "steps below few or restarts below steps; or a rise by more than `rise`, restarts above "
        "fgsm.",
        "A comparison gives True or False; `float(...)` turns it into 1.0 or 0.0. The sixth sign "
        "compares search with max(ladder).",
    ),
    takeaway="A sign says where to look. Its absence proves nothing.",
)


# --- 4. One step from a random start ------------------------------------------------------------


def _fast_step(model: nn.Module, x: Tensor, y: Tensor, eps: float, noise: Tensor) -> Tensor:
    start = (x + noise).detach().requires_grad_(True)  # not clamped to [0, 1]
    loss = torch.nn.functional.cross_entropy(model(start), y)
    (gradient,) = torch.autograd.grad(loss, start)
    moved = start.detach() + 1.25 * eps * gradient.sign()
    return torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)


def _fast_inputs(generator: torch.Generator) -> list[Args]:
    inputs: list[Args] = []
    for count, pixels, eps in ((1, 4, 0.3), (8, 9, 0.2), (6, 16, 0.3)):
        x = _images(generator, count, pixels)
        y = labels(generator, count, 4)
        noise = eps * _signed(generator, count, pixels)
        inputs.append((_network(generator, pixels), x, y, eps, noise))
    x = _images(generator, 3, 1, 3, 3)  # images keep their shape
    noise = 0.2 * _signed(generator, *x.shape)
    inputs.append((_network(generator, 9), x, labels(generator, 3, 4), 0.2, noise))
    return inputs


def _fast_by_change(model: nn.Module, x: Tensor, y: Tensor, eps: float, noise: Tensor) -> Tensor:
    change = noise + 1.25 * eps * _gradient(model, x + noise, y).sign()
    return (x + change.clamp(-eps, eps)).clamp(0, 1)


def _fast_by_delta(model: nn.Module, x: Tensor, y: Tensor, eps: float, noise: Tensor) -> Tensor:
    delta = noise.clone().requires_grad_(True)
    loss = -torch.log_softmax(model(x + delta), 1).gather(1, y[:, None]).mean()
    slope = torch.autograd.grad(loss, delta)[0]
    delta = (delta.detach() + eps * 5 / 4 * slope.sign()).clip(-eps, eps)
    return (x + delta).clip(0, 1)


fast_step = Exercise(
    name="fast_step",
    lesson="09",
    title="One step from a random start",
    task=(
        "Make the training images of fast adversarial training: start at x + noise, unclamped; one "
        "step of 1.25·eps by the sign of the gradient there; then back into the eps-ball around x "
        "and into [0, 1]. noise has x's shape, each entry in [-eps, eps]. Images may be float32 or "
        "float64, and the result has their dtype."
    ),
    difficulty=2,
    minutes=8,
    asks=("dtype",),
    reference=_fast_step,
    inputs=_fast_inputs,
    properties=(_stays_in_the_ball, _stays_in_the_pixel_range),
    right_answers=(_fast_by_change, _fast_by_delta),
    wrong_answers=edits(
        _fast_step,
        f"""
        clamped start: `(x + noise)` -> `(x + noise).clamp(0, 1)`
            You clamp the start to [0, 1]. On a black pixel that removes every start below 0, half
            of them. Clamp only at the end.
        gradient at x: `(x + noise)` -> `x`, `start.detach()` -> `x + noise`
            You take the gradient at x. The point of a random start is to look from elsewhere: take
            it at x + noise.
        from x: `start.detach()` -> `x`
            You step from x, so the noise is lost. Step from the start, x + noise.
        eps: `1.25 * eps` -> `eps`
            Your step is eps long. From a random start that does not reach the border of the ball in
            most pixels. The recipe takes 1.25·eps.
        ball around the start: `x - eps, x + eps` -> `x + noise - eps, x + noise + eps`
            You project around the start, or clamp the step alone. The ball is around x: otherwise a
            pixel may end up to 2·eps away.
        no ball: `torch.clamp(moved, x - eps, x + eps)` -> `moved`
            Your pixels leave the eps-ball: the noise and the step add up to 2.25·eps. Clamp to [x -
            eps, x + eps].
        no range: `torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)`
        -> `torch.clamp(moved, x - eps, x + eps)`
            Your result leaves the range [0, 1] of a pixel. The start may, the result may not.
        minus: `start.detach() +` -> `start.detach() -`
            You step against the gradient. That lowers the loss. An attack raises it.
        attached to the graph: `start.detach()` -> `start`
            {evidence.ATTACHED}
        no sign: `gradient.sign()` -> `gradient`
            Your step is 1.25·eps·gradient, without the sign. Only the sign of an entry counts, so
            that every pixel moves by 1.25·eps.
        noise times eps: `(x + noise)` -> `(x + eps * noise)`
            You multiply the noise by eps. Its entries lie in [-eps, eps] already: the start is
            x + noise.
        noise twice: `start.detach() +` -> `start.detach() + noise +`
            You add the noise twice. The start is x + noise, and the step begins there.
        signs of the noise: `(x + noise)` -> `(x + eps * noise.sign())`
            You start at eps times the sign of the noise, always at a corner of the ball. The start
            is x + noise.
        noise after the step: `(x + noise)` -> `x`, `start.detach()` -> `x`,
        `return ` -> `moved = torch.clamp(moved, x - eps, x + eps) + noise¶return `
            You add the noise after the step. It comes first: start at x + noise, and take the
            gradient there.
        gradient at the clamped start: `(x + noise)` -> `(x + noise).clamp(0, 1)`,
        `start.detach()` -> `x + noise`
            You take the gradient at the clamped start. Do not clamp it: take the gradient at x +
            noise.
        clamped before the model: `model(start)` -> `model(start.clamp(0, 1))`
            You clamp the start to [0, 1] before the model sees it. There the clamp makes the
            gradient 0 for pixels outside. Give the model x + noise.
        change returned: `x + eps), 0, 1)` -> `x + eps), 0, 1) - x`
            You return the change. Return the moved image: add x.
        change of the last step: `torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)`
        -> `(moved - start.detach()).clamp(-eps, eps)`
            You return the step alone, clamped to [-eps, eps]. Add it to the start x + noise, then
            clamp the image.
        a larger ball: `x - eps, x + eps` -> `x - 1.25 * eps, x + 1.25 * eps`
            Your ball is 1.25·eps wide to each side. Only the step is that long. The ball has eps.
        flat: `return torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1)`
        -> `return torch.clamp(torch.clamp(moved, x - eps, x + eps), 0, 1).flatten(1)`
            You return flat images, (N, d). Return them in the shape of x.
        """,
    ),
    hints=(
        "Where do you take the gradient, and from where do you step? Both times it is the start.",
        "`start = (x + noise).detach().requires_grad_(True)`, with no clamp. Then the gradient as "
        "in my_pgd.",
        "End with two clamps: first to [x - eps, x + eps], then to [0, 1].",
    ),
    takeaway="One step per image, as cheap as FGSM training, and far harder to cheat.",
)


# --- 5. The worst of several attacks ------------------------------------------------------------


def _worst_case(predictions: Tensor, y: Tensor) -> float:
    fooled = predictions != y  # (A, N): attack by attack, digit by digit
    return fooled.any(dim=0).float().mean().item()  # one success is enough


def _case_inputs(generator: torch.Generator) -> list[Args]:
    y = torch.tensor([3, 1, 4, 1])
    few = torch.tensor([[3, 1, 9, 1], [3, 7, 4, 1], [3, 1, 9, 1]])
    inputs: list[Args] = [(few, y)]
    for attacks, count, chance in ((3, 40, 0.2), (5, 64, 0.1), (1, 10, 0.5), (4, 30, 0.6)):
        y = labels(generator, count, 10)
        flip = rand(generator, attacks, count) < chance
        inputs.append((torch.where(flip, (y + 1) % 10, y), y))
    inputs.append((torch.tensor([[3, 1, 4], [3, 7, 4]]), torch.tensor([3, 1, 4])))
    return inputs


@rule("Your error is smaller than that of one of the attacks alone.")
def _at_least_every_attack(args: Args, output: Any) -> object:
    predictions, y = args
    return float(output) >= float((predictions != y).double().mean(1).max()) - 1e-6


worst_case = Exercise(
    name="worst_case",
    lesson="09",
    title="The worst of several attacks",
    task=(
        "Return the worst-case error, a number in [0, 1]: the share of digits that at least one of "
        "the attacks gets wrong. predictions is (A, N) int64, the class that the model gives to "
        "digit n after attack a; y is (N,) int64, the true classes."
    ),
    difficulty=1,
    minutes=5,
    reference=_worst_case,
    inputs=_case_inputs,
    properties=(_at_least_every_attack,),
    right_answers=(
        lambda predictions, y: 1 - sum(map(all, (predictions == y).T.tolist())) / len(y),
        lambda predictions, y: 1 - (predictions == y).double().prod(0).mean(),
        lambda predictions, y: (predictions != y).sum(0).clamp(max=1).double().mean().item(),
    ),
    wrong_answers=edits(
        _worst_case,
        """
        mean of the attacks: `.any(dim=0)` -> ``
            You average over the attacks. An attacker tries them all and keeps what works: a digit
            is lost when one of them succeeds.
        best attack: `.any(dim=0).float().mean()` -> `.float().mean(dim=1).max()`
            You take the error of the single best attack. Different attacks break different digits.
            Decide digit by digit first, then take the mean.
        all attacks: `.any` -> `.all`
            You count a digit only if every attack breaks it. One success is enough: `any`, not
            `all`.
        wrong axis: `dim=0` -> `dim=1`
            Your `any` runs over the digits. It should run over the attacks, dim=0.
        accuracy: `fooled.any` -> `(~fooled).all`
            Your value is the accuracy that remains. The error is one minus that.
        last attack: `fooled.any(dim=0)` -> `fooled[-1]`
            You look at the last attack only.
        first attack: `fooled.any(dim=0)` -> `fooled[0]`
            You look at the first attack only.
        sum of the attacks: `.any(dim=0).float().mean()` -> `.float().mean(dim=1).sum()`
            You add up the errors. A digit that two attacks break is then counted twice.
        percent: `return ` -> `return 100 * `
            Your value is a percentage. Return a fraction between 0 and 1.
        without the first attack: `fooled.any` -> `fooled[1:].any`
            You leave out row 0. Every row of predictions counts, the first one as well.
        product of the accuracies: `fooled.any(dim=0).float().mean()`
        -> `(1 - (~fooled).float().mean(dim=1).prod())`
            You multiply the accuracies. That would be right if the attacks succeeded independently
            of each other. They do not: combine the rows digit by digit, with `any(dim=0)`.
        largest class: `predictions != y` -> `predictions.amax(dim=0, keepdim=True) != y`
            You take the largest class number over the attacks. Class numbers are names, and no
            amounts. Compare each row with y first, then combine by `any(dim=0)`.
        majority: `predictions != y` -> `predictions.mode(dim=0, keepdim=True).values != y`
            You take the answer that most attacks lead to. One success is enough for the attacker:
            compare each row with y, then `any(dim=0)`.
        disagreement: `predictions != y` -> `predictions != predictions[0]`
            You compare the attacks with each other. Compare each row with the true classes y.
        weakest attack: `.any(dim=0).float().mean()` -> `.float().mean(dim=1).min()`
            You take the smallest error of all attacks. A digit is lost when one attack succeeds:
            combine the rows digit by digit.
        one verdict for all: `.any(dim=0)` -> `.any()`
            You ask whether any attack breaks any digit, one answer for the whole table. Ask it of
            each digit: `any(dim=0)`.
        """,
    ),
    hints=(
        "When is one digit safe? When no attack at all changes the answer.",
        "`predictions != y` compares each row with y and gives (A, N) true or false.",
        "`.any(dim=0)` asks of each digit whether one attack succeeded. `.float().mean()` then "
        "gives the share.",
    ),
    takeaway="Each further attack can only raise this error. AutoAttack reports it in this way.",
)


# --- 6. How sure is a rate? ---------------------------------------------------------------------


def _wilson(count: int, total: int) -> tuple[float, float]:
    z, share = 1.96, count / total
    centre = share + z**2 / (2 * total)
    half = z * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5
    scale = 1 + z**2 / total
    return (centre - half) / scale, (centre + half) / scale


def _interval_inputs(generator: torch.Generator) -> list[Args]:
    return [(3, 10), (0, 100), (16, 1000), (200, 200), (90, 300), (1, 3)]


@rule("Your interval leaves [0, 1]. Wilson's never does: go through the formula term by term.")
def _interval_is_inside(args: Args, output: Any) -> object:
    return all(-1e-6 <= float(value) <= 1 + 1e-6 for value in output)


@rule("Your first value is larger than your second. The lower end comes first.")
def _interval_is_in_order(args: Args, output: Any) -> object:
    return float(output[0]) <= float(output[1])


def _wilson_by_roots(count: int, total: int) -> tuple[float, float]:
    # The shares p with (share - p)² = z² p (1 - p) / N: the roots of a quadratic.
    share, reach = count / total, 1.96**2 / total
    a, b, c = 1 + reach, -(2 * share + reach), share**2
    root = max(b * b - 4 * a * c, 0.0) ** 0.5
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def _wilson_by_counts(count: int, total: int) -> tuple[float, float]:
    z2 = 1.96**2
    middle = (count + z2 / 2) / (total + z2)
    inner = torch.tensor(count * (total - count) / total + z2 / 4, dtype=torch.float64)
    half = 1.96 * inner.sqrt().item() / (total + z2)
    return middle - half, middle + half


wilson = Exercise(
    name="wilson",
    lesson="09",
    title="How sure is a rate?",
    task=(
        "Return the two ends of the 95 % Wilson interval, lower end first: (p + z²/2N ± z·sqrt("
        "p(1-p)/N + z²/4N²)) / (1 + z²/N), with p = count/total, N = total and z = 1.96. count and "
        "total are whole numbers."
    ),
    difficulty=2,
    minutes=6,
    reference=_wilson,
    inputs=_interval_inputs,
    properties=(_interval_is_inside, _interval_is_in_order),
    right_answers=(_wilson_by_roots, _wilson_by_counts),
    wrong_answers=edits(
        _wilson,
        """
        usual: ` + z**2 / (2 * total)` -> ``, ` + z**2 / (4 * total**2)` -> ``,
        ` + z**2 / total` -> ``
            You have the textbook interval p ± z·sqrt(p(1-p)/N). At 0 of 100 its length is zero, as
            if the rate were certain. Wilson's formula moves the centre and keeps a positive length
            there.
        no scale: ` / scale` => ``
            The division by 1 + z²/N is missing. Without it the interval can leave [0, 1].
        share as centre: ` + z**2 / (2 * total)` -> ``
            Your interval is centred at p. Wilson's is centred at p + z²/2N, over the scale: pulled
            a little towards one half.
        no correction in the root: ` + z**2 / (4 * total**2)` -> ``
            The term z²/4N² inside the root is missing. It is all that is left when p is 0 or 1.
        4N for 4N²: `(4 * total**2)` -> `(4 * total)`
            Inside the root you divide by 4N. The square is missing: z²/4N².
        (2N)² for 4N, the centre: `z**2 / (2 * total)` -> `z**2 / 2 * total`
            Your z**2 / 2 * total is (z²/2)·N: Python goes from left to right. z²/2N has both 2 and
            N below the line: z**2 / (2 * total).
        times N² in the root: `z**2 / (4 * total**2)` -> `z**2 / 4 * total**2`
            Your z**2 / 4 * total**2 is (z²/4)·N²: Python goes from left to right. z²/4N² has both
            below the line: z**2 / (4 * total**2).
        times N twice: `z**2 / (2 * total)` -> `z**2 / 2 * total`,
        `z**2 / (4 * total**2)` -> `z**2 / 4 * total**2`
            Your z**2 / 2 * total is (z²/2)·N: Python goes from left to right. Put what stands below
            the line in brackets: z**2 / (2 * total), and z**2 / (4 * total**2).
        z not squared: `z**2` => `z`
            You have z where z² belongs. Outside the factor z in front of the root, it is squared
            everywhere.
        no root: ` ** 0.5` -> ``
            The root is missing: it covers p(1-p)/N + z²/4N².
        one sigma: `1.96` -> `1.0`
            You use z = 1, one standard error. That covers about two thirds; for 95 %, z is 1.96.
        90 percent: `1.96` -> `1.645`
            You use z = 1.645. That is the 90 % interval; for 95 %, z is 1.96.
        percent: `(centre` => `100 * (centre`
            Your ends are percentages. Return fractions between 0 and 1.
        swapped: `half = z` -> `half = -z`
            Your ends are swapped. The lower one comes first.
        no z: `half = z * ` -> `half = `
            The factor z in front of the root is missing. It says how many standard errors the
            interval reaches to each side.
        scale under the root only: `(centre - half)` -> `centre - half`,
        `(centre + half)` -> `centre + half`
            You divide only the part with the root by 1 + z²/N. The whole numerator is divided: put
            (centre ± half) in brackets first.
        two sigma: `z, share = 1.96,` -> `z, share = 2.0,`
            You use z = 2. Here z is 1.96.
        usual, clipped: ` + z**2 / (2 * total)` -> ``, ` + z**2 / (4 * total**2)` -> ``,
        `(centre - half) / scale, (centre + half) / scale`
        -> `max(centre - half, 0.0), min(centre + half, 1.0)`
            You have the textbook interval p ± z·sqrt(p(1-p)/N), cut off at 0 and 1. At 0 of 100 its
            length is zero. Wilson's formula has three more terms: go through it.
        outside the root: ` + z**2 / (4 * total**2)) ** 0.5` -> `) ** 0.5 + z**2 / (4 * total**2)`
            Your term z²/4N² stands outside the root. It belongs under the root, and z is a factor
            in front of all of it.
        whole-number division: `count / total` -> `count // total`
            You divide by `//`, which gives a whole number: p is always 0 or 1. Divide by `/`.
        N - 1: `share * (1 - share) / total` -> `share * (1 - share) / max(total - 1, 1)`
            You divide p(1-p) by N - 1. Wilson's formula divides by N.
        twice the shift: `z**2 / (2 * total)` -> `z**2 / total`
            Your centre has z²/N. The formula has z²/2N there.
        no N under the root: `share * (1 - share) / total` -> `share * (1 - share)`
            Under your root p(1-p) is not divided by N.
        z in the centre: `z**2 / (2 * total)` -> `z / (2 * total)`
            Your centre has z/2N. The formula has z²/2N there: square z.
        usual, at the centre of Wilson's: ` + z**2 / (4 * total**2)` -> ``,
        `half = ` -> `share = centre / (1 + z**2 / total)¶half = `,
        `(1 - share) / total` -> `(1 - share) / (total + z**2)`,
        `(centre - half) / scale, (centre + half) / scale` -> `share - half, share + half`
            You compute the usual interval at a shifted centre. Wilson's root holds p(1-p)/N +
            z²/4N², with p = count/total.
        middle and half width: `(centre - half) / scale, (centre + half) / scale`
        -> `centre / scale, half / scale`
            You return the middle and half of the length. Return the two ends: middle - half and
            middle + half.
        root over the first term only: `(share * (1 - share) / total + z**2`
        -> `((share * (1 - share) / total) ** 0.5 + z**2`, `(4 * total**2)) ** 0.5`
        -> `(4 * total**2))`
            Your root covers p(1-p)/N alone. z²/4N² stands under the root as well: put the sum in
            brackets.
        """,
    ),
    hints=(
        "Compute p, then the three parts: the centre p + z²/2N, the half width with the root, and "
        "the scale 1 + z²/N.",
        "`** 0.5` is the square root. Mind the brackets: the root covers a sum of two terms.",
        "Return (centre - half) / scale and (centre + half) / scale.",
    ),
    takeaway="Even with no errors among 100, the true rate may be nearly 4 %.",
    rtol=1e-3,
)


EXERCISES = (pgd_step, my_pgd, read_signs, fast_step, worst_case, wilson)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    FGSM breaks almost no digit of a model, and PGD with the same eps breaks all of them. What
    does that say?
    - PGD cheats: it changes the pixels more often.
        It may take many steps, but the result lies in the same ball. No pixel is further than eps
        from where it began.
    - The model is robust to FGSM, and that is worth something.
        No attacker is obliged to use FGSM. Robust means that no image in the ball fools the
        model.
    + The model is not robust. The gradient at x merely misleads a large step.
        This is gradient masking, and training on FGSM examples can cause it.

    A defence rounds every pixel to five grey values. At eps 0.25 PGD finds hardly anything. What
    do you check first?
    + Whether the gradients are zero.
        Rounding is flat almost everywhere, so its derivative is zero and PGD stays where it began.
        An attack without gradients, or transfer, will show what is there.
    - Whether eps is large enough.
        With a gradient of zero PGD does not move at any eps.
    - Nothing: rounding removes the small changes.
        It removes changes of less than half a grey step around black and white, so it does
        protect below eps 1/8. At 0.25 every pixel can cross a step, and nothing is left of that.

    You run PGD with five random starts. How do you report the error?
    - The mean over the error rates of the five runs.
        That is the error of one run, on average. The attacker keeps the best of five for each
        digit.
    + A digit counts as wrong if at least one start broke it.
        The worst case, digit by digit. It can only grow with more starts.
    - The largest of the five error rates.
        Closer, but different starts break different digits.

    Model A has 7 wrong of 100 under attack, model B has 11 of 100. Is A more robust?
    - Yes, 7 is less than 11.
        Both intervals are about ten points wide, and they overlap widely.
    + We cannot tell from these numbers.
        Take more digits. And if both were tested on the same digits, look at those on which they
        differ.
    - No, because A may have masked gradients.
        It may, and the checklist would say more. But the first answer is that the difference can
        be chance.

    None of the eight signs is seen. What follows?
    - The model is robust.
        An undefended model shows none either: attacks simply work on it.
    - The attack's error is the true worst case.
        It is a lower bound. A better attack may find more.
    + The result may stand, for now.
        The checklist can only raise doubt. It never removes all doubt.

    In the paper, FGSM examples of a plain network fool the adversarially trained one in 19.6 % of
    cases; its own FGSM examples do so in 17.9 %. Why is that odd?
    + An attacker who knows the model should do better.
        The white-box attacker could have used the other network's examples too. So one step on
        the model itself did not find what is there.
    - Transfer should never work at all.
        It works well between models of one task: lesson 7 measures it.
    - It is not odd: the plain network is the weaker one.
        That makes its own error larger. Its examples should still be a worse fit for another
        model than that model's own.
    """
)
