"""The benchmark of what a run shows and records: both of its variants are the same training."""

import json

import numpy as np
import pytest

from input.arrays import ArrayReader
from input.splits import TRAIN, VALIDATION
from scripts.benchmarks import monitoring
from scripts.benchmarks.config import BenchmarkConfig
from tests.conftest import THREADS
from trainer import assembly, run_dir
from trainer.config import Config


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(assembly, "cores", lambda: THREADS)
    for name in ("SIZE", "IMAGES"):
        monkeypatch.setattr(monitoring, name, 8)


def test_both_take_the_same_steps(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), np.uint8)
    readers = {split: ArrayReader(pixels, np.arange(200) % 10) for split in (TRAIN, VALIDATION)}
    run, alone = tmp_path / "run", tmp_path / "alone"
    config = Config.of(
        run_dir=str(run),
        epochs=3,
        model="cnn",
        image_size=8,
        global_batch_size=8,
        micro_batch_size=8,
    )
    parts = monitoring.in_turn(config, str(alone), readers)
    of_steps = monitoring.of_steps(parts)
    assert [(part.steps, part in of_steps) for part in parts] == [
        *((15, False), (10, True), (0, False)),  # of 25 steps, from the second epoch on
        *((10, False), (15, True), (0, False)),
    ]
    assert all(part.seconds > 0 and part.seconds_alone > 0 for part in parts)
    steps, images = zip(*map(kept, (run, alone)), strict=True)
    assert steps[0] == steps[1] == [25, 50, 75]
    assert images[0] == images[1] == [200, 200, 200]


def kept(folder):
    """The steps of a folder's checkpoints, and the images that they were evaluated on."""
    states = [json.loads((each / "state.json").read_text()) for each in run_dir.checkpoints(folder)]
    return [s["step"] for s in states], [s["evaluation"]["images"] for s in states]


def test_a_row_is_measured(capfd):
    for row in monitoring.monitoring_cost(BenchmarkConfig(rounds=1), images=200, epochs=2):
        assert row.rate > 0
        assert row.rate_alone > 0
        assert row.shares == (row.share,)
        assert len(row.cells()) == len(row.columns)
    assert not capfd.readouterr().err  # what TensorFlow says when it loads


def test_the_share_is_of_the_time_without():
    row = monitoring.Cost("", rate=100.0, rate_alone=102.0, share=0.02, shares=(0.02, 0.0, 0.03))
    assert row.cells() == ("", "100", "102", "+2.00%", "+0.00%", "+3.00%")
