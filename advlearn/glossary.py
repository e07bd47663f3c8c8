"""The terms of the course, in English and Korean, each defined once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from advlearn._validation import check_choice


class Term(NamedTuple):
    """A term's Korean name and its definition in one or two sentences."""

    korean: str
    definition: str


TERMS: Mapping[str, Term] = {
    "adversarial example": Term(
        "적대적 예제",
        "An input that was changed on purpose, by a small amount, so that a model gives a wrong "
        "answer.",
    ),
    "perturbation": Term("섭동", "The change itself, η = x̃ - x."),
    "eps": Term("엡실론 (섭동 크기)", "The largest change of one pixel, in pixel units."),
    "max norm": Term("최대 노름 (무한대 노름)", "‖v‖∞, the largest absolute entry of a vector."),
    "L1 norm": Term("L1 노름", "‖v‖₁, the sum of the absolute entries of a vector."),
    "eps-ball": Term("엡실론 공", "All images within eps of x in every pixel: a box around x."),
    "sign function": Term("부호 함수", "+1 above zero, -1 below zero, and 0 at zero."),
    "weight": Term("가중치", "The number by which a model multiplies one of its inputs."),
    "dot product": Term("내적", "w'x, the sum of w_i·x_i over all entries of two vectors."),
    "activation": Term("활성값", "What a unit computes from its input; here the dot product w'x."),
    "linear model": Term("선형 모형", "A model that multiplies its inputs by weights and adds up."),
    "dead pixel": Term("죽은 픽셀", "A pixel of weight or gradient 0, such as a digit's border."),
    "log-log plot": Term(
        "로그-로그 그래프",
        "A plot with two logarithmic axes: a power n^p is a straight line of slope p.",
    ),
    "score": Term("점수", "w'x + b, the number whose sign decides between two classes."),
    "margin": Term(
        "마진", "y·(w'x + b): positive when the model is right, and large when it is sure."
    ),
    "logit": Term("로짓", "A model's output for one class, before the softmax."),
    "logistic regression": Term(
        "로지스틱 회귀", "Two classes by one linear score; the sigmoid turns it into a probability."
    ),
    "softmax regression": Term(
        "소프트맥스 회귀",
        "Several classes, one linear score each, no hidden layer. The paper calls it shallow "
        "softmax.",
    ),
    "softmax": Term(
        "소프트맥스",
        "Turns logits into probabilities: exp(z_k), divided by the sum over all classes.",
    ),
    "softplus": Term("소프트플러스", "log(1 + exp(v)), a smooth version of max(v, 0)."),
    "unit": Term("유닛", "The smallest part of a network: a weighted sum, then a simple function."),
    "pre-activation": Term("활성화 이전 값", "The weighted sum that goes into a unit's function."),
    "hidden layer": Term("은닉층", "A layer of units between the input and the output layer."),
    "ReLU": Term("렐루 (정류 선형 유닛)", "max(v, 0), the rectified linear unit."),
    "sigmoid": Term("시그모이드", "1 / (1 + exp(-v)), between 0 and 1; the slope of softplus."),
    "maxout": Term("맥스아웃", "The largest of several linear pieces w_p'x + b_p."),
    "convex": Term(
        "볼록", "Said of a function that bends only upwards, such as a maximum of lines."
    ),
    "overflow": Term(
        "오버플로", "A result that is too large for its kind of number: it becomes inf."
    ),
    "saturation": Term("포화", "A unit works where its slope is near zero, and hardly reacts."),
    "LSTM": Term(
        "장단기 메모리", "Long short-term memory: reads a sequence and keeps a gated memory."
    ),
    "gate": Term(
        "게이트", "A number between 0 and 1, from a sigmoid, that a signal is multiplied by."
    ),
    "R²": Term("결정계수", "The part of the ups and downs of a curve that its best line explains."),
    "loss": Term("손실", "How bad an answer is, as a number; training makes it small."),
    "cross-entropy": Term(
        "교차 엔트로피", "The loss -log p, where p is the probability of the true class."
    ),
    "epoch": Term("에포크", "One pass of training over all training examples."),
    "gradient": Term(
        "기울기 (그래디언트)", "The vector of derivatives: how the loss changes with each pixel."
    ),
    "FGSM": Term("빠른 기울기 부호 방법", "Fast gradient sign method: x̃ = x + eps·sign(gradient)."),
    "PGD": Term(
        "투영 경사 하강법",
        "Projected gradient descent: many small FGSM steps, each put back into the eps-ball.",
    ),
    "clipping": Term("클리핑", "Putting each pixel back into [0, 1] after the step."),
    "confidence": Term(
        "확신도",
        "The probability that a model gives to the class that it predicts. The paper averages it "
        "over the mistakes.",
    ),
    "error rate": Term("오류율", "The share of all examples that are classified wrongly."),
    "confidence interval": Term(
        "신뢰 구간", "A range that would hold the true rate in 95 of 100 repetitions."
    ),
    "closed form": Term("닫힌 형식", "A formula that gives the answer at once, without a search."),
    "threat model": Term("위협 모형", "What an attacker may know and change."),
    "L1 penalty": Term(
        "L1 벌점", "λ·‖w‖₁, added to the mean loss: a price on the size of the weights."
    ),
    "weight decay": Term(
        "가중치 감쇠", "A penalty on large weights, added to the loss in training."
    ),
    "adversarial training": Term(
        "적대적 훈련", "Training on adversarial examples that are made anew for the current model."
    ),
    "effective penalty": Term(
        "유효 벌점", "The derivative of an objective by ‖w‖₁, the margins held fixed."
    ),
    "subgradient": Term(
        "하위 기울기 (서브그래디언트)",
        "A valid slope at a corner, such as any number from -1 to 1 for the absolute value at 0.",
    ),
    "underfitting": Term(
        "과소적합", "A model is too weak, or held back too much, to learn even its training data."
    ),
    "sparse": Term("희소", "Having mostly zeros; said of weights."),
    "worst case": Term(
        "최악의 경우",
        "Over all attacks that were tried: an example counts if none of them fooled it.",
    ),
    "random restart": Term(
        "무작위 재시작", "Another attempt of PGD, from another random point of the eps-ball."
    ),
    "random search": Term(
        "무작위 탐색",
        "An attack that needs no gradient: it tries random changes and keeps what harms.",
    ),
    "straight-through gradient": Term(
        "직통 기울기",
        "The gradient behind a step that has none, such as rounding, used as if it were before it.",
    ),
    "time budget": Term("시간 예산", "How long training may take, fixed in advance."),
    "leaderboard": Term("순위표", "The table of all submissions, the best score first."),
}


def table(*terms: str) -> str:
    """Return a Markdown table of these terms: English, Korean, meaning.

    Raises:
        ValueError: a term is not in the glossary.

    Example:
        >>> print(table("softplus"))
        | Term | 한국어 | Meaning |
        |---|---|---|
        | softplus | 소프트플러스 | log(1 + exp(v)), a smooth version of max(v, 0). |
    """
    lines = ["| Term | 한국어 | Meaning |", "|---|---|---|"]
    for name in terms:
        term = TERMS[check_choice(name, "term", tuple(TERMS))]
        lines.append(f"| {name} | {term.korean} | {term.definition} |")
    return "\n".join(lines)
