"""Contract 1: the audit passes what is shipped, and names what is planted."""

import keras
import pytest
import tensorflow as tf

from input import order, synthetic
from input.config import ResolvedInput
from models.build import build_model
from models.config import ModelConfig
from models.layers import Pixels
from tests.conftest import CLASSES
from trainer import assembly, optimizers, step
from trainer.audit import AuditError, audit
from trainer.config import OptimizerConfig
from trainer.micro_batch import MicroBatch


def trace(strategy, build, micro_batches=4, change=lambda *batch: batch):
    """The traced step of a model over synthetic input."""
    settings = ResolvedInput(global_batch_size=4 * micro_batches, micro_batch_size=4, image_size=32)
    plan = order.plan(settings, 1000, strategy.num_replicas_in_sync)
    with strategy.scope():
        model = build()
        optimizer = optimizers.build_optimizer(OptimizerConfig(), model)
    micro_batch = MicroBatch(
        Changed(model, change),
        statistics=assembly.statistics(model, plan),
        images_per_step=plan.images_per_step,
        micro_batches=micro_batches,
        seed=0,
    )
    schedule = optimizers.build_schedule(OptimizerConfig(), 10, 1)
    train = step.build_train(strategy, micro_batch, optimizer, schedule)
    dataset = synthetic.train(plan, 32, len(CLASSES))
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: dataset))
    zero = tf.constant(0, tf.int64)
    return train.get_concrete_function(iterator, zero, zero)


class Changed:
    """A model in a step that does something to the image first."""

    def __init__(self, model, change):
        self._model, self._change = model, change

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, image, training):
        return self._model(self._change(image)[0], training=training)


def shipped(name):
    return lambda: build_model(
        ModelConfig(name, dropout=0.1), input_shape=(32, 32, 3), num_classes=len(CLASSES)
    )


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("cnn", "block1_conv"),
        ("resnet18", "stem_conv"),
        ("resnet50", "stem_conv"),
        ("keras:MobileNetV2", "Conv1"),
    ],
)
def test_shipped_models_pass(strategies, name, first):
    found = audit(trace(strategies[1], shipped(name)))
    assert found.layers == (first,)
    assert found.draws == 1


@pytest.mark.parametrize("replicas", [2, 4])
def test_every_replica_is_walked(strategies, replicas):
    found = audit(trace(strategies[replicas], shipped("cnn")))
    assert found.draws == replicas
    assert found.operations >= replicas


PLANTED = {
    "Reshape": lambda x: tf.reshape(x, [2, 64, 32, 3]),
    "StridedSlice": lambda x: x[:2],
    "Slice": lambda x: tf.slice(x, [0, 0, 0, 0], [2, 32, 32, 3]),
    "Split": lambda x: tf.split(x, 2)[0],
    "Transpose": lambda x: tf.transpose(x, [0, 2, 1, 3]),
    "ConcatV2": lambda x: tf.concat([x, x], 0),
    "GatherV2": lambda x: tf.gather(x, [1, 0]),
    "Pack": lambda x: tf.stack([x, x])[0],
    "Tile": lambda x: tf.tile(x, [2, 1, 1, 1]),
    "ReverseV2": lambda x: tf.reverse(x, [3]),
}


class Planted(keras.layers.Layer):
    """One operation of PLANTED, somewhere in a model."""

    def __init__(self, operation):
        super().__init__(name="planted_layer")
        self._operation = operation

    def call(self, x):
        return PLANTED[self._operation](x)

    def compute_output_shape(self, shape):
        return shape


def planted_model(operation):
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = Planted(operation)(Pixels("unit")(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))
    return keras.Model(image, keras.layers.Dense(len(CLASSES))(x))


# Those that leave the batch's size alone can stand in a real step; the others are seen in `walked`.
@pytest.mark.parametrize("operation", ["Transpose", "ReverseV2"])
def test_a_planted_layer_is_named(strategies, operation):
    with pytest.raises(AuditError, match=rf"{operation} '.*planted_layer.*' reads its image"):
        audit(trace(strategies[2], lambda: planted_model(operation)))


@pytest.mark.parametrize("operation", PLANTED)
def test_every_planted_operation_is_named(operation):
    """The walk alone, over a loop that draws from an iterator, as the step does."""
    kernel = tf.zeros([3, 3, 3, 1])

    @tf.function
    def walked(iterator):
        total = 0.0
        for _ in tf.range(2):
            image, _, weight = next(iterator)
            x = PLANTED[operation](tf.cast(image, tf.float32) / 255.0)
            total += tf.reduce_sum(tf.nn.conv2d(x, kernel, 1, "SAME")) * tf.reduce_sum(weight)
        return total

    batch = (tf.zeros([4, 32, 32, 3], tf.uint8), tf.zeros([4], tf.int32), tf.ones([4]))
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
    with pytest.raises(AuditError, match=f"{operation} '"):
        audit(walked.get_concrete_function(iterator))


def test_a_step_that_reshapes_is_named(strategies):
    flipped = lambda image: (tf.reshape(tf.reshape(image, [-1]), image.shape),)  # noqa: E731
    with pytest.raises(AuditError, match=r"Reshape '.*' reads its image"):
        audit(trace(strategies[1], shipped("cnn"), change=flipped))


def test_a_reshaped_label_is_named():
    @tf.function
    def walked(iterator):
        image, label, weight = next(iterator)
        logits = tf.linalg.matmul(tf.cast(image, tf.float32), tf.zeros([8, 3]))
        label = tf.reshape(tf.cast(label, tf.int64), [4])
        return tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits) * weight

    batch = (tf.zeros([4, 8], tf.uint8), tf.zeros([4], tf.int32), tf.ones([4]))
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
    with pytest.raises(AuditError, match=r"Reshape '.*' reads its label or weight"):
        audit(walked.get_concrete_function(iterator))


def test_a_step_without_a_layer_is_no_pass():
    @tf.function
    def walked(iterator):
        return tf.reduce_sum(tf.cast(next(iterator)[0], tf.float32))

    batch = (tf.zeros([4, 8], tf.uint8), tf.zeros([4], tf.int32), tf.ones([4]))
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
    with pytest.raises(AuditError, match="1 draws from an iterator and 0 layers"):
        audit(walked.get_concrete_function(iterator))
