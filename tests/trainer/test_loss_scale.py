"""The loss scale: its rule, what it changes of a step (nothing), and an inf on one replica."""

import json
import os
import signal
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers import Pixels
from tests.conftest import CLASSES
from tests.trainer.conftest import HARDWARE, settings
from tests.trainer.steps import INPUT, Training, assert_same, build, plain
from trainer import loop, loss_scale
from trainer.config import Hardware
from trainer.errors import PreemptedError
from trainer.loss_scale import GROW_AFTER, HIGHEST, LOWEST, START, LossScale

INPUTS = replace(INPUT, image_size=8)


def numbers(scale):
    return [float(v.numpy()) for v in scale.layer.variables]


def updated(scale, applied, too_large=False):
    scale.update(tf.constant(applied), tf.constant(too_large))
    return numbers(scale)


def test_it_halves_where_a_gradient_is_not_finite_and_doubles_after_many_steps():
    scale = LossScale()
    assert numbers(scale) == [START, 0]
    assert updated(scale, True) == [START, 1]
    assert updated(scale, False) == [START / 2, 0]
    assert updated(scale, False, too_large=True) == [START / 2, 0]  # finite: no fault of the scale
    scale.layer.variables[1].assign(GROW_AFTER - 1)
    assert updated(scale, True) == [START, 0]


def test_it_stays_between_its_bounds():
    scale = LossScale()
    scale.layer.variables[0].assign(LOWEST)
    assert updated(scale, False)[0] == LOWEST
    scale.layer.variables[0].assign(HIGHEST)
    scale.layer.variables[1].assign(GROW_AFTER - 1)
    assert updated(scale, True) == [HIGHEST, 0]


def test_a_power_of_two_changes_no_bit_of_float32(strategies, reader):
    """As long as nothing leaves the range of float32."""
    states = []
    for scaled in (False, True):
        training = Training(
            strategies[2], reader, build("cnn", size=8), plain(), INPUTS, scaled=scaled
        )
        assert training.run(0, 4).applied.all()
        states.append({k: v for k, v in training.state().items() if "loss_scale" not in k})
    assert_same(states[0], states[1])


def spiked(step, replica):
    """A model whose loss has no finite gradient on one micro-batch of one step.

    Which step that is, the weights of the optimizer do not know: the random generator's state does,
    which the step sets from (seed, layer, step, micro-batch).
    """

    class Spike(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="spike")
            self.seed = keras.random.SeedGenerator(0)
            self.hit = self.add_weight(
                shape=(2,), name="hit", initializer="zeros", trainable=False, dtype="int64"
            )

        def call(self, x, training=None):
            if not training:
                return x
            state = tf.cast(tf.convert_to_tensor(self.seed.state.value), tf.int64)
            hit = tf.reduce_all(state == self.hit)
            return x * tf.where(hit, tf.constant(float("inf"), x.dtype), tf.ones([], x.dtype))

    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(Pixels("unit")(image))
    x = Spike()(x)
    return keras.Model(image, keras.layers.Dense(len(CLASSES), name="logits")(x))


def key(step, number):
    """The state that micro_batch gives its first generator: see MicroBatch._reseed."""
    key = tf.constant([5, 0], keras.random.SeedGenerator(0).state.dtype)
    for each in (step, number):
        folded = tf.cast(each, key.dtype)
        key = tf.random.experimental.stateless_fold_in(key, folded, alg="philox")
    return tf.cast(key, tf.int64)


@pytest.mark.parametrize("number", [0, 3])  # micro-batches: of the first replica, and the last
def test_an_inf_on_one_replica_skips_the_step_on_all(strategies, reader, number):
    runs = []
    for strategy in strategies.values():
        training = Training(
            strategy, reader, lambda: spiked(2, number), plain(), INPUTS, scaled=True
        )
        spike = next(layer for layer in training.model.layers if layer.name == "spike")
        spike.hit.assign(key(2, number))
        before = training.run(0, 2)
        weights = training.model.get_layer("logits").kernel.numpy()
        at = training.run(2, 1)
        np.testing.assert_array_equal(weights, training.model.get_layer("logits").kernel.numpy())
        after = training.run(3, 2)
        assert before.applied.tolist() == after.applied.tolist() == [1, 1]
        assert at.applied.tolist() == [0]
        assert [*before.loss_scale, *at.loss_scale, *after.loss_scale] == [
            *[START] * 3,
            *[START / 2] * 2,
        ]
        runs.append(training.state())
    assert_same(runs[0], runs[1])
    assert_same(runs[0], runs[2])


def test_its_name_is_the_only_thing_that_float16_adds_to_a_checkpoint(strategies, reader):
    training = Training(
        strategies[1], reader, build("cnn", "float16", 8), plain(), INPUTS, scaled=True
    )
    names = [k for k in training.state() if "loss_scale" in k]
    assert len(names) == 2 == len(loss_scale.LossScale().layer.variables)


def test_a_run_resumed_within_a_growth_interval_is_the_run(data_dir, tmp_path, monkeypatch):
    """The scale grows every 4 steps; the run stops after 2 of them. Averages go with it."""
    monkeypatch.setattr(loss_scale, "GROW_AFTER", 4)

    def config(name):
        given = settings(data_dir, tmp_path / name, precision="float16", log_every_steps=2)
        return replace(given, optimizer=replace(given.optimizer, ema_decay=0.9))

    def advance(train, iterator, first, *args, original=loop.advance):
        if first == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(train, iterator, first, *args)

    whole = loop.fit(config("whole"), HARDWARE)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "advance", advance)
        with pytest.raises(PreemptedError):
            loop.fit(config("stopped"), HARDWARE)
    found = loop.fit(config("stopped"), Hardware(virtual_cpus=1))
    assert (found.fingerprint, found.averages) == (whole.fingerprint, whole.averages)
    assert found.evaluation_of_averages == whole.evaluation_of_averages
    text = (tmp_path / "whole" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    scales = [line["train/loss_scale"] for line in lines if "train/loss_scale" in line]
    assert scales[-1] > scales[0] >= START / 2**4  # it has grown, and so had an interval
