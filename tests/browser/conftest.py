"""One server and one browser for each worker; the table of delays at the end."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import asdict

import pytest
from playwright.sync_api import sync_playwright
from xdist.scheduler import LoadScopeScheduling

from tests.browser import latency
from tests.browser.lab import OUT, ROOT, NoBrowserError, desk

ROWS = pytest.StashKey[list]()


def pytest_sessionstart(session):
    """Empty the folder of screenshots of those of an earlier run, before any worker starts."""
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(OUT, ignore_errors=True)
        session.config.stash[ROWS] = []


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of one lesson, and those of any other file, on one worker."""

    class ByLesson(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            lesson = re.search(r"\[(\d\d_\w+)\]$", nodeid)
            return lesson[1] if lesson else nodeid.partition("::")[0]

    return ByLesson(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Collect the rows that a worker has measured."""
    rows = getattr(node, "workeroutput", {}).get("delays", [])
    node.config.stash[ROWS] += [latency.Row(**row) for row in rows]


@pytest.fixture(scope="session")
def playwright():
    """What drives browsers: one process can have only one of it."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def lab(playwright, tmp_path_factory):
    """JupyterLab on a copy of the lessons, and a browser in front of it."""
    folder = tmp_path_factory.mktemp("course") / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder)
    try:
        with desk(playwright, folder, tmp_path_factory.mktemp("jupyter")) as ready:
            yield ready
    except NoBrowserError as error:
        pytest.exit(str(error), returncode=3)


@pytest.fixture(scope="session")
def pictures():
    """The folder for screenshots."""
    OUT.mkdir(parents=True, exist_ok=True)
    return OUT


@pytest.fixture(scope="session")
def delays(request):
    """The rows of the table."""
    rows = []
    yield rows
    if hasattr(request.config, "workeroutput"):
        # A browser that was started anew has its own rows.
        output = request.config.workeroutput
        output["delays"] = [*output.get("delays", []), *(asdict(row) for row in rows)]
    else:
        request.config.stash[ROWS] += rows


def pytest_terminal_summary(terminalreporter, config):
    if rows := sorted(config.stash.get(ROWS, []), key=lambda row: row.lesson):
        latency.write(rows, OUT)
        terminalreporter.section("from key press to picture")
        terminalreporter.write(latency.markdown(rows))
        if hasattr(os, "getloadavg"):
            load = os.getloadavg()[1]
            terminalreporter.write(f"\nload of the machine: {load:.1f} on {os.cpu_count()} cores\n")
