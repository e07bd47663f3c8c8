"""Exercises of lesson 04: the L1 penalty against adversarial training.

Each reference depends on torch alone: `solution()` shows it as it stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advlearn.course.grading import exercise as engine
from advlearn.course.grading.evidence import Args
from advlearn.course.grading.exercise import Exercise
from advlearn.course.grading.misconceptions import Misconception
from advlearn.course.grading.quiz import parse

functional = torch.nn.functional


def _randn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def _images(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator)


def _signs(generator: torch.Generator, count: int) -> Tensor:
    return 2.0 * torch.randint(0, 2, (count,), generator=generator) - 1.0


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
            torch.cat([torch.zeros(2), _randn(generator, 4)]),
            torch.tensor(-0.3),
            _images(generator, 8, 6),
            _signs(generator, 8),
            0.2,
        ),
        # Far from the boundary: exp(150) is infinite in float32.
        (
            torch.tensor([1.0, -1.0]),
            torch.tensor(0.1),
            far,
            torch.tensor([-1.0, -1.0, 1.0]),
            0.15,
        ),
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


def _objectives_at_zero(args: Args, output: Any) -> str | None:
    w, b, x, y, strength = args
    clean = float(functional.softplus(-y * (x @ w + b)).mean())
    if strength or all(abs(float(v) - clean) < 1e-4 for v in output):
        return None
    return "With strength 0 both objectives should be the mean plain loss."


def _objectives_never_below_clean(args: Args, output: Any) -> str | None:
    w, b, x, y, _ = args
    clean = float(functional.softplus(-y * (x @ w + b)).mean())
    if all(float(v) >= clean - 1e-4 for v in output):
        return None
    return "One of your objectives is below the plain loss. Neither penalty lowers the loss."


def _inside_is_never_above_outside(args: Args, output: Any) -> str | None:
    if float(output[1]) <= float(output[0]) + 1e-4:
        return None
    return (
        "At equal strength the adversarial loss cannot be above the L1-penalised one: softplus "
        "rises by less than its argument."
    )


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


def _wrong_objectives(kind: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make a two_objectives with one thing wrong."""

    def answer(
        w: Tensor, b: Tensor, x: Tensor, y: Tensor, strength: float
    ) -> tuple[Tensor, Tensor]:
        losses: dict[str, Callable[[Tensor], Tensor]] = {
            "overflow": lambda v: torch.log1p(torch.exp(v)),
            "no softplus": lambda v: v,
            "relu": torch.relu,
            "sigmoid": torch.sigmoid,
            "mean inside": lambda v: functional.softplus(v.mean()),
        }
        zeta = losses.get(kind, functional.softplus)
        score = x @ w if kind == "no bias" else x @ w + b
        margins = {"without y": score, "plus margin": -y * score, "y without b": y * (x @ w) + b}
        margin = margins.get(kind, y * score)
        norms = {
            "L2": w.norm(),
            "no abs": w.sum(),
            "mean abs": w.abs().mean(),
            "max": w.abs().max(),
            "bias too": w.abs().sum() + b.abs(),
        }
        norm = norms.get(kind, w.abs().sum())
        price = norm if kind == "no strength" else strength * norm
        outside, inside = zeta(-margin).mean() + price, zeta(price - margin).mean()
        if kind == "squares":
            outside = zeta(-margin).mean() + strength * w.square().sum()
        if kind == "price by N":
            outside = zeta(-margin).mean() + price / len(x)
        if kind == "no price":
            outside = zeta(-margin).mean()
        if kind == "minus price":
            outside = zeta(-margin).mean() - price
        if kind == "no attack":
            inside = zeta(-margin).mean()
        if kind == "inside and outside":
            inside = inside + price
        if kind == "printed":
            inside = zeta(y * (strength * norm - score)).mean()
        if kind == "both outside":
            inside = zeta(-margin).mean() + strength * norm
        if kind == "both inside":
            outside = zeta(strength * norm - margin).mean()
        if kind == "minus":
            inside = zeta(-strength * norm - margin).mean()
        if kind == "sum":
            outside, inside = zeta(-margin).sum() + price, zeta(strength * norm - margin).sum()
        return (inside, outside) if kind == "swapped" else (outside, inside)

    return answer


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
    wrong_answers=(
        Misconception(
            "the formula as printed",
            _wrong_objectives("printed"),
            "Your second value is the formula as the paper prints it, with y in front of "
            "everything. For y = -1 it turns +eps·‖w‖₁ into -eps·‖w‖₁, and the attack would help. "
            "Only the score is multiplied by y: softplus(eps·‖w‖₁ - y (w·x + b)).",
        ),
        Misconception(
            "both outside",
            _wrong_objectives("both outside"),
            "Your second value adds eps·‖w‖₁ beside the loss. That is another L1 penalty. The "
            "attack lowers the margin, so eps·‖w‖₁ goes inside softplus.",
        ),
        Misconception(
            "both inside",
            _wrong_objectives("both inside"),
            "Your first value has lam·‖w‖₁ inside softplus. That is the adversarial loss with "
            "eps = lam. The L1 penalty is added to the mean loss, outside.",
        ),
        Misconception(
            "minus inside",
            _wrong_objectives("minus"),
            "Your second value subtracts eps·‖w‖₁ inside softplus. The attack subtracts it from "
            "the margin, and the margin itself has a minus there: together that is a plus.",
        ),
        Misconception(
            "L2 norm",
            _wrong_objectives("L2"),
            "You use the L2 norm of w, the square root of the sum of squares. ‖w‖₁ is the sum of "
            "the absolute values.",
        ),
        Misconception(
            "sum of squares",
            _wrong_objectives("squares"),
            "Your penalty adds up squares of weights. That is L2 weight decay. The L1 penalty adds "
            "up absolute values.",
        ),
        Misconception(
            "no absolute values",
            _wrong_objectives("no abs"),
            "You add up the weights with their signs, so that positive and negative ones cancel. "
            "‖w‖₁ is the sum of |w_i|.",
        ),
        Misconception(
            "mean of absolute values",
            _wrong_objectives("mean abs"),
            "You take the mean of |w_i|. The L1 norm is their sum: `w.abs().sum()`.",
        ),
        Misconception(
            "bias penalised",
            _wrong_objectives("bias too"),
            "You charge for the bias b as well. ‖w‖₁ is about the weights only.",
        ),
        Misconception(
            "largest weight",
            _wrong_objectives("max"),
            "You take the largest |w_i|. The L1 norm adds up all of them: `w.abs().sum()`.",
        ),
        Misconception(
            "strength left out",
            _wrong_objectives("no strength"),
            "‖w‖₁ stands without its factor. Multiply it by strength: that is lam in the first "
            "value and eps in the second.",
        ),
        Misconception(
            "no price",
            _wrong_objectives("no price"),
            "Your first value is the plain mean loss. The price lam·‖w‖₁ is missing: add it.",
        ),
        Misconception(
            "price subtracted",
            _wrong_objectives("minus price"),
            "You subtract lam·‖w‖₁ from the mean loss, a reward for large weights. A price is "
            "added.",
        ),
        Misconception(
            "no attack",
            _wrong_objectives("no attack"),
            "Your second value is the plain mean loss, without an attack. Each margin falls by "
            "eps·‖w‖₁ before the loss is taken.",
        ),
        Misconception(
            "inside and outside",
            _wrong_objectives("inside and outside"),
            "Your second value has eps·‖w‖₁ twice: inside softplus, where it belongs, and beside "
            "the loss. The adversarial loss has no price outside.",
        ),
        Misconception(
            "no softplus",
            _wrong_objectives("no softplus"),
            "You average the arguments of softplus, not the losses. The loss of one image is "
            "softplus of its argument.",
        ),
        Misconception(
            "ReLU",
            _wrong_objectives("relu"),
            "You have the ReLU where softplus is due. The ReLU gives no loss to an image that is "
            "just right; softplus(v) = log(1 + exp(v)) still gives it some.",
        ),
        Misconception(
            "sigmoid",
            _wrong_objectives("sigmoid"),
            "You have the sigmoid where softplus is due. The sigmoid is the slope of the loss, "
            "not the loss.",
        ),
        Misconception(
            "mean before the loss",
            _wrong_objectives("mean inside"),
            "You average the margins first and take the softplus of the average. Take the loss of "
            "each image first, then the mean: `softplus(...).mean()`.",
        ),
        Misconception(
            "sign of the margin",
            _wrong_objectives("plus margin"),
            "The margin has the wrong sign inside softplus. A large margin should give a small "
            "loss: the argument contains minus the margin.",
        ),
        Misconception(
            "bias left out",
            _wrong_objectives("no bias"),
            "The bias b is missing in your score. The margin is y times (w·x + b).",
        ),
        Misconception(
            "y without the bias",
            _wrong_objectives("y without b"),
            "You multiply only w·x by y and add b afterwards. Set brackets: y * (x @ w + b).",
        ),
        Misconception(
            "sum over the images",
            _wrong_objectives("sum"),
            "You add up the losses of all images. Take their mean.",
        ),
        Misconception(
            "penalty divided by N",
            _wrong_objectives("price by N"),
            "You divide the penalty by the number of images. Only the losses are averaged; "
            "lam·‖w‖₁ is added once.",
        ),
        Misconception(
            "without y",
            _wrong_objectives("without y"),
            "You take the score for the margin. The margin is y times the score: for a 3, with "
            "y = -1, a negative score is right.",
        ),
        Misconception(
            "swapped",
            _wrong_objectives("swapped"),
            "Your two values are swapped. First the L1-penalised loss, then the adversarial one.",
        ),
        Misconception(
            "overflow",
            _wrong_objectives("overflow"),
            "Your formulas are right, but exp overflows for images far on the wrong side, and the "
            "loss becomes inf. `torch.nn.functional.softplus` computes the same without overflow.",
        ),
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
        (3 * _randn(generator, 12), 6.5, 0.15, 0.35),
    ]


