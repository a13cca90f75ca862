"""One TFRecord file of a split, and what lies next to it: its index and its checksums.

SHARD.idx, the index, is text, a line "offset length" per record: bytes, header and footer of the
TFRecord included. NVIDIA DALI's TFRecord reader takes the same files (its tfrecord2idx makes them).
SHARD.crc32c binds the index to the content: the 4 bytes that end each record, which are the masked
CRC-32C of its payload, one after the other.
SHARD.sources, where samestep wrote the records, has a line for each: the file it was made from.
"""

import hashlib
import stat
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated

import numpy as np

from input.errors import InputError
from input.foundation import durable, typed_json
from input.foundation.retry import patiently
from input.foundation.text import counted, one_line
from input.records import FOOTER_BYTES, HEADER_BYTES

INDEX_SUFFIX, CHECKSUMS_SUFFIX, SOURCES_SUFFIX = ".idx", ".crc32c", ".sources"
LONGEST_NAME = 4096 * 4  # bytes of a source: of a path on Linux, each escaped as \xff
LINE_BYTES = 64  # of an index; two numbers of 20 digits are the longest that can be right

_WAY_OUT = (
    "Copy {folder} again from where it is whole, or remove it and write it again: "
    "samestep-records write --images=DIR --out={out}, or samestep-records index for TFRecords that "
    "others wrote"
)


@dataclass(frozen=True)
class Shard:
    """One TFRecord file."""

    file: str  # path from the split's folder; others' records may lie elsewhere
    records: int
    bytes: int
    sha256: str  # of the file's content; `sha256sum` prints the same
    # The same of checksums_file. None: written by samestep 0.1, which had none.
    checksums: Annotated[str | None, typed_json.MAY_BE_MISSING] = None

    @property
    def index_file(self) -> str:
        return f"{Path(self.file).name}{INDEX_SUFFIX}"

    @property
    def checksums_file(self) -> str:
        return f"{Path(self.file).name}{CHECKSUMS_SUFFIX}"

    @property
    def sources_file(self) -> str:
        return f"{Path(self.file).name}{SOURCES_SUFFIX}"


class Summary:
    """What manifest, index and checksums say about a shard, gathered record by record."""

    def __init__(self) -> None:
        self.lengths = array("q")
        self._content = hashlib.sha256()
        self._checksums = bytearray()

    def add(self, record: bytes) -> None:
        """The next record of the shard, header and footer included."""
        self.lengths.append(len(record))
        self._content.update(record)
        self._checksums += record[-FOOTER_BYTES:]

    def shard(self, file: str) -> Shard:
        """The shard that holds these records; file: its path from the split's folder."""
        checksums = hashlib.sha256(self._checksums).hexdigest()
        content = self._content.hexdigest()
        return Shard(file, len(self.lengths), sum(self.lengths), content, checksums)

    def save(self, folder: Path, file: str) -> Shard:
        """Writes index and checksums of the shard into the split's folder."""
        shard, ends = self.shard(file), accumulate(self.lengths, initial=0)
        lines = [f"{start} {end - start}\n" for start, end in pairwise(ends)]
        durable.write(folder / shard.index_file, "".join(lines))
        durable.write(folder / shard.checksums_file, bytes(self._checksums))
        return shard


def check_size(folder: Path, shard: Shard) -> None:
    path = folder / shard.file
    try:
        status = patiently(path.stat, path)
    except FileNotFoundError:
        raise broken(folder, f"shard {path} is missing") from None
    except OSError as error:
        raise broken(folder, f"shard {path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise broken(folder, f"shard {path} is not a regular file")
    if status.st_size != shard.bytes:
        sizes = f"has {status.st_size} bytes, the manifest says {shard.bytes}"
        raise broken(folder, f"shard {path} {sizes}")


def read_index(folder: Path, shard: Shard) -> np.ndarray:
    """int64[records, 2] of offset and length, in bytes. Raises InputError where they do not fit."""
    path = folder / shard.index_file
    content = _content(folder, "index", path, LINE_BYTES * shard.records)
    try:
        # 10**6 lines: 0.06 s; np.loadtxt 0.09 s, np.array(text.split()) 0.31 s.
        numbers = np.fromstring(content, dtype=np.int64, sep=" ")
    except ValueError:
        raise broken(folder, f'index {path} has a line that is not "offset length"') from None
    if numbers.size != 2 * shard.records:
        lines = counted(numbers.size / 2, "line")
        found = f"{lines} for {counted(shard.records, 'record')}"
        raise broken(folder, f"index {path} has {found}")
    offsets, lengths = numbers.reshape(-1, 2).T
    if lengths.min() < HEADER_BYTES + FOOTER_BYTES or lengths.max() > np.iinfo(np.int32).max:
        raise broken(folder, f"index {path} has a length that no record can have")
    ends = offsets + lengths
    if offsets[0] != 0 or (offsets[1:] != ends[:-1]).any():
        raise broken(folder, f"index {path} has a record that does not start where the last ends")
    if ends[-1] != shard.bytes:
        raise broken(folder, f"index {path} ends at byte {ends[-1]}, the shard at {shard.bytes}")
    return numbers.reshape(-1, 2)


def read_checksums(folder: Path, shard: Shard) -> np.ndarray | None:
    """uint32[records], as they lie in the file. Raises InputError where they are others."""
    if shard.checksums is None:
        return None
    path = folder / shard.checksums_file
    content = _content(folder, "checksums", path, FOOTER_BYTES * shard.records)
    if hashlib.sha256(content).hexdigest() != shard.checksums:
        raise broken(folder, f"checksums {path} are not those that the manifest names")
    return np.frombuffer(content, np.uint32)


def save_sources(folder: Path, shard: Shard, names: Iterable[str]) -> None:
    """names: the file that each record was made from, in their order."""
    durable.write(folder / shard.sources_file, "".join(f"{one_line(name)}\n" for name in names))


@lru_cache(maxsize=2)  # bad records often come in numbers
def read_sources(folder: Path, shard: Shard) -> list[str]:
    """The file that each record was made from; empty where that is not known.

    No checksum covers them: they are for people, in errors.
    """
    try:
        content = durable.read(folder / shard.sources_file, LONGEST_NAME * shard.records)
        names = content.decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return names if len(names) == shard.records else []


def _content(folder: Path, what: str, path: Path, most: int) -> bytes:
    try:
        return durable.read(path, most)
    except FileNotFoundError:
        raise broken(folder, f"{what} {path} is missing") from None
    except OSError as error:
        raise broken(folder, f"{what} {path} cannot be read: {error.strerror}") from None


def broken(folder: Path, what: str) -> InputError:
    return InputError(f"{what}. {_WAY_OUT.format(folder=folder, out=folder.parent)}")
