"""`attack_mode`: inside, the deployed model; afterwards, exactly what was handed over."""

# Lambdas around one call are what is tested here.
# ruff: noqa: PLW0108

from __future__ import annotations

import copy
import functools
import operator
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from advlearn import fgsm, pgd
from advlearn.context import attack_mode, hand_out, modules_behind
from advlearn.losses import cross_entropy
from advlearn.metrics import adversarial_error_rate, craft, error_rate
from advlearn.training import Recipe, adversarial_fit, fit
from tests.attacks.table import distributed
from tests.conftest import make_digits, make_mlp


def flags(model):
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
    )


def mixed():
    """Make a model in training mode with one frozen module and one frozen parameter."""
    model = make_mlp().train()
    model[2].eval()
    model[1].bias.requires_grad_(False)
    return model


def test_inside_everything_is_in_eval_mode_and_no_parameter_tracks():
    model = mixed()
    with attack_mode(model):
        assert not any(flags(model)[0])
        assert not any(flags(model)[1])


def test_each_flag_comes_back_by_itself():
    model = mixed()
    before = flags(model)
    assert True in before[0]
    assert False in before[0]
    assert True in before[1]
    assert False in before[1]
    with attack_mode(model):
        pass
    assert flags(model) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_the_flags_come_back_after_an_exception(error):
    model = mixed()
    before = flags(model)
    with pytest.raises(error), attack_mode(model):
        raise error
    assert flags(model) == before
    assert torch.is_grad_enabled()


def test_nested_use_gives_each_level_back():
    model, other = mixed(), mixed()
    before = flags(model)
    with attack_mode(model):
        with attack_mode(model), attack_mode(other):
            assert not any(flags(model)[0] + flags(other)[0])
        assert not any(flags(model)[0])
        assert not any(flags(model)[1])
        assert flags(other) == before
    assert flags(model) == before


def test_a_model_in_eval_mode_stays_there():
    model = make_mlp().eval().requires_grad_(False)
    with attack_mode(model):
        pass
    assert not any(flags(model)[0])
    assert not any(flags(model)[1])


