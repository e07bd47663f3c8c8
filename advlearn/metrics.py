"""What is measured about a model, always with an interval that says how certain it is.

Every rate is over *all* examples of the data set, also those that the model got wrong before the
attack, and carries a 95 % Wilson interval. Work is done in batches, with the model in eval mode.

Data is a `Dataset`, a pair of tensors, another dataset of PyTorch, or any iterable of batches, a
DataLoader above all: see `advlearn.batches.Batches`. A stream is read batch by batch, so a million
images need no more memory than a few batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advlearn._validation import (
    check_bounds,
    check_callable,
    check_eps,
    check_images,
    check_label_range,
)
from advlearn.attacks import (
    PIXELS,
    fgsm,
    input_gradient,
    linear_step,
    looks_at_each,
)
from advlearn.batches import Batches, Data, device_of, joined
from advlearn.context import Model, answer, attack_mode, checked_answer, hand_out
from advlearn.directions import directions
from advlearn.losses import Loss, cross_entropy
from advlearn.models import probabilities


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


def _batches(model: Model, data: Data, batch_size: int | None, progress: bool | None) -> Batches:
    check_callable(model, "model")
    return Batches(data, batch_size, device=device_of(model), progress=progress)


def eps_of_batch(eps: float | Tensor, batches: Batches) -> Callable[[Tensor], float | Tensor]:
    """Return what gives each batch of one pass, in its order, the part of eps that is its own."""
    if not isinstance(eps, Tensor) or eps.dim() == 0:
        return lambda _: eps
    if batches.pair is None:

        def same(x: Tensor) -> Tensor:
            if eps.dim() == 1 or (eps.dim() == x.dim() and len(eps) > 1):
                raise ValueError(
                    f"eps has shape {tuple(eps.shape)}, one value for each example, and a stream "
                    "does not say which example is which. Pass the images as a pair (x, y)."
                )
            return eps

        return same
    every, place = check_eps(eps, batches.pair[0], None), 0
    assert isinstance(every, Tensor), "eps is a tensor"

    def own(x: Tensor) -> Tensor:
        nonlocal place
        place += len(x)
        return every[place - len(x) : place]

    return own


def refuse_early(
    model: Model, batches: Batches, others: Mapping[str, Model] = MappingProxyType({})
) -> None:
    """Refuse before long work what would come up after some of it.

    That is a label of a later batch for which the model has no class, and another model that does
    not take the images or lacks classes. A few images tell.

    Args:
        model: gets the data.
        batches: the data. Nothing is read of a stream, unless there are `others`.
        others: by the name that an error gives them; they are asked after the model.

    Raises:
        ValueError: a label has no class, or one of the others fails on the images.
    """
    if batches.pair is not None:
        x, y = batches.pair
        first = y[: batches.fits(x)]
        # What is in the first batch is looked at there.
        if [*torch.aminmax(y)] != [*torch.aminmax(first)]:
            classes = 0
            with suppress(Exception):  # which the first batch will tell
                classes = _classes(model, x[:2].to(batches.device))
            if classes:
                check_label_range(y, classes)
    if not others:
        return
    x, y = batches.first()
    for name, other in others.items():
        try:
            classes = _classes(other, x[:2])
        except Exception:
            try:  # some models take batches of one size
                classes = _classes(other, x[: batches.fits(x)])
            except Exception as error:
                raise ValueError(
                    f"{name} fails on the images, of shape {tuple(x.shape)}: {error}. Pass a model "
                    "for the same images and classes."
                ) from error
        check_label_range(y, classes, f"for {name}, y")


def _classes(model: Model, x: Tensor) -> int:
    """Return how many logits a model gives for each example."""
    with attack_mode(model, backward=False):
        return int(answer(model, x).shape[1])


def _logits(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Return the checked logits of one batch, in eval mode."""
    with attack_mode(model, backward=False):
        return checked_answer(model, x, y)


