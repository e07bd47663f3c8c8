"""What a teacher of many learners needs: whose notebooks these are, how far everybody is, grades.

`submissions` finds the notebooks in what a learning platform exports. `status` reads what they say,
and runs nothing. `grade` grades them: `answers` takes what of a notebook is run, `runner` runs it
in a confined process, `wire` carries what came of it, `judge` gives the grade, `report` the pages.
`cluster` hands notebooks to the workers of a cluster, which have a `station` each. `edition` writes
the course for teachers, and for learners, whose banks `sealing` closes.
"""
