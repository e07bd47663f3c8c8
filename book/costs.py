"""Measure what every lesson costs, and keep it for the book: `make record`.

Each lesson is run from top to bottom in a fresh kernel, as `make measure` does it. The result,
with a description of the machine, is written to book/costs.json, from which the book makes its
table. Run it on a machine that does nothing else.

    python book/costs.py         all lessons
    python book/costs.py 00 01   those whose names begin so; the others keep their numbers, if they
                                 were measured on the same machine
"""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from repository import LESSONS

from advlearn._atomic import write_atomically
from advlearn.course import notebooks

FILE = Path(__file__).with_name("costs.json")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def machine() -> dict[str, Any]:
    """Describe this machine as far as it matters for time and memory; no names, no paths."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "advlearn": version("advlearn"),
    }


def read() -> dict[str, Any]:
    """Return what was measured: "machine", and "lessons" by name."""
    if not FILE.exists():
        return {"machine": {}, "lessons": {}}
    costs: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return costs


def table(costs: dict[str, Any], titles: dict[str, str]) -> str:
    """Return the Markdown table of these lessons, name -> title; one not measured says so."""
    lines = [
        "| lesson | seconds | processor seconds | peak memory (GB) | measured on |",
        "|---|--:|--:|--:|---|",
    ]
    for name, title in titles.items():
        cost = costs["lessons"].get(name)
        link = f"[{name[:2]} · {title}](notebooks/{name}.ipynb)"
        if cost is None:
            lines.append(f"| {link} | not measured yet | | | |")
            continue
        lines.append(
            f"| {link} | {cost['seconds']:.0f} | {cost['processor_seconds']:.0f} | "
            f"{cost['gigabytes']:.2f} | {cost['date']} |"
        )
    return "\n".join(lines)


def described(about: dict[str, Any]) -> str:
    """Return what `machine` gave in one sentence."""
    if not about:
        return "No lesson has been measured yet."
    memory = f", {about['memory_gb']:.0f} GB of memory" if about["memory_gb"] else ""
    return (
        f"{about['processor']}, {about['cores']} cores{memory}, {about['system']}; "
        f"Python {about['python']}, PyTorch {about['torch']}, advlearn {about['advlearn']}."
    )


def main(arguments: list[str]) -> int:
    """Measure the lessons whose names begin with one of `arguments`."""
    # Threads that wait by sleeping: spinning ones starve each other on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    here, before = machine(), read()
    kept = before["lessons"] if before["machine"] == here else {}
    paths = [p for p in LESSONS if any(p.name.startswith(a) for a in arguments or [""])]
    if not paths:
        print(f"no lesson begins with {' or '.join(arguments)}", file=sys.stderr)
        return 2
    for path in paths:
        cost = notebooks.measure(path)
        kept[path.stem] = {
            "seconds": round(cost.seconds, 1),
            "processor_seconds": round(cost.processor_seconds, 1),
            "gigabytes": round(cost.gigabytes, 2),
            "date": datetime.now(timezone.utc).date().isoformat(),
        }
        ordered = {p.stem: kept[p.stem] for p in LESSONS if p.stem in kept}
        text = json.dumps({"machine": here, "lessons": ordered}, indent=1) + "\n"
        write_atomically(FILE, text)
        print(f"{path.name}: {cost.seconds:.0f} s, {cost.gigabytes:.2f} GB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
