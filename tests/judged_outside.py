"""Grade every answer of every bank by a process outside, and in this one: the same grades?

`python -m tests.judged_outside [LESSON ...]` prints what differs, and ends with 1 if anything does.
The answers are the banks' own, so here alone the learner's process may load them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from advlearn.classroom import runner
from advlearn.classroom.answers import read
from advlearn.course.grading.grader import Grade


def differences(lessons: Sequence[str]) -> Iterator[str]:
    """Yield what differs, and last how many were compared."""
    runner._hide_the_banks = lambda: None
    nursery = runner.Nursery()
    from advlearn.classroom.judge import Judge, _Attempt, _Sitting
    from advlearn.exercises import all_exercises

    judge, count = Judge(nursery), 0
    spent = {"outside": 0.0, "inside": 0.0}
    for exercise in all_exercises():
        if lessons and exercise.lesson not in lessons:
            continue
        bank = f"__import__('advlearn.course.banks.lesson{exercise.lesson}', fromlist=['x'])"
        one = f"next(e for e in {bank}.EXERCISES if e.name == {exercise.name!r})"
        places = {"reference": exercise.reference}
        places |= {f"right_answers[{k}]": a for k, a in enumerate(exercise.right_answers)}
        places |= {f"wrong_answers[{k}].answer": w.answer
                   for k, w in enumerate(exercise.wrong_answers)}  # fmt: skip
        sitting = _Sitting(nursery, read([], []))
        for place, answer in places.items():
            started = time.monotonic()
            outside = judge._grade(
                exercise, _Attempt({"expression": f"{one}.{place}"}, None, ""), sitting
            )
            spent["outside"] += time.monotonic() - started
            started = time.monotonic()
            inside = exercise.grade(answer)
            spent["inside"] += time.monotonic() - started
            count += 1
            if _told(outside) != _told(inside):
                yield f"{exercise.lesson} {exercise.name} {place}:\n  {outside}\n  {inside}"
        sitting.close()
    nursery.close()
    yield f"{count} answers compared; seconds by the clock: {spent}"


def _told(grade: Grade) -> tuple[object, ...]:
    return grade.outcome, grade.score, grade.feedback, grade.printed, grade.stopped


if __name__ == "__main__":
    *wrong, summary = differences(sys.argv[1:])
    print(*wrong, summary, sep="\n")
    sys.exit(bool(wrong))
