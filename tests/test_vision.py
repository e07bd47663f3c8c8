"""The figures hold in grey and for colour-blind readers: contrast, distance, and what else differs.

The promises. A line has a contrast of 3 with white, a text 4.5. Two colours that a figure uses side
by side are at least `APART` apart in CIELAB for every reader, or differ in dash, marker or hatch as
well. Maps for positive numbers run from light to dark; maps for signed ones mirror their lightness.
"""

from __future__ import annotations

import ast
import itertools
import shutil

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from advlearn import plotting
from advlearn.metrics import Rate, TransferMatrix
from tests import vision
from tests.lesson_rules import LESSONS, code, read
from tests.test_plotting import FIGURES, dash
from tests.vision import VISIONS, contrast, distance, rgb

WHITE = rgb("white")
APART = 10.0  # in CIELAB, four times what is just noticeable
DARKENED = {plotting.OCHRE: plotting.ORANGE, plotting.AZURE: plotting.SKY}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


# --- The simulation itself ------------------------------------------------------------------------


def test_grey_and_white_stay_what_they_are():
    """A reader who lacks a cone sees greys like everyone: rows of the matrices add up to one."""
    for matrix in vision.MATRICES.values():
        np.testing.assert_allclose(np.sum(matrix, axis=1), 1, atol=1e-5)
    for name in VISIONS:
        for value in (0.0, 0.3, 1.0):
            np.testing.assert_allclose(vision.seen(np.full(3, value), name), value, atol=1e-3)


def test_known_values():
    assert contrast(rgb("black"), WHITE) == pytest.approx(21)
    assert contrast(rgb("#777777"), WHITE) == pytest.approx(4.48, abs=0.01)
    np.testing.assert_allclose(vision.lab(WHITE), [100, 0, 0], atol=0.01)
    np.testing.assert_allclose(vision.lab(rgb("red")), [53.24, 80.09, 67.20], atol=0.05)


def test_red_and_green_are_hard_for_those_who_lack_a_cone():
    red, green = rgb("#C00000"), rgb("#307000")
    assert distance(red, green) > 80
    assert distance(red, green, "deuteranopia") < distance(red, green) / 2
    blue, green = rgb("#0072B2"), rgb("#009E73")
    assert distance(blue, green, "tritanopia") < distance(blue, green) / 2


def test_the_package_colorspacious_agrees():
    colorspacious = pytest.importorskip("colorspacious")
    colours = np.random.default_rng(0).random((200, 3))
    names = {"protanopia": "protanomaly", "deuteranopia": "deuteranomaly"}
    for name, its in (names | {"tritanopia": "tritanomaly"}).items():
        space = {"name": "sRGB1+CVD", "cvd_type": its, "severity": 100}
        want = colorspacious.cspace_convert(colours, space, "sRGB1").clip(0, 1)
        np.testing.assert_allclose(vision.seen(colours, name), want, atol=1e-9)


# --- The palette ----------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", plotting.LINES)
def test_a_line_stands_out_from_white(colour):
    assert contrast(rgb(colour), WHITE) >= 3


def test_the_pale_colours_would_be_seen():
    for colour in (plotting.ORANGE, plotting.SKY, plotting.YELLOW):
        assert contrast(rgb(colour), WHITE) < 3
        assert colour not in plotting.LINES


@pytest.mark.parametrize(("dark", "bright"), DARKENED.items())
def test_a_darkened_colour_keeps_its_hue_and_is_no_darker_than_needed(dark, bright):
    ratio = vision.linear(rgb(dark)) / np.maximum(vision.linear(rgb(bright)), 1e-9)
    kept = ratio[rgb(bright) > 0]
    assert np.ptp(kept) < 0.05 * kept.mean()
    assert contrast(rgb(dark), WHITE) < 3.4


@pytest.mark.parametrize("name", [name for name in VISIONS if name != "grey"])
def test_the_first_five_lines_are_apart_by_colour_alone(name):
    for one, other in itertools.combinations(plotting.LINES[:5], 2):
        assert distance(rgb(one), rgb(other), name) >= APART


def too_close(lines, name):
    """Name the pairs of lines that this reader could take for one another."""
    return [
        (one.get_label(), other.get_label())
        for one, other in itertools.combinations(lines, 2)
        if distance(rgb(one.get_color()), rgb(other.get_color()), name) < APART
        and dash(one) == dash(other)
        and one.get_marker() == other.get_marker()
    ]


@pytest.mark.parametrize("name", VISIONS)
@pytest.mark.parametrize("figure", FIGURES)
def test_lines_of_a_figure_are_told_apart(figure, name):
    axes = plt.subplots(layout="constrained")[1]
    FIGURES[figure][0](axes)
    assert too_close(axes.get_lines(), name) == []
    thin = [line for line in axes.get_lines() if contrast(rgb(line.get_color()), WHITE) < 3]
    assert thin == []


@pytest.mark.parametrize("name", VISIONS)
def test_many_lines_without_markers_are_told_apart(name):
    """Ten by colour and dash. In grey seven: there are no more dashes that an eye tells apart."""
    axes = plt.subplots()[1]
    vision.draw_many(axes, 10)
    for line in axes.get_lines():
        line.set_marker("None")
    count = 7 if name == "grey" else 10
    assert too_close(axes.get_lines()[:count], name) == []
    if name == "grey":
        return
    assert too_close(plotting.logits_walk([0, 1], torch.rand(2, 10), 3).get_lines(), name) == []


