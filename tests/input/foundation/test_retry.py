"""Errors that may pass are waited out, a few times; others are raised at once."""

import errno
import os
from pathlib import Path

import pytest

from input.foundation import retry

PATH = Path("/data/train-00000.tfrecord")


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """What would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", slept.append)
    return slept


def failing(times: int, number: int):
    """Fails so many times, then returns 7."""
    left = [OSError(number, os.strerror(number))] * times

    def read() -> int:
        if left:
            raise left.pop()
        return 7

    return read


@pytest.mark.parametrize("times", range(len(retry.PAUSE_SECONDS) + 1))
def test_errors_that_pass(pauses, caplog, times):
    assert retry.patiently(failing(times, errno.EIO), PATH) == 7
    assert pauses == list(retry.PAUSE_SECONDS[:times])
    assert [record.getMessage() for record in caplog.records] == [
        f"{PATH}: Input/output error; reading it again in {pause:g} s" for pause in pauses
    ]


@pytest.mark.parametrize("number", sorted(retry.PASSING))
def test_errors_that_do_not_pass(pauses, number):
    with pytest.raises(OSError) as raised:
        retry.patiently(failing(len(retry.PAUSE_SECONDS) + 1, number), PATH)
    assert raised.value.errno == number
    assert pauses == list(retry.PAUSE_SECONDS)
    assert tuple(sorted(retry.PAUSE_SECONDS)) == retry.PAUSE_SECONDS


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ELOOP])
def test_errors_that_cannot_pass_are_raised_at_once(pauses, number):
    with pytest.raises(OSError):
        retry.patiently(failing(1, number), PATH)
    assert pauses == []
