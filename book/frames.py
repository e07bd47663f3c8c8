"""The interactive pictures of the lessons as sliders that need no kernel: `make record`.

A lesson is run up to its interactive picture, in a fresh kernel. The picture is then drawn at every
stop of its controls, and all frames are kept as one image, book/frames/LESSON.webp. In the
book a slider moves that image behind a window. Where the lesson or the published models have
changed since, the frames are stale: the book leaves them out, and `make test-book` says so.

    python book/frames.py         all lessons
    python book/frames.py 00 01   those whose names begin so
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import itertools
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from PIL import Image
from repository import FOLDER, LESSONS, ROOT

from advlearn._atomic import write_atomically
from advlearn.course import notebooks

KEPT = Path(__file__).with_name("frames")
INDEX = KEPT / "index.json"
MOST = 160  # frames of one picture; controls beyond that stay where they are
HEAVIEST = 1_000_000  # bytes of one sheet: a reader may have a phone and a slow line
_TALLEST = 16_000  # pixels; WebP ends at 16,383

# Takes the place of `explore` in the lesson: it gets what the lesson would have shown, and prints
# each frame as a line.
RECORD = f"""\
def explore(picture, /, **controls):
    import base64, itertools, json
    from advlearn.plotting import alt_text, caption_text, render
    moved, count = [], 1
    for name, stops in controls.items():
        if count * len(stops) > {MOST}:
            break
        moved, count = [*moved, name], count * len(stops)
    say = lambda stop: f"{{stop:.6g}}" if isinstance(stop, float) else str(stop)
    fixed = {{name: stops[0] for name, stops in controls.items() if name not in moved}}
    print(json.dumps({{
        "controls": {{name: [say(stop) for stop in controls[name]] for name in moved}},
        "fixed": {{name: say(stop) for name, stop in fixed.items()}},
    }}))
    for values in itertools.product(*(controls[name] for name in moved)):
        figure = picture(**dict(zip(moved, values)), **fixed)
        alt, words = alt_text(figure), caption_text(figure)
        image = base64.b64encode(render(figure)).decode()
        print(json.dumps({{"alt": alt, "words": words, "image": image}}))"""


def until_widget(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells of a lesson up to its interactive picture."""
    for place, cell in enumerate(notebook.cells):
        if "widget" in cell.metadata.get("tags", []):
            return list(notebook.cells[: place + 1])
    raise ValueError("the lesson has no cell with the tag 'widget'")


_UNRELATED = {"setup", "playground"}  # cells that no frame depends on


def fingerprint(path: Path) -> str:
    """Return a hash of what the frames depend on: the lesson's code, and the models it names."""
    cells = until_widget(nbformat.read(path, as_version=4))
    code = "\n".join(
        cell.source
        for cell in cells
        if cell.cell_type == "code" and not _UNRELATED & set(cell.metadata.get("tags", []))
    )
    published = json.loads((ROOT / "data" / "weights" / "index.json").read_text(encoding="utf-8"))
    models = {name: facts for name, facts in published.items() if f'"{name}"' in code}
    text = f"{code}\n{json.dumps(models, sort_keys=True)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def index() -> dict[str, Any]:
    """Return what is recorded, by lesson."""
    if not INDEX.exists():
        return {}
    recorded: dict[str, Any] = json.loads(INDEX.read_text(encoding="utf-8"))
    return recorded


def missing() -> dict[str, str]:
    """Return the lessons that have no frames, or stale ones, and which of the two it is."""
    recorded = index()
    return {
        path.stem: "stale" if path.stem in recorded else "not recorded"
        for path in LESSONS
        if recorded.get(path.stem, {}).get("fingerprint") != fingerprint(path)
    }


