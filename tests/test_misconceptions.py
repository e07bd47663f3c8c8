"""Wrong answers as edits of right ones: what is changed is changed, and every slip is refused."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn.functional import softplus

from advlearn import exercises
from advlearn.course.grading import evidence
from advlearn.course.grading.misconceptions import Misconception, edits

if TYPE_CHECKING:
    from decimal import Decimal  # an annotation is never evaluated

MARGIN = 1.0


def area(width: Decimal, height: float = 2.0) -> Decimal:
    """Return width * height plus a margin."""
    size = width * height  # width times height
    if size < 0:
        size = -size
    return size + MARGIN


def undocumented(x):
    return x + 1


def one_line(x): return x + 1  # fmt: skip


def recursive(x):
    if x <= 0:
        return 0
    return 1 + recursive(x - 1)


async def waiting(x):
    return x + 1


def only_documented(x):
    """Do nothing."""


def enclosed(step):
    def add(x):
        return x + step

    return add


def edited(changes, right=area):
    (wrong,) = edits(right, f"slip: {changes}\n    Feedback.")
    return wrong.answer


def test_each_paragraph_is_a_wrong_answer_with_its_feedback():
    assert area(3) == 7
    first, second, third = edits(
        area,
        """
        sum: `width * height` -> `width + height`
            You add. The area is
            a product.

        no margin, one way: ` + MARGIN`
        -> ``

            The margin is missing: add it.

            It is 1.
        square: `height  #` -> `width  #`,
        `size`
        => `length`
            You take `width` twice.
        """,
    )
    assert first == Misconception("sum", first.answer, "You add. The area is a product.")
    assert (second.name, third.name) == ("no margin, one way", "square")
    assert second.feedback == "The margin is missing: add it. It is 1."
    assert third.feedback == "You take `width` twice."
    assert [wrong.answer(3) for wrong in (first, second, third)] == [6, 6, 10]


def test_one_place_is_changed_by_a_thin_arrow_and_every_place_by_a_thick_one():
    assert edited("`-size` -> `2 * size`")(-3) == -11
    assert edited("`size` => `length`")(-3) == 7
    assert edited("`size` => `(size + 1)`, `(size + 1) =` => `size =`")(3) == 8


def test_changes_are_made_in_order():
    assert edited("`width * height` -> `height`, `= height` -> `= 5 * height`")(3) == 11
    with pytest.raises(ValueError, match="'= height' is not in it"):
        edited("`= height` -> `= 5 * height`, `width * height` -> `height`")


def test_a_pilcrow_begins_a_line_with_the_same_indent():
    assert edited("`size = -size` -> `size = -size¶size = 10 * size`")(-3) == 61
    assert edited("`size = -size` -> `size = -size¶size = 10 * size`")(3) == 7
    assert edited("`return` -> `width = 0¶return width *`")(3) == MARGIN


def test_signature_docstring_and_module_stay(monkeypatch):
    answer = edited("`size < 0` -> `size > 0`")
    assert inspect.signature(answer) == inspect.signature(area)
    assert (answer.__doc__, answer.__name__) == (area.__doc__, "area")
    assert answer.__module__ == area.__module__
    monkeypatch.setitem(globals(), "MARGIN", 100.0)
    assert answer(3) == 94
    # `width * height` stands in the docstring too, where nothing is changed.
    assert edited("`width * height` -> `width`")(3) == 103


def test_a_function_without_a_docstring_is_edited():
    assert edited("`+ 1` -> `+ 2`", undocumented)(1) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("`depth` -> `width`", "area, 'slip': 'depth' is not in it:\n    size = width"),
        ("`depth` => `width`", "'depth' is not in it"),
        ("`Return` -> `Give`", "'Return' is not in it"),
        ("`height: float` -> `height: int`", "'height: float' is not in it"),
        ("`size` -> `length`", "'size' is in it 5 times"),
        ("`-size` => `size`", "'-size' is in it once: write ->"),
        ("`width * height` -> `width * height`", "the changed code does what it did before"),
        ("`width * height` -> `(width*height)`", "the changed code does what it did before"),
        ("`width times` -> `height times`", "the changed code does what it did before"),
        ("`width *` -> `width +`, `width +` -> `width *`", "does what it did before"),
        (
            "`< 0` -> `> 0`, `width times` -> `height times`",
            "the change of 'width times' makes no difference",
        ),
        ("`return` -> `return return`", "the changed code is not Python"),
        ("`size = -size` -> ``", "the changed code is not Python"),
        ("`size = -size` -> `break`", "the changed code is not Python"),
    ],
)
def test_a_change_that_is_not_one_is_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        edited(changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "slip",
        "slip: `<` -> `>`",  # no feedback
        "slip: `<` -> `>`\n\nother: `*` -> `+`\n    Feedback.",
        "slip: `<` -> `>`\nFeedback.",  # not indented
        "slip: `<` -> `>`\n  Feedback.",
        "slip: `<` -> `>`\n    Feedback.\nAnd more.",
        "slip: `<` -> `>`\n    Feedback.\n`*` -> `+`",
        "slip: `<` -> `>`\nother: `*` -> `+`\n    Feedback.",
        "`<` -> `>`\n    Feedback.",  # no name
        "slip `<` -> `>`\n    Feedback.",
        "slip:\n    Feedback.",  # no change
        "slip: `<`\n    Feedback.",
        "slip: `<` - > `>`\n    Feedback.",  # the arrow
        "slip: `<` > `>`\n    Feedback.",
        "slip: `<` → `>`\n    Feedback.",
        "slip: `<` ->`>`\n    Feedback.",
        "slip: `<` --> `>`\n    Feedback.",
        "slip: `<` -> `>\n    Feedback.",  # a back-quote
        "slip: < -> `>`\n    Feedback.",
        "slip: `` -> `>`\n    Feedback.",
        "slip: `<` -> `>`,\n    Feedback.",  # a comma too many, and none
        "slip: `<` -> `>` `*` -> `+`\n    Feedback.",
        "slip: `<` -> `>`\n    `*` -> `+`\n    Feedback.",  # a change that reads as feedback
        "slip: `<` -> `>`\n    Feedback.\n    other: `*` -> `+`\n    Feedback.",  # a slip that does
    ],
)
def test_a_text_of_another_form_is_refused_with_the_right_form(text):
    with pytest.raises(ValueError, match=r"^a wrong answer is written `name: `old`"):
        edits(area, text)


def test_two_wrong_answers_of_one_name_are_refused():
    text = "slip: `<` -> `>`\n    Feedback.\nslip: `*` -> `+`\n    Other feedback."
    with pytest.raises(ValueError, match="'slip': there are two wrong answers of this name"):
        edits(area, text)


@pytest.mark.parametrize(
    ("right", "message"),
    [
        (lambda x: x + 1, "is not written with `def`"),
        (torch.round, "is not written with `def`"),
        (Misconception, "is not written with `def`"),
        (enclosed(1), "uses variables of the function around it"),
        (one_line, "must have its body on lines of its own"),
        (only_documented, "has no code but its docstring"),
        (recursive, "calls itself: only its outermost call would be changed"),
        (waiting, "is not a plain function"),
    ],
    ids=["lambda", "built in", "class", "closure", "one line", "docstring", "recursive", "async"],
)
def test_what_cannot_be_edited_is_refused(right, message):
    with pytest.raises(ValueError, match=message):
        edits(right, "slip: `+ 1` -> `+ 2`\n    Feedback.")


# --- A sample of the banks: each edit does what its author would have written by hand ------------


def _weights_slope(w, b, x, y):
    return -(y * torch.sigmoid(-y * (x @ w + b)))[:, None] * x


def _turn_in_degrees(x, gradient, angle):
    rows = []
    for row, direction in zip(x, gradient, strict=True):
        length = torch.linalg.vector_norm(row)
        across = direction - (direction @ row) / length**2 * row
        across = across / torch.linalg.vector_norm(across) * length
        radians = angle * torch.pi / 180
        rows.append(radians.cos() * row + radians.sin() * across)
    return torch.stack(rows)


def _printed_objective(w, b, x, y, strength):
    score, norm = x @ w + b, torch.linalg.vector_norm(w, 1)
    outside = softplus(-y * score).mean() + strength * norm
    return outside.item(), softplus(y * (strength * norm - score)).mean().item()


def _uncorrected_interval(count, total):
    share = count / total
    half = 1.96 * (share * (1 - share) / total) ** 0.5
    return share - half, share + half


def _margin_of_probabilities(logits, y):
    p = torch.exp(logits - logits.logsumexp(dim=1, keepdim=True))
    rest = p.clone()
    rest[torch.arange(len(y)), y] = -1
    return rest.max(dim=1).values - p[torch.arange(len(y)), y]


def _ends_through_the_layer(w, b, lower, upper):
    return lower @ w.T + b, upper @ w.T + b


SAMPLE = [
    (
        "00.max_norm",
        "largest minus smallest",
        lambda eta: torch.stack([change.max() - change.min() for change in eta]),
    ),
    ("00.max_norm", "L1 norm", lambda eta: torch.stack([change.abs().sum() for change in eta])),
    ("03.loss_gradient", "gradient with respect to w", _weights_slope),
    ("03.fgsm_step", "no sign", lambda x, gradient, eps: (x + eps * gradient).clamp(0, 1)),
    ("04.two_objectives", "the formula as printed", _printed_objective),
    ("05.rotate_towards", "degrees", _turn_in_degrees),
    ("07.step_share", "roles swapped", lambda s, t: (s * t.sign()).sum(1) / s.abs().sum(1)),
    ("09.wilson", "usual", _uncorrected_interval),
    ("10.scale_free_margin", "softmax first", _margin_of_probabilities),
    ("11.layer_bounds", "no absolute value", _ends_through_the_layer),
]


@pytest.mark.parametrize(
    ("exercise", "name", "by_hand"), SAMPLE, ids=[f"{e}-{name}" for e, name, _ in SAMPLE]
)
def test_an_edit_is_the_wrong_answer_written_by_hand(exercise, name, by_hand):
    exercise = next(e for e in exercises.all_exercises() if f"{e.lesson}.{e.name}" == exercise)
    (wrong,) = (wrong for wrong in exercise.wrong_answers if wrong.name == name)
    for args in exercise.inputs(torch.Generator().manual_seed(0)):
        expected = exercise.reference(*evidence.copy_arguments(args))
        edit, written = (
            evidence.read(answer(*evidence.copy_arguments(args)), expected)
            for answer in (wrong.answer, by_hand)
        )
        assert evidence.agree(edit, written, rtol=1e-5, atol=1e-6)
