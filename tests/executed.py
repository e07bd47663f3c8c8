"""nbval on what JupyterLab has executed, so that no lesson runs twice where both look at it.

`pytest -p tests.executed --executed FOLDER notebooks` compares the outputs of the lessons in
FOLDER, which the browser tests write, with those that are published: by nbval's own rules, as
`pytest --nbval-lax` does after executing them itself.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbval.plugin import IPyNbFile


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--executed", type=Path, help="the folder of the executed lessons")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix != ".ipynb" or parent.config.getoption("executed") is None:
        return None
    return Lesson.from_parent(parent, path=file_path)


class Transcript:
    """Stands in for nbval's kernel: answers each cell with what it gave in JupyterLab."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: JupyterLab did not execute this lesson.")
        notebook = nbformat.read(path, as_version=4)
        self._cells = deque(cell for cell in notebook.cells if cell.cell_type == "code")
        self._messages: deque[dict[str, Any]] = deque()

    def is_alive(self) -> bool:
        return True

    def execute_cell_input(self, source: str, allow_stdin: bool | None = None) -> str:
        if not self._cells:
            raise ValueError(f"JupyterLab has executed fewer cells. The first one more:\n{source}")
        cell = self._cells.popleft()
        if cell.source != source:
            raise ValueError(f"JupyterLab has executed another text:\n{cell.source}")
        if cell.execution_count is None and source.strip():
            raise ValueError(f"JupyterLab has not executed this cell:\n{source}")
        self._messages.clear()  # of a cell that raised, and was read no further
        for output in cell.outputs:
            content = {name: value for name, value in output.items() if name != "output_type"}
            self._say(output.output_type, content)
        self._say("status", {"execution_state": "idle"})
        return "the same for all"

    def _say(self, kind: str, content: dict[str, Any]) -> None:
        header = {"msg_id": "the same for all"}
        self._messages.append({"msg_type": kind, "parent_header": header, "content": content})

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None:
        pass

    def await_idle(self, parent_id: str, timeout: float) -> None:
        self._messages.clear()

    def get_message(self, stream: str, timeout: float | None = None) -> dict[str, Any]:
        return self._messages.popleft()

    def stop(self) -> None:
        pass


class Lesson(IPyNbFile):
    """A lesson whose cells are compared with those of the executed one of its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.compare_outputs = False  # but of tagged cells, as with --nbval-lax

    def setup(self) -> None:
        self.kernel = Transcript(self.config.getoption("executed") / self.path.name)
        self.setup_sanitize_files()
