"""The learner's way to the exercises: `from advlearn.exercises import lesson03 as ex`.

Each lesson's exercises and quiz are a module of `advlearn.course.banks`; it is loaded when it is
first asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from types import ModuleType

from advlearn.course import banks
from advlearn.course.grading.exercise import Exercise
from advlearn.course.grading.grader import Grade, Outcome
from advlearn.course.grading.misconceptions import Misconception

__all__ = ["Exercise", "Grade", "Misconception", "Outcome", "all_exercises"]

LESSONS = tuple(
    sorted(m.name for m in pkgutil.iter_modules(banks.__path__) if re.match(r"lesson\d", m.name))
)


def __getattr__(name: str) -> ModuleType:
    """Load the bank of a lesson, such as `lesson03`."""
    if name not in LESSONS:
        raise AttributeError(
            f"module 'advlearn.exercises' has no attribute {name!r}. Lessons are {LESSONS[0]} to "
            f"{LESSONS[-1]}."
        )
    return importlib.import_module(f"{banks.__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*__all__, *LESSONS})


def all_exercises() -> tuple[Exercise, ...]:
    """Return every exercise of every lesson, in the order of the course.

    Example:
        >>> [exercise.name for exercise in all_exercises() if exercise.lesson == "03"][:2]
        ['loss_gradient', 'fgsm_step']
    """
    modules = [importlib.import_module(f"{banks.__name__}.{name}") for name in LESSONS]
    return tuple(exercise for module in modules for exercise in module.EXERCISES)
