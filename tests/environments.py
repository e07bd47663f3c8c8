"""Environments with other versions than this one has: of Colab, the lowest, the newest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
_DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, BUILD = _DECLARED["project"], _DECLARED["build-system"]


def normal(name: str) -> str:
    """Return the name of a package as pip normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lowest(bounds: SpecifierSet) -> Version:
    """Return the lowest version that the bounds allow.

    Example:
        >>> lowest(SpecifierSet(">=3.8,<4"))
        <Version('3.8')>
    """
    versions = [Version(one.version) for one in bounds if one.operator in (">=", "==", "~=")]
    if not versions:
        raise ValueError(f"'{bounds}' names no lowest version. Write it as >=1.2.")
    return max(versions)


def declared(extras: Collection[str], python: str, project: dict = PROJECT) -> list[Requirement]:
    """Return what pyproject.toml declares for the extras, on a Python such as "3.10".

    An extra that is this project's own, as in "advlearn[lab]", stands for what is declared there.
    """
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    needs: dict[str, Requirement] = {}
    for need in map(Requirement, texts):
        if need.marker and not need.marker.evaluate({"python_version": python}):
            continue
        inner = [need]
        if need.name == project["name"]:
            inner = declared(need.extras, python, project)
        needs |= {str(one): one for one in inner}
    return list(needs.values())


def interpreter(version: str, variable: str) -> str | None:
    """Find a Python of a version such as "3.10": on the path or, by pyenv, in its folder.

    The environment variable named `variable` is taken instead, where it is set.
    """
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = sorted(map(str, versions.glob(f"{version}.*/bin/python")))
    wanted = os.environ.get(variable)
    for candidate in [wanted] if wanted else [f"python{version}", *installed]:
        try:
            subprocess.run([candidate, "-m", "venv", "--help"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    if wanted:
        raise SystemExit(f"{variable}={wanted} does not run.")
    return None


def version_of(python: str | Path) -> str:
    """Return the version of an interpreter."""
    ask = "import platform; print(platform.python_version())"
    return subprocess.check_output([str(python), "-c", ask], text=True).strip()


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Name the packages of `before` that `after` has in another version, or no longer has."""
    return [
        f"{name} {version} became {after.get(name, 'missing')}"
        for name, version in before.items()
        if after.get(name) != version
    ]


class Environment:
    """A virtual environment in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    def pip(self, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
        """Run pip in the environment and return what it printed; its errors are shown."""
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments]
        around = os.environ | (variables or {})
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=around, check=False)
        if done.returncode:
            raise SystemExit(f"pip {' '.join(arguments[:3])} failed\n{done.stdout}".rstrip())
        return done.stdout

    def borrow(self) -> None:
        """Let the environment use the packages of this one, and what Jupyter's have beside code.

        That are their settings and templates: without them JupyterLab is no part of the server.
        """
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.check_output([str(self.python), "-c", ask], text=True).strip()
        theirs = sysconfig.get_path("purelib")
        (Path(own) / "borrowed.pth").write_text(f"{theirs}\n", encoding="utf-8")
        for place in ("etc/jupyter", "share/jupyter"):
            shutil.copytree(Path(sys.prefix) / place, self.folder / place, dirs_exist_ok=True)

    def build(self, origin: str, wanted: Sequence[str], key: str = "") -> None:
        """Install `wanted`, such as "numpy==2.1", unless that is there already.

        Args:
            origin: the Python from which the environment is made.
            wanted: what pip is asked for.
            key: another key is another environment, though nothing else differs.
        """
        mark = hashlib.sha256(json.dumps([origin, *wanted, key]).encode()).hexdigest()
        stamp = self.folder / ".made-from"
        if stamp.exists():
            made = json.loads(stamp.read_text(encoding="utf-8"))
            if made["from"] == mark:
                self.forget(self.installed().keys() - made["packages"])  # a run that was stopped
                return
        print(f"making {self.folder.name} (several gigabytes)", flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run([origin, "-m", "venv", str(self.folder)], check=True)
        if os.environ.get("TORCH") == "cpu":
            torch = [one for one in wanted if Requirement(one).name in ("torch", "torchvision")]
            self.pip(
                "install", "--quiet", *torch, "--index-url", "https://download.pytorch.org/whl/cpu"
            )
        self.pip("install", "--quiet", *wanted)
        made = {"from": mark, "packages": sorted(self.installed())}
        stamp.write_text(json.dumps(made), encoding="utf-8")

    def installed(self) -> dict[str, str]:
        """Return name -> version of all that is installed."""
        rows = json.loads(self.pip("list", "--format", "json"))
        return {normal(row["name"]): row["version"] for row in rows}

    def forget(self, names: Collection[str]) -> None:
        """Remove what was added to the packages."""
        if names:
            self.pip("uninstall", "--quiet", "--yes", *sorted(names))
