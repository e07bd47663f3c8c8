"""The environment of `make test-hub`: `.venv-hub`, which other users of this machine can run.

It holds JupyterHub and the course as `classroom/install.sh` installs them, and the hub's proxy. If
its Python is this one's version, it borrows the packages that are here: PyTorch is not downloaded
again.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.environments import Environment

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".venv-hub"
PROXY = FOLDER / "node" / "node_modules" / ".bin"


class NotHereError(RuntimeError):
    """The hub cannot be tried on this machine; the message says why."""


def open_to_others(path: Path) -> bool:
    """Tell whether other users reach a file or a folder."""
    path = path.resolve()
    return all(one.stat().st_mode & stat.S_IXOTH for one in path.parents)


def interpreter() -> str:
    """Return a Python that other users can run.

    Raises:
        NotHereError: there is none.
    """
    wanted = os.environ.get("HUB_PYTHON")
    for name in [wanted] if wanted else [sys._base_executable, "/usr/bin/python3", "python3.11"]:
        path = shutil.which(name)
        if path and open_to_others(Path(path)):
            script = "import sys, venv; sys.exit(sys.version_info < (3, 10))"
            if (
                subprocess.run([path, "-c", script], check=False, capture_output=True).returncode
                == 0
            ):
                return path
    raise NotHereError("no Python 3.10 or newer that other users can run; HUB_PYTHON names one")


def check() -> None:
    """Check that a hub can be tried here.

    Raises:
        NotHereError: it cannot.
    """
    if sys.platform != "linux":
        raise NotHereError("a hub is tried on Linux")
    if os.geteuid() != 0:
        raise NotHereError("a hub with several users is tried by the superuser")
    for program in ("npm", "useradd", "chpasswd", "git"):
        if shutil.which(program) is None:
            raise NotHereError(f"{program} is missing")
    if not open_to_others(ROOT):
        raise NotHereError(f"other users do not reach {ROOT}")
    interpreter()


def prepare() -> None:
    """Make the environment, as far as `install.sh` does not."""
    python = interpreter()
    if not (FOLDER / "bin" / "python").exists():
        subprocess.run([python, "-m", "venv", FOLDER], check=True)
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    theirs = subprocess.run([python, "-c", version], capture_output=True, text=True, check=True)
    here = Path(sysconfig.get_path("purelib"))
    if theirs.stdout.strip() == f"{sys.version_info[0]}.{sys.version_info[1]}":
        if open_to_others(here):
            Environment(FOLDER).borrow()
    if not (PROXY / "configurable-http-proxy").exists():
        subprocess.run(
            ["npm", "install", "--silent", "--prefix", FOLDER / "node", "configurable-http-proxy"],
            check=True,
        )


def install(people: Path, shared: Path, socket: Path) -> None:
    """Run `classroom/install.sh` with people, into folders of a test."""
    environment = os.environ | {
        "PYTHON": interpreter(),
        "ADVLEARN_ENV": str(FOLDER),
        "ADVLEARN_CLASS_DIR": str(shared),
        "ADVLEARN_SOCKET": str(socket),
        "ADVLEARN_SERVICES": "no",
        "PATH": f"{PROXY}:{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    script = ROOT / "classroom" / "install.sh"
    done = subprocess.run(
        ["sh", script, people], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{done.stdout[-2000:]}{done.stderr[-4000:]}")
