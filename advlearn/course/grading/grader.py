"""Grade one function: run it, compare it with the reference, name the misconception."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from advlearn.course.grading import evidence, relations, sandbox, slips
from advlearn.course.grading.calling import Calls, slope_of
from advlearn.course.grading.evidence import Args, Untidy
from advlearn.course.grading.misconceptions import Misconception
from advlearn.course.grading.sealed import Recorded

if TYPE_CHECKING:
    from advlearn.course.grading.exercise import Exercise, Property

# What nobody may do, whether or not a task says so: the caller needs both afterwards.
_ALWAYS_ASKED = ("inputs", "weights")

WITHOUT = "without"
"""The kind of what a task rules out: see `Exercise.without`."""

SLOPE = "slope"
"""What a loss is asked for whose gradient is followed: see `Exercise.asks`."""

# A misconception that agrees only where the answer is wrong is told if it does so on as many
# different wrong numbers: on fewer, another slip could give the same.
_FEWEST = 3


class Outcome(enum.Enum):
    """The five ways a check can end."""

    NOT_ATTEMPTED = "not attempted"
    RIGHT = "right"
    TIDY = "right, but tidy this"
    WRONG = "wrong"
    RAISED = "your code raised"

    @property
    def symbol(self) -> str:
        """A sign that goes before the word, never in its place."""
        symbols = {"right": "✓", "right, but tidy this": "◐", "wrong": "✗", "your code raised": "!"}
        return symbols.get(self.value, "○")


@dataclass(frozen=True)
class Grade:
    """The result of grading one answer.

    Attributes:
        outcome: One of the five outcomes.
        score: Part of the checks that passed, in [0, 1]; 1 if and only if the exercise is solved.
        feedback: What to tell the learner: sentences, then perhaps an example in numbers.
        printed: The beginning of what the answer printed.
        stopped: Whether the answer was stopped: it did not finish, or printed without end.
    """

    outcome: Outcome
    score: float
    feedback: str
    printed: str = ""
    stopped: bool = False

    @property
    def solved(self) -> bool:
        """Whether the exercise counts as solved: right, and tidy as far as the task asks for it."""
        return self.score == 1.0


@dataclass(eq=False)  # two cases are the same only if they are one
class _Case:
    """One input with everything that came of it."""

    args: Args
    expected: Any
    given: Args = ()
    output: Any = None
    values: list[Tensor] | str = ""  # the output as `evidence.read`
    wrong_dtype: str | None = None  # where the task asks for a dtype
    untidy: list[Untidy] = field(default_factory=list)  # a side effect, a graph
    equal: bool = False  # whether the values are right
    right: bool = False  # whether the dtype is right as well

    @property
    def problem(self) -> str | None:
        """What keeps the output from being compared, or None."""
        return self.values if isinstance(self.values, str) else self.wrong_dtype


@dataclass
class FunctionGrader:
    """Grades what came of one function against one exercise; used once."""

    exercise: Exercise
    calls: Calls
    timeout: float

    def grade(self) -> Grade:
        """Return the grade of the answer."""
        exercise, calls = self.exercise, self.calls
        self.names = parameters(exercise.reference)
        if calls.problem:
            return Grade(Outcome.WRONG, 0.0, calls.problem)
        self.cases = [_Case(args, expected) for args, expected in _questions(exercise)]
        for case, given, output in zip(self.cases, calls.given, calls.outputs, strict=False):
            case.given, case.output = given, self._in_torch(case, output)
        if early := self._ended_early() or self._blank():
            return early
        return self._judge()

    def _in_torch(self, case: _Case, output: Any) -> Any:
        """Return an output as tensors, and note it where they were arrays.

        Where a gradient has to pass, an array cannot be right, and what there is to say is said.
        """
        read = evidence.in_torch(output, case.expected)
        if read is not output and SLOPE not in self.exercise.asks:
            case.untidy.append(Untidy("tensor", evidence.ARRAY))
        return read

    def _ended_early(self) -> Grade | None:
        calls, done = self.calls, len(self.calls.outputs)
        if done > len(self.cases) and not calls.flooded and not calls.error:
            return None
        if calls.flooded:
            text = "Your code prints without end, so it was stopped."
        elif calls.timed_out:
            text = self._slow(done)
        elif calls.is_stub:
            return Grade(Outcome.NOT_ATTEMPTED, 0.0, self.exercise.task, calls.printed)
        else:
            assert calls.error, "calls that ended early have a reason"
            text = calls.error
        if calls.place is not None:
            number, line = calls.place
            text += f"\nLine {number}" + (f": {line}" if line else "")
        if calls.abandoned:
            text += "\nIt cannot be stopped and may still be running: restart the kernel."
        if calls.shows_input:
            case = self.cases[min(done, len(self.cases) - 1)]
            text += "\n" + self._example(case, result=False)
        stopped = calls.flooded or calls.timed_out
        return Grade(Outcome.RAISED, 0.0, text, calls.printed, stopped)

    def _slow(self, done: int) -> str:
        """Describe an answer that was stopped: a loop without end looks like a long one."""
        limit = self.timeout * (sandbox.PATIENCE if self.calls.waited else 1)
        text = f"Your code did not finish within {limit:g} seconds, so it was stopped. "
        if done:
            count = f"{min(done, len(self.cases))} of the {len(self.cases)} inputs"
            return text + (
                f"It had answered {count}, so it is slow, or it holds a loop that does not end on "
                "the next one. A step for all numbers at once is much faster than a loop over them."
            )
        return text + (
            "Either it holds a loop without end, or its first call is slow (it loads or compiles "
            "something, or it loops over single numbers). If you think that it is slow, check it "
            "again with more time: `check(..., timeout=60)`."
        )

    def _blank(self) -> Grade | None:
        """Recognise a stub, and a function that forgot its return."""
        outputs = [case.output for case in self.cases]
        if not all(output is None or output is ... for output in outputs):
            return None
        if all(output is ... for output in outputs) or self.calls.is_stub:
            return Grade(Outcome.NOT_ATTEMPTED, 0.0, self.exercise.task, self.calls.printed)
        return Grade(Outcome.WRONG, 0.0, evidence.NO_RETURN, self.calls.printed)

    def _judge(self) -> Grade:
        for case in self.cases:
            self._inspect(case)
        if SLOPE in self.exercise.asks and all(case.right for case in self.cases):
            self._slopes()
        points = sum((0.5 if case.untidy else 1.0) * case.right for case in self.cases)
        points += sum(self._violation(rule) is None for rule in self.exercise.properties)
        count = len(self.cases) + len(self.exercise.properties)
        repeats = self._repeats()
        score = min(max(0.0, points - 0.5 * (not repeats)) / count, 0.99)
        if all(case.equal for case in self.cases):
            self._dtypes()
        printed, untidy = self.calls.printed, self._untidy()
        if repeats and all(case.equal for case in self.cases):
            if untidy:
                return self._tidy(untidy, score)
            praise = f"It passes all {count} checks. {self.exercise.takeaway}".rstrip()
            return Grade(Outcome.RIGHT, 1.0, praise, printed)
        feedback = [] if repeats else [evidence.RANDOM]
        # A changed model or input may well be the reason for the wrong result.
        feedback += [point.text for point in untidy if point.kind in _ALWAYS_ASKED]
        if not all(case.right for case in self.cases):
            feedback.append(self._explain())
        feedback += [point.text for point in untidy if point.kind not in (*_ALWAYS_ASKED, "dtype")]
        return Grade(Outcome.WRONG, score, "\n".join(feedback), printed)

    def _untidy(self) -> list[Untidy]:
        """List what is to be tidied, each point once, those that the task asks for first."""
        points = [point for case in self.cases for point in case.untidy]
        points += [
            Untidy("names", f"Your function replaces `{name}`. It has been put back.")
            for name in self.calls.replaced
        ]
        points += [
            Untidy("finished", f"You use advlearn's own `{name}`. Now write it yourself.")
            for name in self.calls.finished
        ]
        points += [
            Untidy(WITHOUT, f"Your code uses `{name}`, and the task is to do it without.")
            for name in self.calls.named
            if name in self.exercise.without
        ]
        return sorted(dict.fromkeys(points), key=lambda point: not self._is_asked(point))

    def _is_asked(self, point: Untidy) -> bool:
        return point.kind in (*self.exercise.asks, *_ALWAYS_ASKED, WITHOUT)

    def _tidy(self, untidy: list[Untidy], score: float) -> Grade:
        """Grade a right result that came with something to tidy, and say all of it at once."""
        solved = not any(self._is_asked(point) for point in untidy)
        texts = [
            point.text + (" The task asks for it." if point.kind in self.exercise.asks else "")
            for point in untidy
        ]
        if len(texts) > 1:
            texts = [f"{number}. {text}" for number, text in enumerate(texts, 1)]
        head = "The result is right on every input, and the exercise counts as solved. To tidy:"
        if not solved:
            head = "The result is right on every input. To solve the exercise, tidy this:"
        feedback = "\n".join([head, *texts])
        if solved and self.exercise.takeaway:
            feedback += f"\n{self.exercise.takeaway}"
        return Grade(Outcome.TIDY, 1.0 if solved else score, feedback, self.calls.printed)

    def _inspect(self, case: _Case) -> None:
        """Compare the output of one case, and look for what is to be tidied apart from it."""
        case.values = evidence.read(case.output, case.expected)
        case.equal = self._agree(case.values, evidence.read(case.expected, case.expected))
        if "dtype" in self.exercise.asks:
            case.wrong_dtype = evidence.wrong_dtype(case.output, case.expected)
        case.right = case.equal and case.wrong_dtype is None
        case.untidy += evidence.side_effects(case.args, case.given, self.names)
        if evidence.is_attached(case.output):
            case.untidy.append(Untidy("detached", evidence.ATTACHED))

    def _slopes(self) -> None:
        """Look at the gradient of the results, once it is known that all values are right."""
        for at, case in enumerate(self.cases):
            slope = self.calls.slopes[at] if at < len(self.calls.slopes) else None
            text = evidence.wrong_slope(slope, expected_slopes(self.exercise)[at])
            # What is written into an input breaks the gradient too: then that is the thing to say.
            if text and not case.untidy:
                case.untidy.append(Untidy(SLOPE, text))

    def _dtypes(self) -> None:
        """Look for a dtype to tidy, once it is known that all values are right."""
        failing = [case for case in self.cases if case.wrong_dtype is not None]
        if failing:
            wrong = self._misconception(failing)
            text = wrong.feedback if wrong else str(failing[0].wrong_dtype)
            failing[0].untidy.append(Untidy("dtype", text))
            return
        for case in self.cases:
            other = evidence.other_dtype(case.output, case.expected, case.args)
            if other is not None:
                case.untidy.append(Untidy("dtype", other))

    def _agree(self, a: list[Tensor] | str, b: list[Tensor] | str) -> bool:
        return evidence.agree(a, b, self.exercise.rtol, self.exercise.atol)

    def _repeats(self) -> bool:
        first = self.cases[0]
        if first.problem is not None:
            return True  # the problem is in the feedback, and enough
        return self._agree(first.values, evidence.read(self.calls.outputs[-1], first.expected))

    def _explain(self) -> str:
        """Say why the result is wrong: a slip, a broken rule, or just the difference.

        What holds on all inputs comes first; what holds on some only, with less said.
        """
        failing = [case for case in self.cases if not case.right]
        example = self._example(min(failing, key=lambda case: _size(case.expected)))
        if misconception := self._misconception(failing):
            return f"{misconception.feedback}\n{example}"
        if slip := self._relation() or self._general_slip():
            return f"{slip}\n{example}"
        if unreadable := [case for case in failing if case.problem is not None]:
            return f"{unreadable[0].problem}\n{self._example(unreadable[0])}"
        if slip := self._slip_in_one_result() or self._slip_on_some_inputs(failing):
            return f"{slip}\n{example}"
        return self._complaint(failing, example)

    def _complaint(self, failing: list[_Case], example: str) -> str:
        """Name a rule that the result breaks, or just say where it differs."""
        _, _, wrong = self._compared()
        which = _which(wrong)
        # What is drawn anew in each call breaks a rule by chance.
        rules = self.exercise.properties if self._repeats() else ()
        complaints = [(evidence.NOT_FINITE, case) for case in failing if self._has_new_nan(case)]
        complaints += [found for rule in rules if (found := self._violation(rule))]
        if complaints:
            text, case = complaints[0]
            return f"{which}{text}\n{self._example(case)}"
        count = f"{len(failing)} of {len(self.cases)} inputs"
        it = {0: "Your result differs", 1: "It differs"}.get(len(wrong), "They differ")
        return f"{which}{it} from the expected one on {count}.\n{example}"

    def _misconception(self, failing: list[_Case]) -> Misconception | None:
        """Find the wrong answer that gives what the learner's gives on every input.

        Values decide, in whatever number type they come back; the dtype does only if nothing else
        is wrong. If several wrong answers give that, none is told.
        """
        only_dtype = all(case.equal for case in failing)
        same = self._same_dtype if only_dtype else self._same_values
        fits = [
            wrong
            for wrong in self.exercise.wrong_answers
            if all(same(wrong, case) for case in (*failing, *self.cases))
        ]
        return fits[0] if len(fits) == 1 else None

    def _slip_on_some_inputs(self, failing: list[_Case]) -> str | None:
        """Name the only misconception that agrees wherever the learner is wrong, if that is much.

        So somebody is understood who makes a slip in one branch only. Few numbers prove nothing.
        """
        if len(failing) == len(self.cases) or self._wrong_numbers(failing) < _FEWEST:
            return None
        told = slips.told_by(
            self.exercise.wrong_answers,
            lambda wrong: all(self._same_values(wrong, case) for case in failing),
        )
        return told and f"On {len(failing)} of {len(self.cases)} inputs: {told}"

    def _relation(self) -> str | None:
        """Say how the results are related to the right ones, if they are so on all inputs."""
        return relations.relation(
            [case.output for case in self.cases],
            [case.expected for case in self.cases],
            [case.args for case in self.cases],
            self._agree,
        )

    def _general_slip(self) -> str | None:
        """Name the one general slip that gives what the learner's answer gives on every input."""

        def fits(slip: Misconception) -> bool:
            return all(self._same_values(slip, case) for case in self.cases)

        in_steps, in_arguments = _general_slips(self.exercise)
        told = slips.told_by(in_steps, fits)
        # A forgotten argument gives few different numbers at times, as another slip does.
        if told is None and self._wrong_numbers(self.cases) >= _FEWEST:
            told = slips.told_by_arguments(in_arguments, fits)
        return told

    def _wrong_numbers(self, cases: Sequence[_Case]) -> int:
        """Count the different wrong numbers: on so many a story about the answer rests."""
        pairs = [(case.values, evidence.read(case.expected, case.expected)) for case in cases]
        readable = [(a, b) for a, b in pairs if isinstance(a, list) and isinstance(b, list)]
        values, right = [a for a, _ in readable], [b for _, b in readable]
        return relations.different_numbers(values, right, self._agree)

    def _same_values(self, wrong: Misconception, case: _Case) -> bool:
        """Return whether a misconception gives the learner's values on an input."""
        output = self._imitate(wrong, case)
        values = evidence.read(output, case.expected)
        if isinstance(values, list) or isinstance(case.values, list):
            return self._agree(case.values, values)
        # Neither has the expected form: perhaps both have the same other one.
        if isinstance(output, Tensor) and output.numel() == 1:
            output = output.item()
        return self._agree(evidence.read(case.output, output), evidence.read(output, output))

    def _same_dtype(self, wrong: Misconception, case: _Case) -> bool:
        """Return whether a misconception gives the learner's values with the learner's dtype."""
        output = self._imitate(wrong, case)
        problem = evidence.wrong_dtype(output, case.expected)
        return problem == case.wrong_dtype and self._same_values(wrong, case)

    def _slip_in_one_result(self) -> str | None:
        """Name the misconception behind the one wrong result of several, the others being right."""
        outputs, targets, wrong = self._compared()
        if len(wrong) != 1:
            return None
        k, count = wrong[0], len(targets[0])

        def fits(misconception: Misconception) -> bool:
            imitated = [
                evidence.read(self._imitate(misconception, case), case.expected)
                for case in self.cases
            ]
            # What belongs in another place is a mix-up of all results: its feedback would mislead.
            mixed_up = any(self._equal_at(imitated, targets, k, j) for j in range(count) if j != k)
            return self._equal_at(imitated, outputs, k, k) and not mixed_up

        told = (
            slips.told_by(self.exercise.wrong_answers, fits)
            or relations.relation_of_values(
                [[output[k]] for output in outputs],
                [[target[k]] for target in targets],
                [case.args for case in self.cases],
                self._agree,
            )
            or slips.told_by(_general_slips(self.exercise)[0], fits)
        )
        return f"{_which(wrong)}{told}" if told else None

    def _compared(self) -> tuple[list[list[Tensor]], list[list[Tensor]], list[int]]:
        """Return what came out, what is expected, and which of several results are wrong.

        None is named where all are wrong, or where there is one only.
        """
        outputs = [case.values for case in self.cases if isinstance(case.values, list)]
        expected = [evidence.read(case.expected, case.expected) for case in self.cases]
        targets = [target for target in expected if isinstance(target, list)]
        count = len(targets[0])
        if count == 1 or len(outputs) < len(targets):
            return outputs, targets, []
        wrong = [k for k in range(count) if not self._equal_at(outputs, targets, k, k)]
        return outputs, targets, wrong if len(wrong) < count else []

    def _imitate(self, wrong: Misconception, case: _Case) -> Any:
        """Return what a misconception gives on an input, or the error if it does not even run."""
        return _imitations(self.exercise, wrong)[self.cases.index(case)]

    def _equal_at(
        self, a: Sequence[list[Tensor] | str], b: Sequence[list[Tensor] | str], j: int, k: int
    ) -> bool:
        """Return whether result j of `a` is result k of `b` on every input."""
        return all(
            not isinstance(x, str) and not isinstance(y, str) and self._agree([x[j]], [y[k]])
            for x, y in zip(a, b, strict=True)
        )

    def _has_new_nan(self, case: _Case) -> bool:
        expected = evidence.read(case.expected, case.expected)
        return any(
            bool((~torch.isfinite(a) & torch.isfinite(b)).any())
            for a, b in zip(case.values, expected, strict=True)
            if isinstance(a, Tensor) and isinstance(b, Tensor)
        )

    def _violation(self, rule: Property) -> tuple[str, _Case] | None:
        """Return the first complaint of a property and where; unreadable output breaks it too."""
        for case in self.cases:
            if case.problem is not None or isinstance(case.values, str):
                return str(case.problem), case
            complaint = rule(case.args, evidence.in_form_of(case.expected, case.values))
            if complaint is not None:
                return complaint, case
        return None

    def _example(self, case: _Case, result: bool = True) -> str:
        """Write what was fed in, and what came out against what was expected."""
        rows = [f"{n} = {evidence.show(a)}" for n, a in zip(self.names, case.args, strict=True)]
        rows = [("    given     " if i == 0 else " " * 14) + row for i, row in enumerate(rows)]
        if not result:
            return "\n".join(rows)
        rtol, atol = self.exercise.rtol, self.exercise.atol
        output, expected = evidence.contrast(case.output, case.expected, rtol, atol)
        rows += [f"    yours     {output}", f"    expected  {expected}"]
        return "\n".join(row[:240] for row in rows)


