"""The models of the course. Each maps images (N, C, H, W) or (N, d) to logits (N, K).

A model whose probabilities are not the softmax of its logits says so with a method
`probabilities(logits)`; `advlearn.metrics` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import is_tensor_like

from advlearn._validation import (
    check_callable,
    check_choice,
    check_count,
    check_number,
    logits_of,
    one_logit,
)
from advlearn.context import Model, attack_mode, modules_behind, uncompiled
from advlearn.functional import log_mean_softmax, maxout, rbf_log_odds


def probabilities(model: Model, logits: Tensor, x: Tensor | None = None) -> Tensor:
    """Return the class probabilities (N, K) that `model` means by its logits.

    The softmax, unless the model has a method `probabilities` of its own (RBF and sigmoid tops,
    whose rows do not sum to 1). The method also counts behind `Normalize`, in a data-parallel or
    compiled model, and in any wrapper, module or function, that passes the logits on as they are.
    A wrapper that changes them is refused: it has to say itself what they mean.

    Args:
        model: maps images (N, ...) to logits (N, K).
        logits: (N, K).
        x: one of the images or more, (N, ...). Only where a wrapper hides the model is it needed,
            and one forward pass of `x` then shows whose logits these are.

    Raises:
        ValueError: which probabilities are meant cannot be told.

    Example:
        >>> probabilities(SoftmaxRegression(4), torch.zeros(1, 2))
        tensor([[0.5000, 0.5000]])
        >>> net = RBFNet(4, classes=2)
        >>> x = torch.zeros(1, 4)
        >>> probabilities(lambda x: net(x), net(x), x).equal(net.probabilities(net(x)))
        True
    """
    inside = _unwrapped(model)
    if _speaks(inside):
        return _own(inside, logits, x)
    softmax = logits.softmax(1)
    others = []
    for module in modules_behind(model):
        if _speaks(module):
            if not _means_softmax(module, logits):
                others.append(module)
        elif isinstance(module, _COPIES) and getattr(module, "top", None) != "softmax":
            for kind in _SPEAKERS & _kinds(module):
                raise ValueError(
                    f"model holds a {kind} that has lost its method probabilities, as TorchScript, "
                    "tracing and export do. Pass the model as it was, or give it that method."
                )
    if not others:
        return softmax
    names = " and ".join(sorted({type(module).__name__ for module in others}))
    if x is None:
        raise ValueError(
            f"model hides a {names}, whose probabilities are not the softmax. Pass x, one image "
            "with its batch dimension, which shows whose logits these are."
        )
    speaker = _source(model, others, x)
    if speaker is None:
        raise ValueError(
            f"model holds a {names}, whose probabilities are not the softmax, but changes its "
            "logits. Give the model a method probabilities(logits) that says what they mean."
        )
    return _own(speaker, logits, x)


_SPEAKERS = {"SoftmaxRegression", "MaxoutNet", "RBFNet"}  # this file's models with the method
_COPIES = (torch.jit.ScriptModule, torch.fx.GraphModule)  # they keep a model's forward alone


def _kinds(copy: nn.Module) -> set[str]:
    """Return the names of the classes that a copy was made from."""
    names = {getattr(copy, "original_name", type(copy).__name__)}  # the first is TorchScript's
    if isinstance(copy, torch.fx.GraphModule):  # its nodes remember whose they were
        for node in copy.graph.nodes:
            stack = (node.meta.get("nn_module_stack") or {}).values()
            kinds = (getattr(kind, "__name__", str(kind)) for _, kind in stack)
            names.update(name.rpartition(".")[2] for name in kinds)
    return names


def _speaks(model: Model) -> bool:
    return callable(getattr(model, "probabilities", None))


def _own(model: Model, logits: Tensor, x: Tensor | None = None) -> Tensor:
    """Return what the method `probabilities` of a model gives, if it gives probabilities."""
    name = f"{type(model).__name__}.probabilities"
    try:
        with _layers_called() as layers:
            given = model.probabilities(logits)  # type: ignore[attr-defined]
        if layers and _answer_for_images(layers, model, x):  # no calibration of logits
            raise ValueError("it runs the model's own layers, so it seems to want images")
    except Exception as error:
        raise ValueError(
            f"{name} does not take logits of shape {tuple(logits.shape)} ({error}). It must map "
            "logits (N, K) to probabilities (N, K)."
        ) from error
    shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
    if shape != tuple(logits.shape) or not bool(((given >= 0) & (given <= 1.001)).all()):
        raise ValueError(
            f"{name} must map logits (N, K) to probabilities (N, K) in [0, 1], got {shape} for "
            f"logits of shape {tuple(logits.shape)}."
        )
    return given  # type: ignore[no-any-return]


@contextmanager
def _layers_called() -> Iterator[set[nn.Module]]:
    """Collect the layers with weights that are called inside."""
    called: set[nn.Module] = set()

    def note(module: nn.Module, _: object) -> None:
        if any(True for _ in module.parameters(False)):
            called.add(module)

    handle = register_module_forward_pre_hook(note)
    try:
        yield called
    finally:
        handle.remove()


def _answer_for_images(layers: set[nn.Module], model: Model, x: Tensor | None) -> bool:
    """Say whether one of some layers has a part in the logits; without images, that all have."""
    if x is None:
        return True
    with attack_mode(model, backward=False), torch.no_grad(), _layers_called() as answering:
        model(x)
    return not layers.isdisjoint(answering)


def _means_softmax(module: nn.Module, logits: Tensor) -> bool:
    """Tell whether the method of a part gives the softmax; it may be made for other logits."""
    try:
        return _own(module, logits).allclose(logits.softmax(1), atol=1e-6)
    except ValueError:
        return False


def _unwrapped(model: Model) -> Model:
    """Return the model inside wrappers that are known to pass its logits on."""
    while not _speaks(model):
        if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
            if not len(model):
                break
            model = model[-1]  # behind a Normalize, the last part knows what its logits mean
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif getattr(model, "__name__", "") in ("forward", "__call__") and hasattr(
            model, "__self__"
        ):
            model = model.__self__
        else:
            break
    return model


def _source(model: Model, modules: list[nn.Module], x: Tensor) -> nn.Module | None:
    """Return the module whose output is what `model` gives, or None."""
    heard: list[tuple[nn.Module, Any]] = []
    hooks = [m.register_forward_hook(lambda m, _, out: heard.append((m, out))) for m in modules]
    try:
        with attack_mode(model), torch.no_grad(), uncompiled():
            logits = logits_of(model(x[:1].clone()))
    finally:
        for hook in hooks:
            hook.remove()
    speakers = [part for part, given in heard if _same(logits_of(given), logits)]
    return speakers[-1] if speakers else None  # the outermost finishes last


def _same(output: object, logits: Tensor) -> bool:
    if not isinstance(output, Tensor) or output.shape != logits.shape:
        return False
    return bool(output.to(logits.dtype).eq(logits).all())


# What turns logits into the probabilities of one class out of K, or of K independent ones.
_TOPS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "softmax": partial(torch.softmax, dim=1),
    "sigmoid": torch.sigmoid,
}


class LogisticRegression(nn.Module):
    """Two classes by one score s = w'x + b; p(class 1 | x) = sigmoid(s).

    The logits are (-s/2, s/2): their difference is s, so softmax and cross-entropy over them
    are exactly the sigmoid and the logistic loss softplus(-y s), with y = -1 for class 0 and +1
    for class 1.

    Args:
        features: number of pixels d.

    Example:
        >>> model = LogisticRegression(4)
        >>> model(torch.zeros(3, 1, 2, 2)).shape, model.score(torch.zeros(3, 4)).shape
        (torch.Size([3, 2]), torch.Size([3]))
    """

    def __init__(self, features: int = 784) -> None:
        super().__init__()
        self.linear = nn.Linear(check_count(features, "features"), 1)
        nn.init.zeros_(self.linear.weight)  # convex: any start will do, and zero needs no seed
        nn.init.zeros_(self.linear.bias)

    @property
    def weight(self) -> Tensor:
        """The weights w, shape (d,)."""
        return self.linear.weight[0]

    @property
    def bias(self) -> Tensor:
        """The bias b, a scalar."""
        return self.linear.bias[0]

    def score(self, x: Tensor) -> Tensor:
        """Return w'x + b, shape (N,)."""
        return self.linear(x.flatten(1)).squeeze(1)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, 2)."""
        half = self.score(x) / 2
        return torch.stack((-half, half), dim=1)


class TwoLogits(nn.Module):
    """Two classes from a model of one logit s, as trained with `BCEWithLogitsLoss`.

    The logits are (-s/2, s/2), as those of `LogisticRegression`: the probability of class 1 is
    sigmoid(s), and class 1 is predicted where s > 0.

    Args:
        model: maps (N, ...) to one logit for each example, (N,) or (N, 1); not to its sigmoid.

    Raises:
        ValueError: the model ends with a sigmoid; or, when called, it gives anything else.

    Example:
        >>> TwoLogits(lambda x: x.sum(1))(torch.tensor([[1.0, 2.0]]))
        tensor([[-1.5000,  1.5000]])
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        check_callable(model, "model")
        self.model = model
        self._looked_at = False  # whether it was asked once with gradients on
        while isinstance(model, nn.Sequential) and len(model):
            model = model[-1]
        if isinstance(model, nn.Sigmoid):
            raise ValueError(_NO_SIGMOID)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, 2)."""
        score = logits_of(self.model(x))
        if not is_tensor_like(score) or not one_logit(score, len(x)):
            shape = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise ValueError(
                f"TwoLogits needs a model of one logit for each example, ({len(x)},) or "
                f"({len(x)}, 1), got {shape}. A model of two or more logits is used as it is."
            )
        self._refuse_sigmoid(score, x)
        half = score.reshape(-1) / 2
        return torch.stack((-half, half), dim=1)

    def _refuse_sigmoid(self, score: Tensor, x: Tensor) -> None:
        """Refuse scores that a sigmoid has made, as a graph shows; one is made once if need be."""
        if score.grad_fn is None and not self._looked_at and len(x) and x.is_floating_point():
            self._looked_at = True
            with torch.inference_mode(False), torch.enable_grad():
                again = logits_of(self.model(x.detach().clone().requires_grad_()))
                score = again if isinstance(again, Tensor) else score
        step = score.grad_fn
        while step is not None and type(step).__name__.startswith(_SAME_VALUES):
            step = step.next_functions[0][0]
        if type(step).__name__.startswith("SigmoidBackward"):
            raise ValueError(_NO_SIGMOID)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (1 - sigmoid(s), sigmoid(s)), whatever the model inside has for one logit."""
        return logits.softmax(1)


