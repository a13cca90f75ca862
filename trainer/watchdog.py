"""What must not take for ever: the workers' assembly, and steps."""

import faulthandler
import os
import statistics
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import STALLED

LEAST_SECONDS = 300  # a stall of network storage for some minutes is no reason to stop
TIMES_MEDIAN = 10
# A call of the traced function takes about so long: SIGTERM is heard between calls, and spot
# machines go 30 s after it.
SECONDS_PER_CALL = 3


@contextmanager
def assembling(seconds: float, addresses: Sequence[str]) -> Iterator[None]:
    """Ends the process by SIGABRT where the body takes longer: the missing workers, the stacks."""
    if len(addresses) == 1:
        yield
        return
    faulthandler.enable()
    watch = Path(__file__).with_name("absent.py")
    argv = [sys.executable, "-I", "-S", str(watch), str(os.getpid()), str(seconds), *addresses]
    with subprocess.Popen(argv, stdin=subprocess.PIPE):  # leaving closes its stdin
        yield


@contextmanager
def bounded(seconds: float, what: str) -> Iterator[None]:
    """Ends the process where the body takes longer: what is wrong, and the stacks of all threads.

    The exit code is STALLED. A thread of its own does it: the one that hangs cannot.
    """
    timer = threading.Timer(seconds, _end, [seconds, what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(seconds: float, what: str) -> None:
    print(f"error: {what} Nothing happened for {seconds:.0f} s; where the threads are:")
    sys.stdout.flush()
    faulthandler.dump_traceback(sys.stdout, all_threads=True)
    os._exit(STALLED)


class Pace:
    """How long steps take: how many go into the next call, and when one of them has stalled.

    A call must have run before `proposal` is asked for.
    """

    def __init__(self, steps_per_call: int, stall_seconds: float | None):
        self.steps = 1  # of the next call, the same on all workers
        self._most = steps_per_call
        self._stall_seconds = stall_seconds
        self._recent: deque[float] = deque(maxlen=100)  # seconds per step of the last calls

    def note(self, seconds: float, steps: int) -> None:
        """A call of so many steps took so long."""
        self._recent.append(seconds / steps)

    def proposal(self) -> int:
        """Steps that take SECONDS_PER_CALL here."""
        return max(1, min(self._most, int(SECONDS_PER_CALL / self._median)))

    def limit(self, steps: float) -> float:
        """Seconds that work like so many steps may take."""
        least = max(LEAST_SECONDS, TIMES_MEDIAN * self._median)
        return (self._stall_seconds or least) + steps * self._median

    @property
    def _median(self) -> float:
        return statistics.median(self._recent) if self._recent else 0.0
