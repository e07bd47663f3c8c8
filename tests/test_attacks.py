"""The promises of the attacks, and a table of broken FGSMs that the promises must reject."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advlearn import Bounds, attacks, fgsm, input_gradient, linear_step, noise, pgd, rotate
from advlearn.attacks import ball_tolerance
from advlearn.losses import (
    adversarial_logistic_loss,
    cross_entropy,
    logistic_loss,
    margin_loss,
)
from advlearn.models import LogisticRegression, MaxoutNet, Normalize, SoftmaxRegression
from tests.conftest import make_digits, make_mlp

EPS = 0.1


# --- The property suite: what every FGSM must satisfy -------------------------------------------


def snapshot(model):
    """Everything of a model that an attack could change."""
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad for parameter in model.parameters()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [len(module._forward_hooks) for module in model.modules()],
        torch.get_rng_state(),
    )


def same(before, after):
    return (
        all(before[0][name].equal(value) for name, value in after[0].items())
        and before[1:3] == after[1:3]
        and all(a is b for a, b in zip(before[3], after[3], strict=True))
        and all(
            (a is None and b is None) or a.equal(b)
            for a, b in zip(before[4], after[4], strict=True)
        )
        and before[5] == after[5]
        and before[6].equal(after[6])
    )


def the_direction_is_right(attack):
    """On a linear model, compare with the answer worked out by hand, clamp and all."""
    x = make_digits().flatten(1)
    y = torch.arange(24) % 4
    model = nn.Linear(36, 4)
    p = model(x).softmax(1) - F.one_hot(y, 4)
    expected = (x + EPS * (p @ model.weight).sign()).clamp(0, 1).detach()
    assert torch.allclose(attack(model, x, y, EPS), expected, atol=1e-6)


def a_dead_pixel_is_left_alone(attack):
    """sign(0) = 0: a pixel that the model does not look at stays."""
    model = nn.Linear(36, 4)
    with torch.no_grad():
        model.weight[:, ::2] = 0
    x = make_digits().flatten(1)
    assert attack(model, x, torch.arange(24) % 4, EPS)[:, ::2].equal(x[:, ::2])


def the_loss_grows(attack):
    model, x, y = make_mlp().eval(), make_digits(), torch.arange(24) % 4
    before = F.cross_entropy(model(x), y, reduction="none")
    after = F.cross_entropy(model(attack(model, x, y, 0.01)), y, reduction="none")
    assert (after > before).all()


def the_ball_and_the_bounds_hold(attack):
    model, x, y = make_mlp(), make_digits(), torch.arange(24) % 4
    moved = attack(model, x, y, EPS)
    assert (moved - x).abs().max() <= EPS + ball_tolerance(x, EPS)
    assert moved.min() >= 0
    assert moved.max() <= 1
    # The whole step is taken wherever there is room and a gradient.
    inside = (x > EPS) & (x < 1 - EPS)
    assert (moved - x).abs()[inside].median() > 0.99 * EPS


def the_result_is_new_and_detached(attack):
    model, x, y = make_mlp(), make_digits(), torch.arange(24) % 4
    kept = x.clone()
    for eps in (0.0, EPS):
        moved = attack(model, x, y, eps)
        assert moved.data_ptr() != x.data_ptr()
        assert not moved.requires_grad
        assert moved.dtype == x.dtype
        assert moved.shape == x.shape
        assert x.equal(kept)
        assert x.grad is None
        assert not x.requires_grad


def the_model_comes_back(attack):
    """In training mode, with one frozen module, one frozen parameter and an existing gradient."""
    model, x, y = make_mlp(), make_digits(), torch.arange(24) % 4
    model[2].eval()
    model[1].bias.requires_grad_(False)
    model[1].weight.grad = torch.ones_like(model[1].weight)
    before = snapshot(model)
    attack(model, x, y, EPS)
    assert same(before, snapshot(model))


def dropout_is_off(attack):
    """A model handed over in training mode is attacked as it will be used: in eval mode."""
    model, x, y = make_mlp(), make_digits(), torch.arange(24) % 4
    model.train()
    moved = attack(model, x, y, EPS)
    assert moved.equal(fgsm(make_mlp().eval(), x, y, EPS))


def float64_stays_float64(attack):
    """The loss is computed in the images' precision: a margin of 30 is no trouble for float64."""
    model = nn.Linear(36, 3).double()
    with torch.no_grad():
        model.bias.copy_(torch.tensor([30.0, 0.0, 0.0]))
    x = make_digits(dtype=torch.float64).flatten(1)
    y = torch.zeros(24, dtype=torch.int64)
    moved = attack(model, x, y, EPS)
    others = model(x)[:, 1:].softmax(1) @ model.weight[1:]
    assert moved.dtype == torch.float64
    assert moved.equal((x + EPS * (others - model.weight[0]).sign()).clamp(0, 1).detach())


