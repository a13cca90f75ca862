"""Four logical CPU devices for the whole session, strategies on them, and small real records."""

import os

# One operation's threads are part of the result's bits, and logical devices cannot be added later.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input import writer
from input.config import WriteConfig
from trainer import cluster

THREADS = 2
CLASSES = ("circle", "cross", "square")


def pytest_addoption(parser):
    parser.addoption("--kill-table", help="File that gets the kill matrix's table.")


def pytest_configure():
    cluster.strategy([f"CPU:{i}" for i in range(4)], intra_op_threads=THREADS)


@pytest.fixture(scope="session")
def strategies() -> dict[int, tf.distribute.Strategy]:
    """Replicas -> a MirroredStrategy over that many logical CPUs."""
    return {n: cluster.strategy([f"CPU:{i}" for i in range(n)], THREADS) for n in (1, 2, 4)}


def draw(label: int, random: np.random.Generator, size: int = 16) -> np.ndarray:
    """uint8[size, size]: a noisy circle, cross or square somewhere near the middle."""
    y, x = np.mgrid[:size, :size] - size / 2 + random.uniform(-2, 2, (2, 1, 1))
    radius = random.uniform(size / 5, size / 3)
    shapes = (
        np.hypot(x, y) < radius,
        (np.abs(x) < radius / 3) | (np.abs(y) < radius / 3),
        np.maximum(np.abs(x), np.abs(y)) < radius,
    )
    return np.clip(200 * shapes[label] + random.normal(30, 20, (size, size)), 0, 255).astype(
        "uint8"
    )


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Records of 160 training and 43 validation images, PNG and JPEG, 16 pixels, 3 classes."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, count in (("train", 160), ("validation", 43)):
        for i in range(count):
            label = i % len(CLASSES)
            path = folder / "images" / split / CLASSES[label] / f"{i}.{('png', 'jpg')[i % 2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(label, random)).save(path)
    out = folder / "records"
    writer.write(
        WriteConfig(images=str(folder / "images"), out=str(out), shards=3), lambda *_: None
    )
    return out
