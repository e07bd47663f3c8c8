"""A random model is told from one that is not, by its generators or by its answers."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from advlearn import evaluate
from advlearn.audit import audit
from advlearn.passes import passes
from advlearn.randomness import ASKED, Generators, repeats, why_random
from tests.conftest import make_digits, make_mlp

pytestmark = pytest.mark.usefixtures("one_thread")

X, Y = make_digits(), torch.arange(24) % 4
CPU = torch.device("cpu")


class Rarely(nn.Module):
    """Draws a number in each call, and does something with it almost never."""

    def __init__(self, draw) -> None:
        super().__init__()
        self.inner, self.draw = make_mlp().eval(), draw

    def forward(self, x):
        return self.inner(x + (self.draw() < 1e-12))


class Holding(Rarely):
    """Draws from a generator that it holds."""

    def __init__(self, rng) -> None:
        super().__init__(rng.random)
        self.rng = rng


def with_torch(generator):
    return lambda: float(torch.rand((), generator=generator))


class Deep(Rarely):
    def __init__(self) -> None:
        generator = torch.Generator()
        super().__init__(with_torch(generator))
        self.generator = generator


def closing():
    rng, inner = random.Random(0), make_mlp().eval()
    return lambda x: inner(x + (rng.random() < 1e-12))


DRAWING = {
    "Python": lambda: Rarely(random.random),
    "NumPy": lambda: Rarely(np.random.random),
    "PyTorch": lambda: Rarely(lambda: float(torch.rand(()))),
    "its own, of Python": lambda: Holding(random.Random(0)),
    "its own, of NumPy": lambda: Holding(np.random.default_rng(0)),
    "its own, of NumPy's old kind": lambda: Holding(np.random.RandomState(0)),
    "its own, of PyTorch": Deep,
    "in a closure": closing,
}


@pytest.mark.parametrize("name", DRAWING)
def test_a_generator_that_moves_is_evidence_however_rare_its_effect(name):
    model = DRAWING[name]()
    with torch.random.fork_rng(devices=[]):
        assert why_random(model, X).startswith("it draws random numbers from")
        assert why_random(model, X, times=2)
        assert not repeats(model, X)


def seeded_anew():
    generator = torch.Generator()
    generator.seed()
    return with_torch(generator)()


NEW = {
    "of the system": lambda: random.SystemRandom().random(),
    "of NumPy": lambda: np.random.default_rng().random(),
    "of PyTorch": seeded_anew,
}


@pytest.mark.parametrize("name", NEW)
def test_a_generator_that_nobody_finds_shows_in_the_answers(name):
    """A fair coin agrees sixteen times in 3 of 100,000 trials."""
    inner = make_mlp().eval()
    for _ in range(30):
        assert "answers differently" in why_random(
            lambda x: inner(x.flip(-1) if NEW[name]() < 0.5 else x), X
        )


def test_what_is_drawn_for_each_example_shows_too():
    inner = make_mlp().eval()

    def each(x):
        turned = torch.from_numpy(np.random.default_rng().random(len(x)) < 0.1)
        return inner(torch.where(turned.reshape(-1, 1, 1, 1), x.flip(-1), x))

    assert sum(repeats(each, X) for _ in range(20)) == 0


def test_a_model_that_is_not_random_repeats():
    for model in (make_mlp().eval(), make_mlp().double().eval(), lambda x: x.flatten(1)):
        x = X.to(next(iter(getattr(model, "parameters", list)()), X).dtype)
        states = torch.get_rng_state(), random.getstate()
        assert repeats(model, x)
        assert repeats(model, x[:1])
        assert states[0].equal(torch.get_rng_state())
        assert states[1] == random.getstate()


def test_what_the_first_call_sets_up_is_no_draw():
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = None

        def forward(self, x):
            if self.layer is None:
                self.layer = nn.Linear(36, 4)
            return self.layer(x.flatten(1))

    with torch.random.fork_rng(devices=[]):
        assert repeats(Lazy(), X)


def test_a_model_with_a_memory_does_not_repeat():
    calls = []
    assert not repeats(lambda x: x.flatten(1) + (calls.append(1), len(calls))[1], X)


def test_answers_in_one_and_the_same_memory_are_told_apart():
    inner, memory = make_mlp().eval(), {}

    def answering(x):
        kept = memory.setdefault(len(x), torch.zeros(len(x), 4))
        return kept.copy_(inner(x + random.SystemRandom().random()))

    with torch.no_grad():
        assert not repeats(answering, X)


def test_rounding_is_no_randomness():
    calls = iter(range(1000))
    assert repeats(lambda x: x.flatten(1) * (1 + 1e-7 * (next(calls) % 2)), X)
    assert not repeats(lambda x: x.flatten(1) * (1 + 1e-3 * (next(calls) % 2)), X)


def test_it_costs_four_images_each_time():
    for count, shown in ((24, 4), (1, 1), (5, 3)):
        with passes() as counted:
            repeats(make_mlp().eval(), X[:count])
        assert counted.forward == ASKED * shown


def test_watching_names_what_has_moved():
    rng = random.Random(0)
    watched = Generators(partial(lambda rng, x: x, rng), CPU)
    assert watched.moved() == ""
    random.random()
    assert "Python" in watched.moved()
    np.random.random()
    assert "NumPy" in watched.moved()
    assert watched.moved() == ""


def test_the_audit_says_so_of_a_coin_that_falls_alike():
    sign = audit(Rarely(random.random), (X, Y), 0.1, steps=8).signs[-1]
    assert sign.seen
    assert audit(make_mlp().eval(), (X, Y), 0.1, steps=8).signs[-1].seen is False


def test_evaluate_says_so_of_a_coin_whatever_it_shows():
    net = make_mlp().eval()
    for seed in range(6):
        random.seed(seed)
        coin = lambda x: net(x.flip(-1) if random.random() < 0.5 else x)  # noqa: E731
        bracket = evaluate(coin, (X, Y), 0.0, budget="fast")
        assert "differently" in bracket.note
        assert bracket.certified is None
