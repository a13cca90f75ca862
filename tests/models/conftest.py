"""What the models' tests share: a model of any name, and networks as a user writes them."""

import sys

import numpy as np
import pytest

from models.build import build_model
from models.config import ModelConfig


def made(model, *, size=32, seed=1, num_classes=10, input_dtype="uint8", **settings):
    """settings: of ModelConfig, and the precision."""
    precision = settings.pop("precision", "float32")
    return build_model(
        ModelConfig(model, **settings),
        input_shape=settings.pop("input_shape", (size, size, 3)),
        num_classes=num_classes,
        input_dtype=input_dtype,
        precision=precision,
        seed=seed,
    )


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def bits(model):
    return {variable.path: variable.numpy().tobytes() for variable in model.variables}


def size_of(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


OWN = """
import keras
from keras import layers

def _sequential(*first, units, batch=None, **declared):
    return keras.Sequential([
        *([keras.Input(batch_size=batch, **declared)] if declared else []),
        *first, layers.GlobalAveragePooling2D(), layers.Dense(units),
    ])

def floats(input_shape, num_classes):
    return _sequential(layers.Conv2D(4, 3), units=num_classes, shape=input_shape)

def undeclared(input_shape, num_classes):
    return _sequential(layers.Conv2D(4, 3), units=num_classes)

def bytes_(input_shape, num_classes):
    return _sequential(
        layers.Rescaling(1.0), layers.Conv2D(4, 3),
        units=num_classes, shape=input_shape, dtype="uint8",
    )

class Subclass(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.conv, self.pool = layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()
        self.head = layers.Dense(units)

    def call(self, image):
        return self.head(self.pool(self.conv(image)))

def subclass(input_shape, num_classes):
    return Subclass(num_classes)

def nothing(input_shape, num_classes):
    pass

def seven_classes(input_shape, num_classes):
    return _sequential(units=7, shape=input_shape)

def batch_of_8(input_shape, num_classes):
    return _sequential(units=num_classes, shape=input_shape, batch=8)

def eight_pixels(input_shape, num_classes):
    return _sequential(units=num_classes, shape=(8, 8, 3))

def positional(shape, classes):
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Makes OWN importable as own_package.networks, and own_broken, whose import fails."""
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "networks.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("import a_module_that_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_package.networks"
    for name in ("own_package", "own_package.networks", "own_broken"):
        sys.modules.pop(name, None)


@pytest.fixture
def write(tmp_path):
    """Writes PATH/net.py, whose function `net` has this body, from line 7 on; PATH/net.py:net."""

    def written(body, after=""):
        lines = "\n".join("    " + line for line in body.strip().splitlines())
        path = tmp_path / "net.py"
        path.write_text(
            "import keras\nimport tensorflow as tf\n\nL = keras.layers\n\n"
            f"def net(input_shape, num_classes):\n{lines}\n{after}\n"
        )
        return f"{path}:net"

    return written