def test_gradients_and_batch_statistics_are_not_touched():
    model, x = mixed(), make_digits().requires_grad_()
    model[1].weight.grad = torch.ones_like(model[1].weight)
    kept, state = model[1].weight.grad, {k: v.clone() for k, v in model.state_dict().items()}
    with attack_mode(model):
        model(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert model[1].weight.grad is kept
    assert kept.equal(torch.ones_like(kept))
    assert all(p.grad is None for p in model.parameters() if p is not model[1].weight)
    assert all(state[name].equal(value) for name, value in model.state_dict().items())


def test_an_overridden_train_method_is_not_called():
    class Fussy(nn.Linear):
        def train(self, mode=True):
            raise AssertionError("attack_mode must set the flags itself")

    with attack_mode(Fussy(2, 2)):
        pass


@pytest.mark.parametrize(
    "model", [torch.relu, lambda x: x, make_mlp().forward], ids=["builtin", "lambda", "method"]
)
def test_a_plain_callable_works_too(model):
    with attack_mode(model):
        x = make_digits(2).requires_grad_()
        assert model(x).requires_grad


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_inside_whatever_surrounds_it(off):
    model = mixed()
    before = flags(model)
    with off():
        with attack_mode(model):
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            x = make_digits(2).requires_grad_()
            model(x).sum().backward()
            assert x.grad is not None
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (off is torch.inference_mode)
    assert flags(model) == before


# --- What is no module ----------------------------------------------------------------------------

NET = make_mlp()
REGISTRY = {"nets": [NET]}


class Config:
    net = NET


class Dictionary(nn.Module):
    """Give a dict, as some libraries do; `logits` goes past `__call__`."""

    def __init__(self):
        super().__init__()
        self.net = mixed()

    def forward(self, x):
        return {"logits": self.net(x)}

    def logits(self, x):
        return nn.functional.dropout(self.net(x), training=self.training)


class Holder:
    """No module, and not called by itself."""

    __slots__ = ("__weakref__", "net")

    def __init__(self, net):
        self.net = net

    def logits(self, x):
        return self.net(x)


class Calls:
    def __init__(self, net):
        self.parts = {"nets": [net]}

    def __call__(self, x):
        return self.parts["nets"][0](x)


class Plain(nn.Module):
    """Its part is in a list, so PyTorch does not know it."""

    def __init__(self, net):
        super().__init__()
        self.parts = [net]

    def forward(self, x):
        return self.parts[0](x)


class ByHook(nn.Identity):
    """Its work is done in a hook."""

    def __init__(self, net):
        super().__init__()
        self.register_forward_hook(lambda module, args, output: net(output))


class Named(nn.Module):
    def forward(self, x):
        return NET(x)


def closure(net):
    return lambda x: net(x)


def nested(net):
    def outer(x):
        def inner():
            return net(x)

        return inner()

    return outer


def default(net):
    def model(x, *, net=net):
        return net(x)

    return model


def cached(net):
    @functools.lru_cache
    def load():
        return net

    @torch.no_grad()
    def nothing():
        return None

    return lambda x: (nothing(), load())[1](x)


WRAPPED = {
    "a lambda": closure,
    "a bound method": lambda net: Holder(net).logits,
    "forward": lambda net: net.forward,
    "a partial": lambda net: functools.partial(Holder.logits, Holder(net)),
    "a partial of the module": lambda net: functools.partial(net),
    "a callable object": Calls,
    "a function in a function": nested,
    "a default": default,
    "a decorated function": cached,
    "a lambda around all of them": lambda net: closure(closure(Calls(Holder(net).logits))),
    "a list in a module": Plain,
    "a hook of a module": ByHook,
    "a weak reference": lambda net, ref=weakref.ref: Holder(ref(net)).net.__call__ and closure(net),
    "a compiled function": lambda net: torch.compile(closure(net), backend="eager"),
    "a method looked up by name": lambda net: Lazy(net),
    "a long list": lambda net: closure_of_list([*range(20_000), net]),
    "a generator": lambda net: from_generator(net),
}


class Lazy:
    """Hides its network where no search finds it: in an object of another library."""

    def __init__(self, net):
        self.getter = operator.itemgetter  # a decoy
        self.net = types.MappingProxyType({"net": net})

    def __call__(self, x):
        return self.net["net"](x)


def closure_of_list(parts):
    return lambda x: parts[-1](x)


def from_generator(net):
    def forever():
        while True:
            yield net

    source = forever()
    return lambda x: next(source)(x)


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_the_modules_of_a_callable_are_borrowed_and_given_back(wrap):
    net, x = mixed(), make_digits()
    model = wrap(net)
    before, state = flags(net), {name: value.clone() for name, value in net.state_dict().items()}
    expected = copy.deepcopy(net).eval()(x)
    with attack_mode(model):
        given = model(x)
        assert not any(flags(net)[0] + flags(net)[1])
    torch.testing.assert_close(given, expected.detach())
    assert flags(net) == before
    assert all(state[name].equal(value) for name, value in net.state_dict().items())


GLOBAL = {
    "a global name": lambda x: NET(x),
    "a global container": lambda x: REGISTRY["nets"][0](x),
    "a class": lambda x: Config.net(x),
    "a module of Python": lambda x: table.NET(x),
    "the forward of a module": Named(),
    "a function that names a function": lambda x: by_name(x),
}
table = types.ModuleType("somebodys")
table.NET = NET


def by_name(x):
    return NET(x)


@pytest.mark.parametrize("model", GLOBAL.values(), ids=GLOBAL)
def test_modules_behind_global_names_are_found_before_they_are_called(model):
    before = flags(NET)
    assert any(before[0])
    with attack_mode(model):
        assert not any(flags(NET)[0] + flags(NET)[1])
    assert flags(NET) == before


def test_a_bound_method_of_a_module_borrows_the_module_itself():
    model, x = Dictionary(), make_digits()
    with attack_mode(model.logits):
        assert model.logits(x).equal(model.logits(x))
        assert not model.training
    assert model.training


def test_modules_of_other_threads_are_left_alone_while_hidden_ones_are_waited_for():
    mine, theirs, modes = mixed(), mixed(), []
    with attack_mode(from_generator(mine)):
        thread = threading.Thread(
            target=lambda: modes.append((theirs(make_digits()), flags(theirs)))
        )
        thread.start()
        thread.join()
    assert modes[0][1] == flags(theirs)
    assert True in modes[0][1][0]


def test_a_search_ends_in_circles_and_in_large_things():
    ring: list = [mixed()]
    ring.append({"ring": ring, "numbers": list(range(10**6)), "empty": None})
    found = modules_behind(lambda x: ring[0](x))
    assert found == list(ring[0].modules())


def test_a_cell_that_is_not_filled_yet_holds_nothing():
    def model(x):
        return later(x)

    assert modules_behind(model) == []
    later = nn.Identity()
    assert modules_behind(model) == [later]


# --- TorchScript, RNN, processes ------------------------------------------------------------------


def test_a_frozen_script_has_no_mode_and_works():
    model = torch.jit.freeze(torch.jit.script(make_mlp().eval()))
    assert not hasattr(model, "training")
    x = make_digits().requires_grad_()
    with attack_mode(model):
        model(x).sum().backward()
    assert x.grad.abs().sum() > 0


class CudnnLike(torch.autograd.Function):
    """Like cuDNN's: no backward pass for an RNN in eval mode."""

    @staticmethod
    def forward(ctx, out, training):
        ctx.works = training or not torch.backends.cudnn.enabled
        return out.clone()

    @staticmethod
    def backward(ctx, gradient):
        if not ctx.works:
            raise RuntimeError("cudnn RNN backward can only be called in training mode")
        return gradient, None


class FakeOnGPU(nn.LSTM):
    def forward(self, x):
        return CudnnLike.apply(super().forward(x)[0], self.training)


def test_an_rnn_runs_without_cudnn_where_gradients_are_taken():
    model = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (6, 6)), FakeOnGPU(6, 4, batch_first=True))
    model.append(nn.Flatten())
    model.append(nn.Linear(24, 4))
    x, before = make_digits(), torch.backends.cudnn.enabled
    assert before, "cuDNN is on by default, with or without a GPU"
    model.eval()
    with pytest.raises(RuntimeError, match="training mode"):
        model(x.clone().requires_grad_()).sum().backward()
    for mode in (True, False):
        model.train(mode)
        moved = fgsm(model, x, torch.arange(24) % 4, 0.1)
        assert (moved != x).any()
        assert torch.backends.cudnn.enabled is before
        with attack_mode(model, backward=False):
            assert torch.backends.cudnn.enabled is before
    assert fgsm(make_mlp(), x, torch.arange(24) % 4, 0.1).isfinite().all()


