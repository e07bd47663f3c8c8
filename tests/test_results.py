"""What is committed in data/results and README is what the results give: nothing typed by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from advlearn.metrics import Rate
from advlearn.reproduce import paper
from advlearn.reproduce.engine.run import write_json
from advlearn.reproduce.report.page import (
    BEGIN,
    BEST_KNOWN,
    END,
    headline,
    pages,
    refresh,
    section,
)
from advlearn.reproduce.rows import EXPERIMENTS
from advlearn.reproduce.rows.experiment import Claim
from advlearn.reproduce.verdicts import interval, judge, result, sentences

REFRESH = "run python -m advlearn.reproduce.report"
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLE = re.search(f"{re.escape(BEGIN)}\n(.*?){re.escape(END)}", README, re.S)


def load():
    """Return every committed result, in the paper's order."""
    published = {path.stem for path in RESULTS.glob("*.json")} - {"figures"}
    assert published == set(paper.ROWS), "a row has no result, or a result no row"
    return {id: paper.result(id) for id in paper.ROWS}


def problems(results, figures, root=ROOT, rows=EXPERIMENTS):
    """Say what is not as the results make it."""
    wrong = []
    for path, text in pages(results, figures, root).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            wrong.append(f"{path.name} is not what the results give: run --publish again")
    for id, made in results.items():
        experiment = rows[id]
        in_words = sentences(experiment, made["ours"])
        if made["tolerance"] != in_words["tolerance"]:
            wrong.append(f"{id}: judged by another tolerance than the code's")
        if [made["verdict"], made["because"]] != list(judge(experiment, made["ours"])):
            wrong.append(f"{id}: another verdict than the numbers give")
        for key in ("experiment", "section", "recipe", "remark"):
            if made[key] != in_words[key]:
                wrong.append(
                    f"{id}: {key} is not the code's: run python -m advlearn.reproduce.report"
                )
        if made["about"]["scale"] != "full":
            wrong.append(f"{id}: of a quick run")
        for name, values in made["values"].items():
            mean = sum(values) / len(values)
            if abs(mean - made["ours"][name]) > 1e-9:
                wrong.append(f"{id}: {name} is not the mean of its seeds")
        for name, value in experiment.row.reported.items():
            if made["paper"][name] != value:
                wrong.append(f"{id}: another number of the paper for {name}")
    return wrong


def test_readme_has_a_place_for_the_table():
    assert TABLE is not None


def test_the_committed_pages_are_those_of_the_committed_results():
    """Either nothing is published anywhere, or all of it is and agrees.

    A table in README, a paper.result that works and a folder of results come and go together, so
    this test cannot fall silent when one of them is lost.
    """
    if not RESULTS.exists():
        assert TABLE[1].strip() == "", "README has a table, and data/results is gone"
        for id in paper.ROWS:
            with pytest.raises(FileNotFoundError, match=f"advlearn reproduce --rows {id}`"):
                paper.result(id)
        return
    assert f"Of {len(paper.ROWS)} rows" in TABLE[1]
    figures = json.loads((RESULTS / "figures.json").read_text(encoding="utf-8"))
    assert {path.name for path in RESULTS.iterdir()} == (
        {f"{id}.json" for id in paper.ROWS} | set(figures) | {"figures.json", "README.md"}
    )
    assert problems(load(), figures) == []
    assert paper.table("softmax").count("\n") >= 3


def test_the_published_intervals_are_those_of_the_published_values():
    """Counted once over the images where their number stands, over the seeds where not."""
    for id, made in load().items():
        for name, values in made["values"].items():
            total = made["images"].get(name)
            if total is None:
                ends, most = interval(values), 1.0
            else:
                counts = [value * total for value in values]
                assert counts == pytest.approx([round(count) for count in counts], abs=1e-6), id
                ends, most = interval([Rate(round(c), total) for c in counts]), 1.0
            if name not in made["numbers"]:
                ends = max(ends[0], 0.0), min(ends[1], most)
            assert made["interval"][name] == pytest.approx(ends, abs=1e-9), (id, name)
            if made["interval"][name][0] == made["interval"][name][1]:
                assert paper.interval(made, name) == ("", "")


def test_readme_shows_the_five_rows_that_are_quoted_most_and_the_results_page_all():
    first = [line.split(" | ")[0] for line in TABLE[1].splitlines() if line.startswith("| ")]
    named = [line.removeprefix("| ") for line in first[1:] if line != "| "]
    rows = load()
    assert named == [rows[id]["experiment"] for id in BEST_KNOWN]
    assert len(named) == 5
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert page.count(f"## All rows\n\n{headline(rows)}\n") == 1


