"""A real JupyterLab in a real browser: start it, open a lesson, and see what a learner sees.

Everything is done with the mouse and the keyboard. The result is read from the page and
from the notebook that JupyterLab holds, because a lesson's cells outside the window need not be
part of the page at all.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Playwright,
)

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "build" / "browser"
EXECUTED = OUT / "executed"  # the lessons with the outputs that they had in JupyterLab
WINDOW = {"width": 1366, "height": 768}  # the screen of a small laptop
PATIENCE = 420.0  # seconds for a whole lesson: a minute on two cores, far more on a busy machine
NO_BROWSER = """\
No Chromium was found. One of these helps:
  sudo apt-get install chromium          (Debian, Ubuntu)
  python -m playwright install chromium  (anywhere, by download)
  ADVLEARN_CHROMIUM=/path/to/chrome      (one that is here already)"""


class NoBrowserError(RuntimeError):
    """There is no Chromium to drive."""


def find_chromium(playwright: Playwright) -> str:
    """Return the path of a Chromium: the named one, the system's, or playwright's own."""
    if named := os.environ.get("ADVLEARN_CHROMIUM"):
        if shutil.which(named) is None:
            raise NoBrowserError(f"ADVLEARN_CHROMIUM={named!r} is not a program.\n{NO_BROWSER}")
        return named
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if (own := playwright.chromium.executable_path) and Path(own).exists():
        return own
    raise NoBrowserError(NO_BROWSER)


def launch(playwright: Playwright) -> Browser:
    """Start a headless Chromium that reaches this machine alone."""
    # Other hosts do not even resolve. The request is still made, and seen by `Watch`.
    options = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium refuses to start for root otherwise
    return playwright.chromium.launch(executable_path=find_chromium(playwright), args=options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """A running JupyterLab."""

    url: str
    token: str
    folder: Path  # what it serves
    log: Path

    def ask(self, path: str) -> Any:
        """Return what the server's own interface answers."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}", headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


# No question about news and no look for them; and no save behind the back of the next test.
_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}


def _settings(folder: Path) -> None:
    for name, value in _SETTINGS.items():
        place = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(value))


@contextmanager
def serve(folder: Path, private: Path) -> Iterator[Server]:
    """Serve `folder` by a JupyterLab of its own; `private` holds its settings and its log."""
    port, token = free_port(), secrets.token_hex(16)
    _settings(private / "settings")
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    environment = os.environ | {name: str(private / place) for name, place in own.items()}
    search = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "ADVLEARN_OFFLINE": "1",
        "ADVLEARN_PROGRESS_DIR": str(private / "progress"),
    }
    environment.pop("MPLBACKEND", None)  # the kernel chooses its own, as a learner's does
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"),
        *("--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"),
        *(f"--IdentityProvider.token={token}", "--ServerApp.ip=127.0.0.1"),
        # A kernel has nothing to save: none is given seconds to end in.
        "--KernelManager.shutdown_wait_time=0.2",
        # Lets the tests read the notebook that JupyterLab holds.
        "--LabApp.expose_app_in_browser=True",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    log = private / "jupyter.log"
    with log.open("a") as stream:
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    server = Server(f"http://127.0.0.1:{port}", token, folder, log)
    try:
        _wait_for(server, process)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(server: Server, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"JupyterLab did not start:\n{server.log.read_text()[-3000:]}")
        try:
            server.ask("status")
        except OSError:
            time.sleep(0.1)  # nothing tells us of a port that opens
        else:
            return
    raise RuntimeError(f"JupyterLab is silent after {seconds:g} s:\n{server.log.read_text()}")


