"""Measure the memory of a class: learners, each with a server and a kernel of one lesson.

    python classroom/load.py --learners 10 --lessons 00 03 06
    python classroom/load.py --learners 30 --lessons 03 --kinds forked --write

Each learner has an own JupyterLab server, as on a hub, and one kernel, which runs every cell of a
lesson, and then stays. Kinds take turns. What is added up is the proportional share of memory
(PSS): a page that k processes share counts 1/k for each, so that the sum is what the class takes.
The fall of the machine's available memory, which holds the system's own tables too, stands beside
it. A run stops when too little memory is left, and says how many learners there were.

`--write` keeps what was measured in load.json, and writes the table into the teachers' page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import BlockingKernelClient

from advlearn._atomic import write_atomically
from advlearn.classroom.kernels import spec

HERE = Path(__file__).resolve().parent
LESSONS = HERE.parent / "notebooks"
PAGE = HERE.parent / "book" / "text" / "teachers.md"
START, END = "<!-- load: written by classroom/load.py -->", "<!-- end of load -->"
KINDS = ("ordinary", "forked")
MOST_SECONDS = 600  # for one cell
MB = 1_000_000


class FullError(Exception):
    """Too little memory is left."""


@dataclass
class Learner:
    """What one learner took."""

    first_cell: float  # seconds from asking for a kernel to the answer of the first cell
    first_processor: float  # seconds of the processor that the kernel had taken until then
    processor: float  # the same for the whole lesson
    own: float = 0.0  # MB that no other process shares, of the kernel, in the end
    share: float = 0.0  # MB of PSS, of the kernel, in the end
    server: float = 0.0  # MB of PSS, of the server, in the end


@dataclass
class Run:
    """A class on one lesson."""

    kind: str
    lesson: str
    wanted: int
    learners: list[Learner] = field(default_factory=list)
    parent: float = 0.0  # MB of PSS
    fallen: float = 0.0  # MB that the machine's available memory fell by
    load: float = 0.0  # of the machine, at the start
    at_once: int = 1  # learners who work at a time
    stopped: str = ""

    @property
    def total(self) -> float:
        """MB of PSS of the whole class."""
        return self.parent + sum(one.share + one.server for one in self.learners)


# --- Memory ---------------------------------------------------------------------------------------


def available() -> float:
    """Return the MB that programs can still have."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    return int(text.split("MemAvailable:")[1].split()[0]) * 1024 / MB


def memory(process: int) -> dict[str, float]:
    """Return the MB of a process: its proportional share, and what is its own alone."""
    sums: dict[str, int] = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        sums[name] = int(value.split()[0]) * 1024
    return {
        "share": sums["Pss"] / MB,
        "own": (sums["Private_Clean"] + sums["Private_Dirty"]) / MB,
    }


