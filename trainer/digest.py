"""A hash of many numbers inside the traced step: 64 bits, the same on any device.

The sum of w[i] * x[i] modulo 2**64, with fixed random odd w: multilinear hashing (Lemire, Kaser
2014, arXiv:1202.4961). Integers have the same sum in any order. One number that changes always
changes it, whichever and however little; several leave it as it was with a chance below 2**-32. It
finds accidents, and no forger: SHA-256 has no kernel on a GPU, and to the host it would be 205 MB
for ResNet-50.
"""

import tensorflow as tf

_KEY, _PHILOX = 20140606, 1  # what w follows from: a part of what the hashes are
# What the upper half of a number counts more than its place says. Its top bit alone would move the
# sum by 2**63, wherever it is, and two of them by nothing.
_UPPER = 0x5851F42D4C957F2D


def products(vector: tf.Tensor) -> tf.Tensor:
    """int64[n], or float32[n] by its bits -> int64[n]: w[i] * x[i], whose sum is the hash."""
    if vector.dtype == tf.float32:
        vector = tf.cast(tf.bitcast(vector, tf.int32), tf.int64)
    # Not tf.random.stateless_uniform: it makes its key of a seed in 30 operations.
    weights = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=vector.shape,
        key=tf.constant([_KEY], tf.uint64),
        counter=tf.zeros([2], tf.uint64),
        alg=_PHILOX,
        dtype=tf.int64,
    )
    upper = tf.bitwise.right_shift(vector, tf.constant(32, tf.int64))
    spread = vector + upper * tf.constant(_UPPER, tf.int64)
    return spread * tf.bitwise.bitwise_or(weights, tf.constant(1, tf.int64))
