"""A served file is seen as the record that samestep-records write would have made of it."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input.prepare.conversion import Conversion, convert
from input.views.crop import eval_view
from input.views.files import eval_file, orientation
from tests.conftest import picture

SIZE = 16
KEEP = Conversion("keep", None, 90, 10**9)
served = tf.function(
    lambda image: eval_file(image, SIZE), input_signature=[tf.TensorSpec([], tf.string)]
)
turned = tf.function(orientation, input_signature=[tf.TensorSpec([], tf.string)])


def saved(kind: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    picture(1, 40, 24).convert(mode).save(file, kind, **options)
    return file.getvalue()


def exif(value: int) -> Image.Exif:
    found = Image.Exif()
    found[0x010F] = "a maker of cameras"
    found[0x0112] = value
    return found


FILES = {
    "jpeg": saved("JPEG"),
    "grey jpeg": saved("JPEG", "L"),
    "png": saved("PNG"),
    "png with alpha": saved("PNG", "RGBA"),
    "webp": saved("WEBP"),
    "lossless webp": saved("WEBP", "RGBA", lossless=True),
    "gif": saved("GIF"),
    "animated gif": saved("GIF", save_all=True, append_images=[picture(2, 40, 24)]),
    "bmp": saved("BMP"),
    "bmp with alpha": saved("BMP", "RGBA"),
    "grey bmp": saved("BMP", "L"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_seen_as_its_record(name):
    record = convert(FILES[name], KEEP).content
    expected = eval_view(tf.constant(record), SIZE)
    np.testing.assert_array_equal(served(FILES[name]), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("value", range(10))
def test_orientation(kind, value):
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    content = saved(kind, exif=exif(value), **options)
    assert int(turned(content)) == (value if value in range(1, 9) else 1)
    record = convert(content, KEEP._replace(encoding="raw"))
    pixels = np.frombuffer(record.content, np.uint8).reshape(*record.size[::-1], 3)
    expected = eval_view(tf.constant(pixels), SIZE)
    difference = np.abs(served(content).numpy().astype(int) - expected.numpy())
    # A JPEG's part is decoded without its neighbours: input.views.crop.
    assert difference.max() <= (6 if kind == "JPEG" else 0)


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_exif_of_either_byte_order(order):
    number = {"little": "<", "big": ">"}[order]
    tiff = {"little": b"II", "big": b"MM"}[order]
    tiff += struct.pack(f"{number}HIHHHIHH", 42, 8, 1, 0x0112, 3, 1, 6, 0)
    jpeg = saved("JPEG")
    segment = b"Exif\0\0" + tiff
    content = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
    assert int(turned(content)) == 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_no_orientation_and_no_crash(kind):
    content = saved(kind, exif=exif(6))
    start = content.index(b"a maker") - 60
    for at in range(start, start + 90):
        for byte in (0, 255):
            changed = content[:at] + bytes([byte]) + content[at + 1 :]
            assert int(turned(changed)) in range(1, 9)
    for end in range(3, len(content), 37):
        assert int(turned(content[:end])) in range(1, 9)
