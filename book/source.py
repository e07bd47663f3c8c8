"""Write the book's source: what Sphinx reads, made from the repository.

The folders are those of the repository, so that links between lessons and pages hold. Nothing here
is written by hand twice: what stands elsewhere is taken from there.
"""

from __future__ import annotations

import base64
import html
import importlib
import os
import re
import shutil
from pathlib import Path

import api
import costs
import lesson_page
import live
import nbformat
import practice
from drawings import path_drawing, unpack
from repository import (
    ADDRESS,
    BESIDE,
    FOLDER,
    LESSONS,
    ROOT,
    binder,
    colab,
    opening,
    section,
)

from advlearn.classroom import concepts, timetable
from advlearn.classroom.edition import called_by
from advlearn.course import glossary, notebooks
from advlearn.course.lessons import LESSONS as COURSE
from advlearn.exercises import all_exercises
from advlearn.reproduce.rows.section4_nonlinear_models import EPS_PANDA

SOURCE = FOLDER / "source"
PICTURES = (".png", ".jpg")  # of the pages of results
EXTRA = FOLDER / "extra"
TEXT = Path(__file__).with_name("text")
# Pages of the repository that are pages of the book.
PAGES = ("data/results/README.md", "data/brackets/README.md", "data/README.md")


def fill(name: str, **values: object) -> str:
    """Return a text of the book with its {{names}} filled in.

    Raises:
        ValueError: a name has no value, or a value no name.
    """
    text = (TEXT / f"{name}.md").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\{\{(\w+)\}\}", text))
    if wanted != values.keys():
        raise ValueError(f"{name}.md wants {sorted(wanted)}, got {sorted(values)}")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: str(values[match[1]]), text)


def opening_picture(readme: str) -> str:
    """Return the first picture of README, as HTML with its alt text.

    Raises:
        ValueError: README shows no picture of the project.
    """
    shown = re.search(r"^!\[([^\]]+)\]\((?!https?:)([^)]+)\)$", readme, re.M)
    if shown is None:
        raise ValueError("README has no line with a picture of the project.")
    content = base64.b64encode((ROOT / shown[2]).read_bytes()).decode()
    alt = html.escape(shown[1])
    return unpack(f'<img alt="{alt}" src="data:image/jpeg;base64,{content}">', 0)


def _totals() -> dict[str, object]:
    return {"count": len(COURSE), "hours": round(sum(one.minutes for one in COURSE) / 60)}


def landing() -> str:
    """Return the book's first page."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    title = section_title(readme)
    paragraphs = [part for part in section(readme, title).split("\n\n") if part.startswith("**")]
    return fill(
        "index",
        title=title,
        lead=paragraphs[0],
        picture=opening_picture(readme),
        eps=f"{EPS_PANDA:g}",
        playground=live.PAGE,
        small=live.SMALL,
        colab=html.escape(colab(COURSE[0].path)),
        binder=html.escape(binder(COURSE[0].path)),
        address=ADDRESS,
        folder=ADDRESS.rsplit("/", 1)[-1],
        start=opening(COURSE[0]).start,
        first=COURSE[0].name,
        toc="\n".join(f"notebooks/{one.name}" for one in COURSE),
        beside="\n".join(f"notebooks/{path.stem}" for path in BESIDE),
        **_totals(),
    )


def section_title(text: str) -> str:
    """Return the first heading of a Markdown text."""
    return re.search(r"^# (.+)$", text, re.M)[1]  # type: ignore[index]


def course_map() -> str:
    """Return the page that shows what each lesson teaches."""
    heads = [(one, opening(one)) for one in COURSE]
    rows = [
        f"| {one.number:02d} | [{one.title}]({one.path}) | {one.minutes} | {head.introduction} |"
        for one, head in heads
    ]
    goals = [
        f"**[{one.number} · {one.title}]({one.path})**\n\n"
        + "\n".join(f"- {goal}" for goal in head.goals)
        for one, head in heads
    ]
    return fill(
        "map",
        table="\n".join(rows),
        drawing=path_drawing(COURSE),
        goals="\n\n".join(goals),
        **_totals(),
    )


def teachers() -> str:
    """Return the teacher's page."""
    exercises = all_exercises()
    paths = {f"{one.number:02d}": one.path for one in COURSE}
    rows = [
        f"| [{one.lesson}]({paths[one.lesson]}) | {one.title} | `{one.name}` | "
        f"{one.difficulty} of 3 | {one.minutes} |"
        for one in exercises
    ]
    return fill(
        "teachers",
        exercises=f"{len(exercises)} exercises",
        doors=sum(len(called_by(notebooks.read(notebooks.HERE / one.file))) for one in COURSE),
        table="\n".join(rows),
        timetables="\n\n".join(timetable.as_markdown(timetable.plan(n)) for n in timetable.FORMATS),
        testing=concepts.minutes(),
        slides=_slides(),
        address=ADDRESS,
        **_totals(),
    )


