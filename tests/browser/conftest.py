"""One server and one browser for all tests; the table of delays at the end."""

from __future__ import annotations

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

from tests.browser import latency
from tests.browser.lab import OUT, ROOT, NoBrowserError, desk

ROWS = pytest.StashKey[list]()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the lessons, and a browser in front of it."""
    folder = tmp_path_factory.mktemp("course") / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder)
    try:
        with (
            sync_playwright() as playwright,
            desk(playwright, folder, tmp_path_factory.mktemp("jupyter")) as ready,
        ):
            yield ready
    except NoBrowserError as error:
        pytest.exit(str(error), returncode=3)


@pytest.fixture(scope="session")
def pictures():
    """The folder for screenshots, emptied of those of an earlier run."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    return OUT


@pytest.fixture(scope="session")
def delays(request, pictures):
    """The rows of the table; written whenever the run ends."""
    rows = request.config.stash[ROWS] = []
    yield rows
    latency.write(rows, pictures)


def pytest_terminal_summary(terminalreporter, config):
    if rows := config.stash.get(ROWS, []):
        terminalreporter.section("from key press to picture")
        terminalreporter.write(latency.markdown(rows))
        if hasattr(os, "getloadavg"):
            load = os.getloadavg()[1]
            terminalreporter.write(f"\nload of the machine: {load:.1f} on {os.cpu_count()} cores\n")
