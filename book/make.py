"""Make the book: `make book`. A warning of Sphinx fails it, and so does a broken link."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import links
import mend
import source
from repository import FOLDER
from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
HTML = FOLDER / "html"


def weight() -> str:
    """Return in a sentence how much there is to load."""
    sizes = {path: path.stat().st_size for path in HTML.rglob("*") if path.is_file()}
    pages = {path: size for path, size in sizes.items() if path.suffix == ".html"}
    largest = max(pages, key=lambda path: pages[path])
    return (
        f"{len(pages)} pages, {sum(sizes.values()) / 1e6:.0f} MB in all; the largest page is "
        f"{largest.relative_to(HTML)} with {pages[largest] / 1e3:.0f} kB"
    )


def main() -> int:
    """Write the source, build the pages, check the links; return 0 when all is well."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")  # the same book from the same repository
    source.write()
    places = [str(source.SOURCE), str(HTML)]
    options = ["-W", "--keep-going", "-q", "-b", "html", "-c", str(HERE)]
    status = build_main([*options, "-d", str(FOLDER / "doctrees"), *places])
    if status:
        return status
    mend.mend(HTML)
    checked = links.check(HTML)
    print(*checked.broken, sep="\n", end="\n" if checked.broken else "")
    print(
        f"links: {checked.inside} inside, {len(checked.broken)} broken; "
        f"{checked.outside} to other hosts, checked for their form only"
    )
    print(f"{weight()}\nopen {os.path.relpath(HTML)}/index.html")
    return int(bool(checked.broken))


if __name__ == "__main__":
    sys.exit(main())
