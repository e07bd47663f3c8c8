"""Time the playground in Chromium beside PyTorch: `python benchmarks/playground.py`.

The engine of the page answers and attacks one digit at a time, in JavaScript on one thread. Beside
it stands the library with one thread, also one digit at a time: an answer without a gradient,
`fgsm`, and `pgd` of 40 steps without a random start. The two take turns. Then the page itself is
timed, from a pointer's event to the new probabilities on the page, with the worker it has, and with
a processor that Chromium slows down four times. There it computes without a worker, since Chromium
slows the page alone.
"""
# ruff: noqa: E501 - scripts for the browser stand in it as they are

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from report import lay_out, publish_part
from run import machine, quartiles, threads

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from advlearn.attacks import fgsm, pgd  # noqa: E402
from advlearn.data import load_mnist  # noqa: E402
from advlearn.playground.packing import as_model  # noqa: E402
from advlearn.playground.page import NETWORKS, html, weights  # noqa: E402
from tests.browser.lab import launch  # noqa: E402
from tests.playground.conftest import Engine  # noqa: E402

SHIPPED = {network.name: network for network in NETWORKS}
EPS = 0.25
STEPS = 40
SLOWED = 4
# Milliseconds in the page, and in the slowed page; PGD on the network of the paper.
TARGETS = {"stroke": (16, 50), "fgsm": (30, None), "pgd": (1000, None)}
FIRST_PAINT = 1000

TIMED = """
const model = build(readSafetensors(bytesOf(given.weights)));
const image = floatsOf(given.x), label = given.y;
const tasks = {
  answer: () => answerOf(model, image, label),
  fgsm: () => fgsm(model, image, label, given.eps),
  pgd: () => finish(pgd(model, image, label, given.eps, { steps: given.steps, randomStart: false })),
};
for (let k = 0; k < given.warm; k++) tasks[given.task]();
const begun = performance.now();
for (let k = 0; k < given.repeats; k++) tasks[given.task]();
return (performance.now() - begun) / given.repeats;"""
STROKES = """async ({ strokes }) => {
  const grid = document.querySelector(".grid"), box = grid.getBoundingClientRect();
  const send = (kind, share) => grid.dispatchEvent(new PointerEvent(kind, { bubbles: true, pointerId: 1, button: 0,
    clientX: box.left + box.width * share, clientY: box.top + box.height * (0.2 + 0.6 * share) }));
  grid.setPointerCapture = () => {};
  performance.clearMeasures();
  send("pointerdown", 0.2);
  for (let k = 0; k < strokes; k++) {
    send("pointermove", 0.2 + (0.6 * k) / strokes);
    await new Promise((resolve) => setTimeout(resolve, 120));
  }
  send("pointerup", 0.8);
  await new Promise((resolve) => setTimeout(resolve, 500));
  return performance.getEntriesByName("advlearn: to new probabilities").map((entry) => entry.duration);
}"""


@dataclass(frozen=True)
class Settings:
    """How much: every network, or a trial."""

    networks: tuple[str, ...] = tuple(network.name for network in NETWORKS)
    rounds: int = 7
    strokes: int = 40
    threads: int = 1


QUICK = Settings(networks=("softmax",), rounds=2, strokes=4)
TASKS = {"answer": 30, "fgsm": 20, "pgd": 1}  # repeats in one round


def in_torch(name: str, x: torch.Tensor, y: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return the same work by the library."""
    model = as_model(weights(SHIPPED[name]))

    def answer() -> torch.Tensor:
        with torch.no_grad():
            return model(x).softmax(1)

    return {
        "answer": answer,
        "fgsm": lambda: fgsm(model, x, y, EPS),
        "pgd": lambda: pgd(model, x, y, EPS, steps=STEPS, random_start=False),
    }


def milliseconds(task: Callable[[], object], repeats: int) -> float:
    """Return the wall-clock time of one call: that of the page is one too."""
    begun = time.perf_counter()
    for _ in range(repeats):
        task()
    return 1000 * (time.perf_counter() - begun) / repeats


def compare(engine: Engine, name: str, settings: Settings) -> dict[str, Any]:
    """Time the engine and the library in turns, on one digit of each round."""
    x, y = load_mnist("test", source="offline")
    found: dict[str, Any] = {}
    given = {"weights": weights(SHIPPED[name]), "eps": EPS, "steps": STEPS}
    for task, repeats in TASKS.items():
        ours, theirs = [], []
        for number in range(settings.rounds):
            image, label = x[number : number + 1], y[number : number + 1]
            work = in_torch(name, image, label)[task]
            work()
            theirs.append(milliseconds(work, repeats))
            ours.append(
                engine.run(
                    TIMED, x=image.numpy(), y=int(label), task=task, repeats=repeats,
                    warm=max(1, repeats // 2), **given,
                )
            )  # fmt: skip
        ratios = [own / other for own, other in zip(ours, theirs, strict=True)]
        found[task] = {
            "page": statistics.median(ours),
            "pytorch": statistics.median(theirs),
            "ratio": quartiles(ratios),
        }
    return found


def strokes(browser: Any, path: Path, name: str, settings: Settings, *, slowed: bool) -> float:
    """Return the median time from a pointer's event to the new probabilities on the page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    if slowed:
        context.add_init_script("globalThis.Worker = class { constructor() { throw 0; } };")
    page = context.new_page()
    page.goto(f"{path.as_uri()}#n={name}&a=fgsm")
    page.wait_for_function("() => document.querySelector('.verdict .title')?.textContent")
    page.wait_for_timeout(1500)
    if slowed:
        session = context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWED})
    times = page.evaluate(STROKES, {"strokes": settings.strokes})
    context.close()
    return statistics.median(times)


