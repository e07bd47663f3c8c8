"""Tables that a lesson prints: plain text in aligned columns, on a screen of any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import SupportsFloat

from torch import Tensor

from advlearn._quote import quote
from advlearn._validation import check_choice
from advlearn.metrics import Rate

_GAP = "  "


def print_table(
    content: Mapping[str, Sequence[object]] | Sequence[Mapping[str, object]],
    formats: Mapping[str, str] | str = "",
) -> None:
    """Print a table: one heading for each column, numbers to the right, texts to the left.

    Args:
        content: the columns, as heading -> values from top to bottom, all equally many; or the
            rows, each as heading -> value, all with the same headings. A value is a text, a number
            (a tensor with one entry and a `Rate` are numbers) or None, which is printed as a dash.
        formats: heading -> how the numbers of that column are written, in Python's words: ".2f" is
            two decimals, ".1%" a fraction as a percentage with one decimal. After a space a unit
            may follow: ".1f %" for what is a percentage already. A column without an entry has
            6 significant digits; a `Rate` is then written with its interval. One format that
            is not a mapping is for all numbers but whole ones.

    Raises:
        ValueError: there is no column or no row, the columns are of different lengths, the rows
            have different headings, or `formats` names a heading that is not there.

    Example:
        >>> print_table(
        ...     {"network": ["plain", "trained"], "eps": [0.1, 0.25], "error": [0.9991, 0.07]},
        ...     formats={"error": ".1%"},
        ... )
        network   eps   error
        -------  ----  ------
        plain     0.1  99.9 %
        trained  0.25   7.0 %
        >>> attacks = [{"attack": "FGSM", "steps": 1, "error": 5.9}]
        >>> attacks.append({"attack": "PGD", "steps": 40, "error": 100.0})
        >>> print_table(attacks, ".1f %")
        attack  steps    error
        ------  -----  -------
        FGSM        1    5.9 %
        PGD        40  100.0 %
    """
    columns = _columns(content)
    if not isinstance(formats, str):
        for heading in formats:
            check_choice(heading, "a heading in formats", tuple(columns))
    written = []
    for heading, values in columns.items():
        numbers = all(_is_number(value) for value in values if value is not None)
        if isinstance(formats, str):
            cells = [_written(value, "" if isinstance(value, int) else formats) for value in values]
        else:
            cells = [_written(value, formats.get(heading, "")) for value in values]
        width = max(map(len, [heading, *cells]))
        lines = [heading, "-" * width, *cells]
        written.append([line.rjust(width) if numbers else line.ljust(width) for line in lines])
    for line in zip(*written, strict=True):
        print(_GAP.join(line).rstrip())


def _columns(
    content: Mapping[str, Sequence[object]] | Sequence[Mapping[str, object]],
) -> Mapping[str, Sequence[object]]:
    """Return the columns of a table that is given by columns or by rows."""
    if not isinstance(content, Mapping):
        headings = list(content[0]) if content else []
        for row in content:
            if list(row) != headings:
                raise ValueError(
                    f"All rows of a table need the same headings. Got {quote(list(row), 200)} "
                    f"beside {quote(headings, 200)}."
                )
        content = {heading: [row[heading] for row in content] for heading in headings}
    lengths = {heading: len(values) for heading, values in content.items()}
    if not lengths or not all(lengths.values()):
        raise ValueError("A table needs at least one column and one row.")
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"All columns of a table need the same number of values. Got {quote(lengths, 300)}."
        )
    return content


def _is_number(value: object) -> bool:
    return isinstance(value, SupportsFloat) and not isinstance(value, bool)


def _written(value: object, spec: str) -> str:
    if value is None:
        return "-"
    if not isinstance(value, SupportsFloat) or isinstance(value, bool):
        return str(value)
    if isinstance(value, Rate) and not spec:
        return str(value)
    if isinstance(value, Tensor):
        value = value.detach()  # PyTorch warns of a number that has a gradient
    number = value if isinstance(value, int) else float(value)
    kind, *unit = spec.split(" ", 1)
    return " ".join([format(number, kind or ".6g").replace("%", " %"), *unit])
