"""Optimizers with the settings' numbers against NumPy, and learning rates over a run."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.steps import build, plain
from trainer import optimizers
from trainer.recipe import ResolvedOptimizer

STEPS = 20


def rates(settings: ResolvedOptimizer, steps_per_epoch: int, epochs: int) -> np.ndarray:
    """The learning rate of every step of a run."""
    rate = optimizers.build_schedule(settings, steps_per_epoch, epochs)
    steps = range(steps_per_epoch * epochs)
    return np.array([float(rate(tf.constant(step))) for step in steps])


WARM = 0.4 * np.arange(1, 5) / 4  # an epoch of 4 steps
DONE = np.arange(16) / 16  # of the other four epochs


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({"schedule": "cosine"}, 0.4 * 0.5 * (1 + np.cos(np.pi * DONE))),
        (
            {"schedule": "cosine", "final_fraction": 0.1},
            0.04 + 0.36 * 0.5 * (1 + np.cos(np.pi * DONE)),
        ),
        ({"schedule": "linear"}, 0.4 * (1 - DONE)),
        ({"schedule": "linear", "final_fraction": 0.5}, 0.2 + 0.2 * (1 - DONE)),
        ({"schedule": "polynomial"}, 0.4 * (1 - DONE) ** 2),
        ({"schedule": "polynomial", "schedule_power": 0.5}, 0.4 * np.sqrt(1 - DONE)),
        (
            {"schedule": "step", "step_epochs": 1.5},  # drops at 6, 12 and 18, of the run
            0.4 * 0.1 ** np.array([0] * 2 + [1] * 6 + [2] * 6 + [3] * 2),
        ),
        (
            {"schedule": "step", "step_factor": 0.5, "step_epochs": 3.0},
            0.4 * 0.5 ** np.array([0] * 8 + [1] * 8),
        ),
        ({"schedule": "constant"}, np.full(16, 0.4)),
    ],
)
def test_a_schedule_has_its_closed_form(changes, after):
    settings = plain(learning_rate=0.4, warmup_epochs=1.0, **changes)
    found = rates(settings, steps_per_epoch=4, epochs=5)
    np.testing.assert_allclose(found, np.concatenate([WARM, after]), rtol=1e-5, atol=1e-7)


def test_a_warm_up_of_half_steps_is_rounded():
    found = rates(plain(learning_rate=0.4, schedule="constant", warmup_epochs=0.25), 10, 2)
    np.testing.assert_allclose(found[:3], [0.2, 0.4, 0.4], rtol=1e-6)  # 2.5 steps are 2


def test_a_warm_up_as_long_as_the_run_never_passes_the_peak():
    settings = plain(learning_rate=0.4, warmup_epochs=3)
    np.testing.assert_allclose(rates(settings, 5, 3), 0.4 * np.arange(1, 16) / 15, rtol=1e-6)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_weight_decay_spares_biases_and_norms(strategies, name):
    with strategies[1].scope():
        model = build("cnn")()
        optimizer = optimizers.build_optimizer(plain(optimizer=name), model)
    decayed = {v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    assert decayed == {v.path for v in model.trainable_variables if v.name == "kernel"}
    assert len(decayed) < len(model.trainable_variables)


def adam(decay):
    """Kingma and Ba 2015, as Keras and the paper's section 2 write it; decay as in AdamW."""

    def update(w, g, slots, rate, step, decays):
        w = w - rate * decay * w * decays
        m, v = slots.setdefault("m", 0 * w), slots.setdefault("v", 0 * w)
        slots["m"], slots["v"] = m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        scale = rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        return w - scale * m / (np.sqrt(v) + 1e-7)

    return update


def sgd(momentum, nesterov, decay):
    def update(w, g, slots, rate, step, decays):
        w = w - rate * decay * w * decays
        slots["m"] = m = momentum * slots.get("m", 0 * w) - rate * g
        return w + (momentum * m - rate * g if nesterov else m)

    return update


def rmsprop(momentum, decay):
    """Graves 2013: the squares' mean, then momentum on what was divided."""

    def update(w, g, slots, rate, step, decays):
        w = w - rate * decay * w * decays
        slots["v"] = v = 0.9 * slots.get("v", 0 * w) + 0.1 * g**2
        slots["m"] = m = momentum * slots.get("m", 0 * w) + rate * g / np.sqrt(v + 1e-7)
        return w - m

    return update


def lion(decay):
    """Chen et al. 2023, algorithm 2."""

    def update(w, g, slots, rate, step, decays):
        w = w - rate * decay * w * decays
        m = slots.get("m", 0 * w)
        slots["m"] = 0.99 * m + 0.01 * g
        return w - rate * np.sign(0.9 * m + 0.1 * g)

    return update


