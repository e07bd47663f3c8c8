"""Each sign of the checklist is shown by a planted model; good models show none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advlearn import fgsm, pgd
from advlearn.attacks import PIXELS
from advlearn.audit import SIGNS, Audit, Sign, audit, more_often
from advlearn.data import load_mnist, reference
from advlearn.metrics import Rate, adversarial_error_rate
from tests.conftest import make_digits, make_mlp

EPS = 0.1
WEAKER, BUDGET, TRANSFER, REACH, ZERO, SEARCH, SLOPE, RANDOM = SIGNS


class Bent(nn.Module):
    """Two classes by a score w'(x - 1/2), bent by `shape`: logits (shape(score), 0)."""

    def __init__(self, shape=lambda s: s, before=lambda x: x):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = nn.Parameter(torch.randint(0, 2, (64,), generator=generator) * 2.0 - 1)
        self.shape, self.before = shape, before

    def forward(self, x):
        score = (self.before(x).flatten(1) - 0.5) @ self.w
        return torch.stack([self.shape(score), 0 * score], 1)


def images(count=100):
    """Grey images whose scores lie around 3.2: FGSM at eps 0.1 takes 6.4 from every one."""
    generator = torch.Generator().manual_seed(0)
    noise = 0.2 * torch.rand(count, 64, generator=generator) - 0.1
    x = 0.5 + noise + 0.05 * Bent().w.detach()
    return x.reshape(count, 1, 8, 8), torch.zeros(count, dtype=torch.int64)


def moat(s):
    """Rise again between 1 and 0: small steps turn back, and one large step jumps across."""
    return torch.where((s > 0) & (s < 1), 2 - s, s)


def overshoot(s):
    """Wrong between 0 and -2 only: one large step lands behind it, small ones stop inside."""
    return torch.where(s < -1, -2 - s, s)


def sawtooth(s):
    """Follow the score from afar, with the slope reversed everywhere."""
    return 2 * s.detach().floor() + 1 - s


def half_detached(x):
    """Let the right half of the image alone carry a gradient."""
    return torch.where(torch.arange(8) < 4, x.detach(), x)


def turned(x):
    """Hand out the image, and the reverse of its gradient."""
    return 2 * x.detach() - x


def shaken(x):
    return x + 0.05 * torch.randn_like(x)


SEEN = {
    "moat": (Bent(moat), WEAKER),
    "overshoot": (Bent(overshoot), BUDGET),
    "sawtooth": (Bent(sawtooth), TRANSFER),
    "never wrong": (Bent(nn.functional.softplus), REACH),
    "quantising layer": (Bent(before=lambda x: (4 * x).round() / 4), ZERO),
    "saturated unit": (Bent(lambda s: 6 * (1000 * s).tanh()), ZERO),
    "saturated logits": (Bent(lambda s: 1000 * s), ZERO),
    "constant": (Bent(lambda s: 3 + 0 * s), REACH),
    "blind": (Bent(before=lambda x: (4 * x).round() / 4), SEARCH),
    "reversed gradient": (Bent(before=turned), SEARCH),
    "partly detached": (Bent(before=half_detached), SLOPE),
    "zero gradient": (Bent(before=lambda x: x.detach() + 0 * x), SLOPE),
    "noisy pixels": (Bent(before=shaken), RANDOM),
    "noisy logits": (Bent(lambda s: s + 0.5 * torch.randn_like(s)), RANDOM),
}


@pytest.mark.parametrize("name", SEEN)
def test_each_sign_is_seen_on_a_planted_model(name):
    model, sign = SEEN[name]
    report = audit(model, images(), EPS, source=Bent())
    assert report[sign].seen, str(report)
    assert not report.passed
    assert sign in report.seen


@pytest.mark.parametrize(
    "name", ["never wrong", "saturated logits", "noisy pixels", "noisy logits"]
)
def test_a_sign_is_seen_alone_where_nothing_else_is_planted(name):
    model, sign = SEEN[name]
    assert audit(model, images(), EPS, source=Bent()).seen == (sign,)


