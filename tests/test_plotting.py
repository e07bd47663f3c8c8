"""The figures: what is drawn, how it is described, and how it looks without colour."""

from __future__ import annotations

import itertools
import math
import struct

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from traitlets.config import Config

from advlearn import plotting
from advlearn.evaluation import Bracket
from advlearn.metrics import ErrorCurve, Rate, TransferMatrix
from advlearn.plotting import alt_text, describe, render, show
from advlearn.recipe import History
from tests.conftest import make_digits

OKABE_ITO = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
OKABE_ITO |= {plotting.OCHRE, plotting.AZURE}  # darkened; tests/test_vision.py says how far

CURVE = ErrorCurve(
    (0.0, 0.1, 0.25),
    (Rate(3, 200), Rate(90, 200), Rate(199, 200)),
    (0.61, 0.72, 0.93),
    (0.95, 0.8, 0.92),
)
OTHER = CURVE._replace(errors=(Rate(5, 200), Rate(20, 200), Rate(60, 200)))
HISTORY = History(
    [{"epoch": 1, "loss": 0.75, "error": 0.5}, {"epoch": 2, "loss": 0.25, "error": 0.2}]
)
MATRIX = TransferMatrix(
    ("linear", "maxout"), ((Rate(9, 10), Rate(4, 10)), (Rate(7, 10), Rate(10, 10)))
)

BRACKET = Bracket(0.3, "fast", Rate(3, 200), Rate(24, 200), Rate(90, 200), "", (), {})
OPEN = Bracket(0.1, "fast", Rate(2, 200), Rate(100, 200), None, "no rule", (), {})

# name -> (draw into ax, words of the alt text, all with the data's own numbers)
FIGURES = {
    "digits": (
        lambda ax: plotting.digits(make_digits(3), titles=["3", "7\n(sure)", "8"], ax=ax),
        ["3 images", "7, (sure)"],
    ),
    "before_after": (
        lambda ax: plotting.before_after(
            torch.full((2, 1, 6, 6), 0.5),
            torch.full((2, 1, 6, 6), 0.6),
            ["7\n90 %", "3"],
            ["1\n80 %", "8"],
            ax=ax,
        ),
        ["An image: 7, 90 %. The change, magnified 5 times. The changed image: 1, 80 %.", "3", "8"],
    ),
    "signed": (
        lambda ax: plotting.signed(torch.tensor([[[[-1.5, 0.5]]]]), label="weight", ax=ax),
        ["1 map of weight", "from -1.5 to 1.5"],
    ),
    "lines": (
        lambda ax: plotting.lines(
            [0, 4], {"a": [1, 17], "b": [0, -2]}, xlabel="v", ylabel="y", ax=ax
        ),
        ["y against v from 0 to 4", "a goes from 1 to 17", "b goes from 0 to -2"],
    ),
    "error_curves": (
        lambda ax: plotting.error_curves({"plain": CURVE, "trained": OTHER}, ax=ax),
        ["from 0 to 0.25", "plain goes from 1.5 to 99.5", "trained goes from 2.5 to 30"],
    ),
    "confidence_curves": (
        lambda ax: plotting.confidence_curves({"plain": CURVE}, ax=ax),
        ["plain goes from 61 to 93", "confidence on mistakes"],
    ),
    "probability_bars": (
        lambda ax: plotting.probability_bars(torch.tensor([0.1, 0.7, 0.2]), 2, ax=ax),
        ["3 classes", "highest 1 with 70 %", "true class 2 has 20 %"],
    ),
    "logits_walk": (
        lambda ax: plotting.logits_walk(
            [-2.0, 0.0, 2.0], torch.tensor([[0.0, 1], [1, 0], [0, 1]]), 0, ax=ax
        ),
        ["2 logits", "from -2 to 2", "true class 0", "1 of 3 points"],
    ),
    "transfer_map": (
        lambda ax: plotting.transfer_map(MATRIX, ax=ax),
        ["crafted on linear, fed to maxout: 40 %", "crafted on maxout, fed to linear: 70 %"],
    ),
    "bracket": (
        lambda ax: plotting.bracket({"robust": BRACKET, "other": OPEN}, ax=ax),
        [
            "robust at eps 0.3, clean 1.5 %, at least 12.0 %, at most 45.0 %",
            "other at eps 0.1, clean 1.0 %, at least 50.0 %, no upper end",
        ],
    ),
    "history": (
        lambda ax: plotting.history(HISTORY, ["loss", "error"], ylabel="value", ax=ax),
        ["epoch from 1 to 2", "loss goes from 0.75 to 0.25", "error goes from 0.5 to 0.2"],
    ),
    "functions": (
        lambda ax: plotting.functions({"max(v, 0)": torch.relu}, -3, 5, ax=ax),
        ["from -3 to 5", "max(v, 0) goes from 0 to 5"],
    ),
}
every_figure = pytest.mark.parametrize(("draw", "words"), FIGURES.values(), ids=FIGURES.keys())


