"""The same FGSM, and the same PGD, from each library, behind one interface.

A peer is prepared once for a model, a batch and an eps, and then called many times: what a library
does in its constructor, or to bring the batch into the form it wants, is not timed.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advlearn.attacks import fgsm

Craft = Callable[[], Any]
"""One attack, ready to run; gives the adversarial images as a tensor or as a NumPy array."""


@dataclass(frozen=True)
class Peer:
    """A library, its release (None when it is not installed), and how to prepare its attack."""

    name: str
    release: str | None
    prepare: Callable[[nn.Module, Tensor, Tensor, float], Craft]


def advlearn_fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    return lambda: fgsm(model, x, y, eps)


def torchattacks_fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    from torchattacks import FGSM

    attack = FGSM(model, eps=eps)
    return lambda: attack(x, y)


def foolbox_fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfFastGradientAttack
    from foolbox.criteria import Misclassification

    wrapped = PyTorchModel(model, bounds=(0, 1))
    attack, criterion = LinfFastGradientAttack(), Misclassification(y)
    # `run` only crafts; calling the attack would also measure its success, with one more pass.
    return lambda: attack.run(wrapped, x, criterion, epsilon=eps)


def art_fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    from art.attacks.evasion import FastGradientMethod

    wrapped, images, labels = _art(model, x, y)
    attack = FastGradientMethod(wrapped, eps=eps, batch_size=len(x))
    return lambda: attack.generate(images, labels)


def _art(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Any, Any, Any]:
    """Return a model, images and labels in the form that ART takes."""
    from art.estimators.classification import PyTorchClassifier

    classes = model(x[:1]).shape[1]
    wrapped = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    return wrapped, x.numpy(), nn.functional.one_hot(y, classes).numpy()


def cleverhans_fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method

    return lambda: fast_gradient_method(
        model, x, eps, float("inf"), clip_min=0.0, clip_max=1.0, y=y
    )


STEPS = 40


def _stride(eps: float) -> float:
    """Return the step size of our `pgd`, which every library is told."""
    return 2.5 * eps / STEPS


def torchattacks_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    from torchattacks import PGD

    attack = PGD(model, eps=eps, alpha=_stride(eps), steps=STEPS)
    return lambda: attack(x, y)


def foolbox_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfPGD
    from foolbox.criteria import Misclassification

    wrapped = PyTorchModel(model, bounds=(0, 1))
    attack = LinfPGD(abs_stepsize=_stride(eps), steps=STEPS)
    return lambda: attack.run(wrapped, x, Misclassification(y), epsilon=eps)


def art_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    from art.attacks.evasion import ProjectedGradientDescent

    wrapped, images, labels = _art(model, x, y)
    attack = ProjectedGradientDescent(
        wrapped,
        eps=eps,
        eps_step=_stride(eps),
        max_iter=STEPS,
        num_random_init=1,
        batch_size=len(x),
        verbose=False,
    )
    return lambda: attack.generate(images, labels)


def cleverhans_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent

    return lambda: projected_gradient_descent(
        model,
        x,
        eps,
        _stride(eps),
        STEPS,
        float("inf"),
        clip_min=0.0,
        clip_max=1.0,
        y=y,
        rand_minmax=eps,
        sanity_checks=False,
    )


def adv_lib_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Craft:
    # It imports a logger that draws by visdom, which no attack calls unless it is handed one.
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))
    from adv_lib.attacks import pgd_linf

    return lambda: pgd_linf(model, x, y, eps, steps=STEPS, absolute_step_size=_stride(eps))


Preparations = Mapping[str, tuple[str, Callable[[nn.Module, Tensor, Tensor, float], Craft]]]

_PGD: Preparations = {
    "torchattacks": ("torchattacks", torchattacks_pgd),
    "foolbox": ("foolbox", foolbox_pgd),
    "ART": ("adversarial-robustness-toolbox", art_pgd),
    "cleverhans": ("cleverhans", cleverhans_pgd),
    "adv-lib": ("adv-lib", adv_lib_pgd),
}
_PEERS: Preparations = {
    "torchattacks": ("torchattacks", torchattacks_fgsm),
    "foolbox": ("foolbox", foolbox_fgsm),
    "ART": ("adversarial-robustness-toolbox", art_fgsm),
    "cleverhans": ("cleverhans", cleverhans_fgsm),
}


def find_pgd_peers(folder: Path) -> list[Peer]:
    """Return every peer with its PGD; those that cannot be imported have no release."""
    return find_peers(folder, _PGD)


def find_peers(folder: Path, preparations: Preparations | None = None) -> list[Peer]:
    """Return every peer, with its FGSM; those that cannot be imported have no release."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end: the course's own packages come first
        importlib.invalidate_caches()
    # foolbox imports GitPython, which would fail on a machine without git.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    x = torch.full((1, 1, 2, 2), 0.5)
    peers = []
    for name, (distribution, prepare) in (preparations or _PEERS).items():
        release = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                prepare(model, x, torch.tensor([0]), 0.1)()
            release = version(distribution)
        except ModuleNotFoundError as error:
            print(f"{name}: not installed ({error})", flush=True)
        except Exception as error:  # a peer that fails on this machine must not stop the benchmark
            print(f"{name}: does not run here ({type(error).__name__}: {error})", flush=True)
        peers.append(Peer(name, release, prepare))
    return peers
