"""Where the batch is in a tensor, and what a traced graph knows of a tensor: sizes, constants.

All of it raises BatchError where the graph does not say.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Place:
    """Image i of a batch of M is index i of an axis, or indices i * rows .. (i + 1) * rows - 1."""

    axis: int = 0
    rows: int = 1
    strided: bool = False  # indices i, i + M, i + 2 M, .. instead


FIRST = Place()
Places = dict[int, Place]  # by the position of an operation's input or output


class BatchError(Exception):
    """What an operation does to the batch, as a predicate: "reverses it"."""


class MovedError(BatchError):
    """The operation is for batches on axis 0: what put the batch elsewhere is at fault."""


class UnknownError(BatchError):
    """The graph does not say where the operation leaves the batch."""


def unknown(what: str) -> UnknownError:
    return UnknownError(f"cannot be shown to leave it alone: its {what} is known only when it runs")


def rank_of(tensor: tf.Tensor) -> int:
    if tensor.shape.rank is None:
        raise unknown("shape")
    return tensor.shape.rank


def size_of(tensor: tf.Tensor, axis: int) -> int:
    if axis >= rank_of(tensor) or tensor.shape[axis] is None:
        raise unknown("shape")
    return tensor.shape[axis]


def constant_input(operation: tf.Operation, position: int) -> Any:
    """The value of an input, from NumPy. Elements that are not known are None."""
    value = tf.get_static_value(operation.inputs[position], partial=True)
    if value is None:
        raise unknown(f"input {position % len(operation.inputs)}")
    return value


def axes_input(operation: tf.Operation, position: int, tensor: tf.Tensor) -> set[int]:
    """The axes of a tensor that an input names, counted from the front."""
    return {int(axis) % rank_of(tensor) for axis in np.ravel(constant_input(operation, position))}


def only(places: Places, position: int) -> Place:
    if places.keys() != {position}:
        raise BatchError("takes it for something else than images")
    return places[position]


def same(places: Iterable[Place]) -> Place:
    place, *others = set(places)
    if others:
        raise BatchError("mixes its images")
    return place


def everywhere(operation: tf.Operation, place: Place) -> Places:
    return dict.fromkeys(range(len(operation.outputs)), place)
