"""Where a slice or a gather leaves the batch."""

import tensorflow as tf

from trainer.axes.place import (
    BatchError,
    Place,
    Places,
    axes_input,
    constant_input,
    only,
    rank_of,
    same,
    size_of,
    unknown,
)


def strided_slice(operation: tf.Operation, places: Places) -> Places:
    """Walks through the entries of tensor[begin:end:strides, ..] up to the batch's."""
    wanted = only(places, 0).axis
    rank, entries = rank_of(operation.inputs[0]), size_of(operation.inputs[3], 0)

    def marked(name: str) -> list[bool]:
        mask = operation.get_attr(f"{name}_mask")
        return [bool(mask >> entry & 1) for entry in range(entries)]

    ellipsis, new, shrink = marked("ellipsis"), marked("new_axis"), marked("shrink_axis")
    named = entries - sum(ellipsis) - sum(new)
    axis = result = 0  # of the tensor, of what comes out
    for entry in range(entries):
        if ellipsis[entry]:
            length = rank - named
        elif new[entry]:
            result += 1
            continue
        else:
            length = 1
        if wanted < axis + length:
            if not ellipsis[entry]:
                _check_whole(operation, entry, shrink[entry], marked("begin")[entry])
            return {0: Place(result + wanted - axis)}
        axis, result = axis + length, result + length * (not shrink[entry])
    return {0: Place(result + wanted - axis)}


def _check_whole(operation: tf.Operation, entry: int, shrinks: bool, from_start: bool) -> None:
    """The entry takes its dimension in order, from the start; how far, the sizes tell."""
    if shrinks:
        raise BatchError("takes one image out of it")
    begin = 0 if from_start else constant_input(operation, 1)[entry]
    stride = constant_input(operation, 3)[entry]
    if begin is None or stride is None:
        raise unknown("slice")
    if stride < 0:
        raise BatchError("reverses it")
    if begin != 0 or stride != 1:
        raise BatchError("takes a part of it")


def gather(operation: tf.Operation, places: Places) -> Places:
    """Out of images along another axis, or out of a table that images are the indices of."""
    table, indices, _ = operation.inputs
    if 2 in places:
        raise BatchError("takes it for something else than images")
    (along,) = axes_input(operation, 2, table)
    batch_dims = operation.get_attr("batch_dims")
    found = []
    if 0 in places:
        axis = places[0].axis
        if axis == along:
            raise BatchError("gathers images out of it")
        found.append(Place(axis + (rank_of(indices) - batch_dims - 1 if axis > along else 0)))
    if 1 in places:
        axis = places[1].axis
        found.append(Place(axis + (along - batch_dims if axis >= batch_dims else 0)))
    return {0: same(found)}
