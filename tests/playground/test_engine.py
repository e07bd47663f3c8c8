# ruff: noqa: E501 - scripts for the browser stand in it as they are
"""The networks and attacks of the page against those of the library, on 1,000 digits each."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from advlearn.attacks import PIXELS, fgsm, gradient_at, pgd
from advlearn.context import attack_mode
from advlearn.data import load_mnist, reference
from advlearn.losses import cross_entropy, margin_loss
from advlearn.playground.packing import as_model
from advlearn.playground.page import NETWORKS, weights
from tests.playground.conftest import floats

pytestmark = pytest.mark.playground
EPS = 0.25
# Forty steps on each of 1,000 digits take some ten minutes for all networks: fewer are a first look.
WALKED = int(os.environ.get("ADVLEARN_PLAYGROUND_DIGITS", "1000"))
SMALL = 1e-6  # of a gradient: below it float32 does not know the sign
SHIPPED = {network.name: network for network in NETWORKS}
each_network = pytest.mark.parametrize("name", SHIPPED)

OPEN = "const model = build(readSafetensors(bytesOf(given.weights)));"
LOGITS = f"""{OPEN}
const images = floatsOf(given.x), out = new Float32Array(given.y.length * 10);
given.y.forEach((_, n) => out.set(model.logits(images.subarray(784 * n, 784 * (n + 1))), 10 * n));
return textOf(out);"""
FGSM = f"""{OPEN}
const images = floatsOf(given.x), out = new Float32Array(images.length);
const bounds = given.clip ? undefined : null;
given.y.forEach((label, n) => {{
  const image = images.subarray(784 * n, 784 * (n + 1));
  out.set(fgsm(model, image, label, given.eps, {{ bounds }}), 784 * n);
}});
return textOf(out);"""
PGD = f"""{OPEN}
const images = floatsOf(given.x), out = new Float32Array(images.length);
given.y.forEach((label, n) => {{
  const image = images.subarray(784 * n, 784 * (n + 1));
  const options = {{ steps: given.steps, randomStart: given.seed !== null, targeted: given.targeted,
    generator: new Generator(given.seed + n) }};
  out.set(finish(pgd(model, image, label, given.eps, options)), 784 * n);
}});
return textOf(out);"""


@pytest.fixture(scope="module")
def digits():
    """1,000 digits that no network was trained on, and their labels."""
    return tuple(load_mnist("test", source="offline"))


def sent(digits, count=None):
    x, y = digits
    return {"x": x[:count].numpy(), "y": y[:count].tolist()}


def rounded(name):
    """The network of the page in PyTorch: the shipped one, its weights rounded."""
    return as_model(weights(SHIPPED[name]))


@each_network
def test_logits(engine, digits, report, name):
    """Within 1e-4 of PyTorch's, with the weights of the page. How far the rounding moves them from
    those of the shipped file is written down."""
    given = sent(digits)
    found = floats(engine.run(LOGITS, weights=weights(SHIPPED[name]), **given), -1, 10)
    expected = rounded(name)(digits[0]).numpy()
    shipped = reference.load(name)(digits[0]).numpy()
    report[f"{name}: logits"] = {
        "from PyTorch, same weights": float(np.abs(found - expected).max()),
        "from PyTorch, shipped weights": float(np.abs(found - shipped).max()),
        "answers that differ from those of the shipped weights": int(
            (found.argmax(1) != shipped.argmax(1)).sum()
        ),
    }
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(expected).max() > 1  # there is something to be compared


def gradient(model, x, y):
    with attack_mode(model):
        return gradient_at(model, x, y, margin_loss)[0]


@each_network
@pytest.mark.parametrize("clip", [True, False])
def test_fgsm(engine, digits, report, name, clip):
    """Every pixel is that of the library, but where the gradient is too small to have a sign."""
    x, y = digits
    bounds = PIXELS if clip else None
    found = floats(
        engine.run(FGSM, weights=weights(SHIPPED[name]), eps=EPS, clip=clip, **sent(digits)),
        *x.shape,
    )
    model = rounded(name)
    expected = fgsm(model, x, y, EPS, bounds=bounds)
    differs = torch.from_numpy(found.copy()) != expected
    size = gradient(model, x, y).abs()
    shipped = fgsm(reference.load(name), x, y, EPS, bounds=bounds)
    report[f"{name}: FGSM, {'clipped' if clip else 'unclipped'}"] = {
        "pixels that differ, same weights": int(differs.sum()),
        "largest gradient there": float(size[differs].max()) if differs.any() else 0.0,
        "pixels that differ, shipped weights": int(
            (torch.from_numpy(found.copy()) != shipped).sum()
        ),
        "pixels": x.numel(),
    }
    assert not (differs & (size >= SMALL)).any()
    assert (expected != x).float().mean() > 0.1


@each_network
def test_pgd(engine, digits, report, name):
    """The loss at the end is the library's within 1 %, and as many digits fall."""
    x, y = (part[:WALKED] for part in digits)
    found = floats(
        engine.run(
            PGD,
            weights=weights(SHIPPED[name]),
            eps=EPS,
            steps=40,
            seed=None,
            targeted=False,
            **sent(digits, WALKED),
        ),
        *x.shape,
    )
    model = rounded(name)
    moved = torch.from_numpy(found.copy())
    assert float((moved - x).abs().max()) < EPS + 1e-6
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    expected = pgd(model, x, y, EPS, steps=40, random_start=False)
    ours, theirs = (cross_entropy(model(images), y).double().mean() for images in (moved, expected))
    fallen = [int((model(images).argmax(1) != y).sum()) for images in (moved, expected)]
    report[f"{name}: PGD"] = {
        "digits": len(y),
        "loss": float(ours),
        "library's": float(theirs),
        "fallen": fallen,
    }
    assert float((ours / theirs - 1).abs()) < 0.01
    assert abs(fallen[0] - fallen[1]) <= 2


