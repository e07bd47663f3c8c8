"""Both ends of the error under attack, on models whose truth is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import advlearn
from advlearn import Bracket, evaluate, pgd, team
from advlearn.attacks import square
from advlearn.batches import Dataset
from advlearn.certify import certified
from advlearn.evaluation import BUDGETS, UNATTACKED
from advlearn.intervals import Interval
from advlearn.metrics import Rate
from advlearn.models import SoftmaxRegression
from advlearn.passes import Passes, passes
from tests.attacks.properties import Recorder
from tests.attacks.table import same, snapshot
from tests.conftest import make_digits, make_mlp

pytestmark = pytest.mark.usefixtures("one_thread")

EPS = 0.06


@pytest.fixture(autouse=True)
def little_work(monkeypatch):
    """Budgets as they are, but for tests: a search of hundreds of queries takes seconds."""
    small = {
        name: team.Effort(
            steps=8,
            restarts=int(name != "fast"),
            aims=(team.Aim(2, 5, 0.7),),
            searched=0.9,
            rounds=((40, 0.5), (60, 1)),
            again=((20, 1),),
            refined=0.5,
        )
        for name in team.EFFORTS
    }
    monkeypatch.setattr(team, "EFFORTS", small)


def make_linear(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = SoftmaxRegression(36, 4)
        nn.init.normal_(model.linear.weight, std=0.3)
        return model


def make_data(model: nn.Module, count: int = 60, wrong: int = 5) -> Dataset:
    """Make images with the labels that the model gives them, but for a few."""
    x = make_digits(count)
    y = model.eval()(x).argmax(1)
    y[:wrong] = (y[:wrong] + 1) % 4
    return Dataset(x, y)


def standing_in_closed_form(model: SoftmaxRegression, data: Dataset, eps: float) -> Tensor:
    """Say which examples no image in the ball breaks: pixel by pixel, the worst is known."""
    x, y = data
    low, high = (x - eps).clamp(0, 1).flatten(1), (x + eps).clamp(0, 1).flatten(1)
    weight, bias = model.linear.weight, model.linear.bias
    stands = torch.ones(len(y), dtype=torch.bool)
    for k in range(4):
        apart = weight[y] - weight[k]
        worst = torch.where(apart > 0, low, high)
        lead = (apart * worst).sum(1) + bias[y] - bias[k]
        stands &= (lead > 0) | (y == k)
    return stands


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("seed", range(3))
def test_both_ends_meet_at_the_truth_for_a_linear_model(budget, seed):
    model = make_linear(seed)
    data = make_data(model)
    stands = standing_in_closed_form(model, data, EPS)
    assert 5 < stands.sum() < 55
    bracket = evaluate(model, data, EPS, budget=budget)
    assert torch.tensor([word == "" for word in bracket.broken_by]).equal(stands)
    assert bracket.attacked == bracket.certified == Rate.of(~stands)
    assert bracket.clean == Rate(5, 60)


@pytest.mark.parametrize("budget", BUDGETS)
def test_what_is_proved_never_falls(budget):
    """Certified is at least attacked, whatever the network and the size."""
    for seed in range(4):
        model = make_mlp(seed, scale=2.0).eval()
        data = make_data(model, 24)
        for eps in (0.0, 0.003, 0.01, 0.05, 0.5):
            bracket = evaluate(model, data, eps, budget=budget, seed=seed)
            fell = torch.tensor([word != "" for word in bracket.broken_by])
            proved = certified(model, *data, eps)
            assert bracket.certified is not None
            assert not (fell & proved).any()
            assert bracket.clean.count <= bracket.attacked.count <= bracket.certified.count
            assert bracket.certified == Rate.of(~proved)


def test_at_eps_0_only_the_errors_fall():
    model = make_mlp().eval()
    bracket = evaluate(model, make_data(model, 24), 0)
    assert bracket.passes.backward == 0
    assert bracket.attacked == bracket.clean == Rate(5, 24)


def test_each_word_says_what_broke_an_example_and_the_rates_count_them():
    model = make_mlp(scale=3.0).eval()
    bracket = evaluate(model, make_data(model), 0.02)
    kinds = [*bracket.by_attack, UNATTACKED, ""]
    assert set(bracket.broken_by) <= set(kinds)
    left = bracket.clean.total - bracket.clean.count
    for name, rate in bracket.by_attack.items():
        assert rate.count == bracket.broken_by.count(name)
        assert rate.total <= left
        left -= rate.count
    assert bracket.broken_by.count(UNATTACKED) == bracket.clean.count
    assert [*bracket.cumulated.values()][-1] == bracket.attacked
    assert bracket.attacked.count > bracket.clean.count


def test_the_same_seed_gives_the_same_and_nothing_else_is_touched():
    model = make_mlp(scale=3.0)  # in training mode
    model[1].weight.grad = torch.ones_like(model[1].weight)
    data = make_data(make_mlp(scale=3.0))
    kept, before = data.x.clone(), snapshot(model)
    first = evaluate(model, data, 0.02, seed=1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = evaluate(model, data, 0.02, seed=1)
    assert torch.get_rng_state().equal(state)
    assert (first.broken_by, first.by_attack, first.passes) == (
        again.broken_by,
        again.by_attack,
        again.passes,
    )
    assert data.x.equal(kept)
    torch.set_rng_state(before[6])
    assert same(before, snapshot(model))


def test_a_masked_model_falls_to_the_search_without_a_gradient():
    """Logits that are rounded: every gradient is zero."""
    linear = make_linear()
    data = make_data(linear)
    with torch.no_grad():
        bracket = evaluate(lambda x: (50 * linear(x)).round() + 0 * x.sum(), data, 2 * EPS)
    assert bracket.by_attack["PGD"].count <= bracket.by_attack["Square"].count
    assert bracket.by_attack["FGSM"].count == 0
    assert bracket.by_attack["Square"].count > 10


def test_a_random_model_is_judged_by_most_of_its_draws():
    linear = make_linear()
    data = make_data(linear, wrong=0)

    def noisy(x: Tensor) -> Tensor:
        return linear(x) + 0.5 * torch.randn(len(x), 4)

    torch.manual_seed(0)
    lucky = (noisy(data.x).argmax(1) != data.y).float().mean()
    assert lucky > 0.05, "some single draws are wrong"
    bracket = evaluate(noisy, data, 0.0)
    assert float(bracket.attacked) < lucky
    assert "most of" in bracket.note
    assert bracket.certified is None
    assert "random" in bracket.uncertified_because
    broken = evaluate(noisy, data, 2 * EPS).attacked
    # The noise favours no class, so what stands without it is rarely broken in most draws.
    stands = standing_in_closed_form(linear, data, 2 * EPS)
    assert bracket.attacked.count + 5 < broken.count <= int((~stands).sum()) + 2


def test_a_stream_gives_what_its_batches_give():
    model = make_mlp(scale=3.0).eval()
    data = make_data(model)
    parts = [(data.x[:35], data.y[:35]), (data.x[35:], data.y[35:])]
    whole = evaluate(model, (part for part in parts), 0.02)
    assert len(whole.broken_by) == 60
    assert whole.clean == Rate(5, 60)
    alone = evaluate(model, parts[:1], 0.02)
    assert whole.broken_by[:35] == alone.broken_by


def test_examples_of_other_models_are_tried():
    """Against a model that hides its own gradient, those of another like it."""
    linear = make_linear()
    data = make_data(linear)

    def hidden(x: Tensor) -> Tensor:
        return (50 * linear(x)).round() + 0 * x.sum()

    bracket = evaluate(hidden, data, EPS, sources={"the plain one": linear})
    assert bracket.by_attack["examples of the plain one"].count > 2
    assert "examples of source 1" in evaluate(hidden, data, EPS, sources=[linear]).by_attack


def test_a_model_without_a_gradient_is_searched_without_one():
    linear = make_linear()
    data = make_data(linear)

    def detached(x: Tensor) -> Tensor:
        return linear(x.detach())

    bracket = evaluate(detached, data, 3 * EPS)
    assert "detached" in bracket.note
    assert bracket.by_attack["PGD"] == bracket.by_attack["FGSM"] == Rate(0, 0)
    assert bracket.by_attack["Square"].count > 5
    assert bracket.passes.backward == 0
    helped = evaluate(detached, data, EPS, sources=[linear])
    assert helped.attacked == evaluate(linear, data, EPS).attacked


def test_an_architecture_without_a_rule_has_no_upper_end():
    model = nn.Sequential(nn.LocalResponseNorm(2), nn.Flatten(), nn.Linear(36, 4)).eval()
    bracket = evaluate(model, make_data(model, 12), 0.01)
    assert bracket.certified is None
    assert bracket.uncertified_because
    assert bracket.uncertified_because in str(bracket)
    assert bracket.uncertified_because in bracket._repr_markdown_()


def _nan_when_attacked(z):
    """Two classes by the mean; NaN for a bright image that differs from the clean one."""
    mean, moved = z.flatten(1).mean(1), (z.flatten(1) - 0.5).abs().sum(1) > 1e-4
    logits = torch.stack([0.35 - mean, mean - 0.35], 1)
    return torch.where((moved & (mean > 0.35))[:, None], torch.nan, logits)


@pytest.mark.parametrize(
    "attacked",
    [
        lambda x, y: evaluate(_nan_when_attacked, (x, y), 0.1, progress=False),
        lambda x, y: square(_nan_when_attacked, x, y, 0.1, queries=20),
        lambda x, y: pgd(_nan_when_attacked, x, y, 0.1, steps=1),
        lambda x, y: pgd(_nan_when_attacked, x, y, 0.1, steps=3),
    ],
    ids=["evaluate", "square", "pgd, last step", "pgd"],
)
def test_nan_logits_of_what_is_left_are_no_error_of_the_model(attacked):
    """argmax of NaN is some class, so an example would count as broken without a word."""
    images = torch.full((4, 1, 4, 4), 0.5)
    images[0] = 0.2  # wrong from the start, and left out: the others are fewer than the batch
    with pytest.raises(ValueError, match="NaN or infinity"):
        attacked(images, torch.tensor([1, 1, 1, 1]))


def test_unclipped():
    model = make_linear()
    bracket = evaluate(model, make_data(model), EPS, bounds=None)
    assert bracket.certified is not None
    assert bracket.attacked == bracket.certified
    assert bracket.attacked.count > evaluate(model, make_data(model), EPS).attacked.count


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": None}, TypeError, "model must be callable"),
        ({"eps": -0.1}, ValueError, "eps must be finite"),
        ({"eps": 8}, ValueError, "eps = 8 is more than"),
        ({"budget": "huge"}, ValueError, "budget must be one of fast, standard, thorough"),
        ({"sources": make_linear()}, TypeError, r"pass sources=\[model\]"),
        ({"sources": {1: make_linear(), "1": make_linear()}}, ValueError, "written alike.*own"),
        ({"sources": [None]}, TypeError, r"sources\['source 1'\] must be callable"),
        ({"data": 3}, TypeError, "data must be a Dataset"),
        ({"bounds": (1.0, 0.0)}, ValueError, "low < high"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    model = make_linear()
    good = {"model": model, "data": make_data(model, 12), "eps": EPS}
    with pytest.raises(error, match=words):
        evaluate(**{**good, **change})


def test_a_bad_batch_of_a_stream_is_named():
    model = make_linear()
    data = make_data(model, 12)
    with pytest.raises(ValueError, match=r"batch 2 of data: .*NaN"):
        evaluate(model, [tuple(data), (data.x / 0 * 0, data.y)], EPS)


def test_it_prints_its_ends_and_its_work():
    model = make_linear()
    bracket = evaluate(model, make_data(model), EPS)
    for text in (str(bracket), bracket._repr_markdown_()):
        for part in ("clean error", "at least", "at most", "FGSM", "forward", "udget standard"):
            assert part in text
    assert "both ends meet" in str(bracket)
    apart = Bracket(0.1, "fast", Rate(1, 10), Rate(2, 10), Rate(5, 10), "", ("",) * 10, {})
    assert "between 20.0 and 50.0 %" in str(apart)


def test_passes_are_those_that_the_model_sees():
    model = make_mlp(scale=3.0).eval()
    data, seen = make_data(model), 0

    def counting(x: Tensor) -> Tensor:
        nonlocal seen
        seen += 2 * len(x) if isinstance(x, Interval) else len(x)  # an interval has two ends
        return model(x)

    bracket = evaluate(counting, data, 0.02)
    assert 0 < bracket.passes.backward < bracket.passes.forward
    assert bracket.passes.forward == seen
    with passes() as outer:
        evaluate(model, data, 0.02)
    assert isinstance(outer, Passes)
    assert outer.forward == bracket.passes.forward


# --- The team -------------------------------------------------------------------------------------


def make_batch(model: nn.Module, data: Dataset, eps: float = EPS, **more) -> team.Batch:
    return team.Batch(
        model, *data, eps, bounds=(0.0, 1.0), generator=torch.Generator().manual_seed(0), **more
    )


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_every_image_that_the_model_is_shown_is_in_the_ball_and_the_bounds(bounds):
    """And each that was shown counts: none that fools the model is lost."""
    model = make_mlp(scale=3.0).eval()
    data = make_data(model, 24, wrong=0)
    own = data._replace(x=data.x + 10 * torch.arange(24).reshape(-1, 1, 1, 1))  # told apart by size
    fooled, eps = set(), 0.02

    def watching(z: Tensor) -> Tensor:
        rows = (z.flatten(1)[:, 0] / 10).round().long()
        images = z - 10 * rows.reshape(-1, 1, 1, 1)
        change = (images - data.x[rows]).abs().amax()
        assert change <= eps + 1e-4, "float32 keeps five digits of pixels near 240"
        if bounds is not None:
            assert images.min() >= -1e-4
            assert images.max() <= 1 + 1e-4
        logits = model(images)
        fooled.update(rows[logits.argmax(1) != data.y[rows]].tolist())
        return logits

    if bounds is None:
        bracket = evaluate(watching, own, eps, bounds=None)
        assert {i for i, word in enumerate(bracket.broken_by) if word} == fooled
        assert fooled
    else:
        seen = Recorder(model)
        evaluate(seen, data, eps, bounds=bounds)
        # Not the proof's.
        shown = [images for images in seen.seen if not isinstance(images, Interval)]
        assert len(shown) > 20
        assert all(images.min() >= 0 and images.max() <= 1 for images in shown)


def test_the_nearest_classes_are_those_with_the_largest_logits_at_the_best_images():
    model = make_linear()
    data = make_data(model, wrong=0)
    batch = make_batch(model, data)
    everything = torch.arange(60)
    batch.offer(batch.low, everything)
    with torch.no_grad():
        ranks = model(batch.best).argsort(1, descending=True).tolist()
    others = [[k for k in row if k != y] for row, y in zip(ranks, data.y.tolist(), strict=True)]
    assert team.near_classes(batch, everything, 9).tolist() == others
    assert team.near_classes(batch, everything[5:9], 2).tolist() == [row[:2] for row in others[5:9]]


def test_an_image_that_no_longer_moves_is_shown_no_more():
    """It does not where the gradient is zero, nor in the corner of the ball where a climb ends."""
    data = make_data(make_linear(), wrong=0)
    rounded, linear = (
        Recorder(lambda z: make_linear()((4 * z).round() / 4)),
        Recorder(make_linear()),
    )
    for model in (rounded, linear):
        batch = make_batch(model, data, 0.001)
        team.climb(batch, 20)
    assert len(rounded.seen) == 1
    assert 1 < len(linear.seen) < 20
    rivals = team.near_classes(batch, torch.arange(60), 1)[:, 0]
    weight = make_linear().linear.weight.detach()
    corner = data.x + 0.001 * (weight[rivals] - weight[data.y]).sign().reshape(data.x.shape)
    assert batch.best.allclose(corner.clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("share", "falls", "met"), [(0.3, (15, 15, 5), [20, 20, 20]), (0.3, (), [20]), (1, (50,), [60])]
)
def test_a_search_goes_on_as_long_as_most_fall(share, falls, met, monkeypatch):
    batch = make_batch(make_linear(), make_data(make_linear(), wrong=0))
    found = []

    def search(batch: team.Batch, rounds: object, *, warm: bool, share: float) -> None:
        rows = batch.nearest(share)
        batch.broken[rows[: sum(falls[len(found) : len(found) + 1])]] = True
        found.append(len(rows))

    monkeypatch.setattr(team, "random_search", search)
    team.searched(batch, ((1, 1),), share)
    assert found == met


def test_the_examples_with_the_smallest_margins_go_on():
    batch = make_batch(make_linear(), make_data(make_linear()))
    batch.margin = -torch.rand(60, generator=torch.Generator().manual_seed(0))
    batch.broken[:4] = True
    chosen = batch.nearest(0.5)
    assert len(chosen) == 28
    others = [i for i in range(4, 60) if i not in chosen.tolist()]
    assert batch.margin[chosen].min() > batch.margin[others].max()
    assert len(batch.nearest(0.01)) == team.FEW
    batch.safe[4:50] = True
    assert batch.nearest(0.01).tolist() == [*range(50, 60)]


def test_shrinking_steps_find_what_steps_of_one_size_find():
    """At least; and an example that has fallen is shown no more."""
    model = make_mlp(scale=3.0).eval()
    data = make_data(model, wrong=0)
    batch = make_batch(model, data, 0.06)
    with torch.no_grad():
        batch.offer(batch.x, torch.arange(60))
    team.climb(batch, 20)
    moved = pgd(model, *data, 0.06, steps=20, generator=torch.Generator().manual_seed(0))
    assert batch.broken.sum() >= (model(moved).argmax(1) != data.y).sum() > 5
    assert (model(batch.best).argmax(1) != data.y).equal(batch.broken)
    assert not batch.broken.all()


def test_a_lucky_draw_does_not_survive_fresh_ones():
    def coin(x: Tensor) -> Tensor:
        return torch.stack([torch.ones(len(x)), 2.0 * (torch.rand(len(x)) < 0.4)], 1)

    data = Dataset(make_digits(40), torch.zeros(40, dtype=torch.int64))
    batch = make_batch(coin, data, random=True)
    torch.manual_seed(0)
    for _ in range(5):
        batch.offer(data.x[batch.left()], batch.left())
    assert batch.broken.sum() > 10
    batch.confirm(batch.broken.nonzero().squeeze(1))
    assert batch.broken.sum() < 5


def test_it_can_be_had_from_the_package():
    assert {"evaluate", "Bracket", "square"} <= set(advlearn.__all__)
