"""The course: the session of a lesson, its widgets, glossary, exercises and quizzes."""
