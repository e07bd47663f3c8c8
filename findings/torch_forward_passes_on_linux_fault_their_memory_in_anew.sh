#!/usr/bin/env bash
# torch 2.14.1 (Python 3.11, Linux with glibc 2.36, CPU): a convolutional network's forward pass gets
# its memory from the kernel anew each time.
#
# Behaviour: PyTorch keeps no pool of CPU memory, as it does on a GPU. The activations of a batch are
# allocated and freed by glibc, which gives what is large back to the kernel at once. The next pass
# touches fresh pages, and each of them is a fault that clears 4 kB. A small network on 400 digits
# faults tens of thousands of pages in each pass, the second as the first. With the two thresholds of
# glibc's malloc raised by environment variables, it faults next to none from the second pass on, and
# takes little more than half of the processor time. So a benchmark of attacks on a CPU also
# measures the allocator, and the largest batch is not the fastest.
#
# Seen (pages faulted in by the last of four passes; processor time 0.106 in place of 0.186 s):
#   as it comes: more than 20,000 pages
#   with MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ raised: fewer than 2,000 pages
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.14.1" "numpy==2.4.6"
cat > "$folder/passes.py" <<'PYTHON'
import resource
import time

import torch
from torch import nn

torch.set_num_threads(1)
net = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(64 * 49, 10),
).eval()
digits = torch.rand(400, 1, 28, 28)
with torch.no_grad():
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        started = time.process_time()
        net(digits)
        seconds = time.process_time() - started
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults, f"{seconds:.3f}")
PYTHON
read -r plain plain_seconds < <("$folder/venv/bin/python" "$folder/passes.py")
read -r kept kept_seconds < <(
  MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=1073741824 \
    "$folder/venv/bin/python" "$folder/passes.py"
)
echo "as it comes: $plain pages, $plain_seconds s"
echo "with both thresholds raised: $kept pages, $kept_seconds s"
[ "$plain" -gt 20000 ] && [ "$kept" -lt 2000 ]
