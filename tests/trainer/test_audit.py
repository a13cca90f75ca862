"""Contract 1: the audit passes what keeps the batch, and names what does not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from input import order, synthetic
from input.config import ResolvedInput
from models.build import build_model
from models.config import ModelConfig
from models.layers import Pixels
from tests.conftest import CLASSES, error
from tests.trainer.steps import Training, plain
from trainer import audit, evaluate, iterators, optimizers, step, tracing
from trainer.audit import AuditError
from trainer.micro_batch import MicroBatch

L = keras.layers
M, SIZE = 4, 16  # images of a micro-batch, pixels of a side


def audited(strategy, build, size=SIZE):
    """The audit of a model's traced step over synthetic input."""
    settings = ResolvedInput(global_batch_size=4 * M, micro_batch_size=M, image_size=size)
    plan = order.plan(settings, 1000, strategy.num_replicas_in_sync)
    with strategy.scope():
        model = build()
        optimizer = optimizers.build_optimizer(plain(optimizer="sgd"), model)
    micro_batch = MicroBatch(
        model,
        statistics=tracing.statistics(model, plan),
        images_per_step=plan.images_per_step,
        micro_batches=4,
        seed=0,
    )
    schedule = optimizers.build_schedule(plain(), 10, 1)
    train = step.build_train(strategy, micro_batch, optimizer, schedule)
    dataset = synthetic.train(plan, size, len(CLASSES))
    iterator = iterators.distributed(strategy, lambda: dataset)
    zero = tf.constant(0, tf.int64)
    return audit.audit(train.get_concrete_function(iterator, zero, zero), model)


def shipped(name, size=32):
    return lambda: build_model(
        ModelConfig(name, dropout=0.0 if ":" in name else 0.1),
        input_shape=(size, size, 3),
        num_classes=len(CLASSES),
    )


def user_model(*first, flat=True):
    """What a user's function returns, behind its pixels: layers, and a classifier at the end."""

    def build():
        image = keras.Input((SIZE, SIZE, 3), dtype="uint8")
        x = Pixels("unit")(image)
        for layer in first:
            x = layer()(x)
        x = L.Flatten()(x) if flat else x
        return keras.Model(image, L.Dense(len(CLASSES), name="last")(x), name="net")

    return build


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("cnn", "block1_conv"),
        ("resnet18", "stem_conv"),
        ("keras:MobileNetV2", "Conv1"),
        ("keras:EfficientNetB0", "stem_conv"),
        ("keras:ConvNeXtTiny", "convnext_tiny_stem_conv"),
    ],
)
def test_shipped_models_pass(strategies, name, first):
    found = audited(strategies[1], shipped(name), size=32)
    assert found.layers == (first,)
    assert found.draws == 1


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_every_replica_is_walked(strategies, replicas):
    found = audited(strategies[replicas], shipped("cnn"), size=32)
    assert (found.draws, found.operations) == (replicas, 5 * replicas)


def conv(name="first"):
    return lambda: L.Conv2D(4, 3, name=name)


def sequence(*layers):
    return user_model(lambda: L.Reshape((SIZE, SIZE * 3)), *layers, flat=False)


NAMED = {
    "flatten, dense": (user_model(), "last"),
    "reshape, LSTM": (sequence(lambda: L.LSTM(4)), "lstm_cell"),
    "dense on pixels": (user_model(lambda: L.Dense(4, name="first")), "first"),
    "center crop": (user_model(lambda: L.CenterCrop(8, 8), conv()), "first"),
    "permute": (user_model(lambda: L.Permute((2, 1, 3)), conv()), "first"),
    "BGR": (user_model(lambda: L.Lambda(lambda x: x[..., ::-1]), conv()), "first"),
    "preprocess_input": (
        user_model(lambda: L.Lambda(keras.applications.resnet.preprocess_input), conv()),
        "first",
    ),
    "transposed convolution": (user_model(lambda: L.Conv2DTranspose(4, 3, name="first")), "first"),
}


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", NAMED)
def test_what_a_model_does_to_each_image_is_its_own_business(strategies, name, replicas):
    build, first = NAMED[name]
    found = audited(strategies[replicas], build)
    assert (found.draws, found.layers) == (replicas, (first,))


