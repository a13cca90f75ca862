"""Nothing that a launcher has started survives it, however it ends, and whatever it has become.

The launcher is two processes: the one that was started only waits; its child does the work. Both
are subreapers (prctl(2)): a process whose parent has ended becomes the child of the nearest of
them, also after setsid, a second fork or env -i. So whichever of the two is killed, the other one
still has all that was started below it, and kills that.
"""

import contextlib
import ctypes
import os
import signal
import threading
from pathlib import Path
from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
# What is passed on to the process that does the work; of these, those that are not ignored (nohup).
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


def stand() -> None:
    """Goes on in a child of this process, which waits for its end and ends with its exit code.

    To be called while there are no threads: they would not be in the child.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a pipe would be it
        pass
    os.close(descriptor)
    _become_subreaper()
    alive, ours = os.pipe()
    child = os.fork()
    if child:
        os.close(alive)
        _wait(child)
    os.close(ours)
    os.setpgid(0, 0)  # Ctrl-C goes to the one that waits, which passes it on
    _become_subreaper()
    threading.Thread(target=_outlive, args=(alive,), daemon=True).start()


def kill_descendants() -> None:
    """SIGKILL to every process below this one, until there is none."""
    while found := _descendants(os.getpid()):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _wait(child: int) -> NoReturn:
    """Passes signals on to the child until it ends, then kills what it has left.

    They are blocked and asked for: one that came between a handler's last look and a blocking call
    would wait for the next one.
    """
    passed_on = {number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on | {signal.SIGCHLD})
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        number = signal.sigwait(passed_on | {signal.SIGCHLD})
        if number in passed_on:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
    code = os.waitstatus_to_exitcode(ended[1])
    kill_descendants()
    os._exit(code if code >= 0 else 128 - code)


def _outlive(alive: int) -> None:
    """Waits for the end of the process that waits for this one, which nobody else can end well."""
    os.read(alive, 1)
    kill_descendants()
    os._exit(128 + signal.SIGKILL)


def _become_subreaper() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants(process: int) -> list[int]:
    """Processes below one that still run, whoever's children they were born as."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # "pid (name) state ppid ..", where the name may hold anything.
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:  # it has ended
                continue
            if state not in ("Z", "X"):
                children.setdefault(int(parent), []).append(int(folder.name))
    found, unseen = [], [process]
    while unseen:
        below = children.get(unseen.pop(), [])
        found += below
        unseen += below
    return found
