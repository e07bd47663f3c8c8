#!/usr/bin/env bash
# torch 2.14.1 (Python 3.11, Linux): inside torch.nn.utils.parametrize.cached(), a look at the model
# without gradients stops the training of its parametrised weights, without a word.
#
# Behaviour: cached() computes each parametrised weight (weight_norm, spectral_norm, orthogonal) once
# for the whole block, at its first use. It does not ask whether gradients are on. So a validation,
# or an attack, in no_grad at the head of the block leaves weights in the cache that have no graph.
# The training step behind it uses them: its loss falls by the other parameters, and the originals of
# the parametrised weights get no gradient, None and not 0, so the optimizer passes over them. What
# helps: leave cached() out around what is asked without gradients, or run the training step first.
#
# Seen (weight_norm in front of a plain layer, one step of SGD):
#   first use in the block      gradients that are None        parametrised weight moved
#   the training step           none                           yes
#   a validation in no_grad     0: original0, original1        no
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==1.26.4
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

x, y = torch.rand(20, 6), torch.arange(20) % 3


def one_step(look_first):
    torch.manual_seed(0)
    normed = parametrizations.weight_norm(nn.Linear(6, 16))
    model = nn.Sequential(normed, nn.ReLU(), nn.Linear(16, 3))
    before = model[0].weight.detach().clone()
    with parametrize.cached():
        if look_first:
            with torch.no_grad():
                model(x)
        nn.functional.cross_entropy(model(x), y).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    torch.optim.SGD(model.parameters(), 0.1).step()
    return without, not torch.equal(model[0].weight.detach(), before)


for look_first in (False, True):
    without, moved = one_step(look_first)
    print(f"no_grad first: {look_first}; None: {without}; moved: {moved}")
    assert moved != look_first
    assert len(without) == (2 if look_first else 0)
PYTHON
