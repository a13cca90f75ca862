"""From a name to a model: its pixels, its dtypes, same seed same bits, and clear refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.errors import ModelError
from tests.conftest import error
from tests.models.conftest import bits, made, pixels, size_of

# Contract 1: none of these may touch the batch in front of the first convolution or dense layer.
FORBIDDEN = {
    *("Reshape", "Slice", "StridedSlice", "Split", "SplitV", "Concat", "ConcatV2", "Transpose"),
    *("Gather", "GatherV2", "GatherNd", "Pack", "Tile", "ReverseV2"),
}


def test_what_kerass_own_file_may_change_is_set():
    """~/.keras/keras.json sets these at import, and with them the bits."""
    config = keras.config
    before = config.floatx(), config.epsilon(), config.image_data_format()
    config.set_floatx("float64")
    config.set_epsilon(0.5)
    config.set_image_data_format("channels_first")
    try:
        made("cnn")
        assert (config.floatx(), config.epsilon(), config.image_data_format()) == before
    finally:
        config.set_floatx(before[0])
        config.set_epsilon(before[1])
        config.set_image_data_format(before[2])


# One of each kind; the others have more of the same blocks.
KINDS = ("cnn", "resnet18", "resnet50", "resnet50d", "resnet50v1", "convnext_tiny", "vit_ti16")


@pytest.mark.parametrize("model", KINDS)
def test_nothing_rearranges_the_batch_in_front_of_the_first_layer(model):
    network = made(model, num_classes=1000)
    if model.startswith("vit"):  # its layers see a sequence of patches
        network = keras.Model(network.input, network.get_layer("patches").output)
    call = tf.function(lambda image: network(image, training=True))
    graph = call.get_concrete_function(tf.TensorSpec([4, 32, 32, 3], tf.uint8)).graph
    first = {"Conv2D", "MatMul"}
    in_front = ops_after(graph.inputs[0], stop=first)
    even = {"Pad"} if model.endswith("v1") else set()  # rows and columns, not images
    assert {op.type for op in in_front} == {"Cast", "Sub", "RealDiv", "Conv2D"} | even
    # Nor behind it: our own networks keep the batch as it is up to the logits.
    everywhere = {op.type for op in ops_after(graph.inputs[0], stop=set())}
    assert model.startswith(("vit", "convnext")) or everywhere >= {"FusedBatchNormV3", "Mean"}
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
        made("resnet35", precision="bfloat16")
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
        # The same seed and the same pixels of 0..255, so the same logits.
        np.testing.assert_allclose(network(image), expected, rtol=1e-5, err_msg=name)
    again = made(f"{own}:undeclared", size=16)  # names made by Keras, not by us
    assert bits(again) == bits(networks["undeclared"])
    assert made(f"{own}:floats", size=16, precision="bfloat16")(image).dtype == tf.float32


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("own_package.networks:nothing", ["keras.Model, not builtins.NoneType"]),
        ("own_package.networks:seven_classes", ["(None, 10), not (None, 7)"]),
        ("own_package.networks:batch_of_8", ["batch at 8", "Leave batch_size out"]),
        (
            "own_package.networks:eight_pixels",
            ["declares images of 8x8x3, and gets 16x16x3", "keras.Input(input_shape)"],
        ),
        ("keras:mobilenetv2", ["'mobilenetv2'", "Did you mean MobileNetV2", "VGG19"]),
        ("keras:InceptionV3", ["16x16x3", "at least 75x75", "--image_size"]),
        ("resent18", ["Did you mean resnet18"]),
        ("resnet35", ["'resnet35'", "cnn, resnet18, resnet34", "package.module:function"]),
        ("net.py", ["There is no model 'net.py'", "path/to/file.py:function"]),
    ],
)
def test_what_cannot_be_built_says_why(own, model, words):
    said = error(made, model, size=16)
    for word in words:
        assert word in said
    assert not {"\n", "\x1b"} & set(said)


def test_settings_that_do_not_fit_the_model_are_errors(own):
    with pytest.raises(ModelError, match="float input"):
        made(f"{own}:bytes_", input_dtype="float32")
    with pytest.raises(ModelError, match="int16"):
        made("cnn", input_dtype="int16")
    with pytest.raises(ModelError, match=r"4x4x3.*zero or negative"):
        made("cnn", size=4)
