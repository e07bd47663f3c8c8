"""From measured values to a verdict: planted numbers, intervals, ranges, sentences."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace

import pytest

from advlearn.cli.reproduce import in_words
from advlearn.metrics import Rate
from advlearn.reproduce import measures, paper
from advlearn.reproduce.measures import FLOAT32
from advlearn.reproduce.models.description import describe
from advlearn.reproduce.models.recipes import MODELS
from advlearn.reproduce.report.page import (
    BEGIN,
    END,
    filled,
    headline,
    introduction,
    owed_to_float32,
    results_page,
    section,
    verdict_counts,
    with_results,
)
from advlearn.reproduce.rows.experiment import Claim, Experiment, near
from advlearn.reproduce.verdicts import from_json, images, interval, judge, result, spread, to_json

PLANTED = Experiment(
    id="logistic-3v7",
    uses=("logistic-3v7",),
    measure=lambda trial: {},
    expect=near("logistic-3v7", clean=0.005, fgsm=(0.02, 0.01)),
    claims=(Claim("FGSM does harm", lambda measured: measured["FGSM error"] > 0.5),),
    procedure="Planted.",
)

# --- Verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clean", "fgsm", "verdict", "reasons"),
    [
        (0.016, 0.99, "reproduced", []),
        (0.011, 0.97, "reproduced", []),  # the ends belong to the range
        (0.021, 1.0, "reproduced", []),
        (0.0211, 0.99, "same direction", ["clean error is 2.11 %, outside 1.1 to 2.1 %"]),
        (0.016, 0.9, "same direction", ["FGSM error is 90.00 %, outside 97 to 100 %"]),
        (
            0.016,
            0.3,
            "not reproduced",
            [
                "FGSM error is 30.00 %, outside 97 to 100 %",
                "this does not hold: FGSM does harm",
            ],
        ),
    ],
)
def test_a_planted_number_gets_its_verdict(clean, fgsm, verdict, reasons):
    assert judge(PLANTED, {"clean error": clean, "FGSM error": fgsm}) == (verdict, reasons)


def test_a_broken_claim_is_not_outweighed_by_numbers_in_range():
    never = replace(PLANTED, claims=(Claim("never", lambda measured: False),))
    verdict, reasons = judge(never, {"clean error": 0.016, "FGSM error": 0.99})
    assert (verdict, reasons) == ("not reproduced", ["this does not hold: never"])


@pytest.mark.parametrize(
    "means", [{"FGSM error": 0.99}, {"FGSM error": 0.99, "clean error": math.nan}]
)
def test_a_number_that_was_not_measured_is_never_in_range(means):
    verdict, reasons = judge(PLANTED, means)
    assert verdict == "same direction"
    assert reasons == ["clean error was not measured, expected 1.1 to 2.1 %"]


# --- Ranges ---------------------------------------------------------------------------------------


def test_near_lies_around_the_paper_s_numbers():
    assert near("logistic-3v7", clean=0.005, fgsm=(0.02, 0.01)) == {
        "clean error": (0.011, 0.021),
        "FGSM error": (0.97, 1.0),
    }


def test_near_stays_within_0_and_1():
    ranges = near("rbf", fgsm=0.9, confidence=0.1, clean=0.5)
    assert ranges["FGSM error"] == (0.0, 1.0)
    assert ranges["confidence on mistakes"] == (0.0, 0.112)


def test_near_gives_a_range_to_the_quantity_that_stands_for_it():
    ranges = near("logistic-3v7", same_as={"our FGSM": "FGSM error"}, clean=0.005, fgsm=0.01)
    assert set(ranges) == {"clean error", "our FGSM"}
    assert ranges["our FGSM"] == (0.98, 1.0)


def test_near_needs_a_width_for_each_number():
    with pytest.raises(ValueError, match="zip"):
        near("logistic-3v7", clean=0.005)
    with pytest.raises(ValueError, match="id must be one of"):
        near("cnn", clean=0.005)


# --- Intervals ------------------------------------------------------------------------------------


def test_over_three_seeds_it_is_student_s():
    values = [0.010, 0.013, 0.008]
    low, high = interval(values)
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    assert spread(values) == pytest.approx(deviation)
    half = 4.303 * deviation / math.sqrt(3)  # t of 2 degrees of freedom, 97.5 %
    assert (low, high) == pytest.approx((mean - half, mean + half))


@pytest.mark.parametrize(("count", "quantile"), [(3, 4.303), (5, 2.776), (12, 2.201), (30, 2.201)])
def test_the_quantiles_are_those_of_one_degree_less_than_seeds(count, quantile):
    """From a table of Student's distribution; over 12 seeds the wider one of 12 is kept."""
    values = [0.1 + 0.01 * (i % 3) for i in range(count)]
    low, high = interval(values)
    assert (high - low) / 2 == pytest.approx(quantile * spread(values) / math.sqrt(count))


