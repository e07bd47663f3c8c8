"""Which items a run consists of, and who works on them: this process, or a cluster of workers."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from advlearn import _cluster
from advlearn.data.reference import ARCHITECTURES
from advlearn.reproduce.engine import work
from advlearn.reproduce.engine.fingerprint import Code
from advlearn.reproduce.engine.store import Store
from advlearn.reproduce.measures import effort
from advlearn.reproduce.models.images import whitened
from advlearn.reproduce.models.recipes import MODELS
from advlearn.reproduce.models.spec import ModelSpec, Scale
from advlearn.reproduce.rows.experiment import Experiment


@dataclass(frozen=True)
class Item:
    """One piece of work: the function `advlearn.reproduce.engine.work.<kind>` with what it needs.

    Args:
        kind: "train", "attack" or "measure".
        name: of a model, or for "measure" of a row.
        seed: which repetition.
        needs: keys of the items whose content it is given.
        seconds: about how long it takes.
        decides: what decides its content, as JSON; with the images and the items that it needs,
            its identity.
        images: which it is given, or "" for those of the items that it needs.
    """

    kind: str
    name: str
    seed: int
    needs: tuple[str, ...]
    seconds: float
    decides: str
    images: str = ""

    @property
    def key(self) -> str:
        """The name of its file."""
        return f"{self.kind}-{self.name}-{self.seed}"


# What decides the content of each kind of item. No sentence that people read is among it: another
# word in a remark, a reason or a docstring must not cost a training.


def _decides_training(model: ModelSpec, scale: Scale, seed: int, code: Code) -> str:
    options, recipe = model.sized(scale, seed)
    return _json(
        architecture=[model.architecture, code.fingerprint(ARCHITECTURES[model.architecture])],
        options=options,
        recipe=recipe.as_dict(),
        method=code.fingerprint(model.method),
        half=model.half,
        work=code.fingerprint(work.train),
        images=_prepared(model.data, code),
        quick=scale.quick,
    )


def _decides_attack(model: ModelSpec, scale: Scale, code: Code) -> str:
    return _json(
        eps=model.attack_eps,
        examples=model.attack_examples,
        effort=asdict(work.attack_effort(model, scale)),
        work=code.fingerprint(work.attack),
        images=_prepared(model.data, code),
        quick=scale.quick,
    )


def _decides_measurement(experiment: Experiment, scale: Scale, code: Code) -> str:
    return _json(
        measure=code.fingerprint(experiment.measure),
        effort=asdict(effort(quick=scale.quick)) if experiment.runs_pgd else None,
        work=code.fingerprint(work.measure),
        quick=scale.quick,
    )


def _prepared(kind: str, code: Code) -> list[str | None]:
    """Return what is done to images after they are read; what was read enters by its hash."""
    return [kind, code.fingerprint(whitened) if kind == "cifar" else None]


def _json(**parts: Any) -> str:
    return json.dumps(parts, sort_keys=True)


def plan(
    experiments: Sequence[Experiment],
    seeds: int | None,
    scale: Scale,
    also: Iterable[tuple[str, int]] = (),
    *,
    code: Code | None = None,
) -> list[Item]:
    """Return all items of a run, each after those that it needs.

    Args:
        experiments: the rows.
        seeds: at most so many repetitions of each row; None for each row's own number.
        scale: full or quick.
        also: models with their seeds that are trained whether or not a row needs them.
        code: of the project; None means the installed one.
    """
    code = code or Code()
    items: dict[str, Item] = {}

    def add(item: Item) -> str:
        items.setdefault(item.key, item)
        return item.key

    def trained(name: str, seed: int) -> list[str]:
        model = MODELS[name]
        decides = _decides_training(model, scale, seed, code)
        speed = 0.02 if scale.quick else 1.0
        # A detector is trained on the attacks of another model.
        needs = tuple(key for other in model.after for key in trained(other, seed)[:1])
        seconds = model.seconds * speed
        keys = [add(Item("train", name, seed, needs, seconds, decides, model.data))]
        if model.attack_eps is not None:
            decides = _decides_attack(model, scale, code)
            keys.append(add(Item("attack", name, seed, (keys[0],), 20.0 * speed, decides)))
        return keys

    for experiment in experiments:
        decides = _decides_measurement(experiment, scale, code)
        for seed in range(repetitions(experiment, seeds)):
            needs: list[str] = []
            for name, own in experiment.needs(seed, quick=scale.quick):
                needs += trained(name, own)
            seconds = experiment.seconds * (0.1 if scale.quick else 1.0)
            add(Item("measure", experiment.id, seed, tuple(needs), seconds, decides))
    for name, seed in also:
        trained(name, seed)
    return list(items.values())


def repetitions(experiment: Experiment, seeds: int | None) -> int:
    """Return how many seeds of a row are run."""
    return experiment.seeds if seeds is None else min(seeds, experiment.seeds)


def identities(items: Iterable[Item], images: Mapping[str, str]) -> dict[str, str]:
    """Return each item's identity: a hash of what decides it and of the items that it needs.

    Args:
        items: from `plan`.
        images: kind of images -> a hash of them, see `advlearn.reproduce.models.images.digest`.
    """
    known: dict[str, str] = {}
    for item in items:
        read = images.get(item.images, "")
        parts = [item.key, item.decides, read, *(known[need] for need in item.needs)]
        known[item.key] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    return known


Progress = Callable[[Item, float], None]
"""Called after each finished item, with the seconds of work that are left by the estimates."""


def run(
    items: Sequence[Item],
    store: Store,
    scale: Scale,
    *,
    images: Mapping[str, str],
    scheduler: str | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> dict[str, bytes]:
    """Do what is not finished yet, keep each item as it ends, and return every item's content.

    Args:
        items: from `plan`.
        store: where finished items are kept; those that are there are not done again.
        scale: full or quick.
        images: as for `identities`.
        scheduler: address of a Dask scheduler, such as "tcp://host:8786"; its workers do the work.
        workers: without a scheduler, so many processes on this machine; 0 works in this process.
        progress: see `Progress`.

    Raises:
        StoreError: an item could not be kept. Those before it are.
        ValueError: an item failed; the message names it. Here, the run stops at once; on a cluster,
            all that does not need it is done first. Finished items are kept.
        ModuleNotFoundError: `scheduler` or `workers` without the extra "cluster".
    """
    identity = identities(items, images)
    done: dict[str, bytes] = {}
    todo = []
    for item in items:
        sound = partial(work.sound, item.kind, item.name, item.seed, scale)
        content = store.get(item.key, identity[item.key], sound)
        if content is None:
            todo.append(item)
        else:
            done[item.key] = content
    left = sum(item.seconds for item in todo)
    source = _in_process if scheduler is None and not workers else _on_cluster(scheduler, workers)
    # Closed when an item cannot be kept, or at Ctrl-C: workers must not go on for nobody.
    with closing(source(todo, done, scale)) as finished:
        for item, content in finished:
            store.put(item.key, identity[item.key], content)
            done[item.key] = content
            left -= item.seconds
            if progress is not None:
                progress(item, left)
    return done


Finished = Generator[tuple[Item, bytes], None, None]


def _in_process(todo: Sequence[Item], done: Mapping[str, bytes], scale: Scale) -> Finished:
    for item in todo:
        try:
            content = work.do(
                item.kind, item.name, item.seed, scale, {k: done[k] for k in item.needs}
            )
        except Exception as error:  # whatever it is, people must know in which item
            raise ValueError(_failed(item, error)) from error
        yield item, content


def _failed(item: Item, error: BaseException) -> str:
    reason = str(error).strip() or type(error).__name__
    end = "" if reason.endswith((".", "!", "?")) else "."
    return (
        f"{item.key} failed: {reason}{end} Finished items are kept; mend it, then run again with "
        "--resume."
    )


def _given(content: bytes) -> bytes:
    """Return an item that is finished already, as a task.

    What is only laid into a worker's memory is lost with the worker; a task is done again.
    """
    return content


_INSTEAD = "leave out --scheduler and --workers"


def _on_cluster(
    scheduler: str | None, workers: int
) -> Callable[[Sequence[Item], Mapping[str, bytes], Scale], Finished]:
    distributed = _cluster.distributed(_INSTEAD)
    import dask

    @contextmanager
    def connected() -> Iterator[Any]:
        if scheduler is not None:
            with _cluster.connected(scheduler, _INSTEAD, default=True) as client:
                yield client
            return
        with (
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client

    def results(todo: Sequence[Item], done: Mapping[str, bytes], scale: Scale) -> Finished:
        if not todo:
            return
        # A scheduler is shared: the names of tasks must be of this run alone.
        run = uuid.uuid4().hex
        # Dask warns of tasks of more than 10 MB; a wide network's weights are meant to be one.
        quiet = {"distributed.admin.large-graph-warning-threshold": "1 GB"}
        with dask.config.set(quiet), connected() as client:
            futures: dict[str, Any] = {}
            wanted = {need for item in todo for need in item.needs}
            for key in sorted(wanted & done.keys()):
                futures[key] = client.submit(_given, done[key], key=f"advlearn-{key}-{run}")
            for item in todo:
                # A worker that dies costs only what it was doing: Dask gives that to another one.
                futures[item.key] = client.submit(
                    work.do,
                    item.kind,
                    item.name,
                    item.seed,
                    scale,
                    {key: futures[key] for key in item.needs},
                    key=f"advlearn-{item.key}-{run}",
                )
            of = {futures[item.key].key: item for item in todo}
            failed: dict[str, BaseException] = {}
            for future in distributed.as_completed([futures[item.key] for item in todo]):
                item = of[future.key]
                error = future.exception()
                if error is not None:
                    failed[item.key] = error
                else:
                    yield item, future.result()
            # In the plan an item comes after those that it needs: the first one is the cause.
            for item in todo:
                if item.key in failed:
                    raise ValueError(_failed(item, failed[item.key])) from failed[item.key]

    return results