PROPERTIES = [
    the_direction_is_right,
    a_dead_pixel_is_left_alone,
    the_loss_grows,
    the_ball_and_the_bounds_hold,
    the_result_is_new_and_detached,
    the_model_comes_back,
    dropout_is_off,
    float64_stays_float64,
]


def failures(attack):
    """Name the properties that an attack breaks."""
    broken = []
    for check in PROPERTIES:
        torch.manual_seed(0)
        try:
            check(attack)
        except (AssertionError, RuntimeError):
            broken.append(check.__name__)
    return broken


# --- Attacks to try the suite on: right ones, and one for each way to get it wrong ---------------


def gradient_of(model, x, y, *, mode=False, loss=F.cross_entropy):
    """Compute a gradient the ordinary way, for the variants below."""
    modes = [module.training for module in model.modules()]
    model.train(mode)
    pixels = x.detach().clone().requires_grad_()
    try:
        return torch.autograd.grad(loss(model(pixels).double(), y), pixels)[0]
    finally:
        for module, was in zip(model.modules(), modes, strict=True):
            module.training = was


def right_by_torch_where(model, x, y, eps):
    g = gradient_of(model, x, y)
    return torch.where(g > 0, x + eps, torch.where(g < 0, x - eps, x)).clamp(0, 1)


def right_by_functional_call(model, x, y, eps):
    modes = [module.training for module in model.modules()]
    model.eval()
    frozen = {name: value.detach() for name, value in model.state_dict().items()}

    def total(pixels):
        logits = torch.func.functional_call(model, frozen, (pixels,))
        return -logits.double().log_softmax(1).gather(1, y[:, None]).sum()

    step = torch.func.grad(total)(x).sign() * eps
    for module, was in zip(model.modules(), modes, strict=True):
        module.training = was
    return torch.minimum(torch.maximum(x + step, torch.zeros(())), torch.ones(()))


def no_sign(model, x, y, eps):
    return (x + eps * gradient_of(model, x, y)).clamp(0, 1)


def minus(model, x, y, eps):
    return (x - eps * gradient_of(model, x, y).sign()).clamp(0, 1)


def no_clamp(model, x, y, eps):
    return x + eps * gradient_of(model, x, y).sign()


def clamp_before_the_step(model, x, y, eps):
    return x.clamp(0, 1) + eps * gradient_of(model, x, y).sign()


def in_train_mode(model, x, y, eps):
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    g = gradient_of(model, x, y, mode=True)
    for name, value in model.named_buffers():
        value.copy_(buffers[name])
    return (x + eps * g.sign()).clamp(0, 1)


def backward_into_parameters(model, x, y, eps):
    modes = [module.training for module in model.modules()]
    model.eval()
    pixels = x.detach().clone().requires_grad_()
    F.cross_entropy(model(pixels).double(), y).backward()
    for module, was in zip(model.modules(), modes, strict=True):
        module.training = was
    return (x + eps * pixels.grad.sign()).clamp(0, 1)


def mean_over_pixels(model, x, y, eps):
    g = gradient_of(model, x, y).flatten(1)
    step = g.mean(1, keepdim=True).sign().expand_as(g).reshape(x.shape)
    return (x + eps * step).clamp(0, 1)


def returns_its_input(model, x, y, eps):
    return x


def returns_a_copy_of_its_input(model, x, y, eps):
    return x.clone()


