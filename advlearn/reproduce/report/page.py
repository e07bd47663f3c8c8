"""What people read: the "paper / ours" tables, the results page with its figures, the weights.

Everything here is made from results and weights; nothing is typed by hand. `publish` writes it
into a checkout; a test compares what is there with what `pages` makes of the results.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advlearn.data import reference
from advlearn.models import Ensemble
from advlearn.reproduce import paper
from advlearn.reproduce.engine.run import Outcome, write_json
from advlearn.reproduce.engine.store import write_whole
from advlearn.reproduce.measures import USUAL_LOSS
from advlearn.reproduce.models.recipes import SHIPPED
from advlearn.reproduce.report.figures import draw

BEGIN, END = "<!-- results: made by `advlearn reproduce --publish` -->", "<!-- end of results -->"

# The README shows these rows at once and folds the whole table: what others quote of the paper,
# whether or not it is reproduced.
BEST_KNOWN = ("softmax", "maxout", "adv-clean", "adv-fgsm", "transfer", "generative", "ensemble")


def verdict_counts(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in words how many rows are reproduced.

    Example:
        >>> verdict_counts({"a": {"verdict": "reproduced"}, "b": {"verdict": "same direction"}})
        'Of 2 rows, 1 is reproduced, 1 has the same direction, 0 are not reproduced.'
    """
    found = [result["verdict"] for result in results.values()]
    numbers = [found.count(v) for v in ("reproduced", "same direction", "not reproduced")]
    one, two, three = numbers
    return (
        f"Of {len(found)} rows, {one} {'is' if one == 1 else 'are'} reproduced, {two} "
        f"{'has' if two == 1 else 'have'} the same direction, {three} "
        f"{'is' if three == 1 else 'are'} not reproduced."
    )