class Token(L.Layer):
    """A learned token in front of the patches, and where each of them is."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]))
        self.position = self.add_weight(shape=(1, shape[1] + 1, shape[-1]))

    def call(self, x):
        token = keras.ops.broadcast_to(self.token, (keras.ops.shape(x)[0], 1, x.shape[-1]))
        return keras.ops.concatenate([token, x], axis=1) + self.position


def vit(*patches):
    """A small vision transformer over these patches."""

    def build():
        image = keras.Input((SIZE, SIZE, 3), dtype="uint8")
        x = Pixels("unit")(image)
        for layer in patches:
            x = layer()(x)
        x = Token()(L.Reshape((4, -1))(x))
        x = L.Add()([x, L.MultiHeadAttention(2, 4)(x, x)])
        return keras.Model(
            image, L.Dense(len(CLASSES), name="last")(L.LayerNormalization()(x)[:, 0])
        )

    return build


OTHERS = {
    "LSTM from both sides": (sequence(lambda: L.Bidirectional(L.LSTM(4))), "lstm_cell"),
    "GRU, unrolled": (
        user_model(lambda: L.Reshape((4, -1)), lambda: L.GRU(4, unroll=True), flat=False),
        "gru_cell",
    ),
    "SimpleRNN": (sequence(lambda: L.SimpleRNN(4)), "simple_rnn_cell"),
    "Conv1D": (sequence(lambda: L.Conv1D(4, 3, name="first"), L.Flatten), "first"),
    "Conv1D with holes": (
        sequence(
            lambda: L.Conv1D(4, 3, dilation_rate=2, padding="causal", name="first"), L.Flatten
        ),
        "first",
    ),
    "Conv3D": (
        user_model(lambda: L.Reshape((4, 4, SIZE, 3)), lambda: L.Conv3D(4, 3, name="first")),
        "first",
    ),
    "separable": (user_model(lambda: L.SeparableConv2D(4, 3, name="first")), "first"),
    "depthwise": (user_model(lambda: L.DepthwiseConv2D(3, name="first")), "first"),
    "groups": (user_model(lambda: L.Conv2D(6, 3, groups=3, name="first")), "first"),
    "holes": (user_model(lambda: L.Conv2D(4, 3, dilation_rate=2, name="first")), "first"),
    "EinsumDense": (
        user_model(lambda: L.EinsumDense("abcd,de->abce", (SIZE, SIZE, 4), name="first")),
        "first",
    ),
    "normalised": (
        user_model(L.BatchNormalization, L.LayerNormalization, L.UnitNormalization, conv()),
        "first",
    ),
    "groups normalised": (user_model(lambda: L.GroupNormalization(3), conv()), "first"),
    "noise": (
        user_model(lambda: L.GaussianNoise(0.1), lambda: L.SpatialDropout2D(0.1), conv()),
        "first",
    ),
    "padded and pooled": (
        user_model(
            L.ZeroPadding2D, L.UpSampling2D, L.MaxPooling2D, lambda: L.AveragePooling2D(2), conv()
        ),
        "first",
    ),
    "mean of the pixels": (user_model(L.GlobalAveragePooling2D), "last"),
    "vit, patches of a convolution": (vit(lambda: L.Conv2D(8, 8, 8, name="first")), "first"),
    "vit, patches of reshapes": (
        vit(
            lambda: L.Reshape((2, 8, 2, 8, 3)),
            lambda: L.Permute((1, 3, 2, 4, 5)),
            lambda: L.Reshape((4, 192)),
            lambda: L.Dense(8, name="first"),
        ),
        "first",
    ),
}


def test_layers_are_told_from_their_scopes_numbers(strategies):
    """Keras enters a layer's scope twice: where it no longer does, "dense" is called dense_1."""
    names = ("dense", "dense_1")
    build = user_model(*(lambda name=name: L.Dense(4, name=name) for name in names))
    assert audited(strategies[2], build).layers == ("dense",)


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_pass(strategies, name):
    build, first = OTHERS[name]
    assert audited(strategies[2], build).layers == (first,)


def test_every_layer_that_images_reach_is_named(strategies):
    found = audited(strategies[1], vit())  # raw pixels, by way of the attention and around it
    assert found.layers == ("key", "last", "query", "value")
    masked = sequence(L.Masking, lambda: L.SimpleRNN(4))  # the mask decides on outputs, too
    assert audited(strategies[1], masked).layers == ("last", "simple_rnn_cell")


PREPROCESSING = (
    lambda: L.RandomFlip(),
    lambda: L.RandomRotation(0.1),
    lambda: L.RandomZoom(0.2),
    lambda: L.RandomTranslation(0.2, 0.2),
    lambda: L.RandomContrast(0.2),
    lambda: L.RandomBrightness(0.2, value_range=(-1, 1)),
    lambda: L.RandomCrop(14, 14),
    lambda: L.Resizing(12, 13, pad_to_aspect_ratio=True),
    lambda: L.CenterCrop(12, 10),
    lambda: L.Rescaling(0.5),
    lambda: L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1, 2, 3]),
)


