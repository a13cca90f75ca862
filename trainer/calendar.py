"""When something of a run is due: by steps, or by the clock."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any


def due(done: int, every: int | None) -> bool:
    """Whether something that happens every so many steps happens after this one."""
    return every is not None and done % every == 0


def hashed(step: Any, every: int, steps_per_epoch: int) -> Any:
    """Whether the receipt gets the hashes of a step, whose number counts from 0.

    Every so many steps, and at the end of each epoch, where there is a checkpoint as well. step: an
    int, or an integer tensor.
    """
    return ((step + 1) % every == 0) | ((step + 1) % steps_per_epoch == 0)


def hashes_due(every: int, steps_per_epoch: int) -> Callable[[Any], Any] | None:
    """`hashed` of the step alone; None where no step is: --hash_every=0."""
    return partial(hashed, every=every, steps_per_epoch=steps_per_epoch) if every else None


def next_stop(done: int, total: int, *periods: int | None) -> int:
    """The next step after which anything is due: the nearest multiple of a period, or the end."""
    return min(total, *(done - done % every + every for every in periods if every))


class SaveClock:
    """Says when a checkpoint is due by time. A save changes nothing: the moment is free."""

    def __init__(self, minutes: float):
        """0 minutes: never."""
        self._seconds = 60 * minutes
        self.restart()

    def due(self) -> bool:
        return 0 < self._seconds <= time.monotonic() - self._start

    def restart(self) -> None:
        self._start = time.monotonic()
