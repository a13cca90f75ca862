"""What a write stores, refuses and leaves behind."""

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from input.errors import InputError
from input.foundation import durable
from input.manifest import Manifest
from input.prepare import writer
from input.prepare.config import WriteConfig
from input.prepare.writer import write
from input.reader import RecordReader
from input.records import RAW
from tests.conftest import ROOT, encoded, error, picture
from tests.input.prepare.conftest import BAD, content_of, put, stored


def refused(**options) -> str:
    return error(write, WriteConfig(**options))


def test_what_a_file_is_does_not_depend_on_its_suffix(tmp_path, out):
    contents = {"png.jpg": encoded(picture(), "PNG"), "jpeg.PNG": encoded(picture(), "JPEG")}
    for name, content in contents.items():
        for label in "ab":
            put(tmp_path / "images" / label / name, content)
    manifest = write(WriteConfig(images=f"{tmp_path}/images", out=str(out), split="train:1"))
    kept = [image for image, _ in stored(manifest["train"])]
    assert sorted(kept) == sorted([*contents.values()] * 2)


def test_raw_pixels_are_stored_with_their_size(tmp_path, out):
    for label, size in (("a", (7, 5)), ("b", (4, 9))):
        put(tmp_path / "images" / label / "x.png", encoded(picture().resize(size), "PNG"))
    config = WriteConfig(images=f"{tmp_path}/images", out=str(out), split="train:1", encoding="raw")
    manifest = write(config)["train"]
    assert manifest.schema == RAW
    block = RecordReader(manifest).read(np.arange(2))
    for pixels, (height, width), label in zip(*block[:3], strict=True):
        assert (width, height) == [(7, 5), (4, 9)][label]
        assert pixels == picture().resize((width, height)).tobytes()


def test_tensorflow_reads_the_shards(images, out):
    manifest = write(WriteConfig(images=images, out=str(out), shards=3))["train"]
    files = [str(manifest.folder / shard.file) for shard in manifest.shards]
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    records = tf.data.TFRecordDataset(files).map(
        lambda record: tf.io.parse_single_example(record, features)
    )
    read = [
        (each["image/encoded"], int(each["image/class/label"]))
        for each in records.as_numpy_iterator()
    ]
    assert read == stored(manifest)
    assert len(read) == 36


def test_labels_are_the_places_of_the_sorted_class_names(images, out):
    labels = {
        path.read_bytes(): ["cat", "dog", "eel"].index(path.parent.name)
        for path in Path(images).rglob("*.*")
    }
    assert len(labels) == 40
    manifests = write(WriteConfig(images=images, out=str(out)))
    for manifest in manifests.values():
        assert manifest.classes == ("cat", "dog", "eel")
        assert all(labels[image] == label for image, label in stored(manifest))
        counted = np.bincount([label for _, label in stored(manifest)])
        assert manifest.records_per_class == tuple(counted.tolist())


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([(8, 8), (8, 8)], 8), ([(8, 8), (9, 9)], None), ([(8, 9), (8, 9)], None)],
)
def test_image_size_is_the_one_square_size(tmp_path, out, sizes, expected):
    for name, size in zip("ab", sizes, strict=True):
        put(tmp_path / "images" / name / "x.png", encoded(picture().resize(size), "PNG"))
    manifests = write(WriteConfig(images=f"{tmp_path}/images", out=str(out), split="train:1"))
    assert manifests["train"].image_size == expected


# Order, shards, splits


def test_jobs_do_not_change_a_byte_and_the_seed_does(images, tmp_path):
    options = {"a": {"jobs": 1}, "b": {"jobs": 4}, "c": {"jobs": 4, "seed": 1}}
    a, b, c = (
        write(WriteConfig(images=images, out=str(tmp_path / name), shards=2, **more))
        for name, more in options.items()
    )
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")
    for split in ("train", "validation"):
        assert a[split].fingerprint == b[split].fingerprint != c[split].fingerprint
        assert sorted(stored(a[split])) != sorted(stored(c[split]))  # divided differently


def test_records_are_shuffled_over_shards(images, out, tmp_path):
    labels = [
        [label for _, label in stored(manifest["train"])]
        for manifest in (
            write(
                WriteConfig(
                    images=images, out=str(tmp_path / str(seed)), split="train:1", seed=seed
                )
            )
            for seed in range(2)
        )
    ]
    assert labels[0] != labels[1]
    for each in labels:
        assert sorted(each) == [0] * 20 + [1] * 12 + [2] * 8
        assert 0 < sum(each[:10]) < sum(each)
        changes = sum(a != b for a, b in pairwise(each))
        assert changes > 12  # about 25 in a random order; sorted by class it is 2


