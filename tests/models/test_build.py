"""What the models promise: published sizes, Keras' BatchNorm, same seed same bits, clear errors."""

import functools
import inspect
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.build import APPLICATIONS, build
from models.cnn import cnn
from models.config import ModelConfig, ModelError
from models.layers import FusedBatchNorm, Pixels
from models.resnet import basic, bottleneck, resnet

# Contract 1: none of these may touch the batch in front of the first convolution or dense layer.
FORBIDDEN = {
    *("Reshape", "Slice", "StridedSlice", "Split", "SplitV", "Concat", "ConcatV2", "Transpose"),
    *("Gather", "GatherV2", "GatherNd", "Pack", "Tile", "ReverseV2"),
}


def made(model, *, size=32, dropout=0.0, seed=1, **settings):
    settings = {"input_shape": (size, size, 3), "num_classes": 10, **settings}
    return build(ModelConfig(model, dropout), seed=seed, **settings)


@functools.cache
def imagenet_network(model):
    return made(model, num_classes=1000)


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def bits(model):
    return {variable.path: variable.numpy().tobytes() for variable in model.variables}


def size_of(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


# --- FusedBatchNorm


def activations(*shape):
    return tf.constant(np.random.default_rng(1).normal(3.0, 2.0, shape), tf.float32)


def both_norms():
    """Ours and Keras' BatchNorm for 6 channels, with the same weights, none of them trivial."""
    norms = FusedBatchNorm(), keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    values = np.random.default_rng(2).uniform(0.5, 2.0, (4, 6)).astype(np.float32)
    for norm in norms:
        norm.build((None, 5, 5, 6))
        for name, value in zip(
            ("gamma", "beta", "moving_mean", "moving_variance"), values, strict=True
        ):
            getattr(norm, name).assign(value)
    return norms


def norm_results(norm, x, training):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = norm(x, training=training)
        loss = tf.reduce_sum(y * np.random.default_rng(3).normal(size=x.shape))
    gradients = tape.gradient(loss, [x, norm.gamma.value, norm.beta.value])
    return [y, *gradients, norm.moving_mean.value, norm.moving_variance.value]


@pytest.mark.parametrize("shape", [(4, 5, 5, 6), (3, 1, 1, 6), (1, 1, 1, 6)])
@pytest.mark.parametrize("training", [True, False])
def test_fused_batch_norm_is_keras_batch_normalization(shape, training):
    ours, theirs = (norm_results(norm, activations(*shape), training) for norm in both_norms())
    for got, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)


def test_frozen_fused_batch_norm_is_in_inference():
    x = activations(4, 5, 5, 6)
    norm, _ = both_norms()
    before = norm.moving_mean.numpy()
    expected = norm(x, training=False)
    norm.trainable = False
    np.testing.assert_array_equal(norm(x, training=True), expected)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), before)


def test_fused_batch_norm_takes_an_unknown_batch():
    x = activations(4, 5, 5, 6)
    eager, _ = both_norms()
    traced, _ = both_norms()
    call = tf.function(
        lambda x: traced(x, training=True), [tf.TensorSpec([None, None, None, 6], tf.float32)]
    )
    np.testing.assert_allclose(call(x), eager(x, training=True), rtol=1e-6)
    np.testing.assert_allclose(traced.moving_variance, eager.moving_variance, rtol=1e-6)


def test_fused_batch_norm_keeps_16_bit_activations_and_float32_statistics():
    norm = FusedBatchNorm(dtype="mixed_bfloat16")
    x = activations(4, 5, 5, 6)
    y = norm(x, training=True)
    assert y.dtype == tf.bfloat16
    assert {variable.dtype for variable in norm.variables} == {"float32"}
    np.testing.assert_allclose(
        norm.moving_mean, 0.1 * tf.reduce_mean(x, [0, 1, 2]), rtol=1e-2, atol=1e-2
    )


