"""Where a model begins to compute with its pixels, and what has become of them by then."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import ranges

L = keras.layers


def found(*layers, dtype="uint8"):
    """(low, high) that a convolution behind the layers sees."""
    image = x = keras.Input((8, 8, 3), dtype=dtype)
    for layer in layers:
        x = layer(x)
    model = keras.Model(image, L.Conv2D(2, 3)(x))
    graph = (
        tf.function(lambda image: model(image, training=False), autograph=False)
        .get_concrete_function(tf.TensorSpec([2, 8, 8, 3], dtype))
        .graph
    )
    return [(used.low, used.high) for used in ranges.used(graph.inputs[0])]


def adapted():
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(0, 1, (64, 8, 8, 3)).astype(np.float32))
    return layer


MEAN, VARIANCE = (0.485, 0.456, 0.406), (0.229**2, 0.224**2, 0.225**2)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([], (0, 255)),
        ([L.Rescaling(1 / 255)], (0, 1)),
        ([L.Rescaling(1 / 127.5, -1)], (-1, 1)),
        ([L.Rescaling(-1.0, 255)], (0, 255)),
        ([L.Rescaling(1 / 255), L.Rescaling(1 / 255)], (0, 1 / 255)),
        # The median channel: 0.456 and 0.225.
        ([L.Rescaling(1 / 255), L.Normalization(mean=MEAN, variance=VARIANCE)], (-2.027, 2.418)),
        ([L.Normalization(mean=MEAN, variance=VARIANCE)], (-2.027, 1131.3)),
        ([L.Normalization()], (0, 255)),  # never adapted: nothing is done
        ([L.Rescaling(1 / 255), adapted()], (-1.73, 1.73)),
        ([lambda x: keras.ops.cast(x, "float32") / 255], (0, 1)),
        ([lambda x: 1 - keras.ops.cast(x, "float32") / 255], (0, 1)),
        ([L.Rescaling(2.0), lambda x: keras.ops.clip(x, 10.0, 300.0)], (10, 300)),
        ([L.Rescaling(1 / 255), L.BatchNormalization()], (0, 1)),
        ([L.Rescaling(1 / 255), L.Rescaling(0.0, 1.0)], (0, 1)),  # pixels that are not used
        ([L.RandomFlip(), L.RandomRotation(0.1), L.Rescaling(1 / 255)], (0, 1)),
        ([L.ZeroPadding2D(), L.CenterCrop(6, 6), L.Resizing(8, 8), L.Rescaling(1 / 255)], (0, 1)),
        ([keras.Sequential([L.RandomFlip(), keras.Sequential([L.Rescaling(1 / 255)])])], (0, 1)),
        ([keras.applications.mobilenet_v2.preprocess_input], (-1, 1)),
        ([keras.applications.densenet.preprocess_input], (-2.027, 2.418)),
        ([keras.applications.resnet.preprocess_input], (-116.779, 138.221)),
    ],
)
def test_ranges(layers, expected):
    (only,) = found(*layers, dtype="float32")
    np.testing.assert_allclose(only, expected, atol=0.02)


def test_every_branch_is_followed():
    def both(x):
        one, other = L.Rescaling(1 / 255)(x), L.Rescaling(1 / 127.5, -1)(x)
        return L.Concatenate()([L.Conv2D(2, 3)(one), L.Conv2D(2, 3)(other)])

    rounded = sorted((round(low, 3), round(high, 3)) for low, high in found(both, dtype="float32"))
    assert rounded == [(-1, 1), (0, 1)]


def test_integers_are_looked_at_once_they_are_floats():
    """Pixels as indices of an embedding are no range of anything."""
    assert found(lambda x: keras.ops.cast(x, "int32") + 512, L.Rescaling(1 / 767)) == [
        pytest.approx((512 / 767, 1))
    ]
    index = keras.Sequential([L.Lambda(lambda x: tf.cast(x, tf.int32) + 512), L.Embedding(800, 2)])
    assert found(index, L.Reshape((8, 8, 6))) == []


@pytest.mark.parametrize(
    ("low", "high", "narrow", "large"),
    [
        (0, 1, False, False),
        (-0.004, 0.004, True, False),
        (-1.008, -0.992, True, False),
        (0, 255, False, False),
        (-124, 151, False, False),
        (-2, 1113, False, True),
        (-1000, 0, False, True),
    ],
)
def test_what_makes_no_sense(low, high, narrow, large):
    given = ranges.Range(low, high)
    assert (given.is_narrow, given.is_large) == (narrow, large)
    assert given.makes_sense == (not narrow and not large)
