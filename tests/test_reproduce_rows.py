"""All rows of the paper: that they agree with it, and a quick run of every one of them."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
import torch

from advlearn.data import reference
from advlearn.reproduce import paper
from advlearn.reproduce.engine.run import reproduce
from advlearn.reproduce.models.recipes import RECIPES, SHIPPED
from advlearn.reproduce.models.trained import Scale
from advlearn.reproduce.report.page import BEGIN, END, pages, publish, shipped
from advlearn.reproduce.rows.table import EXPERIMENTS, INGREDIENTS

ROOT = Path(__file__).resolve().parent.parent
PROCESSOR_SECONDS = 180  # of a quick run; one quiet core is then enough for three minutes
every_row = pytest.mark.parametrize("id", paper.ROWS)


# --- Written down ---------------------------------------------------------------------------------


def test_every_row_of_the_paper_is_an_experiment():
    assert list(EXPERIMENTS) == list(paper.ROWS)
    assert len(EXPERIMENTS) == 23


@every_row
def test_a_row_says_how_it_is_judged(id):
    experiment = EXPERIMENTS[id]
    assert experiment.claims, "a claim tells the direction"
    assert experiment.recipe.endswith(".")
    assert set(experiment.uses) | set(experiment.members) <= set(INGREDIENTS)
    assert set(experiment.same_as.values()) <= set(experiment.row.figures)
    for low, high in experiment.expect.values():
        assert 0 <= low < high <= 1
    # Each figure of the paper is judged, by itself or by what stands for it; the adversarial FGSM
    # error by the stronger attack.
    standing = {experiment.same_as.get(name, name) for name in experiment.expect}
    assert set(experiment.row.figures) <= standing
    if id not in ("l1-deep", "adv-fgsm"):  # the paper's "more than", and "at most"
        for name, (low, high) in experiment.expect.items():
            figure = experiment.row.figures.get(experiment.same_as.get(name, name))
            assert figure is None or low - 1e-9 <= figure <= high + 1e-9


def test_names_of_recipes_are_unique_and_their_options_build():
    assert len(INGREDIENTS) == len(RECIPES)
    for ingredient in RECIPES:
        assert ingredient.words.endswith(".")
        assert set(ingredient.after) <= set(INGREDIENTS)
        for scale in (Scale(quick=True), Scale()):
            options, recipe = ingredient.sized(scale, 3)
            assert recipe.seed == 3
            if scale.quick or ingredient.name in SHIPPED:
                reference.build(ingredient.architecture, options)


def test_every_recipe_is_used_by_a_row_or_ships():
    used = {name for one in EXPERIMENTS.values() for name in (*one.uses, *one.members)}
    used |= {name for members in SHIPPED.values() for name, _ in members}
    used |= {other for one in RECIPES for other in one.after}
    assert set(INGREDIENTS) == used


# --- Run ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """`advlearn reproduce --quick`, once for all tests below."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.process_time()
    outcome = reproduce(quick=True, out=tmp_path_factory.mktemp("quick"))
    seconds = time.process_time() - started
    torch.set_num_threads(threads)
    return outcome, seconds


def test_a_quick_run_of_all_rows_takes_under_three_minutes(quick):
    """By the processor's clock: other work on the machine does not count."""
    outcome, seconds = quick
    assert list(outcome.results) == list(paper.ROWS)
    assert seconds < PROCESSOR_SECONDS


@every_row
def test_a_row_measures_all_that_is_expected_of_it(quick, id):
    """A quantity whose name is misspelt would be missing, and its row never reproduced."""
    experiment, found = EXPERIMENTS[id], quick[0].results[id]
    ours = found["ours"]
    may_lack = {name for name in ours if math.isnan(ours[name])}
    if id.startswith("rubbish"):  # no confidence where a small model calls no rubbish anything
        may_lack |= {name for name in experiment.expect if name.endswith(", confidence")}
    assert set(experiment.expect) <= set(ours) | may_lack
    assert set(experiment.same_as) <= set(ours)
    assert set(experiment.numbers) <= set(ours)
    assert set(experiment.row.figures) <= set(ours) | may_lack
    assert found["verdict"] in ("reproduced", "same direction", "not reproduced")
    assert found["seeds"] == experiment.seeds
    for name, value in ours.items():
        low, high = found["interval"][name]
        if not math.isnan(value):
            assert low - 1e-9 <= value <= high + 1e-9
            least = -1 if " minus " in name else 0  # a difference of two shares
            assert name in found["numbers"] or least <= value <= 1, f"{name} = {value} is no share"


@every_row
def test_a_row_with_fgsm_has_pgd_beside_it(quick, id):
    """For models of one layer FGSM is exact or nearly so."""
    ours = quick[0].results[id]["ours"]
    one_layer = {"l1-linear"}
    if any("FGSM error" in name for name in ours) and id not in one_layer:
        assert any("PGD error" in name for name in ours)


def test_a_claim_asks_for_nothing_that_is_not_measured(quick):
    for id, experiment in EXPERIMENTS.items():
        for claim in experiment.claims:
            assert claim.holds(quick[0].results[id]["ours"]) in (True, False)


def test_quick_runs_hold_a_model_of_each_kind_that_ships(quick):
    outcome, _ = quick
    for name, members in SHIPPED.items():
        assert members[0] in outcome.weights, name


def test_what_is_published_can_be_read_back(quick, tmp_path):
    """A quick run is not published; here it shows that publishing works from end to end."""
    outcome, _ = quick
    # Members of the ensemble that a quick run leaves out.
    for name, seed in SHIPPED["ensemble"]:
        outcome.weights.setdefault((name, seed), outcome.weights[name, 0])
    (tmp_path / "README.md").write_text(f"# Course\n{BEGIN}\n{END}\nend\n", encoding="utf-8")
    written = publish(outcome, tmp_path)
    assert all(path.is_file() for path in written)
    weights, results = tmp_path / "data" / "weights", tmp_path / "data" / "results"
    index = reference.index(weights)
    assert set(index) == set(SHIPPED) == set(shipped(outcome))
    for name, entry in index.items():
        reference.load(name, weights)
        inner = SHIPPED[name][0][0]
        assert bool(entry["measured"]) == (INGREDIENTS[inner].attacked is not None)
    figures = json.loads((results / "figures.json").read_text(encoding="utf-8"))
    assert figures
    for name, words in figures.items():
        assert (results / name).read_bytes()[:3] in (b"\x89PN", b"\xff\xd8\xff")  # PNG, JPEG
        assert len(words) > 40
    again = {
        id: json.loads((results / f"{id}.json").read_text(encoding="utf-8")) for id in paper.ROWS
    }
    for path, text in pages(again, figures, tmp_path).items():
        assert path.read_text(encoding="utf-8") == text
    assert "Of 23 rows" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not list(tmp_path.rglob("*.part"))
