"""The step traced for two GPUs on any machine: what would not run on them is found and named."""

import itertools
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from tensorflow.python.distribute.cross_device_utils import CollectiveReplicaLauncher

from models.layers import Pixels
from tests.conftest import CLASSES, THREADS, write_row
from tests.trainer.steps import INPUT, OPTIMIZERS, Training, build
from trainer import internals, placement, tracing
from trainer.placement import Placement
from trainer.step import Hashing
from trainer.workers.strategy import make_strategy

GPUS = 2
MODELS = ("cnn", "resnet18", "resnet50", "keras:MobileNetV2", "keras:EfficientNetB0")
PRECISIONS, REDUCTIONS = ("float32", "bfloat16"), ("exact", "fast")
DRAWS = (1, 2)  # micro-batches per GPU
MATRIX = list(itertools.product(MODELS, OPTIMIZERS, PRECISIONS, REDUCTIONS, DRAWS))
ALWAYS = {
    ("cnn", "sgd", "float32", "exact", 2),
    ("cnn", "adamw", "bfloat16", "fast", 1),
    ("resnet18", "sgd", "float32", "exact", 1),
}
# Per micro-batch, and for each of a model's moving statistics.
MOST_OF_OURS, MOST_PER_STATISTIC = 60, 3
COLUMNS = (
    *("model", "optimizer", "precision", "sums", "micro-batches a GPU", "statistics", "model's"),
    *("others", "optimizer's", "others a step", "waits of the host", "transposes", "seconds"),
)


@pytest.fixture(scope="module")
def gpus() -> tf.distribute.Strategy:
    """Over GPUs that need not be there: it traces, and keeps its variables on the CPU."""
    return make_strategy([f"GPU:{i}" for i in range(GPUS)], THREADS)


def training(strategy, reader, model, optimizer="sgd", draws=1, **settings) -> Training:
    keras.backend.clear_session()
    inputs = replace(INPUT, micro_batch_size=16 // draws)
    return Training(strategy, reader, model, OPTIMIZERS[optimizer], inputs, **settings)


def examine(training: Training) -> Placement:
    zero, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
    function = training.train.get_concrete_function(training.iterator, zero, one)
    return placement.examine(function, GPUS)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            marks=() if case in ALWAYS else pytest.mark.placement,
            id="-".join(map(str, case)),
        )
        for case in MATRIX
    ],
)
def test_everything_runs_on_gpus(gpus, reader, request, case):
    name, optimizer, precision, reduction, draws = case
    started = time.monotonic()
    step = training(
        *(gpus, reader, build(name, precision), optimizer, draws),
        reduction=reduction,
        hashing=Hashing(lambda step: step % 500 == 0),
    )
    found = examine(step)
    assert found.without_kernel == ()
    assert found.on_host == ()
    assert found.batch == ()
    assert found.reductions == ("int64" if reduction == "exact" else "float32",)
    statistics = len(tracing.statistics(step.model, step.plan))
    assert found.kernels.ours <= MOST_OF_OURS + MOST_PER_STATISTIC * statistics
    assert found.kernels.model > found.kernels.ours - statistics
    # Besides one per call for each of its arguments and one per step for its condition, the host
    # waits for the seeds of random layers only: TensorFlow takes them from host memory.
    ours = [text for text in found.host_copies if "/forward/" not in text]
    assert [text.partition(" (")[2] for text in ours] == [
        *["Cast, int32, 4 bytes)"] * 2,
        "LogicalAnd, bool, 1 bytes)",
    ]
    seeds = [v for v in step.model.non_trainable_variables if internals.is_seed(v)]
    assert len(found.host_copies) - len(ours) == GPUS * len(seeds)
    if page := request.config.getoption("--placement-table"):
        transposes = "none: fails" if found.layout_failure else found.layout_transposes
        seconds = round(time.monotonic() - started)
        row = [*case, statistics, *found.kernels, len(found.host_copies), transposes, seconds]
        heading = "The step on GPUs, as far as a trace shows"
        write_row(Path(page), heading, COLUMNS, list(map(str, row)), keys=len(case))


class Changing(keras.layers.Layer):
    """A layer that does something to its input."""

    def __init__(self, change):
        super().__init__(name="changing")
        self.change = change

    def call(self, x):
        return self.change(x)


def changing(change, activation=None):
    def build():
        image = keras.Input((32, 32, 3), dtype="uint8")
        x = Changing(change)(Pixels("unit")(image))
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(image, keras.layers.Dense(len(CLASSES), activation)(x))

    return build


def through_numpy(x):
    y = tf.stop_gradient(tf.numpy_function(lambda y: y, [x], tf.float32))
    return tf.ensure_shape(y, x.shape)


def through_strings(x):
    return tf.strings.to_number(tf.strings.as_string(tf.stop_gradient(x)))


def through_int64_splits(x):
    whole = tf.cast(tf.stop_gradient(x), tf.int64)
    return tf.cast(tf.concat(tf.split(whole, [1, 31], axis=1), axis=1), tf.float32)


def through_int32(x):
    return tf.cast(tf.cast(tf.stop_gradient(x), tf.int32) + 1, tf.float32)


def across_images(x):
    rows = tf.transpose(tf.reshape(x, [16, -1]))
    return tf.reshape(tf.transpose(tf.matmul(rows, tf.eye(16))), [-1, 32, 32, 3])


