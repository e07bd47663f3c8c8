"""What a run does again after a change: all that the change decides, and nothing else."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest
import torch

from advlearn.attacks import fgsm, pgd
from advlearn.data import reference
from advlearn.reproduce import measures
from advlearn.reproduce.engine import plan as schedule
from advlearn.reproduce.engine import work
from advlearn.reproduce.engine.fingerprint import Code, installed_source
from advlearn.reproduce.engine.run import reproduce
from advlearn.reproduce.measures import Effort
from advlearn.reproduce.models.methods import fit_moved, noisy
from advlearn.reproduce.models.recipes import MODELS, SHIPPED
from advlearn.reproduce.models.spec import Scale
from advlearn.reproduce.rows import EXPERIMENTS
from advlearn.reproduce.rows.experiment import Claim, Trial
from advlearn.training import adversarial_fit

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parent.parent
IMAGES = {"digits": "a", "3v7": "b", "cifar": "c"}
SHARED = Code()  # of the installed files, each parsed once for all tests


def all_items(scale=None, code=SHARED):
    also = [member for members in SHIPPED.values() for member in members]
    return schedule.plan(list(EXPERIMENTS.values()), None, scale or Scale(), also, code=code)


def identities(scale=None, code=SHARED, images=None):
    return schedule.identities(all_items(scale, code), IMAGES | (images or {}))


def edited(*edits):
    """Return the project's code with texts replaced: (module, old, new), each old text once."""
    changed = {}
    for module, old, new in edits:
        name = f"advlearn.{module}"
        text = changed.get(name) or installed_source(name)
        assert text.count(old) == 1, f"{old!r} is not once in {name}"
        changed[name] = text.replace(old, new)
    return Code(lambda module: changed.get(module) or installed_source(module))


def with_dependents(patterns, items):
    """Return the keys that match, and those of all items that need them."""
    found = set()
    for item in items:  # each comes after those that it needs
        if any(fnmatch(item.key, pattern) for pattern in patterns) or found & set(item.needs):
            found.add(item.key)
    return found


def redone(monkeypatch, change):
    """Return the keys of the items that a run would do again."""
    before = identities()
    after = identities(**change(monkeypatch))
    assert list(before) == list(after), "the change gives other items"
    return {key for key in before if before[key] != after[key]}


# --- Changes --------------------------------------------------------------------------------------


def model(name, **changes):
    def change(monkeypatch):
        monkeypatch.setitem(MODELS, name, replace(MODELS[name], **changes))
        return {}

    return change


def recipe(name, **changes):
    return model(name, recipe=replace(MODELS[name].recipe, **changes))


def row(id, **changes):
    def change(monkeypatch):
        monkeypatch.setitem(EXPERIMENTS, id, replace(EXPERIMENTS[id], **changes))
        return {}

    return change


def effort(which, **changes):
    def change(monkeypatch):
        monkeypatch.setattr(measures, which, replace(getattr(measures, which), **changes))
        return {}

    return change


def code(*edits):
    return lambda monkeypatch: {"code": edited(*edits)}


def touched(module, name):
    """Put a statement into a function or a class; the text is otherwise as the parser knows it."""

    def change(monkeypatch):
        tree = ast.parse(installed_source(f"advlearn.{module}"))
        (node,) = (one for one in tree.body if getattr(one, "name", None) == name)
        node.body.append(ast.parse("unused = 0").body[0])
        text = ast.unparse(tree)
        return {"code": Code(lambda m: text if m == f"advlearn.{module}" else installed_source(m))}

    return change


def images(kind):
    return lambda monkeypatch: {"images": {kind: "other images"}}


def another_measure(trial):
    """Measure something else."""
    return {"ratio of radii": float(trial.seed)}


@dataclass(frozen=True)
class Change:
    """A change, and the items that it decides itself: what needs those is done again too."""

    what: str
    change: Callable
    items: tuple[str, ...]


