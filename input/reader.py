"""Record numbers -> image bytes, labels and weights: positioned reads, every byte checked.

A bad record never shifts another: it stops the run, or, within the user's budget, keeps its slot
with weight 0.
"""

import os
import resource
import threading
from typing import NamedTuple

import numpy as np

from input.errors import BadRecordError
from input.manifest import Manifest, load_index
from input.records import RecordError, image_format, parse, unframe


class Block(NamedTuple):
    """Some records, in the order they were asked for."""

    images: np.ndarray  # object[n]: JPEG or PNG bytes; or pixels, uint8 or float32[n, h, w, 3]
    labels: np.ndarray  # int32[n]
    weights: np.ndarray  # float32[n]: 1, or 0 for padding and bad records


class RecordReader:
    """The records of one split. Threads may read at the same time."""

    def __init__(self, manifest: Manifest, max_bad_records: int = 0):
        self.records = manifest.records
        self.classes = manifest.classes
        self.bad_records: dict[int, BadRecordError] = {}
        self.failure: BadRecordError | None = None
        self._manifest = manifest
        self._index = load_index(manifest)
        self._max_bad_records = max_bad_records
        self._lock = threading.Lock()
        self._descriptors: dict[int, int] = {}
        _allow_open_files(len(manifest.shards))

    def read(self, numbers: np.ndarray) -> Block:
        """int64[n] record numbers, -1 for padding -> Block. Raises BadRecordError over the budget."""
        images = np.full(len(numbers), b"", object)
        labels = np.zeros(len(numbers), np.int32)
        weights = np.zeros(len(numbers), np.float32)
        shards, offsets, lengths = self._index.locate(np.maximum(numbers, 0))
        for slot in np.flatnonzero(numbers >= 0):
            try:
                images[slot], labels[slot] = self._read_one(
                    int(shards[slot]), int(offsets[slot]), int(lengths[slot])
                )
                weights[slot] = 1.0
            except RecordError as error:
                self.reject(int(numbers[slot]), str(error))
        return Block(images, labels, weights)

    def reject(self, number: int, reason: str) -> None:
        """Counts a bad record; raises its BadRecordError when that is one too many."""
        shard, offset, _ = self._index.locate(np.array([number]))
        shard = int(shard[0])
        error = BadRecordError(
            str(self._manifest.folder / self._manifest.shards[shard].file),
            number,
            int(offset[0]),
            reason,
        )
        with self._lock:
            self.bad_records.setdefault(number, error)
            if len(self.bad_records) > self._max_bad_records:
                self.failure = self.failure or error
                raise error

    def close(self) -> None:
        """Closes the shards; reading opens them again."""
        with self._lock:
            while self._descriptors:
                os.close(self._descriptors.popitem()[1])

    def _read_one(self, shard: int, offset: int, length: int) -> tuple[bytes, int]:
        try:
            buffer = os.pread(self._descriptor(shard), length, offset)
        except OSError as error:
            raise RecordError(f"the shard cannot be read: {error.strerror}") from None
        image, label = parse(unframe(buffer, length))
        if not 0 <= label < len(self.classes):
            raise RecordError(f"label {label} is not one of the {len(self.classes)} classes")
        if image_format(image) is None:
            raise RecordError("the image is neither JPEG nor PNG")
        return image, label

    def _descriptor(self, shard: int) -> int:
        with self._lock:
            if shard not in self._descriptors:
                path = self._manifest.folder / self._manifest.shards[shard].file
                self._descriptors[shard] = os.open(path, os.O_RDONLY)
            return self._descriptors[shard]


def _allow_open_files(shards: int) -> None:
    """Every shard stays open; the usual soft limit of 1,024 files is less than ImageNet's shards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = shards + soft
    if soft != resource.RLIM_INFINITY and shards > soft // 2:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
