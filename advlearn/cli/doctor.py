"""`advlearn doctor` and `advlearn data`: what is on this machine, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from advlearn.cli.console import say

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_JPEG_NAMES = {"cifar10-jpeg", "cifar10-jpeg.tar.gz"}


class Finding(NamedTuple):
    """One line of the doctor's report; "PROBLEM" breaks a lesson, "note" does not."""

    state: str  # "ok", "note" or "PROBLEM"
    subject: str
    detail: str
    remedy: str = ""


def report(findings: list[Finding]) -> None:
    """Print the findings; exit with 1 when one of them is a problem."""
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        say(f"{finding.state:8} {finding.subject:{width}}  {finding.detail}")
        if finding.remedy:
            say(f"{'':8} {'':{width}}  -> {finding.remedy}")
    if problems := sum(finding.state == "PROBLEM" for finding in findings):
        say(f"Problems: {problems}.")
        raise typer.Exit(1)


def examine_packages() -> Iterator[Finding]:
    """Compare the installed packages with the bounds that the installed course carries."""
    import advlearn

    system = f"{platform.system()} {platform.machine()}"
    yield Finding("ok", "Python", f"{platform.python_version()} on {system}")
    again = "Run `pip install -e .` in the course's folder, or `pip install --upgrade advlearn`."
    try:
        known = importlib.metadata.version("advlearn")
        needed, optional = _requirements()
    except importlib.metadata.PackageNotFoundError:
        yield Finding("PROBLEM", "advlearn", "not installed: its needs are not known", again)
    except ModuleNotFoundError:
        yield Finding("PROBLEM", "packaging", "not installed", "Run `pip install packaging`.")
    else:
        if known == advlearn.__version__:
            yield Finding("ok", "advlearn", known)
        else:
            detail = f"{advlearn.__version__} runs, {known} was installed: its needs may be old"
            yield Finding("note", "advlearn", detail, again)
        yield from (_examine_package(one, missing="PROBLEM") for one in needed)
        yield from (_examine_package(one, missing="note") for one in optional)
    yield _examine_widgets()


def _requirements() -> tuple[list[Requirement], list[Requirement]]:
    """Return what the lessons cannot do without, and what the extra `lab` adds.

    Colab and VS Code have a place of their own for notebooks, so the extra is optional.

    Raises:
        PackageNotFoundError: the course is not installed.
        ModuleNotFoundError: `packaging` is not installed.
    """
    from packaging.requirements import Requirement

    every = [Requirement(text) for text in importlib.metadata.requires("advlearn") or []]

    def of(extra: str) -> list[Requirement]:
        return [one for one in every if one.marker is None or one.marker.evaluate({"extra": extra})]

    needed = of("")
    return needed, [one for one in of("lab") if one not in needed]


def _examine_package(need: Requirement, *, missing: str) -> Finding:
    """Compare one package with its bounds; `missing` is the state when it is not there."""
    from packaging.version import InvalidVersion, Version

    wanted = f"{need.name}{need.specifier}"
    try:
        version = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(missing, need.name, "not installed", f"Run `pip install '{wanted}'`.")
    try:
        # A release candidate comes before its release: 2.4.0rc1 is not 2.4.
        enough = need.specifier.contains(Version(version), prereleases=True)
    except (InvalidVersion, TypeError):
        remedy = f"Run `pip install --force-reinstall '{wanted}'`."
        return Finding("PROBLEM", need.name, f"its version {version!r} is not readable", remedy)
    if not enough:
        detail = f"{version} is installed, {need.specifier} is needed"
        return Finding("PROBLEM", need.name, detail, f"Run `pip install --upgrade '{wanted}'`.")
    return Finding("ok", need.name, version)


def _examine_widgets() -> Finding:
    """Look for JupyterLab's half of ipywidgets: without it sliders show as a line of text."""
    remedy = "Run `pip install --force-reinstall jupyterlab_widgets` and reload the browser's page."
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return Finding(
            "PROBLEM", "widgets", "Jupyter is not installed", "Run `pip install jupyterlab`."
        )
    places = [Path(path) / "@jupyter-widgets" for path in jupyter_path("labextensions")]
    if any((place / "jupyterlab-manager" / "package.json").is_file() for place in places):
        return Finding("ok", "widgets", "JupyterLab's extension is installed")
    return Finding("PROBLEM", "widgets", "JupyterLab's extension is not installed", remedy)


