"""A run: stopped, resumed, changed, damaged, out of space. What is finished is never lost."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from advlearn.data import DownloadError, reference
from advlearn.reproduce.engine import plan as schedule
from advlearn.reproduce.engine import work
from advlearn.reproduce.engine.run import reproduce, write_json
from advlearn.reproduce.engine.store import Store, StoreError
from advlearn.reproduce.models.images import as_read
from advlearn.reproduce.models.spec import Scale
from advlearn.reproduce.rows import EXPERIMENTS

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parent.parent
ROWS = ("logistic-3v7", "softmax")
ITEMS = [
    *("train-logistic-3v7-0", "attack-logistic-3v7-0", "measure-logistic-3v7-0"),
    *("train-softmax-0", "attack-softmax-0", "measure-softmax-0"),
]


class Worker:
    """Do the work of items, and note which; break at one of them if told so."""

    def __init__(self, monkeypatch):
        self.done, self.breaks = [], {}
        self._do = work.do
        monkeypatch.setattr(work, "do", self)

    def __call__(self, kind, name, seed, scale, given):
        key = f"{kind}-{name}-{seed}"
        if key in self.breaks:
            raise self.breaks[key]
        self.done.append(key)
        return self._do(kind, name, seed, scale, given)


@pytest.fixture
def worker(monkeypatch):
    return Worker(monkeypatch)


def run(folder, **options):
    return reproduce(ROWS, **{"quick": True, "out": folder} | options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run from start to end, to compare with."""
    folder = tmp_path_factory.mktemp("finished")
    keys = []
    torch.set_num_threads(1)
    outcome = run(folder, progress=lambda key, left: keys.append((key, left)))
    return outcome, keys


def same_numbers(first, second):
    """Compare everything but the seconds."""
    assert first.results.keys() == second.results.keys()
    for id, result in first.results.items():
        other = second.results[id]
        assert result | {"about": None} == other | {"about": None}
    assert first.attacked == second.attacked
    assert first.weights.keys() == second.weights.keys()
    for key, content in first.weights.items():
        mine, _ = reference.unpack(content)
        theirs, _ = reference.unpack(second.weights[key])
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert a.equal(b), key


def items_in(folder):
    return sorted(path.name for path in (folder / "items").iterdir())


# --- A run ----------------------------------------------------------------------------------------


def test_a_run_does_each_item_once_after_those_that_it_needs(finished):
    outcome, progress = finished
    assert [key for key, _ in progress] == ITEMS
    left = [seconds for _, seconds in progress]
    assert left == sorted(left, reverse=True)
    assert left[-1] == pytest.approx(0)
    assert list(outcome.results) == list(ROWS)
    assert set(outcome.weights) == set(outcome.attacked) == {(name, 0) for name in ROWS}
    assert items_in(outcome.folder) == sorted(f"{key}.item" for key in ITEMS)


def test_results_are_written_as_they_are_returned(finished):
    outcome, _ = finished
    for id, result in outcome.results.items():
        text = (outcome.folder / "results" / f"{id}.json").read_text(encoding="utf-8")
        assert json.loads(text) == result
        assert result["about"]["scale"] == "quick"
        assert set(result["about"]["versions"]) == {"python", "advlearn", "torch", "numpy"}
        digests = result["about"]["data sha256"]
        assert set(digests) == set(result["about"]["data"]) == {"3v7", "digits"}
        for kind, digest in digests.items():
            pixels = as_read(kind, "test", Scale(quick=True)).x.numpy().tobytes()
            assert digest == hashlib.sha256(pixels).hexdigest()


def test_a_run_leaves_the_random_state_as_it_was(tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    reproduce(("softmax",), quick=True, out=tmp_path)
    assert torch.get_rng_state().equal(before)


def test_fewer_seeds_can_be_asked_for():
    scale = Scale(quick=True)
    experiment = EXPERIMENTS["maxout"]
    for seeds, expected in ((None, experiment.seeds), (2, 2), (99, experiment.seeds)):
        measured = [i for i in schedule.plan([experiment], seeds, scale) if i.kind == "measure"]
        assert [item.seed for item in measured] == list(range(expected))


# --- Stopped and resumed --------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["attack-logistic-3v7-0", "measure-softmax-0"])
def test_an_interrupted_run_goes_on_where_it_stopped(worker, tmp_path, finished, stop):
    worker.breaks = {stop: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    before = ITEMS[: ITEMS.index(stop)]
    assert worker.done == before
    assert items_in(tmp_path) == sorted(f"{key}.item" for key in before)
    worker.done, worker.breaks = [], {}
    outcome = run(tmp_path, resume=True)
    assert worker.done == ITEMS[len(before) :], "a finished item was done again, or one left out"
    same_numbers(outcome, finished[0])


def test_an_interrupt_while_an_item_is_written_leaves_no_half(monkeypatch, tmp_path):
    store = Store(tmp_path)
    store.put("first", "id", b"kept")

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)  # the content is written, its place not taken
    with pytest.raises(KeyboardInterrupt):
        store.put("second", "id", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["first.item"]


def test_finished_items_are_not_overwritten_without_resume(worker, tmp_path):
    worker.breaks = {"train-softmax-0": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "items").iterdir()}
    with pytest.raises(FileExistsError, match=r"holds 3 finished items\. Run again with --resume"):
        run(tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "items").iterdir()} == before


