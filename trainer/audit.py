"""Contract 1 on a traced step: between pipeline and first layer nothing reshapes the batch.

The walk starts at the iterator's outputs in the graph of the step and follows the image through
everything that keeps a batch a batch, into functions, loops and branches, up to the model's first
convolutions or dense layers. Labels and weights are followed as far as copies and casts carry them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

from trainer.errors import TrainerError

RESHAPING = frozenset(
    "BatchToSpaceND Concat ConcatV2 ConcatOffset ExpandDims ExtractImagePatches Gather GatherNd "
    "GatherV2 Pack ParallelConcat Reshape ReverseV2 Slice SpaceToBatchND Split SplitV Squeeze "
    "StridedSlice Tile Transpose Unpack".split()
)
LAYERS = frozenset(
    "BatchMatMul BatchMatMulV2 BatchMatMulV3 Conv2D DepthwiseConv2dNative Einsum MatMul".split()
)
# From here on it is no batch any more: statistics over it, or its size.
SUMMARIES = frozenset("All Any ArgMax Max Mean Min Prod Rank Shape Size Sum ZerosLike".split())
COPIES = frozenset("Cast Identity IdentityN PreventGradient StopGradient".split())
DRAWS = frozenset("IteratorGetNext IteratorGetNextSync".split())
CALLS = {"PartitionedCall": "f", "StatefulPartitionedCall": "f"}
LOOPS = frozenset("While StatelessWhile".split())
BRANCHES = frozenset("If StatelessIf".split())

IMAGE, OTHER = "image", "label or weight"


@dataclass(frozen=True)
class Audit:
    """What the walk found."""

    draws: int  # places where a micro-batch leaves the iterator
    operations: int  # on the way from there
    layers: tuple[str, ...]  # where the image arrives


class AuditError(TrainerError):
    """The step or the model reshapes the batch."""


def audit(concrete_function: Any) -> Audit:
    """Walks a traced train or evaluate function. Raises AuditError naming the operations."""
    walk = _Walk(concrete_function.graph.as_graph_def().library.function)
    walk.function(concrete_function.function_def, {})
    if walk.faults:
        raise AuditError(
            "The batch must reach the model's first layer as the pipeline made it, but "
            f"{'; '.join(sorted(walk.faults))}. Take the operation out, or do its work in the "
            "input pipeline, before the batch is made."
        )
    if not walk.draws or not walk.layers:
        raise AuditError(
            f"The step has {len(walk.draws)} draws from an iterator and {len(walk.layers)} layers "
            "that its image reaches; there must be at least one of each."
        )
    return Audit(len(walk.draws), len(walk.visited), tuple(sorted(walk.layers)))


def _layer(name: str) -> str:
    """while/while/replica_1/cnn_1/block1_conv_1/convolution -> block1_conv, as the model says."""
    parts = name.split("/")
    layer = parts[-2] if len(parts) > 1 else name
    return re.sub(r"_\d+$", "", layer)


class _Walk:
    """Follows marks ("image", "label or weight") through function bodies."""

    def __init__(self, library: Iterable[FunctionDef]):
        self._library = {function.signature.name: function for function in library}
        self.faults: set[str] = set()
        self.draws: set[str] = set()
        self.layers: set[str] = set()
        self.visited: set[str] = set()

    def function(self, function: FunctionDef, arguments: dict[int, str]) -> dict[int, str]:
        """Marks of a function's arguments -> marks of its results, both by position."""
        inputs = function.signature.input_arg
        marks = {inputs[place].name: mark for place, mark in arguments.items()}
        # Nodes of a function stand in no particular order: repeat until nothing new is marked.
        known = -1
        while known != len(marks):
            known = len(marks)
            for node in function.node_def:
                marks |= self._node(node, self._incoming(node, marks))
        results = enumerate(function.signature.output_arg)
        names = ((place, function.ret[result.name]) for place, result in results)
        return {place: mark for place, name in names if (mark := self._mark(name, marks))}

    @staticmethod
    def _mark(name: str, marks: dict[str, str]) -> str | None:
        """A name is an argument, or node:output:index; a mark may lie on the node as a whole."""
        return marks.get(name) or marks.get(name.partition(":")[0])

    def _incoming(self, node: NodeDef, marks: dict[str, str]) -> dict[int, str]:
        data = [name for name in node.input if not name.startswith("^")]
        found = ((place, self._mark(name, marks)) for place, name in enumerate(data))
        return {place: mark for place, mark in found if mark}

    def _node(self, node: NodeDef, incoming: dict[int, str]) -> dict[str, str]:
        """New marks: on the node, or on single outputs of it."""
        if node.op in DRAWS:
            self.draws.add(node.name)
            components = len(node.attr["output_types"].list.type)
            kinds = [IMAGE] + [OTHER] * (components - 1)
            return {f"{node.name}:components:{i}": kind for i, kind in enumerate(kinds)}
        if node.op in CALLS:
            return self._results(node, self._call(node, "f", incoming))
        if node.op in LOOPS:
            return self._results(node, self._loop(node, incoming))
        if node.op in BRANCHES:
            inside = {place - 1: mark for place, mark in incoming.items() if place > 0}
            branches = [self._call(node, name, inside) for name in ("then_branch", "else_branch")]
            return self._results(node, branches[0] | branches[1])
        if not incoming:
            return {}
        mark = IMAGE if IMAGE in incoming.values() else OTHER
        if node.op in RESHAPING:
            self.visited.add(node.name)
            self.faults.add(f"{node.op} {node.name!r} reads its {mark}")
            return {}
        if "Backprop" in node.op or node.op.endswith(("Grad", "GradV2", "GradV3")):
            return {}
        if node.op in SUMMARIES or (mark == OTHER and node.op not in COPIES):
            return {}
        self.visited.add(node.name)
        if node.op in LAYERS:
            self.layers.add(_layer(node.name))
            return {}
        return {node.name: mark}

    def _call(self, node: NodeDef, attribute: str, incoming: dict[int, str]) -> dict[int, str]:
        return self.function(self._library[node.attr[attribute].func.name], incoming)

    def _loop(self, node: NodeDef, incoming: dict[int, str]) -> dict[int, str]:
        """A loop's results are the arguments of its next iteration."""
        arguments = dict(incoming)
        while True:
            results = self._call(node, "body", arguments)
            if results.items() <= arguments.items():
                return arguments
            arguments |= results

    @staticmethod
    def _results(node: NodeDef, results: dict[int, str]) -> dict[str, str]:
        return {f"{node.name}:output:{place}": mark for place, mark in results.items()}
