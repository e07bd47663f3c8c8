"""Losses, one value for each example; the caller averages or sums.

Attacks maximise these, training minimises their mean. All of them are built on `softplus`, so
that their gradients keep the right direction for examples of which the model is confident.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advlearn._validation import check_bounds, check_eps, check_label_range, check_number
from advlearn.functional import softplus

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, K), labels (N,)) -> one loss for each example (N,), or their sum or mean."""


def margin_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return how far the other classes are ahead: log(sum over k != y of exp(z_k)) - z_y.

    Negative when the model is right with probability over 1/2, and then minus the log-odds of the
    true class. In its gradient with respect to the logits the entry of the true class is -1, and
    those of the others are their softmax, which adds up to 1. So it does not vanish, and an attack
    on it keeps a direction at any confidence.

    Args:
        logits: (N, K), K >= 2, any real values, not probabilities.
        y: (N,) int64 labels in [0, K).

    Returns:
        (N,), in float32 at least.

    Raises:
        ValueError: a label is outside [0, K).

    Example:
        >>> margin_loss(torch.tensor([[0.0, 3.0]]), torch.tensor([1]))
        tensor([-3.])
    """
    check_label_range(y, logits.shape[1])
    others = other_logits(logits, y)
    true = logits.gather(1, y.unsqueeze(1)).squeeze(1)
    return others.logsumexp(1) - true.to(others.dtype)


def hard_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return how far the best other class is ahead: (largest z_k over k != y) - z_y.

    Below 0 exactly where the model is right, whatever the number of classes. The sign of its
    gradient does not depend on the scale of the logits: multiplied by 10,000 or divided, a model is
    attacked in the same direction.

    Args:
        logits: (N, K), K >= 2.
        y: (N,) int64 labels in [0, K).

    Returns:
        (N,), in float32 at least.

    Example:
        >>> hard_margin(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
        tensor([-1.])
    """
    others = other_logits(logits, y)
    return others.amax(1) - logits.gather(1, y.unsqueeze(1)).squeeze(1).to(others.dtype)


def other_logits(logits: Tensor, y: Tensor) -> Tensor:
    """Return all logits (N, K), in float32 at least, with -inf at the class of the label.

    Example:
        >>> other_logits(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
        tensor([[1., -inf, 2.]])
    """
    # Half precision has too few digits for a difference of logits.
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits.scatter(1, y.unsqueeze(1), -torch.inf)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return -log softmax(z)_y, written as softplus(log(sum over k != y of exp(z_k)) - z_y).

    The value is that of `float32_cross_entropy`. The gradient is better: that form computes
    softmax(z)_y - 1, which float32 rounds to 0 once z_y is about 16.6 ahead, and then the true
    class drops out of the input gradient. Here the factor is sigmoid(margin), which is exact until
    it underflows, about 103 ahead. `margin_loss` has no such end.

    Args:
        logits: (N, K), K >= 2, any real values, not probabilities.
        y: (N,) int64 labels in [0, K).

    Returns:
        (N,), >= 0, in nats.

    Raises:
        ValueError: a label is outside [0, K).

    Example:
        >>> cross_entropy(torch.tensor([[0.0, 0.0], [0.0, 30.0]]), torch.tensor([0, 1]))
        tensor([6.9315e-01, 9.3576e-14])
    """
    return softplus(margin_loss(logits, y))


def float32_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return -log softmax(z)_y as most code computes it, with what float32 loses.

    For comparison, not for use: where the model is confident, an attack that follows this loss
    goes astray. Its gradient by the true logit is softmax(z)_y - 1, and float32 rounds softmax(z)_y
    to 1 once z_y is about 16.6 ahead. The true class then drops out of the gradient, FGSM takes
    wrong steps, and finds fewer errors than there are. `cross_entropy` has the same value and
    keeps the gradient.

    Args:
        logits: (N, K), K >= 2, any real values; they are taken in float32.
        y: (N,) int64 labels in [0, K).

    Returns:
        (N,), float32, >= 0, in nats; 0 where z_y is about 16.6 ahead.

    Raises:
        ValueError: a label is outside [0, K).

    Example:
        >>> logits, y = torch.tensor([[0.0, 20.0]]), torch.tensor([1])
        >>> logit_gradient(float32_cross_entropy, logits, y)
        tensor([[2.0612e-09, 0.0000e+00]])
        >>> logit_gradient(cross_entropy, logits, y)
        tensor([[ 2.0612e-09, -2.0612e-09]])
    """
    check_label_range(y, logits.shape[1])
    return torch.nn.functional.cross_entropy(logits.float(), y, reduction="none")


