"""One slip for each lesson: the right answer, changed as a learner would get it wrong.

The right answer is the exercise's own `source()`, the feedback that of the named misconception.
"""

from __future__ import annotations

import importlib
import re
from typing import NamedTuple

from advlearn.exercises import Exercise


class Slip(NamedTuple):
    """An exercise, and how its answer goes wrong."""

    lesson: str
    name: str
    misconception: str
    right: str  # a part of the answer
    wrong: str  # what the learner wrote in its place

    @property
    def exercise(self) -> Exercise:
        return next(e for e in bank(self.lesson).EXERCISES if e.name == self.name)

    @property
    def feedback(self) -> str:
        """What the check must say to the learner."""
        known = self.exercise.wrong_answers
        return next(w.feedback for w in known if w.name == self.misconception)

    def cell(self, *, right: bool) -> str:
        """Return the text of the exercise's cell with the right or the wrong answer in it."""
        answer = self.exercise.source()
        if not right:
            if answer.count(self.right) != 1:
                raise ValueError(f"{self.right!r} is not once in the answer of {self.name}")
            # The comments explain the right answer.
            answer = re.sub(r" *#.*", "", answer.replace(self.right, self.wrong))
        return f"{answer}\n\nex.{self.name}.check({self.name})"


def bank(lesson: str):  # type: ignore[no-untyped-def]
    """Return the module with the exercises and the quiz of a lesson."""
    return importlib.import_module(f"advlearn.course.banks.lesson{lesson}")


SLIPS = (
    Slip("00", "max_norm", "no absolute value", "eta.abs()", "eta"),
    Slip("01", "best_perturbation", "no sign", "torch.sign(w)", "w"),
    Slip("02", "maxout", "maximum over units", "amax(dim=1)", "amax(dim=2)"),
    Slip("03", "fgsm_step", "no sign", "torch.sign(gradient)", "gradient"),
    Slip("04", "effective_penalties", "no eps in front", "eps * torch.s", "torch.s"),
    Slip("05", "targeted_fgsm", "plus in place of minus", "x - eps", "x + eps"),
    Slip("06", "participation", "upper sum not squared", "sum(dim=1).square()", "sum(dim=1)"),
    Slip("07", "step_share", "no sign", "g_source.sign()", "g_source"),
    Slip("08", "knowing_loss", "forgets the alarm", "torch.minimum(others - true, -alarm)",
         "others - true"),
    Slip("09", "pgd_step", "no ball", "torch.clamp(stepped, x - eps, x + eps)", "stepped"),
    Slip("10", "is_legal", "ball only", "(in_range & (change <= eps + 1e-6))",
         "(change <= eps + 1e-6)"),
    Slip("11", "layer_bounds", "no absolute value", "w.abs()", "w"),
)  # fmt: skip
