"""Where a traced step would run on GPUs, here or not: kernels, the host's part, transposes.

TensorFlow's wheel registers its GPU kernels on any machine, a strategy over GPUs traces without
one, and Grappler optimises the trace for GPUs that it is told of. What it leaves is what they would
run, in one graph with all loops and branches inlined. Only a GPU can show that the bits are right.
"""

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from trainer import internals
from trainer.axes import rules
from trainer.axes.place import FIRST, BatchError, Places, UnknownError, everywhere
from trainer.micro_batch import BACKWARD, FORWARD, HOST, MICRO_BATCH
from trainer.step import UPDATE

_CONTROL_FLOW = {"Enter", "Exit", "Merge", "NextIteration", "Switch", "LoopCond"}
# Operations that launch no kernel where their input is on the GPU.
_WITHOUT_LAUNCH = {
    *_CONTROL_FLOW,  # they hand tensors on
    *("Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims"),  # the same memory, renamed
    *("StopGradient", "PreventGradient"),  # as Identity
    *("Const", "NoOp", "Placeholder"),  # made once; nothing; given by the caller
    *("ReadVariableOp", "AssignVariableOp"),  # the variable and the tensor share memory
    "IteratorGetNext",  # a copy that the pipeline has begun ahead
}
# Outputs in host memory that cost nothing: no GPU waits for them and they are a few bytes.
_SMALL_ON_HOST = {
    *_CONTROL_FLOW,  # loop counters and conditions
    *("Shape", "ShapeN", "Size", "Rank"),  # known without the tensor's content
    "StatelessRandomGetKeyCounter",  # 24 bytes that its random kernel takes from the host
}
_SMALL = 64  # bytes: shapes of up to 16 dimensions, permutations, counters, comparisons of them
_OF_THE_HOST = (tf.int32, tf.bool)
_FIRST_LAYERS = rules.LAYERS | {"_FusedConv2D", "_FusedMatMul"}


class Kernels(NamedTuple):
    """Operations that launch a kernel, or several, on one GPU."""

    model: int  # per micro-batch, forward and backward
    ours: int  # per micro-batch: loss, packing, range check, conversion, adding up
    optimizer: int  # per step
    ours_per_step: int  # all-reduce, slices, norm, scaling


@dataclass(frozen=True)
class Placement:
    """What was found; texts name a node, its operation, its types and its bytes."""

    kernels: Kernels
    without_kernel: tuple[str, ...]  # would run on the host, through its memory
    on_host: tuple[str, ...]  # have a GPU kernel that leaves its output in host memory
    host_copies: tuple[str, ...]  # tensors that the host waits for, of all GPUs
    reductions: tuple[str, ...]  # dtypes of the collective all-reduces of one GPU
    layout_transposes: int  # NHWC to NCHW and back, by Grappler, on one GPU
    layout_failure: str  # why Grappler left the layout alone, or ""
    batch: tuple[str, ...]  # what moves images within their batch before the first layer


def examine(function: Any, gpus: int) -> Placement:
    """function: the concrete function of a step that was traced for so many GPUs."""
    traced = function.graph.as_graph_def(add_shapes=True)
    fetches = [tensor.name for tensor in function.graph.outputs]
    optimised, failure = internals.optimised(traced, fetches, gpus)
    graph = _Graph(optimised, traced)
    transposes = [op for op in graph.operations if _is_layout(op) and op.type == "Transpose"]
    return Placement(
        kernels=graph.kernels(gpus),
        without_kernel=tuple(graph.without_kernel()),
        on_host=tuple(graph.on_host()),
        host_copies=tuple(graph.host_copies()),
        reductions=tuple(
            op.get_attr("T").name
            for op in graph.operations
            if op.type in ("CollectiveReduceV2", "CollectiveReduce", "NcclAllReduce")
            and op.device.endswith("GPU:0")
        ),
        layout_transposes=len(transposes) // gpus,
        layout_failure=failure,
        batch=tuple(dict.fromkeys(graph.moving_the_batch())),
    )


