"""What it costs where the batch is cut: in the pipeline, in the training loop, or in the step.

All variants have the same images in memory, micro-batches of the same size, the same model and the
same arithmetic: gradients of micro-batches are summed, and one update follows. Only the place where
a step's images become micro-batches is another one:

- pipeline: the input makes micro-batches, and each replica draws its own;
- slices in the loop: the input makes the global batch, and a Python loop calls the traced function
  with each part of it;
- reshape in the step: the input makes the global batch, and the traced step reshapes it to
  [micro-batches, images, ..] and takes one after the other;
- arrays in the loop: no input pipeline; a Python loop cuts each part out of NumPy arrays.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from input import order, pipeline
from input.arrays import ArrayReader
from input.config import InputConfig
from scripts.benchmarks.comparison import Benchmark, Comparison, compare, measure_in_turn
from scripts.benchmarks.config import BenchmarkConfig
from scripts.benchmarks.step import (
    CLASSES,
    OPTIMIZER,
    RECORDS,
    Setup,
    call,
    cpus,
    network,
    timed,
    tiny,
)
from trainer import iterators

# More than any pipeline keeps ready, in its elements: taken before the clock starts.
IN_STOCK = 2 * (pipeline.PARALLEL + pipeline.READY)
MICRO_BATCH = 16
SEED = 0
Steps = Callable[[int], object]  # makes so many steps, and waits for the last one


class Model(NamedTuple):
    """What is trained, and for how long."""

    name: str
    build: Callable[[], keras.Model]
    image_size: int
    images_per_step: int
    replicas: int
    steps: int  # that are timed


CNN = Model("cnn", partial(network, "cnn", 28), 28, 128, 1, steps=10)
# Of the tiny one mostly what is around a model is measured.
MODELS = (Model("tiny model", tiny, 8, 64, 1, steps=100), CNN, CNN._replace(replicas=2))


def where_the_batch_is_cut(config: BenchmarkConfig) -> list[Comparison]:
    """The pipeline against the other three, and against samestep's own step."""
    found = []
    for model in MODELS:
        images, steps = model.images_per_step, model.steps
        inputs = InputConfig(
            global_batch_size=images,
            micro_batch_size=MICRO_BATCH,
            image_size=model.image_size,
            augment="none",
        )
        ways = Case(Setup(cpus(model.replicas), inputs)).ways(model.build)
        variants = {way: _after_stock(make, steps) for way, make in ways.items()}
        rates = measure_in_turn(images * steps, config.rounds, variants)
        title = f"{model.name}, {images} images of {model.image_size} px, {model.replicas} CPU"
        first, *others = variants
        found += [compare(title, rates, first, other) for other in others]
    return found


