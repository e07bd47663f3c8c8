"""What a run says: verdicts, figures and the results page."""
