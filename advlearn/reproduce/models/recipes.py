"""The recipes of all models, and which models are published.

Every choice was made on the 5,000 offline digits, which no model trains on (for CIFAR-10, on 5,000
training images held out for it), never on the test images. What a model is and how it is trained
stands here as numbers; `advlearn.reproduce.models.description` makes the published sentence of
them. Only `why` is typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from advlearn.attacks import fgsm
from advlearn.recipe import Recipe
from advlearn.reproduce.models.methods import (
    binary_cross_entropy,
    fit_certified,
    fit_detector,
    fit_mirrored,
    fit_mixture,
    fit_moved,
    fit_rbf,
    fit_robust,
    noisy,
    worst_case_loss,
)
from advlearn.reproduce.models.spec import EPS, Method, ModelSpec
from advlearn.training import adversarial_fit, fit

_QUICK_MAXOUT = {"hidden": (48, 48), "pieces": 3}
_PLAIN = Recipe(
    epochs=40,
    lr=0.1,
    lr_final=0.001,
    momentum=0.9,
    max_norm=1.9365,
    precision="fast",
)
# For the networks that the rows compare: each epoch is four passes over the digits, see
# `fit_moved`.
_MOVED = replace(_PLAIN, epochs=15, lr=0.5, lr_final=0.01, momentum=0.5, max_norm=1.6)
# The wide pair: a step costs by its weights more than by its images, so it takes 250 of them.
_WIDE = replace(_PLAIN, epochs=15, batch_size=250, lr=0.2, lr_final=0.002)

_LITTLE_DROPOUT = "A short training does not pay for more dropout."
_WHY_MOVED = (
    "Without moved digits, longer training and more dropout left the clean error of our plain "
    "network too high."
)
_WHY_LIMIT = "With the paper's limit on the norm, our network was more confident than the paper's."

_adversarial = partial(adversarial_fit, eps=EPS, bounds=None)


def _maxout(name: str, **changes: object) -> ModelSpec:
    defaults: dict[str, object] = {
        "architecture": "MaxoutNet",
        "options": {"hidden_dropout": 0.3},
        "recipe": _PLAIN,
        "half": True,
        "quick_options": _QUICK_MAXOUT,
        "seconds": 150.0,
        "in_paper": True,
    }
    return ModelSpec(name=name, **{**defaults, **changes})  # type: ignore[arg-type]


_WHY_LIKE_PLAIN = f"{_WHY_LIMIT} {_LITTLE_DROPOUT} {_WHY_MOVED}"


def _moved(name: str, train: Method = fit, **changes: object) -> ModelSpec:
    """One of the networks that the rows of sections 4 to 6 compare: all see the same images."""
    defaults: dict[str, object] = {
        "options": {"input_dropout": 0.2, "hidden_dropout": 0.3},
        "recipe": _MOVED,
        "method": partial(fit_moved, train),
        "quick_epochs": 1,
        "seconds": 200.0,
        "why": _WHY_LIKE_PLAIN,
    }
    return _maxout(name, **{**defaults, **changes})


def _noise(kind: str, *, epochs: int, limit: float, dropped: float) -> ModelSpec:
    """One of the pair trained on noise, each with a recipe of its own."""
    return _moved(
        f"maxout-noise-{kind}",
        partial(_adversarial, attack=partial(noisy, kind)),
        options={"input_dropout": dropped, "hidden_dropout": 0.15},
        recipe=replace(_MOVED, epochs=epochs, max_norm=limit),
        seconds=28.0 * epochs,
        why="Its limit on the norm, dropout and passes are those that came nearest to the paper's "
        f"numbers on the offline digits. {_WHY_MOVED}",
    )


def _wide(name: str, train: Method = fit, **changes: object) -> ModelSpec:
    defaults: dict[str, object] = {
        "options": {"hidden": (1600, 1600), "input_dropout": 0.35, "hidden_dropout": 0.5},
        "recipe": _WIDE,
        "quick_options": {"hidden": (96, 96), "pieces": 3},
        "attack_eps": None,
        "why": _WHY_MOVED,
    }
    return _moved(name, train, **{**defaults, **changes})


_LINEAR = Recipe(epochs=10, lr=0.1, lr_final=0.01)
# A penalty's gradient jumps at zero: it needs smaller steps to settle, judged by the training loss.
_PENALISED = Recipe(epochs=30, lr=0.01, lr_final=0.0001)
_MODELS = (
    ModelSpec(
        name="logistic-3v7",
        architecture="LogisticRegression",
        recipe=_LINEAR,
        data="3v7",
    ),
    ModelSpec(
        name="logistic-adversarial",
        architecture="LogisticRegression",
        recipe=_PENALISED,
        method=partial(fit, objective=partial(worst_case_loss, EPS)),
        data="3v7",
    ),
    ModelSpec(
        name="logistic-l1",
        architecture="LogisticRegression",
        recipe=replace(_PENALISED, l1=0.25),
        data="3v7",
    ),
    ModelSpec(
        name="softmax",
        architecture="SoftmaxRegression",
        recipe=Recipe(epochs=2, lr=0.01),
    ),
    ModelSpec(
        name="rbf",
        architecture="RBFNet",
        recipe=Recipe(epochs=5, optimizer="adam", lr=0.01, lr_final=0.001),
        method=fit_rbf,
    ),
    _moved("maxout"),
    _moved("maxout-adversarial", partial(_adversarial, attack=fgsm), seconds=600.0),
    _noise("sign", epochs=15, limit=2.2, dropped=0.05),
    _noise("uniform", epochs=10, limit=1.7, dropped=0.0),
    _moved(
        "maxout-l1",
        recipe=replace(_MOVED, epochs=4, l1=0.0025),
        seconds=70.0,
        why=f"{_WHY_LIKE_PLAIN} It has fewer epochs than the plain network, because with this "
        "penalty it stays at its start however long it trains.",
    ),
    _moved("maxout-l1-small", recipe=replace(_MOVED, l1=0.000025)),
    _maxout(
        "maxout-sigmoid",
        options={"hidden_dropout": 0.3, "top": "sigmoid"},
        recipe=replace(_PLAIN, epochs=20),
        method=partial(fit, objective=binary_cross_entropy),
        attack_eps=None,
        why=_LITTLE_DROPOUT,
    ),
    _maxout(
        "maxout-masked",
        options={"input_dropout": 0.0, "hidden_dropout": 0.0},
        recipe=replace(_PLAIN, epochs=45),
        method=_adversarial,
        seconds=180.0,
        why="It shows gradient masking: FGSM fails on it and PGD does not.",
    ),
    _maxout(
        "detector",
        options={"hidden_dropout": 0.3, "classes": 2},
        recipe=replace(_PLAIN, epochs=5),
        method=fit_detector,
        after=("maxout",),
        attack_eps=None,
        seconds=30.0,
        in_paper=False,
    ),
    _wide("maxout-wide", seconds=2500.0),
    _wide("maxout-wide-adversarial", partial(_adversarial, attack=fgsm), seconds=5000.0),
    _maxout(
        "small",
        options={"hidden": (60, 60), "pieces": 3, "hidden_dropout": 0.1},
        recipe=replace(_PLAIN, epochs=20, max_norm=2.2),
        attack_eps=None,
        seconds=20.0,
        in_paper=False,
        why="It is small, so that an ensemble of it can be published.",
    ),
    ModelSpec(
        name="robust",
        architecture="ConvNet",
        recipe=Recipe(epochs=10, optimizer="adam", lr=0.001, lr_final=0.00003),
        method=fit_robust,
        quick_epochs=1,
        attack_eps=0.3,
        seconds=400.0,
    ),
    ModelSpec(
        name="certified",
        architecture="ConvNet",
        options={"channels": (32, 64), "pixelwise": 2, "dense": 128},
        recipe=Recipe(epochs=15, optimizer="adam", lr=0.001, lr_final=0.00003, precision="fast"),
        method=fit_certified,
        half=True,
        quick_options={"channels": (8, 16), "dense": 40},
        quick_epochs=10,
        attack_eps=0.3,
        certified=True,
        seconds=700.0,
        why="Behind a threshold on each pixel the bounds are narrower, so that a small network is "
        "enough.",
    ),
    ModelSpec(
        name="generative",
        architecture="SubspaceMixture",
        options={"components": 24, "rank": 40, "span": 120},
        recipe=Recipe(epochs=6),
        method=fit_mixture,
        half=True,
        quick_options={"components": 1, "rank": 15},
        quick_epochs=1,
        seconds=400.0,
    ),
    ModelSpec(
        name="cifar",
        architecture="ConvMaxoutNet",
        options={"hidden_dropout": 0.1},
        recipe=Recipe(epochs=7, optimizer="adam", lr=0.001, lr_final=0.00003, precision="fast"),
        method=fit_mirrored,
        data="cifar",
        half=True,
        quick_options={"channels": (8, 8, 8), "size": 28, "colours": 1},
        quick_epochs=1,
        attack_eps=0.1,
        attack_examples=2000,
        seconds=1500.0,
        in_paper=True,
    ),
)
MODELS: Mapping[str, ModelSpec] = {model.name: model for model in _MODELS}
"""Every model that rows need or that is published, by name."""

MEMBERS = 12
"""How many small networks the ensemble has."""

Shipped = tuple[tuple[str, int], ...]
SHIPPED: Mapping[str, Shipped] = {
    **{
        name: ((name, 0),)
        for name in (
            "logistic-3v7",
            "logistic-adversarial",
            "softmax",
            "rbf",
            "maxout",
            "maxout-adversarial",
            "maxout-noise-sign",
            "maxout-noise-uniform",
            "maxout-sigmoid",
            "maxout-masked",
            "robust",
            "certified",
            "generative",
            "cifar",
        )
    },
    "ensemble": tuple(("small", seed) for seed in range(MEMBERS)),
}
"""Name of a published model -> the trained models, by name and seed, that it is or consists of."""
