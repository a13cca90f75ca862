"""Every benchmark that can be asked for is there, and no other."""

from typing import get_args

import pytest

from input.foundation.settings import settings
from scripts.benchmarks.batching import BATCHING_BENCHMARKS
from scripts.benchmarks.config import NAMES, BenchmarkConfig
from scripts.benchmarks.gil import GIL_BENCHMARKS
from scripts.benchmarks.input import INPUT_BENCHMARKS
from scripts.benchmarks.monitoring import MONITORING_BENCHMARKS
from scripts.benchmarks.reader import READER_BENCHMARKS
from scripts.benchmarks.receipt import RECEIPT_BENCHMARKS
from scripts.benchmarks.step import STEP_BENCHMARKS
from tests.conftest import error


def test_each_name_is_a_choice_and_one_benchmark():
    (what,) = (each for each in settings(BenchmarkConfig) if each.name == "what")
    assert get_args(what.kind) == ("all", *NAMES)
    tables = [
        *STEP_BENCHMARKS,
        *BATCHING_BENCHMARKS,
        *INPUT_BENCHMARKS,
        *GIL_BENCHMARKS,
        *READER_BENCHMARKS,
        *RECEIPT_BENCHMARKS,
        *MONITORING_BENCHMARKS,
    ]
    assert sorted(tables) == sorted(NAMES)
    for name in NAMES:
        assert f"{name}: " in what.help


@pytest.mark.parametrize("name", ["rounds", "image_size"])
def test_what_cannot_be_measured_is_refused(name):
    assert error(BenchmarkConfig, **{name: 0}) == f"--{name} must be at least 1, not 0."


def test_photographs_that_are_not_there_are_missed_at_once(tmp_path):
    assert "needs --images=DIR" in error(BenchmarkConfig, what="gil")
    nowhere = str(tmp_path / "x")
    assert error(BenchmarkConfig, images=nowhere) == f"--images={nowhere} is not a folder."
    BenchmarkConfig(what="input", images=str(tmp_path))
