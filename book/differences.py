"""What the same call does here and in other libraries, measured: differences.json for the book.

The book's page "Your own model in short" shows two tables of this file. The first holds calls: each
text is run as it stands, and its images are compared with ours. The second holds what happens
besides: to images outside [0, 1], to the random state, to the model. No cell is typed: each is made
from what a call did on this machine.

    python benchmarks/install.py    # the peers, into .venv-bench
    python book/differences.py      # some minutes; prints both tables and writes differences.json
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from repository import ROOT
from torch import Tensor, nn

from advlearn._atomic import write_atomically

FILE = Path(__file__).with_name("differences.json")
NAMES = ("advlearn", "torchattacks", "foolbox", "ART", "cleverhans")
DISTRIBUTIONS = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "ART": "adversarial-robustness-toolbox",
    "cleverhans": "cleverhans",
}

# The calls as a page shows them: run as they stand, with `model`, `x`, `y` given, `adv` taken.
IMPORTS = {
    "advlearn": "from advlearn import fgsm, pgd",
    "torchattacks": "import torchattacks",
    "foolbox": "import foolbox",
    "ART": (
        "from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent\n"
        "from art.estimators.classification import PyTorchClassifier"
    ),
    "cleverhans": (
        "from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method\n"
        "from cleverhans.torch.attacks.projected_gradient_descent import "
        "projected_gradient_descent"
    ),
}
_FOOLBOX = "wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))\n"
_ART = (
    "wrapped = PyTorchClassifier(model, loss=nn.CrossEntropyLoss(), input_shape=x.shape[1:],\n"
    "                            nb_classes=classes, clip_values=(0, 1), device_type='cpu')\n"
)
_CLIP = "clip_min=0, clip_max=1, y=y"
CALLS = {
    "FGSM": {
        "advlearn": "adv = fgsm(model, x, y, 8 / 255)",
        "torchattacks": "adv = torchattacks.FGSM(model, eps=8 / 255)(x, y)",
        "foolbox": (
            f"{_FOOLBOX}attack = foolbox.attacks.LinfFastGradientAttack()\n"
            "_, adv, _ = attack(wrapped, x, y, epsilons=8 / 255)"
        ),
        "ART": (
            f"{_ART}attack = FastGradientMethod(wrapped, eps=8 / 255)\n"
            "adv = attack.generate(x.numpy(), y.numpy())"
        ),
        "cleverhans": f"adv = fast_gradient_method(model, x, 8 / 255, np.inf, {_CLIP})",
    },
    "PGD, 10 steps": {
        "advlearn": "adv = pgd(model, x, y, 8 / 255, steps=10, step_size=2 / 255)",
        "torchattacks": (
            "adv = torchattacks.PGD(model, eps=8 / 255, alpha=2 / 255, steps=10)(x, y)"
        ),
        "foolbox": (
            f"{_FOOLBOX}attack = foolbox.attacks.LinfPGD(abs_stepsize=2 / 255, steps=10)\n"
            "_, adv, _ = attack(wrapped, x, y, epsilons=8 / 255)"
        ),
        "ART": (
            f"{_ART}attack = ProjectedGradientDescent(wrapped, eps=8 / 255, eps_step=2 / 255,\n"
            "                                  max_iter=10, num_random_init=1, verbose=False)\n"
            "adv = attack.generate(x.numpy(), y.numpy())"
        ),
        "cleverhans": (
            "adv = projected_gradient_descent(model, x, 8 / 255, 2 / 255, 10, np.inf,\n"
            f"                                 {_CLIP})"
        ),
    },
}
# What is only there in some of the libraries.
OTHERS = {
    "torchattacks": {
        "APGD": "adv = torchattacks.APGD(model, eps=8 / 255, steps=10)(x, y)",
        "Square": "adv = torchattacks.Square(model, eps=8 / 255, n_queries=10)(x, y)",
        "AutoAttack": (
            "attack = torchattacks.AutoAttack(model, eps=8 / 255, n_classes=classes)\n"
            "adv = attack(x, y)"
        ),
    },
    "ART": {
        "AutoAttack": (
            f"{_ART}attack = AutoAttack(wrapped, eps=8 / 255, eps_step=2 / 255)\n"
            "adv = attack.generate(x.numpy(), y.numpy())"
        )
    },
}
OTHER_IMPORTS = {"ART": "from art.attacks.evasion import AutoAttack"}


class Net(nn.Module):
    """A small convolutional network with batch statistics and dropout."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.top = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.5))
        self.last = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.last(self.top(self.features(x)))  # type: ignore[no-any-return]


