"""Hand in notebooks: `hand-in` for all of ~/my-lessons, or `hand-in 03_fgsm_linear_models.ipynb`.

Copies go into the learner's own folder of what was handed in. Teachers read it; other learners do
not. Handing in again replaces the copy.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from pathlib import Path

from advlearn._atomic import write_atomically
from advlearn._bounded import read_plain

MOST = 50_000_000  # bytes of a notebook


def main() -> int:
    """Read the command line, copy, and say what was handed in."""
    parser = argparse.ArgumentParser(prog="hand-in", description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of ~/my-lessons by default")
    given = parser.parse_args()
    target = Path(os.environ.get("ADVLEARN_CLASS_DIR", "/srv/advlearn"))
    target = target / "handed-in" / getpass.getuser()
    if not target.is_dir():
        print(f"There is no folder {target}. Ask your teacher to make it.", file=sys.stderr)
        return 1
    notebooks = given.notebooks or sorted((Path.home() / "my-lessons").glob("*.ipynb"))
    failed = not notebooks
    if failed:
        print("There are no notebooks in ~/my-lessons. Name one.", file=sys.stderr)
    for notebook in notebooks:
        try:
            copy = target / notebook.name
            write_atomically(copy, read_plain(notebook, most=MOST))
            copy.chmod(0o640)
        except (OSError, ValueError) as error:
            print(f"NOT handed in: {notebook.name} ({error})", file=sys.stderr)
            failed = True
            continue
        print(f"Handed in at {time.strftime('%H:%M:%S')}: {notebook.name}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
