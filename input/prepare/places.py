"""Where class folders lie: on the disk, or in a zip or tar file that is read without unpacking."""

import gzip
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from input.errors import InputError
from input.foundation import durable

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz")
LARGEST = 2**30  # bytes of one file in an archive: more is a bomb, not an image

# What systems and file managers leave, in lower case; and every .name.
_LITTER = (
    *("thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin"),
    "system volume information",
)


class Place(Protocol):
    """A folder of images, and what is visible in it: neither litter nor hidden."""

    path: Path  # as a person would call it

    def folders(self) -> list[str]:
        """The names of its folders, sorted. Raises InputError."""
        ...

    def files(self) -> list[str]:
        """The names of its files, sorted. Raises InputError."""
        ...

    def inside(self, name: str) -> "Place":
        """One of its folders."""
        ...

    def below(self) -> Iterator[tuple[str, int]]:
        """All files below: path from the first place, and bytes. Raises InputError."""
        ...

    def start(self, name: str) -> bytes:
        """The first 16 bytes of a file: path from the first place."""
        ...


class Disk:
    """A folder on the disk; links are followed."""

    def __init__(self, path: Path, first: Path | None = None):
        self.path = path
        self._first = first or path

    def folders(self) -> list[str]:
        return [entry.name for entry in self._entries() if entry.is_dir()]

    def files(self) -> list[str]:
        return [entry.name for entry in self._entries() if not entry.is_dir()]

    def inside(self, name: str) -> "Disk":
        return Disk(self.path / name, self._first)

    def below(self) -> Iterator[tuple[str, int]]:
        seen = set()

        def fail(error: OSError) -> None:
            raise InputError(f"Folder {error.filename} cannot be read: {error.strerror}.")

        for parent, folders, files in os.walk(self.path, onerror=fail, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:
                raise InputError(
                    f"Folder {parent} is in {self.path} twice, through a link. Remove the link."
                )
            seen.add(real)
            folders[:] = [name for name in folders if not hidden(name)]
            inside = os.path.relpath(parent, self._first)
            for name in files:
                if not hidden(name):
                    yield os.path.join(inside, name), bytes_of(os.path.join(parent, name))  # noqa: PTH118 - see bytes_of

    def start(self, name: str) -> bytes:
        path = self._first / name
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(16)

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.path) as entries:
                return sorted(
                    (each for each in entries if not hidden(each.name)), key=lambda each: each.name
                )
        except OSError as error:
            raise InputError(
                f"Folder {self.path} cannot be read: {error.strerror}. --images names a folder of "
                "class folders."
            ) from None


class Archive:
    """The files of a zip or tar file."""

    def __init__(self, path: Path, members: dict[str, int], read: Callable[[str], bytes]):
        """members: path in the archive -> bytes."""
        self.path = path
        self.read = read
        self._members = members
        self._first = ""

    def folders(self) -> list[str]:
        return sorted({parts[0] for parts in self._parts() if len(parts) > 1})

    def files(self) -> list[str]:
        return sorted(parts[0] for parts in self._parts() if len(parts) == 1)

    def inside(self, name: str) -> "Archive":
        found = Archive(self.path / name, {}, self.read)
        found._first = f"{self._first}{name}/"
        found._members = {
            member: size
            for member, size in self._members.items()
            if member.startswith(found._first)
        }
        return found

    def below(self) -> Iterator[tuple[str, int]]:
        yield from self._members.items()

    def start(self, name: str) -> bytes:
        return self.read(name)[:16]

    def _parts(self) -> Iterator[tuple[str, ...]]:
        return (PurePosixPath(name[len(self._first) :]).parts for name in self._members)


def open_archive(path: Path) -> Archive:
    """A zip or tar file. Raises InputError.

    A tar file that is compressed is decompressed to a temporary file: its parts could not be
    reached one by one.
    """
    try:
        if path.name.lower().endswith(".zip"):
            members, read = _zip(path)
        else:
            members, read = _tar(path)
    except OSError as error:
        raise InputError(f"--images={path} cannot be read: {error.strerror or error}.") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise InputError(f"--images={path} is damaged, or no archive: {error}.") from None
    visible = {
        name: size
        for name, size in members.items()
        if not any(hidden(part) for part in PurePosixPath(name).parts)
    }
    return Archive(path, visible, read)


def _zip(path: Path) -> tuple[dict[str, int], Callable[[str], bytes]]:
    archive = zipfile.ZipFile(path)
    infos = {_plain(info.filename): info for info in archive.infolist() if not info.is_dir()}

    def read(name: str) -> bytes:
        _check_size(infos[name].file_size)
        return archive.read(infos[name])  # from several threads at a time: zipfile has a lock

    return {name: info.file_size for name, info in infos.items()}, read


def _tar(path: Path) -> tuple[dict[str, int], Callable[[str], bytes]]:
    with tempfile.TemporaryFile() as plain, path.open("rb") as stored:
        whole: IO[bytes] = stored
        if stored.read(2) == b"\x1f\x8b":
            with gzip.open(path) as content:
                shutil.copyfileobj(content, plain)
            whole = plain
        whole.seek(0)
        with tarfile.TarFile(fileobj=whole) as archive:
            infos = {_plain(info.name): info for info in archive.getmembers() if info.isreg()}
        file = durable.OpenFile(os.dup(whole.fileno()))

    def read(name: str) -> bytes:
        info = infos[name]
        _check_size(info.size)
        return file.read(info.size, info.offset_data)

    return {name: info.size for name, info in infos.items()}, read


def _plain(name: str) -> str:
    """A member's path without ./ and a / before it."""
    return os.path.normpath(name).lstrip("/")


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise ValueError(f"{size} bytes are no image")


def hidden(name: str) -> bool:
    """Whether no person has put it there."""
    return name.startswith(".") or name.lower() in _LITTER


def bytes_of(path: str | Path) -> int:
    """A file's size; 0 where it cannot be found out: reading it says why."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a name is cheaper than a Path, a million times
    except OSError:  # a link to nothing, say
        return 0
