# ruff: noqa: E501 - a case of a table is one line
"""What is dropped on the page: files of weights and pictures that are not what they claim to be."""

from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from advlearn.data import load_mnist, reference
from advlearn.models import ConvNet, MaxoutNet, RBFNet, SoftmaxRegression
from tests.playground.conftest import floats

pytestmark = pytest.mark.playground

READ = """try {
  build(readSafetensors(bytesOf(given.weights)));
  return "read";
} catch (error) {
  return error.name === "Refusal" ? error.message : `not refused: ${error.stack}`;
}"""


def safetensors(header: object, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def about(architecture="SoftmaxRegression", **options):
    return {"advlearn": json.dumps({"architecture": architecture, "options": options, "about": {}})}


GOOD = {
    "__metadata__": about(),
    "linear.weight": entry([10, 784], 0, 31360),
    "linear.bias": entry([10], 31360, 31400),
}
CONTENT = b"\x00" * 31400
REFUSED = {
    "empty": (b"", "not a safetensors file"),
    "text": (b"hello, I am a text and no weights", "not a safetensors file"),
    "a pickle": (b"\x80\x04\x95" + b"\x00" * 40, "not a safetensors file"),
    "cut": (safetensors(GOOD, CONTENT)[:20_000], "outside the file"),
    "too long": (safetensors(GOOD, CONTENT + b"1234"), "4 bytes that belong to no tensor"),
    "header too long": (struct.pack("<Q", 2**62) + b"{}", "longer than the file"),
    "header of a gigabyte": (struct.pack("<Q", 2**30) + b"{}", "longer than the file"),
    "large header": (safetensors(b"{" + b" " * 1_000_001 + b"}"), "at most 1000000"),
    "no JSON": (safetensors(b"{no"), "cannot be read"),
    "no UTF-8": (safetensors(b'{"\xff\xfe": 1}'), "cannot be read"),
    "deep": (safetensors(b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}"), "cannot be read|is not described"),
    "no metadata": (safetensors({k: v for k, v in GOOD.items() if k != "__metadata__"}, CONTENT), "does not say what network"),
    "metadata is a number": (safetensors(GOOD | {"__metadata__": 3}, CONTENT), "does not say what network"),
    "unknown": (safetensors(GOOD | {"__metadata__": about("Transformer")}, CONTENT), "“Transformer”"),
    "a name of every object": (safetensors(GOOD | {"__metadata__": about("constructor")}, CONTENT), "“constructor”"),
    "three classes": (safetensors(GOOD | {"__metadata__": about(classes=3)}, CONTENT), "classes"),
    "a billion units": (safetensors(GOOD | {"__metadata__": about("MaxoutNet", hidden=[10**9])}, CONTENT), "hidden"),
    "units of text": (safetensors(GOOD | {"__metadata__": about("MaxoutNet", hidden="many")}, CONTENT), "hidden"),
    "negative": (safetensors(GOOD | {"linear.bias": entry([-10], 31360, 31400)}, CONTENT), "no proper shape"),
    "fractions": (safetensors(GOOD | {"linear.bias": entry([2.5, 4], 31360, 31400)}, CONTENT), "no proper shape"),
    "other shape": (safetensors(GOOD | {"linear.weight": entry([784, 10], 0, 31360)}, CONTENT), r"shape \(10, 784\), and has \(784, 10\)"),
    "product": (safetensors(GOOD | {"linear.bias": entry([11], 31360, 31400)}, CONTENT), "another size"),
    "overlap": (safetensors(GOOD | {"linear.bias": entry([10], 31320, 31360)}, CONTENT[:-40]), "overlaps"),
    "outside": (safetensors(GOOD | {"linear.bias": entry([10], 31380, 31420)}, CONTENT), "outside"),
    "backwards": (safetensors(GOOD | {"linear.bias": entry([10], 31400, 31360)}, CONTENT), "outside"),
    "integers": (safetensors(GOOD | {"linear.bias": entry([10], 31360, 31400, "I32")}, CONTENT), "“I32”"),
    "whole numbers": (safetensors(GOOD | {"linear.bias": entry([20], 31360, 31400, "I16")}, CONTENT), "without a step"),
    "one too many": (safetensors(GOOD | {"more": entry([1], 31400, 31404)}, CONTENT + b"0000"), "“more” too many"),
    "__proto__": (safetensors(json.dumps(GOOD)[:-1].encode() + b',"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[31400,31404]}}', CONTENT + b"0000"), "too many"),
    "NaN": (safetensors(GOOD, struct.pack("<f", float("nan")) + CONTENT[4:]), "NaN or infinity"),
    "infinite": (safetensors(GOOD, CONTENT[4:] + struct.pack("<f", float("-inf"))), "NaN or infinity"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_are_refused_in_words(engine, case):
    import re

    content, words = REFUSED[case]
    said = engine.run(READ, weights=content)
    assert re.search(words, said), said
    assert said.endswith(".")


def test_the_good_file_is_read(engine):
    assert engine.run(READ, weights=safetensors(GOOD, CONTENT)) == "read"


def test_a_model_of_another_kind_is_refused(engine):
    content = reference.pack(RBFNet(), "RBFNet", {}, {})
    assert "RBFNet" in engine.run(READ, weights=content)


def test_a_sigmoid_top_is_refused(engine):
    content = reference.pack(
        SoftmaxRegression(top="sigmoid"), "SoftmaxRegression", {"top": "sigmoid"}, {}
    )
    assert "sigmoid" in engine.run(READ, weights=content)


OWN = {
    "half": (SoftmaxRegression, {}, True),
    "maxout without dropout": (
        MaxoutNet,
        {"hidden": [12, 8], "pieces": 3, "hidden_dropout": 0.0},
        False,
    ),
    "one hidden layer": (MaxoutNet, {"hidden": [7], "pieces": 2}, True),
    "one convolution": (ConvNet, {"channels": [5], "dense": 9}, False),
    "three convolutions": (ConvNet, {"channels": [3, 4, 5], "dense": 6, "pixelwise": 3}, False),
}


@pytest.mark.parametrize("case", OWN)
def test_own_networks_of_other_sizes(engine, case):
    """What `advlearn.data.reference.pack` writes is read, and computes what PyTorch computes."""
    kind, options, half = OWN[case]
    torch.manual_seed(0)
    model = kind(**options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    content = reference.pack(model, kind.__name__, options, {}, half=half)
    x = load_mnist("test", source="offline").x[:5]
    body = """
    const model = build(readSafetensors(bytesOf(given.weights)));
    const images = floatsOf(given.x), out = [], gradients = new Float32Array(images.length);
    for (let n = 0; n < 5; n++) {
      const { logits, gradient } = gradientAt(model, images.subarray(784 * n, 784 * (n + 1)), 3);
      out.push([...logits]);
      gradients.set(gradient, 784 * n);
    }
    return [out, textOf(gradients)];"""
    logits, gradients = engine.run(body, weights=content, x=x.numpy())
    again = reference.unpack(content)[0].double()
    pixels = x.double().requires_grad_()
    expected = again(pixels)
    assert torch.allclose(torch.tensor(logits, dtype=torch.float64), expected, rtol=1e-9, atol=1e-9)
    from advlearn.losses import margin_loss

    (gradient,) = torch.autograd.grad(margin_loss(expected, torch.full((5,), 3)).sum(), pixels)
    found = torch.from_numpy(floats(gradients, *x.shape).copy()).double()
    assert torch.allclose(found, gradient, rtol=1e-5, atol=1e-6)


# --- Pictures -------------------------------------------------------------------------------------

TAKE = """try {
  return [...await readPicture(new File([bytesOf(given.content)], given.name))];
} catch (error) {
  return error.name === "Refusal" ? error.message : `not refused: ${error.stack}`;
}"""


@pytest.fixture(scope="module")
def take(engine):
    def read(content: bytes, name="digit.png"):
        return engine.page.evaluate(
            f"async (given) => {{ const {{ bytesOf, readPicture }} = engine; {TAKE} }}",
            {"content": __import__("base64").b64encode(content).decode(), "name": name},
        )

    return read


def encoded(pixels: np.ndarray, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_bomb(side: int) -> bytes:
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 1000))
        + chunk(b"IEND", b"")
    )


def five() -> np.ndarray:
    """A real digit, as a dark one on paper, enlarged and off the centre."""
    data = load_mnist("test", source="offline")
    digit = (255 * data.x[data.y == 5][0, 0]).byte().numpy()
    sheet = np.full((300, 400), 235, np.uint8)
    sheet[20:188, 200:368] -= (np.kron(digit, np.ones((6, 6))) * 0.8).astype(np.uint8)
    return sheet


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_photographed_digit_is_placed_as_mnist_has_it(take, kind):
    pixels = np.array(take(encoded(five(), kind), f"five.{kind}"), float).reshape(28, 28)
    data = load_mnist("test", source="offline")
    original = (255 * data.x[data.y == 5][0, 0]).numpy()
    rows, columns = np.nonzero(pixels > 20)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20, 21)
    centre = (pixels.sum(1) @ np.arange(28), pixels.sum(0) @ np.arange(28)) / pixels.sum()
    assert np.abs(centre - 13.5).max() < 0.6
    assert np.corrcoef(pixels.ravel(), original.ravel())[0, 1] > 0.8


def test_light_on_dark_gives_the_same_as_dark_on_light(take):
    dark = np.array(take(encoded(five())), float)
    light = np.array(take(encoded(255 - five())), float)
    assert np.abs(dark - light).max() <= 2


def test_a_transparent_picture_is_shown_on_white(take):
    ink = (235 - five()).astype(np.uint8)
    layer = np.dstack(
        [np.zeros_like(ink)] * 3 + [np.clip(ink.astype(int) * 1.3, 0, 255).astype(np.uint8)]
    )
    assert np.array(take(encoded(layer))).max() == 255


BAD = {
    "a text": (b"I am no picture", "is no PNG"),
    "nothing": (b"", "is no PNG"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "is no PNG"),
    "a bomb": (png_bomb(60_000), "60000 x 60000 pixels"),
    "larger than 2 ** 31": (png_bomb(2**31 - 1), "pixels"),
    "no pixels": (png_bomb(0), "damaged"),
    "cut in its head": (b"\x89PNG\r\n\x1a\n\x00\x00", "damaged"),
    "damaged": (png_bomb(300)[:60], "damaged"),
    "a JPEG that ends": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "damaged"),
    "a WebP without an image": (b"RIFF\x10\x00\x00\x00WEBPXXXX" + b"\x00" * 20, "damaged"),
    "white paper": (encoded(np.full((50, 60), 255, np.uint8)), "nothing on it"),
    "nearly white paper": (
        encoded(np.tile(np.arange(240, 250, dtype=np.uint8), (50, 6))),
        "nothing on it",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_pictures_that_are_refused_in_words(take, case):
    content, words = BAD[case]
    said = take(content, "\u202eevil\n<b>.png")
    assert isinstance(said, str)
    assert words in said
    assert "\n" not in said
    assert "\u202e" not in said
