"""The output of workers: raw into a log of each, with a prefix onto the launcher's own output.

A worker never waits for a place that its output goes to: a full disk, `| head`, a terminal that was
stopped. What cannot be written any more is said once, and the training goes on.
"""

import contextlib
import os
import queue
import re
import select
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO

from input.foundation.text import counted

CHUNK_BYTES = 2**16
LINE_BYTES = 2**14  # a longer line is shown in pieces
TAIL_LINES = 40  # of each worker, to be shown again
WAITING_LINES = 10_000  # that the launcher's own output may be behind
_PIECE = re.compile(rb"[^\r\n]{%d}|[^\r\n]*(?:\r\n|\n|\r)" % LINE_BYTES)
# ECMA-48: CSI sequences (8.3.16), of which those that end in m are colours; strings such as OSC,
# which sets titles and clipboards; other escapes; control characters.
_CONTROL = re.compile(
    r"(\x1b\[[0-9;:]*m)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-Z\\^-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def shown(text: str) -> str:
    """A line without what moves the cursor or sets the terminal; colours stay."""

    def replacement(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        return "" if found[0].startswith("\x1b") and len(found[0]) > 1 else ascii(found[0])[1:-1]

    return _CONTROL.sub(replacement, text)


class Screen:
    """The launcher's own output, written by a thread of its own."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING_LINES)
        self._left_out = 0
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """A line of the launcher."""
        self.show(f"samestep-launch: {line}\n")

    def show(self, text: str) -> None:
        """Text with its end; left out where the output is too far behind."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._left_out += 1

    def close(self) -> None:
        """Waits for what was shown, but not for an output that is blocked."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(timeout=5)

    def _write_all(self) -> None:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        while (text := self._lines.get()) is not None:
            if self._left_out:
                left_out, self._left_out = self._left_out, 0
                lines = counted(left_out, "line")
                text = f"samestep-launch: {lines} left out; the logs have them\n{text}"
            try:
                _write(text.encode(encoding, "backslashreplace"))
            except OSError as error:
                said = f"samestep-launch: output cannot be shown: {error.strerror}; going on\n"
                with contextlib.suppress(OSError):
                    os.write(2, said.encode())
                break
        while text is not None:  # nobody finds the queue full
            text = self._lines.get()


def _write(content: bytes) -> None:
    """Onto the standard output; past Python's, whose lock a write that blocks would keep."""
    while content:
        try:
            content = content[os.write(1, content) :]
        except BlockingIOError:  # it was made non-blocking by another program that has it
            select.select([], [1], [])


class Worker:
    """What one worker writes: copied until it ends."""

    def __init__(self, number: int, log: Path, screen: Screen):
        """Raises OSError where the log cannot be opened."""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)  # its last lines
        self._number, self._screen, self._path = number, screen, log
        self._log: IO[bytes] | None = log.open("ab", buffering=0)

    def copy(self, output: IO[bytes]) -> None:
        """To be run in a thread."""
        rest = b""
        with output:
            while chunk := os.read(output.fileno(), CHUNK_BYTES):
                self._keep(chunk)
                rest = self._show(rest + chunk)
        self._show(rest + b"\n" if rest else b"")
        if self._log is not None:
            self._log.close()

    def _keep(self, chunk: bytes) -> None:
        log = self._log
        if log is None:
            return
        try:
            while chunk:
                chunk = chunk[log.write(chunk) :]
        except OSError as error:
            said = f"{self._path} cannot be written: {error.strerror}; going on without it"
            self._screen.say(said)
            self._log = None
            log.close()

    def _show(self, content: bytes) -> bytes:
        """Shows the lines, and pieces of long ones; returns what has no end yet."""
        at = 0
        for found in _PIECE.finditer(content):
            at = found.end()
            piece = found[0]
            end = "\r" if piece.endswith(b"\r") else "\n"
            text = shown(piece.rstrip(b"\r\n").decode(errors="replace"))
            self.tail.append(text)
            self._screen.show(f"[{self._number}] {text}{end}")
        return content[at:]
