# ruff: noqa: E501 - scripts for the browser stand in it as they are
"""The page itself, from a file: by mouse, by keyboard, by day and by night, on a phone."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from advlearn.playground.page import MOST_BYTES, NETWORKS
from tests.book.conftest import WIDTH
from tests.playground.conftest import OUT

pytestmark = pytest.mark.playground
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
    "phone, dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True},
}  # fmt: skip
PATIENCE = 180_000  # milliseconds: on a busy machine everything waits


class Visitor:
    """A page of the browser with the playground in it, and what it asked for."""

    def __init__(self, browser, file, link="", **look):
        self.file = file
        self.page = browser.new_page(**(look or LOOKS["light"]))
        self.page.set_default_timeout(PATIENCE)
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.go(link)

    def go(self, link):
        self.page.goto("about:blank")
        self.page.goto(f"{self.file.as_uri()}{link and '#'}{link}")
        self.page.wait_for_selector(".advlearn-playground")
        self.rest()

    def rest(self):
        """Wait until the page shows what was asked for last."""
        self.page.wait_for_function(
            "() => { const root = document.querySelector('.advlearn-playground');"
            "return !root.hasAttribute('data-waiting') && root.querySelector('.verdict .title').textContent; }"
        )

    @property
    def title(self):
        self.rest()
        return self.page.text_content(".verdict .title")

    def probabilities(self):
        self.rest()
        rows = self.page.locator(".bars tbody tr").all()
        return [row.locator("td").nth(1).text_content() for row in rows]

    def choose(self, text):
        self.page.get_by_role("radio", name=text, exact=True).check()
        self.rest()


@pytest.fixture
def visit(browser, file):
    opened = []

    def go(link="", **look):
        opened.append(Visitor(browser, file, link, **look))
        return opened[-1]

    yield go
    for visitor in opened:
        errors = [error for error in visitor.errors if "net::ERR" not in error]
        visitor.page.close()
        assert errors == []
        assert {urlsplit(address).scheme for address in visitor.asked} <= {
            "file",
            "blob",
            "data",
            "about",
        }


def test_size(file):
    assert file.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    "link", ["", "a=none", "a=targeted&t=5&n=robust", "g=3", "a=pgd&n=maxout-adversarial&r=15&c=0"]
)
def test_no_barrier_and_no_sideways_scrolling(visit, look, link):
    from axe_playwright_python.sync_playwright import Axe

    visitor = visit(link, **LOOKS[look])
    page = visitor.page
    page.wait_for_selector(".chart polyline")
    if link == "g=3":
        page.locator(".choice").first.click()
        page.wait_for_selector(".because strong")
    wider, wide = page.evaluate(WIDTH)
    assert wider <= 0, wide
    OUT.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", f"{look} {link}").strip("-")
    page.screenshot(path=OUT / f"{name}.png", full_page=True)
    found = Axe().run(page).response["violations"]
    assert not found, json.dumps(
        [(one["id"], [n["html"][:200] for n in one["nodes"][:4]]) for one in found], indent=1
    )


COPIED = """globalThis.copied = [];
Object.defineProperty(navigator, "clipboard",
                      { value: { writeText: async (text) => { if (%s) throw 0; copied.push(text); } } });"""


@pytest.mark.parametrize("denied", [False, True])
def test_a_link_to_all_of_it_is_copied(visit, denied):
    visitor = visit("a=fgsm")
    visitor.page.add_init_script(COPIED % str(denied).lower())
    visitor.go("a=fgsm")
    visitor.choose("PGD")
    visitor.page.get_by_role("button", name="Copy a link").click()
    said = visitor.page.locator(".share output")
    if denied:
        assert "copy the address" in said.text_content()
        return
    assert said.text_content().startswith("Copied.")
    (link,) = visitor.page.evaluate("copied")
    again = visit(link.partition("#")[2])
    assert (again.title, again.probabilities()) == (visitor.title, visitor.probabilities())


MOVES = """() => [...document.querySelectorAll('.advlearn-playground *')].map(getComputedStyle)
  .flatMap((style) => [...style.transitionDuration.split(","), ...style.animationDuration.split(",")])
  .some((text) => parseFloat(text) > 0.001)"""


def test_nothing_moves_by_itself(visit):
    """So who wants less motion has nothing to switch off; what a browser's user adds is off, too."""
    page = visit("a=fgsm").page
    assert page.evaluate(MOVES) is False
    page.add_style_tag(content=".advlearn-playground button { transition: color 1s; }")
    assert page.evaluate(MOVES) is True, "the look sees what moves"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(MOVES) is False


