"""The checklist of gradient masking: does an attack fail because the model is robust, or not?

A model can make its gradients useless and stay as fragile as before. Attacks that follow the
gradient then find little, and the error under attack looks small. The checklist asks eight
questions whose answers a robust model and an honest attack do not fear. A sign says "look here"; it
is not a proof, and its absence does not prove robustness.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from advlearn._validation import (
    check_bounds,
    check_callable,
    check_count,
    check_number,
    check_seed,
)
from advlearn.attacks import PIXELS, Filled, ball, fgsm, input_gradient, pgd, square
from advlearn.batches import Batches, Data, Pair, device_of, joined
from advlearn.context import Model, attack_mode, random_states_kept
from advlearn.directions import directions
from advlearn.losses import Loss, float32_cross_entropy, margin_loss
from advlearn.metrics import Rate, craft, predict, refuse_early
from advlearn.randomness import repeats

TRIFLE = 0.01
"""A share of the examples that is not worth a sign, however certain it is."""

MATERIAL = 0.2
"""By how much the error may rise from one step to the strongest attack of the ladder: 20 points."""

PART = 0.05
"""What part of a slope the gradient may miss, and at what share of the examples it may do so."""

PASSES = 3
"""Forward passes for the price of one gradient: there, back, and the bookkeeping of both."""

_DIRECTIONS, _CALLS = 8, 4  # in which the slope is measured; in which an answer is asked for

SIGNS = (
    "PGD is weaker than FGSM",
    "more steps or restarts change the error",
    "transfer is stronger than the white box",
    "the error does not reach 100 %",
    "zero gradients",
    "a search without gradients beats the gradient",
    "the gradient is not the slope",
    "the answer is random",
)
"""The names of the signs, in the order of the checklist."""


@dataclass(frozen=True)
class Sign:
    """One sign of the checklist.

    Attributes:
        name: which sign, one of `SIGNS`.
        seen: whether it was seen; None when it could not be checked.
        figures: what was measured -> a share of the examples, with its interval.
        because: what decided, in one sentence.
    """

    name: str
    seen: bool | None
    figures: Mapping[str, Rate]
    because: str

    @property
    def answer(self) -> str:
        """The outcome in words."""
        return "not checked" if self.seen is None else "SEEN" if self.seen else "not seen"


@dataclass(frozen=True)
class Audit:
    """What the checklist gave: its signs, in order.

    Printing it gives a text with every rate; a notebook shows the same as a table.

    Example:
        >>> outcome = Audit(0.25, (Sign("zero gradients", True, {"zero": Rate(9, 10)}, "Most."),))
        >>> outcome.passed, outcome.seen
        (False, ('zero gradients',))
        >>> print(outcome)
        1 of 1 signs seen at eps 0.25
        1. SEEN: zero gradients. Most.
            zero: 90.0 % (59.6-98.2)
    """

    eps: float
    signs: tuple[Sign, ...]

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the signs that were seen."""
        return tuple(sign.name for sign in self.signs if sign.seen)

    @property
    def passed(self) -> bool:
        """Whether no sign was seen."""
        return not self.seen

    def __getitem__(self, name: str) -> Sign:
        """Return the sign of this name; KeyError names those that there are."""
        signs = {sign.name: sign for sign in self.signs}
        if name not in signs:
            raise KeyError(f"there is no sign {name!r}; there are {', '.join(signs)}")
        return signs[name]

    def __str__(self) -> str:
        lines = [f"{len(self.seen)} of {len(self.signs)} signs seen at eps {self.eps:g}"]
        for number, sign in enumerate(self.signs, start=1):
            lines.append(f"{number}. {sign.answer}: {sign.name}. {sign.because}")
            lines += [f"    {what}: {rate}" for what, rate in sign.figures.items()]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        lines = [f"{len(self.seen)} of {len(self.signs)} signs seen at eps {self.eps:g}", ""]
        lines += ["| sign | | share of the examples (95 % interval) | why |", "|---|---|---|---|"]
        for number, sign in enumerate(self.signs, start=1):
            rates = "<br>".join(f"{what}: {rate}" for what, rate in sign.figures.items())
            rates = rates.replace("-", "\N{NON-BREAKING HYPHEN}")  # no interval on two lines
            answer = f"**{sign.answer}**" if sign.seen else sign.answer
            lines.append(f"| {number}. {sign.name} | {answer} | {rates} | {sign.because} |")
        return "\n".join(lines)