def paint(browser: Any, path: Path) -> float:
    """Return the median time to the first content on the screen, of five visits."""
    times = []
    for _ in range(5):
        page = browser.new_page()
        page.goto(path.as_uri())
        name = "first-contentful-paint"
        page.wait_for_function(f"() => performance.getEntriesByName('{name}').length")
        times.append(page.evaluate(f"performance.getEntriesByName('{name}')[0].startTime"))
        page.close()
    return statistics.median(times)


def measure(settings: Settings) -> dict[str, Any]:
    """Return all times, in milliseconds."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as folder,
        threads(settings.threads),
        sync_playwright() as play,
    ):
        path = Path(folder) / "playground.html"
        path.write_text(html(), encoding="utf-8")
        browser = launch(play)
        facts = machine(settings, []) | {"chromium": browser.version}
        engine = Engine(browser.new_page())
        networks = {}
        for name in settings.networks:
            networks[name] = compare(engine, name, settings)
            networks[name]["stroke"] = {
                "page": strokes(browser, path, name, settings, slowed=False),
                "slowed": strokes(browser, path, name, settings, slowed=True),
            }
            print(name, networks[name], flush=True)
        painted = paint(browser, path)
        browser.close()
        return {
            "machine": facts,
            "settings": asdict(settings),
            "bytes": path.stat().st_size,
            "first paint": painted,
            "networks": networks,
        }


def table(measured: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    rows = [["network", "work", "page", "PyTorch", "ratio", "page, slowed"]]
    words = {
        "stroke": "stroke to new probabilities, with FGSM",
        "answer": "answer",
        "fgsm": "FGSM",
        "pgd": f"PGD, {STEPS} steps",
    }
    for name, tasks in measured["networks"].items():
        for task, said in words.items():
            one = tasks[task]
            low, middle, high = one.get("ratio", (0, 0, 0))
            rows.append(
                [
                    name,
                    said,
                    f"{one['page']:.2f} ms",
                    f"{one['pytorch']:.2f} ms" if "pytorch" in one else "",
                    f"{middle:.2f} ({low:.2f} to {high:.2f})" if middle else "",
                    f"{one['slowed']:.1f} ms" if "slowed" in one else "",
                ]
            )
    facts = measured["machine"]
    load = "" if facts["load"] is None else f" load {facts['load']:.1f} at the start,"
    about = (
        f"Medians; ratio: the page's time divided by PyTorch's in the same round, and its quartiles. The "
        f"page has {measured['bytes'] / 1e6:.2f} MB and shows its first content after "
        f"{measured['first paint']:.0f} ms. Slowed: Chromium's processor {SLOWED} times slower. "
        f"{facts['cpu']}, {facts['cores']} cores,{load} Chromium {facts['chromium']}, "
        f"PyTorch {facts['releases']['torch']}."
    )
    return f"{lay_out(rows)}\n\n{about}"


START, END = "<!-- playground: written by playground.py -->", "<!-- end of playground -->"


def publish(measured: dict[str, Any], folder: Path) -> list[Path]:
    """Write playground.json and the generated part of README.md."""
    return publish_part("playground", measured, table, (START, END), folder)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description="Time the playground beside PyTorch.")
    parser.add_argument("--quick", action="store_true", help="one network; writes nothing")
    parser.add_argument("--networks", nargs="+", choices=Settings.networks)
    parser.add_argument("--output", type=Path, help="the folder to write to; benchmarks/ if full")
    given = parser.parse_args(arguments)
    settings = QUICK if given.quick else Settings()
    if given.networks:
        settings = replace(settings, networks=tuple(given.networks))
    measured = measure(settings)
    print()
    print(table(measured))
    folder = given.output or (Path(__file__).resolve().parent if settings == Settings() else None)
    if folder is not None:
        for path in publish(measured, folder):
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
