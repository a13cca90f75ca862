"""The square the model sees: which part of the image, and which pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input import randomness
from input.records import Schema
from input.views.crop import (
    CROP_TRIES,
    Crop,
    eval_view,
    random_crop,
    raw_pixels,
    train_view,
)
from input.views.window import UNIFORMS
from tests.conftest import encoded

RANDOM = np.random.default_rng(0)


def photo(height, width, channels=3) -> np.ndarray:
    """uint8[height, width, 3]: smooth, with some detail; grey if `channels` is 1."""
    coarse = RANDOM.integers(0, 256, (height // 8 + 1, width // 8 + 1, channels), np.uint8)
    coarse = np.broadcast_to(coarse, (*coarse.shape[:2], 3))
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encode(pixels, kind, mode="RGB", **options) -> bytes:
    return encoded(Image.fromarray(pixels).convert(mode), kind, **options)


def decode(content: bytes) -> np.ndarray:
    """uint8[height, width, 3], by Pillow."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def resize(pixels, size) -> np.ndarray:
    """float64[size, size, 3]: bilinear between pixel centres; no more than four pixels count."""
    pixels = pixels.astype(np.float64)
    for axis in (0, 1):
        n = pixels.shape[axis]
        centre = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.floor(centre).astype(int)
        share = (centre - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, n - 1)
        pixels = (1 - share) * pixels.take(low, axis) + share * pixels.take(high, axis)
    return pixels


def part(pixels, top, left, height, width) -> np.ndarray:
    return pixels[top : top + height, left : left + width]


def whole_crop(top, left, side, image, mirrored=False) -> Crop:
    """The Crop that cuts out one square."""
    room = np.array(image.shape[:2]) - side + 1
    return Crop(
        sizes=tf.fill([1, 2], tf.constant(side / np.sqrt(np.prod(image.shape[:2])), tf.float32)),
        corner=tf.constant((np.array([top, left]) + 0.5) / room, tf.float32),
        mirrored=tf.constant(mirrored),
    )


# Which part: images whose pixels are their own coordinates.

POSITIONS = 8  # size of a view that is looked at


@tf.function
def _train_views(uniforms, height, width, min_area, flip):
    row, column = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
    image = tf.cast(tf.stack([row, column, 0 * row], axis=-1), tf.float32)
    crops = random_crop(uniforms, min_area, flip)
    return tf.map_fn(
        lambda crop: train_view(image, POSITIONS, crop),
        crops,
        fn_output_signature=tf.TensorSpec([POSITIONS, POSITIONS, 3], tf.float32),
    )


def windows(uniforms, height, width, min_area=0.08, flip=True):
    """Top, left, height, width and mirrored of each view, read off the views themselves."""
    views = _train_views(uniforms, tf.constant(height), tf.constant(width), min_area, flip).numpy()
    # Sample i lies at corner + (i + 1/2) * extent / POSITIONS - 1/2; the outermost may be clipped.
    first, last = 2, POSITIONS - 3
    rows, columns = views[:, :, 0, 0], views[:, 0, :, 1]
    found = []
    for line in (rows, columns):
        slope = (line[:, last] - line[:, first]) / (last - first)
        extent = slope * POSITIONS
        corner = line[:, first] - (first + 0.5) * slope + 0.5
        found += [np.where(slope < 0, corner + extent, corner), np.abs(extent), slope < 0]
    assert not found[2].any()
    numbers = np.stack([found[0], found[3], found[1], found[4]], axis=1)
    assert np.abs(numbers - numbers.round()).max() < 1e-2
    return numbers.round().astype(int).T, found[5]


def uniforms(count, seed=0):
    return randomness.uniform(seed, 0, np.arange(count), UNIFORMS)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (300, 50), (33, 33)])
