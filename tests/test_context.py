"""`attack_mode`: inside, the deployed model; afterwards, exactly what was handed over."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advlearn.context import attack_mode
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
def test_a_plain_callable_is_left_alone(model):
    with attack_mode(model):
        x = make_digits(2).requires_grad_()
        assert model(x).requires_grad


def test_what_a_callable_wraps_is_left_alone():
    inner = mixed()
    before = flags(inner)

    def model(x):
        return inner(x)

    with attack_mode(model):
        assert flags(inner) == before


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
