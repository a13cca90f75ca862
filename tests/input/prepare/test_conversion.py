"""Every format and option, against Pillow and against what TensorFlow reads from the record."""

import io
import os
import warnings
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin

from input.prepare.conversion import Conversion, Converted, convert, quiet_pillow, read_image
from tests.conftest import encoded, picture
from tests.input.prepare.conftest import BAD
from tests.input.prepare.odd_images import ODD

ACCURATE = {"dct_method": "INTEGER_ACCURATE"}  # as in training
KEEP = Conversion("keep", None, 90, 10**6)


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
TENSORFLOW_READS = {
    "grey.png": encoded(picture().convert("L"), "PNG"),
    "grey_alpha.png": encoded(picture().convert("LA"), "PNG"),
    "rgb.png": encoded(picture(), "PNG"),
    "rgba.png": encoded(ALPHA, "PNG"),
    "palette.png": encoded(picture().quantize(50), "PNG"),
    "palette_alpha.png": encoded(picture().quantize(50), "PNG", transparency=bytes(range(50))),
    "palette_2_bits.png": encoded(picture().quantize(4), "PNG", bits=2),
    "1_bit.png": encoded(picture().convert("1"), "PNG"),
    "grey.jpg": encoded(picture().convert("L"), "JPEG"),
    "rgb.jpg": encoded(picture(), "JPEG"),
    "rgb_444_progressive.jpg": encoded(picture(), "JPEG", subsampling=0, progressive=True),
    "cmyk.jpg": encoded(picture().convert("CMYK"), "JPEG", quality=95),
    "animated.png": encoded(picture(), "PNG", save_all=True, append_images=[picture(9)]),
    "two_pictures.jpg": encoded(picture(), "MPO", save_all=True, append_images=[picture(9)]),
    "png_inside.jpg": encoded(picture(), "PNG"),
    "upright.jpg": encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0broken"),
    "16_bits.png": encoded(GREY_16, "PNG"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the test's own decoding with Pillow
@pytest.mark.parametrize("name", TENSORFLOW_READS)
def test_what_tensorflow_reads_as_pillow_does_is_kept_byte_for_byte(name):
    content = TENSORFLOW_READS[name]
    assert convert(content, KEEP) == (content, (61, 40), False)
    picture = Image.open(io.BytesIO(content))
    if name == "16_bits.png":  # Pillow's own conversion to 8 bits cuts off at 255
        expected = np.stack([np.asarray(picture) >> 8] * 3, -1).astype(int)
    else:
        expected = rgb(picture)
    decode = tf.io.decode_png if content.startswith(b"\x89") else tf.io.decode_jpeg
    difference = np.abs(decode(content, channels=3).numpy() - expected)
    # JPEG: TensorFlow asks libjpeg for its fast inverse transform, Pillow for the exact one.
    assert difference.max() <= (0 if content.startswith(b"\x89") else 10)
    assert difference.mean() <= 2


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("I;16", "PNG"),
    ],
)
def test_rotated_images_are_stored_upright(mode, kind, orientation):
    image = GREY_16 if mode == "I;16" else picture().convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    content = encoded(image, kind, exif=exif, icc_profile=b"colours")
    stored = convert(content, KEEP)
    if orientation in (0, 1, 9):  # upright, or no orientation at all
        assert stored.content == content
        return
    assert not {"exif", "icc_profile"} & Image.open(io.BytesIO(stored.content)).info.keys()
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert stored.size == upright.size
    if mode == "I;16":
        expected = np.stack([np.asarray(upright) >> 8] * 3, -1).astype(int)
    else:
        expected = rgb(upright)
    decoded = read(stored.content)
    assert decoded.shape == expected.shape
    # A JPEG is encoded again; rotated the wrong way, the mean is above 20.
    assert np.abs(decoded - expected).mean() <= (0 if kind == "PNG" else 3)


@pytest.mark.parametrize(("subsampling", "kept"), [(0, 0), (1, 0), (2, 2)])
def test_rotated_jpeg_keeps_its_chroma(subsampling, kept):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(picture(), "JPEG", exif=exif, subsampling=subsampling, quality=80)
    rotated = convert(content, KEEP).content
    assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(rotated))) == kept


