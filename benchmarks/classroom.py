"""Grade a class with `advlearn class grade` and with nbgrader: `python benchmarks/classroom.py`.

The same notebooks, the whole of lesson 03 with answers of all kinds, are graded by both. What
counts is processor time: that of every process that takes part, kernels and confined ones
included, see `meter.py`. Memory is what all of them hold at one time.

nbgrader is that of `.venv-nbgrader` (`python -m tests.nbgrader.environment --install`). It grades
in two ways: "kernel" runs each notebook, as nbgrader does by itself; "outside" asks the course.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from report import lay_out, publish_part
from run import machine

from advlearn.classroom.nbgrader import course
from advlearn.exercises import lesson03

LESSON = "03_fgsm_linear_models"
ROOT = Path(__file__).resolve().parent.parent
METER = Path(__file__).resolve().with_name("meter.py")
NBGRADER = ROOT / ".venv-nbgrader" / "bin" / "python"
MOST_SECONDS, MOST_GIGABYTES, MOST_SHARE = 60.0, 1.5, 1 / 20
"""Targets: on the clock with two idle cores, of memory, and of nbgrader's processor time."""

AROUND = os.environ | {
    "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
    "MPLBACKEND": "agg",
    # nbgrader calls alembic by its name alone.
    "PATH": f"{NBGRADER.parent}{os.pathsep}{os.environ['PATH']}",
}  # fmt: skip

KINDS = {"right": 0.6, "wrong": 0.2, "raises": 0.1, "empty": 0.1}
"""What is written into an exercise -> how often."""


@dataclass(frozen=True)
class Settings:
    """How large."""

    learners: int = 30
    ways: tuple[str, ...] = ("kernel", "outside")
    threads: int = 1
    seed: int = 0


QUICK = Settings(learners=2, ways=())  # its numbers mean nothing


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    seconds: float  # on the clock
    processor: float  # seconds of all processes
    gigabytes: float  # the most that all of them held at one time
    load: float  # when it began


# --- The class ------------------------------------------------------------------------------------


def answer(name: str, kind: str) -> str:
    """Return the text of an answer."""
    exercise = next(one for one in lesson03.EXERCISES if one.name == name)
    head, _, body = exercise.source().partition("\n")
    if kind == "empty":
        body = "    ...  # your code"
    elif kind == "raises":
        body = "    return undefined"
    elif kind == "wrong":
        lines = body.rstrip().split("\n")
        place = max(k for k, line in enumerate(lines) if line.strip().startswith("return "))
        # Of two numbers in brackets it makes four.
        lines[place] = lines[place].partition("  #")[0] + " * 2"
        body = "\n".join(lines)
    return f"{head}\n{body.rstrip()}\n\nex.{name}.check({name})"


def hand_in(released: dict[str, Any], submitted: Path, settings: Settings) -> dict[str, list[str]]:
    """Write a notebook for each learner; return learner -> kinds of the answers."""
    draws = random.Random(settings.seed)
    handed: dict[str, list[str]] = {}
    for number in range(settings.learners):
        notebook = json.loads(json.dumps(released))
        learner = f"learner-{number + 1:02d}"
        handed[learner] = []
        for cell in notebook["cells"]:
            name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
            if not cell["metadata"].get("nbgrader", {}).get("solution"):
                continue
            (kind,) = draws.choices(list(KINDS), list(KINDS.values()))
            handed[learner].append(kind)
            cell["source"] = answer(name, kind)
        place = submitted / learner / LESSON
        place.mkdir(parents=True)
        (place / f"{LESSON}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return handed


def released_by_hand(source: Path) -> dict[str, Any]:
    """Return the lesson as it is published, where nbgrader is not there to release it."""
    return dict(json.loads(source.read_text(encoding="utf-8")))


# --- Measuring ------------------------------------------------------------------------------------


def cost(command: Sequence[str], place: Path) -> Cost:
    """Run a command to its end, and return what it and all of its processes took."""
    done = subprocess.run(
        [sys.executable, str(METER), *command], cwd=place, env=AROUND | {"HOME": str(place)},
        text=True, check=False, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:5])} failed:\n{done.stderr[-3000:]}")
    return Cost(**json.loads(done.stdout))


