"""The playground as one HTML file that works from a disk, and asks nothing of any host."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from advlearn.data import load_mnist, reference
from advlearn.data.folders import published
from advlearn.playground.packing import in_float16, in_script, in_steps, packed
from advlearn.playground.scripts import joined
from advlearn.reproduce.models.recipes import MODELS

_HERE = Path(__file__).parent
_DIGITS_OF_EACH_CLASS = 10

MOST_BYTES = 6_000_000
"""Of the file."""

TITLE = "Playground: attack a digit"
"""Of the page, near its beginning."""


@dataclass(frozen=True)
class Network:
    """A shipped network, and what the page says of it.

    Attributes:
        name: as for `advlearn.data.reference.load`.
        title, about: what is chosen, and a line below it.
        step: its weights are rounded to multiples of it; None rounds them to float16.
    """

    name: str
    title: str
    about: str
    step: float | None = None


# The two maxout networks have nine tenths of all weights. In float16, as they are shipped, they do
# not both fit; weights above 0.06 are the same in both.
_STEP = 2.0**-14

NETWORKS = (
    Network("softmax", "Softmax regression", "one layer, a straight line for each digit"),
    Network("maxout", "Maxout", "two hidden layers, as in the paper", _STEP),
    Network(
        "maxout-adversarial",
        "Maxout, trained on FGSM",
        "the same, shown attacked digits too",
        _STEP,
    ),
    Network("robust", "Robust", "convolutions, trained on PGD at eps 0.3"),
    Network("certified", "Certified", "trained so that its answers can be proved"),
)


def rates(measured: Mapping[str, Any], eps: float | None) -> dict[str, Any]:
    """Return what the page says of a network's errors on MNIST's test images.

    Args:
        measured: of `advlearn.data.reference.index`.
        eps: of the attacks.
    """

    def share(name: str) -> float:
        return float(measured[name]["count"] / measured[name]["total"])

    return {
        "of": measured["clean error"]["total"],
        "eps": eps,
        "clean": share("clean error"),
        "clipped": {"fgsm": share("FGSM error, clipped"), "pgd": share("PGD error, clipped")},
        "unclipped": {"fgsm": share("FGSM error"), "pgd": share("PGD error")},
    }


def weights(network: Network) -> bytes:
    """Return the file of weights that the page carries for a shipped network."""
    name = network.name
    content = (published("weights") / reference.index()[name]["file"]).read_bytes()
    return (
        in_float16(content, name) if network.step is None else in_steps(content, name, network.step)
    )


def digits() -> tuple[bytes, list[int]]:
    """Return offline digits that no network was trained on: pixels (N, 784) as bytes, and labels.

    One of each class, then another of each, and so on.
    """
    x, y = load_mnist("test", source="offline")
    order = torch.stack([(y == label).nonzero()[:_DIGITS_OF_EACH_CLASS, 0] for label in range(10)])
    chosen = order.T.flatten()
    pixels = (255 * x[chosen]).round().to(torch.uint8)
    return pixels.numpy().tobytes(), y[chosen].tolist()


@functools.cache
def html() -> str:
    """Return the page.

    Raises:
        ValueError: it would be larger than `MOST_BYTES`, or a shipped file is damaged.
        FileNotFoundError: a shipped file is missing.
    """
    return _made(NETWORKS)


_OF_SMALL = ("softmax", "robust")
_SMALL_STYLE = """
html, html body { background: none; }
main, main:first-child { padding: 0; max-width: none; }
header.page { position: absolute; width: 1px; height: 1px; }
header.page { overflow: hidden; clip-path: inset(50%); }
.advlearn-playground.compact .strip { display: none; }
@container playground (max-width: 43.9rem) {
  .advlearn-playground.compact :is(.bars, .more, .hint) { display: none; }
  .advlearn-playground.compact .grid { max-width: 15rem; }
}
"""


@functools.cache
def small() -> str:
    """Return the page with the two lightest networks, to stand in a frame of another page.

    It tells the page around it its height, as a message {"advlearnHeight": pixels}.

    Raises:
        ValueError: a shipped file is damaged.
        FileNotFoundError: a shipped file is missing.
    """
    chosen = tuple(network for network in NETWORKS if network.name in _OF_SMALL)
    style = (_HERE / "compact.css").read_text(encoding="utf-8")
    return _made(chosen, small=True).replace("</style>", f"{style}{_SMALL_STYLE}</style>", 1)


def _made(networks: tuple[Network, ...], *, small: bool = False) -> str:
    index = reference.index()
    pixels, labels = digits()
    facts = {
        "worker": joined("worker"),
        "networks": [
            {
                "name": network.name,
                "title": network.title,
                "about": network.about,
                "rates": rates(index[network.name]["measured"], MODELS[network.name].attack_eps),
            }
            for network in networks
        ],
        "small": small,
        "digits": {"packed": packed(pixels, planes=1), "labels": labels},
    }
    content = {
        "title": TITLE,
        "style": (_HERE / "playground.css").read_text(encoding="utf-8"),
        "facts": in_script(facts),
        "program": joined("main"),
        "weights": "\n".join(
            f'<script type="text/plain" id="weights-{network.name}">{packed(weights(network))}'
            "</script>"
            for network in networks
        ),
    }
    if "</script" in content["program"] or "<!--" in content["program"]:
        raise ValueError("a module holds the end of a script element.")
    page = (_HERE / "page.html").read_text(encoding="utf-8")
    for name, text in content.items():
        page = page.replace(f"<!-- {name} -->", text)
    if (size := len(page.encode())) > MOST_BYTES:
        raise ValueError(f"the page has {size:,} bytes; at most {MOST_BYTES:,} are allowed.")
    return page
