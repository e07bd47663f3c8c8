"""What `Recipe(precision="fast")` costs on this processor: `python benchmarks/precision.py`.

Three ways in turns, from the same weights, on the same batches: "exact" (float32), "fast" (what
this library does), and PyTorch's autocast to bfloat16 alone. Where the processor has hardware for
bfloat16, the last two are the same. What counts is processor time, as a multiple of that of
"exact".
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from report import lay_out, publish_part
from run import machine, quartiles, threads
from torch import nn

from advlearn import _bfloat16
from advlearn.context import precision
from advlearn.models import MaxoutNet

WAYS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "exact": partial(precision, "exact"),
    "fast": partial(precision, "fast"),
    "autocast alone": partial(torch.autocast, "cpu", dtype=torch.bfloat16),
}


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "maxout, 240 + 240 units of 5 pieces": (MaxoutNet, 100),
    "two convolutions, 32 + 64 channels of 5 x 5": (convolutions, 250),
}
"""Name -> how it is made, and the examples of a batch."""


def seconds(make: Callable[[], nn.Module], batch: int, steps: int, way: str, seed: int) -> float:
    """Return the processor time of a training step."""
    torch.manual_seed(seed)
    model = make()
    x, y = torch.rand(batch, 1, 28, 28), torch.randint(10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    start = 0.0
    for step in range(-1, steps):  # the first step warms up
        if step == 0:
            start = time.process_time()
        with WAYS[way]():
            loss = nn.functional.cross_entropy(model(x).float(), y)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    return (time.process_time() - start) / steps


def measure(rounds: int, steps: int, count: int) -> dict[str, Any]:
    """Time every model in every way, in turns."""
    facts = machine(SimpleNamespace(threads=count), [])
    facts["bfloat16 in hardware"] = _bfloat16.in_hardware()
    taken: dict[str, dict[str, list[float]]] = {}
    with threads(count):
        for name, (make, batch) in MODELS.items():
            taken[name] = {way: [] for way in WAYS}
            for seed in range(rounds):
                for way in WAYS:
                    taken[name][way].append(seconds(make, batch, steps, way, seed))
    return {"machine": facts, "rounds": rounds, "steps": steps, "seconds": taken}


def table(measured: dict[str, Any]) -> str:
    """Return the table for README.md."""
    facts, rows = measured["machine"], [["network", *WAYS]]
    for name, taken in measured["seconds"].items():
        cells = [f"{1e3 * quartiles(taken['exact'])[1]:.1f} ms"]
        for way in list(WAYS)[1:]:
            low, middle, high = quartiles(
                [a / b for a, b in zip(taken[way], taken["exact"], strict=True)]
            )
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        rows.append([name, *cells])
    has = {True: "has", False: "has no", None: "may have"}[facts["bfloat16 in hardware"]]
    load = "" if facts["load"] is None else f", load {facts['load']:.1f} at the start"
    return "\n\n".join(
        [
            lay_out(rows),
            f'Processor time of a training step: of "exact", and the others\' divided by it '
            f"(medians and quartiles of {measured['rounds']} rounds). The processor {has} hardware "
            f"for bfloat16. {facts['cpu']}, threads: {facts['threads']}{load}, "
            f"PyTorch {facts['releases']['torch']}.",
        ]
    )


START, END = "<!-- precision: written by precision.py -->", "<!-- end of precision -->"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="of training, in each round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a trial; writes nothing")
    given = parser.parse_args()
    rounds, steps = (2, 2) if given.quick else (given.rounds, given.steps)
    measured = measure(rounds, steps, given.threads)
    print(table(measured))
    if not given.quick:
        folder = Path(__file__).resolve().parent
        for path in publish_part("precision", measured, table, (START, END), folder):
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
