"""Entrance and exit test: twelve misconceptions, each asked for twice in different clothes.

The two tests ask for the same twelve beliefs with other models, numbers and words, so that nobody
answers the second one from memory. An item has one right answer; its wrong ones are beliefs that
people hold. Each test explains its own terms: who has never heard of the subject can answer it.
"""

from __future__ import annotations

import functools
import html
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from advlearn.classroom.framing import framed
from advlearn.course.grading.quiz import Question, parse

LETTERS = "ABCD"
UNSURE = "E"
"""The letter of "I do not know", which every item offers: a guess would pass for knowledge."""

THINKING = 0.5  # minutes for each item, beside reading it
FORMS = ("entrance", "exit")
_BELIEF = "The belief: "  # begins the note to a wrong answer that shows the named belief


class Concept(NamedTuple):
    """A misconception, and the two items that ask for it."""

    name: str
    belief: str  # as somebody who holds it would say it
    lessons: tuple[int, ...]  # that work on it
    entrance: Question
    exit: Question

    def item(self, form: str) -> Question:
        """Return the item of a form, "entrance" or "exit"."""
        return self.entrance if form == "entrance" else self.exit


def _concept(
    name: str,
    belief: str,
    lessons: tuple[int, ...],
    *,
    entrance: str,
    exit: str,
) -> Concept:
    (before,), (after,) = parse(entrance).questions, parse(exit).questions
    for question in (before, after):
        if len(question.choices) != len(LETTERS) or not any(map(shows_belief, question.choices)):
            raise ValueError(f"{name}: an item has four choices, one of them the named belief.")
    return Concept(name, belief, lessons, before, after)


def shows_belief(choice: object) -> bool:
    """Tell whether who chooses this answer shows the belief that the item asks for."""
    return str(getattr(choice, "feedback", "")).startswith(_BELIEF)


