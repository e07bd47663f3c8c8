"""What people's own models, attacks and losses do in ways that our own never would."""

from __future__ import annotations

import functools
import linecache
import sys
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

from advlearn import context, evaluate, fgsm, pgd
from advlearn.attacks import square
from advlearn.audit import audit
from advlearn.certify import certified_error_rate
from advlearn.context import attack_mode
from advlearn.metrics import (
    adversarial_error_rate,
    confidence_on_errors,
    craft,
    error_curve,
    error_rate,
    logits_along,
    predict,
    transfer_matrix,
)
from advlearn.models import TwoLogits


def seeded(*layers):
    """A network whose weights do not depend on the order of the tests."""
    network = nn.Sequential(*layers)
    source = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=source) * 0.5
    return network


def points(count=40, pixels=6, seed=1):
    x = torch.rand(count, pixels, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(count) % 3


# --- Borrowing ------------------------------------------------------------------------------------


def interrupted_at(step, work):
    """Run `work` with a Ctrl-C at this line of what borrows and gives back; say if it came."""
    inside = {"_borrow", "_hold", "_give_back", "_return", "_set"}
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        code = frame.f_code
        if code.co_filename != context.__file__ or code.co_name not in inside:
            return None
        # Python itself lets no interrupt in at a `try`, or between the end of a `with` and the
        # release of its lock.
        line = linecache.getline(code.co_filename, frame.f_lineno).strip()
        if event == "line" and line != "try:" and "_LOCK" not in line:
            seen += 1
            if seen == step:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_an_interrupt_at_any_line_gives_everything_back():
    network = seeded(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    x, y = points(8)
    step = 1
    while interrupted_at(step, lambda: fgsm(network, x, y, 0.1)):
        assert all(module.training for module in network.modules()), step
        assert all(parameter.requires_grad for parameter in network.parameters()), step
        assert not context._LOANS, step
        step += 1
    assert step > 100, "it was interrupted at many lines"


def test_an_interrupt_in_the_middle_of_a_flag_gives_the_others_back():
    class Stubborn(nn.Linear):
        armed = False

        def __setattr__(self, name, value):
            if name == "training" and value and Stubborn.armed:
                Stubborn.armed = False
                raise KeyboardInterrupt
            super().__setattr__(name, value)

    network = nn.Sequential(nn.Linear(6, 8), nn.Dropout(), Stubborn(8, 3))
    x, y = points(8)
    Stubborn.armed = True
    with pytest.raises(KeyboardInterrupt):
        fgsm(network, x, y, 0.1)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_an_owner_that_cannot_even_be_named_does_not_keep_the_others():
    """What fails while it is set back, and again while that is said, would fail for ever."""

    class Nameless(nn.Linear):
        def __setattr__(self, name, value):
            if name == "training" and value and "weight" in vars(self).get("_parameters", {}):
                raise ValueError("no")
            super().__setattr__(name, value)

        def __getattr__(self, name):
            if name == "__name__":
                raise RuntimeError("no name")
            return super().__getattr__(name)

    network = nn.Sequential(nn.Linear(6, 8), Nameless(8, 3), nn.Dropout())
    x, y = points(8)
    with pytest.raises(RuntimeError, match="no name"):
        fgsm(network, x, y, 0.1)
    assert network[0].training
    assert network[2].training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not context._LOANS


def test_a_module_found_in_a_functional_call_keeps_its_own_buffers():
    network = seeded(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    weights = {name: value.detach().clone() for name, value in network.named_parameters()}
    statistics = {name: value + 1 for name, value in network.named_buffers()}
    kept = [network]
    hidden = functools.lru_cache(kept.pop)  # nobody looks into a cache
    hidden()
    x, y = points(8)
    before, own = network(x), dict(network.named_buffers())
    fgsm(lambda z: torch.func.functional_call(hidden(), (weights, statistics), (z,)), x, y, 0.1)
    assert all(buffer is own[name] for name, buffer in network.named_buffers())
    assert torch.equal(network(x), before)


class Prototypes(nn.Module):
    """Keeps what its forward learns in a parameter that is not trained."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.mean = nn.Parameter(torch.zeros(6), requires_grad=False)

    def forward(self, x):
        with torch.no_grad():
            self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return self.head(x - self.mean)


def test_what_a_forward_writes_into_a_frozen_parameter_is_said():
    x, y = points(8)
    with pytest.raises(RuntimeError, match=r"writes into a parameter of shape \(6,\).*buffer"):
        fgsm(Prototypes(), x, y, 0.1)
    frozen = seeded(nn.Linear(6, 3)).requires_grad_(False)
    fgsm(frozen, x, y, 0.1)  # one that is only frozen is attacked as ever


@pytest.mark.filterwarnings("ignore")
def test_an_attack_leaves_no_weights_without_a_graph_in_a_cache():
    network = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)), nn.Linear(8, 3))
    x, y = points(8)
    with parametrize.cached():
        first = network[0].weight
        crafted = fgsm(network, x, y, 0.1)
        assert network[0].weight is first, "what was cached outside is there again"
        functional.cross_entropy(network(crafted), y).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_model_that_trains_itself_is_told_that_it_is_frozen():
    class Adapting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 3)
            self.optimizer = torch.optim.SGD(self.inner.parameters(), 0.1)

        def forward(self, x):
            with torch.enable_grad():
                logits = self.inner(x)
                logits.softmax(1).square().sum().backward()
            self.optimizer.step()
            return logits.detach()

    with pytest.raises(ValueError, match=r"frozen while it is attacked.*pass the adapted model"):
        error_rate(Adapting(), points(8))


def test_a_loss_with_layers_is_borrowed_as_the_model_is():
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, logits, y):
            return -self.norm(logits).gather(1, y[:, None])[:, 0]

    loss, model = Normalised(), seeded(nn.Linear(6, 3))
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    x, y = points(12)
    for attack in (fgsm, functools.partial(pgd, steps=3), functools.partial(square, queries=5)):
        attack(model, x, y, 0.1, loss=loss)
    assert loss.training
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


# --- An attack of one's own -----------------------------------------------------------------------


def own_step(model, x, y, eps, **_):
    own_step.modes.append(model.training)
    pixels = x.clone().requires_grad_()
    functional.cross_entropy(model(pixels), y).backward()
    return (x + eps * pixels.grad.sign()).clamp(0, 1)


@pytest.mark.parametrize(
    "measure",
    [
        lambda model, data: adversarial_error_rate(model, data, 0.1, attack=own_step),
        lambda model, data: craft(model, data, 0.1, attack=own_step),
        lambda model, data: transfer_matrix({"it": model}, data, 0.1, attack=own_step),
    ],
    ids=["adversarial_error_rate", "craft", "transfer_matrix"],
)
def test_an_own_attack_meets_the_model_in_eval_mode(measure):
    network = seeded(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    own_step.modes = []
    measure(network, points())
    assert own_step.modes
    assert not any(own_step.modes)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_an_own_attack_may_write_into_eps():
    sizes = []

    def attack(model, x, y, eps, **_):
        sizes.append(float(eps))
        return fgsm(model, x, y, eps.div_(2))

    eps = torch.tensor(0.16)
    adversarial_error_rate(seeded(nn.Linear(6, 3)), points(), eps, attack=attack, batch_size=10)
    assert sizes == pytest.approx([0.16] * 4)
    assert float(eps) == pytest.approx(0.16)


# --- What an answer depends on --------------------------------------------------------------------


def test_evaluate_counts_errors_of_the_model_in_use():
    """Some models take a smooth stand-in where gradients are on."""
    network = seeded(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 3))
    network[0].weight.data *= 20

    def rounding(x):
        return network(x if torch.is_grad_enabled() else (4 * x).round() / 4)

    x = torch.randint(1, 4, (100, 8), generator=torch.Generator().manual_seed(0)) / 4
    with torch.no_grad():
        y = rounding(x).argmax(1)
    assert adversarial_error_rate(network, (x, y), 0.1).count > 0, "the stand-in errs"
    assert evaluate(rounding, (x, y), 0.1, budget="fast", progress=False).attacked.count == 0


def cascade(sure, eager=None):
    """Easy images leave after a stage that is not differentiated."""
    first, second = (
        seeded(nn.Linear(20, 3)),
        eager or seeded(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3)),
    )

    def model(x):
        with torch.no_grad():
            logits = 6 * first(x)
        hard = logits.softmax(1).amax(1) < sure
        return logits.index_put((hard,), second(x[hard])) if hard.any() else logits

    return model


@pytest.mark.filterwarnings("ignore::advlearn.directions.NoDirectionWarning")
def test_an_easy_image_in_first_place_does_not_end_the_attacks_on_all():
    model = cascade(0.9)
    x, _ = points(100, 20)
    y = model(x).argmax(1).detach()
    easy = [place for place in range(100) if not model(x[place : place + 1]).requires_grad]
    order = torch.tensor(easy[:1] + [place for place in range(100) if place != easy[0]])
    bracket = evaluate(model, (x[order], y[order]), 0.1, budget="fast", progress=False)
    assert "detached" not in bracket.note
    assert any(attack.startswith(("FGSM", "PGD")) for attack in bracket.broken_by)


@pytest.mark.filterwarnings("ignore::advlearn.directions.NoDirectionWarning")
def test_when_only_easy_images_are_left_the_search_goes_on():
    model = cascade(0.8)
    x, _ = points(200, 20)
    hard = torch.tensor([model(one[None]).requires_grad for one in x])
    x = torch.cat((x[hard][:3], x[~hard][:60]))
    y = model(x).argmax(1).detach()
    bracket = evaluate(model, (x, y), 0.15, budget="fast", progress=False)
    assert bracket.attacked.total == len(x)


def min_max(layer):
    return lambda x: layer((x - x.min()) / (x.max() - x.min() + 1e-6))


def test_an_error_curve_of_batches_of_one_is_that_of_each_image_alone():
    model = min_max(seeded(nn.Linear(16, 3)))
    x, _ = points(40, 16)
    y = torch.cat([model(one[None]).argmax(1) for one in x])
    loader = [(x[k : k + 1], y[k : k + 1]) for k in range(40)]
    grid = [0.0, 0.05, 0.1, 0.2, 0.4]
    expected = [adversarial_error_rate(model, loader, eps).count for eps in grid]
    assert [rate.count for rate in error_curve(model, loader, grid).errors] == expected
    assert len(set(expected)) > 2


def no_more_than(most, layer):
    def model(x):
        if len(x) > most:
            raise RuntimeError(f"out of memory for {len(x)} images")
        return layer(x)

    return model


def test_no_more_images_at_once_than_the_loader_gives():
    x, y = points(12)
    layer = seeded(nn.Linear(6, 3))
    loader = [*zip(x.split(4), y.split(4), strict=True)]
    grid = [0.0, 0.1, 0.2, 0.3]
    assert error_curve(no_more_than(4, layer), loader, grid) == error_curve(layer, loader, grid)
    several = no_more_than(20, layer)  # it takes those that are looked at first, and not all eps
    assert error_curve(several, loader, grid * 3) == error_curve(layer, loader, grid * 3)
    walk = logits_along(no_more_than(4, layer), x[:1], x[:1], [0.1] * 5)
    torch.testing.assert_close(walk, logits_along(layer, x[:1], x[:1], [0.1] * 5))


def test_a_walk_is_of_one_image_for_a_model_that_looks_at_its_batch():
    model = min_max(seeded(nn.Linear(6, 3)))
    x, direction = points(1)[0], torch.tensor([[1.0, -1.0, 0.0, 1.0, -1.0, 0.5]])
    walk = logits_along(model, x, direction, [0.0, 0.5, 2.0])
    expected = torch.cat([model(x + eps * direction) for eps in (0.0, 0.5, 2.0)])
    torch.testing.assert_close(walk, expected)


@pytest.mark.parametrize("kind", ["fixed", "squeezed"])
def test_a_source_of_one_batch_size_is_filled_up(kind):
    model, other = seeded(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 3)), seeded(nn.Linear(6, 3))

    def source(x):
        if kind == "squeezed":
            return other(x)[:, :, None, None].squeeze()
        if len(x) != 40:
            raise RuntimeError("Guard failed: x.size()[0] == 40")
        return other(x)

    x, _ = points()
    y = model(x).argmax(1)
    for eps in (0.02, 0.05, 0.1, 0.2, 0.3):
        evaluate(model, (x, y), eps, budget="fast", sources=[source], progress=False)


def test_passes_count_the_images_that_fill_a_batch_up():
    network, seen = seeded(nn.Linear(20, 32), nn.GELU(), nn.Linear(32, 3)), 0

    def exported(x):
        nonlocal seen
        if len(x) != 50:
            raise RuntimeError("batches of 50")
        seen += len(x)
        return network(x)

    x, _ = points(50, 20)
    y = network(x).argmax(1)
    bracket = evaluate(exported, (x, y), 0.05, budget="fast", progress=False)
    assert 0.95 * seen <= bracket.passes.forward <= 1.05 * seen


# --- Answers that are no logits -------------------------------------------------------------------


@pytest.mark.parametrize(
    "measure",
    [
        error_rate,
        predict,
        confidence_on_errors,
        lambda model, data: certified_error_rate(model, data, 0.1),
        lambda model, data: square(model, *data, 0.1, queries=3),
        lambda model, data: fgsm(model, *data, 0.1),
    ],
    ids=["error_rate", "predict", "confidence", "certified", "square", "fgsm"],
)
def test_a_sigmoid_behind_two_logits_is_seen_without_gradients_too(measure):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.score = nn.Linear(6, 1)

        def forward(self, x):
            return torch.sigmoid(self.score(x - 0.5))

    x, _ = points()
    net = Net()
    with pytest.raises(ValueError, match="TwoLogits needs the logit"):
        measure(TwoLogits(net), (x, (net(x)[:, 0] > 0.5).long()))


def test_probabilities_are_seen_for_what_they_are_when_they_are_rounded():
    sharp = seeded(nn.Linear(6, 10))
    sharp[0].weight.data *= 100

    def mean(x):  # of an ensemble: the largest value may be 1.0000001
        return sum(0.1 * sharp(x).softmax(1) for _ in range(10))

    coarse = seeded(nn.Linear(6, 10)).bfloat16()
    x, y = points()
    for model in (mean, lambda z: coarse(z.bfloat16()).softmax(1)):
        with pytest.raises(ValueError, match="looks like probabilities"):
            fgsm(model, x, y, 0.05)
    assert float(mean(x).max()) > 1


def test_a_loss_that_is_no_tensor_is_named():
    x, y = points(8)
    with pytest.raises(TypeError, match=r"loss must return a tensor.*float"):
        square(seeded(nn.Linear(6, 3)), x, y, 0.1, queries=3, loss=lambda z, _: float(z.sum()))


def test_images_that_cannot_be_compared_are_named():
    model = seeded(nn.Linear(6, 3))
    x, y = points(4)
    images = [torch.nested.nested_tensor([*x])]
    if hasattr(torch, "float8_e4m3fn"):
        images.append(x.to(torch.float8_e4m3fn))
    for odd in images:
        with pytest.raises(TypeError, match=r"^x must"):
            fgsm(model, odd, y, 0.1)


def test_a_sparse_gradient_is_followed_as_a_dense_one():
    class Sparse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient.to_sparse()

    layer = seeded(nn.Linear(6, 3))
    x, y = points(8)
    assert torch.equal(fgsm(lambda z: layer(Sparse.apply(z)), x, y, 0.1), fgsm(layer, x, y, 0.1))


# --- Around it ------------------------------------------------------------------------------------


def test_a_default_device_is_not_the_device_of_the_work():
    model = seeded(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    x, _ = points(20)
    y = model(x).argmax(1)
    expected = evaluate(model, (x, y), 0.05, budget="fast", progress=False)
    torch.set_default_device("meta")  # as "cuda" would be, where there is none
    try:
        found = evaluate(model, (x, y), 0.05, budget="fast", progress=False)
        audit(model, (x, y), 0.05, steps=8)
    finally:
        torch.set_default_device("cpu")
    assert found.certified == expected.certified
    assert found.attacked == expected.attacked


def test_in_a_thread_nothing_that_others_draw_is_drawn_again():
    model = seeded(nn.Linear(6, 3))
    x, _ = points(20)
    y = model(x).argmax(1)
    done = threading.Event()
    torch.manual_seed(0)
    drawn = []

    def measure():
        with context.random_states_kept():
            evaluate(model, (x, y), 0.05, budget="fast", progress=False)
            done.wait(30)

    thread = threading.Thread(target=measure)
    thread.start()
    drawn.append(float(torch.rand(())))
    done.set()
    thread.join()
    drawn.append(float(torch.rand(())))
    torch.manual_seed(0)
    assert drawn == [float(torch.rand(())) for _ in range(2)]


def test_attack_mode_twice_in_one_thread_gives_back_once():
    network = seeded(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).train()
    with attack_mode(network):
        with attack_mode(network):
            assert not network.training
        assert not network.training
    assert all(module.training for module in network.modules())
    assert not context._LOANS