def test_number_of_shards(images, tmp_path, monkeypatch):
    def records(**options):
        manifest = write(WriteConfig(images=images, split="train:1", **options))["train"]
        assert sorted(path.name for path in manifest.folder.iterdir()) == sorted(
            ["manifest.json"]
            + [
                file
                for s in manifest.shards
                for file in (s.file, s.index_file, s.checksums_file, s.sources_file)
            ]
        )
        assert Manifest.load(manifest.folder) == manifest
        return [shard.records for shard in manifest.shards]

    assert records(out=str(tmp_path / "default")) == [40]
    assert records(out=str(tmp_path / "three"), shards=3) == [13, 13, 14]
    assert records(out=str(tmp_path / "many"), shards=99) == [1] * 40
    total = sum(path.stat().st_size for path in Path(images).rglob("*.*"))
    monkeypatch.setattr(writer, "SHARD_BYTES", -(-total // 5))
    assert records(out=str(tmp_path / "bytes")) == [8] * 5


def put_bad(images: str) -> None:
    for name, (content, _) in BAD.items():
        put(Path(images, "cat", name), content)
    Path(images, "cat", "nowhere.jpg").symlink_to("nothing")
    os.mkfifo(Path(images, "cat", "pipe.jpg"))


def test_bad_images_stop_the_write(images, out):
    put_bad(images)
    message = refused(images=images, out=str(out), max_bad_images=len(BAD) + 1)
    assert message.startswith(f"Bad images: {len(BAD) + 2}. Repair or remove them")
    for name, (_, reason) in BAD.items():
        line = next(line for line in message.splitlines() if name in line)
        assert line.startswith(f"  {images}/cat/{name}: ")
        assert reason in line
    assert f"{images}/cat/nowhere.jpg: neither a file nor a link to one" in message
    assert f"{images}/cat/pipe.jpg: neither a file nor a link to one" in message
    assert f"--max_bad_images={len(BAD) + 2}" in message
    assert not out.exists()
    assert not list(out.parent.glob("out*"))


def test_bad_images_within_the_budget_are_logged_and_left_out(images, out, tmp_path, caplog):
    good = {path.read_bytes() for path in Path(images).rglob("*.*")}
    put_bad(images)
    config = WriteConfig(images=images, out=str(out), max_bad_images=len(BAD) + 2, shards=9)
    manifests = write(config)
    parts = [image for each in manifests.values() for image, _ in stored(each)]
    assert len(parts) == len(good)
    assert set(parts) == good
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == len(BAD) + 2
    assert f"Left out {images}/cat/empty.jpg: empty" in logged


def test_at_most_20_bad_images_are_listed(images, out):
    for number in range(25):
        put(Path(images, "cat", f"bad{number}.jpg"), b"")
    message = refused(images=images, out=str(out))
    assert message.startswith("Bad images: 25. ")
    assert message.count(": empty") == 20
    assert "and 5 more" in message


@pytest.mark.parametrize("seed", range(5))  # some with a bad image in the last shard
def test_a_shard_of_bad_images_is_left_away(tmp_path, out, seed):
    for name in ("a/1", "a/2", "a/3", "b/1"):
        put(tmp_path / "images" / f"{name}.png", encoded(picture(ord(name[-1])), "PNG"))
        put(tmp_path / "images" / f"{name}-bad.png", b"")
    manifest = write(
        WriteConfig(
            images=f"{tmp_path}/images",
            out=str(out),
            split="train:1",
            shards=8,
            max_bad_images=4,
            seed=seed,
        )
    )["train"]
    assert [shard.file for shard in manifest.shards] == [
        f"train-0000{i}.tfrecord" for i in range(4)
    ]
    assert Manifest.load(out / "train") == manifest
    assert len(list((out / "train").iterdir())) == 4 * 4 + 1


def test_a_class_of_bad_images_stops_the_write(images, out):
    for number in range(2):
        put(Path(images, "fox", f"{number}.jpg"), b"")
    message = refused(images=images, out=str(out), max_bad_images=2)
    assert "Every image of class fox in train is bad" in message
    assert content_of(out) == {}


def test_images_with_too_many_pixels_are_bad(images, out):
    put(Path(images, "cat", "huge.png"), encoded(picture(0, 90, 100), "PNG"))
    message = refused(images=images, out=str(out), max_pixels=8999)
    assert message.startswith("Bad images: 1. ")
    assert f"{images}/cat/huge.png: 100 x 90 pixels are more than --max_pixels=8999" in message


# Everything or nothing


def test_an_existing_split_is_not_touched(images, out):
    write(WriteConfig(images=images, out=str(out)))
    before = content_of(out)
    assert f"{out}/train exists. Remove it or choose another --out." in refused(
        images=images, out=str(out), split="train:1"
    )
    assert "exists" in refused(images=images, out=str(out), seed=3)
    assert content_of(out) == before


def test_progress_counts_every_image(images, out):
    calls = []
    write(WriteConfig(images=images, out=str(out)), lambda done, total: calls.append((done, total)))
    assert calls == [(done, 40) for done in range(1, 41)]


@pytest.mark.parametrize("done", [1, 20, 39, 40])
def test_an_interrupt_leaves_nothing(images, out, done):
    def interrupt(now, total):
        if now == done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(WriteConfig(images=images, out=str(out)), interrupt)
    assert not list(out.parent.glob("out*"))


def test_a_full_disk_leaves_nothing(images, out, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    out.mkdir()
    monkeypatch.setattr(os, "fsync", full)
    message = refused(images=images, out=str(out))
    assert f"Writing to {out} failed: [Errno 28] No space left on device." in message
    assert list(out.parent.glob("out*")) == [out]
    assert list(out.iterdir()) == []


def test_whenever_the_disk_fills_up_all_splits_are_whole_or_none_is_there(
    images, tmp_path, monkeypatch
):
    fsync, left = os.fsync, 0

    def fills_up(descriptor):
        nonlocal left
        if left == 0:
            raise OSError(28, "No space left on device")
        left -= 1
        fsync(descriptor)

    def write_with(capacity: int) -> Path:
        nonlocal left
        out, left = tmp_path / str(capacity), capacity
        write(WriteConfig(images=images, out=str(out)))
        return out

    monkeypatch.setattr(os, "fsync", fills_up)
    capacity, whole = 0, None
    while whole is None:
        try:
            whole = write_with(capacity)
        except InputError as error:
            out = tmp_path / str(capacity)
            assert f"Writing to {out} failed: [Errno 28]" in str(error)
            assert not list(tmp_path.glob("*.incomplete"))
            if out.exists():
                splits = [out / "train", out / "validation"]
                assert [Manifest.load(split).records for split in splits] == [36, 4]
            capacity += 1
    assert capacity > 10
    assert {path.name for path in whole.iterdir()} == {"train", "validation"}


def test_an_out_that_cannot_be_a_folder(images, tmp_path):
    file = put(tmp_path / "file", b"")
    assert f"--out={file} is not a folder." in refused(images=images, out=str(file))
    below = file / "below"
    assert f"Writing to {below} failed: " in refused(images=images, out=str(below))


def test_a_split_is_added_to_others_only_alone(images, out):
    write(WriteConfig(images=images, out=str(out), split="train:1"))
    before = content_of(out)
    message = refused(images=images, out=str(out), split="validation:.5,test:.5")
    assert f"--out={out} is there already, and validation and test become" in message
    assert content_of(out) == before
    write(WriteConfig(images=images, out=str(out), split="test:1"))
    assert {path.name for path in out.iterdir()} == {"train", "test"}
    assert content_of(out).items() > before.items()
    assert f"{out / 'test'} exists" in refused(images=images, out=str(out), split="test:1")


HELD_WRITE = """
import sys
from input.prepare.config import WriteConfig
from input.prepare.writer import write

def progress(done, total):
    if done == int(sys.argv[3]):
        print("there", flush=True)
        sys.stdin.read()  # until killed

write(WriteConfig(images=sys.argv[1], out=sys.argv[2], shards=3, jobs=2), progress)
"""


@pytest.mark.parametrize("done", [30, 38])  # in train, and in validation when train is complete
def test_a_killed_write_leaves_nothing_finished_and_a_rerun_is_the_same(
    images, out, tmp_path, done
):
    command = [sys.executable, "-c", HELD_WRITE, images, str(out), str(done)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "there\n"
        assert "Another samestep-records write is writing to" in refused(
            images=images, out=str(out)
        )
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert (durable.incomplete(out) / "train").is_dir()  # it was in the middle
    assert not out.exists()
    with pytest.raises(InputError, match="samestep-records write"):
        Manifest.load(out / "train")
    for folder in (out, tmp_path / "undisturbed"):
        write(WriteConfig(images=images, out=str(folder), shards=3))
        assert {path.name for path in folder.iterdir()} == {"train", "validation"}
    assert content_of(out) == content_of(tmp_path / "undisturbed")
    assert len(content_of(out)) == 2 * (4 * 3 + 1)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "out", "undisturbed"}
