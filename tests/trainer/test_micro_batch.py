"""What a micro-batch adds to a step: losses of layers, weights of 16 bits, statistics, seeds."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from input import order, pipeline
from models.layers import Pixels
from tests.conftest import CLASSES
from tests.trainer.steps import INPUT, Training, assert_same, plain, plain_model
from trainer import iterators
from trainer.errors import TrainerError


def test_a_regulariser_counts_once_a_step(strategies, reader):
    """Its gradient does not depend on the number of micro-batches."""

    def regularised():
        keras.utils.set_random_seed(3)
        image = keras.Input((32, 32, 3), dtype="uint8")
        x = keras.layers.GlobalAveragePooling2D()(Pixels("unit")(image))
        dense = keras.layers.Dense(len(CLASSES), kernel_regularizer=keras.regularizers.L2(0.1))
        return keras.Model(image, dense(x))

    settings = plain(weight_decay=0.0)
    kernels = []
    for micro_batch_size in (8, 32):
        inputs = replace(INPUT, micro_batch_size=micro_batch_size)
        training = Training(strategies[1], reader, regularised, settings, inputs)
        training.run(0, 3)
        kernels.append(training.model.trainable_variables[0].numpy())
    np.testing.assert_allclose(*kernels, rtol=1e-5)


class Scaled(keras.layers.Layer):
    """Adds a loss for each image: a factor times the square of its features."""

    def call(self, x):
        self.add_loss(0.01 * tf.reduce_sum(x**2, axis=-1))
        return x


def penalised():
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Conv2D(4, 3, name="conv")(Pixels("unit")(image))
    x = Scaled()(keras.layers.GlobalAveragePooling2D()(x))
    l2 = keras.regularizers.L2(0.1)
    dense = keras.layers.Dense(len(CLASSES), kernel_regularizer=l2, name="dense")
    return keras.Model(image, dense(x))


@pytest.mark.parametrize("spoiled", [(), (3, 17, 18)], ids=["all good", "three bad"])
def test_losses_that_layers_add_count_once_a_step(strategies, reader, spoiled):
    """Against plain Keras: mean cross entropy, L2 once, each image's own loss over V; R = 1, 2, 4.

    Bad records, with weight 0, make the regulariser neither stronger nor weaker.
    """
    settings = plain(learning_rate=0.5, momentum=0.0, weight_decay=0.0, schedule="constant")
    inputs = replace(INPUT, augment="none")
    plan = order.plan(inputs, reader.records, replicas=1)
    batches = list(pipeline.train(inputs, reader, plan, seed=5).take(4))
    image, label, weight = (np.stack(column) for column in zip(*batches, strict=True))
    weight.reshape(-1)[list(spoiled)] = 0.0
    states = []
    for replicas, strategy in strategies.items():
        training = Training(strategy, reader, penalised, settings, inputs)
        # Replica r has the micro-batches from r * draws on, and all draw in turn.
        order_drawn = np.arange(4).reshape(replicas, -1).T.reshape(-1)
        drawn = tuple(column[order_drawn] for column in (image, label, weight))
        dataset = tf.data.Dataset.from_tensor_slices(drawn).repeat()
        training.iterator = iterators.distributed(strategy, lambda dataset=dataset: dataset)
        history = training.run(0, 1)
        assert history.applied.all()
        assert history.images[0] == 32 - len(spoiled)
        states.append(training.state())
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])

    reference = penalised()
    with tf.GradientTape() as tape:
        objective = tf.constant(0.0)
        for one, its_label, its_weight in zip(image, label, weight, strict=True):
            logits = reference(one, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(its_label, logits)
            objective += tf.reduce_sum(its_weight * losses) / weight.sum()
            share = its_weight.sum() / weight.sum()  # 1/4 where no record is bad
            objective += share * sum(tf.reduce_sum(each) for each in reference.losses)
    gradients = tape.gradient(objective, [v.value for v in reference.trainable_variables])
    for variable, gradient in zip(reference.trainable_variables, gradients, strict=True):
        np.testing.assert_allclose(
            states[0][variable.path], variable.numpy() - 0.5 * gradient, rtol=1e-4, atol=1e-5
        )


def test_a_kernel_is_normalised_once_a_step(strategies, reader):
    """SpectralNormalization, which assigns its kernel in the forward pass, against plain Keras."""

    def spectral():
        keras.utils.set_random_seed(3)
        image = keras.Input((32, 32, 3), dtype="uint8")
        convolution = keras.layers.Conv2D(4, 3, name="conv")
        x = keras.layers.SpectralNormalization(convolution, name="spectral")(Pixels("unit")(image))
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(image, keras.layers.Dense(len(CLASSES), name="dense")(x))

    settings = plain(optimizer="adamw", learning_rate=0.01, schedule="constant")
    inputs = replace(INPUT, augment="none")
    states = []
    for strategy in strategies.values():
        training = Training(strategy, reader, spectral, settings, inputs)
        assert training.run(0, 3).applied.all()
        states.append(training.state())
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])

    reference = spectral()
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(
        [v for v in reference.trainable_variables if len(v.shape) < 2]
    )
    plan = order.plan(inputs, reader.records, replicas=1)
    batches = list(pipeline.train(inputs, reader, plan, seed=5).take(12))
    for step in range(3):
        image, label, _ = (
            np.concatenate(column) for column in zip(*batches[4 * step : 4 * step + 4], strict=True)
        )
        with tf.GradientTape() as tape:
            logits = reference(image, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [v.value for v in reference.trainable_variables])
        optimizer.apply(gradients, reference.trainable_variables)
    for variable in reference.variables:
        np.testing.assert_allclose(
            states[0][variable.path], variable.numpy(), rtol=1e-3, atol=1e-4, err_msg=variable.path
        )


@pytest.mark.parametrize("micro_batch_size", [8, 32], ids=["V=4", "V=1"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_16_bits_are_trained(strategies, reader, dtype, micro_batch_size):
    """Their sums are float32 or fixed point: 2**50 times a gradient is no float16."""

    def halves():
        keras.utils.set_random_seed(3)
        image = keras.Input((32, 32, 3), dtype="uint8")
        x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(Pixels("unit", dtype=dtype)(image))
        x = keras.layers.Dense(len(CLASSES), dtype=dtype, name="dense")(x)
        return keras.Model(image, keras.layers.Activation("linear", dtype="float32")(x))

    inputs = replace(INPUT, micro_batch_size=micro_batch_size)
    states = []
    for replicas in (1, 2, 4) if micro_batch_size == 8 else (1,):
        training = Training(strategies[replicas], reader, halves, plain(), inputs)
        before = [v.numpy() for v in training.model.trainable_variables]
        assert training.run(0, 3).applied.all()
        for variable, old in zip(training.model.trainable_variables, before, strict=True):
            assert variable.dtype == dtype
            assert (variable.numpy() != old).any()
        states.append(training.state())
    for state in states[1:]:
        assert_same(states[0], state)


class Counting(keras.layers.Layer):
    """A layer with an integer weight, which counts its calls in training, or is left alone."""

    def __init__(self, counts: bool):
        super().__init__()
        self.counts = counts

    def build(self, _):
        self.calls = self.add_weight(name="calls", dtype="int32", trainable=False)

    def call(self, x, training=None):
        if self.counts and training:
            self.calls.assign(self.calls + 1)
        return x


def counting(counts: bool) -> keras.Model:
    image = keras.Input((32, 32, 3), dtype="uint8")
    return keras.Model(image, Counting(counts)(plain_model()(image)))


def test_integer_statistics_are_refused(strategies, reader):
    with pytest.raises(TrainerError, match="calls is int32"):
        Training(strategies[1], reader, lambda: counting(True), plain())


def test_an_integer_that_is_never_assigned_is_no_statistic(strategies, reader):
    """As the count of Keras' Normalization, in EfficientNet."""
    training = Training(strategies[2], reader, lambda: counting(False), plain())
    assert training.run(0, 2).applied.tolist() == [1, 1]


def test_dropout_draws_anew_for_every_step_and_micro_batch(strategies, reader):
    """With inputs of ones and no learning, only the masks can move the loss."""

    def dropping():
        keras.utils.set_random_seed(3)
        image = keras.Input((32, 32, 3), dtype="uint8")
        ones = Pixels("raw")(image) * 0.0 + 1.0
        x = keras.layers.Dropout(0.5)(keras.layers.Conv2D(64, 32, use_bias=False)(ones))
        return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))

    settings = plain(learning_rate=0.0, weight_decay=0.0)
    inputs = replace(INPUT, global_batch_size=16)
    training = Training(strategies[2], reader, dropping, settings, inputs)
    losses = training.run(0, 8).loss
    assert len(set(losses)) == 8
