"""Finds and lists everything that can be wrong with records on the disk."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from input import internals
from input.errors import InputError
from input.manifest import Manifest, find_splits
from input.prepare.config import VerifyConfig
from input.reader import RecordReader
from input.records import image_format

LISTED = 20  # problems of one kind
BLOCK = 64  # records that a thread checks at a time


@dataclass
class Findings:
    """What was looked at, and what is wrong with it."""

    splits: dict[str, int] = field(default_factory=dict)  # name -> records
    problems: dict[str, list[str]] = field(default_factory=dict)  # kind -> a line each

    def add(self, kind: str, line: str) -> None:
        self.problems.setdefault(kind, []).append(line)

    def lines(self) -> Iterator[str]:
        """What is wrong, by kind, LISTED lines of each at most."""
        for kind, found in self.problems.items():
            yield f"{kind}: {len(found):,}"
            yield from (f"  {line}" for line in found[:LISTED])
            if len(found) > LISTED:
                yield f"  and {len(found) - LISTED:,} more"

    def summary(self) -> str:
        records = ", ".join(f"{split} {count:,}" for split, count in self.splits.items())
        wrong = sum(len(found) for found in self.problems.values())
        return f"records: {records or 'none'}; {f'wrong: {wrong:,}' if wrong else 'nothing wrong'}"


class _Verified(NamedTuple):
    """A record whose image is sound, or why it is not."""

    digest: bytes
    reason: str


def verify(
    config: VerifyConfig, progress: Callable[[int, int], None] = lambda done, total: None
) -> Findings:
    """Checks shards, indexes, checksums, labels, images, and duplicate images.

    `progress(done, total)` counts records. Raises InputError where there are no records at all.
    """
    folder, findings = Path(config.dir), Findings()
    manifests = {}
    for split, path in find_splits(folder):
        try:
            manifests[split] = Manifest.load(path)
        except InputError as error:
            findings.add("splits that cannot be read", str(error))
    if len({manifest.classes for manifest in manifests.values()}) > 1:
        findings.add("classes that differ", f"between {' and '.join(manifests)}")
    total = sum(manifest.records for manifest in manifests.values())
    seen: dict[bytes, tuple[str, int]] = {}  # content -> the first place with it
    done = 0
    for split, manifest in manifests.items():
        findings.splits[split] = manifest.records
        _check_shards(manifest, findings)
        for number, verified in enumerate(_check_images(config, manifest, findings)):
            place = (split, number)
            if verified.reason:
                findings.add("bad images", f"{_named(manifests, *place)}: {verified.reason}")
            elif verified.digest:
                first = seen.setdefault(verified.digest, place)
                if first != place:
                    places = f"{_named(manifests, *place)}: as {_named(manifests, *first)}"
                    findings.add("duplicate images", places)
            progress(done := done + 1, total)
    return findings


def _named(manifests: dict[str, Manifest], split: str, number: int) -> str:
    source = manifests[split].source(number)
    return f"{split}, record {number}{f' ({source})' if source else ''}"


def _check_shards(manifest: Manifest, findings: Findings) -> None:
    for shard in manifest.shards:
        with (manifest.folder / shard.file).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                findings.add("shards", f"{manifest.folder / shard.file}: not what was written")


def _check_images(
    config: VerifyConfig, manifest: Manifest, findings: Findings
) -> Iterator[_Verified]:
    """Every record in order; what the reader finds wrong goes to the findings."""
    reader = RecordReader(manifest, manifest.records, config.max_pixels)

    def check(first: int) -> list[_Verified]:
        block = reader.read(np.arange(first, min(first + BLOCK, manifest.records)))
        return [
            _check(image, manifest) if weight else _Verified(b"", "")
            for image, weight in zip(block.images, block.weights, strict=True)
        ]

    with ThreadPoolExecutor(config.jobs or os.cpu_count() or 1) as pool:
        blocks = range(0, manifest.records, BLOCK)
        for block in pool.map(check, blocks):
            yield from block
    for number in sorted(reader.bad_records):
        findings.add("bad records", str(reader.bad_records[number]))


def _check(image: bytes, manifest: Manifest) -> _Verified:
    """Decodes an image with what training decodes it with."""
    reason = ""
    if manifest.schema.raw_dtype is None:
        jpeg = image_format(image) == "jpeg"
        try:
            (tf.io.decode_jpeg if jpeg else tf.io.decode_png)(image, channels=3)
        except tf.errors.InvalidArgumentError as error:
            reason = internals.reason(error)
    return _Verified(hashlib.blake2b(image, digest_size=16).digest(), reason)
