"""Small runs with a hash of every step, and the same with one thing planted in one step."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from input import order, pipeline
from input.config import InputConfig
from input.views import micro_batch
from models.config import ModelConfig
from models.layers import FusedBatchNorm, Pixels
from tests.conftest import THREADS
from trainer import loop
from trainer.config import Config, Hardware, RunConfig
from trainer.micro_batch import MicroBatch
from trainer.recipe import OptimizerConfig
from trainer.recording import Recorder

MODEL = f"{__file__}:tiny"
HARDWARE = Hardware(virtual_cpus=1)
STEPS_PER_EPOCH, STEPS = 5, 15
MICRO_BATCH = 8


def tiny(input_shape, num_classes):
    image = keras.Input(input_shape, dtype="uint8")
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(Pixels("unit")(image))
    x = keras.layers.GlobalAveragePooling2D()(FusedBatchNorm(name="norm")(x))
    return keras.Model(image, keras.layers.Dense(num_classes, name="head")(x))


def settings(data_dir, run_dir, *, label_smoothing=0.0, **run) -> Config:
    """3 epochs of 5 steps of 4 micro-batches, with a checkpoint at the end of each."""
    return Config(
        InputConfig(
            data_dir=str(data_dir),
            global_batch_size=4 * MICRO_BATCH,
            micro_batch_size=MICRO_BATCH,
            image_size=8,
        ),
        ModelConfig(MODEL),
        OptimizerConfig(learning_rate=0.05, label_smoothing=label_smoothing),
        RunConfig(
            **{
                "run_dir": str(run_dir),
                "epochs": STEPS // STEPS_PER_EPOCH,
                "intra_op_threads": THREADS,
                "hash_every": 1,
                **run,
            }
        ),
    )


def train(data_dir, run_dir, hardware=HARDWARE, **changes) -> Path:
    loop.fit(settings(data_dir, run_dir, **changes), hardware)
    return Path(run_dir)


def weight(model: keras.Model, path: str) -> keras.Variable:
    return next(v for v in model.variables if v.path == path)


class Planted(NamedTuple):
    """One thing that a run has other than its settings and its records say."""

    plant: Callable[[pytest.MonkeyPatch], None]
    step: int  # steps done
    kinds: tuple[str, ...]
    part: str  # what --replay names, "" where a replay does not repeat it


def a_record(patch):
    """Slot 11 of the seventh step has the next record."""
    original = order.training_records

    def other(step, number, plan, seed):
        epoch, records = original(step, number, plan, seed)
        if (step, number) == (6, 1):
            records = np.where(np.arange(len(records)) == 3, (records + 1) % plan.records, records)
        return epoch, records

    patch.setattr(order, "training_records", other)


def a_pixel(patch):
    """A pixel of slot 8 of the second step is brighter by one."""
    original, shuffled = micro_batch.training_views, order.training_records

    def other(config, reader, slots):
        plan = order.plan(config, 160, replicas=1)
        planted = shuffled(1, 1, plan, seed=0)[1][0]
        change = tf.cast(slots.records[0] == planted, tf.int32)
        images = tf.cast(original(config, reader, slots), tf.int32)
        changed = tf.tensor_scatter_nd_add(images, [[0, 2, 5, 1]], [change])
        return tf.cast(changed, tf.uint8)

    patch.setattr(pipeline.micro_batch, "training_views", other)


def a_gradient_bit(patch):
    """Of the first number of the head's kernel, in the second micro-batch of the seventh step."""
    original = MicroBatch.sums

    def other(self, batch, step, number):
        vector = original(self, batch, step, number)
        here = (tf.cast(step, tf.int64) == 6) & (tf.cast(number, tf.int64) == 1)
        before = [v.shape.num_elements() for v in self.variables if "head/kernel" not in v.path]
        bit = tf.where(here, tf.constant(1 << 40, tf.int64), tf.constant(0, tf.int64))
        place = sum(before[:-1])  # all but the head's bias are in front of it
        mask = tf.one_hot(place, self.layout.size, bit, tf.constant(0, tf.int64))
        return tf.bitwise.bitwise_xor(vector, mask)

    patch.setattr(MicroBatch, "sums", other)


def a_weight(patch):
    """A bit of one weight, after the seventh step: as a cosmic ray would."""
    original = Recorder.note

    def other(self, done, *rest):
        if done == 7:
            bias = weight(self._model, "head/bias")
            bits = bias.numpy().view(np.int32)
            bits[0] ^= 1 << 20
            bias.assign(bits.view(np.float32))
        original(self, done, *rest)

    patch.setattr(Recorder, "note", other)


PLANTED = {
    "record": Planted(a_record, 7, ("records", "pixels", "gradients", "weights"), "slot 11"),
    "pixel": Planted(a_pixel, 2, ("pixels", "gradients", "weights"), "the image in slot 8"),
    "gradient": Planted(a_gradient_bit, 7, ("gradients", "weights"), "head/kernel"),
    "weight": Planted(a_weight, 7, ("weights",), ""),
}
