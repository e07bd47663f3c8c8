"""`python -m advlearn.reproduce.report.brackets`: both ends of every published model's error.

It is for a checkout of the course. Each model of `data/weights` that classifies digits meets
`advlearn.evaluate` on offline digits, on which no model was trained, at each of `SIZES`. That takes
about half an hour. The numbers go to `data/brackets`, with a page, a picture and a table in README;
`--pages` writes those three anew from the numbers. A test compares them, and each model's hash.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advlearn._atomic import write_atomically
from advlearn._bounded import parse_json, read_plain
from advlearn.data import Dataset, load_mnist, reference, subset_classes
from advlearn.data.folders import CHECKOUT
from advlearn.evaluation import Bracket, evaluate
from advlearn.metrics import Rate
from advlearn.reproduce import paper
from advlearn.reproduce.engine.run import write_json
from advlearn.reproduce.models.recipes import MODELS, SHIPPED
from advlearn.reproduce.rows import EXPERIMENTS

SIZES = (0.1, 0.25, 0.3)
"""eps: where plain networks fall; that of the paper's rows; that of the robust networks."""

BUDGET = "standard"

DRAWN = ("maxout", "maxout-adversarial", "maxout-masked", "ensemble", "robust", "certified")
"""The models of the picture, and of the table that README shows at once."""

BEGIN, END = "<!-- brackets: made by advlearn.reproduce.report.brackets -->", "<!-- end -->"

_EXPLAINED = (
    "Two numbers for each model and eps, in percent of the digits: to the left what the team of "
    "attacks of `advlearn.evaluate` broke, to the right what is not *proved* to stand. The true "
    "error under the worst attack lies between them. Where nothing can be proved, the right end is "
    "open (100). The left number alone, however small, says only that these attacks failed."
)


def images(model: str) -> Dataset:
    """Return the offline test digits that a published model classifies.

    Example:
        >>> images("logistic-3v7").n
        200
    """
    digits = load_mnist("test", source="offline")
    kind = MODELS[SHIPPED[model][0][0]].data
    return subset_classes(digits, (3, 7)) if kind == "3v7" else digits


def measured_models() -> tuple[str, ...]:
    """Return the published models that are measured: all but the network for CIFAR-10.

    Its images are not part of the course.
    """
    return tuple(name for name in SHIPPED if MODELS[SHIPPED[name][0][0]].data != "cifar")


def rows_of(model: str) -> list[str]:
    """Return the rows of the paper that train a published model's recipe.

    Example:
        >>> rows_of("generative")
        ['generative']
    """
    inner = SHIPPED[model][0][0]
    return [
        id for id, one in EXPERIMENTS.items() if inner in {name for name, _ in one.needs(seed=0)}
    ]


def measure(models: Sequence[str], sizes: Sequence[float] = SIZES) -> dict[str, Any]:
    """Evaluate models at each eps, and return what `brackets.json` holds."""
    index = reference.index()
    found = {}
    for name in models:
        model, data = reference.load(name), images(name)
        ends = {}
        for eps in sizes:
            one = evaluate(model, data, eps, budget=BUDGET, progress=False)
            ends[f"{eps:g}"] = {
                "clean": one.clean.count,
                "attacked": one.attacked.count,
                "uncertified": None if one.certified is None else one.certified.count,
                "because": one.uncertified_because,
                "total": one.clean.total,
                "by": {attack: rate.count for attack, rate in one.by_attack.items()},
                "seconds": round(one.seconds, 1),
            }
            print(f"{name}, {one}", flush=True)
        found[name] = {"sha256": index[name]["sha256"], "ends": ends}
    return {"budget": BUDGET, "models": found}


def _written(ends: Mapping[str, Any]) -> str:
    """Return both ends of a bracket, such as "8.9 to 15.4"."""
    low = 100 * ends["attacked"] / ends["total"]
    if ends["uncertified"] is None:
        return f"{low:.1f} to 100"
    return f"{low:.1f} to {100 * ends['uncertified'] / ends['total']:.1f}"


