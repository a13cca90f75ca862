"""Every byte is checked, and a bad record stops the run or costs exactly its own slot."""

import gc
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from input import order, pipeline, reader
from input.config import InputConfig
from input.errors import BadRecordError, InputError
from input.manifest import Manifest, Shard, load_index, save
from input.reader import BLANK, RecordReader
from input.records import HEADER_BYTES, encode, frame, parse, unframe

ROOT = Path(__file__).parents[1]
CONFIG = InputConfig(global_batch_size=16, micro_batch_size=8, image_size=12)
EPOCH = 160 // 8  # micro-batches
SEED = 3


class Records:
    """A copy of the training records, to be damaged."""

    def __init__(self, folder: Path):
        self.manifest = Manifest.load(folder)
        self.index = load_index(self.manifest)

    def locate(self, number: int) -> tuple[Path, int, int]:
        shard, offset, length = (int(a[0]) for a in self.index.locate(np.array([number])))
        return self.manifest.folder / self.manifest.shards[shard].file, offset, length

    def content(self, number: int) -> tuple[bytes, int]:
        path, offset, length = self.locate(number)
        return parse(unframe(path.read_bytes()[offset : offset + length]))[:2]

    def write(self, number: int, at: int, new: bytes) -> None:
        """Overwrites bytes of a record, counted from its start."""
        path, offset, _ = self.locate(number)
        with path.open("r+b") as file:
            file.seek(offset + at)
            file.write(new)

    def flip(self, number: int, at: int) -> None:
        path, offset, _ = self.locate(number)
        self.write(number, at, bytes([path.read_bytes()[offset + at] ^ 0x10]))

    def replace(self, number: int, image: bytes, label: int) -> None:
        record = frame(encode(image, label))
        assert len(record) == self.locate(number)[2]
        self.write(number, 0, record)

    def reader(self, max_bad_records: int = 0) -> RecordReader:
        manifest = Manifest.load(self.manifest.folder, verify_files=False)
        return RecordReader(manifest, max_bad_records)


@pytest.fixture
def records(data_dir, tmp_path) -> Records:
    return Records(shutil.copytree(data_dir / "train", tmp_path / "train"))


def batches(reader, count=EPOCH, config=CONFIG):
    """Some micro-batches as NumPy arrays."""
    plan = order.plan(config, reader.records, 1)
    dataset = pipeline.train(config, reader, plan, seed=SEED)
    return list(dataset.take(count).as_numpy_iterator())


@pytest.fixture(scope="module")
def undamaged(data_dir):
    return batches(RecordReader(Manifest.load(data_dir / "train")), EPOCH + 4)


# Damages of records: each returns the bad ones and why they are bad.


def payload_byte(records):
    records.flip(70, HEADER_BYTES + 100)
    return {70: "the payload's checksum does not match"}


def length_byte(records):
    records.flip(71, 1)
    return {71: "the length's checksum does not match"}


def no_image(records):
    image, label = records.content(72)
    records.replace(72, b"GIF89a" + image[6:], label)
    return {72: "the image is neither JPEG nor PNG"}


def label_out_of_range(records):
    records.replace(73, records.content(73)[0], 3)
    return {73: "label 3 is not one of the 3 classes"}


def truncated_shard(records):
    last = records.manifest.shards[0].records - 1
    path, offset, length = records.locate(last)
    os.truncate(path, offset + 30)
    return {last: f"short read: 30 of {length} bytes"}


def missing_shard(records):
    records.locate(159)[0].unlink()
    first = 160 - records.manifest.shards[2].records
    reason = "the shard cannot be read: No such file or directory"
    return dict.fromkeys(range(first, 160), reason)


def undecodable_png(records):
    number = next(n for n in range(70) if records.content(n)[0].startswith(b"\x89PNG"))
    image, label = records.content(number)
    records.replace(number, image[:40] + bytes(len(image) - 40), label)
    return {number: "the image cannot be decoded: Invalid PNG. Failed to initialize decoder"}


def undecodable_jpeg(records):
    number = next(n for n in range(70) if records.content(n)[0].startswith(b"\xff\xd8"))
    image, label = records.content(number)
    records.replace(number, image[:20] + bytes(len(image) - 20), label)
    return {number: f"the image cannot be decoded: Invalid JPEG data, size {len(image)}"}


IN_READING = [
    payload_byte,
    length_byte,
    no_image,
    label_out_of_range,
    truncated_shard,
    missing_shard,
]
IN_DECODING = [undecodable_png, undecodable_jpeg]


def check_names(error: BadRecordError, records: Records, bad: dict[int, str]):
    path, offset, _ = records.locate(error.record)
    assert (error.shard, error.offset) == (str(path), offset)
    assert error.reason == bad[error.record]
    assert str(error) == (
        f"Bad record: shard {path}, record {error.record}, byte offset {offset}: {error.reason}. "
        "Write the records again, or allow some with --max_bad_records."
    )


@pytest.mark.parametrize("damage", IN_READING)
def test_reading_a_bad_record(records, damage):
    numbers = np.arange(160)
    expected = records.reader().read(numbers)
    bad = damage(records)
    with pytest.raises(BadRecordError) as caught:
        records.reader().read(numbers)
    assert caught.value.record == min(bad)
    check_names(caught.value, records, bad)
    with pytest.raises(BadRecordError):
        records.reader(max_bad_records=len(bad) - 1).read(numbers)
    reader = records.reader(max_bad_records=len(bad))
    for found, block in zip(reader.read(numbers), expected, strict=True):
        is_bad = np.isin(numbers, list(bad))
        assert np.array_equal(found[~is_bad], block[~is_bad])
    assert list(reader.bad_records) == list(bad)
    assert reader.failure is None


