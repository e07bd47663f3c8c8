"""Training: plain and adversarial, with early stopping, and a resume that changes nothing.

The random numbers of epoch e (order, dropout, noise) depend on the recipe's seed and on e alone,
and the global random state is left as it was. A run that was cut and resumed therefore ends with
the same weights, bit for bit, as one that was not.

All threads of a process share that state. So both hold where no other thread trains, or draws from
it, at the same time: train several models in several processes.
"""

from __future__ import annotations

import inspect
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advlearn._quote import listed
from advlearn._snapshot import Snapshot
from advlearn._validation import (
    check_bounds,
    check_callable,
    check_eps,
    check_label_range,
    check_logits,
    check_number,
    check_trainable,
    logits_of,
)
from advlearn.attacks import DETACHED, PIXELS, linear_step
from advlearn.batches import Batches, Data, batch_of, joined, taken
from advlearn.certify import interval, logit_bounds, propagate
from advlearn.context import attack_mode, hand_out, precision, uncompiled
from advlearn.directions import directions
from advlearn.limits import first_weight, limit_norms, limited_layers
from advlearn.losses import cross_entropy, l1_penalty
from advlearn.metrics import check_crafted, predict
from advlearn.recipe import History, Recipe, Run, callable_name

__all__ = [
    "DivergenceError",
    "History",
    "Measure",
    "Objective",
    "Recipe",
    "adversarial_fit",
    "certified_fit",
    "draw_for_bounds",
    "fit",
]

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, images, labels) -> one loss for each example, of shape (N,). Their mean is minimised."""

Measure = Callable[[nn.Module], Mapping[str, float]]
"""Called with the model after each epoch; what it returns goes into the history, by the same names.

