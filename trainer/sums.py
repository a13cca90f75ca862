"""What a micro-batch adds to a step, in one vector: gradients, statistics, loss, weight, counts.

It is checked, converted, accumulated and all-reduced once, whatever the number of variables: on a
GPU each small kernel costs 5 to 10 us, and ResNet-50 has 269 variables. It holds int64 fixed point
(`fixed_point`: the same sum in any order) or plain float32.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from trainer import fixed_point
from trainer.fixed_point import GRADIENT_BITS, STATISTIC_BITS

COUNTS = 2  # correct, overflows


class Sums(NamedTuple):
    """Of one micro-batch, or added up over many."""

    gradients: list[tf.Tensor]  # float32
    statistics: list[tf.Tensor]  # float32: changes of the moving statistics
    loss: tf.Tensor  # float32[]: sum(weight * cross entropy) / images of a whole step
    weight: tf.Tensor  # float32[]: images that count
    correct: tf.Tensor  # int64[]: of those, classified right
    overflows: tf.Tensor  # int64[]: vectors that fixed point cannot hold: NaN, infinite, too large


class Layout:
    """Where each part of some Sums is in their vector."""

    def __init__(
        self,
        gradients: Sequence[tf.TensorShape],
        statistics: Sequence[tf.TensorShape],
        *,
        micro_batches: int,
        exact: bool,
    ):
        """micro_batches: vectors that are added up. exact: fixed point."""
        self._gradients = [tf.TensorShape(shape) for shape in gradients]
        self._statistics = [tf.TensorShape(shape) for shape in statistics]
        self._weights = sum(shape.num_elements() for shape in self._gradients)
        self._others = sum(shape.num_elements() for shape in self._statistics) + 2
        self._micro_batches = micro_batches
        self._exact = exact
        self.dtype = tf.int64 if exact else tf.float32
        self.size = self._weights + self._others + COUNTS
        self.bytes = self.size * self.dtype.size

    def pack(self, sums: Sums) -> tf.Tensor:
        """One micro-batch's Sums -> a vector [size]; its overflows are found here."""
        gradients = _flat(sums.gradients)
        others = _flat([*sums.statistics, sums.loss, sums.weight])
        if not self._exact:
            counts = tf.stack([tf.cast(sums.correct, tf.float32), 0.0])
            return tf.concat([gradients, others, counts], axis=0)
        # One bound for both: 2**63 / micro_batches, whatever the bits.
        scaled = tf.concat(
            [
                fixed_point.scale(gradients, GRADIENT_BITS),
                fixed_point.scale(others, STATISTIC_BITS),
            ],
            axis=0,
        )
        overflows = fixed_point.overflows(scaled, self._micro_batches)
        counts = tf.stack([sums.correct, overflows])
        return tf.concat([fixed_point.encode(scaled), counts], axis=0)

    def unpack(self, vector: tf.Tensor) -> Sums:
        """A sum of vectors [size] -> Sums."""
        gradients = vector[: self._weights]
        others = vector[self._weights : -COUNTS]
        if self._exact:
            gradients = fixed_point.decode(gradients, GRADIENT_BITS)
            others = fixed_point.decode(others, STATISTIC_BITS)
        scalar = tf.TensorShape([])
        *statistics, loss, weight = _parts(others, [*self._statistics, scalar, scalar])
        return Sums(
            _parts(gradients, self._gradients),
            statistics,
            loss,
            weight,
            correct=tf.cast(vector[-2], tf.int64),
            overflows=tf.cast(vector[-1], tf.int64),
        )


def _flat(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.concat([tf.reshape(tf.cast(each, tf.float32), [-1]) for each in tensors], axis=0)


def _parts(vector: tf.Tensor, shapes: Sequence[tf.TensorShape]) -> list[tf.Tensor]:
    """Slices of a vector, one for each shape: tf.split has no GPU kernel for int64."""
    parts, start = [], 0
    for shape in shapes:
        size = shape.num_elements()
        parts.append(tf.reshape(tf.slice(vector, [start], [size]), shape))
        start += size
    return parts
