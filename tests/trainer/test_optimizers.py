"""Optimizers with the settings' numbers, and learning rates over a run."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.steps import OPTIMIZERS, build
from trainer import optimizers
from trainer.config import OptimizerConfig


def rates(settings: OptimizerConfig, steps_per_epoch: int, epochs: int) -> np.ndarray:
    """The learning rate of every step of a run."""
    rate = optimizers.build_schedule(settings, steps_per_epoch, epochs)
    steps = range(steps_per_epoch * epochs)
    return np.array([float(rate(tf.constant(step))) for step in steps])


def test_schedule_is_warm_up_then_cosine():
    settings = OptimizerConfig(learning_rate=0.4, warmup_epochs=1.0)
    found = rates(settings, steps_per_epoch=10, epochs=5)
    warmup = 0.4 * np.arange(1, 11) / 10
    cosine = 0.4 * 0.5 * (1 + np.cos(np.pi * np.arange(40) / 40))
    np.testing.assert_allclose(found, np.concatenate([warmup, cosine]), rtol=1e-5, atol=1e-7)


def test_weight_decay_spares_biases_and_norms(strategies):
    with strategies[1].scope():
        model = build("cnn")()
        optimizer = optimizers.build_optimizer(OPTIMIZERS["adamw"], model)
    decayed = {v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    assert decayed == {v.path for v in model.trainable_variables if v.name == "kernel"}
    assert len(decayed) < len(model.trainable_variables)


def test_a_constant_schedule_stays_at_its_peak():
    settings = OptimizerConfig(learning_rate=0.4, schedule="constant")
    np.testing.assert_allclose(rates(settings, 10, 2), np.full(20, 0.4), rtol=1e-6)
    warm = OptimizerConfig(learning_rate=0.4, schedule="constant", warmup_epochs=0.25)
    found = rates(warm, 10, 2)
    np.testing.assert_allclose(found[:3], [0.2, 0.4, 0.4], rtol=1e-6)  # 2.5 steps are 2


def test_a_warm_up_as_long_as_the_run_never_passes_the_peak():
    settings = OptimizerConfig(learning_rate=0.4, warmup_epochs=3)
    np.testing.assert_allclose(rates(settings, 5, 3), 0.4 * np.arange(1, 16) / 15, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "kind", "numbers"),
    [
        (
            OptimizerConfig("sgd", momentum=0.8, weight_decay=1e-3),
            keras.optimizers.SGD,
            {"momentum": 0.8, "weight_decay": 1e-3},
        ),
        (OptimizerConfig("sgd", weight_decay=0.0), keras.optimizers.SGD, {"weight_decay": None}),
        (
            OptimizerConfig("adamw", weight_decay=0.05),
            keras.optimizers.AdamW,
            {"weight_decay": 0.05},
        ),
    ],
)
def test_an_optimizer_has_the_numbers_of_its_settings(settings, kind, numbers):
    optimizer = optimizers.build_optimizer(settings, build("cnn")())
    assert type(optimizer) is kind
    assert {name: optimizer.get_config()[name] for name in numbers} == numbers
