"""Whether the records can be read, and how fast. No TensorFlow."""

import dataclasses
import os
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from input.foundation.errors import UserError
from input.manifest import Manifest
from input.reader import RecordReader
from input.splits import TRAIN, VALIDATION
from trainer import data
from trainer.checks.finding import Finding, wrong
from trainer.config import Config

MOST_RECORDS = 20_000  # a second's work, from memory
SECONDS = 3.0
BLOCK = 32  # records; a micro-batch
THREADS = 4  # as many micro-batches are read at a time


@dataclass(frozen=True)
class Reading:
    """What was read of a split, in random order."""

    records: int
    bytes: int
    seconds: float
    bad: list[str]

    @property
    def per_second(self) -> float:
        return self.records / self.seconds

    def __str__(self) -> str:
        return f"{self.per_second:,.0f} a second, {self.bytes / 1e6 / self.seconds:,.0f} MB/s"


def examine(config: Config) -> Generator[Finding, None, float | None]:
    """A finding for each split; returns the training records read in a second."""
    rate = None
    for split in (TRAIN, VALIDATION):
        try:
            manifest = data.manifests(config, (split,))[split]
            # All may be bad: each is to be counted.
            inputs = dataclasses.replace(config.input, max_bad_records=manifest.records)
            reader = data.records(dataclasses.replace(config, input=inputs), split, manifest)
            found = read(reader)
        except UserError as error:
            yield wrong(split, error)
            continue
        yield _judged(split, manifest, reader, found, config.input.max_bad_records)
        if split == TRAIN:
            rate = found.per_second
    return rate


def read(reader: RecordReader) -> Reading:
    """Reads records from all over the split, from the disk where the system lets go of copies."""
    count = min(reader.records, MOST_RECORDS)
    numbers = np.unique(np.linspace(0, reader.records - 1, count).astype(np.int64))
    numbers = np.random.default_rng(0).permutation(numbers)
    _forget(reader, numbers)
    blocks = iter(np.split(numbers, range(BLOCK, len(numbers), BLOCK)))
    start, before = time.monotonic(), reader.bytes_read
    with ThreadPoolExecutor(THREADS) as pool:
        done = sum(pool.map(lambda _: _read_until(reader, blocks, start + SECONDS), range(THREADS)))
    seconds = time.monotonic() - start
    bad = [str(reader.bad_records[number]) for number in sorted(reader.bad_records)]
    return Reading(done, reader.bytes_read - before, seconds, bad)


def _read_until(reader: RecordReader, blocks: Iterator[np.ndarray], end: float) -> int:
    """Reads block after block, which other threads take from too; returns the records."""
    done = 0
    for block in blocks:  # an iterator of a list: next() is atomic
        reader.read(block)
        done += len(block)
        if time.monotonic() > end:
            break
    return done


def _forget(reader: RecordReader, numbers: np.ndarray) -> None:
    """Asks the system to drop its copies of some records, so that the disk is measured."""
    places = reader.places(numbers)
    columns = (places.descriptors, places.offsets, places.lengths)
    for descriptor, offset, length in zip(*(each.tolist() for each in columns), strict=True):
        if descriptor >= 0:
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def _judged(
    split: str, manifest: Manifest, reader: RecordReader, found: Reading, allowed: int
) -> Finding:
    shown = (
        f"{reader.records} records, {len(manifest.shards)} shards, {len(manifest.classes)} "
        f"classes, {manifest.fingerprint[:16]}; read {found.records}, {found}"
    )
    if not found.bad:
        return Finding(split, "ok", shown)
    count = len(found.bad)
    what = f"{count} of {found.records} records read {'are' if count > 1 else 'is'} bad"
    if count <= allowed:
        return Finding(
            split, "warning", f"{what}, which --max_bad_records={allowed} allows: {found.bad[0]}"
        )
    list_all = f"samestep-records verify --dir={manifest.folder} lists all"
    return Finding(split, "wrong", f"{what}: {found.bad[0]} {list_all}")
