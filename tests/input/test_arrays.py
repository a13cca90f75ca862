"""Arrays in memory are read like records of the same pixels."""

import numpy as np
import pytest
from PIL import Image

from input import order, pipeline
from input.arrays import ArrayReader
from input.config import ResolvedInput
from input.manifest import Manifest, save
from input.reader import RecordReader
from input.records import encode, frame
from input.shard import Summary
from tests.conftest import encoded, error

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (30, 10, 14, 3), np.uint8)
LABELS = RANDOM.integers(0, 4, 30)
CONFIG = ResolvedInput(global_batch_size=8, micro_batch_size=4, image_size=12)


@pytest.fixture(scope="module")
def record_reader(tmp_path_factory) -> RecordReader:
    folder = tmp_path_factory.mktemp("train")
    content = []
    for pixels, label in zip(PIXELS, LABELS.tolist(), strict=True):
        content.append(frame(encode(encoded(Image.fromarray(pixels), "PNG"), label)))
    summary = Summary()
    for record in content:
        summary.add(record)
    (folder / "only.tfrecord").write_bytes(b"".join(content))
    save(
        Manifest(
            folder=folder,
            classes=("a", "b", "c", "d"),
            records_per_class=tuple(np.bincount(LABELS).tolist()),
            shards=(summary.save(folder, "only.tfrecord"),),
            image_size=None,
        )
    )
    return RecordReader(Manifest.load(folder))


def train(reader, count=10, config=CONFIG):
    plan = order.plan(config, reader.records, 1)
    return list(pipeline.train(config, reader, plan, seed=1).take(count).as_numpy_iterator())


def evaluate(reader, config=CONFIG):
    plan = order.EvaluationPlan(config.micro_batch_size, 1, reader.records)
    return list(pipeline.evaluate(config, reader, plan).take(plan.draws).as_numpy_iterator())


@pytest.mark.parametrize("read", [train, evaluate])
def test_the_same_pixels_as_records_give_the_same_bits(record_reader, read):
    from_records, from_arrays = read(record_reader), read(ArrayReader(PIXELS, LABELS))
    assert len(from_records) == len(from_arrays) > 7
    for expected, found in zip(from_records, from_arrays, strict=True):
        for a, b in zip(expected, found, strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)


def test_one_channel_is_three_equal_ones():
    grey = PIXELS[..., 0]
    indices = np.array([3, 29, -1])
    blocks = [
        ArrayReader(images, LABELS).read(indices)
        for images in (grey, grey[..., None], np.stack([grey] * 3, axis=-1))
    ]
    for images, *_ in blocks:
        assert np.array_equal(images, blocks[0].images)
        assert images.shape == (3, 10, 14, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_read_returns_what_was_asked_for(dtype):
    pixels = PIXELS.astype(dtype) - dtype(7)
    images, _, labels, weights = ArrayReader(pixels, LABELS).read(np.array([29, -1, 0, 0]))
    assert np.array_equal(images, [pixels[29], 0 * pixels[0], pixels[0], pixels[0]])
    assert labels.tolist() == [LABELS[29], 0, LABELS[0], LABELS[0]]
    assert weights.tolist() == [1, 0, 1, 1]
    assert (images.dtype, labels.dtype, weights.dtype) == (dtype, np.int32, np.float32)


def test_float32_passes_as_it_is():
    pixels = RANDOM.normal(0, 1e3, (30, 12, 12, 3)).astype(np.float32)
    config = ResolvedInput(global_batch_size=8, micro_batch_size=4, image_size=12, augment="none")
    reader = ArrayReader(pixels, np.arange(30))
    for read in (train, evaluate):
        for images, labels, weights in read(reader, config=config):
            assert images.dtype == np.float32
            assert np.array_equal(images, pixels[labels] * weights[:, None, None, None])


def test_classes_are_numbers_where_they_have_no_names():
    assert ArrayReader(PIXELS, LABELS).classes == ("0", "1", "2", "3")
    assert ArrayReader(PIXELS, LABELS, ["a", "b", "c", "d", "e"]).classes == tuple("abcde")
    assert ArrayReader(PIXELS.tolist()[:0] or PIXELS, LABELS.tolist()).records == 30


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (PIXELS.astype(int), LABELS, (), "Images must be uint8 or float32, not int64."),
        (PIXELS[..., :2], LABELS, (), "[n, h, w] or [n, h, w, 1 or 3], not [30, 10, 14, 2]."),
        (PIXELS[0, 0], LABELS, (), "[n, h, w] or [n, h, w, 1 or 3], not [14, 3]."),
        (PIXELS[:0], LABELS[:0], (), "[n, h, w] or [n, h, w, 1 or 3], not [0, 10, 14, 3]."),
        (PIXELS, LABELS[:9], (), "one integer per image, 30 in all, not int64[9]."),
        (PIXELS, LABELS[:, None], (), "labels.reshape(-1) flattens a column"),
        (PIXELS, np.eye(30), (), "labels.argmax(axis=1) undoes one-hot"),
        (PIXELS, LABELS * 1.0, (), "one integer per image, 30 in all, not float64[30]."),
        (PIXELS, LABELS - 1, (), "Labels go from -1 to 2, but there are 3 classes."),
        (PIXELS, LABELS, ("a", "b"), "Labels go from 0 to 3, but there are 2 classes."),
    ],
)
def test_what_cannot_be_read_is_an_error(images, labels, classes, message):
    assert message in error(ArrayReader, images, labels, classes)


def test_no_image_in_memory_is_rejected():
    assert error(ArrayReader(PIXELS, LABELS).reject, 7, "why") == "Image 7 in memory: why."


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(value):
    images = np.zeros((2, 4, 4), np.float32)
    images[1, 2, 3] = value
    assert "Some pixels are no numbers or infinite" in error(ArrayReader, images, np.arange(2))
