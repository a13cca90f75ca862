"""Images that are NumPy arrays in memory, read like records."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from input.errors import BadRecordError, InputError
from input.reader import Block
from input.records import ENCODED, RecordError


class ArrayReader:
    """Pixels and labels in memory.

    images: uint8 or float32 [n, h, w], [n, h, w, 1] or [n, h, w, 3]; float32 goes to the model as
    it is. labels: integers [n]. classes: names; unset: the numbers up to the largest label.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: Sequence[str] = ()):
        images, labels = np.asarray(images), np.asarray(labels)
        if images.ndim == 3:
            images = images[..., None]
        if images.dtype not in (np.uint8, np.float32):
            raise InputError(f"Images must be uint8 or float32, not {images.dtype}.")
        if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
            raise InputError(
                f"Images must be [n, h, w] or [n, h, w, 1 or 3], not {list(images.shape)}."
            )
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(
                f"Labels must be one integer per image, {len(images)} in all, not "
                f"{labels.dtype}{list(labels.shape)}. labels.reshape(-1) flattens a column, "
                "labels.argmax(axis=1) undoes one-hot."
            )
        if images.dtype == np.float32 and not np.isfinite(images).all():
            raise InputError("Some pixels are no numbers or infinite.")
        self.records = len(images)
        self.classes = tuple(classes) or tuple(str(n) for n in range(int(labels.max()) + 1))
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise InputError(
                f"Labels go from {labels.min()} to {labels.max()}, but there are "
                f"{len(self.classes)} classes."
            )
        height, width = images.shape[1:3]
        self.records_per_class = tuple(np.bincount(labels, minlength=len(self.classes)).tolist())
        self.has_checksums = True  # nobody replaces what is in memory
        self.image_size = height if height == width else None  # pixels, of a square
        self.image_shape: tuple[int, int, int] | None = (height, width, 3)
        self.image_dtype = images.dtype
        self.schema = ENCODED  # of no record
        self.bad_records: dict[int, BadRecordError] = {}
        self.failure: BadRecordError | None = None
        self.pixels = images
        self._labels = labels.astype(np.int32)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the classes, the pixels and the labels: the same data, the same hash."""
        kind = [self.classes, str(self.image_dtype), self.pixels.shape]
        digest = hashlib.sha256(json.dumps(kind).encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        digest.update(np.ascontiguousarray(self._labels).data)
        return digest.hexdigest()

    def read(self, indices: np.ndarray) -> Block:
        """int64[n] record indices, -1 for padding -> Block of pixels [n, h, w, 3]."""
        images = np.zeros((len(indices), *self.pixels.shape[1:3], 3), self.image_dtype)
        labels = np.zeros(len(indices), np.int32)
        present = indices >= 0
        images[present] = self.pixels[indices[present]]  # one channel becomes three
        labels[present] = self._labels[indices[present]]
        sizes = np.zeros((len(indices), 2), np.int32)
        return Block(images, sizes, labels, present.astype(np.float32))

    def reject(self, index: int, error: RecordError) -> None:
        """Pixels in memory need no decoding, so none is ever bad."""
        raise InputError(f"Image {index} in memory: {error}.")