class _Measured(NamedTuple):
    """What the signs are read from: name -> (N,) booleans, each."""

    ladder: Mapping[str, Tensor]
    white: Mapping[str, Tensor]
    moved: Mapping[str, Tensor]
    reach: Mapping[float, Tensor]
    blind: Mapping[str, Tensor]
    search: Mapping[str, Tensor]
    slope: Mapping[str, Tensor]
    answers: Mapping[str, Tensor]


def more_often(first: Tensor, second: Tensor) -> bool:
    """Say whether `first` is true on more examples than `second`, beyond chance and trifles.

    Both attacks meet the same examples, so only those on which they differ count. If b of them are
    true in `first` alone and c in `second` alone, it is beyond chance when the 95 % Wilson interval
    of b / (b + c) lies over one half, and beyond trifles when (b - c) / N exceeds `TRIFLE`.

    Args:
        first, second: (N,) booleans, example by example.

    Source:
        McNemar, "Note on the sampling error of the difference between correlated proportions or
        percentages", Psychometrika 1947, for looking at the examples alone on which the two differ.

    Example:
        >>> many, few = torch.arange(100) < 20, torch.arange(100) < 5
        >>> more_often(many, few), more_often(few, many), more_often(many, many)
        (True, False, False)
    """
    alone, other = int((first & ~second).sum()), int((second & ~first).sum())
    beyond_chance = Rate(alone, alone + other).interval[0] > 0.5
    return beyond_chance and alone - other > TRIFLE * first.numel()