@pytest.mark.filterwarnings("ignore::UserWarning")
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
    content = encoded(picture(width=size[0], height=size[1]), kind, quality=95)
    stored = convert(content, KEEP._replace(encoding="raw", short_side=16))
    width, height = stored.size
    assert min(stored.size) == 16
    assert abs(width / height - size[0] / size[1]) <= 0.5 / 16 * max(size) / min(size)
    expected = rgb(
        picture(width=size[0], height=size[1]).resize((width, height), Image.Resampling.BICUBIC)
    )
    pixels = np.frombuffer(stored.content, np.uint8).reshape(height, width, 3)
    # A JPEG is made smaller in two steps: while it is decoded, then with Pillow's antialiasing.
    assert np.abs(pixels - expected).mean() <= (0 if kind == "PNG" else 4)
    larger = convert(content, KEEP._replace(short_side=1000))
    assert larger.content == content


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_rotated_image_is_upright_in_every_format_that_can_be_rotated(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True} if kind == "WEBP" else {}
    rotated = picture().transpose(Image.Transpose.ROTATE_90)
    stored = convert(encoded(rotated, kind, exif=exif, **options), KEEP)
    assert stored.size == (61, 40)
    assert np.abs(read(stored.content) - rgb(picture())).mean() < (4 if kind == "JPEG" else 1e-9)


def test_quality_is_that_of_what_is_encoded():
    png = encoded(picture(width=300, height=200), "PNG")
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


@pytest.mark.parametrize("name", [name for name in BAD if not name.endswith(".txt")])
def test_what_is_no_image_says_why(name):
    content, reason = BAD[name]
    with pytest.raises(Exception, match=reason):  # Pillow raises many kinds
        convert(content, KEEP)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch, kind):
    content = encoded(picture(0, 90, 100), kind)

    def decoding(image):
        raise AssertionError("decoded")

    assert convert(content, KEEP._replace(max_pixels=9000)).size == (100, 90)
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoding)
    with pytest.raises(ValueError, match="100 x 90 pixels are more than --max_pixels=8999: "):
        convert(content, KEEP._replace(max_pixels=8999))
    with pytest.raises(ValueError, match="100 x 90 pixels are more than --max_pixels=8999: "):
        convert(np.zeros((90, 100, 3), np.uint8), KEEP._replace(max_pixels=8999))


def test_only_files_that_can_be_images_are_read(tmp_path):
    path = tmp_path / "x.JPG"
    path.write_bytes(b"content")
    assert read_image(path) == b"content"
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "nowhere.png").symlink_to("nothing")
    for name in ("pipe.png", "nowhere.png"):
        with pytest.raises(ValueError, match="neither a file nor a link to one"):
            read_image(tmp_path / name)


def test_pillows_limit_and_warnings_come_back():
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_pillow():
            assert Image.MAX_IMAGE_PIXELS is None
            warnings.warn_explicit("nobody helped", UserWarning, "x.py", 1, module="PIL.Image")
            warnings.warn_explicit("another's", UserWarning, "x.py", 1, module="other")
        warnings.warn_explicit("from now on", UserWarning, "x.py", 1, module="PIL.Image")
    assert [str(each.message) for each in caught] == ["another's", "from now on"]
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("short_side", [None, 16], ids=["whole", "smaller"])
@pytest.mark.parametrize("encoding", ["keep", "jpeg", "raw"])
def test_odd_files_are_refused_or_decode_in_training_to_what_pillow_sees(encoding, short_side):
    how = Conversion(encoding, short_side, 95, 10**8)
    taken = {}
    with quiet_pillow():
        for name, content in ODD.items():
            try:
                taken[name] = convert(content, how)
            except Exception:  # of any kind: the writer names the file and why
                continue
        wrong = {name: _difference(ODD[name], record) for name, record in taken.items()}
    # Little where what is no usual JPEG is encoded again; much where noise is made smaller.
    allowed = 2 if encoding != "jpeg" and not short_side else 7
    assert {name: found for name, found in wrong.items() if not found <= allowed} == {}
    assert 110 < len(taken) < 150  # of 214


def _difference(content: bytes, record: Converted) -> float:
    """The mean difference between what training sees of a record, and Pillow of its file."""
    width, height = record.size
    if record.raw:
        seen = np.frombuffer(record.content, np.uint8).reshape(height, width, 3)
    else:
        png = record.content.startswith(b"\x89PNG")
        decode = tf.io.decode_png if png else partial(tf.io.decode_jpeg, **ACCURATE)
        seen = decode(record.content, channels=3).numpy()
    picture = Image.open(io.BytesIO(content))
    if picture.mode.startswith("I"):  # 16 bits: Pillow clips them, and does not scale
        return 0.0
    picture = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    return float(np.abs(np.asarray(picture).astype(int) - seen).mean())
