"""Section 5 of the paper: linear models, and weight decay against adversarial training.

Rows logistic-3v7, l1-linear, l1-deep.
"""

from __future__ import annotations

from functools import partial

import torch

from advlearn.metrics import error_rate
from advlearn.models import LogisticRegression
from advlearn.reproduce.measures import Value, Values
from advlearn.reproduce.models.description import number
from advlearn.reproduce.models.recipes import MODELS
from advlearn.reproduce.models.spec import EPS
from advlearn.reproduce.rows.experiment import Claim, Experiment, Trial, as_attacked, near


def _effective_penalty(model: LogisticRegression, trial: Trial) -> float:
    """Return d loss / d ‖w‖₁ / eps of the adversarial loss: mean sigmoid(eps ‖w‖₁ - y s)."""
    x, y = trial.images("3v7", "train")
    with torch.no_grad():
        margin = (2.0 * y - 1) * model.score(x)
        return float(torch.sigmoid(EPS * model.weight.abs().sum() - margin).mean())


def l1_linear(trial: Trial) -> Values:
    """Row l1-linear: the same number inside the loss (eps) and outside (lambda).

    Why it is not reproduced: we took "the penalty fades" to mean a fall by half, and at the optimum
    it falls by less. See the row's remark.
    """
    inside, outside = trial.model("logistic-adversarial"), trial.model("logistic-l1")
    assert isinstance(inside, LogisticRegression)
    test = trial.images("3v7")
    ends, fresh = _effective_penalty(inside, trial), LogisticRegression()
    return {
        "clean error, eps inside": error_rate(inside, test),
        "clean error, lambda outside": error_rate(outside, test),
        "FGSM error, eps inside": trial.attacked("logistic-adversarial")["FGSM error"],
        "FGSM error, lambda outside": trial.attacked("logistic-l1")["FGSM error"],
        "effective penalty inside, before training": _effective_penalty(fresh, trial),
        "effective penalty inside, after training": ends,
        "effective penalty outside": 1.0,
    }


TRAIN_EXAMPLES = 10_000
"""On how many training images row l1-deep measures the training error."""


def l1_deep(trial: Trial) -> Values:
    """Row l1-deep: two coefficients on the first layer."""
    train = trial.images(split="train").take(slice(TRAIN_EXAMPLES))
    measured: dict[str, Value] = {}
    for name, coefficient in (("maxout-l1", ".0025"), ("maxout-l1-small", ".000025")):
        model = trial.model(name)
        suffix = " (paper: more than)" if coefficient == ".0025" else ""
        measured[f"training error at {coefficient}{suffix}"] = error_rate(model, train)
        measured[f"clean error at {coefficient}"] = trial.attacked(name)["clean error"]
        measured[f"FGSM error at {coefficient}"] = trial.attacked(name)["FGSM error"]
        measured[f"PGD error at {coefficient}"] = trial.attacked(name)["PGD error"]
    return measured | {"clean error without a penalty": trial.attacked("maxout")["clean error"]}


EXPERIMENTS = (
    Experiment(
        id="logistic-3v7",
        uses=("logistic-3v7",),
        measure=partial(as_attacked, "logistic-3v7"),
        expect=near("logistic-3v7", clean=0.005, fgsm=(0.02, 0.01)),
        claims=(
            Claim(
                "FGSM makes the model err on most digits",
                lambda measured: measured["FGSM error"] > 0.5 > 10 * measured["clean error"],
            ),
        ),
        procedure="As in the paper. The attack is exact for a linear model with two classes.",
    ),
    Experiment(
        id="l1-linear",
        uses=("logistic-3v7", "logistic-adversarial", "logistic-l1"),
        measure=l1_linear,
        expect={},
        claims=(
            Claim(
                "outside the loss, the same number costs more clean accuracy",
                lambda measured: (
                    measured["clean error, lambda outside"] > measured["clean error, eps inside"]
                ),
            ),
            Claim(
                "inside the loss, the penalty fades as the model becomes right",
                lambda measured: (
                    measured["effective penalty inside, after training"]
                    < measured["effective penalty inside, before training"] / 2
                ),
            ),
        ),
        procedure=f"eps = {number(EPS)} inside softplus, lambda = "
        f"{number(MODELS['logistic-l1'].recipe.l1)} on ‖w‖₁ outside; 3 against 7. The paper argues "
        "in words; these are our numbers for the argument.",
        remark=(
            "The second claim asked for a fall by half. At eps .25 the margins never grow far "
            "beyond eps ‖w‖₁, so the penalty falls, but not by half, at the converged optimum. "
            "The claim that L1 overestimates the damage holds clearly: outside, .25 drives the "
            "weights to zero."
        ),
    ),
    Experiment(
        id="l1-deep",
        uses=("maxout", "maxout-l1", "maxout-l1-small"),
        measure=l1_deep,
        expect={"training error at .0025 (paper: more than)": (0.05, 0.5)},
        claims=(
            Claim(
                "a coefficient of .0025 leaves a larger training error than a hundredth of it",
                lambda measured: (
                    measured["training error at .0025 (paper: more than)"]
                    > 2 * measured["training error at .000025"]
                ),
            ),
            Claim(
                "the smaller coefficient trains, and brings no benefit on clean digits",
                lambda measured: (
                    measured["training error at .000025"] < 0.05
                    and measured["clean error at .000025"]
                    > measured["clean error without a penalty"] - 0.001
                ),
            ),
        ),
        procedure="The plain recipe with an L1 penalty on the first layer's weights. The training "
        f"error is that of the first {number(TRAIN_EXAMPLES)} training images.",
        seeds=3,
        remark=(
            "With a coefficient of .0025 the paper's network got stuck at a training error of over "
            "5 %. Ours does not train at all: it answers one digit for every image. What a "
            "hundredth of it does to the clean error is smaller than what another seed does."
        ),
    ),
)
