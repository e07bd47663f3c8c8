"""Models, data and arguments as people bring them: measured rightly, or refused before any work."""

from __future__ import annotations

import argparse
import collections
import random
import threading
import types
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from advlearn import evaluate, fgsm, pgd, square
from advlearn.attacks import Filled, looks_at_each
from advlearn.audit import audit
from advlearn.context import attack_mode
from advlearn.metrics import (
    adversarial_error_rate,
    agreement,
    confidence_on_errors,
    craft,
    error_curve,
    error_rate,
    logits_along,
    predict,
    transfer_matrix,
)
from advlearn.training import Recipe, adversarial_fit, fit

torch.manual_seed(0)
NET = nn.Linear(8, 3).requires_grad_(False)
NET.weight *= 4
NET.bias.copy_(-NET.weight.sum(1) / 2)
X = torch.rand(60, 8)
Y = NET(X).argmax(1)
DATA = (X, Y)

ATTACKS = {
    "fgsm": lambda model, x, y: fgsm(model, x, y, 0.1),
    "pgd": lambda model, x, y: pgd(model, x, y, 0.1, steps=4, random_start=False),
    "pgd, first": lambda model, x, y: pgd(model, x, y, 0.1, steps=4, keep="first", restarts=2),
    "square": lambda model, x, y: square(model, x, y, 0.1, queries=20),
    "craft": lambda model, x, y: craft(model, (x, y), 0.1, batch_size=20),
}
MEASURES = {
    "error_rate": error_rate,
    "fgsm": lambda model, data: adversarial_error_rate(model, data, 0.1),
    "pgd": lambda model, data: adversarial_error_rate(model, data, 0.1, attack=pgd, restarts=2),
    "square": lambda model, data: adversarial_error_rate(
        model, data, 0.1, attack=square, queries=50, generator=torch.Generator().manual_seed(0)
    ),
    "error_curve": lambda model, data: error_curve(model, data, [0, 0.1]).errors[1],
    "evaluate": lambda model, data: evaluate(model, data, 0.1, budget="fast").attacked,
    "audit": lambda model, data: audit(model, data, 0.1, steps=8, restarts=2),
}
each_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
each_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


# --- Tensors that a model gives again -------------------------------------------------------------


def with_one_buffer():
    """A model that writes each answer into the same memory, as captured graphs do."""
    memory = torch.empty(60, 3)

    def model(z):
        with torch.no_grad():
            return torch.mm(z, NET.weight.T, out=memory[: len(z)]).add_(NET.bias)

    return model


@pytest.mark.parametrize("batch_size", [7, 10, 60])
def test_answers_in_one_and_the_same_memory_are_kept_apart(batch_size):
    given = predict(with_one_buffer(), DATA, batch_size=batch_size)
    torch.testing.assert_close(given, NET(X))
    assert error_rate(with_one_buffer(), DATA, batch_size=batch_size).count == 0
    curve = error_curve(NET, DATA, [0.0, 0.1, 0.2], batch_size=batch_size)
    assert [rate.count for rate in curve.errors] == [
        int((NET(fgsm(NET, X, Y, eps)).argmax(1) != Y).sum()) for eps in (0.0, 0.1, 0.2)
    ]
    assert agreement(with_one_buffer(), with_one_buffer(), (X, (Y + 1) % 3)).count == 60


def test_randomness_is_noticed_in_one_and_the_same_memory():
    plain = with_one_buffer()
    noisy = evaluate(lambda z: plain(z).add_(torch.randn(len(z), 3)), DATA, 0.05, budget="fast")
    assert "differently" in noisy.note
    assert "differently" not in evaluate(with_one_buffer(), DATA, 0.05, budget="fast").note


@pytest.mark.parametrize("model", [nn.Identity(), lambda z: z, nn.Flatten()])
def test_a_result_is_never_the_callers_own_tensor(model):
    x = torch.rand(5, 3)
    before = x.clone()
    for _ in range(3):
        predict(model, (x, torch.zeros(5, dtype=torch.int64))).zero_()
    assert x.equal(before)


# --- Images that nobody may change ----------------------------------------------------------------


def through_data(z):
    z.data.clamp_(0, 1)
    return NET(z)


def through_numpy(z):
    array = z.detach().numpy()
    array[array > 1] = 1
    return NET(z)


class ThroughAHelper(nn.Module):
    @staticmethod
    def limit(z):
        np.asarray(z.detach()).clip(0, 1, out=z.detach().numpy())

    def forward(self, z):
        self.limit(z)
        return NET(z)


