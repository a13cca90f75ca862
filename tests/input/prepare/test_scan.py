"""Others' shards by any name, and what is said about records that surprise."""

from pathlib import Path

import numpy as np
import pytest

from input.errors import BadRecordError
from input.manifest import Manifest
from input.prepare.config import IndexConfig, WriteConfig
from input.prepare.index import index
from input.prepare.scan import find_shards, is_shard
from input.prepare.writer import write
from input.reader import RecordReader
from tests.conftest import encoded, error, picture
from tests.input.prepare.test_index import slim, tfds, write_shard

KEYS = {"image_key": "image", "label_key": "label"}


@pytest.mark.parametrize(
    "name",
    ["x.tfrecord", "x.TFRecord", "x.tfrecords", "x.tfrec", "x.record", "x-00000-of-00002", "x"],
)
def test_names_of_shards(tmp_path, name):
    write_shard(tmp_path / name, [tfds(0)])
    assert is_shard(tmp_path / name)


@pytest.mark.parametrize("name", ["README", "notes.txt", "x.tfrecord.idx", "x.tfrecord.sources"])
def test_other_files_are_no_shards(tmp_path, name):
    (tmp_path / name).write_bytes(b"Read me: this is a text of some length.")
    assert not is_shard(tmp_path / name)
    assert not is_shard(tmp_path)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.tfrec", "valid.tfrec"], ["train", "validation"]),
        (["flowers-Training.record", "flowers-dev.record"], ["train", "validation"]),
        (["TRAIN/00", "Testing/00"], ["train", "test"]),
        (["train01-192x192-798.tfrec", "val00.tfrec"], ["train", "validation"]),
    ],
)
def test_splits_by_usual_names(tmp_path, names, splits):
    for name in names:
        write_shard(tmp_path / name, [tfds(0)])
    assert sorted(find_shards(tmp_path, "")) == sorted(splits)


def test_the_folder_of_one_split(tmp_path):
    write_shard(tmp_path / "train" / "00.tfrecord", [tfds(0)])
    assert list(find_shards(tmp_path / "train", "")) == ["train"]


def test_an_empty_shard_is_passed_over_and_said(tmp_path, caplog):
    write_shard(tmp_path / "train-0.tfrecord", [tfds(0)])
    write_shard(tmp_path / "train-1.tfrecord", [])
    assert [path.name for path in find_shards(tmp_path, "")["train"]] == ["train-0.tfrecord"]
    assert "train-1.tfrecord is empty: passed over" in caplog.text
    (tmp_path / "train-0.tfrecord").unlink()
    assert "are empty" in error(find_shards, tmp_path, "")


def test_an_unlabelled_test_split_is_left_out_by_name(tmp_path):
    write_shard(tmp_path / "train.tfrecord", map(tfds, range(4)))
    write_shard(tmp_path / "test.tfrecord", [{**tfds(0), "label": -1}])
    message = error(index, IndexConfig(dir=str(tmp_path), **KEYS))
    assert "a test split without labels is left out with --splits=train,validation" in message
    assert list(index(IndexConfig(dir=str(tmp_path), splits="train", **KEYS))) == ["train"]


def test_bad_records_go_against_a_budget_and_are_indexed(tmp_path, caplog):
    examples = [tfds(i) if i != 2 else {**tfds(i), "image": b"no image"} for i in range(6)]
    write_shard(tmp_path / "train.tfrecord", examples)
    assert "record 2, byte offset" in error(index, IndexConfig(dir=str(tmp_path), **KEYS))
    index(IndexConfig(dir=str(tmp_path), max_bad_records=1, **KEYS))
    assert "training needs --max_bad_records=1" in caplog.text
    manifest = Manifest.load(tmp_path / "train")
    assert (manifest.records, sum(manifest.records_per_class)) == (6, 5)
    reader = RecordReader(manifest, max_bad_records=1)
    assert reader.read(np.arange(6)).weights.tolist() == [1, 1, 0, 1, 1, 1]
    with pytest.raises(BadRecordError):
        RecordReader(manifest).read(np.arange(6))


def test_gaps_between_labels_are_said(tmp_path, caplog):
    labels = (0, 3, 7, 900)
    write_shard(tmp_path / "train.tfrecord", [{**tfds(i), "label": labels[i]} for i in range(4)])
    write_shard(tmp_path / "val.tfrecord", [{**tfds(i), "label": labels[i]} for i in range(3)])
    index(IndexConfig(dir=str(tmp_path), **KEYS))
    assert "901 classes, and labels of 4 of them: 0, 3, 7, 900" in caplog.text
    assert "No record of 900 is in validation" in caplog.text


@pytest.mark.parametrize("name", ["label.labels.txt", "class_names.txt", "imagenet_NAMES.txt"])
def test_class_names_beside_the_shards(tmp_path, name):
    write_shard(tmp_path / "data" / "train.tfrecord", map(tfds, range(4)))
    (tmp_path / "data" / name).write_text("\ufeffant\n\nbee \r\ncow\n\n", encoding="utf-8")
    found = index(IndexConfig(dir=str(tmp_path), **KEYS))
    assert found["train"].classes == ("ant", "bee", "cow")


def test_a_wrong_key_lists_what_is_there(tmp_path):
    write_shard(tmp_path / "train.tfrecord", [slim(0)])
    message = error(index, IndexConfig(dir=str(tmp_path), image_key="image"))
    size = len(slim(0)["image/encoded"])
    assert f"image/encoded (bytes_list, 1 of {size} bytes)" in message
    assert "image/class/label (int64_list, 1)" in message


def test_raw_pixels_get_the_flags_that_would_fit(tmp_path):
    write_shard(tmp_path / "train.tfrecord", [{"image": bytes(28 * 28 * 3), "label": 0}])
    message = error(index, IndexConfig(dir=str(tmp_path), **KEYS))
    assert "--raw_dtype=uint8 --raw_shape=28,28,3" in message


def test_another_kind_of_image_names_the_command_that_takes_it(tmp_path):
    for split in ("train", "val"):
        examples = [{"image": encoded(picture(i), "WEBP"), "label": i % 2} for i in range(4)]
        write_shard(tmp_path / "records" / f"{split}.tfrecord", examples)
    config = IndexConfig(dir=str(tmp_path / "records"), **KEYS)
    assert "but WebP; samestep-records write takes it" in error(index, config)
    found = write(WriteConfig(images=f"{tmp_path}/records", out=f"{tmp_path}/out"))
    assert {split: each.records for split, each in found.items()} == {"train": 4, "validation": 4}


def test_is_not_a_folder(tmp_path):
    assert "is not a folder" in error(find_shards, Path(tmp_path, "x"), "")
