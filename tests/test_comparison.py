"""Before and after: tables of any form tool, honest intervals, and nobody's name in the results."""

from __future__ import annotations

import csv
import io
import math
import random

import pytest
from typer.testing import CliRunner

from advlearn.classroom import comparison
from advlearn.classroom.comparison import (
    Answers,
    compare,
    normalised_gain,
    paired_interval,
    read,
)
from advlearn.classroom.concepts import CONCEPTS, LETTERS, right
from advlearn.cli import app as cli

WRONG = {
    form: "".join("A" if letter != "A" else "B" for letter in right(form))
    for form in ("entrance", "exit")
}


def table(rows, heads=None, delimiter=","):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(heads or ["code", *range(1, 13)])
    writer.writerows(rows)
    return text.getvalue()


def written(tmp_path, text, name="a.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def test_the_plainest_table(tmp_path):
    path = written(tmp_path, table([["kim", *"ABCDEABCDEAB"], ["lee", *right("entrance")]]))
    found = read(path, "entrance")
    assert found.letters == {"kim": tuple("ABCDEABCDEAB"), "lee": tuple(right("entrance"))}
    assert found.told == ()


FULL = [one.entrance.text for one in CONCEPTS]


@pytest.mark.parametrize(
    ("heads", "lead", "delimiter", "encoding"),
    [
        (["Timestamp", "Your code: four letters", *(f"{n}. {t}" for n, t in enumerate(FULL, 1))],
         ["2026/03/02 6:01:22"], ",", "utf-8"),
        (["Start time", "Email", *(f"Q{n}" for n in range(1, 13))], ["1"], ";", "utf-8-sig"),
        (["#", "Username", *FULL], ["1"], "\t", "utf-16"),
        (["State", "이름", *(f"Response {n}" for n in range(1, 13))], ["Finished"], ",", "utf-8"),
    ],
)  # fmt: skip
def test_tables_of_form_tools(tmp_path, heads, lead, delimiter, encoding):
    rows = [[*lead, "kim", *right("entrance")]]
    path = written(tmp_path, table(rows, heads, delimiter), encoding=encoding)
    assert read(path, "entrance").letters == {"kim": tuple(right("entrance"))}


def test_points_and_comments_beside_the_answers_are_not_read(tmp_path):
    heads = ["Name"]
    for n in range(1, 13):
        heads += [f"{n}. Item", f"Points - {n}. Item", f"Feedback - {n}. Item"]
    row = ["kim"]
    for letter in right("exit"):
        row += [letter, "1", "well done"]
    assert read(written(tmp_path, table([row], heads)), "exit").letters["kim"] == tuple(
        right("exit")
    )


@pytest.mark.parametrize("spelling", ["{}", "{})", "({})", " {}. because", "{} : so", "{}\t"])
def test_letters_as_people_write_them(tmp_path, spelling):
    cells = [spelling.format(letter.lower()) for letter in right("entrance")]
    path = written(tmp_path, table([["kim", *cells]]))
    assert read(path, "entrance").letters["kim"] == tuple(right("entrance"))


def test_the_text_of_an_answer_counts_as_its_letter(tmp_path):
    for letter in range(4):
        cells = [one.exit.choices[letter].text for one in CONCEPTS]
        path = written(tmp_path, table([["kim", *cells]]))
        assert read(path, "exit").letters["kim"] == tuple(LETTERS[letter] * 12)
    path = written(tmp_path, table([["kim", *["I do not know"] * 12]]))
    assert read(path, "exit").letters["kim"] == tuple("E" * 12)


def test_what_cannot_be_read_is_told_and_left_out(tmp_path):
    rows = [
        ["kim", "F", "", *right("entrance")[2:]],
        ["", *right("entrance")],
        [],
        ["Kim ", *right("entrance")[:11], "=1+1"],
    ]
    found = read(written(tmp_path, table(rows)), "entrance")
    assert found.letters == {"kim": (*right("entrance")[:11], "?")}, "the last row counts"
    told = " ".join(found.told)
    assert "2 answers cannot be read" in told
    assert "line 2, item 1: 'F'" in told
    assert "answered twice: line 5 counts" in told
    assert "1 rows say not whose they are" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("code,1\n", "no rows"),
        (table([["kim", *"A" * 12]], ["x", *range(1, 13)]), "does not say whose"),
        (table([["kim", *"A" * 11]], ["code", *range(1, 12)]), "no column for item 12"),
        (table([["kim", *"A" * 13]], ["code", *range(1, 13), "1"]), "two columns for item 1"),
        (table([["", *"A" * 12]]), "no row with a learner"),
        ('code,1\n"kim', "no CSV file"),
        (
            table([["kim", *"A" * 12]], ["code", *(one.exit.text for one in CONCEPTS)]),
            "questions of the other test",
        ),
    ],
)
def test_what_is_no_table_of_answers(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, text), "entrance")


