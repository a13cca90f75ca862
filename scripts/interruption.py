"""Signals to a command that writes files: it removes what is unfinished, and ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def cleaning_up() -> Iterator[None]:
    """The first of SIGNALS raises KeyboardInterrupt(its number) in the body; then all are ignored.

    So the body's own `finally` and `except` remove what is unfinished. One that is ignored, as
    under nohup, stays so.
    """
    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
