"""`advlearn evaluate`: what it loads, what it refuses to load, and what it leaves alone."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from advlearn.cli import app as cli
from advlearn.cli import evaluate as command
from advlearn.data import load_mnist, reference
from advlearn.data.folders import published
from advlearn.models import ConvNet, SoftmaxRegression

SOFTMAX = published("weights") / "softmax.safetensors"
EXPORTS = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(cli.app, ["evaluate", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def export(model: nn.Module, path: Path, *, any_number: bool = True) -> Path:
    sizes = ({0: torch.export.Dim("n")},) if any_number else None
    program = torch.export.export(model, (torch.rand(4, 1, 28, 28),), dynamic_shapes=sizes)
    torch.export.save(program, path)
    return path


class Bomb:
    """Whoever unpickles it sets `burst`."""

    burst = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Bomb, "burst", True)


@pytest.fixture
def no_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be loaded that may run code, and nothing be evaluated."""
    for place, name in (("torch", "load"), ("torch.jit", "load"), ("torch.export", "load")):
        monkeypatch.setattr(f"{place}.{name}", lambda *_, **__: pytest.fail("it was loaded"))
    monkeypatch.setattr("advlearn.evaluation.evaluate", lambda *_, **__: pytest.fail("evaluated"))


def test_a_file_of_the_course_is_evaluated_and_written_as_json(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    options = ("--eps", "0.1", "--digits", 40, "--budget", "fast", "--json", out)
    done = call(SOFTMAX, *options)
    assert done.exit_code == 0, done.output
    assert re.search(r"^softmax.safetensors: SoftmaxRegression, 7,850 numbers$", done.output, re.M)
    assert "data: 40 images. 1,000 of the 5,000 offline digits" in done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert (report["eps"], report["budget"], report["kind"]) == (0.1, "fast", command.KIND)
    assert len(report["broken_by"]) == report["attacked"]["total"] == 40
    assert report["attacked"]["count"] == sum(map(bool, report["broken_by"]))
    assert report["clean"]["count"] < report["attacked"]["count"] <= report["certified"]["count"]
    assert report["sha256"] == reference.index()["softmax"]["sha256"]
    again = call(SOFTMAX, *options)
    assert again.exit_code == 0, "its own report is replaced"
    assert json.loads(out.read_text(encoding="utf-8"))["broken_by"] == report["broken_by"]


@EXPORTS
def test_a_trusted_program_is_the_model_that_it_was_made_of(tmp_path: Path) -> None:
    model = reference.load("softmax")
    program = export(model, tmp_path / "soft.pt2")
    reports = []
    for file, trust in ((SOFTMAX, ()), (program, ("--trust",))):
        out = tmp_path / f"{file.stem}.json"
        done = call(file, "--eps", "0.1", "--digits", 30, "--budget", "fast", "--json", out, *trust)
        assert done.exit_code == 0, done.output
        reports.append(json.loads(out.read_text(encoding="utf-8")))
    one, two = reports
    assert one["broken_by"] == two["broken_by"]
    assert two["model"] == "exported program, 7,850 numbers"


@EXPORTS
@pytest.mark.usefixtures("no_loading")
def test_a_program_is_not_loaded_unless_it_is_trusted(tmp_path: Path) -> None:
    done = call(export(SoftmaxRegression(), tmp_path / "it.pt2"), "--eps", "0.1")
    assert done.exit_code == 1
    assert "loading it can run whatever code is in it" in done.output
    assert "say --trust" in done.output


@EXPORTS
def test_code_in_a_program_is_not_run_unless_it_is_trusted(tmp_path: Path) -> None:
    good, bad = export(SoftmaxRegression(), tmp_path / "good.pt2"), tmp_path / "bad.pt2"
    torch.save({"x": Bomb()}, tmp_path / "bomb.pt")
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            bomb = (tmp_path / "bomb.pt").read_bytes() if name.endswith(".pt") else None
            target.writestr(name.replace("good/", "bad/"), bomb or source.read(name))
    Bomb.burst = False
    assert call(bad, "--eps", "0.1").exit_code == 1
    assert not Bomb.burst
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert Bomb.burst, "the bomb works: it would have been seen"


@EXPORTS
def test_a_program_for_one_number_of_images_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advlearn.evaluation.evaluate", lambda *_, **__: pytest.fail("evaluated"))
    program = export(SoftmaxRegression(), tmp_path / "four.pt2", any_number=False)
    done = call(program, "--eps", "0.1", "--trust")
    assert done.exit_code == 1
    assert "does not take 1 image of shape (1, 28, 28)" in done.output
    assert "torch.export.Dim" in done.output


class Answers(nn.Module):
    """Gives its logits in some form."""

    def __init__(self, form: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.inner, self.form = SoftmaxRegression(), form

    def forward(self, x: torch.Tensor) -> object:
        return self.form(self.inner(x))


WRAPPED: dict[str, Callable[[torch.Tensor], object]] = {
    "a dict": lambda logits: {"logits": logits},
    "a dict with more": lambda logits: {"loss": logits.sum(), "logits": logits},
    "a tuple": lambda logits: (logits,),
    "a tuple with more": lambda logits: (logits, logits[:, None]),
    "a list": lambda logits: [logits],
}


@EXPORTS
@pytest.mark.parametrize("form", WRAPPED)
def test_a_program_may_wrap_its_logits_as_evaluate_takes_them(tmp_path: Path, form: str) -> None:
    torch.manual_seed(0)
    model = Answers(WRAPPED[form]).eval()
    bare, wrapped = tmp_path / "bare.pt2", tmp_path / "wrapped.pt2"
    export(model.inner, bare)
    export(model, wrapped)
    reports = []
    for file in (bare, wrapped):
        out = tmp_path / f"{file.stem}.json"
        done = call(
            file, "--eps", "0.1", "--digits", 20, "--budget", "fast", "--json", out, "--trust"
        )
        assert done.exit_code == 0, done.output
        reports.append(json.loads(out.read_text(encoding="utf-8")))
    assert reports[0]["broken_by"] == reports[1]["broken_by"]


WRONG: dict[str, tuple[Callable[[torch.Tensor], object], str]] = {
    "several": (lambda z: (z, z + 1), "must return a tensor of logits.*pick the logits"),
    "a dict without logits": (lambda z: {"out": z}, r"must return a tensor of logits.*\['out'\]"),
    "classes": (lambda z: z.argmax(1), "must return floating logits, got torch.int64"),
    "a dict of classes": (lambda z: {"logits": z.argmax(1)}, "must return floating logits"),
    "losses": (lambda z: z.sum(1), r"gives \(1,\) for 1 image.*must give logits \(N, K\)"),
    "a number": (lambda z: z.sum(), r"gives \(\) for 1 image.*must give logits \(N, K\)"),
    "one logit": (lambda z: z[:, :1], r"gives \(1, 1\) for 1 image, and the data has 10 classes"),
    "maps": (lambda z: z[:, :, None], r"gives \(1, 10, 1\) for 1 image"),
    "probabilities": (lambda z: z.softmax(1), "looks like probabilities"),
    "infinite": (lambda z: z / 0, "holds NaN or infinity"),
}


@EXPORTS
@pytest.mark.parametrize("kind", WRONG)
def test_a_program_that_gives_no_logits_is_told_in_words(tmp_path: Path, kind: str) -> None:
    form, words = WRONG[kind]
    program = export(Answers(form).eval(), tmp_path / "wrong.pt2")
    out = tmp_path / "report.json"
    done = call(program, "--eps", "0.1", "--digits", 20, "--json", out, "--trust")
    assert done.exit_code == 1
    assert re.search(words, " ".join(done.output.split())), done.output
    assert not out.exists()


@EXPORTS
def test_a_program_for_few_images_at_once_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advlearn.evaluation.evaluate", lambda *_, **__: pytest.fail("evaluated"))
    sizes = ({0: torch.export.Dim("n", max=4)},)
    program = torch.export.export(
        SoftmaxRegression(), (torch.rand(3, 1, 28, 28),), dynamic_shapes=sizes
    )
    torch.export.save(program, tmp_path / "four.pt2")
    done = call(tmp_path / "four.pt2", "--eps", "0.1", "--digits", 20, "--trust")
    assert done.exit_code == 1
    assert "does not take 20 images of shape (1, 28, 28)" in done.output


def a_state(path: Path) -> None:
    torch.save({"model": Bomb()}, path)


def an_old_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(), protocol=2))


