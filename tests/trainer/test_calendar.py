"""When something of a run is due."""

import pytest
import tensorflow as tf

from trainer import calendar


def test_a_save_is_due_by_the_clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(calendar.time, "monotonic", lambda: now[0])
    clock, never = calendar.SaveClock(2.0), calendar.SaveClock(0.0)
    for now[0], due in ((100.0, False), (219.9, False), (220.0, True), (900.0, True)):
        assert clock.due() is due
    assert not never.due()
    clock.restart()
    assert not clock.due()


@pytest.mark.parametrize("number", [int, tf.constant])
def test_steps_are_hashed_every_so_often_and_at_the_end_of_an_epoch(number):
    found = [step for step in range(12) if calendar.hashed(number(step), 4, 6)]
    assert found == [3, 5, 7, 11]


@pytest.mark.parametrize(
    ("done", "total", "periods", "expected"),
    [
        (0, 100, (20, None, 62), 20),
        (60, 100, (20, None, 62), 62),
        (62, 100, (20, None, 62), 80),
        (80, 100, (50, 7, 62), 84),
        (98, 100, (50, 7, 62), 100),
        (99, 99, (20,), 99),
    ],
)
def test_next_stop(done, total, periods, expected):
    assert calendar.next_stop(done, total, *periods) == expected


@pytest.mark.parametrize(
    ("done", "every", "expected"), [(10, 5, True), (11, 5, False), (10, None, False)]
)
def test_due(done, every, expected):
    assert calendar.due(done, every) is expected


def test_no_step_is_hashed_where_none_is_asked_for():
    assert calendar.hashes_due(0, 5) is None
    due = calendar.hashes_due(3, 5)
    assert [step for step in range(10) if due(step)] == [2, 4, 5, 8, 9]