def times_its_nonzeros(x, change=tf.identity):
    count = change(tf.size(tf.where(x > 0)))  # int32, which TensorFlow adds on the host
    return x * tf.cast(count, tf.float32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (through_numpy, "forward/functional_1/changing_1/PyFunc (PyFunc, float32, "),
        (through_strings, "changing_1/AsString (AsString, string, "),
        (through_int64_splits, "changing_1/split (SplitV, int64, 393,216 bytes)"),
    ],
)
def test_what_has_no_gpu_kernel_is_named(gpus, reader, change, named):
    found = examine(training(gpus, reader, changing(change)))
    assert any(named in text for text in found.without_kernel), found.without_kernel


def test_a_result_in_host_memory_is_named(gpus, reader):
    """TensorFlow adds int32 on the host: the batch would go there and back."""
    found = examine(training(gpus, reader, changing(through_int32)))
    assert found.without_kernel == ()
    assert len(found.on_host) == GPUS
    assert "changing_1/add (AddV2, int32, 196,608 bytes)" in found.on_host[0]
    assert any("changing_1/Cast (Cast, int32, " in text for text in found.host_copies)


def test_each_kernel_is_counted_once_with_its_owner(gpus, reader):
    def kernels(optimizer="sgd", activation=None):
        return examine(training(gpus, reader, changing(tf.identity, activation), optimizer)).kernels

    plain, adamw = kernels(), kernels("adamw")
    assert kernels(activation="softsign") == plain._replace(model=plain.model + 2)  # + gradient
    assert adamw.model == plain.model + 1  # adds the gradients of its smoothed loss
    assert adamw.optimizer > plain.optimizer
    assert adamw.ours_per_step == plain.ours_per_step


def test_what_the_host_computes_is_no_kernel(gpus, reader):
    def kernels(change):
        return examine(training(gpus, reader, changing(change))).kernels

    one_more = partial(times_its_nonzeros, change=lambda count: count + 1)
    assert kernels(one_more) == kernels(times_its_nonzeros)


def test_a_transpose_of_grapplers_that_moves_the_batch_is_named(gpus, reader, monkeypatch):
    def turned(*arguments):
        graph, failure = optimised(*arguments)
        nodes = {node.name: node for node in graph.node}
        for name, node in nodes.items():
            if name.endswith("LayoutOptimizer") and node.op == "Transpose":
                permutation = nodes[node.input[1]].attr["value"].tensor
                permutation.CopyFrom(tf.make_tensor_proto([1, 3, 0, 2]))  # rows for images
        return graph, failure

    def convolved(x):  # 16 rows, for a micro-batch of 16
        return tf.nn.conv2d(x, tf.ones((3, 3, 3, 3)), 1, "SAME")

    function = changing(lambda x: convolved(x[:, ::2]))
    assert examine(training(gpus, reader, function)).batch == ()
    optimised = internals.optimised
    monkeypatch.setattr(internals, "optimised", turned)
    found = examine(training(gpus, reader, function))
    assert found.layout_transposes == 1
    assert sum("LayoutOptimizer (Transpose, " in text for text in found.batch) == GPUS


@pytest.mark.parametrize(
    "change",
    [
        lambda x: tf.reverse(x, [0]),
        lambda x: x[::-1],
        lambda x: tf.reshape(tf.reshape(x, [3, -1]), [-1, 32, 32, 3]),
        lambda x: tf.image.resize(tf.transpose(x[:, :16], [1, 0, 2, 3]), [32, 32]),
        lambda x: tf.concat([x[8:], x[:8]], axis=0),
        lambda x: tf.gather(x, tf.range(16), axis=0),
        across_images,
    ],
    ids=["reverse", "negative stride", "reshape", "transpose", "concat", "gather", "matmul"],
)
def test_what_moves_the_batch_before_the_first_layer_is_named(gpus, reader, change):
    found = examine(training(gpus, reader, changing(change)))
    assert any("/changing_1/" in text for text in found.batch), found.batch


@pytest.mark.parametrize(
    "change",
    [
        lambda x: tf.transpose(x[:, ::-1][..., ::-1], [0, 2, 1, 3]),
        lambda x: tf.reshape(tf.nn.relu(tf.reshape(x, [-1, 3])), [-1, 32, 32, 3]),
        lambda x: tf.transpose(tf.transpose(x, [3, 0, 1, 2]), [1, 2, 3, 0]),
    ],
    ids=["flipped and turned", "in rows and back", "last and back"],
)
def test_what_keeps_each_image_in_its_place_is_the_models_own(gpus, reader, change):
    assert examine(training(gpus, reader, changing(change))).batch == ()


def test_an_lstm_over_rows_of_pixels_is_the_models_own(gpus, reader):
    def build():
        image = keras.Input((32, 32, 3), dtype="uint8")
        x = keras.layers.Reshape((32, 96))(Pixels("unit")(image))
        return keras.Model(image, keras.layers.Dense(len(CLASSES))(keras.layers.LSTM(4)(x)))

    assert examine(training(gpus, reader, build)).batch == ()


def test_an_all_reduce_that_is_packed_is_found(gpus, reader, monkeypatch):
    """What internals.reduce_single_tensors_whole is for."""
    packed = CollectiveReplicaLauncher.batch_all_reduce.__wrapped__
    monkeypatch.setattr(CollectiveReplicaLauncher, "batch_all_reduce", packed)
    found = examine(training(gpus, reader, changing(tf.identity)))
    assert len(found.without_kernel) == GPUS
    assert "while/split (SplitV, int64, " in found.without_kernel[0]
