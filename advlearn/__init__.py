"""advlearn: the library behind a hands-on course on adversarial examples.

The modules beside this file are the library: attacks, losses, models, metrics, training. `data`
loads images and models, `course` is what the lessons are made of, `exercises` the learner's way to
the exercises, `reproduce` the paper's experiments, `arena` the contest, `cli` the command line.

The attacks, and `evaluate`, can be had from here. They, and PyTorch with them, are loaded at the
first use, so that `advlearn doctor` can report a PyTorch that does not load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advlearn.attacks import (
        Bounds,
        fgsm,
        input_gradient,
        linear_step,
        noise,
        pgd,
        rotate,
        square,
    )
    from advlearn.evaluation import Bracket, evaluate

__version__ = "0.1.0"

__all__ = [
    "Bounds",
    "Bracket",
    "__version__",
    "evaluate",
    "fgsm",
    "input_gradient",
    "linear_step",
    "noise",
    "pgd",
    "rotate",
    "square",
]


def __getattr__(name: str) -> object:
    """Load the attacks, or the evaluation, when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'advlearn' has no attribute {name!r}")
    from advlearn import attacks, evaluation

    return getattr(evaluation if name in ("Bracket", "evaluate") else attacks, name)


def __dir__() -> list[str]:
    return sorted(__all__)
