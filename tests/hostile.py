"""Damaged and hostile files, made from harmless bytes: boards, submissions, checkpoints, items,
notebooks and results, each with what reads it.

    python -m tests.hostile    print the table: what each is refused with, its time and its memory

The table also has the archives, images and models of `tests/test_hostile_files.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save

from advlearn import arena
from advlearn.course import copies, notebooks
from advlearn.models import SoftmaxRegression
from advlearn.reproduce import paper
from advlearn.reproduce.engine import work
from advlearn.reproduce.engine.store import Store
from advlearn.reproduce.models.spec import Scale
from advlearn.training import Recipe, fit
from tests.refusals import MOST_MEGABYTES, MOST_SECONDS, forget_peak, peak

DEEP = b"[" * 300_000 + b"]" * 300_000


class Case(NamedTuple):
    """A file, and what reads it: that returns the reason of its refusal."""

    make: Callable[[Path], object]
    read: Callable[[Path], str]


class Measured(NamedTuple):
    """What a refusal said and cost."""

    reason: str
    seconds: float  # of this process's processor time
    megabytes: float  # the peak above what the process had before


def measure(case: Case, folder: Path) -> Measured:
    """Make the file in a folder and read it."""
    path = folder / "it"
    case.make(path)
    forget_peak()
    before = peak()
    started = time.process_time()
    reason = case.read(path)
    seconds = time.process_time() - started
    return Measured(reason, seconds, peak() - before)


def refused(read: Callable[[Path], object]) -> Callable[[Path], str]:
    """Return a reader that gives the words of a refusal."""

    def words(path: Path) -> str:
        try:
            read(path)
        except ValueError as error:
            return str(error)
        raise AssertionError("it was accepted")

    return words


def written(content: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    """Return a maker of a file with this content."""
    return lambda path: path.write_bytes(content() if callable(content) else content)


def claimed(size: int, start: bytes = b"") -> Callable[[Path], object]:
    """Return a maker of a file that claims a size, and takes no space."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)

    return make


def to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


# --- Boards ---------------------------------------------------------------------------------------

HEAD = ",".join(arena.board.COLUMNS).encode() + b"\n"
LINE = (
    b'%s,30.0,10.8,60.3,10,9,9,9,9,9,9,3,"eps 0.25, 300 digits, 5 draws, PGD 2 x 2 x 40, 150 '
    b'queries",ConvNet,7,abababababababab\n'
)


def line(name: bytes = b"one", *, old: bytes = b"", new: bytes = b"") -> bytes:
    return HEAD + (LINE % name).replace(old, new, 1)


BOARDS = {
    "a script for a name": written(line(b"<script>alert(1)</script>")),
    "a formula for a name": written(line(b"$\\frac{$")),
    "a cell of a table for a name": written(line(b"a|b")),
    "a spreadsheet's formula for a name": written(line(b"=1+1")),
    "a terminal's escape for a name": written(line(b"\x1b[2Jscore: 99 %")),
    "more right than digits": written(line(old=b",10,9", new=b",10,11")),
    "a score that its counts do not make": written(line(old=b",30.0", new=b",99.9")),
    "no digits at all": written(line(old=b",10,9,9,9,9,9,9,3", new=b",0,0,0,0,0,0,0,0")),
    "an endless count": written(line(old=b",7,", new=b"," + b"9" * 1_900_000 + b",")),
    "an endless name": written(line(b"x" * 1_900_000)),
    "two megabytes of commas": written(HEAD + b"," * 1_900_000),
    "two megabytes of short lines": written(HEAD + b"a\n" * 900_000),
    "a lie after two megabytes of truth": written(HEAD + LINE % b"one" * 13_000 + b"a"),
    "a lie after two megabytes of Hangul": written(HEAD + LINE % "모델".encode() * 12_000 + b"a"),
    "a quotation that never ends": written(line(b'"one')),
    "zero bytes": written(line(b"\x00" * 1000)),
    "another code page": written(line("모델".encode("cp949"))),
    "UTF-16": written(line().decode().encode("utf-16")),
    "another table": written(b"name,mark\nme,1\n"),
    "a terabyte": claimed(10**12, HEAD),
    "a pipe": os.mkfifo,
    "a device": to_device,
    "a folder": os.mkdir,
}

# --- Submissions ----------------------------------------------------------------------------------


def model(**text: object) -> bytes:
    about = {"architecture": "SoftmaxRegression", "options": {}, "about": {}} | text
    state = SoftmaxRegression().state_dict()
    return save(state, metadata={"advlearn": json.dumps(about)})


def header(content: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(content)) + content + rest


def with_tensor(**change: object) -> bytes:
    content = model()
    size = int.from_bytes(content[:8], "little")
    parts = json.loads(content[8 : 8 + size])
    parts["linear.weight"] |= change
    return header(json.dumps(parts).encode(), content[8 + size :])


