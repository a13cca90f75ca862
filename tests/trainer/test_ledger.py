"""Where the time goes: the parts sum up to it, and each is what was planted."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from input.arrays import ArrayReader
from tests.trainer.conftest import HARDWARE, settings
from tests.trainer.steps import train_that_counts
from tests.trainer.test_loop import metrics
from trainer import ledger, loop
from trainer.ledger import Ledger, waiting_share
from trainer.workers.agreement import Sync, Workers
from trainer.workers.watchdog import Pace

PARTS = ("input", "device", "host", "saving", "evaluating")


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def times(line: dict[str, float]) -> dict[str, float]:
    return {name: line[f"time/{name}"] for name in PARTS}


def test_the_parts_are_the_time_since_the_last_line(clock):
    book = Ledger(clock=clock)
    clock.now += 10
    book.call(steps=4, seconds=8.0, waited=2.0)
    assert times(book.line()) == dict(zip(PARTS, (2.0, 6.0, 2.0, 0.0, 0.0), strict=True))
    with book.part("saving"):
        clock.now += 3
    with pytest.raises(KeyError), book.part("evaluating"):
        clock.now += 5
        raise KeyError
    clock.now += 1
    line = book.line()
    assert times(line) == dict(zip(PARTS, (0.0, 0.0, 1.0, 3.0, 5.0), strict=True))
    assert "speed/step_ms_median" not in line, "no step was made"


def test_no_more_is_waited_for_than_a_call_took(clock):
    book = Ledger(clock=clock)
    clock.now += 1
    book.call(steps=1, seconds=1.0, waited=7.0)  # begun before the call
    assert times(book.line())["input"] == 1.0


def test_an_upper_bound_is_lowered_by_what_steps_take_with_their_input_there(clock):
    book = Ledger(exact=False, clock=clock)
    for seconds, waited in ((9.0, 0.0), (4.0, 0.1), (5.0, 0.0), (10.0, 10.0)):  # of 4 steps each
        clock.now += seconds
        book.call(steps=4, seconds=seconds, waited=waited)
    # The first call has its own cost; a call of 10 s has waited for no more than 6.
    assert times(book.line())["input"] == pytest.approx(0.0 + 0.1 + 0.0 + 6.0)
    exact = Ledger(clock=clock)
    for seconds, waited in ((4.0, 0.0), (4.0, 0.0), (10.0, 10.0)):
        exact.call(steps=4, seconds=seconds, waited=waited)
    assert times(exact.line())["input"] == 10.0


def test_speeds_are_of_steps_and_not_of_calls(clock):
    book = Ledger(clock=clock)
    book.call(steps=1, seconds=1.0, waited=0.0)
    book.call(steps=19, seconds=0.19, waited=0.0)
    clock.now += 2
    line = book.line()
    assert line["speed/step_ms_median"] == pytest.approx(10)
    assert line["speed/step_ms_p95"] == pytest.approx(59.5)  # numpy's: 5 % of the way to 1,000


@pytest.mark.parametrize(("share", "warned"), [(0.09, False), (0.11, True)])
def test_waiting_for_input_is_warned_about_once(clock, share, warned):
    book = Ledger(clock=clock)
    book.call(steps=1, seconds=100.0, waited=100.0)  # the first: the input starts too
    assert book.warning() == ""
    said = []
    for _ in range(10):
        book.call(steps=20, seconds=5.0, waited=5.0 * share)
        said.append(book.warning())
    assert said[:3] == [""] * 3, f"{ledger.WARM_UP_SECONDS} s of calls come first"
    assert [each for each in said if each] == [each for each in said[3:4] if warned]
    if warned:
        assert said[3].startswith("waiting for input: 11 % of the training time")


def test_the_share_is_of_the_time_that_trains():
    line = dict.fromkeys((f"time/{name}" for name in PARTS), 5.0)
    assert waiting_share(line) == pytest.approx(1 / 3)
    assert waiting_share(dict.fromkeys(line, 0.0)) == 0.0


def test_a_slow_step_is_device_time(strategies, clock):
    """In the real loop, whose input is never waited for."""
    counting = train_that_counts([])

    def train(*args):
        clock.now += 0.5 * int(args[2])
        return counting(*args)

    book, sync = Ledger(clock=clock), Sync(Workers(strategies[1]), Pace(4, None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.time, "monotonic", clock)
        loop.advance(train, None, 0, 20, sync, book)
    found = times(book.line())
    assert (found.pop("device"), set(found.values())) == (10.0, {0.0})


class SlowReader(ArrayReader):
    """A disk from which every micro-batch takes 50 ms, whoever reads beside it."""

    def read(self, indices):
        with self.lock:
            time.sleep(0.05)
        return super().read(indices)


def test_a_slow_reader_is_time_waited_for(data_dir, tmp_path):
    """And every line's parts sum up to the time since the one before."""
    pixels = np.random.default_rng(0).integers(0, 256, (384, 16, 16, 3), np.uint8)
    train = SlowReader(pixels, np.arange(384) % 3)
    train.lock = threading.Lock()
    config = settings(data_dir, tmp_path, log_every_steps=1)
    begin = time.monotonic()
    loop.fit(
        replace(config, run=replace(config.run, epochs=1)),
        HARDWARE,
        {"train": train, "validation": ArrayReader(pixels[:20], np.arange(20) % 3)},
    )
    whole = time.monotonic() - begin
    lines = metrics(tmp_path)
    # 12 steps of 4 micro-batches; what the first four read was ready before they began.
    steps = [line for line in lines if "train/loss" in line][4:]
    calls = [line["seconds_per_step"] for line in steps]
    for line, seconds in zip(steps, calls, strict=True):
        assert line["time/input"] + line["time/device"] == pytest.approx(seconds, rel=0.2, abs=5e-3)
    assert sum(line["time/input"] for line in steps) > 0.6 * sum(calls)
    assert sum(line["time/device"] for line in steps) > 0
    assert 0.2 * whole < sum(sum(times(line).values()) for line in lines) < whole
    evaluations = [line for line in lines if "validation/loss" in line]
    assert all(line["time/evaluating"] > 0 and line["time/saving"] > 0 for line in evaluations)
