"""`python -m advlearn.cli` is the command `advlearn`."""

from advlearn.cli.app import app

app(prog_name="advlearn")
