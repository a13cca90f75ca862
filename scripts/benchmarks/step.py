"""What the loop, Keras fit and the exact sum cost: two variants in turn in one process.

A benchmark is a function of a BenchmarkConfig that returns Comparisons; STEP_BENCHMARKS names them.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input import heap, order, synthetic
from input.config import InputConfig
from models.build import build_model
from models.config import ModelConfig
from models.inspection import assigned_variables
from models.layers import FusedBatchNorm, Pixels
from scripts.benchmarks.comparison import Benchmark, Comparison, compare, measure_in_turn
from scripts.benchmarks.config import BenchmarkConfig
from trainer import iterators, loop, optimizers, recipe, step
from trainer.errors import TrainerError
from trainer.ledger import Ledger
from trainer.micro_batch import MicroBatch
from trainer.monitor import Monitor
from trainer.recipe import OptimizerConfig
from trainer.rows import summary
from trainer.workers import strategy
from trainer.workers.agreement import Sync, Workers
from trainer.workers.watchdog import Pace

CLASSES = 10
RECORDS = 10_000  # only the schedule depends on it
IMAGES = 256  # a step, to which the optimizer's rate belongs
OPTIMIZER = recipe.resolve(
    OptimizerConfig(optimizer="sgd", nesterov=False, weight_decay=0.0), IMAGES, epochs=1
)


def loop_overhead(config: BenchmarkConfig, steps: int = 100) -> list[Comparison]:
    """The real loop with its metrics, events and lines against the traced step alone: cnn."""
    setup = Setup(cpus(2), InputConfig(global_batch_size=64, micro_batch_size=32, image_size=28))
    train, iterator = setup.step(lambda: network("cnn", 28))
    sync = Sync(Workers(setup.strategy), Pace(steps_per_call=20, stall_seconds=None))
    sync.steps, ledger = 20, Ledger()
    with tempfile.TemporaryDirectory() as folder, Monitor(Path(folder), steps, steps, 0) as monitor:

        def real() -> None:
            for first in range(0, steps, 20):
                rows = loop.advance(train, iterator, first, first + 20, sync, ledger)
                monitor.training(rows.end, summary(rows, setup.schedule) | ledger.line())

        variants = {"loop": timed(real), "step": timed(call(train, iterator, steps))}
        rates = measure_in_turn(setup.plan.images_per_step * steps, config.rounds, variants)
    return [compare("cnn, 28 px, 2 virtual CPUs", rates, "loop", "step")]


def against_fit(config: BenchmarkConfig, steps: int = 200) -> list[Comparison]:
    """The exact step against Keras fit: the same tiny layers, batch, optimizer and replicas."""
    setup = Setup(cpus(2), InputConfig(global_batch_size=32, micro_batch_size=16, image_size=8))
    train, iterator = setup.step(tiny)
    with setup.strategy.scope():
        fit = _fit(tiny(), setup, steps)
    variants = {"samestep": timed(call(train, iterator, steps)), "fit": fit}
    rates = measure_in_turn(setup.plan.images_per_step * steps, config.rounds, variants)
    return [compare("tiny model, 8 px, 2 virtual CPUs", rates, "samestep", "fit")]


def exact_sum(config: BenchmarkConfig) -> list[Comparison]:
    """--reduction=exact against fast: ResNet-50 steps of two micro-batches on one CPU.

    The sum costs the same at every image size, by the number of weights; the rest grows with it.
    """
    found = []
    for size in (64, 224):
        setup = Setup(
            cpus(1), InputConfig(global_batch_size=16, micro_batch_size=8, image_size=size)
        )
        variants = {}
        for reduction in ("exact", "fast"):
            train, iterator = setup.step(partial(network, "resnet50", size), reduction)
            variants[reduction] = timed(call(train, iterator, 1))
        rates = measure_in_turn(setup.plan.images_per_step, config.rounds, variants)
        title = f"resnet50, {size} px, 2 micro-batches of 8"
        found.append(compare(title, rates, "exact", "fast"))
    return found


def on_gpu(
    config: BenchmarkConfig, device: str = "GPU:0", model: str = "resnet50", images: int = 64
) -> list[Comparison]:
    """ResNet-50 in bfloat16 and float32: the exact sum against float32 sums and Keras fit.

    Steps of four micro-batches of `images`. fit gets the four as one batch, with and without XLA,
    which it takes by itself on a GPU. No float32 is TF32. Raises TrainerError without a GPU.
    """
    found, steps, size = [], 5, config.image_size
    if device.startswith("GPU") and not tf.config.list_physical_devices("GPU"):
        raise TrainerError("--what=gpu measures a GPU, and TensorFlow sees none here.")
    inputs = InputConfig(global_batch_size=4 * images, micro_batch_size=images, image_size=size)
    setup = Setup([device], inputs, config.deterministic)
    for precision in ("bfloat16", "float32"):
        build = partial(network, model, size, precision)
        variants = {}
        for reduction in ("exact", "fast"):
            train, iterator = setup.step(build, reduction)
            variants[reduction] = timed(call(train, iterator, steps))
        for name, xla in (("fit", False), ("fit, XLA", True)):
            variants[name] = _fit(build(), setup, steps, xla)
        rates = measure_in_turn(setup.plan.images_per_step * steps, config.rounds, variants)
        title = f"{model}, {size} px, 4 micro-batches of {images}, {precision}"
        found += [compare(title, rates, "exact", rival) for rival in list(variants)[1:]]
    return found


def whole_step(config: BenchmarkConfig) -> list[Comparison]:
    """ResNet-50, 128 pixels, 16 images: against Keras' own by fit, and forward and backward alone.

    All variants in turn in one process; fit trains keras.applications.ResNet50 in float32.
    """
    size, images = 128, 16
    inputs = InputConfig(global_batch_size=images, micro_batch_size=images, image_size=size)
    setup = Setup(cpus(1), inputs)
    keras.utils.set_random_seed(0)
    theirs = keras.applications.ResNet50(
        weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None
    )
    variants = {"fit": _fit(theirs, setup, 1)}
    for precision in ("float32", "bfloat16"):
        build = partial(network, "resnet50", size, precision)
        train, iterator = setup.step(build)
        variants[precision] = timed(call(train, iterator, 1))
        variants[f"{precision}, bare"] = timed(_bare(build(), setup))
    rates = measure_in_turn(images, config.rounds, variants)
    title = f"resnet50, {size} px, {images} images"
    return [
        compare(title, rates, one, other)
        for one, other in (
            ("float32", "fit"),
            ("bfloat16", "fit"),
            ("float32", "float32, bare"),
            ("bfloat16", "bfloat16, bare"),
        )
    ]


def _bare(model: keras.Model, setup: "Setup") -> Callable[[], object]:
    """Gradients of the mean cross entropy of one batch, and nothing done with them."""
    batch = next(iter(setup.dataset().repeat()))

    @tf.function
    def gradients(image: tf.Tensor, label: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = model(image, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
            loss = tf.reduce_mean(losses)
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    return lambda: gradients(batch[0], batch[1])[0].numpy()


STEP_BENCHMARKS: dict[str, Benchmark] = {
    "step": whole_step,
    "loop": loop_overhead,
    "fit": against_fit,
    "exact": exact_sum,
    "gpu": on_gpu,
}


class Setup:
    """Devices, batch and schedule that two variants have in common."""

    def __init__(self, devices: list[str], config: InputConfig, deterministic: bool = False):
        heap.keep_freed_pages()  # as a run does, for every variant
        self.strategy = strategy.make_strategy(devices, strategy.cores(), deterministic)
        inputs = order.resolve(config, records_size=None)
        self.plan = order.plan(inputs, RECORDS, len(devices))
        self.schedule = optimizers.build_schedule(OPTIMIZER, self.plan.steps_per_epoch, epochs=1)
        self.inputs = inputs

    def dataset(self) -> tf.data.Dataset:
        """Synthetic micro-batches."""
        return synthetic.train(self.plan, self.inputs.image_size, CLASSES)

    def step(
        self, build: Callable[[], keras.Model], reduction: str = "exact"
    ) -> tuple[step.Train, Iterator[Any]]:
        """The traced step of a new model, and an iterator over synthetic input."""
        with self.strategy.scope():
            model = build()
            optimizer = optimizers.build_optimizer(OPTIMIZER, model)
        micro_batch = MicroBatch(
            model,
            statistics=assigned_variables(model, self.plan.images_per_micro_batch),
            images_per_step=self.plan.images_per_step,
            micro_batches=self.plan.micro_batches,
            seed=0,
            reduction=reduction,
        )
        train = step.build_train(self.strategy, micro_batch, optimizer, self.schedule)
        return train, iterators.distributed(self.strategy, self.dataset)


def call(train: step.Train, iterator: Iterator[Any], steps: int) -> Callable[[], None]:
    """A call of the traced function for that many steps, its result waited for."""
    first, count = tf.constant(0, tf.int64), tf.constant(steps, tf.int64)
    return lambda: train(iterator, first, count).loss.numpy()


def timed(work: Callable[[], object]) -> Callable[[], float]:
    def seconds() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return seconds


def _fit(
    model: keras.Model, setup: Setup, steps: int, xla: bool | str = "auto"
) -> Callable[[], float]:
    """Keras fit for so many steps, each of a whole batch of the setup's images."""
    parts = setup.dataset().take(setup.plan.micro_batches)
    columns = zip(*((image, label) for image, label, _ in parts), strict=True)
    batch = tuple(np.concatenate(column) for column in columns)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    model.compile(
        keras.optimizers.SGD(OPTIMIZER.learning_rate, momentum=OPTIMIZER.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=xla,
    )
    # fit takes up to 2.5 s to tear down its iterator: its clock stops at the last batch.
    ends = []
    stop = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )

    def fit() -> float:
        start = time.perf_counter()
        model.fit(dataset, steps_per_epoch=steps, verbose=0, callbacks=[stop], shuffle=False)
        return ends[-1] - start

    return fit


def cpus(count: int) -> list[str]:
    return [f"CPU:{i}" for i in range(count)]


def network(name: str, size: int, precision: str = "float32") -> keras.Model:
    return build_model(
        ModelConfig(name),
        input_shape=(size, size, 3),
        num_classes=CLASSES,
        precision=precision,
        seed=0,
    )


def tiny() -> keras.Model:
    """So little work that mostly the overhead around it is measured."""
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Conv2D(8, 3, use_bias=False)(Pixels("unit")(image))
    x = keras.layers.ReLU()(FusedBatchNorm()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(CLASSES)(x))