CONCEPTS = (
    _concept(
        "each change counts alone",
        "What is too small to matter in one pixel is too small to matter in all of them.",
        (0, 1),
        entrance="""
        The score that a model gives to an image is a sum over its 10,000 pixels, each multiplied by
        a weight of +0.5 or -0.5. Somebody may change every pixel by at most 0.01. By how much can
        the score change at most?
        - 0.005
            The belief: this is what one pixel does. All of them act together.
        - 0.01
            The limit for one pixel. The score adds up all of them.
        - 0.5
            The typical size when signs are random: the root of 10,000, times 0.005. Signs that are
            chosen do not cancel.
        + 50
            10,000 terms of 0.5 · 0.01, each with the sign that its weight asks for.
        """,
        exit="""
        A model gives a recording a score: the sum of its 40,000 samples, each multiplied by a
        weight of +0.2 or -0.2. Somebody may change each sample by at most 0.001. How far can the
        score be pushed?
        + By 8
            40,000 terms of 0.2 · 0.001, each with the sign that its weight asks for.
        - By 0.04
            The typical size when signs are random: the root of 40,000, times 0.0002. Signs that are
            chosen do not cancel.
        - By 0.001
            The limit for one sample. The score adds up all of them.
        - By 0.0002
            The belief: this is what one sample does. All of them act together.
        """,
    ),
    _concept(
        "size alone decides",
        "Who withstands random noise withstands any change of the same size.",
        (0, 1, 6),
        entrance="""
        Engineers add random noise of up to 0.1 per pixel to each test image, 1,000 times over. A
        model keeps its right answers every time. An opponent who knows the model may also change
        each pixel by up to 0.1, in any way. What is to be expected?
        - The opponent fails: 1,000 draws have tried practically every such change.
            The belief: 1,000 draws are next to nothing among the changes of thousands of pixels.
        + The opponent may well succeed: chosen changes add up, random ones mostly cancel.
            The effect of chosen signs grows like the number of pixels, that of random ones like its
            root.
        - The opponent succeeds on about one image in 1,000.
            The opponent does not draw at random. A share of random draws says nothing here.
        - The opponent fails, unless the changes become larger than the noise.
            The belief: the size is the same. The direction makes the difference.
        """,
        exit="""
        A speech recogniser keeps its right answers when random hiss is mixed in, however often this
        is repeated. An opponent who knows the recogniser may change each sample of a recording by
        as much as the hiss did. What is to be expected?
        - The opponent does no more harm than the hiss: both change the samples equally much.
            The belief: the size is the same. The direction makes the difference.
        - The opponent succeeds by luck only, as the hiss would after enough repetitions.
            The opponent does not draw at random. Each sample can be chosen to do harm.
        + The opponent may well succeed: the changes can be chosen to work together.
            The effect of chosen signs grows like the number of samples, that of random ones like
            its root.
        - The opponent has to make changes that are louder than the hiss.
            The belief: the size is the same. The direction makes the difference.
        """,
    ),
    _concept(
        "steps in proportion",
        "To do the most harm, a pixel should move the less, the less it counts.",
        (1, 3),
        entrance="""
        A score is 5·p + 0.05·q, plus terms of other pixels. The pixels p and q may each be changed
        by at most 0.1, up or down. Which changes of these two raise the score most?
        - p by +0.1 and q by +0.001
            The belief: in proportion to the weights. The limit is the same for both, so holding q
            back gains nothing.
        - p by +0.1, and q not at all
            The belief: q counts little, but what it gives costs nothing.
        + p by +0.1 and q by +0.1
            Each goes to the end of its own range. Only the signs of the weights matter.
        - p by +0.199 and q by +0.001
            The limit holds for each pixel, not for both together.
        """,
        exit="""
        A score is -8·a + 0.02·b, plus terms of other measurements. The measurements a and b may
        each be changed by at most 0.5, up or down. Which changes of these two raise the score most?
        + a by -0.5 and b by +0.5
            Each goes to the end of its own range. Only the signs of the weights matter.
        - a by -0.5 and b by +0.00125
            The belief: in proportion to the weights. The limit is the same for both, so holding b
            back gains nothing.
        - a by -0.5, and b not at all
            The belief: b counts little, but what it gives costs nothing.
        - a by -0.998 and b by +0.002
            The limit holds for each measurement, not for both together.
        """,
    ),
    _concept(
        "the max norm as a total",
        "The max norm of a change is its total, or its average.",
        (0,),
        entrance="""
        The size of a change is measured by its max norm: the largest change of any single pixel, up
        or down. A rule allows a max norm of at most 0.2. Change P raises all 100 pixels of an image
        by 0.1. Change Q lowers one pixel by 0.3 and leaves the others. Which does the rule allow?
        + Only P
            P has the max norm 0.1, Q has 0.3. How many pixels change does not count.
        - Only Q
            Q has the max norm 0.3: the sign does not count. P has 0.1, however many pixels change.
        - Both
            The belief: an average. It hides the one pixel of Q that changes by 0.3.
        - Neither
            The belief: a total. P adds up to 10, but no pixel of it changes by more than 0.1.
        """,
        exit="""
        The size of a change is measured by its max norm: the largest change of any single sample,
        up or down. A rule allows a max norm of at most 0.05. Change P raises three of 1,000 samples
        by 0.04 and lowers one by 0.06. Change Q moves every sample by 0.05, some up and some down.
        Which does the rule allow?
        - Only P
            P has the max norm 0.06: the sign does not count, and neither does how few they are.
        + Only Q
            Q has the max norm 0.05, P has 0.06. How many samples change does not count.
        - Both
            The belief: an average. It hides the one sample of P that changes by 0.06.
        - Neither
            The belief: a total. Q adds up to 50 or cancels, but no sample changes by more than
            0.05.
        """,
    ),
    _concept(
        "only deep networks",
        "Only deep or overfitted networks can be fooled by small changes.",
        (1, 3, 5),
        entrance="""
        Small changes, chosen on purpose, fool a deep network. A colleague suggests a linear model
        of the same 3,000 pixels instead: “it is too simple to be fooled like that”. Who is right?
        - The colleague: small changes of the pixels change a linear score only a little.
            The belief: 3,000 small terms, all of one sign, are not little.
        - The colleague, provided that the linear model does not overfit.
            The belief: overfitting is not the cause. A model that is right on new images can be
            fooled.
        - Not the colleague: a linear model is always easier to fool than a deep one.
            It depends on the weights and the margins. “Always” is too much.
        + Not the colleague: small changes of 3,000 pixels add up in a linear model too.
            The linear model is the simplest one that shows the effect.
        """,
        exit="""
        Two models read images of 5,000 pixels: a linear one, and one with twenty hidden layers.
        Both were trained in the usual way, and both are right on 99 % of new images. Which of them
        could be fooled on many images by changing every pixel by 1 % of its range?
        - Only the one with hidden layers, because its score is not a straight line.
            The belief: straight lines over many pixels are enough.
        + Either of them.
            Small changes of 5,000 pixels add up in both. How far depends on weights and margins.
        - Neither, because both are right on new images.
            The belief: overfitting is not the cause. New images are not images that somebody
            changed on purpose.
        - Only the linear one, because it has no hidden layers that could absorb the change.
            Hidden layers absorb nothing by themselves.
        """,
    ),
    _concept(
        "units left out",
        "A limit means the same in pixels and in the numbers that a model computes with.",
        (3, 5),
        entrance="""
        Pixels run from 0 to 1. Before it uses them, a model subtracts 0.5 from each and divides by
        0.25. A tester changes the numbers after this step by up to 0.1. How large is that change,
        measured in pixels?
        + Up to 0.025
            0.1 · 0.25. Going back to pixels multiplies. What was subtracted does not change a
            difference.
        - Up to 0.1
            The belief: the same number in other units is another change.
        - Up to 0.4
            That divides by 0.25 once more. Going back to pixels multiplies.
        - Up to 0.525
            That adds the 0.5 again. It moves every value alike, and so no difference.
        """,
        exit="""
        A camera gives grey values from 0 to 255. The program that reads its pictures first takes
        away 120 from each and then divides by 60. Somebody adds up to 0.05 to each result. By how
        many grey values has the picture changed?
        - Up to 0.00083
            That divides by 60 once more. Going back to grey values multiplies.
        - Up to 0.05
            The belief: the same number in other units is another change.
        + Up to 3
            0.05 · 60. Going back to grey values multiplies. What was subtracted does not change a
            difference.
        - Up to 123
            That adds the 120 again. It moves every value alike, and so no difference.
        """,
    ),
    _concept(
        "an attack as a proof",
        "What a good attack does not find does not exist.",
        (5, 9, 11),
        entrance="""
        Testers look for small changes that make a model err. They find one for 12 of 100 images.
        For how many of these 100 images does such a change exist?
        - For exactly 12
            The belief: where they found none, there may be one.
        - For about 12, perhaps a few more or a few fewer
            Not fewer: for 12 images they have one in hand.
        + For 12 or more
            Those that were found exist. Others may have been missed.
        - For 12 at most, since some were found by luck
            A change that fools the model fools it, however it was found.
        """,
        exit="""
        A tester looks for a small change that fools a voice lock, for each of 200 recordings, with
        the best method that the field knows. The tester finds none. What has been shown about these
        200 recordings?
        - That there is no such change for any of them
            The belief: another search may find what this one missed.
        - That there is no such change, provided that the tester knew the model's weights
            The belief: to know the weights helps the search, and does not make it complete.
        - That there is such a change for one of them at most
            The belief: the search bounds their number from below only.
        + That this search found none, and nothing more
            To show that none exists takes a proof, not a search.
        """,
    ),
    _concept(
        "the insider sets the worst case",
        "The search that knows most gives the figure, whatever a weaker one finds.",
        (7, 9),
        entrance="""
        Anna knows everything about model M and looks for small changes that fool it. Hers work on
        10 % of the images. Ben knows nothing about M. He designs small changes for another model
        and tries them on M. His work on 30 % of the same images. Both keep to the same limit. What
        follows?
        - 10 % is the figure to report, because nobody knows more than Anna.
            The belief: Ben's changes work, so the true figure is 30 % at least.
        + Anna's search missed changes that exist.
            She could have used Ben's. Who knows more can do no worse, if the search is good.
        - To know a model from the inside does not help to fool it.
            It helps in general. Here the search went wrong.
        - Ben's model must be better than M.
            His changes tell nothing about how good his model is.
        """,
        exit="""
        One search follows the gradient of a speech recogniser, and fools it on 5 % of the
        recordings. Random changes within the same limit fool it on 20 % of the same recordings.
        What follows?
        - 5 % is the figure to report, because following the gradient is the stronger test.
            The belief: the random changes work, so the true figure is 20 % at least.
        - Random changes are the stronger test for any model.
            For most models they are far weaker. Here the search went wrong.
        - The recogniser withstands changes that are chosen, and fails on random ones only.
            The belief: who chooses may choose what chance has found.
        + The search along the gradient missed changes that exist.
            It could have found the random ones. The gradient is of no use here, and that is a
            warning.
        """,
    ),
    _concept(
        "secrecy protects",
        "A model whose weights are secret cannot be attacked.",
        (7,),
        entrance="""
        A company keeps the weights, the design and the training images of its model secret. An
        opponent trains a model of their own for the same task, and designs small changes that fool
        that one. What will these changes do to the company's model?
        - Hardly anything: without its weights no harmful change can be designed.
            The belief: models for one task make much the same use of the pixels.
        - Hardly anything, unless both have the same design.
            The belief: changes often work across designs.
        - Hardly anything, unless both were trained on the same images.
            The belief: other images of the same kind are enough.
        + Many of them will probably fool it as well.
            This is called transfer. It needs a model for the same task, and nothing more.
        """,
        exit="""
        An opponent wants to fool the handwriting reader of a bank, by small changes designed on a
        model of their own. What must they know of the bank's reader to have a fair chance?
        - Its weights
            The belief: changes that fool one model often fool another for the same task.
        - Its design: how many layers, and of which kind
            The belief: changes often work across designs.
        + Which task it was made for
            This is called transfer. It needs a model for the same task, and nothing more.
        - The images on which it was trained
            The belief: other images of the same kind are enough.
        """,
    ),
    _concept(
        "the strongest attack is the worst case",
        "The worst case over several attacks is the error of the strongest one.",
        (9, 10),
        entrance="""
        One attack fools a model on 20 of 100 images, a second attack on 30 of the same 100. An
        opponent tries both on every image and keeps what works. On how many images does the
        opponent succeed?
        + On 30 to 50
            30 if the first attack's images are all among the second's, 50 if none is.
        - On 25
            The belief: an average of two attacks. The opponent keeps the better one for each image.
        - On exactly 30
            The belief: the stronger attack alone. The other one may work where it does not.
        - On exactly 44
            That would be so if the two were independent. Images that are easy to fool are so for
            both.
        """,
        exit="""
        Under one kind of change a model stays right on 70 of 100 recordings, under another kind on
        60 of the same 100. An opponent tries both on every recording and keeps what works. On how
        many recordings does the model stay right?
        - On exactly 42
            That would be so if the two were independent. Recordings that are easy to fool are so
            for both.
        - On exactly 60
            The belief: the stronger attack alone. The other one may work where it does not.
        - On 65
            The belief: an average of two attacks. The opponent keeps the better one for each
            recording.
        + On 30 to 60
            60 if the first attack's recordings are all among the second's, 30 if none is.
        """,
    ),
    _concept(
        "confidence is knowledge",
        "A model that is very sure knows inputs of this kind.",
        (5, 7, 8),
        entrance="""
        Somebody has changed an image on purpose. A classifier now calls it a cat, with 99 %. What
        do these 99 % tell about the image?
        - It resembles images of cats that the classifier was trained on.
            The belief: a score grows on far away from all training images.
        + The score of “cat” is far above the other scores, and that is all.
            A softmax compares scores with each other. It does not ask whether the image is like any
            that the model has seen.
        - Of 100 images that were changed like this one, about 99 show a cat.
            The belief: shares may fit on ordinary images. Here somebody has aimed at a high one.
        - It was changed a little only: after larger changes the classifier would be unsure.
            The belief: with larger changes in the same direction it mostly becomes surer.
        """,
        exit="""
        A picture of nothing but random noise is given to a reader of digits, which divides 100 %
        among the ten digits. It says 5, with 95 %. What do these 95 % tell about the picture?
        - It happens to show the faint shape of a 5.
            The belief: a score can be high where there is nothing that looks like the class.
        + The score of “5” is far above the other scores, and that is all.
            A softmax compares scores with each other. It does not ask whether the picture is like
            any that the model has seen.
        - Of 100 such pictures that the reader calls a 5, about 95 show one.
            The belief: none of them shows a digit.
        - It is an exception: nearly all noise would get about 10 % for each digit.
            The belief: many models are sure of much of the noise that they are given.
        """,
    ),
    _concept(
        "just weight decay",
        "Training on worst-case changes is the same as a price on large weights.",
        (4, 6),
        entrance="""
        A linear classifier can be trained in two ways. Way P adds to the loss a fixed price for the
        size of the weights. Way Q trains on images to which the worst allowed change was made. Late
        in training every image is right by so wide a margin that even its worst change hardly
        matters. What still pushes the weights to become smaller?
        - Both ways, about equally
            The belief: Q's price stands inside the loss, and fades where the loss does.
        - Q more than P, because the worst change is worse than the image
            It was made already, and the image is still right by a wide margin.
        + P as before, and Q hardly
            P's price is always due. Q asks a price only where the worst change does harm.
        - Neither, because all images are right
            P's price does not depend on the images at all.
        """,
        exit="""
        A linear speech model has large weights. Still, no allowed change of any training recording
        comes near to altering an answer. Training goes on, either with a fixed price on large
        weights, or on recordings with their worst allowed change. What becomes of the weights?
        + The price makes them smaller; the worst changes leave them nearly as they are.
            A price outside the loss is always due. Harm is counted inside the loss, and fades where
            the loss does.
        - Both make them smaller, in much the same way.
            The belief: harm is counted inside the loss, and fades where the loss does.
        - The worst changes make them smaller, more so than the price.
            The worst changes do no harm here, so there is nothing to learn from them.
        - Nothing in either case, because every answer is right.
            A price outside the loss does not ask whether answers are right.
        """,
    ),
)
"""The twelve misconceptions, in the order of both tests."""


