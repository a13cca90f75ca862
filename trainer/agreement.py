"""What the workers of a run tell each other between steps."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.errors import ClusterError

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,  # "Collective ops is aborted by: ..", seen while variables are made
)


class Workers:
    """All workers of a strategy, as one of them sees them.

    Every method is called by all of them at the same place of the program, or it waits for ever.
    """

    def __init__(self, strategy: tf.distribute.Strategy, index: int = 0, count: int = 1):
        self.index = index
        self.count = count
        self.chief = index == 0  # writes what there is one of: checkpoints, events, metrics
        self._strategy = strategy
        self._sum = _build_sum(strategy, strategy.num_replicas_in_sync // count)

    def gather(self, numbers: Sequence[int]) -> np.ndarray:
        """As many numbers from each worker -> int64[workers, n], the same on all of them."""
        rows = np.zeros((self.count, len(numbers)), np.int64)
        rows[self.index] = numbers
        return rows if self.count == 1 else self._sum(tf.constant(rows)).numpy()

    def from_chief(self, value: Any) -> Any:
        """The chief's value, which JSON can hold, on every worker."""
        if self.count == 1:
            return value
        text = json.dumps(value).encode() if self.chief else b""
        length = int(self.gather([len(text)])[0, 0])
        characters = self.gather(list(text) if self.chief else [0] * length)[0]
        return json.loads(bytes(characters.tolist()))


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turns TensorFlow's error about a worker that is gone into a ClusterError."""
    try:
        yield
    except _LOST as error:
        # Other errors of these types name /job:localhost, or no device at all.
        others = sorted(set(re.findall(r"/job:worker(?:/replica:0)?/task:(\d+)", error.message)))
        if not others and "Collective ops" not in error.message:
            raise
        which = f"Worker {' or '.join(others)}" if others else "Another worker"
        raise ClusterError(
            f"{which} is gone. What became of it stands in its own output."
        ) from None


def _build_sum(strategy: tf.distribute.Strategy, local_replicas: int):
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64)])
    def total(rows):
        def replica():
            context = tf.distribute.get_replica_context()
            # One replica speaks for its worker; the others add nothing.
            first = context.replica_id_in_sync_group % local_replicas == 0
            return context.all_reduce("SUM", tf.where(first, rows, tf.zeros_like(rows)))

        return strategy.experimental_local_results(strategy.run(replica))[0]

    return total
