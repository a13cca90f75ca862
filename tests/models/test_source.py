"""A model's file is found without running it; the same computation has the same graph."""

import os
import subprocess
import sys

import pytest

from models import source
from tests.conftest import ROOT

BOOM = "raise SystemExit('run')\ndef build(input_shape, num_classes): ...\n"


@pytest.mark.parametrize(
    ("name", "code"),
    [("cnn", False), ("keras:MobileNetV2", False), ("net:build", True), ("a/net.py:build", True)],
)
def test_what_is_code(name, code):
    assert source.is_code(name) is code


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "package" / "inner").mkdir(parents=True)
    for file in ("net.py", "package/__init__.py", "package/net.py", "package/inner/net.py"):
        (tmp_path / file).write_text(BOOM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("net:build", "net.py"),
        ("net.py:build", "net.py"),
        ("package:build", "package/__init__.py"),
        ("package.net:build", "package/net.py"),
        ("./package/net.py:build", "package/net.py"),
        ("nowhere:build", None),
        ("net.inner:build", None),
    ],
)
def test_the_file_is_found_and_not_run(code, name, file):
    assert source.find(name) == (code / file if file else None)
    assert (source.digest(name) != "") == (file is not None)


def test_a_changed_file_has_another_digest(code):
    before = source.digest("net:build")
    assert source.digest("package.net:build") == before
    (code / "net.py").write_text(BOOM + "# a comment\n")
    assert source.digest("net:build") != before


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
from models import own, source
print(source.graph_digest(own.build(sys.argv[1], (16, 16, 3), 3), int(sys.argv[2])))
"""


def graph(tmp_path, images=8, name="first", activation="ReLU", rate=0.25, seed="0"):
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
    first = graph(tmp_path)
    assert graph(tmp_path, seed="7") == first
    assert graph(tmp_path, name="renamed") == first
    others = [
        graph(tmp_path, images=4),
        graph(tmp_path, activation="ELU"),
        graph(tmp_path, rate=0.5),
    ]
    assert len({first, *others}) == 4
