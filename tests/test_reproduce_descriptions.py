"""The sentence of a recipe says what the recipe's numbers say, and cannot say anything else."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, replace
from functools import partial

import pytest
import torch

from advlearn.attacks import fgsm
from advlearn.data.reference import ARCHITECTURES
from advlearn.recipe import Recipe
from advlearn.reproduce.models import methods
from advlearn.reproduce.models.description import _PASSES, PAPER, arguments, describe, number
from advlearn.reproduce.models.recipes import MODELS
from advlearn.reproduce.models.spec import ModelSpec
from advlearn.training import adversarial_fit, fit

every_model = pytest.mark.parametrize("name", MODELS)
# What the sentence says differently: a probability to keep, a share of the loss.
COMPLEMENTS = {"input_dropout", "hidden_dropout", "alpha"}
# What a method with a schedule of its own does not read.
UNREAD = {
    methods.fit_mixture: {"batch_size", "optimizer", "lr", "lr_final", "momentum"},
    methods.fit_robust: {"momentum"},
    methods.fit_certified: {"momentum"},
}


def flat(value):
    """Yield the numbers of a value."""
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from flat(one)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def options_of(model):
    """Return the architecture's options, those by default included."""
    parameters = inspect.signature(ARCHITECTURES[model.architecture]).parameters
    return {name: one.default for name, one in parameters.items()} | dict(model.options)


def methods_of(function):
    """Yield a method and the functions among its arguments, each with its arguments by name."""
    function, options = arguments(function)
    yield function, options
    for value in options.values():
        if callable(value):
            yield from methods_of(value)


def numbers_of(model):
    """Return all numbers that decide a model, and those of the paper, as the sentence writes them.

    Nothing here is read from the sentence.
    """
    options = [(f.name, getattr(model.recipe, f.name)) for f in fields(Recipe)]
    options += options_of(model).items()
    called = list(methods_of(model.method))
    if model.method is methods.fit_robust:
        called += methods_of(methods.random_start_fgsm)
    for _, own in called:
        options += own.items()
    options += PAPER.items()
    found = {("SHIFT", methods.SHIFT)}
    for name, value in options:
        for one in flat(value):
            found.add((name, one))
            if name in COMPLEMENTS:
                found |= {(name, round(1 - one, 6)), (name, round(100 * (1 - one), 6))}
            if name == "unmoved":  # passes in an epoch, and in all
                found |= {(name, one + 1), (name, (one + 1) * model.recipe.epochs)}
    if model.method is methods.fit_mirrored:
        found |= {("passes", 2), ("passes", 2 * model.recipe.epochs)}
    return {number(value) for _, value in found}


def without_names(text):
    """Return a sentence without the names that hold a digit."""
    return re.sub(r"bfloat16|CIFAR-10|U\(-", "U(", text)


@every_model
def test_every_number_of_a_sentence_is_one_that_decides(name):
    model = MODELS[name]
    written = re.findall(r"(?:\d[\d,]*)?\.?\d+", without_names(describe(model)))
    assert set(written) <= numbers_of(model)
    assert len(written) >= 4 or model.architecture == "SoftmaxRegression"


@every_model
def test_a_reason_is_the_only_typed_part_and_has_no_number(name):
    model = MODELS[name]
    assert not re.search(r"\d", model.why)
    assert not re.search(r"\b(two|three|four|five|ten|twelve|twenty)\b", model.why)
    assert describe(model).endswith(model.why or ".")
    assert describe(replace(model, why="")) == describe(model).removesuffix(model.why).rstrip()


def changed(value):
    """Return another value of the same kind."""
    if isinstance(value, (list, tuple)):
        return tuple(changed(one) for one in value)
    return value + 1 if isinstance(value, int) else round(value * 0.5 + 0.0007, 6)


