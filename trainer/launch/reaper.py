"""Kills every process of a launch: those whose environment has the launch's mark.

python -I -S trainer/launch/reaper.py NAME=VALUE waits until its stdin is closed, which is when the
launcher has ended, in whatever way. Children of children are found too. Imports nothing of ours.
"""

import os
import signal
import sys
from pathlib import Path


def kill(mark: str) -> None:
    """SIGKILL to every process whose environment has mark, NAME=VALUE, until there is none."""
    while found := _marked(mark.encode()):
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _marked(mark: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                marked = mark in (folder / "environ").read_bytes().split(b"\0")
                # A zombie has no environment; what is being torn down may still show one.
                if marked and b") Z " not in (folder / "stat").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it has ended, or is another user's
                continue
    return found


if __name__ == "__main__":
    sys.stdin.read()
    kill(sys.argv[1])
