"""A class graded over a cluster: the grades of one machine, whatever happens to a worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from advlearn import _cluster
from advlearn.classroom import cluster, station
from advlearn.classroom.grade import Grades, Mark, Store, grade_class
from advlearn.classroom.status import exercise_names
from advlearn.classroom.submissions import Notebook, find
from advlearn.cli.classes import app
from tests.test_classroom_grade import CASES, MINUS, RIGHT, STUB, notebook

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="classes are graded by forking"),
    pytest.mark.usefixtures("one_thread"),
]

HANDED_IN = ("plain", "minus", "stub", "raises", "ends the process", "another cell is broken")
PLAIN = {"another user": False, "no network": True, "no other process": True, "no disk": True}


@pytest.fixture(scope="module")
def two_workers():
    """Two worker processes of one thread each, as `dask scheduler` and `dask worker` would give."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as made:
        yield made


@pytest.fixture
def handed_in(tmp_path: Path) -> Path:
    """What twelve learners hand in."""
    for k in range(12):
        folder = tmp_path / f"in/kim{k}"
        folder.mkdir(parents=True)
        cells = CASES[HANDED_IN[k % len(HANDED_IN)]].cells
        (folder / "x.ipynb").write_bytes(notebook(cells, title=f"# {k}"))
    return tmp_path / "in"


def isolates() -> bool:
    """Tell whether this system keeps learners' code off the network."""
    from advlearn.classroom import runner

    return runner.isolation()["no network"]


