"""Inspect a submitted model file, and build the model only when its size is known."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advlearn._bounded import read_plain
from advlearn._quote import listed, printable, quote
from advlearn.data import reference

MOST_BYTES = 20_000_000
MOST_HEADER = 100_000  # bytes of the text at the head of the file
MOST_PARAMETERS = 4_000_000  # numbers of any kind that the model keeps
MOST_PRODUCTS = 10_000_000  # multiplications for one image
MOST_NUMBER, MOST_ENTRIES, MOST_MEMBERS = 10_000, 8, 16  # of one option
IMAGE = (1, 28, 28)
CLASSES = 10
_DTYPES = ("F16", "BF16", "F32")


class RefusedError(ValueError):
    """The arena does not take this file; the message says why, and what to do.

    A message is one line of at most 500 printable characters, whatever the file holds.
    """

    def __init__(self, message: object) -> None:
        super().__init__(printable(message, most=500))


@dataclass(frozen=True)
class Entry:
    """A model that may compete, and what is known of it."""

    model: nn.Module
    architecture: str
    parameters: int
    products: int  # multiplications for one image
    sha256: str


def admit(file: str | Path | bytes) -> Entry:
    """Return the model of a submitted file, or refuse it.

    Sizes are checked three times before memory is spent: the bytes, the options, and the tensors
    that the architecture would have, which are counted on PyTorch's "meta" device, where a tensor
    has a shape and no content.

    Args:
        file: where the file lies, or its content.

    Raises:
        RefusedError: it is too large, a pickle, damaged, of an unknown architecture, of another
            shape, too slow, or its weights are not finite.
        OSError: it cannot be read.

    Example:
        >>> from advlearn.models import SoftmaxRegression
        >>> entry = admit(reference.pack(SoftmaxRegression(), "SoftmaxRegression", {}, {}))
        >>> entry.architecture, entry.parameters, entry.products
        ('SoftmaxRegression', 7850, 7840)
    """
    name = "the file" if isinstance(file, bytes) else quote(Path(file).name, 100)
    remedy = "Train a smaller model, or export it with half=True."
    try:
        content = file if isinstance(file, bytes) else read_plain(file, MOST_BYTES, remedy)
    except ValueError as error:
        raise RefusedError(error) from error
    if len(content) > MOST_BYTES:
        raise RefusedError(
            f"{name} has {len(content):,} bytes; at most {MOST_BYTES:,} are taken. {remedy}"
        )
    try:
        return _admit(content, name)
    except RecursionError as error:
        raise RefusedError(f"{name} is damaged: it is nested too deeply.") from error


def _admit(content: bytes, name: str) -> Entry:
    header = _header(content, name)
    try:
        text = reference.describe(content, name)
    except ValueError as error:
        raise RefusedError(error) from error
    architecture, options = _check_text(text, name)
    skeleton = _skeleton(architecture, options, name)
    parameters = _check_tensors(skeleton, header, name)
    products = _check_forward(skeleton, name)
    try:
        model, _ = reference.unpack(content, name)
    except ValueError as error:  # damaged after all, or NaN
        raise RefusedError(f"{error} Train it again, and export it again.") from error
    return Entry(model, architecture, parameters, products, hashlib.sha256(content).hexdigest())


def _header(content: bytes, name: str) -> dict[str, Any]:
    """Return the header of a safetensors file, or refuse what is not one."""
    remedy = "Export the model with advlearn.data.reference.pack."
    try:
        return reference.read_header(content, most=MOST_HEADER)
    except ValueError as error:
        # Only then: the length of a header, which a good file begins with, may look like a pickle.
        if content[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise RefusedError(
                f"{name} is a pickle, as torch.save writes it. Loading one runs whatever code is "
                f"in it, so the arena never does. {remedy}"
            ) from error
        raise RefusedError(f"{name} is damaged or of another kind: {error}. {remedy}") from error


def _check_text(text: Mapping[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    """Require a known architecture and options of sane size."""
    architecture, options = text["architecture"], text["options"]
    if not isinstance(options, dict):
        raise RefusedError(f"{name} has options that are not a table of names and values.")
    together = architecture == "Ensemble"
    kind = options.get("architecture") if together else architecture
    if kind not in tuple(reference.ARCHITECTURES):
        raise RefusedError(
            f"{name} names the architecture {quote(kind)}, which the arena does not know. "
            f"It knows {', '.join(reference.ARCHITECTURES)}, and an Ensemble of one of them."
        )
    members = options.get("members") if together else 1
    if type(members) is not int or not 1 <= members <= MOST_MEMBERS:
        raise RefusedError(
            f"{name} is an ensemble of {quote(members)} members; the arena takes 1 to "
            f"{MOST_MEMBERS}."
        )
    given = options.get("options") if together else options
    allowed = inspect.signature(reference.ARCHITECTURES[kind]).parameters
    if not isinstance(given, dict) or not given.keys() <= allowed.keys():
        raise RefusedError(f"{name} has options that {kind} does not know. Export it again.")
    for option, value in given.items():
        values = value if isinstance(value, list) else [value]
        if len(values) > MOST_ENTRIES or any(
            not isinstance(v, (int, float, str)) or (type(v) is int and v > MOST_NUMBER)
            for v in values
        ):
            raise RefusedError(
                f"{name} asks for {option} = {quote(value)}. The arena takes numbers up to "
                f"{MOST_NUMBER:,}, and {MOST_ENTRIES} of them at most."
            )
    return architecture, options


def _skeleton(architecture: str, options: Mapping[str, Any], name: str) -> nn.Module:
    """Build the model on the meta device, where tensors take no memory."""
    try:
        with torch.device("meta"):
            return reference.build(architecture, options)
    except (ValueError, RuntimeError, OverflowError) as error:
        raise RefusedError(f"{name} cannot be built: {printable(error, 400)}") from error


def _check_tensors(skeleton: nn.Module, header: Mapping[str, Any], name: str) -> int:
    """Compare the tensors in the file with those that the model would have; return their size."""
    wanted = {key: tuple(value.shape) for key, value in skeleton.state_dict().items()}
    count = sum(int(value.numel()) for value in skeleton.state_dict().values())
    if count > MOST_PARAMETERS:
        raise RefusedError(
            f"{name} describes a model of {count:,} numbers; the arena takes at most "
            f"{MOST_PARAMETERS:,}. Use fewer units."
        )
    try:
        tensors = {key: value for key, value in header.items() if key != "__metadata__"}
        given = {key: tuple(value["shape"]) for key, value in tensors.items()}
        kinds = {str(value["dtype"]) for value in tensors.values()}
    except (TypeError, KeyError) as error:
        raise RefusedError(f"{name} is damaged: its header is incomplete.") from error
    keys = wanted.keys() | given.keys()
    differ = sorted(key for key in keys if wanted.get(key) != given.get(key))
    if differ:
        key = differ[0]
        raise RefusedError(
            f"{name} has tensors of another shape than its architecture: {quote(key)} is "
            f"{printable(given.get(key, 'missing'))}, expected {wanted.get(key, 'none')}. Export "
            "the model with the options that it was built with."
        )
    if not kinds <= set(_DTYPES):
        raise RefusedError(
            f"{name} holds tensors of the kind {listed(sorted(kinds - set(_DTYPES)), 3)}; the "
            f"arena takes {', '.join(_DTYPES)}."
        )
    return count


def _check_forward(skeleton: nn.Module, name: str) -> int:
    """Count the multiplications for one image, and require ten logits."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            logits = skeleton(torch.zeros(1, *IMAGE, device="meta"))
    except (RuntimeError, ValueError) as error:
        raise RefusedError(
            f"{name} holds a model that does not take images of shape {IMAGE}: {printable(error)}"
        ) from error
    if tuple(logits.shape) != (1, CLASSES):
        raise RefusedError(
            f"{name} holds a model with {tuple(logits.shape)[1:]} outputs; the arena is about "
            f"{CLASSES} digits."
        )
    products = int(counter.get_total_flops() // 2)
    if products > MOST_PRODUCTS:
        raise RefusedError(
            f"{name} needs {products:,} multiplications for one image; the arena's budget is "
            f"{MOST_PRODUCTS:,}. Use fewer channels or units."
        )
    return products
