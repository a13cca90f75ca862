"""What a split's folder holds: manifest.json, the shards, and one index next to each shard.

The index of a shard is text, a line "offset length" per record: bytes, header and footer of the
TFRecord included. NVIDIA DALI's TFRecord reader takes the same files (its tfrecord2idx makes them).
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from input.config import SPLITS
from input.errors import InputError
from input.foundation import durable, typed_json
from input.records import ENCODED, FOOTER_BYTES, HEADER_BYTES, Schema

MANIFEST_FILE = "manifest.json"

_WAY_OUT = (
    "Copy {folder} again from where it is whole, or remove it and write it again: "
    "samestep-records write --images=DIR --out={out}, or samestep-records index for TFRecords that "
    "others wrote"
)

INDEX_BYTES = 12  # memory of each record: its offset and its length


@dataclass(frozen=True)
class Shard:
    """One TFRecord file."""

    file: str  # path from the split's folder; others' records may lie elsewhere
    records: int
    bytes: int
    sha256: str  # of the file's content; `sha256sum` prints the same

    @property
    def index_file(self) -> str:
        return f"{Path(self.file).name}.idx"


@dataclass(frozen=True, kw_only=True)
class ManifestFile:
    """What manifest.json says about a split."""

    version: Literal[1] = 1
    classes: tuple[str, ...]  # a label is the place of its class
    records_per_class: tuple[int, ...]
    shards: tuple[Shard, ...]  # in record order
    image_size: int | None  # pixels, where every image is a square of this size
    schema: Schema = ENCODED


@dataclass(frozen=True, kw_only=True)
class Manifest(ManifestFile):
    """One split: its folder, and what its manifest.json says."""

    folder: Path

    @property
    def records(self) -> int:
        return sum(shard.records for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the classes and the shards' contents: the same data, the same hash.

        Folder and file names do not count.
        """
        data = [self.classes, asdict(self.schema), [shard.sha256 for shard in self.shards]]
        return hashlib.sha256(json.dumps(data).encode()).hexdigest()

    @classmethod
    def load(cls, folder: str | Path, verify_files: bool = True) -> "Manifest":
        """Reads manifest.json and checks what it says against the files.

        Indexes are always checked in full. Of the shards only existence and size are looked at,
        and not even these without `verify_files`. Raises InputError.
        """
        folder = Path(folder)
        manifest = _read(folder)
        for shard in manifest.shards:
            if verify_files:
                _check_size(folder, shard)
            _read_index(folder, shard)
        return manifest


@dataclass(frozen=True, eq=False)
class Index:
    """Where each of a manifest's N records lies; 12 bytes of memory per record."""

    offsets: np.ndarray  # int64[N], bytes from the start of the shard
    lengths: np.ndarray  # int32[N], bytes, header and footer included
    first_record: np.ndarray  # int64[shards]

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Record indices int64[n] in 0..N-1 -> shard int64[n], offset int64[n], length int32[n]."""
        shard = np.searchsorted(self.first_record, indices, side="right") - 1
        return shard, self.offsets[indices], self.lengths[indices]


def load_index(manifest: Manifest) -> Index:
    """All shards' indexes, one after the other. Raises InputError."""
    offsets = np.empty(manifest.records, np.int64)
    lengths = np.empty(manifest.records, np.int32)
    records = [shard.records for shard in manifest.shards]
    first_record = np.cumsum([0, *records], dtype=np.int64)[:-1]
    for shard, first in zip(manifest.shards, first_record, strict=True):
        own = slice(first, first + shard.records)
        offsets[own], lengths[own] = _read_index(manifest.folder, shard).T
    return Index(offsets, lengths, first_record)


def find_splits(folder: Path) -> list[tuple[str, Path]]:
    """Name and folder of each split in a data_dir, or of the one that `folder` is. InputError."""
    if (folder / MANIFEST_FILE).is_file():
        return [(folder.name, folder)]
    names = [name for name in dict.fromkeys(SPLITS.values()) if (folder / name).is_dir()]
    if not names:
        raise InputError(f"--dir={folder} holds no split: no {MANIFEST_FILE} in it or below it.")
    return [(name, folder / name) for name in names]


def save_index(folder: Path, shard: Shard, lengths: Iterable[int]) -> None:
    """Writes the index of a shard whose records have these lengths, header and footer included."""
    ends = list(accumulate(lengths, initial=0))
    lines = [f"{start} {end - start}\n" for start, end in pairwise(ends)]
    durable.write(folder / shard.index_file, "".join(lines))


