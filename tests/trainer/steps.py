"""A step fed from real records, on any of the strategies, as the tests of the step need it."""

import keras
import numpy as np
import tensorflow as tf

from input import order, pipeline
from input.config import ResolvedInput
from models.build import build_model
from models.config import ModelConfig
from models.layers import Pixels
from tests.conftest import CLASSES
from trainer import iterators, optimizers, recipe, step, tracing
from trainer.averages import Averages
from trainer.loss_scale import LossScale
from trainer.micro_batch import MicroBatch
from trainer.recipe import OptimizerConfig, ResolvedOptimizer

INPUT = ResolvedInput(global_batch_size=32, micro_batch_size=8, image_size=32, augment="standard")


def plain(**changes) -> ResolvedOptimizer:
    """sgd with momentum at a rate of 0.1, a little decay, and a cosine."""
    own = {"optimizer": "sgd", "learning_rate": 0.1, "nesterov": False}
    own |= {"weight_decay": 1e-4, "warmup_epochs": 0.0, **changes}
    return recipe.resolve(OptimizerConfig(**own), INPUT.global_batch_size, epochs=4)


OPTIMIZERS = {
    "sgd": plain(clip_norm=1.0, warmup_epochs=1),
    "adamw": plain(
        optimizer="adamw", learning_rate=3e-3, weight_decay=0.05, clip_norm=1.0, label_smoothing=0.1
    ),
}


class Training:
    """A model, its optimizer and its step on some replicas, fed from real records."""

    def __init__(
        self,
        strategy,
        reader,
        build,
        optimizer,
        inputs=INPUT,
        *,
        scaled=False,
        rate_scales=(),
        hashing=None,
        **settings,
    ):
        """scaled: with a loss scale, as float16 has it. rate_scales, hashing: of trainer.step."""
        self.strategy = strategy
        self.plan = order.plan(inputs, reader.records, strategy.num_replicas_in_sync)
        self.rate = optimizers.build_schedule(optimizer, self.plan.steps_per_epoch, epochs=4)
        with strategy.scope():
            self.model = build()
            self.optimizer = optimizers.build_optimizer(optimizer, self.model)
            self.loss_scale = LossScale() if scaled else None
        self.micro_batch = MicroBatch(
            self.model,
            statistics=tracing.statistics(self.model, self.plan),
            images_per_step=self.plan.images_per_step,
            micro_batches=self.plan.micro_batches,
            seed=5,
            label_smoothing=optimizer.label_smoothing,
            loss_scale=self.loss_scale,
            **settings,
        )
        self.averages = None
        if optimizer.ema_decay:
            changing = [*self.micro_batch.variables, *self.micro_batch.statistics]
            with strategy.scope():
                self.averages = Averages(strategy, changing, optimizer.ema_decay)
            self.averages.start()
        self.train = step.build_train(
            strategy,
            self.micro_batch,
            self.optimizer,
            self.rate,
            clip_norm=optimizer.clip_norm,
            averages=self.averages,
            rate_scales=rate_scales,
            hashing=hashing,
        )
        self.iterator = iterators.distributed(
            strategy, lambda: pipeline.train(inputs, reader, self.plan, seed=5)
        )

    def run(self, first: int, steps: int) -> step.History:
        history = self.train(
            self.iterator, tf.constant(first, tf.int64), tf.constant(steps, tf.int64)
        )
        return step.History(*(column.numpy() for column in history))

    def _others(self) -> list[Averages | LossScale]:
        return [part for part in (self.averages, self.loss_scale) if part is not None]

    def state(self) -> dict[str, np.ndarray]:
        """Weights, moving statistics and slots of every replica."""
        variables = [v for v in self.model.variables if v.name != "seed_generator_state"]
        variables += self.optimizer.variables
        variables += [v for part in self._others() for v in part.layer.variables]
        found = {}
        for variable in variables:
            copies = self.strategy.experimental_local_results(variable.value)
            for copy in copies[1:]:
                np.testing.assert_array_equal(copy.numpy(), copies[0].numpy(), variable.path)
            found[variable.path.removeprefix(self.optimizer.name)] = copies[0].numpy()
        return found


def build(name, precision="float32", size=32):
    return lambda: build_model(
        ModelConfig(name, dropout=0.0 if ":" in name else 0.3),
        input_shape=(size, size, 3),
        num_classes=len(CLASSES),
        precision=precision,
        seed=1,
    )


def plain_model():
    """No dropout and no norm: NumPy can follow it."""
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(Pixels("unit")(image))
    return keras.Model(image, keras.layers.Dense(len(CLASSES), name="logits")(x))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def train_that_counts(calls: list[tuple[int, int]], applied=lambda step: True):
    """A step whose loss is its own number, on 32 images of which 8 are right."""

    def train(iterator, first, steps) -> step.History:
        calls.append((int(first), int(steps)))
        numbers = np.arange(int(first), int(first) + int(steps), dtype=np.float64)
        made = np.array([applied(number) for number in numbers], np.float64)
        images, correct = np.full_like(numbers, 32), np.full_like(numbers, 8)
        columns = (numbers, images, correct, numbers / 2, made, 0 * numbers, numbers**0)
        hashes = tf.constant(numbers[:, None], tf.int64)
        return step.History(*map(tf.constant, columns), hashes)

    return train
