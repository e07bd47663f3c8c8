"""What others wrote is shown on one short line, whatever they wrote."""

from __future__ import annotations

import html
import re

import matplotlib.pyplot as plt
import pytest

from advlearn._quote import in_figure, in_markdown, listed, printable, quote


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


@pytest.mark.parametrize(
    "name",
    ["a|b", "<script>", "**a**", "_a_", "`a`", "[a](b)", "![a](b)", "www.example.com", "a@b.cd",
     "&lt;", "a\\|b", "~~a~~", "# a", "<!--", "$a$", "\\(a\\)", "a:b", "{a}"],
)  # fmt: skip
def test_markdown_shows_the_name_and_no_markup(name: str) -> None:
    shown = in_markdown(name).replace("<span>", "").replace("</span>", "")
    assert html.unescape(shown) == name
    assert re.fullmatch(r"(&#[0-9]+;|[A-Za-z0-9 +-])*", shown)


def test_a_line_end_does_not_leave_the_cell_of_a_table() -> None:
    assert "\n" not in in_markdown("a\n| b |")


@pytest.mark.parametrize("name", ["$", "$a$", r"$\nonsense{$", r"\$", "a $5 b $6", "^_{}", "a\nb"])
def test_a_figure_shows_the_name_and_no_formula(name: str) -> None:
    figure, ax = plt.subplots()
    text = ax.set_title(in_figure(name))
    figure.canvas.draw()
    shown, formula = text._preprocess_math(text.get_text())
    plt.close(figure)
    assert (shown, formula) == (name, False)
