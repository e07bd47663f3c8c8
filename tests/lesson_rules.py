"""The rules that every lesson keeps. A rule takes a notebook and returns what is wrong with it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import nbformat
from nbformat import NotebookNode

from advlearn.course import notebooks
from advlearn.course.lessons import LESSONS as TABLE

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
# Notebooks beside the course: for practitioners, without exercises.
BESIDE = sorted(set((ROOT / "notebooks").glob("*.ipynb")) - set(LESSONS))

ENTRIES = {entry.file: entry for entry in TABLE}

CHECKED = "nbval-check-output"
MOST_LINES, MOST_COLUMNS = 25, 100  # of code that is seen
MOST_FOLDED = 30  # lines, in a cell that is folded
# In order; a * marks what only some lessons have.
SECTIONS = (
    "What you will be able to do",
    "Before you start",
    "[numbered]",
    "Quiz",
    "The paper and this lesson*",
    "Common mistakes*",
    "Summary",
    "Appendix, may be skipped*",
    "Glossary",
    "References",
)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: NotebookNode) -> str:
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def headings(notebook: NotebookNode) -> list[tuple[int, str]]:
    marked = re.findall(r"^(#+) (.+)$", prose(notebook), re.M)
    return [(len(marks), text.strip()) for marks, text in marked]


def bank(name: str) -> ModuleType:
    return importlib.import_module(f"advlearn.course.banks.lesson{name[:2]}")


# --- The rules ------------------------------------------------------------------------------------


def anatomy(notebook: NotebookNode, name: str) -> list[str]:
    """Every section of a lesson, in order."""
    problems = []
    shown = [text for depth, text in headings(notebook) if depth == 2]
    shown = ["[numbered]" if re.match(r"\d+ ", text) else text for text in shown]
    shown = [text for i, text in enumerate(shown) if i == 0 or text != shown[i - 1]]
    allowed = [section.rstrip("*") for section in SECTIONS]
    problems += [f"section {text!r} is not in the plan" for text in shown if text not in allowed]
    problems += [
        f"section {section!r} is missing"
        for section in SECTIONS
        if not section.endswith("*") and section not in shown
    ]
    known = [text for text in shown if text in allowed]
    if known != sorted(known, key=allowed.index):
        problems.append(f"sections are out of order: {known}")
    title = notebook.cells[0].source
    entry = ENTRIES[name]
    if not title.startswith(f"# {entry.number} · {entry.title}\n"):
        problems.append("the first cell must begin with '# N · title'")
    if not re.search(r"\*\*About \d+ minutes\*\* .*· runs in under \d+ seconds", title, re.S):
        problems.append("the first cell must state the minutes and the seconds")
    if title.count(f"\n\n{notebooks.SECOND_DAY}\n\n") != 1:
        problems.append("the first cell must say how to come back another day")
    if "advlearn.exercises import" in "".join(cell.source for cell in code(notebook)[1:]):
        problems.append("the set-up cell imports `ex`, and no other does")
    goals = re.search(r"## What you will be able to do\n\n((?:- .*\n?)+)", prose(notebook))
    if not goals or not 3 <= goals[1].count("- ") <= 6:
        problems.append("the goals must be a list of three to five")
    if not any("widget" in tags(cell) for cell in code(notebook)):
        problems.append("there is no cell tagged 'widget'")
    if "](http" not in prose(notebook).split("## References")[-1]:
        problems.append("the references have no links")
    return problems


def one_setup_cell(notebook: NotebookNode, name: str) -> list[str]:
    """One set-up cell, the first code cell, the same in every lesson; the badge of this lesson."""
    cells = [cell for cell in code(notebook) if "setup" in tags(cell)]
    problems = []
    if len(cells) != 1 or cells[0] is not code(notebook)[0]:
        problems.append("the first code cell, and no other, must be tagged 'setup'")
    elif cells[0].source != notebooks.setup_cell(name):
        problems.append("the set-up cell differs from the one in advlearn/course/notebooks.py")
    if notebooks.badge(name) not in notebook.cells[0].source:
        problems.append("the first cell has no Colab badge for this lesson")
    return problems


def normal_form(notebook: NotebookNode, name: str) -> list[str]:
    """Executed from top to bottom, and written by `make notebooks`."""
    counts = [cell.execution_count for cell in code(notebook)]
    problems = []
    if counts != list(range(1, len(counts) + 1)):
        problems.append(f"cells were not run once from top to bottom: {counts}")
    copy = nbformat.from_dict(notebook)
    before = nbformat.writes(copy)
    notebooks.fill(copy, name)
    notebooks.normalise(copy)
    if nbformat.writes(copy) != before:
        problems.append("not in normal form: run `make notebooks`")
    return problems


def result_cells(notebook: NotebookNode, name: str) -> list[str]:
    """Checked cells hold a count and a printed result, rounded (nbval compares nothing else)."""
    cells = [cell for cell in code(notebook) if CHECKED in tags(cell)]
    problems = [] if len(cells) >= 2 else ["fewer than two cells are checked"]
    for cell in cells:
        first = cell.source.splitlines()[0]
        text = "".join(o.text for o in cell.outputs if o.output_type == "stream")
        if not cell.execution_count or not text.strip():
            problems.append(f"checked, but nothing printed: {first}")
        if any(output.output_type != "stream" for output in cell.outputs):
            problems.append(f"checked, but displays more than text: {first}")
        if re.search(r"\d\.\d{4,}", text):
            problems.append(f"checked, but not rounded: {first}")
    return problems


def pictures_have_words(notebook: NotebookNode, name: str) -> list[str]:
    """Every picture has an alt text; none comes without one."""
    problems = []
    for cell in code(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            first = cell.source.splitlines()[0]
            if any(kind.startswith("image/") for kind in data):
                problems.append(f"a picture without words, use plotting.show: {first}")
            for image in re.findall(r"<img[^>]*>", data.get("text/html", "")):
                if not re.search(r'alt="[^"]{12,}"', image):
                    problems.append(f"an image without an alt text: {first}")
    problems += [
        f"an image in the text without words: {address}"
        for words, address in re.findall(r"!\[(.*?)\]\((.*?)\)", prose(notebook))
        if not words.strip()
    ]
    return problems


def nothing_typed_in(notebook: NotebookNode, name: str) -> list[str]:
    """Measured percentages are printed by code, not typed into the text."""
    return [
        f"a typed-in figure: {line.strip()[:80]}"
        for line in prose(notebook).splitlines()
        if re.search(r"(?<!95 )\b\d+(\.\d+)? ?%", line.replace("95 %", ""))
        and not re.search(r"paper|summar", line, re.I)
    ]


def short_cells(notebook: NotebookNode, name: str) -> list[str]:
    """Code cells fit a laptop's screen; what is longer is folded or parted."""
    problems = []
    for cell in code(notebook):
        lines = cell.source.splitlines()
        seen = not set(notebooks.FOLDS) & set(tags(cell))
        if len(lines) > (MOST_LINES if seen else MOST_FOLDED):
            problems.append(f"{len(lines)} lines in one cell: {lines[0]}")
        problems += [f"line too long: {line[:60]}" for line in lines if len(line) > MOST_COLUMNS]
    return problems