def test_the_switch_of_cudnn_comes_back_in_whatever_order_threads_end():
    one, two = nn.LSTM(2, 2), nn.LSTM(2, 2)
    first, second = attack_mode(one), attack_mode(two)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.cudnn.enabled
    second.__exit__(None, None, None)
    assert torch.backends.cudnn.enabled


def test_a_model_of_several_processes_trains_on_after_an_attack():
    """Else its next step in training waits for gradients that an attack does not give."""
    model = distributed(make_mlp())
    x, y = make_digits(), torch.arange(24) % 4
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = vars(model).copy()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        assert all(parameter.grad is not None for parameter in model.parameters())
        fgsm(model, x, y, 0.1)
        for name in ("require_backward_grad_sync", "require_forward_param_sync", "training"):
            assert vars(model)[name] == before[name]


# --- Threads, and what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_flags_come_back_with_the_last_borrower(order):
    """Wrapped, in part, or itself: each module and parameter is counted."""
    model = mixed()
    before = flags(model)
    loans = [attack_mode(model), attack_mode(nn.Sequential(model)), attack_mode(model[1])]
    for loan in loans:
        loan.__enter__()
    for place in order:
        assert not any(flags(model[1])[0] + flags(model[1])[1])
        loans[place].__exit__(None, None, None)
    assert flags(model) == before