def _alike(parts: Iterable[Tensor], what: str) -> Iterator[Tensor]:
    """Give the parts of a whole, and refuse one that does not fit the first."""
    first: torch.Size | None = None
    for part in parts:
        first = part.shape[1:] if first is None else first
        if part.shape[1:] != first:
            raise ValueError(
                f"the batches give {what} of shape (N, {', '.join(map(str, first))}), and then of "
                f"shape {tuple(part.shape)}: these are no one tensor. Pass images of one size, or "
                "use a measure such as adversarial_error_rate, which keeps none of them."
            )
        yield part


def _rate(masks: Iterable[Tensor]) -> Rate:
    """Count over all batches; a stream's masks are not kept."""
    count = total = 0
    for mask in masks:
        count, total = count + int(mask.sum()), total + mask.numel()
    return Rate(count, total)


def check_crafted(crafted: Any, x: Tensor) -> None:
    """Require finite images of x's shape from an attack, which may be the caller's own."""
    check_images(crafted, None, "the attack's images")
    if crafted.shape != x.shape:
        raise ValueError(
            f"the attack must return images of x's shape {tuple(x.shape)}, got "
            f"{tuple(crafted.shape)}."
        )


def _wrong(model: Model, x: Tensor, y: Tensor) -> Tensor:
    return _logits(model, x, y).argmax(1) != y


def predict(
    model: Model, data: Data, *, batch_size: int | None = None, progress: bool | None = None
) -> Tensor:
    """Return the logits (N, K) of every image, computed in batches, in eval mode.

    Args:
        model: maps (N, ...) to logits (N, K), or to an object, a dict or a tuple that holds them
            as Hugging Face's models do; given back as it was.
        data: images and labels; the labels are only checked. A loader must not shuffle.
        batch_size: images at a time, >= 1. Larger batches of a stream are cut. None takes up to
            1,000, and fewer of large images (3.2 million pixel values: 21 of 224 x 224 in colour).
        progress: show a bar over the batches; None shows it for a stream that takes over a second.

    Raises:
        TypeError, ValueError: the data, the labels or the logits are not what they should be; for
            a stream with the number of the batch.

    Example:
        >>> from advlearn.models import SoftmaxRegression
        >>> predict(SoftmaxRegression(4, 3), (torch.rand(5, 4), torch.arange(5) % 3)).shape
        torch.Size([5, 3])
    """
    batches = _batches(model, data, batch_size, progress)
    batches.require_order("logits")
    logits = _alike(batches.each(lambda x, y: _logits(model, x, y)), "logits")
    return joined([part] for part in logits)[0]


def _judged(model: Model, x: Tensor, y: Tensor) -> list[Tensor]:
    """Say of each example whether it is wrong, and how probable its predicted class is."""
    return _judgement(model, _logits(model, x, y), y, x[:1])


@torch.no_grad()
def _judgement(model: Model, logits: Tensor, y: Tensor, image: Tensor) -> list[Tensor]:
    """Say the same of logits that are there; `image` is one that they may be of."""
    chosen = logits.argmax(1, keepdim=True)
    # The probability of the class that is predicted, which need not be the largest probability's
    # class if a model's probabilities are odd: gather, not max.
    confidence = probabilities(model, logits.float(), image).gather(1, chosen).squeeze(1)
    return [chosen.squeeze(1) != y, confidence.double()]


def _confidence(wrong: Tensor, chosen: Tensor) -> Confidence:
    """Sum up what `_judged` says of all examples."""
    on_errors = float(chosen[wrong].mean()) if bool(wrong.any()) else math.nan
    return Confidence(on_errors, float(chosen.mean()), Rate.of(wrong))


def error_rate(
    model: Model, data: Data, *, batch_size: int | None = None, progress: bool | None = None
) -> Rate:
    """Return the share of examples whose largest logit is not the label's.

    Args:
        model, data, batch_size, progress: as for `predict`; a loader may shuffle.

    Raises:
        TypeError, ValueError: as for `predict`.

    Example:
        >>> model = torch.nn.Identity()
        >>> logits = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
        >>> print(error_rate(model, (logits, torch.tensor([0, 0]))))
        50.0 % (9.5-90.5)
        >>> stream = ((logits, torch.tensor([0, 0])) for _ in range(3))
        >>> error_rate(model, stream)
        Rate(count=3, total=6)
    """
    batches = _batches(model, data, batch_size, progress)
    return _rate(batches.each(lambda x, y: _wrong(model, x, y)))


