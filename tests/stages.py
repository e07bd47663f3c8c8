"""Run every check in order, then say what passed and where the time went: `make test`.

All stages run even when one fails, so that one run shows everything there is to mend.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = [sys.executable, "-m"]
STAGES: dict[str, list[list[str]]] = {
    "style": [
        [*PYTHON, "ruff", "check", "."],
        [*PYTHON, "ruff", "format", "--check", "."],
        [*PYTHON, "codespell_lib", "advlearn", "benchmarks", "book", "notebooks", "README.md",
         "CONTRIBUTING.md", "data/README.md"],
    ],
    "types": [[*PYTHON, "mypy"]],
    # Who may import whom: pyproject.toml says it.
    "layers": [[str(Path(sys.executable).with_name("lint-imports"))]],
    "tests": [[*PYTHON, "pytest", "-q", "--durations=5"]],
    # Each lesson runs from top to bottom in a fresh kernel; tagged outputs are compared.
    "notebooks": [
        [*PYTHON, "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--durations=0",
         "--durations-min=3", "notebooks"],
    ],
}  # fmt: skip


def count(report: Path) -> tuple[int, int, int]:
    """Return passed, failed and skipped of a JUnit report."""
    passed = failed = skipped = 0
    if report.exists():
        for suite in ET.parse(report).getroot().iter("testsuite"):
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            idle = int(suite.get("skipped", 0))
            failed, skipped = failed + bad, skipped + idle
            passed += int(suite.get("tests", 0)) - bad - idle
    return passed, failed, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=STAGES, help="run just this stage")
    parser.add_argument("--without", action="append", choices=STAGES, default=[])
    options = parser.parse_args()
    chosen = [s for s in options.only or STAGES if s not in options.without]
    # Threads that wait by sleeping: spinning ones starve each other on a busy machine.
    settings = {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "OMP_WAIT_POLICY": "PASSIVE"}
    environment = os.environ | settings
    rows, totals, broken = [], [0, 0, 0], False
    with tempfile.TemporaryDirectory() as folder:
        for stage in chosen:
            print(f"\n=== {stage} ===", flush=True)
            started, status = time.perf_counter(), 0
            report = Path(folder) / f"{stage}.xml"
            for command in STAGES[stage]:
                extra = [f"--junitxml={report}"] if "pytest" in command else []
                done = subprocess.run([*command, *extra], cwd=ROOT, env=environment, check=False)
                status |= done.returncode
            counts = count(report)
            totals = [a + b for a, b in zip(totals, counts, strict=True)]
            broken |= status != 0
            said = f"{counts[0]} passed, {counts[1]} failed" if any(counts) else ""
            rows.append(
                (stage, "ok" if status == 0 else "FAILED", time.perf_counter() - started, said)
            )
    print("\n=== summary ===")
    for stage, verdict, seconds, said in rows:
        print(f"{stage:10} {verdict:7} {seconds:6.0f} s  {said}")
    print(f"{'together':10} {'FAILED' if broken else 'ok':7} {sum(r[2] for r in rows):6.0f} s")
    if any(totals):
        skips = f", {totals[2]} skipped" if totals[2] else ""
        print(f"{totals[0]} passed, {totals[1]} failed{skips}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