METHODS = {name: one.method for name, one in MODELS.items()}
MOVED = [name for name, method in METHODS.items() if getattr(method, "func", None) is fit_moved]
MAXOUT = [name for name, one in MODELS.items() if one.architecture == "MaxoutNet"]
# The mixture is estimated; every other model is trained by descent.
DESCENT = [name for name in MODELS if name != "generative"]
ADVERSARIAL = [
    *("maxout-adversarial", "maxout-noise-sign", "maxout-noise-uniform", "maxout-masked"),
    *("maxout-wide-adversarial", "robust"),
]
# The photographs are attacked with the small effort.
EFFORT = (
    *(f"attack-{m.name}-[0-9]*" for m in MODELS.values() if m.attack_eps and m.name != "cifar"),
    *("measure-generative-[0-9]*", "measure-ensemble-[0-9]*"),
)
METHOD = partial(fit_moved, partial(adversarial_fit, eps=0.25, bounds=None, attack=fgsm))
BY_NOISE = partial(adversarial_fit, eps=0.25, bounds=None, attack=partial(noisy, "uniform"))
SECTION6 = "reproduce.rows.section6_adversarial_training"
SECTION8 = "reproduce.rows.section8_why_examples_generalise"
METHODS_FILE, MEASURES = "reproduce.models.methods", "reproduce.measures"
WORK = "reproduce.engine.work"


def train(*names):
    return tuple(f"train-{name}-[0-9]*" for name in names)


CHANGES = (
    Change("effort: a tenth of PGD's steps", effort("FULL", steps=4), EFFORT),
    Change("effort: one restart", effort("FULL", restarts=1), EFFORT),
    Change("effort: number of examples", effort("FULL", examples=500), EFFORT),
    Change("effort on photographs", effort("QUICK", steps=20), ("attack-cifar-*",)),
    Change("number of photographs", model("cifar", attack_examples=50), ("attack-cifar-*",)),
    Change("eps of an attack", model("softmax", attack_eps=0.2), ("attack-softmax-[0-9]*",)),
    Change("recipe: learning rate", recipe("maxout", lr=0.05), train("maxout")),
    Change("recipe: precision", recipe("maxout", precision="exact"), train("maxout")),
    Change("recipe: L1", recipe("maxout-l1", l1=0.01), train("maxout-l1")),
    Change("architecture", model("maxout", architecture="SoftmaxRegression"), train("maxout")),
    Change("architecture: an option", model("small", options={"hidden": (50, 50)}), train("small")),
    Change("kind of images", model("maxout", data="3v7"), train("maxout")),
    Change("kept in float32", model("maxout", half=False), train("maxout")),
    Change("method: another", model("maxout", method=METHOD), train("maxout")),
    Change(
        "method: an argument of an argument",
        model("maxout-noise-sign", method=partial(fit_moved, BY_NOISE)),
        train("maxout-noise-sign"),
    ),
    Change("measure: another", row("filters", measure=another_measure), ("measure-filters-*",)),
    Change(
        "measure: an argument",
        row("rbf", measure=partial(EXPERIMENTS["rbf"].measure.func, "softmax")),
        ("measure-rbf-*",),
    ),
    Change("images of CIFAR-10", images("cifar"), train("cifar")),
    Change("images: threes and sevens", images("3v7"), train("logistic-*")),
    # The code of methods, and of what they use.
    Change(
        "code of a method",
        code((METHODS_FILE, "model.balance(x, y)", "model.balance(every, labels)")),
        train("generative"),
    ),
    Change(
        "code: a number of a method",
        code((METHODS_FILE, "steps: int = 7", "steps: int = 10")),
        train("robust"),
    ),
    Change(
        "code of what a method uses",
        code((METHODS_FILE, "out = torch.empty_like(x)", "out = torch.zeros_like(x)")),
        train(*MOVED),
    ),
    Change(
        "code: a constant of what a method uses",
        code((METHODS_FILE, "SHIFT = 1\n", "SHIFT = 2\n")),
        train(*MOVED, "generative"),
    ),
    Change("code of the training loop", touched("training", "_epoch"), train(*DESCENT)),
    Change(
        "code of adversarial training", touched("training", "adversarial_fit"), train(*ADVERSARIAL)
    ),
    Change(
        "code of training on the bound", touched("training", "certified_fit"), train("certified")
    ),
    Change("code of an architecture", touched("models", "MaxoutNet"), train(*MAXOUT)),
    Change("code of the whitening", touched("whitening", "Whitening"), train("cifar")),
    Change("code that does each training", touched(WORK, "train"), train("*")),
    # The code of measures, and of what they use.
    Change("code of a measure", code((SECTION6, "< 50", "< 60")), ("measure-filters-*",)),
    Change(
        "code of what a measure uses",
        code((MEASURES, "highest > 0.5", "highest > 0.9")),
        ("measure-rubbish-*", "measure-rubbish-cifar-*"),
    ),
    Change(
        "code: number of examples of a measure",
        code((SECTION8, "FOURS = 100", "FOURS = 10")),
        ("measure-logits-eps-*",),
    ),
    Change(
        "code: a loss that measures and attacks use",
        code(("losses", 'logits.float(), y, reduction="none"', "logits.float(), y")),
        (
            "attack-*",
            *(f"measure-{id}-[0-9]*" for id in ("transfer", "agree", "agree-both", "ensemble")),
        ),
    ),
    Change(
        "code of PGD",
        touched("attacks", "pgd"),
        ("attack-*", *train("robust"), "measure-generative-[0-9]*", "measure-ensemble-[0-9]*"),
    ),
    Change(
        "code of what is measured under attack", touched(MEASURES, "under_attack"), ("attack-*",)
    ),
    Change(
        "code that does each measurement",
        touched(WORK, "measure"),
        ("measure-*",),
    ),
)


