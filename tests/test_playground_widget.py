"""The kernel's half of the playground in a notebook. The page's: tests/browser."""

from __future__ import annotations

import html
import re

import matplotlib as mpl

mpl.use("Agg")

import pytest
import torch

from advlearn import fgsm
from advlearn.course.widgets import PLACEHOLDER
from advlearn.data import reference
from advlearn.models import ConvNet, LogisticRegression, MaxoutNet, RBFNet, SoftmaxRegression
from advlearn.playground import page, states, widget
from advlearn.playground.scripts import FOLDER, joined
from advlearn.playground.widget import playground


def hear(mine, image, attacked, label=3, network="softmax"):
    """Say what the page says when its reader has drawn."""
    buffers = [memoryview(tensor.numpy().tobytes()) for tensor in (image, attacked)]
    mine.view._handle_custom_msg({"label": label, "network": network}, buffers)


def sent(mine):
    """Return the networks as the page gets them: name -> (model, what is said of it)."""
    return {
        told["name"]: (reference.unpack(told["weights"])[0], told) for told in mine.view.networks
    }


# --- What comes back ------------------------------------------------------------------------------


def test_before_the_page_speaks_it_is_the_digit_that_was_asked_for():
    mine = playground("softmax", eps=0.1, digit=17)
    pixels, labels = page.digits()
    own = torch.tensor(list(pixels[17 * 784 : 18 * 784])).float() / 255
    assert torch.equal(mine.image, own.reshape(1, 1, 28, 28))
    assert mine.label.tolist() == [7] == [labels[17]]
    moved = fgsm(reference.load("softmax"), mine.image, mine.label, 0.1)
    assert torch.equal(mine.attacked, moved)
    assert mine.network == "softmax"


@pytest.mark.parametrize("attack", ["none", "noise", "fgsm", "pgd"])
def test_each_attack_stays_within_eps_and_the_random_state_stays(attack):
    before = torch.random.get_rng_state()
    mine = playground("softmax", attack=attack, eps=0.2)
    distance = float((mine.attacked - mine.image).abs().max())
    assert distance == pytest.approx(0.0 if attack == "none" else 0.2, abs=1e-2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_the_page_shows_is_what_python_has():
    mine = playground("softmax")
    drawn, moved = torch.rand(1, 1, 28, 28), torch.rand(1, 1, 28, 28)
    hear(mine, drawn, moved, label=5)
    assert torch.equal(mine.image, drawn)
    assert torch.equal(mine.attacked, moved)
    assert mine.label.tolist() == [5]
    mine.image.zero_()
    assert torch.equal(mine.image, drawn), "a learner changes a copy"


def test_a_message_of_another_form_changes_nothing():
    mine = playground("softmax")
    before = mine.image
    mine.view._handle_custom_msg({"label": 1, "network": "softmax"}, [memoryview(b"1234")])
    assert torch.equal(mine.image, before)


# --- Networks -------------------------------------------------------------------------------------


def test_a_shipped_network_goes_by_name_and_has_its_rates():
    model, told = sent(playground("softmax"))["softmax"]
    shipped = reference.load("softmax")
    assert torch.equal(model.linear.weight, shipped.linear.weight.half().float())
    assert told["title"] == "Softmax regression"
    assert told["rates"]["of"] == 10_000


def test_names_of_its_own_are_kept():
    found = sent(playground({"mine": "softmax", "other": SoftmaxRegression()}))
    assert [told["title"] for _, told in found.values()] == ["mine", "other"]
    assert found["mine"][1]["rates"] is not None
    assert found["other"][1]["rates"] is None, "nobody has measured it"


@pytest.mark.parametrize(
    "model",
    [
        SoftmaxRegression(),
        MaxoutNet(hidden=(6, 5), pieces=3, input_dropout=0.0, hidden_dropout=0.0),
        MaxoutNet(hidden=(6,), pieces=2),
        MaxoutNet(hidden=()),
        ConvNet(channels=(3, 4), dense=7),
        ConvNet(channels=(3,), dense=7, pixelwise=2),
    ],
)
def test_a_network_of_ones_own_is_the_same_in_the_page(model):
    """The file says what it holds; the reader of the page is held against the library elsewhere."""
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn_like(value).half())  # nothing is lost by rounding
    ((there, told),) = sent(playground(model)).values()
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(there(x), model.eval()(x))
    assert told["title"] == type(model).__name__


class Changed(SoftmaxRegression):
    def forward(self, x):
        return -super().forward(x)


