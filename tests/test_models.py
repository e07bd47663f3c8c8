"""The models: each against its formula, and the recipe of the paper's network."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from advlearn.attacks import fgsm, input_gradient
from advlearn.functional import rbf
from advlearn.losses import cross_entropy, logistic_loss, margin_loss
from advlearn.metrics import confidence_on_errors, error_rate
from advlearn.models import (
    ConvMaxoutNet,
    ConvNet,
    Ensemble,
    LogisticRegression,
    MaxoutNet,
    Normalize,
    RBFNet,
    SoftmaxRegression,
    TwoLogits,
    normalized_eps,
    pixel_eps,
    probabilities,
)
from tests.conftest import make_digits

X, Y = make_digits(24), torch.arange(24) % 4

MODELS = {
    "logistic": lambda: LogisticRegression(36),
    "softmax": lambda: SoftmaxRegression(36, 4),
    "maxout": lambda: MaxoutNet(36, (8, 6), pieces=3, classes=4),
    "conv": lambda: ConvMaxoutNet((4, 3), pieces=2, classes=4, size=6, colours=1),
    "conv dense": lambda: ConvMaxoutNet((4,), dense=5, classes=4, size=6, colours=1),
    "convolutional": lambda: ConvNet((3, 4), dense=5, classes=4, size=6),
    "rbf": lambda: RBFNet(36, 4),
    "ensemble": lambda: Ensemble([SoftmaxRegression(36, 4), MaxoutNet(36, (5,), classes=4)]),
    "normalized": lambda: nn.Sequential(Normalize([0.1], [0.3]), SoftmaxRegression(36, 4)),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


def stir(model, seed=0, scale=0.3):
    """Give every parameter a value of its own, so that no formula hides behind zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


# --- What all of them share -----------------------------------------------------------------------


@every_model
def test_logits_are_one_row_for_each_image(make):
    model = make().eval()
    classes = 2 if isinstance(model, LogisticRegression) else 4
    assert model(X).shape == (24, classes)
    assert model(X[:1]).shape == (1, classes)
    torch.testing.assert_close(model(X)[:3], model(X[:3]))


@every_model
def test_the_seed_decides_the_start_and_the_dropout(make):
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        model = make().train()
        runs.append([*(p.detach().clone() for p in model.parameters()), model(X).detach()])
    assert all(a.equal(b) for a, b in zip(runs[0], runs[1], strict=True))
    if any(isinstance(m, nn.Dropout | nn.Dropout2d) for m in make().modules()):
        assert not runs[0][-1].equal(runs[2][-1])


@every_model
def test_the_weights_make_a_round_trip_through_safetensors(make, tmp_path):
    model, other = stir(make(), 1).eval(), stir(make(), 2).eval()
    assert not model(X).equal(other(X))
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert model(X).equal(other(X))


@every_model
def test_float64_models_compute_in_float64(make):
    model = stir(make()).double().eval()
    assert model(X.double()).dtype == torch.float64


@every_model
def test_gradients_reach_the_pixels_and_every_parameter(make):
    model = stir(make()).eval()
    pixels = X.clone().requires_grad_()
    model(pixels)[:, 0].sum().backward()
    assert pixels.grad.abs().sum() > 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# --- Linear models --------------------------------------------------------------------------------


def test_the_cross_entropy_of_logistic_regression_is_the_logistic_loss():
    model = stir(LogisticRegression(36), scale=2.0).double()
    x, label = X.double(), torch.arange(24) % 2
    y = 2.0 * label - 1
    loss = logistic_loss(model.score(x), y)
    torch.testing.assert_close(cross_entropy(model(x), label), loss, rtol=0, atol=1e-13)
    by_hand = torch.log1p(torch.exp(-y * (x.flatten(1) @ model.weight + model.bias)))
    torch.testing.assert_close(loss, by_hand, rtol=0, atol=1e-12)
    p = probabilities(model, model(x))[:, 1]
    torch.testing.assert_close(p, model.score(x).sigmoid(), rtol=0, atol=1e-13)


