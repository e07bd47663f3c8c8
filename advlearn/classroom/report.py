"""What a teacher gets of a graded class: a grade book, a page for each learner, and a summary.

All pages are single files without scripts. What learners wrote is escaped. A grade book that was
changed by hand since the last run is kept under another name.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from advlearn._atomic import write_atomically
from advlearn._quote import printable
from advlearn.classroom.framing import framed
from advlearn.classroom.grade import RULES, Grades, Mark, total
from advlearn.classroom.status import exercise_names, harmless

_WORDS = {
    "NOT_ATTEMPTED": "not attempted", "RIGHT": "right", "TIDY": "right, but tidy this",
    "WRONG": "wrong", "RAISED": "the code raised", "UNGRADED": "could not be graded",
}  # fmt: skip
# From solved to not begun; colours that a colour-blind reader tells apart, and hatches for grey.
_BARS = {
    "solved": ("#0072B2", ""), "right, to tidy": ("#56B4E9", ".."), "wrong": ("#E69F00", "//"),
    "raised": ("#D55E00", "xx"), "not attempted": ("#FFFFFF", ""), "not graded": ("#999999", "++"),
}  # fmt: skip
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { border-bottom: 1px solid #999; padding: .3rem .7rem;
text-align: left; vertical-align: top; } td.n, th.n { text-align: right; }
pre { background: #f3f3f3; color: #111; padding: .6rem; overflow-x: auto; white-space: pre-wrap; }
img { max-width: 100%; } .remark { font-weight: 600; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee; }
img { background: #fff; } }
"""


def write(grades: Grades, out: Path, rule: str) -> list[Path]:
    """Write everything into a folder, and return the files.

    Args:
        grades: of the class.
        out: the folder; made if it is not there.
        rule: a key of `RULES`.
    """
    pages = {"grades.csv": grade_book(grades, rule), "details.csv": details(grades, rule)}
    names = page_names(list(grades.marks))
    for learner, name in names.items():
        pages[f"feedback/{name}"] = feedback(grades, learner, rule)
    pages["summary.html"] = summary(grades, rule, names)
    written = []
    for name, text in pages.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".csv"):
            _keep_changed(path, out / ".work" / f"{name}.sha256", text)
        write_atomically(path, text)
        written.append(path)
    return written


def _keep_changed(path: Path, record: Path, text: str) -> None:
    """Keep a table that somebody has changed since we wrote it."""
    record.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        held = hashlib.sha256(path.read_bytes()).hexdigest()
        ours = record.read_text(encoding="ascii") if record.is_file() else ""
        if held != ours:
            number = 1
            while (other := path.with_name(f"{path.stem}-kept-{number}{path.suffix}")).exists():
                number += 1
            path.replace(other)
    write_atomically(record, hashlib.sha256(text.encode()).hexdigest())


def page_names(learners: Sequence[str]) -> dict[str, str]:
    """Return a file name for each learner's page: safe everywhere, and no two alike.

    Example:
        >>> page_names(["Kim Minji", "../etc"])
        {'Kim Minji': '001-Kim-Minji.html', '../etc': '002-etc.html'}
    """
    return {
        learner: f"{number:03d}-{re.sub(r'[^0-9A-Za-z가-힣]+', '-', learner).strip('-')[:40]}.html"
        for number, learner in enumerate(learners, 1)
    }


# --- Tables ---------------------------------------------------------------------------------------


