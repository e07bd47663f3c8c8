#!/usr/bin/env bash
# pytest 9.2.0 with pytest-xdist 3.8.0 (Python 3.11): `--dist=loadgroup` groups nothing, in silence.
#
# Behaviour: pytest-xdist marks the group of a test by adding "@group" to the private `_nodeid` of
# the item, and its scheduler reads the group from the id that workers report. In this version of
# pytest the id that is reported no longer follows `_nodeid`, so every test is a group of its own.
# Tests that share an expensive fixture, or must not run at the same time, are spread over the
# workers as if there were no mark. Nothing is said; the suite only becomes slower, or flaky. With
# pytest 8.4.2 the same tests stay together.
#
# Seen (six tests of two groups, two workers):
#   pytest 8.4.2: workers of each group: 1, 1
#   pytest 9.2.0: workers of each group: 2, 2
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/test_groups.py" <<'PYTHON'
import os
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(
    "group", [pytest.param(g, marks=pytest.mark.xdist_group(g)) for g in ("first", "second")]
)
def test_one(group, number):
    time.sleep(0.2)
    with Path(os.environ["SEEN"]).open("a") as seen:
        seen.write(f"{group} {os.environ['PYTEST_XDIST_WORKER']}\n")
PYTHON
try() {
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pytest==$1" "pytest-xdist==3.8.0"
  rm -f "$folder/seen"
  (cd "$folder" && SEEN="$folder/seen" "$folder/venv/bin/python" -m pytest -q -n2 --dist=loadgroup \
    -p no:cacheprovider test_groups.py > /dev/null)
  workers=$(for group in first second; do sort -u "$folder/seen" | grep -c "^$group "; done | xargs)
  echo "pytest $1: workers of each group: $workers"
  [ "$workers" = "$2" ]
}
try 8.4.2 "1 1"
try 9.2.0 "2 2"