_NO_SIGMOID = (
    "TwoLogits needs the logit, but the model gives its sigmoid, which is never below 0: every "
    "example would be of class 1. Leave the sigmoid out, or pass lambda x: torch.logit(model(x))."
)
# Steps of autograd's record that leave the values as they are.
_SAME_VALUES = (
    "Squeeze", "Unsqueeze", "View", "UnsafeView", "Reshape", "Select", "Slice", "Alias",
)  # fmt: skip


class SoftmaxRegression(nn.Module):
    """Softmax regression, the "shallow softmax" of the paper: z = W x + b, no hidden layer.

    Args:
        features: number of pixels d.
        classes: number of classes K.
        top: "softmax", or "sigmoid" for K independent probabilities.

    Example:
        >>> SoftmaxRegression(4, classes=3)(torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """

    def __init__(self, features: int = 784, classes: int = 10, *, top: str = "softmax") -> None:
        super().__init__()
        self.top = check_choice(top, "top", tuple(_TOPS))
        self.linear = nn.Linear(check_count(features, "features"), check_count(classes, "classes"))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K)."""
        return self.linear(x.flatten(1))  # type: ignore[no-any-return]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return p(k | x) for each class, by softmax or by independent sigmoids."""
        return _TOPS[self.top](logits)


