"""The native library's arithmetic on pixels, in NumPy: each sum as it is written down."""

import numpy as np

ONE = 2048  # a weight of 1


def weights(size: int, out: int, antialias: bool) -> np.ndarray:
    """int64[out, size]: the triangle of linear interpolation, rounded so that a row sums to ONE.

    In units of 1 / (2 out) pixels: the centre of result o is (2 o + 1) size, and that of pixel i
    (2 i + 1) out.
    """
    reach = 2 * (max(size, out) if antialias else out)
    centres = (2 * np.arange(out) + 1)[:, None] * size
    pixels = (2 * np.arange(size) + 1)[None] * out
    triangle = np.maximum(0, reach - np.abs(pixels - centres))
    until = np.cumsum(triangle, axis=1)
    rounded = ONE * until // until[:, -1:]
    return np.diff(rounded, axis=1, prepend=0)


def view(pixels: np.ndarray, window: np.ndarray, size: int, antialias: bool) -> np.ndarray:
    """uint8[h, w, 3] and top, left, height, width, mirrored -> uint8[size, size, 3]."""
    top, left, height, width, mirrored = (int(number) for number in window)
    part = pixels[top : top + height, left : left + width].astype(np.int64)
    across = np.einsum("ow,hwc->hoc", weights(width, size, antialias), part) + 8 >> 4
    down = np.einsum("oh,hwc->owc", weights(height, size, antialias), across) + 2**17 >> 18
    return (down[:, ::-1] if mirrored else down).astype(np.uint8)