def right(form: str) -> str:
    """Return the right letters of a form, one for each item.

    Example:
        >>> len(right("entrance"))
        12
    """
    return "".join(
        next(
            letter
            for letter, choice in zip(LETTERS, one.item(form).choices, strict=True)
            if choice.right
        )
        for one in CONCEPTS
    )


@functools.cache
def minutes() -> int:
    """Return how long a test takes: reading, and half a minute for each item."""
    from advlearn.course.minutes import WORDS_A_MINUTE, words

    longest = max(
        sum(
            words(text)
            for one in CONCEPTS
            for text in (one.item(form).text, *(c.text for c in one.item(form).choices))
        )
        for form in FORMS
    )
    return math.ceil(longest / WORDS_A_MINUTE + THINKING * len(CONCEPTS))


# --- What learners get ----------------------------------------------------------------------------

_INTRODUCTION = (
    "Twelve questions, each with one right answer. Nothing is graded. If you do not know, choose "
    f"{UNSURE}: a guess would tell us something false about the course."
)
_CODE = "Your code: four letters or digits that only you know, the same before and after the course"
_PRINT = """
@page { size: A4; margin: 16mm; }
body { font: 11pt/1.4 system-ui, sans-serif; max-width: 46rem; margin: 1.5rem auto;
padding: 0 1rem; color: #000; background: #fff; }
section { break-inside: avoid; margin: 0 0 1.1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; }
ol { list-style: none; margin: .3em 0; padding-left: 1.4em; } li { margin: .15em 0; }
.box { display: inline-block; width: .75em; height: .75em; border: 1px solid; margin-right: .5em; }
.code { display: inline-block; border-bottom: 1px solid; min-width: 10em; }
.right { font-weight: 700; } .note { color: #333; font-size: .92em; }
@media print { body { margin: 0; padding: 0; max-width: none; } }
"""


