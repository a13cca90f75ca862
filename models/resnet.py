"""Residual networks (He et al. 2016, arXiv:1512.03385), version 1.5, for ImageNet-like images."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import keras

from models.layers import FusedBatchNorm, Pixels, drop_path, drop_rates

Tensor: TypeAlias = keras.KerasTensor


def resnet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    input_dtype: str = "uint8",
    pixels: str = "imagenet",
    *,
    name: str,
    block: Callable[..., Tensor],
    depths: tuple[int, ...],
    tweaked: bool = False,
    caffe: bool = False,
    zero_last_gamma: bool = True,
) -> keras.Model:
    """input_dtype[M, S, S, 3] -> logits float32[M, num_classes].

    The published stem (7x7 with stride 2, 3x3 max pooling with stride 2) at every size: 32
    pixels end as 1x1, and work. Padding is "same", which at even sizes puts the odd pixel right
    and below where Caffe and torch pad evenly; the sizes of all layers are the published ones.
    `tweaked`: variant d of He et al. 2019 (arXiv:1812.01187, fig. 2): a stem of three 3x3
    convolutions, and 2x2 means in front of the 1x1 of a shortcut in place of its stride.
    `caffe`: as keras.applications has it, for the weights that are published there: a block's
    stride in its first 1x1, and the stem's padding even.
    `zero_last_gamma`: every block starts as the identity (Goyal et al. 2017, arXiv:1706.02677,
    sec. 5.1, as is the classifier's deviation of 0.01). `stochastic_depth`: the rate of the last
    block; it grows from 0 with the depth.
    """
    last_gamma = "zeros" if zero_last_gamma else "ones"
    image = keras.Input(input_shape, dtype=input_dtype, name="image")
    x = Pixels(pixels, name="pixels")(image)
    if tweaked:
        for number, (filters, stride) in enumerate([(32, 2), (32, 1), (64, 1)], start=1):
            x = _relu(_conv_norm(x, filters, 3, f"stem_{number}", stride=stride), f"stem_{number}")
    elif caffe:
        x = keras.layers.ZeroPadding2D(3, name="stem_pad")(x)
        x = _relu(_conv_norm(x, 64, 7, "stem", stride=2, padding="valid"), "stem")
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    else:
        x = _relu(_conv_norm(x, 64, 7, "stem", stride=2), "stem")
    padding = "valid" if caffe else "same"
    x = keras.layers.MaxPooling2D(3, strides=2, padding=padding, name="stem_pool")(x)
    rates = iter(drop_rates(stochastic_depth, sum(depths)))
    for stage, depth in enumerate(depths):
        for index in range(depth):
            x = block(
                x,
                64 * 2**stage,
                2 if stage > 0 and index == 0 else 1,
                last_gamma,
                f"stage{stage + 1}_block{index + 1}",
                tweaked=tweaked,
                drop=next(rates),
                **({"stride_first": True} if caffe else {}),
            )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        dtype="float32",
        name="logits",
    )(x)
    return keras.Model(image, logits, name=name)


def basic(
    x: Tensor, filters: int, stride: int, last_gamma: str, name: str, tweaked: bool, drop: float
) -> Tensor:
    """Two 3x3 convolutions: [M, H, W, C] -> [M, H / stride, W / stride, filters]."""
    shortcut = _shortcut(x, filters, stride, name, tweaked)
    x = _relu(_conv_norm(x, filters, 3, f"{name}_1", stride=stride), f"{name}_1")
    x = _conv_norm(x, filters, 3, f"{name}_2", gamma=last_gamma)
    return _add(shortcut, x, name, drop)


def bottleneck(
    x: Tensor,
    filters: int,
    stride: int,
    last_gamma: str,
    name: str,
    tweaked: bool,
    drop: float,
    stride_first: bool = False,
) -> Tensor:
    """1x1, 3x3, 1x1: [M, H, W, C] -> [M, H / stride, W / stride, 4 * filters].

    The stride is in the 3x3 (v1.5, Goyal et al. 2017); in the paper's 1x1, which `stride_first`
    asks for, it drops 3/4 of the input unseen.
    """
    shortcut = _shortcut(x, 4 * filters, stride, name, tweaked)
    first, second = (stride, 1) if stride_first else (1, stride)
    x = _relu(_conv_norm(x, filters, 1, f"{name}_1", stride=first), f"{name}_1")
    x = _relu(_conv_norm(x, filters, 3, f"{name}_2", stride=second), f"{name}_2")
    x = _conv_norm(x, 4 * filters, 1, f"{name}_3", gamma=last_gamma)
    return _add(shortcut, x, name, drop)


def _add(shortcut: Tensor, x: Tensor, name: str, drop: float) -> Tensor:
    if drop:
        x = drop_path(x, drop, f"{name}_drop")
    return _relu(keras.layers.Add(name=f"{name}_add")([shortcut, x]), name)


def _shortcut(x: Tensor, filters: int, stride: int, name: str, tweaked: bool) -> Tensor:
    if x.shape[-1] == filters and stride == 1:
        return x
    if tweaked and stride > 1:
        x = keras.layers.AveragePooling2D(
            stride, strides=stride, padding="same", name=f"{name}_shortcut_pool"
        )(x)
        stride = 1
    return _conv_norm(x, filters, 1, f"{name}_shortcut", stride=stride)


def _conv_norm(
    x: Tensor,
    filters: int,
    size: int,
    name: str,
    *,
    stride: int = 1,
    gamma: str = "ones",
    padding: str = "same",
) -> Tensor:
    # No bias in front of a BatchNorm: its gradient is zero but for rounding, which Adam amplifies.
    x = keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return FusedBatchNorm(gamma_initializer=gamma, name=f"{name}_norm")(x)


def _relu(x: Tensor, name: str) -> Tensor:
    return keras.layers.ReLU(name=f"{name}_relu")(x)


# The published variants: block, and blocks of each stage.
_SHAPES: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "resnet18": (basic, (2, 2, 2, 2)),
    "resnet34": (basic, (3, 4, 6, 3)),
    "resnet50": (bottleneck, (3, 4, 6, 3)),
    "resnet101": (bottleneck, (3, 4, 23, 3)),
    "resnet152": (bottleneck, (3, 8, 36, 3)),
}
RESNETS: dict[str, Callable[..., keras.Model]] = {
    name + suffix: partial(
        resnet,
        name=name + suffix,
        block=block,
        depths=depths,
        tweaked=suffix == "d",
        caffe=suffix == "v1",
        pixels="caffe" if suffix == "v1" else "imagenet",
    )
    for suffix in ("", "d", "v1")
    for name, (block, depths) in _SHAPES.items()
    if suffix != "v1" or block is bottleneck
}
