"""Every byte is checked, and what is read does not depend on how it is read."""

import gc
import os
import resource
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from input import reader
from input.errors import BadRecordError, InputError
from input.foundation import retry
from input.manifest import Manifest, save
from input.reader import BLANK, blank_image
from input.records import ENCODED, RAW, Schema, encode, frame
from input.shard import Shard, Summary
from tests.conftest import ROOT
from tests.input.conftest import IN_READING, check_names, missing_shard, truncated_shard


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """What would have been slept between tries."""
    slept: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", slept.append)
    return slept


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
    monkeypatch.setattr(os, "pread", lambda fd, n, at: pread(fd, min(n, 100), at))
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


def test_a_file_system_that_fails_for_a_moment_loses_nothing(records, monkeypatch, pauses):
    expected = records.reader().read(np.arange(20))
    for times in (1, 2, 1 + len(retry.PAUSE_SECONDS)):
        pread, left = os.pread, [OSError(5, "Input/output error")] * times

        def failing(descriptor, n, at, pread=pread, left=left):
            if left:
                raise left.pop()
            return pread(descriptor, n, at)

        monkeypatch.setattr(os, "pread", failing)
        found = records.reader().read(np.arange(20))
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        assert pauses == list(retry.PAUSE_SECONDS[: times - 1])  # the first time at once
        monkeypatch.setattr(os, "pread", pread)
        pauses.clear()


def test_a_file_system_that_fails_for_good_is_what_the_error_names(records, monkeypatch, pauses):
    def failing(descriptor, n, at):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(BadRecordError) as caught:
        records.reader().read(np.arange(20))
    assert "cannot be read: Input/output error. Repair the file system or copy" in str(caught.value)
    # The run of 20 neighbours, then the first of them alone.
    assert pauses == [*retry.PAUSE_SECONDS] * 2


def test_a_shard_that_is_opened_anew_after_an_error(records, monkeypatch, pauses):
    """A handle that has grown stale never works again; the path does."""
    stale, own = records.reader(), records.manifest.folder
    stale.read(np.arange(5))
    (before,) = open_files(own)
    pread, handles = os.pread, {}

    def failing(descriptor, n, at):
        handles.setdefault(descriptor, len(handles))
        if handles[descriptor] == 0:
            os.dup2(os.open(before, os.O_RDONLY), descriptor)  # its number stays taken
            handles.clear()
            handles[-1] = 0
            raise OSError(116, "Stale file handle")
        return pread(descriptor, n, at)

    monkeypatch.setattr(os, "pread", failing)
    opened = []
    monkeypatch.setattr(
        reader.durable,
        "open_regular",
        lambda path, real=reader.durable.open_regular: (opened.append(str(path)), real(path))[1],
    )
    assert stale.read(np.arange(5)).weights.all()
    assert opened == [before]


def test_a_sector_that_cannot_be_read_costs_its_own_record(records, monkeypatch, pauses):
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

    monkeypatch.setattr(os, "pread", failing)
    found = records.reader(max_bad_records=1).read(np.arange(20))
    assert np.flatnonzero(found.weights == 0).tolist() == [5]
    with pytest.raises(BadRecordError, match=r"record 5, .* cannot be read: Input/output error"):
        records.reader().read(np.arange(20))


@pytest.mark.parametrize("bound", [True, False])
def test_shards_of_the_same_length_that_changed_places(tmp_path, bound):
    """Raw pixels: any shard with as many images fits. Only checksums tell them apart."""
    folder, random = tmp_path / "train", np.random.default_rng(0)
    folder.mkdir()
    shards = []
    for name in "ab":
        summary = Summary()
        framed = [frame(encode(random.bytes(27), i % 2, (3, 3))) for i in range(4)]
        for record in framed:
            summary.add(record)
        (folder / name).write_bytes(b"".join(framed))
        shards.append(summary.save(folder, name))
        if not bound:
            shards[-1] = replace(shards[-1], checksums=None)
    manifest = Manifest(
        folder=folder,
        classes=("0", "1"),
        records_per_class=(4, 4),
        shards=tuple(shards),
        image_size=3,
        schema=RAW,
    )
    save(manifest)
    whole = reader.RecordReader(Manifest.load(folder)).read(np.arange(8))
    assert whole.weights.all()
    (folder / "a").rename(folder / "c")
    (folder / "b").rename(folder / "a")
    (folder / "c").rename(folder / "b")
    found = reader.RecordReader(Manifest.load(folder), max_bad_records=8).read(np.arange(8))
    assert found.weights.tolist() == [0.0 if bound else 1.0] * 8
    assert bound or found.images.tolist() == [*whole.images[4:], *whole.images[:4]]


@pytest.mark.parametrize("image", ["png", "jpg"])
def test_an_image_of_too_many_pixels_is_not_decoded(records, image):
    indices = np.arange(160)
    every = records.reader().read(indices).images
    start = {"png": b"\x89PNG", "jpg": b"\xff\xd8"}[image]
    of_kind = [n for n in indices.tolist() if every[n].startswith(start)]
    manifest = Manifest.load(records.manifest.folder)
    assert reader.RecordReader(manifest, 0, max_pixels=256).read(indices).weights.all()
    with pytest.raises(
        BadRecordError, match="the image's 256 pixels are more than --max_pixels=255"
    ):
        reader.RecordReader(manifest, 0, max_pixels=255).read(np.array(of_kind))


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
