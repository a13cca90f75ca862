"""What the pipeline has handed to the devices: the records and the pixels of some steps, hashed."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

MicroBatchPlace = tuple[int, int]  # step, number in 0..V-1


class Seen(NamedTuple):
    """One micro-batch of M slots."""

    records: np.ndarray  # int64[M]: record indices, -1 for one that was left out
    contents: tuple[bytes, ...]  # of each slot the SHA-256 of its image, label and weight


class Witness:
    """Notes the micro-batches of the steps that are due, while the pipeline reads ahead.

    A micro-batch is noted before a device can have it, and once more with the same values where
    TensorFlow asks for it twice.
    """

    def __init__(self, due: Callable[[Any], Any]):
        """due: a step's number from 0, int or integer tensor -> whether its micro-batches are."""
        self.due = due
        self._records: dict[MicroBatchPlace, np.ndarray] = {}
        self._contents: dict[MicroBatchPlace, tuple[bytes, ...]] = {}

    def note_records(self, place: MicroBatchPlace, records: np.ndarray) -> None:
        """records: as they are about to be read."""
        if self.due(place[0]):
            self._records[place] = records

    def note_content(
        self, place: MicroBatchPlace, image: np.ndarray, label: np.ndarray, weight: np.ndarray
    ) -> None:
        """What the model gets: image [M, S, S, 3], label [M, ..], weight [M]."""
        columns = zip(image, label, weight, strict=True)
        self._contents[place] = tuple(
            hashlib.sha256(b"".join(each.tobytes() for each in slot)).digest() for slot in columns
        )

    def watch(
        self,
        batches: tf.data.Dataset,
        place: Callable[[int], MicroBatchPlace],
        first: int,
        draws: int,
    ) -> tf.data.Dataset:
        """The same micro-batches (image, label, weight), noted as they pass.

        They are the first-th and the following ones, `draws` of them a step.
        """

        def note(number: np.ndarray, *columns: np.ndarray) -> np.ndarray:
            self.note_content(place(int(number)), *columns)
            return columns[-1]

        def watched(number: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
            # Not stateful: under op determinism that would make the whole input serial.
            *others, weight = batch
            told = tf.cond(
                self.due(number // draws),
                lambda: tf.numpy_function(note, [number, *batch], weight.dtype, stateful=False),
                lambda: weight,
            )
            return *others, tf.ensure_shape(told, weight.shape)

        # What AutoGraph would do to these costs a second at the start.
        return batches.enumerate(first).map(tf.autograph.experimental.do_not_convert(watched))

    def take(self, step: int) -> dict[int, Seen]:
        """This worker's micro-batches of a step by their numbers; forgets them and earlier ones."""
        places = sorted(place for place in self._contents if place[0] == step)
        found = {place[1]: Seen(self._records[place], self._contents[place]) for place in places}
        for noted in (self._records, self._contents):
            for place in [place for place in list(noted) if place[0] <= step]:
                del noted[place]
        return found
