"""Sums that do not depend on their order: float32 in, int64 while adding, float32 out.

Float addition is not associative, so a sum over micro-batches would depend on how many replicas
share them. Integer addition is: each addend becomes round(x * 2**bits), the integers are added in
any order, and the total is converted back once.

A float32 times a power of two is exact and rounding it to an integer is float32's own rounding,
so no float64 copy is made: the conversion of ResNet-50's gradients moves half the memory of the
float64 formula and gives the same bits.
"""

from typing import NamedTuple

import tensorflow as tf

# 2**-50 = 1e-15: a gradient of 1e-8 has its last mantissa bit at 2**-50, so from there up the
# conversion loses nothing. Room for sums of magnitudes up to 2**13 = 8192.
GRADIENT_BITS = 50
# Losses, and changes of moving statistics: 6e-11 steps, sums up to 2**29 = 5e8.
STATISTIC_BITS = 34


class Range(NamedTuple):
    """What a tensor's numbers are like."""

    finite: tf.Tensor  # bool[]
    fits: tf.Tensor  # bool[]: finite, and small enough for fixed point


def limit(bits: int, addends: int) -> float:
    """What the magnitude of each of `addends` numbers must stay below: their sum fits in int64."""
    return 2.0 ** (63 - bits) / addends


def encode(x: tf.Tensor, factor: float | tf.Tensor) -> tf.Tensor:
    """float32[...] -> int64[...]: x * factor, a power of two, rounded half to even."""
    return tf.cast(tf.round(x * factor), tf.int64)


def decode(total: tf.Tensor, bits: int) -> tf.Tensor:
    """int64[...] -> float32[...]: total / 2**bits with a single rounding, that of the cast."""
    return tf.cast(total, tf.float32) * 2.0**-bits


def check(x: tf.Tensor, bits: int, addends: int) -> Range:
    """The range of float32[...], which has at least one number.

    TensorFlow's maximum and minimum of numbers with a NaN are NaN, which is below no bound.
    """
    high, low, bound = tf.reduce_max(x), tf.reduce_min(x), limit(bits, addends)
    return Range(
        finite=tf.math.is_finite(high) & tf.math.is_finite(low),
        fits=(high < bound) & (low > -bound),
    )
