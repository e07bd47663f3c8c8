"""Check every link of the built book, with no network.

A link inside the book must lead to a page, and to a place on it. One to another host is checked for
its form only, and counted.
"""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if attributes.get("id"):
            self.places.add(str(attributes["id"]))
        if tag == "a" and attributes.get("name"):
            self.places.add(str(attributes["name"]))
        address = attributes.get(_LINKS.get(tag, ""))
        if address is not None:
            self.links.append(address)


class Links(NamedTuple):
    """How many links a book has, and what is wrong with the broken ones."""

    inside: int
    outside: int
    broken: list[str]


def _broken(address: str, page: Path, root: Path, places: dict[Path, set[str]]) -> str:
    """Return what is wrong with a link inside the book, or ""."""
    parts = urlsplit(address)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_relative_to(root):
        return "leads out of the book"
    if not target.is_file():
        return "leads nowhere"
    if target.parent == root / "playground":
        return ""  # behind its # stands a state, as `advlearn.playground.states.link` writes it
    place = unquote(parts.fragment)
    if place and target in places and place not in places[target]:
        return "names a place that is not there"
    return ""


def check(root: Path) -> Links:
    """Check the pages under `root`."""
    root = root.resolve()
    pages = {}
    for path in sorted(root.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    places = {path: page.places for path, page in pages.items()}
    inside, outside, broken = 0, 0, []
    for path, page in pages.items():
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme in ("data", "mailto") or address == "#":
                continue
            if parts.scheme or parts.netloc:
                outside += 1
                wrong = "" if parts.scheme == "https" and "." in parts.netloc else "has a bad form"
            else:
                inside += 1
                wrong = _broken(address, path, root, places)
            if wrong:
                broken.append(f"{path.relative_to(root)}: {address!r} {wrong}")
    return Links(inside, outside, broken)
