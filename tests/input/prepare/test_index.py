"""Records that TensorFlow programs wrote: indexed where they lie, read, and trained on."""

import gzip
import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input import order, pipeline
from input.config import ResolvedInput
from input.errors import BadRecordError, InputError
from input.manifest import Manifest
from input.prepare.config import IndexConfig, VerifyConfig
from input.prepare.index import index
from input.prepare.verify import verify
from input.reader import RecordReader
from tests.conftest import ROOT, encoded

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)


def png(pixels) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def feature(value) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def write_shard(path: Path, examples, compression="") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for example in examples:
            features = {name: feature(value) for name, value in example.items()}
            message = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(message.SerializeToString())


def slim(i):
    """As Model Garden and TF-slim write ImageNet: labels from 1."""
    return {
        "image/encoded": png(PIXELS[i]),
        "image/class/label": i % 3 + 1,
        "image/filename": f"{i}.png".encode(),
        "image/height": 8,
    }


def tfds(i):
    return {"image": png(PIXELS[i]), "label": i % 3, "id": i}


def raw(i):
    return {"image_raw": (PIXELS[i] / np.float32(7)).tobytes(), "label": i % 3}


KINDS = {
    "slim": (slim, "{split}-{i:05d}-of-00002", {"label_offset": -1}),
    "tfds": (
        tfds,
        "digits-{split}.tfrecord-{i:05d}-of-00002",
        {"image_key": "image", "label_key": "label"},
    ),
    "raw": (
        raw,
        "{split}/part{i}.tfrecord",
        {
            "image_key": "image_raw",
            "label_key": "label",
            "raw_dtype": "float32",
            "raw_shape": "8,8,3",
        },
    ),
}


def others(folder: Path, kind: str, compression="") -> dict:
    """24 records of others, 16 to train; returns the settings of index."""
    example, name, settings = KINDS[kind]
    for split, first, count in (("train", 0, 8), ("validation", 16, 4)):
        for i in range(2):
            indices = range(first + i * count, first + (i + 1) * count)
            path = folder / name.format(split=split, i=i)
            write_shard(path, map(example, indices), compression)
    return {"dir": str(folder), **settings}


@pytest.mark.parametrize("out", ["", "elsewhere/data"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_others_wrote_is_read_where_it_lies(tmp_path, kind, out):
    settings = others(tmp_path / "theirs", kind)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    target = tmp_path / out if out else tmp_path / "theirs"
    calls = []
    index(IndexConfig(**settings, out=str(target) if out else ""), lambda *at: calls.append(at))
    assert {path: path.read_bytes() for path in before} == before
    assert calls[-1][0] == calls[-1][1] == sum(map(len, before.values()))
    for split, indices in (("train", range(16)), ("validation", range(16, 24))):
        manifest = Manifest.load(target / split)
        assert manifest.classes == ("0", "1", "2")
        block = RecordReader(manifest).read(np.arange(manifest.records))
        assert block.labels.tolist() == [i % 3 for i in indices]
        assert block.weights.all()
        expected = [next(iter(KINDS[kind][0](i).values())) for i in indices]
        assert block.images.tolist() == expected
        text = (target / split / f"{Path(manifest.shards[0].file).name}.idx").read_text()
        assert text.splitlines()[0].split() == ["0", text.splitlines()[1].split()[0]]


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_reach_the_model_as_they_are(tmp_path, kind):
    """float32 as float32, images as uint8, every one of an evaluation once."""
    index(IndexConfig(**others(tmp_path, kind)))
    reader = RecordReader(Manifest.load(tmp_path / "validation"))
    config = ResolvedInput(global_batch_size=3, micro_batch_size=3, image_size=8)
    plan = order.EvaluationPlan(3, 1, reader.records)
    batches = list(pipeline.evaluate(config, reader, plan).take(plan.draws))
    images = np.concatenate([image for image, _, _ in batches])[:8]
    weights = np.concatenate([weight for _, _, weight in batches])
    expected = PIXELS[16:] / np.float32(7) if kind == "raw" else PIXELS[16:]
    assert images.dtype == expected.dtype
    np.testing.assert_array_equal(images, expected)
    assert weights.tolist() == [1] * 8 + [0]


def test_train_is_saved_last(tmp_path, monkeypatch):
    """Without its manifest nothing can be trained on."""
    saved = []
    monkeypatch.setattr("input.prepare.index.save", lambda manifest: saved.append(manifest.folder))
    index(IndexConfig(**others(tmp_path, "slim")))
    assert saved == [tmp_path / "validation", tmp_path / "train"]


def test_class_names_come_from_a_file(tmp_path):
    settings = others(tmp_path, "tfds")
    (tmp_path / "label.labels.txt").write_text("ant\nbee\ncow\nunused\n")
    assert index(IndexConfig(**settings))["train"].classes == ("ant", "bee", "cow", "unused")
    for split in ("train", "validation"):
        shutil.rmtree(tmp_path / split)
    (tmp_path / "names").write_text("ant\nbee\n")
    with pytest.raises(InputError, match=r"There are 2 class names, but in .* a label 2"):
        index(IndexConfig(**settings, classes=str(tmp_path / "names")))


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_compressed_shards_are_refused_with_a_command_that_helps(tmp_path, compression):
    settings = others(tmp_path / "theirs", "slim", compression)
    with pytest.raises(InputError, match=f"with {compression}") as refused:
        index(IndexConfig(**settings))
    shard = tmp_path / "theirs" / "train-00000-of-00002"
    plain = tmp_path / "plain"
    command = str(refused.value).partition(": ")[2].rpartition(f"{compression}")[2]
    command = command.partition(": ")[2].replace("PLAIN/", f"{plain}")
    subprocess.run(["bash", "-c", command], check=True)
    unpack = gzip.decompress if compression == "GZIP" else zlib.decompress
    (written,) = tmp_path.glob("plain*")
    assert written.read_bytes() == unpack(shard.read_bytes())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"label_offset": 0, "image_key": "nope"}, "record 0, byte offset 0: the Example has no"),
        ({"label_offset": -2}, "label -1 is below 0"),
        ({"label_key": "image/filename"}, "image/filename is bytes_list, not int64_list"),
        ({"image_key": "image/filename"}, "the image is neither JPEG nor PNG"),
        ({"raw_dtype": "uint8", "raw_shape": "8,8,3"}, "bytes, which is not 8 x 8 pixels of 3"),
    ],
)
def test_wrong_settings_name_the_first_record(tmp_path, settings, words):
    with pytest.raises(InputError, match=words) as refused:
        index(IndexConfig(**{**others(tmp_path, "slim"), **settings}))
    assert "train-00000-of-00002" in str(refused.value)
    assert not list(tmp_path.rglob("manifest.json"))


