"""One interactive picture on a page: its controls, what they say, and what is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from playwright.sync_api import ElementHandle, Locator

# What the picture is made of, whatever its address: the bytes of the file, as a short number.
_CONTENT = """async (root) => {
  const image = root.querySelector("img");
  if (!image || image.hidden || !image.src) return "";
  const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
  let hash = 5381;
  for (const byte of bytes) hash = (hash * 33 + byte) >>> 0;
  return `${bytes.length}-${hash}`;
}"""
# Playwright's own waiting counts any promise as true.
_WAIT = f"""async (root, [content, same, patience]) => {{
  const end = performance.now() + patience;
  while ((await ({_CONTENT})(root) === content) !== same) {{
    if (performance.now() > end) return false;
    await new Promise(requestAnimationFrame);
  }}
  return true;
}}"""
_GO = """(control, stop) => {
  control.value = stop;
  control.dispatchEvent(new Event("input", {bubbles: true}));
}"""
CONTROLS = "input[type=range], select"
_OUTLINE = """(slider) => {
  const style = getComputedStyle(slider);
  return slider.matches(":focus-visible") && style.outlineStyle !== "none"
    ? parseFloat(style.outlineWidth) : 0;
}"""


@dataclass(frozen=True)
class Seen:
    """What a learner has before the eyes, and what a screen reader says."""

    content: str
    alt: str
    status: str


@dataclass(frozen=True)
class Control:
    """A slider, or a list to choose from.

    It is held as the element, found once: a locator would search all of JupyterLab at each touch.
    """

    handle: ElementHandle
    name: str  # as the browser tells a screen reader
    kind: str  # "slider" or "list"

    @property
    def stops(self) -> int:
        if self.kind == "list":
            return int(self.handle.evaluate("(list) => list.options.length"))
        return int(self.handle.get_attribute("max") or 0) + 1

    @property
    def place(self) -> int:
        return int(self.handle.input_value())

    @property
    def spoken(self) -> str:
        if self.kind == "list":
            return str(self.handle.evaluate("(list) => list.selectedOptions[0].textContent"))
        return self.handle.get_attribute("aria-valuetext") or ""

    @property
    def shown(self) -> str:
        """The value as the page shows it; a list does so itself."""
        if self.kind == "list":
            return self.spoken
        row = self.handle.evaluate_handle("(slider) => slider.parentElement.nextElementSibling")
        element = row.as_element()
        return element.inner_text().strip() if element else ""

    @property
    def start(self) -> int:
        """Where it stands at first, with the pictures of one move drawn already."""
        return 0 if self.kind == "list" else self.stops // 2

    def go(self, stop: int) -> None:
        """Move there at once. The tests that move it as a hand does begin and end so."""
        self.handle.evaluate(_GO, stop)

    def choose(self, stop: int) -> None:
        """Choose an entry of a list."""
        self.handle.select_option(index=stop)

    @property
    def outline(self) -> float:
        """The width of the frame that shows the focus, in pixels; 0 without one."""
        return float(self.handle.evaluate(_OUTLINE))

    @property
    def focused(self) -> bool:
        return bool(self.handle.evaluate("(slider) => document.activeElement === slider"))

    def click_at(self, part: float) -> None:
        """Click on the track of a slider, 0 being its left end and 1 its right one."""
        self.handle.click(position=self._point(part))

    def drag(self, start: float, end: float) -> None:
        """Drag the handle of a slider with the mouse."""
        self.handle.scroll_into_view_if_needed()
        box = self.handle.bounding_box()
        assert box is not None, "the slider is on the page"
        frame = self.handle.owner_frame()
        assert frame is not None, "the slider is on the page"
        mouse = frame.page.mouse
        points = [self._point(part) for part in (start, end)]
        mouse.move(box["x"] + points[0]["x"], box["y"] + points[0]["y"])
        mouse.down()
        mouse.move(box["x"] + points[1]["x"], box["y"] + points[1]["y"], steps=5)
        mouse.up()

    def _point(self, part: float) -> dict[str, float]:
        box = self.handle.bounding_box()
        assert box is not None, "the slider is on the page"
        # Half a handle lies beyond the first and the last stop.
        return {"x": 8 + part * (box["width"] - 16), "y": box["height"] / 2}


@dataclass(frozen=True)
class Widget:
    """The picture and its controls; `root` holds both and nothing else."""

    root: Locator

    def controls(self) -> Iterator[Control]:
        """Yield the controls, named as in the browser's accessibility tree."""
        page = self.root.page
        handles = self.root.locator(CONTROLS).element_handles()
        session = page.context.new_cdp_session(page)
        try:
            for handle in handles:
                handle.evaluate("(control) => { window._asked = control; }")
                answer = session.send("Runtime.evaluate", {"expression": "window._asked"})
                tree = session.send(
                    "Accessibility.getPartialAXTree",
                    {"objectId": answer["result"]["objectId"], "fetchRelatives": False},
                )
                name = tree["nodes"][0].get("name", {}).get("value", "")
                is_list = handle.evaluate("(control) => control.localName === 'select'")
                yield Control(handle, name, "list" if is_list else "slider")
        finally:
            session.detach()

    def seen(self) -> Seen:
        image = self.root.locator("img")
        return Seen(
            self.root.evaluate(_CONTENT),
            image.get_attribute("alt") or "",
            self.root.get_by_role("status").inner_text(),
        )

    def change_from(self, content: str, seconds: float = 10) -> bool:
        """Wait until the picture is another one; return whether it became so."""
        return self._wait(content, False, seconds)

    def change_to(self, content: str, seconds: float = 10) -> bool:
        """Wait until the picture is this one; return whether it became so."""
        return self._wait(content, True, seconds)

    def _wait(self, content: str, same: bool, seconds: float) -> bool:
        return bool(self.root.evaluate(_WAIT, [content, same, 1000 * seconds]))

    def rest(self) -> None:
        """Put every control where it stood first: all pictures of one move are drawn there."""
        for control in self.controls():
            control.go(control.start)
        waiting = self.root.locator("[data-waiting]")
        waiting.wait_for(state="detached")

    def holds_focus(self) -> bool:
        return bool(self.root.evaluate("(root) => root.contains(document.activeElement)"))
