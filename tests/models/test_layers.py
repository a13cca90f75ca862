"""FusedBatchNorm is Keras' BatchNorm in one op; Pixels is the published preprocessing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers import FusedBatchNorm, Pixels, with_fused_norms
from tests.models.conftest import pixels


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


@pytest.mark.parametrize("shape", [(4, 5, 5, 6), (1, 1, 1, 6)])
def test_frozen_fused_batch_norm_is_keras_batch_normalization(shape):
    """Outputs and gradients; the statistics stay what they were."""
    x, norms = activations(*shape), both_norms()
    before = norms[0].moving_mean.numpy(), norms[0].moving_variance.numpy()
    for norm in norms:
        norm.trainable = False
    ours, theirs = (norm_results(norm, x, training=True) for norm in norms)
    for got, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)
    np.testing.assert_array_equal(ours[-2:], before)
    np.testing.assert_allclose(ours[0], norms[0](x, training=False), rtol=1e-5, atol=1e-5)


def operations_of_a_step(norm) -> set[str]:
    """Types of the operations of a forward and a backward pass in training."""

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(norm(x, training=True), tf.float32)
        return tape.gradient(y, [x, norm.gamma.value])

    trace = step.get_concrete_function(tf.TensorSpec([4, 5, 5, 6], tf.float32))
    return {operation.type for operation in trace.graph.get_operations()}


@pytest.mark.parametrize(
    "norm_type", [FusedBatchNorm, keras.layers.BatchNormalization], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_frozen_norm_has_no_fused_op_in_training(norm_type, policy):
    """Op determinism refuses its gradient in inference mode on GPUs."""
    norm = norm_type(dtype=policy)
    assert ("FusedBatchNormV3" in operations_of_a_step(norm)) == (norm_type is FusedBatchNorm)
    norm.trainable = False
    assert not {kind for kind in operations_of_a_step(norm) if "FusedBatchNorm" in kind}
    x = activations(4, 5, 5, 6)
    assert norm(x, training=True).dtype == tf.as_dtype(norm.compute_dtype)


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


@pytest.mark.parametrize(
    ("layer_type", "settings"),
    [
        (Pixels, {"mode": "caffe"}),
        (FusedBatchNorm, {"momentum": 0.8, "epsilon": 1e-3}),
    ],
)
def test_layers_survive_keras_serialization(layer_type, settings):
    layer = layer_type(**settings)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is layer_type
    assert {name: getattr(again, name) for name in settings} == settings


def test_the_first_gamma_survives_keras_serialization():
    norm = FusedBatchNorm.from_config(FusedBatchNorm(gamma_initializer="zeros").get_config())
    norm.build((None, 5, 5, 6))
    np.testing.assert_array_equal(norm.gamma, np.zeros(6))


@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50V2", "InceptionV3"])
def test_fused_norms_compute_what_keras_norms_do(name):
    """InceptionV3's have no scale."""
    keras.utils.set_random_seed(1)
    theirs = getattr(keras.applications, name)(
        weights=None, input_shape=(96, 96, 3), classes=5, classifier_activation=None
    )
    random = np.random.default_rng(0)
    for v in theirs.variables:
        if v.name in ("beta", "moving_mean"):
            v.assign(random.normal(size=v.shape) * 0.1)
        if v.name in ("gamma", "moving_variance"):
            v.assign(random.uniform(0.5, 1.5, v.shape))
    ours = with_fused_norms(theirs)
    kinds = [type(layer) for layer in ours.layers]
    assert keras.layers.BatchNormalization not in kinds and FusedBatchNorm in kinds
    assert [v.path for v in ours.variables] == [v.path for v in theirs.variables]
    image = random.normal(size=(4, 96, 96, 3)).astype(np.float32)
    wanted = theirs(image, training=False).numpy()
    tolerance = {"rtol": 1e-5, "atol": 1e-5 * np.abs(wanted).max()}
    np.testing.assert_allclose(ours(image, training=False).numpy(), wanted, **tolerance)
    # In training 50 norms by few numbers make a rounding large; the first sees none of that.
    theirs(image, training=True), ours(image, training=True)
    first = next(v.path for v in ours.variables if v.name == "moving_mean")
    means = [next(v for v in each.variables if v.path == first).numpy() for each in (ours, theirs)]
    np.testing.assert_allclose(*means, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{"axis": 1}, {"beta_regularizer": "l2"}, {"gamma_constraint": "non_neg"}, {"synchronized": 1}],
)
def test_a_norm_without_a_fused_twin_stays(settings):
    image = keras.Input((8, 8, 3))
    norm = keras.layers.BatchNormalization(**settings)
    model = keras.Model(image, norm(keras.layers.Conv2D(8, 3, padding="same")(image)))
    assert with_fused_norms(model).layers[-1] is norm


def test_a_frozen_norm_stays_frozen():
    image = keras.Input((8, 8, 3))
    norm = keras.layers.BatchNormalization(trainable=False)
    model = with_fused_norms(keras.Model(image, norm(image)))
    assert isinstance(model.layers[-1], FusedBatchNorm)
    assert not model.trainable_variables
