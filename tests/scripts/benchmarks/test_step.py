"""The step's benchmarks run: the real loop, and Keras fit, for a few steps."""

import pytest

from scripts.benchmarks import step as benchmarks
from scripts.benchmarks.config import BenchmarkConfig
from tests.conftest import THREADS


@pytest.mark.parametrize(
    ("measure", "steps", "names"),
    [
        (benchmarks.loop_overhead, 20, ("loop", "step")),
        (benchmarks.against_fit, 2, ("samestep", "fit")),
    ],
)
def test_both_variants_are_measured(monkeypatch, measure, steps, names):
    # TensorFlow has started with them.
    monkeypatch.setattr(benchmarks.strategy, "cores", lambda: THREADS)
    (row,) = measure(BenchmarkConfig(rounds=1), steps=steps)
    assert (row.first, row.second) == names
    assert row.first_rate > 0 and row.second_rate > 0
    assert len(row.ratios) == 1