def a_script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(SoftmaxRegression(), torch.rand(1, 1, 28, 28)), path)


def an_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def half_an_archive(path: Path) -> None:
    path.write_bytes(b"PK\3\4" + bytes(100))


def cut(path: Path) -> None:
    path.write_bytes(SOFTMAX.read_bytes()[:-100])


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "torch.save": (a_state, "was written by torch.save. It is a pickle.*reference.pack"),
    "an old pickle": (an_old_pickle, "is a pickle, which runs whatever code.*reference.pack"),
    "TorchScript": (a_script, "is TorchScript.*torch.export.save"),
    "an archive": (an_archive, "is an archive, and no exported program"),
    "half an archive": (half_an_archive, "is no model file"),
    "a text": (lambda path: path.write_text("hello"), "is no model file"),
    "nothing": (lambda path: path.touch(), "is no model file"),
    "a folder": (lambda path: path.mkdir(), "is no plain file"),
    "a pipe": (os.mkfifo, "is no plain file"),
    "no file": (lambda path: None, "No such file"),
    "a cut file": (cut, "is damaged"),
}


@EXPORTS
@pytest.mark.parametrize("trust", [(), ("--trust",)], ids=["", "trust"])
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.usefixtures("no_loading")
def test_what_is_refused_is_said_in_words(
    tmp_path: Path, kind: str, trust: tuple[str, ...]
) -> None:
    make, words = REFUSED[kind]
    make(tmp_path / "it.pt")
    Bomb.burst = False
    done = call(tmp_path / "it.pt", "--eps", "0.1", *trust)
    assert done.exit_code == 1
    assert re.search(words, done.output.replace("\n", " ")), done.output
    assert not Bomb.burst


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--eps", "much"), "eps = 'much' is no number. Write one such as 0.25, or 8/255"),
        (("--eps", "1/0"), "is no number"),
        (("--eps", "nan"), "is no number"),
        (("--eps", "1e999999999"), "eps must be finite"),
        (("--eps", "1e-999999999"), "eps = '1e-999999999' is too small to be told from 0"),
        (("--eps", "1e3/255"), "is no number"),
        (("--eps", "0.1", "--split", "train"), "--split train' is for the images of a folder"),
        (("--eps", "0.1", "--size", "28"), "--size 28' is for the images of a folder"),
        (("--eps", "0.1", "--grey"), "--grey' is for the images of a folder, and --data offline"),
        (("--eps", "0.1", "--data", "mnist", "--grey"), "and --data mnist are the test digits"),
        (("--eps", "-0.1"), "eps"),
        (("--eps", "0.1", "--digits", "0"), "digits must be at least 1"),
        (("--eps", "0.1", "--data", "nowhere"), "nowhere"),
        (("--eps", "0.1", "--json", "{here}/none/a.json"), "is no folder that you may write in"),
        (("--eps", "0.1", "--json", "{here}"), "is no report of this command"),
        (("--eps", "0.1", "--json", "{here}/text"), "is no report of this command"),
        (("--eps", "0.1", "--json", "{here}/list.json"), "is no report of this command"),
    ],
)
@pytest.mark.usefixtures("no_loading")
def test_a_wrong_option_is_told_before_the_work(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "text").write_text("precious", encoding="utf-8")
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    done = call(SOFTMAX, *(option.format(here=tmp_path) for option in options))
    assert done.exit_code == 1
    assert words in done.output
    assert (tmp_path / "text").read_text(encoding="utf-8") == "precious"
    assert (tmp_path / "list.json").read_text(encoding="utf-8") == "[1]"


