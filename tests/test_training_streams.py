"""Training on batches as they come: a DataLoader, a list, another dataset of PyTorch."""

from __future__ import annotations

import weakref
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from advlearn.attacks import fgsm
from advlearn.batches import Dataset
from advlearn.models import TwoLogits
from advlearn.training import Recipe, adversarial_fit, fit
from tests.conftest import CutError, cut_after

torch.manual_seed(0)
X, Y = torch.rand(30, 1, 3, 3), torch.arange(30) % 3
DATA = Dataset(X, Y)
RECIPE = Recipe(epochs=3, batch_size=7, lr=0.1)
METHODS = {
    "fit": fit,
    "two-pass": partial(adversarial_fit, eps=0.1),
    "fgsm": partial(adversarial_fit, eps=0.1, attack=fgsm),
}


def make(*more):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 8), *more, nn.ReLU(), nn.Linear(8, 3))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(data, recipe=RECIPE, method=fit, model=None, **options):
    model = make() if model is None else model
    history = method(model, data, recipe, **({"progress": False} | options))
    return weights(model), history


class Examples(IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


class Again:
    """Batches that can be read again, and do not say how many they are."""

    def __iter__(self):
        return iter(DataLoader(DATA, batch_size=7))


FIXED = {
    "loader": lambda: DataLoader(DATA, batch_size=7),
    "list": lambda: list(DataLoader(DATA, batch_size=7)),
    "without a length": Again,
    "loader of an IterableDataset": lambda: DataLoader(Examples(), batch_size=7),
    "IterableDataset": Examples,
    "Hugging Face": lambda: [
        {"pixel_values": x, "labels": y} for x, y in DataLoader(DATA, batch_size=7)
    ],
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_batches_of_the_same_examples_give_the_same_weights_in_any_form(method):
    """And those of a loop by hand."""
    first, history = trained(FIXED["loader"](), method=method)
    assert len(history["loss"]) == 3
    assert history["loss"][-1] < history["loss"][0]
    for form in FIXED.values():
        assert torch.equal(trained(form(), method=method)[0], first)
    again, _ = trained(FIXED["loader"](), method=method, recipe=Recipe(epochs=3, batch_size=2))
    assert torch.equal(again, first)  # a loader's batches are its own


def test_a_loader_trains_as_a_loop_by_hand():
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        for x, y in DataLoader(DATA, batch_size=7):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    torch.testing.assert_close(trained(DataLoader(DATA, batch_size=7))[0], weights(model))


def test_a_loader_is_read_once_for_each_epoch_in_its_own_order_and_size():
    seen = []

    class Spy(TensorDataset):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    trained(DataLoader(Spy(X, Y), batch_size=10, shuffle=True))
    passes = [seen[-90:][30 * k : 30 * k + 30] for k in range(3)]
    assert len(seen) == 10 + 90  # one batch is looked at before
    assert all(sorted(one) == list(range(30)) for one in passes)
    assert passes[0] != passes[1] != list(range(30))


@pytest.mark.parametrize("dataset", [TensorDataset(X, Y), Subset(DATA, range(30))])
def test_a_dataset_of_pytorch_is_mixed_and_cut_by_the_recipe(dataset):
    sizes = []

    def objective(model, x, y):
        sizes.append(len(x))
        return nn.functional.cross_entropy(model(x), y, reduction="none")

    given, _ = trained(dataset, objective=objective)
    assert sizes == [7, 7, 7, 7, 2] * 3
    torch.testing.assert_close(trained(dataset)[0], given)
    assert not torch.equal(trained(DataLoader(DATA, batch_size=7))[0], given)


def test_the_same_seed_gives_the_same_shuffling_and_leaves_the_global_one_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, _ = trained(DataLoader(DATA, batch_size=7, shuffle=True), model=(model := make()))
    del model
    torch.set_rng_state(before)
    second, _ = trained(DataLoader(DATA, batch_size=7, shuffle=True), model=make())
    assert torch.equal(first, second)
    torch.set_rng_state(before)
    built = make()
    state = torch.get_rng_state()
    trained(DataLoader(DATA, batch_size=7, shuffle=True), model=built)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_generator_of_the_loader_is_not_used_up_by_the_first_look():
    def order():
        generator = torch.Generator().manual_seed(3)
        return DataLoader(DATA, batch_size=7, shuffle=True, generator=generator)

    seen = []

    def objective(model, x, y):
        seen.append(x.clone())
        return nn.functional.cross_entropy(model(x), y, reduction="none")

    trained(order(), Recipe(epochs=1), objective=objective)
    for got, (expected, _) in zip(seen, order(), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_run_on_a_shuffling_loader_goes_on_bit_for_bit(tmp_path, stop):
    def loader():
        return DataLoader(DATA, batch_size=7, shuffle=True)

    whole, _ = trained(loader())

    path = tmp_path / "run.safetensors"
    with pytest.raises(CutError):
        trained(loader(), measure=cut_after(stop), checkpoint=path)
    assert torch.equal(trained(loader(), checkpoint=path)[0], whole)
    if stop:
        with pytest.raises(ValueError, match=r"checkpoint .* is of another run.*5 batches"):
            trained(DataLoader(DATA, batch_size=10), checkpoint=path)


def test_nothing_of_the_callers_batches_is_changed():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make()

        def forward(self, x):
            return self.inner(x.sub_(0.5).mul_(2)) if not x.requires_grad else self.inner(x)

    batches = [(x.clone(), y.clone()) for x, y in DataLoader(DATA, batch_size=7)]
    for method in METHODS.values():
        trained(batches, method=method, model=InPlace() if method is fit else make())
    assert torch.equal(torch.cat([x for x, _ in batches]), X)
    assert not any(x.requires_grad or x.grad is not None for x, _ in batches)


def test_one_batch_at_a_time_is_in_memory():
    alive, most = weakref.WeakSet(), 0

    class Stream:
        def __iter__(self):
            nonlocal most
            for k in range(20):
                x = torch.rand(7, 1, 3, 3, generator=torch.Generator().manual_seed(k))
                alive.add(x)
                most = max(most, len(alive))
                yield x, torch.arange(7) % 3

    trained(Stream(), validation=Stream())
    assert most <= 3


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(epochs=2, lr=0.1, lr_final=0.01)])
def test_validation_may_be_a_stream_too(recipe):
    loader = DataLoader(DATA, batch_size=7)
    expected, rows = trained(DATA, recipe, validation=DATA)
    for validation in (loader, list(loader), Subset(DATA, range(30)), TensorDataset(X, Y)):
        got, history = trained(DATA, recipe, validation=validation)
        assert torch.equal(got, expected)
        assert history["validation_error"] == rows["validation_error"]
        assert history["validation_loss"] == pytest.approx(rows["validation_loss"])


def test_the_learning_rate_falls_over_the_steps_of_a_loader_or_over_the_epochs(monkeypatch):
    asked = []
    at = Recipe.at

    def spy(self, progress):
        asked.append(round(progress, 6))
        return at(self, progress)

    monkeypatch.setattr(Recipe, "at", spy)
    recipe = Recipe(epochs=2, lr=0.1, lr_final=0.01)
    trained(DataLoader(DATA, batch_size=10), recipe)
    assert asked == pytest.approx([k / 6 for k in range(6)], abs=1e-5)
    asked.clear()
    trained(Again(), recipe)
    assert asked == [0.0] * 5 + [0.5] * 5


def test_one_pass_of_a_generator_is_enough_for_one_epoch():
    once, _ = trained(DataLoader(DATA, batch_size=7), Recipe(epochs=1))
    stream = (batch for batch in DataLoader(DATA, batch_size=7))
    held_out = iter(list(DataLoader(DATA, batch_size=7)))
    weights, history = trained(stream, Recipe(epochs=1), validation=held_out)
    assert torch.equal(weights, once)
    assert "validation_loss" in history.rows[0]


BAD = [
    ("generator", lambda: iter([(X, Y)]), ValueError, "data is a .*iterator.* but 3 passes"),
    ("empty", lambda: [], ValueError, "data holds no batches"),
    ("images alone", lambda: [X], TypeError, "data must be a Dataset or a pair"),
    ("a bad first batch", lambda: [(X, Y.float())], TypeError, "batch 1 of data: y must have"),
    ("examples", lambda: list(Examples()), TypeError, "batch 1 of data: is a single example"),
    ("a label too many", lambda: [(X, Y + 1)], ValueError, "holds the label 3"),
]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize(("data", "error", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_cannot_be_trained_on_is_refused_before_any_step(method, data, error, words):
    model = make()
    before = weights(model)
    with pytest.raises(error, match=words):
        method(model, data(), RECIPE, progress=False)
    assert torch.equal(weights(model), before)
    if "label" not in words:
        with pytest.raises(error, match=words.replace("data", "validation", 1)):
            method(model, DATA, RECIPE, progress=False, validation=data())


@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        ((X, Y.int()), TypeError, "y must have dtype torch.int64"),
        ((X / 0 * 0, Y), ValueError, "x holds NaN"),
        ((X, Y + 1), ValueError, "y holds the label 3"),
        ((X[:, :, :2], Y), RuntimeError, "mat1 and mat2"),
        (X, TypeError, "must be a pair"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_later_bad_batch_is_named_and_the_model_is_that_of_the_last_epoch(
    method, batch, error, words
):
    model = make()
    before = weights(model)
    with pytest.raises(error, match=f"batch 3 of data: .*{words}"):
        method(model, [(X, Y), (X, Y), batch], RECIPE, progress=False)
    assert torch.equal(weights(model), before)


def test_pixels_outside_are_named_by_adversarial_training():
    with pytest.raises(ValueError, match=r"batch 2 of data: x has pixels in .*outside bounds"):
        trained([(X, Y), (2 * X, Y)], method=METHODS["fgsm"])
    trained([(X, Y), (2 * X, Y)], method=partial(METHODS["fgsm"], bounds=None))


def test_a_last_batch_of_one_is_refused_before_any_step():
    model = make(nn.BatchNorm1d(8))
    before = weights(model)
    for size, drop_last in ((29, False), (29, True)):
        loader = DataLoader(DATA, batch_size=size, drop_last=drop_last)
        if drop_last:
            trained(loader, model=model)
            continue
        with pytest.raises(ValueError, match="batch_size = 29 leaves a batch of one of the 30"):
            trained(loader, model=model)
        assert torch.equal(weights(model), before)
    with pytest.raises(ValueError, match=r"batch 2 of data: .*more than 1 value per channel"):
        trained([(X, Y), (X[:1], Y[:1])], model=make(nn.BatchNorm1d(8)))


class Output:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    "form", [Output, lambda z: {"logits": z}, lambda z: (z, None)], ids=["object", "dict", "tuple"]
)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_models_that_wrap_their_logits_are_trained_as_they_are(method, form):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make()

        def forward(self, x):
            return form(self.inner(x))

    expected, _ = trained(DATA, method=method, validation=DATA)
    assert torch.equal(trained(DATA, method=method, model=Wrapped(), validation=DATA)[0], expected)


def test_one_logit_is_told_the_adapter_which_is_trained():
    data = Dataset(X, Y.clamp(max=1))
    one = nn.Sequential(nn.Flatten(), nn.Linear(9, 1))
    with pytest.raises(ValueError, match=r"one logit.*advlearn.models.TwoLogits\(model\)"):
        fit(one, data, RECIPE, progress=False)
    history = fit(TwoLogits(one), data, RECIPE, progress=False)
    assert history["loss"][-1] < history["loss"][0]


def test_a_bar_counts_the_steps_of_an_epoch(capsys, monkeypatch):
    monkeypatch.setattr("advlearn.batches.SHOWN_AFTER", 0)
    trained(DataLoader(DATA, batch_size=7), progress=True)
    assert "epoch 3/3" in capsys.readouterr().err
    trained(DataLoader(DATA, batch_size=7))
    assert capsys.readouterr().err == ""
