"""Run every check, then say what passed and where the time went: `make test`.

All stages run even when one fails, so that one run shows everything there is to repair. What only
reads the source (style, types, layers) runs beside the tests. Tests and lessons share one run of
pytest on as many workers as there are cores, each file and each lesson on one of them.

With `--in-browser` the lessons are executed by JupyterLab in a real browser, with all the browser
tests, and nbval compares what they gave there: no lesson runs twice.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PYTHON = [sys.executable, "-m"]
READING: dict[str, list[list[str]]] = {
    "style": [
        [*PYTHON, "ruff", "check", "."],
        [*PYTHON, "ruff", "format", "--check", "."],
        [*PYTHON, "codespell_lib", "advlearn", "benchmarks", "book", "classroom", "notebooks",
         "README.md", "CONTRIBUTING.md", "data/README.md"],
    ],
    "types": [[*PYTHON, "mypy"]],
    # Who may import whom: pyproject.toml says it.
    "layers": [[str(Path(sys.executable).with_name("lint-imports"))]],
}  # fmt: skip
# Each lesson runs from top to bottom in a fresh kernel; tagged outputs are compared.
RUNNING: dict[str, list[str]] = {
    "notebooks": ["--nbval-lax", "notebooks"],
    "tests": ["tests", "advlearn"],
}
# The lessons as the browser tests have executed them just before.
IN_BROWSER = (
    ["tests/browser"],
    ["-p", "tests.executed", "--executed=build/browser/executed", "notebooks"],
)
# A worker takes up to 1.3 GB and the kernel of a lesson as much: four stay well under 10 GB.
SPREAD = ["-n", "logical", "--maxprocesses=4", "--dist=loadfile", "--no-loadscope-reorder"]


class Outcome(NamedTuple):
    """What became of one stage."""

    stage: str
    failed: bool
    seconds: float
    counts: str = ""


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


def read_source(stage: str) -> tuple[Outcome, str]:
    """Run a stage that reads the source; return what it printed too, so that no lines mix."""
    started, status, printed = time.perf_counter(), 0, []
    for command in READING[stage]:
        done = subprocess.run(
            command,
            cwd=ROOT,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        status |= done.returncode
        printed.append(done.stdout)
    return Outcome(stage, status != 0, time.perf_counter() - started), "".join(printed)


def run_tests(
    stages: list[str], arguments: list[str], report: Path, python: str | Path = sys.executable
) -> tuple[Outcome, int]:
    """Run one or more stages in one run of pytest; return how many tests were skipped too."""
    # One thread each; waiting ones sleep, since spinning ones starve each other.
    settings = {
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    started = time.perf_counter()
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--durations=8",
        *SPREAD,
    ]
    done = subprocess.run(
        [*command, *arguments, f"--junitxml={report}"],
        cwd=ROOT,
        env=os.environ | settings,
        check=False,
    )
    passed, failed, skipped = count(report)
    counts = f"{passed} passed, {failed} failed"
    seconds = time.perf_counter() - started
    return Outcome(" + ".join(stages), done.returncode != 0, seconds, counts), skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    every = [*READING, *RUNNING]
    parser.add_argument("--only", action="append", choices=every, help="run just this stage")
    parser.add_argument("--without", action="append", choices=every, default=[])
    parser.add_argument("--in-browser", action="store_true", help="execute lessons in JupyterLab")
    options = parser.parse_args()
    chosen = [s for s in options.only or every if s not in options.without]
    running: dict[str, list[str]] = {stage: RUNNING[stage] for stage in RUNNING if stage in chosen}
    runs = [running] if running else []
    if options.in_browser and "notebooks" in running:
        browser, running["notebooks"] = IN_BROWSER
        runs.insert(0, {"browser": browser})
    started, outcomes, skipped = time.perf_counter(), [], 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as beside:
        reading: list[Future[tuple[Outcome, str]]] = [
            beside.submit(read_source, stage) for stage in READING if stage in chosen
        ]
        for number, run in enumerate(runs):
            report = Path(folder) / f"report{number}.xml"
            arguments = [argument for stage in run.values() for argument in stage]
            outcome, idle = run_tests(list(run), arguments, report)
            outcomes.append(outcome)
            skipped += idle
        for future in reading:
            outcome, printed = future.result()
            print(f"\n=== {outcome.stage} ===\n{printed}", flush=True)
            outcomes.insert(0, outcome)
    print("\n=== summary ===")
    for outcome in outcomes:
        verdict = "FAILED" if outcome.failed else "ok"
        print(f"{outcome.stage:17} {verdict:7} {outcome.seconds:6.0f} s  {outcome.counts}")
    failed = any(outcome.failed for outcome in outcomes)
    seconds = time.perf_counter() - started
    print(f"{'on the clock':17} {'FAILED' if failed else 'ok':7} {seconds:6.0f} s")
    if skipped:
        print(f"{skipped} skipped")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
