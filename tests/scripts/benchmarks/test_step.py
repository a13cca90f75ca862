"""The step's benchmarks run: the real loop, and Keras fit, for a few steps."""

import pytest
import tensorflow as tf

from scripts.benchmarks import step as benchmarks
from scripts.benchmarks.config import BenchmarkConfig
from tests.conftest import THREADS
from trainer.errors import TrainerError


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


def test_a_gpu_s_variants_are_measured_on_any_device(monkeypatch):
    monkeypatch.setattr(benchmarks.strategy, "cores", lambda: THREADS)
    config = BenchmarkConfig(rounds=1, image_size=8)
    rows = benchmarks.on_gpu(config, device="CPU:0", model="cnn", images=2)
    assert [(row.first, row.second) for row in rows] == 2 * [
        ("exact", "fast"),
        ("exact", "fit"),
        ("exact", "fit, XLA"),
    ]
    assert ["bfloat16" in row.what for row in rows] == [True] * 3 + [False] * 3
    assert all(row.first_rate > 0 and row.second_rate > 0 for row in rows)


def test_a_machine_without_a_gpu_says_so():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees a GPU")
    with pytest.raises(TrainerError, match="TensorFlow sees none here"):
        benchmarks.on_gpu(BenchmarkConfig())
