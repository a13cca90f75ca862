"""The same computation has the same digest, whatever its layers are called."""

import os
import subprocess
import sys

from tests.conftest import ROOT

MODEL = """
import keras
def build(input_shape, num_classes):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, name="{name}")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.{activation}()(keras.layers.Dropout({rate})(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(num_classes)(x))
"""
DIGEST = """
import sys
from models import graph, own
print(graph.digest(own.build(sys.argv[1], (16, 16, 3), 3), int(sys.argv[2])))
"""


def digest(tmp_path, images=8, name="first", activation="ReLU", rate=0.25, seed="0"):
    path = tmp_path / "net.py"
    path.write_text(MODEL.format(name=name, activation=activation, rate=rate))
    done = subprocess.run(
        [sys.executable, "-c", DIGEST, f"{path}:build", str(images)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


def test_the_graph_is_that_of_the_computation(tmp_path):
    first = digest(tmp_path)
    assert digest(tmp_path, seed="7") == first
    assert digest(tmp_path, name="renamed") == first
    others = [
        digest(tmp_path, images=4),
        digest(tmp_path, activation="ELU"),
        digest(tmp_path, rate=0.5),
    ]
    assert len({first, *others}) == 4