@pytest.fixture(autouse=True)
def no_figure_stays():
    plt.close("all")
    yield
    plt.close("all")


def test_every_public_figure_function_is_in_the_table():
    helpers = {"describe", "alt_text", "caption_text", "render", "show"}
    public = {
        name
        for name, value in vars(plotting).items()
        if getattr(value, "__module__", "") == "advlearn.plotting" and not name.startswith("_")
    }
    assert public - helpers == set(FIGURES)


@every_figure
def test_a_figure_is_an_axes_that_says_its_numbers(draw, words):
    ax = draw(None)
    assert isinstance(ax, Axes)
    assert ax.has_data() or ax.get_images()
    alt = alt_text(ax)
    assert all(part in alt for part in words), alt
    assert alt.endswith(".")
    assert not alt.startswith(" ")
    assert alt_text(ax.figure) == alt


@every_figure
def test_a_figure_is_drawn_into_the_axes_it_is_given(draw, words):
    _, axes = plt.subplots(1, 2)
    assert draw(axes[1]) is axes[1]
    assert axes[1].has_data() or axes[1].get_images()
    assert not axes[0].has_data()
    assert plt.get_fignums() == [1]
    assert alt_text(axes[0].figure) == alt_text(axes[1])


@every_figure
def test_a_figure_becomes_a_small_png_the_same_each_time(draw, words):
    first, second = render(draw(None)), render(draw(None))
    assert first == second
    assert first.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", first[16:24])
    assert 100 < width < 1000
    assert 50 < height < 1000
    assert len(first) < 100_000
    assert b"matplotlib" not in first.lower()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("nested", [False, True], ids=["part", "part of a part"])
def test_the_whole_figure_is_rendered_from_axes_on_a_part_of_it(nested):
    whole = plt.figure(figsize=(4, 2))
    part = whole.subfigures(1, 2)[0]
    ax = (part.subfigures(1, 2)[0] if nested else part).subplots()
    ax.set_xticks([])
    whole.text(0.95, 0.5, "far away")
    from_ax, width = render(ax), struct.unpack(">I", render(whole)[16:20])[0]
    assert struct.unpack(">I", from_ax[16:20])[0] == width > 300
    assert not plt.fignum_exists(whole.number), "it is closed"


def test_photographs_may_be_jpeg():
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, second = (render(plotting.digits(x), kind="jpeg") for _ in range(2))
    assert first == second
    assert first.startswith(b"\xff\xd8\xff")
    assert len(first) < len(render(plotting.digits(x)))
    assert plt.get_fignums() == []
    with pytest.raises(ValueError, match="kind must be one of png, jpeg, got 'gif'"):
        render(plotting.digits(x), kind="gif")


def test_the_whole_figure_speaks_in_reading_order():
    figure, (left, right) = plt.subplots(1, 2)
    describe(right, "Second.")
    assert describe(left, "First.") is left
    assert alt_text(figure) == "First. Second."
    assert alt_text(plt.subplots()[0]) == ""


# --- What is drawn --------------------------------------------------------------------------------


