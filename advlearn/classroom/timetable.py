"""Timetables for a class: which parts of which lessons fit into an evening, a day, six weeks.

A format says how much time there is and where the class should arrive. Everything else follows from
the lessons: which ones are needed for that, how long each section and each exercise takes, what is
done in class, what at home, and what is left out.
"""

from __future__ import annotations

import functools
import importlib
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, zip_longest
from typing import NamedTuple

from advlearn.classroom import concepts
from advlearn.course import banks
from advlearn.course.lessons import LESSONS, Lesson
from advlearn.data.folders import CHECKOUT, is_checkout

HANDS_ON = 1 / 3  # of the time in class at least, as far as there are exercises for it
HARD = 3  # stars of an exercise that needs quiet: not in class
MOST_TESTING = 0.1  # of the time in class: where the two tests take more, they are done at home
ARRIVAL = 5  # minutes at the beginning of a meeting: everybody is there, and a first cell runs


class Format(NamedTuple):
    """How much time a class has, and where it should arrive."""

    name: str
    goals: tuple[int, ...]  # numbers of lessons
    meetings: int
    blocks: tuple[int, ...]  # minutes of each block of a meeting
    breaks: tuple[int, ...]  # minutes between them
    before: int  # minutes of preparation at home, before the first meeting
    home: int  # minutes of homework after each meeting, at most
    start: int  # of a meeting, in minutes after midnight
    why: str  # the only part that is typed


FORMATS = {
    "evening": Format(
        "90 minutes", (0, 3), 1, (45, 40), (5,), 0, 60, 18 * 60,
        "One idea: many small changes add up, and the sign of the gradient says which. The linear "
        "model shows it without a proof left open. Both lessons stand on their own.",
    ),
    "day": Format(
        "One day", (0, 9), 1, (85, 85, 85, 85), (15, 60, 15), 125, 90, 9 * 60,
        "From the first attack to an honest evaluation, so that nobody goes home with a defence "
        "that only FGSM believes in. What honest evaluation builds on sets the rest.",
    ),
    "weeks": Format(
        "Six weeks", tuple(lesson.number for lesson in LESSONS), 6, (45, 40), (5,), 0, 130, 18 * 60,
        "The whole course. Neighbouring lessons share a week, so that the weeks are as even as "
        "their order allows. What is begun in class is finished at home before the next week.",
    ),
}  # fmt: skip
"""The formats, by the name that the command takes."""


class Part(NamedTuple):
    """Something that a class does in one go."""

    kind: str  # "start", "test", "read", "exercise", "quiz" or "room"
    minutes: int
    title: str
    lesson: int = -1
    number: int = 0  # of the section, in the order of the lesson; of the exercise
    difficulty: int = 0  # of an exercise


@dataclass
class Meeting:
    """One meeting: its blocks, what is left for home, and what is left out."""

    blocks: list[list[Part]]
    home: list[Part] = field(default_factory=list)
    left_out: list[Part] = field(default_factory=list)


@dataclass
class Timetable:
    """A format, filled."""

    format: Format
    before: list[Part]  # at home, before the first meeting
    meetings: list[Meeting]
    tests_at_home: bool


# --- What the lessons say -------------------------------------------------------------------------


def needed(goals: Iterable[int]) -> list[Lesson]:
    """Return these lessons and all that they build on, in an order in which they can be taught.

    Example:
        >>> [lesson.number for lesson in needed([6])]
        [1, 2, 3, 6]
    """
    wanted, open_ = set(), list(goals)
    while open_:
        number = open_.pop()
        if number not in wanted:
            wanted.add(number)
            open_ += LESSONS[number].needs
    # A lesson needs only earlier ones: `tests/test_timetable.py` holds that.
    return [LESSONS[number] for number in sorted(wanted)]


@functools.cache
def parts(lesson: Lesson) -> tuple[Part, ...]:
    """Return the parts of a lesson in its order: sections, the exercises under them, the quiz.

    Minutes are whole and rounded up. Sections in which nothing new is told, before the first
    numbered one and after the last, count as one part each.
    """
    from advlearn.course import minutes
    from advlearn.course.notebooks import HERE, read

    bank = importlib.import_module(f"{banks.__name__}.lesson{lesson.number:02d}")
    notebook = read(HERE / lesson.file)
    found: list[Part] = []
    opening, closing = 0.0, 0.0
    for section in minutes.sections(notebook):
        if not section.title[:1].isdigit():
            if found:
                closing += section.minutes
            else:
                opening += section.minutes
            continue
        number, _, title = section.title.partition(" ")
        found.append(
            Part("read", math.ceil(section.minutes), title.strip(), lesson.number, int(number))
        )
        for which in section.exercises:
            exercise = bank.EXERCISES[which - 1]
            found.append(
                Part("exercise", exercise.minutes, exercise.title, lesson.number, which,
                     exercise.difficulty)
            )  # fmt: skip
    last = max(part.number for part in found if part.kind == "read")
    quiz = minutes.effort(notebook, bank.quiz).quiz / minutes.WORDS_A_MINUTE
    return (
        Part("read", math.ceil(opening), "opening", lesson.number, 0),
        *found,
        Part("read", math.ceil(closing), "summary", lesson.number, last + 1),
        Part("quiz", math.ceil(quiz), "quiz", lesson.number),
    )


