"""What is measured about a model, always with an interval that says how certain it is.

Every rate is over *all* examples of the data set, also those that the model got wrong before the
attack, and carries a 95 % Wilson interval. Work is done in batches, with the model in eval mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advlearn._validation import (
    check_bounds,
    check_callable,
    check_count,
    check_eps,
    check_images,
    check_label_range,
    check_labels,
    check_logits,
    check_pair,
)
from advlearn.attacks import PIXELS, fgsm, input_gradient, linear_step
from advlearn.context import Model, attack_mode
from advlearn.losses import Loss, cross_entropy
from advlearn.models import probabilities

Data = tuple[Tensor, Tensor]
"""Images (N, ...) and labels (N,): an `advlearn.data.Dataset` or any such pair."""

BATCH = 1000


@dataclass(frozen=True)
class Rate:
    """A share of examples: `count` of `total`, with its 95 % Wilson interval.

    The Wilson interval (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96 stays
    inside [0, 1] and is honest at 0 % and 100 %, where p ± z sqrt(p(1-p)/n) has length 0.

    Example:
        >>> print(Rate(16, 1000))
        1.6 % (1.0-2.6)
        >>> float(Rate(1, 4))
        0.25
    """

    count: int
    total: int

    @classmethod
    def of(cls, mask: Tensor) -> Rate:
        """Return the share of the examples for which a boolean tensor is true.

        Args:
            mask: booleans, one for each example, any shape.

        Example:
            >>> Rate.of(torch.tensor([True, False, False, True]))
            Rate(count=2, total=4)
        """
        return cls(int(mask.sum()), mask.numel())

    def __float__(self) -> float:
        """Return the share, in [0, 1]; NaN when there were no examples."""
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % Wilson interval, in [0, 1]."""
        if not self.total:
            return 0.0, 1.0
        z, n, share = 1.959964, self.total, self.count / self.total
        centre = share + z * z / (2 * n)
        half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)

    def __str__(self) -> str:
        if not self.total:
            return "no examples"
        low, high = self.interval
        return f"{100 * float(self):.1f} % ({100 * low:.1f}-{100 * high:.1f})"


class Confidence(NamedTuple):
    """The mean probability of the predicted class: over the mistakes, and over all examples."""

    on_errors: float  # NaN when there are no mistakes
    on_all: float
    errors: Rate


class ErrorCurve(NamedTuple):
    """Errors and confidence as eps grows; one entry for each eps."""

    eps: tuple[float, ...]
    errors: tuple[Rate, ...]
    confidence_on_errors: tuple[float, ...]
    confidence_on_all: tuple[float, ...]


class TransferMatrix(NamedTuple):
    """errors[i][j]: the error of model j on examples crafted on model i, both in `names`."""

    names: tuple[str, ...]
    errors: tuple[tuple[Rate, ...], ...]


def _check_data(model: Model, data: Data) -> Data:
    check_callable(model, "model")
    x, y = check_pair(data)
    check_images(x, None)
    check_labels(y, len(x))
    return x, y


def _batches(x: Tensor, y: Tensor, size: int) -> Iterator[Data]:
    check_count(size, "batch_size")
    return zip(torch.split(x, size), torch.split(y, size), strict=True)


def predict(model: Model, data: Data, *, batch_size: int = BATCH) -> Tensor:
    """Return the logits (N, K) of every image, computed in batches, in eval mode.

    Args:
        model: maps (N, ...) to logits (N, K); given back as it was.
        data: images and labels; the labels are only checked.
        batch_size: images at a time, >= 1.

    Raises:
        TypeError, ValueError: the data, the labels or the logits are not what they should be.

    Example:
        >>> from advlearn.models import SoftmaxRegression
        >>> predict(SoftmaxRegression(4, 3), (torch.rand(5, 4), torch.arange(5) % 3)).shape
        torch.Size([5, 3])
    """
    x, y = _check_data(model, data)
    logits = []
    with attack_mode(model), torch.no_grad():
        for images, labels in _batches(x, y, batch_size):
            logits.append(model(images))
            check_logits(logits[-1], labels)
            check_label_range(labels, logits[-1].shape[1])
    return torch.cat(logits)


