"""Work that may take a share of the time."""

import pytest

from trainer.board.share import GUESS_SECONDS, Share


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_it_waits_until_it_is_a_small_part(clock):
    share = Share(0.01)
    clock[0] += 99 * GUESS_SECONDS
    assert not share.due()
    clock[0] += 1.001 * GUESS_SECONDS
    assert share.due()
    with share.taken():
        clock[0] += 0.1
    clock[0] += 9.9
    assert not share.due()
    clock[0] += 0.2
    assert share.due()
