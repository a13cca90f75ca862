"""What a run shows and records costs: all of it, against the same training without it."""

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from input.arrays import ArrayReader
from input.splits import TRAIN, VALIDATION
from scripts.benchmarks.comparison import Benchmark, measure_in_turn
from scripts.benchmarks.config import BenchmarkConfig
from trainer import assembly, calendar, chief, evaluate, loop, run_dir, tracing
from trainer.checkpoint import Checkpoints
from trainer.config import Config, Hardware, RunConfig

CLASSES, SIZE, IMAGES = 10, 28, 128  # a step
EPOCHS = 4
VALIDATED = 0.2  # of the training images


@dataclass(frozen=True)
class Cost:
    """Of what a run shows and records."""

    columns: ClassVar = (
        *("training", "images/s with all of it", "without", "slower by"),
        *("lowest", "highest"),
    )

    what: str
    rate: float  # with everything on at its default interval, median of the rounds
    rate_alone: float
    shares: tuple[float, ...]  # of the time alone, each round against its own

    def cells(self) -> tuple[str, ...]:
        found = (statistics.median(self.shares), min(self.shares), max(self.shares))
        return (
            self.what,
            f"{self.rate:,.0f}",
            f"{self.rate_alone:,.0f}",
            *(f"{share:+.2%}" for share in found),
        )


def monitoring_cost(config: BenchmarkConfig, images: int = 10_000) -> list[Cost]:
    """cnn on 28 pixels, a few epochs, on one CPU: the smaller the step, the more the rest shows.

    Both train, validate after every epoch and save a checkpoint of it. The run as users have it
    also writes metrics, events, pictures, findings, receipt and cards, takes the time of
    everything, and heeds signals, stalls and other workers. Clocks start after the first 20 steps,
    behind all tracing.
    """
    generator = np.random.default_rng(0)
    readers = {}
    for split, count in ((TRAIN, images), (VALIDATION, int(VALIDATED * images))):
        pixels = generator.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
        readers[split] = ArrayReader(pixels, np.arange(count) % CLASSES)
    variants = {"all": _in_new_folder(_run, readers), "alone": _in_new_folder(_alone, readers)}
    rates = measure_in_turn(_counted(images), config.rounds, variants)
    shares = (alone / all_ - 1 for all_, alone in zip(rates["all"], rates["alone"], strict=True))
    return [
        Cost(
            f"cnn, {SIZE} px, {IMAGES} images a step, {EPOCHS} epochs of {images:,}",
            rate=statistics.median(rates["all"]),
            rate_alone=statistics.median(rates["alone"]),
            shares=tuple(shares),
        )
    ]


def _counted(images: int) -> int:
    """Images while the clocks run: all but those of the first line of metrics."""
    return (images // IMAGES * EPOCHS - RunConfig.log_every_steps) * IMAGES


def _in_new_folder(
    train: Callable[[Config, Mapping[str, ArrayReader]], float], readers: Mapping[str, ArrayReader]
) -> Callable[[], float]:
    def seconds() -> float:
        with (
            tempfile.TemporaryDirectory() as folder,
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            settings = {"run_dir": folder, "epochs": EPOCHS, "model": "cnn", "image_size": SIZE}
            return train(Config.of(global_batch_size=IMAGES, **settings), readers)

    return seconds


def _run(config: Config, readers: Mapping[str, ArrayReader]) -> float:
    """As samestep-train does it."""
    lines: list[float] = []

    def note(line: Mapping[str, Any]) -> None:
        lines.append(time.perf_counter())

    loop.fit(config, Hardware(virtual_cpus=1), readers, hook=note)
    return time.perf_counter() - lines[0]


def _alone(config: Config, readers: Mapping[str, ArrayReader]) -> float:
    """Steps, evaluations and checkpoints of the same run, in calls as long, and nothing else."""
    run = replace(config.run, hash_every=0)
    job = assembly.begin(replace(config, run=run), Hardware(virtual_cpus=1), arrays=readers)
    training = tracing.training(job)
    plan = training.plan
    checkpoints = Checkpoints(
        *(Path(run.run_dir), run_dir.identity(job.definition), job.model, training.optimizer),
        run.keep_checkpoints,
    )
    evaluation = evaluate.build_evaluation(
        job.strategy, job.model, job.config.input, job.readers[VALIDATION]
    )
    iterator = tracing.micro_batches(job, plan, 0)
    done, state, start = 0, None, 0.0
    total = plan.steps_per_epoch * run.epochs
    while done < total:
        end = calendar.next_stop(done, total, run.log_every_steps, plan.steps_per_epoch)
        steps = tf.constant(end - done, tf.int64)
        training.train(iterator, tf.constant(done, tf.int64), steps).loss.numpy()
        start, done = start or time.perf_counter(), end
        if done % plan.steps_per_epoch == 0:
            state = chief.save(checkpoints, done, job, state)
            state, _ = evaluate.evaluated(state, evaluation, None)
            checkpoints.note(state)
    return time.perf_counter() - start


MONITORING_BENCHMARKS: dict[str, Benchmark] = {"monitoring": monitoring_cost}