def _crafted(
    attack: Callable[..., Tensor],
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    **options: Any,
) -> Tensor:
    """Call an attack, which may be the caller's own and write into its images and labels."""
    size = eps.clone() if isinstance(eps, Tensor) else eps

    def crafted(z: Tensor) -> Tensor:
        return attack(model, z, y.clone(), size, **options)

    if str(getattr(attack, "__module__", "")).partition(".")[0] == __package__:
        return hand_out(crafted, x, known_as=attack)  # it borrows the model itself
    with attack_mode(model):
        return hand_out(crafted, x, known_as=attack)


_SHOWN = 8  # images of one eps that show whether the logits of each are its own
_TOGETHER = 192  # images of several eps that go through a model at once


@directions()  # one warning for all batches
def craft(
    model: Model,
    data: Data,
    eps: float | Tensor,
    *,
    attack: Callable[..., Tensor] = fgsm,
    batch_size: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Tensor:
    """Return `attack(model, x, y, eps, **options)` for a whole data set, in batches.

    All adversarial images are in memory at the end. `adversarial_error_rate` keeps none of them.

    Args:
        model, data, batch_size, progress: as for `predict`.
        eps: in pixel units, as for `fgsm`. One value for each example needs a pair or `Dataset`.
        attack: `fgsm`, `pgd` or a function with the same arguments.
        **options: passed on to the attack, such as `bounds=None` or `steps=40`.

    Returns:
        Adversarial images of x's shape, in the order of the data.

    Raises:
        TypeError, ValueError: as for `predict`, and from the attack.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> craft(model, (torch.rand(5, 4), torch.arange(5) % 3), 0.1).shape
        torch.Size([5, 4])
    """
    check_callable(attack, "attack", "advlearn.pgd")
    batches = _batches(model, data, batch_size, progress)
    batches.require_order("adversarial images")
    size = eps_of_batch(eps, batches)
    refuse_early(model, batches)

    def crafted(x: Tensor, y: Tensor) -> Tensor:
        images = _crafted(attack, model, x, y, size(x), **options)
        check_crafted(images, x)
        return images

    return torch.cat([*_alike(batches.each(crafted), "adversarial images")])


@directions()  # one warning for all batches
def adversarial_error_rate(
    model: Model,
    data: Data,
    eps: float | Tensor,
    *,
    attack: Callable[..., Tensor] = fgsm,
    source: Model | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Rate:
    """Return the error rate of `model` on adversarial examples, over all examples.

    Only errors are counted here, so `pgd` on the model itself runs with `keep="first"`, unless told
    otherwise: an example that is lost leaves the batch. On a network without a defence nearly all
    do in the first steps. Pass `keep="best"` if the model wants batches of one size.

    Args:
        model: the model that classifies.
        data, batch_size, progress: as for `error_rate`.
        eps: in pixel units, as for `fgsm`. One value for each example needs a pair or `Dataset`.
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
    check_callable(model, "model")
    check_callable(attack, "attack", "advlearn.pgd")
    crafted_on = model if source is None else source
    check_callable(crafted_on, "source")
    if crafted_on is model:
        options = _enough(attack) | options

    def lost(x: Tensor, y: Tensor) -> Tensor:
        crafted = _crafted(attack, crafted_on, x, y, size(x), **options)
        check_crafted(crafted, x)
        return _wrong(model, crafted, y)

    batches = _batches(model, data, batch_size, progress)
    size = eps_of_batch(eps, batches)
    refuse_early(model, batches, {} if source is None else {"source": source})
    return _rate(batches.each(lost))


def _enough(attack: Callable[..., Tensor]) -> dict[str, Any]:
    """Return the options that spare an attack what no count of its errors shows."""
    own = getattr(getattr(attack, "func", attack), "counted_with", {})
    return {name: own[name] for name in own.keys() - getattr(attack, "keywords", {}).keys()}


def confidence_on_errors(
    model: Model, data: Data, *, batch_size: int | None = None, progress: bool | None = None
) -> Confidence:
    """Return the mean probability of the predicted class, over the mistakes and over all.

    The paper's "confidence" is the first; summaries often give the second under that name.

    Args:
        model, data, batch_size, progress: as for `error_rate`; pass adversarial images to measure
            an attack.

    Example:
        >>> logits = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
        >>> result = confidence_on_errors(torch.nn.Identity(), (logits, torch.tensor([0, 0])))
        >>> round(result.on_errors, 3), round(result.on_all, 3)
        (0.731, 0.842)
    """
    batches = _batches(model, data, batch_size, progress)
    return _confidence(*joined(batches.each(lambda x, y: _judged(model, x, y))))


@directions()  # one warning for all batches
def error_curve(
    model: Model,
    data: Data,
    eps: Sequence[float],
    *,
    loss: Loss = cross_entropy,
    bounds: tuple[float, float] | None = PIXELS,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> ErrorCurve:
    """Return FGSM's error and confidence for each eps, at the price of one gradient.

    Args:
        model, data, batch_size, progress: as for `error_rate`.
        eps: values in pixel units, each >= 0.
        loss, bounds: as for `advlearn.attacks.fgsm`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Example:
        >>> data = (torch.tensor([[0.6, 0.5], [0.9, 0.1]]), torch.tensor([0, 0]))
        >>> [rate.count for rate in error_curve(torch.nn.Identity(), data, [0, 0.25, 0.5]).errors]
        [0, 1, 2]
    """
    check_callable(model, "model")
    box = check_bounds(bounds)
    if not isinstance(eps, Iterable) or isinstance(eps, str) or getattr(eps, "ndim", 1) != 1:
        raise TypeError(
            f"eps must be a sequence of numbers, such as [0, 0.1, 0.2], got {eps!r:.60}. For one "
            "value, pass [eps], or use adversarial_error_rate."
        )
    eps = tuple(eps)
    one = torch.zeros(1, 1)  # an image, as far as eps is concerned
    for i, value in enumerate(eps):
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(
                f"eps[{i}] must be one number, got shape {tuple(value.shape)}: a curve has one eps "
                "for all pixels at each of its points."
            )
        check_eps(value.reshape(()) if isinstance(value, Tensor) else value, one, box, f"eps[{i}]")
    sizes = tuple(float(value) for value in eps)
    if not sizes:
        raise ValueError("eps is empty. Pass at least one value.")

    alone: bool | None = None  # whether logits are each example's own; asked once

    def asked(x: Tensor, y: Tensor, gradient: Tensor, together: int) -> list[Tensor]:
        """Return the logits of the images of all eps, of so many eps at a time."""
        answers = []
        with attack_mode(model, backward=False):
            for start in range(0, len(sizes), together):
                some = sizes[start : start + together]
                moved = torch.cat([linear_step(x, gradient, size, bounds=box) for size in some])
                answers.append(checked_answer(model, moved, y.repeat(len(some))))
        return answers

    def judged(x: Tensor, y: Tensor) -> list[Tensor]:
        nonlocal alone
        gradient = input_gradient(model, x, y, loss=loss)
        # Of a small batch, the images of several eps go through the model at once. Of a larger one
        # that gains nothing, and the hidden layers of a convolutional network need more memory than
        # is kept at hand: then it takes twice as long.
        together = max(1, min(batches.fits(x), _TOGETHER) // len(x))
        if together > 1 and alone is None:
            # Images of two eps: of a batch of one, the image alone would show nothing.
            ends = (sizes[0], sizes[-1])  # the most unlike each other
            shown = [linear_step(x, gradient, size, bounds=box)[:_SHOWN] for size in ends]
            with suppress(Exception):  # it takes no more than a batch: then one eps at a time
                alone = looks_at_each(model, torch.cat(shown))
        try:
            answers = asked(x, y, gradient, together if alone else 1)
        except Exception:
            if not alone or together == 1:
                raise
            alone = False  # as above
            answers = asked(x, y, gradient, 1)
        wrong, chosen = _judgement(model, torch.cat(answers), y.repeat(len(sizes)), x[:1])
        pairs = zip(wrong.split(len(x)), chosen.split(len(x)), strict=True)
        return [part for pair in pairs for part in pair]

    batches = Batches(data, batch_size, bounds=box, device=device_of(model), progress=progress)
    columns = joined(batches.each(judged))
    rows = [_confidence(*pair) for pair in zip(columns[::2], columns[1::2], strict=True)]
    return ErrorCurve(
        sizes,
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
    if not isinstance(direction, Tensor):
        raise TypeError(
            f"direction must be a tensor of x's shape, got {type(direction).__name__}. Pass "
            "torch.as_tensor(direction)."
        )
    if x.shape[0] != 1 or direction.shape != x.shape:
        raise ValueError(
            "x must be one example (1, ...) and direction must have its shape, got "
            f"{tuple(x.shape)} and {tuple(direction.shape)}."
        )
    walk = torch.as_tensor(eps, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.dim() - 1))
    points = x + walk * direction
    data = points, torch.zeros(len(points), dtype=torch.int64, device=x.device)
    with suppress(Exception):  # it takes no more than it is used to: one at a time, as x came
        if looks_at_each(model, points):
            return predict(model, data)
    return predict(model, data, batch_size=1)


def agreement(
    first: Model,
    second: Model,
    data: Data,
    *,
    both_wrong: bool = False,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Rate:
    """Return how often `second` gives the same wrong class where `first` errs.

    Args:
        first: the model whose mistakes are looked at.
        second: the model that is compared with it.
        data: adversarial images, and the true labels.
        both_wrong: count only examples on which both models err.
        batch_size, progress: as for `predict`.

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
    check_callable(second, "second")

    def same(x: Tensor, y: Tensor) -> Tensor:
        one, two = _logits(first, x, y).argmax(1), _logits(second, x, y).argmax(1)
        counted = (one != y) & (two != y) if both_wrong else one != y
        return (one == two)[counted]

    return _rate(_batches(first, data, batch_size, progress).each(same))


@directions()  # one warning for all batches
def transfer_matrix(
    models: Mapping[str, Model],
    data: Data,
    eps: float | Tensor,
    *,
    attack: Callable[..., Tensor] = fgsm,
    batch_size: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> TransferMatrix:
    """Return every model's error on the adversarial examples of every model.

    Args:
        models: name -> model.
        data: clean images and true labels, read once for each model.
        eps: as for `adversarial_error_rate`.
        attack, batch_size, progress: as for `adversarial_error_rate`.
        **options: passed on to the attack.

    Example:
        >>> models = {"plain": torch.nn.Identity(), "swapped": lambda z: z.flip(1)}
        >>> data = (torch.tensor([[0.6, 0.5]]), torch.tensor([0]))
        >>> [[rate.count for rate in row] for row in transfer_matrix(models, data, 0.25).errors]
        [[1, 0], [0, 1]]
    """
    if not isinstance(models, Mapping) or not models:
        raise TypeError(
            "models must be a mapping from names to models, such as {'a': a, 'b': b}, got "
            f"{type(models).__name__}{' without any' if isinstance(models, Mapping) else ''}."
        )
    check_callable(attack, "attack", "advlearn.pgd")
    for name, model in models.items():
        check_callable(model, f"models[{name!r}]")
    device = next(map(device_of, models.values()), None)
    batches = Batches(data, batch_size, passes=len(models), device=device, progress=progress)
    named = {f"models[{name!r}]": model for name, model in models.items()}
    refuse_early(next(iter(models.values())), batches, named)

    def lost(
        source: Model, size: Callable[[Tensor], float | Tensor], x: Tensor, y: Tensor
    ) -> list[Tensor]:
        crafted = _crafted(attack, source, x, y, size(x), **options)
        check_crafted(crafted, x)
        return [_wrong(model, crafted, y) for model in models.values()]

    rows = [
        tuple(map(Rate.of, joined(batches.each(partial(lost, source, eps_of_batch(eps, batches))))))
        for source in models.values()
    ]
    return TransferMatrix(tuple(models), tuple(rows))
