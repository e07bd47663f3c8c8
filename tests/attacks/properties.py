"""What must be true of every attack of the table, each as a function that asserts it.

A property of attacks runs once for each row, on models whose best attack is known. A property of
models runs for each row on each variant of the model too.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advlearn import Bounds
from advlearn.attacks import ball_tolerance
from advlearn.directions import NoDirectionWarning
from advlearn.losses import cross_entropy, margin_loss
from advlearn.models import SoftmaxRegression
from tests.attacks.table import SIZE, Attack, Variant, make_network, same, snapshot
from tests.conftest import make_digits

LABELS = torch.arange(24) % 4


@dataclass(frozen=True)
class Property:
    """A check, and which attacks it is about."""

    check: Callable[..., None]
    needs: tuple[str, ...]
    lacks: tuple[str, ...]
    on_models: bool

    @property
    def name(self) -> str:
        return self.check.__name__

    def __str__(self) -> str:
        return self.name

    def why_not(self, attack: Attack) -> str | None:
        """Say why the property does not apply to an attack; None where it does."""
        for name in self.needs:
            if not attack.takes(name):
                return f"it takes no {name}"
        for name in self.lacks:
            if attack.takes(name):
                return f"it takes {name}"
        return attack.exempt.get(self.name)

    def run(self, attack: Attack, variant: Variant) -> None:
        # Not torch.manual_seed: it also notes a seed for each GPU, with a trace of the stack.
        torch.default_generator.manual_seed(0)
        if self.on_models:
            self.check(attack, variant)
        else:
            self.check(attack)


PROPERTIES: dict[str, Property] = {}


def of_models(*needs: str, lacks: tuple[str, ...] = ()) -> Callable[..., Any]:
    return _register(needs, lacks, on_models=True)


def of_attacks(*needs: str, lacks: tuple[str, ...] = ()) -> Callable[..., Any]:
    return _register(needs, lacks, on_models=False)


def _register(
    needs: tuple[str, ...], lacks: tuple[str, ...], *, on_models: bool
) -> Callable[..., Any]:
    def register(check: Callable[..., None]) -> Callable[..., None]:
        PROPERTIES[check.__name__] = Property(check, needs, lacks, on_models)
        return check

    return register


# --- What the checks share ------------------------------------------------------------------------


def shuffled_eps(largest: float, count: int = 24) -> Tensor:
    """Give each example an eps of its own, 0 for the first one, in no order."""
    eps = torch.linspace(0, largest, count)
    order = torch.randperm(count - 1, generator=torch.Generator().manual_seed(1)) + 1
    return torch.cat([eps[:1], eps[order]])


def resisting(attack: Attack, model: nn.Module, x: Tensor) -> Tensor:
    """Choose labels for which a small step does not succeed."""
    logits = model(x)
    return logits.argmin(1) if attack.targeted else logits.argmax(1)


def in_the_ball(moved: Tensor, x: Tensor, eps: float | Tensor) -> Tensor:
    """Tell for each example whether it is within eps of x, up to the stated tolerance."""
    largest = float(torch.as_tensor(eps).max())
    distance = (moved.double() - x.double()).abs().flatten(1).amax(1)
    return distance <= eps + ball_tolerance(x, largest)


class Recorder:
    """A model that keeps a copy of all it is shown."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.seen = model, []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.model(x)


class Fails(nn.Module):
    """A last layer that raises when it is called for the `count`-th time.

    By operations on tensors alone: a `raise` would keep the network from being compiled.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("left", torch.tensor(count), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.left.sub_(1)
        row = torch.where(self.left == 0, len(x), 0)  # len(x) is one too far
        return x + 0 * x.index_select(0, row.reshape(1))


def two_classes(
    attack: Attack, margin: float, dtype: torch.dtype
) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Build a linear model, images, labels, and the direction that an attack has to take.

    Pixel 7 tells the class, so clearly that no step of .2 changes the answer; every fifth pixel
    has no weight at all. The direction is the sign of the difference of the two rows of weights,
    whatever the image.
    """
    generator = torch.Generator().manual_seed(2)
    x = make_digits(dtype=dtype)
    truth = torch.arange(24) % 2
    x.flatten(1)[:, 7] = torch.where(truth == 1, 0.75, 0.25).to(dtype)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).to(dtype)
    with torch.no_grad():
        weight = 0.02 * torch.randn(2, 36, generator=generator)
        weight[:, 7] = torch.tensor([-2.0, 2.0]) * margin
        weight[:, ::5] = 0
        model[1].weight.copy_(weight)
        model[1].bias.copy_(torch.tensor([1.0, -1.0]) * margin)
    y = 1 - truth if attack.targeted else truth
    away = (model[1].weight[1 - y] - model[1].weight[y]).detach().reshape(x.shape)
    return model, x, y, -away if attack.targeted else away


# --- Ball and bounds ------------------------------------------------------------------------------


@of_models("eps")
def keeps_to_the_ball(attack: Attack, variant: Variant) -> None:
    model, _ = variant.build()
    x = make_digits()
    for eps in (SIZE, shuffled_eps(2 * SIZE)):
        assert in_the_ball(attack(model, x, LABELS, eps), x, eps).all()


@of_models("bounds")
def keeps_to_the_bounds(attack: Attack, variant: Variant) -> None:
    """The ordinary bounds hold, and so do others, which are neither cut nor widened."""
    model, _ = variant.build()
    x = make_digits()
    moved = attack(model, x, LABELS)
    assert moved.min() >= 0
    assert moved.max() <= 1
    moved = attack(model, 2 * x - 1, LABELS, bounds=Bounds(-1.0, 1.0))
    assert moved.min() >= -1
    assert moved.max() <= 1
    assert (moved < -0.5).any()


