"""Interactive pictures: thin ipywidgets over pure functions.

A lesson writes a function (values) -> Axes, calls it once in an ordinary cell, and hands it to
`explore`. The pictures are drawn once and kept, so that a key press only swaps two images, and a
function that raises for any value of a control does so while the cell runs, where tests see it.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advlearn._validation import check_callable
from advlearn.plotting import alt_text, render

Picture = Callable[..., Axes | Figure]


class Explorer:
    """A picture with one slider for each argument; see `explore`."""

    def __init__(self, picture: Picture, controls: dict[str, Sequence[Any]]) -> None:
        import ipywidgets

        self._picture = picture
        self._frames: dict[tuple[Any, ...], str] = {}
        self.sliders = {
            name: ipywidgets.SelectionSlider(
                options=[(_say(value), value) for value in values],
                value=values[0],
                description=name.replace("_", " "),
                layout=ipywidgets.Layout(width="420px", max_width="100%"),
            )
            for name, values in controls.items()
        }
        self.screen = ipywidgets.HTML()
        self.view = ipywidgets.VBox([*self.sliders.values(), self.screen])
        first = tuple(values[0] for values in controls.values())
        # Each control's whole range, the others at rest: errors surface here and not in a callback.
        for place, values in enumerate(controls.values()):
            for value in values:
                self.frame((*first[:place], value, *first[place + 1 :]))
        for slider in self.sliders.values():
            slider.observe(self._update, names="value")
        self._update()

    def frame(self, values: tuple[Any, ...]) -> str:
        """Return the HTML of the picture at these values, drawn once."""
        if values not in self._frames:
            figure = self._picture(**dict(zip(self.sliders, values, strict=True)))
            said = alt_text(figure)
            image = base64.b64encode(render(figure, dpi=80)).decode()
            if not said:
                raise ValueError(
                    "picture has no alt text. Draw it with advlearn.plotting or use describe."
                )
            words = html.escape(said)
            self._frames[values] = (
                f'<img style="max-width:100%" alt="{words}" '
                f'src="data:image/png;base64,{image}"><p role="status">{words}</p>'
            )
        return self._frames[values]

    def _update(self, _: object = None) -> None:
        values = tuple(slider.value for slider in self.sliders.values())
        self.screen.value = self.frame(values)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)  # type: ignore[no-untyped-call]


def _say(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def explore(picture: Picture, /, **controls: Sequence[Any]) -> Explorer:
    """Return a picture with one slider for each control, moved by mouse or by arrow keys.

    Args:
        picture: (name=value, ...) -> Axes or Figure, drawn with `advlearn.plotting`; the same
            values always give the same picture.
        **controls: name of an argument -> the values that its slider stops at, two at least.

    Raises:
        TypeError: `picture` cannot be called.
        ValueError: a control has fewer than two values, or repeats one.
        Exception: whatever `picture` raises at any stop of a slider.

    Example:
        >>> from advlearn.plotting import functions
        >>> explorer = explore(lambda end: functions({"v": lambda v: v}, 0, end), end=[1.0, 2.0])
        >>> explorer.sliders["end"].value = 2.0
        >>> "goes from 0 to 2" in explorer.screen.value
        True
    """
    check_callable(picture, "picture")
    if not controls:
        raise ValueError("explore needs at least one control, such as eps=[0.0, 0.1, 0.2].")
    for name, values in controls.items():
        stops = sorted(values)
        if len(stops) < 2 or any(a == b for a, b in pairwise(stops)):
            raise ValueError(f"{name} needs two or more different values, got {list(values)}.")
    return Explorer(picture, controls)