def test_logistic_regression_shows_its_weights():
    model = stir(LogisticRegression(36))
    assert model.weight.shape == (36,)
    assert model.bias.shape == ()
    expected = X.flatten(1) @ model.weight + model.bias
    torch.testing.assert_close(model.score(X), expected)


@pytest.mark.parametrize("make", [LogisticRegression, SoftmaxRegression])
def test_convex_models_start_at_zero_for_784_pixels(make):
    state = make().state_dict()
    assert state["linear.weight"].shape[1] == 784
    assert not any(value.any() for value in state.values())


def test_softmax_regression_is_its_formula():
    model = stir(SoftmaxRegression(36, 4))
    weight, bias = model.linear.weight, model.linear.bias
    torch.testing.assert_close(model(X), X.flatten(1) @ weight.T + bias)
    p = model.probabilities(model(X))
    torch.testing.assert_close(p, F.softmax(model(X), 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda top: SoftmaxRegression(36, 4, top=top),
        lambda top: MaxoutNet(36, (5,), classes=4, top=top),
    ],
    ids=["linear", "maxout"],
)
def test_a_sigmoid_top_gives_independent_probabilities(make):
    logits = torch.tensor([[0.0, 2.0, -2.0, 5.0]])
    expected = torch.tensor([[1 / (1 + math.exp(-v)) for v in (0, 2, -2, 5)]])
    torch.testing.assert_close(probabilities(make("sigmoid"), logits), expected)
    torch.testing.assert_close(probabilities(make("softmax"), logits), logits.softmax(1))
    assert float(expected.sum()) > 1.5


def test_a_plain_function_means_the_softmax():
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    assert probabilities(lambda x: x, logits).equal(logits.softmax(1))


# --- The maxout network ---------------------------------------------------------------------------


def test_maxout_starts_as_in_its_paper():
    torch.manual_seed(0)
    model = MaxoutNet()
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert [tuple(module.weight.shape) for module in linear] == [
        (1200, 784),
        (1200, 240),
        (10, 240),
    ]
    for module in linear:
        assert not module.bias.any()
        weight = module.weight.detach()
        assert weight.abs().max() <= 0.005
        assert weight.abs().max() > 0.0049
        assert float(weight.std()) == pytest.approx(0.005 / 3**0.5, rel=0.05)
        assert abs(float(weight.mean())) < 3 * 0.003 / weight.numel() ** 0.5


def test_maxout_is_its_formula_in_eval_mode():
    model = stir(MaxoutNet(36, (5,), pieces=3, classes=4)).eval()
    first, last = (module for module in model.modules() if isinstance(module, nn.Linear))
    z = X.flatten(1) @ first.weight.T + first.bias
    hidden = torch.stack([z[:, p * 5 : (p + 1) * 5] for p in range(3)]).amax(0)
    torch.testing.assert_close(model(X), hidden @ last.weight.T + last.bias)


def test_input_dropout_is_not_rescaled():
    torch.manual_seed(0)
    drop = MaxoutNet(1000, (2,)).layers[0]
    x = torch.rand(400, 1000) + 0.5
    out = drop.train()(x)
    kept = out != 0
    assert out[kept].equal(x[kept]), "a pixel is dropped or left alone, never brighter"
    assert float(kept.double().mean()) == pytest.approx(0.8, abs=0.003)
    assert float(out.mean() / x.mean()) == pytest.approx(0.8, abs=0.003)
    assert drop.eval()(x).equal(x)


def test_hidden_dropout_is_rescaled():
    torch.manual_seed(0)
    drop = MaxoutNet(4, (2,), hidden_dropout=0.5).layers[2]
    x = torch.ones(400, 1000)
    out = drop.train()(x)
    assert out.unique().tolist() == [0.0, 2.0]
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    assert drop.eval()(x).equal(x)


def test_without_dropout_training_and_eval_are_the_same():
    model = stir(MaxoutNet(36, (5, 5), classes=4, input_dropout=0.0, hidden_dropout=0.0))
    before = torch.get_rng_state()
    assert model.train()(X).equal(model.eval()(X))
    assert torch.get_rng_state().equal(before)
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())
    dropping = stir(MaxoutNet(36, (5, 5), classes=4))
    assert not dropping.train()(X).equal(dropping.eval()(X))


