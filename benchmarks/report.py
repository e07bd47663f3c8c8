"""What is made of `results.json`: the table, the page around it, and the figure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advlearn.plotting import BLACK, BLUE, LINES, VERMILION, alt_text, describe, render

START, END = "<!-- results: written by run.py -->", "<!-- end of results -->"
_MARKERS = ("o", "s", "^", "D", "v")


def _time(seconds: float) -> str:
    """Write a time with three digits, in the unit that suits it."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.2f} s"


def _median(result: dict[str, Any], who: str) -> float:
    return float(result["seconds"][who]["quartiles"][1])


def _row(result: dict[str, Any]) -> list[str]:
    own, fastest, ratio = result["ours"], result["fastest"], result["ratio"]
    row = [result["title"], f"{own} {_time(_median(result, own))}"]
    target = "none" if result["target"] is None else f"<= {result['target']:.2f}"
    if fastest is None:
        return [*row, "none", "", target, "not compared"]
    return [
        *row,
        f"{fastest} {_time(_median(result, fastest))}",
        f"{ratio[1]:.3f} ({ratio[0]:.3f}-{ratio[2]:.3f})",
        target,
        {True: "reached", False: "not reached", None: ""}[result["reached"]],
    ]


def lay_out(rows: list[list[str]]) -> str:
    """Return a Markdown table whose columns line up, so that it reads on a terminal too."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )


def table(measured: dict[str, Any]) -> str:
    """Return the results, the agreement of the images and the machine, as Markdown."""
    facts = measured["machine"]
    releases = ", ".join(
        f"{name} {release or 'not installed'}" for name, release in facts["releases"].items()
    )
    parts = [
        lay_out(
            [
                ["what", "ours", "fastest other", "ratio (quartiles)", "target", "result"],
                *map(_row, measured["results"]),
            ]
        ),
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, {facts['system']}, "
        + (f"load {facts['load']:.1f} at the start, " if facts["load"] is not None else "")
        + f"Python {facts['python']}; {releases}.",
    ]
    parts += [
        f"{result['title'].capitalize()}: one gradient and a forward pass for each eps, and "
        f"nothing else, take {result['least'][1]:.3f} of {result['fastest']}'s time here. No "
        "smaller ratio can be had without skipping an image."
        for result in measured["results"]
        if "least" in result
    ]
    if measured["agreement"]:
        rows = [
            [
                each["peer"],
                each["model"],
                f"{each['batch']:,}",
                f"{each['equal pixels']:.4%}",
                f"{each['largest difference']:.2g}",
            ]
            for each in measured["agreement"]
        ]
        head = ["library", "model", "batch", "pixels equal to ours", "largest difference"]
        parts.append(lay_out([head, *rows]))
    counted = [
        [result["title"], ", ".join(f"{who} {found:g}" for who, found in result["errors"].items())]
        for result in measured["results"]
        if len(result.get("errors", ())) > 1
    ]
    if counted:
        parts.append(lay_out([["what", "errors found, median of the rounds"], *counted]))
    seen = {
        (who, entry["not timed"])
        for result in measured["results"]
        for who, entry in result["seconds"].items()
        if "not timed" in entry
    }
    parts += [f"{who}: not timed, {why}." for who, why in sorted(seen)]
    return "\n\n".join(parts)


def results_text(measured: dict[str, Any]) -> str:
    """Return JSON with one line for each list of numbers."""
    rounded = json.loads(json.dumps(measured), parse_float=lambda text: float(f"{float(text):.5g}"))
    text = json.dumps(rounded, indent=1, ensure_ascii=False)
    return re.sub(r"\[[^\[\]{}]*\]", lambda hit: " ".join(hit[0].split()), text) + "\n"


def write_page(page: Path, measured: dict[str, Any], alt: str) -> None:
    """Put the table and the figure between the marks of a page, or make a page of them alone."""
    write_between(page, START, f"{table(measured)}\n\n![{alt}](figure.png)", END)


def write_between(page: Path, start: str, block: str, end: str) -> None:
    """Put a text between two marks of a page, or make a page of it alone."""
    text = page.read_text(encoding="utf-8") if page.exists() else f"{start}\n{end}\n"
    before, _, rest = text.partition(start)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{start}\n\n{block}\n\n{end}{after}", encoding="utf-8")


def figure(measured: dict[str, Any]) -> Any:
    """Draw each library's time for one FGSM, and our ratio to the fastest beside its target."""
    import matplotlib.pyplot as plt

    single = [r for r in measured["results"] if r["name"].startswith("fgsm-")]
    ratios = [r for r in measured["results"] if r["reached"] is not None]
    height = 1.6 + 0.42 * max(len(single) + 1, len(ratios))
    whole, (left, right) = plt.subplots(
        1, 2, figsize=(11.5, height), layout="constrained", width_ratios=(1, 1.1)
    )
    names = list(dict.fromkeys(who for r in single for who in r["seconds"]))
    times = []
    for index, who in enumerate(names):
        timed = [(i, r["seconds"][who]) for i, r in enumerate(single)]
        points = [(i, e["quartiles"][1] * 1e3) for i, e in timed if "quartiles" in e]
        if not points:
            continue
        left.plot(
            [ms for _, ms in points],
            [i for i, _ in points],
            linestyle="none",
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=8,
            color=LINES[index % len(LINES)],
            markerfacecolor=LINES[index % len(LINES)] if index == 0 else "none",
            markeredgewidth=1.6,
            label=who,
        )
        times.append(f"{who} {', '.join(f'{ms:.3g}' for _, ms in points)} ms")
    left.set_xscale("log")
    left.set_yticks(
        range(len(single)), [_wrapped(r["title"].removeprefix("FGSM, ")) for r in single]
    )
    left.set_ylim(len(single) - 0.5, -0.5)
    left.set_xlabel("median time of one FGSM, ms (left is faster)")
    left.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    describe(left, f"Time of one FGSM, in the order of the rows: {'; '.join(times)}.")

    medians = []
    for row, result in enumerate(ratios):
        low, middle, high = result["ratio"]
        right.plot([low, high], [row, row], color=BLUE, linewidth=2.5)
        right.plot(middle, row, "o", color=BLUE, markersize=7)
        right.plot([result["target"]] * 2, [row - 0.32, row + 0.32], color=VERMILION, linewidth=2)
        beside = right.get_yaxis_transform()  # x from 0 to 1 along the axis, y as the rows
        right.text(1.02, row, f"{middle:.3g}", transform=beside, va="center", fontsize=9)
        medians.append(f"{result['title']} {middle:.3g} (target {result['target']:g})")
    right.axvline(1, color=BLACK, linewidth=0.8, linestyle=":")
    right.set_xscale("log")
    right.set_yticks(range(len(ratios)), [_wrapped(r["title"]) for r in ratios])
    right.set_ylim(max(len(ratios), 1) - 0.5, -0.6)
    right.set_xlabel("our time / the fastest other's (bar: quartiles; upright: target)")
    describe(right, f"Ratios of our time to the fastest other's: {'; '.join(medians) or 'none'}.")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
        ax.tick_params(labelsize=9)
    return whole


