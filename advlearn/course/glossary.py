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
    "activation": Term(
        "활성값",
        "A unit's output. A linear unit, as here, has no function: its output is its weighted sum, "
        "the dot product w'x.",
    ),
    "linear model": Term("선형 모델", "A model that multiplies its inputs by weights and adds up."),
    "dead pixel": Term("죽은 픽셀", "A pixel of weight or gradient 0, such as a digit's border."),
    "log-log plot": Term(
        "로그-로그 그래프",
        "A plot with two logarithmic axes: a power n^p is a straight line of slope p.",
    ),
    "score": Term("점수", "w'x + b, the number whose sign decides between two classes."),
    "margin": Term(
        "마진",
        "How far the right answer is ahead. For two classes y·(w'x + b), positive when the model "
        "is right. For more classes z_y - log Σ exp(z_k) over the k ≠ y, the log-odds of the true "
        "class: positive when its probability is over one half.",
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
    "pre-activation": Term(
        "활성화 이전 값",
        "The weighted sum w'x + b that goes into a unit's function; the output is the activation.",
    ),
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
    "targeted attack": Term(
        "표적 공격",
        "An attack that succeeds only if the model gives the answer that the attacker chose, the "
        "target class. Any other attack is untargeted.",
    ),
    "projection": Term("투영", "Moving a point to the nearest allowed one; for a box, a clamp."),
    "step size": Term("스텝 크기", "How far one step of PGD moves each pixel, in pixel units."),
    "random start": Term(
        "무작위 시작점", "A random point of the eps-ball at which an attack begins, in place of x."
    ),
    "restart": Term(
        "재시작", "One more attempt of an attack, from another random start; the best one counts."
    ),
    "worst-case error": Term(
        "최악의 경우 오류율",
        "The share of examples that some image in the eps-ball breaks. Attacks find a part of "
        "them; a proof bounds the share from above.",
    ),
    "robust": Term("강건한", "Said of a model that reads every image in the eps-ball rightly."),
    "gradient masking": Term(
        "기울기 마스킹",
        "The gradient misleads or is zero, so attacks fail while the model stays fragile.",
    ),
    "catastrophic overfitting": Term(
        "파국적 과적합",
        "Training on one-step attacks suddenly fits these alone: FGSM finds little, PGD all.",
    ),
    "white box": Term(
        "화이트박스", "Said of an attack that knows the model: its weights and so its gradients."
    ),
    "black box": Term(
        "블랙박스",
        "Said of an attack that uses no gradient of the model that it attacks. It asks the model "
        "for answers, or brings examples that were crafted on another model.",
    ),
    "AutoAttack": Term(
        "오토어택", "A fixed team of four attacks; its error is the worst case over the team."
    ),
    "RobustBench": Term("로버스트벤치", "A public leaderboard of models, ranked by AutoAttack."),
    "clipping": Term("클리핑", "Putting each pixel back into [0, 1] after the step."),
    "confidence": Term(
        "확신도 (신뢰도)",
        "The probability that a model gives to the class that it predicts. The paper averages it "
        "over the mistakes.",
    ),
    "error rate": Term("오류율", "The share of all examples that are classified wrongly."),
    "success rate": Term(
        "공격 성공률",
        "Of the examples that were right before an attack, the share that is wrong after it.",
    ),
    "dropout": Term(
        "드롭아웃", "In training, a random part of the inputs or units is set to zero in each step."
    ),
    "eval mode": Term(
        "평가 모드",
        "How a trained model is used, and attacked: with dropout off. Opposite: train mode.",
    ),
    "convolution": Term(
        "합성곱", "A layer that moves one small set of weights over the whole image."
    ),
    "contrast normalisation": Term(
        "대비 정규화", "Gives each image a mean of 0 and a fixed length."
    ),
    "whitening": Term(
        "백색화",
        "A linear map after which the pixels are uncorrelated and vary about equally much.",
    ),
    "rotation": Term(
        "회전",
        "Changing the direction of a vector, and not its length. Here the image is the vector.",
    ),
    "float32": Term(
        "단정밀도 부동소수점",
        "The usual kind of number in PyTorch, with about seven digits. float64 has about sixteen.",
    ),
    "confidence interval": Term(
        "신뢰 구간",
        "A range that is computed from a sample; of 100 such ranges about 95 hold the true value. "
        "Over test images (Wilson) it says how much another choice of images may change a rate, "
        "over seeds (Student) how much training varies.",
    ),
    "closed form": Term("닫힌 형식", "A formula that gives the answer at once, without a search."),
    "threat model": Term("위협 모델", "What an attacker may know and change."),
    "transfer": Term(
        "전이", "Examples that were crafted on one model, the source, fool another, the target."
    ),
    "transfer matrix": Term(
        "전이성 행렬",
        "The error of each model on the examples of each model: row = crafted on, column = fed to.",
    ),
    "agreement": Term(
        "오답 일치율",
        "How often two models give the same wrong class; over the mistakes of one, or of both.",
    ),
    "cosine similarity": Term(
        "코사인 유사도",
        "The cosine of the angle between two vectors: 1 for one direction, 0 for a right angle.",
    ),
    "piecewise linear": Term(
        "조각별 선형", "Made of straight pieces that are joined at corners, such as maxout."
    ),
    "RBF network": Term(
        "방사 기저 함수 신경망",
        "A template for each class; the belief in a class falls with the distance from it.",
    ),
    "refusal": Term(
        "응답 거부", "A model gives no answer, because its highest probability is too low."
    ),
    "generative model": Term(
        "생성 모델", "A model that learns how the images of each class look: a density for each."
    ),
    "discriminative model": Term(
        "판별 모델", "A model that learns the probability of each class for an image directly."
    ),
    "density": Term(
        "확률 밀도", "How likely a model finds an image, for each unit of volume of pixel space."
    ),
    "Bayes' rule": Term(
        "베이즈 정리",
        "The posterior of a class is its density times its frequency, divided by the evidence.",
    ),
    "posterior": Term("사후 확률", "The probability of a class once the image was seen."),
    "evidence": Term(
        "증거 (주변 우도)", "p(x), the density of an image under all classes together."
    ),
    "log-odds": Term("로그 오즈", "log(p / (1 - p)), above 0 where p is above one half."),
    "detector": Term("탐지기", "A model that tells attacked images from clean ones."),
    "false alarm": Term("거짓 경보", "A clean image that a detector takes for an attack."),
    "adaptive attack": Term(
        "적응형 공격", "An attack that was made for a defence by somebody who knows it."
    ),
    "ensemble": Term("앙상블", "Several models that answer together, by their mean probabilities."),
    "rubbish input": Term(
        "무의미 입력",
        "An image that belongs to no class, such as noise; any confident answer is wrong.",
    ),
    "local stability": Term(
        "국소 안정성", "No image near x, not even the worst one, changes the answer much."
    ),
    "first-order radius": Term(
        "일차 근사 반경",
        "The margin divided by the L1 norm of its gradient: the eps at which a linear model errs.",
    ),
    "interval arithmetic": Term(
        "구간 산술",
        "Computing with intervals in place of numbers: the result holds every value that numbers "
        "in the intervals could give.",
    ),
    "radius of an interval": Term(
        "구간의 반지름", "Half of its length: an interval is its centre plus or minus its radius."
    ),
    "sound bound": Term(
        "건전한 경계",
        "A bound that no image in the box exceeds, whatever the attack; it may be too cautious.",
    ),
    "certificate": Term(
        "강건성 인증",
        "A proof, for one image and one eps, that no change within eps alters the model's answer.",
    ),
    "certified error": Term(
        "인증된 오류율",
        "The share of examples without a certificate: the worst-case error is not above it.",
    ),
    "certified training": Term(
        "인증 훈련", "Training on an upper bound of the loss over the whole box, not on an attack."
    ),
    "L1 penalty": Term(
        "L1 벌점", "λ·‖w‖₁, added to the mean loss: a price on the size of the weights."
    ),
    "weight decay": Term(
        "가중치 감쇠", "A penalty on large weights, added to the loss in training."
    ),
    "adversarial training": Term(
        "적대적 훈련", "Training on adversarial examples that are made anew for the current model."
    ),
    "data augmentation": Term(
        "데이터 증강", "Training also on changed copies of the examples, such as noisy ones."
    ),
    "robustness": Term(
        "강건성", "How well a model stays right under the strongest attack that a limit allows."
    ),
    "label leaking": Term(
        "레이블 누출",
        "A model reads the true label off the attack's change, which was computed from it.",
    ),
    "filter": Term("필터", "The weights of a unit's piece, one for each pixel, seen as a picture."),
    "effective pixels": Term(
        "유효 픽셀 수", "(Σw²)² / Σw⁴: how many pixels a filter uses; k equal ones count as k."
    ),
    "ablation": Term(
        "절제 실험 (애블레이션)", "Switching off a part of a model to see what it was for."
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
        "Here over the attacks that were tried: an example is broken if one of them fooled the "
        "model. So the error is at most the worst-case error over the whole eps-ball.",
    ),
    "random search": Term(
        "무작위 탐색",
        "An attack that needs no gradient: it tries random changes and keeps what harms.",
    ),
    "straight-through gradient": Term(
        "스트레이트 스루 기울기 (STE)",
        "The gradient behind a step that has none, such as rounding, used as if it were before it.",
    ),
    "time budget": Term("시간 예산", "How long training may take, fixed in advance."),
    "leaderboard": Term("리더보드", "The table of all submissions, the best score first."),
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
