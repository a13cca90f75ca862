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


def limit(bits: int, addends: int) -> float:
    """What the magnitude of each of `addends` numbers must stay below: their int64 sum fits."""
    return 2.0 ** (63 - bits) / addends


def encode(x: tf.Tensor, bits: int) -> tf.Tensor:
    """float32[...] -> int64[...]: round(x * 2**bits), half to even; |x| must be below `limit`."""
    return tf.cast(tf.round(x * 2.0**bits), tf.int64)


def decode(total: tf.Tensor, bits: int) -> tf.Tensor:
    """int64[...] -> float32[...]: total / 2**bits with a single rounding, that of the cast."""
    return tf.cast(total, tf.float32) * 2.0**-bits


def count_overflows(tensors: list[tf.Tensor], bits: int, addends: int) -> tf.Tensor:
    """int64[]: how many of the float32 tensors hold a NaN, an infinity or a number beyond `limit`.

    Both bounds are tested with <, which a NaN fails too.
    """
    bound = limit(bits, addends)
    fit = [(tf.reduce_max(x) < bound) & (tf.reduce_min(x) > -bound) for x in tensors]
    return tf.cast(len(tensors), tf.int64) - tf.math.count_nonzero(fit, dtype=tf.int64)
