"""Both ends of a model's error under attack: what falls, and what is proved to stand.

One attack gives a number that the next attack may raise. `evaluate` runs a team of attacks, each on
what the others left (`advlearn.team`), and beside it the proof of `advlearn.certify`, where the
model allows one. The true error under the strongest attack lies between the two.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from advlearn import certify, team
from advlearn._validation import (
    check_bounds,
    check_callable,
    check_choice,
    check_eps,
    check_images,
    check_number,
    check_seed,
    part_of_a_whole,
)
from advlearn.attacks import PIXELS, Filled, looks_at_each
from advlearn.batches import Batches, Data, device_of
from advlearn.context import Model, attack_mode, random_states_kept
from advlearn.directions import directions
from advlearn.metrics import Rate, refuse_early
from advlearn.passes import Passes, count_passes, passes
from advlearn.randomness import repeats

BUDGETS = tuple(team.EFFORTS)
"""How much work `evaluate` may do."""

UNATTACKED = "unattacked"
"""What `Bracket.broken_by` says of an example that the model misreads as it is."""

RANDOM = (
    "The model answers differently when it is asked again. An example counts as broken where most "
    f"of {team.CONFIRMING} fresh draws are wrong; one lucky draw does not count."
)


TOGETHER = (
    "The model's answer to an image depends on the others in its batch. Every batch was filled up "
    "with clean images to the size that it was given in; in other company the error may differ."
)

DETACHED = (
    "The model's output is detached from its input, so no attack could follow a gradient. If a "
    "model like it has gradients, pass it in sources."
)


@dataclass(frozen=True)
class Bracket:
    """A model's error under attack, from both sides.

    attacked <= true error <= certified: every example that counts as attacked is misread on an
    image that was found, and for every one that is not in the certified error it is proved that no
    such image exists.

    Printing it gives a text; a notebook shows the same as a table.

    Attributes:
        eps: the size of the attacks, in pixel units.
        budget: how much was tried, one of `BUDGETS`.
        clean: the share that is misread without an attack.
        attacked: the share that falls to some attack of the team, clean errors among them.
        certified: the share that is not proved to stand; None where nothing can be proved.
        uncertified_because: why nothing can be proved, in words; "" where it can.
        broken_by: what broke each example first, in the order of the data, of a loader that
            shuffles in that of this reading; "unattacked" for clean errors, "" for what stands.
        by_attack: attack -> what it broke of what it met, in the order of the team.
        passes: images that went forward and backward through the model. The proof counts as two
            forward passes of its images, for the two ends of an interval.
        seconds: of processor time.
        note: what else should be known, in words; mostly "".

    Example:
        >>> two = Rate(1, 2), Rate(2, 2)
        >>> bracket = Bracket(0.25, "fast", *two, Rate(2, 2), "", ("unattacked", "FGSM"),
        ...     {"FGSM": Rate(1, 1)}, Passes(6, 2), 0.5)
        >>> print(bracket)
        At eps 0.25 the error is 100.0 % (34.2-100.0): both ends meet.
            clean error: 50.0 % (9.5-90.5)
            error under attack, at least: 100.0 % (34.2-100.0)
            certified error, at most: 100.0 % (34.2-100.0)
            FGSM: 1 of 1
            budget fast: 6 forward and 2 backward passes of images, 0.5 s
        >>> bracket.cumulated
        {'unattacked': Rate(count=1, total=2), 'FGSM': Rate(count=2, total=2)}
    """

    eps: float
    budget: str
    clean: Rate
    attacked: Rate
    certified: Rate | None
    uncertified_because: str
    broken_by: tuple[str, ...]
    by_attack: Mapping[str, Rate]
    passes: Passes = field(default_factory=Passes)
    seconds: float = 0.0
    note: str = ""

    @property
    def cumulated(self) -> dict[str, Rate]:
        """The error after each attack of the team, over all examples."""
        total, count = self.clean.total, self.clean.count
        sums = {UNATTACKED: self.clean}
        for name, rate in self.by_attack.items():
            count += rate.count
            sums[name] = Rate(count, total)
        return sums

    def _headline(self) -> str:
        if self.certified is None:
            return f"At eps {self.eps:g} the error is at least {self.attacked}; no upper end."
        if self.certified.count == self.attacked.count:
            return f"At eps {self.eps:g} the error is {self.attacked}: both ends meet."
        ends = f"between {100 * float(self.attacked):.1f} and {100 * float(self.certified):.1f} %"
        return f"At eps {self.eps:g} the error is {ends}."

    def _ends(self) -> list[tuple[str, str]]:
        proved = self.uncertified_because if self.certified is None else str(self.certified)
        return [
            ("clean error", str(self.clean)),
            ("error under attack, at least", str(self.attacked)),
            ("certified error, at most", proved),
        ]

    def _work(self) -> str:
        done = f"{self.passes.forward:,} forward and {self.passes.backward:,} backward passes"
        return f"budget {self.budget}: {done} of images, {self.seconds:.1f} s"

    def __str__(self) -> str:
        lines = [self._headline()]
        lines += [f"    {name}: {value}" for name, value in self._ends()]
        lines += [f"    {n}: {rate.count} of {rate.total}" for n, rate in self.by_attack.items()]
        lines += [f"    {self._work()}", *([f"    {self.note}"] if self.note else [])]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        lines = [self._headline(), "", "| | share of the examples (95 % interval) |", "|---|---|"]
        lines += [f"| {name} | {_unbroken(value)} |" for name, value in self._ends()]
        lines += ["", "| attack | broke | of those left | error so far |", "|---|---|---|---|"]
        sums = self.cumulated
        lines += [
            f"| {name} | {rate.count} | {rate.total} | {_unbroken(str(sums[name]))} |"
            for name, rate in self.by_attack.items()
        ]
        lines += ["", f"{self._work()[0].upper()}{self._work()[1:]}. {self.note}".rstrip()]
        return "\n".join(lines)


def _unbroken(text: str) -> str:
    """Keep an interval on one line of a table."""
    return text.replace("-", "\N{NON-BREAKING HYPHEN}") if text[:1].isdigit() else text


@directions(silent=True)  # An attack that finds no direction leaves the rest to the others.
def evaluate(
    model: Model,
    data: Data,
    eps: float,
    *,
    budget: str = "standard",
    sources: Sequence[Model] | Mapping[str, Model] = (),
    bounds: tuple[float, float] | None = PIXELS,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Bracket:
    """Return both ends of a model's error under attack: what falls, and what is proved to stand.

    The lower end is the worst case over a team of attacks, each on what the others left: FGSM, PGD
    with steps that shrink, the same towards the nearest classes, examples of `sources`, and a
    random search that needs no gradient. The upper end is the share of the examples that
    `advlearn.certify.certified` cannot prove. What is proved is spared the later attacks.

    Args:
        model: maps (N, ...) to logits (N, K); attacked in eval mode, given back as it was.
        data: images and true labels; a stream is read once, batch by batch.
        eps: in pixel units, >= 0.
        budget: "fast" for a first look, "standard" for a number to rely on, "thorough" for one to
            publish.
        sources: other models for the same task, whose adversarial examples are tried too; a
            mapping gives them names.
        bounds: (low, high) of a pixel; None is unclipped.
        seed: of all random choices. The global random state is left alone.
        batch_size, progress: as for `advlearn.metrics.error_rate`.

    Returns:
        A `Bracket`. Its lower end holds whatever the model is like, for each error was seen. If the
        model's answers are random, an example counts as broken where most of many draws are wrong.
        A model without gradients is attacked without them. `note` says either.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Source:
        Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020, for the team; Gowal et al., 2018, for the proof.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> x, y = torch.tensor([[0.9, 0.2], [0.6, 0.3], [0.3, 0.5]]), torch.tensor([0, 0, 0])
        >>> bracket = evaluate(model, (x, y), 0.25)
        >>> bracket.attacked.count, bracket.certified.count, bracket.broken_by
        (2, 2, ('', 'FGSM', 'unattacked'))
    """
    check_callable(model, "model")
    eps = check_number(eps, "eps", low=0.0)
    box = check_bounds(bounds)
    check_eps(eps, torch.zeros(1, 1), box)
    seed = check_seed(seed)
    effort = team.EFFORTS[check_choice(budget, "budget", BUDGETS)]
    others = _named(sources)
    batches = Batches(data, batch_size, bounds=box, device=device_of(model), progress=progress)
    run = _Run(model, eps, effort, others, bounds=box, seed=seed)
    started = time.process_time()
    with random_states_kept(), passes() as counted:
        refuse_early(model, batches, {f"sources[{name!r}]": one for name, one in others.items()})
        for _ in batches.each(run.batch):
            pass
    return run.bracket(budget, counted, time.process_time() - started)


def _named(sources: object) -> dict[str, Model]:
    """Return the other models by name."""
    if isinstance(sources, Mapping):
        named = {str(name): model for name, model in sources.items()}
        if len(named) < len(sources):
            raise ValueError(
                f"sources has two names that are written alike: {[*sources]!r:.200}. Give each "
                "model a name of its own."
            )
    elif isinstance(sources, Sequence) and not isinstance(sources, (str, bytes)):
        named = {f"source {i}": model for i, model in enumerate(sources, 1)}
    else:
        raise TypeError(
            "sources must be a sequence of models or a mapping from names to models, got "
            f"{type(sources).__name__}. For one model, pass sources=[model]."
        )
    for name, model in named.items():
        check_callable(model, f"sources[{name!r}]")
    return named


class _Run:
    """What `evaluate` has found so far; only counts and one word for each example are kept."""

    def __init__(
        self,
        model: Model,
        eps: float,
        effort: team.Effort,
        sources: Mapping[str, Model],
        *,
        bounds: tuple[float, float] | None,
        seed: int,
    ) -> None:
        self.model, self.eps, self.effort, self.bounds = model, eps, effort, bounds
        self.members = [*team.members(effort, sources)]
        self.generator = torch.Generator().manual_seed(seed)
        self.met: Counter[str] = Counter()
        self.fell: Counter[str] = Counter()
        self.broken_by: list[str] = []
        self.unproved, self.random, self.detached, self.together = 0, False, False, False
        self.unbounded = ""

    def batch(self, x: Tensor, y: Tensor) -> None:
        """Attack one batch by the whole team."""
        check_images(x, self.bounds)
        with attack_mode(self.model), ExitStack() as whole:
            model = Filled(self.model, x.detach())
            random = not repeats(model, x)
            self.random |= random
            together = False
            if not random and not looks_at_each(model, x):
                together, model = True, Filled(self.model, x.detach(), least=len(x))
            examples = team.Batch(
                model,
                x,
                y,
                self.eps,
                bounds=self.bounds,
                generator=self.generator,
                random=random,
                together=together,
            )
            self.together |= together
            everything = torch.arange(len(x), device=x.device)
            examples.offer(examples.x, everything)
            proved = self._proved(x, y)
            examples.confirm(everything[examples.broken])
            first = torch.where(examples.broken.cpu(), 0, -1)
            detached = not team.has_gradient(examples)
            self.detached |= detached
            if self.eps == 0:
                examples.safe[:] = True  # nothing can change
            whole.enter_context(part_of_a_whole())
            for place, (name, attack, follows) in enumerate(self.members, 1):
                left = examples.left()
                if detached and follows:
                    continue
                self.met[name] += len(left)
                if not len(left):
                    continue
                attack(examples)
                examples.confirm(left[examples.broken[left]])
                new = examples.broken.cpu() & (first < 0)
                first[new] = place
                self.fell[name] += int(new.sum())
                if place == 1 and proved is not None:
                    # What is proved meets one attack all the same, for a proof is only as good as
                    # its code; it is spared the others.
                    examples.safe |= proved & ~examples.broken
            if proved is not None:
                self.unproved += int((~proved | examples.broken).sum())
        words = ("", UNATTACKED, *(member.name for member in self.members))
        self.broken_by += [words[place + 1] for place in first.tolist()]

    def _proved(self, x: Tensor, y: Tensor) -> Tensor | None:
        """Say which examples are proved to stand; None where nothing can be proved."""
        if self.unbounded or self.random:
            return None
        count_passes(2 * len(x))
        try:
            return certify.certified(self.model, x, y, self.eps, bounds=self.bounds)
        except (certify.UnboundedError, ValueError) as error:  # the logits are already checked
            self.unbounded = str(error)
        except RuntimeError as error:  # of the model itself, as of one for batches of one size
            self.unbounded = f"the model fails on the few images that a proof begins with: {error}"
        return None

    def bracket(self, budget: str, counted: Passes, seconds: float) -> Bracket:
        """Return what was found in all batches."""
        total = len(self.broken_by)
        kinds = Counter(self.broken_by)
        because = self.unbounded
        if self.random and not because:
            because = "the model's answers are random, and a proof is about one answer"
        return Bracket(
            float(self.eps),
            budget,
            Rate(kinds[UNATTACKED], total),
            Rate(total - kinds[""], total),
            None if because else Rate(self.unproved, total),
            because,
            tuple(self.broken_by),
            {m.name: Rate(self.fell[m.name], self.met[m.name]) for m in self.members},
            counted,
            seconds,
            " ".join(
                [RANDOM] * self.random + [DETACHED] * self.detached + [TOGETHER] * self.together
            ),
        )
