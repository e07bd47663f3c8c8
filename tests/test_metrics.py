"""What is measured: against formulas written anew here, and by counting what it costs."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advlearn.attacks import fgsm, noise, pgd
from advlearn.data import Dataset, load_mnist
from advlearn.data.reference import load
from advlearn.functional import rbf
from advlearn.losses import margin_loss
from advlearn.metrics import (
    Rate,
    adversarial_error_rate,
    agreement,
    confidence_on_errors,
    craft,
    error_curve,
    error_rate,
    logits_along,
    predict,
    transfer_matrix,
)
from advlearn.models import Ensemble, MaxoutNet, RBFNet, SoftmaxRegression
from tests.attacks.table import same, snapshot
from tests.conftest import make_digits, make_mlp

X, Y = make_digits(24), torch.arange(24) % 4
DATA = Dataset(X, Y)
EPS = 0.1


class Tally(torch.autograd.Function):
    """The identity, which tells its owner when a gradient flows back."""

    @staticmethod
    def forward(ctx, logits, owner):
        ctx.owner = owner
        return logits.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.owner.backwards += 1
        return gradient, None


class Counting(nn.Module):
    """A model that counts its forward and backward passes."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.forwards, self.backwards = inner, 0, 0

    def forward(self, x):
        self.forwards += 1
        return Tally.apply(self.inner(x), self)


def constant(*rows):
    """Return a model that answers with these logits, whatever the images are."""
    return lambda x: torch.tensor(rows)[: len(x)] + 0 * x.flatten(1).sum(1, keepdim=True)


# --- The interval ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_has_the_published_values(count, total, low, high):
    assert Rate(count, total).interval == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("count", [0, 1, 7, 500, 993, 1000])
def test_the_interval_ends_where_the_score_test_just_rejects(count):
    """Wilson's ends p solve |share - p| = z sqrt(p (1 - p) / n): tested, not rearranged."""
    share = count / 1000
    for p in Rate(count, 1000).interval:
        assert abs(share - p) == pytest.approx(
            1.959964 * math.sqrt(max(p * (1 - p), 0) / 1000), abs=1e-9
        )


def test_the_interval_holds_the_truth_about_95_times_of_100():
    generator = torch.Generator().manual_seed(0)
    for truth in (0.02, 0.3, 0.9):
        counts = torch.bernoulli(torch.full((4000, 300), truth), generator=generator).sum(1)
        ends = [Rate(int(count), 300).interval for count in counts]
        covered = sum(low <= truth <= high for low, high in ends) / len(ends)
        assert 0.93 < covered < 0.975


def test_the_interval_stays_inside_0_and_1_and_is_never_empty():
    for total in (1, 2, 10, 5000):
        none, every = Rate(0, total).interval, Rate(total, total).interval
        assert none[0] == pytest.approx(0, abs=1e-12)
        assert every[1] == pytest.approx(1, abs=1e-12)
        assert 0 <= none[0] < none[1] < 1
        assert 0 < every[0] < every[1] <= 1
        assert none[1] == pytest.approx(1 - every[0])


def test_a_rate_reads_as_a_percentage_and_as_a_number():
    assert str(Rate(16, 1000)) == "1.6 % (1.0-2.6)"
    assert float(Rate(3, 4)) == 0.75
    assert str(Rate(0, 0)) == "no examples"
    assert math.isnan(float(Rate(0, 0)))
    assert Rate(0, 0).interval == (0.0, 1.0)


def test_the_rate_of_a_mask_counts_what_is_true():
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert Rate.of(mask) == Rate(2, 6)
    assert Rate.of(mask[:0]) == Rate(0, 0)
    assert Rate.of(mask[0]) != Rate.of(~mask[0])


# --- Error rates ----------------------------------------------------------------------------------


def test_errors_are_counted_over_all_examples():
    logits = [[2.0, 0.0, 0.5], [0.0, 1.0, 3.0], [0.0, 4.0, -1.0], [9.0, 8.0, 7.0]]
    y = torch.tensor([0, 1, 1, 2])
    assert error_rate(constant(*logits), (X[:4], y)) == Rate(2, 4)


def test_adversarial_errors_count_also_those_that_were_wrong_before():
    """A rate over the examples that the model got right would be 1 of 3 here."""
    x = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.9, 0.2], [0.2, 0.8]])
    y = torch.tensor([0, 0, 0, 0])
    assert error_rate(nn.Identity(), (x, y)) == Rate(1, 4)
    assert adversarial_error_rate(nn.Identity(), (x, y), 0.15) == Rate(2, 4)