class Case:
    """Images in memory, replicas, and the ways to bring the one to the others."""

    def __init__(self, setup: Setup):
        self._setup, self._strategy, self._plan = setup, setup.strategy, setup.plan
        random = np.random.default_rng(0)
        size = setup.inputs.image_size
        self._images = random.integers(0, 256, (RECORDS, size, size, 3), np.uint8)
        self._labels = random.integers(0, CLASSES, RECORDS, np.int32)
        self._reader = ArrayReader(self._images, self._labels)

    def ways(self, build: Callable[[], keras.Model]) -> dict[str, Steps]:
        """Each with a model of its own."""
        train, _ = self._setup.step(build)
        own = self._micro_batches()
        return {
            "pipeline": self.in_the_pipeline(Summing(self._setup, build)),
            "slices in the loop": self.in_the_loop(Summing(self._setup, build)),
            "reshape in the step": self.in_the_step(Summing(self._setup, build)),
            "arrays in the loop": self.of_arrays(Summing(self._setup, build)),
            "samestep": lambda steps: call(train, own, steps)(),
        }

    def in_the_pipeline(self, model: "Summing") -> Steps:
        iterator = self._micro_batches()

        @tf.function
        def make(steps: tf.Tensor) -> None:
            for _ in tf.range(steps):
                for _ in tf.range(self._plan.draws_per_step):
                    self._strategy.run(model.add, args=next(iterator)[:2])
                self._strategy.run(model.update)

        return lambda steps: model.wait(make(tf.constant(steps)))

    def in_the_loop(self, model: "Summing") -> Steps:
        iterator, images = iter(self._global_batches()), self._plan.images_per_micro_batch

        def add_part(image: tf.Tensor, label: tf.Tensor, first: tf.Tensor) -> None:
            part = slice(first, first + images)
            model.add(tf.ensure_shape(image[part], [images, *image.shape[1:]]), label[part])

        @tf.function
        def add(batch: Any, first: tf.Tensor) -> None:
            self._strategy.run(add_part, args=(*batch[:2], first))

        update = tf.function(lambda: self._strategy.run(model.update))
        firsts = [tf.constant(images * turn) for turn in range(self._plan.draws_per_step)]

        def make(steps: int) -> None:
            for _ in range(steps):
                batch = next(iterator)
                for first in firsts:
                    add(batch, first)
                update()
            model.wait()

        return make

    def in_the_step(self, model: "Summing") -> Steps:
        iterator, plan = iter(self._global_batches()), self._plan

        def add_all(image: tf.Tensor, label: tf.Tensor) -> None:
            parts = [plan.draws_per_step, plan.images_per_micro_batch]
            image = tf.reshape(image, [*parts, *image.shape[1:]])
            label = tf.reshape(label, parts)
            for turn in tf.range(plan.draws_per_step):
                model.add(image[turn], label[turn])

        # AutoGraph does not look into what strategy.run is given.
        add_all = tf.autograph.to_graph(add_all)

        @tf.function
        def make(steps: tf.Tensor) -> None:
            for _ in tf.range(steps):
                self._strategy.run(add_all, args=next(iterator)[:2])
                self._strategy.run(model.update)

        return lambda steps: model.wait(make(tf.constant(steps)))

    def of_arrays(self, model: "Summing") -> Steps:
        add = tf.function(lambda *batch: self._strategy.run(model.add, args=batch))
        update = tf.function(lambda: self._strategy.run(model.update))
        plan, numbers = self._plan, count()

        def part(records: np.ndarray, turn: int) -> tuple[Any, Any]:
            """The turn-th micro-batch of each replica."""

            def of_replica(array: np.ndarray) -> Callable[[Any], tf.Tensor]:
                def value(context: Any) -> tf.Tensor:
                    replica = context.replica_id_in_sync_group
                    first = (replica * plan.draws_per_step + turn) * plan.images_per_micro_batch
                    return tf.constant(array[records[first : first + plan.images_per_micro_batch]])

                return value

            distribute = self._strategy.experimental_distribute_values_from_function
            return distribute(of_replica(self._images)), distribute(of_replica(self._labels))

        def make(steps: int) -> None:
            for _ in range(steps):
                records = order.training_records(next(numbers), 0, self._whole_plan(), SEED)[1]
                for turn in range(plan.draws_per_step):
                    add(*part(records, turn))
                update()
            model.wait()

        return make

    def _micro_batches(self) -> Iterator[Any]:
        return iterators.distributed(
            self._strategy,
            lambda: pipeline.train(self._setup.inputs, self._reader, self._plan, seed=SEED),
        )

    def _global_batches(self) -> Any:
        """As most programs have them: tf.distribute parts each batch among the replicas."""
        whole = pipeline.train(self._setup.inputs, self._reader, self._whole_plan(), seed=SEED)
        return self._strategy.experimental_distribute_dataset(whole)

    def _whole_plan(self) -> order.Plan:
        """A step's images as one micro-batch of one replica."""
        images = self._plan.images_per_step
        return replace(self._plan, images_per_micro_batch=images, micro_batches=1, replicas=1)


class Summing:
    """A model, its gradients summed over micro-batches, and one update of a step; no exact sum."""

    def __init__(self, setup: Setup, build: Callable[[], keras.Model]):
        self._images = float(setup.plan.images_per_step)
        with setup.strategy.scope():
            self.model = build()
            self._optimizer = keras.optimizers.SGD(OPTIMIZER.learning_rate, OPTIMIZER.momentum)
            self._optimizer.build(self.model.trainable_variables)
            self._sums = [
                tf.Variable(
                    tf.zeros(weight.shape),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for weight in self.model.trainable_variables
            ]

    def add(self, image: tf.Tensor, label: tf.Tensor) -> None:
        """One micro-batch, in replica context."""
        with tf.GradientTape() as tape:
            logits = self.model(image, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
            loss = tf.reduce_sum(losses) / self._images
        weights = [weight.value for weight in self.model.trainable_variables]
        for total, gradient in zip(self._sums, tape.gradient(loss, weights), strict=True):
            total.assign_add(gradient)

    def update(self) -> None:
        """The step's end, in replica context: Keras' optimizer sums over the replicas."""
        gradients = [total.read_value() for total in self._sums]
        self._optimizer.apply(gradients, self.model.trainable_variables)
        for total in self._sums:
            total.assign(tf.zeros_like(total))

    def wait(self, _: object = None) -> None:
        """For the step that has been asked for last."""
        self.model.trainable_variables[0].numpy()


def _after_stock(make: Steps, steps: int) -> Callable[[], float]:
    def seconds() -> float:
        make(IN_STOCK)
        return timed(lambda: make(steps))()

    return seconds


BATCHING_BENCHMARKS: dict[str, Benchmark] = {"batching": where_the_batch_is_cut}
