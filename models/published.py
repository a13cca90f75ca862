"""Weights that others have trained: ImageNet's of keras.applications, and files of Keras."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from models import internals, names
from models.errors import ModelError
from models.names import APPLICATIONS, IMAGENET, KERAS

# path of a variable -> its value
Weights = dict[str, np.ndarray]


def imagenet(model: str) -> Weights:
    """What keras.applications publishes for --model, with a head of 1,000 classes.

    Downloads it, or finds it where Keras keeps such files. Raises ModelError.
    """
    names.check_weights(IMAGENET, model)
    name = str(names.application(model))  # that there is one has been checked
    try:
        network = getattr(keras.applications, name)(weights=IMAGENET, classifier_activation=None)
    except Exception as error:  # Keras raises this very type where a URL cannot be fetched
        raise ModelError(
            f"--init_weights={IMAGENET}: the weights of {name} cannot be had: "
            f"{internals.reason(error)}. On a machine without a network, copy them from another "
            "one's ~/.keras/models, or give their file."
        ) from error
    return as_ours(model, network)


def of_file(path: Path, model: str, bare: Callable[[], keras.Model]) -> Weights:
    """The weights in a file of Keras. Raises ModelError.

    bare: returns --model as Keras builds it, with weights of its own; a .weights.h5 is nothing
    without that. What the file does not have, or has in another shape, is left out.
    """
    names.check_weights(str(path), model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each shape that differs: the caller says it
            if path.name.endswith(".keras"):
                network = keras.saving.load_model(path, compile=False)
            else:
                network = bare()
                for variable in network.variables:
                    if keras.backend.is_float_dtype(variable.dtype):
                        variable.assign(np.full(variable.shape, np.nan))
                network.load_weights(path, skip_mismatch=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelError(
            f"--init_weights={path} is no such file of Keras, or of another model: "
            f"{internals.reason(error)[:300]}."
        ) from error
    found = as_ours(model, network)
    return {path: value for path, value in found.items() if not _unread(value)}


def _unread(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and value.size > 0 and bool(np.isnan(value).all())


def as_ours(model: str, network: keras.Model) -> Weights:
    """The weights of a network of keras.applications, under our names, for pixels in RGB.

    Keras feeds those of the Caffe kind with BGR; our "caffe" keeps RGB, so the first kernel's
    channels are reversed. Any other network's weights are what they are.
    """
    weights = {variable.path: variable.numpy() for variable in network.variables}
    name = names.application(model)
    if name is None:
        return weights
    if APPLICATIONS[name] == "caffe":
        first = next(path for path, value in weights.items() if value.ndim == 4)
        weights[first] = weights[first][:, :, ::-1]
    return weights if model.startswith(KERAS) else _resnet(weights)


def _resnet(weights: Weights) -> Weights:
    """ResNet50, 101 and 152 of keras.applications -> resnet50v1, resnet101v1, resnet152v1.

    conv3_block1_2_bn is our stage2_block1_2_norm, and a block's 0 our shortcut. The biases that
    Keras has in front of a norm only shift what the norm subtracts again: its moving mean.
    """
    found = {}
    for path, value in weights.items():
        layer, _, name = path.rpartition("/")
        if name == "bias" and layer.endswith("_conv"):
            continue
        if name == "moving_mean":
            value = value - weights[f"{layer.removesuffix('_bn')}_conv/bias"]
        found[f"{_our_name(layer)}/{name}"] = value
    return found


def _our_name(layer: str) -> str:
    if layer == "predictions":
        return "logits"
    kind = {"conv": "conv", "bn": "norm"}[layer.rpartition("_")[2]]
    place = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_\w+", layer)
    if place is None:
        return f"stem_{kind}"
    part = "shortcut" if place[3] == "0" else place[3]
    return f"stage{int(place[1]) - 1}_block{place[2]}_{part}_{kind}"
