"""Images that are NumPy arrays in memory, read like records."""

import numpy as np

from input.errors import InputError
from input.reader import Block


class ArrayReader:
    """Pixels and labels in memory.

    images: uint8 or float32 [n, h, w], [n, h, w, 1] or [n, h, w, 3]; float32 goes to the model as
    it is. labels: integers [n]. classes: names; unset: the numbers up to the largest label.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...] = ()):
        if images.ndim == 3:
            images = images[..., None]
        if images.dtype not in (np.uint8, np.float32):
            raise InputError(f"Images must be uint8 or float32, not {images.dtype}.")
        if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
            raise InputError(f"Images must be [n, h, w], [n, h, w, 1 or 3], not {images.shape}.")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(
                f"Labels must be one integer per image, {len(images)} in all, not "
                f"{labels.dtype}{list(labels.shape)}."
            )
        self.records = len(images)
        self.classes = classes or tuple(str(n) for n in range(int(labels.max()) + 1))
        self.bad_records: dict = {}
        self.failure = None
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise InputError(
                f"Labels go from {labels.min()} to {labels.max()}, but there are "
                f"{len(self.classes)} classes."
            )
        self.pixels = images
        self._labels = labels.astype(np.int32)

    def read(self, numbers: np.ndarray) -> Block:
        """int64[n] record numbers, -1 for padding -> Block of pixels [n, h, w, 3]."""
        present = numbers >= 0
        images = self.pixels[np.maximum(numbers, 0)]
        images = np.broadcast_to(images, (*images.shape[:3], 3)) * present[:, None, None, None]
        labels = np.where(present, self._labels[np.maximum(numbers, 0)], 0)
        return Block(
            images.astype(self.pixels.dtype), labels.astype(np.int32), present.astype(np.float32)
        )
