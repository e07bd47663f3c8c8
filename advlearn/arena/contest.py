"""Attack a model in every way that the budget allows, and count what stays right.

Each attack gets the digits that the ones before it left. What counts at the end is the worst case:
a digit that any attempt fooled is lost.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from advlearn import team
from advlearn._quote import quote
from advlearn._validation import check_number
from advlearn.arena.entry import RefusedError, admit
from advlearn.attacks import PIXELS, fgsm, input_gradient, noise, pgd
from advlearn.batches import Dataset
from advlearn.context import Model, attack_mode
from advlearn.data import load_mnist, reference
from advlearn.directions import directions
from advlearn.losses import cross_entropy, hard_margin
from advlearn.metrics import Rate

SOURCES = ("maxout", "maxout-adversarial", "robust")
"""The reference models whose adversarial images are tried on every submission."""

ATTACKS = ("clean", "noise", "FGSM", "transfer", "PGD", "PGD on the margin", "random search")
"""What is tried, in this order. The first is not an attack."""

MOST_NAME = 40


@dataclass(frozen=True)
class Rules:
    """The fixed budget. Scores by different rules do not compare.

    Args:
        eps: the largest change of a pixel; pixels stay in [0, 1].
        examples: so many offline test digits, the first ones.
        draws: noisy copies of each digit.
        steps: of one PGD attempt.
        restarts: PGD attempts with each of the two losses.
        classes: how many of the other classes PGD on the margin is then aimed at, the nearest
            first, with half as many steps.
        queries: of the random search, for the digits that are nearest to falling: in four rounds,
            each twice as long as the one before, of which 40 % go on.
        digits: which digits these are, where they are not the offline test digits.
    """

    eps: float = 0.25
    examples: int = 300
    draws: int = 5
    steps: int = 40
    restarts: int = 2
    classes: int = 2
    queries: int = 750
    digits: str = ""

    def __post_init__(self) -> None:
        check_number(self.eps, "eps", 0.0, 1.0, open_low=True)

    def __str__(self) -> str:
        which = f" {self.digits}" if self.digits else ""
        return (
            f"eps {self.eps:g}, {self.examples} digits{which}, {self.draws} draws, "
            f"PGD 2 x {self.restarts} x {self.steps}, aimed {self.classes} x {self.aimed}, "
            f"{self.queries} queries"
        )

    @property
    def aimed(self) -> int:
        """Steps of PGD towards one class."""
        return self.steps // 2

    @property
    def rounds(self) -> tuple[tuple[int, float], ...]:
        """The random search: (queries, share of the digits that go on), round by round."""
        return tuple((self.queries * part // 15, 0.4) for part in (1, 2, 4, 8))


@dataclass(frozen=True)
class Report:
    """What the arena measured.

    Attributes:
        name: of the submission.
        architecture, parameters, sha256: of the file.
        rules: the budget that was used.
        right_after: attack -> the share of all digits that is still right after it.
        lost_to: for each digit the attack that fooled the model first, or "" where none did.
    """

    name: str
    architecture: str
    parameters: int
    sha256: str
    rules: Rules
    right_after: Mapping[str, Rate]
    lost_to: tuple[str, ...]

    @property
    def score(self) -> Rate:
        """The share of the digits that no attempt fooled."""
        return list(self.right_after.values())[-1]

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.architecture}, {self.parameters:,} numbers",
            f"rules: {self.rules}",
            *(f"  {name:18} still right {rate}" for name, rate in self.right_after.items()),
            f"score: {self.score}",
        ]
        return "\n".join(lines)


def score(
    file: str | Path | bytes,
    *,
    name: str | None = None,
    rules: Rules | None = None,
    sources: Mapping[str, Model | Tensor] | None = None,
    data: Dataset | None = None,
) -> Report:
    """Return the arena's report on a submitted model file.

    Args:
        file: where the file lies, or its content; see `advlearn.arena.admit`.
        name: of the submission, see `check_name`; by default the file's name, made fit by
            `fit_name`.
        rules: the budget; None means that of the leaderboard.
        sources: models whose adversarial images are tried too, or these images themselves, as
            `crafted_on_references` makes them; None means the reference models `SOURCES`.
        data: the digits to judge by, the first of which are taken; None means the offline test
            digits. `rules.digits` should name them.

    Raises:
        ValueError: `name`, or what can be made of the file's name, does not fit a leaderboard; or
            there are fewer digits in `data` than the rules ask for.
        RefusedError: the file is not admitted, or the model's logits are not finite.
        FileNotFoundError: the file or a reference model is missing.

    Example:
        >>> from advlearn.models import SoftmaxRegression
        >>> content = reference.pack(SoftmaxRegression(), "SoftmaxRegression", {}, {})
        >>> report = score(content, name="all logits zero", rules=Rules(examples=50), sources={})
        >>> print(report.score)
        0.0 % (0.0-7.1)
    """
    # Before the work: a report whose name no leaderboard takes is lost.
    if name is not None:
        name = check_name(name)
    else:
        name = "a model" if isinstance(file, bytes) else fit_name(Path(file).stem)
    entry = admit(file)
    rules = rules or Rules()
    test = load_mnist("test", source="offline") if data is None else data
    if data is not None and len(data.y) < rules.examples:
        raise ValueError(f"data has {len(data.y)} digits, and the rules take {rules.examples}.")
    if data is not None and sources is None:
        sources = {one: reference.load(one) for one in SOURCES}
    x, y = test.x[: rules.examples], test.y[: rules.examples]
    judge = _Judge(entry.model)
    if not bool(entry.model(x).isfinite().all()):
        raise RefusedError(f"{name} gives logits that are not finite. Train it again.")
    low, high = (x - rules.eps).clamp(min=0), (x + rules.eps).clamp(max=1)
    right = judge(x, y)
    after = dict.fromkeys(ATTACKS, Rate.of(right))
    lost_to = ["" if ok else "clean" for ok in right.tolist()]
    # Gradients that give no direction are expected here: other attempts need none.
    with directions(silent=True):
        for attack, attempt in _attempts(entry.model, x, y, rules, sources):
            left = right.nonzero().squeeze(1)
            if len(left):
                # In the ball and in the pixel range by construction, whatever an attack does.
                crafted = attempt(left).float().clamp(low[left], high[left])
                right[left] = judge(crafted, y[left])
            for index in left[~right[left]].tolist():
                lost_to[index] = attack
            # This one and all that come later: with no sources "transfer" takes nothing away.
            after |= dict.fromkeys(ATTACKS[ATTACKS.index(attack) :], Rate.of(right))
    return Report(
        name, entry.architecture, entry.parameters, entry.sha256, rules, after, tuple(lost_to)
    )


def check_name(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), if it fits a leaderboard.

    A name has up to 40 letters of any language, digits, spaces and . - + _, and begins with a
    letter or a digit: nothing that a spreadsheet, a page or a terminal takes for more than a name.

    Raises:
        TypeError: it is no text.
        ValueError: it does not fit.

    Example:
        >>> check_name("모델 2")
        '모델 2'
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a text, got {type(name).__name__}.")
    composed = unicodedata.normalize("NFC", name)
    fits = composed[:1].isalnum() and all(map(_may_stand_in_a_name, composed))
    if not fits or len(composed) > MOST_NAME:
        raise ValueError(
            f"name = {quote(name)} does not fit the leaderboard. Use up to {MOST_NAME} letters, "
            "digits, spaces and . - + _, a letter or digit first."
        )
    return composed


def _may_stand_in_a_name(c: str) -> bool:
    # Letters, numbers and the marks that many scripts write on letters.
    return c in " .-+_" or unicodedata.category(c)[0] in "LMN"


def fit_name(stem: str) -> str:
    """Return a name that fits a leaderboard, made of a file's name.

    Browsers number files and course platforms add to their names. What does not fit becomes a
    space. Of a long name the middle is left out; there a hash keeps two long names apart.

    Raises:
        ValueError: no letter or digit is in it.

    Example:
        >>> fit_name("model (1)"), fit_name("Jane Doe_123456_assignsubmission_file_model")
        ('model 1', 'Jane Doe_123456_a+e36e8b+n_file_model')
    """
    composed = unicodedata.normalize("NFC", stem)
    spaced = "".join(c if _may_stand_in_a_name(c) else " " for c in composed)
    kept = re.sub(r"^[\W_]+", "", " ".join(spaced.split()))
    if len(kept) > MOST_NAME:
        digest = hashlib.sha256(composed.encode(errors="replace")).hexdigest()[:6]
        kept = f"{kept[:17]}+{digest}+{kept[-12:]}"
    try:
        return check_name(kept)
    except ValueError:
        raise ValueError(
            f"no name for a leaderboard can be made of the file's name {quote(stem)}. Pass one: "
            "--name, or name=."
        ) from None


class _Judge:
    """Say which images are classified rightly, beyond doubt.

    The true logit must be the largest alone: a tie is not an answer, and neither is NaN. And it
    must be so in float32 and in float64: what is right by rounding alone is not right.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.exact = model, copy.deepcopy(model).double()

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        right = torch.ones(len(y), dtype=torch.bool)
        for logits in (self.model(x), self.exact(x.double())):
            # Anything compared with NaN is false.
            right &= hard_margin(logits, y) < 0
        return right