def test_many_threads_on_one_model():
    model, x, y = mixed(), make_digits(), torch.arange(24) % 4
    before, state = flags(model), {k: v.clone() for k, v in model.state_dict().items()}
    expected = fgsm(copy.deepcopy(model), x, y, 0.1)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: fgsm(model, x, y, 0.1), range(64)))
    assert all(result.equal(expected) for result in results)
    assert flags(model) == before
    assert all(state[name].equal(value) for name, value in model.state_dict().items())


class Stubborn(nn.Linear):
    """Lets nobody set its mode to `refuses`."""

    refuses = None

    def __setattr__(self, name, value):
        if name == "training" and value is self.refuses:
            raise AttributeError("my mode is mine")
        super().__setattr__(name, value)


def stubborn(refuses):
    model = nn.Sequential(nn.Linear(2, 2), Stubborn(2, 2), nn.Dropout())
    model[1].refuses = refuses
    return model


def test_a_module_that_refuses_is_named_and_the_others_come_back():
    model = stubborn(False)
    before = flags(model)
    words = r"a Stubborn, which does not let training.*my mode is mine"
    with pytest.raises(ValueError, match=words), attack_mode(model):
        pytest.fail("it is not in eval mode")
    assert flags(model) == before


def test_a_restoration_that_fails_restores_the_rest_and_says_so():
    model = stubborn(True)
    before = flags(model)
    words = r"training = True of a Stubborn.*my mode is mine"
    with pytest.raises(RuntimeError, match=words), attack_mode(model):
        pass
    after = flags(model)
    assert after[1] == before[1]
    assert [a == b for a, b in zip(before[0], after[0], strict=True)] == [True, True, False, True]


def test_it_does_not_hide_another_error():
    model = stubborn(True)
    words = "training = True of a Stubborn"
    with (
        pytest.warns(RuntimeWarning, match=words),
        pytest.raises(KeyboardInterrupt),
        attack_mode(model),
    ):
        raise KeyboardInterrupt
    with attack_mode(model[0]):
        assert not model[0].training, "nothing is left in the book of loans"
    assert model[0].training


# --- Handing out ----------------------------------------------------------------------------------


def subtract(x):
    return x.sub_(0.5)


def behind_its_back(x):
    x.data.sub_(0.5)
    return x


def through_numpy(x):
    x.detach().numpy()[:] -= 0.5
    return x


def with_gradients_off(x):
    with torch.no_grad():
        x.sub_(0.5)
    return x


def one_pixel(x):
    x[:, :, 0, 0] = 0.5
    return x


def only_its_shape(x):
    return x.squeeze_(1).unsqueeze_(1)


def only_without_gradients(x):
    return x if torch.is_grad_enabled() else x.sub_(0.5)


def the_same_values(x):
    return x.clamp_(0, 1)


WRITERS = [
    subtract, behind_its_back, through_numpy, with_gradients_off, one_pixel, only_its_shape,
    only_without_gradients, the_same_values,
]  # fmt: skip


class Writes(nn.Module):
    def __init__(self, write):
        super().__init__()
        self.write, self.net = write, make_mlp()

    def forward(self, x):
        return self.net(self.write(x))


@pytest.mark.parametrize("write", WRITERS)
def test_what_a_model_writes_into_its_input_changes_nobodys_images(write):
    model, x, y = Writes(write), make_digits(), torch.arange(24) % 4
    kept, writes = x.clone(), x._version
    attacked = [fgsm(model, x, y, 0.1) for _ in range(3)]
    rates = {str(error_rate(model, (x, y))) for _ in range(3)}
    assert x.equal(kept)
    assert x._version == writes
    assert x.shape == kept.shape
    assert len(rates) == 1
    assert attacked[0].equal(attacked[1])
    assert attacked[0].equal(attacked[2])
    pgd(model, x, y, 0.1, steps=3, random_start=False)
    assert x.equal(kept)