def test_the_adversarial_error_is_that_of_the_attacks_images():
    model = make_mlp(scale=3.0).eval()
    for attack, options in ((fgsm, {"bounds": None}), (pgd, {"steps": 3, "random_start": False})):
        moved = attack(model, X, Y, EPS, **options)
        assert craft(model, DATA, EPS, attack=attack, **options).equal(moved)
        wrong = int((model(moved).argmax(1) != Y).sum())
        rate = adversarial_error_rate(model, DATA, EPS, attack=attack, **options)
        assert rate == Rate(wrong, 24)
        assert rate.count > error_rate(model, DATA).count


def test_transfer_crafts_on_the_source_and_asks_the_other():
    source, target = make_mlp(seed=1, scale=3.0).eval(), make_mlp(seed=2, scale=3.0).eval()
    crafted_on = []

    def attack(model, x, y, eps):
        crafted_on.append(model)
        return fgsm(model, x, y, eps)

    rate = adversarial_error_rate(target, DATA, 0.3, source=source, attack=attack)
    assert crafted_on == [source]
    expected = int((target(fgsm(source, X, Y, 0.3)).argmax(1) != Y).sum())
    assert rate == Rate(expected, 24)
    counts = {
        "transfer": rate.count,
        "white box": adversarial_error_rate(target, DATA, 0.3).count,
        "the other way": adversarial_error_rate(source, DATA, 0.3, source=target).count,
    }
    assert len(set(counts.values())) == 3, f"the seeds must tell these apart: {counts}"


def test_the_attack_gets_eps_and_the_options_as_they_were_given():
    seen = {}

    def attack(model, x, y, eps, **options):
        seen.update(options, eps=eps)
        return x

    adversarial_error_rate(make_mlp(), DATA, 0.07, attack=attack, bounds=None, steps=3)
    assert seen == {"eps": 0.07, "bounds": None, "steps": 3}


# --- Confidence -----------------------------------------------------------------------------------


def test_confidence_is_over_the_mistakes_and_over_all():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    result = confidence_on_errors(nn.Identity(), (logits, torch.tensor([0, 0, 1])))
    p = [1 / (1 + math.exp(-margin)) for margin in (2, 1, 3)]
    assert result.on_errors == pytest.approx((p[1] + p[2]) / 2, rel=1e-6)
    assert result.on_all == pytest.approx(sum(p) / 3, rel=1e-6)
    assert result.errors == Rate(2, 3)


def test_without_mistakes_the_confidence_over_them_is_nan():
    result = confidence_on_errors(nn.Identity(), (torch.eye(3) * 5, torch.arange(3)))
    assert math.isnan(result.on_errors)
    assert result.on_all == pytest.approx(float((torch.eye(3) * 5).softmax(1)[0, 0]))
    assert result.errors == Rate(0, 3)


def test_an_rbf_net_is_as_confident_as_its_own_probabilities():
    torch.manual_seed(0)
    model = RBFNet(36, 4, precision=0.2)
    with torch.no_grad():
        model.centre.uniform_()
    p = rbf(X.flatten(1), model.centre, model.log_precision.exp()).detach()
    wrong = p.argmax(1) != Y
    result = confidence_on_errors(model, DATA)
    assert result.on_errors == pytest.approx(float(p.amax(1)[wrong].mean()), rel=1e-4)
    assert result.on_all == pytest.approx(float(p.amax(1).mean()), rel=1e-4)
    softmax = model(X).softmax(1).amax(1).mean().item()
    assert abs(result.on_all - softmax) > 0.05, "the test must tell the two apart"


def test_a_sigmoid_top_is_as_confident_as_its_sigmoid():
    model = SoftmaxRegression(2, 2, top="sigmoid")
    with torch.no_grad():
        model.linear.weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 4.0]]))
    x = torch.tensor([[0.5, 0.75]])
    result = confidence_on_errors(model, (x, torch.tensor([0])))
    assert result.on_errors == pytest.approx(1 / (1 + math.exp(-3)), rel=1e-6)


def test_an_ensemble_is_as_confident_as_the_mean_of_its_members():
    members = [make_mlp(seed=1).eval(), make_mlp(seed=2).eval()]
    mean = sum(member(X).softmax(1).detach() for member in members) / 2
    result = confidence_on_errors(Ensemble(members), DATA)
    assert result.on_all == pytest.approx(float(mean.amax(1).mean()), rel=1e-5)


