"""`advlearn evaluate`: a model file, images, and both ends of the error under attack.

A model file of the course is tensors and the name of an architecture: nothing in it is executed. An
exported program (`torch.export`, .pt2) is a program: PyTorch unpickles parts of it and evaluates
formulas that are in it, and its documentation says never to load one from an untrusted source. So
it is loaded only when the caller says that it is trusted. What `torch.save` or TorchScript wrote is
refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from advlearn._atomic import write_atomically
from advlearn._bounded import open_plain, parse_json, read_plain
from advlearn._quote import listed, printable, quote
from advlearn._validation import check_count, check_logits, check_number, logits_of
from advlearn.batches import Dataset, batch_of
from advlearn.context import Model, attack_mode
from advlearn.data import load_image_folder, load_mnist, reference
from advlearn.data.trees import TRAINING

if TYPE_CHECKING:
    from advlearn.evaluation import Bracket

KIND = "advlearn evaluate"
"""What a report says that it is: such a file may be replaced."""

DIGITS = ("offline", "mnist")
"""What --data takes beside the path of a folder or an archive."""

_MOST_MODEL, _MOST_REPORT = 1_000_000_000, 100_000_000  # bytes
_PACK = "Export the model with advlearn.data.reference.pack, or with torch.export.save."
_EXPORT = (
    "dynamic_shapes=({0: torch.export.Dim('n')},) in torch.export.export lets it take any number "
    "of images"
)


def run(
    file: Path,
    *,
    eps: str,
    data: str,
    split: str,
    size: int | None,
    grey: bool,
    budget: str,
    count: int | None,
    seed: int,
    report: Path | None,
    trust: bool,
    say: Callable[[object], None],
) -> None:
    """Evaluate a model file, print the bracket, and write it as JSON.

    Raises:
        OSError, TypeError, ValueError: the message says what is wrong, and what to do. Nothing is
            written then.
    """
    from advlearn.evaluation import evaluate

    radius = read_eps(eps)
    if report is not None:
        check_report(report)
    if count is not None:
        check_count(count, "digits")
    check_options(data, split=split, size=size, grey=grey)
    model, what = open_model(file, trust=trust)
    images = open_images(data, split=split, size=size, grey=grey, count=count, seed=seed)
    images = with_names(images, check_fit(model, images, file.name), data)
    say(f"{file.name}: {what}")
    say(f"data: {len(images.y):,} images. {images.note}")
    bracket = evaluate(model, images, radius, budget=budget, seed=seed)
    say(bracket)
    if report is not None:
        digest = hashlib.sha256(read_plain(file, _MOST_MODEL)).hexdigest()
        about = {"file": file.name, "sha256": digest, "model": what, "data": images.note}
        write_atomically(report, as_json(bracket, about | {"seed": seed}))
        say(f"Written to {report}.")


def read_eps(text: str) -> float:
    """Return an eps that is written as a number or as a fraction.

    Example:
        >>> read_eps("0.25"), round(read_eps("8/255"), 4)
        (0.25, 0.0314)
    """
    try:
        # A fraction of whole numbers only: of 1e999999999 one would work for hours.
        value = float(Fraction(text.strip())) if "/" in text else float(text)
        if math.isnan(value):
            raise ValueError
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(
            f"eps = {quote(text)} is no number. Write one such as 0.25, or 8/255."
        ) from error
    if value == 0 and re.search("[1-9]", re.split("[/eE]", text)[0]):
        raise ValueError(f"eps = {quote(text)} is too small to be told from 0. Write a larger one.")
    return check_number(value, "eps", low=0.0)


def open_model(path: Path, *, trust: bool = False) -> tuple[Model, str]:
    """Return the model of a file, and what it is in words.

    Args:
        path: a model file of the course, or an exported program.
        trust: load an exported program, which may run whatever code is in it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, of another kind, or may not be loaded without `trust`.
    """
    name = quote(path.name, 100)
    with open_plain(path) as file:
        head = file.read(9)
    if head[8:9] == b"{":
        content = read_plain(path, 100_000_000)
        try:
            model, _ = reference.unpack(content, name)
            text = reference.describe(content, name)
        except RecursionError:
            raise ValueError(f"{name} is damaged: it is nested too deeply.") from None
        numbers = sum(value.numel() for value in model.state_dict().values())
        return model, f"{text['architecture']}, {numbers:,} numbers"
    if not (head[:2] == b"PK" and zipfile.is_zipfile(path)):
        pickled = head[:1] == b"\x80"
        why = "a pickle, which runs whatever code is in it" if pickled else "no model file"
        raise ValueError(f"{name} is {why}. {_PACK}")
    kind = _kind_of_archive(path, name)
    if kind != "exported":
        words = {
            "script": "is TorchScript. Loading it runs whatever code is in it, and PyTorch has "
            "given it up.",
            "pickle": "was written by torch.save. It is a pickle: loading it runs whatever code is "
            "in it, and it holds no program that could be attacked if it is a state_dict.",
            "other": "is an archive, and no exported program.",
        }[kind]
        raise ValueError(f"{name} {words} {_PACK}")
    if not trust:
        raise ValueError(
            f"{name} is an exported program. PyTorch unpickles parts of it, so loading it can run "
            "whatever code is in it. If you trust who made it, say --trust; else ask for a model "
            "file of the course (advlearn.data.reference.pack), in which nothing is executed."
        )
    try:
        program: nn.Module = torch.export.load(path).module()
    except Exception as error:  # whatever PyTorch meets in a file that is damaged
        raise ValueError(
            f"{name} cannot be loaded by PyTorch {torch.__version__}: {printable(error, 400)}. "
            "Programs of other versions may not load: export it again with this one."
        ) from error
    return program, f"exported program, {sum(p.numel() for p in program.parameters()):,} numbers"


def _kind_of_archive(path: Path, name: str) -> str:
    """Return what a zip file holds, from the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {one.rpartition("/")[2] for one in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{name} is damaged: {printable(error)}. {_PACK}") from error
    if names & {"archive_format", "serialized_exported_program.json"}:
        return "exported"
    if "constants.pkl" in names:
        return "script"
    return "pickle" if "data.pkl" in names else "other"


def check_options(place: str, *, split: str, size: int | None, grey: bool) -> None:
    """Refuse options of a folder where the digits of MNIST are asked for.

    Raises:
        ValueError: one of them would change nothing.
    """
    if place not in DIGITS:
        return
    others = {
        f"--split {split}": split != "test",
        f"--size {size}": size is not None,
        "--grey": grey,
    }
    if given := [name for name, is_there in others.items() if is_there]:
        raise ValueError(
            f"{quote(given[0], 100)} is for the images of a folder, and --data {place} are the "
            "test digits of MNIST, grey, 28 x 28. Leave it out, or name a folder with --data."
        )


def open_images(
    place: str, *, split: str, size: int | None, grey: bool, count: int | None, seed: int
) -> Dataset:
    """Return the images to attack.

    Args:
        place: "offline" and "mnist" are digits of MNIST; anything else is a folder or archive of
            SPLIT/CLASS/IMAGE.
        split, size, grey: as for `advlearn.data.load_image_folder`.
        count: at most so many: the first digits, or images that are drawn from the folder.
        seed: of the draw.
    """
    if place in DIGITS:
        images = load_mnist("test", source="offline" if place == "offline" else "download")
        return images if count is None else images.take(slice(count))
    images = load_image_folder(place, split, size=size, grey=grey)
    if count is None or count >= len(images.y):
        return images
    # Images come class by class, so the first ones would be of one class.
    drawn = torch.randperm(len(images.y), generator=torch.Generator().manual_seed(seed))
    return images.take(drawn[:count].sort().values)


def with_names(images: Dataset, logits: int, place: str) -> Dataset:
    """Return the images with a word on their labels where a model knows more classes than they.

    Labels count the classes of the training folder, which is what a model was trained on. Without
    such a folder the classes of the split are counted, and one that is lacking would give the later
    ones other numbers than the model has for them.

    Args:
        images: what `open_images` returned.
        logits: how many the model gives, from `check_fit`.
        place: where the images are from.

    Raises:
        ValueError: nothing says which labels the classes have.
    """
    names = images.classes
    if place in DIGITS or len(names) >= logits:
        return images
    if not _has_training_folder(place):
        raise ValueError(
            f"{quote(place, 300)} holds images of {len(names)} classes, {listed(names)}, and the "
            f"model gives {logits} logits: which of them belong to which class? Put a folder "
            f"{TRAINING[0]} with one image of each class of the model, at least, beside the split. "
            "Its classes, sorted by name, are the labels 0, 1, ..."
        )
    word = f"the model gives {logits} logits; labels 0 to {len(names) - 1} are {listed(names)}"
    return images._replace(note=f"{images.note}; {word}")


def _has_training_folder(place: str) -> bool:
    for split in TRAINING:
        try:
            load_image_folder(place, split, size=1, grey=True, limit_per_class=1)
        except FileNotFoundError:
            continue
        return True
    return False


def check_fit(model: Model, images: Dataset, name: str) -> int:
    """Require that the model takes these images, one, two or many at a time, before the work.

    It returns how many logits the model gives for an image.

    Logits may come in all the forms that `advlearn.evaluate` takes.

    Raises:
        TypeError: what it gives for them is no tensor of logits.
        ValueError: it does not take them, or gives too few logits.
    """
    shape, known = tuple(images.x.shape[1:]), 0
    # As many as `evaluate` hands over at once, too: a program may have a largest number.
    for count in sorted({1, 2, min(len(images.y), batch_of(images.x))}):
        many = f"{count} image{'s' * (count > 1)}"
        batch = images.x[torch.arange(count) % len(images.y)]
        try:
            with attack_mode(model), torch.no_grad():
                logits: Any = logits_of(model(batch))
        except Exception as error:  # an exported program raises AssertionError, and others
            raise ValueError(
                f"{quote(name, 100)} does not take {many} of shape {shape}: "
                f"{printable(error, 300)}. For --data FOLDER there are --size and --grey; for an "
                f"exported program, {_EXPORT}."
            ) from error
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            check_logits(logits, batch, f"{quote(name, 100)} of {many}")  # raises
        classes = int(images.y.max()) + 1
        known = logits.shape[-1] if logits.dim() else 0
        if tuple(logits.shape[:1]) != (count,) or logits.dim() != 2 or known < classes:
            raise ValueError(
                f"{quote(name, 100)} gives {tuple(logits.shape)} for {many}, and the data has "
                f"{classes} classes. It must give logits (N, K) with a K for each class."
            )
    return known


def check_report(path: Path) -> None:
    """Require that a report can be written here: no other file is replaced.

    Raises:
        FileExistsError: another file is there.
        OSError: the folder is not there, or may not be written.
    """
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise PermissionError(
            f"{quote(str(folder), 300)} is no folder that you may write in. Name another."
        )
    if not os.path.lexists(path):
        return
    try:
        ours = parse_json(read_plain(path, _MOST_REPORT))["kind"] == KIND
    except (OSError, ValueError, TypeError, KeyError):
        ours = False
    if not ours:
        raise FileExistsError(
            f"{quote(str(path), 300)} is there already, and is no report of this command. Name "
            "another file with --json, or move that one."
        )


def as_json(bracket: Bracket, about: dict[str, Any]) -> str:
    """Return a bracket as JSON: every rate with its counts and its interval."""

    def rate(value: Any) -> dict[str, Any] | None:
        if value is None:
            return None
        low, high = value.interval
        return {"count": value.count, "total": value.total, "low": low, "high": high}

    content = {
        "kind": KIND,
        **about,
        "eps": bracket.eps,
        "budget": bracket.budget,
        "clean": rate(bracket.clean),
        "attacked": rate(bracket.attacked),
        "certified": rate(bracket.certified),
        "uncertified_because": bracket.uncertified_because,
        "by_attack": {name: rate(value) for name, value in bracket.by_attack.items()},
        "broken_by": list(bracket.broken_by),
        "forward": bracket.passes.forward,
        "backward": bracket.passes.backward,
        "seconds": bracket.seconds,
        "note": bracket.note,
        "torch": torch.__version__,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