def make(classes: int = 10, scale: float = 1.0) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a model in eval mode, images in [0, 1], and the classes that it gives."""
    torch.manual_seed(1)
    model = Net(classes)
    with torch.no_grad():
        model(torch.rand(64, 3, 16, 16))  # batch statistics of its own
        model.last.weight *= scale
    model.eval()
    x = torch.rand(16, 3, 16, 16)
    with torch.no_grad():
        y = model(x).argmax(1)
    return model, x, y


@contextmanager
def quiet() -> Iterator[None]:
    """Let no library print or warn."""
    nowhere = io.StringIO()
    with redirect_stdout(nowhere), redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def craft(name: str, call: str, given: tuple[nn.Module, Tensor, Tensor], classes: int = 10) -> Any:
    """Run a call of a library as it stands and return what it calls `adv`."""
    space = prepared(name, given, classes)
    with quiet():
        exec(call, space)
    return space["adv"]


def prepared(name: str, given: tuple[nn.Module, Tensor, Tensor], classes: int = 10) -> Any:
    """Return the names that a library's calls need."""
    space = dict(zip(("model", "x", "y"), given, strict=True))
    space |= {"classes": classes, "nn": nn, "np": np, "torch": torch}
    with quiet():
        exec(IMPORTS[name] + "\n" + OTHER_IMPORTS.get(name, ""), space)
    return space


def images(adv: Any) -> Tensor:
    """Return what a library gave as a tensor."""
    return torch.as_tensor(adv).detach()


def attempt(name: str, call: str, *given: Any, classes: int = 10) -> tuple[Any, str]:
    """Return what a call gave and "", or None and how it failed."""
    try:
        return craft(name, call, given, classes), ""
    except Exception as error:
        words = " ".join(str(error).split()).split(". ")[0].rstrip(".")
        kind = type(error).__name__
        return None, f"raises {kind}: “{words:.90}”" if words else f"raises an empty {kind}"


# --- What is measured -----------------------------------------------------------------------------


def same_images(name: str, calls: dict[str, str]) -> str:
    """Run a call, and say how many pixels are those of our attack, and how far they move."""
    model, x, y = make()
    adv, failed = attempt(name, calls[name], model, x, y)
    if failed:
        return failed
    ours = images(craft("advlearn", calls["advlearn"], make()))
    equal = float((images(adv) - ours).abs().lt(1e-6).double().mean())
    far = float((images(adv) - x).abs().max())
    return f"{100 * equal:.2f} % of the pixels as ours; largest change {255 * far:.2f}/255"


def outside(name: str) -> str:
    """FGSM on images in [-0.5, 1.5], at eps 0 and at 8/255."""
    model, x, y = make()
    wide = 2 * x - 0.5
    call = CALLS["FGSM"][name]
    adv, failed = attempt(name, call.replace("8 / 255", "0.0"), model, wide, y)
    if failed:
        return failed
    change = float((images(adv) - wide).abs().max())
    said = "taken as they are" if change < 1e-6 else f"changed by up to {change:.2f} at eps 0"
    adv, failed = attempt(name, call, model, wide, y)
    if failed:
        return f"{said}; at eps 8/255 {failed}"
    low, high = (float(end) for end in torch.aminmax(images(adv)))
    return f"{said}, without a word; at eps 8/255 the result is in [{low:.2f}, {high:.2f}]"


