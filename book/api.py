"""The pages of the API reference, one for each module: every public name, from its docstring."""

from __future__ import annotations

import html
import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType

import click
import typer
from repository import ROOT

# Packages whose public names stand in `__all__`; what they are made of is nobody's business.
_ALSO = {"exercises": ("exercises.quiz",)}


def modules() -> Iterator[tuple[int, str, str]]:
    """Yield level, name and description of every public module, from the table in CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for level, name, what in re.findall(r"^\| (\d) \| `(\w+)` \| (.*) \|$", text, re.M):
        if not name.startswith("_"):
            yield int(level), name, what


def public_names(module: ModuleType) -> list[str]:
    """Return the classes and functions that a module offers, in the order of its source.

    A package offers what `__all__` names, a module what it defines.
    """
    if hasattr(module, "__path__"):
        return [name for name in module.__all__ if not name.startswith("_")]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def _directive(module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    where = f"{module.__name__}.{name}"
    if not inspect.isclass(value):
        return f".. autofunction:: {where}\n"
    return f".. autoclass:: {where}\n   :members:\n   :member-order: bysource\n"


def page(name: str) -> str:
    """Return the page of one module of the package, in reStructuredText."""
    parts = [name, "=" * len(name), ""]
    for dotted in (name, *_ALSO.get(name, ())):
        module = importlib.import_module(f"advlearn.{dotted}")
        if dotted != name:
            parts += ["", dotted, "-" * len(dotted), ""]
        parts += [f".. automodule:: {module.__name__}\n   :no-members:\n"]
        parts += [_directive(module, one) for one in public_names(module)]
    return "\n".join(parts)


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield name, command
    for word, one in inner.items():
        yield from _commands(one, f"{name} {word}")


def _said(text: str | None) -> str:
    """Return a help text as Markdown: an option in it is code, not two hyphens."""
    plain = html.escape(" ".join((text or "").split()), quote=False)
    return re.sub(r"(?<![`\w-])(--[a-z][\w-]*)(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"`\1`", plain)


def command_page() -> str:
    """Return the page of the command line, in Markdown."""
    from advlearn.cli import app

    parts = ["# The command line", ""]
    for name, command in _commands(typer.main.get_command(app), "advlearn"):
        parts += [f"## {name}", "", _said(command.help), ""]
        rows = []
        for one in command.params:
            if one.name == "help" or getattr(one, "hidden", False):
                continue
            said = ", ".join(f"`{o}`" for o in (*one.opts, *one.secondary_opts))
            if isinstance(one, click.Argument) or one.param_type_name == "argument":
                said = f"`{(one.name or '').upper()}`"
            rows.append(f"| {said} | {_said(getattr(one, 'help', None))} |")
        if rows:
            parts += ["| option | what it does |", "|---|---|", *rows, ""]
    return "\n".join(parts)