def test_every_network_reads_and_is_attacked(visit):
    visitor = visit()
    for network in NETWORKS:
        for attack in ("No attack", "Noise", "FGSM", "PGD", "Targeted PGD"):
            visitor.page.locator(f"input[value='{network.name}']").check(force=True)
            visitor.choose(attack)
            assert visitor.title
            assert any("%" in text for text in visitor.probabilities())
    assert visitor.page.text_content(".trouble") == ""


def test_an_empty_grid_is_no_digit(visit):
    visitor = visit("a=fgsm")
    assert "Nothing" not in visitor.title
    visitor.page.get_by_role("button", name="Clear").click()
    label = visitor.page.get_by_label("The digit is")
    label.select_option("7")
    assert visitor.title == "Nothing drawn yet"
    visitor.page.wait_for_timeout(500)
    assert not visitor.page.locator(".honest").is_visible()
    box = visitor.page.locator(".grid").bounding_box()
    mouse = visitor.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    mouse.down()
    mouse.move(box["x"] + box["width"] / 2, box["y"] + 3 * box["height"] / 4, steps=4)
    mouse.up()
    assert visitor.title != "Nothing drawn yet"
    label.select_option("4")
    visitor.page.get_by_role("button", name="Clear").click()
    assert visitor.title == "Nothing drawn yet"
    assert label.input_value() == "", "what was said of another drawing"


def test_a_line_by_mouse_changes_the_answer(visit):
    visitor = visit("a=none")
    page = visitor.page
    page.get_by_role("button", name="Clear").click()
    empty = visitor.probabilities()
    box = page.locator(".grid canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.8 * box["height"], steps=8)
    page.mouse.up()
    assert visitor.probabilities() != empty
    assert visitor.title == "It reads 1"
    page.get_by_role("button", name="Undo").click()
    assert visitor.probabilities() == empty


def test_a_finger_draws(visit):
    visitor = visit("a=none", **LOOKS["phone"])
    page = visitor.page
    page.get_by_role("button", name="Clear").click()
    empty = visitor.probabilities()
    box = page.locator(".grid canvas").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert visitor.probabilities() != empty


def test_everything_by_keyboard(visit):
    """Nothing but the keyboard: a digit is drawn, a network and an attack are chosen, eps is moved."""
    visitor = visit("a=none")
    page = visitor.page

    def tab_to(selector):
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"no key leads to {selector}")

    tab_to(".grid")
    said = page.get_attribute(".grid", "aria-describedby")
    assert "Space draws" in page.text_content(f"#{said}")
    tab_to(".tools button")
    page.keyboard.press("Enter")  # Clear
    page.keyboard.press("Shift+Tab")
    for _ in range(8):
        page.keyboard.press("ArrowUp")
    for _ in range(16):
        page.keyboard.press("Shift+ArrowDown")
    assert re.search(r"Row 22, column 14: ink \d+ %\.", page.text_content(".unseen[role=status]"))
    assert visitor.title == "It reads 1"
    page.keyboard.press("Delete")
    assert "Row 22, column 14: empty" in page.text_content(".unseen[role=status]")
    page.keyboard.press("Control+z")
    page.keyboard.press("Space")
    tab_to("input[data-key=network]")
    page.keyboard.press("ArrowDown")
    visitor.rest()
    assert page.evaluate("document.activeElement.value") == "maxout-adversarial"
    tab_to("input[data-key=attack]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    visitor.rest()
    tab_to("input[type=range]")
    page.keyboard.press("ArrowRight")
    visitor.rest()
    assert page.evaluate("document.activeElement.getAttribute('aria-valuetext')") == "0.26"
    assert "a=fgsm" in page.url or "a=" not in urlsplit(page.url).fragment


def test_a_link_holds_the_whole_state(visit):
    visitor = visit("a=pgd&n=robust&e=0.31&k=15&c=0&r=15")
    page = visitor.page
    page.get_by_role("button", name="Clear").click()
    box = page.locator(".grid canvas").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 200, steps=5)
    page.mouse.up()
    page.wait_for_function("() => location.hash.includes('p=')")
    seen = visitor.probabilities(), visitor.title
    pixels = page.evaluate(
        "[...document.querySelector('.grid canvas').getContext('2d').getImageData(0,0,28,28).data]"
    )
    again = visit(urlsplit(page.url).fragment)
    assert (again.probabilities(), again.title) == seen
    assert pixels == again.page.evaluate(
        "[...document.querySelector('.grid canvas').getContext('2d').getImageData(0,0,28,28).data]"
    )
    assert (
        again.page.get_by_role("slider", name="eps the largest").get_attribute("aria-valuetext")
        == "0.31"
    )
    assert not again.page.get_by_role("checkbox").is_checked()