@pytest.mark.parametrize("model", [through_data, through_numpy, ThroughAHelper()])
def test_a_write_that_is_not_counted_and_comes_late_changes_no_image_of_the_caller(model):
    for _ in range(3):
        error_rate(model, DATA)  # there is nothing to cut off
    moved = fgsm(NET, X, Y, 0.3, bounds=None)
    before = moved.clone()
    assert float((before - before.clamp(0, 1)).abs().max()) > 0.1
    error_rate(model, (moved, Y))
    assert moved.equal(before)


class Energy(nn.Module):
    """Moves along a gradient of its own before it answers, as purification does."""

    def __init__(self):
        super().__init__()
        self.answer, self.energy = nn.Linear(8, 3), nn.Sequential(nn.Linear(8, 1), nn.Softplus())

    def forward(self, x):
        with torch.enable_grad():
            x.requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return self.answer(x - 0.1 * gradient)


@each_attack
def test_a_model_that_differentiates_by_its_input_leaves_no_graph_and_no_flag(attack):
    x = X.clone()
    for _ in range(2):
        moved = attack(Energy(), x, Y)
        assert not moved.requires_grad
        assert moved.grad_fn is None
    assert not x.requires_grad
    assert x.grad is None
    assert not predict(Energy(), (x, Y)).requires_grad


# --- Buffers --------------------------------------------------------------------------------------


class Counts(nn.Module):
    """Counts and averages in eval mode too, and replaces one buffer by another."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 3)
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("last", torch.zeros(1, 8), persistent=False)

    def forward(self, x):
        self.seen += len(x)
        self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        self.last = x.detach()[:2]
        return self.inner(x)


def buffers_of(model):
    return {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers()}


def assert_same_buffers(model, before):
    now = dict(model.named_buffers())
    assert now.keys() == before.keys()
    for name, (buffer, content) in before.items():
        assert now[name] is buffer
        assert buffer.equal(content)


@each_attack
@pytest.mark.parametrize("hidden", [False, True])
def test_buffers_come_back(attack, hidden):
    model = Counts()
    before = buffers_of(model)
    attack((lambda z: model(z)) if hidden else model, X, Y)  # noqa: PLW0108
    assert_same_buffers(model, before)


@each_measure
def test_buffers_come_back_after_a_measure(measure):
    model = Counts()
    before = buffers_of(model)
    measure(model, DATA)
    assert_same_buffers(model, before)


def test_buffers_come_back_after_an_error_and_after_the_last_of_several_borrowers():
    model = Counts()
    before = buffers_of(model)

    def fails(z):
        model(z)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fgsm(fails, X, Y, 0.1)
    assert_same_buffers(model, before)
    with attack_mode(model):
        with attack_mode(model):
            model(X)
        assert int(model.seen) == 60
    assert_same_buffers(model, before)


def test_a_buffer_of_inference_mode_comes_back():
    model = nn.Linear(8, 3)
    with torch.inference_mode():
        model.register_buffer("kept", torch.ones(2))
    before = buffers_of(model)
    fgsm(model, X, Y, 0.1)
    with attack_mode(model), torch.inference_mode():
        model.kept.add_(1)
    assert_same_buffers(model, before)


# --- Modules that are hidden ----------------------------------------------------------------------


class Dropped(nn.Module):
    """Its dropout is a function, and it is called by a method of another name."""

    def encode(self, x):
        return NET(F.dropout(x - 0.5, 0.5, self.training) + 0.5)

    forward = encode


HELD = Dropped().train()
LOCAL = threading.local()
LOCAL.net = HELD
HOLDERS = {
    "argparse.Namespace": argparse.Namespace(net=HELD),
    "SimpleNamespace": types.SimpleNamespace(net=HELD),
    "in a Namespace in it": types.SimpleNamespace(net=argparse.Namespace(encode=HELD.encode)),
    "threading.local": LOCAL,
}
ZOOS = {
    "a long dict": dict.fromkeys(range(1200)) | {"net": HELD},
    "a UserDict": collections.UserDict(net=HELD),
    "a ChainMap": collections.ChainMap({}, {"net": HELD}),
}


@pytest.mark.parametrize("name", [*HOLDERS, *ZOOS])
def test_a_module_is_found_in_what_holds_it(name):
    if name in HOLDERS:
        holder = HOLDERS[name]

        def model(z):
            return holder.net.encode(z)

    else:
        zoo = ZOOS[name]

        def model(z):
            return zoo["net"].encode(z)

    assert error_rate(model, DATA).count == 0
    assert HELD.training


def test_a_lazy_layer_is_refused_in_words():
    model = nn.Sequential(nn.LazyLinear(3))
    for measure in (*MEASURES.values(), lambda model, data: fgsm(model, *data, 0.1)):
        with pytest.raises(ValueError, match=r"lazy layer, a LazyLinear, .* Call model"):
            measure(model, DATA)


# --- Batches of every size ------------------------------------------------------------------------


class Squeezes(nn.Module):
    """`.squeeze()` in place of `.flatten(1)`: right for every batch but one of a single image."""

    def forward(self, x):
        return NET(x.view(len(x), 8, 1, 1).squeeze())


class OfTheBatch(nn.Module):
    """Normalises by the batch's own statistics, which takes two examples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.norm = nn.BatchNorm1d(8, affine=False, track_running_stats=False)

    def forward(self, x):
        return NET(self.norm(x) / 4 + 0.5)