A function that takes the model alone and returns names and numbers: {} for nothing. The names of
training's own columns, see `History`, are taken.
"""


Step = Callable[[Tensor, Tensor, float], Tensor]
"""(images, labels, share of the run that is done) -> the loss, its gradients taken."""


class DivergenceError(ArithmeticError):
    """The loss became NaN or infinite. The model holds the weights of the last whole epoch."""


def fit(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    objective: Objective | None = None,
    validation: Data | None = None,
    measure: Measure | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> History:
    """Train `model` on `data` in place and return the history.

    Minimises mean_i objective(model, x_i, y_i) + l1 ‖W_1‖₁ by minibatches. Parameters that require
    no gradient stay as they are. Gradients are on while it trains, also inside `torch.no_grad()`.
    PyTorch's global random state is not safe with threads: train once at a time in a process.

    Args:
        model: trained where its parameters are; the data is moved to them, a pair once.
        data: a `Dataset`, a pair of images (N, ...) and labels (N,), another dataset of PyTorch, or
            batches that can be read once for each epoch, such as a DataLoader, see
            `advlearn.batches.Batches`. Batches are taken as they come, one in memory at a time: a
            loader has its own size and order, and the recipe's `batch_size` does not apply. Where
            they have no length, the learning rate and the momentum change between epochs only.
        recipe: how to train.
        objective: one loss for each example, (N,), and neither their mean nor their sum; None means
            cross-entropy of model(x).
        validation: examples that are not trained on; never the test set, else its error is no
            longer an honest estimate.
        measure: called after each epoch, see `Measure`.
        checkpoint: a file that is written after each epoch, in one step. When it exists, training
            goes on from there; with the same recipe and data the result is that of a run without
            a break. Of a stream of batches only the number is compared, and the order must be
            fixed or come from PyTorch's global random numbers, as that of a DataLoader without a
            `generator` of its own.
        progress: show a progress bar.

    Raises:
        DivergenceError: the loss became NaN or infinite.
        TypeError: an argument is of the wrong kind or dtype; or `measure` returned no numbers,
            which only shows after an epoch: the model holds the weights of that epoch then.
        OSError: the checkpoint cannot be written.
        ValueError: an argument is out of range, the checkpoint is of another run, no parameter
            can be trained, or the model refuses the last, smaller batch of an epoch (BatchNorm
            refuses one example). Then nothing has been trained. Or `measure` returned the name of
            one of training's own columns: then the model holds the weights of that epoch.
        KeyboardInterrupt: passed on; the model holds the weights of the last whole epoch, with all
            buffers, whatever its `state_dict` leaves out.

    Example:
        >>> from advlearn.models import SoftmaxRegression
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(50, 1)
        >>> y = torch.tensor([0, 1]).repeat(50)
        >>> history = fit(SoftmaxRegression(2, 2), (x, y), Recipe(epochs=5), progress=False)
        >>> history["loss"][-1] < history["loss"][0]
        True
    """
    if objective is not None:
        check_callable(objective, "objective")
    losses = _cross_entropy if objective is None else objective

    def step(x: Tensor, y: Tensor, _: float) -> Tensor:
        each = losses(model, x, y)
        if not isinstance(each, Tensor) or not each.is_floating_point():
            raise TypeError(
                "objective must return a floating tensor, one loss for each example, got "
                f"{each.dtype if isinstance(each, Tensor) else type(each).__name__}."
            )
        if each.numel() != len(x) or (each.dim() and len(each) != len(x)):
            raise ValueError(
                f"objective must return one loss for each example, of shape ({len(x)},), got "
                f"{tuple(each.shape)}. {_SUMS if each.dim() else _MEANS}"
            )
        value = each.mean()
        _backward(value)
        return value.detach()

    return _train(
        model,
        data,
        recipe,
        step=step,
        extra={"objective": None if objective is None else callable_name(objective)},
        validation=validation,
        measure=measure,
        checkpoint=checkpoint,
        progress=progress,
    )


@directions()  # one warning for the whole training
def adversarial_fit(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    eps: float | Tensor,
    alpha: float = 0.5,
    attack: Callable[..., Tensor] | None = None,
    bounds: tuple[float, float] | None = PIXELS,
    validation: Data | None = None,
    measure: Measure | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> History:
    """Train on alpha J(x) + (1 - alpha) J(x~), with x~ crafted anew at every step.

    `attack=None` is the two-pass step: the clean forward-backward pass gives the parameter gradient
    and the pixel gradient at once, and x~ = clamp(x + eps sign(pixel gradient)) needs one
    more pass. It crafts with the dropout mask of the moment, on a network that is not the one to
    be attacked later. `attack=fgsm` crafts in eval mode, against the whole network. That costs a
    third pass. With dropout it trains far better: in four epochs of the paper's maxout net on
    full MNIST the FGSM error (eps .25) is near 12 %, against about 60 % for the two-pass step.
    Without dropout or batch statistics the two are the same step, and two passes suffice.
    With `attack` and alpha = 0 the network is shown no clean images while it trains.

    Args:
        model, data, recipe, validation, measure, checkpoint, progress: as for `fit`.
        eps: in pixel units, >= 0: a number, or (1, C, 1, 1) with one value for each channel.
        alpha: weight of the clean loss, in [0, 1]; the paper's 0.5.
        attack: None, or a function (model, x, y, eps, bounds=...) such as `fgsm`, or
            `functools.partial(pgd, steps=7)`, or one that adds noise, for a control. One of your
            own may call `model.eval()` and `loss.backward()`: modes and gradients of the model
            are put back before the step, and its images count as constants.
        bounds: (low, high) of a pixel; None leaves x~ unclipped.

    Raises:
        As `fit`, and TypeError or ValueError for `eps`, `alpha`, `attack` and `bounds`.

    Source:
        Section 6 of the paper.

    Example:
        >>> from advlearn.models import SoftmaxRegression
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(50, 1)
        >>> y = torch.tensor([0, 1]).repeat(50)
        >>> model = SoftmaxRegression(2, 2)
        >>> len(adversarial_fit(model, (x, y), Recipe(epochs=2), eps=0.1, progress=False).rows)
        2
    """
    box = check_bounds(bounds)
    alpha = check_number(alpha, "alpha", 0.0, 1.0)
    if attack is not None:
        check_callable(attack, "attack")

    def step(x: Tensor, y: Tensor, _: float) -> Tensor:
        if attack is not None:
            with _apart(model):
                crafted = hand_out(
                    lambda z: attack(model, z, y.clone(), eps, bounds=bounds), x, known_as=attack
                )
            check_crafted(crafted, x)
            crafted = crafted.detach()
            clean = x.new_zeros(())
            if alpha > 0:  # else the clean images would cost a pass and change nothing
                clean = _cross_entropy(model, x, y).mean()
                _backward(alpha * clean)
        else:
            pixels = x.requires_grad_()
            clean = _cross_entropy(model, pixels, y).mean()
            if not clean.requires_grad:
                raise ValueError(_UNUSED)
            if alpha > 0:
                # One backward pass, two gradients: the parameters' and, scaled by alpha, the
                # pixels', whose sign does not mind the scale.
                (alpha * clean).backward()
                gradient = pixels.grad
            else:
                (gradient,) = torch.autograd.grad(clean, pixels, allow_unused=True)
            if gradient is None:
                raise ValueError(DETACHED)
            crafted = linear_step(x.detach(), gradient, eps, bounds=bounds)
        worst = _cross_entropy(model, _laid_out(crafted, recipe), y).mean()
        _backward((1 - alpha) * worst)
        return (alpha * clean + (1 - alpha) * worst).detach()

    # What the recipe does not say but the result depends on, for the checkpoint.
    size = eps.tolist() if isinstance(eps, Tensor) else eps
    extra = {"eps": size, "alpha": alpha, "bounds": box, "attack": attack and callable_name(attack)}
    return _train(
        model,
        data,
        recipe,
        step=step,
        extra=extra,
        bounds=box,
        check=lambda x: check_eps(eps, x[:1], box),
        validation=validation,
        measure=measure,
        checkpoint=checkpoint,
        progress=progress,
    )


def certified_fit(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    eps: float | Tensor,
    kappa: float | tuple[float, float] = 0.5,
    ramp: tuple[float, float] = (0.05, 0.5),
    bounds: tuple[float, float] | None = PIXELS,
    validation: Data | None = None,
    measure: Measure | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> History:
    """Train on the bound: kappa J(z) + (1 - kappa) J(z_worst), over intervals that grow to eps.

    z_worst holds, relative to the label's logit, what each other class can reach at most while
    every pixel moves within eps: minus `advlearn.certify.margin_bounds`. Its loss bounds the loss
    under any attack from above, as the loss under FGSM bounds it from below.

    Bounds at the full eps are so wide at first that training on them gives a constant answer.
    Therefore the size of the intervals grows from 0 to eps, slowly at first and then evenly, and
    kappa goes evenly from its start to its end, between the two shares of the run that `ramp`
    names. `draw_for_bounds` gives a model a start whose bounds are narrower.

    Dropout is on, as in `fit`: the bound draws a mask of its own. The statistics of a batch of
    intervals are no statistics of images, so BatchNorm layers must have fixed ones: hand the model
    over in training mode with these layers in eval mode.

    Args:
        model, data, recipe, validation, measure, checkpoint, progress: as for `fit`.
        eps: in pixel units, >= 0, as for `adversarial_fit`. For a certificate at eps .3 on MNIST,
            training at .4 gives more than training at .3 does.
        kappa: the weight of the clean loss, in [0, 1], at the end; it starts at 1. Two numbers are
            its start and its end. Where it is 0, the pass over clean images is left out.
        ramp: when the growth begins and when it is complete, as shares of the run.
        bounds: (low, high) of a pixel; None leaves the intervals unclipped.

    Raises:
        As `fit`, and TypeError or ValueError for `eps`, `kappa`, `ramp` and `bounds`; and
        UnboundedError: the model does something that has no rule. Nothing has been trained then.

    Source:
        Gowal et al., "On the effectiveness of interval bound propagation for training verifiably
        robust models", 2018.

    Example:
        >>> from advlearn.certify import certified_error_rate
        >>> from advlearn.models import SoftmaxRegression
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(50, 1)
        >>> y = torch.tensor([0, 1]).repeat(50)
        >>> model, recipe = SoftmaxRegression(2, 2), Recipe(epochs=20)
        >>> history = certified_fit(model, (x, y), recipe, eps=0.3, progress=False)
        >>> float(certified_error_rate(model, (x, y), 0.3))
        0.0
    """
    box = check_bounds(bounds)
    first, last = _shares(kappa if isinstance(kappa, tuple) else (1.0, kappa), "kappa", "weights")
    start, end = _shares(ramp, "ramp", "shares of the run")
    if start > end:
        raise ValueError(f"ramp must begin before it ends, got {ramp}.")

    def step(x: Tensor, y: Tensor, share: float) -> Tensor:
        grown = 1.0 if share >= end else max(0.0, share - start) / max(end - start, 1e-9)
        weight = first + (last - first) * grown
        losses = []
        if weight > 0:
            losses.append(weight * _cross_entropy(model, x, y).mean())
        if weight < 1:
            pixels = interval(x, _grown(grown) * check_eps(eps, x, box), box)
            worst = -propagate(model, pixels).margins(y)
            losses.append((1 - weight) * cross_entropy(worst, y).mean())
        loss = torch.stack(losses).sum()
        _backward(loss)
        return loss.detach()

    def check(x: Tensor) -> None:
        check_eps(eps, x[:1], box)
        logit_bounds(model, x[:2], eps, bounds=bounds)
        with _as_in_training(model, recipe, x.device):
            propagate(model, interval(_laid_out(x[:2], recipe), 0.0, box))

    size = eps.tolist() if isinstance(eps, Tensor) else eps
    extra = {"certified": True, "eps": size, "kappa": (first, last), "ramp": ramp, "bounds": box}
    return _train(
        model,
        data,
        recipe,
        step=step,
        extra=extra,
        bounds=box,
        check=check,
        validation=validation,
        measure=measure,
        checkpoint=checkpoint,
        progress=progress,
    )


def draw_for_bounds(model: nn.Module) -> None:
    """Draw the weights anew, so that bounds are about as wide behind each layer as before it.

    w ~ N(0, 2 pi / n²), biases 0, for a unit with n inputs. Then E|w| = 2 / n, so a linear layer
    doubles the mean radius, and ReLU halves it again. The usual start, with a deviation near
    1 / sqrt(n), multiplies the radius by about sqrt(n) in each layer: training on the bound then
    begins with intervals that say nothing.

    Linear and convolutional layers are drawn, from PyTorch's global random numbers; other
    parameters stay as they are, and so do layers whose units have one input: without a bias such a
    unit would be off, or on, for every pixel.

    Args:
        model: changed in place.

    Raises:
        ValueError: it has no such layer, or one whose weight comes from other parameters, as with
            `weight_norm`: it would not be what was drawn. Nothing has been changed then.

    Source:
        Shi et al., "Fast certified robust training with short warmup", NeurIPS 2021, section 3.2.

    Example:
        >>> from advlearn.certify import logit_bounds
        >>> from advlearn.models import ConvNet
        >>> model, x = ConvNet(), torch.full((1, 1, 28, 28), 0.5)
        >>> before = logit_bounds(model, x, 0.1).radius.mean()
        >>> draw_for_bounds(model)
        >>> bool(logit_bounds(model, x, 0.1).radius.mean() < before / 10)
        True
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    for path, module in model.named_modules():
        lacking = [name for name in ("weight", "bias") if name not in module._parameters]
        if isinstance(module, kinds) and lacking:
            others = {name for name, _ in module.named_parameters()} - {"weight", "bias"}
            raise ValueError(
                f"draw_for_bounds draws weights and biases, and {path + '.' if path else ''}"
                f"{lacking[0]} of model is computed from {listed(sorted(others))}. Remove the "
                "parametrisation that it comes from, or train the model from its own start."
            )
    layers = [
        module
        for module in model.modules()
        if isinstance(module, kinds) and module.weight[0].numel() > 1
    ]
    if not layers:
        raise ValueError(
            f"model, a {type(model).__name__}, has no linear or convolutional layer to draw. Train "
            "it from its own start."
        )
    for layer in layers:
        nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _shares(pair: tuple[float, float], name: str, what: str) -> tuple[float, float]:
    """Return two numbers in [0, 1]."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(f"{name} must be two {what}, such as (0.0, 0.5), got {pair!r}.")
    start, end = (check_number(value, f"{name}[{i}]", 0.0, 1.0) for i, value in enumerate(pair))
    return start, end


def _grown(share: float) -> float:
    """Return how large intervals are: (4s)^4 / 13 up to s = 1/4, then a straight line to 1."""
    knee = 0.25
    # Value and slope fit at the knee: s^4 scaled to meet a line that reaches 1 at s = 1.
    slope = 1 / (1 - 0.75 * knee)
    if share < knee:
        return slope * knee / 4 * (share / knee) ** 4
    return 1 - slope * (1 - share)


def _cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    output = hand_out(model, x)
    logits = logits_of(output)
    if not isinstance(logits, Tensor):
        held = f" with the keys {', '.join(map(repr, output))}" if isinstance(output, dict) else ""
        raise TypeError(
            f"model returns a {type(output).__name__}{held} in training mode, as with auxiliary "
            "heads, and not logits alone. Say which loss is meant, with fit(objective=...), or "
            "switch the other heads off."
        )
    return cross_entropy(logits, y)


_UNUSED = (
    "the loss does not depend on any parameter that requires a gradient. Look for no_grad, "
    ".detach(), .numpy() or .item() in the model and in the objective."
)


_MEANS = "Leave out .mean() or .sum() at its end; PyTorch's own losses take reduction='none'."
_SUMS = "Add up what belongs to one example; one that does not count has the loss 0."


def _backward(loss: Tensor) -> None:
    if not loss.requires_grad:
        raise ValueError(_UNUSED)
    loss.backward()


@torch.inference_mode(False)
@torch.enable_grad()
def _train(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    step: Step,
    extra: dict[str, Any],
    bounds: tuple[float, float] | None = None,
    check: Callable[[Tensor], object] | None = None,
    validation: Data | None,
    measure: Measure | None,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool,
) -> History:
    """Run the epochs: the one loop behind `fit`, `adversarial_fit` and `certified_fit`."""
    file = _file(checkpoint)
    _check_settings(recipe, measure)
    _check_stop_on(recipe, validation is not None, measure is not None)
    _check_model(model, recipe)
    device = next(model.parameters()).device
    batches, x, y = _taken(
        data, recipe, device, shuffle=True, size=recipe.batch_size, bounds=bounds, progress=progress
    )
    if check is not None:
        check(x)
    # The labels are checked against the model once, on one batch, not at every step.
    some = x[: min(max(recipe.batch_size, 2), batch_of(x))]
    classes = _classes(model, some, recipe, "data.x")
    check_label_range(y, classes, "data.y")
    held_out = _held_out(model, validation, data, recipe, device)
    if (last := batches.last_batch()) is not None:
        _check_last_batch(model, x, *last, recipe)
    limited = limited_layers(model) if recipe.max_norm is not None else []
    penalised = first_weight(model, some) if recipe.l1 else None
    run = Run(model, recipe, extra | _identity(batches))
    if file is not None:
        run.prepare(file)
    if run.history.rows:  # the pass that has been begun is of the first epoch
        for read in filter(None, (batches, held_out)):
            read.anew()
    for epoch in range(len(run.history.rows), recipe.epochs):
        if run.history.stopped_early:
            break
        measured: object = {}
        with run.safely() as before, _seeded(recipe.seed, epoch, device):
            started = time.perf_counter()
            loss = _epoch(
                run,
                batches,
                step,
                epoch,
                before,
                classes=classes,
                limited=limited,
                penalised=penalised,
                progress=progress,
            )
            row: dict[str, float] = {"epoch": epoch + 1, "loss": loss}
            if held_out is not None:
                row |= _validate(model, held_out)
            if measure is not None:
                measured = measure(model)
            seconds = time.perf_counter() - started
        # Outside: the epoch is whole, and its weights stay whatever measure returned.
        run.finish(row | _numbers(measured, epoch, {*row, "seconds"}) | {"seconds": seconds})
        if file is not None:
            run.save(file)
    run.restore_best()
    return run.history


def _file(checkpoint: Any) -> Path | None:
    """Return where the checkpoint lies, `~` being the home folder; None where there is none."""
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(
            f"checkpoint must be the path of a file or None, got {type(checkpoint).__name__} "
            f"{checkpoint!r:.60}. Pass one such as 'run.safetensors'."
        )
    # Not `Path.expanduser`, which raises for a user without a home.
    path = Path(os.path.expanduser(checkpoint))  # noqa: PTH111
    if path.is_dir():
        raise ValueError(
            f"checkpoint = {str(checkpoint)!r:.200} is a folder. Pass the path of a file in it, "
            "such as 'run.safetensors'."
        )
    return path


def _check_settings(recipe: Any, measure: Any) -> None:
    """Require what every way to train is given, before any work."""
    if not isinstance(recipe, Recipe):
        remedy = "Recipe(**recipe)" if isinstance(recipe, Mapping) else "Recipe(epochs=10)"
        raise TypeError(
            "recipe must be an advlearn.training.Recipe, got "
            f"{type(recipe).__name__} {recipe!r:.60}. Pass {remedy}."
        )
    if measure is None:
        return
    if not callable(measure):
        raise TypeError(
            "measure must be a function of the model, such as lambda model: {'error': 0.5}, got "
            f"{type(measure).__name__} {measure!r:.60}."
        )
    try:
        signature = inspect.signature(measure)
    except (TypeError, ValueError):  # a built-in function need not have one
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(
            f"measure must take the model alone, got {callable_name(measure)}{signature} "
            f"({error}). Pass functools.partial(...) or a lambda that gives it the rest."
        ) from error


def _check_stop_on(recipe: Recipe, validation: bool, measure: bool) -> None:
    """Require that what the recipe watches is measured, as far as that is known before."""
    if recipe.stop_on in ("validation_error", "validation_loss") and not validation:
        raise ValueError(f"stop_on = {recipe.stop_on!r} needs validation data. Pass validation=.")
    columns = ["epoch", "loss"] + ["validation_error", "validation_loss"] * validation
    if not measure and recipe.stop_on not in (None, *columns, "seconds"):
        raise ValueError(
            f"stop_on = {recipe.stop_on!r} is not measured. There are {', '.join(columns)}, "
            "seconds."
        )


def _numbers(measured: Any, epoch: int, taken: Set[str]) -> dict[str, float]:
    """Return what `measure` gave as plain numbers by name, or say what it gave instead.

    A name that is `taken` would hide a column of training's own.
    """
    got, items = type(measured).__name__, getattr(measured, "items", None)
    if callable(items):
        numbers: dict[str, float] = {}
        try:
            numbers = {name: float(value) for name, value in items()}
            named = all(isinstance(name, str) for name in numbers)
            got += "" if named else f" with the names {', '.join(map(repr, numbers)):.100}"
        except (TypeError, ValueError, RuntimeError) as error:
            named = False
            got += f" {measured!r:.100} ({_last_line(error)})"
        if named and (double := sorted(taken & numbers.keys())):
            raise ValueError(
                f"measure returned {listed(map(repr, double))} after epoch {epoch + 1}, which "
                "training itself gives: see History. Return it by another name, such as "
                f"{'measured_' + double[0]!r}. The model holds the weights of this epoch."
            )
        if named:
            return numbers
    raise TypeError(
        "measure must return a dict of names and numbers, such as {'error': 0.5}, and returned "
        f"{got} after epoch {epoch + 1}. Mend it, or let it return {{}}. The model holds the "
        "weights of this epoch."
    )


def _check_model(model: Any, recipe: Recipe) -> None:
    """Require a model that can be trained, in the precision of the recipe."""
    check_trainable(model)
    if recipe.precision == "fast" and all(p.dtype == torch.float64 for p in model.parameters()):
        raise ValueError(
            "precision = 'fast' computes products of float32 in bfloat16, and changes nothing in a "
            "model of float64. Leave precision out, or pass model.float() and float32 images."
        )


def _taken(
    data: Data,
    recipe: Recipe,
    device: torch.device,
    *,
    name: str = "data",
    shuffle: bool = False,
    size: int | None = None,
    bounds: tuple[float, float] | None = None,
    progress: bool = False,
) -> tuple[Batches, Tensor, Tensor]:
    """Take data in for all epochs; return it, and its first batch, or all of a pair."""
    batches = Batches(
        data,
        size,
        passes=recipe.epochs,
        bounds=bounds,
        device=device,
        progress=progress,
        shuffle=shuffle,
        name=name,
        prefix=f"{name}.",
    )
    if batches.pair is not None:
        x, y = batches.pair
        # Detached: a graph behind the images is not trained, and would be walked at every step.
        batches.pair = x.detach().to(device), y.to(device)
    with _seeded(recipe.seed, 0, device):  # a loader draws its order, here too
        x, y = batches.first()
    return batches, x.detach(), y


def _held_out(
    model: nn.Module, validation: Data | None, data: Data, recipe: Recipe, device: torch.device
) -> Batches | None:
    """Take in what is not trained on, and check that the model takes it."""
    if validation is None:
        return None
    if validation is data and isinstance(data, Iterator):
        raise ValueError(
            f"validation is the {type(data).__name__} that data is, and it can be read once. Pass "
            "examples that are not trained on, as a Dataset, a DataLoader or a list of batches."
        )
    held_out, x, y = _taken(validation, recipe, device, name="validation")
    classes = _classes(model, x[: held_out.fits(x)], recipe, "validation.x")
    check_label_range(y, classes, "validation.y")
    return held_out


def _identity(batches: Batches) -> dict[str, Any]:
    """Return what a checkpoint remembers of the data: of a pair, all that decides the weights."""
    if batches.pair is None:
        return {"examples": None, "data": f"{batches.steps} batches"}
    x, y = batches.pair
    digest = zlib.crc32(x.cpu().float().numpy().tobytes())
    return {"examples": len(x), "data": zlib.crc32(y.cpu().numpy().tobytes(), digest)}


def _epoch(
    run: Run,
    batches: Batches,
    step: Step,
    epoch: int,
    before: Snapshot,
    *,
    classes: int,
    limited: list[nn.Module],
    penalised: nn.Parameter | None,
    progress: bool,
) -> float:
    """Do one pass over the data and return the mean loss over it.

    `before` is what the model held at its start, to tell what has diverged in it.
    """
    from tqdm.auto import tqdm

    recipe, model, pair, steps = run.recipe, run.model, batches.pair, batches.steps
    # A model handed over in eval mode is trained whole; in training mode, what its owner froze
    # (a BatchNorm, say) stays frozen.
    if not model.training:
        model.train()
    lr = recipe.lr
    total, seen, done = 0.0, 0, 0

    def descend(x: Tensor, y: Tensor) -> None:
        nonlocal lr, total, seen, done
        share = (epoch + min(1.0, done / steps if steps else 0.0)) / recipe.epochs
        lr, momentum = recipe.at(share)
        done += 1
        for group in run.optimizer.param_groups:
            group["lr"] = lr
            if "momentum" in group:
                group["momentum"] = momentum
        run.optimizer.zero_grad(set_to_none=True)
        with precision(recipe.precision, x.device):
            loss = float(step(_laid_out(x, recipe), y, share))
        if done == 1 and all(p.grad is None for p in model.parameters()):
            raise ValueError(_UNUSED)
        if penalised is not None:
            penalty = l1_penalty(penalised, recipe.l1)
            penalty.backward()
            loss += float(penalty.detach())
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the loss became {loss} in epoch {epoch + 1}, step {done}"
                f"{f' of {steps}' if steps else ''}, at lr = {lr:.3g}. Lower lr (try "
                f"{lr / 10:.1g}), or set max_norm. The model holds the weights of the last whole "
                "epoch."
            )
        run.optimizer.step()
        if recipe.max_norm is not None:
            limit_norms(limited, recipe.max_norm)
        total, seen = total + loss * len(y), seen + len(y)

    def descend_on_a_copy(x: Tensor, y: Tensor) -> None:
        """Take a batch that may be its owner's: neither a step nor the model writes into that."""
        check_label_range(y, classes)
        descend(x.detach().clone(), y.clone())

    title = f"epoch {epoch + 1}/{recipe.epochs}"
    if pair is None:
        for _ in batches.each(descend_on_a_copy, whole=True, title=title):
            pass
    else:
        x, y = pair
        order = torch.split(torch.randperm(len(x)).to(x.device), recipe.batch_size)
        for batch in tqdm(order, title, leave=False, disable=not progress):
            descend(taken(x, batch), y[batch])
    # The loss of a step is that of the weights before it: the last step shows only here.
    if any(map(before.is_broken, run.trained)):
        raise DivergenceError(
            f"the weights became NaN or infinite in epoch {epoch + 1}, at lr = {lr:.3g}. Lower lr "
            f"(try {lr / 10:.1g}), or set max_norm. The model holds the weights of the last whole "
            "epoch."
        )
    model.eval()
    return total / seen


