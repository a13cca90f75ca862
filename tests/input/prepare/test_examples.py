"""TFRecords that cannot be used as they lie become records: labels and pixels of any kind."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.conftest import encoded
from tests.input.prepare.conftest import refused, values, written

PIXELS = np.broadcast_to(np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1), (12, 4, 5, 3))
NAMES = ("ant", "bee", "cow")


def feature(value) -> tf.train.Feature:
    value = value if isinstance(value, list) else [value]
    if isinstance(value[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    if isinstance(value[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=value))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=value))


def put(path, examples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            features = {name: feature(value) for name, value in example.items()}
            message = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(message.SerializeToString())
    return path.parent


def png(i: int) -> bytes:
    return encoded(Image.fromarray(PIXELS[i]), "PNG")


SIZE = {"height": 4, "width": 5, "depth": 3}


IMAGE_KINDS = {
    "a file": lambda i: {"image": png(i)},
    "raw bytes and their size": lambda i: {"image_raw": PIXELS[i].tobytes(), **SIZE},
    "floats in bytes": lambda i: {"image_raw": PIXELS[i].astype("<f4").tobytes(), **SIZE},
    "grey bytes": lambda i: {"image": PIXELS[i, ..., 0].tobytes(), "rows": 4, "cols": 5},
    "whole numbers": lambda i: {"pixels": PIXELS[i].ravel().tolist(), **SIZE},
    "floats": lambda i: {"pixels": PIXELS[i].ravel().astype(float).tolist(), **SIZE},
    "a serialized tensor": lambda i: {"image": tf.io.serialize_tensor(PIXELS[i]).numpy()},
    "a tensor of floats": lambda i: {
        "image": tf.io.serialize_tensor(PIXELS[i].astype(np.float32)).numpy()
    },
}
LABEL_KINDS = {
    "a number": lambda i: i % 3,
    "a text": lambda i: NAMES[i % 3].encode(),
    "one-hot": lambda i: [int(i % 3 == label) for label in range(3)],
    "one-hot floats": lambda i: [float(i % 3 == label) for label in range(3)],
    "a float": lambda i: float(i % 3),
}


@pytest.mark.parametrize("image", IMAGE_KINDS)
def test_images_of_any_kind(tmp_path, image):
    folder = put(
        tmp_path / "x" / "all.tfrecord",
        ({**IMAGE_KINDS[image](i), "label": i % 3} for i in range(12)),
    )
    manifest = written(folder, split="train:1")["train"]
    assert values(manifest) == {i: i % 3 for i in range(12)}


@pytest.mark.parametrize("label", LABEL_KINDS)
def test_labels_of_any_kind(tmp_path, label):
    examples = ({"image": png(i), "label": LABEL_KINDS[label](i)} for i in range(12))
    manifest = written(put(tmp_path / "x" / "all.tfrecord", examples), split="train:1")["train"]
    assert manifest.classes == (NAMES if label == "a text" else ("0", "1", "2"))
    assert values(manifest) == {i: i % 3 for i in range(12)}


def test_splits_and_names_of_classes(tmp_path):
    for split in ("training", "test"):
        put(
            tmp_path / "x" / f"{split}.tfrec",
            ({"image": png(i), "label": i % 3} for i in range(12)),
        )
    (tmp_path / "x" / "labels.txt").write_text("\n".join(NAMES))
    found = written(tmp_path / "x")
    assert list(found) == ["train", "test"]
    assert found["train"].classes == NAMES


def test_keys_that_are_given(tmp_path):
    examples = [{"photo": png(i), "kind": i % 3, "label": 0, "image": b"x"} for i in range(12)]
    folder = put(tmp_path / "x" / "all.tfrecord", examples)
    found = written(folder, image_key="photo", label_key="kind", split="train:1")["train"]
    assert values(found) == {i: i % 3 for i in range(12)}


def test_pixels_with_a_shape_that_is_given(tmp_path):
    examples = [{"x": PIXELS[i].tobytes(), "y": i % 3} for i in range(12)]
    folder = put(tmp_path / "x" / "all.tfrecord", examples)
    assert "--raw_shape says them" in refused(folder, split="train:1")
    found = written(folder, raw_shape="4,5,3", split="train:1")["train"]
    assert values(found) == {i: i % 3 for i in range(12)}


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ({"image": b"x"}, "--label_key is one of image; say which"),
        ({"label": [0, 1, 1], "image": b"x"}, "the label has 3 values that are not one-hot"),
        ({"label": 0.5, "image": b"x"}, "label 0.5 is no whole number"),
        ({"label": float("nan"), "image": b"x"}, "label nan is no whole number"),
        ({"label": b" ", "image": b"x"}, "the label is empty"),
        ({"label": -1, "image": b"x"}, "--splits=train,validation leaves a split out"),
        ({"label": b"cat", "image": b"x"}, "are numbers, and others text"),
        ({"label": 0, "picture": b"x"}, "--image_key is one of label, picture; say which"),
        ({"label": 0, "image": b"x" * 60, "height": 4, "width": 6}, "are not height, width"),
        ({"label": 0, "image": [0.5] * 60, **SIZE}, "no whole numbers from 0 to 255"),
        ({"label": 0, "image": [256] * 60, **SIZE}, "no whole numbers from 0 to 255"),
    ],
)
def test_what_is_no_image_with_a_label(tmp_path, example, words):
    examples = [{"image": png(i), "label": i % 2} for i in range(4)]
    folder = put(tmp_path / "x" / "all.tfrecord", [*examples, example])
    assert words in refused(folder, split="train:1")


def test_flags_of_tfrecords_are_refused_elsewhere(images, tmp_path):
    message = refused(Path(images), image_key="image")
    assert "--image_key is for TFRecords, and" in message