def headline(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the short table of the README: the paper's figures alone, one line each.

    The last figure of a line is the error under PGD, where a line is about the error under FGSM:
    one step says nothing about what several steps do.
    """
    lines = ["| experiment | figure | paper | ours | ours, PGD | verdict |", "|---" * 6 + "|"]
    for found in results.values():
        first = True
        for name, figure in found["paper"].items():
            if name not in found["ours"]:
                continue
            said = (found["experiment"], found["verdict"]) if first else ("", "")
            ours = paper.written(found, name, found["ours"][name])
            beside = _under_pgd(found, name)
            cells = (said[0], name, paper.percent(figure), ours, beside, said[1])
            lines.append(f"| {' | '.join(cells)} |")
            first = False
        if first:
            claims = "; ".join(found["tolerance"]["claims"])
            lines.append(f"| {found['experiment']} | {claims} | | | | {found['verdict']} |")
    return "\n".join(lines)


def _under_pgd(found: Mapping[str, Any], name: str) -> str:
    """Return our error under PGD that belongs to a figure of FGSM, or nothing."""
    plain = name.replace(USUAL_LOSS, "")
    for other in (plain.replace("FGSM", "PGD"), f"PGD error, {plain}"):
        if other.startswith("PGD error") and other in found["ours"]:
            return paper.written(found, other, found["ours"][other])
    return ""


def section(found: Mapping[str, Any]) -> str:
    """Return one row's part of the results page."""
    lines = [f"## {found['id']}: {found['experiment']}", ""]
    lines.append(f"Section {found['section']} of the paper. **Verdict: {found['verdict']}.**")
    lines += [f"\n{found['remark']}"] if found["remark"] else []
    lines += [
        "",
        "| figure | paper | ours | 95 % interval | expected | over seeds |",
        "|---" * 6 + "|",
    ]
    for name, value in found["ours"].items():
        theirs = found["paper"].get(name)
        low, high = found["interval"][name]
        expected = found["tolerance"]["ranges"].get(name)
        cells = (
            name,
            "" if theirs is None else paper.percent(theirs),
            paper.written(found, name, value),
            f"{paper.written(found, name, low, unit='')} to {paper.written(found, name, high)}",
            ""
            if expected is None
            else paper.span(expected[0], expected[1], name in found["numbers"]),
            f"± {paper.written(found, name, found['spread'][name])}" if found["seeds"] > 1 else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    lines += [f"- Claim: {words}." for words in found["tolerance"]["claims"]]
    lines += [f"- Not as expected: {words}." for words in found["because"]]
    seeds = "one seed" if found["seeds"] == 1 else f"{found['seeds']} seeds"
    lines.append(f"- Done with {seeds}. {found['recipe']['row']}")
    lines += [f"- `{name}`: {words}" for name, words in found["recipe"].items() if name != "row"]
    return "\n".join(lines) + "\n"


INTRODUCTION = """\
# The paper, reproduced

Every experiment of *Explaining and Harnessing Adversarial Examples*, run by `advlearn reproduce`.
This page, the table in the project's README and the tables in the lessons are made from the files
beside it.

**How to read it.** The ranges under "expected" and the claims were fixed before the models met the
test images. A row is *reproduced* when every expected figure lies in its range and every claim
holds; it has the *same direction* when only the claims hold; otherwise it is *not reproduced*. An
interval is Student's over the seeds where there are three or more, else Wilson's over the test
images. A figure of one seed that counts no images, such as a mean confidence, has none: both ends
are the figure itself. "Over seeds" is the standard deviation.

**Conventions.** As the paper: pixels in [0, 1], true labels, no clipping unless it is said, and
confidence averaged over the mistakes. PGD takes 40 steps with 5 restarts on the first 1,000 test
images, unless a row says otherwise. It stands beside the FGSM error of every deep network that is
attacked by its own gradient: a low FGSM error is not robustness.
"Usual loss" is FGSM with the cross-entropy as most code computes it in float32. On digits of which
a network is very sure, that loss loses the true class and the step goes wrong, so it finds fewer
errors than there are. The paper's figures of plain networks (maxout networks that were trained
without an attack) are compared with it, and claims about them judged by it.

**Data.** No model has trained on the 5,000 offline digits. They are the validation set by which
recipes were chosen. Where they were too few to tell two recipes apart, 10,000 of the training
digits were held out beside them, and given back for the training that counts. CIFAR-10 is the JPEG
copy.

**What was changed after a first run on the test images.**

- The rule about the usual loss was made for the maxout rows, on the validation digits. All other
  rows that attack a plain network came under it after their first figures: ensemble, CIFAR-10,
  transfer, agree and agree-both. The claims came under it last: by the right gradient the maxout
  network's confidence on its mistakes, which a claim puts over 90 %, would be just under it.
- The plain maxout network first had a clean error of 1.22 %, out of its range, and it and the
  networks that are compared with it saw moved digits from then on. Then its FGSM error under the
  usual loss was 81.8 %, in its range, and further from the paper's than another reproduction's.
  All of them were trained once more, with larger steps and a lower limit on the weights.
- The usual loss of the ensemble was first taken over logarithms, which keep the true class: it
  found 99.7 %, as the right gradient does. Most code takes it over probabilities, and so do we now.
  That gave 93.5 %, and the members' weights then got a wider limit.
- The generative model had four components of each class, then eight, then twelve; then its priors
  were balanced. Last it got 24, of more dimensions, and saw moved digits too.
- The wide networks had one pass over the digits at first, for want of time, and have as many as the
  narrow ones now.
- The row logits-eps measures a hundred digits beside the one that it is judged by.
- The row l1-deep had one seed, then five, and now three. The rows agree and agree-both had one,
  and have five since that one was just out of agree-both's range.
- The two networks of the row noise had the plain network's recipe and one seed. Their FGSM errors
  under the usual loss, 85.1 and 86.7 %, were in their ranges, and further from the paper's than
  another reproduction's. They have recipes of their own now, found on the offline digits with the
  paper's figures in view, and five seeds.
- The masked and the robust model belong to no row; both were trained longer with their test figures
  in sight.
"""


def results_page(results: Mapping[str, Mapping[str, Any]], figures: Mapping[str, str]) -> str:
    """Return the whole results page.

    Args:
        results: row -> its result.
        figures: file name -> alt text, of the figures beside the page.
    """
    owed = ", ".join(owed_to_the_loss(results)) or "none"
    parts = [
        INTRODUCTION,
        f"**Outcome.** {verdict_counts(results)} Reproduced by the usual loss only: {owed}. "
        "With the right gradient, which stands in the same tables, a figure of each would lie "
        "outside its range.\n",
    ]
    parts += [f"![{words}]({name})\n" for name, words in figures.items()]
    parts += [section(found) for found in results.values()]
    first = next(iter(results.values()))
    about = ", ".join(f"{name} {v}" for name, v in first["about"]["versions"].items())
    return "\n".join([*parts, f"Versions: {about}.\n"])


def owed_to_the_loss(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the reproduced rows that the right gradient would put outside a range."""
    return [
        id
        for id, found in results.items()
        if found["verdict"] == "reproduced"
        and any(
            USUAL_LOSS in name and not low <= found["ours"][name.replace(USUAL_LOSS, "")] <= high
            for name, (low, high) in found["tolerance"]["ranges"].items()
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
    owed = len(owed_to_the_loss(results))
    table = "\n".join(
        [
            BEGIN,
            f"{verdict_counts(results)} {owed} of the reproduced rows are so only if FGSM uses "
            "the float32 loss that most code uses, and not the right gradient "
            "([why, and which](data/results/README.md)). Here are the rows that are quoted most.\n",
            headline(best_known),
            "\n<details><summary>The table of all rows</summary>\n",
            headline(results),
            "\n</details>",
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
    about = text["about"] | {"recipe": f"{len(contents)} of: {text['about']['recipe']}"}
    return reference.pack(whole, "Ensemble", options, about, half=True)


def write_weights(outcome: Outcome, folder: Path) -> list[Path]:
    """Write the published models and their index, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    index, written = {}, []
    for name, content in shipped(outcome).items():
        path = folder / f"{name}.safetensors"
        write_whole(
            path,
            content,
            lambda reason, remedy, path=path: (  # type: ignore[misc]
                f"{path} could not be written ({reason}). All finished items are kept. {remedy}, "
                "then run again with --resume --publish."
            ),
        )
        written.append(path)
        text = reference.describe(content)
        about = text["about"]
        index[name] = {
            "file": path.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "architecture": text["architecture"],
            "options": text["options"],
            "recipe": about["recipe"],
            "data": about["data"],
            "measured": outcome.tables.get((about["ingredient"], about["seed"]), {}),
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
    """Write weights, results, figures and pages into a checkout, and return the files.

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
    for path, text in pages(outcome.results, figures, checkout).items():
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