def _l1_price_is_flat(args: Args, output: Any) -> str | None:
    if float(output[0].max() - output[0].min()) < 1e-5:
        return None
    return "Your first penalty differs between images. The L1 penalty knows no margin."


def _price_is_at_most_eps(args: Args, output: Any) -> str | None:
    eps = args[3]
    if bool(((output[1] >= -1e-6) & (output[1] <= eps + 1e-6)).all()):
        return None
    return "Your second penalty leaves the range from 0 to eps."


def _price_fades_with_the_margin(args: Args, output: Any) -> str | None:
    m, price = args[0], output[1]
    if bool((price[m.argsort()].diff() <= 1e-6).all()):
        return None
    return "Your second penalty grows with the margin. It should fade."


def _autograd_penalties(m: Tensor, norm: float, lam: float, eps: float) -> tuple[Tensor, Tensor]:
    n = torch.full_like(m, norm, requires_grad=True)
    (outside,) = torch.autograd.grad((functional.softplus(-m) + lam * n).sum(), n)
    (inside,) = torch.autograd.grad(functional.softplus(eps * n - m).sum(), n)
    return outside, inside


def _looped_penalties(m: Tensor, norm: float, lam: float, eps: float) -> tuple[Tensor, Tensor]:
    inside = [eps * (1 + ((v - eps * norm) / 2).tanh().neg()) / 2 for v in m]
    return lam * torch.ones_like(m), torch.stack(inside)


