"""Timeouts: workers that never connect, steps that stall."""

import faulthandler
import os
import statistics
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trainer.errors import STALLED
from trainer.workers import missing

LEAST_SECONDS = 300  # a stall of network storage for some minutes is no reason to stop
TIMES_MEDIAN = 10
# Aimed duration of a call of the traced function: SIGTERM is handled between calls, and spot
# machines go 30 s after it.
SECONDS_PER_CALL = 3


@contextmanager
def connecting(seconds: float, addresses: Sequence[str]) -> Iterator[None]:
    """Ends the process by SIGABRT, naming the missing workers, where the body takes longer."""
    if len(addresses) == 1:
        yield
        return
    faulthandler.enable()
    argv = [
        sys.executable,
        "-I",
        "-S",
        missing.__file__,
        str(os.getpid()),
        str(seconds),
        *addresses,
    ]
    with subprocess.Popen(argv, stdin=subprocess.PIPE):  # leaving closes its stdin
        yield


@contextmanager
def bounded(seconds: float, what: str) -> Iterator[None]:
    """Ends the process with exit code STALLED where the body takes longer.

    Says `what`, and prints the stacks of all threads. A separate thread does it: the one that hangs
    cannot.
    """
    timer = threading.Timer(seconds, _end, [seconds, what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(seconds: float, what: str) -> None:
    print(f"error: {what} Nothing happened for {seconds:.0f} s. Stacks of all threads:")
    sys.stdout.flush()
    faulthandler.dump_traceback(sys.stdout, all_threads=True)
    os._exit(STALLED)


class Pace:
    """How long steps take: how many fit into the next call, and when one of them has stalled."""

    def __init__(self, steps_per_call: int, stall_seconds: float | None):
        self._most = steps_per_call
        self._stall_seconds = stall_seconds
        self._recent: deque[float] = deque(maxlen=100)  # seconds per step of the last calls

    def note(self, seconds: float, steps: int) -> None:
        """A call of `steps` steps took `seconds`."""
        self._recent.append(seconds / steps)

    def proposal(self) -> int:
        """Steps that take SECONDS_PER_CALL on this worker; 1 while their time is not known."""
        if not self._recent:
            return 1
        return max(1, min(self._most, int(SECONDS_PER_CALL / self._median)))

    def limit(self, steps: float) -> float:
        """Seconds that work as long as `steps` steps may take."""
        least = max(LEAST_SECONDS, TIMES_MEDIAN * self._median)
        return (self._stall_seconds or least) + steps * self._median

    @property
    def _median(self) -> float:
        return statistics.median(self._recent) if self._recent else 0.0
