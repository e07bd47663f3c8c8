"""Exercises of lesson 11: bounds on what a network gives, and what they prove."""

# ruff: noqa: PLR0917 - two layers and an image are six arguments, and learners pass them in order

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from advlearn.course import grading
from advlearn.course.banks.inputs import labels, rand, randn
from advlearn.course.grading import Args, Exercise, Misconception, edits, parse, rule

functional = torch.nn.functional


def _images(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw images with black, grey and white pixels."""
    return (1.6 * rand(generator, *shape) - 0.3).clamp(0, 1)


def _intervals(generator: torch.Generator, count: int, features: int) -> tuple[Tensor, Tensor]:
    """Draw both ends of intervals, some of them of length 0."""
    middle, reach = randn(generator, count, features), rand(generator, count, features)
    reach = (reach - 0.2).clamp(min=0)
    return middle - reach, middle + reach


@rule("A lower bound of yours is above its upper bound.")
def _in_order(args: Args, output: Any) -> object:
    lower, upper = output
    return (lower <= upper + 1e-5).all()


# --- 1. The box of an image -----------------------------------------------------------------------


def _pixel_box(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    lower = torch.clamp(x - eps, min=0)  # no pixel is blacker than black
    upper = torch.clamp(x + eps, max=1)  # and none is whiter than white
    return lower, upper


def _box_inputs(generator: torch.Generator) -> list[Args]:
    inputs: list[Args] = [(torch.tensor([[0.0, 0.5, 1.0]]), 0.25)]
    for eps in (0.1, 0.3, 0.0, 0.6):
        inputs.append((_images(generator, 3, 1, 4, 4), eps))
    inputs.append((torch.tensor([[0.4, 0.5, 0.55], [0.3, 0.6, 0.7]]), 0.1))  # nothing is clamped
    return inputs


@rule("Your box leaves the range [0, 1] of a pixel.")
def _box_is_in_range(args: Args, output: Any) -> object:
    return all(((end >= -1e-6) & (end <= 1 + 1e-6)).all() for end in output)


def _box_by_maximum(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.maximum(x - eps, torch.zeros_like(x)), torch.minimum(x + eps, torch.ones_like(x))


pixel_box = Exercise(
    name="pixel_box",
    lesson="11",
    title="The box of an image",
    task=(
        "Return two tensors of x's shape, the lowest and the highest value that each pixel may "
        "take: at most eps away from x, and inside [0, 1]. x holds pixels in [0, 1], such as "
        "(N, 1, 28, 28); eps is a number."
    ),
    difficulty=1,
    minutes=4,
    reference=_pixel_box,
    inputs=_box_inputs,
    asks=("tensor",),
    properties=(_in_order, _box_is_in_range),
    right_answers=(_box_by_maximum, lambda x, eps: [(x + e).clamp(0, 1) for e in (-eps, eps)]),
    wrong_answers=edits(
        _pixel_box,
        """
        not clamped: `torch.clamp(x - eps, min=0)` -> `x - eps`,
        `torch.clamp(x + eps, max=1)` -> `x + eps`
            Your box leaves [0, 1]. It then holds pixels blacker than black, which no attacker has.
            The bounds stay true, but they are wider than they need to be. Clamp both ends.
        lower end not clamped: `torch.clamp(x - eps, min=0)` -> `x - eps`
            Your lower end goes below 0. Clamp it as well.
        upper end not clamped: `torch.clamp(x + eps, max=1)` -> `x + eps`
            Your upper end goes above 1. Clamp it as well.
        centre and radius: `return lower, upper`
        -> `return (lower + upper) / 2, (upper - lower) / 2`
            You return the middle of each interval and half of its length. Return its two ends.
        centre and eps: `return lower, upper` -> `return x, torch.full_like(x, eps)`
            You return x and eps. Return the two ends of the interval around each pixel.
        eps as the whole length: `x - eps` -> `x - eps / 2`, `x + eps` -> `x + eps / 2`
            Your intervals are eps long. A pixel may move by eps in both directions, so they are
            2·eps long where nothing is clamped.
        eps twice: `x - eps` -> `x - 2 * eps`, `x + eps` -> `x + 2 * eps`
            Your ends are 2·eps away from x. The whole interval is 2·eps long: eps to each side.
        swapped: `return lower, upper` -> `return upper, lower`
            Your ends are swapped. The lower one comes first.
        clamped to the wrong ends: `min=0` -> `max=0`, `max=1` -> `min=1`
            `torch.clamp(v, max=0)` makes everything above 0 to 0. The lower end must be at least
            0: `min=0`. The upper end must be at most 1: `max=1`.
        a share of the pixel: `x - eps` -> `x - eps * x`, `x + eps` -> `x + eps * x`
            You change each pixel by a share of its value, so a black one cannot move. eps is an
            amount: every pixel may move by eps itself.
        range of the image: `torch.clamp(x - eps, min=0)`
        -> `torch.clamp(x.min() - eps, min=0).expand_as(x)`,
        `torch.clamp(x + eps, max=1)` -> `torch.clamp(x.max() + eps, max=1).expand_as(x)`
            All your pixels have the same two ends, from the darkest and the brightest pixel. Each
            pixel has its own: x - eps and x + eps, entry by entry.
        upper end from the clamped lower one: `x + eps` -> `lower + 2 * eps`
            Your upper end is lower + 2·eps. Where the lower end was clamped to 0, that is too high.
            Start at x for both ends.
        lower end from the clamped upper one: `torch.clamp(x - eps, min=0)`
        -> `torch.clamp(torch.clamp(x + eps, max=1) - 2 * eps, min=0)`
            Your lower end is upper - 2·eps. Where the upper end was clamped to 1, that is too low.
            Start at x for both ends.
        whole range: `x - eps` -> `0 * x`, `x + eps` -> `0 * x + 1`
            Your box is the whole range from 0 to 1. A pixel may move by eps only.
        eps over 255: `eps` => `eps / 255`
            You divide eps by 255. The pixels run from 0 to 1, and eps is in the same units.
        black stays black: `return lower, upper`
        -> `return torch.where(x == 0, x, lower), torch.where(x == 0, x, upper)`
            Your black pixels cannot change. An attacker may make them brighter, up to eps.
        black and white stay: `return lower, upper`
        -> `edge = (x == 0) | (x == 1)¶return it`,
        `return it` -> `return torch.where(edge, x, lower), torch.where(edge, x, upper)`
            Your black and white pixels cannot change. An attacker may make black brighter and white
            darker, by eps.
        centre moved inside: `torch.clamp(x - eps, min=0)` -> `x.clamp(eps, 1 - eps) - eps`,
        `torch.clamp(x + eps, max=1)` -> `x.clamp(eps, 1 - eps) + eps`
            You move the pixel inside first, so each box is 2·eps wide, and near 0 and 1 its centre
            is not x. Take x - eps and x + eps, and clamp these two ends.
        box moved inside: `torch.clamp(x - eps, min=0)` -> `x - eps`,
        `torch.clamp(x + eps, max=1)` -> `x + eps`,
        `return lower, upper`
        -> `shift = (-lower).clamp(min=0) - (upper - 1).clamp(min=0)¶return ends`,
        `return ends` -> `return lower + shift, upper + shift`
            You move the whole box inside, so it stays 2·eps wide, and near 0 and 1 it reaches too
            far from x. Clamp the ends, each by itself.
        box moved, not cut: `torch.clamp(x - eps, min=0)`
        -> `(x - eps).clamp(min=0).clamp(max=max(0.0, 1 - 2 * eps))`,
        `torch.clamp(x + eps, max=1)`
        -> `((x - eps).clamp(min=0).clamp(max=max(0.0, 1 - 2 * eps)) + 2 * eps).clamp(max=1)`
            You move the box until it fits, and keep its width of 2·eps. Then a pixel near the edge
            may change by more than eps. Cut off what leaves [0, 1].
        equal room on both sides: `torch.clamp(x - eps, min=0)`
        -> `x - torch.minimum(x, 1 - x).clamp(max=eps)`,
        `torch.clamp(x + eps, max=1)` -> `x + torch.minimum(x, 1 - x).clamp(max=eps)`
            You give a pixel the same room on both sides. A black pixel cannot become darker, but it
            can become brighter by eps: cut each end by itself.
        """,
    ),
    hints=(
        "Which values may a black pixel take, x = 0, with eps = 0.25? It cannot become darker.",
        "The ends are x - eps and x + eps, and `torch.clamp` keeps them inside [0, 1].",
    ),
    takeaway="The clamp is part of the proof: it takes away half of the box on a black background.",
)


# --- 2. One layer ---------------------------------------------------------------------------------


def _layer_bounds(w: Tensor, b: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    centre, radius = (lower + upper) / 2, (upper - lower) / 2
    new_centre = centre @ w.T + b  # (N, K): the layer itself, at the middle
    new_radius = radius @ w.abs().T  # each weight adds to it, whatever its sign; no bias
    return new_centre - new_radius, new_centre + new_radius


def _layer_inputs(generator: torch.Generator) -> list[Args]:
    w, b = torch.tensor([[2.0, -1.0], [1.0, -3.0]]), torch.tensor([0.0, 0.2])
    inputs: list[Args] = [(w, b, torch.tensor([[0.4, 0.1]]), torch.tensor([[0.6, 0.3]]))]
    for count, features, units in ((3, 4, 2), (5, 6, 7), (2, 1, 3)):
        w, b = randn(generator, units, features), randn(generator, units)
        w[0, 0] = 0.0
        inputs.append((w, b, *_intervals(generator, count, features)))
    return inputs


@rule("The layer gives values outside your bounds: at a corner of the box, for example.")
def _holds_the_corners(args: Args, output: Any) -> object:
    w, b, lower, upper = args
    low, high = output
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        corner = torch.where(rand(generator, *lower.shape) < 0.5, lower, upper)
        value = corner @ w.T + b
        if not ((value >= low - 1e-4) & (value <= high + 1e-4)).all():
            return False
    return True


def _layer_by_signs(w: Tensor, b: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    plus, minus = w.clamp(min=0).T, w.clamp(max=0).T
    return lower @ plus + upper @ minus + b, upper @ plus + lower @ minus + b


def _layer_by_terms(w: Tensor, b: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, ...]:
    # Each product w·h lies between w·lower and w·upper, in one order or the other.
    ends = torch.stack([lower[:, None] * w, upper[:, None] * w])
    return ends.amin(0).sum(2) + b, ends.amax(0).sum(2) + b


layer_bounds = Exercise(
    name="layer_bounds",
    lesson="11",
    title="One layer",
    task=(
        "Return the lowest and the highest value of each unit of the layer h @ w.T + b, when each "
        "input may be anywhere between `lower` and `upper`. w is (K, d), b is (K,), lower and "
        "upper are (N, d). The two results are (N, K) each, the lower bounds first."
    ),
    difficulty=2,
    minutes=8,
    reference=_layer_bounds,
    inputs=_layer_inputs,
    properties=(_in_order, _holds_the_corners),
    right_answers=(_layer_by_signs, _layer_by_terms),
    wrong_answers=edits(
        _layer_bounds,
        """
        no absolute value: `w.abs().T` -> `w.T`
            Your lower bounds are the layer at `lower`, your upper bounds the layer at `upper`. A
            negative weight swaps them: it is lowest where its input is highest. Write |w| for the
            radius, or swap the ends wherever w is negative.
        sorted after the sum: `return new_centre - new_radius, new_centre + new_radius`
        -> `a, b = lower @ w.T + b, upper @ w.T + b¶return torch.minimum(a, b), torch.maximum(a, b)`
            Your bounds are the layer at `lower` and at `upper`, put in order. You also get them by
            |radius @ w.T|, with the absolute value after the product. Then terms of opposite sign
            cancel. Take |w| before the product: radius @ |w|.T.
        bias in the radius: `radius @ w.abs().T` -> `radius @ w.abs().T + b`
            You add the bias to the radius. A bias moves the interval and does not widen it: it
            belongs to the centre only.
        bias in the radius, without its sign: `radius @ w.abs().T` -> `radius @ w.abs().T + b.abs()`
            You add |b| to the radius. A bias moves the interval and does not widen it: it has no
            radius.
        neither is halved: `(lower + upper) / 2, (upper - lower) / 2`
        -> `lower + upper, upper - lower`
            You halve neither: the centre is (lower + upper) / 2 and the radius (upper - lower) / 2.
        no bias: `centre @ w.T + b` -> `centre @ w.T`
            The bias is missing. It moves both ends.
        mixed up: `centre @ w.T + b` -> `radius @ w.T + b`,
        `radius @ w.abs().T` -> `centre @ w.abs().T`
            You mixed up centre and radius. The centre, (lower + upper) / 2, goes through the layer
            as it is. The radius, (upper - lower) / 2, goes through |w|.
        whole length: `(upper - lower) / 2` -> `upper - lower`
            Your radius is the whole length of the interval. The bounds hold, but they are twice as
            far apart as they need to be: halve it.
        absolute weights for the centre: `centre @ w.T` -> `centre @ w.abs().T`
            You take |w| for the centre too. The centre goes through the layer itself. Only the
            radius meets |w|.
        centre and radius returned: `return new_centre - new_radius, new_centre + new_radius`
        -> `return new_centre, new_radius`
            You return centre and radius. Return the ends: centre - radius, centre + radius.
        added up like noise: `radius @ w.abs().T` -> `(radius.square() @ w.square().T).sqrt()`
            You add up squares. So random changes add up. In the worst case all inputs are at their
            worst ends at once, and the terms add up themselves: radius @ |w|.T.
        swapped: `return new_centre - new_radius, new_centre + new_radius`
        -> `return new_centre + new_radius, new_centre - new_radius`
            Your ends are swapped. The lower bounds come first.
        largest radius for all: `radius @ w.abs().T`
        -> `radius.amax(dim=1, keepdim=True) * w.abs().sum(dim=1)`
            You use the largest radius for all inputs. The bounds hold, but they are too wide. Each
            input has its own radius: radius @ |w|.T.
        ends of the whole batch: `centre, radius = `
        -> `upper = upper.amax(dim=0).expand_as(upper)¶centre, radius = `,
        `upper = upper` -> `lower = lower.amin(dim=0).expand_as(lower)¶upper = upper`
            You take the lowest and the highest end over the whole batch. Each example has its own
            interval.
        weights below 0 cut off: `centre @ w.T` -> `centre @ w.relu().T`, `w.abs()` -> `w.relu()`
            You use the positive weights only. A negative weight counts as well, with the ends
            swapped: lower @ w⁺ + upper @ w⁻ + b for the lower bound.
        centre not halved: `(lower + upper) / 2` -> `lower + upper`
            Your centre is lower + upper. Halve it: the centre is the middle of the interval.
        ReLU at the end: `return new_centre - new_radius, new_centre + new_radius`
        -> `return torch.relu(new_centre - new_radius), torch.relu(new_centre + new_radius)`
            You apply a ReLU to the bounds. The layer h @ w.T + b has none.
        no radius: `return new_centre - new_radius, new_centre + new_radius`
        -> `return new_centre, new_centre`
            Both your bounds are the layer at the centre. Subtract and add what the inputs can
            change: radius @ |w|.T.
        """,
    ),
    hints=(
        "Take a single unit 2·h1 - h2. Which values of h1 and h2 make it lowest? The minus sign "
        "wants h2 at its highest.",
        "Write each interval as centre ± radius. How far can the term w·h move if h moves by its "
        "radius? By |w| times the radius, for either sign of w.",
        "The new centre is `centre @ w.T + b`, the new radius `radius @ w.abs().T`.",
    ),
    takeaway="c' = W c + b and r' = |W| r. This is exact for each unit alone.",
)


# --- 3. A network with a hidden layer -------------------------------------------------------------


def _network_bounds(
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, x: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    lower, upper = torch.clamp(x - eps, min=0), torch.clamp(x + eps, max=1)
    centre, radius = (lower + upper) / 2, (upper - lower) / 2
    centre, radius = centre @ w1.T + b1, radius @ w1.abs().T  # the first layer
    lower, upper = torch.relu(centre - radius), torch.relu(centre + radius)  # ReLU of both ends
    centre, radius = (lower + upper) / 2, (upper - lower) / 2
    centre, radius = centre @ w2.T + b2, radius @ w2.abs().T  # the second layer
    return centre - radius, centre + radius


def _network_inputs(generator: torch.Generator) -> list[Args]:
    inputs: list[Args] = [
        (
            *(torch.tensor([[2.0, -1.0], [1.0, -3.0]]), torch.tensor([0.0, 0.2])),
            *(torch.tensor([[1.0, -1.0]]), torch.tensor([0.0])),
            *(torch.tensor([[0.5, 0.05]]), 0.1),
        )
    ]
    for count, pixels, hidden, classes, eps in (
        (3, 4, 5, 2, 0.2),
        (5, 9, 8, 4, 0.1),
        (2, 6, 6, 3, 0.4),
    ):
        w1, b1 = randn(generator, hidden, pixels), randn(generator, hidden)
        w1[:, 2] = 0.0  # a dead pixel
        w2, b2 = randn(generator, classes, hidden), randn(generator, classes)
        inputs.append((w1, b1, w2, b2, _images(generator, count, pixels), eps))
    return inputs


@rule(
    "The network gives values outside your bounds, for some image in the box. Bounds must hold "
    "for all its images, not only for those that you try."
)
def _holds_the_images(args: Args, output: Any) -> object:
    w1, b1, w2, b2, x, eps = args
    low, high = output
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        moved = (x + eps * (2 * rand(generator, *x.shape) - 1).sign()).clamp(0, 1)
        value = torch.relu(moved @ w1.T + b1) @ w2.T + b2
        if not ((value >= low - 1e-4) & (value <= high + 1e-4)).all():
            return False
    return True


def _network_by_signs(
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, x: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    ends = _layer_by_signs(w1, b1, (x - eps).clamp(min=0), (x + eps).clamp(max=1))
    low, high = (end.clamp(min=0) for end in ends)
    return _layer_by_signs(w2, b2, low, high)


def _network_by_layers(
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, x: Tensor, eps: float
) -> list[Tensor]:
    ends = [(x - eps).clamp(0, 1), (x + eps).clamp(0, 1)]
    for w, b in ((w1, b1), (w2, b2)):
        middle, reach = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
        ends = [functional.linear(middle, w, b) + s * reach @ w.abs().T for s in (-1, 1)]
        if w is w1:
            ends = [end * (end > 0) for end in ends]
    return ends


def _darkest_and_brightest(
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, x: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    dark, bright = (
        torch.relu((x + change).clamp(0, 1) @ w1.T + b1) @ w2.T + b2 for change in (-eps, eps)
    )
    return torch.minimum(dark, bright), torch.maximum(dark, bright)


def _product_of_weights(
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, x: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    logits = torch.relu(x @ w1.T + b1) @ w2.T + b2
    reach = eps * (w2.abs() @ w1.abs()).sum(1)
    return logits - reach, logits + reach


def _product_of_weights_in_the_box(
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, x: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    lower, upper = _pixel_box(x, eps)
    logits = torch.relu(x @ w1.T + b1) @ w2.T + b2
    reach = (upper - lower) / 2 @ (w2.abs() @ w1.abs()).T
    return logits - reach, logits + reach


network_bounds = Exercise(
    name="network_bounds",
    lesson="11",
    title="A network with a hidden layer",
    task=(
        "Return the lower and the upper bounds of the logits relu(x @ w1.T + b1) @ w2.T + b2, over "
        "all images within eps of x and inside [0, 1]. x is (N, d), w1 is (H, d), b1 is (H,), w2 "
        "is (K, H), b2 is (K,); eps is a number. The two results are (N, K) each. Go through the "
        "network layer by layer."
    ),
    difficulty=3,
    minutes=12,
    reference=_network_bounds,
    inputs=_network_inputs,
    properties=(_in_order, _holds_the_images),
    right_answers=(_network_by_signs, _network_by_layers),
    wrong_answers=(
        *edits(
            _network_bounds,
            """
        box not clamped: `torch.clamp(x - eps, min=0)` -> `x - eps`,
        `torch.clamp(x + eps, max=1)` -> `x + eps`
            You do not clamp the box to [0, 1]. The bounds hold, but they also cover images with
            pixels that do not exist, so they are wider than they need to be. (After the clamp, x
            is no longer the centre of its box, and eps no longer the radius.)
        ReLU of the radius: `torch.relu(centre - radius), torch.relu(centre + radius)`
        -> `torch.relu(centre) - torch.relu(radius), torch.relu(centre) + torch.relu(radius)`
            Your ReLU acts on the centre. (On a radius it changes nothing.) A ReLU cuts off values,
            and the interval reaches further than its centre. Make the two ends first, and apply the
            ReLU to these.
        ReLU of the centre: `torch.relu(centre - radius), torch.relu(centre + radius)`
        -> `torch.relu(torch.relu(centre) - radius), torch.relu(centre) + radius`
            You apply the ReLU to the centre before you make the ends. An interval that lies below 0
            then reaches above 0. Make the ends first.
        no ReLU: `torch.relu(centre - radius), torch.relu(centre + radius)`
        -> `centre - radius, centre + radius`
            The ReLU between the two layers is missing.
        ReLU of one end: `torch.relu(centre - radius)` -> `centre - radius`
            Your ReLU acts on the upper end only. The unit's lowest value passes it too: no unit
            gives less than 0.
        ReLU at the end: `return centre - radius, centre + radius`
        -> `return torch.relu(centre - radius), torch.relu(centre + radius)`
            You apply a ReLU to the logits as well. The last layer has none.
        no absolute value in the first layer: `w1.abs().T` -> `w1.T`
            The radius of the first layer needs |w1|. Otherwise parts of it cancel, and the bounds
            do not hold.
        no absolute value in the second layer: `w2.abs().T` -> `w2.T`
            The radius of the second layer needs |w2|. Otherwise parts of it cancel, and the bounds
            do not hold.
        no absolute values: `w1.abs().T` -> `w1.T`, `w2.abs().T` -> `w2.T`
            You forgot the absolute values: the radius goes through |w1| and |w2|.
        biases in the radius: `w1.abs().T` -> `w1.abs().T + b1`, `w2.abs().T` -> `w2.abs().T + b2`
            You add the biases to the radius. They belong to the centre only.
        eps once more: `w2.abs().T` -> `w2.abs().T + eps`
            You add eps again in the second layer. It acts on the pixels only.
        no biases: `w1.T + b1` -> `w1.T`, `w2.T + b2` -> `w2.T`
            The biases are missing. They belong to the centre, in both layers.
        ReLU of the centre kept: `lower, upper = torch.relu(centre - radius)`
        -> `kept = torch.relu(centre)¶lower, upper = torch.relu(centre - radius)`,
        `centre @ w2.T` -> `kept @ w2.T`
            After the ReLU you go on with relu(centre). It is not the middle of the two new ends:
            make the centre anew, (lower + upper) / 2.
        whole length in the second layer: `radius @ w2.abs().T` -> `2 * radius @ w2.abs().T`
            In the second layer your radius is the whole length of the interval. Halve it: (upper -
            lower) / 2.
        whole length in the first layer: `radius @ w1.abs().T` -> `2 * radius @ w1.abs().T`
            In the first layer your radius is the whole length of the box. Halve it: (upper - lower)
            / 2.
        whole lengths: `(upper - lower) / 2` => `upper - lower`
            Your radii are the whole lengths of the intervals, in both layers. Halve them: (upper -
            lower) / 2.
        radius eps at the clamped centre: `radius @ w1.abs().T` -> `eps * w1.abs().sum(dim=1)`
            Your centre is that of the clamped box, but your radius is eps. Near 0 and 1 the box is
            narrower: the radius is (upper - lower) / 2.
        ReLU of the lower end: `torch.relu(centre + radius)` -> `centre + radius`
            Your ReLU acts on the lower end only. Where both ends are below 0, the lower end then
            lies above the upper one. Apply it to both.
        clamped in the middle: `torch.relu(centre - radius), torch.relu(centre + radius)`
        -> `torch.clamp(centre - radius, 0, 1), torch.clamp(centre + radius, 0, 1)`
            You clamp the hidden units to [0, 1]. Only pixels have that range. A ReLU cuts off what
            is below 0, nothing above.
        positive weights only: `centre @ w1.T` -> `centre @ w1.relu().T`, `w1.abs()` -> `w1.relu()`,
        `centre @ w2.T` -> `centre @ w2.relu().T`, `w2.abs()` -> `w2.relu()`
            You use the positive weights only. Negative ones count as well: the centre goes through
            w, the radius through |w|.
        no bias of the first layer: `centre @ w1.T + b1` -> `centre @ w1.T`
            The bias b1 is missing. It belongs to the centre of the first layer.
        """,
        ),
        Misconception(
            "two images only",
            _darkest_and_brightest,
            "You compute the network at the darkest and at the brightest image. Other images of "
            "the box give lower and higher values. Carry intervals through the layers.",
        ),
        Misconception(
            "product of the weights",
            _product_of_weights,
            "You put eps·|w2|·|w1| around the logits of x. These bounds hold, but they are wider "
            "than they need to be: they forget that the box ends at 0 and 1, and that a ReLU stops "
            "what is below 0. Carry both ends through the layers.",
        ),
        Misconception(
            "product of the weights, in the box",
            _product_of_weights_in_the_box,
            "You put radius·|w1|·|w2| around the logits of x. In a clamped box x is not the "
            "centre, and a ReLU stops what is below 0. Carry both ends through the layers.",
        ),
    ),
    hints=(
        "There are four stages: the box of the pixels, the first layer, the ReLU, the second "
        "layer. You have written the box and the layer already.",
        "A ReLU never falls, so it maps the ends of an interval to the ends of the new one: "
        "`torch.relu(lower)`, `torch.relu(upper)`.",
        "After the ReLU, centre and radius are made anew from the two ends: (lower + upper) / 2 "
        "and (upper - lower) / 2.",
    ),
    takeaway="Each stage is right by itself, so the whole is: no image of the box gets outside.",
)


# --- 4. The margin --------------------------------------------------------------------------------


def _my_margins(w: Tensor, b: Tensor, lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    centre, radius = (lower + upper) / 2, (upper - lower) / 2
    apart = w[y].unsqueeze(1) - w  # (N, K, d): the label's row minus each row
    middle = (apart * centre.unsqueeze(1)).sum(2) + b[y].unsqueeze(1) - b  # (N, K)
    return middle - (apart.abs() * radius.unsqueeze(1)).sum(2)


def _margin_inputs(generator: torch.Generator) -> list[Args]:
    w, b = torch.tensor([[1.0, 2.0], [1.0, 0.0]]), torch.tensor([0.0, 0.5])
    first = torch.tensor([[0.0, 0.5]]), torch.tensor([[1.0, 1.0]]), torch.tensor([0])
    inputs: list[Args] = [(w, b, *first)]
    for count, features, classes in ((4, 3, 3), (6, 5, 10), (3, 8, 4)):
        w, b = randn(generator, classes, features), randn(generator, classes)
        ends = _intervals(generator, count, features)
        inputs.append((w, b, *ends, labels(generator, count, classes)))
    return inputs


@rule("The column of the label should be 0: a class is never ahead of itself.")
def _own_is_zero(args: Args, output: Tensor) -> object:
    return (output.gather(1, args[4].unsqueeze(1)).abs() < 1e-4).all()


def _margins_by_loop(w: Tensor, b: Tensor, lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    rows = []
    for low, high, label in zip(lower, upper, y, strict=True):
        apart = w[label] - w
        lowest = torch.where(apart > 0, low, high)  # each input where it harms most
        rows.append((apart * lowest).sum(1) + b[label] - b)
    return torch.stack(rows)


def _margins_by_signs(w: Tensor, b: Tensor, lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    apart = w[y][:, None] - w[None]
    plus, minus = apart.clamp(min=0), apart.clamp(max=0)
    ends = torch.einsum("nkd,nd->nk", plus, lower) + torch.einsum("nkd,nd->nk", minus, upper)
    return ends + b[y][:, None] - b[None]


def _lowest_less_highest(w: Tensor, b: Tensor, lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    low, high = _layer_bounds(w, b, lower, upper)
    return low.gather(1, y.unsqueeze(1)) - high


def _margins_of_logits(w: Tensor, b: Tensor, lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    return _lowest_less_highest(w, b, lower, upper, y).scatter(1, y.unsqueeze(1), 0.0)


my_margins = Exercise(
    name="my_margins",
    lesson="11",
    title="The margin",
    task=(
        "The logits are z = h @ w.T + b, and each input h may be anywhere between `lower` and "
        "`upper`. Return for each class k the lowest value of the margin z_y - z_k: (N, K), with 0 "
        "in the label's own column. Subtract the rows of w first, then bound. w is (K, d), b is "
        "(K,), lower and upper are (N, d), y is (N,) int64."
    ),
    difficulty=3,
    minutes=10,
    reference=_my_margins,
    inputs=_margin_inputs,
    properties=(_own_is_zero,),
    right_answers=(_margins_by_loop, _margins_by_signs),
    wrong_answers=(
        Misconception(
            "bounds of both logits",
            _margins_of_logits,
            "You subtract the highest z_k from the lowest z_y. These bounds hold, but they lose "
            "much: z_y and z_k depend on the same inputs, which cannot be at both ends at once. "
            "Subtract the rows first: z_y - z_k = (w_y - w_k)·h + b_y - b_k.",
        ),
        Misconception(
            "bounds of both logits, the label's too",
            _lowest_less_highest,
            "You subtract the highest z_k from the lowest z_y, even for k = y. Subtract the rows "
            "of w first: then the label's column is 0 by itself, and the other bounds are better.",
        ),
        *edits(
            _my_margins,
            """
        no absolute value: `apart.abs()` -> `apart`
            The radius needs the absolute value of the differences, |w_y - w_k|. Without it you have
            the margin at `lower`, which need not be the lowest.
        absolute value after the sum: `(apart.abs() * radius.unsqueeze(1)).sum(2)`
        -> `(apart * radius.unsqueeze(1)).sum(2).abs()`
            Your result is the smaller of two margins, at `lower` and at `upper`. You also get it by
            an absolute value after the sum. Then terms of opposite sign cancel. Take |w_y - w_k|
            first, then multiply and add up.
        difference of absolute values: `apart.abs()` -> `(w[y].abs().unsqueeze(1) - w.abs())`
            Your result is the lowest z_y minus the lowest z_k, or |w_y| - |w_k| in place of
            |w_y - w_k|. Subtract the rows of w first, then take the absolute value.
        absolute values first: `apart.abs()` -> `(w[y].abs().unsqueeze(1) - w.abs()).abs()`
            You take the absolute values before you subtract. Weights of opposite sign then lose
            their difference. Subtract first: |w_y - w_k|.
        highest: `middle - (` -> `middle + (`
            You return the highest margin. The worst case is the lowest: subtract the radius.
        the other way round: `w[y].unsqueeze(1) - w` -> `w - w[y].unsqueeze(1)`,
        `b[y].unsqueeze(1) - b` -> `b - b[y].unsqueeze(1)`
            You bound z_k - z_y. The margin is z_y - z_k: the label's logit comes first.
        no bias: ` + b[y].unsqueeze(1) - b` -> ``
            The biases are missing. The margin holds b_y - b_k.
        bias of the label only: ` + b[y].unsqueeze(1) - b` -> ` + b[y].unsqueeze(1)`,
        `return middle` -> `return (middle`,
        `radius.unsqueeze(1)).sum(2)` -> `radius.unsqueeze(1)).sum(2)).scatter(1, y[:, None], 0.0)`
            You add b_y and do not subtract b_k. The margin holds b_y - b_k.
        infinite in the label's column: `return middle` -> `return (middle`,
        `radius.unsqueeze(1)).sum(2)`
        -> `radius.unsqueeze(1)).sum(2)).scatter(1, y[:, None], torch.inf)`
            You put infinity into the label's own column. Here that column holds 0: z_y - z_y.
        biases widen: `+ b[y].unsqueeze(1) - b` -> `- (b[y].unsqueeze(1) - b).abs()`
            You subtract |b_y - b_k|. A bias is the same for all images of the box: b_y - b_k is
            added as it is, with its sign.
        only the centre: `middle - (apart.abs() * radius.unsqueeze(1)).sum(2)` -> `middle`
            You return the margin at the centre of the box. Subtract what the inputs can take away:
            |w_y - w_k| times the radius.
        whole length: `(upper - lower) / 2` -> `upper - lower`
            Your radius is the whole length of the interval. Halve it.
        best case of both: `return middle - (apart.abs() * radius.unsqueeze(1)).sum(2)`
        -> `sizes = w[y].abs().unsqueeze(1) + w.abs()¶return best`,
        `return best` -> `best = middle + (sizes * radius.unsqueeze(1)).sum(2)¶return zeroed`,
        `return zeroed` -> `return best.scatter(1, y.unsqueeze(1), 0.0)`
            You take the highest z_y and the lowest z_k. That is the best case. The worst case is
            the lowest margin z_y - z_k.
        end by the label's row: `apart.abs() * radius` -> `apart * (w[y].sign() * radius)`
            You choose the ends by the signs of the label's row w_y. The sign of the difference w_y
            - w_k decides, and it is another one for each k.
        bias of the others only: ` + b[y].unsqueeze(1) - b` -> ` - b`
            You subtract b_k and do not add b_y. The margin holds b_y - b_k.
        label of the first example: `w[y]` -> `w[y[:1]]`, `b[y]` -> `b[y[:1]]`
            You use the label of the first example for all. Each example has its own: w[y] is (N,
            d).
        weights not subtracted: `w[y].unsqueeze(1) - w`
        -> `w[y].unsqueeze(1).expand(-1, len(w), -1)`
            You bound z_y alone. The margin is z_y - z_k: subtract the row w_k from w_y.
        best case of both, unmasked: `return middle - (apart.abs() * radius.unsqueeze(1)).sum(2)`
        -> `sizes = w[y].abs().unsqueeze(1) + w.abs()¶return best`,
        `return best` -> `return middle + (sizes * radius.unsqueeze(1)).sum(2)`
            You subtract the lowest z_k from the highest z_y, even for k = y. That is the best case.
            Subtract the rows of w first, then take the lowest value.
        cut off below 0: `return middle - (apart.abs() * radius.unsqueeze(1)).sum(2)`
        -> `least = middle - (apart.abs() * radius.unsqueeze(1)).sum(2)¶return least.clamp(min=0)`
            Your margins are never below 0. A negative one says that the proof fails there, and by
            how much: leave out `relu` or `clamp`.
        """,
        ),
    ),
    hints=(
        "z_y - z_k is itself one linear unit. What are its weights and its bias?",
        "Its weights are w_y - w_k, its bias is b_y - b_k. Bound it as a unit of exercise 2.",
        "`w[y]` is (N, d), the label's row for each example. `w[y].unsqueeze(1) - w` is (N, K, d).",
    ),
    takeaway="For a linear model this is lesson 3's closed form, one pair of classes at a time.",
)


# --- 5. Both ends ---------------------------------------------------------------------------------


def _both_ends(wrong: Tensor, proved: Tensor) -> tuple[float, float, float]:
    broken = wrong.any(dim=0)  # one success is enough
    found = broken.float().mean().item()
    not_proved = (~proved).float().mean().item()
    undecided = (~proved & ~broken).float().mean().item()  # neither an attack nor a proof
    return found, not_proved, undecided


def _end_inputs(generator: torch.Generator) -> list[Args]:
    # Rows: no attack, then two attacks. What is proved is never wrong.
    wrong = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0]]).bool()
    inputs: list[Args] = [(wrong, torch.tensor([0, 0, 0, 0, 1]).bool())]
    for attacks, count, chance in ((3, 40, 0.2), (2, 64, 0.1), (4, 30, 0.4), (1, 10, 0.3)):
        wrong = rand(generator, attacks, count) < chance
        proved = (rand(generator, count) < 0.6) & ~wrong.any(0)
        inputs.append((wrong, proved))
    # A row that breaks nothing.
    wrong, proved = torch.tensor([[0, 0, 0], [0, 1, 0]]).bool(), torch.tensor([1, 0, 0]).bool()
    inputs.append((wrong, proved))
    return inputs


@rule("The true worst-case error lies between your first two numbers: the first is not larger.")
def _ends_in_order(args: Args, output: Any) -> object:
    found, not_proved, _ = (float(value) for value in output)
    return found <= not_proved + 1e-6


def _ends_by_counting(wrong: Tensor, proved: Tensor) -> tuple[float, float, float]:
    broken = sum(map(any, wrong.T.tolist())) / len(proved)
    not_proved = 1 - sum(proved.tolist()) / len(proved)
    return broken, not_proved, not_proved - broken


def _ends_by_shares(wrong: Tensor, proved: Tensor) -> tuple[Tensor, ...]:
    broken = wrong.double().amax(0)
    safe = proved.double()
    return tuple(torch.stack([broken, 1 - safe, 1 - torch.maximum(broken, safe)]).mean(1))


both_ends = Exercise(
    name="both_ends",
    lesson="11",
    title="Both ends",
    task=(
        "Return three shares of all N digits, as fractions: wrong under at least one row of "
        "`wrong`; not proved; and undecided, that is neither wrong under any row nor proved. wrong "
        "is (A, N) bool: row 0 is no attack, each other row an attack; proved is (N,) bool."
    ),
    difficulty=1,
    minutes=5,
    reference=_both_ends,
    inputs=_end_inputs,
    properties=(_ends_in_order,),
    right_answers=(_ends_by_counting, _ends_by_shares),
    wrong_answers=edits(
        _both_ends,
        """
        undecided from the rates: `undecided = (~proved & ~broken).float().mean().item()`
        -> `undecided = 1 - not_proved - found`
            You take both rates away from 1. An image that is broken is not proved either, so it is
            taken away twice. Undecided is `not_proved` less `found`.
        all else is broken: `wrong.any(dim=0)` -> `~proved`
            You count every digit without a proof as broken. "Not proved" says only that the proof
            failed. What was broken stands in `wrong`.
        proved share: `(~proved).float()` -> `proved.float()`
            Your second number is the share that is proved. Return the share that is *not*: it is
            the upper end of the error.
        not broken: `(~proved & ~broken)` -> `(~broken)`
            Your third number is all that no attack broke. The digits with a proof are decided:
            leave them out.
        not proved: `(~proved & ~broken)` -> `(~proved)`
            Your third number is all that is not proved. The digits that an attack broke are
            decided: leave them out.
        no attack counted: `wrong.any(dim=0)` -> `wrong[0]`
            You look at row 0 only, the errors without an attack. An attack may choose any row.
        clean errors left out: `wrong.any` -> `wrong[1:].any`
            You leave out row 0. A digit that is wrong without an attack is wrong: the attacker
            need not change anything.
        last attack: `wrong.any(dim=0)` -> `wrong[-1]`
            You look at the last row only. Different attacks break different digits.
        every attack: `wrong.any` -> `wrong.all`
            You count a digit only if every row breaks it. One success is enough: `any`.
        mean over the attacks: `found = broken` -> `found = wrong`
            You average over the attacks. A digit is lost as soon as one of them succeeds.
        the strongest attack alone: `found = broken.float().mean().item()`
        -> `found = wrong.float().mean(dim=1).max().item()`
            Your first number is the error under the strongest attack. Another attack may break
            other digits: combine the rows digit by digit first.
        either of two: `(~proved & ~broken)` -> `(~proved | ~broken)`
            Your third number counts a digit that is not proved *or* not broken. Undecided is what
            is neither proved nor broken: `&`.
        accuracies: `found = broken` -> `found = (~broken)`, `(~proved).float()` -> `proved.float()`
            You return shares of digits that are right. Return errors: wrong, and not proved.
        percent: `return found, not_proved, undecided`
        -> `return 100 * found, 100 * not_proved, 100 * undecided`
            Your values are percentages. Return fractions between 0 and 1.
        largest error: `wrong.any(dim=0)`
        -> `wrong.float().mean(dim=1).max() + torch.zeros(len(proved))`,
        `(~proved & ~broken).float().mean().item()` -> `not_proved - found`
            You take the error of the worst row. Different attacks break different digits: decide
            digit by digit first.
        of the unproved: `(~proved & ~broken).float().mean().item()`
        -> `(~broken)[~proved].float().mean().item()`
            Your third share is over the digits that are not proved. The task asks for shares of all
            digits.
        mean over the attacks, undecided from it: `found = broken` -> `found = wrong`,
        `(~proved & ~broken).float().mean().item()` -> `not_proved - found`
            Your first number is the mean over the attacks, and the third one is computed from it. A
            digit is lost as soon as one row breaks it: combine the rows first, `wrong.any(dim=0)`.
        broken as undecided: `(~proved & ~broken)` -> `(~proved & broken)`
            Your third number counts broken digits. They are decided. Undecided is what is neither
            proved nor broken: `~proved & ~broken`.
        only what was right before: `broken = `
        -> `right = ~wrong[0]¶wrong, proved = wrong[:, right], proved[right]¶broken = `
            Your shares are over the digits that are right without an attack. The task asks for
            shares of all N digits.
        product of two rates: `(~proved & ~broken).float().mean().item()`
        -> `not_proved * (1 - found)`
            Your third number is a product of two rates. That would be right if proofs and attacks
            had nothing to do with each other. Ask both questions of each digit: `&`.
        any over the digits: `found = broken` -> `found = wrong.any(dim=1)`
            Your first number is the share of the rows that break some digit: `any` ran over the
            digits. It should run over the rows, dim=0.
        one verdict for all: `found = broken` -> `found = wrong.any()`
            Your first number asks whether any row breaks any digit. Ask it of each digit:
            `wrong.any(dim=0)`.
        first two swapped: `return found, not_proved` -> `return not_proved, found`
            Your first two numbers are swapped. First what is wrong under some row, then what is not
            proved.
        undecided as not proved: `not_proved = (~proved)` -> `not_proved = (~proved & ~broken)`
            Your second number leaves out the broken digits. They are not proved either: count them.
        product of the accuracies: `found = broken.float().mean().item()`
        -> `found = 1 - (~wrong).float().mean(dim=1).prod().item()`
            Your first number comes from a product of accuracies. That would be right if the attacks
            succeeded independently of each other. They do not: combine the rows digit by digit.
        """,
    ),
    hints=(
        "Each digit is in one of three states: broken, proved, or undecided. Sort five digits by "
        "hand first.",
        "`wrong.any(dim=0)` asks of each digit whether one row broke it. `~` means not, `&` means "
        "and.",
        "`.float().mean()` turns true and false into a share.",
    ),
    takeaway="The truth lies between the first two numbers. The third one is what nobody knows.",
)


# --- 6. The loss of the bound ---------------------------------------------------------------------


def _worst_loss(lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    own = torch.nn.functional.one_hot(y, lower.shape[1]).bool()  # (N, K): True at the label
    worst = torch.where(own, lower, upper)  # the label at its lowest, all others at their highest
    return torch.nn.functional.cross_entropy(worst, y, reduction="none")


def _loss_inputs(generator: torch.Generator) -> list[Args]:
    first = torch.tensor([[0.0, -1.0]]), torch.tensor([[2.0, 1.0]]), torch.tensor([0])
    inputs: list[Args] = [first]
    for count, classes in ((4, 3), (6, 10), (3, 5)):
        lower, upper = _intervals(generator, count, classes)
        inputs.append((3 * lower, 3 * upper, labels(generator, count, classes)))
    # Far behind: the label's probability is 0 in float32, its loss is not infinite.
    far = torch.tensor([[-150.0, 0.0, 10.0], [2.0, -130.0, 1.0]])
    inputs.append((far, far + torch.tensor([1.0, 3.0, 2.0]), torch.tensor([0, 1])))
    large = torch.tensor([[100.0, 95.0, 90.0], [98.0, 96.0, 99.0]])  # exp(100) is inf in float32
    inputs.append((large, large + 2.0, torch.tensor([0, 2])))
    return inputs


@rule("Your loss is below that of some logits inside the bounds, so it is no upper bound.")
def _bounds_the_loss(args: Args, output: Tensor) -> object:
    lower, upper, y = args
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = lower + (upper - lower) * rand(generator, *lower.shape)
        loss = functional.cross_entropy(logits, y, reduction="none")
        if not (output >= loss - 1e-4).all():
            return False
    return True


def _loss_by_scatter(lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    own = y.unsqueeze(1)
    worst = upper.scatter(1, own, lower.gather(1, own))
    return worst.logsumexp(1) - worst.gather(1, own).squeeze(1)


def _loss_by_margins(lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    rows = []
    for low, high, label in zip(lower, upper, y.tolist(), strict=True):
        others = torch.cat([high[:label], high[label + 1 :]]) - low[label]
        rows.append(functional.softplus(others.logsumexp(0)))
    return torch.stack(rows)


def _nearest_class(lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    own = y.unsqueeze(1)
    others = upper.scatter(1, own, -torch.inf)
    return functional.softplus(others.amax(1) - lower.gather(1, own).squeeze(1))


def _larger_loss(lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
    low, high = (functional.cross_entropy(z, y, reduction="none") for z in (lower, upper))
    return torch.maximum(low, high)


worst_loss = Exercise(
    name="worst_loss",
    lesson="11",
    title="The loss of the bound",
    task=(
        "Return the largest cross-entropy, (N,), that logits between `lower` and `upper` can have. "
        "lower and upper are (N, K), y is (N,) int64, the labels. First choose the worst logits, "
        "then take their cross-entropy, one value for each example. Training follows its gradient, "
        "so keep it attached to `lower` and `upper`."
    ),
    difficulty=2,
    minutes=7,
    reference=_worst_loss,
    inputs=_loss_inputs,
    asks=("slope",),
    properties=(_bounds_the_loss,),
    right_answers=(_loss_by_scatter, _loss_by_margins),
    wrong_answers=(
        *edits(
            _worst_loss,
            """
        best case: `(own, lower, upper)` -> `(own, upper, lower)`
            You put the label at its highest and the others at their lowest. That is the best case,
            the smallest loss. An attacker wants the opposite.
        all at their lowest: `torch.where(own, lower, upper)` -> `lower`
            You take all logits at their lowest. The other classes harm most at their highest.
        all at their highest: `torch.where(own, lower, upper)` -> `upper`
            You take all logits at their highest. The label's own logit harms most at its lowest.
        the middle: `torch.where(own, lower, upper)` -> `(lower + upper) / 2`
            You take the middle of each interval. That is the loss without an attack, more or less.
            Choose the worse end of each logit.
        mean: `, reduction="none"` -> ``
            You return the mean over the examples. Return one value for each: `reduction="none"`.
        sum: `"none"` -> `"sum"`
            You return the sum over the examples. Return one value for each: `reduction="none"`.
        columns of all labels: `torch.where(own, lower, upper)`
        -> `upper.clone()¶worst[:, y] = lower[:, y]`
            `worst[:, y]` is the columns of ALL labels, in every row. One entry of each row is
            meant: `worst[torch.arange(len(y)), y]`.
        softmax first: `cross_entropy(worst,` -> `cross_entropy(worst.softmax(1),`
            You apply softmax before `cross_entropy`. That function expects logits and applies
            softmax itself.
        nll_loss of logits: `functional.cross_entropy(worst` -> `functional.nll_loss(worst`
            Your result is minus the label's worst logit. That is what `nll_loss` gives for logits.
            Your logits are right: take their `cross_entropy`, or `log_softmax` first.
        probability: `return torch.nn.functional.cross_entropy(worst, y, reduction="none")`
        -> `return worst.softmax(dim=1)[own]`
            Your result is the label's probability under the worst logits. The logits are right. The
            loss is minus its logarithm: use `cross_entropy`.
        margin: `return torch.nn.functional.cross_entropy(worst, y, reduction="none")`
        -> `return worst.masked_fill(own, -torch.inf).amax(dim=1) - worst[own]`
            Your result is the best other logit minus the label's. The logits are right, but this is
            a margin. Take the cross-entropy of these logits.
        logsumexp of the others:
        `return torch.nn.functional.cross_entropy(worst, y, reduction="none")`
        -> `return worst.masked_fill(own, -torch.inf).logsumexp(dim=1) - worst[own]`
            Your logsumexp leaves out the label's own logit. The logits are right. The label
            belongs into the sum as well: take their `cross_entropy`.
        highest label in the sum:
        `return torch.nn.functional.cross_entropy(worst, y, reduction="none")`
        -> `return upper.logsumexp(dim=1) - lower[own]`
            Your logsumexp holds the label's logit at its highest, and you subtract it at its
            lowest. It has one value only: put its lowest into both places.
        softmax and logarithm:
        `return torch.nn.functional.cross_entropy(worst, y, reduction="none")`
        -> `return -worst.softmax(dim=1)[own].log()`
            Your formula is right, but a very small probability rounds to 0, and its logarithm is
            infinite. `cross_entropy` works with logits and stays finite.
        exp of logits: `return torch.nn.functional.cross_entropy(worst, y, reduction="none")`
        -> `return -(worst.exp()[own] / worst.exp().sum(dim=1)).log()`
            Your formula is right, but exp leaves the range of float32: it becomes infinite or 0.
            `cross_entropy` works with logits and stays finite.
        rivals above the label: `torch.where(own, lower, upper)`
        -> `torch.where(own | (upper < lower.gather(1, y[:, None])), lower, upper)`
            You raise only the classes that can get ahead of the label. Each other class adds to the
            loss: put all of them at their highest.
        class 0 for all: `own = ` -> `y = torch.zeros_like(y)¶own = `
            You take class 0 for the label of all examples. Each example has its own: y.
        predicted labels: `own = ` -> `y = ((lower + upper) / 2).argmax(dim=1)¶own = `
            You take the class that wins in the middle of the bounds for the label. The labels are
            given: use y.
        one rival only: `worst = torch.where(own, lower, upper)`
        -> `rival = upper.masked_fill(own, -torch.inf).argmax(dim=1, keepdim=True)¶worst = raised`,
        `raised` -> `lower.scatter(1, rival, upper.gather(1, rival))`
            You raise only the strongest other class. Each other class adds to the loss: put all of
            them at their highest.
        class 0 at its lowest: `one_hot(y, lower` -> `one_hot(torch.zeros_like(y), lower`
            You put class 0 at its lowest in every row. That is for the label of the row: column y.
        one label for all: `own = ` -> `y = y[:1].expand(len(y))¶own = `
            You take the label of the first example for all. Each row has its own: y.
        """,
        ),
        Misconception(
            "only the nearest class",
            _nearest_class,
            "You count only the strongest other class. The cross-entropy adds up all of them.",
        ),
        Misconception(
            "the larger of two losses",
            _larger_loss,
            "You take the larger one of two losses: with all logits at their lowest, and with all "
            "at their highest. Worse than both is a mixture: the label low, the others high.",
        ),
    ),
    hints=(
        "The cross-entropy falls when the label's logit rises, and grows when another one rises. "
        "So which end of each interval is the worst?",
        "Make one tensor of logits: `lower` in the label's column, `upper` in all others. "
        "`torch.where(condition, a, b)` chooses entry by entry.",
        "`torch.nn.functional.one_hot(y, K).bool()` is True exactly in the label's column.",
    ),
    takeaway="Training on this loss makes the worst logits right, and with them all the others.",
)


EXERCISES = (pixel_box, layer_bounds, network_bounds, my_margins, both_ends, worst_loss)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    Interval bounds prove nothing for a digit. What follows?
    - An adversarial example exists in the box.
        The bounds are wider than the truth. The part that crosses the border may hold no image at
        all.
    - The model is wrong at that digit.
        It may be right there, and right in the whole box.
    + Nothing. It may be stable or not.
        An attack may still show that it is not, or a better proof that it is.

    A model has 10 % error under the best attacks, and 14 % is not proved. Where is its worst-case
    error on these digits?
    - At 12 %, the middle.
        Nothing makes the middle more likely than the ends.
    + Somewhere from 10 % to 14 %.
        Attacks show that at least 10 % is lost, and proofs that no more than 14 % is.
    - At 10 %, since no attack finds more.
        A better attack may find more, up to 14 %.
    - At 14 %, to be on the safe side.
        That is a bound, and the truth may be better. Report both ends.

    A unit computes 2·h1 - h2, with h1 in [0, 1] and h2 in [0, 3]. What is its lowest value?
    - 0, at h1 = 0 and h2 = 0.
        h2 counts with a minus sign. It harms most where it is highest.
    + -3, at h1 = 0 and h2 = 3.
        Each input is at the end that its own weight's sign asks for.
    - -1, at h1 = 1 and h2 = 3.
        h1 has a positive weight, so it is worst at its lower end, 0.

    Why are the bounds of an ordinary deep network so wide?
    - The numbers are rounded in every layer.
        Rounding adds very little. Bounds in exact arithmetic would be as wide.
    + Each layer forgets how its inputs hang together.
        It allows every unit its own worst image. No single image is the worst for all of them, and
        the difference grows from layer to layer.
    - Its gradients are hidden, as in a masked network.
        The bounds use no gradient. They are wide for any network that was not trained on them.

    A model is certified at eps 0.3 on 9 of 10 digits. Somebody shifts each digit by two pixels.
    What do the proofs say?
    - Nine in ten are still read rightly.
        A shift changes many pixels by up to 1, so the shifted image lies outside the box.
    - The model must fail, as it was not trained on shifts.
        It may do well or badly: that has to be measured.
    + Nothing: a shift is not in the box.
        A proof covers exactly the changes that it was made for.

    A linear model with two classes is bounded by intervals. How wide is the gap between the bound
    and FGSM?
    + There is none.
        With a single linear layer nothing is forgotten. The lowest margin is reached at a corner,
        and FGSM goes there.
    - It grows with the number of pixels.
        Both sides grow alike: each is the margin less eps·‖w‖₁.
    - That depends on how the model was trained.
        It does for networks with hidden layers. Here both numbers have the same formula.
    """
)
