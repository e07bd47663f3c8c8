"""Exercises of lesson 04: the L1 penalty against adversarial training.

Each reference depends on torch alone: `solution()` shows it as it stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advlearn.exercises import engine
from advlearn.exercises.engine import Exercise
from advlearn.exercises.evidence import Args
from advlearn.exercises.grading import Misconception
from advlearn.exercises.quiz import Choice, Question, Quiz

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
        def zeta(v: Tensor) -> Tensor:
            return torch.log1p(torch.exp(v)) if kind == "overflow" else functional.softplus(v)

        score = x @ w + b
        margin = score if kind == "without y" else y * score
        norm = w.norm() if kind == "L2" else w.sum() if kind == "no abs" else w.abs().sum()
        if kind == "mean abs":
            norm = w.abs().mean()
        price = strength * norm
        if kind == "squares":
            price = strength * w.square().sum()
        if kind == "bias too":
            price = strength * (norm + b.abs())
        if kind == "price by N":
            price = price / len(x)
        outside, inside = zeta(-margin).mean() + price, zeta(strength * norm - margin).mean()
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
            "Your second value is the loss, not its derivative. How much does it change when norm "
            "grows a little?",
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
        margin, count = y * (x @ w + b), len(x)
        clean = torch.sigmoid(-margin)
        worst = torch.sigmoid(strength * w.abs().sum() - margin)
        pull = w.sign()
        if kind == "w for sign":
            pull = w
        if kind == "sign(0) = 1":
            pull = torch.where(w >= 0, 1.0, -1.0)
        if kind == "norm for sign":
            pull = w.abs().sum() * torch.ones_like(w)
        if kind == "minus pull":
            pull = -pull
        label = torch.ones_like(y) if kind == "without y" else y
        data, data_worst = (-(factor * label) @ x / count for factor in (clean, worst))
        price = strength * worst.mean()
        if kind == "ascent":
            data, data_worst = -data, -data_worst
        if kind == "flat price":
            price = torch.tensor(strength)
        if kind == "clean factor":
            data_worst, price = data, strength * clean.mean()
        if kind == "clean data":
            data_worst = data
        if kind == "sum":
            data, data_worst, price = count * data, count * data_worst, count * price
        if kind == "price sum":
            price = strength * worst.sum()
        outside, inside = data + strength * pull, data_worst + price * pull
        if kind == "data only":
            inside = data_worst
        if kind == "penalty only":
            outside = strength * pull
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


def _wrong_difference(kind: str) -> Callable[..., Tensor]:
    """Make a worst_difference with one thing wrong."""

    def answer(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
        label = y[:, None]
        if kind == "FGSM":
            p = (x @ weight.T + bias).softmax(1)
            gradient = (p - functional.one_hot(y, len(weight)).to(p.dtype)) @ weight
            x = x + eps * gradient.sign()
        z: Tensor = x @ weight.T + bias
        gap: Tensor = z - z.gather(1, label)
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
            "no abs": rows.sum(2),
            "minus": -rows.abs().sum(2),
            "no eps": torch.zeros_like(gap),
            "FGSM": torch.zeros_like(gap),
        }.get(kind, rows.abs().sum(2))
        wrong_gap = gap.scatter(1, label, -torch.inf)
        if kind == "runner-up":
            k = wrong_gap.argmax(1, keepdim=True)
            return (gap + eps * charge).gather(1, k).squeeze(1)
        reached: Tensor = gap + eps * charge
        if kind == "true class too":
            return reached.amax(1)
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

quiz = Quiz(
    (
        Question(
            "A digit has the margin 40, and eps·‖w‖₁ is 3. How hard does each of the two penalties "
            "pull on the weights because of it?",
            (
                Choice(
                    "Both pull with full strength: ‖w‖₁ is the same in both.",
                    False,
                    "The L1 penalty does. The adversarial loss multiplies its pull by σ(3 - 40), "
                    "which is almost 0.",
                ),
                Choice(
                    "The L1 penalty pulls as always, the adversarial loss hardly at all.",
                    True,
                    "Its worst-case margin is 37. The softplus is flat there, so nothing inside it "
                    "matters any more. The L1 penalty never asks a digit.",
                ),
                Choice(
                    "Neither pulls: the digit is right.",
                    False,
                    "The L1 penalty stands outside the loss. It pulls with lambda, whether the "
                    "digit is right or not.",
                ),
            ),
        ),
        Question(
            "You fear changes of at most eps = 0.25 per pixel. Which lambda should the L1 penalty "
            "have?",
            (
                Choice(
                    "0.25, the same number.",
                    False,
                    "In this lesson that lambda left a model no better than a coin. Outside the "
                    "loss the price is paid in full, always.",
                ),
                Choice(
                    "A larger one, to be safe.",
                    False,
                    "L1 overestimates the damage already. More of it forbids all learning.",
                ),
                Choice(
                    "A much smaller one, and it must be searched for.",
                    True,
                    "eps has a meaning: how far a pixel may move. lambda has none. The useful "
                    "values depend on the data, and are far below eps.",
                ),
            ),
        ),
        Question(
            "When does the adversarial penalty not fade during training?",
            (
                Choice(
                    "When the attack keeps winning on many training digits.",
                    True,
                    "Their margins stay below eps·‖w‖₁, and they pay nearly the full price. In a "
                    "model that underfits, this makes the underfitting worse.",
                ),
                Choice(
                    "Never: it always fades in the end.",
                    False,
                    "Look at the curve for eps 0.25: it stays far above zero. The price fades for "
                    "a digit only when its margin outgrows the attack.",
                ),
                Choice(
                    "When eps is small.",
                    False,
                    "With a small eps the margins soon outgrow the attack, and the penalty fades "
                    "quickly.",
                ),
            ),
        ),
        Question(
            "Why is L1 weight decay more pessimistic for ten classes than for two?",
            (
                Choice(
                    "Ten classes have more weights, so the sum is larger.",
                    False,
                    "The sum is larger, but that is not the point. Compare it with what an "
                    "attack can reach: for two classes the two agree.",
                ),
                Choice(
                    "It charges every class's row as if it had an attacker of its own, but one "
                    "perturbation must serve all.",
                    True,
                    "The best step for one class does little, or the opposite, for the others. "
                    "The true damage to one pair is eps·‖w_k - w_y‖₁.",
                ),
                Choice(
                    "FGSM is weaker with ten classes.",
                    False,
                    "FGSM is indeed no longer exact there, but the exact worst case is still below "
                    "what L1 charges.",
                ),
            ),
        ),
        Question(
            "A paper shows: with an L1 penalty the error of a deep network under FGSM falls from "
            "99 % to 60 %. What do you ask first?",
            (
                Choice(
                    "Which lambda was used.",
                    False,
                    "Useful, but first one must know whether the number means anything.",
                ),
                Choice(
                    "What the error is under PGD.",
                    True,
                    "On a deep network FGSM misses attacks. In this lesson one network looked "
                    "defended under FGSM and fell to PGD.",
                ),
                Choice(
                    "Nothing: FGSM is exact.",
                    False,
                    "It is exact for a linear model with two classes. With ten classes, or with a "
                    "hidden layer, it is only a lower bound of the damage.",
                ),
            ),
        ),
    )
)
