"""What the theme and Sphinx get wrong in a page, mended in the finished HTML.

Each repair names its fault. One that finds nothing to mend in the whole book is out of date, and
fails the build, so that none outlives its fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path


def _signature(match: re.Match[str]) -> str:
    lines = re.findall(r"<dd>(.*?)</dd>", match[1], re.S)
    return "".join(f'<span class="sig-line">{line}</span>' for line in lines)


def _with_units(match: re.Match[str]) -> str:
    return match[0].replace(" %", "\N{NO-BREAK SPACE}%")


# what is wrong -> (where, what stands there instead)
REPAIRS: dict[str, tuple[str, str | Callable[[re.Match[str]], str]]] = {
    "the sidebar's folds have no name": (
        r"<summary>(?=<span class=\"toctree-toggle\")",
        '<summary aria-label="pages below this one">',
    ),
    "the parameters of a long signature are a list of definitions without terms": (
        r"<dl>\n((?:<dd>(?:(?!<dl|</dl).)*?</dd>\n)+)</dl>\n",
        _signature,
    ),
    "the sidebar is not a landmark": (
        r'<div id="pst-primary-sidebar"',
        '<div role="region" aria-label="sidebar" id="pst-primary-sidebar"',
    ),
    "an empty corner of a table is a heading": (
        r'<th class="head( text-\w+)?"><p></p></th>',
        r'<td class="head\1"></td>',
    ),
    "a number in a table is torn from its %": (r"<td[^>]*><p>[^<]*\d %[^<]*</p>", _with_units),
    "a screen reader would read Korean as English": (
        r"(?<=<p)(?=>[^<]*[가-힣][^<]*</p>)",
        ' lang="ko"',
    ),
    "pictures are loaded before they come into view": (
        r"<img (?![^>]*loading=)",
        '<img loading="lazy" ',
    ),
}


def mend(folder: Path) -> None:
    """Mend every page under `folder`, in place.

    Raises:
        ValueError: a repair found nothing to do.
    """
    for template in folder.glob("_static/*webpack-macros.html"):
        template.unlink()  # the theme's own, not a page
    idle = set(REPAIRS)
    for path in folder.rglob("*.html"):
        if path.parent.name == "playground":
            continue  # made by neither, and its weights are text that looks like anything
        text = path.read_text(encoding="utf-8")
        for name, (fault, better) in REPAIRS.items():
            text, count = re.subn(fault, better, text, flags=re.S)
            if count:
                idle.discard(name)
        path.write_text(text, encoding="utf-8")
    if idle:
        raise ValueError(f"nothing to mend any more, drop it: {'; '.join(sorted(idle))}")