def test_student_s_quantiles_cover_95_percent():
    torch = pytest.importorskip("torch")
    drawn = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = sum(low <= 0 <= high for low, high in map(interval, drawn.tolist()))
    assert inside / len(drawn) == pytest.approx(0.95, abs=0.006)


def test_the_interval_of_counted_rates_ends_where_rates_end():
    most = [Rate(999, 1000), Rate(1000, 1000), Rate(1000, 1000)]
    assert interval([float(rate) for rate in most])[1] > 1, "a number may be larger than 1"
    low, high = interval(most)
    assert low < 0.9997 < high == 1
    low, high = interval([Rate(r.total - r.count, r.total) for r in most])
    assert low == 0 < 0.0003 < high


def test_over_fewer_seeds_it_is_wilson_s():
    assert interval([Rate(16, 1000)]) == Rate(16, 1000).interval
    assert interval([Rate(16, 1000), Rate(20, 1000)]) == Rate(18, 1000).interval, "not 2,000 images"
    assert images([Rate(16, 1000), Rate(20, 1000)]) == 1000
    low, high = interval([Rate(0, 1000)])
    assert 0 <= low < 1e-12
    assert 0 < high < 0.005


@pytest.mark.parametrize("count", [0, 886, 1000])
def test_where_all_seeds_agree_it_is_wilson_s_of_the_images_once(count):
    same = [Rate(count, 1000)] * 5
    low, high = interval(same)
    assert (low, high) == Rate(count, 1000).interval
    assert high - low > 0.003, "no certainty from a thousand images"
    assert images(same) == 1000
    assert images([*same, Rate(500, 1000)]) is None


def test_a_number_that_is_neither_counted_nor_repeated_has_none():
    for values, mean in (([0.3], 0.3), ([0.5, 0.3], 0.4), ([0.3] * 5, 0.3)):
        assert interval(values) == pytest.approx((mean, mean))
        assert images(values) is None
    assert spread([0.3]) == 0


def test_the_tables_say_what_each_interval_is_over():
    found = result(
        PLANTED,
        [
            {"clean error": Rate(k, 1000), "FGSM error": Rate(1000, 1000), "confidence": 0.9}
            for k in (16, 18, 17)
        ],
        about={},
    )
    shown = [paper.interval(found, name) for name in ("clean error", "FGSM error", "confidence")]
    assert shown == [("1.45-1.95 %", "3 seeds"), ("99.6-100.0 %", "1,000 images"), ("", "")]
    assert found["images"] == {"FGSM error": 1000}
    assert "| FGSM error | 99.0 % | 100.0 % | 99.6-100.0 % | 1,000 images |" in section(found)
    assert all("100.0-100.0" not in line for line in paper.table_lines(found))


@pytest.mark.parametrize(
    ("ends", "numbers", "shown"),
    [
        ((0.99987, 1.0), [], "99.99-100.00 %"),
        ((0.00251, 0.00254), [], "0.251-0.254 %"),
        ((1.18001, 1.18004), ["q"], "1.18001-1.18004"),
        ((0.9951, 1.0), [], "99.5-100.0 %"),
        ((-0.01, 0.02), [], "-1.00 to 2.0 %"),
    ],
)
def test_the_ends_of_an_interval_are_told_apart(ends, numbers, shown):
    found = {"interval": {"q": ends}, "images": {}, "values": {"q": [1] * 5}, "numbers": numbers}
    assert paper.interval(found, "q") == (shown, "5 seeds")


