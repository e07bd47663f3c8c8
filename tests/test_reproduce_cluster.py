"""Work on a cluster: the same results, also when a worker is killed; and what can go wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import closing

import pytest
import torch

from advlearn.data import reference
from advlearn.reproduce.engine import plan as schedule
from advlearn.reproduce.engine.plan import Item
from advlearn.reproduce.engine.run import reproduce
from advlearn.reproduce.engine.store import Store
from advlearn.reproduce.models.spec import Scale

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = ("logistic-3v7", "softmax", "l1-linear")


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes, as `dask scheduler` and `dask worker` would give."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The same rows, worked on in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    outcome = reproduce(ROWS, quick=True, out=tmp_path_factory.mktemp("here"))
    torch.set_num_threads(threads)
    return outcome


class Killer:
    """Kill one worker process, once, as soon as the first item is finished."""

    def __init__(self, cluster):
        self._cluster, self.keys, self.killed = cluster, [], None

    def __call__(self, key, left):
        self.keys.append(key)
        if self.killed is None:
            scheduler = self._cluster.scheduler
            # One that is at work or has results that others need.
            busy = max(scheduler.workers.values(), key=lambda w: (len(w.processing), w.nbytes))
            self.killed = self._cluster.workers[busy.name].pid
            os.kill(self.killed, signal.SIGKILL)


def same(first, second):
    for id, result in first.results.items():
        assert result | {"about": None} == second.results[id] | {"about": None}, id
    assert first.attacked == second.attacked
    assert first.weights.keys() == second.weights.keys()
    for key, content in first.weights.items():
        mine, _ = reference.unpack(content)
        theirs, _ = reference.unpack(second.weights[key])
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert a.equal(b), key


def test_a_killed_worker_costs_nothing_but_time(cluster, here, tmp_path):
    """One of two workers dies in the middle of a run, given by its scheduler's address."""
    assert cluster.scheduler_address.startswith("tcp://")
    killer = Killer(cluster)
    outcome = reproduce(
        ROWS, quick=True, out=tmp_path, scheduler=cluster.scheduler_address, progress=killer
    )
    assert killer.killed is not None
    with pytest.raises(ProcessLookupError):
        os.kill(killer.killed, 0)
    assert len(killer.keys) == len(set(killer.keys)), "an item was kept twice"
    assert sorted(killer.keys) == sorted(p.stem for p in (tmp_path / "items").glob("*.item"))
    same(outcome, here)


def test_what_was_finished_before_survives_a_killed_worker_too(cluster, here, tmp_path):
    """On resume finished models are sent to workers; one dies with them."""
    store = Store(tmp_path / "items")
    for path in (here.folder / "items").glob("train-*.item"):
        (store.folder / path.name).write_bytes(path.read_bytes())
    killer = Killer(cluster)
    outcome = reproduce(
        ROWS,
        quick=True,
        out=tmp_path,
        resume=True,
        scheduler=cluster.scheduler_address,
        progress=killer,
    )
    assert killer.killed is not None
    assert not [key for key in killer.keys if key.startswith("train-")], "trained again"
    same(outcome, here)


def test_an_item_that_fails_names_itself_and_the_others_are_done(cluster, tmp_path):
    scale = Scale(quick=True)
    items = [
        Item("train", "no-such-model", 0, (), 1.0, ""),
        Item("attack", "no-such-model", 0, ("train-no-such-model-0",), 1.0, ""),
        Item("train", "logistic-3v7", 0, (), 1.0, ""),
        Item("attack", "logistic-3v7", 0, ("train-logistic-3v7-0",), 1.0, ""),
    ]
    store = Store(tmp_path)
    with pytest.raises(
        ValueError, match=r"^train-no-such-model-0 failed: .*no-such-model.*--resume"
    ):
        schedule.run(items, store, scale, images={}, scheduler=cluster.scheduler_address)
    assert store.finished() == ["attack-logistic-3v7-0", "train-logistic-3v7-0"]


def test_two_runs_of_one_process_do_not_take_each_other_s_results(cluster, here):
    """A scheduler knows tasks by their names alone, and keeps what someone still holds."""
    item = Item("attack", "softmax", 0, ("train-softmax-0",), 1.0, "")
    trained = here.weights["softmax", 0]
    untrained = reference.pack(
        reference.build("SoftmaxRegression", {}), "SoftmaxRegression", {}, {}
    )
    work = schedule._on_cluster(cluster.scheduler_address, 0)
    with (
        closing(work([item], {"train-softmax-0": trained}, Scale(quick=True))) as first,
        closing(work([item], {"train-softmax-0": untrained}, Scale(quick=True))) as second,
    ):
        one, other = (json.loads(next(run)[1])["values"] for run in (first, second))
    assert one == here.attacked["softmax", 0]
    assert other["clean error"]["count"] > 2 * one["clean error"]["count"]


# --- No cluster -----------------------------------------------------------------------------------


def free_address():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("address", [None, "nonsense", "ftp://here:1"])
def test_no_scheduler_at_the_address_is_said_before_any_work(monkeypatch, tmp_path, address):
    address = address or free_address()
    monkeypatch.setattr(schedule._cluster, "ANSWER_WITHIN", 1)
    with pytest.raises(
        ValueError, match=rf"no scheduler answers at {address}.*Start one with `dask scheduler`"
    ):
        reproduce(("softmax",), quick=True, out=tmp_path, scheduler=address)
    assert list((tmp_path / "items").iterdir()) == []


@pytest.mark.parametrize("options", [{"scheduler": "tcp://here:8786"}, {"workers": 2}], ids=str)
def test_without_the_extra_its_name_is_given(monkeypatch, tmp_path, options):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'advlearn\[cluster\]'"):
        reproduce(("softmax",), quick=True, out=tmp_path, **options)


def test_in_process_the_extra_is_not_needed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    outcome = reproduce(("softmax",), quick=True, out=tmp_path)
    assert set(outcome.results) == {"softmax"}
