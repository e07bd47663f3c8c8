"""The lessons of the course: number, file, title, minutes, and what each one builds on.

The one place for these facts. `python -m advlearn.course.notebooks --fill` writes them into the
head of each lesson and into README's table; the book and lesson 0 draw their maps from here. What
an exercise takes, its minutes and its stars, stands in the exercise banks.
"""

from __future__ import annotations

from typing import NamedTuple


class Lesson(NamedTuple):
    """One lesson; `needs` and `helps` are numbers of earlier lessons."""

    number: int
    name: str  # of the file, without its ending
    title: str
    short: str  # the title, where there is little room
    part: str  # of the course
    minutes: int  # for reading and exercises
    needs: tuple[int, ...] = ()  # cannot be left out before this one
    helps: tuple[int, ...] = ()  # make it easier; what it uses of them is repeated

    @property
    def file(self) -> str:
        """The notebook's name."""
        return f"{self.name}.ipynb"

    @property
    def path(self) -> str:
        """The notebook, from the root of the repository."""
        return f"notebooks/{self.file}"


_IDEA, _LINEAR, _DEEP = "the idea", "linear models", "deep models"
_JUDGEMENT, _PROOF = "judgement", "proof"

LESSONS = (
    Lesson(0, "00_start_here", "Start here", "start here", _IDEA, 45),
    Lesson(1, "01_sign_function", "The sign function", "the sign", _IDEA, 60),
    Lesson(
        2, "02_softplus_and_maxout", "Softplus and maxout", "softplus, maxout", _IDEA, 70,
        needs=(1,),
    ),
    Lesson(
        3, "03_fgsm_linear_models", "FGSM on a linear model", "FGSM, linear", _LINEAR, 80,
        helps=(1, 2),
    ),
    Lesson(
        4, "04_l1_penalty", "The L1 penalty is not adversarial training", "L1 penalty", _LINEAR, 85,
        needs=(3,), helps=(2,),
    ),
    Lesson(
        5, "05_fgsm_deep_networks", "FGSM on deep networks", "FGSM, deep", _DEEP, 105,
        needs=(2, 3),
    ),
    Lesson(
        6, "06_adversarial_training", "Adversarial training", "adversarial training", _DEEP, 105,
        needs=(2, 3), helps=(4, 5),
    ),
    Lesson(
        7, "07_why_examples_transfer", "Why examples transfer", "why it transfers", _DEEP, 110,
        needs=(2, 3, 6),
    ),
    Lesson(
        8, "08_alternative_hypotheses", "Alternative hypotheses", "other hypotheses", _JUDGEMENT,
        105, needs=(2, 3),
    ),
    Lesson(
        9, "09_honest_evaluation", "Honest evaluation", "honest evaluation", _JUDGEMENT, 120,
        needs=(3, 6), helps=(7,),
    ),
    Lesson(
        10, "10_capstone", "Capstone: build, defend, break", "capstone", _JUDGEMENT, 85,
        needs=(3, 6), helps=(9,),
    ),
    Lesson(
        11, "11_what_can_be_proved", "What can be proved", "what can be proved", _PROOF, 95,
        needs=(3, 6), helps=(9,),
    ),
)  # fmt: skip
"""Every lesson, in the order of the course."""


def table() -> str:
    """Return the Markdown table of README: number, title and minutes of each lesson.

    Example:
        >>> print(table().splitlines()[2])
        | 00 | [Start here](notebooks/00_start_here.ipynb) | 45 |
    """
    rows = [f"| {one.number:02d} | [{one.title}]({one.path}) | {one.minutes} |" for one in LESSONS]
    return "\n".join(["| | lesson | minutes |", "|---|---|---|", *rows])