def kill_one(made, once_done: Path) -> threading.Thread:
    """Kill a worker that is at work, as soon as something is graded."""

    def wait_and_kill() -> None:
        end = time.monotonic() + 300
        while not list(once_done.glob("*.json")) and time.monotonic() < end:
            time.sleep(0.05)
        busy = max(made.scheduler.workers.values(), key=lambda w: len(w.processing))
        os.kill(made.workers[busy.name].pid, signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


def plain(grades: Grades) -> dict[str, object]:
    return {learner: sorted(marks.values(), key=str) for learner, marks in grades.marks.items()}


def test_one_of_two_workers_is_killed_and_all_are_graded_as_on_one_machine(
    two_workers, handed_in: Path, tmp_path: Path
) -> None:
    killer = kill_one(two_workers, tmp_path / "far")
    told: list[tuple[int, int]] = []
    far = grade_class(
        handed_in, tmp_path / "far", scheduler=two_workers.scheduler_address,
        allow_network=not isolates(), step=lambda *numbers: told.append(numbers),
    )  # fmt: skip
    killer.join()
    # In a process of its own: this one has the exercises loaded.
    command = [sys.executable, "-m", "advlearn.cli", "class", "grade", str(handed_in), "--workers",
               "1", "--out", str(tmp_path / "here")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    # The store is that of one machine, and with nothing left to do no scheduler is asked.
    here = grade_class(handed_in, tmp_path / "here/.work", scheduler="tcp://127.0.0.1:1")
    assert plain(far) == plain(here)
    assert not far.unread
    assert far.isolation == here.isolation
    assert len(far.marks) == 12
    assert told[0] == (0, 12)
    assert told[-1] == (12, 12)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# --- Workers that end, without real grading -------------------------------------------------------


def fake(request: str) -> str:
    """Grade at once; end the worker, as a lack of memory would, where that is asked for."""
    told = json.loads(request)
    if "cells" not in told:
        return json.dumps({"isolation": PLAIN})
    text = told["cells"][0]["source"]
    if "end the worker" in text:
        time.sleep(0.3)
        os._exit(1)
    if "slow" in text:
        time.sleep(0.5)
    if "forged" in text:
        return json.dumps({"isolation": PLAIN, "results": [{"score": 100}]})
    if "fails" in text:
        raise OSError("no space")
    marks = [
        vars(Mark(told["lesson"], name, "RIGHT", 1.0, True, "", ""))
        for name in exercise_names()[told["lesson"]]
    ]
    return json.dumps({"isolation": PLAIN, "results": marks})


def grade_as(monkeypatch, made, texts: list[str], function=fake, once_one_is_done=None):
    """Grade notebooks of one cell; return what is kept of each, and the failures."""
    monkeypatch.setattr(station, "serve", function)
    kept: dict[str, list[Mark]] = {}
    notebooks = [
        Notebook("kim", "03", text, ({"cell_type": "code", "source": text},)) for text in texts
    ]

    def keep(one, marks, isolation) -> None:
        if not kept and once_one_is_done is not None:
            once_one_is_done()
        kept[one.path] = list(marks)

    failures = cluster.grade(notebooks, keep, made.scheduler_address, timeout=5.0)
    return kept, failures


def test_who_ends_workers_again_and_again_is_named_and_the_others_are_graded(
    monkeypatch, two_workers
) -> None:
    texts = [f"slow {k}" for k in range(6)]
    texts[1:1] = ["end the worker"]
    kept, failures = grade_as(monkeypatch, two_workers, texts)
    assert set(kept) == set(texts) - {"end the worker"}
    assert set(failures) == {"end the worker"}
    assert "3 workers ended while they graded it" in failures["end the worker"]


def test_what_a_worker_sends_is_not_believed_and_no_failure_is_silent(
    monkeypatch, two_workers
) -> None:
    kept, failures = grade_as(monkeypatch, two_workers, ["good", "forged", "fails"])
    assert set(kept) == {"good"}
    assert failures["forged"] == "the worker sent something that is no grade"
    assert "OSError: no space" in failures["fails"]


GOOD = [vars(Mark("03", name, "RIGHT", 1.0, True, "", "")) for name in exercise_names()["03"]]


@pytest.mark.parametrize(
    "told",
    [
        None,
        "x",
        [1],
        GOOD[:-1],
        GOOD[::-1],
        [*GOOD, GOOD[0]],
        [GOOD[0] | {"score": 2.0}, *GOOD[1:]],
        [GOOD[0] | {"score": True}, *GOOD[1:]],
        [GOOD[0] | {"score": float("nan")}, *GOOD[1:]],
        [GOOD[0] | {"solved": 1}, *GOOD[1:]],
        [GOOD[0] | {"outcome": "SPLENDID"}, *GOOD[1:]],
        [GOOD[0] | {"outcome": []}, *GOOD[1:]],
        [GOOD[0] | {"feedback": "x" * 200_000}, *GOOD[1:]],
        [GOOD[0] | {"more": 1}, *GOOD[1:]],
        [GOOD[0] | {"lesson": "04"}, *GOOD[1:]],
        [GOOD[0] | {"cell": "1"}, *GOOD[1:]],
    ],
)
def test_grades_that_are_none_are_refused(told: object) -> None:
    with pytest.raises(ValueError, match="grade"):
        cluster._marks(told, "03")
    assert [mark.exercise for mark in cluster._marks(GOOD, "03")] == list(exercise_names()["03"])


# --- What is refused before any work --------------------------------------------------------------


def old(request: str) -> str:
    return json.dumps({"versions": station.versions() | {"PyTorch": "2.3", "advlearn": "0.0.9"}})


def open_to_all(request: str) -> str:
    if "cells" in json.loads(request):
        return fake(request)
    return json.dumps({"isolation": PLAIN | {"no network": False}})


def missing(request: str) -> str:
    raise ModuleNotFoundError("No module named 'advlearn'")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (old, "advlearn 0.0.9, here .*, PyTorch 2.3, here .*installed"),
        (open_to_all, "cannot keep learners' code off the network.*--allow-network"),
        (missing, "No module named 'advlearn'.*Is the course installed there"),
    ],
)
def test_a_worker_that_would_not_grade_alike_is_refused(
    monkeypatch, two_workers, function, words
) -> None:
    with pytest.raises(ValueError, match=rf"(?s)^nothing was graded.*tcp://.*{words}"):
        grade_as(monkeypatch, two_workers, ["good"], function)


def test_a_station_refuses_other_versions_itself() -> None:
    """A worker that joins later is not inspected before: each request names what it needs."""
    one = station.Station()
    try:
        told = json.loads(one.ask(json.dumps({"versions": {"advlearn": "9"}, "cells": []})))
        assert told == {"versions": station.versions()}
        ready = json.loads(one.ask(json.dumps({"versions": station.versions()})))
        assert set(ready) == {"isolation"}
    finally:
        one.close()
    assert not one.alive


def test_a_worker_does_not_load_pytorch() -> None:
    script = "import sys, advlearn.classroom.station; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"


def test_a_station_ends_with_its_worker() -> None:
    script = (
        "from advlearn.classroom.station import Station, versions; import json, time\n"
        "one = Station(); one.ask(json.dumps({'versions': versions()}))\n"
        "print(one._process.pid, flush=True); time.sleep(600)"
    )
    worker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    process = int(worker.stdout.readline())
    worker.kill()
    worker.communicate()
    end = time.monotonic() + 60
    while time.monotonic() < end and runs(process):
        time.sleep(0.1)
    assert not runs(process)


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return False
    return state[0] != "Z"


