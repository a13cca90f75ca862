"""Every byte is checked, and what is read does not depend on how it is read."""

import gc
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from input import reader
from input.errors import BadRecordError, InputError
from input.manifest import Manifest, Shard, save
from input.reader import BLANK, blank_image
from input.records import ENCODED, RAW, Schema, encode, frame
from tests.conftest import ROOT
from tests.input.conftest import IN_READING, check_names, missing_shard, truncated_shard


@pytest.mark.parametrize("damage", IN_READING)
def test_reading_a_bad_record(records, damage):
    indices = np.arange(160)
    expected = records.reader().read(indices)
    bad = damage(records)
    with pytest.raises(BadRecordError) as caught:
        records.reader().read(indices)
    assert caught.value.record == min(bad)
    check_names(caught.value, records, bad)
    with pytest.raises(BadRecordError):
        records.reader(max_bad_records=len(bad) - 1).read(indices)
    reader = records.reader(max_bad_records=len(bad))
    for found, block in zip(reader.read(indices), expected, strict=True):
        is_bad = np.isin(indices, list(bad))
        assert np.array_equal(found[~is_bad], block[~is_bad])
    assert list(reader.bad_records) == list(bad)
    assert reader.failure is None


@pytest.mark.parametrize("damage", [truncated_shard, missing_shard])
def test_damaged_files_are_seen_before_training(records, damage):
    damage(records)
    with pytest.raises(InputError, match=r"shard .* (is missing|has \d+ bytes, the manifest says)"):
        Manifest.load(records.manifest.folder)


def test_read_returns_what_was_asked_for(records):
    indices = np.array([159, -1, 0, 70, 70, -1])
    images, _, labels, weights = records.reader().read(indices)
    contents = [records.content(n) if n >= 0 else (BLANK, 0) for n in indices]
    assert list(zip(images, labels, strict=True)) == contents
    assert weights.tolist() == [1, 0, 1, 1, 1, 0]
    assert (images.dtype, labels.dtype, weights.dtype) == (object, np.int32, np.float32)


def test_blank_is_one_black_pixel():
    assert np.array_equal(tf.io.decode_png(BLANK, channels=3), np.zeros((1, 1, 3)))
    assert blank_image(ENCODED) == (BLANK, 0)
    assert blank_image(RAW) == (bytes(3), 1)
    assert blank_image(Schema(raw_dtype="float32", raw_shape=(5, 7, 1))) == (bytes(4), 1)


def test_a_short_read_goes_on(records, monkeypatch):
    indices = np.arange(160)
    expected = records.reader().read(indices)
    pread = os.pread
    monkeypatch.setattr(reader.os, "pread", lambda fd, n, at: pread(fd, min(n, 100), at))
    found = records.reader().read(indices)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_neighbours_are_read_at_once(records):
    reader = records.reader()
    expected = [records.content(n) for n in range(160)]
    found = reader.read(np.arange(160))
    assert list(zip(found.images, found.labels, strict=True)) == expected
    shards = records.manifest.shards
    assert (reader.reads, reader.bytes_read) == (len(shards), sum(shard.bytes for shard in shards))
    indices = np.array([7, 8, -1, 9, 3, 3, 159])
    found = reader.read(indices)
    assert [found.images[i] for i in (0, 1, 3, 4, 5, 6)] == [
        expected[n][0] for n in indices if n >= 0
    ]
    assert reader.reads == len(shards) + 4


def test_a_sector_that_cannot_be_read_costs_its_own_record(records, monkeypatch):
    path, start, length = records.locate(5)
    pread = os.pread

    def failing(descriptor, n, at):
        if (
            at < start + length
            and start < at + n
            and Path(f"/proc/self/fd/{descriptor}").readlink() == path
        ):
            raise OSError(5, "Input/output error")
        return pread(descriptor, n, at)

    monkeypatch.setattr(reader.os, "pread", failing)
    found = records.reader(max_bad_records=1).read(np.arange(20))
    assert np.flatnonzero(found.weights == 0).tolist() == [5]
    with pytest.raises(BadRecordError, match=r"record 5, .* cannot be read: Input/output error"):
        records.reader().read(np.arange(20))


# Files


def open_files(folder: Path) -> list[str]:
    """What this process has open in a folder."""
    gc.collect()  # what a failed test's traceback holds may be closed at any moment
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [str(link.readlink()) for link in links if link.readlink().is_relative_to(folder)]


def test_close_closes_the_shards_and_reading_opens_them_again(records):
    reader, folder = records.reader(), records.manifest.folder
    assert open_files(folder) == []
    reader.read(np.arange(160))
    assert len(open_files(folder)) == 3
    reader.close()
    assert open_files(folder) == []
    assert reader.read(np.arange(160)).weights.all()
    del reader
    assert open_files(folder) == []


def test_close_waits_for_reads_under_way(records):
    reader = records.reader()
    indices = np.arange(160)
    expected = reader.read(indices)
    stop = threading.Event()

    def close():
        while not stop.is_set():
            reader.close()

    closer = threading.Thread(target=close)
    closer.start()
    try:
        for _ in range(20):
            found = reader.read(indices)  # raises for a bad record
            assert np.array_equal(found.images, expected.images)
    finally:
        stop.set()
        closer.join()


@pytest.fixture
def two_thousand_shards(tmp_path) -> Path:
    folder = tmp_path / "train"
    folder.mkdir()
    shards = []
    for i in range(2000):
        record = frame(encode(BLANK, i % 2))
        shard = Shard(f"{i}.tfrecord", 1, len(record), f"{i}")
        (folder / shard.file).write_bytes(record)
        (folder / shard.index_file).write_text(f"0 {len(record)}\n")
        shards.append(shard)
    save(
        Manifest(
            folder=folder,
            classes=("a", "b"),
            records_per_class=(1000, 1000),
            shards=tuple(shards),
            image_size=1,
        )
    )
    return folder


READ_ALL = """
import os, resource, sys
import numpy as np
from input.manifest import Manifest
from input.reader import RecordReader
soft, hard = int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
before = len(os.listdir("/proc/self/fd"))
reader = RecordReader(Manifest.load(sys.argv[1]))
for indices in (np.arange(2000), np.arange(2000)[::-1]):
    labels = reader.read(indices).labels
    assert (labels == indices % 2).all()
assert "tensorflow" not in sys.modules
print(len(os.listdir("/proc/self/fd")) - before, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_two_thousand_shards(two_thousand_shards):
    def read_all(soft, hard):
        command = [sys.executable, "-c", READ_ALL, two_thousand_shards, str(soft), str(hard)]
        return subprocess.check_output(command, cwd=ROOT, text=True).split()

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= 2256:
        assert read_all(256, hard) == ["2000", "2256"]
    assert read_all(256, 400) == ["100", "400"]
