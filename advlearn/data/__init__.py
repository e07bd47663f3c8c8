"""Images, model files and photographs: loading, choosing and splitting them.

The loaders can be had from here. They, and PyTorch with them, are loaded at the first use, so that
`advlearn doctor` can look at the files where PyTorch does not load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advlearn.batches import Dataset
    from advlearn.data.download import DownloadError
    from advlearn.data.folders import data_folder
    from advlearn.data.loaders import (
        download_cifar10,
        download_mnist,
        load_cifar10,
        load_image_folder,
        load_mnist,
        split,
        subset_classes,
    )

__all__ = [
    "Dataset",
    "DownloadError",
    "data_folder",
    "download_cifar10",
    "download_mnist",
    "load_cifar10",
    "load_image_folder",
    "load_mnist",
    "split",
    "subset_classes",
]


def __getattr__(name: str) -> object:
    """Load the loaders when one of them is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'advlearn.data' has no attribute {name!r}")
    from advlearn.data import loaders

    return getattr(loaders, name)


def __dir__() -> list[str]:
    return sorted(__all__)
