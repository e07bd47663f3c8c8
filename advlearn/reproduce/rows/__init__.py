"""The rows of the paper as experiments, one file for each section."""
