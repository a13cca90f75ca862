"""The same micro-batch on every replica: the same numbers, or a device computes wrongly.

A device that is damaged, overclocked or too hot can return wrong numbers without any error, and so
can one whose cuDNN has chosen another algorithm than its peers, for want of memory. A run would go
on with them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainer.errors import TrainerError
from trainer.micro_batch import MicroBatch


class Crosscheck(Protocol):
    """A traced comparison of the replicas: a tf.function."""

    def __call__(self, iterator: Iterator[Any], step: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """-> int64[R]: how many of the numbers that each replica has differ from replica 0's."""
        ...


def build_crosscheck(strategy: tf.distribute.Strategy, micro_batch: MicroBatch) -> Crosscheck:
    """Returns crosscheck(iterator, step, number), which changes no variable.

    iterator: a distributed iterator that gives every replica the same micro-batch, the number-th
    of a step. step, number: int64 tensors.
    """
    replicas = strategy.num_replicas_in_sync

    def compare(batch: tuple[Any, Any, Any], step: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group
        bits = micro_batch.sums(batch, step, number)
        if bits.dtype == tf.float32:
            bits = tf.cast(tf.bitcast(bits, tf.int32), tf.int64)
        # One speaks and the others add nothing: all have the bits of replica 0.
        first = context.all_reduce("SUM", tf.where(replica == 0, bits, tf.zeros_like(bits)))
        differing = tf.math.count_nonzero(bits != first)
        own = tf.one_hot(replica, replicas, differing, tf.zeros_like(differing))
        return context.all_reduce("SUM", own)

    @tf.function
    def crosscheck(iterator: Iterator[Any], step: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        differing = strategy.run(compare, args=(next(iterator), step, number))
        return strategy.experimental_local_results(differing)[0]

    return crosscheck


def judge(differing: np.ndarray, devices: Sequence[str], step: int) -> None:
    """differing: int64[R], of a Crosscheck. devices: R names. Raises TrainerError, naming some."""
    if not differing.any():
        return
    others = np.flatnonzero(differing)
    # With three or more the majority is right: replica 0 alone is, where all others differ from it.
    guilty = [0] if len(others) == len(differing) - 1 > 1 else others.tolist()
    if len(differing) == 2:
        which = f"{devices[0]} and {devices[1]} have"
    else:
        names = ", ".join(devices[replica] for replica in guilty)
        which = f"{names} {'has' if len(guilty) == 1 else 'have'}, of {len(differing)} devices,"
    raise TrainerError(
        f"At step {step} {which} other gradients of the same micro-batch: {differing.max()} "
        "numbers differ. A device computes wrongly; earlier checkpoints may be affected too. "
        "Run on other devices; --check_replicas=1 finds the first step."
    )
