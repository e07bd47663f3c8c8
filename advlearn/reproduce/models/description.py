"""The published sentence of how a model is trained, made from the numbers that train it.

Nothing is typed for one model but its `why`. Change a number of a recipe, of an architecture or of
a method, and the sentence changes with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

from advlearn.attacks import fgsm
from advlearn.data.reference import ARCHITECTURES
from advlearn.reproduce.models import methods
from advlearn.reproduce.models.spec import ModelSpec
from advlearn.training import adversarial_fit, fit

PAPER: Mapping[str, Any] = {
    "passes": 243,
    "max_norm": 1.9365,
    "input_dropout": 0.2,
    "hidden_dropout": 0.5,
    "channels": (96, 192, 192),
}
"""What the paper's networks have where ours may differ: the recipe of the maxout paper."""

Sentences: TypeAlias = Iterator[str]
Options: TypeAlias = Mapping[str, Any]


def number(value: float) -> str:
    """Write a number as the results page does: all its digits, and no zero before a point.

    Example:
        >>> number(0.25), number(0.000025), number(1.0), number(2000)
        ('.25', '.000025', '1', '2,000')
    """
    text = f"{Decimal(repr(value)):,f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.removeprefix("0") or "0"


def count(value: int, one: str, many: str = "") -> str:
    """Write how many there are of something.

    Example:
        >>> count(1, "epoch"), count(12, "epoch"), count(2, "class", "classes")
        ('1 epoch', '12 epochs', '2 classes')
    """
    return f"{number(value)} {one if value == 1 else many or f'{one}s'}"


def listed(values: Iterable[float]) -> str:
    """Write several numbers.

    Example:
        >>> listed([64, 96, 128]), listed([0.5])
        ('64, 96 and 128', '.5')
    """
    *first, last = map(number, values)
    return f"{', '.join(first)} and {last}" if first else last


def describe(model: ModelSpec) -> str:
    """Return what a model is, how it is trained, and why so, in a few sentences.

    Raises:
        KeyError: nothing here describes its architecture, its data, or a function of its method.

    Example:
        >>> from advlearn.recipe import Recipe
        >>> recipe = Recipe(epochs=2, lr=0.01)
        >>> describe(ModelSpec(name="s", architecture="SoftmaxRegression", recipe=recipe))[:82]
        'Softmax regression over 10 classes. SGD, batches of 100, learning rate .01, moment'
    """
    parameters = inspect.signature(ARCHITECTURES[model.architecture]).parameters
    options = {name: one.default for name, one in parameters.items()} | dict(model.options)
    parts = (
        *_ARCHITECTURES[model.architecture](model, options),
        *_training(model),
        _DATA[model.data],
        model.why,
    )
    return " ".join(filter(None, parts))


