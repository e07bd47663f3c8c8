"""Interactive pictures: one control for each argument of a pure function.

A lesson writes a function (values) -> Axes, calls it once in an ordinary cell, and hands it to
`explore`. The pictures are drawn once and kept, in the kernel and in the page: a key press only
swaps two images, and the kernel is asked for none that the page has. A function that raises for any
value of a control does so while the cell runs, where tests see it.

Numbers are chosen on a slider; names, of a network say, from a list. The controls are the browser's
own, each with its name and its value as text: the sliders of ipywidgets tell a screen reader the
number of the stop, and no name.
"""

from __future__ import annotations

import base64
import html
import secrets
from collections.abc import Callable, Sequence
from itertools import combinations
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advlearn._validation import check_callable
from advlearn.plotting import alt_text, caption_text, render

Picture = Callable[..., Axes | Figure]
Place = tuple[int, ...]  # for each control, the number of its stop


PLACEHOLDER = "[interactive picture: run this cell to move it]"
STILL = "advlearn-still"  # the class of the picture that is shown where the kernel is gone
_LIVE = ":is(.advlearn-explorer, .advlearn-playground)"  # the classes of what takes its place
# A saved notebook holds no more of the controls than their name: JupyterLab says "model not found"
# in their place. The first rule hides that. The other one hides the still picture beside live ones.
_HIDING = f"""\
.jp-OutputArea-child:has(.{STILL}) + .jp-OutputArea-child:not(:has({_LIVE})),
.jp-OutputArea-child:has(.{STILL}):has(+ .jp-OutputArea-child {_LIVE})
{{ display: none }}"""


class Frame(NamedTuple):
    """A drawn picture, its alt text, and the words below it."""

    alt: str
    words: str
    png: bytes


class View(anywidget.AnyWidget):
    """What the page knows: the controls, their places, and the pictures that were drawn first."""

    _esm = Path(__file__).with_name("widgets.js")
    _css = Path(__file__).with_name("widgets.css")
    controls: traitlets.List[Any] = traitlets.List().tag(
        sync=True
    )  # {"name", "kind", "stops"}, the stops as text
    place = traitlets.List(traitlets.Int()).tag(sync=True)
    frames: traitlets.List[Any] = traitlets.List().tag(sync=True)  # `Frame`s, each with its "place"
    still = traitlets.Unicode().tag(sync=True)  # marks the picture that the live one replaces

    def __repr__(self) -> str:
        return PLACEHOLDER  # where the notebook is not trusted, or the program knows no widgets