class OfSixty(nn.Module):
    def forward(self, x):
        return NET(x.reshape(60, 8))


@each_measure
@pytest.mark.parametrize("kind", [Squeezes, OfTheBatch, OfSixty])
def test_models_that_do_not_take_every_size_are_measured(measure, kind):
    model = kind()
    with torch.no_grad():
        data = (X, model(X).argmax(1))
    found = measure(model, data)
    if kind is not OfTheBatch and measure is not MEASURES["audit"]:
        wanted = measure(NET, DATA)
        assert abs(found.count - wanted.count) <= 1  # random choices fall otherwise


@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_a_model_that_looks_at_the_batch_loses_nothing_to_a_change_of_company(eps):
    model = OfTheBatch()
    y = model(X).argmax(1)
    y[:5] = (y[:5] + 1) % 3
    bracket = evaluate(model, (X, y), eps)
    assert (bracket.clean.count, bracket.attacked.count) == (5, 5)
    assert "depends on the others in its batch" in bracket.note


def test_a_large_attack_on_a_model_that_looks_at_the_batch_stands_in_the_whole_batch():
    model = OfTheBatch()
    data = (X, model(X).argmax(1))
    bracket = evaluate(model, data, 0.3)
    assert bracket.attacked.count >= adversarial_error_rate(model, data, 0.3).count // 2
    assert bracket.attacked.count > 20


def test_only_what_needs_company_is_filled_up():
    counted = Counted()
    assert Filled(counted, X)(X[:1]).equal(NET(X[:1]))
    assert counted.asked == 1
    assert Filled(Squeezes(), X)(X[:1]).shape == (1, 3)
    torch.testing.assert_close(Filled(OfSixty(), X)(X[:7]), NET(X[:7]))
    assert looks_at_each(Filled(OfSixty(), X), X)
    assert not looks_at_each(OfTheBatch(), X)
    one = X[:1]
    assert Filled(Squeezes(), one)(one).shape == (3,)  # there is no other to fill up with


# --- Outputs that look like probabilities by chance -----------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_sigmoids_are_not_taken_for_probabilities_in_the_middle_of_an_attack(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2), nn.Sigmoid())
    x = torch.rand(200, 8)
    y = ((x - 0.5).square().sum(1) > 0.65).long()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        F.binary_cross_entropy(model(x), F.one_hot(y, 2).float()).backward()
        optimizer.step()
    assert error_rate(model, (x, y)).count < 20
    evaluate(model, (x, y), 0.1, budget="fast")
    audit(model, (x, y), 0.1, steps=8, restarts=2)
    adversarial_error_rate(model, (x, y), 0.1, attack=pgd, restarts=2)


@each_measure
def test_probabilities_are_still_refused(measure):
    with pytest.raises(ValueError, match="looks like probabilities"):
        measure(lambda z: NET(z).softmax(1), DATA)


# --- Random states --------------------------------------------------------------------------------


def states():
    return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()


def draws(z):
    noise = torch.rand(z.shape) + float(np.random.rand()) + random.random()
    return NET(z + 0.01 * noise)


@pytest.mark.parametrize("measure", ["evaluate", "audit"])
@pytest.mark.parametrize(
    "data",
    [DATA, TensorDataset(*DATA), Subset(TensorDataset(*DATA), range(30)), DataLoader(
        TensorDataset(*DATA), 20, shuffle=True
    )],
    ids=["a pair", "TensorDataset", "Subset", "a loader that shuffles"],
)  # fmt: skip
@pytest.mark.parametrize("model", [NET, draws], ids=["plain", "random"])
def test_the_global_random_states_are_left_alone(measure, data, model):
    before = states()
    MEASURES[measure](model, data)
    after = states()
    assert before[0].equal(after[0])
    assert (before[1] == after[1]).all()
    assert before[2] == after[2]


