"""Any image file that samestep-records write takes, as a served model gets it, in the graph.

What a record holds has been made upright, and JPEG or PNG, before training; see
input.prepare.conversion. Here the same is done to a file as a camera or a browser sends it.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from input.views.crop import eval_view

_EXIF = int.from_bytes(b"Exif", "big")
_PNG_EXIF, _WEBP_EXIF = (int.from_bytes(name, "big") for name in (b"eXIf", b"EXIF"))
_ORIENTATION = 0x0112  # EXIF 2.32, 4.6.4: 1 is upright, 2 to 8 are rotated or mirrored


def eval_file(image: tf.Tensor, size: int, crop: float = 1.0, antialias: bool = False) -> tf.Tensor:
    """Bytes of a JPEG, PNG, WebP, GIF or BMP file -> uint8[size, size, 3], as eval_view.

    Of an animation the first picture. An orientation in its EXIF is followed.
    """
    turned = orientation(image)
    stored = (turned == 1) & (tf.io.is_jpeg(image) | _begins(image, b"\x89PNG"))
    return tf.cond(
        stored,
        lambda: eval_view(image, size, crop, antialias),
        lambda: eval_view(_upright(_pixels(image), turned), size, crop, antialias),
    )


def orientation(image: tf.Tensor) -> tf.Tensor:
    """Bytes of a file -> int64[] 1 to 8, as its EXIF says; 1 where it says nothing."""
    content = tf.io.decode_raw(image, tf.uint8)
    length = tf.size(content, tf.int64)

    def number(at: tf.Tensor, size: int, little: tf.Tensor | bool = False) -> tf.Tensor:
        """The integers at some places; bytes behind the end are 0."""
        places = at[..., None] + tf.range(size, dtype=tf.int64)
        inside = (places >= 0) & (places < length)
        values = tf.gather(content, tf.where(inside, places, 0))
        values = tf.cast(values, tf.int64) * tf.cast(inside, tf.int64)
        weights = 256 ** np.arange(size)
        weights = tf.where(little, weights, weights[::-1])
        return tf.reduce_sum(values * weights, axis=-1)

    def exif_of(start: int, step: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
        """Where the EXIF's own header is. step: place of a part -> the next, and its EXIF or -1."""
        _, found = tf.while_loop(
            lambda at, found: (at < length) & (found < 0),
            lambda at, found: step(at),
            (_64(start), _64(-1)),
        )
        return found

    def jpeg_segment(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # ITU T.81, B.1.1.4
        marker = number(at, 2)
        is_exif = (marker == 0xFFE1) & (number(at + 4, 4) == _EXIF)
        following = at + tf.where(marker == 0xFFFF, _64(1), 2 + number(at + 2, 2))
        ends = (marker < 0xFF00) | (marker == 0xFFDA)
        return tf.where(ends, length, following), tf.where(is_exif, at + 10, _64(-1))

    def png_chunk(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # PNG, 5.3
        is_exif = number(at + 4, 4) == _PNG_EXIF
        return at + 12 + number(at, 4), tf.where(is_exif, at + 8, _64(-1))

    def webp_chunk(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # RFC 9649, 2.3
        size, is_exif = number(at + 4, 4, little=True), number(at, 4) == _WEBP_EXIF
        prefix = tf.where(number(at + 8, 4) == _EXIF, _64(6), _64(0))
        return at + 8 + size + size % 2, tf.where(is_exif, at + 8 + prefix, _64(-1))

    exif = tf.case(
        [
            (tf.io.is_jpeg(image), lambda: exif_of(2, jpeg_segment)),
            (_begins(image, b"\x89PNG"), lambda: exif_of(8, png_chunk)),
            (_begins(image, b"RIFF"), lambda: exif_of(12, webp_chunk)),
        ],
        default=lambda: _64(-1),
    )

    def said() -> tf.Tensor:  # TIFF 6.0, section 2
        little = number(exif, 1) == ord("I")
        first = exif + number(exif + 4, 4, little)
        entries = first + 2 + 12 * tf.range(number(first, 2, little))
        own = tf.boolean_mask(entries, number(entries, 2, little) == _ORIENTATION)
        value = tf.reduce_max(tf.concat([number(own + 8, 2, little), [_64(1)]], axis=0))
        return tf.where(value <= 8, value, _64(1))

    return tf.cond(exif < 0, lambda: _64(1), said)


def _pixels(image: tf.Tensor) -> tf.Tensor:
    """A file -> uint8[h, w, 3], as it is stored."""

    def bmp() -> tf.Tensor:
        stored = tf.io.decode_bmp(image)  # 1, 3 or 4 channels, as the file has them
        return tf.cond(
            tf.shape(stored)[2] == 1,
            lambda: tf.tile(stored[..., :1], [1, 1, 3]),
            lambda: stored[..., :3],
        )

    def gif() -> tf.Tensor:
        return tf.io.decode_image(image, channels=3, expand_animations=False)

    return tf.case(
        [
            (
                tf.io.is_jpeg(image),
                lambda: tf.io.decode_jpeg(image, 3, dct_method="INTEGER_ACCURATE"),
            ),
            (_begins(image, b"RIFF"), lambda: tf.io.decode_webp(image, channels=3)[0]),
            (_begins(image, b"GIF8"), gif),
            (_begins(image, b"BM"), bmp),
        ],
        default=lambda: tf.io.decode_png(image, channels=3),
    )


def _upright(pixels: tf.Tensor, turned: tf.Tensor) -> tf.Tensor:
    """Pixels [h, w, 3] -> the same as the orientation wants them seen."""
    pixels = tf.cond(turned >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    for axis, flipped in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
        flips = tf.reduce_any(turned == tf.constant(flipped, tf.int64))
        pixels = tf.cond(flips, lambda p=pixels, a=axis: tf.reverse(p, [a]), lambda p=pixels: p)
    return pixels


def _begins(image: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.strings.substr(image, 0, len(start)) == start


def _64(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)