def test_keras_preprocessing_gives_the_same_bits_on_any_number_of_replicas(strategies, reader):
    """Its random states are set before each micro-batch, as those of dropout are."""
    inputs = ResolvedInput(global_batch_size=16, micro_batch_size=M, image_size=SIZE)
    states = []
    for replicas in (1, 2):
        keras.utils.set_random_seed(1)
        optimizer = plain(optimizer="sgd", learning_rate=0.01)
        build = user_model(*PREPROCESSING, conv())
        training = Training(strategies[replicas], reader, build, optimizer, inputs)
        history = training.run(0, 4)
        assert history.applied.all()
        zero = tf.constant(0, tf.int64)
        trace = training.train.get_concrete_function(training.iterator, zero, zero)
        assert audit.audit(trace, training.model).layers == ("first",)
        states.append([*training.state().values(), history.loss])
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.CutMix(name="planted"),
        lambda: L.RandAugment(value_range=(-1, 1), name="planted"),
        lambda: L.RandomElasticTransform(value_range=(-1, 1), name="planted"),
    ],
)
def test_preprocessing_that_does_not_keep_the_batch_names_the_pipelines_own(strategies, layer):
    message = error(audited, strategies[1], user_model(layer, conv()))
    assert " in layer planted " in message
    assert "--augment, --mixup, --cutmix" in message


def test_keras_mixup_is_refused_because_it_draws_in_inference(strategies):
    build = user_model(lambda: L.MixUp(name="planted"), conv())
    assert "Layer planted of the model assigns seed_generator" in error(
        audited, strategies[1], build
    )


INSIDE = {
    "Reshape": lambda x: tf.reshape(tf.reshape(x, [2, -1]), x.shape),
    "StridedSlice": lambda x: tf.concat([x[2:], x[2:]], 0),
    "Split": lambda x: tf.concat(tf.split(x, 2)[::-1], 0),
    "Transpose": lambda x: tf.image.resize(tf.transpose(x[:, :M], [1, 0, 2, 3]), [SIZE, SIZE]),
    "GatherV2": lambda x: tf.gather(x, [1, 0, 3, 2]),
    "Unpack": lambda x: tf.stack(tf.unstack(x)),
    "Tile": lambda x: tf.tile(x, [2, 1, 1, 1])[::2],
    "ConcatV2": lambda x: tf.concat([x, x], 0)[::2],
    "ReverseV2": lambda x: tf.reverse(x, [0]),
    "Roll": lambda x: tf.roll(x, 1, 0),
    "Cumsum": lambda x: tf.cumsum(x, 0),
}


def planted(call):
    layer = lambda: L.Lambda(call, lambda shape: shape, name="planted")  # noqa: E731
    return user_model(layer, conv())


@pytest.mark.parametrize("operation", INSIDE)
def test_what_touches_the_batch_in_a_model_is_named_once(strategies, operation):
    message = error(audited, strategies[4], planted(INSIDE[operation]))
    assert message.count(f"{operation} in layer planted ") == 1
    assert "\n" not in message


def test_in_a_function_or_a_branch_of_a_layer_it_is_named_too(strategies):
    @tf.function
    def reverse(x):
        return tf.reverse(x, [0])

    def branch(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.reverse(x, [0]), lambda: x)

    for call in (reverse, branch):
        message = error(audited, strategies[1], planted(call))
        assert "ReverseV2 in layer planted reverses it" in message


def test_in_a_loop_it_is_named_too(strategies):
    def loop(x):
        return tf.while_loop(
            lambda i, x: i < 2, lambda i, x: (i + 1, tf.reverse(x, [0])), [tf.constant(0), x]
        )[1]

    assert "ReverseV2 in layer planted " in error(audited, strategies[1], planted(loop))


def test_a_product_with_constants_is_no_layer(strategies):
    gray = lambda x: tf.tensordot(x, tf.fill([3, 3], 0.3), 1)  # noqa: E731
    assert audited(strategies[2], planted(gray)).layers == ("first",)
    message = error(audited, strategies[2], planted(lambda x: tf.reverse(gray(x), [0])))
    assert "ReverseV2 in layer planted reverses it" in message