def test_lines_go_through_the_data():
    ax = plotting.lines([0, 1, 3], {"a": torch.tensor([2.0, 5, 1])}, xlabel="v", ylabel="y")
    (line,) = ax.get_lines()
    assert line.get_xydata().tolist() == [[0, 2], [1, 5], [3, 1]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("v", "y")
    assert ax.get_legend() is None
    named = plotting.lines([0, 1], {"a": [0, 1], "b": [1, 0]}, xlabel="v", ylabel="y")
    assert [text.get_text() for text in named.get_legend().get_texts()] == ["a", "b"]


def test_the_bars_of_a_bracket_meet_its_ends():
    ax = plotting.bracket({"robust": BRACKET, "other": OPEN})
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    ends = [0, 1.5, 12, 45, 100, 0, 1, 50, 100, 100]
    flat = [
        end
        for first in (0, 5)
        for pair in itertools.pairwise(ends[first : first + 5])
        for end in pair
    ]
    assert [end for span in spans for end in span] == pytest.approx(flat)
    assert [text.get_text() for text in ax.texts] == ["12.0 to 45.0 %", "50.0 to ? %"]
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "robust\neps 0.3",
        "other\neps 0.1",
    ]
    alone = plotting.bracket(BRACKET)
    assert "eps 0.3" in alone.get_xlabel()
    assert len(alone.get_legend().get_texts()) == 4


def test_a_bracket_is_asked_for_by_name():
    with pytest.raises(TypeError, match=r"brackets\['a'\] must be a Bracket"):
        plotting.bracket({"a": Rate(1, 2)})
    with pytest.raises(ValueError, match="brackets is empty"):
        plotting.bracket({})


def test_error_curves_show_percent_and_their_intervals():
    ax = plotting.error_curves({"plain": CURVE})
    (line,), (band,) = ax.get_lines(), ax.collections
    assert line.get_ydata() == pytest.approx([1.5, 45.0, 99.5])
    corners = band.get_paths()[0].vertices
    for eps, rate in zip(CURVE.eps, CURVE.errors, strict=True):
        at = corners[np.isclose(corners[:, 0], eps), 1]
        assert (at.min(), at.max()) == pytest.approx([100 * end for end in rate.interval])


@pytest.mark.parametrize("figure", [plotting.error_curves, plotting.confidence_curves])
def test_curves_over_different_eps_are_refused(figure):
    """Drawn at the first curve's eps, the second would show errors that were never measured."""
    other = OTHER._replace(eps=(0.0, 0.2, 0.5))
    with pytest.raises(ValueError, match="eps"):
        figure({"plain": CURVE, "other": other})


def test_confidence_has_a_gap_where_there_are_no_mistakes():
    curve = CURVE._replace(confidence_on_errors=(math.nan, 0.7, 0.9))
    drawn = plotting.confidence_curves({"plain": curve}).get_lines()[0].get_ydata()
    assert math.isnan(drawn[0])
    assert drawn[1:] == pytest.approx([70, 90])


@pytest.mark.parametrize("values", [(math.nan, 0.7, 0.9), (math.nan, math.nan, math.nan)])
def test_the_words_for_a_gap_are_not_nan(values):
    alt = alt_text(
        plotting.confidence_curves({"plain": CURVE._replace(confidence_on_errors=values)})
    )
    assert "nan" not in alt
    assert "plain" in alt


def test_digits_are_shown_as_they_are():
    x = torch.rand(3, 1, 4, 4)
    ax = plotting.digits(x, columns=2)
    sheet = ax.get_images()[0].get_array()
    assert sheet.shape == (9, 9)
    assert np.allclose(sheet[:4, :4], x[0, 0])
    assert np.allclose(sheet[:4, 5:], x[1, 0])
    assert np.allclose(sheet[5:, :4], x[2, 0])
    assert ax.get_images()[0].get_clim() == (0.0, 1.0)
    assert not ax.axison


def test_colour_images_and_titles_over_many_rows():
    x = torch.rand(5, 3, 4, 4)
    ax = plotting.digits(x * 3 - 1, titles=list("abcde"), columns=2)
    sheet = ax.get_images()[0].get_array()
    assert sheet.ndim == 3
    assert 0 <= sheet.min() <= sheet.max() <= 1
    assert [text.get_text() for text in ax.texts] == list("abcde")
    heights = [text.get_position()[1] for text in ax.texts]
    assert heights[0] == heights[1] < heights[2] == heights[3] < heights[4]


