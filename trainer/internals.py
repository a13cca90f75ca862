"""What TensorFlow and Keras do not promise and training relies on.

Written for TensorFlow 2.21 and Keras 3.15. Each entry says what it uses and why, and fails with the
version's number when that is gone; tests/trainer/test_internals.py fails when its meaning changes.
"""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow.core.protobuf import (
    config_pb2,
    device_properties_pb2,
    meta_graph_pb2,
    rewriter_config_pb2,
)
from tensorflow.python.data.ops import dataset_ops, multi_device_iterator_ops
from tensorflow.python.distribute import collective_all_reduce_strategy, cross_device_utils
from tensorflow.python.eager import context
from tensorflow.python.framework import config as framework_config
from tensorflow.python.framework import kernels, op_def_registry
from tensorflow.python.grappler import cluster, tf_optimizer

from input import internals as input_internals

error_reason = input_internals.reason


def is_seed(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a keras.random.SeedGenerator, as Dropout has one.

    Keras gives it this name and no public mark. The step sets it before every use, so it is neither
    a moving statistic nor a part of a run's fingerprint.
    """
    return variable.name == "seed_generator_state"


def is_deterministic() -> bool:
    """Whether op determinism is on. It can be enabled publicly, and not asked for."""
    _require(framework_config, "is_op_determinism_enabled", f"TensorFlow {tf.__version__}", "2.21")
    return framework_config.is_op_determinism_enabled()


def use_reduced_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Switches off the optimizer's own all-reduce.

    Its gradients are reduced already, and it would sum the same numbers R times. Keras has no
    setting for that.
    """
    _require(optimizer, "_all_reduce_sum_gradients", f"Keras {keras.__version__}", "3.15")
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs


def called_graphs(operation: tf.Operation, attribute: str) -> list[Any]:
    """The graphs of the functions that an attribute of an operation names: f, body, branches.

    Their tensors have static shapes, which a GraphDef of the caller has not. TensorFlow keeps them
    in graph._functions.
    """
    _require(operation.graph, "_functions", f"TensorFlow {tf.__version__}", "2.21")
    named = operation.get_attr(attribute)
    functions = named if isinstance(named, list) else [named]
    return [operation.graph._functions[function.name].graph for function in functions]


def layer_names(model: keras.Model) -> set[str]:
    """The names of the model's layers at every depth; Model.layers has those of the first only."""
    _require(model, "_flatten_layers", f"Keras {keras.__version__}", "3.15")
    return {layer.name for layer in model._flatten_layers()}


def use_local_devices(names: list[str]) -> None:
    """Makes MultiWorkerMirroredStrategy take these devices of each worker: CPU:0, CPU:1, ..

    By itself it takes one CPU or all GPUs, whatever logical devices there are.
    """

    def local_devices(
        extended: object, resolver: object, worker_device: str
    ) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker_device}/device:{name}" for name in names), names[0].split(":")[0]

    extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
    _require(extended, "_initialize_local_devices", f"TensorFlow {tf.__version__}", "2.21")
    extended._initialize_local_devices = local_devices


def reduce_single_tensors_whole() -> None:
    """Makes an all-reduce of one tensor one collective, without concat before it and split after.

    TensorFlow packs the tensors of an all-reduce even if there is one, and cuts the sum with
    SplitV, which has no GPU kernel for int64: the sum would go to the host and back, 205 MB for
    ResNet-50.
    """
    launcher = cross_device_utils.CollectiveReplicaLauncher
    _require(launcher, "batch_all_reduce", f"TensorFlow {tf.__version__}", "2.21")
    packed = launcher.batch_all_reduce
    if hasattr(packed, "__wrapped__"):  # a second strategy in this process
        return

    @functools.wraps(packed)
    def batch_all_reduce(self: Any, packs: list[list[Any]], options: Any = None) -> list[Any]:
        if [len(pack) for pack in packs] != [1]:
            return packed(self, packs, options)
        return [self.all_reduce(packs[0][0], None, options)]

    launcher.batch_all_reduce = batch_all_reduce


@contextmanager
def changing_device_datasets(
    change: Callable[[tf.data.Dataset], tf.data.Dataset],
) -> Iterator[None]:
    """Distributed iterators that are made in the body read `change(dataset)` on each device.

    The dataset of a device is what a step reads: its buffer of one micro-batch, filled by a thread
    from the worker's dataset. tf.distribute has no other way to it.
    """
    owner, name = multi_device_iterator_ops, "_create_device_dataset"
    _require(owner, name, f"TensorFlow {tf.__version__}", "2.21")
    create = getattr(owner, name)
    setattr(owner, name, lambda *args: change(create(*args)))
    try:
        yield
    finally:
        setattr(owner, name, create)


def timed(batches: tf.data.Dataset, handle: tf.Tensor, tag: str) -> tf.data.Dataset:
    """The same dataset; the time of each next element goes to a StatsAggregatorHandle, in us.

    The operations are public; a class that makes a dataset of them is not.
    """
    base, name = dataset_ops, "UnaryUnchangedStructureDataset"
    _require(base, name, f"TensorFlow {tf.__version__}", "2.21")
    kind: Any = base.UnaryUnchangedStructureDataset
    structure = batches._flat_structure
    inner = tf.raw_ops.LatencyStatsDataset(
        input_dataset=batches._variant_tensor, tag=tag, **structure
    )
    outer = tf.raw_ops.SetStatsAggregatorDataset(
        input_dataset=inner, stats_aggregator=handle, tag="", counter_prefix="", **structure
    )
    return kind(batches, outer)


