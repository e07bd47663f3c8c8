"""How long a picture takes to follow a key, measured inside the page.

From the moment of the key press to the first frame after the new image is decoded. Playwright's own
time, from its order to the press, is no part of it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.browser.widget import Control, Widget

LIMIT, AIM = 100.0, 50.0  # milliseconds, of the median
PRESSES = 20

_MEASURE = """(root) => {
  root._latency?.stop();
  const state = {started: null, times: []};
  const picture = () => root.querySelector("img");
  let shown = picture().src;
  // A decoding is broken off when the next picture comes; then that one is waited for.
  const decoded = async (image) => {
    for (;;) {
      const address = image.src;
      try { return await image.decode(); }
      catch (error) { if (image.src === address) throw error; }
    }
  };
  const press = (event) => { state.started = event.timeStamp; };
  root.addEventListener("keydown", press, true);
  const observer = new MutationObserver(async () => {
    const image = picture();
    if (!image || image.src === shown || state.started === null) return;
    const started = state.started;
    shown = image.src;
    state.started = null;
    await decoded(image);
    requestAnimationFrame(() => state.times.push(performance.now() - started));
  });
  observer.observe(root, {subtree: true, childList: true, attributes: true});
  state.stop = () => { observer.disconnect(); root.removeEventListener("keydown", press, true); };
  root._latency = state;
}"""


@dataclass(frozen=True)
class Row:
    """The delays of one control, in milliseconds."""

    lesson: str
    widget: str
    kind: str  # "drawn" before the press, or at the "first visit"
    presses: int
    median: float
    late: float  # the 95th percentile


def _row(lesson: str, control: Control, kind: str, times: Sequence[float]) -> Row:
    late = statistics.quantiles(times, n=20)[-1]
    return Row(lesson, control.name, kind, len(times), statistics.median(times), late)


def _press(widget: Widget, control: Control, key: str, seconds: float) -> None:
    """Press a key on a control and wait until its delay is noted."""
    root = widget.root.element_handle()
    count = root.evaluate("(root) => root._latency.times.length")
    control.handle.press(key)
    widget.root.page.wait_for_function(
        "([root, count]) => root._latency.times.length > count",
        arg=[root, count],
        timeout=1000 * seconds,
    )


def _times(widget: Widget) -> list[float]:
    """Stop the clock and return what it noted: later pictures are not its business."""
    noted = widget.root.evaluate("(root) => { root._latency.stop(); return root._latency.times; }")
    return [float(time) for time in noted]


def walk(widget: Widget, lesson: str, control: Control) -> Row:
    """Walk a control up and down with the arrow keys, the others at rest: the usual case."""
    widget.rest()
    widget.root.evaluate(_MEASURE)
    step = 1
    for _ in range(PRESSES):
        if not 0 <= control.place + step < control.stops:
            step = -step
        _press(widget, control, "ArrowRight" if step > 0 else "ArrowLeft", 20)
    return _row(lesson, control, "drawn", _times(widget))


def first_visit(widget: Widget, lesson: str, control: Control, other: Control) -> Row | None:
    """Walk a control once, at once after the other one was moved: the kernel has to draw."""
    widget.rest()
    other.handle.press("End" if other.start == 0 else "Home")
    widget.root.evaluate(_MEASURE)
    for _ in range(control.stops - 1 - control.start):
        _press(widget, control, "ArrowRight", 30)
    times = _times(widget)
    return _row(lesson, control, "first visit", times) if len(times) > 1 else None


def markdown(rows: Sequence[Row]) -> str:
    """Return the table."""
    head = [
        "| lesson | control | picture | presses | median (ms) | 95th percentile (ms) |",
        "|---|---|---|---|---|---|",
    ]
    body = [
        f"| {r.lesson} | {r.widget} | {r.kind} | {r.presses} | {r.median:.0f} | {r.late:.0f} |"
        for r in rows
    ]
    return "\n".join([*head, *body]) + "\n"


def write(rows: Sequence[Row], folder: Path) -> None:
    """Write the table as JSON and as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows], indent=1)
    (folder / "latency.json").write_text(text + "\n", encoding="utf-8")
    (folder / "latency.md").write_text(markdown(rows), encoding="utf-8")
