"""Records on the disk, and every way to damage them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from input.errors import BadRecordError
from input.manifest import Manifest, load_index
from input.reader import RecordReader
from input.records import HEADER_BYTES, UnreadableError, encode, frame, parse, unframe
from tests.conftest import vouch


class Records:
    """A copy of the training records, to be damaged."""

    def __init__(self, folder: Path):
        self.manifest = Manifest.load(folder)
        self._index = load_index(self.manifest)

    def locate(self, index: int) -> tuple[Path, int, int]:
        shard, offset, length = (int(a[0]) for a in self._index.locate(np.array([index])))
        return self.manifest.folder / self.manifest.shards[shard].file, offset, length

    def content(self, index: int) -> tuple[bytes, int]:
        path, offset, length = self.locate(index)
        return parse(unframe(path.read_bytes()[offset : offset + length]))[:2]

    def write(self, index: int, at: int, new: bytes) -> None:
        """Overwrites bytes of a record, counted from its start."""
        path, offset, _ = self.locate(index)
        with path.open("r+b") as file:
            file.seek(offset + at)
            file.write(new)

    def flip(self, index: int, at: int) -> None:
        path, offset, _ = self.locate(index)
        self.write(index, at, bytes([path.read_bytes()[offset + at] ^ 0x10]))

    def replace(self, index: int, image: bytes, label: int) -> None:
        record = frame(encode(image, label))
        assert len(record) == self.locate(index)[2]
        self.write(index, 0, record)
        vouch(self.manifest.folder, index)

    def reader(self, max_bad_records: int = 0) -> RecordReader:
        manifest = Manifest.load(self.manifest.folder, verify_files=False)
        return RecordReader(manifest, max_bad_records)


@pytest.fixture
def records(data_dir, tmp_path) -> Records:
    return Records(shutil.copytree(data_dir / "train", tmp_path / "train"))


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


def another_record(records):
    """Sound, of the same length, and with a class that there is."""
    image, label = records.content(74)
    path, offset, length = records.locate(74)
    other = frame(encode(image, (label + 1) % 3))
    assert len(other) == length
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(other)
    return {74: "a sound record, but not the one that was indexed here"}


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
    index = next(n for n in range(70) if records.content(n)[0].startswith(b"\x89PNG"))
    image, label = records.content(index)
    records.replace(index, image[:40] + bytes(len(image) - 40), label)
    return {index: "the image cannot be decoded: Invalid PNG. Failed to initialize decoder"}


def undecodable_jpeg(records):
    index = next(n for n in range(70) if records.content(n)[0].startswith(b"\xff\xd8"))
    image, label = records.content(index)
    records.replace(index, image[:20] + bytes(len(image) - 20), label)
    return {index: f"the image cannot be decoded: Invalid JPEG data, size {len(image)}"}


IN_READING = [
    payload_byte,
    length_byte,
    no_image,
    label_out_of_range,
    another_record,
    truncated_shard,
    missing_shard,
]
IN_DECODING = [undecodable_png, undecodable_jpeg]


def check_names(error: BadRecordError, records: Records, bad: dict[int, str]):
    path, offset, _ = records.locate(error.record)
    assert (error.shard, error.offset) == (str(path), offset)
    assert error.reason == bad[error.record]
    unread = error.reason.startswith("the shard cannot be read")
    way_out = UnreadableError.way_out if unread else "Write the records again"
    source = records.manifest.source(error.record)
    assert source.startswith(records.manifest.folder.name)
    assert str(error) == (
        f"Bad record: shard {path}, record {error.record}, byte offset {offset}, made from "
        f"{source}: {error.reason}. {way_out}, or allow some with --max_bad_records."
    )
