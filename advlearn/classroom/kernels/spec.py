"""The kernelspec: how Jupyter is told of forked kernels."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from advlearn._atomic import write_atomically

NAME = "advlearn-shared"
PROVISIONER = "advlearn-forked"
"""The name of the entry point in pyproject.toml."""


def spec(socket: Path | None = None) -> dict[str, Any]:
    """Return the content of kernel.json.

    The command is that of an ordinary kernel: programs that know no provisioners run it.

    Args:
        socket: of a parent that serves the whole machine; None for one of each server's own.
    """
    from ipykernel.kernelspec import get_kernel_dict

    config = {} if socket is None else {"socket": str(socket)}
    ordinary = get_kernel_dict()
    ordinary["argv"] = [sys.executable, *ordinary["argv"][1:]]
    provisioner = {"provisioner_name": PROVISIONER, "config": config}
    return ordinary | {
        "display_name": "Python 3 (course, shared memory)",
        "metadata": ordinary.get("metadata", {}) | {"kernel_provisioner": provisioner},
    }


def install(kernels: Path, socket: Path | None = None, *, name: str = NAME) -> Path:
    """Write the kernelspec into a folder of kernels, and return its own folder.

    Args:
        kernels: such as /usr/local/share/jupyter/kernels; made when missing.
        socket: as for `spec`.
        name: "python3" gives everybody these kernels, as the lessons ask for that one.

    Raises:
        OSError: this system has no forked kernels, or the folder cannot be written.
    """
    if sys.platform != "linux":
        raise OSError(
            f"forked kernels need Linux (WSL on Windows is one), and this is {sys.platform}. The "
            "ordinary kernel works here: nothing has to be done."
        )
    folder = kernels / name
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "kernel.json", json.dumps(spec(socket), indent=1) + "\n")
    return folder


def remove(kernels: Path, *, name: str = NAME) -> Path:
    """Remove the kernelspec that `install` wrote, and return its folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: what is there is another kernel.
    """
    folder = kernels / name
    try:
        held = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise FileNotFoundError(f"There is no {folder / 'kernel.json'}.") from error
    provisioner = held.get("metadata", {}).get("kernel_provisioner", {}).get("provisioner_name")
    if provisioner != PROVISIONER:
        raise ValueError(f"{folder} is another kernel. It was left as it is.")
    shutil.rmtree(folder)
    return folder
