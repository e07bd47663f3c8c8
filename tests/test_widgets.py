"""The kernel's half of the widgets: what it draws, sends and answers. The page's: tests/browser."""

from __future__ import annotations

import base64
import html

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from advlearn.course.widgets import PLACEHOLDER, explore
from advlearn.plotting import describe, digits, functions, probability_bars


class Picture:
    """A picture that notes the values it was drawn for."""

    def __init__(self):
        self.drawn = []

    def __call__(self, **values):
        self.drawn.append(values)
        _, ax = plt.subplots(figsize=(1, 1))
        return describe(ax, f"Drawn for {values}.")


def sent(explorer):
    """Return the pictures that the page has from the start: place -> alt text."""
    return {tuple(frame["place"]): frame["alt"] for frame in explorer.view.frames}


def ask(explorer, *place):
    """Ask as the page does, and return what comes back: a message and one buffer."""
    answers = []
    explorer.view.send = lambda message, buffers: answers.append((message, buffers))
    explorer.view._handle_custom_msg({"place": list(place)}, [])
    ((message, (png,)),) = answers
    assert message["place"] == list(place)
    assert message["words"]
    return message["alt"], png


@pytest.fixture(autouse=True)
def no_figure_stays():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


def test_the_slider_reaches_both_ends_and_every_stop():
    picture, stops = Picture(), [0.0, 0.05, 0.1, 0.25]
    explorer = explore(picture, eps=stops)
    assert explorer.values == {"eps": 0.1}
    assert explorer.view.controls == [
        {"name": "eps", "kind": "slider", "stops": ["0", "0.05", "0.1", "0.25"]}
    ]
    for stop in (0.25, 0.0, 0.1, 0.05):
        explorer.move(eps=stop)
        assert explorer.view.place == [stops.index(stop)]
        assert explorer.frame.alt == f"Drawn for {{'eps': {stop}}}."
    explorer.view.place = [3]  # what a hand on the page does
    assert explorer.values == {"eps": 0.25}


def test_a_slider_starts_in_the_middle_and_a_list_with_its_first_entry():
    explorer = explore(Picture(), eps=[0.0, 0.1, 0.2, 0.3, 0.4], network=["plain", "trained"])
    assert explorer.values == {"eps": 0.2, "network": "plain"}


def test_a_saved_notebook_has_a_still_picture_beside_the_live_one(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda thing, raw=False: shown.append(thing))
    explorer = explore(Picture(), eps=[0.0, 0.1, 0.2], photo=["a <b>", "c"])
    explorer._ipython_display_()
    still, live = shown
    assert live is explorer.view
    assert repr(live) == PLACEHOLDER
    alt = "Drawn for {'eps': 0.1, 'photo': 'a <b>'}."
    assert html.escape(alt) in still["text/html"]
    assert base64.b64encode(explorer.frame.png).decode() in still["text/html"]
    assert f'data-still="{live.still}"' in still["text/html"]
    assert alt in still["text/plain"]
    other = explore(Picture(), eps=[0.0, 0.1]).view
    assert other.still != live.still


def test_the_words_below_are_a_caption():
    chances = {0.0: torch.tensor([0.9, 0.1]), 0.25: torch.tensor([0.2, 0.8])}

    def picture(eps):
        figure, axes = plt.subplots(1, 2)
        digits(torch.zeros(1, 1, 4, 4), titles=[f"eps {eps}"], ax=axes[0])
        probability_bars(chances[eps], 0, ax=axes[1])
        return figure

    explorer = explore(picture, eps=list(chances))
    assert explorer.frame.words == "The answer is 1 with 80 %. The true class, 0, has 20 %."
    assert explorer.frame.alt.startswith("1 image: eps 0.25. Probabilities of 2 classes")
    explorer.move(eps=0.0)
    assert explorer.frame.words == "The answer is 0 with 90 %, and it is right."


def test_a_value_between_the_stops_is_refused():
    explorer = explore(Picture(), eps=[0.0, 0.5])
    with pytest.raises(ValueError, match=r"0\.2 is not in list"):
        explorer.move(eps=0.2)
    with pytest.raises(KeyError, match="digit"):
        explorer.move(digit=3)
    assert explorer.values == {"eps": 0.5}


def test_each_picture_is_drawn_once():
    picture = Picture()
    explorer = explore(picture, eps=[0, 1, 2])
    assert sorted(values["eps"] for values in picture.drawn) == [0, 1, 2]
    for place in (1, 2, 1, 0, 2, 0):
        ask(explorer, place)
    assert len(picture.drawn) == 3


def test_the_page_has_from_the_start_what_one_move_reaches():
    picture = Picture()
    explorer = explore(picture, digit=[3, 7], eps=[0.0, 0.1, 0.2])
    assert len(picture.drawn) == 2 + 3 - 1, "each whole range with the other at rest"
    assert sent(explorer) == {
        (1, 0): "Drawn for {'digit': 7, 'eps': 0.0}.",
        (1, 1): "Drawn for {'digit': 7, 'eps': 0.1}.",
        (1, 2): "Drawn for {'digit': 7, 'eps': 0.2}.",
        (0, 1): "Drawn for {'digit': 3, 'eps': 0.1}.",
    }
    pictures = [frame["png"] for frame in explorer.view.frames]
    assert all(png.startswith(b"\x89PNG") for png in pictures)


