"""The model's settings. No TensorFlow here: flags and --help read this file."""

from dataclasses import dataclass
from typing import Annotated


class ModelError(ValueError):
    """A model setting is wrong; the message is all a user needs."""


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and its few settings."""

    model: Annotated[
        str,
        "cnn, resnet18, resnet50, keras:NAME for a keras.applications model such as "
        "keras:MobileNetV2, or package.module:function for your own.",
    ] = "cnn"
    dropout: Annotated[
        float, "Dropout rate in front of the classifier, for models that take it."
    ] = 0.0

    def __post_init__(self):
        if not 0.0 <= self.dropout < 1.0:
            raise ModelError(f"--dropout must be at least 0 and below 1, not {self.dropout}.")