def test_every_replica_updates_its_own_moving_statistics(strategies):
    strategy = strategies[2]
    with strategy.scope():
        norm = FusedBatchNorm()
        norm.build((None, 2, 2, 3))

    @tf.function
    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        norm(tf.fill([4, 2, 2, 3], 1.0 + tf.cast(replica, tf.float32)), training=True)
        return norm.moving_mean.value + 0.0

    means = strategy.experimental_local_results(strategy.run(step))
    for replica, mean in enumerate(means):
        np.testing.assert_allclose(mean, np.full(3, 0.1 * (1 + replica)), rtol=1e-6)


# --- Pixels


@pytest.mark.parametrize(
    ("mode", "formula"),
    [
        ("raw", lambda x: x),
        ("unit", lambda x: x / 127.5 - 1),
        ("imagenet", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("caffe", lambda x: x - [123.68, 116.779, 103.939]),
    ],
)
def test_pixels(mode, formula):
    image = pixels(4, 8, 8, 3)
    expected = formula(image.astype(np.float64))
    result = Pixels(mode)(image)
    assert result.dtype == tf.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    half = Pixels(mode, dtype="mixed_bfloat16")(image)
    assert half.dtype == tf.bfloat16
    np.testing.assert_array_equal(half, tf.cast(result, tf.bfloat16))  # rounded once
    np.testing.assert_array_equal(Pixels(mode)(result), result)  # floats pass


def test_pixels_refuses_what_it_would_get_wrong():
    with pytest.raises(ValueError, match="3 channels, not 1"):
        Pixels("imagenet")(pixels(4, 8, 8, 1))
    with pytest.raises(ValueError, match="uint8"):
        Pixels("unit")(pixels(4, 8, 8, 3).astype(np.int32))
    with pytest.raises(ValueError, match="raw, unit, imagenet, caffe"):
        Pixels("torch")


def test_applications_get_the_pixels_that_keras_preprocesses_them_with():
    image = pixels(2, 4, 4, 3)
    functions = {
        name: function
        for name, function in vars(keras.applications).items()
        if inspect.isfunction(function)
    }
    assert set(APPLICATIONS) == set(functions)
    for name, mode in APPLICATIONS.items():
        preprocess = sys.modules[functions[name].__module__].preprocess_input
        expected = preprocess(image.astype(np.float32))
        if mode == "caffe":
            expected = expected[..., ::-1]  # The order of the channels is free: see PIXEL_MODES.
        np.testing.assert_allclose(
            Pixels(mode)(image), expected, rtol=1e-5, atol=1e-5, err_msg=name
        )


# --- our networks


@pytest.mark.parametrize(
    ("model", "parameters"),
    # The counts of torchvision's tables.
    [("resnet18", 11_689_512), ("resnet50", 25_557_032)],
)
def test_resnets_have_the_published_size(model, parameters):
    network = imagenet_network(model)
    assert size_of(network.trainable_variables) == parameters
    # No bias in front of a BatchNorm: the classifier's is the only one.
    assert [v.path for v in network.variables if v.name == "bias"] == ["logits/bias"]


def test_residual_blocks_start_as_the_identity_or_not():
    def last_gammas(block, last, **settings):
        network = resnet((32, 32, 3), 10, name="tiny", block=block, depths=(1, 1), **settings)
        gammas = [v.numpy() for v in network.variables if v.path.endswith(f"{last}_norm/gamma")]
        assert len(gammas) == 2
        return set(np.concatenate(gammas).tolist())

    assert last_gammas(basic, 2) == last_gammas(bottleneck, 3) == {0.0}
    assert last_gammas(bottleneck, 3, zero_last_gamma=False) == {1.0}


@pytest.mark.parametrize("size", [8, 28, 45])
def test_cnn_takes_any_size_from_8(size):
    assert cnn((size, size, 3), 10)(pixels(2, size, size, 3)).shape == (2, 10)


@pytest.mark.parametrize("model", ["cnn", "resnet18", "resnet50"])
def test_nothing_rearranges_the_batch_in_front_of_the_first_layer(model):
    network = imagenet_network(model)
    call = tf.function(lambda image: network(image, training=True))
    graph = call.get_concrete_function(tf.TensorSpec([4, 32, 32, 3], tf.uint8)).graph
    first = {"Conv2D", "MatMul"}
    in_front = ops_after(graph.inputs[0], stop=first)
    assert {op.type for op in in_front} == {"Cast", "Sub", "RealDiv", "Conv2D"}
    # Nor behind it: our own networks keep the batch as it is up to the logits.
    everywhere = {op.type for op in ops_after(graph.inputs[0], stop=set())}
    assert everywhere >= {"FusedBatchNormV3", "Mean"}
    assert not everywhere & FORBIDDEN


def ops_after(tensor, stop):
    """The ops that the tensor's values reach, through no op whose type is in `stop`."""
    tensors, ops = [tensor], set()
    while tensors:
        new = set(tensors.pop().consumers()) - ops
        ops |= new
        tensors += [output for op in new if op.type not in stop for output in op.outputs]
    return ops


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_bfloat16_has_float32_weights_and_logits(model):
    half, full = (made(model, precision=precision) for precision in ("bfloat16", "float32"))
    assert bits(half) == bits(full)
    convolutions = [layer for layer in half.layers if layer.name.endswith("_conv")]
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    assert {v.dtype for v in half.variables if "seed" not in v.name} == {"float32"}
    logits = half(pixels(4, 32, 32, 3))
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, full(pixels(4, 32, 32, 3)), atol=0.1)


