"""What a network gets of the records' pixels: each network's own mode, and what a model shows."""

from collections.abc import Iterable

import keras
import numpy as np

from models.layers import PIXEL_MODES, Pixels


def shown(model: keras.Model) -> str:
    """What a model of build_model gets, in words: unit: -1..1 in float32."""
    dtype = model.inputs[0].dtype
    layer = next((layer for layer in model.layers if isinstance(layer, Pixels)), None)
    if layer is None or keras.backend.is_float_dtype(dtype):
        return f"{dtype} as the records hold them"
    means, deviations = (np.ravel(figures) for figures in PIXEL_MODES[layer.mode])
    if len(means) == 1:
        low, high = ((np.array([0, 255]) - means) / deviations).tolist()
        what = f"{low:g}..{high:g}"
    else:
        over = "" if (deviations == 1).all() else f", over {_figures(deviations)}"
        what = f"less {_figures(means)}{over}"
    return f"{layer.mode}: {what} in {layer.compute_dtype}"


def _figures(values: Iterable[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