# --- Results --------------------------------------------------------------------------------------


def test_values_make_a_round_trip_through_json():
    values = {"error": Rate(1, 4), "radius": 0.25, "nothing": math.nan}
    again = from_json(json.loads(json.dumps(to_json(values))))
    assert again["error"] == Rate(1, 4)
    assert again["radius"] == 0.25
    assert math.isnan(again["nothing"])


@pytest.fixture
def planted():
    return result(
        PLANTED,
        [
            {"clean error": Rate(16, 1000), "FGSM error": Rate(99, 100)},
            {"clean error": Rate(18, 1000), "FGSM error": Rate(97, 100), "late": 0.5},
        ],
        about={"versions": {"torch": "2"}},
    )


def test_a_result_holds_all_that_is_published(planted):
    assert planted["ours"] == pytest.approx({"clean error": 0.017, "FGSM error": 0.98, "late": 0.5})
    assert planted["values"] == {
        "clean error": [0.016, 0.018],
        "FGSM error": [0.99, 0.97],
        "late": [0.5],
    }
    assert planted["paper"] == {"clean error": 0.016, "FGSM error": 0.99}
    assert planted["seeds"] == 2
    assert planted["verdict"] == "reproduced"
    assert planted["tolerance"]["ranges"]["clean error"] == [0.011, 0.021]
    assert planted["tolerance"]["claims"] == ["FGSM does harm"]
    described = describe(MODELS["logistic-3v7"])
    assert planted["recipe"] == {"row": "Planted.", "logistic-3v7": described}
    assert json.loads(json.dumps(planted)) == planted


def test_a_quantity_of_another_name_stands_beside_the_paper_s():
    other = replace(PLANTED, same_as={"float32": "FGSM error"})
    found = result(other, [{"float32": 0.9, "clean error": 0.1, "FGSM error": 1.0}], about={})
    assert found["paper"]["float32"] == found["paper"]["FGSM error"] == 0.99


def test_the_pages_say_what_the_result_says(planted):
    text = section(planted)
    assert "**Verdict: reproduced.**" in text
    assert (
        "| clean error | 1.60 % | 1.70 % | 1.06-2.7 % | 1,000 images | 1.1 to 2.1 % | ± 0.14 % |"
        in text
    )
    assert "- Claim: FGSM does harm." in text
    assert "Done with 2 seeds. Planted." in text
    lines = headline({"logistic-3v7": planted}).splitlines()
    assert lines[2].endswith("| clean error | 1.60 % | 1.70 % |  | reproduced |")
    assert lines[3] == "|  | FGSM error | 99.0 % | 98.0 % |  |  |"
    assert {line.count("|") for line in lines} == {7}
    assert in_words(planted).splitlines()[:2] == [
        "logistic-3v7: reproduced",
        "    clean error: 1.70 %  (paper 1.60 %)",
    ]
    page = results_page({"logistic-3v7": planted}, {"a.png": "a picture"})
    assert "![a picture](a.png)" in page
    assert "Of 1 row, 1 is reproduced" in page
    assert text in page


