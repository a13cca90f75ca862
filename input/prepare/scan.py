"""TFRecords that others wrote: which files they are, and their records, one after the other."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from math import isqrt
from pathlib import Path
from typing import BinaryIO, NamedTuple

from input.errors import InputError
from input.foundation.text import counted, one_line
from input.records import (
    FOOTER_BYTES,
    HEADER_BYTES,
    RecordError,
    Schema,
    image_format,
    parse,
    payload_bytes,
    unframe,
)
from input.shard import CHECKSUMS_SUFFIX, INDEX_SUFFIX, SOURCES_SUFFIX, Summary
from input.splits import SPLITS, TEST, all_named, chosen, split_of

log = logging.getLogger(__name__)

SUFFIXES = (".tfrecord", ".tfrecords", ".tfrec", ".record", ".records")
_NUMBERED = re.compile(r"-\d{5}-of-\d{5}$")
MOST_CLASSES = 1_000_000  # more would be another feature read as a label: names are made for all
LONGEST = 2**31 - 1  # bytes of a record: the index in memory has 32 bits for them


class Scanned(NamedTuple):
    """One shard, read from its first byte to its last."""

    path: Path
    summary: Summary
    labels: Counter[int]  # label -> records
    bad: list[str]  # a line for each record that is no image with a label


def is_shard(path: Path) -> bool:
    """Whether a file holds TFRecords: by its name, or, where that has no ending, by its start."""
    name = path.name.lower()
    if name.endswith((INDEX_SUFFIX, CHECKSUMS_SUFFIX, SOURCES_SUFFIX)) or not path.is_file():
        return False
    if _NUMBERED.search(name) or name.endswith(SUFFIXES):
        return True
    if path.suffix:
        return False
    with path.open("rb") as file:
        try:
            payload_bytes(file.read(HEADER_BYTES))
        except RecordError:
            return False
    return True


def find_shards(folder: Path, splits: str) -> dict[str, list[Path]]:
    """Split -> its shards, sorted by name; those of --splits. Raises InputError.

    A file's name says its split, or its folder's.
    """
    if not folder.is_dir():
        raise InputError(f"--dir={folder} is not a folder. It must name a folder of TFRecords.")
    paths = [path for path in sorted(folder.rglob("*")) if is_shard(path)]
    if not paths:
        raise InputError(
            f"--dir={folder} holds no TFRecords: files called {', '.join(SUFFIXES)} or like "
            "train-00000-of-01024."
        )
    found: dict[str, list[Path]] = {}
    for path in paths:
        beside = path.parent.name if path.parent != folder else split_of(folder.resolve().name)
        splits_named = all_named(path.name) or all_named(beside or "")
        if len(splits_named) != 1:
            raise InputError(
                f"Which split is {path}? Its name, or its folder's, must have one of "
                f"{', '.join(SPLITS)}, and has {' and '.join(sorted(splits_named)) or 'none'}."
            )
        if path.stat().st_size:
            found.setdefault(splits_named.pop(), []).append(path)
        else:
            log.warning("%s is empty: passed over", one_line(str(path)))
    for split, own in found.items():
        names = Counter(path.name for path in own)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise InputError(f"Two shards of {split} are called {twice[0]}. Rename one.")
    if not found:
        raise InputError(f"All TFRecords in {folder} are empty.")
    there = sorted(found, key=SPLITS.index)
    return {split: found[split] for split in chosen(splits, there)}


def scan(
    splits: dict[str, list[Path]],
    schema: Schema,
    progress: Callable[[int, int], None],
    max_bad_records: int,
) -> dict[str, list[Scanned]]:
    """Split -> its shards, read. `progress(done, total)` counts bytes.

    Raises InputError, which names the first record that is wrong, or the one too many.
    """
    every = [path for paths in splits.values() for path in paths]
    sizes = {path: path.stat().st_size for path in every}
    before = dict(zip(every, accumulate(sizes.values(), initial=0), strict=False))
    total, bad = sum(sizes.values()), 0
    found: dict[str, list[Scanned]] = {split: [] for split in splits}
    for split, paths in splits.items():
        for path in paths:

            def advance(done: int, start: int = before[path]) -> None:
                progress(start + done, total)

            scanned = _scan_shard(path, schema, advance, max_bad_records - bad, split)
            bad += len(scanned.bad)
            found[split].append(scanned)
    return found


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Byte offset and bytes of each record of a shard. Raises InputError."""
    size, offset, number = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while offset < size:
            try:
                record = _next_record(file, size - offset)
            except RecordError as error:
                raise InputError(
                    f"{_place(path, number, offset)}: {error}.{_compressed(path)}"
                ) from None
            yield offset, record
            offset += len(record)
            number += 1


