"""A run: which items in which order, who makes them, and what is finished."""