BAD = SoftmaxRegression()
BAD.linear.bias.data[0] = float("nan")
HUGE = SoftmaxRegression()
HUGE.linear.weight.data[0] = 1e6
WRAPPED = SoftmaxRegression()
torch.nn.utils.parametrizations.weight_norm(WRAPPED.linear)


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        ("maxuot", ValueError, "model must be one of softmax, maxout.*got 'maxuot'.*Pass the name"),
        ("rbf", ValueError, "got 'rbf'"),
        ("maxout-sigmoid", ValueError, "got 'maxout-sigmoid'"),
        (3, TypeError, "a network or a name, got int"),
        (None, TypeError, "got NoneType"),
        (RBFNet(784), ValueError, "model is a RBFNet, .*Pass the name"),
        (LogisticRegression(), ValueError, "model is a LogisticRegression"),
        (torch.nn.Sequential(SoftmaxRegression()), ValueError, "model is a Sequential"),
        (Changed(), ValueError, "model is a Changed"),
        (SoftmaxRegression(700), ValueError, "model has inputs 700"),
        (SoftmaxRegression(classes=4), ValueError, "model has classes 4"),
        (SoftmaxRegression(top="sigmoid"), ValueError, "model has top sigmoid"),
        (ConvNet(size=32), ValueError, "model has inputs of another size"),
        (ConvNet(colours=3), ValueError, "model has inputs 2352"),
        (BAD, ValueError, r"NaN.*linear\.bias"),
        (HUGE, ValueError, r"65,504 in linear\.weight"),
        (WRAPPED, ValueError, "other parts than a SoftmaxRegression"),
        ({}, ValueError, "1 to 8 networks, got 0"),
        ({"a": "softmax", "b": 7}, TypeError, "got int"),
        ({7: "softmax"}, TypeError, "got the name 7"),
    ],
)
def test_what_the_page_cannot_run_is_refused_by_name(model, kind, words):
    with pytest.raises(kind, match=words):
        playground(model)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"attack": "cw"}, ValueError, "attack must be one of none, noise, fgsm, pgd, got 'cw'"),
        ({"eps": 0.6}, ValueError, r"eps must be .*\[0, 0\.5\], got 0\.6"),
        ({"eps": "0.1"}, TypeError, "eps must be a number"),
        ({"digit": 100}, ValueError, "digit must be at most 99, got 100"),
        ({"digit": 1.5}, TypeError, "digit must be a whole number"),
    ],
)
def test_an_option_out_of_range_is_refused(options, kind, words):
    with pytest.raises(kind, match=words):
        playground("softmax", **options)


# --- Where it is shown ----------------------------------------------------------------------------


def test_a_saved_notebook_has_a_still_picture_beside_the_live_one(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda thing, raw=False: shown.append(thing))
    mine = playground("softmax", digit=3)
    mine._ipython_display_()
    still, live = shown
    assert live is mine.view
    assert repr(live) == PLACEHOLDER
    assert f'data-still="{live.still}"' in still["text/html"]
    assert html.escape(mine.frame.alt) in still["text/html"]
    assert "The network reads 3." in mine.frame.alt
    assert ".advlearn-playground" in still["text/html"], "and hides where the live one is"


def test_the_theme_of_a_notebook_has_all_colours():
    style = widget.View._css
    rules = dict(re.findall(r'\.advlearn-playground\[data-theme="(\w+)"\] \{(.*?)\}', style))
    assert rules.keys() == {"light", "dark"}
    names = {theme: re.findall(r"(--[\w-]+):", rule) for theme, rule in rules.items()}
    assert names["light"] == names["dark"]
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) <= set(names["dark"])


def test_the_module_of_the_page_is_whole():
    script = str(widget.View._esm)
    assert script.endswith("export default { render };\n")
    assert "import " not in re.sub(r"//.*", "", script)


# --- States ---------------------------------------------------------------------------------------


def test_the_names_of_a_state_are_those_of_the_page():
    text = (FOLDER / "state.js").read_text(encoding="utf-8")
    known = dict(re.findall(r'^  (\w+): \["(\w)", ', text, re.M))
    assert {name: known[name] for name in states._FIELDS} == states._FIELDS
    (attacks,) = re.findall(r"ATTACKS = \[(.*?)\]", text)
    assert tuple(re.findall(r'"(\w+)"', attacks)) == states.ATTACKS
    assert f"MOST_EPS = {states.MOST_EPS:g};" in text
    assert "MOST_STEPS = 100;" in text


@pytest.mark.parametrize(
    ("chosen", "kind", "words"),
    [
        ({"model": "maxout"}, ValueError, "a field of the state must be one of network"),
        ({"attack": "cw"}, ValueError, "attack must be one of"),
        ({"eps": 0.51}, ValueError, "eps must be"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"target": 10}, ValueError, "target must be at most 9"),
        ({"reach": 2}, ValueError, "reach must be one of 1, 15"),
    ],
)
def test_a_state_that_the_page_would_not_take_is_refused(chosen, kind, words):
    with pytest.raises(kind, match=words):
        states.link(**chosen)


def test_the_small_page_is_light_and_tells_its_height():
    text = page.small()
    assert len(text) < 700_000
    assert re.findall(r'id="weights-([\w-]+)"', text) == ["softmax", "robust"]
    assert '"small":true' in text
    assert ".advlearn-playground.compact" in text
    assert '"small":false' in page.html()
    assert "advlearnHeight" in joined("main")
