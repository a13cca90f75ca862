"""The hashes of a run's steps, while it trains: pipeline, step and model -> receipt.jsonl."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from input.order import Plan
from input.witness import Seen, Witness
from trainer import calendar, receipt, run_dir
from trainer.assembly import Job
from trainer.fingerprint import fingerprint
from trainer.receipt import Hashes
from trainer.step import History
from trainer.workers.agreement import Workers
from trainer.workers.watchdog import Pace, bounded


class Recorder:
    """Adds a line to the receipt of a run after each step that is due."""

    def __init__(self, job: Job, plan: Plan, done: int, run: str):
        """Drops what an earlier launch wrote about steps that are done again.

        run: identity of the definition in the run's folder. Raises TrainerError where the folder
        cannot be written.
        """
        settings = job.config.run
        self._folder, self._model, self._workers = Path(settings.run_dir), job.model, job.workers
        due = calendar.hashes_due(settings.hash_every, plan.steps_per_epoch)
        self.witness = Witness(due) if due else None
        if job.workers.chief:
            with run_dir.writing(self._folder):
                self._chain = receipt.rewind(self._folder, done) or run

    def note(self, done: int, history: History, pace: Pace) -> None:
        """Adds the line of the last of so many steps, if that is due. history: of arrays.

        Every worker calls it; worker 0 writes. Raises TrainerError where it cannot.
        """
        if self.witness is None or not self.witness.due(done - 1):
            return
        with bounded(pace.limit(0), f"The hashes of step {done} stalled."):
            seen = self.witness.take(done - 1)
            found = hashes(done, seen, history.hashes[-1], self._model, self._workers)
            if self._workers.chief:
                line = receipt.chained(self._chain, found)
                with run_dir.writing(self._folder):
                    receipt.append(self._folder, line)
                self._chain = line.chain


def hashes(
    done: int,
    seen: Mapping[int, Seen],
    of_sum: np.ndarray,
    model: keras.Model,
    workers: Workers,
) -> Hashes:
    """The hashes of a step, the last of so many, the same on all workers but for the weights'.

    seen: this worker's micro-batches by their numbers. of_sum: int64[n], a row of History.hashes.
    """
    rows = [_digests(seen[number]) for number in sorted(seen)]
    # Worker 0 has the first micro-batches of a step, worker 1 the next ones: in order already.
    both = workers.gather(np.concatenate(rows).tolist()).reshape(-1, 2, 4)
    records, pixels = (hashlib.sha256(both[:, i].tobytes()).hexdigest() for i in range(2))
    weights = fingerprint(model) if workers.chief else ""
    return Hashes(done, records, pixels, shown(of_sum.sum()), weights)


def shown(of_sum: np.int64) -> str:
    """A hash of trainer.digest in hexadecimal."""
    return f"{int(of_sum) % 2**64:016x}"


def _digests(seen: Seen) -> np.ndarray:
    """int64[8]: SHA-256 of a micro-batch's records, and of its content."""
    parts = (seen.records.astype("<i8").tobytes(), b"".join(seen.contents))
    return np.frombuffer(b"".join(hashlib.sha256(part).digest() for part in parts), np.int64)
