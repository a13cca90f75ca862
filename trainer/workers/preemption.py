"""SIGTERM: the run saves and stops."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watched() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM was received.

    Enter it after the strategy is made: TensorFlow installs a handler of its own then, which would
    replace this one. Once SIGTERM was received, further ones are ignored until the process ends:
    srun sends them to tasks that are about to exit.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows no handler there
        yield lambda: False
        return
    requested = False

    def note(*_: object) -> None:
        nonlocal requested
        requested = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: requested
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if requested else before)