def _lettered(question: Question) -> Iterator[tuple[str, str]]:
    yield from zip(LETTERS, (choice.text for choice in question.choices), strict=True)
    yield UNSURE, "I do not know"


def sheet(form: str) -> str:
    """Return a test as a page to print, without a word about which answers are right."""
    title = f"{form.capitalize()} test"
    parts = [
        f"<h1>{title}</h1><p>{_INTRODUCTION}</p>",
        f'<p>{_CODE}: <span class="code">&nbsp;</span></p>',
    ]
    for number, one in enumerate(CONCEPTS, 1):
        question = one.item(form)
        choices = "".join(
            f'<li><span class="box"></span>{letter}&ensp;{html.escape(text)}</li>'
            for letter, text in _lettered(question)
        )
        parts.append(
            f"<section><p><strong>{number}.</strong> {html.escape(question.text)}</p>"
            f"<ol>{choices}</ol></section>"
        )
    return framed(html.escape(title), _PRINT, parts)


def notebook(form: str) -> NotebookNode:
    """Return a test as a notebook that needs no package, and gives a line to hand in."""
    cells = [
        new_markdown_cell(
            f"# {form.capitalize()} test\n\n{_INTRODUCTION}\n\nType your letters into the cell at "
            "the end."
        )
    ]
    for number, one in enumerate(CONCEPTS, 1):
        question = one.item(form)
        choices = "\n".join(f"- **{letter}** {text}" for letter, text in _lettered(question))
        cells.append(new_markdown_cell(f"**{number}.** {question.text}\n\n{choices}"))
    blanks = "\n".join(
        f'    {number}: "",  # {_words(one.item(form).text, 6)}'
        for number, one in enumerate(CONCEPTS, 1)
    )
    cells.append(
        new_code_cell(
            f'# {_CODE}.\ncode = ""\n\nanswers = {{  # A, B, C, D or {UNSURE}\n{blanks}\n}}'
        )
    )
    cells.append(
        new_code_cell(
            "# Run this cell last, and hand in the line that it prints.\n"
            "letters = [str(answers[number]).strip().upper() for number in sorted(answers)]\n"
            "missing = [\n"
            "    str(number) for number, letter in enumerate(letters, 1)\n"
            f'    if letter not in list("{LETTERS}{UNSURE}")\n'
            "]\n"
            "if missing:\n"
            f'    print("Not yet one of {", ".join(LETTERS)}, {UNSURE}:", ", ".join(missing))\n'
            "elif not code.strip():\n"
            '    print("Your code is missing.")\n'
            "else:\n"
            '    print(",".join([code.strip().replace(",", ""), *letters]))'
        )
    )
    made: NotebookNode = new_notebook(cells=cells)
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number:02d}"
    made.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return made