def test_float_records_pass_unchanged():
    network = made("cnn")
    floats = made("cnn", input_dtype="float32")
    image = pixels(2, 32, 32, 3)
    expected = network(image)
    np.testing.assert_allclose(floats(image / np.float32(127.5) - 1), expected, atol=1e-5)


# --- build


def test_the_seed_decides_the_weights_whatever_was_built_before(strategies):
    first = made("cnn", dropout=0.1)
    made("cnn", dropout=0.1, seed=2)
    keras.layers.Dropout(0.5)  # moves Keras' counters of names
    with strategies[2].scope():
        mirrored = made("cnn", dropout=0.1)
    assert isinstance(mirrored.variables[0].value, tf.distribute.DistributedValues)
    # Paths and values alike, the dropout's seed state included.
    assert bits(first) == bits(mirrored)
    assert any(path.endswith("seed_generator_state") for path in bits(first))
    other = bits(made("cnn", seed=2))
    assert all(other[path] != value for path, value in bits(first).items() if "kernel" in path)


def test_build_leaves_the_policy_and_the_names_of_others_alone():
    before = keras.layers.Dense(1).name
    made("cnn", precision="bfloat16")
    with pytest.raises(ModelError):
        made("resnet34", precision="bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    assert keras.layers.Dense(1).name not in (before, "dense")


def test_keras_application():
    network = made("keras:MobileNetV2", precision="bfloat16")
    assert size_of(network.trainable_variables) == 2_236_682
    logits = network(pixels(4, 32, 32, 3))
    assert logits.shape == (4, 10)
    assert logits.dtype == tf.float32
    assert len({v.path for v in network.variables}) == len(network.variables)
    # The preprocessing is in front: floats of the same value give the same logits.
    floats = made("keras:MobileNetV2", precision="bfloat16", input_dtype="float32")
    image = pixels(4, 32, 32, 3) / np.float32(127.5) - 1
    np.testing.assert_allclose(floats(image), logits, atol=1e-3)
    assert bits(network) == bits(floats)


OWN = """
import keras
from keras import layers

def _sequential(*first, units, activation=None, batch=None, **declared):
    return keras.Sequential([
        *([keras.Input(batch_size=batch, **declared)] if declared else []),
        *first, layers.GlobalAveragePooling2D(), layers.Dense(units, activation),
    ])

def floats(input_shape, num_classes):
    return _sequential(layers.Conv2D(4, 3), units=num_classes, shape=input_shape)

def undeclared(input_shape, num_classes):
    return _sequential(layers.Conv2D(4, 3), units=num_classes)

def bytes_(input_shape, num_classes):
    return _sequential(
        layers.Rescaling(1 / 127.5, -1), layers.Conv2D(4, 3),
        units=num_classes, shape=input_shape, dtype="uint8",
    )

class Subclass(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.conv, self.pool = layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()
        self.head = layers.Dense(units)

    def call(self, image):
        return self.head(self.pool(self.conv(image)))

def subclass(input_shape, num_classes):
    return Subclass(num_classes)

def nothing(input_shape, num_classes):
    pass

def softmax(input_shape, num_classes):
    return _sequential(units=num_classes, activation="softmax", shape=input_shape)

def seven_classes(input_shape, num_classes):
    return _sequential(units=7, shape=input_shape)

def batch_of_8(input_shape, num_classes):
    return _sequential(units=num_classes, shape=input_shape, batch=8)

def eight_pixels(input_shape, num_classes):
    return _sequential(units=num_classes, shape=(8, 8, 3))

def positional(shape, classes):
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Makes OWN importable as own_package.networks, and own_broken, whose import fails."""
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "networks.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("import a_module_that_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_package.networks"
    for name in ("own_package", "own_package.networks", "own_broken"):
        sys.modules.pop(name, None)


def test_own_model_gets_the_pixels_it_declares(own):
    image = pixels(2, 16, 16, 3)
    networks = {
        name: made(f"{own}:{name}", size=16)
        for name in ("floats", "undeclared", "bytes_", "subclass")
    }
    expected = networks["floats"](image)
    assert expected.shape == (2, 10)
    for name, network in networks.items():
        assert network.input.dtype == "uint8"
        # The same seed and the same pixels in [-1, 1], so the same logits.
        np.testing.assert_allclose(network(image), expected, atol=1e-5, err_msg=name)
    again = made(f"{own}:undeclared", size=16)  # names made by Keras, not by us
    assert bits(again) == bits(networks["undeclared"])
    assert made(f"{own}:floats", size=16, precision="bfloat16")(image).dtype == tf.float32


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("own_package.networks:nothing", ["keras.Model, not builtins.NoneType"]),
        ("own_package.networks:softmax", ["softmax", "logits"]),
        ("own_package.networks:seven_classes", ["(None, 10), not (None, 7)"]),
        ("own_package.networks:batch_of_8", ["batch at 8", "Leave batch_size out"]),
        ("own_package.networks:eight_pixels", ["16x16x3", "(None, 8, 8, 3)"]),
        ("own_package.networks:positional", ["positional(input_shape=", "missing"]),
        ("own_package.networks:float", ["networks.py", "'float'", "Did you mean floats"]),
        ("own_package.missing:floats", ["own_package.missing", "PYTHONPATH"]),
        ("own_broken:floats", ["a_module_that_is_not_installed"]),
        ("keras:mobilenetv2", ["'mobilenetv2'", "Did you mean MobileNetV2", "VGG19"]),
        ("keras:InceptionV3", ["16x16x3", "at least 75x75", "--image_size"]),
        ("resent18", ["Did you mean resnet18"]),
        ("resnet34", ["'resnet34'", "cnn, resnet18, resnet50", "package.module:function"]),
    ],
)
def test_what_cannot_be_built_says_why(own, model, words):
    with pytest.raises(ModelError) as error:
        made(model, size=16)
    for word in words:
        assert word in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)


def test_own_model_is_found_where_the_user_stands(tmp_path, monkeypatch):
    (tmp_path / "standing_here.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert made("standing_here:floats", size=16).output.shape == (None, 10)


def test_settings_that_do_not_fit_the_model_are_errors(own):
    with pytest.raises(ModelError, match="float input"):
        made(f"{own}:bytes_", input_dtype="float32")
    with pytest.raises(ModelError, match="int16"):
        made("cnn", input_dtype="int16")
    with pytest.raises(ModelError, match=r"4x4x3.*zero or negative"):
        made("cnn", size=4)