def test_a_change_is_magnified_between_the_pictures_before_and_after():
    x = torch.tensor([0.25, 0.5, 0.75]).repeat(1, 1, 12, 4)
    moved = x + torch.tensor([0.1, -0.1, 0.0]).repeat(1, 1, 12, 4)
    ax = plotting.before_after(x, moved, ["cat\n9 %"], ["dog"])
    band = 4
    sheet = torch.from_numpy(np.asarray(ax.get_images()[0].get_array()))
    assert sheet.shape == (12 + band, 3 * 12 + 2 * 2)
    assert torch.allclose(sheet[band:, :12], x[0, 0])
    assert torch.allclose(sheet[band, 14:17], torch.tensor([1.0, 0.0, 0.5]))
    assert torch.allclose(sheet[band:, 28:], moved[0, 0])
    written = {text.get_text(): text for text in ax.texts}
    assert {*written} == {"cat", "9 %", "the change", "magnified 5 times", "dog", "+", "="}
    assert written["cat"].get_position()[1] < written["9 %"].get_position()[1] < band
    assert written["cat"].get_fontsize() >= 14, "large words"
    assert "The change, none at all." in alt_text(plotting.before_after(x, x, ["cat"], ["cat"]))
    ends = plotting.before_after(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ["0"], ["1"])
    assert "The change, magnified 0.5 times." in alt_text(ends)


def test_signed_maps_share_a_scale_with_zero_in_the_middle():
    ax = plotting.signed(torch.tensor([[[[-0.2, 0.1]]], [[[0.0, 3.0]]]]), titles=["a", "b"])
    assert ax.get_images()[0].get_clim() == (-3.0, 3.0)
    assert "2 maps of value, from -3 to 3: a; b." in alt_text(ax)
    assert plotting.signed(torch.zeros(1, 1, 2, 2)).get_images()[0].get_clim() == (-1.0, 1.0)


def test_the_true_class_is_marked_by_more_than_colour():
    ax = plotting.probability_bars(torch.tensor([0.2, 0.8]), 0, names=["three", "seven"])
    assert [bar.get_hatch() for bar in ax.patches] == ["//", None]
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([20, 80])
    assert "highest seven with 80 %; the true class three has 20 %" in alt_text(ax)
    walk = plotting.logits_walk([0.0, 1.0], torch.tensor([[0.0, 1], [1, 0]]), 1)
    assert walk.get_lines()[1].get_linewidth() > 2 * walk.get_lines()[0].get_linewidth()