def _words(text: str, count: int) -> str:
    found = re.findall(r"\S+", text)
    return " ".join(found[:count]) + " …"


# --- What the teacher gets ------------------------------------------------------------------------


def key() -> str:
    """Return both tests with the right answers, and what each wrong one shows: for the teacher."""
    parts = ["<h1>Key to both tests</h1><p>For the teacher only.</p>"]
    for number, one in enumerate(CONCEPTS, 1):
        lessons = ", ".join(map(str, one.lessons))
        parts.append(
            f"<h2>{number}. {html.escape(one.name)}</h2><p>“{html.escape(one.belief)}” "
            f"Lessons that work on it: {lessons}.</p>"
        )
        for form in FORMS:
            question = one.item(form)
            choices = "".join(
                f'<li class="{"right" if choice.right else "wrong"}">'
                f"{letter}{' ✓' if choice.right else ''}&ensp;{html.escape(choice.text)}"
                f'<br><span class="note">{html.escape(choice.feedback)}</span></li>'
                for letter, choice in zip(LETTERS, question.choices, strict=True)
            )
            parts.append(
                f"<section><p><strong>{form.capitalize()}.</strong> {html.escape(question.text)}"
                f"</p><ol>{choices}</ol></section>"
            )
    return framed("Key to both tests", _PRINT, parts)


def header() -> str:
    """Return the first line of the table that a comparison reads: `code`, then the items."""
    return ",".join(["code", *map(str, range(1, len(CONCEPTS) + 1))]) + "\n"


def files() -> dict[str, str]:
    """Return everything that a teacher hands out or keeps: file name -> content."""
    made = {"key-for-the-teacher.html": key()}
    for form in FORMS:
        made[f"{form}.html"] = sheet(form)
        made[f"{form}.ipynb"] = nbformat.writes(notebook(form)) + "\n"
        made[f"{form}-answers.csv"] = header()
    return made