@pytest.mark.parametrize("damage", [payload_byte, *IN_DECODING])
def test_a_bad_record_stops_the_run_and_is_named(records, damage):
    bad = damage(records)
    reader = records.reader()
    with pytest.raises(BadRecordError) as caught, pipeline.naming_bad_records(reader):
        batches(reader)
    check_names(caught.value, records, bad)


@pytest.mark.parametrize("damages", [[undecodable_png], [*IN_READING, *IN_DECODING]])
def test_within_the_budget_only_the_slots_of_bad_records_change(records, undamaged, damages):
    bad = {number: why for damage in damages for number, why in damage(records).items()}
    reader = records.reader(max_bad_records=len(bad))
    found = batches(reader, EPOCH + 4)
    plan = order.plan(CONFIG, 160, 1)
    lost = 0
    for draw, (images, labels, weights) in enumerate(found):
        _, numbers = order.training_records(*order.micro_batch(draw, plan), plan, SEED)
        is_bad = np.isin(numbers, list(bad))
        lost += is_bad.sum() if draw < EPOCH else 0
        assert np.array_equal(weights, np.where(is_bad, 0, 1))
        for new, old in zip((images, labels), undamaged[draw], strict=False):
            assert np.array_equal(new[~is_bad], old[~is_bad])
            assert not new[is_bad].any()
    assert lost == len(bad)
    assert reader.bad_records.keys() == bad.keys()
    for number, error in reader.bad_records.items():
        assert error.record == number
        check_names(error, records, bad)


def test_a_budget_one_too_small_stops_the_run(records):
    bad = undecodable_png(records) | undecodable_jpeg(records) | payload_byte(records)
    reader = records.reader(max_bad_records=2)
    with pytest.raises(BadRecordError), pipeline.naming_bad_records(reader):
        batches(reader)
    assert reader.bad_records.keys() == bad.keys()


def test_a_record_that_turns_bad_is_counted_once(records):
    reader = records.reader(max_bad_records=1)
    plan = order.plan(CONFIG, 160, 1)
    iterator = pipeline.train(CONFIG, reader, plan, seed=SEED).as_numpy_iterator()
    lost = []
    for epoch in range(5):
        weights = [next(iterator)[2].sum() for _ in range(EPOCH)]
        lost.append(160 - sum(weights))
        if epoch == 1:
            payload_byte(records)
    assert lost[:2] == [0, 0]
    assert lost[3:] == [1, 1]  # what was read ahead decides about epoch 2
    assert list(reader.bad_records) == [70]


@pytest.mark.parametrize("damage", [truncated_shard, missing_shard])
def test_damaged_files_are_seen_before_training(records, damage):
    damage(records)
    with pytest.raises(InputError, match=r"shard .* (is missing|has \d+ bytes, the manifest says)"):
        Manifest.load(records.manifest.folder)


def test_errors_of_others_keep_their_name(records):
    with (
        pytest.raises(tf.errors.OpError, match="another"),
        pipeline.naming_bad_records(records.reader()),
    ):
        raise tf.errors.InternalError(None, None, "another")


def test_read_returns_what_was_asked_for(records):
    numbers = np.array([159, -1, 0, 70, 70, -1])
    images, _, labels, weights = records.reader().read(numbers)
    contents = [records.content(n) if n >= 0 else (BLANK, 0) for n in numbers]
    assert list(zip(images, labels, strict=True)) == contents
    assert weights.tolist() == [1, 0, 1, 1, 1, 0]
    assert (images.dtype, labels.dtype, weights.dtype) == (object, np.int32, np.float32)


def test_blank_is_one_black_pixel():
    assert np.array_equal(tf.io.decode_png(BLANK, channels=3), np.zeros((1, 1, 3)))


def test_a_short_read_goes_on(records, monkeypatch):
    numbers = np.arange(160)
    expected = records.reader().read(numbers)
    pread = os.pread
    monkeypatch.setattr(reader.os, "pread", lambda fd, n, at: pread(fd, min(n, 100), at))
    found = records.reader().read(numbers)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_neighbours_are_read_at_once(records):
    reader = records.reader()
    expected = [records.content(n) for n in range(160)]
    found = reader.read(np.arange(160))
    assert list(zip(found.images, found.labels, strict=True)) == expected
    shards = records.manifest.shards
    assert (reader.reads, reader.bytes_read) == (len(shards), sum(shard.bytes for shard in shards))
    numbers = np.array([7, 8, -1, 9, 3, 3, 159])
    found = reader.read(numbers)
    assert [found.images[i] for i in (0, 1, 3, 4, 5, 6)] == [
        expected[n][0] for n in numbers if n >= 0
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
    numbers = np.arange(160)
    expected = reader.read(numbers)
    stop = threading.Event()

    def close():
        while not stop.is_set():
            reader.close()

    closer = threading.Thread(target=close)
    closer.start()
    try:
        for _ in range(20):
            found = reader.read(numbers)  # raises for a bad record
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
    save(Manifest(folder, ("a", "b"), (1000, 1000), tuple(shards), 1))
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
for numbers in (np.arange(2000), np.arange(2000)[::-1]):
    labels = reader.read(numbers).labels
    assert (labels == numbers % 2).all()
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
