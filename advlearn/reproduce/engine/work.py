"""What is done for one item: train a model, attack it, measure a row. Runs on any worker."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import torch

from advlearn.data import reference
from advlearn.reproduce.measures import FULL, QUICK, under_attack
from advlearn.reproduce.models.trained import Ingredient, Scale, images
from advlearn.reproduce.rows.experiment import Bench
from advlearn.reproduce.rows.table import EXPERIMENTS, INGREDIENTS
from advlearn.reproduce.verdicts import from_json, to_json

Given = Mapping[str, bytes]
"""Key of an item -> its content, for all items that this one needs."""


def do(kind: str, name: str, seed: int, scale: Scale, given: Given) -> bytes:
    """Return the content of one item: a model's file, or JSON.

    Args:
        kind: "train", "attack" or "measure".
        name: an ingredient or, for "measure", a row.
        seed: which repetition.
        scale: full or quick.
        given: what it needs.

    Raises:
        Exception: whatever the data, the training or the measurement raises.
    """
    started = time.perf_counter()
    if kind == "train":
        return _train(INGREDIENTS[name], seed, scale, given)
    if kind == "attack":
        measured = _attack(INGREDIENTS[name], seed, scale, given)
    else:
        measured = _measure(name, seed, scale, given)
    return json.dumps({"values": measured, "seconds": time.perf_counter() - started}).encode()


def _train(ingredient: Ingredient, seed: int, scale: Scale, given: Given) -> bytes:
    started = time.perf_counter()
    options, recipe = ingredient.sized(scale, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = reference.build(ingredient.architecture, options)
        data = images(ingredient.data, "train", scale)
        others = [reference.unpack(content, key)[0] for key, content in given.items()]
        history = ingredient.method(model, data, recipe, *others, progress=False)
    about = {
        "ingredient": ingredient.name,
        "seed": seed,
        "recipe": ingredient.words,
        "epochs": recipe.epochs,
        "losses": history["loss"] if history is not None else [],
        "data": data.note,
        "seconds": time.perf_counter() - started,
    }
    return reference.pack(model, ingredient.architecture, options, about, half=ingredient.half)


def _attack(ingredient: Ingredient, seed: int, scale: Scale, given: Given) -> dict[str, object]:
    (content,) = given.values()
    model, _ = reference.unpack(content, ingredient.name)
    assert ingredient.attacked is not None, "plan() makes no attack item of it"
    return to_json(
        under_attack(
            model,
            images(ingredient.data, "test", scale).take(slice(ingredient.examples)),
            ingredient.attacked,
            pixels=ingredient.data != "cifar",
            effort=QUICK if scale.quick or ingredient.examples is not None else FULL,
            seed=seed,
        )
    )


def _measure(id: str, seed: int, scale: Scale, given: Given) -> dict[str, object]:
    weights, tables = {}, {}
    for key, content in given.items():
        kind, _, rest = key.partition("-")
        name, _, own = rest.rpartition("-")
        if kind == "train":
            weights[name, int(own)] = content
        else:
            tables[name, int(own)] = from_json(json.loads(content)["values"])
    return to_json(EXPERIMENTS[id].measure(Bench(seed, scale, weights, tables)))
