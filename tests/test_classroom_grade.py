"""A class is graded as a person would grade it, whatever was handed in, and nobody is harmed."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from advlearn.classroom import wire
from advlearn.classroom.answers import plain_python, read
from advlearn.classroom.grade import Grades, Mark, grade_class
from advlearn.classroom.report import feedback, grade_book, page_names, write
from advlearn.course.grading.calling import Calls
from advlearn.data.folders import CHECKOUT
from advlearn.exercises import lesson03
from tests.test_classroom import zipped

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="classes are graded by forking")

SETUP = """\
import torch
from torch import nn, Tensor
import torch.nn.functional as F
from advlearn.exercises import lesson03 as ex
"""
RIGHT = """\
def fgsm_step(x, gradient, eps):
    return (x + eps * gradient.sign()).clamp(0, 1)
"""
MINUS = RIGHT.replace("x + eps", "x - eps")
STUB = "def fgsm_step(x, gradient, eps):\n    ...  # your code\n"
CHECK = "ex.fgsm_step.check(fgsm_step)"
LONG = """\
def fgsm_step(x, gradient, eps):
    step = gradient.sign()
    step = step * eps
    moved = x + step
    moved = torch.clamp(moved, 0, 1)
    return moved
"""


def body(lines: str) -> str:
    return "def fgsm_step(x, gradient, eps):\n" + "".join(
        f"    {line}\n" for line in lines.splitlines()
    )


class Case(NamedTuple):
    """What somebody hands in, and what a person would give for `fgsm_step`."""

    cells: tuple[str, ...]
    outcome: str = "right"
    words: str = ""  # of the feedback
    remark: str = ""


CASES = {
    "plain": Case((RIGHT, CHECK)),
    "copied cell, the stub below": Case((RIGHT, STUB, CHECK)),
    "copied cell, the stub above": Case((STUB, RIGHT, CHECK)),
    "first wrong, then right": Case((MINUS, CHECK, RIGHT, CHECK)),
    "first right, then played with": Case((RIGHT, CHECK, MINUS, CHECK)),
    "another name": Case((RIGHT.replace("fgsm_step", "mine"), "ex.fgsm_step.check(mine)")),
    "a lambda": Case(
        ("fgsm_step = lambda x, gradient, eps: (x + eps * gradient.sign()).clamp(0, 1)",)
    ),
    "a lambda in the check": Case(
        ("ex.fgsm_step.check(lambda x, g, e: (x + e * g.sign()).clamp(0, 1))",)
    ),
    "the check and the answer in one cell": Case((RIGHT + CHECK,)),
    "magic and shell": Case(("%%time\n%matplotlib inline\n!ls\n" + RIGHT + "fgsm_step?\n",)),
    "a helper in another cell": Case(
        ("def direction(g):\n    return g.sign()",
         body("return (x + eps * direction(gradient)).clamp(0, 1)"))
    ),
    "constants in another cell": Case(
        ("LOW, HIGH = 0.0, 1.0\nZERO = torch.tensor(0.0)",
         body("return (x + eps * gradient.sign() + ZERO).clamp(LOW, HIGH)"))
    ),
    "its own import": Case(
        (body("import math\nreturn (x + eps * torch.sign(gradient)).clamp(0, math.cos(0))"),)
    ),
    "another cell is broken": Case(("def worst_case_loss(:\n    pass", RIGHT)),
    "another cell raises": Case(("raise RuntimeError('no')", "y = undefined + 1", RIGHT)),
    "training that would take an hour": Case(
        ("import time\ntime.sleep(3600)\nfor _ in range(10):\n    time.sleep(3600)", RIGHT)
    ),
    "another answer ends the process": Case(
        ("import os\ndef loss_gradient(w, b, x, y):\n    os._exit(0)", RIGHT)
    ),
    "a definition ends the process": Case(
        ("import os\nclass End:\n    os._exit(0)", RIGHT)
    ),
    "another answer never ends": Case(
        ("def loss_gradient(w, b, x, y):\n    while True:\n        pass", RIGHT)
    ),
    "prints": Case((body("print('x', x)\nreturn (x + eps * gradient.sign()).clamp(0, 1)"),)),
    "stub": Case((STUB, CHECK), "not attempted"),
    "nothing": Case(("print(1)",), "not attempted", remark="no definition of fgsm_step"),
    "its own cell is broken": Case(
        (RIGHT.replace("eps):", "eps:"),), "not attempted", remark="cannot be read"
    ),
    "minus": Case((MINUS, CHECK), "wrong", "subtract"),
    "raises": Case((body("return x + eps * gradient.sgin()"),), "the code raised", "sgin"),
    "a name of code that is not run": Case(
        ("images = load()", body("return (images + eps * gradient.sign()).clamp(0, 1)")),
        "the code raised", "`images` is set in cell 2 by code that is not run",
    ),
    "never ends": Case((body("while True:\n    pass"),), "the code raised", "did not finish"),
    "prints without end": Case(
        (body("while True:\n    print('x' * 1000)"),), "the code raised", "prints without end"
    ),
    "ends the process": Case(
        ("import os", body("os._exit(0)")), "the code raised", "ended the process"
    ),
    "takes all memory": Case((body("return torch.zeros(10**11)"),), "the code raised"),
    "rewrites torch": Case(
        ("torch.allclose = torch.equal = lambda *a, **k: True",
         body("torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True\nreturn x")),
        "wrong",
    ),
    "rewrites the engine": Case(
        ("import sys", body(
            "from advlearn.course.grading import evidence, calling\n"
            "evidence.agree = lambda *a: True\nevidence.call_problem = lambda *a: None\nreturn x"
        )),
        "wrong",
    ),
    "asks for the reference": Case(
        (body("return ex.fgsm_step.reference(x, gradient, eps)"),), "wrong", "returns None"
    ),
    "loads the bank": Case(
        (body("from advlearn.course.banks import lesson03\n"
              "return lesson03._fgsm_step(x, gradient, eps)"),),
        "the code raised", "is not there while answers are graded",
    ),
    "looks for the reference in memory": Case(
        (body("import gc\n"
              "found = [o for o in gc.get_objects() if type(o).__name__ == 'Exercise']\n"
              "return found[0].reference(x, gradient, eps)"),),
        "the code raised", "IndexError",
    ),
    "the solution, word for word": Case(
        (lesson03.fgsm_step.source(),), remark="word for word the solution"
    ),
    "kim's friend": Case((LONG,), remark="the same code as kim's other friend"),
    "kim's other friend": Case(
        (LONG.replace("step =", "s =").replace("step *", "s *").replace("+ step", "+ s")
         .replace("    s = gradient", "    # mine!\n    s = gradient"),),
        remark="the same code as kim's friend",
    ),
}  # fmt: skip


def notebook(cells: tuple[str, ...], title: str = "") -> bytes:
    whole = [{"cell_type": "markdown", "source": title}] if title else []
    whole += [
        {"cell_type": "code", "source": source.splitlines(True)} for source in (SETUP, *cells)
    ]
    return json.dumps({"cells": whole}).encode()


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Grade everybody at once, by the command, and return learner -> the line of fgsm_step."""
    place = tmp_path_factory.mktemp("class")
    for name, case in CASES.items():
        (place / "in" / name).mkdir(parents=True)
        (place / "in" / name / "Untitled (1).ipynb").write_bytes(notebook(case.cells))
    (place / "in" / "in a zip.zip").write_bytes(zipped({"a/b.ipynb": notebook((RIGHT,))}))
    (place / "in" / "damaged").mkdir()
    (place / "in" / "damaged" / "x.ipynb").write_bytes(notebook((RIGHT,))[:200])
    done = subprocess.run(
        [sys.executable, "-m", "advlearn.cli", "class", "grade", str(place / "in"),
         "--out", str(place / "out"), "--timeout", "1", "--workers", "2"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = csv.DictReader(io.StringIO((place / "out/details.csv").read_text(encoding="utf-8")))
    found = {line["learner"]: line for line in lines if line["exercise"] == "fgsm_step"}
    found["place"] = {"place": str(place), "printed": done.stdout}
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_grade_is_a_person_s(name: str, graded: dict[str, dict[str, str]]) -> None:
    case, line = CASES[name], graded[name]
    assert line["outcome"] == case.outcome, line["feedback"]
    assert case.words in line["feedback"]
    assert case.remark in line["remark"]
    assert bool(line["remark"]) == bool(case.remark), line["remark"]
    assert float(line["points"]) == (1.0 if case.outcome == "right" else 0.0)


def test_nobody_is_left_out(graded: dict[str, dict[str, str]]) -> None:
    place = Path(graded["place"]["place"]) / "out"
    book = {
        line["learner"]: line
        for line in csv.DictReader(io.StringIO((place / "grades.csv").read_text(encoding="utf-8")))
    }
    assert set(book) == {*CASES, "in a zip", "damaged"}
    assert book["plain"]["total"] == "1"
    assert book["plain"]["of"] == str(len(lesson03.EXERCISES))
    assert book["in a zip"]["total"] == "1"
    assert book["damaged"]["total"] == ""  # not a silent 0
    assert "not a whole notebook" in book["damaged"]["notes"]
    assert "100" not in {line["total"] for line in book.values()}
    pages = sorted(path.name for path in (place / "feedback").iterdir())
    assert len(pages) == len(book)
    summary = (place / "summary.html").read_text(encoding="utf-8")
    assert "You subtract" in summary or "subtract" in summary
    assert "<script" not in summary
    for name, page in page_names(sorted(book, key=str.casefold)).items():
        if name in {"plain", "minus"}:
            assert any(page.split("-", 1)[1] in one for one in pages)
    assert "damaged: Not read" in graded["place"]["printed"]


def test_a_stopped_run_goes_on_and_new_work_is_graded_again(tmp_path: Path) -> None:
    for k in range(4):
        (tmp_path / f"in/kim{k}").mkdir(parents=True)
        (tmp_path / f"in/kim{k}/x.ipynb").write_bytes(notebook((RIGHT,), title=f"# {k}"))
    command = [sys.executable, "-m", "advlearn.cli", "class", "grade", str(tmp_path / "in"),
               "--out", str(tmp_path / "out"), "--workers", "1"]  # fmt: skip
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store = tmp_path / "out/.work"
    while running.poll() is None and not list(store.glob("*.json")):
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    running.wait(60)
    kept = {path: path.stat().st_mtime_ns for path in store.glob("*.json")}
    assert len(kept) >= 1
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(store.glob("*.json"))) == 4
    book = tmp_path / "out/grades.csv"
    book.write_text(book.read_text(encoding="utf-8") + "by hand\n", encoding="utf-8")
    (tmp_path / "in/kim0/x.ipynb").write_bytes(notebook((MINUS,)))
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert len(list(store.glob("*.json"))) == 5
    lines = {line["learner"]: line for line in csv.DictReader(io.StringIO(book.read_text()))}
    assert (lines["kim0"]["total"], lines["kim1"]["total"]) == ("0", "1")
    assert (tmp_path / "out/grades-kept-1.csv").read_text().endswith("by hand\n")


def test_points_are_the_teacher_s_choice_and_no_grade_is_no_zero(tmp_path: Path) -> None:
    right = Mark("03", "fgsm_step", "RIGHT", 1.0, True, "", "x.ipynb")
    wrong = Mark("03", "loss_gradient", "WRONG", 0.75, False, "<b>", "x.ipynb")
    lost = Mark("03", "my_fgsm", "UNGRADED", 0.0, False, "", "x.ipynb", remark="it went")
    marks = {(m.lesson, m.exercise): m for m in (right, wrong, lost)}
    grades = Grades({"=kim<i>": marks}, [], {"no network": True})
    for rule, points in (("right", "1"), ("half", "1.5"), ("score", "1.75")):
        (line,) = csv.DictReader(io.StringIO(grade_book(grades, rule)))
        assert (line["learner"], line["total"], line["of"]) == ("'=kim<i>", points, "2")
        assert "could not be graded (it went)" in line["notes"]
    page = feedback(grades, "=kim<i>", "half")
    assert "<b>" not in page
    assert "<i>" not in page
    assert "no grade" in page
    written = write(grades, tmp_path / "out", "right")
    assert all(path.is_file() for path in written)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Name the folder"):
        grade_class(tmp_path / "gone", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_process_that_holds_the_solutions_does_not_grade(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert lesson03.EXERCISES, "they are loaded"
    with pytest.raises(RuntimeError, match="Grade in a new process"):
        grade_class(tmp_path / "in", tmp_path / "store")
    assert not (tmp_path / "store").exists()


CONFINED = """
import json, sys
from advlearn.classroom import wire
from advlearn.classroom.runner import Nursery
nursery = Nursery()
source = open(sys.argv[1]).read()
runner = nursery.runner()
runner.ask({"do": "define", "pieces": [
    {"source": source, "cell": 0, "line": 1, "names": ["told"]}]}, 60)
request = {"do": "call", "of": "told", "number": 0, "name": "told", "parameters": ["x"],
           "timeout": 10.0}
calls = wire.unpack(runner.ask(request, 60, [(1,)]), [(1,)])
print(json.dumps([nursery.isolation, calls.outputs[0] if calls.outputs else calls.error]))
runner.close()
nursery.close()
"""
LOOKING_ROUND = """
import os, socket
def told(x):
    found = []
    try:
        socket.create_connection(("127.0.0.1", PORT), 2).close()
        found.append("network")
    except OSError:
        pass
    try:
        open(FILE, "w").close()
        found.append("disk")
    except OSError:
        pass
    if os.getppid() > 1:
        found.append("process")
    if os.geteuid() == USER:
        found.append("user")
    open("own.txt", "w").write("its own folder")
    found.append(" ".join(sorted(os.environ)))
    return found
"""


def test_what_is_said_to_be_out_of_reach_is(tmp_path: Path) -> None:
    """Nothing here does harm where it can be done: it opens a port, a file, and looks round."""
    theirs, source = tmp_path / "theirs.txt", tmp_path / "source.py"
    with socket.create_server(("127.0.0.1", 0)) as server:
        facts = {"PORT": server.getsockname()[1], "FILE": str(theirs), "USER": os.geteuid()}
        lines = [f"{name} = {value!r}" for name, value in facts.items()]
        source.write_text("\n".join(lines) + LOOKING_ROUND, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", CONFINED, str(source)],
            capture_output=True, text=True, timeout=300, check=True,
            env={**os.environ, "SECRET_TOKEN": "1"},
        )  # fmt: skip
    isolation, (*reached, environment) = json.loads(done.stdout.splitlines()[-1])
    names = {"no network": "network", "no disk": "disk", "no other process": "process",
             "another user": "user"}  # fmt: skip
    for promise, what in names.items():
        assert isolation[promise] != (what in reached), promise
    assert theirs.exists() == ("disk" in reached)
    assert "SECRET_TOKEN" not in environment


# --- what is taken of a notebook ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("a = 1; b = 2", ["a = 1", "b = 2"]),
        ("x = model(images)", []),
        ("x = torch.rand(3)\ny: int = 2", ["x = torch.rand(3)", "y: int = 2"]),
        ("f = partial(g, eps=0.1)", ["f = partial(g, eps=0.1)"]),
        ("@torch.no_grad()\ndef f():\n    pass", ["@torch.no_grad()\ndef f():\n    pass"]),
        ("for i in range(3):\n    z = i", []),
        ("try:\n    import x\nexcept ImportError:\n    x = None",
         ["try:\n    import x\nexcept ImportError:\n    x = None"]),
        ("try:\n    train()\nexcept ImportError:\n    pass", []),
        ("print('a')\nplt.show()", []),
        ("%%bash\nrm -rf /", []),
        ("text = '''\n%not magic\n'''", ["text = '''\n%not magic\n'''"]),
    ],
)  # fmt: skip
def test_imports_definitions_and_constants_are_taken(source: str, taken: list[str]) -> None:
    found = read([{"cell_type": "code", "source": source}], [])
    assert [piece.source for piece in found.pieces] == taken


def test_what_only_ipython_reads_is_left_out() -> None:
    assert (
        plain_python("%%capture\nx = 1  # why?\ny = x % 2\n  !ls") == "\nx = 1  # why?\ny = x % 2\n"
    )


def test_a_grade_from_outside_is_the_grade_of_one_process() -> None:
    """All banks take a minute: `python -m tests.judged_outside`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.judged_outside", "00", "06"],
        capture_output=True, text=True, timeout=600, check=False, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "answers compared" in done.stdout


WARM = """
import ast, json, sys
from pathlib import Path
from advlearn.classroom import runner
runner._warm()
assert not runner.exercises_are_loaded()
before, missing = set(sys.modules), set()
for path in Path(sys.argv[1]).glob("[01]*.ipynb"):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or "Set-up" not in "".join(cell["source"]):
            continue
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.ImportFrom | ast.Import):
                words = ast.unparse(node)
                if "exercises" in words or any(one in words for one in runner._HIDDEN):
                    continue
                exec(words, {})
        missing |= set(sys.modules) - before
