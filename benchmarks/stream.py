"""Stream a million images through the metrics: `python benchmarks/stream.py`.

The images come from a generator, so nothing holds them: what the process needs beyond PyTorch is
a few batches. All of them together would be 3.1 GB. The script prints the errors, the time, and the
peak memory of its process, and fails if that reached the limit.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from advlearn.attacks import pgd
from advlearn.metrics import adversarial_error_rate, error_rate
from advlearn.models import SoftmaxRegression


def images(count: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Give `count` grey images (28, 28) of ten classes: noise, and a brighter stripe for each."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        x = torch.rand(size, 1, 28, 28, generator=generator)
        y = torch.randint(10, (size,), generator=generator)
        rows = torch.arange(28).div(2, rounding_mode="floor")  # two rows for each class
        x[(rows == y[:, None])[:, None, :, None].expand_as(x)] *= 1.5
        yield x.clamp_(0, 1), y


def linear_model() -> SoftmaxRegression:
    """Return a linear model that knows where the stripes are."""
    model = SoftmaxRegression()
    with torch.no_grad():
        weight = model.linear.weight.view(10, 28, 28)
        for label in range(10):
            weight[label, 2 * label : 2 * label + 2] = 0.2
    return model


def peak_memory() -> float:
    """Return the largest memory that this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose getrusage counts what the parent had too
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Measure, print, and fail if it took more memory than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="images")
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10, help="of PGD")
    parser.add_argument("--limit", type=float, default=1000, help="of memory, in MB")
    options = parser.parse_args()
    model, before = linear_model(), peak_memory()
    print(f"{'':24}{'error':28}{'seconds':>8}{'peak MB':>9}")
    print(f"{'PyTorch, a model':60}{before:9.0f}")
    started = time.perf_counter()
    clean = error_rate(model, images(options.count, options.batch_size))
    seconds = time.perf_counter() - started
    print(f"{'error_rate':24}{clean!s:28}{seconds:8.0f}{peak_memory():9.0f}", flush=True)
    started = time.perf_counter()
    attacked = adversarial_error_rate(
        model,
        images(options.count, options.batch_size),
        0.02,
        attack=pgd,
        steps=options.steps,
        generator=torch.Generator().manual_seed(0),
    )
    seconds = time.perf_counter() - started
    name = f"PGD, {options.steps} steps"
    print(f"{name:24}{attacked!s:28}{seconds:8.0f}{peak_memory():9.0f}")
    if clean.total != options.count or attacked.total != options.count:
        sys.exit("some images were not counted")
    if peak_memory() > options.limit:
        sys.exit(f"peak memory {peak_memory():.0f} MB is over the limit of {options.limit:g} MB")


if __name__ == "__main__":
    main()
