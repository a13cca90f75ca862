"""Work that may take a share of the time, and waits where it would take more."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

GUESS_SECONDS = 1.0  # what it takes while that is not known


class Share:
    """Says when as much time has passed that work like the last one is a small part of it."""

    def __init__(self, share: float):
        self._share = share
        self._seconds = GUESS_SECONDS
        self._since = time.monotonic()

    def due(self) -> bool:
        return self._seconds <= self._share * (time.monotonic() - self._since)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Around the work."""
        start = time.monotonic()
        yield
        self._since = time.monotonic()
        self._seconds = self._since - start
