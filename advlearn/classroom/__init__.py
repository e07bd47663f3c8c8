"""What a teacher of many learners needs: whose notebooks these are, and how far everybody is.

`submissions` finds the notebooks in what a learning platform exports; `status` reads what they
say, and runs nothing.
"""
