"""A learner comes back to a lesson: JupyterLab is started anew, and so is the kernel."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from advlearn.course import record
from advlearn.course.notebooks import SECOND_DAY
from tests.browser import checks, small
from tests.browser.lab import IDLE, Desk, serve
from tests.browser.small import DRAW, PROGRESS, SET_UP, WRITE
from tests.browser.widget import Widget

NAME = "second_day.ipynb"


@pytest.fixture(scope="module")
def saved(lab):
    """The small lesson as a learner has run and saved it; its kernel is gone."""
    small.write(lab.server.folder / NAME)
    # Other lessons may have been solved on this server before.
    (lab.server.log.parent / "progress" / record.FILE).unlink(missing_ok=True)
    lesson = lab.open(NAME)
    assert checks.ran(lesson.run_all()) == []
    root = lesson.scroll_to(DRAW).locator(".advlearn-explorer")
    root.wait_for()
    expect(lesson.page.locator(".advlearn-still")).to_be_hidden()
    assert checks.mouse(Widget(root)) == []
    lesson.save()
    lab.tidy()
    assert lab.server.ask("kernels") == []
    return NAME


@pytest.fixture(scope="module")
def again(lab, saved):
    """The saved lesson, opened on another day: by another server, which starts another kernel."""
    with serve(lab.server.folder, lab.server.log.parent) as server:
        other = Desk(lab.browser, server, lab.context)
        yield other.open(saved)
        other.tidy()


def test_a_picture_without_its_kernel_is_shown_and_no_error(again, pictures):
    """JupyterLab starts a new kernel, which knows nothing of the old one's pictures."""
    page = again.page
    page.wait_for_function(IDLE, timeout=60_000)
    cell = again.scroll_to(DRAW)
    image = cell.locator(".advlearn-still img")
    expect(image).to_be_visible()
    assert image.evaluate("(image) => image.complete && image.naturalWidth") > 100
    # The words of JupyterLab come late. They are there, and nobody sees them.
    error = cell.get_by_text("model not found")
    error.wait_for(state="attached")
    expect(error).to_be_hidden()
    page.screenshot(path=pictures / "without-kernel.png")


def test_progress_is_known_to_a_new_server_and_its_kernel(again):
    """Nothing is solved anew: only the set-up cell is run, and the last one."""
    again.run(SET_UP)
    printed = again.run(PROGRESS).stream("stdout")
    assert printed.startswith("1 of 5 exercises right")
    assert again.cells()[WRITE].count == 2, "it was not run"


def test_the_cells_above_are_run_by_the_menu_that_the_lesson_names(again):
    again.choose(PROGRESS)
    again.page.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
    name = "Run All Above Selected Cell"
    assert name in SECOND_DAY.replace("\u202f", " ")
    again.page.locator(".lm-Menu-itemLabel").get_by_text(name, exact=True).click()
    root = again.scroll_to(DRAW).locator(".advlearn-explorer")
    root.wait_for()
    expect(again.page.locator(".advlearn-still")).to_be_hidden()
    assert checks.keyboard(again, Widget(root)) == []
    assert again.run(PROGRESS).stream("stdout").startswith("1 of 5 exercises right")
