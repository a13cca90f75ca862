"""Records are read all over a split; a bad one, wherever it is, is counted and named."""

import shutil

import numpy as np
import pytest

from input.manifest import Manifest
from input.reader import RecordReader
from tests.trainer.conftest import settings
from trainer.checks import reading


@pytest.fixture
def damaged(data_dir, tmp_path):
    """A copy with one wrong byte in each of two records of train, in different shards."""
    folder = tmp_path / "damaged"
    shutil.copytree(data_dir, folder)
    for number in (0, 2):
        shard = folder / "train" / f"train-{number:05d}.tfrecord"
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    return folder


def examine(config):
    """The findings, and what is returned."""
    found, checks = [], reading.examine(config)
    while True:
        try:
            found.append(next(checks))
        except StopIteration as end:
            return found, end.value


def test_sound_records_are_all_read(data_dir):
    (train, validation), rate = examine(settings(data_dir))
    assert (train.verdict, validation.verdict) == ("ok", "ok")
    assert train.found.startswith("160 records, 3 shards, 3 classes, ")
    assert "; read 160, " in train.found and train.found.endswith(" MB/s")
    assert rate > 0


def test_bad_records_are_wrong_and_the_first_is_named(damaged):
    (train, validation), _ = examine(settings(damaged))
    assert (train.verdict, validation.verdict) == ("wrong", "ok")
    assert train.found.startswith("2 of 160 records read are bad: Bad record: shard ")
    assert "train-00000.tfrecord" in train.found
    assert f"samestep-records verify --dir={damaged}/train lists all" in train.found


@pytest.mark.parametrize(("allowed", "verdict"), [(1, "wrong"), (2, "warning")])
def test_bad_records_that_are_allowed_are_a_warning(damaged, allowed, verdict):
    config = settings(damaged)
    object.__setattr__(config.input, "max_bad_records", allowed)
    (train, _), _ = examine(config)
    assert train.verdict == verdict


def test_each_split_that_is_not_there_is_wrong(data_dir, tmp_path):
    shutil.copytree(data_dir / "train", tmp_path / "train")
    (tmp_path / "train" / "train-00001.tfrecord").unlink()
    (train, validation), rate = examine(settings(tmp_path))
    assert (train.verdict, validation.verdict, rate) == ("wrong", "wrong", None)
    assert "train-00001.tfrecord" in train.found
    assert "no split validation" in validation.found


def test_of_many_records_some_of_every_shard_are_read(data_dir, monkeypatch):
    monkeypatch.setattr(reading, "MOST_RECORDS", 7)
    reader = RecordReader(Manifest.load(data_dir / "train"))
    asked = []
    monkeypatch.setattr(reader, "read", asked.append)
    assert reading.read(reader).records == 7
    numbers = np.sort(np.concatenate(asked))
    assert numbers.tolist() == [0, 26, 53, 79, 106, 132, 159]


def test_reading_ends_in_time(data_dir, monkeypatch):
    monkeypatch.setattr(reading, "SECONDS", 0.0)
    monkeypatch.setattr(reading, "BLOCK", 8)
    found = reading.read(RecordReader(Manifest.load(data_dir / "train")))
    assert found.records == reading.THREADS * 8
