"""Timetables: no block exceeds its time, what is needed comes first, and nothing gets lost."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
from typer.testing import CliRunner

from advlearn.classroom import timetable
from advlearn.classroom.timetable import FORMATS, Part, fill, needed, parts, plan
from advlearn.cli import app as cli
from advlearn.course import minutes, notebooks
from advlearn.course.lessons import LESSONS


@pytest.fixture(scope="module", params=FORMATS)
def table(request):
    return plan(request.param)


def sequence(table):
    """Return all that is done, in its order: homework comes after its meeting."""
    meetings = [chain(*meeting.blocks, meeting.home) for meeting in table.meetings]
    return [part for part in chain(table.before, *meetings) if part.lesson >= 0]


def out_of_order(done):
    """Return what is told before what it needs."""
    every = {lesson.number: [p for p in parts(lesson) if p.kind == "read"] for lesson in LESSONS}
    seen: set[Part] = set()
    problems = []
    for part in done:
        if part.kind == "read":
            before = every[part.lesson][: every[part.lesson].index(part)]
            for number in LESSONS[part.lesson].needs:
                before = before + every[number]
            if missing := [one for one in before if one not in seen]:
                problems.append(f"{part} comes before {missing[0]}")
        else:
            own = [p for p in parts(LESSONS[part.lesson]) if p.kind == "read"]
            told = own if part.kind == "quiz" else own[: 1 + section_of(part)]
            problems += [f"{part} comes before {one}" for one in told if one not in seen]
        seen.add(part)
    return problems


def section_of(exercise):
    order = parts(LESSONS[exercise.lesson])
    above = [part for part in order[: order.index(exercise)] if part.kind == "read"]
    return above[-1].number


def test_a_lesson_needs_only_earlier_ones():
    assert all(need < lesson.number for lesson in LESSONS for need in lesson.needs)
    assert [lesson.number for lesson in needed([9])] == [1, 2, 3, 6, 9]


def test_no_block_exceeds_its_time(table):
    for meeting in table.meetings:
        assert len(meeting.blocks) == len(table.format.blocks)
        for block, length in zip(meeting.blocks, table.format.blocks, strict=True):
            assert sum(part.minutes for part in block) == length, "each minute has its purpose"
            assert all(part.minutes > 0 for part in block)


def test_what_is_needed_comes_first(table):
    assert out_of_order(sequence(table)) == []


def test_the_check_of_the_order_can_fail(table):
    done = sequence(table)
    assert out_of_order(done[::-1]), "the other way round"
    first = next(i for i, part in enumerate(done) if part.kind == "read")
    assert out_of_order(done[:first] + done[first + 1 :]), "without the first section"


def test_each_part_is_done_once_or_left_out(table):
    left_out = [part for meeting in table.meetings for part in meeting.left_out]
    every = [part for lesson in needed(table.format.goals) for part in parts(lesson)]
    assert sorted(sequence(table) + left_out) == sorted(every)
    assert not [part for part in left_out if part.kind == "read"], "no section is left out"
    assert set(table.format.goals) <= {part.lesson for part in every}


def test_homework_has_a_limit_and_hard_exercises_are_done_there(table):
    assert sum(part.minutes for part in table.before) <= table.format.before
    for meeting in table.meetings:
        assert sum(part.minutes for part in meeting.home) <= table.format.home
        live = list(chain(*meeting.blocks))
        assert all(part.difficulty < timetable.HARD for part in live)
        assert any(part.kind == "exercise" for part in live), "hands on in each meeting"
        easiest = min((p.difficulty for p in meeting.left_out), default=3)
        assert easiest >= min((p.difficulty for p in meeting.home if p.difficulty), default=0)


def test_the_tests_take_a_tenth_of_the_class_at_most(table):
    live = [p for m in table.meetings for p in chain(*m.blocks) if p.kind == "test"]
    in_class = len(table.meetings) * sum(table.format.blocks)
    assert sum(part.minutes for part in live) <= timetable.MOST_TESTING * in_class
    assert len(live) == (0 if table.tests_at_home else 2)
    if live:
        assert table.meetings[0].blocks[0][1].title == "entrance test"
        last = [part for part in table.meetings[-1].blocks[-1] if part.kind != "room"]
        assert last[-1].title == "exit test"


def test_the_lines_of_a_meeting_add_up(table):
    whole = sum(table.format.blocks) + sum(table.format.breaks)
    for meeting in table.meetings:
        rows = timetable.rows(table, meeting)
        assert sum(minutes for *_, minutes in rows) == whole
        assert sum(what == "break" for _, what, _ in rows) == len(table.format.breaks)
        assert rows[0][0] == timetable.clock(table.format.start)


def test_parts_follow_the_lessons_own_minutes():
    for lesson in LESSONS:
        notebook = notebooks.read(notebooks.HERE / lesson.file)
        whole, sections = minutes.of(lesson), minutes.sections(notebook)
        told = sum(section.minutes for section in sections)
        assert told + whole.exercises + whole.quiz / minutes.WORDS_A_MINUTE == pytest.approx(
            whole.minutes
        )
        mine = parts(lesson)
        assert whole.minutes <= sum(part.minutes for part in mine) <= whole.minutes + len(mine)
        asked = [part.minutes for part in mine if part.kind == "exercise"]
        assert sum(asked) == whole.exercises


def test_weeks_are_as_even_as_their_order_allows():
    loads = [sum(lesson.minutes for lesson in share) for share in timetable._shared(LESSONS, 6)]
    assert sum(loads) == sum(lesson.minutes for lesson in LESSONS)
    for count in (1, 3, 12):
        assert [x for run in timetable._shared(LESSONS, count) for x in run] == list(LESSONS)
    assert timetable._shared(LESSONS[:2], 2) == [[LESSONS[0]], [LESSONS[1]]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"home": 0, "blocks": (20,), "breaks": ()}, "do not fit into class and homework"),
        ({"breaks": ()}, "2 blocks have 1 breaks"),
        ({"meetings": 9}, "9 meetings for 2 lessons"),
    ],
)
def test_what_cannot_be_planned_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        fill(FORMATS["evening"]._replace(**changes))


def test_an_unknown_timetable():
    with pytest.raises(ValueError, match=r"'month'\. Choose evening, day, weeks"):
        plan("month")


def test_neighbours_are_told_together():
    listed = [
        Part("read", 4, "a", 3, 1), Part("read", 2, "b", 3, 2), Part("exercise", 8, "c", 3, 1, 2),
        Part("exercise", 4, "d", 3, 2, 1), Part("quiz", 2, "quiz", 3), Part("test", 9, "exit test"),
    ]  # fmt: skip
    assert timetable.runs(listed) == [
        ("lesson 3, sections 1–2", 6),
        ("lesson 3, exercises 1–2", 12),
        ("lesson 3, quiz", 2),
        ("exit test", 9),
    ]


def test_the_command_prints_a_timetable():
    done = CliRunner().invoke(cli.app, ["class", "timetable", "day", "--start", "10:00"])
    assert done.exit_code == 0, done.output
    assert "10:00" in done.output
    assert "break" in done.output
    assert "Left out" in done.output or "Homework" in done.output
    done = CliRunner().invoke(cli.app, ["class", "timetable", "day", "--start", "25:00"])
    assert done.exit_code == 1
    assert "25:00 is not a time of the day" in done.output


def test_markdown_has_one_row_for_each_line(table):
    text = timetable.as_markdown(table)
    assert text.startswith(f"**{table.format.name}.** {table.format.why}")
    cells = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(set(cells)) == 1, "no cell has a bar of its own"
    assert replace(table, before=[]) is not table
