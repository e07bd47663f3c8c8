"""One script from small modules, for a page that is a single file.

A page that is opened as a file may not import modules from other files. The modules of `js/` keep
to a few forms, which are checked: imports are `import { a, b } from "./x.js";` at the top, exports
stand before a declaration, and no two modules declare the same name. So they can be written one
after the other into one script, each before those that import it.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).with_name("js")

_IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./(\w+)\.js";\n', re.MULTILINE)
_DECLARED = re.compile(
    r"^(export )?(?:(?:async )?function\*?|class|const|let) (\w+)(?=[ (=])", re.MULTILINE
)
_OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def joined(*entries: str, folder: Path = FOLDER) -> str:
    """Return modules and all that they import as one script without imports and exports.

    Args:
        entries: names of modules, without ".js".
        folder: where the modules lie.

    Raises:
        FileNotFoundError: there is no such module.
        ValueError: a module has an import or export of another form, imports what is not exported,
            or declares a name that another one declares; or modules import each other in a circle.

    Example:
        >>> "class Generator" in joined("attacks"), "class Generator" in joined("random")
        (False, True)
    """
    sources: dict[str, str] = {}
    exported: dict[str, set[str]] = {}
    owners: dict[str, str] = {}

    def add(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise ValueError(f"modules import each other: {' > '.join((*importers, name))}.")
        if name in sources:
            return
        text = (folder / f"{name}.js").read_text(encoding="utf-8")
        for names, module in _IMPORT.findall(text):
            add(module, (*importers, name))
            if missing := {each.strip() for each in names.split(",")} - exported[module]:
                raise ValueError(f"{name}.js imports {sorted(missing)}, not in {module}.js.")
        declared = _DECLARED.findall(text)
        exported[name] = {each for export, each in declared if export}
        for _, each in declared:
            if (owner := owners.setdefault(each, name)) != name:
                raise ValueError(f"{each} is declared by {owner}.js and by {name}.js: rename one.")
        own = re.sub(
            r"^export (?=async |function|class|const|let)", "", _IMPORT.sub("", text), flags=re.M
        )
        if other := _OTHER.search(own):
            raise ValueError(f"{name}.js has a line of a form that is not joined: {other[0]}")
        sources[name] = f"// --- {name}.js ---\n{own.strip()}\n"

    for entry in entries:
        add(entry, ())
    return "\n".join(sources.values())