def test_the_page_asks_for_the_rest():
    picture = Picture()
    explorer = explore(picture, digit=[3, 7], eps=[0.0, 0.1, 0.2])
    alt, png = ask(explorer, 0, 2)
    assert alt == "Drawn for {'digit': 3, 'eps': 0.2}."
    assert png.startswith(b"\x89PNG")
    assert len(picture.drawn) == 5


def test_a_later_picture_that_fails_says_so_in_its_place():
    """Nobody reads the traceback of a callback."""

    def picture(digit, eps):
        if digit == 3 and not eps:
            raise ZeroDivisionError("not for a three")
        return Picture()(digit=digit, eps=eps)

    explorer = explore(picture, digit=[3, 7], eps=[0.0, 0.1])
    alt, png = ask(explorer, 0, 0)
    assert alt == "This picture cannot be drawn: ZeroDivisionError: not for a three"
    assert png == b""
    assert ask(explorer, 0, 1)[1], "the others still can"


def test_a_picture_that_fails_at_the_last_stop_fails_when_it_is_made():
    def picture(digit, eps):
        if eps == 0.3:
            raise ZeroDivisionError("no picture at 0.3")
        return Picture()(digit=digit, eps=eps)

    with pytest.raises(ZeroDivisionError, match=r"no picture at 0\.3"):
        explore(picture, digit=[3, 7], eps=[0.0, 0.1, 0.3])


def test_a_picture_and_its_alt_text_belong_together():
    chances = {0.0: torch.tensor([0.9, 0.1]), 0.25: torch.tensor([0.2, 0.8])}
    explorer = explore(lambda eps: probability_bars(chances[eps], 0), eps=list(chances))
    explorer.move(eps=0.0)
    before = explorer.frame
    explorer.move(eps=0.25)
    after = explorer.frame
    assert "highest 0 with 90 %" in before.alt
    assert "highest 1 with 80 %; the true class 0 has 20 %" in after.alt
    assert before.png != after.png


def test_a_control_may_have_any_name_and_kind_of_values():
    explorer = explore(Picture(), picture=["one", "two"], eps_in_pixels=range(3))
    control = {"name": "eps in pixels", "kind": "slider", "stops": ["0", "1", "2"]}
    assert explorer.view.controls[1] == control
    explorer.move(picture="two", eps_in_pixels=2)
    assert explorer.frame.alt == "Drawn for {'picture': 'two', 'eps_in_pixels': 2}."


@pytest.mark.parametrize(
    ("values", "kind", "stops"),
    [
        (["plain", "trained"], "list", ["plain", "trained"]),
        ([False, True], "list", ["no", "yes"]),
        ([1, "many"], "list", ["1", "many"]),
        ([0, 0.5], "slider", ["0", "0.5"]),
        (list(np.array([0.25, 0.5], dtype=np.float32)), "slider", ["0.25", "0.5"]),
        (list(np.arange(2)), "slider", ["0", "1"]),
    ],
)
def test_names_are_chosen_from_a_list_and_numbers_on_a_slider(values, kind, stops):
    (control,) = explore(Picture(), a=values).view.controls
    assert (control["kind"], control["stops"]) == (kind, stops)


def test_a_figure_will_do_as_well_as_an_axes():
    explorer = explore(lambda v: Picture()(v=v).figure, v=[1, 2])
    assert explorer.frame.alt == "Drawn for {'v': 2}."


def test_the_page_gets_its_script_and_its_style():
    explorer = explore(Picture(), a=[1, 2])
    assert "export default { render }" in str(explorer.view._esm)
    assert "focus-visible" in str(explorer.view._css)
    for text in (explorer.view._esm, explorer.view._css):
        assert "http" not in str(text), "nothing is fetched from anywhere"


BAD = [
    (lambda: explore(None, eps=[0, 1]), TypeError, "picture must be callable"),
    (lambda: explore(Picture()), ValueError, "explore needs at least one control"),
    (lambda: explore(Picture(), eps=[]), ValueError, "eps needs two or more different values"),
    (lambda: explore(Picture(), eps=[0.1]), ValueError, r"eps needs two or more.*got \[0.1\]"),
    (lambda: explore(Picture(), eps=[0, 1, 0]), ValueError, r"eps needs two.*got \[0, 1, 0\]"),
    (lambda: explore(Picture(), a=[0, 1], b=[2, 2]), ValueError, "b needs two or more"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_controls_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_picture_without_an_alt_text_is_refused():
    """As `show` does: readers who do not see the picture need them."""

    def picture(v):
        return plt.subplots()[1]

    try:
        with pytest.raises(ValueError, match="no alt text"):
            explore(picture, v=[1, 2])
    finally:
        plt.close("all")


def test_a_real_figure_moves():
    explorer = explore(lambda end: functions({"v": lambda v: v}, 0, end), end=[1.0, 2.0, 3.0])
    for end in (3.0, 1.0, 2.0):
        explorer.move(end=end)
        assert f"v goes from 0 to {end:.0f}" in explorer.frame.alt