@of_attacks("model", "eps")
def shows_the_model_only_legal_images(attack: Attack) -> None:
    """Every iterate lies in the ball and in the bounds."""
    model, x = make_network().eval(), make_digits()
    recorder = Recorder(model)
    attack(recorder, x, resisting(attack, model, x), SIZE / 10)
    assert recorder.seen
    for seen in recorder.seen:
        assert in_the_ball(seen, x[: len(seen)], SIZE / 10).all()
        assert attack.bounds is None or (seen.min() >= 0 and seen.max() <= 1)


# --- The result -----------------------------------------------------------------------------------


@of_models()
def returns_a_new_detached_tensor(attack: Attack, variant: Variant) -> None:
    """Of x's shape and dtype, in memory of its own, at size 0 and for a tracked x too."""
    model, _ = variant.build()
    for size in (0.0, SIZE):
        for tracked in (False, True):
            x, y = make_digits().requires_grad_(tracked), LABELS.clone()
            moved = attack(model, x, y, size)
            assert moved.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
            assert not moved.requires_grad
            assert (moved.dtype, moved.shape, moved.device) == (x.dtype, x.shape, x.device)
            assert x.detach().equal(make_digits())
            assert y.equal(LABELS)
            assert x.grad is None
            assert x.requires_grad == tracked
            if size == 0 and attack.takes("eps"):
                assert moved.equal(x.detach())


@of_attacks()
def keeps_the_precision(attack: Attack) -> None:
    """float64 images are attacked in float64: what is added has digits beyond float32's."""
    model, x = make_network(dtype=torch.float64).eval(), make_digits(dtype=torch.float64)
    moved = attack(model, x, LABELS)
    assert moved.dtype == torch.float64
    change = moved - x if attack.takes("eps") or attack.takes("angle") else moved
    assert (change - change.float()).abs().max() > 1e-10


# --- The model ------------------------------------------------------------------------------------


@of_models("model")
def gives_the_model_back(attack: Attack, variant: Variant) -> None:
    """Parameters, buffers, flags, gradients, hooks and the global random state are as before."""
    model, network = variant.build()
    before = snapshot(network)
    attack(model, make_digits(), LABELS)
    assert same(before, snapshot(network))


@of_models("model")
def gives_the_model_back_when_it_raises(attack: Attack, variant: Variant) -> None:
    """At the first call, and in the middle of the steps."""
    for count in (1, 2) if attack.takes("steps") else (1,):
        model, network = variant.build(Fails(count))
        before = snapshot(network)
        with pytest.raises((IndexError, RuntimeError), match="out of range"):
            attack(model, make_digits(), LABELS)
        assert torch.is_grad_enabled()
        assert same(before, snapshot(network))


@of_models("model")
def attacks_the_model_as_it_is_used(attack: Attack, variant: Variant) -> None:
    """In eval mode, whatever mode it is handed over in."""
    model, _ = variant.build()
    expected = attack(variant.reference(), make_digits(), LABELS)
    torch.testing.assert_close(attack(model, make_digits(), LABELS), expected)


class Writes(nn.Module):
    """A first layer that works in place, as normalisation often does, out of autograd's sight."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x.mul_(0.5)
        return x


@of_attacks("model")
def changes_nobodys_images(attack: Attack) -> None:
    """Whatever the model writes into what it is handed."""
    network, x = make_network().eval(), make_digits()
    y = resisting(attack, network, x)
    kept, expected = x.clone(), attack(lambda z: network(0.5 * z.detach() + (z - z.detach())), x, y)
    for _ in range(2):
        moved = attack(nn.Sequential(Writes(), network), x, y)
        assert x.equal(kept)
        assert moved.equal(expected)


@of_attacks("model", lacks=("queries",))
def never_takes_a_direction_that_is_none(attack: Attack) -> None:
    """NaN in the gradient of some examples is said, and the result is finite; so is zero."""
    network, x = make_network().eval(), make_digits()
    x[:, 0, 1, 0] = torch.where(torch.arange(24) < 6, 1.0, 0.0)

    def some(bad: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def model(z: Tensor) -> Tensor:
            logits, chosen = network(z).clone(), z[:, 0, 1, 0] > 0.5
            logits[chosen] = bad(logits[chosen])
            return logits

        return model

    sound = attack(network, x, LABELS)[6:]
    for bad, words in (
        (lambda z: z + (z - z.detach()).sqrt(), "NaN or infinite"),
        (lambda z: z.detach() + 0 * z, "zero in every pixel"),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            moved = attack(some(bad), x, LABELS)
        said = [str(one.message) for one in caught if one.category is NoDirectionWarning]
        assert any(words in one for one in said)
        assert moved.isfinite().all()
        if not attack.draws:
            assert moved[6:].equal(sound)


# --- The surroundings -----------------------------------------------------------------------------


@of_models()
def works_where_gradients_are_off(attack: Attack, variant: Variant) -> None:
    model, _ = variant.build()
    x = make_digits()
    expected = attack(model, x, LABELS)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert attack(model, x, LABELS).equal(expected)
            # Made in there: under inference_mode these can never be differentiated.
            assert attack(model, x * 1.0, LABELS * 1).equal(expected)


@of_models()
def works_under_autocast(attack: Attack, variant: Variant) -> None:
    model, network = variant.build()
    x = make_digits()
    before = snapshot(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moved = attack(model, x, LABELS)
    assert moved.dtype == torch.float32
    assert same(before, snapshot(network))
    if attack.takes("eps"):
        assert in_the_ball(moved, x, SIZE).all()
    # bfloat16 has 8 bits: most of the directions are the same, not all of them.
    exact = attack(model, x, LABELS)
    start = x if attack.takes("eps") or attack.takes("angle") else torch.zeros_like(x)
    agree = ((moved - start) * (exact - start)).flatten(1).sum(1)
    agree /= (moved - start).flatten(1).norm(dim=1) * (exact - start).flatten(1).norm(dim=1)
    assert agree.min() > 0.8


# --- What it is for -------------------------------------------------------------------------------


def _does_damage(attack: Attack, variant: Variant) -> None:
    model, _ = variant.build()
    x, judge = make_digits(), variant.reference()
    moved = attack(model, x, LABELS, SIZE / 10)
    assert (attack.harm(judge(moved), LABELS) > attack.harm(judge(x), LABELS)).all()


@of_models("model", "eps")
def does_damage_in_the_ball(attack: Attack, variant: Variant) -> None:
    """Every example's loss rises; if targeted, the loss of its target falls."""
    _does_damage(attack, variant)


