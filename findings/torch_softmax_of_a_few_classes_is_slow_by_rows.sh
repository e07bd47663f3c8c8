#!/usr/bin/env bash
# torch 2.14.1 (Python 3.11, Linux, CPU): softmax over a last dimension of few classes takes several
# times as long as over the first dimension of the transposed table.
#
# Behaviour: logits are (N, K), and everybody writes softmax(dim=1). The kernel for a last dimension
# that is contiguous fills its vector registers along that dimension. With fewer classes than a
# register has lanes it works number by number: K below 8 with AVX2, below 16 with AVX-512, so for two
# or three classes everywhere, and for the ten digits on a recent server. logits.t().softmax(0).t()
# gives the same numbers to the last digits and took an eighth of the time here, the transposition
# included (also log_softmax). The price: it works on several examples at once, so the last bit of an
# example can depend on how many others are in the batch, which softmax(dim=1) avoids.
#
# Seen (10,000 examples, one thread; the ratio was 7 to 9 with three classes):
#   three classes: by rows takes more than 3 times as long as by columns
#   largest difference: below 1e-6
#   an example's last bit depends on the batch, by rows: False, by columns: True
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.14.1" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import statistics
import sys
import time

import torch

torch.set_num_threads(1)
torch.manual_seed(0)


def rows(logits):
    return logits.softmax(1)


def columns(logits):
    return logits.t().softmax(0).t()


def ratio(classes):
    """Return the median of rows' time in columns' time, in turns."""
    logits, ratios = 5 * torch.randn(10_000, classes), []
    for _ in range(60):
        spent = []
        for way in (rows, columns):
            started = time.perf_counter()
            way(logits)
            spent.append(time.perf_counter() - started)
        ratios.append(spent[0] / spent[1])
    return statistics.median(ratios)


def depends_on_the_batch(way, logits):
    whole = way(logits)
    return any(not torch.equal(way(logits[:n]), whole[:n]) for n in range(1, len(logits)))


three, logits = ratio(3), 5 * torch.randn(257, 10)
gap = float((rows(logits) - columns(logits)).abs().max())
found = [depends_on_the_batch(way, logits) for way in (rows, columns)]
print(f"three classes: by rows takes {three:.1f} times as long as by columns")
print(f"ten classes: {ratio(10):.1f} times; largest difference: {gap:.1e}")
print(f"an example's last bit depends on the batch, by rows: {found[0]}, by columns: {found[1]}")
sys.exit(0 if three > 3 and gap < 1e-6 and found == [False, True] else 1)
PYTHON
