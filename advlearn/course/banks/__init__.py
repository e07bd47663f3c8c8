"""One file for each lesson: its exercises with right and wrong answers, and its quiz.

Each reference depends on torch alone: `solution()` shows it as it stands in the file.
"""
