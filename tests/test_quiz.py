"""The quiz as a reader meets it: parsed as HTML, opened with a keyboard."""

from __future__ import annotations

import importlib
import pkgutil
from html.parser import HTMLParser

import pytest

from advlearn.course import banks
from advlearn.course.grading.quiz import Choice, Question, Quiz, parse
from advlearn.course.lessons import LESSONS as TABLE

RIGHT, WRONG = Choice("Two", True, "Well done."), Choice("Three", False, "Count again.")


def quiz(*questions):
    return Quiz(questions or (Question("1 + 1?", (RIGHT, WRONG)),))


class Page(HTMLParser):
    """Collects the tags and the text of a page, and checks that every tag is closed."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.open, self.text, self.attributes = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_each_answer_opens_to_its_own_feedback():
    page = Page(quiz()._repr_html_())
    assert page.tags.count("details") == page.tags.count("summary") == 2
    text = "".join(page.text)
    for part in ("1. 1 + 1?", "A. Two", "B. Three", "Right. Well done.", "No. Count again."):
        assert part in text
    assert text.index("A. Two") < text.index("Well done.") < text.index("B. Three")


def test_it_works_by_keyboard_and_without_a_script_or_a_network():
    source = quiz()._repr_html_()
    page = Page(source)
    # A <details> opens with Enter or Space on its <summary>, its first child.
    assert source.count("<details") == source.count('"><summary')
    assert not {"script", "img", "link", "iframe", "input", "button"} & set(page.tags)
    assert not any(name.startswith("on") or name == "tabindex" for _, name, _ in page.attributes)
    assert "http" not in source
    assert not any(name == "open" for _, name, _ in page.attributes), "answers start closed"


def test_each_question_is_a_labelled_section():
    questions = tuple(Question(f"Q{i}?", (RIGHT, WRONG)) for i in range(1, 6))
    page = Page(quiz(*questions)._repr_html_())
    labels = [
        value for tag, name, value in page.attributes if (tag, name) == ("section", "aria-label")
    ]
    assert labels == [f"Question {i}" for i in range(1, 6)]


def test_text_is_escaped_and_back_quotes_become_code():
    nasty = "<script>alert(1)</script> & `a < b`"
    question = Question(nasty, (Choice(nasty, True, nasty), WRONG))
    source = quiz(question)._repr_html_()
    page = Page(source)
    assert "script" not in page.tags
    assert page.tags.count("code") == 3
    assert "".join(page.text).count("<script>alert(1)</script> & a < b") == 3
    assert "<code>a &lt; b</code>" in source


def test_right_and_wrong_differ_by_more_than_colour():
    text = "".join(Page(quiz()._repr_html_()).text)
    assert text.count("Right.") == 1
    assert text.count("No.") == 1


@pytest.mark.parametrize(
    "choices",
    [(), (RIGHT,), (WRONG, WRONG), (RIGHT, RIGHT, WRONG)],
    ids=["none", "one", "no right one", "two right ones"],
)
def test_a_question_has_exactly_one_right_answer_of_two_or_more(choices):
    with pytest.raises(ValueError, match=r"question 'Which\?' must have two or more choices"):
        Question("Which?", choices)


def test_eight_choices_are_shown_and_more_are_refused():
    """There are letters for eight: a ninth, perhaps the right one, must not fall off the end."""
    wrong = tuple(Choice(f"Wrong {i}", False, "No.") for i in range(7))
    text = "".join(Page(quiz(Question("Long?", (*wrong, RIGHT)))._repr_html_()).text)
    assert "H. Two" in text
    with pytest.raises(ValueError, match="choices"):
        Question("Longer?", (*wrong, WRONG, RIGHT))


def test_without_html_it_says_what_it_is():
    assert repr(quiz()) == "Quiz of 1 question: open an answer to read what it leads to."
    two = quiz(*[Question("?", (RIGHT, WRONG))] * 2)
    assert repr(two).startswith("Quiz of 2 questions")


# --- A quiz as plain text -------------------------------------------------------------------------


def test_a_text_becomes_questions_choices_and_feedback():
    assert parse(
        """
        What is
        1 + 1 - 1?
        + 1, since
        -1 is taken away
            Yes.
        - 2
            No: one is
            as it says,
            taken away.

        Which is `x`?
        - `+ x`
            No.
        + `- x`
            Yes.
        - neither
            No.
        """
    ) == quiz(
        Question(
            "What is 1 + 1 - 1?",
            (
                Choice("1, since -1 is taken away", True, "Yes."),
                Choice("2", False, "No: one is as it says, taken away."),
            ),
        ),
        Question(
            "Which is `x`?",
            (
                Choice("`+ x`", False, "No."),
                Choice("`- x`", True, "Yes."),
                Choice("neither", False, "No."),
            ),
        ),
    )


A_QUESTION, A_CHOICE, A_COUNT = (
    "^a question stands above its choices",
    "^a choice is written `\\+ text` or `- text` with its feedback under it",
    "must have two or more choices .eight at most., exactly one of them right",
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", A_QUESTION),
        ("+ 2\n    Yes.\n- 3\n    No.", A_QUESTION),
        ("1 + 1?\n\n+ 2\n    Yes.\n- 3\n    No.", A_COUNT),  # a blank line
        ("1 + 1?\n+2\n    Yes.\n- 3\n    No.\n+ 4\n    No.", A_QUESTION),  # no space
        ("1 + 1?\n    Well?\n+ 2\n    Yes.\n- 3\n    No.", A_QUESTION),  # indented
        ("1 + 1?\n* 2\n    Yes.\n- 3\n    No.", A_QUESTION),  # another sign
        ("1 + 1?", A_COUNT),
        ("1 + 1?\n+ 2\n    Yes.", A_COUNT),
        ("1 + 1?\n- 2\n    Yes.\n- 3\n    No.", A_COUNT),
        ("1 + 1?\n+ 2\n    Yes.\n+ 3\n    No.", A_COUNT),
        ("1 + 1?\n" + "- 3\n    No.\n" * 8 + "+ 2\n    Yes.", A_COUNT),
        ("1 + 1?\n+ 2\n- 3\n    No.", A_CHOICE),  # no feedback
        ("1 + 1?\n+ 2\n    Yes.\n- 3", A_CHOICE),
        ("1 + 1?\n+ 2\n    Yes.\n- 3\n  No.", A_CHOICE),  # two spaces
        ("1 + 1?\n+ 2\n    Yes,\n  it is.\n- 3\n    No.", A_CHOICE),
        ("1 + 1?\n+ 2\n    Yes.\n-3\n    No.\n- 4\n    No.", A_CHOICE),  # no space
        ("1 + 1?\n+ 2\n    Yes.\n- \n    No.", A_CHOICE),  # no text
        ("1 + 1?\n+ 2\n    Yes.\n    - 3\n    No.\n- 4\n    No.", A_CHOICE),  # a choice indented
        ("1 + 1?\n+ 2\n    Yes.\n- 3\n    No.\n2 + 2?\n+ 4\n    Yes.", A_CHOICE),
    ],
)
def test_a_text_of_another_form_is_refused_with_the_right_form(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


# --- The quizzes of the lessons -------------------------------------------------------------------

LESSONS = sorted(
    module.name
    for module in pkgutil.iter_modules(banks.__path__)
    if module.name.startswith("lesson")
)
LONGEST_RATIO = 1.3


def giveaways(quiz):
    """What lets a reader guess a right answer without knowing it: its length or its place."""
    problems, places = [], set()
    for number, question in enumerate(quiz.questions, start=1):
        place = next(i for i, choice in enumerate(question.choices) if choice.right)
        places.add(place)
        right = len(question.choices[place].text)
        wrong = max(len(choice.text) for choice in question.choices if not choice.right)
        if right > LONGEST_RATIO * wrong:
            problems.append(
                f"question {number}: the right answer is the longest, {right} : {wrong}"
            )
    if len(places) == 1:
        problems.append("all right answers stand in the same place")
    return problems


def test_every_lesson_of_the_course_has_a_bank():
    assert [f"lesson{lesson.number:02d}" for lesson in TABLE] == LESSONS


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_right_answer_shows_neither_by_its_length_nor_by_its_place(lesson):
    module = importlib.import_module(f"advlearn.course.banks.{lesson}")
    assert giveaways(module.quiz) == []


def test_a_planted_quiz_gives_its_answers_away():
    short = Choice("x" * 10, False, "No.")
    fair, long = (Choice("y" * length, True, "Yes.") for length in (13, 14))
    assert giveaways(quiz(Question("?", (fair, short)), Question("?", (short, fair)))) == []
    assert giveaways(quiz(Question("?", (fair, short)), Question("?", (short, long)))) == [
        "question 2: the right answer is the longest, 14 : 10"
    ]
    assert giveaways(quiz(Question("?", (short, fair)), Question("?", (short, fair)))) == [
        "all right answers stand in the same place"
    ]
