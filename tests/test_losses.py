from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from advlearn.losses import (
    adversarial_logistic_loss,
    cross_entropy,
    float32_cross_entropy,
    hard_margin,
    l1_penalty,
    logistic_loss,
    logit_gradient,
    margin_loss,
)


def test_cross_entropy_has_the_value_of_pytorchs():
    torch.manual_seed(0)
    logits, y = 5 * torch.randn(200, 10, dtype=torch.float64), torch.randint(10, (200,))
    torch.testing.assert_close(
        cross_entropy(logits, y), F.cross_entropy(logits, y, reduction="none"), rtol=0, atol=1e-13
    )


def test_cross_entropy_keeps_its_digits_where_pytorchs_loses_them():
    # softmax puts exp(-40) on the wrong class; 1 - that is 1 in float32.
    logits, y = torch.tensor([[40.0, 0.0]]), torch.tensor([0])
    exact = F.cross_entropy(logits.double(), y, reduction="none").item()
    assert cross_entropy(logits, y).item() == pytest.approx(exact, rel=1e-5)
    assert F.cross_entropy(logits, y).item() == 0.0


def test_the_float32_cross_entropy_has_the_same_value_and_loses_the_true_class():
    logits = torch.tensor([[1.0, 2.0, -1.0], [16.0, 0.0, 0.0], [17.5, 0.0, 0.0]])
    y = torch.zeros(3, dtype=torch.int64)
    value = float32_cross_entropy(logits, y)
    torch.testing.assert_close(value, cross_entropy(logits, y), rtol=1e-5, atol=1e-6)
    lost, kept = (
        logit_gradient(loss, logits, y) for loss in (float32_cross_entropy, cross_entropy)
    )
    assert (kept[:, 0] < 0).all()
    torch.testing.assert_close(lost[0], kept[0])
    assert (lost[:2, 0] < 0).all(), "16 ahead it is still there"
    assert lost[2, 0] == 0, "17.5 ahead it is not"
    torch.testing.assert_close(lost[2, 1:], kept[2, 1:])


def test_the_float32_cross_entropy_is_float32_whatever_it_gets():
    logits, y = torch.tensor([[20.0, 0.0]], dtype=torch.float64), torch.tensor([0])
    assert float32_cross_entropy(logits, y).dtype == torch.float32
    gradient = logit_gradient(float32_cross_entropy, logits, y)
    assert gradient.dtype == torch.float64
    assert gradient[0, 0] == 0


def test_margin_loss_is_minus_the_log_odds_of_the_true_class():
    torch.manual_seed(0)
    logits, y = torch.randn(50, 7, dtype=torch.float64), torch.randint(7, (50,))
    p = logits.softmax(1).gather(1, y[:, None]).squeeze(1)
    torch.testing.assert_close(margin_loss(logits, y), -torch.log(p / (1 - p)))


def test_the_hard_margin_is_below_zero_exactly_where_the_model_is_right():
    torch.manual_seed(0)
    logits, y = torch.randn(200, 5, dtype=torch.float64), torch.randint(5, (200,))
    expected = [
        max(float(z) for k, z in enumerate(row) if k != label) - float(row[label])
        for row, label in zip(logits, y, strict=True)
    ]
    assert hard_margin(logits, y).tolist() == expected
    assert torch.equal(hard_margin(logits, y) < 0, logits.argmax(1) == y)
    # As far ahead as the label: not right.
    assert hard_margin(torch.tensor([[2.0, 2.0, 1.0]]), torch.tensor([0])).tolist() == [0.0]


def test_the_hard_margin_does_not_lose_digits_to_half_precision():
    # Between 2048 and 4096 float16 knows even numbers only.
    logits = torch.tensor([[2048.0, 2050.0, 1.0]], dtype=torch.float16, requires_grad=True)
    margin = hard_margin(logits, torch.tensor([2]))
    assert margin.dtype == torch.float32
    assert margin.tolist() == [2049.0]
    margin.sum().backward()
    assert logits.grad.tolist() == [[0.0, 1.0, -1.0]]


def test_half_precision_logits_are_widened():
    logits = torch.tensor([[12.0, 0.0]], dtype=torch.bfloat16)
    assert cross_entropy(logits, torch.tensor([0])).dtype == torch.float32