def _scan_shard(
    path: Path, schema: Schema, progress: Callable[[int], None], allowed: int, split: str
) -> Scanned:
    summary = Summary()
    labels: Counter[int] = Counter()
    bad: list[str] = []
    for offset, record in records(path):
        try:
            labels[_checked(record, schema, split)] += 1
        except RecordError as error:
            line = f"{_place(path, len(summary.lengths), offset)}: {error}"
            bad.append(line)
            if len(bad) > allowed:
                count = f" (one of {counted(len(bad), 'bad record')})" if allowed else ""
                raise InputError(f"{line}{count}.") from None
            log.warning("Bad record: %s", one_line(line))
        summary.add(record)
        progress(offset + len(record))
    return Scanned(path, summary, labels, bad)


def _checked(record: bytes, schema: Schema, split: str) -> int:
    """The label of a record. Raises RecordError where training could not use it."""
    parsed = parse(unframe(record), schema)
    if parsed.label < 0:
        unlabelled = "; a test split without labels is left out with --splits=train,validation"
        raise RecordError(
            f"label {parsed.label} is below 0; --label_offset moves it"
            f"{unlabelled if split == TEST else ''}"
        )
    if parsed.label >= MOST_CLASSES:
        raise RecordError(
            f"label {parsed.label}: a label is the number of a class, and there can be "
            f"{MOST_CLASSES:,}"
        )
    if schema.raw_dtype is None and image_format(parsed.image) is None:
        raise RecordError(f"the image is neither JPEG nor PNG{_advice(parsed.image)}")
    return parsed.label


def _advice(image: bytes) -> str:
    """How an image of neither format may be used."""
    for kind, start in {"WebP": b"RIFF", "GIF": b"GIF8", "BMP": b"BM"}.items():
        if image.startswith(start):
            return f", but {kind}; samestep-records write takes it"
    for dtype, size in (("uint8", 1), ("float32", 4)):
        for channels in (3, 1):
            pixels, left = divmod(len(image), size * channels)
            side = isqrt(pixels)
            if side > 1 and not left and side * side == pixels:
                shape = f"{side},{side},{channels}"
                return f"; its {len(image)} bytes could be --raw_dtype={dtype} --raw_shape={shape}"
    return ""


def _next_record(file: BinaryIO, left: int) -> bytes:
    header = file.read(HEADER_BYTES)
    length = HEADER_BYTES + payload_bytes(header) + FOOTER_BYTES
    if length > LONGEST:
        raise RecordError(f"the record has {length} bytes; up to {LONGEST} can be read")
    if length > left:
        raise RecordError(f"the record has {length} bytes, the file only {left} more")
    return header + file.read(length - HEADER_BYTES)


def _place(path: Path, number: int, offset: int) -> str:
    return f"{path}, record {number}, byte offset {offset}"


def _compressed(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"\x1f\x8b":
        return (
            " The file is compressed with GZIP, and records in it cannot be reached one by one: "
            f"gunzip --stdout {path} > PLAIN/{path.name}"
        )
    if start[:1] == b"\x78":
        return (
            " The file may be compressed with ZLIB: python3 -c 'import sys, zlib; "
            f"sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))' < {path} > "
            f"PLAIN/{path.name}"
        )
    return ""


def class_names(folder: Path, shards: Sequence[Path], file: str = "") -> tuple[str, ...] | None:
    """The names in the file of --classes, or in a *labels.txt or *names.txt beside the shards.

    None where there is no such file. Raises InputError.
    """
    if file:
        files = [Path(file)]
    else:
        folders = sorted({folder, *(path.parent for path in shards)})
        every = (each for place in folders for each in sorted(place.iterdir()))
        files = [each for each in every if each.name.lower().endswith(("labels.txt", "names.txt"))]
    if len(files) > 1:
        raise InputError(f"{folder} has {len(files)} files of labels. Choose one with --classes.")
    if not files:
        return None
    try:
        text = files[0].read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--classes={files[0]} cannot be read: {error}.") from None
    return tuple(name for line in text.split("\n") if (name := line.strip()))