def test_every_sign_has_a_planted_model():
    assert {sign for _, sign in SEEN.values()} == set(SIGNS)


def test_a_straight_model_shows_no_sign():
    report = audit(Bent(), images(), EPS, source=Bent())
    assert report.passed, str(report)
    assert [sign.name for sign in report.signs] == list(SIGNS)
    assert all(sign.seen is False for sign in report.signs)
    assert report[WEAKER].figures["FGSM"].count == 100


def test_saturated_logits_blind_the_usual_loss_and_not_this_library():
    figures = audit(SEEN["saturated logits"][0], images(), EPS)[ZERO].figures
    assert figures["zero for this library's loss"].count == 0
    assert figures["zero for float32 cross-entropy"].count == 100


def test_less_by_more_work_is_seen_too():
    """With 10 steps PGD is coarse enough to jump the moat; with 40 it is not."""
    sign = audit(Bent(moat), images(), EPS)[BUDGET]
    counts = [rate.count for rate in sign.figures.values()]
    assert counts[2] < counts[1]
    assert sign.seen
    assert "finds less" in sign.because


def test_less_at_a_larger_eps_is_seen_too():
    class Shy(Bent):  # answers rightly whatever is far from grey
        def forward(self, x):
            far = (x - 0.5).abs().flatten(1).mean(1) > 0.2
            return torch.where(far[:, None], torch.tensor([9.0, 0.0]), super().forward(x))

    sign = audit(Shy(), images(), EPS)[REACH]
    assert sign.seen
    assert "larger eps finds less" in sign.because


@pytest.mark.parametrize("model", [Bent(moat), Bent(overshoot), Bent(sawtooth)])
def test_a_kink_or_a_jump_is_not_a_wrong_slope(model):
    sign = audit(model, images(), EPS)[SLOPE]
    assert sign.seen is False
    assert sign.figures["gradient misses the slope"].total > 50


