"""LARS beyond its formula, which test_optimizers.py has with those of all optimizers."""

import keras
import numpy as np
import tensorflow as tf

from trainer.lars import Lars


def kernel_and_bias(initializer="ones"):
    image = keras.Input((2,))
    return keras.Model(
        image, keras.layers.Dense(2, kernel_initializer=initializer)(image)
    ).trainable_variables


def test_a_layer_of_zeros_gets_its_whole_gradient():
    kernel, bias = kernel_and_bias("zeros")
    optimizer = Lars(learning_rate=0.5, momentum=0.0)
    optimizer.apply([tf.ones_like(kernel.value), tf.zeros_like(bias.value)], [kernel, bias])
    np.testing.assert_array_equal(kernel.numpy(), np.full((2, 2), -0.5))


def test_a_layer_changes_by_the_same_share_whatever_its_gradient():
    changes = []
    for size in (1e-3, 1e3):
        kernel, bias = kernel_and_bias()
        optimizer = Lars(learning_rate=1.0, momentum=0.0)
        gradient = tf.fill([2, 2], tf.constant(size))
        optimizer.apply([gradient, tf.zeros_like(bias.value)], [kernel, bias])
        changes.append(1.0 - kernel.numpy())
    np.testing.assert_allclose(changes, np.full((2, 2, 2), 0.001), rtol=1e-4)


def test_its_settings_survive_keras_serialization():
    optimizer = Lars(0.5, momentum=0.8, nesterov=True, weight_decay=0.1, trust=0.01)
    again = Lars.from_config(
        {k: v for k, v in optimizer.get_config().items() if k in Lars.__init__.__code__.co_varnames}
    )
    kept = ("momentum", "nesterov", "decay", "trust")
    assert [getattr(again, name) for name in kept] == [0.8, True, 0.1, 0.01]
