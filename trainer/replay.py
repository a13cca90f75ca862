"""Steps of a run that are computed again, from a checkpoint before them. Nothing is written."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from input import pipeline
from input.splits import TRAIN
from input.witness import Seen, Witness
from trainer import assembly, incidents, provenance, recording, run_dir, tracing, transfer
from trainer.checkpoint import Checkpoints
from trainer.config import Hardware
from trainer.fingerprint import of_each
from trainer.receipt import Part, Recomputed, Step


class Replay:
    """A run on this hardware, to compute steps of it again."""

    def __init__(self, folder: Path, hardware: Hardware, *, model: str = "", data_dir: str = ""):
        """model: the run's, which must be given where it is code of the user's. data_dir: the
        records' folder; empty: where the run was trained from. Raises InputError, TrainerError.
        """
        self.definition = run_dir.load(folder)
        provenance.check_named(folder, self.definition, model)
        self.job = assembly.replayed(self.definition, hardware, data_dir=data_dir)
        training = self._training = tracing.training(self.job, hash_tensors=True)
        self._incidents = incidents.load(folder)
        averages, loss_scale = training.averages, training.micro_batch.loss_scale
        layers = [part.layer for part in (averages, loss_scale) if part is not None]
        parts = (self.job.model, training.optimizer, *layers)
        self._initial = [(v, v.numpy()) for part in parts for v in part.variables]
        self._checkpoints = Checkpoints(
            folder,
            run_dir.identity(self.definition),
            self.job.model,
            training.optimizer,
            averages=averages,
            loss_scale=loss_scale,
        )
        states, self.damaged = self._checkpoints.survey()
        self.states = {s.step: s for s in states if not self._incidents.made_void(s)}

    def notes(self) -> Iterator[str]:
        """In what this is not where the run was trained: its bits may differ for that."""
        for name, value in self.job.definition.environment.items():
            before = self.definition.environment.get(name)
            if before != value:
                yield f"{name} was {before} and is {value} here: the bits may differ"

    def restore(self, step: int) -> None:
        """Gives the model what the run had after so many steps: one of `states`, or 0."""
        if step:
            self._checkpoints.load(self.states[step])
            return
        for variable, value in self._initial:
            variable.assign(value)
        transfer.transfer(self.job, self.definition)
        if self._training.averages:
            self._training.averages.start()

    def steps(self, start: int, stop: int) -> Iterator[Step]:
        """Computes the steps after the first `start` ones, up to the stop-th."""
        plan, seed = self._training.plan, self.definition.config.run.seed
        now = None
        for number in range(start, stop):
            left_out = incidents.left_out(self._incidents.before(number), plan, seed)
            if left_out != now:
                now, witness = left_out, Witness(lambda step: step >= start)
                planned = dataclasses.replace(plan, left_out=left_out)
                iterator = tracing.micro_batches(self.job, planned, number, witness=witness)
            yield self._step(number, iterator, witness)

    def _step(self, number: int, iterator: Iterator[Any], witness: Witness) -> Step:
        at, one = (tf.constant(each, tf.int64) for each in (number, 1))
        with pipeline.naming_bad_records(self.job.readers[TRAIN]):
            (of_sum,) = self._training.train(iterator, at, one).hashes.numpy()
        seen = witness.take(number)
        hashes = recording.hashes(number + 1, seen, of_sum, self.job.model, self.job.workers)
        slots = _slots([seen[each] for each in sorted(seen)])
        parts = {
            "records": tuple(Part(f"slot {n}", f"record {record}") for n, record, _ in slots),
            "pixels": tuple(
                Part(f"the image in slot {n}, record {record}", mark) for n, record, mark in slots
            ),
            "gradients": tuple(
                Part(name, recording.shown(each))
                for name, each in zip(self._names(), of_sum, strict=True)
            ),
            "weights": tuple(Part(*each) for each in of_each(self.job.model)),
        }
        return Step(hashes, parts)

    def _names(self) -> Iterator[str]:
        """Of the parts of a step's sum."""
        micro_batch = self._training.micro_batch
        yield from (v.path for v in micro_batch.variables)
        yield from (f"the change of {v.path}" for v in micro_batch.statistics)
        yield from ("the loss", "the number of images", "the number of right ones")
        yield "the number of micro-batches within range"


def recompute(
    folder: Path, hardware: Hardware, first: int, last: int, model: str = "", data_dir: str = ""
) -> Recomputed:
    """The steps first..last of a run, from its nearest checkpoint. Raises InputError, TrainerError.

    For a process of its own: TensorFlow's threads are those of the run.
    """
    replay = Replay(folder, hardware, model=model, data_dir=data_dir)
    start = max((step for step in replay.states if step < first), default=0)
    replay.restore(start)
    steps = [step for step in replay.steps(start, last) if step.hashes.step >= first]
    return Recomputed(start, tuple(replay.notes()), tuple(steps))


def _slots(micro_batches: Sequence[Seen]) -> list[tuple[int, int, str]]:
    """Number, record and hash of the content of each slot of a step."""
    records = np.concatenate([each.records for each in micro_batches]).tolist()
    contents = [mark.hex() for each in micro_batches for mark in each.contents]
    return list(zip(range(len(records)), records, contents, strict=True))