def test_a_finished_run_is_not_done_again(worker, finished):
    outcome, _ = finished
    again = run(outcome.folder, resume=True)
    assert worker.done == []
    same_numbers(again, outcome)


# --- Damage ---------------------------------------------------------------------------------------

DAMAGE = {
    "a flipped bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "cut short": lambda content: content[: len(content) // 2],
    "cut in its head": lambda content: content[:20],
    "empty": lambda content: b"",
    "something else": lambda content: b"\xff\xfe not an item\n" + content,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_item_counts_as_not_there_and_is_set_aside(tmp_path, damage):
    store = Store(tmp_path)
    store.put("one", "id", b"content of some length")
    path = tmp_path / "one.item"
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    assert store.get("one", "id") is None
    assert (tmp_path / "one.1.damaged").read_bytes() == broken
    assert store.finished() == []
    store.put("one", "id", b"anew")
    assert store.get("one", "id") == b"anew"


def a_pipe(path):
    os.mkfifo(path)


def a_folder(path):
    path.mkdir()


def a_link_to_nowhere(path):
    path.symlink_to("nowhere")


def a_huge_file(path):
    with path.open("wb") as file:
        file.truncate(10**12)


def a_long_head(path):
    path.write_bytes(b"advlearn item 1\n" + b"a" * 1_000_000)


@pytest.mark.parametrize("make", [a_pipe, a_folder, a_link_to_nowhere, a_huge_file, a_long_head])
def test_what_is_no_item_is_set_aside_and_never_read(tmp_path, make):
    store = Store(tmp_path)
    make(tmp_path / "one.item")
    kind = (tmp_path / "one.item").lstat()
    assert store.get("one", "id") is None
    assert (tmp_path / "one.1.damaged").lstat().st_ino == kind.st_ino
    store.put("one", "id", b"anew")
    assert store.get("one", "id") == b"anew"
    assert not (tmp_path / "nowhere").exists()


def test_an_item_that_would_not_be_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="one has 50,000,000 bytes; an item has"):
        Store(tmp_path).put("one", "id", bytes(50_000_000))
    assert list(tmp_path.iterdir()) == []


SOFTMAX = reference.build("SoftmaxRegression", {})
PACKED = reference.pack(SOFTMAX, "SoftmaxRegression", {}, {})


def lying(kind):
    """Return contents whose hash is right, and which are no item all the same."""
    if kind == "train":
        other = reference.build("SoftmaxRegression", {"classes": 3})
        diverged = PACKED[:-4] + b"\x00\x00\xc0\x7f"
        return {
            "another architecture": reference.pack(other, "SoftmaxRegression", {"classes": 3}, {}),
            "NaN weights": diverged,
            "no model": b"{}",
            "a long header": (2_000_000).to_bytes(8, "little") + b"{" + b" " * 3_000_000,
        }
    return {
        "deep JSON": b"[" * 200_000,
        "no JSON": b"\xff",
        "no values": b'{"seconds": 1}',
        "values that are none": b'{"seconds": 1, "values": {"error": "low"}}',
        "more errors than digits": b'{"seconds": 1, "values": {"e": {"count": 9, "total": 3}}}',
        "other counts": b'{"seconds": 1, "values": {"e": {"count": 1, "of": 3}}}',
        "no seconds": b'{"seconds": null, "values": {}}',
        "a number of 5,000 digits": b'{"seconds": 1, "values": {"e": ' + b"9" * 5000 + b"}}",
    }


@pytest.mark.parametrize(
    ("kind", "what"), [(kind, what) for kind in ("train", "measure") for what in lying(kind)]
)
def test_an_item_whose_hash_is_right_may_lie_all_the_same(tmp_path, kind, what):
    content = lying(kind)[what]
    sound = functools.partial(work.sound, kind, "softmax", 0, Scale(quick=False, data_dir=None))
    store = Store(tmp_path)
    store.put("one", "id", content)
    assert store.get("one", "id", sound) is None
    assert (tmp_path / "one.1.damaged").is_file()


def test_what_is_done_is_sound(finished):
    outcome, _ = finished
    for (name, seed), content in outcome.weights.items():
        assert work.sound("train", name, seed, Scale(quick=True), content)
    assert work.sound("measure", "softmax", 0, Scale(quick=True), b'{"seconds": 1, "values": {}}')


