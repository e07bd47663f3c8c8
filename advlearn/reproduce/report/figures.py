"""The pictures of the results page, drawn from the published models and the offline digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import nn

from advlearn import plotting
from advlearn._atomic import write_atomically
from advlearn.attacks import input_gradient, pgd
from advlearn.data import Dataset, load_mnist
from advlearn.data.photographs import imagenet_classes, imagenet_model, photograph
from advlearn.data.reference import load
from advlearn.metrics import adversarial_error_rate, error_curve, logits_along, transfer_matrix
from advlearn.models import LogisticRegression
from advlearn.reproduce.models.spec import EPS
from advlearn.reproduce.rows.section4_nonlinear_models import EPS_PANDA
from advlearn.reproduce.rows.section6_adversarial_training import first_layer

Models = Callable[[str], nn.Module]
TARGET = "ostrich"  # what the opening picture is to be called
STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


def opening(model: Models, digits: Dataset) -> Figure:
    """Draw a photograph, the change magnified, and the attacked photograph, with the answers.

    The upper part of the temple, by a targeted PGD: the eps of the paper's panda, and many steps.
    """
    network, classes = imagenet_model(), imagenet_classes()
    x = photograph("china", zoom=1.5, right=0.25, down=0.0)
    target = torch.tensor([classes.index(TARGET)])
    moved = pgd(
        network, x, target, EPS_PANDA, steps=100, step_size=0.001, targeted=True, random_start=False
    )
    said = []
    for images in (x, moved):
        with torch.no_grad():
            probability, answer = network(images).softmax(1).max(1)
        said.append([f"“{classes[int(answer)]}”\n{100 * float(probability):.0f} %"])
    figure, ax = plt.subplots(figsize=(8.2, 3.3), layout="constrained")
    plotting.before_after(x, moved, *said, ax=ax)
    return figure


def weights(model: Models, digits: Dataset) -> Figure:
    """Draw what the two logistic regressions of 3 against 7 have learned."""
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
    for ax, (title, name) in zip(
        axes,
        (("plain", "logistic-3v7"), ("adversarial, eps .25", "logistic-adversarial")),
        strict=True,
    ):
        one = model(name)
        assert isinstance(one, LogisticRegression)
        plotting.signed(one.weight.reshape(1, 1, 28, 28), label="weight", titles=[title], ax=ax)
    return figure


def filters(model: Models, digits: Dataset) -> Figure:
    """Draw the strongest first-layer filters of the plain and of the trained maxout network."""
    figure, axes = plt.subplots(1, 2, figsize=(10.0, 5.0), layout="constrained")
    for ax, name in zip(axes, ("maxout", "maxout-adversarial"), strict=True):
        weight = first_layer(model(name))
        chosen = weight[weight.norm(dim=1).argsort(descending=True)[:48]]
        # Each filter by its own largest weight: it is the shape that is compared.
        chosen = chosen / chosen.abs().amax(1, keepdim=True)
        plotting.signed(
            chosen.reshape(-1, 1, 28, 28), columns=8, label=f"weight / largest, {name}", ax=ax
        )
        ax.set_title(name)
    return figure


def logits(model: Models, digits: Dataset) -> Figure:
    """Draw the ten logits of one four as eps runs from -15 to 15."""
    four = digits.take(digits.y == 4).take(slice(1))
    one = model("maxout")
    eps = torch.linspace(-15, 15, 301)
    direction = input_gradient(one, *four).sign()
    walk = logits_along(one, four.x, direction, eps)
    figure, ax = plt.subplots(figsize=(7.0, 3.8), layout="constrained")
    plotting.logits_walk(eps, walk, 4, ax=ax)
    return figure


def transfer(model: Models, digits: Dataset) -> Figure:
    """Draw each model's error on each model's FGSM examples, eps .25, unclipped."""
    names = {
        "softmax": "softmax",
        "RBF": "rbf",
        "maxout": "maxout",
        "maxout, trained": "maxout-adversarial",
        "ensemble": "ensemble",
    }
    matrix = transfer_matrix(
        {label: model(name) for label, name in names.items()}, digits, EPS, bounds=None
    )
    figure, ax = plt.subplots(figsize=(7.0, 5.4), layout="constrained")
    plotting.transfer_map(matrix, ax=ax)
    return figure


def errors(model: Models, digits: Dataset) -> Figure:
    """Draw error against eps under FGSM, and under PGD for the deep networks, clipped."""
    curves: dict[str, list[float]] = {}
    few = digits.take(slice(300))
    for label, name in (
        ("softmax", "softmax"),
        ("maxout", "maxout"),
        ("maxout, trained on FGSM", "maxout-adversarial"),
        ("ConvNet, trained to resist", "robust"),
    ):
        one = model(name)
        curve = error_curve(one, digits, STEPS)
        curves[f"{label}: FGSM"] = [100 * float(rate) for rate in curve.errors]
        if name != "softmax":  # for a linear model of two classes FGSM is exact, of ten nearly so
            curves[f"{label}: PGD"] = [
                100
                * float(
                    adversarial_error_rate(
                        one, few, eps, attack=pgd, generator=torch.Generator().manual_seed(0)
                    )
                )
                for eps in STEPS
            ]
    figure, ax = plt.subplots(figsize=(8.6, 4.2), layout="constrained")
    plotting.lines(
        STEPS, curves, xlabel="eps (pixel units)", ylabel="error (%)", markers=True, ax=ax
    )
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


FIGURES: Mapping[str, Callable[[Models, Dataset], Figure]] = {
    "opening.jpg": opening,
    "errors.png": errors,
    "filters.png": filters,
    "transfer.png": transfer,
    "logits.png": logits,
    "weights.png": weights,
}
"""File name -> what draws it."""


def draw(folder: Path, weights_folder: Path) -> dict[str, str]:
    """Draw all pictures into `folder` and return file name -> alt text.

    Args:
        folder: of the results page.
        weights_folder: of the published models.
    """
    digits = load_mnist("test", source="offline")
    alt = {}
    for name, figure in FIGURES.items():
        drawn = figure(lambda wanted: load(wanted, weights_folder), digits)
        alt[name] = plotting.alt_text(drawn)
        kind = "jpeg" if name.endswith(".jpg") else "png"
        write_atomically(folder / name, plotting.render(drawn, dpi=90, kind=kind))
    return alt