def test_readme_opens_with_the_picture_and_says_what_is_on_it():
    alt = json.loads((RESULTS / "figures.json").read_text(encoding="utf-8"))["opening.jpg"]
    shown = re.search(r"^!\[(.+)\]\((\S+)\)$", README, re.M)
    assert shown[1].endswith(alt)
    assert ROOT / shown[2] == RESULTS / "opening.jpg"
    assert README.index(shown[0]) < README.index("\n## ")


def test_a_row_that_is_not_reproduced_says_why():
    """Where a reader looks: on the results page, above the table of the row."""
    for id, made in load().items():
        if made["verdict"] != "reproduced":
            assert len(made["remark"]) > 100, id
            assert f"**Verdict: {made['verdict']}.**\n\n{made['remark']}\n" in section(made)


def test_refresh_writes_the_sentences_of_the_code_and_no_number(tmp_path):
    for name in ("results", "weights"):
        (tmp_path / "data" / name).mkdir(parents=True)
    committed = [*RESULTS.glob("*.json"), RESULTS / "README.md", ROOT / "README.md"]
    committed.append(ROOT / "data" / "weights" / "index.json")
    for path in committed:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json" and path.stem != "figures":
            made = json.loads(text)
            entries = made.values() if path.stem == "index" else [made]
            for entry in entries:
                old = {"recipe": "An old sentence.", "remark": "Old.", "because": []}
                entry.update({key: old[key] for key in old if key in entry})
            text = json.dumps(made)
        (tmp_path / path.relative_to(ROOT)).write_text(text, encoding="utf-8")
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    written = refresh(tmp_path)
    assert {path.relative_to(tmp_path) for path in written} == {
        path.relative_to(ROOT) for path in committed if path.name != "figures.json"
    }
    for path in committed[:-2] + committed[-1:]:
        if path.name != "figures.json":
            assert (tmp_path / path.relative_to(ROOT)).read_bytes() == path.read_bytes(), path.name
    made = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert made == f"before\n{TABLE[0]}\nafter\n"


# --- The comparison, shown to work on planted results ---------------------------------------------

# Claims ask for quantities that are not planted.
PLANTED = {
    id: replace(experiment, claims=(Claim("planted", lambda measured: True),))
    for id, experiment in EXPERIMENTS.items()
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with results as a full run writes them, and the pages made of them."""
    folder = tmp_path / "data" / "results"
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    for id, experiment in PLANTED.items():
        numbers = {**dict.fromkeys(experiment.expect, 0.5), **experiment.row.reported}
        values = {name: Rate(round(1000 * value), 1000) for name, value in numbers.items()}
        about = {"scale": "full", "versions": {"torch": "2"}}
        write_json(folder / f"{id}.json", result(experiment, [values], about=about))
    monkeypatch.setattr(paper, "published", lambda kind: tmp_path / "data" / kind)
    for path, text in pages({id: paper.result(id) for id in paper.ROWS}, {}, tmp_path).items():
        path.write_text(text, encoding="utf-8")
    return tmp_path


def problems_there(checkout):
    results = {id: paper.result(id) for id in paper.ROWS}
    return problems(results, {}, checkout, PLANTED)


def test_planted_pages_agree_until_one_is_touched(checkout):
    assert problems_there(checkout) == []
    for path in (checkout / "README.md", checkout / "data" / "results" / "README.md"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("99.9 %", "99.8 %", 1), encoding="utf-8")
        assert problems_there(checkout) == [
            "README.md is not what the results give: run --publish again"
        ]
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict": "reproduced!"}, "softmax: another verdict"),
        ({"tolerance": {"ranges": {}, "claims": []}}, "softmax: judged by another tolerance"),
        ({"about": {"scale": "quick", "versions": {}}}, "softmax: of a quick run"),
        ({"remark": "Another reason."}, "softmax: remark is not the code's"),
        ({"recipe": {"row": "Another sentence."}}, "softmax: recipe is not the code's"),
        (
            {"values": {"FGSM error": [0.1], "confidence on mistakes": [0.793]}},
            "softmax: FGSM error is not the mean of its seeds",
        ),
        (
            {"paper": {"FGSM error": 0.5, "confidence on mistakes": 0.793}},
            "softmax: another number of the paper for FGSM error",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_result_that_was_touched_would_be_seen(checkout, change, words):
    write_json(checkout / "data" / "results" / "softmax.json", paper.result("softmax") | change)
    assert any(problem.startswith(words) for problem in problems_there(checkout))


def test_a_table_has_a_line_for_each_quantity(checkout):
    table = paper.table()
    for id in paper.ROWS:
        for name in paper.result(id)["ours"]:
            assert f"| {name} |" in table, (id, name)
    assert paper.table("softmax").splitlines()[0].startswith("| row | quantity | paper | ours |")
    # The head, the quantities, a blank line, and what an interval over images is.
    assert len(paper.table("softmax", "rbf").splitlines()) == 2 + 2 + 3 + 1 + 3
    with pytest.raises(ValueError, match="id must be one of"):
        paper.table("softmax", "cnn")