# --- The error curve ------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None], ids=["clipped", "unclipped"])
def test_the_error_curve_is_fgsm_eps_by_eps(bounds):
    model, eps = make_mlp(scale=3.0), [0.0, 0.05, 0.1, 0.3]
    curve = error_curve(model, DATA, eps, bounds=bounds)
    assert curve.eps == tuple(eps)
    for i, value in enumerate(eps):
        moved = fgsm(model, X, Y, value, bounds=bounds)
        alone = confidence_on_errors(model, (moved, Y))
        assert curve.errors[i] == alone.errors
        assert curve.confidence_on_errors[i] == pytest.approx(alone.on_errors, nan_ok=True)
        assert curve.confidence_on_all[i] == pytest.approx(alone.on_all)
    assert curve.errors[0] == error_rate(model, DATA)
    assert curve.errors[-1].count > curve.errors[0].count


@pytest.mark.parametrize(("batch_size", "passes"), [(24, 7), (72, 3 + 3), (500, 1 + 3)])
def test_the_error_curve_costs_one_gradient(batch_size, passes):
    """Images of several eps go through the model together, but no more of them than a batch has.

    Three passes of a few examples show before that each is looked at for itself.
    """
    model = Counting(make_mlp())
    error_curve(model, DATA, [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3], batch_size=batch_size)
    assert (model.forwards, model.backwards) == (1 + passes, 1)


class OverTheBatch(nn.Module):
    """Normalises by its batch, in eval mode too."""

    def __init__(self):
        super().__init__()
        self.inner = make_mlp(scale=3.0)

    def forward(self, x):
        return self.inner((x - x.mean(0)) / (x.std(0) + 0.1))


class OfOneSize(nn.Module):
    """As a model that was exported for batches of 24."""

    def __init__(self):
        super().__init__()
        self.inner = make_mlp(scale=3.0)

    def forward(self, x):
        return self.inner(x.view(24, 36))


@pytest.mark.parametrize("make", [OverTheBatch, OfOneSize])
def test_a_model_that_looks_at_the_whole_batch_is_given_whole_batches(make):
    model, sizes = make(), [0.05, 0.1]
    curve = error_curve(model, DATA, sizes, loss=margin_loss)
    each = [adversarial_error_rate(model, DATA, size, loss=margin_loss) for size in sizes]
    assert list(curve.errors) == each
    options = {"steps": 5, "step_size": 0.02, "random_start": False}
    best = craft(model, DATA, 0.1, attack=pgd, **options)
    counted = adversarial_error_rate(model, DATA, 0.1, attack=pgd, **options)
    assert counted == error_rate(model, (best, Y))


def test_the_error_curve_takes_a_tensor_of_eps_and_another_loss():
    model = make_mlp(scale=3.0)
    curve = error_curve(model, DATA, torch.tensor([0.1, 0.2]), loss=margin_loss)
    assert curve.eps == pytest.approx((0.1, 0.2))
    expected = adversarial_error_rate(model, DATA, 0.2, loss=margin_loss)
    assert curve.errors[1] == expected


# --- A walk, agreement and transfer ---------------------------------------------------------------


def test_logits_along_a_line_are_the_logits_of_its_points():
    model, x = make_mlp().eval(), X[:1]
    direction = torch.randn(X[:1].shape, generator=torch.Generator().manual_seed(0))
    eps = [-3.0, -0.5, 0.0, 2.0, 30.0]
    walk = logits_along(model, x, direction, eps)
    assert walk.shape == (5, 4)
    for row, value in zip(walk, eps, strict=True):
        torch.testing.assert_close(row, model(x + value * direction)[0])
    torch.testing.assert_close(logits_along(model, x, direction, torch.tensor(eps)), walk)


def test_logits_along_a_line_are_straight_for_a_linear_model():
    torch.manual_seed(0)
    model = nn.Linear(36, 3).double()
    x, direction = torch.rand(1, 36).double(), torch.randn(1, 36).double()
    walk = logits_along(model, x, direction, torch.linspace(-5, 5, 11).double())
    slope = direction @ model.weight.T
    torch.testing.assert_close(walk.diff(dim=0), slope.expand(10, 3).detach())


