"""What a recipe's limit and penalty act on: layers found by their kind, or a refusal by name.

A weight matrix is recognised by the layer that holds it. Where a model keeps weights elsewhere (a
recurrent layer, a parametrisation, a parameter of its own), a limit that passed over them would be
a limit in name only, so it is refused before training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advlearn.context import attack_mode, uncompiled

_FORWARD = (nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # weight: (units, inputs, ...)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_KNOWN = "linear, bilinear, convolutional and transposed convolutional layers"


def _held(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the trained weight matrices that a module holds itself, with their names."""
    own = module.named_parameters(recurse=False)
    return [(name, value) for name, value in own if value.requires_grad and value.dim() > 1]


def _refusal(model: nn.Module, owner: nn.Module, name: str, what: str) -> ValueError:
    path = next(path for path, module in model.named_modules() if module is owner)
    return ValueError(
        f"{what} acts on {_KNOWN}, and {f'{path}.{name}' if path else name} belongs to none of "
        f"these but to {type(owner).__name__}. Leave {what} out, freeze that parameter, or remove "
        "the parametrisation that it comes from."
    )


def limited_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that `limit_norms` acts on: those that hold every trained weight matrix.

    Args:
        model: on its own or in any wrapper that is a module: its parts count.

    Raises:
        ValueError: a trained weight matrix is in no layer of a known kind, or there is none.

    Example:
        >>> limited_layers(nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
        [Linear(in_features=4, out_features=2, bias=True)]
    """
    layers: dict[int, nn.Module] = {}  # by weight: one that two layers share is limited once
    for module in model.modules():
        for name, value in _held(module):
            if name != "weight" or not isinstance(module, _FORWARD + _TRANSPOSED):
                raise _refusal(model, module, name, "max_norm")
            layers.setdefault(id(value), module)
    if not layers:
        raise ValueError(
            f"max_norm acts on {_KNOWN}, and model, a {type(model).__name__}, trains none. "
            "Leave max_norm out."
        )
    return list(layers.values())


def limit_norms(layers: list[nn.Module], max_norm: float) -> None:
    """Scale down each unit whose incoming weights have an L2 norm above `max_norm`, in place.

    Args:
        layers: from `limited_layers`.
        max_norm: > 0.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
        >>> limit_norms([layer], 1.0)
        >>> layer.weight.data
        tensor([[0.6000, 0.8000]])
    """
    with torch.no_grad():
        for layer in layers:
            weight, first = layer.weight, 1
            assert isinstance(weight, Tensor), "limited_layers gives layers with a weight"
            if isinstance(layer, _TRANSPOSED):
                # (inputs, units / groups, ...) -> (groups, units / groups, inputs / groups, ...)
                weight, first = weight.unflatten(0, (layer.groups, -1)).transpose(1, 2), 2
            axes = tuple(range(first, weight.dim()))
            norm = torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
            weight.mul_((max_norm / norm.clamp_min(1e-12)).clamp_max(1.0))


def first_weight(model: nn.Module, x: Tensor) -> nn.Parameter:
    """Return W_1, the first weight matrix that images meet, for the L1 penalty.

    The layers are asked in the order in which they are used, which need not be that in which the
    model's code creates them.

    Args:
        model: on its own or in any wrapper that is a module.
        x: one image with its batch dimension.

    Raises:
        ValueError: the first part with a trained weight matrix is no layer of a known kind, or no
            part has one.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> first_weight(model, torch.zeros(1, 1, 2, 2)) is model[1].weight
        True
    """
    # The frozen count too: a penalty on the second matrix would not be the penalty asked for.
    holders = [
        module
        for module in model.modules()
        if any(value.dim() > 1 for value in module.parameters(recurse=False))
    ]
    used: list[nn.Module] = []
    for module in holders:
        if isinstance(module, torch.jit.ScriptModule):  # nobody can watch it run
            raise _refusal(model, module, "weight", "l1")
    watched = [
        module.register_forward_hook(lambda module, *_: used.append(module)) for module in holders
    ]
    try:
        with attack_mode(model), torch.no_grad(), uncompiled():
            model(x.clone())
    finally:
        for handle in watched:
            handle.remove()
    first = next(iter(used or holders), None)
    if first is None:
        raise ValueError(
            f"l1 acts on the first weight matrix, and model, a {type(model).__name__}, has none. "
            "Leave l1 out."
        )
    weight = first._parameters.get("weight")
    if weight is None or not isinstance(first, _FORWARD + _TRANSPOSED):
        name = next(n for n, value in first.named_parameters(recurse=False) if value.dim() > 1)
        raise _refusal(model, first, name, "l1")
    if not weight.requires_grad:
        raise ValueError(
            "l1 acts on the first weight matrix, and that is frozen: the penalty would change "
            "nothing. Leave l1 out, or train that layer."
        )
    return weight