class _InputDropout(nn.Module):
    """Zero each pixel with probability `drop`, without rescaling the others.

    The maxout recipe rescales neither here nor in eval mode (its "input scale" of 1), unlike
    `torch.nn.Dropout`: in training the pixels are fewer, not brighter.
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        if not self.drop or not self.training:
            return x
        return x * torch.empty_like(x).bernoulli_(1 - self.drop)


class _MaxoutLinear(nn.Module):
    """`units` maxout units, each the maximum of `pieces` linear functions of the input."""

    def __init__(self, features: int, units: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(features, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return maxout(self.linear(x), self.pieces)  # (N, features) -> (N, units)


class MaxoutNet(nn.Module):
    """The paper's maxout network for MNIST: 784 - 240 x 5 - 240 x 5 - softmax, with dropout.

    Args:
        features: number of pixels.
        hidden: units of each hidden layer.
        pieces: linear pieces for each unit.
        classes: number of classes K.
        input_dropout: probability that a pixel is dropped in training, in [0, 1); not rescaled.
        hidden_dropout: probability that a hidden unit is dropped in training, in [0, 1); rescaled.
        top: "softmax", or "sigmoid" for K independent probabilities.

    Source:
        Section 6 of the paper; Goodfellow et al., "Maxout networks", ICML 2013.

    Example:
        >>> MaxoutNet(hidden=(8, 8), pieces=2)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        features: int = 784,
        hidden: Sequence[int] = (240, 240),
        *,
        pieces: int = 5,
        classes: int = 10,
        input_dropout: float = 0.2,
        hidden_dropout: float = 0.5,
        top: str = "softmax",
    ) -> None:
        super().__init__()
        check_count(pieces, "pieces")
        self.top = check_choice(top, "top", tuple(_TOPS))
        layers: list[nn.Module] = [_InputDropout(_drop(input_dropout, "input_dropout"))]
        for units in hidden:
            layers.append(_MaxoutLinear(features, check_count(units, "hidden"), pieces))
            if _drop(hidden_dropout, "hidden_dropout"):
                layers.append(nn.Dropout(hidden_dropout))
            features = units
        layers.append(nn.Linear(features, check_count(classes, "classes")))
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.uniform_(module.weight, -0.005, 0.005)  # the maxout paper's start
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K)."""
        return self.layers(x.flatten(1))  # type: ignore[no-any-return]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return p(k | x) for each class, by softmax or by independent sigmoids."""
        return _TOPS[self.top](logits)


