"""The images that models are trained on and rows are measured on.

Everything is trained on MNIST's training images *without* the 5,000 offline digits. Those are the
validation set: recipes were chosen by them, and lessons can be judged on them. The test images are
used for the published numbers only.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from advlearn.data import Dataset, load_cifar10, load_mnist, subset_classes
from advlearn.reproduce.models.spec import Scale
from advlearn.whitening import Whitening, contrast_normalise

QUICK_DIGITS = 1000  # at most, of a split, in a quick run


@lru_cache(maxsize=8)
def images(kind: str, split: str, scale: Scale) -> Dataset:
    """Return the images of "digits", "3v7" or "cifar", split "train" or "test", cached.

    Raises:
        FileNotFoundError, DownloadError: the full data is not here and cannot be had.
    """
    if kind == "cifar":
        return whitened(scale)[split]
    return as_read(kind, split, scale)


def as_read(kind: str, split: str, scale: Scale) -> Dataset:
    """Return the images of `images` as their files hold them: before the whitening.

    Their bytes are the same everywhere; those of whitened images depend on the processor.

    Raises:
        FileNotFoundError, DownloadError: as for `images`.
    """
    if scale.quick:
        # Also for photographs: a quick run shows that the code runs, and nothing about them.
        digits = load_mnist(split, source="offline")
        digits = digits._replace(x=digits.x[:QUICK_DIGITS], y=digits.y[:QUICK_DIGITS])
    elif kind == "cifar":
        return load_cifar10(split, data_dir=scale.data_dir)
    else:
        # "auto" would fall back on the offline digits, silently another experiment.
        digits = load_mnist(
            split,
            source="files" if _has_mnist(scale) else "download",
            data_dir=scale.data_dir,
            exclude_offline=split == "train",
        )
    return subset_classes(digits, (3, 7)) if kind == "3v7" else digits


def digest(kind: str, scale: Scale) -> str:
    """Return a hash of all images of a kind as they are read, and of their labels.

    Raises:
        FileNotFoundError, DownloadError: as for `images`.

    Example:
        >>> digest("3v7", Scale(quick=True)) == digest("digits", Scale(quick=True))
        False
    """
    content = hashlib.sha256()
    for split in ("train", "test"):
        x, y = as_read(kind, split, scale)
        content.update(f"{split} {tuple(x.shape)} {x.dtype} {y.dtype}\n".encode())
        content.update(x.numpy().tobytes())
        content.update(y.numpy().tobytes())
    return content.hexdigest()


def _has_mnist(scale: Scale) -> bool:
    from advlearn.data import data_folder
    from advlearn.data.files import mnist_names, mnist_path

    raw = data_folder(scale.data_dir) / "MNIST" / "raw"
    return all(mnist_path(raw, name) is not None for name in mnist_names("all"))


@lru_cache(maxsize=1)
def whitened(scale: Scale) -> dict[str, Dataset]:
    """Return contrast-normalised, whitened photographs by split; the whitening is train's alone.

    Raises:
        FileNotFoundError, DownloadError: as for `images`.
    """
    parts = {split: as_read("cifar", split, scale) for split in ("train", "test")}
    flat = {split: contrast_normalise(part.x) for split, part in parts.items()}
    whiten = Whitening(flat["train"])
    return {split: part._replace(x=whiten(flat[split])) for split, part in parts.items()}
