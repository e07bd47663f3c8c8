"""One file for each lesson: its exercises with right and wrong answers, and its quiz."""