def _drop(value: float, name: str) -> float:
    check_number(value, name, 0.0, 1.0)
    if value == 1:
        raise ValueError(f"{name} = 1 drops everything. Use a probability below 1.")
    return value


class ConvMaxoutNet(nn.Module):
    """A convolutional maxout network for CIFAR-10, smaller than the paper's.

    Three blocks of convolution, maxout over `pieces` feature maps, 3x3 max-pooling with stride 2
    and dropout, then one dense maxout layer. The paper's network has 96, 192 and 192 channels.

    Args:
        channels: maxout channels of the three blocks.
        pieces: feature maps for each maxout channel.
        dense: dense maxout units; 0 leaves that layer out.
        classes: number of classes K.
        input_dropout, hidden_dropout: probabilities in [0, 1), as for `MaxoutNet`.
        size: height and width of the images in pixels.
        colours: channels of the images.

    Source:
        Section 4 of the paper; Goodfellow et al., "Maxout networks", ICML 2013.

    Example:
        >>> ConvMaxoutNet(channels=(4, 4, 4), dense=8)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 96, 128),
        *,
        pieces: int = 2,
        dense: int = 0,
        classes: int = 10,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.2,
        size: int = 32,
        colours: int = 3,
    ) -> None:
        super().__init__()
        self.pieces = check_count(pieces, "pieces")
        self.input_dropout = _InputDropout(_drop(input_dropout, "input_dropout"))
        self.convolutions = nn.ModuleList()
        for width in channels:
            self.convolutions.append(nn.Conv2d(colours, width * pieces, 5, padding=2))
            colours, size = width, (size + 1) // 2
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.dropout = nn.Dropout2d(_drop(hidden_dropout, "hidden_dropout"))
        features = colours * size * size
        top: list[nn.Module] = []
        if check_count(dense, "dense", least=0):
            top = [_MaxoutLinear(features, dense, 5), nn.Dropout(hidden_dropout)]
            features = dense
        self.top = nn.Sequential(*top, nn.Linear(features, check_count(classes, "classes")))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W)."""
        x = self.input_dropout(x)
        for convolution in self.convolutions:
            x = self.pool(maxout(convolution(x), self.pieces))  # (N, width, H/2, W/2)
            x = self.dropout(x)
        return self.top(x.flatten(1))  # type: ignore[no-any-return]