def _laid_out(x: Tensor, recipe: Recipe) -> Tensor:
    """Return the batch as the recipe wants it in memory: the same values."""
    if recipe.memory_format == "preserve":
        return x
    _, channels, height, width = x.shape
    last = x.contiguous(memory_format=torch.channels_last)
    # With one channel both layouts are the same memory, and convolutions go by the strides alone.
    strides = (channels * height * width, 1, width * channels, channels)
    return last.as_strided(x.shape, strides)


def _classes(model: nn.Module, x: Tensor, recipe: Recipe, name: str) -> int:
    """Return how many logits the model gives for a batch, in eval mode, or say why it does not."""
    if recipe.memory_format != "preserve" and x.dim() != 4:
        raise ValueError(
            f"memory_format = {recipe.memory_format!r} is for images (N, C, H, W), but {name} has "
            f"{x.dim()} dimensions. Leave memory_format out."
        )
    # A copy: a model may write into what it is given.
    batch = _laid_out(x.clone(), recipe)
    try:
        with attack_mode(model, backward=False), torch.no_grad():
            logits = logits_of(hand_out(model, batch, name=name))
        check_logits(logits, batch)
        return int(logits.shape[1])
    except (RuntimeError, ValueError) as error:
        if recipe.memory_format != "preserve" and "view" in str(error):
            raise ValueError(
                f"model does not take a batch with memory_format = {recipe.memory_format!r} "
                f"({error}). Use flatten or reshape in place of view in the model, or leave "
                "memory_format out."
            ) from error
        if len(batch) == 1:
            raise ValueError(
                f"{name} leaves a batch of one example, and model gives no logits for one alone, "
                f"also in eval mode ({_last_line(error)}). Pass an example more or less; BatchNorm "
                "without running statistics works on larger batches only."
            ) from error
        raise


