"""What is done for one item: train a model, attack it, measure a row. Runs on any worker.

The three functions that do the work are part of an item's identity, with all that they use: see
`advlearn.reproduce.engine.fingerprint`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import torch

from advlearn._bounded import parse_json
from advlearn.certify import certified_error_rate
from advlearn.data import reference
from advlearn.metrics import Rate
from advlearn.reproduce.measures import Effort, effort, under_attack
from advlearn.reproduce.models.images import images
from advlearn.reproduce.models.recipes import MODELS
from advlearn.reproduce.models.spec import ModelSpec, Scale
from advlearn.reproduce.rows import EXPERIMENTS
from advlearn.reproduce.rows.experiment import Experiment, Trial
from advlearn.reproduce.verdicts import from_json, to_json

Given = Mapping[str, bytes]
"""Key of an item -> its content, for all items that this one needs."""


def do(kind: str, name: str, seed: int, scale: Scale, given: Given) -> bytes:
    """Return the content of one item: a model's file, or JSON.

    Args:
        kind: "train", "attack" or "measure".
        name: a model or, for "measure", a row.
        seed: which repetition.
        scale: full or quick.
        given: what it needs.

    Raises:
        Exception: whatever the data, the training or the measurement raises.
    """
    started = time.perf_counter()
    if kind == "train":
        return train(MODELS[name], seed, scale, given)
    if kind == "attack":
        measured = attack(MODELS[name], seed, scale, given)
    else:
        measured = measure(EXPERIMENTS[name], seed, scale, given)
    return json.dumps({"values": measured, "seconds": time.perf_counter() - started}).encode()


MOST_HEADER = 1_000_000
"""Bytes of the text at the head of a model's file."""


def sound(kind: str, name: str, seed: int, scale: Scale, content: bytes) -> bool:
    """Tell whether a content is what `do` returns for this item.

    Args:
        kind, name, seed, scale: as for `do`.
        content: from a file that anybody may have written.
    """
    try:
        if kind != "train":
            loaded = parse_json(content)
            values = from_json(loaded["values"]).values()
            return float(loaded["seconds"]) >= 0 and all(
                0 <= value.count <= value.total for value in values if isinstance(value, Rate)
            )
        # Compared before it is built: options may ask for any size.
        reference.read_header(content, most=MOST_HEADER)
        text, model = reference.describe(content), MODELS[name]
        options = json.loads(json.dumps(model.sized(scale, seed)[0]))
        if (text["architecture"], text["options"]) != (model.architecture, options):
            return False
        reference.unpack(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return False
    return True


def train(model: ModelSpec, seed: int, scale: Scale, given: Given) -> bytes:
    """Return the file of a trained model.

    It holds the numbers of its recipe, and no sentence about them: that is made when it is
    published, so that another word does not cost a training.
    """
    started = time.perf_counter()
    options, recipe = model.sized(scale, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = reference.build(model.architecture, options)
        data = images(model.data, "train", scale)
        others = [reference.unpack(content, key)[0] for key, content in given.items()]
        history = model.method(network, data, recipe, *others, progress=False)
    about = {
        "model": model.name,
        "seed": seed,
        "recipe": recipe.as_dict(),
        "losses": history["loss"] if history is not None else [],
        "data": data.note,
        "seconds": time.perf_counter() - started,
    }
    return reference.pack(network, model.architecture, options, about, half=model.half)


def attack_effort(model: ModelSpec, scale: Scale) -> Effort:
    """Return how hard PGD tries on a model: little on one that is attacked on few images."""
    return effort(quick=scale.quick or model.attack_examples is not None)


def attack(model: ModelSpec, seed: int, scale: Scale, given: Given) -> dict[str, object]:
    """Return what was measured of a trained model under attack, as JSON."""
    (content,) = given.values()
    network, _ = reference.unpack(content, model.name)
    assert model.attack_eps is not None, "plan() makes no attack item of it"
    data = images(model.data, "test", scale).take(slice(model.attack_examples))
    measured = under_attack(
        network,
        data,
        model.attack_eps,
        pixels=model.data != "cifar",
        effort=attack_effort(model, scale),
        seed=seed,
    )
    if model.certified:
        measured["certified error"] = certified_error_rate(network, data, model.attack_eps)
    return to_json(measured)


def measure(experiment: Experiment, seed: int, scale: Scale, given: Given) -> dict[str, object]:
    """Return what one repetition of a row measured, as JSON."""
    weights, attacked = {}, {}
    for key, content in given.items():
        kind, _, rest = key.partition("-")
        name, _, own = rest.rpartition("-")
        if kind == "train":
            weights[name, int(own)] = content
        else:
            attacked[name, int(own)] = from_json(json.loads(content)["values"])
    own_effort = effort(quick=scale.quick) if experiment.runs_pgd else None
    return to_json(experiment.measure(Trial(seed, scale, weights, attacked, own_effort)))
