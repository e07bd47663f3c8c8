"""Section 7 of the paper: a network that knows when it does not know.

Row rbf.
"""

from __future__ import annotations

from functools import partial

from advlearn.reproduce.rows.experiment import Claim, Experiment, as_attacked, near

EXPERIMENTS = (
    Experiment(
        id="rbf",
        uses=("rbf",),
        measure=partial(as_attacked, "rbf"),
        expect=near("rbf", fgsm=0.15, confidence=(0.012, 0.1), clean=0.15),
        claims=(
            Claim(
                "the network is unsure where it errs, and confident on clean digits",
                lambda measured: (
                    measured["confidence on mistakes"]
                    < measured["confidence on clean examples"] / 2
                ),
            ),
        ),
        procedure="One unit for each class with a diagonal B, started at the class means, trained "
        "with the binary cross-entropy of each class. The paper gives no recipe.",
    ),
)