def _check_last_batch(model: nn.Module, x: Tensor, count: int, size: int, recipe: Recipe) -> None:
    """Refuse a batch of one example if the model cannot be trained on it, as with BatchNorm."""
    if count > 1 and size > 1 and count % size != 1:
        return
    reason = _refusal(model, x[:1], recipe)
    more = x[: max(size, 2)] if count > 1 else x.repeat(2, *[1] * (x.dim() - 1))
    # A model that fails on more examples too has another trouble, which the first step will show.
    if not reason or _refusal(model, more, recipe):
        return
    if count == 1:
        raise ValueError(
            f"data.x holds one example, and model cannot be trained on one alone ({reason}). Pass "
            "more, or a model in training mode whose BatchNorm layers are in eval mode."
        )
    sizes = (*range(min(size, count), 1, -1), *range(2, count + 1))
    better = next(other for other in sizes if count % other != 1)
    raise ValueError(
        f"batch_size = {size} leaves a batch of one of the {count} examples, and model cannot be "
        f"trained on one alone ({reason}). Use batch_size={better}, or leave an example out."
    )


def _refusal(model: nn.Module, x: Tensor, recipe: Recipe) -> str:
    """Say why a pass in training mode fails, or ""; model and random state stay as they were."""
    try:
        with _as_in_training(model, recipe, x.device):
            out = logits_of(model(_laid_out(x.clone(), recipe)))
    except Exception as error:  # whatever a model raises
        return _last_line(error)
    if not isinstance(out, Tensor):
        return ""
    if out.shape[:1] != x.shape[:1]:
        return f"its output has shape {tuple(out.shape)}"
    return "" if bool(out.isfinite().all()) else "its output is NaN or infinite"


