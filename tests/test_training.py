"""Training: the step against its definition, resume bit by bit, and every way that it can break."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import math
import os
import random
import re
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Subset, TensorDataset

from advlearn import recipe as recipe_module
from advlearn import training
from advlearn.attacks import fgsm, noise, pgd
from advlearn.data import load_mnist, subset_classes
from advlearn.losses import cross_entropy, margin_loss
from advlearn.metrics import adversarial_error_rate, error_rate
from advlearn.models import LogisticRegression, MaxoutNet, SoftmaxRegression
from advlearn.recipe import callable_name
from advlearn.training import DivergenceError, History, Recipe, adversarial_fit, fit
from tests.conftest import make_digits, make_mlp
from tests.test_metrics import Counting

X, Y = make_digits(60), torch.arange(60) % 4
DATA = (X, Y)
EPS = 0.1


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(first, second):
    """Bit for bit."""
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def plain_mlp(seed=0, dtype=torch.float64):
    """Make a net without dropout or batch statistics: every pass of it is the same function."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 4)).to(dtype)


def small_maxout(seed=0, **options):
    """Make a small maxout net with dropout, large enough weights for its logits to differ."""
    torch.manual_seed(seed)
    model = MaxoutNet(36, (12,), pieces=2, classes=4, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(40)
    return model


@pytest.fixture(autouse=True)
def one_thread():
    """Small products gain nothing from a second thread, and wait for it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits():
    data = load_mnist("train", source="offline")
    return data.take(slice(0, 1000)), data.take(slice(1000, 1500))


# --- On real digits -------------------------------------------------------------------------------


def test_the_loss_falls_and_the_digits_are_learned(digits):
    train, validation = digits
    model = SoftmaxRegression()
    before = error_rate(model, validation)
    history = fit(model, train, Recipe(epochs=4), validation=validation, progress=False)
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert history["validation_error"][-1] < 0.2 < float(before)
    assert history["validation_error"][-1] == pytest.approx(float(error_rate(model, validation)))
    assert history["epoch"] == [1, 2, 3, 4]
    assert all(seconds > 0 for seconds in history["seconds"])
    expected = float(cross_entropy(model(validation.x), validation.y).mean().detach())
    assert history["validation_loss"][-1] == pytest.approx(expected, rel=1e-5)


def test_a_maxout_net_learns_by_the_papers_recipe(digits):
    train, validation = digits
    torch.manual_seed(0)
    model = MaxoutNet(hidden=(20,), pieces=2, input_dropout=0.0, hidden_dropout=0.2)
    recipe = Recipe(
        epochs=4,
        batch_size=25,
        lr=0.3,
        lr_final=0.05,
        momentum=0.5,
        momentum_final=0.7,
        max_norm=1.9365,
    )
    fit(model, train, recipe, progress=False)
    assert float(error_rate(model, validation)) < 0.25


def test_adversarial_training_lowers_the_adversarial_error(digits):
    pair = [subset_classes(data, [3, 7]) for data in digits]
    errors = []
    for eps in (0.0, 0.2):
        model = LogisticRegression()
        recipe = Recipe(epochs=15, batch_size=20, lr=0.05)
        adversarial_fit(model, pair[0], recipe, eps=eps, progress=False)
        errors.append(float(adversarial_error_rate(model, pair[1], 0.2)))
    assert errors[1] < 0.7 * errors[0], errors


def test_l1_makes_the_weights_sparser(digits):
    pair = subset_classes(digits[0], [3, 7])
    small, sums = [], []
    for l1 in (0.0, 0.03):
        model = LogisticRegression()
        history = fit(model, pair, Recipe(epochs=10, lr=0.02, l1=l1), progress=False)
        weight = model.weight.detach()
        seen = weight[pair.x.flatten(1).any(0)].abs()
        small.append(float((seen < 1e-3).double().mean()))
        sums.append(float(weight.abs().sum()))
        loss = float(cross_entropy(model(pair.x), pair.y).mean().detach())
        assert history["loss"][-1] > loss + 0.8 * l1 * sums[-1], "the loss includes the penalty"
    assert small[1] > 3 * small[0]
    assert sums[1] < 0.5 * sums[0]


# --- One step against its definition --------------------------------------------------------------


def one_step(model, data, **options):
    """Return the parameter gradients of one whole-batch step: SGD with lr 1 subtracts them."""
    before = weights(model)
    recipe = Recipe(epochs=1, batch_size=len(data[1]), lr=1.0, momentum=0.0)
    history = adversarial_fit(model, data, recipe, progress=False, **options)
    return {name: before[name] - value for name, value in model.state_dict().items()}, history


def definition(model, x, y, alpha, eps, bounds):
    """Differentiate alpha J(x) + (1 - alpha) J(x~), with x~ written out and held fixed."""
    pixels = x.clone().requires_grad_()
    nn.functional.cross_entropy(model(pixels), y, reduction="sum").backward()
    worst = x + eps * torch.sign(pixels.grad)
    worst = worst if bounds is None else worst.clamp(*bounds)
    model.zero_grad()
    clean = nn.functional.cross_entropy(model(x), y)
    total = alpha * clean + (1 - alpha) * nn.functional.cross_entropy(model(worst), y)
    total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}, float(total.detach())


@pytest.mark.parametrize("attack", [None, fgsm], ids=["two-pass", "fgsm"])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_step_is_the_definitions(attack, bounds, alpha):
    expected, loss = definition(plain_mlp(), X.double(), Y, alpha, EPS, bounds)
    gradients, history = one_step(
        plain_mlp(), (X.double(), Y), eps=EPS, alpha=alpha, bounds=bounds, attack=attack
    )
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-13)
    assert history["loss"][0] == pytest.approx(loss, rel=1e-9)


def test_the_definitions_parts_differ():
    """If alpha did nothing, the test above could not fail."""
    ends = [definition(plain_mlp(), X.double(), Y, alpha, EPS, None)[0] for alpha in (0.0, 1.0)]
    assert (ends[0]["1.weight"] - ends[1]["1.weight"]).abs().max() > 1e-3


def test_alpha_1_is_plain_training():
    recipe = Recipe(epochs=2, batch_size=20)
    plain, other = plain_mlp(), plain_mlp()
    data = (X.double(), Y)
    adversarial_fit(plain, data, recipe, eps=EPS, alpha=1.0, progress=False)
    fit(other, data, recipe, progress=False)
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("attack", "alpha", "passes"),
    [(None, 0.0, 2), (None, 0.5, 2), (fgsm, 0.0, 2), (fgsm, 0.5, 3)],
)
def test_the_price_of_a_step(attack, alpha, passes):
    model = Counting(plain_mlp(dtype=torch.float32))
    prices = []
    for epochs in (1, 3):
        model.forwards = model.backwards = 0
        recipe = Recipe(epochs=epochs, batch_size=20)
        adversarial_fit(model, DATA, recipe, eps=EPS, alpha=alpha, attack=attack, progress=False)
        prices.append((model.forwards, model.backwards))
    steps = 2 * 3  # three steps in each of the two epochs that the runs differ by
    assert prices[1][0] - prices[0][0] == passes * steps
    assert prices[1][1] - prices[0][1] == passes * steps


class Spy(nn.Module):
    """Remembers its inputs, and in which mode it saw them."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen.append((self.training, x.detach().clone()))
        return self.inner(x)


@pytest.mark.parametrize(
    ("options", "alike"),
    [({}, False), ({"input_dropout": 0.0, "hidden_dropout": 0.0}, True)],
    ids=["dropout", "no dropout"],
)
def test_crafting_in_eval_mode_matters_with_dropout_only(options, alike):
    """Dropout's mask of the moment makes another network to craft on."""
    crafted = []
    for attack, modes in ((None, [True, True]), (fgsm, [False, True, True])):
        model = Spy(small_maxout(**options))
        recipe = Recipe(epochs=1, batch_size=60)
        adversarial_fit(model, DATA, recipe, eps=EPS, attack=attack, progress=False)
        # The first pass of all only asks how many classes there are.
        assert [training for training, _ in model.seen[1:]] == modes
        crafted.append(model.seen[-1][1])
        assert not crafted[-1].equal(model.seen[-2][1])
    assert crafted[0].equal(crafted[1]) == alike


def tutorial(model, x, y, eps, bounds):
    """Compute FGSM as PyTorch's own tutorial does: `eval`, `zero_grad`, `backward`."""
    model.eval()
    x = x.detach().clone().requires_grad_()
    model.zero_grad()
    cross_entropy(model(x), y).sum().backward()
    return (x + eps * x.grad.sign()).clamp(0, 1)


def without_a_reset(model, x, y, eps, bounds):
    x = x.detach().clone().requires_grad_()
    model.train(False)
    cross_entropy(model(x), y).sum().backward()
    return (x + eps * x.grad.sign()).clamp(0, 1).detach()


def freezing(model, x, y, eps, bounds):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return fgsm(model, x, y, eps, bounds=bounds)


def with_a_graph(model, x, y, eps, bounds):
    """Give images through which a gradient would flow into the model's weights."""
    size = sum(parameter.pow(2).sum() for parameter in model.parameters())
    return fgsm(model, x, y, eps, bounds=bounds) + (size - size.detach())


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("attack", [tutorial, without_a_reset, freezing, with_a_graph])
def test_what_an_attack_does_to_the_model_stays_out_of_the_step(attack, alpha):
    """Gradients of the weights, the mode, the flags: the images alone are taken."""
    trained = []
    for one in (attack, fgsm):
        model = Spy(small_maxout())
        next(model.parameters()).requires_grad_(False)
        recipe = Recipe(epochs=2, batch_size=20)
        adversarial_fit(model, DATA, recipe, eps=EPS, alpha=alpha, attack=one, progress=False)
        trained.append((weights(model), [training for training, _ in model.seen]))
    assert equal(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1]


def test_an_attack_that_raises_leaves_mode_and_gradients_as_they_were():
    def attack(model, x, y, eps, bounds):
        tutorial(model, x, y, eps, bounds)
        raise RuntimeError("no images")

    model = small_maxout().train()
    frozen = next(model.parameters()).requires_grad_(False)
    frozen.grad = torch.ones_like(frozen)
    with pytest.raises(RuntimeError, match="no images"):
        adversarial_fit(model, DATA, Recipe(epochs=1), eps=EPS, attack=attack, progress=False)
    assert all(module.training for module in model.modules())
    assert [p.grad is not None for p in model.parameters()][:2] == [True, False]


def test_noise_may_take_the_attacks_place():
    """The paper's control: the same size, no direction."""

    def random_signs(model, x, y, eps, *, bounds):
        return noise(x, eps, kind="sign", bounds=bounds)

    seen = []

    def watched(model, x, y, eps, *, bounds):
        seen.append(random_signs(model, x, y, eps, bounds=bounds) - x)
        return seen[-1] + x

    runs = []
    for attack in (random_signs, watched, fgsm):
        model = plain_mlp(dtype=torch.float32)
        recipe = Recipe(epochs=2, batch_size=20)
        adversarial_fit(model, DATA, recipe, eps=EPS, attack=attack, bounds=None, progress=False)
        runs.append(weights(model))
    assert len(seen) == 6
    assert all(torch.allclose(change.abs(), torch.tensor(EPS), atol=1e-6) for change in seen)
    assert not equal(runs[0], runs[2])
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-6)