print(json.dumps(sorted(missing)))
"""


def test_what_lessons_import_is_there_before_a_learner_s_process_is_made() -> None:
    """Each learner's process would load it again: a second of 30 learners is half a minute."""
    command = [sys.executable, "-c", WARM, str(CHECKOUT / "notebooks")]
    missing = json.loads(subprocess.check_output(command, text=True))
    slow = ("advlearn.", "matplotlib", "IPython", "ipywidgets", "torch", "PIL", "numpy")
    assert [name for name in missing if name.startswith(slow)] == []


@pytest.mark.parametrize(
    "slopes",
    [
        [["list", [["tensor", "int64", [1], False, "strided", [0, 8]]]]],  # no gradient is whole
        [["list", [["tensor", "float32", [1], False, "meta", None]]]],
        [["list", [["other", "Tensor", "torch"]]]],
        [["list", [["float", "1.0"]]]],
        [["none", 1]],
        [["none"], ["none"]],  # more than there are inputs
        ["none"],
        None,
    ],
)
def test_forged_gradients_are_refused(slopes):
    """They come from the process that ran the learner's code."""
    content = wire.pack(Calls(outputs=[torch.ones(2)], given=[(1,)], slopes=[[torch.ones(2)]]))
    assert wire.unpack(content, [(1,)]).slopes[0][0].equal(torch.ones(2))
    (length,) = struct.unpack_from("<Q", content)
    told = json.loads(content[8 : 8 + length])
    text = json.dumps(told | {"slopes": slopes}).encode()
    with pytest.raises(wire.WireError):
        wire.unpack(struct.pack("<Q", len(text)) + text + content[8 + length :], [(1,)])
