"""Training on the bound: the step against its definition, its schedule, its start, its refusals."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from advlearn import training
from advlearn.certify import UnboundedError, certified_error_rate, logit_bounds
from advlearn.data import load_mnist
from advlearn.metrics import error_rate
from advlearn.models import ConvNet, MaxoutNet, RBFNet
from advlearn.training import Recipe, certified_fit, draw_for_bounds, fit
from tests.conftest import make_digits, make_mlp
from tests.test_training import equal, plain_mlp, weights

X, Y = make_digits(60), torch.arange(60) % 4
EPS = 0.1

pytestmark = pytest.mark.usefixtures("one_thread")


def one_step(model, **options):
    """Return the parameter gradients of one whole-batch step at the full eps, and the loss."""
    before = weights(model)
    recipe = Recipe(epochs=1, batch_size=len(Y), lr=1.0, momentum=0.0)
    data = X.double(), Y
    # A ramp that is over at the start: the one step there is takes the values of its end.
    history = certified_fit(
        model, data, recipe, eps=EPS, ramp=(0.0, 0.0), progress=False, **options
    )
    after = model.state_dict()
    return {name: before[name] - after[name] for name in before}, history["loss"][0]


def definition(model, kappa, bounds):
    """Differentiate kappa J(z) + (1 - kappa) J(z_worst), each bound written out by itself."""
    x = X.double().flatten(1)
    low, high = (
        (x - EPS, x + EPS) if bounds is None else ((x - EPS).clamp(0), (x + EPS).clamp(0, 1))
    )
    first, last = model[1], model[3]

    def extreme(weight, bias, at_positive, at_negative):
        return at_positive @ weight.clamp_min(0).T + at_negative @ weight.clamp_max(0).T + bias

    hidden_low = extreme(first.weight, first.bias, low, high).relu()
    hidden_high = extreme(first.weight, first.bias, high, low).relu()
    worst = torch.zeros(len(x), 4, dtype=x.dtype)
    for i, label in enumerate(Y.tolist()):
        apart, shift = last.weight - last.weight[label], last.bias - last.bias[label]
        worst[i] = extreme(apart, shift, hidden_high[i], hidden_low[i])
    loss = kappa * nn.functional.cross_entropy(model(x), Y)
    loss = loss + (1 - kappa) * nn.functional.cross_entropy(worst, Y)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}, float(loss.detach())


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
def test_the_step_is_the_definitions(kappa, bounds):
    expected, loss = definition(plain_mlp(), kappa, bounds)
    gradients, measured = one_step(plain_mlp(), kappa=kappa, bounds=bounds)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-12)
    assert measured == pytest.approx(loss, rel=1e-9)


def test_the_definitions_parts_differ():
    """If kappa or the bounds did nothing, the test above could not fail."""
    several = [
        definition(plain_mlp(), kappa, bounds)[0]["1.weight"]
        for kappa, bounds in ((0.0, None), (1.0, None), (0.0, (0.0, 1.0)))
    ]
    for i, one in enumerate(several):
        for other in several[:i]:
            assert (one - other).abs().max() > 1e-3


# --- The schedule ---------------------------------------------------------------------------------


def test_intervals_grow_from_0_to_1_and_never_jump():
    sizes = [training._grown(step / 1000) for step in range(1001)]
    assert (sizes[0], sizes[-1]) == (0.0, 1.0)
    steps = [after - before for before, after in pairwise(sizes)]
    assert min(steps) >= 0
    assert steps == pytest.approx(sorted(steps), abs=1e-12), "it grows faster and faster, or evenly"
    assert max(steps) < 0.0013
    assert training._grown(0.25) == pytest.approx(1 / 13)


def seen_by(monkeypatch, epochs=10, **options):
    """Return (share of eps, weight of the clean loss) of each epoch's one step."""
    seen = []
    whole = training.propagate

    def propagate(model, pixels):
        if torch.is_grad_enabled():  # in a step, not in the checks before
            seen.append(float(pixels.radius.max()) / EPS)
        return whole(model, pixels)

    monkeypatch.setattr(training, "propagate", propagate)
    recipe = Recipe(epochs=epochs, batch_size=len(Y))
    data = X.double() * 0 + 0.5, Y  # clipped nowhere
    certified_fit(plain_mlp(), data, recipe, eps=EPS, progress=False, **options)
    return seen