def _confidence(model: Model, logits: Tensor, y: Tensor) -> Confidence:
    wrong = logits.argmax(1) != y
    # The probability of the class that is predicted, which need not be the largest probability's
    # class if a model's probabilities are odd: gather, not max.
    chosen = probabilities(model, logits.float()).gather(1, logits.argmax(1, keepdim=True))
    chosen = chosen.squeeze(1).double()
    on_errors = float(chosen[wrong].mean()) if bool(wrong.any()) else math.nan
    return Confidence(on_errors, float(chosen.mean()), Rate.of(wrong))


def error_rate(model: Model, data: Data, *, batch_size: int = BATCH) -> Rate:
    """Return the share of examples whose largest logit is not the label's.

    Args:
        model, data, batch_size: as for `predict`.

    Raises:
        TypeError, ValueError: as for `predict`.

    Example:
        >>> model = torch.nn.Identity()
        >>> logits = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
        >>> print(error_rate(model, (logits, torch.tensor([0, 0]))))
        50.0 % (9.5-90.5)
    """
    return Rate.of(predict(model, data, batch_size=batch_size).argmax(1) != data[1])


def craft(
    model: Model,
    data: Data,
    eps: float,
    *,
    attack: Callable[..., Tensor] = fgsm,
    batch_size: int = BATCH,
    **options: Any,
) -> Tensor:
    """Return `attack(model, x, y, eps, **options)` for a whole data set, in batches.

    Args:
        model, data, batch_size: as for `predict`.
        eps: in pixel units.
        attack: `fgsm`, `pgd` or a function with the same arguments.
        **options: passed on to the attack, such as `bounds=None` or `steps=40`.

    Returns:
        Adversarial images of x's shape.

    Example:
        >>> from advlearn.models import SoftmaxRegression
        >>> craft(SoftmaxRegression(4, 3), (torch.rand(5, 4), torch.arange(5) % 3), 0.1).shape
        torch.Size([5, 4])
    """
    x, y = _check_data(model, data)
    parts = [attack(model, a, b, eps, **options) for a, b in _batches(x, y, batch_size)]
    return torch.cat(parts)


def adversarial_error_rate(
    model: Model,
    data: Data,
    eps: float,
    *,
    attack: Callable[..., Tensor] = fgsm,
    source: Model | None = None,
    batch_size: int = BATCH,
    **options: Any,
) -> Rate:
    """Return the error rate of `model` on adversarial examples, over all examples.

    Args:
        model: the model that classifies.
        data, batch_size: as for `predict`.
        eps: in pixel units.
        attack: `fgsm`, `pgd` or a function with the same arguments.
        source: the model that the examples are crafted on, for transfer; None means `model`.
        **options: passed on to the attack.

    Raises:
        TypeError, ValueError: from the attack and from `predict`.

    Example:
        >>> model = torch.nn.Identity()
        >>> data = (torch.tensor([[0.6, 0.5], [0.9, 0.1]]), torch.tensor([0, 0]))
        >>> print(adversarial_error_rate(model, data, 0.25))
        50.0 % (9.5-90.5)
    """
    crafted = craft(
        model if source is None else source,
        data,
        eps,
        attack=attack,
        batch_size=batch_size,
        **options,
    )
    return error_rate(model, (crafted, data[1]), batch_size=batch_size)


def confidence_on_errors(model: Model, data: Data, *, batch_size: int = BATCH) -> Confidence:
    """Return the mean probability of the predicted class, over the mistakes and over all.

    The paper's "confidence" is the first; summaries often give the second under that name.

    Args:
        model, data, batch_size: as for `predict`; pass adversarial images to measure an attack.

    Example:
        >>> logits = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
        >>> result = confidence_on_errors(torch.nn.Identity(), (logits, torch.tensor([0, 0])))
        >>> round(result.on_errors, 3), round(result.on_all, 3)
        (0.731, 0.842)
    """
    return _confidence(model, predict(model, data, batch_size=batch_size), data[1])


def error_curve(
    model: Model,
    data: Data,
    eps: Sequence[float],
    *,
    loss: Loss = cross_entropy,
    bounds: tuple[float, float] | None = PIXELS,
    batch_size: int = BATCH,
) -> ErrorCurve:
    """Return FGSM's error and confidence for each eps, at the price of one gradient.

    Args:
        model, data, batch_size: as for `predict`.
        eps: values in pixel units, each >= 0.
        loss, bounds: as for `advlearn.attacks.fgsm`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Example:
        >>> data = (torch.tensor([[0.6, 0.5], [0.9, 0.1]]), torch.tensor([0, 0]))
        >>> [rate.count for rate in error_curve(torch.nn.Identity(), data, [0, 0.25, 0.5]).errors]
        [0, 1, 2]
    """
    x, y = _check_data(model, data)
    box = check_bounds(bounds)
    check_images(x, box)
    steps = [check_eps(value, x[:1], box, f"eps[{i}]") for i, value in enumerate(eps)]
    if not steps:
        raise ValueError("eps is empty. Pass at least one value.")
    logits: list[list[Tensor]] = [[] for _ in steps]
    for images, labels in _batches(x, y, batch_size):
        gradient = input_gradient(model, images, labels, loss=loss)
        for kept, step in zip(logits, steps, strict=True):
            moved = linear_step(images, gradient, step, bounds=box)
            kept.append(predict(model, (moved, labels), batch_size=batch_size))
    rows = [_confidence(model, torch.cat(kept), y) for kept in logits]
    return ErrorCurve(
        tuple(float(value) for value in eps),
        tuple(row.errors for row in rows),
        tuple(row.on_errors for row in rows),
        tuple(row.on_all for row in rows),
    )


def logits_along(
    model: Model, x: Tensor, direction: Tensor, eps: Sequence[float] | Tensor
) -> Tensor:
    """Return the logits at x + eps * direction for each eps, unclipped: a walk through input space.

    Args:
        model: maps (N, ...) to logits (N, K).
        x: one image with its batch dimension, (1, ...).
        direction: x's shape, for example the sign of the gradient.
        eps: E values of either sign.

    Returns:
        (E, K).

    Raises:
        ValueError: x is not one example, or the shapes differ.

    Source:
        Figure 4 of the paper.

    Example:
        >>> logits_along(torch.nn.Identity(), torch.zeros(1, 2), torch.ones(1, 2), [-1.0, 2.0])
        tensor([[-1., -1.],
                [ 2.,  2.]])
    """
    check_images(x, None)
    if x.shape[0] != 1 or direction.shape != x.shape:
        raise ValueError(
            "x must be one example (1, ...) and direction must have its shape, got "
            f"{tuple(x.shape)} and {tuple(direction.shape)}."
        )
    walk = torch.as_tensor(eps, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.dim() - 1))
    points = x + walk * direction
    return predict(model, (points, torch.zeros(len(points), dtype=torch.int64, device=x.device)))


def agreement(first: Model, second: Model, data: Data, *, both_wrong: bool = False) -> Rate:
    """Return how often `second` gives the same wrong class where `first` errs.

    Args:
        first: the model whose mistakes are looked at.
        second: the model that is compared with it.
        data: adversarial images, and the true labels.
        both_wrong: count only examples on which both models err.

    Returns:
        A rate over the mistakes, not over all examples.

    Source:
        Section 8 of the paper.

    Example:
        >>> logits = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
        >>> data = (logits, torch.tensor([0, 0]))
        >>> first, second = torch.nn.Identity(), lambda z: z * torch.tensor([1.0, 1.0, -1.0])
        >>> float(agreement(first, second, data)), float(agreement(first, second, data,
        ...     both_wrong=True))
        (0.5, 1.0)
    """
    y = data[1]
    one, two = predict(first, data).argmax(1), predict(second, data).argmax(1)
    counted = (one != y) & (two != y) if both_wrong else one != y
    return Rate.of((one == two)[counted])


def transfer_matrix(
    models: Mapping[str, Model],
    data: Data,
    eps: float,
    *,
    attack: Callable[..., Tensor] = fgsm,
    **options: Any,
) -> TransferMatrix:
    """Return every model's error on the adversarial examples of every model.

    Args:
        models: name -> model.
        data: clean images and true labels.
        eps: in pixel units.
        attack: as for `adversarial_error_rate`.
        **options: passed on to the attack.

    Example:
        >>> models = {"plain": torch.nn.Identity(), "swapped": lambda z: z.flip(1)}
        >>> data = (torch.tensor([[0.6, 0.5]]), torch.tensor([0]))
        >>> [[rate.count for rate in row] for row in transfer_matrix(models, data, 0.25).errors]
        [[1, 0], [0, 1]]
    """
    rows = []
    for source in models.values():
        crafted = (craft(source, data, eps, attack=attack, **options), data[1])
        rows.append(tuple(error_rate(model, crafted) for model in models.values()))
    return TransferMatrix(tuple(models), tuple(rows))