@of_models("model", "angle")
def does_damage_by_an_angle(attack: Attack, variant: Variant) -> None:
    _does_damage(attack, variant)


@of_attacks("model", "eps")
def finds_the_optimum_of_a_linear_model(attack: Attack) -> None:
    """The corner of the ball, clipped: also when the model is confident.

    float32 cross-entropy as PyTorch has it loses its direction at a margin of 17 and its gradient
    at 104. Pixels without a weight stay: sign(0) = 0.
    """
    for dtype in (torch.float32, torch.float64):
        for margin in (1.0, 18.0, 110.0, 200.0):
            model, x, y, direction = two_classes(attack, margin, dtype)
            for eps in (SIZE, shuffled_eps(2 * SIZE)):
                moved = attack(model, x, y, eps)
                own = torch.as_tensor(eps, dtype=dtype).reshape(-1, 1, 1, 1)
                expected = x + own * direction.sign()
                if attack.bounds is not None:
                    expected = expected.clamp(*attack.bounds)
                if attack.takes("steps") and dtype == torch.float32:
                    # The logits, of the size of the margin, cannot tell the last iterates apart.
                    judge = copy.deepcopy(model).double()
                    reached, most = (attack.harm(judge(z.double()), y) for z in (moved, expected))
                    assert (reached > most - 1e-3).all()
                else:
                    # Where no gradient leads, a random start stays where it was drawn.
                    live = (direction != 0) | torch.tensor(not attack.draws)
                    assert moved[live].sub(expected[live]).abs().max() < 4 * torch.finfo(dtype).eps


@of_attacks("model", "eps", "loss")
def follows_the_loss_it_is_given(attack: Attack) -> None:
    """A loss of one's own: the score of class 0, whatever the label."""
    model, x, y, _ = two_classes(attack, 1.0, torch.float64)
    moved = attack(model, x, y, loss=lambda logits, labels: logits[:, 0])
    row = model[1].weight.detach()[0].reshape(x.shape[1:]).expand_as(x)
    expected = x + SIZE * row.sign() * (-1 if attack.targeted else 1)
    if attack.bounds is not None:
        expected = expected.clamp(*attack.bounds)
    assert moved[row != 0].sub(expected[row != 0]).abs().max() < 1e-12


@of_attacks("model", "loss")
def takes_a_mean_for_a_loss(attack: Attack) -> None:
    """F.cross_entropy averages over the batch; that must not change what an example gets."""
    more = {"restarts": 1} if attack.takes("restarts") else {}
    model, x = make_network(dtype=torch.float64).eval(), make_digits(dtype=torch.float64)
    each, mean = (
        attack(
            model,
            x,
            LABELS,
            SIZE / 10,
            loss=lambda z, y, r=reduction: F.cross_entropy(z, y, reduction=r),
            **more,
        )
        for reduction in ("none", "mean")
    )
    scale = 1 if attack.takes("eps") or attack.takes("angle") else len(x)
    torch.testing.assert_close(each, scale * mean)


@of_attacks("model", lacks=("eps", "angle"))
def is_the_gradient(attack: Attack) -> None:
    """Of the loss of each example, as autograd finds it; not of the mean over the batch."""
    model, x = make_network(dtype=torch.float64).eval(), make_digits(dtype=torch.float64)
    pixels = x.clone().requires_grad_()
    logits = model(pixels)
    others = logits.masked_fill(F.one_hot(LABELS, 4).bool(), -torch.inf)
    losses = {
        cross_entropy: F.cross_entropy(logits, LABELS, reduction="sum"),
        margin_loss: (others.logsumexp(1) - logits[torch.arange(24), LABELS]).sum(),
    }
    loss = losses[attack.options.get("loss", cross_entropy)]
    (expected,) = torch.autograd.grad(loss, pixels)
    torch.testing.assert_close(attack(model, x, LABELS), expected, rtol=0, atol=1e-12)


# --- Each example for itself ----------------------------------------------------------------------


@of_attacks()
def attacks_each_example_alone(attack: Attack) -> None:
    """Whatever else is in the batch."""
    model, x = make_network().eval(), make_digits()
    others = torch.cat([x[:12], make_digits(12, seed=5)])
    results = [
        attack(model, batch, resisting(attack, model, batch), SIZE / 20) for batch in (x, others)
    ]
    torch.testing.assert_close(results[0][:12], results[1][:12])


@of_attacks("eps")
def takes_eps_for_each_example(attack: Attack) -> None:
    """As a tensor (N,); one number may come as a tensor, too."""
    model, x = make_network().eval(), make_digits()
    y = resisting(attack, model, x)
    eps = shuffled_eps(SIZE / 10)
    whole = attack(model, x, y, eps)
    for row in (0, 5, 23):
        torch.testing.assert_close(whole[row], attack(model, x, y, float(eps[row]))[row])
    torch.testing.assert_close(
        attack(model, x, y, torch.tensor(SIZE / 10)), attack(model, x, y, SIZE / 10)
    )


