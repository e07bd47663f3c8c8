"""The fingerprint of a function's code: what a stored item remembers of how it was made.

An item of a run is kept until something that decides its content changes. Numbers (a recipe, an
effort, an eps) enter its identity as they are. How it is trained or measured enters as the code
that does it, and not as a version number kept by hand: a number that nobody remembers to raise
keeps a wrong result in silence, while code that changed without changing the result only costs a
run. The rule errs on the side of doing again.

What enters: the function, and every function, class and constant of this project that it uses, as
far as `advlearn.training.fit` and `advlearn.attacks.pgd`. What decides nothing does not enter:
comments, docstrings, formatting, annotations, the messages of exceptions, the file in which a
function stands, and the modules of `DECIDE_NOTHING`. The code is read as text and parsed, never
run, and written down in a form of our own: the same with every Python and torch, on every system.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

PROJECT = __name__.partition(".")[0]
PACKAGE = Path(__file__).resolve().parents[2]
DECIDE_NOTHING = frozenset(
    f"{PROJECT}.{name}"
    for name in (
        "_validation",  # refuses arguments, and changes none
        "_quote",
        "_bounded",  # reads a file, or refuses it
        # Images enter by a hash of what was read.
        "data.archives",
        "data.download",
        "data.files",
        "data.folders",
        "data.loaders",
        "data.pictures",
        "data.trees",
        # The form of a model's file. The architecture enters by its class.
        "data.reference",
    )
)
"""Modules that are not followed."""

BY_VALUE = frozenset(
    (f"{PROJECT}.reproduce.{module}", name)
    for module, name in (
        ("measures", "FULL"),
        ("measures", "QUICK"),
        ("models.images", "images"),
        ("models.recipes", "MODELS"),
        ("rows", "EXPERIMENTS"),
    )
)
"""These hold more than one item uses. The plan adds the part that decides an item."""

# Annotations, and what the parser notes with some versions of Python only.
_NO_FIELDS = frozenset({"annotation", "returns", "type_comment", "type_params", "kind", "ctx"})

Symbol: TypeAlias = tuple[str, str]
"""A module of the project and a name at its top level."""

Chain: TypeAlias = tuple[str, ...]
"""Names that dots join, as in `plan.work.do`."""

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def installed_source(module: str) -> str:
    """Return the text of an installed module.

    Raises:
        ValueError: there is no such module, or only its bytecode.

    Example:
        >>> "def fgsm" in installed_source("advlearn.attacks")
        True
    """
    path = _path(module)
    if path is None:
        raise ValueError(f"the source of {module} is not there. Install advlearn with its sources.")
    return path.read_text(encoding="utf-8")


@cache
def _path(module: str) -> Path | None:
    base = PACKAGE.parent.joinpath(*module.split("."))
    files = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((file for file in files if file.is_file()), None)


class Code:
    """The project's code as text; each module is parsed once.

    Args:
        source: name of a module -> its text. A test passes changed texts.

    Example:
        >>> from advlearn.losses import l1_penalty
        >>> def changed(old, new):
        ...     return Code(lambda module: installed_source(module).replace(old, new))
        >>> before = Code().fingerprint(l1_penalty)
        >>> changed("import torch", "import torch  # a comment").fingerprint(l1_penalty) == before
        True
        >>> changed(".abs()", ".square()").fingerprint(l1_penalty) == before
        False
    """

    def __init__(self, source: Callable[[str], str] = installed_source) -> None:
        self._source = source
        self._modules: dict[str, dict[str, list[ast.stmt]]] = {}
        self._hashes: dict[Symbol, str] = {}

    def fingerprint(self, function: Callable[..., Any]) -> str:
        """Return a hash of the code of a function or a class, and of all that it uses.

        Args:
            function: stands at the top level of a module, or is a `functools.partial` of one that
                does. What belongs to another project enters by its name.

        Raises:
            TypeError: it has no name by which its code can be found, as a lambda has none.

        Example:
            >>> from advlearn.attacks import fgsm, pgd
            >>> weak, strong = (partial(pgd, steps=steps) for steps in (4, 40))
            >>> len({Code().fingerprint(attack) for attack in (fgsm, pgd, weak, strong)})
            4
        """
        return _hash(self._described(function))

    def uses(self, module: str, name: str) -> dict[Symbol, list[ast.stmt]]:
        """Return all that a name of a module leads to, itself first: symbol -> its statements.

        Example:
            >>> sorted(name for _, name in Code().uses("advlearn.losses", "margin_loss"))
            ['margin_loss', 'other_logits']
        """
        reached = {(module, name): self._top_level(module)[name]}
        todo = list(reached)
        while todo:
            module, _ = symbol = todo.pop()
            chains: frozenset[Chain] = frozenset().union(*map(_chains, reached[symbol]))
            for chain in sorted(chains):
                for other in self._resolve(module, chain):
                    if other not in reached and other not in BY_VALUE:
                        reached[other] = self._top_level(other[0])[other[1]]
                        todo.append(other)
        return reached

    def _described(self, value: Any) -> Any:
        """Return a value as JSON, with a hash in place of each function."""
        if isinstance(value, partial):
            options = {name: self._described(value.keywords[name]) for name in value.keywords}
            arguments = [self._described(argument) for argument in value.args]
            return [self._described(value.func), arguments, options]
        if isinstance(value, (tuple, list)):
            return [self._described(one) for one in value]
        if not callable(value):
            return value
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
        if not isinstance(module, str) or not name.isidentifier():
            raise TypeError(
                f"{value!r} has no name at the top level of a module, so its code cannot be found. "
                "Write it as a function there."
            )
        if not _of_project(module):
            return f"{module}.{name}"
        symbol = (module, name)
        if symbol not in self._hashes:
            # Without the names of modules: a function that moves to another file is the same.
            parts = [
                [name, *map(_written, statements)]
                for (_, name), statements in self.uses(*symbol).items()
            ]
            self._hashes[symbol] = _hash([name, sorted(parts)])
        return self._hashes[symbol]

    def _top_level(self, module: str) -> dict[str, list[ast.stmt]]:
        """Return the names of a module, each with the statements that bind it."""
        if module not in self._modules:
            self._modules[module] = _parsed(self._source(module))
        return self._modules[module]

    def _resolve(self, module: str, chain: Chain) -> list[Symbol]:
        """Return what a name, or names joined by dots, mean in a module of the project."""
        name, *rest = chain
        if not name:  # imported by the function itself
            return self._follow(tuple(rest))
        meant: list[Symbol] = []
        for statement in self._top_level(module).get(name, []):
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                for target in _imported(statement, name):
                    meant += self._follow((*target, *rest))
            elif (module, name) not in meant:
                meant.append((module, name))
        return meant

    def _follow(self, path: Chain) -> list[Symbol]:
        """Return what an absolute path such as ("advlearn.data", "reference", "build") means."""
        module, *names = path
        if module in DECIDE_NOTHING or not _of_project(module) or not names:
            return []
        inner = f"{module}.{names[0]}"
        if _path(inner) is not None:
            return self._follow((inner, *names[1:]))
        return self._resolve(module, tuple(names))


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _of_project(module: str) -> bool:
    return module.partition(".")[0] == PROJECT


# --- Names ----------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _parsed(text: str) -> dict[str, list[ast.stmt]]:
    """Return the names at the top level of a text, each with the statements that bind it."""
    names: dict[str, list[ast.stmt]] = {}
    for statement in _flat(ast.parse(text).body):
        for name in _bound(statement):
            names.setdefault(name, []).append(statement)
    return names


@lru_cache(maxsize=4096)
def _chains(statement: ast.stmt) -> frozenset[Chain]:
    return frozenset(_references(statement))


def _flat(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those in the branches of an `if` or a `try` too."""
    for statement in statements:
        if isinstance(statement, (ast.If, ast.Try)):
            yield from _flat([*statement.body, *statement.orelse])
            for handler in getattr(statement, "handlers", ()):
                yield from _flat(handler.body)
        else:
            yield statement


