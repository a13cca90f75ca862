"""Images of sound records that do not decode: bad records, found when their micro-batch is made."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from input import internals
from input.native.reader import ViewReader
from input.reader import Reader, blank_image
from input.records import RecordError
from input.views.micro_batch import Slots


def left_out(
    views: Callable[[Slots], tf.Tensor], reader: Reader | ViewReader, slots: Slots
) -> Slots:
    """Slots that could not be decoded -> the same without the images that are why.

    An error of any other kind is raised again when these are decoded, and stops the run.
    """

    def take_out(*columns: np.ndarray) -> Slots:
        left = Slots(*(column.copy() for column in columns))
        blank, size = blank_image(reader.schema)
        for slot in np.flatnonzero(left.weights):
            one = slice(slot, slot + 1)
            try:
                with tf.device("CPU:0"):  # as in tf.data; JPEG and PNG are decoded nowhere else
                    views(Slots(*(tf.constant(column[one]) for column in left)))
            except tf.errors.InvalidArgumentError as error:
                bad = RecordError(f"the image cannot be decoded: {internals.reason(error)}")
                reader.reject(int(left.records[slot]), bad)
                left.images[slot], left.sizes[slot] = blank, size
                left.labels[slot], left.weights[slot] = 0, 0.0
        return left

    dtypes = [column.dtype for column in slots]
    columns = tf.numpy_function(take_out, slots, dtypes, stateful=False)  # as in pipeline._read
    for column, before in zip(columns, slots, strict=True):
        column.set_shape(before.shape)
    return Slots(*columns)