# --- Steps ----------------------------------------------------------------------------------------


@of_attacks("steps")
def takes_the_number_of_steps_it_is_given(attack: Attack) -> None:
    """Three steps of eps / 5 against a linear model go 3/5 of the way."""
    model, x, y, direction = two_classes(attack, 1.0, torch.float64)
    more = {"steps": 3, "step_size": SIZE / 5, "random_start": False, "restarts": 1}
    expected = x + 3 / 5 * SIZE * direction.sign()
    if attack.bounds is not None:
        expected = expected.clamp(*attack.bounds)
    assert (attack(model, x, y, **more) - expected).abs().max() < 1e-12


@of_attacks("steps")
def takes_the_stated_step_by_default(attack: Attack) -> None:
    """2.5 eps / steps: seen in the second batch that the model is shown."""
    model, x, y, direction = two_classes(attack, 1.0, torch.float64)
    recorder = Recorder(model)
    attack(recorder, x, y, steps=10, step_size=None, random_start=False, restarts=1)
    expected = x + 2.5 * SIZE / 10 * direction.sign()
    if attack.bounds is not None:
        expected = expected.clamp(*attack.bounds)
    first, second, *_ = (seen for seen in recorder.seen if len(seen) == len(x))
    assert first.equal(x)
    assert (second - expected).abs().max() < 1e-12


@of_attacks("steps")
def follows_the_gradient_from_iterate_to_iterate(attack: Attack) -> None:
    """Against a network: the result is an iterate of a plain loop, and no worse than its last."""
    model, x = make_network(dtype=torch.float64, scale=3.0).eval(), make_digits(dtype=torch.float64)
    y = resisting(attack, model, x)
    steps, step_size, eps = 6, 0.03, 0.06
    path = [x]
    for _ in range(steps):
        pixels = path[-1].clone().requires_grad_()
        total = F.cross_entropy(model(pixels), y, reduction="sum")
        direction = torch.autograd.grad(total, pixels)[0].sign()
        ahead = path[-1] + step_size * (-direction if attack.targeted else direction)
        ahead = torch.minimum(torch.maximum(ahead, x - eps), x + eps)
        path.append(ahead if attack.bounds is None else ahead.clamp(*attack.bounds))
    more = {"steps": steps, "step_size": step_size, "random_start": False, "restarts": 1}
    moved = attack(model, x, y, eps, **more)
    distance = torch.stack([(moved - iterate).abs().flatten(1).amax(1) for iterate in path])
    assert distance.amin(0).max() < 1e-12
    assert (attack.harm(model(moved), y) > attack.harm(model(path[-1]), y) - 1e-9).all()


