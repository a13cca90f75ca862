"""Calls that are cut for a profile, and the profile."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.board.profiler import Profiler, calls
from trainer.step import History


@pytest.mark.parametrize(
    ("first", "stop", "alone", "expected"),
    [
        (0, 20, range(0), [(0, 20)]),
        (0, 20, range(20, 30), [(0, 20)]),
        (20, 40, range(10, 20), [(20, 40)]),
        (0, 5, range(2, 4), [(0, 2), (2, 3), (3, 4), (4, 5)]),
        (2, 4, range(9), [(2, 3), (3, 4)]),
        (0, 3, range(1), [(0, 1), (1, 3)]),
        (4, 5, range(2, 5), [(4, 5)]),
    ],
)
def test_each_profiled_step_is_a_call(first, stop, alone, expected):
    assert [(call.start, call.stop) for call in calls(first, stop, alone)] == expected


def train(iterator, first_step, steps) -> History:
    numbers = tf.cast(tf.range(first_step, first_step + steps), tf.float64)
    return History(*[numbers + i for i in range(len(History._fields))])


def test_the_history_is_that_of_one_call(tmp_path):
    said = []
    profiler = Profiler(train, range(3, 5), tmp_path, said.append)
    numbers = tf.constant(1, tf.int64), tf.constant(6, tf.int64)
    for ours, theirs in zip(profiler(None, *numbers), train(None, *numbers), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    profiler.stop()
    assert said == [f"steps 3 to 4 are profiled: tensorboard --logdir {tmp_path}"]
    assert len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == 1


def test_a_run_that_ends_earlier_keeps_what_was_done(tmp_path):
    said = []
    profiler = Profiler(train, range(3, 50), tmp_path, said.append)
    profiler(None, tf.constant(0, tf.int64), tf.constant(5, tf.int64))
    profiler.stop()
    profiler.stop()
    assert said == [f"steps 3 to 4 are profiled: tensorboard --logdir {tmp_path}"]


def test_a_profiler_that_fails_stops_nothing(tmp_path):
    said = []
    tf.profiler.experimental.start(str(tmp_path / "other"))  # there can be only one
    try:
        profiler = Profiler(train, range(3), tmp_path, said.append)
        history = profiler(None, tf.constant(0, tf.int64), tf.constant(4, tf.int64))
        profiler.stop()
    finally:
        tf.profiler.experimental.stop(save=False)
    np.testing.assert_array_equal(history.loss, [0, 1, 2, 3])
    assert len(said) == 1
    assert "there is no profile, and the training goes on" in said[0]