def save(manifest: Manifest) -> None:
    """Writes manifest.json: after a crash there is the whole file or none."""
    content = {field.name: getattr(manifest, field.name) for field in fields(ManifestFile)}
    durable.write(manifest.folder / MANIFEST_FILE, typed_json.dump(ManifestFile(**content)))


def _read(folder: Path) -> Manifest:
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder. A split is a folder of records; make one from images with "
            f"samestep-records write --images=DIR --out={folder.parent}"
        )
    if not path.is_file():
        raise InputError(
            f"{path} is missing: {folder} holds no finished split. Make one from images with "
            f"samestep-records write --images=DIR --out={folder.parent}"
        )
    try:
        file = typed_json.load(ManifestFile, path)
    except OSError as error:
        raise _broken(folder, f"{path} cannot be read: {error.strerror}") from None
    except typed_json.JsonError as error:
        raise _broken(folder, str(error)) from None
    manifest = Manifest(folder=folder, **vars(file))
    _check_consistency(manifest)
    return manifest


def _check_consistency(manifest: Manifest) -> None:
    """Raises InputError where the manifest contradicts itself."""
    shards, shape = manifest.shards, manifest.schema.raw_shape
    agrees = {
        "classes": len(manifest.classes) == len(manifest.records_per_class) > 0,
        "records_per_class": min(manifest.records_per_class, default=0) >= 0,
        "records": sum(manifest.records_per_class) == manifest.records > 0,
        "shards": all(shard.records > 0 and shard.bytes > 0 for shard in shards),
        "shards' files": all(_is_relative(shard.file) for shard in shards),
        "shards' names": len({shard.index_file for shard in shards}) == len(shards),
        "image_size": manifest.image_size is None or manifest.image_size > 0,
        "schema.raw_shape": shape is None or min(shape) > 0,
    }
    for name, good in agrees.items():
        if not good:
            path = manifest.folder / MANIFEST_FILE
            raise _broken(manifest.folder, f"{path} contradicts itself: {name} cannot be so")


def _is_relative(file: str) -> bool:
    """Whether it can be the path of a file, from the split's folder."""
    path = Path(file)
    return 0 < len(path.name) < 256 and len(file) < 4096 and not path.is_absolute()


def _check_size(folder: Path, shard: Shard) -> None:
    path = folder / shard.file
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise _broken(folder, f"shard {path} is missing") from None
    except OSError as error:
        raise _broken(folder, f"shard {path} cannot be read: {error.strerror}") from None
    if size != shard.bytes:
        raise _broken(folder, f"shard {path} has {size} bytes, the manifest says {shard.bytes}")


def _read_index(folder: Path, shard: Shard) -> np.ndarray:
    """int64[records, 2] of offset and length, in bytes. Raises InputError where they do not fit."""
    path = folder / shard.index_file
    try:
        # 10**6 lines: 0.06 s; np.loadtxt 0.09 s, np.array(text.split()) 0.31 s.
        numbers = np.fromstring(path.read_bytes(), dtype=np.int64, sep=" ")
    except FileNotFoundError:
        raise _broken(folder, f"index {path} is missing") from None
    except OSError as error:
        raise _broken(folder, f"index {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise _broken(folder, f'index {path} has a line that is not "offset length"') from None
    if numbers.size != 2 * shard.records:
        found = f"{numbers.size / 2:g} lines for {shard.records} records"
        raise _broken(folder, f"index {path} has {found}")
    offsets, lengths = numbers.reshape(-1, 2).T
    if lengths.min() < HEADER_BYTES + FOOTER_BYTES or lengths.max() > np.iinfo(np.int32).max:
        raise _broken(folder, f"index {path} has a length that no record can have")
    ends = offsets + lengths
    if offsets[0] != 0 or (offsets[1:] != ends[:-1]).any():
        raise _broken(folder, f"index {path} has a record that does not start where the last ends")
    if ends[-1] != shard.bytes:
        raise _broken(folder, f"index {path} ends at byte {ends[-1]}, the shard at {shard.bytes}")
    return numbers.reshape(-1, 2)


def _broken(folder: Path, what: str) -> InputError:
    return InputError(f"{what}. {_WAY_OUT.format(folder=folder, out=folder.parent)}")
