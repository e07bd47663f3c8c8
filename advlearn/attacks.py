"""Attacks: from images to adversarial images.

An attack here is a pure function. It never changes its input, the model, a gradient or (without a
random start) the random state, and it returns a new tensor. `eps` is in pixel units: the largest
change of one pixel. Images keep their own scale; normalisation belongs into the model
(`advlearn.models.Normalize`), else eps would mean something else.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from advlearn._validation import (
    check_bounds,
    check_callable,
    check_choice,
    check_count,
    check_eps,
    check_images,
    check_labels,
    check_logits,
    check_number,
    logits_of,
)
from advlearn.context import Model, attack_mode, hand_out
from advlearn.directions import usable
from advlearn.losses import Loss, cross_entropy, logit_gradient, margin_loss


class Bounds(NamedTuple):
    """The lowest and the highest value that a pixel can take."""

    low: float = 0.0
    high: float = 1.0


PIXELS = Bounds(0.0, 1.0)


def ball_tolerance(x: Tensor, eps: float | Tensor) -> float:
    """Return by how much rounding may carry a pixel past eps: two units of the largest value.

    x + eps is rounded once, and x~ - x once more, so a bare `(x~ - x).abs() <= eps` fails for
    about half of all float32 pixels. Every check of the ball in this project uses this number.

    Example:
        >>> ball_tolerance(torch.zeros(1, 4), 0.25) < 1e-6
        True
    """
    largest = float(x.detach().abs().max()) + float(torch.as_tensor(eps).max())
    return 2 * torch.finfo(x.dtype).eps * max(largest, 1.0)


def linear_step(
    x: Tensor,
    gradient: Tensor,
    eps: float | Tensor,
    *,
    targeted: bool = False,
    bounds: tuple[float, float] | None = PIXELS,
) -> Tensor:
    """Return clamp(x + eps * sign(gradient)): the best step in the box for a linear loss.

    Among all eta with max|eta_i| <= eps, eta = eps sign(g) makes g'eta largest, and the maximum is
    eps ‖g‖₁ (Hölder's inequality). sign(g) does not depend on eps: a sweep over many eps costs
    one gradient and many of these steps.

    Args:
        x: (N, ...), floating, inside `bounds`.
        gradient: x's shape; only its signs count.
        eps: in pixel units, >= 0, as for `fgsm`.
        targeted: step down the gradient instead of up.
        bounds: (low, high) of a pixel; None leaves the step unclipped, as in the paper.

    Returns:
        A new tensor of x's shape, dtype and device.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Source:
        Section 3 of the paper.

    Example:
        >>> linear_step(torch.tensor([[0.5, 0.9]]), torch.tensor([[-3.0, 0.1]]), 0.25)
        tensor([[0.2500, 1.0000]])
    """
    box = check_bounds(bounds)
    check_images(x, box)
    step = check_eps(eps, x, box)
    if not isinstance(gradient, Tensor):
        raise TypeError(f"gradient must be a tensor of x's shape, got {type(gradient).__name__}.")
    if gradient.shape != x.shape:
        raise ValueError(
            f"gradient must have x's shape {tuple(x.shape)}, got {tuple(gradient.shape)}."
        )
    if bool(gradient.sum().isnan()) and bool((unsigned := gradient.isnan()).any()):
        raise ValueError(
            f"gradient is NaN in {100 * float(unsigned.double().mean()):.3g} % of the pixels, so "
            "it has no sign there. Take it from input_gradient, or set these pixels to 0: "
            "gradient.nan_to_num(0.0)."
        )
    return _step(x.detach(), gradient.detach(), step, targeted, box)


def _step(
    x: Tensor,
    gradient: Tensor,
    eps: float | Tensor,
    targeted: bool,
    box: tuple[float, float] | None,
) -> Tensor:
    """Do the arithmetic of `linear_step` on arguments that are already checked."""
    direction = gradient.to(x.dtype).sign()
    step = -eps if targeted else eps
    # Few passes over the pixels: for a small model they are most of the time.
    if isinstance(step, Tensor):
        moved = direction.mul_(step).add_(x)
    else:
        moved = torch.add(x, direction, alpha=step)
    return moved if box is None else moved.clamp_(*box)


def _followed(loss: Loss) -> Loss:
    """Return the loss that an attack works with: the margin instead of cross-entropy.

    Cross-entropy grows with the margin, so both order images alike and their gradients have one
    direction. The margin does not underflow where the model is confident, and costs less.
    """
    return margin_loss if loss is cross_entropy else loss


def _direction(model: Model, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Return a positive multiple, for each example, of the loss's gradient at x."""
    return usable(_gradient(model, x, y, _followed(loss)))


def _gradient(model: Model, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Return the loss's gradient at x; `attack_mode` is on and the arguments are checked."""
    # A leaf of its own, on x's memory: x's .grad is never touched. (A tensor made in inference mode
    # cannot be differentiated; a copy made here can.)
    pixels = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
    y = y.clone() if y.is_inference() else y
    logits = logits_of(hand_out(model, pixels))
    check_logits(logits, y)
    by_logits = logit_gradient(loss, logits, y)
    # The chain rule in two parts: by the logits first, then from the logits back to the pixels.
    # Each example's gradient is its own, whatever else is in the batch. Logits that do not depend
    # on the pixels may still depend on something else that has a gradient.
    gradient = None
    if logits.requires_grad:
        (gradient,) = torch.autograd.grad(logits, pixels, by_logits, allow_unused=True)
    if gradient is None:
        raise ValueError(
            "model(x) is detached from x, so it has no gradient there. Remove .detach(), "
            "torch.no_grad() and NumPy from the model's forward, or from the function around it."
        )
    return gradient


def _check(
    model: Model, x: Tensor, y: Tensor, loss: Loss, bounds: object
) -> tuple[float, float] | None:
    box = check_bounds(bounds)
    check_callable(model, "model")
    check_callable(loss, "loss")
    check_images(x, box)
    check_labels(y, x.shape[0])
    return box


def _check_generator(generator: object) -> None:
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(
            f"generator must be a torch.Generator or None, got {type(generator).__name__} "
            f"{generator!r:.60}. For a seed, pass torch.Generator().manual_seed(42)."
        )


def input_gradient(model: Model, x: Tensor, y: Tensor, *, loss: Loss = cross_entropy) -> Tensor:
    """Return the gradient of the loss with respect to the pixels, example by example.

    g_i = d loss(model(x_i), y_i) / d x_i, with the model in eval mode and left as it was.

    Args:
        model: maps (N, ...) to logits (N, K).
        x: (N, ...), floating and finite, any range.
        y: (N,) int64 labels in [0, K).
        loss: one value for each example, or their sum; a mean only rescales the gradient.

    Returns:
        x's shape and dtype, detached. Pixels whose gradient is NaN or infinite come back as 0.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range, or model(x) is
            detached from x.

    Warns:
        NoDirectionWarning: the share of the examples whose gradient is zero in every pixel, or NaN
            or infinite in some. All attacks give it.

    Example:
        >>> from advlearn.losses import margin_loss
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> input_gradient(model, torch.zeros(1, 2), torch.tensor([0]), loss=margin_loss)
        tensor([[-1.,  1.]])
    """
    _check(model, x, y, loss, None)
    with attack_mode(model):
        return usable(_gradient(model, x, y, loss))


def fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    loss: Loss = cross_entropy,
    targeted: bool = False,
    bounds: tuple[float, float] | None = PIXELS,
) -> Tensor:
    """Return adversarial images of the fast gradient sign method: clamp(x + eps sign(grad)).

    One gradient, one step of eps in every pixel. Exact for a linear model; for a deep one it is
    a lower bound on the damage, so report `pgd` beside it.

    Args:
        model: maps (N, ...) to logits (N, K); attacked in eval mode, given back bit-equal.
        x: (N, ...), floating, inside `bounds`.
        y: (N,) int64: the true labels, or with `targeted` the classes to move to.
        eps: the largest change of a pixel, in pixel units, >= 0: a number, (N,) with one value for
            each example, or shaped to broadcast against x, such as (1, C, 1, 1) with one for each
            channel.
        loss: what to raise (or with `targeted` to lower).
        targeted: lower the loss of the labels in `y`.
        bounds: (low, high) of a pixel; None is the paper's unclipped setting.

    Returns:
        A new detached tensor of x's shape, dtype and device, within eps of x in every pixel (up to
        `ball_tolerance`).

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Source:
        Section 4 of the paper.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> fgsm(model, torch.full((1, 2), 0.4), torch.tensor([0]), eps=0.25)
        tensor([[0.1500, 0.6500]])
    """
    box = _check(model, x, y, loss, bounds)
    step = check_eps(eps, x, box)
    with attack_mode(model):
        direction = _direction(model, x, y, loss)
        return _step(x.detach(), direction, step, targeted, box)


def pgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    generator: Generator | None = None,
    loss: Loss = cross_entropy,
    targeted: bool = False,
    bounds: tuple[float, float] | None = PIXELS,
) -> Tensor:
    """Return adversarial images of projected gradient descent: many small FGSM steps in the ball.

    x_0 = x + U(-eps, eps); x_(t+1) = project(x_t + step_size * sign(grad at x_t)), where the
    projection clamps to [x - eps, x + eps] and to `bounds`. With restarts, each example keeps the
    attempt that fooled the model, or else the one with the highest loss (lowest, if targeted).

    Args:
        model, x, y, eps, loss, targeted, bounds: as for `fgsm`.
        steps: gradient steps for each attempt, >= 1.
        step_size: in pixel units, > 0; None takes 2.5 eps / steps, which can cross the ball.
        random_start: start each attempt at a random point of the ball.
        restarts: how many attempts, >= 1; only examples that still resist are attacked again.
        generator: the source of the random starts; None draws from PyTorch's global one.

    Returns:
        A new detached tensor of x's shape, dtype and device, in the ball of `fgsm`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Source:
        Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> pgd(model, torch.full((1, 2), 0.4), torch.tensor([0]), eps=0.25, steps=10)
        tensor([[0.1500, 0.6500]])
    """
    box = _check(model, x, y, loss, bounds)
    radius = check_eps(eps, x, box)
    check_count(steps, "steps")
    check_count(restarts, "restarts")
    _check_generator(generator)
    if restarts > 1 and not random_start:
        raise ValueError(
            f"restarts = {restarts} without random_start repeats the same attempt. "
            "Pass random_start=True or restarts=1."
        )
    stride = (
        2.5 * radius / steps
        if step_size is None
        else check_number(step_size, "step_size", low=0.0, open_low=True)
    )
    with attack_mode(model):
        x = x.detach()
        best = x.clone()
        precision = torch.promote_types(x.dtype, torch.float32)
        best_loss = torch.full(x.shape[:1], -torch.inf, dtype=precision, device=x.device)
        open_ = torch.arange(len(x), device=x.device)  # the examples that still resist
        for _ in range(restarts):
            own = radius[open_] if isinstance(radius, Tensor) and radius.dim() else radius
            pace = stride[open_] if isinstance(stride, Tensor) and stride.dim() else stride
            start, labels = x[open_], y[open_]
            low, high = start - own, start + own
            if box is not None:
                low, high = low.clamp(min=box[0]), high.clamp(max=box[1])
            # Uniform noise over the ball, then the clamp: it must not shrink the noise elsewhere.
            moved = noise(start, own, generator=generator, bounds=None) if random_start else start
            moved = moved.clamp(low, high)
            for _ in range(steps):
                direction = _direction(model, moved, labels, loss)
                moved = _step(moved, direction, pace, targeted, None).clamp(low, high)
            with torch.no_grad():
                logits = logits_of(hand_out(model, moved))
                damage = _followed(loss)(logits, labels).to(precision).expand(len(labels))
                hit = logits.argmax(1) == labels
            damage = -damage if targeted else damage
            fooled = hit if targeted else ~hit
            # A fooled example beats every loss: it leaves the list, and nothing replaces it.
            better = fooled | (damage > best_loss[open_])
            best[open_[better]] = moved[better]
            best_loss[open_[better]] = damage[better]
            open_ = open_[~fooled]
            if not len(open_):
                break
        return best