def test_the_crop_is_the_first_try_that_fits(height, width):
    drawn = uniforms(300)
    (top, left, crop_height, crop_width), mirrored = windows(drawn, height, width)
    for i, one in enumerate(drawn.astype(np.float64)):
        area = height * width * (0.08 + 0.92 * one[:CROP_TRIES])
        ratio = (4 / 3) ** (2 * one[CROP_TRIES : 2 * CROP_TRIES] - 1)
        sizes = np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)], axis=1)
        fits = (sizes.round() <= (height, width)).all(axis=1)
        size = sizes[fits.argmax()] if fits.any() else [min(height, width)] * 2
        assert np.abs([crop_height[i], crop_width[i]] - np.array(size)).max() <= 0.5 + 1e-3
        assert top[i] == int(one[-3] * (height - crop_height[i] + 1))
        assert left[i] == int(one[-2] * (width - crop_width[i] + 1))
        assert mirrored[i] == (one[-1] < 0.5)


def test_crops_are_distributed_as_they_should_be():
    n, height, width = 4000, 400, 400
    (top, left, crop_height, crop_width), mirrored = windows(uniforms(n, seed=1), height, width)
    assert 0 <= top.min() <= 2
    assert 0 <= left.min() <= 2
    assert (top + crop_height).max() == height
    assert (left + crop_width).max() == width
    area = crop_height * crop_width / (height * width)
    assert 0.079 < area.min() < 0.09
    ratio = crop_width / crop_height
    assert 0.74 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.35
    small = area < 0.7  # where every try fits: uniform
    assert abs(area[small].mean() - (0.08 + 0.7) / 2) < 0.01
    assert abs(np.log(ratio[small]).mean()) < 0.01
    assert abs((top / (height - crop_height + 1))[small].mean() - 0.5) < 0.02
    assert abs((left / (width - crop_width + 1))[small].mean() - 0.5) < 0.02
    assert abs(mirrored.mean() - 0.5) < 0.03


def test_min_area_is_respected():
    (_, _, height, width), _ = windows(uniforms(300), 200, 200, min_area=0.7)
    assert 0.695 < (height * width).min() / 200**2 < 0.72


def test_without_flip_nothing_is_mirrored():
    (_, _, height, _), mirrored = windows(uniforms(100), 64, 96, flip=False)
    assert len(np.unique(height)) > 20
    assert not mirrored.any()


def test_the_same_uniforms_give_the_same_view():
    one, other = uniforms(50), uniforms(50, seed=2)
    views = [_train_views(each, 64, 96, 0.08, True).numpy() for each in (one, one.copy(), other)]
    assert np.array_equal(views[0], views[1])
    assert not np.isclose(views[0], views[2]).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize("crop", [1.0, 0.875, 0.7, 0.001])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (97, 61), (5, 1000), (1, 1)])
def test_evaluation_sees_the_central_square(height, width, crop):
    side = max(1, round(min(height, width) * crop))
    top, left = (height - side) // 2, (width - side) // 2
    image = photo(height, width)
    expected = part(image, top, left, side, side)
    for given in (image, encode(image, "PNG")):
        view = eval_view(tf.constant(given), side, crop)  # the size it has: not a pixel changes
        assert np.array_equal(view, expected)


# Which pixels.


@pytest.mark.parametrize("size", [1, 7, 24, 50])
def test_pixels_are_bilinear(size):
    for height, width in ((24, 24), (40, 31), (3, 200), (1, 1)):
        image = photo(height, width)
        side = min(height, width)
        square = part(image, (height - side) // 2, (width - side) // 2, side, side)
        expected = resize(square, size)
        for given in (image, encode(image, "PNG")):
            view = eval_view(tf.constant(given), size)
            assert view.dtype == tf.uint8
            assert view.shape == (size, size, 3)
            # Half a level is what rounding may cost.
            assert np.abs(view.numpy() - expected).max() <= 0.5 + 1e-3
        view = eval_view(tf.constant(image, tf.float32) / 3, size)
        assert view.dtype == tf.float32
        assert np.abs(view.numpy() - expected / 3).max() < 1e-4


def test_a_crop_is_stretched_and_mirrored():
    image = photo(60, 80)
    for given in (image, encode(image, "PNG"), encode(image, "JPEG", subsampling=0)):
        pixels = decode(given) if isinstance(given, bytes) else given
        crop = Crop(
            sizes=tf.constant([[9.0, 9.0], [0.5, 0.7]]),  # the first is too large
            corner=tf.constant([0.25, 0.5]),
            mirrored=tf.constant(True),
        )
        height, width = round(0.5 * np.sqrt(4800)), round(0.7 * np.sqrt(4800))
        top, left = int(0.25 * (60 - height + 1)), int(0.5 * (80 - width + 1))
        expected = resize(part(pixels, top, left, height, width), 32)[:, ::-1]
        view = train_view(tf.constant(given), 32, crop).numpy()
        assert np.abs(view - expected).max() <= 0.5 + 1e-3


def test_white_stays_white_and_black_black():
    for level in (0, 255):
        image = np.full((31, 17, 3), level, np.uint8)
        assert (eval_view(tf.constant(image), 23).numpy() == level).all()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["grey", 0, 1, 2])
