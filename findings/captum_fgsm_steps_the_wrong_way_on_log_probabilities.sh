#!/usr/bin/env bash
# captum 0.9.0, torch 2.14.1 (Python 3.11, Linux): with its default loss, captum.robust.FGSM helps a
# model that gives log-probabilities, and its error under attack is 0 %.
#
# Behaviour: the default loss of FGSM and PGD is -log(output of the true class), which is the loss of
# a model that gives probabilities. Most networks give logits, or log-probabilities (log_softmax, for
# NLLLoss). The logarithm of a negative number is NaN, but its derivative is not: -1/z is finite and
# positive where z < 0. So the gradient arrives with the wrong sign, without NaN and without a word:
# the step raises the true class. All log-probabilities are negative. With logits it depends on the
# example, and on a constant added to all logits, which changes no prediction. What helps: pass
# loss_func=torch.nn.CrossEntropyLoss(reduction="none").
#
# Seen (one linear model, 500 points, eps 0.1; unattacked error 0 %):
#   what the model gives      error under FGSM   under PGD   FGSM with cross-entropy
#   probabilities                  85.6 %          85.8 %        85.6 %
#   log-probabilities               0.0 %           0.0 %        85.6 %
#   logits                         65.0 %          44.4 %        85.6 %
#   logits minus 100                0.0 %           0.0 %        85.6 %
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  captum==0.9.0 torch==2.14.1 numpy==1.26.4
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from captum.robust import FGSM, PGD

torch.manual_seed(0)
weight, x = torch.randn(3, 20), torch.rand(500, 20)


def logits(x):
    return (x - 0.5) @ weight.T


y = logits(x).argmax(1)
models = {
    "probabilities": lambda x: logits(x).softmax(1),
    "log-probabilities": lambda x: logits(x).log_softmax(1),
    "logits": logits,
    "logits minus 100": lambda x: logits(x) - 100,
}
errors = {}
for name, model in models.items():
    box = {"lower_bound": 0.0, "upper_bound": 1.0}
    entropy = torch.nn.CrossEntropyLoss(reduction="none")
    moved = (
        FGSM(model, **box).perturb(x, 0.1, y),
        PGD(model, **box).perturb(x, 0.1, 0.02, 10, y),
        FGSM(model, entropy, **box).perturb(x, 0.1, y),
    )
    errors[name] = [100 * float((model(z).argmax(1) != y).float().mean()) for z in moved]
    print(f"{name:20}" + "".join(f"{error:10.1f} %" for error in errors[name]))
assert errors["probabilities"][0] > 80
assert errors["log-probabilities"][:2] == [0, 0]
assert errors["logits minus 100"][:2] == [0, 0]
assert 0 < errors["logits"][0] < errors["probabilities"][0]
assert all(found[2] > 80 for found in errors.values())
PYTHON