# --- Convolutions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 6, 7, 28, 32, 33])
@pytest.mark.parametrize("dense", [0, 3])
def test_convolutions_fit_any_image(size, dense):
    model = ConvMaxoutNet((2, 3, 2), dense=dense, classes=5, size=size, colours=3)
    assert model(torch.rand(2, 3, size, size)).shape == (2, 5)


def test_each_block_halves_the_image_and_maxes_over_pieces():
    model = stir(ConvMaxoutNet((4,), pieces=3, classes=2, size=7, colours=1)).eval()
    (convolution,) = model.convolutions
    assert convolution.weight.shape == (12, 1, 5, 5)
    z = F.conv2d(
        make_digits(2).new_ones(2, 1, 7, 7), convolution.weight, convolution.bias, padding=2
    )
    pieces = torch.stack([z[:, p * 4 : (p + 1) * 4] for p in range(3)]).amax(0)
    pooled = F.max_pool2d(pieces, 3, stride=2, padding=1)
    assert pooled.shape == (2, 4, 4, 4)
    last = model.top[-1]
    expected = pooled.flatten(1) @ last.weight.T + last.bias
    torch.testing.assert_close(model(torch.ones(2, 1, 7, 7)), expected)


def test_convolutions_drop_in_training_only():
    torch.manual_seed(0)
    model = ConvMaxoutNet((8,), classes=2, size=6, colours=1, input_dropout=0.5)
    assert not model.train()(X).equal(model(X))
    assert model.eval()(X).equal(model(X))


# --- The RBF network ------------------------------------------------------------------------------


def test_rbf_probabilities_are_the_formula():
    model = stir(RBFNet(36, 4, precision=0.05), scale=0.2)
    x = X.flatten(1)
    shown = model.probabilities(model(X))
    expected = rbf(x, model.centre, model.log_precision.exp())
    torch.testing.assert_close(shown, expected, rtol=1e-4, atol=1e-6)
    log_odds = torch.log(expected.double() / (1 - expected.double())).float()
    torch.testing.assert_close(model(X), log_odds, rtol=1e-3, atol=1e-3)


def test_rbf_can_say_none_of_these():
    model = RBFNet(36, 4, precision=1.0)
    far = model.probabilities(model(torch.full((1, 36), 5.0)))
    assert far.sum().item() < 1e-6
    near = model.probabilities(model(torch.full((1, 36), 0.5)))
    assert near.sum().item() > 3.9


def test_rbf_gradients_are_finite_at_a_centre_and_far_away():
    model = RBFNet(36, 4)
    for value in (0.5, 0.5 + 1e-6, 0.0, 1.0, 300.0):
        pixels = torch.full((1, 36), value, requires_grad=True)
        logits = model(pixels)
        logits.sum().backward()
        assert logits.isfinite().all(), value
        assert pixels.grad.isfinite().all(), value
        assert all(p.grad.isfinite().all() for p in model.parameters()), value
        model.zero_grad()


def test_rbf_precision_is_the_one_that_was_asked_for():
    model = RBFNet(3, 2, precision=0.3)
    torch.testing.assert_close(model.log_precision.exp(), torch.full((2, 3), 0.3))


def test_rbf_starts_from_the_class_means():
    model = RBFNet(36, 4)
    model.start_from(X, Y)
    for label in range(4):
        torch.testing.assert_close(model.centre[label], X[label == Y].mean(0).flatten())
    assert model.centre.requires_grad
    assert model.probabilities(model(X)).gather(1, Y[:, None]).mean() > 0.5


def test_rbf_refuses_to_start_a_class_from_no_examples():
    model = RBFNet(36, 5)
    with pytest.raises(ValueError, match=r"class 4|label 4"):
        model.start_from(X, Y)
    assert model.centre.isfinite().all()


# --- Ensembles ------------------------------------------------------------------------------------