def test_damage_is_named(tmp_path):
    settings = others(tmp_path, "slim")
    path = tmp_path / "train-00001-of-00002"
    whole = path.read_bytes()
    for content, words in (
        (whole[:-5], "the file only"),
        (whole[:300] + b"x" + whole[301:], "checksum does not match"),
        (whole + b"12345", "5 bytes are too few for a record"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            index(IndexConfig(**settings))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "holds no TFRecords"),
        (["a.tfrecord"], r"Which split is .*a.tfrecord.* and has none"),
        (["train-validation.tfrecord"], "has train and validation"),
        (["some.tfrecord"], "Which split is"),
        (["a/train.tfrecord", "b/train.tfrecord"], "Two shards of train are called train.tfrecord"),
    ],
)
def test_files_whose_split_is_not_clear(tmp_path, names, words):
    for name in names:
        write_shard(tmp_path / name, [slim(0)])
    with pytest.raises(InputError, match=words):
        index(IndexConfig(dir=str(tmp_path), label_offset=-1))


def test_an_index_is_not_written_over(tmp_path):
    settings = others(tmp_path, "slim")
    index(IndexConfig(**settings))
    with pytest.raises(InputError, match="Remove it to index anew"):
        index(IndexConfig(**settings))


@pytest.mark.parametrize("label", [-(2**63), 10**6, 10**12, 2**63 - 1])
def test_a_label_that_no_class_can_have_is_named(tmp_path, label):
    examples = [{**tfds(i), "label": label if i == 2 else 0} for i in range(4)]
    write_shard(tmp_path / "train.tfrecord", examples)
    with pytest.raises(
        InputError, match=rf"train.tfrecord, record 2, byte offset \d+: label {label}"
    ):
        index(IndexConfig(dir=str(tmp_path), image_key="image", label_key="label"))


