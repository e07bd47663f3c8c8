"""The paper, reproduced: `advlearn reproduce` runs its rows and writes what came out.

`paper` has the paper's figures; `models` what is trained, and how; `rows` one file for each
section of the paper; `measures` what the rows measure; `engine` the order of the work, who does it,
and what is finished; `report` the verdicts, the tables and the results page.
"""