def test_the_objective_decides_what_is_minimised():
    model = plain_mlp(dtype=torch.float32)
    before = margin_loss(model(X), Y).mean()
    history = fit(
        model,
        DATA,
        Recipe(epochs=10, batch_size=20),
        objective=lambda m, x, y: margin_loss(m(x), y),
        progress=False,
    )
    assert history["loss"][-1] < float(before.detach()) - 0.1
    assert margin_loss(model(X), Y).mean() < before


# --- The recipe is followed -----------------------------------------------------------------------


def test_lr_and_momentum_follow_the_schedule_step_by_step(monkeypatch):
    seen = []
    step = torch.optim.SGD.step

    def watched(self, *arguments, **options):
        group = self.param_groups[0]
        seen.append((group["lr"], group["momentum"]))
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    recipe = Recipe(
        epochs=2, batch_size=20, lr=0.1, lr_final=0.001, momentum=0.5, momentum_final=0.8
    )
    fit(SoftmaxRegression(36, 4), DATA, recipe, progress=False)
    expected = [(0.1 * 0.01 ** (i / 6), 0.5 + 0.3 * i / 6) for i in range(6)]
    assert len(seen) == 6
    for got, wanted in zip(seen, expected, strict=True):
        assert got == pytest.approx(wanted)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_step_is_the_optimizers(optimizer):
    """One batch of all examples, two epochs: PyTorch's own optimizer by hand."""
    fitted, by_hand = plain_mlp(), plain_mlp()
    x = X.double()
    recipe = Recipe(epochs=2, batch_size=60, optimizer=optimizer, lr=0.05, momentum=0.9)
    fit(fitted, (x, Y), recipe, progress=False)
    stepper = (
        torch.optim.SGD(by_hand.parameters(), 0.05, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.Adam(by_hand.parameters(), 0.05)
    )
    for _ in range(2):
        stepper.zero_grad()
        nn.functional.cross_entropy(by_hand(x), Y).backward()
        stepper.step()
    torch.testing.assert_close(weights(fitted), weights(by_hand), rtol=1e-8, atol=1e-10)


def test_every_example_is_seen_once_in_each_epoch_in_another_order():
    seen = []

    def objective(model, x, y):
        seen.extend(x.flatten(1).sum(1).tolist())
        return cross_entropy(model(x), y)

    recipe = Recipe(epochs=2, batch_size=16)
    fit(SoftmaxRegression(36, 4), DATA, recipe, objective=objective, progress=False)
    wanted = sorted(X.flatten(1).sum(1).tolist())
    assert sorted(seen[:60]) == pytest.approx(wanted)
    assert sorted(seen[60:]) == pytest.approx(wanted)
    assert seen[:60] != seen[60:]
    assert seen[:60] != X.flatten(1).sum(1).tolist()


def test_max_norm_holds_after_training_and_was_needed():
    longest = []
    for limit in (None, 0.5):
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 6), nn.Linear(6, 4)
        )
        fit(model, DATA, Recipe(epochs=3, lr=0.3, max_norm=limit), progress=False)
        units = [m.weight.flatten(1) for m in model if isinstance(m, nn.Linear | nn.Conv2d)]
        longest.append([float(w.norm(dim=1).max().detach()) for w in units])
    assert all(norm > 0.5 for norm in longest[0])
    assert all(norm <= 0.5 * (1 + 1e-5) for norm in longest[1])


def test_max_norm_leaves_short_weights_alone():
    loose, free = plain_mlp(), plain_mlp()
    fit(loose, (X.double(), Y), Recipe(epochs=1, max_norm=1e3), progress=False)
    fit(free, (X.double(), Y), Recipe(epochs=1), progress=False)
    assert equal(weights(loose), weights(free))


def test_max_norm_holds_whatever_the_memory_layout():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 4))
    model.to(memory_format=torch.channels_last)
    fit(model, DATA, Recipe(epochs=1, max_norm=0.2), progress=False)
    assert float(model[1].weight.detach().flatten(1).norm(dim=1).max()) <= 0.2 * (1 + 1e-5)


def test_a_frozen_parameter_stays_frozen():
    model = plain_mlp(dtype=torch.float32)
    model[1].weight.requires_grad_(False)
    before = weights(model)
    recipe = Recipe(epochs=2, lr=0.5)
    fit(model, DATA, recipe, progress=False)
    adversarial_fit(model, DATA, recipe, eps=EPS, progress=False)
    after = weights(model)
    assert after["1.weight"].equal(before["1.weight"])
    assert not after["3.weight"].equal(before["3.weight"])
    assert not model[1].weight.requires_grad
    assert model[1].weight.grad is None


def test_a_frozen_parameter_stays_frozen_under_max_norm():
    model = plain_mlp(dtype=torch.float32)
    model[1].weight.requires_grad_(False)
    before = weights(model)
    fit(model, DATA, Recipe(epochs=1, max_norm=0.01), progress=False)
    assert weights(model)["1.weight"].equal(before["1.weight"])


# --- Modes ----------------------------------------------------------------------------------------


def test_modes_come_back_as_they_were():
    for prepare in (nn.Module.train, nn.Module.eval, lambda m: m.train()[2].eval()):
        model = make_mlp()
        prepare(model)
        modes = [module.training for module in model.modules()]
        fit(model, DATA, Recipe(epochs=2), validation=DATA, progress=False)
        assert [module.training for module in model.modules()] == modes


def test_a_model_handed_over_in_eval_mode_is_trained_with_dropout():
    model = small_maxout().eval()
    modes = []

    def objective(model, x, y):
        modes.append([module.training for module in model.modules()])
        return cross_entropy(model(x), y)

    recipe = Recipe(epochs=2, batch_size=60)
    fit(model, DATA, recipe, objective=objective, progress=False)
    assert len(modes) == 2
    assert all(all(flags) for flags in modes)


@pytest.mark.parametrize("attack", [None, fgsm], ids=["two-pass", "fgsm"])
def test_a_frozen_batch_norm_stays_frozen_in_training(attack):
    """Fine-tuning: the model is in training mode, one BatchNorm was put into eval by hand."""
    model = make_mlp()
    model[2].eval()
    before = weights(model)
    adversarial_fit(model, DATA, Recipe(epochs=1), eps=EPS, attack=attack, progress=False)
    after = weights(model)
    assert not after["1.weight"].equal(before["1.weight"])
    assert after["2.running_mean"].equal(before["2.running_mean"])
    assert after["2.num_batches_tracked"].equal(before["2.num_batches_tracked"])


def test_measure_sees_the_model_in_eval_mode():
    modes = []

    def measure(model):
        modes.append(any(module.training for module in model.modules()))
        return {}

    fit(make_mlp(), DATA, Recipe(epochs=2), measure=measure, progress=False)
    assert modes == [False, False]


# --- Early stopping -------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_weights_and_stops():
    scores = iter([3.0, 1.0, 2.0, 1.0, 0.0])
    kept = []

    def measure(model):
        kept.append(weights(model))
        return {"score": next(scores)}

    model = plain_mlp(dtype=torch.float32)
    recipe = Recipe(epochs=5, stop_on="score", patience=2)
    history = fit(model, DATA, recipe, measure=measure, progress=False)
    assert history["score"] == [3.0, 1.0, 2.0, 1.0], "no better than 1.0 for two epochs"
    assert history.stopped_early
    assert equal(weights(model), kept[1])
    assert not equal(kept[1], kept[3])


def test_a_run_that_is_not_stopped_still_ends_with_its_best_weights():
    scores, kept = iter([2.0, 1.0, 5.0]), []

    def measure(model):
        kept.append(weights(model))
        return {"score": next(scores)}

    model = plain_mlp(dtype=torch.float32)
    recipe = Recipe(epochs=3, stop_on="score", patience=3)
    history = fit(model, DATA, recipe, measure=measure, progress=False)
    assert len(history.rows) == 3
    assert not history.stopped_early
    assert equal(weights(model), kept[1])


def test_without_stop_on_the_last_weights_stay():
    kept = []

    def measure(model):
        kept.append(weights(model))
        return {"score": float(len(kept))}

    model = plain_mlp(dtype=torch.float32)
    fit(model, DATA, Recipe(epochs=3, patience=1), measure=measure, progress=False)
    assert len(kept) == 3
    assert equal(weights(model), kept[2])


def test_stopping_on_a_validation_column():
    model = plain_mlp(dtype=torch.float32)
    recipe = Recipe(epochs=30, lr=0.5, stop_on="validation_loss", patience=2)
    other = (make_digits(60, seed=9), torch.randint(4, (60,)))  # nothing to learn for these
    history = fit(model, DATA, recipe, validation=other, progress=False)
    column = history["validation_loss"]
    assert history.stopped_early
    assert len(column) < 30
    assert len(column) == column.index(min(column)) + 1 + 2
    loss = float(cross_entropy(model(other[0]), other[1]).mean().detach())
    assert loss == pytest.approx(min(column), rel=1e-5)


# --- Randomness -----------------------------------------------------------------------------------


def trained(seed, **options):
    model = small_maxout()
    history = fit(
        model, DATA, Recipe(epochs=2, batch_size=20, seed=seed), progress=False, **options
    )
    return weights(model), history["loss"]


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    first, loss = trained(3)
    torch.manual_seed(12345)  # the world outside does not matter
    again, same_loss = trained(3)
    other, _ = trained(4)
    assert equal(first, again)
    assert loss == same_loss
    assert not equal(first, other)


