"""The house: levels, sizes, what importing loads, and that the project's files agree."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "advlearn"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LEVELS = {
    name: int(level)
    for level, name in re.findall(
        r"^\| (\d) \| `(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M
    )
}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
# Not counted with the library: plumbing for files and downloads, and a table of words.
PLUMBING = {"_download", "_files", "glossary"}


def noun(path: Path) -> str:
    """Name the row of the table that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST) -> set[str]:
    """Name the modules of the package that a syntax tree imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("advlearn.")}
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "advlearn":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
    return found


def code_lines(source: str) -> int:
    """Count lines that hold code: no blank lines, comments or docstrings."""
    documented = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            documented.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent | {tokenize.ENDMARKER}:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def breaks_levels(path: Path, source: str) -> set[str]:
    """Name the imports of a module that are not below it."""
    own = LEVELS[noun(path)]
    others = imported(ast.parse(source)) - {noun(path)}
    return {name for name in others & LEVELS.keys() if LEVELS[name] >= own}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below(path):
    assert noun(path) in LEVELS, "add the module to the table in CONTRIBUTING.md"
    assert breaks_levels(path, path.read_text(encoding="utf-8")) == set()


def test_the_table_names_only_what_exists():
    assert set(LEVELS) == {noun(path) for path in MODULES}


def test_an_import_upwards_would_be_seen():
    assert breaks_levels(PACKAGE / "losses.py", "from advlearn.metrics import predict") == {
        "metrics"
    }
    assert breaks_levels(PACKAGE / "losses.py", "from advlearn import attacks") == {"attacks"}
    assert breaks_levels(PACKAGE / "attacks.py", "import advlearn.losses") == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_is_longer_than_300_lines_of_code(path):
    bank = re.fullmatch(r"lesson\d\d\.py", path.name)
    lines = code_lines(path.read_text(encoding="utf-8"))
    assert bank or lines <= 300, f"{path.name} has {lines} lines of code: split it by noun"


def test_the_library_stays_small():
    total = sum(
        code_lines(path.read_text(encoding="utf-8"))
        for path in MODULES
        if LEVELS[noun(path)] <= 5 and noun(path) not in PLUMBING
    )
    assert total < 2600, f"levels 0 to 5 have {total} lines of code"


def test_the_counter_counts_code_only():
    assert code_lines('"""Doc.\n\nMore."""\n# why\nx = [\n    1,\n]\n\n') == 3


def test_no_room_is_called_by_an_empty_name():
    empty = {"utils", "util", "base", "helpers", "helper", "common", "misc"}
    assert not empty & {p.stem for p in ROOT.rglob("*.py") if ".venv" not in str(p)}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_is_light():
    heavy = {"matplotlib", "ipywidgets", "torchvision", "IPython", "mlxtend"}
    assert not heavy & loaded_by("import advlearn; from advlearn import fgsm")
    assert not heavy & loaded_by("import advlearn.training, advlearn.metrics, advlearn.data")
    assert "torch" not in loaded_by("import advlearn"), "the doctor must start without PyTorch"
    assert "torch" in loaded_by("from advlearn import fgsm")


def test_the_package_says_what_it_exports():
    import advlearn

    assert set(advlearn.__all__) == set(dir(advlearn))
    assert all(getattr(advlearn, name) is not None for name in advlearn.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fgsm2'"):
        advlearn.fgsm2  # noqa: B018
    assert advlearn.__version__ == PROJECT["version"]


# --- The project's files agree with each other ----------------------------------------------------


def conda_problems(environment: dict, project: dict) -> list[str]:
    """Compare environment.yml with pyproject.toml."""
    problems = []
    pins = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next((d["pip"] for d in environment["dependencies"] if isinstance(d, dict)), [])
    if environment.get("name") != project["name"]:
        problems.append("the environment has another name than the project")
    if "python=3.11" not in pins or "pip" not in pins:
        problems.append("python=3.11 or pip is missing")
    least = tuple(int(n) for n in project["requires-python"].removeprefix(">=").split("."))
    if least > (3, 11):
        problems.append("python=3.11 is older than the project needs")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (cpu,) = re.findall(r"--index-url (\S+)", makefile)
    if pip != [f"--extra-index-url {cpu}", "--editable .[lab]"]:
        problems.append("pip must install the project, and nothing that pyproject.toml does not")
    if len(pins) != 2:
        problems.append("packages belong into pyproject.toml")
    return problems


def test_the_conda_environment_is_that_of_pyproject():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert conda_problems(yaml.safe_load(text), PROJECT) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: advlearn", "name: other"),
        ("python=3.11", "python=3.9"),
        ("--editable .[lab]", "torch==2.4"),
        ("--editable .[lab]", "--editable ."),
        ("whl/cpu", "whl/cu130"),
        ("  - pip\n", "  - pip\n  - numpy\n"),
    ],
)
def test_another_conda_environment_would_be_seen(old, new):
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert old in text
    assert conda_problems(yaml.safe_load(text.replace(old, new)), PROJECT)


def test_no_dependency_is_pinned_exactly():
    extras = [d for group in PROJECT["optional-dependencies"].values() for d in group]
    assert not [d for d in PROJECT["dependencies"] + extras if "==" in d]


def test_the_address_stands_in_one_place():
    address = PROJECT["urls"]["Repository"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == address
    assert citation["version"] == PROJECT["version"]


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M).group(1).split()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"make {target}" in shown.stdout for target in phony)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "data/README.md"])
def test_links_inside_the_project_resolve(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
