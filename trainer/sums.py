"""What a micro-batch adds to a step, in one vector: gradients, statistics, loss, weight, counts.

It is checked, converted, accumulated and all-reduced once, whatever the number of variables: on a
GPU each small kernel costs 5 to 10 us, and ResNet-50 has 269 variables. It holds int64 fixed point
(`fixed_point`: the same sum in any order) or plain float32.

The vector is reduced as a whole, after the last gradient. Pieces could be reduced while backward
still computes the others, and the order of integer sums is free; but the range of all gradients has
to be known before any of them may be used, and only the last micro-batch of a step has a backward
pass to hide behind.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trainer import digest, fixed_point
from trainer.fixed_point import GRADIENT_BITS, STATISTIC_BITS

# The last number of a vector, 1 as packed, adds up to the micro-batches that fit. It is multiplied
# like all others: by 0 where a number is too large, by this where one is not finite.
NOT_FINITE = 2**20
COUNTS = 2  # correct, fit


class Sums(NamedTuple):
    """Of one micro-batch."""

    gradients: Sequence[tf.Tensor]  # floating
    statistics: Sequence[tf.Tensor]  # float32: changes of the moving statistics
    loss: tf.Tensor  # float32[]: sum(weight * cross entropy) / images of a whole step
    weight: tf.Tensor  # float32[]: images that count
    correct: tf.Tensor  # int64[]: of those, classified right


class Total(NamedTuple):
    """Sums added up over the micro-batches of a step; of no use unless finite and fitting."""

    gradients: Any  # float32[..]: all in one; Layout.gradients takes it apart
    statistics: list[tf.Tensor]
    loss: tf.Tensor
    weight: tf.Tensor
    correct: tf.Tensor
    finite: tf.Tensor  # bool[]: but for float32 gradients, whose norm shows it
    fits: tf.Tensor  # bool[]: finite, and small enough for fixed point


def alone(sums: Sums) -> Total:
    """The Total of a step of one micro-batch: no vector is made, which would move its bytes twice.

    Its gradients are the list that Layout.gradients would give.
    """
    finite = tf.reduce_all(tf.math.is_finite(_flat([*sums.statistics, sums.loss, sums.weight])))
    gradients = [tf.cast(each, tf.float32) for each in sums.gradients]
    return Total(
        gradients, list(sums.statistics), sums.loss, sums.weight, sums.correct, finite, finite
    )


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
        """micro_batches: vectors that are added up, below 2**20. exact: fixed point."""
        self._gradients = [tf.TensorShape(shape) for shape in gradients]
        self._statistics = [tf.TensorShape(shape) for shape in statistics]
        self._weights = sum(shape.num_elements() for shape in self._gradients)
        self._others = sum(shape.num_elements() for shape in self._statistics) + 2
        self._micro_batches = micro_batches
        self._exact = exact
        self.dtype = tf.int64 if exact else tf.float32
        self.size = self._weights + self._others + COUNTS
        self.bytes = self.size * self.dtype.size
        self.parts = len(gradients) + len(statistics) + 2 + COUNTS

    def pack(self, sums: Sums) -> tf.Tensor:
        """One micro-batch's Sums -> a vector [size]."""
        others = _flat([*sums.statistics, sums.loss, sums.weight])
        counts = tf.stack([tf.cast(sums.correct, tf.float32), 1.0])
        if not self._exact:
            return _flat([*sums.gradients, others, counts])
        # As if all had the bits of gradients: one pass over the memory for each operation.
        others *= 2.0 ** (STATISTIC_BITS - GRADIENT_BITS)
        counts *= 2.0**-GRADIENT_BITS
        vector = _flat([*sums.gradients, others, counts])
        finite, fits = fixed_point.check(vector, GRADIENT_BITS, self._micro_batches)
        factor = tf.where(fits, 1.0, tf.where(finite, 0.0, float(NOT_FINITE)))
        return fixed_point.encode(vector, factor * 2.0**GRADIENT_BITS)

    def unpack(self, vector: tf.Tensor) -> Total:
        """A sum of vectors [size] -> Total."""
        gradients = vector[: self._weights]
        others = vector[self._weights : -COUNTS]
        if self._exact:
            gradients = fixed_point.decode(gradients, GRADIENT_BITS)
            others = fixed_point.decode(others, STATISTIC_BITS)
            finite = vector[-1] < NOT_FINITE
            fits = vector[-1] == self._micro_batches
        else:
            finite = fits = tf.reduce_all(tf.math.is_finite(others))
        scalar = tf.TensorShape([])
        *statistics, loss, weight = _parts(others, [*self._statistics, scalar, scalar])
        correct = tf.cast(vector[-2], tf.int64)
        return Total(gradients, statistics, loss, weight, correct, finite, fits)

    def vector(self, total: Total) -> tf.Tensor:
        """What `alone` has given -> float32[size], its parts in the order of a sum of vectors."""
        counts = tf.stack([tf.cast(total.correct, tf.float32), 1.0])
        return _flat([*total.gradients, *total.statistics, total.loss, total.weight, counts])

    def hashes(self, vector: tf.Tensor, by_part: bool) -> tf.Tensor:
        """A sum of vectors [size] -> int64[parts], which add up to int64[1], the hash of it all.

        The parts are those of gradients, of statistics, of loss, weight, correct and fit.
        """
        products = digest.products(vector)
        if not by_part:
            return tf.reduce_sum(products, keepdims=True)
        numbers = [tf.TensorShape([])] * (2 + COUNTS)
        parts = _parts(products, [*self._gradients, *self._statistics, *numbers])
        return tf.stack([tf.reduce_sum(part) for part in parts])

    def gradients(self, vector: tf.Tensor) -> list[tf.Tensor]:
        """float32[..], as of a Total -> a gradient for each variable."""
        return _parts(vector, self._gradients)


def accumulator(layout: Layout) -> tf.Variable:
    """Zeros of a layout, to which each replica adds on its own. Make it in the strategy's scope."""
    return tf.Variable(
        tf.zeros([layout.size], layout.dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
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
