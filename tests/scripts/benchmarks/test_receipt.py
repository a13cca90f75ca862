"""The benchmark of the receipt runs, and its share is that of the default interval."""

import pytest

from scripts.benchmarks import receipt as benchmarks
from tests.conftest import THREADS


def test_a_cost_is_measured_for_a_model(monkeypatch):
    monkeypatch.setattr(benchmarks.strategy, "cores", lambda: THREADS)
    inputs = benchmarks.InputConfig(global_batch_size=8, micro_batch_size=4, image_size=8)
    row = benchmarks._cost("cnn", inputs, steps=2, rounds=1)
    assert row.milliseconds > 0
    assert row.what == "cnn, 8 px, 8 images a step"
    assert len(row.cells()) == len(row.columns)


def test_the_share_is_of_every_step_and_of_each_line():
    cost = benchmarks.Cost("", milliseconds=10.0, between=0.001, line_milliseconds=20.0, every=500)
    assert cost.share == pytest.approx(0.001 + 2 / 500)
    assert cost.cells() == ("", "10.0", "+0.10%", "20.0", "+0.50%", "500")
