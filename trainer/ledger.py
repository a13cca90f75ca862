"""Where the time of a run goes: waiting for input, device, host, saving, evaluating.

The parts of a line of metrics are seconds since the line before it, and sum up to that time. Device
is what the calls of the traced function took beside waiting for input; host is what is left: Python
between the calls, metrics, hooks, agreement among workers.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np

Part = Literal["input", "device", "saving", "evaluating"]
TRAINING = ("input", "device", "host")  # of a line, what is neither saving nor evaluating

CALLS = 100  # of the traced function, that the median and the percentile are of
READY = 0.05  # share of a call; where it waited less, its input was there
WARM_UP_SECONDS = 20.0  # of calls: buffers fill, files come into the page cache
MOST_WAITING = 0.1  # share of the calls' time


class Ledger:
    """Takes the time of one launch, from its first step on."""

    def __init__(self, exact: bool = True, clock: Callable[[], float] = time.monotonic):
        """exact: whether what was waited is known, as of trainer.waits, or an upper bound."""
        self._exact = exact
        self._clock = clock
        self._since = clock()
        self._seconds: dict[Part, float] = dict.fromkeys(get_args(Part), 0.0)
        self._calls: deque[tuple[float, int]] = deque(maxlen=CALLS)  # seconds a step, steps
        self._fastest = 0.0  # seconds a step, of calls whose input was there; 0: there was none
        self._first = True
        self._in_calls = self._waiting = 0.0  # seconds, of the launch
        self._warned = False

    def call(self, steps: int, seconds: float, waited: float) -> None:
        """A call of the traced function; waited: seconds that trainer.waits has seen during it.

        Where they are an upper bound: what steps take when their input is there, they take always,
        so that a call has not waited for longer than it took beyond that.
        """
        pace, ready = seconds / steps, waited <= READY * seconds
        beyond = seconds if self._exact else max(0.0, seconds - steps * self._fastest)
        waited = min(waited, beyond)
        self._seconds["input"] += waited
        self._seconds["device"] += seconds - waited
        self._calls.append((pace, steps))
        if self._first:  # kernels are chosen, memory is requested
            self._first = False
            return
        if ready:
            self._fastest = min(pace, self._fastest or pace)
        self._in_calls += seconds
        self._waiting += waited

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        """The time of the body."""
        begin = self._clock()
        try:
            yield
        finally:
            self._seconds[name] += self._clock() - begin

    def line(self) -> dict[str, float]:
        """What goes into a line of metrics: `time/`, in seconds since the last line, and `speed/`.

        Speeds are in milliseconds, where there were calls since the last line: of the last 100 of
        the launch, and a call's steps count as equally long.
        """
        now, speed = self._clock(), self._speed() if self._seconds["device"] else {}
        parts = {f"time/{name}": seconds for name, seconds in self._seconds.items()}
        parts["time/host"] = max(0.0, now - self._since - sum(self._seconds.values()))
        self._since, self._seconds = now, dict.fromkeys(self._seconds, 0.0)
        return speed | parts

    def _speed(self) -> dict[str, float]:
        paces, steps = np.array(self._calls).T
        each = np.repeat(1e3 * paces, steps.astype(int))
        return {
            "speed/step_ms_median": float(np.median(each)),
            "speed/step_ms_p95": float(np.percentile(each, 95)),
        }

    def warning(self) -> str:
        """Once, where the launch waits for its input; else ""."""
        if self._warned or self._in_calls < WARM_UP_SECONDS:
            return ""
        share = self._waiting / self._in_calls
        if share <= MOST_WAITING:
            return ""
        self._warned = True
        return (
            f"waiting for input: {100 * share:.0f} % of the training time, in which nothing is "
            "computed. Remedies: the native decoder, smaller images (samestep-records write "
            "--short_side=256) or raw ones (--encoding=raw), more CPU cores, a faster disk; "
            "docs/benchmarks.md has what each gives"
        )


def waiting_share(line: Mapping[str, float]) -> float:
    """Of the time in a line of metrics without saving and evaluating, the part spent waiting."""
    training = sum(line[f"time/{name}"] for name in TRAINING)
    return line["time/input"] / training if training else 0.0