def test_a_damaged_item_is_done_again_and_no_other(worker, tmp_path, finished):
    run(tmp_path)
    path = tmp_path / "items" / "attack-softmax-0.item"
    path.write_bytes(path.read_bytes()[:-5])
    worker.done = []
    outcome = run(tmp_path, resume=True)
    assert worker.done == ["attack-softmax-0"]
    same_numbers(outcome, finished[0])


# --- No space -------------------------------------------------------------------------------------


class Disk:
    """A disk that is full, or read-only, from the nth write on: half of a file still fits."""

    def __init__(self, monkeypatch, *, writes, number=errno.ENOSPC, only=".item"):
        self.left, self._number, self._only, self._real = writes, number, only, Path.open
        disk = self

        def open(path, mode="r", *arguments, **options):
            file = disk._real(path, mode, *arguments, **options)
            if "x" in mode and disk._only in path.name:
                disk.left -= 1
                if disk.left < 0:
                    whole = file.write

                    def write(content):
                        whole(content[: len(content) // 2])
                        raise OSError(disk._number, os.strerror(disk._number), str(path))

                    return Half(file, write)
            return file

        monkeypatch.setattr(Path, "open", open)


class Half:
    """A file whose writing fails half-way."""

    def __init__(self, file, write):
        self._file, self.write = file, write

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def test_a_full_disk_keeps_what_is_finished_and_nothing_half_written(
    worker, monkeypatch, tmp_path, finished
):
    with monkeypatch.context() as patched:
        Disk(patched, writes=4)
        with pytest.raises(StoreError) as caught:
            run(tmp_path)
    words = str(caught.value.args[-1])
    assert words.startswith("attack-softmax-0 could not be kept (No space left on device).")
    assert "All finished items before it are. Free 0.1 MB or more" in words
    assert words.endswith("run again with --resume.")
    assert caught.value.errno == errno.ENOSPC
    assert items_in(tmp_path) == sorted(f"{key}.item" for key in ITEMS[:4])
    worker.done = []
    outcome = run(tmp_path, resume=True)
    assert worker.done == ITEMS[4:]
    same_numbers(outcome, finished[0])


def test_a_disk_that_is_full_at_the_results_is_named_too(monkeypatch, tmp_path, finished):
    path = tmp_path / "row.json"
    write_json(path, {"old": 1})
    Disk(monkeypatch, writes=0, only=".json")
    with pytest.raises(StoreError, match=r"row\.json could not be written .*No space.*Free .* MB"):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["row.json"]


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    store = Store(tmp_path)
    Disk(monkeypatch, writes=0, number=errno.EACCES)
    with pytest.raises(StoreError, match=r"Permission denied.*Make .* writable, then run again"):
        store.put("one", "id", b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot make .*file.*Pass --out FOLDER"):
        reproduce(("softmax",), quick=True, out=tmp_path / "file" / "out")


# --- Failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad value"),
        ArithmeticError("the loss became nan"),
        RuntimeError("not enough memory"),
        OSError("unreadable"),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_item_that_fails_names_itself_and_keeps_the_others(worker, tmp_path, error):
    worker.breaks = {"train-softmax-0": error}
    words = str(error) or "AssertionError"
    with pytest.raises(
        ValueError, match=rf"^train-softmax-0 failed: {words}\. Finished items are kept.*--resume"
    ) as caught:
        run(tmp_path)
    assert caught.value.__cause__ is error
    assert items_in(tmp_path) == sorted(f"{key}.item" for key in ITEMS[:3])


BAD = [
    ({"rows": ("softmax", "cnn")}, ValueError, r"row must be one of panda, .*, got 'cnn'"),
    ({"seeds": 0}, ValueError, "seeds must be at least 1"),
    ({"seeds": 1.5}, TypeError, "seeds must be a whole number"),
    ({"workers": -1}, ValueError, "workers must be at least 0"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD, ids=[str(bad[0]) for bad in BAD])
def test_bad_arguments_are_named_before_any_work(worker, tmp_path, change, error, words):
    options = {"rows": ROWS, "quick": True, "out": tmp_path / "new"} | change
    with pytest.raises(error, match=words):
        reproduce(options.pop("rows"), **options)
    assert worker.done == []
    assert not (tmp_path / "new").exists()


def test_missing_images_are_named_before_any_work(worker, tmp_path, monkeypatch):
    """A full run must not turn into one on the offline digits."""
    monkeypatch.setenv("ADVLEARN_OFFLINE", "1")
    with pytest.raises((DownloadError, FileNotFoundError), match="MNIST"):
        reproduce(("softmax",), data_dir=tmp_path, out=tmp_path / "new")
    assert worker.done == []