def test_an_ensemble_is_the_log_of_the_mean_probability():
    members = [stir(SoftmaxRegression(36, 4), seed) for seed in range(3)]
    mean = sum(member(X).softmax(1) for member in members) / 3
    torch.testing.assert_close(Ensemble(members)(X), mean.log())
    alone = Ensemble(members[:1])(X)
    torch.testing.assert_close(alone, members[0](X).log_softmax(1))


def test_an_ensemble_trains_and_moves_with_its_members():
    members = [SoftmaxRegression(36, 4), SoftmaxRegression(36, 4)]
    ensemble = Ensemble(members)
    assert len(list(ensemble.parameters())) == 4
    ensemble.eval()
    assert not any(member.training for member in members)


@pytest.mark.parametrize(
    ("margins", "loss"),
    [
        ((40.0, 40.0), cross_entropy),
        ((40.0, 2.0), cross_entropy),
        ((40.0, -3.0), cross_entropy),
        ((80.0, 60.0), cross_entropy),
        ((150.0, 150.0), margin_loss),  # here the other probabilities round to 0 as well
    ],
)
def test_a_confident_member_does_not_blind_the_gradient(margins, loss):
    """In float32 the probability of a margin of 40 rounds to 1, and its own gradient to 0."""
    torch.manual_seed(0)
    x, y = torch.rand(1, 400), torch.tensor([0])
    members = []
    for margin in margins:
        member = stir(SoftmaxRegression(400, 3), int(margin), scale=0.05)
        with torch.no_grad():
            z = member(x)[0]
            member.linear.bias -= z
            member.linear.bias[0] += margin + math.log(2.0)
        members.append(member)
    ensemble = Ensemble(members)
    gradient = input_gradient(ensemble, x, y, loss=loss)
    truth = input_gradient(ensemble.double(), x.double(), y, loss=loss)
    assert float(truth.abs().max()) > 0
    clear = truth.abs() > 1e-3 * truth.abs().max()
    assert gradient.abs().max() > 0
    assert gradient.sign()[clear].equal(truth.sign()[clear].float())
    scale = truth.abs().max()
    torch.testing.assert_close(gradient.double() / scale, truth / scale, rtol=0, atol=1e-4)


# --- Normalisation --------------------------------------------------------------------------------


def test_normalisation_is_by_channel():
    x = torch.rand(2, 3, 4, 4)
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    out = Normalize(mean, std)(x)
    for c in range(3):
        torch.testing.assert_close(out[:, c], (x[:, c] - mean[c]) / std[c])
    torch.testing.assert_close(Normalize(0.5, 0.25)(x), (x - 0.5) / 0.25)


def test_normalisation_is_in_the_state_and_has_nothing_to_train():
    layer = Normalize([0.1, 0.2], [1.0, 2.0])
    assert set(layer.state_dict()) == {"mean", "std"}
    assert not list(layer.parameters())
    other = Normalize([0.0, 0.0], [1.0, 1.0])
    other.load_state_dict(layer.state_dict())
    x = torch.rand(1, 2, 3, 3)
    assert other(x).equal(layer(x))


# --- Bad arguments --------------------------------------------------------------------------------

