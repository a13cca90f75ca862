"""Files and folders that are whole or not there, also after a power cut.

A file's content and its name reach the disk separately: the content by fsync of the file, the name
by fsync of its folder. Everything here does both. All functions raise OSError.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

INCOMPLETE = ".incomplete"  # ends the name of a folder that is being written, or removed


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
    """Adds a line to a file; a kill may leave a part of it."""
    created = not path.exists()
    with path.open("a") as file:
        file.write(line)
    sync(path)
    if created:
        sync(path.parent)


@contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which gets the name `folder` when the body has ended well.

    All files in it are synced first. `folder` must not exist. What an earlier attempt has left is
    removed before, and what this one has written is removed when the body raises.
    """
    temporary = incomplete(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
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


def incomplete(folder: Path) -> Path:
    """The name of a folder while it is written or removed."""
    return folder.with_name(folder.name + INCOMPLETE)


def lock(path: Path) -> IO[str]:
    """Takes a lock that this process holds until it closes the file, or dies.

    Raises BlockingIOError where another process holds it.
    """
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


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
