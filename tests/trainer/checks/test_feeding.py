"""The step's rate and the input's are measured on a real job, and compared."""

import pytest

from tests.trainer.conftest import HARDWARE, settings
from trainer import assembly, tracing
from trainer.checks import feeding
from trainer.checks.feeding import Rates, judge


@pytest.mark.parametrize(
    ("step", "decoded", "read", "verdict", "words"),
    [
        (1000, 500, None, "ok", "2 of 4 cores feed it"),
        (1000, 500, 1001, "ok", "2 of 4 cores feed it"),
        (2001, 500, None, "warning", "--short_side=256"),
        (1000, 500, 999, "warning", "only 999 records a second come from the disk"),
    ],
)
def test_an_input_that_is_too_slow_is_a_warning(step, decoded, read, verdict, words):
    found = judge(Rates(step, decoded, read), available=4)
    assert found.verdict == verdict
    assert words in found.found


def test_both_rates_are_measured(data_dir, monkeypatch):
    monkeypatch.setattr(feeding, "SECONDS", 0.05)
    job = assembly.begin(settings(data_dir), HARDWARE)
    training = tracing.training(job)
    rates = feeding.measure(job, training, first_seconds=1.0, read=7.0)
    assert rates.step > 0 and rates.decoded > 0 and rates.read == 7.0
    traced = training.train.experimental_get_tracing_count()
    assert traced == 1  # for images that are ready as for those of the pipeline
    slow = feeding.measure(job, training, first_seconds=16.0, read=None)
    assert slow.step == 32 / 16