class Winding(nn.Module):
    """Two classes, told by pixel 7, and 32 quick waves across: whether a step helps is luck."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.waves = 8 * torch.randn(36, 32, generator=generator, dtype=torch.float64)
        self.height = 0.5 * torch.randn(32, generator=generator, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        score = 8 * (x.flatten(1)[:, 7] - 0.5) + (x.flatten(1) @ self.waves).sin() @ self.height
        return torch.stack([-score, score], 1)


def back_and_forth(
    attack: Attack, loss: Callable[[Tensor, Tensor], Tensor] = margin_loss
) -> tuple[nn.Module, Tensor, Tensor, dict[str, Any], Tensor]:
    """Return a model, images, labels, options of a walk that comes to no rest, and its path.

    Some examples are fooled on the way and not at the end, some never, and most are nearest to it
    in the middle. The path is that of a plain loop, (steps + 1, N, ...).
    """
    model, x, truth = Winding(), make_digits(dtype=torch.float64), torch.arange(24) % 2
    x.flatten(1)[:, 7] = torch.where(truth == 1, 0.75, 0.25).double()
    y = 1 - truth if attack.targeted else truth
    steps, size = 9, 0.1
    path = [x]
    for _ in range(steps):
        pixels = path[-1].clone().requires_grad_()
        direction = torch.autograd.grad(loss(model(pixels), y).sum(), pixels)[0].sign()
        ahead = path[-1] + size * (-direction if attack.targeted else direction)
        ahead = torch.minimum(torch.maximum(ahead, x - size), x + size)
        path.append(ahead if attack.bounds is None else ahead.clamp(*attack.bounds))
    more = {"steps": steps, "step_size": size, "random_start": False, "restarts": 1}
    return model, x, y, {"size": size, **more}, torch.stack(path)


def fooled(attack: Attack, model: nn.Module, path: Tensor, y: Tensor) -> Tensor:
    """Say for each iterate and example whether it succeeds, (steps + 1, N)."""
    hit = torch.stack([model(iterate).argmax(1) == y for iterate in path])
    return hit if attack.targeted else ~hit


@of_attacks("keep")
def keeps_the_iterate_it_is_asked_for(attack: Attack) -> None:
    """The best of all, the first that succeeds, or the last; each example for itself.

    The second loss says nothing about success, so that what succeeds must count before the loss.
    """
    for loss in (margin_loss, lambda logits, y: logits.square().sum(1)):
        model, x, y, more, path = back_and_forth(attack, loss)
        success = fooled(attack, model, path, y)
        harm = torch.stack([loss(model(iterate), y) for iterate in path])
        harm = -harm if attack.targeted else harm
        end = torch.full_like(y, len(path) - 1)
        best = harm.masked_fill(~success & success.any(0), -torch.inf).argmax(0)
        first = torch.where(success.any(0), success.int().argmax(0), end)
        assert (success.any(0) & ~success[-1]).any(), "the last step loses what another has found"
        assert (~success.any(0) & (best != end)).any(), "some resist, best in the middle"
        if loss is margin_loss:
            assert (success.any(0) & (first != best)).any()
        else:
            assert (best != harm.argmax(0)).any(), "what succeeds is not what has the highest loss"
            more["loss"] = loss
        for keep, step in {"best": best, "first": first, "last": end}.items():
            moved = attack(model, x, y, **more, keep=keep)
            assert (moved - path[step, torch.arange(len(x))]).abs().max() < 1e-12, keep


@of_attacks("keep")
def shows_a_lost_example_no_more(attack: Attack) -> None:
    """With "first", after the step that has lost it; with "best" and "last" all walk to the end."""
    model, x, y, more, path = back_and_forth(attack)
    success = fooled(attack, model, path, y)
    open_ = ~torch.cat([torch.zeros_like(success[:1]), success[:-1]]).cummax(0).values
    probes = 2  # the model is asked twice whether it answers alike
    for keep, sizes in (("first", open_.sum(1).tolist()), ("best", [len(x)] * len(path))):
        recorder = Recorder(model)
        attack(recorder, x, y, **more, keep=keep)
        seen = [len(images) for images in recorder.seen]
        assert seen == ([*sizes[:1], 16, 16, *sizes[1:]] if keep == "first" else sizes), keep
        if keep == "first":
            shown = [recorder.seen[0], *recorder.seen[1 + probes :]]
            for images, iterate, rows in zip(shown, path, open_, strict=True):
                assert (images - iterate[rows]).abs().max() < 1e-12
    recorder = Recorder(model)
    easy = success[1] & ~success[0]
    attack(recorder, x[easy], y[easy], **more, keep="first")
    assert easy.any()
    assert len(recorder.seen) == 2 + probes, "when all are lost, the attack ends"
    recorder = Recorder(model)
    attack(recorder, x, y, **more, keep="last")
    assert len(recorder.seen) == len(path) - 1, "the last iterate has nothing to be compared with"


@of_attacks("keep")
def takes_eps_for_each_example_that_is_left(attack: Attack) -> None:
    """After some have left the batch, the others keep their own ball and their own step."""
    model, x, y, more, _ = back_and_forth(attack)
    more |= {"step_size": None, "keep": "first"}
    eps = shuffled_eps(2 * more.pop("size"))
    whole = attack(model, x, y, eps, **more)
    for row in range(len(x)):
        alone = attack(model, x[row : row + 1], y[row : row + 1], float(eps[row]), **more)
        assert (whole[row] - alone).abs().max() < 1e-12


@of_attacks("keep")
def tells_examples_apart_by_a_mean(attack: Attack) -> None:
    """A loss that averages over the batch says nothing about one example: each is asked alone."""
    model, x, y, more, _ = back_and_forth(attack)
    each, mean = (
        attack(
            model,
            x,
            y,
            **more,
            keep="best",
            loss=lambda z, labels, r=reduction: F.cross_entropy(z, labels, reduction=r),
        )
        for reduction in ("none", "mean")
    )
    assert each.equal(mean)


@of_attacks("keep")
def is_not_ended_by_a_lucky_draw(attack: Attack) -> None:
    """A model that draws anew at each call stays under attack with "first" as with "best"."""
    model, x, y, more, _ = back_and_forth(attack)

    def draws(images: Tensor) -> Tensor:
        return model(images + 0.05 * torch.randn_like(images))

    recorder = Recorder(draws)
    attack(recorder, x, y, **more, keep="first")
    assert [len(images) for images in recorder.seen].count(len(x)) == more["steps"] + 1


# --- A search without a gradient ---------------------------------------------------------------


def searched(attack: Attack, queries: int, **more: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Search where nothing falls: images, labels, all that was shown (Q, N, ...), the result."""
    model, x = make_network(scale=0.1).eval(), 0.25 + 0.5 * make_digits()
    recorder, y = Recorder(model), resisting(attack, model, x)
    moved = attack(recorder, x, y, SIZE / 10, queries=queries, **more)
    return x, y, torch.stack(recorder.seen), moved


@of_attacks("queries")
def asks_as_often_as_it_may(attack: Attack) -> None:
    """Each example that resists is shown once a query, the first time as it is."""
    for queries in (2, 15):
        x, _, shown, _ = searched(attack, queries)
        assert shown.shape == (queries, *x.shape)
        assert shown[0].equal(x)


@of_attacks("queries")
def keeps_the_best_that_it_has_seen(attack: Attack) -> None:
    """Example by example, and it goes on from there."""
    _, y, shown, moved = searched(attack, 40)
    model = make_network(scale=0.1).eval()
    harm = torch.stack([attack.harm(model(images), y) for images in shown])
    best = shown[harm.argmax(0), torch.arange(len(y))]
    assert moved.equal(best)
    assert (harm.argmax(0) > 1).all(), "squares help every example"
    assert (harm[-1] < harm.max(0).values).any(), "not everything that was tried was kept"


