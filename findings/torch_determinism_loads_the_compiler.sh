#!/usr/bin/env bash
# torch 2.14.1 (Python 3.11, Linux): torch.use_deterministic_algorithms loads PyTorch's compiler.
#
# Behaviour: the call looks like a switch. It also copies the choice into the settings of
# torch._inductor, and importing those brings in torch._dynamo and torch._inductor: several hundred
# modules and more than a second, at the first call in a process, even where the value stays as it
# is and nothing is ever compiled. Code that saves the switch and puts it back "to be safe" (seeding
# helpers, test fixtures, graders) pays this once in each process. Reading it is free:
# torch.are_deterministic_algorithms_enabled().
#
# Seen:
#   compiler loaded before the call: False, after it: True
#   modules loaded by the call: more than 300
#   the second call loads: 0
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.14.1" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import torch

assert torch.__version__.startswith("2.14.1"), torch.__version__
assert not torch.are_deterministic_algorithms_enabled()
before, loaded = "torch._dynamo" in sys.modules, len(sys.modules)
started = time.perf_counter()
torch.use_deterministic_algorithms(False)  # as it is already
seconds, more = time.perf_counter() - started, len(sys.modules) - loaded
after, loaded = "torch._dynamo" in sys.modules, len(sys.modules)
torch.use_deterministic_algorithms(False)
again = len(sys.modules) - loaded
print(f"compiler loaded before the call: {before}, after it: {after}")
print(f"modules loaded by the call: {more}, in {seconds:.2f} s")
print(f"the second call loads: {again}")
sys.exit(0 if (before, after, more > 300, again) == (False, True, True, 0) else 1)
PYTHON