# --- What code chooses ----------------------------------------------------------------------------


def plan(name: str) -> Timetable:
    """Return the timetable of a format.

    The rules, in this order. Preparation takes whole lessons, from the first one. The others are
    shared out among the meetings as evenly as their order allows. In a meeting each lesson is
    begun, unless it needs one that is not at its end; its sections are taken in order, and what
    does not fit is homework. So nothing is told before what it needs. Of the class's time a third
    is for exercises: the first ones of each lesson in turn, no hard ones.
    Homework takes what is left of the sections, then the quizzes, then exercises, the easier ones
    first, as long as there is time for it. The rest is left out.

    Args:
        name: a key of `FORMATS`.

    Raises:
        ValueError: there is no such format, the lessons are not at hand, or their sections do not
            fit into its time.
    """
    if name not in FORMATS:
        raise ValueError(f"there is no timetable {name!r}. Choose {', '.join(FORMATS)}.")
    if not is_checkout(CHECKOUT):
        raise ValueError(
            "timetables are made from the lessons of a checkout, and this is an installed package. "
            "The book's page for teachers shows them."
        )
    return fill(FORMATS[name])


def fill(chosen: Format) -> Timetable:
    """Return the timetable of a format of your own; see `plan`.

    Raises:
        ValueError: the sections do not fit into its time.
    """
    if len(chosen.breaks) != len(chosen.blocks) - 1:
        raise ValueError(
            f"{len(chosen.blocks)} blocks have {len(chosen.blocks) - 1} breaks between them, got "
            f"{len(chosen.breaks)}."
        )
    lessons = needed(chosen.goals)
    before: list[Part] = []
    while lessons and _sum([*before, *parts(lessons[0])]) <= chosen.before:
        before += parts(lessons.pop(0))
    testing = concepts.minutes()
    in_class = chosen.meetings * sum(chosen.blocks)
    at_home = 2 * testing > MOST_TESTING * in_class
    first, last = Part("test", testing, "entrance test"), Part("test", testing, "exit test")
    meetings = []
    shares = _shared(lessons, chosen.meetings)
    for number, share in enumerate(shares):
        opens = [Part("start", ARRIVAL, "arriving: a first cell runs on every computer")]
        opens += [first] if number == 0 and not at_home else []
        closes = [last] if number == len(shares) - 1 and not at_home else []
        meetings.append(_meeting(chosen, share, opens, closes))
    return Timetable(chosen, before, meetings, at_home)


def _shared(lessons: Sequence[Lesson], count: int) -> list[list[Lesson]]:
    """Cut the lessons into so many runs: the longest as short as can be, then as even as can be."""
    if len(lessons) < count:
        raise ValueError(f"{count} meetings for {len(lessons)} lessons: plan fewer meetings.")

    def runs(cuts: Sequence[int]) -> list[list[Lesson]]:
        ends = [*cuts, len(lessons)]
        return [list(lessons[a:b]) for a, b in zip_longest([0, *cuts], ends)]

    def cost(cuts: Sequence[int]) -> tuple[int, int]:
        loads = [sum(lesson.minutes for lesson in run) for run in runs(cuts)]
        return max(loads), sum(load * load for load in loads)

    return runs(min(combinations(range(1, len(lessons)), count - 1), key=cost))


