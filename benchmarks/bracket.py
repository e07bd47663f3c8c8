"""Compare `advlearn.evaluate` with the official AutoAttack: `python benchmarks/bracket.py`.

Both attack the same models on the same digits, one after the other, and each is judged alike: which
examples stand at the end, and how much processor time it took. AutoAttack is the package
pyautoattack, its version "standard": APGD on cross-entropy, targeted APGD, targeted FAB and Square.
The models are the reference models; one that rounds its input, through which no gradient passes;
and one that adds noise to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from install import FOLDER
from report import lay_out, publish_part
from run import machine, threads
from torch import Tensor, nn

from advlearn.data import load_mnist, reference
from advlearn.evaluation import Bracket, evaluate
from advlearn.metrics import Rate

PEER = "AutoAttack"
TARGETS = {"standard": 1 / 5, "fast": 1 / 50}
POINT = 0.01
"""By how much "fast" may leave more standing."""


class Rounded(nn.Module):
    """A defence that rounds each pixel to a few levels: its gradient is zero everywhere."""

    def __init__(self, inner: nn.Module, levels: int = 4) -> None:
        super().__init__()
        self.inner, self.levels = inner, levels

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner((x * (self.levels - 1)).round() / (self.levels - 1))
        return logits


class Noisy(nn.Module):
    """A defence that adds noise of its own to each image."""

    def __init__(self, inner: nn.Module, size: float = 0.1) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x + self.size * torch.randn_like(x))
        return logits


MODELS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "plain": (lambda: reference.load("maxout"), 0.1),
    "trained on FGSM": (lambda: reference.load("maxout-adversarial"), 0.1),
    "masked": (lambda: reference.load("maxout-masked"), 0.1),
    "robust": (lambda: reference.load("robust"), 0.3),
    "certified": (lambda: reference.load("certified"), 0.3),
    "ensemble": (lambda: reference.load("ensemble"), 0.1),
    "rounded input": (lambda: Rounded(reference.load("maxout-adversarial")), 0.1),
    "noisy input": (lambda: Noisy(reference.load("maxout-adversarial")), 0.1),
}
"""Name -> how the model is made, and eps."""


@dataclass(frozen=True)
class Settings:
    """How large."""

    digits: int = 1000
    models: tuple[str, ...] = tuple(MODELS)
    budgets: tuple[str, ...] = ("fast", "standard")
    threads: int = 1


QUICK = Settings(digits=6, models=("plain",), budgets=("fast",))  # its numbers mean nothing


def release() -> str | None:
    """Return the peer's version, None where it is not installed."""
    if FOLDER.is_dir() and str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    try:
        return version("pyautoattack")
    except PackageNotFoundError:
        return None


def by_autoattack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Say which examples stand after the official AutoAttack."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(model, eps=eps, version="standard", seed=0)
    _, answers = attack.run_standard_evaluation(x, y, batch_size=1000)
    return torch.as_tensor(answers == y)


def stands(bracket: Bracket) -> Tensor:
    """Say which examples stand."""
    return torch.tensor([word == "" for word in bracket.broken_by])


def measure(settings: Settings) -> dict[str, Any]:
    """Evaluate each model in all ways, and return what `bracket.json` holds."""
    data = load_mnist("test", source="offline").take(slice(settings.digits))
    facts = machine(settings, [])
    facts["releases"][PEER] = found = release()
    rows: dict[str, Any] = {}
    with threads(settings.threads):
        for name in settings.models:
            make, eps = MODELS[name]
            model = make().eval()
            ways: dict[str, Any] = {}
            masks: dict[str, Tensor] = {}
            for budget in settings.budgets:
                bracket = evaluate(model, data, eps, budget=budget)
                masks[budget] = stands(bracket)
                ways[budget] = {
                    "stands": int(masks[budget].sum()),
                    "seconds": bracket.seconds,
                    "passes": asdict(bracket.passes),
                    "certified": None if bracket.certified is None else asdict(bracket.certified),
                }
            if found is not None:
                torch.manual_seed(0)
                started = time.process_time()
                masks[PEER] = by_autoattack(model, data.x, data.y, eps)
                seconds = time.process_time() - started
                ways[PEER] = {"stands": int(masks[PEER].sum()), "seconds": seconds}
            rows[name] = {"eps": eps, "ways": ways} | compared(masks, ways)
            print(f"  {name}: {ways}", flush=True)
    return {"machine": facts, "settings": asdict(settings), "digits": data.n, "models": rows}


