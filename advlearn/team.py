"""The team of attacks that `advlearn.evaluation.evaluate` runs, each on what the others left.

One step; many steps; steps towards the nearest classes; examples of other models; and last a search
that needs no gradient. They share a `Batch`, which holds the best image of each example, so that
one attack can begin where another has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from advlearn._validation import check_label_range, check_logits, logits_of
from advlearn.attacks import SquareSearch, ball, fgsm, gradient_at, pgd, square_share
from advlearn.context import Model, hand_out
from advlearn.directions import usable
from advlearn.passes import count_passes

DRAWS = 9
"""How often a model whose answers are random is asked about one image."""

Member = Callable[["Batch"], None]
"""An attack of the team: it tries what is left of a batch, and notes what it finds."""


@dataclass(frozen=True)
class Effort:
    """How much the team does.

    Attributes:
        steps: of PGD from a random start.
        restarts: of it.
        classes: how many of the other classes are aimed at, the nearest first.
        aimed: steps for each of these.
        rounds: of the search without a gradient: (queries, share of the examples that stay).
    """

    steps: int
    restarts: int
    classes: int
    aimed: int
    rounds: tuple[tuple[int, float], ...]


EFFORTS: Mapping[str, Effort] = {
    "fast": Effort(steps=20, restarts=1, classes=1, aimed=10, rounds=((50, 0.5), (100, 0.5))),
    "standard": Effort(
        steps=50,
        restarts=2,
        classes=3,
        aimed=30,
        rounds=((200, 0.7), (400, 0.6), (800, 0.6), (1500, 1.0)),
    ),
    "thorough": Effort(steps=100, restarts=5, classes=9, aimed=100, rounds=((5000, 1.0),)),
}
"""What each budget of `evaluate` buys."""


def lead(logits: Tensor, y: Tensor) -> Tensor:
    """Return by how much the best other class is ahead of the label's, (N,): above 0 it wins.

    Example:
        >>> lead(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
        tensor([-1.])
    """
    own = y.unsqueeze(1)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    others = logits.scatter(1, own, -torch.inf)
    return others.amax(1) - logits.gather(1, own).squeeze(1)


class Batch:
    """Examples under attack: the best image of each so far, and what broke it.

    `attack_mode` is on while it lives.

    Args:
        model: under attack.
        x, y: (N, ...) images and (N,) labels, checked.
        eps: in pixel units.
        bounds: (low, high) of a pixel; None for unclipped.
        generator: the source of all random choices.
        random: whether the model gives one image different answers.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        eps: float,
        *,
        bounds: tuple[float, float] | None,
        generator: Generator,
        random: bool = False,
    ) -> None:
        self.model, self.x, self.y, self.eps, self.bounds = model, x.detach(), y, eps, bounds
        self.generator, self.random = generator, random
        self.low, self.high = ball(self.x, eps, bounds)
        self.best = self.x.clone()
        wide = torch.promote_types(x.dtype, torch.float)
        self.margin = torch.full((len(x),), -torch.inf, dtype=wide, device=x.device)
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.safe = torch.zeros_like(self.broken)  # proved: not worth an attack

    def left(self) -> Tensor:
        """Return which examples still stand, and are not proved to."""
        return (~(self.broken | self.safe)).nonzero().squeeze(1)

    @torch.no_grad()
    def ask(self, images: Tensor, rows: Tensor) -> Tensor:
        """Return the model's logits for images of some examples."""
        count_passes(len(images))
        logits: Tensor = logits_of(hand_out(self.model, images))
        if len(rows) == len(self.y):  # of few rows, logits may look like probabilities by chance
            check_logits(logits, self.y[rows])
            check_label_range(self.y[rows], logits.shape[1])
        return logits

    def misread(self, images: Tensor, rows: Tensor) -> Tensor:
        """Say which images the model misreads; one whose answers are random, in most draws."""
        if not self.random:
            return self.ask(images, rows).argmax(1) != self.y[rows]
        votes = [self.ask(images, rows).argmax(1) != self.y[rows] for _ in range(DRAWS)]
        return torch.stack(votes).sum(0) > DRAWS // 2

    def offer(self, images: Tensor, rows: Tensor) -> None:
        """Look at finished images of some examples, and keep what is better than before."""
        logits = self.ask(images, rows)
        self.note(images, rows, lead(logits, self.y[rows]), logits.argmax(1) != self.y[rows])

    def note(self, images: Tensor, rows: Tensor, ahead: Tensor, fooled: Tensor) -> None:
        """Keep images that are better; those of a random model are judged by most of its draws."""
        ahead = ahead.to(self.margin.dtype)
        better = fooled | (ahead > self.margin[rows])
        self.best[rows[better]], self.margin[rows[better]] = images[better], ahead[better]
        if self.random and bool(fooled.any()):
            found = rows[fooled]
            self.broken[found[self.misread(images[fooled], found)]] = True
        elif not self.random:
            self.broken[rows[fooled]] = True


