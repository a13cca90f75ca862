"""Contract 1 on a traced step: nothing touches the batch between iterator and model, or inside it.

The walk starts at the iterator's outputs in the graph of the step and follows the image into
functions, loops and branches. Up to the model it may be copied and cast. In the model, up to the
first weights that images are multiplied with, every operation must keep the batch where it is:
whole, in its order, on the first dimension (`axes.rules`). Labels and weights are followed as far
as copies and casts carry them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from trainer import internals
from trainer.axes import rules
from trainer.axes.place import FIRST, BatchError, MovedError, Place
from trainer.errors import TrainerError

COPIES = frozenset("Cast Identity IdentityN PreventGradient StopGradient".split())
RESHAPING = frozenset(
    "BatchToSpaceND Concat ConcatV2 ExpandDims ExtractImagePatches Gather GatherNd GatherV2 Pack "
    "ParallelConcat Reshape ReverseV2 Roll Slice SpaceToBatchND Split SplitV Squeeze StridedSlice "
    "Tile Transpose Unpack".split()
)
DRAWS = frozenset("IteratorGetNext IteratorGetNextSync".split())
CALLS = frozenset("PartitionedCall StatefulPartitionedCall".split())
LOOPS = frozenset("While StatelessWhile".split())
BRANCHES = frozenset("Case If StatelessCase StatelessIf".split())

# The step calls its model between two operations of these names.
ENTRY, EXIT = "samestep_images", "samestep_logits"


@dataclass(frozen=True)
class Audit:
    """What the walk found."""

    draws: int  # places where a micro-batch leaves the iterator: one for each local replica
    operations: int  # on the way from there
    layers: tuple[str, ...]  # where the image arrives


class AuditError(TrainerError):
    """The step or the model touches the batch."""


@dataclass(frozen=True)
class Drawn:
    """A part of a micro-batch on its way to the model or the loss."""

    name: str


@dataclass(frozen=True)
class Inside:
    """The batch in the model."""

    place: Place = FIRST
    moved: str = ""  # by which operation, where the place is not the first dimension


@dataclass(frozen=True)
class Weights:
    """Something made of the model's variables, and not of the batch."""


Mark = Drawn | Inside | Weights
Callers = tuple[tf.Operation, ...]  # of a function, from the outermost
Marks = dict[str, Mark]  # by the name of a tensor
IMAGE, OTHER = Drawn("image"), Drawn("label or weight")


def call(model: Callable[..., tf.Tensor], image: tf.Tensor, training: bool) -> tf.Tensor:
    """model(image), so that the audit sees where the model begins and ends."""
    logits = model(tf.identity(image, name=ENTRY), training=training)
    return tf.identity(logits, name=EXIT)


def audit(concrete_function: Any, model: keras.Model) -> Audit:
    """Walks a traced train or evaluate function. Raises AuditError naming operations and layers."""
    walk = _Walk(internals.layer_names(model), model.name)
    walk.graph(concrete_function.graph, {})
    if walk.faults:
        raise AuditError(
            "The batch must reach the model untouched, and keep its first dimension there up to "
            f"the first weights, but {'; '.join(sorted(walk.faults))}. Leave the first dimension "
            "alone, or let the input pipeline do it (--augment, --mixup, --cutmix)."
        )
    if not walk.draws or not walk.layers:
        raise AuditError(
            f"The step has {len(walk.draws)} draws from an iterator and {len(walk.layers)} layers "
            "that its image reaches; there must be at least one of each."
        )
    return Audit(len(walk.draws), len(walk.visited), tuple(sorted(walk.layers)))


def _is(operation: tf.Operation, name: str) -> bool:
    """Names are made unique by a number at the end."""
    last = operation.name.rpartition("/")[2]
    return operation.type == "Identity" and re.sub(r"_\d+$", "", last) == name


def _path(operation: tf.Operation, callers: Callers) -> str:
    """Its name alone is not unique: functions have names of their own."""
    return "/".join(each.name for each in (*callers, operation))


