"""The linear rows of the paper, trained and attacked for real: offline digits, and all of MNIST."""

from __future__ import annotations

import pytest

from advlearn.data import load_mnist, subset_classes
from advlearn.metrics import adversarial_error_rate, error_rate
from advlearn.models import LogisticRegression, SoftmaxRegression
from advlearn.training import Recipe, fit

UNCLIPPED = {"eps": 0.25, "bounds": None}

# source, most clean error, least FGSM error (3 against 7), least FGSM error (ten classes)
SCALES = [
    pytest.param("offline", 0.04, 0.95, 0.99, id="offline digits"),
    pytest.param("files", 0.018, 0.98, 0.999, id="all of MNIST", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("source", "clean", "two", "ten"), SCALES)
def test_linear_models_fall_to_fgsm(source, clean, two, ten):
    train, test = load_mnist("train", source=source), load_mnist("test", source=source)
    pair = subset_classes(train, (3, 7)), subset_classes(test, (3, 7))
    logistic = LogisticRegression()
    fit(logistic, pair[0], Recipe(epochs=20), progress=False)
    assert float(error_rate(logistic, pair[1])) < clean
    assert float(adversarial_error_rate(logistic, pair[1], **UNCLIPPED)) > two
    softmax = SoftmaxRegression()
    fit(softmax, train, Recipe(epochs=10), progress=False)
    assert float(error_rate(softmax, test)) < 0.12
    assert float(adversarial_error_rate(softmax, test, **UNCLIPPED)) >= ten
