"""From a ModelConfig to a Keras model: pixels as the records hold them -> float32 logits."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from models import internals, names, own
from models.cnn import cnn
from models.config import ModelConfig
from models.convnext import CONVNEXTS
from models.errors import ModelError
from models.layers import Pixels, with_fused_norms
from models.names import APPLICATIONS, KERAS
from models.resnet import RESNETS
from models.vit import VITS

MODELS: dict[str, Callable[..., keras.Model]] = {"cnn": cnn, **RESNETS, **CONVNEXTS, **VITS}

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


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

    `precision` is "float32", or "bfloat16" or "float16": activations in those, weights and logits
    float32.

    `config.dropout` and `config.stochastic_depth` are for our own networks: another that gets one
    is an error, and so is a cnn with stochastic depth.

    `config.pixels` says what a network gets of uint8 pixels (models.pixels.PIXEL_MODES); floating
    ones pass as they are.

    A user's own model is `function(input_shape=, num_classes=)`, which returns a keras.Model
    from [M, *input_shape] to logits. If that model declares an integer input
    (keras.Input(input_shape, dtype="uint8")), it gets the pixels as the records hold them;
    otherwise floats of 0..255, as from keras.utils.image_dataset_from_directory.

    Raises ModelError for a model that does not exist, cannot be built or returns no logits.
    """
    if input_dtype != "uint8":
        _check_floats(input_dtype, config.pixels)
    with _building(precision, seed):
        model = _built(config, input_shape, input_dtype, num_classes)
    if config.freeze:
        _freeze(model, config)
    return model


def bare(config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """The network of --model as Keras or the user builds it, for a file of its weights.

    For our own the whole model; for others without pixels in front and float32 behind, and with
    Keras' norms.
    """
    with _building("float32", seed=0), _reasons(config.model, input_shape):
        if config.model in MODELS:
            return MODELS[config.model](input_shape, num_classes)
        if config.model.startswith(KERAS):
            return _network(config.model, input_shape, num_classes)
        return own.build(config.model, input_shape, num_classes)


def _freeze(model: keras.Model, config: ModelConfig) -> None:
    """Makes layers constant, by their names. Raises ModelError where none is, or all are."""
    found = [
        layer
        for layer in internals.all_layers(model)
        if layer.weights
        and not isinstance(layer, keras.Model)
        and re.search(config.freeze, layer.name)
    ]
    for layer in found:
        layer.trainable = False
    if not found or not model.trainable_variables:
        which = "every layer" if found else "no layer with weights"
        names = [each.name for each in internals.all_layers(model) if each.weights]
        raise ModelError(
            f"--freeze={config.freeze} is found in {which} of {config.model}; its layers are "
            f"{', '.join(names[1:4])}, .., {names[-1]}."
        )


def _built(
    config: ModelConfig, input_shape: tuple[int, int, int], input_dtype: str, num_classes: int
) -> keras.Model:
    name, asked = config.model, config.pixels
    mode: str | None
    names.check(name)
    given = _own_settings(config)
    if name in MODELS:
        with _reasons(name, input_shape):
            return MODELS[name](input_shape, num_classes, input_dtype=input_dtype, **given)
    if name.startswith(KERAS):
        model, mode = _application(name, input_shape, num_classes)
    else:
        model = own.build(name, input_shape, num_classes)
        mode = _own_mode(name, own.integer_input(model), input_dtype, asked)
    if mode is not None and asked != "auto":
        mode = asked
    with _reasons(name, input_shape):
        return _around(name, model, mode, input_shape, input_dtype, num_classes)


def _own_settings(config: ModelConfig) -> dict[str, Any]:
    """The settings that are for our own networks, as those take them. Raises ModelError."""
    taken = inspect.signature(MODELS[config.model]).parameters if config.model in MODELS else {}
    for name in ("dropout", "stochastic_depth"):
        if getattr(config, name) and name not in taken:
            raise ModelError(
                f"--{name}={getattr(config, name):g}: --model={config.model} does not take it. "
                "Leave it out."
            )
    asked: dict[str, Any] = {"dropout": config.dropout, "stochastic_depth": config.stochastic_depth}
    if config.pixels != "auto":
        asked["pixels"] = config.pixels
    return {name: value for name, value in asked.items() if name in taken}


def _check_floats(input_dtype: str, asked: str) -> None:
    if not keras.backend.is_float_dtype(input_dtype):
        raise ModelError(
            f"The records hold {input_dtype} images; models take uint8 or floating. "
            "Write the records again."
        )
    if asked != "auto":
        raise ModelError(
            f"--pixels={asked} is for pixels of 8 bits; the records hold {input_dtype} images, "
            "which every model gets as they are. Leave --pixels out."
        )


@contextmanager
def _building(precision: str, seed: int) -> Iterator[None]:
    """Keras as in a new process: dtype policy, layer names, seeds. Puts back the first two.

    What ~/.keras/keras.json would change, and with it the bits, is set for the whole process:
    optimizers and losses read it as well.
    """
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"Keras runs on {keras.backend.backend()}, as KERAS_BACKEND or ~/.keras/keras.json "
            "says. Set KERAS_BACKEND=tensorflow before keras is imported."
        )
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
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
) -> tuple[keras.Model, str]:
    """The network of keras.applications.NAME, without its softmax, and the pixels' mode."""
    with _reasons(name, input_shape):
        network = _network(name, input_shape, num_classes)
        return with_fused_norms(network), APPLICATIONS[name.removeprefix(KERAS)]


def _network(name: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    return getattr(keras.applications, name.removeprefix(KERAS))(
        weights=None, input_shape=input_shape, classes=num_classes, classifier_activation=None
    )


def _own_mode(name: str, integer: str | None, input_dtype: str, asked: str) -> str | None:
    """The pixels' mode of an own model; None: as the records hold them."""
    if integer is None:
        return "raw"  # the convention of Keras: what is done to 0..255 is part of the model
    if input_dtype != "uint8":
        raise ModelError(
            f"{name} declares {integer} pixels and the records hold {input_dtype}. "
            "Declare a float input."
        )
    if asked not in ("auto", "raw"):
        raise ModelError(
            f"{name} declares {integer} pixels, so it gets 0..255 and not --pixels={asked}. "
            "Declare a float input, or leave --pixels out."
        )
    return None


def _around(
    name: str,
    network: keras.Model,
    mode: str | None,
    input_shape: tuple[int, int, int],
    input_dtype: str,
    num_classes: int,
) -> keras.Model:
    """The network between its pixels and float32 logits."""

    def named(name: str) -> str:  # Names of layers are unique: the network may be called "logits".
        return f"{name}_" if name == network.name else name

    image = keras.Input(input_shape, dtype=input_dtype, name=named("image"))
    pixels = image if mode is None else Pixels(mode, name=named("pixels"))(image)
    with own.failing(name):
        output = network(pixels)
    if not network.trainable_variables:
        raise ModelError(
            f"{name} has no trainable weights: there is nothing to train. Set trainable = True on "
            "a layer that has some."
        )
    shape = getattr(output, "shape", type(output).__name__)
    if shape != (None, num_classes):
        raise ModelError(f"{name} must return logits of shape (None, {num_classes}), not {shape}.")
    logits = keras.layers.Activation("linear", dtype="float32", name=named("logits"))(output)
    return keras.Model(image, logits, name=network.name)