def processor(process: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- One learner ----------------------------------------------------------------------------------


def cells(lesson: str) -> list[str]:
    """Return the code cells of a lesson."""
    (path,) = LESSONS.glob(f"{lesson}_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


class Desk:
    """A learner's JupyterLab server, and the kernel in it."""

    def __init__(self, folder: Path, kernels: Path) -> None:
        self.folder = folder
        self.token = secrets.token_hex(16)
        for name in ("home", "runtime"):
            (folder / name).mkdir()
        environment = os.environ | {
            "HOME": str(folder / "home"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTER_PATH": str(kernels.parent),
            "ADVLEARN_PROGRESS_DIR": str(folder / "home"),
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.port=0"]
        command += [f"--ServerApp.root_dir={folder / 'home'}", "--allow-root"]
        command += [f"--IdentityProvider.token={self.token}", "--LabApp.news_url=None"]
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, cwd=folder / "home"
        )
        try:
            self.address = self._wait()
        except BaseException:
            self.process.kill()
            raise
        self.client: BlockingKernelClient | None = None
        self.kernel = 0

    def _wait(self) -> str:
        end = time.monotonic() + MOST_SECONDS
        while time.monotonic() < end:
            for path in (self.folder / "runtime").glob("jpserver-*.json"):
                with contextlib.suppress(ValueError, urllib.error.URLError, ConnectionError):
                    address = json.loads(path.read_text())["url"]
                    self.ask(f"{address}api/status")
                    return str(address)
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"a server did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def ask(self, address: str, content: Any = None) -> Any:
        """Send a request to the server."""
        request = urllib.request.Request(
            address,
            data=None if content is None else json.dumps(content).encode(),
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def start(self, kind: str) -> None:
        """Start a kernel through the server, as a browser does."""
        made = self.ask(f"{self.address}api/kernels", {"name": kind})
        client = BlockingKernelClient(
            connection_file=str(self.folder / "runtime" / f"kernel-{made['id']}.json")
        )
        client.load_connection_file()
        client.start_channels(hb=False)  # a busy machine beats late, and is no dead kernel
        client.wait_for_ready(timeout=MOST_SECONDS)
        self.client = client

    def run(self, source: str) -> None:
        """Run a cell, as its text says."""
        reply = self.client.execute_interactive(  # type: ignore[union-attr]
            source, allow_stdin=False, timeout=MOST_SECONDS, output_hook=lambda _: None
        )["content"]
        if reply["status"] != "ok":
            raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}, in {source[:200]!r}")

    def study(self, kind: str, lesson: str) -> Learner:
        """Run all of a lesson, and return what that took of time."""
        sources = cells(lesson)
        asked = time.monotonic()
        self.start(kind)
        self.run(sources[0])
        answered = time.monotonic() - asked
        reply = self.client.execute_interactive(  # type: ignore[union-attr]
            "", user_expressions={"it": "__import__('os').getpid()"}, timeout=MOST_SECONDS
        )
        self.kernel = int(reply["content"]["user_expressions"]["it"]["data"]["text/plain"])
        first = processor(self.kernel)
        for source in sources[1:]:
            self.run(source)
        return Learner(answered, first, processor(self.kernel))

    def close(self) -> None:
        """End the server, and its kernel with it."""
        if self.client is not None:
            self.client.stop_channels()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


# --- A class --------------------------------------------------------------------------------------


@contextlib.contextmanager
def parent(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The parent of forked kernels, ready."""
    command = [sys.executable, "-m", "advlearn.classroom.kernels.parent"]
    process = subprocess.Popen(
        [*command, "--socket", str(folder / "socket"), "--most-each", "1000"],
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if b"ready" in line:
                break
        else:
            raise RuntimeError("the parent of the kernels did not start")
        # Its log has a line for each kernel: a pipe holds thousands.
        yield process
    finally:
        process.terminate()
        process.wait()


def measure(kind: str, lesson: str, count: int, at_once: int, keep_free: float) -> Run:
    """Bring a class to its desks, and measure them once all have run the lesson."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="advlearn-load-")))
        kernels = place / "kernels"
        spec.install(kernels, place / "socket", name="forked")
        ordinary = spec.spec() | {"metadata": {"debugger": True}}
        (kernels / "ordinary").mkdir()
        (kernels / "ordinary" / "kernel.json").write_text(json.dumps(ordinary))
        before = available()
        run = Run(kind, lesson, count, load=os.getloadavg()[0], at_once=at_once)
        own = stack.enter_context(parent(place)) if kind == "forked" else None
        desks: list[Desk] = []

        def arrive(number: int) -> None:
            """Come to a desk, and run the lesson; too late if there is no memory left."""
            if run.stopped or available() < keep_free:
                run.stopped = f"less than {keep_free:,.0f} MB were left"
                return
            (place / f"learner{number}").mkdir()
            try:
                desk = Desk(place / f"learner{number}", kernels)
                stack.callback(desk.close)
                took = desk.study(kind, lesson)
            except BaseException:
                run.stopped = "a learner's server failed"
                raise
            desks.append(desk)
            run.learners.append(took)
            print(
                f"  {kind} {lesson}, learner {len(desks)}: first cell {took.first_cell:.1f} s, "
                f"of which processor {took.first_processor:.1f} s, "
                f"processor {took.processor:.0f} s, {available():,.0f} MB left",
                flush=True,
            )

        with ThreadPoolExecutor(at_once) as seats:
            for done in [seats.submit(arrive, number) for number in range(count)]:
                done.result()
        time.sleep(5)
        for desk, took in zip(desks, run.learners, strict=True):
            of_kernel, of_server = memory(desk.kernel), memory(desk.process.pid)
            took.own, took.share = of_kernel["own"], of_kernel["share"]
            took.server = of_server["share"]
        run.parent = 0.0 if own is None else memory(own.pid)["share"]
        run.fallen = before - available()
    return run


def median(values: list[float]) -> float:
    """Return the middle one."""
    return sorted(values)[len(values) // 2]


def table(measured: dict[str, Any]) -> str:
    """Return what was measured as Markdown."""
    lines = [
        "| lesson | kernels | learners | memory of all | for each | a kernel's own | "
        "first cell | processor till then |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for run in measured["runs"]:
        learners = run["learners"]
        count = len(learners)
        total = run["parent"] + sum(one["share"] + one["server"] for one in learners)
        lines.append(
            f"| {run['lesson']} | {run['kind']} | {count} | {total / 1000:.1f} GB | "
            f"{total / count:.0f} MB | {median([one['own'] for one in learners]):.0f} MB | "
            f"{median([one['first_cell'] for one in learners]):.1f} s "
            f"(at most {max(one['first_cell'] for one in learners):.1f}) | "
            f"{median([one['first_processor'] for one in learners]):.1f} s |"
        )
    return "\n".join([*lines, "", measured["about"]])


def about(runs: list[Run]) -> str:
    """Return where and how it was measured."""
    loads = [run.load for run in runs]
    most = max(run.at_once for run in runs)
    releases = ", ".join(f"{name} {version(name)}" for name in ("torch", "jupyterlab", "ipykernel"))
    return (
        "Each learner has a JupyterLab server and one kernel, where every cell of the lesson has "
        f"run; at most {most} worked at a time, and all stayed. Memory: proportional shares (PSS) "
        "of all servers, kernels and the parent. First cell: from asking for a kernel to its "
        "answer, the middle one; processor: what the kernel computed for that, however busy the "
        f"machine was. {os.cpu_count()} cores, {platform.system()}, a load of {min(loads):.1f} to "
        f"{max(loads):.1f} at the start; Python {platform.python_version()}, {releases}. No "
        "browsers were open."
    )


def publish(measured: dict[str, Any]) -> None:
    """Write load.json, and the table into the teachers' page."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(START)
    _, found, tail = rest.partition(END)
    if not found:
        raise ValueError(f"{PAGE} has no part between {START} and {END}.")
    write_atomically(HERE / "load.json", json.dumps(measured, indent=1) + "\n")
    write_atomically(PAGE, f"{head}{START}\n\n{table(measured)}\n\n{END}{tail}")


def main() -> int:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Measure the memory of a class.")
    parser.add_argument("--learners", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=1, help="learners who work, not only stay")
    parser.add_argument("--lessons", nargs="+", default=["03"])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--keep-free", type=float, default=4000, metavar="MB")
    parser.add_argument("--write", action="store_true", help="add to load.json and to the page")
    given = parser.parse_args()
    if sys.platform != "linux":
        print("This needs Linux, for /proc.", file=sys.stderr)
        return 1
    if not entry_points(group="jupyter_client.kernel_provisioners", name=spec.PROVISIONER):
        print("Install the course again: Jupyter does not know its kernels yet.", file=sys.stderr)
        return 1
    runs = []
    for lesson in given.lessons:
        for kind in given.kinds:
            run = measure(kind, lesson, given.learners, given.at_once, given.keep_free)
            runs.append(run)
            print(
                f"{kind}, lesson {lesson}, {len(run.learners)} learners: {run.total:,.0f} MB in "
                f"all, the machine's memory fell by {run.fallen:,.0f} MB {run.stopped}",
                flush=True,
            )
    kept: list[dict[str, Any]] = []
    if given.write and (HERE / "load.json").is_file():
        made = {(run.lesson, run.kind, len(run.learners)) for run in runs}
        kept = [
            one
            for one in json.loads((HERE / "load.json").read_text())["runs"]
            if (one["lesson"], one["kind"], len(one["learners"])) not in made
        ]
    every = [*kept, *(asdict(run) for run in runs)]
    every.sort(key=lambda one: (one["lesson"], len(one["learners"]), one["kind"] == "forked"))
    loaded = [Run(**{**one, "learners": []}) for one in every]
    measured = {"about": about(loaded), "runs": every}
    print(table(measured))
    if given.write:
        publish(measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
