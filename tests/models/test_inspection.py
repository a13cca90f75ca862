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
from tests.models.conftest import made


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


def test_a_kernel_that_is_normalised_in_place_is_assigned():
    built = model(keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3)))
    assigned = assigned_variables(built, images=2)
    assert {v.name for v in assigned} == {"kernel", "vector_u"}


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
            lambda: keras.layers.BatchNormalization(synchronized=True, name="sync"),
            ("Layer sync ", "all-reduces over the replicas"),
        ),
        (
            lambda: keras.layers.Lambda(lambda x: x + tf.random.normal([1]), name="noise"),
            ("Layer noise ", "own random state"),
        ),
        (
            lambda: keras.layers.Lambda(lambda x: x + keras.random.normal([1]), name="noise"),
            ("Layer noise ", "draws from keras.random without a seed"),
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


class Scale(keras.layers.Layer):
    """A weight that Keras does not know of."""

    def __init__(self, trainable, **settings):
        super().__init__(**settings)
        self.factor = tf.Variable(2.0, trainable=trainable)

    def call(self, x):
        return x * self.factor


def test_a_trainable_tf_variable_is_refused():
    assert error(assigned_variables, model(Scale(True, name="scale")), images=2) == (
        "Layer scale of the model reads a trainable variable that is no weight of the model in its "
        "forward pass: it would never be trained. Make it with self.add_weight in the layer's "
        "build."
    )
    factor = keras.Variable(2.0)
    outside = keras.layers.Lambda(lambda x: x * factor, name="outside")
    assert "Layer outside of the model reads" in error(assigned_variables, model(outside), 2)
    assert assigned_variables(model(Scale(False)), images=2) == []  # a constant


class Forgetful(keras.layers.Layer):
    """Makes its layer anew in every call."""

    def call(self, x):
        return keras.layers.Conv2D(3, 3)(x)


def test_layers_made_in_call_are_refused():
    said = error(assigned_variables, model(Forgetful()), images=2)
    assert "cannot be traced: tf.function only supports singleton tf.Variables" in said
    assert said.endswith("Layers and variables are made in __init__ or build, not in call.")


class Steps(keras.layers.Layer):
    """Counts its calls in a weight, evaluations too."""

    def build(self, shape):
        self.steps = self.add_weight(name="steps", initializer="zeros", trainable=False)

    def call(self, x):
        self.steps.assign_add(1.0)
        return x


class Noise(keras.layers.Layer):
    """Draws in evaluations too."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal([1], seed=self.seed)


@pytest.mark.parametrize(
    ("layer", "variable"),
    [(Steps, "steps/steps"), (Noise, "seed_generator_state")],
)
def test_what_an_evaluation_would_change_is_refused(layer, variable):
    name = layer.__name__.lower()
    said = error(assigned_variables, model(layer(name=name)), images=2)
    assert said.startswith(f"Layer {name} of the model assigns ")
    assert variable in said
    assert said.endswith(
        " in inference: an evaluation would change the model. Do it where call(.., training) is "
        "true."
    )


@keras.saving.register_keras_serializable("tests")
class Ending(keras.layers.Layer):
    """Calls a function at the end, in evaluations only if told so."""

    def __init__(self, function, inference_only=False):
        super().__init__(name="ending")
        self.function, self.inference_only = function, inference_only

    def call(self, x, training=None):
        return x if training and self.inference_only else self.function(x)


class Whole(keras.Model):
    """A subclass, whose layers no graph of Keras shows."""

    def __init__(self):
        super().__init__(name="whole")
        self.pool, self.head = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)

    def call(self, x):
        return keras.ops.softmax(self.head(self.pool(x)))


def ended(*layers, dtype=None) -> keras.Model:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling2D()(image))
    for layer in layers:
        x = layer(x)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(x)
    return keras.Model(image, logits)


L = keras.layers


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ([L.Dense(3, "softmax", name="last")], "softmax, in layer last"),
        ([L.Dense(3, "sigmoid", name="last")], "sigmoid, in layer last"),
        ([L.Dense(3, "softmax", name="last", dtype="mixed_bfloat16")], "softmax, in layer last"),
        ([L.Softmax(name="last")], "softmax, in layer last"),
        ([keras.Sequential([L.Dense(3), L.Softmax(name="in")])], "softmax, in layer in"),
        ([keras.ops.softmax], "softmax, in functional"),
        ([L.Lambda(tf.nn.softmax, name="fn")], "softmax, in layer fn"),
        ([L.Lambda(keras.activations.sigmoid, name="fn")], "sigmoid, in layer fn"),
        ([Ending(tf.function(tf.nn.softmax))], "softmax, in "),
        ([Ending(tf.nn.softmax, inference_only=True)], "softmax, in layer ending"),
        ([L.Softmax(name="last"), L.Reshape((3, 1)), L.Flatten()], "softmax, in layer last"),
        ([L.Softmax(name="last"), L.Dropout(0.0), L.Activation("linear")], "softmax, in layer la"),
        (
            [L.Reshape((1, 1, 3)), L.Softmax(name="last"), L.GlobalAveragePooling2D()],
            "softmax, in layer last",
        ),
    ],
)
def test_probabilities_are_refused(layers, what):
    said = error(assigned_variables, ended(*layers), images=2)
    assert said.startswith(f"The model ends in a {what}")
    assert said.endswith(
        ", and the loss applies its own. Return the logits: leave the last activation out."
    )


def test_probabilities_of_a_subclass_are_refused():
    image = keras.Input((8, 8, 3))
    said = error(assigned_variables, keras.Model(image, Whole()(image)), images=2)
    assert said.startswith("The model ends in a softmax, in layer whole, and the loss")


@pytest.mark.parametrize(
    "layers",
    [
        [L.Activation("log_softmax")],  # its softmax is itself
        [L.ReLU()],
        [L.Softmax(), L.Dense(3)],
        [lambda x: x * keras.ops.sigmoid(x)],
    ],
)
def test_logits_are_taken(layers):
    assert assigned_variables(ended(*layers), images=2) == []


SEQUENTIAL = """
return keras.Sequential([
    keras.Input(input_shape), *FIRST, L.Conv2D(4, 3, activation="relu"),
    L.GlobalAveragePooling2D(), L.Dense(num_classes),
])
"""


@pytest.mark.parametrize(
    ("first", "settings", "said"),
    [
        (
            "L.Rescaling(1 / 255)",
            {"pixels": "unit"},
            "Layer rescaling makes -0.00392..0.00392 of its pixels, and the model gets unit: "
            "-1..1 in float32: they are all nearly the same. Take the layer out, or set --pixels "
            "to what it is made for (raw: 0..255).",
        ),
        (
            "L.Rescaling(1 / 127.5, -1)",
            {"pixels": "imagenet"},
            "Layer rescaling makes -1.02..-0.981 of its pixels, and the model gets imagenet: less ",
        ),
        (
            "L.RandomFlip(), keras.Sequential([L.Rescaling(1 / 255), L.Rescaling(1 / 255)])",
            {},
            "Layer rescaling_1 makes 0..0.00392 of its pixels, and the model gets raw: 0..255 in ",
        ),
        (
            "L.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05, 0.05, 0.05])",
            {},
            "Layer normalization makes -2.04..1.14e+03 of its pixels, and the model gets raw: "
            "0..255 in float32: far too large. Take ",
        ),
    ],
)
def test_a_first_layer_for_other_pixels_is_refused(write, first, settings, said):
    built = made(write(SEQUENTIAL.replace("FIRST", f"({first},)")), size=16, **settings)
    assert error(assigned_variables, built, images=2).startswith(said)


@pytest.mark.parametrize(
    ("first", "settings"),
    [
        ("L.Rescaling(1 / 255)", {}),
        ("L.Rescaling(1 / 255)", {"precision": "bfloat16"}),
        ("L.Rescaling(1 / 127.5, -1)", {}),
        ("L.Rescaling(1 / 255)", {"pixels": "caffe"}),  # -0.49..0.59
        ("L.BatchNormalization()", {}),
        ("L.Normalization()", {}),
        ("L.Lambda(keras.applications.resnet.preprocess_input)", {}),
        ("L.Lambda(keras.applications.mobilenet.preprocess_input)", {}),
        ("L.Rescaling(1 / 255)", {"input_dtype": "float32"}),  # of any range
        ("L.Lambda(lambda x: x)", {"pixels": "imagenet"}),
    ],
)
def test_a_first_layer_for_its_pixels_is_taken(write, first, settings):
    built = made(write(SEQUENTIAL.replace("FIRST", f"({first},)")), size=16, **settings)
    assigned_variables(built, images=2)


def test_published_preprocessing_fits_and_an_explicit_mode_may_not():
    assert assigned_variables(made("keras:EfficientNetB0"), images=2)
    said = error(assigned_variables, made("keras:EfficientNetB0", pixels="unit"), images=2)
    assert said.startswith("Layer rescaling makes -0.00392..0.00392 of its pixels")


def test_what_only_training_runs_into_is_one_line(write):
    name = write(
        "return Net(num_classes)",
        """
class Net(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.pool, self.head = L.GlobalAveragePooling2D(), L.Dense(units)

    def call(self, x, training=False):
        return self.head(self.pool(x)) * (self.missing if training else 1)
""",
    )
    said = error(assigned_variables, made(name, size=16), images=2)
    place = name.partition(":")[0]
    assert said.startswith(f"The model net failed in {place}:15: AttributeError: ")
    assert "'missing'" in said
    assert "\n" not in said