@of_attacks("queries")
def tries_squares_at_the_ends_of_the_ball(attack: Attack) -> None:
    """Columns at first, one sign each; then one square, of one sign, on the best so far."""
    x, y, shown, moved = searched(attack, 40)
    model = make_network(scale=0.1).eval()
    eps, slack = SIZE / 10, 4 * torch.finfo(x.dtype).eps
    stripes = (shown[1] - x) / eps
    assert (stripes.abs() - 1).abs().max() < 1e-4
    assert (stripes - stripes[:, :, :1]).abs().max() < 1e-4
    assert (stripes[:, 0, 0].std(1) > 0).double().mean() > 0.8, "each column has a sign of its own"
    best, harm = x, attack.harm(model(x), y)
    signs, corners = set(), set()
    for query, images in enumerate(shown[1:], 1):
        if query > 1:
            for image, old, own in zip(images[:, 0], best[:, 0], x[:, 0], strict=True):
                changed = ((image - old).abs() > slack).nonzero()
                if len(changed):
                    top, left = changed.amin(0).tolist()
                    bottom, right = changed.amax(0).tolist()
                    block = (image - own)[top : bottom + 1, left : right + 1] / eps
                    assert (block.abs() - 1).abs().max() < 1e-4
                    assert (block - block[0, 0]).abs().max() < 1e-4
                    signs.add(round(float(block[0, 0])))
                    corners.add((top, left))
        now = attack.harm(model(images), y)
        better = now > harm
        best = torch.where(better.reshape(-1, 1, 1, 1), images, best)
        harm = torch.where(better, now, harm)
    assert signs == {-1, 1}
    assert len(corners) > 10, "squares lie anywhere"
    assert moved.equal(best)


@of_attacks("queries")
def leaves_alone_what_is_fooled(attack: Attack) -> None:
    """What the model misreads is shown once, and comes back as it is."""
    model, x = make_network().eval(), make_digits()
    y = model(x).argmax(1) if attack.targeted else model(x).argmin(1)
    recorder = Recorder(model)
    assert attack(recorder, x, y).equal(x)
    assert len(recorder.seen) == 1


@of_attacks("start")
def begins_where_it_is_told(attack: Attack) -> None:
    """In place of the stripes, and inside the ball."""
    x = 0.25 + 0.5 * make_digits()
    start = x + SIZE * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 1)
    _, _, shown, _ = searched(attack, 3, start=start)
    expected = torch.minimum(torch.maximum(start, x - SIZE / 10), x + SIZE / 10)
    assert (shown[1] - expected).abs().max() < 1e-6


# --- Random numbers -------------------------------------------------------------------------------


@of_attacks("generator")
def draws_from_the_whole_ball(attack: Attack) -> None:
    """Evenly over [-eps, eps], every pixel of every example for itself.

    The steps of an attack are made so small that its result is its start.
    """
    more = {"steps": 1, "step_size": 1e-9, "restarts": 1} if attack.takes("steps") else {}
    model = nn.Sequential(nn.Flatten(), nn.Linear(4000, 4))
    x, eps = torch.full((2, 1, 4000), 0.5), torch.tensor([0.3, 0.1])
    drawn = (attack(model, x, torch.zeros(2, dtype=torch.int64), eps, **more) - x).flatten(1)
    drawn = drawn / eps.unsqueeze(1)
    assert (drawn.amin(1) < -0.99).all()
    assert (drawn.amax(1) > 0.99).all()
    # Of U(-1, 1), with the standard errors of 4,000 draws: .009, .005, .016.
    assert drawn.mean(1).abs().max() < 0.04
    assert (drawn.abs().mean(1) - 0.5).abs().max() < 0.02
    assert (drawn[0] * drawn[1]).mean().abs() * 3 < 0.06


@of_attacks("kind")
def draws_fair_signs(attack: Attack) -> None:
    """Of the size eps everywhere, each sign as often as the other."""
    x, eps = torch.full((2, 1, 4000), 0.5), torch.tensor([0.3, 0.1])
    drawn = (attack(None, x, LABELS[:2], eps) - x).flatten(1) / eps.unsqueeze(1)
    assert (drawn.abs() - 1).abs().max() < 1e-5
    # The standard error of a mean of 4,000 signs is .016.
    assert drawn.mean(1).abs().max() < 0.06
    assert (drawn[0] * drawn[1]).mean().abs() < 0.06


@of_attacks("generator")
def draws_by_its_generator(attack: Attack) -> None:
    """Or else by the global one; never by both."""
    model, x = make_network().eval(), make_digits()

    def attacked(own_seed: int | None, shared: int) -> Tensor:
        torch.default_generator.manual_seed(shared)
        generator = None if own_seed is None else torch.Generator().manual_seed(own_seed)
        return attack(model, x, LABELS, generator=generator)

    assert attacked(1, 1).equal(attacked(1, 2))
    assert not attacked(1, 1).equal(attacked(2, 1))
    assert attacked(None, 1).equal(attacked(None, 1))
    assert not attacked(None, 1).equal(attacked(None, 2))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    attack(model, x, LABELS)
    assert torch.get_rng_state().equal(before)