class GpuKernel(NamedTuple):
    """What TensorFlow would run a node with on a GPU: which of its tensors are in host memory."""

    inputs_on_host: list[bool]
    outputs_on_host: list[bool]


def gpu_kernel(node: Any) -> GpuKernel | None:
    """The kernel that a NodeDef has on GPUs, or None where there is none for its types.

    TensorFlow has no public list of kernels; its wheel registers all of them on any machine.
    """
    found = [kernel for kernel in _kernels(node.op) if _fits(kernel, node)]
    if not found:
        return None
    # DEFAULT is for devices that have no kernel of their own.
    kernel = min(found, key=lambda kernel: (kernel.device_type != "GPU", -kernel.priority))
    host, definition = set(kernel.host_memory_arg), op_def_registry.get(node.op)
    return GpuKernel(
        *(
            [arg.name in host for arg in arguments for _ in range(_length(arg, node))]
            for arguments in (definition.input_arg, definition.output_arg)
        )
    )


@functools.cache
def _kernels(op: str) -> list[Any]:
    every = kernels.get_registered_kernels_for_op(op).kernel
    return [kernel for kernel in every if kernel.device_type in ("GPU", "DEFAULT")]


def _fits(kernel: Any, node: Any) -> bool:
    """Whether a kernel takes the node's types, and has the label that the node asks for."""
    if kernel.label != node.attr["_kernel"].s.decode():
        return False
    for constraint in kernel.constraint:
        value = node.attr[constraint.name]
        types = value.list.type if value.WhichOneof("value") == "list" else [value.type]
        if not set(types) <= set(constraint.allowed_values.list.type):
            return False
    return True


def _length(arg: Any, node: Any) -> int:
    """The number of tensors of one of an operation's named arguments."""
    if arg.number_attr:
        return node.attr[arg.number_attr].i
    return len(node.attr[arg.type_list_attr].list.type) if arg.type_list_attr else 1


def optimised(
    graph: tf.compat.v1.GraphDef, fetches: Sequence[str], gpus: int
) -> tuple[tf.compat.v1.GraphDef, str]:
    """What Grappler makes of a graph for GPUs of compute capability 8.0, here or not.

    Functions and loops are inlined; what does not lead to a fetch or an effect is gone. The
    rewrites are those of this process. Also returns what an optimizer failed with, or "":
    TensorFlow logs that and goes on without this optimizer, and so does this.
    """
    devices = [_device("CPU", 0), *(_device("GPU", i) for i in range(gpus))]
    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=graph)
    meta_graph.collection_def["train_op"].node_list.value.extend(fetches)
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1  # small graphs too
    for name, on in tf.config.optimizer.get_experimental_options().items():
        if not name.startswith("disable_"):
            toggle = rewriter_config_pb2.RewriterConfig
            setattr(options, name, toggle.ON if on else toggle.OFF)
    machine, failure = cluster.Cluster(devices=devices), ""
    options.fail_on_optimizer_errors = True
    try:
        return tf_optimizer.OptimizeGraph(config, meta_graph, cluster=machine), failure
    except tf.errors.OpError as error:
        failure = error.message
    options.fail_on_optimizer_errors = False
    return tf_optimizer.OptimizeGraph(config, meta_graph, cluster=machine), failure


def _device(kind: str, index: int) -> device_properties_pb2.NamedDevice:
    name = f"/job:localhost/replica:0/task:0/device:{kind}:{index}"
    device = device_properties_pb2.NamedDevice(name=name)
    device.properties.type = kind
    device.properties.memory_size = 1 << 34
    if kind == "GPU":
        device.properties.environment["architecture"] = "8.0"
    return device


def put_shared_value(key: str, value: str) -> None:
    """Stores a text where all workers can read it: in the coordination service, once per key.

    Collectives cannot say this, for they need equal numbers of devices.
    """
    context.context().set_config_key_value(f"samestep/{key}", value)


def shared_value(key: str) -> str:
    """Reads a text that a worker stores; waits until it is there."""
    return context.context().get_config_key_value(f"samestep/{key}")


def is_port_taken(error: tf.errors.OpError) -> bool:
    """Whether a strategy could not be made because its gRPC server cannot listen."""
    return isinstance(error, tf.errors.UnknownError) and "gRPC server" in error.message


def lost_workers(error: tf.errors.OpError) -> list[int] | None:
    """The workers that an error says are gone; empty where it names none; None for other errors.

    The types alone do not tell: others of them name /job:localhost, or no device at all.
    """
    if not isinstance(error, _OF_LOST_WORKERS):
        return None
    tasks = set(re.findall(r"/job:worker(?:/replica:0)?/task:(\d+)", error.message))
    if not tasks and "Collective ops" not in error.message:
        return None
    return sorted(map(int, tasks))


_OF_LOST_WORKERS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,  # "Collective ops is aborted by: ..", seen while variables are made
)


def _require(owner: object, name: str, found: str, wanted: str) -> None:
    if not hasattr(owner, name):
        raise RuntimeError(
            f"{found} has no {owner}.{name}, which samestep was written for in {wanted}. Install "
            f"that version; constraints.txt lists all."
        )
