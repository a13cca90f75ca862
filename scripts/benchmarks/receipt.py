"""What the hashes of a run's steps cost: none, none due, and those of every step, in turn."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import tensorflow as tf

from input import arrays, order, pipeline
from input.config import InputConfig
from input.witness import Witness
from models.build import build_model
from models.config import ModelConfig
from scripts.benchmarks.comparison import Benchmark, measure_in_turn
from scripts.benchmarks.config import BenchmarkConfig
from trainer import calendar, iterators, optimizers, receipt, recipe, recording, step, tracing
from trainer.config import RunConfig
from trainer.micro_batch import MicroBatch
from trainer.recipe import OptimizerConfig
from trainer.workers import strategy
from trainer.workers.agreement import Workers

CLASSES, RECORDS = 10, 512
Due: TypeAlias = Callable[[Any], Any]  # of a Witness, or of a Hashing


@dataclass(frozen=True)
class Cost:
    """Of the hashes of one model's steps, medians of the rounds."""

    columns: ClassVar = ("", "ms a step", "between lines", "ms a line", "at the default", "every")

    what: str
    milliseconds: float  # of a step without hashes
    between: float  # of that, more in a step of which no hashes are due
    line_milliseconds: float  # more where they are
    every: int  # steps, the default

    @property
    def share(self) -> float:
        """Of the time of a run."""
        return self.between + self.line_milliseconds / self.milliseconds / self.every

    def cells(self) -> tuple[str, ...]:
        return (
            self.what,
            f"{self.milliseconds:,.1f}",
            f"{self.between:+.2%}",
            f"{self.line_milliseconds:,.1f}",
            f"{self.share:+.2%}",
            str(self.every),
        )


def receipt_cost(config: BenchmarkConfig, scale: int = 100) -> list[Cost]:
    """cnn on 28 pixels and ResNet-50 on 64, on one CPU, through the real pipeline.

    scale: steps of cnn in a round; ResNet-50 makes a fiftieth of them.
    """
    small = InputConfig(global_batch_size=128, micro_batch_size=16, image_size=28)
    large = InputConfig(global_batch_size=32, micro_batch_size=16, image_size=64)
    return [
        _cost("cnn", small, scale, config.rounds),
        _cost("resnet50", large, max(1, scale // 50), config.rounds),
    ]


def _cost(model: str, inputs: InputConfig, steps: int, rounds: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        dues: dict[str, Due | None] = {"without": None, "none due": _never, "all due": _always}
        variants = {
            name: _variant(model, inputs, due, steps, Path(folder)) for name, due in dues.items()
        }
        rates = measure_in_turn(steps, rounds, variants)
    seconds = {name: [1 / rate for rate in each] for name, each in rates.items()}
    alone = statistics.median(seconds["without"])

    def more(name: str, than: str) -> float:
        """Seconds a step, each round against its own."""
        pairs = zip(seconds[name], seconds[than], strict=True)
        return statistics.median(one - other for one, other in pairs)

    return Cost(
        f"{model}, {inputs.image_size} px, {inputs.global_batch_size} images a step",
        milliseconds=1000 * alone,
        between=more("none due", "without") / alone,
        line_milliseconds=1000 * more("all due", "none due"),
        every=RunConfig.hash_every,
    )


def _variant(
    name: str, inputs: InputConfig, due: Due | None, steps: int, folder: Path
) -> Callable[[], float]:
    """Trains a new model for so many steps, in one call where no hashes are due; its seconds."""
    config = order.resolve(inputs, records_size=None)
    pixels = np.random.default_rng(0).integers(
        0, 255, (RECORDS, config.image_size, config.image_size, 3), np.uint8
    )
    reader = arrays.ArrayReader(pixels, np.arange(RECORDS) % CLASSES)
    plan = order.plan(config, RECORDS, replicas=1)
    witness = None if due is None else Witness(due)
    devices = strategy.make_strategy(["CPU:0"], strategy.cores())
    workers = Workers(devices)
    resolved = recipe.resolve(OptimizerConfig(), config.global_batch_size, epochs=1)
    with devices.scope():
        model = build_model(
            ModelConfig(name),
            input_shape=(config.image_size, config.image_size, 3),
            num_classes=CLASSES,
            precision="float32",
            seed=0,
        )
        optimizer = optimizers.build_optimizer(resolved, model)
    micro_batch = MicroBatch(
        model,
        statistics=tracing.statistics(model, plan),
        images_per_step=plan.images_per_step,
        micro_batches=plan.micro_batches,
        seed=0,
    )
    train = step.build_train(
        devices,
        micro_batch,
        optimizer,
        optimizers.build_schedule(resolved, plan.steps_per_epoch, epochs=1),
        hashing=None if due is None else step.Hashing(due),
    )
    dataset = partial(pipeline.train, config, reader, plan, seed=0, witness=witness)
    iterator = iterators.distributed(devices, dataset)
    numbers = count()

    def run() -> float:
        start = time.perf_counter()
        if due is not _always:
            first = tf.constant(steps * next(numbers), tf.int64)
            train(iterator, first, tf.constant(steps, tf.int64)).loss.numpy()
            return time.perf_counter() - start
        assert witness is not None
        for _ in range(steps):
            number = next(numbers)
            history = train(iterator, tf.constant(number, tf.int64), tf.constant(1, tf.int64))
            seen, of_sum = witness.take(number), history.hashes.numpy()[-1]
            found = recording.hashes(number + 1, seen, of_sum, model, workers)
            receipt.append(folder, receipt.chained("", found))
        return time.perf_counter() - start

    return run


_never = partial(calendar.hashed, every=10**9, steps_per_epoch=10**9)
_always = partial(calendar.hashed, every=1, steps_per_epoch=1)
RECEIPT_BENCHMARKS: dict[str, Benchmark] = {"receipt": receipt_cost}
