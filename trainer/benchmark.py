"""What the loop, Keras fit and the exact sum cost: two ways in turn in one process.

A benchmark is a function of a BenchmarkConfig that returns Comparisons; BENCHMARKS names them.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

import models.build
from input import order, synthetic
from input.config import InputConfig
from models.config import ModelConfig
from models.layers import FusedBatchNorm, Pixels
from trainer import cluster, loop, optimizers, step
from trainer.agreement import Workers
from trainer.config import BenchmarkConfig, OptimizerConfig
from trainer.monitor import Monitor
from trainer.watchdog import Pace

CLASSES = 10
RECORDS = 10_000  # only the schedule depends on it
OPTIMIZER = OptimizerConfig(weight_decay=0.0)


@dataclass(frozen=True)
class Comparison:
    """Two ways of doing the same, measured in turn."""

    columns: ClassVar = ("", "first", "per second", "second", "per second", "ratio", "from", "to")

    what: str
    first: str
    second: str
    first_rate: float  # images/s or what else is counted, median of the rounds
    second_rate: float
    ratio: float  # first / second, median of the rounds
    ratios: tuple[float, ...]  # of each round

    def cells(self) -> tuple[str, ...]:
        rates = [
            f"{rate:,.{0 if rate > 99 else 1}f}" for rate in (self.first_rate, self.second_rate)
        ]
        ratios = [f"{ratio:.2f}" for ratio in (self.ratio, min(self.ratios), max(self.ratios))]
        return self.what, self.first, rates[0], self.second, rates[1], *ratios


def race(images: int, rounds: int, ways: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Runs all ways in turn, round after round -> images/s of each round, by way.

    A way works on `images` images and returns its seconds. A first round warms up and does not
    count. Every other round runs backwards, so that what drifts on the machine hits all alike.
    """
    rates = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name in list(ways) if turn % 2 else list(ways)[::-1]:
            seconds = ways[name]()
            if turn:
                rates[name].append(images / seconds)
    return rates


def compare(what: str, rates: dict[str, list[float]], first: str, second: str) -> Comparison:
    """Two ways of a race."""
    ours, theirs = rates[first], rates[second]
    ratios = tuple(a / b for a, b in zip(ours, theirs, strict=True))
    medians = (statistics.median(values) for values in (ours, theirs, ratios))
    return Comparison(what, first, second, *medians, ratios)


def loop_overhead(config: BenchmarkConfig, steps: int = 100) -> list[Comparison]:
    """The real loop with its metrics, events and lines against the traced step alone: cnn."""
    trial = _Trial(2, InputConfig(global_batch_size=64, micro_batch_size=32, image_size=28))
    train, iterator = trial.step(lambda: _build("cnn", 28))
    with tempfile.TemporaryDirectory() as folder, Monitor(Path(folder), steps, steps, 0) as monitor:
        pace = Pace(steps_per_call=20, stall_seconds=None)
        pace.steps = 20
        alone = Workers(trial.strategy)

        def meet():
            return bool(alone.gather([0, pace.proposal()])[0, 0])

        def real():
            for first in range(0, steps, 20):
                loop.advance(train, iterator, first, first + 20, pace, meet, trial.rate, monitor)

        ways = {"loop": _timed(real), "step": _timed(_call(train, iterator, steps))}
        rates = race(trial.plan.images_per_step * steps, config.rounds, ways)
    return [compare("cnn, 28 px, 2 virtual CPUs", rates, "loop", "step")]


def against_fit(config: BenchmarkConfig, steps: int = 200) -> list[Comparison]:
    """The exact step against Keras fit: the same tiny layers, batch, optimizer and replicas."""
    trial = _Trial(2, InputConfig(global_batch_size=32, micro_batch_size=16, image_size=8))
    train, iterator = trial.step(_tiny)
    halves = [(image, label) for image, label, _ in trial.dataset().take(2)]
    batch = [np.concatenate(column) for column in zip(*halves, strict=True)]
    dataset = tf.data.Dataset.from_tensors(tuple(batch)).repeat()
    with trial.strategy.scope():
        rival = _tiny()
        rival.compile(
            keras.optimizers.SGD(OPTIMIZER.learning_rate, momentum=OPTIMIZER.momentum),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    # fit takes up to 2.5 s to tear down its iterator: its clock stops at the last batch.
    ends = []
    stop = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )

    def fit() -> float:
        start = time.perf_counter()
        rival.fit(dataset, steps_per_epoch=steps, verbose=0, callbacks=[stop], shuffle=False)
        return ends[-1] - start

    ways = {"samestep": _timed(_call(train, iterator, steps)), "fit": fit}
    rates = race(trial.plan.images_per_step * steps, config.rounds, ways)
    return [compare("tiny model, 8 px, 2 virtual CPUs", rates, "samestep", "fit")]


def exact_sum(config: BenchmarkConfig) -> list[Comparison]:
    """--reduction=exact against fast: a ResNet-50 step of two micro-batches on one CPU."""
    trial = _Trial(1, InputConfig(global_batch_size=16, micro_batch_size=8, image_size=64))
    ways = {}
    for reduction in ("exact", "fast"):
        train, iterator = trial.step(lambda: _build("resnet50", 64), reduction)
        ways[reduction] = _timed(_call(train, iterator, 1))
    rates = race(trial.plan.images_per_step, config.rounds, ways)
    return [compare("resnet50, 64 px, 2 micro-batches of 8", rates, "exact", "fast")]


BENCHMARKS = {"loop": loop_overhead, "fit": against_fit, "exact": exact_sum}


class _Trial:
    """Devices, batch and schedule that two ways have in common."""

    def __init__(self, replicas: int, settings: InputConfig):
        names = [f"CPU:{i}" for i in range(replicas)]
        self.strategy = cluster.strategy(names, cluster.cores())
        self.plan = order.plan(settings, RECORDS, replicas)
        self.rate = optimizers.schedule(OPTIMIZER, self.plan.steps_per_epoch, epochs=1)
        self._image_size = settings.image_size

    def dataset(self) -> tf.data.Dataset:
        """Synthetic micro-batches."""
        return synthetic.train(self.plan, self._image_size, CLASSES)

    def step(self, build: Callable[[], keras.Model], reduction: str = "exact"):
        """The traced step of a new model, and an iterator over synthetic input."""
        with self.strategy.scope():
            model = build()
            optimizer = optimizers.build(OPTIMIZER, model)
        train = step.build_train(
            self.strategy,
            model,
            optimizer,
            self.rate,
            images_per_step=self.plan.images_per_step,
            micro_batches=self.plan.micro_batches,
            seed=0,
            reduction=reduction,
        )
        distribute = self.strategy.distribute_datasets_from_function
        return train, iter(distribute(lambda _: self.dataset()))


def _call(train, iterator, steps: int) -> Callable[[], None]:
    """A call of the traced function for that many steps, its result waited for."""
    first, count = tf.constant(0, tf.int64), tf.constant(steps, tf.int64)
    return lambda: train(iterator, first, count).loss.numpy()


def _timed(work: Callable[[], object]) -> Callable[[], float]:
    def seconds() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return seconds


def _build(name: str, size: int) -> keras.Model:
    return models.build.build(
        ModelConfig(name), input_shape=(size, size, 3), num_classes=CLASSES, seed=0
    )


def _tiny() -> keras.Model:
    """So little work that what is measured is the way around it."""
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Conv2D(8, 3, use_bias=False)(Pixels("unit")(image))
    x = keras.layers.ReLU()(FusedBatchNorm()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(CLASSES)(x))
