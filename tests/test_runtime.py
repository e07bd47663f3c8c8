"""Seeds, the device and the precision."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from advlearn.context import precision
from advlearn.course import session as runtime
from advlearn.course.session import pick_device, seed_everything


def draws():
    return (
        random.random(),
        float(np.random.rand()),
        float(torch.rand(1)),
        torch.randperm(9).tolist(),
    )


@pytest.fixture(autouse=True)
def keep_the_random_states():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


@pytest.mark.parametrize("seed", [0, 7, np.int64(3), 2**32, 2**40 + 1, 2**63 - 1])
def test_a_seed_repeats_every_kind_of_draw(seed):
    seed_everything(seed)
    first = draws()
    seed_everything(seed)
    assert draws() == first
    seed_everything(seed + 1 if seed < 2**63 - 1 else 0)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_outside_a_notebook_a_lesson_only_says_that_it_is_ready(capsys):
    assert runtime.set_up("0.1") == pick_device()
    assert capsys.readouterr().out == "Ready.\n"


def test_the_seed_is_0_when_none_is_given():
    seed_everything()
    first = draws()
    seed_everything(0)
    assert draws() == first


@pytest.mark.parametrize(
    ("seed", "error", "words"),
    [
        (-1, ValueError, "seed must be at least 0, got -1"),
        (1.0, TypeError, "seed must be a whole number, got float 1.0"),
        (True, TypeError, "seed must be a whole number"),
        ("0", TypeError, "seed must be a whole number, got str '0'"),
        (None, TypeError, "seed must be a whole number"),
    ],
)
def test_a_bad_seed_is_named_and_seeds_nothing(seed, error, words):
    before = torch.get_rng_state(), random.getstate()
    with pytest.raises(error, match=words):
        seed_everything(seed)
    assert torch.get_rng_state().equal(before[0])
    assert random.getstate() == before[1]


def present(monkeypatch, *, cuda, mps):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(runtime, "_computes", lambda name: True)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(False, False, "cpu"), (True, False, "cuda"), (False, True, "cpu"), (True, True, "cuda")],
)
def test_the_gpu_is_chosen_when_there_is_one(monkeypatch, cuda, mps, chosen):
    """MPS only on request: it lacks the float64 operations of the exact checks."""
    present(monkeypatch, cuda=cuda, mps=mps)
    assert pick_device() == torch.device(chosen)
    assert pick_device("cpu") == torch.device("cpu")


def test_a_gpu_that_does_not_compute_is_passed_over(monkeypatch):
    """PyTorch sees a GPU that is older than its kernels, and the first sum on it fails."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    real, works = torch.ones, True

    def ones(count, device):
        assert device == "cuda"
        if not works:
            raise RuntimeError("CUDA error: no kernel image is available")
        return real(count)

    monkeypatch.setattr(torch, "ones", ones)
    assert pick_device() == torch.device("cuda")
    works = False
    assert pick_device() == torch.device("cpu")


def test_a_present_device_can_be_insisted_on(monkeypatch):
    present(monkeypatch, cuda=True, mps=True)
    assert pick_device("cuda") == torch.device("cuda")
    assert pick_device("mps") == torch.device("mps")


def test_an_absent_or_unknown_device_is_named(monkeypatch):
    present(monkeypatch, cuda=False, mps=False)
    for name in ("cuda", "mps"):
        with pytest.raises(ValueError, match=f"prefer = '{name}', but there is no such.*Use 'cpu'"):
            pick_device(name)
    with pytest.raises(ValueError, match="prefer must be one of cpu, cuda, mps, got 'tpu'"):
        pick_device("tpu")


def test_exact_products_are_float32_and_fast_ones_bfloat16():
    torch.manual_seed(0)
    a, b = torch.randn(64, 64), torch.randn(64, 64)
    truth = (a.double() @ b.double()).float()
    with precision():
        exact = a @ b
    with precision("fast"):
        fast = a @ b
    assert exact.dtype == torch.float32
    assert fast.dtype == torch.bfloat16
    assert float((exact - truth).abs().max()) < 1e-4
    assert 1e-3 < float((fast.float() - truth).abs().max()) < 1.0
    assert not torch.is_autocast_enabled("cpu")
    with precision("fast", torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")


def test_another_precision_is_named():
    with pytest.raises(ValueError, match="choice must be one of exact, fast, got 'half'"):
        precision("half")
