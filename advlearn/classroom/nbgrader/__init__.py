"""The lessons as a course for nbgrader 0.9: `advlearn class nbgrader OUT`.

`course` writes the course's folder and needs no nbgrader. `cell` is what a graded cell calls.
`preprocessors` is what the course's settings hand to nbgrader; `outside` is the process that it
asks for grades, so that no learner's code runs beside the grade book.
"""

from advlearn.classroom.nbgrader.cell import points

__all__ = ["points"]
