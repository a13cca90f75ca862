"""What a forward pass assigns is found; what would break invariance is refused, by layer."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.build import build_model
from models.config import ModelConfig
from models.inspection import assigned_variables
from tests.conftest import error


@keras.saving.register_keras_serializable("tests")
class StatefulDrop(keras.layers.Layer):
    """DropPath as many ports of ConvNeXt have it."""

    def call(self, x, training=None):
        return x * tf.cast(tf.random.uniform([]) > 0.5, x.dtype) if training else x


class Counter(keras.layers.Layer):
    """A plain tf.Variable, which Keras does not track."""

    def build(self, shape):
        self.calls = tf.Variable(0.0)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


class Inside(keras.layers.Layer):
    """Another layer in a branch of the graph."""

    def __init__(self, layer):
        super().__init__(name="inside")
        self.layer = layer

    def call(self, x, training=None):
        inner = lambda: self.layer(x, training=training)  # noqa: E731
        return tf.cond(tf.reduce_sum(x) > 0, inner, lambda: x)


def model(*layers) -> keras.Model:
    image = x = keras.Input((8, 8, 3))
    for layer in layers:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3)(x))


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(
    ("name", "frozen"),
    [("cnn", 0), ("resnet18", 0), ("keras:MobileNetV2", 0), ("keras:EfficientNetB0", 3)],
)
def test_moving_statistics_are_assigned(strategies, replicas, name, frozen):
    """Keras' Normalization in EfficientNet has three weights that training never assigns."""
    with strategies[replicas].scope():
        built = build_model(ModelConfig(model=name), input_shape=(32, 32, 3), num_classes=3)
    before = [v.numpy().copy() for v in built.variables]
    assigned = assigned_variables(built, images=4)
    assert len(assigned) == len(built.non_trainable_variables) - frozen
    assert [v.path for v in assigned if "moving" in v.path] == [
        v.path for v in built.non_trainable_variables if "moving" in v.path
    ]
    after = [v.numpy() for v in built.variables]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))  # nothing ran


def test_frozen_weights_are_none():
    built = model(keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization())
    built.layers[1].trainable = False
    assigned = assigned_variables(built, images=2)
    assert [v.name for v in assigned] == ["moving_mean", "moving_variance"]
    built.trainable = False
    assert assigned_variables(built, images=2) == []


def test_seeds_are_assigned():
    (seed,) = assigned_variables(model(keras.layers.Dropout(0.5)), images=2)
    assert seed.name == "seed_generator_state"


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: StatefulDrop(name="drop"), ("Layer drop ", "own random state")),
        (lambda: Inside(StatefulDrop(name="drop")), ("Layer drop ", "own random state")),
        (lambda: Counter(name="counter"), ("Layer counter ", "assigns a tf.Variable")),
        (
            lambda: keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3, name="spectral")),
            ("Layer spectral ", "assigns a trainable variable"),
        ),
        (
            lambda: keras.layers.BatchNormalization(synchronized=True, name="sync"),
            ("Layer sync ", "all-reduces over the replicas"),
        ),
        (
            lambda: keras.layers.Lambda(lambda x: x + tf.random.normal([1]), name="noise"),
            ("Layer noise ", "own random state"),
        ),
    ],
)
def test_what_would_depend_on_the_replicas_is_refused(layer, words):
    message = error(assigned_variables, model(layer()), images=2)
    assert all(word in message for word in words)
    assert "keras.random.SeedGenerator" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.AugMix(),
        keras.layers.Lambda(lambda x: x * random.random()),
        keras.layers.Lambda(lambda x: x * np.random.uniform()),
    ],
)
def test_a_model_that_is_another_at_every_trace_is_refused(layer):
    """Keras' AugMix chooses its operations with Python's random: each replica has its own."""
    message = error(assigned_variables, model(layer), images=2)
    assert "every replica would get another model" in message
    assert "--augment" in message


@pytest.mark.parametrize(
    "layer", [keras.layers.GaussianNoise(0.1), keras.layers.RandomFlip(), keras.layers.Dropout(0.3)]
)
def test_keras_own_random_layers_are_taken(layer):
    assert len(assigned_variables(model(layer), images=2)) == 1


def test_a_replicas_all_reduce_is_itself_again():
    before = tf.distribute.ReplicaContext.all_reduce
    assigned_variables(model(keras.layers.ReLU()), images=2)
    assert tf.distribute.ReplicaContext.all_reduce is before