def _wrong_penalties(kind: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make an effective_penalties with one thing wrong."""

    def answer(m: Tensor, norm: float, lam: float, eps: float) -> tuple[Tensor, Tensor]:
        v = eps * norm - m
        sigma = torch.sigmoid(v)
        outside, inside = torch.full_like(m, lam), eps * sigma
        if kind == "total price":
            outside = torch.full_like(m, lam * norm)
        if kind == "both fade":
            outside = lam * torch.sigmoid(lam * norm - m)
        if kind == "clean factor on lam":
            outside = lam * torch.sigmoid(-m)
        if kind == "loss added":
            outside = lam - torch.sigmoid(-m)
        if kind == "loss":
            outside = functional.softplus(-m) + lam * norm
        firsts = {"zero": 0.0, "one": 1.0, "eps first": eps, "letters": eps, "by N": lam / len(m)}
        if kind in firsts:
            outside = torch.full_like(m, firsts[kind])
        others = {
            "no eps in front": sigma,
            "wrong side": eps * torch.sigmoid(m - eps * norm),
            "softplus": eps * functional.softplus(v),
            "loss": functional.softplus(v),
            "twice": eps * sigma * (1 - sigma),
            "no norm": eps * torch.sigmoid(-m),
            "no eps inside": eps * torch.sigmoid(norm - m),
            "times norm": eps * norm * sigma,
            "by m": -sigma,
            "constant": torch.full_like(m, eps),
            "plus m": eps * torch.sigmoid(eps * norm + m),
            "minus norm": eps * torch.sigmoid(-eps * norm - m),
            "negative": -eps * sigma,
            "lam in front": lam * sigma,
            "lam inside": eps * torch.sigmoid(lam * norm - m),
            "lam for eps": lam * torch.sigmoid(lam * norm - m),
            "letters": lam * torch.sigmoid(lam * norm - m),
            "lam everywhere": torch.full_like(m, lam),
            "tanh": eps * torch.tanh(v),
            "mean": torch.full_like(m, float((eps * sigma).mean())),
            "overflow": eps * torch.exp(v) / (1 + torch.exp(v)),
        }
        inside = others.get(kind, inside)
        return (inside, outside) if kind == "swapped" else (outside, inside)

    return answer


effective_penalties = Exercise(
    name="effective_penalties",
    lesson="04",
    title="The effective penalty",
    task=(
        "Return the derivative by norm = ‖w‖₁, with the margins held fixed, of (1) "
        "softplus(-m) + lam·norm and (2) softplus(eps·norm - m). Both are tensors of shape (N,). "
        "m is (N,); norm, lam and eps are numbers."
    ),
    difficulty=2,
    minutes=6,
    reference=_effective_penalties,
    inputs=_margin_inputs,
    properties=(_l1_price_is_flat, _price_is_at_most_eps, _price_fades_with_the_margin),
    right_answers=(
        _autograd_penalties,
        _looped_penalties,
        lambda m, norm, lam, eps: (m * 0 + lam, eps * (1 - torch.sigmoid(m - eps * norm))),
    ),
    wrong_answers=(
        Misconception(
            "no eps in front",
            _wrong_penalties("no eps in front"),
            "The factor eps in front is missing. The chain rule brings it down: eps·norm stands "
            "inside softplus, and its derivative by norm is eps.",
        ),
        Misconception(
            "wrong side",
            _wrong_penalties("wrong side"),
            "The argument of your sigmoid has the wrong sign. Your penalty grows with the margin. "
            "The derivative of softplus(v) is σ(v), with the same v = eps·norm - m.",
        ),
        Misconception(
            "softplus in place of its derivative",
            _wrong_penalties("softplus"),
            "You have eps times softplus. The derivative of softplus is the sigmoid.",
        ),
        Misconception(
            "the loss itself",
            _wrong_penalties("loss"),
            "This is the loss itself, not its derivative. How much does it change when norm "
            "grows a little?",
        ),
        Misconception(
            "plus the margin",
            _wrong_penalties("plus m"),
            "In your sigmoid the margin is added. It stands there as in softplus: eps·norm - m.",
        ),
        Misconception(
            "minus the norm",
            _wrong_penalties("minus norm"),
            "In your sigmoid eps·norm has a minus. It stands there as in softplus: eps·norm - m. "
            "The attack makes the loss larger.",
        ),
        Misconception(
            "negative price",
            _wrong_penalties("negative"),
            "Your second penalty is negative. The loss grows with norm, so its derivative by norm "
            "is positive.",
        ),
        Misconception(
            "lam in front of the sigmoid",
            _wrong_penalties("lam in front"),
            "lam stands in front of your sigmoid. The adversarial loss knows only eps: the "
            "derivative of eps·norm - m by norm is eps.",
        ),
        Misconception(
            "lam in the sigmoid",
            _wrong_penalties("lam inside"),
            "lam stands inside your sigmoid. There belongs what stood in softplus: eps·norm - m.",
        ),
        Misconception(
            "lam for eps",
            _wrong_penalties("lam for eps"),
            "Your second value is right for eps = lam. But here eps is another number: it belongs "
            "to the adversarial loss, lam to the L1 penalty.",
        ),
        Misconception(
            "eps for lam",
            _wrong_penalties("eps first"),
            "Your first value is eps for every image. The L1 penalty has the coefficient lam.",
        ),
        Misconception(
            "letters mixed up",
            _wrong_penalties("letters"),
            "You have eps where lam belongs, and lam where eps belongs. lam is the coefficient of "
            "the L1 penalty, eps the size of the attack.",
        ),
        Misconception(
            "lam in both",
            _wrong_penalties("lam everywhere"),
            "You give lam for both. The second loss has norm inside softplus, so the chain rule "
            "applies: eps times σ(eps·norm - m).",
        ),
        Misconception(
            "tanh",
            _wrong_penalties("tanh"),
            "You use tanh, which runs from -1 to 1. The derivative of softplus is the sigmoid, "
            "which runs from 0 to 1.",
        ),
        Misconception(
            "mean over the images",
            _wrong_penalties("mean"),
            "You average your second penalty over the images. Each image has its own.",
        ),
        Misconception(
            "overflow",
            _wrong_penalties("overflow"),
            "Your formula is right, but exp overflows for a large argument, and inf / inf is nan. "
            "`torch.sigmoid` computes the same without overflow.",
        ),
        Misconception(
            "no price",
            _wrong_penalties("zero"),
            "Your first penalty is 0. softplus(-m) does not change with norm, but lam·norm does.",
        ),
        Misconception(
            "price without lam",
            _wrong_penalties("one"),
            "Your first penalty is 1, the derivative of norm alone. The penalty is lam·norm.",
        ),
        Misconception(
            "price divided by N",
            _wrong_penalties("by N"),
            "You divide lam by the number of images. Asked is the penalty of each image by itself: "
            "lam.",
        ),
        Misconception(
            "slope of the loss added",
            _wrong_penalties("loss added"),
            "Your first value also has the slope of softplus(-m), by m. The margins are held "
            "fixed, so that part does not change with norm.",
        ),
        Misconception(
            "derivative taken twice",
            _wrong_penalties("twice"),
            "You have σ(1 - σ), the derivative of the sigmoid. The sigmoid is the derivative of "
            "softplus already: one step is enough.",
        ),
        Misconception(
            "norm left out",
            _wrong_penalties("no norm"),
            "The sigmoid of your second value has no eps·norm. It should stay: the price depends "
            "on the worst-case margin m - eps·norm.",
        ),
        Misconception(
            "eps left out inside",
            _wrong_penalties("no eps inside"),
            "In your sigmoid norm stands without eps. The attack takes eps·norm away, not norm.",
        ),
        Misconception(
            "times norm",
            _wrong_penalties("times norm"),
            "Your second value is multiplied by norm. The derivative of eps·norm by norm is eps.",
        ),
        Misconception(
            "by the margin",
            _wrong_penalties("by m"),
            "Your second value is the derivative by the margin m. Here the margin is held fixed, "
            "and norm changes.",
        ),
        Misconception(
            "adversarial price constant",
            _wrong_penalties("constant"),
            "Your second penalty is eps for every image. That would hold if eps·norm stood outside "
            "of softplus. Inside, the chain rule adds the factor σ(eps·norm - m).",
        ),
        Misconception(
            "total in place of the price",
            _wrong_penalties("total price"),
            "Your first value is the whole penalty lam·norm. Its derivative by norm is lam.",
        ),
        Misconception(
            "both fade",
            _wrong_penalties("both fade"),
            "You let the L1 penalty fade as well. It stands outside of softplus, so no sigmoid "
            "multiplies it: it is lam for every image.",
        ),
        Misconception(
            "clean factor on lam",
            _wrong_penalties("clean factor on lam"),
            "You multiply lam by σ(-m), the derivative of the loss by its own argument. The loss "
            "softplus(-m) does not change with norm here. Only lam·norm does.",
        ),
        Misconception(
            "swapped",
            _wrong_penalties("swapped"),
            "Your two values are swapped. First the L1 penalty, then the adversarial one.",
        ),
    ),
    hints=(
        "In both formulas, where does norm occur? Only that part changes.",
        "(1): lam·norm has the derivative lam, for every image. (2): chain rule. The outer "
        "derivative is the sigmoid, the inner one is eps.",
        "Return `torch.full_like(m, lam)` and `eps * torch.sigmoid(...)`. In the sigmoid stands "
        "what stood in softplus.",
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


def _same_gradient_at_zero(args: Args, output: Any) -> str | None:
    if args[4] or torch.allclose(output[0], output[1], atol=1e-5):
        return None
    return "With strength 0 your two gradients should be equal: that of the plain loss."


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


def _wrong_gradients(kind: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make a two_gradients with one thing wrong."""

    def answer(
        w: Tensor, b: Tensor, x: Tensor, y: Tensor, strength: float
    ) -> tuple[Tensor, Tensor]:
        margin, count = y * (x @ w + (0.0 if kind == "no bias" else b)), len(x)
        slopes: dict[str, Callable[[Tensor], Tensor]] = {
            "softplus": functional.softplus,
            "wrong side": lambda v: torch.sigmoid(-v),
            "twice": lambda v: torch.sigmoid(v) * (1 - torch.sigmoid(v)),
            "no factor": torch.ones_like,
        }
        slope = slopes.get(kind, torch.sigmoid)
        clean = slope(-margin)
        worst = slope((-strength if kind == "minus norm" else strength) * w.abs().sum() - margin)
        pulls = {
            "w for sign": w,
            "sign(0) = 1": torch.where(w >= 0, 1.0, -1.0),
            "norm for sign": w.abs().sum() * torch.ones_like(w),
            "minus pull": -w.sign(),
            "abs for sign": w.abs(),
        }
        pull = pulls.get(kind, w.sign())
        label = {"without y": torch.ones_like(y), "ascent": -y}.get(kind, y)
        data, data_worst = (
            -(factor * label) @ x / (1 if kind in ("sum", "data sum") else count)
            for factor in (clean, clean if kind in ("clean data", "clean factor") else worst)
        )
        prices: dict[str, Any] = {  # in front of the pull of the first gradient
            "penalty by N": strength / count,
            "price fades": strength * clean.mean(),
            "no strength": 1.0,
            "no penalty": 0.0,
        }
        worst_prices: dict[str, Any] = {  # the same in the second gradient
            "flat price": strength,
            "clean factor": strength * clean.mean(),
            "sum": strength * worst.sum(),
            "price sum": strength * worst.sum(),
            "y on the pull": strength * (worst * y).mean(),
            "no strength": worst.mean(),
            "data only": 0.0,
        }
        outside = data + prices.get(kind, strength) * pull
        inside = data_worst + worst_prices.get(kind, strength * worst.mean()) * pull
        if kind == "penalty only":
            outside = strength * pull
        if kind == "worst data":
            outside = data_worst + strength * pull
        return (inside, outside) if kind == "swapped" else (outside, inside)

    return answer


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
    properties=(_same_gradient_at_zero,),
    right_answers=(_autograd_gradients, _looped_gradients),
    wrong_answers=(
        Misconception(
            "flat price inside",
            _wrong_gradients("flat price"),
            "In your second gradient the pull is eps·sign(w) for all images. That is an L1 "
            "penalty. Each image pays only its factor: eps times the mean of "
            "σ(eps·‖w‖₁ - margin).",
        ),
        Misconception(
            "clean factor",
            _wrong_gradients("clean factor"),
            "Your second gradient uses σ(-margin). The derivative of softplus(v) is σ(v), and here "
            "v = eps·‖w‖₁ - margin.",
        ),
        Misconception(
            "clean data part",
            _wrong_gradients("clean data"),
            "In your second gradient the part from the data still has the factor σ(-margin). Both "
            "parts of that gradient have the same factor, σ(eps·‖w‖₁ - margin).",
        ),
        Misconception(
            "data only",
            _wrong_gradients("data only"),
            "Your second gradient has no part from ‖w‖₁. It depends on w as well, through "
            "eps·‖w‖₁: add eps·mean(σ)·sign(w).",
        ),
        Misconception(
            "penalty only",
            _wrong_gradients("penalty only"),
            "Your first gradient is only that of the penalty. The mean loss depends on w too.",
        ),
        Misconception(
            "no penalty",
            _wrong_gradients("no penalty"),
            "Your first gradient is that of the plain loss. The part from lam·‖w‖₁ is missing: add "
            "lam·sign(w).",
        ),
        Misconception(
            "strength left out",
            _wrong_gradients("no strength"),
            "The pull sign(w) stands without strength in front of it. That is lam in the first "
            "gradient and eps in the second.",
        ),
        Misconception(
            "penalty divided by N",
            _wrong_gradients("penalty by N"),
            "You divide the pull of the penalty by the number of images. Only the losses are "
            "averaged; lam·‖w‖₁ is added once.",
        ),
        Misconception(
            "factor on the penalty",
            _wrong_gradients("price fades"),
            "In your first gradient the pull has a factor σ. The penalty stands outside of "
            "softplus, so it pulls with lam·sign(w), whatever the margins are.",
        ),
        Misconception(
            "attacked data in the first",
            _wrong_gradients("worst data"),
            "The part from the data in your first gradient has the factor σ(eps·‖w‖₁ - margin). "
            "The L1-penalised loss knows no attack: its factor is σ(-margin).",
        ),
        Misconception(
            "y on the pull",
            _wrong_gradients("y on the pull"),
            "In your second gradient the pull is multiplied by y. That is the gradient of the "
            "formula as the paper prints it. The attack hurts both classes: no y stands there.",
        ),
        Misconception(
            "minus the norm",
            _wrong_gradients("minus norm"),
            "In the factor of your second gradient eps·‖w‖₁ has a minus. The attack makes the "
            "loss larger: the factor is σ(eps·‖w‖₁ - margin).",
        ),
        Misconception(
            "factor on the wrong side",
            _wrong_gradients("wrong side"),
            "The argument of your σ has the wrong sign: images that are right pull hardest. The "
            "derivative of softplus(v) is σ(v), with the same v.",
        ),
        Misconception(
            "no factor",
            _wrong_gradients("no factor"),
            "The factor σ is missing: every image pulls with full strength. The derivative of "
            "softplus is the sigmoid.",
        ),
        Misconception(
            "softplus in place of its derivative",
            _wrong_gradients("softplus"),
            "You use softplus as the factor. The chain rule needs its derivative, the sigmoid.",
        ),
        Misconception(
            "derivative taken twice",
            _wrong_gradients("twice"),
            "You use σ(1 - σ) as the factor, the derivative of the sigmoid. The sigmoid is the "
            "derivative of softplus already.",
        ),
        Misconception(
            "absolute value in place of the sign",
            _wrong_gradients("abs for sign"),
            "Your penalty pulls with |w|. Its derivative by w_i is sign(w_i): -1, 0 or +1.",
        ),
        Misconception(
            "bias left out",
            _wrong_gradients("no bias"),
            "The bias b is missing in your margins. The margin is y (w·x + b).",
        ),
        Misconception(
            "sum in the data part",
            _wrong_gradients("data sum"),
            "The part from the data is added up over the images. The objectives are means: divide "
            "`@ x` by N.",
        ),
        Misconception(
            "w in place of its sign",
            _wrong_gradients("w for sign"),
            "Your penalty pulls with w itself. That is L2 weight decay. The derivative of |w_i| is "
            "sign(w_i): the same strength for small and large weights.",
        ),
        Misconception(
            "sign(0) = 1",
            _wrong_gradients("sign(0) = 1"),
            "You pull on weights that are zero already. At 0 take the slope 0, as `torch.sign` "
            "does.",
        ),
        Misconception(
            "norm in place of the sign",
            _wrong_gradients("norm for sign"),
            "You have the norm itself where its derivative is due. The derivative of ‖w‖₁ by w_i "
            "is sign(w_i).",
        ),
        Misconception(
            "minus on the pull",
            _wrong_gradients("minus pull"),
            "Your penalty has the wrong sign: a step against your gradient would make the weights "
            "larger. Both objectives grow with ‖w‖₁.",
        ),
        Misconception(
            "ascent",
            _wrong_gradients("ascent"),
            "The part from the data has the wrong sign. softplus has -margin inside, so its "
            "derivative brings a minus.",
        ),
        Misconception(
            "without y",
            _wrong_gradients("without y"),
            "The factor y is missing in the part from the data. The margin is y (w·x + b), so its "
            "derivative by w is y·x.",
        ),
        Misconception(
            "sum over the images",
            _wrong_gradients("sum"),
            "You add up over the images. The objectives are means: divide by N, or use `.mean()`.",
        ),
        Misconception(
            "sum of the factors",
            _wrong_gradients("price sum"),
            "In your second gradient the factors of the pull are added up. The loss is a mean, so "
            "take their mean as well.",
        ),
        Misconception(
            "swapped",
            _wrong_gradients("swapped"),
            "Your two gradients are swapped. First that of the L1-penalised loss, then the "
            "adversarial one.",
        ),
    ),
    hints=(
        "The chain rule, in three pieces: the derivative of softplus, that of the margin by w, and "
        "that of ‖w‖₁ by w.",
        "They are σ, y·x and sign(w). Data part of (1): minus the mean of σ(-margin)·y·x. In code: "
        "`-(torch.sigmoid(-margin) * y) @ x / len(x)`.",
        "For (2) put s = σ(eps·‖w‖₁ - margin) in place of σ(-margin), and add "
        "`strength * s.mean() * torch.sign(w)`.",
    ),
    takeaway="Both pull with sign(w). Only the second asks the images how hard.",
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
            _randn(generator, 5, 7),
            _randn(generator, 5),
            _images(generator, 6, 7),
            torch.randint(0, 5, (6,), generator=generator),
            0.1,
        ),
    ]


