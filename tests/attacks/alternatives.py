"""The same attacks written in another way. They are right, so the table must accept them.

Only the checks of arguments and the borrowing of the model are those of the library.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from advlearn._validation import (
    check_bounds,
    check_choice,
    check_count,
    check_eps,
    check_images,
    check_label_range,
    check_logits,
    check_number,
)
from advlearn.attacks import KEPT, PIXELS, _check, _check_generator, looks_at_each
from advlearn.context import Model, attack_mode, hand_out
from advlearn.directions import usable
from advlearn.losses import Loss, cross_entropy, margin_loss


def _followed(loss: Loss) -> Loss:
    return margin_loss if loss is cross_entropy else loss


def _clipped(x: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    if bounds is None:
        return x
    low, high = torch.tensor(bounds, dtype=x.dtype, device=x.device)
    return torch.minimum(torch.maximum(x, low), high)


def _logits(model: Model, pixels: Tensor, y: Tensor) -> Tensor:
    logits = hand_out(model, pixels)
    check_logits(logits, y)
    check_label_range(y, logits.shape[1])
    if not logits.requires_grad:
        raise ValueError("model(x) is detached from x")
    return logits


class ThreeCases:
    """FGSM by three cases instead of a sign, and by a backward pass."""

    @staticmethod
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
        _check(model, x, y, loss, bounds)
        step = check_eps(eps, x, bounds)
        with attack_mode(model):
            pixels, y = x.detach().clone().requires_grad_(), y.clone()
            _followed(loss)(_logits(model, pixels, y), y).sum().backward()
            assert pixels.grad is not None
            start, gradient = x.detach(), usable(pixels.grad)
            ahead, back = (start - step, start + step) if targeted else (start + step, start - step)
            moved = torch.where(gradient > 0, ahead, torch.where(gradient < 0, back, start))
            return _clipped(moved, bounds)


class BestIterate:
    """PGD that looks at each iterate before it steps, and notes what is kept example by example."""

    @staticmethod
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
        _check(model, x, y, loss, bounds)
        check_count(steps, "steps")
        check_count(restarts, "restarts")
        _check_generator(generator)
        check_choice(keep, "keep", KEPT)
        if step_size is not None:
            check_number(step_size, "step_size", 0.0, open_low=True)
        if restarts > 1 and not random_start:
            raise ValueError("this repeats the same attempt")
        radius = torch.as_tensor(check_eps(eps, x, bounds), dtype=x.dtype)
        radius = radius.expand(len(x), *[1] * (x.dim() - 1))
        stride = 2.5 * radius / steps if step_size is None else torch.full_like(radius, step_size)
        with attack_mode(model):
            x, y = x.detach().clone(), y.clone()
            best, harm = x.clone(), torch.full((len(x),), -torch.inf, dtype=torch.float64)
            won = torch.zeros(len(x), dtype=torch.bool)
            for _ in range(restarts):
                rows = (~won).nonzero().squeeze(1)
                if len(rows) == 0:
                    break
                start, labels = x[rows], y[rows]
                delta = torch.zeros_like(start)
                if random_start:
                    delta = radius[rows] * (
                        1 - 2 * torch.rand(start.shape, generator=generator, dtype=x.dtype)
                    )
                for step in range(steps + 1):
                    pixels = _clipped(start + delta, bounds).requires_grad_()
                    if keep == "last" and restarts == 1 and step == steps:
                        return pixels.detach()
                    logits = _logits(model, pixels, labels)
                    if keep == "first" and step == 0 and not looks_at_each(model, pixels.detach()):
                        keep = "best"
                    value = _followed(loss)(logits, labels)
                    value = -value if targeted else value
                    hit = logits.argmax(1) == labels
                    success = hit if targeted else ~hit
                    asked = step == steps or keep == "best"
                    for row, (own_row, good) in enumerate(zip(rows.tolist(), success, strict=True)):
                        if not (asked or (keep == "first" and good)):
                            continue
                        with torch.no_grad():
                            one = logits[row : row + 1].detach()
                            reached = _followed(loss)(one, labels[row : row + 1]).detach()
                        rank = (bool(good), float(-reached if targeted else reached))
                        if rank >= (bool(won[own_row]), float(harm[own_row])):
                            best[own_row] = pixels.detach()[row]
                            won[own_row], harm[own_row] = rank
                    if step < steps:
                        (gradient,) = torch.autograd.grad(value.sum(), pixels)
                        moved = pixels.detach() + stride[rows] * usable(gradient).sign() - start
                        delta = torch.minimum(torch.maximum(moved, -radius[rows]), radius[rows])
                    if keep == "first" and step < steps:
                        rows, labels, start = rows[~success], labels[~success], start[~success]
                        delta = delta[~success]
                        if not len(rows):
                            break
        return best


class Angles:
    """Noise from a shifted uniform, and turning by a sum of two vectors of known angle."""

    @staticmethod
    def noise(
        x: Tensor,
        eps: float | Tensor,
        *,
        kind: str = "uniform",
        generator: Generator | None = None,
        bounds: tuple[float, float] | None = PIXELS,
    ) -> Tensor:
        check_images(x, check_bounds(bounds))
        _check_generator(generator)
        step = check_eps(eps, x, bounds)
        if check_choice(kind, "kind", ("uniform", "sign")) == "sign":
            drawn = torch.randint(0, 2, x.shape, generator=generator).to(x.dtype)
        else:
            drawn = torch.rand(x.shape, generator=generator, dtype=x.dtype)
        start = x.detach()
        return _clipped(start - step + 2 * step * drawn, bounds)

    @staticmethod
    def rotate(
        model: Model,
        x: Tensor,
        y: Tensor,
        angle: float,
        *,
        loss: Loss = cross_entropy,
        bounds: tuple[float, float] | None = None,
    ) -> Tensor:
        _check(model, x, y, loss, bounds)
        turn = torch.tensor(check_number(angle, "angle", 0.0, torch.pi / 2), dtype=torch.float64)
        with attack_mode(model):
            pixels, y = x.detach().clone().requires_grad_(), y.clone()
            total = _followed(loss)(_logits(model, pixels, y), y).sum()
            gradient = usable(*torch.autograd.grad(total, pixels))
        flat, gradient = x.detach().double().flatten(1), gradient.double().flatten(1)
        # x sin(b) + g sin(a) has the angle a to x, where b is the angle from there to g.
        between = torch.arccos(F.cosine_similarity(flat, gradient, dim=1, eps=0).clamp(-1, 1))
        across = F.normalize(gradient, dim=1, eps=0) * torch.sin(turn)
        mixed = across + F.normalize(flat, dim=1, eps=0) * torch.sin(between - turn).unsqueeze(1)
        turned = F.normalize(mixed, dim=1, eps=0) * flat.norm(dim=1, keepdim=True)
        apart = (between.sin() > 10 * torch.finfo(x.dtype).eps).unsqueeze(1)
        turned = torch.where(apart & turned.isfinite(), turned, flat)
        return _clipped(turned.to(x.dtype).reshape(x.shape), bounds)
