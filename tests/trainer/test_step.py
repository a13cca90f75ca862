"""The step: the same numbers as NumPy, and what it leaves alone when they are not finite."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from input import pipeline
from models.layers import FusedBatchNorm, Pixels
from tests.conftest import CLASSES
from tests.trainer.steps import INPUT, Training, assert_same, plain, plain_model
from trainer import iterators, step


@pytest.mark.parametrize("micro_batch_size", [8, 32], ids=["V=4", "V=1"])
def test_a_step_is_the_mean_gradient_of_the_images_that_count(strategies, reader, micro_batch_size):
    """One sgd step against NumPy in float64, with weights that are not all 1, clipped."""
    inputs = replace(INPUT, micro_batch_size=micro_batch_size, augment="none")
    settings = plain(
        learning_rate=0.5, momentum=0.0, weight_decay=0.0, schedule="constant", clip_norm=0.05
    )
    training = Training(strategies[1], reader, plain_model, settings, inputs)
    batches = list(
        pipeline.train(inputs, reader, training.plan, seed=5).take(32 // micro_batch_size)
    )
    image, label, weight = (np.concatenate(column) for column in zip(*batches, strict=True))
    weight[[3, 17, 18]] = 0.0
    spoiled = iter(np.split(weight, len(batches)))
    elements = [(i, label, next(spoiled)) for i, label, _ in batches]
    columns = tuple(np.stack(column) for column in zip(*elements, strict=True))
    dataset = tf.data.Dataset.from_tensor_slices(columns).repeat()
    training.iterator = iterators.distributed(strategies[1], lambda: dataset)

    kernel, bias = (v.numpy().astype(np.float64) for v in training.model.trainable_variables)
    features = (image / 127.5 - 1).mean(axis=(1, 2))
    logits = features @ kernel + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    losses = -np.log(probabilities[np.arange(32), label])
    slope = (probabilities - np.eye(len(CLASSES))[label]) * (weight / weight.sum())[:, None]
    gradients = [features.T @ slope, slope.sum(axis=0)]
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    assert norm > settings.clip_norm

    history = training.run(0, 1)
    assert history.loss[0] == pytest.approx((losses * weight).sum() / weight.sum(), rel=1e-5)
    assert history.images[0] == 29
    assert history.correct[0] == ((logits.argmax(axis=1) == label) * weight).sum()
    assert history.gradient_norm[0] == pytest.approx(norm, rel=1e-5)
    for before, variable, gradient in zip(
        (kernel, bias), training.model.trainable_variables, gradients, strict=True
    ):
        expected = before - 0.5 * gradient * settings.clip_norm / norm
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5, atol=1e-6)


class Poison(keras.layers.Layer):
    """Multiplies its input by a number that training does not change."""

    def build(self, _):
        self.factor = self.add_weight(name="factor", initializer="ones", trainable=False)

    def call(self, x):
        return x * self.factor


def poisoned_model():
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = FusedBatchNorm()(keras.layers.Conv2D(4, 3, use_bias=False)(Pixels("unit")(image)))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, Poison(name="poison")(keras.layers.Dense(len(CLASSES))(x)))


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("factor", [np.nan, np.inf, 1e9], ids=["nan", "inf", "overflow"])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    strategies, reader, replicas, factor
):
    """And a number that is too large for the exact sum is told from one that is not finite."""
    training = poisoned_training(strategies[replicas], reader)
    poison = training.model.get_layer("poison").factor
    training.run(0, 2)
    before = training.state()
    poison.assign(factor)
    history = training.run(2, 2)
    poison.assign(1.0)
    assert_same(before, training.state())
    assert history.applied.tolist() == [0, 0]
    assert history.too_large.tolist() == [int(np.isfinite(factor))] * 2
    assert training.run(4, 1).applied.tolist() == [1]
    assert int(training.optimizer.iterations.numpy()) == 3


_TRAININGS = {}


def poisoned_training(strategy, reader) -> Training:
    """One trace per number of replicas, shared by the factors."""
    replicas = strategy.num_replicas_in_sync
    if replicas not in _TRAININGS:
        _TRAININGS[replicas] = Training(strategy, reader, poisoned_model, plain(clip_norm=1.0))
    training = _TRAININGS[replicas]
    training.optimizer.iterations.assign(0)
    return training


def test_moving_statistics_are_the_mean_over_micro_batches(strategies, reader):
    """Each micro-batch starts from the step's statistics; their changes are averaged."""
    settings = plain(learning_rate=0.0, weight_decay=0.0)
    training = Training(strategies[2], reader, poisoned_model, settings)
    norm = next(x for x in training.model.layers if isinstance(x, FusedBatchNorm))
    convolution = next(x for x in training.model.layers if "conv" in x.name)
    outputs = [
        convolution(Pixels("unit")(image)).numpy().astype(np.float64)
        for image, _, _ in pipeline.train(INPUT, reader, training.plan, seed=5).take(4)
    ]
    start = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    training.run(0, 1)
    momentum = norm.momentum
    mean = np.mean([x.mean(axis=(0, 1, 2)) for x in outputs], axis=0)
    variance = np.mean([x.var(axis=(0, 1, 2)) for x in outputs], axis=0)
    for found, before, batch in zip(
        (norm.moving_mean, norm.moving_variance), start, (mean, variance), strict=True
    ):
        expected = momentum * before + (1 - momentum) * batch
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", ["exact", "fast"])
@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_hashes_change_nothing_and_are_of_the_step_s_sum(
    strategies, reader, micro_batches, reduction
):
    """On two replicas, or one for a step of one micro-batch, with and without an accumulator."""
    inputs = replace(INPUT, micro_batch_size=32 // micro_batches)
    strategy = strategies[min(2, micro_batches)]

    def trained(hashing):
        keras.backend.clear_session()  # or its layers have other names
        keras.utils.set_random_seed(0)
        settings = {"reduction": reduction, "hashing": hashing}
        training = Training(strategy, reader, poisoned_model, plain(), inputs, **settings)
        return training, training.run(0, 3)

    alone, without = trained(None)
    assert without.hashes.shape == (3, 0)
    whole, hashed = trained(step.Hashing(lambda step: step != 1))
    assert [bool(each) for each in hashed.hashes[:, 0]] == [True, False, True]
    finely, by_tensor = trained(step.Hashing(lambda step: step == 2, by_tensor=True))
    assert by_tensor.hashes.shape == (3, whole.micro_batch.layout.parts)
    assert by_tensor.hashes.sum(axis=1).tolist() == [0, 0, hashed.hashes[2, 0]]
    for other, history in ((whole, hashed), (finely, by_tensor)):
        assert_same(alone.state(), other.state())
        for name in step.History._fields[:-1]:
            np.testing.assert_array_equal(getattr(without, name), getattr(history, name), name)


def test_the_hash_is_that_of_the_micro_batches_added_up(strategies, reader):
    training = Training(
        strategies[2], reader, poisoned_model, plain(), hashing=step.Hashing(lambda step: step == 0)
    )
    layout, zero = training.micro_batch.layout, tf.constant(0, tf.int64)

    @tf.function
    def vector(batch, number):
        own = training.micro_batch.sums
        each = strategies[2].run(lambda: own(batch, zero, number))
        return strategies[2].experimental_local_results(each)[0]

    batches = pipeline.train(INPUT, reader, training.plan, seed=5).take(training.plan.micro_batches)
    vectors = [vector(each, tf.constant(n, tf.int64)) for n, each in enumerate(batches)]
    expected = layout.hashes(tf.add_n(vectors), by_part=False).numpy()[0]
    assert training.run(0, 1).hashes.tolist() == [[expected]]