def _meeting(
    chosen: Format, lessons: Sequence[Lesson], opens: list[Part], closes: list[Part]
) -> Meeting:
    order = [part for lesson in lessons for part in parts(lesson)]
    readings = [part for part in order if part.kind == "read"]
    quizzes = [part for part in order if part.kind == "quiz"]
    exercises = [part for part in order if part.kind == "exercise"]
    live: set[Part] = set()
    capacity = sum(chosen.blocks) - sum(part.minutes for part in opens + closes)

    def blocks(wanted: set[Part]) -> list[list[Part]] | None:
        return _packed([*opens, *(part for part in order if part in wanted), *closes], chosen)

    def take(part: Part) -> bool:
        if blocks(live | {part}) is None:
            return False
        live.add(part)
        return True

    def read(most: float) -> None:
        """Take sections of each lesson in turn; of one that needs another, when that ends."""
        open_ = {lesson.number: lesson for lesson in lessons}
        while open_:
            for number, lesson in list(open_.items()):
                left = {one.lesson for one in readings if one not in live}
                if left & set(lesson.needs):
                    if not left & set(lesson.needs) & open_.keys():
                        del open_[number]
                    continue
                part = next((p for p in readings if p.lesson == number and p not in live), None)
                told = sum(one.minutes for one in live if one.kind == "read")
                if part is None or told + part.minutes > most or not take(part):
                    del open_[number]

    def practise() -> None:
        """Take exercises of what was told: the first of each lesson, then the second of each."""
        told = {(part.lesson, part.number) for part in live if part.kind == "read"}
        section = _sections_of(order)
        ready = [
            [e for e in exercises if e.lesson == lesson.number and e.difficulty < HARD]
            for lesson in lessons
        ]
        for turn in zip_longest(*ready):
            for part in filter(None, turn):
                if part not in live and (part.lesson, section[part]) in told:
                    take(part)

    read((1 - HANDS_ON) * capacity)
    practise()
    read(capacity)
    practise()
    for quiz in quizzes:
        if all(part in live for part in readings if part.lesson == quiz.lesson):
            take(quiz)
    filled = blocks(live)
    if filled is None:
        raise ValueError(f"{chosen.name}: the tests alone do not fit into a meeting.")
    rest = [part for part in order if part not in live]
    by_ease = sorted(
        rest, key=lambda p: ({"read": 0, "quiz": 1, "exercise": 2}[p.kind], p.difficulty)
    )
    home: set[Part] = set()
    for part in by_ease:
        if sum(one.minutes for one in home) + part.minutes <= chosen.home:
            home.add(part)
        elif part.kind == "read":
            raise ValueError(
                f"{chosen.name}: the sections of lessons {_spoken(one.number for one in lessons)} "
                "do not fit into class and homework. Give more time, or fewer goals."
            )
    return Meeting(
        filled,
        [part for part in rest if part in home],
        [part for part in rest if part not in home],
    )


def _sections_of(order: Sequence[Part]) -> dict[Part, int]:
    """Return the number of the section under which each exercise stands."""
    found, section = {}, 0
    for part in order:
        if part.kind == "read":
            section = part.number
        elif part.kind == "exercise":
            found[part] = section
    return found


def _packed(wanted: Sequence[Part], chosen: Format) -> list[list[Part]] | None:
    """Put parts into the blocks in their order, none across a break; None where they do not fit."""
    blocks: list[list[Part]] = [[] for _ in chosen.blocks]
    block, used = 0, 0
    for part in wanted:
        while used + part.minutes > chosen.blocks[block]:
            block, used = block + 1, 0
            if block == len(blocks):
                return None
        blocks[block].append(part)
        used += part.minutes
    for parts_, length in zip(blocks, chosen.blocks, strict=True):
        left = length - sum(part.minutes for part in parts_)
        if left:
            parts_.append(Part("room", left, "questions" if left < 15 else "room for more"))
    return blocks


# --- What people read -----------------------------------------------------------------------------


