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


# Contrast is decided by colours and sizes, an element's own and those around it. A lesson has
# thousands of coloured words of code and a dozen such looks: axe judges a few words of each.
OF_EACH_LOOK = 5
ALIKE = """(most) => {
  const looks = new Map(), numbers = new Map(), count = new Map();
  const look = (element) => {
    if (!element) return 0;
    if (!looks.has(element)) {
      const s = getComputedStyle(element);
      const traits = [
        look(element.parentElement), s.color, s.backgroundColor, s.backgroundImage, s.opacity,
        s.fontSize, s.fontWeight, s.textShadow, s.visibility, s.display, s.position, s.filter,
        s.mixBlendMode,
      ].join(";");
      if (!numbers.has(traits)) numbers.set(traits, numbers.size + 1);
      looks.set(element, numbers.get(traits));
    }
    return looks.get(element);
  };
  for (const word of document.querySelectorAll("pre span")) {
    const number = look(word);
    count.set(number, (count.get(number) ?? 0) + 1);
    if (count.get(number) > most) word.setAttribute("data-alike", "");
  }
}"""
BARRIERS = """() => {
  axe.configure({rules: [{id: "color-contrast", selector: "*:not([data-alike])"}]});
  const options = {resultTypes: ["violations"], preload: false};
  return axe.run(document, options).then((found) => found.violations);
}"""


class Window:
    """One page of the browser, which looks at one address after the other.

    A new page for each address would cost more than the look.
    """

    def __init__(self, browser, width: int, colours: str) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=colours)
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("response", lambda r: self.failed.append(r.url) if r.status >= 400 else None)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, address: str) -> None:
        # None of these is reached: `launch` lets no other host resolve.
        if urlsplit(address).netloc not in (self.host, ""):
            self.foreign.append(address)

    def go(self, address: str) -> None:
        """Open an address and unfold everything."""
        self.host = urlsplit(address).netloc
        self.foreign, self.failed, self.errors = [], [], []
        self.page.goto(address)
        self.page.evaluate(SEES)

    def look(self) -> Visit:
        """Wait until the page is at rest, and return what was seen."""
        from axe_playwright_python.sync_playwright import Axe

        self.page.wait_for_load_state("networkidle")
        wider, wide = self.page.evaluate(WIDTH)
        asked = (self.foreign, self.failed, self.errors)
        self.foreign, self.failed, self.errors = [], [], []  # what axe asks for is not the page's
        self.page.evaluate(Axe().axe_script)
        self.page.evaluate(ALIKE, OF_EACH_LOOK)
        return Visit(*asked, wider, wide, self.page.evaluate(BARRIERS))


@pytest.fixture(scope="session")
def visit(browser, site, request):
    """Look at a page in a look, once."""
    seen: dict[tuple[str, str], Visit] = {}
    windows = {name: Window(browser, *look) for name, look in LOOKS.items()}

    def see(page: str, look: str) -> Visit:
        if (page, look) not in seen:
            for window in windows.values():  # all at once: one rests while another is judged
                window.go(f"{site}/{page}")
            for name, window in windows.items():
                seen[page, name] = visited = window.look()
                impacts = [one["impact"] for one in visited.violations]
                request.config.stash[SEEN][f"{page} | {name}"] = impacts
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