def test_the_introduction_is_typed_and_its_numbers_come_from_the_code(planted, monkeypatch):
    text = introduction({"logistic-3v7": planted})
    assert "This introduction is typed by hand." in text
    assert "PGD takes 40 steps with 5 restarts on the first\n1,000 test images" in text
    assert "No model has trained on the 5,000 offline digits." in text
    assert "$" not in text
    effort = measures.Effort(examples=7, steps=8, restarts=9)
    monkeypatch.setattr(measures, "FULL", effort)
    changed = "PGD takes 8 steps with 9 restarts on the first\n7 test images"
    assert changed in introduction({"logistic-3v7": planted})


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("PGD takes $steps steps.", {}),
        ("PGD takes $steps steps.", {"steps": "40", "restarts": "5"}),
        ("PGD takes ${steps} steps of $1.", {"steps": "40"}),
        ("It costs $$5.", {}),
    ],
)
def test_a_field_without_a_number_or_a_number_without_a_field_is_an_error(text, fields):
    with pytest.raises(ValueError, match="do not name the same fields"):
        filled(text, fields)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("FGSM error", "PGD error"),
        ("FGSM error, signs", "PGD error, signs"),
        (f"FGSM error{FLOAT32} without", "PGD error without"),
        (f"FGSM error{FLOAT32}, uniform", "PGD error, uniform"),
        (f"whole ensemble attacked{FLOAT32}", "PGD error, whole ensemble attacked"),
        (f"confidence on mistakes{FLOAT32}", None),
        ("clean error", None),
    ],
)
def test_pgd_stands_beside_fgsm(planted, name, other):
    means = {"confidence on mistakes": 0.9, "clean error": 0.1} | {name: 0.5}
    means |= {} if other is None else {other: 0.75}
    line = headline({"row": planted | {"paper": {name: 0.4}, "ours": means}})
    shown = "75.0 %" if other else ""
    assert line.splitlines()[2].endswith(f"| {name} | 40.0 % | 50.0 % | {shown} | reproduced |")


def test_what_is_not_a_rate_is_not_written_as_a_percentage():
    counted = replace(PLANTED, id="filters", numbers=("classes",), expect={"classes": (1.0, 3.0)})
    found = result(counted, [{"classes": 4.0, "FGSM error": 1.0}], about={})
    assert "| classes |  | 4 |  |  | 1 to 3 |  |" in section(found)
    assert "    classes: 4\n" in in_words(found)
    assert paper.table_lines(found)[0].startswith("| filters | classes |  | 4 |  |  |")
    assert found["because"] == ["classes is 4, outside 1 to 3"]


def test_a_row_without_numbers_is_told_by_its_claims():
    bare = replace(PLANTED, id="filters", expect={})
    found = result(bare, [{"FGSM error": 0.6}], about={})
    line = headline({"filters": found}).splitlines()[2]
    assert line.endswith("| FGSM does harm | | | | reproduced |")


def test_verdicts_are_counted():
    results = {
        str(i): {"verdict": v} for i, v in enumerate(["reproduced"] * 2 + ["not reproduced"])
    }
    assert verdict_counts(results) == (
        "Of 3 rows, 2 are reproduced, 0 have the same direction, 1 is not reproduced."
    )


def test_rows_that_hold_with_the_float32_cross_entropy_only_are_named(planted):
    name = f"FGSM error{FLOAT32}, signs"

    def row(right, verdict="reproduced"):
        means = planted["ours"] | {name: 0.85, "FGSM error, signs": right}
        ranges = {"clean error": [0.0, 0.1], name: [0.8, 0.9]}
        return planted | {
            "ours": means,
            "interval": {key: [0.0, 1.0] for key in means},
            "values": {key: [0.5] * 3 for key in means},
            "spread": dict.fromkeys(means, 0.0),
            "verdict": verdict,
            "tolerance": {"ranges": ranges, "claims": []},
        }

    rows = {"a": row(0.99), "b": row(0.85), "c": row(0.99, "same direction")}
    assert owed_to_float32(rows) == ["a"]
    rows["c"] = row(0.7)
    assert owed_to_float32(rows) == ["a", "c"]
    assert "2 of the reproduced rows are so only if" in with_results(f"{BEGIN}\n{END}", rows)
    assert "Reproduced with the float32 cross-entropy only: a, c. With" in results_page(rows, {})
    assert "float32 cross-entropy only: none. With" in results_page({"b": row(0.85)}, {})


def test_the_table_replaces_what_stands_between_the_marks(planted):
    text = f"before\n{BEGIN}\nold\n{END}\nafter \\1\n"
    made = with_results(text, {"logistic-3v7": planted})
    assert made.startswith(f"before\n{BEGIN}\nOf 1 row,")
    assert made.endswith(f"\n{END}\nafter \\1\n")
    assert "old" not in made
    assert with_results(made, {"logistic-3v7": planted}) == made
    with pytest.raises(ValueError, match="the README lacks the lines"):
        with_results("no marks", {"logistic-3v7": planted})