@pytest.mark.parametrize("one", CHANGES, ids=[one.what for one in CHANGES])
def test_a_change_redoes_what_it_decides_and_what_needs_that(monkeypatch, one):
    expected = with_dependents(one.items, all_items())
    for pattern in one.items:
        assert any(fnmatch(key, pattern) for key in expected), pattern
    assert redone(monkeypatch, one.change) == expected


# --- What decides nothing -------------------------------------------------------------------------


class OtherProse(ast.NodeTransformer):
    """Other docstrings, other messages of exceptions, no annotations of arguments."""

    def visit_Expr(self, node):
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Expr(ast.Constant("Other words.")) if text else self.generic_visit(node)

    def visit_Raise(self, node):
        if isinstance(node.exc, ast.Call):
            node.exc.args = [ast.Constant("Another message.")]
        return node

    def visit_arg(self, node):
        return ast.arg(node.arg)


def in_other_words(text):
    """Return a module's text with other prose; `ast.unparse` drops comments and formatting."""
    return ast.unparse(ast.fix_missing_locations(OtherProse().visit(ast.parse(text))))


def all_that_people_read(monkeypatch):
    for name, one in list(MODELS.items()):
        monkeypatch.setitem(MODELS, name, replace(one, why="Another reason.", seconds=1.0))
    for id, one in list(EXPERIMENTS.items()):
        changed = replace(
            one,
            procedure="Another sentence.",
            remark="Another remark.",
            claims=(Claim("another claim", lambda measured: False),),
            expect={},
            seconds=1.0,
        )
        monkeypatch.setitem(EXPERIMENTS, id, changed)
    return {}


def moved_to_another_file(monkeypatch):
    text = installed_source(f"advlearn.{MEASURES}")
    (function,) = (
        ast.get_source_segment(text, node)
        for node in ast.parse(text).body
        if getattr(node, "name", None) == "filter_radius"
    )
    imported = "from advlearn.functional import filter_radius\n\n\ndef effective_pixels"
    return {
        "code": edited(
            (MEASURES, function, ""),
            (MEASURES, "def effective_pixels", imported),
            ("functional", "def softplus", f"{function}\n\n\ndef softplus"),
        )
    }


