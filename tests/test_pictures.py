"""Pixels come out as a viewer shows them, for every mode that Pillow reads, or are refused."""

from __future__ import annotations

import io

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms

from advlearn.data import pictures
from advlearn.data.pictures import FORMATS, UnreadableError, look, pixels

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def shown(body: bytes, suffix: str = ".png", **options: object):
    array, remarks = pixels(look(body, suffix), **options)
    return array, remarks


def colour(body: bytes, suffix: str = ".png") -> tuple[int, ...]:
    """Return the colour of the first pixel."""
    return tuple(int(value) for value in shown(body, suffix)[0][0, 0])


def paletted(index: int, **more: object) -> Image.Image:
    image = Image.new("P", (3, 2), index)
    image.putpalette([*RED, *GREEN, *BLUE])
    image.info.update(more)
    return image


def checked(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (3, 2), value)


# --- modes without transparency -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "suffix", "right"),
    [
        (saved(checked("1", 1)), ".png", WHITE),
        (saved(checked("1", 0)), ".png", (0, 0, 0)),
        (saved(checked("1", 1), "TIFF"), ".tif", WHITE),
        (saved(checked("1", 1), "PPM"), ".pbm", WHITE),
        (saved(checked("L", 77)), ".png", (77, 77, 77)),
        (saved(checked("L", 77), "BMP"), ".bmp", (77, 77, 77)),
        (saved(paletted(1)), ".png", GREEN),
        (saved(paletted(2), "GIF"), ".gif", BLUE),
        (saved(paletted(2), "BMP"), ".bmp", BLUE),
        (saved(checked("RGB", (1, 2, 3))), ".png", (1, 2, 3)),
        (saved(checked("RGB", (1, 2, 3)), "PPM"), ".ppm", (1, 2, 3)),
        (saved(checked("RGB", (1, 2, 3)), "WEBP", lossless=True), ".webp", (1, 2, 3)),
        (saved(checked("RGBA", (1, 2, 3, 255))), ".png", (1, 2, 3)),
        (saved(checked("LA", (9, 255))), ".png", (9, 9, 9)),
        (b"P5 1 1 3 \x01", ".pgm", (85, 85, 85)),  # a scale of its own, 0 to 3
    ],
)
def test_opaque_modes(body: bytes, suffix: str, right: tuple[int, ...]) -> None:
    assert colour(body, suffix) == right
    assert shown(body, suffix)[1] == []
    assert shown(body, suffix, grey=True)[0].shape[2] == 1


def test_ycbcr_and_hsv_become_their_colour() -> None:
    forms = [("JPEG", ".jpg")]
    if int(PIL.__version__.partition(".")[0]) >= 13:  # earlier ones cannot read the TIFF they write
        forms.append(("TIFF", ".tif"))
    for form, suffix in forms:
        ycbcr = checked("RGB", (200, 30, 40)).convert("YCbCr")
        assert np.abs(np.subtract(colour(saved(ycbcr, form), suffix), (200, 30, 40))).max() <= 3
    hsv = Image.new("RGB", (1, 1), (200, 30, 40)).convert("HSV")
    hsv.format = "TIFF"
    assert np.abs(np.subtract(pixels(hsv)[0][0, 0], (200, 30, 40))).max() <= 4


def test_lab_becomes_its_colour() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    for right in ((200, 30, 40), (90, 160, 90), (128, 128, 128)):
        image = ImageCms.profileToProfile(checked("RGB", right), srgb, lab, outputMode="LAB")
        body = saved(image, "TIFF")
        assert np.abs(np.subtract(colour(body, ".tif"), right)).max() <= 4
        assert shown(body, ".tif")[1] == ["turned into sRGB from another colour space"]


@pytest.mark.parametrize("right", [RED, GREEN, (10, 200, 100), WHITE, (0, 0, 0)])
def test_cmyk_of_a_jpeg_is_not_a_negative(right: tuple[int, ...]) -> None:
    cmyk = checked("RGB", right).convert("CMYK")
    body = saved(Image.new("CMYK", (16, 16), cmyk.getpixel((0, 0))), "JPEG", quality=100)
    assert b"Adobe" in body
    assert np.abs(np.subtract(colour(body, ".jpg"), right)).max() <= 4
    assert np.abs(np.subtract(colour(saved(cmyk, "TIFF"), ".tif"), right)).max() <= 1