def _slides() -> str:
    """Return how many pages the decks of slides have, from the fewest to the most."""
    counts = sorted(
        sum(cell.metadata.get("slideshow", {}).get("slide_type") == "slide" for cell in deck.cells)
        for deck in map(notebooks.read, (ROOT / "classroom" / "slides").glob("[0-9]*.ipynb"))
    )
    return f"{counts[0]} to {counts[-1]}"


def mirrored(path: str) -> str:
    """Return a page of the repository; links to what is not in the book lead to the repository."""
    folder = Path(path).parent

    def lead(match: re.Match[str]) -> str:
        target = os.path.normpath(folder / match[2])
        inside = target in PAGES or target.startswith("notebooks/") or target.endswith(PICTURES)
        return match[0] if inside else f"{match[1]}({ADDRESS}/blob/main/{target})"

    text = (ROOT / path).read_text(encoding="utf-8")
    return re.sub(r"(\])\((?!https?:|#|mailto:)([^)\s]+)\)", lead, text)


def write() -> None:
    """Write everything that Sphinx reads, from nothing."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    measured = costs.read()
    pages = {
        "index.md": landing(),
        "map.md": course_map(),
        "glossary.md": fill(
            "glossary",
            count=len(glossary.TERMS),
            table=glossary.table(*sorted(glossary.TERMS, key=str.lower)),
        ),
        "teachers.md": teachers(),
        "practice.md": fill("practice", **practice.values()),
        "costs.md": fill(
            "costs",
            table=costs.table(measured, {one.name: one.title for one in COURSE}),
            machine=costs.described(measured["machine"]),
            seconds=f"{notebooks.MOST_SECONDS:.0f}",
            gigabytes=f"{notebooks.MOST_GIGABYTES:g}",
        ),
        "api/command_line.md": api.command_page(),
    }
    reference = api.entries()
    described = [entry.name for entry in reference if entry.name != api.COMMAND_LINE]
    pages |= {f"api/{name}.rst": api.page(name) for name in described}
    files = {name: f"{name}.rst" for name in described} | {api.COMMAND_LINE: "command_line.md"}
    rows = [
        f"| {entry.part} | [{entry.name}]({files[entry.name]}) | {entry.description} |"
        for entry in reference
    ]
    pages["api/index.md"] = fill(
        "api", table="\n".join(rows), toc="\n".join([*described, "command_line"])
    )
    pages |= {path: mirrored(path) for path in PAGES}
    for path in LESSONS:
        bank = importlib.import_module(f"advlearn.course.banks.lesson{path.name[:2]}")
        pages[f"notebooks/{path.name}"] = nbformat.writes(lesson_page.page(path, bank)) + "\n"
    for path in BESIDE:
        pages[f"notebooks/{path.name}"] = nbformat.writes(lesson_page.page(path)) + "\n"
    for name, text in pages.items():
        (SOURCE / name).parent.mkdir(parents=True, exist_ok=True)
        (SOURCE / name).write_text(text, encoding="utf-8")
    for folder in (Path("data/results"), Path("data/brackets")):
        for picture in (one for one in (ROOT / folder).iterdir() if one.name.endswith(PICTURES)):
            shutil.copy(picture, SOURCE / folder / picture.name)
    live.write()
    (EXTRA / "_lessons").mkdir(parents=True, exist_ok=True)
    for path in (*LESSONS, *BESIDE):  # as they are committed, for those who download one
        shutil.copy(path, EXTRA / "_lessons" / path.name)