def test_the_global_random_states_are_left_alone():
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    models = small_maxout(), small_maxout()
    torch.set_rng_state(before[0])
    fit(models[0], DATA, Recipe(epochs=2), progress=False)
    attack = functools.partial(pgd, steps=2)
    adversarial_fit(models[1], DATA, Recipe(epochs=1), eps=EPS, attack=attack, progress=False)
    assert torch.get_rng_state().equal(before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


def test_no_generator_is_seeded_that_does_not_come_back(monkeypatch):
    """A model on the processor leaves those of all GPUs as they were."""
    seeded, models, validation = [], (small_maxout(), make_mlp()), Subset(TensorDataset(X, Y), [0])
    for module in (torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(module, name, seeded.append, raising=False)
    adversarial_fit(models[0], DATA, Recipe(epochs=2), eps=EPS, progress=False)
    recipe = Recipe(epochs=2, batch_size=58)
    fit(models[1].train(), DATA, recipe, validation=validation, progress=False)
    assert not seeded


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_generator_of_the_models_device_is_seeded_and_comes_back(monkeypatch, kind):
    states, current = {0: "one", 1: "two"}, [0]

    @contextlib.contextmanager
    def on(device):
        current[0] = device.index
        yield
        current[0] = 0

    module = getattr(torch, kind)
    replaced = {
        "get_rng_state": lambda device: states[device.index],
        "set_rng_state": lambda state, device: states.update({device.index: state}),
        "manual_seed": lambda seed: states.update({current[0]: seed}),
    }
    for name, function in (replaced | ({"device": on} if kind == "cuda" else {})).items():
        monkeypatch.setattr(module, name, function)
    device = torch.device(kind, 1 if kind == "cuda" else 0)
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with training._seeded(3, 2, device):
            assert states == {0: "one", 1: "two"} | {device.index: 3 * 1_000_003 + 2}
            drawn.append(float(torch.rand(1)))
    assert states == {0: "one", 1: "two"}
    assert torch.get_rng_state().equal(before)
    assert drawn[0] == drawn[1]


def test_what_is_measured_does_not_change_what_is_trained():
    def measure(model):
        return {"noise": float(torch.rand(1)), "pgd": float(error_rate(model, DATA))}

    assert equal(trained(0)[0], trained(0, measure=measure)[0])
    assert equal(trained(0)[0], trained(0, validation=DATA)[0])


def test_the_data_and_their_gradients_are_left_alone():
    x, y = X.clone(), Y.clone()
    adversarial_fit(
        plain_mlp(dtype=torch.float32), (x, y), Recipe(epochs=1), eps=EPS, progress=False
    )
    assert x.equal(X)
    assert y.equal(Y)
    assert not x.requires_grad
    assert x.grad is None


# --- Resume ---------------------------------------------------------------------------------------


# What trains, how, the recipe, and the forward passes in training mode that one step takes.
adversarial = functools.partial(adversarial_fit, eps=EPS)
RUNS = {
    "sgd with momentum": (plain_mlp, fit, {"momentum": 0.9, "momentum_final": 0.5}, 1),
    "momentum from nothing": (plain_mlp, fit, {"momentum": 0.0, "momentum_final": 0.5}, 1),
    "adam": (plain_mlp, fit, {"optimizer": "adam", "lr": 0.01, "lr_final": 0.001}, 1),
    "dropout": (small_maxout, fit, {"max_norm": 1.0, "l1": 1e-3}, 1),
    "batch statistics": (make_mlp, fit, {}, 1),
    "early stopping": (
        make_mlp,
        functools.partial(fit, validation=(make_digits(60, seed=9), Y.flip(0))),
        {"lr": 1.0, "stop_on": "validation_loss", "patience": 4},
        1,
    ),
    "two-pass": (small_maxout, adversarial, {}, 2),
    "fgsm": (make_mlp, functools.partial(adversarial, attack=fgsm), {}, 2),
    "random pgd": (
        small_maxout,
        functools.partial(adversarial, attack=functools.partial(pgd, steps=2)),
        {"optimizer": "adam"},
        2,
    ),
}


def without_seconds(history):
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]
    return rows, history.stopped_early


def interrupt_after(model, passes):
    """Press Ctrl-C in a forward pass: in the middle of a step, whatever the training is."""
    left = [passes]

    def hook(module, arguments):
        left[0] -= module.training
        if left[0] < 0:
            raise KeyboardInterrupt

    return model.register_forward_pre_hook(hook)


def measure_train_error(x, interrupt_in_epoch=0):
    """Return a measure that may be interrupted itself."""
    calls = []

    def measure(model):
        calls.append(float(error_rate(model, (x, Y))))
        if len(calls) == interrupt_in_epoch:
            raise KeyboardInterrupt
        return {"train_error": calls[-1]}

    return measure


@pytest.mark.parametrize("where", ["in a step", "in measure"])
@pytest.mark.parametrize(("make", "train", "options", "passes"), RUNS.values(), ids=RUNS.keys())
def test_a_run_that_was_cut_ends_as_one_that_was_not(make, train, options, passes, where, tmp_path):
    x = X.double() if make is plain_mlp else X
    recipe = Recipe(epochs=5, batch_size=16, **options)  # four steps in each epoch
    train = functools.partial(train, data=(x, Y), recipe=recipe, progress=False)
    file = tmp_path / "run.safetensors"

    cut = make()
    if where == "in a step":
        interrupt_after(cut, 2 * 4 * passes + 2)
    breaks = measure_train_error(x, interrupt_in_epoch=3 if where == "in measure" else 0)
    with pytest.raises(KeyboardInterrupt):
        train(model=cut, measure=breaks, checkpoint=file)

    fresh = make(5)  # another start, and another state of the world
    torch.manual_seed(777)
    resumed = train(model=fresh, measure=measure_train_error(x), checkpoint=file)
    whole = make()
    uncut = train(model=whole, measure=measure_train_error(x))
    assert without_seconds(resumed) == without_seconds(uncut)
    assert equal(weights(fresh), weights(whole))
    assert not equal(weights(cut), weights(whole))
    assert len(uncut.rows) > 3
    if recipe.stop_on:
        column = uncut["validation_loss"]
        assert column.index(min(column)) < len(column) - 1, "the best epoch must not be the last"


def test_an_interrupt_leaves_the_last_whole_epoch():
    kept = []

    def measure(model):
        kept.append(weights(model))
        return {}

    model = make_mlp()
    hook = interrupt_after(model, 2 * 4 + 2)
    with pytest.raises(KeyboardInterrupt):
        fit(model, DATA, Recipe(epochs=5, batch_size=16), measure=measure, progress=False)
    hook.remove()
    assert len(kept) == 2
    assert equal(weights(model), kept[1])
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_a_finished_run_is_not_trained_again(tmp_path):
    file = tmp_path / "run.safetensors"
    recipe = Recipe(epochs=3, stop_on="score", patience=3)
    scores = iter([2.0, 1.0, 3.0])
    model = plain_mlp(dtype=torch.float32)
    measure = lambda m: {"score": next(scores)}  # noqa: E731
    history = fit(model, DATA, recipe, measure=measure, checkpoint=file, progress=False)
    written = file.read_bytes()
    again = plain_mlp(5, dtype=torch.float32)
    same = fit(again, DATA, recipe, measure=measure, checkpoint=str(file), progress=False)
    assert same.rows == history.rows
    assert equal(weights(again), weights(model)), "the best weights, not the last"
    assert file.read_bytes() == written


@pytest.mark.parametrize("path", ["~/run.safetensors", Path("~/mine/run.safetensors")], ids=str)
def test_the_home_folder_is_found(tmp_path, monkeypatch, path):
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(here)
    for _ in range(2):  # the second time from the file
        fit(plain_mlp(), (X.double(), Y), Recipe(epochs=1), checkpoint=path, progress=False)
    assert [file.name for file in home.rglob("*.*")] == ["run.safetensors"]
    assert not any(here.iterdir())
    with pytest.raises(ValueError, match="checkpoint = '~' is a folder"):
        fit(plain_mlp(), (X.double(), Y), Recipe(epochs=1), checkpoint="~", progress=False)


def test_the_checkpoint_folder_is_made_and_nothing_else_is_left(tmp_path):
    file = tmp_path / "a" / "b" / "run.safetensors"
    fit(plain_mlp(dtype=torch.float32), DATA, Recipe(epochs=2), checkpoint=file, progress=False)
    assert [path.name for path in file.parent.iterdir()] == ["run.safetensors"]


# --- Checkpoints that must be refused -------------------------------------------------------------

RECIPE = Recipe(epochs=2)


@pytest.fixture
def checkpoint(tmp_path):
    file = tmp_path / "run.safetensors"
    fit(plain_mlp(dtype=torch.float32), DATA, RECIPE, checkpoint=file, progress=False)
    return file


def refuse(words, file, *, model=None, data=DATA, recipe=RECIPE, train=fit, **options):
    """Expect a refusal in words that leaves the model and the file as they were."""
    model = plain_mlp(5, dtype=torch.float32) if model is None else model
    before, content = weights(model), file.read_bytes()
    with pytest.raises(ValueError, match=words):
        train(model, data, recipe, checkpoint=file, progress=False, **options)
    assert file.read_bytes() == content
    assert equal(weights(model), before)


def test_a_checkpoint_of_another_recipe_is_refused(checkpoint):
    words = r"of another run \(lr: 0.1 there, 0.2 here\).*Pass another file name, or delete it"
    refuse(words, checkpoint, recipe=Recipe(epochs=2, lr=0.2))
    refuse("epochs: 2 there, 3 here", checkpoint, recipe=Recipe(epochs=3))
    refuse("seed: 0 there, 1 here", checkpoint, recipe=Recipe(epochs=2, seed=1))


def test_a_checkpoint_of_another_kind_of_training_is_refused(checkpoint, tmp_path):
    refuse("eps: None there, 0.1 here", checkpoint, train=adversarial_fit, eps=0.1)
    file = tmp_path / "adversarial.safetensors"
    model = plain_mlp(dtype=torch.float32)
    attack = functools.partial(pgd, steps=2)
    adversarial_fit(model, DATA, RECIPE, eps=0.1, attack=attack, checkpoint=file, progress=False)
    again = functools.partial(refuse, file=file, train=adversarial_fit)
    again("eps: 0.1 there, 0.2 here", eps=0.2, attack=attack)
    again("alpha: 0.5 there, 0.4 here", eps=0.1, attack=attack, alpha=0.4)
    again("bounds: .* there, None here", eps=0.1, attack=attack, bounds=None)
    again("attack: .*pgd.*steps.*2.* there, None here", eps=0.1)
    again(
        "attack: .*steps.*2.* there, .*pgd.*steps.*3.* here",
        eps=0.1,
        attack=functools.partial(pgd, steps=3),
    )
    again("eps: 0.1 there, None here", train=fit)


def test_an_attack_is_named_without_addresses_in_every_process():
    """A function among the arguments of an attack once brought its address into the identity."""
    attack = functools.partial(functools.partial(pgd, loss=margin_loss), steps=3)
    assert callable_name(attack) == "pgd(){'loss': 'margin_loss', 'steps': 3}"
    inner = functools.partial(functools.partial, fgsm)
    assert "0x" not in callable_name(inner)
    assert callable_name(functools.partial(pgd, steps=7)) == "pgd(){'steps': 7}"
    assert callable_name(Counting(plain_mlp())) == "Counting"


def test_a_checkpoint_of_another_precision_is_refused(checkpoint):
    refuse(
        "precision: 'exact' there, 'fast' here",
        checkpoint,
        recipe=Recipe(epochs=RECIPE.epochs, precision="fast"),
    )


def test_a_checkpoint_of_another_objective_is_refused(checkpoint):
    refuse("of another run", checkpoint, objective=lambda m, x, y: margin_loss(m(x), y))


def test_a_checkpoint_of_other_data_is_refused(checkpoint):
    refuse("examples: 60 there, 59 here", checkpoint, data=(X[:59], Y[:59]))
    refuse("of another run", checkpoint, data=(make_digits(60, seed=1), Y))


def test_a_checkpoint_of_other_labels_is_refused(checkpoint):
    refuse("of another run", checkpoint, data=(X, Y.flip(0)))


def other_classes():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 7))


