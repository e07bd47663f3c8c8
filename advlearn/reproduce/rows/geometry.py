"""Sections 4, 6 and 8 of the paper: how a maxout network lies around images.

Its filters, the images turned towards the gradient, and its logits along a straight line.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from advlearn.attacks import input_gradient, rotate
from advlearn.metrics import error_rate, logits_along, predict
from advlearn.reproduce.measures import (
    Value,
    Values,
    effective_pixels,
    filter_radius,
    straightness,
)
from advlearn.reproduce.models.trained import EPS
from advlearn.reproduce.rows.experiment import Bench, Claim, Experiment


def first_layer(model: nn.Module) -> Tensor:
    """Return the weights of a network's first layer, (units, pixels), without dead units."""
    weight = next(p for p in model.parameters() if p.dim() == 2).detach()
    # A piece that never wins keeps its start of at most .005 and says nothing of the training.
    alive = weight.abs().amax(1) > 0.02
    return weight[alive] if bool(alive.any()) else weight


def filters(bench: Bench) -> Values:
    """Row filters: how far the first-layer weights spread over the image."""
    spread = {
        name: float(filter_radius(first_layer(bench.model(name))).median())
        for name in ("maxout", "maxout-adversarial")
    }
    few = {
        name: float((effective_pixels(first_layer(bench.model(name))) < 50).double().mean())
        for name in spread
    }
    return {
        "filters of under 50 effective pixels without": few["maxout"],
        "filters of under 50 effective pixels with": few["maxout-adversarial"],
        "filter radius without": spread["maxout"],
        "filter radius with": spread["maxout-adversarial"],
        "ratio of radii": spread["maxout-adversarial"] / spread["maxout"],
    }


def rotation(bench: Bench) -> Values:
    """Row rotation: the angle that moves an image as far as FGSM does, in L2."""
    model, (x, y) = bench.model("maxout"), bench.images()
    length = float(x.flatten(1).norm(dim=1).mean())
    step = EPS * math.sqrt(x[0].numel())
    same = 2 * math.asin(min(1.0, step / (2 * length)))  # chord = 2 r sin(angle / 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bench.seed)
        anywhere = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10)).eval()
    measured: dict[str, Value] = {"angle that equals eps .25, in turns": same / (2 * math.pi)}
    for words, share in (
        ("a quarter of the angle", 0.25),
        ("half the angle", 0.5),
        ("the angle", 1.0),
    ):
        turned = rotate(model, x, y, share * same)
        measured[f"error, {words}"] = error_rate(model, (turned, y))
    turned = rotate(anywhere, x, y, same)
    return measured | {"error, the angle in a random direction": error_rate(model, (turned, y))}


def logits_against_eps(bench: Bench) -> Values:
    """Row logits-eps: one four, eps from -15 to 15 along the sign of the gradient."""
    model, (x, y) = bench.model("maxout"), bench.images()
    right = predict(model, (x, y)).argmax(1) == y
    one = int(((y == 4).int() + ((y == 4) & right).int()).argmax())  # a four, and right if any is
    image, label = x[one : one + 1], y[one : one + 1]
    direction = input_gradient(model, image, label).sign()
    eps = torch.linspace(-15, 15, 601)
    logits = logits_along(model, image, direction, eps)
    correct = logits.argmax(1) == label
    # What one digit does is chance: here is what the first hundred do, each on its own line.
    others = ((y == 4) & right).nonzero().flatten()[:100]
    shares = []
    for k in others.tolist():
        own = input_gradient(model, x[k : k + 1], y[k : k + 1]).sign()
        walk = logits_along(model, x[k : k + 1], own, eps[::5])
        shares.append(float((walk.argmax(1) == 4).double().mean()))
    return {
        "share of eps in -15 ... 15 where it is right": float(correct.double().mean()),
        "mean of that share over 100 fours": sum(shares) / max(len(shares), 1),
        "fours with a share under 10 %": sum(s < 0.1 for s in shares) / max(len(shares), 1),
        "R² of the logits for eps over 1": straightness(eps[eps > 1], logits[eps > 1]),
        "R² of the logits for eps under -1": straightness(eps[eps < -1], logits[eps < -1]),
        "different wrong classes": float(len(logits.argmax(1)[~correct].unique())),
    }


EXPERIMENTS = (
    Experiment(
        id="filters",
        uses=("maxout", "maxout-adversarial"),
        measure=filters,
        expect={"ratio of radii": (0.0, 0.95)},
        numbers=("ratio of radii",),
        claims=(
            Claim(
                "adversarially trained filters are more localised",
                lambda ours: ours["filter radius with"] < ours["filter radius without"],
            ),
        ),
        recipe="Median over the first layer's pieces of the root mean square distance of a "
        "filter's energy from its own centre, as a share of the image's side.",
        seeds=5,
        remark="The radius was fixed before the run as the measure of localisation, and by it the "
        "trained filters are wider. Seen one by one, two kinds stand out: short strokes, as "
        "in the paper, which the plain network hardly has, and noise over the whole image. "
        "Effective pixels tell the first kind; lesson 06 shows what the second is for.",
    ),
    Experiment(
        id="rotation",
        uses=("maxout",),
        measure=rotation,
        expect={"error, the angle": (0.5, 1.0)},
        claims=(
            Claim(
                "a rotation towards the gradient does far more than one in a random direction",
                lambda ours: (
                    ours["error, the angle"] > 3 * ours["error, the angle in a random direction"]
                ),
            ),
        ),
        recipe="Unclipped; the angle at which an image of mean length moves as far as under FGSM "
        "at eps .25, in L2.",
    ),
    Experiment(
        id="logits-eps",
        uses=("maxout",),
        measure=logits_against_eps,
        expect={
            "share of eps in -15 ... 15 where it is right": (0.0, 0.1),
            "R² of the logits for eps over 1": (0.95, 1.0),
            "R² of the logits for eps under -1": (0.95, 1.0),
        },
        numbers=(
            "R² of the logits for eps over 1",
            "R² of the logits for eps under -1",
            "different wrong classes",
        ),
        claims=(
            Claim(
                "the network is right on a thin band of eps only",
                lambda ours: ours["share of eps in -15 ... 15 where it is right"] < 0.2,
            ),
            Claim(
                "beyond it the logits are nearly straight lines",
                lambda ours: (
                    min(
                        ours["R² of the logits for eps over 1"],
                        ours["R² of the logits for eps under -1"],
                    )
                    > 0.8
                ),
            ),
        ),
        recipe="The first digit four of the test set that the network gets right.",
        remark="This four is lost on both sides, as in the paper. One picture does not show what "
        "is usual, so the means over a hundred fours stand beside it: towards larger losses they "
        "are lost at once, and towards smaller ones most stay fours as far as the picture goes. "
        "Earlier networks of ours kept this four there too, and the row was not reproduced.",
    ),
)
