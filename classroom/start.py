"""Start a learner's server: bring the lessons up to date, then be JupyterHub's single-user server.

It runs as the learner. Edits are never lost: a lesson that was edited stays, and a newer version is
put beside it. With ADVLEARN_LESSONS_GIT the lessons come from a git repository, by nbgitpuller.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path.home() / "my-lessons"


def bring() -> None:
    """Bring the lessons; a server without new lessons is better than none."""
    try:
        if address := os.environ.get("ADVLEARN_LESSONS_GIT"):
            branch = os.environ.get("ADVLEARN_LESSONS_BRANCH", "main")
            command = [sys.executable, "-m", "nbgitpuller.pull", address, branch, str(FOLDER)]
            # What git asks of a terminal would keep the learner waiting.
            subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
            return
        from advlearn.course import copies

        source, _ = copies.places()
        for sentence in copies.refresh(source, FOLDER):
            print(sentence, file=sys.stderr)
    except Exception as error:
        print(f"The lessons could not be brought up to date: {error}", file=sys.stderr)


if __name__ == "__main__":
    bring()
    program = str(Path(sys.executable).with_name("jupyterhub-singleuser"))
    os.execv(program, [program, *sys.argv[1:]])