class _Graph:
    """An optimised graph, and the GPU kernel of each of its nodes."""

    def __init__(self, definition: tf.compat.v1.GraphDef, traced: tf.compat.v1.GraphDef):
        for node in definition.node:
            node.attr.pop("_output_shapes", None)  # of before the transposes
        # What a loop or a variable holds has no shape any more once loops are inlined.
        self._traced_shapes = {
            node.name: node.attr["_output_shapes"].list.shape
            for nodes in (traced.node, *(each.node_def for each in traced.library.function))
            for node in nodes
        }
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(definition, name="")
        self.operations = graph.get_operations()
        # None: has no kernel, or is meant to run on the host.
        self._kernels = {
            op: None if _in(op, HOST) else internals.gpu_kernel(op.node_def)
            for op in self.operations
        }

    def kernels(self, gpus: int) -> Kernels:
        counts = Counter(_owner(op) for op in self.operations if self._launches(op))
        return Kernels(*(round(counts[owner] / gpus) for owner in Kernels._fields))

    def without_kernel(self) -> Iterator[str]:
        for op in self.operations:
            # On CPU:0 only because there is no GPU for its variable; "" is placed where it can run.
            wants_gpu = op.device and not _in(op, HOST) and op.type != "Placeholder"
            if wants_gpu and self._kernels[op] is None:
                yield self._text(op)

    def on_host(self) -> Iterator[str]:
        for op in self.operations:
            kernel = self._kernels[op]
            if kernel is None or op.type in _SMALL_ON_HOST or not op.device:
                continue
            for tensor, on_host in zip(op.outputs, kernel.outputs_on_host, strict=True):
                size = self._bytes(tensor)
                small = tensor.dtype in _OF_THE_HOST and size is not None and size <= _SMALL
                if on_host and not small and tensor.dtype not in (tf.resource, tf.variant):
                    yield self._text(op)

    def host_copies(self) -> Iterator[str]:
        """Each stops the host until the GPU has come that far."""
        for op in self.operations:
            kernel = self._kernels[op]
            if kernel is None or not self._launches(op):
                continue
            for tensor, on_host in zip(op.outputs, kernel.outputs_on_host, strict=True):
                users = tensor.consumers()
                if not on_host and any(self._reads_on_host(user, tensor) for user in users):
                    yield self._text(op)

    def moving_the_batch(self) -> Iterator[str]:
        """Operations on the way from an iterator to the first layers, and those of Grappler."""
        for op in self.operations:
            if _is_layout(op) and op.type == "Transpose" and _permutation(op)[0] != 0:
                yield self._text(op)
        draws = [op for op in self.operations if op.type == "IteratorGetNext"]
        waiting = deque(op.outputs[0] for op in draws)  # the images
        places = {tensor.name: FIRST for tensor in waiting}
        forward = self._of_the_layers()
        while waiting:
            for op in waiting.popleft().consumers():
                if op not in forward:
                    continue
                incoming = {
                    i: places[tensor.name]
                    for i, tensor in enumerate(op.inputs)
                    if tensor.name in places
                }
                try:
                    found = _follow(op, incoming)
                except UnknownError:
                    continue  # shapes are lost where loops are inlined; the audit has seen them
                except BatchError:
                    yield self._text(op)
                    continue
                for i, place in found.items():
                    if places.get(op.outputs[i].name) != place:
                        places[op.outputs[i].name] = place
                        waiting.append(op.outputs[i])

    def _of_the_layers(self) -> set[tf.Operation]:
        """Layers' products of the forward pass and what they are made of, not what it keeps."""
        waiting = [op for op in self.operations if op.type in _FIRST_LAYERS and _in(op, FORWARD)]
        waiting = [op for op in waiting if "gradient_tape/" not in op.name]
        found = set(waiting)
        while waiting:
            new = {tensor.op for tensor in waiting.pop().inputs} - found
            found |= new
            waiting += new
        return found

    def _launches(self, op: tf.Operation) -> bool:
        kernel = self._kernels[op]
        if kernel is None or op.type in _WITHOUT_LAUNCH:
            return False
        outputs = kernel.outputs_on_host
        return not (outputs and all(outputs))  # computed by the host

    def _reads_on_host(self, op: tf.Operation, tensor: tf.Tensor) -> bool:
        kernel = self._kernels[op]
        inputs = zip(op.inputs, kernel.inputs_on_host, strict=True) if kernel else ()
        return kernel is None or any(on_host for each, on_host in inputs if each is tensor)

    def _bytes(self, tensor: tf.Tensor) -> int | None:
        """None: not known before the step runs."""
        shape, index = tensor.shape, tensor.value_index
        if not shape.is_fully_defined():
            traced = self._traced_shapes.get(_short(tensor.op.name), [])[index : index + 1]
            shape = tf.TensorShape(traced[0]) if traced else shape
        count = shape.num_elements()
        return None if count is None else count * tensor.dtype.size

    def _text(self, op: tf.Operation) -> str:
        types = ", ".join(dict.fromkeys(tensor.dtype.name for tensor in op.outputs)) or "no output"
        sizes = [self._bytes(tensor) for tensor in op.outputs]
        known = sum(size for size in sizes if size is not None)
        size = f"{known:,} bytes" if None not in sizes else "bytes not known"
        return f"{_short(op.name)} ({op.type}, {types}, {size})"


def _owner(op: tf.Operation) -> str:
    """Whose a kernel is: a field of Kernels."""
    if _in(op, MICRO_BATCH):
        return "model" if _in(op, FORWARD) or _in(op, BACKWARD) else "ours"
    return "optimizer" if _in(op, UPDATE) else "ours_per_step"


def _in(op: tf.Operation, scope: str) -> bool:
    """Whether an operation, or what it is the gradient of, was made in a name scope."""
    return re.search(rf"(^|/){scope}(_\d+)?/", op.name) is not None


def _short(name: str) -> str:
    """Without what inlining has put in front: while/body/_1/while/while/body/_355/."""
    return re.sub(r"^.*/_\d+/", "", name)


def _is_layout(op: tf.Operation) -> bool:
    return op.name.endswith("LayoutOptimizer")


def _permutation(op: tf.Operation) -> Any:
    return tf.get_static_value(op.inputs[1])


def _follow(op: tf.Operation, incoming: Places) -> Places:
    """Where the batch is in the outputs; nowhere, after the first layer. Raises BatchError."""
    if op.type in _FIRST_LAYERS and len(incoming) == 1:  # two are of an attention
        rules.check_layer(op, incoming)
        return {}
    if op.type in _CONTROL_FLOW:
        return everywhere(op, incoming[0]) if 0 in incoming else {}
    return rules.follow(op, incoming)
