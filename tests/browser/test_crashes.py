"""A page that crashes once costs a second run of its test; one that always crashes fails."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.browser.lab import ROOT

CONFTEST = """
import pytest
from playwright.sync_api import sync_playwright
from tests.browser.lab import launch
from tests.crashes import pytest_runtest_protocol, pytest_terminal_summary

@pytest.fixture(scope="session")
def playwright():
    with sync_playwright() as started:
        yield started

@pytest.fixture(scope="module")
def page(playwright):
    browser = launch(playwright)
    page = browser.new_page()
    yield page
    page.goto("about:blank")  # as `Desk.tidy` does: it fails on a page that has crashed
    browser.close()
"""
TESTS = """
import os
import signal
from pathlib import Path

def crash(page):
    # No address of Chromium's does it in every version: the process itself is ended.
    session = page.context.browser.new_browser_cdp_session()
    for process in session.send("SystemInfo.getProcessInfo")["processInfo"]:
        if process["type"] == "renderer":
            os.kill(process["id"], signal.SIGKILL)
    page.set_content("<p>never</p>", timeout=5000)

def ran(name):
    with Path(name).open("a") as stream:
        stream.write("x")
    return Path(name).read_text().count("x")

def test_before(page):
    page.set_content("<p>before</p>")

def test_once(page):
    if ran("once") == 1:
        crash(page)
    page.set_content("<p>again</p>")

def test_after(page):
    ran("after")
    assert page.inner_text("p") == "again", "the page is the new one"

def test_always(page):
    ran("always")
    crash(page)

def test_wrong(page):
    assert ran("wrong") == 0

def test_without_a_browser():
    ran("without")
    raise RuntimeError("Page crashed")
"""


def test_what_crashed_runs_once_more(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_pages.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1"]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", "test_pages.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    for name, times in (("once", 2), ("after", 1), ("always", 2), ("wrong", 1), ("without", 1)):
        assert (tmp_path / name).read_text() == times * "x", name
    summary = done.stdout.partition("the browser crashed, and these ran again")[2]
    assert "test_pages.py::test_once\n" in summary
    assert "test_pages.py::test_always\n" in summary
    assert "test_after\n" not in summary