def test_other_encodings_are_refused(tmp_path):
    path = written(tmp_path, table([["é", *"A" * 12]]), encoding="latin-1")
    with pytest.raises(ValueError, match="not in UTF-8"):
        read(path, "entrance")


def test_the_column_of_learners_can_be_named(tmp_path):
    text = table([["kim", *"A" * 12]], ["who", *range(1, 13)])
    assert list(read(written(tmp_path, text), "entrance", learner="who").letters) == ["kim"]
    with pytest.raises(ValueError, match="learner = 'nobody' is no column"):
        read(written(tmp_path, text), "entrance", learner="nobody")


# --- Numbers --------------------------------------------------------------------------------------


def answers(**letters):
    return Answers({name: tuple(text) for name, text in letters.items()}, ())


def test_who_learned_everything():
    before = answers(a=WRONG["entrance"], b=WRONG["entrance"], c=WRONG["entrance"], d="E" * 12)
    after = answers(a=right("exit"), b=right("exit"), c=WRONG["exit"], e=right("exit"))
    found = compare(before, after)
    assert (found.only_before, found.only_after) == (1, 1)
    for one in found.changes:
        assert (one.total, one.right, one.gained, one.lost) == (3, (0, 2), 2, 0)
        assert one.difference == pytest.approx(2 / 3)
    assert found.scores == ((0.0, 0.0), (0.0, 1.0), (0.0, 1.0))


def test_beliefs_are_counted_apart_from_other_wrong_answers():
    held = "".join(
        LETTERS[next(k for k, c in enumerate(one.entrance.choices) if comparison.shows_belief(c))]
        for one in CONCEPTS
    )
    found = compare(answers(a=held, b="E" * 12), answers(a=right("exit"), b=[""] * 12))
    assert all(one.belief == (1, 0) and one.right == (0, 1) for one in found.changes)


def test_unreadable_answers_leave_only_their_item_out():
    before = answers(a=["?", *right("entrance")[1:]], b=right("entrance"))
    found = compare(before, answers(a=right("exit"), b=right("exit")))
    assert [one.total for one in found.changes] == [1] + [2] * 11
    assert found.scores == ((1.0, 1.0), (1.0, 1.0))


def test_nobody_in_both():
    with pytest.raises(ValueError, match="nobody is in both files"):
        compare(answers(a="A" * 12), answers(b="A" * 12))


@pytest.mark.parametrize("count", [5, 12, 30])
@pytest.mark.parametrize("shares", [(0.05, 0.4), (0.1, 0.1), (0.0, 0.3), (0.02, 0.6), (0.3, 0.3)])
def test_the_interval_holds_what_it_promises(count, shares):
    """Of classes drawn from known chances, 95 in 100 intervals hold the true change, or nearly."""
    lost, gained = shares  # the others stay as they were
    truth, drawn, held = gained - lost, random.Random(0), 0
    for _ in range(2000):
        g = ls = 0
        for _ in range(count):
            u = drawn.random()
            ls += u < lost
            g += lost <= u < lost + gained
        low, high = paired_interval(g, ls, count)
        held += low <= truth <= high
    assert held / 2000 > 0.93