def attached_to_the_graph(model, x, y, eps):
    modes = [module.training for module in model.modules()]
    model.eval()
    pixels = x.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(
        F.cross_entropy(model(pixels).double(), y), pixels, create_graph=True
    )
    for module, was in zip(model.modules(), modes, strict=True):
        module.training = was
    return (pixels + eps * g.sign()).clamp(0, 1)


def in_place_on_x(model, x, y, eps):
    return x.add_(eps * gradient_of(model, x, y).sign()).clamp_(0, 1)


def loss_in_float32(model, x, y, eps):
    g = gradient_of(model, x, y, loss=lambda z, t: F.cross_entropy(z.float(), t))
    return (x + eps * g.sign()).clamp(0, 1)


def half_precision_loss(model, x, y, eps):
    g = gradient_of(model, x, y, loss=lambda z, t: F.cross_entropy(z.bfloat16(), t))
    return (x + eps * g.sign()).clamp(0, 1)


def predicted_labels(model, x, y, eps):
    modes = [module.training for module in model.modules()]
    model.eval()
    guess = model(x).argmax(1)
    for module, was in zip(model.modules(), modes, strict=True):
        module.training = was
    return (x + eps * gradient_of(model, x, guess).sign()).clamp(0, 1)


def probabilities_as_logits(model, x, y, eps):
    g = gradient_of(model, x, y, loss=lambda z, t: F.cross_entropy(z.softmax(1), t))
    return (x + eps * g.sign()).clamp(0, 1)


def leaves_eval_mode(model, x, y, eps):
    model.eval()
    return right_by_torch_where(model, x, y, eps)


def sign_of_zero_is_plus_one(model, x, y, eps):
    g = gradient_of(model, x, y)
    return (x + eps * torch.where(g >= 0, 1.0, -1.0).to(x.dtype)).clamp(0, 1)


def l2_step(model, x, y, eps):
    g = gradient_of(model, x, y).flatten(1)
    return (x + eps * (g / g.norm(dim=1, keepdim=True)).reshape(x.shape)).clamp(0, 1)


def always_float32(model, x, y, eps):
    return right_by_torch_where(model, x, y, eps).float()


BROKEN = [
    no_sign,
    minus,
    no_clamp,
    clamp_before_the_step,
    in_train_mode,
    backward_into_parameters,
    mean_over_pixels,
    returns_its_input,
    returns_a_copy_of_its_input,
    attached_to_the_graph,
    in_place_on_x,
    loss_in_float32,
    half_precision_loss,
    predicted_labels,
    probabilities_as_logits,
    leaves_eval_mode,
    sign_of_zero_is_plus_one,
    l2_step,
    always_float32,
]


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
def test_fgsm_keeps(check):
    torch.manual_seed(0)
    check(fgsm)


@pytest.mark.parametrize("attack", [right_by_torch_where, right_by_functional_call])
def test_the_suite_accepts_a_right_one(attack):
    assert failures(attack) == []


@pytest.mark.parametrize("attack", BROKEN, ids=lambda attack: attack.__name__)
def test_the_suite_rejects_a_broken_one(attack):
    assert failures(attack), f"{attack.__name__} passed every property"


# --- The optimum of a linear problem ------------------------------------------------------------


@pytest.mark.parametrize("bounds", [None, Bounds(0.0, 1.0)], ids=["unclipped", "clipped"])
def test_fgsm_on_a_linear_model_equals_the_closed_form(bounds):
    torch.manual_seed(1)
    model = LogisticRegression(36).double()
    with torch.no_grad():
        model.linear.weight.normal_()
        model.linear.bias.normal_()
    x = make_digits(200, dtype=torch.float64).flatten(1)
    label = torch.arange(200) % 2
    y = (2 * label - 1).double()
    for eps in (0.0, 1e-3, 0.1, 0.25, 0.9):
        found = fgsm(model, x, label, eps, bounds=bounds)
        loss = logistic_loss(model.score(found), y)
        closed = adversarial_logistic_loss(model.weight, model.bias, x, y, eps, bounds=bounds)
        assert (loss - closed).abs().max() < 1e-12
        assert (cross_entropy(model(found), label) - closed).abs().max() < 1e-12