def logit_gradient(loss: Loss, logits: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of a loss with respect to the logits, example by example.

    For `margin_loss` it is the softmax over the other classes, with -1 at the true class; for
    `cross_entropy` that times sigmoid(margin). Both are computed by these formulas, which takes a
    third of autograd's time; any other loss is left to autograd.

    Args:
        loss: one value for each example, or their sum.
        logits: (N, K), K >= 2.
        y: (N,) int64 labels in [0, K).

    Returns:
        (N, K), of the logits' dtype, detached.

    Raises:
        ValueError: a label is outside [0, K), or the loss does not depend on the logits in a way
            that has a gradient.

    Example:
        >>> logit_gradient(margin_loss, torch.tensor([[0.0, 5.0, 0.0]]), torch.tensor([1]))
        tensor([[ 0.5000, -1.0000,  0.5000]])
    """
    check_label_range(y, logits.shape[1])
    if loss not in (margin_loss, cross_entropy):
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            # Copies: a loss may write into what it is given, and autograd takes no labels that were
            # made in inference mode.
            value = loss(leaf.clone(), y.clone())
            gradient = None
            if isinstance(value, Tensor) and value.requires_grad:
                (gradient,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
        if gradient is None:
            raise ValueError(
                "loss(logits, y) has no gradient with respect to the logits. Remove .detach(), "
                "argmax, comparisons and .item() from the loss, or pass margin_loss."
            )
        return gradient
    others = other_logits(logits.detach(), y)
    gradient = others.softmax(1).scatter_(1, y.unsqueeze(1), -1.0)
    if loss is cross_entropy:
        true = logits.detach().gather(1, y.unsqueeze(1)).to(others.dtype)
        margin = others.logsumexp(1, keepdim=True) - true
        # In float64, because float32's vectorised exponential already gives 0 at -88.
        gradient *= margin.double().sigmoid().to(gradient.dtype)
    return gradient.to(logits.dtype)


def _check_signs(y: Tensor) -> None:
    if not bool((y.abs() == 1).all()):
        raise ValueError(
            "y must hold only -1 and +1 here, one sign for each example. "
            "Use 2 * labels - 1 for labels 0 and 1."
        )


def logistic_loss(score: Tensor, y: Tensor) -> Tensor:
    """Return softplus(-y s), the logistic loss of a score s = w'x + b.

    Args:
        score: (N,), any real values.
        y: (N,), each -1 or +1.

    Returns:
        (N,), >= 0, in nats.

    Raises:
        ValueError: `y` holds another value than -1 and +1.

    Source:
        Section 5 of the paper.

    Example:
        >>> logistic_loss(torch.tensor([0.0, 2.0]), torch.tensor([1.0, -1.0]))
        tensor([0.6931, 2.1269])
    """
    _check_signs(y)
    return softplus(-y * score)


def adversarial_logistic_loss(
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Return the largest logistic loss in the eps-box around x, in closed form, without an attack.

    Unclipped: softplus(eps ‖w‖₁ - y (w'x + b)). The paper prints the formula for y = +1 only; this
    one holds for both classes. With `bounds`, pixel i can move up by u_i = min(eps, high - x_i)
    and down by d_i = min(eps, x_i - low), and eps ‖w‖₁ becomes the sum of |w_i| times the room in
    the harmful direction.

    Args:
        weight: (d,), the weights w.
        bias: a scalar tensor b.
        x: (N, d).
        y: (N,), each -1 or +1.
        eps: the half-width of the box in pixel units, >= 0: a number, (N,), or shaped to broadcast
            against x, such as (1, d).
        bounds: (low, high) of a pixel, or None for the unclipped setting of the paper.

    Returns:
        (N,), in nats. It is differentiable in `weight` and `bias`: training on it is adversarial
        training.

    Raises:
        TypeError, ValueError: `eps`, `bounds` or `y` is out of its range.

    Source:
        Section 5 of the paper, with the sign of the margin put right.

    Example:
        >>> w, b = torch.tensor([1.0, -2.0]), torch.tensor(0.0)
        >>> adversarial_logistic_loss(w, b, torch.zeros(1, 2), torch.ones(1), 0.5)
        tensor([1.7014])
    """
    box = check_bounds(bounds)
    step = check_eps(eps, x, box)
    _check_signs(y)
    score = x @ weight + bias
    if box is None:
        each = weight.abs()
        many = isinstance(step, Tensor) and step.dim() > 0
        room = (each * step).sum(1) if many else each.sum() * step
    else:
        harmful = -y.unsqueeze(1) * weight  # (N, d): the direction of growing loss
        up = (box[1] - x).clamp(min=0).clamp(max=step)
        down = (x - box[0]).clamp(min=0).clamp(max=step)
        room = (harmful.abs() * torch.where(harmful > 0, up, down)).sum(1)
    return softplus(room - y * score)


def l1_penalty(weight: Tensor, coefficient: float) -> Tensor:
    """Return coefficient * ‖w‖₁, the L1 weight decay that is added outside the loss.

    It never fades. The adversarial term eps ‖w‖₁ sits inside the softplus, so it fades once the
    margins are large: the paper's point in comparing the two.

    Args:
        weight: any shape.
        coefficient: lambda >= 0.

    Returns:
        A scalar tensor.

    Raises:
        TypeError, ValueError: `coefficient` is not a finite number >= 0.

    Source:
        Section 5 of the paper.

    Example:
        >>> l1_penalty(torch.tensor([1.0, -2.0]), 0.5)
        tensor(1.5000)
    """
    return check_number(coefficient, "coefficient", low=0.0) * weight.abs().sum()
