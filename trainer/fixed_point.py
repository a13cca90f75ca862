"""Sums that do not depend on their order: float32 in, int64 while adding, float32 out.

Float addition is not associative, so a sum over micro-batches would depend on how many replicas
share them. Integer addition is: each addend becomes round(x * 2**bits), the integers are added in
any order, and the total is converted back once.

A float32 times a power of two is exact and rounding it to an integer is float32's own rounding,
so no float64 copy is made: the conversion of ResNet-50's gradients moves half the memory of the
float64 formula and gives the same bits.
"""

import tensorflow as tf

# 2**-50 = 1e-15: a gradient of 1e-8 has its last mantissa bit at 2**-50, so from there up the
# conversion loses nothing. Room for sums of magnitudes up to 2**13 = 8192.
GRADIENT_BITS = 50
# Losses, and changes of moving statistics: 6e-11 steps, sums up to 2**29 = 5e8.
STATISTIC_BITS = 34


def limit(addends: int) -> float:
    """What the magnitude of each of `addends` scaled numbers must stay below: their sum fits."""
    return 2.0**63 / addends


def scale(x: tf.Tensor, bits: int) -> tf.Tensor:
    """float32[...] -> float32[...]: x * 2**bits, exact; too large becomes infinite."""
    return x * 2.0**bits


def encode(scaled: tf.Tensor) -> tf.Tensor:
    """float32[...] -> int64[...]: rounded half to even; |scaled| must be below `limit`."""
    return tf.cast(tf.round(scaled), tf.int64)


def decode(total: tf.Tensor, bits: int) -> tf.Tensor:
    """int64[...] -> float32[...]: total / 2**bits with a single rounding, that of the cast."""
    return tf.cast(total, tf.float32) * 2.0**-bits


def overflows(scaled: tf.Tensor, addends: int) -> tf.Tensor:
    """float32[...] -> int64[]: 1 where a number is NaN, infinite or beyond `limit`, else 0.

    Both bounds are tested with <, which a NaN fails too.
    """
    bound = limit(addends)
    fits = (tf.reduce_max(scaled) < bound) & (tf.reduce_min(scaled) > -bound)
    return tf.cast(~fits, tf.int64)
