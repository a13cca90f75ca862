"""Cross entropy and accuracy of numbers and of shares, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as framework_config

from trainer import losses

LOGITS = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
LABELS = np.arange(9) % 4


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_the_smoothed_target(smoothing):
    logits = LOGITS.astype(np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = (1 - smoothing) * np.eye(4)[LABELS] + smoothing / 4
    expected = -(target * log_probabilities).sum(axis=1)
    found = losses.cross_entropy(tf.constant(LABELS, tf.int32), LOGITS, smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.fixture
def deterministic(monkeypatch):
    """As --deterministic: enabled for good, TensorFlow's own switch would change other tests."""
    monkeypatch.setattr(framework_config, "is_op_determinism_enabled", lambda: True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_op_determinism_changes_the_ops_and_not_the_loss(monkeypatch, smoothing, deterministic):
    labels = tf.constant(LABELS, tf.int32)
    with tf.GradientTape() as tape:
        logits = tf.Variable(LOGITS)
        loss = losses.cross_entropy(labels, logits, smoothing)
    found = loss, tape.gradient(loss, logits)
    trace = tf.function(losses.cross_entropy).get_concrete_function(
        labels, tf.constant(LOGITS), smoothing
    )
    kinds = {operation.type for operation in trace.graph.get_operations()}
    assert not {kind for kind in kinds if "Gather" in kind or "Sparse" in kind}
    monkeypatch.undo()
    with tf.GradientTape() as tape:
        loss = losses.cross_entropy(labels, logits, smoothing)
    for got, expected in zip(found, (loss, tape.gradient(loss, logits)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_shares_of_one_class_are_its_number(smoothing):
    weights = np.ones(9, np.float32)
    shares = tf.one_hot(LABELS, 4)
    numbers = tf.constant(LABELS, tf.int32)
    np.testing.assert_allclose(
        losses.cross_entropy(shares, LOGITS, smoothing),
        losses.cross_entropy(numbers, LOGITS, smoothing),
        rtol=1e-6,
    )
    assert losses.count_correct(shares, LOGITS, weights) == losses.count_correct(
        numbers, LOGITS, weights
    )


def test_the_loss_of_shared_labels_is_shared():
    """It is linear in them: what mixup relies on."""
    one, other = (tf.one_hot((LABELS + shift) % 4, 4) for shift in (0, 1))
    found = losses.cross_entropy(0.3 * one + 0.7 * other, LOGITS)
    parts = [losses.cross_entropy(each, LOGITS).numpy() for each in (one, other)]
    np.testing.assert_allclose(found, 0.3 * parts[0] + 0.7 * parts[1], rtol=1e-5)


def test_images_without_a_weight_are_not_counted():
    right = np.arange(9) < 5
    labels = tf.constant((LOGITS.argmax(axis=1) + ~right) % 4, tf.int32)
    for weights in (np.ones(9), np.arange(9) % 2, np.zeros(9)):
        found = losses.count_correct(labels, LOGITS, weights.astype(np.float32))
        assert found.dtype == tf.int64
        assert int(found) == (right & (weights > 0)).sum()


def test_the_largest_share_is_what_is_right():
    shares = tf.constant([[0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
    logits = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert int(losses.count_correct(shares, logits, np.ones(3, np.float32))) == 2


def test_the_outcome_of_each_image():
    labels = tf.constant(LABELS, tf.int32)
    weights = (np.arange(9) % 3 > 0).astype(np.float32)
    label, predicted, probability, above = losses.outcome(labels, LOGITS, weights)
    np.testing.assert_array_equal(label, np.where(weights > 0, LABELS, -1))
    np.testing.assert_array_equal(predicted, LOGITS.argmax(axis=1))
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probability, shares.max(axis=1), rtol=1e-6)
    ranks = [list(np.argsort(-row)).index(own) for row, own in zip(LOGITS, LABELS, strict=True)]
    np.testing.assert_array_equal(above, ranks)


def test_of_equal_logits_none_is_above_and_no_number_is():
    logits = tf.constant([[1.0, 1.0, 1.0], [0.0, float("nan"), 1.0]])
    above = losses.outcome(tf.constant([2, 0]), logits, tf.ones(2))[3]
    assert above.numpy().tolist() == [0, 2]