@pytest.mark.parametrize("make", [lambda: SoftmaxRegression(36, 4), other_classes])
def test_a_checkpoint_of_another_model_is_refused(checkpoint, make):
    refuse("(?s)of another model.*Pass another file name", checkpoint, model=make())


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"garbage, and not a little of it",
        lambda content: content[:200],
        lambda content: content[:-1],
        lambda content: b"\xff" * 8 + content[8:],
    ],
    ids=["empty", "garbage", "cut in the header", "one byte short", "header of 2^64 bytes"],
)
def test_a_damaged_checkpoint_is_refused(checkpoint, damage):
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    refuse("damaged.*Delete it to start anew", checkpoint)


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8, 0.999])
@pytest.mark.parametrize("bit", [0, 7])
def test_one_flipped_bit_of_a_checkpoint_is_seen(checkpoint, where, bit):
    content = bytearray(checkpoint.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start + int(where * (len(content) - start))] ^= 1 << bit
    checkpoint.write_bytes(content)
    refuse("damaged .*(sha256 differs|NaN).*Delete it to start anew", checkpoint)


def rewrite(file, change, *, sign=True):
    """Write a checkpoint anew with other tensors, or another text, and a hash that fits."""
    tensors = load_file(file)
    with safe_open(file, framework="pt") as opened:
        about = json.loads(opened.metadata()["advlearn"])
    del about["sha256"]
    change(tensors, about)
    if sign:
        about["sha256"] = recipe_module._digest(tensors, about)
    save_file(tensors, file, metadata={"advlearn": json.dumps(about)})


HOSTILE_CHECKPOINTS = {
    "NaN weights": lambda tensors, about: tensors["model.1.weight"].fill_(float("nan")),
    "infinite weights": lambda tensors, about: tensors["best.1.bias"].fill_(float("inf")),
    "best weights of another model": lambda tensors, about: tensors.pop("best.1.bias"),
    "an optimizer of another model": lambda tensors, about: tensors.update(
        {"optimizer.0.exp_avg": torch.zeros(3)}
    ),
    "an optimizer of more layers": lambda tensors, about: tensors.update(
        {"optimizer.99.step": torch.zeros(())}
    ),
    "an optimizer without numbers": lambda tensors, about: tensors.update(
        {"optimizer.x": torch.zeros(())}
    ),
    "tensors of something else": lambda tensors, about: tensors.update(other=torch.zeros(2)),
    "a history of texts": lambda tensors, about: about["rows"][0].update(loss="0.1"),
    "a history that is none": lambda tensors, about: about.update(rows=3),
    "no best value": lambda tensors, about: about.pop("best"),
    "three best values": lambda tensors, about: about.update(best=[1, 2, 3]),
    "stopped at the word no": lambda tensors, about: about.update(stopped_early="no"),
    "an identity that is a list": lambda tensors, about: about.update(identity=[1]),
}


@pytest.mark.parametrize("kind", HOSTILE_CHECKPOINTS)
def test_a_checkpoint_that_lies_is_refused(tmp_path, kind):
    file = tmp_path / "run.safetensors"
    stopping = Recipe(epochs=2, lr=0.1, optimizer="adam", stop_on="loss", patience=2)
    fit(plain_mlp(dtype=torch.float32), DATA, stopping, checkpoint=file, progress=False)
    rewrite(file, HOSTILE_CHECKPOINTS[kind])
    refuse("damaged.*Delete it to start anew", file, recipe=stopping)


def test_a_checkpoint_without_a_hash_is_of_the_first_version(checkpoint):
    rewrite(checkpoint, lambda tensors, about: None, sign=False)
    model = plain_mlp(dtype=torch.float32)
    history = fit(model, DATA, RECIPE, checkpoint=checkpoint, progress=False)
    assert len(history.rows) == RECIPE.epochs


def test_a_buffer_may_be_infinite(tmp_path):
    """The mask of an attention layer is: only what is trained must be finite."""
    file = tmp_path / "run.safetensors"

    def masked():
        model = plain_mlp(dtype=torch.float32)
        model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        return model

    fit(masked(), DATA, RECIPE, checkpoint=file, progress=False)
    fit(masked(), DATA, RECIPE, checkpoint=file, progress=False)


def test_a_checkpoint_that_is_deep_or_a_pipe_is_refused(tmp_path):
    file = tmp_path / "run.safetensors"
    text = "[" * 200_000 + "]" * 200_000
    save_file({"a": torch.zeros(1)}, file, metadata={"advlearn": text})
    refuse("damaged .*nested too deeply", file)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ValueError, match="is no plain file"):
        fit(plain_mlp(dtype=torch.float32), DATA, RECIPE, checkpoint=file, progress=False)


@pytest.mark.parametrize("metadata", [None, {}, {"advlearn": "no JSON"}, {"advlearn": "{}"}])
def test_a_safetensors_file_of_something_else_is_refused(tmp_path, metadata):
    file = tmp_path / "weights.safetensors"
    save_file(weights(plain_mlp(dtype=torch.float32)), file, metadata=metadata)
    refuse("not one of advlearn's", file)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    file, calls = tmp_path / "run.safetensors", [0]
    real = os.fsync

    def full_at_the_third(number):
        calls[0] += 1
        if calls[0] == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", full_at_the_third)
    recipe = Recipe(epochs=4, batch_size=16)
    with pytest.raises(OSError, match=r"No space left.*run\.safetensors"):
        fit(make_mlp(), DATA, recipe, checkpoint=file, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]
    resumed, whole = make_mlp(5), make_mlp()
    history = fit(resumed, DATA, recipe, checkpoint=file, progress=False)
    fit(whole, DATA, recipe, progress=False)
    assert len(history.rows) == 4
    assert equal(weights(resumed), weights(whole))


# --- What cannot be trained is said before any work -----------------------------------------------


def normed(*size, **options):
    """Make a small network with a BatchNorm."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8, **options), nn.ReLU(), nn.Linear(8, 4)
    )


class Squeezed(nn.Module):
    """Loses the batch dimension of one example."""

    def __init__(self):
        super().__init__()
        self.inner = SoftmaxRegression(36, 4)

    def forward(self, x):
        return self.inner(x).squeeze()


class Standardised(nn.Module):
    """Divides by the batch's own standard deviation, which one example does not have."""

    def __init__(self):
        super().__init__()
        self.inner = SoftmaxRegression(36, 4)

    def forward(self, x):
        return self.inner((x - x.mean(0)) / (0.1 + x.std(0)) if self.training else x)


def one_pixel():
    return nn.Sequential(nn.Conv2d(1, 3, 6), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4))


REFUSE_ONE = {
    "BatchNorm1d": normed,
    "BatchNorm2d on one pixel": one_pixel,
    "no statistics": functools.partial(normed, track_running_stats=False),
    "scripted": lambda: torch.jit.script(normed()),
    "data-parallel": lambda: nn.DataParallel(normed()),
    "squeeze": Squeezed,
    "own statistics": Standardised,
}
if hasattr(torch.compiler, "set_stance"):  # older ones say it in words of their own
    REFUSE_ONE["compiled"] = lambda: torch.compile(normed(), backend="eager")
TAKE_ONE = {
    "BatchNorm2d on larger images": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 4)
    ),
    "frozen BatchNorm": lambda: (
        normed().train().apply(lambda m: m.eval() if isinstance(m, nn.BatchNorm1d) else m)
    ),
    "no BatchNorm": plain_mlp,
}


@pytest.mark.parametrize(
    "train", [fit, functools.partial(adversarial_fit, eps=EPS)], ids=["fit", "adversarial_fit"]
)
@pytest.mark.filterwarnings("ignore:.*degrees of freedom", "ignore:.*jit.script")
@pytest.mark.parametrize("make", REFUSE_ONE.values(), ids=REFUSE_ONE.keys())
def test_a_last_batch_of_one_is_refused_before_any_work(make, train):
    model = make().eval()
    before, state = weights(model), torch.get_rng_state()
    words = r"batch_size = 20 leaves a batch of one of the 41 examples.*Use batch_size=19"
    with pytest.raises(ValueError, match=words) as caught:
        train(model, (X[:41], Y[:41]), Recipe(epochs=1, batch_size=20), progress=False)
    assert re.search("more than 1 value per channel|output", str(caught.value))
    assert equal(weights(model), before)
    assert torch.get_rng_state().equal(state)
    assert not any(module.training for module in model.modules())
    history = train(model, (X[:41], Y[:41]), Recipe(epochs=1, batch_size=19), progress=False)
    assert len(history.rows) == 1, "what the message advises works"


