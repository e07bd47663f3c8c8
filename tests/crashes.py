"""A browser that crashes under a test is started anew, and the test runs once more.

Chromium's renderer dies now and then for a reason of its own, and takes with it all the tests that
share the page. What stands on the browser is torn down, whatever its scope, and made again for the
second run. A page that crashes the browser itself does so twice, and fails. What was run again is
named at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

import pytest
from _pytest.runner import runtestprotocol
from _pytest.terminal import TerminalReporter

# Playwright's words: of the page that crashed, and of those that went with the whole browser.
CRASHED = re.compile(r"(Page|Target) crashed|Target page, context or browser has been closed")
BROWSERS = {"browser", "playwright"}  # the fixtures that everything in a browser needs
AGAIN = "the browser crashed"


def crashed(reports: Sequence[pytest.TestReport]) -> bool:
    """Tell whether a test failed because its browser was gone."""
    return any(report.failed and CRASHED.search(report.longreprtext) for report in reports)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test of the browser, and once more if the browser crashed under it."""
    if BROWSERS.isdisjoint(getattr(item, "fixturenames", ())):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if crashed(reports):
        with suppress(Exception):  # what is left of a crashed browser cannot be closed in order
            item.session._setupstate.teardown_exact(None)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            report.user_properties.append((AGAIN, item.nodeid))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Name the tests that ran twice."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = (p for report in reports for p in getattr(report, "user_properties", ()))
    if names := sorted({name for why, name in properties if why == AGAIN}):
        terminalreporter.section("the browser crashed, and these ran again")
        for name in names:
            terminalreporter.write_line(name)
