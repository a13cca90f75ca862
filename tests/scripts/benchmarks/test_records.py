"""The benchmarks' records are records: the reader reads back what was written."""

import io

import numpy as np
import pytest
from PIL import Image

from input.manifest import Manifest
from input.prepare.conversion import Conversion
from input.reader import Block, RecordReader
from scripts.benchmarks.records import CLASSES, SHARDS, write_records
from tests.conftest import encoded, picture

COUNT = 11
FILES = [encoded(picture(seed, 24, 32), "JPEG") for seed in range(COUNT)]


def read(manifest: Manifest) -> Block:
    """All records, each good."""
    block = RecordReader(manifest).read(np.arange(manifest.records))
    assert block.weights.tolist() == [1.0] * COUNT
    return block


def test_files_are_stored_as_they_are_with_labels_in_turn(tmp_path):
    written = write_records(tmp_path / "train", FILES)
    manifest = Manifest.load(tmp_path / "train")
    assert manifest == written
    assert (len(manifest.shards), len(manifest.classes)) == (SHARDS, CLASSES)
    block = read(manifest)
    found = zip(block.images.tolist(), block.labels.tolist(), strict=True)
    assert sorted(found) == sorted((file, i % CLASSES) for i, file in enumerate(FILES))


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_files_are_stored_converted(tmp_path, encoding):
    how = Conversion(encoding, short_side=12, quality=90, max_pixels=10**6)
    block = read(write_records(tmp_path / "train", FILES, how))
    for image, size in zip(block.images, block.sizes, strict=True):
        if encoding == "jpeg":
            assert Image.open(io.BytesIO(image)).size == (16, 12)
        else:
            assert (len(image), *size) == (12 * 16 * 3, 12, 16)
