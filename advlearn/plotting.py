"""Every figure of the course: (data, *, ax=None) -> Axes.

Each function draws on one Axes and leaves there a description, the alt text, which
`show` publishes with the picture for readers who do not see it. Colours are those of Okabe and Ito,
and lines also differ by dash and marker, so that figures hold in grey.
"""

from __future__ import annotations

import base64
import html
import io
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from advlearn._quote import in_figure
from advlearn._validation import (
    check_bounds,
    check_callable,
    check_choice,
    check_count,
    check_images,
    check_number,
)
from advlearn.evaluation import Bracket
from advlearn.metrics import ErrorCurve, TransferMatrix
from advlearn.recipe import History

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
# A line needs a contrast of 3 with white. Yellow is left out; orange and sky are darkened as far as
# it takes, and come last.
OCHRE, AZURE = "#C08400", "#4798C5"
LINES = (BLUE, VERMILION, GREEN, PURPLE, BLACK, OCHRE, AZURE)
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (2, 4)), (0, (8, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def describe(ax: Axes, text: str, *, caption: str | None = None) -> Axes:
    """Keep `text` as the alt text of `ax`, and what stands below it for those who see it.

    Args:
        ax: where it is drawn.
        text: what is drawn, for readers who do not see it.
        caption: what the picture shows now, in a sentence; empty where the picture says it itself.
            None takes the alt text.
    """
    _require(ax, "ax", Axes, "of matplotlib")
    _require(text, "text", str, "that says what is drawn")
    ax._advlearn_alt = text  # type: ignore[attr-defined]
    ax._advlearn_caption = text if caption is None else caption  # type: ignore[attr-defined]
    return ax


def alt_text(figure: Figure | Axes) -> str:
    """Return what the axes of a figure say of themselves, in reading order.

    Example:
        >>> alt_text(digits(torch.zeros(2, 1, 4, 4), titles=["a", "b"]))
        '2 images: a; b.'
    """
    _require(figure, "figure", (Figure, Axes), "of matplotlib")
    axes = [figure] if isinstance(figure, Axes) else figure.axes
    return " ".join(ax._advlearn_alt for ax in axes if hasattr(ax, "_advlearn_alt"))


def caption_text(figure: Figure | Axes) -> str:
    """Return the captions of the axes of a figure, in reading order; the alt text if all are empty.

    Example:
        >>> caption_text(probability_bars(torch.tensor([0.1, 0.9]), 0))
        'The answer is 1 with 90 %. The true class, 0, has 10 %.'
        >>> caption_text(digits(torch.zeros(2, 1, 4, 4), titles=["a", "b"]))
        '2 images: a; b.'
    """
    alt = alt_text(figure)
    axes = [figure] if isinstance(figure, Axes) else figure.axes
    captions = [getattr(ax, "_advlearn_caption", "") for ax in axes]
    return " ".join(filter(None, captions)) or alt


def render(
    figure: Figure | Axes,
    dpi: int = 100,
    kind: str = "png",
    *,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return a figure as a small "png" (or "jpeg", for photographs) file, and close it.

    Texts of `metadata` are kept in a "png".
    """
    _require(figure, "figure", (Figure, Axes), "of matplotlib")
    check_number(dpi, "dpi", low=0.0, open_low=True)
    check_choice(kind, "kind", ("png", "jpeg"))
    # An Axes may lie on a part of a figure (SubFigure); `figure` of that part is the whole, and of
    # the whole itself. `get_figure(root=True)` says so too, but only since matplotlib 3.10.
    part = figure.figure if isinstance(figure, Axes) else figure
    assert part is not None, "an Axes always belongs to a figure"
    whole = part.figure
    buffer = io.BytesIO()
    # The same figure must give the same bytes, so no software name and no date.
    rest = (
        {"metadata": {"Software": None, **(metadata or {})}}
        if kind == "png"
        else {"pil_kwargs": {"quality": 85}}
    )
    whole.savefig(buffer, format=kind, dpi=dpi, bbox_inches="tight", **rest)
    plt.close(whole)
    return buffer.getvalue()


def show(figure: Figure | Axes, caption: str = "", *, kind: str = "png", dpi: int = 100) -> None:
    """Display a figure in a notebook, with its alt text and a caption, and close it.

    The picture travels inside the HTML, so it shows in JupyterLab, Colab and the book alike, and a
    screen reader finds the description.

    Args:
        figure: a figure, or the one Axes of a figure.
        caption: one sentence under the picture.
        kind: "png", or "jpeg" where photographs would make a PNG large.
        dpi: dots per inch; more for a picture that will be shown large.

    Raises:
        ValueError: no Axes of the figure has an alt text, or `kind` is neither of the two.
    """
    from IPython.display import display

    alt = alt_text(figure)
    if not alt:
        raise ValueError("figure has no alt text. Draw it with advlearn.plotting or use describe.")
    picture = base64.b64encode(render(figure, dpi, kind)).decode()
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    bundle = {
        "text/html": f'<figure style="margin:0"><img style="max-width:100%;height:auto" '
        f'alt="{html.escape(alt)}" src="data:image/{kind};base64,{picture}">{below}</figure>',
        "text/plain": f"[figure] {alt}",
    }
    display(bundle, raw=True)  # type: ignore[no-untyped-call]


def _require(value: object, name: str, kind: type | tuple[type, ...], what: str) -> None:
    """Require an argument of a kind."""
    if not isinstance(value, kind):
        kinds = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise TypeError(f"{name} must be a {kinds} {what}, got {type(value).__name__}.")


def _texts(values: Sequence[str] | None, name: str, count: int, what: str) -> None:
    """Require one text for each image or class, or None."""
    if values is None:
        return
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(
            f"{name} must be a list of strings, one for each {what}, got "
            f"{values if isinstance(values, str) else list(values)!r:.60}. For numbers pass "
            "[str(number) for number in numbers]."
        )
    if len(values) != count:
        raise ValueError(
            f"{name} must have one string for each {what}: got {len(values)} for {count}."
        )


def _values(values: Any, name: str) -> list[float]:
    """Return a sequence, an array or a tensor of numbers as floats; none may be missing."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    shape = tuple(np.shape(values)) if hasattr(values, "shape") else None
    if isinstance(values, str) or (shape is not None and len(shape) != 1):
        got = f"shape {shape}" if shape is not None else f"{values!r:.60}"
        raise ValueError(f"{name} must be a sequence of numbers, of shape (E,), got {got}.")
    try:
        numbers = [float(v.detach() if isinstance(v, Tensor) else v) for v in values]
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a sequence of real numbers: {error}.") from error
    if not numbers:
        raise ValueError(f"{name} is empty. Pass at least one number.")
    return numbers


def _index(value: object, name: str, count: int) -> int:
    """Return the number of a class, in [0, count)."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(f"{name} must be a whole number, got {value!r:.60}.") from error
    if not 0 <= number < count:
        raise ValueError(f"{name} must be from 0 to {count - 1}, one of the classes, got {number}.")
    return number


def _images(x: Any, channels: tuple[int, ...]) -> Tensor:
    """Return images (N, C, H, W) to be drawn: detached, on the CPU, C one of `channels`."""
    check_images(x, None)
    shape, wanted = tuple(x.shape), " or ".join(map(str, channels))
    if len(shape) != 4 or shape[1] not in channels:
        remedy = ""
        if len(shape) == 3:
            remedy = " Pass x.unsqueeze(1) for N grey images, x.unsqueeze(0) for one image."
        elif len(shape) == 2:
            remedy = " Pass x.reshape(N, 1, H, W)."
        elif len(shape) == 4 and shape[-1] in channels:
            remedy = " The channels are last: pass x.permute(0, 3, 1, 2)."
        elif len(shape) == 4:
            remedy = " Pass x[:, :1] for the first channel, x.flatten(0, 1).unsqueeze(1) for each."
        raise ValueError(f"x must be (N, {wanted}, H, W), got {shape}.{remedy}")
    return x.detach().cpu()  # type: ignore[no-any-return]


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        _require(ax, "ax", Axes, "of matplotlib, one of what plt.subplots gives, or None")
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def _styles() -> Iterator[tuple[str, object, str]]:
    """Yield a colour, a dash and a marker; after seven, each colour meets another dash."""
    for index in count():
        other = (index + index // len(LINES)) % len(_DASHES)
        yield LINES[index % len(LINES)], _DASHES[other], _MARKERS[other]


def _mosaic(x: Tensor, columns: int, gap: float) -> np.ndarray:
    """Lay images (N, C, H, W) out on one sheet, row by row, one pixel apart."""
    count, channels, height, width = x.shape
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), gap)
    for index, image in enumerate(x.permute(0, 2, 3, 1).double().numpy()):
        top, left = (index // columns) * (height + 1), (index % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = image
    return sheet[:, :, 0] if channels == 1 else sheet


def _sheet(
    x: Tensor,
    titles: Sequence[str] | None,
    columns: int | None,
    ax: Axes | None,
    style: dict[str, object],
) -> tuple[Axes, object]:
    """Draw a mosaic with a title over each image; share it between photographs and maps."""
    _texts(titles, "titles", len(x), "image")
    columns = min(len(x), 10) if columns is None else check_count(columns, "columns")
    rows = math.ceil(len(x) / columns)
    lines = max((title.count("\n") + 1 for title in titles), default=1) if titles else 0
    side = min(1.9, 7.5 / columns)  # inches for one image: large when they are few
    ax = _axes(ax, (side * columns + 0.2, (side + 0.2 * lines) * rows + 0.1))
    height, width = x.shape[2:]
    if titles and rows > 1:
        # Room for the titles above each row.
        band = 0.16 * height * lines + 0.08 * height
        padding = math.ceil(band)
        x = torch.nn.functional.pad(x, (0, 0, padding, 0), value=float(style["gap"]))  # type: ignore[arg-type]
    sheet = _mosaic(x, columns, float(style["gap"]))  # type: ignore[arg-type]
    drawn = ax.imshow(sheet, **{k: v for k, v in style.items() if k != "gap"})  # type: ignore[arg-type]
    for index, title in enumerate(titles or ()):
        top = (index // columns) * (x.shape[2] + 1) + (x.shape[2] - height)
        left = (index % columns) * (width + 1)
        middle, above = left + width / 2, top - 0.04 * height
        ax.text(middle, above, in_figure(title), ha="center", va="bottom", fontsize=9)
    ax.set_axis_off()
    return ax, drawn


def _count(x: Tensor, kind: str) -> str:
    return f"{len(x)} {kind}{'' if len(x) == 1 else 's'}"


def _spoken(titles: Sequence[str] | None) -> str:
    return ": " + "; ".join(t.replace("\n", ", ") for t in titles) if titles else ""


def digits(
    x: Tensor,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    ax: Axes | None = None,
) -> Axes:
    """Draw images side by side, in grey or in colour; values outside `bounds` are cut off.

    Args:
        x: (N, 1 or 3, H, W), floating and finite; it may track gradients.
        titles: one for each image.
        columns: images in a row; at most ten when None.
        bounds: the values of black and white.
        ax: where to draw.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Example:
        >>> digits(torch.rand(3, 1, 8, 8)).get_images()[0].get_array().shape
        (8, 26)
    """
    box = check_bounds(bounds)
    if box is None:
        raise TypeError(
            "bounds must be Bounds(low, high), the values of black and white, got None."
        )
    x = _images(x, (1, 3))
    style: dict[str, object] = {"cmap": "gray", "vmin": box[0], "vmax": box[1], "gap": box[1]}
    shown = x
    if x.shape[1] == 3:  # matplotlib takes colours from 0 to 1, whatever vmin and vmax say
        shown, style["gap"] = (x.clamp(*box) - box[0]) / (box[1] - box[0]), 1.0
    ax, _ = _sheet(shown, titles, columns, ax, style)
    return describe(ax, f"{_count(x, 'image')}{_spoken(titles)}.", caption="")


def before_after(
    x: Tensor,
    moved: Tensor,
    before: Sequence[str],
    after: Sequence[str],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw images, what was added to them, and the sum, with large words over both ends.

    The change is magnified until its largest entry is black or white, and shifted to grey.

    Args:
        x: (N, 1 or 3, H, W), pixels in [0, 1]: one row of the picture for each.
        moved: the images after the change, of x's shape.
        before: what is said of each image of x; a second line is written less boldly.
        after: what is said of each image of moved.
        ax: where to draw.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Example:
        >>> x = torch.full((1, 1, 4, 4), 0.5)
        >>> alt_text(before_after(x, x + 0.01, ["cat, 80 %"], ["dog, 90 %"]))
        'An image: cat, 80 %. The change, magnified 50 times. The changed image: dog, 90 %.'
    """
    x, moved = _images(x, (1, 3)), _images(moved, (1, 3))
    if moved.shape != x.shape:
        raise ValueError(
            f"moved must have x's shape {tuple(x.shape)}, got {tuple(moved.shape)}. Pass the same "
            "images before and after."
        )
    _texts(before, "before", len(x), "image")
    _texts(after, "after", len(x), "image")
    change = moved - x
    largest = float(change.abs().max())
    factor = 0.5 / largest if largest else 1.0
    # Of an eps beyond 0.5 the change is drawn smaller than it is.
    scale = f"{factor:.0f}" if factor >= 1 else f"{factor:.2g}"
    times = f"magnified {scale} times" if largest else "none at all"
    count, channels, height, width = x.shape
    gap, band = math.ceil(width / 6), math.ceil(0.27 * height)  # between columns; over each row
    sheet = torch.ones(count, channels, band + height, 3 * width + 2 * gap)
    for column, images in enumerate((x, factor * change + 0.5, moved)):
        left = column * (width + gap)
        sheet[:, :, band:, left : left + width] = images.clamp(0, 1)
    drawn = sheet.permute(0, 2, 3, 1).flatten(0, 1).numpy()
    ax = _axes(ax, (8.2, 8.2 * count * (band + height) / (3 * width + 2 * gap) + 0.1))
    ax.imshow(drawn[:, :, 0] if channels == 1 else drawn, cmap="gray", vmin=0, vmax=1)
    style: dict[str, Any] = {"ha": "center", "va": "bottom", "color": BLACK}
    said = []
    for row, (first, last) in enumerate(zip(before, after, strict=True)):
        top = row * (band + height) + band  # of the images
        for column, text in enumerate((first, f"the change\n{times}", last)):
            middle, above = column * (width + gap) + width / 2, top - 0.02 * height
            head, _, rest = in_figure(text).partition("\n")
            if rest:
                ax.text(middle, above, rest, fontsize=14, **style)
                above -= 0.12 * height
            large = min(16.0, 340 / max(1, len(head)))  # a long name does not run into the next
            ax.text(middle, above, head, fontsize=large, weight="bold", **style)
        for column, mark in enumerate("+=", start=1):
            middle = column * (width + gap) - gap / 2
            ax.text(middle, top + height / 2, mark, fontsize=22, ha="center", va="center")
        old, new = (text.replace("\n", ", ") for text in (first, last))
        said.append(f"An image: {old}. The change, {times}. The changed image: {new}.")
    ax.set_axis_off()
    return describe(ax, " ".join(said))


def signed(
    x: Tensor,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    label: str = "value",
    ax: Axes | None = None,
) -> Axes:
    """Draw maps of signed numbers (weights, perturbations, filters) around a neutral zero.

    Blue is negative, red positive, white zero; all maps share one scale.

    Args:
        x: (N, 1, H, W), floating and finite; it may track gradients.
        titles, columns, ax: as for `digits`.
        label: what the numbers are, for the colour bar.

    Example:
        >>> "from -2 to 2" in alt_text(signed(torch.tensor([[[[-2.0, 1.0]]]]), label="weight"))
        True
    """
    x = _images(x, (1,))
    size = float(x.abs().max()) or 1.0
    # Grey lines part the maps. Between rows with titles the titles do it, and no grey bands.
    full = len(x) % (columns or min(len(x), 10) or 1) == 0
    gap = math.nan if full and titles is None else 0.0
    colours = plt.colormaps["RdBu_r"].with_extremes(bad="0.7")
    style = {"cmap": colours, "vmin": -size, "vmax": size, "gap": gap}
    ax, drawn = _sheet(x, titles, columns, ax, style)
    bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.8, pad=0.02)  # type: ignore[arg-type]
    bar.set_label(label)
    ends = f"from {-size:.2g} to {size:.2g}"
    return describe(ax, f"{_count(x, 'map')} of {label}, {ends}{_spoken(titles)}.", caption="")


def lines(
    x: Sequence[float] | Tensor,
    curves: Mapping[str, Sequence[float] | Tensor],
    *,
    xlabel: str,
    ylabel: str,
    markers: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw named curves over one axis.

    Args:
        x: E values.
        curves: name -> E values.
        xlabel, ylabel: with the unit.
        markers: mark each measured point; leave out for functions drawn densely.
        ax: where to draw.

    Raises:
        TypeError, ValueError: an argument is empty or of the wrong kind or length.

    Example:
        >>> ax = lines([0, 1], {"square": [0, 1]}, xlabel="v", ylabel="v²")
        >>> alt_text(ax)
        'v² against v from 0 to 1: square goes from 0 to 1.'
    """
    places = _values(x, "x")
    if not all(map(math.isfinite, places)):
        raise ValueError("x holds NaN or infinity. Leave those points out.")
    _require(curves, "curves", Mapping, "of names to values")
    if not curves:
        raise ValueError("curves is empty. Pass at least one: a name and its values.")
    drawn = {name: _values(y, f"curves[{name!r}]") for name, y in curves.items()}
    for name, values in drawn.items():
        if len(values) != len(places):
            raise ValueError(
                f"curves[{name!r}] must have a value for each of the {len(places)} in x, got "
                f"{len(values)}."
            )
    ax = _axes(ax, (6.0, 3.4))
    parts = []
    for (name, values), (colour, dash, marker) in zip(drawn.items(), _styles(), strict=False):
        ax.plot(
            places,
            values,
            color=colour,
            linestyle=dash,
            marker=marker if markers else None,
            markersize=4,
            label=in_figure(name),
        )
        real = [value for value in values if not math.isnan(value)]
        parts.append(
            f"{name} goes from {real[0]:.3g} to {real[-1]:.3g}" if real else f"{name} has no values"
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    _tidy(ax)
    if len(curves) > 1:
        ax.legend(frameon=False, fontsize=9)
    ends = f"{places[0]:.3g} to {places[-1]:.3g}"
    short = ", ".join(part.replace(" goes from ", " from ", 1) for part in parts)
    head = f"{ylabel[:1].upper()}{ylabel[1:]} for {xlabel.partition(' (')[0]} from {ends}"
    alt = f"{ylabel} against {xlabel} from {ends}: {'; '.join(parts)}."
    return describe(ax, alt, caption=f"{head}: {short}.")


def _tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)


def _common_eps(curves: Mapping[str, ErrorCurve]) -> tuple[float, ...]:
    """Return the eps that all curves were measured at."""
    _require(curves, "curves", Mapping, "of names to what error_curve gave")
    for name, curve in curves.items():
        _require(curve, f"curves[{name!r}]", ErrorCurve, "from advlearn.metrics.error_curve")
    every = {curve.eps for curve in curves.values()}
    if len(every) != 1:
        raise ValueError(f"curves must be one or more over the same eps, got {len(every)} kinds.")
    return every.pop()


def error_curves(curves: Mapping[str, ErrorCurve], *, ax: Axes | None = None) -> Axes:
    """Draw the error rate against eps with its 95 % interval as a band.

    Args:
        curves: name -> `advlearn.metrics.error_curve(...)`.
        ax: where to draw.

    Example:
        >>> from advlearn.metrics import Rate
        >>> curve = ErrorCurve((0.0, 0.25), (Rate(2, 100), Rate(99, 100)), (0.6, 0.9), (0.9, 0.9))
        >>> "goes from 2 to 99" in alt_text(error_curves({"logistic": curve}))
        True
    """
    eps = _common_eps(curves)
    ax = lines(
        eps,
        {name: [100 * float(rate) for rate in c.errors] for name, c in curves.items()},
        xlabel="eps (pixel units; black is 0, white is 1)",
        ylabel="error (%)",
        markers=True,
        ax=ax,
    )
    for curve, (colour, _, _) in zip(curves.values(), _styles(), strict=False):
        ends = [rate.interval for rate in curve.errors]
        low, high = [100 * low for low, _ in ends], [100 * high for _, high in ends]
        ax.fill_between(curve.eps, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set_ylim(-3, 103)
    return ax


def confidence_curves(curves: Mapping[str, ErrorCurve], *, ax: Axes | None = None) -> Axes:
    """Draw the confidence over the mistakes against eps; a gap where there are no mistakes.

    Args:
        curves, ax: as for `error_curves`.

    Example:
        >>> from advlearn.metrics import Rate
        >>> curve = ErrorCurve((0.0, 0.25), (Rate(2, 100), Rate(99, 100)), (0.6, 0.9), (0.9, 0.9))
        >>> "from 60 to 90" in alt_text(confidence_curves({"logistic": curve}))
        True
    """
    eps = _common_eps(curves)
    ax = lines(
        eps,
        {name: [100 * v for v in c.confidence_on_errors] for name, c in curves.items()},
        xlabel="eps (pixel units; black is 0, white is 1)",
        ylabel="confidence on mistakes (%)",
        markers=True,
        ax=ax,
    )
    ax.set_ylim(-3, 103)
    return ax


def probability_bars(
    chances: Tensor, label: int, *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the probability of each class; the true one is hatched and its name framed.

    Args:
        chances: (K,), in [0, 1].
        label: the true class.
        names: one for each class; the numbers when None.
        ax: where to draw.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, shape or range.

    Example:
        >>> alt_text(probability_bars(torch.tensor([0.1, 0.9]), 0))
        'Probabilities of 2 classes: highest 1 with 90 %; the true class 0 has 10 %.'
    """
    shares = _values(chances, "chances")
    if not all(-1e-3 <= share <= 1 + 1e-3 for share in shares):  # NaN fails too
        raise ValueError(
            f"chances must be probabilities, in [0, 1], got {shares!r:.60}. "
            "advlearn.models.probabilities makes them from logits."
        )
    label = _index(label, "label", len(shares))
    _texts(names, "names", len(shares), "class")
    if names is not None and len(set(map(in_figure, names))) < len(names):
        raise ValueError(
            f"names must differ: matplotlib draws one bar for each, got {names!r:.60}."
        )
    ax = _axes(ax, (4.0, 2.4))
    names = [str(k) for k in range(len(shares))] if names is None else names
    values = [100 * share for share in shares]
    bars = ax.bar(
        [in_figure(name) for name in names], values, color=SKY, edgecolor=BLACK, linewidth=0.6
    )
    bars[label].set(facecolor=ORANGE, hatch="//")
    ax.set(xlabel="class (the true one is framed)", ylabel="probability (%)", ylim=(0, 103))
    frame = {"boxstyle": "round,pad=0.2", "facecolor": ORANGE, "edgecolor": BLACK, "linewidth": 0.6}
    ax.get_xticklabels()[label].set_bbox(frame)  # seen also where its bar has no height
    ax.spines[["top", "right"]].set_visible(False)
    best = max(range(len(values)), key=values.__getitem__)
    answer, truth = f"{names[best]} with {values[best]:.0f} %", f"{values[label]:.0f} %"
    right = f"The answer is {answer}, and it is right."
    wrong = f"The answer is {answer}. The true class, {names[label]}, has {truth}."
    return describe(
        ax,
        f"Probabilities of {len(values)} classes: highest {answer}; "
        f"the true class {names[label]} has {truth}.",
        caption=right if best == label else wrong,
    )


def logits_walk(
    eps: Sequence[float] | Tensor, logits: Tensor, label: int, *, ax: Axes | None = None
) -> Axes:
    """Draw each logit along a walk through input space; the true class is thick.

    Args:
        eps: (E,) positions.
        logits: (E, K), from `advlearn.metrics.logits_along`.
        label: the true class.
        ax: where to draw.

    Source:
        Figure 4 of the paper.

    Example:
        >>> ax = logits_walk([-1.0, 0.0, 1.0], torch.tensor([[0.0, 2], [1, 0], [0, 2]]), 0)
        >>> alt_text(ax)
        'The 2 logits as eps goes from -1 to 1: the true class 0 is highest at 1 of 3 points.'
    """
    places = _values(eps, "eps")
    check_images(logits, None, "logits")
    logits = logits.detach().cpu()
    if logits.dim() != 2 or len(logits) != len(places):
        raise ValueError(
            f"logits must be (E, K) = ({len(places)}, K), one row for each eps, got "
            f"{tuple(logits.shape)}."
        )
    label = _index(label, "label", logits.shape[1])
    ax = _axes(ax, (6.0, 3.6))
    for k, (colour, dash, _) in zip(range(logits.shape[1]), _styles(), strict=False):
        thick = 3.0 if k == label else 1.2
        ax.plot(places, logits[:, k].tolist(), color=colour, ls=dash, lw=thick, label=str(k))
    ax.set(xlabel="eps along the direction", ylabel="logit")
    _tidy(ax)
    ax.legend(
        title="class",
        frameon=False,
        ncols=2,
        fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    right = f"at {int((logits.argmax(1) == label).sum())} of {len(logits)} points."
    return describe(
        ax,
        f"The {logits.shape[1]} logits as eps goes from {places[0]:g} to {places[-1]:g}: "
        f"the true class {label} is highest {right}",
        caption=f"The true class, {label}, has the highest logit {right}",
    )


def transfer_map(matrix: TransferMatrix, *, ax: Axes | None = None) -> Axes:
    """Draw a transfer matrix: rows crafted on, columns fed to; the rates are written in.

    Args:
        matrix: from `advlearn.metrics.transfer_matrix`.
        ax: where to draw.

    Example:
        >>> from advlearn.metrics import Rate
        >>> matrix = TransferMatrix(("a", "b"), ((Rate(9, 10), Rate(4, 10)),) * 2)
        >>> "crafted on a, fed to b: 40 %" in alt_text(transfer_map(matrix))
        True
    """
    _require(matrix, "matrix", TransferMatrix, "from advlearn.metrics.transfer_matrix")
    count = len(matrix.names)
    ax = _axes(ax, (1.1 * count + 2, 0.9 * count + 1.2))
    values = np.array([[100 * float(rate) for rate in row] for row in matrix.errors])
    ax.imshow(values, cmap="Greys", vmin=0, vmax=100)
    parts = []
    for i, source in enumerate(matrix.names):
        for j, target in enumerate(matrix.names):
            ink = "white" if values[i, j] > 61 else "black"  # a contrast of 4.5 at least
            ax.text(j, i, f"{values[i, j]:.0f}", ha="center", va="center", color=ink)
            parts.append(f"crafted on {source}, fed to {target}: {values[i, j]:.0f} %")
    names = [in_figure(name) for name in matrix.names]
    ax.set_xticks(range(count), names, rotation=20)
    ax.set_yticks(range(count), names)
    ax.set(xlabel="fed to", ylabel="crafted on", title="error (%)")
    return describe(ax, f"Error of each model on each model's examples: {'; '.join(parts)}.")


def bracket(brackets: Bracket | Mapping[str, Bracket], *, ax: Axes | None = None) -> Axes:
    """Draw both ends of the error of one or several models: a bar each, from 0 to 100 %.

    From left to right: clean errors, what the attacks broke, what is neither broken nor proved, and
    what is proved to stand. Beside each bar stand the error under attack and the certified error.

    Args:
        brackets: from `advlearn.evaluation.evaluate`, or name -> such.
        ax: where to draw.

    Example:
        >>> from advlearn.metrics import Rate
        >>> one = Bracket(0.3, "fast", Rate(2, 100), Rate(10, 100), Rate(40, 100), "", (), {})
        >>> alt_text(bracket({"robust": one}))
        'Error between both ends: robust at eps 0.3, clean 2.0 %, at least 10.0 %, at most 40.0 %.'
    """
    named = brackets if isinstance(brackets, Mapping) else {"model": brackets}
    if not named:
        raise ValueError("brackets is empty. Pass one bracket at least.")
    for name, one in named.items():
        _require(one, f"brackets[{name!r}]", Bracket, "from advlearn.evaluation.evaluate")
    ax = _axes(ax, (7.0, 0.5 * len(named) + 1.3))
    sizes = {one.eps for one in named.values()}
    parts: dict[str, dict[str, Any]] = {
        "error without an attack": {"facecolor": BLUE},
        "broken by the attacks": {"facecolor": ORANGE, "hatch": "//"},
        "neither broken nor proved": {"facecolor": "white", "hatch": ".."},
        "proved to stand": {"facecolor": SKY},
    }
    said = []
    for place, (name, one) in enumerate(named.items()):
        low = 100 * float(one.attacked)
        high = 100.0 if one.certified is None else 100 * float(one.certified)
        ends = [0.0, 100 * float(one.clean), low, high, 100.0]
        for left, right, style in zip(ends, ends[1:], parts.values(), strict=False):
            ax.barh(place, right - left, left=left, edgecolor=BLACK, linewidth=0.6, **style)
        most = "?" if one.certified is None else f"{high:.1f}"
        ax.text(101.5, place, f"{low:.1f} to {most} %", va="center", fontsize=9)
        upper = "no upper end" if one.certified is None else f"at most {high:.1f} %"
        said.append(
            f"{name} at eps {one.eps:g}, clean {100 * float(one.clean):.1f} %, "
            f"at least {low:.1f} %, {upper}"
        )
    labels = [in_figure(n if len(sizes) == 1 else f"{n}\neps {o.eps:g}") for n, o in named.items()]
    ax.set_yticks(range(len(named)), labels)
    ax.invert_yaxis()
    at = f" at eps {sizes.pop():g}" if len(sizes) == 1 else ""
    ax.set(xlabel=f"share of the examples{at} (%)", xlim=(0, 100))
    ax.spines[["top", "right"]].set_visible(False)
    keys = [
        Patch(edgecolor=BLACK, linewidth=0.6, label=key, **style) for key, style in parts.items()
    ]
    ax.legend(
        handles=keys, frameon=False, ncols=2, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1)
    )
    return describe(ax, f"Error between both ends: {'; '.join(said)}.")


def history(run: History, columns: Sequence[str], *, ylabel: str, ax: Axes | None = None) -> Axes:
    """Draw columns of a training history against the epoch.

    Args:
        run: what `fit` returned.
        columns: names of columns.
        ylabel: what they measure.
        ax: where to draw.

    Example:
        >>> run = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
        >>> "from 0.5 to 0.25" in alt_text(history(run, ["loss"], ylabel="loss (nats)"))
        True
    """
    _require(run, "run", History, "as fit returns it")
    if not run.rows:
        raise ValueError("run has no epochs yet. Train at least one.")
    if isinstance(columns, str):
        raise TypeError(f"columns must be a list of names, got {columns!r}. Pass [{columns!r}].")
    curves = {column.replace("_", " "): run[column] for column in columns}
    ax = lines(run["epoch"], curves, xlabel="epoch", ylabel=ylabel, markers=True, ax=ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def functions(
    named: Mapping[str, Callable[[Tensor], Tensor]],
    low: float,
    high: float,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw functions of one variable, such as sign, softplus and the sigmoid, on [low, high].

    Args:
        named: name -> a function of a float64 tensor.
        low, high: the ends of the interval.
        ax: where to draw.

    Example:
        >>> "max(v, 0) goes from 0 to 2" in alt_text(functions({"max(v, 0)": torch.relu}, -2, 2))
        True
    """
    _require(named, "named", Mapping, "of names to functions")
    check_number(low, "low", high=check_number(high, "high"))
    v = torch.linspace(low, high, 401, dtype=torch.float64)
    values = {}
    for name, function in named.items():
        check_callable(function, f"named[{name!r}]")
        values[name] = function(v)
        shape = getattr(values[name], "shape", None)
        if shape != v.shape:
            raise ValueError(
                f"named[{name!r}] must give one value for each of its {len(v)}, got "
                f"{type(values[name]).__name__}{'' if shape is None else f' of {tuple(shape)}'}."
            )
    return lines(v, values, xlabel="v", ylabel="value", ax=ax)