def release() -> str | None:
    """Return nbgrader's version, None where it is not installed."""
    if not NBGRADER.is_file():
        return None
    ask = "from importlib.metadata import version; print(version('nbgrader'))"
    done = subprocess.run([str(NBGRADER), "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def points_of(path: Path, learner: str, points: str) -> dict[str, float]:
    """Read learner -> points from a CSV file."""
    import csv

    with path.open(encoding="utf-8") as file:
        return {row[learner]: float(row[points] or "nan") for row in csv.DictReader(file)}


def measure(settings: Settings) -> dict[str, Any]:
    """Grade the class in all ways, and return what `classroom.json` holds."""
    facts = machine(settings, [])  # type: ignore[arg-type]
    facts["releases"]["nbgrader"] = found = release()
    ways: dict[str, Any] = {}
    points: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        course.write(place, lessons=["03"])
        source = place / "source" / LESSON / f"{LESSON}.ipynb"
        config = place / "nbgrader_config.py"
        nbgrader = [str(NBGRADER), "-m", "nbgrader"]
        if found is not None and settings.ways:
            subprocess.run(
                [*nbgrader, "generate_assignment", LESSON], cwd=place, check=True,
                env=AROUND, capture_output=True,
            )  # fmt: skip
            source = place / "release" / LESSON / f"{LESSON}.ipynb"
        handed = hand_in(released_by_hand(source), place / "submitted", settings)
        command = [sys.executable, "-m", "advlearn.cli", "class", "grade", "submitted"]
        ways["class grade"] = asdict(cost([*command, "--out", "graded"], place))
        print(f"  class grade: {ways['class grade']}", flush=True)
        points["class grade"] = points_of(place / "graded" / "grades.csv", "learner", "total")
        whole = config.read_text(encoding="utf-8")
        for way in settings.ways if found is not None else ():
            config.write_text(
                whole.replace("# A name for", f'GRADE = "{way}"\n# A name for'), encoding="utf-8"
            )
            title = f"nbgrader, {way}"
            ways[title] = asdict(cost([*nbgrader, "autograde", LESSON, "--force"], place))
            print(f"  {title}: {ways[title]}", flush=True)
            subprocess.run(
                [*nbgrader, "export", "--to", f"{way}.csv"], cwd=place, check=True,
                env=AROUND, capture_output=True,
            )  # fmt: skip
            points[title] = points_of(place / f"{way}.csv", "student_id", "score")
    ours = points["class grade"]
    fair = {learner: float(kinds.count("right")) for learner, kinds in handed.items()}
    return {
        "machine": facts,
        "settings": asdict(settings),
        "answers": {
            kind: sum(kinds.count(kind) for kinds in handed.values()) for kind in KINDS
        },
        "ways": ways,
        "as a person": {way: sum(fair[k] == given.get(k) for k in fair) for way, given in
                        points.items()},
        "as class grade": {way: given == ours for way, given in points.items()},
    }  # fmt: skip


# --- What is written ------------------------------------------------------------------------------


def table(measured: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    ours = measured["ways"]["class grade"]
    learners = measured["settings"]["learners"]
    rows = [["way", "processor time", "ours, of it", "on the clock", "peak memory", "as a person"]]
    for way, one in measured["ways"].items():
        share = "" if one is ours else f"{ours['processor'] / one['processor']:.3f}"
        same = f"{measured['as a person'][way]} of {learners}"
        rows.append(
            [way, f"{one['processor']:.1f} s", share, f"{one['seconds']:.1f} s",
             f"{one['gigabytes']:.2f} GB", same],
        )  # fmt: skip
    facts = measured["machine"]
    releases = ", ".join(
        f"{name} {number or 'not installed'}" for name, number in facts["releases"].items()
    )
    answers = ", ".join(f"{count} {kind}" for kind, count in measured["answers"].items())
    loads = [one["load"] for one in measured["ways"].values()]
    verdicts = [
        f"under {MOST_SECONDS:.0f} s on two idle cores: {_word(ours['seconds'] <= MOST_SECONDS)}",
        f"under {MOST_GIGABYTES:g} GB: {_word(ours['gigabytes'] <= MOST_GIGABYTES)}",
    ]
    kernel = measured["ways"].get("nbgrader, kernel")
    if kernel is not None:
        held = ours["processor"] <= MOST_SHARE * kernel["processor"]
        verdicts.append(f"at most 1/20 of nbgrader's processor time: {_word(held)}")
    about = (
        f"{learners} notebooks of lesson 03, the whole lesson, with {answers} answers. "
        f"Targets: {'; '.join(verdicts)}. One run each. Load when each began: "
        f"{', '.join(f'{load:.1f}' for load in loads)}. {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['system']}, Python {facts['python']}; {releases}."
    )
    return f"{lay_out(rows)}\n\n{about}"


def _word(held: bool) -> str:
    return "reached" if held else "not reached"


START, END = "<!-- classroom: written by classroom.py -->", "<!-- end of classroom -->"


def publish(measured: dict[str, Any], folder: Path) -> list[Path]:
    """Write classroom.json and the generated part of README.md."""
    return publish_part("classroom", measured, table, (START, END), folder)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description="Grade a class with advlearn and with nbgrader.")
    parser.add_argument("--learners", type=int, default=Settings.learners)
    parser.add_argument("--quick", action="store_true", help="two learners; writes nothing")
    parser.add_argument("--output", type=Path, help="the folder to write to; benchmarks/ if full")
    given = parser.parse_args(arguments)
    full = replace(Settings(), learners=given.learners)
    measured = measure(QUICK if given.quick else full)
    print()
    print(table(measured))
    whole = not given.quick and full == Settings() and len(measured["ways"]) == 1 + len(full.ways)
    folder = given.output or (Path(__file__).resolve().parent if whole else None)
    if folder is not None:
        for path in publish(measured, folder):
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
