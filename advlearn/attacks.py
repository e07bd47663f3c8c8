"""Attacks: from images to adversarial images.

An attack here is a pure function. It never changes its input, the model, a gradient or (without a
random start) the random state, and it returns a new tensor. `eps` is in pixel units: the largest
change of one pixel. Images keep their own scale; normalisation belongs into the model
(`advlearn.models.Normalize`), else eps would mean something else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, ParamSpec

import torch
from torch import Generator, Tensor, nn

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
    part_of_a_whole,
)
from advlearn.batches import taken
from advlearn.context import Model, Passing, answer, attack_mode, checked_answer, hand_out
from advlearn.directions import usable
from advlearn.losses import Loss, cross_entropy, logit_gradient, margin_loss
from advlearn.passes import count_passes


class Bounds(NamedTuple):
    """The lowest and the highest value that a pixel can take."""

    low: float = 0.0
    high: float = 1.0


PIXELS = Bounds(0.0, 1.0)

DETACHED = (
    "model(x) is detached from x, so it has no gradient there. Remove .detach(), torch.no_grad() "
    "and NumPy from the model's forward, or from the function around it."
)
"""What is said of a model whose logits have no gradient with respect to the images."""

P = ParamSpec("P")

KEPT = ("best", "first", "last")
"""Which iterate of each example `pgd` may keep."""


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
    scaled, alpha = (direction.mul_(step), 1.0) if isinstance(step, Tensor) else (direction, step)
    moved = torch.add(x, scaled, alpha=alpha)
    if moved.stride() != x.stride():  # a sum chooses its layout anew for images of one channel
        moved = torch.empty_like(x).copy_(moved)
    return moved if box is None else moved.clamp_(*box)


def _followed(loss: Loss) -> Loss:
    """Return the loss that an attack works with: the margin instead of cross-entropy.

    Cross-entropy grows with the margin, so both order images alike and their gradients have one
    direction. The margin does not underflow where the model is confident, and costs less.
    """
    return margin_loss if loss is cross_entropy else loss


def _direction(model: Model, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return a positive multiple, for each example, of the loss's gradient at x; and the logits."""
    gradient, logits = gradient_at(model, x, y, _followed(loss))
    return usable(gradient), logits