BALANCED = "    model.balance(x, y)"
NOTHING = {
    "all that people read": all_that_people_read,
    "docstrings, comments, messages, formatting of all code": lambda monkeypatch: {
        "code": Code(lambda module: in_other_words(installed_source(module)))
    },
    "a comment": code((METHODS_FILE, BALANCED, f"    # A word.\n{BALANCED}  # Another.")),
    "a function moved to another file": moved_to_another_file,
    "a folder of images": lambda monkeypatch: {"scale": Scale(data_dir="/another/folder")},
    "code that no item uses": touched("metrics", "transfer_matrix"),
    "another check of arguments": touched("_validation", "check_count"),
    "the download": touched("data.download", "fetch"),
}


@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING.keys())
def test_what_decides_nothing_redoes_nothing(monkeypatch, change):
    assert redone(monkeypatch, change) == set()


def test_every_item_and_scale_has_an_identity_of_its_own():
    found = []
    for quick in (False, True):
        found += identities(Scale(quick=quick)).values()
    assert len(set(found)) == len(found)


def test_a_row_that_runs_pgd_must_say_so():
    """Else its effort would not be part of its identity."""
    with pytest.raises(ValueError, match=r"runs PGD and does not say so\. Add runs_pgd=True"):
        Trial(0, Scale(), {}, {}).effort  # noqa: B018
    assert {id for id, one in EXPERIMENTS.items() if one.runs_pgd} == {
        id
        for id, one in EXPERIMENTS.items()
        for function in [one.measure.func if isinstance(one.measure, partial) else one.measure]
        for statement in SHARED.uses(function.__module__, function.__name__)[
            function.__module__, function.__name__
        ]
        for node in ast.walk(statement)
        if isinstance(node, ast.Attribute) and node.attr == "effort"
    }


# --- The same everywhere --------------------------------------------------------------------------

IDENTITIES = """
import json
from tests.test_reproduce_identity import Scale, identities
print(json.dumps([identities(Scale(quick=quick)) for quick in (False, True)]))
"""


