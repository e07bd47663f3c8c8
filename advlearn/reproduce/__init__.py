"""The paper, reproduced: `advlearn reproduce` runs its rows and writes what came out.

`kitchen` holds the recipes of the models; `linear`, `deep`, `geometry`, `alternatives` and
`pictures` the rows; `schedule` the order of the work and who does it; `store` what is finished;
`verdicts` the results; `page` the tables and the results page.
"""

from __future__ import annotations

from advlearn.reproduce.run import Outcome, reproduce

__all__ = ["Outcome", "reproduce"]
