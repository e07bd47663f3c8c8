"""Streams of every kind: whose first batch was looked at, each example still comes once."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
)

from advlearn.audit import audit
from advlearn.batches import Batches, Dataset
from advlearn.evaluation import evaluate
from advlearn.metrics import adversarial_error_rate, error_rate, predict
from advlearn.training import Recipe, fit
from tests.conftest import CutError, cut_after

torch.manual_seed(0)
X, Y = torch.rand(30, 6), torch.arange(30) % 3
DATA = Dataset(X, Y)
MODEL, OTHER = nn.Linear(6, 3), nn.Linear(6, 3)


def pieces():
    return list(zip(X.split(7), Y.split(7), strict=True))


class Prefetcher:
    """Is its own iterator and begins anew in `__iter__`, as those of apex and of DALI."""

    def __iter__(self):
        self.left = iter(pieces())
        return self

    def __next__(self):
        return next(self.left)


class Wrapped:
    """Gives one and the same prefetcher each time."""

    def __init__(self):
        self.inner = Prefetcher()

    def __iter__(self):
        return iter(self.inner)


class Once:
    """Makes a generator each time, over what can be read once: a file, a socket, a queue."""

    def __init__(self):
        self.source = iter(pieces())

    def __iter__(self):
        yield from self.source


class OnceInParts(IterableDataset):
    def __init__(self):
        self.source = zip(X, Y, strict=True)

    def __iter__(self):
        yield from self.source


class OnceSampler(Sampler):
    def __init__(self):
        self.places = iter(range(30))

    def __iter__(self):
        yield from self.places


class ByIndex:
    """As a Sequence of Keras: `__len__` and `__getitem__`, which no IndexError ends."""

    def __len__(self):
        return 5

    def __getitem__(self, place):
        return pieces()[place % 5]


class CountsTooMany(ByIndex):
    """Says that it has more than there are: Python itself stops at the IndexError."""

    def __len__(self):
        return 9

    def __getitem__(self, place):
        return pieces()[place]


class Again:
    """Makes a generator each time, over a loader that mixes."""

    def __init__(self, generator=None):
        self.loader = DataLoader(DATA, 7, shuffle=True, generator=generator)

    def __iter__(self):
        yield from self.loader


KINDS = {
    "its own iterator": Prefetcher,
    "one prefetcher": Wrapped,
    "a generator over one": Once,
    "an iterator": lambda: iter(pieces()),
    "a list": pieces,
    "examples, once": OnceInParts,
    "a loader of examples, once": lambda: DataLoader(OnceInParts(), 7),
    "a sampler, once": lambda: DataLoader(DATA, 7, sampler=OnceSampler()),
    "a generator as sampler": lambda: DataLoader(DATA, 7, sampler=iter(range(30))),
    "a generator of batches": lambda: DataLoader(DATA, batch_sampler=iter(range(30) for _ in "1")),
    "a batch sampler of one": lambda: DataLoader(
        DATA, batch_sampler=BatchSampler(OnceSampler(), 7, drop_last=False)
    ),
    "by index": ByIndex,
    "by index, too few": CountsTooMany,
    "a loader": lambda: DataLoader(DATA, 7),
}


def watched(seen):
    def objective(model, x, y):
        seen.append(x.clone())
        return F.cross_entropy(model(x), y, reduction="none")

    return objective


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_every_example_comes_once_after_the_first_batch_was_looked_at(make):
    assert torch.equal(predict(MODEL, make()), predict(MODEL, DATA))
    expected = adversarial_error_rate(MODEL, DATA, 0.05, source=OTHER)
    assert adversarial_error_rate(MODEL, make(), 0.05, source=OTHER) == expected
    options = {"budget": "fast", "sources": [OTHER]}
    bracket = evaluate(MODEL, make(), 0.05, **options)
    assert bracket.clean == evaluate(MODEL, DATA, 0.05, **options).clean
    options = {"steps": 8, "restarts": 2, "source": OTHER}
    outcome = audit(MODEL, make(), 0.05, **options)
    assert outcome.signs[0].figures == audit(MODEL, DATA, 0.05, **options).signs[0].figures
    seen = []
    fit(nn.Linear(6, 3), make(), Recipe(epochs=1), objective=watched(seen), progress=False)
    assert torch.cat(seen).equal(X)
    history = fit(nn.Linear(6, 3), DATA, Recipe(epochs=1), validation=make(), progress=False)
    whole = fit(nn.Linear(6, 3), DATA, Recipe(epochs=1), validation=DATA, progress=False)
    assert history.rows[0].keys() == whole.rows[0].keys()


@pytest.mark.parametrize("kind", ["one prefetcher", "by index", "by index, too few", "a loader"])
def test_what_can_be_read_again_is_read_again(kind):
    seen = []
    recipe = Recipe(epochs=3)
    fit(nn.Linear(6, 3), KINDS[kind](), recipe, objective=watched(seen), progress=False)
    assert torch.cat(seen).equal(X.repeat(3, 1))


def test_what_is_read_once_does_not_give_a_second_epoch():
    model = nn.Linear(6, 3)
    with pytest.raises(ValueError, match="data gave no batches"):
        fit(model, Once(), Recipe(epochs=2), progress=False)
    with pytest.raises(ValueError, match="Prefetcher, which can be read once, but 2 passes"):
        fit(model, Prefetcher(), Recipe(epochs=2), progress=False)


def test_one_iterator_is_not_both_data_and_validation():
    stream = iter(pieces())
    with pytest.raises(ValueError, match="validation is the list_iterator that data is"):
        fit(nn.Linear(6, 3), stream, Recipe(epochs=1), validation=stream, progress=False)


def test_what_ends_by_its_length_alone_does_not_hang():
    assert error_rate(MODEL, ByIndex()) == error_rate(MODEL, DATA)
    assert Batches(ByIndex()).steps == 5
    none = type("None_", (ByIndex,), {"__len__": lambda self: 0})
    with pytest.raises(ValueError, match=r"data holds no batches \(None_ of length 0\)"):
        error_rate(MODEL, none())


def test_an_object_by_index_without_a_length_is_read_up_to_its_end():
    class Parts:
        def __getitem__(self, place):
            return pieces()[place]

    assert error_rate(MODEL, Parts()) == error_rate(MODEL, DATA)


def generator():
    return torch.Generator().manual_seed(3)


MIXED = {
    "a loader": lambda: DataLoader(DATA, 7, shuffle=True, generator=generator()),
    "a sampler": lambda: DataLoader(DATA, 7, sampler=SubsetRandomSampler(range(30), generator())),
    "a batch sampler": lambda: DataLoader(
        DATA, batch_sampler=BatchSampler(RandomSampler(DATA, generator=generator()), 7, False)
    ),
    "a generator over a loader": lambda: Again(generator()),
}


@pytest.mark.parametrize("make", MIXED.values(), ids=MIXED)
def test_an_order_of_ones_own_is_not_used_up_by_the_first_look(make):
    seen = []
    recipe = Recipe(epochs=2)
    fit(nn.Linear(6, 3), make(), recipe, objective=watched(seen), progress=False)
    same = make()
    expected = [x for x, _ in itertools.chain(same, same)]
    assert torch.cat(seen).equal(torch.cat(expected))
    assert not expected[0].equal(expected[5])


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_run_on_a_generator_that_mixes_goes_on_bit_for_bit(tmp_path, stop):
    """The order of each epoch is drawn by the numbers of that epoch, also after a break."""

    def trained(**options):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.3))
        options = {"validation": Again(), "progress": False} | options
        fit(model, Again(), Recipe(epochs=3), **options)
        return model[0].weight.detach()

    path = tmp_path / "run.safetensors"
    with pytest.raises(CutError):
        trained(measure=cut_after(stop), checkpoint=path)
    assert trained(checkpoint=path).equal(trained())


def test_the_first_batch_is_dropped_as_the_others_are():
    alive, most = weakref.WeakSet(), 0

    def stream():
        nonlocal most
        for _ in range(6):
            x = torch.rand(7, 6)
            alive.add(x)
            gc.collect()
            most = max(most, len(alive))
            yield x, torch.arange(7) % 3

    adversarial_error_rate(MODEL, stream(), 0.1, source=OTHER)
    assert most <= 2


def test_the_bar_of_a_pass_that_was_begun_knows_its_length(capsys, monkeypatch):
    monkeypatch.setattr("advlearn.batches.SHOWN_AFTER", 0)
    fit(nn.Linear(6, 3), pieces(), Recipe(epochs=1), progress=True)
    assert "/5 [" in capsys.readouterr().err
    batches = Batches(DATA, 7, progress=True)
    assert len(list(batches.each(lambda x, y: len(y), whole=True))) == 1
    assert "/1 [" in capsys.readouterr().err
