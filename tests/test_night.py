"""The arena night: hidden digits, submissions of all kinds, rounds, and nothing lost."""

from __future__ import annotations

import csv
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save
from typer.testing import CliRunner

from advlearn import arena
from advlearn.arena import night
from advlearn.arena.entry import RefusedError
from advlearn.arena.night import Line, Night, Standings, as_page, hidden_digits
from advlearn.batches import Dataset
from advlearn.cli import app as cli
from advlearn.data import load_mnist, reference
from advlearn.metrics import Rate
from advlearn.models import SoftmaxRegression
from advlearn.training import Recipe, fit

SECRET = b"a secret of eight"
RULES = arena.Rules(eps=0.1, examples=40, draws=1, steps=4, restarts=1, queries=15)
POOL = load_mnist("test", source="offline")


def pack(model):
    return reference.pack(model, "SoftmaxRegression", {}, {})


def constant(digit):
    """Return a model that gives every image one answer: right on a tenth, whatever is tried."""
    model = SoftmaxRegression()
    with torch.no_grad():
        model.linear.bias[digit] = 1.0
    return pack(model)


@pytest.fixture(scope="module")
def models():
    """Return a trained model and an untrained one, as files."""
    trained = SoftmaxRegression()
    fit(trained, load_mnist("train", source="offline"), Recipe(epochs=2), progress=False)
    return {"trained": pack(trained), "untrained": pack(SoftmaxRegression())}


def attack(change):
    return save({night.TENSOR: change.contiguous()})


