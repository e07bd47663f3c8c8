"""Weights as text, small enough for a page that carries five networks.

A file of weights is safetensors, as `advlearn.data.reference.pack` writes it. For the page its
numbers are rounded, to float16 or to whole multiples of a step; then it is deflated and written in
base 85. `js/packed.js` undoes the last two, and `js/safetensors.js` reads the file.
"""

from __future__ import annotations

import base64
import json
import zlib

import torch
from torch import nn

from advlearn.data import reference

STEP = "step"
"""Under this name, in what is known of a network, a file of whole numbers says what they count."""


def in_float16(content: bytes, name: str) -> bytes:
    """Return a file of weights in float16, without what is told of its training.

    Raises:
        ValueError: the content is damaged, or a weight does not fit float16.
    """
    text = reference.describe(content, name)
    model, _ = reference.unpack(content, name)
    return reference.pack(model, text["architecture"], text["options"], {}, half=True)


def in_steps(content: bytes, name: str, step: float) -> bytes:
    """Return a file of weights as whole numbers of 16 bits, multiples of a step.

    Numbers of one step are as exact as float16 where weights are large, and less so where they are
    small and count for little. They take a fifth less room when they are deflated.

    Args:
        content: of a file in any precision.
        name: to speak of it.
        step: a power of two.

    Raises:
        ValueError: the content is damaged, or a weight is 2**15 steps or more.
    """
    from safetensors.torch import save

    text = reference.describe(content, name)
    state = reference.unpack(content, name)[0].state_dict()
    whole = {key: (value / step).round() for key, value in state.items()}
    for key, value in whole.items():
        if float(value.abs().max()) >= 2**15:
            raise ValueError(f"{key} of {name} does not fit 16 bits in steps of {step:g}.")
    # One text only: safetensors writes several in an order of its own, another each time.
    told = json.dumps(text | {"about": {STEP: step}}, sort_keys=True)
    kept = {key: value.to(torch.int16) for key, value in whole.items()}
    return save(kept, metadata={"advlearn": told})


def as_model(content: bytes) -> nn.Module:
    """Return the network of a file that one of the two functions above gave.

    Example:
        >>> content = reference.pack(
        ...     reference.build("SoftmaxRegression", {}), "SoftmaxRegression", {}, {}
        ... )
        >>> as_model(in_steps(content, "it", 2**-14))(torch.zeros(1, 784)).shape
        torch.Size([1, 10])
    """
    from safetensors.torch import load

    text = reference.describe(content)
    step = text["about"].get(STEP, 1.0)
    model = reference.build(text["architecture"], text["options"])
    model.load_state_dict({key: value.float() * step for key, value in load(content).items()})
    return model.requires_grad_(False)


def packed(content: bytes, *, planes: int = 2) -> str:
    """Return bytes as text: byte planes, one after the other, deflated, in base 85.

    Base 85 is a quarter longer than the bytes, where base 64 is a third longer.

    Args:
        content: any bytes.
        planes: bytes of one number. The first bytes of all numbers come first, then the second
            ones: a number's sign and size are alike in its neighbours, its last digits are not.

    Example:
        >>> zlib.decompress(base64.b85decode(packed(b"abcd")))
        b'acbd'
    """
    apart = b"".join(content[plane::planes] for plane in range(planes))
    # Weights never repeat: looking for repetitions only makes them longer.
    strategy = zlib.Z_HUFFMAN_ONLY if planes > 1 else zlib.Z_DEFAULT_STRATEGY
    deflating = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return base64.b85encode(deflating.compress(apart) + deflating.flush()).decode()


def in_script(value: object) -> str:
    """Return a value as JSON that may stand in a script element of HTML.

    Example:
        >>> "<" in in_script("</script>"), json.loads(in_script("</script>"))
        (False, '</script>')
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