@pytest.mark.parametrize(
    ("body", "suffix"),
    [
        (saved(checked("I", 70_000), "TIFF"), ".tif"),
        (saved(checked("F", 0.5), "TIFF"), ".tif"),
        (saved(checked("I;16", 7_000)), ".png"),
        (saved(checked("I;16", 7_000), "TIFF"), ".tif"),
        (b"P5 1 1 65535 ab", ".pgm"),
        (b"Pf 1 1 -1.0 abcd", ".ppm"),
    ],
)
def test_more_than_eight_bits_are_refused_in_words(body: bytes, suffix: str) -> None:
    with pytest.raises(UnreadableError, match="more than 8 bits"):
        shown(body, suffix)


def test_sixteen_bits_of_a_colour_png_are_refused_too() -> None:
    """Pillow would keep the upper byte alone, without a word."""
    import struct
    import zlib

    from tests.test_hostile_files import chunk

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">HHH", 0x1234, 0xFFFF, 0x00FF)))
    body = b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")
    with pytest.raises(UnreadableError, match="more than 8 bits for each channel: a PNG with 16"):
        colour(body)


# --- transparency ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "suffix", "right"),
    [
        (saved(checked("RGBA", (255, 0, 0, 0))), ".png", WHITE),
        (saved(checked("RGBA", (255, 0, 0, 51))), ".png", (255, 204, 204)),
        (saved(checked("LA", (0, 51))), ".png", (204, 204, 204)),
        (saved(paletted(1), transparency=1), ".png", WHITE),
        (saved(paletted(1), transparency=bytes([255, 51])), ".png", (204, 255, 204)),
        (saved(paletted(1), "GIF", transparency=1), ".gif", WHITE),
        (saved(checked("L", 5), transparency=5), ".png", WHITE),
        (saved(checked("1", 0), transparency=0), ".png", WHITE),
        (saved(checked("RGB", (1, 2, 3)), transparency=(1, 2, 3)), ".png", WHITE),
        (saved(checked("RGBA", (0, 0, 0, 0)), "WEBP", lossless=True), ".webp", WHITE),
        (saved(checked("RGBA", (0, 0, 255, 0)), "TIFF"), ".tif", WHITE),
    ],
)
def test_transparency_is_shown_on_white_and_told(body: bytes, suffix: str, right) -> None:
    array, remarks = shown(body, suffix)
    assert tuple(array[0, 0]) == right
    assert remarks == ["with transparency, shown on white"]
    assert shown(body, suffix, grey=True)[0].shape[2] == 1


def test_a_transparent_colour_that_no_pixel_has_changes_nothing() -> None:
    body = saved(paletted(1), transparency=0)
    assert (colour(body), shown(body)[1]) == (GREEN, [])


def test_pa_is_shown_on_white() -> None:
    image = Image.new("PA", (2, 2), (1, 51))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.format = "TIFF"
    assert tuple(pixels(image)[0][0, 0]) == (204, 255, 204)