def folds_are_introduced(notebook: NotebookNode, name: str) -> list[str]:
    """What is folded can be left unread: words say what a drawing shows; a check is compared."""
    problems = []
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        folds = set(notebooks.FOLDS) & set(tags(cell))
        if not folds:
            continue
        title, *body = cell.source.splitlines()
        if cell.cell_type != "code" or not body or len(folds) > 1:
            problems.append(f"one tag, and on code, folds a cell: {title}")
        if "drawing" in folds and before.cell_type != "markdown":
            problems.append(f"no sentence before a drawing: {title}")
        if "authors-check" in folds and CHECKED not in tags(cell):
            problems.append(f"a check that is not compared, give it the tag {CHECKED}: {title}")
        if re.search(r"\bex\.(?:\w+\.check\(|quiz|progress)", cell.source):
            problems.append(f"an exercise or a quiz is folded: {title}")
    return problems


def links_resolve(notebook: NotebookNode, name: str) -> list[str]:
    """Links inside the project lead somewhere."""
    links = re.findall(r"\]\(([^)\s]+)\)", prose(notebook))
    inside = [link for link in links if not re.match(r"https?:|#|mailto:", link)]
    return [
        f"a link that leads nowhere: {link}"
        for link in inside
        if not (ROOT / "notebooks" / link.split("#")[0]).exists()
    ]


def mentions(text: str) -> list[tuple[int, str]]:
    """Return the lessons that a text names, in order: the number, and the linked file or ""."""
    text = re.sub(r"```.*?```|`[^`\n]+`|^#[^\n]*$", "", text, flags=re.S | re.M)
    text = " ".join(text.split())
    item = r"(?:\[\d+\]\([^)]*\)|\d+)"
    # In "lessons 6 and 9" the second number has no word of its own: give it one.
    lists = rf"\b[Ll]essons ({item}(?: \([^)]*\))?(?:(?:,? and |,? or | to |, ){item})*)"
    text = re.sub(lists, lambda m: re.sub(r"(?<![\d_.])\d+(?![\d_.])", r"lesson \g<0>", m[1]), text)
    linked = r"\[[Ll]esson (?P<a>\d+)\]\((?P<file>[^)#]*)"
    return [
        (int(match["a"] or match["b"]), match["file"] or "")
        for match in re.finditer(rf"{linked}|\b[Ll]esson (?P<b>\d+)", text)
    ]


def neighbours_are_linked(notebook: NotebookNode, name: str) -> list[str]:
    """A lesson that is named is linked, at least where a cell names it first."""
    files = {int(path.name[:2]): path.name for path in LESSONS}
    problems = []
    for cell in notebook.cells:
        first: dict[int, str] = {}
        for number, link in mentions(cell.source) if cell.cell_type == "markdown" else ():
            first.setdefault(number, link)
        problems += [
            f"lesson {number} is named and not linked: {cell.source[:60]!r}"
            for number, link in first.items()
            if number != int(name[:2]) and link != files.get(number)
        ]
    return problems


