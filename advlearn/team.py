"""The team of attacks that `advlearn.evaluation.evaluate` runs, each on what the others left.

One step; many steps; steps towards the nearest classes; examples of other models; and last a search
that needs no gradient. They share a `Batch`, which holds the best image of each example, so that
one attack can begin where another has ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from advlearn._validation import logits_of, part_of_a_whole
from advlearn.attacks import (
    DETACHED,
    Filled,
    SquareSearch,
    ball,
    fgsm,
    gradient_at,
    pgd,
    square_share,
)
from advlearn.context import Model, checked_answer, hand_out
from advlearn.directions import usable
from advlearn.losses import hard_margin, other_logits
from advlearn.passes import count_passes

DRAWS = 9
"""How often a model whose answers are random is asked about each image that an attack ends at."""

CONFIRMING = 99
"""How often it is asked about an image that is to count as broken."""

MOMENTUM = 0.25
"""How much of its last move an iterate goes on with."""

_ASKED = 32  # images that show whether the output depends on its input

FEW = 20
"""So many examples are attacked whatever share of them is asked for."""

Member = Callable[["Batch"], None]
"""An attack of the team: it tries what is left of a batch, and notes what it finds."""


Rounds = tuple[tuple[int, float], ...]
"""Of a search without a gradient: (queries, share of the examples that go on afterwards)."""


class Aim(NamedTuple):
    """Steps towards each of the nearest classes, for the examples that are nearest to falling."""

    classes: int
    steps: int
    share: float


@dataclass(frozen=True)
class Effort:
    """How much the team does.

    The later an attack, the fewer examples it meets: of those that stand after some steps, hardly
    any falls later whose margin is not among the smallest. Once there were a few steps towards each
    of several classes, it falls nearly always to the one that is then the nearest.

    Attributes:
        steps: of PGD, on all examples.
        restarts: further starts, on the nearer half.
        aims: towards which classes, in how many steps, on what share.
        searched: the share on which the search without a gradient begins.
        rounds: of that search.
        again: of the same from the best images that were found.
        refined: the share on which that begins.
    """

    steps: int
    restarts: int
    aims: tuple[Aim, ...]
    searched: float
    rounds: Rounds
    again: Rounds
    refined: float


EFFORTS: Mapping[str, Effort] = {
    "fast": Effort(
        steps=10,
        restarts=0,
        aims=(Aim(3, 8, 0.5), Aim(1, 20, 0.3), Aim(1, 40, 0.2), Aim(1, 80, 0.1), Aim(1, 100, 0.04)),
        searched=0.1,
        rounds=((50, 0.4), (100, 1)),
        again=((250, 1),),
        refined=0.02,
    ),
    "standard": Effort(
        steps=50,
        restarts=2,
        aims=(Aim(4, 40, 0.6), Aim(9, 80, 0.2)),
        searched=1,
        rounds=((100, 0.5), (200, 0.5), (600, 1)),
        again=((100, 0.5), (200, 0.5), (400, 1)),
        refined=0.5,
    ),
    "thorough": Effort(
        steps=100,
        restarts=5,
        aims=(Aim(9, 60, 1), Aim(9, 200, 0.3)),
        searched=1,
        rounds=((1000, 0.5), (4000, 1)),
        again=((1000, 0.5), (2000, 1)),
        refined=0.5,
    ),
}
"""What each budget of `evaluate` buys."""


class Batch:
    """Examples under attack: the best image of each so far, and what broke it.

    `attack_mode` is on while it lives.

    Args:
        model: under attack; it takes any number of examples.
        x, y: (N, ...) images and (N,) labels, checked.
        eps: in pixel units.
        bounds: (low, high) of a pixel; None for unclipped.
        generator: the source of all random choices.
        random: whether the model gives one image different answers.
        together: whether its answer to an image depends on the others in the batch.
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
        together: bool = False,
    ) -> None:
        self.model, self.x, self.y, self.eps, self.bounds = model, x.detach(), y, eps, bounds
        self.generator, self.random, self.together = generator, random, together
        self.low, self.high = ball(self.x, eps, bounds)
        self.best = self.x.clone()
        wide = torch.promote_types(x.dtype, torch.float)
        self.margin = torch.full((len(x),), -torch.inf, dtype=wide, device=x.device)
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.safe = torch.zeros_like(self.broken)  # proved: not worth an attack

    def left(self) -> Tensor:
        """Return which examples still stand, and are not proved to."""
        return (~(self.broken | self.safe)).nonzero().squeeze(1)

    def nearest(self, share: float) -> Tensor:
        """Return a share of what is left: the examples with the smallest margins, in no order.

        Few examples are all taken: they cost little.
        """
        rows = self.left()
        count = max(math.ceil(share * len(rows)), min(len(rows), FEW))
        return rows[self.margin[rows].argsort(descending=True)[:count].sort().values]

    def ask(self, images: Tensor, rows: Tensor) -> Tensor:
        """Return the model's logits for images of some examples."""
        with part_of_a_whole(len(rows), len(self.y)):
            return checked_answer(self.model, images, self.y[rows])

    def judged(self, images: Tensor, rows: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """Return the mean lead over several draws, and which images most of them misread."""
        leads, votes = torch.zeros_like(self.margin[rows]), torch.zeros_like(rows)
        for _ in range(draws):
            logits = self.ask(images, rows)
            leads += hard_margin(logits, self.y[rows]).to(leads)
            votes += logits.argmax(1) != self.y[rows]
        return leads / draws, 2 * votes > draws

    def confirmed(self, images: Tensor, rows: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the leads by logits from a pass with gradients, and which images are misread.

        Those are asked about again without gradients. Some models take a smooth stand-in where
        gradients are on, and what that misreads is no error of the model in use.
        """
        labels = self.y[rows]
        lead, fooled = hard_margin(logits, labels), logits.argmax(1) != labels
        if len(found := fooled.nonzero().squeeze(1)):
            again = self.ask(images[found], rows[found])
            lead[found] = hard_margin(again, labels[found]).to(lead)
            fooled[found] = again.argmax(1) != labels[found]
        return lead, fooled

    def confirm(self, rows: Tensor) -> None:
        """Ask a model whose answers are random again about what seems broken, in fresh draws.

        An attack tries many images, so that some are misread in most of a few draws by luck. No
        more is asked about an image once most of all draws have given the same verdict.

        A model that looks at the whole batch is asked about all that seems broken at once, each
        image in its own place among the clean ones.
        """
        if self.together and len(rows):
            whole = self.x.clone()
            whole[rows] = self.best[rows]
            everything = torch.arange(len(whole), device=rows.device)
            right = self.ask(whole, everything).argmax(1) == self.y
            self._take_back(rows[right[rows]])
        if not self.random:
            return
        wrong, asked = torch.zeros_like(rows), torch.arange(len(rows), device=rows.device)
        for drawn in range(1, CONFIRMING + 1):
            if not len(asked):
                break
            some = rows[asked]
            wrong[asked] += self.ask(self.best[some], some).argmax(1) != self.y[some]
            larger = torch.maximum(wrong[asked], drawn - wrong[asked])
            asked = asked[2 * larger <= CONFIRMING]
        self._take_back(rows[2 * wrong <= CONFIRMING])

    def _take_back(self, rows: Tensor) -> None:
        self.broken[rows] = False
        self.margin[rows] = -torch.inf

    def offer(self, images: Tensor, rows: Tensor) -> None:
        """Look at finished images of some examples, and keep what is better than before."""
        self.note(images, rows, *self.judged(images, rows, DRAWS if self.random else 1))

    def note(self, images: Tensor, rows: Tensor, ahead: Tensor, fooled: Tensor) -> None:
        """Keep images that are better than before: those that fool, or come nearer to it."""
        ahead = ahead.to(self.margin.dtype)
        better = fooled | (ahead > self.margin[rows])
        self.best[rows[better]], self.margin[rows[better]] = images[better], ahead[better]
        self.broken[rows[fooled]] = True


def climb(
    batch: Batch,
    steps: int,
    *,
    rows: Tensor | None = None,
    rivals: Tensor | None = None,
) -> None:
    """Follow the gradient of the lead from a random start, with steps that shrink.

    x_(t+1) = project(x_t + s_t sign(g_t) + m (x_t - x_(t-1))), where s_t = eps (1 - t/T)² and m is
    `MOMENTUM`. Steps of one size find less: the last ones have to be small. So do longer steps and
    more momentum, for then an image jumps from one end of its ball to the other.

    Args:
        batch: what is left of it is attacked; what falls leaves at once, and so does what no longer
            moves, as where the gradient is zero.
        steps: gradient steps, T.
        rows: the examples that are attacked; None for all that are left.
        rivals: (N,) the class whose lead is raised; None for the best other class at each step.
    """
    rows = batch.left() if rows is None else rows[~(batch.broken | batch.safe)[rows]]
    if not len(rows):
        return
    low, high = batch.low[rows], batch.high[rows]
    source = batch.generator
    drawn = torch.rand(low.shape, generator=source, dtype=low.dtype, device=source.device)
    before = moved = low + (high - low) * drawn.to(low.device)
    for step in range(steps + 1):
        labels = batch.y[rows]
        if step == steps:
            batch.offer(moved, rows)
            break
        loss = hard_margin if rivals is None else partial(_lead_of, rivals=rivals[rows])
        try:
            gradient, logits = gradient_at(batch.model, moved, labels, loss)
        except ValueError as error:
            if error.args != (DETACHED,):
                raise
            # In a cascade, all that are left stop at a stage without a gradient.
            gradient, logits = torch.zeros_like(moved), batch.ask(moved, rows)
        if not batch.random:  # of whose iterates one draw says little: only the last is judged
            batch.note(moved, rows, *batch.confirmed(moved, rows, logits))
        stride = batch.eps * (1 - step / steps) ** 2
        ahead = moved + stride * usable(gradient).sign_() + MOMENTUM * (moved - before)
        ahead = torch.minimum(torch.maximum(ahead, low), high)
        stays = ~batch.broken[rows]
        if not batch.random:  # the same gradient at the same place would be found again
            stays &= ((ahead != moved) | (moved != before)).flatten(1).any(1)
        before, moved = moved, ahead
        if not bool(stays.all()):
            rows, low, high, before, moved = (
                part[stays] for part in (rows, low, high, before, moved)
            )
            if not len(rows):
                break


def _lead_of(logits: Tensor, y: Tensor, *, rivals: Tensor) -> Tensor:
    own = logits.gather(1, y.unsqueeze(1)).squeeze(1)
    return logits.gather(1, rivals.unsqueeze(1)).squeeze(1) - own


def near_classes(batch: Batch, rows: Tensor, count: int) -> Tensor:
    """Return the classes that are nearest to some examples, (N, count), the nearest first.

    They are ranked by their logits at the best images so far: one pass, and a better sign of the
    class to which an example will fall than distances at x, for which the model is taken as linear.
    """
    logits = batch.ask(batch.best[rows], rows)
    others = other_logits(logits, batch.y[rows])
    return others.argsort(1, descending=True)[:, : min(count, logits.shape[1] - 1)]


def random_search(
    batch: Batch, rounds: Rounds, *, warm: bool, share: float = 1.0, first: float = 0.8
) -> None:
    """Run `square` in rounds, after each of which only the examples nearest to falling go on.

    Args:
        rounds: (queries, share of the examples that go on after them).
        warm: begin with the best images that were found, in place of stripes.
        share: of the examples that the first round meets.
        first: the share of the pixels that the first squares cover.
    """
    rows = batch.nearest(share)
    if not len(rows):
        return
    x, y = batch.x[rows], batch.y[rows]
    search = SquareSearch(
        batch.model,
        x,
        y,
        batch.eps,
        bounds=batch.bounds,
        loss=hard_margin,
        generator=batch.generator,
    )
    chosen = torch.arange(len(rows), device=rows.device)
    with torch.no_grad():
        search.ask(chosen, x)
        search.ask(chosen, batch.best[rows] if warm else search.stripes(chosen))
        total, done = sum(queries for queries, _ in rounds), 0
        for queries, stays in rounds:
            for _ in range(queries):
                chosen = chosen[~search.lost[chosen]]
                if not len(chosen):
                    break
                done += 1
                search.ask(chosen, search.with_square(chosen, square_share(first, done / total)))
            near = search.damage[chosen].argsort(descending=True)
            chosen = chosen[near[: max(math.ceil(stays * len(chosen)), FEW)]]
    batch.offer(search.best, rows)


def searched(batch: Batch, rounds: Rounds, share: float) -> None:
    """Search without a gradient around the nearest examples, and as long as most fall, the next.

    Few fall that the gradient has left. Where it leads nowhere, many do, and far from the nearest.
    """
    while len(rows := batch.nearest(share)):
        last = len(rows) == len(batch.left())
        random_search(batch, rounds, warm=False, share=share)
        if last or 2 * int(batch.broken[rows].sum()) <= len(rows):
            break


def transfer(batch: Batch, source: Model, steps: int) -> None:
    """Try the examples that PGD finds on another model."""
    rows = batch.left()
    if len(rows):
        crafted = pgd(
            Filled(source, batch.x), batch.x[rows], batch.y[rows], batch.eps,
            steps=steps, generator=batch.generator, bounds=batch.bounds,
        )  # fmt: skip
        batch.offer(crafted, rows)


class Attack(NamedTuple):
    """A member of the team: its name, what it does with a batch, and whether it needs gradients."""

    name: str
    run: Member
    follows: bool = True


def members(effort: Effort, sources: Mapping[str, Model]) -> Iterator[Attack]:
    """Yield the team, the cheap ones first."""
    yield Attack("FGSM", step_once)
    yield Attack("PGD", partial(climb, steps=effort.steps))
    if effort.restarts:
        again = partial(restarted, steps=effort.steps, times=effort.restarts)
        yield Attack("PGD, restarts", again)
    for name, source in sources.items():
        crafted = partial(transfer, source=source, steps=effort.steps)
        yield Attack(f"examples of {name}", crafted, follows=False)
    yield Attack("PGD to near classes", partial(aimed, aims=effort.aims))
    search = partial(searched, rounds=effort.rounds, share=effort.searched)
    yield Attack("Square", search, follows=False)
    search = partial(random_search, rounds=effort.again, warm=True, share=effort.refined)
    yield Attack("Square, from the best", search, follows=False)


def has_gradient(batch: Batch) -> bool:
    """Say whether the model's output depends on its input in a way that PyTorch can follow."""
    # Not the first one alone: easy images may leave a cascade at a stage without a gradient.
    pixels = batch.x[:: -(-len(batch.x) // _ASKED)].clone().requires_grad_()
    count_passes(len(pixels))
    logits: Tensor = logits_of(hand_out(batch.model, pixels))
    if not logits.requires_grad:
        return False
    (found,) = torch.autograd.grad(logits.sum(), pixels, allow_unused=True)
    return found is not None


def step_once(batch: Batch) -> None:
    """Try FGSM."""
    rows = batch.left()
    if len(rows):
        x, y = batch.x[rows], batch.y[rows]
        try:
            moved = fgsm(batch.model, x, y, batch.eps, bounds=batch.bounds)
        except ValueError as error:
            if error.args != (DETACHED,):
                raise
            return  # of those that are left none has a gradient
        batch.offer(moved, rows)


def restarted(batch: Batch, steps: int, times: int) -> None:
    """Follow the gradient from other random starts."""
    for _ in range(times):
        climb(batch, steps, rows=batch.nearest(0.5))


def aimed(batch: Batch, aims: tuple[Aim, ...]) -> None:
    """Follow the gradient towards the nearest classes, one after the other."""
    for classes, steps, share in aims:
        rows = batch.nearest(share)
        if not len(rows):
            break
        near = near_classes(batch, rows, classes)
        rivals = torch.zeros_like(batch.y)
        for place in range(near.shape[1]):
            rivals[rows] = near[:, place]
            climb(batch, steps, rows=rows, rivals=rivals)
