"""The built book in a real browser: served from this machine, looked at page by page.

`make test-book` builds the book first. What needs the built book and a Chromium is marked `book`,
and left out of a plain run of pytest.
"""

from __future__ import annotations

import functools
import http.server
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent.parent
BOOK = ROOT / "build" / "book"
HTML = BOOK / "html"
sys.path.insert(0, str(ROOT / "book"))

PAGES = sorted(
    str(path.relative_to(HTML)) for path in HTML.rglob("*.html") if "_static" not in path.parts
)
# name -> (width, colours): a laptop by day and by night, and a phone
LOOKS = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (375, "light")}
HARD = ("serious", "critical")


class Visit(NamedTuple):
    """What one page did, seen in one look."""

    foreign: list[str]  # addresses on other hosts that it asked for
    failed: list[str]  # addresses of the book that were not there
    errors: list[str]  # what it wrote on the console
    wider: float  # pixels by which it is wider than the window
    wide: list[str]  # what sticks out
    violations: list[dict]  # as axe gives them


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


SEEN = pytest.StashKey[dict]()


def pytest_sessionstart(session):
    session.config.stash[SEEN] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of one page, and those of any other file, on one worker."""
    if "book" not in config.getoption("markexpr").split() or "not" in config.getoption("markexpr"):
        return None  # a plain run, in which pages are not looked at

    class ByPage(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            page = re.search(r"\[.*?([\w/]+\.html)", nodeid)
            return page[1] if page else nodeid.partition("::")[0]

    return ByPage(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Collect what a worker has seen on its pages."""
    node.config.stash[SEEN].update(getattr(node, "workeroutput", {}).get("violations", {}))


def pytest_sessionfinish(session):
    """Write the table of what axe found."""
    seen = session.config.stash[SEEN]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["violations"] = seen
    elif seen:
        (BOOK / "axe.md").write_text(axe_table(seen), encoding="utf-8")


@pytest.fixture(scope="session")
def site():
    """The address at which the built book is served."""
    if not PAGES:
        pytest.fail("the book is not built: run `make book`.")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=HTML)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    from tests.browser.lab import launch

    with sync_playwright() as play:
        opened = launch(play)
        yield opened
        opened.close()


SEES = """() => {
  document.querySelectorAll('details').forEach(d => { d.open = true; });
  document.querySelectorAll('img[loading=lazy]').forEach(i => { i.loading = 'eager'; });
}"""
# How far the page can be moved sideways, and what makes it so.
WIDTH = """() => {
  const root = document.scrollingElement, width = document.documentElement.clientWidth;
  const scrolls = e => ['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(e).overflowX);
  const inside = e => {
    for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
      if (scrolls(p)) return true;
    return false;
  };
  const out = [...document.body.querySelectorAll('*')].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && box.right > width + 1
      && getComputedStyle(e).position !== 'fixed' && !inside(e);
  });
  return [root.scrollWidth - width, out.slice(0, 5).map(e => e.outerHTML.slice(0, 120))];
}"""


def look_at(context, address: str) -> Visit:
    """Open one address with everything unfolded, and return what was seen."""
    from axe_playwright_python.sync_playwright import Axe

    page = context.new_page()
    host = urlsplit(address).netloc
    foreign, failed, errors = [], [], []

    def gate(route):
        if urlsplit(route.request.url).netloc in (host, ""):
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    page.route("**/*", gate)
    page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.evaluate(SEES)
    page.wait_for_load_state("networkidle")
    wider, wide = page.evaluate(WIDTH)
    asked = [
        list(foreign),
        list(failed),
        list(errors),
    ]  # what axe itself asks for is not the page's
    options = {"resultTypes": ["violations"], "preload": False}
    violations = Axe().run(page, options=options).response["violations"]
    page.close()
    return Visit(*asked, wider, wide, violations)


@pytest.fixture(scope="session")
def visit(browser, site, request):
    """Look at a page in a look, once."""
    seen: dict[tuple[str, str], Visit] = {}
    contexts = {
        name: browser.new_context(viewport={"width": width, "height": 800}, color_scheme=colours)
        for name, (width, colours) in LOOKS.items()
    }

    def see(page: str, look: str) -> Visit:
        if (page, look) not in seen:
            visited = look_at(contexts[look], f"{site}/{page}")
            impacts = [one["impact"] for one in visited.violations]
            request.config.stash[SEEN][f"{page} | {look}"] = impacts
            seen[page, look] = visited
        return seen[page, look]

    return see


def axe_table(seen: dict[str, list[str]]) -> str:
    """Return page, look and the number of violations by impact, in Markdown."""
    impacts = ("critical", "serious", "moderate", "minor")
    lines = [f"| page | look | {' | '.join(impacts)} |", "|---|---|" + "--:|" * len(impacts)]
    for page_and_look, found_impacts in sorted(seen.items()):
        count = Counter(found_impacts)
        lines.append(f"| {page_and_look} | {' | '.join(str(count[i]) for i in impacts)} |")
    return "\n".join(lines) + "\n"