@contextmanager
def _apart(model: nn.Module) -> Iterator[None]:
    """Give the model's modes and its parameters' gradients back as they were.

    An attack as people write it calls `eval` and `backward`, and leaves both to the next step.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    for parameter, _, gradient in flags:
        if gradient is not None:  # else `backward` would add to it in place
            parameter.grad = None
    try:
        yield
    finally:
        for module, mode in modes:
            if module.training is not mode:
                module.training = mode
        for parameter, needed, gradient in flags:
            if parameter.requires_grad is not needed:
                parameter.requires_grad_(needed)
            if parameter.grad is not gradient:
                parameter.grad = gradient


@contextmanager
def _as_in_training(model: nn.Module, recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Put the model into the mode of an epoch; modes, buffers and random state come back."""
    modes = [(module, module.training) for module in model.modules()]
    before = Snapshot(model, parameters=False)
    try:
        if not model.training:
            model.train()
        with _seeded(recipe.seed, 0, device), torch.no_grad(), uncompiled():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        before.restore()


def _last_line(error: Exception) -> str:
    """Return what an error says, without the traceback that TorchScript puts before it."""
    return f"{(str(error).strip() or type(error).__name__).splitlines()[-1]:.300}"


def _validate(model: nn.Module, held_out: Batches) -> dict[str, float]:
    def judged(x: Tensor, y: Tensor) -> list[Tensor]:
        logits = predict(model, (x, y))
        return [logits.argmax(1) != y, cross_entropy(logits, y)]

    wrong, losses = joined(held_out.each(judged))
    return {
        "validation_error": float(wrong.double().mean()),
        "validation_loss": float(losses.double().mean()),
    }


@contextmanager
def _seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed this epoch by (seed, epoch), and give the global random state back.

    That is the processor's, and `device`'s. `torch.manual_seed` would seed those of all devices.
    """
    number = (seed * 1_000_003 + epoch) % 2**63
    own = None if device.type == "cpu" else getattr(torch, device.type)
    with torch.random.fork_rng([device] if own else [], device_type=device.type if own else "cuda"):
        torch.default_generator.manual_seed(number)
        if own:
            # Of several devices of a kind the current one is seeded; MPS has one.
            with own.device(device) if hasattr(own, "device") else nullcontext():
                own.manual_seed(number)
        yield