def test_lines_too_close_would_be_seen():
    axes = plt.subplots()[1]
    axes.plot([0, 1], color=plotting.GREEN, label="a")
    axes.plot([1, 0], color=plotting.PURPLE, label="b")
    assert too_close(axes.get_lines(), "grey") == [("a", "b")]
    assert too_close(axes.get_lines(), "normal") == []


@pytest.mark.parametrize("name", VISIONS)
def test_the_true_bar_is_told_from_the_others(name):
    bars = plotting.probability_bars(torch.tensor([0.2, 0.8]), 0).patches
    assert [bool(bar.get_hatch()) for bar in bars] == [True, False]
    for bar in bars:  # its edge carries the contrast, not its pale face
        assert contrast(np.array(bar.get_edgecolor()[:3]), WHITE) >= 3
        assert bar.get_linewidth() > 0


# --- Text and maps --------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", FIGURES)
def test_text_is_read(figure):
    axes = plt.subplots(layout="constrained")[1]
    FIGURES[figure][0](axes)
    if figure == "transfer_map":
        pytest.skip("its text lies on the map: see below")
    for text in axes.figure.findobj(mpl.text.Text):
        if text.get_text():
            assert contrast(np.array(to_rgba(text.get_color())[:3]), WHITE) >= 4.5


def test_the_figures_on_a_map_are_read_at_every_value():
    rates = tuple(Rate(k, 100) for k in range(101))
    matrix = TransferMatrix(tuple(map(str, range(101))), (rates,) * 101)
    axes = plotting.transfer_map(matrix, ax=plt.subplots()[1])
    (image,) = axes.get_images()
    for text in axes.texts[:101]:
        ground = np.array(image.cmap(image.norm(float(text.get_text())))[:3])
        assert contrast(rgb(text.get_color()), ground) >= 4.5, text.get_text()


def lightness(name, view):
    colours = mpl.colormaps[name](np.linspace(0, 1, 101))[:, :3]
    return vision.lab(vision.seen(colours, view))[:, 0]


def maps_in(source):
    """Name the colour maps that a program asks for."""
    tree = ast.parse(source)
    called = [
        k.value for n in ast.walk(tree) for k in getattr(n, "keywords", []) if k.arg == "cmap"
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            called += [value for key, value in pairs if getattr(key, "value", "") == "cmap"]
        if isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "colormaps":
            called.append(node.slice)  # plt.colormaps["name"]
    return {value.value for value in called if isinstance(value, ast.Constant)}


def every_map():
    source = (vision.ROOT / "advlearn" / "plotting.py").read_text(encoding="utf-8")
    maps = maps_in(source)
    for path in LESSONS:
        maps |= maps_in("\n".join(c.source for c in code(read(path)) if "%" not in c.source[:1]))
    return maps


def test_the_maps_are_these():
    assert every_map() == {"gray", "Greys", "RdBu_r"}


@pytest.mark.parametrize("view", VISIONS)
def test_one_sided_maps_run_one_way(view):
    assert (np.diff(lightness("gray", view)) > 0).all()
    assert (np.diff(lightness("Greys", view)) < 0).all()
    assert (np.diff(lightness("jet", "normal")) > 0).any()
    assert (np.diff(lightness("jet", "normal")) < 0).any(), "a map that would fail"


@pytest.mark.parametrize("view", VISIONS)
def test_the_signed_map_is_a_mirror_and_its_ends_are_apart(view):
    run = lightness("RdBu_r", view)
    assert (np.diff(run[:50]) > 0).all()
    assert (np.diff(run[51:]) < 0).all()
    assert np.abs(run - run[::-1]).max() < 16
    if view != "grey":  # in grey both signs are dark: that is what a mirror means
        ends = [np.array(mpl.colormaps["RdBu_r"](end)[:3]) for end in (0.1, 0.9)]
        assert distance(*ends, view) >= APART


# --- The lessons ----------------------------------------------------------------------------------


def pale_lines(source):
    """Name the pale colours that a cell gives to something without an edge or a hatch."""
    colours = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            colour = keywords.get("color", keywords.get("markeredgecolor", ""))
            pale = colour in ("plotting.ORANGE", "plotting.SKY", "plotting.YELLOW")
            shaded = node.func.attr in ("axvspan", "axhspan")  # a ground, not a mark
            if pale and not shaded and not keywords.keys() & {"edgecolor", "ec", "hatch"}:
                colours.append(f"{node.func.attr}: {colour}")
    return colours


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_no_lesson_draws_a_pale_line(path):
    assert [pale for cell in code(read(path)) for pale in pale_lines(cell.source)] == []


def test_a_pale_line_would_be_seen():
    assert pale_lines("ax.plot(t, z, color=plotting.ORANGE)") == ["plot: plotting.ORANGE"]
    assert pale_lines("ax.barh(t, z, color=plotting.SKY, edgecolor='black')") == []


def test_every_figure_is_drawn_for_every_reader(tmp_path, monkeypatch):
    """Those of the library, and those that a lesson shows."""
    monkeypatch.setattr(vision, "FOLDER", tmp_path / "palette")
    monkeypatch.setattr(vision, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(LESSONS[1], tmp_path / "notebooks")
    shown = LESSONS[1].read_text(encoding="utf-8").count("data:image/")
    assert vision.main() == 0
    names = {path.stem for path in (tmp_path / "palette").glob("*.png")}
    assert names == {*FIGURES, "many-lines", *(f"lesson-01-{k:02d}" for k in range(shown))}
    assert shown >= 5
