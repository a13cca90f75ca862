"""Held-back records: chosen by what they are, wherever they lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from input.manifest import Index, Manifest, load_index
from input.part import Part
from input.reader import RecordReader
from input.records import RecordError
from tests.conftest import error

CONTENTS = np.random.default_rng(0).integers(0, 2**32, 1000, np.uint32)


def index(checksums: np.ndarray | None) -> Index:
    n = 1000 if checksums is None else len(checksums)
    zeros = np.zeros(n, np.int64)
    return Index(zeros, zeros.astype(np.int32), checksums, np.zeros(1, np.int64))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_every_record_is_on_one_side(share):
    held_back, left = (Part(share, 7, side).of(index(CONTENTS)) for side in (True, False))
    assert len(held_back) == 1000 * share
    assert np.array_equal(np.sort(np.concatenate([held_back, left])), np.arange(1000))


def test_neither_order_nor_shards_have_a_part_in_it():
    order = np.random.default_rng(1).permutation(1000)
    part = Part(0.1, 7, held_back=True)
    held_back, moved = part.of(index(CONTENTS)), part.of(index(CONTENTS[order]))
    assert set(CONTENTS[held_back]) == set(CONTENTS[order][moved])
    other = replace(part, seed=8).of(index(CONTENTS))
    assert len(set(held_back) & set(other)) < 30  # 10 are expected


def test_the_same_record_twice_is_on_one_side():
    twice = np.tile(CONTENTS, 2)
    held_back = Part(0.1, 7, held_back=True).of(index(twice))
    assert len(held_back) == 200
    assert len(set(twice[held_back])) == 100


def test_what_cannot_be_held_back():
    part = Part(0.1, 7, held_back=True)
    assert "samestep-records index adds them" in error(part.of, index(None))
    assert "leaves none to validate on" in error(part.of, index(CONTENTS[:4]))


def test_a_reader_of_a_part_reads_those_records_and_names_them_by_their_own_number(data_dir):
    manifest = Manifest.load(Path(data_dir) / "train")
    part = Part(0.25, 0, held_back=True)
    numbers = part.of(load_index(manifest))
    whole, own = RecordReader(manifest), RecordReader(manifest, part=part)
    assert own.records == len(numbers) == round(manifest.records / 4)
    found, expected = own.read(np.arange(own.records)), whole.read(numbers)
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.labels, expected.labels)
    assert f"record {numbers[5]}," in error(own.reject, 5, RecordError("x"))
