"""Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929) in the sizes of DeiT."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import keras

from models.errors import ModelError
from models.layers import ClassToken, Pixels, drop_path, drop_rates

Tensor: TypeAlias = keras.KerasTensor

EPSILON = 1e-6  # of its norms
DEPTH, EXPANSION, HEAD_WIDTH = 12, 4, 64  # of all sizes


def vit(
    input_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    input_dtype: str = "uint8",
    pixels: str = "unit",
    *,
    name: str,
    width: int,
    patch: int = 16,
) -> keras.Model:
    """input_dtype[M, S, S, 3], S a multiple of the patch -> logits float32[M, num_classes].

    12 blocks of attention between patches and two dense layers, each behind a norm and beside an
    identity; the classifier sees a learned token that takes part in them. Its position embedding is
    learned and belongs to the number of patches. `stochastic_depth`: the rate of the last block; it
    grows from 0 with the depth. Raises ModelError for another S.
    """
    if input_shape[0] % patch or input_shape[1] % patch:
        raise ModelError(
            f"{name} cuts images into patches of {patch}x{patch} pixels, and "
            f"{input_shape[0]}x{input_shape[1]} is no multiple. Set --image_size to one."
        )
    image = keras.Input(input_shape, dtype=input_dtype, name="image")
    x = Pixels(pixels, name="pixels")(image)
    x = keras.layers.Conv2D(
        width, patch, strides=patch, kernel_initializer="lecun_normal", name="patches"
    )(x)
    x = keras.layers.Reshape((-1, width), name="sequence")(x)
    x = ClassToken(name="token")(x)
    for number, rate in enumerate(drop_rates(stochastic_depth, DEPTH), start=1):
        x = _block(x, width, f"block{number}", rate)
    x = _norm(x, "norm")
    x = x[:, 0]
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(
        num_classes, kernel_initializer=_initial(), dtype="float32", name="logits"
    )(x)
    return keras.Model(image, logits, name=name)


def _block(x: Tensor, width: int, name: str, drop: float) -> Tensor:
    change = _norm(x, f"{name}_norm1")
    change = keras.layers.MultiHeadAttention(
        width // HEAD_WIDTH, HEAD_WIDTH, kernel_initializer=_initial(), name=f"{name}_attention"
    )(change, change)
    x = _add(x, change, f"{name}_1", drop)
    change = _norm(x, f"{name}_norm2")
    change = _dense(change, EXPANSION * width, f"{name}_dense1")
    change = keras.layers.Activation("gelu", name=f"{name}_gelu")(change)
    change = _dense(change, width, f"{name}_dense2")
    return _add(x, change, f"{name}_2", drop)


def _add(x: Tensor, change: Tensor, name: str, drop: float) -> Tensor:
    if drop:
        change = drop_path(change, drop, f"{name}_drop")
    return keras.layers.Add(name=f"{name}_add")([x, change])


def _dense(x: Tensor, width: int, name: str) -> Tensor:
    return keras.layers.Dense(width, kernel_initializer=_initial(), name=name)(x)


def _norm(x: Tensor, name: str) -> Tensor:
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def _initial() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02)


VITS: dict[str, Callable[..., keras.Model]] = {
    name: partial(vit, name=name, width=width)
    for name, width in (("vit_ti16", 192), ("vit_s16", 384), ("vit_b16", 768))
}
