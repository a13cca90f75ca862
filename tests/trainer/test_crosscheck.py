"""A bit that one replica has wrong is found, and its device named; sound replicas always agree."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from input import order, pipeline
from models.config import ModelConfig
from models.layers import FusedBatchNorm, Pixels
from tests.conftest import error
from tests.trainer.conftest import HARDWARE, settings
from tests.trainer.steps import INPUT, OPTIMIZERS, Training, assert_same
from trainer import assembly, crosscheck, iterators, loop
from trainer.config import Hardware

DEVICES = [f"GPU:{i}" for i in range(4)]


class Faulty(keras.layers.Layer):
    """Flips a bit of one gradient on one replica, once `replica` is set."""

    def build(self, _):
        self.replica = self.add_weight(
            shape=(), dtype="int32", initializer=keras.initializers.Constant(-1), trainable=False
        )

    def call(self, x):
        @tf.custom_gradient
        def faulty(x):
            def gradient(upstream):
                here = tf.distribute.get_replica_context().replica_id_in_sync_group
                mask = tf.where(here == self.replica, 1 << 20, 0)
                place = tf.one_hot(0, tf.size(upstream), mask, 0)
                bits = tf.bitwise.bitwise_xor(
                    tf.bitcast(upstream, tf.int32), tf.reshape(place, tf.shape(upstream))
                )
                return tf.bitcast(bits, tf.float32)

            return x, gradient

        return faulty(x)


def model(input_shape=(32, 32, 3), num_classes=3):
    keras.utils.set_random_seed(3)
    image = keras.Input(input_shape, dtype="uint8")
    x = keras.layers.Conv2D(4, 3, name="conv")(Pixels("unit")(image))
    x = keras.layers.Dropout(0.3)(FusedBatchNorm(name="norm")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(num_classes, name="dense")(x)
    return keras.Model(image, Faulty(name="faulty")(logits))


def damaged(input_shape, num_classes):
    """The same on a machine whose last device is damaged."""
    built = model(input_shape, num_classes)
    built.get_layer("faulty").replica.assign(3)
    return built


def compared(training: Training, reader, step: int) -> np.ndarray:
    """What each replica has other than replica 0."""
    check = crosscheck.build_crosscheck(training.strategy, training.micro_batch)
    batches = pipeline.compared(
        INPUT, reader, training.plan, seed=5, first_step=step, every_steps=7
    )
    iterator = iterators.distributed(training.strategy, lambda: batches)
    number = order.compared_micro_batch(step, training.plan, seed=5)
    return check(iterator, tf.constant(step, tf.int64), tf.constant(number, tf.int64)).numpy()


@pytest.mark.parametrize("reduction", ["exact", "fast"])
@pytest.mark.parametrize("replicas", [2, 4])
def test_a_flipped_bit_is_found_and_nothing_is_changed(strategies, reader, replicas, reduction):
    training = Training(
        strategies[replicas], reader, model, OPTIMIZERS["adamw"], reduction=reduction
    )
    fault = training.model.get_layer("faulty").replica
    training.run(0, 2)
    before = training.state()
    assert compared(training, reader, 2).tolist() == [0] * replicas
    fault.assign(1)
    found = compared(training, reader, 2)
    # The bit is in the gradients of the last layer and of all before it.
    assert found[1] > 0
    assert np.delete(found, 1).tolist() == [0] * (replicas - 1)
    fault.assign(0)
    assert (compared(training, reader, 2)[1:] > 0).all()
    fault.assign(-1)
    assert compared(training, reader, 2).tolist() == [0] * replicas
    assert_same(before, training.state())


def test_a_run_on_a_damaged_device_ends_at_the_next_comparison(data_dir, tmp_path):
    config = settings(data_dir, tmp_path, check_replicas=3)
    config = replace(config, model=ModelConfig(f"{Path(__file__)}:damaged"))
    message = error(loop.fit, config, Hardware(virtual_cpus=4))
    assert message.startswith("At step 3 CPU:3 has, of 4 devices, other gradients")


def test_comparisons_change_no_bit_of_a_run(data_dir, tmp_path, finished):
    compared = loop.fit(settings(data_dir, tmp_path, check_replicas=2), HARDWARE)
    assert compared.fingerprint == finished.state.fingerprint


@pytest.mark.parametrize(
    ("devices", "settings_of_run", "every"),
    [
        (["CPU:0", "CPU:1"], {}, 1000),
        (["CPU:0", "CPU:1"], {"check_replicas": 0}, None),
        (["GPU:0", "GPU:1"], {"deterministic": True}, 1000),
        (["GPU:0", "GPU:1"], {}, None),  # gradients may differ by a rounding
    ],
)
def test_replicas_are_compared_where_they_must_agree(
    strategies, data_dir, devices, settings_of_run, every
):
    config = settings(data_dir, **settings_of_run)
    definition = SimpleNamespace(config=config)
    job = assembly.Job(definition, devices, None, strategies[2], {}, {}, None)
    assert job.compare_every == every
    assert replace(job, devices=devices[:1], strategy=strategies[1]).compare_every is None


@pytest.mark.parametrize(
    ("differing", "words"),
    [
        ([0, 3], "At step 7 GPU:0 and GPU:1 have other gradients of the same micro-batch: 3 "),
        ([0, 0, 3], "At step 7 GPU:2 has, of 3 devices, other gradients"),
        ([0, 9, 3], "At step 7 GPU:0 has, of 3 devices, other gradients"),
        ([0, 9, 0, 3], "At step 7 GPU:1, GPU:3 have, of 4 devices, other gradients"),
        ([0, 9, 1, 3], "At step 7 GPU:0 has, of 4 devices, other gradients"),
    ],
)
def test_the_device_is_named(differing, words):
    message = error(crosscheck.judge, np.array(differing), DEVICES[: len(differing)], 7)
    assert message.startswith(words)
    assert "\n" not in message


def test_replicas_that_agree_are_no_error():
    crosscheck.judge(np.zeros(4, np.int64), DEVICES, 7)