def grade_book(grades: Grades, rule: str) -> str:
    """Return a line for each learner, with the points of each lesson, as CSV.

    A lesson that was not handed in is empty. Where something could not be graded the notes say so,
    and how many exercises the points are of.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    lessons = grades.lessons
    heads = [f"lesson {lesson} (of {len(exercise_names()[lesson])})" for lesson in lessons]
    writer.writerow(["learner", *heads, "total", "of", "notes"])
    for learner, marks in grades.marks.items():
        cells = []
        for lesson in lessons:
            own = grades.of(learner, lesson)
            points, graded = total(own, rule)
            cells.append(f"{points:g}" if graded else "")
        points, graded = total(marks.values(), rule)
        row = [harmless(learner), *cells, f"{points:g}" if graded else "", str(graded)]
        writer.writerow([*row, harmless(" ".join(notes(grades, learner)))])
    return text.getvalue()


def notes(grades: Grades, learner: str) -> Iterator[str]:
    """Yield what a teacher should know of a learner's grades."""
    for mark in grades.marks[learner].values():
        if mark.outcome == "UNGRADED":
            yield f"{mark.lesson} {mark.exercise}: could not be graded ({printable(mark.remark)})."
        elif mark.remark:
            yield f"{mark.lesson} {mark.exercise}: {printable(mark.remark)}."
    for one in grades.unread:
        if one.learner == learner:
            yield f"Not read: {printable(one.path)}: {one.reason}."


def details(grades: Grades, rule: str) -> str:
    """Return a line for each learner and exercise, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["learner", "lesson", "exercise", "outcome", "points", "score", "feedback"]
    writer.writerow([*heads, "file", "cell", "attempts", "remark"])
    for learner, marks in grades.marks.items():
        for mark in marks.values():
            points = mark.points(rule)
            row = [
                learner, mark.lesson, mark.exercise, _WORDS.get(mark.outcome, mark.outcome),
                "" if points is None else f"{points:g}", f"{mark.score:.3f}",
                " ".join(mark.feedback.split()), mark.path, mark.cell or "", mark.attempts,
                mark.remark,
            ]  # fmt: skip
            writer.writerow([harmless(str(cell)) for cell in row])
    return text.getvalue()


# --- Pages ----------------------------------------------------------------------------------------


def feedback(grades: Grades, learner: str, rule: str) -> str:
    """Return the page that a learner gets: each exercise with what its check says."""
    points, graded = total(grades.marks[learner].values(), rule)
    parts = [f"<h1>{_safe(learner)}</h1>"]
    if graded:
        parts.append(f"<p>{points:g} points of {graded}: {_safe(RULES[rule])}.</p>")
    for lesson in grades.lessons:
        own = grades.of(learner, lesson)
        if not own:
            continue
        parts.append(f"<h2>Lesson {lesson}</h2>")
        for mark in own:
            value = mark.points(rule)
            shown = "no grade" if value is None else f"{value:g} of 1"
            parts.append(
                f"<h3>{_safe(mark.exercise)}: {_WORDS.get(mark.outcome, mark.outcome)} "
                f"({shown})</h3>"
            )
            if mark.remark:
                parts.append(f'<p class="remark">{_safe(_sentence(mark.remark))}</p>')
            if mark.outcome not in {"NOT_ATTEMPTED", "UNGRADED"}:
                parts.append(f"<pre>{_safe(mark.feedback)}</pre>")
    unread = [one for one in grades.unread if one.learner == learner]
    if unread:
        parts.append("<h2>Files that could not be read</h2><ul>")
        parts += [f"<li>{_safe(one.path)}: {_safe(one.reason)}</li>" for one in unread]
        parts.append("</ul>")
    return framed(_safe(learner), _STYLE, parts)


def summary(grades: Grades, rule: str, names: dict[str, str]) -> str:
    """Return the teacher's page: how each exercise went, and which slip was made how often."""
    parts = ["<h1>The class</h1>"]
    learners = len(grades.marks)
    parts.append(
        f"<p>{learners} learners. Points: {_safe(RULES[rule])}. {_safe(_isolated(grades))}</p>"
    )
    for lesson in grades.lessons:
        picture, alt = chart(grades, lesson)
        data = base64.b64encode(picture).decode()
        parts.append(f"<h2>Lesson {lesson}</h2>")
        parts.append(f'<img alt="{_safe(alt)}" src="data:image/png;base64,{data}">')
        rows = list(slips(grades, lesson))
        if rows:
            parts.append(
                '<table><tr><th>exercise</th><th class="n">learners</th><th>what to teach again'
                "</th></tr>"
            )
            parts += [
                f'<tr><td>{_safe(name)}</td><td class="n">{count}</td><td>{_safe(text)}</td></tr>'
                for count, name, text in rows
            ]
            parts.append("</table>")
    parts.append("<h2>Learners</h2><table><tr><th>learner</th><th>points</th><th>notes</th></tr>")
    for learner, marks in grades.marks.items():
        points, graded = total(marks.values(), rule)
        shown = f"{points:g} of {graded}" if graded else "no grade"
        link = f'<a href="feedback/{_safe(names[learner])}">{_safe(learner)}</a>'
        told = "<br>".join(_safe(note) for note in notes(grades, learner))
        parts.append(f"<tr><td>{link}</td><td>{shown}</td><td>{told}</td></tr>")
    parts.append("</table>")
    return framed("The class", _STYLE, parts)


