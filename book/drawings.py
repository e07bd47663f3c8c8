"""Pictures of the book: those inside the lessons become files, and the map is drawn."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Sequence

from PIL import Image
from repository import FOLDER

from advlearn.course.lessons import Lesson

FIGURES = FOLDER / "extra" / "_figures"
_EMBEDDED = re.compile(
    r'<img (?P<before>[^>]*?)src="data:image/(?P<kind>png|jpeg);base64,(?P<data>[^"]+)"'
)


def unpack(text: str, depth: int) -> str:
    """Return HTML whose embedded pictures are files of the book, loaded when they come into view.

    Args:
        text: HTML of an output.
        depth: how many folders the page lies below the book's first page.
    """

    def put(match: re.Match[str]) -> str:
        content = base64.b64decode(match["data"])
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{match['kind']}"
        FIGURES.mkdir(parents=True, exist_ok=True)
        (FIGURES / name).write_bytes(content)
        width, height = Image.open(io.BytesIO(content)).size
        return (
            f'<img loading="lazy" width="{width}" height="{height}" {match["before"]}'
            f'src="{"../" * depth}_figures/{name}"'
        )

    return _EMBEDDED.sub(put, text)


def reduced(lessons: Sequence[Lesson]) -> list[tuple[int, int, bool]]:
    """Return the arrows of the map: (from, to, whether needed), without those that others imply."""
    direct = {
        one.number: dict.fromkeys(one.helps, False) | dict.fromkeys(one.needs, True)
        for one in lessons
    }

    def before(number: int, needed: bool) -> set[int]:
        steps = {n for n, must in direct[number].items() if must or not needed}
        return steps.union(*(before(n, needed) for n in steps)) if steps else set()

    arrows = []
    for number, earlier in direct.items():
        for first, needed in sorted(earlier.items()):
            same = [n for n, must in earlier.items() if n != first and (must or not needed)]
            if not any(first in before(n, needed) for n in same):
                arrows.append((first, number, needed))
    return arrows


def path_drawing(lessons: Sequence[Lesson]) -> str:
    """Return an SVG of the lessons, one under the other, with an arc from each to what needs it."""
    row, left = 44, 190
    arrows = reduced(lessons)
    place = {one.number: row // 2 + row * i for i, one in enumerate(lessons)}
    shapes = []
    for first, last, needed in arrows:
        a, b = place[first] + 5, place[last] - 5
        reach = left - 22 - min(26 * (last - first), left - 34)
        dash = "" if needed else ' stroke-dasharray="3 5"'
        shapes.append(
            f'<path d="M{left - 14} {a} C{reach} {a} {reach} {b} {left - 18} {b}" fill="none" '
            f'stroke="currentColor" stroke-width="1.5"{dash} marker-end="url(#arrow)"/>'
        )
    for one in lessons:
        y = place[one.number]
        shapes.append(
            f'<circle cx="{left}" cy="{y}" r="13" fill="none" stroke="currentColor" '
            f'stroke-width="1.5"/><text x="{left}" y="{y + 5}" text-anchor="middle">{one.number}'
            f'</text><text x="{left + 24}" y="{y + 5}">{html.escape(one.title)}</text>'
        )
    words = ". ".join(
        f"Lesson {last} {'needs' if needed else 'is easier after'} lesson {first}"
        for first, last, needed in arrows
    )
    return (
        f'<svg class="path" viewBox="0 0 {left + 350} {row * len(lessons)}" role="img" '
        f'aria-label="{words}." font-size="15" fill="currentColor">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="currentColor"/></marker>'
        f"</defs>{''.join(shapes)}</svg>"
    )