def outside_optimised(name: str) -> str:
    """The same with Python's option -O, which removes assertions."""
    command = [sys.executable, "-O", __file__, "--one", "outside", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or f"fails: {done.stderr.strip()[-70:]}"


def _random_state(name: str, call: str) -> str:
    ends, seeds = [], []
    seed_as = torch.manual_seed
    for seed in (3, 4):
        model, x, y = make()
        seed_as(seed)
        before = torch.get_rng_state()
        with mock.patch("torch.manual_seed") as one, mock.patch("torch.random.manual_seed") as two:
            one.side_effect = two.side_effect = lambda value: seeds.append(value) or seed_as(value)
            _, failed = attempt(name, call, model, x, y)
        if failed:
            return failed
        ends.append((before, torch.get_rng_state()))
    if all(before.equal(after) for before, after in ends):
        return "left alone"
    if ends[0][1].equal(ends[1][1]):
        with_ = f"seeded with {seeds[-1]}" if seeds else "set to one state"
        return f"{with_}, whatever it was"
    return "advanced by its draws"


def random_state(name: str) -> str:
    """PyTorch's global random state after each attack."""
    calls = {kind: texts[name] for kind, texts in CALLS.items()}
    calls |= {k: v for k, v in OTHERS.get(name, {}).items() if k != "AutoAttack"}
    found = {kind: _random_state(name, call) for kind, call in calls.items()}
    groups = {said: [k for k in found if found[k] == said] for said in found.values()}
    return "; ".join(f"{', '.join(kinds)}: {said}" for said, kinds in groups.items())


def frozen_norm(name: str) -> str:
    """A model in training whose BatchNorm is frozen: afterwards, and its statistics."""
    model, x, y = make()
    model.train()
    norm = model.get_submodule("features.1")
    norm.eval()
    before = norm.get_buffer("running_mean").clone()
    _, failed = attempt(name, CALLS["PGD, 10 steps"][name], model, x, y)
    if failed:
        return failed
    moved = not norm.get_buffer("running_mean").equal(before)
    said = "thawed" if norm.training else "stays frozen"
    return said + (", and its statistics have moved" if moved else "")


def mode_afterwards(name: str) -> str:
    """The mode of a model handed over in training and in evaluation."""
    found = {}
    for training in (True, False):
        model, x, y = make()
        model.train(training)
        _, failed = attempt(name, CALLS["PGD, 10 steps"][name], model, x, y)
        if failed:
            return failed
        found[training] = model.training
    if found == {True: True, False: False}:
        return "as handed over"
    words = {True: "training", False: "evaluation"}
    return "; ".join(f"{words[was]} → {words[now]}" for was, now in found.items())


def attacked_mode(name: str) -> str:
    """Whether dropout is at work during the attack on a model in training."""
    model, x, y = make()
    seen = []
    model.train()
    model.get_submodule("top.2").register_forward_hook(lambda m, *_: seen.append(m.training))
    _, failed = attempt(name, CALLS["PGD, 10 steps"][name], model, x, y)
    if failed:
        return failed
    return "on" if all(seen) else "on in some passes" if any(seen) else "off"


def gradients(name: str) -> str:
    """The `.grad` of the parameters, and their requires_grad, afterwards."""
    model, x, y = make()
    model.last.weight.requires_grad_(False)  # type: ignore[union-attr]
    before = [p.requires_grad for p in model.parameters()]
    _, failed = attempt(name, CALLS["FGSM"][name], model, x, y)
    if failed:
        return failed
    filled = sum(p.grad is not None for p in model.parameters())
    said = "none" if not filled else f"{filled} of {len(before)} parameters have one"
    if [p.requires_grad for p in model.parameters()] != before:
        said += "; requires_grad of parameters is changed"
    return said


def double(name: str) -> str:
    """A float64 model and float64 images."""
    found = {}
    calls = {kind: texts[name] for kind, texts in CALLS.items()}
    calls |= {k: v for k, v in OTHERS.get(name, {}).items() if k == "AutoAttack"}
    for kind, call in calls.items():
        model, x, y = make()
        adv, failed = attempt(name, call, model.double(), x.double(), y)
        found[kind] = failed or f"gives {str(images(adv).dtype).removeprefix('torch.')}"
    groups = {said: [k for k in found if found[k] == said] for said in found.values()}
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{', '.join(kinds)}: {said}" for said, kinds in groups.items())


def few_classes(name: str) -> str:
    """AutoAttack on two and on three classes, where no example survives and where some do."""
    call = OTHERS.get(name, {}).get("AutoAttack")
    if call is None:
        return "has no AutoAttack"
    found = []
    for classes in (2, 3):
        said = {}
        for survive, scale in ((False, 1.0), (True, 0.0)):
            model, x, y = make(classes, scale)
            if survive:  # every image is class 0 for good
                y = torch.zeros_like(y)
                with torch.no_grad():
                    model.last.bias.copy_(10.0 * torch.eye(classes)[0])  # type: ignore[union-attr]
            else:  # wrong from the start
                y = (y + 1) % classes
            _, failed = attempt(name, call, model, x, y, classes=classes)
            said[survive] = failed or "runs"
        found.append(
            f"{classes} classes: {said[True]}"
            if said[True] == said[False]
            else f"{classes} classes: {said[True]} if an example survives, else {said[False]}"
        )
    return "; ".join(found)


def auto_attack(name: str) -> str:
    """What the name AutoAttack runs."""
    call = OTHERS.get(name, {}).get("AutoAttack")
    if call is None:
        return "has none"
    space = prepared(name, make())
    with quiet():
        exec(call.rsplit("\n", 1)[0], space)
    attack: Any = space["attack"]
    inner = getattr(attack, "_autoattack", attack)
    parts = inner.attacks
    said = []
    for part in parts:
        loss = getattr(part, "loss", None) or getattr(part, "loss_type", None)
        text = type(part).__name__ + (f" ({loss})" if isinstance(loss, str) else "")
        said.append(text)
    return ", ".join(said)


def caller(name: str) -> str:
    """What the caller's own tensors look like afterwards."""
    model, x, y = make()
    kept = x.clone()
    adv, failed = attempt(name, CALLS["FGSM"][name], model, x, y)
    if failed:
        return failed
    said = [f"gives a {'tensor' if isinstance(adv, Tensor) else 'NumPy array'}"]
    if isinstance(adv, Tensor) and adv.requires_grad:
        said.append("inside a graph")
    if x.requires_grad:
        said.append("x requires gradients now")
    if not x.equal(kept):
        said.append("x is changed")
    return ", ".join(said)


ROWS: dict[str, tuple[str, Callable[[str], str]]] = {
    "outside": ("images outside [0, 1]", outside),
    "optimised": ("the same under `python -O`", outside_optimised),
    "state": ("the global random state afterwards", random_state),
    "norm": ("a frozen BatchNorm in a model in training", frozen_norm),
    "dropout": ("dropout during the attack, model in training", attacked_mode),
    "mode": ("the model's mode afterwards", mode_afterwards),
    "grad": ("`.grad` of the parameters afterwards", gradients),
    "caller": ("what comes back", caller),
    "double": ("float64 model and images", double),
    "classes": ("AutoAttack on two and three classes", few_classes),
    "auto": ("what AutoAttack runs", auto_attack),
}


def measure(names: list[str]) -> dict[str, Any]:
    """Run everything and return it as differences.json holds it."""
    releases = {"advlearn": version("advlearn")}
    releases |= {name: version(DISTRIBUTIONS[name]) for name in names if name in DISTRIBUTIONS}
    calls = [
        {
            "attack": kind,
            "library": name,
            "imports": IMPORTS[name],
            "call": texts[name],
            "result": same_images(name, texts),
        }
        for kind, texts in CALLS.items()
        for name in names
    ]
    rows = [
        {"what": what, "cells": {name: probe(name) for name in names}}
        for what, probe in ROWS.values()
    ]
    return {
        "releases": releases | {"PyTorch": torch.__version__, "Python": platform.python_version()},
        "calls": calls,
        "differences": rows,
    }


# --- The page -------------------------------------------------------------------------------------


def calls_table(found: dict[str, Any]) -> str:
    """Return the calls, one block of code for each library, as Markdown."""
    parts = []
    for name in dict.fromkeys(call["library"] for call in found["calls"]):
        own = [call for call in found["calls"] if call["library"] == name]
        code = "\n".join([own[0]["imports"], "", *(f"{c['call']}  # {c['attack']}" for c in own)])
        results = "; ".join(f"{call['attack']}: {call['result']}" for call in own)
        heading = f"**{name} {found['releases'][name]}**"
        parts.append(f"{heading}\n\n```python\n{code}\n```\n\n{results}.")
    return "\n\n".join(parts)


def differences_table(found: dict[str, Any]) -> str:
    """Return the differences, one row for each matter, as Markdown."""
    names = list(found["differences"][0]["cells"])
    head = [f"{name} {found['releases'][name]}" for name in names]
    lines = ["| what | " + " | ".join(head) + " |", "|---" * (len(names) + 1) + "|"]
    for row in found["differences"]:
        cells = [row["cells"][name].replace("|", "&#124;") for name in names]
        lines.append(f"| {row['what']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read() -> dict[str, Any]:
    """Return what was measured and published."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def main(arguments: list[str]) -> None:
    """Measure, print, and write differences.json; or run one probe and print its cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", type=Path, default=ROOT / ".venv-bench", help="where install.py put them"
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), help="measure these rows again")
    parser.add_argument("--one", nargs=2, metavar=("PROBE", "LIBRARY"), help="print one cell")
    options = parser.parse_args(arguments)
    folder = Path(os.environ.setdefault("ADVLEARN_PEERS", str(options.peers)))
    sys.path.append(str(folder))  # at the end: the course's own packages come first
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # foolbox imports GitPython
    torch.set_num_threads(1)
    if options.one:
        print(ROWS[options.one[0]][1](options.one[1]))
        return
    names = ["advlearn"]
    for name in NAMES[1:]:
        _, failed = attempt(name, CALLS["FGSM"][name], *make())
        if failed:
            print(f"{name}: does not run here ({failed})", flush=True)
        else:
            names.append(name)
    found = measure(names) if not options.rows else read()
    for row in options.rows or ():
        what, probe = ROWS[row]
        place = next(each for each in found["differences"] if each["what"] == what)
        place["cells"] = {name: probe(name) for name in names}
    print(calls_table(found), differences_table(found), sep="\n\n")
    if len(names) < len(NAMES):
        print(f"\n{FILE.name} is not written: it holds all of {', '.join(NAMES)}.")
        return
    write_atomically(FILE, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
