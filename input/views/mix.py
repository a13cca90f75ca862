"""Mixup and CutMix: each image of a micro-batch is mixed with another one of it.

mixup: Zhang et al. 2017 (arXiv:1710.09412); CutMix: Yun et al. 2019 (arXiv:1905.04899). The partner
of an image is the next one of the micro-batch that has a weight. An image without weight, padding
or a bad record, is its own partner and no other image's.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from input import randomness

_TRIES = 64  # of drawing from a Beta distribution: each succeeds half the time or more
_UNIFORMS = 2 * _TRIES + 3
COLUMNS = 4  # a Mix as numbers


class Mix(NamedTuple):
    """The random parameters of one micro-batch: float32[]."""

    cuts: tf.Tensor  # 1: CutMix, 0: mixup
    own: tf.Tensor  # fraction of an image that stays its own
    row: tf.Tensor  # centre of CutMix's box, as a fraction of the size
    column: tf.Tensor


def draw(seed: int, epoch: int, records: np.ndarray, mixup: float, cutmix: float) -> np.ndarray:
    """float32[COLUMNS]: the Mix of a micro-batch, which depends on its first record and the epoch.

    mixup, cutmix: alpha of Beta(alpha, alpha), 0 to 1; 0 is off. Both on: each half the time.
    """
    random = randomness.uniform(seed, epoch, records[:1], _UNIFORMS, randomness.MIXES)[0].astype(
        np.float64
    )
    choice, row, column = random[:3]
    cuts = cutmix > 0 and (mixup == 0 or choice < 0.5)
    own = _beta(cutmix if cuts else mixup, random[3:].reshape(_TRIES, 2))
    return np.array([cuts, own, row, column], np.float32)


def _beta(alpha: float, random: np.ndarray) -> float:
    """A draw from Beta(alpha, alpha), 0 < alpha <= 1 (Jöhnk 1964), from float64[tries, 2]."""
    x, y = random.T ** (1.0 / alpha)
    # Where both are so small that they vanish, their ratio follows from the logarithms.
    good = np.flatnonzero(x + y <= 1.0)
    if not len(good):
        return 0.5
    with np.errstate(divide="ignore"):
        first, second = np.log(random[good[0]]) / alpha
    return float(1.0 / (1.0 + np.exp(np.clip(second - first, -700, 700))))


def mix(
    images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, drawn: Mix
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images [n, S, S, 3] and float32[n, classes] labels -> the same, mixed."""
    partner = _partners(weights)
    others = tf.gather(images, partner)
    size = images.shape[1]
    box = _box(drawn, size)

    def cut():
        own = 1.0 - tf.reduce_mean(tf.cast(box, tf.float32))
        return tf.where(box[None, :, :, None], others, images), own

    def blend():
        pixels = drawn.own * tf.cast(images, tf.float32)
        pixels += (1.0 - drawn.own) * tf.cast(others, tf.float32)
        if images.dtype == tf.uint8:
            pixels = tf.round(pixels)
        return tf.cast(pixels, images.dtype), drawn.own

    mixed, own = tf.cond(drawn.cuts > 0.5, cut, blend)
    return mixed, own * labels + (1.0 - own) * tf.gather(labels, partner)


def _partners(weights: tf.Tensor) -> tf.Tensor:
    """float32[n] -> int32[n]: the next slot with a weight; a slot without one has itself."""
    n = weights.shape[0]
    slots = tf.range(n)
    counting = tf.cast(tf.where(weights > 0), tf.int32)
    return tf.tensor_scatter_nd_update(slots, counting, tf.roll(counting[:, 0], -1, axis=0))


def _box(drawn: Mix, size: int) -> tf.Tensor:
    """bool[S, S]: a square of 1 - own of the area, cut off at the edges."""
    half = 0.5 * size * tf.sqrt(1.0 - drawn.own)
    at = tf.range(size, dtype=tf.float32) + 0.5
    rows = tf.abs(at - drawn.row * size) < half
    columns = tf.abs(at - drawn.column * size) < half
    return rows[:, None] & columns[None, :]