def fill(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def at(tmp_path, **options):
    return Night(tmp_path / "in", tmp_path / "out", rules=RULES, secret=SECRET, **options)


# --- Digits ---------------------------------------------------------------------------------------


def test_each_round_has_digits_of_its_own():
    """Of images that are one grey each, the middle tells which one it was."""
    greys = torch.arange(1, 601) / 600
    pool = Dataset(greys.view(-1, 1, 1, 1).expand(-1, 1, 28, 28).clone(), torch.arange(600) % 10)
    rounds = [hidden_digits(SECRET, number, 200, pool) for number in (1, 2, 3)]
    middles = torch.cat([one.x[:, 0, 14, 14] for one in rounds])
    numbers = (middles * 600).round().long() - 1
    assert sorted(numbers.tolist()) == list(range(600)), "each once, in one of the rounds"
    assert torch.equal(pool.y[numbers], torch.cat([one.y for one in rounds])), "with its own label"
    again = hidden_digits(SECRET, 1, 200, pool)
    assert torch.equal(again.x, rounds[0].x), "the same secret, the same digits"
    assert not torch.equal(hidden_digits(b"another secret", 1, 200, pool).y, rounds[0].y)


def test_no_hidden_digit_is_one_that_a_learner_has():
    hidden = hidden_digits(SECRET, 1, 300, POOL)
    known = load_mnist("all", source="offline").x.flatten(1)
    closest = torch.cdist(hidden.x.flatten(1), known).amin(1)
    assert float(closest.min()) > 0.5
    assert hidden.x.shape == (300, 1, 28, 28)
    assert float(hidden.x.min()) >= 0
    assert float(hidden.x.max()) <= 1
    assert int(hidden.y.bincount(minlength=10).min()) > 10, "all classes"


def test_hidden_digits_are_still_digits():
    """A network that never saw them reads them about as well as those of the pool."""
    hidden = hidden_digits(SECRET, 1, 300, POOL)
    model = reference.load("maxout")
    with torch.no_grad():
        right = (model(hidden.x).argmax(1) == hidden.y).double().mean()
    assert float(right) > 0.9


def test_rounds_end_when_the_digits_are_used_up():
    hidden_digits(SECRET, 3, 300, POOL)
    with pytest.raises(ValueError, match=r"1,000 digits are enough for 3 rounds of 300"):
        hidden_digits(SECRET, 4, 300, POOL)


def test_a_secret_is_made_once_and_kept_to_oneself(tmp_path):
    first = night.secret_of(tmp_path)
    assert len(first) == 32
    assert night.secret_of(tmp_path) == first
    if sys.platform != "win32":
        assert (tmp_path / ".night" / "secret").stat().st_mode & 0o077 == 0
    (tmp_path / "short").write_text("1234")
    with pytest.raises(ValueError, match="eight or more"):
        night.secret_of(tmp_path, tmp_path / "short")
    assert first.decode() not in night.label(first, 1)


# --- Submissions ----------------------------------------------------------------------------------


def test_names_come_from_files_and_folders(tmp_path):
    fill(tmp_path, {
        "kim.safetensors": b"1", "Lee_12_assignsubmission_file/model.safetensors": b"2",
        "박민지/a.safetensors": b"3", "박민지/b.safetensors": b"4", "README.md": b"5",
        ".hidden.safetensors": b"6", "__MACOSX/x.safetensors": b"7", "notes.txt": b"8",
    })  # fmt: skip
    found = {one.name: one.content for one in night.submissions(tmp_path)}
    assert found == {
        "kim": b"1", "Lee_12_assignsubmission_file": b"2", "박민지 a": b"3", "박민지 b": b"4",
    }  # fmt: skip


def test_links_twins_and_empty_files_are_refused(tmp_path):
    fill(
        tmp_path,
        {"a (1).safetensors": b"1", "a 1.safetensors": b"2", "empty.pt": b"", "!.pt": b"3"},
    )
    (tmp_path / "link.safetensors").symlink_to("/etc/hostname")
    refused = {one.name: one.refused for one in night.submissions(tmp_path) if one.refused}
    text = " ".join(refused.values())
    assert "is a link" in refused["link"]
    assert "has the name of another file" in text
    assert "'empty.pt' is empty" in text
    assert "has no name" in text
    assert len(night.submissions(tmp_path)) == 5, "each is told of"


SMALL = torch.full((1, 1, 28, 28), 0.2)
REFUSED = {
    "too large": (attack(SMALL * 2), "0.4000; at most 0.25"),
    "not finite": (attack(SMALL * torch.nan), "NaN or infinity"),
    "another shape": (attack(torch.zeros(2, 1, 28, 28)), r"must hold one tensor"),
    "two tensors": (save({night.TENSOR: SMALL, "b": SMALL.clone()}), "must hold one tensor"),
    "whole numbers": (attack(torch.zeros(1, 1, 28, 28, dtype=torch.int32)), "kind I32"),
    "cut off": (attack(SMALL)[:-9], "damaged"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_attacks_that_are_refused(kind):
    content, message = REFUSED[kind]
    with pytest.raises(RefusedError, match=message):
        night.admit_attack(content, "it", 0.25)


def test_attacks_that_are_taken():
    for dtype in (torch.float16, torch.float32, torch.float64):
        change = night.admit_attack(attack((SMALL * 1.25).to(dtype)), "it", 0.25)
        assert change.dtype == torch.float32
        assert float(change.abs().max()) <= 0.25
    assert night.admit_attack(attack(torch.zeros(10, 1, 28, 28)), "it", 0.25).shape[0] == 10
    assert night.is_attack(attack(SMALL))
    assert not night.is_attack(pickle.dumps(1))
    assert not night.is_attack(pack(SoftmaxRegression()))


# --- A night --------------------------------------------------------------------------------------


def lines(found):
    return {line.name: line for line in found.models + found.attacks}


@pytest.fixture(scope="module")
def played(models, tmp_path_factory):
    """Play one round with good, bad and hostile submissions; return the place and the standings."""
    place = tmp_path_factory.mktemp("night")
    fill(place / "in", {
        "good.safetensors": models["trained"],
        "copy.safetensors": models["trained"],
        "zero.safetensors": models["untrained"],
        "pickle.pt": pickle.dumps({"a": 1}),
        "cut.safetensors": models["trained"][:-7],
        "<b>bold.safetensors": models["trained"][:-8],
        "grey.safetensors": attack(SMALL / 2),
        "loud.safetensors": attack(SMALL),
    })  # fmt: skip
    return place, at(place).run()


def test_a_round_scores_what_can_be_scored(played):
    place, found = played
    by_name = lines(found)
    assert {name for name, line in by_name.items() if line.state == "scored"} >= {
        "good", "copy", "zero", "grey",
    }  # fmt: skip
    assert {"pickle", "cut", "loud"} <= {
        n for n, line in by_name.items() if line.state == "refused"
    }
    assert "whatever code is in it" in by_name["pickle"].reason
    assert "at most 0.1" in by_name["loud"].reason
    assert by_name["good"].copy_of == "copy", "the first by name is the original"
    assert float(by_name["good"].clean) > 0.6
    assert by_name["good"].score == by_name["copy"].score
    assert float(by_name["good"].score) > 0.2
    assert found.models[0].place == 1
    assert not (place / "out" / "board.html").read_text(encoding="utf-8").count("<b>bold")


def test_scores_are_those_of_the_arena(played, models):
    place, found = played
    data, crafted = night._read_digits(place / "out" / ".night" / "round-1" / "digits.safetensors")
    rules = night.replace(RULES, digits=night.label(SECRET, 1))
    report = arena.score(models["trained"], name="good", rules=rules, sources=crafted, data=data)
    assert lines(found)["good"].score == report.score
    board = arena.read(place / "out" / "leaderboard-round-1.csv")
    assert {line.name for line in board} == {"good", "copy", "zero"}
    assert all("hidden" in line.rules and "round 1" in line.rules for line in board)


def test_an_attack_is_tried_on_the_models_of_others(played, models):
    place, found = played
    data, _ = night._read_digits(place / "out" / ".night" / "round-1" / "digits.safetensors")
    model = arena.admit(models["trained"]).model
    right = model(data.x).argmax(1) == data.y
    still = model((data.x + 0.1).clamp(0, 1)).argmax(1) == data.y
    assert lines(found)["grey"].score == Rate(int((right & ~still).sum()), int(right.sum())), (
        "the untrained model and the copy do not count"
    )


def test_the_table_of_results_tells_every_reason(played):
    place, found = played
    with (place / "out" / "results-round-1.csv").open(encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(lines(found))
    assert all(row["remark"] for row in rows.values() if row["state"] == "refused")
    assert rows["good"]["remark"] == "the same file as copy"
    assert rows["good"]["of"] == "40"


def test_nothing_is_judged_twice(played, monkeypatch):
    place, found = played

    def fail(self, jobs):
        assert not list(jobs), "everything is known"
        return iter(())

    monkeypatch.setattr(Night, "_worked", fail)
    again = at(place).run()
    assert as_page(again) == as_page(found)


def test_a_second_round_shows_who_has_won_places(played, models, tmp_path):
    place, _ = played
    shutil.copytree(place, tmp_path / "n")
    for name in ("copy", "zero"):
        (tmp_path / "n" / "in" / f"{name}.safetensors").unlink()
    fill(tmp_path / "n" / "in", {"zero.safetensors": models["trained"]})
    found = at(tmp_path / "n", number=2).run()
    line = lines(found)["zero"]
    assert line.place == 1
    assert line.moved == 2, "from the third place"
    assert "▲2" in (tmp_path / "n" / "out" / "board.html").read_text(encoding="utf-8")
    assert (tmp_path / "n" / "out" / "results-round-1.csv").exists(), "round 1 is kept"


def test_other_rules_or_another_secret_do_not_go_into_one_round(played):
    place, _ = played
    with pytest.raises(ValueError, match="other rules or another secret"):
        Night(place / "in", place / "out", rules=RULES, secret=b"another secret")
    with pytest.raises(ValueError, match="lies in the folder of the submissions"):
        Night(place / "in", place / "in" / "out", rules=RULES, secret=SECRET)


def test_a_round_takes_so_many_files_of_one_name(models, tmp_path):
    files = [models["untrained"], constant(1), constant(2)]
    for number, content in enumerate(files):
        fill(tmp_path / "in", {"kim.safetensors": content})
        found = at(tmp_path, tries=2).run()
        line = lines(found)["kim"]
        assert line.state == ("scored" if number < 2 else "refused")
    assert "2 files of this name" in line.reason
    fill(tmp_path / "in", {"kim.safetensors": files[1]})
    assert lines(at(tmp_path, tries=2).run())["kim"].state == "scored", (
        "an earlier one counts again"
    )


def test_a_submission_that_takes_too_long_is_ended(tmp_path):
    # No search takes a digit from a model that always says the same, so it goes on to its end.
    fill(tmp_path / "in", {"slow.safetensors": constant(1)})
    here = Night(
        tmp_path / "in", tmp_path / "out", secret=SECRET, seconds=1,
        rules=arena.Rules(examples=300, queries=60_000),
    )  # fmt: skip
    line = lines(here.run())["slow"]
    assert line.state == "failed"
    assert "more than 1 seconds of processor time" in line.reason


def test_a_job_whose_night_has_ended_ends_without_a_word(tmp_path, monkeypatch):
    """Its result has no reader any more: that is no error of anybody's."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # they are for the job's own process
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    ours.close()
    night._job("pairs", {"content": b"", "attacks": {}, "digits": tmp_path}, 10.0, theirs)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="started where Ctrl-C is ignored, and so are its children",
)
def test_a_night_that_is_interrupted_goes_on(models, tmp_path):
    """Ctrl-C in the middle: what was judged is kept, and only the rest is judged later."""
    fill(tmp_path / "in", {f"m{k}.safetensors": constant(k) for k in range(4)})
    command = [
        sys.executable, "-m", "advlearn.cli", "arena", "night", str(tmp_path / "in"),
        "--out", str(tmp_path / "out"), "--digits", "20",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )
    kept = tmp_path / "out" / ".night" / "round-1"
    until = time.monotonic() + 240
    while time.monotonic() < until and len(done(kept)) < 1:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    first = done(kept)
    assert 1 <= len(first) < 4, said
    assert process.returncode == 1
    assert "Stopped. What was judged is kept" in said
    assert "Traceback" not in said
    stamps = {path: path.stat().st_mtime_ns for path in first}
    again = CliRunner().invoke(cli.app, command[3:])
    assert again.exit_code == 0, again.output
    assert "4 models (4 scored)" in again.output
    assert len(done(kept)) == 4
    assert {path: path.stat().st_mtime_ns for path in first} == stamps, "not judged again"


def done(kept):
    return [p for p in kept.glob("*.json") if re.fullmatch(r"[0-9a-f]{32}\.json", p.name)]


# --- The page -------------------------------------------------------------------------------------


def test_a_page_of_thirty_asks_nobody_for_anything():
    many = [
        Line(f"learner <{k}> & co", "scored", Rate(300 - k, 300), Rate(300, 300), place=k + 1)
        for k in range(30)
    ]
    page = as_page(Standings(1, RULES, [*many, Line("late")], [Line("a", "scored", Rate(1, 9))]))
    assert "http" not in page.replace('http-equiv="refresh"', "")
    assert "<script" not in page
    assert "<{" not in page
    assert "learner &lt;0&gt; &amp; co" in page
    assert "1 wait to be judged" in page
    assert page.count("<li") == 30 - 2 + 1, "two lines make room for the attacks"
    assert "3 more are in the table" in page


def test_a_page_without_submissions():
    assert "Nothing was handed in yet" in as_page(Standings(1, RULES))


def test_bad_options_are_told(tmp_path):
    fill(tmp_path / "in", {"a.safetensors": b"1"})
    (tmp_path / "file").write_text("")
    for options, message in (
        (["--out", str(tmp_path / "file")], "is not a folder"),
        (["--round", "4"], "enough for 3 rounds"),
        (["--data", str(tmp_path)], "no MNIST"),
        (["--eps", "0"], "eps"),
    ):
        arguments = ["arena", "night", str(tmp_path / "in"), "--out", str(tmp_path / "o"), *options]
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 1, (options, result.output)
        assert message in result.output, (options, result.output)
    result = CliRunner().invoke(
        cli.app, ["arena", "night", str(tmp_path / "none"), "--out", str(tmp_path / "new")]
    )
    assert result.exit_code == 1
    assert not (tmp_path / "new").exists(), "nothing is made for a mistake"
