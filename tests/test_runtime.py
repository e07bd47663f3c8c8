"""Seeds, the device and the precision."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from advlearn import _bfloat16
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


class Kinds(TorchDispatchMode):
    """Writes down in which kind of number each product was computed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in _bfloat16.PRODUCTS:
            self.seen += [one.dtype for one in args if isinstance(one, torch.Tensor)]
        return func(*args, **(kwargs or {}))


LAYERS = {
    "linear": (lambda: nn.Linear(36, 4), (5, 36)),
    "linear without a bias": (lambda: nn.Linear(36, 4, bias=False), (5, 36)),
    "convolution": (lambda: nn.Conv2d(2, 3, 3), (5, 2, 6, 6)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(2, 3, 3), (5, 2, 6, 6)),
    "convolution of one dimension": (lambda: nn.Conv1d(2, 3, 3), (5, 2, 9)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True), (5, 3, 8)),
}


def products(layer, x):
    """The output and the gradients of a layer."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    with precision("fast"):
        out = layer(x)
        out.float().square().sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("name", LAYERS)
def test_without_hardware_for_bfloat16_products_are_summed_in_float32(monkeypatch, name):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(shape)
    given = {}
    for able in (False, True, None):
        monkeypatch.setattr(_bfloat16, "in_hardware", lambda able=able: able)
        with Kinds() as kinds:
            given[able] = products(layer, x)
        expected = torch.float32 if able is False else torch.bfloat16
        assert kinds.seen
        assert set(kinds.seen) == {expected}
    # The same numbers in the same types, up to one rounding to 8 bits.
    for ours, theirs, undecided in zip(given[False], given[True], given[None], strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2**-6, atol=2**-6 * float(theirs.abs().max()))
        assert torch.equal(theirs, undecided)


@pytest.mark.parametrize("gradients", [torch.no_grad, torch.inference_mode])
def test_without_gradients_and_hardware_too(monkeypatch, gradients):
    monkeypatch.setattr(_bfloat16, "in_hardware", lambda: False)
    for name, (make, shape) in LAYERS.items():
        layer, x = make(), torch.randn(shape)
        with Kinds() as kinds, gradients(), precision("fast"):
            layer(x)
        assert set(kinds.seen) <= {torch.float32}, name


def test_products_of_other_numbers_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(_bfloat16, "in_hardware", lambda: False)
    a = torch.randn(8, 8, dtype=torch.float64)
    with Kinds() as kinds, precision("fast"):
        double = a @ a
    assert torch.equal(double, a @ a)
    assert set(kinds.seen) == {torch.float64}


def test_the_context_is_left_behind_and_begins_with_its_block(monkeypatch):
    monkeypatch.setattr(_bfloat16, "in_hardware", lambda: False)
    waiting = precision("fast")
    assert not torch.is_autocast_enabled("cpu")
    with waiting:
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
    a = torch.randn(4, 4).bfloat16()
    with Kinds() as kinds:
        _ = a @ a
    assert set(kinds.seen) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("says", "able"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": True}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, True),
        ({"architecture": "x86_64"}, False),
        ({"architecture": "aarch64", "bf16": False}, None),
        ({}, None),
    ],
)
def test_what_pytorch_says_of_the_processor_decides(monkeypatch, says, able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: says, raising=False)
    assert _bfloat16.in_hardware.__wrapped__() is able


def test_a_pytorch_that_says_nothing_of_the_processor_decides_nothing(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert _bfloat16.in_hardware.__wrapped__() is None