def test_a_part_of_a_jpeg_is_the_part_of_pillows_pixels(subsampling, progressive):
    for height, width in ((40, 56), (67, 33), (17, 16)):
        channels, mode = (1, "L") if subsampling == "grey" else (3, "RGB")
        options = {} if subsampling == "grey" else {"subsampling": subsampling}
        image = photo(height, width, channels)
        content = encode(image, "JPEG", mode, quality=90, progressive=progressive, **options)
        pixels = decode(content)
        side = min(height, width) // 2 + 1
        for top, left in ((0, 0), (3, 5), (height - side, width - side), (1, width - side - 1)):
            crop = whole_crop(top, left, side, image)
            view = train_view(tf.constant(content), side, crop).numpy()
            expected = part(pixels, top, left, side, side)
            if subsampling in (1, 2):
                # Chroma at half width is interpolated; the outermost columns miss a neighbour.
                view, expected = view[:, 1:-1], expected[:, 1:-1]
            assert np.array_equal(view, expected)


def adam7(pixels) -> bytes:
    """uint8[height, width, 3] -> interlaced PNG (which Pillow reads, but does not write)."""
    steps = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2)]
    rows = b""
    for top, down, left, right in [*steps, (1, 2, 0, 1)]:
        for row in pixels[top::down, left::right]:
            rows += b"\0" + row.tobytes() if row.size else b""
    return png(*pixels.shape[1::-1], rows, interlaced=1)


def png(width, height, rows, interlaced=0) -> bytes:
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def other_files():
    image = photo(24, 24)
    yield "grey PNG", encode(image, "PNG", "L")
    yield "palette PNG", encode(image, "PNG", "P")
    yield "bilevel PNG", encode(image, "PNG", "1")
    yield "PNG with alpha", encode(image, "PNG", "RGBA")
    yield "grey PNG with alpha", encode(image, "PNG", "LA")
    yield "interlaced PNG", adam7(image)
    yield "CMYK JPEG", encode(image, "JPEG", "CMYK", subsampling=0)


@pytest.mark.parametrize(("name", "content"), list(other_files()))
def test_every_kind_of_file_is_what_pillow_sees(name, content):
    assert np.array_equal(eval_view(tf.constant(content), 24), decode(content))


@pytest.mark.parametrize(
    ("width", "height"), [(0, 5), (2**31, 1), (1, 2**32 - 1), (2**31 - 1, 1), (2**17, 2**17)]
)
def test_a_png_that_lies_about_its_size_is_an_error(width, height):
    content = tf.constant(png(width, height, bytes(64)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        eval_view(content, 4)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("raw_shape", [None, (2, 5, 1), (2, 5, 3)])
def test_raw_pixels_are_those_of_the_record(dtype, raw_shape):
    pixels = (RANDOM.random(raw_shape or (2, 5, 3)) * 255).astype(dtype)
    schema = Schema(raw_dtype=dtype, raw_shape=raw_shape)
    found = raw_pixels(tf.constant(pixels.tobytes()), tf.constant([2, 5]), schema)
    assert found.dtype == dtype
    assert np.array_equal(found, np.broadcast_to(pixels, (2, 5, 3)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_and_thin_images(height, width):
    image = np.full((height, width, 3), 77, np.uint8)
    crops = random_crop(uniforms(20), 0.08, flip=True)
    for given in (image, encode(image, "PNG"), encode(image, "JPEG", quality=100)):
        for crop in zip(*crops, strict=True):
            view = train_view(tf.constant(given), 5, Crop(*crop))
            assert (view.numpy() == 77).all()
