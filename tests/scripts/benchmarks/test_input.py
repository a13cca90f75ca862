"""The input's benchmark measures every variant, on photographs that are there."""

import pytest

from input.errors import InputError
from input.native import library
from scripts.benchmarks import input as benchmarks
from scripts.benchmarks.config import BenchmarkConfig
from tests.conftest import THREADS


def test_the_input_needs_photographs(tmp_path):
    for images in ("", str(tmp_path)):
        with pytest.raises(InputError, match=r"--images=DIR with 32 or more \.jpg files; .* has 0"):
            benchmarks.images_per_second(BenchmarkConfig(images=images))


def test_every_variant_of_the_input_is_measured(photographs, monkeypatch):
    monkeypatch.setattr(benchmarks, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(benchmarks, "IMAGES_PER_ROUND", 64)
    monkeypatch.setattr(benchmarks, "cores", lambda: THREADS)  # TensorFlow has started with them
    config = BenchmarkConfig(what="input", images=photographs, image_size=16, rounds=1)
    found = benchmarks.images_per_second(config)
    decoders = ["native", "tensorflow"] if library.available() else ["tensorflow"]
    ours = [
        f"{kind}, {each}" for each in decoders for kind in ("JPEG", "JPEG of 256", "raw of 256")
    ]
    pairs = [(ours[0], each) for each in ("plain idiom", "Model Garden's idiom", "decoding alone")]
    pairs += [(each, ours[0]) for each in ours[1:]]
    assert [(row.first, row.second) for row in found] == 2 * pairs
    assert {row.what.rpartition(" ")[2] for row in found} == {"wall", "processor"}
    assert all(row.first_rate > 0 and row.second_rate > 0 for row in found)


def test_what_is_in_stock_is_taken_before_the_clock_starts(monkeypatch):
    monkeypatch.setattr(benchmarks, "PAUSE_SECONDS", 0.0)
    taken = []
    seconds = benchmarks.drawing(map(taken.append, iter(int, 1)), images=64)
    assert seconds() >= 0
    assert len(taken) == benchmarks.IN_STOCK + 64 // benchmarks.MICRO_BATCH_SIZE
