"""SIGTERM, SIGHUP, SIGUSR1 and Ctrl-C: the run saves and stops. A second Ctrl-C ends it at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from trainer.errors import INTERRUPTED, PreemptedError

# Slurm and Kubernetes send SIGTERM, a terminal or ssh that goes away SIGHUP, and many a batch
# script asks Slurm for SIGUSR1 ahead of the time limit.
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


class Stop:
    """Whether this process was asked to stop, and what is saved if it ends right now."""

    def __init__(self) -> None:
        self.saved: int | None = None  # step of the newest checkpoint
        self._received: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        return self._received is not None

    def __str__(self) -> str:
        return self._received.name if self._received else "a signal to another worker"

    def note(self, number: int) -> None:
        """A signal has come; the first is the reason that is given."""
        self._received = self._received or signal.Signals(number)

    def interrupted(self) -> str:
        """What is said where the process ends without saving."""
        if self.saved is None:
            return "interrupted; nothing was saved yet"
        return f"interrupted; last saved: step {self.saved}, from which the same command goes on"

    def preempted(self, done: int, total: int) -> PreemptedError:
        """How a run ends that has saved after so many steps of all."""
        return PreemptedError(
            f"stopped by {self} after step {done} of {total}. saved: step {done}; the same command "
            "goes on"
        )


@contextmanager
def watched() -> Iterator[Stop]:
    """Yields what the signals have asked for so far; a second Ctrl-C ends the process with 130.

    Enter it after the strategy is made: TensorFlow installs a handler of its own then, which would
    replace these. Signals that are ignored (nohup) stay so. Once one was received, further ones are
    ignored until the process ends: srun sends them to tasks that are about to exit.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # Python allows no handler there
        yield stop
        return
    # Python calls handlers between its own instructions, so not during a call of TensorFlow; the
    # number of a signal is written into this socket at once.
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    numbers = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
    before = {n: signal.signal(n, lambda number, _: stop.note(number)) for n in numbers}
    wakeup = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(ours, stop), daemon=True)
    listener.start()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stop.requested else handler)
        signal.set_wakeup_fd(wakeup)
        pythons.close()
        listener.join()
        ours.close()


@contextmanager
def handlers_kept() -> Iterator[None]:
    """For a process that outlives a run that was stopped, as a notebook: signals count again."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(signals: socket.socket, stop: Stop) -> None:
    """Says what a signal brings about, until the other end is closed."""
    said, interrupts = False, 0
    while received := signals.recv(1):
        number = received[0]
        if number not in SIGNALS:
            continue
        if not said or (number == signal.SIGINT and not interrupts):
            said = True
            more = "; Ctrl-C again ends at once" if number == signal.SIGINT else ""
            name = signal.Signals(number).name
            print(f"{name}: saving and stopping after this step{more}", file=sys.stderr, flush=True)
        stop.note(number)
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
            os.write(2, f"\n{cursor}{stop.interrupted()}\n".encode())
            os._exit(INTERRUPTED)
