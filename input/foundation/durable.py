"""Files and folders that are whole or not there, also after a power cut.

A file's content and its name reach the disk separately: the content by fsync of the file, the name
by fsync of its folder. Everything here does both. All functions raise OSError.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, TypeVar

from input.foundation.retry import patiently

Parsed = TypeVar("Parsed")

INCOMPLETE = ".incomplete"  # ends the name of a folder that is being written, or removed


def read(path: Path, most: int) -> bytes:
    """A regular file's content; an OSError for any other file, and for one of over `most` bytes."""

    def content() -> bytes:
        with open(open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                reason = f"{size} bytes, and at most {most} can be right"
                raise OSError(errno.EFBIG, reason, str(path))
            return file.read()

    return patiently(content, path)


def open_regular(path: Path, how: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file, for reading unless `how` says otherwise; else an OSError.

    Opening a named pipe would wait for ever, and a device may have no end.
    """
    descriptor = os.open(path, how | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
    reason = "Is a directory" if stat.S_ISDIR(kind) else "Not a regular file"
    raise OSError(number, reason, str(path))


def write(path: Path, content: str | bytes) -> None:
    """Replaces the whole file: whoever opens it sees the old content or the new."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        sync(temporary)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def append(path: Path, line: str) -> None:
    """Adds a line to a file, or nothing where that fails; a kill may leave a part of it."""
    created = not path.exists()
    with path.open("ab", buffering=0) as file:
        before, left = file.tell(), memoryview(line.encode())
        try:
            while left:  # a disk that fills up takes a part, and refuses the rest
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise
    if created:
        sync(path.parent)


def log(
    path: Path, most: int, parsed: Callable[[bytes], Parsed | None]
) -> tuple[bytes, list[tuple[bytes, Parsed | None]]]:
    """A file of lines that `append` has added to: its content, and each line with what it says.

    None where `parsed` finds no line of ours; a last one that a kill has cut short is left out. No
    file is an empty one.
    """
    try:
        content = read(path, most)
    except FileNotFoundError:
        return b"", []
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    found = [(line, parsed(line)) for line in lines]
    if content and not content.endswith(b"\n") and found[-1][1] is None:
        found.pop()
    return content, found


def make(folder: Path) -> None:
    """Makes a folder and those above it, where they are missing."""
    if not folder.is_dir():
        make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Makes a folder and those above it; where the body raises, those that it made go again."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        make(folder)
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):  # never made, or others have put something into it
                each.rmdir()
        raise


@contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which gets the name `folder` when the body has ended well.

    All files in it are synced before that. `folder` must not exist, or be empty. What an earlier
    attempt has left is removed before, and what this one has written when the body raises.
    """
    temporary = incomplete(folder)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        _sync_tree(temporary)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(folder.parent)


def remove(folder: Path) -> None:
    """Removes a folder that `publish` has made: one that is half removed does not have its name."""
    condemned = incomplete(folder)
    shutil.rmtree(condemned, ignore_errors=True)
    folder.rename(condemned)
    sync(folder.parent)
    shutil.rmtree(condemned)


def set_aside(folder: Path, ending: str) -> Path:
    """Renames a folder to its name with an ending, numbered where that is taken; returns it."""
    names = (folder.with_name(f"{folder.name}{ending}{number or ''}") for number in count())
    kept = next(name for name in names if not name.exists())
    folder.rename(kept)
    sync(folder.parent)
    return kept


def incomplete(folder: Path) -> Path:
    """The name of a folder while it is written or removed."""
    return folder.with_name(folder.name + INCOMPLETE)


def lock(path: Path) -> IO[str]:
    """Takes a lock that this process holds until it closes the file, or dies.

    Whoever holds it may remove the file. Raises BlockingIOError where another process holds it.
    """
    while True:
        file = os.fdopen(open_regular(path, os.O_WRONLY | os.O_CREAT), "a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except OSError:
            file.close()
            raise
        file.close()  # it was removed between the two calls: a lock on nothing


def sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(parent, name))
        sync(Path(parent))


class OpenFile:
    """A file that is closed when nobody holds it any more: another thread may be reading."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def read(self, length: int, offset: int) -> bytes:
        """`length` bytes from `offset` on; fewer where the file ends before."""
        buffer = os.pread(self.descriptor, length, offset)
        while len(buffer) < length:  # a network's file system may stop early
            more = os.pread(self.descriptor, length - len(buffer), offset + len(buffer))
            if not more:
                break
            buffer += more
        return buffer

    def __del__(self) -> None:
        os.close(self.descriptor)
