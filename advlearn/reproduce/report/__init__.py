"""What a run says: the results page, the tables, the pictures, the published weights."""
