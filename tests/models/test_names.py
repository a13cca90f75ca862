"""Which models there are is known without one of them, and is what models.build has."""

import pytest

from models import names
from models.build import MODELS
from tests.conftest import error


def test_the_names_are_those_of_the_table():
    assert tuple(MODELS) == names.OWN


@pytest.mark.parametrize(
    ("name", "code"),
    [("cnn", False), ("keras:MobileNetV2", False), ("net:build", True), ("a/net.py:build", True)],
)
def test_what_is_code(name, code):
    assert names.is_code(name) is code


@pytest.mark.parametrize("name", ["cnn", "vit_b16", "keras:VGG16", "net:build", "a.b_c:build"])
def test_what_may_be_a_model(name):
    names.check(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resent50", "There is no model 'resent50'. Did you mean resnet50"),
        ("MobileNetV2", "There is no model 'MobileNetV2'. Did you mean keras:MobileNetV2"),
        ("keras:ResNet5", "keras.applications has no model 'ResNet5'. Did you mean ResNet50"),
        ("nets/none.py:build", "nets/none.py:build: there is no file nets/none.py here, in "),
        ("net.py", "There is no model 'net.py'."),
    ],
)
def test_a_name_of_nothing_is_said(name, said):
    assert error(names.check, name).startswith(said)


@pytest.mark.parametrize(
    ("model", "application"),
    [("keras:VGG16", "VGG16"), ("resnet50v1", "ResNet50"), ("resnet50", None), ("cnn", None)],
)
def test_whose_weights_a_model_takes(model, application):
    assert names.application(model) == application


def test_weights_that_are_not_there_are_said(tmp_path):
    (tmp_path / "net.keras").touch()
    names.check_weights(names.IMAGENET, "keras:VGG16")
    names.check_weights(str(tmp_path / "net.keras"), "cnn")
    assert "there are none for --model=cnn" in error(names.check_weights, names.IMAGENET, "cnn")
    assert error(names.check_weights, "no.keras", "cnn") == "--init_weights=no.keras is no file."