def table(measured: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """Return a table of some models, or of all: a model in a line, an eps in a column."""
    models = {name: measured["models"][name] for name in names or measured["models"]}
    sizes = list(next(iter(models.values()))["ends"])
    lines = ["| model | clean error (%) |" + "".join(f" eps {eps} |" for eps in sizes)]
    lines.append("|---|---:|" + "---:|" * len(sizes))
    for name, one in models.items():
        first = next(iter(one["ends"].values()))
        cells = [f"`{name}`", f"{100 * first['clean'] / first['total']:.1f}"]
        cells += [_written(one["ends"][eps]) for eps in sizes]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(measured: Mapping[str, Any], alt: str) -> str:
    """Return the page `data/brackets/README.md`."""
    parts = [
        "# Both ends of each model's error",
        "",
        _EXPLAINED,
        "",
        f"Measured by `python -m advlearn.reproduce.report.brackets` on offline digits, on which "
        f'none of the models was trained; pixels stay in [0, 1]; budget "{measured["budget"]}". '
        "The network for CIFAR-10 is not here, because its images are not part of the course.",
        "",
        f"![{alt}](brackets.png)",
        "",
        table(measured),
        "",
        "## What broke the digits, with intervals",
        "",
        "Brackets hold Wilson's 95 % interval over the digits.",
        "",
        "| model | rows of the paper | eps | error under attack | certified error | broken by |",
        "|---|---|---:|---|---|---|",
    ]
    reasons = {}
    for name, one in measured["models"].items():
        for eps, ends in one["ends"].items():
            total = ends["total"]
            by = [f"clean errors {ends['clean']}"]
            by += [f"{attack} {count}" for attack, count in ends["by"].items() if count]
            if ends["uncertified"] is None:
                proved = "nothing is proved"
                reasons[name] = ends["because"]
            else:
                proved = f"{Rate(ends['uncertified'], total)}"
            cells = [
                f"`{name}`", ", ".join(rows_of(name)), eps, f"{Rate(ends['attacked'], total)}",
                proved, ", ".join(by),
            ]  # fmt: skip
            lines = " | ".join(cells)
            parts.append(f"| {lines} |")
    if reasons:
        parts += ["", "Why nothing is proved:", ""]
        parts += [f"- `{name}`: {reason}" for name, reason in reasons.items()]
    return "\n".join(parts) + "\n"


def with_brackets(text: str, measured: Mapping[str, Any]) -> str:
    """Return a README with the tables between their two marks made anew.

    Raises:
        ValueError: the marks are missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"the README lacks the lines {BEGIN!r} and {END!r}.")
    whole = f"<details><summary>All models</summary>\n\n{table(measured)}\n\n</details>"
    made = f"{BEGIN}\n{table(measured, DRAWN)}\n\n{whole}\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: made, text, flags=re.S)


def _bracket(ends: Mapping[str, Any], eps: str) -> Bracket:
    total, proved = ends["total"], ends["uncertified"]
    return Bracket(
        float(eps), BUDGET, Rate(ends["clean"], total), Rate(ends["attacked"], total),
        None if proved is None else Rate(proved, total), ends["because"], (), {},
    )  # fmt: skip


def draw(measured: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the picture of both ends as PNG, and its alt text."""
    import matplotlib.pyplot as plt

    from advlearn import plotting

    sizes = list(next(iter(measured["models"].values()))["ends"])
    shown = {name: measured["models"][name]["ends"] for name in DRAWN if name in measured["models"]}
    figure, axes = plt.subplots(
        len(sizes), 1, figsize=(7.6, 0.36 * len(sizes) * len(shown) + 2.2), layout="constrained"
    )
    said = []
    for ax, eps in zip(axes, sizes, strict=True):
        plotting.bracket({name: _bracket(ends[eps], eps) for name, ends in shown.items()}, ax=ax)
        said.append(plotting.alt_text(ax))
        if ax is not axes[0]:
            ax.get_legend().remove()
    return plotting.render(figure, dpi=110), " ".join(said)


def pages(checkout: Path) -> dict[Path, str]:
    """Return what is made of `brackets.json`: path -> text, for its page and README."""
    folder = checkout / "data" / "brackets"
    measured = parse_json(read_plain(folder / "brackets.json", paper.MOST_BYTES))
    readme = checkout / "README.md"
    return {
        folder / "README.md": page(measured, measured["alt"]),
        readme: with_brackets(readme.read_text(encoding="utf-8"), measured),
    }


def main(arguments: Sequence[str]) -> None:
    """Measure, unless `--pages` asks for the pages alone, and write everything."""
    folder = CHECKOUT / "data" / "brackets"
    path = folder / "brackets.json"
    if "--pages" in arguments:
        measured = parse_json(read_plain(path, paper.MOST_BYTES))
    else:
        measured = measure(measured_models())
    picture, measured["alt"] = draw(measured)
    write_json(path, measured)
    write_atomically(folder / "brackets.png", picture)
    for made, text in pages(CHECKOUT).items():
        write_atomically(made, text)


if __name__ == "__main__":
    main(sys.argv[1:])