@pytest.mark.parametrize("dimensions", [1, 2, 5, 10])
@pytest.mark.parametrize("bounds", [None, Bounds(0.0, 1.0)], ids=["unclipped", "clipped"])
def test_no_corner_of_the_box_beats_fgsm(dimensions, bounds):
    torch.manual_seed(dimensions)
    model = LogisticRegression(dimensions).double()
    with torch.no_grad():
        model.linear.weight.normal_()
    x = torch.rand(1, dimensions, dtype=torch.float64)
    for label in (0, 1):
        y = torch.tensor([label])
        best = cross_entropy(model(fgsm(model, x, y, 0.3, bounds=bounds)), y)
        signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=dimensions)))
        box = x + 0.3 * signs.double()
        box = box if bounds is None else box.clamp(*bounds)
        worst = cross_entropy(model(box), y.expand(len(box))).max()
        assert best >= worst - 1e-12
        assert torch.isclose(best, worst, rtol=0, atol=1e-12)  # and the best is one of them


# --- Confident examples: the float32 trap -------------------------------------------------------


def confident_model(margin: float) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Build a three-class linear model whose margin on x is `margin`, weights about .05 apart."""
    generator = torch.Generator().manual_seed(3)
    model = nn.Linear(400, 3)
    x = torch.rand(1, 400, generator=generator)
    with torch.no_grad():
        model.weight.copy_(0.05 * torch.randn(3, 400, generator=generator))
        model.bias.zero_()
        z = model(x.double().float())[0]
        model.bias[1:] = -z[1:]
        model.bias[0] = margin + torch.log(torch.tensor(2.0)) - z[0]
    return model, x, torch.tensor([0])


def wrong_signs(model, x, y, gradient) -> float:
    """Compare the signs with those of float64 arithmetic, where the margin is no trouble."""
    exact = nn.Linear(400, 3).double()
    exact.load_state_dict(model.state_dict())
    truth = input_gradient(exact, x.double(), y, loss=margin_loss).sign()
    clear = input_gradient(exact, x.double(), y, loss=margin_loss).abs() > 1e-4
    return float((gradient.double().sign() != truth)[clear].double().mean())


@pytest.mark.parametrize("margin", [1, 5, 10, 15, 16, 17, 18, 20, 30, 50, 80, 87, 90])
def test_cross_entropy_gives_the_right_signs_to_a_margin_of_90(margin):
    model, x, y = confident_model(margin)
    assert wrong_signs(model, x, y, input_gradient(model, x, y, loss=cross_entropy)) == 0


@pytest.mark.parametrize("margin", [*range(1, 201, 7), 103, 104, 110, 150, 200])
def test_margin_loss_gives_the_right_signs_to_any_margin(margin):
    model, x, y = confident_model(margin)
    assert wrong_signs(model, x, y, input_gradient(model, x, y, loss=margin_loss)) == 0


@pytest.mark.parametrize("margin", [1, 16, 18, 50, 103, 110, 200])
@pytest.mark.parametrize("attack", [fgsm, lambda *a: pgd(*a, steps=2, random_start=False)])
def test_attacks_on_the_default_loss_go_the_right_way_at_any_margin(attack, margin):
    model, x, y = confident_model(margin)
    truth = input_gradient(model, x, y, loss=margin_loss)
    moved = attack(model, x, y, 0.01)
    clear = (truth.abs() > 1e-4) & (x > 0.02) & (x < 0.98)
    assert ((moved - x).sign() == truth.sign())[clear].all()


@pytest.mark.parametrize(
    ("margin", "least", "most"),
    [(10, 0.0, 0.0), (15, 0.0, 0.1), (18, 0.1, 0.6), (40, 0.1, 0.6), (110, 1.0, 1.0)],
)
def test_where_pytorchs_own_cross_entropy_fails(margin, least, most):
    """Documented, not wished for: if a release of PyTorch mends it, this test will say so."""
    model, x, y = confident_model(margin)
    gradient = input_gradient(model, x, y, loss=F.cross_entropy)
    assert least <= wrong_signs(model, x, y, gradient) <= most


# --- Every setting in which an attack may be called -----------------------------------------------


@pytest.mark.parametrize("attack", [fgsm, lambda *a: pgd(*a, steps=3, random_start=False)])
def test_the_model_comes_back_when_forward_raises(attack):
    model, x, y = make_mlp(), make_digits(), torch.arange(24) % 4
    model.append(Fails())
    model[2].eval()
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError):
        attack(model, x, y, EPS)
    assert same(before, snapshot(model))


class Fails(nn.Module):
    def forward(self, x):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "attack",
    [
        lambda m, x, y: pgd(m, x, y, EPS, steps=3, random_start=False),
        lambda m, x, y: pgd(m, x, y, EPS, steps=3, generator=torch.Generator().manual_seed(0)),
        lambda m, x, y: rotate(m, x, y, 0.1),
        input_gradient,
    ],
    ids=["pgd", "pgd with a generator", "rotate", "input_gradient"],
)
def test_every_attack_gives_the_model_and_the_random_state_back(attack):
    model, x, y = make_mlp(), make_digits(), torch.arange(24) % 4
    model[2].eval()
    model[1].weight.grad = torch.ones_like(model[1].weight)
    before, kept = snapshot(model), x.clone()
    result = attack(model, x, y)
    assert same(before, snapshot(model))
    assert x.equal(kept)
    assert not result.requires_grad


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(context, mlp, digits, labels):
    expected = fgsm(mlp, digits, labels, EPS)
    with context():
        assert fgsm(mlp, digits, labels, EPS).equal(expected)
        inside = digits * 1.0  # made in there: an inference tensor
        assert fgsm(mlp, inside, labels, EPS).equal(expected)


def test_a_loss_of_ones_own_works_on_labels_made_in_inference_mode(mlp, digits, labels):
    expected = fgsm(mlp, digits, labels, EPS, loss=F.cross_entropy)
    with torch.inference_mode():
        assert fgsm(mlp, digits, labels * 1, EPS, loss=F.cross_entropy).equal(expected)


def test_works_under_autocast(mlp, digits, labels):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moved = fgsm(mlp, digits, labels, EPS)
    assert moved.dtype == torch.float32
    agree = (moved - digits).sign() == (fgsm(mlp, digits, labels, EPS) - digits).sign()
    assert agree.double().mean() > 0.9


def test_works_on_a_compiled_model(mlp, digits, labels):
    compiled = torch.compile(mlp, backend="eager")
    before = snapshot(mlp)
    assert fgsm(compiled, digits, labels, EPS).equal(fgsm(mlp, digits, labels, EPS))
    assert same(before, snapshot(mlp))


def test_works_on_a_plain_function_and_an_input_that_tracks_gradients(digits, labels):
    weight = torch.randn(36, 4)

    def model(x):
        return x.flatten(1) @ weight

    tracked = digits.clone().requires_grad_()
    assert fgsm(model, tracked, labels, EPS).equal(fgsm(model, digits, labels, EPS))
    assert tracked.grad is None


def test_each_example_is_attacked_on_its_own(mlp, digits, labels):
    whole = fgsm(mlp, digits, labels, EPS)
    alone = torch.cat([fgsm(mlp, digits[i : i + 1], labels[i : i + 1], EPS) for i in range(24)])
    torch.testing.assert_close(whole, alone)


def test_eps_for_each_example(mlp, digits, labels):
    eps = torch.linspace(0, 0.2, 24)
    for attack in (fgsm, lambda *a: pgd(*a, steps=2, random_start=False)):
        whole = attack(mlp, digits, labels, eps)
        one = attack(mlp, digits[5:6], labels[5:6], float(eps[5]))
        torch.testing.assert_close(whole[5:6], one)
        assert whole[0].equal(digits[0])


def test_targeted_moves_towards_the_target(mlp, digits):
    target = torch.full((24,), 2)
    mlp.eval()
    for attack in (fgsm, lambda *a, **k: pgd(*a, steps=5, random_start=False, **k)):
        moved = attack(mlp, digits, target, 0.01, targeted=True)
        assert (cross_entropy(mlp(moved), target) < cross_entropy(mlp(digits), target)).all()


def test_eps_is_in_pixel_units_whatever_the_model_does_inside(digits, labels, mlp):
    inner = nn.Sequential(Normalize([0.1307], [0.3081]), mlp)
    moved = fgsm(inner, digits, labels, 0.25)
    assert (moved - digits).abs().max() == pytest.approx(0.25, abs=1e-6)


def test_a_custom_loss_may_be_a_mean(mlp, digits, labels):
    assert fgsm(mlp, digits, labels, EPS, loss=F.cross_entropy).equal(
        fgsm(mlp, digits, labels, EPS, loss=lambda z, y: F.cross_entropy(z, y, reduction="none"))
    )


def test_linear_step_sweeps_eps_without_a_new_gradient(mlp, digits, labels):
    gradient = input_gradient(mlp, digits, labels)
    for eps in (0.0, 0.1, 0.25):
        assert linear_step(digits, gradient, eps).equal(fgsm(mlp, digits, labels, eps))


# --- PGD, noise, rotation -------------------------------------------------------------------------


def test_pgd_stays_in_the_ball_and_beats_fgsm():
    torch.manual_seed(0)
    model = MaxoutNet(36, (16, 16), pieces=3, classes=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(60)
    x, y = make_digits(), torch.arange(24) % 4
    model.eval()
    one = cross_entropy(model(fgsm(model, x, y, EPS)), y)
    found = pgd(model, x, y, EPS, steps=20, random_start=False)
    many = cross_entropy(model(found), y)
    assert (found - x).abs().max() <= EPS + ball_tolerance(x, EPS)
    assert found.min() >= 0
    assert found.max() <= 1
    assert many.mean() > one.mean()


def test_pgd_of_one_whole_step_is_fgsm(mlp, digits, labels):
    one = pgd(mlp, digits, labels, EPS, steps=1, step_size=EPS, random_start=False)
    torch.testing.assert_close(one, fgsm(mlp, digits, labels, EPS))


def test_restarts_never_make_it_worse_and_are_used():
    model, x, y = make_mlp(scale=3.0).eval(), make_digits(), torch.arange(24) % 4
    generator = torch.Generator()
    errors, losses = [], []
    for restarts in (1, 8):
        generator.manual_seed(5)
        found = pgd(model, x, y, 0.05, steps=2, restarts=restarts, generator=generator)
        errors.append((model(found).argmax(1) != y).double().mean())
        losses.append(cross_entropy(model(found), y))
    assert errors[1] >= errors[0]
    still_right = model(found).argmax(1) == y
    assert (losses[1][still_right] > losses[0][still_right]).any()


@pytest.mark.parametrize(
    ("margin", "eps", "dtype"),
    [(150.0, 0.1, torch.float32), (1.0, 1e-10, torch.float64)],
    ids=["confident", "tiny"],
)
def test_restarts_tell_attempts_apart_where_cross_entropy_in_float32_cannot(margin, eps, dtype):
    """At a margin of 150 it is 0 for every attempt; in a tiny ball it is the same for all."""
    torch.manual_seed(0)
    model, x = nn.Linear(36, 2).to(dtype), make_digits(dtype=dtype).flatten(1)
    with torch.no_grad():
        model.bias[0] += margin
    y = torch.zeros(24, dtype=torch.int64)
    generator = torch.Generator().manual_seed(4)
    more = {"steps": 1, "step_size": eps / 20, "generator": generator}
    attempts = [pgd(model, x, y, eps, **more) for _ in range(3)]
    best = torch.stack([margin_loss(model(found), y) for found in attempts]).argmax(0)
    assert best.unique().tolist() == [0, 1, 2]
    generator.manual_seed(4)
    together = pgd(model, x, y, eps, restarts=3, **more)
    assert together.equal(torch.stack(attempts)[best, torch.arange(24)])


def test_pgd_is_repeatable_by_its_generator(mlp, digits, labels):
    runs = [
        pgd(mlp, digits, labels, EPS, steps=2, generator=torch.Generator().manual_seed(7))
        for _ in range(2)
    ]
    assert runs[0].equal(runs[1])


def test_the_random_start_reaches_the_whole_ball():
    """A start that is clamped too early halves the noise on black pixels."""
    x = torch.full((1, 4000), 0.5)
    drawn = noise(x, 0.3, generator=torch.Generator().manual_seed(0)) - x
    assert drawn.min() < -0.29
    assert drawn.max() > 0.29
    assert drawn.std().item() == pytest.approx(0.3 / 3**0.5, rel=0.05)
    signs = noise(x, 0.3, kind="sign", generator=torch.Generator().manual_seed(0)) - x
    assert signs.abs().allclose(torch.tensor(0.3))
    assert abs(signs.mean().item()) < 0.02


def test_rotation_keeps_the_length_and_the_angle(mlp, digits, labels):
    turned = rotate(mlp, digits, labels, 0.2)
    a, b = digits.flatten(1).double(), turned.flatten(1).double()
    torch.testing.assert_close(a.norm(dim=1), b.norm(dim=1), rtol=1e-6, atol=0)
    angle = torch.arccos((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)))
    torch.testing.assert_close(angle, torch.full_like(angle, 0.2), rtol=1e-3, atol=0)
    mlp.eval()
    small = rotate(mlp, digits, labels, 0.01)
    assert (cross_entropy(mlp(small), labels) > cross_entropy(mlp(digits), labels)).all()
    dark = torch.zeros_like(digits)
    assert rotate(mlp, dark, labels, 0.2).equal(dark)


@pytest.mark.parametrize("share", [0.0, 1e-5, 1e-3])
def test_rotation_keeps_the_length_where_the_gradient_is_nearly_a_multiple_of_x(share):
    """What is orthogonal to x is then little more than rounding, or nothing but rounding."""
    torch.manual_seed(0)
    for x in make_digits().flatten(1):
        model = nn.Linear(36, 2, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.stack([x, -2 * x + share * torch.randn(36)]))
        turned = rotate(model, x[None], torch.tensor([0]), 0.5)[0]
        if share == 0:
            assert turned.equal(x)
        else:
            assert turned.norm() == pytest.approx(x.norm().item(), rel=1e-5)
            angle = torch.arccos(F.cosine_similarity(turned.double(), x.double(), dim=0))
            assert angle.item() == pytest.approx(0.5, rel=1e-4)


# --- Bad input ------------------------------------------------------------------------------------

X, Y = make_digits(4), torch.arange(4)


class Counting(nn.Module):
    """Counts forward passes, to prove that nothing ran before the error."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = SoftmaxRegression(36, 4), 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


