"""The opening pictures: what they promise, without a network."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from PIL import Image

from advlearn import fgsm, pgd
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


# --- A photograph of the learner's own ------------------------------------------------------------


def halves(size=(60, 40)):
    """Return a picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", size, (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1]))
    return image


@pytest.mark.parametrize("ending", [".jpg", ".JPG", ".png", ".bmp", ".webp", ".gif", ".tif"])
def test_a_file_of_ones_own_is_read(tmp_path, ending):
    path = tmp_path / f"my photo{ending}"
    halves().save(path)
    for given in (path, str(path)):
        x = photograph(given)
        assert x.shape == (1, 3, 224, 224)
        assert x.dtype == torch.float32
        red, blue = x[0, :, 112, 20], x[0, :, 112, -20]
        assert red[0] > 0.9 > 0.1 > red[2]
        assert blue[2] > 0.9 > 0.1 > blue[0]


def test_a_mere_name_with_an_ending_is_looked_for_beside_the_notebook(tmp_path, monkeypatch):
    halves().save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    assert torch.equal(photograph("cat.png"), photograph(Path("cat.png")))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert torch.equal(photograph("cat.png"), photograph("~/cat.png"))
    # As a Path, a shipped name is a file, which here has no ending.
    with pytest.raises(ValueError, match="'china' has no ending"):
        photograph(Path("china"))


def test_zoom_and_place_choose_a_part_of_the_file(tmp_path):
    halves().save(tmp_path / "wide.png")
    left, right = (photograph(tmp_path / "wide.png", zoom=2, right=r) for r in (0.0, 1.0))
    assert left[0, 0].min() > 0.99
    assert right[0, 2].min() > 0.99


def test_a_file_that_was_saved_again_is_read_again(tmp_path):
    halves().save(tmp_path / "new.png")
    before = photograph(tmp_path / "new.png")
    halves().rotate(180).save(tmp_path / "new.png")
    assert not torch.equal(before, photograph(tmp_path / "new.png"))


def test_a_phone_held_upright_gives_an_upright_picture(tmp_path):
    """Orientation 6: the camera was turned, so its left side is the top of what was seen."""
    exif = Image.Exif()
    exif[0x0112] = 6
    halves().save(tmp_path / "phone.jpg", exif=exif)
    x = photograph(tmp_path / "phone.jpg")
    assert x[0, 0, 20, 112] > 0.9, "red is on top"
    assert x[0, 2, -20, 112] > 0.9, "blue is below"


def test_one_pixel_and_a_long_strip_are_photographs_too(tmp_path):
    for size in ((1, 1), (900, 1)):
        Image.new("RGB", size, (9, 9, 9)).save(tmp_path / "odd.png")
        x = photograph(tmp_path / "odd.png", zoom=4, right=1.0, down=1.0)
        assert torch.allclose(x, torch.full_like(x, 9 / 255))


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("gone.jpg", None, FileNotFoundError, "no file '.*gone.jpg', .*beside the notebook"),
        ("IMG_1.HEIC", b"", ValueError, r"IMG_1.HEIC' ends in '.heic'.*save it as an ordinary"),
        ("notes", b"", ValueError, "notes' has no ending"),
        ("empty.png", b"", ValueError, "empty.png' cannot be read: .*save it as an ordinary"),
        ("text.jpg", b"my cat", ValueError, "text.jpg' cannot be read: it is no PNG or JPEG"),
        ("cut.png", "cut", ValueError, "cut.png' cannot be read: .*save it as an ordinary"),
        ("folder.jpg", "folder", ValueError, "folder.jpg' is no plain file"),
        ("bomb.png", "bomb", ValueError, "bomb.png' cannot be read: .*pixels; at most"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_a_remedy(tmp_path, name, content, error, words):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content == "bomb":
        Image.new("1", (9_000, 9_000)).save(path)
    elif content == "cut":
        halves().save(path)
        path.write_bytes(path.read_bytes()[:-30])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=words):
        photograph(path)


def test_a_file_that_is_too_large_or_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(ValueError, match=r"large.png' has 50,000,001 bytes; .*Save it smaller"):
        photograph(path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(OSError, match=r"cannot be read \(Permission denied\). Copy"):
        photograph("locked.png")


@pytest.mark.parametrize(
    ("name", "error"), [("panda", ValueError), ("", ValueError), (None, TypeError), (3, TypeError)]
)
def test_a_name_that_is_neither_shipped_nor_a_file_says_what_to_pass(name, error):
    with pytest.raises(error, match="name must be"):
        photograph(name)


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


def test_with_more_steps_every_photograph_becomes_what_one_chooses():
    """The claim of lesson 0 and of README's picture, on the same eps-ball."""
    model, classes = imagenet_model(), imagenet_classes()
    wanted = classes.index("ostrich")
    for name in PHOTOGRAPHS:
        x = photograph(name, zoom=1.25)
        target = torch.tensor([wanted])
        moved = pgd(
            model, x, target, 0.007, steps=20, step_size=0.001, targeted=True, random_start=False
        )
        assert (moved - x).abs().max() <= 0.007 + 1e-6
        assert model(x).argmax(1) != wanted
        assert model(moved).softmax(1)[0, wanted] > 0.9, name
