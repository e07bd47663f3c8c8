"""The playground in JupyterLab: what is drawn by hand is what the next cell has."""

from __future__ import annotations

import base64
import json

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from advlearn import fgsm, input_gradient
from advlearn.data import reference
from tests.browser import checks

NAME = "playground.ipynb"
MAKE, ASK = 1, 2  # cells
# The set-up cell gives JupyterLab what a page needs; here the widget alone is looked at.
CELLS = (
    "from advlearn.playground.widget import playground\n",
    'mine = playground({"plain": "softmax", "strong": "robust"}, eps=0.1, digit=7)\nmine',
    """\
import base64, json
sent = {"link": mine.view.link, "label": int(mine.label), "network": mine.network}
for name in ("image", "attacked"):
    tensor = getattr(mine, name)
    assert tensor.shape == (1, 1, 28, 28), tensor.shape
    sent[name] = base64.b64encode(tensor.numpy().tobytes()).decode()
print(json.dumps(sent))""",
)
PIXELS = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [...data].filter((_, at) => at % 4 === 0);
}"""


REACH = """(root) => [...root.querySelectorAll('.panel select, .panel button, .panel input')]
  .filter((one) => one.getClientRects().length)
  .filter((one) => one.getBoundingClientRect().right >
                   one.closest('.panel').getBoundingClientRect().right + 0.5)
  .map((one) => one.outerHTML.slice(0, 200))"""


class Notebook:
    """A notebook with a playground, and what its kernel has of it."""

    def __init__(self, lesson):
        self.lesson = lesson
        self.root = lesson.scroll_to(MAKE).locator(".advlearn-playground")
        self.root.wait_for()

    def drawn(self):
        """Return the pixels of the grid as the page shows them, 0 to 255."""
        return np.array(self.root.locator(".grid canvas").evaluate(PIXELS))

    def verdict(self):
        return self.root.locator(".verdict .title").inner_text()

    def rest(self):
        """Wait until the page has shown all, and told the kernel."""
        self.lesson.page.wait_for_timeout(400)  # a drawing hand rests 150 ms before it is told
        self.lesson.page.wait_for_function(
            "() => document.querySelector('.advlearn-playground:not([data-waiting])')"
        )

    def in_kernel(self):
        cell = self.lesson.run(ASK)
        assert not cell.error, cell.error
        told = json.loads(cell.stream("stdout"))
        for name in ("image", "attacked"):
            pixels = np.frombuffer(base64.b64decode(told[name]), np.float32)
            told[name] = torch.tensor(pixels).reshape(1, 1, 28, 28)
        return told

    def stroke(self, *points):
        """Draw with the mouse; points are shares of the grid's width and height."""
        grid = self.root.locator(".grid")
        grid.scroll_into_view_if_needed()
        box = grid.bounding_box()
        mouse = self.lesson.page.mouse
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=8)
        mouse.up()


@pytest.fixture(scope="module")
def notebook(lab):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_code_cell(source) for source in CELLS]
    cells += [new_markdown_cell(f"## Part {part}") for part in range(20)]
    nbformat.write(
        new_notebook(cells=cells, metadata={"kernelspec": kernel}), lab.server.folder / NAME
    )
    lesson = lab.open(NAME)
    assert checks.ran(lesson.run_all()) == []
    yield Notebook(lesson)
    lab.tidy()


def same_attack(told, model, eps):
    """FGSM in the page is FGSM in Python, but where the gradient is too small to have a sign."""
    y = torch.tensor([told["label"]])
    expected = fgsm(model, told["image"], y, eps)
    slope = input_gradient(model, told["image"], y).abs()
    clear = slope > 1e-6 * slope.max().clamp_min(1e-12)
    assert clear.float().mean() > 0.5, "there is something to compare"
    assert torch.equal(told["attacked"][clear], expected[clear])


def in_half(name):
    model = reference.load(name)
    return model.half().float()  # as the weights travel


