"""`python -m advlearn.reproduce.report`: write the published sentences anew after they changed.

It is for a checkout of the course. No model is trained and no number changes.
"""

from __future__ import annotations

from advlearn.data.folders import CHECKOUT
from advlearn.reproduce.report.page import refresh

if __name__ == "__main__":
    for path in refresh(CHECKOUT):
        print(f"wrote {path}")
