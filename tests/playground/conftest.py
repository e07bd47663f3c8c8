"""The playground in a real browser: its engine held against the library, and the page itself.

What needs a Chromium is marked `playground`: `make test-playground`.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from advlearn.playground import page as playground_page
from advlearn.playground.scripts import joined

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "build" / "playground"
# What tests call of the engine.
NAMES = (
    "Generator", "answerOf", "attacked", "argmax", "build", "centred", "crossEntropy", "fgsm",
    "fromLink", "gradientAt", "inkOf", "logitsAlong", "marginLoss", "noise", "packPixels", "pgd",
    "readPicture", "readSafetensors", "sizeOf", "toLink", "unpack", "unpackPixels",
)  # fmt: skip
BRIDGE = """
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);
const textOf = (array) => {
  const bytes = new Uint8Array(array.buffer);
  let letters = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    letters += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(letters);
};
const finish = (work) => {
  for (;;) { const { done, value } = work.next(); if (done) return value; }
};
"""


class Engine:
    """The modules of the page, in a page that holds nothing else."""

    def __init__(self, page):
        self.page = page
        script = f"{joined('serve', 'pictures', 'state')}{BRIDGE}"
        names = ", ".join((*NAMES, "bytesOf", "floatsOf", "textOf", "finish"))
        page.set_content("<!doctype html><title>engine</title>")
        page.add_script_tag(content=f"{script}\nglobalThis.engine = {{{names}}};", type="module")
        page.wait_for_function("globalThis.engine !== undefined")

    def run(self, body: str, **values):
        """Return what a function body gives, with `values` and the engine's names in its scope.

        An array goes in as base64 of its float32 numbers.
        """
        sent = {
            key: base64.b64encode(value.astype("<f4").tobytes()).decode()
            if isinstance(value, np.ndarray)
            else base64.b64encode(value).decode()
            if isinstance(value, bytes)
            else value
            for key, value in values.items()
        }
        names = ", ".join((*NAMES, "bytesOf", "floatsOf", "textOf", "finish"))
        return self.page.evaluate(
            f"async (given) => {{ const {{{names}}} = engine; {body} }}", sent
        )


def floats(text: str, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    from tests.browser.lab import launch

    with sync_playwright() as play:
        opened = launch(play)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def engine(browser):
    page = browser.new_page()
    page.set_default_timeout(600_000)
    yield Engine(page)
    page.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    """The page as a file."""
    path = tmp_path_factory.mktemp("playground") / "playground.html"
    path.write_text(playground_page.html(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def report():
    """A table of what was measured, written at the end."""
    rows: dict[str, object] = {}
    yield rows
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "measured.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