SUBMISSIONS = {
    "a pickle": written(b"\x80\x04" + b"x" * 1000),
    "a header of 2^63 bytes": written(struct.pack("<Q", 2**63) + b"{" * 100),
    "a deep header": written(header(b'{"__metadata__": ' + DEEP + b"}")),
    "lists without end": written(header(b'{"a": [' + b"[]," * 6_000_000 + b"[]]}")),
    "a kind of 90 kB": written(lambda: with_tensor(dtype="\x1b" * 15_000)),
    "a shape of 30,000 axes": written(lambda: with_tensor(shape=[1] * 30_000)),
    "layers of 10^9 units": written(
        lambda: model(architecture="MaxoutNet", options={"hidden": [10**9]})
    ),
    "options 900 deep": written(
        lambda: model(options={"features": json.loads(b"[" * 900 + b"]" * 900)})
    ),
    "a crowd": written(
        lambda: model(architecture="Ensemble", options={"members": 10**9, "architecture": "RBFNet"})
    ),
    "a terabyte": claimed(10**12),
    "a pipe": os.mkfifo,
    "a device": to_device,
    "a folder": os.mkdir,
}

# --- Checkpoints of `fit` -------------------------------------------------------------------------

DATA = (torch.zeros(8, 1, 28, 28).add_(0.5), torch.arange(8))
RECIPE = Recipe(epochs=1)


def train(path: Path) -> object:
    return fit(SoftmaxRegression(), DATA, RECIPE, checkpoint=path, progress=False)


