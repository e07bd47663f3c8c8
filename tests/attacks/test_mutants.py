"""The table accepts right attacks, however written, and rejects each broken one."""

from __future__ import annotations

import pytest

from tests.attacks.alternatives import Angles, BestIterate, ThreeCases
from tests.attacks.mutants import MUTANTS, Edit, edited
from tests.attacks.properties import PROPERTIES
from tests.attacks.table import ATTACKS, MODELS

# Small products gain nothing from a second thread, and wait for it on a busy machine.
pytestmark = pytest.mark.usefixtures("one_thread")

# What a fault may end in. A NameError or a TypeError is a fault of the mutant itself.
CAUGHT = (AssertionError, RuntimeError, ValueError)


def failures(module, check, first=()):
    """Yield the rows of the table for which a property fails on a module's functions.

    On the model that asks for the most care: in training, but for a part. The rows of the
    functions in `first` come first, and functions that the module lacks are left out.
    """
    (mixed,) = [variant for variant in MODELS if variant.name == "frozen BatchNorm"]
    rows = [row for row in ATTACKS if hasattr(module, row.function)]
    for row in sorted(rows, key=lambda row: row.function not in first):
        attack = row.within(module)
        if check.why_not(attack) is None:
            try:
                check.run(attack, mixed)
            except CAUGHT:
                yield row.name


@pytest.mark.parametrize("check", PROPERTIES.values(), ids=str)
def test_the_unbroken_source_is_not_caught(check):
    assert list(failures(edited("unbroken"), check)) == []


@pytest.mark.parametrize("module", [ThreeCases, BestIterate, Angles])
@pytest.mark.parametrize("check", PROPERTIES.values(), ids=str)
def test_a_right_attack_is_not_caught(module, check):
    assert list(failures(module, check)) == []


# A loss that fades is one of the faults.
@pytest.mark.filterwarnings("ignore::advlearn.directions.NoDirectionWarning")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant):
    module = edited(mutant.name, *mutant.edits)
    changed = {edit.function for edit in mutant.edits}
    caught = next(failures(module, PROPERTIES[mutant.breaks], changed), None)
    assert caught, f"{mutant.name} survives: {mutant.breaks} holds for every row of the table."


def test_each_property_can_fail():
    assert {mutant.breaks for mutant in MUTANTS} == set(PROPERTIES)


def test_mutants_have_names_of_their_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit("pgd", "a text that is not there", ""), "is 0 times in pgd"),
        (Edit("pgd", "rows", "lines"), "times in pgd"),
        (Edit("pgd", "range(restarts)", "range(restarts )"), "what it was before"),
        (Edit("pgd", "range(restarts)", "range(restarts"), "not Python"),
        (Edit("no_such_attack", "a", "b"), "no function no_such_attack"),
        (Edit("pgd", "many small FGSM steps", "one step"), "is 0 times in pgd"),
    ],
)
def test_an_edit_that_does_nothing_fails_loudly(edit, words):
    with pytest.raises(ValueError, match=words):
        edited("no mutant", edit)
