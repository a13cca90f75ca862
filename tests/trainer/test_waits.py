"""Time at an empty input, as tf.data takes it: what is left of a step's period beside its work."""

import time

import numpy as np
import pytest
import tensorflow as tf

from trainer.waits import Waits

ELEMENTS = 12


def slow(seconds: float, spent: list[float] | None = None):
    """int64 -> int64, after so many seconds; `spent` gets what each call took."""

    def work(number: np.ndarray) -> np.ndarray:
        begin = time.perf_counter()
        time.sleep(seconds)
        if spent is not None:
            spent.append(time.perf_counter() - begin)
        return number

    def apply(number: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(work, [number], tf.int64), [])

    return apply


def run(strategy, waits: Waits, input_seconds: float, work_seconds: float):
    """Draws elements and works on each; seconds in all, and those of the work."""
    spent: list[float] = []
    work = slow(work_seconds, spent)
    batches = tf.data.Dataset.counter(dtype=tf.int64).map(slow(input_seconds)).prefetch(4)
    iterator = waits.iterator(strategy, lambda: batches)

    @tf.function
    def draw(iterator, elements):
        for _ in tf.range(elements):
            strategy.run(work, args=(next(iterator),))

    draw(iterator, tf.constant(1))
    spent.clear()
    before, begin = waits.seconds, time.perf_counter()
    draw(iterator, tf.constant(ELEMENTS))
    return time.perf_counter() - begin, sum(spent), waits.seconds - before


def test_a_slow_input_is_waited_for(strategies):
    waits = Waits()
    elapsed, worked, waited = run(strategies[1], waits, input_seconds=0.03, work_seconds=0.01)
    assert waits.exact
    assert elapsed > 0.25
    assert waited == pytest.approx(elapsed - worked, rel=0.25)


def test_a_slow_step_waits_for_nothing(strategies):
    elapsed, _, waited = run(strategies[1], Waits(), input_seconds=0.0, work_seconds=0.03)
    assert waited < 0.1 * elapsed


def test_replicas_wait_at_the_same_time(strategies):
    elapsed, _, waited = run(strategies[2], Waits(), input_seconds=0.02, work_seconds=0.0)
    assert 0.7 * elapsed < waited <= elapsed + 0.04


class OfGpus:
    """A strategy that says its devices are GPUs, where only the worker's dataset can be timed."""

    def __init__(self, strategy):
        self.extended = self
        self.worker_devices = ("/job:localhost/replica:0/task:0/device:GPU:0",)
        self._strategy = strategy

    def __getattr__(self, name):
        return getattr(self._strategy, name)


def test_on_gpus_there_is_an_upper_bound(strategies):
    """The worker's dataset is asked ahead: while the step works, and beyond the elements of it."""
    waits = Waits()
    elapsed, worked, waited = run(OfGpus(strategies[1]), waits, 0.03, work_seconds=0.01)
    assert not waits.exact
    assert elapsed - worked - 0.05 < waited <= elapsed + 0.09


def test_two_iterators_are_timed_apart(strategies):
    first, second = Waits(), Waits()
    run(strategies[1], first, input_seconds=0.01, work_seconds=0.0)
    before = first.seconds
    assert second.seconds == 0.0
    run(strategies[1], second, input_seconds=0.01, work_seconds=0.0)
    assert first.seconds == before
    assert second.seconds > 0.05
