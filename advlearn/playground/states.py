"""What is chosen in the playground, as its address holds it: behind the # stands the whole state.

`js/state.js` reads it. Here it is written, for links that open the page as a text speaks of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from advlearn._validation import check_choice, check_count, check_number

ATTACKS = ("none", "noise", "fgsm", "pgd", "targeted")
"""What is done to the digit."""

MOST_EPS = 0.5
"""The largest eps that can be chosen."""

_FIELDS = {
    "network": "n", "attack": "a", "eps": "e", "clip": "c", "steps": "k", "target": "t",
    "label": "y", "digit": "d", "reach": "r", "lesson": "g",
}  # fmt: skip


def link(**chosen: Any) -> str:
    """Return a state as the part of an address behind its #; what is left out stays as it begins.

    Args:
        **chosen: network (its name), attack (one of `ATTACKS`), eps (0 to 0.5), clip, steps
            (1 to 100), target and label (0 to 9), digit (the number of an offline one), reach (of
            the walk: 1 or 15), lesson (the step of the guided path: 1 to 5).

    Raises:
        TypeError: a value is of the wrong kind.
        ValueError: there is no such field, or the page would not take the value.

    Example:
        >>> link(network="robust", attack="pgd", eps=0.3, clip=True)
        'n=robust&a=pgd&e=0.3&c=1'
    """
    written = {}
    for name, value in chosen.items():
        check_choice(name, "a field of the state", tuple(_FIELDS))
        written[_FIELDS[name]] = _text(name, value)
    return urlencode(written)


_WHOLE: Mapping[str, tuple[int, int]] = {
    "steps": (1, 100), "target": (0, 9), "label": (0, 9), "digit": (0, 10_000), "lesson": (0, 5),
}  # fmt: skip


def _text(name: str, value: Any) -> str:
    if name in _WHOLE:
        return str(check_count(value, name, *_WHOLE[name]))
    if name == "eps":
        return f"{check_number(value, name, 0.0, MOST_EPS):g}"
    if name == "clip":
        return str(int(bool(value)))
    if name == "reach":
        return check_choice(str(value), name, ("1", "15"))
    return check_choice(value, name, ATTACKS) if name == "attack" else str(value)
