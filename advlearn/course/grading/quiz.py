"""Quiz questions with feedback on every answer.

A question is plain HTML: each answer is a disclosure that opens to its feedback. It works by
keyboard and with a screen reader, in JupyterLab, Colab, the book and a saved page, with no script,
no kernel and no network.
"""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass

_LETTERS = "ABCDEFGH"
_QUESTION = re.compile(r"\S.*(?:\n\S.*)*")  # lines at the margin
_CHOICE = re.compile(r"([+-]) (\S.*(?:\n\S.*)*)((?:\n {4}.*)+)")  # the same, then indented ones


@dataclass(frozen=True)
class Choice:
    """One answer: its text, whether it is right, and why."""

    text: str
    right: bool
    feedback: str


@dataclass(frozen=True)
class Question:
    """A question with one right answer among its choices."""

    text: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        if (
            not 2 <= len(self.choices) <= len(_LETTERS)
            or sum(choice.right for choice in self.choices) != 1
        ):
            raise ValueError(
                f"question {self.text!r:.60} must have two or more choices (eight at most), "
                "exactly one of them right."
            )


@dataclass(frozen=True)
class Quiz:
    """The questions of one lesson; the last expression of a cell displays them.

    Example:
        >>> choices = (Choice("2", True, "Yes."), Choice("3", False, "Count again."))
        >>> Quiz((Question("1 + 1?", choices),))
        Quiz of 1 question: open an answer to read what it leads to.
    """

    questions: tuple[Question, ...]

    def __repr__(self) -> str:
        count = len(self.questions)
        questions = f"{count} question" + ("" if count == 1 else "s")
        return f"Quiz of {questions}: open an answer to read what it leads to."

    def _repr_html_(self) -> str:
        sections = []
        for number, question in enumerate(self.questions, start=1):
            answers = "".join(
                f'<details style="margin:0.2em 0 0.2em 1.2em"><summary style="cursor:pointer">'
                f"{letter}. {_code(choice.text)}</summary>"
                f'<p style="margin:0.2em 0 0.5em 1.6em">'
                f"<strong>{'✔ Right.' if choice.right else '✘ No.'}</strong> "
                f"{_code(choice.feedback)}</p></details>"
                for letter, choice in zip(_LETTERS, question.choices, strict=False)
            )
            sections.append(
                f'<section aria-label="Question {number}" style="margin-bottom:1em">'
                f"<p><strong>{number}. {_code(question.text)}</strong></p>{answers}</section>"
            )
        return "".join(sections)


def parse(text: str) -> Quiz:
    """Read a quiz from plain text.

    A question is a paragraph: its text, then the choices, "+" before the right one and "-" before
    each wrong one, with the feedback of each under it, indented by four spaces. Lines may be broken
    anywhere, but no line of feedback begins with a sign.

    Raises:
        ValueError: A paragraph is not of this form, such as a choice without feedback, or a
            question has fewer than two choices, more than eight, or not exactly one right choice.

    Example:
        >>> quiz = parse('''
        ...     What is 1 + 1?
        ...     + 2
        ...         Yes.
        ...     - 3
        ...         Count again.
        ... ''')
        >>> quiz.questions[0].choices[1]
        Choice(text='3', right=False, feedback='Count again.')
    """
    questions = []
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(text).strip()):
        question, *choices = re.split(r"^(?=[+-] )", paragraph, flags=re.MULTILINE)
        if not _QUESTION.fullmatch(question.strip()):
            raise ValueError(
                "a question stands above its choices, without a blank line between them, and each "
                f"choice begins with `+ ` or `- `. This is not so: {paragraph!r:.200}"
            )
        questions.append(Question(_one_line(question), tuple(map(_parse_choice, choices))))
    return Quiz(tuple(questions))


def _parse_choice(text: str) -> Choice:
    parts = _CHOICE.fullmatch(text.rstrip())
    # A choice that is indented by mistake would pass for a line of the feedback above it.
    if parts is None or re.search(r"^\s+[+-] ", text, re.MULTILINE):
        raise ValueError(
            "a choice is written `+ text` or `- text` with its feedback under it, indented by four "
            f"spaces. This is not: {text!r:.200}"
        )
    sign, answer, feedback = parts.groups()
    return Choice(_one_line(answer), sign == "+", _one_line(feedback))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _code(text: str) -> str:
    """Escape the text; words between back-quotes become code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