def climb(
    batch: Batch,
    steps: int,
    *,
    rivals: Tensor | None = None,
    start: str = "random",
    momentum: float = 0.75,
) -> None:
    """Follow the gradient of the lead, with steps that shrink, from where `start` says.

    x_(t+1) = project(x_t + s_t sign(g_t) + momentum (x_t - x_(t-1))); s_t falls from 2 eps to 0.

    Args:
        batch: what is left of it is attacked; what falls leaves at once.
        steps: gradient steps.
        rivals: (N,) the class whose lead is raised; None for the best other class at each step.
        start: "random", "best" (of what was found before) or "clean".
    """
    rows = batch.left()
    if not len(rows):
        return
    low, high = batch.low[rows], batch.high[rows]
    if start == "random":
        drawn = torch.rand(
            low.shape, generator=batch.generator, dtype=low.dtype, device=batch.generator.device
        )
        moved = low + (high - low) * drawn.to(low.device)
    else:
        moved = (batch.best if start == "best" else batch.x)[rows].clone()
    before = moved
    for step in range(steps + 1):
        labels = batch.y[rows]
        if step == steps:
            batch.offer(moved, rows)
            break
        loss = lead if rivals is None else partial(_lead_of, rivals=rivals[rows])
        gradient, logits = gradient_at(batch.model, moved, labels, loss)
        fooled = logits.argmax(1) != labels
        batch.note(moved, rows, lead(logits, labels), fooled)
        stride = 2 * batch.eps * _pace(step / steps)
        ahead = moved + stride * usable(gradient).sign_() + momentum * (moved - before)
        before, moved = moved, torch.minimum(torch.maximum(ahead, low), high)
        stays = ~batch.broken[rows]
        if not bool(stays.all()):
            rows, low, high, before, moved = (
                part[stays] for part in (rows, low, high, before, moved)
            )
            if not len(rows):
                break


def _pace(done: float) -> float:
    """Return the size of a step, as a share of the first, after a share of the steps is done."""
    return (1 - done) ** 2


def _lead_of(logits: Tensor, y: Tensor, *, rivals: Tensor) -> Tensor:
    own = logits.gather(1, y.unsqueeze(1)).squeeze(1)
    return logits.gather(1, rivals.unsqueeze(1)).squeeze(1) - own


def nearest(batch: Batch, count: int) -> Tensor:
    """Return the nearest other classes of each example, (N, count), in the order of a step.

    Class k lies at the distance (z_y - z_k) / ‖gradient of (z_y - z_k)‖₁, which is exact for a
    linear model: it is the eps at which FGSM makes the two equal.
    """
    rows = batch.left()
    logits = batch.ask(batch.x[rows], rows)
    classes = logits.shape[1]
    far = torch.full((len(batch.x), classes), torch.inf, dtype=batch.margin.dtype)
    for k in range(classes):
        own = rows[batch.y[rows] != k]
        if not len(own):
            continue
        rivals = torch.full_like(own, k)
        loss = partial(_lead_of, rivals=rivals)
        gradient, at = gradient_at(batch.model, batch.x[own], batch.y[own], loss)
        length = usable(gradient).flatten(1).abs().sum(1)
        far[own, k] = (-loss(at, batch.y[own]) / length).nan_to_num(torch.inf).to(far)
    return far.to(batch.x.device).argsort(1)[:, : min(count, classes - 1)]


def random_search(
    batch: Batch, rounds: tuple[tuple[int, float], ...], *, warm: bool, share: float = 0.8
) -> None:
    """Run `square` in rounds, after each of which only the examples nearest to falling go on.

    Args:
        rounds: (queries, share of the examples that stay after them).
        warm: begin with the best images that were found, in place of stripes.
    """
    rows = batch.left()
    if not len(rows):
        return
    x, y = batch.x[rows], batch.y[rows]
    search = SquareSearch(
        batch.model, x, y, batch.eps, bounds=batch.bounds, loss=lead, generator=batch.generator
    )
    everything = torch.arange(len(rows), device=rows.device)
    with torch.no_grad():
        search.ask(everything, x)
        search.ask(everything, batch.best[rows] if warm else search.stripes(everything))
        total, done, chosen = sum(queries for queries, _ in rounds), 2, everything
        for queries, stays in rounds:
            for _ in range(queries):
                chosen = chosen[~search.lost[chosen]]
                if not len(chosen):
                    break
                search.ask(chosen, search.with_square(chosen, square_share(share, done / total)))
                done += 1
            near = search.damage[chosen].argsort(descending=True)
            chosen = chosen[near[: -(-len(chosen) * int(1000 * stays) // 1000)]]
    batch.offer(search.best, rows)


def transfer(batch: Batch, source: Model, steps: int) -> None:
    """Try the examples that PGD finds on another model."""
    rows = batch.left()
    if len(rows):
        crafted = pgd(
            source, batch.x[rows], batch.y[rows], batch.eps,
            steps=steps, generator=batch.generator, bounds=batch.bounds,
        )  # fmt: skip
        batch.offer(crafted, rows)


def members(effort: Effort, sources: Mapping[str, Model]) -> Iterator[tuple[str, Member]]:
    """Yield the team: the name of each attack, and what it does with what is left of a batch."""
    yield "FGSM", step_once
    yield "PGD", partial(climb, steps=effort.steps)
    if effort.restarts > 1:
        yield "PGD, restarts", partial(restarted, steps=effort.steps, times=effort.restarts - 1)
    for name, source in sources.items():
        yield f"examples of {name}", partial(transfer, source=source, steps=effort.steps)
    yield "PGD to near classes", partial(aimed, steps=effort.aimed, count=effort.classes)
    yield "Square", partial(random_search, rounds=effort.rounds, warm=True)


def step_once(batch: Batch) -> None:
    """Try FGSM."""
    rows = batch.left()
    if len(rows):
        x, y = batch.x[rows], batch.y[rows]
        batch.offer(fgsm(batch.model, x, y, batch.eps, bounds=batch.bounds), rows)


def restarted(batch: Batch, steps: int, times: int) -> None:
    """Follow the gradient from other random starts."""
    for _ in range(times):
        climb(batch, steps)


def aimed(batch: Batch, steps: int, count: int) -> None:
    """Follow the gradient towards the nearest classes, one after the other."""
    if not len(batch.left()):
        return
    classes = nearest(batch, count)
    for place in range(classes.shape[1]):
        climb(batch, steps, rivals=classes[:, place])
