"""The pages of the API reference, one for each module: every public name, from its docstring."""

from __future__ import annotations

import html
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import click
import typer

import advlearn

COMMAND_LINE = "cli"
# What a reader calls beside the library. Other modules are the inside of one of these.
_OTHERS = {
    "data": ("data", "data.reference", "data.photographs"),
    "course": (
        "exercises",
        "course.grading.quiz",
        "course.widgets",
        "playground.widget",
        "course.glossary",
        "course.lessons",
        "course.session",
        "course.copies",
    ),
    "reproduction": ("reproduce.engine.run", "reproduce.paper"),
    "arena": ("arena",),
    "command line": (COMMAND_LINE,),
}


class Entry(NamedTuple):
    """A page of the reference."""

    part: str  # of the package
    name: str  # of the module, inside the package
    description: str  # one sentence, Markdown


def entries() -> list[Entry]:
    """Return the pages of the reference: the public modules of the library, then the other parts.

    A module is described by the first line of its docstring.
    """
    library = sorted(
        module.name
        for module in pkgutil.iter_modules(advlearn.__path__)
        if not module.ispkg and not module.name.startswith("_") and module.name != "exercises"
    )
    pages = {"library": library, **_OTHERS}
    return [Entry(part, name, _description(name)) for part in pages for name in pages[part]]


def _description(name: str) -> str:
    text = inspect.getdoc(importlib.import_module(f"advlearn.{name}")) or ""
    return text.partition("\n")[0].replace("|", "\\|")


def public_names(module: ModuleType) -> list[str]:
    """Return the classes and functions that a module offers, in the order of its source.

    A package, or a module that loads its names late, offers what `__all__` names; any other what it
    defines.
    """
    if hasattr(module, "__path__") or hasattr(module, "__getattr__"):
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
    module = importlib.import_module(f"advlearn.{name}")
    parts = [name, "=" * len(name), "", f".. automodule:: {module.__name__}\n   :no-members:\n"]
    parts += [_directive(module, one) for one in public_names(module)]
    return "\n".join(parts)


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield name, command
    for word, one in inner.items():
        yield from _commands(one, f"{name} {word}")


def _markdown(text: str | None) -> str:
    """Return a help text as Markdown: an option in it is code, not two hyphens."""
    plain = html.escape(" ".join((text or "").split()), quote=False)
    return re.sub(r"(?<![`\w-])(--[a-z][\w-]*)(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"`\1`", plain)


def command_page() -> str:
    """Return the page of the command line, in Markdown."""
    from advlearn.cli.app import app

    parts = ["# The command line", ""]
    for name, command in _commands(typer.main.get_command(app), "advlearn"):
        parts += [f"## {name}", "", _markdown(command.help), ""]
        rows = []
        for one in command.params:
            if one.name == "help" or getattr(one, "hidden", False):
                continue
            option = ", ".join(f"`{o}`" for o in (*one.opts, *one.secondary_opts))
            if isinstance(one, click.Argument) or one.param_type_name == "argument":
                option = f"`{(one.name or '').upper()}`"
            rows.append(f"| {option} | {_markdown(getattr(one, 'help', None))} |")
        if rows:
            parts += ["| option | what it does |", "|---|---|", *rows, ""]
    return "\n".join(parts)
