"""Every format and option, against Pillow and against what TensorFlow reads from the record."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input.prepare.conversion import Conversion, convert

KEEP = Conversion("keep", None, 90, 10**6)


def picture(width=61, height=40) -> Image.Image:
    """Smooth colours: what JPEG changes little and a wrong turn changes much."""
    y, x = np.mgrid[:height, :width]
    channels = (x * 255 // width, y * 255 // height, x * y * 255 // (width * height))
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(content: bytes) -> np.ndarray:
    """What training sees of it: int[h, w, 3]."""
    return tf.io.decode_image(content, channels=3, expand_animations=False).numpy().astype(int)


def rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


ALPHA = Image.merge("RGBA", [*picture().split(), picture().split()[1]])
OTHERS = {
    "webp": encoded(picture(), "WEBP", quality=80),
    "webp_lossless": encoded(picture(), "WEBP", lossless=True),
    "webp_alpha": encoded(ALPHA, "WEBP", lossless=True, exact=True),
    "bmp": encoded(picture(), "BMP"),
    "bmp_palette": encoded(picture().quantize(16), "BMP"),
    "gif": encoded(picture().quantize(64), "GIF"),
    "gif_transparent": encoded(picture().quantize(64), "GIF", transparency=3),
    "gif_grey": encoded(picture().convert("L"), "GIF"),
    "gif_animated": encoded(
        picture().quantize(64), "GIF", save_all=True, append_images=[Image.new("P", (61, 40), 5)]
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_tensorflow_does_not_read_becomes_png(name):
    """Lossless; of several pictures the first, and of alpha nothing."""
    stored = convert(OTHERS[name], KEEP)
    assert stored.content.startswith(b"\x89PNG")
    assert stored.size == (61, 40)
    expected = rgb(Image.open(io.BytesIO(OTHERS[name])))
    np.testing.assert_array_equal(read(stored.content), expected)
    if name in ("webp_alpha", "webp_lossless", "bmp"):
        np.testing.assert_array_equal(expected, rgb(picture()))


GREY_16 = Image.fromarray((np.arange(40 * 61).reshape(40, 61) * 26).astype(np.uint16))
JPEGS_AND_PNGS = {
    "rgb.jpg": encoded(picture(), "JPEG", quality=95),
    "grey.jpg": encoded(picture().convert("L"), "JPEG", quality=95),
    "cmyk.jpg": encoded(picture().convert("CMYK"), "JPEG", quality=95),
    "rgba.png": encoded(ALPHA, "PNG"),
    "palette.png": encoded(picture().quantize(50), "PNG", transparency=bytes(range(50))),
    "1_bit.png": encoded(picture().convert("1"), "PNG"),
    "grey_alpha.png": encoded(picture().convert("LA"), "PNG"),
    "16_bits.png": encoded(GREY_16, "PNG"),
}


@pytest.mark.parametrize("name", JPEGS_AND_PNGS)
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_encoded_again_it_looks_as_it_did(name, encoding):
    content = JPEGS_AND_PNGS[name]
    stored = convert(content, KEEP._replace(encoding=encoding, quality=95))
    before = read(content)
    if encoding == "jpeg":
        assert (stored.content == content) == name.endswith(".jpg")
        assert stored.content.startswith(b"\xff\xd8")
        assert np.abs(read(stored.content) - before).mean() < 4
        return
    assert stored.raw
    pixels = np.frombuffer(stored.content, np.uint8).reshape(40, 61, 3).astype(int)
    # JPEG: TensorFlow's transform is the fast one here, Pillow's the exact one.
    assert np.abs(pixels - before).max() <= (10 if name.endswith(".jpg") else 0)
    assert np.abs(pixels - before).mean() < 1.5


@pytest.mark.parametrize("size", [(61, 40), (40, 61), (400, 20), (17, 16)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_short_side_is_made_smaller_and_never_larger(size, kind):
    content = encoded(picture(*size), kind, quality=95)
    stored = convert(content, KEEP._replace(encoding="raw", short_side=16))
    width, height = stored.size
    assert min(stored.size) == 16
    assert abs(width / height - size[0] / size[1]) <= 0.5 / 16 * max(size) / min(size)
    expected = rgb(picture(*size).resize((width, height), Image.Resampling.BICUBIC))
    pixels = np.frombuffer(stored.content, np.uint8).reshape(height, width, 3)
    # A JPEG is made smaller in two steps: while it is decoded, then with Pillow's antialiasing.
    assert np.abs(pixels - expected).mean() <= (0 if kind == "PNG" else 4)
    larger = convert(content, KEEP._replace(short_side=1000))
    assert larger.content == content


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_image_is_upright_in_every_format_that_can_be_turned(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True} if kind == "WEBP" else {}
    turned = picture().transpose(Image.Transpose.ROTATE_90)
    stored = convert(encoded(turned, kind, exif=exif, **options), KEEP)
    assert stored.size == (61, 40)
    assert np.abs(read(stored.content) - rgb(picture())).mean() < (4 if kind == "JPEG" else 1e-9)


def test_quality_is_that_of_what_is_encoded():
    png = encoded(picture(300, 200), "PNG")
    sizes = [
        len(convert(png, KEEP._replace(encoding="jpeg", quality=quality)).content)
        for quality in (30, 60, 90)
    ]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_stored_without_loss(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, channels), np.uint8)
    stored = convert(pixels, KEEP)
    np.testing.assert_array_equal(read(stored.content), np.broadcast_to(pixels, (9, 7, 3)))
    raw = convert(pixels, KEEP._replace(encoding="raw"))
    assert raw.content == np.broadcast_to(pixels, (9, 7, 3)).tobytes()
    assert convert(pixels, KEEP._replace(encoding="jpeg")).content.startswith(b"\xff\xd8")
