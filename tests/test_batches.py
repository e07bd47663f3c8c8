"""Data as people have it: the Dataset's contract, and everything that is read in batches."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
import weakref
from collections import UserDict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from advlearn import batches
from advlearn.attacks import fgsm, pgd
from advlearn.audit import audit
from advlearn.batches import Dataset
from advlearn.evaluation import evaluate
from advlearn.metrics import (
    adversarial_error_rate,
    agreement,
    confidence_on_errors,
    craft,
    error_curve,
    error_rate,
    predict,
    transfer_matrix,
)

torch.manual_seed(0)
X, Y = torch.rand(22, 1, 3, 3), torch.arange(22) % 3
DATA = Dataset(X, Y, classes=("a", "b", "c"))
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).eval()
OTHER = nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).eval()


# --- Dataset --------------------------------------------------------------------------------------


def test_dataset_is_one_of_pytorchs():
    assert isinstance(DATA, torch.utils.data.Dataset)
    assert len(DATA) == DATA.n == 22
    image, label = DATA[3]
    assert image.shape == (1, 3, 3)
    assert label.shape == ()
    assert torch.equal(image, X[3])
    assert int(label) == int(Y[3])
    assert torch.equal(DATA[-1][0], X[-1])
    for index in (np.int64(3), torch.tensor(3), np.array(3)):
        assert torch.equal(DATA[index][0], X[3])
    with pytest.raises(IndexError):
        DATA[22]
    parts = list(DataLoader(DATA, batch_size=8))
    assert [tuple(x.shape) for x, _ in parts] == [(8, 1, 3, 3), (8, 1, 3, 3), (6, 1, 3, 3)]
    assert torch.equal(torch.cat([x for x, _ in parts]), X)
    assert torch.equal(torch.cat([y for _, y in parts]), Y)
    assert tuple(Subset(DATA, range(10))[0][0].shape) == (1, 3, 3)
    for indices in (range(10), torch.arange(10), np.arange(10)):
        (part, _), *_ = DataLoader(Subset(DATA, indices), batch_size=10)
        assert torch.equal(part, X[:10])
    first, rest = random_split(DATA, [5, 17])
    assert (len(first), len(rest)) == (5, 17)
    assert len(ConcatDataset([DATA, DATA])) == len(DATA + DATA) == 44


@pytest.mark.parametrize(
    "index",
    [
        slice(2, 9, 3),
        slice(None),
        [1, 5, -1],
        torch.tensor([1, 5]),
        torch.tensor([1, 0], dtype=torch.uint8),  # positions: PyTorch takes these for a mask
        np.array([4, 4]),
        Y == 1,
        (Y == 1).numpy(),
        (Y == 1).tolist(),
    ],
    ids=str,
)
def test_several_examples_are_a_dataset(index):
    part = DATA[index]
    places = torch.arange(22)[index.long() if getattr(index, "dtype", 0) == torch.uint8 else index]
    assert type(part) is Dataset
    assert part.classes == DATA.classes
    assert torch.equal(part.x, X[places])
    assert torch.equal(part.y, Y[places])


def test_no_positions_are_no_examples():
    assert (len(DATA[[]]), len(DATA[22:]), bool(DATA[[]])) == (0, 0, False)


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        ((0, 1), TypeError, r"got tuple \(0, 1\).*The images are data.x, the labels data.y"),
        ("x", TypeError, "got str 'x'"),
        (None, TypeError, "got NoneType"),
        (True, TypeError, "got bool"),
        (1.0, TypeError, "got float"),
        ([0.5], TypeError, "positions must be whole numbers, got torch.float32"),
        ([True], ValueError, r"mask must have shape \(22,\), one for each example, got \(1,\)"),
        ([[0, 1]], ValueError, r"positions must have shape \(K,\), got \(1, 2\)"),
        ([22], IndexError, "22"),
    ],
    ids=str,
)
def test_an_index_that_means_nothing_is_refused(index, error, words):
    with pytest.raises(error, match=words):
        DATA[index]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_unpacking_gives_all_images_and_all_labels_whatever_their_number(n):
    x, y = DATA[:n]
    assert torch.equal(x, X[:n])
    assert torch.equal(y, Y[:n])
    assert [tuple(part.shape) for part in DATA[:n]] == [(n, 1, 3, 3), (n,)]


def test_a_dataset_cannot_be_changed():
    with pytest.raises(AttributeError):
        DATA.x = X * 2


# --- What is accepted -----------------------------------------------------------------------------


class Stream(IterableDataset):
    """Examples that come one after the other."""

    def __iter__(self):
        return zip(X, Y, strict=True)


class NoLength(torch.utils.data.Dataset):
    """Examples by index, of which nobody knows how many."""

    def __getitem__(self, index):
        return X[index], Y[index]


class Again:
    """Batches that can be read again, without a length."""

    def __iter__(self):
        return iter(loader())


def loader(**options):
    return DataLoader(TensorDataset(X, Y), **({"batch_size": 4} | options))


FORMS = {
    "Dataset": lambda: DATA,
    "pair": lambda: (X, Y),
    "list of two tensors": lambda: [X, Y],
    "DataLoader": loader,
    "DataLoader of a Dataset": lambda: DataLoader(DATA, batch_size=5),
    "list of batches": lambda: list(loader()),
    "two batches": lambda: [(X[:11], Y[:11]), [X[11:], Y[11:]]],
    "two batches, a tuple": lambda: ((X[:11], Y[:11]), (X[11:], Y[11:])),
    "one batch": lambda: [(X, Y)],
    "Datasets": lambda: [DATA[:11], DATA[11:]],
    "generator": lambda: (batch for batch in loader()),
    "map": lambda: map(tuple, loader()),
    "iterable without a length": Again,
    "TensorDataset": lambda: TensorDataset(X, Y),
    "Subset": lambda: Subset(DATA, range(22)),
    "IterableDataset": Stream,
    "loader of an IterableDataset": lambda: DataLoader(Stream(), batch_size=7),
    "Hugging Face": lambda: [{"pixel_values": X, "labels": Y}],
    "one Hugging Face batch": lambda: UserDict(pixel_values=X, labels=Y),
    "batch_sampler": lambda: DataLoader(DATA, batch_sampler=[range(10), range(10, 22)]),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_the_data_gives_the_same(form):
    torch.testing.assert_close(predict(MODEL, form(), batch_size=6), predict(MODEL, DATA))
    assert error_rate(MODEL, form(), batch_size=6) == error_rate(MODEL, DATA)
    assert torch.equal(craft(MODEL, form(), 0.1, batch_size=6), craft(MODEL, DATA, 0.1))
    attacked = adversarial_error_rate(MODEL, form(), 0.1, attack=pgd, random_start=False)
    assert attacked == adversarial_error_rate(MODEL, DATA, 0.1, attack=pgd, random_start=False)
    ours, theirs = (confidence_on_errors(MODEL, d) for d in (form(), DATA))
    assert ours.errors == theirs.errors
    assert ours[:2] == pytest.approx(theirs[:2])
    ours, theirs = (error_curve(MODEL, d, [0, 0.1]) for d in (form(), DATA))
    assert ours.errors == theirs.errors
    assert ours.confidence_on_all == pytest.approx(theirs.confidence_on_all)
    assert agreement(MODEL, OTHER, form()) == agreement(MODEL, OTHER, DATA)
    options = {"steps": 8, "restarts": 2}
    ours, theirs = (audit(MODEL, d, 0.1, **options) for d in (form(), DATA))
    # Batches draw their random starts one after the other; what needs none is the same.
    assert ours["zero gradients"] == theirs["zero gradients"]
    assert ours.signs[0].figures["FGSM"] == theirs.signs[0].figures["FGSM"]


def test_a_pair_in_several_batches_is_audited_attack_by_attack():
    """The random starts are drawn as ever; a stream is attacked batch by batch."""
    outcome = audit(MODEL, DATA, 0.1, steps=8, batch_size=5, seed=3)
    generator = torch.Generator().manual_seed(3)
    for steps in (2, 8):
        options = {"attack": pgd, "steps": steps, "generator": generator, "batch_size": 5}
        crafted = craft(MODEL, DATA, 0.1, **options)
        figure = outcome.signs[1].figures[f"PGD, {steps} steps"]
        assert figure == error_rate(MODEL, (crafted, Y))


def test_a_transfer_matrix_reads_a_loader_once_for_each_model():
    models = {"one": MODEL, "two": OTHER}
    assert transfer_matrix(models, loader(), 0.1) == transfer_matrix(models, DATA, 0.1)
    assert transfer_matrix(models, loader(shuffle=True), 0.1) == transfer_matrix(models, DATA, 0.1)
    with pytest.raises(ValueError, match="generator, which can be read once, but 2 passes"):
        transfer_matrix(models, (batch for batch in loader()), 0.1)


def test_an_audit_reads_a_stream_once_even_where_it_shuffles():
    """Attacks are compared example by example: their places must be the same for all."""
    right = Dataset(X, predict(MODEL, DATA).argmax(1))
    # Seeded: in another order the random starts fall otherwise, and of 22 examples that shows.
    order = torch.Generator().manual_seed(0)
    shuffled = DataLoader(right, batch_size=4, shuffle=True, generator=order)
    for data in (shuffled, iter(list(shuffled))):
        outcome = audit(MODEL, data, 0.05, steps=8, restarts=2, source=MODEL)
        expected = audit(MODEL, right, 0.05, steps=8, restarts=2, source=MODEL)
        for a, b in zip(outcome.signs, expected.signs, strict=True):
            assert a.seen == b.seen
    unclipped = audit(MODEL, shuffled, 0.05, steps=8, restarts=2, bounds=None)
    assert f"PGD, eps {float(X.max() - X.min()):g}" in unclipped.signs[3].figures
    with pytest.raises(ValueError, match="can be read once, but 2 passes"):
        audit(MODEL, iter(list(shuffled)), 0.05, bounds=None)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda: loader(shuffle=True),
        lambda: loader(sampler=WeightedRandomSampler(torch.ones(22), 22)),
    ],
)
def test_results_that_must_fit_the_labels_need_an_order(mixed):
    for measure in (predict, lambda model, data: craft(model, data, 0.1)):
        with pytest.raises(ValueError, match=r"DataLoader that shuffles.*Pass shuffle=False"):
            measure(MODEL, mixed())
    assert error_rate(MODEL, mixed()).total == 22
    assert error_rate(MODEL, loader(shuffle=True)) == error_rate(MODEL, DATA)


def test_a_sampler_that_says_it_shuffles_is_believed():
    sampler = DistributedSampler(DATA, num_replicas=1, rank=0)
    with pytest.raises(ValueError, match="DataLoader that shuffles"):
        predict(MODEL, DataLoader(DATA, 4, sampler=sampler))
    ordered = DistributedSampler(DATA, num_replicas=1, rank=0, shuffle=False)
    torch.testing.assert_close(
        predict(MODEL, DataLoader(DATA, 4, sampler=ordered)), predict(MODEL, DATA)
    )


def test_what_is_no_one_tensor_is_said_so():
    stream = [(X, Y), (torch.rand(3, 1, 4, 4), Y[:3])]

    def model(x):
        return x.flatten(1)[:, :3]

    assert error_rate(model, stream).total == adversarial_error_rate(model, stream, 0.1).total == 25
    with pytest.raises(ValueError, match=r"\(N, 1, 3, 3\), and then of shape \(3, 1, 4, 4\)"):
        craft(model, stream, 0.1)
    with pytest.raises(ValueError, match=r"logits of shape \(N, 9\), and then of shape \(3, 16\)"):
        predict(lambda x: x.flatten(1), stream)


def test_an_attack_that_returns_other_images_is_named():
    for attack in (lambda *a: a[1][:3], lambda *a: a[1].flatten(1), lambda *a: None):
        for data in (DATA, [(X, Y)]):
            with pytest.raises((TypeError, ValueError), match=r"the attack.*images"):
                adversarial_error_rate(MODEL, data, 0.1, attack=attack)


# --- Memory ---------------------------------------------------------------------------------------


def test_a_stream_is_dropped_batch_by_batch_and_a_large_batch_is_cut():
    alive, most, sizes = weakref.WeakSet(), 0, []

    def stream():
        nonlocal most
        for _ in range(20):
            x = torch.rand(50, 9)
            alive.add(x)
            gc.collect()
            most = max(most, len(alive))
            yield x, torch.zeros(50, dtype=torch.int64)

    def model(x):
        sizes.append(len(x))
        return x[:, :3]

    adversarial_error_rate(model, stream(), 0.1, batch_size=20)
    assert most <= 2
    assert set(sizes) == {20, 10}


class Widest(nn.Module):
    """Three classes by the first pixels; notes the most images that it was shown at once."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def forward(self, x):
        self.most = max(self.most, len(x))
        return x.flatten(1)[:, :3]