ONE = constant([5.0, 0, 0], [0, 5.0, 0], [0, 0, 5.0], [0, 5.0, 0])  # says 0, 1, 2, 1
TWO = constant([0, 5.0, 0], [0, 5.0, 0], [0, 5.0, 0], [5.0, 0, 0])  # says 1, 1, 1, 0
ZEROS = torch.zeros(4, dtype=torch.int64)  # so ONE errs on 1, 2 and 3, TWO on 0, 1 and 2


def test_agreement_is_over_the_first_models_mistakes():
    assert agreement(ONE, TWO, (X[:4], ZEROS)) == Rate(1, 3)
    assert agreement(TWO, ONE, (X[:4], ZEROS)) == Rate(1, 3)
    assert agreement(ONE, ONE, (X[:4], ZEROS)) == Rate(3, 3)


def test_agreement_where_both_are_wrong_leaves_out_the_others_hits():
    assert agreement(ONE, TWO, (X[:4], ZEROS), both_wrong=True) == Rate(1, 2)


def test_agreement_without_a_mistake_is_over_no_examples():
    right = torch.tensor([0, 1, 2, 1])
    assert agreement(ONE, TWO, (X[:4], right)) == Rate(0, 0)


def test_the_transfer_matrix_has_the_white_box_on_its_diagonal():
    models = {str(seed): make_mlp(seed=seed, scale=3.0) for seed in (1, 2, 3)}
    matrix = transfer_matrix(models, DATA, 0.3, bounds=None)
    assert matrix.names == ("1", "2", "3")
    for i, source in enumerate(models.values()):
        for j, target in enumerate(models.values()):
            rate = adversarial_error_rate(target, DATA, 0.3, source=source, bounds=None)
            assert matrix.errors[i][j] == rate
            if i == j:
                assert rate == adversarial_error_rate(target, DATA, 0.3, bounds=None)
    assert any(matrix.errors[i][j] != matrix.errors[j][i] for i in range(3) for j in range(3)), (
        "a transposed matrix must not pass"
    )


# --- Counting errors in fewer passes --------------------------------------------------------------


class Sizes:
    """A model that notes how many images it is shown, and answers by a network."""

    def __init__(self, network):
        self.network, self.seen = network.eval(), []

    def __call__(self, x):
        self.seen.append(len(x))
        return self.network(x)


def shown(data=DATA, **more):
    """Return the error rate under PGD of 10 steps, and how many images the model was shown."""
    model = Sizes(make_mlp(scale=3.0))
    options = {"attack": pgd, "steps": 10, "generator": torch.Generator().manual_seed(0)} | more
    return adversarial_error_rate(model, data, EPS, **options), sum(model.seen)


def test_a_lost_example_leaves_the_batch_where_only_errors_are_counted():
    rate, few = shown()
    for alike in (partial(pgd, steps=10), partial(partial(pgd), loss=margin_loss)):
        assert shown(attack=alike)[1] == few
    whole, all_ = shown(keep="best")
    assert all_ == 12 * len(X)
    assert few < all_ / 2
    assert rate.count >= whole.count >= shown(keep="last")[0].count


def test_what_was_asked_for_is_kept():
    """Said to the measure or to the attack; and images for another model are the strongest."""
    for keep in ("best", "last"):
        assert shown(keep=keep)[1] >= 11 * len(X)
        assert shown(attack=partial(pgd, steps=10, keep=keep))[1] >= 11 * len(X)
    model, other = make_mlp(seed=1, scale=3.0), make_mlp(seed=2, scale=3.0)
    own = torch.Generator().manual_seed(0)
    strongest = craft(model, DATA, EPS, attack=pgd, steps=10, generator=own)
    own = torch.Generator().manual_seed(0)
    options = {"attack": pgd, "steps": 10, "generator": own}
    moved_over = adversarial_error_rate(other, DATA, EPS, source=model, **options)
    assert moved_over == error_rate(other, (strongest, Y))
    assert shown(source=None) == shown()


def test_another_attack_gets_its_own_options_only():
    def attack(model, x, y, eps):
        return x

    assert adversarial_error_rate(make_mlp(), DATA, EPS, attack=attack) == error_rate(
        make_mlp(), DATA
    )


def test_at_least_as_many_errors_are_found_on_the_models_of_the_course():
    """Fewer passes, and no error less than by a whole walk, whatever the batch."""
    digits = load_mnist("test", source="offline").take(slice(0, 100))
    for name in ("softmax", "maxout", "maxout-adversarial", "robust"):
        model = load(name)
        for eps in (0.1, 0.3):
            counts = {}
            for keep in ("last", "best", "first"):
                own = torch.Generator().manual_seed(0)
                attack = partial(pgd, steps=10, keep=keep, generator=own)
                counts[keep] = adversarial_error_rate(model, digits, eps, attack=attack).count
            assert counts["first"] == counts["best"] >= counts["last"], (name, eps)