@pytest.mark.parametrize("make", TAKE_ONE.values(), ids=TAKE_ONE.keys())
def test_a_last_batch_of_one_is_trained_on_where_the_model_takes_it(make):
    torch.manual_seed(0)
    model = make().float()
    assert len(fit(model, (X[:41], Y[:41]), Recipe(epochs=1, batch_size=20), progress=False).rows)


@pytest.mark.parametrize(("count", "size", "advice"), [(7, 1, 4), (3, 1, 3), (9, 2, 3), (4, 3, 2)])
def test_the_advised_batch_size_leaves_no_batch_of_one(count, size, advice):
    assert count % advice != 1
    with pytest.raises(ValueError, match=f"Use batch_size={advice}, "):
        fit(normed(), (X[:count], Y[:count]), Recipe(epochs=1, batch_size=size), progress=False)


def test_one_example_alone_is_refused_or_trained():
    with pytest.raises(ValueError, match=r"data\.x holds one example.*Pass more"):
        fit(normed(), (X[:1], Y[:1]), Recipe(epochs=1), progress=False)
    assert len(fit(SoftmaxRegression(36, 4), (X[:1], Y[:1]), Recipe(epochs=1), progress=False).rows)


def test_validation_of_one_example_is_refused_before_any_work():
    model = normed(track_running_stats=False)
    before = weights(model)
    validation = (make_digits(1), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"validation\.x leaves a batch of one example"):
        fit(model, DATA, Recipe(epochs=1), validation=validation, progress=False)
    assert equal(weights(model), before)


def test_validation_leaves_no_example_alone():
    model = normed(track_running_stats=False)
    validation = (make_digits(1001), torch.zeros(1001, dtype=torch.int64))
    history = fit(model, (X, Y), Recipe(epochs=1), validation=validation, progress=False)
    assert "validation_loss" in history.rows[0]


def test_batch_norm_without_statistics_is_trained():
    model = normed(track_running_stats=False)
    history = fit(
        model, DATA, Recipe(epochs=5, batch_size=20, lr=0.5), validation=DATA, progress=False
    )
    assert history["loss"][-1] < history["loss"][0]


class Detached(nn.Module):
    """Its weights take part without a gradient."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(36, 4))

    def forward(self, x):
        return x.flatten(1) @ self.weight.detach()


def made_in_inference_mode():
    with torch.inference_mode():
        return plain_mlp(dtype=torch.float32)


def normed_in_inference_mode():
    model = normed()
    with torch.inference_mode():
        model[2].running_mean = torch.zeros(8)
    return model


OTHER = (X.double(), Y)
FLOATS = "the model's parameters have torch.float32.*Pass {}.x.to\\(torch.float32\\)"
NO_GRADIENT = "does not depend on any parameter that requires a gradient"
UNTRAINABLE = [
    ("a function", lambda x: x, {}, TypeError, "model must be a torch.nn.Module"),
    ("no parameters", nn.Flatten(), {}, ValueError, "no parameters"),
    (
        "frozen",
        SoftmaxRegression(36, 4).requires_grad_(False),
        {},
        ValueError,
        r"no parameter of model requires a gradient.*model\.requires_grad_\(True\)",
    ),
    ("lazy", nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), {}, ValueError, "lazy layer.*once"),
    ("inference", made_in_inference_mode(), {}, ValueError, "inference_mode.*deepcopy"),
    ("inference buffers", normed_in_inference_mode(), {}, ValueError, "inference_mode.*deepcopy"),
    ("detached", Detached(), {}, ValueError, NO_GRADIENT),
    (
        "fast in float64",
        plain_mlp(),
        {"data": (X.double(), Y), "recipe": Recipe(epochs=1, precision="fast")},
        ValueError,
        "precision = 'fast'.* float64",
    ),
    (
        "float64",
        SoftmaxRegression(36, 4),
        {"data": (X.double(), Y)},
        TypeError,
        FLOATS.format("d.*"),
    ),
    ("float16", SoftmaxRegression(36, 4), {"data": (X.half(), Y)}, TypeError, "data.x has dtype"),
    (
        "float64 validation",
        SoftmaxRegression(36, 4),
        {"validation": OTHER},
        TypeError,
        FLOATS.format("validation"),
    ),
]


@pytest.mark.parametrize(
    ("model", "change", "error", "words"),
    [u[1:] for u in UNTRAINABLE],
    ids=[u[0] for u in UNTRAINABLE],
)
@pytest.mark.parametrize(
    "train", [fit, functools.partial(adversarial_fit, eps=EPS)], ids=["fit", "adversarial_fit"]
)
def test_what_cannot_be_trained_is_refused_with_the_remedy(train, model, change, error, words):
    with pytest.raises(error, match=words):
        train(model, progress=False, **{"data": DATA, "recipe": Recipe(epochs=1)} | change)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_adversarial_training_names_a_model_that_is_detached_from_its_images(alpha):
    class Cut(SoftmaxRegression):
        def forward(self, x):
            return super().forward(x.detach())

    recipe = Recipe(epochs=1)
    with pytest.raises(ValueError, match=r"model\(x\) is detached from x"):
        adversarial_fit(Cut(36, 4), DATA, recipe, eps=EPS, alpha=alpha, progress=False)


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (lambda x: x[:1], ValueError, "must return images of x's shape"),
        (lambda x: x.numpy(), TypeError, "the attack's images must be a tensor"),
        (lambda x: x * math.nan, ValueError, "the attack's images holds NaN"),
    ],
    ids=["shape", "numpy", "nan"],
)
def test_what_an_attack_of_ones_own_gives_is_checked(made, error, words):
    def attack(model, x, y, eps, bounds):
        return made(x)

    model, recipe = SoftmaxRegression(36, 4), Recipe(epochs=1)
    with pytest.raises(error, match=words):
        adversarial_fit(model, (X, Y), recipe, eps=EPS, attack=attack, progress=False)


def test_a_model_that_casts_its_images_takes_any_dtype():
    class Casts(SoftmaxRegression):
        def forward(self, x):
            return super().forward(x.float())

    assert len(fit(Casts(36, 4), (X.double(), Y), Recipe(epochs=1), progress=False).rows) == 1


@pytest.mark.parametrize("value", [1.0, torch.tensor([1, 2])], ids=["number", "integers"])
def test_an_objective_that_returns_no_losses_is_named(value):
    with pytest.raises(TypeError, match="objective must return a floating tensor, one loss for"):
        fit(
            SoftmaxRegression(36, 4),
            DATA,
            Recipe(epochs=1),
            objective=lambda model, x, y: value,
            progress=False,
        )


@pytest.mark.parametrize(
    ("reduced", "shape", "remedy"),
    [
        (torch.mean, "()", "Leave out .mean"),
        (torch.sum, "()", "reduction='none'"),
        (lambda losses: losses[:10], "(10,)", "one that does not count has the loss 0"),
        (lambda losses: losses[losses > 100], "(0,)", "has the loss 0"),
        (lambda losses: losses[:, None].expand(-1, 4), "(20, 4)", "Add up what belongs to one"),
        (lambda losses: losses[None], "(1, 20)", "Add up"),
        (lambda losses: losses[:, None] + losses, "(20, 20)", "Add up"),
    ],
    ids=["mean", "sum", "fewer", "none", "several", "transposed", "broadcast"],
)
def test_an_objective_that_returns_not_one_loss_each_is_refused_at_the_first_step(
    reduced, shape, remedy
):
    model = SoftmaxRegression(36, 4)
    before, words = weights(model), f"one loss for each example, of shape (20,), got {shape}. "
    with pytest.raises(ValueError, match=f"{re.escape(words)}.*{re.escape(remedy)}"):
        fit(
            model,
            DATA,
            Recipe(epochs=1, batch_size=20),
            objective=lambda m, x, y: reduced(cross_entropy(m(x), y)),
            progress=False,
        )
    assert equal(before, weights(model))


@pytest.mark.parametrize("form", [lambda z: z[:, None], torch.squeeze], ids=["column", "squeezed"])
def test_one_loss_for_each_example_may_have_dimensions_of_one(form):
    trained = []
    for shaped in (form, lambda losses: losses):
        model, recipe = plain_mlp(), Recipe(epochs=1, batch_size=59)  # and a batch of one
        data = X.double(), Y
        objective = lambda m, x, y, shaped=shaped: shaped(cross_entropy(m(x), y))  # noqa: E731
        fit(model, data, recipe, objective=objective, progress=False)
        trained.append(weights(model))
    assert equal(*trained)


OFF = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_grad_enabled": functools.partial(torch.set_grad_enabled, False),
}


@pytest.mark.parametrize("off", OFF.values(), ids=OFF.keys())
@pytest.mark.parametrize("options", [None, {}, {"attack": fgsm}], ids=["plain", "two-pass", "fgsm"])
def test_gradients_that_are_off_outside_are_on_in_training(off, options):
    trained = []
    for context in (torch.enable_grad, off):
        model = make_mlp()
        recipe = Recipe(epochs=2, batch_size=20)
        with context():
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            if options is None:
                fit(model, DATA, recipe, validation=DATA, progress=False)
            else:
                adversarial_fit(model, DATA, recipe, eps=EPS, progress=False, **options)
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
        assert all(parameter.requires_grad for parameter in model.parameters())
        trained.append(weights(model))
    assert equal(*trained)


def test_images_made_in_inference_mode_and_images_with_a_graph_are_trained_on():
    with torch.inference_mode():
        made = X.clone()
    leaf = X.clone().requires_grad_()
    trained = []
    for images in (X, made, leaf, leaf * 1):
        model = plain_mlp(dtype=torch.float32)
        adversarial_fit(model, (images, Y), Recipe(epochs=2), eps=EPS, progress=False)
        trained.append(weights(model))
    assert leaf.grad is None
    assert all(equal(trained[0], other) for other in trained[1:])


def test_a_buffer_outside_the_state_comes_back_too():
    class Counts(SoftmaxRegression):
        def __init__(self):
            super().__init__(36, 4)
            self.register_buffer("seen", torch.zeros(()), persistent=False)

        def forward(self, x):
            self.seen += len(x)
            return super().forward(x)

    def objective(model, x, y):
        model(x)
        raise ZeroDivisionError

    model = Counts()
    model.eval()
    with pytest.raises(ZeroDivisionError):
        fit(model, DATA, Recipe(epochs=1), objective=objective, progress=False)
    assert float(model.seen) == 0, "the probe of one batch leaves nothing either"


# --- Models whose state_dict is not all that they hold --------------------------------------------


class Adapted(nn.Module):
    """Adapters beside frozen weights, which the state leaves out, as PEFT's do."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(36, 4).requires_grad_(False)
        self.low, self.high = nn.Linear(36, 2, bias=False), nn.Linear(2, 4, bias=False)
        self._register_state_dict_hook(
            lambda module, state, prefix, _: {
                name: value for name, value in state.items() if "base" not in name
            }
        )

    def forward(self, x):
        return self.base(x.flatten(1)) + self.high(self.low(x.flatten(1)))


