"""The input's benchmark measures every variant, on photographs that are there."""

import numpy as np
import pytest
from PIL import Image

from input.errors import InputError
from scripts.benchmarks import input as benchmarks
from scripts.benchmarks.config import BenchmarkConfig
from tests.conftest import THREADS


def test_the_input_needs_photographs(tmp_path):
    for images in ("", str(tmp_path)):
        with pytest.raises(InputError, match=r"--images=DIR with 32 or more \.jpg files; .* has 0"):
            benchmarks.images_per_second(BenchmarkConfig(images=images))


def test_every_variant_of_the_input_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "cores", lambda: THREADS)  # TensorFlow has started with them
    random = np.random.default_rng(0)
    for i in range(40):
        pixels = random.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    config = BenchmarkConfig(what="input", images=str(tmp_path), image_size=16, rounds=1)
    found = benchmarks.images_per_second(config)
    assert [(row.first, row.second) for row in found] == [
        ("samestep", "plain idiom"),
        ("samestep", "best idiom"),
        ("samestep", "decoding alone"),
        ("short side 256", "samestep"),
        ("raw 256", "samestep"),
    ]
    assert all(row.first_rate > 0 and row.second_rate > 0 for row in found)


def test_what_is_in_stock_is_taken_before_the_clock_starts():
    taken = []
    seconds = benchmarks.drawing(map(taken.append, iter(int, 1)), images=64)
    assert seconds() >= 0
    assert len(taken) == benchmarks.IN_STOCK + 64 // benchmarks.MICRO_BATCH_SIZE
