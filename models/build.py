"""From a ModelConfig to a Keras model: pixels as the records hold them -> float32 logits."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras

from models import internals, own
from models.cnn import cnn
from models.config import ModelConfig
from models.errors import ModelError
from models.layers import Pixels
from models.own import did_you_mean
from models.resnet import resnet18, resnet50

MODELS: dict[str, Callable[..., keras.Model]] = {
    "cnn": cnn,
    "resnet18": resnet18,
    "resnet50": resnet50,
}

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


def build_model(
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

    A user's own model is `function(input_shape=, num_classes=)`, which returns a keras.Model
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
    mode: str | None
    with _building(precision, seed):
        if name in MODELS:
            with _reasons(name, input_shape):
                return MODELS[name](input_shape, num_classes, config.dropout, input_dtype)
        if name.startswith("keras:"):
            mode, model = _application(name, input_shape, num_classes)
        elif re.fullmatch(f"{own.IN_MODULE}|{own.IN_FILE}", name):
            mode, model = _own(name, input_shape, input_dtype, num_classes)
        else:
            raise ModelError(
                f"There is no model {name!r}.{did_you_mean(name, MODELS)} Models: "
                f"{', '.join(MODELS)}, keras:NAME for one of keras.applications, "
                "path/to/file.py:function or package.module:function for your own."
            )
        with _reasons(name, input_shape):
            return _around(name, model, mode, input_shape, input_dtype, num_classes)


@contextmanager
def _building(precision: str, seed: int) -> Iterator[None]:
    """Keras as in a new process: dtype policy, layer names, seeds. Puts back the first two."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    keras.utils.set_random_seed(seed)
    try:
        with internals.fresh_names():
            yield
    finally:
        keras.config.set_dtype_policy(policy)


@contextmanager
def _reasons(name: str, input_shape: tuple[int, int, int]) -> Iterator[None]:
    """Passes on why Keras refuses to build a model, which is nearly always the image size."""
    try:
        yield
    except ModelError:
        raise
    except ValueError as error:
        size = "x".join(map(str, input_shape))
        raise ModelError(
            f"{name} cannot be built for images of {size}: {internals.reason(error)}. "
            "Set --image_size or choose another --model."
        ) from error


def _application(
    name: str, input_shape: tuple[int, int, int], num_classes: int
) -> tuple[str, keras.Model]:
    """The pixels' mode and the network of keras.applications.NAME, without its softmax."""
    application = name.removeprefix("keras:")
    if application not in APPLICATIONS:
        raise ModelError(
            f"keras.applications has no model {application!r}."
            f"{did_you_mean(application, APPLICATIONS)} "
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
    model = own.load(name)(input_shape=input_shape, num_classes=num_classes)
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
