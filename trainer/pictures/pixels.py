"""Pixels of any kind as a picture can show them."""

import numpy as np


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """uint8 as they are; of floats the smallest as black and the largest as white. Any shape."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = pixels.min(), pixels.max()
    return ((pixels - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
