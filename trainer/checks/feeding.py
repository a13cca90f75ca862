"""Whether the input keeps up with the step: the rates of both, measured."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from input import pipeline
from trainer import iterators, tracing
from trainer.assembly import Job
from trainer.checks.finding import Finding
from trainer.tracing import Training

SECONDS = 2.0  # of measuring, for each of the two
SLOW_SECONDS = 10.0  # a first step of so long, start and all, is measure enough
MOST_STEPS = 50


@dataclass(frozen=True)
class Rates:
    """Images a second of one worker."""

    step: float  # that the step takes
    decoded: float  # that one core reads from memory and decodes
    read: float | None  # from the disk; None: not measured

    @property
    def cores(self) -> float:
        """So many feed the step."""
        return self.step / self.decoded


def measure(job: Job, training: Training, first_seconds: float, read: float | None) -> Rates:
    """first_seconds: what the first step has taken, on images of the pipeline."""
    images = training.plan.images_per_step / job.workers.count
    step = images / _step_seconds(job, training, first_seconds)
    return Rates(step, _decoded_per_core(job, training), read)


def judge(rates: Rates, available: int) -> Finding:
    shown = (
        f"the step takes {rates.step:,.0f} images a second, one core decodes {rates.decoded:,.0f}: "
        f"{rates.cores:.2g} of {available} cores feed it"
    )
    if rates.cores > available:
        return Finding(
            "input",
            "warning",
            f"{shown}, so that the devices will wait. Store less to decode: samestep-records write "
            "with --short_side=256 or --encoding=raw; or build the native decoder, docs/data.md",
        )
    if rates.read is not None and rates.read < rates.step:
        return Finding(
            "input",
            "warning",
            f"{shown}, but only {rates.read:,.0f} records a second come from the disk, so that "
            "each first epoch will wait. Copy the records to a local disk, or read neighbours "
            "together: --read_block=16",
        )
    return Finding("input", "ok", shown)


def _step_seconds(job: Job, training: Training, first_seconds: float) -> float:
    """Of a step whose images are there. Changes the weights."""
    first_seconds = _longest(job, first_seconds)
    if first_seconds > SLOW_SECONDS:
        return first_seconds
    iterator = _ready_images(job, training)
    seconds = _longest(job, _timed(training, iterator, 1))
    count = min(MOST_STEPS, int(SECONDS / seconds) or 1)
    return _timed(training, iterator, count) / count


def _longest(job: Job, seconds: float) -> float:
    """Of all workers: each must make as many steps as the others, or it waits for ever."""
    return float(job.workers.gather([int(1e6 * seconds)]).max()) / 1e6


def _ready_images(job: Job, training: Training) -> Iterator[Any]:
    """Micro-batches of the pipeline's shapes and types that cost nothing to make."""
    one = next(iter(tracing.dataset(job, training.plan)))
    return iterators.distributed(job.strategy, lambda: tf.data.Dataset.from_tensors(one).repeat())


def _timed(training: Training, iterator: Iterator[Any], steps: int) -> float:
    start = time.perf_counter()
    training.train(iterator, tf.constant(1, tf.int64), tf.constant(steps, tf.int64)).loss.numpy()
    return time.perf_counter() - start


def _decoded_per_core(job: Job, training: Training) -> float:
    """Images for each second of a processor, all threads together; the first ones do not count."""
    iterator = iter(tracing.dataset(job, training.plan))
    for _ in range(2 * (pipeline.PARALLEL + pipeline.READY)):
        next(iterator)
    images, start, before = 0, time.monotonic(), time.process_time()
    while time.monotonic() < start + SECONDS:
        next(iterator)
        images += training.plan.images_per_micro_batch
    return images / (time.process_time() - before)
