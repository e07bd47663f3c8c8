"""What others wrote, as a message may show it: one short line of printable characters.

A name in an archive, a text in a model file or the words of a library about a damaged file are not
ours. Unquoted, they can fill the screen, move its cursor, or begin a line of their own that reads
like a result.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable


def printable(value: object, most: int = 200) -> str:
    r"""Return a text on one line: at most `most` characters, those that do not print as escapes.

    Args:
        value: a text, an exception, or anything else; what is no text is shown by its first
            entries, whatever its size and depth.
        most: characters to keep. A longer text ends with "…".

    Example:
        >>> printable("cat"), printable("cat\nscore 100 %\x1b[2J"), printable("고양이" * 90, 4)
        ('cat', 'cat\\nscore 100 %\\x1b[2J', '고양이고…')
        >>> printable(ValueError("a\u202eb")), printable([[1] * 900])
        ('a\\u202eb', '[[1, 1, 1, 1, 1, 1, ...]]')
    """
    try:
        text = str(value) if isinstance(value, (str, Exception)) else reprlib.repr(value)
    except Exception:  # a text of someone else's object may fail in any way
        text = type(value).__name__
    kept = text[:most]
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in kept)
    return shown[:most] + "…" if len(text) > most or len(shown) > most else shown


def quote(value: object, most: int = 60) -> str:
    r"""Return a name between quotation marks, as `printable` shows it.

    Example:
        >>> quote("cat"), quote("a'\n")
        ("'cat'", "'a'\\n'")
    """
    return f"'{printable(value, most)}'" if isinstance(value, str) else printable(value, most)


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return names with commas between them; of many the first ones, and how many more there are.

    Example:
        >>> listed(["cat", "dog"]), listed(["a", "b", "c"], most=2)
        ('cat, dog', 'a, b and 1 more')
    """
    names = list(names)
    shown = ", ".join(printable(name, 60) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def in_markdown(text: str) -> str:
    r"""Return a text that Markdown and HTML show as it is: no markup, table cell, link or formula.

    Example:
        >>> in_markdown("a|b <i> model-2")
        'a&#124;b &#60;i&#62; model-2'
    """
    # An entity is never markup. MathJax reads the finished page: there only a tag parts two "$".
    shown = re.sub(r"[^\w +-]|_", lambda found: f"&#{ord(found[0])};", printable(text))
    return shown.replace("&#36;", "<span>&#36;</span>")


def in_figure(text: str) -> str:
    r"""Return a text that Matplotlib draws as it is: a "$" begins no formula, line ends stay.

    Example:
        >>> in_figure("$5 or $6")
        '\\$5 or \\$6'
    """
    return "\n".join(printable(line) for line in text.split("\n")).replace("$", r"\$")
