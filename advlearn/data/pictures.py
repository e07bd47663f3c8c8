"""The pixels of one image file, as a viewer shows them, or a refusal.

A file reaches the decoder that its name promises and no other: Pillow knows some forty formats,
and a hostile file would choose the weakest reader among them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from advlearn._quote import printable

if TYPE_CHECKING:
    from PIL import Image

FORMATS: dict[str, tuple[str, ...]] = {
    # PNG files that are called .jpg are common, and the other way round.
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".jpe", ".jfif"), ("PNG", "JPEG")),
    ".bmp": ("BMP",),
    ".gif": ("GIF",),
    **dict.fromkeys((".pbm", ".pgm", ".pnm", ".ppm"), ("PPM",)),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    ".webp": ("WEBP",),
}
"""The decoders that a file with this suffix may reach."""

MOST_PIXELS = 36_000_000
"""Of one image. Pillow takes four bytes for each."""

_MOST_AT_ONCE = 12_500_000  # of a format that keeps more than the picture while it is read
_MOST_SLOWLY = 4_000_000  # pixels and bytes of what Pillow reads number by number, in Python
_MOST_SCANS = 100  # of a progressive JPEG, each of which goes over all pixels

# What a camera writes into EXIF's orientation, and how the picture then has to be turned.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


class UnreadableError(ValueError):
    """Why an image cannot be read, as an end of a sentence about it."""


def look(content: bytes, suffix: str) -> Image.Image:
    """Return an image of which only the head has been read, with a size that may be decoded.

    Args:
        content: of the file.
        suffix: a key of `FORMATS`.

    Raises:
        UnreadableError: it is of another format, damaged, too large, or has more than 8 bits for
            each channel.

    Example:
        >>> look(b"P5 3 2 255 abcdef", ".pgm").size
        (3, 2)
    """
    from PIL import Image, UnidentifiedImageError

    formats = FORMATS[suffix]
    try:
        _check_webp(content, suffix)
        opened = Image.open(io.BytesIO(content), formats=formats)
        most, size = _most(opened, content), opened.width * opened.height
        if size > most:
            raise UnreadableError(_too_many(opened.size, most))
        if opened.info.get("progressive") and content.count(b"\xff\xda") > _MOST_SCANS:
            raise UnreadableError(f"it is a JPEG of more than {_MOST_SCANS} scans")
        if opened.format == "PNG":
            # The decoder stops at the last pixel, and does not compare the checksums.
            with Image.open(io.BytesIO(content), formats=formats) as second:
                second.verify()
        if opened.format == "TIFF":
            tags: Any = opened.tag_v2  # type: ignore[attr-defined]
            tile = int(tags.get(322, 1)), int(tags.get(323, 1))
            if not 0 < tile[0] * tile[1] <= MOST_PIXELS:
                raise UnreadableError(_too_many(tile, MOST_PIXELS))
        if deep := _deep(opened, content):
            raise UnreadableError(f"more than 8 bits for each channel: {deep}")
        return opened
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError(f"it is no {' or '.join(formats)} image") from error
    except Exception as error:  # decoders raise nearly anything
        raise UnreadableError(printable(error) or type(error).__name__) from error


def _most(opened: Image.Image, content: bytes) -> int:
    """Return how many pixels of an image may be read, by what its format costs."""
    is_plain = opened.format == "PPM" and content[1:2] in b"123"
    if is_plain or opened.info.get("compression") in {1, 2}:  # run lengths of a BMP
        if len(content) > _MOST_SLOWLY:
            raise UnreadableError(
                f"it is a {opened.format} of {len(content):,} bytes in a slow form; at most "
                f"{_MOST_SLOWLY:,} are read"
            )
        return _MOST_SLOWLY
    at_once = opened.format == "WEBP" or opened.info.get("progressive")
    return _MOST_AT_ONCE if at_once else MOST_PIXELS


def _too_many(size: tuple[int, int], most: int) -> str:
    return f"it has {size[1]:,} x {size[0]:,} pixels; at most {most:,} are read"


def _deep(opened: Image.Image, content: bytes) -> str:
    """Return in words what has more than 8 bits for each channel, by its head, or nothing.

    In colour Pillow gives the upper 8 of them, without a word.
    """
    if opened.format == "PNG":
        bits = content[content.find(b"IHDR") + 12]  # behind width and height
    elif opened.format == "TIFF":
        tags: Any = opened.tag_v2  # type: ignore[attr-defined]
        given = tags.get(258, 1)
        each = given if isinstance(given, tuple) else (given,)
        bits = max(each[: int(tags.get(277, 1))], default=1)
    elif opened.format == "PPM":
        # Where the largest value is not 255, Pillow hands it to the decoder that scales by it.
        tiles: Any = opened.tile  # type: ignore[attr-defined]
        scaled = tiles[0][3]
        most = scaled[1] if isinstance(scaled, tuple) else 255
        if most > 255:
            return f"a PPM with values up to {most:,}"
        bits = 8
    else:
        bits = 8
    if bits > 8:
        return f"a {opened.format} with {bits}"
    # 12 bits, whole numbers and fractions, in any format.
    return f"mode {opened.mode}" if opened.mode.startswith(("I", "F")) else ""


def _check_webp(content: bytes, suffix: str) -> None:
    """Look at the size before Pillow opens a WebP file, which makes room for the whole canvas.

    Twice four bytes for each pixel: whether the system counts them before they are written to is
    up to the system. A size is there in each of the three forms: extended, lossless, lossy.
    """
    if suffix != ".webp" or len(content) < 30:
        return
    form, start = content[12:16], content[20:30]
    if form == b"VP8X":
        width, height = (int.from_bytes(start[k : k + 3], "little") + 1 for k in (4, 7))
    elif form == b"VP8L":
        both = int.from_bytes(start[1:5], "little")
        width, height = (both & 0x3FFF) + 1, (both >> 14 & 0x3FFF) + 1
    elif form == b"VP8 ":
        width, height = (int.from_bytes(start[k : k + 2], "little") & 0x3FFF for k in (6, 8))
    else:
        return
    if width * height > _MOST_AT_ONCE:
        raise UnreadableError(_too_many((width, height), _MOST_AT_ONCE))


def pixels(
    opened: Image.Image, *, grey: bool = False, size: tuple[int, int] | None = None
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return the pixels (H, W, C) of what `look` gave, and what had to be done to show them.

    Args:
        opened: of `look`.
        grey: one channel instead of three.
        size: (height, width), to which it is cropped and scaled.

    Raises:
        UnreadableError: it is damaged, or nobody can say how it looks.

    Example:
        >>> pixels(look(b"P5 3 2 255 abcdef", ".pgm"), grey=True)[0][:, :, 0].tolist()
        [[97, 98, 99], [100, 101, 102]]
    """
    from PIL import Image, ImageOps

    try:
        with opened:
            remarks = list(_remarks(opened))
            shown = _shown(opened, remarks)
            # After `load`: a TIFF is turned by then.
            if turn := _TURNS.get(opened.getexif().get(0x0112, 1)):
                shown = shown.transpose(Image.Transpose[turn])
            if shown.mode != (mode := "L" if grey else "RGB"):
                shown = shown.convert(mode)
            if size is not None and shown.size != size[::-1]:
                shown = ImageOps.fit(shown, size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(shown).reshape(shown.height, shown.width, -1), remarks
    except UnreadableError:
        raise
    except Exception as error:  # decoders raise nearly anything
        raise UnreadableError(printable(error) or type(error).__name__) from error


def _remarks(opened: Image.Image) -> Iterator[str]:
    """Tell what a viewer would show besides."""
    more: Any = opened
    if opened.format in {"GIF", "PNG", "TIFF", "WEBP"} and getattr(more, "is_animated", False):
        yield "with several frames, of which the first is taken"


def _shown(opened: Image.Image, remarks: list[str]) -> Image.Image:
    """Return an image in colour or grey, without transparency."""
    from PIL import Image

    if opened.format == "JPEG" and opened.mode == "CMYK" and "adobe" not in opened.info:
        raise UnreadableError("CMYK without Adobe's mark: viewers disagree on its colours")
    opened.load()
    if "transparency" not in opened.info and opened.mode not in {"LA", "PA", "RGBA", "La", "RGBa"}:
        return _in_srgb(opened, remarks)
    layer = (opened.convert("LA") if opened.mode == "La" else opened).convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return _in_srgb(opened if opened.mode != "La" else layer, remarks)
    remarks.append("with transparency, shown on white")
    flat = Image.new("RGBA", layer.size, "white")
    flat.alpha_composite(layer)
    flat.info.update(opened.info)
    flat.info.pop("transparency", None)
    return _in_srgb(flat, remarks)


def _in_srgb(image: Image.Image, remarks: list[str]) -> Image.Image:
    """Apply the colour profile that came with an image, as viewers do; most are sRGB's own."""
    profile = image.info.get("icc_profile") or b""
    is_lab = image.mode == "LAB"
    if not is_lab and (not profile or b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile):
        return image
    from PIL import ImageCms

    target = ImageCms.createProfile("sRGB")
    try:
        if is_lab:
            source: Any = ImageCms.createProfile("LAB")
            turned = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        else:
            base = image if image.mode in {"L", "CMYK"} else image.convert("RGB")
            turned = ImageCms.profileToProfile(base, io.BytesIO(profile), target, outputMode="RGB")
    except ImageCms.PyCMSError:
        if is_lab:
            raise
        remarks.append("with a colour profile that cannot be applied")
        return image
    assert turned is not None
    remarks.append("turned into sRGB from another colour space")
    return turned