def lamb(decay):
    """You et al. 2020 (arXiv:1904.00962), algorithm 2, with Keras' decay outside of the ratio."""

    def update(w, g, slots, rate, step, decays):
        w = w - rate * decay * w * decays
        slots["m"] = m = 0.9 * slots.get("m", 0 * w) + 0.1 * g
        slots["v"] = v = 0.999 * slots.get("v", 0 * w) + 0.001 * g**2
        r = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-7)
        norms = np.linalg.norm(w), np.linalg.norm(r)
        trust = norms[0] / norms[1] if min(norms) > 0 else 1.0
        return w - trust * rate * r

    return update


def lars(momentum, nesterov, decay):
    """You et al. 2017 (arXiv:1708.03888), algorithm 1."""

    def update(w, g, slots, rate, step, decays):
        if decays:
            norms = np.linalg.norm(w), np.linalg.norm(g)
            g = 0.001 * norms[0] / (norms[1] + decay * norms[0]) * (g + decay * w)
        slots["v"] = v = momentum * slots.get("v", 0 * w) + rate * g
        return w - (momentum * v + rate * g if nesterov else v)

    return update


def muon(momentum, nesterov, decay):
    """Liu et al. 2025 (arXiv:2502.16982): five Newton-Schulz steps for matrices; adamw elsewhere.

    Keras' momentum: m <- momentum m + g.
    """
    other = adam(decay)

    def update(w, g, slots, rate, step, decays):
        if w.ndim != 2:
            return other(w, g, slots, rate, step, decays)
        w = w - rate * decay * w * decays
        slots["m"] = m = momentum * slots.get("m", 0 * w) + g
        x = g + momentum * m if nesterov else m
        x = x.T if x.shape[0] > x.shape[1] else x
        x = x / (np.linalg.norm(x) + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
        x = x.T if w.shape[0] > w.shape[1] else x
        return w - rate * x * math.sqrt(max(w.shape)) * 0.2

    return update


@pytest.mark.parametrize(
    ("name", "changes", "update"),
    [
        ("sgd", {"momentum": 0.8, "nesterov": True}, sgd(0.8, True, 0.05)),
        ("sgd", {"momentum": 0.9}, sgd(0.9, False, 0.05)),
        ("sgd", {"momentum": 0.0, "nesterov": True, "weight_decay": 0.0}, sgd(0.0, False, 0.0)),
        ("adam", {"weight_decay": 0.0}, adam(0.0)),
        ("adamw", {}, adam(0.05)),
        ("lamb", {}, lamb(0.05)),
        ("lars", {"momentum": 0.8}, lars(0.8, False, 0.05)),
        ("lars", {"nesterov": True}, lars(0.9, True, 0.05)),
        ("lion", {}, lion(0.05)),
        ("muon", {"nesterov": True}, muon(0.9, True, 0.05)),
        ("muon", {"momentum": 0.5}, muon(0.5, False, 0.05)),
        ("rmsprop", {"momentum": 0.9}, rmsprop(0.9, 0.05)),
        ("rmsprop", {"momentum": 0.0}, rmsprop(0.0, 0.05)),
    ],
)
def test_an_optimizer_does_what_its_paper_says(name, changes, update):
    """20 steps in float64 NumPy; the rate changes with every step, as a schedule's does."""
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Dense(5)(image)))
    settings = plain(optimizer=name, **{"weight_decay": 0.05, **changes})
    optimizer = optimizers.build_optimizer(settings, model)
    optimizer.build(model.trainable_variables)
    random = np.random.default_rng(3)
    expected = [np.float64(v.numpy() + (v.numpy() == 0)) for v in model.trainable_variables]
    for v, value in zip(model.trainable_variables, expected, strict=True):
        v.assign(value)
    slots = [{} for _ in expected]
    for step in range(1, STEPS + 1):
        rate = 0.01 * (1 + math.cos(step))
        gradients = [random.normal(size=v.shape) for v in expected]
        optimizer.learning_rate.assign(rate)
        optimizer.apply([tf.constant(g, tf.float32) for g in gradients], model.trainable_variables)
        expected = [
            update(w, g, own, rate, step, w.ndim > 1)
            for w, g, own in zip(expected, gradients, slots, strict=True)
        ]
    for v, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(v.numpy(), value, rtol=2e-4, atol=2e-5, err_msg=v.path)


def test_lars_leaves_a_layer_of_zeros_its_gradient():
    image = keras.Input((2,))
    model = keras.Model(image, keras.layers.Dense(2, kernel_initializer="zeros")(image))
    optimizer = optimizers.build_optimizer(plain(optimizer="lars", momentum=0.0), model)
    optimizer.learning_rate.assign(0.5)
    kernel, bias = model.trainable_variables
    optimizer.apply([tf.ones_like(kernel.value), tf.zeros_like(bias.value)], [kernel, bias])
    np.testing.assert_array_equal(kernel.numpy(), np.full((2, 2), -0.5))