# --- What must not matter, and what must come back ------------------------------------------------


def everything(model, batch_size):
    """Measure all there is, so that two settings can be compared."""
    options = {"batch_size": batch_size}
    return (
        error_rate(model, DATA, **options),
        adversarial_error_rate(model, DATA, EPS, **options),
        confidence_on_errors(model, DATA, **options).errors,
        error_curve(model, DATA, [0.0, EPS], **options).errors,
        [round(value, 5) for value in confidence_on_errors(model, DATA, **options)[:2]],
        [round(v, 5) for v in error_curve(model, DATA, [0.0, EPS], **options)[3]],
    )


@pytest.mark.parametrize("batch_size", [1, 7, 24, 100])
def test_the_batch_size_changes_nothing(batch_size):
    model = make_mlp(scale=3.0)
    assert everything(model, batch_size) == everything(model, 1000)
    torch.testing.assert_close(
        predict(model, DATA, batch_size=batch_size), make_mlp(scale=3.0).eval()(X).detach()
    )


def test_dropout_and_batch_statistics_are_off():
    model = make_mlp()
    assert model.training
    torch.testing.assert_close(predict(model, DATA), make_mlp().eval()(X).detach())


@pytest.mark.parametrize(
    "measure",
    [
        lambda m: predict(m, DATA),
        lambda m: error_rate(m, DATA),
        lambda m: adversarial_error_rate(m, DATA, EPS),
        lambda m: confidence_on_errors(m, DATA),
        lambda m: error_curve(m, DATA, [0.0, EPS]),
        lambda m: logits_along(m, X[:1], X[1:2], [0.0, 1.0]),
        lambda m: agreement(m, m, DATA),
        lambda m: transfer_matrix({"m": m}, DATA, EPS),
    ],
    ids=["predict", "error", "fgsm", "confidence", "curve", "walk", "agreement", "transfer"],
)
def test_the_model_comes_back_as_it_was(measure):
    model = make_mlp()
    model[2].eval()
    model[1].weight.grad = torch.ones_like(model[1].weight)
    before, kept = snapshot(model), X.clone()
    measure(model)
    assert same(before, snapshot(model))
    assert X.equal(kept)


def test_logits_carry_no_graph():
    assert not predict(make_mlp(), DATA).requires_grad
    assert not logits_along(make_mlp(), X[:1], X[1:2], [1.0]).requires_grad


def test_works_where_gradients_are_off():
    model = make_mlp()
    expected = error_curve(model, DATA, [0.0, EPS])
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            assert error_curve(model, DATA, [0.0, EPS]) == expected