def flipped(path: Path) -> None:
    train(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    train(path)
    path.write_bytes(path.read_bytes()[:-100])


def about_itself(text: str, **tensors: torch.Tensor) -> Callable[[Path], object]:
    state = tensors or {"a": torch.zeros(1)}
    return written(lambda: save(state, metadata={"advlearn": text}))


def nan_weights(path: Path) -> None:
    train(path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    parts = json.loads(content[8 : 8 + size])
    start = 8 + size + parts["model.linear.weight"]["data_offsets"][0]
    about = json.loads(parts["__metadata__"]["advlearn"])
    del about["sha256"]  # as version 0.1.0 wrote it
    parts["__metadata__"]["advlearn"] = json.dumps(about)
    content = content[:start] + b"\x00\x00\xc0\x7f" + content[start + 4 :]
    path.write_bytes(header(json.dumps(parts).encode(), content[8 + size :]))


CHECKPOINTS = {
    "one flipped bit": flipped,
    "a cut end": cut,
    "NaN weights": nan_weights,
    "a deep text": about_itself(DEEP.decode()),
    "an identity that is a list": about_itself('{"identity": [1, 2]}'),
    "a header of 2^63 bytes": written(struct.pack("<Q", 2**63) + b"{" * 100),
    "a header of 90 MB": claimed(90_000_008, struct.pack("<Q", 90_000_000) + b"{"),
    "a tensor of a terabyte": written(
        header(
            b'{"a": {"dtype": "F32", "shape": [250000000000], "data_offsets": [0, %d]}}' % 10**12
        )
    ),
    "a terabyte": claimed(10**12, struct.pack("<Q", 10**12)),
    "a pipe": os.mkfifo,
    "a device": to_device,
    "a folder": os.mkdir,
}

# --- Finished items of `advlearn reproduce` -------------------------------------------------------


def item(content: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    """Return a maker of an item whose identity and hash are right."""

    def make(path: Path) -> None:
        inner = content() if callable(content) else content
        head = f"advlearn item 1\nid {hashlib.sha256(inner).hexdigest()}\n".encode()
        path.write_bytes(head + inner)

    return make


def from_store(kind: str) -> Callable[[Path], str]:
    """Return what becomes of an item: it counts as not there, and is set aside."""

    def read(path: Path) -> str:
        path.rename(path.with_name("one.item"))
        store, scale = Store(path.parent), Scale(quick=True, data_dir=None)
        content = store.get("one", "id", lambda raw: work.sound(kind, "softmax", 0, scale, raw))
        assert content is None, "it was accepted"
        assert os.path.lexists(path.with_name("one.1.damaged"))
        return "is set aside as one.1.damaged, and made again"

    return read


MODEL_ITEMS = {
    "no item": written(b"\xff\xfe"),
    "another hash": written(b"advlearn item 1\nid " + b"0" * 64 + b"\ncontent"),
    "a head without end": written(b"advlearn item 1\n" + b"a" * 40_000_000),
    "NaN weights": item(lambda: model()[:-4] + b"\x00\x00\xc0\x7f"),
    "layers of 10^9 units": item(
        lambda: model(architecture="MaxoutNet", options={"hidden": [10**9]})
    ),
    "lists without end": item(header(b'{"a": [' + b"[]," * 6_000_000 + b"[]]}")),
    "a terabyte": claimed(10**12, b"advlearn item 1\n"),
    "a pipe": os.mkfifo,
    "a device": to_device,
    "a folder": os.mkdir,
}
MEASURED_ITEMS = {
    "deep JSON": item(DEEP),
    "more errors than digits": item(b'{"seconds": 1, "values": {"e": {"count": 9, "total": 3}}}'),
    "no values": item(b'{"seconds": 1}'),
}

# --- Notebooks ------------------------------------------------------------------------------------

NOTEBOOKS = {
    "empty": written(b""),
    "deep": written(b'{"cells": ' + DEEP + b"}"),
    "lists without end": written(b'{"cells": [' + b"[]," * 9_000_000 + b"[]]}"),
    "five megabytes of lists": written(b'{"cells": [' + b"[]," * 1_600_000 + b"[]]}"),
    "as many lists as are read": written(b'{"cells": [' + b"[]," * 399_990 + b"[]]}"),
    "not Unicode": written(b"\xff" * 1000),
    "cells that are texts": written(b'{"cells": ["a"], "metadata": {}, "nbformat": 4}'),
    "a million empty cells": written(b'{"nbformat": 4, "cells": [' + b"{}," * 1_600_000 + b"{}]}"),
    "a deep cell": written(b'{"nbformat": 4, "cells": [' + b"[" * 900 + b"]" * 900 + b"]}"),
    "a terabyte": claimed(10**12, b"{"),
    "a pipe": os.mkfifo,
    "a device": to_device,
    "a folder": os.mkdir,
}


def _look(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


def as_copy(path: Path) -> str:
    """Return what is told of a copy that is no notebook: it stays, a newer version lies beside."""
    mine, source = path.parent / "mine", path.parent / "source"
    mine.mkdir()
    source.mkdir()
    path.rename(mine / "00_start_here.ipynb")
    (source / "00_start_here.ipynb").write_text('{"cells": []}', encoding="utf-8")
    kind = _look(mine / "00_start_here.ipynb")
    (told,) = copies.refresh(source, mine)
    assert _look(mine / "00_start_here.ipynb") == kind, "it was replaced"
    return told


# A file of ten gigabytes would be hashed to its end, and one that is read to its end is no bomb.
COPIES = {kind: make for kind, make in NOTEBOOKS.items() if kind != "a terabyte"}

# --- Results --------------------------------------------------------------------------------------


def result(**parts: object) -> Callable[[Path], object]:
    usual = {"id": "a", "verdict": "reproduced", "ours": {"e": 0.5}, "paper": {}, "numbers": []}
    return written(json.dumps(usual | {"interval": {"e": [0, 1]}} | parts).encode())


RESULTS = {
    "deep": written(DEEP),
    "a megabyte of lists": written(b"[" + b"[]," * 330_000 + b"[]]"),
    "a number of 900,000 digits": written(b"9" * 900_000),
    "markup": result(verdict="<script>alert(1)</script>"),
    "a cell of a table": result(ours={"a|b": 0.5}, interval={"a|b": [0, 1]}),
    "a line of its own": result(id="softmax\nmaxout 0.0 %"),
    "a quantity that is a text": result(ours={"e": "low"}),
    "no interval": result(interval={}),
    "a terabyte": claimed(10**12, b"{"),
    "a pipe": os.mkfifo,
    "a device": to_device,
    "a folder": os.mkdir,
}

READERS = {
    "board": (BOARDS, refused(arena.read)),
    "submission": (SUBMISSIONS, refused(arena.admit)),
    "checkpoint": (CHECKPOINTS, refused(train)),
    "trained item": (MODEL_ITEMS, from_store("train")),
    "measured item": (MEASURED_ITEMS, from_store("measure")),
    "notebook": (NOTEBOOKS, refused(notebooks.read)),
    "own copy": (COPIES, as_copy),
    "result": (RESULTS, refused(paper.read_result)),
}
CASES = {
    f"{what}: {kind}": Case(make, read)
    for what, (kinds, read) in READERS.items()
    for kind, make in kinds.items()
}


def warm_up() -> None:
    """Load what the first file of each kind loads, so that it is not counted."""
    for what, (kinds, _) in READERS.items():
        with tempfile.TemporaryDirectory() as folder:
            measure(CASES[f"{what}: {next(iter(kinds))}"], Path(folder))
    arena.admit(model())


def data_and_models() -> tuple[list[str], bool]:
    """Return the rows that the tests of archives, images and models print, and if all passed."""
    file = Path(__file__).with_name("test_hostile_files.py")
    words = ["-q", "-s", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=file.parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return re.findall(r"\| .* MB \|$", done.stdout, re.MULTILINE), done.returncode == 0


def main() -> int:
    """Print the table; return 1 when a refusal costs too much."""
    warnings.simplefilter("ignore")
    warm_up()
    dear = 0
    print("| file | refused with | time | memory |\n|---|---|---|---|")
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            done = measure(case, Path(folder))
        dear += done.seconds > MOST_SECONDS or done.megabytes > MOST_MEGABYTES
        words = done.reason.replace(folder + "/", "").replace("|", "&#124;")[:160]
        print(f"| {name} | {words} | {done.seconds:.2f} s | {done.megabytes:.0f} MB |", flush=True)
    rows, good = data_and_models()
    print(*rows, sep="\n")
    print(f"\n{len(CASES) + len(rows)} files, {dear} too dear.")
    if not good:
        print("tests/test_hostile_files.py has failures: run it.")
    return int(dear > 0 or not good)


if __name__ == "__main__":
    sys.exit(main())
