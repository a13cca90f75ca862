"""The doctor's settings."""

import pytest

from tests.conftest import error
from trainer.checks.examination import Examination


def test_by_default_all_is_looked_at_and_no_gpu_is_traced():
    assert Examination() == Examination(checks="all", json=False, trace_gpus=0)


@pytest.mark.parametrize("gpus", [-1, -8])
def test_gpus_to_trace_for_are_counted(gpus):
    assert error(Examination, trace_gpus=gpus) == f"--trace_gpus must be at least 0, not {gpus}."