def _wrapped(title: str) -> str:
    """Break a long label once, at the comma nearest to its middle."""
    cuts = [hit.end() for hit in re.finditer(", ", title)]
    if len(title) < 30 or not cuts:
        return title
    cut = min(cuts, key=lambda place: abs(place - len(title) / 2))
    return f"{title[:cut].rstrip()}\n{title[cut:]}"


def publish(measured: dict[str, Any], folder: Path) -> list[Path]:
    """Write results.json, figure.png and the generated part of README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    text = results_text(measured)
    measured = json.loads(text)  # what is drawn and listed is what was written
    (folder / "results.json").write_text(text, encoding="utf-8")
    drawn = figure(measured)
    alt = alt_text(drawn)
    (folder / "figure.png").write_bytes(render(drawn, dpi=110))
    write_page(folder / "README.md", measured, alt)
    return [folder / name for name in ("results.json", "figure.png", "README.md")]


def publish_part(
    name: str,
    measured: dict[str, Any],
    table: Callable[[dict[str, Any]], str],
    marks: tuple[str, str],
    folder: Path,
) -> list[Path]:
    """Write NAME.json, and the part of README.md between two marks."""
    folder.mkdir(parents=True, exist_ok=True)
    text = results_text(measured)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    write_between(folder / "README.md", marks[0], table(json.loads(text)), marks[1])
    return [folder / f"{name}.json", folder / "README.md"]