def _bound(node: ast.AST) -> set[str]:
    """Return the names that a statement binds in its own scope."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Lambda, *_COMPREHENSIONS)):
        return set()
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    names = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
    if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        names.add(node.name)
    return names.union(*map(_bound, ast.iter_child_nodes(node)))


def _imported(statement: ast.Import | ast.ImportFrom, name: str) -> Iterator[Chain]:
    """Yield the absolute paths that an import gives to a name."""
    for alias in statement.names:
        if isinstance(statement, ast.ImportFrom):
            if name == (alias.asname or alias.name):
                yield (statement.module or "", alias.name)
        elif name == alias.asname:
            yield (alias.name,)
        elif name == alias.name.partition(".")[0]:
            yield (name,)


def _references(
    node: ast.AST, local: Mapping[str, Chain] = MappingProxyType({})
) -> Iterator[Chain]:
    """Yield the names of its module that a piece of code uses, with what follows their dots.

    Args:
        node: statements or expressions.
        local: names that mean something of a function's own here -> () or, of one that the function
            imports, "" and its absolute path.
    """
    if isinstance(node, (ast.Name, ast.Attribute)):
        chain = _dotted(node)
        if chain is None:
            yield from _references(node.value, local)  # type: ignore[union-attr]
        elif chain[0] not in local:
            yield chain
        elif local[chain[0]]:
            yield (*local[chain[0]], *chain[1:])
        return
    children = _children(node)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        outside = [
            *getattr(node, "decorator_list", ()),
            *node.args.defaults,
            *node.args.kw_defaults,
        ]
        for child in filter(None, outside):
            yield from _references(child, local)
        children = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
        own = [one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)]
        local = {**local, **dict.fromkeys(own, ()), **_local(children)}
    elif isinstance(node, _COMPREHENSIONS):
        local = {**local, **_local([generator.target for generator in node.generators])}
    for child in children:
        yield from _references(child, local)


def _local(nodes: Sequence[ast.AST]) -> dict[str, Chain]:
    """Return the names that a function's own statements bind, as `_references` wants them."""
    names: dict[str, Chain] = {name: () for node in nodes for name in _bound(node)}
    for statement in (inner for node in nodes for inner in ast.walk(node)):
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for name in _bound(statement):
                for path in _imported(statement, name):
                    names[name] = ("", *path)
    return names


