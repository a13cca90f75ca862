"""Event files, which TensorBoard reads while they grow: cut back to a step, sound after a failure.

Not tf.summary: where a disk is full, TensorFlow's writer raises an error that ends the run, keeps
the events in memory, and loses them when there is room again.
"""

import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from input import records
from input.foundation import durable

# TensorBoard reads every file with "tfevents" in its name, in the order of the names.
_NAME = re.compile(r"events\.out\.tfevents\.(\d{10,})\..*\.samestep")


class EventFiles:
    """One run as TensorBoard shows it: a folder, to which each launch adds a file.

    Not synced: after a power cut the last seconds may be missing. All methods raise OSError.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._file: FileIO | None = None
        self._size = 0  # of what is sound in it
        self._first_step = 0

    def rewind(self, last_step: int) -> None:
        """Drops what earlier launches wrote of later steps than this one; -1: everything.

        A TensorBoard that has read it already drops it too: it is told that a session starts.
        """
        self._first_step = last_step + 1
        if not self._folder.is_dir():
            return
        for path in _own(self._folder):
            kept = sum(_sound(path, last_step))
            if kept == 0:
                path.unlink()
            elif kept < path.stat().st_size:
                os.truncate(path, kept)
        self.write([])

    def write(self, events: Sequence[Event]) -> None:
        """Appends events: all of them or, with an OSError, none."""
        file = self._file = self._file or self._create()
        if file.tell() != self._size:  # a part of what a full disk refused would hide the rest
            file.truncate(self._size)
            file.seek(self._size)
        written = events if self._size else [*self._beginning(), *events]
        content = b"".join(records.frame(event.SerializeToString()) for event in written)
        while content:
            content = content[file.write(content) :]
        self._size = file.tell()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _beginning(self) -> list[Event]:
        now, start = time.time(), SessionLog(status=SessionLog.START)
        return [
            Event(wall_time=now, file_version="brain.Event:2"),
            Event(wall_time=now, step=self._first_step, session_log=start),
        ]

    def _create(self) -> FileIO:
        durable.make(self._folder)
        newest = max((_number(path) for path in _own(self._folder)), default=0)
        number = max(int(time.time()), newest + 1)  # whatever the clock of this machine says
        name = f"events.out.tfevents.{number:010}.{socket.gethostname()}.{os.getpid()}.samestep"
        return (self._folder / name).open("xb", buffering=0)


def _own(folder: Path) -> list[Path]:
    """The event files that samestep has written to a folder, the oldest first."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _number(path: Path) -> int:
    name = _NAME.fullmatch(path.name)
    assert name is not None  # it is one of `_own`
    return int(name[1])


def _sound(path: Path, last_step: int) -> Iterator[int]:
    """Bytes of each event up to the first one of a later step, or that is damaged.

    What only begins a file or a session counts with the event that follows it.
    """
    with os.fdopen(durable.open_regular(path), "rb") as file:
        left, before = os.fstat(file.fileno()).st_size, 0
        while header := file.read(records.HEADER_BYTES):
            try:
                length = records.payload_bytes(header) + records.FOOTER_BYTES
                left -= len(header) + length
                if left < 0:
                    return
                event = Event.FromString(records.unframe(header + file.read(length)))
            except (records.RecordError, DecodeError):
                return
            before += len(header) + length
            if event.HasField("file_version") or event.HasField("session_log"):
                continue
            if event.step > last_step:
                return
            yield before
            before = 0
