"""How colours look to others: in grey, and to readers who lack one kind of cone.

The matrices are those of Machado, Oliveira and Fernandes (2009, "A physiologically-based model for
simulation of color vision deficiency"), at full severity, for linear RGB. Contrast is that of WCAG
2; distance is the Euclidean one in CIELAB (1976), where about 2.3 is just noticeable.

    python tests/vision.py           every figure of the library and of the lessons, as each reader
                                     sees it, into build/palette
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "palette"
MATRICES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
VISIONS = ("normal", "grey", *MATRICES)


def linear(srgb: np.ndarray) -> np.ndarray:
    """Undo the transfer curve of sRGB."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """Apply the transfer curve of sRGB."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def seen(colours: np.ndarray, vision: str) -> np.ndarray:
    """Return sRGB colours (..., 3) in [0, 1] as they look to this reader."""
    light = linear(np.asarray(colours, dtype=float))
    if vision == "grey":
        light = np.repeat((light @ LUMINANCE)[..., None], 3, axis=-1)
    elif vision != "normal":
        light = light @ np.array(MATRICES[vision]).T
    return encoded(light)


def rgb(colour: object) -> np.ndarray:
    return np.array(to_rgb(colour))


def blended(colour: object, alpha: float, ground: object = "white") -> np.ndarray:
    """Return what a half-transparent colour looks like on its ground."""
    return alpha * rgb(colour) + (1 - alpha) * rgb(ground)


def luminance(colour: np.ndarray) -> float:
    return float(linear(np.asarray(colour, dtype=float)) @ LUMINANCE)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Return the contrast ratio of WCAG 2, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lab(colour: np.ndarray) -> np.ndarray:
    """Return CIELAB coordinates (..., 3), for the white of sRGB."""
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear(np.asarray(colour, dtype=float)) @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def distance(one: np.ndarray, other: np.ndarray, vision: str = "normal") -> float:
    """Return how different two colours look to this reader, in CIELAB."""
    return float(np.linalg.norm(lab(seen(one, vision)) - lab(seen(other, vision))))


def library_figures() -> Iterator[tuple[str, bytes]]:
    """Yield each figure of the library, drawn from the data of its tests."""
    import matplotlib.pyplot as plt

    from advlearn.plotting import render
    from tests.test_plotting import FIGURES

    for name, (draw, _) in FIGURES.items():
        yield name, render(draw(plt.subplots(layout="constrained")[1]))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for ax, name in zip(axes, ("seven", "ten"), strict=True):
        draw_many(ax, 7 if name == "seven" else 10)
    yield "many-lines", render(figure)


def draw_many(ax: object, count: int) -> None:
    """Draw so many lines, with and without markers: the most that a legend holds."""
    from advlearn.plotting import lines

    curves = {f"line {i}": [i, i + 2.5, i + 1] for i in range(count)}
    lines([0, 1, 2], curves, xlabel="x", ylabel="y", markers=count == 7, ax=ax)  # type: ignore[arg-type]


def lesson_figures() -> Iterator[tuple[str, bytes]]:
    """Yield each picture that the committed lessons show."""
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        pages = [
            "".join(output.get("data", {}).get("text/html", ""))
            for cell in cells
            for output in cell.get("outputs", [])
        ]
        pictures = re.findall(r"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)", "".join(pages))
        for number, picture in enumerate(pictures):
            yield f"lesson-{path.name[:2]}-{number:02d}", base64.b64decode(picture)


def sheet(picture: bytes) -> object:
    """Return one image with the picture as every reader sees it, one below the other."""
    from PIL import Image, ImageDraw

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    pixels = np.asarray(image) / 255
    whole = Image.new("RGB", (image.width, (image.height + 16) * len(VISIONS)), "white")
    for row, vision in enumerate(VISIONS):
        top = row * (image.height + 16)
        ImageDraw.Draw(whole).text((4, top + 2), vision, fill="black")
        view = Image.fromarray((255 * seen(pixels, vision)).round().astype("uint8"))
        whole.paste(view, (0, top + 16))
    return whole


def main() -> int:
    """Write the sheets and say where they are."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    count = 0
    for figures in (library_figures, lesson_figures):
        for name, picture in figures():
            sheet(picture).save(FOLDER / f"{name}.png")  # type: ignore[attr-defined]
            count += 1
    print(f"{count} figures, each in {len(VISIONS)} views: {FOLDER.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
