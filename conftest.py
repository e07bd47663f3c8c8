"""For all tests, those in docstrings and the lessons included: nobody's progress is touched."""

from __future__ import annotations

import os

os.environ["ADVLEARN_PROGRESS_DIR"] = ""  # for the processes that a test starts, too
