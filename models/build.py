"""The model a run names: one of ours, one of keras.applications, or the user's own function."""

import difflib
import importlib
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import keras

from models.cnn import cnn
from models.config import ModelConfig, ModelError
from models.layers import Pixels
from models.resnet import resnet18, resnet50

MODELS = {"cnn": cnn, "resnet18": resnet18, "resnet50": resnet50}

# What each family of keras.applications expects of its pixels; the first pattern that fits. Those
# with "raw" normalise inside the model.
APPLICATION_PIXELS = {
    "EfficientNet*": "raw",
    "MobileNetV3*": "raw",
    "ConvNeXt*": "raw",
    "DenseNet*": "imagenet",
    "ResNet*V2": "unit",
    "ResNet*": "caffe",
    "VGG*": "caffe",
    "*": "unit",
}


def build(
    config: ModelConfig,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    precision: str = "float32",
    seed: int = 0,
) -> keras.Model:
    """uint8[M, S, S, 3] -> logits float32[M, num_classes]; the same seed gives the same weights.

    config.model is a name of MODELS, keras:NAME, or package.module:function. The user's function is
    called with input_shape and num_classes and returns a Keras model; unless that takes uint8, it
    gets pixels in [-1, 1]. precision: "float32", or "bfloat16" for the activations. Raises
    ModelError.
    """
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        if config.model in MODELS:
            return MODELS[config.model](input_shape, num_classes, config.dropout)
        if config.model.startswith("keras:"):
            name = config.model.removeprefix("keras:")
            return _with_pixels(_application(name, input_shape, num_classes), _pixels(name))
        if ":" in config.model:
            model = _own(config.model, input_shape, num_classes)
            return model if model.input.dtype == "uint8" else _with_pixels(model, "unit")
    finally:
        keras.config.set_dtype_policy(policy)
    raise ModelError(
        f"--model={config.model} is none of {', '.join(MODELS)}.{_near(config.model, MODELS)} Or name "
        "a keras.applications model as keras:NAME, or your own as package.module:function."
    )


def applications() -> dict[str, Callable[..., keras.Model]]:
    """Name -> constructor of every model in keras.applications."""
    found = vars(keras.applications).items()
    return {name: make for name, make in found if callable(make) and name[0].isupper()}


def _with_pixels(model: keras.Model, mode: str) -> keras.Model:
    """The model behind uint8 pixels, its logits in float32."""
    image = keras.Input(model.input_shape[1:], dtype="uint8", name="image")
    logits = model(Pixels(mode, name="pixels")(image))
    logits = keras.layers.Activation("linear", dtype="float32", name="float32_logits")(logits)
    return keras.Model(image, logits, name=f"{model.name}_on_pixels")


def _pixels(name: str) -> str:
    return next(mode for family, mode in APPLICATION_PIXELS.items() if fnmatch(name, family))


def _application(name: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    make = applications().get(name)
    if make is None:
        raise ModelError(
            f"--model=keras:{name}: keras.applications has no {name}.{_near(name, applications())}"
        )
    try:
        return make(
            weights=None, input_shape=input_shape, classes=num_classes, classifier_activation=None
        )
    except ValueError as error:
        raise ModelError(f"--model=keras:{name} at {input_shape[0]} pixels: {error}") from None


def _own(path: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    module_name, _, function_name = path.partition(":")
    # An installed command does not look for modules where the user stands; python -m does.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"--model={path}: {error}. Start where {module_name} can be imported, or set PYTHONPATH."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ModelError(f"--model={path}: {module_name} has no function {function_name!r}.")
    model = function(input_shape=input_shape, num_classes=num_classes)
    if not isinstance(model, keras.Model):
        raise ModelError(f"--model={path} must return a keras.Model, not {type(model).__name__}.")
    for what, found, wanted in (
        ("take", model.input_shape, (None, *input_shape)),
        ("return", model.output_shape, (None, num_classes)),
    ):
        if found != wanted:
            raise ModelError(f"--model={path} must {what} {wanted}, not {found}.")
    return model


def _near(name: str, names) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""
