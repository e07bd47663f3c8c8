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


@dataclass(frozen=True)
class Choice:
    """One answer: what it says, whether it is right, and why."""

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
        noun = "question" if count == 1 else "questions"
        return f"Quiz of {count} {noun}: open an answer to read what it leads to."

    def _repr_html_(self) -> str:
        parts = []
        for number, question in enumerate(self.questions, start=1):
            answers = "".join(
                f'<details style="margin:0.2em 0 0.2em 1.2em"><summary style="cursor:pointer">'
                f"{letter}. {_code(choice.text)}</summary>"
                f'<p style="margin:0.2em 0 0.5em 1.6em">'
                f"<strong>{'✔ Right.' if choice.right else '✘ No.'}</strong> "
                f"{_code(choice.feedback)}</p></details>"
                for letter, choice in zip(_LETTERS, question.choices, strict=False)
            )
            parts.append(
                f'<section aria-label="Question {number}" style="margin-bottom:1em">'
                f"<p><strong>{number}. {_code(question.text)}</strong></p>{answers}</section>"
            )
        return "".join(parts)


def parse(text: str) -> Quiz:
    """Read a quiz from plain text.

    A question is a paragraph: its text, then the choices, "+" before the right one and "-" before
    each wrong one, with the feedback of each under it, indented. Lines may be broken anywhere.

    Raises:
        ValueError: a paragraph has no choices, a choice has no feedback, or not one is right.

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
        asked, *choices = re.split(r"^(?=[+-] )", paragraph, flags=re.MULTILINE)
        read = []
        for choice in choices:
            said, _, feedback = choice[2:].partition("\n    ")
            if not feedback.strip():
                raise ValueError(
                    f"choice {choice!r:.80} has no feedback: write it under the choice, indented "
                    "by four spaces."
                )
            read.append(Choice(_flowing(said), choice[0] == "+", _flowing(feedback)))
        questions.append(Question(_flowing(asked), tuple(read)))
    return Quiz(tuple(questions))


def _flowing(text: str) -> str:
    return " ".join(text.split())


def _code(text: str) -> str:
    """Escape the text; words between back-quotes become code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
