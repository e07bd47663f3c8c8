"""What the arena refuses, what it cannot be fooled by, and that no line of its board is lost."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import pickle
import re
import struct
import threading
import unicodedata
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from advlearn import arena, plotting
from advlearn.arena import board, contest, entry
from advlearn.attacks import ball_tolerance
from advlearn.cli import app as cli
from advlearn.data import load_mnist, reference
from advlearn.metrics import Rate
from advlearn.models import ConvNet, Ensemble, MaxoutNet, SoftmaxRegression
from advlearn.plotting import alt_text
from advlearn.training import Recipe, fit

QUICK = arena.Rules(examples=100, draws=1, steps=10, restarts=1, queries=40)
SMALL = {"channels": [4, 8], "dense": 32}


def pack(model, architecture=None, options=None):
    return reference.pack(model, architecture or type(model).__name__, options or {}, {})


def quick(content, **options):
    return arena.score(content, rules=QUICK, **{"name": "it", "sources": {}} | options)


@pytest.fixture(scope="module")
def softmax():
    model = SoftmaxRegression()
    fit(model, load_mnist("train", source="offline"), Recipe(epochs=3), progress=False)
    return model


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ConvNet(**SMALL)
    recipe = Recipe(epochs=4, optimizer="adam", lr=0.005)
    fit(model, load_mnist("train", source="offline"), recipe, progress=False)
    return model


def rewritten(content, change):
    """Return a model file with another header; the tensors stay."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    text = json.loads(header["__metadata__"]["advlearn"])
    change(header, text)
    header["__metadata__"]["advlearn"] = json.dumps(text)
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + content[8 + size :]


def with_text(**changes):
    """Return a softmax regression whose file says something else of itself."""
    return rewritten(pack(SoftmaxRegression()), lambda header, text: text.update(changes))


def with_option(**options):
    return with_text(architecture="MaxoutNet", options=options)


def unfinished():
    model = SoftmaxRegression()
    content = bytearray(pack(model))
    content[-4:] = struct.pack("<f", float("nan"))
    return bytes(content)


def integers(header, text):
    header["linear.weight"]["dtype"] = "I32"


def nested():
    deep = b'{"__metadata__":' + b"[" * 40_000 + b"]" * 40_000 + b"}"
    return struct.pack("<Q", len(deep)) + deep


class Bomb:
    """Whoever unpickles it sets `burst`."""

    burst = False

    def __reduce__(self):
        return setattr, (Bomb, "burst", True)


def torch_saved(tmp_path):
    torch.save({"model": Bomb()}, tmp_path / "model.pt")
    return (tmp_path / "model.pt").read_bytes()


