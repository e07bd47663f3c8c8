"""Exercises of lesson 08: alternative hypotheses."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from advlearn.course import grading
from advlearn.course.banks.inputs import labels, rand, randn
from advlearn.course.grading import Args, Exercise, edits, evidence, parse, rule

# --- 1. Two Gaussian classes are a linear model --------------------------------------------------


def _gaussian_weights(mean0: Tensor, mean1: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    w = (mean1 - mean0) / variance  # (d,) what x is multiplied by; the squares x² cancel
    b = 0.5 * ((mean0**2 - mean1**2) / variance).sum()  # what is left without x
    return w, b


def _gaussian_inputs(generator: torch.Generator) -> list[Args]:
    return [
        (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.5]), torch.tensor([0.5, 0.25])),
        (torch.tensor([0.2, 0.4]), torch.tensor([0.2, 0.9]), torch.tensor([2.0, 4.0])),
        (rand(generator, 5), rand(generator, 5), 0.05 + rand(generator, 5)),
        (rand(generator, 9), rand(generator, 9), 0.05 + 3 * rand(generator, 9)),
    ]


@rule(
    "Halfway between the two means both densities are equal, so w·x + b should be 0 there. "
    "Yours is not."
)
def _zero_half_way(args: Args, output: Any) -> object:
    mean0, mean1, _ = args
    w, b = output
    scale = float((w.abs() * (mean0.abs() + mean1.abs())).sum()) + float(b.abs())
    return abs(float(w @ (mean0 + mean1) / 2 + b)) <= 1e-4 * scale + 1e-6


def _gaussian_by_autograd(mean0: Tensor, mean1: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    zero = torch.zeros_like(mean0).requires_grad_(True)
    means = torch.stack([mean0, mean1])
    log_p = torch.distributions.Normal(means, variance.sqrt()).log_prob(zero).sum(1)  # (2,)
    score = log_p[1] - log_p[0]
    return torch.autograd.grad(score, zero)[0], score.detach()


def _gaussian_by_midpoint(mean0: Tensor, mean1: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    w = torch.linalg.solve(torch.diag(variance), mean1 - mean0)
    return w, -torch.dot(w, mean0 + mean1) / 2


gaussian_weights = Exercise(
    name="gaussian_weights",
    lesson="08",
    title="Two Gaussian classes are a linear model",
    task=(
        "Two classes are equally frequent, and each is a Gaussian: p(x | k) = N(x; mean_k, "
        "diag(variance)), with the SAME variances for both. Return w and b such that "
        "log p(x | 1) - log p(x | 0) = w·x + b. mean0, mean1 and variance are (d,), and so is w; b "
        "is a scalar tensor."
    ),
    difficulty=2,
    minutes=8,
    reference=_gaussian_weights,
    inputs=_gaussian_inputs,
    properties=(_zero_half_way,),
    right_answers=(_gaussian_by_autograd, _gaussian_by_midpoint),
    wrong_answers=edits(
        _gaussian_weights,
        """
        no variance: ` / variance` => ``
            The variance is missing. A pixel that varies much within a class says little about the
            class, so its weight is divided by its variance.
        standard deviation: `variance` => `variance.sqrt()`
            You divide by the standard deviation, the root of the variance. The exponent of a
            Gaussian is -(x - mean)² / (2 variance).
        times: `/ variance` => `* variance`
            You multiply by the variance. It stands in the denominator of the exponent: divide.
        swapped classes: `return w, b` -> `return -w, -b`
            Your classes are swapped: this is log p(x | 0) - log p(x | 1). The score should be
            positive near mean1.
        half w: `(mean1 - mean0)` -> `0.5 * (mean1 - mean0)`
            Your w is half of what it should be. The 1/2 in the exponent cancels with the 2 of the
            mixed term: (x - m)² = x² - 2xm + m².
        no half: `0.5 * ` -> ``
            The factor 1/2 is missing in b. In the exponent -(x - m)² / (2 variance), the part
            without x is -m² / (2 variance).
        sign of b: `0.5` -> `-0.5`
            Your b has the wrong sign. The part without x is -mean1² for class 1, minus -mean0² for
            class 0: mean0² - mean1².
        no b: `0.5` -> `0.0`
            Your b is 0. That is right only when both means are equally far from zero. The part of
            the exponents without x remains.
        variance squared: `/ variance` => `/ variance**2`
            You divide by the square of the variance. `variance` is already a square, that of the
            standard deviation: divide by it once.
        one mean variance: `variance` => `variance.mean()`
            You use one mean variance for all pixels. Each pixel has its own: divide entry by entry.
        unit length: `return w, b` -> `return w / w.norm(), b / w.norm()`
            You divide by the length of w. The score must be the difference of the log-densities
            itself, so leave its scale as it is.
        square of the difference: `mean0**2 - mean1**2` -> `-((mean1 - mean0) ** 2)`
            Your b holds the square of the difference, (mean1 - mean0)². Take the difference of the
            squares: mean0² - mean1².
        border through mean0: `0.5 * ((mean0**2 - mean1**2) / variance).sum()`
        -> `-(w * mean0).sum()`
            Your b is -w·mean0, so the score is 0 at mean0. It should be 0 halfway between the
            means: b is -w·(mean0 + mean1)/2.
        border through mean1: `0.5 * ((mean0**2 - mean1**2) / variance).sum()`
        -> `-(w * mean1).sum()`
            Your b is -w·mean1, so the score is 0 at mean1. It should be 0 halfway between the
            means: b is -w·(mean0 + mean1)/2.
        constant left over: `variance).sum()`
        -> `variance).sum() - 0.5 * (2 * math.pi * variance).log().sum()`
            Your b keeps the constant of a Gaussian, with log(2·pi·variance). Both densities have
            the same constant, so it cancels.
        no variance in b: `((mean0**2 - mean1**2) / variance)` -> `(mean0**2 - mean1**2)`
            Your b has no variance. Divide each term by its variance before you add up, as in w.
        log one half: `variance).sum()` -> `variance).sum() + math.log(0.5)`
            Your b has log 1/2 in it. Both classes are equally frequent, so that both priors cancel.
        minus log one half: `variance).sum()` -> `variance).sum() - math.log(0.5)`
            Your b has log 2 in it. Both classes are equally frequent, so that both priors cancel.
        """,
    ),
    hints=(
        "Write down both exponents, -(x - mean)² / (2 variance), and subtract. Which terms are the "
        "same in both?",
        "x² cancels, because the variances are shared. What is left is linear in x.",
        "w = (mean1 - mean0) / variance, and b = 0.5 * ((mean0**2 - mean1**2) / variance).sum().",
    ),
    takeaway="This generative model is a linear classifier, so all of lesson 3 holds for it.",
)


# --- 2. The posterior and the evidence -----------------------------------------------------------


def _posterior_and_evidence(log_joint: Tensor) -> tuple[Tensor, Tensor]:
    log_evidence = torch.logsumexp(log_joint, dim=1)  # (N,) log p(x) = log of a sum over k
    posterior = torch.exp(log_joint - log_evidence[:, None])  # (N, K) p(k | x), by Bayes' rule
    return posterior, log_evidence


def _joint_inputs(generator: torch.Generator) -> list[Args]:
    return [
        (torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -4.0, -9.0]]),),
        (torch.tensor([[-6.0, -2.0, -3.5]]),),
        # Far from every digit and close to one: in float32 exp(-400) is 0 and exp(300) is inf.
        (torch.tensor([[-400.0, -402.0, -401.0], [300.0, 302.0, 280.0]]),),
        (5 * randn(generator, 6, 4),),
        (randn(generator, 3, 3) - 40.0,),
        # Far from each other: exp(990) is inf in float64 too, and exp(-1000) is 0.
        (torch.tensor([[0.0, -1000.0, -1000.0], [-1000.0, 0.0, -500.0], [5.0, 990.0, 2.0]]),),
        (torch.tensor([[-1000.0, -1001.0, -1003.0]]),),
    ]


@rule("Each row of your first result should add up to 1: these are probabilities.")
def _posterior_adds_up(args: Args, output: Any) -> object:
    return torch.allclose(output[0].sum(1), torch.ones(len(args[0])), atol=1e-4)


@rule(
    "Your log p(x) is below the largest log p(x, k). A sum of positive numbers is at least as "
    "large as the largest of them."
)
def _evidence_is_above_the_best(args: Args, output: Any) -> object:
    best = args[0].amax(1)
    return (output[1] >= best - 1e-4 - 1e-6 * best.abs()).all()


posterior_and_evidence = Exercise(
    name="posterior_and_evidence",
    lesson="08",
    title="The posterior and the evidence",
    task=(
        "log_joint is (N, K) and holds log p(x | k) + log p(k), which is log p(x, k). Return two "
        "results: the posterior p(k | x), (N, K), and the log-evidence log p(x), (N,). The entries "
        "can be far from 0, such as -400 or 300."
    ),
    difficulty=2,
    minutes=6,
    reference=_posterior_and_evidence,
    inputs=_joint_inputs,
    properties=(_posterior_adds_up, _evidence_is_above_the_best),
    right_answers=(
        lambda log_joint: (log_joint.softmax(dim=1), log_joint.logsumexp(dim=1)),
        lambda log_joint: (
            (log_joint - log_joint.amax(1, keepdim=True)).exp()
            / (log_joint - log_joint.amax(1, keepdim=True)).exp().sum(1, keepdim=True),
            log_joint.amax(1) + (log_joint - log_joint.amax(1, keepdim=True)).exp().sum(1).log(),
        ),
    ),
    wrong_answers=edits(
        _posterior_and_evidence,
        """
        underflow: `torch.logsumexp(log_joint, dim=1)` -> `log_joint.exp().sum(dim=1).log()`,
        `torch.exp(log_joint - log_evidence[:, None])`
        -> `log_joint.exp() / log_joint.exp().sum(dim=1, keepdim=True)`
            Your formula is right, but exp leaves the range of float32: exp(-400) is 0, and 0 / 0 is
            nan. `torch.logsumexp` subtracts the largest entry first.
        log posterior: `torch.exp` -> ``
            Your first result is log p(k | x). The task asks for p(k | x) itself: apply exp.
        wrong axis: `torch.exp(log_joint - log_evidence[:, None])` -> `log_joint.softmax(dim=0)`
            Your posterior is normalised over the examples (dim=0). Bayes' rule compares the classes
            of one image: dim=1.
        sigmoid: `torch.exp(log_joint - log_evidence[:, None])` -> `log_joint.sigmoid()`
            You apply the sigmoid to each entry on its own. Bayes' rule divides p(x, k) by the sum
            over all classes.
        best class: `posterior, log_evidence` -> `posterior, log_joint.amax(dim=1)`
            Your log-evidence is that of the best class alone. An image can come from any class:
            p(x) is the sum of p(x, k) over k.
        sum of logs: `posterior, log_evidence` -> `posterior, log_joint.sum(dim=1)`
            You add up the logarithms. That multiplies the densities. p(x) is their sum: take the
            logarithm of the sum of the exponentials.
        mean: `posterior, log_evidence` -> `posterior, log_evidence - math.log(log_joint.shape[1])`
            You average over the classes. The frequencies p(k) are in log_joint already, so p(x) is
            the plain sum over k.
        of the posterior: `posterior, log_evidence`
        -> `posterior, log_joint.softmax(dim=1).sum(dim=1).log()`
            Your log-evidence is computed from the posterior, and is always 0. The posterior has
            been divided by p(x), so p(x) is lost. Use log_joint.
        no log: `posterior, log_evidence` -> `posterior, log_evidence.exp()`
            Your second result is p(x) itself, which is 0 or infinite in float32 for real images.
            Keep the logarithm.
        mean taken off: `log_evidence = `
        -> `shift = log_joint.mean(dim=1, keepdim=True)¶log_evidence = `,
        `log_evidence = ` -> `shifted = (log_joint - shift).exp()¶log_evidence = `,
        `torch.logsumexp(log_joint, dim=1)` -> `shift[:, 0] + shifted.sum(dim=1).log()`,
        `torch.exp(log_joint - log_evidence[:, None])`
        -> `shifted / shifted.sum(dim=1, keepdim=True)`
            Before exp you subtract the mean of the row. Entries far above the mean still become
            infinite. Subtract the largest entry of the row: then exp is never above 1.
        first taken off: `log_evidence = ` -> `shift = log_joint[:, :1]¶log_evidence = `,
        `log_evidence = ` -> `shifted = (log_joint - shift).exp()¶log_evidence = `,
        `torch.logsumexp(log_joint, dim=1)` -> `shift[:, 0] + shifted.sum(dim=1).log()`,
        `torch.exp(log_joint - log_evidence[:, None])`
        -> `shifted / shifted.sum(dim=1, keepdim=True)`
            Before exp you subtract the first entry of the row. Entries far above it still become
            infinite. Subtract the largest entry of the row: then exp is never above 1.
        largest of all taken off: `log_evidence = ` -> `shift = log_joint.max()¶log_evidence = `,
        `log_evidence = ` -> `shifted = (log_joint - shift).exp()¶log_evidence = `,
        `torch.logsumexp(log_joint, dim=1)` -> `shift + shifted.sum(dim=1).log()`,
        `torch.exp(log_joint - log_evidence[:, None])`
        -> `shifted / shifted.sum(dim=1, keepdim=True)`
            Before exp you subtract the largest entry of the whole table. In a row that lies far
            below it all becomes 0. Each row has its own largest entry: dim=1.
        evidence from class 0: `posterior, log_evidence`
        -> `posterior, log_joint[:, 0] - posterior[:, 0].log()`
            You compute log p(x) from class 0, as log p(x, 0) - log p(0 | x). Where p(0 | x) rounds
            to 0 that is infinite. Use `torch.logsumexp` over all classes.
        ratio of logarithms: `torch.exp(log_joint - log_evidence[:, None])`
        -> `log_joint / log_joint.sum(dim=1, keepdim=True)`
            Your first result divides logarithms by their sum. Bayes' rule divides p(x, k) by p(x).
            With logarithms that is a difference: exp(log_joint - log p(x)).
        added under the logarithm: `torch.logsumexp(log_joint, dim=1)`
        -> `(log_joint.exp().sum(dim=1) + 1e-12).log()`,
        `torch.exp(log_joint - log_evidence[:, None])` -> `log_joint.softmax(dim=1)`
            A small number under the logarithm hides that exp has become 0, and log p(x) is wrong
            there. `torch.logsumexp` needs no such number.
        float64 and a small number: `torch.logsumexp(log_joint, dim=1)`
        -> `(log_joint.double().exp().sum(dim=1) + 1e-12).log()`,
        `torch.exp(log_joint - log_evidence[:, None])` -> `log_joint.softmax(dim=1)`
            Your log p(x) is that of a sum to which 1e-12 has been added, and p(x) can be far
            smaller. `torch.logsumexp` needs no such number, and no float64.
        float64 alone: `torch.logsumexp(log_joint, dim=1)`
        -> `log_joint.double().exp().sum(dim=1).log()`,
        `torch.exp(log_joint - log_evidence[:, None])` -> `log_joint.softmax(dim=1)`
            In float64 exp reaches further, and then it is 0 or infinite too. `torch.logsumexp`
            subtracts the largest entry first.
        clamped: `log_evidence = ` -> `log_joint = log_joint.clamp(-80, 80)¶log_evidence = `
            You clamp the logarithms to [-80, 80]. Then different classes become equal. Leave them
            as they are: `torch.logsumexp` stays finite.
        shift not added: `posterior, log_evidence`
        -> `posterior, log_evidence - log_joint.amax(dim=1)`
            You subtract the largest entry before exp, and do not add it again. log p(x) is the
            largest entry plus the logarithm of the sum.
        float64 in both: `torch.logsumexp(log_joint, dim=1)`
        -> `log_joint.double().exp().sum(dim=1).log()`,
        `torch.exp(log_joint - log_evidence[:, None])`
        -> `log_joint.double().exp() / log_joint.double().exp().sum(dim=1, keepdim=True)`
            Your formula is right, but exp leaves the range of float64 too: it becomes 0 or
            infinite. `torch.logsumexp` subtracts the largest entry first.
        joint in place of the posterior: `torch.exp(log_joint - log_evidence[:, None])`
        -> `log_joint.exp()`
            Your first result is p(x, k), and it is not divided by p(x). Subtract log p(x) before
            exp.
        largest taken off, not divided: `torch.exp(log_joint - log_evidence[:, None])`
        -> `torch.exp(log_joint - log_joint.amax(dim=1, keepdim=True))`
            In your first result you subtract the largest entry of the row, and do not divide by the
            sum of the row after exp. A posterior adds up to 1.
        constant put back: `posterior, log_evidence`
        -> `posterior, log_evidence - 392 * math.log(2 * math.pi)`
            You put the factor (2 pi) to the power -392 back into p(x). It is left out on purpose:
            take the sum of what is in the table.
        """,
    ),
    hints=(
        "p(x) = sum over k of p(x, k), and p(k | x) = p(x, k) / p(x). Both stay finite if you work "
        "with logarithms.",
        "`torch.logsumexp(log_joint, dim=1)` is log p(x).",
        "Division is subtraction of logarithms: exp(log_joint - log_evidence[:, None]).",
    ),
    takeaway="Only differences within a row decide the class, not how low the whole row is.",
    rtol=1e-3,  # a difference of large logarithms has few digits
)


# --- 3. Wrong and unnoticed ----------------------------------------------------------------------


def _unnoticed_rate(logits: Tensor, alarm: Tensor, y: Tensor) -> float:
    wrong = logits.argmax(dim=1) != y  # the classifier errs
    quiet = alarm <= 0  # log-odds: above 0 the detector says "attack"
    return (wrong & quiet).float().mean().item()  # over ALL examples


def _guard_inputs(generator: torch.Generator) -> list[Args]:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 4.0], [5.0, 0.0]])
    alarm = torch.tensor([-1.0, -0.7, 2.0, 0.3, -3.0])
    many = 2 * randn(generator, 40, 5)
    return [
        (logits, alarm, torch.tensor([0, 0, 1, 0, 1])),
        (logits, alarm, torch.tensor([0, 1, 0, 1, 0])),  # no mistake
        (logits, alarm.abs(), torch.tensor([1, 0, 1, 0, 1])),  # all wrong, all noticed
        (many, randn(generator, 40), labels(generator, 40, 5)),
        (many, 3 * randn(generator, 40), many.argmax(1)),
        (many[:7], -randn(generator, 7).abs(), labels(generator, 7, 5)),  # sevenths: not rounded
        # Log-odds of exactly 0 are not above 0.
        (logits, torch.tensor([0.0, -1.0, 0.0, 0.0, 1.0]), torch.tensor([1, 0, 1, 0, 1])),
    ]


unnoticed_rate = Exercise(
    name="unnoticed_rate",
    lesson="08",
    title="Wrong and unnoticed",
    task=(
        "Return the share of ALL examples that are classified wrongly and raise no alarm. logits "
        "is (N, K), y is (N,) int64, and alarm is (N,): the log-odds of an attack, where above 0 "
        'the detector says "attack".'
    ),
    difficulty=1,
    minutes=5,
    reference=_unnoticed_rate,
    inputs=_guard_inputs,
    right_answers=(
        lambda logits, alarm, y: float(((logits.argmax(1) != y) & ~(alarm > 0)).double().mean()),
        lambda logits, alarm, y: (
            sum(int(z.argmax() != k and a <= 0) for z, a, k in zip(logits, alarm, y, strict=True))
            / len(y)
        ),
    ),
    wrong_answers=edits(
        _unnoticed_rate,
        """
        misses: `wrong & quiet` -> `quiet`
            You count every example without an alarm. One that is also classified correctly does no
            harm: count those that are wrong AND unnoticed.
        mistakes: `wrong & quiet` -> `wrong`
            You count every mistake of the classifier. A mistake that raises the alarm is caught: it
            does not count.
        over the mistakes: `.mean()` -> `.sum().div(wrong.sum())`
            You divide by the number of mistakes. This rate is over ALL examples, so that two
            attacks can be compared.
        over the unnoticed: `.mean()` -> `.sum().div(quiet.sum())`
            You divide by the number of examples without an alarm. Divide by the number of all
            examples.
        or: `wrong & quiet` -> `wrong | quiet`
            You count examples that are wrong OR unnoticed. An attacker needs both at once: &.
        noticed: `wrong & quiet` -> `wrong & ~quiet`
            You count the mistakes that are caught. Above 0 the detector says attack, so quiet means
            an alarm of 0 or less.
        survivors: `wrong & quiet` -> `~wrong & quiet`
            You count what is classified correctly without an alarm. That is the defender's success.
            The task asks for the attacker's.
        odds as a probability: `alarm <= 0` -> `alarm <= 0.5`
            Your threshold is 0.5. That is a threshold for a probability. alarm holds log-odds: a
            probability of one half has log-odds 0.
        count: `.mean()` -> `.sum()`
            You return a number of examples. The task asks for a share, between 0 and 1.
        product: `(wrong & quiet).float().mean()` -> `(wrong.float().mean() * quiet.float().mean())`
            You multiply two shares. That would be right if mistakes and alarms were independent.
            Ask both questions of each example, join them with `&`, then take the mean.
        error less alarms: `(wrong & quiet).float().mean()`
        -> `(wrong.float().mean() - (~quiet).float().mean())`
            You subtract the rate of alarms from the rate of errors. An alarm on a right answer
            saves nothing. Ask both questions of each example, and join them with `&`.
        error less alarms, not below 0: `(wrong & quiet).float().mean()`
        -> `(wrong.float().mean() - (~quiet).float().mean()).clamp(min=0)`
            Your number is the rate of errors less the rate of alarms, or 0. An alarm on a right
            answer saves nothing. Join the two conditions example by example, with `&`.
        sigmoid below 0: `alarm <= 0` -> `alarm.sigmoid() <= 0`
            Your result is always 0. This is what you get with `sigmoid(alarm)` compared with 0: a
            sigmoid is always above 0. Compare the log-odds themselves with 0.
        zero is an alarm: `alarm <= 0` -> `alarm < 0`
            You take log-odds of exactly 0 for an alarm. The detector says "attack" above 0: at 0 it
            is quiet.
        brackets missing: `return (wrong & quiet)`
        -> `return (logits.argmax(dim=1) != (y & quiet))`
            Python takes `&` before comparisons. Write brackets around each comparison, and `&`
            between the two pairs of brackets.
        quiet at 0 only: `alarm <= 0` -> `alarm == 0`
            You take an alarm for quiet only if it is exactly 0, as with `~alarm.bool()`. Below 0 it
            is quiet, too: compare the log-odds with 0.
        probability of no alarm: `(wrong & quiet).float().mean()`
        -> `(wrong * (1 - alarm.sigmoid())).mean()`
            You weight each mistake by the probability that there is no attack. The detector says
            yes or no: count the mistakes whose log-odds are not above 0.
        largest logit against the label: `logits.argmax(dim=1)` -> `logits.amax(dim=1)`
            You compare the largest logit itself with y. The class is its place: `argmax(dim=1)`.
        rounded to one decimal: `(wrong & quiet).float().mean().item()`
        -> `round((wrong & quiet).float().mean().item(), 1)`
            You round the share to one decimal place. Return it as it is.
        rounded to two decimals: `(wrong & quiet).float().mean().item()`
        -> `round((wrong & quiet).float().mean().item(), 2)`
            You round the share to two decimal places. Do not round it.
        """,
    ),
    hints=(
        "Two conditions for each example: the predicted class is wrong, and the alarm is silent.",
        "`wrong = logits.argmax(dim=1) != y` and `quiet = alarm <= 0` are both (N,). `&` combines "
        "them.",
        "The mean of true and false is the share: `(wrong & quiet).float().mean().item()`.",
    ),
    takeaway="A detector's own error rate does not say this. Only both conditions together do.",
)


# --- 4. The loss of an attacker who knows of the detector ----------------------------------------


def _knowing_loss(logits: Tensor, y: Tensor) -> Tensor:
    digits, alarm = logits[:, :-1], logits[:, -1]  # (N, K) and (N,)
    true = digits.gather(1, y[:, None]).squeeze(1)
    others = digits.scatter(1, y[:, None], -torch.inf).amax(dim=1)  # the best wrong digit
    return torch.minimum(others - true, -alarm)  # positive only if both goals are reached


def _knowing_inputs(generator: torch.Generator) -> list[Args]:
    logits = torch.tensor([[1.0, 3.0, 0.0, -2.0], [4.0, 1.0, 2.0, 5.0], [0.0, 0.5, 3.0, -0.25]])
    return [
        (logits, torch.tensor([0, 0, 1])),
        (logits, torch.tensor([1, 2, 2])),
        (3 * randn(generator, 8, 11), labels(generator, 8, 10)),
        (torch.tensor([[-1.0, -5.0, -6.0, -0.5], [-9.0, -8.0, -3.0, -2.0]]), torch.tensor([0, 2])),
        (20 * randn(generator, 5, 5), labels(generator, 5, 4)),
        (logits[1:2], torch.tensor([1])),
    ]


@rule(
    "Your loss should be positive exactly where the attacker has reached both goals: a wrong "
    "digit is ahead, and the alarm is below 0."
)
def _positive_means_success(args: Args, output: Tensor) -> object:
    logits, y = args
    digits, alarm = logits[:, :-1], logits[:, -1]
    success = (digits.argmax(1) != y) & (alarm < 0)
    return torch.equal(output > 0, success)


def _knowing_by_loop(logits: Tensor, y: Tensor) -> Tensor:
    rows = []
    for row, label in zip(logits, y.tolist(), strict=True):
        wrong = [v for k, v in enumerate(row[:-1]) if k != label]
        rows.append(torch.stack([max(wrong) - row[label], -row[-1]]).min())
    return torch.stack(rows)


def _knowing_by_mask(logits: Tensor, y: Tensor) -> Tensor:
    own = torch.nn.functional.one_hot(y, logits.shape[1] - 1).bool()
    digits = logits[:, :-1]
    ahead = digits.masked_fill(own, -1e9).max(1).values - digits[own]
    return torch.where(ahead < -logits[:, -1], ahead, -logits[:, -1])


knowing_loss = Exercise(
    name="knowing_loss",
    lesson="08",
    title="The loss of an attacker who knows",
    task=(
        "logits is (N, K + 1): first the K digits, then the alarm, the log-odds of an attack. "
        "Return (N,): the SMALLER of two numbers, by how much the best wrong digit is ahead of the "
        "true digit y, and by how much the alarm is below 0. y is (N,) int64, in [0, K). An attack "
        "follows the gradient of the result, so keep it attached to the logits."
    ),
    difficulty=3,
    minutes=10,
    reference=_knowing_loss,
    inputs=_knowing_inputs,
    asks=("slope",),
    properties=(_positive_means_success,),
    right_answers=(_knowing_by_loop, _knowing_by_mask),
    wrong_answers=edits(
        _knowing_loss,
        f"""
        sum: `torch.minimum(others - true, -alarm)` -> `others - true - alarm`
            You add up the two goals. Then a very wrong digit can make up for a high alarm. The
            smaller of the two makes the attack work on whichever goal is behind.
        maximum: `minimum` -> `maximum`
            You take the larger of the two. It is positive as soon as one goal is reached, and the
            attacker needs both: take the smaller.
        loud: `-alarm` -> `alarm`
            Your loss grows with the alarm. The attacker wants a silent detector, so the term is
            -alarm.
        forgets the alarm: `torch.minimum(others - true, -alarm)` -> `others - true`
            Your loss looks only at the digits. That is the attack that the detector catches. The
            last column, the alarm, must be in the loss too.
        forgets the digit: `torch.minimum(others - true, -alarm)` -> `-alarm`
            Your loss looks only at the alarm. A clean image raises no alarm either. The digit must
            also be wrong.
        true digit among the others: `.scatter(1, y[:, None], -torch.inf)` -> ``
            Where the model is right your difference is 0, and has no gradient: the true digit is
            among your digits, or you cut the difference off at 0. Leave y out: scatter -inf into
            its place.
        alarm among the digits: `digits.scatter` -> `logits.scatter`
            You count the alarm as a digit. The last column is not a class: take the best wrong
            digit from logits[:, :-1].
        against the attacker: `others - true` -> `true - others`
            Your difference is the wrong way round: it grows when the model is right. The attacker
            wants others - true to be large.
        in place: `scatter` -> `scatter_`
            {evidence.INPUT_CHANGED}
        logsumexp: `amax(dim=1)` -> `logsumexp(dim=1)`
            You take the logsumexp of all wrong digits. The task asks for the best one of them: the
            largest.
        zero in its place: `-torch.inf` -> `0.0`
            You put 0 in the place of the true digit. Where all other logits are negative, that 0 is
            the largest. Put minus infinity there: -torch.inf.
        cut off at 0: `others - true, -alarm` -> `(others - true).relu(), (-alarm).relu()`
            Your loss is never below 0. Where a goal is not yet reached it is flat, so the attack
            gets no gradient. Leave out `relu` or `clamp`.
        one for the batch: `torch.minimum(others - true, -alarm)`
        -> `torch.minimum(others - true, -alarm).min().expand(len(y))`
            You take the smallest number of the whole batch. Each example has its own smaller one:
            `torch.minimum(a, b)` compares entry by entry.
        cross-entropy: `others - true`
        -> `torch.nn.functional.cross_entropy(digits, y, reduction="none")`
            You take the cross-entropy of the digits. It is always above 0, also where the model is
            right. Take the best wrong logit minus the true one.
        second largest: `digits.scatter(1, y[:, None], -torch.inf).amax(dim=1)`
        -> `digits.topk(2, dim=1).values[:, 1]`
            You take the second largest digit for the best wrong one. Where the model errs already,
            the largest is the wrong one. Leave y out, then take the largest.
        sigmoid of the alarm: `-alarm)` -> `-alarm.sigmoid())`
            You take the sigmoid of the alarm. The alarm is below 0 by -alarm: use the log-odds as
            they are.
        first column: `logits[:, :-1], logits[:, -1]` -> `logits[:, 1:], logits[:, 0]`
            You take the first column for the alarm. It is the last one: logits[:, -1].
        one minus the alarm: `-alarm)` -> `1 - alarm)`
            You take 1 - alarm, as if the alarm were a probability. It holds log-odds, and is below
            0 by -alarm.
        one label for all: `y[:, None]` => `y[:1].expand(len(y))[:, None]`
            You take the label of the first example for all. Each row has its own
            label: `gather` takes one column of each row.
        probabilities: `digits, alarm = logits[:, :-1], logits[:, -1]`
        -> `digits, alarm = logits[:, :-1].softmax(dim=1), logits[:, -1]`
            You take a softmax of the digits first. The task compares logits, and a softmax makes
            their differences vanish where the model is confident.
        """,
    ),
    hints=(
        "Split the columns: `digits, alarm = logits[:, :-1], logits[:, -1]`.",
        "`digits.scatter(1, y[:, None], -torch.inf).amax(dim=1)` is the best wrong digit, and "
        "`digits.gather(1, y[:, None]).squeeze(1)` the true one.",
        "Combine them: `torch.minimum(others - true, -alarm)`.",
    ),
    takeaway="An attacker turns every known defence into one more term of the loss.",
)


# --- 5. The logits of an ensemble ----------------------------------------------------------------


def _ensemble_logits(logits: Tensor) -> Tensor:
    logs = torch.log_softmax(logits, dim=2)  # (M, N, K) each member's log-probabilities
    total = torch.logsumexp(logs, dim=0)  # (N, K) log of the sum over the members
    return total - torch.log(torch.tensor(float(len(logits))))  # the mean: minus log M


def _member_inputs(generator: torch.Generator) -> list[Args]:
    return [
        (torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]]),),
        (torch.tensor([[[2.0, 0.0, 1.0]], [[50.0, 51.0, 50.0]], [[-3.0, 1.0, 0.0]]]),),
        # A very confident member: its small probabilities are below the smallest float32.
        (torch.tensor([[[300.0, 0.0, 40.0]], [[280.0, 60.0, 0.0]]]),),
        (3 * randn(generator, 5, 5, 5),),
        (randn(generator, 12, 4, 10),),
        # So small are these probabilities that they are 0 in float64 as well.
        (torch.tensor([[[800.0, 0.0]], [[900.0, 50.0]], [[850.0, 0.0]]]),),
    ]


@rule("exp of each of your rows should add up to 1: it is a mean of probabilities.")
def _probabilities_add_up(args: Args, output: Tensor) -> object:
    return torch.allclose(output.exp().sum(1), torch.ones(len(output)), atol=1e-4)


def _ensemble_by_shift(logits: Tensor) -> Tensor:
    logs = logits - logits.logsumexp(2, keepdim=True)
    top = logs.amax(0)
    return top + (logs - top).exp().mean(0).log()


def _ensemble_in_turn(logits: Tensor) -> Tensor:
    total = logits[0].log_softmax(1)
    for member in logits[1:]:
        total = torch.logaddexp(total, member.log_softmax(1))
    return total - math.log(len(logits))


ensemble_logits = Exercise(
    name="ensemble_logits",
    lesson="08",
    title="The logits of an ensemble",
    task=(
        "An ensemble answers with the mean of its members' probabilities. logits is (M, N, K), one "
        "(N, K) table for each of M members. Return the logarithm of the mean probabilities, "
        "(N, K). It must be finite even where a member is very confident. An attack follows its "
        "gradient, so keep it attached to the logits."
    ),
    difficulty=2,
    minutes=7,
    reference=_ensemble_logits,
    inputs=_member_inputs,
    asks=("slope",),
    properties=(_probabilities_add_up,),
    right_answers=(_ensemble_by_shift, _ensemble_in_turn),
    wrong_answers=edits(
        _ensemble_by_shift,
        """
        mean of logits: `top + (logs - top).exp().mean(0).log()` -> `logits.mean(0)`
            You average the logits. A member with large logits then outvotes all others. Turn each
            member's logits into log-probabilities first: log_softmax over the classes.
        mean of logs: `top + (logs - top).exp().mean(0).log()` -> `logs.mean(0)`
            You average the log-probabilities. That is the logarithm of the geometric mean. The task
            asks for the logarithm of the mean: logsumexp over the members, minus log M.
        underflow: `logs.amax(0)` -> `0`
            Your formula is right, but a very small probability rounds to 0, and log(0) is -inf. An
            attack gets no gradient from it. Stay with logarithms: log_softmax, logsumexp.
        sum: `.mean(0)` -> `.sum(0)`
            This is the logarithm of the SUM of the probabilities. For the mean, subtract log M.
        not normalised: ` - logits.logsumexp(2, keepdim=True)` -> ``
            You skip the softmax of each member. Logits of different members have no common scale.
            Apply log_softmax over the classes (dim=2) first.
        probabilities: `top + (logs - top).exp().mean(0).log()` -> `logs.exp().mean(0)`
            You return the mean probabilities themselves. The course's models give logits: return
            the logarithm.
        votes: `top + (logs - top).exp().mean(0).log()`
        -> `torch.nn.functional.one_hot(logits.argmax(2), logits.shape[2]).float().mean(0)`
            You count votes. A vote has no gradient, and it does not say how confident a member is.
            Average the probabilities.
        over the members: `logsumexp(2` -> `logsumexp(0`
            Your softmax runs over the members (dim=0). The probabilities of one member add up to 1
            over the classes: dim=2.
        over the examples: `logsumexp(2` -> `logsumexp(1`
            Your softmax runs over the examples (dim=1). The probabilities of one member add up to 1
            over the classes, dim=2, for each example alone.
        cut off: `logs.amax(0)` -> `0`, `.log()` -> `.clamp(min=1e-12).log()`
            With 1e-12 as a limit, or added, no probability is smaller than that. The result is
            finite, but flat below the limit: an attack gets no gradient from it. Stay with
            logarithms: log_softmax, logsumexp.
        mean of logits, normalised: `logs = logits - logits.logsumexp(2, keepdim=True)`
        -> `mean = logits.mean(0, keepdim=True)¶logs = mean - mean.logsumexp(2, keepdim=True)`
            You average logits or log-probabilities, and normalise after that: one member that is
            sure then outvotes all others. Average the probabilities: softmax of each member first.
        normalised at the end: `top + (logs - top).exp().mean(0).log()`
        -> `logits.logsumexp(0).log_softmax(1)`
            You add up exp of the raw logits, and normalise at the end. A member with large logits
            then outvotes all others. Normalise each member first: log_softmax over dim=2.
        limit 1e-8: `logs.amax(0)` -> `0`, `.log()` -> `.add(1e-8).log()`
            With 1e-8 under the logarithm no probability is smaller than that, and an attack gets no
            gradient below it. Stay with logarithms: log_softmax, logsumexp.
        limit 1e-10: `logs.amax(0)` -> `0`, `.log()` -> `.add(1e-10).log()`
            With 1e-10 under the logarithm no probability is smaller than that, and an attack gets
            no gradient below it. Stay with logarithms: log_softmax, logsumexp.
        limit 1e-30: `logs.amax(0)` -> `0`, `.log()` -> `.add(1e-30).log()`
            With 1e-30 under the logarithm no probability is smaller than that, and an attack gets
            no gradient below it. Stay with logarithms: log_softmax, logsumexp.
        smallest float: `logs.amax(0)` -> `0`,
        `.log()` -> `.add(torch.finfo(logits.dtype).tiny).log()`
            With the smallest float under the logarithm the result is finite, but wrong where a
            probability is smaller still. Stay with logarithms: log_softmax, logsumexp.
        infinity replaced: `logs.amax(0)` -> `0`, `.log()` -> `.log().nan_to_num()`
            You replace -inf by a number. The right one is known, and an attack needs its gradient.
            Stay with logarithms: log_softmax, logsumexp.
        float64: `logs.amax(0)` -> `0`, `(logs - top)` -> `(logs - top).double()`
            In float64 exp reaches further, but a very small probability rounds to 0 there too, and
            log(0) is -inf. Stay with logarithms: log_softmax, logsumexp.
        logarithm of K: `top + (logs - top).exp().mean(0).log()`
        -> `logs.logsumexp(0) - math.log(logits.shape[2])`
            You subtract the logarithm of the number of classes K. The mean is over the members:
            subtract log M.
        divided by M: `top + (logs - top).exp().mean(0).log()` -> `logs.logsumexp(0) / len(logits)`
            You divide the logarithm by M. To divide the sum by M, subtract log M from its
            logarithm.
        largest member: `top + (logs - top).exp().mean(0).log()` -> `top`
            You take the largest probability that a member gives. The ensemble takes the mean over
            its members.
        log_softmax of probabilities: `top + (logs - top).exp().mean(0).log()`
        -> `logs.exp().mean(0).log_softmax(1)`
            You take log_softmax of the mean probabilities. They are probabilities already: take
            their logarithm.
        logarithm of the votes: `top + (logs - top).exp().mean(0).log()`
        -> `torch.nn.functional.one_hot(logits.argmax(2), logits.shape[2]).float().mean(0).log()`
            You take the logarithm of a share of votes. Where no member votes for a class that is
            -inf, and it has no gradient. Average the probabilities.
        log-odds: `top + (logs - top).exp().mean(0).log()`
        -> `torch.logit(logits.softmax(2).mean(0))`
            You return log-odds, log(p / (1 - p)). The task asks for log p alone.
        mean of logs that are infinite: `top + (logs - top).exp().mean(0).log()`
        -> `logits.softmax(2).log().mean(0)`
            You average logarithms of probabilities, and some of these have rounded to 0. The task
            asks for the logarithm of the mean: log_softmax, then logsumexp over the members.
        product: `top + (logs - top).exp().mean(0).log()` -> `logs.sum(0)`
            You add up log-probabilities, which multiplies the probabilities of the members. The
            task asks for the logarithm of their mean.
        logarithm of N: `top + (logs - top).exp().mean(0).log()`
        -> `logs.logsumexp(0) - math.log(logits.shape[1])`
            You subtract the logarithm of the number of examples N. The mean is over the members:
            subtract log M.
        """,
    ),
    hints=(
        "Three steps: log-probabilities of each member, the logarithm of their sum, then the mean "
        "instead of the sum.",
        "`torch.log_softmax(logits, dim=2)` is the first step. `torch.logsumexp(..., dim=0)` is "
        "the second.",
        "A mean is a sum divided by M, and dividing is subtracting log M: "
        "`- torch.log(torch.tensor(float(len(logits))))`.",
    ),
    takeaway="The ensemble is one differentiable function. FGSM does not care what it is made of.",
)


# --- 6. Rubbish that is called a digit -----------------------------------------------------------


def _rubbish_rate(probabilities: Tensor) -> tuple[float, float]:
    highest = probabilities.amax(dim=1)  # (N,) how sure the model is of its best class
    called = highest > 0.5  # a rubbish image that is called a digit
    # Without such an image there is no confidence to measure: the mean over nothing is nan.
    return called.float().mean().item(), highest[called].mean().item()


def _rubbish_inputs(generator: torch.Generator) -> list[Args]:
    softmax = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]])
    sigmoid = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.25, 0.2], [0.6, 0.7, 0.95]])
    return [
        (softmax,),
        (sigmoid,),  # independent: the rows need not add up to 1
        (0.3 * rand(generator, 6, 10),),  # nothing is called a digit
        (rand(generator, 12, 4),),
        ((4 * randn(generator, 30, 10)).softmax(1),),
        (torch.tensor([[0.5, 0.25, 0.25], [0.75, 0.125, 0.125]]),),  # one half is not enough
    ]


@rule("Your first value should be a share of the images, between 0 and 1.")
def _share_of_images(args: Args, output: Any) -> object:
    return 0 <= float(output[0]) <= 1


@rule(
    "Your confidence is not between 0.5 and 1. It is a mean over images whose best class has "
    "more than one half."
)
def _above_one_half(args: Args, output: Any) -> object:
    confidence = float(output[1])
    return math.isnan(confidence) or 0.5 <= confidence <= 1


def _rubbish_by_loop(probabilities: Tensor) -> tuple[float, float]:
    best = [max(row) for row in probabilities.double().tolist()]
    called = [p for p in best if p > 0.5]
    return len(called) / len(best), sum(called) / len(called) if called else float("nan")


def _rubbish_by_weights(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    highest = probabilities.max(1).values
    called = torch.where(highest > 0.5, 1.0, 0.0)
    return called.mean(), (highest * called).sum() / called.sum()


rubbish_rate = Exercise(
    name="rubbish_rate",
    lesson="08",
    title="Rubbish that is called a digit",
    task=(
        "probabilities is (N, K): what a model says about N rubbish images. Its rows need not add "
        "up to 1. Return two numbers: the share of images whose largest probability is above 0.5, "
        "and the mean of that largest probability over THESE images. If there are none, the second "
        "is float('nan')."
    ),
    difficulty=1,
    minutes=5,
    reference=_rubbish_rate,
    inputs=_rubbish_inputs,
    properties=(_share_of_images, _above_one_half),
    right_answers=(_rubbish_by_loop, _rubbish_by_weights),
    wrong_answers=edits(
        _rubbish_rate,
        """
        entries in both: `called.float()` -> `(probabilities > 0.5).float()`,
        `highest[called]` -> `probabilities[probabilities > 0.5]`
            You count all entries of the table above one half. Count images: take the largest
            probability of each row first, `amax(dim=1)`.
        above chance: `> 0.5` -> `> 1 / probabilities.shape[1]`
            Your threshold is 1/K, the chance level. "Called a digit" means a probability above one
            half.
        sum of the row: `highest > 0.5` -> `probabilities.sum(dim=1) > 0.5`
            You add up the row. A softmax row always adds up to 1, so every image would count. Look
            at its largest entry.
        softmax once more: `probabilities.amax` -> `probabilities.softmax(dim=1).amax`
            You apply softmax to probabilities. They are what the model says already: look at their
            largest entry as it is.
        largest of each column: `.amax(dim=1)` -> `.amax(dim=0)`
            You take the largest entry of each column, over the images. Each image is a row: take
            the largest of each row, dim=1.
        the rest: `> 0.5` -> `<= 0.5`
            You count the images that are NOT called a digit. For rubbish, those that are called a
            digit are the mistakes.
        entries: `.amax(dim=1)` -> ``, `called.float().mean()` -> `(called.sum() / len(called))`
            You count entries above 0.5. With independent sigmoids one image can have several. Count
            images: take the largest entry of each row first.
        all entries: `called.float().mean()` -> `(probabilities > 0.5).float().mean()`
            Your rate divides by all N·K entries. Divide by the number of images N.
        over all: `highest[called]` -> `highest`
            You average the confidence over all images. The task asks for the mean over those that
            are called a digit.
        zero: `highest[called].mean()` -> `highest[called].mean().nan_to_num(nan=0.0)`
            When nothing is called a digit, you return the confidence 0. There is nothing to
            average: return float('nan').
        swapped: `called.float().mean().item(), highest[called].mean().item()`
        -> `highest[called].mean().item(), called.float().mean().item()`
            Your two values are swapped. First the share, then the confidence.
        one half counts: `> 0.5` -> `>= 0.5`
            You also count a probability of exactly 0.5 (`>=`). "Called a digit" means above one
            half (`>`).
        made to sum to 1: `probabilities.amax(dim=1)`
        -> `(probabilities / probabilities.sum(dim=1, keepdim=True)).amax(dim=1)`
            You make each row sum to 1. The rows of independent sigmoids need not do so, and
            dividing changes their probabilities. Use the probabilities as they are.
        median: `highest[called].mean()` -> `highest[called].median()`
            Your second value is a median. Take the mean.
        largest confidence: `highest[called].mean()`
        -> `(highest[called].amax() if called.any() else highest[called].mean())`
            Your second value is the largest confidence. Take the mean over the images that are
            called a digit.
        row means: `highest[called].mean()` -> `probabilities[called].mean()`
            Your second value is the mean over all entries of the images that are called a digit.
            Only the largest of each row counts: its confidence.
        confidence over all images: `highest[called].mean()` -> `(highest * called).mean()`
            Your second value divides by all images. Divide by the number of images that are called
            a digit.
        mean over all entries above one half: `highest[called].mean().item()`
        -> `probabilities[probabilities > 0.5].mean().item()`
            Your confidence is the mean over all entries above one half. An image can have several
            of them. Take the largest entry of each image first.
        place of the largest: `probabilities.amax(dim=1)` -> `probabilities.argmax(dim=1).float()`
            You take the place of the largest probability (`argmax`). Take the probability itself:
            `amax(dim=1)`.
        """,
    ),
    hints=(
        "For each image only the largest probability matters: `probabilities.amax(dim=1)`.",
        "`called = highest > 0.5` marks the images. Its mean is the first result.",
        "`highest[called].mean().item()` is the second. The mean of an empty tensor is nan.",
    ),
    takeaway="Every class is wrong for rubbish, so every probability should be low.",
)


EXERCISES = (
    gaussian_weights,
    posterior_and_evidence,
    unnoticed_rate,
    knowing_loss,
    ensemble_logits,
    rubbish_rate,
)
progress = partial(grading.progress, EXERCISES)


# --- The quiz ------------------------------------------------------------------------------------

quiz = parse(
    """
    A summary says: "97.5 % is the error of a model that was trained to tell adversarial from
    normal images." What is it in the paper?
    - The error of such a detector.
        The paper trains no detector. We trained one, and it catches nearly every plain FGSM
        example.
    + The FGSM error of a generative classifier of digits.
        A deep Boltzmann machine, clean error 0.88 %. It shows that being generative is not enough.
    - The accuracy of a generative classifier under attack.
        It is an error: 97.5 % of the attacked digits are misread.

    A generative model gives an image log p(x) = -17000, far below any digit. Its posterior says:
    an 8, with probability 1. How can both be?
    + Bayes' rule divides by p(x).
        Then only differences between the classes are left. Far away these are large: the nearest
        class gets all the probability.
    - The posterior was computed with an overflow.
        It is exact. The classes are compared with each other, and one is less bad.
    - The model was trained on too few digits.
        More digits change the numbers, but the posterior still does not depend on p(x).

    A detector catches 100 % of the FGSM examples and gives no false alarm. What has been shown?
    - That adversarial examples can be recognised.
        Those that were made without knowing of the detector. The next attacker reads your code.
    - That the classifier behind it is robust.
        The classifier is as easy to fool as before. There is only a detector in front of it.
    + That this detector recognises this attack.
        It also raises an alarm at random noise: it has learned the texture of the step.

    In the loss of the attacker who knows of the detector, why "the smaller of the two" and not
    their sum?
    + The smaller one is positive only if both goals are reached.
        Each step works on the goal that is further behind.
    - The sum has no gradient.
        It has one. But it can be raised by making the wrong digit even more wrong, while the
        alarm rings.
    - The smaller one makes the perturbation smaller.
        The size is fixed by eps, whatever the loss.

    Twelve networks answer together. The paper's error is 91.1 % or 87.9 %. Which number describes
    the ensemble as a defence?
    - 87.9 %: an attacker has only one network at hand.
        Then eleven of the twelve are assumed to be secret. That attack is weaker because its
        attacker knows less.
    + 91.1 %: the attack on the whole ensemble.
        A defence is judged by an attacker who knows it. The ensemble is one differentiable model.
    - The mean of both.
        They answer two different questions: what if the attacker knows all members, and what if
        only one?

    Why does the RBF network call no N(0, I) image a digit, when softmax regression does it for
    most?
    - It has more parameters than the other.
        About twice as many. But what counts is the shape of its units.
    - It was trained on such images.
        No model here has seen noise of this kind.
    + Far from its centre, each class says no.
        Each class decides for itself. A softmax must divide 100 % among the classes, and linear
        logits grow with the distance.

    A model keeps its answer for 99 % of random changes with |η_i| = eps in every pixel. Is it
    locally stable there?
    + We cannot tell from the 99 %.
        The worst change decides, not the typical one. Random terms w_i·η_i cancel, those of an
        attack add up. Measure it with PGD.
    - Yes: 99 % of the neighbourhood is safe.
        An attacker does not draw at random. The attacker looks for the other 1 %, and the gradient
        shows where it is.
    - No: it errs on clean images too.
        Clean error is another matter. A model can be right and still unstable.
    """
)