def _which(wrong: Sequence[int]) -> str:
    """Say which of several results are wrong, or nothing."""
    if not wrong:
        return ""
    *most, last = map(evidence.ordinal, wrong)
    if not most:
        return f"Only your {last} result is wrong. "
    return f"Your {', '.join(most)} and {last} results are wrong, the others right. "


@functools.lru_cache(maxsize=128)
def _questions(exercise: Exercise) -> list[tuple[Args, Any]]:
    """Return the inputs of an exercise with what is expected: the same for every answer.

    They are never handed out: an answer gets copies. Making them takes no random number that an
    answer would get, or the first grade could differ from the second.
    """
    assert exercise.inputs is not None, "only functions are graded here"
    with sandbox.preserved_state():
        inputs = exercise.inputs(torch.Generator().manual_seed(0))
        if isinstance(exercise.reference, Recorded):
            return exercise.reference.questions(inputs)
        return [(args, exercise.reference(*evidence.copy_arguments(args))) for args in inputs]


@functools.lru_cache(maxsize=128)
def expected_slopes(exercise: Exercise) -> list[list[Tensor]]:
    """Return the gradients of the reference on each input, for an exercise that asks for them."""
    if isinstance(exercise.reference, Recorded):
        return exercise.reference.expected_slopes
    with sandbox.preserved_state():
        found = [slope_of(exercise.reference, args) for args, _ in _questions(exercise)]
    assert None not in found, f"the reference of {exercise.name} has no gradient"
    return [slope for slope in found if slope is not None]


