"""The trained models that the course ships, and the one file format that it trusts.

A model file is safetensors: tensors, and a text that names an architecture of `ARCHITECTURES` with
its options. Nothing in it is executed. The index beside the files holds a hash of each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advlearn import models
from advlearn._bounded import parse_json, read_plain
from advlearn._quote import listed, printable, quote
from advlearn._validation import check_choice
from advlearn.data.folders import published
from advlearn.generative import SubspaceMixture

ARCHITECTURES: Mapping[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        models.LogisticRegression,
        models.SoftmaxRegression,
        models.MaxoutNet,
        models.ConvMaxoutNet,
        models.ConvNet,
        models.RBFNet,
        SubspaceMixture,
    )
}
"""What a model file may name. "Ensemble" is built from one of these."""

MOST_HEADER = 1_000_000
"""Bytes of the text at the head of a file. As Python's objects it may take a hundred times more."""

_MOST_BYTES = 100_000_000  # of a file, or of an index
_DTYPES = {"F16", "BF16", "F32", "F64"}


def build(architecture: str, options: Mapping[str, Any]) -> nn.Module:
    """Return an untrained model of a named architecture, in eval mode.

    Args:
        architecture: a key of `ARCHITECTURES`, or "Ensemble".
        options: the keyword arguments of its class; for "Ensemble" {"members": M, "architecture":
            ..., "options": ...}, M models of one kind.

    Raises:
        ValueError: the architecture or an option is unknown, or has a bad value.

    Example:
        >>> sum(p.numel() for p in build("SoftmaxRegression", {"classes": 3}).parameters())
        2355
    """
    check_choice(architecture, "architecture", (*ARCHITECTURES, "Ensemble"))
    try:
        if architecture == "Ensemble":
            count, inner = int(options["members"]), options["architecture"]
            check_choice(inner, "architecture of the members", tuple(ARCHITECTURES))
            members = [build(inner, options["options"]) for _ in range(count)]
            return models.Ensemble(members).eval()
        return ARCHITECTURES[architecture](**options).eval()
    except (TypeError, KeyError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(
            f"options {printable(options)} do not fit {architecture}: {printable(error)}. Pass the "
            "keyword arguments of its class."
        ) from error


def pack(
    model: nn.Module,
    architecture: str,
    options: Mapping[str, Any],
    about: Mapping[str, Any],
    *,
    half: bool = False,
) -> bytes:
    """Return a model as the content of a safetensors file.

    Args:
        model: whose state is kept; it must be what `build(architecture, options)` gives.
        architecture, options: as for `build`.
        about: what else should be known of it, as JSON: recipe, data, measured rates.
        half: keep float16, at half the size. What `unpack` gives back is then a rounded model:
            measure that one.

    Raises:
        ValueError: the model is not of that architecture, or does not fit float16.
    """
    from safetensors.torch import save

    state = model.state_dict()
    if _shapes(state) != _shapes(_blank(architecture, options).state_dict()):
        raise ValueError(f"model is not what build({architecture!r}, options) gives.")
    kept = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().cpu()
        for name, value in state.items()
    }
    for name, value in kept.items():
        if not bool(value.isfinite().all()):
            raise ValueError(
                f"{name} holds NaN or infinity{' in float16' if half else ''}. "
                "The model has diverged, or needs half=False."
            )
    text = {"architecture": architecture, "options": dict(options), "about": dict(about)}
    return save(kept, metadata={"advlearn": json.dumps(text, sort_keys=True)})