@pytest.mark.parametrize(
    "options", [("--budget", "huge", "--eps", "0.1"), (), ("--eps", "0.1", "--digits", "few")]
)
def test_what_the_command_line_cannot_read_ends_with_2(options: tuple[str, ...]) -> None:
    assert call(SOFTMAX, *options).exit_code == 2


def test_an_error_on_the_way_leaves_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("in the middle")

    monkeypatch.setattr("advlearn.evaluation.evaluate", fail)
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps({"kind": command.KIND}), encoding="utf-8")
    for path in (old, new):
        done = call(SOFTMAX, "--eps", "0.1", "--json", path)
        assert (done.exit_code, "in the middle" in done.output) == (1, True)
    assert json.loads(old.read_text(encoding="utf-8")) == {"kind": command.KIND}
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]


def test_the_full_mnist_is_not_replaced_by_other_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVLEARN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ADVLEARN_OFFLINE", "1")
    done = call(SOFTMAX, "--eps", "0.1", "--data", "mnist")
    assert done.exit_code == 1
    assert "ADVLEARN_OFFLINE forbids the network" in done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    digits = load_mnist("test", source="offline")
    for x, y in zip(digits.x[:60], digits.y[:60].tolist(), strict=True):
        place = tmp_path / "pictures" / "test" / str(y)
        place.mkdir(parents=True, exist_ok=True)
        pixels = (255 * x[0]).round().byte().numpy()
        Image.fromarray(pixels).save(place / f"{len(list(place.iterdir()))}.png")
    return tmp_path / "pictures"


