"""Changes of a micro-batch's images that keep their shape. TensorFlow graph code, no state."""

import numpy as np
import tensorflow as tf

JITTER_UNIFORMS, ERASE_UNIFORMS = 3, 5  # numbers in [0, 1) for each image
# ITU-R 601-2, as Pillow's conversion to grey: its weights in units of 1 / 65536.
# No tensor: TensorFlow must not start when this is imported.
GREY = np.array([19595, 38470, 7471], np.float32) / 65536


def color_jitter(images: tf.Tensor, uniforms: tf.Tensor, strength: float) -> tf.Tensor:
    """uint8[n, S, S, 3], float32[n, JITTER_UNIFORMS] in [0, 1) -> uint8[n, S, S, 3].

    Brightness, then contrast, then saturation, each blended with a factor between 1 - strength
    (0 or more) and 1 + strength as Pillow's ImageEnhance does; rounded once, at the end.
    """
    low, high = max(0.0, 1.0 - strength), 1.0 + strength
    factors = low + (high - low) * uniforms
    brightness, contrast, saturation = (f[:, None, None] for f in tf.split(factors, 3, axis=1))
    pixels = _clip(tf.cast(images, tf.float32) * brightness)
    mean = tf.reduce_mean(grey(pixels), axis=[1, 2, 3], keepdims=True)
    pixels = _clip(mean + contrast * (pixels - mean))
    shade = grey(pixels)
    pixels = _clip(shade + saturation * (pixels - shade))
    return tf.cast(pixels + 0.5, tf.uint8)


def erase(images: tf.Tensor, uniforms: tf.Tensor, probability: float) -> tf.Tensor:
    """[n, S, S, 3], float32[n, ERASE_UNIFORMS] in [0, 1) -> the same with a rectangle of some grey.

    It covers 2 to 33 % of the area with a side ratio between 0.3 and 3.3 (Zhong et al. 2017,
    arXiv:1708.04896), is cut off at the edge, and is 128 for uint8 and 0 for floating pixels: about
    the mean of what the model sees.
    """
    size = images.shape[1]
    happens, area, ratio, top, left = tf.split(uniforms, ERASE_UNIFORMS, axis=1)
    side = size * tf.sqrt(0.02 + (0.33 - 0.02) * area)
    stretch = tf.exp((ratio - 0.5) * tf.math.log(3.3))  # square root of height / width
    rows = _span(top, side * stretch, size)
    columns = _span(left, side / stretch, size)
    hole = rows[:, :, None, None] & columns[:, None, :, None]
    hole &= (happens < probability)[:, :, None, None]
    shade = 128 if images.dtype == tf.uint8 else 0
    return tf.where(hole, tf.cast(shade, images.dtype), images)


def _span(start: tf.Tensor, length: tf.Tensor, size: int) -> tf.Tensor:
    """Start as a fraction of the free space, and length: float32[n, 1] -> bool[n, size]."""
    length = tf.clip_by_value(tf.round(length), 1.0, float(size))
    first = tf.floor(start * (size - length + 1.0))
    at = tf.range(size, dtype=tf.float32)[None]
    return (at >= first) & (at < first + length)


def grey(pixels: tf.Tensor) -> tf.Tensor:
    """float32[.., 3] red, green and blue -> float32[.., 1]."""
    return tf.reduce_sum(pixels * GREY, axis=-1, keepdims=True)


def _clip(pixels: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(pixels, 0.0, 255.0)
