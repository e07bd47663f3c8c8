"""Section 1 of the paper: one photograph.

Row panda.
"""

from __future__ import annotations

from itertools import product

import torch

from advlearn.attacks import fgsm
from advlearn.data.photographs import PHOTOGRAPHS, imagenet_model, photograph
from advlearn.metrics import Rate
from advlearn.reproduce.measures import Values
from advlearn.reproduce.models.description import number
from advlearn.reproduce.rows.experiment import Claim, Experiment, Trial, near

EPS_PANDA = 0.007
SQUARES = tuple(product(PHOTOGRAPHS, (1.0, 1.4, 2.0), (0.2, 0.5, 0.8)))
"""Photograph, how much it is enlarged, and how far to the right the square lies."""


def panda(trial: Trial) -> Values:
    """Row panda: every square of three photographs, its answer before and after.

    Why it is not reproduced: GoogLeNet's weights and the paper's panda are not published with the
    course, and another network answers other photographs with other confidence.
    """
    model = imagenet_model()
    squares = SQUARES
    if trial.scale.quick:
        squares = tuple(product(PHOTOGRAPHS, (1.0,), (0.5,)))
    before, after, alone, changed = [], [], [], 0
    for name, zoom, right in squares:
        x = photograph(name, zoom=zoom, right=right)
        with torch.no_grad():
            start = model(x).softmax(1)
        # No label is given with a photograph: the model's own answer stands in for it.
        y = start.argmax(1)
        moved = fgsm(model, x, y, EPS_PANDA)
        sign = (fgsm(model, x, y, EPS_PANDA, bounds=None) - x).sign()
        with torch.no_grad():
            end, sign_image = model(moved).softmax(1), model((sign + 1) / 2).softmax(1)
        before.append(float(start.amax()))
        after.append(float(end.amax()))
        alone.append(float(sign_image.amax()))
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


EXPERIMENTS = (
    Experiment(
        id="panda",
        measure=panda,
        expect=near("panda", before=0.1, after=(0.05, 0.007), sign=0.1),
        claims=(
            Claim(
                "at least half of the squares change their answer",
                lambda measured: measured["squares whose answer changes"] >= 0.5,
            ),
            Claim(
                "one of them is then more certain of the wrong class than it was of the first",
                lambda measured: measured["confidence after"] > measured["confidence before"],
            ),
        ),
        procedure="Another network (EfficientNet-Lite0) and other photographs: GoogLeNet's weights "
        "and the paper's panda are not published with the course. "
        f"{number(len(SQUARES))} squares of {number(len(PHOTOGRAPHS))} photographs at eps "
        f"{number(EPS_PANDA)}; the first numbers are of the square that ends most certain.",
        seconds=15.0,
        remark=(
            "Another network on other photographs: these numbers cannot be the paper's. What it "
            "shows holds: a change that nobody sees changes every answer, and some wrong answers "
            "are more confident than the right ones were."
        ),
    ),
)