def test_noise_of_the_same_size_does_less_harm_than_fgsm():
    torch.manual_seed(0)
    model = MaxoutNet(36, (16,), pieces=3, classes=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(60)
    y = predict(model, DATA).argmax(1)
    generator = torch.Generator().manual_seed(0)
    harmless = adversarial_error_rate(
        model, (X, y), 0.2, attack=lambda m, x, y, eps: noise(x, eps, generator=generator)
    )
    assert adversarial_error_rate(model, (X, y), 0.2).count > 2 * harmless.count


# --- Bad input ------------------------------------------------------------------------------------

BAD = [
    (
        "data alone",
        {"data": X},
        TypeError,
        r"data must be a Dataset or a pair \(x, y\).*got Tensor",
    ),
    ("a triple", {"data": (X, Y, Y)}, TypeError, "data must be a Dataset or a pair"),
    ("a list of tensors", {"data": [X, X, Y]}, TypeError, "Dataset or a pair.*got list of 3"),
    ("integer pixels", {"data": ((255 * X).byte(), Y)}, TypeError, "torch.uint8"),
    ("NaN", {"data": (X / 0 * 0, Y)}, ValueError, "x holds NaN"),
    ("empty", {"data": (X[:0], Y[:0])}, ValueError, "empty batch"),
    ("one-hot labels", {"data": (X, F.one_hot(Y))}, ValueError, r"y must have shape \(24,\)"),
    ("float labels", {"data": (X, Y.float())}, TypeError, "y must have dtype torch.int64"),
    ("model", {"model": "mlp"}, TypeError, "model must be callable.*'mlp'"),
    ("batch of 0", {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ("batch of 2.5", {"batch_size": 2.5}, TypeError, "batch_size must be a whole number"),
]


@pytest.mark.parametrize(
    ("change", "error", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
@pytest.mark.parametrize(
    "measure",
    [
        predict,
        error_rate,
        confidence_on_errors,
        lambda m, d, **k: adversarial_error_rate(m, d, EPS, **k),
        lambda m, d, **k: error_curve(m, d, [EPS], **k),
    ],
    ids=["predict", "error_rate", "confidence", "adversarial", "curve"],
)
def test_bad_input_is_named_before_any_work(measure, change, error, words):
    model = Counting(SoftmaxRegression(36, 4))
    arguments = {"model": model, "data": (X, Y), "batch_size": 10} | change
    with pytest.raises(error, match=words):
        measure(arguments.pop("model"), arguments.pop("data"), **arguments)
    assert model.forwards == 0


BAD_LOGITS = [
    ("probabilities", lambda x: torch.full((len(x), 4), 0.25), ValueError, "probabilities"),
    ("too few classes", lambda x: torch.ones(len(x), 3), ValueError, "label 3.*0 to 2"),
    ("NaN", lambda x: torch.full((len(x), 4), torch.nan), ValueError, "NaN or infinity"),
    ("one row", lambda x: torch.ones(1, 4), ValueError, r"\(N, K\) = \(24, 2 or more\)"),
    ("classes", lambda x: Y, TypeError, "floating logits"),
]


@pytest.mark.parametrize(
    ("model", "error", "words"), [b[1:] for b in BAD_LOGITS], ids=[b[0] for b in BAD_LOGITS]
)
def test_bad_logits_are_named(model, error, words):
    with pytest.raises(error, match=words):
        error_rate(model, DATA)


def test_bad_eps_is_named_by_its_place():
    model = Counting(SoftmaxRegression(36, 4))
    for eps, error, words in (
        ([], ValueError, "eps is empty"),
        ([0.0, -0.1], ValueError, r"eps\[1\] must be finite and >= 0, got -0.1"),
        ([0.0, 0.1, 8], ValueError, r"eps\[2\] = 8 is more than.*8/255"),
        (["0.1"], TypeError, r"eps\[0\] must be a number"),
        ([0.1, torch.rand(1, 3, 1, 1)], ValueError, r"eps\[1\] must be one number, got shape"),
    ):
        with pytest.raises(error, match=words):
            error_curve(model, DATA, eps)
    with pytest.raises(ValueError, match="outside bounds"):
        error_curve(model, (2 * X, Y), [0.1])
    assert model.forwards == 0


def test_a_bad_walk_is_named():
    for x, direction in ((X[:2], X[:2]), (X[:1], X[:2]), (X[:1], X[:1].flatten(1))):
        with pytest.raises(ValueError, match=r"x must be one example \(1, ...\)"):
            logits_along(make_mlp(), x, direction, [1.0])


def test_eps_for_each_example_or_channel_is_kept_across_batches():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    x, y = torch.rand(6, 3, 2, 2), torch.arange(6) % 4
    each, channels = torch.linspace(0, 0.2, 6), torch.tensor([0.0, 0.1, 0.2]).view(1, 3, 1, 1)
    options = {"batch_size": 3, "bounds": None}
    for eps in (each, each.view(6, 1, 1, 1), channels, channels[0], torch.tensor(0.1)):
        once = fgsm(model, x, y, eps, bounds=None)
        assert craft(model, (x, y), eps, **options).equal(once)
        expected = error_rate(model, (once, y))
        assert adversarial_error_rate(model, (x, y), eps, **options) == expected
        matrix = transfer_matrix({"a": model, "b": model}, (x, y), eps, **options)
        assert matrix.errors == ((expected, expected),) * 2
    stream = [(x[:3], y[:3]), (x[3:], y[3:])]
    by_channel = adversarial_error_rate(model, stream, channels, **options)
    assert by_channel == adversarial_error_rate(model, (x, y), channels, **options)
    for eps in (each, each.view(6, 1, 1, 1), each[:3]):
        with pytest.raises(ValueError, match=r"eps has shape .* a stream does not say which"):
            adversarial_error_rate(model, stream, eps, **options)
    with pytest.raises(ValueError, match=r"eps must be .*got \(3,\)"):
        craft(model, (x, y), each[:3], **options)