@pytest.mark.parametrize("loss", [cross_entropy, float32_cross_entropy, margin_loss])
def test_a_label_out_of_range_is_named(loss):
    with pytest.raises(ValueError, match=r"label 3.*gives 3 logits.*0 to 2"):
        loss(torch.randn(2, 3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="label -1"):
        loss(torch.randn(2, 3), torch.tensor([0, -1]))


def test_logistic_loss_is_cross_entropy_of_two_halves():
    score = torch.linspace(-30, 30, 25, dtype=torch.float64)
    y = torch.where(torch.arange(25) % 2 == 0, 1.0, -1.0).double()
    logits = torch.stack((-score / 2, score / 2), 1)
    torch.testing.assert_close(
        logistic_loss(score, y), F.cross_entropy(logits, (y > 0).long(), reduction="none")
    )
    with pytest.raises(ValueError, match="only -1 and \\+1"):
        logistic_loss(score, (y > 0).double())


def test_the_printed_formula_is_wrong_for_the_negative_class():
    w, b = torch.tensor([1.0, -2.0]).double(), torch.tensor(0.3).double()
    x, eps = torch.tensor([[0.4, 0.9]]).double(), 0.1
    corners = eps * torch.tensor([[i, j] for i in (-1, 1) for j in (-1, 1)]).double()
    for sign in (1.0, -1.0):
        y = torch.tensor([sign]).double()
        worst = logistic_loss((x + corners) @ w + b, y.expand(4)).max()
        formula = adversarial_logistic_loss(w, b, x, y, eps)[0]
        printed = F.softplus(y * (eps * w.abs().sum() - x @ w - b))[0]
        torch.testing.assert_close(formula, worst, rtol=0, atol=1e-14)
        assert torch.isclose(printed, worst) == (sign > 0)


def test_adversarial_logistic_loss_takes_one_eps_for_each_example():
    w, b = torch.tensor([1.0, -2.0]), torch.tensor(0.0)
    x, y = torch.rand(3, 2), torch.tensor([1.0, -1.0, 1.0])
    eps = torch.tensor([0.0, 0.1, 0.2])
    for bounds in (None, (0.0, 1.0)):
        whole = adversarial_logistic_loss(w, b, x, y, eps, bounds=bounds)
        for i in range(3):
            one = adversarial_logistic_loss(
                w, b, x[i : i + 1], y[i : i + 1], float(eps[i]), bounds=bounds
            )
            torch.testing.assert_close(whole[i : i + 1], one)


def test_l1_penalty():
    assert l1_penalty(torch.tensor([[1.0, -2.0], [0.0, 3.0]]), 0.5).item() == 3.0
    with pytest.raises(ValueError, match="coefficient must be finite"):
        l1_penalty(torch.ones(2), -1.0)


@pytest.mark.parametrize("loss", [cross_entropy, margin_loss])
def test_the_logit_gradient_is_that_of_autograd(loss):
    torch.manual_seed(0)
    y = torch.randint(7, (100,))
    for scale in (0.1, 3.0, 30.0):
        logits = (scale * torch.randn(100, 7, dtype=torch.float64)).requires_grad_()
        (expected,) = torch.autograd.grad(loss(logits, y).sum(), logits)
        torch.testing.assert_close(logit_gradient(loss, logits, y), expected)


def test_the_logit_gradient_of_another_loss_is_left_to_autograd():
    logits, y = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    expected = (logits.softmax(1) - F.one_hot(y, 3)) / 5
    with torch.no_grad():
        torch.testing.assert_close(logit_gradient(F.cross_entropy, logits, y), expected)
    with pytest.raises(ValueError, match="label 3"):
        logit_gradient(F.cross_entropy, logits, y + 1)


def test_the_logit_gradient_of_half_precision_logits_is_computed_in_float32():
    logits = torch.tensor([[20.0, 0.0, 0.5]], dtype=torch.bfloat16)
    gradient = logit_gradient(cross_entropy, logits, torch.tensor([0]))
    assert gradient.dtype == torch.bfloat16
    assert gradient[0, 0] < 0  # PyTorch's own form gives 0 here


def test_the_closed_form_takes_eps_by_pixel():
    torch.manual_seed(0)
    weight, bias, x = torch.randn(4), torch.tensor(0.1), torch.rand(3, 4)
    y, eps = torch.tensor([1.0, -1.0, 1.0]), torch.tensor([[0.0, 0.1, 0.2, 0.05]])
    worst = x - y[:, None] * eps * weight.sign()
    expected = logistic_loss(worst @ weight + bias, y)
    torch.testing.assert_close(adversarial_logistic_loss(weight, bias, x, y, eps), expected)
    bounded = adversarial_logistic_loss(weight, bias, x, y, eps, bounds=(0.0, 1.0))
    expected = logistic_loss(worst.clamp(0, 1) @ weight + bias, y)
    torch.testing.assert_close(bounded, expected)


@pytest.mark.parametrize(
    "loss",
    [
        lambda logits, y: F.cross_entropy(logits.detach(), y, reduction="none"),
        lambda logits, y: (logits.argmax(1) != y).float(),
        lambda logits, y: torch.ones(len(y), requires_grad=True),
        lambda logits, y: float(F.cross_entropy(logits.detach(), y)),
    ],
    ids=["detached", "errors", "of something else", "a number"],
)
def test_a_loss_without_a_gradient_is_named(loss):
    with pytest.raises(ValueError, match=r"loss.* has no gradient with respect to the logits"):
        logit_gradient(loss, torch.randn(3, 4), torch.arange(3))


def test_a_loss_may_write_into_its_logits_and_labels():
    """As Carlini and Wagner's does, where the true class is masked in place."""

    def masked(logits, y):
        own = torch.arange(len(y)), y.clone()
        true = logits[own]
        logits[own] = -1e9
        y.fill_(0)
        return logits.amax(1) - true

    logits, y = torch.tensor([[1.0, 3.0, 2.0], [2.0, 0.0, 1.0]]), torch.tensor([1, 1])
    kept = logits.clone(), y.clone()
    gradient = logit_gradient(masked, logits, y)
    assert gradient.tolist() == [[0, -1, 1], [1, -1, 0]]
    assert logits.equal(kept[0])
    assert y.equal(kept[1])