def prerequisites_are_linked(notebook: NotebookNode, name: str) -> list[str]:
    """The earlier lessons that "Before you start" links to are those of the table."""
    text = prose(notebook).partition("## Before you start\n")[2].partition("\n## ")[0]
    linked = {file for file in re.findall(r"\]\((\d\d_\w+\.ipynb)\)", text) if file < name}
    entry = ENTRIES[name]
    wanted = {TABLE[number].file for number in (*entry.needs, *entry.helps)}
    return [f"{file} is linked, or in the table, but not both" for file in sorted(linked ^ wanted)]


def headings_nest(notebook: NotebookNode, name: str) -> list[str]:
    """One title, and no level left out."""
    depths = [depth for depth, _ in headings(notebook)]
    problems = [] if depths.count(1) == 1 and depths[0] == 1 else ["there must be one title, first"]
    return problems + [
        f"heading {text!r} leaves out a level"
        for before, (depth, text) in zip(depths, headings(notebook)[1:], strict=False)
        if depth > before + 1
    ]


def exercises_match_the_bank(notebook: NotebookNode, name: str) -> list[str]:
    """Three to six exercises before the appendix; all are the bank's: order, stars, minutes."""
    module = bank(name)
    owned = list(module.EXERCISES)
    before_appendix = prose(notebook).partition("\n## Appendix, may be skipped\n")[0]
    count = len(re.findall(r"^### Exercise \d+ · ", before_appendix, re.M))
    problems = [] if 3 <= count <= 6 else [f"{count} exercises before the appendix"]
    source = "\n".join(cell.source for cell in code(notebook))
    called = re.findall(r"^ex\.(\w+)\.check\(", source, re.M)
    if called != [exercise.name for exercise in owned]:
        problems.append(f"the lesson checks {called}, the bank has {[e.name for e in owned]}")
    heading = r"^### Exercise (\d+) · .+ · ([★☆]{3}) · (\d+) minutes$"
    shown = re.findall(heading, prose(notebook), re.M)
    wanted = [
        (str(i), "★" * e.difficulty + "☆" * (3 - e.difficulty), str(e.minutes))
        for i, e in enumerate(owned, start=1)
    ]
    if shown != wanted:
        problems.append(f"exercise headings are {shown}, by the bank {wanted}")
    if len(module.quiz.questions) < 5 or "ex.quiz" not in source:
        problems.append("the quiz must have five questions and be shown by ex.quiz")
    return problems


def glossary_is_rendered(notebook: NotebookNode, name: str) -> list[str]:
    """The glossary is displayed, with Korean beside English."""
    tables = [
        text
        for cell in code(notebook)
        for output in cell.outputs
        if "| Term |" in (text := output.get("data", {}).get("text/markdown", ""))
    ]
    if len(tables) != 1:
        return ["there must be one glossary table"]
    rows = tables[0].splitlines()[2:]
    return [f"no Korean: {row}" for row in rows if not re.search(r"[가-힣]", row)]


def clean_outputs(notebook: NotebookNode, name: str) -> list[str]:
    """No errors, warnings, paths, addresses or progress bars in what a reader sees."""
    junk = {
        "a path": r"(?<![\w.])/(?:home|root|tmp|usr|Users|var|mnt|opt|content)/|site-packages",
        "a warning": r"Warning\b|WARNING",
        "an address in memory": r"\b0x[0-9a-f]{6,}",
        "a progress bar": r"[█▏▎▍▌]|\bit/s\b|\d+%\|",
        "a traceback": r"Traceback",
    }
    problems = []
    for cell in code(notebook):
        first = cell.source.splitlines()[0]
        for output in cell.outputs:
            if output.output_type == "error":
                problems.append(f"an error: {first}")
            if output.get("name") == "stderr":
                problems.append(f"something on stderr: {first}")
            text = output.get("text", "") + "".join(
                re.sub(r"base64,[A-Za-z0-9+/=]+", "", str(value))
                for value in output.get("data", {}).values()
            )
            problems += [f"{what}: {first}" for what, p in junk.items() if re.search(p, text)]
    return problems


def small(notebook: NotebookNode, name: str) -> list[str]:
    """A lesson is small enough for a slow connection and a review."""
    size = len(nbformat.writes(notebook))
    return [] if size < 1_500_000 else [f"{size / 1e6:.1f} MB"]


# What holds of any notebook that is published, lesson or not.
COMMON_RULES = (
    one_setup_cell,
    normal_form,
    result_cells,
    pictures_have_words,
    nothing_typed_in,
    short_cells,
    folds_are_introduced,
    links_resolve,
    headings_nest,
    clean_outputs,
    small,
)
RULES = (
    *COMMON_RULES,
    anatomy,
    neighbours_are_linked,
    prerequisites_are_linked,
    exercises_match_the_bank,
    glossary_is_rendered,
)