def test_another_process_knows_the_same_identities():
    """Neither addresses nor the order of sets may enter them."""
    environment = os.environ | {"PYTHONHASHSEED": "123", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", IDENTITIES],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [identities(Scale(quick=quick)) for quick in (False, True)]


SNIPPET = {
    "advlearn.one": """
from __future__ import annotations
import torch
from advlearn.two import helper as other, LIMIT

def decorate(f):
    return f

@decorate
def start(x: Tensor, *rest, scale: float = 1_000.0, **options) -> Tensor:
    "Say what it does."
    name: str = f"a{x!r:>{scale}}" " b" f"{LIMIT}"
    if (n := len(rest)) > 3:
        raise ValueError(f"too many: {n}")
    match options:
        case {"kind": kind, **more}:
            pass
        case _:
            kind = None
    return [other(y, lambda other: other + 1) for y in rest if y is not None], kind
""",
    "advlearn.two": """
LIMIT = 0.1

def helper(value, function):
    from advlearn.three import last
    try:
        return last.method(function(value))
    except (ValueError, TypeError) as error:
        return {**value, "a": [1, -2.5e-3, b"c", None, ...]}

def unused():
    return 1
""",
    "advlearn.three": """
class last:
    x: int
    y: int = 1

    def method(self):
        return self
""",
}


def planted(name="start", module="advlearn.one"):
    """Return a function that says it stands in a planted module."""

    def function():
        raise AssertionError("code is read, never run")

    function.__module__, function.__qualname__ = module, name
    return function


def test_the_fingerprint_of_a_text_is_the_same_on_every_python():
    """It was written down once: another Python, torch or system that gives another one is wrong."""
    found = Code(SNIPPET.__getitem__)
    names = [name for _, name in found.uses("advlearn.one", "start")]
    assert sorted(names) == ["LIMIT", "decorate", "helper", "last", "start"]
    assert found.fingerprint(planted()).startswith("c6b2be594c4603a1")


EDITS = [
    # What it was, what it is, and whether the fingerprint stays.
    ("one", 'f"a{x!r:>{scale}}" " b" f"{LIMIT}"', 'f"""a{x!r:>{scale}} b{LIMIT}"""', True),
    ("one", "1_000.0", "1e3", True),
    ("one", "name: str = f", "name = f", True),
    ("one", "too many: {n}", "too few", True),
    ("one", '"Say what it does."', '"Another word."', True),
    ("one", "1_000.0", "1000", False),
    ("one", "ValueError(", "TypeError(", False),
    ("one", " > 3", " > 4", False),
    ("one", "other + 1", "other + 2", False),
    ("one", '"kind": kind', '"sort": kind', False),
    ("one", "@decorate\n", "", False),
    ("two", "LIMIT = 0.1", "LIMIT = 0.2", False),
    ("two", "-2.5e-3", "-2.5e-4", False),
    ("two", "return 1", "return 2", True),
    ("three", "y: int = 1", "y: int = 2", False),
    ("three", "x: int", "x: float", True),
    ("three", "return self", "return None", False),
]


@pytest.mark.parametrize(("module", "old", "new", "same"), EDITS)
def test_a_fingerprint_changes_with_the_code_and_with_nothing_else(module, old, new, same):
    name = f"advlearn.{module}"
    assert SNIPPET[name].count(old) == 1
    changed = SNIPPET | {name: SNIPPET[name].replace(old, new)}
    before, after = (Code(one.__getitem__).fingerprint(planted()) for one in (SNIPPET, changed))
    assert (before == after) is same


def test_what_has_no_name_is_refused():
    with pytest.raises(TypeError, match="has no name at the top level of a module"):
        SHARED.fingerprint(lambda model: model)
    with pytest.raises(TypeError, match="has no name at the top level of a module"):
        SHARED.fingerprint(partial(fgsm, loss=lambda logits, y: logits))
    with pytest.raises(ValueError, match=r"source of advlearn\.nothing is not there"):
        installed_source("advlearn.nothing")


def test_what_belongs_to_others_enters_by_its_name():
    one, other = torch.nn.functional.cross_entropy, torch.nn.functional.nll_loss
    assert SHARED.fingerprint(one) == SHARED.fingerprint(one) != SHARED.fingerprint(other)
    with_one, with_other = (SHARED.fingerprint(partial(pgd, loss=loss)) for loss in (one, other))
    assert with_one != with_other


# --- A run ----------------------------------------------------------------------------------------


def test_a_run_does_changed_items_again_and_sets_the_old_aside(tmp_path, monkeypatch):
    done, do = [], work.do

    def noted(kind, name, seed, scale, given):
        done.append(f"{kind}-{name}-{seed}")
        return do(kind, name, seed, scale, given)

    monkeypatch.setattr(work, "do", noted)
    run = partial(reproduce, ("logistic-3v7", "softmax"), quick=True, out=tmp_path)
    run()
    old = (tmp_path / "items" / "train-softmax-0.item").read_bytes()
    done.clear()
    for epochs in (2, 1):
        monkeypatch.setitem(MODELS, "softmax", replace(MODELS["softmax"], quick_epochs=epochs))
        outcome = run(resume=True)
        about = reference.describe(outcome.weights["softmax", 0])["about"]
        assert about["recipe"]["epochs"] == epochs
    assert done == 2 * ["train-softmax-0", "attack-softmax-0", "measure-softmax-0"]
    # A second change does not replace what the first one set aside.
    assert (tmp_path / "items" / "train-softmax-0.1.stale").read_bytes() == old
    assert (tmp_path / "items" / "train-softmax-0.2.stale").is_file()
    done.clear()
    monkeypatch.setattr(measures, "QUICK", Effort(examples=50, steps=2, restarts=1))
    run(resume=True)
    assert done == [
        f"{kind}-{name}-0" for name in ("logistic-3v7", "softmax") for kind in ("attack", "measure")
    ]
