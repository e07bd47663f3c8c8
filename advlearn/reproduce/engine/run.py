"""One call from rows to results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advlearn._validation import check_choice, check_count
from advlearn.data import data_folder
from advlearn.reproduce.engine import plan as schedule
from advlearn.reproduce.engine.store import Store, write_or_say_why
from advlearn.reproduce.models.images import as_read, digest, images
from advlearn.reproduce.models.recipes import MODELS, SHIPPED
from advlearn.reproduce.models.spec import Scale
from advlearn.reproduce.rows import EXPERIMENTS
from advlearn.reproduce.rows.experiment import Experiment
from advlearn.reproduce.verdicts import from_json, result, versions


@dataclass(frozen=True)
class Outcome:
    """What a run gave: the rows' results, the trained models, what attacks did to them, a folder.

    Models are found by (name, seed).
    """

    results: dict[str, dict[str, Any]]
    weights: dict[tuple[str, int], bytes]
    attacked: dict[tuple[str, int], dict[str, Any]]
    folder: Path


def reproduce(
    rows: Sequence[str] = (),
    *,
    seeds: int | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    quick: bool = False,
    resume: bool = False,
    scheduler: str | None = None,
    workers: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Outcome:
    """Run rows of the paper, keep every finished item, and write a result for each row.

    Args:
        rows: ids of `advlearn.reproduce.paper.ROWS`; none means all.
        seeds: at most so many repetitions of each row; None for each row's own number.
        data_dir: where MNIST and CIFAR-10 lie; None as for `advlearn.data.load_mnist`.
        out: the folder of finished items and of `results/`; None means `reproduction/` (or
            `reproduction-quick/`) in the data folder.
        quick: small models, moments of training, the offline digits: shows that the code runs.
        resume: go on with what an earlier run has finished there.
        scheduler: address of a Dask scheduler, such as `tcp://host:8786`.
        workers: without a scheduler, so many processes here; 0 works in this process.
        progress: called with a line about each finished item and the seconds left.

    Raises:
        TypeError, ValueError: an argument is wrong, or an item failed; finished items are kept.
        FileExistsError: there are finished items, and `resume` is False.
        FileNotFoundError, DownloadError: the data are not here and cannot be had.
        OSError: a finished item or a result could not be written.
    """
    for id in rows:
        check_choice(id, "row", tuple(EXPERIMENTS))
    if seeds is not None:
        check_count(seeds, "seeds")
    check_count(workers, "workers", least=0)
    scale = Scale(quick=quick, data_dir=None if data_dir is None else str(data_dir))
    place = "reproduction-quick" if quick else "reproduction"
    folder = Path(out) if out is not None else data_folder() / place
    chosen = [EXPERIMENTS[id] for id in rows or EXPERIMENTS]
    # A run of all rows also trains the models that are published and belong to no row; a quick one
    # trains one of each kind.
    also = [one for members in SHIPPED.values() for one in members[: 1 if quick else None]]
    items = schedule.plan(chosen, seeds, scale, () if rows else also)
    # The data are looked for before any work: a run must not fail at its last row for a file.
    kinds = {MODELS[item.name].data for item in items if item.kind == "train"}
    data = {kind: images(kind, "test", scale) for kind in sorted(kinds)}
    store = Store(folder / "items")
    if (finished := store.finished()) and not resume:
        raise FileExistsError(
            f"{folder} holds {len(finished)} finished items. Run again with --resume to go on "
            "with them, or pass --out ANOTHER_FOLDER."
        )

    def report(item: schedule.Item, left: float) -> None:
        if progress is not None:
            progress(item.key, left)

    done = schedule.run(
        items,
        store,
        scale,
        images={kind: digest(kind, scale) for kind in data},
        scheduler=scheduler,
        workers=workers,
        progress=report,
    )
    about = {
        "data": {kind: part.note for kind, part in data.items()},
        "data sha256": {
            kind: hashlib.sha256(as_read(kind, "test", scale).x.numpy().tobytes()).hexdigest()
            for kind in data
        },
        "versions": versions(),
        "scale": "quick" if quick else "full",
    }
    results = {}
    for experiment in chosen:
        results[experiment.id] = _result(experiment, items, done, about)
        write_json(folder / "results" / f"{experiment.id}.json", results[experiment.id])
    weights = {(item.name, item.seed): done[item.key] for item in items if item.kind == "train"}
    attacked = {
        (item.name, item.seed): json.loads(done[item.key])["values"]
        for item in items
        if item.kind == "attack"
    }
    return Outcome(results, weights, attacked, folder)


def _result(
    experiment: Experiment,
    items: Sequence[schedule.Item],
    done: dict[str, bytes],
    about: dict[str, Any],
) -> dict[str, Any]:
    own = [item for item in items if item.kind == "measure" and item.name == experiment.id]
    loaded = [json.loads(done[item.key]) for item in own]
    return result(
        experiment,
        [from_json(one["values"]) for one in loaded],
        about=about | {"seconds of measuring": round(sum(one["seconds"] for one in loaded), 1)},
    )


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one step: a reader sees the old file or the new one, never half of it.

    Raises:
        StoreError: it could not be written; the message says what to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=False) + "\n"
    write_or_say_why(
        path,
        text.encode(),
        lambda reason, remedy: (
            f"{path} could not be written ({reason}). All finished items are kept. {remedy}, then "
            "run again with --resume."
        ),
    )