def unbound(folder: Path) -> None:
    """A data set as samestep 0.1 has indexed it: no checksums, and no digests."""
    for path in folder.rglob("*.crc32c"):
        path.unlink()
    for path in folder.rglob("manifest.json"):
        content = json.loads(path.read_text())
        del content["sha256"]
        for shard in content["shards"]:
            del shard["checksums"]
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("out", ["", "elsewhere/data"])
def test_checksums_are_added_to_what_is_indexed(tmp_path, out):
    settings = others(tmp_path / "theirs", "raw")
    settings["out"] = str(tmp_path / out) if out else ""
    expected = index(IndexConfig(**settings))
    folder = tmp_path / (out or "theirs")
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    unbound(folder)
    old = Manifest.load(folder / "train")
    assert not old.has_checksums
    assert old.fingerprint == expected["train"].fingerprint
    assert RecordReader(old).read(np.arange(16)).weights.all()
    calls = []
    # Without the settings that they were indexed with: the manifests have them.
    found = index(
        IndexConfig(dir=settings["dir"], out=settings["out"]), lambda *at: calls.append(at)
    )
    assert found == expected
    assert calls[-1][0] == calls[-1][1] > 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == content


def test_checksums_are_not_added_to_another_shard(tmp_path):
    settings = others(tmp_path, "raw")
    manifests = index(IndexConfig(**settings))
    unbound(tmp_path)
    a, b = (tmp_path / "train" / shard.file for shard in manifests["train"].shards)
    b.write_bytes(a.read_bytes())
    with pytest.raises(InputError, match=f"{b} is not what was indexed: its SHA-256 is another"):
        index(IndexConfig(**settings))
    assert not list((tmp_path / "train").glob("*.crc32c"))


def test_a_bad_raw_record_has_weight_0(tmp_path):
    settings = others(tmp_path, "raw")
    manifest = index(IndexConfig(**settings))["train"]
    path = manifest.folder / manifest.shards[0].file
    whole = bytearray(path.read_bytes())
    whole[100] ^= 1
    path.write_bytes(whole)
    with pytest.raises(BadRecordError, match="record 0, byte offset 0"):
        RecordReader(manifest).read(np.arange(4))
    config = ResolvedInput(global_batch_size=16, image_size=8, micro_batch_size=16)
    reader = RecordReader(manifest, max_bad_records=1)
    plan = order.EvaluationPlan(16, 1, reader.records)
    image, label, weight = next(iter(pipeline.evaluate(config, reader, plan)))
    assert weight.numpy().tolist() == [0] + [1] * 15
    assert not image[0].numpy().any()
    np.testing.assert_array_equal(image[1:], PIXELS[1:16] / np.float32(7))
    assert label.numpy().tolist() == [0] + [i % 3 for i in range(1, 16)]


def test_the_command_trains_what_it_indexed(tmp_path):
    """As a user would: index, train on float32 pixels, evaluate N/N, export, ask the export."""
    others(tmp_path / "theirs", "raw")

    def run(program, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", f"scripts.{program}", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    flags = ["--image_key=image_raw", "--label_key=label", "--raw_dtype=float32"]
    shown = run("records", "index", f"{tmp_path}/theirs", "--raw_shape=8,8,3", *flags)
    assert "train" in shown and "Next: samestep-train" in shown
    run_dir = f"--run_dir={tmp_path}/run"
    shown = run(
        *("train", f"--data_dir={tmp_path}/theirs", run_dir, "--epochs=2"),
        *("--global_batch_size=8", "--micro_batch_size=4", "--virtual_cpus=2"),
    )
    assert "on 8/8" in shown
    assert "on 8/8" in run("evaluate", run_dir)
    run("export", run_dir, f"--out={tmp_path}/export")
    serve = tf.saved_model.load(f"{tmp_path}/export")
    answer = serve(tf.constant(PIXELS / np.float32(7)))
    assert answer["probabilities"].shape == (24, 3)
    assert "nothing wrong" in run("records", "verify", f"{tmp_path}/theirs")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_pixels_that_are_no_numbers_are_bad_records(tmp_path, value):
    pixels = np.zeros((8, 8, 3), np.float32)
    pixels[3, 4, 1] = value
    examples = [raw(0), {"image_raw": pixels.tobytes(), "label": 1}]
    write_shard(tmp_path / "train.tfrecord", examples)
    settings = KINDS["raw"][2]
    manifest = index(IndexConfig(dir=str(tmp_path), max_bad_records=1, **settings))["train"]
    block = RecordReader(manifest, max_bad_records=1).read(np.arange(2))
    assert block.weights.tolist() == [1, 0]
    with pytest.raises(BadRecordError, match=r"record 1, .* a pixel is no number or infinite"):
        RecordReader(manifest).read(np.arange(2))
    (line,) = verify(VerifyConfig(dir=str(tmp_path))).problems["bad records"]
    assert "a pixel is no number or infinite" in line
