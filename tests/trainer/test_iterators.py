"""Distributed iterators end as soon as nobody has them."""

import time

import tensorflow as tf

from trainer import iterators

# tf.data would tune after 0.01 s, 0.02 s, 0.04 s .. , each as long as all before it: there is a
# tick at 2.55 s, and none for the next 2.5 s.
BEHIND_A_TICK = 2.65


def test_nobody_waits_for_a_thread_that_has_nothing_to_tune(strategies):
    batches = tf.data.Dataset.counter()
    begin = time.monotonic()
    iterator = iterators.distributed(strategies[1], lambda: batches)
    while time.monotonic() < begin + BEHIND_A_TICK:
        next(iterator)
    begin = time.monotonic()
    del iterator
    assert time.monotonic() < begin + 1


def test_each_replica_has_elements_of_its_own(strategies):
    iterator = iterators.distributed(strategies[2], tf.data.Dataset.counter)
    drawn = [strategies[2].experimental_local_results(next(iterator)) for _ in range(2)]
    assert [int(each) for pair in drawn for each in pair] == [0, 1, 2, 3]
