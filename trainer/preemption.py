"""SIGTERM: the run saves and stops."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watched() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGTERM has come.

    Entered after the strategy is made: TensorFlow installs a handler of its own then, which would
    take this one's place. Once SIGTERM has come, further ones are ignored to the process's end:
    srun sends them to tasks that are about to exit.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows no handler there
        yield lambda: False
        return
    asked = False

    def note(*_) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if asked else before)
