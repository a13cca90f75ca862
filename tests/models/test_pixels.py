"""A network gets the pixels that it was published with, or those that --pixels says."""

import inspect
import sys
from typing import get_args, get_type_hints

import keras
import numpy as np
import pytest

from models.config import ModelConfig
from models.layers import PIXEL_MODES, Pixels
from models.names import APPLICATIONS
from models.pixels import shown
from tests.conftest import error
from tests.models.conftest import made, pixels


def test_applications_get_the_pixels_that_keras_preprocesses_them_with():
    image = pixels(2, 4, 4, 3)
    functions = {
        name: function
        for name, function in vars(keras.applications).items()
        if inspect.isfunction(function)
    }
    assert set(APPLICATIONS) == set(functions)
    for name, mode in APPLICATIONS.items():
        preprocess = sys.modules[functions[name].__module__].preprocess_input
        expected = preprocess(image.astype(np.float32))
        if mode == "caffe":
            expected = expected[..., ::-1]  # The order of the channels is free: see PIXEL_MODES.
        np.testing.assert_allclose(
            Pixels(mode)(image), expected, rtol=1e-5, atol=1e-5, err_msg=name
        )


def test_the_modes_are_the_flags():
    assert get_args(get_type_hints(ModelConfig)["pixels"]) == ("auto", *PIXEL_MODES)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("cnn", {}, "unit: -1..1 in float32"),
        ("cnn", {"pixels": "raw"}, "raw: 0..255 in float32"),
        (
            "resnet18",
            {"precision": "bfloat16"},
            "imagenet: less 123.7 116.3 103.5, over 58.4 57.12 57.38 in bfloat16",
        ),
        ("resnet18", {"pixels": "unit"}, "unit: -1..1 in float32"),
        ("keras:MobileNetV2", {}, "unit: -1..1 in float32"),
        ("keras:MobileNetV2", {"pixels": "caffe"}, "caffe: less 123.7 116.8 103.9 in float32"),
        ("own_package.networks:floats", {}, "raw: 0..255 in float32"),
        ("own_package.networks:subclass", {"pixels": "unit"}, "unit: -1..1 in float32"),
        ("own_package.networks:bytes_", {}, "uint8 as the records hold them"),
        ("own_package.networks:bytes_", {"pixels": "raw"}, "uint8 as the records hold them"),
        ("own_package.networks:floats", {"input_dtype": "float32"}, "float32 as the records hold"),
        ("cnn", {"input_dtype": "float32"}, "float32 as the records hold them"),
    ],
)
def test_what_a_model_gets(own, model, settings, words):
    assert shown(made(model, **settings)).startswith(words)


@pytest.mark.parametrize("mode", PIXEL_MODES)
@pytest.mark.parametrize("model", ["cnn", "own_package.networks:floats"])
def test_a_mode_is_for_every_model(own, model, mode):
    """The bytes in a mode, against the same floats from records that hold floats."""
    image = pixels(2, 16, 16, 3)
    network, floats = made(model, size=16, pixels=mode), made(model, size=16, input_dtype="float32")
    mean, deviation = PIXEL_MODES[mode]
    np.testing.assert_allclose(
        network(image), floats((image - np.float32(mean)) / np.float32(deviation)), rtol=1e-4
    )


def test_modes_that_cannot_be_had_are_errors(own):
    assert error(made, "cnn", pixels="raw", input_dtype="float32") == (
        "--pixels=raw is for pixels of 8 bits; the records hold float32 images, which every model "
        "gets as they are. Leave --pixels out."
    )
    assert error(made, "own_package.networks:bytes_", pixels="unit") == (
        "own_package.networks:bytes_ declares uint8 pixels, so it gets 0..255 and not "
        "--pixels=unit. Declare a float input, or leave --pixels out."
    )
