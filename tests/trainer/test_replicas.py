"""The same bits on 1, 2 and 4 replicas: weights, slots, statistics and losses."""

from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.build import POLICIES, build_model
from models.config import ModelConfig
from tests.conftest import CLASSES
from tests.trainer.steps import INPUT, OPTIMIZERS, Training, assert_same, build, plain
from trainer import audit, recipe, step
from trainer.optimizers import OPTIMIZERS as TABLE

CASES = [  # All others: test_invariance.py.
    ("cnn", "sgd", "float32"),
    ("cnn", "adamw", "float32"),
    ("cnn", "sgd", "bfloat16"),
    pytest.param("resnet18", "adamw", "float32", marks=pytest.mark.matrix),
]


@pytest.mark.parametrize(("name", "optimizer", "precision"), CASES)
def test_replicas_do_not_change_a_bit(strategies, reader, name, optimizer, precision):
    """20 steps over four epochs, augmented: weights, slots, statistics, losses and hashes."""
    runs = {}
    for replicas, strategy in strategies.items():
        keras.backend.clear_session()
        size = 16 if name == "cnn" else 32  # bfloat16 is emulated, and slow, on most CPUs
        inputs = replace(INPUT, image_size=size)
        training = Training(
            strategy,
            reader,
            build(name, precision, size),
            OPTIMIZERS[optimizer],
            inputs,
            hashing=step.Hashing(lambda step: step % 3 == 0),
        )
        history = [training.run(0, 13), training.run(13, 7)]
        assert training.train.experimental_get_tracing_count() == 1
        runs[replicas] = training.state(), history
    for replicas in (2, 4):
        for one, other in zip(runs[1][1], runs[replicas][1], strict=True):
            for field, ours, theirs in zip(step.History._fields, one, other, strict=True):
                np.testing.assert_array_equal(ours, theirs, field)
        assert_same(runs[1][0], runs[replicas][0])
    assert all(history.applied.all() for history in runs[1][1])
    hashes = np.concatenate([history.hashes[:, 0] for history in runs[1][1]])
    assert np.flatnonzero(hashes).tolist() == list(range(0, 20, 3))


EVERY = [(name, precision) for name in TABLE for precision in POLICIES]
QUICK = [*((name, "float32") for name in TABLE), ("adamw", "bfloat16"), ("sgd", "float16")]


@pytest.mark.parametrize(
    ("name", "precision"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.matrix) for case in EVERY],
)
def test_replicas_do_not_change_a_bit_of_any_optimizer(strategies, reader, name, precision):
    """With averages, class weights, clipping, smoothing and, in float16, a loss scale."""
    settings = plain(
        optimizer=name,
        learning_rate=recipe.SUITED[name].rate / 4,
        clip_norm=0.5,
        label_smoothing=0.1,
        ema_decay=0.9,
        nesterov=True,
    )
    runs = []
    for strategy in strategies.values():
        training = Training(
            strategy,
            reader,
            build("cnn", precision, size=8),
            settings,
            replace(INPUT, image_size=8),
            class_weights=(0.5, 1.0, 2.0),
            scaled=precision == "float16",
        )
        history = training.run(0, 6)
        assert history.applied.sum() >= 3  # float16 finds its scale first
        runs.append(training.state() | {f"history/{k}": v for k, v in history._asdict().items()})
    assert_same(runs[0], runs[1])
    assert_same(runs[0], runs[2])


def test_replicas_do_not_change_a_bit_of_mixed_images(strategies, reader):
    """Labels that are shares of classes, and every augmentation there is; the audit passes."""
    inputs = replace(
        INPUT,
        image_size=16,
        augment="rand-m9-n2",
        color_jitter=0.4,
        erasing=0.3,
        mixup=0.2,
        cutmix=1.0,
    )
    states = []
    for strategy in strategies.values():
        training = Training(strategy, reader, build("cnn", size=16), OPTIMIZERS["adamw"], inputs)
        history = training.run(0, 6)
        assert history.applied.all()
        audit.audit(
            training.train.get_concrete_function(
                training.iterator, tf.constant(0, tf.int64), tf.constant(1, tf.int64)
            ),
            training.model,
        )
        states.append({**training.state(), "loss": history.loss, "correct": history.correct})
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])


def test_replicas_do_not_change_a_bit_of_what_xla_has_compiled(strategies, reader):
    """And of repeated views. Without dropout: XLA draws by another algorithm."""
    model = partial(
        build_model, ModelConfig("cnn"), input_shape=(8, 8, 3), num_classes=len(CLASSES)
    )
    inputs = replace(INPUT, image_size=8, repeated_augmentation=4)
    states = {}
    for jit, replicas in ((True, 1), (True, 2), (True, 4), (False, 1)):
        training = Training(strategies[replicas], reader, model, plain(), inputs, jit=jit)
        assert training.run(0, 3).applied.all()
        states[jit, replicas] = training.state()
        zero, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
        trace = training.train.get_concrete_function(training.iterator, zero, one)
        assert ("_XlaMustCompile" in str(trace.graph.as_graph_def())) is jit
    assert_same(states[True, 1], states[True, 2])
    assert_same(states[True, 1], states[True, 4])
    for name, value in states[False, 1].items():
        np.testing.assert_allclose(states[True, 1][name], value, rtol=1e-3, atol=1e-4)


def test_fast_reduction_agrees_to_rounding(strategies, reader):
    runs = {}
    for replicas, reduction in ((1, "exact"), (1, "fast"), (4, "fast")):
        # A small rate: at 0.1 training makes a rounding 1,000 times larger in 20 steps.
        optimizer = replace(OPTIMIZERS["sgd"], learning_rate=0.003)
        training = Training(
            strategies[replicas], reader, build("cnn"), optimizer, reduction=reduction
        )
        training.run(0, 20)
        runs[replicas, reduction] = training.state()
    exact = runs.pop((1, "exact"))
    for fast in runs.values():
        for name in exact:
            np.testing.assert_allclose(fast[name], exact[name], rtol=1e-5, atol=1e-5, err_msg=name)
    different = [(a != b).any() for a, b in zip(exact.values(), fast.values(), strict=True)]
    assert any(different), "float32 sums in another order must differ, or nothing is tested"