def test_the_transfer_map_has_sources_as_rows():
    ax = plotting.transfer_map(MATRIX)
    assert ax.get_images()[0].get_array().tolist() == [[90, 40], [70, 100]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("fed to", "crafted on")
    written = {tuple(text.get_position()): text.get_text() for text in ax.texts}
    assert written == {(0, 0): "90", (1, 0): "40", (0, 1): "70", (1, 1): "100"}


def test_epochs_are_whole_numbers_on_the_axis():
    ax = plotting.history(HISTORY, ["loss"], ylabel="loss (nats)")
    ax.figure.canvas.draw()
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


def graph(*shape):
    """Return a tensor inside a graph, which neither NumPy nor float() takes as it is."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_() * 1


# Functions that take numbers, each drawn from them and from the same numbers in a graph.
TRACKED = {
    "digits": lambda t: plotting.digits(t(2, 1, 4, 4)),
    "digits in colour": lambda t: plotting.digits(t(2, 3, 4, 4)),
    "before_after": lambda t: plotting.before_after(t(1, 3, 4, 4), t(1, 3, 4, 4), ["a"], ["b"]),
    "signed": lambda t: plotting.signed(t(2, 1, 4, 4)),
    "lines": lambda t: plotting.lines(t(5), {"a": t(5), "b": [*t(5)]}, xlabel="x", ylabel="y"),
    "probability_bars": lambda t: plotting.probability_bars(t(4), torch.tensor(2)),
    "logits_walk": lambda t: plotting.logits_walk(t(5), t(5, 3), 1),
    "functions": lambda t: plotting.functions({"f": lambda v: v * t(1)}, 0, 1),
}


@pytest.mark.parametrize("draw", TRACKED.values(), ids=TRACKED)
def test_tensors_that_track_gradients_are_drawn(draw):
    assert render(draw(graph)) == render(draw(lambda *shape: graph(*shape).detach()))


def test_other_dtypes_layouts_and_bounds_draw_the_same_picture():
    x = make_digits(3)
    expected = render(plotting.digits(x))
    assert render(plotting.digits(x.double())) == expected
    assert render(plotting.digits(x.contiguous(memory_format=torch.channels_last))) == expected
    colour = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    expected = render(plotting.digits(colour))
    assert render(plotting.digits(colour * 2 - 1, bounds=(-1.0, 1.0))) == expected


def lines(x, curves):
    return plotting.lines(x, curves, xlabel="x", ylabel="y")


IMAGES, GREY = torch.rand(2, 1, 4, 4), r"x must be \(N, 1, H, W\)"
BOTH = r"x must be \(N, 1 or 3, H, W\)"
HALVES = torch.tensor([0.5, 0.5])
BAD = [
    (lambda: plotting.digits(torch.rand(2, 4)), ValueError, BOTH + r".*x.reshape\(N, 1, H, W\)"),
    (lambda: plotting.digits(torch.rand(4, 8, 8, 3)), ValueError, "last: pass x.permute"),
    (lambda: plotting.digits(torch.rand(4, 8, 8, 1)), ValueError, r"\(4, 8, 8, 1\).* are last"),
    (lambda: plotting.digits(torch.rand(2, 2, 4, 4)), ValueError, BOTH + r".*x\[:, :1\]"),
    (lambda: plotting.digits(torch.rand(2, 4, 4)), ValueError, BOTH + ".*unsqueeze"),
    (lambda: plotting.digits(torch.rand(2, 1, 3, 4, 4)), ValueError, BOTH),
    (lambda: plotting.digits(IMAGES.numpy()), TypeError, "x must be a tensor of images"),
    (lambda: plotting.digits([[0.5]]), TypeError, "x must be a tensor of images, got list"),
    (lambda: plotting.digits(IMAGES.to(torch.complex64)), TypeError, "floating dtype"),
    (lambda: plotting.digits(IMAGES > 0.5), TypeError, "floating dtype, got torch.bool"),
    (lambda: plotting.digits(IMAGES / 0), ValueError, "NaN or infinity"),
    (lambda: plotting.digits(IMAGES, bounds=None), TypeError, "bounds must be"),
    (lambda: plotting.digits(IMAGES, bounds=(1.0, 0.0)), ValueError, "low < high"),
    (lambda: plotting.digits(IMAGES, columns=0), ValueError, "columns must be at least 1"),
    (lambda: plotting.digits(IMAGES, columns=1.5), TypeError, "columns must be a whole number"),
    (lambda: plotting.digits(IMAGES, titles=["a"]), ValueError, "titles must .*: got 1 for 2"),
    (lambda: plotting.digits(IMAGES, titles="ab"), TypeError, "titles must be a list of strings"),
    (lambda: plotting.digits(IMAGES, titles=[3, 7]), TypeError, r"titles must .*got \[3, 7\]"),
    (lambda: plotting.digits(IMAGES, ax=np.array([1])), TypeError, "ax must be a Axes .* ndarray"),
    (lambda: plotting.digits(torch.rand(0, 1, 4, 4)), ValueError, "empty batch"),
    (lambda: plotting.digits((torch.rand(1, 1, 4, 4) * 255).byte()), TypeError, "floating dtype"),
    (
        lambda: plotting.before_after(IMAGES, IMAGES[:1], ["a", "b"], ["c", "d"]),
        ValueError,
        r"moved must have x's shape \(2, 1, 4, 4\), got \(1, 1, 4, 4\)",
    ),
    (
        lambda: plotting.before_after(IMAGES, IMAGES, ["a"], ["c", "d"]),
        ValueError,
        "before must .*: got 1 for 2",
    ),
    (lambda: plotting.signed(torch.full((1, 1, 2, 2), math.nan)), ValueError, "NaN"),
    (lambda: plotting.signed(torch.rand(2, 3, 4, 4)), ValueError, GREY + ".*flatten"),
    (lambda: plotting.signed(torch.rand(2, 4, 4, 1)), ValueError, GREY + ".*x.permute"),
    (lambda: plotting.signed(torch.rand(0, 1, 4, 4)), ValueError, "x is an empty batch"),
    (lambda: plotting.signed(torch.rand(8)), ValueError, r"x.*got shape \(8,\)"),
    (lambda: lines([], {"a": []}), ValueError, "x is empty"),
    (lambda: lines([0, 1], {}), ValueError, "curves is empty"),
    (lambda: lines([0, 1], [0, 1]), TypeError, "curves must be a Mapping of names to values"),
    (
        lambda: lines([0, 1], {"a": [0]}),
        ValueError,
        r"curves\['a'\] must have .* of the 2 .* got 1",
    ),
    (lambda: lines([0, 1], {"a": torch.rand(2, 2)}), ValueError, r"'a'\] .*got shape \(2, 2\)"),
    (lambda: lines([0, 1], {"a": ["x", "y"]}), TypeError, r"curves\['a'\] must be .*numbers: "),
    (lambda: lines([0, 1], {"a": 3}), TypeError, r"curves\['a'\] must be a sequence"),
    (lambda: lines([0, 1], {"a": [1j, 2j]}), TypeError, r"curves\['a'\] must be a sequence"),
    (lambda: lines([0, math.nan], {"a": [0, 1]}), ValueError, "x holds NaN"),
    (lambda: plotting.error_curves(CURVE), TypeError, "curves must be a Mapping"),
    (lambda: plotting.error_curves({"a": [0.1]}), TypeError, r"curves\['a'\] must be a ErrorCurve"),
    (lambda: plotting.confidence_curves({}), ValueError, "curves must be one or more"),
    (lambda: plotting.probability_bars(torch.rand(1, 4), 0), ValueError, r"shape \(1, 4\)"),
    (lambda: plotting.probability_bars(torch.tensor([3.0, -1.0]), 0), ValueError, "probabilities"),
    (lambda: plotting.probability_bars(HALVES * math.nan, 0), ValueError, "chances must be prob"),
    (lambda: plotting.probability_bars(HALVES, 2), ValueError, "label must be from 0 to 1"),
    (lambda: plotting.probability_bars(HALVES, -1), ValueError, "label must be from 0 to 1"),
    (lambda: plotting.probability_bars(HALVES, 0.0), TypeError, "label must be a whole number"),
    (lambda: plotting.probability_bars(HALVES, 0, names=["a"]), ValueError, "names must have one"),
    (lambda: plotting.probability_bars(HALVES, 0, names="ab"), TypeError, "names must be a list"),
    (
        lambda: plotting.probability_bars(HALVES, 0, names=["a", "a"]),
        ValueError,
        "names must differ",
    ),
    (
        lambda: plotting.logits_walk([0, 1], torch.rand(3, 2), 0),
        ValueError,
        r"logits must .*\(2, K\)",
    ),
    (lambda: plotting.logits_walk([0, 1], torch.rand(2), 0), ValueError, "logits"),
    (lambda: plotting.logits_walk([0, 1], torch.eye(2) / 0, 0), ValueError, "logits holds NaN"),
    (
        lambda: plotting.logits_walk([0, 1], torch.eye(2), 2),
        ValueError,
        "label must be from 0 to 1",
    ),
    (lambda: plotting.transfer_map([[0.1]]), TypeError, "matrix must be a TransferMatrix"),
    (lambda: plotting.history(HISTORY, ["eror"], ylabel="e"), KeyError, "no column 'eror'"),
    (lambda: plotting.history(HISTORY, "loss", ylabel="e"), TypeError, r"Pass \['loss'\]"),
    (lambda: plotting.history(HISTORY, [], ylabel="e"), ValueError, "curves is empty"),
    (lambda: plotting.history(History(), ["loss"], ylabel="e"), ValueError, "no epochs"),
    (lambda: plotting.history({"loss": [1]}, ["loss"], ylabel="e"), TypeError, "run must be"),
    (lambda: plotting.functions({"f": torch.sum}, 0, 1), ValueError, r"named\['f'\] .*401.*\(\)"),
    (lambda: plotting.functions({"f": 3}, 0, 1), TypeError, r"named\['f'\] must be callable"),
    (lambda: plotting.functions({"f": torch.relu}, 1, 0), ValueError, "low must be finite"),
    (lambda: alt_text([1]), TypeError, "figure must be a Figure or Axes"),
    (lambda: show(torch.rand(3)), TypeError, "figure must be a Figure or Axes"),
    (lambda: describe(None, "a"), TypeError, "ax must be a Axes"),
]


@pytest.mark.parametrize(("draw", "error", "words"), BAD)
def test_bad_data_are_named_and_leave_no_figure(draw, error, words):
    with pytest.raises(error, match=words):
        draw()
    assert plt.get_fignums() == []


# --- Colours --------------------------------------------------------------------------------------


def grey(colour):
    """Return the lightness of a colour as a printer in grey would give it, in [0, 1]."""
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def dash(line):
    """Return a line's dash pattern in units of its width; a solid line has none."""
    _, pattern = line._unscaled_dash_pattern
    return tuple(pattern) if pattern else ()


def alike(first, second):
    """Tell whether two lines could be taken for one another in grey, without markers."""
    if abs(grey(first.get_color()) - grey(second.get_color())) > 0.2:
        return False
    one, two = dash(first), dash(second)
    if len(one) != len(two):
        return False
    if not one:
        return True
    periods, inks = [sum(one), sum(two)], [sum(one[::2]) / sum(one), sum(two[::2]) / sum(two)]
    return max(periods) < 1.4 * min(periods) and abs(inks[0] - inks[1]) < 0.25


def seven():
    curves = {str(i): [i, i + 1] for i in range(7)}
    return plotting.lines([0, 1], curves, xlabel="x", ylabel="y", markers=True).get_lines()


def test_lines_take_their_colours_from_okabe_and_ito():
    colours = [to_hex(line.get_color()).upper() for line in seven()]
    assert set(colours) <= OKABE_ITO
    assert len(set(colours)) == 7
    assert "#F0E442" not in colours, "yellow is too pale for a line on white"
    ax = plotting.logits_walk([0.0, 1.0], torch.rand(2, 10), 0)
    assert {to_hex(line.get_color()).upper() for line in ax.get_lines()} <= OKABE_ITO
    bars = plotting.probability_bars(torch.tensor([0.2, 0.8]), 0).patches
    assert {to_hex(bar.get_facecolor()).upper() for bar in bars} <= OKABE_ITO


def test_no_two_of_seven_lines_look_alike_in_grey():
    lines = seven()
    assert len({line.get_marker() for line in lines}) == 7
    pairs = [
        (first.get_label(), second.get_label())
        for first, second in itertools.combinations(lines, 2)
        if alike(first, second)
    ]
    assert pairs == []


def test_no_two_of_ten_classes_share_colour_and_dash():
    """Figure 4 of the paper has ten."""
    lines = plotting.logits_walk([0.0, 1.0], torch.rand(2, 10), 0).get_lines()
    assert len({(line.get_color(), dash(line)) for line in lines}) == 10


# --- In a notebook --------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Make an IPython without a history file, and put back what it changes."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    config = Config({"HistoryManager": {"enabled": False}})
    made = InteractiveShell.instance(config=config)
    yield made
    made.restore_sys_module_state()
    InteractiveShell.clear_instance()


@pytest.mark.usefixtures("shell")
def test_show_publishes_a_picture_with_its_words():
    ax = plotting.error_curves({'a "b" <c>': CURVE})
    words = alt_text(ax)
    with capture_output() as captured:
        show(ax, caption="Error & <eps>")
    (output,) = captured.outputs
    page = output.data["text/html"]
    assert set(output.data) == {"text/html", "text/plain"}
    assert output.data["text/plain"] == f"[figure] {words}"
    assert 'src="data:image/png;base64,iVBOR' in page
    escaped = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f'alt="{escaped.replace(chr(34), "&quot;")}"' in page
    assert "<figcaption>Error &amp; &lt;eps&gt;</figcaption>" in page
    assert captured.stdout == ""
    assert len(page) < 140_000
    assert plt.get_fignums() == []


@pytest.mark.usefixtures("shell")
def test_show_takes_a_whole_figure_and_leaves_the_caption_out():
    figure, axes = plt.subplots(1, 2)
    plotting.probability_bars(torch.tensor([0.2, 0.8]), 0, ax=axes[0])
    plotting.probability_bars(torch.tensor([0.6, 0.4]), 0, ax=axes[1])
    with capture_output() as captured:
        show(figure)
    page = captured.outputs[0].data["text/html"]
    assert "figcaption" not in page
    assert page.count("<img") == 1
    assert "highest 1 with 80 %" in page
    assert "highest 0 with 60 %" in page


@pytest.mark.usefixtures("shell")
def test_show_names_the_kind_of_picture_it_sends():
    with capture_output() as captured:
        show(plotting.digits(make_digits(1)), kind="jpeg")
    assert 'src="data:image/jpeg;base64,/9j/' in captured.outputs[0].data["text/html"]


def test_a_figure_without_words_is_refused():
    figure, ax = plt.subplots()
    ax.plot([0, 1])
    for what in (figure, ax):
        with pytest.raises(ValueError, match=r"no alt text.*describe"):
            show(what)
