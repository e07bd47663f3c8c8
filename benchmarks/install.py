"""Install the libraries that `run.py` and `bracket.py` compare with, into the folder `.venv-bench`.

They go into a separate folder, and without their dependencies, for four reasons. torchattacks
pins an old `requests` that JupyterLab refuses. cleverhans asks for TensorFlow Probability and for
packages that no longer install, none of which its PyTorch attacks import. adv-lib asks for visdom,
a server of pictures, of which its attacks need the name alone. And the environment of the course
stays as it is. What they do import is listed here; PyTorch, NumPy, SciPy, scikit-learn, six, tqdm
and requests come with the course. `run.py` adds the folder to the end of its search path, so the
course's own versions win.

A library that does not install is reported and left out; the benchmark runs without it.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".venv-bench"

# Each library with what it imports beyond the course's own packages. The versions of the libraries
# are held to one release series: a benchmark of a later release would be another benchmark.
LIBRARIES = {
    "torchattacks": ["torchattacks~=3.5"],
    "foolbox": ["foolbox~=3.3", "eagerpy~=0.30", "GitPython>=3.1", "gitdb>=4", "smmap>=5"],
    # The last two only for its AutoAttack.
    "adversarial-robustness-toolbox": [
        "adversarial-robustness-toolbox~=1.17",
        "multiprocess>=0.70",
        "dill>=0.3",
    ],
    "cleverhans": ["cleverhans~=4.0"],
    "adv-lib": ["adv-lib~=0.2"],
    # The official AutoAttack, for `bracket.py` alone.
    "pyautoattack": ["pyautoattack~=0.2"],
}


def installed(folder: Path = FOLDER) -> set[str]:
    """Name the distributions in the folder."""
    there = distributions(path=[str(folder)]) if folder.is_dir() else []
    return {distribution.metadata["Name"].lower() for distribution in there}


def install(folder: Path = FOLDER) -> list[str]:
    """Install what is missing and return the libraries that could not be installed."""
    failed = []
    for library, needs in LIBRARIES.items():
        if library in installed(folder):
            continue
        print(f"installing {library} into {folder.name}", flush=True)
        # One at a time, so that one that fails does not take the others with it.
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        done = subprocess.run(
            [*command, "--no-deps", "--upgrade", "--target", str(folder), *needs], check=False
        )
        if done.returncode:
            failed.append(library)
    return failed


if __name__ == "__main__":
    for name in install():
        print(f"{name} did not install; the benchmark runs without it")