@each_measure
def test_a_dataset_is_read_without_the_global_random_state(measure):
    before = torch.get_rng_state()
    measure(NET, TensorDataset(*DATA))
    pair = torch.get_rng_state()
    torch.set_rng_state(before)
    measure(NET, DATA)
    assert torch.get_rng_state().equal(pair)


# --- Refused before any work ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "measure", [one for name, one in MEASURES.items() if name not in ("error_rate", "error_curve")]
)
@pytest.mark.parametrize("label", [-100, 3])
def test_a_label_without_a_class_in_a_later_batch_is_refused_first(measure, label):
    x = torch.rand(3000, 8)
    y = NET(x).argmax(1)
    y[-1] = label
    asked = []

    def model(z):
        asked.append(len(z))
        return NET(z)

    with pytest.raises(ValueError, match=f"y holds the label {label}, .* 3 logits"):
        measure(model, (x, y))
    assert sum(asked) <= 4


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.asked = 0

    def forward(self, z):
        self.asked += len(z)
        return NET(z)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (nn.Linear(9, 3), "fails on the images, of shape .* Pass a model"),
        (nn.Linear(8, 2), "y holds the label 2, but the model gives 2 logits"),
        ("resnet18", "must be callable"),
    ],
)
def test_another_model_that_does_not_fit_is_refused_first(other, words):
    calls = {
        "evaluate": lambda m: evaluate(m, DATA, 0.1, sources=[other]),
        "audit": lambda m: audit(m, DATA, 0.1, source=other),
        "adversarial_error_rate": lambda m: adversarial_error_rate(m, DATA, 0.1, source=other),
        "transfer_matrix": lambda m: transfer_matrix({"a": m, "b": other}, DATA, 0.1),
    }
    for call in calls.values():
        model = Counted()
        with pytest.raises((TypeError, ValueError), match=words):
            call(model)
        assert model.asked <= 60


BAD = {
    "a curve of one number": (lambda: error_curve(NET, DATA, 0.1), r"eps must be a sequence"),
    "a curve of a text": (lambda: error_curve(NET, DATA, "0.1"), r"eps must be a sequence"),
    "models in a list": (lambda: transfer_matrix([NET, NET], DATA, 0.1), r"models must be a map"),
    "no models": (lambda: transfer_matrix({}, DATA, 0.1), r"got dict without any"),
    "a direction in a list": (
        lambda: logits_along(NET, X[:1], [1.0] * 8, [0, 0.1]),
        r"direction must be a tensor of x's shape, got list",
    ),
    "an attack by name": (
        lambda: adversarial_error_rate(NET, DATA, 0.1, attack="pgd"),
        r"attack must be callable, such as advlearn.pgd, got str 'pgd'",
    ),
    "craft by name": (lambda: craft(NET, DATA, 0.1, attack="pgd"), r"such as advlearn.pgd"),
    "an attack that returns None": (
        lambda: craft(NET, DATA, 0.1, attack=lambda *_: None),
        r"the attack's images must be a tensor",
    ),
    "an attack that returns NumPy": (
        lambda: craft(NET, DATA, 0.1, attack=lambda _, x, *__: x.numpy()),
        r"the attack's images must be a tensor",
    ),
    "no seed for evaluate": (lambda: evaluate(NET, DATA, 0.1, seed=None), r"seed must be a whole"),
    "no seed for audit": (lambda: audit(NET, DATA, 0.1, seed=None), r"seed must be a whole number"),
    "a seed too large": (lambda: audit(NET, DATA, 0.1, seed=2**64), r"seed must be at most"),
}