# --- orientation, profiles, frames ----------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("form", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("TIFF", ".tif")])
def test_pictures_stand_as_the_camera_says(orientation: int, form: str, suffix: str) -> None:
    from PIL import ImageOps

    image = Image.new("RGB", (32, 16))
    image.paste(WHITE, (0, 0, 16, 8))
    image.paste((128, 128, 128), (16, 0, 32, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = saved(image, form, exif=exif)
    right = ImageOps.exif_transpose(Image.open(io.BytesIO(body))).convert("RGB")
    array, _ = shown(body, suffix)
    assert array.shape == (*((16, 32) if orientation < 5 else (32, 16)), 3)
    assert np.array_equal(array, np.asarray(right))
    # A corner where it belongs, whatever Pillow does.
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0)}
    corners |= {5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert array[corners[orientation]].min() > 240


def test_a_broken_exif_is_ignored_as_viewers_do() -> None:
    body = saved(checked("L", 7), "JPEG", exif=b"Exif\0\0no TIFF at all")
    assert shown(body, ".jpg")[0].shape == (2, 3, 3)


def swapped_profile() -> bytes:
    """Return sRGB's profile with red and green exchanged, under another name."""
    body = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    body = body.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")
    return body.replace(b"sRGB", b"none").replace("sRGB".encode("utf-16-be"), b"\0n\0o\0n\0e")


@pytest.mark.parametrize(("form", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp")])
def test_a_colour_profile_is_applied_and_told(form: str, suffix: str) -> None:
    body = saved(Image.new("RGB", (16, 16), RED), form, icc_profile=swapped_profile())
    assert np.abs(np.subtract(colour(body, suffix), GREEN)).max() <= 3
    assert shown(body, suffix)[1] == ["turned into sRGB from another colour space"]


def test_srgbs_own_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    body = saved(checked("RGB", (1, 2, 3)), icc_profile=profile)
    assert (colour(body), shown(body)[1]) == ((1, 2, 3), [])


def test_a_profile_that_cannot_be_applied_is_told() -> None:
    body = saved(checked("RGB", (1, 2, 3)), icc_profile=b"no profile at all")
    assert colour(body) == (1, 2, 3)
    assert shown(body)[1] == ["with a colour profile that cannot be applied"]


@pytest.mark.parametrize(
    ("form", "suffix"), [("GIF", ".gif"), ("WEBP", ".webp"), ("TIFF", ".tif"), ("PNG", ".png")]
)
def test_of_several_frames_the_first_is_taken_and_told(form: str, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 4), value) for value in (BLUE, RED)]
    more = {"lossless": True} if form == "WEBP" else {}
    body = saved(frames[0], form, save_all=True, append_images=frames[1:], **more)
    assert colour(body, suffix) == BLUE
    assert shown(body, suffix)[1] == ["with several frames, of which the first is taken"]


def test_only_the_decoder_of_the_suffix_is_reached() -> None:
    bodies = {
        form: saved(checked("L", 7), form)
        for form in ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "TGA", "PCX", "ICO", "EPS")
    }
    for suffix, formats in FORMATS.items():
        for form, body in bodies.items():
            if form in formats:
                assert look(body, suffix).format == form
            else:
                with pytest.raises(UnreadableError, match="it is no "):
                    look(body, suffix)


def webp_form(form: str, width: int, height: int) -> bytes:
    """Return the head of a WebP file in one of its three forms."""
    if form == "extended":
        sizes = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
        return b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + sizes
    if form == "lossless":
        both = (width - 1) | (height - 1) << 14
        return b"RIFF\x40\0\0\0WEBPVP8L\x20\0\0\0\x2f" + both.to_bytes(4, "little") + bytes(9)
    sizes = b"".join(side.to_bytes(2, "little") for side in (width, height))
    return b"RIFF\x40\0\0\0WEBPVP8 \x20\0\0\0" + bytes(3) + b"\x9d\x01\x2a" + sizes


@pytest.mark.parametrize("form", ["extended", "lossless", "lossy"])
def test_a_large_webp_is_refused_before_pillow_makes_room_for_it(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(Image, "open", lambda *_, **__: opened.append(1) or 1 / 0)
    with pytest.raises(UnreadableError, match=r"6,000 x 5,900 pixels; at most 12,500,000"):
        look(webp_form(form, 5_900, 6_000), ".webp")
    assert not opened
    with pytest.raises(UnreadableError, match="division"):
        look(webp_form(form, 300, 200), ".webp")
    assert opened  # a small one is looked at


@pytest.mark.parametrize("lossless", [True, False])
def test_the_size_of_a_webp_is_read_as_pillow_reads_it(
    lossless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved(Image.new("RGB", (301, 17)), "WEBP", lossless=lossless)
    assert content[12:16] == (b"VP8L" if lossless else b"VP8 ")
    monkeypatch.setattr(pictures, "_MOST_AT_ONCE", 301 * 17)
    assert look(content, ".webp").size == (301, 17)
    monkeypatch.setattr(pictures, "_MOST_AT_ONCE", 301 * 17 - 1)
    with pytest.raises(UnreadableError, match="17 x 301 pixels"):
        look(content, ".webp")
