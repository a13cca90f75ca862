"""RandAugment and TrivialAugment: random operations on one image that keep its shape.

Cubuk et al. 2019 (arXiv:1909.13719) and Müller and Hutter 2021 (arXiv:2103.10158, the wide ranges);
operations and strengths as torchvision's RandAugment and TrivialAugmentWide. Pixels from outside
the image are mid grey, 128. TensorFlow graph code, no state.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from input.views.color import grey

UNIFORMS = 3  # numbers in [0, 1) of one operation: which, how strong, which sign
BINS = 31
FILL = 128.0

# uint8[S, S, 3] and a strength -> uint8[S, S, 3].
Operation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def identity(image, level):
    return image


def shear_x(image, level):
    return _move(image, [1.0, level, 0.0, 0.0, 1.0, 0.0])


def shear_y(image, level):
    return _move(image, [1.0, 0.0, 0.0, level, 1.0, 0.0])


def translate_x(image, level):
    return _move(image, [1.0, 0.0, _whole(level), 0.0, 1.0, 0.0])


def translate_y(image, level):
    return _move(image, [1.0, 0.0, 0.0, 0.0, 1.0, _whole(level)])


def rotate(image, level):
    """level: degrees, around the centre."""
    angle = level * (np.pi / 180.0)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    centre = image.shape[0] / 2.0
    dx = centre - cosine * centre - sine * centre
    dy = centre + sine * centre - cosine * centre
    return _move(image, [cosine, sine, dx, -sine, cosine, dy])


def brightness(image, level):
    return _blend(tf.zeros_like(image, tf.float32), image, level)


def color(image, level):
    return _blend(grey(tf.cast(image, tf.float32)), image, level)


def contrast(image, level):
    mean = tf.reduce_mean(tf.floor(grey(tf.cast(image, tf.float32)) + 0.5))
    return _blend(tf.floor(mean + 0.5), image, level)


def sharpness(image, level):
    """Against a blur of 3 x 3 pixels; those at the edge stay."""
    pixels = tf.cast(image, tf.float32)
    kernel = np.ones((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 5.0
    kernel = tf.constant(np.tile(kernel / 13.0, (1, 1, 3, 1)))
    blurred = tf.nn.depthwise_conv2d(pixels[None], kernel, [1, 1, 1, 1], "VALID")[0]
    inside = tf.pad(tf.ones_like(blurred, tf.bool), [[1, 1], [1, 1], [0, 0]])
    blurred = tf.pad(tf.floor(blurred + 0.5), [[1, 1], [1, 1], [0, 0]])
    return _blend(tf.where(inside, blurred, pixels), image, level)


def posterize(image, level):
    """level: bits that are kept."""
    unused = tf.cast(8.0 - level, tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, unused), unused)


def solarize(image, level):
    """level: what is not below it is inverted."""
    return tf.where(tf.cast(image, tf.float32) < level, image, 255 - image)


def autocontrast(image, level):
    """Each channel from black to white."""
    pixels = tf.cast(image, tf.float32)
    low = tf.reduce_min(pixels, axis=[0, 1])
    span = tf.reduce_max(pixels, axis=[0, 1]) - low
    # 0.001 levels: what is exactly whole must not be floored to the number below it.
    stretched = tf.floor((pixels - low) * 255.0 / tf.maximum(span, 1.0) + 0.001)
    return tf.where(span > 0, tf.cast(stretched, tf.uint8), image)


def equalize(image, level):
    """Each channel's levels as often as each other, as Pillow's ImageOps does it."""
    values = tf.cast(image, tf.int32) + tf.constant([0, 256, 512])
    counts = tf.math.bincount(tf.reshape(values, [-1]), minlength=768, maxlength=768)
    counts = tf.reshape(counts, [3, 256])
    largest = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), axis=1)
    last = tf.gather(counts, largest, batch_dims=1)
    step = (tf.reduce_sum(counts, axis=1) - last) // 255
    below = tf.cumsum(counts, axis=1, exclusive=True)
    table = (step[:, None] // 2 + below) // tf.maximum(step, 1)[:, None]
    table = tf.where(step[:, None] > 0, tf.minimum(table, 255), tf.range(256))
    return tf.cast(tf.gather(tf.reshape(table, [-1]), values), tf.uint8)


_EVEN = np.arange(BINS) / (BINS - 1)


def _bits(lost: int) -> np.ndarray:
    return 8 - np.round(np.arange(BINS) / ((BINS - 1) / lost))


# Operation, strengths of RandAugment and of TrivialAugment (weakest to strongest, in units of the
# image's size where "size" says so), and whether the sign is drawn. Blends: what is added to 1.
TABLE: tuple[tuple[Operation, np.ndarray, np.ndarray, bool], ...] = (
    (identity, 0 * _EVEN, 0 * _EVEN, False),
    (shear_x, 0.3 * _EVEN, 0.99 * _EVEN, True),
    (shear_y, 0.3 * _EVEN, 0.99 * _EVEN, True),
    (translate_x, 150 / 331 * _EVEN, 32 * _EVEN, True),
    (translate_y, 150 / 331 * _EVEN, 32 * _EVEN, True),
    (rotate, 30 * _EVEN, 135 * _EVEN, True),
    (brightness, 0.9 * _EVEN, 0.99 * _EVEN, True),
    (color, 0.9 * _EVEN, 0.99 * _EVEN, True),
    (contrast, 0.9 * _EVEN, 0.99 * _EVEN, True),
    (sharpness, 0.9 * _EVEN, 0.99 * _EVEN, True),
    (posterize, _bits(4), _bits(6), False),
    (solarize, 255 * (1 - _EVEN), 255 * (1 - _EVEN), False),
    (autocontrast, 0 * _EVEN, 0 * _EVEN, False),
    (equalize, 0 * _EVEN, 0 * _EVEN, False),
)
_RELATIVE_TO_SIZE = (translate_x, translate_y)  # RandAugment's; TrivialAugment's are pixels


def apply(image: tf.Tensor, uniforms: tf.Tensor, magnitude: int | None) -> tf.Tensor:
    """uint8[S, S, 3], float32[layers, UNIFORMS] in [0, 1) -> uint8[S, S, 3]: one operation a layer.

    magnitude: 0 to 30 of RandAugment; None draws it for each, which is TrivialAugment.
    """
    size = image.shape[0]
    strengths = np.zeros((len(TABLE), BINS), np.float32)
    for number, (operation, rand, trivial, _) in enumerate(TABLE):
        scale = size if magnitude is not None and operation in _RELATIVE_TO_SIZE else 1
        strengths[number] = scale * (trivial if magnitude is None else rand)
    signed = tf.constant([row[3] for row in TABLE])
    uniforms = tf.ensure_shape(uniforms, [uniforms.shape[0], UNIFORMS])
    for layer in range(uniforms.shape[0]):
        which, strength, sign = tf.unstack(uniforms[layer])
        number = tf.cast(which * len(TABLE), tf.int32)
        place = tf.cast(strength * BINS, tf.int32) if magnitude is None else magnitude
        level = tf.constant(strengths)[number, place]
        level = tf.where(signed[number] & (sign < 0.5), -level, level)
        branches = [
            lambda operation=row[0], image=image, level=level: operation(image, level)
            for row in TABLE
        ]
        image = tf.ensure_shape(tf.switch_case(number, branches), [size, size, 3])
    return image


def _move(image: tf.Tensor, affine: list[tf.Tensor | float]) -> tf.Tensor:
    """Each pixel from a * x + b * y + c, d * x + e * y + f, nearest, as Pillow's AFFINE."""
    a, b, c, d, e, f = affine
    # Pillow's coordinates are of pixel centres, TensorFlow's are pixel indices.
    c, f = c + 0.5 * (a + b) - 0.5, f + 0.5 * (d + e) - 0.5
    transform = tf.stack([tf.cast(x, tf.float32) for x in (a, b, c, d, e, f, 0.0, 0.0)])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=transform[None],
        output_shape=image.shape[:2],
        fill_value=FILL,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]


def _whole(level: tf.Tensor) -> tf.Tensor:
    """Towards 0, as torchvision's int()."""
    return tf.cast(tf.cast(level, tf.int32), tf.float32)


def _blend(other: tf.Tensor, image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """1 + level of the image, and -level of the other."""
    pixels = other + (1.0 + level) * (tf.cast(image, tf.float32) - other)
    return tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)
