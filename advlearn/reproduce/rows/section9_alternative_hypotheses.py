"""Section 9 of the paper: hypotheses that do not hold.

Rows generative, ensemble.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from advlearn.attacks import fgsm, pgd
from advlearn.losses import float32_cross_entropy
from advlearn.metrics import Rate, adversarial_error_rate, craft, error_rate, predict
from advlearn.models import Ensemble
from advlearn.reproduce.measures import (
    FLOAT32,
    Value,
    Values,
    by_float32,
)
from advlearn.reproduce.models.description import listed, number
from advlearn.reproduce.models.recipes import MEMBERS, MODELS
from advlearn.reproduce.models.spec import EPS
from advlearn.reproduce.rows.experiment import Claim, Experiment, Trial, near


class Guarded(nn.Module):
    """A classifier and a detector as one model of K + 1 classes, the last of them "an attack".

    Its extra logit is (1 + d) max_k z_k with d the detector's log-odds of "an attack", once the
    logits are shifted to be positive: it is the largest where the detector says "an attack". An
    attack on this whole model knows the detector.

    Source:
        Carlini and Wagner, "Adversarial examples are not easily detected", 2017, section 2.4.
    """

    def __init__(self, classifier: nn.Module, detector: nn.Module) -> None:
        super().__init__()
        self.classifier, self.detector = classifier, detector

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K + 1)."""
        logits = self.classifier(x)
        logits = logits - logits.amin(1, keepdim=True) + 1
        odds = self.detector(x)
        alarm = (1 + odds[:, 1] - odds[:, 0]) * logits.amax(1)
        return torch.cat([logits, alarm.unsqueeze(1)], dim=1)


def unnoticed(logits: Tensor, y: Tensor) -> Tensor:
    """Return how far a wrong *digit* is ahead of both the true digit and the alarm, (N,)."""
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)[:, :-1].amax(1)
    guard = torch.maximum(logits.gather(1, y.unsqueeze(1)).squeeze(1), logits[:, -1])
    return others - guard


def generative(trial: Trial) -> Values:
    """Row generative, and beside it the detector of attacks for which summaries take it."""
    attacked = trial.attacked("generative")
    maxout, detector = trial.model("maxout"), trial.model("detector")
    x, y = trial.images().take(slice(trial.effort.examples))
    plain = craft(maxout, (x, y), EPS, attack=fgsm, bounds=None)
    # Class 1 of the detector is "an attack": an error on label 1 is an attack that it misses.
    attack, clean = torch.ones_like(y), torch.zeros_like(y)
    both = Guarded(maxout, detector).eval()
    # One attempt: with restarts `pgd` would stop at the first mistake, noticed or not.
    knowing = pgd(
        both,
        x,
        y,
        EPS,
        steps=5 * trial.effort.steps,
        loss=unnoticed,
        generator=torch.Generator().manual_seed(trial.seed),
        bounds=None,
    )
    fooled = (predict(maxout, (knowing, y)).argmax(1) != y) & (
        predict(detector, (knowing, clean)).argmax(1) == 0
    )
    kept = ("clean error", "FGSM error", "PGD error", "confidence on mistakes")
    return {name: attacked[name] for name in kept} | {
        "detector: clean digits called an attack": error_rate(detector, (x, clean)),
        "detector: FGSM examples missed": error_rate(detector, (plain, attack)),
        "detector: attacks that know it, wrong and unnoticed": Rate.of(fooled),
    }


class Float32Ensemble(Ensemble):
    """The mean of several models' probabilities as most code computes it: softmax, mean, log.

    The same probabilities as `Ensemble`, and another gradient. In float32 a softmax that rounds to
    1 has the derivative 0, so where all members are confident, this one loses the true class as
    one model's float32 cross-entropy does. `Ensemble` takes logarithms first, and keeps it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probabilities, (N, K)."""
        mean = torch.stack([member(x).softmax(1) for member in self.members]).mean(0)
        # The derivative of log at 0 is infinite: times a gradient of 0 it would not be a number.
        return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()