class ConvNet(nn.Module):
    """A small convolutional network with ReLUs: the usual model for robust training on MNIST.

    Two convolutions of 4 x 4 with stride 2, each followed by ReLU, then one hidden dense layer.

    Args:
        channels: feature maps of the two convolutions.
        pixelwise: feature maps of a convolution of 1 x 1 before them, relu(w x + b) of each pixel
            by itself; 0 leaves it out. It can learn a threshold: what is below by more than eps
            comes out as 0 whatever an attack does, so bounds are narrower behind it.
        dense: hidden dense units.
        classes: number of classes K.
        size: height and width of the images in pixels.
        colours: channels of the images.

    Source:
        Without `pixelwise`, the architecture of Wong and Kolter, "Provable defenses against
        adversarial examples via the convex outer adversarial polytope", ICML 2018.

    Example:
        >>> ConvNet()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32),
        *,
        pixelwise: int = 0,
        dense: int = 100,
        classes: int = 10,
        size: int = 28,
        colours: int = 1,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if check_count(pixelwise, "pixelwise", least=0):
            layers += [_thresholds(colours, pixelwise), nn.ReLU()]
            colours = pixelwise
        for width in channels:
            layers += [nn.Conv2d(colours, check_count(width, "channels"), 4, 2, 1), nn.ReLU()]
            colours, size = width, size // 2
        layers += [
            nn.Flatten(),
            nn.Linear(colours * size * size, check_count(dense, "dense")),
            nn.ReLU(),
            nn.Linear(dense, check_count(classes, "classes")),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W)."""
        return self.layers(x)  # type: ignore[no-any-return]


def _thresholds(colours: int, units: int) -> nn.Conv2d:
    """Return a convolution of 1 x 1 whose ReLUs turn at several brightnesses, in both directions.

    The units of a random start may all turn outside [0, 1], where they would stay off.
    """
    layer = nn.Conv2d(colours, units, 1)
    sign = torch.ones(units)
    sign[1::2] = -1
    # Dark and light alternate; a pair of units shares nothing but its distance from grey.
    turn = torch.where(sign > 0, 1 / 3, 2 / 3)
    with torch.no_grad():
        layer.weight.copy_(1.5 * sign.view(-1, 1, 1, 1) / colours)
        layer.bias.copy_(-1.5 * sign * turn)  # type: ignore[union-attr]
    return layer