@pytest.mark.parametrize("name", ["softmax", "maxout"])
def test_pgd_with_a_random_start_and_a_target(engine, digits, name):
    """Starts differ by their random numbers, so that only means can be compared."""
    x, y = (part[:200] for part in digits)
    target = (y + 1) % 10
    model = rounded(name)
    for targeted, labels in ((False, y), (True, target)):
        given = {"x": x.numpy(), "y": labels.tolist()}
        found = floats(
            engine.run(
                PGD,
                weights=weights(SHIPPED[name]),
                eps=EPS,
                steps=20,
                seed=5,
                targeted=targeted,
                **given,
            ),
            *x.shape,
        )
        expected = pgd(
            model, x, labels, EPS, steps=20, targeted=targeted,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        moved = torch.from_numpy(found.copy())
        ours, theirs = (margin_loss(model(i), labels).double().mean() for i in (moved, expected))
        assert float((ours / theirs - 1).abs()) < 0.02
        hits = [int((model(i).argmax(1) == labels).sum()) for i in (moved, expected)]
        assert abs(hits[0] - hits[1]) <= 4


def test_the_comparison_can_fail(engine, digits):
    """A network with one wrong weight is told from the library's."""
    content = bytearray(weights(SHIPPED["softmax"]))
    middle = 2 * (784 - 406)  # bytes from the end: of the last class, the pixel in the middle
    content[-middle : 2 - middle] = b"\x00\x40"  # 2 in float16
    given = sent(digits, 100)
    found = floats(engine.run(LOGITS, weights=bytes(content), **given), -1, 10)
    assert np.abs(found - rounded("softmax")(digits[0][:100]).numpy()).max() > 1e-2


def test_noise_is_uniform_and_repeats(engine):
    body = """
    const generator = new Generator(given.seed);
    const values = Float64Array.from({ length: 200000 }, () => generator.uniform());
    const mean = values.reduce((a, b) => a + b) / values.length;
    const square = values.reduce((a, b) => a + b * b, 0) / values.length;
    return [mean, square, Math.min(...values.subarray(0, 1000)), values[0], values[1]];"""
    mean, square, low, first, second = engine.run(body, seed=1)
    assert abs(mean - 1 / 2) < 0.003
    assert abs(square - 1 / 3) < 0.003
    assert 0 <= low < 0.01
    assert engine.run(body, seed=1)[3] == first != second
    assert engine.run(body, seed=2)[3] != first


def test_the_walk_is_the_logits_along_the_sign(engine, digits):
    x, y = (part[:1] for part in digits)
    body = f"""{OPEN}
    const walk = finish(logitsAlong(model, floatsOf(given.x), given.y[0], {{ reach: 15, points: 31 }}));
    return [[...walk.eps], walk.logits.map((row) => [...row])];"""
    eps, logits = engine.run(body, weights=weights(SHIPPED["maxout"]), x=x.numpy(), y=y.tolist())
    model = rounded("maxout")
    direction = gradient(model, x, y).sign()
    assert eps[0] == -15
    assert eps[15] == 0
    expected = torch.cat([model(x + step * direction) for step in eps])
    assert torch.allclose(torch.tensor(logits), expected, rtol=1e-4, atol=1e-3)
