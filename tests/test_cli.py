"""The command line, run as a learner runs it."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner, Result

import advlearn
from advlearn.cli import app as cli
from advlearn.cli import doctor
from advlearn.data import files as _files
from advlearn.data import folders
from advlearn.reproduce.engine import work

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVLEARN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("ADVLEARN_OFFLINE", "ADVLEARN_MNIST_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def test_version() -> None:
    assert call("--version").output.strip() == f"advlearn {advlearn.__version__}"


def test_help_names_the_commands() -> None:
    text = call("--help").output
    for name in ("class", "data", "doctor", "evaluate", "lab", "progress", "reproduce"):
        assert re.search(rf"\b{name}\b", text)


def test_data_without_files(tmp_path: Path) -> None:
    result = call("data")
    assert result.exit_code == 0
    for words in (
        str(tmp_path),
        "5,000, verified",
        "full MNIST",
        "advlearn data --fetch mnist",
        "a download, or the offline digits",
    ):
        assert words in result.output


def test_data_tells_what_offline_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVLEARN_OFFLINE", "1")
    result = call("data")
    assert "forbidden by ADVLEARN_OFFLINE" in result.output
    assert "takes the offline digits" in result.output


def test_verify_finds_the_damaged_file(tmp_path: Path) -> None:
    raw = tmp_path / "elsewhere" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"damaged")
    unverified = call("data", "--dir", str(tmp_path / "elsewhere"))
    assert unverified.exit_code == 0
    assert "not verified" in unverified.output
    result = call("data", "--verify", "--dir", str(tmp_path / "elsewhere"))
    assert result.exit_code == 1
    assert re.search(r"PROBLEM +t10k-labels-idx1-ubyte .*is damaged", result.output)
    assert re.search(r"note +train-images-idx3-ubyte +missing", result.output)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_failed_fetch_ends_with_the_message(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ADVLEARN_OFFLINE", "1")
    result = call("data", "--fetch", name)
    assert result.exit_code == 1
    assert "ADVLEARN_OFFLINE forbids the network" in result.output
    assert "What you can do" in result.output


def test_fetch_brings_the_files_and_verifies_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(folder: Path | None) -> None:
        assert folder == tmp_path / "new"
        (folder / "MNIST" / "raw").mkdir(parents=True)
        for file in _files.MNIST_SHA256:
            (folder / "MNIST" / "raw" / file).write_bytes(b"damaged")

    monkeypatch.setattr("advlearn.data.download_mnist", download)
    result = call("data", "--fetch", "mnist", "--dir", str(tmp_path / "new"))
    assert result.exit_code == 1, "what was fetched was not verified"
    assert "Problems: 4." in result.output


def test_unknown_data_set_is_refused() -> None:
    result = call("data", "--fetch", "imagenet")
    assert result.exit_code == 2
    assert "imagenet" in result.output


def test_doctor_reports(tmp_path: Path) -> None:
    result = call("doctor")
    assert result.exit_code == 0, result.output
    for subject in (
        "Python",
        "advlearn",
        "torch",
        "ipywidgets",
        "jupyterlab",
        "widgets",
        "processor",
        "GPU",
        "disk",
        "offline digits",
        "memory",
        "weights",
        "network",
    ):
        assert re.search(rf"^(ok|note) +{re.escape(subject)} ", result.output, re.M), subject
    assert importlib.metadata.version("torch") in result.output


def test_doctor_finds_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("mlxtend", "jupyterlab"):
            raise importlib.metadata.PackageNotFoundError(name)
        return {"torch": "2.3.1+cpu", "matplotlib": "3.8.0rc1"}.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    result = call("doctor")
    assert result.exit_code == 1
    assert re.search(r"PROBLEM +mlxtend +not installed\n +-> Run `pip install", result.output)
    too_old = r"PROBLEM +torch +2.3.1\+cpu is installed, >=2.4 is needed\n +-> Run"
    assert re.search(too_old, result.output)
    assert re.search(
        r"PROBLEM +matplotlib +3.8.0rc1 is installed, >=3[.]8[.]?\d* is needed", result.output
    )
    assert re.search(r"note +jupyterlab +not installed\n +-> Run `pip install", result.output)
    assert "Problems: 3." in result.output


def test_doctor_finds_missing_widgets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *_: [str(tmp_path)])
    result = call("doctor")
    assert result.exit_code == 1
    assert re.search(r"PROBLEM +widgets .*\n +-> Run `pip install", result.output)


def test_doctor_finds_broken_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("the digits are not the 5,000")

    monkeypatch.setattr(_files, "read_offline_digits", broken)
    result = call("doctor")
    assert result.exit_code == 1
    assert re.search(r"PROBLEM +offline digits", result.output)


def test_doctor_notes_little_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADVLEARN_DATA_DIR", str(tmp_path / "not" / "there"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("", (), {"free": 1e6}))
    monkeypatch.setattr(doctor, "_available_memory", lambda: 1e9)
    result = call("doctor")
    assert result.exit_code == 0
    for subject in ("ADVLEARN_DATA_DIR", "disk", "memory"):
        assert re.search(rf"note +{subject} .*\n +-> ", result.output), subject


def metadata_of_pyproject() -> list[str]:
    """Return the requirements as an installed package has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        f"{text.partition(';')[0]}; extra == '{name}'"
        for name, texts in project["optional-dependencies"].items()
        for text in texts
    ]
    return [*project["dependencies"], *extras]