@functools.lru_cache(maxsize=128)
def _general_slips(
    exercise: Exercise,
) -> tuple[tuple[Misconception, ...], tuple[Misconception, ...]]:
    if isinstance(exercise.reference, Recorded):
        return exercise.reference.slips
    in_arguments = tuple(slips.slips_in_arguments(exercise.reference))
    return slips.slips_in_steps(exercise.reference), in_arguments


@functools.lru_cache(maxsize=8192)
def _imitations(exercise: Exercise, wrong: Misconception) -> list[Any]:
    """Return what a misconception gives on each input, or the error if it does not even run.

    A learner's answer has run before: what it did to PyTorch's settings must not count here.
    """
    if isinstance(wrong.answer, Recorded):
        return wrong.answer.outputs
    answer, outputs = wrong.answer, []
    questions = _questions(exercise)
    with sandbox.preserved_state():
        for args, _ in questions:
            try:
                outputs.append(answer(*evidence.copy_arguments(args)))
            except Exception as error:
                outputs.append(error.with_traceback(None))
    return outputs


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters."""
    return tuple(inspect.signature(function).parameters)


def _size(expected: object) -> int:
    return expected.numel() if isinstance(expected, Tensor) else 1


def inputs_of(exercise: Exercise) -> list[Args]:
    """Return the arguments that an answer is called with, the same ones for every answer.

    They must not be changed: hand out copies.
    """
    return [args for args, _ in _questions(exercise)]