BAD = [
    ("list", {"x": [[0.0]]}, TypeError, "x must be a tensor of images"),
    ("integer pixels", {"x": (255 * X).byte()}, TypeError, r"torch.uint8.*x.float\(\) / 255"),
    ("one image", {"x": X[0, 0, 0]}, ValueError, r"batch of shape \(N, ...\).*unsqueeze"),
    ("empty", {"x": X[:0], "y": Y[:0]}, ValueError, "empty batch"),
    ("NaN", {"x": X / 0.0 * 0.0}, ValueError, "NaN or infinity"),
    ("0..255", {"x": 255 * X}, ValueError, "outside bounds"),
    ("normalised", {"x": (X - 0.5) / 0.25}, ValueError, "outside bounds.*Normalize"),
    ("float labels", {"y": Y.float()}, TypeError, r"torch.int64.*y.long\(\)"),
    ("label list", {"y": [0, 1, 2, 3]}, TypeError, "y must be a tensor of labels"),
    ("one-hot labels", {"y": torch.eye(4).long()}, ValueError, r"shape \(4,\)"),
    ("too few labels", {"y": Y[:3]}, ValueError, r"shape \(4,\).*got \(3,\)"),
    ("eps < 0", {"eps": -0.1}, ValueError, "eps must be finite and >= 0, got -0.1"),
    ("eps inf", {"eps": float("inf")}, ValueError, "eps must be finite"),
    ("eps NaN", {"eps": float("nan")}, ValueError, "eps must be finite"),
    ("eps 8", {"eps": 8}, ValueError, "eps = 8 is more than.*8/255"),
    ("eps text", {"eps": "0.1"}, TypeError, "eps must be a number"),
    ("eps True", {"eps": True}, TypeError, "eps must be a number"),
    ("eps shape", {"eps": torch.ones(3)}, ValueError, r"shape \(4,\)"),
    ("eps integer tensor", {"eps": torch.ones(4).long()}, TypeError, "eps must have a floating"),
    ("bounds swapped", {"bounds": (1.0, 0.0)}, ValueError, "low < high"),
    ("bounds list", {"bounds": [0.0, 1.0]}, TypeError, "bounds must be Bounds"),
    ("model", {"model": None}, TypeError, "model must be callable"),
    ("loss", {"loss": "cross_entropy"}, TypeError, "loss must be callable"),
]


