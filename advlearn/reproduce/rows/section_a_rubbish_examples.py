"""Appendix A of the paper: noise that is called something.

Rows rubbish, rubbish-cifar.
"""

from __future__ import annotations

from advlearn.reproduce.measures import Value, Values, rubbish
from advlearn.reproduce.rows.experiment import Claim, Experiment, Trial, near
from advlearn.reproduce.rows.section4_nonlinear_models import CIFAR_AS_HERE


def rubbish_digits(trial: Trial) -> Values:
    """Row rubbish: N(0, I) images."""
    shape = (trial.images().n, 1, 28, 28)
    measured: dict[str, Value] = {}
    for quantity, name in (
        ("maxout", "maxout"),
        ("sigmoid top", "maxout-sigmoid"),
        ("softmax", "softmax"),
        ("RBF", "rbf"),
    ):
        rate, confidence = rubbish(trial.model(name), shape, seed=trial.seed)
        measured[quantity] = rate
        if rate.count:
            measured[f"{quantity}, confidence"] = confidence
    return measured


def rubbish_photographs(trial: Trial) -> Values:
    """Row rubbish-cifar: N(0, I) in the whitened units."""
    shape = (trial.images("cifar").n, *trial.images("cifar").x.shape[1:])
    rate, confidence = rubbish(trial.model("cifar"), shape, seed=trial.seed)
    measured: dict[str, Value] = {"conv maxout": rate}
    return measured | ({"conv maxout, confidence": confidence} if rate.count else {})


EXPERIMENTS = (
    Experiment(
        id="rubbish",
        uses=("maxout", "maxout-sigmoid", "softmax", "rbf"),
        measure=rubbish_digits,
        expect=near("rubbish", a=0.15, b=0.15, c=0.15, d=0.15, e=0.15, f=0.15, g=0.01),
        claims=(
            Claim(
                "the maxout network calls most rubbish a digit, the RBF network none",
                lambda measured: measured["maxout"] > 0.5 and measured["RBF"] < 0.01,
            ),
        ),
        procedure="As many N(0, I) images as there are test digits.",
    ),
    Experiment(
        id="rubbish-cifar",
        uses=("cifar",),
        measure=rubbish_photographs,
        expect=near("rubbish-cifar", rate=0.15, confidence=0.15),
        claims=(
            Claim(
                "most rubbish is called an object with probability over one half",
                lambda measured: measured["conv maxout"] > 0.5,
            ),
        ),
        procedure=f"{CIFAR_AS_HERE} The rubbish is N(0, I) in the whitened units, in which the "
        "training images vary less.",
    ),
)
