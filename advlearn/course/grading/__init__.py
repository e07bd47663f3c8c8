"""Exercises and quizzes: run an answer safely, compare it, name the misconception."""
