"""All rows of the paper: that they agree with it, and a quick run of every one of them."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
import torch

from advlearn.data import reference
from advlearn.reproduce import paper, rows
from advlearn.reproduce.engine.run import reproduce
from advlearn.reproduce.models.recipes import MODELS, SHIPPED
from advlearn.reproduce.models.spec import Scale
from advlearn.reproduce.report.page import BEGIN, END, pages, publish, shipped
from advlearn.reproduce.rows import EXPERIMENTS

ROOT = Path(__file__).resolve().parent.parent
PROCESSOR_SECONDS = 180  # of a quick run; one quiet core is then enough for three minutes
every_row = pytest.mark.parametrize("id", paper.ROWS)


# --- Written down ---------------------------------------------------------------------------------


def test_every_row_of_the_paper_is_an_experiment():
    assert list(EXPERIMENTS) == list(paper.ROWS)


def test_a_row_stands_in_the_file_of_its_section():
    """And the first lines of that file name it: who looks for a row opens one file."""
    files = {path.stem: path for path in Path(rows.__file__).parent.glob("section*.py")}
    assert sorted(files) == [module.__name__.rpartition(".")[2] for module in rows.SECTIONS]
    found = {}
    for module in rows.SECTIONS:
        own = [experiment.id for experiment in module.EXPERIMENTS]
        assert f"\nRow{'s' * (len(own) > 1)} {', '.join(own)}.\n" in module.__doc__
        found |= dict.fromkeys(own, module.__name__.rpartition(".")[2])
    for id, row in paper.ROWS.items():
        section = f"section{row.section}_" if row.section.isdigit() else f"section_{row.section}_"
        assert found[id].startswith(section.lower()), id


@every_row
def test_a_row_says_how_it_is_judged(id):
    experiment = EXPERIMENTS[id]
    assert experiment.claims, "a claim tells the direction"
    assert experiment.procedure.endswith(".")
    assert set(experiment.uses) | set(experiment.members) <= set(MODELS)
    assert set(experiment.same_as.values()) <= set(experiment.row.reported)
    for low, high in experiment.expect.values():
        assert 0 <= low < high <= 1
    # Each number of the paper is judged, by itself or by what stands for it; the adversarial FGSM
    # error by the stronger attack.
    standing = {experiment.same_as.get(name, name) for name in experiment.expect}
    assert set(experiment.row.reported) <= standing
    if id not in ("l1-deep", "adv-fgsm"):  # the paper's "more than", and "at most"
        for name, (low, high) in experiment.expect.items():
            value = experiment.row.reported.get(experiment.same_as.get(name, name))
            assert value is None or low - 1e-9 <= value <= high + 1e-9


def test_names_of_models_are_unique_and_their_options_build():
    for name, model in MODELS.items():
        assert model.name == name
        assert set(model.after) <= set(MODELS)
        for scale in (Scale(quick=True), Scale()):
            options, recipe = model.sized(scale, 3)
            assert recipe.seed == 3
            if scale.quick or name in SHIPPED:
                reference.build(model.architecture, options)


def test_every_model_is_used_by_a_row_or_ships():
    used = {name for one in EXPERIMENTS.values() for name in (*one.uses, *one.members)}
    used |= {name for members in SHIPPED.values() for name, _ in members}
    used |= {other for one in MODELS.values() for other in one.after}
    assert set(MODELS) == used


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
    means = found["ours"]
    may_lack = {name for name in means if math.isnan(means[name])}
    if id.startswith("rubbish"):  # no confidence where a small model calls no rubbish anything
        may_lack |= {name for name in experiment.expect if name.endswith(", confidence")}
    assert set(experiment.expect) <= set(means) | may_lack
    assert set(experiment.same_as) <= set(means)
    assert set(experiment.numbers) <= set(means)
    assert set(experiment.row.reported) <= set(means) | may_lack
    assert found["verdict"] in ("reproduced", "same direction", "not reproduced")
    assert found["seeds"] == experiment.seeds
    for name, value in means.items():
        low, high = found["interval"][name]
        if not math.isnan(value):
            assert low - 1e-9 <= value <= high + 1e-9
            least = -1 if " minus " in name else 0  # a difference of two rates
            assert name in found["numbers"] or least <= value <= 1, (name, value)


@every_row
def test_a_row_with_fgsm_has_pgd_beside_it(quick, id):
    """For models of one layer FGSM is exact or nearly so."""
    names = quick[0].results[id]["ours"]
    one_layer = {"l1-linear"}
    if any("FGSM error" in name for name in names) and id not in one_layer:
        assert any("PGD error" in name for name in names)


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
        assert bool(entry["measured"]) == (MODELS[inner].attack_eps is not None)
    figures = json.loads((results / "figures.json").read_text(encoding="utf-8"))
    assert figures
    for name, alt in figures.items():
        assert (results / name).read_bytes()[:3] in (b"\x89PN", b"\xff\xd8\xff")  # PNG, JPEG
        assert len(alt) > 40
    again = {
        id: json.loads((results / f"{id}.json").read_text(encoding="utf-8")) for id in paper.ROWS
    }
    for path, text in pages(again, figures, tmp_path).items():
        assert path.read_text(encoding="utf-8") == text
    assert f"Of {len(paper.ROWS)} rows" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not list(tmp_path.rglob("*.part"))
