"""Grades for nbgrader from a process of its own, which runs no learner's code in it.

nbgrader may grade inside a server with many threads, which is a bad place to fork from. So a fresh
process is started once, `python -m advlearn.classroom.nbgrader.outside`. It reads a notebook's
cells, a line of JSON each, and answers with the grades: see `advlearn.classroom.judge`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TextIO

from advlearn.classroom.grade import Mark


class GradingError(RuntimeError):
    """A notebook could not be graded; it is nobody's zero."""


class Outside:
    """The process that grades, as nbgrader sees it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def grade(self, lesson: str, cells: Sequence[dict[str, Any]]) -> list[Mark]:
        """Return the grade of each exercise of a lesson.

        Args:
            lesson: its number, "03".
            cells: with "cell_type" and "source".

        Raises:
            GradingError: it cannot be done; the message says why.
        """
        request = json.dumps({"lesson": lesson, "cells": list(cells)})
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError) as error:
            self.close()
            raise GradingError("the process that grades has ended at this notebook") from error
        if "error" in answer:
            raise GradingError(str(answer["error"]))
        return [Mark(**told) for told in answer["marks"]]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            if not hasattr(os, "fork"):
                raise GradingError(
                    "grading outside the notebook needs Linux, macOS, or on Windows WSL. Set "
                    'GRADE = "kernel" in nbgrader_config.py'
                )
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True, encoding="utf-8",
                # A file in the folder where nbgrader runs must not pass for a module.
                env=os.environ | {"PYTHONSAFEPATH": "1"},
            )  # fmt: skip
        return self._process

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):
                    if stream is not None:
                        stream.close()
            process.terminate()
            process.wait()


def serve(asked: TextIO, answers: TextIO) -> None:
    """Answer one line after the other, until there are no more."""
    from advlearn.classroom.judge import Judge
    from advlearn.classroom.runner import Nursery
    from advlearn.classroom.submissions import Notebook

    nursery = Nursery()
    judge = Judge(nursery)
    for line in asked:
        request = json.loads(line)
        notebook = Notebook("", request["lesson"], "", tuple(request["cells"]))
        try:
            answer: dict[str, Any] = {"marks": [asdict(mark) for mark in judge.grade(notebook)]}
        except Exception as error:  # a fault of ours must not cost anybody else a grade
            answer = {"error": f"the grader failed ({type(error).__name__}: {error})"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    nursery.close()


if __name__ == "__main__":
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what anything here prints must not pass for an answer
    serve(sys.stdin, told)