def test_rows_of_images_are_for_dense_layers_only(strategies):
    def patches(x):
        return tf.nn.relu(tf.reshape(x, [4 * M, SIZE // 2, SIZE // 2, 3]))

    build = planted(lambda x: tf.reshape(tf.nn.softmax(patches(x)), x.shape))
    message = error(audited, strategies[2], build)
    assert "Reshape in layer planted makes 4 rows of an image." in message


def test_an_order_that_is_known_only_when_it_runs_is_refused(strategies):
    class Planted(L.Layer):
        def build(self, shape):
            self.order = self.add_weight(
                shape=(4,), dtype="int32", trainable=False, initializer="zeros"
            )

        def call(self, x):
            return tf.ensure_shape(tf.transpose(x, self.order), x.shape)

        def compute_output_shape(self, shape):
            return shape

    build = user_model(lambda: Planted(name="planted"), conv())
    message = error(audited, strategies[2], build)
    assert (
        "Transpose in layer planted cannot be shown to leave it alone: its input 1 is known only "
        "when it runs" in message
    )


BATCH = (tf.zeros([M, SIZE, SIZE, 3], tf.uint8), tf.zeros([M], tf.int32), tf.ones([M]))


def walked(change=lambda *batch: batch):
    """The audit of a loop that changes a batch between the iterator and the model."""
    model = user_model(conv())()

    @tf.function
    def steps(iterator):
        total = 0.0
        for _ in tf.range(2):
            image, label, weight = change(*next(iterator))
            logits = audit.call(model, image, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
            total += tf.reduce_sum(losses * weight)
        return total

    iterator = iter(tf.data.Dataset.from_tensors(BATCH).repeat())
    return audit.audit(steps.get_concrete_function(iterator), model)


def test_copies_and_casts_may_stand_in_front_of_the_model():
    plain = walked()
    copied = walked(lambda x, y, w: (tf.identity(x), tf.cast(y, tf.int64), w))
    assert copied.layers == plain.layers == ("first",)
    assert copied.operations == plain.operations + 1  # of the image, not of the labels


IN_FRONT = {
    "Reshape": lambda x: tf.reshape(x, [M, SIZE, SIZE, 3]),
    "StridedSlice": lambda x: x[:, :, :, :],
    "Slice": lambda x: tf.slice(x, [0, 0, 0, 0], [M, SIZE, SIZE, 3]),
    "Split": lambda x: tf.split(x, 1)[0],
    "Transpose": lambda x: tf.transpose(x, [0, 2, 1, 3]),
    "ConcatV2": lambda x: tf.concat([x, tf.zeros([M, SIZE, SIZE, 0], x.dtype)], -1),
    "GatherV2": lambda x: tf.gather(x, [2, 1, 0], axis=-1),
    "Pack": lambda x: tf.unstack(tf.stack([x, x], 1), axis=1)[0],
    "Tile": lambda x: tf.tile(x, [1, 1, 1, 1]),
    "ReverseV2": lambda x: tf.reverse(x, [2]),
    "Mul": lambda x: x * 2,
}


@pytest.mark.parametrize("operation", IN_FRONT)
def test_in_front_of_the_model_an_image_is_not_touched_whatever_is_kept(operation):
    words = rf"{operation} '.*' reads its image in front of the model"
    with pytest.raises(AuditError, match=words):
        walked(lambda x, y, w: (IN_FRONT[operation](x), y, w))


def test_labels_and_weights_are_not_reshaped():
    with pytest.raises(AuditError, match=r"Reshape '.*' reads its label or weight"):
        walked(lambda x, y, w: (x, tf.reshape(tf.cast(y, tf.int64), [M]), w))
    with pytest.raises(AuditError, match=r"ReverseV2 '.*' reads its label or weight"):
        walked(lambda x, y, w: (x, y, tf.reverse(w, [0])))


def test_the_step_of_every_replica_is_named_once(strategies, monkeypatch):
    flipped = lambda model, image, training: audit_call(model, image[::-1], training)  # noqa: E731
    audit_call = audit.call
    monkeypatch.setattr(audit, "call", flipped)
    message = error(audited, strategies[4], shipped("cnn"), size=32)
    assert message.count("StridedSlice") == 1
    assert "reads its image in front of the model" in message


def test_a_step_without_a_model_is_no_pass():
    @tf.function
    def draws(iterator):
        return tf.reduce_sum(tf.shape(next(iterator)[0]))

    iterator = iter(tf.data.Dataset.from_tensors(BATCH).repeat())
    with pytest.raises(AuditError, match="1 draws from an iterator and 0 layers"):
        audit.audit(draws.get_concrete_function(iterator), user_model()())


@pytest.mark.parametrize("replicas", [1, 2])
def test_evaluation_passes_too(strategies, reader, replicas):
    inputs = ResolvedInput(global_batch_size=16, micro_batch_size=M, image_size=SIZE)
    strategy = strategies[replicas]
    with strategy.scope():
        model = shipped("cnn", SIZE)()
    plan = order.EvaluationPlan(M, replicas, reader.records)
    iterator = iterators.distributed(
        strategy, lambda: evaluate.pipeline.evaluate(inputs, reader, plan)
    )
    trace = step.build_evaluate(strategy, model).get_concrete_function(
        iterator, tf.constant(1, tf.int64)
    )
    found = audit.audit(trace, model)
    assert (found.draws, found.layers) == (replicas, ("block1_conv",))
