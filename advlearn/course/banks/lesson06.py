"""Exercises of lesson 06: adversarial training."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from advlearn.course import grading
from advlearn.course.banks import inputs
from advlearn.course.grading import Args, Exercise, edits, evidence, parse, rule

functional = torch.nn.functional
cross_entropy = torch.nn.functional.cross_entropy


# --- 1. The mixed loss --------------------------------------------------------------------------


def _mixed_loss(model: nn.Module, x: Tensor, attacked: Tensor, y: Tensor, alpha: float) -> float:
    clean = torch.nn.functional.cross_entropy(model(x), y)
    worst = torch.nn.functional.cross_entropy(model(attacked), y)
    return (alpha * clean + (1 - alpha) * worst).item()


def _batch(generator: torch.Generator, alpha: float, *shape: int, classes: int = 4) -> Args:
    x = inputs.images(generator, *shape)
    attacked = x + 0.25 * inputs.randn(generator, *shape).sign()
    model = inputs.network(generator, x[0].numel(), 8, classes, activation=nn.ReLU, dropout=None)
    return model, x, attacked, inputs.labels(generator, len(x), classes), alpha


def _mixed_inputs(generator: torch.Generator) -> list[Args]:
    """Make (model, x, attacked, y, alpha)."""
    return [
        _batch(generator, 0.8, 2, 3, classes=3),
        _batch(generator, 0.5, 6, 1, 2, 2),
        _batch(generator, 0.0, 5, 4),
        _batch(generator, 1.0, 5, 4),
        _batch(generator, 0.3, 12, 1, 3, 3),
    ]


def _number(output: Any) -> float:
    return float(torch.as_tensor(output).detach())


@rule("With alpha = 1 the mixed loss should be the loss of the clean images.")
def _alpha_one_is_the_clean_loss(args: Args, output: Any) -> object:
    model, x, _, y, alpha = args
    return alpha != 1 or abs(_number(output) - cross_entropy(model(x), y).item()) < 1e-4


@rule("With alpha = 0 the mixed loss should be the loss of the attacked images.")
def _alpha_zero_is_the_attacked_loss(args: Args, output: Any) -> object:
    model, _, attacked, y, alpha = args
    return alpha != 0 or abs(_number(output) - cross_entropy(model(attacked), y).item()) < 1e-4


def _mixed_by_log_softmax(
    model: nn.Module, x: Tensor, attacked: Tensor, y: Tensor, alpha: float
) -> Tensor:
    with torch.no_grad():
        logs = [model(images).log_softmax(1).gather(1, y[:, None]) for images in (x, attacked)]
    mixed: Tensor = alpha * logs[0] + (1 - alpha) * logs[1]
    return -mixed.mean()


def _mixed_in_one_batch(
    model: nn.Module, x: Tensor, attacked: Tensor, y: Tensor, alpha: float
) -> float:
    logits = model(torch.cat([x, attacked]))
    losses = cross_entropy(logits, torch.cat([y, y]), reduction="none").view(2, -1).mean(1)
    return float(torch.tensor([alpha, 1 - alpha]).dot(losses.detach()))


mixed_loss = Exercise(
    name="mixed_loss",
    lesson="06",
    title="The mixed loss",
    task=(
        "Return alpha·J(x) + (1 - alpha)·J(x~) as a number, with the mean cross-entropy as J. "
        "model(x) gives logits (N, K). x are the clean images, attacked are the images x~ of the "
        "same shape (N, …), y (N,) holds the true labels of both, and alpha is in [0, 1]."
    ),
    difficulty=1,
    minutes=5,
    reference=_mixed_loss,
    inputs=_mixed_inputs,
    properties=(_alpha_one_is_the_clean_loss, _alpha_zero_is_the_attacked_loss),
    right_answers=(_mixed_by_log_softmax, _mixed_in_one_batch),
    wrong_answers=edits(
        _mixed_loss,
        f"""
        swapped: `alpha * clean + (1 - alpha) * worst` -> `(1 - alpha) * clean + alpha * worst`
            Your two weights are swapped. alpha is the weight of the clean loss, 1 - alpha that of
            the attacked one.
        no weight on the attacked loss: `(1 - alpha) * worst` -> `worst`
            The factor 1 - alpha of the attacked loss is missing. The two weights add up to 1.
        no weight on the clean loss: `alpha * clean` -> `clean`
            The factor alpha of the clean loss is missing. The two weights add up to 1.
        the same weight twice: `(1 - alpha)` -> `alpha`
            You give both losses the weight alpha. The attacked one has 1 - alpha.
        always half and half: `alpha * clean + (1 - alpha) * worst` -> `0.5 * clean + 0.5 * worst`
            You take the plain mean of the two losses. That is right only for alpha = 0.5, the
            paper's choice. Here alpha is an argument.
        no weights: `alpha * clean + (1 - alpha) * worst` -> `clean + worst`
            You add the two losses without weights. Multiply the clean one by alpha and the attacked
            one by 1 - alpha.
        images mixed: `model(x)` -> `model(alpha * x + (1 - alpha) * attacked)`,
        `alpha * clean + (1 - alpha) * worst` -> `clean`
            You mix the images and take one loss. That is a weaker attack, of size (1 - alpha)·eps.
            Mix the two losses.
        logits mixed: `model(x)` -> `alpha * model(x) + (1 - alpha) * model(attacked)`,
        `alpha * clean + (1 - alpha) * worst` -> `clean`
            You mix the logits and take one loss. Take the loss of each batch first, then mix the
            two numbers.
        attacked only: `alpha * clean + (1 - alpha) * worst` -> `worst`
            Your result ignores the clean images. Their loss counts with weight alpha.
        clean only: `alpha * clean + (1 - alpha) * worst` -> `clean`
            Your result ignores the attacked images. Their loss counts with weight 1 - alpha.
        minus: `clean + ` -> `clean - `
            You subtract the attacked loss. The attack has raised it already; training lowers both,
            so both are added.
        predicted labels: `model(attacked), y` -> `model(attacked), model(attacked).argmax(1)`
            Your attacked loss uses the labels that the model predicts. An attacked 3 is still a 3:
            its label is y.
        the larger loss: `alpha * clean + (1 - alpha) * worst` -> `torch.maximum(clean, worst)`
            You take the larger of the two losses. The mixed loss is their weighted mean.
        softmax before cross-entropy: `), y)` => `).softmax(dim=1), y)`
            You apply softmax before `cross_entropy`. That function expects logits and applies
            softmax itself.
        sum over the images: `, y)` => `, y, reduction="sum")`
            You add up the losses of the images. J is their mean, as `cross_entropy` gives it.
        attached to the graph: `.item()` -> ``
            {evidence.ATTACHED}
        brackets missing: `(1 - alpha) * worst` -> `1 - alpha * worst`
            Your weight of the attacked loss has no brackets: 1 - alpha * worst is 1 -
            (alpha·worst), since Python multiplies first. Write (1 - alpha) * worst.
        """,
    ),
    hints=(
        "You need two losses: one of the clean images, one of the attacked images. Both use the "
        "same labels.",
        "`clean = torch.nn.functional.cross_entropy(model(x), y)`, and the same for attacked.",
        "Return `(alpha * clean + (1 - alpha) * worst).item()`.",
    ),
    takeaway="Half of the loss on clean images, half on attacked ones: that is the paper's alpha.",
)


# --- 2. One step of adversarial training --------------------------------------------------------

LR = 0.5  # the reference writes the number itself: it is shown to the learner


def _training_step(weight: Tensor, x: Tensor, y: Tensor, eps: float, alpha: float) -> Tensor:
    cross_entropy = torch.nn.functional.cross_entropy
    weight, pixels = weight.clone().requires_grad_(), x.clone().requires_grad_()
    clean = cross_entropy(pixels @ weight, y)
    # One backward pass, two gradients: (d, K) for the weights, (N, d) for the pixels.
    clean_gradient, pixel_gradient = torch.autograd.grad(clean, (weight, pixels))
    attacked = x + eps * pixel_gradient.sign()
    worst = cross_entropy(attacked @ weight, y)
    (worst_gradient,) = torch.autograd.grad(worst, weight)
    return (weight - 0.5 * (alpha * clean_gradient + (1 - alpha) * worst_gradient)).detach()


def _step_inputs(generator: torch.Generator) -> list[Args]:
    """Make (weight, x, y, eps, alpha)."""
    weight = torch.tensor([[1.0, -0.5], [-1.0, 0.25]])
    x = torch.tensor([[0.5, 0.25], [0.0, 1.0]])
    cases: list[Args] = [(weight, x, torch.tensor([0, 1]), 0.25, 0.5)]
    for eps, alpha in ((0.25, 0.75), (0.1, 0.0), (0.3, 1.0), (0.0, 0.3)):
        weight, x = inputs.randn(generator, 6, 4), inputs.images(generator, 8, 6)
        weight[2] = 0.0  # a dead pixel: training brings it to life
        cases.append((weight, x, inputs.labels(generator, 8, 4), eps, alpha))
    return cases


def _step_at_alpha_one_is_plain(args: Args, output: Tensor) -> str | None:
    weight, x, y, _, alpha = args
    if alpha != 1:
        return None
    w = weight.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(x @ w, y), w)
    if torch.allclose(output, weight - LR * gradient, atol=1e-5):
        return None
    return (
        "With alpha = 1 the step should be a plain one, on the clean images alone: "
        "weight - 0.5·gradient."
    )


def _step_by_formula(weight: Tensor, x: Tensor, y: Tensor, eps: float, alpha: float) -> Tensor:
    target = functional.one_hot(y, weight.shape[1]).to(x.dtype)
    wrong = (x @ weight).softmax(1) - target  # the derivative of cross-entropy by the logits
    attacked = x + eps * (wrong @ weight.T).sign()
    worse = (attacked @ weight).softmax(1) - target
    return weight - LR * (alpha * x.T @ wrong + (1 - alpha) * attacked.T @ worse) / len(x)


def _step_by_backward(weight: Tensor, x: Tensor, y: Tensor, eps: float, alpha: float) -> Tensor:
    w = weight.detach().clone().requires_grad_()
    pixels = x.detach().clone().requires_grad_()
    # Not cut off from the graph: the sign's own derivative is zero, so nothing flows through it.
    clean = cross_entropy(pixels @ w, y)
    (g,) = torch.autograd.grad(clean, pixels, create_graph=True)
    mixed = alpha * clean + (1 - alpha) * cross_entropy((x + eps * g.sign()) @ w, y)
    mixed.backward()
    assert w.grad is not None, "w is a leaf of the graph"
    return weight - LR * w.grad


training_step = Exercise(
    name="training_step",
    lesson="06",
    title="One step of adversarial training",
    task=(
        "Take one step of gradient descent on alpha·J(x) + (1 - alpha)·J(x~), and return the new "
        "weight. The model is softmax regression: the logits are x @ weight. J is the "
        "mean cross-entropy, and x~ = x + eps·sign(gradient of J with respect to x), not clamped. "
        "Shapes: weight (d, K), x (N, d), y (N,) int64; eps and alpha are numbers. The learning "
        "rate is 0.5."
    ),
    difficulty=3,
    minutes=15,
    reference=_training_step,
    inputs=_step_inputs,
    properties=(_step_at_alpha_one_is_plain,),
    right_answers=(_step_by_formula, _step_by_backward),
    wrong_answers=edits(
        _training_step,
        f"""
        two steps in a row:
        `attacked = ` -> `weight = weight - 0.5 * alpha * clean_gradient¶attacked = `,
        `attacked = ` -> `moved = cross_entropy(pixels @ weight, y)¶attacked = `,
        `attacked = ` -> `(pixel_gradient,) = torch.autograd.grad(moved, pixels)¶attacked = `,
        `alpha * clean_gradient + ` -> ``
            You take two steps: one on the clean images, then one on images that are crafted for the
            new weights. There is only one step: both gradients are taken at the old weights.
        two updates:
        `attacked = ` -> `weight = weight - 0.5 * alpha * clean_gradient¶attacked = `,
        `alpha * clean_gradient + ` -> ``
            You change the weights twice: by the clean gradient, and then by a gradient that is
            taken at the new weights. Take both gradients at the old weights, and make one step.
        weights swapped: `alpha * clean_gradient + (1 - alpha)`
        -> `(1 - alpha) * clean_gradient + alpha`
            alpha and 1 - alpha are swapped. alpha belongs to the clean loss.
        no weights: `alpha * clean_gradient + (1 - alpha) * ` -> `clean_gradient + `
            You add both gradients without the weights alpha and 1 - alpha.
        half and half: `alpha * clean_gradient + (1 - alpha)` -> `0.5 * clean_gradient + 0.5`
            You take the plain mean of both gradients. That is right only for alpha = 0.5.
        attacked only: `alpha * clean_gradient + (1 - alpha) * ` -> ``
            Your step ignores the clean images. Their gradient counts with weight alpha.
        clean only: `alpha * clean_gradient + (1 - alpha) * worst_gradient` -> `clean_gradient`
            Your step ignores the attacked images. Their gradient counts with weight 1 - alpha.
        the attack goes down: `x + eps` -> `x - eps`
            Your x~ moves down the loss, which makes the images easier. The attack adds
            eps·sign(gradient).
        no sign: `.sign()` -> ``
            Your attack moves by eps·gradient, without the sign. The mean over the batch makes that
            gradient tiny. FGSM uses only the signs.
        one change for the whole batch: `.sign()` -> `.mean(0).sign()`
            You average the pixel gradient over the batch, so that all images get the same change.
            Each image has its own.
        gradient of length 1: `.sign()` -> ` / pixel_gradient.norm(dim=1, keepdim=True)`
            You divide the gradient by its length. FGSM takes the sign of each entry, so that every
            pixel moves by eps.
        clamped: `attacked @` -> `attacked.clamp(0, 1) @`
            You clamp x~ to [0, 1]. Here it stays unclamped, as in the paper.
        predicted labels:
        `attacked = ` -> `guesses = (x @ weight).argmax(dim=1)¶attacked = `,
        `attacked = ` -> `loss = cross_entropy(pixels @ weight, guesses)¶attacked = `,
        `attacked = ` -> `(pixel_gradient,) = torch.autograd.grad(loss, pixels)¶attacked = `
            Your attack uses the labels that the model predicts. FGSM raises the loss of the true
            labels y.
        training goes up: `weight - 0.5` -> `weight + 0.5`
            Your step raises the mixed loss. The attack climbs in the pixels; training descends in
            the weights: weight - 0.5·gradient.
        no learning rate: `0.5 * ` -> ``
            The learning rate 0.5 is missing in your step.
        the gradient itself: `weight - 0.5 * ` -> ``
            You return the gradient. The new weight is weight - 0.5·gradient.
        sum over the images: `, y)` => `, y, reduction="sum")`
            You add up the losses of the images. J is their mean: the sum makes the step N times too
            long.
        in place: `weight, pixels = ` -> `given = weight¶weight, pixels = `,
        `(weight - 0.5` -> `given.sub_(0.5`
            {evidence.INPUT_CHANGED}
        attached to the graph: `.detach()` -> ``
            {evidence.ATTACHED}
        signs of the weights: `worst_gradient))` -> `worst_gradient).sign())`
            You step along the sign of the weights' gradient. The sign belongs to the attack, in the
            pixels. Training takes the gradient itself.
        only the change: `x + eps` -> `eps`
            Your attacked images are the changes alone. Add the change to x: x + eps·sign(gradient).
        usual rate: `0.5` -> `0.1`
            Your learning rate is 0.1. In this exercise it is 0.5.
        sign of the weighted gradient: `pixel_gradient.sign()` -> `(alpha * pixel_gradient).sign()`
            With alpha = 0 your attack does not move. This happens if you take the pixel gradient of
            alpha·J: it is 0 there, and the sign of 0 is 0. Take the gradient of J itself.
        clean gradient without alpha: `alpha * clean_gradient` -> `clean_gradient`
            The factor alpha of the clean gradient is missing. The attacked one has its 1 - alpha.
        attacked gradient without a weight: `(1 - alpha) * worst_gradient` -> `worst_gradient`
            The factor 1 - alpha of the attacked gradient is missing. The clean one has its alpha.
        brackets missing: `(1 - alpha) * worst_gradient` -> `1 - alpha * worst_gradient`
            You have 1 - alpha * (attacked gradient): Python multiplies first. Put 1 - alpha in
            brackets.
        images mixed: `attacked = x + eps *` -> `attacked = x + (1 - alpha) * eps *`,
        `alpha * clean_gradient + (1 - alpha) * worst_gradient` -> `worst_gradient`
            Your step uses one gradient, at the mixed images alpha·x + (1 - alpha)·x~. Take one
            gradient at x and one at x~, and mix the two gradients.
        attack on the weights: `attacked @ weight` -> `x @ (weight + eps * clean_gradient.sign())`
            Your attack moves the weights by eps, not the pixels. Take the gradient with respect to
            x, and move x.
        the same weight twice: `(1 - alpha)` -> `alpha`
            You give both gradients the weight alpha. The attacked one has 1 - alpha.
        change of the weights: `weight - 0.5` -> `-0.5`
            You return the change of the weights. Add it to the old ones: weight - 0.5·gradient.
        clean gradient counted twice: `alpha * clean_gradient + (1 - alpha) * worst_gradient`
        -> `2 * alpha * clean_gradient + (1 - alpha) * worst_gradient`
            The clean gradient counts twice. `backward()` adds to `.grad`: what the first call has
            left there is still there after the second. Clear it, or take `torch.autograd.grad`.
        attack on the new weights:
        `attacked = ` -> `newer = weight - 0.5 * clean_gradient¶attacked = `,
        `attacked = ` -> `moved = cross_entropy(pixels @ newer, y)¶attacked = `,
        `attacked = ` -> `(pixel_gradient,) = torch.autograd.grad(moved, pixels)¶attacked = `
            Your attack is crafted on weights that have made a step already. Craft it on the old
            weights, and make one step at the end.
        """,
    ),
    hints=(
        "Three parts: the clean loss with its two gradients, the attacked images, and the gradient "
        "of their loss with respect to the weight.",
        "Copy both: `w = weight.clone().requires_grad_()` and `pixels = x.clone()"
        ".requires_grad_()`. Then `torch.autograd.grad(loss, (w, pixels))` gives both gradients "
        "of the clean loss at once.",
        "`attacked = x + eps * pixel_gradient.sign()`. Take the gradient of its loss with respect "
        "to `w` as well, mix the two weight gradients by alpha and 1 - alpha, and return "
        "`(w - 0.5 * mixed).detach()`.",
    ),
    takeaway="The clean pass gives the attack for free: two passes, not three.",
)


# --- 3. Promised and real rise ------------------------------------------------------------------


Loss: TypeAlias = Callable[[Tensor], Tensor]  # (N, ...) to (N,)


def _promised_and_real(loss: Loss, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    pixels = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pixels).sum(), pixels)  # each image has its own
    promised = eps * gradient.flatten(1).abs().sum(dim=1)  # (N,) eps times the L1 norm
    real = loss(x + eps * gradient.sign()) - loss(x)  # (N,)
    return promised, real.detach()


def _loss_functions(generator: torch.Generator) -> list[Args]:
    """Make (loss, x, eps); the first loss is linear, so that promised and real rise agree there."""
    w = torch.tensor([2.0, -1.0, 0.5])
    v, u = inputs.randn(generator, 6), inputs.randn(generator, 9)
    v[2] = u[4] = 0.0  # dead pixels

    def straight(x: Tensor) -> Tensor:
        return x @ w + 0.3

    def bending(x: Tensor) -> Tensor:  # a step may jump over the top, and end lower
        return -(x @ v).square()

    def images(x: Tensor) -> Tensor:
        return functional.softplus(4 * x.flatten(1) @ u)

    def level(x: Tensor) -> Tensor:
        return torch.tanh(x.square().sum(1))

    return [
        (straight, torch.tensor([[0.5, 0.25, 1.0], [0.0, 1.0, 0.5]]), 0.25),
        (bending, inputs.rand(generator, 5, 6), 0.3),
        (images, inputs.images(generator, 4, 1, 3, 3), 0.1),
        (level, inputs.images(generator, 3, 4), 0.5),  # where a pixel is black, its gradient is 0
        (bending, inputs.rand(generator, 4, 6), 0.0),
        (images, inputs.images(generator, 1, 1, 3, 3), 0.2),
    ]


@rule("Your promised rise is negative. Along the gradient, the straight line can only rise.")
def _promise_is_never_negative(args: Args, output: Any) -> object:
    return bool((output[0] >= -1e-6).all())


@rule("With eps = 0 nothing moves, so both rises should be 0.")
def _nothing_moves_at_eps_zero(args: Args, output: Any) -> object:
    return args[2] or all(bool((part.abs() < 1e-5).all()) for part in output)


def _promised_by_product(loss: Loss, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    pixels = x.detach().clone().requires_grad_()
    before = loss(pixels)
    before.backward(torch.ones_like(before))
    assert pixels.grad is not None, "pixels is a leaf of the graph"
    step = eps * pixels.grad.sign()
    promised = (pixels.grad * step).reshape(len(x), -1).sum(1)
    with torch.no_grad():
        return promised, loss(x + step) - before


def _promised_by_loop(loss: Loss, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    promised, real = [], []
    for i in range(len(x)):
        one = x[i : i + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(one).sum(), one)
        promised.append(eps * gradient.norm(p=1))
        real.append((loss(one + eps * gradient.sign()) - loss(one)).detach().squeeze(0))
    return torch.stack(promised), torch.stack(real)


promised_and_real = Exercise(
    name="promised_and_real",
    lesson="06",
    title="The rise that the gradient promises, and the real one",
    task=(
        "loss is a function of images: loss(x) gives one number for each image, shape (N,). With g "
        "its gradient with respect to x, return two tensors of shape (N,): the rise that g "
        "promises for an FGSM step, eps·‖g‖₁ of each image, and the real rise, loss(x + "
        "eps·sign(g)) - loss(x). Do not clamp. x is (N, …), eps is a number."
    ),
    difficulty=2,
    minutes=10,
    reference=_promised_and_real,
    inputs=_loss_functions,
    asks=("tensor",),
    properties=(_promise_is_never_negative, _nothing_moves_at_eps_zero),
    right_answers=(_promised_by_product, _promised_by_loop),
    wrong_answers=edits(
        _promised_and_real,
        f"""
        L2 norm: `.abs().sum(dim=1)` -> `.norm(dim=1)`
            Your promise uses the L2 norm of the gradient. Every pixel moves by eps, so pixel i
            promises eps·|g_i|, and the sum of these is eps·‖g‖₁.
        no absolute values: `.abs()` -> ``
            You add up the gradient with its signs, so that the pixels cancel each other. The step
            has the gradient's signs: every pixel promises eps·|g_i|.
        no eps: `promised = eps * ` -> `promised = `
            The factor eps is missing in your promise.
        mean over the pixels: `.sum(dim=1)` -> `.mean(dim=1)`
            You take the mean of |g_i| over the pixels. Their promises add up.
        largest pixel: `.sum(dim=1)` -> `.amax(dim=1)`
            You take the largest |g_i|. All pixels move, so all their promises add up.
        eps squared: `promised = eps` -> `promised = eps**2`
            eps enters your promise twice. The change of a pixel is eps·sign(g_i), and the promise
            is g_i times that change.
        sum of squares: `.abs()` -> `.square()`
            Your promise is eps times the sum of squares. That belongs to a step of eps·g, without
            the sign.
        the whole batch: `.sum(dim=1)` -> `.sum().expand(len(x))`
            You add up over the images as well. Each image has its own promise: shape (N,).
        mean loss: `.sum(), pixels` -> `.mean(), pixels`
            You differentiate the mean of the losses, so each image's gradient is divided by N. Take
            the sum: each image then keeps its own gradient.
        no sign in the step: `.sign()` -> ``
            Your real step is eps·gradient, without the sign. FGSM moves every pixel by eps.
        downhill: `x + eps` -> `x - eps`
            Your real step goes against the gradient. An attack goes up: x + eps·sign(g).
        clamped: `x + eps * gradient.sign()` -> `(x + eps * gradient.sign()).clamp(0, 1)`
            You clamp the moved images to [0, 1]. Here they stay as they are: the promise is for the
            whole step.
        not a difference: ` - loss(x)` -> ``
            Your second value is the loss after the step. The rise is that minus the loss before.
        difference reversed: `real.detach()` -> `-real.detach()`
            Your second value is before minus after. The rise is after minus before.
        absolute difference: `real.detach()` -> `real.abs().detach()`
            You take the absolute value of the real rise. A loss that FALLS after a step up the
            gradient is what we look for: keep its sign.
        swapped: `promised, real.detach()` -> `real.detach(), promised`
            Your two results are swapped. First the promised rise, then the real one.
        attached to the graph: `loss(x + ` -> `loss(pixels + `, `.detach()` -> ``
            {evidence.ATTACHED}
        loss promised: `return promised` -> `return loss(x) + promised`
            Your first value is the loss that is promised after the step. The task asks for the
            rise, eps·‖g‖₁ alone.
        part kept: `real.detach()` -> `(real / promised).nan_to_num(0.0)`
            Your second value is the part of the promise that is kept. The task asks for the real
            rise itself. The division comes later.
        real rise cut off: `real.detach()` -> `real.clamp(min=0).detach()`
            Your real rise is never below 0. A loss that FALLS after the step is what we look for:
            return the difference as it is, without `clamp` or `relu`.
        both divided by eps: `promised, real.detach()` -> `promised / eps, real.detach() / eps`
            You divide both rises by eps, and at eps = 0 this is nan. The task asks for the rises
            themselves: eps·‖g‖₁, and a difference of two losses.
        per unit of eps: `promised = eps * ` -> `promised = `,
        `real.detach()` -> `real.detach() / eps`
            Your two results are rises for each unit of eps: the promise has no factor eps, and the
            real rise is divided by eps. The task asks for the rises themselves.
        real divided by eps: `real.detach()` -> `real.detach() / eps`
            You divide the real rise by eps. Return the difference itself, loss(x + eps·sign(g)) -
            loss(x).
        gradient at the end: `promised = eps * gradient`
        -> `moved = (x + eps * gradient.sign()).requires_grad_()¶promised = eps * there`,
        `promised =` -> `(there,) = torch.autograd.grad(loss(moved).sum(), moved)¶promised =`
            Your promise uses the gradient at the moved image. The promise is made at x, before the
            step: take the gradient at x.
        step of length eps: `.abs().sum(dim=1)` -> `.norm(dim=1)`,
        `x + eps * gradient.sign()` -> `x + eps * gradient / length`,
        `promised = ` -> `ones = [1] * (x.ndim - 1)¶promised = `,
        `promised = ` -> `length = gradient.flatten(1).norm(dim=1).reshape(-1, *ones)¶promised = `
            You divide the gradient by its length, for the step and for the promise. FGSM takes the
            sign, so every pixel moves by eps, and the promise is eps·‖g‖₁.
        the promise twice: `return promised, real.detach()` -> `return promised, promised`
            You return the promise twice. The second value is the real rise: the loss after the step
            minus the loss before.
        """,
    ),
    hints=(
        "First the gradient, on a copy of x that requires one. The losses of different images do "
        "not mix, so the gradient of their sum holds each image's own.",
        "`(g,) = torch.autograd.grad(loss(pixels).sum(), pixels)`. The promise of image i is eps "
        "times the sum of |g| over its pixels: `g.flatten(1).abs().sum(dim=1)`.",
        "The real rise is `loss(x + eps * g.sign()) - loss(x)`, with `.detach()`.",
    ),
    takeaway="On a linear loss the two agree. The larger the gap, the less FGSM can tell.",
)


# --- 4. What noise can do -----------------------------------------------------------------------


def _noise_and_attack(g: Tensor, eps: float) -> tuple[float, float, float]:
    length = g.square().sum().sqrt()  # the L2 norm
    signs = eps * length  # each entry of the noise has variance eps²
    uniform = eps * length / 3**0.5  # U(-eps, eps) has variance eps² / 3
    attack = eps * g.abs().sum()  # nothing cancels
    return signs.item(), uniform.item(), attack.item()


def _gradients(generator: torch.Generator) -> list[Args]:
    """Make (g, eps)."""
    return [
        (torch.tensor([3.0, -4.0]), 0.25),
        (torch.tensor([0.0, 2.0, 0.0]), 0.1),  # one entry: signs do as much as the attack
        (torch.ones(784), 0.25),
        (inputs.randn(generator, 784) * (inputs.rand(generator, 784) < 0.5), 0.25),
        (inputs.randn(generator, 50), 0.0),
    ]


@rule("In your answer noise does more than the attack, or uniform noise more than signs.")
def _noise_is_weaker(args: Args, output: Any) -> object:
    signs, uniform, attack = (float(v) for v in output)
    return uniform <= signs + 1e-6 and signs <= attack + 1e-5


def _noise_by_variance(g: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    signs = (g.pow(2) * eps**2).sum().sqrt()
    uniform = (g.pow(2) * (2 * eps) ** 2 / 12).sum().sqrt()
    return signs, uniform, (g * eps * g.sign()).sum()


def _noise_by_loop(g: Tensor, eps: float) -> tuple[float, float, float]:
    total = [sum(abs(float(v)) ** power for v in g) for power in (2, 1)]
    signs = eps * math.sqrt(total[0])
    return signs, signs / math.sqrt(3), eps * total[1]


noise_and_attack = Exercise(
    name="noise_and_attack",
    lesson="06",
    title="What noise can do, and what an attack can do",
    task=(
        "A loss has the gradient g, shape (d,), and is linear: a change eta moves it by g·eta. "
        "Return three numbers: the standard deviation of g·eta when every eta_i is +eps or -eps by "
        "the toss of a coin; the same when every eta_i is uniform between -eps and eps; and the "
        "largest g·eta with all |eta_i| at most eps."
    ),
    difficulty=2,
    minutes=8,
    reference=_noise_and_attack,
    inputs=_gradients,
    properties=(_noise_is_weaker,),
    right_answers=(_noise_by_variance, _noise_by_loop),
    wrong_answers=edits(
        _noise_and_attack,
        """
        variance: `signs.item(), uniform.item()` -> `signs.item() ** 2, uniform.item() ** 2`
            Your first two values are variances. The standard deviation is the square root.
        noise that never cancels: `g.square().sum().sqrt()` -> `g.abs().sum()`
            You let the noise add up like the attack. Independent terms mostly cancel: it is their
            variances that add up, so the result has the root of a sum of squares, ‖g‖₂.
        attack by the L2 norm: `eps * g.abs().sum()` -> `eps * length`
            Your attack uses ‖g‖₂. The attacker picks each sign, so nothing cancels: eps·‖g‖₁.
        the mean: `signs.item(), uniform.item()` -> `0.0, 0.0`
            The MEAN of g·eta is 0 for both kinds of noise. The task asks how far it typically is
            from that: the standard deviation.
        plain sum: `g.square().sum().sqrt()` -> `g.sum()`, `.abs()` -> ``
            You add up the entries of g with their signs. For noise add up squares, for the attack
            absolute values.
        divided by the root of d: `.sum().sqrt()` -> `.mean().sqrt()`
            You divide by the root of d, as for a mean. g·eta is a sum over the pixels.
        no eps: `eps * ` => ``
            The factor eps is missing.
        a third: `3**0.5` -> `3`
            You divide by 3 for uniform noise. U(-eps, eps) has the VARIANCE eps²/3, so the standard
            deviation is eps/√3.
        half: `3**0.5` -> `2`
            You use the mean of |eta_i|, which is eps/2. The standard deviation of U(-eps, eps) is
            eps/√3.
        uniform like signs: ` / 3**0.5` -> ``
            Your two kinds of noise are equally strong. Uniform noise is mostly smaller than eps:
            its variance is eps²/3.
        twice the width: `uniform = eps` -> `uniform = 2 * eps`
            Your uniform noise runs from -2·eps to 2·eps. From -eps to eps the width is 2·eps, so
            the variance is (2·eps)²/12 = eps²/3.
        half the width: `3**0.5` -> `12**0.5`
            You divide by the root of 12. That is for a width of eps. From -eps to eps the width is
            2·eps, and (2·eps)²/12 = eps²/3.
        swapped: `signs.item(), uniform.item()` -> `uniform.item(), signs.item()`
            Your first two values are swapped. First the coin tosses, then the uniform noise.
        largest entry: `.abs().sum()` -> `.abs().max()`
            Your attack moves one pixel only, the one with the largest gradient. Every pixel may
            move by eps, and their parts add up.
        spread of the gradient: `g.square().sum().sqrt()` -> `g.std()`
            Your noise uses `g.std()`, the spread of g's entries around their mean. The noise g·eta
            is a sum over the pixels: take the root of the sum of all g_i², ‖g‖₂.
        eps squared: `signs = eps` -> `signs = eps**2`, `uniform = eps` -> `uniform = eps**2`
            Your first two values have eps² as a factor. eps² is a variance: after the square root
            it is eps.
        variance of one entry: `signs = eps` -> `signs = eps**2`,
        `uniform = eps` -> `uniform = eps**2`,
        `3**0.5` -> `3`
            You multiply ‖g‖₂ by the variance of one entry, eps² and eps²/3. Multiply by its root:
            eps and eps/√3.
        all pixels the same way: `g.abs().sum()` -> `g.sum().abs()`
            Your attack moves all pixels the same way: eps·|sum of g|. The attacker picks each
            pixel's sign, so nothing cancels. Take the absolute values first, then the sum.
        mean subtracted: `length = g.square().sum().sqrt()`
        -> `length = (g - g.mean()).square().sum().sqrt()`
            You subtract the mean of g, as `std` does. The noise has mean 0 already, not g: take the
            root of the plain sum of g².
        mean subtracted, N - 1: `length = g.square().sum().sqrt()`
        -> `length = g.std() * len(g) ** 0.5`
            You use the standard deviation of g, which subtracts the mean of g. The noise has mean 0
            already, not g: take the root of the plain sum of g².
        attack without absolute values: `eps * g.abs().sum()` -> `eps * g.sum()`
            Your third value, the attack, adds up g with its signs. The attacker picks each sign, so
            that nothing cancels: eps·‖g‖₁.
        all entries of one size: `g.square().sum().sqrt()` -> `g.abs().sum() / len(g) ** 0.5`
            Your noise is ‖g‖₁/√d. That holds only if all entries of g have one size. In general it
            is the root of the sum of all g_i², ‖g‖₂.
        one in 28: `g.square().sum().sqrt()` -> `g.abs().sum() / 28`
            Your noise is ‖g‖₁/28. That holds only for 784 entries of one size. In general it is the
            root of the sum of all g_i², ‖g‖₂.
        all entries are one: `g.square().sum().sqrt()` -> `torch.tensor(float(len(g))).sqrt()`
            Your noise is eps·√d, whatever g is. That holds only if all entries of g are 1 or -1. In
            general it is eps·‖g‖₂.
        mean size: `signs.item(), uniform.item()`
        -> `(2 / math.pi) ** 0.5 * signs.item(), (2 / math.pi) ** 0.5 * uniform.item()`
            You multiply by the root of 2/pi, as for the mean of |g·eta|. The task asks for the
            standard deviation.
        """,
    ),
    hints=(
        "The terms g_i·eta_i of the noise are independent. Then the variance of their sum is the "
        "sum of their variances.",
        "A coin toss of ±eps has the variance eps². U(-eps, eps) has the variance eps²/3. So the "
        "first value is eps times the L2 norm of g.",
        "`signs = eps * g.square().sum().sqrt()`, uniform is `signs / 3**0.5`, and the attack is "
        "`eps * g.abs().sum()`.",
    ),
    takeaway="For d equal entries noise reaches √d and the attack d: for a digit, 28 against 784.",
)


# --- 5. How many pixels does a filter use? ------------------------------------------------------


def _participation(w: Tensor) -> Tensor:
    energy = w.square()  # (units, d)
    return energy.sum(dim=1).square() / energy.square().sum(dim=1)  # (units,)


def _filters(generator: torch.Generator) -> list[Args]:
    """Make (w,)."""
    even = torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0, 2.0, 0.0, 0.0], [3.0, 3.0, 0.0, 0.0]])
    line = torch.zeros(2, 49)
    line[0, 20:25], line[1] = 1.5, 0.1
    return [
        (even,),
        (torch.tensor([[2.0, 1.0, -1.0, 0.0, 0.0]]),),
        (line,),
        (inputs.randn(generator, 6, 30),),
        (1e-4 * inputs.randn(generator, 3, 20),),
    ]


def _between_one_and_d(args: Args, output: Tensor) -> str | None:
    d = args[0].shape[1]
    if bool(((output > 1 - 1e-3) & (output < d + 1e-2)).all()):
        return None
    return f"Your numbers should lie between 1 pixel and all {d} pixels of a filter."


def _participation_by_shares(w: Tensor) -> Tensor:
    share = w**2 / (w**2).sum(1, keepdim=True)
    return 1 / (share**2).sum(1)


def _participation_by_norms(w: Tensor) -> Tensor:
    return torch.stack([(row.norm(p=2) / row.norm(p=4)) ** 4 for row in w])


participation = Exercise(
    name="participation",
    lesson="06",
    title="How many pixels does a filter use?",
    task=(
        "Return the number of effective pixels of each filter, (sum of w²)² / (sum of w⁴), with "
        "both sums over the pixels of one filter. w has shape (units, d), and no filter is all "
        "zero. The result has shape (units,)."
    ),
    difficulty=1,
    minutes=5,
    reference=_participation,
    inputs=_filters,
    properties=(_between_one_and_d,),
    right_answers=(_participation_by_shares, _participation_by_norms),
    wrong_answers=edits(
        _participation,
        """
        squared before the sum: `energy.sum(dim=1).square()` -> `energy.square().sum(dim=1)`
            You square each w² and then add up, above the line too: that is the same number twice.
            Above the line the sum comes first, and is squared then.
        absolute values: `w.square()` -> `w.abs()`
            You have (sum of |w|)² / (sum of w²). That is another, gentler count. Here the energies
            w² are counted: (sum of w²)² / (sum of w⁴).
        signs kept: `w.square()` -> `w`
            The sum in your numerator adds up w with its signs, so that positive and negative
            weights cancel. Square each weight first.
        upside down: `energy.sum(dim=1).square() / energy.square().sum(dim=1)`
        -> `energy.square().sum(dim=1) / energy.sum(dim=1).square()`
            Your fraction is upside down. A single pixel should give 1, and d equal pixels should
            give d.
        upper sum not squared: `.square() /` -> ` /`
            The sum in your numerator is not squared, so the result changes when all weights are
            doubled. It should not.
        lower sum of squares: `energy.square()` -> `energy`
            The sum in your denominator is that of w². Take the sum of w⁴, so that the result does
            not change when all weights are doubled.
        root: `.square() / energy.square().sum(dim=1)` -> ` / energy.square().sum(dim=1).sqrt()`
            You take a square root at the end. Without it, d equal pixels give exactly d.
        share of the image: `.sum(dim=1)` => `.mean(dim=1)`
            You divide by d, or take means in place of sums. That gives a share of the image. The
            task asks for a number of pixels.
        count of non-zeros: `energy.sum(dim=1).square() / energy.square().sum(dim=1)`
        -> `(w != 0).sum(dim=1).to(w.dtype)`
            You count the weights that are not zero. After training none of them is exactly zero.
            The formula counts a weight by its energy.
        the whole layer: `.sum(dim=1)` => `.sum().expand(len(w))`
            You add up over all filters. Each filter has its own sums: `sum(dim=1)`.
        divided by the largest: `energy.sum(dim=1).square() / energy.square().sum(dim=1)`
        -> `energy.sum(dim=1) / energy.amax(dim=1)`
            Your result is the sum of w² divided by the largest w². The task divides the squared sum
            of w² by the sum of w⁴.
        above half the maximum: `energy.sum(dim=1).square() / energy.square().sum(dim=1)`
        -> `(w.abs() > 0.5 * w.abs().amax(dim=1, keepdim=True)).sum(dim=1).to(w.dtype)`
            You count the weights above half of the largest one. The formula has no limit: each
            weight counts by its energy w².
        sum before the power: `energy.sum(dim=1).square()` -> `w.sum(dim=1) ** 4`
            Above the line you add up w, and take the power after that. So weights of opposite sign
            cancel. Square each weight first, add up, then square the sum.
        sum of absolute values before the power: `energy.sum(dim=1).square()`
        -> `w.abs().sum(dim=1) ** 4`
            Above the line you have the sum of |w|, to the power of 4. Square each weight first, add
            up, then square the sum.
        lower sum squared: `energy.square().sum(dim=1)` -> `energy.square().sum(dim=1).square()`
            Below the line you square the sum of w⁴ once more. Divide by the sum of w⁴ itself.
        added below the line: `energy.square().sum(dim=1)` -> `(energy.square().sum(dim=1) + 1e-12)`
            You add 1e-12 below the line. For small weights the sum of w⁴ is smaller than that. No
            filter is all zero: divide by the sum alone.
        least value below the line: `energy.square().sum(dim=1)`
        -> `energy.square().sum(dim=1).clamp(min=1e-12)`
            You divide by at least 1e-12. For small weights the sum of w⁴ is smaller than that. No
            filter is all zero: divide by the sum alone.
        a larger number below the line: `energy.square().sum(dim=1)`
        -> `(energy.square().sum(dim=1) + 1e-8)`
            You add 1e-8 below the line, or divide by at least that. For small weights the sum of w⁴
            is smaller. No filter is all zero: divide by the sum alone.
        mean subtracted: `energy = w.square()`
        -> `energy = (w - w.mean(dim=1, keepdim=True)).square()`
            You subtract the mean weight of each filter first. The formula takes the weights as they
            are.
        """,
    ),
    hints=(
        "Square all weights first: that is the energy of each pixel, shape (units, d).",
        "Sum over `dim=1`. The numerator is the square of the sum of the energies, the denominator "
        "the sum of the squared energies.",
        "With `energy = w.square()`: `energy.sum(dim=1).square() / energy.square().sum(dim=1)`.",
    ),
    takeaway="k equal pixels count as k. A faint haze over the image hardly counts.",
)


EXERCISES = (mixed_loss, training_step, promised_and_real, noise_and_attack, participation)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    A paper trains on FGSM examples and reports an FGSM error that fell from 90 % to 18 %. What do
    you know about the error under a stronger attack?
    - It is at most a little over 18 %.
        Nothing says so. In this lesson PGD found an error for nearly every digit, and FGSM for few,
        on the same network.
    - It fell in the same proportion.
        The training saw one-step examples only. It promises nothing about other attacks.
    + It is at least 18 %, and it may be 100 %.
        An attack only ever gives a lower bound on the damage. Only a stronger attack can show how
        much higher it is.

    x~ depends on the weights, through the sign of the gradient. Why does training not
    differentiate through it?
    + Because the slope of the sign function is 0.
        It is 0 wherever it exists. So nothing flows back through it, and x~ may be treated as a
        constant. The price: training cannot foresee how the attack will react to a new weight.
    - Because it would be too slow.
        It would be slower, but that is not the reason. Think of the slope of the sign function.
    - Because x~ is computed once, before training.
        It is computed anew at every step, for the current weights.

    A network that was trained with alpha = 0 errs on 30 % of the clean digits and on 1 % of the
    FGSM digits. What is going on?
    - It is very robust.
        An attacker need not attack: the clean digit does more harm. And PGD still succeeds on
        nearly all digits.
    + It reads the label off the FGSM change.
        The change is computed from the true label. A network that has only seen changed digits
        may read the change in place of the digit.
    - The clean digits are harder to read.
        They are the same digits, before anything was done to them.

    Training on digits with random ±eps hardly changes the FGSM error. Why?
    + Random changes barely move the loss.
        They are nearly orthogonal to the gradient, so there is little to learn. The noise moves a
        linear loss by about eps·‖g‖₂, the attack by eps·‖g‖₁.
    - The noise is smaller than the attack.
        In the max norm they are equal: each pixel moves by eps.
    - The network cannot learn noisy digits.
        It learns them well: the clean error is as good as before.

    You train with dropout and craft x~ in the same pass that trains, with units dropped. What do
    you expect?
    - The attack is stronger, because it knows the mask.
        It is strong against the thinned network of that step, which nobody will ever attack.
    - No difference, because dropout averages out.
        The signs of an average are not the average of the signs. Section 3 measured the
        difference.
    + A much higher FGSM error later than when crafting in eval mode.
        The attacker will meet the whole network. Its gradient is a different one, and training
        never saw its x~.

    Why is adversarial training not just weight decay?
    - It shrinks the weights, only more strongly than a penalty.
        In this lesson the adversarially trained weights were the larger ones.
    + It penalises the harm of the attack, not the weights.
        An example costs as much as the attack hurts it, and nothing once it is safe. The weights
        may even grow. Weight decay penalises the weights themselves, and here it did not lower the
        FGSM error.
    - It uses the L2 norm.
        It uses no norm of the weights at all. The max norm limits the pixels.
    """
)
