"""What a recipe accepts, its schedules, and what a history says."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from advlearn.recipe import History, Recipe


@pytest.mark.parametrize(
    ("progress", "lr", "momentum"),
    [(0.0, 0.1, 0.5), (0.25, 0.1 * 10**-0.5, 0.6), (0.5, 0.01, 0.7), (1.0, 0.001, 0.9)],
)
def test_lr_falls_geometrically_and_momentum_rises_linearly(progress, lr, momentum):
    recipe = Recipe(epochs=10, lr=0.1, lr_final=0.001, momentum=0.5, momentum_final=0.9)
    assert recipe.at(progress) == pytest.approx((lr, momentum))


def test_without_a_final_value_nothing_moves():
    recipe = Recipe(epochs=10, lr=0.3, momentum=0.8)
    assert recipe.at(0.0) == recipe.at(0.7) == recipe.at(1.0) == (0.3, 0.8)


def test_momentum_may_fall_to_zero():
    assert Recipe(epochs=1, momentum=0.9, momentum_final=0.0).at(1.0)[1] == pytest.approx(0.0)


def test_a_recipe_is_a_value():
    recipe = Recipe(epochs=3, lr=0.5)
    assert recipe == Recipe(epochs=3, lr=0.5)
    assert recipe != Recipe(epochs=3, lr=0.4)
    with pytest.raises(AttributeError):
        recipe.lr = 0.1
    with pytest.raises(TypeError):
        Recipe(3)


BAD = [
    ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
    ({"epochs": 2.0}, TypeError, "epochs must be a whole number, got float 2.0"),
    ({"epochs": True}, TypeError, "epochs must be a whole number"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ({"optimizer": "SGD"}, ValueError, "optimizer must be one of sgd, adam, got 'SGD'"),
    ({"lr": 0.0}, ValueError, r"lr must be finite and in \(0, inf\], got 0"),
    ({"lr": -0.1}, ValueError, "lr must be finite"),
    ({"lr": math.inf}, ValueError, "lr must be finite"),
    ({"lr": math.nan}, ValueError, "lr must be finite"),
    ({"lr": "0.1"}, TypeError, "lr must be a number, got str '0.1'"),
    ({"lr_final": 0.0}, ValueError, "lr_final must be finite"),
    ({"momentum": 1.0}, ValueError, "momentum must be finite and in"),
    ({"momentum": -0.1}, ValueError, "momentum must be finite and in"),
    ({"momentum_final": 1.5}, ValueError, "momentum_final must be"),
    ({"momentum_final": 0.5, "optimizer": "adam"}, ValueError, "momentum_final.* for optimizer"),
    ({"max_norm": 0.0}, ValueError, "max_norm must be finite"),
    ({"l1": -1e-9}, ValueError, "l1 must be finite"),
    ({"patience": 0}, ValueError, "patience must be at least 1"),
    ({"precision": "half"}, ValueError, "precision must be one of exact, fast, got 'half'"),
    ({"precision": None}, ValueError, "precision must be one of exact, fast"),
    ({"memory_format": "nhwc"}, ValueError, "memory_format must be one of preserve, channels_last"),
    ({"seed": -1}, ValueError, "seed must be at least 0"),
    ({"seed": 0.5}, TypeError, "seed must be a whole number"),
    ({"seed": np.float64(1.0)}, TypeError, "seed must be a whole number"),
    ({"batch_size": np.True_}, TypeError, "batch_size must be a whole number"),
    ({"batch_size": np.int64(0)}, ValueError, "batch_size must be at least 1"),
    ({"stop_on": 5}, TypeError, "stop_on must be the name of a column.* or None, got int 5"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD, ids=[str(b[0]) for b in BAD])
def test_bad_values_are_named(change, error, words):
    with pytest.raises(error, match=words):
        Recipe(**{"epochs": 1} | change)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"batch_size": np.int64(7)}, 7),
        ({"epochs": np.uint8(7)}, 7),
        ({"patience": np.int16(7)}, 7),
        ({"seed": np.uint64(2**63)}, 2**63),
        ({"lr": np.float32(0.5)}, 0.5),
        ({"momentum_final": np.float16(0.5)}, 0.5),
        ({"max_norm": Fraction(1, 2)}, 0.5),
    ],
    ids=str,
)
def test_numbers_of_others_become_pythons(given, value):
    (name,) = given
    recipe = Recipe(**{"epochs": 1} | given)
    assert type(getattr(recipe, name)) is type(value)
    assert recipe == Recipe(**{"epochs": 1} | {name: value})


def test_what_is_pythons_is_left_as_it_is_written():
    assert str(Recipe(epochs=1, lr=1).as_dict()["lr"]) == "1", "it identifies a run"


def test_the_edges_are_accepted():
    Recipe(epochs=1, batch_size=1, lr=1e-12, momentum=0.0, l1=0.0, patience=1, seed=0)
    Recipe(epochs=1, seed=2**63, max_norm=1e-6)


def test_precision_is_exact_unless_it_is_said():
    assert Recipe(epochs=1).precision == "exact"
    assert Recipe(epochs=1, precision="fast") != Recipe(epochs=1)


def test_what_identifies_a_run_without_the_younger_options_is_what_it_was():
    """Else every published model and every checkpoint would belong to another recipe."""
    plain = Recipe(epochs=1)
    assert list(plain.as_dict()) == [
        *("epochs", "batch_size", "optimizer", "lr", "lr_final", "momentum", "momentum_final"),
        *("max_norm", "l1", "stop_on", "patience", "precision", "seed"),
    ]
    assert replace(plain, memory_format="channels_last").as_dict() == plain.as_dict() | {
        "memory_format": "channels_last"
    }


# --- History --------------------------------------------------------------------------------------

ROWS = [{"epoch": 1, "loss": 0.5, "seconds": 2.0}, {"epoch": 2, "loss": 0.25, "seconds": 1.0}]


def test_a_history_gives_columns():
    history = History(ROWS)
    assert history["loss"] == [0.5, 0.25]
    assert history["epoch"] == [1, 2]
    assert not history.stopped_early


def test_an_unknown_column_is_named_with_those_that_exist():
    with pytest.raises(KeyError, match="no column 'error'; there are epoch, loss, seconds"):
        History(ROWS)["error"]


def test_a_history_says_where_it_ended():
    assert repr(History(ROWS)) == "History of 2 epochs; last: epoch 2, loss 0.25, seconds 1"
    assert "0 epochs" in repr(History())
    assert History()["loss"] == []


def test_two_histories_do_not_share_their_rows():
    History().rows.append({"epoch": 1})
    assert History().rows == []


def test_a_column_that_an_epoch_lacks_is_named_with_the_epoch():
    rows = [{"epoch": 1, "error": 0.5}, {"epoch": 2}, {"epoch": 3, "late": 1.0}]
    history = History(rows)
    assert history["epoch"] == [1, 2, 3]
    with pytest.raises(KeyError, match=r"column 'error' lacks epoch 2, 3: measure.*history\.rows"):
        history["error"]
    with pytest.raises(KeyError, match="column 'late' lacks epoch 1, 2"):
        history["late"]
    with pytest.raises(KeyError, match="there is no column 'eror'; there are epoch, error"):
        history["eror"]
    assert History()["error"] == []