def test_pictures_of_a_folder_are_attacked(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    options = ("--eps", "26/255", "--data", folder, "--budget", "fast", "--json", out)
    done = call(SOFTMAX, *options, "--grey", "--digits", 25)
    assert done.exit_code == 0, done.output
    assert "data: 25 images." in done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["eps"] == 26 / 255
    assert len(report["broken_by"]) == 25
    assert report["clean"]["count"] < 10, "labels and images belong together"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "does not take 1 image of shape (3, 28, 28)"),
        (("--grey", "--size", "20"), "does not take 1 image of shape (1, 20, 20)"),
        (("--split", "train"), "train"),
    ],
)
@pytest.mark.usefixtures("no_loading")
def test_pictures_that_do_not_fit_are_told(
    folder: Path, options: tuple[str, ...], words: str
) -> None:
    done = call(SOFTMAX, "--eps", "0.1", "--data", folder, *options)
    assert done.exit_code == 1
    assert words in done.output


def without_classes(folder: Path, kept: tuple[str, ...]) -> None:
    for place in folder.glob("test/*"):
        if place.name not in kept:
            shutil.rmtree(place)


@pytest.mark.usefixtures("no_loading")
def test_classes_that_a_folder_lacks_are_told_where_nothing_numbers_them(folder: Path) -> None:
    """Of 3 and 7 alone the labels would be 0 and 1, and a model of digits wrong on all."""
    without_classes(folder, ("3", "7"))
    done = call(SOFTMAX, "--eps", "0.1", "--data", folder, "--grey")
    assert done.exit_code == 1
    words = " ".join(done.output.split())
    assert "holds images of 2 classes, 3, 7, and the model gives 10 logits" in words
    assert "Put a folder train with one image of each class" in words


@pytest.mark.parametrize("archive", [False, True])
def test_a_training_folder_numbers_the_classes_that_a_split_lacks(
    folder: Path, tmp_path: Path, archive: bool
) -> None:
    shutil.copytree(folder / "test", folder / "train")
    without_classes(folder, ("3", "7"))
    place = folder
    if archive:
        place = Path(shutil.make_archive(str(tmp_path / "pictures"), "zip", folder))
    out = tmp_path / "report.json"
    options = ("--eps", "0.01", "--data", place, "--grey", "--budget", "fast", "--json", out)
    done = call(SOFTMAX, *options)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["clean"]["count"] < report["clean"]["total"] / 2


def test_the_labels_are_said_where_the_model_knows_more_than_the_training_folder(
    folder: Path, tmp_path: Path
) -> None:
    without_classes(folder, ("0", "1", "2"))
    shutil.copytree(folder / "test", folder / "train")
    out = tmp_path / "report.json"
    options = ("--eps", "0.01", "--data", folder, "--grey", "--budget", "fast", "--json", out)
    done = call(SOFTMAX, *options)
    assert done.exit_code == 0, done.output
    words = "the model gives 10 logits; labels 0 to 2 are 0, 1, 2"
    assert words in " ".join(done.output.split())
    assert words in json.loads(out.read_text(encoding="utf-8"))["data"]


@pytest.mark.usefixtures("no_loading")
def test_too_few_classes_are_told(tmp_path: Path) -> None:
    model = ConvNet((2, 2), dense=4, classes=4)
    options = {"channels": [2, 2], "dense": 4, "classes": 4}
    (tmp_path / "four").write_bytes(reference.pack(model, "ConvNet", options, {}))
    done = call(tmp_path / "four", "--eps", "0.1")
    assert done.exit_code == 1
    assert "gives (1, 4) for 1 image, and the data has 10 classes" in done.output


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.25", 0.25), (" 8/255 ", 8 / 255), ("1e-3", 0.001), ("0e5", 0.0), ("0/255", 0.0)],
)
def test_an_eps_is_a_number_or_a_fraction(text: str, value: float) -> None:
    assert command.read_eps(text) == value


def test_help_says_what_is_safe_to_load() -> None:
    text = " ".join(re.sub(r"[│╭╰─╮╯]", " ", call("--help").output).split())
    assert "run whatever code is in it" in text
    assert "refused: loading them runs code" in text
