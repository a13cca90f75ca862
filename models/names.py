"""Which models a --model can name, checked before one is loaded. No TensorFlow here."""

import re
from pathlib import Path

from input.foundation.text import did_you_mean
from models.errors import ModelError

# The rows of models.build.MODELS.
OWN = (
    "cnn",
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d"),
    *("resnet50v1", "resnet101v1", "resnet152v1"),
    *("convnext_tiny", "convnext_small", "convnext_base"),
    *("vit_ti16", "vit_s16", "vit_b16"),
)
KERAS = "keras:"  # begins the name of one of keras.applications
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
# What --init_weights names beside a run's folder: as published, and files of Keras.
IMAGENET = "imagenet"
FILES = (".weights.h5", ".keras")
# A function of the user's.
IN_MODULE = r"\w+(\.\w+)*:\w+"
IN_FILE = r".+\.py:\w+"


def is_code(name: str) -> bool:
    """Whether a --model is code of the user's, which runs when it is imported."""
    return ":" in name and not name.startswith(KERAS)


def check(name: str) -> None:
    """Raises ModelError where no model has the name, or the file that it names is not there."""
    if name.startswith(KERAS):
        application = name.removeprefix(KERAS)
        if application not in APPLICATIONS:
            raise ModelError(
                f"keras.applications has no model {application!r}."
                f"{did_you_mean(application, APPLICATIONS)} "
                f"It has {', '.join(APPLICATIONS)}."
            )
    elif re.fullmatch(IN_FILE, name):
        path = Path(name.rpartition(":")[0])
        if not path.is_file():
            raise ModelError(f"{name}: there is no file {path} here, in {Path.cwd()}.")
    elif name not in OWN and not re.fullmatch(IN_MODULE, name):
        alike = {*OWN, *(KERAS + application for application in APPLICATIONS)}
        raise ModelError(
            f"There is no model {name!r}.{did_you_mean(name, alike)} Models: "
            f"{', '.join(OWN)}, keras:NAME for one of keras.applications, "
            "path/to/file.py:function or package.module:function for your own."
        )


def application(model: str) -> str | None:
    """The name in keras.applications of the network whose weights --model takes; None: of none."""
    if model.startswith(KERAS):
        return model.removeprefix(KERAS)
    found = re.fullmatch(r"resnet(50|101|152)v1", model)
    return found and f"ResNet{found[1]}"


def check_weights(asked: str, model: str) -> None:
    """Raises ModelError where there are no published weights for --model, or no such file.

    asked: IMAGENET, or a path that ends as FILES do.
    """
    if asked == IMAGENET and application(model) is None:
        raise ModelError(
            f"--init_weights={IMAGENET}: there are none for --model={model}, only for keras:NAME "
            "and resnet50v1, resnet101v1, resnet152v1. Choose one of those, or give a file or a "
            "run's folder."
        )
    if asked != IMAGENET and not Path(asked).is_file():
        raise ModelError(f"--init_weights={asked} is no file.")