class Explorer:
    """A picture with one control for each argument; see `explore`."""

    def __init__(self, picture: Picture, controls: dict[str, Sequence[Any]]) -> None:
        self._picture = picture
        self._stops = {name: list(values) for name, values in controls.items()}
        self._frames: dict[Place, Frame] = {}
        # A slider starts in the middle, where there is more to be seen than at its end.
        numbers = {name: all(map(_is_number, values)) for name, values in self._stops.items()}
        rest = tuple(len(self._stops[name]) // 2 if numbers[name] else 0 for name in self._stops)
        # Each control's whole range, the others at rest: errors surface here and not in a callback.
        places = [
            (*rest[:number], stop, *rest[number + 1 :])
            for number, stops in enumerate(self._stops.values())
            for stop in range(len(stops))
        ]
        for place in places:
            self._frame(place)
        self.view = View(
            controls=[
                {
                    "name": name.replace("_", " "),
                    "kind": "slider" if numbers[name] else "list",
                    "stops": [_say(value) for value in stops],
                }
                for name, stops in self._stops.items()
            ],
            place=list(rest),
            still=secrets.token_hex(8),
            frames=[{"place": list(at), **frame._asdict()} for at, frame in self._frames.items()],
        )
        self.view.on_msg(self._answer)

    @property
    def values(self) -> dict[str, Any]:
        """The value of each control."""
        stops = zip(self._stops.items(), self.view.place, strict=True)
        return {name: values[stop] for (name, values), stop in stops}

    def move(self, **values: Any) -> None:
        """Move controls to these values, as a hand on the page would.

        Raises:
            ValueError: a control has no such value.
            KeyError: there is no such control.
        """
        chosen = self.values | values
        self.view.place = [self._stops[name].index(value) for name, value in chosen.items()]

    @property
    def frame(self) -> Frame:
        """The picture at the present values, and its alt text."""
        return self._frame(tuple(self.view.place))

    def _frame(self, place: Place) -> Frame:
        """Draw the picture of a place, once."""
        if place not in self._frames:
            chosen = zip(self._stops.items(), place, strict=True)
            figure = self._picture(**{name: stops[stop] for (name, stops), stop in chosen})
            alt, words, png = alt_text(figure), caption_text(figure), render(figure)
            if not alt:
                raise ValueError(
                    "picture has no alt text. Draw it with advlearn.plotting or use describe."
                )
            self._frames[place] = Frame(alt, words, png)
        return self._frames[place]

    def _answer(self, _: object, question: dict[str, Any], __: object) -> None:
        """Send the page a picture that it lacks."""
        place = tuple(question["place"])
        try:
            frame = self._frame(place)
        except (
            Exception
        ) as error:  # nobody reads a callback's traceback: say it in the picture's place
            alt = f"This picture cannot be drawn: {type(error).__name__}: {error}"
            frame = Frame(alt, alt, b"")
        message = {"place": list(place), "alt": frame.alt, "words": frame.words}
        self.view.send(message, [frame.png])

    def _ipython_display_(self) -> None:
        show_with_still(self.view, self.frame, "Run this cell to move the picture.")


def show_with_still(view: anywidget.AnyWidget, frame: Frame, remedy: str) -> None:
    """Display a live view, and for a saved notebook without its kernel a picture in its place.

    Args:
        view: its `still` marks the picture that its page hides.
        frame: what the picture is.
        remedy: a sentence below it, how to have the live view.
    """
    from IPython.display import display

    alt, words = html.escape(frame.alt), html.escape(frame.words)
    png = base64.b64encode(frame.png).decode()
    shown = (
        f'<figure class="{STILL}" data-still="{view.still}" style="margin:0">'
        f"<style>{_HIDING}</style>"
        f'<img style="max-width:100%;height:auto" alt="{alt}" '
        f'src="data:image/png;base64,{png}">'
        f"<figcaption>{words} {html.escape(remedy)}</figcaption></figure>"
    )
    # Two outputs: JupyterLab shows the live picture of a bundle, or its error, and never both.
    still = {"text/html": shown, "text/plain": f"[figure] {frame.alt}"}
    display(still, raw=True)  # type: ignore[no-untyped-call]
    display(view)  # type: ignore[no-untyped-call]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _say(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def explore(picture: Picture, /, **controls: Sequence[Any]) -> Explorer:
    """Return a picture with one control for each argument, moved by mouse or by arrow keys.

    Where all values of a control are numbers it is a slider, which starts in the middle; else a
    list to choose from, which starts with its first entry.

    Args:
        picture: (name=value, ...) -> Axes or Figure, drawn with `advlearn.plotting`; the same
            values always give the same picture.
        **controls: name of an argument -> the values that its control stops at, two at least.

    Raises:
        TypeError: `picture` cannot be called.
        ValueError: a control has fewer than two values, or repeats one.
        Exception: whatever `picture` raises at any stop of a control.

    Example:
        >>> from advlearn.plotting import functions
        >>> explorer = explore(lambda end: functions({"v": lambda v: v}, 0, end), end=[1.0, 2.0])
        >>> explorer.move(end=2.0)
        >>> "goes from 0 to 2" in explorer.frame.alt
        True
    """
    check_callable(picture, "picture")
    if not controls:
        raise ValueError("explore needs at least one control, such as eps=[0.0, 0.1, 0.2].")
    for name, values in controls.items():
        if len(values) < 2 or any(a == b for a, b in combinations(values, 2)):
            raise ValueError(f"{name} needs two or more different values, got {list(values)}.")
    return Explorer(picture, controls)
