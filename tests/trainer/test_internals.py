"""TensorFlow's and Keras' private API: a test fails where its meaning is no longer what we use."""

import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute.cross_device_utils import CollectiveReplicaLauncher

from tests.conftest import ROOT
from tests.trainer.workers.runs import run_workers
from trainer import internals

# Every worker makes the strategy that training makes, over its two CPUs, and says what it sees.
WORKER = """
import os
import tensorflow as tf
from trainer import internals
from trainer.workers.discovery import discover

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
worker = discover(os.environ).index
"""

DEVICES = (
    WORKER
    + """
internals.use_local_devices(["CPU:0", "CPU:1"])
strategy = tf.distribute.MultiWorkerMirroredStrategy()
print(strategy.num_replicas_in_sync)
print(*(device.rpartition("/")[2] for device in strategy.extended.worker_devices))

internals.put_shared_value(f"word/{worker}", f"of worker {worker}")
print(internals.shared_value("word/0"), internals.shared_value("word/1"))
try:
    internals.put_shared_value(f"word/{worker}", "another")
except tf.errors.AlreadyExistsError:
    print("once per key")

@tf.function
def total():
    one = lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(1.0))
    return strategy.experimental_local_results(strategy.run(one))[0]

print(total().numpy(), flush=True)
if worker == 1:
    os._exit(9)  # as after a kill
try:
    while True:
        total()
except tf.errors.OpError as error:
    print("lost", internals.lost_workers(error), flush=True)
os._exit(0)  # TensorFlow would wait for the other
"""
)


@pytest.fixture(scope="module")
def workers() -> list[list[str]]:
    """What each of two workers has printed."""
    ended = run_workers(DEVICES, 2)
    assert [each.returncode for each in ended] == [0, 9], [each.stderr[-2000:] for each in ended]
    return [each.stdout.splitlines() for each in ended]


def test_a_workers_devices_are_those_that_are_named(workers):
    for shown in workers:
        assert shown[0] == "4"
        assert shown[1] == "device:CPU:0 device:CPU:1"
        assert shown[4] == "4.0"


def test_by_itself_a_worker_takes_one_cpu():
    """What use_local_devices is for: where this fails it is no longer needed."""
    program = WORKER + "print(tf.distribute.MultiWorkerMirroredStrategy().num_replicas_in_sync)"
    assert run_workers(program, 1)[0].stdout == "1\n"


def test_a_shared_value_reaches_every_worker_and_stays(workers):
    for shown in workers:
        assert shown[2:4] == ["of worker 0 of worker 1", "once per key"]


def test_the_error_about_a_killed_worker_names_it(workers):
    assert workers[0][5] == "lost [1]"


def test_a_port_that_is_taken_is_told_from_other_errors():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        program = f"""
import json, os
import tensorflow as tf
from trainer import internals

task = {{"type": "worker", "index": 0}}
workers = [{address!r}, "127.0.0.1:1"]
os.environ["TF_CONFIG"] = json.dumps({{"cluster": {{"worker": workers}}, "task": task}})
try:
    tf.distribute.MultiWorkerMirroredStrategy()
except tf.errors.OpError as error:
    print(internals.is_port_taken(error))
"""
        assert run_workers(program, 1)[0].stdout == "True\n"
    assert not internals.is_port_taken(tf.errors.UnknownError(None, None, "something else"))
    assert not internals.is_port_taken(tf.errors.InternalError(None, None, "gRPC server"))


WORKER_1 = "Additional GRPC error information from remote target /job:worker/replica:0/task:1"


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        # As TensorFlow 2.21 writes them.
        (tf.errors.UnavailableError(None, None, f"recvmsg:Connection reset. {WORKER_1}"), [1]),
        (tf.errors.AbortedError(None, None, "/job:worker/task:3 and /job:worker/task:0"), [0, 3]),
        (tf.errors.InternalError(None, None, "Collective ops is aborted by: Socket closed"), []),
        (tf.errors.DeadlineExceededError(None, None, "Collective ops is aborted by: x"), []),
        # Others of these types, and other types that name a worker.
        (tf.errors.InternalError(None, None, "at /job:localhost/replica:0/task:0"), None),
        (tf.errors.UnavailableError(None, None, "a bucket cannot be reached"), None),
        (tf.errors.InvalidArgumentError(None, None, f"decode. {WORKER_1}"), None),
    ],
)
def test_lost_workers(error, lost):
    assert internals.lost_workers(error) == lost


def test_only_the_states_of_seed_generators_are_seeds():
    image = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.GaussianNoise(0.1)(image))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Dense(3)(x))
    states = [
        layer.seed_generator.state for layer in model.layers if hasattr(layer, "seed_generator")
    ]
    assert len(states) == 2
    assert [v for v in model.variables if internals.is_seed(v)] == states
    assert len(model.non_trainable_variables) == 2 + 2  # and two moving statistics


def test_the_graphs_that_an_operation_calls_have_static_shapes():
    inner = tf.function(lambda x: tf.nn.relu(x), autograph=False)

    @tf.function
    def outer(x):
        x = tf.cond(x[0, 0] > 0, lambda: inner(x), lambda: tf.abs(x))
        return tf.while_loop(lambda x: x[0, 0] < 9, lambda x: (x + 1,), [x])

    def called(graph, kind, attribute):
        (operation,) = (op for op in graph.get_operations() if op.type.endswith(kind))
        (found,) = internals.called_graphs(operation, attribute)
        assert found.outputs[-1].shape == (4, 3)
        return found

    graph = outer.get_concrete_function(tf.TensorSpec([4, 3])).graph
    assert "AddV2" in {op.type for op in called(graph, "While", "body").get_operations()}
    assert "Abs" in {op.type for op in called(graph, "If", "else_branch").get_operations()}
    relu = called(called(graph, "If", "then_branch"), "PartitionedCall", "f")
    assert [op.type for op in relu.get_operations()] == ["Placeholder", "Relu", "Identity"]