class Prefixed(SoftmaxRegression):
    """A state_dict of its own, which load_state_dict does not take back."""

    def __init__(self):
        super().__init__(36, 4)

    def state_dict(self, *args, **options):
        return {f"net/{name}": value for name, value in super().state_dict().items()}


class Remembers(nn.Module):
    """A buffer that is replaced at each step; how, a subclass says."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(36, 4)
        self.register_buffer("bank", self.start())

    def start(self):
        return torch.zeros(0, 36)

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.remember(x.detach())
        return self.inner(x)

    def remember(self, x):
        self.bank = torch.cat([self.bank, x[:1]])


class RemembersLate(Remembers):
    def start(self):
        return None

    def remember(self, x):
        self.bank = x[:1] if self.bank is None else torch.cat([self.bank, x[:1]])


class ResizesInPlace(Remembers):
    def remember(self, x):
        self.bank.data = torch.cat([self.bank, x[:1]])


class OutsideTheState(Remembers):
    def __init__(self):
        super().__init__()
        self._non_persistent_buffers_set.add("bank")


class Registers(Remembers):
    """A buffer that is there from the first step in training on."""

    def __init__(self):
        super().__init__()
        del self.bank

    def remember(self, x):
        if not hasattr(self, "bank"):
            self.register_buffer("bank", self.start())
        super().remember(x)


class Expanded(SoftmaxRegression):
    """A buffer whose entries share memory, which cannot be copied into."""

    def __init__(self):
        super().__init__(36, 4)
        self.register_buffer("bank", torch.zeros(1).expand(4))


class Extra(Remembers):
    """An extra state, which changes at each step; its form is an argument."""

    form = staticmethod(lambda count: {"count": count})
    count = 0

    def remember(self, x):
        self.count += 1

    def get_extra_state(self):
        return self.form(self.count)

    def set_extra_state(self, state):
        self.count = int(state["count"] if isinstance(state, dict) else state)


class ExtraTensor(Extra):
    form = staticmethod(torch.tensor)


class ExtraBytes(Extra):
    form = staticmethod(lambda count: {"count": count, "more": b"pickled"})


class ExtraOneWay(SoftmaxRegression):
    def __init__(self):
        super().__init__(36, 4)

    def get_extra_state(self):
        return object()


class Refusing(Extra):
    def set_extra_state(self, state):
        raise ZeroDivisionError("not today")


class Tied(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Linear(36, 36), nn.BatchNorm1d(36))
        self.two, self.last = self.one, nn.Linear(36, 4)

    def forward(self, x):
        return self.last(self.two(self.one(x.flatten(1)).relu()))


KEPT = {
    kind.__name__: kind
    for kind in (
        Adapted, Prefixed, Remembers, RemembersLate, ResizesInPlace, OutsideTheState, Registers,
        Expanded, Extra, ExtraTensor, ExtraBytes, ExtraOneWay, Tied,
    )
} | {"TorchScript": lambda: nn.Sequential(torch.jit.script(Remembers()))}  # fmt: skip


def held(model):
    """Return all that a model holds, without its state_dict."""
    tensors = {name: value.detach().clone() for name, value in model.named_parameters()}
    tensors |= {name: value.detach().clone() for name, value in model.named_buffers()}
    return tensors | {"count": torch.tensor(getattr(model, "count", 0))}


def seeded(make):
    torch.manual_seed(0)
    return make()


def score(kept):
    """Return a measure that keeps what the model held; the second epoch is the best."""
    scores = iter([2.0, 1.0, 3.0, 4.0, 5.0])

    def measure(model):
        kept.append(held(model))
        return {"score": next(scores)}

    return measure


@pytest.mark.filterwarnings("ignore:.*jit.script")
@pytest.mark.parametrize("make", KEPT.values(), ids=KEPT.keys())
def test_an_interrupt_gives_all_back_whatever_the_state_dict_holds(make):
    kept, model = [], seeded(make)
    start, parameters = held(model), list(model.parameters())
    recipe = Recipe(epochs=5, batch_size=16)
    hook = interrupt_after(model, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(model, DATA, recipe, progress=False)
    assert equal(held(model), start)
    hook.remove()
    hook = interrupt_after(model, 2 * 4 + 2)
    with pytest.raises(KeyboardInterrupt):
        fit(model, DATA, recipe, measure=score(kept), progress=False)
    hook.remove()
    assert equal(held(model), kept[1])
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    fit(model, DATA, recipe, progress=False)  # it still works


@pytest.mark.filterwarnings("ignore:.*jit.script")
@pytest.mark.parametrize("make", KEPT.values(), ids=KEPT.keys())
def test_the_best_epoch_comes_back_whatever_the_state_dict_holds(make):
    kept, model = [], seeded(make)
    recipe = Recipe(epochs=4, batch_size=16, stop_on="score")
    fit(model, DATA, recipe, measure=score(kept), progress=False)
    assert equal(held(model), kept[1])
    assert not equal(kept[1], kept[3])


# What is outside the state, or is there from the first step on, is in no checkpoint.
RESUMED = KEPT.keys() - {"OutsideTheState", "Registers", "ExtraBytes"}


@pytest.mark.filterwarnings("ignore:.*jit.script")
@pytest.mark.parametrize("kind", sorted(RESUMED))
def test_any_model_is_resumed_bit_for_bit(tmp_path, kind):
    recipe = Recipe(epochs=5, batch_size=16, stop_on="score", patience=2)
    whole, cut = seeded(KEPT[kind]), seeded(KEPT[kind])
    uncut = fit(whole, DATA, recipe, measure=score([]), progress=False)

    file = tmp_path / "run.safetensors"
    hook = interrupt_after(cut, 3 * 4 + 2)
    with pytest.raises(KeyboardInterrupt):
        fit(cut, DATA, recipe, measure=score([]), checkpoint=file, progress=False)
    hook.remove()
    fresh = seeded(KEPT[kind])
    late = iter([4.0, 5.0])
    resumed = fit(
        fresh,
        DATA,
        recipe,
        measure=lambda model: {"score": next(late)},
        checkpoint=file,
        progress=False,
    )
    assert without_seconds(resumed) == without_seconds(uncut)
    assert equal(held(fresh), held(whole))
    again = seeded(KEPT[kind])  # a finished run: the best epoch, out of the file
    fit(again, DATA, recipe, measure=score([]), checkpoint=file, progress=False)
    assert equal(held(again), held(whole))


def test_a_checkpoint_of_an_ordinary_model_is_written_as_before(tmp_path):
    """So an earlier version reads it, and this one reads those of earlier versions."""
    model, file = make_mlp(), tmp_path / "run.safetensors"
    recipe = Recipe(epochs=2, stop_on="loss")
    fit(model, DATA, recipe, checkpoint=file, progress=False)
    tensors = load_file(file)
    for group in ("model.", "best."):
        part = {n.removeprefix(group): v for n, v in tensors.items() if n.startswith(group)}
        assert equal(part, weights(model))
    with safe_open(file, framework="pt") as opened:
        about = json.loads(opened.metadata()["advlearn"])
    assert about.keys() == {"identity", "rows", "stopped_early", "best", "sha256"}


def test_a_buffer_of_another_shape_is_another_model_unless_it_changed_in_training(tmp_path):
    class Constant(Remembers):
        def remember(self, x):
            pass

    class Other(Constant):
        def start(self):
            return torch.zeros(3, 36)

    file = tmp_path / "run.safetensors"
    fit(Constant(), DATA, RECIPE, checkpoint=file, progress=False)
    refuse(r"of another model \(they differ in bank\)", file, model=Other())


def test_an_extra_state_that_no_checkpoint_can_hold_is_told_before_any_work(tmp_path):
    model, file = ExtraBytes(), tmp_path / "run.safetensors"
    words = r"checkpoint cannot hold _extra_state of model.*or leave checkpoint out"
    with pytest.raises(ValueError, match=words):
        fit(model, DATA, RECIPE, checkpoint=file, progress=False)
    assert model.count == 0
    assert not file.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, about: about.update(extra=[1]),
        lambda tensors, about: about.update(extra={"model._extra_state": {"count": "many"}}),
        lambda tensors, about: about.update(reshaped=3),
        lambda tensors, about: about.update(reshaped=[[1]]) or tensors.pop("model.inner.bias"),
    ],
)
def test_a_checkpoint_that_lies_about_what_is_no_tensor_is_refused(tmp_path, change):
    file = tmp_path / "run.safetensors"
    fit(Extra(), DATA, RECIPE, checkpoint=file, progress=False)
    rewrite(file, change)
    model, content = Extra(), file.read_bytes()
    before = held(model)
    with pytest.raises(ValueError, match=r"damaged|of another model"):
        fit(model, DATA, RECIPE, checkpoint=file, progress=False)
    assert equal(held(model), before)
    assert file.read_bytes() == content


@pytest.mark.parametrize("strict", [False, True])
def test_an_extra_state_that_is_not_taken_back_does_not_hide_the_interrupt(strict):
    model = Refusing()
    before = {name: value for name, value in held(model).items() if name != "count"}
    interrupt_after(model, 2)
    with warnings.catch_warnings(record=not strict) as told:
        warnings.simplefilter("error" if strict else "always")
        with pytest.raises(KeyboardInterrupt):
            fit(model, DATA, Recipe(epochs=2, batch_size=16), progress=False)
    after = held(model)
    assert all(after[name].equal(value) for name, value in before.items())
    if not strict:
        assert any("could not be given back: Refusing.set_extra" in str(w.message) for w in told)


def test_the_probe_of_a_single_example_leaves_no_trace():
    """60 examples in batches of 59: one alone is tried before training."""
    model, kept = Remembers(), []
    fit(model, DATA, Recipe(epochs=1, batch_size=59), measure=score(kept), progress=False)
    assert len(kept[0]["bank"]) == 2


# --- Losses that break ----------------------------------------------------------------------------


def broken_at(step, value=float("nan")):
    """Cross-entropy until the given step, counted from 1."""
    calls = [0]

    def objective(model, x, y):
        calls[0] += 1
        return cross_entropy(model(x), y) * (value if calls[0] == step else 1.0)

    return objective


class Masked(nn.Module):
    """The mask of an attention layer holds -inf, whatever it is registered as."""

    def __init__(self, kind):
        super().__init__()
        self.inner = nn.Linear(6, 4)
        mask = torch.full((6, 6), -math.inf).triu(1)
        if kind == "buffer":
            self.register_buffer("mask", mask)
        else:
            self.mask = nn.Parameter(mask, requires_grad=kind == "trained")

    def forward(self, x):
        return self.inner(torch.softmax(x[:, 0, 0][:, None] + self.mask, -1)[:, -1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["buffer", "frozen", "trained"])
def test_what_is_infinite_from_the_start_is_no_divergence(tmp_path, kind, optimizer):
    recipe = Recipe(epochs=2, optimizer=optimizer, stop_on="loss")
    for _ in range(2):  # the second time from the file
        model = Masked(kind)
        options = {"checkpoint": tmp_path / "run.safetensors", "progress": False}
        assert len(fit(model, DATA, recipe, **options).rows) == 2
        assert model.mask.isinf().sum() == 15


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 1)], ids=["was finite", "was infinite"])
def test_a_trained_mask_that_breaks_is_divergence(place, value):
    model = Masked("trained")
    start = model.mask.detach().clone()

    def objective(model, x, y):
        loss = cross_entropy(model(x), y)
        with torch.no_grad():
            model.mask[place] = value
        return loss

    def run():
        fit(model, DATA, Recipe(epochs=1), objective=objective, progress=False)

    if value == start[place]:
        run()
    else:
        with pytest.raises(DivergenceError, match="weights became NaN or infinite in epoch 1"):
            run()
    assert model.mask.isinf().equal(start.isinf())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_broken_loss_says_where_and_what_to_do(value):
    kept = []

    def measure(model):
        kept.append(weights(model))
        return {}

    model = make_mlp()
    model[2].eval()
    modes = [module.training for module in model.modules()]
    words = (
        rf"loss became {value} in epoch 2, step 3 of 4, at lr = 0.1\. "
        r"Lower lr \(try 0.01\), or set max_norm.*weights of the last whole epoch"
    )
    with pytest.raises(DivergenceError, match=words):
        fit(
            model,
            DATA,
            Recipe(epochs=3, batch_size=16),
            objective=broken_at(4 + 3, value),
            measure=measure,
            progress=False,
        )
    assert len(kept) == 1
    assert equal(weights(model), kept[0])
    assert [module.training for module in model.modules()] == modes


def test_divergence_in_the_first_epoch_leaves_the_start():
    model = plain_mlp(dtype=torch.float32)
    before = weights(model)
    recipe = Recipe(epochs=3, batch_size=5, lr=1e30)
    with pytest.raises(DivergenceError, match=r"epoch 1, step \d of 12, at lr = 1e\+30"):
        fit(model, DATA, recipe, progress=False)
    assert equal(weights(model), before)


def test_weights_that_break_in_the_last_step_are_found_in_that_epoch(tmp_path):
    """The loss is finite (0), its gradient is not: the root of 0 has none."""
    model = SoftmaxRegression(36, 4)
    with pytest.raises(DivergenceError, match="epoch 1"):
        fit(
            model,
            DATA,
            Recipe(epochs=1, batch_size=60),
            objective=lambda m, x, y: m(x).square().sum(1).sqrt(),
            checkpoint=tmp_path / "run.safetensors",
            progress=False,
        )
    assert model.linear.weight.isfinite().all()
    assert not (tmp_path / "run.safetensors").exists()


def test_an_objective_that_raises_gives_the_model_back():
    model = make_mlp()
    before = weights(model)

    def objective(model, x, y):
        model(x)  # batch statistics move
        raise ZeroDivisionError

    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        fit(model, DATA, Recipe(epochs=1), objective=objective, progress=False)
    assert equal(weights(model), before)
    assert model.training
    assert torch.get_rng_state().equal(state)


# --- Bad arguments --------------------------------------------------------------------------------


class Watched(nn.Module):
    """Notes a forward pass in training mode: then the work has begun."""

    def __init__(self):
        super().__init__()
        self.inner, self.begun = SoftmaxRegression(36, 4), False

    def forward(self, x):
        self.begun |= self.training
        return self.inner(x)


BAD = [
    ("label 4", {"data": (X, Y + 1)}, ValueError, "data.y holds the label 4.*0 to 3"),
    ("label -1", {"data": (X, Y - 1)}, ValueError, "data.y holds the label -1"),
    ("float labels", {"data": (X, Y.float())}, TypeError, "data.y must have dtype torch.int64"),
    ("fewer labels", {"data": (X, Y[:9])}, ValueError, r"data.y must have shape \(60,\)"),
    ("bytes", {"data": ((255 * X).byte(), Y)}, TypeError, "data.x must have a floating dtype"),
    ("NaN", {"data": (X / 0 * 0, Y)}, ValueError, "data.x holds NaN"),
    ("empty", {"data": (X[:0], Y[:0])}, ValueError, "data.x is an empty batch"),
    (
        "no validation",
        {"recipe": Recipe(epochs=1, stop_on="validation_error")},
        ValueError,
        "stop_on = 'validation_error' needs validation data. Pass validation=",
    ),
    (
        "unknown column",
        {"recipe": Recipe(epochs=1, stop_on="val_error"), "validation": (X, Y)},
        ValueError,
        "stop_on = 'val_error' is not measured. There are epoch, loss, validation_error",
    ),
    ("validation label", {"validation": (X, Y + 1)}, ValueError, "holds the label 4"),
    ("validation labels", {"validation": (X, Y.float())}, TypeError, "dtype torch.int64"),
    ("validation empty", {"validation": (X[:0], Y[:0])}, ValueError, "empty batch"),
    (
        "recipe dict",
        {"recipe": {"epochs": 1}},
        TypeError,
        r"recipe must be .*Recipe, got dict \{'epochs': 1\}. Pass Recipe\(\*\*recipe\)",
    ),
    ("recipe number", {"recipe": 3}, TypeError, r"recipe must .* got int 3. Pass Recipe\(epochs="),
    ("recipe class", {"recipe": Recipe}, TypeError, "recipe must be .*Recipe, got type"),
    (
        "checkpoint 5",
        {"checkpoint": 5},
        TypeError,
        "checkpoint must be the path .* got int 5. Pass",
    ),
    ("checkpoint bytes", {"checkpoint": b"a"}, TypeError, "checkpoint must be the path"),
    ("checkpoint true", {"checkpoint": True}, TypeError, "checkpoint must be the path"),
    ("checkpoint folder", {"checkpoint": "."}, ValueError, "checkpoint = '.' is a folder. Pass"),
    ("checkpoint empty", {"checkpoint": ""}, ValueError, "checkpoint = '' is a folder"),
    (
        "checkpoint below a file",
        {"checkpoint": f"{__file__}/run.safetensors"},
        OSError,
        "test_training.py",
    ),
    ("measure 5", {"measure": 5}, TypeError, "measure must be a function of the model.*got int 5"),
    ("measure dict", {"measure": {"e": 1}}, TypeError, "measure must be a function.*got dict"),
    (
        "measure of nothing",
        {"measure": lambda: {}},
        TypeError,
        r"measure must take the model alone, got .*lambda.*\(\).*Pass functools.partial",
    ),
    (
        "measure of two",
        {"measure": lambda model, data: {}},
        TypeError,
        "measure must take the model alone, .*'data'",
    ),
]


@pytest.mark.parametrize(
    ("change", "error", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
@pytest.mark.parametrize(
    "train", [fit, functools.partial(adversarial_fit, eps=EPS)], ids=["fit", "adversarial_fit"]
)
def test_bad_arguments_are_named_before_the_first_step(train, change, error, words):
    model = Watched().train()
    arguments = {"data": DATA, "recipe": Recipe(epochs=1)} | change
    with pytest.raises(error, match=words):
        train(model, progress=False, **arguments)
    assert not model.begun


@pytest.mark.parametrize("objective", [5, "cross_entropy", {}])
def test_an_objective_that_is_no_function_is_named_before_the_first_step(objective):
    model = Watched().train()
    with pytest.raises(TypeError, match="objective must be callable"):
        fit(model, DATA, Recipe(epochs=1), objective=objective, progress=False)
    assert not model.begun


WRONG_MEASURES = {
    "nothing": (None, "returned NoneType after epoch 2"),
    "a number": (0.5, "returned float"),
    "a pair": (("error", 0.5), "returned tuple"),
    "a text": ({"error": "low"}, "returned dict .*'low'.*after epoch 2"),
    "none of a name": ({"error": None}, "returned dict .*None"),
    "several numbers": ({"error": torch.ones(2)}, "returned dict"),
    "an array": ({"error": np.ones(2)}, "returned dict"),
    "no names": ({1: 0.5}, "returned dict with the names 1"),
}


@pytest.mark.parametrize("kind", WRONG_MEASURES)
def test_what_measure_returns_wrongly_is_named_and_no_epoch_is_lost(tmp_path, kind):
    returned, words = WRONG_MEASURES[kind]
    kept, file = [], tmp_path / "run.safetensors"

    def measure(model):
        kept.append(weights(model))
        return {"error": 0.5} if len(kept) != 2 else returned

    model, recipe = make_mlp(), Recipe(epochs=3)
    with pytest.raises(TypeError, match=f"measure must return a dict .*{words}.*Mend it"):
        fit(model, DATA, recipe, measure=measure, checkpoint=file, progress=False)
    assert equal(weights(model), kept[1]), "the weights of the epoch that was trained"
    assert model.training
    whole, resumed = make_mlp(), make_mlp(5)
    right = {"measure": lambda model: {"error": 0.5}, "progress": False}
    fit(whole, DATA, recipe, **right)
    assert len(fit(resumed, DATA, recipe, checkpoint=file, **right).rows) == 3
    assert equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("name", ["epoch", "loss", "seconds", "validation_error"])
@pytest.mark.parametrize("late", [False, True])
def test_a_name_that_training_gives_itself_is_not_replaced(tmp_path, name, late):
    kept = []

    def measure(model):
        kept.append(weights(model))
        return {"other": 1.0} | ({name: 5.0} if len(kept) == 1 + late else {})

    model, options = make_mlp(), {"validation": DATA, "checkpoint": tmp_path / "run.safetensors"}
    words = rf"measure returned '{name}' after epoch {1 + late}, .*such as 'measured_{name}'"
    with pytest.raises(ValueError, match=words):
        fit(model, DATA, Recipe(epochs=3), measure=measure, progress=False, **options)
    assert equal(weights(model), kept[-1]), "the weights of the epoch that was trained"
    assert len(kept) == 1 + late
    history = fit(make_mlp(), DATA, Recipe(epochs=3), progress=False, **options)
    assert len(history["loss"]) == 3
    assert max(history["loss"]) < 5


def test_a_name_that_is_not_taken_may_be_used():
    history = fit(
        make_mlp(),
        DATA,
        Recipe(epochs=2, stop_on="best_loss"),
        measure=lambda model: {"best_loss": 1.0, "validation_error": 0.5},
        progress=False,
    )
    assert history["validation_error"] == [0.5, 0.5]


@pytest.mark.parametrize(
    "measure",
    [
        lambda *args: {"a": 1},
        lambda model, data=DATA: {"a": 1},
        functools.partial(lambda model, data: {"a": 1}, data=DATA),
        {SoftmaxRegression: {"a": 1}}.get,
    ],
    ids=["any arguments", "a default", "a partial", "built in"],
)
def test_a_measure_of_any_signature_that_takes_a_model_is_called(measure):
    model = SoftmaxRegression(36, 4)
    if isinstance(getattr(measure, "__self__", None), dict):
        measure = {model: {"a": 1}}.get
    assert fit(model, DATA, Recipe(epochs=1), measure=measure, progress=False)["a"] == [1]


def test_an_unknown_column_of_measure_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"stop_on = 'eror' is not measured.*loss, error, seconds"):
        fit(
            SoftmaxRegression(36, 4),
            DATA,
            Recipe(epochs=3, stop_on="eror"),
            measure=lambda model: {"error": 0.5},
            progress=False,
        )


BAD_ADVERSARIAL = [
    ({"eps": -0.1}, ValueError, "eps must be finite and >= 0, got -0.1"),
    ({"eps": 8}, ValueError, "eps = 8 is more than.*8/255"),
    ({"eps": "0.1"}, TypeError, "eps must be a number"),
    ({"alpha": -0.1}, ValueError, r"alpha must be finite and in \[0, 1\], got -0.1"),
    ({"alpha": 1.1}, ValueError, "alpha must be finite and in"),
    ({"alpha": None}, TypeError, "alpha must be a number"),
    ({"attack": "fgsm"}, TypeError, "attack must be callable"),
    ({"bounds": (1.0, 0.0)}, ValueError, "low < high"),
    ({"bounds": [0.0, 1.0]}, TypeError, "bounds must be Bounds"),
    ({"data": (3 * X, Y)}, ValueError, "data.x has pixels in .* outside bounds"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD_ADVERSARIAL)
def test_bad_adversarial_settings_are_named_before_the_first_step(change, error, words):
    model = Watched().train()
    arguments = {"data": DATA, "recipe": Recipe(epochs=1), "eps": EPS} | change
    with pytest.raises(error, match=words):
        adversarial_fit(model, progress=False, **arguments)
    assert not model.begun


def test_numpys_numbers_are_numbers(tmp_path):
    file = tmp_path / "run.safetensors"
    recipe = Recipe(
        epochs=np.int64(2),
        batch_size=np.int64(7),
        lr=np.float32(0.5),
        lr_final=np.float64(0.25),
        momentum=np.float32(0.5),
        momentum_final=Fraction(3, 4),
        max_norm=np.float16(2.0),
        l1=np.float32(0.001),
        stop_on="loss",
        patience=np.uint8(3),
        seed=np.int64(2**62),
    )
    assert all(type(value) in (int, float, str) for value in recipe.as_dict().values())
    for _ in range(2):  # the second time from the file
        history = adversarial_fit(
            SoftmaxRegression(36, 4),
            DATA,
            recipe,
            eps=np.float32(0.1),
            checkpoint=file,
            progress=False,
        )
        assert len(history.rows) == 2


def test_what_measure_returns_is_kept_as_plain_numbers(tmp_path):
    """A rate, a tensor and NumPy's numbers are all natural to return."""
    history = fit(
        SoftmaxRegression(36, 4),
        DATA,
        Recipe(epochs=2, stop_on="fgsm"),
        measure=lambda model: {
            "fgsm": adversarial_error_rate(model, DATA, EPS),
            "norm": model.linear.weight.detach().norm(),
            "numpy": np.float32(0.5),
        },
        checkpoint=tmp_path / "run.safetensors",
        progress=False,
    )
    assert all(type(value) in (int, float) for row in history.rows for value in row.values())
    assert history["numpy"] == [0.5, 0.5]


