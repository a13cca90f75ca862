"""What a split's folder holds: manifest.json, the shards, and one index next to each shard.

The index of a shard is text, a line "offset length" per record: bytes, header and footer of the
TFRecord included. NVIDIA DALI's TFRecord reader takes the same files (its tfrecord2idx makes them).
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from input.config import SPLITS
from input.errors import InputError
from input.records import ENCODED, FOOTER_BYTES, HEADER_BYTES, Schema

MANIFEST_FILE = "manifest.json"
VERSION = 1

_WAY_OUT = (
    "Copy {folder} again from where it is whole, or remove it and write it again: "
    "samestep-records write --images=DIR --out={out}, or index for records of others"
)


INDEX_BYTES = 12  # of memory for each record: its offset and its length


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


@dataclass(frozen=True)
class Manifest:
    """One split: its classes (a label is the place in `classes`) and its shards in record order."""

    folder: Path
    classes: tuple[str, ...]
    records_per_class: tuple[int, ...]
    shards: tuple[Shard, ...]
    image_size: int | None  # pixels, where every image is a square of this size
    schema: Schema = ENCODED

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

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Record numbers int64[n] in 0..N-1 -> shard int64[n], offset int64[n], length int32[n]."""
        shard = np.searchsorted(self.first_record, numbers, side="right") - 1
        return shard, self.offsets[numbers], self.lengths[numbers]


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
        raise InputError(f"--dir={folder} holds no split: no {MANIFEST_FILE} in it, nor below it.")
    return [(name, folder / name) for name in names]


def save_index(folder: Path, shard: Shard, lengths: Iterable[int]) -> None:
    """Writes the index of a shard whose records have these lengths, header and footer included."""
    ends = list(accumulate(lengths, initial=0))
    lines = [f"{start} {end - start}\n" for start, end in pairwise(ends)]
    _write_synced(folder / shard.index_file, "".join(lines))


def save(manifest: Manifest) -> None:
    """Writes manifest.json: after a crash there is the whole file or none."""
    content = asdict(manifest)
    del content["folder"]
    path = manifest.folder / MANIFEST_FILE
    temporary = path.with_suffix(".tmp")
    _write_synced(temporary, json.dumps({"version": VERSION, **content}, indent=1))
    temporary.replace(path)
    sync_folder(manifest.folder)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power cut; fsync of a file does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_synced(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _read(folder: Path) -> Manifest:
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder. A split is a folder of records; make one from images with "
            f"samestep-records write --images=DIR --out={folder.parent}"
        )
    if not path.is_file():
        raise InputError(
            f"{path} is missing: {folder} holds no finished split. Make one from images with "
            f"samestep-records write --images=DIR --out={folder.parent}"
        )
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise _broken(folder, f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        version = content.get("version") if isinstance(content, dict) else None
        raise _broken(folder, f"{path} has version {version}; this samestep reads {VERSION}")
    try:
        _check_types(content)
        manifest = Manifest(
            folder=folder,
            classes=tuple(content["classes"]),
            records_per_class=tuple(content["records_per_class"]),
            shards=tuple(Shard(**shard) for shard in content["shards"]),
            image_size=content["image_size"],
            schema=_schema(content["schema"]),
        )
        counted = sum(manifest.records_per_class)
        agrees = counted == manifest.records > 0
        agrees &= len(manifest.classes) == len(manifest.records_per_class)
        agrees &= manifest.image_size is None or manifest.image_size > 0
        agrees &= all(shard.records > 0 for shard in manifest.shards)
        agrees &= not any(Path(shard.file).is_absolute() for shard in manifest.shards)
        indexes = {shard.index_file for shard in manifest.shards}
        agrees &= len(indexes) == len(manifest.shards)
    except KeyError as error:
        raise _broken(folder, f"{path} has no {error}") from None
    except TypeError as error:  # a list or number where there should be another
        raise _broken(folder, f"{path} is no manifest: {error}") from None
    if not agrees:
        raise _broken(folder, f"{path} contradicts itself: its classes, counts and shards differ")
    return manifest


def _check_types(content: dict) -> None:
    """Raises TypeError for what is of another kind than save() writes, KeyError for what is not."""
    shape = content["schema"]["raw_shape"]
    checks = {
        "classes": _all(content["classes"], str) and content["classes"] != [],
        "records_per_class": _all(content["records_per_class"], int),
        "image_size": content["image_size"] is None or _is(content["image_size"], int),
        "shards": _all(content["shards"], dict)
        and all(
            [type(each.get(name)) for name in ("file", "records", "bytes", "sha256")]
            == [str, int, int, str]
            and "\0" not in each["file"]
            for each in content["shards"]
        ),
        "schema": [type(content["schema"][key]) for key in ("image_key", "label_key")] == [str, str]
        and _is(content["schema"]["label_offset"], int)
        and content["schema"]["raw_dtype"] in (None, "uint8", "float32")
        and (shape is None or (_all(shape, int) and len(shape) == 3 and min(shape) > 0)),
    }
    for name, good in checks.items():
        if not good:
            raise TypeError(f"{name} is {json.dumps(content[name])[:60]}")


def _is(value: object, kind: type) -> bool:
    return type(value) is kind  # isinstance would take True for a whole number


def _all(values: object, kind: type) -> bool:
    return _is(values, list) and all(_is(value, kind) for value in values)


def _schema(content: dict) -> Schema:
    shape = content["raw_shape"]
    return Schema(**{**content, "raw_shape": None if shape is None else tuple(shape)})


def _check_size(folder: Path, shard: Shard) -> None:
    path = folder / shard.file
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise _broken(folder, f"shard {path} is missing") from None
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