@pytest.mark.parametrize(("call", "words"), BAD.values(), ids=BAD)
def test_an_argument_of_the_wrong_kind_is_named(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()


def test_numbers_of_every_kind_are_taken():
    for eps in (Fraction(8, 255), np.float32(0.03), torch.tensor(0.03).item(), 0):
        assert evaluate(NET, DATA, eps, budget="fast").eps == pytest.approx(float(eps))
    assert audit(NET, DATA, Fraction(8, 255), steps=8, restarts=2).eps == pytest.approx(8 / 255)
    assert (
        evaluate(NET, DATA, 0.1, seed=np.int64(3)).broken_by
        == evaluate(NET, DATA, 0.1, seed=3).broken_by
    )
    curve = error_curve(NET, DATA, (k / 10 for k in range(3)))
    assert curve == error_curve(NET, DATA, [0, 0.1, 0.2])
    assert curve.errors == error_curve(NET, DATA, torch.tensor([0, 0.1, 0.2])).errors


class Experiment:
    """A callable with an attribute `training` that is no mode."""

    training = {"epochs": 3}  # noqa: RUF012

    def __call__(self, z):
        return NET(z)


@each_measure
def test_an_attribute_called_training_may_be_anything(measure):
    measure(Experiment(), DATA)


# --- Probabilities of a model's own ---------------------------------------------------------------


class OfImages(nn.Module):
    """Its method takes images, as in most people's code; there are as many pixels as classes."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x):
        return self.inner(x)

    def probabilities(self, x):
        return self.forward(x).softmax(1)


class Asserts(nn.Module):
    def forward(self, x):
        return NET(x)

    def probabilities(self, x):
        assert x.shape[1] == 8, "images"
        return x


class Calibrated(nn.Module):
    """Its method takes logits, and has a layer of its own for them."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(3, 3)

    def forward(self, x):
        return NET(x)

    def probabilities(self, logits):
        return self.scale(logits).softmax(1)


def test_a_method_that_takes_images_is_no_word_on_logits():
    three = (torch.rand(50, 3), torch.zeros(50, dtype=torch.int64))
    for call in (confidence_on_errors, lambda m, d: error_curve(m, d, [0, 0.1])):
        with pytest.raises(ValueError, match=r"OfImages\.probabilities does not take logits"):
            call(OfImages(), three)
        with pytest.raises(ValueError, match=r"Asserts\.probabilities does not take logits"):
            call(Asserts(), DATA)
    model = Calibrated()
    with torch.no_grad():
        expected = float(model.probabilities(NET(X)).gather(1, Y[:, None]).double().mean())
    assert confidence_on_errors(model, DATA).on_all == pytest.approx(expected)


# --- Streams --------------------------------------------------------------------------------------


class Once(IterableDataset):
    """What can be read once: a file, a socket, a generator."""

    def __init__(self):
        self.source = zip(X, Y, strict=True)

    def __iter__(self):
        return self.source


class OnceInBatches:
    def __init__(self):
        self.source = zip(X.split(10), Y.split(10), strict=True)

    def __iter__(self):
        return self.source


@pytest.mark.parametrize(
    "stream",
    [
        lambda: DataLoader(Once(), 10),
        Once,
        OnceInBatches,
        lambda: iter(OnceInBatches()),
        lambda: DataLoader(TensorDataset(*DATA), 10),
        lambda: [*OnceInBatches()],
    ],
)
def test_the_batch_that_training_looks_at_first_is_trained_on_too(stream):
    seen = []

    def objective(model, x, y):
        seen.append(x.clone())
        return F.cross_entropy(model(x), y, reduction="none")

    fit(nn.Linear(8, 3), stream(), Recipe(epochs=1), objective=objective, progress=False)
    assert torch.cat(seen).equal(X)


class OfManySizes(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.rand(3, 4 + index, 4), 0


class OfPictures(OfManySizes):
    def __getitem__(self, index):
        from PIL import Image

        return Image.new("RGB", (4, 4)), 0


@pytest.mark.parametrize("data", [OfManySizes(), OfPictures()])
def test_examples_that_make_no_batch_are_refused_with_a_remedy(data):
    with pytest.raises(TypeError, match=r"the examples of data cannot .*Resize.*ToTensor"):
        error_rate(nn.Flatten(), data)


# --- Training -------------------------------------------------------------------------------------


class WithAnotherHead(nn.Module):
    """Gives more than logits in training mode, as Inception and torchvision's segmenters do."""

    def __init__(self, kind):
        super().__init__()
        self.head, self.other, self.kind = nn.Linear(8, 3), nn.Linear(8, 3), kind

    def forward(self, x):
        if not self.training:
            return self.head(x)
        parts = {"out": self.head(x), "aux": self.other(x)}
        return tuple(parts.values()) if self.kind == "tuple" else parts


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_other_heads_in_training_mode_are_refused_in_words_and_trained_by_an_objective(kind):
    words = f"model returns a {kind}.* in training mode.*objective="
    recipe, quiet = Recipe(epochs=1), {"progress": False}
    with pytest.raises(TypeError, match=words):
        fit(WithAnotherHead(kind), DATA, recipe, **quiet)
    with pytest.raises(TypeError, match=words):
        adversarial_fit(WithAnotherHead(kind), DATA, recipe, eps=0.1, **quiet)

    def objective(model, x, y):
        parts = model(x)
        parts = parts if kind == "tuple" else (*parts.values(),)
        return sum(F.cross_entropy(part, y, reduction="none") for part in parts)

    assert len(fit(WithAnotherHead(kind), DATA, recipe, objective=objective, **quiet).rows) == 1
