"""Record indices -> what the model sees of their images, decoded by the native library.

Windows and random numbers are NumPy's, pixels are the library's. A record that is unusual or bad is
read by input.reader, which says why: the two agree on which records are bad.
"""

import ctypes
import math
import threading
from collections.abc import Callable
from typing import NamedTuple, TypeGuard

import numpy as np

from input.errors import BadRecordError
from input.native import library
from input.reader import Block, PlacedReader, Reader
from input.records import HEIGHT_KEY, WIDTH_KEY, RecordError, extent

ALIGNED = 64  # bytes: TensorFlow takes such an array as it is, and copies others

# Uniform numbers float32[n, ..] and height and width int32[n, 2] of n images -> int32[n, 5]: top,
# left, height and width of the part that is seen, and whether it is mirrored.
Windows = Callable[[np.ndarray, np.ndarray], np.ndarray]


def fits(reader: Reader) -> TypeGuard[PlacedReader]:
    """Whether the native library reads these records: files, or pixels of 8 bits."""
    return isinstance(reader, PlacedReader) and reader.schema.raw_dtype in (None, "uint8")


class _Images(NamedTuple):
    """The images of some slots, which lie in memory that `held` holds."""

    addresses: np.ndarray  # uint64[n]
    bytes: np.ndarray  # int64[n]; 0: no image
    extents: np.ndarray  # int32[n, 2]: height and width; 1 where there is none
    labels: np.ndarray  # int32[n]
    held: list[np.ndarray]


class ViewReader:
    """A reader whose images are views: uint8[size, size, 3]. Threads may read at the same time."""

    def __init__(
        self, reader: PlacedReader, size: int, *, antialias: bool, threads: int, simd: bool = True
    ):
        """threads: that one read decodes with. Raises InputError without the native library."""
        self.records, self.classes, self.schema = reader.records, reader.classes, reader.schema
        self.image_shape: tuple[int, int, int] | None = (size, size, 3)
        self.image_dtype = np.dtype(np.uint8)
        self.bad_records = reader.bad_records
        self._reader = reader
        self._size, self._antialias, self._threads, self._simd = size, antialias, threads, simd
        self._library = library.load()
        self._own = threading.local()
        schema = reader.schema
        height, width, channels = schema.raw_shape or (0, 0, 3)
        self._schema = library.Schema(
            *(schema.image_key.encode(), schema.label_key.encode()),
            *(HEIGHT_KEY.encode(), WIDTH_KEY.encode()),
            *(schema.label_offset, len(reader.classes), reader.max_pixels),
            *(0 if schema.raw_dtype is None else channels, height, width),
        )

    @property
    def failure(self) -> BadRecordError | None:
        return self._reader.failure

    def reject(self, index: int, error: RecordError) -> None:
        self._reader.reject(index, error)

    def read(self, indices: np.ndarray, uniforms: np.ndarray, windows: Windows) -> Block:
        """int64[n] record indices, -1 for padding -> Block of views uint8[n, size, size, 3].

        Without an image, the slot is black with label 0 and weight 0. Raises BadRecordError over
        the budget.
        """
        images = self._images(indices)
        weights = (images.bytes > 0).astype(np.float32)
        views, messages = self._views(images, windows(uniforms, images.extents))
        if messages[:, 0].any():
            for slot in np.flatnonzero(messages[:, 0]).tolist():
                images.labels[slot], weights[slot] = 0, 0.0
                reason = messages[slot].tobytes().partition(b"\0")[0].decode("latin-1")
                bad = RecordError(f"the image cannot be decoded: {reason}")
                self.reject(int(indices[slot]), bad)
        return Block(views, np.zeros((len(indices), 2), np.int32), images.labels, weights)

    def _images(self, indices: np.ndarray) -> _Images:
        present = np.flatnonzero(indices >= 0)
        places = self._reader.places(indices[present])
        n, total = len(present), int(places.lengths.sum())
        buffer = self._buffer(total + library.PAD_BYTES)
        addresses, lengths = np.zeros(n, np.uint64), np.zeros(n, np.int64)
        labels, extents = np.zeros(n, np.int32), np.ones((n, 2), np.int32)
        usual = np.zeros(n, np.bool_)
        self._library.samestep_records(
            *(n, _address(places.descriptors), _address(places.offsets), _address(places.lengths)),
            *(_address(places.checksums), ctypes.byref(self._schema), _address(buffer)),
            *(_address(addresses), _address(lengths), _address(labels), _address(extents)),
            _address(usual),
        )
        held = [buffer]
        for place in np.flatnonzero(~usual).tolist():
            lengths[place] = labels[place] = 0
            block = self._reader.read(indices[present[place : place + 1]])
            if not block.weights[0]:
                continue
            image = block.images[0]
            own = np.zeros(len(image) + library.PAD_BYTES, np.uint8)
            own[: len(image)] = np.frombuffer(image, np.uint8)
            held.append(own)
            addresses[place], lengths[place] = own.ctypes.data, len(image)
            labels[place] = block.labels[0]
            raw = self.schema.raw_dtype is not None
            extents[place] = block.sizes[0] if raw else np.maximum(extent(image) or 1, 1)
        if n == len(indices):
            return _Images(addresses, lengths, extents, labels, held)
        addresses, lengths, extents, labels = (
            _spread(each, present, len(indices)) for each in (addresses, lengths, extents, labels)
        )
        extents[indices < 0] = 1
        return _Images(addresses, lengths, extents, labels, held)

    def _buffer(self, size: int) -> np.ndarray:
        """This thread's: new memory is cleared by the kernel, which takes as long as a checksum."""
        if not hasattr(self._own, "buffer") or self._own.buffer.size < size:
            self._own.buffer = np.empty(size * 5 // 4, np.uint8)
        buffer: np.ndarray = self._own.buffer
        return buffer

    def _views(self, images: _Images, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(windows)
        views = _aligned((n, self._size, self._size, 3))
        messages = np.zeros((n, library.MESSAGE_BYTES), np.uint8)
        windows = np.ascontiguousarray(windows, np.int32)
        call = library.Call(
            *(n, _address(images.addresses), _address(images.bytes), _address(images.extents)),
            *(_address(windows), self._schema.raw_channels, self._size, self._antialias),
            *(self._simd, self._threads, _address(views), _address(messages), 0),
        )
        self._library.samestep_views(ctypes.byref(call))
        return views, messages


def _address(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def _spread(values: np.ndarray, places: np.ndarray, n: int) -> np.ndarray:
    """values[i] at places[i] of n, and 0 elsewhere."""
    found = np.zeros((n, *values.shape[1:]), values.dtype)
    found[places] = values
    return found


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An array of bytes that TensorFlow takes as it is; it copies one that begins elsewhere."""
    size = math.prod(shape)
    memory = np.empty(size + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    return memory[start : start + size].reshape(shape)
