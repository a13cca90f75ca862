"""TFRecords that others wrote -> manifests and indexes; the files are not moved or changed."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, NamedTuple

from input.config import SPLITS
from input.errors import InputError
from input.foundation import durable
from input.manifest import MANIFEST_FILE, Manifest, save
from input.prepare.config import IndexConfig
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
from input.shard import CHECKSUMS_SUFFIX, INDEX_SUFFIX, Summary

MOST_CLASSES = 1_000_000  # more would be another feature read as a label: names are made for all
LONGEST = 2**31 - 1  # bytes of a record: the index in memory has 32 bits for them
_SHARD = re.compile(r"\.tfrecords?\b|-\d{5}-of-\d{5}$")
_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(SPLITS)})(?![a-z])")


class _Scanned(NamedTuple):
    """One shard, read from its first byte to its last."""

    path: Path
    summary: Summary
    labels: Counter[int]  # label -> records


def index(
    config: IndexConfig, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Manifest]:
    """Reads every record and writes OUT/<split>/manifest.json and an index per shard.

    Images are not decoded (samestep-records verify does). `progress(done, total)` counts bytes.
    Raises InputError, which names the first record that is wrong.
    """
    folder, out = Path(config.dir), Path(config.out or config.dir)
    try:
        return _index(config, folder, out, progress)
    except OSError as error:
        raise InputError(f"Indexing {folder} in {out} failed: {error}.") from error


def _index(
    config: IndexConfig, folder: Path, out: Path, progress: Callable[[int, int], None]
) -> dict[str, Manifest]:
    splits = _find_shards(folder)
    # train last: without its manifest nothing can be trained on.
    in_order = sorted(splits, key="train".__eq__)
    indexed = [out / split for split in in_order if (out / split / MANIFEST_FILE).exists()]
    if out / in_order[-1] in indexed:  # else it was interrupted, and is done anew
        return _bind(indexed, progress)
    schema = Schema(
        config.image_key, config.label_key, config.label_offset, config.raw_dtype, config.shape()
    )
    every = [path for paths in splits.values() for path in paths]
    found = dict(zip(every, _scan(every, schema, progress), strict=True))
    scanned = {split: [found[path] for path in paths] for split, paths in splits.items()}
    classes = _class_names(config, folder, scanned)
    manifests = {split: _save(out / split, classes, schema, scanned[split]) for split in in_order}
    return {split: manifests[split] for split in splits}


def _find_shards(folder: Path) -> dict[str, list[Path]]:
    """Split -> its shards, sorted by name. Raises InputError."""
    if not folder.is_dir():
        raise InputError(f"--dir={folder} is not a folder. It must name a folder of TFRecords.")
    paths = [path for path in sorted(folder.rglob("*")) if _SHARD.search(path.name)]
    beside = (INDEX_SUFFIX, CHECKSUMS_SUFFIX)
    paths = [path for path in paths if path.suffix not in beside and path.is_file()]
    if not paths:
        raise InputError(
            f"--dir={folder} holds no TFRecords: files called .tfrecord or like "
            "train-00000-of-01024."
        )
    splits: dict[str, list[Path]] = {}
    for path in paths:
        named = _SPLIT.findall(path.name.lower()) or _SPLIT.findall(
            path.relative_to(folder).parent.name.lower()
        )
        found = {SPLITS[name] for name in named}
        if len(found) != 1:
            raise InputError(
                f"Which split is {path}? Its name, or its folder's, must have one of "
                f"{', '.join(SPLITS)}, and has {' and '.join(sorted(found)) or 'none'}."
            )
        splits.setdefault(found.pop(), []).append(path)
    for split, own in splits.items():
        names = Counter(path.name for path in own)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise InputError(f"Two shards of {split} are called {twice[0]}. Rename one.")
    return splits


def _bind(folders: list[Path], progress: Callable[[int, int], None]) -> dict[str, Manifest]:
    """Adds checksums to splits of samestep 0.1, which had none; their fingerprints stay."""
    unbound = [each for each in map(Manifest.load, folders) if not each.has_checksums]
    if not unbound:
        raise InputError(f"{folders[0] / MANIFEST_FILE} exists. Remove it to index anew.")
    bound = {}
    for manifest in unbound:
        folder = manifest.folder
        paths = [folder / shard.file for shard in manifest.shards]
        scanned = _scan(paths, manifest.schema, progress)
        for shard, each in zip(manifest.shards, scanned, strict=True):
            if each.summary.shard(shard.file).sha256 != shard.sha256:
                raise InputError(
                    f"{each.path} is not what was indexed: its SHA-256 is another. Copy it again "
                    f"from where it is whole, or remove {folder / MANIFEST_FILE} to index it as it "
                    "is."
                )
        shards = tuple(
            each.summary.save(folder, shard.file)
            for shard, each in zip(manifest.shards, scanned, strict=True)
        )
        bound[folder.name] = replace(manifest, shards=shards)
        save(bound[folder.name])
    return bound


def _scan(
    paths: Sequence[Path], schema: Schema, progress: Callable[[int, int], None]
) -> list[_Scanned]:
    """`progress(done, total)` counts bytes."""
    sizes = [path.stat().st_size for path in paths]
    scanned = []
    for path, before in zip(paths, accumulate(sizes[:-1], initial=0), strict=True):

        def scanned_of_all(done: int, before: int = before) -> None:
            progress(before + done, sum(sizes))

        scanned.append(_scan_shard(path, schema, scanned_of_all))
    return scanned


def _scan_shard(path: Path, schema: Schema, progress: Callable[[int], None]) -> _Scanned:
    size, offset = path.stat().st_size, 0
    summary = Summary()
    labels: Counter[int] = Counter()
    with path.open("rb") as file:
        while offset < size:
            try:
                record = _next_record(file, size - offset)
                parsed = parse(unframe(record), schema)
                if parsed.label < 0:
                    raise RecordError(f"label {parsed.label} is below 0; --label_offset moves it")
                if parsed.label >= MOST_CLASSES:
                    raise RecordError(
                        f"label {parsed.label}: a label is the number of a class, and there can be "
                        f"{MOST_CLASSES:,}"
                    )
                if schema.raw_dtype is None and image_format(parsed.image) is None:
                    raise RecordError("the image is neither JPEG nor PNG")
            except RecordError as error:
                raise InputError(
                    f"{path}, record {len(summary.lengths)}, byte offset {offset}: {error}."
                    f"{_compressed(path)}"
                ) from None
            summary.add(record)
            labels[parsed.label] += 1
            offset += len(record)
            progress(offset)
    if not summary.lengths:
        raise InputError(f"{path} is empty. Remove it.")
    return _Scanned(path, summary, labels)


def _next_record(file: BinaryIO, left: int) -> bytes:
    header = file.read(HEADER_BYTES)
    length = HEADER_BYTES + payload_bytes(header) + FOOTER_BYTES
    if length > LONGEST:
        raise RecordError(f"the record has {length} bytes; up to {LONGEST} can be read")
    if length > left:
        raise RecordError(f"the record has {length} bytes, the file only {left} more")
    return header + file.read(length - HEADER_BYTES)


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


def _class_names(
    config: IndexConfig, folder: Path, scanned: dict[str, list[_Scanned]]
) -> tuple[str, ...]:
    every = [shard for shards in scanned.values() for shard in shards]
    needed = 1 + max(max(shard.labels) for shard in every)
    files = [Path(config.classes)] if config.classes else sorted(folder.glob("*labels.txt"))
    if len(files) > 1:
        raise InputError(f"{folder} has {len(files)} files of labels. Choose one with --classes.")
    if not files:
        return tuple(str(label) for label in range(needed))
    try:
        names = tuple(files[0].read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--classes={files[0]} cannot be read: {error}.") from None
    if len(names) < needed:
        where = next(shard.path for shard in every if max(shard.labels) >= len(names))
        raise InputError(
            f"{files[0]} has {len(names)} class names, but {where} a label {needed - 1}. "
            "Labels count from 0; --label_offset moves them."
        )
    return names


def _save(
    folder: Path, classes: tuple[str, ...], schema: Schema, scanned: list[_Scanned]
) -> Manifest:
    durable.make(folder)
    shards = []
    for each in scanned:
        # Both without links: from where the manifest really lies to where the shard really lies.
        file = os.path.relpath(each.path.resolve(), folder.resolve())
        shards.append(each.summary.save(folder, file))
    labels = sum((each.labels for each in scanned), Counter())
    shape = schema.raw_shape
    manifest = Manifest(
        folder=folder,
        classes=classes,
        records_per_class=tuple(labels[label] for label in range(len(classes))),
        shards=tuple(shards),
        image_size=shape[0] if shape and shape[0] == shape[1] else None,
        schema=schema,
    )
    save(manifest)
    return manifest