def negative_log(logs: Tensor, y: Tensor) -> Tensor:
    """Return -log p of the true class, summed: the loss of a model that gives logarithms."""
    return nn.functional.nll_loss(logs, y, reduction="sum")


def ensemble(trial: Trial) -> Values:
    """Row ensemble: FGSM on twelve networks together, and on one of them."""
    members, data = trial.members("small"), trial.images()
    whole, in_float32 = Ensemble(members).eval(), Float32Ensemble(members).eval()
    few = data.take(slice(trial.effort.examples))
    under = partial(adversarial_error_rate, whole, data, EPS, bounds=None)
    measured: dict[str, Value] = {
        "whole ensemble attacked": under(),
        "one member attacked": under(source=members[0]),
        f"whole ensemble attacked{FLOAT32}": under(source=in_float32, loss=negative_log),
        f"one member attacked{FLOAT32}": under(source=members[0], loss=float32_cross_entropy),
    }
    return measured | {
        "clean error": error_rate(whole, data),
        "PGD error, whole ensemble attacked": adversarial_error_rate(
            whole,
            few,
            EPS,
            attack=pgd,
            steps=trial.effort.steps,
            generator=torch.Generator().manual_seed(trial.seed),
            bounds=None,
        ),
    }


_ENSEMBLE = by_float32("whole ensemble attacked", "one member attacked")
EXPERIMENTS = (
    Experiment(
        id="generative",
        uses=("generative", "maxout", "detector"),
        runs_pgd=True,
        measure=generative,
        expect=near("generative", clean=0.0112, fgsm=(0.05, 0.025)),
        claims=(
            Claim(
                "a generative model that classifies well falls to FGSM",
                lambda measured: measured["clean error"] < 0.05 and measured["FGSM error"] > 0.5,
            ),
        ),
        procedure="A mixture of subspaces for each class (probabilistic principal components), in "
        "place of the paper's deep Boltzmann machine: its density and gradient are exact, and it "
        "trains in minutes. The detector is a maxout network that tells clean digits from FGSM "
        "examples of the plain network.",
        remark=(
            "Our density is simpler than a deep Boltzmann machine and classifies less well, so "
            "the clean error is higher. That it falls to FGSM is the paper's point, and holds. "
            "The detector catches plain FGSM and falls to the attack that knows it."
        ),
    ),
    Experiment(
        id="ensemble",
        members={"small": MEMBERS},
        runs_pgd=True,
        measure=ensemble,
        expect=near("ensemble", whole=0.1, one=0.1, same_as=_ENSEMBLE),
        same_as=_ENSEMBLE,
        claims=(
            Claim(
                "an ensemble does not resist: attacked whole, it errs on most digits",
                lambda measured: measured[f"whole ensemble attacked{FLOAT32}"] > 0.5,
            ),
            Claim(
                "an attack on one member does less than one on the whole",
                lambda measured: (
                    measured[f"one member attacked{FLOAT32}"]
                    <= measured[f"whole ensemble attacked{FLOAT32}"]
                ),
            ),
        ),
        procedure=f"{number(MEMBERS)} maxout networks of different seeds, smaller than the paper's "
        f"({listed(MODELS['small'].options['hidden'])} units of "
        f"{number(MODELS['small'].options['pieces'])} pieces); the mean of their probabilities. "
        "The float32 cross-entropy takes that mean as most code does, over float32 softmaxes, and "
        "then its logarithm. PGD without restarts.",
        remark=(
            "With the right gradient an attack on one member does nearly as much as one on all. "
            "The float32 cross-entropy weakens both, and the one on the ensemble less: it loses a "
            "digit only where all members are confident. In our networks that makes a difference "
            "like the paper's."
        ),
        seconds=30.0,
    ),
)
