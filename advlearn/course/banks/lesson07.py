"""Exercises of lesson 07: why adversarial examples transfer."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advlearn.course import grading
from advlearn.course.banks import inputs
from advlearn.course.grading import Args, Exercise, edits, parse, rule

functional = torch.nn.functional
_NAN = float("nan")


def _network(generator: torch.Generator, features: int, hidden: int, classes: int) -> nn.Module:
    """Make a small ReLU network, in eval mode, whose weights require no gradients."""
    model = inputs.network(generator, features, hidden, classes, activation=nn.ReLU)
    return model.requires_grad_(False)


# --- 1. A walk through input space --------------------------------------------------------------


def _walk_logits(model: nn.Module, x: Tensor, direction: Tensor, eps: Tensor) -> Tensor:
    steps = eps.reshape(-1, *[1] * (x.ndim - 1))  # (E, 1, ...): one row for each eps
    points = x + steps * direction  # (E, ...): x and direction are repeated E times
    logits: Tensor = model(points)
    return logits  # (E, K)


def _walk_inputs(generator: torch.Generator) -> list[Args]:
    x = torch.tensor([[0.5, 0.0, 1.0]])
    direction = torch.tensor([[1.0, -1.0, 1.0]])
    return [
        (_network(generator, 3, 4, 3), x, direction, torch.tensor([-2.0, 0.0, 1.0])),
        (_network(generator, 3, 0, 2), x, direction, torch.tensor([0.25])),
        (
            _network(generator, 4, 6, 3),
            inputs.rand(generator, 1, 1, 2, 2),
            inputs.randn(generator, 1, 1, 2, 2),
            torch.linspace(-15, 15, 7),
        ),
        (
            _network(generator, 9, 8, 10),
            inputs.images(generator, 1, 1, 3, 3),
            (2 * inputs.randn(generator, 1, 1, 3, 3)).round(),
            torch.tensor([0.0, 0.1, 0.3]),
        ),
    ]


@rule("At eps = 0 your row should hold the logits of x itself.")
def _at_zero_stands_the_digit(args: Args, output: Tensor) -> object:
    model, x, _, eps = args
    here = output[eps == 0]
    return torch.allclose(here, model(x).expand_as(here), atol=1e-4)


def _walk_by_loop(model: nn.Module, x: Tensor, direction: Tensor, eps: Tensor) -> Tensor:
    return torch.cat([model(x + float(e) * direction) for e in eps])


def _walk_by_stack(model: nn.Module, x: Tensor, direction: Tensor, eps: Tensor) -> Tensor:
    points = [x[0].add(direction[0], alpha=e) for e in eps.tolist()]
    logits: Tensor = model(torch.stack(points))
    return logits


walk_logits = Exercise(
    name="walk_logits",
    lesson="07",
    title="A walk through input space",
    task=(
        "Return the logits of the model at x + eps·direction for each of the E numbers in eps, "
        "without clipping. x and direction are one image each, such as (1, 1, 28, 28); eps is "
        "(E,). The model takes a batch of images and is in evaluation mode. The result is (E, K)."
    ),
    difficulty=1,
    minutes=5,
    reference=_walk_logits,
    inputs=_walk_inputs,
    properties=(_at_zero_stands_the_digit,),
    right_answers=(_walk_by_loop, _walk_by_stack),
    wrong_answers=edits(
        _walk_logits,
        """
        clipped: `model(points)` -> `model(points.clamp(0, 1))`
            You put the points back into [0, 1]. Clipping bends the line: from some eps on, pixels
            stop changing. This walk is meant to leave the range of images, so do not clip.
        probabilities: `return logits` -> `return logits.softmax(dim=1)`
            You return probabilities. The softmax bends every curve. The task asks for the logits,
            the model's output as it is.
        answers: `return logits` -> `return logits.argmax(dim=1)`
            You return the class that wins at each eps. The task asks for all K logits: the other
            classes show what happens, too.
        without x: `x + ` -> ``
            Your walk starts at the black image 0. It should pass through the digit: add x.
        minus: `x + ` -> `x - `
            You walk the other way: x - eps·direction. A positive eps should follow the direction.
        accumulates: `steps * ` -> `steps.cumsum(0) * `
            Each of your steps starts where the last one ended, so the steps add up. Every point is
            counted from x: x + eps·direction.
        between two points: `x + ` -> `(1 - steps) * x + `
            You mix x and the direction, as if you walked from one image to another. The direction
            is not an image: all of x stays, and eps·direction is added.
        sign of the direction: `* direction` -> `* direction.sign()`
            You take the sign of the direction. Whoever calls the function has chosen the direction.
            Use it as it is.
        unit length: `* direction` -> `* direction / direction.norm()`
            You scale the direction to length 1. Then eps is a Euclidean distance, and no longer the
            change of a pixel. Use the direction as it is.
        assumed straight: `model(points)`
        -> `model(x) + eps[:, None] * (model(x + direction) - model(x))`
            You compute two points and draw a straight line through them. The logits of a network
            are linear only piece by piece: ask the model at every eps.
        transposed: `return logits` -> `return logits.T`
            Your table is transposed. One row for each eps, one column for each class: (E, K).
        sum of logits: `model(points)` -> `model(x) + eps[:, None] * model(direction)`
            You add up logits: model(x) + eps·model(direction). The model is not linear. Add
            eps·direction to the image first, then ask the model.
        both sides alike: `eps.reshape` -> `eps.abs().reshape`
            You walk with |eps|, so both sides are the same. A negative eps goes the other way: use
            eps with its sign.
        whole numbers: `eps.reshape` -> `eps.int().reshape`
            You cut eps to whole numbers (`int`), so 0.25 becomes 0. Use eps as it is.
        even steps: `eps.reshape`
        -> `torch.linspace(float(eps.min()), float(eps.max()), len(eps)).reshape`
            You walk in even steps from the smallest eps to the largest. Use the numbers in eps as
            they are: they need not be evenly spaced.
        """,
    ),
    hints=(
        "Make a batch with one image for each eps, then call the model once. A loop over eps is "
        "right too.",
        "Broadcasting repeats x and the direction for you, if the numbers in eps have the shape "
        "(E, 1, 1, 1).",
        "`eps.reshape(-1, *[1] * (x.ndim - 1))` gives them that shape for any image. The rest is "
        "`model(x + steps * direction)`.",
    ),
    takeaway="One image, one direction, one model: that is all such a walk can tell you about.",
)


# --- 2. The band where the model is right -------------------------------------------------------


def _band(eps: Tensor, logits: Tensor, y: int) -> tuple[float, float]:
    right = logits.argmax(dim=1) == y  # (E,)
    low = high = int((eps == 0).nonzero())  # the place of the digit itself
    if not right[low]:
        return float("nan"), float("nan")
    while low > 0 and right[low - 1]:
        low -= 1
    while high < len(eps) - 1 and right[high + 1]:
        high += 1
    return eps[low].item(), eps[high].item()


def _band_inputs(generator: torch.Generator) -> list[Args]:
    def walk(winners: list[int], classes: int = 4) -> Tensor:
        """Make logits: in each row the given class has the largest."""
        won = functional.one_hot(torch.tensor(winners), classes).float()
        return 2 * won + inputs.rand(generator, len(winners), classes) - 5.0

    first = torch.tensor([[0.0, 2.0], [3.0, 2.0], [4.0, 2.0], [3.0, 2.5], [1.0, 3.0]])
    rows = torch.tensor([0, 1, 1, 0])
    even, uneven = torch.linspace(-4, 4, 9), torch.tensor([-9.0, -2.0, -0.5, 0.0, 0.1, 0.3, 7.0])
    return [
        (torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]), first, 0),
        (even, walk([2, 2, 0, 2, 2, 1, 2, 2, 2]), 2),  # right again far out
        (uneven, walk([1, 3, 3, 3, 3, 0, 3]), 3),
        (uneven, walk([1, 1, 1, 1, 1, 1, 1]), 1),  # right all the way
        (even, walk([3, 1, 1, 1, 0, 0, 1, 1, 2]), 1),  # wrong on the digit itself
        (even, walk([3, 3, 0, 0, 0, 0, 0, 1, 2]), 0),
        (torch.tensor([-0.5, 0.0, 1.0, 2.0, 4.0]), walk([0, 2, 1, 2, 2]), 2),  # 0 is not the middle
        # A narrow lead is a lead, and the winner of four classes may have less than one half.
        (torch.tensor([-1.0, 0.0, 0.5, 1.0]), 0.05 * functional.one_hot(rows, 2), 1),
        (torch.tensor([-1.0, 0.0, 0.5, 1.0]), 0.4 * functional.one_hot(rows, 4), 1),
    ]


def _band_holds_zero(args: Args, output: Any) -> str | None:
    eps, logits, y = args
    low, high = float(output[0]), float(output[1])
    if int(logits[eps == 0].argmax()) != y:
        if math.isnan(low) and math.isnan(high):
            return None
        return "Here the model is wrong on the digit itself, at eps = 0. Then there is no band."
    if low <= 0 <= high:
        return None
    return "Your band does not contain eps = 0, where the digit itself is."


def _band_by_sets(eps: Tensor, logits: Tensor, y: int) -> tuple[Tensor, Tensor]:
    wrong = eps[logits.argmax(1) != y]
    if (wrong == 0).any():
        return torch.tensor(_NAN), torch.tensor(_NAN)
    below, above = wrong[wrong < 0], wrong[wrong > 0]
    low = eps if len(below) == 0 else eps[eps > below.max()]
    high = eps if len(above) == 0 else eps[eps < above.min()]
    return low.min(), high.max()


def _band_by_products(eps: Tensor, logits: Tensor, y: int) -> tuple[float, float]:
    right = (logits.max(1).values == logits[:, y]).int()
    middle = int(eps.abs().argmin())
    up, down = right[middle:].cumprod(0).sum(), right[: middle + 1].flip(0).cumprod(0).sum()
    if not up:
        return _NAN, _NAN
    return float(eps[middle + 1 - int(down)]), float(eps[middle + int(up) - 1])


band = Exercise(
    name="band",
    lesson="07",
    title="The band where the model is right",
    task=(
        "Return the two ends, low and high, of the unbroken stretch of eps around 0 in which the "
        "true class y has the largest logit. eps is (E,), in increasing order, and contains 0; "
        "logits is (E, K); y is a number. If the model is wrong at eps = 0, return float('nan') "
        "twice."
    ),
    difficulty=2,
    minutes=10,
    reference=_band,
    inputs=_band_inputs,
    properties=(_band_holds_zero,),
    right_answers=(_band_by_sets, _band_by_products),
    wrong_answers=edits(
        _band,
        """
        all that is right: `not right[low]` -> `not right.any()`,
        `eps[low].item(), eps[high].item()` -> `eps[right].min().item(), eps[right].max().item()`
            You take the smallest and the largest eps at which the model is right. Between them it
            may be wrong. The band is the unbroken stretch around 0.
        first wrong: `eps[low]` -> `eps[max(low - 1, 0)]`,
        `eps[high]` -> `eps[min(high + 1, len(eps) - 1)]`
            Your ends are the first eps on each side at which the model is wrong. Return the last
            ones at which it is right.
        width: `eps[low].item(), eps[high].item()` -> `eps[high].item() - eps[low].item()`
            You return the width, one number. Return both ends: the band need not be symmetric
            around 0.
        nearer edge: `return eps[low].item(), eps[high].item()`
        -> `near = min(-eps[low].item(), eps[high].item())¶return -near, near`
            You use the nearer edge on both sides. Find each end on its own: they may be at very
            different distances.
        places: `eps[low].item(), eps[high].item()` -> `low, high`
            You return indices (0, 1, 2, …). Return the values of eps at these indices.
        positive logit: `logits.argmax(dim=1) == y` -> `logits[:, y] > 0`
            You ask whether the logit of y is positive. The model answers with the largest logit,
            whatever its sign.
        smallest logit: `argmax` -> `argmin`
            You look for the smallest logit (`argmin`). The model answers with the largest.
        the answer at 0: `== y` -> `== logits[eps == 0].argmax()`
            You measure where the answer stays what it is at eps = 0. The task asks where it is
            right. The two differ when the model is wrong on the digit itself.
        zero: `float("nan")` => `0.0`
            Where the model is wrong on the digit itself you return 0 and 0. That reads as a very
            thin band. There is no band at all: return float('nan') twice.
        no look at 0: `not right[low]` -> `len(eps) == 0`
            You walk outwards from 0 without asking whether the model is right at 0 itself.
        swapped: `eps[low].item(), eps[high].item()` -> `eps[high].item(), eps[low].item()`
            Your two ends are swapped. First the low one, then the high one.
        middle of the list: `int((eps == 0).nonzero())` -> `len(eps) // 2`
            You start in the middle of the list. The digit itself is where eps is 0, and that may be
            elsewhere: `int((eps == 0).nonzero())`.
        ends never reached: `low > 0` -> `low > 1`, `len(eps) - 1` -> `len(eps) - 2`
            Your walk never reaches the first and the last eps. `range(a, b)` stops before b. Go on
            to the very ends of the list.
        above one half: `logits.argmax(dim=1) == y` -> `logits.softmax(dim=1)[:, y] > 0.5`
            You ask for a probability above one half. The model answers with the largest logit, and
            with several classes that may have less than one half.
        with a lead: `right = `
        -> `top = logits.topk(2, dim=1).values¶right = (top[:, 0] - top[:, 1] > 0.1) & (`,
        `== y` -> `== y)`
            You count the model as right only if y leads by more than 0.1. However small the lead
            is, the largest logit is the answer.
        halfway to the first wrong: `return eps[low].item(), eps[high].item()`
        -> `before, after = eps[max(low - 1, 0)], eps[min(high + 1, len(eps) - 1)]¶return ends`,
        `return ends` -> `return ((before + eps[low]) / 2).item(), ((after + eps[high]) / 2).item()`
            Your ends are halfway between the last right eps and the first wrong one. Return the
            last right ones: values that are in eps.
        infinity at the ends: `eps[low].item()` -> `(eps[low].item() if low > 0 else -math.inf)`,
        `eps[high].item()` -> `(eps[high].item() if high < len(eps) - 1 else math.inf)`
            Where the band reaches the end of the list, you return infinity. Return the last eps in
            the list: nobody has looked further out.
        as far on both sides: `return eps[low].item(), eps[high].item()`
        -> `middle = int((eps == 0).nonzero())¶return ends`,
        `return ends` -> `steps = min(middle - low, high - middle)¶return ends`,
        `return ends` -> `return eps[middle - steps].item(), eps[middle + steps].item()`
            You walk to both sides at once, and stop both walks where one of them ends. Walk to each
            side on its own.
        """,
    ),
    hints=(
        "First make a list of true and false: at which eps is `logits.argmax(dim=1)` equal to y?",
        "Start at the index where eps is 0, `int((eps == 0).nonzero())`. If the model is wrong "
        "there, you are done: nan.",
        "From there walk to the left as long as the model is right at the next index: "
        "`while low > 0 and right[low - 1]: low -= 1`. Then the same to the right.",
    ),
    takeaway="Now the band can be measured over many digits, in place of one picture.",
)


# --- 3. The transfer matrix ---------------------------------------------------------------------


def _transfer_errors(models: nn.ModuleList, crafted: Tensor, y: Tensor) -> Tensor:
    rows = []
    for images in crafted:  # (N, ...), all crafted on one source
        errors = [(model(images).argmax(dim=1) != y).float().mean() for model in models]
        rows.append(torch.stack(errors))  # the same images, fed to every model
    return torch.stack(rows)  # (S, M): row = crafted on, column = fed to


def _transfer_inputs(generator: torch.Generator) -> list[Args]:
    def case(count: int, features: int, classes: int, hidden: tuple[int, ...]) -> Args:
        models = nn.ModuleList([_network(generator, features, h, classes) for h in hidden])
        crafted = 2 * inputs.images(generator, len(hidden), count, features) - 0.5
        return models, crafted, inputs.labels(generator, count, classes)

    models, crafted, y = case(5, 3, 3, (0, 4, 0))
    return [
        case(6, 4, 3, (0, 5)),
        (models, crafted[:2], y),  # fewer sources than models
        case(12, 5, 4, (3, 0, 6)),
        case(9, 4, 2, (4,)),
    ]


@rule("Each entry should be a number of mistakes, divided by the number N of images.")
def _entries_are_shares(args: Args, output: Tensor) -> object:
    counts = output * len(args[2])
    whole = bool(((counts - counts.round()).abs() < 1e-3).all())
    return whole and bool(((output >= 0) & (output <= 1)).all())


def _transfer_in_one_batch(models: nn.ModuleList, crafted: Tensor, y: Tensor) -> Tensor:
    count, images = crafted.shape[0], crafted.flatten(0, 1)  # (S·N, ...)
    columns = []
    for model in models:
        answers = model(images).argmax(1).reshape(count, -1)
        columns.append((answers != y).float().mean(dim=1))
    return torch.stack(columns, dim=1)


def _transfer_by_filling(models: nn.ModuleList, crafted: Tensor, y: Tensor) -> Tensor:
    errors = torch.empty(len(crafted), len(models))
    for i in range(len(crafted)):
        for j, model in enumerate(models):
            errors[i, j] = 1 - model(crafted[i]).argmax(1).eq(y).sum() / len(y)
    return errors


transfer_errors = Exercise(
    name="transfer_errors",
    lesson="07",
    title="The transfer matrix",
    task=(
        "crafted[i], shape (N, d), holds the N images that were crafted on source i (model i). "
        "Feed each set to every one of the M models. Return the error rates as a tensor of shape "
        "(S, M): in row i and column j the error of model j on crafted[i], over all N images. "
        "y is (N,), the true labels; models is a list of models."
    ),
    difficulty=2,
    minutes=8,
    reference=_transfer_errors,
    inputs=_transfer_inputs,
    asks=("tensor",),
    properties=(_entries_are_shares,),
    right_answers=(_transfer_in_one_batch, _transfer_by_filling),
    wrong_answers=edits(
        _transfer_errors,
        """
        transposed: `torch.stack(rows)` -> `torch.stack(rows, dim=1)`
            Your matrix is transposed. Rows are the models that the images were crafted on, columns
            the models that they are fed to.
        accuracy: `!= y` -> `== y`
            You return accuracies. An error rate counts the answers that are not y.
        counts: `.mean()` -> `.sum()`
            You return numbers of mistakes. Divide by the number N of images.
        percent: `torch.stack(rows)` -> `100 * torch.stack(rows)`
            Your entries are percentages. Return fractions between 0 and 1.
        only where the source errs: `images in crafted`
        -> `source, images in zip(models, crafted)`,
        `!= y)` -> `!= y)[source(images).argmax(dim=1) != y]`
            You measure only on the images that fool their source. That is another quantity. Count
            over all N images, so that every entry has the same base.
        both err: `images in crafted` -> `source, images in zip(models, crafted)`,
        `!= y)` -> `!= y).logical_and(source(images).argmax(dim=1) != y)`
            You count an image only if it also fools its source. Whether the source errs does not
            matter here: count every mistake of model j.
        the same answer: `images in crafted` -> `source, images in zip(models, crafted)`,
        `errors = ` -> `given = source(images).argmax(dim=1)¶errors = `,
        `(model(images).argmax(dim=1) != y)`
        -> `((model(images).argmax(dim=1) == given) & (given != y))`
            You count an image only if both models give the same wrong class. That is agreement,
            which comes later. Here every wrong class counts.
        the source's answers as labels: `images in crafted`
        -> `source, images in zip(models, crafted)`, `!= y` -> `!= source(images).argmax(dim=1)`
            You compare with the answers of the source. An error is measured against the true labels
            y.
        never fed to another: `images in crafted` -> `source, images in zip(models, crafted)`,
        `model(images)` -> `source(images)`
            All your columns are equal: crafted[i] is only fed to model i. Feed it to model j.
        each its own: `for model in models` -> `for j, model in enumerate(models)`,
        `model(images)` -> `model(crafted[j % len(crafted)])`
            All your rows are equal: model j only gets its own examples crafted[j]. Feed it
            crafted[i].
        the first model's answers as labels: `!= y` -> `!= models[0](images).argmax(dim=1)`
            You compare with the answers of models[0]. An error is an answer that is not the true
            label y.
        only the diagonal: `return torch.stack(rows)`
        -> `table = torch.stack(rows)¶return table * torch.eye(*table.shape)`
            You fill the diagonal only: each set meets its own model, and all else stays 0. `zip`
            goes through both lists at once. Use two loops, one inside the other.
        no diagonal: `return torch.stack(rows)`
        -> `table = torch.stack(rows)¶return table * (1 - torch.eye(*table.shape))`
            Your diagonal is 0. The error of a model on its own examples belongs to the table as
            well.
        only the first set: `model(images)` -> `model(crafted[0])`
            All your rows are equal: they use crafted[0]. Row i needs the images of source i,
            crafted[i].
        counter not set back: `torch.stack(errors)` -> `torch.stack(errors).cumsum(dim=0)`
            Your entries grow along each row: the mistakes of the models before are counted again.
            Set your counter back to 0 for each model.
        counter never set back: `return torch.stack(rows)`
        -> `table = torch.stack(rows)¶return table.flatten().cumsum(dim=0).reshape(table.shape)`
            Your entries grow through the whole table: all mistakes before are counted again. Set
            your counter back to 0 for each entry.
        mean loss: `(model(images).argmax(dim=1) != y).float().mean()`
        -> `functional.cross_entropy(model(images), y)`
            Your entries are mean losses. An error rate is the share of images whose answer is not
            y.
        whole numbers: `return torch.stack(rows)` -> `return torch.stack(rows).long().float()`
            Your table holds whole numbers only: a rate below 1 has become 0. Make a table of
            floating numbers, without `dtype=torch.long`.
        one answer for all: `model(images).argmax(dim=1)` -> `model(images).argmax()`
            `argmax()` without a dimension looks through the whole batch and gives one place. Each
            image has its own answer: `argmax(dim=1)`.
        """,
    ),
    hints=(
        "Two nested loops: over the sets of images outside, over the models inside.",
        "One entry is `(model(images).argmax(dim=1) != y).float().mean()`.",
        "`torch.stack(list)` makes one tensor out of a list of tensors: once for each row, and "
        "once for all rows.",
    ),
    takeaway="The diagonal is the usual white-box attack. The rest of it is transfer.",
)


# --- 4. The same mistake ------------------------------------------------------------------------


def _same_mistake(one: Tensor, two: Tensor, y: Tensor) -> tuple[float, float]:
    first_errs, both_err = one != y, (one != y) & (two != y)  # (N,)
    same = (one == two).float()
    # The mean over no examples at all is nan: without mistakes there is nothing to agree on.
    return same[first_errs].mean().item(), same[both_err].mean().item()


def _mistake_inputs(generator: torch.Generator) -> list[Args]:
    y = torch.tensor([0, 0, 1, 1, 2])
    many = [inputs.labels(generator, 40, 4) for _ in range(3)]
    biased = torch.where(inputs.rand(generator, 40) < 0.6, many[0], many[1])
    return [
        (torch.tensor([1, 1, 0, 1, 0]), torch.tensor([1, 2, 1, 0, 2]), y),
        (torch.tensor([1, 1, 1, 1, 2]), torch.tensor([1, 0, 1, 1, 2]), y),
        (y, torch.tensor([1, 0, 0, 1, 2]), y),  # the first makes no mistake
        (torch.tensor([1, 0, 1, 1, 2]), y, y),  # the second makes none
        (many[0], biased, many[2]),
    ]


def _agreements_are_shares(args: Args, output: Any) -> str | None:
    one, _, y = args
    first, both = float(output[0]), float(output[1])
    if bool((one == y).all()) and not math.isnan(first):
        return "Here the first model makes no mistake. The share of nothing is float('nan')."
    if any(share < -1e-6 or share > 1 + 1e-6 for share in (first, both)):  # nan is neither
        return "A share lies in [0, 1]. You count images above the line that do not count below it."
    if first > both + 1e-6:
        return (
            "The same matches are divided by fewer examples in your second value, so it cannot be "
            "smaller than the first."
        )
    return None


def _same_by_loop(one: Tensor, two: Tensor, y: Tensor) -> tuple[float, float]:
    matches = mistakes = shared = 0
    for a, b, truth in zip(one.tolist(), two.tolist(), y.tolist(), strict=True):
        if a != truth:
            mistakes += 1
            shared += b != truth
            matches += a == b
    return matches / mistakes if mistakes else _NAN, matches / shared if shared else _NAN


def _same_by_sums(one: Tensor, two: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    wrong, also = one.ne(y), two.ne(y)
    matches = (wrong & one.eq(two)).sum()
    return matches / wrong.sum(), matches / (wrong & also).sum()


same_mistake = Exercise(
    name="same_mistake",
    lesson="07",
    title="The same mistake",
    task=(
        "one and two are the answers of two models to the same N images, class numbers of shape "
        "(N,); y holds the true ones. Return two shares: how often the second gives the same class "
        "as the first, over the mistakes of the FIRST; and the same over the images on which BOTH "
        "err. Over no images at all, the share is float('nan')."
    ),
    difficulty=2,
    minutes=8,
    reference=_same_mistake,
    inputs=_mistake_inputs,
    properties=(_agreements_are_shares,),
    right_answers=(_same_by_loop, _same_by_sums),
    wrong_answers=edits(
        _same_mistake,
        """
        over all examples: `.mean().item()` => `.sum().item() / len(y)`
            You divide by all N images. The question is about mistakes: divide by the number of
            mistakes of the first model, and then by the number on which both err.
        right answers too: `[first_errs]` -> ``, `[both_err]` -> ``
            You count all equal answers, right ones too. Two good models agree on almost every clean
            image, because both are right. That says nothing about their mistakes.
        right answers above the line:
        `same[first_errs].mean()` -> `(same.sum() * first_errs.any() / first_errs.sum())`,
        `same[both_err].mean()` -> `(same.sum() * both_err.any() / both_err.sum())`
            Above the line you count all equal answers, right ones too. Count only those on which
            the first model errs.
        any mistake: `(one == two)` -> `both_err`
            You count the images on which both err, whatever they answer. The two classes must be
            the same: one == two.
        mistakes of the second: `first_errs, both_err = one` -> `first_errs, both_err = two`
            Your first value is over the mistakes of the second model. Take those of the first: the
            examples were made to fool it.
        either errs: `&` -> `|`
            Your second value is over the images on which at least one errs (`|`). Take those on
            which both err (`&`).
        different: `one == two` -> `one != two`
            You count the images on which the answers differ. Count the equal ones.
        zero: `.mean()` => `.mean().nan_to_num()`
            Without mistakes you return 0. That reads as "they never agree". There is nothing to
            agree on: return float('nan').
        percent: `same = ` -> `same = 100 * `
            Your values are percentages. Return fractions between 0 and 1.
        swapped: `first_errs, both_err =` -> `both_err, first_errs =`
            Your two values are swapped. First over the mistakes of the first model, then over those
            of both.
        first base either: `first_errs, both_err = one != y,`
        -> `first_errs, both_err = (one != y) | (two != y),`
            Your first value is over the images on which at least one of the two errs. Take the
            mistakes of the first: one != y.
        second base the second's: `(one != y) & (two != y)` -> `two != y`
            Your second value is over the mistakes of the second model. Take the images on which
            both err.
        the first base twice: `same[both_err]` -> `same[first_errs]`
            Your two values have the same base, the mistakes of the first. The second is over the
            images on which both err.
        both nan where one is empty: `same[first_errs].mean()`
        -> `(same[first_errs] + 0 * same[both_err].mean()).mean()`
            Where only one of your two shares has nothing to count, you return nan for both. Each
            share has a base of its own: the other one is a number.
        guard for the first base only: `same[both_err].mean().item()`
        -> `(same[both_err].mean().item() if both_err.any() or not first_errs.any() else 0.0)`
            Where the two models never err together, your second share is 0. There is nothing to
            count: it has a base of its own, and is float('nan') where that is empty.
        """,
    ),
    hints=(
        "Make three lists of true and false: where the first errs, where both err, and where the "
        "answers are equal.",
        "`same[first_errs]` keeps only the entries at which the first model errs. The mean of "
        "zeros and ones is a share.",
        "With `same = (one == two).float()`, return `same[one != y].mean().item()` and "
        "`same[(one != y) & (two != y)].mean().item()`. The mean of an empty tensor is nan.",
    ),
    takeaway="One count of matches, two bases: never compare such a share without its base.",
)


# --- 5. What borrowed signs are worth -----------------------------------------------------------


def _step_share(g_source: Tensor, g_target: Tensor) -> Tensor:
    reached = (g_target * g_source.sign()).sum(dim=1)  # (N,) what the borrowed signs gain
    best = g_target.abs().sum(dim=1)  # (N,) what the target's own signs would gain
    return reached / best


def _gradient_inputs(generator: torch.Generator) -> list[Args]:
    source = torch.tensor([[1.0, -2.0, 3.0], [-1.0, 0.5, 0.0]])
    target = torch.tensor([[2.0, 1.0, 1.0], [-4.0, 1.0, 3.0]])
    big = inputs.randn(generator, 5, 30)
    big[:, :4] = 0.0  # dead pixels
    return [
        (source, target),
        (target[:1], source[:1]),
        (big, big + 0.5 * inputs.randn(generator, 5, 30)),
        # The gradient of a confident model is tiny, and its signs are worth as much.
        (inputs.randn(generator, 3, 8), 1e-12 * inputs.randn(generator, 3, 8)),
        (-big, big),
    ]


@rule("No step is worth more than the target's own: your shares should lie in [-1, 1].")
def _share_is_between_minus_one_and_one(args: Args, output: Tensor) -> object:
    return bool((output.abs() <= 1 + 1e-5).all())


@rule("Where the source has all the target's signs, the share should be 1.")
def _own_signs_are_worth_one(args: Args, output: Tensor) -> object:
    source, target = args
    same = (source.sign() == target.sign()).all(dim=1)
    return torch.allclose(output[same], torch.ones_like(output[same]), atol=1e-4)


@rule("Where all signs are opposite, the step helps the target as much as it can: share -1.")
def _opposite_signs_are_worth_minus_one(args: Args, output: Tensor) -> object:
    source, target = args
    opposite = (source.sign() == -target.sign()).all(dim=1)
    return torch.allclose(output[opposite], -torch.ones_like(output[opposite]), atol=1e-4)


def _share_by_loop(g_source: Tensor, g_target: Tensor) -> Tensor:
    shares = []
    for s, t in zip(g_source, g_target, strict=True):
        shares.append(torch.dot(torch.sign(s), t) / torch.linalg.vector_norm(t, ord=1))
    return torch.stack(shares)


def _share_by_agreement(g_source: Tensor, g_target: Tensor) -> Tensor:
    size, agree = g_target.abs(), g_source.sign() * g_target.sign()  # +1 or -1 for each pixel
    weights = size / size.sum(1, keepdim=True)
    return (weights * agree).sum(1)


step_share = Exercise(
    name="step_share",
    lesson="07",
    title="What borrowed signs are worth",
    task=(
        "An attacker uses the signs of the source's gradient for a step against the target. "
        "Return, for each image, which share of the best possible first-order gain this step "
        "reaches: the gain is the dot product of the target's gradient with the signs, and the "
        "best gain is ‖g‖₁ of the target's gradient. Both gradients are (N, d). The result is "
        "(N,), from -1 to 1."
    ),
    difficulty=2,
    minutes=8,
    reference=_step_share,
    inputs=_gradient_inputs,
    properties=(
        _share_is_between_minus_one_and_one,
        _own_signs_are_worth_one,
        _opposite_signs_are_worth_minus_one,
    ),
    right_answers=(_share_by_loop, _share_by_agreement),
    wrong_answers=edits(
        _step_share,
        """
        cosine: `.sign()` -> ``,
        `g_target.abs().sum(dim=1)` -> `g_source.norm(dim=1) * g_target.norm(dim=1)`
            You compute the cosine of the two gradients. That compares the gradients themselves. The
            attacker steps along the signs of one: take the sign of the source's gradient, and
            divide by the L1 norm of the target's.
        no sign: `.sign()` -> ``
            The sign is missing: FGSM steps along g_source.sign(), not along the gradient.
        roles swapped: `reached = ` -> `g_source, g_target = g_target, g_source¶reached = `
            The roles are swapped. The signs come from the source, the gain is measured with the
            target's gradient.
        equal signs: `reached / best` -> `(g_source.sign() == g_target.sign()).float().mean(dim=1)`
            You count the pixels with equal signs. Pixels do not count equally: each one has the
            weight of the target's gradient there. And unequal signs lower the gain; they do not
            just add 0.
        signs of both: `reached / best` -> `(g_source.sign() * g_target.sign()).mean(dim=1)`
            You take the sign of both gradients, so every pixel counts equally. The target's
            gradient keeps its size: a pixel with a large gradient gains more.
        L2 norm: `.abs().sum(dim=1)` -> `.norm(dim=1)`
            You divide by the L2 norm. The best step in the max norm gains ‖g‖₁, the sum of the
            absolute values (lesson 3).
        gain: `reached / best` -> `reached`
            You return the gain itself. Divide it by the best possible one, the L1 norm of the
            target's gradient.
        absolute value: `reached / best` -> `(reached / best).abs()`
            You drop the minus sign. A negative share means that the borrowed step helps the target.
        no harm: `reached / best` -> `(reached / best).clamp(min=0)`
            You clip negative shares at 0. A borrowed step can do worse than nothing: keep the
            negative values.
        added in the denominator: `/ best` -> `/ (best + 1e-8)`
            You add a small number to the denominator, or give it a least value. A confident model
            has gradients smaller than that, and their share would vanish. Divide by the L1 norm
            alone.
        whole batch: `reached / best` -> `reached.sum() / best.sum()`
            You return one number for the whole batch. Return one share for each image: sum over
            dim=1.
        cosine with a floor: `reached / best`
        -> `torch.nn.functional.cosine_similarity(g_source, g_target)`
            This is the cosine of the angle between the gradients. The step goes along the signs of
            the source's gradient, and its gain is compared with ‖g‖₁.
        norm of the whole batch: `g_target.abs().sum(dim=1)` -> `g_target.abs().sum()`
            You divide by the L1 norm of all images together. Each image has its own: sum over
            dim=1.
        weighted share of equal signs: `reached / best`
        -> `((g_source.sign() == g_target.sign()) * g_target.abs()).sum(dim=1) / best`
            You add up |g| of the target over the pixels with equal signs only. Pixels with opposite
            signs count with a minus: the gain is the dot product.
        norm of the source: `best = g_target` -> `best = g_source`
            You divide by the L1 norm of the source's gradient. The best gain is that of the
            target's own signs: ‖g‖₁ of the target.
        a smaller number in the denominator: `/ best` -> `/ (best + 1e-12)`
            You add 1e-12 to the denominator. The gradients of a confident model can be as small as
            that. Divide by the L1 norm alone.
        """,
    ),
    hints=(
        "For one image the gain is a dot product: the target's gradient times the signs of the "
        "source's, added up over the pixels.",
        "`(g_target * g_source.sign()).sum(dim=1)` is the gain. What would the target's own signs "
        "gain?",
        "Its own signs gain `g_target.abs().sum(dim=1)`. Divide the first by the second.",
    ),
    takeaway="A cosine for FGSM: the share of the white-box damage that a borrowed step does.",
)


# --- 6. A model that may refuse -----------------------------------------------------------------


def _answer_or_refuse(p: Tensor, y: Tensor, threshold: float) -> tuple[float, float]:
    highest, predicted = p.max(dim=1)  # both (N,)
    answered = highest >= threshold
    fooled = answered & (predicted != y)  # it answers, and it is wrong
    return answered.float().mean().item(), fooled.float().mean().item()


def _refusal_inputs(generator: torch.Generator) -> list[Args]:
    p = torch.tensor([[0.75, 0.2], [0.5, 0.1], [0.1, 0.3], [0.02, 0.01], [0.9, 0.6]])
    many = inputs.rand(generator, 50, 6) ** 2
    labels = torch.where(
        inputs.rand(generator, 50) < 0.5, many.argmax(1), inputs.labels(generator, 50, 6)
    )
    return [
        (p, torch.tensor([0, 1, 1, 1, 1]), 0.5),
        (p, torch.tensor([0, 1, 1, 1, 1]), 0.0),  # it always answers
        (p, torch.tensor([1, 0, 1, 0, 0]), 0.95),  # it never does
        (many, labels, 0.6),
        (many, labels, 0.85),
    ]


@rule("A model that is fooled has answered, so your second share cannot be above the first.")
def _fooled_is_part_of_answered(args: Args, output: Any) -> object:
    return -1e-6 <= float(output[1]) <= float(output[0]) + 1e-6


@rule("With threshold 0 the model always answers.")
def _at_zero_it_always_answers(args: Args, output: Any) -> object:
    return args[2] > 0 or abs(float(output[0]) - 1) < 1e-6


def _refuse_by_loop(p: Tensor, y: Tensor, threshold: float) -> tuple[float, float]:
    answered = fooled = 0
    for row, truth in zip(p.tolist(), y.tolist(), strict=True):
        if max(row) >= threshold:
            answered += 1
            fooled += row.index(max(row)) != truth
    return answered / len(y), fooled / len(y)


def _refuse_by_where(p: Tensor, y: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    refused = p.amax(1) < threshold
    answer = torch.where(refused, torch.full_like(y, -1), p.argmax(1))
    return 1 - refused.double().mean(), ((answer >= 0) & (answer != y)).double().mean()


answer_or_refuse = Exercise(
    name="answer_or_refuse",
    lesson="07",
    title="A model that may refuse",
    task=(
        "The model answers with its most probable class if that probability is at least the "
        "threshold, and refuses otherwise. Return two shares of ALL images: on how many it answers "
        "at all, and on how many it answers wrongly. p is (N, K), one probability for each class; "
        "the rows need not sum to 1. y is (N,)."
    ),
    difficulty=2,
    minutes=7,
    reference=_answer_or_refuse,
    inputs=_refusal_inputs,
    properties=(_fooled_is_part_of_answered, _at_zero_it_always_answers),
    right_answers=(_refuse_by_loop, _refuse_by_where),
    wrong_answers=edits(
        _answer_or_refuse,
        """
        softmax: `p.max` -> `p.softmax(dim=1).max`
            You apply a softmax to the probabilities. They are probabilities already, one for each
            class alone. A softmax makes them sum to 1, and the model can no longer say "none of
            these".
        made to sum to 1: `p.max` -> `(p / p.sum(dim=1, keepdim=True)).max`
            You divide each row by its sum. Then the model always believes in some digit. Rows of an
            RBF network need not sum to 1, and that is what makes a refusal possible.
        over the answered: `fooled.float()` -> `fooled[answered].float()`
            Your second share is over the images that are answered. The task asks for the share of
            all images: a model that answers once, wrongly, should not look as bad as one that is
            wrong everywhere.
        refusals as errors: `answered & ` -> `~answered | `
            You count a refusal as a wrong answer. A refusal has a price too, but the first share
            shows it. The second counts only answers that are given and wrong.
        errors of all: `answered & ` -> ``
            Your second share also counts wrong classes that the model does not answer with, because
            it refuses. Count only the images that it answers.
        true class: `highest >=` -> `p.gather(1, y[:, None]).squeeze(1) >=`
            You compare the probability of the true class with the threshold. The model does not
            know the true class: it looks at its highest probability.
        sum: `highest >=` -> `p.sum(dim=1) >=`
            You compare the sum of the probabilities with the threshold. Take the highest one.
        above: `>=` -> `>`
            You answer only above the threshold (`>`). Exactly at it, the model answers too (`>=`).
        refused: `answered.float()` -> `(~answered).float()`
            Your first share is how often the model refuses. The task asks how often it answers.
        percent: `.item()` => `.item() * 100`
            Your values are percentages. Return fractions between 0 and 1.
        swapped: `return ` -> `answered, fooled = fooled, answered¶return `
            Your two shares are swapped. First how often it answers, then how often wrongly.
        right answers: `!= y` -> `== y`
            Your second share counts the answers that are given and right. The task asks for those
            that are given and wrong.
        counts: `.mean()` => `.sum()`
            You return numbers of images. Divide by the number N of all images.
        any wrong class: `answered & (predicted != y)`
        -> `(p.scatter(1, y[:, None], -1.0) >= threshold).any(dim=1)`
            Your second share counts an image as soon as some wrong class reaches the threshold. The
            model answers with its most probable class only: count where that one is wrong.
        second largest: `highest >=` -> `p.topk(2, dim=1).values[:, 1] >=`
            You compare the second largest probability with the threshold. Take the largest.
        entries: `answered.float().mean()` -> `((p >= threshold).sum() / len(p))`
            Your first share counts all entries of p that reach the threshold. One image can have
            several. Count images: compare the highest probability.
        all entries: `answered.float().mean()` -> `(p >= threshold).float().mean()`
            Your first share is over all entries of p. Count images: compare the highest probability
            of each row, and divide by N.
        always one half: `>= threshold` -> `>= 0.5`
            You compare with 0.5. Compare with `threshold`: it is an argument.
        """,
    ),
    hints=(
        "`p.max(dim=1)` gives the highest probability and its class at once.",
        "`answered = highest >= threshold`. An image fools the model if it is answered and the "
        "class is wrong: combine the two with `&`.",
        "Both shares are means over all N images: `answered.float().mean().item()`, and the same "
        "for `answered & (predicted != y)`.",
    ),
    takeaway="A refusal is safe but costs something. Report both shares, always together.",
)


EXERCISES = (walk_logits, band, transfer_errors, same_mistake, step_share, answer_or_refuse)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    A summary calls the plot of ten logits over eps = -15 … 15 "a generalisation experiment". What
    does the plot show?
    - How well the model does on digits that it has not seen.
        There is only one digit in it, moved along a line. New digits are what the clean test
        error is about.
    - How well the attack works on models that it was not made for.
        There is only one model in it. Feeding the images to another model is the transfer
        experiment.
    + How one model's logits change along one line through one image.
        One image, one direction, one model. Generalisation across models is measured by transfer
        and by agreement, over many images.

    Examples crafted on model A fool model B. What did the attacker need to know of B?
    + Its task.
        A model of one's own for the same task is enough. Keeping weights secret is therefore not a
        defence.
    - B's weights.
        That is the white-box attack: the diagonal of the matrix. B was never asked for a gradient
        here.
    - B's training digits.
        Our own small models were trained on digits that the reference models had never seen, and
        their examples transfer.

    Two models agree on 50 % of the first one's mistakes, and on 80 % of the mistakes that both
    make. How can both be true?
    - They were measured on different sets of images.
        Same images. Only the number to divide by differs.
    + The matches are the same, the second base is smaller.
        Where the second model is right the two cannot agree on a wrong class. The second share
        leaves these images out.
    - The second one counts right answers too, the first does not.
        A right answer is never counted in either.

    A defended model has an FGSM error of 10 % on its own examples, and of 25 % on those of an
    undefended model. What do you conclude?
    + Its own FGSM misses attacks that exist. Measure PGD.
        Transfer above white-box is a sign of gradient masking. PGD on our model of this kind
        finds an attack for nearly every digit.
    - It is robust: 10 % is the white-box error, and white-box is the worst case.
        White-box should be the worst case. A weaker attacker who does better proves that the 10 %
        were not the worst case.
    - The undefended model is the better attacker, nothing more.
        An attacker who knows the weights can do everything that the other can, and more. If the
        error is lower, the search was poor.

    In 784 dimensions two gradients have the cosine 0.4. How should you read it?
    - Nearly unrelated: 0.4 is closer to 0 than to 1.
        Two random directions in 784 dimensions have cosines of about ±0.04. 0.4 is ten times
        that.
    - 40 % of the pixels have equal signs.
        A cosine does not count pixels. Even at cosine 0 about half of the signs are equal.
    + Far more alike than chance would make them.
        Chance gives about 1/√784, which is 0.036. Borrowed signs then gain a good part of what
        the target's own signs would.

    The RBF network has low confidence on FGSM's mistakes. Is it safe to let it refuse whenever
    its confidence is under one half?
    - Yes: it does not answer attacked digits any more.
        Not those of FGSM. An attacker who knows the rule does not aim at just any error, but at a
        confident error, and finds some.
    + No: an attack can aim at confident errors.
        And it refuses many clean digits as well. Both were measured in section 6. A defence is
        judged by the attack that knows it, with its price beside it.
    - No: an RBF network is linear.
        It is not: its logits fall off like parabolas. That is why its confidence is low far away.
    """
)