def slips(grades: Grades, lesson: str, most: int = 12) -> Iterator[tuple[int, str, str]]:
    """Yield what was wrong most often in a lesson: how many learners, exercise, first sentence."""
    counted: Counter[tuple[str, str]] = Counter()
    for learner in grades.marks:
        for mark in grades.of(learner, lesson):
            if not mark.solved and mark.outcome in {"WRONG", "RAISED", "TIDY"}:
                first = textwrap.shorten(mark.feedback.split("\n")[0], 200, placeholder=" …")
                counted[mark.exercise, first] += 1
    for (name, text), count in counted.most_common(most):
        yield count, name, text


def chart(grades: Grades, lesson: str) -> tuple[bytes, str]:
    """Return a bar for each exercise of a lesson, as PNG, and its words."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    from advlearn import plotting

    names = exercise_names()[lesson]
    counts = {kind: [0] * len(names) for kind in _BARS}
    for learner in grades.marks:
        for mark in grades.of(learner, lesson):
            counts[_kind(mark)][names.index(mark.exercise)] += 1
    figure, ax = plt.subplots(figsize=(7.6, 0.4 * len(names) + 1.4), layout="constrained")
    left = [0] * len(names)
    for kind, (colour, hatch) in _BARS.items():
        if any(counts[kind]):
            ax.barh(
                range(len(names)), counts[kind], left=left, color=colour, hatch=hatch,
                edgecolor="black", linewidth=0.6, label=kind,
            )  # fmt: skip
        left = [a + b for a, b in zip(left, counts[kind], strict=True)]
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("learners")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    alt = f"Lesson {lesson}: " + "; ".join(
        f"{name}: " + ", ".join(f"{counts[kind][k]} {kind}" for kind in _BARS if counts[kind][k])
        for k, name in enumerate(names)
    )
    return plotting.render(figure, dpi=100), alt


def _kind(mark: Mark) -> str:
    if mark.outcome == "UNGRADED":
        return "not graded"
    if mark.solved:
        return "solved"
    kinds = {"TIDY": "right, to tidy", "WRONG": "wrong", "RAISED": "raised"}
    return kinds.get(mark.outcome, "not attempted")


def _isolated(grades: Grades) -> str:
    """Say what was kept from the learners' code."""
    words = {
        "no network": ("had no network", "had the network"),
        "another user": ("ran as another user", "ran as your own user"),
        "no other process": ("could reach no other process", "could reach your processes"),
        "no disk": ("could change no file", "could change files of that user"),
    }
    told = [yes if grades.isolation.get(key) else no for key, (yes, no) in words.items()]
    return f"The learners' code {', '.join(told[:-1])}, and {told[-1]}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _safe(text: str) -> str:
    return html.escape(printable(text) if "\n" not in text else _lines(text))


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
