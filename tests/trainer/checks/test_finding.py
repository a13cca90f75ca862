"""The worst verdict is the verdict on everything, and each has its exit code."""

import pytest

from trainer.checks.finding import EXIT_CODES, Finding, worst, wrong
from trainer.errors import TrainerError


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [([], "ok"), (["ok"], "ok"), (["ok", "warning", "ok"], "warning"), (["wrong", "ok"], "wrong")],
)
def test_the_worst_verdict_counts(verdicts, expected):
    assert worst(Finding("x", verdict, "") for verdict in verdicts) == expected


def test_exit_codes_tell_verdicts_apart_and_from_a_fault_of_ours():
    assert EXIT_CODES["ok"] == 0
    assert len({1, *EXIT_CODES.values()}) == 4


def test_an_error_is_a_finding_in_one_line():
    found = wrong("step", TrainerError("Too large.", details=["use less"]))
    assert str(found) == "wrong    step           Too large. use less"
