"""The paper, reproduced: `advlearn reproduce` runs its rows and writes what came out.

`paper` has the paper's numbers; `models` what is trained, and how; `rows` one file for each section
of the paper; `measures` what rows have in common; `engine` the order of the work, who does it, and
what is finished; `verdicts` what makes a row reproduced; `report` the tables, the pictures and the
results page.
"""