def _spoken(numbers: Iterable[int]) -> str:
    """Return numbers in words, neighbours as a range.

    Example:
        >>> _spoken([1, 2, 3, 5]), _spoken([4])
        ('1–3, 5', '4')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs)


def _joined(run: Sequence[Part]) -> str:
    """Return parts of one kind and one lesson, one after the other, in words."""
    first = run[0]
    if first.kind == "exercise":
        word = "exercise" if len(run) == 1 else "exercises"
        return f"lesson {first.lesson}, {word} {_spoken(part.number for part in run)}"
    if first.kind == "quiz":
        return f"lesson {first.lesson}, quiz"
    if first.kind == "read":
        numbered = [part.number for part in run if part.title not in {"opening", "summary"}]
        named = ["opening"] if first.title == "opening" else []
        if numbered:
            named.append(f"section{'s' * (len(numbered) > 1)} {_spoken(numbered)}")
        named += ["summary"] if run[-1].title == "summary" else []
        return f"lesson {first.lesson}, {', '.join(named)}"
    return first.title


def runs(listed: Sequence[Part]) -> list[tuple[str, int]]:
    """Return neighbouring parts of one lesson and kind as one: in words, and their minutes."""
    found: list[list[Part]] = []
    for part in listed:
        if found and (found[-1][0].kind, found[-1][0].lesson) == (part.kind, part.lesson):
            found[-1].append(part)
        else:
            found.append([part])
    return [(_joined(run), sum(part.minutes for part in run)) for run in found]


def grouped(listed: Sequence[Part]) -> list[tuple[str, int]]:
    """Return the parts in words, as `runs`, those of one lesson and kind together."""
    kinds = ("read", "exercise", "quiz")
    ordered = sorted(listed, key=lambda p: (p.lesson, kinds.index(p.kind), p.number))
    return runs(ordered)


def clock(minutes: int) -> str:
    """Return minutes after midnight as a time.

    Example:
        >>> clock(18 * 60 + 5)
        '18:05'
    """
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def rows(table: Timetable, meeting: Meeting) -> list[tuple[str, str, int]]:
    """Return the lines of a meeting: when, what, minutes; breaks among them."""
    now, found = table.format.start, []
    for block, pause in zip_longest(meeting.blocks, table.format.breaks):
        steps = runs(block) + ([("break", pause)] if pause else [])
        for what, minutes in steps:
            found.append((clock(now), what, minutes))
            now += minutes
    return found


def _sum(listed: Sequence[Part]) -> int:
    return sum(part.minutes for part in listed)


def _sentences(meeting: Meeting) -> list[str]:
    """Return what is done at home, and what is left out."""
    said = []
    for words, listed in (("Homework", meeting.home), ("Left out", meeting.left_out)):
        if listed:
            what = "; ".join(text for text, _ in grouped(listed))
            said.append(f"{words} ({_sum(listed)} minutes): {what}.")
    return said


def _preparation(table: Timetable) -> str:
    said = []
    if table.before:
        what = _spoken(sorted({part.lesson for part in table.before}))
        many = "lessons" if "–" in what or "," in what else "lesson"
        said.append(f"Before ({_sum(table.before)} minutes at home): {many} {what}.")
    if table.tests_at_home:
        said.append(
            f"The entrance test is done at home before, the exit test after: {concepts.minutes()} "
            "minutes each."
        )
    return " ".join(said)


def as_markdown(table: Timetable) -> str:
    """Return a timetable for the book: a table for each meeting, or one for all where many."""
    lines = [f"**{table.format.name}.** {table.format.why}"]
    if ready := _preparation(table):
        lines += ["", ready]
    if len(table.meetings) == 1:
        meeting = table.meetings[0]
        lines += ["", "| | in class | minutes |", "|---|---|--:|"]
        lines += [
            f"| {when} | {what} | {minutes} |" for when, what, minutes in rows(table, meeting)
        ]
        for sentence in _sentences(meeting):
            lines += ["", sentence]
        return "\n".join(lines)
    each = " + ".join(map(str, table.format.blocks))
    pauses = ", ".join(map(str, table.format.breaks))
    lines += [
        "",
        f"Each meeting has {each} minutes with a break of {pauses}, and begins with {ARRIVAL} "
        "minutes to arrive.",
    ]
    lines += ["", "| week | in class | homework | left out |", "|--:|---|---|---|"]
    for number, meeting in enumerate(table.meetings, 1):
        live = [p for block in meeting.blocks for p in block if p.kind not in {"start", "room"}]
        cells = ["; ".join(text for text, _ in runs(live))]
        for listed in (meeting.home, meeting.left_out):
            what = "; ".join(text for text, _ in grouped(listed))
            cells.append(f"{what} ({_sum(listed)} minutes)" if listed else "nothing")
        lines.append(f"| {number} | {' | '.join(cells)} |")
    return "\n".join(lines)


def as_text(table: Timetable, start: int | None = None) -> str:
    """Return a timetable for a terminal, each meeting minute by minute.

    Args:
        table: from `plan`.
        start: of a meeting, in minutes after midnight; None means that of the format.
    """
    if start is not None:
        table = Timetable(
            table.format._replace(start=start), table.before, table.meetings, table.tests_at_home
        )
    lines = [table.format.name, *textwrap.wrap(table.format.why, 88)]
    if ready := _preparation(table):
        lines += ["", *textwrap.wrap(ready, 88)]
    for number, meeting in enumerate(table.meetings, 1):
        lines.append("")
        if len(table.meetings) > 1:
            lines.append(f"Meeting {number}")
        lines += [f"  {when}  {minutes:>3}  {what}" for when, what, minutes in rows(table, meeting)]
        for sentence in _sentences(meeting):
            lines += textwrap.wrap(sentence, 88, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)
