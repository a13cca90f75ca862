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
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
# What is passed on to the process that does the work; of these, those that are not ignored (nohup).
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)
# Held while a process is started, and from the moment on when none may be.
_starting = threading.Lock()


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


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own (Ctrl-C is the launcher's to pass on).

    Its output, stderr too, is in the pipe `stdout`. Raises OSError.
    """
    with _starting:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def kill_descendants() -> None:
    """SIGKILL to every process below this one, until there is none.

    One that is born while /proc is read may not be seen, but its parent, or itself once that has
    ended, is a child of this process.
    """
    while _has_children():
        for process in _descendants(os.getpid()):
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
    _starting.acquire()  # a restart after the last look would survive
    kill_descendants()
    os._exit(128 + signal.SIGKILL)


def _become_subreaper() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _has_children() -> bool:
    """Whether there are any that still run; those that have ended are waited for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


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
