"""Exercises of lesson 05: FGSM on deep networks."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advlearn.course import grading
from advlearn.course.banks.inputs import (
    exact_loss,
    images,
    labels,
    network,
    rand,
    randn,
    takes_whole_steps,
)
from advlearn.course.grading import Args, Exercise, edits, evidence, parse, rule

functional = torch.nn.functional


# --- 1. Two shares that are easily confused -------------------------------------------------------


def _error_and_success(clean: Tensor, attacked: Tensor, y: Tensor) -> tuple[float, float]:
    right = clean.argmax(dim=1) == y  # (N,) before the attack
    wrong = attacked.argmax(dim=1) != y  # (N,) after it
    # The mean over no examples at all is nan: where nothing was right, nothing could be fooled.
    return wrong.float().mean().item(), wrong[right].float().mean().item()


def _before_and_after(generator: torch.Generator) -> list[Args]:
    clean = torch.eye(4)[[0, 1, 2, 3, 0, 1]]  # what the model says: 0 1 2 3 0 1
    attacked = torch.eye(4)[[1, 1, 3, 0, 2, 3]]
    y = torch.tensor([0, 1, 2, 3, 2, 2])  # the last two are wrong from the start; one is then right
    many = 3 * randn(generator, 60, 5)
    return [
        (clean, attacked, y),
        (clean[:4], clean[:4], y[:4]),  # all right, and the attack does nothing
        (clean[4:], attacked[4:], y[4:]),  # nothing was right before
        (clean[:3], torch.eye(4)[[3, 3, 3]], y[:3]),  # all right, all fooled
        (many, many + 2 * randn(generator, 60, 5), many.argmax(1) * (torch.arange(60) % 3 > 0)),
        (many[:21], many[:21] + 3 * randn(generator, 21, 5), labels(generator, 21, 5)),
        (many[30:], many[:30], many[30:].argmax(1) * (torch.arange(30) % 4 > 0)),
    ]


@rule("Your first value is not the fraction of ALL images that is classified wrongly afterwards.")
def _first_is_the_error(args: Args, output: Any) -> object:
    _, attacked, y = args
    return abs(float(output[0]) - float((attacked.argmax(1) != y).double().mean())) < 1e-5


def _shares_by_loop(clean: Tensor, attacked: Tensor, y: Tensor) -> tuple[float, float]:
    wrong, fooled, right = 0, 0, 0
    for before, after, label in zip(clean, attacked, y, strict=True):
        wrong += int(after.argmax() != label)
        if before.argmax() == label:
            right += 1
            fooled += int(after.argmax() != label)
    return wrong / len(y), fooled / right if right else float("nan")


def _shares_by_products(clean: Tensor, attacked: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    right = (clean.argmax(1) == y).double()
    wrong = (attacked.argmax(1) != y).double()
    return 1 - (attacked.argmax(1) == y).double().mean(), (right * wrong).sum() / right.sum()


error_and_success = Exercise(
    name="error_and_success",
    lesson="05",
    title="Error and success rate",
    task=(
        "Return two numbers: the error rate under attack, over ALL images, and the success rate of "
        "the attack, over the images that were right before it. clean and attacked are logits "
        "(N, K), before and after; y is (N,) int64. Where no image was right before, the success "
        "rate is float('nan')."
    ),
    difficulty=2,
    minutes=6,
    reference=_error_and_success,
    inputs=_before_and_after,
    properties=(_first_is_the_error,),
    right_answers=(_shares_by_loop, _shares_by_products),
    wrong_answers=edits(
        _error_and_success,
        """
        only over the right ones: `wrong.float()` -> `wrong[right].float()`
            Your error rate looks only at the images that were right before. An image that was wrong
            already, and still is, is an error too: divide by all images.
        success over all: `wrong[right]` -> `wrong`
            Your success rate counts all images. An image that was wrong before the attack is not a
            success of the attack: keep only those with clean.argmax(1) == y.
        divided by all: `wrong[right]` -> `(right & wrong)`
            You count the right images: those that were right and then wrong. But you divide by all
            images. The success rate is a share of those that were right before.
        any change of the answer: `wrong[right]`
        -> `(clean.argmax(dim=1) != attacked.argmax(dim=1))`
            Your success rate counts every answer that changed. From one wrong class to another, or
            from wrong to right, is not a success: compare with y.
        difference of two rates: `wrong[right].float()` -> `(wrong.float() - (~right).float())`
            Your success rate is a difference of two error rates. An attack may also correct a wrong
            answer, so the difference is too small. And it is not a share of the images that were
            right.
        share of the errors: `wrong[right]` -> `right[wrong]`
            Your success rate is the share of the errors that are new. Turn it around: of those that
            were right before, which share is wrong now?
        all errors over the right ones: `wrong[right].float().mean()`
        -> `(wrong.float().sum() / right.float().sum())`
            You divide ALL errors by the number of images that were right before. Images that were
            wrong before are no success of the attack: count the errors among the right ones only.
        changed answers are no errors: `wrong.float()`
        -> `(clean.argmax(dim=1) != attacked.argmax(dim=1)).float()`
            Your error rate counts the answers that changed. An error is an answer that is not y,
            whatever the model said before.
        accuracy: `!=` -> `==`
            Your values are shares of right answers. The task asks for the wrong ones: 1 - accuracy.
        percent: `.item()` => `.item() * 100`
            Your values are percentages. Return fractions between 0 and 1.
        zero where nothing was right: `[right].float().mean()`
        -> `[right].float().mean().nan_to_num(0.0)`
            Where no image was right before, you return a success rate of 0. That reads as a failed
            attack, but nothing was tried. Return float('nan').
        swapped: `wrong.float().mean().item(), wrong[right]`
        -> `wrong[right].float().mean().item(), wrong`
            Your two values are swapped. First the error rate over all, then the success rate.
        answers before as labels: `right =` -> `y = clean.argmax(dim=1)¶right =`
            You take the model's answers before the attack for the labels. An image is right if the
            answer is y.
        error before the attack: `wrong.float()` -> `(~right).float()`
            Your error rate is that before the attack. The task asks for the one under attack: use
            `attacked`.
        only new errors: `wrong.float()` -> `(wrong & right).float()`
            Your error rate counts only the new errors. An image that was wrong before, and still
            is, counts as well.
        fallen logit: `wrong[right]`
        -> `(attacked.gather(1, y[:, None]) < clean.gather(1, y[:, None]))[:, 0][right]`
            You count an image as fooled when the logit of its true class falls. It is fooled when
            the answer is wrong: attacked.argmax(1) != y.
        of those that were wrong: `wrong[right]` -> `wrong[~right]`
            Your success rate looks at the images that were wrong before. Keep those that were
            right: clean.argmax(1) == y.
        turned around: `wrong[right].float().mean()`
        -> `(right.float().sum() / (right & wrong).float().sum())`
            Your success rate is turned around: right images over fooled ones. Divide the fooled
            ones by the right ones.
        softmax over the examples: `clean.argmax` -> `clean.softmax(dim=0).argmax`,
        `attacked.argmax` -> `attacked.softmax(dim=0).argmax`
            Your softmax runs over the examples (dim=0), which changes the answers. No softmax is
            needed: take the argmax of the logits over dim=1.
        fall of the accuracy: `wrong[right].float().mean()`
        -> `((wrong.float().sum() - (~right).float().sum()) / right.float().sum())`
            You divide the fall of the accuracy by the accuracy. An attack may also correct an
            answer, which lowers the fall. Count the images that were right and are wrong now.
        right only above one half: `clean.argmax(dim=1) == y`
        -> `clean.softmax(dim=1).gather(1, y[:, None])[:, 0] > 0.5`, `attacked.argmax(dim=1) != y`
        -> `attacked.softmax(dim=1).gather(1, y[:, None])[:, 0] <= 0.5`
            You ask whether the true class has more than half of the probability. The model answers
            with its most probable class, which may have less than one half: compare the argmax.
        """,
    ),
    hints=(
        "You need two Boolean tensors: was the image right before, and is it wrong now?",
        "`clean.argmax(dim=1) == y` is the first, `attacked.argmax(dim=1) != y` the second.",
        "With `right` and `wrong`, return `wrong.float().mean().item()` and "
        "`wrong[right].float().mean().item()`. The mean of an empty tensor is nan already.",
    ),
    takeaway="Papers print either of the two under the name of the other. Always say which.",
)


# --- 2. One step towards a class that the attacker chose ------------------------------------------


def _targeted_fgsm(model: nn.Module, x: Tensor, target: Tensor, eps: float) -> Tensor:
    x = x.detach().clone().requires_grad_(True)  # a copy: the caller's x stays as it is
    loss = torch.nn.functional.cross_entropy(model(x), target)  # large while the target is unlikely
    (gradient,) = torch.autograd.grad(loss, x)
    return torch.clamp(x - eps * gradient.sign(), 0, 1).detach()


def _with_dead_pixels(model: nn.Module) -> nn.Module:
    """Set the first pixel's weights to 0, as those of a digit's border are."""
    layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        layer.weight.mul_(0.5)  # probabilities that are not all 0 and 1
        layer.weight[:, 0] = 0.0
    return model


def _images_and_targets(generator: torch.Generator) -> list[Args]:
    def linear(weight: list[list[float]]) -> nn.Module:
        layer = nn.Linear(len(weight[0]), len(weight))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.zero_()
        return layer.eval()

    small = linear([[2.0, -1.0, 0.0, 0.5], [-1.0, 1.0, 0.0, 1.5], [0.5, 2.0, 0.0, -2.0]])
    # Tiny gradients, whose signs count as much.
    faint = linear([[2e-7, -1e-7, 0.0, 5e-8], [-1e-7, 1e-7, 0.0, 1e-7], [5e-8, 2e-7, 0.0, -2e-7]])
    x = torch.tensor([[0.5, 0.9, 0.25, 0.125], [0.0, 1.0, 0.75, 0.625]])  # it says: 2 and 2
    digits = rand(generator, 8, 1, 4, 4)
    digits[:, :, 0] = 0.0  # black pixels: they have room in one direction only
    digits[:, :, 3, 2:] = 1.0
    deep = _with_dead_pixels(network(generator, 16, 12, 4))
    trained = _with_dead_pixels(network(generator, 16, 12, 4))
    for parameter in trained.parameters():  # as after a training step
        parameter.grad = torch.ones_like(parameter)
    # Some targets are the class that the model names already: to those, too, it steps closer.
    targets = torch.arange(8) % 4
    return [
        (small, x, torch.tensor([0, 1]), 0.25),
        (small, x, torch.tensor([1, 0]), 0.0),
        (deep, digits, targets, 0.125),
        (trained, digits, (targets + 2) % 4, 0.3),
        (faint, x, torch.tensor([0, 1]), 0.125),
        (deep, digits[:1], torch.tensor([3]), 0.1),
        # Grey pixels only: the range of a pixel is still from 0 to 1.
        (small, 0.25 + 0.5 * x, torch.tensor([1, 0]), 0.125),
    ]


@rule("The target is not more probable on your images than on x. The step should make it so.")
def _raises_the_target(args: Args, output: Tensor) -> object:
    model, x, target, eps = args
    return eps == 0 or exact_loss(model, output, target) < exact_loss(model, x, target)


@rule("Your result leaves the range [0, 1] of a pixel.")
def _stays_an_image(args: Args, output: Tensor) -> object:
    return ((output >= 0) & (output <= 1)).all()


def _moves_by_eps_at_most(args: Args, output: Tensor) -> str | None:
    x, eps = args[1], args[3]
    if ((output - x).abs() <= eps + 1e-5).all():
        return None
    return f"Some of your pixels move by more than eps = {eps:g}."


@rule(
    "Some of your pixels move by less than eps, though there is room and their gradient is not 0. "
    "Even a tiny gradient has a full sign."
)
def _moves_by_the_whole_eps(args: Args, output: Tensor) -> object:
    return takes_whole_steps(args, output)


def _targeted_by_log_probability(model: nn.Module, x: Tensor, target: Tensor, eps: float) -> Tensor:
    inputs = x.clone().requires_grad_(True)
    chosen = torch.log_softmax(model(inputs), dim=1).gather(1, target[:, None])
    return (x + eps * torch.autograd.grad(chosen.sum(), inputs)[0].sign()).clip(0, 1)


def _targeted_one_by_one(model: nn.Module, x: Tensor, target: Tensor, eps: float) -> Tensor:
    images = []
    for i in range(len(x)):
        delta = torch.zeros_like(x[i : i + 1], requires_grad=True)
        logits = model(x[i : i + 1] + delta)
        loss = (logits.logsumexp(dim=1) - logits[:, target[i]]).sum()
        images.append(x[i : i + 1] - eps * torch.autograd.grad(loss, delta)[0].sign())
    return torch.cat(images).clamp(0, 1)


targeted_fgsm = Exercise(
    name="targeted_fgsm",
    lesson="05",
    title="A step towards the target",
    task=(
        "Write targeted FGSM: one step of eps that makes the class in target more probable, by the "
        "cross-entropy of that class. model(x) gives logits (N, K) and is in eval mode; x is "
        "(N, …) with pixels in [0, 1]; target is (N,) int64, the class that each image should be "
        "taken for. The result has the shape of x, lies in [0, 1], is detached, and the model "
        "stays as it was."
    ),
    difficulty=2,
    minutes=6,
    asks=("detached", "model"),
    reference=_targeted_fgsm,
    inputs=_images_and_targets,
    properties=(
        _stays_an_image,
        _moves_by_eps_at_most,
        _raises_the_target,
        _moves_by_the_whole_eps,
    ),
    right_answers=(_targeted_by_log_probability, _targeted_one_by_one),
    wrong_answers=edits(
        _targeted_fgsm,
        f"""
        plus in place of minus: `x - eps` -> `x + eps`
            You step up the loss of the target, so the target becomes less probable. Untargeted FGSM
            raises the loss of the true class. A targeted step LOWERS the loss of the target: minus.
        untargeted: `(model(x), target)` -> `(model(x), model(x).argmax(dim=1))`, `x - eps` ->
        `x + eps`
            You step away from the class that the model names now. That is an untargeted attack:
            which class comes next is left to chance. Use the loss of the target, and minus.
        loss of the present answer: `(model(x), target)` -> `(model(x), model(x).argmax(dim=1))`
            You lower the loss of the class that the model names now, so its answer becomes firmer.
            Lower the loss of the target.
        no sign: `gradient.sign()` -> `gradient`
            Your step is eps·gradient, without the sign. FGSM uses only the sign of each entry, so
            that every pixel moves by the full eps.
        no clamp: `torch.clamp(x - eps * gradient.sign(), 0, 1)` -> `(x - eps * gradient.sign())`
            Your result leaves the range [0, 1]. Clamp it after the step.
        +1 at zero: `gradient.sign()` -> `torch.where(gradient >= 0, 1.0, -1.0)`
            You move pixels whose gradient is exactly 0. They do not change the loss, and sign(0) is
            0: leave them alone.
        logit of the target only: `torch.nn.functional.cross_entropy(model(x), target)` ->
        `-model(x).gather(1, target[:, None]).sum()`
            You raise the logit of the target and look at no other. Another class may rise faster.
            The cross-entropy also pushes the others down.
        lead over one class: `torch.nn.functional.cross_entropy(model(x), target)` ->
        `(model(x).scatter(1, target[:, None], -torch.inf).amax(dim=1)
        - model(x).gather(1, target[:, None]).squeeze(1)).sum()`
            You compare the target with the strongest other class only. That works as an attack too,
            but the task asks for the cross-entropy, in which all classes count.
        away from the present answer as well: `(gradient,) =`
        -> `loss = loss - functional.cross_entropy(model(x), model(x).argmax(1))¶(gradient,) =`
            You also raise the loss of the class that the model names now. The task asks for the
            loss of the target alone.
        squared error: `torch.nn.functional.cross_entropy(model(x), target)` ->
        `(model(x).softmax(dim=1) - torch.eye(model(x).shape[1])[target]).square().sum()`
            Your loss is the squared error of the probabilities. Its gradient vanishes where the
            model is confident. The task asks for the cross-entropy.
        length in place of sign: `gradient.sign()`
        -> `gradient / gradient.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.dim() - 1))`
            You scale the gradient to length 1. That is the step for a limit on the length of the
            change. Here each pixel is limited on its own, and the sign moves it by the full eps.
        softmax before cross-entropy: `(model(x), target)` -> `(model(x).softmax(dim=1), target)`
            You apply softmax before `cross_entropy`. That function expects logits and applies
            softmax itself. Applying it twice gives another gradient.
        eps over 255: `eps *` -> `eps / 255 *`
            You divide eps by 255. The pixels here run from 0 to 1, and eps is in the same units.
        returns x: `x - eps * gradient.sign()` -> `x`
            Your function returns x unchanged. Take away eps times the sign of the gradient.
        gradients left in the model: `(gradient,) = torch.autograd.grad(loss, x)`
        -> `loss.backward()¶gradient = x.grad`
            {evidence.GRADIENTS_LEFT}
        attached to the graph: `0, 1).detach()` -> `0, 1)`
            {evidence.ATTACHED}
        train mode: `return` -> `model.train()¶return`
            {evidence.MODE_CHANGED}
        the caller's x requires a gradient: `x.detach().clone()` -> `x`
            {evidence.GRADIENT_SWITCHED_ON.format("x")}
        range of the batch: `0, 1)` -> `x.min(), x.max())`
            You clamp to the smallest and the largest pixel of the batch. The range of a pixel is
            from 0 to 1: clamp to that.
        perturbation only: `x - eps` -> `-eps`
            Your result is only the perturbation, clamped. Add it to x before you clamp.
        bare perturbation: `torch.clamp(x - eps * gradient.sign(), 0, 1)`
        -> `(-eps * gradient.sign())`
            You return only the perturbation. Add it to the image x, and clamp the sum.
        no eps: `eps * ` -> ``
            Your pixels move by 1. They should move by eps: multiply the sign by eps.
        gradient cut off at eps: `eps * gradient.sign()` -> `gradient.clamp(-eps, eps)`
            You cut the gradient off at eps. A small gradient then moves its pixel by less than eps.
            Take eps times the sign.
        one step for all: `gradient.sign()` -> `gradient.mean(dim=0, keepdim=True).sign()`
            You give one and the same step to all images: that of the mean gradient. Each image has
            its own gradient: take the sign of each.
        two half steps: `return`
        -> `x = torch.clamp(x - eps / 2 * gradient.sign(), 0, 1).detach().requires_grad_()¶return`,
        `return` -> `loss = functional.cross_entropy(model(x), target)¶return`,
        `return` -> `(gradient,) = torch.autograd.grad(loss, x)¶return`,
        `return torch.clamp(x - eps` -> `return torch.clamp(x - eps / 2`
            You take several small steps, and compute the gradient again in between. FGSM takes one
            step of eps.
        first target for all: `(model(x), target)` -> `(model(x), target[:1].expand(len(x)))`
            You use the first target for all images. Each image has its own entry in `target`.
        only the first image: `(model(x), target)` -> `(model(x)[:1], target[:1])`
            Your loss looks at the first image only, so the others get no gradient and stay. Take
            the loss of the whole batch.
        every image with every target: `torch.nn.functional.cross_entropy(model(x), target)`
        -> `-model(x).log_softmax(dim=1)[:, target].sum()`
            `[:, target]` takes the columns of ALL targets in every row. `z[torch.arange(len(z)),
            target]` picks one entry of each row.
        images that are there already: `loss =`
        -> `away = (model(x).argmax(1) != target).reshape(-1, *[1] * (x.dim() - 1))¶loss =`,
        `eps * gradient` -> `eps * away * gradient`
            You leave an image as it is if the model's answer is the target already. Take the step
            there, too: it makes the target more probable.
        saved as 8 bits: `0, 1).detach()` -> `0, 1).mul(255).round().div(255).detach()`
            You round the result to the levels of 8 bits. Then pixels do not move by eps exactly.
            Return the image as it is.
        a sigmoid for each class: `torch.nn.functional.cross_entropy(model(x), target)`
        -> `functional.multilabel_soft_margin_loss(model(x), torch.eye(model(x).shape[1])[target])`
            You use the binary cross-entropy, with a sigmoid for each class. Use `cross_entropy`,
            with one softmax over all classes.
        """,
    ),
    hints=(
        "It is your FGSM of lesson 3 with two changes: the class that stands in the loss, and the "
        "direction of the step.",
        "Compute `torch.nn.functional.cross_entropy(model(x), target)` and its gradient with "
        "respect to a copy of x. The loss should fall.",
        "Return `torch.clamp(x - eps * gradient.sign(), 0, 1).detach()`.",
    ),
    takeaway="Another label in the loss and a minus: that is the whole difference.",
)


# --- 3. When has a targeted attack succeeded? -----------------------------------------------------


def _targeted_success_rate(logits: Tensor, y: Tensor, target: Tensor) -> float:
    counted = y != target  # an image of the target class has nowhere to go
    success = logits.argmax(dim=1) == target  # the model says what the attacker chose
    return success[counted].float().mean().item()  # over no images at all it is nan


def _answers_and_targets(generator: torch.Generator) -> list[Args]:
    y = torch.tensor([0, 1, 2, 3, 0, 2, 3])
    target = torch.tensor([1, 1, 0, 2, 3, 1, 0])  # the second image is of the target class already
    says = torch.eye(4)[[1, 1, 0, 3, 1, 1, 3]]
    many = 2 * randn(generator, 60, 5)
    chosen = labels(generator, 60, 5)
    many[torch.arange(0, 60, 2), chosen[::2]] += 3.0  # half of the attacks go well
    few = 2 * randn(generator, 5, 5)
    return [
        (says, y, target),
        (says, y, torch.tensor([2, 3, 1, 1, 2, 3, 2])),  # no success, and mistakes all the same
        (says[:2], y[:2], y[:2]),  # nothing to count
        (says[:3], y[:3], target[:3]),
        (torch.eye(4)[[1, 0, 1]], torch.tensor([0, 1, 2]), torch.tensor([1, 0, 1])),  # all succeed
        (many, labels(generator, 60, 5), chosen),
        (few, torch.arange(5), torch.tensor([1, 1, 3, 3, 0])),  # as many images as classes
    ]


@rule("A share lies between 0 and 1, or is nan where no image is left to count.")
def _is_a_share_or_nan(args: Args, output: Any) -> object:
    share = float(output)
    return 0 <= share <= 1 or (math.isnan(share) and bool((args[1] == args[2]).all()))


def _targeted_by_loop(logits: Tensor, y: Tensor, target: Tensor) -> float:
    tried = succeeded = 0
    for row, label, wanted in zip(logits, y.tolist(), target.tolist(), strict=True):
        if label != wanted:
            tried += 1
            succeeded += int(row.argmax()) == wanted
    return succeeded / tried if tried else float("nan")


def _targeted_by_products(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    tried = (y != target).double()
    return ((logits.max(1).indices == target) * tried).sum() / tried.sum()


targeted_success_rate = Exercise(
    name="targeted_success_rate",
    lesson="05",
    title="Success of a targeted attack",
    task=(
        "Return the success rate of a targeted attack: the share of the images for which the model "
        "says the target. Images whose true class is the target are left out: they count neither "
        "as a success nor in the total. logits is (N, K), the model's logits on the attacked "
        "images; y is (N,) int64, the true classes; target is (N,) int64, the chosen ones. The "
        "result is one number from 0 to 1; where no image is left, it is float('nan')."
    ),
    difficulty=1,
    minutes=4,
    reference=_targeted_success_rate,
    inputs=_answers_and_targets,
    properties=(_is_a_share_or_nan,),
    right_answers=(_targeted_by_loop, _targeted_by_products),
    wrong_answers=edits(
        _targeted_success_rate,
        """
        any mistake counts: `logits.argmax(dim=1) == target` -> `logits.argmax(dim=1) != y`
            You count every wrong answer. That is untargeted success. A targeted attack has
            succeeded only if the model says the target.
        any mistake, of all images: `success[counted]` -> `(logits.argmax(dim=1) != y)`
            You count every wrong answer, over all images. That is the error rate. A targeted attack
            has succeeded only if the model says the target, and images whose true class is the
            target do not count.
        target examples counted: `success[counted]` -> `success`
            You also count images whose true class is the target. For those the model need not be
            fooled at all. Keep only y != target.
        divided by all: `success[counted]` -> `(success & counted)`
            You leave the images of the target class out of the count, but you still divide by all
            images. Leave them out of the denominator too.
        only target examples: `y != target` -> `y == target`
            You keep exactly the images that should be left out. Keep those whose true class is not
            the target.
        share of the mistakes: `y != target` -> `logits.argmax(dim=1) != y`
            You divide by the images that the model gets wrong. An attack that moves nothing failed
            too: divide by all images whose true class is not the target.
        left out by the answer: `y != target` -> `logits.argmax(dim=1) != target`
            You leave out the images for which the model says the target: these are the successes.
            Leave out those whose TRUE class is the target.
        right answers left out as well: `y != target`
        -> `(y != target) & (logits.argmax(dim=1) != y)`
            You also leave out the images that the model still gets right. An attack that moves
            nothing failed: leave out only those whose true class is the target.
        failures: `== target` -> `!= target`
            Your value is the share of failures. The task asks for the share of images for which the
            model says the target.
        accuracy: `logits.argmax(dim=1) == target` -> `logits.argmax(dim=1) == y`
            You count the right answers. The task asks how often the model says the target.
        probability of the target: `logits.argmax(dim=1) == target`
        -> `logits.softmax(dim=1).gather(1, target[:, None]).squeeze(1)`
            You average the probability of the target. Success is yes or no: is the target the
            class that the model says?
        number in place of a share: `.mean()` -> `.sum()`
            You return how many attacks succeeded. Divide by the number of images that were tried.
        percent: `.item()` -> `.item() * 100`
            Your value is a percentage. Return a fraction between 0 and 1.
        zero where nothing was tried: `.mean()` -> `.mean().nan_to_num(0.0)`
            Where every image is of the target class, you return 0. That reads as a failed attack,
            but nothing was tried. Return float('nan').
        more than one half: `logits.argmax(dim=1) == target`
        -> `logits.softmax(dim=1).gather(1, target[:, None])[:, 0] > 0.5`
            You ask for a probability of more than one half. The model says the class with the
            largest probability, which may be smaller.
        among the best two: `logits.argmax(dim=1) == target`
        -> `(logits.topk(2, dim=1).indices == target[:, None]).any(dim=1)`
            You count an attack if the target is among the two best classes. It must be the best
            one: argmax.
        ahead of the true class: `logits.argmax(dim=1) == target`
        -> `(logits.gather(1, target[:, None]) > logits.gather(1, y[:, None]))[:, 0]`
            You compare the target with the true class only. A third class may be ahead of both:
            take the argmax over all.
        target examples as successes: `success[counted]` -> `(success | ~counted)`
            You count images whose true class is the target as successes. Leave them out, also of
            the total.
        mean over the targets: `return` -> `kinds = target[counted].unique()¶return`,
        `return`
        -> `shares = [success[counted & (target == c)].float().mean() for c in kinds]¶return`,
        `success[counted].float().mean().item()` -> `sum(shares) / torch.tensor(float(len(kinds)))`
            You average the shares of the targets. Then a target with few images counts as much as
            one with many. Take one share of all images.
        first target for all: `counted =` -> `target = target[:1].expand(len(y))¶counted =`
            You use the first target for all images. Each image has its own entry in `target`.
        """,
    ),
    hints=(
        "Two questions for each image: does it count, and does the model say the target?",
        "`y != target` answers the first, `logits.argmax(dim=1) == target` the second.",
        "With `counted` and `success`, return `success[counted].float().mean().item()`. The mean "
        "of an empty tensor is nan already.",
    ),
    takeaway="Every success is also a mistake, so the share of mistakes is at least as large.",
)


# --- 4. The straight-line forecast ----------------------------------------------------------------


def _forecast_margin(margin: Tensor, gradient: Tensor, eps: float) -> Tensor:
    slope = gradient.flatten(1).abs().sum(dim=1)  # (N,) the L1 norm of each image's gradient
    return margin - eps * slope  # (N,)


def _margins(generator: torch.Generator) -> list[Args]:
    gradient = torch.tensor([[2.0, -1.0, 0.5, 0.0], [-1.0, 0.0, 0.0, -2.0]])
    return [
        (torch.tensor([1.0, 0.25]), gradient, 0.25),
        (torch.tensor([4.0, -1.0]), gradient, 0.0),
        (3 * randn(generator, 6), randn(generator, 6, 1, 4, 4), 0.1),
        # As many images as pixels: a sum over the wrong axis runs here too.
        (3 * randn(generator, 4), randn(generator, 4, 4), 0.3),
        (torch.tensor([1.5]), randn(generator, 1, 1, 4, 4), 0.2),
    ]


@rule("Your forecast lies above the margin. An attack makes the margin smaller.")
def _falls_with_eps(args: Args, output: Tensor) -> object:
    return (output <= args[0] + 1e-6).all()


def _forecast_by_step(margin: Tensor, gradient: Tensor, eps: float) -> Tensor:
    step = -eps * gradient.sign()  # the step that lowers the margin most
    return margin + (gradient * step).flatten(1).sum(1)


forecast_margin = Exercise(
    name="forecast_margin",
    lesson="05",
    title="The straight-line forecast",
    task=(
        "Forecast each image's margin after an unclipped step of eps against it, as if the network "
        "were linear: margin is (N,), the margins now; gradient is (N, ...), the gradient of each "
        "margin with respect to the pixels, such as (N, 1, 28, 28); eps is a number. The result is "
        "(N,)."
    ),
    difficulty=2,
    minutes=6,
    reference=_forecast_margin,
    inputs=_margins,
    properties=(_falls_with_eps,),
    right_answers=(
        _forecast_by_step,
        lambda margin, gradient, eps: (
            margin - eps * torch.linalg.vector_norm(gradient.flatten(1), ord=1, dim=1)
        ),
    ),
    wrong_answers=edits(
        _forecast_margin,
        """
        added up before the absolute value: `.abs().sum(dim=1)` -> `.sum(dim=1).abs()`
            You take the absolute value of the sum, in which entries have cancelled already. Take it
            of each entry first, and add up then.
        L2 norm: `.abs().sum(dim=1)` -> `.norm(dim=1)`
            You use the L2 norm of the gradient. It belongs to the worst step of Euclidean length
            eps. Here every pixel may move by eps on its own, so the absolute entries add up: the L1
            norm.
        sum without absolute values: `.abs()` -> ``
            You add up the gradient with its signs, so that entries cancel. The attacker follows the
            sign of each entry: use the absolute values.
        largest entry: `.sum(dim=1)` -> `.amax(dim=1)`
            You use the largest entry of the gradient. That is one pixel's part of the damage. All
            pixels move, and their parts add up.
        mean over the pixels: `.sum(dim=1)` -> `.mean(dim=1)`
            You average over the pixels. The damage of many small changes is their sum: that is the
            whole point.
        one sum for the batch: `.flatten(1).abs().sum(dim=1)` -> `.abs().sum()`
            You add up over all images. Each image has a gradient of its own: sum over its pixels
            only.
        one sum for the batch, with signs: `.flatten(1).abs().sum(dim=1)` -> `.sum()`
            You add up the whole gradient at once, with its signs, so that entries cancel. Each
            image has a slope of its own: add up the absolute values of its pixels.
        plus: `margin - eps` -> `margin + eps`
            You add the change. A step that helps the model does that. The attack takes
            eps·‖gradient‖₁ away from the margin.
        without eps: `eps * slope` -> `slope`
            eps does not appear: this is the forecast for a step of 1. Multiply the slope by eps.
        stops at zero: `margin - eps * slope` -> `(margin - eps * slope).clamp(min=0)`
            You stop at zero. A margin below zero means that the model is wrong, and it may fall as
            far as it likes.
        only the change: `margin - eps` -> `-eps`
            Your result is only the change of the margin. Add it to the margin before the step.
        sum of squares: `.abs()` -> `.square()`
            You add up the squares of the entries. That belongs to a step along the gradient itself.
            A step of eps along the signs takes away eps times the sum of the absolute values.
        towards zero: `- eps * slope` -> `- eps * margin.sign() * slope`
            You move each margin towards 0. The attack lowers a negative margin as well: subtract
            eps·‖gradient‖₁ everywhere.
        only the fall: `margin - eps` -> `eps`
            Your result is only by how much the margin falls. Subtract it from the margin.
        factor: `margin - eps * slope` -> `margin * (1 - eps * slope)`
            You multiply the margin by 1 - eps·‖gradient‖₁. The fall does not depend on the margin:
            subtract it.
        eps for each pixel with a gradient: `.abs().sum(dim=1)` -> `.ne(0).sum(dim=1)`
            You take eps for each pixel with a gradient. Such a pixel takes eps·|gradient| away: add
            up the absolute values.
        eps for each pixel: `gradient.flatten(1).abs().sum(dim=1)` -> `gradient[0].numel()`
            You take eps for each pixel. A pixel takes eps·|gradient| away: add up the absolute
            values.
        first image for all: `.sum(dim=1)` -> `.sum(dim=1)[:1]`
            You use the slope of the first image for all. Each image has a gradient of its own.
        positive entries only: `.abs()` -> `.clamp(min=0)`
            You count the positive entries only. A pixel with a negative one does damage, too: use
            the absolute values.
        mean slope for all: `.sum(dim=1)` -> `.sum(dim=1).mean()`
            You use the mean slope of the batch for all images. Each image has a gradient of its
            own.
        """,
    ),
    hints=(
        "It is lesson 3's closed form with the gradient in place of w: how much can one pixel that "
        "moves by eps take away from the margin?",
        "`gradient.flatten(1)` gives one row for each image. `.abs()` and `.sum(dim=1)` do the "
        "rest.",
        "Return margin - eps * gradient.flatten(1).abs().sum(dim=1).",
    ),
    takeaway=(
        "For a linear model the forecast is exact. For a network its error shows how far from "
        "linear the network is."
    ),
)


# --- 5. A cross-entropy that keeps its direction --------------------------------------------------


def _safe_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    true = logits.gather(1, y[:, None]).squeeze(1)  # (N,) the logit of the true class
    others = logits.scatter(1, y[:, None], -torch.inf)  # (N, K) the true class taken out
    margin = true - others.logsumexp(dim=1)  # (N,) how far it is ahead
    return torch.nn.functional.softplus(-margin)


def _confident_logits(generator: torch.Generator) -> list[Args]:
    gaps = torch.tensor([0.0, 5.0, 15.0, 20.0, 30.0, 45.0, 60.0])
    ladder = torch.stack([gaps, torch.zeros(7), torch.full((7,), -1.0)], dim=1)
    high = torch.tensor([[400.0, 390.0, 380.0], [-300.0, -320.0, -340.0]])
    return [
        (torch.tensor([[2.0, 0.0, -1.0], [25.0, 0.0, 1.0]]), torch.tensor([0, 0])),
        (ladder, torch.zeros(7, dtype=torch.int64)),
        (ladder, torch.ones(7, dtype=torch.int64)),  # confident, and wrong
        (high, torch.tensor([0, 1])),  # exp(400) is infinite
        (torch.tensor([[120.0, 0.0, -1.0]]), torch.tensor([1])),  # exp(-120) is 0
        (4 * randn(generator, 20, 10), labels(generator, 20, 10)),
    ]


@rule(
    "Somewhere your loss is 0. The true class never has a probability of exactly 1, so the loss"
    " is tiny there, but not 0. And where it is 0, its slope is lost."
)
def _is_positive(args: Args, output: Tensor) -> object:
    return (output > 0).all()


@rule("Your loss is not -log of the probability of the true class.")
def _is_the_cross_entropy(args: Args, output: Tensor) -> object:
    logits, y = args
    expected = functional.cross_entropy(logits.double(), y, reduction="none")
    # Up to rounding: what is lost by that is told by the rules below.
    return ((output.double() - expected).abs() <= 1e-3 * expected + 1e-4).all()


@rule(
    "Where the model is very sure, your loss is far from softplus(-margin), a tiny number. Look "
    "for a number that is added there, or for something that is cut off."
)
def _is_right_for_sure_answers(args: Args, output: Tensor) -> object:
    logits, y = args
    expected = functional.cross_entropy(logits.double(), y, reduction="none")
    tiny = expected < 1e-13  # too small for float64 as well
    near = (output.double() - expected).abs() <= 0.02 * expected
    return torch.where(tiny, output < 2e-13, near).all()


def _safe_by_differences(logits: Tensor, y: Tensor) -> Tensor:
    # log(1 + sum over the others of exp(z_k - z_y)): the true class gives the 1.
    differences = logits - logits.gather(1, y[:, None])
    rest = differences.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    return rest.clamp(min=0) + torch.log1p(torch.exp(-rest.abs()))


def _safe_by_loop(logits: Tensor, y: Tensor) -> Tensor:
    losses = []
    for row, label in zip(logits, y.tolist(), strict=True):
        others = torch.cat([row[:label], row[label + 1 :]])
        losses.append(functional.softplus(torch.logsumexp(others, 0) - row[label]))
    return torch.stack(losses)


safe_cross_entropy = Exercise(
    name="safe_cross_entropy",
    lesson="05",
    title="A cross-entropy that keeps its direction",
    task=(
        "Return the cross-entropy of each image as softplus(-margin), where margin is the logit of "
        "the true class minus the logsumexp of the OTHER logits. logits is (N, K), y is (N,) "
        "int64; the result is (N,). It must stay positive for margins of 60, and must not "
        "overflow. An attack follows its gradient, so keep it attached to the logits."
    ),
    difficulty=3,
    minutes=10,
    reference=_safe_cross_entropy,
    inputs=_confident_logits,
    asks=("slope",),
    properties=(_is_the_cross_entropy, _is_positive, _is_right_for_sure_answers),
    right_answers=(_safe_by_differences, _safe_by_loop),
    wrong_answers=edits(
        _safe_cross_entropy,
        """
        the usual function: `softplus(-margin)` -> `cross_entropy(logits, y, reduction="none")`
            This is PyTorch's own cross-entropy, or the same sum. It takes the difference of two
            nearly equal numbers, and in float32 that is 0 for a confident image. Leave the true
            class out of the logsumexp.
        double precision: `softplus(-margin)`
        -> `cross_entropy(logits.double(), y, reduction="none").to(logits.dtype)`
            Double precision only moves the limit, from a margin of about 16 to one of about 36. At
            45 your loss is 0 again. Write it as softplus(-margin).
        log of the probability: `logits.gather` -> `logits.softmax(dim=1).gather`,
        `torch.nn.functional.softplus(-margin)` -> `-torch.log(true)`
            You take the logarithm of a rounded number, a probability or 1 + exp(v). For a confident
            image it is rounded to 1, and the loss to 0. For a confident mistake the loss is inf.
            Stay with logits, and with `torch.nn.functional.softplus`.
        a small number added: `logits.gather` -> `logits.softmax(dim=1).gather`,
        `torch.nn.functional.softplus(-margin)` -> `-torch.log(true + 1e-8)`
            A small number inside the logarithm only hides the inf. The loss is cut off at about 18,
            and the slope of a confident image is still lost. Stay with logits.
        true class left in: `others.logsumexp` -> `logits.logsumexp`
            Your logsumexp runs over all classes. Then the margin is never above 0, and the loss
            never below log 2. Take the true class out first.
        largest of the others: `logsumexp` -> `amax`
            You compare with the largest other logit only. All other classes count: use logsumexp in
            place of the maximum.
        turned around: `(-margin)` -> `(margin)`
            The margin has the wrong sign: your loss is large where the model is right.
        margin without softplus: `torch.nn.functional.softplus(-margin)` -> `-margin`
            You return minus the margin. It has the right direction, and an attack may use it. But
            the cross-entropy is softplus of that.
        ReLU in place of softplus: `softplus` -> `relu`
            max(0, -margin) is exactly 0 for every image that is right, and so is its slope.
            softplus never is.
        mean over the batch: `softplus(-margin)` -> `softplus(-margin).mean()`
            You average over the batch. Return one loss for each image: (N,).
        overflow: `torch.nn.functional.softplus(-margin)`
        -> `torch.log1p(torch.exp(others).sum(dim=1) / torch.exp(true))`
            Your formula is right, but exp(400) is inf. `torch.logsumexp` subtracts the largest
            logit first.
        sigmoid: `torch.nn.functional.softplus` -> `torch.sigmoid`
            You return the sigmoid. That is the slope of the softplus. The loss is softplus(-margin)
            itself.
        zero in its place: `-torch.inf` -> `0.0`
            You put 0 in place of the true logit. exp(0) is 1, so one class too many is counted. Put
            minus infinity there: exp of that is 0.
        own answers as labels: `true =` -> `y = logits.argmax(dim=1)¶true =`
            You take the model's own answers for the labels. The loss is that of the true class y.
        columns and rows: `.squeeze(1)` -> ``
            Your two parts have the shapes (N, 1) and (N,). Their difference is (N, N), every image
            against every other. Use `.squeeze(1)`.
        columns and rows, averaged: `.squeeze(1)` -> ``, `softplus(-margin)`
        -> `softplus(-margin).mean(dim=1)`
            You subtract (N,) from (N, 1). That gives (N, N), every image against every other, and a
            mean does not repair it. Use `.squeeze(1)` on the true logit.
        predicted class left out: `scatter(1, y[:, None]`
        -> `scatter(1, logits.argmax(dim=1, keepdim=True)`
            You leave out the class that the model predicts. Leave out the true class y.
        mean in the logarithm: `others.logsumexp(dim=1)`
        -> `(others.logsumexp(dim=1) - math.log(logits.shape[1] - 1))`
            You take the logarithm of a mean of the other classes. It is the logarithm of their sum:
            logsumexp alone.
        true logit read too late: `= true` -> `= others.gather(1, y[:, None]).squeeze(1)`
            You read the true logit after minus infinity was put there. Read it from the logits
            themselves.
        plain log-sum-exp: `others.logsumexp(dim=1)` -> `others.exp().sum(dim=1).log()`
            You compute exp, sum and log yourself. exp(400) is inf, and log(0) is minus infinity.
            `logsumexp` subtracts the largest logit first.
        margin cut off: `(-margin)` -> `(-margin.clamp(max=16))`
            You cut the margin off. Then all confident images have the same loss, and no slope.
            softplus needs no cut.
        one against one: `softplus(-margin)` -> `softplus(others - true[:, None]).sum(dim=1)`
            You add up a loss for each other class. Join the others by logsumexp first, and take one
            softplus of that.
        a finite number in its place: `-torch.inf` -> `-100.0`
            You put -100 in place of the true logit. Other logits may be smaller, and then it
            counts. Put minus infinity there.
        a smaller number added: `logits.gather` -> `logits.softmax(dim=1).gather`,
        `torch.nn.functional.softplus(-margin)` -> `-torch.log(true + 1e-12)`
            A small number inside the logarithm only hides the inf. The loss is still cut off, and
            the slope of a confident image is lost. Stay with logits.
        a tiny number added: `logits.gather` -> `logits.softmax(dim=1).gather`,
        `torch.nn.functional.softplus(-margin)` -> `-torch.log(true + 1e-10)`
            You add a small number inside the logarithm. That hides the inf, but the loss is cut
            off, and the slope of a confident image is lost. Stay with logits.
        first label for all: `true =` -> `y = y[:1].expand(len(logits))¶true =`
            You use the first label for all images. Each image has its own entry in y.
        mean of the others: `others.logsumexp(dim=1)`
        -> `logits.scatter(1, y[:, None], 0.0).sum(dim=1) / (logits.shape[1] - 1)`
            You compare with the mean of the other logits. Use their logsumexp.
        mean in each row: `softplus(-margin)` -> `softplus(-margin).mean().repeat(len(y))`
            You average the losses and give every image the same one. Return one loss for each
            image.
        squared error: `torch.nn.functional.softplus(-margin)`
        -> `(logits.softmax(dim=1) - torch.eye(logits.shape[1])[y]).square().sum(dim=1)`
            Your loss is the squared error of the probabilities. The task asks for
            softplus(-margin).
        log-sigmoid of the true logit: `softplus(-margin)` -> `softplus(-true)`
            You use the true logit alone in place of the margin. Subtract the logsumexp of the other
            logits.
        difference of two large numbers: `torch.nn.functional.softplus(-margin)`
        -> `logits.logsumexp(dim=1) - true`
            This is the cross-entropy as the difference of two numbers. For a confident image they
            are nearly equal, and in float32 the difference is 0. Leave the true class out of the
            logsumexp.
        """,
    ),
    hints=(
        "You need two numbers for each image: the logit of the true class, and the logsumexp of "
        "the others. `logits.gather(1, y[:, None]).squeeze(1)` is the first.",
        "To leave out the true class, put minus infinity in its place: "
        "`logits.scatter(1, y[:, None], -torch.inf)`. exp of that is 0.",
        "With margin = true - others.logsumexp(dim=1), return "
        "torch.nn.functional.softplus(-margin).",
    ),
    takeaway="The same value, and a slope that is not lost before a margin of about 100.",
    rtol=1e-3,
    atol=1e-30,
)


# --- 6. eps in pixels, the model in other units ---------------------------------------------------


def _pixel_fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float, stats: Tensor) -> Tensor:
    mean, std = stats[:, :, None, None]  # (C, 1, 1) each
    pixels = x.detach().clone().requires_grad_(True)
    normalised = (pixels - mean) / std  # what the model wants
    loss = torch.nn.functional.cross_entropy(model(normalised), y)
    (gradient,) = torch.autograd.grad(loss, pixels)  # with respect to the pixels
    return torch.clamp(pixels + eps * gradient.sign(), 0, 1).detach()


def _normalised_models(generator: torch.Generator) -> list[Args]:
    def model(colours: int, width: int = 3) -> nn.Module:
        small_weights = network(generator, 3 * width * colours, 8, 4, dropout=None)
        for parameter in small_weights.parameters():
            parameter.data.mul_(0.5)
        return small_weights

    grey = torch.tensor([[0.13], [0.31]])
    colour = torch.tensor([[0.49, 0.48, 0.45], [0.25, 0.2, 0.3]])
    small = rand(generator, 1, 1, 3, 3)
    made = [
        (model(1), small, torch.tensor([2]), 0.25, grey),
        (model(1), small, torch.tensor([1]), 0.0, grey),
        (model(1), images(generator, 6, 1, 3, 3), labels(generator, 6, 4), 0.1, grey),
        (model(3, 4), images(generator, 5, 3, 3, 4), labels(generator, 5, 4), 0.05, colour),
    ]
    faint = model(1)
    list(faint.parameters())[-2].data.mul_(1e-7)  # tiny gradients, whose signs count as much
    return [
        *made,
        (faint, images(generator, 2, 1, 3, 3), torch.tensor([3, 0]), 0.125, grey),
        # As many columns as colours: statistics along the width run here, and are wrong.
        (model(3), images(generator, 2, 3, 3, 3), torch.tensor([1, 2]), 0.1, colour),
    ]


@rule("Your result leaves the range [0, 1] of a pixel.")
def _leaves_pixels_in_range(args: Args, output: Tensor) -> object:
    return ((output >= 0) & (output <= 1)).all()


def _keeps_to_eps(args: Args, output: Tensor) -> str | None:
    x, eps = args[1], args[3]
    if ((output - x).abs() <= eps + 1e-5).all():
        return None
    return f"Some of your pixels move by more than eps = {eps:g}."


def _uses_all_of_eps(args: Args, output: Tensor) -> str | None:
    x, eps = args[1], args[3]
    weight = next(args[0].parameters())  # (hidden, pixels): no column of a dead pixel is looked at
    alive = (weight != 0).any(dim=0).reshape(x.shape[1:])
    room = (output > 1e-4) & (output < 1 - 1e-4) & alive
    if ((output - x).abs()[room] >= eps - 1e-5).all():
        return None
    return f"Some of your pixels move by less than eps = {eps:g}, though there is room."


def _fgsm_in_model_units(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, stats: Tensor
) -> Tensor:
    # In normalised units the step is eps / std, and 0 and 1 lie elsewhere: undone at the end.
    mean, std = stats[0].reshape(-1, 1, 1), stats[1].reshape(-1, 1, 1)
    z = ((x - mean) / std).requires_grad_(True)
    gradient = torch.autograd.grad(functional.cross_entropy(model(z), y), z)[0]
    moved = z.detach() + (eps / std) * gradient.sign()
    return (moved * std + mean).clamp(0, 1)


def _fgsm_with_a_layer(model: nn.Module, x: Tensor, y: Tensor, eps: float, stats: Tensor) -> Tensor:
    mean, std = (row.view(1, -1, 1, 1) for row in stats)
    delta = torch.zeros_like(x, requires_grad=True)
    chosen = model((x + delta - mean) / std).log_softmax(1).gather(1, y[:, None]).sum()
    return (x - eps * torch.autograd.grad(chosen, delta)[0].sign()).clip(0, 1)


pixel_fgsm = Exercise(
    name="pixel_fgsm",
    lesson="05",
    title="eps in pixels, the model in other units",
    task=(
        "Write FGSM for a model that wants normalised images, (pixel - mean) / std in each colour. "
        "x is (N, C, H, W) with pixels in [0, 1]; y is (N,) int64, the true labels; eps is in PIXEL"
        " units; stats is (2, C): the means, then the standard deviations. Return the attacked "
        "image in pixels, in [0, 1], detached."
    ),
    difficulty=3,
    minutes=10,
    asks=("detached",),
    reference=_pixel_fgsm,
    inputs=_normalised_models,
    properties=(_leaves_pixels_in_range, _keeps_to_eps, _uses_all_of_eps),
    right_answers=(_fgsm_in_model_units, _fgsm_with_a_layer),
    wrong_answers=(
        *edits(
            _fgsm_in_model_units,
            """
            eps on normalised numbers: `(eps / std) * gradient` -> `eps * gradient`
                Your pixels move by eps·std only, as when eps is added to the normalised numbers.
                Your attack is several times weaker than the eps that you report.
            clamped in the model's units: `moved * std` -> `moved.clamp(0, 1) * std`
                You clamp the normalised numbers to [0, 1]. There black is -mean/std and white is
                (1 - mean)/std, so the clamp destroys the image. Clamp pixels.
            left normalised: `.clamp(0, 1)` -> `.clamp(0, 1).sub(mean).div(std)`
                Your result is normalised. The caller wants an image in pixels, from 0 to 1.
            mean not added back: `moved * std + mean` -> `moved * std`
                On the way back to pixels you multiply by std, but you do not add the mean. Undo
                both: moved * std + mean.
            one deviation for eps: `(eps / std)` -> `(eps / std.mean())`
                You divide eps by the mean deviation of all colours. Each colour has its own: the
                step is eps / std.
            left normalised, never clamped: `(moved * std + mean).clamp(0, 1)` -> `moved`
                Your result is normalised. The caller wants an image in pixels, from 0 to 1: undo
                it, moved * std + mean, and clamp.
            all in the model's units: `(eps / std) * gradient` -> `eps * gradient`,
            `(moved * std + mean).clamp(0, 1)` -> `moved`
                Your result is normalised, and eps is added to normalised numbers. Both belong in
                pixels: the step is eps / std there, and the result is moved * std + mean, clamped.
            all in the model's units, clamped: `(eps / std) * gradient` -> `eps * gradient`,
            `(moved * std + mean)` -> `moved`
                Your result is normalised, and clamped there. eps and the range [0, 1] belong to
                pixels: the step is eps / std, and the result is moved * std + mean, clamped.
            """,
        ),
        *edits(
            _pixel_fgsm,
            f"""
            not normalised at all: `model(normalised)` -> `model(pixels)`
                You hand the pixels to the model as they are. It was trained on
                (pixel - mean) / std, and its gradient at another point is another gradient.
            multiplied by std: `/ std` -> `* std`
                You multiply by std. Normalising divides by it.
            no mean: `(pixels - mean) / std` -> `pixels / std`
                You only divide by std. Normalising is (pixel - mean) / std: subtract the mean
                first.
            swapped statistics: `mean, std = stats` -> `std, mean = stats`
                You take the first row of stats for the standard deviations. The means come first.
            one pair for all colours: `stats[:, :, None, None]` -> `stats.mean(dim=1)`
                You take one mean and one deviation for all colours. Each colour has its own, in a
                column of stats.
            order of the two steps: `(pixels - mean) / std` -> `pixels / std - mean`
                You divide before you subtract. Normalising is (pixel - mean) / std: subtract first.
            no sign: `.sign()` -> ``
                Your step is eps·gradient, without the sign. FGSM uses only the sign of each entry.
            minus: `pixels + eps` -> `pixels - eps`
                You step against the gradient. That lowers the loss, as in training.
            no clamp: `torch.clamp(` -> `(`, `, 0, 1)` -> `)`
                Your result leaves the range [0, 1]. Clamp the pixels after the step.
            eps over 255: `eps * gradient` -> `eps / 255 * gradient`
                You divide eps by 255. The pixels here run from 0 to 1, and eps is in the same
                units.
            gradients left in the model: `(gradient,) = torch.autograd.grad(loss, pixels)`
            -> `loss.backward()¶gradient = pixels.grad`
                {evidence.GRADIENTS_LEFT}
            normalised twice: `model(normalised)` -> `model((normalised - mean) / std)`
                You normalise twice, so the model sees numbers that it does not know. x holds
                pixels: subtract the mean and divide by std once.
            predicted labels: `loss =` -> `y = model(normalised).argmax(dim=1)¶loss =`
                You attack the label that the model predicts. Where the model is already wrong, that
                leads back to the right answer. Use the true labels y.
            first colour for all: `stats[:, :, None, None]` -> `stats[:, 0]`
                You use the mean and the deviation of the first colour for all. Each colour has its
                own: give them the shape (C, 1, 1).
            along the rows: `stats[:, :, None, None]` -> `stats[:, :, None]`
                Your statistics have the shape (C, 1), so they run along the rows of the image. Give
                them the shape (C, 1, 1), one number for each colour.
            statistics of the batch: `stats[:, :, None, None]`
            -> `(x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True))`
                You take the mean and the deviation of this batch. The model was trained with those
                in `stats`: use them.
            root of std: `/ std` -> `/ std.sqrt()`
                You take the square root of std. It is a standard deviation already, not a variance:
                divide by std.
            square of std: `/ std` -> `/ std.square()`
                You divide by the square of std. Divide by std itself.
            eps over std on pixels: `eps * gradient` -> `eps / std * gradient`
                You divide eps by std, but you add it to pixels. Add eps itself: only on normalised
                numbers is the step eps / std.
            range of the batch: `0, 1)` -> `x.min(), x.max())`
                You clamp to the smallest and the largest pixel of the batch. The range of a pixel
                is from 0 to 1: clamp to that.
            perturbation only: `pixels + eps` -> `eps`
                Your result is only the perturbation, clamped. Add it to the pixels before you
                clamp.
            bare perturbation: `torch.clamp(pixels + eps * gradient.sign(), 0, 1)`
            -> `(eps * gradient.sign())`
                You return only the perturbation. Add it to the image, and clamp the sum.
            no eps: `eps * ` -> ``
                Your pixels move by 1. They should move by eps: multiply the sign by eps.
            gradient cut off at eps: `eps * gradient.sign()` -> `gradient.clamp(-eps, eps)`
                You cut the gradient off at eps. A small gradient then moves its pixel by less than
                eps. Take eps times the sign.
            one step for all: `gradient.sign()` -> `gradient.mean(dim=0, keepdim=True).sign()`
                You give one and the same step to all images: that of the mean gradient. Each image
                has its own gradient: take the sign of each.
            first label for all: `, y)` -> `, y[:1].expand(len(x)))`
                You use the first label for all images. Each image has its own entry in y.
            softmax before cross-entropy: `model(normalised)` -> `model(normalised).softmax(dim=1)`
                You apply softmax before `cross_entropy`. That function expects logits and applies
                softmax itself. Applying it twice gives another gradient.
            true logit only: `torch.nn.functional.cross_entropy(model(normalised), y)`
            -> `-model(normalised).gather(1, y[:, None]).sum()`
                Your loss is only the logit of the true class. The cross-entropy also looks at the
                other classes: they should rise.
            saved as 8 bits: `0, 1).detach()` -> `0, 1).mul(255).round().div(255).detach()`
                You round the result to the levels of 8 bits. Then pixels do not move by eps
                exactly. Return the image as it is.
            mean 0.5 for all: `mean, std = stats` -> `_, std = stats`, `pixels - mean`
            -> `pixels - 0.5`
                You subtract 0.5. Subtract the means of the colours, the first row of stats.
            mean added: `pixels - mean` -> `pixels + mean`
                You add the mean. Normalising subtracts it: (pixel - mean) / std.
            the way back: `(pixels - mean) / std` -> `pixels * std + mean`
                You multiply by std and add the mean. That is the way back to pixels. Normalising is
                (pixel - mean) / std.
            """,
        ),
    ),
    hints=(
        "Make a copy of x that requires a gradient, and normalise *that*. Autograd goes back "
        "through the normalisation to the pixels.",
        "`mean, std = stats[:, :, None, None]` gives both with shape (C, 1, 1), which broadcasts "
        "with images (N, C, H, W).",
        "After `torch.autograd.grad(loss, pixels)` the step and the clamp are those of lesson 3, "
        "in pixels.",
    ),
    takeaway="Put the normalisation inside the model, and eps keeps its meaning.",
)


# --- 7. Rotation ----------------------------------------------------------------------------------


def _rotate_towards(x: Tensor, gradient: Tensor, angle: Tensor) -> Tensor:
    length = x.square().sum(dim=1, keepdim=True).sqrt()  # (N, 1)
    along = x / length  # the unit vector of the image
    across = gradient - (gradient * along).sum(dim=1, keepdim=True) * along  # orthogonal to x
    across = across / across.square().sum(dim=1, keepdim=True).sqrt()
    return length * (torch.cos(angle) * along + torch.sin(angle) * across)


def _turns(generator: torch.Generator) -> list[Args]:
    x = torch.tensor([[3.0, 4.0, 0.0], [0.0, 2.0, 0.0]])
    gradient = torch.tensor([[1.0, 0.0, 2.0], [3.0, 1.0, -1.0]])
    return [
        (x, gradient, torch.tensor(0.5)),
        (x, gradient, torch.tensor(0.0)),
        (x, 0.001 * gradient, torch.tensor(0.2)),
        (rand(generator, 5, 12), randn(generator, 5, 12), torch.tensor(0.3)),
        (rand(generator, 1, 8), randn(generator, 1, 8), torch.tensor(0.4)),
    ]


@rule("The length of a row changes. A rotation keeps it.")
def _keeps_the_length(args: Args, output: Tensor) -> object:
    return torch.allclose(output.norm(dim=1), args[0].norm(dim=1), rtol=1e-3)


@rule("The angle between x and your result is not the angle that was asked for.")
def _turns_by_the_angle(args: Args, output: Tensor) -> object:
    x, _, angle = args
    cosine = (x * output).sum(1) / (x.norm(dim=1) * output.norm(dim=1)).clamp_min(1e-9)
    return torch.allclose(cosine, torch.cos(angle).expand(len(x)), atol=1e-3)


def _rotate_by_loop(x: Tensor, gradient: Tensor, angle: Tensor) -> Tensor:
    rows = []
    for image, slope in zip(x, gradient, strict=True):
        part = slope - torch.dot(slope, image) / torch.dot(image, image) * image
        rows.append(image * math.cos(angle) + part * (image.norm() / part.norm()) * math.sin(angle))
    return torch.stack(rows)


def _rotate_by_tangent(x: Tensor, gradient: Tensor, angle: Tensor) -> Tensor:
    normal = functional.normalize
    along = normal(x, dim=1)
    across = normal(gradient - (gradient * along).sum(1, keepdim=True) * along, dim=1)
    turned: Tensor = normal(along + torch.tan(angle) * across, dim=1)
    return turned * x.square().sum(1, keepdim=True).sqrt()


rotate_towards = Exercise(
    name="rotate_towards",
    lesson="05",
    title="Rotation towards the gradient",
    task=(
        "Turn each row of x by angle towards its gradient, and keep its length. x and gradient are "
        "(N, d); angle is a tensor with one number, in radians. The result is (N, d). No row of x "
        "is zero, and no gradient is parallel to its x."
    ),
    difficulty=3,
    minutes=10,
    reference=_rotate_towards,
    inputs=_turns,
    properties=(_keeps_the_length, _turns_by_the_angle),
    right_answers=(_rotate_by_loop, _rotate_by_tangent),
    wrong_answers=edits(
        _rotate_towards,
        """
        not orthogonal: ` - (gradient * along).sum(dim=1, keepdim=True) * along` -> ``
            Your second direction is the gradient itself. It has a part along x, so the length
            changes and the angle is wrong. Subtract that part first.
        not a unit vector: ` / across.square().sum(dim=1, keepdim=True).sqrt()` -> ``
            Your second direction does not have length 1, so the angle depends on how large the
            gradient is. Divide it by its length.
        unit length: `return length * ` -> `return `
            All your rows have length 1. Multiply by the length of x at the end.
        away from the gradient: `along + torch` -> `along - torch`
            You turn away from the gradient. That lowers the loss. The term with the sine has a plus
            sign.
        degrees: `(angle)` => `(torch.deg2rad(angle))`
            You read the angle as degrees. It is in radians, as torch.cos and torch.sin expect it.
        sine and cosine swapped: `cos(angle) * along + torch.sin`
        -> `sin(angle) * along + torch.cos`
            Sine and cosine are swapped: at angle 0 your result is not x. cos belongs to the
            direction of x.
        sign of the gradient: `across = gradient` -> `gradient = gradient.sign()¶across = gradient`
            You turn towards the sign of the gradient. The sign is the best direction for the box.
            For a rotation, which keeps the Euclidean length, it is the gradient itself.
        a straight step: `torch.cos(angle) * along + torch.sin(angle)` -> `along + angle`
            You take a straight step along the tangent, x + angle·‖x‖·u. That is nearly a rotation
            for small angles, but the row grows longer. Use the cosine and the sine.
        one length for all: `x.square().sum(dim=1, keepdim=True)` -> `x.square().sum()`
            You use one length for the whole batch. Each row has its own:
            `x.norm(dim=1, keepdim=True)`.
        one length for the batch: `x.square().sum(dim=1, keepdim=True)` -> `x.square().sum()`,
        `across.square().sum(dim=1, keepdim=True)` -> `across.square().sum()`
            You use one length for the whole batch, of x and of the second direction. Each row has
            its own: use dim=1 and keepdim=True.
        one length for the second direction: `across.square().sum(dim=1, keepdim=True)`
        -> `across.square().sum()`
            You divide the second direction by one length for the whole batch. Each row has its own:
            use dim=1 and keepdim=True.
        projected on x: `(gradient * along).sum(dim=1, keepdim=True) * along`
        -> `(gradient * x).sum(dim=1, keepdim=True) * x`
            Your projection has x itself in both places. Use the unit vector of x, `along`, in both.
        projected on x, once: `(gradient * along).sum` -> `(gradient * x).sum`
            In one of the two places of the projection you use x itself. Use the unit vector of x,
            `along`, in both places.
        one dot product for the batch: `(gradient * along).sum(dim=1, keepdim=True)`
        -> `(gradient * along).sum()`
            You take one dot product over the whole batch. Each row has its own: sum over dim=1,
            with keepdim=True.
        straight mixture: `torch.cos(angle) * along + torch.sin(angle) * across`
        -> `(1 - angle) * along + angle * across`
            You mix the two directions with 1 - angle and angle. That is a straight line, not a
            circle. Use the cosine and the sine.
        straight mixture, with the length: `torch.cos(angle) * along + torch.sin(angle) * across`
        -> `functional.normalize((1 - angle) * along + angle * across, dim=1)`
            You mix the two directions with 1 - angle and angle, and restore the length. The angle
            is not right that way. Use the cosine and the sine.
        not orthogonal, with the length: ` - (gradient * along).sum(dim=1, keepdim=True) * along`
        -> ``,
        `* (torch.cos(angle) * along + torch.sin(angle) * across)`
        -> `* functional.normalize(torch.cos(angle) * along + torch.sin(angle) * across, dim=1)`
            Your second direction is the gradient itself. Restoring the length does not repair the
            angle. Subtract the part along x first.
        clamped: `return length * (` -> `return torch.clamp(length * (`, `* across)`
        -> `* across), 0, 1)`
            You clamp the result to [0, 1]. That changes the length and the angle. Here nothing is
            clamped.
        unit vector subtracted: `(gradient * along).sum(dim=1, keepdim=True) * along` -> `along`
            You subtract the unit vector of x. Subtract the part along x: the dot product with it,
            times it.
        length of the gradient: `across.square()` -> `gradient.square()`
            You divide the second direction by the length of the whole gradient. Divide it by its
            own length.
        tangent: `torch.cos(angle) * along + torch.sin(angle)` -> `along + torch.tan(angle)`
            You add tan(angle) times the second direction to the first. The angle is right, but the
            row grows longer. Use the cosine and the sine.
        sums of absolute values: `x.square().sum(dim=1, keepdim=True).sqrt()`
        -> `x.abs().sum(dim=1, keepdim=True)`,
        `across.square().sum(dim=1, keepdim=True).sqrt()` -> `across.abs().sum(dim=1, keepdim=True)`
            You measure lengths by the sum of absolute values. A rotation keeps the Euclidean
            length, the root of the sum of squares.
        columns in place of rows: `.square().sum(dim=1, keepdim=True).sqrt()`
        => `.square().sum(dim=0, keepdim=True).sqrt().clamp(min=1e-12)`
            Your lengths are those of the columns (dim=0). Each row is one image: use dim=1.
        part along x added: `gradient - (` -> `gradient + (`
            You add the part of the gradient along x. Subtract it: then the rest is orthogonal to x.
        size of the part along x: `keepdim=True) * along` -> `keepdim=True).abs() * along`
            You take the absolute value of the dot product. Keep its sign: the gradient may point
            away from x.
        length of the first row: `return length` -> `return length[:1]`
            You give all rows the length of the first. Each row keeps its own length.
        gradient added: `return length * (torch.cos(angle) * along + torch.sin(angle) * across)`
        -> `return x + angle * gradient`
            You add angle times the gradient. Then the turn depends on how long the gradient is, and
            the row changes its length. Use the two unit vectors.
        a step, with the length: `(torch.cos(angle) * along + torch.sin(angle) * across)`
        -> `functional.normalize(x + angle * gradient, dim=1)`
            You add angle times the gradient and restore the length. Then the turn depends on how
            long the gradient is. Use the two unit vectors.
        second part without the length: `length * (torch` -> `length * torch`,
        `* across)` -> `* across`
            The term with the sine lacks the length of x. Both terms are multiplied by it.
        """,
    ),
    hints=(
        "A rotation happens in a plane. One axis is the direction of x. The other is the part of "
        "the gradient that is orthogonal to x. Both need length 1.",
        "`along = x / x.norm(dim=1, keepdim=True)`. The part of the gradient along x is "
        "`(gradient * along).sum(dim=1, keepdim=True) * along`: subtract it from the gradient.",
        "With unit vectors along and across, the result is the length of x times "
        "(torch.cos(angle) * along + torch.sin(angle) * across).",
    ),
    takeaway="The length of the image stays, and still a small turn is enough to fool the model.",
)


# --- 8. How many signs are wrong? -----------------------------------------------------------------


def _wrong_sign_share(gradient: Tensor, exact: Tensor) -> Tensor:
    counted = exact != 0  # pixels that have a right direction at all
    wrong = counted & (gradient.sign() != exact.sign())
    return wrong.flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1)  # (N,)


def _two_gradients(generator: torch.Generator) -> list[Args]:
    exact = torch.tensor([[2.0, -1.0, 0.5, 0.0, 0.0], [-3.0, -0.25, 1.0, 4.0, 0.0]])
    gradient = torch.tensor([[2.5, 1.0, 0.0, 0.0, 0.125], [-1.0, 0.5, -2.0, 0.0, 0.0]])
    images = randn(generator, 4, 1, 5, 5)
    images[:, :, 0] = 0.0  # a border without a gradient
    rough = images + 0.7 * randn(generator, 4, 1, 5, 5)
    rough[0, 0, 2] = 0.0
    return [
        (gradient, exact),
        (exact, exact),
        (-exact, exact),
        (torch.zeros(2, 5), exact),  # a gradient that is lost altogether
        (rough, images),
        # The gradients of a confident model: their products are 0 in float32, they are not.
        (1e-30 * rough, 1e-30 * images),
        (rough[1:2], images[1:2]),
    ]


@rule("A share lies between 0 and 1.")
def _is_a_share(args: Args, output: Tensor) -> object:
    return ((output >= 0) & (output <= 1)).all()


@rule("Here the two gradients are the same, so no sign is wrong. Your share is not 0.")
def _no_sign_is_wrong_in_the_gradient_itself(args: Args, output: Tensor) -> object:
    gradient, exact = args
    return not torch.equal(gradient, exact) or (output == 0).all()


def _share_by_loop(gradient: Tensor, exact: Tensor) -> Tensor:
    shares = []
    for row, exact_row in zip(gradient, exact, strict=True):
        kept = exact_row.ne(0)
        shares.append(1 - (row[kept].sign() == exact_row[kept].sign()).float().mean())
    return torch.stack(shares)


def _share_by_products(gradient: Tensor, exact: Tensor) -> Tensor:
    right = (gradient.sign() * exact.sign() > 0).flatten(1).float().sum(1)
    return 1 - right / exact.sign().abs().flatten(1).sum(1)


wrong_sign_share = Exercise(
    name="wrong_sign_share",
    lesson="05",
    title="How many signs are wrong?",
    task=(
        "For each image, return the share of wrong signs: of the pixels whose exact gradient is "
        "not 0, the part whose sign in `gradient` differs. A 0 in `gradient` counts as wrong "
        "there. Both are (N, ...), such as (N, 1, 28, 28). The result is (N,)."
    ),
    difficulty=1,
    minutes=5,
    reference=_wrong_sign_share,
    inputs=_two_gradients,
    properties=(_is_a_share, _no_sign_is_wrong_in_the_gradient_itself),
    right_answers=(_share_by_loop, _share_by_products),
    wrong_answers=edits(
        _wrong_sign_share,
        """
        over all pixels: `counted.flatten(1).sum(dim=1)` -> `counted[0].numel()`
            You divide by the number of all pixels. Those with an exact gradient of 0, such as the
            border, have no right direction: leave them out of the total.
        dead pixels counted: `counted & ` -> ``
            You also count pixels whose exact gradient is 0. They have no right direction, so none
            can be wrong there.
        only opposite signs: `gradient.sign() != exact.sign()` -> `gradient * exact < 0`
            You count opposite signs only. A 0 where the exact gradient is not 0 is wrong too: FGSM
            then leaves the pixel where it is.
        share of right signs: `gradient.sign() != exact.sign()` -> `gradient * exact > 0`
            Your values are the shares of right signs. The task asks for the share of wrong ones.
        values compared: `.sign()` => ``
            You compare the values. FGSM uses only the signs: apply `.sign()` to both first.
        one number for the batch: `.flatten(1).sum(dim=1)` => `.sum()`
            You count over the whole batch. Return one share for each image: count over
            `.flatten(1)` and dim=1.
        pixels of the other gradient: `counted = exact` -> `counted = gradient`
            You leave out the pixels in which `gradient` is 0. `exact` decides which pixels count.
            Where `exact` is not 0, a 0 in `gradient` is a wrong sign.
        by the product: `(gradient.sign() != exact.sign())` -> `(gradient * exact <= 0)`
            You multiply the two gradients. The product of two tiny numbers is 0 in float32, though
            their signs are equal. Compare the signs.
        all pixels compared: `counted & (gradient` -> `(gradient`,
        `counted.flatten(1).sum(dim=1)` -> `exact[0].numel()`
            You compare all pixels. Where the exact gradient is 0 there is no right direction: leave
            these pixels out of both counts.
        only opposite signs, by the signs: `gradient.sign() != exact.sign()`
        -> `gradient.sign() * exact.sign() < 0`
            A product below 0 finds the opposite signs only. A 0 in `gradient` counts as wrong, too:
            count every sign that differs, with `!=`.
        one share for all: `wrong.flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1)`
        -> `(wrong.sum() / counted.sum()).repeat(len(exact))`
            You give one share to all images: that of the whole batch. Each image has its own: count
            over `.flatten(1)` and dim=1.
        both must have a sign: `exact != 0` -> `(exact != 0) & (gradient != 0)`
            You leave out the pixels in which `gradient` is 0. Where `exact` is not 0, they count,
            as wrong.
        small exact gradients left out: `exact != 0` -> `exact.abs() > 1e-6`
            You leave out pixels whose exact gradient is small. A tiny gradient has a sign, too:
            leave out only those with exactly 0.
        zeros by half: `counted & (gradient.sign() != exact.sign())`
        -> `counted * (gradient.sign() - exact.sign()).abs() / 2`
            A 0 in `gradient` counts only half in your share. It counts as wrong, like the opposite
            sign: use `!=`.
        opposite signs twice: `counted & (gradient.sign() != exact.sign())`
        -> `counted * (gradient.sign() - exact.sign()).abs()`
            An opposite sign counts twice in your share. Each wrong sign counts once: use `!=`.
        count: ` / counted.flatten(1).sum(dim=1)` -> ``
            You return how many signs are wrong. Divide by the number of pixels whose exact gradient
            is not 0.
        roles exchanged: `exact != 0` -> `gradient != 0`,
        `gradient.sign() != exact.sign()` -> `gradient * exact < 0`
            You keep the pixels in which `gradient` is not 0, and count opposite signs. `exact`
            decides which pixels count, and a 0 in `gradient` is wrong there.
        roles exchanged, by the signs: `exact != 0` -> `gradient != 0`,
        `gradient.sign() != exact.sign()` -> `gradient.sign() * exact.sign() < 0`
            You choose the pixels by `gradient`, and count opposite signs. Choose them by `exact`:
            there, a 0 in `gradient` is wrong, too.
        nearly equal values: `gradient.sign() != exact.sign()` -> `~torch.isclose(gradient, exact)`
            You ask whether the values are nearly equal. FGSM uses only the signs: compare `.sign()`
            of both.
        first image for all: `.flatten(1).sum(dim=1) / `
        -> `.flatten(1).sum(dim=1)[:1].expand(len(exact)) / `,
        `/ counted.flatten(1).sum(dim=1)` -> `/ counted.flatten(1).sum(dim=1)[:1]`
            You give the share of the first image to all of them. Each image has its own share.
        above zero or not: `counted & (gradient.sign() != exact.sign())`
        -> `(gradient > 0) != (exact > 0)`, `counted.flatten(1).sum(dim=1)` -> `exact[0].numel()`
            You ask of all pixels which are above 0. Leave out those whose exact gradient is 0, also
            of the total, and compare the signs.
        counted where either is not 0: `counted = exact != 0`
        -> `counted = (exact != 0) | (gradient != 0)`
            You also count pixels in which `exact` is 0 and `gradient` is not. `exact` decides which
            pixels count: those where it is not 0.
        nearly 0 taken for 0, no pixel as share 0: `counted = exact != 0`
        -> `counted = exact.abs() > 1e-8`, `counted.flatten(1).sum(dim=1)`
        -> `counted.flatten(1).sum(dim=1).clamp(min=1)`
            You leave out pixels in which `exact` is nearly 0, as `isclose` does. A tiny number has
            a sign, too: compare with 0 itself.
        """,
    ),
    hints=(
        "Two questions for each pixel: does it count at all, and if so, does its sign differ?",
        "`exact != 0` answers the first, `gradient.sign() != exact.sign()` the second. Join them "
        "with `&`.",
        "Count with `.flatten(1).sum(dim=1)`, in the numerator and in the denominator.",
    ),
    takeaway="A coin toss would give one half.",
)


EXERCISES = (
    error_and_success,
    targeted_fgsm,
    targeted_success_rate,
    forecast_margin,
    safe_cross_entropy,
    pixel_fgsm,
    rotate_towards,
    wrong_sign_share,
)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    FGSM at eps = 0.25 finds an error of 80 % on a deep network. What do you know?
    + The error under the best attack is 80 % or more.
        Each of these errors is a fact. What FGSM missed, another attack may find. So we print PGD
        beside it.
    - At eps = 0.25 the network gets 20 % of the images right, whatever the attack.
        That would need a proof that no attack does better. FGSM takes one step, and a deep
        network bends.
    - The network is robust against small changes.
        One step breaks four images of five. That is not robust by any measure.

    FGSM with a minus and the label 3 is run on an image of a 7, and the model then says 8. What has
    happened?
    - The attack succeeded: the answer is wrong.
        As an untargeted attack it did. But the attacker chose 3, and 8 is not 3.
    + The targeted attack failed. More steps may still reach the 3.
        One step lowers the true class and raises the 3, but it does not see the 8 coming. PGD looks
        again after each step.
    - The sign is wrong: an attack adds eps·sign(gradient).
        That raises a loss. Here the loss of the 3 should fall, so the minus is right.

    As eps grows, the network becomes more and more confident in its wrong answer. What does that
    say about the network?
    - It has seen many such images in training.
        It has seen none. It extends what it learned near the digits to places where there are no
        digits.
    - The images become good examples of the wrong class.
        Look at them: they still show the old digit, under noise. The RBF network, which measures
        a distance, has little confidence in them.
    + Its logits go on nearly straight.
        Then the differences between them grow as well: a straight line never levels off. The
        softmax turns a growing difference into growing confidence.

    A digit has a margin of 25. In float32, PyTorch's cross-entropy gives a gradient that is …
    - … exactly zero everywhere.
        Not yet: the other classes still have tiny probabilities. All zero comes much later, near
        103.
    + … tiny, and many of its signs are wrong.
        The true class has dropped out. FGSM takes a full step of eps all the same, in a poor
        direction.
    - … tiny, but with the right signs.
        Tiny, yes. But p - 1 of the true class is rounded to 0, so its whole part of the gradient
        is missing, and many signs are wrong.

    Which slip makes an attack look STRONGER than it is?
    - Dropout left on while the gradient is computed.
        The gradient is then that of another, thinned network. The attack on the real one becomes
        weaker.
    - eps = 0.25 on normalised images.
        In pixels that is less than 0.25, so fewer images fall.
    + eps = 8 where 8/255 was meant.
        With the clamp every pixel becomes black or white. Little is left of the image, and a
        wrong answer proves nothing.

    The paper attacks CIFAR-10 with eps = .1. Are these pixels from 0 to 1?
    + No: they are whitened units.
        Their standard deviation is about one half. So eps .1 there and eps .1 in pixels are two
        different attacks. Compare only numbers in the same units.
    - Yes, as for the digits.
        The photographs were contrast-normalised and whitened first. A number there is no longer
        the brightness of a pixel.
    - No, grey levels from 0 to 255.
        A tenth of a grey level would be rounded away. The units are those of the whitened images.
    """
)