def test_layers_at_every_depth_have_names():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="deep")], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(3, name="last")])
    assert internals.layer_names(model) >= {"inner", "deep", "last"}


@pytest.mark.parametrize(("ours", "expected"), [(False, -2.0), (True, -1.0)])
def test_an_optimizer_takes_gradients_as_reduced(strategies, ours, expected):
    """By itself it would add up what the replicas were given; we have added already."""
    strategy = strategies[2]
    with strategy.scope():
        variable = keras.Variable(np.zeros(3, np.float32))
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build([variable])
    if ours:
        internals.use_reduced_gradients(optimizer)

    @tf.function
    def step():
        strategy.run(lambda: optimizer.apply([tf.ones(3)], [variable]))

    step()
    for copy in strategy.experimental_local_results(variable.value):
        np.testing.assert_array_equal(copy, np.full(3, expected))


def test_an_api_that_is_gone_names_the_version():
    with pytest.raises(RuntimeError, match=rf"Keras {keras.__version__} has no .* in 3\.15"):
        internals.use_reduced_gradients(object())


def test_why_an_operation_failed_is_one_line_without_tensorflows_names(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "weights"
    with pytest.raises(tf.errors.OpError) as caught:
        tf.io.read_file(str(path))
    assert caught.value.message.endswith("[Op:ReadFile]")
    assert internals.error_reason(caught.value) == f"{path}; Not a directory"


class RecordingLauncher:
    """What batch_all_reduce needs of a CollectiveReplicaLauncher."""

    _device = "CPU:0"
    _options = tf.distribute.experimental.CommunicationOptions()

    def __init__(self):
        self.reduced = []

    def all_reduce(self, tensor, control_input=None, options=None):
        self.reduced.append((tensor.dtype.name, tensor.shape.as_list()))
        return tensor


def all_reduced(*packs) -> tuple[list, set[str]]:
    """What is reduced for packs of zeros, and the operations around it."""
    internals.reduce_single_tensors_whole()
    launcher = RecordingLauncher()

    @tf.function
    def reduce():
        tensors = [[tf.zeros(shape, tf.int64) for shape in pack] for pack in packs]
        return CollectiveReplicaLauncher.batch_all_reduce(launcher, tensors)

    graph = reduce.get_concrete_function().graph
    return launcher.reduced, {op.type for op in graph.get_operations()}


def test_one_tensor_is_reduced_as_it_is_and_several_are_packed():
    reduced, operations = all_reduced([[2, 3]])
    assert reduced == [("int64", [2, 3])]
    assert not operations & {"ConcatV2", "SplitV", "Reshape"}
    reduced, operations = all_reduced([[2, 3], [4]])
    assert reduced == [("int64", [10])]
    assert "SplitV" in operations


def split(dtype) -> internals.GpuKernel | None:
    with tf.Graph().as_default():
        parts = tf.split(tf.zeros([4], dtype), [1, 3])
        return internals.gpu_kernel(parts[0].op.node_def)


def test_kernels_of_gpus_are_known_without_one():
    """And which of their tensors are in host memory; there is none for SplitV of int64."""
    assert split(tf.int64) is None
    assert split(tf.float32) == internals.GpuKernel([False, True, True], [False, False])
    assert split(tf.int32) == internals.GpuKernel([True] * 3, [True] * 2)
    with tf.Graph().as_default():
        text = tf.strings.as_string(tf.zeros([2]))
    assert internals.gpu_kernel(text.op.node_def) is None


def test_a_kernel_with_a_label_is_for_nodes_that_ask_for_it():
    """As those that Grappler's layout optimizer makes."""
    with tf.Graph().as_default():
        axes = tf.raw_ops.DataFormatDimMap(x=tf.constant([1, 2]))
    definition = axes.op.node_def
    assert internals.gpu_kernel(definition).outputs_on_host == [False]
    definition.attr["_kernel"].s = b"host"
    assert internals.gpu_kernel(definition).outputs_on_host == [True]


def test_grappler_optimises_for_gpus_that_are_not_there():
    """Loops are inlined, what leads nowhere is gone, and convolutions get NCHW."""

    @tf.function
    def convolved(image, kernel):
        for _ in tf.range(3):
            with tf.device("GPU:1"):
                tf.sin(image)
                image = tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME"))
        return image

    specs = tf.TensorSpec([8, 32, 32, 4]), tf.TensorSpec([3, 3, 4, 4])
    graph = convolved.get_concrete_function(*specs).graph
    found, failure = internals.optimised(
        graph.as_graph_def(), [tensor.name for tensor in graph.outputs], gpus=2
    )
    assert failure == ""
    assert len(found.library.function) == 0
    operations = [each.op for each in found.node]
    assert "Sin" not in operations
    assert operations.count("Conv2D") == 1
    transposes = [each.name for each in found.node if each.op == "Transpose"]
    assert transposes
    assert all(name.endswith("LayoutOptimizer") for name in transposes)


def test_op_determinism_is_seen():
    program = (
        "import tensorflow as tf\n"
        "from trainer import internals\n"
        "before = internals.is_deterministic()\n"
        "tf.config.experimental.enable_op_determinism()\n"
        "print(before, internals.is_deterministic())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False True\n"
