"""The model's settings. No TensorFlow here: flags and --help read this file."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from input.foundation.settings import MOST_USED, AtLeast, Below, Section, check
from models.errors import ModelError


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and its few settings."""

    model: Annotated[
        str,
        "cnn; resnet18, 34, 50, 101, 152, each also with a d (better stem and shortcuts), the last "
        "three with v1 (for the weights of keras.applications); "
        "convnext_tiny, small, base; vit_ti16, s16, b16; keras:NAME for a keras.applications model "
        "such as keras:MobileNetV2; path/to/file.py:function or package.module:function for your "
        "own.",
        Section("Model"),
        MOST_USED,
    ] = "cnn"
    dropout: Annotated[
        float,
        "Dropout rate in front of the classifier, for models of this list.",
        AtLeast(0),
        Below(1),
    ] = 0.0
    pixels: Annotated[
        Literal["auto", "raw", "unit", "imagenet", "caffe"],
        "What the network gets of 8-bit pixels: raw 0..255; unit -1..1; imagenet and caffe less a "
        "mean per channel, imagenet over a deviation too. auto: as the network was published; "
        "raw for your own, or the bytes where it declares an integer input.",
    ] = "auto"
    stochastic_depth: Annotated[
        float,
        "Rate at which the last block of a resnet, convnext or vit is left out for an image; it "
        "grows evenly from 0 with the depth.",
        AtLeast(0),
        Below(1),
    ] = 0.0

    freeze: Annotated[
        str,
        "Regular expression: layers in whose names it is found keep their weights, as in "
        "--freeze='stem|stage[12]'. They cost no gradient, no memory for it and no all-reduce.",
        Section("Fine-tuning"),
    ] = ""

    def __post_init__(self) -> None:
        check(self, ModelError)
        try:
            re.compile(self.freeze)
        except re.error as error:
            raise ModelError(f"--freeze={self.freeze} is no regular expression: {error}.") from None