def test_the_ramp_begins_and_ends_where_it_says(monkeypatch):
    seen = seen_by(monkeypatch, kappa=(0.5, 0.5), ramp=(0.2, 0.6))
    assert seen[:3] == [0, 0, 0]
    assert 0 < seen[3] < seen[4] < seen[5] < 1
    assert seen[4] == pytest.approx(training._grown(0.5), abs=1e-6)
    assert seen[6:] == pytest.approx([1, 1, 1, 1])


def test_a_single_kappa_starts_at_1(monkeypatch):
    one, two = plain_mlp(), plain_mlp()
    recipe, data = Recipe(epochs=4, batch_size=20), (X.double(), Y)
    certified_fit(one, data, recipe, eps=EPS, kappa=0.25, progress=False)
    certified_fit(two, data, recipe, eps=EPS, kappa=(1.0, 0.25), progress=False)
    assert equal(weights(one), weights(two))
    # At weight 1 no bound is asked for: the first step is over before the ramp begins.
    assert len(seen_by(monkeypatch, kappa=0.25, ramp=(0.25, 0.5))) == 7


class Passes(nn.Module):
    """A model that counts its forward passes, of images and of intervals."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.forwards = inner, 0

    def forward(self, x):
        self.forwards += 1
        return self.inner(x)


@pytest.mark.parametrize(("kappa", "passes"), [(0.0, 1), (0.5, 2), (1.0, 1)])
def test_a_pass_that_weighs_nothing_is_left_out(kappa, passes):
    model, counts = Passes(plain_mlp()), []
    for epochs in (1, 3):
        model.forwards = 0
        recipe = Recipe(epochs=epochs, batch_size=20)
        certified_fit(model, (X.double(), Y), recipe, eps=EPS, kappa=(kappa, kappa), progress=False)
        counts.append(model.forwards)
    assert counts[1] - counts[0] == 2 * 3 * passes


def test_kappa_1_is_plain_training():
    one, two = plain_mlp(), plain_mlp()
    recipe, data = Recipe(epochs=2, batch_size=20), (X.double(), Y)
    certified_fit(one, data, recipe, eps=EPS, kappa=1.0, progress=False)
    fit(two, data, recipe, progress=False)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


# --- What comes of it -----------------------------------------------------------------------------


def test_training_on_the_bound_certifies_what_plain_training_does_not():
    digits = load_mnist("train", source="offline")
    train, validation = digits.take(slice(0, 1000)), digits.take(slice(1000, 1500))
    recipe = Recipe(epochs=8, batch_size=25, optimizer="adam", lr=0.005, lr_final=0.0005)
    errors = []
    for train_it in (fit, partial(certified_fit, eps=0.1)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 10))
        draw_for_bounds(model)
        train_it(model, train, recipe, progress=False)
        assert float(error_rate(model, validation)) < 0.3
        errors.append(float(certified_error_rate(model, validation, 0.1)))
    assert errors[0] > 0.95
    assert errors[1] < 0.7, errors


def test_a_run_that_was_cut_ends_as_one_that_was_not(tmp_path):
    recipe, data = Recipe(epochs=4, batch_size=20, optimizer="adam", lr=0.01), (X, Y)
    whole, cut = plain_mlp(dtype=torch.float32), plain_mlp(dtype=torch.float32)
    certified_fit(whole, data, recipe, eps=EPS, progress=False)

    file, epochs = tmp_path / "run.safetensors", []

    def measure(model):
        epochs.append(1)
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return {}

    kept = {"eps": EPS, "progress": False, "checkpoint": file}
    with pytest.raises(KeyboardInterrupt):
        certified_fit(cut, data, recipe, measure=measure, **kept)
    other = plain_mlp(seed=3, dtype=torch.float32)
    certified_fit(other, data, recipe, **kept)
    assert equal(weights(whole), weights(other))
    for changes in ({"kappa": 0.4}, {"ramp": (0.0, 0.5)}, {"eps": 0.2}):
        (name,) = changes
        with pytest.raises(ValueError, match=rf"of another run .*{name}"):
            certified_fit(other, data, recipe, **{**kept, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"eps": -0.1}, ValueError, "eps"),
        ({"kappa": 1.5}, ValueError, "kappa"),
        ({"kappa": (0.5, -1.0)}, ValueError, r"kappa\[1\]"),
        ({"kappa": (0.5, 0.4, 0.3)}, TypeError, "kappa must be two weights"),
        ({"ramp": 0.5}, TypeError, "ramp must be two shares of the run"),
        ({"ramp": (0.5, 1.5)}, ValueError, r"ramp\[1\]"),
        ({"ramp": (0.6, 0.5)}, ValueError, "ramp must begin before it ends"),
        ({"recipe": {"epochs": 1}}, TypeError, "recipe must be an advlearn.training.Recipe"),
        ({"measure": "error"}, TypeError, "measure must be a function of the model"),
        ({"measure": lambda: {}}, TypeError, "measure must take the model alone"),
        ({"checkpoint": 5}, TypeError, "checkpoint must be the path of a file"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_trained(changes, error, message):
    model = plain_mlp()
    before = weights(model)
    options = {"recipe": Recipe(epochs=1), "eps": EPS, "progress": False} | changes
    with pytest.raises(error, match=message):
        certified_fit(model, (X.double(), Y), **options)
    assert equal(before, weights(model))


def test_a_model_that_cannot_be_bounded_is_refused_before_it_is_trained():
    model = nn.Sequential(plain_mlp(dtype=torch.float32), nn.Hardswish())
    before = weights(model)
    with pytest.raises(UnboundedError, match=r"hardswish.*Hardswish"):
        certified_fit(model, (X, Y), Recipe(epochs=1), eps=EPS, progress=False)
    assert equal(before, weights(model))


# --- The start ------------------------------------------------------------------------------------


def test_a_drawn_start_has_the_deviation_of_its_source_and_keeps_the_width_of_bounds():
    torch.manual_seed(0)
    model = ConvNet((32, 64), dense=200)
    x = torch.full((1, 1, 28, 28), 0.5)
    usual = float(logit_bounds(model, x, EPS).radius.mean()) / EPS
    draw_for_bounds(model)
    for layer in (model.layers[0], model.layers[2], model.layers[5]):
        inputs = layer.weight[0].numel()
        deviation = float(layer.weight.detach().std())
        assert deviation == pytest.approx(math.sqrt(2 * math.pi) / inputs, rel=0.15)
        assert not layer.bias.any()
    drawn = float(logit_bounds(model, x, EPS).radius.mean()) / EPS
    assert 0.5 < drawn < 4 < usual / 4, (drawn, usual)


def test_a_drawn_start_comes_from_the_global_random_numbers():
    models = [ConvNet((2, 3), dense=4, size=8) for _ in range(3)]
    for seed, model in zip((1, 1, 2), models, strict=True):
        torch.manual_seed(seed)
        draw_for_bounds(model)
    assert equal(weights(models[0]), weights(models[1]))
    assert not equal(weights(models[0]), weights(models[2]))


def test_a_layer_without_a_bias_is_drawn_and_a_model_without_layers_is_refused():
    layer = nn.Linear(1000, 10, bias=False)
    draw_for_bounds(nn.Sequential(layer))
    assert float(layer.weight.detach().abs().mean()) == pytest.approx(2 / 1000, rel=0.05)
    with pytest.raises(ValueError, match=r"RBFNet, has no linear or convolutional layer"):
        draw_for_bounds(RBFNet(4, classes=2))


COMPUTED = {
    "weight_norm": (parametrizations.weight_norm, "parametrizations.weight.original0"),
    "orthogonal": (parametrizations.orthogonal, "parametrizations.weight.original"),
    "spectral_norm": (parametrizations.spectral_norm, "parametrizations.weight.original"),
    "weight_norm of old": (nn.utils.weight_norm, "weight_g, weight_v"),
    "spectral_norm of old": (nn.utils.spectral_norm, "weight_orig"),
    "pruned": (partial(prune.l1_unstructured, name="weight", amount=1), "weight_orig"),
    "a pruned bias": (partial(prune.l1_unstructured, name="bias", amount=1), "bias_orig"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_a_layer_whose_weight_is_computed_is_refused_before_anything_is_drawn(kind):
    wrap, names = COMPUTED[kind]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Sequential(wrap(nn.Linear(8, 3))))
    before, state = weights(model), torch.get_rng_state()
    which = "bias" if "bias" in kind else "weight"
    words = rf"2\.0\.{which} of model is computed from {names}.*Remove the parametrisation"
    with pytest.raises(ValueError, match=words):
        draw_for_bounds(model)
    assert equal(before, weights(model))
    assert torch.get_rng_state().equal(state)


def test_the_remedy_for_a_layer_whose_weight_is_computed_works():
    layer = parametrizations.weight_norm(nn.Linear(50, 40))
    with pytest.raises(ValueError, match="and weight of model is computed from"):
        draw_for_bounds(layer)
    draw_for_bounds(parametrize.remove_parametrizations(layer, "weight"))
    assert float(layer.weight.detach().abs().mean()) == pytest.approx(2 / 50, rel=0.1)


# --- Layers that act otherwise in training, and streams -------------------------------------------


def test_batch_norm_in_training_is_refused_before_any_step_and_the_remedy_works():
    model = make_mlp()
    before, state = weights(model), torch.get_rng_state()
    with pytest.raises(
        UnboundedError, match=r"statistics of the batch in the layer '2'.*\.eval\(\)"
    ):
        certified_fit(model, (X, Y), Recipe(epochs=1), eps=EPS, progress=False)
    assert equal(before, weights(model)), "nor have its statistics moved"
    assert torch.get_rng_state().equal(state)
    model.train()
    model[2].eval()
    certified_fit(model, (X, Y), Recipe(epochs=2, batch_size=20), eps=EPS, progress=False)
    after = weights(model)
    assert after["2.running_mean"].equal(before["2.running_mean"])
    assert not after["1.weight"].equal(before["1.weight"])
    assert (model.training, model[2].training) == (True, False)


def test_dropout_is_on_and_the_bound_draws_a_mask_of_its_own():
    trained = []
    for drop in (0.0, 0.5, 0.5):
        torch.manual_seed(0)
        model = MaxoutNet(36, (12,), pieces=2, classes=4, hidden_dropout=drop, input_dropout=0.0)
        draw_for_bounds(model)
        # The clean pass weighs nothing: all that is seen is the bound's.
        recipe = Recipe(epochs=1, batch_size=20)
        certified_fit(model, (X, Y), recipe, eps=EPS, kappa=(0.0, 0.0), progress=False)
        trained.append([p.clone() for p in model.parameters()])
    assert not trained[0][0].equal(trained[1][0])
    assert all(a.equal(b) for a, b in zip(trained[1], trained[2], strict=True))


def test_a_stream_is_trained_on_as_the_pair():
    class Fixed:
        """The same batches in the same order, once for each epoch."""

        def __len__(self):
            return 3

        def __iter__(self):
            yield from zip(X.double().split(20), Y.split(20), strict=True)

    one, two = plain_mlp(), plain_mlp()
    recipe = Recipe(epochs=6, batch_size=20)
    history = certified_fit(one, Fixed(), recipe, eps=EPS, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randperm", torch.arange)
        certified_fit(two, (X.double(), Y), recipe, eps=EPS, progress=False)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert len(history.rows) == 6


def test_a_bar_is_shown_and_can_be_left_out(capsys):
    for progress in (False, True):
        certified_fit(plain_mlp(), (X.double(), Y), Recipe(epochs=1), eps=EPS, progress=progress)
        assert ("epoch 1/1" in capsys.readouterr().err) == progress


def test_fast_training_bounds_in_bfloat16_and_keeps_float32():
    model = plain_mlp(dtype=torch.float32)
    recipe = Recipe(epochs=2, batch_size=20, precision="fast")
    history = certified_fit(model, (X, Y), recipe, eps=EPS, progress=False)
    assert all(math.isfinite(loss) for loss in history["loss"])
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_units_of_one_input_keep_their_start():
    """A bias of 0 would leave half of them off for every pixel, for good."""
    model = ConvNet((2, 3), pixelwise=4, dense=4, size=8)
    before = weights(model)
    draw_for_bounds(model)
    after = weights(model)
    assert {name for name in before if after[name].equal(before[name])} == {
        "layers.0.weight",
        "layers.0.bias",
    }