def test_intervals_are_symmetric_and_never_empty():
    for total in (1, 3, 10):
        for gained in range(total + 1):
            for lost in range(total + 1 - gained):
                low, high = paired_interval(gained, lost, total)
                assert low < high
                assert paired_interval(lost, gained, total) == pytest.approx((-high, -low))


@pytest.mark.parametrize("count", [5, 12])
def test_the_gains_interval_holds_what_it_promises(count):
    drawn, held, given = random.Random(1), 0, 0
    truth = 0.4
    for _ in range(600):
        before = [min(0.9, max(0.0, drawn.gauss(0.4, 0.15))) for _ in range(count)]
        after = [share + truth * (1 - share) + drawn.gauss(0, 0.12) for share in before]
        _, interval = normalised_gain(before, after)
        if interval is not None:
            given += 1
            held += interval[0] <= truth <= interval[1]
    assert given > 550
    assert held / given > 0.93


def test_a_gain_that_the_data_do_not_bound():
    assert normalised_gain([0.5, 0.5], [1.0, 0.5])[1] is None
    assert normalised_gain([1.0, 1.0, 0.99, 1.0], [1.0, 1.0, 1.0, 0.9])[1] is None
    gain, interval = normalised_gain([1.0, 1.0], [1.0, 1.0])
    assert math.isnan(gain)
    assert interval is None


# --- What comes out -------------------------------------------------------------------------------


def a_class(size):
    drawn = random.Random(2)
    before, after = [], []
    for number in range(size):
        name = f"learner-{number}@school.example"
        before.append([name, *(drawn.choice("ABCDE") for _ in range(12))])
        after.append([name, *(r if drawn.random() < 0.7 else "E" for r in right("exit"))])
    return table(before), table(after)


def test_the_command_compares_and_names_nobody(tmp_path):
    before, after = a_class(12)
    files = [written(tmp_path, before, "before.csv"), written(tmp_path, after, "after.csv")]
    out = tmp_path / "out"
    done = CliRunner().invoke(cli.app, ["class", "compare", *map(str, files), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "12 learners answered both tests" in done.output
    assert sorted(p.name for p in out.iterdir()) == [
        "comparison.html", "learners.csv", "misconceptions.csv",
    ]  # fmt: skip
    for path in out.iterdir():
        assert "school" not in path.read_text(encoding="utf-8"), "nobody's name"
    rows = list(csv.DictReader(io.StringIO((out / "misconceptions.csv").read_text())))
    assert [row["misconception"] for row in rows] == [one.name for one in CONCEPTS]
    assert all(float(row["low"]) <= float(row["change"]) <= float(row["high"]) for row in rows)
    shares = [line.split(",")[1] for line in (out / "learners.csv").read_text().splitlines()[1:]]
    assert shares == sorted(shares), "in an order that tells nobody's place"


def test_of_few_learners_no_single_results_are_given(tmp_path):
    before, after = a_class(3)
    files = [written(tmp_path, before, "before.csv"), written(tmp_path, after, "after.csv")]
    out = tmp_path / "out"
    done = CliRunner().invoke(cli.app, ["class", "compare", *map(str, files), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert not (out / "learners.csv").exists()
    assert "keep this page to yourself" in (out / "comparison.html").read_text(encoding="utf-8")


def test_files_in_the_wrong_order_are_noticed(tmp_path):
    heads = ["code", *(one.exit.text for one in CONCEPTS)]
    path = written(tmp_path, table([["kim", *"A" * 12]], heads))
    done = CliRunner().invoke(cli.app, ["class", "compare", str(path), str(path)])
    assert done.exit_code == 1
    assert "The first file is the entrance test" in done.output