@every_model
def test_a_changed_number_of_the_recipe_changes_the_sentence(name):
    model = MODELS[name]
    function, _ = arguments(model.method)
    unread = UNREAD.get(function, set())
    before, tried = describe(model), set()
    for field in ("epochs", "batch_size", "lr", "lr_final", "momentum", "max_norm", "l1"):
        value = getattr(model.recipe, field)
        by_adam = field == "momentum" and model.recipe.optimizer == "adam"
        if value is None or field in unread or by_adam:
            continue
        other = replace(model.recipe, **{field: changed(value)})
        assert describe(replace(model, recipe=other)) != before, field
        tried.add(field)
    assert "epochs" in tried
    if "lr_final" not in unread:
        for other in (
            replace(model.recipe, lr_final=1e-9),
            replace(model.recipe, optimizer={"sgd": "adam", "adam": "sgd"}[model.recipe.optimizer]),
        ):
            assert describe(replace(model, recipe=other)) != before
    other = {"fast": "exact", "exact": "fast"}[model.recipe.precision]
    assert describe(replace(model, recipe=replace(model.recipe, precision=other))) != before


@every_model
def test_a_changed_option_changes_the_sentence(name):
    model = MODELS[name]
    shown = {key for key, value in options_of(model).items() if list(flat(value))}
    # The size of an image is that of its data.
    for key in shown - {"features", "size", "colours"}:
        other = model.options | {key: changed(options_of(model)[key])}
        assert describe(replace(model, options=other)) != describe(model), key


@every_model
def test_a_changed_number_of_the_method_changes_the_sentence(name):
    """Also one that stands deep inside: the eps of a loss, the kind of a noise."""
    model = MODELS[name]
    for key, value in arguments(model.method)[1].items():
        if list(flat(value)):
            other = partial(model.method, **{key: changed(value)})
            assert describe(replace(model, method=other)) != describe(model), key


INNER = {
    "maxout-adversarial": [
        partial(adversarial_fit, eps=0.2, bounds=None, attack=fgsm),
        partial(adversarial_fit, eps=0.25, bounds=None, attack=fgsm, alpha=0.3),
        partial(adversarial_fit, eps=0.25, attack=fgsm),
        partial(adversarial_fit, eps=0.25, bounds=None),
        fit,
    ],
    "maxout-noise-sign": [
        partial(adversarial_fit, eps=0.25, bounds=None, attack=partial(methods.noisy, "uniform")),
        partial(adversarial_fit, eps=0.5, bounds=None, attack=partial(methods.noisy, "sign")),
    ],
}


@pytest.mark.parametrize("name", INNER)
def test_a_changed_method_inside_a_method_changes_the_sentence(name):
    sentences = [
        describe(replace(MODELS[name], method=partial(methods.fit_moved, inner)))
        for inner in INNER[name]
    ]
    assert len({describe(MODELS[name]), *sentences}) == 1 + len(sentences)


def test_the_two_recipes_that_contradicted_themselves_do_not_any_more():
    """They said "40 passes ... 20 epochs" and "60 passes ... 16 passes"."""
    sigmoid, l1 = describe(MODELS["maxout-sigmoid"]), describe(MODELS["maxout-l1"])
    assert "20 epochs (the paper: about 243)" in sigmoid
    assert "4 epochs of 4 passes, 16 in all (the paper: about 243)" in l1
    for text in (sigmoid, l1):
        assert len(re.findall(r"\bepochs\b", text.partition(" Trained on")[0])) == 1


SEVERAL_PASSES = [name for name, m in MODELS.items() if arguments(m.method)[0] in _PASSES]


@pytest.mark.parametrize("name", SEVERAL_PASSES)
def test_an_epoch_has_as_many_passes_as_the_sentence_says(name, monkeypatch):
    """Counted by the images that reach `fit`."""
    seen = []
    model = MODELS[name]
    function, options = arguments(model.method)

    def spy(network, data, recipe, *others, progress):
        seen.append(len(data[0]))

    monkeypatch.setattr(methods, "fit", spy)
    method = partial(function, spy) if "train" in options else function
    data = torch.zeros(6, 1, 4, 4), torch.zeros(6, dtype=torch.int64)
    method(None, data, Recipe(epochs=1), progress=False)
    assert f"epochs of {seen[0] // 6} passes" in describe(model)


def test_what_has_no_words_is_an_error():
    plain = ModelSpec(name="x", architecture="SoftmaxRegression", recipe=Recipe(epochs=1))
    with pytest.raises(KeyError, match="fgsm"):
        describe(replace(plain, method=fgsm))
    with pytest.raises(KeyError, match="photographs"):
        describe(replace(plain, data="photographs"))
    with pytest.raises(KeyError, match="Transformer"):
        describe(replace(plain, architecture="Transformer"))
