"""Exercises of lesson 03: FGSM on linear models."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advlearn.course import grading
from advlearn.course.banks.inputs import (
    exact_loss,
    images,
    labels,
    network,
    rand,
    randn,
    signs,
    takes_whole_steps,
)
from advlearn.course.grading import Args, Exercise, edits, evidence, parse, rule

functional = torch.nn.functional


# --- 1. The gradient of the logistic loss with respect to the input -----------------------------


def _loss_gradient(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    s = x @ w + b  # (N,) the logit of each example
    slope = -y * torch.sigmoid(-y * s)  # (N,) derivative of softplus(-y s) with respect to s
    return slope[:, None] * w  # (N, d) and dz/dx = w


def _linear_inputs(generator: torch.Generator) -> list[Args]:
    w = torch.tensor([1.0, -2.0, 0.5])
    x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.5]])
    far = torch.tensor([[150.0, 0.0], [0.0, -150.0], [60.0, -60.0]])
    return [
        (w, torch.tensor(0.25), x, torch.tensor([1.0, -1.0])),
        (w, torch.tensor(-0.5), x[:1], torch.tensor([-1.0])),
        # As many examples as features: a slip in broadcasting runs here, and gives other numbers.
        (randn(generator, 4), torch.tensor(0.1), rand(generator, 4, 4), signs(generator, 4)),
        # Far from the boundary: exp(150) is infinite in float32.
        (torch.tensor([1.0, -1.0]), torch.tensor(0.0), far, torch.tensor([-1.0, -1.0, 1.0])),
        (
            torch.cat([torch.zeros(2), randn(generator, 4)]),
            torch.tensor(-0.3),
            rand(generator, 8, 6),
            signs(generator, 8),
        ),
    ]


@rule("Each row of your gradient should be a multiple of w, because the logit is w·x + b.")
def _gradient_is_parallel_to_w(args: Args, output: Tensor) -> object:
    w = args[0]
    along = (output @ w / (w @ w))[:, None] * w  # the part of each row that is parallel to w
    return torch.allclose(along, output, atol=1e-5)


@rule(
    "For y = +1 a larger logit lowers the loss, for y = -1 it raises the loss. Your gradient "
    "has the wrong sign for some examples."
)
def _gradient_pushes_against_y(args: Args, output: Tensor) -> object:
    w, _, _, y = args
    return ((output @ w) * y <= 1e-6).all()


def _autograd_loss_gradient(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    loss = functional.softplus(-y * (x @ w + b)).sum()
    return torch.autograd.grad(loss, x)[0]


def _loop_loss_gradient(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    rows = []
    for example, label in zip(x, y, strict=True):
        margin = label * (torch.dot(w, example) + b)
        rows.append(-label * w / (1 + torch.exp(margin)))
    return torch.stack(rows)


loss_gradient = Exercise(
    name="loss_gradient",
    lesson="03",
    title="The gradient of the loss with respect to the input",
    task=(
        "Return the gradient of the loss softplus(-y (w·x + b)) with respect to the input x: one "
        "row for each example. w is (d,), b is a scalar tensor, x is (N, d), y is (N,) and holds "
        "-1. or +1. The result is (N, d)."
    ),
    difficulty=2,
    minutes=8,
    reference=_loss_gradient,
    inputs=_linear_inputs,
    properties=(_gradient_is_parallel_to_w, _gradient_pushes_against_y),
    right_answers=(
        _autograd_loss_gradient,
        _loop_loss_gradient,
        lambda w, b, x, y: torch.outer(-y * (1 - torch.sigmoid(y * (x @ w + b))), w),
    ),
    wrong_answers=edits(
        _loss_gradient,
        """
        gradient with respect to w: `slope[:, None] * w` -> `slope[:, None] * x`
            This is the gradient with respect to the weights w: its last factor is x. Training needs
            that one. An attack changes x, so the last factor is dz/dx = w.
        sign of y forgotten: `-y * torch` -> `-torch`
            The factor y in front is missing. The chain rule gives the factor -y, not -1, so your
            sign is wrong for every example with y = -1.
        chain rule stopped early: `-y * torch` -> `torch`
            The factor -y is missing. softplus(-y s) has -y s inside, so its derivative with respect
            to s is -y σ(-y s).
        plus instead of minus: `-y * torch` -> `y * torch`
            Your gradient points the opposite way: it lowers the loss. The derivative of
            softplus(-y s) with respect to s is -y σ(-y s), with a minus.
        sigma of y s: `(-y * s)` -> `(y * s)`
            You have σ(y s) in place of σ(-y s). The gradient should be large where the model is
            wrong. Yours is large where it is right.
        sigma without y: `(-y * s)` -> `(-s)`
            The y inside σ is missing. The argument of softplus is -y s, and it stays inside its
            derivative: σ(-y s), not σ(-s).
        labels 0 and 1: `-y * torch.sigmoid(-y * s)` -> `torch.sigmoid(s) - y`
            Your formula (σ(s) - y) w is for labels 0 and 1. Here y is -1 or +1.
        mean over the batch: `slope[:, None] * w` -> `slope[:, None] * w / len(x)`
            Your gradient is divided by the number of examples N. Here each example has a loss of
            its own, and no mean is taken. With autograd, use `.sum()` in place of `.mean()`.
        sum over the batch: `slope[:, None] * w` -> `(slope[:, None] * w).sum(dim=0)`
            You added the gradients of all examples. Keep one row for each example: (N, d).
        overflow: `torch.sigmoid(-y * s)` -> `torch.exp(-y * s) / (1 + torch.exp(-y * s))`
            Your formula is right, but exp overflows: inf / inf gives nan for examples far on the
            wrong side. `torch.sigmoid` does not overflow.
        no sigmoid: ` * torch.sigmoid(-y * s)` -> ``
            Your gradient is -y·w: the factor σ(-y s) is missing. It is small where the model is
            right and sure.
        mean of the batch in each row: `slope[:, None] * w` -> `slope.mean() * w.expand_as(x)`
            You average the gradients and give every image the same row. Return one gradient for
            each image: no mean over the batch.
        sum of the batch in each row: `slope[:, None] * w` -> `slope.sum() * w.expand_as(x)`
            You add up the gradients and give every image the same row. Return one gradient for each
            image: no sum over the batch.
        derivative of the sigmoid: `-y * torch.sigmoid(-y * s)`
        -> `-y * torch.sigmoid(-y * s) * torch.sigmoid(y * s)`
            Your factor is σ(1 - σ), the derivative of the sigmoid. The derivative of softplus is
            the sigmoid itself.
        softplus for its derivative: `torch.sigmoid` -> `functional.softplus`
            Your factor is softplus(-y s), the loss itself. Its derivative is the sigmoid: σ(-y s).
        hinge: `torch.sigmoid(-y * s)` -> `(y * s < 1)`
            Your factor is 1 where the margin is below 1, and else 0. That belongs to the hinge
            loss. For softplus the factor is σ(-y s).
        only mistakes: `-y * torch.sigmoid(-y * s)` -> `-y * torch.sigmoid(-y * s) * (y * s < 0)`
            You return 0 for images that are right. They have a gradient, too: σ(-y s) is never 0.
        only mistakes, in full: `torch.sigmoid(-y * s)` -> `(y * s < 0)`
            Your factor is 1 where the model is wrong, and else 0. The factor σ(-y s) is smooth: it
            lies between 0 and 1.
        y without the bias: `(-y * s)` -> `(-(y * (x @ w) + b))`
            You multiply only w·x by y. The y multiplies b too: y * (x @ w + b).
        confidence of the answer: `(-y * s)` -> `(-s.abs())`
            Inside σ you use the size of the score, as if every image were right. It is σ(-y s),
            which is large where the model is wrong.
        sign of w: `slope[:, None] * w` -> `slope[:, None] * w.sign()`
            You take the sign of w already. The gradient has the factor w itself. The sign comes
            later, in FGSM.
        sign of the gradient: `slope[:, None] * w` -> `(slope[:, None] * w).sign()`
            You return the sign of the gradient. Return the gradient itself. The sign comes later,
            in FGSM.
        first label for all: `s = x` -> `y = y[:1]¶s = x`
            You use the first label for all images. Each image has its own y.
        first score for all: `s = x @ w + b` -> `s = x[:1] @ w + b`
            You use the score of the first image for all. Each image has its own: x @ w + b.
        own answers as labels: `slope =` -> `y = s.sign()¶slope =`
            You take the model's own answers for the labels. The loss has the true labels y.
        y on w·x alone: `torch.sigmoid(-y * s)` -> `torch.sigmoid(-y * (s - b) + b)`
            In your factor y multiplies w·x and not b. It multiplies the whole score: σ(-y (w·x +
            b)), with brackets.
        mean score for all: `s = x @ w + b` -> `s = (x @ w + b).mean()`
            You take the mean of all scores. Each image has a score of its own: x @ w + b.
        """,
    ),
    hints=(
        "Use the chain rule in two steps. How does the loss change with s = w·x + b, and how does "
        "s change with x?",
        "The derivative of softplus(t) is σ(t), which is torch.sigmoid(t). Here t = -y s. "
        "And dz/dx = w.",
        "For each example the row is -y σ(-y s) w. The first part has shape (N,): write "
        "`slope[:, None] * w` to get (N, d).",
    ),
    takeaway="Every row is a multiple of w: a linear model has one direction of attack.",
)


# --- 2. One step of FGSM ------------------------------------------------------------------------


def _fgsm_step(x: Tensor, gradient: Tensor, eps: float) -> Tensor:
    step = eps * torch.sign(gradient)  # every pixel by eps, up or down; sign(0) is 0
    return torch.clamp(x + step, 0, 1)  # back into the range of a pixel, last of all


def _step_inputs(generator: torch.Generator) -> list[Args]:
    x = torch.tensor([[0.5, 0.9, 0.1, 0.5]])
    shape = (3, 1, 4, 4)
    sparse = randn(generator, *shape)
    sparse[sparse.abs() < 0.7] = 0.0
    return [
        (x, torch.tensor([[2.0, 0.5, -0.01, 0.0]]), 0.25),
        (x, torch.tensor([[1e-12, -1e-12, 30.0, -30.0]]), 0.125),
        (x, torch.tensor([[1.0, -1.0, 0.0, 2.0]]), 0.0),
        # Black and white pixels, with a gradient and without.
        (
            torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0, 1.0]]),
            torch.tensor([[0.5, -0.5, 2.0, -2.0, 0.0, 0.0]]),
            0.25,
        ),
        (images(generator, *shape), 1e-3 * randn(generator, *shape), 0.1),
        (images(generator, *shape), sparse, 0.3),
    ]


@rule("Your result leaves the range [0, 1] of a pixel.")
def _stays_in_the_pixel_range(args: Args, output: Tensor) -> object:
    return ((output >= 0) & (output <= 1)).all()


def _moves_by_at_most_eps(args: Args, output: Tensor) -> str | None:
    x, _, eps = args
    if ((output - x).abs() <= eps + 1e-5).all():
        return None
    return f"Some of your pixels move by more than eps = {eps:g}."


@rule("Some of your pixels move against their gradient. That lowers the loss.")
def _follows_the_gradient(args: Args, output: Tensor) -> object:
    x, gradient, _ = args
    return ((output - x) * gradient.sign() >= -1e-5).all()


@rule("Where the gradient is 0, the pixel should stay: sign(0) is 0.")
def _rests_where_the_gradient_is_zero(args: Args, output: Tensor) -> object:
    x, gradient, _ = args
    return torch.allclose(output[gradient == 0], x[gradient == 0])


@rule("Some of your pixels move by less than eps, though there is room up to 0 or 1.")
def _uses_the_whole_eps(args: Args, output: Tensor) -> object:
    x, gradient, eps = args
    room = ((output > 1e-4) & (output < 1 - 1e-4)) & (gradient != 0)
    return ((output - x).abs()[room] >= eps - 1e-5).all()


def _where_step(x: Tensor, gradient: Tensor, eps: float) -> Tensor:
    moved = torch.where(gradient > 0, x + eps, torch.where(gradient < 0, x - eps, x))
    return torch.minimum(torch.maximum(moved, torch.zeros_like(x)), torch.ones_like(x))


def _box_step(x: Tensor, gradient: Tensor, eps: float) -> Tensor:
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)  # the corners that can be reached
    up, down = (gradient > 0).to(x.dtype), (gradient < 0).to(x.dtype)
    return up * high + down * low + (1 - up - down) * x


fgsm_step = Exercise(
    name="fgsm_step",
    lesson="03",
    title="One step of FGSM",
    task=(
        "Move every pixel of x by eps in the direction that raises the loss, then bring it back "
        "into [0, 1]. x and gradient have one shape, such as (N, 1, 28, 28); the pixels are in "
        "[0, 1]; eps is a number. The result has the shape of x."
    ),
    difficulty=1,
    minutes=4,
    reference=_fgsm_step,
    inputs=_step_inputs,
    properties=(
        _stays_in_the_pixel_range,
        _moves_by_at_most_eps,
        _follows_the_gradient,
        _rests_where_the_gradient_is_zero,
        _uses_the_whole_eps,
    ),
    right_answers=(
        _where_step,
        _box_step,
        lambda x, gradient, eps: (x + eps * gradient.sgn()).clip(0, 1),
    ),
    wrong_answers=edits(
        _fgsm_step,
        f"""
        no sign: `torch.sign(gradient)` -> `gradient`
            Your perturbation is eps·gradient, without the sign. FGSM uses only the direction of
            each gradient entry, so that every pixel moves by the full eps.
        minus: `x + step` -> `x - step`
            You subtract the step. That lowers the loss, as in training. An attack raises the loss,
            so it adds the step.
        no clamp at the end: `torch.clamp(x + step, 0, 1)` -> `x.clamp(0, 1) + step`
            Your result leaves the range [0, 1], so it is not an image any more. Clamp last of all,
            after the step has been added, and return what `clamp` gives: it is a new tensor.
        clamps the step: `torch.clamp(x + step, 0, 1)` -> `x + step.clamp(0, 1)`
            You clamp the step before you add it. That removes every step downwards, and the sum can
            still leave [0, 1]. Clamp the sum: (x + step).clamp(0, 1).
        perturbation only: `x + step` -> `step`
            Your result is only the perturbation. Add it to the image x.
        returns x: `x + step` -> `x`
            Your function returns x unchanged. Add eps times the sign of the gradient.
        L2 normalisation: `torch.sign(gradient)`
        -> `functional.normalize(gradient.flatten(1)).view_as(gradient)`
            You divide the gradient by its length. That is the best step for a ball in the L2 norm.
            FGSM limits each pixel on its own (max norm), and there the sign is best.
        divides by the absolute value: `torch.sign(gradient)` -> `gradient / gradient.abs()`
            You divide the gradient by its absolute value. Where the gradient is 0, that is
            0/0 = nan. `torch.sign` gives 0 there.
        eps over 255: `eps *` -> `eps / 255 *`
            You divide eps by 255. The pixels here run from 0 to 1, and eps is in the same units.
        in place on x: `torch.clamp(x + step, 0, 1)` -> `x.add_(step).clamp_(0, 1)`
            {evidence.INPUT_CHANGED}
        sign of the product: `torch.sign(gradient)` -> `torch.sign(x * gradient)`
            You multiply the gradient by the pixel. So black pixels, with value 0, never move. The
            gradient alone says which way a pixel goes.
        bare perturbation: `torch.clamp(x + step, 0, 1)` -> `step`
            You return only the perturbation, unclamped. Add it to the image x, and clamp the sum.
        no eps: `eps * ` -> ``
            Your pixels move by 1. They should move by eps: multiply the sign by eps.
        gradient cut off at eps: `eps * torch.sign(gradient)` -> `gradient.clamp(-eps, eps)`
            You cut the gradient off at eps. A small gradient then moves its pixel by less than eps.
            Take eps times the sign.
        range of the batch: `0, 1)` -> `x.min(), x.max())`
            You clamp to the smallest and the largest pixel of the batch. The range of a pixel is
            from 0 to 1: clamp to that.
        stays in place of leaving: `torch.clamp(x + step, 0, 1)`
        -> `torch.where((x + step < 0) | (x + step > 1), x, x + step)`
            A pixel that would leave [0, 1] does not move at all in your code. It should go as far
            as the edge: clamp the sum.
        wraps around: `torch.clamp(x + step, 0, 1)` -> `(x + step) % 1`
            A pixel that leaves the range comes in again at the other side in your code. It should
            stop at the edge: use `torch.clamp`.
        one step for all: `torch.sign(gradient)` -> `torch.sign(gradient.mean(dim=0, keepdim=True))`
            You give one and the same step to all images: that of the mean gradient. Each image has
            its own gradient: take the sign of each.
        the image limited to eps: `torch.clamp(x + step, 0, 1)`
        -> `torch.clamp(x + step, -eps, eps)`
            You limit the image to [-eps, eps]. eps limits the change, and sign and eps do that
            already. The image is limited to [0, 1].
        """,
    ),
    hints=(
        "Of each gradient entry, only one thing matters to FGSM: is it positive, negative or zero?",
        "`torch.sign(gradient)` holds -1, 0 or 1. How far should each pixel move?",
        "Compute x + eps * torch.sign(gradient). Then apply `torch.clamp(…, 0, 1)` to the sum.",
    ),
    takeaway="The step does not depend on how large the gradient is, only on its signs.",
)


# --- 3. The worst case in closed form -----------------------------------------------------------


def _worst_case_loss(w: Tensor, b: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
    margin = y * (x @ w + b)  # (N,) positive where the model is right
    damage = eps * w.abs().sum()  # the most that a step of eps can take from any margin
    return torch.nn.functional.softplus(damage - margin)  # (N,)


def _worst_case_inputs(generator: torch.Generator) -> list[Args]:
    first, *rest = _linear_inputs(generator)
    return [(*first, 0.25), (*first, 0.0)] + [(*args, 0.1) for args in rest]


@rule("Your worst case is smaller than the loss without any attack. It cannot be.")
def _is_at_least_the_clean_loss(args: Args, output: Tensor) -> object:
    w, b, x, y, _ = args
    return (output >= functional.softplus(-y * (x @ w + b)) - 1e-5).all()


@rule("At eps = 0 there is no attack, so the loss should be softplus(-y (w·x + b)).")
def _is_clean_at_eps_zero(args: Args, output: Tensor) -> object:
    w, b, x, y, eps = args
    clean = functional.softplus(-y * (x @ w + b))
    return eps > 0 or torch.allclose(output, clean, rtol=1e-4, atol=1e-5)


def _attacked_loss(w: Tensor, b: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
    worst = x - eps * y[:, None] * torch.sign(w)  # FGSM, unclamped
    return functional.softplus(-y * (worst @ w + b))


def _folded_loss(w: Tensor, b: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
    t: Tensor = eps * torch.linalg.vector_norm(w, ord=1) - y * (x @ w + b)
    return t.clamp(min=0) + torch.log1p(torch.exp(-t.abs()))


worst_case_loss = Exercise(
    name="worst_case_loss",
    lesson="03",
    title="The worst case in closed form",
    task=(
        "Return the largest loss softplus(-y (w·x + b)) that any step of at most eps per pixel can "
        "reach, without an attack and without clamping. Shapes: w (d,), b scalar, x (N, d), y (N,) "
        "in {-1., +1.}, eps a number. The result is (N,)."
    ),
    difficulty=2,
    minutes=8,
    reference=_worst_case_loss,
    inputs=_worst_case_inputs,
    properties=(_is_at_least_the_clean_loss, _is_clean_at_eps_zero),
    right_answers=(
        _attacked_loss,
        _folded_loss,
        lambda w, b, x, y, eps: torch.logaddexp(
            torch.zeros(len(x)), eps * w.norm(p=1) - y * (x @ w + b)
        ),
    ),
    wrong_answers=edits(
        _worst_case_loss,
        """
        the formula as printed: `damage - margin` -> `y * damage - margin`
            This is the formula as the paper prints it, or a step that forgets y: it is right for y
            = +1 only. For y = -1 it reverses the sign of eps·‖w‖₁, and the attack would help the
            model. Keep eps·‖w‖₁ outside the product with y; the step is -eps·y·sign(w).
        penalty outside: `(damage - margin)` -> `(-margin) + damage`
            You add eps·‖w‖₁ outside of softplus. That is the L1 penalty: it stays however confident
            the model is. The attack acts on the margin, so eps·‖w‖₁ belongs inside.
        L2 norm: `w.abs().sum()` -> `w.norm()`
            You use the L2 norm of w. Each pixel may move by eps on its own, and then the damage is
            the sum of eps·|w_i|: the L1 norm.
        max norm: `.sum()` -> `.max()`
            You use the largest entry of w. The *step* is limited in the max norm. The damage adds
            up over all pixels: the sum of eps·|w_i|, the L1 norm.
        minus: `damage - margin` -> `-damage - margin`
            You subtract eps·‖w‖₁ inside softplus. That is the best case: a step that helps the
            model. The worst case takes eps·‖w‖₁ away from the margin, so it adds to -y s.
        sum without absolute values: `.abs()` -> ``
            You add up w with its signs, so that positive and negative weights cancel. The attacker
            picks the sign of each step: use |w_i|.
        no eps: `damage - margin` -> `-margin`
            This is the loss without an attack: eps does not appear. How far can a step of eps per
            pixel push the score?
        mean over the batch: `(damage - margin)` -> `(damage - margin).mean()`
            You average over the batch. Return one loss for each example: (N,).
        overflow: `torch.nn.functional.softplus(damage - margin)`
        -> `torch.log1p(torch.exp(damage - margin))`
            Your formula is right, but exp overflows for examples far on the wrong side, and the
            loss becomes inf. `torch.nn.functional.softplus` computes the same without overflow.
        y without the bias: `y * (x @ w + b)` -> `y * (x @ w) + b`
            You multiply only w·x by y. The y multiplies b too: y * (x @ w + b).
        clipped: `damage - margin`
        -> `-y * ((x - eps * y[:, None] * w.sign()).clamp(0, 1) @ w + b)`
            You put the attacked image back into [0, 1]. The formula is for a step that is not
            clipped: leave the clamp out.
        straight line: `softplus(damage - margin)`
        -> `softplus(-margin) + torch.sigmoid(-margin) * damage`
            You add eps times the L1 norm of the gradient to the loss. That is only a straight line.
            The loss bends upwards: put eps·‖w‖₁ inside softplus.
        positive weights only: `w.abs()` -> `w.clamp(min=0)`
            You count the positive weights only. A pixel with a negative weight does damage, too:
            use |w_i|.
        eps for each pixel: `w.abs().sum()` -> `len(w)`
            You add eps for each pixel. A pixel takes eps·|w_i| away, so multiply eps by the size of
            its weight.
        step upwards for both classes: `damage - margin` -> `-y * damage - margin`
            Your step raises the score for both classes. For y = +1 that lowers the loss. The worst
            step goes against y: x - eps·y·sign(w).
        sigmoid: `torch.nn.functional.softplus` -> `torch.sigmoid`
            You use the sigmoid in place of softplus. The sigmoid is the slope of the loss, not the
            loss.
        relu: `torch.nn.functional.softplus` -> `torch.relu`
            You use the ReLU in place of softplus. The ReLU gives no loss to an image that is only
            just right.
        bias in the norm: `w.abs().sum()` -> `(w.abs().sum() + b.abs())`
            You add |b| to the norm. The attack changes the pixels, and no pixel is multiplied by b:
            use ‖w‖₁ alone.
        first label for all: `margin = y` -> `margin = y[:1]`
            You use the first label for all images. Each image has its own y.
        own answers as labels: `damage - margin` -> `damage - margin.abs()`
            You take the size of the margin, as if every image were right. Keep the sign of y (w·x +
            b).
        mean in each row: `(damage - margin)` -> `(damage - margin).mean().repeat(len(x))`
            You average the losses and give every image the same one. Return one loss for each
            example.
        norm of the image: `w.abs().sum()` -> `x.abs().sum(dim=1)`
            You use the norm of the image. What a pixel can do depends on its weight: use ‖w‖₁.
        brackets around w·x alone: `y * (x @ w + b)` -> `y * (x @ w) - b`
            Your bias has the wrong brackets. In damage - y * (x @ w) + b the b is added, whatever y
            is. The margin is y * (x @ w + b), all of it subtracted.
        loss scaled: `softplus(damage - margin)` -> `softplus(-margin) * (1 + damage)`
            You multiply the loss by 1 + eps·‖w‖₁. The attack takes eps·‖w‖₁ from the margin, inside
            softplus.
        """,
    ),
    hints=(
        "The loss depends on x through the margin y (w·x + b) only. How much can one pixel that "
        "moves by at most eps take away from it?",
        "Pixel i takes away at most eps·|w_i|. All pixels together: eps·‖w‖₁, for y = +1 and for "
        "y = -1 alike.",
        "Apply `torch.nn.functional.softplus` to eps * w.abs().sum() - y * (x @ w + b).",
    ),
    takeaway="No attack was needed: on a linear model FGSM finds exactly this loss.",
)


# --- 4. FGSM on any model -----------------------------------------------------------------------


def _my_fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    x = x.detach().clone().requires_grad_(True)  # a copy: the caller's x stays as it is
    loss = torch.nn.functional.cross_entropy(model(x), y)
    (gradient,) = torch.autograd.grad(loss, x)  # nothing is written into the parameters
    return torch.clamp(x + eps * gradient.sign(), 0, 1).detach()


def _linear_model(weight: Tensor) -> nn.Module:
    model = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        model.weight.copy_(weight)
        model.bias.zero_()
    return model.eval()


def _fgsm_inputs(generator: torch.Generator) -> list[Args]:
    # No weight looks at the last pixel: its gradient is 0.
    weight = torch.tensor([[2.0, -1.0, 0.5, 0.0], [-1.0, 1.0, 1.5, 0.0], [0.5, 2.0, -2.0, 0.0]])
    x = torch.tensor([[0.5, 0.9, 0.1, 0.5], [0.2, 0.4, 0.6, 0.0]])
    trained = _linear_model(3 * weight)
    for parameter in trained.parameters():  # as after a training step
        parameter.grad = torch.ones_like(parameter)
    return [
        (_linear_model(weight), x, torch.tensor([0, 2]), 0.25),
        (trained, x, torch.tensor([1, 1]), 0.1),
        (_linear_model(weight), x, torch.tensor([0, 2]), 0.0),
        (network(generator, 9, 12, 4), images(generator, 8, 1, 3, 3), labels(generator, 8, 4), 0.2),
        (_linear_model(1e-7 * weight), x, torch.tensor([0, 1]), 0.125),  # tiny gradients
        (network(generator, 9, 12, 4), images(generator, 1, 1, 3, 3), torch.tensor([3]), 0.1),
    ]


@rule("The model's loss on your images is not larger than on x. The attack should raise it.")
def _raises_the_loss(args: Args, output: Tensor) -> object:
    model, x, y, eps = args
    return eps == 0 or exact_loss(model, output, y) > exact_loss(model, x, y)


@rule(
    "Some of your pixels move by less than eps, though there is room and their gradient is not 0. "
    "Even a tiny gradient has a full sign."
)
def _image_moves_by_the_whole_eps(args: Args, output: Tensor) -> object:
    return takes_whole_steps(args, output)


def _image_moves_by_at_most_eps(args: Args, output: Tensor) -> str | None:
    _, x, _, eps = args
    return _moves_by_at_most_eps((x, x, eps), output)


def _fgsm_by_log_softmax(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    inputs = x.clone().requires_grad_(True)
    chosen = torch.log_softmax(model(inputs), dim=1).gather(1, y[:, None])
    gradient = torch.autograd.grad(chosen.sum(), inputs)[0]
    return (x - eps * gradient.sign()).clamp(0, 1)


def _fgsm_by_one_example(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    images = []
    for i in range(len(x)):
        delta = torch.zeros_like(x[i : i + 1], requires_grad=True)
        logits = model(x[i : i + 1] + delta)
        loss = (logits.logsumexp(dim=1) - logits[:, y[i]]).sum()
        images.append(x[i : i + 1] + eps * torch.autograd.grad(loss, delta)[0].sign())
    return torch.cat(images).clip(0, 1)


my_fgsm = Exercise(
    name="my_fgsm",
    lesson="03",
    title="FGSM on any model",
    task=(
        "Write the whole attack with autograd: the gradient of the cross-entropy, one step of eps, "
        "the clamp to [0, 1]. model(x) gives logits (N, K) and is in evaluation mode; x is (N, …) "
        "in [0, 1]; y is (N,) int64, the true labels. The result has the shape of x, is detached, "
        "the model stays as it was, and so does the caller's x."
    ),
    difficulty=3,
    minutes=12,
    asks=("detached", "model", "inputs' switches"),
    reference=_my_fgsm,
    inputs=_fgsm_inputs,
    properties=(
        _stays_in_the_pixel_range,
        _image_moves_by_at_most_eps,
        _raises_the_loss,
        _image_moves_by_the_whole_eps,
    ),
    right_answers=(_fgsm_by_log_softmax, _fgsm_by_one_example),
    wrong_answers=edits(
        _my_fgsm,
        f"""
        predicted labels: `(model(x), y)` -> `(model(x), model(x).argmax(dim=1))`
            Your loss uses the labels that the model predicts. The attack uses the true labels y:
            they differ where the model is wrong already.
        minus: `x + eps` -> `x - eps`
            You step against the gradient. That lowers the loss, as in training. An attack adds
            eps·sign(gradient).
        no sign: `gradient.sign()` -> `gradient`
            Your step is eps·gradient, without the sign. FGSM uses only the sign of each entry, so
            that every pixel moves by the full eps.
        softmax before cross-entropy: `model(x)` -> `model(x).softmax(dim=1)`
            You apply softmax before `cross_entropy`. That function expects logits and applies
            softmax itself. Applying it twice gives another gradient, which vanishes for confident
            examples.
        true logit only: `torch.nn.functional.cross_entropy(model(x), y)`
        -> `-model(x).gather(1, y[:, None]).sum()`
            Your loss is only the logit of the true class. The cross-entropy also looks at the other
            classes: they should rise.
        no clamp: `torch.clamp(x + eps * gradient.sign(), 0, 1)` -> `(x + eps * gradient.sign())`
            Your result leaves the range [0, 1]. Clamp it after the step.
        eps over 255: `eps *` -> `eps / 255 *`
            You divide eps by 255. The pixels here run from 0 to 1, and eps is in the same units.
        returns x: `x + eps * gradient.sign()` -> `x`
            Your function returns x unchanged. Add eps times the sign of the gradient.
        gradients left in the model: `(gradient,) = torch.autograd.grad(loss, x)`
        -> `loss.backward()¶gradient = x.grad`
            {evidence.GRADIENTS_LEFT}
        attached to the graph: `0, 1).detach()` -> `0, 1)`
            {evidence.ATTACHED}
        train mode: `return` -> `model.train()¶return`
            {evidence.MODE_CHANGED}
        the caller's x requires a gradient: `x.detach().clone()` -> `x`
            {evidence.GRADIENT_SWITCHED_ON.format("x")}
        sign of the product: `gradient.sign()` -> `(x * gradient).sign()`
            You multiply the gradient by the pixel. So black pixels, with value 0, never move. The
            gradient alone says which way a pixel goes.
        own answer raised: `torch.nn.functional.cross_entropy(model(x), y)`
        -> `model(x).max(dim=1).values.sum()`
            You raise the logit of the class that the model names. The labels y do not appear: the
            loss of the true class should rise.
        range of the batch: `0, 1)` -> `x.min(), x.max())`
            You clamp to the smallest and the largest pixel of the batch. The range of a pixel is
            from 0 to 1: clamp to that.
        perturbation only: `x + eps` -> `eps`
            Your result is only the perturbation, clamped. Add it to x before you clamp.
        bare perturbation: `torch.clamp(x + eps * gradient.sign(), 0, 1)`
        -> `(eps * gradient.sign())`
            You return only the perturbation. Add it to the image x, and clamp the sum.
        no eps: `eps * ` -> ``
            Your pixels move by 1. They should move by eps: multiply the sign by eps.
        gradient cut off at eps: `eps * gradient.sign()` -> `gradient.clamp(-eps, eps)`
            You cut the gradient off at eps. A small gradient then moves its pixel by less than eps.
            Take eps times the sign.
        one step for all: `gradient.sign()` -> `gradient.mean(dim=0, keepdim=True).sign()`
            You give one and the same step to all images: that of the mean gradient. Each image has
            its own gradient: take the sign of each.
        two half steps: `return`
        -> `x = torch.clamp(x + eps / 2 * gradient.sign(), 0, 1).detach().requires_grad_()¶return`,
        `return`
        -> `(gradient,) = torch.autograd.grad(functional.cross_entropy(model(x), y), x)¶return`,
        `return torch.clamp(x + eps` -> `return torch.clamp(x + eps / 2`
            You take several small steps, and compute the gradient again in between. FGSM takes one
            step of eps.
        lead of the strongest other class: `torch.nn.functional.cross_entropy(model(x), y)`
        -> `(model(x).scatter(1, y[:, None], -torch.inf).amax(dim=1)
        - model(x).gather(1, y[:, None]).squeeze(1)).sum()`
            You compare the true class with the strongest other class only. The task asks for the
            cross-entropy, in which all classes count.
        only the first image: `(model(x), y)` -> `(model(x)[:1], y[:1])`
            Your loss looks at the first image only, so the others get no gradient and stay. Take
            the loss of the whole batch.
        first label for all: `(model(x), y)` -> `(model(x), y[:1].expand(len(x)))`
            You use the first label for all images. Each image has its own entry in y.
        every image with every label: `torch.nn.functional.cross_entropy(model(x), y)`
        -> `-model(x).log_softmax(dim=1)[:, y].sum()`
            `[:, y]` takes the columns of ALL labels in every row. `z[torch.arange(len(z)), y]`
            picks one entry of each row.
        only images that are right: `loss =`
        -> `right = (model(x).argmax(1) == y).reshape(-1, *[1] * (x.dim() - 1))¶loss =`,
        `eps * gradient` -> `eps * right * gradient`
            You leave an image as it is if the model is wrong already. The attack moves every image.
        largest logit lowered: `torch.nn.functional.cross_entropy(model(x), y)`
        -> `-model(x).amax(dim=1).sum()`
            You lower the largest logit, whatever the true class is. The labels y do not appear: the
            loss of the true class should rise.
        saved as 8 bits: `0, 1).detach()` -> `0, 1).mul(255).round().div(255).detach()`
            You round the result to the levels of 8 bits. Then pixels do not move by eps exactly.
            Return the image as it is.
        squared error: `torch.nn.functional.cross_entropy(model(x), y)`
        -> `(model(x).softmax(dim=1) - torch.eye(model(x).shape[1])[y]).square().sum()`
            Your loss is the squared error of the probabilities. It has another gradient than the
            cross-entropy, and the task asks for that one.
        a sigmoid for each class: `torch.nn.functional.cross_entropy(model(x), y)`
        -> `functional.multilabel_soft_margin_loss(model(x), torch.eye(model(x).shape[1])[y])`
            You use the binary cross-entropy, with a sigmoid for each class. Use `cross_entropy`,
            with one softmax over all classes.
        the gradient itself: `return torch.clamp(x + eps * gradient.sign(), 0, 1)`
        -> `return gradient`
            You return the gradient. Take its sign, multiply by eps, add it to x, and clamp to [0,
            1].
        the image limited to eps: `gradient.sign(), 0, 1)` -> `gradient.sign(), -eps, eps)`
            You limit the image to [-eps, eps]. eps limits the change, and sign and eps do that
            already. The image is limited to [0, 1].
        first gradient for all: `gradient.sign()` -> `gradient[:1].sign()`
            You take the gradient of the first image for all. Each image has a gradient of its own.
        """,
    ),
    hints=(
        "Autograd computes a gradient with respect to x only if x requires one. Make a copy of x "
        "that does.",
        "`loss = torch.nn.functional.cross_entropy(model(x), y)`, then "
        "`torch.autograd.grad(loss, x)[0]` is the gradient. It leaves the parameters alone.",
        "Start with `x = x.detach().clone().requires_grad_(True)`. After the gradient, it is your "
        "fgsm_step. End with `.detach()`.",
    ),
    takeaway="Gradient, step, clamp: these lines attack every differentiable model.",
)


# --- 5. Error and confidence --------------------------------------------------------------------


def _error_and_confidence(logits: Tensor, y: Tensor) -> tuple[float, float]:
    confidence, predicted = torch.softmax(logits, dim=1).max(dim=1)  # both (N,)
    wrong = predicted != y
    error = wrong.float().mean().item()
    # The mean over no examples at all is nan: without mistakes there is nothing to measure.
    return error, confidence[wrong].mean().item()


def _metric_inputs(generator: torch.Generator) -> list[Args]:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 0.0, 0.5]])
    many = 3 * randn(generator, 40, 10)
    return [
        (logits, torch.tensor([0, 2, 2, 1])),
        (logits, torch.tensor([0, 1, 2, 0])),  # no mistake
        (logits, torch.tensor([1, 2, 0, 2])),  # nothing but mistakes
        (100 * logits[:2], torch.tensor([1, 1])),  # exp(200) is infinite in float32
        (many, labels(generator, 40, 10)),
        (randn(generator, 15, 4), labels(generator, 15, 4)),
        (2 * randn(generator, 24, 3), labels(generator, 24, 3)),
    ]


@rule("Your first value is not the fraction of the examples on which the model is wrong.")
def _error_is_a_fraction(args: Args, output: Any) -> object:
    logits, y = args
    return abs(float(output[0]) - float((logits.argmax(dim=1) != y).double().mean())) < 1e-5


@rule(
    "Your confidence is outside the possible range. The probability of the predicted class is "
    "the largest of K, so it is between 1/K and 1."
)
def _confidence_is_a_probability(args: Args, output: Any) -> object:
    confidence = float(output[1])
    return math.isnan(confidence) or 1 / args[0].shape[1] - 1e-6 <= confidence <= 1 + 1e-6


def _metric_by_loop(logits: Tensor, y: Tensor) -> tuple[Tensor, float]:
    mistakes = []
    for row, label in zip(logits.double(), y, strict=True):
        if row.argmax() != label:
            mistakes.append(float((row - row.logsumexp(dim=0)).max().exp()))
    mean = sum(mistakes) / len(mistakes) if mistakes else float("nan")
    return torch.tensor(len(mistakes) / len(y)), mean


def _metric_by_log_softmax(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    predicted = logits.argmax(1)
    log_p = functional.log_softmax(logits, 1).gather(1, predicted[:, None]).squeeze(1)
    wrong = (predicted != y).to(logits.dtype)
    return 1 - (predicted == y).double().mean(), (log_p.exp() * wrong).sum() / wrong.sum()


error_and_confidence = Exercise(
    name="error_and_confidence",
    lesson="03",
    title="Error and confidence on the mistakes",
    task=(
        "Return two numbers: the error rate (the part of the examples that the model gets wrong), "
        "and the mean confidence over these MISTAKES. Confidence is the softmax probability of the "
        "predicted class. logits is (N, K), y is (N,) int64. Without a mistake, the confidence is "
        "float('nan')."
    ),
    difficulty=2,
    minutes=8,
    reference=_error_and_confidence,
    inputs=_metric_inputs,
    properties=(_error_is_a_fraction, _confidence_is_a_probability),
    right_answers=(_metric_by_loop, _metric_by_log_softmax),
    wrong_answers=edits(
        _error_and_confidence,
        """
        over all examples: `confidence[wrong]` -> `confidence`
            You average the confidence over all examples. Here it is averaged over the mistakes
            only: how confident is the model when it is wrong?
        over the right ones: `[wrong]` -> `[~wrong]`
            You average the confidence over the examples that are right. Take the mistakes:
            predicted != y.
        labels as positions: `confidence[wrong]` -> `confidence[y]`
            `confidence[y]` takes the labels y as row numbers: the confidence of image 3 for every
            label 3. Choose rows by where the model is wrong: predicted != y.
        true class: `confidence[wrong]`
        -> `torch.softmax(logits, dim=1).gather(1, y[:, None])[wrong]`
            Your confidence is the probability of the true class y. Confidence is the probability of
            the class that the model predicts.
        accuracy: `return error` -> `return 1 - error`
            Your first value is the accuracy. The error rate is the fraction that is wrong:
            1 - accuracy.
        percent: `return error, ` -> `return 100 * error, 100 * `
            Your values are percentages. Return fractions between 0 and 1.
        logit: `torch.softmax(logits, dim=1)` -> `logits`
            Your confidence is the largest logit. Logits are not probabilities: apply softmax over
            the classes first.
        sigmoid: `torch.softmax(logits, dim=1)` -> `torch.sigmoid(logits)`
            You take the sigmoid of each logit. The classes exclude each other: softmax makes
            probabilities that add up to 1.
        wrong axis: `confidence[wrong]`
        -> `torch.softmax(logits, dim=0).gather(1, predicted[:, None])[wrong]`
            Your softmax runs over the examples (dim=0). It should run over the classes (dim=1), so
            that each row adds up to 1.
        wrong axis, largest of the row: `confidence[wrong]`
        -> `torch.softmax(logits, dim=0).amax(dim=1)[wrong]`
            You take the largest entry of each row after a softmax over the examples (dim=0). It
            should run over the classes (dim=1), so that each row adds up to 1.
        wrong axis throughout: `dim=1).max` -> `dim=0).max`
            Your softmax runs over the examples (dim=0), so that even the predicted classes change.
            It should run over the classes (dim=1): each row adds up to 1.
        zero without mistakes: `confidence[wrong].mean()` -> `confidence[wrong].mean().nan_to_num()`
            Without a mistake you return the confidence 0. That reads as "not confident at all". The
            mean over nothing does not exist: return float('nan').
        swapped: `error, confidence[wrong].mean().item()`
        -> `confidence[wrong].mean().item(), error`
            Your two values are swapped. First the error rate, then the confidence.
        overflow: `torch.softmax(logits, dim=1)`
        -> `(logits.exp() / logits.exp().sum(dim=1, keepdim=True))`
            Your softmax overflows: exp(200) is inf, and inf / inf is nan. `torch.softmax` subtracts
            the largest logit first.
        mean over all of the masked ones: `confidence[wrong].mean()`
        -> `(confidence * wrong).mean()`
            You add up the confidence over the mistakes, but you divide by the number of all images.
            Divide by the number of mistakes: `confidence[wrong].mean()`.
        softmax twice: `torch.softmax(logits, dim=1)`
        -> `torch.softmax(logits, dim=1).softmax(dim=1)`
            You apply the softmax twice. Once makes probabilities of the logits. The second time
            flattens them.
        one minus the true class: `confidence[wrong].mean()`
        -> `(1 - torch.softmax(logits, dim=1).gather(1, y[:, None])[wrong]).mean()`
            You take 1 minus the probability of the true class. That is shared by all other classes.
            Take the probability of the predicted class.
        softmax of the mean: `confidence[wrong].mean()`
        -> `logits[wrong].mean(dim=0).softmax(dim=0).max()`
            You average the logits first. Take the confidence of each mistake, and average last.
        median: `confidence[wrong].mean()` -> `confidence.where(wrong, torch.nan).nanmedian()`
            You take the median. The task asks for the mean.
        largest: `confidence[wrong].mean()` -> `confidence.where(wrong, torch.nan).nanquantile(1.0)`
            You take the confidence of the surest mistake. The task asks for the mean over all
            mistakes.
        mean over all classes: `confidence[wrong].mean()`
        -> `torch.softmax(logits, dim=1)[wrong].mean()`
            You average over all classes. Take the probability of the predicted class in each row,
            the largest one.
        lead over the second: `confidence[wrong].mean()`
        -> `torch.softmax(logits, dim=1).topk(2).values[wrong].diff().neg().mean()`
            You take the lead over the second class. Confidence is the probability of the predicted
            class itself.
        squares: `confidence[wrong].mean()`
        -> `torch.softmax(logits, dim=1)[wrong].square().sum(dim=1).mean()`
            You add up the squares of all probabilities. Confidence is the probability of the
            predicted class alone.
        largest sigmoid of the mistake: `error, confidence[wrong].mean().item()`
        -> `error, (1 - confidence[wrong]).mean().item()`
            You return 1 minus the confidence. The task asks for the confidence itself.
        error of the confidence: `wrong.float().mean()` -> `(1 - confidence).mean()`
            Your error rate is 1 minus the mean confidence. An error is an answer that is not y:
            count predicted != y.
        mean over the batch of the product: `confidence[wrong].mean()`
        -> `(confidence.mean() * error)`
            You multiply the mean confidence by the error rate. Keep the mistakes,
            `confidence[wrong]`, and average over them.
        mean before maximum: `confidence[wrong].mean().item()`
        -> `torch.softmax(logits, dim=1)[wrong].mean(dim=0).max().item()`
            You average the probabilities of each class first, and take the largest average. Take
            the largest probability of each mistake first, then the mean.
        """,
    ),
    hints=(
        "Work in three steps: the predicted class of each row, which rows are wrong, and how "
        "confident the model is in its prediction.",
        "`torch.softmax(logits, dim=1).max(dim=1)` gives the confidence and the predicted class at "
        "once.",
        "With `wrong = predicted != y`, return `wrong.float().mean().item()` and "
        "`confidence[wrong].mean().item()`. The mean of an empty tensor is nan already.",
    ),
    takeaway="A low confidence on the mistakes is what one hopes for.",
)


EXERCISES = (loss_gradient, fgsm_step, worst_case_loss, my_fgsm, error_and_confidence)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    The gradient of the loss at one pixel is 0.0001, at another 5. FGSM moves the first pixel by …
    - … 50,000 times less than the second.
        That would be eps·gradient. FGSM keeps only the sign of each entry.
    + … exactly as far as the second.
        Both signs are +1, so both pixels move by eps. In the box of the max norm, holding back
        gains nothing.
    - … not at all.
        Only a gradient of exactly 0 leaves a pixel alone: sign(0) = 0.

    Why is FGSM exact for a linear model with two classes, and not for a deep one?
    + Its gradient never changes direction.
        The direction is the same in the whole box, so one step is enough: the score is w·x + b
        everywhere. A deep network bends, and a step away the gradient may point elsewhere.
    - A linear model has fewer weights.
        The number of weights does not matter. FGSM is exact for a linear model of a million
        pixels too.
    - Deep networks clip their inputs.
        Clipping belongs to the attack, and has nothing to do with depth.

    A model has ‖w‖₁ = 40, and an image has the margin y·s = 6. What is its margin after an
    unclipped FGSM step of eps = 0.25?
    - 5.75
        That takes away eps once. Every pixel takes away eps·|w_i|, and these add up.
    - 16
        The sign is wrong: the attack lowers the margin by eps·‖w‖₁ = 10.
    + -4
        6 - 0.25·40 = -4: the model is now wrong, and confident.
    - It depends on the image.
        It would if the step were clipped. Unclipped, every image loses eps·‖w‖₁.

    Your model normalises its input by a standard deviation of 0.31, and you attack the normalised
    numbers with eps = 0.25. In pixels, your eps is about …
    + 0.08
        0.25·0.31. Your attack is three times weaker than the one you report.
    - 0.25
        A step of 0.25 in normalised numbers is 0.25 standard deviations, and one of these is 0.31
        in pixels: 0.08.
    - 0.81
        That divides by 0.31. Going back to pixels multiplies.

    Random noise with |η_i| = 0.25 in each pixel leaves most digits right, and FGSM with the same
    eps leaves few. Why?
    - The noise is smaller.
        Both change each pixel by 0.25. Their max norms are equal.
    + The terms of the noise mostly cancel.
        Its terms w_i·η_i have mixed signs, and their sum grows like the root of n. Those of FGSM
        all add up: their sum grows like n, and n is 784.
    - The model was trained on noise.
        It never saw any noise. It is the sum that cancels.
    """
)
