"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545): convolutions in the shape of a transformer."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import keras

from models.layers import LayerScale, Pixels, drop_path, drop_rates

Tensor: TypeAlias = keras.KerasTensor

EPSILON = 1e-6  # of its norms
LAYER_SCALE = 1e-6  # what a block's change is multiplied with at the start


def convnext(
    input_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    input_dtype: str = "uint8",
    pixels: str = "imagenet",
    *,
    name: str,
    depths: tuple[int, int, int, int],
    widths: tuple[int, int, int, int],
) -> keras.Model:
    """input_dtype[M, S, S, 3], S >= 32 -> logits float32[M, num_classes].

    Four stages, in front of each a norm and a convolution that makes the image smaller: 4x4 with
    stride 4 first, 2x2 with stride 2 later. No BatchNorm: a micro-batch of 1 trains as well.
    `stochastic_depth`: the rate of the last block; it grows from 0 with the depth.
    """
    image = keras.Input(input_shape, dtype=input_dtype, name="image")
    x = Pixels(pixels, name="pixels")(image)
    x = _norm(_conv(x, widths[0], 4, "stem_conv"), "stem_norm")
    rates = iter(drop_rates(stochastic_depth, sum(depths)))
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        if stage > 1:
            x = _conv(_norm(x, f"stage{stage}_norm"), width, 2, f"stage{stage}_conv")
        for index in range(1, depth + 1):
            x = _block(x, width, f"stage{stage}_block{index}", next(rates))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = _norm(x, "norm")
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(
        num_classes, kernel_initializer=_initial(), dtype="float32", name="logits"
    )(x)
    return keras.Model(image, logits, name=name)


def _block(x: Tensor, width: int, name: str, drop: float) -> Tensor:
    """7x7 of each channel, norm, and two dense layers over the channels, the first 4 times wide."""
    change = keras.layers.DepthwiseConv2D(
        7, padding="same", depthwise_initializer=_initial(), name=f"{name}_depthwise"
    )(x)
    change = _norm(change, f"{name}_norm")
    # 1x1 convolutions: the same product as a Dense layer, which would reshape the batch.
    change = _conv(change, 4 * width, 1, f"{name}_1")
    change = keras.layers.Activation("gelu", name=f"{name}_gelu")(change)
    change = _conv(change, width, 1, f"{name}_2")
    change = LayerScale(LAYER_SCALE, name=f"{name}_scale")(change)
    if drop:
        change = drop_path(change, drop, f"{name}_drop")
    return keras.layers.Add(name=f"{name}_add")([x, change])


def _conv(x: Tensor, filters: int, size: int, name: str) -> Tensor:
    return keras.layers.Conv2D(
        filters, size, strides=size, kernel_initializer=_initial(), name=name
    )(x)


def _norm(x: Tensor, name: str) -> Tensor:
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def _initial() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02)


CONVNEXTS: dict[str, Callable[..., keras.Model]] = {
    name: partial(convnext, name=name, depths=depths, widths=widths)
    for name, depths, widths in (
        ("convnext_tiny", (3, 3, 9, 3), (96, 192, 384, 768)),
        ("convnext_small", (3, 3, 27, 3), (96, 192, 384, 768)),
        ("convnext_base", (3, 3, 27, 3), (128, 256, 512, 1024)),
    )
}
