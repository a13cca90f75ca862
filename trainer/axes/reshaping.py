"""Where a reshape, a transposition or a stack of tensors leaves the batch."""

import math
from dataclasses import replace

import numpy as np
import tensorflow as tf

from trainer.axes.place import (
    BatchError,
    MovedError,
    Place,
    Places,
    axes_input,
    constant_input,
    everywhere,
    only,
    rank_of,
    same,
    size_of,
)


def reshape(operation: tf.Operation, places: Places) -> Places:
    """Row-major: the batch is where as many elements stand in front of it as before."""
    tensor, result = operation.inputs[0], operation.outputs[0]
    place = only(places, 0)
    in_front = math.prod(size_of(tensor, axis) for axis in range(place.axis))
    images = size_of(tensor, place.axis) // place.rows
    passed = 1
    for axis in range(rank_of(result)):
        size = size_of(result, axis)
        if passed == in_front and size == images:
            return {0: Place(axis)}
        if passed == in_front and size % images == 0:
            return {0: Place(axis, size // images)}
        passed *= size
    raise BatchError(f"reshapes it from {tensor.shape} to {result.shape}")


def transpose(operation: tf.Operation, places: Places) -> Places:
    order = [int(axis) for axis in constant_input(operation, 1)]
    return {0: Place(order.index(only(places, 0).axis))}


def expand_dims(operation: tf.Operation, places: Places) -> Places:
    (new,) = axes_input(operation, 1, operation.outputs[0])
    place = only(places, 0)
    return {0: replace(place, axis=place.axis + (new <= place.axis))}


def squeeze(operation: tf.Operation, places: Places) -> Places:
    tensor, place = operation.inputs[0], only(places, 0)
    removed = [i % rank_of(tensor) for i in operation.get_attr("squeeze_dims")]
    removed = removed or [i for i in range(rank_of(tensor)) if size_of(tensor, i) == 1]
    if place.axis in removed:
        raise BatchError("takes its dimension away")
    return {0: replace(place, axis=place.axis - sum(i < place.axis for i in removed))}


def pack(operation: tf.Operation, places: Places) -> Places:
    new = operation.get_attr("axis") % rank_of(operation.outputs[0])
    axis = same(places.values()).axis
    return {0: Place(axis + (new <= axis))}


def unpack(operation: tf.Operation, places: Places) -> Places:
    gone = operation.get_attr("axis") % rank_of(operation.inputs[0])
    axis = only(places, 0).axis
    if axis == gone:
        raise BatchError("splits it")
    return everywhere(operation, Place(axis - (gone < axis)))


def tensor_list(operation: tf.Operation, places: Places) -> Places:
    """A list has the place of its tensors, stacked: a recurrent layer's walk through time."""
    kind = operation.type
    if kind == "TensorListFromTensor" and only(places, 0).axis == 0:
        raise BatchError("splits it")
    if kind == "TensorListGetItem":
        return {0: Place(only(places, 0).axis - 1)}
    if kind == "TensorListSetItem":
        into = [places[0]] if 0 in places else []
        item = [Place(places[2].axis + 1)] if 2 in places else []
        return {0: same(into + item)}
    return {0: only(places, 0)}


def space_to_batch(operation: tf.Operation, places: Places) -> Places:
    """How TensorFlow makes a convolution with holes of one without."""
    if only(places, 0).axis:
        raise MovedError
    rows = int(np.prod(constant_input(operation, 1)))
    return {0: Place(0, rows, strided=True) if rows > 1 else Place()}


def batch_to_space(operation: tf.Operation, places: Places) -> Places:
    rows = int(np.prod(constant_input(operation, 1)))
    if only(places, 0) != Place(0, rows, strided=rows > 1):
        raise BatchError("makes images of several")
    return {0: Place()}