def compared(masks: dict[str, Tensor], ways: dict[str, Any]) -> dict[str, Any]:
    """Compare each budget with the peer, example by example."""
    if PEER not in masks:
        return {"compared": {}}
    found = {}
    for budget, mask in masks.items():
        if budget == PEER:
            continue
        ours_alone, theirs_alone = (
            int((~mask & masks[PEER]).sum()),
            int((mask & ~masks[PEER]).sum()),
        )
        # The share of the disagreements in which only the peer breaks the example.
        lost = Rate(theirs_alone, ours_alone + theirs_alone)
        left = theirs_alone - ours_alone
        near = left <= POINT * len(mask) if budget == "fast" else lost.interval[0] <= 0.5
        ratio = ways[budget]["seconds"] / ways[PEER]["seconds"]
        target = TARGETS.get(budget)
        found[budget] = {
            "only ours breaks": ours_alone,
            "only theirs breaks": theirs_alone,
            "equal": left <= 0 or near,
            "ratio": ratio,
            "reached": None if target is None else (left <= 0 or near) and ratio <= target,
        }
    return {"compared": found}


def table(measured: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    head = ["model", "eps", "way", "left standing", "only it breaks", "only AutoAttack breaks"]
    rows = [[*head, "processor time", "ratio", "target"]]
    for name, row in measured["models"].items():
        for way, one in row["ways"].items():
            other = row["compared"].get(way)
            cells = ["", "", "", ""]
            if other:
                word = {True: "reached", False: "not reached", None: ""}[other["reached"]]
                cells = [str(other["only ours breaks"]), str(other["only theirs breaks"])]
                cells += [f"{other['ratio']:.3f}", word]
            share = 100 * one["stands"] / measured["digits"]
            left, seconds = f"{one['stands']:,} ({share:.1f} %)", f"{one['seconds']:.1f} s"
            rows.append(
                [name, f"{row['eps']:g}", way, left, *cells[:2], seconds, *cells[2:]],
            )
    facts = measured["machine"]
    releases = ", ".join(
        f"{name} {number or 'not installed'}" for name, number in facts["releases"].items()
    )
    load = "" if facts["load"] is None else f"load {facts['load']:.1f} at the start, "
    about = (
        f"{measured['digits']:,} offline digits, one after the other on each model. Target of "
        '"standard": of the examples on which the two differ, AutoAttack alone breaks no more than '
        "half, within the 95 % interval, in at most a fifth of its processor time. Target of "
        f'"fast": at most {100 * POINT:g} point more left standing, in a fiftieth. For the model '
        "with noise AutoAttack counts an example that one draw breaks; evaluate asks for most of "
        f"many. {facts['cpu']}, {facts['cores']} cores, threads: "
        f"{measured['settings']['threads']}, {facts['system']}, {load}Python {facts['python']}; "
        f"{releases}."
    )
    if kept := measured.get("kept"):
        about += f" Of an earlier run, before `evaluate` was changed last: {', '.join(kept)}."
    return f"{lay_out(rows)}\n\n{about}"


def beside_earlier(measured: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Put the rows of an earlier run beside those that were measured now, in their usual order.

    Raises:
        ValueError: the earlier run took other digits.
    """
    if earlier["digits"] != measured["digits"]:
        raise ValueError(
            f"bracket.json is of {earlier['digits']} digits, and this run of {measured['digits']}. "
            f"Pass --digits {earlier['digits']}, or leave out --keep."
        )
    both = earlier["models"] | measured["models"]
    kept = [name for name in earlier["models"] if name not in measured["models"]]
    return measured | {"models": {n: both[n] for n in MODELS if n in both}, "kept": kept}


START, END = "<!-- bracket: written by bracket.py -->", "<!-- end of bracket -->"


def publish(measured: dict[str, Any], folder: Path) -> list[Path]:
    """Write bracket.json and the generated part of README.md."""
    return publish_part("bracket", measured, table, (START, END), folder)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description="Compare evaluate with the official AutoAttack.")
    parser.add_argument("--digits", type=int, default=1000)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--quick", action="store_true", help="a few digits; writes nothing")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="write a part: the rows of the other models stay, and the page says so",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="the folder to write to; benchmarks/ if full")
    given = parser.parse_args(arguments)
    full = Settings(digits=given.digits, models=tuple(given.models), threads=given.threads)
    measured = measure(replace(QUICK, threads=given.threads) if given.quick else full)
    folder = given.output or Path(__file__).resolve().parent
    if given.keep:
        measured = beside_earlier(measured, json.loads((folder / "bracket.json").read_text()))
    print()
    print(table(measured))
    whole = not given.quick and full == Settings(threads=given.threads)
    if given.output or given.keep or whole:
        for path in publish(measured, folder):
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
