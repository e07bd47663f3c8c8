"""Exercises of the lessons, with checks that name the misconception.

`from advlearn.exercises import lesson03 as ex`, then `ex.fgsm_step.check(fgsm_step)`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re

from advlearn.exercises.engine import Exercise
from advlearn.exercises.grading import Grade, Misconception, Outcome

__all__ = ["Exercise", "Grade", "Misconception", "Outcome", "all_exercises"]


def all_exercises() -> tuple[Exercise, ...]:
    """Return every exercise of every lesson, in the order of the course.

    Example:
        >>> [exercise.name for exercise in all_exercises() if exercise.lesson == "03"][:2]
        ['loss_gradient', 'fgsm_step']
    """
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    lessons = [name for name in names if re.fullmatch(r"lesson\d\d", name)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in lessons]
    return tuple(exercise for module in modules for exercise in module.EXERCISES)
