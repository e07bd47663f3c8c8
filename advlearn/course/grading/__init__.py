"""Exercises and quizzes: run an answer safely, compare it, name the misconception.

What a bank is written with can be had from here.
"""

from __future__ import annotations

from advlearn.course.grading import evidence
from advlearn.course.grading.evidence import Args
from advlearn.course.grading.exercise import Exercise, progress, rule
from advlearn.course.grading.misconceptions import Misconception, edits
from advlearn.course.grading.quiz import parse

__all__ = ["Args", "Exercise", "Misconception", "edits", "evidence", "parse", "progress", "rule"]
