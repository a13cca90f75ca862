"""What a run shows and records costs: all of it, against the same training without it."""

import io
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from input.arrays import ArrayReader
from input.splits import TRAIN, VALIDATION
from scripts.benchmarks.comparison import Benchmark
from scripts.benchmarks.config import BenchmarkConfig
from trainer import assembly, calendar, chief, evaluate, loop, run_dir, tracing
from trainer.checkpoint import Checkpoints
from trainer.config import Config, Hardware

CLASSES, SIZE, IMAGES = 10, 28, 128  # a step
VALIDATED = 0.1  # of the training images


@dataclass(frozen=True)
class Cost:
    """Of what a run shows and records."""

    columns: ClassVar = (
        *("training", "images/s with all of it", "without", "slower by"),
        *("lowest epoch", "highest epoch"),
    )

    what: str
    rate: float  # with everything on at its default interval
    rate_alone: float
    shares: tuple[float, ...]  # of the time alone, each epoch against the one beside it

    def cells(self) -> tuple[str, ...]:
        found = (self.rate_alone / self.rate - 1, min(self.shares), max(self.shares))
        return (
            self.what,
            f"{self.rate:,.0f}",
            f"{self.rate_alone:,.0f}",
            *(f"{share:+.2%}" for share in found),
        )


@dataclass(frozen=True)
class Part:
    """What lies between two lines of metrics."""

    epoch: int  # from 1
    steps: int
    of_steps: (
        bool  # and of nothing else: neither a checkpoint nor an evaluation nor an epoch's start
    )
    seconds: float
    seconds_alone: float


def monitoring_cost(config: BenchmarkConfig, images: int = 20_000) -> list[Cost]:
    """cnn on 28 pixels, on one CPU: the smaller the step, the more the rest shows.

    Two trainings take turns after each line of metrics, for as many epochs as there are rounds.
    Both validate after each and save a checkpoint. The run as users have it also writes metrics,
    events, pictures, findings, receipt and cards, takes the time of everything, and heeds signals,
    stalls and other workers. The clocks start after the first line, behind all tracing, and include
    the end.
    """
    generator = np.random.default_rng(0)
    readers = {}
    for split, count in ((TRAIN, images), (VALIDATION, int(VALIDATED * images))):
        pixels = generator.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
        readers[split] = ArrayReader(pixels, np.arange(count) % CLASSES)
    settings = {"model": "cnn", "image_size": SIZE, "global_batch_size": IMAGES}
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        run, alone = (
            Config.of(run_dir=folder, epochs=config.rounds, **settings)
            for folder in (first, second)
        )
        parts = in_turn(run, alone, readers)
    title = f"cnn, {SIZE} px, {IMAGES} images a step, {config.rounds} epochs of {images:,}"
    steps = [part for part in parts if part.of_steps]
    return [_cost(f"{title}: its steps", steps), _cost(f"{title}: all of it", parts)]


def _cost(what: str, parts: Sequence[Part]) -> Cost:
    images = IMAGES * sum(part.steps for part in parts)
    by_epoch = [list(same) for _, same in groupby(parts, key=lambda part: part.epoch)]
    return Cost(
        what,
        rate=images / _seconds(parts),
        rate_alone=images / _seconds_alone(parts),
        shares=tuple(_seconds(each) / _seconds_alone(each) - 1 for each in by_epoch),
    )


def _seconds(parts: Iterable[Part]) -> float:
    return sum(part.seconds for part in parts)


def _seconds_alone(parts: Iterable[Part]) -> float:
    return sum(part.seconds_alone for part in parts)


def in_turn(run: Config, alone: Config, readers: Mapping[str, ArrayReader]) -> list[Part]:
    """A run, and after each of its lines of metrics the same part of the training alone."""
    rest = _alone(alone, readers)
    found: list[Part] = []
    since, done, evaluated = 0.0, 0, False

    def turn(line: Mapping[str, Any]) -> None:
        nonlocal since, done, evaluated
        seconds, begin = time.perf_counter() - since, time.perf_counter()
        next(rest)
        part = Part(
            epoch=math.ceil(line["epoch"]),
            steps=line["step"] - done,
            of_steps=not evaluated and "train/loss" in line,
            seconds=seconds,
            seconds_alone=time.perf_counter() - begin,
        )
        if since:  # else the first line, which all tracing is behind
            found.append(part)
        done, evaluated = line["step"], "train/loss" not in line
        since = time.perf_counter()

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        loop.fit(run, Hardware(virtual_cpus=1), readers, hook=turn)
    end = time.perf_counter() - since
    return [*found[:-1], replace(found[-1], seconds=found[-1].seconds + end)]


def _alone(config: Config, readers: Mapping[str, ArrayReader]) -> Iterator[None]:
    """Steps, evaluations and checkpoints of the run, in calls as long, and nothing else.

    Yields where the run has a line of metrics.
    """
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
    done, state = 0, None
    total = plan.steps_per_epoch * run.epochs
    while done < total:
        end = calendar.next_stop(done, total, run.log_every_steps, plan.steps_per_epoch)
        steps = tf.constant(end - done, tf.int64)
        training.train(iterator, tf.constant(done, tf.int64), steps).loss.numpy()
        done = end
        yield
        if done % plan.steps_per_epoch == 0:
            state = chief.save(checkpoints, done, job, state)
            state, _ = evaluate.evaluated(state, evaluation, None)
            checkpoints.note(state)
            yield


MONITORING_BENCHMARKS: dict[str, Benchmark] = {"monitoring": monitoring_cost}