def _never_below_clean(args: Args, output: Tensor) -> str | None:
    z = args[2] @ args[0].T + args[1]
    gap = (z - z.gather(1, args[3][:, None])).scatter(1, args[3][:, None], -torch.inf)
    if bool((output >= gap.amax(1) - 1e-5).all()):
        return None
    return "Your worst case is below the largest z_k - z_y without an attack. It cannot be."


def _never_above_own_eta(args: Args, output: Tensor) -> str | None:
    z = args[2] @ args[0].T + args[1]
    gap = (z - z.gather(1, args[3][:, None])).scatter(1, args[3][:, None], -torch.inf)
    norms = args[0].abs().sum(1)
    most = (gap + args[4] * (norms + norms[args[3]][:, None])).amax(1)
    if bool((output <= most + 1e-5).all()):
        return None
    return "Your worst case is larger than even two separate attacks could make it."


def _cornered_difference(
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    y: Tensor,
    eps: float,
) -> Tensor:
    best = torch.full((len(x),), -torch.inf)
    for k in range(len(weight)):
        direction = weight[k] - weight[y]  # (N, d): the corner that aims at class k
        z = (x + eps * direction.sign()) @ weight.T + bias
        gap = z[:, k] - z.gather(1, y[:, None]).squeeze(1)
        best = torch.where(y == k, best, torch.maximum(best, gap))
    return best


