"""Distributed iterators: a worker's micro-batches -> those of each of its devices."""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from trainer import internals


def distributed(
    strategy: tf.distribute.Strategy,
    batches: Callable[[], tf.data.Dataset],
    watch: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
) -> Iterator[Any]:
    """Draws a micro-batch for each replica at a time. watch: of a device's dataset, see Waits.

    On each device there is a buffer of one micro-batch, which tf.data would tune, though there is
    nothing to tune, by a thread that sleeps longer each time, up to a minute. Whoever drops such an
    iterator waits for that: TensorFlow 2.21 wakes the thread before it says that it shall end.
    """

    def of_device(dataset: tf.data.Dataset) -> tf.data.Dataset:
        options = tf.data.Options()
        options.autotune.enabled = False
        return (watch(dataset) if watch else dataset).with_options(options)

    with internals.changing_device_datasets(of_device):
        return iter(strategy.distribute_datasets_from_function(lambda _: batches()))