BAD = [
    (lambda: LogisticRegression(0), ValueError, "features must be at least 1, got 0"),
    (lambda: LogisticRegression(7.0), TypeError, "features must be a whole number"),
    (lambda: SoftmaxRegression(4, 0), ValueError, "classes must be at least 1"),
    (lambda: SoftmaxRegression(4, top="relu"), ValueError, "top must be one of softmax, sigmoid"),
    (lambda: MaxoutNet(4, (0,)), ValueError, "hidden must be at least 1"),
    (lambda: MaxoutNet(4, (2,), pieces=0), ValueError, "pieces must be at least 1"),
    (lambda: MaxoutNet(4, (2,), top="argmax"), ValueError, "top must be one of"),
    (lambda: MaxoutNet(4, input_dropout=1.0), ValueError, "input_dropout = 1 drops everything"),
    (lambda: MaxoutNet(4, hidden_dropout=1.0), ValueError, "hidden_dropout = 1 drops everything"),
    (lambda: MaxoutNet(4, hidden_dropout=-0.1), ValueError, r"hidden_dropout.*\[0, 1\]"),
    (lambda: MaxoutNet(4, input_dropout="0.2"), TypeError, "input_dropout must be a number"),
    (lambda: ConvMaxoutNet((2,), dense=-1), ValueError, "dense must be at least 0"),
    (lambda: ConvMaxoutNet((2,), hidden_dropout=1.0), ValueError, "drops everything"),
    (lambda: ConvMaxoutNet((2,), classes=2.5), TypeError, "classes must be a whole number"),
    (lambda: RBFNet(4, precision=0.0), ValueError, "precision must be finite"),
    (lambda: RBFNet(4, precision=math.inf), ValueError, "precision must be finite"),
    (lambda: Ensemble([]), ValueError, "members is empty"),
    (lambda: Normalize([0.5], [0.0]), ValueError, "std must be > 0 in every channel"),
    (lambda: Normalize([0.5, 0.5], [1.0, -1.0]), ValueError, "std must be > 0"),
    (lambda: Normalize([0.5], [math.nan]), ValueError, "std must be > 0"),
]


@pytest.mark.parametrize(("make", "error", "words"), BAD, ids=[words for *_, words in BAD])
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_normalised_model_keeps_the_meaning_of_its_logits():
    inner = RBFNet(4, classes=3)
    model = torch.nn.Sequential(Normalize(0.5, 0.25), inner)
    logits = torch.tensor([[-9.0, -8.0, -7.0]])
    assert probabilities(model, logits).equal(inner.probabilities(logits))
    assert probabilities(model, logits).sum() < 0.01


class Wrapper(nn.Module):
    def __init__(self, model, change=lambda z: z):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x):
        return self.change(self.model(x))


class Speaking(nn.Sequential):
    """A Sequential with a method of its own: the last part does not decide."""

    def probabilities(self, logits):
        return logits * 0 + 0.5


class Beside(Wrapper):
    """Calls another network too, whose output is of no account."""

    def __init__(self, model):
        super().__init__(model)
        self.other = RBFNet(36, 4)

    def forward(self, x):
        return self.model(x) + 0 * self.other(x)


class Caller:
    def __init__(self, model):
        self.parts = {"net": [model]}

    def __call__(self, x):
        return self.parts["net"][0](x)


def compiled(model):
    model = torch.compile(model, backend="eager")
    model(X)  # hooks that come later are not seen by what is compiled
    return model


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


def called_with(model, x):
    return model(x)