def test_kinks_at_black_pixels_are_not_a_wrong_slope():
    """At exactly 0 each of these units stands on its kink, where PyTorch's slope is 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(8 * 36, 4))
    x = torch.zeros(60, 1, 8, 8)
    x[:, :, 3:5, 3:5] = 0.5
    sign = audit(model, (x, model(x).argmax(1)), EPS, steps=8)[SLOPE]
    assert sign.seen is False
    assert sign.figures["gradient misses the slope"].total > 30


@pytest.mark.parametrize(
    "model",
    [Bent(before=lambda x: (4 * x).round() / 4), Bent(lambda s: 3 + 0 * s), Bent(before=shaken)],
    ids=["steps", "constant", "random"],
)
def test_where_no_slope_can_be_told_it_is_not_checked(model):
    sign = audit(model, images(), EPS, steps=8)[SLOPE]
    assert (sign.seen, sign.answer, dict(sign.figures)) == (None, "not checked", {})


def test_the_slope_is_told_in_every_unit_and_precision():
    x, y = images()
    for scale, kind in ((1.0, torch.float32), (255.0, torch.float32), (1.0, torch.float64)):
        data, box, eps = ((scale * x).to(kind), y), (0.0, scale), scale * EPS
        for before, seen in ((lambda x: x, False), (half_detached, True)):
            model = Bent(before=lambda x, b=before, k=scale: b(x) / k).to(kind)
            sign = audit(model, data, eps, bounds=box, steps=8)[SLOPE]
            assert sign.seen is seen, (scale, kind, str(sign))
            assert sign.figures["gradient misses the slope"].total == 100
    assert audit(Bent(), (x, y), 1e-3, steps=8)[SLOPE].seen is False
    assert audit(Bent(), (x, y), 1e-6, steps=8)[SLOPE].seen is None, "less than float32 resolves"
    assert audit(Bent(), (x, y), 1.0, steps=8)[SLOPE].seen is False, "the whole range"
    assert audit(Bent(), (x, y), EPS, bounds=None, steps=8)[SLOPE].seen is False


def test_noise_does_not_make_one_attack_beat_itself():
    """What falls now here, now there is chance: the same attack met twice is no sign."""
    x, y = images()
    model = Bent(before=lambda x: x + 0.5 * torch.randn_like(x))
    torch.manual_seed(0)
    alarms = differ = 0
    for _ in range(300):
        one, two = (model(x - 0.05 * model.w.reshape(8, 8)).argmax(1) != y for _ in range(2))
        alarms += more_often(one, two)
        differ += int((one != two).sum())
    assert differ > 300 * 10, "there is noise to be fooled by"
    assert alarms < 300 * 0.05


# --- The reference models -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held_out():
    digits = load_mnist("test", source="offline")
    return digits.x[:100], digits.y[:100]


def test_the_masked_reference_model_is_flagged(held_out):
    model, plain = reference.load("maxout-masked"), reference.load("maxout")
    report = audit(model, held_out, 0.25, source=plain)
    assert {BUDGET, TRANSFER} <= set(report.seen), str(report)
    figures = report[BUDGET].figures
    assert float(figures["FGSM"]) < 0.4  # clipped; unclipped it is far lower
    assert float(figures["PGD, 40 steps"]) > 0.9


def test_the_robust_reference_model_passes(held_out):
    model, plain = reference.load("robust"), reference.load("maxout")
    report = audit(model, held_out, 0.3, source=plain)
    assert report.passed, str(report)
    assert all(sign.seen is False for sign in report.signs)
    assert float(report[BUDGET].figures["PGD, 40 steps"]) < 0.25


def test_the_certified_reference_model_passes(held_out):
    few = tuple(part[:60] for part in held_out)
    model, plain = reference.load("certified"), reference.load("maxout")
    report = audit(model, few, 0.3, source=plain, steps=20, restarts=2)
    assert all(sign.seen is False for sign in report.signs), str(report)


def test_an_undefended_reference_model_passes(held_out):
    report = audit(reference.load("softmax"), held_out, 0.25, source=reference.load("maxout"))
    assert report.passed, str(report)


def wrapped(before=lambda x: x, after=lambda z: z):
    """Return the plain reference network behind something, or before it."""
    plain = reference.load("maxout")
    return lambda x: after(plain(before(x)))


def thermometer(x):
    """Count the thresholds that a pixel has passed."""
    return (x.unsqueeze(-1) > torch.arange(1, 5) / 5).float().mean(-1) + 0 * x


PLANTED = {
    "rounded pixels": (wrapped(lambda x: (4 * x).round() / 4), {ZERO, SEARCH}),
    "rounded logits": (wrapped(after=lambda z: (10 * z).round() / 10), {ZERO, SEARCH}),
    "thermometer": (wrapped(thermometer), {ZERO, SEARCH}),
    "hot logits": (wrapped(after=lambda z: 1000 * z), {ZERO}),
    "saturated logits": (wrapped(after=lambda z: 6 * (50 * z).tanh()), {ZERO}),
    "zero gradient": (wrapped(lambda x: x.detach() + 0 * x), {ZERO, SEARCH, SLOPE}),
    "half detached": (
        wrapped(lambda x: torch.where(torch.arange(28) < 14, x.detach(), x)),
        {TRANSFER, SLOPE},
    ),
    "noisy pixels": (wrapped(lambda x: x + 0.2 * torch.randn_like(x)), {RANDOM}),
    "noisy logits": (wrapped(after=lambda z: z + torch.randn_like(z)), {RANDOM}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defence_is_named(name, held_out):
    model, signs = PLANTED[name]
    torch.manual_seed(0)
    few = tuple(part[:60] for part in held_out)
    report = audit(model, few, 0.25, source=reference.load("maxout"), steps=12, restarts=2)
    assert signs <= set(report.seen), str(report)
    assert not report.passed


# --- What the audit promises ----------------------------------------------------------------------


def test_the_figures_are_those_of_the_metrics():
    data = images()
    model = Bent(overshoot)
    figures = audit(model, data, EPS, steps=8)[BUDGET].figures
    assert figures["FGSM"] == adversarial_error_rate(model, data, EPS, attack=fgsm)
    generator = torch.Generator().manual_seed(0)
    short = adversarial_error_rate(model, data, EPS, attack=pgd, steps=2, generator=generator)
    assert figures["PGD, 2 steps"] == short


def test_without_a_source_transfer_is_left_open():
    report = audit(Bent(), images(), EPS)
    assert report[TRANSFER].seen is None
    assert report[TRANSFER].answer == "not checked"
    assert report.passed


def test_the_model_and_the_random_state_come_back():
    model = make_mlp()
    data = (make_digits(), torch.arange(24) % 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first = audit(model, data, EPS, steps=8)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert audit(model, data, EPS, steps=8) == first


def test_the_bounds_decide_the_whole_range():
    model, data = Bent(), images()
    assert list(audit(model, data, EPS, bounds=PIXELS)[REACH].figures)[-1] == "PGD, eps 1"
    assert list(audit(model, data, EPS, bounds=None)[REACH].figures)[-1] == "PGD, eps 0.4"
    assert list(audit(model, data, 0.6)[REACH].figures) == ["PGD, eps 0.6", "PGD, eps 1"]
    assert list(audit(model, data, 1.0)[REACH].figures) == ["PGD, eps 1"]


def test_batches_do_not_decide():
    report = audit(Bent(sawtooth), images(), EPS, source=Bent(), batch_size=30)
    assert report[TRANSFER].seen
    assert report[ZERO].figures["zero for this library's loss"].total == 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": 0.0}, "eps"),
        ({"eps": float("nan")}, "eps"),
        ({"steps": 7}, "steps"),
        ({"restarts": 1}, "restarts"),
        ({"bounds": (1.0, 0.0)}, "bounds"),
        ({"batch_size": 0}, "batch_size"),
        ({"data": (2 * images()[0], images()[1])}, "x"),
    ],
)
def test_bad_arguments_are_named(options, words):
    arguments = {"data": images(), "eps": EPS} | options
    with pytest.raises(ValueError, match=words):
        audit(Bent(), **arguments)


def test_a_detached_model_is_refused():
    with pytest.raises(ValueError, match="detached"):
        audit(lambda x: Bent()(x).detach(), images(), EPS)


@pytest.mark.parametrize(
    ("alone", "other", "total", "more"),
    [
        (20, 5, 100, True),
        (5, 20, 100, False),
        (10, 8, 100, False),  # chance
        (3, 0, 100, False),  # chance
        (6, 0, 100, True),
        (9, 0, 1000, False),  # a trifle
        (0, 0, 100, False),
    ],
)
def test_more_often_looks_at_the_pairs_that_differ(alone, other, total, more):
    place = torch.arange(total)
    both = place >= total - 40
    first = (place < alone) | both
    second = ((place >= alone) & (place < alone + other)) | both
    assert more_often(first, second) is more


def test_the_report_has_every_figure_as_text_and_as_a_table():
    report = audit(Bent(overshoot), images(), EPS, source=Bent())
    text, table = str(report), report._repr_markdown_()
    for sign in report.signs:
        assert f"{sign.answer}: {sign.name}. {sign.because}" in text
        for what, rate in sign.figures.items():
            assert f"{what}: {rate}" in text
            unbroken = f"{what}: {rate}".replace("-", "\N{NON-BREAKING HYPHEN}")
            assert unbroken in table, "an interval stays on one line"
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}
    assert "**SEEN**" in table
    assert text.startswith(table.splitlines()[0])


def test_an_unknown_sign_is_named():
    with pytest.raises(KeyError, match="'luck'; there are zero gradients"):
        Audit(0.1, (Sign(ZERO, False, {"zero": Rate(0, 9)}, "None."),))["luck"]