@pytest.mark.parametrize(
    "link",
    [
        "n=nobody&a=magic&e=9&d=99999&k=-1",
        "p=AAAA",
        "p=" + "A" * 5000,
        "e=NaN&c=2&g=77",
        "%%%&&==",
        "p=__proto__",
    ],
)
def test_a_link_that_makes_no_sense_opens_the_start(visit, link):
    visitor = visit(link)
    assert visitor.title
    assert visitor.page.text_content(".trouble") == ""


def test_the_guided_path_shows_what_it_says(visit):
    """The digit that the path begins with is a good example of each step."""
    visitor = visit()
    page = visitor.page
    page.get_by_role("button", name="Start with five questions").click()
    kinds, leads = [], []
    for step in range(5):
        assert page.evaluate("document.activeElement.closest('.guide') !== null")
        page.wait_for_selector(".choice")
        page.locator(".choice").nth(0).click()
        page.wait_for_selector(".because strong")
        leads.append(page.text_content(".because strong").strip())
        kinds.append(page.evaluate("document.querySelector('.verdict').className"))
        page.locator(".turns button").nth(1 if step else 0).click()
    # It reads the digit, withstands noise, is fooled by FGSM; the defended one holds, and falls to PGD.
    assert [kind.split()[-1] for kind in kinds] == ["held", "held", "fooled", "held", "fooled"]
    assert [lead.startswith("Right") for lead in leads] == [True, True, False, True, False]
    assert page.get_by_role("button", name="Start with five questions").is_visible()


def test_masking_is_said_where_fgsm_fails_and_pgd_succeeds(visit):
    visitor = visit("n=maxout-adversarial")
    visitor.page.wait_for_function(
        "() => document.querySelector('.honest').textContent.length > 20"
    )
    assert "gradient masking" in visitor.page.text_content(".honest")


def test_files_from_the_disk(visit, tmp_path):
    """A picture is drawn on the grid, weights become a network, anything else is refused in words."""
    from advlearn.data import reference
    from advlearn.models import RBFNet, SoftmaxRegression

    sheet = np.full((200, 200), 255, np.uint8)
    sheet[40:160, 95:110] = 0
    Image.fromarray(sheet).save(tmp_path / "one.png")
    (tmp_path / "words.png").write_text("I am no picture")
    (tmp_path / "bad.safetensors").write_bytes(reference.pack(RBFNet(), "RBFNet", {}, {}))
    own = reference.pack(SoftmaxRegression(), "SoftmaxRegression", {}, {})
    (tmp_path / "own.safetensors").write_bytes(own)
    (tmp_path / "huge.png").write_bytes(b"\x89PNG" + b"\x00" * 51_000_000)
    visitor = visit("a=none")
    page = visitor.page
    chooser = page.locator("input[type=file]")

    chooser.set_input_files(tmp_path / "one.png")
    page.wait_for_function("() => location.hash.includes('p=')")
    assert visitor.title == "It reads 1"
    for name, words in (
        ("words.png", "is no PNG"),
        ("huge.png", "million bytes"),
        ("bad.safetensors", "RBFNet"),
    ):
        chooser.set_input_files(tmp_path / name)
        page.wait_for_function(
            "(w) => document.querySelector('.trouble').textContent.includes(w)", arg=words
        )
        assert visitor.title == "It reads 1"
    chooser.set_input_files(tmp_path / "own.safetensors")
    page.wait_for_selector("text=own.safetensors")
    visitor.rest()
    assert visitor.probabilities() == ["10 %"] * 10  # its weights are zero
    assert page.text_content(".trouble") == ""


def test_dropping_a_file(visit):
    visitor = visit("a=none")
    page = visitor.page
    page.evaluate("""() => {
      const data = new DataTransfer();
      data.items.add(new File(["hello"], "hello.txt"));
      document.querySelector(".grid").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }""")
    page.wait_for_function(
        "() => document.querySelector('.trouble').textContent.includes('is no PNG')"
    )


def test_where_no_worker_is_allowed_the_page_computes_itself(browser, file):
    context = browser.new_context()
    context.add_init_script(
        "globalThis.Worker = class { constructor() { throw new Error('no'); } };"
    )
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_function("() => document.querySelector('.verdict .title')?.textContent")
    assert page.text_content(".verdict .title")
    context.close()


def test_the_page_asks_for_nothing_even_if_told_to(visit):
    """What the tests above rest on: a request of the page would be seen, and its policy forbids it."""
    visitor = visit()
    blocked = visitor.page.evaluate(
        "fetch('https://elsewhere.example/x').then(() => false, () => true)"
    )
    assert blocked
    visitor.errors.clear()


def test_first_paint(browser, file, report):
    times = []
    for _ in range(3):
        page = browser.new_page()
        page.goto(file.as_uri())
        page.wait_for_function(
            "() => performance.getEntriesByName('first-contentful-paint').length"
        )
        times.append(
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
        page.close()
    report["first contentful paint, ms"] = times
    assert min(times) < 1000
