"""What range the pixels have where a traced forward pass begins to compute with them.

Keras' Rescaling and Normalization, keras.applications' preprocess_input and arithmetic on the image
are all the same few operations in a graph. They are followed up to the first operation that is more
than a change of every pixel by constants: a convolution, or a normalisation by the batch.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

# Rescaling(1/255) makes 0.008 of -1..1 and 0.004 of 0..1; usual preprocessing leaves 1 or more.
NARROW = 0.1
# The largest byte is 255. Figures for 0..1 (deviations of 0.2 to 0.5) make 500 to 1,300 of it.
LARGE = 300.0

_SAME = {
    *("Identity", "Cast", "StopGradient", "EnsureShape", "Reshape", "ExpandDims", "Squeeze"),
    *("Transpose", "ReverseV2", "Slice", "StridedSlice", "GatherV2", "Pad", "PadV2", "MirrorPad"),
    *("ResizeBilinear", "ResizeNearestNeighbor", "ResizeArea"),
}
_JOINED = {"Pack", "ConcatV2"}  # channels, one by one


class Range(NamedTuple):
    low: float
    high: float
    operation: tf.Operation | None = None  # the one that made it narrow or large, or the last

    @property
    def is_narrow(self) -> bool:
        return self.high - self.low < NARROW

    @property
    def is_large(self) -> bool:
        return max(-self.low, self.high) > LARGE

    @property
    def makes_sense(self) -> bool:
        return not (self.is_narrow or self.is_large)


def used(image: tf.Tensor) -> Iterator[Range]:
    """The ranges in which a graph begins to compute with its uint8 image, as floats."""
    found = [(image.ref(), Range(0.0, 255.0))]  # ref(): tensors have no equality
    for reference, before in found:  # which grows
        tensor = reference.deref()
        for operation in tensor.consumers():
            after = _after(operation, tensor, before)
            if after is not None:
                reached = (operation.outputs[0].ref(), after)
                if reached not in found:
                    found.append(reached)
            elif tensor.dtype.is_floating and operation.type != "Shape":
                yield before


def _after(operation: tf.Operation, tensor: tf.Tensor, before: Range) -> Range | None:
    """The range behind an operation; None where it does not follow from constants."""
    inputs = list(operation.inputs)
    first = inputs[0] is tensor
    if operation.type in _JOINED or (operation.type in _SAME and first):
        return before
    if len(inputs) != 2:
        return None
    constant = _constant(inputs[1 if first else 0])
    if constant is None:
        return None
    ends = np.array([before.low, before.high])
    match operation.type:
        case "Mul" if constant:  # by 0 they are no pixels any more
            ends = ends * constant
        case "AddV2" | "Add" | "BiasAdd":
            ends = ends + constant
        case "Sub":
            ends = ends - constant if first else constant - ends
        case "RealDiv" if first and constant:
            ends = ends / constant
        case "Maximum":
            ends = np.maximum(ends, constant)
        case "Minimum":
            ends = np.minimum(ends, constant)
        case _:
            return None
    made_by = operation if before.makes_sense else before.operation
    return Range(float(ends.min()), float(ends.max()), made_by)


def _constant(tensor: tf.Tensor) -> float | None:
    """One figure for a constant of the graph: the median of one that differs by channel."""
    value = _value(tensor)
    return None if value is None or not value.size else float(np.median(value))


def _value(tensor: tf.Tensor) -> Any:
    static = tf.get_static_value(tensor)
    if static is not None:
        try:
            return np.asarray(static, np.float64)
        except (TypeError, ValueError):  # text
            return None
    inputs = [_value(given) for given in tensor.op.inputs]
    if not inputs or any(value is None for value in inputs):
        return None
    match tensor.op.type, *inputs:
        case ("Identity" | "Cast" | "Reshape" | "Squeeze", value, *_):
            return value
        case ("Sqrt", value):
            return np.sqrt(value)
        case ("Maximum", one, other):  # Normalization's bound on its deviation
            return np.maximum(one, other)
    return None