def _looped_difference(
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    y: Tensor,
    eps: float,
) -> Tensor:
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


def _clipped_difference(
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    y: Tensor,
    eps: float,
) -> Tensor:
    """Wrong where it matters: the attacked images are put back into [0, 1]."""
    every = torch.arange(len(x))
    reached = torch.full((len(x), len(weight)), -torch.inf)
    for k in range(len(weight)):
        z = (x + eps * (weight[k] - weight[y]).sign()).clamp(0, 1) @ weight.T + bias
        reached[:, k] = torch.where(y == k, -torch.inf, z[:, k] - z[every, y])
    return reached.amax(1)


def _wrong_difference(kind: str) -> Callable[..., Tensor]:
    """Make a worst_difference with one thing wrong."""

    def answer(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
        if kind == "eps left out":
            eps = 1.0
        if kind == "twice":
            eps = 2 * eps
        if kind == "predicted":
            y = (x @ weight.T + bias).argmax(1)
        label = y[:, None]
        if kind == "clipped":
            return _clipped_difference(weight, bias, x, y, eps)
        if kind == "true row attacked":
            x = x - eps * weight[y].sign()
        if kind == "FGSM":
            p = (x @ weight.T + bias).softmax(1)
            gradient = (p - functional.one_hot(y, len(weight)).to(p.dtype)) @ weight
            x = x + eps * gradient.sign()
        z: Tensor = x @ weight.T + (0.0 if kind == "no bias" else bias)
        if kind == "softmax":
            z = z.softmax(1)
        gap: Tensor = z.gather(1, label) - z if kind == "reversed" else z - z.gather(1, label)
        rows: Tensor = weight[None] - weight[y][:, None]
        norms = weight.abs().sum(1)
        charge: Tensor = {
            "separate": norms + norms[y][:, None],
            "class k only": norms.expand_as(gap),
            "true row only": norms[y][:, None].expand_as(gap),
            "difference of norms": norms - norms[y][:, None],
            "sum of all": norms.sum().expand_as(gap),
            "L2": rows.norm(dim=2),
            "max": rows.abs().amax(2),
            "mean abs": rows.abs().mean(2),
            "squares": rows.square().sum(2),
            "no abs": rows.sum(2),
            "minus": -rows.abs().sum(2),
            "no eps": torch.zeros_like(gap),
            "FGSM": torch.zeros_like(gap),
            "true row attacked": torch.zeros_like(gap),
        }.get(kind, rows.abs().sum(2))
        wrong_gap = gap.scatter(1, label, -torch.inf)
        if kind == "runner-up":
            k = wrong_gap.argmax(1, keepdim=True)
            return (gap + eps * charge).gather(1, k).squeeze(1)
        reached: Tensor = gap + eps * charge
        if kind == "true class too":
            return reached.amax(1)
        if kind == "min":
            return reached.scatter(1, label, torch.inf).amin(1)
        if kind in ("sum", "mean"):
            added = reached.scatter(1, label, 0.0).sum(1)
            return added / (len(weight) - 1) if kind == "mean" else added
        reached = reached.scatter(1, label, -torch.inf)
        return -reached.amax(1) if kind == "margin" else reached.amax(1)

    return answer


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
    wrong_answers=(
        Misconception(
            "an own eta for each output",
            _wrong_difference("separate"),
            "You add eps·‖w_k‖₁ and eps·‖w_y‖₁. That takes one step to raise z_k and another one "
            "to lower z_y. There is one step only: it moves the difference by eps·‖w_k - w_y‖₁.",
        ),
        Misconception(
            "the sum that L1 charges",
            _wrong_difference("sum of all"),
            "You add eps times the L1 norm of the whole matrix. That is what the L1 penalty "
            "charges. Only two rows decide about z_k - z_y, and they share one step.",
        ),
        Misconception(
            "row k only",
            _wrong_difference("class k only"),
            "You use ‖w_k‖₁. The step that raises z_k moves z_y as well. What counts is the row "
            "of the difference, w_k - w_y.",
        ),
        Misconception(
            "true row only",
            _wrong_difference("true row only"),
            "You use ‖w_y‖₁. The step that lowers z_y moves z_k as well. What counts is the row "
            "of the difference, w_k - w_y.",
        ),
        Misconception(
            "difference of the norms",
            _wrong_difference("difference of norms"),
            "You subtract two norms. First subtract the rows, then take the norm: ‖w_k - w_y‖₁.",
        ),
        Misconception(
            "runner-up only",
            _wrong_difference("runner-up"),
            "You pick the strongest wrong class before the attack. The attack may prefer another "
            "one, whose weights differ more. Add eps·‖w_k - w_y‖₁ first, then take the maximum.",
        ),
        Misconception(
            "true class included",
            _wrong_difference("true class too"),
            "Your maximum includes the true class, whose difference is always 0. So a safe image "
            "gets 0 in place of a negative value. Leave out k = y.",
        ),
        Misconception(
            "FGSM",
            _wrong_difference("FGSM"),
            "You take one FGSM step. With more than two classes its direction mixes all wrong "
            "classes. The best step aims at one class: try every k, and take the largest value.",
        ),
        Misconception(
            "L2 norm",
            _wrong_difference("L2"),
            "You use the L2 norm of w_k - w_y. Each pixel may move by eps on its own, so the "
            "damage is a sum of absolute values: the L1 norm.",
        ),
        Misconception(
            "max norm",
            _wrong_difference("max"),
            "You use the largest entry of w_k - w_y. The step is limited in the max norm. Its "
            "damage adds up over all pixels: the L1 norm.",
        ),
        Misconception(
            "no absolute values",
            _wrong_difference("no abs"),
            "You add up w_k - w_y with its signs. The attacker chooses the sign of each pixel's "
            "step, so take absolute values.",
        ),
        Misconception(
            "minus",
            _wrong_difference("minus"),
            "You subtract eps·‖w_k - w_y‖₁. That is the best case for the model. The attacker "
            "raises z_k - z_y.",
        ),
        Misconception(
            "no attack",
            _wrong_difference("no eps"),
            "This is the difference without an attack: eps does not appear. How far can a step of "
            "eps per pixel push z_k - z_y?",
        ),
        Misconception(
            "eps left out",
            _wrong_difference("eps left out"),
            "‖w_k - w_y‖₁ stands without eps. A step of 1 per pixel would reach that. Yours is at "
            "most eps.",
        ),
        Misconception(
            "twice",
            _wrong_difference("twice"),
            "You count the attack twice. The row w_k - w_y has both classes in it already: "
            "eps·‖w_k - w_y‖₁ is all.",
        ),
        Misconception(
            "mean of absolute values",
            _wrong_difference("mean abs"),
            "You take the mean of |w_k - w_y| over the pixels. Every pixel adds its own term: take "
            "the sum.",
        ),
        Misconception(
            "sum of squares",
            _wrong_difference("squares"),
            "You add up squares of w_k - w_y. A pixel that moves by eps adds eps times the "
            "absolute value.",
        ),
        Misconception(
            "bias left out",
            _wrong_difference("no bias"),
            "The bias is missing in your logits: z = W x + b.",
        ),
        Misconception(
            "probabilities",
            _wrong_difference("softmax"),
            "You take the difference of probabilities, after a softmax. Asked is that of the "
            "logits z = W x + b.",
        ),
        Misconception(
            "predicted class",
            _wrong_difference("predicted"),
            "You use the class that the model predicts in place of the true class y. They differ "
            "where the model is wrong.",
        ),
        Misconception(
            "difference reversed",
            _wrong_difference("reversed"),
            "You begin with z_y - z_k and add the attack. The attacker raises z_k - z_y: begin "
            "with that.",
        ),
        Misconception(
            "smallest",
            _wrong_difference("min"),
            "You take the wrong class that is easiest for the model, a minimum. The attacker picks "
            "the one with the largest value.",
        ),
        Misconception(
            "sum over the classes",
            _wrong_difference("sum"),
            "You add up over the wrong classes. The attack needs one of them: take the maximum.",
        ),
        Misconception(
            "mean over the classes",
            _wrong_difference("mean"),
            "You average over the wrong classes. The attack needs one of them: take the maximum.",
        ),
        Misconception(
            "clipped",
            _wrong_difference("clipped"),
            "You put the attacked image back into [0, 1]. Here the step is not clipped: the "
            "formula with eps·‖w_k - w_y‖₁ holds for every pixel.",
        ),
        Misconception(
            "only the true class attacked",
            _wrong_difference("true row attacked"),
            "Your step lowers z_y as far as possible, whatever it does to z_k. The best step looks "
            "at the difference: its signs are those of w_k - w_y.",
        ),
        Misconception(
            "the margin",
            _wrong_difference("margin"),
            "Your result has the other sign: you return the margin z_y - z_k. Asked is the largest "
            "z_k - z_y, which is positive where the attack wins.",
        ),
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


def progress() -> None:
    """Print the exercises of this lesson with the outcome of each."""
    engine.progress(EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    A digit has the margin 40, and eps·‖w‖₁ is 3. How hard does each of the two penalties pull on
    the weights because of it?
    + The L1 penalty pulls as always, the other hardly at all.
        The digit's worst-case margin is 37. There the softplus of the adversarial loss is flat,
        so nothing inside it matters any more. The L1 penalty never asks a digit.
    - Both pull with full strength: ‖w‖₁ is the same in both.
        The L1 penalty does. The adversarial loss multiplies its pull by σ(3 - 40), which is
        almost 0.
    - Neither pulls: the digit is right.
        The L1 penalty stands outside the loss. It pulls with lambda, whether the digit is right
        or not.

    You fear changes of at most eps = 0.25 per pixel. Which lambda should the L1 penalty have?
    - 0.25, as lambda stands for eps.
        In this lesson that lambda left a model no better than a coin. Outside the loss the price
        is paid in full, always.
    - A larger one, to be safe.
        L1 overestimates the damage already. More of it forbids all learning.
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

    A paper shows: with an L1 penalty the error of a deep network under FGSM falls from 99 % to 60
    %. What do you ask first?
    - Which lambda was used.
        Useful, but first one must know whether the number means anything.
    - Nothing: FGSM is exact.
        It is exact for a linear model with two classes. With ten classes, or with a hidden layer,
        it is only a lower bound of the damage.
    + What the error is under PGD.
        On a deep network FGSM misses attacks. In this lesson one network looked defended under
        FGSM and fell to PGD.
    """
)
