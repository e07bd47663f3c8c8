"""What people read: the "paper / ours" tables, the results page with its pictures, the weights.

Everything here is made from results, weights and code; what is typed by hand stands in
`introduction.md` and in the rows. `publish` writes it into a checkout, and `refresh` writes its
sentences anew where they have changed and no number has. A test compares what is there with what
`pages` makes of the results.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from advlearn._atomic import write_atomically
from advlearn._bounded import parse_json, read_plain
from advlearn.data import load_mnist, reference
from advlearn.models import Ensemble
from advlearn.reproduce import measures, paper, verdicts
from advlearn.reproduce.engine.run import Outcome, write_json
from advlearn.reproduce.engine.store import write_or_say_why
from advlearn.reproduce.measures import FLOAT32
from advlearn.reproduce.models.description import count, describe, number
from advlearn.reproduce.models.recipes import MODELS, SHIPPED
from advlearn.reproduce.report.figures import draw
from advlearn.reproduce.rows import EXPERIMENTS
from advlearn.reproduce.rows.section8_why_examples_generalise import FOURS

BEGIN, END = "<!-- results: made by `advlearn reproduce --publish` -->", "<!-- end of results -->"

# The README shows these rows, what others quote most of the paper, whether or not they are
# reproduced. The table of all rows opens the results page.
BEST_KNOWN = ("softmax", "maxout", "adv-clean", "adv-fgsm", "transfer")


def verdict_counts(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in words how many rows are reproduced.

    Example:
        >>> verdict_counts({"a": {"verdict": "reproduced"}, "b": {"verdict": "same direction"}})
        'Of 2 rows, 1 is reproduced, 1 has the same direction, 0 are not reproduced.'
    """
    each = [result["verdict"] for result in results.values()]
    one, two, three = (
        each.count(verdict) for verdict in ("reproduced", "same direction", "not reproduced")
    )
    return (
        f"Of {count(len(each), 'row')}, {one} {'is' if one == 1 else 'are'} reproduced, {two} "
        f"{'has' if two == 1 else 'have'} the same direction, {three} "
        f"{'is' if three == 1 else 'are'} not reproduced."
    )