def test_the_progress_bar_can_be_had_and_left_out(capsys):
    for progress in (True, False):
        fit(SoftmaxRegression(36, 4), DATA, Recipe(epochs=1), progress=progress)
        assert ("epoch 1/1" in capsys.readouterr().err) == progress


def test_what_training_exports():
    assert issubclass(DivergenceError, ArithmeticError)
    assert Recipe is recipe_module.Recipe
    assert History is recipe_module.History


# --- Precision ------------------------------------------------------------------------------------


class Typed(nn.Module):
    """Note the type of the logits in training and out of it."""

    def __init__(self):
        super().__init__()
        self.inner, self.seen = SoftmaxRegression(36, 4), {True: set(), False: set()}

    def forward(self, x):
        logits = self.inner(x)
        self.seen[self.training].add(logits.dtype)
        return logits


@pytest.mark.parametrize(
    "train", [fit, functools.partial(adversarial_fit, eps=0.02)], ids=["plain", "adversarial"]
)
def test_fast_training_multiplies_in_bfloat16_and_keeps_float32(train):
    learned = {}
    for precision in ("exact", "fast"):
        torch.manual_seed(0)
        model = Typed()
        recipe = Recipe(epochs=30, batch_size=20, lr=0.1, precision=precision)
        history = train(model, DATA, recipe, validation=DATA, progress=False)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert history["loss"][-1] < 0.8 * history["loss"][0]
        kind = torch.bfloat16 if precision == "fast" else torch.float32
        assert model.seen == {True: {kind}, False: {torch.float32}}, "it is measured exactly"
        learned[precision] = weights(model)
    assert not equal(learned["exact"], learned["fast"])
    for name, exact in learned["exact"].items():
        torch.testing.assert_close(learned["fast"][name], exact, rtol=0.2, atol=0.05)


