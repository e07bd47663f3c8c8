"""The playground in a notebook: draw a digit, attack it, and go on with both in the next cell.

The networks run in the page, as in the file that `advlearn playground` opens. Their weights go
there as float16; nothing goes to any other host.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import torch
import traitlets
from torch import Tensor, nn

from advlearn import models
from advlearn._quote import listed, printable, quote
from advlearn._validation import check_choice, check_count, check_number
from advlearn.attacks import fgsm, noise, pgd
from advlearn.course.widgets import PLACEHOLDER, Frame, show_with_still
from advlearn.data import reference
from advlearn.metrics import predict
from advlearn.playground.page import NETWORKS, digits, rates
from advlearn.playground.scripts import joined
from advlearn.playground.states import MOST_EPS, link
from advlearn.plotting import alt_text, render
from advlearn.plotting import digits as draw
from advlearn.reproduce.models.recipes import MODELS

_SIDE = 28
_PIXELS = _SIDE * _SIDE
_MOST_NETWORKS = 8
_SHORT = ("none", "noise", "fgsm", "pgd")  # the targeted attack has a target too: the page asks
_STEPS = 40  # of PGD, as the page begins
_REMEDY = (
    "Pass the name of a shipped network, or a SoftmaxRegression, MaxoutNet or ConvNet of "
    "advlearn.models for 28 x 28 grey pixels and ten classes. Others can be attacked in Python, "
    "with advlearn.fgsm and advlearn.pgd."
)


class Seen(NamedTuple):
    """What the page last showed."""

    image: Tensor  # (1, 1, 28, 28), float32
    attacked: Tensor  # (1, 1, 28, 28), float32
    label: int
    network: str


_RULE = re.compile(r"\.advlearn-playground \{(.*?)\}", re.DOTALL)
_COLOUR = re.compile(r"--[\w-]+: [^;]+;")


def _style() -> str:
    """Return the style of the page, with its two sets of colours by the theme of the notebook too.

    Raises:
        ValueError: the style does not begin with the light colours, or has no dark ones after them.
    """
    text = Path(__file__).with_name("playground.css").read_text(encoding="utf-8")
    themes = {}
    for theme, rule in zip(("light", "dark"), _RULE.findall(text)[:2], strict=True):
        themes[theme] = _COLOUR.findall(rule)
        if f"color-scheme: {theme}" not in rule or not themes[theme]:
            raise ValueError(f"playground.css has no {theme} colours where they are looked for.")
    added = [
        f'.advlearn-playground[data-theme="{theme}"] '
        f"{{ {' '.join(colours)} color-scheme: {theme}; }}\n"
        for theme, colours in themes.items()
    ]
    return (
        text + "".join(added) + Path(__file__).with_name("compact.css").read_text(encoding="utf-8")
    )


class View(anywidget.AnyWidget):
    """What the page knows: networks with their weights, digits to pick, and what is chosen."""

    _esm = f"{joined('widget')}\nexport default {{ render }};\n"
    _css = _style()
    worker = traitlets.Unicode().tag(sync=True)  # the code of the worker that computes
    networks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    digits: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    link = traitlets.Unicode().tag(sync=True)  # what is chosen, as the address of the page holds it
    still = traitlets.Unicode().tag(sync=True)  # marks the picture that the live one replaces

    def __repr__(self) -> str:
        return PLACEHOLDER  # where the notebook is not trusted, or the program knows no widgets


class Playground:
    """A digit that the reader draws, a network, and an attack; see `playground`."""

    def __init__(self, networks: list[_Network], attack: str, eps: float, digit: int) -> None:
        self._networks = networks
        self._attack, self._eps = attack, eps
        pixels, labels = digits()
        count = len(labels)
        image = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).reshape(
            count, 1, _SIDE, _SIDE
        )
        self._first = image[digit : digit + 1].float() / 255, labels[digit]
        self._seen: Seen | None = None
        first = networks[0].name
        self.view = View(
            worker=joined("worker"),
            networks=[network.told() for network in networks],
            digits={"pixels": pixels, "labels": labels},
            link=link(network=first, attack=attack, eps=eps, clip=True, steps=_STEPS, digit=digit),
            still=secrets.token_hex(8),
        )
        self.view.on_msg(self._hear)

    @property
    def image(self) -> Tensor:
        """The digit as it was drawn or picked: (1, 1, 28, 28), float32 in [0, 1]."""
        return self._now().image.clone()

    @property
    def attacked(self) -> Tensor:
        """The digit under the attack that is chosen, as the page shows it: (1, 1, 28, 28), float32.

        In [0, 1], unless clipping is off. The page's network has the weights in float16.
        """
        return self._now().attacked.clone()

    @property
    def label(self) -> Tensor:
        """What the digit is, (1,): as its writer says, or else what is read without an attack."""
        return torch.tensor([self._now().label])

    @property
    def network(self) -> str:
        """The name of the network that is chosen."""
        return self._now().network

    def _now(self) -> Seen:
        """Return what the page last showed; before that, what it will show first."""
        if self._seen is None:
            name, model, _ = self._networks[0]
            x, label = self._first
            parameter = next(model.parameters())
            y = torch.tensor([label], device=parameter.device)
            moved = self._attacked(model, x.to(parameter), y).float().cpu()
            self._seen = Seen(x, moved, label, name)
        return self._seen

    def _attacked(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seeded = torch.Generator(x.device).manual_seed(1)
        if self._attack == "none":
            return x
        if self._attack == "noise":
            return noise(x, self._eps, generator=seeded)
        if self._attack == "fgsm":
            return fgsm(model, x, y, self._eps)
        return pgd(model, x, y, self._eps, steps=_STEPS, generator=seeded)

    def _hear(self, _: object, told: dict[str, Any], buffers: list[Any]) -> None:
        """Keep what the page shows."""
        sizes = [len(bytes(buffer)) for buffer in buffers]
        if sizes != [4 * _PIXELS, 4 * _PIXELS]:
            return  # of a page that this version does not know
        image, attacked = (
            torch.frombuffer(bytearray(buffer), dtype=torch.float32).reshape(1, 1, _SIDE, _SIDE)
            for buffer in buffers
        )
        self._seen = Seen(image, attacked, int(told["label"]), str(told["network"]))

    @property
    def frame(self) -> Frame:
        """The digit before and after the attack as a picture, for a notebook without its kernel."""
        now = self._now()
        # A network from a file that was dropped on the page is not known here.
        known = {one.name: one.model for one in self._networks}
        model = known.get(now.network, self._networks[0].model)
        pair = torch.cat([now.image, now.attacked])
        before, after = predict(model, (pair, self.label.repeat(2))).argmax(1).tolist()
        titles = [f"The network reads {before}.", f"Under the attack it reads {after}."]
        axes = draw(pair.clamp(0, 1), titles=titles)
        words = "The playground: a digit before and after an attack."
        return Frame(f"{words} {alt_text(axes)}", words, render(axes))

    def _ipython_display_(self) -> None:
        show_with_still(self.view, self.frame, "Run this cell to draw your own.")


def playground(
    model: str | nn.Module | Mapping[str, str | nn.Module] = "maxout",
    *,
    attack: str = "fgsm",
    eps: float = 0.25,
    digit: int = 0,
) -> Playground:
    """Return a playground: draw a digit in the page, attack a network with it, and go on in Python.

    Its `image` and `attacked` are what the page shows, as tensors (1, 1, 28, 28) of float32, and
    `label` (1,) is what the digit is. They follow the hand: read them again after drawing.

    Args:
        model: the name of a shipped network (`advlearn.data.reference.index`); or a network of
            one of these kinds, whose weights now are sent to the page in float16; or several to
            choose from, name -> one of both.
        attack: chosen at first: "none", "noise", "fgsm" or "pgd" (40 steps). Clipping is on.
        eps: the largest change of a pixel at first, from 0 to 0.5.
        digit: to begin with, from 0 to 99: the offline digit 7 is a seven, and so is 17.

    Raises:
        TypeError: `model` is nothing of this, or `eps` or `digit` is no number.
        ValueError: the page cannot run the network, there is no such name, or a number is out of
            range.
        FileNotFoundError: a shipped file is missing.

    Example:
        >>> mine = playground("softmax", attack="fgsm", eps=0.1, digit=7)
        >>> mine.image.shape, mine.label
        (torch.Size([1, 1, 28, 28]), tensor([7]))
        >>> round(float((mine.attacked - mine.image).abs().max()), 4)
        0.1
    """
    check_choice(attack, "attack", _SHORT)
    eps = check_number(eps, "eps", 0.0, MOST_EPS)
    digit = check_count(digit, "digit", 0, len(digits()[1]) - 1)
    if not isinstance(model, Mapping):
        model = {model if isinstance(model, str) else type(model).__name__: model}
    if not 1 <= len(model) <= _MOST_NETWORKS:
        raise ValueError(
            f"model must hold 1 to {_MOST_NETWORKS} networks, got {len(model)}. Leave some out."
        )
    if named := [name for name in model if not isinstance(name, str) or not name.strip()]:
        raise TypeError(f"model must map names to networks, got the name {printable(named[0])}.")
    networks = [_network(name, given) for name, given in model.items()]
    return Playground(networks, attack, eps, digit)


def _network(name: str, given: object) -> _Network:
    """Return a network that the page can run, and its weights for it.

    Raises:
        TypeError: it is no network, and no name of one.
        ValueError: it is of another kind, or does not fit the page.
    """
    if isinstance(given, str):
        known = [each for each, entry in reference.index().items() if _may_run(entry)]
        if given not in known:
            raise ValueError(f"model must be one of {listed(known)}, got {quote(given)}. {_REMEDY}")
        return _Network(name, reference.load(given), given)
    if not isinstance(given, nn.Module):
        raise TypeError(f"model must be a network or a name, got {type(given).__name__}. {_REMEDY}")
    options = _options(given)
    if options is None:
        raise ValueError(f"model is a {type(given).__name__}, which the page cannot run. {_REMEDY}")
    wanted = {"inputs": _PIXELS, "classes": 10, "top": "softmax"}
    if wrong := [f"{key} {options[key]}" for key in wanted if options[key] != wanted[key]]:
        raise ValueError(f"model has {listed(wrong)}, which the page cannot run. {_REMEDY}")
    for key, value in given.state_dict().items():
        if not bool(value.half().isfinite().all()):
            raise ValueError(
                f"model has NaN, infinity or a number beyond 65,504 in {key}, which float16 cannot "
                "hold. Train it again with a smaller learning rate, or pass another one."
            )
    return _Network(name, given, None)


def _may_run(entry: Mapping[str, Any]) -> bool:
    options = entry.get("options", {})
    return entry["architecture"] in _KINDS and options.get("top", "softmax") == "softmax"


def _options(model: nn.Module) -> dict[str, Any] | None:
    """Return what a network was built with, its "inputs", "classes" and "top"; None for others.

    A class that was made from one of ours may compute something else: only the kinds themselves.
    """
    name = type(model).__name__
    if _KINDS.get(name) is not type(model):
        return None
    linear = [part for part in model.modules() if isinstance(part, nn.Linear)]
    sizes = {"classes": linear[-1].out_features, "top": getattr(model, "top", "softmax")}
    if isinstance(model, models.SoftmaxRegression):
        return sizes | {"inputs": linear[0].in_features}
    if isinstance(model, models.MaxoutNet):
        layers: list[Any] = [part for part in model.layers if hasattr(part, "pieces")]
        dropout = [part.p for part in model.layers if isinstance(part, nn.Dropout)]
        hidden = [part.linear.out_features // part.pieces for part in layers]
        pieces = {"pieces": layers[0].pieces} if layers else {}
        own: dict[str, Any] = {
            "hidden": hidden,
            "hidden_dropout": dropout[0] if dropout else 0.0,
            **pieces,
        }
        return sizes | own | {"inputs": linear[0].in_features}
    convolutions = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    if not convolutions:
        return None
    pixelwise = [part.out_channels for part in convolutions if part.kernel_size == (1, 1)]
    channels = [part.out_channels for part in convolutions if part.kernel_size != (1, 1)]
    # The size of the images shows only in what the dense layer takes: 28 is halved, rounded down.
    size = _SIDE
    for _ in channels:
        size //= 2
    fits = linear[0].in_features == size * size * convolutions[-1].out_channels
    inputs = _PIXELS * convolutions[0].in_channels if fits else "of another size"
    own = {
        "channels": channels,
        "dense": linear[0].out_features,
        "pixelwise": pixelwise[0] if pixelwise else 0,
        "inputs": inputs,
    }
    return sizes | own


_KINDS: Mapping[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (models.SoftmaxRegression, models.MaxoutNet, models.ConvNet)
}
_SHIPPED = {network.name: network for network in NETWORKS}


class _Network(NamedTuple):
    """One that can be chosen."""

    name: str
    model: nn.Module
    shipped: str | None  # its name among those that the course ships

    def told(self) -> dict[str, Any]:
        """Return what the page knows of it.

        Raises:
            ValueError: it was changed after it was made, by a parametrization say.
        """
        options = _options(self.model) or {}
        own = {key: options[key] for key in options.keys() - {"inputs", "classes", "top"}}
        kind = type(self.model).__name__
        try:
            content = reference.pack(self.model, kind, own, {}, half=True)
        except ValueError as error:
            raise ValueError(
                f"model has other parts than a {kind}, which the page cannot run. {_REMEDY}"
            ) from error
        told: dict[str, Any] = {"name": self.name, "title": self.name, "about": "", "rates": None}
        if network := _SHIPPED.get(self.shipped or ""):
            measured = reference.index()[network.name]["measured"]
            told["rates"] = rates(measured, MODELS[network.name].attack_eps)
            told["about"] = network.about
            if self.name == network.name:
                told["title"] = network.title
        return told | {"weights": content}
