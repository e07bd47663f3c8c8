"""Section 1 and the CIFAR-10 rows of the paper: photographs."""

from __future__ import annotations

from itertools import product

import torch

from advlearn.attacks import fgsm
from advlearn.data.photographs import PHOTOGRAPHS, imagenet_model, photograph
from advlearn.metrics import Rate
from advlearn.reproduce.measures import USUAL, Value, Values, rubbish
from advlearn.reproduce.rows.experiment import Bench, Claim, Experiment, near

EPS_PANDA = 0.007


def panda(bench: Bench) -> Values:
    """Row panda: every square of three photographs, its answer before and after."""
    model = imagenet_model()
    places = product(PHOTOGRAPHS, (1.0, 1.4, 2.0), (0.2, 0.5, 0.8))
    if bench.scale.quick:
        places = product(PHOTOGRAPHS, (1.0,), (0.5,))
    before, after, alone, changed = [], [], [], 0
    for name, zoom, right in places:
        x = photograph(name, zoom=zoom, right=right)
        with torch.no_grad():
            start = model(x).softmax(1)
        # No label is given with a photograph: the model's own answer stands in for it.
        y = start.argmax(1)
        moved = fgsm(model, x, y, EPS_PANDA)
        sign = (fgsm(model, x, y, EPS_PANDA, bounds=None) - x).sign()
        with torch.no_grad():
            end, rubbish_ = model(moved).softmax(1), model((sign + 1) / 2).softmax(1)
        before.append(float(start.amax()))
        after.append(float(end.amax()))
        alone.append(float(rubbish_.amax()))
        changed += int(end.argmax(1) != y)
    # One photograph in the paper: the one of ours that ends most certain of another class.
    best = max(range(len(after)), key=lambda i: after[i])
    return {
        "confidence before": before[best],
        "confidence after": after[best],
        "confidence on the sign image": alone[best],
        "squares whose answer changes": Rate(changed, len(after)),
        "mean confidence before": sum(before) / len(before),
        "mean confidence after": sum(after) / len(after),
    }


def cifar(bench: Bench) -> Values:
    """Row cifar: in whitened units, which have no bounds."""
    return bench.table("cifar")


def rubbish_photographs(bench: Bench) -> Values:
    """Row rubbish-cifar: N(0, I) in the whitened units."""
    shape = (bench.images("cifar").n, *bench.images("cifar").x.shape[1:])
    rate, confidence = rubbish(bench.model("cifar"), shape, seed=bench.seed)
    measured: dict[str, Value] = {"conv maxout": rate}
    return measured | ({"conv maxout, confidence": confidence} if rate.count else {})


_JPEG = (
    "On CIFAR-10 re-encoded as JPEG, so figures differ a little from the original's. Contrast "
    "normalisation (scale 55), then ZCA (bias .1), as in the paper."
)
EXPERIMENTS = (
    Experiment(
        id="panda",
        measure=panda,
        expect=near("panda", before=0.1, after=(0.05, 0.007), sign=0.1),
        claims=(
            Claim(
                "at least half of the squares change their answer",
                lambda ours: ours["squares whose answer changes"] >= 0.5,
            ),
            Claim(
                "one of them is then more certain of the wrong class than it was of the first",
                lambda ours: ours["confidence after"] > ours["confidence before"],
            ),
        ),
        recipe="Another network (EfficientNet-Lite0) and other photographs: GoogLeNet's weights "
        "and the paper's panda are not shipped. 27 squares of three photographs; the first "
        "figures are of the square that ends most certain.",
        seconds=15.0,
        remark=(
            "Another network on other photographs: these figures cannot be the paper's. What it "
            "shows holds: a change that nobody sees changes every answer, and some wrong answers "
            "are surer than the right ones were."
        ),
    ),
    Experiment(
        id="cifar",
        uses=("cifar",),
        measure=cifar,
        expect=near("cifar", fgsm=0.1, confidence=0.1, same_as=USUAL),
        same_as=USUAL,
        claims=(
            Claim(
                "FGSM makes the network err on most photographs",
                lambda ours: ours["FGSM error, usual loss"] > 0.5 > 2 * ours["clean error"],
            ),
        ),
        recipe=f"{_JPEG} A smaller network than the paper's: 64, 96 and 128 channels. "
        "The first 2,000 test images, mixed over the classes; PGD on 100 of them, 10 steps.",
    ),
    Experiment(
        id="rubbish-cifar",
        uses=("cifar",),
        measure=rubbish_photographs,
        expect=near("rubbish-cifar", rate=0.15, confidence=0.15),
        claims=(
            Claim(
                "most rubbish is called an object with probability over one half",
                lambda ours: ours["conv maxout"] > 0.5,
            ),
        ),
        recipe=f"{_JPEG} The rubbish is N(0, I) in the whitened units, of which the network's "
        "training images have a standard deviation of about .5.",
    ),
)
