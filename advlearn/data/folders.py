"""Where things lie: the checkout, the images, and what the course publishes."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT = PACKAGE.parent
"""The folder above the package. It is the course's checkout if it holds the lessons."""


def is_checkout(folder: Path) -> bool:
    """Tell whether a folder is a checkout of the course: whether it holds the lessons.

    Example:
        >>> is_checkout(PACKAGE)
        False
    """
    return (folder / "notebooks").is_dir()


def data_folder(data_dir: str | Path | None = None) -> Path:
    """Return the folder where images lie, made or not.

    That is `data_dir` when given, else the environment variable ADVLEARN_DATA_DIR, else `data/` of
    the checkout that holds this package, else `data/` under the current folder.

    Raises:
        TypeError: `data_dir` is not a path.

    Example:
        >>> data_folder("my_data").name
        'my_data'
    """
    if data_dir is not None:
        if not isinstance(data_dir, (str, os.PathLike)) or not str(data_dir):
            raise TypeError(f"data_dir must be a path or None, got {data_dir!r:.60}.")
        return Path(data_dir).expanduser()
    if named := os.environ.get("ADVLEARN_DATA_DIR"):
        return Path(named).expanduser()
    # Notebooks run inside notebooks/; all of a checkout shares one copy of the data.
    return (CHECKOUT if is_checkout(CHECKOUT) else Path.cwd()) / "data"


def published(kind: str) -> Path:
    """Return the folder of what the course publishes: "weights" or "results".

    In a checkout that is `data/KIND`; an installed package carries a copy inside itself.
    """
    if is_checkout(CHECKOUT):
        return CHECKOUT / "data" / kind
    return PACKAGE / "_published" / kind
