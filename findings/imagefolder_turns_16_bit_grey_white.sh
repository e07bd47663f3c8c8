#!/usr/bin/env bash
# torchvision 0.29.1 with Pillow 13.0.0 (torch 2.14.1, Python 3.11): ImageFolder turns a grey PNG of 16
# bits, as X-rays and depth maps are kept, into a white picture. The same picture in colour it scales.
#
# Behaviour: the default loader of ImageFolder ends with convert("RGB"). Pillow opens 16-bit grey as
# mode "I;16", keeps the numbers 0 to 65,535, and that conversion cuts them off at 255. So all but the
# darkest 1/257 of the scale is white, without a warning. 16-bit colour is opened as 8 bits at once:
# each number loses its lower byte, which is about right. decode_image of torchvision.io, with any
# mode, gives the 16 bits of both (uint16). Three loaders of one package, three answers to one picture.
#
# Seen, for an even ramp from 0 to 65,535, as shares of the pixels:
#   ImageFolder, grey: 99.6 % white, mean 254.5
#   ImageFolder, colour: 0.4 % white, mean 127.5
#   decode_image, either: torch.uint16, mean 32767.5
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "torch==2.14.1" "torchvision==0.29.1" "pillow==13.0.0" "numpy==2.4.6"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import struct
import sys
import zlib
from pathlib import Path

import torch
from torchvision.datasets import ImageFolder
from torchvision.io import decode_image
from torchvision.transforms import PILToTensor

SIDE = 256


def chunk(name, content):
    head = struct.pack(">I", len(content)) + name + content
    return head + struct.pack(">I", zlib.crc32(name + content))


def png(channels):
    """A ramp over all 65,536 values, grey (1) or with three equal colours (3), 16 bits each."""
    rows = b""
    for top in range(0, SIDE * SIDE, SIDE):
        values = [value for value in range(top, top + SIDE) for _ in range(channels)]
        rows += b"\0" + struct.pack(f">{len(values)}H", *values)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 0 if channels == 1 else 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


for name, channels in (("colour", 3), ("grey", 1)):
    Path("data", name).mkdir(parents=True)
    Path("data", name, "ramp.png").write_bytes(png(channels))

found = {}
for image, label in ImageFolder("data", transform=PILToTensor()):
    name = ("colour", "grey")[label]
    white, mean = float((image == 255).double().mean()), float(image.double().mean())
    print(f"ImageFolder, {name}: {100 * white:.1f} % white, mean {mean:.1f}")
    found[name] = (round(100 * white, 1), round(mean, 1))
for name in ("colour", "grey"):
    image = decode_image(f"data/{name}/ramp.png")
    print(f"decode_image, {name}: {image.dtype}, mean {float(image.double().mean()):.1f}")
    found[f"decoded {name}"] = (str(image.dtype), round(float(image.double().mean()), 1))
expected = {
    "colour": (0.4, 127.5),
    "grey": (99.6, 254.5),
    "decoded colour": ("torch.uint16", 32767.5),
    "decoded grey": ("torch.uint16", 32767.5),
}
sys.exit(0 if found == expected else 1)
PYTHON
