"""Image files read like records, each as samestep-records write would have stored it."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from input.errors import BadRecordError
from input.foundation.retry import patiently
from input.prepare.conversion import SUFFIXES, Conversion, convert, read_image, reason
from input.prepare.places import Disk
from input.reader import Block, Places, blank_image
from input.records import ENCODED, RecordError


def found_in(paths: Iterable[str]) -> list[Path]:
    """Files as they are; of each folder all below that are named as images, sorted.

    Raises InputError for a folder that cannot be read.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            below = (name for name, _ in Disk(path).below() if name.lower().endswith(SUFFIXES))
            found += (path / name for name in sorted(below))
        else:
            found.append(path)
    return found


class FileReader:
    """Image files without labels, or all of label 0. Threads may read at the same time.

    A file that is no image is in bad_records and keeps its slot with weight 0; any number may be.
    """

    image_shape: tuple[int, int, int] | None = None  # each image has its own
    image_dtype = np.dtype(np.uint8)
    schema = ENCODED
    failure: BadRecordError | None = None

    def __init__(self, paths: Sequence[Path], classes: tuple[str, ...], how: Conversion):
        self.records = len(paths)
        self.classes = classes
        self.max_pixels = how.max_pixels
        self.bad_records: dict[int, BadRecordError] = {}
        self._paths = paths
        self._how = how

    def read(self, indices: np.ndarray) -> Block:
        """int64[n] places in the paths, -1 for padding -> Block."""
        blank, size = blank_image(self.schema)
        images, weights = np.full(len(indices), None, object), np.zeros(len(indices), np.float32)
        for slot, index in enumerate(indices.tolist()):
            images[slot] = blank
            if index < 0:
                continue
            path = self._paths[index]
            try:
                content = patiently(partial(read_image, path), path)
                images[slot], weights[slot] = convert(content, self._how).content, 1.0
            except Exception as error:  # as read_image and convert raise it
                self.reject(index, RecordError(reason(error)))
        sizes = np.full((len(indices), 2), size, np.int32)
        return Block(images, sizes, np.zeros(len(indices), np.int32), weights)

    def places(self, indices: np.ndarray) -> Places:
        """In no file as records lie: `read` reads them."""
        nowhere = np.zeros(len(indices), np.int64)
        return Places(np.full(len(indices), -1, np.int32), nowhere, nowhere, None, [])

    def reject(self, index: int, error: RecordError) -> None:
        """Counts a bad file, once."""
        bad = BadRecordError(str(self._paths[index]), index, 0, str(error))
        self.bad_records.setdefault(index, bad)