def _dotted(node: ast.expr) -> Chain | None:
    """Return ("a", "b", "c") of the expression a.b.c, or None of another one."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else None


# --- What decides ---------------------------------------------------------------------------------


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a node that decide something, in the parser's order."""
    if isinstance(node, ast.Raise):  # which error it is, and not how it says so
        yield "exc", node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    elif isinstance(node, ast.Assert):
        yield "test", node.test
    elif isinstance(node, ast.JoinedStr):
        yield "values", _joined(node.values)
    else:
        for name, value in ast.iter_fields(node):
            if name not in _NO_FIELDS:
                yield name, _statements(value) if isinstance(value, list) else value


def _statements(nodes: list[Any]) -> list[Any]:
    """Return a list without docstrings and other texts that stand alone, and without `pass`."""
    return [node for node in nodes if not (isinstance(node, ast.Pass) or _is_text(node))]


def _is_text(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string, with texts that stand side by side as one.

    How many parts "a" f"b" has depends on the version of Python.
    """
    parts: list[ast.expr] = []
    for is_text, group in groupby(values, lambda value: isinstance(value, ast.Constant)):
        if is_text:
            text = "".join(str(one.value) for one in group if isinstance(one, ast.Constant))
            parts += [ast.Constant(text)] if text else []
        else:
            parts += group
    return parts


def _children(node: ast.AST) -> list[ast.AST]:
    values = [value if isinstance(value, list) else [value] for _, value in _fields(node)]
    return [one for value in values for one in value if isinstance(one, ast.AST)]


@lru_cache(maxsize=4096)
def _written(statement: ast.stmt) -> str:
    return _normal(statement)


def _normal(value: Any) -> str:
    """Write a piece of code down, without what decides nothing."""
    if isinstance(value, list):
        return f"[{', '.join(map(_normal, value))}]"
    if isinstance(value, ast.Constant):
        return repr(value.value)
    if not isinstance(value, ast.AST):
        return repr(value)
    kind = "Assign" if isinstance(value, ast.AnnAssign) and value.value else type(value).__name__
    fields = {"targets" if kind == "Assign" and n == "target" else n: v for n, v in _fields(value)}
    if kind == "Assign":
        targets = fields["targets"]
        fields = {"targets": targets if isinstance(targets, list) else [targets]} | {
            "value": fields["value"]
        }
    written = (f"{name}={_normal(one)}" for name, one in fields.items() if one not in (None, []))
    return f"{kind}({', '.join(written)})"
