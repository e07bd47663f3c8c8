"""One table of attacks, the properties they all must have, and broken attacks that must be caught.

`table` holds the two axes: attacks (one row for each way to call one) and models (the same network,
handed over in different states). `properties` holds what must be true of each row. `mutants` edits
the source of `advlearn.attacks`; every edit must break a property. `alternatives` holds the same
attacks written in another way, which must pass.

A new attack: add its rows to `table.ATTACKS`. A new kind of model: add it to `table.MODELS`.
"""

import pytest

# The properties are plain functions in a file of their own: without this their asserts are mute.
pytest.register_assert_rewrite("tests.attacks.properties")
