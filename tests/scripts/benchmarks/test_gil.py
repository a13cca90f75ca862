"""What holds the GIL is measured for both decoders, and the rate of several threads."""

from input.native import library
from scripts.benchmarks import gil
from scripts.benchmarks.comparison import Comparison
from scripts.benchmarks.config import BenchmarkConfig


def test_every_decoder_is_measured(photographs, monkeypatch):
    monkeypatch.setattr(gil, "THREADED_IMAGES", 256)
    config = BenchmarkConfig(what="gil", images=photographs, image_size=16, rounds=1)
    found = gil.gil_held(config)
    decoders = ["tensorflow", "native"] if library.available() else ["tensorflow"]
    held = [row for row in found if isinstance(row, gil.Held)]
    assert [(row.records, row.decoder) for row in held] == [
        (records, decoder) for records in ("JPEG", "raw of 256") for decoder in decoders
    ]
    assert all(0 < row.microseconds < 1e6 for row in held)
    if library.available():
        threads = [row.first for row in found if isinstance(row, Comparison)]
        assert threads == 2 * ["2 threads", "4 threads"]
