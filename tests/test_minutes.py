"""The estimate of a lesson's minutes: what counts, and what a lesson states."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from advlearn.course.grading.quiz import Choice, Question, Quiz
from advlearn.course.lessons import LESSONS
from advlearn.course.minutes import Effort, effort, of, words

QUIZ = Quiz(
    (Question("One and one?", (Choice("two", True, "Yes."), Choice("three", False, "No, no."))),)
)


def tagged(source, *tags):
    cell = new_code_cell(source)
    cell.metadata["tags"] = list(tags)
    return cell


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("one two  three", 3),
        ("## A heading\n\n- an item\n- *another* one", 6),
        ("a [link of words](00_far_away.ipynb) counts once", 6),
        ("$x_1 + x_2 \\le \\epsilon$ is one word, `x.max(dim=1).values` another", 6),
        ("$$\na = b\n$$", 10),
        ("| a | b |\n|---|---|\n| 1 | 2 |", 4),
        ("<details><summary>Our answer</summary>\n\nIt bends.\n\n</details>", 4),
        ("-- – * ·", 0),
        ("", 0),
    ],
)
def test_words_are_those_that_one_reads(text, count):
    assert words(text) == count


def test_code_counts_where_it_is_shown():
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# Two words"),
            tagged("one = 1\ntwo = 2", "setup"),
            tagged("x = 1\n\n# a comment\ny = 2"),
            tagged("# @title Code that draws\nplot()", "drawing"),
            tagged("print(True)", "nbval-check-output", "authors-check"),
            tagged("def f():\n    ...\n\nex.f.check(f)"),
            new_markdown_cell("### Exercise 1 · A sum · ★☆☆ · 7 minutes"),
            tagged("print(3)", "nbval-check-output"),
            new_markdown_cell("## References\n\nA long list of books"),
            new_markdown_cell("## Appendix, may be skipped\n\nmore words"),
            new_markdown_cell("### Exercise 2 · More · ★☆☆ · 9 minutes"),
            tagged("z = 1"),
        ]
    )
    assert effort(notebook, QUIZ) == Effort(words=8, lines=4, exercises=7, quiz=6)


def test_minutes_add_up():
    assert Effort(words=240, lines=20, exercises=9, quiz=120).minutes == 2 + 2 + 9 + 1


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_lesson_states_what_the_estimate_says(lesson):
    assert lesson.minutes % 5 == 0
    assert abs(lesson.minutes / of(lesson).minutes - 1) < 0.2, of(lesson)
