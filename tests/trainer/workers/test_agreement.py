"""What workers tell each other: as threads linked by a table, and as two real processes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import error
from tests.trainer.workers.runs import run_workers
from trainer.errors import ClusterError, TrainerError
from trainer.state import EvaluationResult, State
from trainer.workers.agreement import Sync, Workers, naming_lost_workers
from trainer.workers.watchdog import Pace

STATE = State(7, "run", "äö" * 8, {"weights.index": "ab"}, EvaluationResult(None, 5, 10, 10))


class Linked(Workers):
    """A worker that is a thread: what it gathers it finds in a table of all workers."""

    def __init__(self, strategy, index: int, table: list, barrier: threading.Barrier):
        super().__init__(strategy, index, len(table))
        self._table, self._barrier = table, barrier

    def gather(self, numbers):
        self._table[self.index] = list(numbers)
        self._barrier.wait(timeout=60)
        rows = np.array(self._table, np.int64)
        self._barrier.wait(timeout=60)
        return rows


@pytest.fixture
def together(strategies):
    """together(count, work): what work(workers) gives to each of `count` workers."""

    def run(count: int, work: Callable[[Workers], Any]) -> list[Any]:
        table, barrier = [None] * count, threading.Barrier(count)
        workers = [Linked(strategies[4], index, table, barrier) for index in range(count)]
        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(work, workers))

    return run


def pace_of(steps: int) -> Pace:
    """A pace that proposes this many steps."""
    pace = Pace(steps, None)
    pace.note(0.001, 1)
    assert pace.proposal() == steps
    return pace


# --- one worker


def test_a_worker_alone_hears_itself(strategies):
    alone = Workers(strategies[2])
    assert (alone.index, alone.count, alone.chief) == (0, 1, True)
    assert alone.gather([3, 5]).tolist() == [[3, 5]]
    assert alone.gather_rows(np.array([[3, 5]])).tolist() == [[3, 5]]
    assert alone.from_chief(State, STATE) is STATE
    assert alone.from_chief(State, None) is None


def test_a_worker_alone_leaves_the_budget_to_its_reader(strategies):
    sync = Sync(Workers(strategies[1]), pace_of(9), bad_records=[3, 5], max_bad_records=1)
    assert sync.steps == 1, "the first call is one step: its time is not known"
    assert sync.sync() is False
    assert sync.steps == 9


# --- several


@pytest.mark.parametrize("value", [STATE, None])
def test_every_worker_gets_the_chiefs_value(together, value):
    other = State(1, "run", "own", {})
    got = together(3, lambda w: w.from_chief(State, value if w.chief else other))
    assert got == [value] * 3
    assert together(2, lambda w: w.chief) == [True, False]


def test_rows_of_all_workers_are_gathered(together):
    def rows(workers):
        first, count = ((0, 2), (2, 0), (2, 3))[workers.index]
        return workers.gather_rows(np.arange(10).reshape(5, 2)[first : first + count])

    for found in together(3, rows):
        np.testing.assert_array_equal(found, np.arange(10).reshape(5, 2))


def test_worker_0_sets_the_pace_of_all(together):
    def agreed(workers):
        sync = Sync(workers, pace_of(5 + workers.index))
        return sync.sync(), sync.steps

    assert together(3, agreed) == [(False, 5)] * 3


def test_worker_0s_clock_says_when_to_save(together):
    def agreed(workers, due):
        sync = Sync(workers, pace_of(5), save_due=lambda: workers.index in due)
        return sync.sync(), sync.saving

    for due in ([0], [0, 1]):
        assert together(3, lambda w, due=due: agreed(w, due)) == [(False, True)] * 3
    assert together(3, lambda w: agreed(w, [1, 2])) == [(False, False)] * 3


@pytest.mark.parametrize("asked", [[], [0], [2], [0, 1, 2]])
def test_all_stop_where_any_was_asked_to(together, asked):
    def stops(workers):
        return Sync(workers, pace_of(5), lambda: workers.index in asked).sync()

    assert together(3, stops) == [bool(asked)] * 3


def met(together, *bad: list[int], budget: int) -> list[str | None]:
    """Bad records that each worker has met -> what each of them says to that."""

    def said(workers):
        sync = Sync(workers, pace_of(5), bad_records=bad[workers.index], max_bad_records=budget)
        try:
            sync.sync()
        except TrainerError as refusal:
            return str(refusal)
        return None

    return together(len(bad), said)


def test_the_workers_share_one_budget_of_bad_records(together):
    assert met(together, [5, 3], [5], budget=2) == [None] * 2, "one record, met twice"
    assert met(together, [], [], budget=0) == [None] * 2
    assert met(together, [], [0], [], budget=1) == [None] * 3, "record 0 is one too"
    said = (
        "The workers have met 3 bad records, each named where it was read; --max_bad_records=2 "
        "allows fewer."
    )
    assert met(together, [3, 5], [7], budget=2) == [said] * 2
    assert met(together, [], [1, 2], [3], budget=2) == [said] * 3


def test_the_budget_counts_what_is_met_later(together):
    def said(workers):
        bad = set()
        sync = Sync(workers, pace_of(5), bad_records=bad, max_bad_records=1)
        sync.sync()
        bad.add(workers.index)
        return error(sync.sync)

    assert all("have met 2 bad records" in each for each in together(2, said))


REAL = """
import os
from trainer.state import State
from trainer.workers import strategy
from trainer.workers.agreement import Sync, Workers
from trainer.workers.discovery import discover
from trainer.workers.watchdog import Pace

cluster = discover(os.environ)
made = strategy.make_strategy(["CPU:0", "CPU:1"], 1, cluster=cluster)
workers = Workers(made, cluster.index, 2)
print(workers.gather([10 + workers.index, 2**62 + 1]).tolist())
print(workers.from_chief(State, State(7, "run", "of worker %d" % workers.index, {})))
pace = Pace(5 + workers.index, None)
pace.note(0.001, 1)
sync = Sync(workers, pace, lambda: workers.index == 1)
print(sync.sync(), sync.steps)
"""


def test_two_processes_of_two_replicas_tell_each_other_every_bit():
    """Each number counts once, whatever number of replicas a worker has."""
    for ended in run_workers(REAL, 2):
        assert ended.returncode == 0, ended.stderr[-2000:]
        assert ended.stdout.splitlines() == [
            str([[10, 2**62 + 1], [11, 2**62 + 1]]),
            str(State(7, "run", "of worker 0", {})),
            "True 5",
        ]


# --- a worker that is gone


@pytest.mark.parametrize(
    ("message", "who"),
    [
        ("at /job:worker/replica:0/task:2", "Worker 2"),
        ("at /job:worker/task:2 and /job:worker/task:1", "Worker 1 or 2"),
        ("Collective ops is aborted by: Socket closed", "Another worker"),
    ],
)
def test_a_worker_that_is_gone_is_named(message, who):
    with pytest.raises(ClusterError) as lost, naming_lost_workers():
        raise tf.errors.UnavailableError(None, None, message)
    assert str(lost.value) == f"{who} is gone. See that worker's own log."


@pytest.mark.parametrize(
    "fault", [tf.errors.InvalidArgumentError(None, None, "a wrong shape"), ZeroDivisionError()]
)
def test_other_errors_stay_what_they_are(fault):
    with pytest.raises(type(fault)) as caught, naming_lost_workers():
        raise fault
    assert caught.value is fault
