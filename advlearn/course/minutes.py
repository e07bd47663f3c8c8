"""How long a lesson takes: one estimate for all, from what a learner has before the eyes.

python -m advlearn.course.minutes    words, lines of code and minutes of each lesson
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from nbformat import NotebookNode

from advlearn.course import banks
from advlearn.course.grading.quiz import Quiz
from advlearn.course.lessons import LESSONS, Lesson
from advlearn.course.notebooks import FOLDS, HERE, read
from advlearn.course.tables import print_table

WORDS_A_MINUTE = 120.0  # of a text that is studied, by readers of whom many learned English later
SECONDS_A_LINE = 6.0
WORDS_OF_A_FORMULA = 10  # that stands on a line of its own; one within a line is one word
UNREAD = ("References", "Appendix")  # sections that a learner may leave out


class Effort(NamedTuple):
    """What a lesson asks of a learner."""

    words: int  # of the text
    lines: int  # of the code that is shown: not blank, not folded, no exercise
    exercises: int  # minutes, as their headings say
    quiz: int  # words of the questions, of their answers, and of what is said to the right one

    @property
    def minutes(self) -> float:
        """The estimate: reading at one speed, and the exercises."""
        reading = (self.words + self.quiz) / WORDS_A_MINUTE
        return reading + self.lines * SECONDS_A_LINE / 60 + self.exercises


def words(text: str) -> int:
    """Return how many words a Markdown text has, without addresses, tags and marks.

    Example:
        >>> words("## A [link](there.md) to $x + y$, *now*")
        5
        >>> words("$$x = 1$$") == WORDS_OF_A_FORMULA
        True
    """
    text = re.sub(r"\$\$.*?\$\$", " formula" * WORDS_OF_A_FORMULA, text, flags=re.S)
    text = re.sub(r"\$[^$\n]+\$|`[^`\n]+`", "formula", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<[^>]*>", " ", text)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def _cells_to_read(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """Give the cells of a lesson that are not in a section of `UNREAD`."""
    unread = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for heading in re.findall(r"^## (.+)$", cell.source, re.M):
                unread = heading.startswith(UNREAD)
        if not unread:
            yield cell


def _lines_in_sight(cell: NotebookNode) -> int:
    """Return how many lines of code a learner reads in a cell: none of what is folded, or asked."""
    folded = {"setup", *FOLDS} & set(cell.metadata.get("tags", []))
    if folded or re.search(r"^ex\.", cell.source, re.M):
        return 0
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def effort(notebook: NotebookNode, quiz: Quiz) -> Effort:
    """Return what a notebook, and the quiz that it shows, ask of a learner."""
    texts, lines, exercises = 0, 0, 0
    for cell in _cells_to_read(notebook):
        if cell.cell_type == "markdown":
            texts += words(cell.source)
            minutes = re.findall(r"^### Exercise .* · (\d+) minutes$", cell.source, re.M)
            exercises += sum(map(int, minutes))
        else:
            lines += _lines_in_sight(cell)
    asked = 0
    for question in quiz.questions:
        right = next(choice for choice in question.choices if choice.right)
        shown = [question.text, right.feedback, *(choice.text for choice in question.choices)]
        asked += sum(map(words, shown))
    return Effort(texts, lines, exercises, asked)


class Section(NamedTuple):
    """One section of a lesson: what it asks for beside its exercises, and which these are."""

    title: str  # its heading; "" before the first one
    minutes: float  # to read its text and its code
    exercises: tuple[int, ...]  # their numbers in the lesson, from 1


def sections(notebook: NotebookNode) -> list[Section]:
    """Return the sections of a lesson in their order, without those that may be left out.

    Their minutes, those of their exercises and those of the quiz are together those of `effort`.

    Example:
        >>> [one.exercises for one in sections(read(HERE / LESSONS[0].file)) if one.exercises]
        [(1,), (2, 3), (4, 5)]
    """
    found = [Section("", 0.0, ())]
    for cell in _cells_to_read(notebook):
        if cell.cell_type == "markdown":
            for piece in re.split(r"^(?=## )", cell.source, flags=re.M):
                if heading := re.match(r"## (.+)", piece):
                    found.append(Section(heading[1].strip(), 0.0, ()))
                last = found[-1]
                numbers = re.findall(r"^### Exercise (\d+) · .* · \d+ minutes$", piece, re.M)
                found[-1] = Section(
                    last.title,
                    last.minutes + words(piece) / WORDS_A_MINUTE,
                    last.exercises + tuple(map(int, numbers)),
                )
        else:
            seconds = _lines_in_sight(cell) * SECONDS_A_LINE
            found[-1] = found[-1]._replace(minutes=found[-1].minutes + seconds / 60)
    return found


def of(lesson: Lesson) -> Effort:
    """Return what a lesson of the course asks of a learner.

    Example:
        >>> 20 < of(LESSONS[0]).minutes < 60
        True
    """
    bank = importlib.import_module(f"{banks.__name__}.lesson{lesson.number:02d}")
    return effort(read(HERE / lesson.file), bank.quiz)


def main() -> None:
    """Print the estimate for each lesson beside what the lesson states."""
    rows = []
    for lesson in LESSONS:
        one = of(lesson)
        rows.append(
            {
                "lesson": f"{lesson.number:02d}",
                "words": one.words,
                "code lines": one.lines,
                "exercises": one.exercises,
                "estimate": one.minutes,
                "stated": lesson.minutes,
            }
        )
    print_table(rows, formats={"estimate": ".0f"})


if __name__ == "__main__":
    main()