def _blank(architecture: str, options: Mapping[str, Any]) -> nn.Module:
    """Return a model whose start does not matter: the random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        return build(architecture, options)


def _check_fit(
    tensors: Mapping[str, torch.Tensor], architecture: str, options: Any, name: str
) -> None:
    """Require that a file's tensors are those of its architecture, before any memory is spent.

    On PyTorch's "meta" device a tensor has a shape and no content.
    """
    entries, most = [options], len(tensors)
    while entries:
        entry = entries.pop()
        inner = list(entry.values()) if isinstance(entry, dict) else entry
        inner = inner if isinstance(inner, list) else []
        entries += inner
        # A layer and a member of an ensemble have one tensor at least.
        members = entry.get("members", 0) if isinstance(entry, dict) else 0
        if len(inner) > max(most, 16) or type(members) is not int or members > most:
            raise ValueError(f"{name} asks for more layers or members than it has tensors, {most}.")
    try:
        with torch.device("meta"):
            skeleton = _blank(architecture, options)
    except (ValueError, MemoryError) as error:
        raise ValueError(f"{name} holds no model of the course: {printable(error)}") from error
    if _shapes(tensors) != _shapes(skeleton.state_dict()):
        raise ValueError(
            f"{name} has tensors that do not fit {architecture} with {printable(options)}."
        )


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


_DAMAGED = (
    "{name} is damaged, or is not a model file of the course ({error}). Make it with "
    "advlearn.data.reference.pack, or copy it again."
)


def read_header(content: bytes, *, most: int = MOST_HEADER) -> dict[str, Any]:
    """Return the header of a safetensors file: each tensor's "dtype", "shape" and "data_offsets".

    The first eight bytes are the length of the header, and the header is JSON. No tensor is read.
    Texts that travel with the tensors lie under "__metadata__".

    Args:
        content: of the file.
        most: bytes that the header may have.

    Raises:
        ValueError: the content is not a safetensors file, or its header cannot be read.

    Example:
        >>> content = pack(models.SoftmaxRegression(4), "SoftmaxRegression", {"features": 4}, {})
        >>> read_header(content)["linear.weight"]["shape"]
        [10, 4]
    """
    size = int.from_bytes(content[:8], "little")
    if content[8:9] != b"{" or not 2 <= size <= len(content) - 8:
        raise ValueError("it is not a safetensors file")
    if size > most:
        raise ValueError(f"its header has {size:,} bytes; at most {most:,} are read")
    try:
        return dict(parse_json(content[8 : 8 + size]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"its header cannot be read: {printable(error)}") from error


def describe(content: bytes, name: str = "the file") -> dict[str, Any]:
    """Return what a model file says of itself: "architecture", "options" and "about".

    Raises:
        ValueError: the content is damaged, or is not a model file of the course.
    """
    try:
        text = parse_json(read_header(content)["__metadata__"]["advlearn"])
        return {key: text[key] for key in ("architecture", "options", "about")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(_DAMAGED.format(name=name, error=printable(error))) from error


def unpack(content: bytes, name: str = "the file") -> tuple[nn.Module, dict[str, Any]]:
    """Return the model that `pack` kept, in eval mode and float32, and what is known about it.

    Raises:
        ValueError: the content is damaged, is not a model of the course, names an unknown
            architecture, or its tensors do not fit or are not finite. `name` says which file.

    Example:
        >>> model = models.SoftmaxRegression(4, classes=3)
        >>> again, about = unpack(
        ...     pack(model, "SoftmaxRegression", {"features": 4, "classes": 3}, {"a": 1})
        ... )
        >>> torch.equal(again.linear.weight, model.linear.weight), about
        (True, {'a': 1})
    """
    from safetensors.torch import load as load_tensors

    text = describe(content, name)
    architecture, options = text["architecture"], text["options"]
    try:
        header = read_header(content)
        kinds = {str(header[key]["dtype"]) for key in header if key != "__metadata__"}
        if not kinds <= _DTYPES:
            raise ValueError(f"it holds {listed(sorted(kinds - _DTYPES))}, not {listed(_DTYPES)}")
        tensors = load_tensors(content)
    except Exception as error:  # safetensors' own, and whatever a wrong header leads to
        raise ValueError(_DAMAGED.format(name=name, error=printable(error))) from error
    _check_fit(tensors, architecture, options, name)
    model = _blank(architecture, options)
    for key, value in tensors.items():
        if not bool(value.float().isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinity in {key}: the model has diverged.")
    # Copies into float32 parameters, whatever the file's dtype and PyTorch's default are.
    model.float().load_state_dict(tensors)
    return model.eval().requires_grad_(False), text["about"]


def index(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return what is shipped: name -> file, sha256, architecture, recipe, data, measured rates.

    Args:
        folder: where the files lie; None means the published ones.

    Raises:
        FileNotFoundError: there is no index; the message says what to do.
        ValueError: the index is damaged.
    """
    path = (folder or published("weights")) / "index.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no reference models in {path.parent}. Install the course again, or clone its whole "
            "repository; `advlearn reproduce` trains them anew."
        )
    try:
        loaded: dict[str, dict[str, Any]] = parse_json(read_plain(path, MOST_HEADER))
        for entry in loaded.values():
            # A name of a file beside the index, and no path that leads elsewhere.
            file, digest = entry["file"], entry["sha256"]
            if Path(str(file)).name != file or not isinstance(digest, str):
                raise ValueError(f"{quote(file)} is no file beside it")
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({printable(error)}). Install the course again."
        ) from error
    return loaded


def load(name: str, folder: Path | None = None) -> nn.Module:
    """Return a trained reference model, in eval mode, with parameters that need no gradient.

    Args:
        name: such as "maxout-adversarial"; `index()` lists them with their rates.
        folder: where the files lie; None means the published ones.

    Raises:
        ValueError: there is no such model (the message names those that exist), or its file is
            not the one of the index.
        FileNotFoundError: the index or the file is missing.

    Example:
        >>> load("softmax")(torch.zeros(1, 1, 28, 28)).shape
        torch.Size([1, 10])
    """
    known = index(folder)
    if name not in tuple(known):
        raise ValueError(f"name must be one of {listed(known)}, got {quote(name)}.")
    entry = known[name]
    path = (folder or published("weights")) / entry["file"]
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. Install the course again, or copy it there.")
    content = read_plain(path, _MOST_BYTES, "Install the course again, or copy it again.")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(
            f"{path} is not the file of the index: its sha256 differs. It is damaged or was "
            "changed; install the course again, or copy it again."
        )
    return unpack(content, str(path))[0]
