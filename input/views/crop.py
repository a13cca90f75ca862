"""One image: JPEG or PNG bytes, or pixels, -> the square the model sees. TensorFlow graph code."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from input.records import Schema
from input.views.window import CROP_LOG_RATIO, CROP_TRIES


class Crop(NamedTuple):
    """The random parameters of a train_view. Leading dimensions are images."""

    sizes: tf.Tensor  # float32[.., tries, 2]: height and width, for an image of area 1
    corner: tf.Tensor  # float32[.., 2] in [0, 1): top and left, as a fraction of the free space
    mirrored: tf.Tensor  # bool[..]


def random_crop(uniforms: tf.Tensor, min_area: float, flip: bool) -> Crop:
    """float32[.., UNIFORMS] in [0, 1) -> Crop of min_area..1 of the area, side ratio 3/4..4/3.

    Szegedy et al. 2015 (arXiv:1409.4842, sec. 6). For a whole micro-batch at once: small operations
    cost 1 us each, more than the decoding of a 28-pixel image takes.
    """
    area, ratio, corner, mirrored = tf.split(uniforms, [CROP_TRIES, CROP_TRIES, 2, 1], axis=-1)
    scale = tf.sqrt(min_area + (1.0 - min_area) * area)
    stretch = tf.exp(CROP_LOG_RATIO * (ratio - 0.5))  # square root of width / height
    sizes = tf.stack([scale / stretch, scale * stretch], axis=-1)
    return Crop(sizes, corner, mirrored[..., 0] < (0.5 if flip else 0.0))


def raw_pixels(content: tf.Tensor, size: tf.Tensor, schema: Schema) -> tf.Tensor:
    """Raw pixels of a record, row by row, and int32[2] height and width -> [h, w, 3]."""
    shape = tf.concat([size, [schema.channels]], axis=0)
    pixels = tf.reshape(tf.io.decode_raw(content, schema.raw_dtype), shape)
    return tf.tile(pixels, [1, 1, 3 // schema.channels]) if schema.channels == 1 else pixels


def train_view(image: tf.Tensor, size: int, crop: Crop, antialias: bool = False) -> tf.Tensor:
    """JPEG or PNG bytes, or pixels [h, w, 3] -> [size, size, 3] in uint8, or the pixels' own dtype.

    The first of the crop's sizes that fits into the image, else the largest square, stretched to
    [size, size] and mirrored if the crop says so.
    """

    def window(extent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        side = tf.sqrt(tf.reduce_prod(tf.cast(extent, tf.float32)))
        sizes = tf.cast(tf.round(crop.sizes * side), tf.int32)
        fits = tf.reduce_all((sizes >= 1) & (sizes <= extent), axis=1)
        sizes = tf.concat([sizes, tf.fill([1, 2], tf.reduce_min(extent))], axis=0)
        found = tf.gather(sizes, tf.argmax(tf.concat([fits, [True]], axis=0)))
        room = tf.cast(extent - found + 1, tf.float32)
        return tf.cast(crop.corner * room, tf.int32), found

    view = _cut(image, window, size, antialias)
    return tf.cond(crop.mirrored, lambda: tf.reverse(view, [1]), lambda: view)


def eval_view(image: tf.Tensor, size: int, crop: float = 1.0, antialias: bool = False) -> tf.Tensor:
    """As train_view, but the central square whose side is `crop` of the short side."""

    def window(extent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        short = tf.cast(tf.reduce_min(extent), tf.float32)
        side = tf.maximum(tf.cast(tf.round(short * crop), tf.int32), 1)
        return (extent - side) // 2, tf.stack([side, side])

    return _cut(image, window, size, antialias)


def _cut(
    image: tf.Tensor,
    window: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    size: int,
    antialias: bool,
) -> tf.Tensor:
    """A window of an image, resized to [size, size, 3].

    window: height and width of the image -> top and left, height and width of the part; int32[2].
    """

    def jpeg():
        # The rest of the image is skipped, not decoded: 788 images/s/core, against 694 for decoding
        # all of it first (109 KB photographs). The price: where chroma is stored at half width, the
        # outermost columns lack the neighbours they are interpolated from.
        corner, extent = window(tf.io.extract_jpeg_shape(image)[:2])
        return tf.io.decode_and_crop_jpeg(
            image,
            tf.concat([corner, extent], axis=0),
            channels=3,
            # Pillow's pixels, to the bit; the default is up to 17 levels off, and 2 % faster.
            dct_method="INTEGER_ACCURATE",
        )

    def part(pixels):
        corner, extent = window(tf.shape(pixels)[:2])
        return tf.slice(pixels, tf.pad(corner, [[0, 1]]), tf.concat([extent, [3]], axis=0))

    if image.dtype == tf.string:
        is_jpeg = tf.io.is_jpeg(image)
        pixels = tf.cond(is_jpeg, jpeg, lambda: part(tf.io.decode_png(image, channels=3)))
    else:
        pixels = part(image)
    # With antialiasing it costs twice the decode.
    resized = tf.image.resize(pixels, [size, size], antialias=antialias)
    if image.dtype != tf.float32:
        resized = tf.cast(resized + 0.5, tf.uint8)  # rounded; between 0 and 255 as the pixels are
    return tf.ensure_shape(resized, [size, size, 3])