@dataclass
class Watch:
    """Notes what a page must not do."""

    home: str  # the address of the server
    errors: list[str] = field(default_factory=list)  # console errors and uncaught exceptions
    foreign: list[str] = field(default_factory=list)  # requests to other hosts

    def over(self, page: Page) -> Watch:
        for event, listener in self._listeners.items():
            page.on(event, listener)
        return self

    def end(self, page: Page) -> None:
        for event, listener in self._listeners.items():
            page.remove_listener(event, listener)

    def __post_init__(self) -> None:
        self._listeners = {
            "console": self._console,
            "pageerror": lambda error: self.errors.append(f"uncaught: {error}"),
            "request": lambda request: self._request(request.url),
            "websocket": lambda socket: self._request(socket.url),
        }

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _request(self, url: str) -> None:
        home = self.home.partition("://")[2]
        scheme, _, rest = url.partition("://")
        if scheme in ("http", "https", "ws", "wss") and rest.partition("/")[0] != home:
            self.foreign.append(url)


# What the page says about the notebook on top, cells outside the window included.
STATE = """() => {
  const panel = window.jupyterapp.shell.currentWidget, cells = panel.content.model.cells;
  const described = [];
  for (let i = 0; i < cells.length; i++) {
    const cell = cells.get(i), outputs = [];
    for (let k = 0; cell.type === "code" && k < cell.outputs.length; k++)
      outputs.push(cell.outputs.get(k).toJSON());
    described.push({
      index: i, type: cell.type, source: cell.sharedModel.getSource(), outputs,
      count: cell.executionCount ?? null, tags: cell.getMetadata("tags") ?? [],
    });
  }
  return described;
}"""
IDLE = "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
# Every cell has been run, or one of them raised; and the kernel rests.
DONE = f"""() => {{
  if (!({IDLE})) return false;
  const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
  let all = true, failed = false;
  for (let i = 0; i < cells.length; i++) {{
    const cell = cells.get(i);
    if (cell.type !== "code") continue;
    if (cell.executionCount == null && cell.sharedModel.getSource().trim()) all = false;
    for (let k = 0; k < cell.outputs.length; k++) failed ||= cell.outputs.get(k).type === "error";
  }}
  return all || failed;
}}"""
SHOW = """async (index) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  await notebook.scrollToItem(index, "start");
}"""


@dataclass(frozen=True)
class Cell:
    """A cell as JupyterLab holds it."""

    index: int
    type: str
    source: str
    outputs: list[dict[str, Any]]
    count: int | None
    tags: list[str]

    @property
    def error(self) -> str:
        """The name and the message of the exception that this cell shows, or nothing."""
        for output in self.outputs:
            if output["output_type"] == "error":
                return f"{output['ename']}: {output['evalue']}"
        return ""

    def stream(self, name: str) -> str:
        """What the cell printed."""
        texts = [o["text"] for o in self.outputs if o.get("name") == name]
        return "".join("".join(text) for text in texts)


