"""The sliders, moved without a browser: their values, and the pictures they swap."""

from __future__ import annotations

import html
import re

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from advlearn.plotting import describe, functions, probability_bars
from advlearn.widgets import explore


class Picture:
    """A picture that notes the values it was drawn for."""

    def __init__(self):
        self.drawn = []

    def __call__(self, **values):
        self.drawn.append(values)
        _, ax = plt.subplots(figsize=(1, 1))
        return describe(ax, f"Drawn for {values}.")


def words(explorer):
    """Return what the screen shows: the picture's alt text."""
    return html.unescape(re.search('alt="(.*?)"', explorer.screen.value)[1])


@pytest.fixture(autouse=True)
def no_figure_stays():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


def test_the_slider_reaches_both_ends_and_every_stop():
    picture, stops = Picture(), [0.0, 0.05, 0.1, 0.25]
    explorer = explore(picture, eps=stops)
    slider = explorer.sliders["eps"]
    assert slider.value == 0.0
    assert words(explorer) == "Drawn for {'eps': 0.0}."
    for stop in (0.25, 0.0, 0.1, 0.05):
        slider.value = stop
        assert words(explorer) == f"Drawn for {{'eps': {stop}}}."
    for index in (3, 0):
        slider.index = index
        assert words(explorer) == f"Drawn for {{'eps': {stops[index]}}}."


def test_each_picture_is_drawn_once():
    picture = Picture()
    explorer = explore(picture, eps=[0, 1, 2])
    assert sorted(values["eps"] for values in picture.drawn) == [0, 1, 2]
    first = explorer.screen.value
    for value in (1, 2, 1, 0, 2, 0):
        explorer.sliders["eps"].value = value
    assert len(picture.drawn) == 3
    assert explorer.screen.value == first


def test_several_controls_are_walked_one_at_a_time_and_filled_in_later():
    picture = Picture()
    explorer = explore(picture, digit=[3, 7], eps=[0.0, 0.1, 0.2])
    assert len(picture.drawn) == 2 + 3 - 1, "each whole range with the other at rest"
    explorer.sliders["digit"].value = 7
    explorer.sliders["eps"].value = 0.2
    assert words(explorer) == "Drawn for {'digit': 7, 'eps': 0.2}."
    assert len(picture.drawn) == 5


def test_a_picture_that_fails_at_the_last_stop_fails_when_it_is_made():
    def picture(digit, eps):
        if eps == 0.3:
            raise ZeroDivisionError("no picture at 0.3")
        return Picture()(digit=digit, eps=eps)

    with pytest.raises(ZeroDivisionError, match=r"no picture at 0\.3"):
        explore(picture, digit=[3, 7], eps=[0.0, 0.1, 0.3])


def test_the_screen_holds_the_picture_and_its_words():
    chances = {0.0: torch.tensor([0.9, 0.1]), 0.25: torch.tensor([0.2, 0.8])}
    explorer = explore(lambda eps: probability_bars(chances[eps], 0), eps=list(chances))
    before = explorer.screen.value
    explorer.sliders["eps"].value = 0.25
    after = explorer.screen.value
    assert 'src="data:image/png;base64,iVBOR' in after
    assert "highest 1 with 80 %; the true class 0 has 20 %" in after
    assert 'role="status"' in after, "a screen reader is told of the change"
    assert before != after
    assert "highest 0 with 90 %" in before


def test_words_are_escaped():
    explorer = explore(lambda v: describe(plt.subplots()[1], 'a "b" <c>'), v=[1, 2])
    assert 'alt="a &quot;b&quot; &lt;c&gt;"' in explorer.screen.value
    assert "<c>" not in explorer.screen.value


def test_a_control_may_have_any_name_and_kind_of_values():
    explorer = explore(Picture(), picture=["one", "two"], eps_in_pixels=range(3))
    assert explorer.sliders["eps_in_pixels"].description == "eps in pixels"
    explorer.sliders["picture"].value = "two"
    explorer.sliders["eps_in_pixels"].value = 2
    assert words(explorer) == "Drawn for {'picture': 'two', 'eps_in_pixels': 2}."


def test_a_figure_will_do_as_well_as_an_axes():
    explorer = explore(lambda v: Picture()(v=v).figure, v=[1, 2])
    assert words(explorer) == "Drawn for {'v': 1}."


def test_the_view_is_the_sliders_above_the_screen():
    explorer = explore(Picture(), a=[1, 2], b=[1, 2])
    assert explorer.view.children == (*explorer.sliders.values(), explorer.screen)
    assert list(explorer.sliders) == ["a", "b"]


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


def test_a_picture_without_words_is_refused():
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
        explorer.sliders["end"].value = end
        assert f"v goes from 0 to {end:.0f}" in words(explorer)
