"""Take the nbgrader course from release to export: `make test-nbgrader`.

nbgrader goes into `.venv-nbgrader`, an environment that borrows all packages of this one and gets
what else nbgrader asks for. So the environment of the course stays as it is.

    python -m tests.nbgrader.environment             install, and run the tests
    python -m tests.nbgrader.environment --install   install only, as for benchmarks/classroom.py
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.environments import PROJECT, ROOT, Environment

FOLDER = ROOT / ".venv-nbgrader"


def install(folder: Path = FOLDER) -> Environment:
    """Make the environment unless it is there, and return it."""
    wanted = PROJECT["optional-dependencies"]["nbgrader"]
    environment = Environment(folder)
    stamp = folder / ".made-from"
    mark = hashlib.sha256(repr([sys.version, sys.prefix, wanted]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="ascii") == mark:
        return environment
    print(f"installing nbgrader into {folder.name}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    environment.borrow()
    environment.pip("install", "--quiet", *wanted)
    stamp.write_text(mark, encoding="ascii")
    return environment


def main(arguments: Sequence[str]) -> int:
    """Install, and run the tests there."""
    environment = install()
    if "--install" in arguments:
        return 0
    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    command = [str(environment.python), "-m", "pytest", "-q", "-m", "nbgrader", "tests/nbgrader"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--durations=5"], cwd=ROOT, env=os.environ | settings,
        check=False,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
