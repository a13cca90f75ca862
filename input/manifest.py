"""What a split's folder holds: manifest.json, and the shards with their indexes and checksums."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from input import mistaken
from input.errors import InputError
from input.foundation import durable, typed_json
from input.records import ENCODED, Schema
from input.shard import Shard, broken, check_size, read_checksums, read_index, read_sources
from input.splits import MANIFEST_FILE, SPLITS

INDEX_BYTES = 16  # memory of each record: its offset, its length and its checksum


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
    def has_checksums(self) -> bool:
        """Whether a record can be told from another of the same length."""
        return all(shard.checksums is not None for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the classes and the shards' contents: the same data, the same hash.

        Folder and file names do not count.
        """
        data = [self.classes, asdict(self.schema), [shard.sha256 for shard in self.shards]]
        return hashlib.sha256(json.dumps(data).encode()).hexdigest()

    def source(self, record: int) -> str:
        """The file that a record was made from; empty where that is not known."""
        for shard in self.shards:
            if record < shard.records:
                names = read_sources(self.folder, shard)
                return names[record] if names else ""
            record -= shard.records
        raise IndexError(record)

    @classmethod
    def load(cls, folder: str | Path, verify_files: bool = True) -> "Manifest":
        """Reads manifest.json and checks what it says against the files.

        Indexes and checksums are always checked in full. Of the shards only existence and size are
        looked at, and not even these without `verify_files`. Raises InputError.
        """
        folder = Path(folder)
        manifest = _read(folder)
        for shard in manifest.shards:
            if verify_files:
                check_size(folder, shard)
            read_index(folder, shard)
            read_checksums(folder, shard)
        return manifest


@dataclass(frozen=True, eq=False)
class Index:
    """Where each of a manifest's N records lies, and which it is; 16 bytes of memory per record."""

    offsets: np.ndarray  # int64[N], bytes from the start of the shard
    lengths: np.ndarray  # int32[N], bytes, header and footer included
    checksums: np.ndarray | None  # uint32[N], as they lie in the files; None: not known
    first_record: np.ndarray  # int64[shards]

    def part(self, numbers: np.ndarray) -> "Index":
        """The index of some of the records; numbers: int64[n], ascending."""
        return Index(
            self.offsets[numbers],
            self.lengths[numbers],
            None if self.checksums is None else self.checksums[numbers],
            np.searchsorted(numbers, self.first_record),
        )

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Record indices int64[n] in 0..N-1 -> shard int64[n], offset int64[n], length int32[n]."""
        shard = np.searchsorted(self.first_record, indices, side="right") - 1
        return shard, self.offsets[indices], self.lengths[indices]


def load_index(manifest: Manifest) -> Index:
    """All shards' indexes, one after the other. Raises InputError."""
    offsets = np.empty(manifest.records, np.int64)
    lengths = np.empty(manifest.records, np.int32)
    checksums = np.empty(manifest.records, np.uint32) if manifest.has_checksums else None
    records = [shard.records for shard in manifest.shards]
    first_record = np.cumsum([0, *records], dtype=np.int64)[:-1]
    for shard, first in zip(manifest.shards, first_record, strict=True):
        own = slice(first, first + shard.records)
        offsets[own], lengths[own] = read_index(manifest.folder, shard).T
        found = read_checksums(manifest.folder, shard)
        if checksums is not None and found is not None:
            checksums[own] = found
    return Index(offsets, lengths, checksums, first_record)


def find_splits(folder: Path) -> list[tuple[str, Path]]:
    """Name and folder of each split in a data_dir, or of the one that `folder` is. InputError."""
    if os.path.lexists(folder / MANIFEST_FILE):
        return [(folder.name, folder)]
    names = [name for name in SPLITS if (folder / name).is_dir()]
    if not any(os.path.lexists(folder / name / MANIFEST_FILE) for name in names):
        raise InputError(mistaken.explain(folder, "dir"))
    return [(name, folder / name) for name in names]


def save(manifest: Manifest) -> None:
    """Writes manifest.json: after a crash there is the whole file or none."""
    content = {field.name: getattr(manifest, field.name) for field in fields(ManifestFile)}
    durable.write(manifest.folder / MANIFEST_FILE, typed_json.dump(ManifestFile(**content)))


def _read(folder: Path) -> Manifest:
    path = folder / MANIFEST_FILE
    try:
        file = typed_json.load(ManifestFile, path)
    except (FileNotFoundError, NotADirectoryError):
        found = f"{path} is missing: {folder} holds no finished split"
        if not folder.is_dir():
            found = f"{folder} is not a folder. A split is a folder of records"
        raise InputError(
            f"{found}. Make one from images with samestep-records write --images=DIR "
            f"--out={folder.parent}"
        ) from None
    except OSError as error:
        raise broken(folder, f"{path} cannot be read: {error.strerror}") from None
    except typed_json.JsonError as error:
        raise broken(folder, str(error)) from None
    manifest = Manifest(folder=folder, **vars(file))
    _check_consistency(manifest)
    return manifest


def _check_consistency(manifest: Manifest) -> None:
    """Raises InputError where the manifest contradicts itself."""
    shards, shape = manifest.shards, manifest.schema.raw_shape
    agrees = {
        "classes": len(manifest.classes) == len(manifest.records_per_class) > 0,
        "records_per_class": min(manifest.records_per_class, default=0) >= 0,
        # Fewer where others' bad records are indexed.
        "records": 0 < sum(manifest.records_per_class) <= manifest.records,
        "shards": all(shard.records > 0 and shard.bytes > 0 for shard in shards),
        "shards' files": all(_is_relative(shard.file) for shard in shards),
        "shards' names": len({shard.index_file for shard in shards}) == len(shards),
        "image_size": manifest.image_size is None or manifest.image_size > 0,
        "shards' checksums": len({shard.checksums is None for shard in shards}) == 1,
        "schema.raw_shape": shape is None or _can_be(manifest.schema, shards),
    }
    for name, good in agrees.items():
        if not good:
            path = manifest.folder / MANIFEST_FILE
            raise broken(manifest.folder, f"{path} contradicts itself: {name} cannot be so")


def _can_be(schema: Schema, shards: tuple[Shard, ...]) -> bool:
    """Whether images of raw_shape fit into the shards."""
    height, width, channels = schema.raw_shape or (0, 0, 0)
    smallest = min(shard.bytes // shard.records for shard in shards)
    image = height * width * schema.pixel_bytes
    return min(height, width) > 0 and channels in (1, 3) and image < smallest


def _is_relative(file: str) -> bool:
    """Whether it can be the path of a file, from the split's folder."""
    path = Path(file)
    return 0 < len(path.name) < 256 and len(file) < 4096 and not path.is_absolute()
