"""What a run shows and records costs: all of it, against the same training without it."""

import io
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from input.arrays import ArrayReader
from input.splits import TRAIN, VALIDATION
from scripts.benchmarks.comparison import Benchmark
from scripts.benchmarks.config import BenchmarkConfig
from scripts.process import in_new_process
from trainer import assembly, calendar, chief, evaluate, loop, run_dir, tracing
from trainer.assembly import Job
from trainer.checkpoint import Checkpoints
from trainer.config import Config, Hardware
from trainer.tracing import Training

CLASSES, SIZE, IMAGES = 10, 28, 128  # a step
EPOCHS = 5  # of a round, of which the first does not count
VALIDATED = 0.1  # of the training images


@dataclass(frozen=True)
class Cost:
    """Of what a run shows and records."""

    columns: ClassVar = (
        *("training", "images/s with all of it", "without", "slower by"),
        *("lowest", "highest"),
    )

    what: str
    rate: float  # with everything on at its default interval; median of the rounds
    rate_alone: float
    share: float  # of the time alone, median of the rounds
    shares: tuple[float, ...]  # of each round

    def cells(self) -> tuple[str, ...]:
        found = (self.share, min(self.shares), max(self.shares))
        return (
            self.what,
            f"{self.rate:,.0f}",
            f"{self.rate_alone:,.0f}",
            *(f"{share:+.2%}" for share in found),
        )


@dataclass(frozen=True)
class Part:
    """What lies between two lines of metrics."""

    steps: int  # 0: an evaluation and its checkpoint
    seconds: float
    seconds_alone: float

    @property
    def share(self) -> float:
        """What the run takes longer, as a share of the time alone."""
        return self.seconds / self.seconds_alone - 1


def monitoring_cost(
    config: BenchmarkConfig, images: int = 20_000, epochs: int = EPOCHS
) -> list[Cost]:
    """cnn on 28 pixels, on one CPU: the smaller the step, the more the rest shows.

    The run as users have it and the same training alone take turns after each line of metrics. Both
    train one model, so that its place in memory makes no difference: of two models one is up to a
    tenth slower, for as long as the process lives. Each round is a new process. Both validate after
    each epoch and save a checkpoint. The run also writes metrics, events, pictures, findings,
    receipt and cards, takes the time of everything, and heeds signals, stalls and other workers.
    The clocks start after the first epoch, behind all tracing, and include the end.
    """
    rounds = [in_new_process(_round, images, epochs, SIZE, IMAGES) for _ in range(config.rounds)]
    title = f"cnn, {SIZE} px, {IMAGES} images a step, {epochs} epochs of {images:,}"
    steps = [of_steps(parts) for parts in rounds]
    # There are many turns of steps, and a median of them is surer than one of the rounds.
    turns = statistics.median(part.share for parts in steps for part in parts)
    return [_cost(f"{title}: its steps", steps, turns), _cost(f"{title}: all of it", rounds)]


def _round(images: int, epochs: int, size: int, images_per_step: int) -> list[Part]:
    """Of a process of its own."""
    generator = np.random.default_rng(0)
    readers = {}
    for split, count in ((TRAIN, images), (VALIDATION, int(VALIDATED * images))):
        pixels = generator.integers(0, 256, (count, size, size, 3), np.uint8)
        readers[split] = ArrayReader(pixels, np.arange(count) % CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        config = Config.of(
            run_dir=f"{folder}/run",
            epochs=epochs,
            model="cnn",
            image_size=size,
            global_batch_size=images_per_step,
        )
        return in_turn(config, f"{folder}/alone", readers)


def _cost(what: str, rounds: Sequence[Sequence[Part]], share: float | None = None) -> Cost:
    """share: of the time alone; unset: the median of the rounds."""
    whole = [
        Part(*(sum(column) for column in zip(*map(astuple, parts), strict=True)))
        for parts in rounds
    ]
    shares = tuple(each.share for each in whole)
    images = IMAGES * whole[0].steps
    return Cost(
        what,
        rate=images / statistics.median(each.seconds for each in whole),
        rate_alone=images / statistics.median(each.seconds_alone for each in whole),
        share=statistics.median(shares) if share is None else share,
        shares=shares,
    )


def of_steps(parts: Sequence[Part]) -> list[Part]:
    """Those of steps and nothing else: no evaluation, no checkpoint, no start of an epoch."""
    return [part for before, part in pairwise(parts) if before.steps and part.steps]


def in_turn(config: Config, folder: str, readers: Mapping[str, ArrayReader]) -> list[Part]:
    """A run, and after each of its lines of metrics the same part of the training alone.

    What follows the first evaluation. folder: for the checkpoints of what is trained alone.
    """
    job = assembly.begin(config, Hardware(virtual_cpus=1), arrays=readers)
    training = tracing.training(job)
    alone = _alone(job, training, Path(folder))
    found: list[Part] = []
    since, done = time.perf_counter(), 0

    def turn(line: Mapping[str, Any]) -> None:
        nonlocal since, done
        seconds, begin = time.perf_counter() - since, time.perf_counter()
        next(alone)
        found.append(Part(line["step"] - done, seconds, time.perf_counter() - begin))
        since, done = time.perf_counter(), line["step"]

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        loop.train(job, training, first=None, hook=turn)
    last = replace(found[-1], seconds=found[-1].seconds + time.perf_counter() - since)
    first = next(number for number, part in enumerate(found, 1) if not part.steps)
    return [*found[first:-1], last]


def _alone(job: Job, training: Training, folder: Path) -> Iterator[None]:
    """Steps, evaluations and checkpoints of the run, in calls as long, and nothing else.

    Yields where the run has a line of metrics.
    """
    run, plan = job.config.run, training.plan
    train = tracing.without_hashes(job, training)
    checkpoints = Checkpoints(
        *(folder, run_dir.identity(job.definition), job.model, training.optimizer),
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
        train(iterator, tf.constant(done, tf.int64), steps).loss.numpy()
        done = end
        yield
        if done % plan.steps_per_epoch == 0:
            state = chief.save(checkpoints, done, job, state)
            state, _ = evaluate.evaluated(state, evaluation, None)
            checkpoints.note(state)
            yield


MONITORING_BENCHMARKS: dict[str, Benchmark] = {"monitoring": monitoring_cost}