@random_states_kept()
@directions(silent=True)  # The last sign says it.
def audit(
    model: Model,
    data: Data,
    eps: float,
    *,
    source: Model | None = None,
    steps: int = 40,
    restarts: int = 3,
    bounds: tuple[float, float] | None = PIXELS,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Audit:
    """Run the checklist of signs of gradient masking and report each sign with its rates.

    1. *PGD is weaker than FGSM.* PGD takes many small steps where FGSM takes one. If it finds less
       (see `more_often`), the gradient on the way misleads.
    2. *More steps or restarts change the error.* A ladder of attacks: FGSM, PGD with a quarter of
       `steps`, with all of them, and with `restarts`. Seen when more work finds less, or when the
       strongest attack finds more than one step does by over `MATERIAL`, 20 points, beyond chance:
       then the error after one step says nothing. Smaller rises are no sign, for an undefended
       model shows them too wherever eps breaks about half of its examples. Even there FGSM's error
       must not stand alone.
    3. *Transfer is stronger than the white box.* Examples crafted on `source` fool the model more
       often than those that the same attack crafts on the model itself.
    4. *The error does not reach 100 %.* Who may change the image completely must win. PGD at eps,
       at twice eps, and over the whole range of a pixel; also seen when a larger eps finds less.
    5. *Zero gradients.* The gradient gives an example no direction, because it is zero in every
       pixel, or NaN or infinite in some: that of this library's loss, or that of
       `float32_cross_entropy`, which most other tools follow.
    6. *A search without gradients beats the gradient.* `advlearn.attacks.square` with `PASSES`
       queries for each gradient of the strongest PGD, which is about as much work, fools the model
       more often than all attacks of the ladder together.
    7. *The gradient is not the slope.* Around a random point of the ball the loss J is measured at
       both ends of short ways in the directions s of random signs. For the gradient g there, the
       slope (J(h s) - J(-h s)) / 2h must be g·s. Seen when g misses over a twentieth (`PART`) of
       the squared slopes at over a twentieth of the examples, as where a part of the pixels is
       detached. Two lengths h must agree about the slope, so that a kink, a jump or rounding is no
       sign. Where they do so at no example, the sign is not checked.
    8. *The answer is random.* The same images get other logits when the model is asked again. All
       its other rates then hold for one draw each. Comparisons of such rates are blunt rather than
       wrong: the draws fall on both sides alike, and `more_often` counts them as chance.

    Args:
        model: maps (N, ...) to logits (N, K); attacked in eval mode, given back as it was.
        data: images and true labels; a few hundred examples are enough. All attacks meet the same
            examples: of a stream, each batch is read once, also where a loader shuffles.
        eps: in pixel units, > 0.
        source: another model for the same task, for sign 3; None leaves that sign unchecked.
        steps: gradient steps of PGD, >= 8.
        restarts: random starts of the strongest attack, >= 2.
        bounds: (low, high) of a pixel; None is unclipped, and the whole range is then that of the
            images, or four times eps if that is more; a stream is then read twice.
        seed: of the random starts. The global random state is left alone.
        batch_size, progress: as for `advlearn.metrics.error_rate`.

    Returns:
        Eight signs, in the order of `SIGNS`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range, or the model's
            output is detached from its input.

    Source:
        Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML
        2018; Carlini and others, "On evaluating adversarial robustness", 2019.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model, x = torch.nn.Identity(), torch.rand(50, 4)
        >>> outcome = audit(model, (x, x.argmax(1)), 0.3, source=lambda x: x.roll(1, 1))
        >>> outcome.passed, len(outcome.signs)
        (True, 8)
    """
    eps = check_number(eps, "eps", low=0.0, open_low=True)
    check_count(steps, "steps", least=8)
    check_count(restarts, "restarts", least=2)
    box = check_bounds(bounds)
    generator = torch.Generator().manual_seed(check_seed(seed))
    if source is not None:
        check_callable(source, "source")
    cheap = partial(craft, attack=fgsm, bounds=box, batch_size=batch_size)
    strong = partial(cheap, attack=pgd, steps=steps, generator=generator)
    # On the model itself errors are counted: what is lost may leave the batch.
    counted = partial(strong, model, keep="first")

    batches = Batches(
        data, batch_size, passes=1 if box else 2, device=device_of(model), progress=progress
    )
    refuse_early(model, batches, {} if source is None else {"source": source})
    if box is None:
        ends = torch.tensor([[float(x.min()), float(x.max())] for x, _ in batches])
        whole = max(4 * eps, float(ends[:, 1].max() - ends[:, 0].min()))
    else:
        whole = box[1] - box[0]
    sizes = sorted({size for size in (2 * eps, whole) if eps < size <= whole})

    def measured(x: Tensor, y: Tensor) -> _Measured:
        part = (x, y)

        def wrong(images: Tensor) -> Tensor:
            return predict(model, (images, y), batch_size=batch_size).argmax(1) != y

        ladder = {
            "FGSM": wrong(cheap(model, part, eps)),
            f"PGD, {steps // 4} steps": wrong(counted(part, eps, steps=steps // 4)),
            f"PGD, {steps} steps": wrong(counted(part, eps)),
            f"PGD, {restarts} restarts": wrong(counted(part, eps, restarts=restarts)),
        }
        one, _, many, _ = ladder.values()
        white = {"FGSM": one, "PGD": many}
        moved = {}
        if source is not None:
            moved = {
                "FGSM": wrong(cheap(source, part, eps)),
                "PGD": wrong(strong(source, part, eps)),
            }
        reach = {eps: many} | {size: wrong(counted(part, size)) for size in sizes}
        blind = {
            "this library's loss": _blind(model, part, margin_loss, batch_size),
            "float32 cross-entropy": _blind(model, part, float32_cross_entropy, batch_size),
        }
        searched = partial(cheap, attack=square, queries=PASSES * steps * restarts)
        search = {"square": wrong(searched(model, part, eps, generator=generator))}
        slope = _slope(model, part, eps, box=box, generator=generator, batch_size=batch_size)
        answers = _answers(model, part, batch_size)
        return _Measured(ladder, white, moved, reach, blind, search, slope, answers)

    # All attacks on one batch before the next: they are compared example by example, and a loader
    # that shuffles gives each of its examples another place in each pass.
    groups: list[Mapping[Any, Tensor]] = []

    def row(x: Tensor, y: Tensor) -> list[Tensor]:
        groups[:] = measured(x, y)  # of the same names for each batch
        return [mask for group in groups for mask in group.values()]

    columns = iter(joined(batches.each(row, whole=True)))
    found = _Measured(*({name: next(columns) for name in group} for group in groups))
    return Audit(eps, (*_attacks_compared(found), *_gradient_examined(found)))


def _blind(model: Model, data: Pair, loss: Loss, batch_size: int | None) -> Tensor:
    """Say of each example whether the loss's gradient gives no direction, (N,)."""

    def blind(x: Tensor, y: Tensor) -> Tensor:
        with directions(silent=True) as counted:
            input_gradient(model, x, y, loss=loss)
        return torch.zeros_like(y, dtype=torch.bool) if counted.lost is None else counted.lost

    return torch.cat([*Batches(data, batch_size).each(blind)])


def _slope(
    model: Model,
    data: Pair,
    eps: float,
    *,
    box: tuple[float, float] | None,
    generator: Generator,
    batch_size: int | None,
) -> Mapping[str, Tensor]:
    """Say of each example whether its slope can be told, and whether the gradient misses it.

    With J the loss around a random point of the ball, g its gradient there, and directions s of
    random signs, (J(h s) - J(-h s)) / 2h is compared with g·s. The point is random because digits
    are black at exactly 0, where a thousand ReLUs may have their kink at once.
    """

    def probed(x: Tensor, y: Tensor) -> list[Tensor]:
        length = eps / 256  # short: few units have a kink on the way
        low, high = ball(x, eps, box)
        room = (high - low - 4 * length).clamp_min(0)
        point = low + 2 * length + _drawn(x, generator) * room
        with directions(silent=True):
            gradient = input_gradient(model, point, y, loss=margin_loss)
        size = predict(model, (point, y)).abs().amax(1).double()
        true, told, apart, unsure = torch.zeros(4, len(x), dtype=torch.float64, device=x.device)
        for _ in range(_DIRECTIONS):
            way = torch.where(_drawn(x, generator) < 0.5, -length, length).to(x.dtype)
            ends = [point + k * way for k in (-2, -1, 1, 2)]
            lowest, lower, upper, uppermost = (_loss(model, end, y) for end in ends)
            short, long = (upper - lower) / 2, (uppermost - lowest) / 4
            # Along the way as float32 has it, which is not quite the one that was drawn.
            followed = (gradient * (ends[2] - ends[1])).flatten(1).sum(1, dtype=torch.float64) / 2
            true += short**2
            told += followed**2
            apart += (short - followed) ** 2
            unsure += (short - long) ** 2
        rounding = _DIRECTIONS * (size * torch.finfo(x.dtype).eps) ** 2
        steep = torch.maximum(true, told)
        sure = (unsure <= PART / 4 * steep) & (64 * rounding <= PART * steep)
        return [sure, sure & (apart > PART * steep)]

    names = ("told", "missed")
    return dict(zip(names, joined(Batches(data, batch_size).each(probed)), strict=True))


def _drawn(x: Tensor, generator: Generator) -> Tensor:
    """Draw a number of [0, 1) for each pixel, the same ones on each device."""
    drawn = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=generator.device)
    return drawn.to(x.device)


def _loss(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Return the margin loss of each example, (N,) in float64."""
    return margin_loss(predict(model, (x, y)).double(), y)


def _answers(model: Model, data: Pair, batch_size: int | None) -> Mapping[str, Tensor]:
    """Say of each example whether the model, asked again, gives other logits or another class."""
    first, *others = (predict(model, data, batch_size=batch_size) for _ in range(_CALLS))
    # Sums on several threads, and on a GPU, are not always added up in the same order.
    rounding = 64 * torch.finfo(first.dtype).eps * first.abs().amax(1, keepdim=True)
    logits = torch.stack([((first - again).abs() > rounding).any(1) for again in others])
    classes = torch.stack([first.argmax(1) != again.argmax(1) for again in others])
    if not logits.any():  # a coin that a call tosses for all of them may have fallen alike
        with attack_mode(model, backward=False):
            logits |= not repeats(Filled(model, data[0]), data[0])
    return {"other logits": logits.any(0), "another class": (logits & classes).any(0)}


def _attacks_compared(found: _Measured) -> Iterator[Sign]:
    """Judge the first four signs, one after the other."""
    ladder, white, moved, reach = found[:4]
    rates = {name: Rate.of(wrong) for name, wrong in ladder.items()}
    one, *rungs = ladder.values()
    seen = more_often(one, rungs[1])
    because = "One step finds more than many." if seen else "Many steps find at least as much."
    ends = {name: rates[name] for name in list(ladder)[:3:2]}
    yield Sign(SIGNS[0], seen, ends, because)

    fell = any(more_often(less, more) for less, more in pairwise(rungs))
    rise = max(0, int(rungs[-1].sum() - one.sum()))
    rose = Rate(rise, one.numel()).interval[0] > MATERIAL
    because = "One step comes near the strongest attack."
    if rose:
        because = "One step misses much of what more work finds."
    if fell:
        because = "More work finds less."
    yield Sign(SIGNS[1], rose or fell, rates, because)

    both = {f"{name}, crafted on itself": Rate.of(wrong) for name, wrong in white.items()}
    both |= {f"{name}, crafted on the source": Rate.of(wrong) for name, wrong in moved.items()}
    better = [name for name in moved if more_often(moved[name], white[name])]
    because = "Knowing the model helps the attack."
    if better:
        because = f"{' and '.join(better)} does better without the model's gradient."
    if not moved:
        because = "Pass source= to check it."
    yield Sign(SIGNS[2], bool(better) if moved else None, both, because)

    by_eps = {f"PGD, eps {size:g}": Rate.of(wrong) for size, wrong in reach.items()}
    fell = any(more_often(small, large) for small, large in pairwise(reach.values()))
    short = list(by_eps.values())[-1].interval[1] < 1 - TRIFLE
    because = "With the whole range of a pixel the attack wins."
    if short:
        because = "Some examples survive any change at all."
    if fell:
        because = "A larger eps finds less."
    yield Sign(SIGNS[3], short or fell, by_eps, because)


def _gradient_examined(found: _Measured) -> Iterator[Sign]:
    """Judge the other four signs."""
    zeros = {f"zero for {name}": Rate.of(wrong) for name, wrong in found.blind.items()}
    seen = any(rate.interval[0] > TRIFLE for rate in zeros.values())
    because = "Some examples give no direction." if seen else "Every example has a direction."
    yield Sign(SIGNS[4], seen, zeros, because)

    (searched,) = found.search.values()
    followed = torch.stack([*found.ladder.values()]).any(0)
    seen = more_often(searched, followed)
    both = {"any of FGSM and PGD": Rate.of(followed), "square, no gradient": Rate.of(searched)}
    because = "The gradient finds at least as much."
    if seen:
        because = "What a blind search finds, the gradient does not."
    yield Sign(SIGNS[5], seen, both, because)

    told, missed = (int(mask.sum()) for mask in found.slope.values())
    rate = Rate(missed, told)
    seen = rate.interval[0] > PART
    because = "Along short ways the loss changes as the gradient says."
    if seen:
        because = "Something cuts or changes the gradient on its way to the pixels."
    if not told:
        because = "No slope can be told: the loss is flat, rough or random, or eps is tiny."
    figures = {"gradient misses the slope": rate} if told else {}
    yield Sign(SIGNS[6], seen if told else None, figures, because)

    again = {f"{name} when asked again": Rate.of(other) for name, other in found.answers.items()}
    seen = any(rate.count for rate in again.values())
    because = "Asked again, the model says the same."
    if seen:
        because = "Each rate holds for one draw. Attack the mean of the logits over many draws."
    yield Sign(SIGNS[7], seen, again, because)