def headline(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of some rows: the quantities that the paper reports, one line each.

    The last number of a line is the error under PGD, where a line is about the error under FGSM:
    one step says nothing about what several steps do.
    """
    lines = ["| experiment | quantity | paper | ours | ours, PGD | verdict |", "|---" * 6 + "|"]
    for result in results.values():
        first, last = result["experiment"], result["verdict"]
        for name, reported in result["paper"].items():
            if name not in result["ours"]:
                continue
            cells = (
                first,
                name,
                paper.percent(reported),
                paper.written(result, name, result["ours"][name]),
                _under_pgd(result, name),
                last,
            )
            lines.append(f"| {' | '.join(cells)} |")
            first = last = ""
        if first:
            claims = "; ".join(result["tolerance"]["claims"])
            lines.append(f"| {first} | {claims} | | | | {last} |")
    return "\n".join(lines)


def _under_pgd(result: Mapping[str, Any], name: str) -> str:
    """Return our error under PGD that belongs to an error under FGSM, or nothing."""
    plain = name.replace(FLOAT32, "")
    for other in (plain.replace("FGSM", "PGD"), f"PGD error, {plain}"):
        if other.startswith("PGD error") and other in result["ours"]:
            return paper.written(result, other, result["ours"][other])
    return ""


def section(result: Mapping[str, Any]) -> str:
    """Return one row's part of the results page."""
    lines = [f"## {result['id']}: {result['experiment']}", ""]
    lines.append(f"Section {result['section']} of the paper. **Verdict: {result['verdict']}.**")
    lines += [f"\n{result['remark']}"] if result["remark"] else []
    lines += [
        "",
        "| quantity | paper | ours | 95 % interval | over | expected | deviation |",
        "|---" * 7 + "|",
    ]
    for name, value in result["ours"].items():
        reported = result["paper"].get(name)
        expected = result["tolerance"]["ranges"].get(name)
        spread = paper.written(result, name, result["spread"][name])
        cells = (
            name,
            "" if reported is None else paper.percent(reported),
            paper.written(result, name, value),
            *paper.interval(result, name),
            ""
            if expected is None
            else paper.span(expected[0], expected[1], name in result["numbers"]),
            f"± {spread}" if result["seeds"] > 1 else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    lines += [f"- Claim: {claim}." for claim in result["tolerance"]["claims"]]
    lines += [f"- Not as expected: {reason}." for reason in result["because"]]
    recipes = result["recipe"]
    lines.append(f"- Done with {count(result['seeds'], 'seed')}. {recipes['row']}")
    lines += [f"- `{name}`: {text}" for name, text in recipes.items() if name != "row"]
    return "\n".join(lines) + "\n"


def introduction(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of `introduction.md`, with the numbers in it that can be computed."""
    full = measures.effort(quick=False)
    fields = {
        "steps": full.steps,
        "restarts": full.restarts,
        "examples": full.examples,
        "student_from": verdicts.STUDENT_FROM,
        "offline": load_mnist("all", source="offline").n,
        "components": MODELS["generative"].options["components"],
        "fours": FOURS,
        "l1_seeds": EXPERIMENTS["l1-deep"].seeds,
        "agree_seeds": EXPERIMENTS["agree"].seeds,
        "noise_seeds": EXPERIMENTS["noise"].seeds,
    }
    return filled(
        Path(__file__).with_name("introduction.md").read_text(encoding="utf-8"),
        {name: number(value) for name, value in fields.items()}
        | {
            "verdicts": verdict_counts(results),
            "float32_only": ", ".join(owed_to_float32(results)) or "none",
        },
    )


def filled(text: str, fields: Mapping[str, str]) -> str:
    """Return a text with each `$field` in it replaced.

    Raises:
        ValueError: a field of the text has no value, a value no place in the text, or a "$" stands
            before something else.

    Example:
        >>> filled("PGD takes $steps steps.", {"steps": "40"})
        'PGD takes 40 steps.'
    """
    # Python 3.11 has Template.get_identifiers.
    places = {match["named"] or match["braced"] for match in Template.pattern.finditer(text)}
    if places != set(fields):
        wrong = sorted(str(name) for name in places ^ set(fields))
        raise ValueError(
            f"the introduction and the code do not name the same fields: {', '.join(wrong)}."
        )
    return Template(text).substitute(fields)


def results_page(results: Mapping[str, Mapping[str, Any]], figures: Mapping[str, str]) -> str:
    """Return the whole results page.

    Args:
        results: row -> its result.
        figures: file name -> alt text, of the pictures beside the page.
    """
    parts = [introduction(results), f"## All rows\n\n{headline(results)}\n"]
    parts += [f"![{alt}]({name})\n" for name, alt in figures.items()]
    parts += [section(result) for result in results.values()]
    first = next(iter(results.values()))
    about = ", ".join(f"{name} {v}" for name, v in first["about"]["versions"].items())
    return "\n".join([*parts, f"Versions: {about}.\n"])


def owed_to_float32(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the reproduced rows that the right gradient would put outside a range."""
    return [
        id
        for id, result in results.items()
        if result["verdict"] == "reproduced"
        and any(
            FLOAT32 in name and not low <= result["ours"][name.replace(FLOAT32, "")] <= high
            for name, (low, high) in result["tolerance"]["ranges"].items()
        )
    ]


def with_results(text: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a README with the table between its two marks made anew.

    Raises:
        ValueError: the marks are missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"the README lacks the lines {BEGIN!r} and {END!r}.")
    best_known = {id: results[id] for id in BEST_KNOWN if id in results}
    owed = len(owed_to_float32(results))
    table = "\n".join(
        [
            BEGIN,
            f"{verdict_counts(results)} {owed} of the reproduced rows are so only if FGSM uses "
            "the float32 cross-entropy that most code uses, and not the right gradient "
            "([why, and which](data/results/README.md)). Here are the rows that are "
            "quoted most.\n",
            headline(best_known),
            END,
        ]
    )
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table, text, flags=re.S)


def shipped(outcome: Outcome) -> dict[str, bytes]:
    """Return the content of every model file that is published: one seed of each, one ensemble."""
    files = {}
    for name, members in SHIPPED.items():
        contents = [outcome.weights[member] for member in members if member in outcome.weights]
        if len(contents) == len(members):
            files[name] = contents[0] if len(members) == 1 else _together(contents)
    return files


def _together(contents: Sequence[bytes]) -> bytes:
    """Return one file of an ensemble from its members' files."""
    text = reference.describe(contents[0])
    options = {
        "members": len(contents),
        "architecture": text["architecture"],
        "options": text["options"],
    }
    whole = Ensemble([reference.unpack(content)[0] for content in contents])
    return reference.pack(whole, "Ensemble", options, text["about"], half=True)


def description_of(name: str) -> str:
    """Return how a published model was trained, for the index.

    Example:
        >>> description_of("ensemble")[:45]
        '12 of: A maxout network for 10 classes: hidde'
    """
    members = SHIPPED[name]
    several = f"{number(len(members))} of: " if len(members) > 1 else ""
    return several + describe(MODELS[members[0][0]])


def write_weights(outcome: Outcome, folder: Path) -> list[Path]:
    """Write the published models and their index, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    index, written = {}, []
    for name, content in shipped(outcome).items():
        path = folder / f"{name}.safetensors"
        write_or_say_why(
            path,
            content,
            lambda reason, remedy, path=path: (  # type: ignore[misc]
                f"{path} could not be written ({reason}). All finished items are kept. {remedy}, "
                "then run again with --resume --publish."
            ),
        )
        written.append(path)
        text = reference.describe(content)
        index[name] = {
            "file": path.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "architecture": text["architecture"],
            "options": text["options"],
            "recipe": description_of(name),
            "data": text["about"]["data"],
            "measured": outcome.attacked.get(SHIPPED[name][0], {}),
        }
    write_json(folder / "index.json", index)
    return [*written, folder / "index.json"]


def pages(
    results: Mapping[str, Mapping[str, Any]], figures: Mapping[str, str], checkout: Path
) -> dict[Path, str]:
    """Return what is generated from results: path -> text, for the results page and the README."""
    readme = checkout / "README.md"
    return {
        checkout / "data" / "results" / "README.md": results_page(results, figures),
        readme: with_results(readme.read_text(encoding="utf-8"), results),
    }


def publish(outcome: Outcome, checkout: Path) -> list[Path]:
    """Write weights, results, pictures and pages into a checkout, and return the files.

    Args:
        outcome: of a full run of all rows.
        checkout: the course's folder.
    """
    data = checkout / "data"
    written = write_weights(outcome, data / "weights")
    for id, result in outcome.results.items():
        write_json(data / "results" / f"{id}.json", result)
        written.append(data / "results" / f"{id}.json")
    figures = draw(data / "results", data / "weights")
    write_json(data / "results" / "figures.json", figures)
    written += [data / "results" / name for name in (*figures, "figures.json")]
    return written + _write_pages(outcome.results, figures, checkout)


def _write_pages(
    results: Mapping[str, Mapping[str, Any]], figures: Mapping[str, str], checkout: Path
) -> list[Path]:
    texts = pages(results, figures, checkout)
    for path, text in texts.items():
        write_atomically(path, text)
    return list(texts)


def refresh(checkout: Path) -> list[Path]:
    """Write the sentences of what is published anew, and the pages, and return the files.

    Remarks, reasons, claims and descriptions come from the code; the numbers stay as they were
    measured. So a better sentence costs no training.

    Args:
        checkout: the course's folder, with published results and weights.
    """
    data = checkout / "data"
    results = {}
    for id, experiment in EXPERIMENTS.items():
        path = data / "results" / f"{id}.json"
        results[id] = paper.read_result(path)
        results[id] |= verdicts.sentences(experiment, results[id]["ours"])
        write_json(path, results[id])
    index = reference.index(data / "weights")
    for name, entry in index.items():
        entry["recipe"] = description_of(name)
    write_json(data / "weights" / "index.json", index)
    figures = parse_json(read_plain(data / "results" / "figures.json", paper.MOST_BYTES))
    return [
        *(data / "results" / f"{id}.json" for id in results),
        data / "weights" / "index.json",
        *_write_pages(results, figures, checkout),
    ]