@dataclass
class Lesson:
    """A notebook that is open in the browser."""

    page: Page
    watch: Watch

    def cells(self) -> list[Cell]:
        return [Cell(**fields) for fields in self.page.evaluate(STATE)]

    def menu(self, name: str, command: str) -> None:
        """Choose an entry of the menu bar with the mouse."""
        self.page.locator(f'.lm-MenuBar-itemLabel:text-is("{name}")').click()
        self.page.locator(f'.lm-Menu-item[data-command="{command}"]').click()

    def run_all(self, patience: float = PATIENCE) -> list[Cell]:
        """Clear what the file holds, run every cell, and return the cells once all is quiet."""
        self.page.wait_for_function(IDLE, timeout=60_000)
        self.menu("Edit", "editmenu:clear-all")
        self.page.wait_for_function(f"() => !({DONE})()" if self._has_code() else "true")
        self.menu("Run", "runmenu:run-all")
        # Asking often would take time from the kernel on two cores.
        self.page.wait_for_function(DONE, timeout=1000 * patience, polling=300)
        return self.cells()

    def _has_code(self) -> bool:
        return any(cell.type == "code" and cell.source.strip() for cell in self.cells())

    def scroll_to(self, index: int) -> Locator:
        """Bring a cell into the window and return it."""
        self.page.evaluate(SHOW, index)
        cell = self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"]')
        cell.wait_for(state="attached")
        cell.scroll_into_view_if_needed()
        return cell

    def choose(self, index: int) -> None:
        """Click beside a cell: it is chosen, and not edited."""
        self.scroll_to(index).locator(".jp-InputPrompt").click()

    def run(self, index: int) -> Cell:
        """Run one cell, as it stands, and return it."""
        self.choose(index)
        # A new kernel counts from 1: the count that was saved may come again.
        cell = f"window.jupyterapp.shell.currentWidget.content.model.cells.get({index})"
        self.page.evaluate(f"() => {{ {cell}.executionCount = null; }}")
        self.page.keyboard.press("Control+Enter")
        self._wait_for(index, None)
        return self.cells()[index]

    def save(self) -> None:
        """Write the notebook to the disk."""
        self.page.evaluate("window.jupyterapp.shell.currentWidget.context.save()")

    def _wait_for(self, index: int, before: int | None) -> None:
        """Wait until a cell has another count, and the kernel rests."""
        self.page.wait_for_function(
            f"([i, before]) => {{ const c = window.jupyterapp.shell.currentWidget.content.model"
            f".cells.get(i).executionCount; return c != null && c !== before && {IDLE}; }}",
            arg=[index, before],
            timeout=60_000,
        )

    def rewrite(self, index: int, source: str) -> Cell:
        """Replace a cell's text with the keyboard, run it, and return it."""
        before = self.cells()[index].count
        cell = self.scroll_to(index)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(source)
        self.page.keyboard.press("Shift+Enter")
        self._wait_for(index, before)
        written = self.cells()[index]
        assert written.source == source, f"JupyterLab holds another text:\n{written.source}"
        return written


@dataclass
class Desk:
    """A browser in front of a server."""

    browser: Browser
    server: Server
    context: BrowserContext
    lessons: list[Lesson] = field(default_factory=list)  # those that are open
    free: list[Page] = field(default_factory=list)

    def open(self, name: str, size: dict[str, int] | None = None) -> Lesson:
        """Open a notebook of the served folder in a page of its own.

        A page that is free serves again: it holds JupyterLab's scripts, ready to run.
        """
        page = self.free.pop() if self.free else self._new_page()
        page.set_viewport_size(size or WINDOW)
        watch = Watch(self.server.url).over(page)
        page.goto(f"{self.server.url}/lab/tree/{name}?token={self.server.token}&reset")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.content?.model")
        self.lessons.append(Lesson(page, watch))
        return self.lessons[-1]

    def _new_page(self) -> Page:
        page = self.context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())  # "Leave without saving?" Yes.
        return page

    def tidy(self) -> None:
        """Leave all pages and stop all kernels."""
        for lesson in self.lessons:
            lesson.watch.end(lesson.page)
            lesson.page.goto("about:blank")
            self.free.append(lesson.page)
        self.lessons.clear()
        for session in self.server.ask("sessions"):
            self.stop(f"sessions/{session['id']}")

    def stop(self, what: str) -> None:
        """End a session or a kernel by the server's own interface."""
        request = urllib.request.Request(
            f"{self.server.url}/api/{what}",
            headers={"Authorization": f"token {self.server.token}"},
            method="DELETE",
        )
        urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def desk(
    playwright: Playwright, folder: Path, private: Path, *, sharpness: float = 1
) -> Iterator[Desk]:
    """Start a server and a browser, and end both.

    `sharpness` is the number of pixels in a screenshot for one of the page.
    """
    browser = launch(playwright)
    try:
        with serve(folder, private) as server:
            context = browser.new_context(viewport=WINDOW, device_scale_factor=sharpness)
            yield Desk(browser, server, context)
    finally:
        with suppress(Error):  # it may be gone already
            browser.close()
