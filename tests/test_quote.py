"""What others wrote is shown on one short line, whatever they wrote."""

from __future__ import annotations

import pytest

from advlearn._quote import listed, printable, quote


class Fails:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def deep(levels: int) -> list:
    inner: list = []
    for _ in range(levels):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "value",
    [
        "a\nmaxout  0.0 %",
        "a\rb",
        "\x1b[2J\x1b]0;title\x07",
        "\u202etxt.exe",
        "\u2028\u2029\x85",
        "\udc80 a lone surrogate",
        "x" * 90_000,
        "\U000e0001" * 90_000,
        ValueError("\x00" * 90_000),
        UnicodeDecodeError("utf-8", b"\xff" * 90_000, 0, 1, "a\nb"),
        deep(5_000),
        {"a": ["b" * 90_000] * 90_000},
        Fails(),
        None,
    ],
)
@pytest.mark.parametrize("show", [printable, quote])
def test_anything_becomes_one_short_printable_line(value: object, show) -> None:
    shown = show(value)
    assert shown.isprintable()
    assert 0 < len(shown) <= 203
    assert len(shown.encode()) < 1000


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("cat", "고양이", "Tür 3", "a/b.png", "x" * 60):
        assert printable(name) == name
        assert quote(name) == f"'{name}'"
    assert quote(7) == "7"


def test_a_long_list_of_names_is_cut_and_counted() -> None:
    shown = listed(f"name{i}\n" for i in range(9_000))
    assert shown.startswith("name0\\n, name1\\n, ")
    assert shown.endswith("name19\\n and 8,980 more")
    assert listed([]) == ""