def one_after_the_other(
    attack: Attack, model: nn.Module, x: Tensor, y: Tensor, eps: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run three attempts one by one, each on the examples that still resist.

    Returns what three restarts must return, which attempt it came from, and what was fooled.
    """
    generator = torch.Generator().manual_seed(4)
    best, harm = x.clone(), torch.full((len(x),), -torch.inf, dtype=torch.float64)
    kept, fooled = torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x), dtype=torch.bool)
    for attempt in range(3):
        rows = (~fooled).nonzero().squeeze(1)
        more = {"steps": 1, "step_size": float(eps.max()) / 20, "restarts": 1}
        moved = attack(model, x[rows], y[rows], eps[rows], **more, generator=generator)
        logits = model(moved)
        hit = logits.argmax(1) == y[rows]
        success = hit if attack.targeted else ~hit
        reached = attack.harm(logits, y[rows]).detach().double()
        better = success | (reached > harm[rows])
        harm[rows[better]], best[rows[better]] = reached[better], moved[better]
        kept[rows[better]], fooled[rows] = attempt, success
    return best, kept, fooled


def in_three_restarts(
    attack: Attack, model: nn.Module, x: Tensor, y: Tensor, eps: Tensor
) -> Tensor:
    # Hardly a step: what an attempt reaches is a matter of luck, so that more of them help.
    more = {"steps": 1, "step_size": float(eps.max()) / 20, "restarts": 3}
    return attack(model, x, y, eps, **more, generator=torch.Generator().manual_seed(4))


def _keeps_the_best(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, size: float) -> None:
    eps = torch.full((len(x),), size, dtype=x.dtype)
    best, kept, fooled = one_after_the_other(attack, model, x, y, eps)
    assert kept.unique().tolist() == [0, 1, 2]
    assert not fooled.any()
    assert in_three_restarts(attack, model, x, y, eps).equal(best)


@of_attacks("restarts")
def keeps_the_best_attempt(attack: Attack) -> None:
    """Of three attempts that all fail, each example keeps the one that did the most damage."""
    model, x = make_network().eval(), make_digits()
    _keeps_the_best(attack, model, x, resisting(attack, model, x), SIZE / 10)


@of_attacks("restarts")
def tells_attempts_apart_where_float32_cannot(attack: Attack) -> None:
    """At a margin of 150 cross-entropy is 0 for all of them; in a tiny ball all are the same."""
    for margin, size, dtype in ((150.0, SIZE, torch.float32), (1.0, 1e-10, torch.float64)):
        model, x, y, _ = two_classes(attack, margin, dtype)
        _keeps_the_best(attack, model, x, y, size)


@of_attacks("restarts")
def attacks_again_only_what_resists(attack: Attack) -> None:
    """A fooled example is done; the others keep their own eps, label and best attempt."""
    model, x, y, _ = two_classes(attack, 0.15, torch.float32)
    eps = 2 * SIZE + shuffled_eps(SIZE)
    best, kept, fooled = one_after_the_other(attack, model, x, y, eps)
    assert kept[fooled].unique().tolist() == [0, 1, 2]
    assert kept[~fooled].unique().tolist() == [0, 1, 2]
    assert in_three_restarts(attack, model, x, y, eps).equal(best)


# --- Turning --------------------------------------------------------------------------------------


@of_attacks("angle")
def turns_by_the_angle_towards_the_gradient(attack: Attack) -> None:
    """x~ = ‖x‖ (cos(a) x/‖x‖ + sin(a) u), u the unit part of the gradient that is orthogonal to x.

    Also when the model is confident. A black image has no length, and stays.
    """
    for dtype in (torch.float32, torch.float64):
        for margin in (1.0, 18.0, 110.0, 200.0):
            model, x, y, direction = two_classes(attack, margin, dtype)
            x[0] = 0
            flat, gradient = x.double().flatten(1), direction.double().flatten(1)
            length = flat.norm(dim=1, keepdim=True).clamp(min=1e-9)
            across = gradient - (gradient * flat).sum(1, keepdim=True) / length**2 * flat
            across /= across.norm(dim=1, keepdim=True)
            for angle in (torch.pi / 2, 0.3):
                turn = torch.tensor(angle, dtype=torch.float64)
                expected = (turn.cos() * flat + turn.sin() * length * across).reshape(x.shape)
                expected[0] = 0
                if attack.bounds is not None:
                    expected = expected.clamp(*attack.bounds)
                turned = attack(model, x, y, angle)
                assert (turned - expected).abs().max() < 1e3 * torch.finfo(dtype).eps


@of_attacks("angle")
def keeps_the_length_where_little_is_left_to_turn_to(attack: Attack) -> None:
    """A gradient that is a multiple of x, but for a small part, or but for rounding errors."""
    x = 0.5 * make_digits()
    for share in (0.0, 1e-5, 1e-3):
        for image in x:
            model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2, bias=False))
            flat = image.flatten()
            with torch.no_grad():
                model[1].weight.copy_(torch.stack([flat, share * torch.randn(36) - 2 * flat]))
            turned = attack(model, image[None], LABELS[:1], 0.5, bounds=None).flatten().double()
            if share == 0:
                assert turned.equal(flat.double())
            else:
                assert abs(turned.norm() / flat.double().norm() - 1) < 1e-5
                cosine = F.cosine_similarity(turned, flat.double(), dim=0)
                assert abs(torch.arccos(cosine) - 0.5) < 1e-4


@of_attacks("angle")
def turns_however_small_the_gradient(attack: Attack) -> None:
    """The square of 1e-30 is 0 in float32; its direction is as good as any."""
    model, x, y, _ = two_classes(attack, 1.0, torch.float32)
    small, large = (
        attack(model, x, y, loss=lambda z, labels, s=scale: s * z[:, 0]) for scale in (1e-30, 1.0)
    )
    torch.testing.assert_close(small, large)
    assert (small != x).any()


# --- Bad input ------------------------------------------------------------------------------------

X, Y = make_digits(4), torch.arange(4)

# What is wrong, the arguments that make it so (the first is the one at fault), error, its words.
BAD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("list", {"x": [[0.0]]}, TypeError, "x must be a tensor of images"),
    ("integer pixels", {"x": (255 * X).byte()}, TypeError, r"torch.uint8.*x.float\(\) / 255"),
    ("one image", {"x": X[0, 0, 0]}, ValueError, r"batch of shape \(N, ...\).*unsqueeze"),
    ("empty", {"x": X[:0], "y": Y[:0]}, ValueError, "empty batch"),
    ("NaN", {"x": X / 0.0 * 0.0}, ValueError, "NaN or infinity"),
    ("0..255", {"x": 255 * X, "bounds": Bounds()}, ValueError, "outside bounds"),
    (
        "normalised",
        {"x": (X - 0.5) / 0.25, "bounds": Bounds()},
        ValueError,
        "outside bounds.*Normalize",
    ),
    ("float labels", {"y": Y.float()}, TypeError, r"torch.int64.*y.long\(\)"),
    ("label list", {"y": [0, 1, 2, 3]}, TypeError, "y must be a tensor of labels"),
    ("one-hot labels", {"y": torch.eye(4).long()}, ValueError, r"shape \(4,\)"),
    ("too few labels", {"y": Y[:3]}, ValueError, r"shape \(4,\).*got \(3,\)"),
    ("eps < 0", {"eps": -0.1}, ValueError, "eps must be finite and >= 0, got -0.1"),
    ("eps inf", {"eps": float("inf")}, ValueError, "eps must be finite"),
    ("eps NaN", {"eps": float("nan")}, ValueError, "eps must be finite"),
    ("eps 8", {"eps": 8, "bounds": Bounds()}, ValueError, "eps = 8 is more than.*8/255"),
    ("eps text", {"eps": "0.1"}, TypeError, "eps must be a number"),
    ("eps True", {"eps": True}, TypeError, "eps must be a number"),
    ("eps shape", {"eps": torch.ones(3)}, ValueError, r"shape \(4,\)"),
    ("eps integer tensor", {"eps": torch.ones(4).long()}, TypeError, "eps must have a floating"),
    ("angle < 0", {"angle": -0.1}, ValueError, r"angle must be finite and in \[0, 1.57"),
    ("angle in degrees", {"angle": 30}, ValueError, "angle must be finite and in"),
    ("angle text", {"angle": "0.1"}, TypeError, "angle must be a number"),
    ("bounds swapped", {"bounds": (1.0, 0.0)}, ValueError, "low < high"),
    ("bounds list", {"bounds": [0.0, 1.0]}, TypeError, "bounds must be Bounds"),
    ("model", {"model": None}, TypeError, "model must be callable"),
    ("loss", {"loss": "cross_entropy"}, TypeError, "loss must be callable"),
    ("gradient list", {"gradient": [[0.0]]}, TypeError, "gradient must be a tensor"),
    ("gradient shape", {"gradient": X[:2]}, ValueError, "gradient must have x's shape"),
    ("steps 0", {"steps": 0}, ValueError, "steps must be at least 1"),
    ("steps 2.5", {"steps": 2.5}, TypeError, "steps must be a whole number"),
    ("step_size 0", {"step_size": 0.0}, ValueError, "step_size"),
    ("restarts 0", {"restarts": 0}, ValueError, "restarts must be at least 1"),
    (
        "restarts of one attempt",
        {"restarts": 2, "random_start": False},
        ValueError,
        "repeats the same attempt",
    ),
    ("a seed", {"generator": 42}, TypeError, r"generator.*int 42.*Generator\(\).manual_seed"),
    ("queries 1", {"queries": 1}, ValueError, "queries must be at least 2"),
    ("share 0", {"share": 0.0}, ValueError, r"share must be finite and in \(0, 1\]"),
    ("start", {"start": X[:2]}, ValueError, "start must have x's shape"),
    ("kind", {"kind": "gauss"}, ValueError, "kind must be one of uniform, sign"),
]


class Counting(nn.Module):
    """Counts forward passes, to prove that nothing ran before the error."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = SoftmaxRegression(36, 4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x)


def _refuses(call: Callable[[], Any], error: type[Exception], words: str, case: str) -> None:
    """Like `pytest.raises`, whose own exception is not an AssertionError, with the case's name."""
    raised: Exception | None = None
    try:
        call()
    except Exception as caught:
        raised = caught
    assert isinstance(raised, error), f"{case}: {raised!r}"
    assert re.search(words, str(raised)), f"{case}: {raised}"


@of_attacks()
def refuses_bad_input_before_any_work(attack: Attack) -> None:
    """By name, before the model or a random number is asked for."""
    for case, change, error, words in BAD:
        if not attack.own_parameters.keys() >= set(change) - {"y"} | {next(iter(change))}:
            continue
        model = Counting()
        good = {"model": model, "x": X, "y": Y, "eps": SIZE, "angle": SIZE, "gradient": X}
        if isinstance(change.get("x"), Tensor):
            good["gradient"] = change["x"]
        arguments = {**good, **attack.options, **change}
        arguments = {n: value for n, value in arguments.items() if n in attack.own_parameters}
        before = torch.get_rng_state()
        _refuses(lambda a=arguments: attack.call(**a), error, words, case)
        assert model.calls == 0, case
        assert torch.get_rng_state().equal(before), case


BAD_LOGITS: list[tuple[str, Callable[[Tensor], Any], type[Exception], str]] = [
    ("probabilities", lambda z: z.softmax(1), ValueError, "looks like probabilities"),
    ("one column", lambda z: z[:, :1], ValueError, r"\(N, K\) = \(4, 2 or more\)"),
    ("too few classes", lambda z: 5 * z[:, :3] + 2, ValueError, "label 3.*0 to 2"),
    ("NaN logits", lambda z: z / 0 * 0, ValueError, "NaN or infinity"),
    ("detached", lambda z: z.detach(), ValueError, "detached from x"),
    ("class index", lambda z: z.argmax(1), TypeError, "floating logits"),
    ("a pair", lambda z: (z, z), TypeError, "tensor of logits"),
]


class Changes(nn.Module):
    """A last layer that makes something else of the logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.change(x)


@of_attacks("model")
def refuses_bad_logits(attack: Attack) -> None:
    """By name; and the network behind them comes back as it was."""
    for case, change, error, words in BAD_LOGITS:
        if case == "detached" and attack.takes("queries"):
            continue  # it asks for no gradient
        network = make_network().eval()
        before = snapshot(network)
        model = nn.Sequential(network, Changes(change))
        _refuses(lambda m=model: attack(m, X, Y), error, words, case)
        assert same(before, snapshot(network)), case