LARGE = {"channels": [64, 128], "dense": 64}
REFUSED = {
    "a pickle": (lambda: pickle.dumps(Bomb()), "is a pickle.*whatever code"),
    "an old pickle": (lambda: pickle.dumps(Bomb(), protocol=0), "it is not a safetensors file"),
    "nothing": (lambda: b"", "it is not a safetensors file"),
    "a text": (lambda: b"name,score\n" * 10, "it is not a safetensors file"),
    "a cut file": (lambda: pack(SoftmaxRegression())[:-7], "is damaged"),
    "an endless header": (nested, "its header cannot be read"),
    "no word of itself": (lambda: with_text(architecture=None), "names the architecture None"),
    "an unknown architecture": (lambda: with_text(architecture="os.system"), "'os.system'"),
    "an ensemble of ensembles": (
        lambda: with_text(
            architecture="Ensemble",
            options={"members": 2, "architecture": "Ensemble", "options": {}},
        ),
        "names the architecture 'Ensemble'",
    ),
    "a wrong shape": (
        lambda: with_text(options={"features": 400}),
        r"another shape .*'linear.weight' is \(10, 784\), expected \(10, 400\)",
    ),
    "a missing tensor": (lambda: with_option(hidden=[8]), "another shape .* is missing"),
    "NaN weights": (unfinished, "NaN or infinity in linear.weight|NaN or infinity in linear.bias"),
    "whole numbers": (lambda: rewritten(pack(SoftmaxRegression()), integers), "kind I32"),
    "an unknown option": (lambda: with_option(code="import os"), "does not know"),
    "options that are a list": (lambda: with_text(options=[1]), "not a table"),
    "a huge option": (lambda: with_option(hidden=[10**9]), r"hidden = \[1000000000\].*10,000"),
    "a number of 30 digits": (lambda: with_option(pieces=10**30), "pieces = 1000000"),
    "many layers": (lambda: with_option(hidden=[8] * 9), "8 of them at most"),
    "a nested option": (lambda: with_option(hidden=[[8]]), "takes numbers"),
    "many large layers": (
        lambda: with_option(hidden=[10_000] * 8, pieces=10_000),
        "describes a model of 7,0.*takes at most 4,000,000",
    ),
    "a wrong value": (lambda: with_option(pieces=-1), "cannot be built.*pieces"),
    "a crowd": (
        lambda: with_text(
            architecture="Ensemble",
            options={"members": 10**9, "architecture": "SoftmaxRegression", "options": {}},
        ),
        "1000000000 members; the arena takes 1 to 16",
    ),
    "a fraction of a crowd": (
        lambda: with_text(
            architecture="Ensemble",
            options={"members": 1e9, "architecture": "SoftmaxRegression", "options": {}},
        ),
        "1000000000.0 members",
    ),
    "two classes": (lambda: pack(SoftmaxRegression(784, 2), None, {"classes": 2}), "2,.* outputs"),
    "other images": (
        lambda: pack(SoftmaxRegression(9), None, {"features": 9}),
        r"does not take images of shape \(1, 28, 28\)",
    ),
    "colour": (lambda: pack(ConvNet(colours=3), None, {"colours": 3}), "does not take images"),
    "a slow model": (
        lambda: pack(ConvNet((100, 160), dense=16), None, {"channels": [100, 160], "dense": 16}),
        r"needs 1\d,\d{3},\d{3} multiplications .* budget is 10,000,000",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_the_arena_refuses(kind, monkeypatch):
    make, words = REFUSED[kind]
    content = make()
    if "NaN" not in kind and "cut" not in kind:
        # Nothing is built before all sizes are known.
        monkeypatch.setattr(reference, "unpack", lambda *_: pytest.fail("it was built"))
    with pytest.raises(arena.RefusedError, match=words) as caught:
        arena.score(content, rules=QUICK, sources={})
    assert len(str(caught.value)) < 500
    assert not Bomb.burst


def test_torch_save_is_a_pickle_too(tmp_path):
    content = torch_saved(tmp_path)
    with pytest.raises(arena.RefusedError, match=r"model\.pt' is a pickle"):
        arena.admit(tmp_path / "model.pt")
    assert not Bomb.burst
    pickle.loads(pickle.dumps(Bomb()))
    assert Bomb.burst, "the bomb works: it would have been seen"
    Bomb.burst = False
    assert content[:2] == b"PK"


def test_a_header_whose_length_looks_like_a_pickle_is_read():
    """The first bytes are the length of the header: 640 is written as a pickle's beginning."""
    fit = (
        reference.pack(SoftmaxRegression(), "SoftmaxRegression", {}, {"note": "x" * length})
        for length in range(1000)
    )
    content = next(content for content in fit if content[:2] == b"\x80\x02")
    assert arena.admit(content).architecture == "SoftmaxRegression"


def test_an_oversized_file_is_not_even_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(entry.MOST_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(arena.RefusedError, match="20,000,001 bytes; at most 20,000,000 are taken"):
        arena.admit(path)


def test_a_skeleton_takes_no_memory():
    skeleton = entry._skeleton("MaxoutNet", {"hidden": [10_000], "pieces": 10_000}, "it")
    assert all(value.is_meta for value in skeleton.state_dict().values())


@pytest.mark.parametrize(
    ("model", "architecture", "options"),
    [
        (SoftmaxRegression(), "SoftmaxRegression", {}),
        (MaxoutNet(hidden=[8]), "MaxoutNet", {"hidden": [8]}),
        (ConvNet(), "ConvNet", {}),
        (reference.build("ConvMaxoutNet", c := {"channels": [4, 4], "colours": 1, "size": 28}),
         "ConvMaxoutNet", c),
        (reference.build("RBFNet", {}), "RBFNet", {}),
        (reference.build("SubspaceMixture", m := {"components": 2, "rank": 3}),
         "SubspaceMixture", m),
        (Ensemble([SoftmaxRegression(), SoftmaxRegression()]), "Ensemble",
         {"members": 2, "architecture": "SoftmaxRegression", "options": {}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_every_architecture_for_digits_is_admitted(model, architecture, options):
    admitted = arena.admit(reference.pack(model, architecture, options, {}))
    assert admitted.architecture == architecture
    assert admitted.parameters == sum(value.numel() for value in model.state_dict().values())


def test_multiplications_are_counted():
    channels, dense = (16, 32), 100
    by_hand = 16 * 16 * 14 * 14 + 16 * 16 * 32 * 7 * 7 + 32 * 49 * dense + dense * 10
    assert arena.admit(pack(ConvNet(channels, dense=dense))).products == by_hand


# --- What is not a defence ------------------------------------------------------------------------


def test_the_score_is_the_worst_case_over_all_attempts(softmax, network):
    report = quick(pack(network, None, SMALL), sources={"softmax": softmax})
    assert tuple(report.right_after) == contest.ATTACKS
    counts = [rate.count for rate in report.right_after.values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 85, "the model is good on clean digits"
    assert counts[-1] < 10, "and PGD breaks it"
    assert report.score == report.right_after["random search"]
    assert report.score.count == report.lost_to.count("")
    for name, (before, after) in zip(contest.ATTACKS[1:], pairwise(counts), strict=True):
        assert report.lost_to.count(name) == before - after
    assert report == quick(pack(network, None, SMALL), sources={"softmax": softmax}), "repeatable"


def test_an_attack_that_returns_its_input_would_be_seen(network, monkeypatch):
    """The test above can fail: with idle attacks the broken model would keep its score."""
    for name in ("fgsm", "pgd"):
        monkeypatch.setattr(contest, name, lambda model, x, y, *_, **__: x)
    for name in ("aimed", "random_search"):
        monkeypatch.setattr(contest.team, name, lambda batch, **_: None)
    assert quick(pack(network, None, SMALL)).score.count > 35


def scaled(model, factor):
    """Return a copy whose logits are multiplied by a factor."""
    other = reference.unpack(pack(model, None, SMALL))[0]
    top = other.layers[-1]
    with torch.no_grad():
        top.weight.mul_(factor)
        top.bias.mul_(factor)
    return other


@pytest.mark.parametrize("factor", [1e4, 1e30, 1e-4, 1e-30, 1e-40])
def test_logits_of_another_scale_hide_nothing(network, factor):
    honest = quick(pack(network, None, SMALL))
    trick = quick(pack(scaled(network, factor), None, SMALL))
    if factor > 1e-40:  # there the weights have only a few digits left
        assert abs(trick.right_after["clean"].count - honest.right_after["clean"].count) <= 1
    assert trick.score.count <= honest.score.count + 1


def test_the_scale_trick_does_fool_a_naive_attack(network):
    """The test above can fail: saturated logits hide the gradient of torch's cross-entropy."""
    test = load_mnist("test", source="offline")
    x, y = test.x[:100], test.y[:100]

    def left(model):
        pixels = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(pixels), y)
        step = 0.25 * torch.autograd.grad(loss, pixels)[0].sign()
        return int((model((x + step).clamp(0, 1)).argmax(1) == y).sum())

    assert left(scaled(network, 1e4)) > left(network) + 40


def test_constant_answers_get_the_accuracy_of_chance():
    model = SoftmaxRegression()
    with torch.no_grad():
        model.linear.bias[3] = 1.0
    report = quick(pack(model))
    threes = int((load_mnist("test", source="offline").y[:100] == 3).sum())
    assert report.score.count == threes
    assert threes < 25


@pytest.mark.filterwarnings("error")
def test_equal_logits_are_no_answer():
    assert quick(pack(SoftmaxRegression())).score.count == 0


def test_logits_that_overflow_are_refused():
    model = SoftmaxRegression()
    with torch.no_grad():
        model.linear.weight.fill_(3e38)
    with pytest.raises(arena.RefusedError, match="not finite"):
        quick(pack(model))


class Rounded(nn.Module):
    """A defence without a gradient: pixels rounded to 0 or 1 before the model sees them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.round())


@pytest.mark.filterwarnings("ignore::advlearn.directions.NoDirectionWarning")
def test_the_random_search_needs_no_gradient(softmax):
    test = load_mnist("test", source="offline")
    x, y = test.x[:100], test.y[:100]
    model, rules = Rounded(softmax), replace(QUICK, eps=0.3, queries=300)
    judge = contest._Judge(model)
    by_fgsm = int(judge(contest.fgsm(softmax_flat(model), x, y, 0.3), y).sum())
    *_, (name, search) = contest._attempts(model, x, y, rules, {})
    assert name == "random search"
    by_search = int(judge(search(torch.arange(100)), y).sum())
    assert by_fgsm > 60, "no gradient, no step: the attack does nothing"
    assert by_search < by_fgsm - 15


def softmax_flat(model):
    """Keep the graph connected: the rounded pixels have a gradient, of zero everywhere."""
    return lambda x: model(x) + 0 * x.sum()


def test_the_judge_wants_the_true_logit_alone_on_top():
    class Given(nn.Module):
        def forward(self, x):
            return x

    logits = torch.tensor([[2.0, 1.0], [1.0, 1.0], [float("nan"), 1.0], [0.0, 1.0]])
    assert contest._Judge(Given())(logits, torch.zeros(4).long()).tolist() == [True] + [False] * 3


def test_what_is_right_by_float32_rounding_alone_is_wrong():
    class Rounding(nn.Module):
        """In float32 1e8 swallows the pixel; in float64 the pixel decides."""

        def forward(self, x):
            swallowed = (x + 1e8) - 1e8
            return torch.cat([0.1 - swallowed, swallowed], 1)

    pixels = torch.tensor([[0.5]])
    assert Rounding()(pixels).argmax(1).item() == 0
    assert not contest._Judge(Rounding())(pixels, torch.zeros(1).long()).item()


def test_no_attempt_leaves_the_ball_or_the_pixel_range(network, monkeypatch):
    seen = []
    judge = contest._Judge.__call__

    def watch(self, x, y):
        seen.append(x)
        return judge(self, x, y)

    monkeypatch.setattr(contest._Judge, "__call__", watch)
    # An attack that cheats: it is put back into the ball.
    monkeypatch.setattr(contest, "fgsm", lambda model, x, y, eps: x + 5)
    rules = replace(QUICK, eps=0.1)
    arena.score(pack(network, None, SMALL), rules=rules, sources={})
    clean = seen[0]
    assert len(seen) == 7, "every attack had digits left to try"
    for images in seen[1:]:
        nearest = torch.cdist(images.flatten(1), clean.flatten(1), p=float("inf")).amin(1)
        assert float(nearest.max()) <= rules.eps + ball_tolerance(clean, rules.eps)
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1


def test_reference_models_are_the_sources_by_default(monkeypatch, softmax):
    asked = []
    monkeypatch.setattr(contest, "SOURCES", ("maxout", "robust"))
    monkeypatch.setattr(reference, "load", lambda name: asked.append(name) or softmax)
    contest._reference_images.cache_clear()
    for _ in range(2):
        quick(pack(softmax), sources=None)
    contest._reference_images.cache_clear()
    assert asked == ["maxout", "robust"], "each is attacked once for all submissions"


@pytest.mark.parametrize("eps", [0, -0.1, 2, float("nan"), "0.25"])
def test_a_wrong_eps_is_refused(eps):
    with pytest.raises((ValueError, TypeError), match="eps"):
        arena.Rules(eps=eps)


# --- The leaderboard ------------------------------------------------------------------------------


def report(name="one", right=40, clean=95, rules=QUICK):
    after = dict.fromkeys(contest.ATTACKS, Rate(right, 100)) | {"clean": Rate(clean, 100)}
    return arena.Report(name, "ConvNet", 7, "ab" * 32, rules, after, ())


def test_a_line_holds_the_score_with_its_interval(tmp_path):
    path = tmp_path / "new" / "board.csv"
    arena.append(path, report())
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert [rows[0][key] for key in ("name", "score", "low", "high")] == [
        "one", "40.0", "30.9", "49.8",
    ]  # fmt: skip
    assert rows[0]["right after clean"] == "95"
    assert arena.read(path)[0].score == Rate(40, 100)


def test_no_line_is_lost_when_many_write_at_once(tmp_path):
    path = tmp_path / "board.csv"
    halves = []

    def write(k):
        for n in range(5):
            arena.append(path, report(f"learner {k} {n}"))
            try:
                arena.read(path)
            except ValueError as error:
                halves.append(error)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({line.name for line in arena.read(path)}) == 40
    assert halves == []
    assert not list(tmp_path.glob(".*.part"))


def test_a_failed_write_leaves_the_board_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "board.csv"
    arena.append(path, report())
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*board\.csv"):
        arena.append(path, report("two"))
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("name", ["", "=cmd()", "-1+2", "@x", "a,b", "a\nb", "x" * 41, " a", "a;b"])
def test_names_that_a_spreadsheet_would_run_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="does not fit the leaderboard"):
        arena.append(tmp_path / "board.csv", report(name))
    assert not (tmp_path / "board.csv").exists()


def test_another_file_is_not_overwritten(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text("name,mark\nme,1\n", encoding="utf-8")
    for act in (lambda: arena.append(path, report()), lambda: arena.read(path)):
        with pytest.raises(ValueError, match="not a leaderboard"):
            act()
    assert path.read_text(encoding="utf-8") == "name,mark\nme,1\n"


def test_a_damaged_line_is_told(tmp_path):
    path = tmp_path / "board.csv"
    arena.append(path, report())
    path.write_text(path.read_text(encoding="utf-8").replace(",100,", ",many,"), encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        arena.read(path)


def test_the_newest_of_each_name_stands_and_other_rules_do_not(tmp_path):
    path = tmp_path / "board.csv"
    other = replace(QUICK, eps=0.3)
    for name, right, rules in (("a", 90, other), ("b", 50, QUICK), ("c", 60, QUICK)):
        arena.append(path, report(name, right, rules=rules))
    arena.append(path, report("b", 70))
    lines = arena.read(path)
    assert len(lines) == 4
    assert [(s.name, s.score.count) for s in arena.standing(lines)] == [("b", 70), ("c", 60)]
    words = alt_text(arena.draw(lines))
    assert words.startswith("Leaderboard, eps 0.25")
    assert "1. b, score 70 % (60-78), clean 95 %; 2. c" in words
    with pytest.raises(ValueError, match="Score a model first"):
        arena.draw([])


ODD_NAMES = [
    "<script>alert(1)</script>", "a|b", "$a$", "$", "=cmd()", "a\x1b[2J", "a\u202eb", "", "x" * 41,
    "&amp;", "[a](b)", "\u1106\u1169",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_append_refuses_is_refused_in_a_board_edited_by_hand(tmp_path, name):
    path = tmp_path / "board.csv"
    arena.append(path, report("honest"))
    line = path.read_text(encoding="utf-8").splitlines()[1]
    cell = io.StringIO()
    csv.writer(cell, lineterminator="").writerow([name])
    with path.open("a", encoding="utf-8") as file:
        file.write(line.replace("honest", cell.getvalue()) + "\n")
    before = path.read_bytes()
    for act in (lambda: arena.read(path), lambda: arena.append(path, report("two"))):
        with pytest.raises(
            ValueError, match=r"is damaged in line 3: name = .*Mend the line"
        ) as told:
            act()
        assert str(told.value).isprintable()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",100,", ",many,", "digits = 'many' is no count"),
        (",100,", ",0,", "of 0 digits"),
        (",100,", ",30,", "of 30 digits"),
        (",95,40,", ",40,95,", "each at most the one before it"),
        (',40,"', ',-1,"', "'-1' is no count"),
        (',40,"', ',4e1,"', "'4e1' is no count"),
        (',40,"', ',\uff14\uff10,"', "is no count"),
        (',40,"', f',{"9" * 5000},"', "is no count"),
        ("one,40.0", "one,99.9", "score = 99.9, but its counts make 40.0"),
        ("one,40.0", "one,nan", "score = 'nan' is no percentage"),
        ("eps 0.25", "<b>eps", "is no rules of the arena"),
        ("eps 0.25", "$eps$", "is no rules of the arena"),
        ("ConvNet", "Conv|Net", "is no architecture"),
        (",7,", ",seven,", "parameters = 'seven' is no count"),
        ("abab", "ABAB", "not the beginning of a sha256"),
        (",7,", ",7,7,", "it has 17 cells, not 16"),
        ("one,", "", "it has 15 cells, not 16"),
        ("one,", '"one,', "is damaged in line 2"),
        ("one,", '"o"ne,', "is damaged in line 2"),
        ("one,", "o\x00ne,", "is damaged in line 2"),
        ("one,", "o" * 200_000, "is damaged in line 2"),
    ],
)  # fmt: skip
def test_a_line_that_contradicts_itself_is_told(tmp_path, old, new, words):
    path = tmp_path / "board.csv"
    arena.append(path, report())
    header, line = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text(f"{header}\n{line.replace(old, new, 1)}", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(words)) as told:
        arena.read(path)
    assert len(str(told.value)) < 600


@pytest.mark.parametrize("change", ["architecture", "sha256", "parameters"])
def test_a_report_that_read_would_refuse_is_not_appended(tmp_path, change):
    with pytest.raises(ValueError, match=change):
        arena.append(tmp_path / "board.csv", replace(report(), **{change: "<b>|$"}))
    assert not (tmp_path / "board.csv").exists()


def test_a_full_board_takes_no_more_and_stays_readable(tmp_path, monkeypatch):
    path = tmp_path / "board.csv"
    arena.append(path, report())
    before = path.read_bytes()
    monkeypatch.setattr(board, "MOST_BYTES", len(before) + 20)
    for act in (lambda: arena.append(path, report("two")), lambda: board.check_place(path)):
        with pytest.raises(ValueError, match=r"is full: .* Move its older lines to another file"):
            act()
    assert path.read_bytes() == before
    assert len(arena.read(path)) == 1


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_board_that_was_edited_by_hand_keeps_its_lines(tmp_path, start, end):
    path = tmp_path / "board.csv"
    arena.append(path, report())
    path.write_bytes((start + path.read_text(encoding="utf-8").rstrip("\n") + end).encode())
    before = path.read_bytes()
    arena.append(path, report("two"))
    assert [line.name for line in arena.read(path)] == ["one", "two"]
    assert path.read_bytes().startswith(before), "the lines that were there are as they were"


OLD_RULES = "eps 0.25, 300 digits, 5 draws, PGD 2 x 2 x 40, 150 queries"


def board_of_two_rules(path):
    """Write a board that an older version has begun: its search had 150 queries."""
    for name in ("one", "two"):
        arena.append(path, report(name))
    text = path.read_text(encoding="utf-8").replace(str(QUICK), OLD_RULES)
    assert text.count(OLD_RULES) == 2
    path.write_text(text, encoding="utf-8")
    return path


def test_older_scores_are_read_and_not_ranked_with_newer_ones(tmp_path):
    path = board_of_two_rules(tmp_path / "board.csv")
    assert [line.rules for line in arena.read(path)] == [OLD_RULES] * 2
    assert arena.left_out(arena.read(path)) == "", "a board of older rules alone stays as it was"
    assert len(arena.standing(arena.read(path))) == 2
    arena.append(path, report("two"))
    lines = arena.read(path)
    assert [line.name for line in lines] == ["one", "two", "two"]
    assert [line.rules for line in arena.standing(lines)] == [str(QUICK)]
    words = f"2 lines by other rules are not shown ({OLD_RULES}). Scores by different rules do not "
    assert arena.left_out(lines).startswith(words)
    ax = arena.draw(lines)
    assert words in alt_text(ax)
    assert ax.get_title().endswith("2 lines by other rules are not shown")
    assert "2 lines by other rules are not shown" in arena.table(lines).splitlines()[-1]
    done = call("board", path)
    assert done.exit_code == 0
    assert words in done.output


def test_who_adds_to_an_older_board_is_told(tmp_path, softmax, monkeypatch):
    monkeypatch.setattr(contest, "SOURCES", ())
    (tmp_path / "mine.safetensors").write_bytes(pack(softmax))
    path = board_of_two_rules(tmp_path / "board.csv")
    done = call("score", tmp_path / "mine.safetensors", "--leaderboard", path)
    assert done.exit_code == 0, done.output
    assert "2 lines by other rules are not shown" in done.output


def test_many_other_rules_are_told_briefly():
    lines = [
        board.Standing("a", Rate(1, 10), Rate(9, 10), f"{n} queries", "ConvNet", 1)
        for n in range(9)
    ]
    words = arena.left_out(lines)
    assert words.startswith(
        "8 lines by other rules are not shown (0 queries; 1 queries; 2 queries;"
    )
    assert "; and others)" in words


def test_through_a_link_it_is_the_same_board(tmp_path):
    (tmp_path / "shared").mkdir()
    board_, link = tmp_path / "shared" / "board.csv", tmp_path / "mine.csv"
    link.symlink_to(board_)
    arena.append(link, report("one"))  # makes it, where the link leads
    arena.append(board_, report("two"))

    def write(path, k):
        for n in range(5):
            arena.append(path, report(f"{k} {n}"))

    threads = [
        threading.Thread(target=write, args=(path, k))
        for k, path in enumerate([link, board_, link, board_])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert link.is_symlink()
    assert len(arena.read(board_)) == len(arena.read(link)) == 22
    assert not (tmp_path / "mine.csv.lock").exists()


def test_a_lock_of_another_file_is_not_emptied(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    (tmp_path / "board.csv.lock").symlink_to("thesis.tex")
    with pytest.raises(FileExistsError, match="is in the way"):
        arena.append(tmp_path / "board.csv", report())
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "years of work"


def hostile(name):
    """A line as only code can make it: `read` refuses such a name."""
    return board.Standing(name, Rate(1, 10), Rate(9, 10), "eps 0.25", "ConvNet", 1)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a|b", "$x$", r"$\bad{", "a\nb"])
def test_a_name_is_shown_as_text_wherever_it_is_shown(name):
    lines = [hostile(name), hostile("two")]
    ax = arena.draw(lines)
    ax.figure.canvas.draw()
    assert ax.get_yticklabels()[0].get_text().replace(r"\$", "$") == name
    words = alt_text(ax)
    plotting.render(ax)
    assert "\n" not in words
    table = arena.table(lines).splitlines()
    assert len(table) == 4
    assert all(line.count("|") == 5 for line in table)
    assert not re.search(r"<(?!/?span>)", "".join(table))


# --- Names ----------------------------------------------------------------------------------------


PLATFORMS = {
    "model (1)": "model 1",
    "model - Copy (2)": "model - Copy 2",
    "model@home": "model home",
    "doejane_LATE_1234_5678_model-2": "doejane_LATE_1234_5678_model-2",
    "Jane Doe_123456_assignsubmission_file_model": "Jane Doe_123456_a+e36e8b+n_file_model",
    "모델": "모델",
    "모델 - 복사본": "모델 - 복사본",
    "नमस्ते": "नमस्ते",
    "_private": "private",
    "<b>&$|": "b",
}


@pytest.mark.parametrize("stem", PLATFORMS)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_files_name_is_made_fit(tmp_path, stem, form):
    name = contest.fit_name(unicodedata.normalize(form, stem))
    assert name == PLATFORMS[stem]
    arena.append(tmp_path / "board.csv", report(name))
    assert arena.read(tmp_path / "board.csv")[0].name == name


def test_two_long_names_stay_two():
    stems = [f"Jane Doe_123456_assignsubmission_{k}_a_very_good_model" for k in range(50)]
    assert len({contest.fit_name(stem) for stem in stems}) == 50


@pytest.mark.parametrize("stem", ["()", "🙂", "\udcff", "__"])
def test_a_files_name_without_letters_is_refused_before_the_scoring(tmp_path, monkeypatch, stem):
    monkeypatch.setattr(contest, "admit", lambda _: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match=r"no name for a leaderboard.*Pass one: --name, or name="):
        arena.score(tmp_path / f"{stem}.safetensors")


@pytest.mark.parametrize("name", [*ODD_NAMES[:-1], "model (1)", "x\nscore: 100.0 %"])
def test_a_name_that_does_not_fit_is_refused_before_the_scoring(monkeypatch, name):
    monkeypatch.setattr(contest, "admit", lambda _: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match="does not fit the leaderboard"):
        arena.score(b"", name=name)


def test_a_name_is_composed():
    name = quick(pack(SoftmaxRegression()), name=unicodedata.normalize("NFD", "모델")).name
    assert name == "모델"
    with pytest.raises(TypeError, match="name must be a text, got int"):
        arena.score(b"", name=3)


# --- What is no file of a model -------------------------------------------------------------------


def test_a_submission_that_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(arena.RefusedError, match="is no plain file"):
            arena.score(path, name="it")


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "x" * 90_000},
        {"dtype": ["\x1b[2J"] * 9_000},
        {"shape": [1] * 40_000},
        {"shape": ["score: 100.0 %\n"]},
        {"shape": {"a": 1}},
        {"shape": None},
    ],
)
def test_a_refusal_is_one_short_line_whatever_the_file_says(change):
    content = rewritten(
        pack(SoftmaxRegression()), lambda header, text: header["linear.weight"].update(change)
    )
    with pytest.raises(arena.RefusedError) as told:
        arena.admit(content)
    assert str(told.value).isprintable()
    assert len(str(told.value)) <= 501


@pytest.mark.parametrize("depth", [100, 800, 950])
@pytest.mark.parametrize("where", ["dtype", "shape", "option"])
def test_depth_is_refused_wherever_it_is(depth, where):
    nest = []
    for _ in range(depth):
        nest = [nest]
    content = pack(SoftmaxRegression())

    def change(header, text):
        if where == "option":
            text["options"] = {"features": nest}
        else:
            header["linear.weight"][where] = nest

    try:
        content = rewritten(content, change)
    except RecursionError:
        pytest.skip("this Python cannot write it")
    with pytest.raises(arena.RefusedError):
        arena.admit(content)


@pytest.mark.parametrize("name", ["score: 99.9 % (98.1-100.0)", "a\x1b[2J\rscore: 99.9 %"])
def test_a_files_name_cannot_pass_for_a_score(tmp_path, name):
    (tmp_path / f"{name}.safetensors").write_bytes(b"no model")
    done = call("score", tmp_path / f"{name}.safetensors")
    assert done.exit_code == 1
    assert "score:" not in [line[:6] for line in re.split(r"[\r\n]", done.output)]
    assert "\x1b" not in done.output


# --- The command ----------------------------------------------------------------------------------


def call(*arguments):
    return CliRunner().invoke(cli.app, ["arena", *map(str, arguments)])


def test_the_command_scores_and_draws(tmp_path, softmax, monkeypatch):
    monkeypatch.setattr(contest, "SOURCES", ())
    file, path = tmp_path / "mine.safetensors", tmp_path / "board.csv"
    file.write_bytes(pack(softmax))
    done = call("score", file, "--leaderboard", path)
    assert done.exit_code == 0, done.output
    assert re.search(r"^mine: SoftmaxRegression, 7,850 numbers$", done.output, re.M)
    assert re.search(r"^score: \d+\.\d % \(\d", done.output, re.M)
    assert call("score", file, "--name", "other", "--leaderboard", path).exit_code == 0
    assert [line.name for line in arena.read(path)] == ["mine", "other"]
    assert arena.read(path)[0].rules == str(board.read(path)[0].rules) == str(arena.Rules())
    done = call("board", path)
    assert done.exit_code == 0, done.output
    assert re.search(r"^ +1 +mine ", done.output, re.M)
    assert (tmp_path / "board.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score", "no-such-file"), "no-such-file"),
        (("score", "{here}/text", "--eps", "7"), "eps"),
        (("score", "{here}/text"), "not a safetensors file"),
        (("board", "{here}/text"), "not a leaderboard"),
        (("board", "{here}/none.csv"), "makes it"),
    ],
)
def test_the_command_ends_with_the_message(tmp_path, arguments, words):
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    done = call(*(argument.format(here=tmp_path) for argument in arguments))
    assert done.exit_code == 1
    assert words in done.output  # with stderr; click before 8.2 has no other record of that


def test_the_arena_stands_in_the_list_of_commands():
    assert re.search(r"\barena\b", CliRunner().invoke(cli.app, ["--help"]).output)
    text = call("--help").output
    assert "score" in text
    assert "board" in text


# --- What the command leaves alone ----------------------------------------------------------------


def look(path):
    """Return what tells a file from another one, and from itself after it was written."""
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


def a_text(path):
    path.write_text("precious", encoding="utf-8")


def another_picture(path):
    path.write_bytes(plotting.render(plotting.lines([0, 1], {"a": [0, 1]}, xlabel="x", ylabel="y")))


def a_link_to_the_board(path):
    path.symlink_to("board.csv")


def a_link_to_nowhere(path):
    path.symlink_to("nowhere")


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    "make", [a_text, another_picture, a_link_to_the_board, a_link_to_nowhere, a_folder, a_pipe]
)
@pytest.mark.parametrize("options", [(), ("--out", "{here}/board.png")], ids=["beside", "out"])
def test_the_picture_replaces_no_file_but_itself(tmp_path, make, options):
    path = tmp_path / "board.csv"
    arena.append(path, report())
    make(tmp_path / "board.png")
    before, kind = path.read_bytes(), look(tmp_path / "board.png")
    done = call("board", path, *(option.format(here=tmp_path) for option in options))
    assert done.exit_code == 1
    assert "is no picture of a leaderboard. Name another file with --out" in done.output
    assert "one" in done.output, "the table is printed all the same"
    assert path.read_bytes() == before
    assert look(tmp_path / "board.png") == kind
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["board.csv", "board.png"])
def test_the_picture_never_replaces_the_board(tmp_path, name):
    path = tmp_path / name
    arena.append(path, report())
    before = path.read_bytes()
    assert call("board", path, "--out", path).exit_code == 1
    assert path.read_bytes() == before


def test_a_picture_of_ours_is_replaced(tmp_path):
    path, out = tmp_path / "board.csv", tmp_path / "picture"
    arena.append(path, report())
    assert call("board", path, "--out", out).exit_code == 0
    before = out.read_bytes()
    assert call("board", path, "--out", out).exit_code == 0
    assert out.read_bytes() == before
    arena.append(path, report("two"))
    assert call("board", path, "--out", out).exit_code == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize("place", ["marks.csv", "file/board.csv", "."])
def test_a_place_where_no_board_can_be_is_told_before_the_scoring(tmp_path, monkeypatch, place):
    monkeypatch.setattr(arena, "score", lambda *_, **__: pytest.fail("it was scored"))
    (tmp_path / "marks.csv").write_text("name,mark\nme,1\n", encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = call("score", tmp_path / "model.safetensors", "--leaderboard", tmp_path / place)
    assert done.exit_code == 1
    assert re.search("not a leaderboard|no folder that you may write in|no plain file", done.output)