def test_it_begins_with_the_digit_that_was_asked_for(notebook, pictures):
    notebook.rest()
    notebook.lesson.page.screenshot(path=pictures / "playground.png")
    panels = notebook.root.locator(".panels").bounding_box()
    assert panels["height"] < 700, "it fits a laptop: nobody sees the answer who draws above it"
    told = notebook.in_kernel()
    assert told["label"] == 7
    assert told["network"] == "plain"
    assert np.array_equal(told["image"].flatten().numpy(), (notebook.drawn() / 255).astype("f4"))
    same_attack(told, in_half("softmax"), 0.1)


def test_what_is_drawn_is_what_the_next_cell_has(notebook, pictures):
    notebook.root.get_by_role("button", name="Clear").click()
    notebook.stroke((0.5, 0.2), (0.5, 0.8))
    notebook.rest()
    one = notebook.in_kernel()
    assert np.count_nonzero(notebook.drawn()) > 20
    assert np.array_equal(one["image"].flatten().numpy(), (notebook.drawn() / 255).astype("f4"))
    notebook.stroke((0.3, 0.2), (0.7, 0.2))
    notebook.rest()
    notebook.lesson.page.screenshot(path=pictures / "playground-drawn.png")
    two = notebook.in_kernel()
    assert np.array_equal(two["image"].flatten().numpy(), (notebook.drawn() / 255).astype("f4"))
    assert not torch.equal(one["image"], two["image"])
    model = in_half("softmax")
    assert two["label"] == int(model(two["image"]).argmax()), "nobody said what it is"
    same_attack(two, model, 0.1)


def test_network_and_eps_are_those_of_the_page(notebook):
    notebook.root.locator("input[value=strong]").check()
    notebook.root.get_by_role("slider", name="eps").fill("0.2")
    notebook.root.get_by_role("button", name="A 3", exact=True).first.click()
    notebook.rest()
    told = notebook.in_kernel()
    assert told["network"] == "strong"
    assert told["label"] == 3
    same_attack(told, in_half("robust"), 0.2)
    assert notebook.verdict() == "Not fooled: still 3"


def test_no_control_reaches_past_its_panel(notebook):
    """A cell's output is narrow, and JupyterLab's own styles apply there."""
    notebook.root.get_by_role("button", name="Clear").click()
    assert notebook.root.get_by_label("The digit is").is_visible()
    page, size = notebook.lesson.page, notebook.lesson.page.viewport_size
    for width in (1100, 1200, 1280, 1360, 1500):
        page.set_viewport_size({"width": width, "height": size["height"]})
        page.wait_for_timeout(300)
        assert notebook.root.evaluate(REACH) == [], width
    page.set_viewport_size(size)


def test_keys_draw_and_do_not_command_jupyterlab(notebook):
    cells = len(notebook.lesson.cells())
    before = notebook.drawn()
    notebook.root.locator(".grid").focus()
    for key in ("d", "d", "b", "a", "Shift+ArrowUp", "Shift+ArrowUp", "Space"):
        notebook.lesson.page.keyboard.press(key)
    assert not np.array_equal(notebook.drawn(), before)
    assert len(notebook.lesson.cells()) == cells


def test_a_second_view_begins_where_the_first_one_stands(notebook):
    """The cell's output shown again, as "Create new view for output" does."""
    notebook.rest()
    drawn = notebook.in_kernel()["image"]
    shown = notebook.lesson.rewrite(ASK, "from IPython.display import display\ndisplay(mine.view)")
    assert not shown.error
    other = notebook.lesson.scroll_to(ASK).locator(".advlearn-playground")
    other.wait_for()
    pixels = np.array(other.locator(".grid canvas").evaluate(PIXELS))
    assert np.array_equal((pixels / 255).astype("f4"), drawn.flatten().numpy())


def test_it_asks_for_nothing_and_complains_of_nothing(notebook):
    assert checks.quiet(notebook.lesson.watch) == []
