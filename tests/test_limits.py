"""Max-norm and L1 act on every kind of model, or are refused by name before training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advlearn.limits import first_weight, limit_norms, limited_layers
from advlearn.recipe import Recipe
from advlearn.training import fit

X, Y = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4


class Backwards(nn.Module):
    """Creates the layers in another order than it uses them."""

    def __init__(self):
        super().__init__()
        self.second, self.first = nn.Linear(5, 4), nn.Linear(36, 5)

    def forward(self, x):
        return self.second(self.first(x.flatten(1)).relu())


class Recurrent(nn.Module):
    """Reads an image row by row."""

    def __init__(self):
        super().__init__()
        self.rows, self.top = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x):
        return self.top(self.rows(x.squeeze(1))[0][:, -1])


class Positions(nn.Module):
    """A parameter of its own beside a layer, as vision transformers have."""

    def __init__(self):
        super().__init__()
        self.place, self.top = nn.Parameter(torch.zeros(1, 36)), nn.Linear(36, 4)

    def forward(self, x):
        return self.top(x.flatten(1) + self.place)


def dense(*layers):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 4), *layers)


def spread():
    convolution = nn.Sequential(nn.ConvTranspose2d(1, 4, 3), nn.ReLU())
    return nn.Sequential(
        convolution, nn.ConvTranspose2d(4, 2, 3, groups=2), nn.Flatten(), nn.Linear(200, 4)
    )


def flat():
    return nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(68, 4))


ACTS = {
    "plain": dense,
    "data-parallel": lambda: nn.DataParallel(dense()),
    "in a module": lambda: nn.Sequential(nn.Identity(), nn.Sequential(dense())),
    "compiled": lambda: torch.compile(dense(), backend="eager"),
    "compiled in place": lambda: (m := dense(), m.compile(backend="eager"))[0],
    "Conv1d": flat,
    "ConvTranspose2d": spread,
    "created backwards": Backwards,
}
REFUSED = {
    "LSTM": (Recurrent, "rows.weight_ih_l0", "LSTM"),
    "weight norm": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(36, 4))
        ),
        "1.parametrizations.weight.original0",
        "ParametrizationList",
    ),
    "spectral norm": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(36, 4))
        ),
        "1.parametrizations.weight.original",
        "ParametrizationList",
    ),
    "own parameter": (Positions, "place", "Positions"),
    "scripted": (lambda: torch.jit.script(dense()), "1.weight", "RecursiveScriptModule"),
}


def norms(weight):
    return weight.detach().flatten(1).norm(dim=1)


@pytest.mark.parametrize("make", ACTS.values(), ids=ACTS)
def test_limits_and_penalties_act_in_any_wrapper_and_layer(make):
    torch.manual_seed(0)
    model = make()
    fit(model, (X, Y), Recipe(epochs=1, lr=0.5, max_norm=0.05), progress=False)
    for layer in model.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            # A unit is one channel of the output, fed by the inputs of its group.
            groups = layer.weight.chunk(layer.groups)
            assert max(float(norms(part.transpose(0, 1)).max()) for part in groups) <= 0.0501
        elif hasattr(layer, "weight"):
            assert float(norms(layer.weight).max()) <= 0.0501
    weight = first_weight(model, X[:1])
    fit(model, (X, Y), Recipe(epochs=60, lr=0.01, momentum=0.0, l1=3.0), progress=False)
    assert float(weight.detach().abs().mean()) < 0.02


@pytest.mark.parametrize(("make", "name", "kind"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"l1": 0.1}], ids=["max_norm", "l1"])
def test_weights_that_are_out_of_reach_are_named_before_training(make, name, kind, option):
    model = make()
    if "l1" in option and isinstance(model, Positions):  # its first matrix is that of a layer
        assert first_weight(model, X) is model.top.weight
        return
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"^{next(iter(option))} acts on .*{name} .*{kind}"):
        fit(model, (X, Y), Recipe(epochs=1, **option), progress=False)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_the_first_matrix_is_the_one_used_first():
    model = Backwards()
    assert first_weight(model, X) is model.first.weight
    inner = torch.compile(model.first, backend="eager")
    inner(X.flatten(1))  # compiled before the hook is there
    whole = nn.Sequential(nn.Flatten(), inner, nn.ReLU(), model.second)
    assert first_weight(whole, X) is model.first.weight


def test_frozen_and_missing_matrices_are_said():
    frozen = dense(nn.Linear(4, 4))
    frozen[1].requires_grad_(False)
    assert limited_layers(frozen) == [frozen[2]]
    with pytest.raises(ValueError, match="first weight matrix, and that is frozen"):
        first_weight(frozen, X)
    with pytest.raises(ValueError, match="Flatten, trains none"):
        limited_layers(nn.Flatten())
    with pytest.raises(ValueError, match="Flatten, has none"):
        first_weight(nn.Flatten(), X)


def test_a_matrix_that_two_layers_share_is_limited_once():
    one = nn.Linear(3, 3)
    other = nn.Linear(3, 3)
    other.weight = one.weight
    layers = limited_layers(nn.Sequential(one, other))
    assert layers == [one]
    limit_norms(layers, 0.1)
    assert float(norms(one.weight).max()) <= 0.1001
