"""What the workers of a run tell each other between steps."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import tensorflow as tf

from input.foundation import typed_json
from input.foundation.text import counted
from trainer import internals
from trainer.errors import ClusterError, TrainerError
from trainer.workers.watchdog import Pace

Value = TypeVar("Value")


class Workers:
    """All workers of a strategy, as one of them sees them.

    All of them must call each method at the same place of the program, or it waits forever.
    """

    def __init__(self, strategy: tf.distribute.Strategy, index: int = 0, count: int = 1):
        self.index = index
        self.count = count
        self.chief = index == 0  # writes what there is one of: checkpoints, events, metrics
        self._sum = _build_sum(strategy, strategy.num_replicas_in_sync // count)

    def gather(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """As many numbers from each worker -> int64[workers, n], the same on all of them."""
        rows = np.zeros((self.count, len(numbers)), np.int64)
        rows[self.index] = numbers
        return rows if self.count == 1 else self._sum(tf.constant(rows)).numpy()

    def gather_rows(self, rows: np.ndarray) -> np.ndarray:
        """int64[n, k], another n from each worker -> those of all, one worker's below another's."""
        if self.count == 1:
            return rows
        lengths = self.gather([len(rows)])[:, 0]
        padded = np.zeros((lengths.max(), rows.shape[1]), np.int64)
        padded[: len(rows)] = rows
        gathered = self.gather(padded.ravel()).reshape(self.count, *padded.shape)
        return np.concatenate([own[:length] for own, length in zip(gathered, lengths, strict=True)])

    def from_chief(self, kind: type[Value], value: Value | None) -> Value | None:
        """The chief's value, a dataclass that JSON can hold, on every worker."""
        if self.count == 1:
            return value
        text = b"" if value is None or not self.chief else typed_json.dump(value).encode()
        length = int(self.gather([len(text)])[0, 0])
        characters = self.gather(list(text) if self.chief else [0] * length)[0]
        return typed_json.loads(kind, bytes(characters.tolist()), "worker 0") if length else None


class Sync:
    """What all workers agree on between two calls of the traced function.

    steps: of the next call, the same on all workers; 1 in the first. saving: whether a checkpoint
    is due by the clock. waited: seconds that a worker has waited for its input since the sync
    before, the one that has waited longest. bad_records: that all have met in this launch.
    """

    def __init__(
        self,
        workers: Workers,
        pace: Pace,
        stop_requested: Callable[[], bool] = lambda: False,
        save_due: Callable[[], bool] = lambda: False,
        bad_records: Collection[int] = (),
        max_bad_records: int = 0,
        waits: Callable[[], float] = lambda: 0.0,
    ):
        """save_due: whether it is time to save; worker 0's clock decides.

        bad_records: the indices that this worker has met, which grow while it reads. waits: the
        seconds that this worker has waited for its input so far.
        """
        self.steps = 1
        self.saving = False
        self.waited = 0.0
        self.bad_records = 0
        self.pace = pace
        self._waits = waits
        self._waits_before = 0.0
        self._workers = workers
        self._stop_requested = stop_requested
        self._save_due = save_due
        self._bad_records = bad_records
        self._max_bad_records = max_bad_records

    def sync(self) -> bool:
        """Sets `steps` and `saving` as worker 0 says; returns whether any was asked to stop.

        Raises TrainerError where the workers together have met more bad records than are allowed.
        """
        waits = self._waits()
        own = [
            *(self._stop_requested(), self._save_due()),
            *(self.pace.proposal(), len(self._bad_records)),
            round(1e6 * (waits - self._waits_before)),
        ]
        self._waits_before = waits
        stop, saving, proposals, bad, waited = self._workers.gather(own).T
        self.steps, self.saving = int(proposals[0]), bool(saving[0])
        self.waited = float(waited.max()) / 1e6
        self.bad_records = self._count_bad_records(most=int(bad.max()))
        return bool(stop.any())

    def _count_bad_records(self, most: int) -> int:
        """most: how many the worker with most of them has met."""
        if self._workers.count == 1 or most == 0:
            return most  # a reader keeps to the budget itself
        own = sorted(self._bad_records)
        row = [*own, *[-1] * (most - len(own))]
        met = set(self._workers.gather(row).ravel().tolist()) - {-1}
        if len(met) > self._max_bad_records:
            raise TrainerError(
                f"The workers have met {counted(len(met), 'bad record')}, each named where it was "
                "read; "
                f"--max_bad_records={self._max_bad_records} allows fewer."
            )
        return len(met)


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turns TensorFlow's error about a worker that is gone into a ClusterError."""
    try:
        yield
    except tf.errors.OpError as error:
        lost = internals.lost_workers(error)
        if lost is None:
            raise
        which = f"Worker {' or '.join(map(str, lost))}" if lost else "Another worker"
        raise ClusterError(f"{which} is gone. See that worker's own log.") from None


def _build_sum(
    strategy: tf.distribute.Strategy, local_replicas: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64)])
    def total(rows: tf.Tensor) -> tf.Tensor:
        def replica() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # One replica speaks for its worker; the others add nothing.
            first = context.replica_id_in_sync_group % local_replicas == 0
            return context.all_reduce("SUM", tf.where(first, rows, tf.zeros_like(rows)))

        return strategy.experimental_local_results(strategy.run(replica))[0]

    return total