@pytest.mark.parametrize(
    ("change", "error", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
@pytest.mark.parametrize("attack", [fgsm, pgd], ids=["fgsm", "pgd"])
def test_bad_input_is_named_before_any_work(attack, change, error, words):
    model = Counting()
    options = {"model": model, "x": X, "y": Y, "eps": EPS, "bounds": Bounds()} | change
    with pytest.raises(error, match=words):
        attack(**options)
    assert model.calls == 0


BAD_LOGITS = [
    ("probabilities", lambda z: z.softmax(1), ValueError, "looks like probabilities"),
    ("one column", lambda z: z[:, :1], ValueError, r"\(N, K\) = \(4, 2 or more\)"),
    ("too few classes", lambda z: 5 * z[:, :3] + 2, ValueError, "label 3.*0 to 2"),
    ("NaN logits", lambda z: z / 0 * 0, ValueError, "NaN or infinity"),
    ("detached", lambda z: z.detach(), ValueError, "detached from x"),
    ("class index", lambda z: z.argmax(1), TypeError, "floating logits"),
    ("a pair", lambda z: (z, z), TypeError, "tensor of logits"),
]


@pytest.mark.parametrize(
    ("change", "error", "words"), [b[1:] for b in BAD_LOGITS], ids=[b[0] for b in BAD_LOGITS]
)
def test_bad_logits_are_named(change, error, words):
    model = make_mlp()
    before = snapshot(model)
    with pytest.raises(error, match=words):
        fgsm(lambda x: change(model.eval()(x)), X, Y, EPS)
    model.train()
    assert same(before, snapshot(model))


BAD_PGD = [
    ({"steps": 0}, ValueError, "steps must be at least 1"),
    ({"steps": 2.5}, TypeError, "steps must be a whole number"),
    ({"step_size": 0.0}, ValueError, "step_size"),
    ({"restarts": 0}, ValueError, "restarts must be at least 1"),
    ({"restarts": 2, "random_start": False}, ValueError, "repeats the same attempt"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD_PGD)
def test_bad_pgd_settings_are_named(change, error, words):
    model = Counting()
    with pytest.raises(error, match=words):
        pgd(model, X, Y, EPS, **change)
    assert model.calls == 0


def test_other_bad_arguments_are_named():
    with pytest.raises(ValueError, match="gradient must have x's shape"):
        linear_step(X, X[:2], 0.1)
    with pytest.raises(TypeError, match="gradient must be a tensor"):
        linear_step(X, X.tolist(), 0.1)
    for call in (lambda: noise(X, 0.1, generator=42), lambda: pgd(len, X, Y, 0.1, generator=42)):
        with pytest.raises(TypeError, match=r"generator.*manual_seed\(42\)"):
            call()
    with pytest.raises(ValueError, match="kind must be one of uniform, sign"):
        noise(X, 0.1, kind="gauss")
    with pytest.raises(ValueError, match="angle must be finite"):
        rotate(SoftmaxRegression(36, 4), X, Y, 3.0)


def test_pixels_that_pass_the_bounds_by_rounding_are_accepted_and_clamped():
    x = X.clone()
    x[0, 0, 0, 0] = 1 + 2e-7
    assert fgsm(SoftmaxRegression(36, 4), x, Y, 0.1).max() <= 1


def test_the_module_exports_what_the_contract_names():
    for name in ("input_gradient", "linear_step", "fgsm", "pgd", "noise", "rotate"):
        assert callable(getattr(attacks, name))


def test_works_when_float64_is_the_default(digits, labels):
    torch.set_default_dtype(torch.float64)
    try:
        model = SoftmaxRegression(36, 4)
        assert fgsm(model, digits.double(), labels, EPS).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
