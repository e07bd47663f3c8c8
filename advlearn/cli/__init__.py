"""The command `advlearn`: look after the data, examine the machine, open the lessons."""