def test_fast_training_is_resumed_bit_for_bit(tmp_path):
    recipe = Recipe(epochs=4, precision="fast", lr=0.3)
    whole, cut = small_maxout(), small_maxout()
    fit(whole, DATA, recipe, progress=False)

    def stop(model):
        if (tmp_path / "cut").exists():
            raise KeyboardInterrupt
        return {}

    file = tmp_path / "cut"  # written after the first epoch
    with pytest.raises(KeyboardInterrupt):
        fit(cut, DATA, recipe, measure=stop, checkpoint=file, progress=False)
    assert not equal(weights(cut), weights(whole))
    resumed = small_maxout(seed=1)
    fit(resumed, DATA, recipe, checkpoint=file, progress=False)
    assert equal(weights(resumed), weights(whole))


# --- Memory format --------------------------------------------------------------------------------


class Strides(nn.Module):
    """Notes how the batches of training and of measuring lie in memory."""

    def __init__(self, colours=3):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(colours, 4, 3), nn.Conv2d(4, 4, 3)
        self.top, self.seen = nn.Linear(16, 4), {True: set(), False: set()}

    def forward(self, x):
        hidden = self.first(x)
        # Not `is_contiguous`: with one channel the input has both layouts, whatever its strides.
        self.seen[self.training].add(hidden.stride(1) == 1)
        return self.top(self.second(hidden.relu()).flatten(1))


COLOURED = (X.repeat(1, 3, 1, 1), Y)


@pytest.mark.parametrize(
    "train",
    [
        fit,
        functools.partial(adversarial_fit, eps=0.02),
        functools.partial(adversarial_fit, eps=0.02, attack=fgsm),
    ],
    ids=["plain", "two-pass", "fgsm"],
)
@pytest.mark.parametrize("colours", [1, 3])
def test_channels_last_trains_the_same_network_up_to_rounding(train, colours):
    trained = {}
    for layout in ("preserve", "channels_last"):
        model = Strides(colours)
        recipe = Recipe(epochs=2, batch_size=20, memory_format=layout)
        train(model, (COLOURED[0][:, :colours], Y), recipe, progress=False)
        assert model.seen[True] == {layout == "channels_last"}
        assert all(p.is_contiguous() for p in model.parameters()), "the weights lie as they lay"
        trained[layout] = weights(model)
    torch.testing.assert_close(trained["channels_last"], trained["preserve"], rtol=1e-4, atol=1e-6)


def test_channels_last_is_resumed_bit_for_bit(tmp_path):
    recipe = Recipe(epochs=3, batch_size=20, optimizer="adam", memory_format="channels_last")
    file, whole, cut = tmp_path / "run", Strides(), Strides()
    fit(whole, COLOURED, recipe, progress=False)

    def stop(model):
        if file.exists():
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        fit(cut, COLOURED, recipe, measure=stop, checkpoint=file, progress=False)
    resumed = Strides()
    fit(resumed, COLOURED, recipe, checkpoint=file, progress=False)
    assert equal(weights(resumed), weights(whole))
    other = Recipe(epochs=3, batch_size=20, optimizer="adam")
    with pytest.raises(ValueError, match="memory_format: 'channels_last' there, None here"):
        fit(Strides(), COLOURED, other, checkpoint=file, progress=False)


def test_channels_last_is_for_images_and_for_models_that_do_not_call_view():
    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.top = nn.Conv2d(3, 4, 3), nn.Linear(64, 4)

        def forward(self, x):
            return self.top(self.first(x).view(len(x), -1))

    recipe = Recipe(epochs=1, memory_format="channels_last")
    with pytest.raises(ValueError, match=r"images \(N, C, H, W\), but data\.x has 2 dimensions"):
        fit(SoftmaxRegression(36, 4), (X.flatten(1), Y), recipe, progress=False)
    with pytest.raises(ValueError, match="Use flatten or reshape in place of view"):
        fit(Viewed(), COLOURED, recipe, progress=False)
    assert len(fit(Viewed(), COLOURED, Recipe(epochs=1), progress=False).rows) == 1
