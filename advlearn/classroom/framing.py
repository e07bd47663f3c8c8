"""The frame of the pages that a teacher opens, prints or hands out."""

from __future__ import annotations

from collections.abc import Iterable


def framed(title: str, style: str, parts: Iterable[str]) -> str:
    """Return an HTML page that needs no other file.

    Args:
        title: as HTML, so escaped by whoever knows where it comes from.
        style: its CSS.
        parts: what stands in it, as HTML, each on a line of its own.

    Example:
        >>> framed("One", "", ["<p>Two</p>"]).splitlines()[-2:]
        ['<p>Two</p>', '</main></body></html>']
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head><body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )
