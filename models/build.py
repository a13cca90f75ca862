"""From a ModelConfig to a Keras model: pixels as the records hold them -> float32 logits."""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import keras
from keras.src.backend.common import global_state

from models.cnn import cnn
from models.config import ModelConfig, ModelError
from models.layers import Pixels
from models.resnet import resnet18, resnet50

MODELS = {"cnn": cnn, "resnet18": resnet18, "resnet50": resnet50}

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}

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


def build(
    config: ModelConfig,
    *,
    input_shape: tuple[int, int, int],
    input_dtype: str = "uint8",
    num_classes: int,
    precision: str = "float32",
    seed: int = 0,
) -> keras.Model:
    """A model: input_dtype[M, *input_shape] -> logits float32[M, num_classes].

    Call it inside the strategy's scope. The same seed (0 .. 2**32 - 1) gives the same bits, and
    the same config the same variable paths, whatever was built before in the process. It seeds
    Python, NumPy and TensorFlow on the way (keras.utils.set_random_seed).

    `precision` is "float32", or "bfloat16": activations in bfloat16, weights and logits float32.

    `config.dropout` is for our own networks; the others have their own and ignore it.

    A model of your own is `function(input_shape=, num_classes=)`, which returns a keras.Model
    from [M, *input_shape] to logits. If that model declares an integer input
    (keras.Input(input_shape, dtype="uint8")), it gets the pixels as the records hold them;
    otherwise it gets floats: uint8 pixels as [-1, 1], float records as they are.

    Raises ModelError for a model that does not exist, cannot be built or returns no logits.
    """
    if input_dtype != "uint8" and not keras.backend.is_float_dtype(input_dtype):
        raise ModelError(
            f"The records hold {input_dtype} images; models take uint8 or floating. "
            "Write the records again."
        )
    name = config.model
    with _building(precision, seed):
        if name in MODELS:
            with _reasons(name, input_shape):
                return MODELS[name](input_shape, num_classes, config.dropout, input_dtype)
        if name.startswith("keras:"):
            mode, model = _application(name, input_shape, num_classes)
        elif re.fullmatch(r"\w+(\.\w+)*:\w+", name):
            mode, model = _own(name, input_shape, input_dtype, num_classes)
        else:
            raise ModelError(
                f"There is no model {name!r}.{_near(name, MODELS)} Models: {', '.join(MODELS)}, "
                "keras:NAME for one of keras.applications, package.module:function for your own."
            )
        with _reasons(name, input_shape):
            return _around(name, model, mode, input_shape, input_dtype, num_classes)


@contextmanager
def _building(precision: str, seed: int) -> Iterator[None]:
    """Keras as in a fresh process: dtype policy, name counters, seeds. Puts back the first two."""
    policy = keras.config.dtype_policy()
    counters = global_state.get_global_attribute("object_name_uids")
    keras.config.set_dtype_policy(POLICIES[precision])
    # Not keras.utils.clear_session(): inside strategy.scope() it throws away the default graph
    # and the strategy with it, so that variables are no longer mirrored.
    global_state.set_global_attribute("object_name_uids", None)
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        global_state.set_global_attribute("object_name_uids", counters)


@contextmanager
def _reasons(name: str, input_shape: tuple[int, int, int]) -> Iterator[None]:
    """Passes on why Keras refuses to build a model, which is nearly always the image size."""
    try:
        yield
    except ModelError:
        raise
    except ValueError as error:
        size = "x".join(map(str, input_shape))
        # Keras prints its reason in bold, between two lines about its own call.
        bold = re.search(r"\x1b\[1m(.*)\x1b\[0m", str(error), re.DOTALL)
        reason = " ".join((bold[1] if bold else str(error)).split()).rstrip(".")
        raise ModelError(
            f"{name} cannot be built for images of {size}: {reason}. "
            "Set --image_size or choose another --model."
        ) from error


def _application(
    name: str, input_shape: tuple[int, int, int], num_classes: int
) -> tuple[str, keras.Model]:
    """The pixels' mode and the network of keras.applications.NAME, without its softmax."""
    application = name.removeprefix("keras:")
    if application not in APPLICATIONS:
        raise ModelError(
            f"keras.applications has no model {application!r}.{_near(application, APPLICATIONS)} "
            f"It has {', '.join(APPLICATIONS)}."
        )
    with _reasons(name, input_shape):
        model = getattr(keras.applications, application)(
            weights=None,
            input_shape=input_shape,
            classes=num_classes,
            classifier_activation=None,
        )
    return APPLICATIONS[application], model


def _own(
    name: str, input_shape: tuple[int, int, int], input_dtype: str, num_classes: int
) -> tuple[str | None, keras.Model]:
    """The pixels' mode (None: as the records hold them) and the network of the user's function."""
    function = _function(name)
    model = function(input_shape=input_shape, num_classes=num_classes)
    if not isinstance(model, keras.Model):
        kind = type(model)
        raise ModelError(
            f"{name} must return a keras.Model, not {kind.__module__}.{kind.__qualname__}."
        )
    if _ends_in_softmax(model):
        raise ModelError(
            f"{name} ends in a softmax, and the loss applies its own. Return the logits: leave "
            "the last activation out."
        )
    inputs = getattr(model, "inputs", None) or []  # A subclass of keras.Model declares none.
    if any(tensor.shape[0] is not None for tensor in inputs):
        raise ModelError(
            f"{name} fixes its batch at {inputs[0].shape[0]}; the input pipeline alone decides "
            "on that. Leave batch_size out of keras.Input."
        )
    if all(keras.backend.is_float_dtype(tensor.dtype) for tensor in inputs):
        return "unit", model
    if input_dtype != "uint8":
        raise ModelError(
            f"{name} declares {inputs[0].dtype} pixels and the records hold {input_dtype}. "
            "Declare a float input."
        )
    return None, model


def _function(name: str) -> Callable[..., object]:
    module_name, _, function_name = name.partition(":")
    # An installed command does not look for modules where the user stands; python -m does.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(
            f"{name}: importing {module_name} failed: {error}. Start in the folder that holds "
            "it, put that on PYTHONPATH, or pip install it."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ModelError(
            f"{name}: {module.__file__} has no function {function_name!r}."
            f"{_near(function_name, vars(module))}"
        )
    try:
        inspect.signature(function).bind(input_shape=None, num_classes=None)
    except TypeError as error:
        raise ModelError(
            f"{name} must be callable as {function_name}(input_shape=(224, 224, 3), "
            f"num_classes=1000): {error}."
        ) from error
    return function


def _near(name: str, names: Iterable[str]) -> str:
    spelled = {known.lower(): known for known in names}
    close = [spelled[match] for match in get_close_matches(name.lower(), spelled)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _ends_in_softmax(model: keras.Model) -> bool:
    if not getattr(model, "outputs", None):
        return False
    last = model.layers[-1]
    return last.output is model.outputs[0] and (
        isinstance(last, keras.layers.Softmax)
        or getattr(last, "activation", None) is keras.activations.softmax
    )


def _around(
    name: str,
    network: keras.Model,
    mode: str | None,
    input_shape: tuple[int, int, int],
    input_dtype: str,
    num_classes: int,
) -> keras.Model:
    """The network between its pixels and float32 logits."""
    image = keras.Input(input_shape, dtype=input_dtype, name="image")
    output = network(image if mode is None else Pixels(mode, name="pixels")(image))
    shape = getattr(output, "shape", type(output).__name__)
    if shape != (None, num_classes):
        raise ModelError(f"{name} must return logits of shape (None, {num_classes}), not {shape}.")
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(output)
    return keras.Model(image, logits, name=network.name)
