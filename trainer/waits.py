"""How long the steps of this worker have stood at an empty input.

tf.data itself takes the time of each next element, in C++ and outside of the step: its graph and
bits stay as they are, and Python's lock is not needed.

On the CPU a step asks for its next micro-batch when it has computed the one before: all that it
stands there, nothing is computed. A GPU still computes while its host asks ahead. There, time is
taken where the worker's dataset hands out micro-batches, up to two of each replica ahead of the
step, and some of it is no loss: trainer.ledger takes off what is known not to be.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import tensorflow as tf

from trainer import internals, iterators

_TAG = "wait"
_NUMBERS = count()


class Waits:
    """Takes the time that a distributed iterator is waited for."""

    def __init__(self) -> None:
        self.exact = True  # else an upper bound
        self._handles: list[tf.Tensor] = []

    def iterator(
        self, strategy: tf.distribute.Strategy, batches: Callable[[], tf.data.Dataset]
    ) -> Iterator[Any]:
        """A distributed iterator over a worker's micro-batches, whose waits are timed from now."""
        self.exact = all("CPU" in device for device in strategy.extended.worker_devices)
        if self.exact:
            return iterators.distributed(strategy, batches, self._timed)
        # The operation that takes the time has no kernel for GPUs.
        return iterators.distributed(strategy, lambda: self._timed(batches()))

    @property
    def seconds(self) -> float:
        """So far. Replicas wait at the same time: the longest wait of any of them."""
        return max(map(_seconds, self._handles), default=0.0)

    def _timed(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        name = f"samestep-waits-{next(_NUMBERS)}"
        handle = tf.raw_ops.StatsAggregatorHandle(container="", shared_name=name)
        self._handles.append(handle)
        options = tf.data.Options()
        # Else tf.data would add a buffer at the end, and the thread that fills it would wait.
        options.experimental_optimization.inject_prefetch = False
        return internals.timed(batches, handle, _TAG).with_options(options)


def _seconds(handle: tf.Tensor) -> float:
    text = tf.raw_ops.StatsAggregatorSummary(iterator=handle).numpy()
    found = tf.compat.v1.Summary.FromString(text).value
    return sum(each.histo.sum for each in found if each.tag.endswith(_TAG)) / 1e6