@pytest.mark.parametrize("layer", [nn.ReLU, nn.Dropout, nn.Hardtanh, nn.ELU])
def test_a_first_layer_in_place_is_attacked_as_one_that_is_not(layer):
    net, x, y = make_mlp(), make_digits(), torch.arange(24) % 4
    one, other = (fgsm(nn.Sequential(layer(inplace=way), net), x, y, 0.1) for way in (True, False))
    assert one.equal(other)


def test_a_layer_that_writes_in_training_only_is_trained_after_an_attack():
    x, y = make_digits(), torch.arange(24) % 4
    models = [nn.Sequential(nn.Dropout(0.5, inplace=way), make_mlp()) for way in (True, False)]
    kept = x.clone()
    for attack in (None, fgsm):
        for model in models:
            fgsm(model, x, y, 0.1)
            adversarial_fit(
                model,
                (x, y),
                Recipe(epochs=2, batch_size=12),
                eps=0.1,
                attack=attack,
                progress=False,
            )
        assert all(a.equal(b) for a, b in zip(*(m.parameters() for m in models), strict=True))
    assert x.equal(kept)


def test_training_on_adversarial_examples_survives_a_model_and_an_attack_that_write():
    x, y, kept = make_digits(), torch.arange(24) % 4, make_digits()

    def own_attack(model, x, y, eps, bounds):
        return x.add_(eps).clamp_(0, 1)

    def noted(model, x, y, eps, bounds):
        return (x + eps).clamp(0, 1)

    recipe = Recipe(epochs=2, batch_size=12)
    for attack, like in ((None, None), (fgsm, fgsm), (own_attack, noted)):
        weights = []
        for write, crafts in ((subtract, attack), (lambda z: z - 0.5, like)):
            model = Writes(write)
            adversarial_fit(model, (x, y), recipe, eps=0.1, attack=crafts, progress=False)
            weights.append(list(model.parameters()))
        assert all(a.equal(b) for a, b in zip(*weights, strict=True)), attack
    assert x.equal(kept)


def test_a_model_that_only_reads_is_handed_the_images_themselves():
    seen = []

    class Reads(nn.Module):
        def forward(self, x):
            seen.append(x.untyped_storage().data_ptr())
            return x

    model, x = Reads(), make_digits()
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            for _ in range(3):
                hand_out(model, x)
    own = x.untyped_storage().data_ptr()
    assert [place == own for place in seen] == [False, True, True] * 2


