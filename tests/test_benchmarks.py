"""The benchmark runs with our own code alone, takes turns, and its page says what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from advlearn.data import load_mnist
from advlearn.exercises import lesson03

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    """Import the scripts the way Python does when one of them is run."""
    names = ("bracket", "classroom", "install", "lab", "peers", "report", "run")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: __import__(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


@pytest.fixture(scope="module")
def run(modules):
    return modules["run"]


@pytest.fixture(scope="module")
def absent(modules):
    """Give every peer as one that is not installed."""
    peers = modules["peers"]
    return [peers.Peer(name, None, make) for name, (_, make) in peers._PEERS.items()]


@pytest.fixture(scope="module")
def published(run, absent, tmp_path_factory):
    """Do the quick benchmark once, with imports that cost nothing, and write its files."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "import_seconds", lambda statement: 1.0 + len(statement) / 1000)
        patch.setattr(run, "find_peers", lambda folder: absent)
        patch.setattr(run, "find_pgd_peers", lambda folder: absent)
        run.main(["--quick", "--output", str(folder)])
    return folder


def test_calls_take_turns_and_warm_up_is_not_counted(run):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = run.alternate(calls, 2, warm_up=1, before=lambda: order.append("-"))
    assert "".join(order) == "-a-b-c" * 3
    assert {name: len(spent) for name, spent in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_limit_of_time_ends_the_rounds_but_leaves_enough(run):
    seconds = run.alternate({"a": int, "b": int}, 1000, limit=0.0)
    assert [len(spent) for spent in seconds.values()] == [run.LEAST] * 2


def test_the_ratio_is_the_median_of_the_rounds_ratios_to_the_fastest(run):
    seconds = {"advlearn": [2.0, 2.0, 9.0], "slow": [9.0, 9.0, 9.0], "fast": [4.0, 2.0, 9.0]}
    result = run.compare("x", "x", seconds, target=0.9)
    assert result["fastest"] == "fast"
    assert result["ratio"][1] == 1.0
    assert result["reached"] is False
    assert run.compare("x", "x", seconds, target=1.0)["reached"] is True


def test_results_have_their_schema(published):
    measured = json.loads((published / "results.json").read_text(encoding="utf-8"))
    assert set(measured) == {"machine", "settings", "results", "agreement"}
    assert {"cpu", "cores", "threads", "python", "releases"} <= set(measured["machine"])
    names = [result["name"] for result in measured["results"]]
    assert len(names) == len(set(names)) >= 7
    for result in measured["results"]:
        low, middle, high = result["seconds"][result["ours"]]["quartiles"]
        assert 0 < low <= middle <= high
        assert result["seconds"][result["ours"]]["rounds"]
        assert (result["ratio"] is None) == (result["fastest"] is None)
        if result["ratio"] is None or result["target"] is None:
            assert result["reached"] is None
        else:
            assert result["reached"] == (result["ratio"][1] <= result["target"])


def test_absent_peers_are_named_and_nothing_is_compared_with_them(published):
    measured = json.loads((published / "results.json").read_text(encoding="utf-8"))
    single = next(r for r in measured["results"] if r["name"].startswith("fgsm-maxout"))
    assert single["seconds"]["torchattacks"] == {"not timed": "not installed"}
    assert single["ratio"] is None
    assert "torchattacks: not timed, not installed." in (published / "README.md").read_text("utf-8")


def test_pgd_is_timed_beside_torchattacks_and_beside_all(run, modules, tmp_path):
    """On few digits, with a peer that finds nothing: errors found are told beside the times."""

    def lame(model, x, y, eps):
        def attack():
            assert torch.is_grad_enabled()
            return x.numpy()

        return attack

    peer = modules["peers"].Peer
    settings = replace(run.QUICK, attacked=10)
    results = run.pgd_results(settings, [peer("torchattacks", "1", lame), peer("b", "1", lame)])
    assert len(results) == 2 * len(run.UNDER_PGD)
    for beside, whole in zip(results[::2], results[1::2], strict=True):
        assert set(beside["errors"]) == {"advlearn", "torchattacks"}
        assert set(whole["errors"]) == {"advlearn", "torchattacks", "b"}
        assert beside["errors"]["advlearn"] >= beside["errors"]["torchattacks"]
        assert beside["fastest"] == "torchattacks"
    assert results[0]["errors"]["advlearn"] >= 9
    text = modules["report"].table(
        {"results": results, "agreement": [], "machine": run.machine(settings, [])}
    )
    assert "errors found, median of the rounds" in text


def test_page_figure_and_results_belong_together(modules, published):
    measured = json.loads((published / "results.json").read_text(encoding="utf-8"))
    page = (published / "README.md").read_text(encoding="utf-8")
    assert modules["report"].table(measured) in page
    assert (published / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_published_page_says_what_results_json_says(modules):
    report = modules["report"]
    measured = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    between = page.partition(report.START)[2].partition(report.END)[0]
    assert report.table(measured) in between
    assert len(measured["settings"]["batches"]) > 1, "the published run is not a quick one"


def test_writing_the_page_keeps_the_text_around_it(modules, published, tmp_path):
    report = modules["report"]
    measured = json.loads((published / "results.json").read_text(encoding="utf-8"))
    page = tmp_path / "README.md"
    page.write_text(f"before\n{report.START}\nold\n{report.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        report.write_page(page, measured, "an alt text")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("| what") == 1


def test_an_attack_whose_images_differ_is_not_timed(modules, run):
    def wrong(model, x, y, eps):
        return lambda: (x + eps).clamp(0, 1)

    def right(model, x, y, eps):
        def attack():
            pixels = x.clone().requires_grad_()
            nn.functional.cross_entropy(model(pixels), y).backward()  # leaves gradients behind
            return (x + eps * pixels.grad.sign()).clamp(0, 1).numpy()

        return attack

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
    data = load_mnist("all", source="offline").take(slice(0, 5000, 250))
    peer = modules["peers"].Peer
    contest = run.Attacks(model, data, [peer("wrong", "1", wrong), peer("right", "1", right)])
    assert set(contest.single()) == {"advlearn", "right"}
    assert "images differ" in contest.skipped["wrong"]
    assert contest.agreement["right"]["equal pixels"] >= run.SAME_SHARE
    contest.restore()
    assert all(parameter.grad is None for parameter in model.parameters())
    counts = [measure() for measure in contest.errors().values()]
    assert counts[0] == counts[1]
    for own, other in zip(*(craft() for craft in contest.images().values()), strict=True):
        assert torch.allclose(own, torch.as_tensor(other), atol=1e-6)


def test_certifying_is_timed_beside_forward_passes_over_the_same_batches(run, monkeypatch):
    seen = {"forward": [], "bounds": []}

    class Seen(run.ConvNet):
        def forward(self, x):
            seen["forward" if type(x) is torch.Tensor else "bounds"].append(len(x))
            assert torch.get_num_threads() == 1
            return super().forward(x)

    monkeypatch.setattr(run, "ConvNet", Seen)
    data = load_mnist("all", source="offline").take(slice(0, 5000, 4))
    before = torch.get_num_threads()
    result = run.certified_result(run.QUICK, data)
    assert torch.get_num_threads() == before
    assert (result["ours"], result["fastest"]) == ("certified_error_rate", "forward passes")
    assert result["target"] == 3.0
    assert result["reached"] == (result["ratio"][1] <= 3)
    rounds = run.QUICK.rounds + 1
    # A proof looks at up to 256 images of each batch as they are, and bounds 32 of them alone.
    whole = [size for size in seen["forward"] if size > 256]
    assert whole == [1000, 1000, 500] * rounds
    assert sum(size for size in seen["bounds"] if size != 32) == 2500 * rounds
    assert seen["bounds"].count(32) == 3 * rounds


def test_our_epoch_and_torchvisions_hold_the_same_digits(run):
    data = load_mnist("all", source="offline").take(slice(0, 5000, 40))
    digits = run.torchvision_digits(data)
    image, label = digits[7]
    assert torch.allclose(image, data.x[7], atol=1e-6)
    assert label == int(data.y[7])
    x, y = map(torch.cat, zip(*run.our_epoch(data), strict=True))
    assert sorted(y.tolist()) == sorted(data.y.tolist())
    assert x.double().sum() == pytest.approx(float(data.x.double().sum()))


def test_a_peer_that_breaks_is_left_out(modules, monkeypatch, tmp_path, capsys):
    def broken(*_):
        raise RuntimeError("no luck")

    peers = modules["peers"]
    monkeypatch.setattr(peers, "_PEERS", {"broken": ("broken", broken)})
    monkeypatch.setattr(sys, "path", list(sys.path))
    (peer,) = peers.find_peers(tmp_path)
    assert peer.release is None
    assert "broken: does not run here (RuntimeError: no luck)" in capsys.readouterr().out


def test_installing_goes_on_after_a_failure(modules, monkeypatch, tmp_path):
    install, asked = modules["install"], []

    def pip(command, check):
        asked.append(command)
        return subprocess.CompletedProcess(command, int("torchattacks~=3.5" in command))

    monkeypatch.setattr(install.subprocess, "run", pip)
    assert install.install(tmp_path) == ["torchattacks"]
    assert len(asked) == len(install.LIBRARIES)
    assert all("--no-deps" in command and str(tmp_path) in command for command in asked)


# --- A whole lab ----------------------------------------------------------------------------------


def test_the_lab_is_done_both_ways_and_its_page_says_what_was_measured(modules, tmp_path):
    lab = modules["lab"]
    measured = lab.measure(lab.QUICK)
    parts = ["softmax regression", "three sweeps of seven eps", "LeNet", "LeNet on FGSM", "in all"]
    assert sorted(measured["parts"]) == sorted(parts)
    for row in measured["parts"].values():
        low, middle, high = row["ratio"]
        assert 0 < low <= middle <= high
    for rounds in measured["rounds"].values():
        for one in rounds:
            for name in lab.MODELS:
                clean, *attacked = one["errors"][name]
                assert one["epochs"][name][-1] == pytest.approx(clean), "eps 0 is the test error"
                assert len(attacked) == 6
                assert attacked[-1] >= clean
    page = tmp_path / "README.md"
    page.write_text(f"before\n{lab.START}\nold\n{lab.END}\nafter\n", encoding="utf-8")
    lab.publish(measured, tmp_path)
    kept = json.loads((tmp_path / "lab.json").read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    assert lab.table(kept) in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text


def test_both_ways_of_the_lab_attack_alike(modules):
    """On the same untrained model, the hand-written sweep finds what `error_curve` finds."""
    lab = modules["lab"]
    train, test = (
        load_mnist(part, source="offline").take(slice(100)) for part in ("train", "test")
    )
    settings = lab.replace(lab.QUICK, epochs=0)
    by_hand = lab.by_hand(train, test, settings, 0)
    for name in lab.MODELS:
        model = lab.started(name, 0).eval()
        curve = lab.error_curve(model, test, lab.SWEEP)
        assert by_hand.errors[name] == [100 * float(rate) for rate in curve.errors]


def test_the_lab_is_reached_only_at_equal_errors(modules):
    lab = modules["lab"]

    def spent(seconds, clean, attacked):
        errors = {name: [clean, *[90.0] * 4, attacked, 99.0] for name in lab.MODELS}
        return {"seconds": {"a": seconds, "b": seconds}, "errors": errors, "epochs": {}}

    for seconds, clean, attacked, reached in (
        (1.0, 2.0, 20.0, True),
        (1.0, 1.0, 5.0, True),
        (1.0, 3.0, 20.0, False),
        (1.0, 2.0, 26.0, False),
        (1.1, 2.0, 20.0, False),
    ):
        done = {lab.BY_HAND: [spent(3.0, 2.0, 20.0)], lab.OURS: [spent(seconds, clean, attacked)]}
        assert lab.judged(done, lab.Settings())["reached"] == reached


def test_the_stream_of_images_is_counted_and_its_memory_is_limited():
    command = [sys.executable, str(FOLDER / "stream.py"), "--count", "2500", "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "error_rate" in done.stdout
    assert "PGD, 2 steps" in done.stdout
    done = subprocess.run([*command, "--limit", "1"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "over the limit of 1 MB" in done.stderr


# --- Beside AutoAttack ----------------------------------------------------------------------------


def test_the_bracket_is_measured_and_its_page_says_so(modules, tmp_path, monkeypatch):
    """Beside a peer that breaks every second example."""
    bracket = modules["bracket"]
    monkeypatch.setattr(bracket, "release", lambda: "1.0")
    monkeypatch.setattr(
        bracket, "by_autoattack", lambda model, x, y, eps: torch.arange(len(y)) % 2 > 0
    )
    measured = bracket.measure(bracket.QUICK)
    row = measured["models"]["plain"]
    assert row["ways"][bracket.PEER]["stands"] == 3
    assert row["ways"]["fast"]["seconds"] > 0
    assert set(row["compared"]) == {"fast"}
    page = tmp_path / "README.md"
    page.write_text(f"before\n{bracket.START}\nold\n{bracket.END}\nafter\n", encoding="utf-8")
    bracket.publish(measured, tmp_path)
    text = page.read_text(encoding="utf-8")
    kept = json.loads((tmp_path / "bracket.json").read_text(encoding="utf-8"))
    assert bracket.table(kept) in text
    assert "AutoAttack 1.0" in text
    assert "old" not in text


def test_rows_of_an_earlier_run_stay_and_are_named(modules):
    bracket = modules["bracket"]
    of = {name: {"eps": 0.1, "ways": {}, "compared": {}} for name in bracket.MODELS}
    earlier = {"digits": 10, "models": of}
    new = of["plain"] | {"eps": 0.2}
    both = bracket.beside_earlier({"digits": 10, "models": {"plain": new}}, earlier)
    assert list(both["models"]) == list(bracket.MODELS)
    assert both["models"]["plain"] == new
    assert both["kept"] == [name for name in bracket.MODELS if name != "plain"]
    with pytest.raises(ValueError, match="--digits 10"):
        bracket.beside_earlier({"digits": 20, "models": {}}, earlier)


def test_without_the_peer_the_bracket_is_measured_alone(modules, monkeypatch, capsys):
    bracket = modules["bracket"]
    monkeypatch.setattr(bracket, "release", lambda: None)
    bracket.main(["--quick"])
    assert "AutoAttack not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ours", "theirs", "seconds", "reached"),
    [
        (10, 10, 19.0, True),
        (10, 10, 21.0, False),
        (12, 10, 19.0, True),  # two of two: chance
        (60, 10, 19.0, False),
        (0, 10, 1.0, True),
    ],
)
def test_standard_may_leave_no_more_than_chance_and_take_a_fifth(
    modules, ours, theirs, seconds, reached
):
    bracket = modules["bracket"]
    masks = {"standard": torch.arange(100) < ours, bracket.PEER: torch.arange(100) < theirs}
    ways = {"standard": {"seconds": seconds}, bracket.PEER: {"seconds": 100.0}}
    assert bracket.compared(masks, ways)["compared"]["standard"]["reached"] == reached


def test_fast_may_leave_a_point_more(modules):
    bracket = modules["bracket"]
    for ours, reached in ((10, True), (11, True), (12, False)):
        masks = {"fast": torch.arange(100) < ours, bracket.PEER: torch.arange(100) < 10}
        ways = {"fast": {"seconds": 1.0}, bracket.PEER: {"seconds": 60.0}}
        assert bracket.compared(masks, ways)["compared"]["fast"]["reached"] == reached


@pytest.mark.skipif(not hasattr(os, "fork"), reason="classes are graded by forking")
def test_a_class_is_graded_and_every_process_counted(modules, tmp_path, monkeypatch):
    classroom = modules["classroom"]
    monkeypatch.setattr(classroom, "release", lambda: None)
    measured = classroom.measure(classroom.QUICK)
    ours = measured["ways"]["class grade"]
    assert measured["as a person"] == {"class grade": 2}
    assert sum(measured["answers"].values()) == 10
    assert 1 < ours["processor"] < 60
    if sys.platform == "linux":
        assert 0.1 < ours["gigabytes"] < 3
    nbgrader = ours | {"processor": 100 * ours["processor"]}
    measured["ways"]["nbgrader, kernel"] = nbgrader
    measured["as a person"]["nbgrader, kernel"] = 1
    page = tmp_path / "README.md"
    page.write_text(f"before\n{classroom.START}\nold\n{classroom.END}\nafter\n", "utf-8")
    classroom.publish(measured, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "at most 1/20 of nbgrader's processor time: reached" in text
    assert "| 0.010 " in text
    assert text.startswith("before")
    assert "old" not in text


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux")
def test_the_time_of_a_process_whose_parent_has_ended_is_counted(modules, tmp_path):
    work = "import time\nwhile time.process_time() < 1: pass"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {work!r}])"
    cost = modules["classroom"].cost([sys.executable, "-c", start], tmp_path)
    assert 1 <= cost.processor < 5
    with pytest.raises(RuntimeError, match="failed"):
        modules["classroom"].cost([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


@pytest.mark.parametrize("kind", ["right", "wrong", "raises", "empty"])
def test_the_answers_of_the_class_are_of_their_kinds(modules, kind):
    for exercise in lesson03.EXERCISES:
        space = {"torch": torch, "ex": lesson03}
        source = modules["classroom"].answer(exercise.name, kind).partition("\n\nex.")[0]
        exec(source, space)
        grade = exercise.grade(space[exercise.name])
        outcomes = {"right": "RIGHT", "wrong": "WRONG", "raises": "RAISED"}
        assert grade.outcome.name == outcomes.get(kind, "NOT_ATTEMPTED")
