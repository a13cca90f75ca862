"""What a network gets of the records' pixels: each network's own mode, and what a model shows."""

from collections.abc import Iterable

import keras
import numpy as np

from models.layers import PIXEL_MODES, Pixels

# The models of keras.applications by the pixels they were published with; "raw" where the model
# has its preprocessing inside.
APPLICATIONS = {
    name: mode
    for mode, names in {
        "raw": "ConvNeXtTiny ConvNeXtSmall ConvNeXtBase ConvNeXtLarge ConvNeXtXLarge "
        "EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 "
        "EfficientNetB5 EfficientNetB6 EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 "
        "EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2S EfficientNetV2M EfficientNetV2L "
        "MobileNetV3Small MobileNetV3Large",
        "unit": "InceptionResNetV2 InceptionV3 MobileNet MobileNetV2 NASNetLarge NASNetMobile "
        "ResNet50V2 ResNet101V2 ResNet152V2 Xception",
        "imagenet": "DenseNet121 DenseNet169 DenseNet201",
        "caffe": "ResNet50 ResNet101 ResNet152 VGG16 VGG19",
    }.items()
    for name in names.split()
}


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
