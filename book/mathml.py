r"""Formulas as MathML, made while the book is built: a Sphinx extension.

Browsers draw MathML themselves. So a page needs no script for its formulas, they can be copied,
and a screen reader finds them. Only a font with a MATH table is missing on many machines: the
book carries the part of STIX Two Math that its own formulas need.
"""

from __future__ import annotations

import html
import xml.etree.ElementTree as ET
from importlib.resources import files
from pathlib import Path
from typing import Any

from docutils import nodes
from fontTools import subset
from latex2mathml.converter import convert
from sphinx.application import Sphinx

FONT = "math.woff"
_LARGE = {"max", "min", "sup", "inf"}  # in a displayed formula their index stands below
_OPENS = set("=≤≥<>≈∈→←,;([{·×")  # after these a minus is a sign


def mathml(tex: str, *, block: bool = False) -> str:
    r"""Return TeX as a MathML element, spaced as TeX spaces it.

    Example:
        >>> mathml("|x|")
        '<math ...>...<mo stretchy="false" lspace="0" rspace="0">|</mo>...</math>'
    """
    root = ET.fromstring(convert(tex, display="block" if block else "inline"))
    for parent in root.iter():
        children = list(parent)
        for place, element in enumerate(children):
            before = children[place - 1] if place else None
            after = children[place + 1] if place + 1 < len(children) else None
            _space(element, before, after)
            if block and _name(element) in ("msub", "msubsup") and element[0].text in _LARGE:
                element.tag = "munder" if _name(element) == "msub" else "munderover"
    _strip(root)
    root.set("xmlns", "http://www.w3.org/1998/Math/MathML")
    root.set("alttext", tex.strip())
    return ET.tostring(root, encoding="unicode")


def _strip(element: ET.Element) -> None:
    for part in element.iter():
        part.tag = part.tag.rsplit("}", 1)[-1]


def _name(element: ET.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _space(element: ET.Element, before: ET.Element | None, after: ET.Element | None) -> None:
    """Correct the spaces around one element that the conversion leaves to the browser."""
    kind, text = _name(element), (element.text or "").strip()
    if kind in ("mo", "mi") and len(text) > 1 and text.isalpha():
        # A named function: a thin space on both sides, but none before its parenthesis.
        element.tag = "mo"
        opens = after is not None and "".join(after.itertext()).strip()[:1] in ("(", "[")
        element.set("lspace", "0.17em")
        element.set("rspace", "0" if opens else "0.17em")
    elif kind == "mo" and text == "∞":
        element.tag = "mi"
    elif kind == "mo" and text in ("|", "‖") and element.get("form") is None:
        element.set("lspace", "0")
        element.set("rspace", "0")
    elif kind == "mo" and text in ("…", "⋯"):
        element.set("lspace", "0.17em")
        element.set("rspace", "0.17em")
    elif text in ("−", "+", "±") and (before is None or before.text in _OPENS):
        element.set("form", "prefix")  # a sign, not an operation: it belongs to what follows
        element.set("lspace", "0")
        element.set("rspace", "0")


def _keep(self: Any, tex: str, block: bool) -> str:
    letters: set[str] = self.builder.env.app.math_letters
    made = mathml(tex, block=block)
    letters |= set(html.unescape(made))
    return made


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(_keep(self, node.astext(), block=False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    # The one place where a formula may be wider than a phone: it scrolls by itself.
    self.body.append(
        '<div class="formula" tabindex="0" role="group" aria-label="formula">'
        f"{_keep(self, node.astext(), block=True)}</div>\n"
    )
    raise nodes.SkipNode


def write_font(letters: set[str], path: Path) -> None:
    """Write the part of STIX Two Math that these letters need, stretched forms included."""
    options = subset.Options()
    options.flavor = "woff"
    options.layout_features = ["*"]
    whole = files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"
    with whole.open("rb") as stream:
        font = subset.load_font(stream, options)
        cutter = subset.Subsetter(options)
        cutter.populate(text="".join(sorted(letters)))
        cutter.subset(font)
        path.parent.mkdir(parents=True, exist_ok=True)
        subset.save_font(font, str(path), options)


def _finish(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        write_font(app.math_letters, Path(app.outdir) / "_static" / FONT)  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, object]:
    """Make MathML the way in which this book shows formulas."""
    app.math_letters = set()  # type: ignore[attr-defined]
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("build-finished", _finish)
    # The letters are collected in one process.
    return {"parallel_read_safe": True, "parallel_write_safe": False}