def free_address() -> str:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_a_cluster_without_workers_and_no_cluster_are_told(monkeypatch, handed_in, tmp_path):
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "WITHOUT_WORKERS", 1.0)
    with (
        LocalCluster(n_workers=0, dashboard_address=None) as empty,
        pytest.raises(ValueError, match=r"has no workers\. Start some with `dask worker tcp:"),
    ):
        grade_class(handed_in, tmp_path / "far", scheduler=empty.scheduler_address)
    monkeypatch.setattr(_cluster, "ANSWER_WITHIN", 1)
    with pytest.raises(ValueError, match=r"no scheduler answers at tcp:.*`dask scheduler`"):
        grade_class(handed_in, tmp_path / "far", scheduler=free_address())
    with pytest.raises(ValueError, match=r"(?s)no scheduler answers at tls:.*TLS__CA_FILE"):
        grade_class(handed_in, tmp_path / "far", scheduler="tls://127.0.0.1:8786")
    assert not list((tmp_path / "far").iterdir())


def test_workers_that_all_end_do_not_keep_the_teacher_waiting(monkeypatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "WITHOUT_WORKERS", 2.0)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as made:
        texts = [f"slow {k}" for k in range(6)]
        with pytest.raises(ValueError, match=r"has no worker left\. What is graded is kept"):
            grade_as(monkeypatch, made, texts, once_one_is_done=lambda: made.scale(0))


FIRST: set[str] = set()  # addresses


def late(request: str) -> str:
    from distributed import get_worker

    return fake(request) if get_worker().address in FIRST else old(request)


def test_a_worker_that_joins_later_with_other_versions_is_not_used(monkeypatch) -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as made:
        FIRST.update(worker.address for worker in made.workers.values())
        texts = [f"slow {k}" for k in range(8)]
        with pytest.warns(RuntimeWarning, match="is not used: advlearn 0.0.9"):
            kept, failures = grade_as(
                monkeypatch, made, texts, late, once_one_is_done=lambda: made.scale(2)
            )
    assert set(kept) == set(texts)
    assert not failures


def test_without_the_extra_its_name_is_given(monkeypatch, handed_in, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    command = ["grade", str(handed_in), "--out", str(tmp_path / "out"), "--scheduler", "tcp://a:1"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "pip install 'advlearn[cluster]'" in done.output
    assert "Without tls:// whoever reaches the cluster" in done.output
    done = CliRunner().invoke(app, [*command, "--workers", "2"])
    assert done.exit_code == 1
    assert "Leave one of them out" in " ".join(done.output.split())


def test_isolation_of_several_machines_is_what_all_of_them_allow(tmp_path: Path) -> None:
    for k, allowed in enumerate((True, False, True)):
        (tmp_path / "in").mkdir(exist_ok=True)
        path = tmp_path / f"in/kim{k}.ipynb"
        path.write_bytes(notebook((RIGHT, MINUS, STUB)[k : k + 1], title=f"# {k}"))
        (one,) = [one for one in find(tmp_path / "in").notebooks if one.path == path.name]
        marks = [Mark("03", name, "RIGHT", 1.0, True, "", "") for name in exercise_names()["03"]]
        Store(tmp_path / "out", 5.0).write(one, marks, {"no network": allowed})
    grades = grade_class(tmp_path / "in", tmp_path / "out", scheduler="tcp://127.0.0.1:1")
    assert grades.isolation == {"no network": False}


# --- TLS ------------------------------------------------------------------------------------------


def test_a_class_is_graded_over_tls(monkeypatch, tmp_path: Path) -> None:
    import dask
    from distributed import LocalCluster, Security

    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    files = {"distributed.comm.tls.ca-file": str(cert)}
    for role in ("client", "scheduler", "worker"):
        files[f"distributed.comm.tls.{role}.cert"] = str(cert)
        files[f"distributed.comm.tls.{role}.key"] = str(key)
    with (
        dask.config.set(files),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
            protocol="tls://", security=Security(require_encryption=True),
        ) as made,
    ):  # fmt: skip
        assert made.scheduler_address.startswith("tls://")
        kept, failures = grade_as(monkeypatch, made, ["good"])
        assert set(kept) == {"good"}
        assert not failures
