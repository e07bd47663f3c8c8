"""Make the pictures that README shows of JupyterLab and the playground: renew them after a change.

make test-browser        (once: it installs what is needed)
.venv/bin/python -m tests.browser.pictures
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from advlearn.playground.page import html
from advlearn.playground.states import link
from tests.browser import checks
from tests.browser.lab import IDLE, ROOT, Desk, NoBrowserError, desk
from tests.browser.slips import SLIPS
from tests.browser.widget import Widget

HERE = ROOT / "pictures"
MOST = 200_000  # bytes of one picture
LESSON, STOP = "03_fgsm_linear_models.ipynb", 5  # of the first control, a list of digits

# The page draws ahead while one looks; until then JupyterLab says "Busy".
RESTED = f"""async () => {{
  for (let quiet = 0; quiet < 10; ) {{
    quiet = {IDLE} ? quiet + 1 : 0;
    await new Promise((done) => setTimeout(done, 100));
  }}
}}"""
PLACE = """(outer, index) => {
  const cell = outer.querySelector(`.jp-Cell[data-windowed-list-index="${index}"]`);
  outer.scrollTop += cell.getBoundingClientRect().top - outer.getBoundingClientRect().top - 48;
}"""


def save(png: bytes, name: str) -> None:
    """Write a screenshot with at most 256 colours, which few would miss."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    HERE.mkdir(exist_ok=True)
    picture.save(HERE / name, optimize=True)
    size = (HERE / name).stat().st_size
    print(f"{name}: {picture.width} x {picture.height}, {size / 1000:.0f} kB")
    if size > MOST:
        raise ValueError(f"{name} has {size} bytes, more than {MOST}: choose a smaller part")


def take(place: Desk) -> None:
    """Run the lesson, and photograph its widget and a check that says what is wrong."""
    lesson = place.open(LESSON, {"width": 1180, "height": 720})
    cells = lesson.run_all()
    if problems := checks.ran(cells):
        raise ValueError(f"the lesson did not run: {problems}")
    page = lesson.page
    page.locator(".jp-SideBar [data-id='filebrowser']").click()  # closes the list of files
    shown = next(cell.index for cell in cells if "widget" in cell.tags)
    widget = Widget(lesson.scroll_to(shown).locator(".advlearn-explorer"))
    before = widget.seen().content
    digit = next(iter(widget.controls()))
    digit.go(STOP)
    widget.change_from(before)
    page.evaluate(RESTED)
    digit.handle.focus()
    # The cell at the top, under the caption of the figure above it.
    page.locator(".jp-WindowedPanel-outer").first.evaluate(PLACE, shown)
    save(page.screenshot(), "lesson.png")
    slip = next(slip for slip in SLIPS if slip.lesson == LESSON[:2])
    index = next(c.index for c in cells if f"ex.{slip.name}.check(" in c.source)
    lesson.rewrite(index, slip.cell(right=False))
    page.mouse.move(0, 0)
    box = lesson.scroll_to(index).bounding_box()
    if box is None:
        raise ValueError("the exercise is not on the page")
    # Without its last pixels: there the line of the next cell, which is chosen, begins.
    box["height"] -= 6
    save(page.screenshot(clip=box), "check.png")


def take_playground(browser: Browser, folder: Path) -> None:
    """Photograph the panels of the playground, with a digit that FGSM has changed."""
    file = folder / "playground.html"
    file.write_text(html(), encoding="utf-8")
    window = {"width": 1240, "height": 900}
    page = browser.new_page(viewport=window, device_scale_factor=1.5)
    state = link(network="maxout", attack="fgsm", eps=0.25, digit=4)
    page.goto(f"{file.as_uri()}#{state}")
    page.locator(".verdict .title").filter(has_text="Fooled").wait_for()
    page.locator(".honest").filter(has_text="PGD").wait_for()  # the last that is shown
    save(page.locator(".panels").screenshot(), "playground.png")
    page.close()


def main() -> int:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name) / "notebooks"
        shutil.copytree(ROOT / "notebooks", folder)
        try:
            with desk(playwright, folder, Path(name), sharpness=1.5) as place:
                take(place)
                place.tidy()
                take_playground(place.browser, Path(name))
        except NoBrowserError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