def coloured(count, side):
    torch.manual_seed(3)
    images = torch.rand(count, 3, side, side)
    return images, images.flatten(1)[:, :3].argmax(1)


MEASURES = {
    "predict": predict,
    "error_rate": error_rate,
    "confidence_on_errors": confidence_on_errors,
    "adversarial_error_rate": partial(adversarial_error_rate, eps=0.1),
    "craft": partial(craft, eps=0.1),
    "error_curve": partial(error_curve, eps=[0.1, 0.2]),
    "agreement": lambda model, data, **size: agreement(model, model, data, **size),
    "transfer_matrix": lambda model, data, **size: transfer_matrix({"a": model}, data, 0.1, **size),
    "evaluate": partial(evaluate, eps=0.1, budget="fast", progress=False),
    "audit": partial(audit, eps=0.1, steps=8, restarts=2),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_fewer_large_images_are_taken_at_a_time(measure):
    """A thousand photographs would not fit into memory; a thousand of CIFAR's images do."""
    images, labels = coloured(12, 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "VALUES", 5 * images[0].numel() + 1)
        for data in ((images, labels), TensorDataset(images, labels)):
            model = Widest()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                measure(model, data)
            assert model.most == 5
        model = Widest()
        measure(model, (images, labels), batch_size=7)
        assert model.most >= 7, "what was asked for is done"


def test_the_batches_that_somebody_made_stay_as_they_are(monkeypatch):
    images, labels = coloured(12, 32)
    monkeypatch.setattr(batches, "VALUES", 5 * images[0].numel())
    model = Widest()
    error_rate(model, DataLoader(TensorDataset(images, labels), batch_size=8))
    assert model.most == 8


def test_of_images_as_large_as_cifars_a_thousand_are_taken_at_a_time():
    images = torch.zeros(1, 3, 32, 32)
    assert batches.batch_of(images) == batches.BATCH == 1000
    assert batches.batch_of(torch.zeros(1, 10)) == 1000
    assert batches.batch_of(torch.zeros(1, 3, 224, 224)) == 21
    assert batches.batch_of(torch.zeros(1, 3, 5000, 5000)) == 1


MEASURED = """
import sys
sys.path.insert(0, sys.argv[1])
from stream import images, linear_model, peak_memory
from advlearn.metrics import confidence_on_errors, error_rate

model = linear_model()
error_rate(model, images(1000, 1000))
before = peak_memory()
confidence_on_errors(model, images(60_000, 1000))
print(peak_memory() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured on Linux")
def test_a_stream_needs_a_few_batches_of_memory_and_not_its_images():
    """Of 188 MB. 80 MB are needed where each batch leaves a small tensor between large ones."""
    benchmarks = Path(__file__).resolve().parent.parent / "benchmarks"
    command = [sys.executable, "-c", MEASURED, str(benchmarks)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 45, done.stdout


def test_a_generator_may_do_what_a_metric_does_not():
    """It runs while a metric does: outside of its `no_grad` and its eval mode."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).train()
    seen = []

    def stream():
        for x, y in loader():
            seen.append((torch.is_grad_enabled(), model.training))
            pixels = x.clone().requires_grad_()
            nn.functional.cross_entropy(model(pixels), y).backward()
            yield x + 0.1 * pixels.grad.sign(), y

    attacked = error_rate(model, stream())
    assert set(seen) == {(True, True)}
    assert attacked == adversarial_error_rate(model, DATA, 0.1, bounds=None)


# --- What is refused ------------------------------------------------------------------------------

REFUSED = [
    ("a tensor", lambda: X, TypeError, r"Dataset or a pair \(x, y\).*got Tensor"),
    ("an array", X.numpy, TypeError, "got ndarray"),
    ("a number", lambda: 3, TypeError, "got int"),
    ("a path", lambda: "data/test", TypeError, "got str"),
    ("a dict", lambda: {"x": X, "y": Y}, TypeError, "got dict"),
    ("three tensors", lambda: (X, Y, Y), TypeError, "got tuple of 3"),
    ("one tensor", lambda: [X], TypeError, "got list of 1"),
    ("arrays", lambda: (X.numpy(), Y.numpy()), TypeError, "x must be a tensor of images"),
    ("labels as an array", lambda: (X, Y.numpy()), TypeError, "y must be a tensor of labels"),
    ("a model", lambda: MODEL.forward, TypeError, "got method"),
    ("nothing", lambda: [], ValueError, "data holds no batches"),
    ("an empty generator", lambda: iter(()), ValueError, "data gave no batches"),
    ("no length", NoLength, TypeError, "dataset of PyTorch, NoLength, without __len__"),
    ("an empty loader", lambda: loader(batch_size=50, drop_last=True), ValueError, "no batches"),
]
BATCH = "batch 3 of data: "
BAD_BATCHES = [
    ("images alone", X, TypeError, BATCH + r"must be a pair \(x, y\).*got Tensor"),
    ("a triple", (X, Y, Y), TypeError, BATCH + "must be.*list of Tensor, Tensor, Tensor|tuple of"),
    ("other keys", {"img": X, "lbl": Y}, TypeError, BATCH + ".*got dict with the keys img, lbl"),
    ("labels of another length", (X, Y[:3]), ValueError, BATCH + r"y must have shape \(22,\)"),
    ("one-hot", (X, torch.eye(3)[Y]), TypeError, BATCH + "y must have dtype torch.int64"),
    ("int32 labels", (X, Y.int()), TypeError, BATCH + "y must have dtype torch.int64"),
    ("bytes", ((255 * X).byte(), Y), TypeError, BATCH + "x must have a floating dtype"),
    ("NaN", (X / 0 * 0, Y), ValueError, BATCH + "x holds NaN"),
    ("empty", (X[:0], Y[:0]), ValueError, BATCH + "x is an empty batch"),
    ("a label too many", (X, Y + 1), ValueError, BATCH + "y holds the label 3"),
    ("other size", (torch.rand(2, 1, 4, 4), Y[:2]), RuntimeError, BATCH + "mat1 and mat2"),
    ("an example", (X[0], 2), TypeError, BATCH + "is a single example.*DataLoader"),
    ("an example of tensors", (X[0], Y[0]), TypeError, BATCH + "is a single example"),
    ("None", None, TypeError, BATCH + "must be a pair.*got NoneType"),
]
MEASURES = {
    "predict": predict,
    "error_rate": error_rate,
    "craft": lambda m, d: craft(m, d, 0.1),
    "adversarial": lambda m, d: adversarial_error_rate(m, d, 0.1),
    "confidence": confidence_on_errors,
    "curve": lambda m, d: error_curve(m, d, [0.1]),
    "agreement": lambda m, d: agreement(m, m, d),
    "transfer": lambda m, d: transfer_matrix({"m": m}, d, 0.1),
    "audit": lambda m, d: audit(m, d, 0.1, steps=8),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize(("data", "error", "words"), [r[1:] for r in REFUSED], ids=lambda v: None)
def test_what_holds_no_batches_is_refused_before_any_work(measure, data, error, words):
    calls = []

    def model(x):
        calls.append(x)
        return MODEL(x)

    with pytest.raises(error, match=words):
        measure(model, data())
    assert not calls


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize(
    ("batch", "error", "words"), [b[1:] for b in BAD_BATCHES], ids=[b[0] for b in BAD_BATCHES]
)
def test_a_bad_batch_is_named_by_its_number(measure, batch, error, words):
    with pytest.raises(error, match=words):
        measure(MODEL, [(X, Y), (X, Y), batch])


def test_pixels_outside_are_named_with_the_batch():
    for measure in (MEASURES["curve"], MEASURES["adversarial"], MEASURES["audit"]):
        with pytest.raises(ValueError, match=r"^batch 2 of data: x has pixels in .*outside bounds"):
            measure(MODEL, [(X, Y), (3 * X, Y)])


def test_an_iterator_that_was_read_is_told_from_an_empty_list():
    stream = iter(list(loader()))
    error_rate(MODEL, stream)
    with pytest.raises(ValueError, match="An iterator that was read already gives no more"):
        error_rate(MODEL, stream)


# --- Progress -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("progress", "shown"), [(None, False), (False, False), (True, True)])
def test_a_bar_is_shown_where_it_is_asked_for(progress, shown, capsys, monkeypatch):
    monkeypatch.setattr(batches, "SHOWN_AFTER", 0)
    fgsm_errors = adversarial_error_rate(MODEL, DATA, 0.1, attack=fgsm, progress=progress)
    assert (" batch" in capsys.readouterr().err) == shown
    assert fgsm_errors == adversarial_error_rate(MODEL, loader(), 0.1, progress=progress)
    assert (" batch" in capsys.readouterr().err) == (progress is not False)


# --- Models of other libraries --------------------------------------------------------------------


class Output:
    def __init__(self, logits):
        self.logits = logits


FORMS_OF_LOGITS = {
    "object": Output,
    "dict": lambda z: {"logits": z, "loss": None},
    "user dict": lambda z: UserDict(logits=z),
    "tuple of one": lambda z: (z,),
    "tuple with hidden states": lambda z: (z, (torch.zeros(len(z), 5),), None),
    "list with features": lambda z: [z, torch.zeros(len(z), 5, 2, 2)],
}


@pytest.mark.parametrize("form", FORMS_OF_LOGITS.values(), ids=FORMS_OF_LOGITS)
def test_models_that_wrap_their_logits_work_as_they_are(form):
    def model(x):
        return form(MODEL(x))

    assert torch.equal(predict(model, DATA), predict(MODEL, DATA))
    for attack in (fgsm, pgd):
        options = {"random_start": False} if attack is pgd else {}
        moved = attack(model, X, Y, 0.1, **options)
        assert torch.equal(moved, attack(MODEL, X, Y, 0.1, **options))
    assert error_curve(model, DATA, [0.1]) == error_curve(MODEL, DATA, [0.1])
    assert str(audit(model, DATA, 0.1, steps=8)) == str(audit(MODEL, DATA, 0.1, steps=8))


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda z: (z, z), r"got a tuple of a torch.float32 tensor of shape \(22, 3\), a torch"),
        (lambda z: (torch.tensor(0.5), z), "a tuple of a torch.float32 tensor of shape"),
        (lambda z: {"out": z}, "got a dict with the keys 'out'"),
        (lambda z: Output(None), "must return a tensor of logits.*got NoneType"),
        (lambda z: None, "got NoneType"),
        (lambda z: (), r"got tuple \(\)"),
        (lambda z: z.detach().numpy(), "got ndarray"),
    ],
)
def test_logits_that_could_be_another_tensor_are_not_guessed(form, words):
    for measure in (predict, lambda model, data: fgsm(model, *data, 0.1)):
        with pytest.raises(TypeError, match=words):
            measure(lambda x: form(MODEL(x)), DATA)


@pytest.mark.parametrize(
    ("count", "sizes"), [(21, [10, 9, 2]), (20, [10, 10]), (1, [1]), (11, [9, 2])]
)
def test_no_example_is_left_alone(count, sizes):
    """A model with `squeeze()` fails on one alone, after all the work."""
    seen = []

    def model(x):
        seen.append(len(x))
        return x[:, :3, None, None].squeeze() if count > 1 else x[:, :3]

    x, y = torch.rand(count, 4), torch.arange(count) % 3
    assert error_rate(model, (x, y), batch_size=10).total == count
    assert seen == sizes
    assert torch.equal(predict(model, (x, y), batch_size=10), x[:, :3])