def test_the_doctor_looks_at_what_pyproject_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: metadata_of_pyproject())
    needed, optional = doctor._requirements()
    bounds = {one.name: str(one.specifier) for one in needed}
    assert bounds["torch"] == ">=2.4"
    assert bounds.keys() >= {"ipywidgets", "mlxtend", "safetensors", "numpy", "packaging"}
    assert "jupyterlab" not in bounds, "Colab has none: it belongs into the extra"
    assert [one.name for one in optional] == ["jupyterlab"]
    subjects = [finding.subject for finding in doctor.examine_packages()]
    assert subjects == ["Python", "advlearn", *bounds, "jupyterlab", "widgets"]


def test_metadata_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `git pull`: the code is new, and what pip knows of it is old."""
    monkeypatch.setattr(advlearn, "__version__", "99.0")
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["torch>=99"])
    findings = {finding.subject: finding for finding in doctor.examine_packages()}
    assert findings["advlearn"].state == "note"
    assert findings["advlearn"].detail.startswith("99.0 runs, ")
    assert "pip install" in findings["advlearn"].remedy
    assert findings["torch"].state == "PROBLEM"
    assert "matplotlib" not in findings


def test_a_course_that_is_not_installed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    states = {finding.subject: finding.state for finding in doctor.examine_packages()}
    assert states["advlearn"] == "PROBLEM"
    assert "widgets" in states, "the rest is examined all the same"


def test_a_missing_packaging_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    states = {finding.subject: finding.state for finding in doctor.examine_packages()}
    assert states["packaging"] == "PROBLEM"


@pytest.mark.parametrize(
    ("version", "bound", "state"),
    [
        ("2.3.1+cpu", "2.4", "PROBLEM"),
        ("2.4.0rc1", "2.4", "PROBLEM"),
        ("2.4.0+cpu", "2.4", "ok"),
        ("2.10", "2.9", "ok"),
        ("2.9", "2.10", "PROBLEM"),
        ("4.0.0rc1", "3", "ok"),
        ("unknown", "1", "PROBLEM"),
        (None, "1", "PROBLEM"),
    ],
)
def test_versions_are_compared_as_pip_compares_them(
    monkeypatch: pytest.MonkeyPatch, version: str | None, bound: str, state: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    finding = doctor._examine_package(Requirement(f"one>={bound}"), missing="note")
    assert finding.state == state
    assert bool(finding.remedy) == (state == "PROBLEM")


def test_reproduce_runs_rows_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, real, asked = tmp_path / "out", work.do, []

    def do(kind: str, *rest: object) -> bytes:
        asked.append(kind)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(kind, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "do", do)
    options = ["reproduce", "--quick", "--rows", "softmax, ", "--out", str(out)]
    stopped = call(*options)
    assert stopped.exit_code == 1
    assert "Stopped. Finished items are kept: run the same with --resume" in stopped.output
    refused = call(*options)
    assert refused.exit_code == 1
    assert "holds 1 finished items. Run again with --resume" in refused.output
    done = call(*options, "--resume")
    assert done.exit_code == 0, done.output
    assert asked == ["train", "attack", "attack", "measure"]
    assert re.search(r"^softmax: (reproduced|same direction|not reproduced)$", done.output, re.M)
    assert re.search(r"^    FGSM error: [0-9.]+ %  \(paper 99.9 %\)$", done.output, re.M)
    assert "Of 1 row," in done.output
    assert "A quick run shows that every row runs. Its numbers mean nothing else." in done.output
    assert (out / "results" / "softmax.json").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rows", "cnn"], "row must be one of panda, .*rubbish-cifar, got 'cnn'"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--workers", "-1"], "workers must be at least 0, got -1"),
        (["--publish"], "--publish needs a full run of all rows: leave out --quick and --rows"),
        (["--rows", "softmax", "--publish"], "--publish needs a full run"),
    ],
)
def test_reproduce_names_what_is_wrong_and_does_nothing(
    tmp_path: Path, options: list[str], words: str
) -> None:
    result = call("reproduce", "--quick", "--out", str(tmp_path / "out"), *options)
    assert result.exit_code == 1
    assert re.search(words, result.output)
    assert not (tmp_path / "out").exists()


def test_reproduce_publishes_into_a_checkout_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "CHECKOUT", tmp_path / "site-packages")
    result = call("reproduce", "--publish", "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "--publish writes into the course's checkout" in result.output
    assert "leave out --publish" in result.output
    assert not (tmp_path / "out").exists()


def test_reproduce_needs_the_full_images_for_a_full_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVLEARN_OFFLINE", "1")
    out = str(tmp_path / "out")
    result = call("reproduce", "--rows", "softmax", "--data", str(tmp_path), "--out", out)
    assert result.exit_code == 1
    assert "ADVLEARN_OFFLINE forbids the network" in result.output


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/disk/x.png"), "No space left on device.*/disk/x"),
        (OSError(28, "Free 3 MB, then run again"), "^Free 3 MB, then run again$"),
        (FileExistsError("there are items"), "^there are items$"),
        (ModuleNotFoundError("a cluster needs distributed"), "^a cluster needs distributed$"),
    ],
)
def test_reproduce_ends_with_the_message_of_an_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr("advlearn.cli.reproduce.run", fail)
    result = call("reproduce", "--quick")
    assert result.exit_code == 1
    assert re.search(words, result.output.strip())


def test_doctor_counts_the_models_of_an_installed_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(folders, "published", lambda kind: tmp_path / "_published" / kind)
    result = call("doctor")
    assert re.search(r"note +weights +no reference models in .*_published", result.output)
    (tmp_path / "_published" / "weights").mkdir(parents=True)
    (tmp_path / "_published" / "weights" / "a.safetensors").touch()
    assert re.search(r"ok +weights +1 reference models", call("doctor").output)


def test_command_line_starts_without_the_heavy_packages() -> None:
    code = (
        "import sys, advlearn.cli.app;"
        "print([m for m in ('torchvision', 'matplotlib', 'jupyterlab') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
