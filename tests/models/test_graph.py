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
DIGESTS = """
import sys
from models import graph, own
for argument in sys.argv[1:]:
    name, images = argument.rsplit("*", 1)
    print(graph.digest(own.build(name, (16, 16, 3), 3), int(images)))
"""
PLAIN = {"images": 8, "name": "first", "activation": "ReLU", "rate": 0.25}


def digests(tmp_path, *changes, seed="0"):
    """Of the model, each time with other changes; in one process."""
    arguments = []
    for number, change in enumerate(changes):
        settings = PLAIN | change
        path = tmp_path / f"net{number}.py"
        path.write_text(MODEL.format(**settings))
        arguments.append(f"{path}:build*{settings['images']}")
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-len(changes) :]


def test_the_graph_is_that_of_the_computation(tmp_path):
    others = [{"images": 4}, {"activation": "ELU"}, {"rate": 0.5}]
    first, renamed, *others = digests(tmp_path, {}, {"name": "renamed"}, *others)
    assert renamed == first
    assert digests(tmp_path, {}, seed="7") == [first]
    assert len({first, *others}) == 4