def gradient_at(model: Model, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return the loss's gradient at x and the logits there, detached.

    `attack_mode` is on and the arguments are checked.
    """
    # A leaf of its own, on x's memory: x's .grad is never touched. (A tensor made in inference mode
    # cannot be differentiated; a copy made here can.)
    pixels = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
    count_passes(len(x), len(x))
    logits = logits_of(hand_out(model, pixels))
    check_logits(logits, y)
    with _borrowed(loss):
        by_logits = logit_gradient(loss, logits, y)
    # The chain rule in two parts: by the logits first, then from the logits back to the pixels.
    # Each example's gradient is its own, whatever else is in the batch. Logits that do not depend
    # on the pixels may still depend on something else that has a gradient.
    gradient = None
    if logits.requires_grad:
        (gradient,) = torch.autograd.grad(logits, pixels, by_logits, allow_unused=True)
    if gradient is None:
        raise ValueError(DETACHED)
    if gradient.layout is not torch.strided:  # of an embedding, say
        gradient = gradient.to_dense()
    # A copy: a model may give one and the same tensor each time, with another content.
    return gradient, logits.detach().clone()


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
        return usable(gradient_at(model, x, y, loss)[0])


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

    One gradient, one step of eps in every pixel. For a linear model with two classes it is the
    worst change. With more classes, or a deep model, it gives a lower bound on the damage, so
    report `pgd` beside it.

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
        direction, _ = _direction(model, x, y, loss)
        return _step(x.detach(), direction, step, targeted, box)


def _counted_with(**options: Any) -> Callable[[Callable[P, Tensor]], Callable[P, Tensor]]:
    """Note the options with which an attack shows in less work how many examples it fools."""

    def mark(attack: Callable[P, Tensor]) -> Callable[P, Tensor]:
        attack.__dict__["counted_with"] = options
        return attack

    return mark


@_counted_with(keep="first")
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
    keep: str = "best",
    loss: Loss = cross_entropy,
    targeted: bool = False,
    bounds: tuple[float, float] | None = PIXELS,
) -> Tensor:
    """Return adversarial images of projected gradient descent: many small FGSM steps in the ball.

    x_0 = x + U(-eps, eps); x_(t+1) = project(x_t + step_size * sign(grad at x_t)), where the
    projection clamps to [x - eps, x + eps] and to `bounds`. Of all iterates, x_0 among them, each
    example keeps its best one: one that fools the model before one that does not, then the one of
    the highest loss (lowest, if targeted). A later step may lose again what an earlier one had
    found, and knowing it costs nothing: the pass that gives the gradient gives the logits too.

    Args:
        model, x, y, eps, loss, targeted, bounds: as for `fgsm`.
        steps: gradient steps for each attempt, >= 1.
        step_size: in pixel units, > 0; None takes 2.5 eps / steps, which can cross the ball.
        random_start: start each attempt at a random point of the ball.
        restarts: how many attempts, >= 1; only examples that still resist are attacked again.
        generator: the source of the random starts; None draws from PyTorch's global one.
        keep: "best"; or "first", the first iterate that fools the model, or else the last: what
            fools leaves the batch, so errors are counted in less time, on weaker images; or "last",
            whatever came before, which a training step takes: it needs one pass less. With
            restarts the two keep the best of what their attempts give. A model that answers
            otherwise when it is asked again (a random defence), or about fewer examples at once, is
            attacked with "best" for "first".

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
    _check_walks(steps, restarts, random_start=random_start, keep=keep)
    _check_generator(generator)
    stride = (
        2.5 * radius / steps
        if step_size is None
        else check_number(step_size, "step_size", low=0.0, open_low=True)
    )
    with attack_mode(model):
        x = x.detach()
        asked = Filled(model, x)
        best, lost = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        # Losses are compared in float32 at least.
        best_loss = x.new_full(
            (len(x),), -torch.inf, dtype=torch.promote_types(x.dtype, torch.float)
        )

        def attempt(rows: Tensor, keep: str) -> None:
            """Walk once from some of the examples, and keep what is better than before."""
            start, labels = taken(x, rows), y[rows]
            own, pace = _rows(radius, rows), _rows(stride, rows)
            low, high = ball(start, own, box)
            # Uniform noise over the ball, then the clamp: it must not shrink the noise elsewhere.
            moved = noise(start, own, generator=generator, bounds=None) if random_start else start
            moved = moved.clamp(low, high)
            for step in range(steps + 1):
                with part_of_a_whole(len(rows), len(x)):
                    if step < steps:
                        direction, logits = _direction(asked, moved, labels, loss)
                    elif keep == "last" and restarts == 1:
                        best[rows] = moved  # with nothing to compare it to, it needs no pass
                        break
                    else:
                        logits = checked_answer(asked, moved, labels)
                if step == 0 and keep == "first" and not looks_at_each(asked, moved):
                    # One lucky draw must not end the attack, nor who else is in the batch.
                    keep = "best"
                fooled = (logits.argmax(1) == labels) == targeted
                left = (~fooled).nonzero().squeeze(1)
                if step == steps or keep == "best":
                    damage = _each(_followed(loss), logits, labels).to(best_loss.dtype)
                    damage = -damage if targeted else damage
                    better = _better(fooled, damage, lost[rows], best_loss[rows])
                    best[rows[better]], best_loss[rows[better]] = moved[better], damage[better]
                    lost[rows[fooled]] = True
                elif keep == "first" and len(left) < len(rows):
                    best[rows[fooled]], lost[rows[fooled]] = moved[fooled], True
                    if not len(left):
                        break
                    rows, labels, direction = rows[left], labels[left], taken(direction, left)
                    moved = taken(moved, left)
                    low, high = taken(low, left), taken(high, left)
                    pace = _rows(pace, left)
                if step < steps:
                    moved = _step(moved, direction, pace, targeted, None).clamp_(low, high)

        for _ in range(restarts):
            if len(rows := (~lost).nonzero().squeeze(1)):
                attempt(rows, keep)
        return best


def _check_walks(steps: int, restarts: int, *, random_start: bool, keep: str) -> None:
    check_count(steps, "steps")
    check_count(restarts, "restarts")
    check_choice(keep, "keep", KEPT)
    if restarts > 1 and not random_start:
        raise ValueError(
            f"restarts = {restarts} without random_start repeats the same attempt. "
            "Pass random_start=True or restarts=1."
        )


def square(
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    queries: int = 1000,
    share: float = 0.8,
    start: Tensor | None = None,
    generator: Generator | None = None,
    loss: Loss = margin_loss,
    targeted: bool = False,
    bounds: tuple[float, float] | None = PIXELS,
) -> Tensor:
    """Return adversarial images of the Square attack: a random search that needs no gradient.

    It starts from vertical stripes of x +- eps. At each step a square at a random place is set to
    x + eps or x - eps, one sign for each channel, and kept if the loss rises. The squares cover
    `share` of the image at first and shrink as the search goes on. The sign is not drawn, as in the
    source, but opposite to that of a random pixel of the square, so that no query is the same image
    again. An example that fools the model leaves the
    batch. What a model's gradient hides, a search like this finds: a robust model loses no more to
    it than to `pgd`.

    Args:
        model: maps (N, ...) to logits (N, K). It need not be differentiable.
        x, y, eps, targeted, bounds: as for `fgsm`. Images (N, C, H, W) or (N, H, W); of anything
            else, (N, ...), the values are taken as one row, and the squares are segments of it.
        queries: forward passes for each example, >= 2, that of x itself and the start among them.
        share: of the pixels that the first squares cover, in (0, 1].
        start: images to begin with in place of the stripes, of x's shape, such as those of `pgd`;
            what is outside the ball or the bounds is clamped to them.
        generator: the source of the random choices; None draws from PyTorch's global one.
        loss: what to raise (or with `targeted` to lower), one value for each example.

    Returns:
        A new detached tensor of x's shape, dtype and device, in the ball of `fgsm`: the best image
        that was found, or x itself where nothing was better.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Source:
        Andriushchenko et al., "Square attack: a query-efficient black-box adversarial attack via
        random search", ECCV 2020.

    Example:
        >>> rounded = lambda x: (10 * x).round()  # its gradient is zero everywhere
        >>> x, y = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> square(rounded, x, y, eps=0.25, generator=torch.Generator().manual_seed(0))
        tensor([[0.3500, 0.5000]])
    """
    box = _check(model, x, y, loss, bounds)
    radius = check_eps(eps, x, box)
    check_count(queries, "queries", least=2)
    check_number(share, "share", 0.0, 1.0, open_low=True)
    _check_generator(generator)
    if start is not None:
        check_images(start, None, "start")
        if start.shape != x.shape:
            raise ValueError(
                f"start must have x's shape {tuple(x.shape)}, got {tuple(start.shape)}."
            )
    with attack_mode(model, backward=False), torch.no_grad():
        search = SquareSearch(
            Filled(model, x.detach()),
            x.detach(),
            y,
            radius,
            bounds=box,
            loss=loss,
            targeted=targeted,
            generator=generator,
        )
        search.ask(search.left(), search.best)
        rows = search.left()
        first = search.stripes(rows) if start is None else search.inside(rows, start.detach()[rows])
        search.ask(rows, first)
        for query in range(2, queries):
            rows = search.left()
            if not len(rows):
                break
            search.ask(rows, search.with_square(rows, square_share(share, query / queries)))
        return search.best


def square_share(share: float, done: float) -> float:
    """Return what part of the image a square covers: halved ever more rarely, as published."""
    halvings = sum(done > end / 10_000 for end in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
    return float(share / 2**halvings)


class SquareSearch:
    """The best images of a random search so far. `attack_mode` is on, and gradients are off."""

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        eps: float | Tensor,
        *,
        bounds: tuple[float, float] | None,
        loss: Loss,
        targeted: bool = False,
        generator: Generator | None = None,
    ) -> None:
        self.model, self.y, self.loss, self.targeted = model, y, loss, targeted
        self.generator = generator
        self.low, self.high = ball(x, eps, bounds)
        self.best = x.clone()
        wide = torch.promote_types(x.dtype, torch.float)
        self.damage = torch.full((len(x),), -torch.inf, dtype=wide, device=x.device)
        self.lost = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        # What a square is in: (C, H, W).
        images = {3: (1, *x.shape[1:]), 4: tuple(x.shape[1:])}
        self.shape = images.get(x.dim(), (1, 1, x[0].numel()))

    def left(self) -> Tensor:
        """Return which examples still resist."""
        return (~self.lost).nonzero().squeeze(1)

    def ask(self, rows: Tensor, images: Tensor) -> None:
        """Pass images on to the model, and keep those that are better."""
        if not len(rows):
            return
        labels = self.y[rows]
        with part_of_a_whole(len(rows), len(self.y)):
            logits = checked_answer(self.model, images, labels)
        damage = _each(self.loss, logits, labels).to(self.damage.dtype)
        damage = -damage if self.targeted else damage
        fooled = (logits.argmax(1) == labels) == self.targeted
        better = fooled | (damage > self.damage[rows])
        self.best[rows[better]] = images[better]
        self.damage[rows[better]] = damage[better]
        self.lost[rows[fooled]] = True

    def inside(self, rows: Tensor, images: Tensor) -> Tensor:
        """Return images, clamped to the ball and the bounds of some examples."""
        images = images.to(self.low.dtype)
        return torch.minimum(torch.maximum(images, self.low[rows]), self.high[rows])

    def stripes(self, rows: Tensor) -> Tensor:
        """Return images at the ends of the ball, the same along each column."""
        channels, _, width = self.shape
        up = (self._draw(len(rows), channels, 1, width) < 0.5).expand(-1, *self.shape)
        low, high = self.low[rows], self.high[rows]
        return torch.where(up.reshape(low.shape), high, low)

    def with_square(self, rows: Tensor, share: float) -> Tensor:
        """Return the best images with a square of each set to an end of the ball.

        To which end, channel by channel, a random pixel of the square decides: the one from which
        it is further. A square that is at one end already would else be set to it again, and the
        query be lost.
        """
        channels, height, width = self.shape
        flat = height == 1
        area = share * height * width
        side = max(1, round(area if flat else area**0.5))
        tall, wide = min(side, height), min(side, width)
        top, left = self._place(len(rows), height - tall), self._place(len(rows), width - wide)
        row = (top + self._place(len(rows), tall - 1)).view(-1, 1)
        column = (left + self._place(len(rows), wide - 1)).view(-1, 1)
        low, high, best = (
            part[rows].reshape(-1, channels, height * width)
            for part in (self.low, self.high, self.best)
        )
        at = (row * width + column).unsqueeze(1).expand(-1, channels, 1)
        up = 2 * best.gather(2, at) < low.gather(2, at) + high.gather(2, at)
        down = torch.arange(height, device=rows.device).view(1, 1, -1, 1) - top
        across = torch.arange(width, device=rows.device).view(1, 1, 1, -1) - left
        inside = ((down >= 0) & (down < tall)) & ((across >= 0) & (across < wide))
        moved = torch.where(inside.flatten(2), torch.where(up, high, low), best)
        return moved.view(len(rows), *self.best.shape[1:])

    def _place(self, count: int, last: int) -> Tensor:
        """Draw whole numbers from 0 to `last`."""
        return (self._draw(count, 1, 1, 1) * (last + 1)).long().clamp_max(last)

    def _draw(self, *shape: int) -> Tensor:
        # On the generator's device, as for `noise`: the same choices everywhere.
        source = self.low.device if self.generator is None else self.generator.device
        return torch.rand(shape, generator=self.generator, device=source).to(self.low.device)


def ball(x: Tensor, eps: float | Tensor, box: tuple[float, float] | None) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest value of each pixel within eps and the bounds."""
    if box is None:
        return x - eps, x + eps
    return (x - eps).clamp_(min=box[0]), (x + eps).clamp_(max=box[1])


def _rows(value: float | Tensor, rows: Tensor) -> float | Tensor:
    """Return an eps or a step size, which may be one for each example, for some examples."""
    return value[rows] if isinstance(value, Tensor) and value.dim() else value


def _better(fooled: Tensor, damage: Tensor, lost: Tensor, best: Tensor) -> Tensor:
    """Say of which examples this is the best iterate so far."""
    # What fools beats every loss. Of equal ones the later has gone further.
    return (fooled & ~lost) | ((fooled == lost) & (damage >= best))


class Filled(Passing):
    """A model that is given examples beside the few that are left, where it does not take these.

    An attack goes on with what still resists, and the last one stands alone. A model with
    `squeeze()`, with BatchNorm that keeps no statistics, or exported for batches of one size then
    fails, or gives a single row. What takes every number of examples is called as it is.

    Args:
        model: maps (N, ...) to logits (N, K).
        x: (N, ...), a batch that it takes, and with whose examples smaller ones are filled up.
        least: to how many; it grows where the model wants more.

    Example:
        >>> flat = lambda x: (x @ torch.eye(3)).squeeze()
        >>> flat(torch.zeros(1, 3)).shape, Filled(flat, torch.zeros(4, 3))(torch.zeros(1, 3)).shape
        (torch.Size([3]), torch.Size([1, 3]))
    """

    def __init__(self, model: Model, x: Tensor, least: int = 1) -> None:
        self.model, self.x, self.least = model, x, least

    def __call__(self, images: Tensor) -> Any:
        """Return what the model gives, or the logits of the images alone."""
        while True:
            missing = max(0, min(self.least, len(self.x)) - len(images))
            size = len(images) + missing
            given = torch.cat((images, self.x[:missing].to(images))) if missing else images
            try:
                answer = self.model(given)
            except Exception:
                if size >= len(self.x):
                    raise
            else:
                count_passes(missing, missing if given.requires_grad else 0)
                logits = logits_of(answer)
                rows = len(logits) if isinstance(logits, Tensor) and logits.dim() == 2 else 0
                if rows == size or size >= len(self.x):
                    return logits[: len(images)] if missing else answer
            self.least = 2 if size == 1 else len(self.x)


def looks_at_each(model: Model, x: Tensor, count: int = 16) -> bool:
    """Say whether the logits of an example are its own, whatever else is in the batch.

    Not so with a random defence, with BatchNorm that keeps no running statistics, and in a model
    that was exported for batches of one size. A few of the examples show it.

    Example:
        >>> looks_at_each(lambda x: x - x.mean(0), torch.rand(4, 2))
        False
    """
    some = x[:count]
    half = some[: (len(some) + 1) // 2]

    def asked(part: Tensor) -> Tensor:
        logits: Tensor = answer(model, part)
        return logits.float()

    with attack_mode(model, backward=False), torch.no_grad():
        try:
            once, again, fewer = asked(some), asked(some), asked(half)
        except Exception:
            asked(x)  # what fails on the whole batch, too, is no matter of its size
            return False
    if fewer.shape != once[: len(half)].shape:
        return False
    # Products of another size are rounded otherwise, coarsely in half precision.
    slack = 0.02 * float(once.abs().max())
    return once.equal(again) and torch.allclose(once[: len(half)], fewer, rtol=0.0, atol=slack)


@torch.no_grad()
def _each(loss: Loss, logits: Tensor, y: Tensor) -> Tensor:
    """Return one value for each example, (N,), also of a loss that gives their sum or mean."""
    with _borrowed(loss):
        value: object = loss(logits.clone(), y.clone())  # it may write into what it is given
        if not isinstance(value, Tensor):
            raise TypeError(
                f"loss must return a tensor, one value for each example or their sum, got "
                f"{type(value).__name__} {value!r:.60}. Leave out .item() and float()."
            )
        if value.shape == y.shape:
            return value
        pairs = zip(logits.split(1), y.split(1), strict=True)
        return torch.stack([loss(row.clone(), label.clone()).sum() for row, label in pairs])


def _borrowed(loss: Loss) -> AbstractContextManager[None]:
    """Return `attack_mode` for a loss with layers of its own, and nothing for a function."""
    return attack_mode(loss) if isinstance(loss, nn.Module) else nullcontext()


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
        gradient = _direction(model, x, y, loss)[0].flatten(1)
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
