"""Which part of each image a view shows, in NumPy: for pixels that are not cut in the graph.

The same parts as input.views.crop finds there, by the same numbers.
"""

import numpy as np

CROP_TRIES = 10  # as torchvision's RandomResizedCrop
CROP_LOG_RATIO = 0.28768207  # log(4 / 3): aspect ratios from 3/4 to 4/3
UNIFORMS = 2 * CROP_TRIES + 3  # numbers in [0, 1) that one training view needs


def training(uniforms: np.ndarray, extents: np.ndarray, min_area: float, flip: bool) -> np.ndarray:
    """float32[n, UNIFORMS or more] in [0, 1), int32[n, 2] height and width -> int32[n, 5].

    Top, left, height and width of the part, and whether it is mirrored, as random_crop and
    train_view of input.views.crop find them.
    """
    area, ratio = uniforms[:, :CROP_TRIES], uniforms[:, CROP_TRIES : 2 * CROP_TRIES]
    corner, mirrored = uniforms[:, 2 * CROP_TRIES : UNIFORMS - 1], uniforms[:, UNIFORMS - 1]
    scale = np.sqrt(np.float32(min_area) + np.float32(1 - min_area) * area)
    stretch = np.exp(np.float32(CROP_LOG_RATIO) * (ratio - np.float32(0.5)))
    side = np.sqrt(extents[:, 0].astype(np.float32) * extents[:, 1])[:, None]
    sizes = np.empty((len(uniforms), CROP_TRIES + 1, 2), np.int32)
    sizes[:, :-1, 0] = np.rint(scale / stretch * side)
    sizes[:, :-1, 1] = np.rint(scale * stretch * side)
    sizes[:, -1] = extents.min(axis=1)[:, None]
    fits = ((sizes >= 1) & (sizes <= extents[:, None])).all(axis=2)
    found = sizes[np.arange(len(sizes)), fits.argmax(axis=1)]
    windows = np.empty((len(uniforms), 5), np.int32)
    windows[:, :2] = corner * (extents - found + 1).astype(np.float32)
    windows[:, 2:4] = found
    windows[:, 4] = (mirrored < 0.5) & flip
    return windows


def evaluation(extents: np.ndarray, crop: float) -> np.ndarray:
    """int32[n, 2] height and width -> int32[n, 5]: the central square, as eval_view finds it."""
    short = extents.min(axis=1).astype(np.float32)
    side = np.maximum(np.rint(short * np.float32(crop)), 1).astype(np.int32)[:, None]
    corner = (extents - side) // 2
    return np.concatenate([corner, side, side, np.zeros_like(side)], axis=1)
