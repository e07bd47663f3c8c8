"""Damaged and hostile boards, submissions, checkpoints, items, notebooks and results.

Each is refused with its reason, in under a second and 200 MB, whatever it claims.
"""

from __future__ import annotations

import pytest

from tests import hostile


@pytest.fixture(scope="module", autouse=True)
def warm():
    hostile.warm_up()


@pytest.mark.parametrize("name", hostile.CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_is_refused_at_once_in_words(tmp_path, name):
    done = hostile.measure(hostile.CASES[name], tmp_path)
    assert done.reason.isprintable(), "one line, and nothing that steers a terminal"
    assert 10 < len(done.reason) < 1200
    assert done.seconds < hostile.MOST_SECONDS
    assert done.megabytes < hostile.MOST_MEGABYTES


def test_the_measure_sees_what_reading_costs(tmp_path):
    case = hostile.Case(
        hostile.written(b"x" * 300_000_000), lambda path: str(path.read_bytes())[:9]
    )
    done = hostile.measure(case, tmp_path)
    assert done.megabytes > 290 or done.megabytes == 0, "0: this system does not tell"


def test_what_is_accepted_is_seen(tmp_path):
    with pytest.raises(AssertionError, match="it was accepted"):
        hostile.refused(lambda path: None)(tmp_path)