def noise(
    x: Tensor,
    eps: float | Tensor,
    *,
    kind: str = "uniform",
    generator: Generator | None = None,
    bounds: tuple[float, float] | None = PIXELS,
) -> Tensor:
    """Return x with random noise of the same size as an attack: the control experiment.

    Args:
        x: (N, ...), floating, inside `bounds`.
        eps: in pixel units, >= 0, as for `fgsm`.
        kind: "uniform" draws from U(-eps, eps), "sign" draws -eps or +eps with equal chance.
        generator: the source of randomness; None draws from PyTorch's global one.
        bounds: (low, high) of a pixel; None leaves the noise unclipped.

    Returns:
        A new tensor of x's shape, dtype and device.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Source:
        Section 6 of the paper, the control for adversarial training.

    Example:
        >>> noise(torch.zeros(1, 3), 0.25, kind="sign", bounds=None).abs()
        tensor([[0.2500, 0.2500, 0.2500]])
    """
    box = check_bounds(bounds)
    check_images(x, box)
    check_choice(kind, "kind", ("uniform", "sign"))
    _check_generator(generator)
    step = check_eps(eps, x, box)
    # Drawn on the generator's device: a CPU generator then gives the same noise everywhere.
    source = generator.device if generator is not None else x.device
    drawn = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=source).to(x.device)
    direction = 2 * drawn - 1
    if kind == "sign":
        direction = torch.where(direction < 0, -1.0, 1.0).to(x.dtype)
    moved = x.detach() + step * direction
    return moved if box is None else moved.clamp_(*box)