def examine_device() -> Iterator[Finding]:
    """Look at the processor and the GPU."""
    import torch

    yield Finding("ok", "processor", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        yield Finding("ok", "GPU", "none; every lesson is made for the processor")
        return
    try:
        torch.ones(1, device="cuda").add_(1)
    except RuntimeError as error:
        detail = f"does not work: {str(error).splitlines()[0]}"
        yield Finding("note", "GPU", detail, "Set CUDA_VISIBLE_DEVICES='' to use the processor.")
        return
    memory = torch.cuda.get_device_properties(0).total_memory
    yield Finding("ok", "GPU", f"{torch.cuda.get_device_name(0)}, {_size(memory)}")


def examine_data(folder: Path, verify: bool) -> Iterator[Finding]:
    """Look at the images under `folder`, by their content too where `verify` says so."""
    from advlearn.data.download import network_forbidden
    from advlearn.data.files import read_offline_digits

    try:
        read_offline_digits()
        yield Finding("ok", "offline digits", "5,000, verified; what the lessons use")
    except (ImportError, OSError, ValueError) as error:
        yield Finding("PROBLEM", "offline digits", str(error), "See data/README.md.")
    if os.environ.get("ADVLEARN_DATA_DIR") and not folder.is_dir():
        remedy = "Make it, or unset ADVLEARN_DATA_DIR."
        yield Finding("note", "ADVLEARN_DATA_DIR", f"{folder} does not exist", remedy)
    mnist = list(_examine_mnist(folder, verify))
    missing = any(finding.detail == "missing" for finding in mnist)
    yield from mnist
    yield from _examine_cifar10(folder, verify)
    network, choice = "may be used", "a download, or the offline digits when it fails"
    if network_forbidden():
        network, choice = "forbidden by ADVLEARN_OFFLINE", "the offline digits"
    yield Finding("ok", "network", network)
    yield Finding("ok", "load_mnist()", f"takes {choice if missing else 'the files'}")


def _examine_mnist(folder: Path, verify: bool) -> Iterator[Finding]:
    from advlearn.data.files import MNIST_SHA256, mnist_path, read_mnist

    remedy = "Lessons do without. For the full MNIST: `advlearn data --fetch mnist`."
    paths = {name: mnist_path(folder / "MNIST" / "raw", name) for name in MNIST_SHA256}
    if not any(paths.values()):
        yield Finding("note", "full MNIST", "missing", remedy)
        return
    for name, path in paths.items():
        if path is None:
            yield Finding("note", name, "missing", remedy)
            continue
        try:
            if verify:
                read_mnist(path.parent, name)
            state = "verified" if verify else "not verified (--verify does)"
            yield Finding("ok", name, f"{_size(path.stat().st_size)}, {state}")
        except (OSError, ValueError) as error:
            yield Finding("PROBLEM", name, str(error))


def _examine_cifar10(folder: Path, verify: bool) -> Iterator[Finding]:
    from advlearn.data.files import read_cifar10

    if (folder / "cifar-10-batches-py").is_dir():
        try:
            if verify:
                read_cifar10(folder, "test")
            state = "verified" if verify else "not verified (--verify does)"
            yield Finding("ok", "CIFAR-10", f"original files, {state}")
        except (OSError, ValueError) as error:
            yield Finding("PROBLEM", "CIFAR-10", str(error))
    elif jpegs := [p for p in folder.glob("cifar10-jpeg*") if p.name in _JPEG_NAMES]:
        yield Finding("ok", "CIFAR-10", f"re-encoded as JPEG: {jpegs[0].name}")
    else:
        yield Finding("note", "CIFAR-10", "not here; no lesson needs it", "See data/README.md.")


def examine_space(folder: Path) -> Iterator[Finding]:
    """Look at disk, memory and the published weights."""
    from advlearn.data.folders import published

    while not folder.is_dir():
        folder = folder.absolute().parent
    free = shutil.disk_usage(folder).free
    remedy = "Free some: the full MNIST needs 70 MB, a lesson's own files a few."
    space = f"{_size(free)} free"
    little = free < 2e8
    yield Finding("note" if little else "ok", "disk", space, remedy if little else "")
    memory = _available_memory()
    if memory is None:
        yield Finding("ok", "memory", "unknown on this system; a lesson takes up to 1.5 GB")
    else:
        remedy = "Close other programs and shut down other notebooks: a lesson takes up to 1.5 GB."
        remedy = remedy if memory < 1.5e9 else ""
        state = "note" if remedy else "ok"
        yield Finding(state, "memory", f"{_size(memory)} available", remedy)
    weights = len(list(published("weights").glob("*.safetensors")))
    if weights:
        yield Finding("ok", "weights", f"{weights} reference models")
    else:
        remedy = "Lessons that load one need the whole repository of the course."
        where = f"no reference models in {published('weights')}"
        yield Finding("note", "weights", where, remedy)


def _available_memory() -> float | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
