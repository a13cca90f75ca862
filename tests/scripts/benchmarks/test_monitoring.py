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


def test_both_train_the_same(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), np.uint8)
    readers = {split: ArrayReader(pixels, np.arange(200) % 10) for split in (TRAIN, VALIDATION)}
    settings = {"epochs": 2, "model": "cnn", "image_size": 8}
    settings |= {"global_batch_size": 8, "micro_batch_size": 8}
    folders = [tmp_path / "run", tmp_path / "alone"]
    both = (Config.of(run_dir=str(folder), **settings) for folder in folders)
    parts = monitoring.in_turn(*both, readers)
    assert [(part.epoch, part.steps, part.of_steps) for part in parts] == [
        *((1, 5, True), (1, 0, False)),  # 25 steps, of which 20 are before the clock; evaluation
        *((2, 15, False), (2, 10, True), (2, 0, False)),
    ]
    assert all(part.seconds > 0 and part.seconds_alone > 0 for part in parts)
    newest = [run_dir.checkpoints(folder)[-1] for folder in folders]
    found = [json.loads((each / "state.json").read_text()) for each in newest]
    assert found[0]["fingerprint"] == found[1]["fingerprint"]
    assert found[0]["evaluation"] == found[1]["evaluation"]


def test_a_row_is_measured():
    for row in monitoring.monitoring_cost(BenchmarkConfig(rounds=2), images=200):
        assert row.rate > 0
        assert row.rate_alone > 0
        assert len(row.shares) == 2
        assert len(row.cells()) == len(row.columns)


def test_the_share_is_of_the_time_without():
    row = monitoring.Cost("", rate=100.0, rate_alone=102.0, shares=(0.02, 0.0, 0.03))
    assert row.cells() == ("", "100", "102", "+2.00%", "+0.00%", "+3.00%")