def _centred(model: Model) -> Model:
    """Return the model with logits of mean 0 and without NaN: whatever it is, it can be attacked.

    (An attack of the library refuses rows that look like probabilities; constants may.)
    """

    def forward(x: Tensor) -> Tensor:
        logits = model(x).double()
        return (logits - logits.mean(1, keepdim=True)).nan_to_num()

    return forward


def _plain_scale(model: Model) -> Model:
    """Return the model with logits of one scale for each image: mean 0, largest 10.

    Cross-entropy then looks at all classes again, however small or large the logits were made.
    """
    centred = _centred(model)

    def forward(x: Tensor) -> Tensor:
        logits = centred(x)
        size = logits.detach().abs().amax(1, keepdim=True)
        return logits * (10 / size.clamp_min(1e-300))

    return forward


def _attempts(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    rules: Rules,
    sources: Mapping[str, Model | Tensor] | None,
) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Yield every attempt: its attack's name, and indices of the digits -> changed images."""
    eps = rules.eps
    for seed in range(rules.draws):
        draw = functools.partial(noise, eps=eps, kind="sign", generator=_seeded(seed))
        yield "noise", lambda left, draw=draw: draw(x[left])  # type: ignore[misc]
    scaled = _plain_scale(model)
    yield "FGSM", lambda left: fgsm(scaled, x[left], y[left], eps)
    for images in _transferred(x, y, rules, sources):
        yield "transfer", lambda left, images=images: images[left]  # type: ignore[misc]
    # Weights can be made so small or so large that float32 gradients round to nothing.
    kind = torch.float32 if _gradients_hold(model, x, y) else torch.float64
    target = copy.deepcopy(model).to(kind)
    centred, pixels = _centred(target), x.to(kind)
    found = pixels.clone()  # what comes later begins where the gradient has ended

    def moved(left: Tensor, attack: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        found[left] = attack(pixels[left], y[left])
        return found[left]

    losses: tuple[tuple[str, Model, Any], ...] = (
        ("PGD", _plain_scale(target), cross_entropy),
        ("PGD on the margin", centred, hard_margin),
    )
    for seed, (name, attacked, loss) in enumerate(losses):
        options = {"steps": rules.steps, "restarts": rules.restarts, "loss": loss}
        options["generator"] = _seeded(100 + seed)
        attack = functools.partial(pgd, attacked, eps=eps, **options)
        yield name, functools.partial(moved, attack=attack)

    def tried(left: Tensor, member: team.Member) -> Tensor:
        with attack_mode(centred):
            batch = team.Batch(
                centred, pixels[left], y[left], eps, bounds=PIXELS, generator=_seeded(300)
            )
            for images in (batch.x, found[left]):
                batch.offer(images, torch.arange(len(left)))
            member(batch)
        found[left] = batch.best
        return batch.best

    aim = functools.partial(team.aimed, aims=(team.Aim(rules.classes, rules.aimed, 1.0),))
    search = functools.partial(team.random_search, rounds=rules.rounds, warm=True)
    yield "PGD on the margin", functools.partial(tried, member=aim)
    yield "random search", functools.partial(tried, member=search)


def _seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def _gradients_hold(model: nn.Module, x: Tensor, y: Tensor, count: int = 20) -> bool:
    """Say whether float32 and float64 agree about the signs of the pixels' gradient."""
    exact = copy.deepcopy(model).double()
    signs = [
        input_gradient(_plain_scale(net), images[:count], y[:count], loss=hard_margin).sign()
        for net, images in ((model, x), (exact, x.double()))
    ]
    return bool((signs[0].double() == signs[1]).double().mean() > 0.99)


def _transferred(
    x: Tensor, y: Tensor, rules: Rules, sources: Mapping[str, Model | Tensor] | None
) -> Iterator[Tensor]:
    """Yield images that were crafted on other models."""
    if sources is None:
        yield from (_reference_images(name, rules.eps, len(x)) for name in SOURCES)
        return
    for source in sources.values():
        yield source if isinstance(source, Tensor) else _crafted(source, x, y, rules.eps)


def crafted_on_references(x: Tensor, y: Tensor, eps: float) -> dict[str, Tensor]:
    """Return what is crafted on each reference model: for many submissions judged by one data.

    Args:
        x: (N, 1, 28, 28), pixels in [0, 1].
        y: (N,) true classes.
        eps: the largest change of a pixel.
    """
    return {name: _crafted(reference.load(name), x, y, eps) for name in SOURCES}


def _crafted(source: Model, x: Tensor, y: Tensor, eps: float) -> Tensor:
    return pgd(source, x, y, eps, steps=20, generator=_seeded(200))


@functools.lru_cache(maxsize=16)
def _reference_images(name: str, eps: float, count: int) -> Tensor:
    """Return what is crafted on a reference model: the same for every submission."""
    test = load_mnist("test", source="offline")
    return _crafted(reference.load(name), test.x[:count], test.y[:count], eps)
