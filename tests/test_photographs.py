"""The opening pictures: what they promise, without a network."""

from __future__ import annotations

import socket

import pytest
import torch

from advlearn import fgsm
from advlearn.data.photographs import PHOTOGRAPHS, imagenet_classes, imagenet_model, photograph


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Refuse every connection, as on a machine without a cable."""

    def refuse(*_, **__):
        raise OSError("the network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_photograph_is_a_square_of_pixels(name):
    x = photograph(name, zoom=1.25, right=0.0, down=1.0)
    assert x.shape == (1, 3, 224, 224)
    assert x.dtype == torch.float32
    assert 0 <= x.min() < 0.2
    assert 0.8 < x.max() <= 1
    assert not torch.equal(x, photograph(name, zoom=1.25, right=1.0, down=1.0))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": "panda"}, ValueError, "name must be one of hopper"),
        ({"zoom": 0.5}, ValueError, "zoom"),
        ({"right": 1.5}, ValueError, "right"),
        ({"down": "low"}, TypeError, "down"),
    ],
)
def test_a_bad_argument_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        photograph(**({"name": "china"} | arguments))


def test_the_model_is_frozen_and_in_eval_mode():
    model = imagenet_model()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model(photograph("flower")).requires_grad, "a forward pass must keep no graph"


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="efficientnet-lite0"):
        imagenet_model("resnet")


def test_googlenet_without_a_network_says_what_to_use(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no weights from an earlier download
    with pytest.raises(OSError, match="efficientnet-lite0"):
        imagenet_model("googlenet")


@pytest.mark.parametrize("left", [b"", b"half a file", b"PK\3\4" + bytes(99)])
def test_damaged_weights_of_an_earlier_download_are_named(monkeypatch, tmp_path, left):
    from torchvision.models import GoogLeNet_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = GoogLeNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    (tmp_path / "hub/checkpoints" / name).write_bytes(left)
    with pytest.raises(OSError, match=r"Delete them there, or use .*efficientnet-lite0"):
        imagenet_model("googlenet")


def test_eps_007_changes_the_answer_and_the_sign_image_has_a_name():
    """The claim of the opening picture, on the middle square of each photograph."""
    model, classes = imagenet_model(), imagenet_classes()
    for name in PHOTOGRAPHS:
        x = photograph(name, zoom=1.25)
        answer = model(x).argmax(1)
        moved = fgsm(model, x, answer, 0.007)
        assert (moved - x).abs().max() <= 0.007 + 1e-6
        assert model(moved).argmax(1) != answer, classes[int(answer)]
