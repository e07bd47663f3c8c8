"""What `advlearn reproduce` does: a run with a progress bar, then the results in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advlearn.cli.console import say
from advlearn.reproduce import paper
from advlearn.reproduce.engine.run import reproduce
from advlearn.reproduce.report.page import publish, verdict_counts


def run(*, checkout: Path | None, rows: Sequence[str], quick: bool, **options: Any) -> None:
    """Run rows with a progress bar, print each row's numbers, and publish where that is asked.

    Args:
        checkout: the course's checkout to publish into; None publishes nothing.
        rows, quick, **options: as for `advlearn.reproduce.reproduce`.

    Raises:
        ValueError: a quick run, or a run of some rows only, is to be published.
        Exception: whatever `advlearn.reproduce.reproduce` raises.
    """
    from tqdm.auto import tqdm

    if checkout is not None and (quick or rows):
        raise ValueError(
            "--publish needs a full run of all rows: leave out --quick and --rows. Results of "
            "single rows lie in the output folder."
        )
    if checkout is not None and not (checkout / "notebooks").is_dir():
        raise ValueError(
            f"--publish writes into the course's checkout, and {checkout} is not one. Clone the "
            "course's repository and run it there, or leave out --publish."
        )
    with tqdm(unit="item", disable=None) as bar:

        def report(key: str, left: float) -> None:
            bar.total = None
            bar.set_postfix_str(f"{key} done, about {_duration(left)} of work left")
            bar.update()

        outcome = reproduce(rows, quick=quick, progress=report, **options)
    for result in outcome.results.values():
        say(in_words(result))
    say(verdict_counts(outcome.results))
    if quick:
        say("A quick run shows that every row runs. Its numbers mean nothing else.")
    say(f"Results: {outcome.folder / 'results'}")
    if checkout is not None:
        for path in publish(outcome, checkout):
            say(f"wrote {path}")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def in_words(result: Mapping[str, Any]) -> str:
    """Return a row's result as lines of text."""
    lines = [f"{result['id']}: {result['verdict']}"]
    for name, value in result["ours"].items():
        reported = result["paper"].get(name)
        beside = "" if reported is None else f"  (paper {paper.percent(reported)})"
        lines.append(f"    {name}: {paper.written(result, name, value)}{beside}")
    lines += [f"    not as expected: {reason}" for reason in result["because"]]
    return "\n".join(lines)