class _Walk:
    """Follows marks through the graphs of functions."""

    def __init__(self, layer_names: Iterable[str], model_name: str):
        self._layer_names = set(layer_names) - {model_name}
        self._model_name = model_name
        self.faults: set[str] = set()
        self.draws: set[str] = set()
        self.layers: set[str] = set()
        self.visited: set[str] = set()

    def graph(
        self,
        graph: Any,
        arguments: dict[int, Mark],
        callers: Callers = (),
        wanted: Iterable[int] | None = None,
    ) -> dict[int, Mark]:
        """Marks of a function's arguments -> marks of its results, both by position.

        wanted: the results that the logits are made of; None outside of the model.
        """
        marks: Marks = {graph.inputs[place].name: mark for place, mark in arguments.items()}
        # What the gradient and moving statistics do with a batch is not on the way to the logits.
        if wanted is None:
            ends = [op.outputs[0] for op in graph.get_operations() if _is(op, EXIT)]
        else:
            ends = [graph.outputs[place] for place in wanted]
        needed = _needed(ends)
        before: Marks | None = None
        while before != marks:  # an operation may stand in front of what it reads
            before = dict(marks)
            for operation in graph.get_operations():
                found = self._operation(operation, marks, callers, needed)
                marks |= {operation.outputs[i].name: mark for i, mark in found.items()}
        names = enumerate(tensor.name for tensor in graph.outputs)
        return {place: marks[name] for place, name in names if name in marks}

    def _operation(
        self, operation: tf.Operation, marks: Marks, callers: Callers, needed: set[str]
    ) -> dict[int, Mark]:
        """Marks of what comes out, by position."""
        kind, names = operation.type, enumerate(tensor.name for tensor in operation.inputs)
        incoming = {place: marks[name] for place, name in names if name in marks}
        results = range(len(operation.outputs))
        forward = [i for i in results if operation.outputs[i].name in needed]
        if kind in DRAWS:
            self.draws.add(_path(operation, callers))
            return {i: OTHER if i else IMAGE for i in results}
        if not forward:
            incoming = {i: mark for i, mark in incoming.items() if isinstance(mark, Drawn)}
        if kind in CALLS | LOOPS | BRANCHES:
            return self._called(operation, incoming, callers, forward)
        if forward and kind == "ReadVariableOp" and operation.outputs[0].dtype.is_floating:
            return {0: Weights()}
        inside = {i: mark for i, mark in incoming.items() if isinstance(mark, Inside)}
        if inside:
            return self._in_the_model(operation, inside, Weights() in incoming.values(), callers)
        drawn = [mark for mark in incoming.values() if isinstance(mark, Drawn)]
        if drawn:
            which = IMAGE if IMAGE in drawn else OTHER
            return self._outside(operation, incoming, which, callers)
        return dict.fromkeys(results, Weights()) if incoming else {}

    def _outside(
        self, operation: tf.Operation, incoming: dict[int, Mark], drawn: Drawn, callers: Callers
    ) -> dict[int, Mark]:
        """Between the iterator and the model, or the loss."""
        kind = operation.type
        if kind in COPIES:
            if drawn is IMAGE:
                self.visited.add(_path(operation, callers))
            entered = drawn is IMAGE and _is(operation, ENTRY)
            return {0: Inside()} if entered else incoming
        if kind in RESHAPING or (drawn is IMAGE and kind not in rules.SIZES):
            name = re.sub(r"replica_\d+/", "", operation.name)  # one fault, not one per replica
            self.faults.add(f"{kind} {name!r} reads its {drawn.name} in front of the model")
        return {}

    def _in_the_model(
        self,
        operation: tf.Operation,
        incoming: dict[int, Inside],
        with_weights: bool,
        callers: Callers,
    ) -> dict[int, Mark]:
        self.visited.add(_path(operation, callers))
        layer = self._layer(operation, callers)
        what = f"{operation.type} in {f'layer {layer}' if layer else 'the model'}"
        moved = next((mark.moved for mark in incoming.values() if mark.moved), "")
        places = {i: mark.place for i, mark in incoming.items()}
        try:
            found = rules.follow(operation, places)
            if with_weights and operation.type in rules.LAYERS:
                rules.check_layer(operation, places)
                self.layers.add(layer or self._model_name)
                return {}
        except MovedError:
            self.faults.add(moved)
            return {}
        except BatchError as error:
            self.faults.add(f"{what} {error}")
            return {}
        marks: dict[int, Mark] = {}
        for i, place in found.items():
            does = f"moves it to dimension {place.axis}"
            if place.rows > 1:
                does = f"makes {place.rows} rows of an image"
            marks[i] = Inside() if place == FIRST else Inside(place, moved or f"{what} {does}")
        return marks

    def _layer(self, operation: tf.Operation, callers: Callers) -> str:
        """The innermost layer whose name is a scope of the operation's; empty for the model."""
        for each in (operation, *reversed(callers)):
            for scope in reversed(each.name.split("/")[:-1]):
                # Keras enters a layer's scope twice, so that it has a number more: dense_1 is of
                # the layer dense, whether or not there is a layer dense_1.
                for name in (re.sub(r"_\d+$", "", scope), scope):
                    if name in self._layer_names:
                        return name
        return ""

    def _called(
        self,
        operation: tf.Operation,
        incoming: dict[int, Mark],
        callers: Callers,
        forward: list[int],
    ) -> dict[int, Mark]:
        """Marks of a function's results, those of a loop, or of one or the other branch."""
        callers = (*callers, operation)
        wanted: Iterable[int] | None = forward or None
        if operation.type in CALLS:
            (graph,) = internals.called_graphs(operation, "f")
            return self.graph(graph, incoming, callers, wanted)
        marks: dict[int, Mark] = {}
        before: dict[int, Mark] | None = None
        if operation.type in LOOPS:
            # A loop's results are the arguments of its next iteration.
            (graph,) = internals.called_graphs(operation, "body")
            wanted = _carried(graph, forward) or None
            marks = dict(incoming)
            while before != marks:
                before = dict(marks)
                self._join(operation, marks, self.graph(graph, marks, callers, wanted))
            return marks
        chosen = {i - 1: mark for i, mark in incoming.items() if i > 0}
        names = ["branches"] if "Case" in operation.type else ["then_branch", "else_branch"]
        for name in names:
            for graph in internals.called_graphs(operation, name):
                self._join(operation, marks, self.graph(graph, chosen, callers, wanted))
        return marks

    def _join(
        self, operation: tf.Operation, marks: dict[int, Mark], others: dict[int, Mark]
    ) -> None:
        """Adds marks to those that the same tensors have already: the batch's win over weights."""
        for i, mark in others.items():
            before = marks.get(i)
            if not isinstance(before, Inside):
                marks[i] = mark
            elif isinstance(mark, Inside) and before.place != mark.place:
                layer = self._layer(operation, ()) or self._model_name
                self.faults.add(f"{operation.type} in {layer} leaves it in one place or another")


def _needed(ends: Iterable[tf.Tensor]) -> set[str]:
    """The names of the tensors that these are made of, and their own."""
    waiting, found = list(ends), set[str]()
    while waiting:
        tensor = waiting.pop()
        if tensor.name not in found:
            found.add(tensor.name)
            waiting += tensor.op.inputs
    return found


def _carried(body: Any, wanted: Iterable[int]) -> set[int]:
    """The results of a loop's body that these are made of, in this iteration or a later one."""
    found, known = set(wanted), -1
    while known != len(found):
        known = len(found)
        needed = _needed(body.outputs[place] for place in found)
        found |= {place for place, tensor in enumerate(body.inputs) if tensor.name in needed}
    return found