WRAPPERS = {
    "data-parallel": nn.DataParallel,
    "module": Wrapper,
    "two modules": lambda m: Wrapper(Wrapper(m)),
    "after a Normalize": lambda m: nn.Sequential(nn.Identity(), m),
    "before an Identity": lambda m: nn.Sequential(m, nn.Identity()),
    "before a dropout": lambda m: nn.Sequential(m, nn.Dropout()),
    "lambda": lambda m: lambda x: m(x) + 0,
    "partial": lambda m: partial(called_with, m),
    "bound method": lambda m: m.forward,
    "object": Caller,
    "compiled": compiled,
    "compiled wrapper": lambda m: compiled(Wrapper(m)),
    "wrapped compiled": lambda m: Wrapper(compiled(m)),
    "compiled function": lambda m: compiled(lambda x: m(x) + 0),
    "compiled in place": compiled_in_place,
    "functional": lambda m: (
        lambda x: torch.func.functional_call(m, dict(m.named_parameters()), (x,))
    ),
    "other dtype": lambda m: Wrapper(m, lambda z: z.double()),
    "beside another": Beside,
}
OWN = {
    "RBF": lambda: RBFNet(36, 4, precision=1.0),
    "sigmoid": lambda: stir(MaxoutNet(36, (5,), pieces=2, classes=4, top="sigmoid")),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_a_models_own_probabilities_count_in_any_wrapper(make, wrap):
    model = make()
    model.eval()
    with torch.no_grad():
        logits = model(X)
    expected = model.probabilities(logits)
    assert not expected.allclose(logits.softmax(1), atol=0.01)
    wrapped = wrap(model)
    torch.testing.assert_close(probabilities(wrapped, logits, X[:1]), expected)
    data = (X, Y)
    assert confidence_on_errors(wrapped, data).on_all == pytest.approx(
        confidence_on_errors(model, data).on_all, abs=1e-6
    )
    assert not any(module._forward_hooks for module in model.modules())


REFUSED = {
    "a temperature": lambda m: Wrapper(m, lambda z: z / 2),
    "a hidden layer": lambda m: nn.Sequential(m, nn.Linear(4, 4)),
    "an ensemble": lambda m: Ensemble([m, m]),
    "never called": lambda m: lambda x: m.forward(x) + 0,
}


@pytest.mark.parametrize("wrap", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_a_wrapper_that_changes_the_logits_must_say_what_they_mean(make, wrap):
    words = f"holds a {type(make()).__name__}.* Give the model a method probabilities"
    with pytest.raises(ValueError, match=words):
        confidence_on_errors(wrap(make()), (X, Y))


def test_a_hidden_model_asks_for_an_image():
    with pytest.raises(ValueError, match=r"hides a RBFNet.* Pass x"):
        probabilities(Wrapper(RBFNet(36, 4)), torch.zeros(1, 4))


COPIES = {
    "script": lambda: torch.jit.script(SoftmaxRegression(36, 4, top="sigmoid")),
    "trace": lambda: torch.jit.trace(RBFNet(36, 4), X),
    "export": lambda: torch.export.export(SoftmaxRegression(36, 4, top="sigmoid"), (X,)).module(),
    "export of a part": lambda: torch.export.export(
        nn.Sequential(Normalize([0.5], [0.5]), RBFNet(36, 4)), (X,)
    ).module(),
    "symbolic trace": lambda: torch.fx.symbolic_trace(SoftmaxRegression(36, 4, top="sigmoid")),
    "symbolic trace of a part": lambda: torch.fx.symbolic_trace(
        nn.Sequential(Normalize([0.5], [0.5]), SoftmaxRegression(36, 4, top="sigmoid"))
    ),
    "wrapped": lambda: Wrapper(torch.jit.trace(RBFNet(36, 4), X)),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_without_the_method_is_refused(copy):
    with pytest.raises(ValueError, match=r"(RBFNet|SoftmaxRegression) that has lost its method"):
        probabilities(copy(), torch.zeros(1, 4))


def test_a_part_whose_method_is_for_other_logits_is_no_obstacle():
    part = nn.Linear(4, 1)
    part.probabilities = lambda score: score.sigmoid().reshape(-1)
    logits = TwoLogits(part)(torch.rand(3, 4))
    assert probabilities(TwoLogits(part), logits).equal(logits.softmax(1))


def test_an_output_with_logits_is_looked_into():
    model = OWN["RBF"]()
    wrapped = Wrapper(model, lambda z: {"logits": z})
    assert probabilities(wrapped, model(X), X).equal(model.probabilities(model(X)))


def test_the_outermost_method_decides():
    model = Speaking(RBFNet(36, 4))
    assert probabilities(nn.DataParallel(model), torch.zeros(1, 4)).eq(0.5).all()


def test_softmax_tops_inside_other_models_are_no_obstacle():
    parts = [SoftmaxRegression(36, 4), MaxoutNet(36, (5,), classes=4)]
    logits = torch.tensor([[1.0, 2.0, 4.0, 0.0]])
    for model in (Ensemble(parts), Wrapper(parts[1], lambda z: 2 * z), nn.Sequential(*parts[:1])):
        torch.testing.assert_close(probabilities(model, logits), logits.softmax(1))


@pytest.mark.parametrize(
    "method",
    [lambda x: x.reshape(-1, 36), lambda x: x.sum(1), lambda x: x - 5.0, lambda: 1, lambda x: "p"],
    ids=["of images", "one for each", "negative", "no argument", "no tensor"],
)
def test_a_method_that_gives_no_probabilities_is_named(method):
    model = nn.Identity()
    model.probabilities = method
    with pytest.raises(ValueError, match=r"Identity.probabilities .*\(N, K\) to probabilities"):
        probabilities(model, torch.zeros(2, 4))


# --- ConvNet --------------------------------------------------------------------------------------


def test_the_convolutional_network_is_the_usual_one():
    """Two convolutions of 4 x 4 with stride 2, ReLUs, 100 dense units: 166,406 parameters."""
    model = ConvNet()
    assert sum(p.numel() for p in model.parameters()) == 166_406
    first, _, second, _, _, dense, _, top = model.layers
    assert (first.kernel_size, first.stride, first.padding) == ((4, 4), (2, 2), (1, 1))
    assert (second.in_channels, second.out_channels) == (16, 32)
    assert (dense.in_features, dense.out_features, top.out_features) == (32 * 7 * 7, 100, 10)
    x = torch.rand(3, 1, 28, 28)
    features = F.relu(second(F.relu(first(x)))).flatten(1)
    torch.testing.assert_close(model(x), top(F.relu(dense(features))))


def test_pixelwise_units_start_with_thresholds_in_both_directions():
    """Whatever the seed: none is off for every pixel, and each is off on one side of its turn."""
    model = ConvNet((2, 3), pixelwise=5, dense=4, size=4)
    first = model.layers[0]
    assert first.kernel_size == (1, 1)
    assert model.layers[2].in_channels == 5
    grey = torch.linspace(0, 1, 30).view(30, 1, 1, 1)
    out = F.relu(first(grey)).view(30, 5)
    turn = -(first.bias / first.weight.flatten()).detach()
    assert ((turn > 0.2) & (turn < 0.8)).all()
    for unit, brighter in enumerate([True, False, True, False, True]):
        rises = grey.flatten() > turn[unit]
        assert (out[:, unit] > 0).equal(rises if brighter else ~rises)
    mixed = ConvNet((2, 3), pixelwise=2, dense=4, size=4, colours=3)
    assert mixed(torch.rand(2, 3, 4, 4)).shape == (2, 10)


@pytest.mark.parametrize("size", [4, 6, 7, 28, 29, 32])
def test_the_convolutional_network_fits_images_of_any_size(size):
    model = ConvNet((2, 3), dense=4, classes=5, size=size, colours=3)
    assert model(torch.rand(2, 3, size, size)).shape == (2, 5)


def test_bad_sizes_of_the_convolutional_network_are_named():
    with pytest.raises(ValueError, match="channels must be at least 1"):
        ConvNet((16, 0))
    with pytest.raises(ValueError, match="dense must be at least 1"):
        ConvNet(dense=0)
    with pytest.raises(ValueError, match="pixelwise must be at least 0"):
        ConvNet(pixelwise=-1)
    with pytest.raises(TypeError, match="classes must be a whole number"):
        ConvNet(classes=2.5)


# --- eps of normalised images ---------------------------------------------------------------------

EPS_OF = [
    (pixel_eps, (0.5, 0.2), [0.1]),
    (pixel_eps, (0.5, [0.2, 0.4]), [0.1, 0.2]),
    (pixel_eps, (torch.tensor([0.5, 1.0]), torch.tensor([0.2, 0.4])), [0.1, 0.4]),
    (pixel_eps, (torch.tensor([0.5]).view(1, 1, 1, 1), [0.2, 0.4]), [0.1, 0.2]),
    (normalized_eps, (0.1, [0.2, 0.4]), [0.5, 0.25]),
    (normalized_eps, (0, torch.tensor([0.2, 0.4]).view(1, 2, 1, 1)), [0.0, 0.0]),
]


@pytest.mark.parametrize(("function", "arguments", "expected"), EPS_OF)
def test_eps_in_pixel_units_and_in_units_of_normalised_images(function, arguments, expected):
    given = function(*arguments)
    assert given.shape == (1, len(expected), 1, 1)
    torch.testing.assert_close(given.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("function", [pixel_eps, normalized_eps])
@pytest.mark.parametrize(
    ("eps", "std", "words"),
    [
        (-0.1, 0.5, "eps must be finite"),
        (math.nan, 0.5, "eps must be finite"),
        (torch.tensor([0.1, -0.1]), [0.5, 0.5], "eps must be finite and >= 0, got"),
        (torch.rand(3), [0.5, 0.5], r"each of the 2 channels of std, got shape \(3,\)"),
        (0.1, [0.5, 0.0], "std must be finite and > 0"),
        (0.1, [], "std must be finite and > 0"),
        (0.1, math.inf, "std must be finite and > 0"),
    ],
)
def test_eps_and_std_are_checked(function, eps, std, words):
    with pytest.raises(ValueError, match=words):
        function(eps, std)


# --- One logit ------------------------------------------------------------------------------------

X4 = torch.rand(5, 4)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_two_logits_are_the_sigmoid_of_one(shape):
    one = nn.Linear(4, 1)
    model = TwoLogits(lambda x: one(x).reshape(shape))
    x, y = torch.rand(50, 4), torch.arange(50) % 2
    score = one(x).squeeze(1)
    logits = model(x)
    torch.testing.assert_close(logits.softmax(1)[:, 1], score.sigmoid())
    assert torch.equal(logits.argmax(1), (score > 0).long())
    losses = F.binary_cross_entropy_with_logits(score, y.float(), reduction="none")
    torch.testing.assert_close(cross_entropy(logits, y), losses)
    assert len(list(TwoLogits(one).parameters())) == 2
    assert 0 <= float(error_rate(TwoLogits(one), (x, y))) <= 1


@pytest.mark.parametrize(("width", "shape"), [(2, r"\(5, 2\)"), (0, "float")])
def test_two_logits_need_one(width, shape):
    model = TwoLogits(lambda x: x[:, :width] if width else 0.5)
    with pytest.raises(ValueError, match=f"one logit for each example.*got {shape}"):
        model(torch.rand(5, 4))
    with pytest.raises(TypeError, match="model must be callable"):
        TwoLogits("model")


def test_two_logits_take_one_example_whose_dimension_was_squeezed():
    one = nn.Linear(4, 1)
    squeezed = TwoLogits(lambda x: one(x).squeeze())
    assert torch.equal(squeezed(X4[:1]), TwoLogits(one)(X4[:1]))


@pytest.mark.parametrize(
    "make",
    [
        lambda one: nn.Sequential(one, nn.Sigmoid()),
        lambda one: nn.Sequential(one, nn.Sequential(nn.Sigmoid())),
        lambda one: lambda x: one(x).sigmoid(),
        lambda one: lambda x: torch.sigmoid(one(x)).squeeze(1),
        lambda one: lambda x: torch.sigmoid(one(x))[:, 0],
    ],
)
def test_two_logits_of_a_sigmoid_would_all_be_of_class_1(make):
    with pytest.raises(ValueError, match=r"never below 0.*torch.logit\(model\(x\)\)"):
        fgsm(TwoLogits(make(nn.Linear(4, 1))), X4, torch.arange(5) % 2, 0.1)


def test_a_model_of_one_logit_is_told_the_adapter():
    for squeeze in (True, False):
        one = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0 if squeeze else 1))
        for use in (error_rate, lambda m, d: fgsm(m, *d, 0.1)):
            for count in (1, 5):
                for model in (one, lambda x, one=one: one(x).squeeze()):
                    with pytest.raises(ValueError, match=r"one logit.*TwoLogits\(model\)"):
                        use(model, (X4[:count], torch.arange(count) % 2))


def test_probabilities_of_a_models_own_keep_their_gradient():
    torch.manual_seed(0)
    model, x = RBFNet(4, classes=2), torch.rand(3, 4)
    for given in (None, x):
        logits = model(x).detach().requires_grad_()
        probabilities(model, logits, given)[:, 0].sum().backward()
        assert bool((logits.grad[:, 0] != 0).all())