class RBFNet(nn.Module):
    """The shallow RBF network: p(k | x) = exp(-(x - mu_k)' B_k (x - mu_k)), no hidden layer.

    Each class answers for itself, so all probabilities can be near 0: the model can say "none of
    these". (A softmax over ten classes never goes below 10 %.) The logits are the log-odds
    log(p / (1 - p)), so binary cross-entropy on them is minus the log-likelihood of K independent
    binary labels. B_k is diagonal, held as its logarithm to stay positive.

    Args:
        features: number of pixels d.
        classes: number of classes K.
        precision: the starting diagonal of B, in units of 1 / pixel².

    Source:
        Section 7 of the paper.

    Example:
        >>> model = RBFNet(4, classes=3)
        >>> logits = model(torch.rand(2, 1, 2, 2))
        >>> bool((model.probabilities(logits) <= 1).all())
        True
    """

    def __init__(self, features: int = 784, classes: int = 10, *, precision: float = 0.01) -> None:
        super().__init__()
        shape = (check_count(classes, "classes"), check_count(features, "features"))
        start = check_number(precision, "precision", low=0.0, open_low=True)
        self.centre = nn.Parameter(torch.full(shape, 0.5))
        self.log_precision = nn.Parameter(torch.full(shape, start).log())

    def start_from(self, x: Tensor, y: Tensor) -> None:
        """Put each centre at the mean of its class: the usual start for RBF units."""
        absent = sorted(set(range(len(self.centre))) - set(y.tolist()))
        if absent:
            raise ValueError(
                f"class {absent[0]} has no example in y. Give one of each class at least."
            )
        with torch.no_grad():
            for label in range(len(self.centre)):
                self.centre[label] = x[y == label].flatten(1).mean(0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the log-odds (N, K)."""
        return rbf_log_odds(x.flatten(1), self.centre, self.log_precision.exp())

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return p(k | x) for each class; the rows need not sum to 1."""
        return logits.sigmoid()


class Ensemble(nn.Module):
    """The mean of several models' probabilities, as logits: log(mean of softmax(z_m)).

    Args:
        members: models with the same classes and a softmax on top, at least one.

    Source:
        Section 9 of the paper.

    Example:
        >>> pair = Ensemble([SoftmaxRegression(4, 3), SoftmaxRegression(4, 3)])
        >>> pair(torch.zeros(1, 4)).exp()
        tensor([[0.3333, 0.3333, 0.3333]], grad_fn=<ExpBackward0>)
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("members is empty. An ensemble needs at least one model.")
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probabilities, (N, K)."""
        return log_mean_softmax([member(x) for member in self.members])


class Normalize(nn.Module):
    """(x - mean) / std, as the model's first layer, so that eps stays in pixel units.

    Args:
        mean: one number, or one for each channel.
        std: the same, > 0.

    Raises:
        ValueError: a std is not positive.

    Example:
        >>> Normalize([0.5], [0.25])(torch.ones(1, 1, 1, 1))
        tensor([[[[2.]]]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).reshape(-1, 1, 1))
        if not bool((self.std > 0).all()):
            raise ValueError(f"std must be > 0 in every channel, got {std}.")

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised images (N, C, H, W)."""
        return (x - self.mean) / self.std


def pixel_eps(eps: float | Tensor, std: float | Sequence[float] | Tensor) -> Tensor:
    """Return eps in pixel units, (1, C, 1, 1), for an eps in units of normalised images.

    A model that is fed with z = (x - mean) / std sees a change of the pixel divided by std. So
    an eps that was given for z is eps * std in pixel units: another one in each channel. Use it
    with the normalisation inside the model, as `Normalize`.

    Args:
        eps: in units of z, >= 0; a number, or (C,).
        std: of the normalisation, one number or one for each channel, > 0.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or range.

    Example:
        >>> pixel_eps(0.5, [0.2, 0.4]).flatten()
        tensor([0.1000, 0.2000])
    """
    each = _check_std(std)
    return (_channel_eps(eps, each) * each).reshape(1, -1, 1, 1)


def normalized_eps(eps: float | Tensor, std: float | Sequence[float] | Tensor) -> Tensor:
    """Return eps in units of normalised images, (1, C, 1, 1), for an eps in pixel units.

    The reverse of `pixel_eps`, for a model that is fed with z = (x - mean) / std and images that
    are normalised already. Pass `bounds=None` beside it: what bounds of pixels are for z differs
    by channel. With the normalisation inside the model, as `Normalize`, the bounds hold too.

    Args:
        eps: in pixel units, >= 0; a number, or (C,).
        std: of the normalisation, one number or one for each channel, > 0.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or range.

    Example:
        >>> from advlearn.attacks import fgsm
        >>> normalize, net = Normalize([0.5, 0.4], [0.2, 0.4]), SoftmaxRegression(8, 3)
        >>> _ = torch.nn.init.normal_(net.linear.weight)
        >>> x, y, eps = torch.rand(2, 2, 2, 2), torch.tensor([0, 2]), 8 / 255
        >>> inside = fgsm(torch.nn.Sequential(normalize, net), x, y, eps, bounds=None)
        >>> size = normalized_eps(eps, [0.2, 0.4])
        >>> outside = fgsm(net, normalize(x), y, size, bounds=None)
        >>> torch.allclose(normalize(inside), outside, atol=1e-6)
        True
    """
    each = _check_std(std)
    return (_channel_eps(eps, each) / each).reshape(1, -1, 1, 1)


def _check_std(std: Any) -> Tensor:
    each = torch.as_tensor(std, dtype=torch.float32).flatten()
    if not each.numel() or not bool((each.isfinite() & (each > 0)).all()):
        raise ValueError(f"std must be finite and > 0 in every channel, got {std!r:.60}.")
    return each


def _channel_eps(eps: Any, std: Tensor) -> Tensor:
    if not isinstance(eps, Tensor):
        return torch.tensor(check_number(eps, "eps", low=0.0))
    each = eps.detach().flatten().to(std)
    if len(each) not in (1, len(std)) and len(std) > 1:
        raise ValueError(
            f"eps must be a number or one for each of the {len(std)} channels of std, got shape "
            f"{tuple(eps.shape)}."
        )
    if not each.numel() or not bool((each.isfinite() & (each >= 0)).all()):
        raise ValueError(f"eps must be finite and >= 0, got {each.tolist()!r:.60}.")
    return each