def arguments(function: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return what a partial calls, and its arguments by name, with the defaults of the others.

    Example:
        >>> function, options = arguments(partial(methods.fit_moved, fit))
        >>> function.__name__, options["train"].__name__, options["unmoved"]
        ('fit_moved', 'fit', 3)
    """
    given: list[Any] = []
    options: dict[str, Any] = {}
    while isinstance(function, partial):
        given, options = [*function.args, *given], {**function.keywords, **options}
        function = function.func
    parameters = inspect.signature(function).parameters
    known = {name: one.default for name, one in parameters.items() if one.default is not one.empty}
    return function, known | dict(zip(parameters, given, strict=False)) | options


# --- What it is -----------------------------------------------------------------------------------


def _classes(o: Options) -> str:
    return count(o["classes"], "class", "classes")


def _regression(kind: str, model: ModelSpec, o: Options) -> Sentences:
    classes = f" over {_classes(o)}" if "classes" in o else ""
    yield f"{kind} regression{classes}."


def _maxout(model: ModelSpec, o: Options) -> Sentences:
    yield (
        f"A maxout network for {_classes(o)}: hidden layers of "
        f"{listed(o['hidden'])} units with {count(o['pieces'], 'piece')} each."
    )
    if o["top"] == "sigmoid":
        yield "Its top is an independent sigmoid for each class."
    yield _dropout(o, in_paper=model.in_paper)


def _conv_maxout(model: ModelSpec, o: Options) -> Sentences:
    paper = f" (the paper: {listed(PAPER['channels'])} channels, and a dense layer)"
    yield (
        f"A convolutional maxout network for {_classes(o)}: {listed(o['channels'])} channels "
        f"of {count(o['pieces'], 'piece')}, {count(o['dense'], 'dense unit')}"
        f"{paper if model.in_paper else ''}."
    )
    yield _dropout(o)


def _dropout(o: Options, *, in_paper: bool = False) -> str:
    kept, paper = (
        [round(1 - dropped[f"{part}_dropout"], 6) for part in ("input", "hidden")]
        for dropped in (o, PAPER)
    )
    beside = _beside(listed(kept), listed(paper)) if in_paper else ""
    pixel, unit = map(number, kept)
    return f"A pixel is kept with probability {pixel}, a hidden unit with {unit}{beside}."


def _beside(written: str, paper: str) -> str:
    return " (as in the paper)" if written == paper else f" (the paper: {paper})"


def _conv(model: ModelSpec, o: Options) -> Sentences:
    first = f"{count(o['pixelwise'], 'channel')} of single pixels, then " if o["pixelwise"] else ""
    yield (
        f"A convolutional network with ReLUs for {_classes(o)}: {first}{listed(o['channels'])} "
        f"channels, {count(o['dense'], 'dense unit')}."
    )


def _rbf_network(model: ModelSpec, o: Options) -> Sentences:
    yield (
        f"An RBF network: one unit for each of {_classes(o)}, with a "
        f"diagonal B that starts at {number(o['precision'])}."
    )


def _mixture(model: ModelSpec, o: Options) -> Sentences:
    within = f", all within {count(o['span'], 'principal component')}" if o["span"] else ""
    yield (
        f"A mixture of {count(o['components'], 'Gaussian')} of {count(o['rank'], 'dimension')} for "
        f"each of {_classes(o)}{within}."
    )


_ARCHITECTURES: Mapping[str, Callable[[ModelSpec, Options], Sentences]] = {
    "LogisticRegression": partial(_regression, "Logistic"),
    "SoftmaxRegression": partial(_regression, "Softmax"),
    "MaxoutNet": _maxout,
    "ConvMaxoutNet": _conv_maxout,
    "ConvNet": _conv,
    "RBFNet": _rbf_network,
    "SubspaceMixture": _mixture,
}

# --- How it is trained ----------------------------------------------------------------------------

_OPTIMIZERS = {"sgd": "SGD", "adam": "Adam"}
_DATA = {
    "digits": "Trained on MNIST's training images without the offline digits.",
    "3v7": "Trained on the threes and sevens of MNIST's training images without the offline "
    "digits.",
    "cifar": "Trained on CIFAR-10, re-encoded as JPEG.",
}


def _training(model: ModelSpec) -> Sentences:
    function, options = arguments(model.method)
    if function not in _OPTIMIZE_THEMSELVES:
        yield _optimizer(model)
    if model.recipe.max_norm is not None:
        limit = number(model.recipe.max_norm)
        beside = _beside(limit, number(PAPER["max_norm"])) if model.in_paper else ""
        yield f"The norm of a unit's weights is at most {limit}{beside}."
    if model.recipe.l1:
        yield (
            f"An L1 penalty on the first layer's weights, with a coefficient of "
            f"{number(model.recipe.l1)}."
        )
    yield from _METHODS[function](model, options)
    if model.recipe.precision == "fast":
        yield "Matrix products in bfloat16."
    if model.recipe.memory_format == "channels_last":
        yield "Images with channels last in memory."


def _optimizer(model: ModelSpec) -> str:
    recipe = model.recipe
    function, options = arguments(model.method)
    passes = _PASSES[function](options) if function in _PASSES else 1
    each = ""
    if passes > 1:
        each = f" of {number(passes)} passes, {number(passes * recipe.epochs)} in all"
    if model.in_paper and model.data == "digits":
        each += f" (the paper: about {number(PAPER['passes'])})"
    return (
        f"{_OPTIMIZERS[recipe.optimizer]}, batches of {number(recipe.batch_size)}, "
        f"{_learning_rate(recipe.lr, recipe.lr_final)}, {_momentum(model)}"
        f"{count(recipe.epochs, 'epoch')}{each}."
    )


def _learning_rate(start: float, end: float | None) -> str:
    if end is None or end == start:
        return f"learning rate {number(start)}"
    return f"learning rate from {number(start)} to {number(end)}"


def _momentum(model: ModelSpec) -> str:
    start, end = model.recipe.momentum, model.recipe.momentum_final
    if model.recipe.optimizer != "sgd":
        return ""
    if end is None or end == start:
        return f"momentum {number(start)}, "
    return f"momentum from {number(start)} to {number(end)}, "


def _fit(model: ModelSpec, o: Options) -> Sentences:
    if o["objective"] is not None:
        function, options = arguments(o["objective"])
        yield _OBJECTIVES[function](options)


def _binary_cross_entropy(o: Options) -> str:
    return "The loss is the binary cross-entropy of each class, summed over the classes."


def _worst_case_loss(o: Options) -> str:
    return f"The loss is the closed-form adversarial loss at eps {number(o['eps'])}, unclipped."


_OBJECTIVES: Mapping[Callable[..., Any], Callable[[Options], str]] = {
    methods.binary_cross_entropy: _binary_cross_entropy,
    methods.worst_case_loss: _worst_case_loss,
}


def _adversarial_fit(model: ModelSpec, o: Options) -> Sentences:
    bounds = "unclipped" if o["bounds"] is None else f"clipped to {listed(o['bounds'])}"
    share, eps = f"{number(round(100 * (1 - o['alpha']), 6))} %", number(o["eps"])
    function, options = (None, {}) if o["attack"] is None else arguments(o["attack"])
    if function is methods.noisy:
        noise = {"sign": f"-{eps} or {eps} by chance", "uniform": f"U(-{eps}, {eps})"}
        yield (
            f"{share} of the loss is on images with noise in each pixel, "
            f"{noise[options['kind']]}, {bounds}."
        )
        return
    crafted = {
        None: "in the same step, with the dropout of the moment",
        fgsm: "anew at each step, on the whole network without dropout",
    }
    yield (
        f"{share} of the loss is on FGSM examples at eps {eps}, {bounds}, crafted "
        f"{crafted[function]}."
    )


def _moved(model: ModelSpec, o: Options) -> Sentences:
    yield (
        f"In each epoch a digit is seen {count(o['unmoved'], 'time')} as it is and once moved by "
        f"{count(methods.SHIFT, 'pixel')} in a random direction (the paper moves none)."
    )
    function, options = arguments(o["train"])
    yield from _METHODS[function](model, options)


def _mirrored(model: ModelSpec, o: Options) -> Sentences:
    yield "An epoch sees every image once as it is and once mirrored."


def _rbf(model: ModelSpec, o: Options) -> Sentences:
    yield f"The centres start at the class means. {_binary_cross_entropy(o)}"


def _detector(model: ModelSpec, o: Options) -> Sentences:
    yield (
        f"It learns to tell clean digits from FGSM examples of the model {model.after[0]}, at eps "
        f"{number(o['eps'])}, unclipped."
    )


def _expectation_maximisation(model: ModelSpec, o: Options) -> Sentences:
    yield (
        f"Estimated in {count(model.recipe.epochs, 'round')} of expectation-maximisation, with a "
        f"variance of {number(o['variance'])} in all other directions, from each digit as it is "
        f"and moved by {count(methods.SHIFT, 'pixel')} each way. The priors are then set so that "
        "each class is expected as often as it occurs."
    )


def _robust(model: ModelSpec, o: Options) -> Sentences:
    recipe, eps = model.recipe, number(o["eps"])
    _, start = arguments(methods.random_start_fgsm)
    epochs = count(recipe.epochs, "epoch")
    yield (
        f"{_OPTIMIZERS[recipe.optimizer]}, batches of {number(recipe.batch_size)}. It starts with "
        "an epoch of clean images and one of random-start FGSM at each eps of "
        f"{listed(o['rising_eps'])}, {_learning_rate(o['rising_lr'], None)}. Then {epochs} of "
        f"random-start FGSM at eps {eps}, with a step of {number(start['step'])} eps and a start "
        "that is not clamped to the range of pixels (Wong, Rice and Kolter), "
        f"{_learning_rate(*o['one_step_lr'])}. Then {epochs} of PGD at eps {eps}, with "
        f"{count(o['steps'], 'step')} of {number(o['step_size'])} (Madry et al.), "
        f"{_learning_rate(recipe.lr, recipe.lr_final)}."
    )


def _certified(model: ModelSpec, o: Options) -> Sentences:
    recipe, kappa = model.recipe, o["kappa"]
    clean = f", and the loss on clean images with weight {number(kappa)}" if kappa else ""
    yield (
        f"{_OPTIMIZERS[recipe.optimizer]}, batches of {number(recipe.batch_size)}. The loss is "
        f"that of the worst logits within interval bounds (Gowal et al.){clean}; the weights are "
        "drawn so that these are narrow at the start (Shi et al.). "
        f"{count(recipe.epochs, 'epoch').capitalize()} with an eps that grows to "
        f"{number(o['eps'])}, {_learning_rate(recipe.lr, None)}. Then as many at that eps, "
        f"{_learning_rate(recipe.lr, recipe.lr_final)}."
    )


_METHODS: Mapping[Callable[..., Any], Callable[[ModelSpec, Options], Sentences]] = {
    fit: _fit,
    adversarial_fit: _adversarial_fit,
    methods.fit_moved: _moved,
    methods.fit_mirrored: _mirrored,
    methods.fit_rbf: _rbf,
    methods.fit_detector: _detector,
    methods.fit_mixture: _expectation_maximisation,
    methods.fit_robust: _robust,
    methods.fit_certified: _certified,
}
_OPTIMIZE_THEMSELVES = frozenset({methods.fit_mixture, methods.fit_robust, methods.fit_certified})
# How often an epoch of a method sees as many images as there are, where it is not once.
_PASSES: Mapping[Callable[..., Any], Callable[[Options], int]] = {
    methods.fit_moved: lambda o: int(o["unmoved"]) + 1,
    methods.fit_mirrored: lambda _: 2,
}
