"""Exercises of lesson 04: the L1 penalty against adversarial training."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from advlearn.course import grading
from advlearn.course.banks.inputs import images, labels, randn, signs
from advlearn.course.grading import Args, Exercise, edits, parse, rule

functional = torch.nn.functional


def _linear_inputs(generator: torch.Generator) -> list[Args]:
    """Make (w, b, x, y, strength)."""
    w = torch.tensor([1.0, -2.0, 0.5])
    x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.5]])
    far = torch.tensor([[150.0, 0.0], [0.0, -150.0], [60.0, -60.0]])
    return [
        (w, torch.tensor(0.25), x, torch.tensor([1.0, -1.0]), 0.25),
        (w, torch.tensor(-0.5), x[:1], torch.tensor([-1.0]), 0.1),
        # Without any penalty both objectives are the plain loss.
        (w, torch.tensor(0.25), x, torch.tensor([-1.0, 1.0]), 0.0),
        # Some weights are zero, as L1 leaves them.
        (
            torch.cat([torch.zeros(2), randn(generator, 4)]),
            torch.tensor(-0.3),
            images(generator, 8, 6),
            signs(generator, 8),
            0.2,
        ),
        # Far from the boundary: exp(150) is infinite in float32.
        (torch.tensor([1.0, -1.0]), torch.tensor(0.1), far, torch.tensor([-1.0, -1.0, 1.0]), 0.15),
    ]


# --- 1. Both objectives -------------------------------------------------------------------------


def _two_objectives(
    w: Tensor, b: Tensor, x: Tensor, y: Tensor, strength: float
) -> tuple[float, float]:
    softplus = torch.nn.functional.softplus
    margin = y * (x @ w + b)  # (N,)
    norm = w.abs().sum()  # one number
    outside = softplus(-margin).mean() + strength * norm  # the price stands beside the loss
    inside = softplus(strength * norm - margin).mean()  # the attack lowers each margin
    return outside.item(), inside.item()


@rule("With strength 0 both objectives should be the mean plain loss.")
def _objectives_at_zero(args: Args, output: Any) -> object:
    w, b, x, y, strength = args
    clean = float(functional.softplus(-y * (x @ w + b)).mean())
    return strength or all(abs(float(v) - clean) < 1e-4 for v in output)


@rule("One of your objectives is below the plain loss. Neither penalty lowers the loss.")
def _objectives_never_below_clean(args: Args, output: Any) -> object:
    w, b, x, y, _ = args
    clean = float(functional.softplus(-y * (x @ w + b)).mean())
    return all(float(v) >= clean - 1e-4 for v in output)


@rule(
    "At equal strength the adversarial loss cannot be above the L1-penalised one: softplus "
    "rises by less than its argument."
)
def _inside_is_never_above_outside(args: Args, output: Any) -> object:
    return float(output[1]) <= float(output[0]) + 1e-4


def _attacked_objectives(
    w: Tensor, b: Tensor, x: Tensor, y: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    worst = x - strength * y[:, None] * w.sign()
    losses = [functional.softplus(-y * (images @ w + b)) for images in (x, worst)]
    return losses[0].mean() + strength * w.norm(p=1), losses[1].mean()


def _looped_objectives(
    w: Tensor, b: Tensor, x: Tensor, y: Tensor, strength: float
) -> tuple[float, float]:
    norm = sum(abs(float(weight)) for weight in w)
    outside = inside = 0.0
    for image, label in zip(x, y, strict=True):
        margin = label * (image.dot(w) + b)
        outside += float(torch.logaddexp(torch.zeros(()), -margin)) + strength * norm
        inside += float(torch.logaddexp(torch.zeros(()), strength * norm - margin))
    return outside / len(x), inside / len(x)


two_objectives = Exercise(
    name="two_objectives",
    lesson="04",
    title="The L1-penalised loss and the adversarial loss",
    task=(
        "Return two numbers: the mean of softplus(-margin) plus lam·‖w‖₁, and the mean of the "
        "worst loss when every pixel may move by eps. One number, strength, is lam in the first "
        "and eps in the second. Shapes: w (d,), b scalar, x (N, d), y (N,) in {-1., +1.}."
    ),
    difficulty=2,
    minutes=8,
    reference=_two_objectives,
    inputs=_linear_inputs,
    properties=(_objectives_at_zero, _objectives_never_below_clean, _inside_is_never_above_outside),
    right_answers=(_attacked_objectives, _looped_objectives),
    wrong_answers=edits(
        _two_objectives,
        """
        the formula as printed: `softplus(strength` -> `softplus(y * strength`
            Your second value is the formula as the paper prints it, with y in front of everything.
            For y = -1 it turns +eps·‖w‖₁ into -eps·‖w‖₁, and the attack would help. Only the score
            is multiplied by y: softplus(eps·‖w‖₁ - y (w·x + b)).
        both outside: `softplus(strength * norm - margin).mean()`
        -> `softplus(-margin).mean() + strength * norm`
            Your second value adds eps·‖w‖₁ to the loss. That is another L1 penalty. The attack
            lowers the margin, so eps·‖w‖₁ goes inside softplus.
        both inside: `softplus(-margin).mean() + strength * norm`
        -> `softplus(strength * norm - margin).mean()`
            Your first value has lam·‖w‖₁ inside softplus. That is the adversarial loss with
            eps = lam. The L1 penalty is added to the mean loss, outside.
        minus inside: `softplus(strength` -> `softplus(-strength`
            Your second value subtracts eps·‖w‖₁ inside softplus. The attack subtracts it from the
            margin, and the margin itself has a minus sign there: together that is a plus.
        L2 norm: `w.abs().sum()` -> `w.norm()`
            You use the L2 norm of w, the square root of the sum of squares. ‖w‖₁ is the sum of the
            absolute values.
        sum of squares: `+ strength * norm` -> `+ strength * w.square().sum()`
            Your penalty adds up squares of weights. That is L2 weight decay. The L1 penalty adds up
            absolute values.
        no absolute values: `.abs()` -> ``
            You add up the weights with their signs, so that positive and negative ones cancel. ‖w‖₁
            is the sum of |w_i|.
        mean of absolute values: `.sum()` -> `.mean()`
            You take the mean of |w_i|. The L1 norm is their sum: `w.abs().sum()`.
        bias penalised: `w.abs().sum()` -> `w.abs().sum() + b.abs()`
            You penalise the bias b as well. ‖w‖₁ is the norm of the weights alone.
        largest weight: `.sum()` -> `.max()`
            You take the largest |w_i|. The L1 norm adds up all of them: `w.abs().sum()`.
        strength left out: `strength * norm` => `norm`
            The factor in front of ‖w‖₁ is missing. Multiply by strength: it is lam in the first
            value and eps in the second.
        no price: ` + strength * norm` -> ``
            Your first value is the plain mean loss. The price lam·‖w‖₁ is missing: add it.
        price subtracted: `+ strength * norm` -> `- strength * norm`
            You subtract lam·‖w‖₁ from the mean loss. That rewards large weights. A penalty is
            added.
        no attack: `strength * norm - margin` -> `-margin`
            Your second value is the plain mean loss, without an attack. Each margin falls by
            eps·‖w‖₁ before the loss is taken.
        inside and outside: `norm - margin).mean()` -> `norm - margin).mean() + strength * norm`
            Your second value has eps·‖w‖₁ twice: inside softplus, where it belongs, and added to
            the loss. The adversarial loss has no penalty outside softplus.
        no softplus: `torch.nn.functional.softplus` -> `lambda v: v`
            You average the arguments of softplus, not the losses. The loss of one image is softplus
            of its argument.
        ReLU: `torch.nn.functional.softplus` -> `torch.relu`
            You use the ReLU in place of softplus. The ReLU gives no loss to an image that is only
            just right; softplus(v) = log(1 + exp(v)) still gives it some.
        sigmoid: `torch.nn.functional.softplus` -> `torch.sigmoid`
            You use the sigmoid in place of softplus. The sigmoid is the slope of the loss, not the
            loss.
        mean before the loss: `margin).mean()` => `margin.mean())`
            You average the margins first and take the softplus of the average. Take the loss of
            each image first, then the mean: `softplus(...).mean()`.
        sign of the margin: `margin = y` -> `margin = -y`
            The margin has the wrong sign inside softplus. A large margin should give a small loss:
            the argument contains minus the margin.
        bias left out: ` + b` -> ``
            The bias b is missing in your score. The margin is y times (w·x + b).
        y without the bias: `(x @ w + b)` -> `(x @ w) + b`
            You multiply only w·x by y and add b afterwards. Use brackets: y * (x @ w + b).
        sum over the images: `.mean()` => `.sum()`
            You add up the losses of all images. Take their mean.
        penalty divided by N: `+ strength * norm` -> `+ strength * norm / len(x)`
            You divide the penalty by the number of images. Only the losses are averaged; lam·‖w‖₁
            is added once.
        without y: `y * (x @ w + b)` -> `x @ w + b`
            You use the score as the margin. The margin is y times the score: for a 3, with y = -1,
            a negative score is right.
        swapped: `outside.item(), inside.item()` -> `inside.item(), outside.item()`
            Your two values are swapped. First the L1-penalised loss, then the adversarial one.
        overflow: `torch.nn.functional.softplus` -> `lambda v: torch.log1p(torch.exp(v))`
            Your formulas are right, but exp overflows for images far on the wrong side, and the
            loss becomes inf. `torch.nn.functional.softplus` computes the same without overflow.
        clipped: `strength * norm - margin`
        -> `-y * ((x - strength * y[:, None] * w.sign()).clamp(0, 1) @ w + b)`
            In your second value the attacked image is put back into [0, 1]. The formula is for a
            step that is not clipped: leave the clamp out.
        labels made once more: `margin = y` -> `margin = (2 * y - 1)`
            You turn the labels into -1 and +1 once more: 2y - 1. Here y is -1 or +1 already: use it
            as it is.
        hinge: `torch.nn.functional.softplus` -> `lambda v: torch.relu(1 + v)`
            You use the hinge loss, max(0, 1 - margin). Here the loss is softplus.
        step upwards for both classes: `strength * norm - margin` -> `-y * strength * norm - margin`
            In your second value the step raises the score for both classes. For y = +1 that helps
            the model. The worst step goes against y.
        first label for all: `margin = y` -> `margin = y[0]`
            You use the first label for all images. Each image has its own y.
        positive weights only: `w.abs()` -> `w.clamp(min=0)`
            You add up the positive weights only. ‖w‖₁ is the sum of all |w_i|.
        own answers as labels: `margin = y * (x @ w + b)` -> `margin = (x @ w + b).abs()`
            You take the size of the score, as if every image were right. The margin is y (w·x + b),
            and negative where the model is wrong.
        """,
    ),
    hints=(
        "Begin with two things that both values need: the margins y (w·x + b), and the number "
        "‖w‖₁ = `w.abs().sum()`.",
        "Outside: first the mean of the losses, then add lam·‖w‖₁. Inside: what does the attack do "
        "to each margin, before the loss is taken?",
        "The attack makes each margin smaller by eps·‖w‖₁. So the second value is the mean of "
        "`softplus(strength * norm - margin)`.",
    ),
    takeaway="One sum, two places. The rest of the lesson is about that place.",
)


# --- 2. The effective penalty -------------------------------------------------------------------


def _effective_penalties(m: Tensor, norm: float, lam: float, eps: float) -> tuple[Tensor, Tensor]:
    outside = torch.full_like(m, lam)  # (N,) the same price for every image
    inside = eps * torch.sigmoid(eps * norm - m)  # (N,) chain rule: eps times softplus'
    return outside, inside


def _margin_inputs(generator: torch.Generator) -> list[Args]:
    return [
        (torch.tensor([-3.0, 0.0, 2.5, 10.0]), 10.0, 0.05, 0.25),
        (torch.tensor([1.0, 4.0]), 20.0, 0.3, 0.1),
        (torch.tensor([1.0, -1.0]), 5.0, 0.02, 0.0),
        (torch.tensor([200.0, -200.0]), 8.0, 0.01, 0.5),
        (3 * randn(generator, 12), 6.5, 0.15, 0.35),
        (torch.tensor([0.75]), 4.0, 0.2, 0.3),
    ]


@rule("Your first penalty differs between images. The L1 penalty does not depend on the margin.")
def _l1_price_is_flat(args: Args, output: Any) -> object:
    return float(output[0].max() - output[0].min()) < 1e-5


@rule("Your second penalty leaves the range from 0 to eps.")
def _price_is_at_most_eps(args: Args, output: Any) -> object:
    eps = args[3]
    return bool(((output[1] >= -1e-6) & (output[1] <= eps + 1e-6)).all())


@rule("Your second penalty grows with the margin. It should fade.")
def _price_fades_with_the_margin(args: Args, output: Any) -> object:
    m, price = args[0], output[1]
    return bool((price[m.argsort()].diff() <= 1e-6).all())


def _autograd_penalties(m: Tensor, norm: float, lam: float, eps: float) -> tuple[Tensor, Tensor]:
    n = torch.full_like(m, norm, requires_grad=True)
    (outside,) = torch.autograd.grad((functional.softplus(-m) + lam * n).sum(), n)
    (inside,) = torch.autograd.grad(functional.softplus(eps * n - m).sum(), n)
    return outside, inside


def _looped_penalties(m: Tensor, norm: float, lam: float, eps: float) -> tuple[Tensor, Tensor]:
    inside = [eps * (1 + ((v - eps * norm) / 2).tanh().neg()) / 2 for v in m]
    return lam * torch.ones_like(m), torch.stack(inside)


effective_penalties = Exercise(
    name="effective_penalties",
    lesson="04",
    title="The effective penalty",
    task=(
        "Return the derivatives with respect to norm = ‖w‖₁, with the margins held fixed, of (1) "
        "softplus(-m) + lam·norm and (2) softplus(eps·norm - m). Both are tensors of shape (N,). "
        "m is (N,); norm, lam and eps are numbers."
    ),
    difficulty=2,
    minutes=6,
    reference=_effective_penalties,
    inputs=_margin_inputs,
    asks=("tensor",),
    properties=(_l1_price_is_flat, _price_is_at_most_eps, _price_fades_with_the_margin),
    right_answers=(
        _autograd_penalties,
        _looped_penalties,
        lambda m, norm, lam, eps: (m * 0 + lam, eps * (1 - torch.sigmoid(m - eps * norm))),
    ),
    wrong_answers=edits(
        _effective_penalties,
        """
        no eps in front: `eps * torch` -> `torch`
            The factor eps in front is missing. The chain rule brings it down: eps·norm stands
            inside softplus, and its derivative with respect to norm is eps.
        wrong side: `eps * norm - m` -> `m - eps * norm`
            The argument of your sigmoid has the wrong sign. Your penalty grows with the margin. The
            derivative of softplus(v) is σ(v), with the same v = eps·norm - m.
        softplus in place of its derivative: `torch.sigmoid` -> `functional.softplus`
            You have eps times softplus. The derivative of softplus is the sigmoid.
        the loss itself: `torch.full_like(m, lam)` -> `functional.softplus(-m) + lam * norm`,
        `eps * torch.sigmoid` -> `functional.softplus`
            This is the loss itself, not its derivative. How much does it change when norm grows a
            little?
        plus the margin: `norm - m` -> `norm + m`
            In your sigmoid the margin is added. The argument should be that of softplus:
            eps·norm - m.
        minus the norm: `(eps * norm` -> `(-eps * norm`
            In your sigmoid eps·norm has a minus sign. The argument should be that of softplus:
            eps·norm - m. The attack makes the loss larger.
        negative price: `eps * torch` -> `-eps * torch`
            Your second penalty is negative. The loss grows with norm, so its derivative with
            respect to norm is positive.
        lam in front of the sigmoid: `eps * torch` -> `lam * torch`
            lam stands in front of your sigmoid. The adversarial loss contains only eps: the
            derivative of eps·norm - m with respect to norm is eps.
        lam in the sigmoid: `eps * norm` -> `lam * norm`
            lam stands inside your sigmoid. The argument should be that of softplus: eps·norm - m.
        lam for eps: `eps *` => `lam *`
            Your second value is right for eps = lam. But here eps is another number: it belongs to
            the adversarial loss, lam to the L1 penalty.
        eps for lam: `(m, lam)` -> `(m, eps)`
            Your first value is eps for every image. The L1 penalty has the coefficient lam.
        letters mixed up: `(m, lam)` -> `(m, eps)`, `eps *` => `lam *`
            You have eps where lam belongs, and lam where eps belongs. lam is the coefficient of the
            L1 penalty, eps the size of the attack.
        lam in both: `eps * torch.sigmoid(eps * norm - m)` -> `outside`
            You give lam for both. The second loss has norm inside softplus, so the chain rule
            applies: eps times σ(eps·norm - m).
        tanh: `sigmoid` -> `tanh`
            You use tanh, which runs from -1 to 1. The derivative of softplus is the sigmoid, which
            runs from 0 to 1.
        mean over the images: `outside, inside` -> `outside, inside.mean().expand(len(m))`
            You average your second penalty over the images. Each image has its own.
        overflow: `inside = eps * torch.sigmoid(eps * norm - m)`
        -> `grown = torch.exp(eps * norm - m)¶inside = eps * grown / (1 + grown)`
            Your formula is right, but exp overflows for a large argument, and inf / inf is nan.
            `torch.sigmoid` computes the same without overflow.
        no price: `(m, lam)` -> `(m, 0.0)`
            Your first penalty is 0. softplus(-m) does not change with norm, but lam·norm does.
        price without lam: `(m, lam)` -> `(m, 1.0)`
            Your first penalty is 1, the derivative of norm alone. The penalty is lam·norm.
        price divided by N: `(m, lam)` -> `(m, lam / len(m))`
            You divide lam by the number of images. The task asks for the penalty of each image by
            itself: lam.
        slope of the loss added: `torch.full_like(m, lam)` -> `lam - torch.sigmoid(-m)`
            Your first value also contains the derivative of softplus(-m) with respect to m. The
            margins are held fixed, so that part does not change with norm.
        derivative taken twice: `inside = eps * torch.sigmoid(eps * norm - m)`
        -> `factor = torch.sigmoid(eps * norm - m)¶inside = eps * factor * (1 - factor)`
            You have σ(1 - σ), the derivative of the sigmoid. The sigmoid is the derivative of
            softplus already: one step is enough.
        norm left out: `eps * norm - m` -> `-m`
            The sigmoid of your second value has no eps·norm. It should stay: the price depends on
            the worst-case margin m - eps·norm.
        eps left out inside: `eps * norm` -> `norm`
            In your sigmoid norm stands without eps. The attack takes eps·norm away, not norm.
        times norm: `eps * torch` -> `eps * norm * torch`
            Your second value is multiplied by norm. The derivative of eps·norm with respect to norm
            is eps.
        by the margin: `eps * torch` -> `-torch`
            Your second value is the derivative with respect to the margin m. Here the margin is
            held fixed, and norm changes.
        adversarial price constant: `eps * torch.sigmoid(eps * norm - m)`
        -> `torch.full_like(m, eps)`
            Your second penalty is eps for every image. That would hold if eps·norm stood outside
            softplus. Inside, the chain rule adds the factor σ(eps·norm - m).
        total in place of the price: `(m, lam)` -> `(m, lam * norm)`
            Your first value is the whole penalty lam·norm. Its derivative with respect to norm is
            lam.
        both fade: `torch.full_like(m, lam)` -> `lam * torch.sigmoid(lam * norm - m)`
            You let the L1 penalty fade as well. It stands outside softplus, so no sigmoid
            multiplies it: it is lam for every image.
        clean factor on lam: `torch.full_like(m, lam)` -> `lam * torch.sigmoid(-m)`
            You multiply lam by σ(-m), the derivative of the loss with respect to its own argument.
            The loss softplus(-m) does not change with norm here. Only lam·norm does.
        swapped: `outside, inside` -> `inside, outside`
            Your two values are swapped. First the L1 penalty, then the adversarial one.
        hard step: `torch.sigmoid(eps * norm - m)` -> `(m < eps * norm).to(m.dtype)`
            Your second penalty is eps where the attack wins, and else 0. The derivative of softplus
            is σ, which is smooth: eps·σ(eps·norm - m).
        brackets: `(eps * norm - m)` -> `(eps * (norm - m))`
            In your σ the margin is multiplied by eps, too. Only norm is: eps·norm - m.
        a number in the first place: `torch.full_like(m, lam)` -> `lam`
            Your first value is one number. It should be a tensor of shape (N,), with lam for each
            image: `torch.full_like(m, lam)`.
        charged only where the attack wins: `torch.full_like(m, lam)` -> `lam * (m < eps * norm)`
            Your first penalty is 0 where the attack fails. The L1 penalty does not look at the
            margin: it is lam for every image.
        factor of the attack on lam: `torch.full_like(m, lam)`
        -> `lam * torch.sigmoid(eps * norm - m)`
            You multiply lam by σ(eps·norm - m). The L1 penalty stands outside softplus, so no σ
            multiplies it: it is lam for every image.
        lam in the sum: `inside =` -> `inside = lam +`
            Your second value also contains lam. The adversarial loss has no L1 penalty: only
            eps·σ(eps·norm - m).
        one mean factor: `torch.sigmoid(eps * norm - m)`
        -> `torch.sigmoid((eps * norm - m).mean()).expand(len(m))`
            You average the margins first. Each image has its own penalty.
        divided by norm: `(m, lam)` -> `(m, lam / norm)`, `eps * torch` -> `eps / norm * torch`
            You divide by norm. The derivative says how fast the loss changes when norm grows: for
            lam·norm that is lam.
        """,
    ),
    hints=(
        "In both formulas, where does norm occur? Only that part changes.",
        "(1): lam·norm has the derivative lam, for every image. (2): chain rule. The outer "
        "derivative is the sigmoid, the inner one is eps.",
        "Return `torch.full_like(m, lam)` and `eps * torch.sigmoid(...)`. The argument of the "
        "sigmoid is that of softplus.",
    ),
    takeaway="One price is flat. The other is paid only where the attack still threatens.",
)


# --- 3. Both gradients --------------------------------------------------------------------------


def _two_gradients(
    w: Tensor, b: Tensor, x: Tensor, y: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    margin = y * (x @ w + b)  # (N,)
    clean = torch.sigmoid(-margin)  # (N,) the derivative of softplus(-margin)
    outside = -(clean * y) @ x / len(x) + strength * torch.sign(w)
    worst = torch.sigmoid(strength * w.abs().sum() - margin)  # (N,) larger: the attack is inside
    inside = -(worst * y) @ x / len(x) + strength * worst.mean() * torch.sign(w)
    return outside, inside


@rule("With strength 0 your two gradients should be equal: that of the plain loss.")
def _same_gradient_at_zero(args: Args, output: Any) -> object:
    return args[4] or torch.allclose(output[0], output[1], atol=1e-5)


def _autograd_gradients(
    w: Tensor, b: Tensor, x: Tensor, y: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    v = w.detach().clone().requires_grad_(True)
    margin = y * (x @ v + b)
    outside = functional.softplus(-margin).mean() + strength * v.abs().sum()
    inside = functional.softplus(strength * v.abs().sum() - margin).mean()
    return (
        torch.autograd.grad(outside, v, retain_graph=True)[0],
        torch.autograd.grad(inside, v)[0],
    )


def _looped_gradients(
    w: Tensor, b: Tensor, x: Tensor, y: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    outside, inside = strength * w.sign(), torch.zeros_like(w)
    for image, label in zip(x, y, strict=True):
        margin = label * (image.dot(w) + b)
        outside = outside - torch.sigmoid(-margin) * label * image / len(x)
        moved = image - strength * label * w.sign()  # the gradient at the attacked image
        worst = label * (moved.dot(w) + b)
        inside = inside - torch.sigmoid(-worst) * label * moved / len(x)
    return outside, inside


two_gradients = Exercise(
    name="two_gradients",
    lesson="04",
    title="The gradients that train",
    task=(
        "Return the gradients with respect to w of (1) mean softplus(-margin) + lam·‖w‖₁ and (2) "
        "mean softplus(eps·‖w‖₁ - margin), where margin = y (w·x + b), and lam = eps = "
        "strength. Two tensors of shape (d,); use sign(0) = 0. Arguments as in two_objectives."
    ),
    difficulty=3,
    minutes=10,
    reference=_two_gradients,
    inputs=_linear_inputs,
    asks=("tensor",),
    properties=(_same_gradient_at_zero,),
    right_answers=(_autograd_gradients, _looped_gradients),
    wrong_answers=edits(
        _two_gradients,
        """
        flat price inside: ` * worst.mean()` -> ``
            In your second gradient the pull is eps·sign(w) for all images. That is an L1 penalty.
            Each image pays only its factor: eps times the mean of σ(eps·‖w‖₁ - margin).
        clean factor: `torch.sigmoid(strength * w.abs().sum() - margin)` -> `clean`
            Your second gradient uses σ(-margin). The derivative of softplus(v) is σ(v), and here
            v = eps·‖w‖₁ - margin.
        clean data part: `worst * y` -> `clean * y`
            In your second gradient the part from the data still has the factor σ(-margin). Both
            parts of that gradient have the same factor, σ(eps·‖w‖₁ - margin).
        data only: ` + strength * worst.mean() * torch.sign(w)` -> ``
            Your second gradient has no part from ‖w‖₁. It depends on w as well, through eps·‖w‖₁:
            add eps·mean(σ)·sign(w).
        penalty only: `-(clean * y) @ x / len(x) + strength` -> `strength`
            Your first gradient is only that of the penalty. The mean loss depends on w too.
        no penalty: ` + strength * torch.sign(w)` -> ``
            Your first gradient is that of the plain loss. The part from lam·‖w‖₁ is missing: add
            lam·sign(w).
        strength left out: `+ strength *` => `+`
            The pull sign(w) stands without strength in front of it. That is lam in the first
            gradient and eps in the second.
        penalty divided by N: `+ strength * torch` -> `+ strength / len(x) * torch`
            You divide the pull of the penalty by the number of images. Only the losses are
            averaged; lam·‖w‖₁ is added once.
        factor on the penalty: `+ strength * torch` -> `+ strength * clean.mean() * torch`
            In your first gradient the pull has a factor σ. The penalty stands outside softplus, so
            it pulls with lam·sign(w), whatever the margins are.
        attacked data in the first: `sigmoid(-margin)`
        -> `sigmoid(strength * w.abs().sum() - margin)`
            The part from the data in your first gradient has the factor σ(eps·‖w‖₁ - margin). The
            L1-penalised loss contains no attack: its factor is σ(-margin).
        y on the pull: `worst.mean()` -> `(worst * y).mean()`
            In your second gradient the pull is multiplied by y. That is the gradient of the formula
            as the paper prints it. The attack hurts both classes, so the pull has no factor y.
        minus the norm: `sigmoid(strength` -> `sigmoid(-strength`
            In the factor of your second gradient eps·‖w‖₁ has a minus sign. The attack makes the
            loss larger: the factor is σ(eps·‖w‖₁ - margin).
        factor on the wrong side: `sigmoid(-margin)` -> `sigmoid(margin)`,
        `strength * w.abs().sum() - margin` -> `margin - strength * w.abs().sum()`
            The argument of your σ has the wrong sign: images that are right pull hardest. The
            derivative of softplus(v) is σ(v), with the same v.
        no factor: `torch.sigmoid` => `torch.ones_like`
            The factor σ is missing: every image pulls with full strength. The derivative of
            softplus is the sigmoid.
        softplus in place of its derivative: `torch.sigmoid` => `functional.softplus`
            You use softplus as the factor. The chain rule needs its derivative, the sigmoid.
        derivative taken twice: `clean * y` -> `clean * (1 - clean) * y`,
        `inside =` -> `worst = worst * (1 - worst)¶inside =`
            You use σ(1 - σ) as the factor, the derivative of the sigmoid. The sigmoid is the
            derivative of softplus already.
        absolute value in place of the sign: `torch.sign(w)` => `w.abs()`
            Your penalty pulls with |w|. Its derivative with respect to w_i is sign(w_i): -1, 0 or
            +1.
        bias left out: ` + b` -> ``
            The bias b is missing in your margins. The margin is y (w·x + b).
        sum in the data part: ` / len(x)` => ``
            The part from the data is added up over the images. The objectives are means: divide
            `@ x` by N.
        w in place of its sign: `torch.sign(w)` => `w`
            Your penalty pulls with w itself. That is L2 weight decay. The derivative of |w_i| is
            sign(w_i): the same strength for small and large weights.
        sign(0) = 1: `torch.sign(w)` => `torch.where(w >= 0, 1.0, -1.0)`
            You pull on weights that are zero already. At 0 take the slope 0, as `torch.sign` does.
        norm in place of the sign: `torch.sign(w)` => `w.abs().sum()`
            You use the norm itself in place of its derivative. The derivative of ‖w‖₁ with respect
            to w_i is sign(w_i).
        minus on the pull: `+ strength` => `- strength`
            Your penalty has the wrong sign: a step against your gradient would make the weights
            larger. Both objectives grow with ‖w‖₁.
        ascent: `-(clean` -> `(clean`, `-(worst` -> `(worst`
            The part from the data has the wrong sign. softplus has -margin inside, so its
            derivative brings a minus.
        without y: ` * y)` => `)`
            The factor y is missing in the part from the data. The margin is y (w·x + b), so its
            derivative with respect to w is y·x.
        sum over the images: ` / len(x)` => ``, `worst.mean()` -> `worst.sum()`
            You add up over the images. The objectives are means: divide by N, or use `.mean()`.
        sum of the factors: `worst.mean()` -> `worst.sum()`
            In your second gradient the factors of the pull are added up. The loss is a mean, so
            take their mean as well.
        swapped: `outside, inside` -> `inside, outside`
            Your two gradients are swapped. First that of the L1-penalised loss, then the
            adversarial one.
        second on top of the first: `outside, inside` -> `outside, outside + inside`
            Your second gradient is the sum of both. `.backward()` adds to what `.grad` holds
            already. Use `torch.autograd.grad`, which starts anew.
        both are the sum: `outside, inside` -> `outside + inside, outside + inside`
            Both of your results are the sum of the two gradients. `.backward()` adds to `.grad`,
            which is one and the same tensor. Use `torch.autograd.grad`, which starts anew.
        product of the means: `(clean * y) @ x` -> `clean.mean() * (y @ x)`,
        `(worst * y) @ x` -> `worst.mean() * (y @ x)`
            You multiply the mean of σ by the mean of y·x. Multiply σ and y·x for each image first,
            then take the mean.
        divided by all entries: ` / len(x)` => ` / x.numel()`
            You divide by the number of all entries of x, N·d. The mean is over the N images: divide
            by len(x).
        with respect to x: `(clean * y) @ x / len(x)` -> `(clean * y).mean() * w`,
        `(worst * y) @ x / len(x)` -> `(worst * y).mean() * w`
            In the part from the data you multiply by w. That is the gradient with respect to x.
            With respect to w, the last factor is x.
        strength without the sign: ` * torch.sign(w)` => ``
            The sign of w is missing in the pull. The derivative of ‖w‖₁ with respect to w_i is
            sign(w_i).
        step the wrong way: `sigmoid(strength` -> `sigmoid(-strength`,
        `+ strength * worst` -> `- strength * worst`
            In your second gradient the step helps the model: eps·‖w‖₁ has the wrong sign in σ, and
            so has the pull. The attack makes the loss larger.
        pull of both: `worst.mean()` -> `(1 + worst.mean())`
            Your second gradient has the pull of the L1 penalty as well. The adversarial loss has
            none outside softplus: only eps·mean(σ)·sign(w).
        the formula as printed: `strength * w.abs().sum() - margin`
        -> `y * strength * w.abs().sum() - margin`,
        `worst.mean()` -> `(worst * y).mean()`
            Your second gradient is that of the formula as the paper prints it, with y also in front
            of eps·‖w‖₁. The y belongs to the score alone.
        y without the bias: `y * (x @ w + b)` -> `y * (x @ w) + b`
            You multiply only w·x by y. The y multiplies b too: y * (x @ w + b).
        first label for all: `margin = y` -> `y = y[:1].expand(len(x))¶margin = y`
            You use the first label for all images. Each image has its own y.
        own answers as labels: `margin = y` -> `y = (x @ w + b).sign()¶margin = y`
            You take the model's own answers for the labels. The margin has the true labels y.
        L2 norm: `torch.sign(w)` => `w / w.norm()`, `w.abs().sum()` -> `w.norm()`
            You use the L2 norm of w, and its derivative. ‖w‖₁ is the sum of the absolute values,
            with the derivative sign(w).
        clipped: `strength * w.abs().sum() - margin`
        -> `-y * ((x - strength * y[:, None] * w.sign()).clamp(0, 1) @ w + b)`,
        `(worst * y) @ x / len(x) + strength * worst.mean() * torch.sign(w)`
        -> `(worst * y) @ (x - strength * y[:, None] * w.sign()).clamp(0, 1) / len(x)`
            In your second gradient the attacked images are put back into [0, 1]. The objective is
            for a step that is not clipped: leave the clamp out.
        two data parts: ` + strength * worst.mean() * torch.sign(w)` -> ``,
        ` + strength * torch.sign(w)` -> ``
            Both of your gradients have only the part from the data. Both losses depend on w through
            ‖w‖₁ too: add lam·sign(w) to the first, and eps·mean(σ)·sign(w) to the second.
        two penalty parts: `-(clean * y) @ x / len(x) + ` -> ``, `-(worst * y) @ x / len(x) + `
        -> ``
            Both of your gradients have only the part from ‖w‖₁. The margins depend on w too: that
            part is -mean(σ·y·x).
        margin added in both factors: `sigmoid(-margin)` -> `sigmoid(margin)`,
        `.sum() - margin` -> `.sum() + margin`
            In both of your factors σ the margin has a plus sign. It has a minus there, as in the
            losses: σ(-margin) and σ(eps·‖w‖₁ - margin).
        """,
    ),
    hints=(
        "The chain rule needs three derivatives: that of softplus, that of the margin with respect "
        "to w, and that of ‖w‖₁ with respect to w.",
        "They are σ, y·x and sign(w). Data part of (1): minus the mean of σ(-margin)·y·x. In code: "
        "`-(torch.sigmoid(-margin) * y) @ x / len(x)`.",
        "For (2) put s = σ(eps·‖w‖₁ - margin) in place of σ(-margin), and add "
        "`strength * s.mean() * torch.sign(w)`.",
    ),
    takeaway="Both pull with sign(w). Only in the second do the images decide how hard.",
)


# --- 4. The true worst case of softmax regression -----------------------------------------------


def _worst_difference(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
    z = x @ weight.T + bias  # (N, K)
    gap = z - z.gather(1, y[:, None])  # (N, K) z_k - z_y
    rows = weight[None, :, :] - weight[y][:, None, :]  # (N, K, d) w_k - w_y
    reached = gap + eps * rows.abs().sum(dim=2)  # one eta moves the difference of two rows
    return reached.scatter(1, y[:, None], -torch.inf).amax(dim=1)  # wrong classes only


def _softmax_inputs(generator: torch.Generator) -> list[Args]:
    weight = torch.tensor([[2.0, -1.0, 0.5], [1.0, -2.0, 1.5], [-0.5, 2.0, -2.0]])
    bias = torch.tensor([0.5, 0.0, -0.5])
    x = torch.tensor([[0.5, 0.9, 0.1], [0.2, 0.4, 0.6]])
    return [
        (weight, bias, x, torch.tensor([0, 2]), 0.25),
        # Without an attack; the second image is right by a wide margin, so the result is negative.
        (weight, bias, x, torch.tensor([1, 1]), 0.0),
        (3 * weight, 4 * bias, x, torch.tensor([0, 0]), 0.02),
        # The runner-up class has a row much like the true one: the attack prefers another class.
        (
            torch.tensor([[1.0, 1.0], [1.0, 0.9], [-3.0, -3.0]]),
            torch.tensor([0.5, 0.0, 2.0]),
            torch.tensor([[0.5, 0.5], [0.6, 0.5]]),
            torch.tensor([0, 0]),
            0.5,
        ),
        (
            randn(generator, 5, 7) * torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
            randn(generator, 5),
            images(generator, 6, 7),
            labels(generator, 6, 5),
            0.1,
        ),
        (weight, bias, x[1:], torch.tensor([0]), 0.15),
    ]


@rule("Your worst case is below the largest z_k - z_y without an attack. That is impossible.")
def _never_below_clean(args: Args, output: Tensor) -> object:
    z = args[2] @ args[0].T + args[1]
    gap = (z - z.gather(1, args[3][:, None])).scatter(1, args[3][:, None], -torch.inf)
    return bool((output >= gap.amax(1) - 1e-5).all())


@rule("Your worst case is larger than even two separate attacks could make it.")
def _never_above_own_eta(args: Args, output: Tensor) -> object:
    z = args[2] @ args[0].T + args[1]
    gap = (z - z.gather(1, args[3][:, None])).scatter(1, args[3][:, None], -torch.inf)
    norms = args[0].abs().sum(1)
    most = (gap + args[4] * (norms + norms[args[3]][:, None])).amax(1)
    return bool((output <= most + 1e-5).all())


def _cornered_difference(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
    best = torch.full((len(x),), -torch.inf)
    for k in range(len(weight)):
        direction = weight[k] - weight[y]  # (N, d): the corner that aims at class k
        z = (x + eps * direction.sign()) @ weight.T + bias
        gap = z[:, k] - z.gather(1, y[:, None]).squeeze(1)
        best = torch.where(y == k, best, torch.maximum(best, gap))
    return best


def _looped_difference(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
    results = []
    for image, label in zip(x, y.tolist(), strict=True):
        z = weight @ image + bias
        values = [
            z[k] - z[label] + eps * (weight[k] - weight[label]).norm(p=1)
            for k in range(len(weight))
            if k != label
        ]
        results.append(torch.stack(values).max())
    return torch.stack(results)


worst_difference = Exercise(
    name="worst_difference",
    lesson="04",
    title="The true worst case of softmax regression",
    task=(
        "Return for each image the largest z_k - z_y over the wrong classes k that one step of at "
        "most eps per pixel can reach, where z = W x + b, unclipped. weight is W, (K, d); bias is "
        "b, (K,); x is (N, d); y is (N,) int64. The result is (N,)."
    ),
    difficulty=3,
    minutes=10,
    reference=_worst_difference,
    inputs=_softmax_inputs,
    properties=(_never_below_clean, _never_above_own_eta),
    right_answers=(_cornered_difference, _looped_difference),
    wrong_answers=edits(
        _worst_difference,
        """
        an own eta for each output: `weight[None, :, :] - weight[y][:, None, :]`
        -> `weight.abs() + weight[y][:, None, :].abs()`
            You add eps·‖w_k‖₁ and eps·‖w_y‖₁. That takes one step to raise z_k and another one to
            lower z_y. There is only one step: it moves the difference by eps·‖w_k - w_y‖₁.
        the sum that L1 charges: `rows.abs().sum(dim=2)` -> `weight.abs().sum()`
            You add eps times the L1 norm of the whole matrix. That is what the L1 penalty charges.
            Only two rows determine z_k - z_y, and they share one step.
        row k only: `rows.abs().sum(dim=2)` -> `weight.abs().sum(dim=1)`
            You use ‖w_k‖₁. The step that raises z_k moves z_y as well. What counts is the row of
            the difference, w_k - w_y.
        true row only: `rows.abs().sum(dim=2)` -> `weight[y].abs().sum(dim=1, keepdim=True)`
            You use ‖w_y‖₁. The step that lowers z_y moves z_k as well. What counts is the row of
            the difference, w_k - w_y.
        difference of the norms: `rows.abs().sum(dim=2)`
        -> `(weight.abs().sum(dim=1) - weight[y].abs().sum(dim=1, keepdim=True))`
            You subtract two norms. First subtract the rows, then take the norm: ‖w_k - w_y‖₁.
        runner-up only: `return reached.scatter` -> `k = gap.scatter`,
        `.amax(dim=1)` -> `.argmax(dim=1, keepdim=True)¶return reached.gather(1, k)[:, 0]`
            You pick the strongest wrong class before the attack. The attack may prefer another one,
            whose weights differ more. Add eps·‖w_k - w_y‖₁ first, then take the maximum.
        true class included: `.scatter(1, y[:, None], -torch.inf)` -> ``
            Your maximum includes the true class, whose difference is always 0. So a safe image gets
            0 in place of a negative value. Leave out k = y.
        FGSM: `z = x` -> `p = (x @ weight.T + bias).softmax(dim=1)¶z = x`,
        `z = x` -> `slope = (p - functional.one_hot(y, len(weight))) @ weight¶z = x`,
        `z = x` -> `z = (x + eps * slope.sign())`, ` + eps * rows.abs().sum(dim=2)` -> ``
            You take one FGSM step. With more than two classes its direction mixes all wrong
            classes. The best step aims at one class: try every k, and take the largest value.
        L2 norm: `.abs().sum(dim=2)` -> `.norm(dim=2)`
            You use the L2 norm of w_k - w_y. Each pixel may move by eps on its own, so the damage
            is a sum of absolute values: the L1 norm.
        max norm: `.sum(dim=2)` -> `.amax(dim=2)`
            You use the largest entry of w_k - w_y. The step is limited in the max norm. Its damage
            adds up over all pixels: the L1 norm.
        no absolute values: `.abs()` -> ``
            You add up w_k - w_y with its signs. The attacker chooses the sign of each pixel's step,
            so take absolute values.
        minus: `+ eps` -> `- eps`
            You subtract eps·‖w_k - w_y‖₁. That is the best case for the model. The attacker raises
            z_k - z_y.
        no attack: ` + eps * rows.abs().sum(dim=2)` -> ``
            This is the difference without an attack: eps does not appear. How far can a step of eps
            per pixel push z_k - z_y?
        eps left out: `eps * ` -> ``
            The factor eps in front of ‖w_k - w_y‖₁ is missing. A step of 1 per pixel would reach
            that. Here a pixel moves by at most eps.
        twice: `eps * ` -> `2 * eps * `
            You count the attack twice. The row w_k - w_y already contains both classes: add
            eps·‖w_k - w_y‖₁ once.
        mean of absolute values: `.sum(dim=2)` -> `.mean(dim=2)`
            You take the mean of |w_k - w_y| over the pixels. Every pixel adds its own term: take
            the sum.
        sum of squares: `.abs()` -> `.square()`
            You add up squares of w_k - w_y. A pixel that moves by eps adds eps times the absolute
            value.
        bias left out: ` + bias` -> ``
            The bias is missing in your logits: z = W x + b.
        probabilities: `x @ weight.T + bias` -> `(x @ weight.T + bias).softmax(dim=1)`
            You take the difference of probabilities, after a softmax. The task asks for that of the
            logits z = W x + b.
        predicted class: `gap =` -> `y = z.argmax(dim=1)¶gap =`
            You use the class that the model predicts in place of the true class y. They differ
            where the model is wrong.
        difference reversed: `z - z.gather(1, y[:, None])` -> `z.gather(1, y[:, None]) - z`
            You start from z_y - z_k and add the attack. The attacker raises z_k - z_y: start from
            that.
        smallest: `-torch.inf).amax` -> `torch.inf).amin`
            You take the wrong class that is easiest for the model, a minimum. The attacker picks
            the one with the largest value.
        sum over the classes: `-torch.inf).amax` -> `0.0).sum`
            You add up over the wrong classes. The attack needs one of them: take the maximum.
        mean over the classes: `-torch.inf).amax(dim=1)`
        -> `0.0).sum(dim=1) / (len(weight) - 1)`
            You average over the wrong classes. The attack needs one of them: take the maximum.
        clipped: `reached =` -> `moved = (x[:, None] + eps * rows.sign()).clamp(0, 1)¶reached =`,
        `eps * rows.abs()` -> `((moved - x[:, None]) * rows)`
            You put the attacked image back into [0, 1]. Here the step is not clipped: the formula
            with eps·‖w_k - w_y‖₁ holds for every pixel.
        only the true class attacked: `z = x` -> `z = (x - eps * weight[y].sign())`,
        ` + eps * rows.abs().sum(dim=2)` -> ``
            Your step lowers z_y as far as possible, whatever it does to z_k. The best step looks at
            the difference: its signs are those of w_k - w_y.
        the margin: `return reached` -> `return -reached`
            Your result has the other sign: you return the margin z_y - z_k. The task asks for the
            largest z_k - z_y, which is positive where the attack wins.
        difference of the norms, without sign: `rows.abs().sum(dim=2)`
        -> `(weight.abs().sum(dim=1) - weight[y].abs().sum(dim=1, keepdim=True)).abs()`
            You take the difference of two norms. First subtract the rows, then take the norm of
            that: ‖w_k - w_y‖₁.
        class 0 left out: `-torch.inf).amax` -> `-torch.inf)[:, 1:].amax`
            You never try class 0. A loop over all classes is `range(K)`: it begins at 0.
        last class left out: `-torch.inf).amax` -> `-torch.inf)[:, :-1].amax`
            You never try the last class. A loop over all classes is `range(K)`: it ends at K - 1.
        only the attack: `gap + eps` -> `eps`
            You return only what the attack adds. Add the difference z_k - z_y before the attack.
        logsumexp: `-torch.inf).amax` -> `-torch.inf).logsumexp`
            You join all wrong classes by logsumexp. The attack needs one of them: take the maximum.
        absolute value of the sum: `rows.abs().sum(dim=2)` -> `rows.sum(dim=2).abs()`
            You take the absolute value of the sum, in which entries have cancelled. Take it of each
            entry of w_k - w_y first, then add up.
        first label for all: `z = x` -> `y = y[:1].expand(len(x))¶z = x`
            You use the first label for all images. Each image has its own entry in y.
        positive differences only: `rows.abs()` -> `rows.clamp(min=0)`
            You count only the pixels that go up. A pixel with a negative difference goes down, and
            gains as well: take absolute values.
        one maximum for the batch: `.amax(dim=1)` -> `.amax().repeat(len(x))`
            You take one maximum over the whole batch. Each image has its own: take it over dim=1.
        mean in each row: `.amax(dim=1)` -> `.amax(dim=1).mean().repeat(len(x))`
            You average over the batch. Return one number for each image.
        largest logit only: `return reached.scatter(1, y[:, None], -torch.inf).amax(dim=1)`
        -> `return reached.gather(1, z.argmax(dim=1, keepdim=True))[:, 0]`
            You look only at the class with the largest logit. That may be y itself, and the attack
            may prefer another class: try every wrong class.
        signs of row k: `rows.abs().sum(dim=2)` -> `(rows * weight.sign()).sum(dim=2)`
            Your step has the signs of w_k. It raises z_k the most, but it moves z_y as well. The
            best step looks at the difference: its signs are those of w_k - w_y.
        the other logits alone: `gap = z - z.gather(1, y[:, None])` -> `gap = z`
            You do not subtract z_y. The task asks for the largest z_k - z_y.
        yes or no: `return reached.scatter(1, y[:, None], -torch.inf).amax(dim=1)`
        -> `return (reached.scatter(1, y[:, None], -torch.inf).amax(dim=1) > 0).float()`
            You return whether an attack wins, yes or no. The task asks for the value: the largest
            z_k - z_y.
        """,
    ),
    hints=(
        "Look at one wrong class k first. z_k - z_y is a linear function of x. Which weights does "
        "it have?",
        "Its weights are the row w_k - w_y. So a step of eps per pixel adds at most "
        "eps·‖w_k - w_y‖₁. Do this for every k, then take the maximum.",
        "`rows = weight[None] - weight[y][:, None]` has shape (N, K, d). Set the true class to "
        "-inf before the maximum: `values.scatter(1, y[:, None], -torch.inf).amax(1)`.",
    ),
    takeaway="The attack wins where this is positive. One step serves one pair of classes.",
)


EXERCISES = (two_objectives, effective_penalties, two_gradients, worst_difference)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    A digit has the margin 40, and eps·‖w‖₁ is 3. How hard does each of the two penalties pull on
    the weights while training looks at this digit?
    + The L1 penalty pulls as always, the other hardly at all.
        The digit's worst-case margin is 37. There the softplus of the adversarial loss is flat,
        so nothing inside it matters any more. The L1 penalty does not depend on the digits.
    - Both pull with full strength: ‖w‖₁ is the same in both.
        The L1 penalty does. The adversarial loss multiplies its pull by σ(3 - 40), which is
        almost 0.
    - Neither pulls: the digit is right.
        The L1 penalty stands outside the loss. It pulls with lambda, whether the digit is right
        or not.

    You fear changes of at most eps = 0.25 per pixel. Which lambda should the L1 penalty have?
    - 0.25, as lambda stands for eps.
        In this lesson that lambda left a model no better than a coin toss. Outside the loss the
        price is always paid in full.
    - A larger one, to be safe.
        L1 already overestimates the damage. More of it prevents all learning.
    + A much smaller one, found by search.
        eps has a meaning: how far a pixel may move. lambda has none. The useful values depend on
        the data, and are far below eps.

    When does the adversarial penalty not fade during training?
    - Never: it always fades in the end.
        Look at the curve for eps 0.25: it stays far above zero. The price fades for a digit only
        when its margin outgrows the attack.
    + When the attack keeps beating many digits.
        These training digits keep margins below eps·‖w‖₁ and pay more than half the price. In a
        model that underfits, this makes the underfitting worse.
    - When eps is small.
        With a small eps the margins soon outgrow the attack, and the penalty fades quickly.

    Why is L1 weight decay more pessimistic for ten classes than for two?
    - Ten classes have more weights, so the sum is larger.
        The sum is larger, but that is not the point. Compare it with what an attack can reach:
        for two classes the two agree.
    + It charges each class as if it had an attacker of its own.
        But one perturbation must serve all. The best step for one class does little, or the
        opposite, for the others. The true damage to one pair is eps·‖w_k - w_y‖₁.
    - FGSM is weaker with ten classes.
        FGSM is indeed no longer exact there, but the exact worst case is still below what L1
        charges.

    A paper shows that an L1 penalty lowers the error of a deep network under FGSM from 99 % to
    60 %. What do you ask first?
    - Which lambda was used.
        Useful, but first you must know whether the number means anything.
    - Nothing: FGSM is exact.
        It is exact for a linear model with two classes. With ten classes, or with a hidden layer,
        it is only a lower bound of the damage.
    + What the error is under PGD.
        On a deep network FGSM misses attacks. In this lesson one network looked defended under
        FGSM and fell to PGD.
    """
)