@pytest.mark.parametrize("tracks", [False, True], ids=["no gradient", "gradient"])
def test_a_model_that_turns_out_to_write_is_refused_and_gets_copies_from_then_on(tracks):
    class Turns(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x if self.calls < 3 else x.sub_(0.5)

    model, x = Turns(), make_digits().requires_grad_(tracks)
    hand_out(model, x)
    hand_out(model, x)
    with pytest.raises(ValueError, match=r"wrote into x.*x = x - mean"):
        hand_out(model, x)
    kept = x.clone()
    hand_out(model, x)
    assert x.equal(kept)


def test_an_attack_of_ones_own_may_write_into_its_images():
    def own(model, x, y, eps):
        return x.add_(eps)

    model, x, y = make_mlp(), make_digits(), torch.arange(24) % 4
    kept = x.clone()
    for _ in range(2):
        assert craft(model, (x, y), 0.1, attack=own).equal(kept + 0.1)
        adversarial_error_rate(model, (x, y), 0.1, attack=own)
    assert x.equal(kept)


def test_an_attack_or_a_loss_of_ones_own_may_write_into_labels():
    """As an attack does that turns them into its targets."""

    def own(model, x, y, eps, bounds=None):
        y.add_(1).remainder_(4)
        return fgsm(model, x, y, eps, targeted=True)

    def loss(logits, y):
        y.add_(1).remainder_(4)
        return -cross_entropy(logits, y)

    def objective(model, x, y):
        y.add_(1).remainder_(4)
        return cross_entropy(model(x), y)

    model, x, y = make_mlp(), make_digits(), torch.arange(24) % 4
    kept, recipe, batch = y.clone(), Recipe(epochs=1, batch_size=24), [(x, y)]
    truth = error_rate(model, (craft(model, (x, y), 0.1, attack=own), kept))
    assert y.equal(kept)
    assert adversarial_error_rate(model, (x, y), 0.1, attack=own) == truth
    pgd(model, x, y, 0.1, steps=2, loss=loss)
    adversarial_fit(make_mlp(), batch, recipe, eps=0.1, attack=own, progress=False)
    fit(make_mlp(), batch, recipe, objective=objective, progress=False)
    assert y.equal(kept)


def test_what_cannot_be_remembered_gets_a_copy_each_time():
    class Odd:
        __hash__ = None

        def __call__(self, x):
            return x.sub_(0.5)

    model, x = Odd(), make_digits()
    kept = x.clone()
    hand_out(model, x)
    hand_out(model, x)
    assert x.equal(kept)


def test_images_of_inference_mode_are_handed_out_too():
    with torch.inference_mode():
        x = make_digits() * 1.0
        kept = x.clone()
    model = nn.Flatten()
    for _ in range(3):
        assert hand_out(model, x).equal(kept.flatten(1))
        assert hand_out(subtract, x).equal(kept - 0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wrap", [lambda net: net, closure], ids=["module", "lambda"])
def test_a_dtype_that_does_not_fit_is_named(dtype, wrap):
    net, x, y = make_mlp(), make_digits().to(dtype), torch.arange(24) % 4
    before = flags(net)
    for call in (lambda: fgsm(wrap(net), x, y, 0.1), lambda: error_rate(wrap(net), (x, y))):
        with pytest.raises(TypeError, match=rf"x has dtype {dtype}.*float32.*x.to\(torch.float32"):
            call()
    assert flags(net) == before


def test_the_dtype_that_a_model_of_several_takes_is_named():
    class Mixed(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x).double())

    model, x = Mixed(nn.Linear(6, 2), nn.Linear(2, 2).double()), make_digits()
    hand_out(model, x)
    with pytest.raises(TypeError, match=r"data.x has .*float64.*data.x.to\(torch.float32"):
        hand_out(model, x.double(), name="data.x")


def test_a_device_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"x is on cpu.*on meta.*x.to\('meta'\)"):
        hand_out(nn.Linear(6, 2, device="meta"), make_digits())


def test_weights_of_inference_mode_are_named_and_left_as_they_are():
    with torch.inference_mode():
        model = make_mlp()
    x, y, before = make_digits(), torch.arange(24) % 4, flags(model)
    assert True in before[1]
    with pytest.raises(ValueError, match=r"made in torch.inference_mode.*no_grad"):
        fgsm(model, x, y, 0.1)
    assert flags(model) == before
    assert error_rate(model, (x, y)).total == 24


def test_a_model_that_casts_and_fails_for_another_reason_is_not_told_to_cast():
    net = nn.Linear(3, 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        hand_out(lambda x: net(x.float()), make_digits().double())


def test_another_error_of_the_model_is_passed_on():
    def fails(x):
        raise RuntimeError("out of paper, whatever the type or device")

    with pytest.raises(RuntimeError, match="out of paper"):
        hand_out(fails, make_digits())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        hand_out(nn.Linear(3, 3), make_digits())
    with pytest.raises(RuntimeError, match="same dtype"):  # inside the model
        hand_out(nn.Sequential(nn.Linear(6, 2), nn.Linear(2, 2).double()), make_digits())


def test_a_function_that_switches_dropout_on_itself_means_it(digits, labels):
    """As for an attack on a randomised defence, or to show what dropout does to an attack."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(36, 4))
    model.eval()

    def dropout_on(x):
        model.train()
        logits = model(x)
        model.eval()
        return logits

    with attack_mode(dropout_on):
        assert not dropout_on(digits).equal(dropout_on(digits))
    with attack_mode(lambda x: model(x)):
        assert model(digits).equal(model(digits))
    assert not model.training