def _sheet(pictures: list[Image.Image]) -> tuple[Image.Image, int, int, int]:
    """Return all pictures on one sheet, and the number of columns, the width, the height."""
    width = max(one.width for one in pictures)
    height = max(one.height for one in pictures)
    columns = math.ceil(len(pictures) * height / _TALLEST)
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for place, one in enumerate(pictures):
        corner = (place % columns * width, place // columns * height)
        sheet.paste(one.convert("RGB"), corner)
    return sheet, columns, width, height


def _smallest(sheet: Image.Image) -> bytes:
    """Return the sheet as WebP, without loss where that is the smaller file."""
    made = []
    for options in ({"lossless": True}, {"quality": 85}):
        buffer = io.BytesIO()
        sheet.save(buffer, "webp", method=6, **options)
        made.append(buffer.getvalue())
    return min(made, key=len)


def thinned(controls: dict[str, list[str]]) -> tuple[dict[str, list[str]], list[int]]:
    """Leave out every other stop of the control that has the most.

    Returns:
        The controls that are left, and which of the frames belong to them, in order.
    """
    longest = max(controls, key=lambda name: len(controls[name]))
    stops = [range(len(c))[:: 2 if name == longest else 1] for name, c in controls.items()]
    everything = itertools.product(*(range(len(c)) for c in controls.values()))
    wanted = set(itertools.product(*stops))
    left = {name: [c[k] for k in k_] for (name, c), k_ in zip(controls.items(), stops, strict=True)}
    return left, [number for number, place in enumerate(everything) if place in wanted]


def record(path: Path) -> None:
    """Draw the frames of one lesson and keep them."""
    notebook = nbformat.read(path, as_version=4)
    notebooks.fill(notebook, path.name)
    *before, widget = until_widget(notebook)
    notebook.cells = [*before, new_code_cell(RECORD), widget]
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=3600, resources=place).execute()
    printed = "".join(o.text for o in widget.outputs if o.output_type == "stream")
    shown, *drawn = map(json.loads, printed.splitlines())
    images = [Image.open(io.BytesIO(base64.b64decode(frame["image"]))) for frame in drawn]
    texts, words = [frame["alt"] for frame in drawn], [frame["words"] for frame in drawn]
    if not all(texts):
        raise ValueError(f"{path.name}: a frame of the interactive picture has no alt text")
    controls, kept = shown["controls"], list(range(len(images)))
    sheet, columns, width, height = _sheet(images)
    while len(content := _smallest(sheet)) > HEAVIEST:
        controls, still = thinned(controls)
        kept = [kept[place] for place in still]
        sheet, columns, width, height = _sheet([images[place] for place in kept])
    texts = [texts[place] for place in kept]
    KEPT.mkdir(exist_ok=True)
    write_atomically(KEPT / f"{path.stem}.webp", content)
    entry = {
        "fingerprint": fingerprint(path),
        "controls": controls,
        "fixed": shown["fixed"],
        "columns": columns,
        "width": width,
        "height": height,
        "said": texts,  # the alt texts, a reader hears them as a slider moves
        "words": [words[place] for place in kept],  # the captions, a reader sees them
    }
    known = index() | {path.stem: entry}
    ordered = {p.stem: known[p.stem] for p in LESSONS if p.stem in known}
    write_atomically(INDEX, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def slider(name: str, depth: int) -> str:
    """Return the recorded interactive picture of a lesson as HTML, or "" if there is none.

    Args:
        name: of the lesson's file, without its ending.
        depth: how many folders the page lies below the book's first page.
    """
    if name in missing():
        return ""
    recorded = index()[name]
    folder = FOLDER / "extra" / "_frames"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.webp").write_bytes((KEPT / f"{name}.webp").read_bytes())
    controls, start = [], 0
    for control, stops in recorded["controls"].items():
        numbers = all(map(_is_number, stops))
        place = len(stops) // 2 if numbers else 0  # as in the lesson
        start = start * len(stops) + place
        label = html.escape(control.replace("_", " "))
        made = _range(stops, place) if numbers else _list(stops, place)
        controls.append(f'<label><span class="name">{label}</span> {made}</label>')
    columns, width, height = recorded["columns"], recorded["width"], recorded["height"]
    said = recorded["said"]
    words = recorded.get("words", said)
    alt, caption = html.escape(said[start]), html.escape(words[start])
    rows = math.ceil(len(said) / columns)
    where = (
        f"height:{100 * rows}%;left:{-100 * (start % columns)}%;top:{-100 * (start // columns)}%"
    )
    return (
        f'<div class="frames" data-columns="{columns}" '
        f'data-said="{html.escape(json.dumps(said, ensure_ascii=False))}" '
        f'data-words="{html.escape(json.dumps(words, ensure_ascii=False))}">'
        f'<div class="controls" hidden>{"".join(controls)}</div>'
        f'<div class="window" style="aspect-ratio:{width}/{height};max-width:{width}px;'
        f'--own:{width}px">'
        f'<img loading="lazy" src="{"../" * depth}_frames/{name}.webp" alt="{alt}" '
        f'style="width:{100 * columns}%;{where}"></div>'
        f'<p class="words" aria-hidden="true">{caption}</p>'
        f'<p class="said" role="status">{alt}</p>{_rest(recorded["fixed"])}</div>'
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _range(stops: list[str], place: int) -> str:
    """Return a slider of the book."""
    return (
        f'<input type="range" min="0" max="{len(stops) - 1}" value="{place}" '
        f'aria-valuetext="{html.escape(stops[place])}" '
        f'data-stops="{html.escape(json.dumps(stops))}"> '
        f"<output>{html.escape(stops[place])}</output>"
    )


def _list(stops: list[str], place: int) -> str:
    """Return a list of names to choose from."""
    named = {"False": "no", "True": "yes"}
    options = "".join(
        f'<option value="{k}"{" selected" if k == place else ""}>'
        f"{html.escape(named.get(stop, stop))}</option>"
        for k, stop in enumerate(stops)
    )
    return f"<select>{options}</select>"


def _rest(fixed: dict[str, str]) -> str:
    """Say which controls the live picture has beyond those that were recorded."""
    settings = ", ".join(f"{name.replace('_', ' ')} = {value}" for name, value in fixed.items())
    return (
        f"<p>Recorded at {html.escape(settings)}; in the live lesson that moves too.</p>"
        if settings
        else ""
    )


def main(arguments: list[str]) -> int:
    """Record the lessons whose names begin with one of `arguments`."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    paths = [p for p in LESSONS if any(p.name.startswith(a) for a in arguments or [""])]
    if not paths:
        print(f"no lesson begins with {' or '.join(arguments)}", file=sys.stderr)
        return 2
    for path in paths:
        record(path)
        size = (KEPT / f"{path.stem}.webp").stat().st_size
        count = len(index()[path.stem]["said"])
        print(f"{path.name}: {count} frames, {size // 1000} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