def rotate(
    model: Model,
    x: Tensor,
    y: Tensor,
    angle: float,
    *,
    loss: Loss = cross_entropy,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Return x turned by `angle` towards the gradient, with its length kept.

    x~ = ‖x‖ (cos(angle) x/‖x‖ + sin(angle) u), where u is the unit part of the gradient that is
    orthogonal to x. It shows that adversarial directions are not special to the box.

    Args:
        model, x, y, loss: as for `fgsm`.
        angle: in radians, in [0, pi/2].
        bounds: (low, high) of a pixel; None (the default) keeps the length exactly.

    Returns:
        A new detached tensor of x's shape, dtype and device. An example whose pixels are all zero
        comes back unchanged, and so does one whose gradient is zero or, up to rounding, a multiple
        of x: then no direction is left to turn to.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Source:
        Section 4 of the paper, where rotation is mentioned as an alternative.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> turned = rotate(model, torch.tensor([[2.0, 0.0]]), torch.tensor([0]), 0.1)
        >>> turned.norm()
        tensor(2.)
    """
    box = _check(model, x, y, loss, bounds)
    turn = torch.tensor(check_number(angle, "angle", 0.0, torch.pi / 2), dtype=torch.float64)
    with attack_mode(model):
        gradient = _direction(model, x, y, loss).flatten(1)
    flat = x.detach().flatten(1)
    # Scaled by its largest entry first: a confident model's gradient may be too small to square.
    gradient = gradient / gradient.abs().amax(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    length = flat.norm(dim=1, keepdim=True)
    along = flat / length.clamp_min(torch.finfo(x.dtype).tiny)
    across = gradient - (gradient * along).sum(1, keepdim=True) * along
    # Of a gradient along x only rounding is left, which points anywhere.
    rounding = 4 * torch.finfo(x.dtype).eps * gradient.norm(dim=1, keepdim=True)
    usable = across.norm(dim=1, keepdim=True) > rounding
    # Once more: rounding leaves a part along x, which counts where little else is left.
    across = across - (across * along).sum(1, keepdim=True) * along
    across = across / across.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    turned = length * (float(turn.cos()) * along + float(turn.sin()) * across)
    turned = torch.where(usable & (length > 0), turned, flat).reshape(x.shape)
    return turned if box is None else turned.clamp_(*box)
